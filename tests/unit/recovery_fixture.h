/* A recovery by itself, before every test that of a server: packets are sent and acknowledged at the times of a clock
 * that the test moves. */
#ifndef TEST_RECOVERY_FIXTURE_H
#define TEST_RECOVERY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "recovery/recovery.h"
#include "support/leak.h"

#define MSS 1200
#define MS UINT64_C(1000)
#define RTT (100 * MS)
#define PEER_DELAY (25 * MS)
#define NO_SKIP 1

static struct recovery r;
static struct recovery_env env;
static struct ack_result out;
static uint64_t now;

static inline void start(bool is_server)
{
	env = (struct recovery_env){ .is_server = is_server, .max_ack_delay_us = PEER_DELAY };
	now = 1000 * MS;
	recovery_init(&r, &cc_newreno, MSS, true, now);
}

static inline int setup(void **state)
{
	leak_setup(state);
	start(true);
	return 0;
}

static inline int teardown(void **state)
{
	recovery_fini(&r);
	return leak_teardown(state);
}

static inline void as_client(void)
{
	recovery_fini(&r);
	start(false);
}

static inline void confirm(void)
{
	env.handshake_confirmed = env.has_handshake_keys = env.peer_validated = true;
}

enum kind { DATA = 1, PAD = 2, ACK_ONLY = 4, MARKED = 8 };

static inline uint64_t send_kind(enum pn_space space, int kind)
{
	struct sent_packet *s = sent_new(&r.pool);
	s->pn = recovery_next_pn(&r, space, NO_SKIP);
	uint64_t pn = s->pn;
	s->at_us = now;
	s->bytes = MSS;
	s->eliciting = kind & DATA;
	s->in_flight = !(kind & ACK_ONLY);
	s->ect = kind & MARKED;
	recovery_on_sent(&r, space, s, &env);
	return pn;
}

static inline void send(enum pn_space space, int n)
{
	while (n--)
		send_kind(space, DATA);
}

static inline int ack_ranges(enum pn_space space, const struct range *v, size_t n, uint64_t delay_us,
			     const uint64_t *ecn)
{
	static uint8_t buf[4096];
	struct rangeset rs;
	struct frame f;
	rangeset_init(&rs, 64);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(rangeset_add(&rs, v[i].lo, v[i].hi), 0);
	struct wr w = wr_of(buf, sizeof(buf));
	assert_true(frame_write_ack(&w, &rs, 0, ecn, 64));
	rangeset_fini(&rs);
	struct rd rd = rd_of(buf, wr_len(&w));
	assert_int_equal(frame_decode(&rd, LEVEL_INITIAL, &f), 0);
	return recovery_on_ack(&r, space, &f.ack, delay_us, &env, now, &out);
}

static inline int ack(enum pn_space space, uint64_t lo, uint64_t hi)
{
	return ack_ranges(space, &(struct range){ lo, hi }, 1, 0, NULL);
}

static inline unsigned count(const struct sent_list *l)
{
	unsigned n = 0;
	const struct sent_packet *s;
	TAILQ_FOREACH(s, l, link)
		n++;
	return n;
}

static inline void release(void)
{
	sent_free_list(&r.pool, &out.acked);
	sent_free_list(&r.pool, &out.lost);
}

/* acked and lost are as numerous as said; frees them */
static inline void expect(unsigned acked, unsigned lost)
{
	assert_int_equal(count(&out.acked), acked);
	assert_int_equal(count(&out.lost), lost);
	release();
}

/* One packet there and back: an RTT sample of RTT, then confirmed. Uses up pn 0 of SPACE_APP. */
static inline void warm_up(void)
{
	confirm();
	send(SPACE_APP, 1);
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 0, 1), 0);
	expect(1, 0);
	assert_int_equal(r.rtt.smoothed_us, RTT);
}

static inline enum recovery_timer fire(enum pn_space *space)
{
	assert_true(recovery_deadline(&r) != UINT64_MAX);
	if (recovery_deadline(&r) > now)
		now = recovery_deadline(&r);
	return recovery_on_timeout(&r, &env, now, space, &out);
}

#endif
