/* The socketpair between application and engine: how it is held unwritable, how it ends, and that a dead engine reads
 * as a reset. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sock/sock.h"
#include "support/child.h"

static int pair[2];	/* [0] application's, [1] engine's */
static uint64_t cookie;

static int setup(void **state)
{
	return pair_make(pair, SOCK_CLOEXEC, &cookie);
}

static int teardown(void **state)
{
	close(pair[0]);
	close(pair[1]);
	return 0;
}

static int queued(int fd)
{
	int n = -1;
	assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
	return n;
}

static short polled(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	assert_true(poll(&p, 1, 0) >= 0);
	return p.revents;
}

static void pair_make__one_filler_byte_and_the_cookie_of_the_application(void **state)
{
	uint64_t c;
	socklen_t len = sizeof(c);
	assert_int_equal(queued(pair[1]), 1);
	assert_int_equal(queued(pair[0]), 0);
	assert_int_equal(getsockopt(pair[0], SOL_SOCKET, SO_COOKIE, &c, &len), 0);
	assert_true(c == cookie && c != 0);
	assert_int_equal(polled(pair[0], POLLIN | POLLOUT), POLLOUT);
}

static void pair_make__engine_end_closed__data_then_reset(void **state)
{
	char buf[8];
	assert_int_equal(write(pair[1], "abc", 3), 3);
	close(pair[1]);
	pair[1] = -1;
	assert_int_equal(read(pair[0], buf, sizeof(buf)), 3);
	assert_int_equal(read(pair[0], buf, sizeof(buf)), -1);
	assert_int_equal(errno, ECONNRESET);
}

static void pair_make__byte_drained_before_close__end_of_file(void **state)
{
	char buf[8];
	assert_int_equal(read(pair[1], buf, sizeof(buf)), 1);
	close(pair[1]);
	pair[1] = -1;
	assert_int_equal(read(pair[0], buf, sizeof(buf)), 0);
}

static void pair_make__engine_process_killed__reset(void **state)
{
	char buf[8];
	int p[2];
	assert_int_equal(pipe(p), 0);
	pid_t child = fork_limited();
	if (!child) {
		close(pair[0]);
		if (write(p[1], "x", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(pair[1]);
	pair[1] = -1;
	assert_int_equal(read(p[0], buf, 1), 1);
	kill_child(child);
	assert_int_equal(read(pair[0], buf, sizeof(buf)), -1);
	assert_int_equal(errno, ECONNRESET);
	close(p[0]);
	close(p[1]);
}

/* Filled with the holes of a file if the descriptor is nonblocking, with bytes of memory otherwise. */
static const struct { int buffer, flags; } ways[] = {
	{ PAIR_BUFFER, 0 }, { PAIR_BUFFER, O_NONBLOCK }, { BLOCK_MAILBOX, 0 }, { BLOCK_MAILBOX, O_NONBLOCK },
};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static ssize_t block(size_t way)
{
	assert_int_equal(fcntl(pair[0], F_SETFL, ways[way].flags), 0);
	return pair_block(pair[0], ways[way].buffer);
}

static void pair_block__unwritable_until_unblocked(void **state)
{
	for (size_t i = 0; i < WAYS; i++) {
		ssize_t filler = block(i);
		assert_true(filler > 0);
		assert_int_equal(polled(pair[0], POLLIN | POLLOUT), 0);
		assert_int_equal(send(pair[0], "x", 1, MSG_DONTWAIT), -1);
		assert_int_equal(errno, EAGAIN);
		assert_int_equal(fcntl(pair[0], F_GETFL) & O_NONBLOCK, ways[i].flags);

		assert_int_equal(pair_unblock(pair[1], (size_t)filler), 0);
		assert_int_equal(polled(pair[0], POLLIN | POLLOUT), POLLOUT);
		assert_int_equal(queued(pair[1]), 1);
		assert_int_equal(send(pair[0], "hello", 5, MSG_DONTWAIT), 5);
		assert_int_equal(queued(pair[1]), 6);
		teardown(state);
		assert_int_equal(setup(state), 0);
	}
}

static void pair_unblock__wakes_who_polls(void **state)
{
	for (size_t i = 0; i < WAYS; i++) {
		ssize_t filler = block(i);
		struct pollfd p = { .fd = pair[0], .events = POLLOUT };
		pid_t child = fork_limited();
		if (!child) {
			struct pollfd wait = { .fd = -1 };
			poll(&wait, 1, 20);
			_exit(pair_unblock(pair[1], (size_t)filler));
		}
		assert_int_equal(poll(&p, 1, 10000), 1);
		assert_int_equal(p.revents, POLLOUT);
		assert_int_equal(wait_child(child), 0);
		teardown(state);
		assert_int_equal(setup(state), 0);
	}
}

static void pair_block__engine_end_closed__error_and_hangup(void **state)
{
	assert_true(pair_block(pair[0], PAIR_BUFFER) > 0);
	close(pair[1]);
	pair[1] = -1;
	assert_true((polled(pair[0], POLLOUT) & (POLLERR | POLLHUP)) == (POLLERR | POLLHUP));
}

static void pair_go__is_taken_before_everything_else(void **state)
{
	char buf[8];
	assert_int_equal(pair_go(pair[1]), 0);
	assert_int_equal(write(pair[1], "data", 4), 4);
	assert_int_equal(pair_await_go(pair[0]), 0);
	assert_int_equal(read(pair[0], buf, sizeof(buf)), 4);
}

static void pair_await_go__engine_died__econnreset(void **state)
{
	close(pair[1]);
	pair[1] = -1;
	assert_int_equal(pair_await_go(pair[0]), -1);
	assert_int_equal(errno, ECONNRESET);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(pair_make__one_filler_byte_and_the_cookie_of_the_application),
		T(pair_make__engine_end_closed__data_then_reset),
		T(pair_make__byte_drained_before_close__end_of_file),
		T(pair_make__engine_process_killed__reset),
		T(pair_block__unwritable_until_unblocked),
		T(pair_unblock__wakes_who_polls),
		T(pair_block__engine_end_closed__error_and_hangup),
		T(pair_go__is_taken_before_everything_else),
		T(pair_await_go__engine_died__econnreset),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
