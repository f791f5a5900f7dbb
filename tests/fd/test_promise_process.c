/* What programs do to themselves: closing every descriptor, forking at bad moments, signals, cancelled threads,
 * nonsense on descriptors. None of it hurts the engine, and nothing of it stays. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "support/programs.h"

static int c[2], s[2];

static void echo_works(const int conn[2])
{
	char buf[4];
	int t[2] = { qsock_open_stream(conn[0], 0), -1 };
	CHECK(t[0] >= 0);
	CHECK(write(t[0], "ping", 4) == 4);
	CHECK((t[1] = qsock_accept_stream(conn[1], 0)) >= 0);
	CHECK(read(t[1], buf, 4) == 4 && !memcmp(buf, "ping", 4));
	close(t[0]);
	CHECK(read(t[1], buf, 4) == 0);
	close(t[1]);
}

static void close_all(void)
{
	close_both(s);
	close_both(c);
}

/* Children of a process with threads cannot start threads under TSan, nor allocate under ASan, whose lock may have been
 * held by another thread. */
static bool children_do_much(void)
{
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
	return false;
#else
	return true;
#endif
}

/* ---- closefrom ------------------------------------------------------------------------------ */

static void works_anew(struct loopback *lb)
{
	int pair[2];
	lb->listener = -1;
	loopback_pair(lb, pair);
	echo_works(pair);
	close(pair[0]);
	close(pair[1]);
}

/* Each time everything works again afterwards, with the same engine. */
static int run_closer(struct loopback *lb, int fd)
{
	int pair[2], t[2];
	CHECK(qsock_socket(AF_INET, SOCK_STREAM, 0) >= 0);
	closefrom(3);				/* right after socket */
	works_anew(lb);

	loopback_listen(lb);
	int conn = qsock_socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	CHECK(!qsock_setsockopt(conn, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client)));
	CHECK(qsock_connect(conn, (struct sockaddr *)&lb->addr, sizeof(lb->addr)) == -1 && errno == EINPROGRESS);
	closefrom(3);				/* while connecting */
	works_anew(lb);

	loopback_listen(lb);
	CHECK((conn = loopback_connect(lb)) >= 0);
	closefrom(3);				/* with a connection in the mailbox */
	works_anew(lb);

	lb->listener = -1;
	loopback_pair(lb, pair);
	for (int i = 0; i < 20; i++) {
		CHECK((t[0] = qsock_open_stream(pair[0], 0)) >= 0);
		CHECK(write(t[0], "for nobody", 10) == 10);
	}
	wait_for(pair[1], POLLIN);
	closefrom(3);				/* with streams in the mailbox */
	works_anew(lb);

	lb->listener = -1;
	loopback_pair(lb, pair);
	loopback_stream(pair, t, 0);
	CHECK(fcntl(t[0], F_SETFL, O_NONBLOCK) == 0);
	static char buf[65536];
	while (write(t[0], buf, sizeof(buf)) > 0)
		;
	closefrom(3);				/* with much under way */
	works_anew(lb);

	for (int i = 0; i < 3; i++)
		close(i);			/* nor are the first three needed */
	works_anew(lb);
	closefrom(0);
	works_anew(lb);
	return 0;
}

static void closefrom__at_bad_moments__everything_works_anew(void **state)
{
	int fd;
	assert_int_equal(wait_child(role_start(*state, "closer", &fd)), 0);
	close(fd);
}

/* ---- fork ------------------------------------------------------------------------------------- */

static _Atomic bool stop;

static void *dial_again_and_again(void *lb)
{
	while (!stop)
		close(loopback_connect(lb));
	return NULL;
}

static void *accept_again_and_again(void *lb)
{
	int conn;
	while ((conn = qsock_accept(((struct loopback *)lb)->listener, NULL, NULL)) >= 0)
		close(conn);
	return NULL;
}

static void *open_again_and_again(void *arg)
{
	while (!stop) {
		int t = qsock_open_stream(c[0], 0);
		CHECK(t >= 0);
		close(t);
	}
	return NULL;
}

static void *take_again_and_again(void *arg)
{
	int t;
	while ((t = qsock_accept_stream(c[1], 0)) >= 0) {
		/* No child holds its other end open for ever. The last ones may be cut off by qsock_close. */
		CHECK(read(t, &(char){ 0 }, 1) == 0 || stop);
		close(t);
	}
	return NULL;
}

static void dial_oneself(struct loopback *lb)
{
	int mine[2];
	alarm(PROGRAM_LIMIT);
	lb->listener = -1;
	loopback_pair(lb, mine);
	echo_works(mine);
}

/* Some exit at once, some use what they inherited, some have connections of their own. */
static void child_of_a_busy_parent(struct loopback *lb, int i)
{
	if (i % 4 == 0)
		_exit(0);
	if (i % 4 == 1 && children_do_much())
		exit(0);
	if (i % 4 == 2) {
		CHECK(write(s[0], "c", 1) == 1);
		_exit(0);
	}
	if (children_do_much())
		dial_oneself(lb);
	_exit(0);
}

static void fork__while_others_connect_and_open__no_harm(void **state)
{
	enum { CHILDREN = 24 };
	struct loopback *lb = *state;
	void *(*const busy[])(void *) = { dial_again_and_again, accept_again_and_again, open_again_and_again,
					  take_again_and_again };
	pthread_t t[4];
	char buf[CHILDREN];
	int end;
	stop = false;
	loopback_pair(lb, c);
	loopback_stream(c, s, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, busy[i], lb), 0);
	for (int i = 0; i < CHILDREN; i++) {
		fflush(NULL);
		pid_t child = fork_limited();
		if (!child)
			child_of_a_busy_parent(lb, i);
		assert_int_equal(wait_child(child), 0);
	}
	stop = true;
	pthread_join(t[0], NULL);
	pthread_join(t[2], NULL);
	assert_int_equal(read_upto(s[1], buf, CHILDREN / 4, &end), CHILDREN / 4);
	qsock_close(lb->listener, 0, NULL);
	qsock_close(c[0], 0, NULL);
	pthread_join(t[1], NULL);
	pthread_join(t[3], NULL);
	close_all();
}

/* A child that goes away takes nothing with it: the parent's streams are open as before. */
static void fork__child_ends__parent_keeps_its_streams(void **state)
{
	char buf[8];
	int end;
	loopback_pair(*state, c);
	loopback_stream(c, s, 0);
	for (int i = 0; i < 4; i++) {
		pid_t child = fork_limited();
		if (!child) {
			if (i == 0)
				_exit(0);
			if (i == 1 && children_do_much())
				exit(0);
			if (i == 2)
				raise(SIGKILL);
			close_all();
			_exit(0);
		}
		wait_child(child);
	}
	assert_int_equal(poll_now(s[1], POLLIN | POLLRDHUP), 0);
	write_all(s[0], "on", 2);
	assert_int_equal(read_upto(s[1], buf, 2, &end), 2);
	/* and the other way round: a child that keeps a copy keeps the stream open when the parent closes */
	int go[2];
	assert_int_equal(pipe(go), 0);
	pid_t child = fork_limited();
	if (!child) {
		close(go[1]);
		CHECK(read(go[0], buf, 1) == 0);
		CHECK(write(s[0], "child", 5) == 5);
		_exit(0);
	}
	close(s[0]);
	s[0] = -1;
	close(go[1]);
	close(go[0]);
	assert_int_equal(read_upto(s[1], buf, 8, &end), 5);
	assert_int_equal(end, 1);
	assert_int_equal(wait_child(child), 0);
	close_all();
}

static void fork__child_with_its_own_engine__both_work(void **state)
{
	struct loopback *lb = *state;
	if (!children_do_much())
		skip();
	loopback_pair(lb, c);
	for (int i = 0; i < 3; i++) {
		pid_t child = fork_limited();
		if (!child) {
			struct loopback copy = *lb;
			int t = qsock_open_stream(c[0], 0);	/* of the parent */
			CHECK(t >= 0);
			dial_oneself(&copy);
			CHECK(write(t, "inherited", 9) == 9);
			qsock_shutdown(1000);
			_exit(0);
		}
		char buf[9];
		int end;
		s[1] = qsock_accept_stream(c[1], 0);
		assert_int_equal(read_upto(s[1], buf, 9, &end), 9);
		assert_int_equal(wait_child(child), 0);
		close(s[1]);
	}
	echo_works(c);
	s[0] = s[1] = -1;
	close_all();
}

/* ---- signals -------------------------------------------------------------------------------------- */

static _Atomic int handled, handled_elsewhere;
static pid_t expected;

static void on_signal(int sig)
{
	if ((pid_t)syscall(SYS_gettid) != expected)
		handled_elsewhere++;
	handled++;
}

static const int some[] = { SIGUSR1, SIGUSR2, SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGPIPE, SIGWINCH, SIGURG, SIGIO };
#define SOME (sizeof(some) / sizeof(*some))

static uint64_t blocked_by(const char *comm)
{
	DIR *d = opendir("/proc/self/task");
	uint64_t mask = 0;
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		char path[300], line[200], name[64] = "";
		unsigned long long blk = 0;
		snprintf(path, sizeof(path), "/proc/self/task/%s/status", e->d_name);
		FILE *f = fopen(path, "r");
		if (!f)
			continue;
		while (fgets(line, sizeof(line), f)) {
			sscanf(line, "Name: %63s", name);
			sscanf(line, "SigBlk: %llx", &blk);
		}
		fclose(f);
		if (!strcmp(name, comm))
			mask = blk;
	}
	closedir(d);
	return mask;
}

/* Signals of the process find the threads of the application, or wait for one; no handler runs on the engine. */
static void signals__to_the_process__never_handled_by_the_engine(void **state)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART }, old[SOME];
	sigset_t set, before;
	expected = (pid_t)syscall(SYS_gettid);
	handled = handled_elsewhere = 0;
	sigemptyset(&set);
	loopback_pair(*state, c);
	for (size_t i = 0; i < SOME; i++) {
		sigaction(some[i], &sa, &old[i]);
		sigaddset(&set, some[i]);
		assert_true(blocked_by("qsock-engine") >> (some[i] - 1) & 1);
	}
	for (int round = 0; round < 20; round++) {
		for (size_t i = 0; i < SOME; i++)
			kill(getpid(), some[i]);
		echo_works(c);
	}
	assert_true(handled > 0);
	int seen = handled;
	/* Blocked by all threads of the application: they stay pending. */
	pthread_sigmask(SIG_BLOCK, &set, &before);
	for (size_t i = 0; i < SOME; i++)
		kill(getpid(), some[i]);
	echo_works(c);
	assert_int_equal(handled, seen);
	sigset_t pending;
	sigpending(&pending);
	for (size_t i = 0; i < SOME; i++)
		assert_true(sigismember(&pending, some[i]));
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	assert_true(handled >= seen + (int)SOME);
	assert_int_equal(handled_elsewhere, 0);
	for (size_t i = 0; i < SOME; i++)
		sigaction(some[i], &old[i], NULL);
	s[0] = s[1] = -1;
	close_all();
}

struct victim {
	int (*call)(int fd);
	int fd, result, err;
	_Atomic bool ready;
};

static void *blocked_call(void *arg)
{
	struct victim *v = arg;
	v->ready = true;
	v->result = v->call(v->fd);
	v->err = errno;
	return NULL;
}

static void nothing(int sig) { }

/* Without SA_RESTART blocking calls give EINTR, as the BSD ones do. */
static int call_accept(int fd) { return qsock_accept(fd, NULL, NULL); }
static int call_accept_stream(int fd) { return qsock_accept_stream(fd, 0); }
static int call_open_stream(int fd) { return qsock_open_stream(fd, 0); }
static struct sockaddr_in silent;
static int call_connect(int fd) { return qsock_connect(fd, (struct sockaddr *)&silent, sizeof(silent)); }

/* Four calls that block: fds[] for them. A UDP socket that answers nobody is returned. */
static int blocking_calls(struct loopback *lb, struct victim v[4], int opened[8])
{
	int u = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(silent);
	silent = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	assert_int_equal(bind(u, (struct sockaddr *)&silent, sizeof(silent)), 0);
	assert_int_equal(getsockname(u, (struct sockaddr *)&silent, &len), 0);
	lb->server.max_streams_bidi = 4;
	loopback_listen(lb);
	loopback_pair(lb, c);
	for (int i = 0; i < 4; i++)
		assert_true((opened[i] = qsock_open_stream(c[0], 0)) >= 0);
	for (int i = 0; i < 4; i++)
		assert_true((opened[4 + i] = qsock_accept_stream(c[1], 0)) >= 0);
	int conn = qsock_socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(qsock_setsockopt(conn, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client)), 0);
	v[0] = (struct victim){ .call = call_accept, .fd = lb->listener };
	v[1] = (struct victim){ .call = call_accept_stream, .fd = c[1] };
	v[2] = (struct victim){ .call = call_open_stream, .fd = c[0] };
	v[3] = (struct victim){ .call = call_connect, .fd = conn };
	return u;
}

static void end_blocking_calls(struct victim v[4], const int opened[8], int u)
{
	for (int i = 0; i < 8; i++)
		close(opened[i]);
	close(v[3].fd);
	close(u);
	s[0] = s[1] = -1;
	close_all();
}


static void signals__to_blocked_calls__eintr(void **state)
{
	struct sigaction sa = { .sa_handler = nothing }, old;
	struct victim v[4];
	int opened[8], u = blocking_calls(*state, v, opened);
	sigaction(SIGUSR1, &sa, &old);
	for (int i = 0; i < 4; i++) {
		pthread_t t;
		assert_int_equal(pthread_create(&t, NULL, blocked_call, &v[i]), 0);
		/* until it has been hit where it waits */
		while (pthread_tryjoin_np(t, NULL)) {
			if (v[i].ready)
				pthread_kill(t, SIGUSR1);
			poll(NULL, 0, 2);
		}
		assert_int_equal(v[i].result, -1);
		assert_int_equal(v[i].err, EINTR);
	}
	sigaction(SIGUSR1, &old, NULL);
	end_blocking_calls(v, opened, u);
}

/* ---- pthread_cancel ---------------------------------------------------------------------------------- */

static void pthread_cancel__in_blocking_calls__leaks_nothing(void **state)
{
#ifdef __SANITIZE_ADDRESS__
	skip();		/* it does not follow the unwinding of a cancelled thread */
#endif
	struct victim v[4];
	int opened[8], u = blocking_calls(*state, v, opened);
	for (int i = 0; i < 3; i++) {	/* connect goes on in the background: once, at the end */
		int before = fds_of_application();
		for (int n = 0; n < 20; n++) {
			pthread_t t;
			void *result;
			v[i].ready = false;
			assert_int_equal(pthread_create(&t, NULL, blocked_call, &v[i]), 0);
			while (!v[i].ready)
				sched_yield();
			poll(NULL, 0, n % 3);
			pthread_cancel(t);
			assert_int_equal(pthread_join(t, &result), 0);
			assert_ptr_equal(result, PTHREAD_CANCELED);
		}
		assert_int_equal(fds_of_application(), before);
	}
	pthread_t t;
	int before = fds_of_application();
	assert_int_equal(pthread_create(&t, NULL, blocked_call, &v[3]), 0);
	while (!v[3].ready)
		sched_yield();
	pthread_cancel(t);
	pthread_join(t, NULL);
	assert_int_equal(fds_of_application(), before);
	/* What they queued for is not taken by the dead: a stream opened now comes, and can be used. */
	for (int i = 0; i < 8; i++) {
		close(opened[i]);
		opened[i] = -1;
	}
	int last = qsock_open_stream(c[0], 0);
	assert_true(last >= 0);
	write_all(last, "alive", 5);
	for (char buf[5];;) {
		int r = qsock_accept_stream(c[1], 0), end;
		size_t n = read_upto(r, buf, 5, &end);
		close(r);
		if (n == 5)
			break;
	}
	close(last);
	end_blocking_calls(v, opened, u);
}

/* ---- nonsense ------------------------------------------------------------------------------------------ */

static uint64_t dice = 88172645463325252u;

static unsigned roll(unsigned n)
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return (unsigned)(dice >> 20) % n;
}

static void nonsense(int fd)
{
	char buf[600];
	int fds[2] = { 0, 1 }, big = 1 << 20, small = 1;
	memset(buf, (int)roll(256), sizeof(buf));
	switch (roll(14)) {
	case 0:
		send(fd, buf, roll(sizeof(buf)), MSG_DONTWAIT | MSG_NOSIGNAL);
		break;
	case 1:
		recv(fd, buf, roll(sizeof(buf)), MSG_DONTWAIT);
		break;
	case 2:
		shutdown(fd, (int)roll(3));
		break;
	case 3:
		setsockopt(fd, SOL_SOCKET, roll(2) ? SO_SNDBUF : SO_RCVBUF, roll(2) ? &big : &small, sizeof(int));
		break;
	case 4:
		fd_send(fd, fds[roll(2)]);
		break;
	case 5:
		fcntl(fd, F_SETFL, O_NONBLOCK);
		break;
	case 6:
		close(qsock_open_stream(fd, QSOCK_NONBLOCK));
		break;
	case 7:
		fcntl(fd, F_SETFL, O_NONBLOCK);
		close(qsock_accept_stream(fd, 0));
		break;
	case 8:
		qsock_reset(fd, roll(1000));
		break;
	case 9:
		qsock_stop_sending(fd, roll(1000));
		break;
	case 10:
		fcntl(fd, F_SETFL, O_NONBLOCK);
		qsock_connect(fd, (struct sockaddr *)&silent, sizeof(silent));
		break;
	case 11:
		qsock_listen(fd, 3);
		break;
	case 12:
		fcntl(fd, F_SETFL, O_NONBLOCK);
		close(qsock_accept(fd, NULL, NULL));
		break;
	default:
		/* one of ours inside one of ours: a ring of references, perhaps */
		fd_send(fd, roll(2) ? fd : s[0]);
		break;
	}
}

static void nonsense__on_every_kind_of_descriptor__engine_goes_on(void **state)
{
	struct loopback *lb = *state;
	struct loopback own = *lb;
	int good[2];
	signal(SIGPIPE, SIG_IGN);
	own.listener = -1;
	loopback_pair(&own, good);
	for (int round = 0; round < 60; round++) {
		lb->listener = -1;
		lb->client.idle_timeout_ms = 2000;
		loopback_pair(lb, c);
		loopback_stream(c, s, roll(4) ? 0 : QSOCK_UNI);
		int fresh = qsock_socket(AF_INET, SOCK_STREAM, 0);
		int all[] = { lb->listener, c[0], c[1], s[0], s[1], fresh };
		for (unsigned i = 1 + roll(12); i; i--)
			nonsense(all[roll(6)]);
		for (size_t i = 0; i < 6; i++)
			close(all[i]);
		echo_works(good);
	}
	lb->listener = -1;
	close(good[0]);
	close(good[1]);
	close(own.listener);
	signal(SIGPIPE, SIG_DFL);
}

/* ---- nothing stays --------------------------------------------------------------------------------------- */

static int threads(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = 0;
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.' && fds_of_task(e->d_name) > 0;
	closedir(d);
	return n;
}

static void everything_closed__descriptors_and_threads_as_before(void **state)
{
	struct loopback *lb = *state;
	qsock_shutdown(1000);
	int idle_threads = threads(), idle_fds = fds_of_application();
	loopback_listen(lb);
	int fds = fds_of_application(), engine_fds = fds_of_engine();
	for (int round = 0; round < 3; round++) {
		int pair[2], t[20][2];
		loopback_pair(lb, pair);
		for (int i = 0; i < 20; i++) {
			loopback_stream(pair, t[i], i % 2 ? QSOCK_UNI : 0);
			write_all(t[i][0], "left in it", 10);
			if (i % 5 == 1)
				qsock_reset(t[i][0], 1);
			if (i % 5 == 2)
				qsock_stop_sending(t[i][1], 1);
		}
		for (int i = 0; i < 20; i++) {
			close(t[i][i & 1]);
			close(t[i][!(i & 1)]);
		}
		int never_accepted = qsock_open_stream(pair[0], QSOCK_NONBLOCK | QSOCK_CLOEXEC);
		close(dup(pair[0]));
		close(never_accepted);
		if (round == 1)
			qsock_close(pair[0], 3, NULL);
		close(pair[0]);
		close(pair[1]);
		assert_int_equal(fds_of_application(), fds);
	}
	expect_engine_fds(engine_fds);
	close(lb->listener);
	lb->listener = -1;
	assert_int_equal(threads(), idle_threads + 1);
	qsock_shutdown(1000);
	assert_int_equal(fds_of_engine(), -1);
	assert_int_equal(fds_of_application(), idle_fds);
	assert_int_equal(threads(), idle_threads);
}

static int setup(void **state)
{
	c[0] = c[1] = s[0] = s[1] = -1;
	return loopback_setup(state);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, loopback_teardown)

int main(int argc, char **argv)
{
	static const struct role roles[] = { { "closer", run_closer } };
	role_enter(argc, argv, roles, 1);
	const struct CMUnitTest tests[] = {
		T(closefrom__at_bad_moments__everything_works_anew),
		T(fork__while_others_connect_and_open__no_harm),
		T(fork__child_ends__parent_keeps_its_streams),
		T(fork__child_with_its_own_engine__both_work),
		T(signals__to_the_process__never_handled_by_the_engine),
		T(signals__to_blocked_calls__eintr),
		T(pthread_cancel__in_blocking_calls__leaks_nothing),
		T(nonsense__on_every_kind_of_descriptor__engine_goes_on),
		T(everything_closed__descriptors_and_threads_as_before),
	};
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
