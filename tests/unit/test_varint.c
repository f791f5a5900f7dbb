/* wire/varint.h: the RFC's vectors, the boundaries, every truncation. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "unit/wire_hex.h"
#include "wire/varint.h"

/* RFC9000 16-1, A.1 */
static void rd_varint__rfc_vectors__decode(void **state)
{
	static const struct { const char *hex; uint64_t want; } cases[] = {
		{ "c2197c5eff14e88c", UINT64_C(151288809941952652) },
		{ "9d7f3e7d", 494878333 },
		{ "7bbd", 15293 },
		{ "25", 37 },
		{ "4025", 37 },
		{ "80000025", 37 },
		{ "c000000000000025", 37 },
		{ "ffffffffffffffff", VARINT_MAX },
		{ "c000000080000000", UINT64_C(0x80000000) },
		{ "bfffffff", 0x3fffffff },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct blob b = blob_hex(cases[i].hex);
		struct rd r = rd_of(b.p, b.len);
		assert_int_equal(rd_varint(&r), cases[i].want);
		assert_false(r.failed);
		assert_int_equal(rd_left(&r), 0);
		free(b.p);
	}
}

/* RFC9000 16, table 4 */
static void wr_varint__boundaries__shortest_form_and_back(void **state)
{
	static const struct { uint64_t v; size_t len; } cases[] = {
		{ 0, 1 }, { 63, 1 }, { 64, 2 }, { 16383, 2 }, { 16384, 4 }, { (1 << 30) - 1, 4 }, { 1 << 30, 8 },
		{ UINT64_C(0xffffffff), 8 }, { UINT64_C(0x100000000), 8 }, { VARINT_MAX, 8 },
	};
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint8_t buf[8];
		assert_int_equal(varint_len(cases[i].v), cases[i].len);
		struct wr w = wr_of(buf, sizeof(buf));
		assert_true(wr_varint(&w, cases[i].v));
		assert_int_equal(wr_len(&w), cases[i].len);
		struct rd r = rd_of(buf, wr_len(&w));
		assert_int_equal(rd_varint(&r), cases[i].v);
		assert_false(r.failed);

		struct wr tight = wr_of(buf, cases[i].len - 1);
		assert_false(wr_varint(&tight, cases[i].v));
		assert_true(tight.failed);
	}
}

static void wr_varint_n__every_width__holds_the_value(void **state)
{
	for (size_t n = 1; n <= 8; n *= 2) {
		uint64_t most = n == 8 ? VARINT_MAX : (UINT64_C(1) << (8 * n - 2)) - 1;
		const uint64_t values[] = { 0, 1, 63, most / 3, most };
		for (size_t i = 0; i < 5; i++) {
			uint8_t buf[8];
			struct wr w = wr_of(buf, sizeof(buf));
			assert_true(wr_varint_n(&w, values[i], n));
			assert_int_equal(wr_len(&w), n);
			struct rd r = rd_of(buf, n);
			assert_int_equal(rd_varint(&r), values[i]);
			assert_int_equal(rd_left(&r), 0);
		}
	}
}

static void rd_varint__truncated__fails_and_stays_failed(void **state)
{
	static const uint8_t first[] = { 0x25, 0x40, 0x80, 0xc0 };
	for (size_t i = 0; i < 4; i++) {
		for (size_t have = 0; have < (size_t)1 << i; have++) {
			uint8_t buf[8] = { first[i] };
			struct blob b = blob_copy(buf, have);
			struct rd r = rd_of(b.p, b.len);
			assert_int_equal(rd_varint(&r), 0);
			assert_true(r.failed);
			assert_ptr_equal(r.p, b.p);
			assert_int_equal(rd_varint(&r), 0);
			assert_true(r.failed);
			free(b.p);
		}
	}
}

static void varint__random__round_trips(void **state)
{
	uint64_t seed = test_seed(1), rnd = seed;
	for (int i = 0; i < 100000; i++) {
		uint64_t v = splitmix64(&rnd) >> (2 + splitmix64(&rnd) % 62);
		uint8_t buf[8];
		struct wr w = wr_of(buf, sizeof(buf));
		wr_varint(&w, v);
		struct rd r = rd_of(buf, wr_len(&w));
		if (rd_varint(&r) != v || rd_left(&r) || r.failed)
			fail_msg("seed %llu step %d", (unsigned long long)seed, i);
	}
}

static void wr_commit__failed_copy__leaves_the_writer_alone(void **state)
{
	uint8_t buf[4];
	struct wr w = wr_of(buf, sizeof(buf)), t = w;
	wr_uint(&t, 1, 2);
	assert_true(wr_commit(&w, &t));
	assert_int_equal(wr_len(&w), 2);
	wr_uint(&t, 1, 1);
	wr_uint(&t, 1, 2);
	assert_false(wr_commit(&w, &t));
	assert_int_equal(wr_len(&w), 2);
	assert_false(w.failed);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rd_varint__rfc_vectors__decode),
		cmocka_unit_test(wr_varint__boundaries__shortest_form_and_back),
		cmocka_unit_test(wr_varint_n__every_width__holds_the_value),
		cmocka_unit_test(rd_varint__truncated__fails_and_stays_failed),
		cmocka_unit_test(varint__random__round_trips),
		cmocka_unit_test(wr_commit__failed_copy__leaves_the_writer_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
