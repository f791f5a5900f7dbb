#include "support/expect.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "support/loopback.h"

void expect_text(int fd, const char *text)
{
	char buf[64];
	int end;
	size_t n = strlen(text);
	assert_true(n <= sizeof(buf));
	assert_int_equal(read_upto(fd, buf, n, &end), n);
	assert_memory_equal(buf, text, n);
	assert_int_equal(end, 0);
}

void expect_end(int fd, int want)
{
	char c;
	int end;
	assert_int_equal(read_upto(fd, &c, 1, &end), 0);
	assert_int_equal(end, want);
}

/* No event tells it beforehand: a descriptor whose reader has gone stays writable. */
void expect_epipe(int fd)
{
	for (ssize_t n; (n = send(fd, "xxxxxxxx", 8, MSG_NOSIGNAL)) == 8;)
		poll(NULL, 0, 1);
	assert_int_equal(errno, EPIPE);
}

void expect_error(int fd, enum qsock_error_kind kind, uint64_t code, int by_peer)
{
	struct qsock_error err;
	assert_int_equal(qsock_error(fd, &err), 0);
	assert_int_equal(err.kind, kind);
	assert_int_equal(err.code, code);
	assert_int_equal(err.by_peer, by_peer);
}
