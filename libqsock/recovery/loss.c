/* What an ACK says: packets acknowledged, packets lost, an RTT sample, congestion.
 * RFC 9002 5.1, 6.1, 7.6, A.7, A.10, B.5-B.8
 *
 * Invariant that keeps ACKs cheap: after each ACK, no packet is left that is
 * PACKET_THRESHOLD or more below the largest acknowledged (skipped numbers
 * aside). So whoever walks from the head of a list to an ACK's largest meets, a few
 * packets apart, only such as will be acknowledged or lost by that ACK. */
#include "recovery/recovery_int.h"

#include "base/err.h"

#define NSKIPPED (sizeof(((struct recovery_space *)0)->skipped) / sizeof(uint64_t))

/* How many of [lo, hi) were never sent. */
static unsigned skipped_within(const struct recovery_space *sp, uint64_t lo, uint64_t hi)
{
	unsigned n = 0;
	for (unsigned i = 0; i < NSKIPPED; i++)
		n += sp->skipped[i] >= lo && sp->skipped[i] < hi;
	return n;
}

/* RFC 9000 13.1, 21.4 */
static bool is_honest(const struct recovery_space *sp, const struct frame_ack *ack)
{
	struct ack_iter it;
	struct range rg;
	if (ack->largest >= sp->next_pn)
		return false;
	ack_iter_init(&it, ack);
	while (ack_iter_next(&it, &rg))
		if (skipped_within(sp, rg.lo, rg.hi))
			return false;
	return true;
}

/* Move what ack newly acknowledges to out->acked, by rising pn. Returns how many of them were marked ECT. */
static uint64_t take_acked(struct recovery *r, enum pn_space space, const struct frame_ack *ack,
			   struct ack_result *out)
{
	struct sent_packet *s = NULL, *next = TAILQ_FIRST(&r->space[space].sent);
	struct ack_iter it;
	struct range rg;
	uint64_t ect = 0;
	for (; next && next->pn <= ack->largest; next = TAILQ_NEXT(next, link))
		s = next;
	/* Ranges come from the largest downward: so does s. */
	ack_iter_init(&it, ack);
	while (s && ack_iter_next(&it, &rg)) {
		while (s && s->pn >= rg.hi)
			s = TAILQ_PREV(s, sent_list, link);
		while (s && s->pn >= rg.lo) {
			struct sent_packet *below = TAILQ_PREV(s, sent_list, link);
			recovery_unlink(r, space, s);
			TAILQ_INSERT_HEAD(&out->acked, s, link);
			ect += s->ect;
			s = below;
		}
	}
	if (!TAILQ_EMPTY(&out->acked))
		out->largest_newly_acked = TAILQ_LAST(&out->acked, sent_list)->pn;
	return ect;
}

/* During the handshake an ACK may have waited for keys for seconds. A sample from which that cannot be taken off, or,
 * as the first one, one that is mostly waiting, says nothing about the path. RFC 9002 5.3 */
static bool is_credible(const struct rtt *rtt, uint64_t latest_us, uint64_t ack_delay_us)
{
	uint64_t path_us = rtt->sampled ? rtt->min_us : latest_us / 2;
	return ack_delay_us <= RTT_GRANULARITY_US || latest_us >= path_us + ack_delay_us;
}

/* An RTT sample needs the largest to be new, and an eliciting packet among the new ones. RFC 9002 5.1 */
static void sample_rtt(struct recovery *r, enum pn_space space, const struct frame_ack *ack, uint64_t ack_delay_us,
		       const struct recovery_env *env, uint64_t now_us, const struct ack_result *out)
{
	const struct sent_packet *s;
	if (out->largest_newly_acked != ack->largest)
		return;
	TAILQ_FOREACH_REVERSE(s, &out->acked, sent_list, link)
		if (s->eliciting)
			break;
	if (!s)
		return;
	uint64_t sent = TAILQ_LAST(&out->acked, sent_list)->at_us, latest_us = now_us > sent ? now_us - sent : 0;
	if (space == SPACE_INITIAL)
		ack_delay_us = 0;
	else if (env->handshake_confirmed && ack_delay_us > env->max_ack_delay_us)
		ack_delay_us = env->max_ack_delay_us;
	if (sent < r->path_since_us)
		return;
	if (env->handshake_confirmed || is_credible(&r->rtt, latest_us, ack_delay_us))
		rtt_sample(&r->rtt, latest_us, ack_delay_us, now_us);
}

/* Two eliciting packets lost, sent further apart than the duration, none between them acknowledged, an RTT known
 * before both. A stretch that begins before the latest send time acknowledged earlier, in any space, is not considered:
 * it may have been interrupted by packets of which nothing is remembered. RFC 9002 7.6.2 */
static bool is_persistent(const struct recovery *r, const struct ack_result *out, uint64_t duration_us)
{
	const struct sent_packet *a = TAILQ_FIRST(&out->acked), *start = NULL, *l;
	uint64_t prior_us = r->newest_acked_at_us;
	TAILQ_FOREACH(l, &out->lost, link) {
		for (; a && a->pn < l->pn; a = TAILQ_NEXT(a, link))
			start = NULL;
		if (!l->eliciting || l->at_us <= r->rtt.first_sample_at_us || l->at_us <= prior_us)
			continue;
		if (!start)
			start = l;
		else if (l->at_us - start->at_us > duration_us)
			return true;
	}
	return false;
}

/* The gaps that we made ourselves are no sign of reordering; RFC 9002 A.10 leaves that to the implementer. */
static bool is_lost_by_number(const struct recovery_space *sp, uint64_t pn)
{
	uint64_t ahead = sp->largest_acked - pn;
	if (ahead >= PACKET_THRESHOLD && ahead < PACKET_THRESHOLD + NSKIPPED)
		ahead -= skipped_within(sp, pn, sp->largest_acked);
	return ahead >= PACKET_THRESHOLD;
}

void recovery_detect_lost(struct recovery *r, enum pn_space space, const struct recovery_env *env, uint64_t now_us,
			  struct ack_result *out)
{
	struct recovery_space *sp = &r->space[space];
	uint64_t delay = rtt_loss_delay_us(&r->rtt), bytes = 0;
	struct sent_packet *s;
	sp->loss_time_us = UINT64_MAX;
	if (sp->largest_acked == PN_NONE)
		return;
	/* Both thresholds rise along the list: the first survivor ends it. */
	while ((s = TAILQ_FIRST(&sp->sent)) && s->pn < sp->largest_acked) {
		if (s->at_us + delay > now_us && !is_lost_by_number(sp, s->pn)) {
			sp->loss_time_us = s->at_us + delay;
			break;
		}
		recovery_unlink(r, space, s);
		TAILQ_INSERT_TAIL(&out->lost, s, link);
		if (s->ect)
			ecn_on_lost(&r->ecn);
		bytes += s->bytes;
		r->packets_lost++;
	}
	if (TAILQ_EMPTY(&out->lost))
		return;
	r->bytes_lost += bytes;
	uint64_t newest_us = TAILQ_LAST(&out->lost, sent_list)->at_us;
	if (newest_us < r->path_since_us)
		return;
	r->cc.ops->on_congestion(&r->cc, newest_us, bytes, false, now_us);
	/* The duration has max_ack_delay in it whatever the space. RFC 9002 7.6.1 */
	if (!r->rtt.sampled || !is_persistent(r, out, recovery_pto_us(r, env) * PERSISTENT_THRESHOLD))
		return;
	out->persistent = true;
	r->cc.ops->on_persistent(&r->cc, now_us);
	rtt_restart_min(&r->rtt);
}

static void count_delivered(struct recovery *r, uint64_t now_us, const struct ack_result *out)
{
	const struct sent_packet *s;
	TAILQ_FOREACH(s, &out->acked, link) {
		r->delivered_bytes += s->bytes;
		r->bytes_acked += s->bytes;
		r->delivered_at_us = now_us;
		r->first_sent_at_us = s->at_us;
		if (s->at_us > r->newest_acked_at_us)
			r->newest_acked_at_us = s->at_us;
		if (s->at_us < r->path_since_us)
			continue;
		/* The window was in use if it was full while this packet was out, or if only the pacer or the window
		 * holds us back now. RFC 9002 7.8 */
		bool limited = s->at_us <= r->full_at_us || !r->app_limited;
		r->cc.ops->on_acked(&r->cc, s, &r->rtt, limited, now_us);
	}
}

int recovery_on_ack(struct recovery *r, enum pn_space space, const struct frame_ack *ack, uint64_t ack_delay_us,
		    const struct recovery_env *env, uint64_t now_us, struct ack_result *out)
{
	struct recovery_space *sp = &r->space[space];
	ack_result_init(out);
	if (sp->discarded)
		return 0;
	if (!is_honest(sp, ack))
		return QE_PROTOCOL_VIOLATION;

	bool raised = sp->largest_acked == PN_NONE || ack->largest > sp->largest_acked;
	if (raised)
		sp->largest_acked = ack->largest;
	uint64_t ect = take_acked(r, space, ack, out);
	bool any = !TAILQ_EMPTY(&out->acked);
	/* A larger number alone (a packet that only carried an ACK) still says what was lost. RFC 9002 6.1 */
	if (!any && !raised)
		return 0;
	sample_rtt(r, space, ack, ack_delay_us, env, now_us, out);
	/* ACKs that come late do not count for ECN. RFC 9000 13.4.2.1 */
	if (any && raised) {
		const uint64_t counts[3] = { ack->ect0, ack->ect1, ack->ce };
		if (ecn_on_ack(&r->ecn, space, ect, ack->has_ecn ? counts : NULL))
			r->cc.ops->on_congestion(&r->cc, TAILQ_LAST(&out->acked, sent_list)->at_us, 0, true, now_us);
	}
	recovery_detect_lost(r, space, env, now_us, out);
	count_delivered(r, now_us, out);
	/* ACKs of Initial packets do not show a client that its address is validated. RFC 9002 6.2.1 */
	if (any && recovery_peer_validated(r, env))
		r->pto_count = 0;
	recovery_set_timer(r, env, now_us);
	return 0;
}
