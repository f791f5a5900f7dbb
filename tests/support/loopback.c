#include "support/loopback.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "sock/sock.h"
#include "support/certs.h"
#include "support/child.h"

/* ThreadSanitizer takes descriptors of equal number for the same, but the engine has a table of its own. */
const char *__tsan_default_suppressions(void);
__attribute__((used, visibility("default"))) const char *__tsan_default_suppressions(void)
{
	return "race_top:interceptor_close\nrace_top:interceptor_socketpair\nrace_top:interceptor_pipe\n"
	       "race_top:interceptor_dup\nrace_top:interceptor_socket\nrace_top:interceptor_epoll_create1\n"
	       "race_top:interceptor_recvmsg\nrace_top:interceptor_open\nrace_top:interceptor_fopen\n"
	       "race_top:interceptor_fclose\nrace_top:interceptor_write\nrace:^recv_record$\n";
}

/* Long histories, so that both stacks of a report are known, or the above finds nothing. And descriptors order nothing:
 * that of the engine with the same number, used and closed at the same time, has crashed TSan. */
const char *__tsan_default_options(void);
__attribute__((used, visibility("default"))) const char *__tsan_default_options(void)
{
	return "history_size=7:io_sync=0";
}

static struct loopback the_lb;
static char cert[400], key[400], ca_path[400];
static int64_t live;

void loopback_defaults(struct loopback *lb)
{
	snprintf(cert, sizeof(cert), "%s/server.crt", lb->dir);
	snprintf(key, sizeof(key), "%s/server.key", lb->dir);
	snprintf(ca_path, sizeof(ca_path), "%s/ca.crt", lb->dir);
	lb->server = (struct qsock_config){ .cert_file = cert, .key_file = key };
	lb->client = (struct qsock_config){ .ca_file = ca_path };
	lb->listener = -1;
}

struct loopback *loopback_attach(const char *dir, in_port_t port)
{
	struct loopback *lb = &the_lb;
	snprintf(lb->dir, sizeof(lb->dir), "%s", dir);
	loopback_defaults(lb);
	lb->addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
					 .sin_port = port };
	return lb;
}

int loopback_group_setup(void **state)
{
	struct loopback *lb = &the_lb;
	struct ca *ca = ca_make("loopback CA");
	struct leaf_spec spec = { .san = "IP:127.0.0.1,DNS:localhost" };
	testdir_make(lb->dir);
	leaf_write(ca, &spec, lb->dir, "server");
	ca_write(ca, lb->dir, "ca");
	ca_free(ca);
	loopback_defaults(lb);
	live = mem_test_live();
	*state = lb;
	return 0;
}

int loopback_group_teardown(void **state)
{
	struct loopback *lb = *state;
	if (lb->listener >= 0)
		close(lb->listener);
	qsock_shutdown(1000);
	sock_config_flush();
	sessions_flush();
	testdir_remove(lb->dir);
	assert_int_equal(fds_of_engine(), -1);
	assert_int_equal(mem_test_live(), live);
	return 0;
}

int loopback_setup(void **state)
{
	loopback_defaults(*state);
	return limit_setup(state);
}

int loopback_teardown(void **state)
{
	struct loopback *lb = *state;
	if (lb->listener >= 0)
		close(lb->listener);
	lb->listener = -1;
	return limit_teardown(state);
}

void loopback_listen(struct loopback *lb)
{
	socklen_t len = sizeof(lb->addr);
	if (lb->listener >= 0)
		close(lb->listener);
	lb->addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	lb->listener = qsock_socket(AF_INET, SOCK_STREAM, 0);
	assert_true(lb->listener >= 0);
	assert_int_equal(qsock_bind(lb->listener, (struct sockaddr *)&lb->addr, sizeof(lb->addr)), 0);
	assert_int_equal(qsock_setsockopt(lb->listener, SOL_QUIC, QSOCK_CONFIG, &lb->server, sizeof(lb->server)), 0);
	assert_int_equal(qsock_listen(lb->listener, 64), 0);
	assert_int_equal(qsock_getsockname(lb->listener, (struct sockaddr *)&lb->addr, &len), 0);
}

int loopback_connect(const struct loopback *lb)
{
	int fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
	assert_true(fd >= 0);
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client)), 0);
	if (qsock_connect(fd, (const struct sockaddr *)&lb->addr, sizeof(lb->addr))) {
		struct qsock_error err;
		char text[512];
		int saved = errno;
		qsock_error(fd, &err);
		fail_msg("connect: %s (%s)", strerror(saved), qsock_strerror(&err, text, sizeof(text)));
	}
	return fd;
}

void loopback_pair(struct loopback *lb, int fd[2])
{
	if (lb->listener < 0)
		loopback_listen(lb);
	fd[0] = loopback_connect(lb);
	fd[1] = qsock_accept(lb->listener, NULL, NULL);
	assert_true(fd[1] >= 0);
}

void loopback_stream(const int conn[2], int fd[2], int flags)
{
	fd[0] = qsock_open_stream(conn[0], flags);
	assert_true(fd[0] >= 0);
	fd[1] = qsock_accept_stream(conn[1], 0);
	assert_true(fd[1] >= 0);
}

void close_both(int fd[2])
{
	for (int i = 0; i < 2; i++) {
		if (fd[i] >= 0)
			close(fd[i]);
		fd[i] = -1;
	}
}

/* Up to the limit: beyond it are those that valgrind has for itself. */
static int entries(const char *path)
{
	const long limit = sysconf(_SC_OPEN_MAX);
	DIR *d = opendir(path);
	int n = 0;
	if (!d)
		return -1;
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.' && atol(e->d_name) < limit;
	closedir(d);
	return n;
}

int fds_of_application(void)
{
	return entries("/proc/self/fd") - 1;	/* without that of the directory */
}

int fds_of_task(const char *tid)
{
	char path[300];
	snprintf(path, sizeof(path), "/proc/self/task/%s/fd", tid);
	int n = entries(path);
	return n > 0 ? n : -1;
}

int fds_of_engine(void)
{
	DIR *d = opendir("/proc/self/task");
	int n = -1;
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));) {
		char path[300], name[32] = "";
		snprintf(path, sizeof(path), "/proc/self/task/%s/comm", e->d_name);
		FILE *f = fopen(path, "r");
		if (!f)
			continue;
		if (fgets(name, sizeof(name), f) && !strcmp(name, "qsock-engine\n") && n < 0)
			n = fds_of_task(e->d_name);
		fclose(f);
	}
	closedir(d);
	return n;
}

/* Only /proc knows, and nothing tells when it changes; what is still to be taken may make it more again. */
void expect_engine_fds(int want)
{
	int n = -1;
	for (int i = 0, same = 0; same < 20 && i < 10000; i++) {
		n = fds_of_engine();
		same = n == want ? same + 1 : 0;
		poll(NULL, 0, 1);
	}
	assert_int_equal(n, want);
}

short poll_now(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	assert_true(poll(&p, 1, 0) >= 0);
	return p.revents;
}

short wait_for(int fd, short events)
{
	struct pollfd p = { .fd = fd, .events = events };
	assert_int_equal(poll(&p, 1, 10000), 1);
	return p.revents;
}

size_t read_upto(int fd, void *buf, size_t n, int *end)
{
	size_t got = 0;
	*end = 0;
	while (got < n) {
		ssize_t r = read(fd, (char *)buf + got, n - got);
		if (r > 0) {
			got += (size_t)r;
			continue;
		}
		if (r < 0)
			assert_int_equal(errno, ECONNRESET);
		*end = r ? -1 : 1;
		break;
	}
	return got;
}

void write_all(int fd, const void *buf, size_t n)
{
	const char *p = buf;
	while (n) {
		ssize_t w = write(fd, p, n);
		assert_true(w > 0);
		p += w;
		n -= (size_t)w;
	}
}
