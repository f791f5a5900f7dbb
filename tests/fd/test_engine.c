/* io/engine with its real thread: commands, wake-ups under every treatment of SIGURG,
 * descriptors nobody else can touch, fork, exit, sources, timers and deferred work. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/engine.h"

/* Starting threads after a fork is what half of this is about. */
__attribute__((visibility("default"))) const char *__tsan_default_options(void);
const char *__tsan_default_options(void) { return "die_after_fork=0"; }

#define LIMIT_MS 10000		/* for what must happen */

static int64_t live_before;

static int setup(void **state)
{
	(void)state;
	static const struct engine_hooks none;
	engine_set_hooks(&none);
	live_before = mem_test_live();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	engine_stop(0);
	return mem_test_live() == live_before ? 0 : -1;
}

static int add_one(struct engine *e, void *arg)
{
	(void)e;
	return ++*(int *)arg;
}

static int nothing(struct engine *e, void *arg)
{
	(void)e, (void)arg;
	return 0;
}

static int its_tid(struct engine *e, void *arg)
{
	(void)e, (void)arg;
	return (int)syscall(SYS_gettid);
}

/* What a child process checks: exits with the line that failed. */
#define CHECK(x) do { if (!(x)) { fprintf(stderr, "child: line %d: %s\n", __LINE__, #x); _exit(1); } } while (0)

static void reap(pid_t pid)
{
	int status;
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

static void in_child(void (*fn)(void))
{
	pid_t pid = fork();
	if (pid == 0) {
		alarm(LIMIT_MS / 1000);
		fn();
		_exit(0);
	}
	reap(pid);
}

/* ---- commands ------------------------------------------------------------ */

static int fails_with(struct engine *e, void *arg)
{
	(void)e;
	errno = *(int *)arg;
	return -1;
}

static void engine_call__result_and_errno__carried(void **state)
{
	(void)state;
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
	(void)e;
	return engine_call(add_one, arg);
}

static void engine_call__on_the_engine__runs_at_once(void **state)
{
	(void)state;
	int n = 1;
	assert_int_equal(engine_call(nested, &n), 2);
}

#define CALLERS 4
#define CALLS 5000

static int shared_count;	/* plain: only the engine thread may touch it */

static void *caller(void *arg)
{
	(void)arg;
	for (int i = 0; i < CALLS; i++) {
		if (engine_call(add_one, &shared_count) < 1)
			return (void *)1;
	}
	return NULL;
}

static void engine_call__many_threads__none_lost(void **state)
{
	(void)state;
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
	(void)arg;
	for (int i = 0; i < 100; i++)
		engine_stop(0);
	return NULL;
}

static void engine_call__while_others_stop_it__none_lost(void **state)
{
	(void)state;
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
	(void)e;
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
	(void)state;
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
	(void)state;
	int n = 0;
	mem_test_fail_nth(1);
	assert_int_equal(engine_call(add_one, &n), -1);
	assert_int_equal(errno, ENOMEM);
	mem_test_fail_nth(0);
	assert_false(engine_running());
	assert_int_equal(mem_test_live(), live_before);
	assert_int_equal(engine_call(add_one, &n), 1);
}

/* ---- signals ------------------------------------------------------------- */

static atomic_int handled, handled_by_engine, engine_tid;

static void on_signal(int sig)
{
	(void)sig;
	atomic_fetch_add(&handled, 1);
	if ((int)syscall(SYS_gettid) == atomic_load(&engine_tid))
		atomic_fetch_add(&handled_by_engine, 1);
}

static void many_calls(int n)
{
	for (int i = 0; i < n; i++)
		CHECK(engine_call(nothing, NULL) == 0);
}

/* Calls, each finding the engine asleep or nearly so. */
static void sparse_calls(int n)
{
	for (int i = 0; i < n; i++) {
		CHECK(engine_call(nothing, NULL) == 0);
		for (int j = 0; j < 200; j++)
			sched_yield();
	}
}

static void urg_ignored(void)
{
	signal(SIGURG, SIG_IGN);
	sparse_calls(300);
}

static void urg_handled(void)
{
	signal(SIGURG, on_signal);
	signal(SIGUSR1, on_signal);
	atomic_store(&engine_tid, engine_call(its_tid, NULL));
	for (int i = 0; i < 300; i++) {
		kill(getpid(), SIGURG);
		kill(getpid(), SIGUSR1);
		sparse_calls(1);
	}
	CHECK(atomic_load(&handled) == 600);
	CHECK(atomic_load(&handled_by_engine) == 0);
}

static void urg_blocked_and_waited_for(void)
{
	sigset_t set, pending;
	sigemptyset(&set);
	sigaddset(&set, SIGURG);
	sigprocmask(SIG_BLOCK, &set, NULL);
	for (int i = 0; i < 100; i++) {
		kill(getpid(), SIGURG);
		sparse_calls(5);
		/* The application's own signal was not eaten by the engine. */
		CHECK(!sigpending(&pending) && sigismember(&pending, SIGURG));
		siginfo_t si;
		CHECK(sigwaitinfo(&set, &si) == SIGURG);
		CHECK(si.si_code == SI_USER);
		CHECK(!sigpending(&pending) && !sigismember(&pending, SIGURG));
	}
}

static void engine_call__sigurg__whatever_the_application_does_with_it(void **state)
{
	(void)state;
	in_child(urg_ignored);
	in_child(urg_handled);
	in_child(urg_blocked_and_waited_for);
}

static atomic_bool enough;

static void *ignore_again_and_again(void *arg)
{
	(void)arg;
	while (!atomic_load(&enough)) {
		signal(SIGURG, SIG_IGN);	/* throws away what is pending, the engine's wake-up too */
		signal(SIGURG, SIG_DFL);
		/* not a wait for anything: without a pause hardly any wake-up would ever survive */
		nanosleep(&(const struct timespec){ .tv_nsec = 20000 }, NULL);
	}
	return NULL;
}

static void urg_thrown_away(void)
{
	pthread_t t;
	CHECK(!pthread_create(&t, NULL, ignore_again_and_again, NULL));
	sparse_calls(300);
	atomic_store(&enough, true);
	pthread_join(t, NULL);
}

static void engine_call__wakeup_thrown_away__repeated(void **state)
{
	(void)state;
	in_child(urg_thrown_away);
}

static void *interrupt(void *arg)
{
	pthread_t victim = *(pthread_t *)arg;
	while (!atomic_load(&enough))
		pthread_kill(victim, SIGUSR1);
	return NULL;
}

static void interrupted(void)
{
	pthread_t t, me = pthread_self();
	struct sigaction sa = { .sa_handler = on_signal };
	sigaction(SIGUSR1, &sa, NULL);
	CHECK(!pthread_create(&t, NULL, interrupt, &me));
	many_calls(2000);
	atomic_store(&enough, true);
	pthread_join(t, NULL);
}

static void engine_call__signals_to_the_caller__not_interrupted(void **state)
{
	(void)state;
	in_child(interrupted);
}

/* ---- descriptors --------------------------------------------------------- */

static int open_fds(void)
{
	int n = 0;
	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void close_everything(void)
{
	int before = open_fds();
	many_calls(10);
	CHECK(open_fds() == before);
	closefrom(3);
	sparse_calls(50);
	closefrom(0);
	sparse_calls(50);
}

static void engine__closefrom__not_hurt(void **state)
{
	(void)state;
	in_child(close_everything);
}

static struct { struct source s; int ends[2]; int n; uint32_t seen; } tap;

static void tap_ready(struct source *s, uint32_t events)
{
	char c;
	tap.seen |= events;
	while (read(s->fd, &c, 1) == 1)
		tap.n++;
}

static int take(struct engine *e, void *arg)
{
	int fd = engine_take_fd(e, *(int *)arg);
	if (fd < 0)
		return -1;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return source_add(e, &tap.s, fd, EPOLLIN | EPOLLRDHUP, tap_ready);
}

static int tap_taken(struct engine *e, void *arg)
{
	(void)e, (void)arg;
	return tap.n;
}

static int tap_close(struct engine *e, void *arg)
{
	(void)arg;
	source_close(e, &tap.s);
	source_close(e, &tap.s);
	return 0;
}

static void engine_take_fd__pair__lives_in_the_engine_only(void **state)
{
	(void)state;
	int pair[2];
	char c;
	memset(&tap, 0, sizeof(tap));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(engine_call(take, &pair[1]), 0);
	close(pair[1]);
	assert_int_equal(write(pair[0], "abc", 3), 3);
	while (engine_call(tap_taken, NULL) < 3)
		;
	struct pollfd p = { .fd = pair[0], .events = POLLIN };
	assert_int_equal(poll(&p, 1, 0), 0);
	assert_int_equal(engine_call(tap_close, NULL), 0);
	assert_int_equal(read(pair[0], &c, 1), 0);
	close(pair[0]);
	int bad = 250;
	assert_int_equal(engine_call(take, &bad), -1);
	assert_int_equal(errno, EBADF);
}

static void engine_stop__open_source__closed_when_it_returns(void **state)
{
	(void)state;
	int pair[2];
	char c;
	memset(&tap, 0, sizeof(tap));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(engine_call(take, &pair[1]), 0);
	close(pair[1]);
	engine_stop(0);
	assert_int_equal(read(pair[0], &c, 1), 0);
	close(pair[0]);
}

/* The engine must not keep alive what was open when it was started. */
static void engine__started_late__holds_nothing_open(void **state)
{
	(void)state;
	int pipes[2], out[2];
	char c;
	assert_int_equal(pipe2(pipes, O_NONBLOCK), 0);
	assert_int_equal(pipe2(out, O_NONBLOCK), 0);
	fflush(stdout);
	int saved = dup(1);
	dup2(out[1], 1);
	close(out[1]);
	engine_call(nothing, NULL);
	dup2(saved, 1);
	close(saved);
	close(pipes[1]);
	ssize_t a = read(pipes[0], &c, 1), b = read(out[0], &c, 1);
	assert_int_equal(a, 0);
	assert_int_equal(b, 0);
	close(pipes[0]);
	close(out[0]);
}

/* ---- fork and exit ------------------------------------------------------- */

static void child_of_a_fork(void)
{
	CHECK(!engine_running());
	int n = 0;
	CHECK(engine_call(add_one, &n) == 1);
	CHECK(engine_running());
	many_calls(100);
	engine_stop(0);
	CHECK(!engine_running());
}

/* A child of a process with several threads cannot start one under TSan: it believes the parent's still run. */
static void skip_under_tsan(void)
{
#ifdef __SANITIZE_THREAD__
	skip();
#endif
}

static void fork__child__makes_its_own(void **state)
{
	(void)state;
	skip_under_tsan();
	int tid = engine_call(its_tid, NULL);
	in_child(child_of_a_fork);
	assert_int_equal(engine_call(its_tid, NULL), tid);
}

static void fork__while_threads_call__no_deadlock(void **state)
{
	(void)state;
	skip_under_tsan();
	pthread_t t[2];
	void *failed;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, caller, NULL), 0);
	for (int i = 0; i < 20; i++)
		in_child(child_of_a_fork);
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &failed);
		assert_null(failed);
	}
}

static void fork__bare_clone__makes_its_own(void **state)
{
	(void)state;
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	skip();		/* the sanitizers need their fork handlers */
#endif
	assert_int_equal(engine_call(nothing, NULL), 0);
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		alarm(LIMIT_MS / 1000);
		child_of_a_fork();
		_exit(0);
	}
	reap(pid);
	assert_true(engine_running());
	assert_int_equal(engine_call(nothing, NULL), 0);
}

static void fork__exit_in_child__leaves_parent_alone(void **state)
{
	(void)state;
	int tid = engine_call(its_tid, NULL);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(LIMIT_MS / 1000);
		exit(0);
	}
	reap(pid);
	assert_int_equal(engine_call(its_tid, NULL), tid);
}

static int report_to = -1;	/* of the application; write end of a pipe */

static int hook_report_fd = -1;	/* its copy in the engine */

static int take_report_fd(struct engine *e, void *arg)
{
	(void)arg;
	return hook_report_fd = engine_take_fd(e, report_to);
}

static void report(char c)
{
	if (hook_report_fd >= 0 && write(hook_report_fd, &c, 1) != 1)
		_exit(3);
}

static int idle_after;
static void hook_started(struct engine *e) { engine_set_data(e, &report_to); }
static void hook_stop(struct engine *e) { report(engine_data(e) == &report_to ? 's' : '?'); }
static bool hook_idle(struct engine *e) { (void)e; return idle_after-- <= 0; }
static bool hook_ended(struct engine *e) { (void)e; report('e'); return true; }
static bool hook_never_idle(struct engine *e) { (void)e; return false; }

static const struct engine_hooks reporting = { .started = hook_started, .stop = hook_stop, .idle = hook_idle, .ended = hook_ended };

static void exit__running_engine__is_stopped_in_order(void **state)
{
	(void)state;
	int p[2];
	char got[8] = { 0 };
	assert_int_equal(pipe(p), 0);
	fflush(NULL);
	pid_t pid = fork();
	if (pid == 0) {
		alarm(LIMIT_MS / 1000);
		report_to = p[1];
		engine_set_hooks(&reporting);
		CHECK(engine_call(take_report_fd, NULL) >= 0);
		exit(0);
	}
	close(p[1]);
	reap(pid);
	assert_int_equal(read(p[0], got, sizeof(got)), 2);
	assert_string_equal(got, "se");
	close(p[0]);
}

static uint64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static void engine_stop__never_idle__lingers_no_longer(void **state)
{
	(void)state;
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
	(void)events;
	int me = s == &two[1].s;
	two[me].calls++;
	source_close(the_engine, &two[!me].s);
	memset(&two[!me].s, 0xee, sizeof(two[0].s));	/* its owner may free it at once */
}

static int add_two(struct engine *e, void *arg)
{
	(void)arg;
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
	(void)e, (void)arg;
	return two[0].calls + two[1].calls;
}

static void source_close__with_its_event_pending__not_called(void **state)
{
	(void)state;
	assert_int_equal(engine_call(add_two, NULL), 0);
	while (engine_call(two_calls, NULL) == 0)
		;
	for (int i = 0; i < 10; i++)
		assert_int_equal(engine_call(two_calls, NULL), 1);
}

/* The one whose event comes first takes over the other's descriptor, and that one's owner goes. */
static struct source heir;
static int heir_calls;

static void heir_ready(struct source *s, uint32_t events)
{
	(void)s, (void)events;
	heir_calls++;
}

static void inherit(struct source *s, uint32_t events)
{
	(void)events;
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

static int get_heir_calls(struct engine *e, void *arg)
{
	(void)e, (void)arg;
	return heir_calls;
}

static void source_move__with_its_event_pending__told_to_the_new_owner(void **state)
{
	(void)state;
	heir_calls = 0;
	assert_int_equal(engine_call(add_heirs, NULL), 0);
	while (!engine_call(get_heir_calls, NULL))
		;
	for (int i = 0; i < 10; i++)
		assert_int_equal(engine_call(two_calls, NULL), 1);
	assert_int_equal(engine_call(get_heir_calls, NULL), 1);
}

static int rearm(struct engine *e, void *arg)
{
	(void)arg;
	return source_set(e, &tap.s, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
}

static int tap_seen(struct engine *e, void *arg)
{
	(void)e, (void)arg;
	return (int)tap.seen;
}

static void source_set__wider__reports_again(void **state)
{
	(void)state;
	int pair[2];
	memset(&tap, 0, sizeof(tap));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(engine_call(take, &pair[1]), 0);
	close(pair[1]);
	assert_int_equal(engine_call(tap_seen, NULL) & EPOLLOUT, 0);
	assert_int_equal(engine_call(rearm, NULL), 0);
	while (!(engine_call(tap_seen, NULL) & EPOLLOUT))
		;
	close(pair[0]);
	while (!(engine_call(tap_seen, NULL) & EPOLLRDHUP))
		;
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
	(void)e;
	memcpy(arg, &clock_test, sizeof(clock_test));
	return 0;
}

static void timer_set__several__fire_in_order_and_not_early(void **state)
{
	(void)state;
	int p[2];
	assert_int_equal(pipe(p), 0);
	assert_int_equal(engine_call(set_timers, &p[1]), 0);
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
	(void)state;
	int p[2];
	assert_int_equal(pipe(p), 0);
	assert_int_equal(engine_call(set_past, &p[1]), 0);
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
	(void)arg;
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
	(void)e;
	memcpy(arg, work_order, sizeof(work_order));
	return work_n;
}

static void engine_defer__twice__runs_once_in_order(void **state)
{
	(void)state;
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
	(void)e, (void)arg;
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
	(void)state;
	int p[2];
	assert_int_equal(pipe(p), 0);
	for (int i = 0; i < 500; i++)
		assert_int_equal(engine_call(nothing, NULL), 0);
	int before = engine_call(cpu_us, NULL);
	assert_int_equal(engine_call(ring_later, &p[1]), 0);
	await_bell(p[0]);
	int used = engine_call(cpu_us, NULL) - before;
	assert_true(used < 20000);
	close(p[0]);
	close(p[1]);
}

/* ---- kernels and sandboxes that refuse ----------------------------------- */

static void deny(const int *calls, size_t n, int err)
{
	struct sock_filter f[16] = { BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)) };
	size_t k = 1;
	for (size_t i = 0; i < n; i++) {
		f[k++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)calls[i], 0, 1);
		f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)err);
	}
	f[k++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog prog = { (unsigned short)k, f };
	CHECK(!prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK(!prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog));
}

static void old_kernel(void)
{
	static const int calls[] = { SYS_epoll_pwait2 };
	int p[2];
	deny(calls, 1, ENOSYS);
	CHECK(!pipe(p));
	sparse_calls(100);
	CHECK(engine_call(set_timers, &p[1]) == 0);
	struct pollfd pfd = { .fd = p[0], .events = POLLIN };
	CHECK(poll(&pfd, 1, LIMIT_MS) == 1);
	CHECK(engine_call(clock_result, &clock_test) == 0);
	CHECK(clock_test.n == 3 && !clock_test.early);
	sparse_calls(100);
}

static void no_unshare(void)
{
	static const int calls[] = { SYS_unshare };
	deny(calls, 1, EPERM);
	many_calls(10);
}

static void no_private_table(void)
{
	static const int calls[] = { SYS_unshare, SYS_close_range };
	deny(calls, 2, EPERM);
	int n = 0;
	CHECK(engine_call(add_one, &n) == -1 && errno == EPERM);
	CHECK(!engine_running() && n == 0);
}

static int engine_fds(struct engine *e, void *arg)
{
	int n = 0;
	(void)e, (void)arg;
	for (int fd = 0; fd < 64; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static void take_and_read(void)
{
	int pair[2], bad = 250;
	char c;
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	for (int i = 0; i < 3; i++) {
		memset(&tap, 0, sizeof(tap));
		CHECK(engine_call_with_fd(take, &pair[1], pair[1]) == 0);
		CHECK(write(pair[0], "abc", 3) == 3);
		while (engine_call(tap_taken, NULL) < 3)
			;
		CHECK(engine_call(tap_close, NULL) == 0);
	}
	int before = engine_call(engine_fds, NULL);
	CHECK(engine_call_with_fd(take, &bad, bad) == -1 && errno == EBADF);
	CHECK(engine_call_with_fd(nothing, NULL, pair[1]) == 0);
	CHECK(engine_call(engine_fds, NULL) == before);
	close(pair[1]);
	CHECK(read(pair[0], &c, 1) == 0);
	engine_stop(0);
}

/* As containers have it. */
static void no_pidfd_getfd(void)
{
	static const int calls[] = { SYS_pidfd_getfd };
	deny(calls, 1, EPERM);
	take_and_read();
}

static void *alone(void *main_thread)
{
	pthread_join(*(pthread_t *)main_thread, NULL);
	take_and_read();
	_exit(0);
}

__attribute__((unused)) static void main_thread_gone(void)
{
	static pthread_t me;
	pthread_t t;
	me = pthread_self();
	CHECK(!pthread_create(&t, NULL, alone, &me));
	pthread_exit(NULL);
}

static void engine_take_fd__caller_brings_it__works_everywhere(void **state)
{
	(void)state;
	in_child(take_and_read);
	in_child(no_pidfd_getfd);
#ifndef __SANITIZE_THREAD__	/* it knows of no main thread that others join */
	in_child(main_thread_gone);
#endif
}

static void engine__system_calls_refused__makes_do_or_says_so(void **state)
{
	(void)state;
	in_child(old_kernel);
	in_child(no_unshare);
	in_child(no_private_table);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(engine_call__result_and_errno__carried),
		T(engine_call__on_the_engine__runs_at_once),
		T(engine_call__many_threads__none_lost),
		T(engine_call__while_others_stop_it__none_lost),
		T(engine_call__cancelled__finishes_first),
		T(engine_call__no_memory__enomem),
		T(engine_call__sigurg__whatever_the_application_does_with_it),
		T(engine_call__wakeup_thrown_away__repeated),
		T(engine_call__signals_to_the_caller__not_interrupted),
		T(engine__closefrom__not_hurt),
		T(engine_take_fd__caller_brings_it__works_everywhere),
		T(engine_take_fd__pair__lives_in_the_engine_only),
		T(engine_stop__open_source__closed_when_it_returns),
		T(engine__started_late__holds_nothing_open),
		T(fork__child__makes_its_own),
		T(fork__while_threads_call__no_deadlock),
		T(fork__bare_clone__makes_its_own),
		T(fork__exit_in_child__leaves_parent_alone),
		T(exit__running_engine__is_stopped_in_order),
		T(engine_stop__never_idle__lingers_no_longer),
		T(source_close__with_its_event_pending__not_called),
		T(source_move__with_its_event_pending__told_to_the_new_owner),
		T(source_set__wider__reports_again),
		T(timer_set__several__fire_in_order_and_not_early),
		T(timer_set__past_from_its_callback__lets_others_run),
		T(engine_defer__twice__runs_once_in_order),
		T(engine__idle__uses_no_cpu),
		T(engine__system_calls_refused__makes_do_or_says_so),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
