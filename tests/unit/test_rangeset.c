/* base/rangeset against examples at its edges and against a bitmap that does
 * the same operations the obvious way. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/err.h"
#include "base/mem.h"
#include "base/rangeset.h"
#include "support/leak.h"
#include "unit/wire_hex.h"

#define ROUNDS 60
#define STEPS 2000
#define UNIVERSE 300	/* values of the model, 0-299 */


/* "[1,4) [6,7)" */
static void expect_set(const struct rangeset *rs, const char *want)
{
	char got[512] = "";
	size_t n = 0;
	for (uint32_t i = 0; i < rs->n; i++)
		n += (size_t)snprintf(got + n, sizeof(got) - n, "%s[%llu,%llu)", i ? " " : "",
				      (unsigned long long)rs->v[i].lo, (unsigned long long)rs->v[i].hi);
	assert_string_equal(got, want);
}

static void rangeset_add__each_way_to_touch__merges_exactly(void **state)
{
	/* into {[10,20) [30,40) [50,60)} */
	static const struct { uint64_t lo, hi; const char *want; } cases[] = {
		{ 0, 5, "[0,5) [10,20) [30,40) [50,60)" },
		{ 0, 10, "[0,20) [30,40) [50,60)" },
		{ 9, 11, "[9,20) [30,40) [50,60)" },
		{ 0, 100, "[0,100)" },
		{ 10, 20, "[10,20) [30,40) [50,60)" },
		{ 12, 15, "[10,20) [30,40) [50,60)" },
		{ 20, 21, "[10,21) [30,40) [50,60)" },
		{ 20, 30, "[10,40) [50,60)" },
		{ 21, 29, "[10,20) [21,29) [30,40) [50,60)" },
		{ 21, 30, "[10,20) [21,40) [50,60)" },
		{ 15, 35, "[10,40) [50,60)" },
		{ 5, 45, "[5,45) [50,60)" },
		{ 20, 50, "[10,60)" },
		{ 19, 51, "[10,60)" },
		{ 60, 70, "[10,20) [30,40) [50,70)" },
		{ 61, 70, "[10,20) [30,40) [50,60) [61,70)" },
		{ UINT64_MAX - 1, UINT64_MAX, "[10,20) [30,40) [50,60) [18446744073709551614,18446744073709551615)" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rangeset rs;
		rangeset_init(&rs, 8);
		assert_int_equal(rangeset_add(&rs, 50, 60), 0);
		assert_int_equal(rangeset_add(&rs, 10, 20), 0);
		assert_int_equal(rangeset_add(&rs, 30, 40), 0);
		assert_int_equal(rangeset_add(&rs, cases[i].lo, cases[i].hi), 0);
		expect_set(&rs, cases[i].want);
		rangeset_fini(&rs);
	}
}

static void rangeset_remove__each_way_to_cut__leaves_the_rest(void **state)
{
	/* from {[10,20) [30,40) [50,60)} */
	static const struct { uint64_t lo, hi; const char *want; } cases[] = {
		{ 0, 10, "[10,20) [30,40) [50,60)" },
		{ 20, 30, "[10,20) [30,40) [50,60)" },
		{ 60, 99, "[10,20) [30,40) [50,60)" },
		{ 10, 20, "[30,40) [50,60)" },
		{ 0, 25, "[30,40) [50,60)" },
		{ 10, 11, "[11,20) [30,40) [50,60)" },
		{ 19, 20, "[10,19) [30,40) [50,60)" },
		{ 12, 15, "[10,12) [15,20) [30,40) [50,60)" },
		{ 15, 35, "[10,15) [35,40) [50,60)" },
		{ 15, 55, "[10,15) [55,60)" },
		{ 20, 50, "[10,20) [50,60)" },
		{ 30, 50, "[10,20) [50,60)" },
		{ 0, UINT64_MAX, "" },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct rangeset rs;
		rangeset_init(&rs, 8);
		assert_int_equal(rangeset_add(&rs, 10, 20), 0);
		assert_int_equal(rangeset_add(&rs, 30, 40), 0);
		assert_int_equal(rangeset_add(&rs, 50, 60), 0);
		assert_int_equal(rangeset_remove(&rs, cases[i].lo, cases[i].hi), 0);
		expect_set(&rs, cases[i].want);
		rangeset_fini(&rs);
	}
}

static void rangeset_queries__edges__are_half_open(void **state)
{
	struct rangeset rs;
	rangeset_init(&rs, 4);
	assert_true(rangeset_empty(&rs));
	assert_false(rangeset_contains(&rs, 0));
	assert_false(rangeset_overlaps(&rs, 0, UINT64_MAX));
	assert_true(rangeset_covers(&rs, 7, 7));
	assert_int_equal(rangeset_add(&rs, 10, 20), 0);
	assert_int_equal(rangeset_add(&rs, 30, 40), 0);

	assert_false(rangeset_contains(&rs, 9));
	assert_true(rangeset_contains(&rs, 10));
	assert_true(rangeset_contains(&rs, 19));
	assert_false(rangeset_contains(&rs, 20));
	assert_true(rangeset_covers(&rs, 10, 20));
	assert_false(rangeset_covers(&rs, 10, 21));
	assert_false(rangeset_covers(&rs, 9, 20));
	assert_false(rangeset_covers(&rs, 15, 35));
	assert_false(rangeset_overlaps(&rs, 20, 30));
	assert_true(rangeset_overlaps(&rs, 19, 30));
	assert_true(rangeset_overlaps(&rs, 20, 31));
	assert_false(rangeset_overlaps(&rs, 15, 15));
	assert_int_equal(rangeset_first(&rs).lo, 10);
	assert_int_equal(rangeset_last(&rs).hi, 40);
	rangeset_fini(&rs);
}

/* The largest value has no half-open range around it, and it is PN_NONE. */
static void rangeset_contains__uint64_max__is_never_in_the_set(void **state)
{
	struct rangeset rs;
	rangeset_init(&rs, 4);
	assert_false(rangeset_contains(&rs, UINT64_MAX));
	assert_int_equal(rangeset_add(&rs, 0, UINT64_MAX), 0);
	assert_true(rangeset_contains(&rs, UINT64_MAX - 1));
	assert_false(rangeset_contains(&rs, UINT64_MAX));
	rangeset_fini(&rs);
}

static void rangeset_add__over_max__refuses_and_keeps_the_set(void **state)
{
	struct rangeset rs;
	rangeset_init(&rs, 5);
	for (uint64_t i = 0; i < 5; i++)
		assert_int_equal(rangeset_add(&rs, 10 * i, 10 * i + 5), 0);
	static const char full[] = "[0,5) [10,15) [20,25) [30,35) [40,45)";
	assert_int_equal(rangeset_add(&rs, 50, 51), QE_LIMIT);
	assert_int_equal(rangeset_add(&rs, 7, 8), QE_LIMIT);
	assert_int_equal(rangeset_remove(&rs, 12, 13), QE_LIMIT);
	expect_set(&rs, full);
	assert_int_equal(rangeset_add(&rs, 45, 50), 0);	/* growing one is no new range */
	assert_int_equal(rangeset_add(&rs, 5, 10), 0);
	assert_int_equal(rangeset_add(&rs, 60, 61), 0);
	expect_set(&rs, "[0,15) [20,25) [30,35) [40,50) [60,61)");
	rangeset_fini(&rs);
}

static void rangeset_add__within_inline_ranges__does_not_allocate(void **state)
{
	uint64_t made = mem_test_count();
	struct rangeset rs;
	rangeset_init(&rs, 64);
	for (uint64_t i = 0; i < 10000; i++)
		assert_int_equal(rangeset_add(&rs, 5 + i, 6 + i), 0);
	assert_int_equal(rangeset_add(&rs, 0, 2), 0);
	assert_int_equal(mem_test_count(), made);
	expect_set(&rs, "[0,2) [5,10005)");
	rangeset_fini(&rs);
}

static void rangeset__every_failing_allocation__leaves_it_unchanged(void **state)
{
	for (uint64_t nth = 1;; nth++) {
		struct rangeset rs;
		rangeset_init(&rs, 100);
		mem_test_fail_nth(nth);
		uint32_t held = 0;
		int e = 0;
		for (; held < 100 && !e; held += !e)
			e = rangeset_add(&rs, 10 * held, 10 * held + 5);
		mem_test_fail_nth(0);
		assert_int_equal(rs.n, held);
		for (uint32_t i = 0; i < held; i++) {
			assert_int_equal(rs.v[i].lo, 10 * i);
			assert_int_equal(rs.v[i].hi, 10 * i + 5);
		}
		if (e) {
			assert_int_equal(e, QE_NOMEM);
			mem_test_fail_nth(1);
			assert_int_equal(rangeset_remove(&rs, 1, 2), QE_NOMEM);
			mem_test_fail_nth(0);
			assert_int_equal(rs.n, held);
			assert_true(rangeset_covers(&rs, 0, 5));
			assert_int_equal(rangeset_add(&rs, 5000, 5001), 0);	/* and it lives on */
		}
		rangeset_fini(&rs);
		if (!e) {
			assert_true(nth > 1);
			break;
		}
	}
}

static void rangeset_drop__first_and_below__cut_from_the_left(void **state)
{
	struct rangeset rs;
	rangeset_init(&rs, 8);
	rangeset_drop_first(&rs);
	rangeset_drop_below(&rs, 99);
	assert_true(rangeset_empty(&rs));
	for (uint64_t i = 0; i < 4; i++)
		assert_int_equal(rangeset_add(&rs, 10 * i, 10 * i + 5), 0);
	rangeset_drop_below(&rs, 0);
	expect_set(&rs, "[0,5) [10,15) [20,25) [30,35)");
	rangeset_drop_below(&rs, 5);
	expect_set(&rs, "[10,15) [20,25) [30,35)");
	rangeset_drop_below(&rs, 12);
	expect_set(&rs, "[12,15) [20,25) [30,35)");
	rangeset_drop_first(&rs);
	expect_set(&rs, "[20,25) [30,35)");
	rangeset_drop_below(&rs, 34);
	expect_set(&rs, "[34,35)");
	rangeset_drop_below(&rs, UINT64_MAX);
	assert_true(rangeset_empty(&rs));
	assert_int_equal(rangeset_add(&rs, 1, 2), 0);
	rangeset_clear(&rs);
	assert_true(rangeset_empty(&rs));
	rangeset_fini(&rs);
	assert_int_equal(rangeset_add(&rs, 3, 4), 0);	/* fini leaves an empty, usable set */
	expect_set(&rs, "[3,4)");
	rangeset_fini(&rs);
}

static uint32_t model_ranges(const bool *m)
{
	uint32_t n = 0;
	for (size_t i = 0; i < UNIVERSE; i++)
		n += m[i] && (i == 0 || !m[i - 1]);
	return n;
}

static bool model_all(const bool *m, uint64_t lo, uint64_t hi, bool want)
{
	for (uint64_t i = lo; i < hi; i++) {
		if (m[i] != want)
			return false;
	}
	return true;
}

/* Sorted, disjoint, not adjacent, within max, and the model's values exactly. */
static bool same_as_model(const struct rangeset *rs, const bool *m)
{
	uint64_t at = 0;
	if (rs->n > rs->max || rs->n > rs->cap || rs->n != model_ranges(m))
		return false;
	for (uint32_t i = 0; i < rs->n; i++) {
		struct range r = rs->v[i];
		if (r.lo >= r.hi || r.hi > UNIVERSE || (i && r.lo <= rs->v[i - 1].hi))
			return false;
		if (!model_all(m, at, r.lo, false) || !model_all(m, r.lo, r.hi, true))
			return false;
		at = r.hi;
	}
	return model_all(m, at, UNIVERSE, false);
}

/* One random operation on both. Returns whether result and set agree. */
static bool step_agrees(struct rangeset *rs, bool *m, uint64_t *rnd)
{
	bool want[UNIVERSE];
	uint64_t lo = splitmix64(rnd) % UNIVERSE, longest = splitmix64(rnd) % 4 ? 6 : UNIVERSE;
	uint64_t hi = lo + 1 + splitmix64(rnd) % longest;
	hi = hi < UNIVERSE ? hi : UNIVERSE;
	uint64_t op = splitmix64(rnd) % 100;
	memcpy(want, m, sizeof(want));
	int e = 0;
	if (op < 45) {
		memset(want + lo, true, hi - lo);
		e = rangeset_add(rs, lo, hi);
	} else if (op < 90) {
		memset(want + lo, false, hi - lo);
		e = rangeset_remove(rs, lo, hi);
	} else if (op < 93) {
		uint64_t below = splitmix64(rnd) % 8 ? lo / 8 : lo;
		memset(want, false, below);
		rangeset_drop_below(rs, below);
	} else if (op < 95) {
		size_t i = 0;
		while (i < UNIVERSE && !want[i])
			i++;
		for (; i < UNIVERSE && want[i]; i++)
			want[i] = false;
		rangeset_drop_first(rs);
	}
	if (model_ranges(want) <= rs->max)
		memcpy(m, want, sizeof(want));
	else if (e != QE_LIMIT)
		return false;
	else
		e = 0;
	return e == 0 && same_as_model(rs, m) && rangeset_contains(rs, lo) == m[lo] &&
	       rangeset_covers(rs, lo, hi) == model_all(m, lo, hi, true) &&
	       rangeset_overlaps(rs, lo, hi) == !model_all(m, lo, hi, false);
}

static void rangeset__random_operations__agree_with_a_bitmap(void **state)
{
	static const uint32_t max[] = { 2, 3, 7, 64, 1000 };
	uint64_t seed = test_seed(0x5eed);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		uint64_t rnd = seed + round;
		bool m[UNIVERSE] = { false };
		struct rangeset rs;
		rangeset_init(&rs, max[round % (sizeof(max) / sizeof(max[0]))]);
		for (int i = 0; i < STEPS; i++) {
			if (!step_agrees(&rs, m, &rnd))
				fail_msg("seed %llu round %llu step %d", (unsigned long long)seed,
					 (unsigned long long)round, i);
		}
		rangeset_fini(&rs);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)
	const struct CMUnitTest tests[] = {
		T(rangeset_add__each_way_to_touch__merges_exactly),
		T(rangeset_remove__each_way_to_cut__leaves_the_rest),
		T(rangeset_queries__edges__are_half_open),
		T(rangeset_contains__uint64_max__is_never_in_the_set),
		T(rangeset_add__over_max__refuses_and_keeps_the_set),
		T(rangeset_add__within_inline_ranges__does_not_allocate),
		T(rangeset__every_failing_allocation__leaves_it_unchanged),
		T(rangeset_drop__first_and_below__cut_from_the_left),
		T(rangeset__random_operations__agree_with_a_bitmap),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
