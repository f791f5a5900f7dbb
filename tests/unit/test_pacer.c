/* The pacer keeps the rate however it is asked, bursts no more than allowed, and says when to come back. RFC 9002 7.7
 * */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "recovery/pacer.h"

#define MSS 1200

static struct pacer p;

static int setup(void **state)
{
	pacer_init(&p, MSS, 1000);
	return 0;
}

/* RFC9002 7.7 */
static void pacer_budget__start__is_the_initial_window(void **state)
{
	assert_int_equal(pacer_budget(&p, 1000000, 1000), 10 * MSS);
	pacer_on_sent(&p, MSS);
	assert_int_equal(pacer_budget(&p, 1000000, 1000), 9 * MSS);
}

static void pacer_budget__no_rate__unlimited(void **state)
{
	pacer_on_sent(&p, 100 * MSS);
	assert_true(pacer_budget(&p, 0, 1000) == UINT64_MAX);
	assert_int_equal(pacer_next_us(&p, 0, 1000), 1000);
	/* time without a rate earns nothing for later */
	assert_true(pacer_budget(&p, 0, 500000) == UINT64_MAX);
	assert_int_equal(pacer_budget(&p, 1000000, 500010), 10);
}

static void pacer_budget__long_idle__one_burst(void **state)
{
	static const struct { uint64_t rate, burst; } t[] = {
		{ 1, 10 * MSS }, { 125000, 10 * MSS }, { 6000000, 10 * MSS }, { 10000000, 20000 },
		{ 125000000, 250000 }, { 1250000000, PACER_BURST_MAX }, { UINT64_MAX, PACER_BURST_MAX },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		pacer_init(&p, MSS, 1000);
		pacer_on_sent(&p, 10 * MSS);
		pacer_budget(&p, t[i].rate, UINT64_C(1) << 50);
		for (int k = 2; k < 1000; k++)
			pacer_budget(&p, t[i].rate, k * (UINT64_C(1) << 50));
		assert_int_equal(pacer_budget(&p, t[i].rate, UINT64_C(1) << 60), t[i].burst);
	}
}

/* Over a second a busy sender gets rate, however often it asks. */
static void pacer__any_polling__keeps_the_rate(void **state)
{
	static const uint64_t rates[] = { 10000, 125000, 190001, 999999, 1000001, 12500000, 480000000 };
	static const uint64_t steps[] = { 1, 3, 7, 50, 999 };
	for (size_t i = 0; i < 7; i++) {
		for (size_t k = 0; k < 5; k++) {
			if (rates[i] / 1000000 * steps[k] > PACER_BURST_MAX)
				continue;	/* asked too seldom: the bucket runs over */
			pacer_init(&p, MSS, 1000);
			pacer_on_sent(&p, 10 * MSS);
			uint64_t sent = 0, now = 1000;
			for (; now <= 1001000; now += steps[k]) {
				uint64_t b = pacer_budget(&p, rates[i], now);
				if (b < MSS)
					continue;
				sent += b;
				pacer_on_sent(&p, (uint32_t)b);
			}
			assert_in_range(sent, rates[i] - rates[i] / 500 - MSS, rates[i]);
		}
	}
}

/* A 64 KB train goes as soon as the rate is some hundred Mbit/s. */
static void pacer_budget__loopback_rate__whole_trains(void **state)
{
	uint64_t rate = 2 * UINT64_C(12000) * 1000000 / 50;	/* initial window, 50 us */
	pacer_on_sent(&p, 10 * MSS);
	assert_true(pacer_budget(&p, rate, 1000 + 140) >= 65536);
	pacer_budget(&p, rate, 1000 + 1000);
	for (int train = 0; train < 4; train++) {
		assert_true(pacer_budget(&p, rate, 2000) >= 65536);
		pacer_on_sent(&p, 65536);
	}
	assert_true(pacer_budget(&p, rate, 2000) < MSS);
}

static void pacer_on_sent__overdrawn__stops_at_empty(void **state)
{
	pacer_on_sent(&p, 20 * MSS);
	assert_int_equal(pacer_budget(&p, 1000000, 1000), 0);
	assert_int_equal(pacer_budget(&p, 1000000, 2000), 1000);
}

static void pacer_budget__clock_back__no_credit(void **state)
{
	pacer_on_sent(&p, 10 * MSS);
	assert_int_equal(pacer_budget(&p, 1000000, 500), 0);
	assert_int_equal(pacer_budget(&p, 1000000, 1100), 100);
}

static void pacer_next_us__wakes_for_a_batch__and_not_too_early(void **state)
{
	static const struct { uint64_t rate, batch; } t[] = {
		{ 125000, MSS }, { 190001, MSS }, { 4000000, 4000 }, { 12500000, 12500 }, { 125000000, 125000 },
		{ 480000000, PACER_BURST_MAX / 2 }, { UINT64_C(10000000000), PACER_BURST_MAX / 2 },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		pacer_init(&p, MSS, 1000);
		assert_int_equal(pacer_next_us(&p, t[i].rate, 1000), 1000);
		pacer_on_sent(&p, 10 * MSS - 100);
		uint64_t at = pacer_next_us(&p, t[i].rate, 1000);
		struct pacer early = p;
		assert_true(at > 1000);
		assert_true(pacer_budget(&early, t[i].rate, at - 1) < t[i].batch);
		assert_int_equal(pacer_next_us(&p, t[i].rate, at), at);
		assert_true(pacer_budget(&p, t[i].rate, at) >= t[i].batch);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(pacer_budget__start__is_the_initial_window),
		T(pacer_budget__no_rate__unlimited),
		T(pacer_budget__long_idle__one_burst),
		T(pacer__any_polling__keeps_the_rate),
		T(pacer_budget__loopback_rate__whole_trains),
		T(pacer_on_sent__overdrawn__stops_at_empty),
		T(pacer_budget__clock_back__no_credit),
		T(pacer_next_us__wakes_for_a_batch__and_not_too_early),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
