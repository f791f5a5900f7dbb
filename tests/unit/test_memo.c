/* What the shim remembers of sockets: it has to be there for a worker that accepts for months. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/socket.h>
#include <unistd.h>

#include "preload/memo.h"

#define SETS (MEMOS / MEMO_WAYS)

static int fd[2];
static uint64_t cookie;

static int setup(void **state)
{
	socklen_t len = sizeof(cookie);
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd))
		return -1;
	return getsockopt(fd[0], SOL_SOCKET, SO_COOKIE, &cookie, &len);
}

static int teardown(void **state)
{
	close(fd[0]);
	close(fd[1]);
	return 0;
}

static void put(uint64_t which, int number, enum memo_state state)
{
	struct memo m = { .cookie = which, .fd = number, .state = state };
	memo_put(&m);
}

static void memo_put__many_that_are_gone__open_one_stays(void **state)
{
	struct memo m;
	put(cookie, fd[0], MEMO_CONNECTED);
	for (uint64_t i = 1; i <= 10 * MEMO_WAYS; i++) {
		put(cookie + i * SETS, -1, MEMO_CONNECTED);
		assert_true(memo_get(cookie + i * SETS, -1, &m));
		assert_true(memo_get(cookie, fd[0], &m));
		assert_true(m.cookie == cookie && m.state == MEMO_CONNECTED);
	}
}

static void memo_get__under_another_number__is_looked_for_there(void **state)
{
	struct memo m;
	int copy = dup(fd[0]);
	put(cookie, fd[0], MEMO_LISTENING);
	close(fd[0]);
	assert_true(memo_get(cookie, copy, &m));
	assert_int_equal(m.fd, copy);
	for (uint64_t i = 1; i <= 2 * MEMO_WAYS; i++)
		put(cookie + i * SETS, -1, MEMO_CONNECTED);
	assert_true(memo_get(cookie, copy, &m));
	fd[0] = copy;
}

/* All of them open, as far as can be told. */
static void memo_put__no_room__listener_stays_and_foreign_goes_first(void **state)
{
	int open_fd[3 * MEMO_WAYS][2];
	uint64_t open_cookie[3 * MEMO_WAYS];
	struct memo m;
	socklen_t len = sizeof(cookie);
	put(cookie, fd[0], MEMO_LISTENING);
	for (int i = 0; i < 3 * MEMO_WAYS; i++) {
		do	/* one of the same set */
			assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, open_fd[i]), 0);
		while (!getsockopt(open_fd[i][0], SOL_SOCKET, SO_COOKIE, &open_cookie[i], &len) &&
		       (open_cookie[i] - cookie) % SETS && !close(open_fd[i][0]) && !close(open_fd[i][1]));
		put(open_cookie[i], open_fd[i][0], MEMO_CONNECTED);
		assert_true(memo_get(open_cookie[i], open_fd[i][0], &m));
	}
	assert_true(memo_get(cookie, fd[0], &m));
	assert_false(memo_get(open_cookie[0], open_fd[0][0], &m));
	put(cookie + SETS, -1, MEMO_FOREIGN);
	put(cookie + 2 * SETS, -1, MEMO_FRESH);
	assert_false(memo_get(cookie + SETS, -1, &m));
	for (int i = 0; i < 3 * MEMO_WAYS; i++) {
		close(open_fd[i][0]);
		close(open_fd[i][1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(memo_put__many_that_are_gone__open_one_stays),
		T(memo_get__under_another_number__is_looked_for_there),
		T(memo_put__no_room__listener_stays_and_foreign_goes_first),
#undef T
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
