/* The life of a path's sending state: numbering, what leaves, what is forgotten,
 * and how much may leave. Acknowledgement and loss are in loss.c, the timer in
 * timer.c. */
#include <assert.h>

#include "recovery/recovery_int.h"

static void space_init(struct recovery_space *sp)
{
	*sp = (struct recovery_space){ .largest_acked = PN_NONE, .loss_time_us = UINT64_MAX };
	TAILQ_INIT(&sp->sent);
	for (unsigned i = 0; i < sizeof(sp->skipped) / sizeof(sp->skipped[0]); i++)
		sp->skipped[i] = PN_NONE;
}

void recovery_init(struct recovery *r, const struct cc_ops *ops, uint32_t mss, bool ecn, uint64_t now_us)
{
	*r = (struct recovery){ .timer_us = UINT64_MAX };
	for (unsigned i = 0; i < SPACE_COUNT; i++)
		space_init(&r->space[i]);
	sent_pool_init(&r->pool);
	rtt_init(&r->rtt);
	r->cc.ops = ops;
	ops->init(&r->cc, mss, now_us);
	pacer_init(&r->pacer, mss, now_us);
	ecn_init(&r->ecn, ecn);
}

void recovery_fini(struct recovery *r)
{
	for (unsigned i = 0; i < SPACE_COUNT; i++)
		sent_free_list(&r->pool, &r->space[i].sent);
	sent_pool_fini(&r->pool);
}

/* Keep the most recent ones: an optimistic ACK is about what was just sent. */
static void remember_skipped(struct recovery_space *sp, uint64_t pn)
{
	uint64_t *oldest = &sp->skipped[0];
	for (unsigned i = 0; i < sizeof(sp->skipped) / sizeof(sp->skipped[0]); i++) {
		if (sp->skipped[i] == PN_NONE) {
			oldest = &sp->skipped[i];
			break;
		}
		if (sp->skipped[i] < *oldest)
			oldest = &sp->skipped[i];
	}
	*oldest = pn;
}

uint64_t recovery_next_pn(struct recovery *r, enum pn_space space, uint64_t random)
{
	struct recovery_space *sp = &r->space[space];
	if (space == SPACE_APP && random % SKIP_ONE_IN == 0)
		remember_skipped(sp, sp->next_pn++);
	return sp->next_pn++;
}

/* What a delivery rate sample will need when this packet is acknowledged. */
static void stamp(struct recovery *r, struct sent_packet *s)
{
	if (!r->in_flight)
		r->first_sent_at_us = r->delivered_at_us = s->at_us;
	s->delivered_bytes = r->delivered_bytes;
	s->delivered_at_us = r->delivered_at_us;
	s->first_sent_at_us = r->first_sent_at_us;
	s->app_limited = r->app_limited;
}

void recovery_on_sent(struct recovery *r, enum pn_space space, struct sent_packet *s, const struct recovery_env *env)
{
	struct recovery_space *sp = &r->space[space];
	assert(!sp->discarded && s->pn < sp->next_pn);
	assert(TAILQ_EMPTY(&sp->sent) || TAILQ_LAST(&sp->sent, sent_list)->pn < s->pn);
	r->packets_sent++;
	r->bytes_sent += s->bytes;
	if (s->ect)
		ecn_on_sent(&r->ecn, s->in_flight);
	if (!s->in_flight) {
		uint64_t at_us = s->at_us;
		sent_free(&r->pool, s);
		recovery_linger(r, at_us);
		return;
	}
	stamp(r, s);
	TAILQ_INSERT_TAIL(&sp->sent, s, link);
	r->in_flight += s->bytes;
	if (s->eliciting) {
		sp->last_eliciting_at_us = s->at_us;
		sp->eliciting_in_flight++;
	}
	if (!recovery_cwnd_room(r))
		r->full_at_us = s->at_us;
	r->cc.ops->on_sent(&r->cc, s, r->in_flight, s->at_us);
	pacer_on_sent(&r->pacer, s->bytes);
	recovery_set_timer(r, env, s->at_us);
}

void recovery_unlink(struct recovery *r, enum pn_space space, struct sent_packet *s)
{
	struct recovery_space *sp = &r->space[space];
	TAILQ_REMOVE(&sp->sent, s, link);
	r->in_flight -= s->bytes;
	if (s->eliciting)
		sp->eliciting_in_flight--;
}

/* Everything of a space leaves the path without having been acknowledged or lost. RFC 9002 B.9 */
static void withdraw(struct recovery *r, enum pn_space space, struct sent_list *to)
{
	struct recovery_space *sp = &r->space[space];
	struct sent_packet *s;
	while ((s = TAILQ_FIRST(&sp->sent))) {
		recovery_unlink(r, space, s);
		if (s->ect)
			ecn_on_forgotten(&r->ecn);
		TAILQ_INSERT_TAIL(to, s, link);
	}
	sp->loss_time_us = UINT64_MAX;
	sp->last_eliciting_at_us = 0;
	r->pto_count = 0;
}

void recovery_discard_space(struct recovery *r, enum pn_space space, const struct recovery_env *env, uint64_t now_us)
{
	struct sent_list gone = TAILQ_HEAD_INITIALIZER(gone);
	withdraw(r, space, &gone);
	sent_free_list(&r->pool, &gone);
	r->space[space].discarded = true;
	recovery_set_timer(r, env, now_us);
}

void recovery_new_path(struct recovery *r, const struct recovery_env *env, uint64_t since_us, uint64_t now_us)
{
	uint32_t mss = r->cc.mss;
	r->path_since_us = since_us;
	r->pto_count = 0;
	r->cc.ops->init(&r->cc, mss, now_us);
	rtt_init(&r->rtt);
	pacer_init(&r->pacer, mss, now_us);
	ecn_restart(&r->ecn);
	recovery_set_timer(r, env, now_us);
}

/* Nothing can have been acknowledged or lost yet, so RTT and congestion window are as new. The Initial that follows
 * sets the timer. */
void recovery_restart_initial(struct recovery *r, struct ack_result *out)
{
	ack_result_init(out);
	withdraw(r, SPACE_INITIAL, &out->lost);
	r->timer_us = UINT64_MAX;
}

uint64_t recovery_budget(struct recovery *r, uint64_t now_us)
{
	if (!recovery_cwnd_room(r))
		return 0;
	uint64_t room = r->cc.cwnd - r->in_flight;
	uint64_t paced = pacer_budget(&r->pacer, r->cc.ops->pacing_rate(&r->cc, &r->rtt), now_us);
	if (paced < r->cc.mss)
		return 0;
	return room < paced ? room : paced;
}

uint64_t recovery_pacer_deadline(const struct recovery *r, uint64_t now_us)
{
	if (!recovery_cwnd_room(r))
		return UINT64_MAX;
	uint64_t at = pacer_next_us(&r->pacer, r->cc.ops->pacing_rate(&r->cc, &r->rtt), now_us);
	return at > now_us ? at : UINT64_MAX;
}

uint64_t recovery_pto_us(const struct recovery *r, const struct recovery_env *env)
{
	return rtt_pto_us(&r->rtt, env->max_ack_delay_us);
}
