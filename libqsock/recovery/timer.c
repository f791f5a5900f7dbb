/* The one timer of loss detection: time threshold first, else probe timeout.
 * Decides when and in which space, not what a probe carries. RFC 9002 6.2, A.8, A.9 */
#include "recovery/recovery_int.h"

#define BACKOFF_MAX 20	/* doublings; the idle timeout ends it long before */

bool recovery_peer_validated(const struct recovery *r, const struct recovery_env *env)
{
	return env->is_server || env->peer_validated || env->handshake_confirmed ||
	       r->space[SPACE_HANDSHAKE].largest_acked != PN_NONE;
}

static uint64_t earliest_loss(const struct recovery *r, enum pn_space *space)
{
	uint64_t at = UINT64_MAX;
	for (unsigned i = 0; i < SPACE_COUNT; i++) {
		if (r->space[i].loss_time_us >= at)
			continue;
		at = r->space[i].loss_time_us;
		*space = (enum pn_space)i;
	}
	return at;
}

static uint64_t backed_off(const struct recovery *r, uint64_t us)
{
	return us << (r->pto_count < BACKOFF_MAX ? r->pto_count : BACKOFF_MAX);
}

/* UINT64_MAX: nothing to probe for. */
static uint64_t earliest_pto(const struct recovery *r, const struct recovery_env *env, uint64_t now_us,
			     enum pn_space *space)
{
	uint64_t at = UINT64_MAX;
	for (unsigned i = 0; i < SPACE_COUNT; i++) {
		const struct recovery_space *sp = &r->space[i];
		/* The peer may not be able to read or acknowledge 1-RTT before. RFC 9002 6.2.1 */
		if (!sp->eliciting_in_flight || (i == SPACE_APP && !env->handshake_confirmed))
			continue;
		uint64_t period = rtt_pto_us(&r->rtt, i == SPACE_APP ? env->max_ack_delay_us : 0);
		uint64_t t = sp->last_eliciting_at_us + backed_off(r, period);
		if (t >= at)
			continue;
		at = t;
		*space = (enum pn_space)i;
	}
	if (at != UINT64_MAX || recovery_peer_validated(r, env))
		return at;
	/* The server may be waiting for more bytes of ours before it may send: never let go. RFC 9002 6.2.2.1 */
	*space = env->has_handshake_keys ? SPACE_HANDSHAKE : SPACE_INITIAL;
	return now_us + backed_off(r, rtt_pto_us(&r->rtt, 0));
}

void recovery_set_timer(struct recovery *r, const struct recovery_env *env, uint64_t now_us)
{
	enum pn_space space;
	r->timer_us = earliest_loss(r, &space);
	if (r->timer_us == UINT64_MAX && !env->amplification_blocked)
		r->timer_us = earliest_pto(r, env, now_us, &space);
	recovery_linger(r, now_us);
}

/* In fast networks one ACK often empties the path for a moment: only after a while is that idleness. */
void recovery_linger(struct recovery *r, uint64_t now_us)
{
	if (r->timer_us == UINT64_MAX && !r->in_flight && r->pool.nfree + r->pool.nused)
		r->timer_us = now_us + POOL_LINGER_US;
}

enum recovery_timer recovery_on_timeout(struct recovery *r, const struct recovery_env *env, uint64_t now_us,
					enum pn_space *space, struct ack_result *out)
{
	ack_result_init(out);
	if (r->timer_us > now_us)
		return RECOVERY_NONE;
	enum recovery_timer what = RECOVERY_NONE;
	if (earliest_loss(r, space) != UINT64_MAX) {
		recovery_detect_lost(r, *space, env, now_us, out);
		what = RECOVERY_LOSS;
	} else if (!env->amplification_blocked && earliest_pto(r, env, now_us, space) != UINT64_MAX) {
		r->pto_count++;
		what = RECOVERY_PTO;
	} else if (!r->in_flight) {
		sent_pool_trim(&r->pool);
	}
	recovery_set_timer(r, env, now_us);
	return what;
}
