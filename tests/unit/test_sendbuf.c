/* Send buffer: tables for single rules, a byte-by-byte model for the rest. */
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
#include "stream/sendbuf.h"
#include "support/leak.h"
#include "support/simrng.h"

#define NO_LIMIT UINT64_MAX


static uint64_t seed_state;

static uint64_t rnd(uint64_t below)
{
	return splitmix64(&seed_state) % below;
}

static uint8_t byte_at(uint64_t off)
{
	return (uint8_t)(off * 131 + (off >> 8) * 17 + 5);
}

static void fill(uint8_t *p, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		p[i] = byte_at(off + i);
}

static int write_n(struct sendbuf *sb, size_t len)
{
	uint8_t *p = malloc(len + 1);
	fill(p, sb->end, len);
	int e = sendbuf_write(sb, p, len);
	free(p);
	return e;
}

static void assert_bytes(const uint8_t *p, uint64_t off, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != byte_at(off + i))
			fail_msg("byte %llu differs", (unsigned long long)(off + i));
}

static void assert_next(struct sendbuf *sb, uint64_t limit, uint64_t off, uint64_t len, bool fin)
{
	uint64_t o, l;
	bool f;
	assert_true(sendbuf_next(sb, limit, &o, &l, &f));
	assert_true(sendbuf_pending(sb, limit));
	assert_int_equal(o, off);
	assert_int_equal(l, len);
	assert_int_equal(f, fin);
}

static void assert_nothing(struct sendbuf *sb, uint64_t limit)
{
	uint64_t o, l;
	bool f;
	assert_false(sendbuf_next(sb, limit, &o, &l, &f));
	assert_false(sendbuf_pending(sb, limit));
}

static void sendbuf_next__limit__bounds_new_bytes_only(void **st)
{
	struct sendbuf sb;
	sendbuf_init(&sb);
	assert_nothing(&sb, NO_LIMIT);
	assert_int_equal(write_n(&sb, 100), 0);
	assert_nothing(&sb, 0);
	assert_next(&sb, 60, 0, 60, false);
	sendbuf_on_sent(&sb, 0, 60, false);
	assert_nothing(&sb, 60);
	/* RFC9000 13.3-4 */
	sendbuf_on_lost(&sb, 10, 20, false);
	assert_next(&sb, 60, 10, 20, false);
	sendbuf_on_sent(&sb, 10, 5, false);
	assert_next(&sb, 100, 15, 15, false);
	sendbuf_on_sent(&sb, 15, 15, false);
	assert_next(&sb, 100, 60, 40, false);
	sendbuf_fini(&sb);
}

static void sendbuf_fin__lives_and_dies_on_its_own(void **st)
{
	struct sendbuf sb;
	sendbuf_init(&sb);
	assert_int_equal(write_n(&sb, 10), 0);
	sendbuf_finish(&sb);
	assert_next(&sb, 4, 0, 4, false);
	assert_next(&sb, 10, 0, 10, true);
	sendbuf_on_sent(&sb, 0, 10, false);	/* FIN did not fit */
	assert_next(&sb, 10, 10, 0, true);
	sendbuf_on_sent(&sb, 10, 0, true);
	assert_nothing(&sb, NO_LIMIT);
	sendbuf_on_lost(&sb, 10, 0, true);
	assert_next(&sb, 0, 10, 0, true);
	sendbuf_on_lost(&sb, 5, 5, false);
	assert_next(&sb, 0, 5, 5, true);
	sendbuf_on_sent(&sb, 5, 5, true);
	assert_nothing(&sb, NO_LIMIT);
	sendbuf_on_acked(&sb, 0, 10, false);
	assert_false(sendbuf_all_acked(&sb));
	sendbuf_on_acked(&sb, 10, 0, true);
	assert_true(sendbuf_all_acked(&sb));
	sendbuf_on_lost(&sb, 5, 5, true);
	assert_nothing(&sb, NO_LIMIT);
	sendbuf_fini(&sb);
}

static void sendbuf_on_acked__after_lost__not_sent_again(void **st)
{
	/* RFC9000 13.3-6 */
	struct sendbuf sb;
	sendbuf_init(&sb);
	assert_int_equal(write_n(&sb, 100), 0);
	sendbuf_on_sent(&sb, 0, 100, false);
	sendbuf_on_lost(&sb, 0, 100, false);
	sendbuf_on_acked(&sb, 40, 20, false);
	assert_next(&sb, NO_LIMIT, 0, 40, false);
	sendbuf_on_acked(&sb, 0, 40, false);
	assert_int_equal(sb.base, 60);
	assert_next(&sb, NO_LIMIT, 60, 40, false);
	sendbuf_on_acked(&sb, 60, 40, false);
	assert_nothing(&sb, NO_LIMIT);
	assert_int_equal(allocated(), 0);
	sendbuf_fini(&sb);
}

static void sendbuf_rewind__all_in_flight_is_due_again(void **st)
{
	struct sendbuf sb;
	sendbuf_init(&sb);
	assert_int_equal(write_n(&sb, 300), 0);
	sendbuf_finish(&sb);
	sendbuf_on_sent(&sb, 0, 300, true);
	sendbuf_on_acked(&sb, 100, 50, false);
	sendbuf_rewind(&sb);
	assert_next(&sb, 0, 0, 100, false);
	sendbuf_on_sent(&sb, 0, 100, false);
	assert_next(&sb, 0, 150, 150, true);
	sendbuf_on_sent(&sb, 150, 150, true);
	assert_nothing(&sb, NO_LIMIT);
	sendbuf_fini(&sb);
}

static void sendbuf_discard__keeps_final_size_and_no_memory(void **st)
{
	struct sendbuf sb;
	sendbuf_init(&sb);
	assert_int_equal(write_n(&sb, 50000), 0);
	sendbuf_finish(&sb);
	sendbuf_on_sent(&sb, 0, 20000, false);
	sendbuf_on_lost(&sb, 100, 10, false);
	sendbuf_discard(&sb);
	assert_int_equal(sb.next, 20000);
	assert_nothing(&sb, NO_LIMIT);
	assert_int_equal(allocated(), 0);
	sendbuf_on_acked(&sb, 0, 1200, false);
	sendbuf_fini(&sb);
}

static void sendbuf_claim__grows_when_filled__gives_back(void **st)
{
	struct sendbuf sb;
	struct iovec iov[8];
	int n;
	sendbuf_init(&sb);
	size_t first = sendbuf_claim(&sb, 65536, iov, 8, &n);
	assert_in_range(first, 1, 4096);
	assert_int_equal(n, 1);
	sendbuf_commit(&sb, 0);
	assert_int_equal(allocated(), 0);

	first = sendbuf_claim(&sb, 65536, iov, 8, &n);
	fill(iov[0].iov_base, 0, first);
	sendbuf_commit(&sb, first);
	assert_int_equal(sendbuf_held(&sb), first);
	size_t second = sendbuf_claim(&sb, 65536, iov, 8, &n);
	assert_int_equal(second, 65536);
	assert_in_range(n, 1, 5);
	sendbuf_commit(&sb, 10);
	assert_int_equal(allocated(), 2);
	assert_int_equal(sendbuf_claim(&sb, 100, iov, 8, &n), 100);
	assert_int_equal(n, 1);
	sendbuf_commit(&sb, 0);
	assert_int_equal(sendbuf_claim(&sb, 65536, iov, 1, &n), BLOCK_LARGE - 10);
	sendbuf_commit(&sb, 0);
	assert_int_equal(allocated(), 2);
	sendbuf_fini(&sb);
}

static void sendbuf_write__one_message__one_small_block(void **st)
{
	struct sendbuf sb;
	sendbuf_init(&sb);
	assert_int_equal(write_n(&sb, 64), 0);
	assert_int_equal(allocated(), 1);
	assert_in_range(sizeof(struct block) + sb.head->cap, 1, 1024);
	sendbuf_on_sent(&sb, 0, 64, false);
	sendbuf_on_acked(&sb, 0, 64, false);
	assert_int_equal(allocated(), 0);
	sendbuf_fini(&sb);
}

static void sendbuf_pool__bulk_reuses_blocks(void **st)
{
	struct blockpool pool;
	struct sendbuf sb;
	blockpool_init(&pool, 4);
	sendbuf_init(&sb);
	sb.pool = &pool;
	for (int i = 0; i < 20; i++) {
		uint64_t at = sb.end, made = mem_test_count();
		assert_int_equal(write_n(&sb, 60000), 0);
		if (i)
			assert_int_equal(mem_test_count(), made);
		sendbuf_on_sent(&sb, at, 60000, false);
		sendbuf_on_acked(&sb, at, 60000, false);
		assert_int_equal(pool.n, 4);
	}
	assert_int_equal(allocated(), 4);
	sendbuf_fini(&sb);
	blockpool_fini(&pool);
}

/* Every other byte acknowledged, then every other of the rest lost: far more islands than are kept. */
static void sendbuf_islands__over_the_cap__still_all_delivered(void **st)
{
	enum { N = 8 * SENDBUF_MAX_RANGES };
	struct sendbuf sb;
	uint64_t off, len, sent_again = 0;
	bool fin;
	sendbuf_init(&sb);
	assert_int_equal(write_n(&sb, N), 0);
	sendbuf_on_sent(&sb, 0, N, false);
	for (uint64_t i = 1; i < N; i += 2)
		sendbuf_on_acked(&sb, i, 1, false);
	assert_in_range(sb.acked.n, 1, SENDBUF_MAX_RANGES);
	for (uint64_t i = 2; i < N; i += 4)
		sendbuf_on_lost(&sb, N - i, 1, false);
	for (uint64_t i = 0; i < N; i += 4)
		sendbuf_on_lost(&sb, i, 1, false);
	assert_in_range(sb.lost.n, 1, SENDBUF_MAX_RANGES);
	while (sendbuf_next(&sb, NO_LIMIT, &off, &len, &fin)) {
		uint8_t buf[100];
		len = len < sizeof(buf) ? len : sizeof(buf);
		sendbuf_copy(&sb, off, len, buf);
		assert_bytes(buf, off, len);
		sendbuf_on_sent(&sb, off, len, fin);
		sendbuf_on_acked(&sb, off, len, fin);
		sent_again += len;
	}
	assert_true(sendbuf_all_acked(&sb));
	assert_in_range(sent_again, N / 2, N);
	sendbuf_fini(&sb);
}

/* ---- the model ---------------------------------------------------------- */

#define MODEL_BYTES 300000
#define MODEL_PACKETS 400

enum { UNSENT, FLYING, LOST, ACKED };

struct model {
	struct sendbuf sb;
	uint8_t state[MODEL_BYTES];
	struct { uint64_t off, len; bool fin; } pkt[MODEL_PACKETS];
	int npkt;
	bool exact;	/* no allocation fails: nothing is sent again needlessly */
};

static void model_write(struct model *m)
{
	size_t room = MODEL_BYTES - m->sb.end;
	size_t want = 1 + rnd(rnd(3) ? 3000 : 80000);
	if (want > room)
		want = room;
	if (!want || m->sb.fin)
		return;
	if (rnd(2)) {
		(void)write_n(&m->sb, want);
		return;
	}
	struct iovec iov[4];
	int n;
	size_t got = sendbuf_claim(&m->sb, want, iov, 4, &n);
	size_t use = rnd(3) ? got : rnd(got + 1), left = use;
	uint64_t at = m->sb.end;
	for (int i = 0; i < n; i++) {
		size_t k = left < iov[i].iov_len ? left : iov[i].iov_len;
		fill(iov[i].iov_base, at, k);
		at += k;
		left -= k;
	}
	sendbuf_commit(&m->sb, use);
	if (m->sb.end == MODEL_BYTES)
		sendbuf_finish(&m->sb);
}

static bool model_send(struct model *m, uint64_t limit)
{
	uint64_t off, len;
	bool fin;
	uint8_t buf[1200];
	if (m->npkt == MODEL_PACKETS || !sendbuf_next(&m->sb, limit, &off, &len, &fin))
		return false;
	size_t room = 1 + rnd(sizeof(buf));
	fin = fin && len <= room;
	len = len < room ? len : room;
	assert_true(len || fin);
	sendbuf_copy(&m->sb, off, len, buf);
	assert_bytes(buf, off, len);
	for (uint64_t i = off; i < off + len; i++) {
		if (m->state[i] == UNSENT)
			assert_true(i < limit);
		else if (m->exact)
			assert_int_equal(m->state[i], LOST);
		if (m->state[i] != ACKED)
			m->state[i] = FLYING;
	}
	sendbuf_on_sent(&m->sb, off, len, fin);
	m->pkt[m->npkt].off = off;
	m->pkt[m->npkt].len = len;
	m->pkt[m->npkt++].fin = fin;
	return true;
}

static void model_fate(struct model *m, bool acked)
{
	if (!m->npkt)
		return;
	int k = rnd(4) ? 0 : (int)rnd(m->npkt);
	uint64_t off = m->pkt[k].off, len = m->pkt[k].len;
	for (uint64_t i = off; i < off + len; i++)
		if (m->state[i] != ACKED)
			m->state[i] = acked ? ACKED : LOST;
	if (acked)
		sendbuf_on_acked(&m->sb, off, len, m->pkt[k].fin);
	else
		sendbuf_on_lost(&m->sb, off, len, m->pkt[k].fin);
	/* a packet declared lost may be acknowledged yet */
	if (acked || rnd(4))
		memmove(&m->pkt[k], &m->pkt[k + 1], (--m->npkt - k) * sizeof(m->pkt[0]));
}

static void model_check(const struct model *m)
{
	uint64_t base = 0, next = 0;
	while (base < MODEL_BYTES && m->state[base] == ACKED)
		base++;
	while (next < MODEL_BYTES && m->state[next] != UNSENT)
		next++;
	assert_int_equal(m->sb.next, next);
	if (m->exact)
		assert_int_equal(m->sb.base, base);
	else
		assert_true(m->sb.base <= base);
}

static void model_run(struct model *m, bool exact, int ops)
{
	memset(m, 0, sizeof(*m));
	sendbuf_init(&m->sb);
	m->exact = exact;
	for (int i = 0; i < ops; i++) {
		uint64_t what = rnd(10);
		if (what < 1)
			model_write(m);
		else if (what < 6)
			model_send(m, rnd(4) ? NO_LIMIT : rnd(MODEL_BYTES));
		else
			model_fate(m, what < 9);
		if (i % 64 == 0)
			model_check(m);
	}
	if (!m->sb.fin)
		sendbuf_finish(&m->sb);
	while (!sendbuf_all_acked(&m->sb)) {
		while (model_send(m, NO_LIMIT))
			;
		assert_true(m->npkt > 0);
		while (m->npkt)
			model_fate(m, rnd(8));
	}
	assert_int_equal(m->sb.base, m->sb.end);
	assert_int_equal(allocated(), 0);	/* idle holds nothing */
	sendbuf_fini(&m->sb);
}

static void sendbuf_model__random_acts__agree(void **st)
{
	struct model *m = malloc(sizeof(*m));
	uint64_t seed = test_seed((uint64_t)time(NULL));
	for (int i = 0; i < 12; i++) {
		print_message("seed %llu\n", (unsigned long long)(seed + i));
		seed_state = seed + i;
		model_run(m, true, 4000);
	}
	free(m);
}

static void sendbuf_model__each_allocation_fails_once__all_delivered(void **st)
{
	struct model *m = malloc(sizeof(*m));
	for (uint64_t n = 1;; n += 1 + n / 8) {
		uint64_t made = mem_test_count();
		seed_state = 7;
		mem_test_fail_nth(n);
		model_run(m, false, 1500);
		if (mem_test_count() - made < n)
			break;
	}
	free(m);
}

static void sendbuf_write__nth_allocation_fails__unchanged(void **st)
{
	struct sendbuf sb;
	sendbuf_init(&sb);
	assert_int_equal(write_n(&sb, 5000), 0);
	int64_t live = mem_test_live();
	for (int n = 1; n <= 3; n++) {
		mem_test_fail_nth(n);
		assert_int_equal(write_n(&sb, 60000), QE_NOMEM);
		assert_int_equal(sb.end, 5000);
		assert_int_equal(mem_test_live(), live);
	}
	struct iovec iov[2];
	int k;
	sendbuf_on_sent(&sb, 0, 5000, false);
	sendbuf_on_acked(&sb, 0, 5000, false);
	mem_test_fail_nth(1);
	assert_int_equal(sendbuf_claim(&sb, 100, iov, 2, &k), 0);
	assert_int_equal(k, 0);
	sendbuf_fini(&sb);
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(sendbuf_next__limit__bounds_new_bytes_only),
		T(sendbuf_fin__lives_and_dies_on_its_own),
		T(sendbuf_on_acked__after_lost__not_sent_again),
		T(sendbuf_rewind__all_in_flight_is_due_again),
		T(sendbuf_discard__keeps_final_size_and_no_memory),
		T(sendbuf_claim__grows_when_filled__gives_back),
		T(sendbuf_write__one_message__one_small_block),
		T(sendbuf_pool__bulk_reuses_blocks),
		T(sendbuf_islands__over_the_cap__still_all_delivered),
		T(sendbuf_model__random_acts__agree),
		T(sendbuf_model__each_allocation_fails_once__all_delivered),
		T(sendbuf_write__nth_allocation_fails__unchanged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
