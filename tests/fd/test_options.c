/* What the options of struct qsock_config do to real connections, each as its comment in qsock.h says. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "support/certs.h"
#include "support/loopback.h"
#include "support/programs.h"

static struct loopback *lb;
static char cert[100], key[100];	/* of the client */
static int conn[2] = { -1, -1 };

static int setup(void **state)
{
	lb = *state;
	return loopback_setup(state);
}

static void close_all(void)
{
	close_both(conn);
	if (lb->listener >= 0)
		close(lb->listener);
	lb->listener = -1;
}

static int teardown(void **state)
{
	close_both(conn);
	return loopback_teardown(state);
}

static struct qsock_info info(int fd)
{
	struct qsock_info i = { .size = sizeof(i) };
	assert_int_equal(qsock_info(fd, &i), 0);
	return i;
}

/* A word there and back, n bytes there. */
static void talk(size_t n)
{
	static char buf[1 << 20];
	int s[2], end;
	assert_true(n <= sizeof(buf));
	loopback_stream(conn, s, 0);
	write_all(s[0], buf, n);
	assert_int_equal(read_upto(s[1], buf, n, &end), n);
	write_all(s[1], "ok", 2);
	assert_int_equal(read_upto(s[0], buf, 2, &end), 2);
	close(s[0]);
	close(s[1]);
}

static void expect_pin(int fd, bool has)
{
	char pin[65];
	socklen_t len = sizeof(pin);
	int ret = qsock_getsockopt(fd, SOL_QUIC, QSOCK_PIN, pin, &len);
	assert_int_equal(ret, has ? 0 : -1);
	if (has)
		assert_int_equal(strlen(pin), 64);
	else
		assert_int_equal(errno, ENOENT);
}

/* ---- who may come ------------------------------------------------------------ */

static void client_cert__asked_for__checked(void **state)
{
	static const struct { uint32_t flag; bool shown, taken; } table[] = {
		{ QSOCK_CONFIG_CLIENT_CERT, true, true }, { QSOCK_CONFIG_CLIENT_CERT, false, false },
		{ QSOCK_CONFIG_CLIENT_CERT_OPTIONAL, true, true }, { QSOCK_CONFIG_CLIENT_CERT_OPTIONAL, false, true },
	};
	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		lb->server.flags = table[i].flag;
		lb->server.ca_file = lb->client.ca_file;
		lb->client.flags = QSOCK_CONFIG_NO_RESUMPTION;
		lb->client.cert_file = table[i].shown ? cert : NULL;
		lb->client.key_file = table[i].shown ? key : NULL;
		if (table[i].taken) {
			loopback_pair(lb, conn);
			expect_pin(conn[1], table[i].shown);
			talk(10);
		} else {	/* RFC 8446 4.4.2.4: the client may believe for a moment that it is in */
			struct qsock_error err;
			loopback_listen(lb);
			conn[0] = qsock_socket(AF_INET, SOCK_STREAM, 0);
			assert_int_equal(qsock_setsockopt(conn[0], SOL_QUIC, QSOCK_CONFIG, &lb->client,
							  sizeof(lb->client)), 0);
			if (!qsock_connect(conn[0], (struct sockaddr *)&lb->addr, sizeof(lb->addr))) {
				wait_for(conn[0], POLLIN);
				assert_int_equal(qsock_accept_stream(conn[0], 0), -1);
			}
			assert_int_equal(qsock_error(conn[0], &err), 0);
			assert_int_equal(err.kind, QSOCK_ERR_TLS);
			assert_true(err.by_peer);
			assert_int_equal(err.code, 0x100 + 116);
			assert_false(poll_now(lb->listener, POLLIN));
		}
		close_all();
	}
}

static void sni_certs__by_name__chosen_and_told(void **state)
{
	char sni[300], name[256];
	socklen_t len = sizeof(name);
	snprintf(sni, sizeof(sni), "other.example=%s:%s", in_dir(lb->dir, "other.crt"), in_dir(lb->dir, "other.key"));
	lb->server.sni_certs = sni;
	lb->client.server_name = "other.example";
	loopback_pair(lb, conn);
	assert_int_equal(qsock_getsockopt(conn[1], SOL_QUIC, QSOCK_SERVER_NAME, name, &len), 0);
	assert_string_equal(name, "other.example");
	talk(10);
	close(conn[0]);
	close(conn[1]);
	lb->client.server_name = "localhost";		/* the first one's */
	loopback_pair(lb, conn);
	talk(10);
}

static void alpn__servers_and_clients_lists__one_in_common(void **state)
{
	char name[256];
	lb->server.alpn = "b,c";
	lb->client.alpn = "a,b,c";
	loopback_pair(lb, conn);
	for (int i = 0; i < 2; i++) {
		socklen_t len = sizeof(name);
		assert_int_equal(qsock_getsockopt(conn[i], SOL_QUIC, QSOCK_ALPN, name, &len), 0);
		assert_string_equal(name, "b");
		assert_string_equal(info(conn[i]).alpn, "b");
	}
}

/* ---- files --------------------------------------------------------------------- */

static bool file_has(const char *name, const char *text)
{
	static char buf[20000];
	FILE *f = fopen(in_dir(lb->dir, name), "r");
	if (!f)
		return false;
	size_t n = fread(buf, 1, sizeof(buf) - 1, f);
	buf[n] = '\0';
	fclose(f);
	return strstr(buf, text) != NULL;
}

static void keylog_file__secrets_of_the_handshake__written(void **state)
{
	char path[100];
	snprintf(path, sizeof(path), "%s/keys", lb->dir);
	lb->client.keylog_file = path;
	loopback_pair(lb, conn);
	talk(10);
	assert_true(file_has("keys", "CLIENT_TRAFFIC_SECRET_0 "));
	assert_true(file_has("keys", "SERVER_TRAFFIC_SECRET_0 "));
}

static void session_file__second_connection__resumed_but_not_when_forbidden(void **state)
{
	static char path[100];
	snprintf(path, sizeof(path), "%s/sessions", lb->dir);
	lb->client.session_file = path;
	for (int i = 0; i < 3; i++) {
		lb->client.flags = i == 2 ? QSOCK_CONFIG_NO_RESUMPTION : 0;
		loopback_pair(lb, conn);
		talk(10);	/* a ticket has come before the answer */
		assert_int_equal(info(conn[0]).resumed, i == 1);
		assert_int_equal(info(conn[1]).resumed, i == 1);
		expect_pin(conn[0], i != 1);
		close(conn[0]);
		close(conn[1]);
		conn[0] = conn[1] = -1;
	}
}

/* ---- the connection ---------------------------------------------------------------- */

/* Whether a stranger's first packet, of which nothing can be opened, is answered by a Retry. RFC9000 17.2.5 */
static bool answers_with_retry(void)
{
	uint8_t p[1200] = { 0xc3, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 4, 9, 9, 9, 9, 0, 0x44, 0x9a };
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&lb->addr, sizeof(lb->addr)), 0);
	assert_int_equal(send(fd, p, sizeof(p), 0), sizeof(p));
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	loopback_pair(lb, conn);	/* later than the answer, if there is one */
	bool any = poll(&poll_fd, 1, 0) == 1;
	bool retry = any && recv(fd, p, sizeof(p), 0) > 0 && (p[0] & 0xf0) == 0xf0;
	close(fd);
	return retry;
}

static void retry__when_set__asked_of_strangers(void **state)
{
	for (int i = 0; i < 2; i++) {
		lb->server.flags = i ? QSOCK_CONFIG_RETRY : 0;
		loopback_listen(lb);
		assert_int_equal(answers_with_retry(), i);
		talk(10);
		close_all();
	}
}

static void ecn__unless_forbidden__used(void **state)
{
	for (int i = 0; i < 2; i++) {
		lb->client.flags = i ? QSOCK_CONFIG_NO_ECN : 0;
		loopback_pair(lb, conn);
		talk(100000);
		assert_int_equal(info(conn[0]).ecn_capable, !i);
		close_all();
	}
}

static void key_update_packets__after_so_many__updated(void **state)
{
	lb->client.key_update_packets = 100;
	loopback_pair(lb, conn);
	for (int i = 0; i < 8; i++)
		talk(1 << 20);
	assert_true(info(conn[0]).key_updates > 0);
	assert_true(info(conn[1]).key_updates > 0);
}

static void key_update__by_hand__one_more(void **state)
{
	loopback_pair(lb, conn);
	talk(10);
	while (qsock_setsockopt(conn[0], SOL_QUIC, QSOCK_KEY_UPDATE, NULL, 0)) {
		assert_int_equal(errno, EAGAIN);	/* until the handshake is confirmed. RFC9001 6.1-1 */
		talk(10);
	}
	talk(10);
	assert_int_equal(info(conn[0]).key_updates, 1);
	assert_int_equal(info(conn[1]).key_updates, 1);
}

static void unsent__acknowledged__none(void **state)
{
	uint64_t unsent = 1;
	int s[2], end;
	char buf[10];
	loopback_pair(lb, conn);
	loopback_stream(conn, s, 0);
	write_all(s[0], "0123456789", 10);
	assert_int_equal(read_upto(s[1], buf, 10, &end), 10);
	while (unsent) {
		socklen_t len = sizeof(unsent);
		assert_int_equal(qsock_getsockopt(s[0], SOL_QUIC, QSOCK_UNSENT, &unsent, &len), 0);
	}
	close(s[0]);
	close(s[1]);
}

/* 0; or 1 and more: not all; or -errno. */
static int unsent(int fd)
{
	uint64_t n;
	return qsock_getsockopt(fd, SOL_QUIC, QSOCK_UNSENT, &n, &(socklen_t){ sizeof(n) }) ? -errno : (int)n;
}

/* The end counts, and what became of it can be asked for afterwards. */
static void unsent__ended_both_ways__the_end_counts_until_acknowledged(void **state)
{
	int s[2];
	char c;
	loopback_pair(lb, conn);
	for (int i = 0; i < 50; i++) {
		loopback_stream(conn, s, 0);
		shutdown(s[1], SHUT_WR);
		assert_int_equal(read(s[0], &c, 1), 0);
		write_all(s[0], "last", 4);
		shutdown(s[0], SHUT_WR);
		while (unsent(s[0]))
			assert_true(unsent(s[0]) >= 0);
		/* now it must have arrived */
		for (int j = 0; j < 4; j++)
			assert_int_equal(recv(s[1], &c, 1, MSG_DONTWAIT), 1);
		assert_int_equal(recv(s[1], &c, 1, MSG_DONTWAIT), 0);
		close(s[0]);
		close(s[1]);
	}
}

static void unsent__waiting_for_credit__none(void **state)
{
	int s[2];
	lb->server.max_streams_bidi = 1;
	loopback_pair(lb, conn);
	loopback_stream(conn, s, 0);
	int w = qsock_open_stream(conn[0], QSOCK_NONBLOCK);
	assert_int_equal(unsent(w), 0);
	close(w);
	close(s[0]);
	close(s[1]);
}

static void unsent__not_to_be_delivered__enotconn(void **state)
{
	int s[2], t[2], u[2];
	loopback_pair(lb, conn);
	loopback_stream(conn, s, 0);
	loopback_stream(conn, t, 0);
	loopback_stream(conn, u, 0);
	assert_int_equal(qsock_reset(s[0], 1), 0);
	assert_int_equal(unsent(s[0]), -ENOTCONN);
	assert_int_equal(qsock_stop_sending(t[1], 1), 0);
	while (send(t[0], "x", 1, MSG_NOSIGNAL) == 1)
		;
	assert_int_equal(unsent(t[0]), -ENOTCONN);
	write_all(u[0], "x", 1);
	qsock_close(conn[0], 1, NULL);
	assert_int_equal(unsent(u[0]), -ENOTCONN);
	for (int i = 0; i < 2; i++) {
		close(s[i]);
		close(t[i]);
		close(u[i]);
	}
}

static void max_streams__of_the_server__the_clients_credit(void **state)
{
	uint64_t credit[2];
	socklen_t len = sizeof(credit);
	lb->server.max_streams_bidi = 7;
	lb->server.max_streams_uni = 3;
	loopback_pair(lb, conn);
	assert_int_equal(qsock_getsockopt(conn[0], SOL_QUIC, QSOCK_STREAM_CREDIT, credit, &len), 0);
	assert_int_equal(credit[0], 7);
	assert_int_equal(credit[1], 3);
}

static void stream_credit__just_opened__counts(void **state)
{
	uint64_t credit[2];
	int s[90];
	loopback_pair(lb, conn);
	for (int i = 0; i < 90; i++) {
		assert_true((s[i] = qsock_open_stream(conn[0], 0)) >= 0);
		assert_int_equal(qsock_getsockopt(conn[0], SOL_QUIC, QSOCK_STREAM_CREDIT, credit,
						  &(socklen_t){ sizeof(credit) }), 0);
		assert_int_equal(credit[0], 99 - i);
	}
	for (int i = 0; i < 90; i++)
		close(s[i]);
}

static void keepalive__silence_beyond_the_idle_timeout__survived(void **state)
{
	for (int i = 0; i < 2; i++) {
		lb->client.idle_timeout_ms = 400;
		lb->client.keepalive_ms = i ? 0 : 100;
		loopback_pair(lb, conn);
		struct pollfd p = { .fd = conn[0], .events = POLLIN };
		assert_int_equal(poll(&p, 1, i ? 10000 : 1200), i);	/* without it: it ends */
		close_all();
	}
}

static void reuseport__a_second_process__binds_the_same(void **state)
{
	for (int i = 0; i < 2; i++) {
		lb->server.flags = i ? QSOCK_CONFIG_REUSEPORT : 0;
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		socklen_t len = sizeof(a);
		int on = 1, fd = qsock_socket(AF_INET, SOCK_STREAM, 0);
		int other = socket(AF_INET, SOCK_DGRAM, 0);	/* as another process would have it */
		assert_true(fd >= 0 && other >= 0);
		assert_int_equal(setsockopt(other, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
		assert_int_equal(qsock_setsockopt(fd, SOL_QUIC, QSOCK_CONFIG, &lb->server, sizeof(lb->server)), 0);
		assert_int_equal(qsock_bind(fd, (struct sockaddr *)&a, len), 0);
		assert_int_equal(qsock_getsockname(fd, (struct sockaddr *)&a, &len), 0);
		assert_int_equal(bind(other, (struct sockaddr *)&a, len), i ? 0 : -1);
		close(fd);
		close(other);
	}
}

static int group_setup(void **state)
{
	int ret = loopback_group_setup(state);
	struct loopback *l = *state;
	struct ca *ca = ca_make("options CA");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:client.example", .client = true }, l->dir, "client");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:other.example" }, l->dir, "other");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:localhost,IP:127.0.0.1" }, l->dir, "server");
	ca_write(ca, l->dir, "ca");
	ca_free(ca);
	snprintf(cert, sizeof(cert), "%s/client.crt", l->dir);
	snprintf(key, sizeof(key), "%s/client.key", l->dir);
	return ret;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(client_cert__asked_for__checked),
		T(sni_certs__by_name__chosen_and_told),
		T(alpn__servers_and_clients_lists__one_in_common),
		T(keylog_file__secrets_of_the_handshake__written),
		T(session_file__second_connection__resumed_but_not_when_forbidden),
		T(retry__when_set__asked_of_strangers),
		T(ecn__unless_forbidden__used),
		T(key_update_packets__after_so_many__updated),
		T(key_update__by_hand__one_more),
		T(unsent__acknowledged__none),
		T(unsent__ended_both_ways__the_end_counts_until_acknowledged),
		T(unsent__waiting_for_credit__none),
		T(unsent__not_to_be_delivered__enotconn),
		T(max_streams__of_the_server__the_clients_credit),
		T(stream_credit__just_opened__counts),
		T(keepalive__silence_beyond_the_idle_timeout__survived),
		T(reuseport__a_second_process__binds_the_same),
	};
	return cmocka_run_group_tests(tests, group_setup, loopback_group_teardown);
}
