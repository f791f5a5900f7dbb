/* Acknowledgement, loss, RTT samples and the PTO as RFC 9002 wants them, in all three packet number spaces; and the
 * books stay right whatever a peer does. The window is in test_recovery_congestion.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/simrng.h"
#include "unit/recovery_fixture.h"

/* ---- numbers and sending ------------------------------------------------ */

/* RFC9000 21.4 */
static void recovery_next_pn__skips_rarely__in_app_only(void **state)
{
	for (uint64_t i = 0; i < 3 * SKIP_ONE_IN; i++)
		assert_int_equal(recovery_next_pn(&r, SPACE_HANDSHAKE, i), i);
	uint64_t last = 0;
	for (uint64_t i = 0; i < 10 * SKIP_ONE_IN; i++)
		last = recovery_next_pn(&r, SPACE_APP, i);
	assert_int_equal(last, 10 * SKIP_ONE_IN - 1 + 10);
}

static void recovery_on_sent__ack_only__not_retained(void **state)
{
	send_kind(SPACE_APP, ACK_ONLY);
	assert_int_equal(r.in_flight, 0);
	assert_true(TAILQ_EMPTY(&r.space[SPACE_APP].sent));
	assert_int_equal(r.packets_sent, 1);
	assert_int_equal(recovery_deadline(&r), now + POOL_LINGER_US);
	send_kind(SPACE_APP, PAD);	/* RFC9000 13.2.7: in flight, but no PTO */
	assert_int_equal(r.in_flight, MSS);
	assert_true(recovery_deadline(&r) == UINT64_MAX);
}

/* ---- acknowledgement ---------------------------------------------------- */

static void recovery_on_ack__ranges__come_out_by_rising_pn(void **state)
{
	static const uint64_t want[] = { 1, 3, 4, 7 };
	const struct sent_packet *s;
	size_t i = 0;
	send(SPACE_HANDSHAKE, 10);
	now += RTT;
	assert_int_equal(ack_ranges(SPACE_HANDSHAKE, (struct range[]){ { 1, 2 }, { 3, 5 }, { 7, 8 } }, 3, 0, NULL), 0);
	TAILQ_FOREACH(s, &out.acked, link)
		assert_int_equal(s->pn, want[i++]);
	assert_int_equal(i, 4);
	assert_int_equal(out.largest_newly_acked, 7);
	assert_int_equal(recovery_largest_acked(&r, SPACE_HANDSHAKE), 7);
	assert_int_equal(TAILQ_FIRST(&out.lost)->pn, 0);
	expect(4, 2);		/* 0 and 2 lost by number, 5 and 6 wait, 8 and 9 are later */
	assert_int_equal(r.in_flight, 4 * MSS);
	assert_int_equal(r.space[SPACE_HANDSHAKE].eliciting_in_flight, 4);
	assert_int_equal(r.bytes_acked, 4 * MSS);
	assert_int_equal(r.packets_lost, 2);
	assert_int_equal(ack(SPACE_HANDSHAKE, 0, 8), 0);	/* 0 and 2 come too late */
	expect(2, 0);
	assert_int_equal(ack(SPACE_HANDSHAKE, 0, 8), 0);
	assert_true(out.largest_newly_acked == PN_NONE);
	expect(0, 0);
}

/* RFC9000 13.1 */
static void recovery_on_ack__never_sent__violation(void **state)
{
	assert_int_equal(ack(SPACE_APP, 0, 1), QE_PROTOCOL_VIOLATION);
	send(SPACE_APP, 3);
	send(SPACE_INITIAL, 9);
	assert_int_equal(ack(SPACE_APP, 0, 4), QE_PROTOCOL_VIOLATION);
	expect(0, 0);
	assert_int_equal(r.in_flight, 12 * MSS);
	assert_true(recovery_largest_acked(&r, SPACE_APP) == PN_NONE);
	assert_int_equal(ack(SPACE_APP, 0, 3), 0);
	expect(3, 0);
}

/* RFC9000 21.4 */
static void recovery_on_ack__skipped__violation(void **state)
{
	confirm();
	send(SPACE_APP, 2);
	assert_int_equal(recovery_next_pn(&r, SPACE_APP, 0), 3);	/* 2 skipped */
	send(SPACE_APP, 20);
	assert_int_equal(ack(SPACE_APP, 0, 4), QE_PROTOCOL_VIOLATION);
	assert_int_equal(ack(SPACE_APP, 2, 3), QE_PROTOCOL_VIOLATION);
	assert_int_equal(ack_ranges(SPACE_APP, (struct range[]){ { 2, 5 }, { 9, 10 } }, 2, 0, NULL),
			 QE_PROTOCOL_VIOLATION);
	assert_int_equal(ack_ranges(SPACE_APP, (struct range[]){ { 0, 2 }, { 4, 24 } }, 2, 0, NULL), 0);
	expect(22, 0);
	assert_int_equal(ack(SPACE_APP, 1, 24), QE_PROTOCOL_VIOLATION);	/* also when nothing is in flight */
}

/* RFC9002 5.1 */
static void recovery_on_ack__rtt__only_from_a_new_largest(void **state)
{
	warm_up();
	send(SPACE_APP, 3);			/* 1-3 */
	now += 50 * MS;
	assert_int_equal(ack(SPACE_APP, 2, 3), 0);
	expect(1, 0);
	assert_int_equal(r.rtt.latest_us, 50 * MS);
	now += 10 * MS;
	assert_int_equal(ack(SPACE_APP, 1, 3), 0);	/* 2 is not new */
	expect(1, 0);
	assert_int_equal(r.rtt.latest_us, 50 * MS);
	send_kind(SPACE_APP, PAD);		/* 4 */
	now += 10 * MS;
	assert_int_equal(ack_ranges(SPACE_APP, (struct range[]){ { 0, 3 }, { 4, 5 } }, 2, 0, NULL), 0);
	expect(1, 0);
	assert_int_equal(r.rtt.latest_us, 50 * MS);	/* elicits nothing */
	now += 10 * MS;
	send_kind(SPACE_APP, PAD);		/* 5 */
	now += 7 * MS;
	assert_int_equal(ack(SPACE_APP, 0, 6), 0);	/* 3 elicits, 5 gives the time */
	expect(2, 0);
	assert_int_equal(r.rtt.latest_us, 7 * MS);
}

/* RFC9002 5.3: a first sample of 100 ms, then one of 200 ms with this delay */
static void recovery_on_ack__ack_delay__by_space_and_confirmation(void **state)
{
	static const struct { enum pn_space space; bool confirmed; uint64_t delay, smoothed; } t[] = {
		{ SPACE_INITIAL, false, 80 * MS, 112500 },
		{ SPACE_HANDSHAKE, false, 80 * MS, 102500 },
		{ SPACE_APP, false, 80 * MS, 102500 },
		{ SPACE_APP, true, 80 * MS, 109375 },
		{ SPACE_APP, true, 24 * MS, 109500 },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		recovery_fini(&r);
		start(true);
		send(t[i].space, 1);
		now += RTT;
		assert_int_equal(ack(t[i].space, 0, 1), 0);
		release();
		env.handshake_confirmed = t[i].confirmed;
		send(t[i].space, 1);
		now += 2 * RTT;
		assert_int_equal(ack_ranges(t[i].space, &(struct range){ 0, 2 }, 1, t[i].delay, NULL), 0);
		release();
		assert_int_equal(r.rtt.smoothed_us, t[i].smoothed);
	}
}

/* RFC9000 9.4-1, -2: what was sent before the move counts for nothing on the new path */
static void recovery_new_path__former_packets__move_nothing(void **state)
{
	warm_up();
	send(SPACE_APP, 8);			/* 1-8 */
	r.cc.cwnd = 5 * MSS;
	uint64_t moved_us = now += RTT;
	send(SPACE_APP, 1);			/* 9 */
	recovery_new_path(&r, &env, moved_us, now);
	assert_false(r.rtt.sampled);
	assert_int_equal(r.cc.cwnd, CC_INITIAL_WINDOW(MSS));
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 5, 9), 0);
	assert_false(r.rtt.sampled);
	assert_int_equal(r.cc.cwnd, CC_INITIAL_WINDOW(MSS));
	expect(4, 4);
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 9, 10), 0);
	expect(1, 0);
	assert_int_equal(r.rtt.smoothed_us, 2 * RTT);
	assert_int_equal(r.in_flight, 0);
}

/* RFC9002 5.3-6: while keys are waited for, delays pass all bounds. Samples that consist of them are left out. */
static void recovery_on_ack__long_wait_before_confirmation__no_sample(void **state)
{
	static const struct { uint64_t first, latest, delay, smoothed; } t[] = {
		{ 0, 60000 * MS, 59900 * MS, RTT_INITIAL_US },
		{ 0, 100 * MS, 1 * MS, 100 * MS },
		{ RTT, 60000 * MS, 59880 * MS, 102500 },
		{ RTT, 60000 * MS, 59920 * MS, RTT },
		{ RTT, 80 * MS, 0, 97500 },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		recovery_fini(&r);
		start(true);
		if (t[i].first) {
			send(SPACE_HANDSHAKE, 1);
			now += t[i].first;
			assert_int_equal(ack(SPACE_HANDSHAKE, 0, 1), 0);
			release();
		}
		uint64_t pn = send_kind(SPACE_HANDSHAKE, DATA);
		now += t[i].latest;
		assert_int_equal(ack_ranges(SPACE_HANDSHAKE, &(struct range){ pn, pn + 1 }, 1, t[i].delay, NULL), 0);
		expect(1, 0);
		assert_int_equal(r.rtt.smoothed_us, t[i].smoothed);
	}
}

/* ---- loss --------------------------------------------------------------- */

/* RFC9002 6.1.1 */
static void recovery_on_ack__packet_threshold__three(void **state)
{
	warm_up();
	send(SPACE_APP, 4);			/* 1-4 */
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 3, 4), 0);
	expect(1, 0);
	assert_int_equal(ack(SPACE_APP, 3, 5), 0);
	assert_int_equal(TAILQ_FIRST(&out.lost)->pn, 1);
	expect(1, 1);
	assert_int_equal(r.bytes_lost, MSS);
}

static void recovery_on_ack__own_gap__is_no_reordering(void **state)
{
	warm_up();
	send(SPACE_APP, 1);				/* 1 */
	r.space[SPACE_APP].next_pn--;
	assert_int_equal(recovery_next_pn(&r, SPACE_APP, NO_SKIP), 1);
	(void)recovery_next_pn(&r, SPACE_APP, 0);	/* 2 skipped, 3 unused */
	send(SPACE_APP, 2);				/* 4, 5 */
	r.space[SPACE_APP].skipped[1] = 3;
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 4, 6), 0);	/* 1 is only two packets behind 5 */
	expect(2, 0);
	send(SPACE_APP, 1);
	assert_int_equal(ack_ranges(SPACE_APP, (struct range[]){ { 4, 7 } }, 1, 0, NULL), 0);
	expect(1, 1);
}

/* RFC9002 6.1.2, 6.2.1: the loss timer takes precedence over PTO */
static void recovery_on_timeout__time_threshold__nine_eighths(void **state)
{
	enum pn_space space = SPACE_INITIAL;
	warm_up();
	uint64_t sent = now;
	send(SPACE_APP, 2);
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 2, 3), 0);
	expect(1, 0);
	assert_int_equal(recovery_deadline(&r), sent + RTT * 9 / 8);
	assert_int_equal(recovery_on_timeout(&r, &env, sent + RTT * 9 / 8 - 1, &space, &out), RECOVERY_NONE);
	expect(0, 0);
	assert_int_equal(fire(&space), RECOVERY_LOSS);
	assert_int_equal(space, SPACE_APP);
	assert_int_equal(TAILQ_FIRST(&out.lost)->pn, 1);
	expect(0, 1);
	assert_int_equal(r.in_flight, 0);
	assert_int_equal(r.pto_count, 0);
	assert_int_equal(fire(&space), RECOVERY_NONE);
	assert_true(recovery_deadline(&r) == UINT64_MAX);
}

static void recovery_on_ack__old_enough__lost_at_once(void **state)
{
	warm_up();
	send(SPACE_APP, 1);
	now += RTT;
	send(SPACE_APP, 1);
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 2, 3), 0);
	expect(1, 1);
}

/* A peer that acknowledges only our ACKs still tells what was lost, and costs no more than that. */
static void recovery_on_ack__largest_was_ack_only__finds_losses(void **state)
{
	warm_up();
	send(SPACE_APP, 5);
	uint64_t pn = send_kind(SPACE_APP, ACK_ONLY);
	assert_int_equal(ack(SPACE_APP, pn, pn + 1), 0);
	expect(0, 3);
	assert_int_equal(r.space[SPACE_APP].eliciting_in_flight, 2);
}

/* ---- PTO ---------------------------------------------------------------- */

/* RFC9002 6.2.1 */
static void recovery_timer__pto__doubles_and_resets(void **state)
{
	enum pn_space space = SPACE_INITIAL;
	warm_up();
	send(SPACE_APP, 1);
	uint64_t sent = now, pto = RTT + 4 * (RTT / 2) + PEER_DELAY;
	assert_int_equal(recovery_pto_us(&r, &env), pto);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(recovery_deadline(&r), sent + (pto << i));
		assert_int_equal(fire(&space), RECOVERY_PTO);
		assert_int_equal(space, SPACE_APP);
		assert_int_equal(r.pto_count, i + 1);
		expect(0, 0);		/* a PTO declares nothing lost */
	}
	send(SPACE_APP, 1);
	assert_int_equal(recovery_deadline(&r), now + (pto << 3));
	now += RTT;
	assert_int_equal(ack(SPACE_APP, 2, 3), 0);
	release();
	assert_int_equal(r.pto_count, 0);
}

static void recovery_timer__many_ptos__no_overflow(void **state)
{
	enum pn_space space;
	warm_up();
	send(SPACE_APP, 1);
	for (int i = 0; i < 200; i++) {
		uint64_t before = recovery_deadline(&r);
		assert_int_equal(fire(&space), RECOVERY_PTO);
		assert_true(recovery_deadline(&r) >= before && recovery_deadline(&r) < UINT64_C(1) << 60);
	}
}

/* RFC9002 6.2.1: no max_ack_delay before SPACE_APP, and the earlier space first */
static void recovery_timer__spaces__earliest_wins(void **state)
{
	enum pn_space space = SPACE_APP;
	send(SPACE_INITIAL, 1);
	now += 10 * MS;
	send(SPACE_HANDSHAKE, 1);
	assert_int_equal(recovery_deadline(&r), now - 10 * MS + 999 * MS);
	now += 10 * MS;
	send(SPACE_INITIAL, 1);
	assert_int_equal(recovery_deadline(&r), now - 10 * MS + 999 * MS);
	assert_int_equal(fire(&space), RECOVERY_PTO);
	assert_int_equal(space, SPACE_HANDSHAKE);
}

/* RFC9002 6.2.1 */
static void recovery_timer__app__not_before_confirmed(void **state)
{
	send(SPACE_APP, 1);
	assert_true(recovery_deadline(&r) == UINT64_MAX);
	env.handshake_confirmed = true;
	recovery_set_timer(&r, &env, now);
	assert_int_equal(recovery_deadline(&r), now + 999 * MS + PEER_DELAY);
}

/* RFC9002 6.2.2.1 */
static void recovery_timer__amplification_blocked__off(void **state)
{
	enum pn_space space;
	send(SPACE_INITIAL, 1);
	env.amplification_blocked = true;
	recovery_set_timer(&r, &env, now);
	assert_true(recovery_deadline(&r) == UINT64_MAX);
	now += 5000 * MS;
	assert_int_equal(recovery_on_timeout(&r, &env, now, &space, &out), RECOVERY_NONE);
	env.amplification_blocked = false;
	recovery_set_timer(&r, &env, now);
	assert_true(recovery_deadline(&r) < now);	/* executed at once */
	assert_int_equal(recovery_on_timeout(&r, &env, now, &space, &out), RECOVERY_PTO);
}

/* RFC9002 6.2.2.1 */
static void recovery_timer__client_unvalidated__never_off(void **state)
{
	enum pn_space space = SPACE_APP;
	as_client();
	send(SPACE_INITIAL, 1);
	now += RTT;
	assert_int_equal(ack(SPACE_INITIAL, 0, 1), 0);
	expect(1, 0);
	uint64_t pto = RTT + 2 * RTT;
	assert_int_equal(recovery_deadline(&r), now + pto);
	assert_int_equal(fire(&space), RECOVERY_PTO);
	assert_int_equal(space, SPACE_INITIAL);
	assert_int_equal(recovery_deadline(&r), now + 2 * pto);
	env.has_handshake_keys = true;
	assert_int_equal(fire(&space), RECOVERY_PTO);
	assert_int_equal(space, SPACE_HANDSHAKE);
	send(SPACE_APP, 1);		/* 0-RTT in flight does not turn it off either */
	assert_true(recovery_deadline(&r) != UINT64_MAX);
	recovery_discard_space(&r, SPACE_INITIAL, &env, now);
	send(SPACE_HANDSHAKE, 1);
	now += RTT;
	assert_int_equal(ack(SPACE_HANDSHAKE, 0, 1), 0);
	expect(1, 0);
	assert_true(recovery_deadline(&r) == UINT64_MAX);	/* a Handshake ACK validates */
}

/* RFC9002 6.2.1: Initial ACKs do not reset a client's backoff */
static void recovery_on_ack__client_initial__keeps_backoff(void **state)
{
	enum pn_space space;
	as_client();
	send(SPACE_INITIAL, 2);
	assert_int_equal(fire(&space), RECOVERY_PTO);
	assert_int_equal(ack(SPACE_INITIAL, 0, 1), 0);
	expect(1, 0);
	assert_int_equal(r.pto_count, 1);
	env.peer_validated = true;
	assert_int_equal(ack(SPACE_INITIAL, 0, 2), 0);
	expect(1, 0);
	assert_int_equal(r.pto_count, 0);
}

/* RFC9002 6.2.2, 6.4 */
static void recovery_discard_space__forgets_all(void **state)
{
	enum pn_space space;
	env.has_handshake_keys = true;
	send_kind(SPACE_INITIAL, DATA | MARKED);
	send(SPACE_INITIAL, 3);
	assert_int_equal(ack(SPACE_INITIAL, 3, 4), 0);
	expect(1, 1);
	assert_true(r.space[SPACE_INITIAL].loss_time_us != UINT64_MAX);
	send(SPACE_HANDSHAKE, 1);
	r.pto_count = 2;
	recovery_discard_space(&r, SPACE_INITIAL, &env, now);
	assert_int_equal(r.in_flight, MSS);
	assert_int_equal(r.pto_count, 0);
	assert_int_equal(recovery_deadline(&r), now + rtt_pto_us(&r.rtt, 0));
	assert_int_equal(ack(SPACE_INITIAL, 0, 900), 0);	/* nobody's business any more */
	expect(0, 0);
	assert_int_equal(fire(&space), RECOVERY_PTO);
	assert_int_equal(space, SPACE_HANDSHAKE);
}

/* RFC9002 6.3, RFC9000 17.2.5.3 */
static void recovery_restart_initial__frames_out__numbers_go_on(void **state)
{
	enum pn_space space;
	as_client();
	send(SPACE_INITIAL, 2);
	assert_int_equal(fire(&space), RECOVERY_PTO);
	recovery_restart_initial(&r, &out);
	expect(0, 2);
	assert_int_equal(r.in_flight, 0);
	assert_int_equal(r.pto_count, 0);
	assert_int_equal(r.cc.cwnd, CC_INITIAL_WINDOW(MSS));
	assert_true(recovery_deadline(&r) == UINT64_MAX);
	assert_int_equal(send_kind(SPACE_INITIAL, DATA), 2);
	assert_int_equal(recovery_deadline(&r), now + 999 * MS);
}

/* ---- as a whole --------------------------------------------------------- */

static uint64_t rnd_state;

static uint64_t rnd(uint64_t below)
{
	return splitmix64(&rnd_state) % below;
}

static bool books_right(void)
{
	uint64_t bytes = 0, lowest;
	const struct sent_packet *s;
	for (unsigned i = 0; i < SPACE_COUNT; i++) {
		uint32_t eliciting = 0;
		lowest = UINT64_MAX;
		TAILQ_FOREACH(s, &r.space[i].sent, link) {
			lowest = s->pn < lowest ? s->pn : lowest;
			bytes += s->bytes;
			eliciting += s->eliciting;
		}
		/* the invariant of loss.c */
		uint64_t acked = r.space[i].largest_acked;
		if (acked != PN_NONE && lowest < acked && acked - lowest >= PACKET_THRESHOLD + 4)
			return false;
		if (eliciting != r.space[i].eliciting_in_flight)
			return false;
	}
	return bytes == r.in_flight && r.cc.cwnd >= 2 * MSS;
}

/* Any mixture of sending, ACKs true and false, and timeouts: the books stay right and every packet comes out once. */
static void recovery__random_peer__books_stay_right(void **state)
{
	static const int kinds[] = { DATA, DATA | MARKED, PAD, ACK_ONLY };
	for (uint64_t seed = 1; seed <= 200; seed++) {
		uint64_t tracked = 0, back = 0;
		rnd_state = seed;
		recovery_fini(&r);
		start(rnd(2));
		if (rnd(2))
			confirm();
		for (int step = 0; step < 300; step++) {
			enum pn_space sp = (enum pn_space)rnd(SPACE_COUNT), which;
			uint64_t next = r.space[sp].next_pn;
			struct range v[3] = { { 0 } };
			int kind = kinds[rnd(4)], n = 0;
			now += rnd(30 * MS);
			switch (rnd(4)) {
			case 0: case 1:
				if (!rnd(8))
					(void)recovery_next_pn(&r, sp, 0);
				send_kind(sp, kind);
				tracked += kind != ACK_ONLY;
				break;
			case 2:
				for (uint64_t lo = next > 12 ? next - 12 : 0; n < 3 && lo + 1 < next; n++) {
					v[n].lo = lo + rnd(3);
					v[n].hi = v[n].lo + 1 + rnd(3);
					lo = v[n].hi + 1;
				}
				if (!n)
					break;
				(void)ack_ranges(sp, v, (size_t)n, rnd(50 * MS),
						 rnd(2) ? (uint64_t[]){ rnd(40), 0, rnd(3) } : NULL);
				back += count(&out.acked) + count(&out.lost);
				release();
				break;
			case 3:
				if (recovery_deadline(&r) == UINT64_MAX || rnd(2))
					break;
				(void)fire(&which);
				back += count(&out.lost);
				release();
				break;
			}
			if (!books_right())
				fail_msg("seed %llu, step %d", (unsigned long long)seed, step);
		}
		uint64_t left = 0;
		for (unsigned i = 0; i < SPACE_COUNT; i++)
			left += count(&r.space[i].sent);
		if (tracked != back + left)
			fail_msg("seed %llu: a packet vanished or came twice", (unsigned long long)seed);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(recovery_next_pn__skips_rarely__in_app_only),
		T(recovery_on_sent__ack_only__not_retained),
		T(recovery_on_ack__ranges__come_out_by_rising_pn),
		T(recovery_on_ack__never_sent__violation),
		T(recovery_on_ack__skipped__violation),
		T(recovery_on_ack__rtt__only_from_a_new_largest),
		T(recovery_on_ack__ack_delay__by_space_and_confirmation),
		T(recovery_on_ack__long_wait_before_confirmation__no_sample),
		T(recovery_new_path__former_packets__move_nothing),
		T(recovery_on_ack__packet_threshold__three),
		T(recovery_on_ack__own_gap__is_no_reordering),
		T(recovery_on_timeout__time_threshold__nine_eighths),
		T(recovery_on_ack__old_enough__lost_at_once),
		T(recovery_on_ack__largest_was_ack_only__finds_losses),
		T(recovery_timer__pto__doubles_and_resets),
		T(recovery_timer__many_ptos__no_overflow),
		T(recovery_timer__spaces__earliest_wins),
		T(recovery_timer__app__not_before_confirmed),
		T(recovery_timer__amplification_blocked__off),
		T(recovery_timer__client_unvalidated__never_off),
		T(recovery_on_ack__client_initial__keeps_backoff),
		T(recovery_discard_space__forgets_all),
		T(recovery_restart_initial__frames_out__numbers_go_on),
		T(recovery__random_peer__books_stay_right),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
