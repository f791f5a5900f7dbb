/* What holders of descriptors should not do with them, by mistake or malice: the engine goes on, other connections
 * notice nothing, and nothing stays. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "sock/sock.h"
#include "support/child.h"
#include "support/loopback.h"

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
	loopback_teardown(state);
	qsock_shutdown(1000);
	return 0;
}

static void expect_echo(const int c[2])
{
	char buf[5];
	int s[2], end;
	loopback_stream(c, s, 0);
	write_all(s[0], "hello", 5);
	assert_int_equal(read_upto(s[1], buf, 5, &end), 5);
	assert_memory_equal(buf, "hello", 5);
	close(s[0]);
	close(s[1]);
}

/* A whole turn of the engine lies between two calls. */
static void engine_turn(int fd)
{
	struct qsock_info info = { .size = sizeof(info) };
	for (int i = 0; i < 2; i++)
		assert_int_equal(qsock_info(fd, &info), 0);
}

static uint64_t cookie_of(int fd)
{
	uint64_t cookie;
	assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &(socklen_t){ sizeof(cookie) }), 0);
	return cookie;
}

/* ---- bytes that are no records -------------------------------------------- */

static atomic_bool babbling;

static void *babble(void *arg)
{
	static const char junk[65536] = { 0x55 };
	while (atomic_load(&babbling))
		if (send(*(int *)arg, junk, sizeof(junk), MSG_NOSIGNAL) < 0)
			break;
	return NULL;
}

static void connection__written_to_without_end__others_go_on(void **state)
{
	pthread_t thread[2];
	int other[2];
	loopback_pair(*state, other);
	atomic_store(&babbling, true);
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, babble, &conn[0]), 0);
	for (int i = 0; i < 20; i++)
		expect_echo(other);
	atomic_store(&babbling, false);
	for (int i = 0; i < 2; i++)
		pthread_join(thread[i], NULL);
	expect_echo(other);	/* what is left of it may cost who writes there too a stream */
	close(other[0]);
	close(other[1]);
}

static void connection__garbage_of_every_length__next_open_works(void **state)
{
	static const char junk[200];
	for (size_t n = 1; n <= sizeof(junk); n += 13) {
		assert_int_equal(write(conn[0], junk, n), n);
		engine_turn(conn[0]);
		expect_echo(conn);
	}
}

/* ---- records with the wrong descriptors ------------------------------------- */

static void send_record(int fd, uint8_t flags, uint64_t cookie, uint64_t filler, const int *fds, size_t n)
{
	struct record r = { .type = RECORD_OPEN, .flags = flags, .cookie = cookie, .filler = filler };
	union {
		struct cmsghdr hdr;
		char buf[CMSG_SPACE(8 * sizeof(int))];
	} control = { .buf = { 0 } };
	struct iovec iov = { &r, sizeof(r) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (n) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(h), fds, n * sizeof(int));
	}
	assert_int_equal(sendmsg(fd, &m, MSG_NOSIGNAL), sizeof(r));
}

static void record__with_any_descriptor__engine_goes_on(void **state)
{
	int pipes[2], dgram[2], before = fds_of_engine();
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, dgram), 0);
	assert_int_equal(write(pipes[1], "data", 4), 4);
	assert_int_equal(write(dgram[1], "data", 4), 4);
	const int fds[] = {
		pipes[0], pipes[1], dgram[0], dgram[1], open("/", O_RDONLY), open("/proc/self/exe", O_RDONLY),
		open("/dev/zero", O_RDWR), epoll_create1(0), socket(AF_INET, SOCK_STREAM, 0),
		socket(AF_INET, SOCK_DGRAM, 0),
	};
	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		assert_true(fds[i] >= 0);
		send_record(conn[0], i & 1 ? QSOCK_UNI : 0, 0x7000000000000000 + i, 0, &fds[i], 1);
		close(fds[i]);
		expect_echo(conn);
	}
	expect_engine_fds(before);
}

/* What streams write there comes back to the engine as records, which do not convince it. */
static void record__with_the_connection_itself__engine_goes_on(void **state)
{
	static const char junk[100];
	int other[2];
	loopback_pair(*state, other);
	send_record(conn[0], 0, 0x7000000000000000, 0, &conn[0], 1);
	int s = qsock_accept_stream(conn[1], 0);
	assert_true(s >= 0);
	assert_int_equal(send(s, junk, sizeof(junk), MSG_NOSIGNAL), sizeof(junk));
	expect_echo(other);
	close(s);
	expect_echo(other);
	close(other[0]);
	close(other[1]);
}

static void record__too_many_or_no_descriptors__those_after_it_count(void **state)
{
	int spare[3];
	uint64_t cookie;
	for (int n = 0; n <= 3; n += 3) {
		int pair[2], s;
		for (int i = 0; i < 3; i++)
			spare[i] = dup(0);
		assert_int_equal(pair_make(pair, 0, &cookie), 0);
		/* both in one batch, as far as one can see to that */
		for (int i = 0; i < 20; i++)
			send_record(conn[0], 0, 1, 0, spare, (size_t)n);
		send_record(conn[0], 0, cookie, 0, &pair[1], 1);
		close(pair[1]);
		write_all(pair[0], "x", 1);
		wait_for(conn[1], POLLIN);
		s = qsock_accept_stream(conn[1], 0);
		assert_true(s >= 0);
		wait_for(s, POLLIN);
		close(s);
		close(pair[0]);
		for (int i = 0; i < 3; i++)
			close(spare[i]);
	}
}

/* Opened as if there were credit, which there is not: who waits for credit gets it all the same. */
static void record__credit_never_taken__opening_goes_on(void **state)
{
	int app[120], s;
	uint64_t cookie;
	for (int i = 0; i < 100; i++) {
		int pair[2];
		assert_int_equal(pair_make(pair, 0, &cookie), 0);
		send_record(conn[0], 0, cookie, 0, &pair[1], 1);
		close(pair[1]);
		app[i] = pair[0];
	}
	for (int i = 0; i < 100; i++) {
		s = qsock_accept_stream(conn[1], 0);
		assert_true(s >= 0);
		close(s);
		close(app[i]);
	}
	/* a process that has no credit of its own asks the engine */
	for (int i = 0; i < 20; i++) {
		int pair[2];
		assert_int_equal(pair_make(pair, 0, &cookie), 0);
		ssize_t filler = pair_block(pair[0], PAIR_BUFFER);
		send_record(conn[0], RECORD_OPEN_SLOW, cookie, (uint64_t)filler, &pair[1], 1);
		close(pair[1]);
		wait_for(pair[0], POLLOUT);
		close(pair[0]);
	}
	for (int i = 0; i < 300; i++) {
		int c = qsock_open_stream(conn[0], QSOCK_NONBLOCK);
		assert_true(c >= 0);
		wait_for(c, POLLOUT);
		close(c);
		while (poll_now(conn[1], POLLIN))
			close(qsock_accept_stream(conn[1], 0));
	}
}

/* The engine's end is not its alone: what it cannot read whole must not look whole to the peer. */
static void record__end_that_is_tampered_with__stream_is_reset(void **state)
{
	char buf[8];
	int pair[2], end;
	uint64_t cookie;
	assert_int_equal(pair_make(pair, 0, &cookie), 0);
	assert_int_equal(setsockopt(pair[1], SOL_SOCKET, SO_PEEK_OFF, &(int){ 100 }, sizeof(int)), 0);
	send_record(conn[0], 0, cookie, 0, &pair[1], 1);
	write_all(pair[0], "abc", 3);
	shutdown(pair[0], SHUT_WR);
	int s = qsock_accept_stream(conn[1], 0);
	assert_true(s >= 0);
	read_upto(s, buf, sizeof(buf), &end);
	assert_int_equal(end, -1);
	close(s);
	close(pair[0]);
	close(pair[1]);
}

static void record__cookie_of_another__the_other_lives(void **state)
{
	int pair[2], s[2];
	uint64_t cookie;
	loopback_stream(conn, s, 0);
	assert_int_equal(pair_make(pair, 0, &cookie), 0);
	send_record(conn[0], 0, cookie_of(s[0]), 0, &pair[1], 1);
	close(pair[1]);
	wait_for(pair[0], POLLHUP);
	close(pair[0]);
	write_all(s[0], "x", 1);
	wait_for(s[1], POLLIN);
	struct qsock_error err;
	assert_int_equal(qsock_error(s[0], &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_NONE);
	close(s[0]);
	close(s[1]);
}

/* ---- at the limit of descriptors ------------------------------------------------ */

/* Many descriptors in the engine's table, and the number of the next. */
static int crowd[32];

static int make_crowd(struct engine *e, void *arg)
{
	for (int i = 0; i < 32; i++)
		crowd[i] = dup(0);
	return crowd[31] + 1;
}

static int drop_crowd(struct engine *e, void *arg)
{
	for (int i = 0; i < 32; i++)
		close(crowd[i]);
	return 0;
}

static void open_stream__engine_at_the_limit__waits(void **state)
{
	struct rlimit old, low;
	bool sent = false;
	char c;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)engine_call(make_crowd, NULL);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	int s = qsock_open_stream(conn[0], 0);
	if (s >= 0) {
		sent = write(s, "x", 1) == 1;
		engine_turn(conn[0]);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_true(sent);
	engine_call(drop_crowd, NULL);
	wait_for(conn[1], POLLIN);
	int r = qsock_accept_stream(conn[1], 0);
	assert_true(r >= 0);
	assert_int_equal(read(r, &c, 1), 1);
	close(r);
	close(s);
}

static int lowest_free(void)
{
	int fd = dup(0);
	close(fd);
	return fd;
}

/* Or nobody could close what would make room. */
static void accept_stream__at_the_limit__end_is_told(void **state)
{
	struct rlimit old, low;
	int got[2], err[2];
	qsock_close(conn[0], 0, "");
	wait_for(conn[1], POLLHUP);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)lowest_free();
	struct loopback *lb = *state;
	assert_int_equal(fcntl(lb->listener, F_SETFL, O_NONBLOCK), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	got[0] = qsock_accept_stream(conn[1], 0);
	err[0] = errno;
	got[1] = qsock_accept(lb->listener, NULL, NULL);
	err[1] = errno;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(got[0], -1);
	assert_int_equal(err[0], ENOTCONN);
	assert_int_equal(got[1], -1);
	assert_int_equal(err[1], EMFILE);
}

static void open_stream__given_up_at_the_stream_limit__leaves_nothing(void **state)
{
	struct rlimit old, low;
	int s[100], r[100];
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = 1024;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	for (int i = 0; i < 100; i++)
		assert_true((s[i] = qsock_open_stream(conn[0], 0)) >= 0);
	for (int i = 0; i < 100; i++)
		assert_true((r[i] = qsock_accept_stream(conn[1], 0)) >= 0);
	int before = fds_of_engine();
	for (int i = 0; i < 3000; i++) {
		int c = qsock_open_stream(conn[0], QSOCK_NONBLOCK);
		if (c >= 0)
			close(c);
	}
	expect_engine_fds(before);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	for (int i = 0; i < 100; i++) {
		close(s[i]);
		close(r[i]);
	}
}

/* Its close is seen at once: the peer never hears of it. */
static void open_stream__given_up_before_there_is_credit__no_stream(void **state)
{
	int s[100], r[100];
	for (int i = 0; i < 100; i++) {
		assert_true((s[i] = qsock_open_stream(conn[0], 0)) >= 0);
		assert_true((r[i] = qsock_accept_stream(conn[1], 0)) >= 0);
	}
	close(qsock_open_stream(conn[0], QSOCK_NONBLOCK));
	engine_turn(conn[0]);
	for (int i = 0; i < 100; i++) {
		close(s[i]);
		close(r[i]);
	}
	expect_echo(conn);	/* on the next stream that the peer sees */
}

/* ---- what else can be done to a socket --------------------------------------------- */

static void stream__out_of_band__arrives_in_order(void **state)
{
	char buf[64];
	int s[2], end;
	loopback_stream(conn, s, 0);
	for (int i = 0; i < 50; i++) {
		write_all(s[0], "ab", 2);
		assert_int_equal(send(s[0], "c", 1, MSG_OOB), 1);
		if (i % 3 == 0)
			assert_int_equal(send(s[0], "d", 1, MSG_OOB), 1);
		else
			write_all(s[0], "d", 1);
		assert_int_equal(read_upto(s[1], buf, 4, &end), 4);
		assert_memory_equal(buf, "abcd", 4);
	}
	assert_int_equal(send(s[0], "e", 1, MSG_OOB), 1);
	shutdown(s[0], SHUT_WR);
	assert_int_equal(read_upto(s[1], buf, 4, &end), 1);
	assert_int_equal(end, 1);
	close(s[0]);
	close(s[1]);
}

static void stream__descriptors_sent_on_it__bytes_arrive(void **state)
{
	char buf[RECORD_SIZE * 3];
	int s[2], end, before = fds_of_engine();
	loopback_stream(conn, s, 0);
	for (int i = 0; i < 3; i++)
		send_record(s[0], 0, 1, 0, (int[]){ 0, 1 }, 2);
	assert_int_equal(read_upto(s[1], buf, sizeof(buf), &end), sizeof(buf));
	close(s[0]);
	close(s[1]);
	expect_engine_fds(before);
}

/* The engine comes to rest: the process uses next to no CPU for 100 ms, within 10 s. */
static void expect_rest(void)
{
	long us = 1000;
	for (int i = 0; us >= 1000 && i < 100; i++) {
		struct timespec a, b;
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
		poll(NULL, 0, 100);
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
		us = (b.tv_sec - a.tv_sec) * 1000000 + (b.tv_nsec - a.tv_nsec) / 1000;
	}
	assert_true(us < 1000);
}

static void listener__shut_for_reading__no_longer_listens(void **state)
{
	struct loopback *lb = *state;
	assert_int_equal(shutdown(lb->listener, SHUT_RD), 0);
	int fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client)), 0);
	/* the first ones may find it out; they end, and the port is closed to later ones */
	if (!qsock_connect(fd, (struct sockaddr *)&lb->addr, sizeof(lb->addr)))
		wait_for(fd, POLLHUP);
	close(fd);
	fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client)), 0);
	assert_int_equal(qsock_connect(fd, (struct sockaddr *)&lb->addr, sizeof(lb->addr)), -1);
	close(fd);
	expect_rest();
}

static void stream__over_both_ways__still_known(void **state)
{
	struct qsock_error err;
	char c;
	for (int flags = 0; flags <= QSOCK_UNI; flags += QSOCK_UNI) {
		int s[2];
		loopback_stream(conn, s, flags);
		shutdown(s[1], SHUT_WR);
		assert_int_equal(read(s[0], &c, 1), 0);
		shutdown(s[0], SHUT_WR);
		assert_int_equal(read(s[1], &c, 1), 0);
		for (int i = 0; i < 2; i++) {
			wait_for(s[i], POLLHUP);
			assert_int_equal(qsock_error(s[i], &err), 0);
			assert_int_equal(err.kind, QSOCK_ERR_NONE);
			for (uint64_t unsent = 1; unsent;)
				assert_int_equal(qsock_getsockopt(s[i], SOL_QUIC, QSOCK_UNSENT, &unsent,
								  &(socklen_t){ sizeof(unsent) }), 0);
			assert_int_equal(qsock_stream_id(s[i]), -1);
			assert_int_equal(errno, EINVAL);
			close(s[i]);
		}
	}
}

/* ---- fork --------------------------------------------------------------------------- */

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)	/* a fork of their memory maps takes long */
#define FORKS 100
#else
#define FORKS 1000
#endif

static atomic_bool busy;

static void *make_sockets(void *arg)
{
	while (atomic_load(&busy)) {
		int fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
		assert_true(fd >= 0);
		close(fd);
	}
	return NULL;
}

/* The engine gives back a configuration each time a client's connection ends. */
static void *make_connections(void *arg)
{
	const struct loopback *lb = arg;
	while (atomic_load(&busy)) {
		int fd = qsock_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client));
		qsock_connect(fd, (const struct sockaddr *)&lb->addr, sizeof(lb->addr));
		qsock_close(fd, 1, "");
		close(fd);
	}
	return NULL;
}

static void fork__while_the_engine_is_asked__no_deadlock(void **state)
{
	pthread_t thread[3];
	atomic_store(&busy, true);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, i ? make_sockets : make_connections, *state), 0);
	for (int i = 0; i < FORKS; i++) {
		pid_t child = fork_limited();
		if (!child)
			_exit(0);
		assert_int_equal(wait_child(child), 0);
	}
	atomic_store(&busy, false);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
}

/* ---- exit ---------------------------------------------------------------------------- */

static void late_handler(void)
{
	_exit(qsock_socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

static void exit__handlers_that_run_last__get_no_engine(void **state)
{
	pid_t child = fork_limited();
	if (!child) {
		execl("/proc/self/exe", "test_abuse_fd", "late", NULL);
		_exit(99);
	}
	assert_int_equal(wait_child(child), 0);
}

int main(int argc, char **argv)
{
	if (argc == 2 && !strcmp(argv[1], "late")) {
		atexit(late_handler);
		exit(qsock_socket(AF_INET, SOCK_STREAM, 0) < 0);
	}
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(connection__garbage_of_every_length__next_open_works),
		T(record__with_any_descriptor__engine_goes_on),
		T(record__with_the_connection_itself__engine_goes_on),
		T(record__too_many_or_no_descriptors__those_after_it_count),
		T(record__credit_never_taken__opening_goes_on),
		T(record__end_that_is_tampered_with__stream_is_reset),
		T(record__cookie_of_another__the_other_lives),
		T(open_stream__engine_at_the_limit__waits),
		T(accept_stream__at_the_limit__end_is_told),
		T(open_stream__given_up_at_the_stream_limit__leaves_nothing),
		T(open_stream__given_up_before_there_is_credit__no_stream),
		T(stream__out_of_band__arrives_in_order),
		T(stream__descriptors_sent_on_it__bytes_arrive),
		T(listener__shut_for_reading__no_longer_listens),
		T(stream__over_both_ways__still_known),
		T(exit__handlers_that_run_last__get_no_engine),
		T(fork__while_the_engine_is_asked__no_deadlock),
		T(connection__written_to_without_end__others_go_on),
	};
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
