/* Queues that live in the kernel: whoever holds the descriptor accepts from it, thread or process, and nothing is lost,
 * doubled or mixed, not even without descriptors to spare. Opening streams from other processes, and at the limit. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "support/programs.h"

#ifdef __SANITIZE_THREAD__
#define CONNECTIONS 24
#else
#define CONNECTIONS 60
#endif
#define STREAMS 300
#define WORKERS 4

static int c[2];

/* ---- who accepts --------------------------------------------------------------------- */

/* The number that the opener sent on this stream, and its clean end. */
static int number_on(int s)
{
	int number = -1;
	CHECK(read(s, &number, sizeof(number)) == sizeof(number));
	CHECK(read(s, &(char){ 0 }, 1) == 0);
	return number;
}

static void send_number(int conn, int number)
{
	int s = qsock_open_stream(conn, 0);
	CHECK(s >= 0);
	CHECK(write(s, &number, sizeof(number)) == sizeof(number));
	close(s);
}

static int listener, report[2];

/* Workers write the numbers they found to the pipe: a write this small is never torn. */
static void *accept_connections(void *arg)
{
	for (;;) {
		int conn = qsock_accept(listener, NULL, NULL);
		if (conn < 0) {
			CHECK(errno == EINVAL || errno == ECONNABORTED);
			return NULL;
		}
		int s = qsock_accept_stream(conn, 0);
		CHECK(s >= 0);
		int number = number_on(s);
		close(s);
		close(conn);
		CHECK(write(report[1], &number, sizeof(number)) == sizeof(number));
	}
}

static void *accept_streams(void *arg)
{
	for (;;) {
		int s = qsock_accept_stream(c[1], 0);
		if (s < 0) {
			CHECK(errno == ENOTCONN || errno == ECONNRESET);
			return NULL;
		}
		int number = number_on(s);
		close(s);
		CHECK(write(report[1], &number, sizeof(number)) == sizeof(number));
	}
}

static void check_numbers(int count)
{
	bool seen[STREAMS] = { false };
	for (int i = 0; i < count; i++) {
		int number;
		assert_int_equal(read(report[0], &number, sizeof(number)), sizeof(number));
		assert_in_range(number, 0, count - 1);
		assert_false(seen[number]);
		seen[number] = true;
	}
}

static void connect_numbered(struct loopback *lb)
{
	for (int i = 0; i < CONNECTIONS; i++) {
		int conn = loopback_connect(lb);
		send_number(conn, i);
		close(conn);
	}
	check_numbers(CONNECTIONS);
}

static void open_numbered(void)
{
	for (int i = 0; i < STREAMS; i++)
		send_number(c[0], i);
	check_numbers(STREAMS);
}

static void accept__several_threads__none_lost_or_doubled(void **state)
{
	struct loopback *lb = *state;
	pthread_t t[WORKERS];
	loopback_listen(lb);
	listener = lb->listener;
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, accept_connections, NULL), 0);
	connect_numbered(lb);
	qsock_close(lb->listener, 0, NULL);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(t[i], NULL);
}

static void accept__several_processes__none_lost_or_doubled(void **state)
{
	struct loopback *lb = *state;
	pid_t child[WORKERS];
	loopback_listen(lb);
	listener = lb->listener;
	for (int i = 0; i < WORKERS; i++) {
		child[i] = fork_limited();
		if (!child[i])
			_exit(accept_connections(NULL) != NULL);
	}
	connect_numbered(lb);
	qsock_close(lb->listener, 0, NULL);
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(wait_child(child[i]), 0);
}

static void accept_stream__several_threads__none_lost_or_doubled(void **state)
{
	pthread_t t[WORKERS];
	loopback_pair(*state, c);
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, accept_streams, NULL), 0);
	open_numbered();
	qsock_close(c[0], 0, NULL);
	for (int i = 0; i < WORKERS; i++)
		pthread_join(t[i], NULL);
	close_both(c);
}

static void accept_stream__several_processes__none_lost_or_doubled(void **state)
{
	pid_t child[WORKERS];
	loopback_pair(*state, c);
	for (int i = 0; i < WORKERS; i++) {
		child[i] = fork_limited();
		if (!child[i])
			_exit(accept_streams(NULL) != NULL);
	}
	open_numbered();
	qsock_close(c[0], 0, NULL);
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(wait_child(child[i]), 0);
	close_both(c);
}

/* ---- one wakes, not all ------------------------------------------------------------------ */

static sem_t accepted;
static _Atomic int woken;
static _Atomic bool stop;

static void *wait_exclusively(void *arg)
{
	struct epoll_event ev = { .events = EPOLLIN | EPOLLEXCLUSIVE };
	int ep = epoll_create1(0);
	CHECK(!epoll_ctl(ep, EPOLL_CTL_ADD, listener, &ev));
	while (epoll_wait(ep, &ev, 1, -1) == 1 && !stop) {
		woken++;
		int conn = qsock_accept(listener, NULL, NULL);
		if (conn < 0) {
			CHECK(errno == EAGAIN);
			continue;
		}
		close(conn);
		sem_post(&accepted);
	}
	close(ep);
	return NULL;
}

static void epollexclusive__one_connection__wakes_one_waiter(void **state)
{
	enum { ROUNDS = 16 };
	struct loopback *lb = *state;
	pthread_t t[WORKERS];
	woken = 0;
	stop = false;
	sem_init(&accepted, 0, 0);
	loopback_listen(lb);
	listener = lb->listener;
	fcntl(listener, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < WORKERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, wait_exclusively, NULL), 0);
	for (int i = 0; i < ROUNDS; i++) {
		int conn = loopback_connect(lb);
		sem_wait(&accepted);
		close(conn);
	}
	/* A herd would be WORKERS times as many; one that comes to wait just then may look once for nothing. */
	assert_in_range(woken, ROUNDS, ROUNDS * 3 / 2);
	stop = true;
	qsock_close(listener, 0, NULL);	/* that is for everyone */
	for (int i = 0; i < WORKERS; i++)
		pthread_join(t[i], NULL);
	sem_destroy(&accepted);
}

/* More than the listener's mailbox holds: who waits outside has streams already. */
static void accept__more_than_fit_in_the_mailbox__streams_and_all(void **state)
{
	enum { MANY = 300 };
	struct loopback *lb = *state;
	static int conn[MANY];
	bool seen[MANY] = { false };
	loopback_listen(lb);
	for (int i = 0; i < MANY; i++) {
		conn[i] = loopback_connect(lb);
		send_number(conn[i], i);
	}
	for (int i = 0; i < MANY; i++) {
		int got = qsock_accept(lb->listener, NULL, NULL);
		assert_true(got >= 0);
		int s = qsock_accept_stream(got, 0);
		assert_true(s >= 0);
		int number = number_on(s);
		assert_in_range(number, 0, MANY - 1);
		assert_false(seen[number]);
		seen[number] = true;
		close(s);
		close(got);
	}
	for (int i = 0; i < MANY; i++)
		close(conn[i]);
}

/* ---- without descriptors to spare ------------------------------------------------------------ */

static int spare[4096];
static int n_spare;

static void use_up_descriptors(void)
{
	for (n_spare = 0; n_spare < 4096 && (spare[n_spare] = dup(0)) >= 0; n_spare++)
		;
	assert_true(n_spare < 4096);
	assert_int_equal(errno, EMFILE);
}

static void free_descriptors(void)
{
	while (n_spare)
		close(spare[--n_spare]);
}

static void descriptors__used_up__emfile_and_nothing_lost(void **state)
{
	struct loopback *lb = *state;
	struct rlimit limit, few;
	int conn[5], s[5];
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = limit;
	few.rlim_cur = 200;
	setrlimit(RLIMIT_NOFILE, &few);
	loopback_listen(lb);
	loopback_pair(lb, c);
	for (int i = 0; i < 5; i++) {
		conn[i] = loopback_connect(lb);
		send_number(c[0], i);
	}
	wait_for(c[1], POLLIN);
	wait_for(lb->listener, POLLIN);
	use_up_descriptors();
	for (int i = 0; i < 3; i++) {
		assert_int_equal(qsock_accept(lb->listener, NULL, NULL), -1);
		assert_int_equal(errno, EMFILE);
		assert_int_equal(qsock_accept_stream(c[1], 0), -1);
		assert_int_equal(errno, EMFILE);
		assert_int_equal(qsock_open_stream(c[0], 0), -1);
		assert_int_equal(errno, EMFILE);
		assert_int_equal(qsock_open_stream(c[0], QSOCK_NONBLOCK), -1);
		assert_int_equal(errno, EMFILE);
		assert_int_equal(qsock_socket(AF_INET, SOCK_STREAM, 0), -1);
		assert_int_equal(errno, EMFILE);
	}
	/* One is enough to take one; two ends are needed to open one. */
	close(spare[--n_spare]);
	s[0] = qsock_accept_stream(c[1], 0);
	assert_true(s[0] >= 0);
	assert_int_equal(number_on(s[0]), 0);
	assert_int_equal(qsock_accept_stream(c[1], 0), -1);
	assert_int_equal(errno, EMFILE);
	assert_int_equal(qsock_open_stream(c[0], 0), -1);
	assert_int_equal(errno, EMFILE);
	free_descriptors();
	for (int i = 1; i < 5; i++) {
		s[i] = qsock_accept_stream(c[1], 0);
		assert_true(s[i] >= 0);
		assert_int_equal(number_on(s[i]), i);
	}
	for (int i = 0; i < 5; i++) {
		int got = qsock_accept(lb->listener, NULL, NULL);
		assert_true(got >= 0);
		close(got);
		close(conn[i]);
		close(s[i]);
	}
	/* the credit of those that failed is not lost */
	uint64_t credit[2];
	socklen_t len = sizeof(credit);
	assert_int_equal(qsock_getsockopt(c[0], SOL_QUIC, QSOCK_STREAM_CREDIT, credit, &len), 0);
	assert_true(credit[0] >= 95);
	for (int i = 0; i < 5; i++)
		send_number(c[0], i);
	close_both(c);
	setrlimit(RLIMIT_NOFILE, &limit);
}

/* The engine's own table is full, as a parent's may be whose children use the streams: what they open and what the peer
 * opens waits until there is room. */
static void descriptors__of_the_engine_used_up__streams_wait(void **state)
{
	enum { COUNT = 10 };
	struct rlimit limit, few;
	int go[2];
	bool seen[COUNT] = { false };
	loopback_pair(*state, c);
	assert_int_equal(pipe(go), 0);
	pid_t child = fork_limited();
	if (!child) {
		CHECK(hear(go[0], 'g'));
		for (int i = 0; i < COUNT; i++)
			send_number(c[0], i);
		_exit(0);
	}
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	few = limit;
	few.rlim_cur = 4;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &few), 0);
	assert_int_equal(qsock_open_stream(c[0], 0), -1);
	assert_int_equal(errno, EMFILE);
	assert_int_equal(write(go[1], "g", 1), 1);
	assert_int_equal(poll(&(struct pollfd){ .fd = c[1], .events = POLLIN }, 1, 100), 0);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	for (int i = 0; i < COUNT; i++) {
		int s = qsock_accept_stream(c[1], 0);
		assert_true(s >= 0);
		int number = number_on(s);
		assert_in_range(number, 0, COUNT - 1);
		assert_false(seen[number]);
		seen[number] = true;
		close(s);
	}
	assert_int_equal(wait_child(child), 0);
	send_number(c[0], 1);
	close(go[0]);
	close(go[1]);
	close_both(c);
}

/* ---- other processes -------------------------------------------------------------------------- */

/* Gets a listener, a connection and a stream from a program that it does not descend from. */
static int run_holder(struct loopback *lb, int fd)
{
	struct qsock_error err;
	char buf[8];
	int l = fd_receive(fd), conn = fd_receive(fd), s = fd_receive(fd);
	CHECK(l >= 0 && conn >= 0 && s >= 0);
	CHECK(read(s, buf, 5) == 5 && !memcmp(buf, "hello", 5));
	CHECK(write(s, "there", 5) == 5);
	CHECK(!shutdown(s, SHUT_WR));
	CHECK(read(s, buf, 1) == 0);
	int t = qsock_accept_stream(conn, 0);
	CHECK(t >= 0 && number_on(t) == 17);
	close(t);
	for (int i = 0; i < 20; i++)
		send_number(conn, i);
	int got = qsock_accept(l, NULL, NULL);
	CHECK(got >= 0);
	t = qsock_accept_stream(got, 0);
	CHECK(t >= 0 && number_on(t) == 4);
	send_number(got, 5);
	CHECK(qsock_error(s, &err) == -1 && errno == EOPNOTSUPP);
	CHECK(qsock_reset(s, 1) == -1 && errno == EOPNOTSUPP);
	CHECK(qsock_close(conn, 1, NULL) == -1 && errno == EOPNOTSUPP);
	CHECK(qsock_stream_id(s) == -1 && errno == EOPNOTSUPP);
	/* An engine of its own does not confuse it. */
	int own = qsock_socket(AF_INET, SOCK_STREAM, 0);
	CHECK(own >= 0);
	CHECK(qsock_error(s, &err) == -1 && errno == EOPNOTSUPP);
	close(t);
	close(s);
	send_number(conn, 6);
	return 0;
}

static void passed__to_another_program__works_there(void **state)
{
	struct loopback *lb = *state;
	char buf[8];
	int fd, s[2], end;
	loopback_listen(lb);
	loopback_pair(lb, c);
	loopback_stream(c, s, 0);
	pid_t child = role_start(lb, "holder", &fd);
	assert_true(fd_send(fd, lb->listener) && fd_send(fd, c[0]) && fd_send(fd, s[0]));
	close(s[0]);
	write_all(s[1], "hello", 5);
	assert_int_equal(read_upto(s[1], buf, 8, &end), 5);
	assert_int_equal(end, 1);
	close(s[1]);
	send_number(c[1], 17);
	for (int i = 0; i < 20; i++) {
		int t = qsock_accept_stream(c[1], 0);
		assert_int_equal(number_on(t), i);
		close(t);
	}
	int conn = loopback_connect(lb);
	send_number(conn, 4);
	int t = qsock_accept_stream(conn, 0);
	assert_int_equal(number_on(t), 5);
	close(t);
	close(conn);
	t = qsock_accept_stream(c[1], 0);
	assert_int_equal(number_on(t), 6);
	close(t);
	assert_int_equal(wait_child(child), 0);
	close_both(c);
	close(fd);
}

/* ---- at the stream limit ------------------------------------------------------------------------- */

static void limited_pair(struct loopback *lb)
{
	lb->server.max_streams_bidi = 4;
	loopback_listen(lb);
	loopback_pair(lb, c);
}

static void *open_blocking(void *arg)
{
	int *s = arg;
	*s = qsock_open_stream(c[0], 0);
	CHECK(write(report[1], s, sizeof(*s)) == sizeof(*s));
	return NULL;
}

static void open_stream__at_the_limit__blocks_until_one_ends(void **state)
{
	struct pollfd p = { .fd = report[0], .events = POLLIN };
	int s[5], r[4], got;
	pthread_t t;
	limited_pair(*state);
	for (int i = 0; i < 4; i++) {
		assert_true((s[i] = qsock_open_stream(c[0], 0)) >= 0);
		assert_true((r[i] = qsock_accept_stream(c[1], 0)) >= 0);
	}
	assert_int_equal(pthread_create(&t, NULL, open_blocking, &s[4]), 0);
	assert_int_equal(poll(&p, 1, 100), 0);
	for (int i = 0; i < 4; i++) {
		close(s[i]);
		close(r[i]);
	}
	assert_int_equal(read(report[0], &got, sizeof(got)), sizeof(got));
	assert_true(got >= 0);
	pthread_join(t, NULL);
	/* Nobody who waited will find it smaller than others. */
	int size = 0, usual = 0;
	getsockopt(got, SOL_SOCKET, SO_SNDBUF, &size, &(socklen_t){ sizeof(size) });
	int other = qsock_open_stream(c[0], 0);
	getsockopt(other, SOL_SOCKET, SO_SNDBUF, &usual, &(socklen_t){ sizeof(usual) });
	assert_int_equal(size, usual);
	close(other);
	close(got);
	close_both(c);
}

static void open_stream__at_the_limit__so_sndtimeo_and_close_give_up_well(void **state)
{
	struct timeval tv = { .tv_usec = 50000 };
	int s[4], r[4];
	limited_pair(*state);
	for (int i = 0; i < 4; i++) {
		assert_true((s[i] = qsock_open_stream(c[0], 0)) >= 0);
		assert_true((r[i] = qsock_accept_stream(c[1], 0)) >= 0);
	}
	assert_int_equal(setsockopt(c[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), 0);
	assert_int_equal(qsock_open_stream(c[0], 0), -1);
	assert_int_equal(errno, EAGAIN);
	close(qsock_open_stream(c[0], QSOCK_NONBLOCK));
	/* Those who gave up do not take what is there for others; one of them may be seen as an empty stream. */
	for (int i = 0; i < 4; i++) {
		close(s[i]);
		close(r[i]);
	}
	int t = qsock_open_stream(c[0], QSOCK_NONBLOCK);
	wait_for(t, POLLOUT);
	int number = 3;
	write_all(t, &number, sizeof(number));
	close(t);
	for (bool found = false; !found;) {
		int got = qsock_accept_stream(c[1], 0);
		assert_true(got >= 0);
		found = read(got, &number, sizeof(number)) == sizeof(number);
		close(got);
	}
	assert_int_equal(number, 3);
	close_both(c);
}

/* In a child: within the limit, then one that waits, and one that is polled. */
static void open_stream__in_a_child__at_the_limit(void **state)
{
	int go[2], r[6];
	limited_pair(*state);
	assert_int_equal(pipe(go), 0);
	int mine = qsock_open_stream(c[0], 0);
	assert_true((r[0] = qsock_accept_stream(c[1], 0)) >= 0);
	pid_t child = fork_limited();
	if (!child) {
		close(mine);
		int s[3], polled = -1;
		for (int i = 0; i < 3; i++)
			CHECK((s[i] = qsock_open_stream(c[0], 0)) >= 0);
		CHECK((polled = qsock_open_stream(c[0], QSOCK_NONBLOCK)) >= 0);
		CHECK(poll_now(polled, POLLOUT) == 0);
		CHECK(write(polled, "x", 1) == -1 && errno == EAGAIN);
		CHECK(fcntl(polled, F_GETFL) & O_NONBLOCK);
		CHECK(say(c[0], 0) || true);	/* garbage on the mailbox harms nobody */
		CHECK(write(go[1], "f", 1) == 1);
		CHECK(poll(&(struct pollfd){ .fd = polled, .events = POLLOUT }, 1, 20000) == 1);
		CHECK(write(polled, "p", 1) == 1);
		int waited = qsock_open_stream(c[0], 0);
		CHECK(waited >= 0 && write(waited, "w", 1) == 1);
		_exit(0);
	}
	for (int i = 1; i < 4; i++)
		assert_true((r[i] = qsock_accept_stream(c[1], 0)) >= 0);
	assert_true(hear(go[0], 'f'));
	/* The parent's ends; the child still holds its own, so two more must come from these. */
	close(mine);
	close(r[0]);
	assert_true((r[4] = qsock_accept_stream(c[1], 0)) >= 0);
	assert_true(hear(r[4], 'p'));
	/* The server ends one: that is not enough, both have to. */
	assert_int_equal(qsock_stop_sending(r[1], 1), 0);
	assert_int_equal(qsock_reset(r[1], 1), 0);
	assert_true((r[5] = qsock_accept_stream(c[1], 0)) >= 0);
	assert_true(hear(r[5], 'w'));
	assert_int_equal(wait_child(child), 0);
	for (int i = 1; i < 6; i++)
		close(r[i]);
	close(go[0]);
	close(go[1]);
	close_both(c);
}

static int setup(void **state)
{
	assert_int_equal(pipe(report), 0);
	return loopback_setup(state);
}

static int teardown(void **state)
{
	close_both(report);
	return loopback_teardown(state);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(int argc, char **argv)
{
	static const struct role roles[] = { { "holder", run_holder } };
	role_enter(argc, argv, roles, 1);
	const struct CMUnitTest tests[] = {
		T(accept__several_threads__none_lost_or_doubled),
		T(accept__several_processes__none_lost_or_doubled),
		T(accept_stream__several_threads__none_lost_or_doubled),
		T(accept_stream__several_processes__none_lost_or_doubled),
		T(epollexclusive__one_connection__wakes_one_waiter),
		T(accept__more_than_fit_in_the_mailbox__streams_and_all),
		T(descriptors__used_up__emfile_and_nothing_lost),
		T(descriptors__of_the_engine_used_up__streams_wait),
		T(passed__to_another_program__works_there),
		T(open_stream__at_the_limit__blocks_until_one_ends),
		T(open_stream__at_the_limit__so_sndtimeo_and_close_give_up_well),
		T(open_stream__in_a_child__at_the_limit),
	};
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
