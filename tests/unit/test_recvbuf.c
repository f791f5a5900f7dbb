/* Reassembly: tables for single rules, a byte-by-byte model for the rest. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "stream/recvbuf.h"
#include "support/leak.h"
#include "support/simrng.h"


static uint64_t seed_state;

static uint64_t rnd(uint64_t below)
{
	return splitmix64(&seed_state) % below;
}

static int put(struct recvbuf *rb, uint64_t off, const char *s, bool fin)
{
	return recvbuf_insert(rb, off, (const uint8_t *)s, strlen(s), fin);
}

/* All readable bytes, as a string. */
static const char *readable(const struct recvbuf *rb)
{
	static char out[256];
	struct iovec iov[8];
	size_t bytes, at = 0;
	int n = recvbuf_peek(rb, iov, 8, &bytes);
	for (int i = 0; i < n; i++) {
		memcpy(out + at, iov[i].iov_base, iov[i].iov_len);
		at += iov[i].iov_len;
	}
	assert_int_equal(at, bytes);
	assert_int_equal(at, recvbuf_readable(rb));
	out[at] = 0;
	return out;
}

static void recvbuf_insert__out_of_order__read_in_order(void **st)
{
	/* RFC9000 2.2-2 */
	struct recvbuf rb;
	recvbuf_init(&rb);
	assert_int_equal(put(&rb, 4, "ef", true), 0);
	assert_string_equal(readable(&rb), "");
	assert_false(recvbuf_complete(&rb));
	assert_int_equal(put(&rb, 0, "ab", false), 0);
	assert_string_equal(readable(&rb), "ab");
	recvbuf_consume(&rb, 2);
	assert_int_equal(put(&rb, 2, "cd", false), 0);
	assert_string_equal(readable(&rb), "cdef");
	assert_true(recvbuf_complete(&rb));
	assert_false(recvbuf_finished(&rb));
	recvbuf_consume(&rb, 4);
	assert_true(recvbuf_finished(&rb));
	assert_int_equal(allocated(), 0);
	recvbuf_fini(&rb);
}

static void recvbuf_insert__overlap__keeps_first(void **st)
{
	/* RFC9000 2.2-4 */
	struct recvbuf rb;
	recvbuf_init(&rb);
	assert_int_equal(put(&rb, 2, "cd", false), 0);
	assert_int_equal(put(&rb, 6, "gh", false), 0);
	assert_int_equal(put(&rb, 0, "0123456789", false), 0);
	assert_string_equal(readable(&rb), "01cd45gh89");
	recvbuf_consume(&rb, 3);
	assert_int_equal(put(&rb, 0, "ZZZZZZZZZZk", false), 0);
	assert_string_equal(readable(&rb), "d45gh89k");
	recvbuf_fini(&rb);
}

static void recvbuf_insert__final_size__holds(void **st)
{
	/* RFC9000 4.5-5 */
	static const struct { uint64_t off, len; bool fin; int want; } t[] = {
		{ 0, 10, false, 0 },
		{ 0, 10, true, 0 },
		{ 10, 0, true, 0 },
		{ 3, 7, true, 0 },
		{ 0, 11, false, QE_FINAL_SIZE },
		{ 10, 1, false, QE_FINAL_SIZE },
		{ 11, 0, false, QE_FINAL_SIZE },
		{ 0, 9, true, QE_FINAL_SIZE },
		{ 10, 1, true, QE_FINAL_SIZE },
		{ (UINT64_C(1) << 62) - 10, 9, false, QE_FINAL_SIZE },
	};
	uint8_t z[16] = { 0 };
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct recvbuf rb;
		recvbuf_init(&rb);
		assert_int_equal(recvbuf_insert(&rb, 10, z, 0, true), 0);
		assert_int_equal(recvbuf_insert(&rb, t[i].off, z, t[i].len, t[i].fin), t[i].want);
		recvbuf_fini(&rb);
	}
	struct recvbuf rb;
	recvbuf_init(&rb);
	assert_int_equal(recvbuf_insert(&rb, 5, z, 5, false), 0);
	assert_int_equal(recvbuf_insert(&rb, 0, z, 9, true), QE_FINAL_SIZE);
	assert_int_equal(recvbuf_reset(&rb, 9), QE_FINAL_SIZE);
	assert_int_equal(rb.highest, 10);
	assert_int_equal(recvbuf_readable(&rb), 0);
	recvbuf_fini(&rb);
}

static void recvbuf_reset__contiguous_stays_rest_goes(void **st)
{
	struct recvbuf rb;
	recvbuf_init(&rb);
	assert_int_equal(put(&rb, 0, "abcdef", false), 0);
	assert_int_equal(put(&rb, 50000, "xyz", false), 0);
	recvbuf_consume(&rb, 2);
	assert_int_equal(allocated(), 2);
	assert_int_equal(recvbuf_reset(&rb, 60000), 0);
	assert_int_equal(allocated(), 1);
	assert_string_equal(readable(&rb), "cdef");
	assert_int_equal(rb.highest, 60000);
	assert_int_equal(recvbuf_reset(&rb, 60000), 0);
	assert_int_equal(recvbuf_reset(&rb, 60001), QE_FINAL_SIZE);
	recvbuf_consume(&rb, 4);
	assert_false(recvbuf_finished(&rb));
	assert_int_equal(allocated(), 0);
	recvbuf_fini(&rb);
}

static void recvbuf_discard__counts_only(void **st)
{
	struct recvbuf rb;
	recvbuf_init(&rb);
	assert_int_equal(put(&rb, 0, "abcdef", false), 0);
	recvbuf_discard(&rb);
	assert_int_equal(allocated(), 0);
	assert_int_equal(recvbuf_growth(&rb, 100, 5), 99);
	assert_int_equal(put(&rb, 100, "vwxyz", true), 0);
	assert_int_equal(allocated(), 0);
	assert_int_equal(rb.highest, 105);
	assert_int_equal(recvbuf_readable(&rb), 0);
	assert_true(recvbuf_complete(&rb));
	assert_int_equal(put(&rb, 105, "a", false), QE_FINAL_SIZE);
	recvbuf_fini(&rb);
}

static void recvbuf_insert__gap_flood__capped(void **st)
{
	struct recvbuf rb;
	recvbuf_init(&rb);
	uint64_t i = 0;
	int e;
	do
		e = put(&rb, 2 * i++ + 1, "x", false);
	while (!e);
	assert_int_equal(e, QE_LIMIT);
	assert_in_range(i, RECVBUF_MAX_RANGES, RECVBUF_MAX_RANGES + 2);
	/* filling gaps still works at the cap */
	assert_int_equal(put(&rb, 0, "y", false), 0);
	assert_string_equal(readable(&rb), "yx");
	recvbuf_fini(&rb);
}

static void recvbuf_insert__descending_bytes__blocks_stay_on_the_grid(void **st)
{
	struct recvbuf rb;
	recvbuf_init(&rb);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(put(&rb, (1000 - i) * 1000, "x", false), 0);
	assert_in_range(allocated(), 1, 1000000 / BLOCK_LARGE + 5);
	recvbuf_fini(&rb);
}

static void recvbuf_insert__one_message__one_small_block(void **st)
{
	struct recvbuf rb;
	uint8_t msg[64] = { 0 };
	recvbuf_init(&rb);
	for (uint64_t i = 0; i < 1000; i++) {
		assert_int_equal(recvbuf_insert(&rb, i * 64, msg, 64, false), 0);
		assert_int_equal(allocated(), 1);
		assert_in_range(sizeof(struct block) + rb.head->cap, 1, 1024);
		recvbuf_consume(&rb, 64);
		assert_int_equal(allocated(), 0);
	}
	recvbuf_fini(&rb);
}

/* ---- the model ---------------------------------------------------------- */

#define MODEL_BYTES 400000

struct model {
	struct recvbuf rb;
	uint8_t byte[MODEL_BYTES];
	bool got[MODEL_BYTES];
	uint64_t highest, front;	/* front: first byte not contiguous with 0 */
};

/* Insert random bytes at off; NOMEM must leave all as it was. */
static int model_insert(struct model *m, uint64_t off, size_t len)
{
	static uint8_t data[40000];
	uint64_t before = recvbuf_readable(&m->rb), highest = m->rb.highest;
	if (len > MODEL_BYTES - off)
		len = MODEL_BYTES - off;
	for (size_t i = 0; i < len; i++)
		data[i] = (uint8_t)rnd(256);
	int e = recvbuf_insert(&m->rb, off, data, len, false);
	if (e) {
		assert_int_equal(e, QE_NOMEM);
		assert_int_equal(recvbuf_readable(&m->rb), before);
		assert_int_equal(m->rb.highest, highest);
		return e;
	}
	for (size_t i = 0; i < len; i++) {
		if (!m->got[off + i])
			m->byte[off + i] = data[i];
		m->got[off + i] = true;
	}
	if (off + len > m->highest)
		m->highest = off + len;
	while (m->front < MODEL_BYTES && m->got[m->front])
		m->front++;
	return 0;
}

static void model_read(struct model *m)
{
	struct iovec iov[3];
	size_t bytes;
	uint64_t at = m->rb.read_off;
	int n = recvbuf_peek(&m->rb, iov, 3, &bytes);
	assert_int_equal(recvbuf_readable(&m->rb), m->front - at);
	assert_int_equal(m->rb.highest, m->highest);
	for (int i = 0; i < n; i++) {
		assert_memory_equal(iov[i].iov_base, &m->byte[at], iov[i].iov_len);
		at += iov[i].iov_len;
	}
	assert_int_equal(at - m->rb.read_off, bytes);
	recvbuf_consume(&m->rb, rnd(3) ? bytes : rnd(bytes + 1));
}

static void model_run(struct model *m)
{
	memset(m, 0, sizeof(*m));
	recvbuf_init(&m->rb);
	while (m->rb.read_off < MODEL_BYTES) {
		uint64_t from = m->front > 5000 ? m->front - 5000 : 0;
		if (rnd(2))
			(void)model_insert(m, m->front, 1 + rnd(1200));
		else if (rnd(20))
			(void)model_insert(m, from + rnd(MODEL_BYTES - from < 60000 ? MODEL_BYTES - from : 60000),
					   1 + rnd(1500));
		else
			(void)model_insert(m, from, 1 + rnd(40000));
		if (!rnd(8))
			model_read(m);
		if (m->front == MODEL_BYTES)
			model_read(m);
	}
	assert_int_equal(allocated(), 0);	/* idle holds nothing */
	recvbuf_fini(&m->rb);
}

static void recvbuf_model__random_order__agree(void **st)
{
	struct model *m = malloc(sizeof(*m));
	uint64_t seed = test_seed((uint64_t)time(NULL));
	for (int i = 0; i < 12; i++) {
		print_message("seed %llu\n", (unsigned long long)(seed + i));
		seed_state = seed + i;
		model_run(m);
	}
	free(m);
}

static void recvbuf_model__each_allocation_fails_once__agree(void **st)
{
	struct model *m = malloc(sizeof(*m));
	for (uint64_t n = 1;; n += 1 + n / 4) {
		uint64_t made = mem_test_count();
		seed_state = 11;
		mem_test_fail_nth(n);
		model_run(m);
		if (mem_test_count() - made < n)
			break;
	}
	free(m);
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(recvbuf_insert__out_of_order__read_in_order),
		T(recvbuf_insert__overlap__keeps_first),
		T(recvbuf_insert__final_size__holds),
		T(recvbuf_reset__contiguous_stays_rest_goes),
		T(recvbuf_discard__counts_only),
		T(recvbuf_insert__gap_flood__capped),
		T(recvbuf_insert__descending_bytes__blocks_stay_on_the_grid),
		T(recvbuf_insert__one_message__one_small_block),
		T(recvbuf_model__random_order__agree),
		T(recvbuf_model__each_allocation_fails_once__agree),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
