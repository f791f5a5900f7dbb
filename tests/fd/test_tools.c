/* The example programs in the hands of people and strangers: wrong words, wrong keys, hostile datagrams, full disks,
 * killed partners. Each failure is one plain line and a status, and what serves goes on serving. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/certs.h"
#include "support/loopback.h"
#include "support/programs.h"
#include "support/tools.h"

#define BIG (1 << 30)		/* bytes of a sparse file, of which a test sees only the beginning */

static char dir[64];
static struct tool files, echo;		/* servers for everyone */
static const char hello[] = "hello, world\n";

/* ---- what works, and must still work afterwards ---------------------------------- */

static bool exists(const char *name)
{
	return access(in_dir(dir, name), F_OK) == 0;
}

static void expect_got(const char *name, const char *text)
{
	char path[64], buf[64];
	snprintf(path, sizeof(path), "got/%s", name);
	int end, fd = open(in_dir(dir, path), O_RDONLY);
	assert_true(fd >= 0);
	size_t n = read_upto(fd, buf, sizeof(buf), &end);
	close(fd);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(buf, text, n);
	unlink(in_dir(dir, path));
}

static void succeeds(struct tool *t)
{
	int status = tool_wait(t);
	if (status || t->len)
		fail_msg("exit status %d, and it said \"%s\"", status, t->said);
}

static void files_serve(const struct tool *server)
{
	struct tool t;
	tool_start(&t, NULL, "qget --pin %s -o %s/got https://127.0.0.1:%u/hello", server->pin, dir, server->port);
	succeeds(&t);
	expect_got("hello", hello);
}

static void converses(const char *client, const struct tool *server)
{
	char answer[64];
	struct tool t;
	tool_start(&t, NULL, "%s --pin %s 127.0.0.1 %u", client, server->pin, server->port);
	size_t n = tool_converses(&t, hello, answer, sizeof(answer));
	assert_int_equal(n, strlen(hello));
	assert_memory_equal(answer, hello, n);
}

static void still_serving(void)
{
	files_serve(&files);
	converses("echo_client", &echo);
}

static void tools__as_told__work(void **state)
{
	converses("qcat --alpn echo", &echo);
	still_serving();
}

static void qget__names_families_and_two_servers__work(void **state)
{
	struct tool second, t;
	server_start(&second, NULL, "qserve --retry -b localhost -p 0 %s/www", dir);
	tool_start(&t, NULL, "qget --pin %s -o %s/got https://localhost:%u/hello https://[::1]:%u/empty "
		   "https://127.0.0.1:%u/sub/deep https://localhost:%u//sub/../second", files.pin, dir, second.port,
		   files.port, files.port, second.port);
	succeeds(&t);
	expect_got("hello", hello);
	expect_got("second", "2");
	expect_got("empty", "");
	expect_got("deep", "deep");
	assert_int_equal(tool_end(&second, SIGINT), 0);
}

static void tools__on_an_old_kernel__work(void **state)
{
	static const char *const outside[] = { "../secret", "sub/../../secret", "link", "sub", "sub/", "sub/deep", "fifo", "hello/" };
	static const struct tool_how old = { .old_kernel = true };
	struct tool t, f, e;
	server_start(&f, &old, "qserve -p 0 %s/www", dir);
	server_start(&e, &old, "echo_server 0");
	tool_start(&t, &old, "qget --pin %s -o %s/got https://127.0.0.1:%u//hello", f.pin, dir, f.port);
	succeeds(&t);
	expect_got("hello", hello);
	for (size_t i = 0; i < sizeof(outside) / sizeof(outside[0]); i++)
		refuses(&old, "not ", "qget --pin %s -o %s/got https://127.0.0.1:%u/%s", f.pin, dir, f.port, outside[i]);
	files_serve(&f);
	converses("qcat --alpn echo", &e);
	assert_int_equal(tool_end(&f, SIGINT), 0);
	tool_end(&e, SIGTERM);
}

/* ---- wrong words ------------------------------------------------------------------ */

static void qget__wrong_words__said(void **state)
{
	static const struct { const char *options, *where, *says; } table[] = {
		{ "--pin @", "/nothere", "not found" },
		{ "--pin @", "/sub", "not found" },
		{ "--pin @", "/fifo", "not found" },
		{ "--pin @", "/../secret", "not found" },
		{ "--pin @", "/sub/../../secret", "not found" },
		{ "--pin @", "//proc/self/environ", "not found" },
		{ "--pin @", "/link", "not found" },
		{ "--pin @ --ca /nothere", "/hello", "cannot read CA file /nothere: No such file" },
		{ "--pin 123", "/hello", "\"123\" is not 64 hex digits" },
		{ "--pin ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff", "/hello", "matches no pin" },
		{ "", "/hello", "unknown CA" },
		{ "--pin @ --insecure", "/hello", "pin" },
		{ "--pin @ -o /nothere", "/hello", "/nothere: No such file or directory" },
		{ "--pin @ -o /proc/self/environ", "/hello", "Not a directory" },
		{ "--pin @", "/", "not of the form" },
		{ "--pin @", "/sub/..", "not of the form" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *at = strchr(table[i].options, '@');
		int before = at ? (int)(at - table[i].options) : (int)strlen(table[i].options);
		refuses(NULL, table[i].says, "qget -o %s/got %.*s%s%s https://127.0.0.1:%u%s", dir, before,
			table[i].options, at ? files.pin : "", at ? at + 1 : "", files.port, table[i].where);
	}
	refuses(NULL, "would become one file", "qget --pin %s https://[::1]:%u/x https://[::1]:%u/a/x", files.pin,
		files.port, files.port);
	refuses(NULL, "not of the form", "qget http://127.0.0.1:%u/hello", files.port);
	refuses(NULL, "bad..name: ", "qget https://bad..name:%u/hello", files.port);
	refuses(NULL, "70000: no such port", "qget https://127.0.0.1:70000/hello");
	refuses(NULL, "no application protocol", "qget --pin %s -o %s/got https://127.0.0.1:%u/hello", echo.pin, dir,
		echo.port);
	assert_false(exists("got/hello"));
	still_serving();
}

static void usage__status_2(void **state)
{
	static const char *const words[] = { "qget", "qget --nonsense", "qserve", "qserve a b", "qcat", "qcat x",
		"qcat -l", "qcat -l -p", "echo_client", "echo_client x", "echo_server 0 cert",
		"echo_server 0 cert key more" };
	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
		struct tool t;
		tool_start(&t, NULL, "%s", words[i]);
		assert_int_equal(tool_wait(&t), 2);
		assert_true(t.len > 0);
	}
}

static void qget__an_endless_path__said(void **state)
{
	char path[5000];
	memset(path, 'a', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	refuses(NULL, "not of the form", "qget https://127.0.0.1:%u/%s/x", files.port, path);
	path[2000] = '\0';
	refuses(NULL, "code 400", "qget -o %s/got --pin %s https://127.0.0.1:%u/%s/x", dir, files.pin, files.port,
		path);
	still_serving();
}

static void servers__wrong_words__said(void **state)
{
	static const struct { const char *options, *says; } table[] = {
		{ "--cert %s/nothere.crt --key %s/good.key", "nothere.crt: No such file" },
		{ "--cert %s/good.crt --key %s/nothere.key", "nothere.key: No such file" },
		{ "--cert %s/good.crt --key %s/www", "www" },
		{ "--cert %s/good.crt --key %s/other.key", "match" },
		{ "--cert %s/good.key --key %s/good.crt", "good.key" },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char options[400], bare[400], *key = bare;
		snprintf(options, sizeof(options), table[i].options, dir, dir);
		strcpy(bare, options + strlen("--cert "));
		key = strstr(bare, " --key ");
		*key = '\0';
		refuses(NULL, table[i].says, "qserve -p 0 %s %s/www", options, dir);
		refuses(NULL, table[i].says, "qcat -l 0 %s", options);
		refuses(NULL, table[i].says, "echo_server 0 %s %s", bare, key + strlen(" --key "));
	}
	refuses(NULL, "cert_file without key_file", "qserve -p 0 --cert %s/good.crt %s/www", dir, dir);
	refuses(NULL, "No such file or directory", "qserve -p 0 %s/nothere", dir);
	refuses(NULL, "Not a directory", "qserve -p 0 %s/www/hello", dir);
	refuses(NULL, "already in use", "qserve -p %u %s/www", files.port, dir);
	refuses(NULL, "already in use", "qcat -l %u", files.port);
	refuses(NULL, "already in use", "echo_server %u", files.port);
	refuses(NULL, "no such port", "qserve -p nonsense %s/www", dir);
	refuses(NULL, "no such port", "qserve -p 65536 %s/www", dir);
	refuses(NULL, "bad..name: ", "qserve -p 0 -b bad..name %s/www", dir);
	refuses(NULL, "annot assign", "qserve -p 0 -b 192.0.2.1 %s/www", dir);
	still_serving();
}

static void key__without_permission__said(void **state)
{
	if (geteuid() == 0)
		skip();		/* nothing is forbidden to root */
	assert_int_equal(chmod(in_dir(dir, "good.key"), 0), 0);
	refuses(NULL, "good.key: Permission denied", "qserve -p 0 --cert %s/good.crt --key %s/good.key %s/www", dir,
		dir, dir);
	assert_int_equal(chmod(in_dir(dir, "good.key"), 0600), 0);
}

static void certificates__wrong__said_and_nothing_fetched(void **state)
{
	static const struct { const char *cert, *ca, *says; } table[] = {
		{ "other", "ca", "mismatch" },
		{ "expired", "ca", "expired" },
		{ "good", "stranger", "unable to get local issuer" },
		{ "good", "ca", NULL },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct tool server, t;
		server_start(&server, NULL, "qserve -b 127.0.0.1 -p 0 --cert %s/%s.crt --key %s/%s.key %s/www", dir,
			     table[i].cert, dir, table[i].cert, dir);
		tool_start(&t, NULL, "qget --ca %s/%s.crt -o %s/got https://127.0.0.1:%u/hello", dir, table[i].ca, dir,
			   server.port);
		if (table[i].says) {
			tool_fails(&t, table[i].says);
			assert_false(exists("got/hello"));
			tool_start(&t, NULL, "qget --insecure -o %s/got https://127.0.0.1:%u/hello", dir, server.port);
		}
		succeeds(&t);
		expect_got("hello", hello);
		assert_int_equal(tool_end(&server, SIGTERM), 0);
	}
}

/* ---- networks that are not there ---------------------------------------------------- */

static int udp_socket(unsigned *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0 && !bind(fd, (struct sockaddr *)&a, len));
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	*port = ntohs(a.sin_port);
	return fd;
}

static void udp_connect(int fd, unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t)port) };
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
}

static void clients__nobody_there__said(void **state)
{
	static const char *const says[] = { "connection refused", "Network is unreachable" };
	unsigned port;
	int taken = udp_socket(&port);		/* nobody else's, and deaf to all but itself: ICMP */
	udp_connect(taken, port);
	for (int i = 0; i < 1 + tools_can_hide(); i++) {
		const struct tool_how how = { .no_network = i };
		refuses(&how, says[i], "qget --insecure https://127.0.0.1:%u/hello", port);
		refuses(&how, says[i], "qcat --insecure 127.0.0.1 %u", port);
		refuses(&how, says[i], "echo_client --insecure 127.0.0.1 %u", port);
	}
	close(taken);
}

/* ---- garbage ------------------------------------------------------------------------ */

/* What looks like a client's first packet of QUIC version 1, or of another. */
static size_t initial(uint8_t *p, uint32_t version, uint8_t token_len, unsigned length)
{
	const uint8_t head[] = { 0xc3, (uint8_t)(version >> 24), (uint8_t)(version >> 16), (uint8_t)(version >> 8),
				 (uint8_t)version, 8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 9, 9, 9, 9, token_len,
				 (uint8_t)(0x40 | length >> 8), (uint8_t)length };
	memset(p, 0x5a, 1500);
	memcpy(p, head, sizeof(head));
	return sizeof(head);
}

static void throw_garbage(unsigned port)
{
	unsigned own;
	uint8_t p[60000];
	int fd = udp_socket(&own);
	udp_connect(fd, port);
	send(fd, p, 0, 0);
	send(fd, "hello\n", 6, 0);
	send(fd, "GET / HTTP/1.1\r\n\r\n", 18, 0);
	for (size_t n = 1; n < 1500; n += n < 30 ? 1 : 97) {
		static const uint32_t versions[] = { 1, 0, 0x6b3343cf, 0x1a2a3a4a, 0xffffffff };
		for (size_t v = 0; v < sizeof(versions) / sizeof(versions[0]); v++) {
			initial(p, versions[v], 0, 1178);
			send(fd, p, n, 0);
		}
		for (size_t i = 0; i < n; i++)
			p[i] = (uint8_t)rand();
		send(fd, p, n, 0);
	}
	initial(p, 1, 63, 0x3fff);		/* lengths that reach beyond the datagram */
	send(fd, p, 1200, 0);
	initial(p, 1, 0xff, 0x3fff);
	send(fd, p, 1200, 0);
	initial(p, 1, 0, 1178);
	send(fd, p, sizeof(p), 0);
	close(fd);
}

static void tcp_refused(unsigned port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				 .sin_port = htons((uint16_t)port) };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), -1);
	assert_int_equal(errno, ECONNREFUSED);
	close(fd);
}

static void servers__garbage__serve_on(void **state)
{
	char answer[64];
	struct tool cat, t;
	srand(1);
	server_start(&cat, NULL, "qcat -l 0");
	const unsigned ports[] = { files.port, echo.port, cat.port };
	for (int i = 0; i < 3; i++) {
		throw_garbage(ports[i]);
		tcp_refused(ports[i]);
	}
	refuses(NULL, "matches no pin", "qcat --pin %064d 127.0.0.1 %u", 0, cat.port);
	refuses(NULL, "no application protocol", "qcat --pin %s --alpn other 127.0.0.1 %u", cat.pin, cat.port);
	tool_start(&t, NULL, "qcat --pin %s 127.0.0.1 %u", cat.pin, cat.port);
	close(t.in);
	t.in = -1;
	assert_int_equal(tool_converses(&cat, "from the server", answer, sizeof(answer)), 0);
	int end;
	assert_int_equal(read_upto(t.out, answer, sizeof(answer), &end), 15);
	succeeds(&t);
	still_serving();
}

/* Answer what the tool sends until it gives up. negotiate: with a version that nobody speaks; else with noise. */
static void answer_badly(struct tool *t, int fd, bool negotiate)
{
	for (;;) {
		uint8_t in[2048], out[64] = { 0x80 };
		struct sockaddr_in from;
		socklen_t len = sizeof(from);
		struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = t->err, .events = POLLIN } };
		assert_true(poll(p, 2, -1) > 0);
		if (p[1].revents)
			return;
		ssize_t n = recvfrom(fd, in, sizeof(in), 0, (struct sockaddr *)&from, &len);
		if (n < 50 || !(in[0] & 0x80))
			continue;	/* a stateless reset: it answers noise, too */
		/* RFC9000 17.2.1: the connection ids change places */
		size_t dcid = in[5], scid = in[6 + dcid], at = 5;
		out[at++] = (uint8_t)scid;
		memcpy(out + at, in + 7 + dcid, scid);
		at += scid;
		out[at++] = (uint8_t)dcid;
		memcpy(out + at, in + 6, dcid);
		at += dcid;
		memcpy(out + at, "\x1a\x2a\x3a\x4a", 4);
		for (size_t i = 0; i < sizeof(out) && !negotiate; i++)
			out[i] = (uint8_t)rand();
		sendto(fd, out, negotiate ? at + 4 : (size_t)rand() % sizeof(out), 0, (struct sockaddr *)&from, len);
	}
}

static void clients__a_server_of_another_world__said(void **state)
{
	static const char *const words[] = { "qget --insecure https://127.0.0.1:%u/hello",
					     "qcat --insecure 127.0.0.1 %u", "echo_client --insecure 127.0.0.1 %u" };
	for (int i = 0; i < 3; i++) {
		char line[100];
		unsigned port;
		struct tool t;
		int fd = udp_socket(&port);
		snprintf(line, sizeof(line), words[i], port);
		tool_start(&t, NULL, "%s", line);
		answer_badly(&t, fd, true);
		tool_fails(&t, "version");
		close(fd);
	}
	unsigned port;		/* noise is no answer: once is enough, it takes the time that a handshake may */
	struct tool t;
	int fd = udp_socket(&port);
	tool_start(&t, NULL, "qget --insecure https://127.0.0.1:%u/hello", port);
	answer_badly(&t, fd, false);
	tool_fails(&t, "timed out");
	close(fd);
}

/* ---- ends that come too early ------------------------------------------------------- */

/* Returns when the tool has begun to write got/big.part. */
static void big_begins(struct tool *t, const struct tool *server)
{
	struct inotify_event ev[64];
	int watch = inotify_init1(IN_CLOEXEC);
	assert_true(watch >= 0 && inotify_add_watch(watch, in_dir(dir, "got"), IN_MODIFY) >= 0);
	tool_start(t, NULL, "qget --pin %s -o %s/got https://127.0.0.1:%u/big", server->pin, dir, server->port);
	assert_true(read(watch, ev, sizeof(ev)) > 0);
	close(watch);
}

static void qget__server_killed__no_file(void **state)
{
	struct tool server, t;
	server_start(&server, NULL, "qserve -p 0 -b 127.0.0.1 %s/www", dir);
	big_begins(&t, &server);
	assert_int_equal(tool_end(&server, SIGKILL), 256 + SIGKILL);
	tool_fails(&t, "https://127.0.0.1");
	assert_false(exists("got/big"));
	assert_false(exists("got/big.part"));
}

static void qget__killed_or_interrupted__no_whole_file_and_the_server_serves_on(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct tool t;
		big_begins(&t, &files);
		assert_int_equal(tool_end(&t, i ? SIGINT : SIGKILL), 256 + (i ? SIGINT : SIGKILL));
		assert_false(exists("got/big"));
		unlink(in_dir(dir, "got/big.part"));
		files_serve(&files);
	}
}

static void qget__stopped__others_are_served(void **state)
{
	struct tool t;
	big_begins(&t, &files);
	kill(t.pid, SIGSTOP);
	for (int i = 0; i < 3; i++)
		files_serve(&files);
	assert_int_equal(tool_end(&t, SIGKILL), 256 + SIGKILL);
	unlink(in_dir(dir, "got/big.part"));
}

static void qget__disk_full__said_and_nothing_left(void **state)
{
	const struct tool_how small = { .max_file_bytes = 100000 };
	refuses(&small, "File too large", "qget --pin %s -o %s/got https://127.0.0.1:%u/big", files.pin, dir,
		files.port);
	assert_int_equal(symlink("/dev/full", in_dir(dir, "got/big.part")), 0);
	refuses(NULL, "No space left", "qget --pin %s -o %s/got https://127.0.0.1:%u/big", files.pin, dir, files.port);
	assert_false(exists("got/big"));
	assert_false(exists("got/big.part"));
	assert_int_equal(mkdir(in_dir(dir, "got/big.part"), 0700), 0);
	refuses(NULL, "Is a directory", "qget --pin %s -o %s/got https://127.0.0.1:%u/big", files.pin, dir, files.port);
	assert_int_equal(rmdir(in_dir(dir, "got/big.part")), 0);
	still_serving();
}

static void standard_descriptors__closed_or_full__said(void **state)
{
	static const char *const clients[] = { "echo_client", "qcat --alpn echo" };
	static const struct { struct tool_how how; const char *says; } table[] = {
		{ { .close_out = true }, "standard output: Bad file descriptor" },
		{ { .out_file = "/dev/full" }, "standard output: No space left" },
		{ { .in_file = "/" }, "standard input: Is a directory" },
	};
	for (size_t k = 0; k < 2; k++) {
		for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
			struct tool t;
			tool_start(&t, &table[i].how, "%s --pin %s 127.0.0.1 %u", clients[k], echo.pin, echo.port);
			assert_true(table[i].how.in_file || write(t.in, "x", 1) == 1);
			tool_fails(&t, table[i].says);
		}
		struct tool t;
		tool_start(&t, &(struct tool_how){ .close_in = true, .close_err = true }, "%s --pin %s 127.0.0.1 %u",
			   clients[k], echo.pin, echo.port);
		succeeds(&t);
	}
	still_serving();
}

static void qcat__input_breaks_off__no_clean_end_for_the_peer(void **state)
{
	struct tool cat;
	server_start(&cat, NULL, "qcat -l 0");
	refuses(&(struct tool_how){ .in_file = "/" }, "standard input: Is a directory", "qcat --pin %s 127.0.0.1 %u",
		cat.pin, cat.port);
	tool_fails(&cat, "reset by the peer");
}

static void qcat__server_killed_before_it_has_read__said(void **state)
{
	char c;
	struct tool cat, t;
	struct tool_how how = { .in_file = in_dir(dir, "some") };
	server_start(&cat, &(struct tool_how){ .in_file = "/dev/null" }, "qcat -l 0");
	tool_start(&t, &how, "qcat --pin %s 127.0.0.1 %u", cat.pin, cat.port);
	assert_int_equal(read(cat.out, &c, 1), 1);
	assert_int_equal(tool_end(&cat, SIGKILL), 256 + SIGKILL);
	tool_fails(&t, "");
}

/* ---- limits of the server ------------------------------------------------------------ */

#define SMALL_LIMIT 32

/* More connections than it has descriptors, each with a stream: all of that goes, and it must be noticed. */
static void crowd(unsigned server, const char *alpn)
{
	const struct qsock_config cfg = { .alpn = alpn, .flags = QSOCK_CONFIG_INSECURE };
	char port[16];
	int fd[2 * SMALL_LIMIT][2];
	snprintf(port, sizeof(port), "%u", server);
	for (int i = 0; i < 2 * SMALL_LIMIT; i++) {
		fd[i][0] = qsock_dial("127.0.0.1", port, &cfg);
		assert_true(fd[i][0] >= 0);
		fd[i][1] = qsock_open_stream(fd[i][0], 0);
		assert_true(fd[i][1] >= 0 && write(fd[i][1], "x", 1) == 1);
	}
	for (int i = 0; i < 2 * SMALL_LIMIT; i++) {
		close(fd[i][1]);
		assert_int_equal(qsock_close(fd[i][0], 0, NULL), 0);
		close(fd[i][0]);
	}
}

static void servers__no_descriptors_left__serve_again(void **state)
{
	const struct tool_how how = { .max_files = SMALL_LIMIT };
	struct tool server;
	server_start(&server, &how, "qserve -p 0 -b 127.0.0.1 %s/www", dir);
	crowd(server.port, "hq-interop");
	files_serve(&server);
	assert_int_equal(tool_end(&server, SIGINT), 0);
	server_start(&server, &how, "echo_server 0");
	crowd(server.port, "echo");
	converses("echo_client", &server);
	tool_end(&server, SIGKILL);
}

static void echo_server__interrupted__ends(void **state)
{
	struct tool server;
	server_start(&server, NULL, "echo_server 0");
	converses("echo_client", &server);
	assert_int_equal(tool_end(&server, SIGINT), 256 + SIGINT);
}

/* ---- the progress bar ---------------------------------------------------------------- */

static void qget__on_a_terminal__shows_progress(void **state)
{
	char seen[4096];
	int terminal[2];
	struct tool t;
	assert_int_equal(openpty(&terminal[0], &terminal[1], NULL, NULL, NULL), 0);
	tool_start(&t, &(struct tool_how){ .err_fd = terminal[1] },
		   "qget --pin %s -o %s/got https://127.0.0.1:%u/hello", files.pin, dir, files.port);
	succeeds(&t);
	close(terminal[1]);
	for (size_t n = 0; n < sizeof(seen) - 1; n++)	/* a pty ends with EIO */
		if (seen[n] = '\0', read(terminal[0], seen + n, 1) != 1)
			break;
	close(terminal[0]);
	assert_non_null(strstr(seen, "[##############################] 1/1 files"));
	expect_got("hello", hello);
}

/* ---- the scene ------------------------------------------------------------------------ */

static int group_setup(void **state)
{
	struct ca *ca = ca_make("tools"), *stranger = ca_make("stranger");
	signal(SIGPIPE, SIG_IGN);
	testdir_make(dir);
	tools_home(dir);
	assert_int_equal(mkdir(in_dir(dir, "www"), 0755) | mkdir(in_dir(dir, "www/sub"), 0755), 0);
	assert_int_equal(mkdir(in_dir(dir, "got"), 0755) | mkfifo(in_dir(dir, "www/fifo"), 0644), 0);
	text_write(dir, "secret", "secret");
	assert_int_equal(symlink("../secret", in_dir(dir, "www/link")), 0);
	text_write(in_dir(dir, "www"), "hello", hello);
	text_write(in_dir(dir, "www"), "second", "2");
	text_write(in_dir(dir, "www"), "empty", "");
	text_write(in_dir(dir, "www"), "big", "");
	text_write(in_dir(dir, "www/sub"), "deep", "deep");
	assert_int_equal(truncate(in_dir(dir, "www/big"), BIG), 0);
	text_write(dir, "some", "");
	assert_int_equal(truncate(in_dir(dir, "some"), 2000000), 0);	/* less than qcat hands over at once */
	ca_write(ca, dir, "ca");
	ca_write(stranger, dir, "stranger");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:localhost,IP:127.0.0.1" }, dir, "good");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:other.example" }, dir, "other");
	leaf_write(ca, &(struct leaf_spec){ .san = "IP:127.0.0.1", .from_s = -9000, .until_s = -60 }, dir, "expired");
	ca_free(ca);
	ca_free(stranger);
	server_start(&files, NULL, "qserve -p 0 %s/www", dir);
	server_start(&echo, NULL, "echo_server 0");
	return 0;
}

static int group_teardown(void **state)
{
	tool_end(&files, SIGTERM);
	tool_end(&echo, SIGTERM);
	testdir_remove(dir);
	return 0;
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, limit_setup, limit_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(tools__as_told__work),
		TEST(qget__names_families_and_two_servers__work),
		TEST(tools__on_an_old_kernel__work),
		TEST(usage__status_2),
		TEST(qget__wrong_words__said),
		TEST(qget__an_endless_path__said),
		TEST(servers__wrong_words__said),
		TEST(key__without_permission__said),
		TEST(certificates__wrong__said_and_nothing_fetched),
		TEST(clients__nobody_there__said),
		TEST(servers__garbage__serve_on),
		TEST(clients__a_server_of_another_world__said),
		TEST(qget__server_killed__no_file),
		TEST(qget__killed_or_interrupted__no_whole_file_and_the_server_serves_on),
		TEST(qget__stopped__others_are_served),
		TEST(qget__disk_full__said_and_nothing_left),
		TEST(standard_descriptors__closed_or_full__said),
		TEST(qcat__input_breaks_off__no_clean_end_for_the_peer),
		TEST(qcat__server_killed_before_it_has_read__said),
		TEST(servers__no_descriptors_left__serve_again),
		TEST(echo_server__interrupted__ends),
		TEST(qget__on_a_terminal__shows_progress),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
