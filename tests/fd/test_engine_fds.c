/* Descriptors of io/engine: it has a table of its own, so nothing that the application opens or closes touches its
 * descriptors, and it keeps none of the application's open. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/child.h"
#include "support/enginetest.h"
#include "support/sandbox.h"

/* Of the thread that calls: the engine has a table of its own. */
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
	in_child(close_everything);
}

static struct { struct source s; int n; uint32_t seen; } tap;

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
	return tap.n;
}

static int tap_close(struct engine *e, void *arg)
{
	source_close(e, &tap.s);
	source_close(e, &tap.s);
	return 0;
}

static void engine_take_fd__pair__lives_in_the_engine_only(void **state)
{
	int pair[2];
	char c;
	memset(&tap, 0, sizeof(tap));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(engine_call_with_fd(take, &pair[1], pair[1]), 0);
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
	assert_int_equal(engine_call_with_fd(take, &bad, bad), -1);
	assert_int_equal(errno, EBADF);
}

static void engine_stop__open_source__closed_when_it_returns(void **state)
{
	int pair[2];
	char c;
	memset(&tap, 0, sizeof(tap));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	assert_int_equal(engine_call_with_fd(take, &pair[1], pair[1]), 0);
	close(pair[1]);
	engine_stop(0);
	assert_int_equal(read(pair[0], &c, 1), 0);
	close(pair[0]);
}

/* The engine must not keep alive what was open when it was started. */
static void engine__started_late__holds_nothing_open(void **state)
{
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

static int rearm(struct engine *e, void *arg)
{
	return source_set(e, &tap.s, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
}

static int tap_seen(struct engine *e, void *arg)
{
	return (int)tap.seen;
}

static void source_set__wider__reports_again(void **state)
{
	int pair[2];
	memset(&tap, 0, sizeof(tap));
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
	assert_int_equal(engine_call_with_fd(take, &pair[1], pair[1]), 0);
	close(pair[1]);
	assert_int_equal(engine_call(tap_seen, NULL) & EPOLLOUT, 0);
	assert_int_equal(engine_call(rearm, NULL), 0);
	while (!(engine_call(tap_seen, NULL) & EPOLLOUT))
		;
	close(pair[0]);
	while (!(engine_call(tap_seen, NULL) & EPOLLRDHUP))
		;
}

static int engine_fds(struct engine *e, void *arg)
{
	return open_fds();
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
	deny_calls(calls, 1, EPERM);
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
	in_child(take_and_read);
	in_child(no_pidfd_getfd);
#ifndef __SANITIZE_THREAD__	/* it knows of no main thread that others join */
	in_child(main_thread_gone);
#endif
}

#define T(f) cmocka_unit_test_setup_teardown(f, engine_setup, engine_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(engine__closefrom__not_hurt),
		T(engine_take_fd__caller_brings_it__works_everywhere),
		T(engine_take_fd__pair__lives_in_the_engine_only),
		T(engine_stop__open_source__closed_when_it_returns),
		T(engine__started_late__holds_nothing_open),
		T(source_set__wider__reports_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
