/* Path validation by PATH_CHALLENGE: what we owe the peer and what we wait for.
 * Does not know addresses, packets or how large the datagram around it is. */
#include "path/challenge.h"

#include <string.h>

void challenge_init(struct challenge *c)
{
	*c = (struct challenge){ 0 };
}

void challenge_on_received(struct challenge *c, const uint8_t data[8])
{
	if (c->nowed == CHALLENGE_QUEUE)
		return;
	memcpy(c->owed[c->nowed++], data, 8);
}

bool challenge_next_response(struct challenge *c, uint8_t data[8])
{
	if (!c->nowed)
		return false;
	memcpy(data, c->owed[0], 8);
	c->nowed--;
	memmove(c->owed[0], c->owed[1], c->nowed * sizeof(c->owed[0]));
	return true;
}

void challenge_start(struct challenge *c, const struct rng *rng, uint64_t now_us, uint64_t pto_us)
{
	rng_fill(rng, c->ours, sizeof(c->ours));
	c->nearlier = 0;
	c->pending = c->want_send = true;
	c->deadline_us = now_us + 3 * pto_us;	/* RFC 9000 8.2.4 */
}

bool challenge_on_response(struct challenge *c, const uint8_t data[8])
{
	if (!c->pending)
		return false;
	bool hit = !memcmp(c->ours, data, 8);
	for (unsigned i = 0; i < c->nearlier; i++)
		hit |= !memcmp(c->earlier[i], data, 8);
	if (hit)
		c->pending = c->want_send = false;
	return hit;
}

void challenge_on_lost(struct challenge *c, const struct rng *rng)
{
	if (!c->pending || c->want_send)
		return;
	unsigned keep = c->nearlier < CHALLENGE_EARLIER ? c->nearlier : CHALLENGE_EARLIER - 1;
	memmove(c->earlier[1], c->earlier[0], keep * sizeof(c->earlier[0]));
	memcpy(c->earlier[0], c->ours, 8);
	c->nearlier = keep + 1;
	rng_fill(rng, c->ours, sizeof(c->ours));
	c->want_send = true;
}

bool challenge_on_time(struct challenge *c, uint64_t now_us)
{
	if (!c->pending || now_us < c->deadline_us)
		return false;
	c->pending = c->want_send = false;
	return true;
}
