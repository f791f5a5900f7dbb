/* Records of sent packets and their pool: reused ones are empty, the pool is bounded, no memory leaves all as it was.
 * */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "base/mem.h"
#include "recovery/sent.h"
#include "support/leak.h"

static struct sent_pool pool;

static int setup(void **state)
{
	leak_setup(state);
	sent_pool_init(&pool);
	return 0;
}

static int teardown(void **state)
{
	sent_pool_fini(&pool);
	return leak_teardown(state);
}

static void sent_new__recycled__is_empty_again(void **state)
{
	struct sent_packet *s = sent_new(&pool);
	assert_int_equal(s->nframes, 0);
	assert_true(s->acks_up_to == PN_NONE);
	s->eliciting = s->in_flight = s->ect = s->app_limited = true;
	s->acks_up_to = 4;
	sent_add_frame(s)->off = 9;
	sent_free(&pool, s);
	assert_ptr_equal(sent_new(&pool), s);
	assert_false(s->eliciting || s->in_flight || s->ect || s->app_limited);
	assert_int_equal(s->nframes, 0);
	assert_true(s->acks_up_to == PN_NONE);
	assert_int_equal(sent_add_frame(s)->off, 0);
	sent_free(&pool, s);
}

static void sent_add_frame__beyond_inline__keeps_what_was_there(void **state)
{
	struct sent_packet *s = sent_new(&pool);
	for (uint64_t i = 0; i < 100; i++) {
		struct sent_frame *f = sent_add_frame(s);
		assert_int_equal(f->retx | f->fin | f->len | f->id | f->off, 0);
		f->id = i;
	}
	assert_int_equal(s->nframes, 100);
	for (uint64_t i = 0; i < 100; i++)
		assert_int_equal(s->frames[i].id, i);
	sent_free(&pool, s);
}

static void sent_reserve__then_adding__needs_no_memory(void **state)
{
	struct sent_packet *s = sent_new(&pool);
	assert_int_equal(sent_reserve(s, 2), 0);
	assert_ptr_equal(s->frames, s->inl);
	assert_int_equal(sent_reserve(s, 40), 0);
	uint64_t made = mem_test_count();
	for (int i = 0; i < 40; i++)
		assert_non_null(sent_add_frame(s));
	assert_int_equal(mem_test_count(), made);
	sent_free(&pool, s);
}

static void sent_pool__steady_state__allocates_nothing(void **state)
{
	struct sent_packet *v[100];
	uint64_t made = 0;
	for (int round = 0; round < 5; round++) {
		struct sent_list l = TAILQ_HEAD_INITIALIZER(l);
		if (round == 1)
			made = mem_test_count();
		for (int i = 0; i < 100; i++) {
			v[i] = sent_new(&pool);
			for (int k = 0; k < 6; k++)
				assert_non_null(sent_add_frame(v[i]));
			TAILQ_INSERT_TAIL(&l, v[i], link);
		}
		sent_free_list(&pool, &l);
		assert_true(TAILQ_EMPTY(&l));
	}
	assert_int_equal(mem_test_count(), made);
}

static void sent_pool__free_packets__bounded_and_trimmed(void **state)
{
	struct sent_list l = TAILQ_HEAD_INITIALIZER(l);
	struct sent_packet *last = sent_new(&pool);
	assert_int_equal(sent_reserve(last, 4), 0);
	for (int i = 0; i < 2 * SENT_POOL_MAX; i++) {
		struct sent_packet *s = sent_new(&pool);
		TAILQ_INSERT_TAIL(&l, s, link);
	}
	sent_free_list(&pool, &l);
	assert_int_equal(pool.nfree, SENT_POOL_MAX);
	assert_int_equal(pool.nused, 1);
	assert_int_equal(allocated(), SENT_POOL_MAX + 2);
	sent_free(&pool, last);
	assert_int_equal(allocated(), SENT_POOL_MAX);
	sent_pool_trim(&pool);
	assert_int_equal(allocated(), 0);
}

static void sent_free__large_frame_array__not_kept(void **state)
{
	struct sent_packet *s = sent_new(&pool);
	assert_int_equal(sent_reserve(s, SENT_KEEP_FRAMES + 1), 0);
	sent_free(&pool, s);
	assert_int_equal(allocated(), 1);
}

static void sent__no_memory__unchanged(void **state)
{
	mem_test_fail_nth(1);
	assert_null(sent_new(&pool));
	struct sent_packet *s = sent_new(&pool);
	sent_add_frame(s)->id = 1;
	sent_add_frame(s)->id = 2;
	mem_test_fail_nth(1);
	assert_null(sent_add_frame(s));
	mem_test_fail_nth(1);
	assert_int_equal(sent_reserve(s, 5), QE_NOMEM);
	mem_test_fail_nth(0);
	assert_int_equal(s->nframes, 2);
	assert_int_equal(s->frames[1].id, 2);
	assert_non_null(sent_add_frame(s));
	sent_free(&pool, s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(sent_new__recycled__is_empty_again),
		T(sent_add_frame__beyond_inline__keeps_what_was_there),
		T(sent_reserve__then_adding__needs_no_memory),
		T(sent_pool__steady_state__allocates_nothing),
		T(sent_pool__free_packets__bounded_and_trimmed),
		T(sent_free__large_frame_array__not_kept),
		T(sent__no_memory__unchanged),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
