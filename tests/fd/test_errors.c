/* Every public call with what it cannot take: wrong descriptors, arguments, moments. The errno is the one that
 * include/qsock.h names, and whatever was refused leaves the descriptor as it was. */
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
#include <unistd.h>

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

static int fresh(int flags)
{
	int fd = qsock_socket(AF_INET, SOCK_STREAM | flags, 0);
	assert_true(fd >= 0);
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client)), 0);
	return fd;
}

/* ---- every call on every kind of descriptor ---------------------------------------- */

enum kind { CLOSED, FILE_, TCP, FOREIGN, FRESH, LISTENER, CONN, STREAM, KINDS };
static const char *const kind_name[KINDS] = { "closed", "file", "tcp", "foreign pair", "fresh", "listener",
					      "connection", "stream" };

static int do_bind(int fd)
{
	struct sockaddr_in a = somewhere(0);
	return qsock_bind(fd, (struct sockaddr *)&a, sizeof(a));
}
static int do_connect(int fd)
{
	struct sockaddr_in a = nobody();
	return qsock_connect(fd, (struct sockaddr *)&a, sizeof(a));
}
static int do_listen(int fd) { return qsock_listen(fd, 1); }
static int do_accept(int fd) { return qsock_accept(fd, NULL, NULL); }
static int do_accept_stream(int fd) { return qsock_accept_stream(fd, 0); }
static int do_open_stream(int fd)
{
	int s = qsock_open_stream(fd, QSOCK_NONBLOCK);
	if (s >= 0)
		close(s);
	return s < 0 ? -1 : 0;
}
static int do_name(int fd)
{
	struct sockaddr_in a;
	return qsock_getsockname(fd, (struct sockaddr *)&a, &(socklen_t){ sizeof(a) });
}
static int do_peer(int fd)
{
	struct sockaddr_in a;
	return qsock_getpeername(fd, (struct sockaddr *)&a, &(socklen_t){ sizeof(a) });
}
static int do_set_alpn(int fd) { return qsock_setsockopt(fd, SOL_QUIC, QSOCK_ALPN, "x", 1); }
static int do_set_config(int fd)
{
	return qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client));
}
static int do_get(int fd, int name)
{
	char buf[300];
	return qsock_getsockopt(fd, SOL_QUIC, name, buf, &(socklen_t){ sizeof(buf) });
}
static int do_get_alpn(int fd) { return do_get(fd, QSOCK_ALPN); }
static int do_get_name(int fd) { return do_get(fd, QSOCK_SERVER_NAME); }
static int do_get_pin(int fd) { return do_get(fd, QSOCK_PIN); }
static int do_get_credit(int fd) { return do_get(fd, QSOCK_STREAM_CREDIT); }
static int do_get_unsent(int fd) { return do_get(fd, QSOCK_UNSENT); }
static int do_so_error(int fd)
{
	int v;
	return qsock_getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &(socklen_t){ sizeof(v) });
}
static int do_reset(int fd) { return qsock_reset(fd, 1); }
static int do_stop(int fd) { return qsock_stop_sending(fd, 1); }
static int do_id(int fd) { return qsock_stream_id(fd) < 0 ? -1 : 0; }
static int do_close(int fd) { return qsock_close(fd, 0, NULL); }
static int do_error(int fd) { return qsock_error(fd, &(struct qsock_error){ 0 }); }
static int do_info(int fd) { return qsock_info(fd, &(struct qsock_info){ .size = sizeof(struct qsock_info) }); }

#define SKIP (-1)	/* it would change what the others need */
static const struct {
	const char *name;
	int (*call)(int fd);
	int want[KINDS];	/* errno, 0: succeeds */
} calls[] = {
	{ "bind", do_bind, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, 0, EINVAL, EINVAL, EINVAL } },
	{ "listen", do_listen, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, 0, 0, EINVAL, EINVAL } },
	{ "connect", do_connect, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, EINPROGRESS, EINVAL, EISCONN, EISCONN } },
	{ "accept", do_accept, { EBADF, ENOTSOCK, ENOTSOCK, EAGAIN, EINVAL, EAGAIN, EINVAL, EINVAL } },
	{ "accept_stream", do_accept_stream, { EBADF, ENOTSOCK, ENOTSOCK, EAGAIN, ENOTCONN, EINVAL, EAGAIN, EINVAL } },
	{ "open_stream", do_open_stream, { EBADF, ENOTSOCK, ENOTSOCK, SKIP, ENOTCONN, EOPNOTSUPP, 0, EINVAL } },
	{ "getsockname", do_name, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, 0, 0, 0, 0 } },
	{ "getpeername", do_peer, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, ENOTCONN, ENOTCONN, 0, 0 } },
	{ "set ALPN", do_set_alpn, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, 0, EISCONN, EISCONN, EISCONN } },
	{ "set CONFIG", do_set_config, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, 0, EISCONN, EISCONN, EISCONN } },
	{ "get ALPN", do_get_alpn, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, ENOTCONN, ENOTCONN, 0, 0 } },
	{ "get SERVER_NAME", do_get_name, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, ENOTCONN, ENOTCONN, 0, 0 } },
	{ "get PIN", do_get_pin, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, ENOTCONN, 0, SKIP, SKIP } },
	{ "get STREAM_CREDIT", do_get_credit, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, ENOTCONN, ENOTCONN, 0, 0 } },
	{ "get UNSENT", do_get_unsent, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, EINVAL, EINVAL, EINVAL, 0 } },
	{ "SO_ERROR", do_so_error, { EBADF, ENOTSOCK, ENOTSOCK, 0, 0, 0, 0, 0 } },
	{ "reset", do_reset, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, EINVAL, EINVAL, EINVAL, SKIP } },
	{ "stop_sending", do_stop, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, EINVAL, EINVAL, EINVAL, SKIP } },
	{ "stream_id", do_id, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, EINVAL, EINVAL, EINVAL, 0 } },
	{ "close", do_close, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, ENOTCONN, SKIP, SKIP, EINVAL } },
	{ "error", do_error, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, 0, 0, 0, 0 } },
	{ "info", do_info, { EBADF, ENOTSOCK, ENOTSOCK, EOPNOTSUPP, ENOTCONN, ENOTCONN, 0, 0 } },
};

static int make(enum kind k)
{
	int p[2];
	switch (k) {
	case FILE_:
		return open("/dev/null", O_RDWR);
	case TCP:
		return socket(AF_INET, SOCK_STREAM, 0);
	case FOREIGN:
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, p), 0);
		fcntl(p[0], F_SETFL, O_NONBLOCK);
		fcntl(p[1], F_DUPFD_CLOEXEC, 900);	/* not closed, or the first would be at its end */
		close(p[1]);
		return p[0];
	case FRESH:
		return fresh(SOCK_NONBLOCK);
	case LISTENER:
		return fcntl(lb->listener, F_DUPFD, 0);
	case CONN:
		return fcntl(conn[0], F_DUPFD, 0);
	case STREAM:
		return fcntl(strm[0], F_DUPFD, 0);
	default:
		return 1000;	/* free */
	}
}

static void calls__each_on_each_descriptor(void **state)
{
	fcntl(lb->listener, F_SETFL, O_NONBLOCK);
	fcntl(conn[0], F_SETFL, O_NONBLOCK);
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		for (int k = 0; k < KINDS; k++) {
			if (calls[i].want[k] == SKIP)
				continue;
			int fd = make(k);
			assert_true(fd >= 0);
			errno = 0;
			int ret = calls[i].call(fd), got = ret ? errno : 0;
			if (got != calls[i].want[k])
				fail_msg("%s on a %s: %s, not %s", calls[i].name, kind_name[k], strerrorname_np(got),
					 strerrorname_np(calls[i].want[k]));
			close(fd);
		}
	}
	closefrom(900);
	fcntl(lb->listener, F_SETFL, 0);
	write_all(strm[0], "x", 1);	/* all is as it was */
	assert_true(wait_for(strm[1], POLLIN) & POLLIN);
}

/* ---- arguments ------------------------------------------------------------------------ */

static void socket__arguments(void **state)
{
	expect_errno(qsock_socket(AF_UNIX, SOCK_STREAM, 0), EAFNOSUPPORT);
	expect_errno(qsock_socket(-1, SOCK_STREAM, 0), EAFNOSUPPORT);
	expect_errno(qsock_socket(AF_INET, SOCK_DGRAM, 0), EPROTOTYPE);
	expect_errno(qsock_socket(AF_INET, SOCK_STREAM | 0x40000000, 0), EPROTOTYPE);
	expect_errno(qsock_socket(AF_INET6, SOCK_STREAM, IPPROTO_TCP), EPROTONOSUPPORT);
	int fd = qsock_socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_QUIC);
	assert_true(fd >= 0 && fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	fd = fresh(0);
	assert_false(fcntl(fd, F_GETFL) & O_NONBLOCK || fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
}

static void addresses__arguments(void **state)
{
	struct sockaddr_in a = somewhere(0);
	struct sockaddr_in6 six = { .sin6_family = AF_INET6 };
	struct sockaddr odd = { .sa_family = AF_UNIX };
	const struct sockaddr *p = (struct sockaddr *)&a;
	int fd = fresh(0);
	int (*const both[])(int, const struct sockaddr *, socklen_t) = { qsock_bind, qsock_connect };
	for (int i = 0; i < 2; i++) {
		expect_errno(both[i](fd, NULL, sizeof(a)), EFAULT);
		expect_errno(both[i](fd, p, 1), EINVAL);
		expect_errno(both[i](fd, p, sizeof(a) - 1), EINVAL);
		expect_errno(both[i](fd, &odd, sizeof(odd)), EAFNOSUPPORT);
		expect_errno(both[i](fd, (struct sockaddr *)&six, sizeof(six)), EAFNOSUPPORT);
		expect_errno(both[i](fd, (struct sockaddr *)&six, sizeof(a)), EINVAL);
	}
	a.sin_addr.s_addr = htonl(0xc0000201);	/* 192.0.2.1, not ours */
	expect_errno(qsock_bind(fd, p, sizeof(a)), EADDRNOTAVAIL);
	/* after all that it still connects */
	assert_int_equal(qsock_connect(fd, (struct sockaddr *)&lb->addr, sizeof(lb->addr)), 0);
	close(qsock_accept(lb->listener, NULL, NULL));		/* first: what is closed in the same flight is not accepted */
	close(fd);
}

static void bind__taken_or_twice(void **state)
{
	struct sockaddr_in a = somewhere(0);
	socklen_t len = sizeof(a);
	int udp = socket(AF_INET, SOCK_DGRAM, 0), fd = fresh(0);
	assert_int_equal(bind(udp, (struct sockaddr *)&a, len), 0);
	assert_int_equal(getsockname(udp, (struct sockaddr *)&a, &len), 0);
	expect_errno(qsock_bind(fd, (struct sockaddr *)&a, len), EADDRINUSE);
	close(udp);
	assert_int_equal(qsock_bind(fd, (struct sockaddr *)&a, len), 0);
	expect_errno(qsock_bind(fd, (struct sockaddr *)&a, len), EINVAL);
	close(fd);
	fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->server, sizeof(lb->server)), 0);
	assert_int_equal(qsock_bind(fd, (struct sockaddr *)&lb->addr, sizeof(lb->addr)), 0);	/* shared, but */
	expect_errno(qsock_listen(fd, 1), EADDRINUSE);
	close(fd);
}

static void accept__arguments(void **state)
{
	struct sockaddr_in a;
	struct sockaddr_storage big;
	socklen_t len = (socklen_t)-1;
	expect_errno(qsock_accept4(lb->listener, NULL, NULL, 1), EINVAL);
	expect_errno(qsock_accept(lb->listener, (struct sockaddr *)&a, NULL), EFAULT);
	expect_errno(qsock_accept(lb->listener, (struct sockaddr *)&a, &len), EINVAL);
	int c = loopback_connect(lb);	/* nothing was lost by that */
	len = 4;			/* cut, and told how long it would be */
	int fd = qsock_accept4(lb->listener, (struct sockaddr *)&big, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	assert_true(fd >= 0 && len == sizeof(a));
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	close(fd);
	close(c);
}

static void streams__arguments(void **state)
{
	expect_errno(qsock_open_stream(conn[0], 0x8), EINVAL);
	expect_errno(qsock_accept_stream(conn[0], QSOCK_UNI), EINVAL);
	expect_errno(qsock_reset(strm[0], UINT64_C(1) << 62), EINVAL);
	expect_errno(qsock_stop_sending(strm[0], UINT64_MAX), EINVAL);
	expect_errno(qsock_close(conn[0], UINT64_C(1) << 62, NULL), EINVAL);
	int fd = qsock_open_stream(conn[0], QSOCK_NONBLOCK | QSOCK_CLOEXEC);
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK && fcntl(fd, F_GETFD) & FD_CLOEXEC);
	int other = qsock_accept_stream(conn[1], QSOCK_NONBLOCK | QSOCK_CLOEXEC);
	assert_true(fcntl(other, F_GETFL) & O_NONBLOCK && fcntl(other, F_GETFD) & FD_CLOEXEC);
	close(fd);
	close(other);
	loopback_stream(conn, (int[2]){ 0 }, 0);
}

static void halves__reset_twice_or_missing__epipe(void **state)
{
	int uni[2];
	loopback_stream(conn, uni, QSOCK_UNI);
	expect_errno(qsock_reset(uni[1], 1), EPIPE);
	expect_errno(qsock_stop_sending(uni[0], 1), EPIPE);
	assert_int_equal(qsock_reset(uni[0], 1), 0);
	expect_errno(qsock_reset(uni[0], 1), EPIPE);
	assert_int_equal(qsock_stop_sending(strm[0], 1), 0);
	expect_errno(qsock_stop_sending(strm[0], 1), EPIPE);
	close(uni[0]);
	close(uni[1]);
}

static void options__arguments(void **state)
{
	int fd = fresh(0), v = 0;
	socklen_t len = 3;
	char buf[300];
	struct { struct qsock_config c; char more; } big = { .c.size = sizeof(big), .more = 1 };
	expect_errno(qsock_setsockopt(fd, SOL_QUIC, 77, &v, sizeof(v)), ENOPROTOOPT);
	expect_errno(qsock_getsockopt(fd, SOL_QUIC, 77, &v, &len), ENOPROTOOPT);
	expect_errno(qsock_setsockopt(fd, IPPROTO_TCP, 1, &v, sizeof(v)), ENOPROTOOPT);
	expect_errno(qsock_getsockopt(fd, IPPROTO_TCP, 1, &v, &len), ENOPROTOOPT);
	expect_errno(qsock_setsockopt(fd, SOL_QUIC, QSOCK_PIN, "x", 1), ENOPROTOOPT);
	expect_errno(qsock_setsockopt(fd, SOL_QUIC, QSOCK_ALPN, NULL, 1), EFAULT);
	expect_errno(qsock_setsockopt(fd, SOL_QUIC, QSOCK_ALPN, "", 0), EINVAL);
	expect_errno(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &big, 3), EINVAL);
	expect_errno(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &big, sizeof(big)), EINVAL);
	expect_errno(qsock_setsockopt(conn[0], SOL_QUIC, QSOCK_KEY_UPDATE, &v, sizeof(v)), EINVAL);
	expect_errno(qsock_getsockopt(conn[0], SOL_QUIC, QSOCK_ALPN, buf, &len), EINVAL);
	expect_errno(qsock_getsockopt(conn[0], SOL_QUIC, QSOCK_ALPN, NULL, &len), EFAULT);
	expect_errno(qsock_getsockopt(conn[0], SOL_QUIC, QSOCK_STREAM_CREDIT, buf, NULL), EFAULT);
	len = sizeof(buf);
	assert_int_equal(qsock_getsockopt(conn[0], SOL_QUIC, QSOCK_ALPN, buf, &len), 0);
	assert_string_equal(buf, "qsock");
	assert_int_equal(len, 6);
	len = sizeof(v);	/* the kernel's own */
	assert_int_equal(qsock_getsockopt(fd, SOL_SOCKET, SO_TYPE, &v, &len), 0);
	assert_int_equal(v, SOCK_STREAM);
	close(fd);
}

static void error_and_info__arguments(void **state)
{
	struct qsock_info info = { .size = sizeof(info) - 1 };
	struct { struct qsock_info i; char more[8]; } newer = { .i.size = sizeof(newer), .more = "zzzzzzz" };
	struct qsock_error err = { .kind = QSOCK_ERR_LOCAL };
	char text[8];
	expect_errno(qsock_error(conn[0], NULL), EINVAL);
	expect_errno(qsock_info(conn[0], NULL), EINVAL);
	expect_errno(qsock_info(conn[0], &info), EINVAL);
	assert_int_equal(qsock_info(strm[0], &newer.i), 0);
	assert_int_equal(newer.i.size, sizeof(info));
	assert_int_equal(newer.more[0], 0);
	assert_int_equal(qsock_error(conn[0], &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_NONE);
	assert_string_equal(qsock_strerror(&err, text, sizeof(text)), "no erro");
	assert_string_equal(qsock_strerror(&err, text, 1), "");
	assert_string_equal(qsock_strerror(&err, NULL, 0), "");
}

static void strerror__hostile_reason__no_control_characters(void **state)
{
	char text[300];
	for (int kind = 0; kind < 20; kind++) {
		struct qsock_error err = { .kind = kind, .by_peer = 1, .code = UINT64_MAX, .frame_type = UINT64_MAX };
		memset(err.reason, 1, sizeof(err.reason) - 1);
		if (kind == QSOCK_ERR_CONFIG || kind == QSOCK_ERR_LOCAL)
			err.reason[0] = '\0';	/* ours */
		qsock_strerror(&err, text, sizeof(text));
		assert_true(text[0]);
		for (const char *p = text; *p; p++)
			assert_true((unsigned char)*p >= 0x20);
	}
}

/* ---- configurations -------------------------------------------------------------------- */

static void listen__bad_configuration__told_by_error(void **state)
{
	struct qsock_error err;
	struct qsock_config bad = { .cert_file = "/nonexistent/cert", .key_file = "/nonexistent/key" };
	int fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &bad, sizeof(bad)), 0);
	expect_errno(qsock_listen(fd, 1), ENOENT);
	assert_int_equal(qsock_error(fd, &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_CONFIG);
	assert_non_null(strstr(err.reason, "/nonexistent/cert"));
	bad.flags = 0x8000;
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &bad, sizeof(bad)), 0);
	expect_errno(qsock_listen(fd, 1), EINVAL);
	/* mended, it listens */
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->server, sizeof(lb->server)), 0);
	assert_int_equal(qsock_listen(fd, 1), 0);
	close(fd);
}

static void dial_and_serve__failures__told_for_the_thread(void **state)
{
	struct qsock_error err;
	char port[16];
	struct sockaddr_in gone = nobody();
	snprintf(port, sizeof(port), "%u", ntohs(gone.sin_port));

	expect_errno(qsock_dial(NULL, "1", NULL), EINVAL);
	expect_errno(qsock_dial("127.0.0.1", NULL, NULL), EINVAL);
	expect_errno(qsock_dial("a..b", "1", NULL), EHOSTUNREACH);
	assert_int_equal(qsock_error(-1, &err), 0);
	assert_true(err.kind == QSOCK_ERR_LOCAL && strstr(err.reason, "a..b"));
	expect_errno(qsock_dial("127.0.0.1", "no such service", NULL), EINVAL);
	expect_errno(qsock_dial("127.0.0.1", port, NULL), ECONNREFUSED);
	assert_int_equal(qsock_error(-1, &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_REFUSED);
	expect_errno(qsock_dial("127.0.0.1", port, &(struct qsock_config){ .pins = "x" }), EINVAL);
	assert_int_equal(qsock_error(-1, &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_CONFIG);

	snprintf(port, sizeof(port), "%u", ntohs(lb->addr.sin_port));
	expect_errno(qsock_dial("127.0.0.1", port, &(struct qsock_config){ .server_name = "else.example",
			.ca_file = lb->client.ca_file }), EPROTO);
	assert_int_equal(qsock_error(-1, &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_TLS);
	expect_errno(qsock_serve("127.0.0.1", port, &lb->server), EADDRINUSE);
	expect_errno(qsock_serve("192.0.2.1", "0", &lb->server), EADDRNOTAVAIL);
	expect_errno(qsock_serve(NULL, NULL, &lb->server), EINVAL);
	expect_errno(qsock_serve("127.0.0.1", "0", &(struct qsock_config){ .alpn = "," }), EINVAL);
	assert_int_equal(qsock_error(-1, &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_CONFIG);
}

/* ---- connecting -------------------------------------------------------------------------- */

static void connect__nonblocking_refused__so_error_once(void **state)
{
	struct sockaddr_in a = nobody();
	struct qsock_error err;
	int fd = fresh(SOCK_NONBLOCK), v = -1;
	socklen_t len = sizeof(v);
	expect_errno(qsock_connect(fd, (struct sockaddr *)&a, sizeof(a)), EINPROGRESS);
	assert_true(wait_for(fd, POLLOUT) & POLLERR);
	assert_int_equal(qsock_getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &len), 0);
	assert_int_equal(v, ECONNREFUSED);
	assert_int_equal(qsock_getsockopt(fd, SOL_SOCKET, SO_ERROR, &v, &len), 0);
	assert_int_equal(v, 0);
	assert_int_equal(qsock_error(fd, &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_REFUSED);
	expect_errno(qsock_connect(fd, (struct sockaddr *)&a, sizeof(a)), EINVAL);
	expect_errno(qsock_open_stream(fd, 0), ENOTCONN);
	close(fd);
}

static void connect__silence__etimedout(void **state)
{
	struct sockaddr_in a;
	struct qsock_config c = lb->client;
	struct qsock_error err;
	int udp = silent(&a), fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
	c.handshake_timeout_ms = 100;
	assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &c, sizeof(c)), 0);
	expect_errno(qsock_connect(fd, (struct sockaddr *)&a, sizeof(a)), ETIMEDOUT);
	assert_int_equal(qsock_error(fd, &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_HANDSHAKE_TIMEOUT);
	close(fd);
	close(udp);
}

static void connect__in_progress__ealready_and_eagain(void **state)
{
	struct sockaddr_in a;
	int udp = silent(&a), fd = fresh(SOCK_NONBLOCK);
	expect_errno(qsock_connect(fd, (struct sockaddr *)&a, sizeof(a)), EINPROGRESS);
	expect_errno(qsock_connect(fd, (struct sockaddr *)&a, sizeof(a)), EALREADY);
	expect_errno(qsock_open_stream(fd, QSOCK_NONBLOCK), EAGAIN);
	expect_errno(qsock_listen(fd, 1), EINVAL);
	expect_errno(send(fd, "x", 1, 0), EAGAIN);
	assert_int_equal(poll_now(fd, POLLOUT | POLLIN), 0);
	struct timeval tv = { .tv_usec = 20000 };
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), 0);
	expect_errno(qsock_open_stream(fd, 0), EAGAIN);
	close(fd);
	fd = fresh(0);
	assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), 0);
	expect_errno(qsock_connect(fd, (struct sockaddr *)&a, sizeof(a)), EINPROGRESS);
	close(fd);
	close(udp);
}

static void connect__untrusted_or_no_common_protocol__eproto(void **state)
{
	const struct { struct qsock_config c; uint64_t code; } t[] = {
		{ { .pins = "0000000000000000000000000000000000000000000000000000000000000000" }, 0 },
		{ { .ca_file = lb->client.ca_file, .alpn = "another" }, 0x178 },	/* RFC9001 8.1-8 */
	};
	for (size_t i = 0; i < 2; i++) {
		struct qsock_error err;
		int fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
		assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &t[i].c, sizeof(t[i].c)), 0);
		expect_errno(qsock_connect(fd, (struct sockaddr *)&lb->addr, sizeof(lb->addr)), EPROTO);
		assert_int_equal(qsock_error(fd, &err), 0);
		assert_int_equal(err.kind, QSOCK_ERR_TLS);
		assert_int_equal(err.os_errno, EPROTO);
		if (t[i].code)
			assert_int_equal(err.code, t[i].code);
		close(fd);
	}
}

/* ---- after the end ----------------------------------------------------------------------- */

static void connection__lost__econnreset_once_then_enotconn(void **state)
{
	struct qsock_error err;
	char c;
	assert_int_equal(qsock_close(conn[1], 7, "enough"), 0);
	assert_true(wait_for(conn[0], POLLIN) & POLLERR);
	expect_errno(qsock_open_stream(conn[0], 0), ECONNRESET);
	expect_errno(qsock_accept_stream(conn[0], 0), ECONNRESET);
	expect_errno(qsock_accept_stream(conn[0], 0), ENOTCONN);
	expect_errno(qsock_open_stream(conn[0], QSOCK_NONBLOCK), ENOTCONN);
	expect_errno(qsock_close(conn[0], 0, NULL), ENOTCONN);
	expect_errno(read(strm[0], &c, 1), ECONNRESET);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(qsock_error(i ? strm[0] : conn[0], &err), 0);
		assert_int_equal(err.kind, QSOCK_ERR_APPLICATION);
		assert_true(err.by_peer && err.code == 7);
		assert_string_equal(err.reason, "enough");
	}
	expect_errno(qsock_reset(strm[0], 1), EPIPE);
}

static void connection__ended_cleanly__enotconn(void **state)
{
	struct qsock_error err;
	close(strm[0]);
	close(strm[1]);
	close(conn[1]);
	expect_errno(qsock_accept_stream(conn[0], 0), ENOTCONN);
	expect_errno(qsock_open_stream(conn[0], 0), ENOTCONN);
	assert_int_equal(qsock_error(conn[0], &err), 0);
	assert_int_equal(err.kind, QSOCK_ERR_NONE);
	strm[0] = strm[1] = conn[1] = -1;
}

static void listener__closed_by_qsock_close__einval(void **state)
{
	int fd = qsock_serve("127.0.0.1", "0", &lb->server);
	assert_true(fd >= 0);
	assert_int_equal(qsock_close(fd, 0, NULL), 0);
	expect_errno(qsock_accept(fd, NULL, NULL), EINVAL);
	close(fd);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(calls__each_on_each_descriptor),
		T(socket__arguments),
		T(addresses__arguments),
		T(bind__taken_or_twice),
		T(accept__arguments),
		T(streams__arguments),
		T(halves__reset_twice_or_missing__epipe),
		T(options__arguments),
		T(error_and_info__arguments),
		T(strerror__hostile_reason__no_control_characters),
		T(listen__bad_configuration__told_by_error),
		T(dial_and_serve__failures__told_for_the_thread),
		T(connect__nonblocking_refused__so_error_once),
		T(connect__silence__etimedout),
		T(connect__in_progress__ealready_and_eagain),
		T(connect__untrusted_or_no_common_protocol__eproto),
		T(connection__lost__econnreset_once_then_enotconn),
		T(connection__ended_cleanly__enotconn),
		T(listener__closed_by_qsock_close__einval),
	};
	signal(SIGPIPE, SIG_IGN);
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
