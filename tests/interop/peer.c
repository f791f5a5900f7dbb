/* Our side of the interop runs, on the public calls only: client or server for the scenarios of README, same command line and
 * same checks as goquic/main.go, plus as much HTTP/3 as ngtcp2's programs need to fetch or serve one file. */
#include <errno.h>
#include <getopt.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qsock.h"

#define RESET_BY_CLIENT 77
#define RESET_BY_SERVER 78
#define STOP_BY_SERVER 55
#define CLOSE_BY_CLIENT 1234
#define CLOSE_BY_SERVER 4321
#define CLIENT_REASON "goodbye from the client"
#define SERVER_REASON "goodbye from the server"

static struct qsock_config cfg;
static uint64_t megabytes = 10, streams = 1000, expect_bytes;
static const char *path = "/";
static struct qsock_info last_info;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
	va_list ap;

	printf("failed: ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	fflush(stdout);
	_exit(1);
}

static void fail_fd(int fd, const char *what) __attribute__((noreturn));
static void fail_fd(int fd, const char *what)
{
	char text[400];
	const char *os = strerror(errno);
	struct qsock_error e = { 0 };

	qsock_error(fd, &e);
	fail("%s: %s (%s)", what, os, qsock_strerror(&e, text, sizeof(text)));
}

/* ---- pattern: byte at an offset of any stream ---------------------------------- */

static uint8_t pattern_byte(uint64_t off)
{
	return (uint8_t)((off ^ off >> 8 ^ off >> 16 ^ off >> 24) * 157);
}

/* 0, or -1 with errno as write set it. */
static int write_pattern(int fd, uint64_t n)
{
	uint8_t buf[32768];

	for (uint64_t off = 0; off < n;) {
		size_t k = n - off < sizeof(buf) ? n - off : sizeof(buf);

		for (size_t i = 0; i < k; i++)
			buf[i] = pattern_byte(off + i);
		for (size_t done = 0; done < k;) {
			ssize_t w = write(fd, buf + done, k - done);

			if (w < 0)
				return -1;
			done += (size_t)w;
		}
		off += k;
	}
	return 0;
}

/* Read to the end, checking. 0, or -1 with errno; *got bytes either way. */
static int read_pattern(int fd, uint64_t *got)
{
	uint8_t buf[32768];
	ssize_t n;

	*got = 0;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++, ++*got)
			if (buf[i] != pattern_byte(*got))
				fail("wrong byte at offset %llu", (unsigned long long)*got);
	return n < 0 ? -1 : 0;
}

static void read_exactly(int fd, uint8_t *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t r = read(fd, p + done, n - done);

		if (r <= 0)
			fail_fd(fd, r ? "read" : "unexpected end");
		done += (size_t)r;
	}
}

static void write_all(int fd, const uint8_t *p, size_t n)
{
	for (size_t done = 0; done < n;) {
		ssize_t w = write(fd, p + done, n - done);

		if (w < 0)
			fail_fd(fd, "write");
		done += (size_t)w;
	}
}

/* ---- small steps ----------------------------------------------------------------- */

static int open_stream(int conn, int flags)
{
	int s = qsock_open_stream(conn, flags);

	if (s < 0)
		fail_fd(conn, "open a stream");
	return s;
}

static int accept_stream(int conn)
{
	int s = qsock_accept_stream(conn, 0);

	if (s < 0)
		fail_fd(conn, "accept a stream");
	return s;
}

static void want_error(int fd, enum qsock_error_kind kind, uint64_t code, const char *what)
{
	struct qsock_error e = { 0 };
	char text[400];

	if (qsock_error(fd, &e) < 0)
		fail("%s: qsock_error: %s", what, strerror(errno));
	if (e.kind != kind || e.code != code || !e.by_peer)
		fail("%s: want kind %d code %llu by the peer, got kind %d code %llu: %s", what, kind, (unsigned long long)code,
		     e.kind, (unsigned long long)e.code, qsock_strerror(&e, text, sizeof(text)));
}

/* Nothing more comes on this connection: wait for its end, and see that it is the right one. */
static void want_closed(int conn, uint64_t code, const char *reason)
{
	struct qsock_error e = { 0 };
	int s = qsock_accept_stream(conn, 0);

	if (s >= 0)
		fail("unexpected stream");
	if (!code && !*reason) {	/* a clean end is no error; errno would tell one only once */
		if (qsock_error(conn, &e) || e.kind != QSOCK_ERR_NONE)
			fail_fd(conn, "want a clean end of the connection");
		return;
	}
	want_error(conn, QSOCK_ERR_APPLICATION, code, "end of the connection");
	qsock_error(conn, &e);
	if (strcmp(e.reason, reason))
		fail("reason \"%s\", want \"%s\"", e.reason, reason);
}

static void want_idle(int conn)
{
	struct qsock_error e = { 0 };

	if (qsock_accept_stream(conn, 0) >= 0)
		fail("unexpected stream");
	qsock_error(conn, &e);
	if (e.kind != QSOCK_ERR_IDLE_TIMEOUT)
		fail("want idle timeout, got kind %d", e.kind);
}

static void want_resumed(int conn, bool want)
{
	struct qsock_info info = { .size = sizeof(info) };

	if (qsock_info(conn, &info) < 0)
		fail_fd(conn, "info");
	if (info.resumed != want)
		fail("resumed: want %d, got %d", want, info.resumed);
}

/* For the last line: the connection's figures before it goes. */
static void note_info(int conn)
{
	last_info.size = sizeof(last_info);
	qsock_info(conn, &last_info);
}

struct job {
	int fd;
	uint64_t bytes;
	pthread_t thread;
};

static void *writer(void *arg)
{
	struct job *j = arg;

	if (write_pattern(j->fd, j->bytes) < 0)
		fail_fd(j->fd, "write");
	if (shutdown(j->fd, SHUT_WR) < 0)
		fail_fd(j->fd, "shutdown");
	return NULL;
}

static void *echoer(void *arg)
{
	int fd = *(int *)arg;
	uint8_t buf[16384];
	ssize_t n;

	free(arg);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		write_all(fd, buf, (size_t)n);
	close(fd);
	return NULL;
}

/* ---- scenarios --------------------------------------------------------------------- */

static void echo_once(int conn, uint64_t n)
{
	struct job j = { .fd = open_stream(conn, 0), .bytes = n };
	uint64_t got;

	pthread_create(&j.thread, NULL, writer, &j);
	if (read_pattern(j.fd, &got) < 0)
		fail_fd(j.fd, "read");
	pthread_join(j.thread, NULL);
	if (got != n)
		fail("echo: sent %llu bytes, got %llu", (unsigned long long)n, (unsigned long long)got);
	close(j.fd);
}

static void echo_server(int conn, uint64_t code, const char *reason)
{
	int s;

	while ((s = qsock_accept_stream(conn, 0)) >= 0) {
		int *arg = malloc(sizeof(*arg));
		pthread_t t;

		*arg = s;
		note_info(conn);
		if (pthread_create(&t, NULL, echoer, arg))
			fail("pthread_create");
		pthread_detach(t);
	}
	want_closed(conn, code, reason);
}

/* Both sides alike: bytes out on a unidirectional stream of one's own, as many in on the peer's. */
static void bulk(int conn)
{
	struct job j = { .fd = open_stream(conn, QSOCK_UNI), .bytes = megabytes << 20 };
	uint64_t got;

	pthread_create(&j.thread, NULL, writer, &j);
	int in = accept_stream(conn);
	if (read_pattern(in, &got) < 0)
		fail_fd(in, "read");
	pthread_join(j.thread, NULL);
	if (got != j.bytes)
		fail("bulk: want %llu bytes, got %llu", (unsigned long long)j.bytes, (unsigned long long)got);
	close(in);
	close(j.fd);
}

static void many_streams(int conn)
{
	int fds[64];
	uint64_t opened = 0, got;

	for (uint64_t done = 0; done < streams; done++) {
		for (; opened < streams && opened - done < 64; opened++) {
			int s = fds[opened % 64] = open_stream(conn, 0);

			if (write_pattern(s, 32) < 0 || shutdown(s, SHUT_WR) < 0)
				fail_fd(s, "write");
		}
		int s = fds[done % 64];
		if (read_pattern(s, &got) < 0 || got != 32)
			fail_fd(s, "echo of 32 bytes");
		close(s);
	}
}

static void reset_client(int conn)
{
	uint8_t buf[1000];
	uint64_t got;
	int s = open_stream(conn, 0);

	if (write_pattern(s, sizeof(buf)) < 0)
		fail_fd(s, "write");
	read_exactly(s, buf, sizeof(buf));
	if (qsock_reset(s, RESET_BY_CLIENT) < 0)
		fail_fd(s, "qsock_reset");
	if (read_pattern(s, &got) == 0 || errno != ECONNRESET)
		fail("read after the peer's reset: want ECONNRESET");
	struct qsock_error e = { 0 };
	if (qsock_error(s, &e) || e.kind != QSOCK_ERR_STREAM_RESET || (e.code != RESET_BY_SERVER && e.code != RESET_BY_CLIENT))
		fail("reset by the server: got kind %d code %llu", e.kind, (unsigned long long)e.code);
	close(s);
}

static void reset_server(int conn)
{
	uint8_t buf[1000];
	int s = accept_stream(conn);

	read_exactly(s, buf, sizeof(buf));
	write_all(s, buf, sizeof(buf));
	if (read(s, buf, 1) != -1 || errno != ECONNRESET)
		fail("read after the peer's reset: want ECONNRESET");
	want_error(s, QSOCK_ERR_STREAM_RESET, RESET_BY_CLIENT, "reset by the client");
	/* A reset takes down the descriptor's both halves: ours was answered with the peer's code. */
	if (qsock_reset(s, RESET_BY_SERVER) == 0 || errno != EPIPE)
		fail("second reset: want EPIPE");
	want_closed(conn, 0, "");
	close(s);
}

static void stop_client(int conn)
{
	uint64_t got;
	int s = open_stream(conn, 0);

	if (write_pattern(s, UINT64_C(1) << 40) == 0 || errno != EPIPE)
		fail("write after STOP_SENDING: want EPIPE, got %s", strerror(errno));
	want_error(s, QSOCK_ERR_STOP_SENDING, STOP_BY_SERVER, "stopped by the server");
	if (read_pattern(s, &got) < 0 || got)
		fail_fd(s, "the server's half should end cleanly");
	close(s);
}

static void stop_server(int conn)
{
	uint8_t buf[1000];
	int s = accept_stream(conn);

	read_exactly(s, buf, sizeof(buf));
	if (qsock_stop_sending(s, STOP_BY_SERVER) < 0 || shutdown(s, SHUT_WR) < 0)
		fail_fd(s, "qsock_stop_sending");
	want_closed(conn, 0, "");
	close(s);
}

/* ---- just enough HTTP/3 (RFC 9114, 9204) ------------------------------------------------ */

static const uint8_t control_stream[] = { 0x00, 0x04, 0x00 };	/* stream type, empty SETTINGS */

static uint64_t h3_varint(int fd)
{
	uint8_t b[8];

	read_exactly(fd, b, 1);
	size_t n = (size_t)1 << (b[0] >> 6);
	uint64_t v = b[0] & 0x3f;
	read_exactly(fd, b + 1, n - 1);
	for (size_t i = 1; i < n; i++)
		v = v << 8 | b[i];
	return v;
}

static size_t h3_header(uint8_t *p, uint8_t first, const char *value)
{
	size_t n = strlen(value);

	p[0] = first;
	p[1] = (uint8_t)n;	/* not Huffman; shorter than 127 */
	memcpy(p + 2, value, n);
	return n + 2;
}

static void h3_client(int conn)
{
	uint8_t req[300] = { 0x01, 0, 0, 0, 0xd1, 0xd7 };	/* HEADERS, length, prefix, GET, https */
	size_t n = 6;
	int control = open_stream(conn, QSOCK_UNI), s = open_stream(conn, 0);

	if (strlen(path) > 100)
		fail("path too long");
	write_all(control, control_stream, sizeof(control_stream));
	n += h3_header(req + n, 0x50, "localhost");	/* :authority */
	n += h3_header(req + n, 0x51, path);		/* :path */
	/* The length has one byte here, so everything after it must stay below 64. */
	if (n - 2 > 63)
		fail("request too long");
	req[1] = (uint8_t)(n - 2);
	write_all(s, req, n);
	shutdown(s, SHUT_WR);
	for (uint64_t body = 0;;) {
		if (body == expect_bytes && recv(s, req, 1, MSG_PEEK) == 0)
			break;
		uint64_t type = h3_varint(s), left = h3_varint(s);
		for (; left; left--) {
			uint8_t b[1];

			read_exactly(s, b, 1);
			if (type == 0 && *b != pattern_byte(body++))
				fail("wrong byte at offset %llu of the body", (unsigned long long)body - 1);
		}
	}
	close(s);
	close(control);
}

static void *h3_stream(void *arg)
{
	static const uint8_t ok[] = { 0x01, 0x03, 0x00, 0x00, 0xd9 };	/* HEADERS, length, prefix, :status 200 */
	int fd = *(int *)arg;
	uint8_t buf[4096], data[9] = { 0x00, 0xc0 };	/* DATA, a length of eight bytes */
	ssize_t n;

	free(arg);
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		;
	if (n == 0 && qsock_stream_id(fd) % 4 == 0) {
		for (int i = 0; i < 7; i++)
			data[2 + i] = (uint8_t)(expect_bytes >> 8 * (6 - i));
		write_all(fd, ok, sizeof(ok));
		write_all(fd, data, sizeof(data));
		if (write_pattern(fd, expect_bytes) < 0)
			fail_fd(fd, "write the body");
	}
	close(fd);
	return NULL;
}

static void h3_server(int conn)
{
	int control = open_stream(conn, QSOCK_UNI), s;

	write_all(control, control_stream, sizeof(control_stream));
	while ((s = qsock_accept_stream(conn, 0)) >= 0) {
		int *arg = malloc(sizeof(*arg));
		pthread_t t;

		*arg = s;
		note_info(conn);
		if (pthread_create(&t, NULL, h3_stream, arg))
			fail("pthread_create");
		pthread_detach(t);
	}
	close(control);
}

/* ---- roles ----------------------------------------------------------------------------- */

static bool is(const char *scenario, const char *name)
{
	return !strcmp(scenario, name);
}

static bool twice(const char *scenario)
{
	return is(scenario, "resume") || is(scenario, "early");
}

static int dial(const char *host, const char *port)
{
	int conn = qsock_dial(host, port, &cfg);

	if (conn < 0)
		fail_fd(-1, "connect");
	return conn;
}

static void want_refused(const char *host, const char *port, uint64_t lo, uint64_t hi)
{
	struct qsock_error e = { 0 };

	if (qsock_dial(host, port, &cfg) >= 0)
		fail("connected, but must not");
	qsock_error(-1, &e);
	if (e.kind != QSOCK_ERR_TLS || e.code < lo || e.code > hi)
		fail("want TLS error, got kind %d code %#llx", e.kind, (unsigned long long)e.code);
}

static void client(const char *scenario, const char *host, const char *port)
{
	if (is(scenario, "badca")) {
		want_refused(host, port, 0x100, 0x1ff);
		return;
	}
	if (is(scenario, "badalpn")) {
		want_refused(host, port, 0x178, 0x178);
		return;
	}
	int conn = dial(host, port);
	if (is(scenario, "echo")) {
		echo_once(conn, 65536);
		echo_once(conn, 0);
		echo_once(conn, 1);
	} else if (is(scenario, "bulk")) {
		bulk(conn);
		echo_once(conn, 1);	/* who gets this answer knows that the other side has everything */
	} else if (is(scenario, "streams")) {
		many_streams(conn);
	} else if (is(scenario, "reset")) {
		reset_client(conn);
	} else if (is(scenario, "stop")) {
		stop_client(conn);
	} else if (is(scenario, "close")) {
		echo_once(conn, 100);
		note_info(conn);
		qsock_close(conn, CLOSE_BY_CLIENT, CLIENT_REASON);
	} else if (is(scenario, "sclose")) {
		echo_once(conn, 100);
		want_closed(conn, CLOSE_BY_SERVER, SERVER_REASON);
	} else if (is(scenario, "idle")) {
		echo_once(conn, 100);
		want_idle(conn);
	} else if (is(scenario, "resume")) {
		want_resumed(conn, false);
		echo_once(conn, 100);
		close(conn);
		conn = dial(host, port);
		want_resumed(conn, true);
		echo_once(conn, 100);
	} else if (is(scenario, "h3")) {
		h3_client(conn);
	} else {
		fail("unknown scenario %s", scenario);
	}
	note_info(conn);
	close(conn);
}

static void serve(const char *scenario, int conn, int nth)
{
	uint8_t buf[100];

	note_info(conn);
	if (is(scenario, "echo") || is(scenario, "streams") || is(scenario, "newcid") || is(scenario, "rebind")) {
		echo_server(conn, 0, "");
	} else if (is(scenario, "bulk")) {
		bulk(conn);
		echo_server(conn, 0, "");
	} else if (is(scenario, "reset")) {
		reset_server(conn);
	} else if (is(scenario, "stop")) {
		stop_server(conn);
	} else if (is(scenario, "close")) {
		echo_server(conn, CLOSE_BY_CLIENT, CLIENT_REASON);
	} else if (is(scenario, "sclose") || is(scenario, "idle")) {
		int s = accept_stream(conn);

		read_exactly(s, buf, sizeof(buf));
		write_all(s, buf, sizeof(buf));
		close(s);
		if (is(scenario, "idle")) {
			want_idle(conn);
			return;
		}
		usleep(200000);	/* a close overtakes what is on its way */
		qsock_close(conn, CLOSE_BY_SERVER, SERVER_REASON);
	} else if (twice(scenario)) {
		want_resumed(conn, nth > 0);
		echo_server(conn, 0, "");
	} else if (is(scenario, "h3")) {
		h3_server(conn);
	} else {
		fail("unknown scenario %s", scenario);
	}
}

static void server(const char *scenario, const char *host, const char *port)
{
	struct sockaddr_storage at;
	socklen_t at_len = sizeof(at);
	char service[NI_MAXSERV];
	int l = qsock_serve(host, port, &cfg);

	if (l < 0)
		fail_fd(-1, "listen");
	if (qsock_getsockname(l, (struct sockaddr *)&at, &at_len) < 0)
		fail_fd(l, "getsockname");
	if (getnameinfo((struct sockaddr *)&at, at_len, NULL, 0, service, sizeof(service), NI_NUMERICSERV))
		fail("getnameinfo");
	printf("listening %s\n", service);
	fflush(stdout);
	for (int i = 0; i < (twice(scenario) ? 2 : 1); i++) {
		int conn = qsock_accept(l, NULL, NULL);

		if (conn < 0)
			fail_fd(l, "accept");
		if (is(scenario, "badca") || is(scenario, "badalpn"))
			fail("accepted a connection that must fail");
		serve(scenario, conn, i);
		close(conn);
	}
	close(l);
}

static void options(int argc, char **argv)
{
	enum { CERT = 1, KEY, CA, NAME, ALPN, KEYLOG, RETRY, IDLE, MB, STREAMS, KEY_UPDATE, DEADLINE, SESSION, EXPECT, PATH };
	static const struct option known[] = {
		{ "cert", 1, NULL, CERT }, { "key", 1, NULL, KEY }, { "ca", 1, NULL, CA }, { "name", 1, NULL, NAME },
		{ "alpn", 1, NULL, ALPN }, { "keylog", 1, NULL, KEYLOG }, { "retry", 0, NULL, RETRY }, { "idle", 1, NULL, IDLE },
		{ "mb", 1, NULL, MB }, { "streams", 1, NULL, STREAMS }, { "key-update", 1, NULL, KEY_UPDATE },
		{ "deadline", 1, NULL, DEADLINE }, { "session", 1, NULL, SESSION }, { "expect", 1, NULL, EXPECT },
		{ "path", 1, NULL, PATH }, { 0 }
	};
	int o;

	alarm(60);
	while ((o = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (o) {
		case CERT: cfg.cert_file = optarg; break;
		case KEY: cfg.key_file = optarg; break;
		case CA: cfg.ca_file = optarg; break;
		case NAME: cfg.server_name = optarg; break;
		case ALPN: cfg.alpn = optarg; break;
		case KEYLOG: cfg.keylog_file = optarg; break;
		case SESSION: cfg.session_file = optarg; break;
		case RETRY: cfg.flags |= QSOCK_CONFIG_RETRY; break;
		case IDLE: cfg.idle_timeout_ms = (uint32_t)strtoul(optarg, NULL, 10); break;
		case MB: megabytes = strtoull(optarg, NULL, 10); break;
		case STREAMS: streams = strtoull(optarg, NULL, 10); break;
		case EXPECT: expect_bytes = strtoull(optarg, NULL, 10); break;
		case PATH: path = optarg; break;
		case KEY_UPDATE: cfg.key_update_packets = strtoull(optarg, NULL, 10); break;
		case DEADLINE: alarm((unsigned)strtoul(optarg, NULL, 10)); break;
		default: exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	cfg = (struct qsock_config){ .size = sizeof(cfg), .alpn = "qsock-interop", .server_name = "localhost" };
	options(argc, argv);
	if (argc - optind == 2 && is(argv[optind], "pattern"))
		return write_pattern(STDOUT_FILENO, strtoull(argv[optind + 1], NULL, 10)) ? 1 : 0;
	char *port = argc - optind == 3 ? strrchr(argv[optind + 2], ':') : NULL;
	if (!port) {
		fprintf(stderr, "usage: peer client|server SCENARIO HOST:PORT [options]\n       peer pattern BYTES\n");
		return 2;
	}
	*port++ = '\0';
	char *host = argv[optind + 2];
	if (*host == '[') {	/* [::1]:4433 */
		host[strcspn(host, "]")] = '\0';
		host++;
	}
	if (is(argv[optind], "server"))
		server(argv[optind + 1], host, port);
	else
		client(argv[optind + 1], host, port);
	printf("ok %s %s key-updates=%llu resumed=%d rtt=%u us lost=%llu of %llu\n", argv[optind], argv[optind + 1],
	       (unsigned long long)last_info.key_updates, last_info.resumed, last_info.rtt_us,
	       (unsigned long long)last_info.packets_lost, (unsigned long long)last_info.packets_sent);
	return 0;
}
