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

void challenge_start(struct challenge *c, const struct rng *rng, uint64_t now_us, uint64_t interval_us,
		     uint64_t give_up_us)
{
	rng_fill(rng, c->ours, sizeof(c->ours));
	c->nearlier = 0;
	c->pending = c->want_send = true;
	c->interval_us = interval_us;
	c->again_us = now_us + interval_us;
	c->deadline_us = now_us + give_up_us;
}

void challenge_stop(struct challenge *c)
{
	c->pending = c->want_send = false;
}

bool challenge_on_response(struct challenge *c, const uint8_t data[8])
{
	if (!c->pending)
		return false;
	bool hit = !memcmp(c->ours, data, 8);
	for (unsigned i = 0; i < c->nearlier; i++)
		hit |= !memcmp(c->earlier[i], data, 8);
	if (hit)
		challenge_stop(c);
	return hit;
}

static void renew(struct challenge *c, const struct rng *rng)
{
	unsigned keep = c->nearlier < CHALLENGE_EARLIER ? c->nearlier : CHALLENGE_EARLIER - 1;
	memmove(c->earlier[1], c->earlier[0], keep * sizeof(c->earlier[0]));
	memcpy(c->earlier[0], c->ours, 8);
	c->nearlier = keep + 1;
	rng_fill(rng, c->ours, sizeof(c->ours));
	c->want_send = true;
}

uint64_t challenge_deadline(const struct challenge *c)
{
	if (!c->pending)
		return UINT64_MAX;
	return c->want_send || c->again_us > c->deadline_us ? c->deadline_us : c->again_us;
}

bool challenge_on_time(struct challenge *c, const struct rng *rng, uint64_t now_us)
{
	if (now_us < challenge_deadline(c))
		return false;
	if (now_us >= c->deadline_us) {
		challenge_stop(c);
		return true;
	}
	c->interval_us *= 2;
	c->again_us = now_us + c->interval_us;
	renew(c, rng);
	return false;
}
