/* How a stream ends, as its reader sees it: a clean end is 0; every other is -1/ECONNRESET after all that
 * arrived, and qsock_error tells the cause. Truncation never looks like an end of file. */
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
#include <sys/wait.h>
#include <time.h>

#include "support/expect.h"
#include "support/programs.h"

#define LARGE 700000	/* more than the descriptor's own buffers take: the rest waits in the engine */

static char large[LARGE];

static double seconds(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void write_large(int fd)
{
	for (size_t i = 0; i < LARGE; i++)
		large[i] = (char)(i * 2654435761u >> 24);
	for (size_t off = 0; off < LARGE;) {
		ssize_t n = write(fd, large + off, LARGE - off);
		CHECK(n > 0);
		off += (size_t)n;
	}
}

/* Until the peer has acknowledged everything: then it has arrived. */
static void flush(int fd)
{
	uint64_t unsent = 1;
	socklen_t len = sizeof(unsent);
	while (unsent) {
		CHECK(!qsock_getsockopt(fd, SOL_QUIC, QSOCK_UNSENT, &unsent, &len));
		poll(NULL, 0, 1);
	}
}

static size_t read_large(int fd, int *end)
{
	static char buf[65536];
	size_t got = 0;
	for (*end = 0; !*end;) {
		size_t n = read_upto(fd, buf, sizeof(buf), end);
		if (memcmp(buf, large + got, n))
			fail_msg("wrong bytes after %zu", got);
		got += n;
	}
	return got;
}

/* ---- within a process -------------------------------------------------------------- */

/* A receive window that holds all of it, so that it arrives without being read. */
static void pair_with_large_unread(struct loopback *lb, int c[2], int s[2])
{
	lb->server.stream_window = lb->server.conn_window = 2 << 20;
	loopback_listen(lb);
	loopback_pair(lb, c);
	loopback_stream(c, s, 0);
	write_large(s[0]);
	flush(s[0]);
}

static void close_all(int c[2], int s[2])
{
	close_both(s);
	close_both(c);
}

/* What was done before has arrived when a later word on the same connection has. */
static void later_word(const int c[2])
{
	int t[2], end;
	loopback_stream(c, t, 0);
	write_all(t[0], "x", 1);
	assert_int_equal(read_upto(t[1], &(char){ 0 }, 1, &end), 1);
	close(t[0]);
	close(t[1]);
}

static void fin__large_unread__all_then_zero(void **state)
{
	int c[2], s[2], end;
	pair_with_large_unread(*state, c, s);
	assert_int_equal(shutdown(s[0], SHUT_WR), 0);
	assert_int_equal(read_large(s[1], &end), LARGE);
	assert_int_equal(end, 1);
	expect_error(s[1], QSOCK_ERR_NONE, 0, 0);
	write_all(s[1], "back", 4);
	assert_int_equal(shutdown(s[1], SHUT_WR), 0);
	assert_int_equal(read_upto(s[0], large, 5, &end), 4);
	assert_int_equal(end, 1);
	expect_end(s[0], 1);	/* and again */
	expect_error(s[0], QSOCK_ERR_NONE, 0, 0);
	close_all(c, s);
}

/* The connection's clean end does not spoil streams that had theirs. */
static void fin__connection_closed_with_a_code_after__still_zero(void **state)
{
	int c[2], s[2], end;
	pair_with_large_unread(*state, c, s);
	assert_int_equal(shutdown(s[0], SHUT_WR), 0);
	assert_int_equal(shutdown(s[1], SHUT_WR), 0);
	expect_end(s[0], 1);
	later_word(c);
	assert_int_equal(qsock_close(c[0], 3, NULL), 0);
	assert_int_equal(qsock_accept_stream(c[1], 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(read_large(s[1], &end), LARGE);
	assert_int_equal(end, 1);
	close_all(c, s);
}

static void reset__large_unread__all_then_econnreset(void **state)
{
	int c[2], s[2], end;
	pair_with_large_unread(*state, c, s);
	assert_int_equal(qsock_reset(s[0], 4711), 0);
	later_word(c);
	assert_int_equal(read_large(s[1], &end), LARGE);
	assert_int_equal(end, -1);
	expect_error(s[1], QSOCK_ERR_STREAM_RESET, 4711, 1);
	expect_error(s[0], QSOCK_ERR_STREAM_RESET, 4711, 0);
	close_all(c, s);
}

static void qsock_close__large_unread__all_then_econnreset(void **state)
{
	int c[2], s[2], end;
	pair_with_large_unread(*state, c, s);
	assert_int_equal(qsock_close(c[0], 99, "done"), 0);
	assert_int_equal(qsock_accept_stream(c[1], 0), -1);
	assert_int_equal(errno, ECONNRESET);
	expect_error(c[1], QSOCK_ERR_APPLICATION, 99, 1);
	assert_int_equal(read_large(s[1], &end), LARGE);
	assert_int_equal(end, -1);
	expect_error(s[1], QSOCK_ERR_APPLICATION, 99, 1);
	expect_end(s[0], -1);
	expect_error(s[0], QSOCK_ERR_APPLICATION, 99, 0);
	assert_int_equal(qsock_accept_stream(c[0], 0), -1);
	expect_error(c[0], QSOCK_ERR_APPLICATION, 99, 0);
	close_all(c, s);
}

/* Code 0 is a goodbye, but what is cut short by it is cut short. */
static void qsock_close__code_zero__unfinished_streams_are_econnreset(void **state)
{
	int c[2], s[2], end;
	pair_with_large_unread(*state, c, s);
	assert_int_equal(qsock_close(c[0], 0, NULL), 0);
	assert_int_equal(read_large(s[1], &end), LARGE);
	assert_int_equal(end, -1);
	expect_error(s[1], QSOCK_ERR_APPLICATION, 0, 1);
	close_all(c, s);
}

static void qsock_shutdown__what_is_left_open__econnreset(void **state)
{
	int c[2], s[2], end;
	struct loopback *lb = *state;
	pair_with_large_unread(lb, c, s);
	assert_int_equal(qsock_stop_sending(s[1], 1), 0);
	close(s[0]);
	close(s[1]);
	loopback_stream(c, s, 0);
	write_all(s[1], "left", 4);
	flush(s[1]);
	int idle = qsock_socket(AF_INET, SOCK_STREAM, 0);
	assert_true(idle >= 0);
	qsock_shutdown(500);
	char buf[8];
	assert_int_equal(read_upto(s[0], buf, 4, &end), 4);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(qsock_accept_stream(c[i], 0), -1);
		assert_true(errno == ECONNRESET || errno == ENOTCONN);
		assert_int_equal(send(s[i], "x", 1, MSG_NOSIGNAL), -1);
		assert_int_equal(errno, EPIPE);
	}
	assert_int_equal(qsock_accept(lb->listener, NULL, NULL), -1);
	assert_int_equal(errno, ECONNABORTED);
	assert_int_equal(qsock_accept_stream(idle, 0), -1);
	close_all(c, s);
	close(idle);
	close(lb->listener);
	lb->listener = -1;
}

/* What the peer has not accepted nobody owes. */
static void qsock_shutdown__everything_acknowledged__0_without_waiting(void **state)
{
	enum { STREAMS = 400 };		/* more than the mailbox holds */
	int c[2], s[STREAMS];
	struct loopback *lb = *state;
	lb->server.max_streams_bidi = STREAMS;
	loopback_pair(lb, c);
	for (int i = 0; i < STREAMS; i++) {
		assert_true((s[i] = qsock_open_stream(c[0], 0)) >= 0);
		write_all(s[i], "x", 1);
		flush(s[i]);
	}
	assert_int_equal(qsock_shutdown(20000), 0);
	assert_int_equal(qsock_shutdown(0), 0);
	for (int i = 0; i < STREAMS; i++)
		close(s[i]);
	close(c[0]);
	close(c[1]);
}

static void qsock_shutdown__nobody_reads__etimedout(void **state)
{
	int c[2], s[2];
	struct loopback *lb = *state;
	lb->server.stream_window = lb->server.stream_window_max = 65536;
	loopback_pair(lb, c);
	loopback_stream(c, s, 0);
	write_large(s[0]);
	assert_int_equal(qsock_shutdown(50), -1);
	assert_int_equal(errno, ETIMEDOUT);
	close_all(c, s);
}

/* ---- another program is killed -------------------------------------------------------- */

/* Says that what it wrote has arrived, then waits to be killed. */
static int run_writer(struct loopback *lb, int fd)
{
	int c = loopback_connect(lb), s = qsock_open_stream(c, 0);
	CHECK(s >= 0);
	write_large(s);
	flush(s);
	say(fd, 'w');
	hear(fd, '?');
	return 0;
}

static void killed__large_unread__all_then_econnreset(void **state)
{
	struct loopback *lb = *state;
	int fd, end;
	lb->server.stream_window = lb->server.conn_window = 2 << 20;
	loopback_listen(lb);
	pid_t child = role_start(lb, "writer", &fd);
	int c = qsock_accept(lb->listener, NULL, NULL), s = qsock_accept_stream(c, 0);
	assert_true(hear(fd, 'w'));
	write_large(s);		/* for the pattern; it goes nowhere */
	kill_child(child);
	int t = qsock_open_stream(c, 0);	/* a packet to nobody, as all before may have been acknowledged */
	assert_int_equal(qsock_accept_stream(c, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	expect_error(c, QSOCK_ERR_UNREACHABLE, 0, 0);
	assert_int_equal(read_large(s, &end), LARGE);
	assert_int_equal(end, -1);
	expect_error(s, QSOCK_ERR_UNREACHABLE, 0, 0);
	close(t);
	close(s);
	close(c);
	close(fd);
}

/* A server that gives its port away to who asks for the number, answers one stream, and waits to be killed. Its client
 * owes it no acknowledgement then, whose arrival at a closed port would tell what happened before the test asks. */
static int run_server(struct loopback *lb, int fd)
{
	loopback_listen(lb);
	CHECK(write(fd, &lb->addr, sizeof(lb->addr)) == sizeof(lb->addr));
	int c = qsock_accept(lb->listener, NULL, NULL), s = qsock_accept_stream(c, 0);
	CHECK(s >= 0);
	CHECK(write(s, "answer", 6) == 6);
	flush(s);
	say(fd, 'a');
	hear(fd, '?');
	return 0;
}

/* The server of *lb is a program; c and s lead to it. */
static pid_t start_server(struct loopback *lb, struct loopback *there, int *fd, int *c, int *s)
{
	char buf[6];
	int end;
	pid_t child = role_start(lb, "server", fd);
	*there = *lb;
	assert_int_equal(read(*fd, &there->addr, sizeof(there->addr)), sizeof(there->addr));
	*c = loopback_connect(there);
	*s = qsock_open_stream(*c, 0);
	write_all(*s, "x", 1);
	assert_int_equal(read_upto(*s, buf, 6, &end), 6);
	assert_true(hear(*fd, 'a'));
	return child;
}

/* A signal reaches one thread first: until all have stopped or ended, the engine may still acknowledge. */
static void strike(pid_t child, int sig)
{
	siginfo_t info;
	assert_int_equal(kill(child, sig), 0);
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WSTOPPED | WEXITED | WNOWAIT), 0);
}

/* A stopped program's socket still takes datagrams: silence. A killed one's does not: ICMP says so, long before the
 * idle timeout. */
static void lost_server(struct loopback *lb, int sig, uint32_t idle_timeout_ms, enum qsock_error_kind kind)
{
	struct loopback there;
	int fd, c, s;
	lb->client.idle_timeout_ms = idle_timeout_ms;
	pid_t child = start_server(lb, &there, &fd, &c, &s);
	strike(child, sig);
	write_all(s, "more", 4);
	expect_end(s, -1);
	expect_error(s, kind, 0, 0);
	assert_int_equal(send(s, "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	assert_int_equal(qsock_open_stream(c, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	kill_child(child);
	close(s);
	close(c);
	close(fd);
}

static void stopped_server__idle_timeout(void **state)
{
	lost_server(*state, SIGSTOP, 700, QSOCK_ERR_IDLE_TIMEOUT);
}

static void killed_server__unreachable(void **state)
{
	lost_server(*state, SIGKILL, 0, QSOCK_ERR_UNREACHABLE);
}

/* The same server started anew on its port does not know the connection, but how to say so. RFC 9000 10.3 */
static void killed_server__another_on_its_port__stateless_reset(void **state)
{
	struct loopback *lb = *state, there;
	int fd, c, s;
	pid_t child = start_server(lb, &there, &fd, &c, &s);
	kill_child(child);
	int next = qsock_socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(qsock_bind(next, (struct sockaddr *)&there.addr, sizeof(there.addr)), 0);
	assert_int_equal(qsock_setsockopt(next, SOL_QUIC, QSOCK_CONFIG, &lb->server, sizeof(lb->server)), 0);
	assert_int_equal(qsock_listen(next, 1), 0);
	double start = seconds();
	write_all(s, "still there?", 12);
	expect_end(s, -1);
	assert_true(seconds() - start < 10);
	expect_error(s, QSOCK_ERR_STATELESS_RESET, 0, 1);
	assert_int_equal(qsock_accept_stream(c, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	close(s);
	close(c);
	close(next);
	close(fd);
}

/* Hands all it has to the test and waits to be killed: the holder is another process than the engine's. */
static int run_maker(struct loopback *lb, int fd)
{
	loopback_listen(lb);
	int c[2], s[2];
	loopback_pair(lb, c);
	loopback_stream(c, s, 0);
	CHECK(write(s[1], "arrived", 7) == 7);
	flush(s[1]);
	CHECK(fd_send(fd, s[0]) && fd_send(fd, c[0]) && fd_send(fd, lb->listener));
	hear(fd, '?');
	return 0;
}

static void killed_maker__holder_of_its_descriptors__econnreset(void **state)
{
	struct qsock_error err;
	char buf[8];
	int fd, end;
	pid_t child = role_start(*state, "maker", &fd);
	int s = fd_receive(fd), c = fd_receive(fd), l = fd_receive(fd);
	assert_true(s >= 0 && c >= 0 && l >= 0);
	wait_for(s, POLLIN);
	kill_child(child);
	assert_int_equal(read_upto(s, buf, 8, &end), 7);
	assert_memory_equal(buf, "arrived", 7);
	assert_int_equal(end, -1);
	assert_int_equal(qsock_accept_stream(c, 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(qsock_open_stream(c, 0), -1);
	assert_true(errno == ECONNRESET || errno == ENOTCONN);
	assert_int_equal(qsock_accept(l, NULL, NULL), -1);
	assert_int_equal(errno, ECONNABORTED);
	assert_int_equal(qsock_error(s, &err), -1);
	assert_int_equal(errno, EOPNOTSUPP);
	close(s);
	close(c);
	close(l);
	close(fd);
}

/* ---- another program ends --------------------------------------------------------------- */

static int run_exit(struct loopback *lb, int fd)
{
	int c = loopback_connect(lb), s = qsock_open_stream(c, 0);
	CHECK(s >= 0);
	write_large(s);
	return 0;
}

static int run_exit_at_once(struct loopback *lb, int fd)
{
	lb->client.idle_timeout_ms = 700;
	int c = loopback_connect(lb), s = qsock_open_stream(c, 0);
	CHECK(s >= 0);
	write_large(s);
	_exit(0);
}

static int run_exit_of_child(struct loopback *lb, int fd)
{
	int c = loopback_connect(lb);
	pid_t child = fork();
	if (!child) {
		int s = qsock_open_stream(c, 0);
		CHECK(s >= 0);
		write_large(s);
		_exit(0);
	}
	CHECK(!wait_child(child));
	return 0;
}

/* Written just before the end: all of it comes, and a clean end. */
static void exits(struct loopback *lb, const char *role)
{
	int fd, end;
	for (size_t i = 0; i < LARGE; i++)
		large[i] = (char)(i * 2654435761u >> 24);
	loopback_listen(lb);
	pid_t child = role_start(lb, role, &fd);
	int c = qsock_accept(lb->listener, NULL, NULL), s = qsock_accept_stream(c, 0);
	assert_true(s >= 0);
	assert_int_equal(read_large(s, &end), LARGE);
	assert_int_equal(end, 1);
	assert_int_equal(wait_child(child), 0);
	close(s);
	close(c);
	close(fd);
}

static void exit__just_after_writing__delivered(void **state) { exits(*state, "exit"); }
static void exit__of_a_child_that_wrote__delivered(void **state) { exits(*state, "exit_of_child"); }

/* Nobody could deliver the rest: that is no end of file. */
static void exit__without_handlers__econnreset(void **state)
{
	struct loopback *lb = *state;
	int fd, end;
	loopback_listen(lb);
	pid_t child = role_start(lb, "exit_at_once", &fd);
	int c = qsock_accept(lb->listener, NULL, NULL);
	assert_int_equal(wait_child(child), 0);
	int s = qsock_accept_stream(c, 0);
	if (s >= 0) {
		assert_true(read_large(s, &end) <= LARGE);
		assert_int_equal(end, -1);
		close(s);
		s = qsock_accept_stream(c, 0);
	}
	assert_int_equal(s, -1);
	assert_int_equal(errno, ECONNRESET);
	close(c);
	close(fd);
}

/* exit with data that nobody acknowledges, as the test has stopped the only one who could. */
static int run_exit_unheard(struct loopback *lb, int fd)
{
	lb->client.linger_ms = 300;
	int c = loopback_connect(lb), s = qsock_open_stream(c, 0);
	CHECK(s >= 0);
	CHECK(write(s, "x", 1) == 1);
	flush(s);
	say(fd, 'c');
	CHECK(hear(fd, 's'));
	CHECK(write(s, "unheard", 7) == 7);
	return 0;
}

static void exit__idle_peer__waits_no_longer_than_linger_ms(void **state)
{
	struct loopback *lb = *state, there = *lb;
	int server_fd, fd;
	pid_t server = role_start(lb, "server", &server_fd);
	assert_int_equal(read(server_fd, &there.addr, sizeof(there.addr)), sizeof(there.addr));
	pid_t client = role_start(&there, "exit_unheard", &fd);
	assert_true(hear(fd, 'c'));
	strike(server, SIGSTOP);
	double start = seconds();
	say(fd, 's');
	assert_int_equal(wait_child(client), 0);
	assert_true(seconds() - start > 0.25);
	assert_true(seconds() - start < 1.5);	/* the default would be 2 s */
	kill_child(server);
	close(server_fd);
	close(fd);
}

/* Two connections: the peer of one does not read. */
static int run_exit_half_stuck(struct loopback *lb, int fd)
{
	lb->client.linger_ms = 100;
	int stuck = loopback_connect(lb), s = qsock_open_stream(stuck, 0);
	CHECK(s >= 0);
	write_large(s);
	int well = loopback_connect(lb), t = qsock_open_stream(well, 0);
	CHECK(t >= 0);
	CHECK(write(t, "all", 3) == 3);
	return 0;
}

static void exit__one_of_two_peers_does_not_read__the_other_sees_a_clean_end(void **state)
{
	struct loopback *lb = *state;
	char buf[4];
	int fd, end, c[2], s[2];
	lb->server.stream_window = lb->server.stream_window_max = 65536;
	loopback_listen(lb);
	pid_t child = role_start(lb, "exit_half_stuck", &fd);
	for (int i = 0; i < 2; i++) {
		assert_true((c[i] = qsock_accept(lb->listener, NULL, NULL)) >= 0);
		assert_true((s[i] = qsock_accept_stream(c[i], 0)) >= 0);
	}
	assert_int_equal(wait_child(child), 0);
	assert_int_equal(read_upto(s[1], buf, 4, &end), 3);
	assert_int_equal(end, 1);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(qsock_accept_stream(c[i], 0), -1);
		assert_int_equal(errno, i ? ENOTCONN : ECONNRESET);
	}
	while (read_upto(s[0], large, sizeof(large), &end) && !end)
		;
	assert_int_equal(end, -1);
	close_all(c, s);
	close(fd);
}

#define T(f) cmocka_unit_test_setup_teardown(f, loopback_setup, loopback_teardown)

int main(int argc, char **argv)
{
	static const struct role roles[] = {
		{ "writer", run_writer }, { "server", run_server }, { "maker", run_maker }, { "exit", run_exit },
		{ "exit_at_once", run_exit_at_once }, { "exit_of_child", run_exit_of_child },
		{ "exit_unheard", run_exit_unheard }, { "exit_half_stuck", run_exit_half_stuck },
	};
	role_enter(argc, argv, roles, sizeof(roles) / sizeof(*roles));
	const struct CMUnitTest tests[] = {
		T(fin__large_unread__all_then_zero),
		T(fin__connection_closed_with_a_code_after__still_zero),
		T(reset__large_unread__all_then_econnreset),
		T(qsock_close__large_unread__all_then_econnreset),
		T(qsock_close__code_zero__unfinished_streams_are_econnreset),
		T(qsock_shutdown__what_is_left_open__econnreset),
		T(qsock_shutdown__everything_acknowledged__0_without_waiting),
		T(qsock_shutdown__nobody_reads__etimedout),
		T(killed__large_unread__all_then_econnreset),
		T(stopped_server__idle_timeout),
		T(killed_server__unreachable),
		T(killed_server__another_on_its_port__stateless_reset),
		T(killed_maker__holder_of_its_descriptors__econnreset),
		T(exit__just_after_writing__delivered),
		T(exit__of_a_child_that_wrote__delivered),
		T(exit__without_handlers__econnreset),
		T(exit__idle_peer__waits_no_longer_than_linger_ms),
		T(exit__one_of_two_peers_does_not_read__the_other_sees_a_clean_end),
	};
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
