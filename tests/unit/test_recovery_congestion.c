/* Recovery and the window: what an ACK does to it, persistent congestion, ECN, the pacer, and a whole transfer. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "unit/recovery_fixture.h"

/* RFC9002 7.6.3: the example, in units of half a second. What is sent at the times below, then the last is
 * acknowledged. PTO is 1 unit of 2. */
#define UNIT (500 * MS)
static void run_persistent(const char *script, bool expect_persistent)
{
	struct range got[64];
	size_t n = 0;
	uint64_t pn = 0;
	recovery_fini(&r);
	start(true);
	confirm();
	env.max_ack_delay_us = 0;
	r.app_limited = true;
	send(SPACE_APP, 1);			/* gives the RTT: PTO = 3 * RTT = 2 units */
	if (script[0] == '!') {
		now += 1;
		send(SPACE_APP, 1);
		now--;
		script++;
	}
	now += 2 * UNIT / 3;
	assert_int_equal(ack(SPACE_APP, 0, 1), 0);
	expect(1, 0);
	now += 1;
	for (const char *p = script; *p; p++, now += UNIT) {
		if (*p == '.')
			continue;
		if (*p == 'h') {		/* another space, acknowledged at once */
			uint64_t h = send_kind(SPACE_HANDSHAKE, DATA);
			struct rtt keep = r.rtt;
			assert_int_equal(ack(SPACE_HANDSHAKE, h, h + 1), 0);
			release();
			r.rtt = keep;
			continue;
		}
		pn = send_kind(SPACE_APP, *p == 'p' ? PAD : DATA);
		if (*p == 'a')
			got[n++] = (struct range){ pn, pn + 1 };
	}
	assert_int_equal(ack_ranges(SPACE_APP, got, n, 0, NULL), 0);
	if (out.persistent != expect_persistent)
		fail_msg("%s", script);
	if (expect_persistent) {
		assert_int_equal(r.cc.cwnd, 2 * MSS);
		assert_int_equal(r.cc.recovery_start_us, 0);
		assert_int_equal(r.rtt.min_us, r.rtt.latest_us);	/* RFC9002 5.2 */
	}
	release();
}

/* RFC9002 7.6.2. l: lost, p: lost padding, a: acknowledged at the end, h: other space acknowledged, .: nothing,
 * leading !: one more is lost, sent before the first RTT sample */
static void recovery_on_ack__persistent_congestion(void **state)
{
	static const struct { const char *script; bool persistent; } t[] = {
		{ "llllll.l...a", true },	/* 7 units */
		{ "l......l...a", true },
		{ "l.....l....a", false },	/* exactly the duration is not more than it */
		{ "llllll.....a", false },
		{ "l...a...l..a", false },	/* interrupted */
		{ "l.a......l.......l..a", true },	/* behind the interruption */
		{ "l...h...l..a", false },	/* by another space */
		{ "h.l......l..a", true },
		{ "p.......l..a", false },	/* both must elicit */
		{ "l.......p..a", false },
		{ "l.p.p.p.l..a", true },
		{ "!.......l...a", false },	/* no RTT known when the first was sent */
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++)
		run_persistent(t[i].script, t[i].persistent);
}

/* RFC9002 7.8 */
static void recovery_on_ack__application_limited__window_stays(void **state)
{
	warm_up();
	uint64_t cwnd = r.cc.cwnd;
	r.app_limited = true;
	send(SPACE_APP, 4);
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 1, 5), 0);
	expect(4, 0);
	assert_int_equal(r.cc.cwnd, cwnd);
	/* A full window counts, even if the data ended with it and its ACKs trickle in. */
	while (recovery_cwnd_room(&r))
		send(SPACE_APP, 1);
	uint64_t n = r.in_flight / MSS;
	now += RTT;
	for (uint64_t pn = 5; pn < 5 + n; pn++) {
		assert_int_equal(ack(SPACE_APP, pn, pn + 1), 0);
		expect(1, 0);
	}
	assert_int_equal(r.cc.cwnd, cwnd + n * MSS);
	/* Held by the pacer: not limited by the application. */
	cwnd = r.cc.cwnd;
	r.app_limited = false;
	send(SPACE_APP, 1);
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 5 + n, 6 + n), 0);
	expect(1, 0);
	assert_int_equal(r.cc.cwnd, cwnd + MSS);
}

/* RFC9002 7.3.2, 7.1 */
static void recovery_on_ack__loss_and_ce_in_one_round__one_reduction(void **state)
{
	uint64_t ecn[3] = { 8, 0, 1 };
	warm_up();
	for (int i = 0; i < 12; i++)
		send_kind(SPACE_APP, i < 10 ? DATA | MARKED : DATA);	/* 1-12 */
	uint64_t cwnd = r.cc.cwnd;
	now += RTT;
	assert_int_equal(ack_ranges(SPACE_APP, &(struct range){ 2, 11 }, 1, 0, ecn), 0);
	expect(9, 1);
	assert_int_equal(r.cc.cwnd, cwnd / 2);
	assert_int_equal(r.ecn.state, ECN_CAPABLE);
	ecn[2] = 2;
	assert_int_equal(ack_ranges(SPACE_APP, &(struct range){ 2, 12 }, 1, 0, ecn), 0);
	expect(1, 0);
	assert_int_equal(r.cc.cwnd, cwnd / 2);
	now += 1;
	send_kind(SPACE_APP, DATA | MARKED);	/* 13, after recovery began */
	now += RTT;
	ecn[2] = 3;
	assert_int_equal(ack_ranges(SPACE_APP, &(struct range){ 2, 14 }, 1, 0, ecn), 0);
	expect(2, 0);
	assert_int_equal(r.cc.cwnd, cwnd / 4 > 2 * MSS ? cwnd / 4 : 2 * MSS);
}

/* RFC9000 13.4.2.1: an ACK that comes late must not fail validation */
static void recovery_on_ack__late_ack__not_judged_for_ecn(void **state)
{
	warm_up();
	for (int i = 0; i < 4; i++)
		send_kind(SPACE_APP, DATA | MARKED);
	assert_int_equal(ack_ranges(SPACE_APP, &(struct range){ 3, 4 }, 1, 0, (uint64_t[]){ 2, 0, 0 }), 0);
	expect(1, 0);
	assert_int_equal(ack_ranges(SPACE_APP, &(struct range){ 2, 3 }, 1, 0, NULL), 0);
	expect(1, 0);
	assert_int_equal(r.ecn.state, ECN_CAPABLE);
	assert_int_equal(ack_ranges(SPACE_APP, &(struct range){ 4, 5 }, 1, 0, NULL), 0);
	expect(1, 1);
	assert_int_equal(r.ecn.state, ECN_FAILED);
}

static void recovery_budget__window_then_pacer(void **state)
{
	confirm();
	assert_int_equal(recovery_budget(&r, now), 10 * MSS);
	send(SPACE_APP, 9);
	assert_int_equal(recovery_budget(&r, now), MSS);
	assert_true(recovery_pacer_deadline(&r, now) == UINT64_MAX);
	send(SPACE_APP, 1);
	assert_int_equal(recovery_budget(&r, now), 0);
	assert_true(recovery_pacer_deadline(&r, now) == UINT64_MAX);	/* the window, not the pacer */
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 0, 10), 0);
	expect(10, 0);
	/* 20 packets in 100 ms and twice that rate: a packet each 2.5 ms */
	assert_int_equal(recovery_budget(&r, now), 10 * MSS);
	send(SPACE_APP, 10);
	assert_int_equal(recovery_budget(&r, now), 0);
	assert_int_equal(recovery_pacer_deadline(&r, now), now + 2500);
	assert_int_equal(recovery_budget(&r, now + 2499), 0);
	assert_int_equal(recovery_budget(&r, now + 2500), MSS);
	assert_true(recovery_pacer_deadline(&r, now + 2500) == UINT64_MAX);
}

/* A bulk transfer over 60 us and no loss: whole trains leave, nothing is allocated, the window opens. */
static void recovery__loopback_bulk__trains_without_allocation(void **state)
{
	uint64_t next = 0, made = 0, largest_train = 0;
	confirm();
	for (int round = 0; round < 400; round++) {
		if (round == 200)
			made = mem_test_count();
		/* ten trains at most are on their way, and the window may be smaller */
		uint64_t sent = 0, first = next;
		for (uint64_t b; sent < 200 && (b = recovery_budget(&r, now)) >= MSS; ) {
			uint64_t n = b / MSS < 54 ? b / MSS : 54;
			send(SPACE_APP, (int)n);
			sent += n;
			largest_train = n > largest_train ? n : largest_train;
		}
		next += sent;
		now += 60;
		if (!sent)
			continue;
		assert_int_equal(ack(SPACE_APP, first, next), 0);
		expect((unsigned)sent, 0);
	}
	assert_int_equal(largest_train, 54);
	assert_int_equal(mem_test_count(), made);
	assert_true(next > 400 * 30);	/* 30 packets in 60 us are 4.8 Gbit/s */
	/* then idle: nothing is held */
	assert_int_equal(recovery_deadline(&r), now + POOL_LINGER_US);
	assert_true(allocated() > 0);
	enum pn_space space;
	assert_int_equal(fire(&space), RECOVERY_NONE);
	assert_int_equal(allocated(), 0);
	assert_true(recovery_deadline(&r) == UINT64_MAX);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(recovery_on_ack__persistent_congestion),
		T(recovery_on_ack__application_limited__window_stays),
		T(recovery_on_ack__loss_and_ce_in_one_round__one_reduction),
		T(recovery_on_ack__late_ack__not_judged_for_ecn),
		T(recovery_budget__window_then_pacer),
		T(recovery__loopback_bulk__trains_without_allocation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
