/* The peer's address changes without anybody's intention: a NAT on the way has given the client another port or
 * address. The server follows the highest packet number there, sends three times at most what it gets until a
 * challenge has shown that the client is there, asks at the former address whether that was no forgery, and goes
 * back if nobody answers at the new one. RFC 9000 9.3
 *
 * Not here: migration on purpose, which we forbid (disable_active_migration) and which shows in another CID. */
#include "conn/conn_int.h"

#include <bsd/string.h>

/* Knows only frames that a probing packet may have. RFC 9000 9.1 */
static bool is_probing(const uint8_t *payload, size_t len)
{
	struct rd r = rd_of(payload, len);
	struct frame f;
	while (rd_left(&r)) {
		if (frame_decode(&r, LEVEL_APP, &f))
			return false;
		if (f.kind != FRAME_PADDING && f.kind != FRAME_PATH_CHALLENGE && f.kind != FRAME_PATH_RESPONSE &&
		    f.kind != FRAME_NEW_CONNECTION_ID)
			return false;
	}
	return true;
}

static bool same_host(const struct addr *a, const struct addr *b)
{
	struct addr x = *a;
	if (x.sa.sa_family == AF_INET6)
		x.in6.sin6_port = b->in6.sin6_port;
	else
		x.in4.sin_port = b->in4.sin_port;
	return addr_equal(&x, b);
}

/* Of a path of which nothing is known yet it has to be the initial one. RFC 9000 8.2.4 */
static void challenge_path(struct conn *c, struct challenge *ch, uint64_t now_us)
{
	struct rtt unknown;
	rtt_init(&unknown);
	uint64_t pto_us = conn_pto(c), first_us = rtt_pto_us(&unknown, 0);
	uint64_t most_us = pto_us > first_us ? pto_us : first_us;
	challenge_start(ch, c->rng, now_us, c->moved_far ? most_us : pto_us, 3 * most_us);
}

static void restart_timer(struct conn *c, uint64_t now_us)
{
	struct recovery_env env = conn_env(c);
	recovery_set_timer(&c->rec, &env, now_us);
}

static void forget_former(struct conn *c)
{
	c->former.known = false;
	challenge_init(&c->former.challenge);
}

/* It was validated, so nothing has to be shown again. RFC 9000 9.3, 9.3.2 */
static void return_to_former(struct conn *c, uint64_t now_us)
{
	c->remote = c->former.remote;
	c->amplify.validated = true;
	c->moved_far = c->small_challenge = false;
	c->challenge = c->former.challenge;	/* with the responses owed there */
	challenge_stop(&c->challenge);
	forget_former(c);
	restart_timer(c, now_us);
}

static void move_to(struct conn *c, const struct arrival *a)
{
	c->moved_far |= !same_host(a->remote, &c->remote);
	c->moved_at_us = a->now_us;
	/* An address that was not validated yet is no place to return to. */
	if (c->amplify.validated) {
		c->former.known = true;
		c->former.remote = c->remote;
		c->former.challenge = c->challenge;
		challenge_path(c, &c->former.challenge, a->now_us);
	}
	c->remote = *a->remote;
	c->small_challenge = false;
	amplify_init(&c->amplify, false);
	c->amplify.received = a->len;
	challenge_init(&c->challenge);
	challenge_path(c, &c->challenge, a->now_us);
}

/* Packets overtaken by newer ones do not move the connection, nor do those that only ask. From strangers neither is
 * taken: where there was no packet that may move us, nothing may be sent either. */
bool path_admit(struct conn *c, const struct arrival *a, const struct packet *p, uint64_t pn, const uint8_t *payload,
		size_t len, bool *former)
{
	const struct ackq *q = &c->ackq[SPACE_APP];
	bool back = c->former.known && addr_equal(a->remote, &c->former.remote);
	*former = back;
	if (p->type != PACKET_1RTT)
		return false;
	if ((q->largest != PN_NONE && pn < q->largest) || is_probing(payload, len))
		return back;
	/* Another ID: not by a NAT. And each move costs two datagrams, so they are rationed. */
	if ((!back && !cid_equal(&p->dcid, &c->used_cid)) || !bucket_take(&c->noise, a->now_us))
		return back;
	*former = false;
	if (back && !c->amplify.validated)
		return_to_former(c, a->now_us);
	else
		move_to(c, a);
	return true;
}

static void on_validated(struct conn *c, uint64_t now_us)
{
	c->amplify.validated = true;
	c->want_new_token = true;	/* RFC 9000 9.3 */
	struct recovery_env env = conn_env(c);
	if (c->moved_far)
		recovery_new_path(&c->rec, &env, c->moved_at_us, now_us);
	else
		recovery_set_timer(&c->rec, &env, now_us);
	c->moved_far = false;
	if (c->small_challenge)	/* RFC 9000 8.2.3 */
		challenge_path(c, &c->challenge, now_us);
	c->small_challenge = false;
}

void path_on_response(struct conn *c, const uint8_t data[8], uint64_t now_us)
{
	if (challenge_on_response(&c->challenge, data))
		on_validated(c, now_us);
	else
		challenge_on_response(&c->former.challenge, data);
	if (!c->challenge.pending && !c->former.challenge.pending)
		forget_former(c);
}

uint64_t path_deadline(const struct conn *c)
{
	uint64_t a = challenge_deadline(&c->challenge), b = challenge_deadline(&c->former.challenge);
	return a < b ? a : b;
}

void path_on_time(struct conn *c, uint64_t now_us)
{
	bool failed = challenge_on_time(&c->challenge, c->rng, now_us);
	challenge_on_time(&c->former.challenge, c->rng, now_us);
	if (failed && c->former.known) {
		return_to_former(c, now_us);
	} else if (failed) {	/* RFC 9000 9.3.2 */
		struct conn_error err = { .kind = CONN_ERR_UNREACHABLE };
		strlcpy(err.reason, "nobody answers at the address to which the peer has moved", sizeof(err.reason));
		close_silently(c, &err);
	} else if (!c->challenge.pending && !c->former.challenge.pending) {
		forget_former(c);
	}
}
