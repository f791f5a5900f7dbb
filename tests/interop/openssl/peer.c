/* The other side of the interop runs: OpenSSL's own QUIC (3.5 and later) as client or server for raw streams. Speaks
 * the same scenarios and takes the same command line as ../peer.c; see ../README. One thread, nothing blocks: step()
 * moves what can be moved on all streams, and a scenario steps until it has what it wants. */
#include <arpa/inet.h>
#include <getopt.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/quic.h>
#include <openssl/ssl.h>

#define RESET_BY_CLIENT 77
#define RESET_BY_SERVER 78
#define STOP_BY_SERVER 55
#define CLOSE_BY_CLIENT 1234
#define CLOSE_BY_SERVER 4321
#define CLIENT_REASON "goodbye from the client"
#define SERVER_REASON "goodbye from the server"
#define ECHO_ROOM 65536

struct stream {
	SSL *ssl;
	bool echo, keep_open;
	uint64_t to_send, sent, got;	/* bytes; an echo sends what it got */
	bool in_end, out_end;
	int in_state, out_state;	/* SSL_STREAM_STATE_*, of what has ended */
	uint64_t in_code, out_code;
	uint8_t room[ECHO_ROOM];	/* received and not yet echoed: from sent to got, modulo the size */
};

static const char *cert, *key, *ca, *name = "localhost", *alpn = "qsock-interop", *keylog, *suite, *groups;
static uint64_t megabytes = 10, nstreams = 1000, key_update, idle_ms = 30000;
static bool retry;
static SSL *conn;
static int udp = -1;
static struct stream **streams;
static size_t count;
static unsigned key_updates;
static uint64_t moved;		/* bytes in both directions */

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...)
{
	va_list ap;

	printf("failed: ");
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	printf(" [%s]\n", ERR_reason_error_string(ERR_peek_last_error()));
	fflush(stdout);
	_exit(1);
}

static uint8_t pattern_byte(uint64_t off)
{
	return (uint8_t)((off ^ off >> 8 ^ off >> 16 ^ off >> 24) * 157);
}

/* ---- streams ----------------------------------------------------------------------- */

static struct stream *add(SSL *ssl)
{
	struct stream *s = calloc(1, sizeof(*s));

	streams = realloc(streams, (count + 1) * sizeof(*streams));
	if (!s || !streams)
		fail("no memory");
	*s = (struct stream){ .ssl = ssl };
	/* A server's streams do not have it from the context. */
	SSL_set_mode(ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	int type = SSL_get_stream_type(ssl);
	s->in_end = !(type & SSL_STREAM_TYPE_READ);
	s->out_end = !(type & SSL_STREAM_TYPE_WRITE);
	return streams[count++] = s;
}

static void done_with(struct stream *s)
{
	SSL_free(s->ssl);
	s->ssl = NULL;
}

static void pump_in(struct stream *s)
{
	uint8_t buf[16384];
	size_t n, room = sizeof(buf);

	while (!s->in_end) {
		if (s->echo && ECHO_ROOM - (s->got - s->sent) < room)
			room = ECHO_ROOM - (s->got - s->sent);
		if (!room)
			return;
		ERR_clear_error();
		int ok = SSL_read_ex(s->ssl, buf, room, &n);
		if (!ok && SSL_get_error(s->ssl, 0) == SSL_ERROR_WANT_READ)
			return;
		if (!ok) {
			s->in_end = true;
			s->in_state = SSL_get_stream_read_state(s->ssl);
			SSL_get_stream_read_error_code(s->ssl, &s->in_code);
			return;
		}
		for (size_t i = 0; i < n; i++, s->got++) {
			if (s->echo)
				s->room[s->got % ECHO_ROOM] = buf[i];
			else if (buf[i] != pattern_byte(s->got))
				fail("wrong byte at offset %llu", (unsigned long long)s->got);
		}
		moved += n;
	}
}

/* One write of what there is; false: nothing more can be written now. */
static bool write_some(struct stream *s)
{
	uint8_t buf[16384];
	uint64_t left = (s->echo ? s->got : s->to_send) - s->sent;
	size_t n = left < sizeof(buf) ? left : sizeof(buf), written;

	for (size_t i = 0; i < n; i++)
		buf[i] = s->echo ? s->room[(s->sent + i) % ECHO_ROOM] : pattern_byte(s->sent + i);
	if (!n)
		return false;
	ERR_clear_error();
	if (SSL_write_ex(s->ssl, buf, n, &written)) {
		s->sent += written;
		moved += written;
		return true;
	}
	int e = SSL_get_error(s->ssl, 0);
	if (e != SSL_ERROR_WANT_WRITE && e != SSL_ERROR_WANT_READ) {
		s->out_end = true;
		s->out_state = SSL_get_stream_write_state(s->ssl);
		SSL_get_stream_write_error_code(s->ssl, &s->out_code);
	}
	return false;
}

static void pump_out(struct stream *s)
{
	while (!s->out_end && write_some(s))
		;
	bool all = s->echo ? s->in_state == SSL_STREAM_STATE_FINISHED && s->sent == s->got : s->sent == s->to_send;
	if (s->out_end || s->keep_open || !all)
		return;
	if (!SSL_stream_conclude(s->ssl, 0))
		fail("SSL_stream_conclude");
	s->out_end = true;
	s->out_state = SSL_STREAM_STATE_FINISHED;
}

static bool ended(SSL_CONN_CLOSE_INFO *info)
{
	return SSL_get_conn_close_info(conn, info, sizeof(*info));
}

static void wait_for_packets(SSL *ssl)
{
	struct pollfd p = { .fd = udp, .events = POLLIN };
	struct timeval tv;
	int infinite = 1, ms = 20;

	if (SSL_net_write_desired(ssl))
		p.events |= POLLOUT;
	if (SSL_get_event_timeout(ssl, &tv, &infinite) && !infinite)
		ms = tv.tv_sec || tv.tv_usec > 20000 ? 20 : (int)(tv.tv_sec * 1000 + (tv.tv_usec + 999) / 1000);
	poll(&p, 1, ms);
}

static bool echoing;	/* what the peer opens is echoed, and otherwise left to accept_stream() */

static void step(void)
{
	SSL_CONN_CLOSE_INFO info;
	uint64_t before = moved;
	SSL *ssl;

	SSL_handle_events(conn);
	while (echoing && (ssl = SSL_accept_stream(conn, SSL_ACCEPT_STREAM_NO_BLOCK)))
		add(ssl)->echo = true;
	for (size_t i = 0; i < count; i++) {
		if (!streams[i]->ssl)
			continue;
		pump_in(streams[i]);
		pump_out(streams[i]);
		if (streams[i]->in_end && streams[i]->out_end && streams[i]->echo)
			done_with(streams[i]);
	}
	if (key_update && moved / 1200 >= key_update * (key_updates + 1) && SSL_key_update(conn, SSL_KEY_UPDATE_REQUESTED))
		key_updates++;
	if (moved == before && !ended(&info))
		wait_for_packets(conn);
}

static void step_alive(void)
{
	SSL_CONN_CLOSE_INFO info;

	step();
	if (ended(&info))
		fail("connection ended: code %llu \"%s\" %s", (unsigned long long)info.error_code, info.reason,
		     info.flags & SSL_CONN_CLOSE_FLAG_LOCAL ? "here" : "by the peer");
}

static struct stream *open_stream(uint64_t flags)
{
	SSL *ssl;

	while (!(ssl = SSL_new_stream(conn, flags | SSL_STREAM_FLAG_NO_BLOCK)))
		step_alive();
	return add(ssl);
}

static struct stream *accept_stream(void)
{
	SSL *ssl;

	while (!(ssl = SSL_accept_stream(conn, SSL_ACCEPT_STREAM_NO_BLOCK)))
		step_alive();
	return add(ssl);
}

static void want_closed(uint64_t code, const char *reason)
{
	SSL_CONN_CLOSE_INFO info;

	while (!ended(&info))
		step();
	if (info.flags || info.error_code != code || strcmp(info.reason ? info.reason : "", reason))
		fail("want close by the peer, code %llu \"%s\"; got flags %u, code %llu \"%s\"", (unsigned long long)code, reason,
		     info.flags, (unsigned long long)info.error_code, info.reason);
}

/* OpenSSL keeps a connection alive as long as its events are handled: so they are not. */
static void want_idle(void)
{
	SSL_CONN_CLOSE_INFO info;

	usleep((useconds_t)idle_ms * 1500);
	while (!ended(&info))
		step();
	if (!(info.flags & SSL_CONN_CLOSE_FLAG_LOCAL) || !(info.flags & SSL_CONN_CLOSE_FLAG_TRANSPORT) ||
	    info.error_code != OSSL_QUIC_LOCAL_ERR_IDLE_TIMEOUT)
		fail("want idle timeout; got flags %u, code %#llx", info.flags, (unsigned long long)info.error_code);
}

/* ---- scenarios --------------------------------------------------------------------- */

static void want_whole(struct stream *s, uint64_t n)
{
	while (!s->in_end || !s->out_end)
		step_alive();
	if (s->in_state != SSL_STREAM_STATE_FINISHED || s->got != n)
		fail("want %llu bytes and an end; got %llu, state %d, code %llu", (unsigned long long)n,
		     (unsigned long long)s->got, s->in_state, (unsigned long long)s->in_code);
}

static void echo_once(uint64_t n)
{
	struct stream *s = open_stream(0);

	s->to_send = n;
	want_whole(s, n);
	done_with(s);
}

static void bulk(void)
{
	struct stream *out = open_stream(SSL_STREAM_FLAG_UNI);

	out->to_send = megabytes << 20;
	struct stream *in = accept_stream();
	want_whole(in, out->to_send);
	while (!out->out_end)
		step_alive();
	if (out->out_state != SSL_STREAM_STATE_FINISHED)
		fail("bulk: %llu bytes were written, then state %d", (unsigned long long)out->sent, out->out_state);
}

static void many_streams(void)
{
	for (uint64_t i = 0; i < nstreams; i++)
		open_stream(0)->to_send = 32;
	for (uint64_t i = 0; i < nstreams; i++)
		want_whole(streams[i], 32);
}

static void want_reset(struct stream *s, uint64_t code, uint64_t other_code)
{
	while (!s->in_end)
		step_alive();
	if (s->in_state != SSL_STREAM_STATE_RESET_REMOTE || (s->in_code != code && s->in_code != other_code))
		fail("want a reset with code %llu; got state %d, code %llu", (unsigned long long)code, s->in_state,
		     (unsigned long long)s->in_code);
}

static void reset(struct stream *s, uint64_t code)
{
	SSL_STREAM_RESET_ARGS args = { .quic_error_code = code };

	s->out_end = true;
	if (!SSL_stream_reset(s->ssl, &args, sizeof(args)))
		fail("SSL_stream_reset");
}

static void reset_client(void)
{
	struct stream *s = open_stream(0);

	s->keep_open = true;
	s->to_send = 1000;
	while (s->got < 1000)
		step_alive();
	reset(s, RESET_BY_CLIENT);
	want_reset(s, RESET_BY_SERVER, RESET_BY_CLIENT);
}

static void reset_server(void)
{
	struct stream *s = accept_stream();

	s->echo = true;
	want_reset(s, RESET_BY_CLIENT, RESET_BY_CLIENT);
	if (!s->out_end)
		reset(s, RESET_BY_SERVER);
	want_closed(0, "");
}

static void stop_client(void)
{
	struct stream *s = open_stream(0);

	s->to_send = UINT64_MAX;
	while (!s->in_end || !s->out_end)
		step_alive();
	/* It was reset in answer, so it says RESET_LOCAL. */
	if (s->out_state != SSL_STREAM_STATE_RESET_LOCAL || s->out_code != STOP_BY_SERVER)
		fail("want STOP_SENDING with code %d; got state %d, code %llu", STOP_BY_SERVER, s->out_state,
		     (unsigned long long)s->out_code);
	if (s->in_state != SSL_STREAM_STATE_FINISHED || s->got)
		fail("the server's half should end cleanly: state %d", s->in_state);
}

static bool is(const char *scenario, const char *what)
{
	return !strcmp(scenario, what);
}

static void shut(uint64_t code, const char *reason)
{
	SSL_SHUTDOWN_EX_ARGS args = { .quic_error_code = code, .quic_reason = reason };

	/* 0: it has not left yet. */
	while (SSL_shutdown_ex(conn, SSL_SHUTDOWN_FLAG_RAPID, &args, sizeof(args)) != 1)
		wait_for_packets(conn);
}

static void client_does(const char *scenario)
{
	if (is(scenario, "echo")) {
		echo_once(65536);
		echo_once(0);
		echo_once(1);
	} else if (is(scenario, "bulk")) {
		bulk();
		echo_once(1);
	} else if (is(scenario, "streams")) {
		many_streams();
	} else if (is(scenario, "reset")) {
		reset_client();
	} else if (is(scenario, "stop")) {
		stop_client();
	} else if (is(scenario, "close")) {
		echo_once(100);
		shut(CLOSE_BY_CLIENT, CLIENT_REASON);
		return;
	} else if (is(scenario, "sclose")) {
		echo_once(100);
		want_closed(CLOSE_BY_SERVER, SERVER_REASON);
		return;
	} else if (is(scenario, "idle")) {
		echo_once(100);
		want_idle();
		return;
	} else if (is(scenario, "resume")) {
		echo_once(100);
	} else {
		fail("unknown scenario %s", scenario);
	}
	shut(0, "");
}

static void serve(const char *scenario, int nth)
{
	echoing = !is(scenario, "bulk") && !is(scenario, "reset");
	if (is(scenario, "bulk")) {
		bulk();
		echoing = true;
		want_closed(0, "");
	} else if (is(scenario, "reset")) {
		reset_server();
	} else if (is(scenario, "close")) {
		want_closed(CLOSE_BY_CLIENT, CLIENT_REASON);
	} else if (is(scenario, "sclose")) {
		while (!count || streams[0]->ssl)
			step_alive();
		for (int i = 0; i < 20; i++) {	/* a close overtakes what is on its way */
			usleep(10000);
			SSL_handle_events(conn);
		}
		shut(CLOSE_BY_SERVER, SERVER_REASON);
	} else if (is(scenario, "idle")) {
		while (!count || streams[0]->ssl)
			step_alive();
		want_idle();
	} else if (is(scenario, "badca") || is(scenario, "badalpn")) {
		while (!SSL_is_init_finished(conn))
			step();
		fail("accepted a connection that must fail");
	} else if (is(scenario, "resume")) {
		while (!SSL_is_init_finished(conn))
			step_alive();
		if (SSL_session_reused(conn) != nth)
			fail("resumed: want %d", nth);
		want_closed(0, "");
	} else if (is(scenario, "echo") || is(scenario, "streams")) {
		want_closed(0, "");
	} else {
		fail("unknown scenario %s", scenario);
	}
}

/* ---- roles ----------------------------------------------------------------------------- */

static unsigned char wire_alpn[64];

static int select_alpn(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in, unsigned inlen,
		       void *arg)
{
	int r = SSL_select_next_proto((unsigned char **)out, len, wire_alpn, wire_alpn[0] + 1u, in, inlen);

	return r == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

static void log_key(const SSL *ssl, const char *line)
{
	FILE *f = fopen(keylog, "a");

	if (!f)
		return;
	fprintf(f, "%s\n", line);
	fclose(f);
}

static SSL_SESSION *session;

static int keep_session(SSL *ssl, SSL_SESSION *s)
{
	SSL_SESSION_free(session);
	session = s;
	return 1;
}

static SSL_CTX *make_context(const SSL_METHOD *method)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	if (!ctx)
		fail("SSL_CTX_new");
	wire_alpn[0] = (unsigned char)snprintf((char *)wire_alpn + 1, sizeof(wire_alpn) - 1, "%s", alpn);
	SSL_CTX_set_alpn_select_cb(ctx, select_alpn, NULL);
	if (SSL_CTX_set_alpn_protos(ctx, wire_alpn, wire_alpn[0] + 1u))
		fail("ALPN");
	if (cert && (SSL_CTX_use_certificate_chain_file(ctx, cert) != 1 ||
		     SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) != 1))
		fail("certificate and key");
	if (ca && !SSL_CTX_load_verify_file(ctx, ca))
		fail("CA");
	if (ca)
		SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
	if (keylog)
		SSL_CTX_set_keylog_callback(ctx, log_key);
	if (suite && !SSL_CTX_set_ciphersuites(ctx, suite))
		fail("cipher suite");
	if (groups && !SSL_CTX_set1_groups_list(ctx, groups))
		fail("groups");
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(ctx, keep_session);
	return ctx;
}

static BIO_ADDR *address(const char *host, const char *port, int *family)
{
	BIO_ADDRINFO *list = NULL;
	BIO_ADDR *addr = BIO_ADDR_new();

	if (!BIO_lookup_ex(host, port, BIO_LOOKUP_CLIENT, AF_UNSPEC, SOCK_DGRAM, 0, &list) || !addr)
		fail("address");
	*family = BIO_ADDRINFO_family(list);
	BIO_ADDR_copy(addr, BIO_ADDRINFO_address(list));
	BIO_ADDRINFO_free(list);
	return addr;
}

static void open_socket(int family, const BIO_ADDR *at)
{
	if (udp >= 0)
		close(udp);
	udp = BIO_socket(family, SOCK_DGRAM, 0, 0);
	if (udp < 0 || !BIO_socket_nbio(udp, 1) || (at && !BIO_bind(udp, at, 0)))
		fail("UDP socket");
}

static void forget_connection(void)
{
	for (size_t i = 0; i < count; i++)
		SSL_free(streams[i]->ssl), free(streams[i]);
	count = 0;
	SSL_free(conn);
	conn = NULL;
}

/* 1, or what SSL_connect says. */
static int connect_to(SSL_CTX *ctx, const char *host, const char *port)
{
	int family, r;
	BIO_ADDR *addr = address(host, port, &family);

	open_socket(family, NULL);
	conn = SSL_new(ctx);
	if (!conn || !SSL_set_fd(conn, udp) || !SSL_set1_initial_peer_addr(conn, addr) || !SSL_set_blocking_mode(conn, 0) ||
	    !SSL_set_default_stream_mode(conn, SSL_DEFAULT_STREAM_MODE_NONE) || !SSL_set1_host(conn, name) ||
	    !SSL_set_tlsext_host_name(conn, name) ||
	    !SSL_set_incoming_stream_policy(conn, SSL_INCOMING_STREAM_POLICY_ACCEPT, 0))
		fail("new connection");
	if (!SSL_set_feature_request_uint(conn, SSL_VALUE_QUIC_IDLE_TIMEOUT, idle_ms))
		fail("idle timeout");
	if (session && !SSL_set_session(conn, session))
		fail("session");
	while ((r = SSL_connect(conn)) != 1) {
		int e = SSL_get_error(conn, r);

		if (e != SSL_ERROR_WANT_READ && e != SSL_ERROR_WANT_WRITE)
			break;
		wait_for_packets(conn);
	}
	BIO_ADDR_free(addr);
	return r;
}

static void want_refused(const char *scenario)
{
	SSL_CONN_CLOSE_INFO info = { 0 };

	ended(&info);
	if (info.error_code < 0x100 || info.error_code > 0x1ff || (is(scenario, "badalpn") && info.error_code != 0x178))
		fail("want a TLS error, got %#llx \"%s\"", (unsigned long long)info.error_code, info.reason);
	shut(0, "");
}

static void client(const char *scenario, const char *host, const char *port)
{
	SSL_CTX *ctx = make_context(OSSL_QUIC_client_method());
	int connected = connect_to(ctx, host, port);

	if (is(scenario, "badca") || is(scenario, "badalpn")) {
		if (connected == 1)
			fail("connected, but must not");
		want_refused(scenario);
		return;
	}
	if (connected != 1)
		fail("connect");
	client_does(scenario);
	if (!is(scenario, "resume"))
		return;
	forget_connection();
	if (connect_to(ctx, host, port) != 1 || !SSL_session_reused(conn))
		fail("connect, resumed");
	client_does(scenario);
}

static void server(const char *scenario, const char *host, const char *port)
{
	SSL_CTX *ctx = make_context(OSSL_QUIC_server_method());
	int family;
	BIO_ADDR *addr = address(host, port, &family);
	union BIO_sock_info_u at = { .addr = addr };

	open_socket(family, addr);
	BIO_sock_info(udp, BIO_SOCK_INFO_ADDRESS, &at);
	SSL *listener = SSL_new_listener(ctx, retry ? 0 : SSL_LISTENER_FLAG_NO_VALIDATE);
	if (!listener || !SSL_set_fd(listener, udp) || !SSL_set_blocking_mode(listener, 0) || !SSL_listen(listener))
		fail("listen");
	printf("listening %s\n", BIO_ADDR_service_string(addr, 1));
	fflush(stdout);
	for (int i = 0; i < (is(scenario, "resume") ? 2 : 1); i++) {
		while (!(conn = SSL_accept_connection(listener, SSL_ACCEPT_CONNECTION_NO_BLOCK))) {
			SSL_handle_events(listener);
			wait_for_packets(listener);
		}
		if (!SSL_set_blocking_mode(conn, 0) || !SSL_set_default_stream_mode(conn, SSL_DEFAULT_STREAM_MODE_NONE) ||
		    !SSL_set_incoming_stream_policy(conn, SSL_INCOMING_STREAM_POLICY_ACCEPT, 0))
			fail("accepted connection");
		SSL_set_feature_request_uint(conn, SSL_VALUE_QUIC_IDLE_TIMEOUT, idle_ms);
		serve(scenario, i);
		forget_connection();
	}
}

static void options(int argc, char **argv)
{
	enum { CERT = 1, KEY, CA, NAME, ALPN, KEYLOG, RETRY, IDLE, MB, STREAMS, KEY_UPDATE, DEADLINE, SUITE, GROUPS };
	static const struct option known[] = {
		{ "cert", 1, NULL, CERT }, { "key", 1, NULL, KEY }, { "ca", 1, NULL, CA }, { "name", 1, NULL, NAME },
		{ "alpn", 1, NULL, ALPN }, { "keylog", 1, NULL, KEYLOG }, { "retry", 0, NULL, RETRY },
		{ "idle", 1, NULL, IDLE },
		{ "mb", 1, NULL, MB }, { "streams", 1, NULL, STREAMS }, { "key-update", 1, NULL, KEY_UPDATE },
		{ "deadline", 1, NULL, DEADLINE }, { "suite", 1, NULL, SUITE }, { "groups", 1, NULL, GROUPS }, { 0 }
	};
	int o;

	alarm(60);
	while ((o = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (o) {
		case CERT: cert = optarg; break;
		case KEY: key = optarg; break;
		case CA: ca = optarg; break;
		case NAME: name = optarg; break;
		case ALPN: alpn = optarg; break;
		case KEYLOG: keylog = optarg; break;
		case SUITE: suite = optarg; break;
		case GROUPS: groups = optarg; break;
		case RETRY: retry = true; break;
		case IDLE: idle_ms = strtoull(optarg, NULL, 10); break;
		case MB: megabytes = strtoull(optarg, NULL, 10); break;
		case STREAMS: nstreams = strtoull(optarg, NULL, 10); break;
		case KEY_UPDATE: key_update = strtoull(optarg, NULL, 10); break;
		case DEADLINE: alarm((unsigned)strtoul(optarg, NULL, 10)); break;
		default: exit(2);
		}
	}
}

int main(int argc, char **argv)
{
	options(argc, argv);
	char *port = argc - optind == 3 ? strrchr(argv[optind + 2], ':') : NULL;
	if (!port) {
		fprintf(stderr, "usage: peer client|server SCENARIO HOST:PORT [options]\n");
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
	printf("ok %s %s key-updates=%u\n", argv[optind], argv[optind + 1], key_updates);
	return 0;
}
