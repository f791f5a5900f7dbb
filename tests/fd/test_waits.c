/* Calls that wait, and what ends the wait: signals, timeouts, cancellation, the descriptor limit; and calls in
 * processes that did not make the connection. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include "support/child.h"
#include "support/loopback.h"
#include "support/refused.h"

static struct loopback *lb;
static int conn[2], strm[2];

static int setup(void **state)
{
	lb = *state;
	loopback_pair(lb, conn);
	loopback_stream(conn, strm, 0);
	return 0;
}

static int teardown(void **state)
{
	close_both(strm);
	close_both(conn);
	return 0;
}

/* ---- waits --------------------------------------------------------------------------------- */

static atomic_int alarms;

static void on_alarm(int sig)
{
	atomic_fetch_add(&alarms, 1);
}

/* Again and again, until the call waits. */
static void interrupt(int flags)
{
	struct itimerval again = { { 0, 20000 }, { 0, 20000 } };
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_alarm, .sa_flags = flags }, NULL);
	setitimer(ITIMER_REAL, &again, NULL);
}

static void no_interrupts(void)
{
	setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL);
}

/* When whoever waits has been interrupted some more, or a second has gone: TSan keeps handlers back from a call that is
 * restarted. */
static void *connect_later(void *arg)
{
	int enough = atomic_load(&alarms) + 4;
	for (int i = 0; atomic_load(&alarms) < enough && i < 200; i++)
		poll(NULL, 0, 5);
	return (void *)(intptr_t)loopback_connect(lb);
}

static void accept__signals__as_accept(void **state)
{
	pthread_t t;
	void *client;
	interrupt(0);
	expect_errno(qsock_accept(lb->listener, NULL, NULL), EINTR);
	expect_errno(qsock_accept_stream(conn[0], 0), EINTR);
	no_interrupts();
	sigset_t alarm_set, old;
	sigemptyset(&alarm_set);
	sigaddset(&alarm_set, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarm_set, &old);	/* for the thread */
	assert_int_equal(pthread_create(&t, NULL, connect_later, NULL), 0);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	interrupt(SA_RESTART);
	int fd = qsock_accept(lb->listener, NULL, NULL);
	no_interrupts();
	assert_true(fd >= 0);
	pthread_join(t, &client);
	close((int)(intptr_t)client);
	close(fd);
}

static void accept__so_rcvtimeo__eagain(void **state)
{
	struct timeval tv = { .tv_usec = 20000 }, none = { 0 };
	assert_int_equal(setsockopt(lb->listener, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	expect_errno(qsock_accept(lb->listener, NULL, NULL), EAGAIN);
	assert_int_equal(setsockopt(lb->listener, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof(none)), 0);
	assert_int_equal(setsockopt(conn[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	expect_errno(qsock_accept_stream(conn[0], 0), EAGAIN);
}

static void connect__interrupted__goes_on(void **state)
{
	struct sockaddr_in a;
	int udp = silent(&a), fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
	interrupt(0);
	expect_errno(qsock_connect(fd, (struct sockaddr *)&a, sizeof(a)), EINTR);
	no_interrupts();
	expect_errno(qsock_connect(fd, (struct sockaddr *)&a, sizeof(a)), EALREADY);
	close(fd);
	close(udp);
}

#ifndef __SANITIZE_ADDRESS__	/* stumbles over the stacks of cancelled threads */
static void *wait_in_accept(void *arg) { return (void *)(intptr_t)qsock_accept(lb->listener, NULL, NULL); }
static void *wait_in_accept_stream(void *arg) { return (void *)(intptr_t)qsock_accept_stream(conn[0], 0); }
static void *wait_in_open(void *arg)
{
	while (qsock_open_stream(conn[0], 0) >= 0)
		;	/* until the peer's limit */
	return NULL;
}
static void *wait_in_dial(void *arg)
{
	char port[16];
	snprintf(port, sizeof(port), "%u", ntohs(((struct sockaddr_in *)arg)->sin_port));
	return (void *)(intptr_t)qsock_dial("127.0.0.1", port, &lb->client);
}

static void waits__cancelled__nothing_open_stays(void **state)
{
	struct sockaddr_in a;
	int udp = silent(&a);
	void *(*const waits[])(void *) = { wait_in_accept, wait_in_accept_stream, wait_in_dial };
	for (int i = 0; i < 3; i++) {
		pthread_t t;
		void *ret;
		int before = fds_of_application();
		assert_int_equal(pthread_create(&t, NULL, waits[i], &a), 0);
		poll(NULL, 0, 50);	/* most likely it waits by now; if not, the same holds */
		assert_int_equal(pthread_cancel(t), 0);
		pthread_join(t, &ret);
		assert_ptr_equal(ret, PTHREAD_CANCELED);
		assert_int_equal(fds_of_application(), before);
	}
	close(udp);
}

static void open_stream__cancelled_at_the_limit__withdrawn(void **state)
{
	pthread_t t;
	void *ret;
	uint64_t credit[2];
	socklen_t len = sizeof(credit);
	assert_int_equal(qsock_getsockopt(conn[0], SOL_QUIC, QSOCK_STREAM_CREDIT, credit, &len), 0);
	int before = fds_of_application();
	assert_int_equal(pthread_create(&t, NULL, wait_in_open, NULL), 0);
	while (fds_of_application() < before + (int)credit[0] + 1)
		poll(NULL, 0, 5);
	assert_int_equal(pthread_cancel(t), 0);
	pthread_join(t, &ret);
	assert_int_equal(fds_of_application(), before + (int)credit[0]);
	closefrom(strm[1] + 1);		/* what the thread opened */
}

#endif

static void accept__no_descriptors_left__nothing_lost(void **state)
{
	struct rlimit old, low;
	int s = qsock_open_stream(conn[0], 0), c = loopback_connect(lb), highest = fcntl(0, F_DUPFD, 0);
	close(highest);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)highest;
	assert_true(wait_for(conn[1], POLLIN) & POLLIN);
	assert_true(wait_for(lb->listener, POLLIN) & POLLIN);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	for (int i = 0; i < 3; i++) {
		expect_errno(qsock_accept_stream(conn[1], 0), EMFILE);
		expect_errno(qsock_accept(lb->listener, NULL, NULL), EMFILE);
		expect_errno(qsock_open_stream(conn[0], 0), EMFILE);
		expect_errno(qsock_socket(AF_INET, SOCK_STREAM, 0), EMFILE);
	}
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	int fd[2] = { qsock_accept_stream(conn[1], 0), qsock_accept(lb->listener, NULL, NULL) };
	assert_true(fd[0] >= 0 && fd[1] >= 0);
	write_all(s, "y", 1);
	assert_true(wait_for(fd[0], POLLIN) & POLLIN);
	close(fd[0]);
	close(fd[1]);
	close(s);
	close(c);
}

/* ---- other processes -------------------------------------------------------------------------- */

#ifdef __SANITIZE_THREAD__	/* allows no threads in a forked child */
#define ENGINES 1
#else
#define ENGINES 2	/* without one of its own, and with */
#endif

static void use_inherited(void)
{
	struct sockaddr_in a;
	struct qsock_error err;
	struct qsock_info info = { .size = sizeof(info) };
	socklen_t len = sizeof(a);
#define REFUSED(call) CHECK((call) == -1 && errno == EOPNOTSUPP)
	for (int own_engine = 0; own_engine < ENGINES; own_engine++) {
		CHECK(!own_engine || qsock_socket(AF_INET, SOCK_STREAM, 0) >= 0);
		REFUSED(qsock_error(conn[0], &err));
		REFUSED(qsock_info(conn[0], &info));
		REFUSED(qsock_getsockname(conn[0], (struct sockaddr *)&a, &len));
		REFUSED(qsock_getpeername(lb->listener, (struct sockaddr *)&a, &len));
		REFUSED(qsock_reset(strm[0], 1));
		REFUSED(qsock_stop_sending(strm[0], 1));
		REFUSED(qsock_stream_id(strm[0]));
		REFUSED(qsock_close(conn[0], 1, NULL));
		REFUSED(qsock_setsockopt(conn[0], SOL_QUIC, QSOCK_KEY_UPDATE, NULL, 0));
		int s = qsock_open_stream(conn[0], 0);
		CHECK(s >= 0 && write(s, "child", 5) == 5 && !close(s));
	}
	qsock_shutdown(0);
}

static void forked_child__commands_refused__streams_work(void **state)
{
	pid_t child = fork_limited();
	if (!child) {
		use_inherited();
		_exit(0);
	}
	for (int i = 0; i < ENGINES; i++) {
		char buf[8];
		int end, fd = qsock_accept_stream(conn[1], 0);
		assert_int_equal(read_upto(fd, buf, 5, &end), 5);
		assert_memory_equal(buf, "child", 5);
		close(fd);
	}
	assert_int_equal(wait_child(child), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(accept__signals__as_accept),
		T(accept__so_rcvtimeo__eagain),
		T(connect__interrupted__goes_on),
#ifndef __SANITIZE_ADDRESS__
		T(waits__cancelled__nothing_open_stays),
		T(open_stream__cancelled_at_the_limit__withdrawn),
#endif
		T(accept__no_descriptors_left__nothing_lost),
		T(forked_child__commands_refused__streams_work),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
