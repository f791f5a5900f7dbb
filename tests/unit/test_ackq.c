/* What has been received and must be acknowledged: when an ACK is due, what it says, and what is forgotten. RFC 9000
 * 13.2 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "recovery/ackq.h"
#include "support/leak.h"

#define MAX_DELAY 25000


static int setup(void **state)
{
	static struct ackq q;
	leak_setup(state);
	ackq_init(&q, MAX_DELAY);
	*state = &q;
	return 0;
}

static int teardown(void **state)
{
	ackq_fini(*state);
	return leak_teardown(state);
}

static void got(struct ackq *q, uint64_t pn, uint64_t now)
{
	assert_false(ackq_is_duplicate(q, pn));
	assert_int_equal(ackq_on_packet(q, pn, true, ECN_NOT_ECT, now), 0);
	assert_true(ackq_is_duplicate(q, pn));
}

/* RFC9000 13.2.1, 13.2.2 */
static void ackq_on_packet__one_eliciting__waits_for_max_delay(void **state)
{
	struct ackq *q = *state;
	assert_int_equal(ackq_deadline(q), UINT64_MAX);
	got(q, 0, 1000);
	assert_true(ackq_owed(q));
	assert_int_equal(ackq_deadline(q), 1000 + MAX_DELAY);
	assert_false(ackq_due(q, 1000 + MAX_DELAY - 1));
	assert_true(ackq_due(q, 1000 + MAX_DELAY));
}

static void ackq_on_packet__second_eliciting__due_at_once(void **state)
{
	struct ackq *q = *state;
	got(q, 0, 1000);
	assert_int_equal(ackq_on_packet(q, 1, false, ECN_NOT_ECT, 1001), 0);
	assert_false(ackq_due(q, 1001));
	got(q, 2, 1002);
	assert_true(ackq_due(q, 1002));
	assert_true(ackq_deadline(q) <= 1002);
	ackq_on_ack_sent(q);
	assert_false(ackq_due(q, 1 << 30));
	assert_false(ackq_owed(q));
	got(q, 3, 1003);
	assert_false(ackq_due(q, 1003));
}

/* RFC9000 13.2.1: Initial and Handshake */
static void ackq_on_packet__no_delay_space__due_at_once(void **state)
{
	struct ackq q;
	ackq_init(&q, 0);
	assert_int_equal(ackq_on_packet(&q, 0, true, ECN_NOT_ECT, 5), 0);
	assert_true(ackq_due(&q, 5));
	ackq_fini(&q);
}

/* RFC9000 13.2.1: never an ACK for what elicits none, gaps or not */
static void ackq_on_packet__not_eliciting__never_due(void **state)
{
	struct ackq *q = *state;
	static const uint64_t pns[] = { 0, 5, 3, 9 };
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(ackq_on_packet(q, pns[i], false, ECN_CE, 10), 0);
	assert_false(ackq_due(q, UINT64_MAX - 1));
	assert_false(ackq_owed(q));
	assert_int_equal(q->ecn[2], 4);
}

/* RFC9000 13.2.1. First 4 (eliciting) comes and is acknowledged, then `also` without eliciting, then pn. */
static void ackq_on_packet__order__decides(void **state)
{
	static const struct { uint64_t also, pn; enum ecn ecn; bool due; } t[] = {
		{ PN_NONE, 5, ECN_NOT_ECT, false },
		{ PN_NONE, 5, ECN_ECT0, false },
		{ PN_NONE, 5, ECN_CE, true },
		{ PN_NONE, 6, ECN_NOT_ECT, true },
		{ PN_NONE, 3, ECN_NOT_ECT, true },
		{ 5, 6, ECN_NOT_ECT, false },
		{ 6, 5, ECN_NOT_ECT, false },	/* less than a packet that is not eliciting */
		{ 6, 7, ECN_NOT_ECT, true },	/* 5 is missing below it, even if 6 said so before */
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct ackq q;
		ackq_init(&q, MAX_DELAY);
		got(&q, 4, 1);
		ackq_on_ack_sent(&q);
		if (t[i].also != PN_NONE)
			assert_int_equal(ackq_on_packet(&q, t[i].also, false, ECN_NOT_ECT, 2), 0);
		assert_int_equal(ackq_on_packet(&q, t[i].pn, true, t[i].ecn, 3), 0);
		assert_int_equal(ackq_due(&q, 3), t[i].due);
		ackq_fini(&q);
	}
}

/* RFC9000 13.2.5 */
static void ackq_delay_field__from_arrival_of_largest(void **state)
{
	struct ackq *q = *state;
	got(q, 7, 10000);
	got(q, 5, 12000);
	assert_int_equal(ackq_delay_field(q, 18000, 3), 1000);
	assert_int_equal(ackq_delay_field(q, 18000, 0), 8000);
	assert_int_equal(ackq_delay_field(q, 9000, 3), 0);
}

/* RFC9000 13.4.1 */
static void ackq_on_packet__marks__counted_in_frame_order(void **state)
{
	struct ackq *q = *state;
	static const enum ecn marks[] = { ECN_CE, ECN_ECT0, ECN_ECT1, ECN_CE, ECN_NOT_ECT, ECN_CE, ECN_ECT0 };
	assert_false(ackq_has_ecn(q));
	for (size_t i = 0; i < 7; i++)
		assert_int_equal(ackq_on_packet(q, i, true, marks[i], 1), 0);
	assert_true(ackq_has_ecn(q));
	assert_int_equal(q->ecn[0], 2);
	assert_int_equal(q->ecn[1], 1);
	assert_int_equal(q->ecn[2], 3);
}

/* RFC9000 13.2.3 */
static void ackq_on_packet__too_many_ranges__oldest_never_accepted_again(void **state)
{
	struct ackq *q = *state;
	for (uint64_t i = 0; i < ACKQ_MAX_RANGES; i++)
		got(q, 100 + 2 * i, 1);
	got(q, 50, 1);		/* below all and no room: accepted once, never named in an ACK */
	assert_int_equal(q->got.n, ACKQ_MAX_RANGES);
	assert_false(rangeset_contains(&q->got, 50));
	assert_true(ackq_is_duplicate(q, 49));
	assert_false(ackq_is_duplicate(q, 51));
	got(q, 500, 1);
	assert_int_equal(q->got.n, ACKQ_MAX_RANGES);
	assert_true(ackq_is_duplicate(q, 100));
	assert_true(ackq_is_duplicate(q, 51));
	assert_false(ackq_is_duplicate(q, 101));
	assert_int_equal(q->largest, 500);
}

/* RFC9000 13.2.4 */
static void ackq_on_ack_acked__older_ranges__forgotten(void **state)
{
	struct ackq *q = *state;
	for (uint64_t pn = 0; pn < 10; pn++)
		if (pn != 4)
			got(q, pn, 1);
	ackq_on_ack_sent(q);
	ackq_on_ack_acked(q, 9);
	assert_int_equal(q->got.n, 1);
	assert_int_equal(rangeset_first(&q->got).lo, 9);
	assert_true(ackq_is_duplicate(q, 4));
	got(q, 10, 2);
	assert_false(ackq_due(q, 2));
	ackq_on_ack_acked(q, 5);	/* an older ACK, late */
	assert_int_equal(rangeset_first(&q->got).lo, 9);
}

static void ackq_on_ack_acked__late_packet_unreported__kept(void **state)
{
	struct ackq *q = *state;
	got(q, 1, 1);
	got(q, 9, 1);
	ackq_on_ack_sent(q);
	got(q, 5, 2);
	ackq_on_ack_acked(q, 9);
	assert_true(rangeset_contains(&q->got, 5));
	assert_false(rangeset_contains(&q->got, 1));
	ackq_on_ack_sent(q);
	ackq_on_ack_acked(q, 9);
	assert_false(rangeset_contains(&q->got, 5));
}

/* A peer that mostly sends ACKs must not get an immediate ACK for each rare packet of data. */
static void ackq_on_packet__numbers_below_forgotten__are_no_gap(void **state)
{
	struct ackq *q = *state;
	got(q, 1, 1);
	assert_int_equal(ackq_on_packet(q, 2, false, ECN_NOT_ECT, 1), 0);
	assert_int_equal(ackq_on_packet(q, 3, false, ECN_NOT_ECT, 1), 0);
	ackq_on_ack_sent(q);
	ackq_on_ack_acked(q, 3);
	got(q, 4, 2);
	assert_false(ackq_due(q, 2));
}

static void ackq_on_packet__no_memory__unchanged(void **state)
{
	struct ackq *q = *state;
	got(q, 0, 1);
	got(q, 10, 1);
	ackq_on_ack_sent(q);
	mem_test_fail_nth(1);
	assert_int_equal(ackq_on_packet(q, 20, true, ECN_CE, 2), QE_NOMEM);
	mem_test_fail_nth(0);
	assert_false(ackq_is_duplicate(q, 20));
	assert_false(ackq_owed(q));
	assert_false(ackq_has_ecn(q));
	assert_int_equal(q->largest, 10);
	got(q, 20, 3);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(ackq_on_packet__one_eliciting__waits_for_max_delay),
		T(ackq_on_packet__second_eliciting__due_at_once),
		T(ackq_on_packet__no_delay_space__due_at_once),
		T(ackq_on_packet__not_eliciting__never_due),
		T(ackq_on_packet__order__decides),
		T(ackq_delay_field__from_arrival_of_largest),
		T(ackq_on_packet__marks__counted_in_frame_order),
		T(ackq_on_packet__too_many_ranges__oldest_never_accepted_again),
		T(ackq_on_ack_acked__older_ranges__forgotten),
		T(ackq_on_ack_acked__late_packet_unreported__kept),
		T(ackq_on_packet__numbers_below_forgotten__are_no_gap),
		T(ackq_on_packet__no_memory__unchanged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
