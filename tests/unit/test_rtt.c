/* The RTT estimate and what follows from it, by the formulas of RFC 9002 5.3 and 6. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "recovery/rtt.h"

/* RFC9002 5.3, 6.2.2 */
static void rtt_init__no_sample__first_pto_is_one_second(void **state)
{
	struct rtt r;
	rtt_init(&r);
	assert_false(r.sampled);
	assert_int_equal(r.smoothed_us, 333000);
	assert_int_equal(r.var_us, 166500);
	assert_int_equal(rtt_pto_us(&r, 0), 999000);
}

/* RFC9002 5.2, 5.3 */
static void rtt_sample__first__replaces_the_guess(void **state)
{
	struct rtt r;
	rtt_init(&r);
	rtt_sample(&r, 100000, 40000, 7);
	assert_true(r.sampled);
	assert_int_equal(r.first_sample_at_us, 7);
	assert_int_equal(r.min_us, 100000);
	assert_int_equal(r.latest_us, 100000);
	assert_int_equal(r.smoothed_us, 100000);
	assert_int_equal(r.var_us, 50000);
}

/* RFC9002 5.3: after a first sample of 100 ms */
static void rtt_sample__second__follows_the_formula(void **state)
{
	static const struct { uint64_t latest, delay, min, smoothed, var; } t[] = {
		{ 100000, 0, 100000, 100000, 37500 },
		{ 180000, 0, 100000, 110000, 57500 },
		{ 180000, 80000, 100000, 100000, 37500 },	/* delay believed to the last microsecond */
		{ 180000, 80001, 100000, 110000, 57500 },	/* one more leads below min: not believed */
		{ 60000, 0, 60000, 95000, 47500 },
		{ 60000, 1, 60000, 95000, 47500 },	/* min is updated before the delay is judged */
		{ 180000, UINT64_MAX, 100000, 110000, 57500 },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct rtt r;
		rtt_init(&r);
		rtt_sample(&r, 100000, 0, 1);
		rtt_sample(&r, t[i].latest, t[i].delay, 2);
		assert_int_equal(r.min_us, t[i].min);
		assert_int_equal(r.smoothed_us, t[i].smoothed);
		assert_int_equal(r.var_us, t[i].var);
		assert_int_equal(r.first_sample_at_us, 1);
	}
}

/* RFC9002 6.2.1 */
static void rtt_pto_us__small_variation__granularity_counts(void **state)
{
	struct rtt r;
	rtt_init(&r);
	rtt_sample(&r, 60, 0, 1);
	assert_int_equal(rtt_pto_us(&r, 0), 60 + 1000);
	assert_int_equal(rtt_pto_us(&r, 25000), 60 + 1000 + 25000);
	rtt_init(&r);
	rtt_sample(&r, 10000, 0, 1);
	assert_int_equal(rtt_pto_us(&r, 0), 10000 + 4 * 5000);
}

/* RFC9002 6.1.2 */
static void rtt_loss_delay_us__nine_eighths_of_the_larger__at_least_granularity(void **state)
{
	static const struct { uint64_t smoothed, latest, delay; } t[] = {
		{ 80000, 8000, 90000 }, { 8000, 80000, 90000 }, { 80, 80, 1000 }, { 888, 0, 1000 }, { 896, 0, 1008 },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct rtt r = { .smoothed_us = t[i].smoothed, .latest_us = t[i].latest };
		assert_int_equal(rtt_loss_delay_us(&r), t[i].delay);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rtt_init__no_sample__first_pto_is_one_second),
		cmocka_unit_test(rtt_sample__first__replaces_the_guess),
		cmocka_unit_test(rtt_sample__second__follows_the_formula),
		cmocka_unit_test(rtt_pto_us__small_variation__granularity_counts),
		cmocka_unit_test(rtt_loss_delay_us__nine_eighths_of_the_larger__at_least_granularity),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
