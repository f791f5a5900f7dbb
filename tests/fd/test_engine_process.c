/* io/engine in a process that does as it likes: wake-ups under every treatment of SIGURG, signals to callers, forks at
 * any moment, exit. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <openssl/bio.h>

#include "support/child.h"
#include "support/enginetest.h"

/* ---- signals ------------------------------------------------------------- */

static atomic_int handled, handled_by_engine, engine_tid;

static void on_signal(int sig)
{
	atomic_fetch_add(&handled, 1);
	if ((int)syscall(SYS_gettid) == atomic_load(&engine_tid))
		atomic_fetch_add(&handled_by_engine, 1);
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
	in_child(urg_ignored);
	in_child(urg_handled);
	in_child(urg_blocked_and_waited_for);
}

static atomic_bool enough;

static void *ignore_again_and_again(void *arg)
{
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
	in_child(interrupted);
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
	skip_under_tsan();
	int tid = engine_call(its_tid, NULL);
	in_child(child_of_a_fork);
	assert_int_equal(engine_call(its_tid, NULL), tid);
}

static sem_t calling;

static void *call_until_enough(void *arg)
{
	bool failed = engine_call(nothing, NULL);
	sem_post(&calling);
	while (!failed && !atomic_load(&enough))
		failed = engine_call(nothing, NULL);
	return failed ? &calling : NULL;
}

static void fork__while_threads_call__no_deadlock(void **state)
{
	skip_under_tsan();
	pthread_t t[2];
	void *failed;
	sem_init(&calling, 0, 0);
	atomic_store(&enough, false);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(pthread_create(&t[i], NULL, call_until_enough, NULL), 0);
		sem_wait(&calling);
	}
	for (int i = 0; i < 20; i++)
		in_child(child_of_a_fork);
	atomic_store(&enough, true);
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &failed);
		assert_null(failed);
	}
	sem_destroy(&calling);
}

static struct busy {
	struct deferred work;
	struct engine *e;
} busy;

/* Allocators have locks, and OpenSSL takes one for the extra data of each object. */
static void allocate_all_the_time(struct deferred *d)
{
	for (size_t i = 0; i < 100; i++) {
		BIO_free(BIO_new(BIO_s_mem()));
		free(malloc(i * 100));
	}
	engine_defer(busy.e, d);
}

static int keep_busy(struct engine *e, void *arg)
{
	busy = (struct busy){ .work.run = allocate_all_the_time, .e = e };
	engine_defer(e, &busy.work);
	return 0;
}

static void allocating_child(void)
{
	for (size_t i = 0; i < 100; i++) {
		BIO_free(BIO_new(BIO_s_mem()));
		free(malloc(i * 100));
	}
	CHECK(engine_call(nothing, NULL) == 0);
	engine_stop(0);
}

static void fork__busy_engine__its_locks_are_free_in_the_child(void **state)
{
	skip_under_tsan();
	assert_int_equal(engine_call(keep_busy, NULL), 0);
	for (int i = 0; i < 200; i++)
		in_child(allocating_child);
}

static void *start_and_stop(void *arg)
{
	while (!atomic_load(&enough)) {
		engine_call(keep_busy, NULL);
		engine_stop(0);
	}
	return NULL;
}

static void fork__engine_that_comes_and_goes__its_locks_are_free_in_the_child(void **state)
{
	skip_under_tsan();
#ifdef __SANITIZE_ADDRESS__
	skip();		/* its allocator's own locks are not seen to in a fork, and this thread allocates */
#endif
	pthread_t t;
	atomic_store(&enough, false);
	assert_int_equal(pthread_create(&t, NULL, start_and_stop, NULL), 0);
	for (int i = 0; i < 200; i++)
		in_child(allocating_child);
	atomic_store(&enough, true);
	pthread_join(t, NULL);
}

static void fork__bare_clone__makes_its_own(void **state)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	skip();		/* the sanitizers need their fork handlers */
#endif
	assert_int_equal(engine_call(nothing, NULL), 0);
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	if (pid == 0) {
		leaks_are_the_parents();
		alarm(PROGRAM_LIMIT);
		child_of_a_fork();
		_exit(0);
	}
	assert_int_equal(wait_child(pid), 0);
	assert_true(engine_running());
	assert_int_equal(engine_call(nothing, NULL), 0);
}

static void fork__exit_in_child__leaves_parent_alone(void **state)
{
	int tid = engine_call(its_tid, NULL);
	pid_t pid = fork_limited();
	if (!pid)
		exit(0);
	assert_int_equal(wait_child(pid), 0);
	assert_int_equal(engine_call(its_tid, NULL), tid);
}

static int report_to = -1;	/* of the application; write end of a pipe */
static int hook_report_fd = -1;	/* its copy in the engine */

static int take_report_fd(struct engine *e, void *arg)
{
	return hook_report_fd = engine_take_fd(e, report_to);
}

static void report(char c)
{
	if (hook_report_fd >= 0 && write(hook_report_fd, &c, 1) != 1)
		_exit(3);
}


static void hook_started(struct engine *e) { engine_set_data(e, &report_to); }
static void hook_stop(struct engine *e) { report(engine_data(e) == &report_to ? 's' : '?'); }
static bool hook_idle(struct engine *e) { return true; }
static bool hook_ended(struct engine *e) { report('e'); return true; }

static const struct engine_hooks reporting = {
	.started = hook_started, .stop = hook_stop, .idle = hook_idle, .ended = hook_ended,
};

static void exit__running_engine__is_stopped_in_order(void **state)
{
	int p[2];
	char got[8] = { 0 };
	assert_int_equal(pipe(p), 0);
	pid_t pid = fork_limited();
	if (!pid) {
		report_to = p[1];
		engine_set_hooks(&reporting);
		CHECK(engine_call_with_fd(take_report_fd, NULL, report_to) >= 0);
		exit(0);
	}
	close(p[1]);
	assert_int_equal(wait_child(pid), 0);
	assert_int_equal(read(p[0], got, sizeof(got)), 2);
	assert_string_equal(got, "se");
	close(p[0]);
}

#define T(f) cmocka_unit_test_setup_teardown(f, engine_setup, engine_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(engine_call__sigurg__whatever_the_application_does_with_it),
		T(engine_call__wakeup_thrown_away__repeated),
		T(engine_call__signals_to_the_caller__not_interrupted),
		T(fork__child__makes_its_own),
		T(fork__while_threads_call__no_deadlock),
		T(fork__busy_engine__its_locks_are_free_in_the_child),
		T(fork__engine_that_comes_and_goes__its_locks_are_free_in_the_child),
		T(fork__bare_clone__makes_its_own),
		T(fork__exit_in_child__leaves_parent_alone),
		T(exit__running_engine__is_stopped_in_order),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
