/* Sockets that are streams of shared connections: what programs made for TCP get. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "sock/api.h"
#include "support/loopback.h"

#define ALPN "pool-test"

static struct loopback *lb;
static struct sockaddr_in server;
static int listener;
static bool trusting;
static _Atomic unsigned dialled, shared, failed;	/* told by the hooks */

static bool trust(const struct addr *remote, const char *name, const struct conn_info *info, char *why)
{
	return trusting;
}

static void outcome(const struct addr *local, const struct addr *remote, const char *name, bool was_shared,
		    const struct qsock_error *err)
{
	if (err)
		failed++;
	else if (was_shared)
		shared++;
	else
		dialled++;
}

static struct sock_config *config(bool is_server, uint32_t max_streams)
{
	struct qsock_config c = is_server ? lb->server : lb->client;
	struct qsock_error err;
	c.alpn = ALPN;
	c.max_streams_bidi = max_streams;
	struct sock_config *cfg = sock_config_get(&c, is_server, &err);
	assert_non_null(cfg);
	return cfg;
}

static int run_listen(struct engine *e, struct api_call *c)
{
	return sock_cmd_stream_listen(e, c->cookie, c->cfg, 64);
}

static int make_listener(const struct sockaddr_in *at, uint32_t max_streams)
{
	int fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
	struct sock_config *cfg = config(true, max_streams);
	if (qsock_bind(fd, (const struct sockaddr *)at, sizeof(*at)) ||
	    api_call(fd, &(struct api_call){ .run = run_listen, .cfg = cfg }))
		return -1;
	return fd;
}

static void serve(uint32_t max_streams)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(server);
	listener = make_listener(&any, max_streams);
	assert_true(listener >= 0);
	assert_int_equal(qsock_getsockname(listener, (struct sockaddr *)&server, &len), 0);
}

static int run_connect(struct engine *e, struct api_call *c)
{
	return sock_cmd_stream_connect(e, c->cookie, c->fd, c->addr, "127.0.0.1", c->cfg, false);
}

static int start_connect(int fd, int *ret)
{
	struct addr a = { .in4 = server };
	struct sock_config *cfg = config(false, 0);
	*ret = api_call(fd, &(struct api_call){ .run = run_connect, .addr = &a, .cfg = cfg });
	sock_config_put(cfg);
	return fd;
}

static int connect_now(void)
{
	int ret;
	int fd = start_connect(qsock_socket(AF_INET, SOCK_STREAM, 0), &ret);
	assert_true(ret >= 0);
	if (ret)
		assert_int_equal(wait_for(fd, POLLOUT) & (POLLOUT | POLLERR | POLLHUP), POLLOUT);
	return fd;
}

static int accept_now(struct record *r)
{
	struct record any;
	int cancel = api_enter();
	int fd = api_take(listener, RECORD_ACCEPTED, r ? r : &any, MSG_CMSG_CLOEXEC, false, cancel);
	api_leave(cancel);
	assert_true(fd >= 0);
	return fd;
}

static void expect_text(int fd, const char *text)
{
	char buf[64];
	int end;
	size_t n = strlen(text);
	assert_int_equal(read_upto(fd, buf, n, &end), n);
	assert_memory_equal(buf, text, n);
}

static void expect_end(int fd, int want)
{
	char c;
	int end;
	assert_int_equal(read_upto(fd, &c, 1, &end), 0);
	assert_int_equal(end, want);
}

static int setup(void **state)
{
	lb = *state;
	dialled = shared = failed = 0;
	trusting = true;
	listener = -1;
	return 0;
}

static int teardown(void **state)
{
	if (listener >= 0)
		close(listener);
	qsock_shutdown(1000);
	return 0;
}

/* ---- tests ------------------------------------------------------------------------ */

static void connect__twice__shares_the_connection(void **state)
{
	struct record r;
	socklen_t len = sizeof(struct sockaddr_in);
	struct sockaddr_in name;
	serve(0);
	int c1 = connect_now(), s1 = accept_now(&r), ret;
	assert_int_equal(qsock_getsockname(c1, (struct sockaddr *)&name, &len), 0);
	assert_memory_equal(&r.peer.in4, &name, sizeof(name));
	assert_memory_equal(&r.local.in4, &server, sizeof(server));
	int c2 = start_connect(qsock_socket(AF_INET, SOCK_STREAM, 0), &ret);
	assert_int_equal(ret, 0);
	int s2 = accept_now(NULL);
	assert_int_equal(dialled, 1);
	assert_int_equal(shared, 1);
	write_all(s1, "one", 3);
	write_all(s2, "two", 3);
	expect_text(c2, "two");
	expect_text(c1, "one");
	close(c1);
	expect_end(s1, 1);
	write_all(c2, "still", 5);
	expect_text(s2, "still");
	close(s2);
	expect_end(c2, 1);
	close(c2);
	close(s1);
}

static void connect__nobody_there__is_refused(void **state)
{
	int ret, err;
	serve(0);
	close(listener);
	listener = -1;
	qsock_shutdown(1000);
	int fd = start_connect(qsock_socket(AF_INET, SOCK_STREAM, 0), &ret);
	assert_int_equal(ret, 1);
	short early = poll_now(fd, POLLOUT);
	assert_true(early & POLLERR || !(early & POLLOUT));
	wait_for(fd, POLLOUT);
	assert_int_equal(qsock_getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &(socklen_t){ sizeof(err) }), 0);
	assert_int_equal(err, ECONNREFUSED);
	assert_int_equal(failed, 1);
	close(fd);
}

static void connect__server_not_trusted__fails(void **state)
{
	int ret, err;
	serve(0);
	trusting = false;
	int fd = start_connect(qsock_socket(AF_INET, SOCK_STREAM, 0), &ret);
	assert_int_equal(ret, 1);
	wait_for(fd, POLLOUT);
	assert_int_equal(qsock_getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &(socklen_t){ sizeof(err) }), 0);
	assert_int_equal(err, EPROTO);
	assert_int_equal(poll_now(listener, POLLIN), 0);
	close(fd);
}

static void connect__more_than_the_stream_limit__makes_further_connections(void **state)
{
	enum { LIMIT = 2, N = 7 };
	int c[N], s[N], ret;
	serve(LIMIT);
	for (int i = 0; i < N; i++)
		start_connect(c[i] = qsock_socket(AF_INET, SOCK_STREAM, 0), &ret);
	for (int i = 0; i < N; i++) {
		assert_int_equal(wait_for(c[i], POLLOUT) & (POLLERR | POLLHUP), 0);
		char byte = (char)i;
		write_all(c[i], &byte, 1);
	}
	for (int i = 0; i < N; i++) {
		char byte;
		int end;
		s[i] = accept_now(NULL);
		assert_int_equal(read_upto(s[i], &byte, 1, &end), 1);
		write_all(s[i], &byte, 1);
	}
	for (int i = 0; i < N; i++) {
		char byte;
		int end;
		assert_int_equal(read_upto(c[i], &byte, 1, &end), 1);
		assert_int_equal(byte, i);
	}
	assert_true(dialled >= N / LIMIT);
	for (int i = 0; i < N; i++) {
		close(c[i]);
		close(s[i]);
	}
}

static void close__with_bytes_unread__resets_after_the_data(void **state)
{
	serve(0);
	int c = connect_now(), s = accept_now(NULL);
	write_all(c, "unread", 6);
	wait_for(s, POLLIN);
	write_all(s, "last words", 10);
	close(s);
	expect_text(c, "last words");
	expect_end(c, -1);
	close(c);
}

static int run_abort(struct engine *e, struct api_call *c)
{
	return sock_cmd_tcp_option(e, c->cookie, SOCK_TCP_ABORT, true);
}

static void close__with_linger_0__resets(void **state)
{
	serve(0);
	int c = connect_now(), s = accept_now(NULL);
	assert_int_equal(api_call(c, &(struct api_call){ .run = run_abort }), 0);
	close(c);
	expect_end(s, -1);
	close(s);
}

static void shutdown__of_reading__is_not_seen_by_the_peer(void **state)
{
	serve(0);
	int c = connect_now(), s = accept_now(NULL);
	shutdown(c, SHUT_RD);
	write_all(s, "lost", 4);
	write_all(c, "heard", 5);
	expect_text(s, "heard");
	assert_int_equal(poll_now(s, POLLOUT) & (POLLOUT | POLLERR | POLLHUP), POLLOUT);
	write_all(s, "lost", 4);
	shutdown(c, SHUT_WR);
	expect_end(s, 1);
	close(c);
	close(s);
}

static void listener__closed__leaves_streams_and_takes_no_more(void **state)
{
	serve(0);
	int c = connect_now(), s = accept_now(NULL);
	close(listener);
	listener = -1;
	write_all(c, "on", 2);
	expect_text(s, "on");
	int late = connect_now();
	expect_end(late, -1);
	write_all(s, "and on", 6);
	expect_text(c, "and on");
	close(late);
	close(c);
	close(s);
}

static void listener__shut_for_reading__makes_way_for_another(void **state)
{
	serve(0);
	int c = connect_now(), s = accept_now(NULL);
	shutdown(listener, SHUT_RD);
	int late = connect_now();
	expect_end(late, -1);
	int shut = listener;
	listener = make_listener(&server, 0);
	assert_true(listener >= 0);
	close(shut);
	write_all(s, "on", 2);
	expect_text(c, "on");
	close(late);
	close(c);
	close(s);
}

static void accept__in_a_forked_child(void **state)
{
	int status;
	serve(0);
	pid_t pid = fork();
	if (!pid) {
		int s = accept_now(NULL);
		write_all(s, "child", 5);
		_exit(0);
	}
	int c = connect_now();
	expect_text(c, "child");
	expect_end(c, 1);
	close(c);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* This program again, as a server to be killed: tells its address, then echoes one short message per socket. */
static int be_server(const char *cert, const char *key, const char *port)
{
	struct loopback mine = { .server = { .cert_file = cert, .key_file = key } };
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				  .sin_port = (in_port_t)atoi(port) };
	socklen_t len = sizeof(at);
	char buf[64];
	lb = &mine;
	signal(SIGPIPE, SIG_IGN);	/* of clients that gave up */
	listener = make_listener(&at, 0);
	if (listener < 0 || qsock_getsockname(listener, (struct sockaddr *)&at, &len)) {
		perror("server");
		return 1;
	}
	write_all(1, &at, sizeof(at));
	for (;;) {
		int s = accept_now(NULL);
		ssize_t n = read(s, buf, sizeof(buf));
		if (n > 0)
			n = write(s, buf, (size_t)n);
		close(s);
	}
}

static pid_t server_process(struct sockaddr_in at)
{
	char port[8];
	int up[2], end;
	snprintf(port, sizeof(port), "%u", at.sin_port);
	assert_int_equal(pipe(up), 0);
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(up[1], 1);
		execl("/proc/self/exe", "server", lb->server.cert_file, lb->server.key_file, port, NULL);
		_exit(1);
	}
	close(up[1]);
	assert_int_equal(read_upto(up[0], &server, sizeof(server), &end), sizeof(server));
	close(up[0]);
	return pid;
}

static void kill_server(pid_t pid)
{
	kill(pid, SIGKILL);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

static void echo_once(const char *text)
{
	int c = connect_now();
	write_all(c, text, strlen(text));
	shutdown(c, SHUT_WR);
	expect_text(c, text);
	expect_end(c, 1);
	close(c);
}

static void connect__server_killed_and_back__goes_over_to_a_new_connection(void **state)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	pid_t pid = server_process(any);
	echo_once("first");
	echo_once("second");
	assert_int_equal(dialled, 1);
	kill_server(pid);
	pid = server_process(server);
	echo_once("third");
	kill_server(pid);
}

static void connect__server_killed_for_good__ends_in_a_reset(void **state)
{
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	pid_t pid = server_process(any);
	echo_once("first");
	kill_server(pid);
	int c = connect_now();
	write_all(c, "hello?", 6);
	expect_end(c, -1);
	close(c);
}

/* ---- no memory ------------------------------------------------------------------------ */

#define PATIENT_MS 10000
#define HASTY_MS 250	/* something has failed, most likely */

static struct sock_config *client_config, *server_config;
static int patience_ms;

static bool soon(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	return poll(&p, 1, patience_ms) == 1 && !(p.revents & (POLLERR | POLLHUP));
}

static bool try_listen(void)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(server);
	listener = qsock_socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || qsock_bind(listener, (const struct sockaddr *)&at, sizeof(at)))
		return false;
	sock_config_ref(server_config);
	if (!api_call(listener, &(struct api_call){ .run = run_listen, .cfg = server_config }))
		return !qsock_getsockname(listener, (struct sockaddr *)&server, &len);
	sock_config_put(server_config);
	return false;
}

static int try_connect(void)
{
	struct addr a = { .in4 = server };
	int fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || api_call(fd, &(struct api_call){ .run = run_connect, .addr = &a, .cfg = client_config }) >= 0)
		return fd;
	close(fd);
	return -1;
}

static int try_accept(void)
{
	struct record r;
	if (!soon(listener, POLLIN))
		return -1;
	int cancel = api_enter();
	int fd = api_take(listener, RECORD_ACCEPTED, &r, MSG_CMSG_CLOEXEC, false, cancel);
	api_leave(cancel);
	return fd < 0 ? -1 : fd;
}

static bool ask(int fd)
{
	return fd >= 0 && soon(fd, POLLOUT) && send(fd, "ask", 3, MSG_NOSIGNAL) == 3;
}

static bool heard(int fd, const char *text)
{
	char buf[8];
	size_t n = strlen(text);
	return fd >= 0 && soon(fd, POLLIN) && recv(fd, buf, n, MSG_WAITALL) == (ssize_t)n && !memcmp(buf, text, n);
}

/* The engine, a listener, two sockets that have to have a connection each, some bytes both ways. */
static bool whole_life(int ms)
{
	patience_ms = ms;
	int c[2] = { -1, -1 }, s[2] = { -1, -1 };
	bool ok = try_listen();
	for (int i = 0; ok && i < 2; i++)
		c[i] = try_connect();
	ok = ok && ask(c[0]) && ask(c[1]);
	for (int i = 0; ok && i < 2; i++)
		s[i] = try_accept();
	ok = ok && heard(s[0], "ask") && heard(s[1], "ask") && send(s[0], "tell", 4, MSG_NOSIGNAL) == 4 &&
	     send(s[1], "tell", 4, MSG_NOSIGNAL) == 4 && heard(c[0], "tell") && heard(c[1], "tell");
	for (int i = 0; i < 2; i++) {
		api_close(c[i]);
		api_close(s[i]);
	}
	api_close(listener);
	listener = -1;
	qsock_shutdown(ok ? 1000 : 0);
	return ok;
}

static void make_configs(void)
{
	lb->client.flags |= QSOCK_CONFIG_NO_RESUMPTION;
	client_config = config(false, 0);
	server_config = config(true, 1);
}

static void put_configs(void)
{
	sock_config_put(client_config);
	sock_config_put(server_config);
	loopback_defaults(lb);
}

static void connect__any_allocation_fails__the_next_one_works(void **state)
{
	unsigned failures = 0;
	make_configs();
	assert_true(whole_life(PATIENT_MS));
	int64_t live = mem_test_live();
	uint64_t before = mem_test_count();
	assert_true(whole_life(PATIENT_MS));
	uint64_t per_life = mem_test_count() - before;
	for (uint64_t n = 1; n <= per_life; n++) {
		mem_test_fail_nth(n);
		failures += !whole_life(HASTY_MS);
		mem_test_fail_nth(0);
		assert_int_equal(mem_test_live(), live);
	}
	assert_true(failures > 0);
	assert_true(whole_life(PATIENT_MS));
	put_configs();
}

/* The server is another process and back at once; which of our allocations is due while a stream goes over to it
 * depends on time, so the nth fails for as many n as it may take. */
static void connect__server_back__any_allocation_fails__the_next_one_works(void **state)
{
	enum { MOST = 40 };
	struct sockaddr_in any = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	make_configs();
	for (unsigned n = 1; n <= MOST; n++) {
		pid_t pid = server_process(any);
		echo_once("before");
		kill_server(pid);
		pid = server_process(server);
		patience_ms = HASTY_MS;
		mem_test_fail_nth(n);
		int c = try_connect();
		if (ask(c))
			heard(c, "ask");
		api_close(c);
		mem_test_fail_nth(0);
		echo_once("after");
		kill_server(pid);
		qsock_shutdown(0);
	}
	put_configs();
}

int main(int argc, char **argv)
{
	static const struct pool_hooks hooks = { trust, outcome };
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(connect__twice__shares_the_connection),
		T(connect__nobody_there__is_refused),
		T(connect__server_not_trusted__fails),
		T(connect__more_than_the_stream_limit__makes_further_connections),
		T(close__with_bytes_unread__resets_after_the_data),
		T(close__with_linger_0__resets),
		T(shutdown__of_reading__is_not_seen_by_the_peer),
		T(listener__closed__leaves_streams_and_takes_no_more),
		T(listener__shut_for_reading__makes_way_for_another),
		T(accept__in_a_forked_child),
		T(connect__server_killed_and_back__goes_over_to_a_new_connection),
		T(connect__server_killed_for_good__ends_in_a_reset),
		T(connect__any_allocation_fails__the_next_one_works),
		T(connect__server_back__any_allocation_fails__the_next_one_works),
#undef T
	};
	if (argc == 4)
		return be_server(argv[1], argv[2], argv[3]);
	pool_set_hooks(&hooks);
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
