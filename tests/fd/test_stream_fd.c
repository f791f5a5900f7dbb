/* A stream is a descriptor: words both ways, half-close, resets, bulk and back-pressure, the stream limit, children,
 * exit; and whatever is done to descriptors, others go on. The test_promise_ programs ask further. */
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
#include <unistd.h>

#include "support/expect.h"
#include "support/programs.h"

static int conn[2];

static int setup(void **state)
{
	loopback_setup(state);
	loopback_pair(*state, conn);
	return 0;
}

static int teardown(void **state)
{
	close_both(conn);
	return loopback_teardown(state);
}

static void stream__echo(void **state)
{
	int s[2];
	loopback_stream(conn, s, 0);
	write_all(s[0], "hello", 5);
	expect_text(s[1], "hello");
	write_all(s[1], "world", 5);
	expect_text(s[0], "world");
	close_both(s);
}

static void stream__opened_by_the_server_and_silent__arrives(void **state)
{
	const int back[2] = { conn[1], conn[0] };
	int s[2];
	loopback_stream(back, s, 0);
	write_all(s[1], "first", 5);
	expect_text(s[0], "first");
	close_both(s);
}

static void stream__half_close__both_ways(void **state)
{
	int s[2];
	loopback_stream(conn, s, 0);
	write_all(s[0], "question", 8);
	assert_int_equal(shutdown(s[0], SHUT_WR), 0);
	expect_text(s[1], "question");
	expect_end(s[1], 1);
	write_all(s[1], "answer", 6);
	close(s[1]);
	expect_text(s[0], "answer");
	expect_end(s[0], 1);
	close(s[0]);
}

static void stream__written_and_closed_at_once__is_delivered(void **state)
{
	for (int i = 0; i < 50; i++) {
		int s = qsock_open_stream(conn[0], 0), r;
		assert_true(s >= 0);
		write_all(s, "gone", 4);
		close(s);
		r = qsock_accept_stream(conn[1], 0);
		assert_true(r >= 0);
		expect_text(r, "gone");
		expect_end(r, 1);
		close(r);
	}
}

static void stream__unidirectional(void **state)
{
	int s[2];
	char c;
	loopback_stream(conn, s, QSOCK_UNI);
	wait_for(s[0], POLLRDHUP);
	assert_int_equal(read(s[0], &c, 1), 0);
	assert_int_equal(send(s[1], "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	write_all(s[0], "one way", 7);
	close(s[0]);
	expect_text(s[1], "one way");
	expect_end(s[1], 1);
	close(s[1]);
}

static void stream__reset__data_then_econnreset_and_the_code(void **state)
{
	int s[2];
	loopback_stream(conn, s, 0);
	write_all(s[0], "before", 6);
	expect_text(s[1], "before");
	assert_int_equal(qsock_reset(s[0], 77), 0);
	expect_end(s[1], -1);
	expect_error(s[1], QSOCK_ERR_STREAM_RESET, 77, 1);
	assert_int_equal(send(s[0], "x", 1, MSG_NOSIGNAL), -1);
	assert_int_equal(errno, EPIPE);
	/* The other half came back as a reset with the same code. */
	expect_end(s[0], -1);
	close_both(s);
}

static void stream__stop_sending__epipe_while_data_still_flows_back(void **state)
{
	int s[2];
	loopback_stream(conn, s, 0);
	write_all(s[0], "a", 1);
	expect_text(s[1], "a");
	assert_int_equal(qsock_stop_sending(s[1], 9), 0);
	expect_epipe(s[0]);
	expect_error(s[0], QSOCK_ERR_STOP_SENDING, 9, 1);
	write_all(s[1], "still", 5);
	shutdown(s[1], SHUT_WR);
	expect_text(s[0], "still");
	expect_end(s[0], 1);
	close_both(s);
}

static void stream__qsock_close__data_then_econnreset_on_streams_and_connection(void **state)
{
	struct qsock_error err;
	char text[300];
	int s[2];
	loopback_stream(conn, s, 0);
	write_all(s[0], "last", 4);
	expect_text(s[1], "last");
	assert_int_equal(qsock_close(conn[0], 5, "enough"), 0);
	expect_end(s[1], -1);
	expect_end(s[0], -1);
	assert_int_equal(qsock_error(s[1], &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_APPLICATION);
	assert_int_equal(err.code, 5);
	assert_string_equal(err.reason, "enough");
	assert_int_equal(qsock_accept_stream(conn[1], 0), -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(qsock_error(conn[1], &err), 0);
	assert_int_equal(err.code, 5);
	assert_non_null(strstr(qsock_strerror(&err, text, sizeof(text)), "enough"));
	close_both(s);
}

static void connection__closed_after_its_streams__ends_cleanly(void **state)
{
	int s[2];
	loopback_stream(conn, s, 0);
	write_all(s[0], "bye", 3);
	close(s[0]);
	close(conn[0]);
	conn[0] = -1;
	expect_text(s[1], "bye");
	expect_end(s[1], 1);
	close(s[1]);
	assert_int_equal(qsock_accept_stream(conn[1], 0), -1);
	assert_int_equal(errno, ENOTCONN);
}

/* ---- bulk and back-pressure --------------------------------------------------- */

#define BULK (8 << 20)

static uint8_t pattern(size_t i) { return (uint8_t)(i * 2654435761u >> 24); }

static void *bulk_writer(void *arg)
{
	int fd = *(int *)arg;
	static uint8_t buf[65536];
	for (size_t off = 0; off < BULK; off += sizeof(buf)) {
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = pattern(off + i);
		write_all(fd, buf, sizeof(buf));
	}
	shutdown(fd, SHUT_WR);
	return NULL;
}

static void check_bulk(int fd)
{
	static uint8_t buf[100000];
	size_t off = 0;
	ssize_t n;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++, off++)
			if (buf[i] != pattern(off))
				fail_msg("byte %zu is wrong", off);
	assert_int_equal(n, 0);
	assert_int_equal(off, BULK);
}

static void stream__bulk__arrives_whole_and_in_order(void **state)
{
	pthread_t t;
	int s[2];
	loopback_stream(conn, s, 0);
	assert_int_equal(pthread_create(&t, NULL, bulk_writer, &s[0]), 0);
	check_bulk(s[1]);
	pthread_join(t, NULL);
	close_both(s);
}

/* A reader that does not read stops the writer; nothing is lost when it goes on. */
static void stream__slow_reader__writer_gets_eagain(void **state)
{
	static uint8_t buf[65536];
	size_t sent = 0, got = 0;
	int s[2];
	loopback_stream(conn, s, 0);
	fcntl(s[0], F_SETFL, O_NONBLOCK);
	for (;;) {
		struct pollfd p = { .fd = s[0], .events = POLLOUT };
		if (!poll(&p, 1, 500))
			break;
		for (size_t i = 0; i < sizeof(buf); i++)
			buf[i] = pattern(sent + i);
		ssize_t w = write(s[0], buf, sizeof(buf));
		if (w > 0)
			sent += (size_t)w;
		else
			assert_int_equal(errno, EAGAIN);
		assert_true(sent < 64 << 20);
	}
	shutdown(s[0], SHUT_WR);
	for (ssize_t n; (n = read(s[1], buf, sizeof(buf))) > 0;)
		for (ssize_t i = 0; i < n; i++, got++)
			if (buf[i] != pattern(got))
				fail_msg("byte %zu is wrong", got);
	assert_int_equal(got, sent);
	close_both(s);
}

/* ---- limits --------------------------------------------------------------------- */

static void open_stream__at_the_limit__pollout_when_one_ends(void **state)
{
	int s[101], r[100];
	for (int i = 0; i < 100; i++) {
		s[i] = qsock_open_stream(conn[0], 0);
		assert_true(s[i] >= 0);
		r[i] = qsock_accept_stream(conn[1], 0);
		assert_true(r[i] >= 0);
	}
	s[100] = qsock_open_stream(conn[0], QSOCK_NONBLOCK);
	assert_true(s[100] >= 0);
	assert_int_equal(qsock_stream_id(s[100]), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(poll_now(s[100], POLLOUT), 0);
	assert_int_equal(write(s[100], "x", 1), -1);
	assert_int_equal(errno, EAGAIN);
	for (int i = 0; i < 40; i++) {
		close(s[i]);
		close(r[i]);
	}
	assert_int_equal(wait_for(s[100], POLLOUT), POLLOUT);
	assert_int_equal(qsock_stream_id(s[100]), 400);
	write_all(s[100], "late", 4);
	int last = qsock_accept_stream(conn[1], 0);
	expect_text(last, "late");
	close(last);
	close(s[100]);
	for (int i = 40; i < 100; i++) {
		close(s[i]);
		close(r[i]);
	}
}

/* The engine has not looked at the request when it is asked about the stream. */
static void stream_id__just_opened__known(void **state)
{
	for (int round = 0; round < 20; round++) {
		int s[95];
		for (int i = 0; i < 95; i++)
			assert_true((s[i] = qsock_open_stream(conn[0], 0)) >= 0);
		assert_true(qsock_stream_id(s[94]) >= 0);
		for (int i = 0; i < 95; i++) {
			assert_true(qsock_stream_id(s[i]) >= 0);
			close(s[i]);
			close(qsock_accept_stream(conn[1], 0));
		}
	}
}

/* ---- processes -------------------------------------------------------------------- */

/* A child that inherited the connection opens a stream and accepts one. */
static void fork__child_opens_and_accepts_streams(void **state)
{
	pid_t child = fork_limited();
	if (!child) {
		char buf[8];
		int s = qsock_open_stream(conn[0], 0);
		CHECK(s >= 0);
		CHECK(write(s, "child", 5) == 5);
		close(s);
		s = qsock_accept_stream(conn[0], 0);
		CHECK(s >= 0);
		CHECK(read(s, buf, 2) == 2 && read(s, buf, 1) == 0);
		_exit(0);
	}
	int s = qsock_accept_stream(conn[1], 0);
	expect_text(s, "child");
	expect_end(s, 1);
	close(s);
	s = qsock_open_stream(conn[1], 0);
	write_all(s, "ok", 2);
	shutdown(s, SHUT_WR);
	assert_int_equal(wait_child(child), 0);
	close(s);
}

#define LINGER_BYTES (1 << 20)

/* Roles of programs, see programs.h: the client of a connection. */

static int stream_of_client(struct loopback *lb)
{
	lb->client.idle_timeout_ms = 500;
	int s = qsock_open_stream(loopback_connect(lb), 0);
	CHECK(s >= 0);
	return s;
}

static int run_exit(struct loopback *lb, int fd)
{
	static char buf[LINGER_BYTES];
	write_all(stream_of_client(lb), buf, sizeof(buf));
	return 0;
}

static int run_hang(struct loopback *lb, int fd)
{
	write_all(stream_of_client(lb), "unfinished", 10);
	pause();
	return 1;
}

static int run_stuck(struct loopback *lb, int fd)
{
	static char buf[LINGER_BYTES];
	int s = stream_of_client(lb);
	fcntl(s, F_SETFL, O_NONBLOCK);
	while (poll(&(struct pollfd){ .fd = s, .events = POLLOUT }, 1, 300) == 1)
		CHECK(write(s, buf, sizeof(buf)) > 0 || errno == EAGAIN);
	qsock_shutdown(50);
	return 0;
}

/* Start one, and take its connection and its stream. */
static pid_t start_client(struct loopback *lb, const char *role, int *c, int *s)
{
	int fd;
	pid_t child = role_start(lb, role, &fd);
	close(fd);
	*c = qsock_accept(lb->listener, NULL, NULL);
	assert_true(*c >= 0);
	*s = qsock_accept_stream(*c, 0);
	assert_true(*s >= 0);
	return child;
}

/* exit() waits until what was written is acknowledged. */
static void exit__lingers_until_everything_is_delivered(void **state)
{
	static char buf[LINGER_BYTES];
	size_t got = 0;
	ssize_t n;
	int c, s;
	pid_t child = start_client(*state, "exit", &c, &s);
	while ((n = read(s, buf, sizeof(buf))) > 0)
		got += (size_t)n;
	assert_int_equal(n, 0);
	assert_int_equal(got, sizeof(buf));
	assert_int_equal(wait_child(child), 0);
	close(s);
	close(c);
}

/* Truncation never looks like an end of file: the killed program's peer notices by the idle timeout, or sooner by ICMP
 * if it had something to say. */
static void killed__peer_reads_econnreset(void **state)
{
	struct qsock_error err;
	int c, s;
	pid_t child = start_client(*state, "hang", &c, &s);
	expect_text(s, "unfinished");
	kill_child(child);
	expect_end(s, -1);
	assert_int_equal(qsock_error(s, &err), 0);
	assert_true(err.kind == QSOCK_ERR_IDLE_TIMEOUT || err.kind == QSOCK_ERR_UNREACHABLE);
	close(s);
	close(c);
}

/* What could not be delivered in time ends as an abnormal end at once, not by a timeout. */
static void exit__peer_does_not_read__econnreset(void **state)
{
	static char buf[LINGER_BYTES];
	struct qsock_error err;
	ssize_t n;
	int c, s;
	pid_t child = start_client(*state, "stuck", &c, &s);
	assert_int_equal(wait_child(child), 0);
	while ((n = read(s, buf, sizeof(buf))) > 0)
		;
	assert_int_equal(n, -1);
	assert_int_equal(errno, ECONNRESET);
	assert_int_equal(qsock_error(s, &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_TRANSPORT);
	close(s);
	close(c);
}

/* ---- abuse ---------------------------------------------------------------------------- */

static unsigned seed;

static unsigned dice(unsigned n)
{
	seed = seed * 1103515245u + 12345u;
	return (seed >> 16) % n;
}

static void send_fd(int over, int fd)
{
	union { struct cmsghdr h; char buf[CMSG_SPACE(sizeof(int))]; } control = { 0 };
	char data[64] = "\3";	/* looks like a request to open a stream */
	struct iovec iov = { data, 1 + dice(64) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	control.h = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.h), &fd, sizeof(fd));
	sendmsg(over, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static void misuse(int fd)
{
	static char junk[100000];
	static const int how[] = { SHUT_RD, SHUT_WR, SHUT_RDWR };
	int value = (int)dice(5000);
	switch (dice(11)) {
	case 0: send(fd, junk, 1 + dice(200), MSG_DONTWAIT | MSG_NOSIGNAL); break;
	case 1: send(fd, junk, dice(sizeof(junk)), MSG_DONTWAIT | MSG_NOSIGNAL); break;
	case 2: recv(fd, junk, 1 + dice(100), MSG_DONTWAIT); break;
	case 3: recv(fd, junk, sizeof(junk), MSG_DONTWAIT); break;
	case 4: send(fd, junk, 1, MSG_OOB | MSG_DONTWAIT | MSG_NOSIGNAL); break;
	case 5: send_fd(fd, (int)dice(3)); break;
	case 6: shutdown(fd, how[dice(3)]); break;
	case 7: setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &value, sizeof(value)); break;
	case 8: qsock_reset(fd, dice(100)); break;
	case 9: qsock_stop_sending(fd, dice(100)); break;
	case 10: close(qsock_open_stream(fd, QSOCK_NONBLOCK)); break;
	}
}

/* Whatever is done to descriptors, the engine lives on and others do not notice. */
static void anything_done_to_descriptors__others_go_on(void **state)
{
	struct loopback *lb = *state;
	for (seed = 1; seed < 150; seed++) {
		unsigned round = seed;
		int c[2], s[2], fresh = qsock_socket(AF_INET, SOCK_STREAM, 0);
		struct loopback own = *lb;
		own.listener = -1;
		loopback_pair(&own, c);
		loopback_stream(c, s, dice(2) ? QSOCK_UNI : 0);
		const int fds[] = { c[0], c[1], s[0], s[1], own.listener, fresh };
		for (unsigned i = dice(12); i; i--)
			misuse(fds[dice(6)]);
		for (int i = 0; i < 6; i++)
			close(fds[i]);
		seed = round;
		if (seed % 10 == 0)
			stream__echo(state);
	}
	stream__echo(state);
}

/* ---- nothing stays ------------------------------------------------------------------ */

/* epoll, signal, stderr, pidfd; the listener's end and its port */
#define ENGINE_AT_REST 6

static void descriptors__after_everything_is_closed__as_before(void **state)
{
	struct loopback *lb = *state;
	int c[2], s[2];
	close_both(conn);
	int app = fds_of_application();
	loopback_pair(lb, c);
	loopback_stream(c, s, 0);
	write_all(s[0], "x", 1);
	expect_text(s[1], "x");
	close_both(s);
	close_both(c);
	assert_int_equal(fds_of_application(), app);
	expect_engine_fds(ENGINE_AT_REST);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	static const struct role roles[] = { { "exit", run_exit }, { "hang", run_hang }, { "stuck", run_stuck } };
	role_enter(argc, argv, roles, sizeof(roles) / sizeof(roles[0]));
	const struct CMUnitTest tests[] = {
		T(stream__echo),
		T(stream__opened_by_the_server_and_silent__arrives),
		T(stream__half_close__both_ways),
		T(stream__written_and_closed_at_once__is_delivered),
		T(stream__unidirectional),
		T(stream__reset__data_then_econnreset_and_the_code),
		T(stream__stop_sending__epipe_while_data_still_flows_back),
		T(stream__qsock_close__data_then_econnreset_on_streams_and_connection),
		T(connection__closed_after_its_streams__ends_cleanly),
		T(stream__bulk__arrives_whole_and_in_order),
		T(stream__slow_reader__writer_gets_eagain),
		T(open_stream__at_the_limit__pollout_when_one_ends),
		T(stream_id__just_opened__known),
		T(fork__child_opens_and_accepts_streams),
		T(exit__lingers_until_everything_is_delivered),
		T(killed__peer_reads_econnreset),
		T(exit__peer_does_not_read__econnreset),
		T(anything_done_to_descriptors__others_go_on),
		T(descriptors__after_everything_is_closed__as_before),
	};
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
