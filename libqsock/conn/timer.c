/* All deadlines of a connection in one place: recovery, acknowledgements,
 * handshake, idle, keepalive, closing, key discard, pacing. RFC 9000 10.1,
 * RFC 9002 6.2 */
#include "conn/conn_int.h"

#include <bsd/string.h>

#define IDLE_MAX_MS (UINT64_C(1) << 50)	/* 35,000 years; the peer may say more than fits in microseconds */

/* The smaller of both sides' idle timeouts, at least 3 PTO; 0: none. RFC 9000 10.1 */
static uint64_t idle_timeout(const struct conn *c)
{
	uint64_t ours = c->cfg->idle_timeout_us;
	uint64_t peers_ms = c->have_peer_params ? c->peer.max_idle_timeout_ms : 0;
	uint64_t peers = (peers_ms < IDLE_MAX_MS ? peers_ms : IDLE_MAX_MS) * 1000;
	uint64_t t = ours && peers ? (ours < peers ? ours : peers) : ours ? ours : peers;
	uint64_t floor = 3 * conn_pto(c);
	return t && t < floor ? floor : t;
}

/* Without a keepalive period the timer still runs, for senders that are stopped by
 * flow control: they repeat BLOCKED, lest a slow reader let the connection idle out.
 * RFC 9000 4.1, 10.1.2 */
static void arm_keepalive(struct conn *c, uint64_t now_us)
{
	uint64_t idle = idle_timeout(c), period = c->cfg->keepalive_us;
	if (!c->established || (!period && !idle))
		return;
	if (!period)
		period = idle / 3;
	if (idle && period > idle / 2)
		period = idle / 2;
	c->keepalive_deadline_us = now_us + period;
}

static void arm_idle(struct conn *c, uint64_t now_us)
{
	uint64_t t = idle_timeout(c);
	c->idle_deadline_us = t ? now_us + t : CONN_NEVER;
	arm_keepalive(c, now_us);
}

void timer_on_received(struct conn *c, uint64_t now_us)
{
	c->idle_armed_by_tx = false;
	c->doubt_deadline_us = CONN_NEVER;
	arm_idle(c, now_us);
}

void timer_on_sent_eliciting(struct conn *c, uint64_t now_us)
{
	if (c->idle_armed_by_tx)
		return;
	c->idle_armed_by_tx = true;
	arm_idle(c, now_us);
}

void timer_start_handshake(struct conn *c, uint64_t now_us)
{
	c->hs_deadline_us = c->cfg->handshake_timeout_us ? now_us + c->cfg->handshake_timeout_us : CONN_NEVER;
	c->keepalive_deadline_us = c->close_deadline_us = c->doubt_deadline_us = CONN_NEVER;
	arm_idle(c, now_us);
}

static uint64_t min_u64(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* Of the ACKs that could be sent: time alone does not help the others. */
static uint64_t ack_deadline(const struct conn *c)
{
	static const enum level levels[SPACE_COUNT] = { LEVEL_INITIAL, LEVEL_HANDSHAKE, LEVEL_APP };
	uint64_t t = CONN_NEVER;
	for (int s = 0; s < SPACE_COUNT; s++)
		if (pktkey_ready(&c->keys.tx[levels[s]]) && !conn_amplify_blocked(c))
			t = min_u64(t, ackq_deadline(&c->ackq[s]));
	return t;
}

uint64_t conn_deadline(const struct conn *c, uint64_t now_us)
{
	if (c->state == CONN_DRAINED)
		return CONN_NEVER;
	if (c->state != CONN_ACTIVE)
		return c->close_deadline_us;
	uint64_t t = min_u64(recovery_deadline(&c->rec), c->idle_deadline_us);
	t = min_u64(t, c->hs_deadline_us);
	t = min_u64(t, c->doubt_deadline_us);
	t = min_u64(t, c->keepalive_deadline_us);
	t = min_u64(t, keyring_deadline(&c->keys));
	t = min_u64(t, ack_deadline(c));
	t = min_u64(t, path_deadline(c));
	if (c->pacer_blocked)
		t = min_u64(t, recovery_pacer_deadline(&c->rec, now_us));
	return t;
}

static void time_out(struct conn *c, enum conn_error_kind kind, const char *reason)
{
	struct conn_error err = { .kind = kind };
	strlcpy(err.reason, reason, sizeof(err.reason));
	close_silently(c, &err);
}

/* Our idle timeout is later as a rule, and to leave before it is to say so. RFC 9000 10.1 */
static void handshake_timeout(struct conn *c, uint64_t now_us)
{
	struct conn_error err = { .kind = CONN_ERR_HANDSHAKE_TIMEOUT };
	strlcpy(err.reason, "no answer, or too slow", sizeof(err.reason));
	close_begin(c, &err, now_us);
}

/* So many datagrams, with what waits in other spaces too: the peer may only have keys for these. RFC 9002 6.2.4 */
void timer_want_probes(struct conn *c, enum pn_space space, unsigned n)
{
	for (int s = 0; s < SPACE_COUNT; s++)
		if ((s == (int)space || c->rec.space[s].eliciting_in_flight) && c->probes[s] < n)
			c->probes[s] = n;
}

static void recovery_timeout(struct conn *c, uint64_t now_us)
{
	struct recovery_env env = conn_env(c);
	struct ack_result res;
	enum pn_space space;
	switch (recovery_on_timeout(&c->rec, &env, now_us, &space, &res)) {
	case RECOVERY_LOSS:
		retx_lost(c, &res.lost);
		break;
	case RECOVERY_PTO:
		timer_want_probes(c, space, CONN_PROBES);
		break;
	case RECOVERY_NONE:
		break;
	}
	sent_free_list(&c->rec.pool, &res.acked);
	sent_free_list(&c->rec.pool, &res.lost);
}

void conn_on_timeout(struct conn *c, uint64_t now_us)
{
	if (c->state == CONN_DRAINED)
		return;
	if (c->state != CONN_ACTIVE) {
		if (now_us >= c->close_deadline_us)
			close_silently(c, &c->error);
		return;
	}
	if (now_us >= c->hs_deadline_us) {
		handshake_timeout(c, now_us);
		return;
	}
	if (now_us >= c->doubt_deadline_us) {
		time_out(c, CONN_ERR_UNREACHABLE, "the network reports that nobody is there any more");
		return;
	}
	if (now_us >= c->idle_deadline_us) {
		time_out(c, c->established ? CONN_ERR_IDLE : CONN_ERR_HANDSHAKE_TIMEOUT,
			 c->established ? "nothing was received for the idle timeout" : "the peer does not answer");
		return;
	}
	if (now_us >= c->keepalive_deadline_us) {
		c->want_ping |= c->cfg->keepalive_us != 0;
		streams_repeat_blocked(&c->streams);
		c->keepalive_deadline_us = CONN_NEVER;
		arm_keepalive(c, now_us);
	}
	keyring_on_time(&c->keys, now_us);
	path_on_time(c, now_us);
	if (c->state == CONN_ACTIVE && now_us >= recovery_deadline(&c->rec))
		recovery_timeout(c, now_us);
}
