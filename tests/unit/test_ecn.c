/* ECN validation of a path: marks are sent while it is unknown or works, counts that cannot be true end it. RFC 9000
 * 13.4.2 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "recovery/ecn.h"

static struct ecn_path e;

static int setup(void **state)
{
	ecn_init(&e, true);
	return 0;
}

static void send(int n)
{
	for (int i = 0; i < n; i++)
		ecn_on_sent(&e, true);
}

static bool ack(enum pn_space space, uint64_t newly, uint64_t ect0, uint64_t ect1, uint64_t ce)
{
	const uint64_t counts[3] = { ect0, ect1, ce };
	return ecn_on_ack(&e, space, newly, counts);
}

static void ecn_init__off__never_marks(void **state)
{
	ecn_init(&e, false);
	assert_int_equal(ecn_mark(&e), ECN_NOT_ECT);
	assert_false(ack(SPACE_APP, 0, 0, 0, 5));
	assert_int_equal(e.state, ECN_FAILED);
}

/* RFC9000 13.4.2-2 each path is tested; the peer's counts go on */
static void ecn_restart__tests_again__counts_stay(void **state)
{
	send(ECN_TEST_PACKETS);
	assert_false(ack(SPACE_APP, 4, 4, 0, 0));
	assert_int_equal(e.state, ECN_CAPABLE);
	ecn_restart(&e);
	assert_int_equal(e.state, ECN_TESTING);
	send(2);
	assert_false(ack(SPACE_APP, 8, 12, 0, 0));
	assert_int_equal(e.state, ECN_CAPABLE);
	e.state = ECN_FAILED;
	ecn_restart(&e);
	assert_int_equal(ecn_mark(&e), ECN_NOT_ECT);
}

/* RFC9000 A.4 */
static void ecn_on_sent__test_over__marks_no_more_until_capable(void **state)
{
	send(ECN_TEST_PACKETS - 1);
	assert_int_equal(ecn_mark(&e), ECN_ECT0);
	for (int i = 0; i < 50; i++)
		ecn_on_sent(&e, false);		/* nobody will say what became of these */
	assert_int_equal(ecn_mark(&e), ECN_ECT0);
	send(1);
	assert_int_equal(e.state, ECN_UNKNOWN);
	assert_int_equal(ecn_mark(&e), ECN_NOT_ECT);
	assert_false(ack(SPACE_APP, 2, 2, 0, 0));
	assert_int_equal(e.state, ECN_CAPABLE);
	assert_int_equal(ecn_mark(&e), ECN_ECT0);
	send(100);
	assert_int_equal(e.state, ECN_CAPABLE);
}

/* RFC9000 A.4: "unless no marked packet has been acknowledged" */
static void ecn_on_ack__nothing_marked_acked__still_unknown(void **state)
{
	send(ECN_TEST_PACKETS);
	assert_false(ack(SPACE_APP, 0, 0, 0, 0));
	assert_int_equal(e.state, ECN_UNKNOWN);
	assert_false(ecn_on_ack(&e, SPACE_APP, 0, NULL));
	assert_int_equal(e.state, ECN_UNKNOWN);
}

/* RFC9000 13.4.2.1. 20 sent; 8 acknowledged as ECT0 7, CE 1; then this ACK. */
static void ecn_on_ack__counts__are_checked(void **state)
{
	static const struct { uint64_t newly, ect0, ect1, ce; bool ok; } t[] = {
		{ 3, 10, 0, 1, true },
		{ 3, 8, 0, 3, true },
		{ 3, 7, 0, 4, true },
		{ 3, 12, 0, 1, true },		/* an ACK was lost between */
		{ 3, 9, 0, 1, false },		/* one mark vanished */
		{ 3, 7, 0, 1, false },
		{ 0, 6, 0, 1, false },		/* counts fall */
		{ 0, 7, 0, 0, false },
		{ 3, 10, 1, 1, false },		/* never sent ECT(1) */
		{ 3, 20, 0, 1, true },
		{ 3, 21, 0, 1, false },		/* more than ever sent */
		{ 3, (UINT64_C(1) << 62) - 1, 0, 1, false },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		ecn_init(&e, true);
		send(20);
		assert_true(ack(SPACE_APP, 8, 7, 0, 1));
		bool grew = ack(SPACE_APP, t[i].newly, t[i].ect0, t[i].ect1, t[i].ce);
		assert_int_equal(e.state, t[i].ok ? ECN_CAPABLE : ECN_FAILED);
		assert_int_equal(grew, t[i].ok && t[i].ce > 1);
		assert_int_equal(ecn_mark(&e), t[i].ok ? ECN_ECT0 : ECN_NOT_ECT);
	}
}

/* RFC9000 13.4.2.1 */
static void ecn_on_ack__no_counts_for_marked__fails(void **state)
{
	send(3);
	assert_false(ecn_on_ack(&e, SPACE_INITIAL, 1, NULL));
	assert_int_equal(e.state, ECN_FAILED);
	assert_false(ack(SPACE_INITIAL, 1, 2, 0, 1));
	assert_int_equal(e.state, ECN_FAILED);
}

/* RFC9000 13.4.1: counts are separate */
static void ecn_on_ack__spaces__do_not_mix(void **state)
{
	send(9);
	assert_false(ack(SPACE_INITIAL, 3, 3, 0, 0));
	assert_false(ack(SPACE_HANDSHAKE, 3, 3, 0, 0));
	assert_true(ack(SPACE_APP, 3, 2, 0, 1));
	assert_int_equal(e.state, ECN_CAPABLE);
	assert_false(ack(SPACE_INITIAL, 0, 5, 0, 0));	/* 5 + 3 + 2 exceeds 9 */
	assert_int_equal(e.state, ECN_FAILED);
}

/* RFC9000 13.4.2 */
static void ecn_on_lost__all_marked__fails(void **state)
{
	send(ECN_TEST_PACKETS);
	for (int i = 0; i < ECN_TEST_PACKETS - 1; i++)
		ecn_on_lost(&e);
	assert_int_equal(e.state, ECN_UNKNOWN);
	ecn_on_lost(&e);
	assert_int_equal(e.state, ECN_FAILED);
}

static void ecn_on_lost__one_came_through__goes_on(void **state)
{
	send(ECN_TEST_PACKETS);
	assert_false(ack(SPACE_APP, 1, 1, 0, 0));
	for (int i = 0; i < 100; i++)
		ecn_on_lost(&e);
	assert_int_equal(e.state, ECN_CAPABLE);
}

static void ecn_on_forgotten__test_incomplete__sends_another(void **state)
{
	send(ECN_TEST_PACKETS);
	ecn_on_forgotten(&e);
	assert_int_equal(ecn_mark(&e), ECN_ECT0);
	send(1);
	assert_int_equal(ecn_mark(&e), ECN_NOT_ECT);
}

/* RFC9000 A.4 */
static void ecn_on_ack__everything_ce__fails(void **state)
{
	send(ECN_TEST_PACKETS);
	assert_true(ack(SPACE_APP, 6, 0, 0, 6));
	assert_int_equal(e.state, ECN_UNKNOWN);
	assert_false(ack(SPACE_APP, 4, 0, 0, 10));
	assert_int_equal(e.state, ECN_FAILED);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(ecn_init__off__never_marks),
		T(ecn_restart__tests_again__counts_stay),
		T(ecn_on_sent__test_over__marks_no_more_until_capable),
		T(ecn_on_ack__nothing_marked_acked__still_unknown),
		T(ecn_on_ack__counts__are_checked),
		T(ecn_on_ack__no_counts_for_marked__fails),
		T(ecn_on_ack__spaces__do_not_mix),
		T(ecn_on_lost__all_marked__fails),
		T(ecn_on_lost__one_came_through__goes_on),
		T(ecn_on_forgotten__test_incomplete__sends_another),
		T(ecn_on_ack__everything_ce__fails),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
