/* The hooks, in a program that has them in it: what a program made for TCP calls, on sockets that are streams. Compared
 * with TCP in tests/preload; here for the sanitizers, and for what TCP cannot show. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <unistd.h>

#include "preload/shim.h"
#include "support/loopback.h"

#define TCP_PORT_FROM 61000	/* QSOCK_TCP_PORTS below */

static struct sockaddr_in server;
static int listener;
static char known[128], log_file[128];

static int group_setup(void **state)
{
	if (loopback_group_setup(state))
		return -1;
	struct loopback *lb = *state;
	snprintf(known, sizeof(known), "%s/known", lb->dir);
	snprintf(log_file, sizeof(log_file), "%s/log", lb->dir);
	setenv("QSOCK_CERT", lb->server.cert_file, 1);
	setenv("QSOCK_KEY", lb->server.key_file, 1);
	setenv("QSOCK_KNOWN_HOSTS", known, 1);
	setenv("QSOCK_LOG", log_file, 1);
	setenv("QSOCK_TCP_PORTS", "61000-61999", 1);
	return 0;
}

static int group_teardown(void **state)
{
	qsock_shutdown(1000);
	trust_forget();
	return loopback_group_teardown(state);
}

static int setup(void **state)
{
	socklen_t len = sizeof(server);
	server = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(listener >= 0);
	assert_int_equal(bind(listener, (struct sockaddr *)&server, len), 0);
	assert_int_equal(listen(listener, 16), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&server, &len), 0);
	assert_int_not_equal(server.sin_port, 0);
	return 0;
}

static int teardown(void **state)
{
	close(listener);
	return 0;
}

static int connected(void)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&server, sizeof(server)), 0);
	return fd;
}

static void pair(int fd[2])
{
	fd[0] = connected();
	fd[1] = accept(listener, NULL, NULL);
	assert_true(fd[1] >= 0);
}

static void close_pair(const int fd[2])
{
	close(fd[0]);
	close(fd[1]);
}

static int int_option(int fd, int level, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);
	assert_int_equal(getsockopt(fd, level, name, &v, &len), 0);
	return v;
}

static void expect_end(int fd, int want)
{
	char c;
	int end;
	assert_int_equal(read_upto(fd, &c, 1, &end), 0);
	assert_int_equal(end, want);
}

/* What the kernel's socket really has; -1: it is none. */
static int kernel_option(int fd, int name)
{
	int v = -1;
	socklen_t len = sizeof(v);
	return syscall(SYS_getsockopt, fd, SOL_SOCKET, name, &v, &len) ? -1 : v;
}

static void socket__is_no_tcp_socket_and_says_it_is(void **state)
{
	int p[2];
	pair(p);
	assert_int_equal(int_option(p[0], SOL_SOCKET, SO_DOMAIN), AF_INET);
	assert_int_equal(int_option(p[0], SOL_SOCKET, SO_PROTOCOL), IPPROTO_TCP);
	assert_int_equal(int_option(p[0], SOL_SOCKET, SO_TYPE), SOCK_STREAM);
	assert_int_equal(int_option(listener, SOL_SOCKET, SO_ACCEPTCONN), 1);
	assert_int_equal(int_option(p[1], SOL_SOCKET, SO_ACCEPTCONN), 0);
	for (int fd = 0; fd < 256; fd++)
		assert_int_not_equal(kernel_option(fd, SO_PROTOCOL), IPPROTO_TCP);
	close_pair(p);
}

static void sockets_of_others__pass_through(void **state)
{
	int p[2];
	struct sockaddr_un { sa_family_t family; char path[108]; } un = { .family = AF_UNIX };
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(in);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
	len = sizeof(un);
	assert_int_equal(getsockname(p[0], (struct sockaddr *)&un, &len), 0);
	assert_int_equal(un.family, AF_UNIX);
	assert_int_equal(int_option(p[0], SOL_SOCKET, SO_DOMAIN), AF_UNIX);
	close_pair(p);
	int udp = socket(AF_INET, SOCK_DGRAM, 0);
	assert_int_equal(bind(udp, (struct sockaddr *)&in, sizeof(in)), 0);
	len = sizeof(in);
	assert_int_equal(getsockname(udp, (struct sockaddr *)&in, &len), 0);
	assert_int_equal(sendto(udp, "x", 1, 0, (struct sockaddr *)&in, sizeof(in)), 1);
	assert_int_equal(int_option(udp, SOL_SOCKET, SO_TYPE), SOCK_DGRAM);
	close(udp);
	assert_int_equal(getsockname(-1, (struct sockaddr *)&in, &len), -1);
	assert_int_equal(errno, EBADF);
}

static void names__of_both_sides_agree(void **state)
{
	struct sockaddr_in a, b;
	socklen_t len = sizeof(a);
	int c = connected(), s = accept4(listener, (struct sockaddr *)&a, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(s >= 0);
	assert_true(fcntl(s, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(s, F_GETFD) & FD_CLOEXEC);
	len = sizeof(b);
	assert_int_equal(getsockname(c, (struct sockaddr *)&b, &len), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(getpeername(s, (struct sockaddr *)&b, &len), 0);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_int_equal(getpeername(c, (struct sockaddr *)&b, &len), 0);
	assert_memory_equal(&server, &b, sizeof(b));
	assert_int_equal(getsockname(s, (struct sockaddr *)&b, &len), 0);
	assert_memory_equal(&server, &b, sizeof(b));
	assert_int_equal(getpeername(listener, (struct sockaddr *)&b, &len), -1);
	assert_int_equal(errno, ENOTCONN);
	close(c);
	close(s);
}

static void connect__nonblocking__epoll_registered_before(void **state)
{
	struct epoll_event ev = { .events = EPOLLOUT, .data.u32 = 7 };
	int ep = epoll_create1(EPOLL_CLOEXEC), c = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), ret;
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, c, &ev), 0);
	ret = connect(c, (struct sockaddr *)&server, sizeof(server));
	assert_true(!ret || errno == EINPROGRESS);
	assert_int_equal(epoll_wait(ep, &ev, 1, 10000), 1);
	assert_int_equal(ev.data.u32, 7);
	assert_int_equal(int_option(c, SOL_SOCKET, SO_ERROR), 0);
	int s = accept(listener, NULL, NULL);
	write_all(s, "banner", 6);
	assert_int_equal(wait_for(c, POLLIN) & POLLIN, POLLIN);
	close(c);
	close(s);
	close(ep);
}

static void connect__refused__and_then_served_on_the_same_socket(void **state)
{
	struct sockaddr_in at = server;
	int c = socket(AF_INET, SOCK_STREAM, 0);
	close(listener);
	qsock_shutdown(1000);	/* the port with it */
	assert_int_equal(connect(c, (struct sockaddr *)&at, sizeof(at)), -1);
	close(c);
	c = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(c, (struct sockaddr *)&at, sizeof(at)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	assert_int_equal(int_option(c, SOL_SOCKET, SO_ERROR), 0);
	setup(state);
	assert_int_equal(connect(c, (struct sockaddr *)&server, sizeof(server)), 0);
	int s = accept(listener, NULL, NULL);
	write_all(c, "at last", 7);
	assert_int_equal(wait_for(s, POLLIN) & POLLIN, POLLIN);
	assert_int_equal(connect(c, (struct sockaddr *)&server, sizeof(server)), -1);
	assert_int_equal(errno, EISCONN);
	close(c);
	close(s);
}

static void connect__port_that_stays_tcp__is_tcp(void **state)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event ev = { .events = EPOLLIN, .data.u64 = 0x123456789abcdefULL };
	int l = -1, ep = epoll_create1(EPOLL_CLOEXEC);
	for (int port = TCP_PORT_FROM; l < 0 && port < TCP_PORT_FROM + 1000; port++) {
		at.sin_port = htons((uint16_t)port);
		l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev), 0);
		assert_int_equal(setsockopt(l, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int)), 0);
		if (bind(l, (struct sockaddr *)&at, sizeof(at))) {
			close(l);
			l = -1;
		}
	}
	assert_true(l >= 0);
	assert_int_equal(listen(l, 4), 0);
	assert_true(fcntl(l, F_GETFL) & O_NONBLOCK);
	assert_true(fcntl(l, F_GETFD) & FD_CLOEXEC);
	assert_int_equal(int_option(l, IPPROTO_TCP, TCP_NODELAY), 1);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(connect(c, (struct sockaddr *)&at, sizeof(at)), 0);
	ev.data.u64 = 0;
	assert_int_equal(epoll_wait(ep, &ev, 1, 10000), 1);
	assert_true(ev.data.u64 == 0x123456789abcdefULL);
	int s = accept(l, NULL, NULL);
	assert_true(s >= 0);
	uint32_t rtt_of_real_tcp[60];
	socklen_t len = sizeof(rtt_of_real_tcp);
	assert_int_equal(getsockopt(s, IPPROTO_TCP, TCP_INFO, rtt_of_real_tcp, &len), 0);
	struct sockaddr_in a;
	len = sizeof(a);
	assert_int_equal(getpeername(s, (struct sockaddr *)&a, &len), 0);
	assert_int_equal(a.sin_family, AF_INET);
	close(s);
	close(c);
	close(l);
	close(ep);
}

static void options__are_kept_and_inherited(void **state)
{
	int v = 1, p[2];
	struct linger l = { 1, 0 };
	struct tcp_info info;
	socklen_t len = sizeof(info);
	assert_int_equal(setsockopt(listener, SOL_SOCKET, SO_KEEPALIVE, &v, sizeof(v)), 0);
	assert_int_equal(setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &v, sizeof(v)), 0);
	pair(p);
	assert_int_equal(int_option(p[1], SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_int_equal(int_option(p[1], IPPROTO_TCP, TCP_NODELAY), 1);
	assert_int_equal(int_option(p[0], IPPROTO_TCP, TCP_NODELAY), 0);
	assert_int_equal(setsockopt(p[0], IPPROTO_TCP, 12345, &v, sizeof(v)), -1);
	assert_int_equal(errno, ENOPROTOOPT);
	assert_int_equal(setsockopt(p[0], IPPROTO_TCP, TCP_NODELAY, &v, 2), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(getsockopt(p[0], IPPROTO_TCP, TCP_INFO, &info, &len), 0);
	assert_int_equal(info.tcpi_state, TCP_ESTABLISHED);
	assert_true(info.tcpi_rtt > 0 && info.tcpi_snd_mss >= 1200);
	assert_int_equal(ioctl(p[0], SIOCOUTQ, &v), 0);
	assert_int_equal(v, 0);
	assert_int_equal(setsockopt(p[0], SOL_SOCKET, SO_LINGER, &l, sizeof(l)), 0);
	close(p[0]);
	expect_end(p[1], -1);
	close(p[1]);
}

/* As fork; in the child a failed assertion is the end and not another test. */
static pid_t fork_child(void)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (!pid)
		setenv("CMOCKA_TEST_ABORT", "1", 1);
	return pid;
}

/* All of it goes from a nonblocking writer, who waits for POLLOUT, to a reader in the same thread. */
static void flow(int from, int to)
{
	static char piece[65536];
	size_t sent = 0, got = 0, size = 64 * sizeof(piece);
	fcntl(from, F_SETFL, O_NONBLOCK);
	while (got < size) {
		ssize_t n = sent < size ? write(from, piece, sizeof(piece)) : 0;
		if (n > 0)
			sent += (size_t)n;
		else
			assert_true(sent >= size || errno == EAGAIN);
		while ((n = recv(to, piece, sizeof(piece), MSG_DONTWAIT)) > 0)
			got += (size_t)n;
		if (got < size)
			wait_for(sent < size ? from : to, sent < size ? POLLOUT : POLLIN);
	}
	assert_int_equal(got, sent);
}

static void options__small_buffer__is_only_remembered(void **state)
{
	int p[2], small = 4096;
	pair(p);
	assert_int_equal(setsockopt(p[0], SOL_SOCKET, SO_SNDBUF, &small, sizeof(small)), 0);
	assert_int_equal(setsockopt(p[1], SOL_SOCKET, SO_RCVBUF, &small, sizeof(small)), 0);
	assert_int_equal(int_option(p[0], SOL_SOCKET, SO_SNDBUF), 2 * small);
	assert_int_equal(int_option(p[1], SOL_SOCKET, SO_RCVBUF), 2 * small);
	assert_int_equal(kernel_option(p[0], SO_SNDBUF), PAIR_BUFFER);
	flow(p[0], p[1]);
	close_pair(p);
}

static int connecting(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	assert_true(!connect(fd, (struct sockaddr *)&server, sizeof(server)) || errno == EINPROGRESS);
	return fd;
}

static void connect__duplicated_meanwhile__buffer_is_wide(void **state)
{
	int first = connecting(), c = dup(first);
	close(first);
	wait_for(c, POLLOUT);
	assert_int_equal(int_option(c, SOL_SOCKET, SO_ERROR), 0);
	assert_int_equal(kernel_option(c, SO_SNDBUF), PAIR_BUFFER);
	int s = accept(listener, NULL, NULL);
	flow(c, s);
	close(c);
	close(s);
}

/* As containers have it: the engine cannot take descriptors by itself. */
static void without_pidfd_getfd(void)
{
	struct sock_filter f[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_getfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { sizeof(f) / sizeof(f[0]), f };
	assert_int_equal(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
	assert_int_equal(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog), 0);
}

static void connect__descriptors_cannot_be_taken__buffer_is_wide(void **state)
{
	int status;
#ifdef __SANITIZE_THREAD__
	skip();
#endif
	pid_t pid = fork_child();
	if (!pid) {
		without_pidfd_getfd();
		int c = connecting();
		wait_for(c, POLLOUT);
		assert_int_equal(kernel_option(c, SO_SNDBUF), PAIR_BUFFER);
		write_all(c, "x", 1);
		_exit(0);
	}
	int s = accept(listener, NULL, NULL);
	wait_for(s, POLLIN);
	close(s);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

static void send__with_what_only_tcp_knows(void **state)
{
	int p[2], end;
	char buf[8];
	struct iovec iov = { "msg", 3 };
	struct msghdr m = { .msg_name = &server, .msg_namelen = sizeof(server), .msg_iov = &iov, .msg_iovlen = 1 };
	pair(p);
	assert_int_equal(send(p[0], "a", 1, MSG_OOB), 1);
	assert_int_equal(sendto(p[0], "b", 1, 0, (struct sockaddr *)&server, sizeof(server)), 1);
	assert_int_equal(sendmsg(p[0], &m, 0), 3);
	assert_int_equal(read_upto(p[1], buf, 5, &end), 5);
	assert_memory_equal(buf, "abmsg", 5);
	close_pair(p);
	int c = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(sendto(c, "fast", 4, MSG_FASTOPEN, (struct sockaddr *)&server, sizeof(server)), 4);
	int s = accept(listener, NULL, NULL);
	assert_int_equal(read_upto(s, buf, 4, &end), 4);
	close(c);
	close(s);
}

static void child__exits_by_underscore__delivers_what_it_wrote(void **state)
{
	enum { SIZE = 300000 };
#ifdef __SANITIZE_THREAD__
	skip();		/* it does not let a forked child of threads have threads of its own */
#endif
	char *buf = malloc(SIZE);
	int status, end;
	/* The server's engine is this process's, the client's the child's own. */
	pid_t pid = fork_child();
	if (!pid) {
		char *out = calloc(1, SIZE);
		int c = connected();
		write_all(c, out, SIZE);
		_exit(7);
	}
	int s = accept(listener, NULL, NULL);
	assert_int_equal(read_upto(s, buf, SIZE, &end), SIZE);
	expect_end(s, 1);
	close(s);
	free(buf);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(WEXITSTATUS(status), 7);
}

/* Tells its address, and is gone: what accepts is its child, which echoes one byte for each connection, until "q". */
static void daemonise_after_listen(int tell)
{
	struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct epoll_event ev = { .events = EPOLLIN, .data.u32 = 77 };
	socklen_t len = sizeof(at);
	int l = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0);
	assert_int_equal(bind(l, (struct sockaddr *)&at, len), 0);
	assert_int_equal(listen(l, 16), 0);
	assert_int_equal(getsockname(l, (struct sockaddr *)&at, &len), 0);
	assert_int_equal(epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev), 0);
	if (fork())
		_exit(0);
	write_all(tell, &at, sizeof(at));
	for (char c = 0; c != 'q';) {
		assert_int_equal(epoll_wait(ep, &ev, 1, 10000), 1);
		assert_int_equal(ev.data.u32, 77);
		int s = accept(l, NULL, NULL);
		if (s < 0)
			continue;
		if (read(s, &c, 1) == 1)
			write_all(s, &c, 1);
		close(s);
	}
	_exit(0);
}

static char echo_at(const struct sockaddr_in *at, char c)
{
	int fd = -1, end;
	for (int i = 0; fd < 0 && i < 200; i++) {	/* refused until the child has noticed */
		fd = socket(AF_INET, SOCK_STREAM, 0);
		if (!connect(fd, (const struct sockaddr *)at, sizeof(*at)))
			break;
		assert_int_equal(errno, ECONNREFUSED);
		close(fd);
		fd = -1;
		poll(NULL, 0, 20);
	}
	assert_true(fd >= 0);
	write_all(fd, &c, 1);
	assert_int_equal(read_upto(fd, &c, 1, &end), 1);
	close(fd);
	return c;
}

static void listener__process_that_listened_ends__child_goes_on(void **state)
{
	struct sockaddr_in at;
	int tell[2], end, status;
#ifdef __SANITIZE_THREAD__
	skip();
#endif
	assert_int_equal(pipe(tell), 0);
	pid_t pid = fork_child();
	if (!pid) {
		close(tell[0]);
		daemonise_after_listen(tell[1]);
	}
	close(tell[1]);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(read_upto(tell[0], &at, sizeof(at), &end), sizeof(at));
	assert_int_equal(echo_at(&at, 'a'), 'a');
	assert_int_equal(echo_at(&at, 'q'), 'q');
	assert_int_equal(read_upto(tell[0], &at, 1, &end), 0);	/* it has ended */
	close(tell[0]);
}

static void log__has_a_line_for_each_connection(void **state)
{
	char line[512];
	unsigned in = 0, out = 0;
	int p[2];
	truncate(log_file, 0);
	pair(p);
	close_pair(p);
	FILE *f = fopen(log_file, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f)) {
		in += strstr(line, " in 127.0.0.1:") && strstr(line, " accepted");
		out += strstr(line, " out 127.0.0.1:") && strstr(line, " connected");
	}
	fclose(f);
	assert_int_equal(in, 1);
	assert_int_equal(out, 1);
}

static void *client(void *arg)
{
	char c;
	int end;
	for (int i = 0; i < 20; i++) {
		int fd = connected();
		write_all(fd, "?", 1);
		assert_int_equal(read_upto(fd, &c, 1, &end), 1);
		close(fd);
	}
	return NULL;
}

static void threads__connect_and_accept_at_once(void **state)
{
	pthread_t t[3];
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, client, NULL), 0);
	for (int i = 0; i < 60; i++) {
		char c;
		int end, s = accept(listener, NULL, NULL);
		assert_true(s >= 0);
		assert_int_equal(read_upto(s, &c, 1, &end), 1);
		write_all(s, "!", 1);
		close(s);
	}
	for (int i = 0; i < 3; i++)
		pthread_join(t[i], NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(socket__is_no_tcp_socket_and_says_it_is),
		T(sockets_of_others__pass_through),
		T(names__of_both_sides_agree),
		T(connect__nonblocking__epoll_registered_before),
		T(connect__refused__and_then_served_on_the_same_socket),
		T(connect__port_that_stays_tcp__is_tcp),
		T(options__are_kept_and_inherited),
		T(options__small_buffer__is_only_remembered),
		T(connect__duplicated_meanwhile__buffer_is_wide),
		T(connect__descriptors_cannot_be_taken__buffer_is_wide),
		T(send__with_what_only_tcp_knows),
		T(child__exits_by_underscore__delivers_what_it_wrote),
		T(listener__process_that_listened_ends__child_goes_on),
		T(log__has_a_line_for_each_connection),
		T(threads__connect_and_accept_at_once),
#undef T
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
