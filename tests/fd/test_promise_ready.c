/* Readiness by every call that tells it, and what shutdown, dup, resets and stops look like from both sides. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support/expect.h"
#include "support/loopback.h"

static int c[2], s[2];

static int open_pair(void **state)
{
	loopback_pair(*state, c);
	s[0] = s[1] = -1;
	return 0;
}

static void close_all(void)
{
	close_both(s);
	close_both(c);
}

static void expect(int fd, const char *text, int end)
{
	char buf[64];
	int got_end;
	size_t n = strlen(text), got = read_upto(fd, buf, end ? sizeof(buf) : n, &got_end);
	assert_int_equal(got, n);
	assert_memory_equal(buf, text, n);
	assert_int_equal(got_end, end);
}

/* ---- how to wait ----------------------------------------------------------------------- */

enum way { BY_POLL, BY_SELECT, BY_EPOLL, BY_EPOLL_ET, WAYS };

static int ep[WAYS];

/* Is fd readable (writable with out) within ms? Registered at the first question, and then for good. */
static bool ready(enum way way, int fd, bool out, int ms)
{
	struct pollfd p = { .fd = fd, .events = out ? POLLOUT : POLLIN };
	struct timeval tv = { ms / 1000, ms % 1000 * 1000 };
	const uint32_t want = out ? EPOLLOUT : EPOLLIN;
	struct epoll_event ev = { .events = want | (way == BY_EPOLL_ET ? EPOLLET : 0), .data.fd = fd };
	fd_set set;
	switch (way) {
	case BY_POLL:
		return poll(&p, 1, ms) == 1 && p.revents & p.events;
	case BY_SELECT:
		FD_ZERO(&set);
		FD_SET(fd, &set);
		return select(fd + 1, out ? NULL : &set, out ? &set : NULL, NULL, &tv) == 1;
	default:
		if (epoll_ctl(ep[way], EPOLL_CTL_ADD, fd, &ev) && errno != EEXIST)
			fail();
		return epoll_wait(ep[way], &ev, 1, ms) == 1 && ev.data.fd == fd && ev.events & want;
	}
}

#define SOON 10000

static void readiness(struct loopback *lb, enum way way)
{
	ep[way] = epoll_create1(EPOLL_CLOEXEC);
	assert_false(ready(way, lb->listener, false, 0));
	int client = loopback_connect(lb);
	assert_true(ready(way, lb->listener, false, SOON));
	int server = qsock_accept4(lb->listener, NULL, NULL, SOCK_NONBLOCK);
	assert_false(ready(way, lb->listener, false, 0));
	assert_int_equal(fcntl(lb->listener, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(qsock_accept(lb->listener, NULL, NULL), -1);
	assert_int_equal(errno, EAGAIN);

	assert_false(ready(way, server, false, 0));
	assert_int_equal(qsock_accept_stream(server, 0), -1);
	assert_int_equal(errno, EAGAIN);
	int a = qsock_open_stream(client, 0);
	assert_true(ready(way, server, false, SOON));
	int b = qsock_accept_stream(server, QSOCK_NONBLOCK);
	assert_true(b >= 0);
	assert_true(fcntl(b, F_GETFL) & O_NONBLOCK);
	assert_false(ready(way, server, false, 0));

	assert_false(ready(way, b, false, 0));
	for (int i = 0; i < 3; i++) {		/* each arrival is news, to an edge too */
		write_all(a, "news", 4);
		assert_true(ready(way, b, false, SOON));
		expect(b, "news", 0);
		assert_int_equal(read(b, &(char){ 0 }, 1), -1);
		assert_int_equal(errno, EAGAIN);
		assert_false(ready(way, b, false, 0));
	}
	assert_int_equal(shutdown(a, SHUT_WR), 0);
	assert_true(ready(way, b, false, SOON));
	expect(b, "", 1);

	if (way == BY_EPOLL || way == BY_EPOLL_ET) {
		close(ep[way]);
		ep[way] = epoll_create1(EPOLL_CLOEXEC);
	}
	assert_true(ready(way, b, true, SOON));
	close(b);
	expect(a, "", 1);
	close(a);
	assert_int_equal(fcntl(server, F_SETFL, 0), 0);
	close(client);
	assert_true(ready(way, server, false, SOON));
	assert_int_equal(qsock_accept_stream(server, 0), -1);
	assert_int_equal(errno, ENOTCONN);
	close(server);
	close(ep[way]);
	assert_int_equal(fcntl(lb->listener, F_SETFL, 0), 0);
}

static void ready__by_poll_select_epoll__for_all_descriptors(void **state)
{
	close_all();
	for (enum way way = 0; way < WAYS; way++)
		readiness(*state, way);
	open_pair(state);
}

/* Room to write comes back as an edge. */
static void ready__room_to_write__edge(void **state)
{
	static char buf[65536];
	struct epoll_event ev = { .events = EPOLLOUT | EPOLLET };
	int e = epoll_create1(EPOLL_CLOEXEC);
	size_t sent = 0, got = 0;
	loopback_stream(c, s, QSOCK_UNI);
	fcntl(s[0], F_SETFL, O_NONBLOCK);
	assert_int_equal(epoll_ctl(e, EPOLL_CTL_ADD, s[0], &ev), 0);
	for (int round = 0; round < 3; round++) {
		while (epoll_wait(e, &ev, 1, 300) == 1)
			for (ssize_t n; (n = write(s[0], buf, sizeof(buf))) > 0;)
				sent += (size_t)n;
		while (got < sent) {
			ssize_t n = read(s[1], buf, sizeof(buf));
			assert_true(n > 0);
			got += (size_t)n;
		}
	}
	assert_true(sent > 3 << 20);
	close(e);
	close_all();
}

static void ready__send_buffer_set__still_room_to_write(void **state)
{
	static char block[65536];
	int before = 0, kept = 0, small = 4096;
	loopback_stream(c, s, 0);
	getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &before, &(socklen_t){ sizeof(before) });
	assert_int_equal(qsock_setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	assert_int_equal(qsock_setsockopt(s[0], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	assert_int_equal(qsock_setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, NULL, sizeof(small)), -1);
	assert_int_equal(errno, EFAULT);
	assert_int_equal(qsock_setsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &small, 2), -1);
	assert_int_equal(errno, EINVAL);
	getsockopt(s[0], SOL_SOCKET, SO_SNDBUF, &kept, &(socklen_t){ sizeof(kept) });
	assert_int_equal(kept, before);
	for (int i = 0; i < 5; i++) {
		assert_true(send(s[0], block, sizeof(block), MSG_DONTWAIT) > 0);
		wait_for(s[0], POLLOUT);
	}
	close_all();
}

static void ready__nonblocking_connect__pollout_or_error(void **state)
{
	struct loopback *lb = *state;
	struct sockaddr_in nobody = lb->addr;
	socklen_t len = sizeof(int);
	int err = -1, fd = qsock_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client)), 0);
	assert_int_equal(qsock_connect(fd, (struct sockaddr *)&lb->addr, sizeof(lb->addr)), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_int_equal(wait_for(fd, POLLOUT), POLLOUT);
	assert_int_equal(qsock_getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len), 0);
	assert_int_equal(err, 0);
	close(fd);
	close(qsock_accept(lb->listener, NULL, NULL));

	/* a port that was just free: nobody is there */
	int u = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	nobody.sin_port = 0;
	assert_int_equal(bind(u, (struct sockaddr *)&nobody, sizeof(nobody)), 0);
	assert_int_equal(getsockname(u, (struct sockaddr *)&nobody, &(socklen_t){ sizeof(nobody) }), 0);
	close(u);
	fd = qsock_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client)), 0);
	assert_int_equal(qsock_connect(fd, (struct sockaddr *)&nobody, sizeof(nobody)), -1);
	assert_int_equal(errno, EINPROGRESS);
	assert_true(wait_for(fd, POLLOUT) & (POLLERR | POLLHUP));
	assert_int_equal(qsock_getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len), 0);
	assert_int_equal(err, ECONNREFUSED);
	close(fd);
	close_all();
}

/* ---- ends, as poll shows them ---------------------------------------------------------------- */

static void ends__as_poll_shows_them(void **state)
{
	loopback_stream(c, s, 0);
	assert_int_equal(poll_now(s[1], POLLIN | POLLRDHUP), 0);
	assert_int_equal(shutdown(s[0], SHUT_WR), 0);
	assert_int_equal(wait_for(s[1], POLLRDHUP), POLLRDHUP);	/* no POLLHUP: it can be written to */
	assert_int_equal(poll_now(s[1], POLLIN | POLLOUT | POLLRDHUP), POLLIN | POLLOUT | POLLRDHUP);
	assert_int_equal(poll_now(s[0], POLLIN | POLLRDHUP), 0);
	assert_int_equal(shutdown(s[1], SHUT_WR), 0);
	wait_for(s[0], POLLHUP);
	expect(s[0], "", 1);
	expect(s[1], "", 1);
	close(s[0]);
	close(s[1]);

	loopback_stream(c, s, 0);
	write_all(s[0], "x", 1);
	expect(s[1], "x", 0);
	assert_int_equal(qsock_reset(s[0], 1), 0);
	assert_true(wait_for(s[1], POLLIN | POLLRDHUP) & POLLERR);
	int err = 0;
	assert_int_equal(qsock_getsockopt(s[1], SOL_SOCKET, SO_ERROR, &err, &(socklen_t){ sizeof(err) }), 0);
	assert_int_equal(err, ECONNRESET);
	assert_int_equal(qsock_close(c[0], 1, NULL), 0);
	assert_true(wait_for(c[1], POLLIN) & POLLERR);
	close_all();
}

/* ---- shutdown, both directions -------------------------------------------------------------------- */

static void shutdown__reading__peer_gets_epipe(void **state)
{
	for (int opener = 0; opener < 2; opener++) {
		int way[2] = { c[opener], c[!opener] };
		struct qsock_error err;
		loopback_stream(way, s, 0);
		write_all(s[0], "begin", 5);
		expect(s[1], "begin", 0);
		assert_int_equal(shutdown(s[1], SHUT_RD), 0);
		expect_epipe(s[0]);
		assert_int_equal(qsock_error(s[0], &err), 0);
		assert_int_equal(err.kind, QSOCK_ERR_STOP_SENDING);
		write_all(s[1], "other way", 9);
		assert_int_equal(shutdown(s[1], SHUT_WR), 0);
		expect(s[0], "other way", 1);
		close(s[0]);
		close(s[1]);
	}
	s[0] = s[1] = -1;
	close_all();
}

static void shutdown__both__as_closed(void **state)
{
	loopback_stream(c, s, 0);
	write_all(s[0], "last", 4);
	assert_int_equal(shutdown(s[0], SHUT_RDWR), 0);
	expect(s[1], "last", 1);
	expect_epipe(s[1]);
	expect(s[0], "", 1);
	close_all();
}

static void close__reader_goes__writer_gets_epipe(void **state)
{
	loopback_stream(c, s, 0);
	write_all(s[0], "x", 1);
	expect(s[1], "x", 0);
	close(s[1]);
	s[1] = -1;
	expect_epipe(s[0]);
	expect(s[0], "", 1);
	close_all();
}

/* ---- resets and stops, from all sides --------------------------------------------------------------- */

/* opener: who opens, actor: which end of the stream acts. */
static void resets(int opener, int actor)
{
	int way[2] = { c[opener], c[!opener] };
	struct qsock_error err;
	loopback_stream(way, s, 0);
	int us = s[actor], them = s[!actor];
	write_all(us, "before", 6);
	expect(them, "before", 0);
	write_all(them, "from there", 10);
	expect(us, "from there", 0);
	assert_int_equal(qsock_reset(us, 1u << 20), 0);
	expect(them, "", -1);
	assert_int_equal(qsock_error(them, &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_STREAM_RESET);
	assert_int_equal(err.code, 1 << 20);
	assert_int_equal(err.by_peer, 1);
	assert_int_equal(err.os_errno, ECONNRESET);
	expect_epipe(us);
	assert_int_equal(qsock_reset(us, 2), -1);
	assert_int_equal(errno, EPIPE);
	close(us);
	close(them);
}

static void stops(int opener, int actor)
{
	int way[2] = { c[opener], c[!opener] };
	struct qsock_error err;
	loopback_stream(way, s, 0);
	int us = s[actor], them = s[!actor];
	write_all(us, "before", 6);
	expect(them, "before", 0);
	assert_int_equal(qsock_stop_sending(us, 33), 0);
	expect_epipe(them);
	assert_int_equal(qsock_error(them, &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_STOP_SENDING);
	assert_int_equal(err.code, 33);
	assert_int_equal(err.by_peer, 1);
	assert_int_equal(err.os_errno, EPIPE);
	write_all(us, "and on", 6);
	shutdown(us, SHUT_WR);
	expect(them, "and on", 1);
	expect(us, "", -1);		/* what was stopped did not end well */
	close(us);
	close(them);
}

static void reset_and_stop_sending__opened_by_either_done_by_either(void **state)
{
	for (int opener = 0; opener < 2; opener++) {
		for (int actor = 0; actor < 2; actor++) {
			resets(opener, actor);
			stops(opener, actor);
		}
	}
	s[0] = s[1] = -1;
	close_all();
}

static void unidirectional__by_either_side__one_way(void **state)
{
	for (int opener = 0; opener < 2; opener++) {
		int way[2] = { c[opener], c[!opener] };
		loopback_stream(way, s, QSOCK_UNI | QSOCK_CLOEXEC);
		assert_true(fcntl(s[0], F_GETFD) & FD_CLOEXEC);
		expect(s[0], "", 1);
		expect_epipe(s[1]);
		assert_int_equal(qsock_reset(s[1], 1), -1);
		assert_int_equal(errno, EPIPE);
		assert_int_equal(qsock_stop_sending(s[0], 1), -1);
		assert_int_equal(errno, EPIPE);
		write_all(s[0], "one", 3);
		expect(s[1], "one", 0);
		if (opener) {
			assert_int_equal(qsock_reset(s[0], 8), 0);
			expect(s[1], "", -1);
		} else {
			assert_int_equal(qsock_stop_sending(s[1], 8), 0);
			expect_epipe(s[0]);
		}
		close(s[0]);
		close(s[1]);
	}
	s[0] = s[1] = -1;
	close_all();
}

/* ---- dup ------------------------------------------------------------------------------------------------- */

static void dup__last_close_counts(void **state)
{
	struct qsock_error err;
	loopback_stream(c, s, 0);
	int d = dup(s[0]), e = fcntl(s[0], F_DUPFD_CLOEXEC, 100), conn = dup(c[0]);
	close(s[0]);
	write_all(d, "by dup", 6);
	expect(s[1], "by dup", 0);
	close(d);
	write_all(e, ", by another", 12);
	expect(s[1], ", by another", 0);
	assert_int_equal(poll_now(s[1], POLLIN | POLLRDHUP), 0);
	assert_int_equal(qsock_stream_id(e), 0);
	assert_int_equal(qsock_error(e, &err), 0);
	close(e);
	expect(s[1], "", 1);
	close(s[1]);
	close(c[0]);
	int pair[2] = { c[0] = conn, c[1] };
	loopback_stream(pair, s, 0);
	write_all(s[0], "still there", 11);
	expect(s[1], "still there", 0);
	close_all();
}

/* dup2 over a stream's number is a close of it. */
static void dup2__onto_a_stream__closes_it(void **state)
{
	int t[2];
	loopback_stream(c, s, 0);
	write_all(s[0], "first", 5);
	loopback_stream(c, t, 0);
	assert_int_equal(dup2(t[0], s[0]), s[0]);
	expect(s[1], "first", 1);
	write_all(s[0], "second", 6);
	expect(t[1], "second", 0);
	close(t[0]);
	close(t[1]);
	close_all();
}

static int setup(void **state)
{
	return loopback_setup(state) || open_pair(state);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, loopback_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(ready__by_poll_select_epoll__for_all_descriptors),
		T(ready__room_to_write__edge),
		T(ready__send_buffer_set__still_room_to_write),
		T(ready__nonblocking_connect__pollout_or_error),
		T(ends__as_poll_shows_them),
		T(shutdown__reading__peer_gets_epipe),
		T(shutdown__both__as_closed),
		T(close__reader_goes__writer_gets_epipe),
		T(reset_and_stop_sending__opened_by_either_done_by_either),
		T(unidirectional__by_either_side__one_way),
		T(dup__last_close_counts),
		T(dup2__onto_a_stream__closes_it),
	};
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
