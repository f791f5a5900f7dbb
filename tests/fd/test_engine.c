/* io/engine with its real thread: commands, timers and deferred work come to their turn, none is lost or early, an idle
 * engine uses no CPU, and where the kernel refuses a call it makes do or says so. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/child.h"
#include "support/enginetest.h"
#include "support/leak.h"
#include "support/sandbox.h"

/* ---- commands ------------------------------------------------------------ */

static int fails_with(struct engine *e, void *arg)
{
	errno = *(int *)arg;
	return -1;
}

static void engine_call__result_and_errno__carried(void **state)
{
	int n = 41, err = EADDRNOTAVAIL;
	assert_false(engine_running());
	errno = E2BIG;
	assert_int_equal(engine_call(add_one, &n), 42);
	assert_int_equal(errno, E2BIG);
	assert_true(engine_running());
	assert_int_equal(engine_call(fails_with, &err), -1);
	assert_int_equal(errno, EADDRNOTAVAIL);
	int tid = engine_call(its_tid, NULL);
	assert_int_not_equal(tid, (int)syscall(SYS_gettid));
	assert_int_equal(engine_call(its_tid, NULL), tid);
}

static int nested(struct engine *e, void *arg)
{
	return engine_call(add_one, arg);
}

static void engine_call__on_the_engine__runs_at_once(void **state)
{
	int n = 1;
	assert_int_equal(engine_call(nested, &n), 2);
}

#define CALLERS 4

static void engine_call__many_threads__none_lost(void **state)
{
	pthread_t t[CALLERS];
	void *failed;
	shared_count = 0;
	for (int i = 0; i < CALLERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, caller, NULL), 0);
	for (int i = 0; i < CALLERS; i++) {
		pthread_join(t[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(engine_call(add_one, &shared_count), CALLERS * CALLS + 1);
}

static void *start_and_stop(void *arg)
{
	for (int i = 0; i < 100; i++)
		engine_stop(0);
	return NULL;
}

static void engine_call__while_others_stop_it__none_lost(void **state)
{
	pthread_t t[3];
	void *failed;
	shared_count = 0;
	assert_int_equal(pthread_create(&t[0], NULL, caller, NULL), 0);
	assert_int_equal(pthread_create(&t[1], NULL, caller, NULL), 0);
	assert_int_equal(pthread_create(&t[2], NULL, start_and_stop, NULL), 0);
	for (int i = 0; i < 3; i++) {
		pthread_join(t[i], &failed);
		assert_null(failed);
	}
	assert_int_equal(engine_call(add_one, &shared_count), 2 * CALLS + 1);
}

static int cancel_caller(struct engine *e, void *arg)
{
	pthread_cancel(*(pthread_t *)arg);
	return 7;
}

static void *cancelled(void *arg)
{
	pthread_t me = pthread_self();
	*(int *)arg = engine_call(cancel_caller, &me);
	pthread_testcancel();
	return NULL;
}

static void engine_call__cancelled__finishes_first(void **state)
{
	pthread_t t;
	int got = 0;
	void *ret;
	assert_int_equal(pthread_create(&t, NULL, cancelled, &got), 0);
	pthread_join(t, &ret);
	assert_int_equal(got, 7);
	assert_ptr_equal(ret, PTHREAD_CANCELED);
}

static void engine_call__no_memory__enomem(void **state)
{
	int n = 0;
	mem_test_fail_nth(1);
	assert_int_equal(engine_call(add_one, &n), -1);
	assert_int_equal(errno, ENOMEM);
	mem_test_fail_nth(0);
	assert_false(engine_running());
	assert_int_equal(allocated(), 0);
	assert_int_equal(engine_call(add_one, &n), 1);
}

static uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static bool hook_never_idle(struct engine *e) { return false; }

static void engine_stop__never_idle__lingers_no_longer(void **state)
{
	const struct engine_hooks h = { .idle = hook_never_idle };
	engine_set_hooks(&h);
	assert_int_equal(engine_call(nothing, NULL), 0);
	uint64_t start = now_us();
	engine_stop(20000);
	uint64_t took = now_us() - start;
	assert_true(took >= 20000);
	assert_true(took < LIMIT_MS * 1000);
	assert_false(engine_running());
	assert_int_equal(engine_call(nothing, NULL), 0);
}

/* ---- sources, timers, deferred ------------------------------------------- */

static struct engine *the_engine;
static struct { struct source s; int app; int calls; } two[2];

static void close_the_other(struct source *s, uint32_t events)
{
	int me = s == &two[1].s;
	two[me].calls++;
	source_close(the_engine, &two[!me].s);
	memset(&two[!me].s, 0xee, sizeof(two[0].s));	/* its owner may free it at once */
}

static int add_two(struct engine *e, void *arg)
{
	the_engine = e;
	for (int i = 0; i < 2; i++) {
		int pair[2];
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
			return -1;
		two[i].calls = 0;
		two[i].app = pair[1];
		if (source_add(e, &two[i].s, pair[0], EPOLLIN, close_the_other) < 0 || write(pair[1], "x", 1) != 1)
			return -1;
	}
	return 0;
}

static int two_calls(struct engine *e, void *arg)
{
	return two[0].calls + two[1].calls;
}

static void source_close__with_its_event_pending__not_called(void **state)
{
	assert_int_equal(engine_call(add_two, NULL), 0);
	while (engine_call(two_calls, NULL) == 0)
		;
	for (int i = 0; i < 10; i++)
		assert_int_equal(engine_call(two_calls, NULL), 1);
	for (int i = 0; i < 2; i++)
		close(two[i].app);
}

/* The one whose event comes first takes over the other's descriptor, and that one's owner goes. */
static struct source heir;
static int heir_calls;

static void heir_ready(struct source *s, uint32_t events)
{
	heir_calls++;
}

static void inherit(struct source *s, uint32_t events)
{
	int me = s == &two[1].s;
	two[me].calls++;
	assert_int_equal(source_move(the_engine, &two[!me].s, &heir, EPOLLIN, heir_ready), 0);
	assert_int_equal(two[!me].s.fd, -1);
	memset(&two[!me].s, 0xee, sizeof(two[0].s));
}

static int add_heirs(struct engine *e, void *arg)
{
	int ret = add_two(e, arg);
	two[0].s.ready = two[1].s.ready = inherit;
	return ret;
}

static int get_heir_calls(struct engine *e, void *arg) { return heir_calls; }

static void source_move__with_its_event_pending__told_to_the_new_owner(void **state)
{
	heir_calls = 0;
	assert_int_equal(engine_call(add_heirs, NULL), 0);
	while (!engine_call(get_heir_calls, NULL))
		;
	for (int i = 0; i < 10; i++)
		assert_int_equal(engine_call(two_calls, NULL), 1);
	assert_int_equal(engine_call(get_heir_calls, NULL), 1);
}

struct tick {
	struct timer t;
	uint64_t want_us;
};

static struct { struct tick tick[4]; int order[16], n, fd; bool early; } clock_test;

static void ring(void)
{
	if (write(clock_test.fd, "t", 1) != 1)
		abort();
}

static void tick_fired(struct timer *t)
{
	struct tick *k = (struct tick *)t;
	clock_test.order[clock_test.n++] = (int)(k - clock_test.tick);
	clock_test.early |= engine_now_us(the_engine) < k->want_us;
	if (k == &clock_test.tick[2])
		ring();
}

static void tick_at(int i, uint64_t at_us)
{
	clock_test.tick[i].t.fired = tick_fired;
	clock_test.tick[i].want_us = at_us;
	timer_set(the_engine, &clock_test.tick[i].t, at_us);
}

static int bell(struct engine *e, void *arg)
{
	the_engine = e;
	memset(&clock_test, 0, sizeof(clock_test));
	return clock_test.fd = engine_take_fd(e, *(int *)arg);
}

static int set_timers(struct engine *e, void *arg)
{
	if (bell(e, arg) < 0)
		return -1;
	uint64_t now = engine_now_us(e);
	tick_at(2, now + 9000);
	tick_at(1, now + 100);
	tick_at(0, now + 5000);
	tick_at(3, now + 300);
	tick_at(1, now + 7000);		/* moved */
	timer_clear(e, &clock_test.tick[3].t);
	timer_clear(e, &clock_test.tick[3].t);
	return 0;
}

static void await_bell(int fd)
{
	char c;
	struct pollfd p = { .fd = fd, .events = POLLIN };
	assert_int_equal(poll(&p, 1, LIMIT_MS), 1);
	assert_int_equal(read(fd, &c, 1), 1);
}

static int clock_result(struct engine *e, void *arg)
{
	memcpy(arg, &clock_test, sizeof(clock_test));
	return 0;
}

static void timer_set__several__fire_in_order_and_not_early(void **state)
{
	int p[2];
	assert_int_equal(pipe(p), 0);
	assert_int_equal(engine_call_with_fd(set_timers, &p[1], p[1]), 0);
	await_bell(p[0]);
	assert_int_equal(engine_call(clock_result, &clock_test), 0);
	assert_int_equal(clock_test.n, 3);
	assert_int_equal(clock_test.order[0], 0);
	assert_int_equal(clock_test.order[1], 1);
	assert_int_equal(clock_test.order[2], 2);
	assert_false(clock_test.early);
	close(p[0]);
	close(p[1]);
}

static void past_fired(struct timer *t)
{
	timer_set(the_engine, t, clock_test.n++ < 1000 ? 1 : UINT64_MAX);
	if (clock_test.n > 1000)
		ring();
}

static int set_past(struct engine *e, void *arg)
{
	if (bell(e, arg) < 0)
		return -1;
	clock_test.tick[0].t.fired = past_fired;
	timer_set(e, &clock_test.tick[0].t, 1);
	return 0;
}

static void timer_set__past_from_its_callback__lets_others_run(void **state)
{
	int p[2];
	assert_int_equal(pipe(p), 0);
	assert_int_equal(engine_call_with_fd(set_past, &p[1], p[1]), 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(engine_call(nothing, NULL), 0);
	await_bell(p[0]);
	close(p[0]);
	close(p[1]);
}

static struct deferred work[3];
static int work_order[8], work_n;

static void work_run(struct deferred *d)
{
	int i = (int)(d - work);
	work_order[work_n++] = i;
	if (i == 0 && work_n < 5)
		engine_defer(the_engine, d);	/* comes after everything of this turn */
	if (i == 1)
		engine_undefer(the_engine, &work[2]);
}

static int defer_work(struct engine *e, void *arg)
{
	the_engine = e;
	work_n = 0;
	for (int i = 0; i < 3; i++) {
		work[i].run = work_run;
		engine_defer(e, &work[i]);
		engine_defer(e, &work[i]);
	}
	return 0;
}

static int work_done(struct engine *e, void *arg)
{
	memcpy(arg, work_order, sizeof(work_order));
	return work_n;
}

static void engine_defer__twice__runs_once_in_order(void **state)
{
	static const int want[] = { 0, 1, 0, 0, 0 };
	int got[8];
	assert_int_equal(engine_call(defer_work, NULL), 0);
	while (engine_call(work_done, got) < 5)
		;
	assert_int_equal(engine_call(work_done, got), 5);
	assert_memory_equal(got, want, sizeof(want));
}

/* ---- idleness ------------------------------------------------------------ */

static int cpu_us(struct engine *e, void *arg)
{
	struct timespec ts;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
	return (int)(ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
}

static int ring_later(struct engine *e, void *arg)
{
	if (bell(e, arg) < 0)
		return -1;
	tick_at(2, engine_now_us(e) + 100000);
	return 0;
}

static void engine__idle__uses_no_cpu(void **state)
{
	int p[2];
	assert_int_equal(pipe(p), 0);
	for (int i = 0; i < 500; i++)
		assert_int_equal(engine_call(nothing, NULL), 0);
	int before = engine_call(cpu_us, NULL);
	assert_int_equal(engine_call_with_fd(ring_later, &p[1], p[1]), 0);
	await_bell(p[0]);
	int used = engine_call(cpu_us, NULL) - before;
	assert_true(used < 20000);
	close(p[0]);
	close(p[1]);
}

/* ---- kernels and sandboxes that refuse ----------------------------------- */

static void old_kernel(void)
{
	int p[2], end[2];
	char c;
	kernel_becomes_old();
	CHECK(!pipe(p) && !pipe(end));
	sparse_calls(100);
	close(end[1]);
	CHECK(read(end[0], &c, 1) == 0);	/* the engine holds nothing of what was there before it */
	CHECK(engine_call_with_fd(set_timers, &p[1], p[1]) == 0);
	struct pollfd pfd = { .fd = p[0], .events = POLLIN };
	CHECK(poll(&pfd, 1, LIMIT_MS) == 1);
	CHECK(engine_call(clock_result, &clock_test) == 0);
	CHECK(clock_test.n == 3 && !clock_test.early);
	sparse_calls(100);
}

static void no_unshare(void)
{
	static const int calls[] = { SYS_unshare };
	deny_calls(calls, 1, EPERM);
	many_calls(10);
}

static void no_private_table(void)
{
	static const int calls[] = { SYS_unshare, SYS_close_range };
	deny_calls(calls, 2, EPERM);
	int n = 0;
	CHECK(engine_call(add_one, &n) == -1 && errno == EPERM);
	CHECK(!engine_running() && n == 0);
}

static void engine__system_calls_refused__makes_do_or_says_so(void **state)
{
	in_child(old_kernel);
	in_child(no_unshare);
	in_child(no_private_table);
}

#define T(f) cmocka_unit_test_setup_teardown(f, engine_setup, engine_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(engine_call__result_and_errno__carried),
		T(engine_call__on_the_engine__runs_at_once),
		T(engine_call__many_threads__none_lost),
		T(engine_call__while_others_stop_it__none_lost),
		T(engine_call__cancelled__finishes_first),
		T(engine_call__no_memory__enomem),
		T(engine_stop__never_idle__lingers_no_longer),
		T(source_close__with_its_event_pending__not_called),
		T(source_move__with_its_event_pending__told_to_the_new_owner),
		T(timer_set__several__fire_in_order_and_not_early),
		T(timer_set__past_from_its_callback__lets_others_run),
		T(engine_defer__twice__runs_once_in_order),
		T(engine__idle__uses_no_cpu),
		T(engine__system_calls_refused__makes_do_or_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
