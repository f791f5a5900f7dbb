/* The baseline: TCP and TLS 1.3 by OpenSSL, AES-128-GCM, X25519, a P-256 certificate, blocking sockets with
 * TCP_NODELAY, and epoll where many things go on at once. Certificates are not verified against anything beyond the
 * handshake's own signature; quic.c's client compares a pin. */
#include "bench.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <signal.h>
#include <sys/epoll.h>

struct ch {
	SSL *ssl;
	int fd;
	size_t got;
};

static SSL_CTX *server_ctx, *client_ctx;
static int listener;
static struct sockaddr_in server_addr;
static SSL_SESSION *sessions[HANDSHAKES_AT_ONCE];
static bool resume;
static atomic_long resumed;

static void die_ssl(const char *what)
{
	ERR_print_errors_fp(stderr);
	die("%s", what);
}

/* ---- streams ------------------------------------------------------------------------ */

static ssize_t ch_read(struct ch *c, void *buf, size_t len)
{
	int n = SSL_read(c->ssl, buf, len > INT32_MAX ? INT32_MAX : (int)len);

	if (n > 0)
		return n;
	return SSL_get_error(c->ssl, n) == SSL_ERROR_ZERO_RETURN ? 0 : -1;
}

static ssize_t ch_write(struct ch *c, const void *buf, size_t len)
{
	return SSL_write(c->ssl, buf, len > INT32_MAX ? INT32_MAX : (int)len);
}

static void ch_finish(struct ch *c)
{
	SSL_shutdown(c->ssl);
}

static void ch_close(struct ch *c)
{
	SSL_free(c->ssl);
	close(c->fd);
}

/* ---- contexts and connections --------------------------------------------------------- */

static void certificate_make(SSL_CTX *ctx)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *cert = X509_new();
	X509_NAME *name;

	if (!key || !cert)
		die_ssl("key");
	X509_set_version(cert, X509_VERSION_3);
	ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
	X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
	X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
	name = X509_get_subject_name(cert);
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bench", -1, -1, 0);
	X509_set_issuer_name(cert, name);
	X509_set_pubkey(cert, key);
	if (!X509_sign(cert, key, EVP_sha256()) || SSL_CTX_use_certificate(ctx, cert) != 1 ||
	    SSL_CTX_use_PrivateKey(ctx, key) != 1)
		die_ssl("certificate");
	X509_free(cert);
	EVP_PKEY_free(key);
}

static SSL_CTX *context_make(const SSL_METHOD *method)
{
	SSL_CTX *ctx = SSL_CTX_new(method);

	if (!ctx || !SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) ||
	    !SSL_CTX_set_ciphersuites(ctx, "TLS_AES_128_GCM_SHA256") || !SSL_CTX_set1_groups_list(ctx, "X25519"))
		die_ssl("context");
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	return ctx;
}

static void listen_and_say(int hello_fd)
{
	struct hello h = {0};
	socklen_t len = sizeof(server_addr);

	signal(SIGPIPE, SIG_IGN);
	server_ctx = context_make(TLS_server_method());
	certificate_make(server_ctx);
	server_addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&server_addr, len) || listen(listener, 4096) ||
	    getsockname(listener, (struct sockaddr *)&server_addr, &len))
		die("listen");
	h.port = ntohs(server_addr.sin_port);
	hello_send(hello_fd, &h);
}

static struct ch server_accept(void)
{
	struct ch c = {.fd = accept(listener, NULL, NULL)};
	int on = 1;

	if (c.fd < 0)
		die("accept");
	setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c.ssl = SSL_new(server_ctx);
	if (!c.ssl || !SSL_set_fd(c.ssl, c.fd) || SSL_accept(c.ssl) != 1)
		die_ssl("SSL_accept");
	return c;
}

/* The newest ticket of each thread; a copy, as OpenSSL ends the life of its own with the connection. */
static int keep_session(SSL *ssl, SSL_SESSION *session)
{
	SSL_SESSION **slot = SSL_get_app_data(ssl);

	if (!slot)
		return 0;
	SSL_SESSION_free(*slot);
	*slot = SSL_SESSION_dup(session);
	return 0;
}

static void client_init(const struct server *s)
{
	signal(SIGPIPE, SIG_IGN);
	client_ctx = context_make(TLS_client_method());
	SSL_CTX_set_session_cache_mode(client_ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
	SSL_CTX_sess_set_new_cb(client_ctx, keep_session);
	server_addr = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(s->hello.port),
					   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

static struct ch client_connect(SSL_SESSION **slot)
{
	struct ch c = {.fd = socket(AF_INET, SOCK_STREAM, 0)};
	int on = 1;

	if (c.fd < 0 || connect(c.fd, (struct sockaddr *)&server_addr, sizeof(server_addr)))
		die("connect");
	setsockopt(c.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c.ssl = SSL_new(client_ctx);
	if (!c.ssl || !SSL_set_fd(c.ssl, c.fd))
		die_ssl("SSL_new");
	SSL_set_app_data(c.ssl, slot);
	if (slot && *slot && resume)
		SSL_set_session(c.ssl, *slot);
	if (SSL_connect(c.ssl) != 1)
		die_ssl("SSL_connect");
	return c;
}

/* ---- bulk and requests ------------------------------------------------------------------ */

static void serve_bulk_down(int hello_fd, double amount)
{
	struct ch c;

	listen_and_say(hello_fd);
	c = server_accept();
	bulk_down_serve(&c);
}

static void serve_bulk_up(int hello_fd, double amount)
{
	struct ch c;

	listen_and_say(hello_fd);
	c = server_accept();
	bulk_up_serve(&c);
}

static void measure_bulk(const struct figure *f, const struct server *s, double bytes)
{
	struct span sp;
	struct ch c;

	client_init(s);
	c = client_connect(NULL);
	sp = span_begin(s);
	if (f->serve == serve_bulk_down)
		bulk_down_fetch(&c, (uint64_t)bytes);
	else
		bulk_up_push(&c, (uint64_t)bytes);
	span_end(&sp);
	report_bulk(f->name, &sp, bytes, SSL_get_cipher(c.ssl));
}

static void serve_echo(int hello_fd, double amount)
{
	struct ch c;

	listen_and_say(hello_fd);
	c = server_accept();
	echo_serve(&c);
}

static void measure_echo(const struct figure *f, const struct server *s, double seconds)
{
	struct span sp;
	struct ch c;
	double until;
	long count = 0;

	client_init(s);
	c = client_connect(NULL);
	for (until = now_s() + 0.1; now_s() < until;)
		echo_ask(&c);
	sp = span_begin(s);
	for (until = sp.t_0 + seconds; now_s() < until; count++)
		echo_ask(&c);
	span_end(&sp);
	report_rate(f->name, &sp, (double)count, "");
}

/* ---- many at once: kept connections, one request on each at a time, epoll ------------------- */

static int watch(struct ch *c, int n)
{
	struct epoll_event ev = {.events = EPOLLIN};
	int i, ep = epoll_create1(0);

	for (i = 0; i < n; i++) {
		ev.data.ptr = &c[i];
		if (epoll_ctl(ep, EPOLL_CTL_ADD, c[i].fd, &ev))
			die("epoll");
	}
	return ep;
}

/* A whole message has come? -1: the connection is gone. */
static int message_take(struct ch *c)
{
	uint8_t message[MESSAGE];
	ssize_t n = ch_read(c, message, sizeof(message) - c->got);

	if (n <= 0)
		return -1;
	c->got = (c->got + (size_t)n) % MESSAGE;
	return c->got == 0;
}

static void serve_many(int hello_fd, double amount)
{
	static struct ch c[AT_ONCE];
	struct epoll_event ev[AT_ONCE];
	uint8_t message[MESSAGE] = {0};
	int i, n, ep;

	listen_and_say(hello_fd);
	for (i = 0; i < AT_ONCE; i++)
		c[i] = server_accept();
	ep = watch(c, AT_ONCE);
	for (;;) {
		n = epoll_wait(ep, ev, AT_ONCE, -1);
		for (i = 0; i < n; i++) {
			switch (message_take(ev[i].data.ptr)) {
			case 1:
				if (ch_write_all(ev[i].data.ptr, message, sizeof(message)))
					break;
				/* fall through */
			case -1:
				return;
			}
		}
	}
}

static long many_until(int ep, double until)
{
	struct epoll_event ev[AT_ONCE];
	uint8_t message[MESSAGE] = {0};
	long count = 0;
	int i, n;

	while (now_s() < until) {
		n = epoll_wait(ep, ev, AT_ONCE, 1000);
		for (i = 0; i < n; i++) {
			switch (message_take(ev[i].data.ptr)) {
			case 1:
				count++;
				if (ch_write_all(ev[i].data.ptr, message, sizeof(message)))
					break;
				/* fall through */
			case -1:
				die("request");
			}
		}
	}
	return count;
}

static void measure_many(const struct figure *f, const struct server *s, double seconds)
{
	static struct ch c[AT_ONCE];
	uint8_t message[MESSAGE] = {0};
	struct span sp;
	long count;
	int i, ep;

	client_init(s);
	for (i = 0; i < AT_ONCE; i++)
		c[i] = client_connect(NULL);
	ep = watch(c, AT_ONCE);
	for (i = 0; i < AT_ONCE; i++)
		ch_write_all(&c[i], message, sizeof(message));
	many_until(ep, now_s() + 0.1);
	sp = span_begin(s);
	count = many_until(ep, sp.t_0 + seconds);
	span_end(&sp);
	report_rate(f->name, &sp, (double)count, "");
}

/* ---- handshakes: the server ends each connection, the client waits for that ------------------- */

static void *handshake_worker(void *arg)
{
	struct ch c;

	for (;;) {
		c = server_accept();
		ch_finish(&c);
		ch_close(&c);
	}
	return NULL;
}

static void serve_handshakes(int hello_fd, double amount)
{
	int i;

	listen_and_say(hello_fd);
	for (i = 0; i < HANDSHAKES_AT_ONCE; i++)
		thread_start(handshake_worker, NULL);
}

static void handshake_once(int number)
{
	struct ch c = client_connect(&sessions[number]);
	char byte;

	if (ch_read(&c, &byte, 1) != 0)
		die_ssl("the server's end");
	if (SSL_session_reused(c.ssl))
		atomic_fetch_add(&resumed, 1);
	ch_close(&c);
}

static void measure_handshakes(const struct figure *f, const struct server *s, double seconds)
{
	struct span sp;
	char note[64];
	long count;

	resume = strstr(f->name, "resumed") != NULL;
	client_init(s);
	crowd_run(handshake_once, now_s() + 0.1, 0);
	atomic_store(&resumed, 0);
	sp = span_begin(s);
	count = crowd_run(handshake_once, sp.t_0 + seconds, 0);
	span_end(&sp);
	snprintf(note, sizeof(note), "%.0f%%_resumed", 100.0 * (double)atomic_load(&resumed) / (double)count);
	report_rate(f->name, &sp, (double)count, note);
}

/* ---- memory: one byte to and fro on each connection, then nothing ------------------------------- */

static void *hold_worker(void *arg)
{
	struct ch *c = NULL;
	char byte;

	for (;;) {
		c = malloc(sizeof(*c));
		if (!c)
			die("malloc");
		*c = server_accept();
		if (!ch_read_all(c, &byte, 1) || !ch_write_all(c, &byte, 1))
			die("greeting");
	}
	return NULL;
}

static void serve_hold(int hello_fd, double amount)
{
	int i;

	listen_and_say(hello_fd);
	for (i = 0; i < HANDSHAKES_AT_ONCE; i++)
		thread_start(hold_worker, NULL);
}

static void hold_once(int number)
{
	struct ch *c = malloc(sizeof(*c));
	char byte = 0;

	if (!c)
		die("malloc");
	*c = client_connect(NULL);
	if (!ch_write_all(c, &byte, 1) || !ch_read_all(c, &byte, 1))
		die("greeting");
}

static void measure_hold(const struct figure *f, const struct server *s, double wanted)
{
	struct usage server_0, client_0;
	double count = many_within_limits(wanted);
	char note[64];

	client_init(s);
	crowd_run(hold_once, 0, WARM_UP);
	sleep_ms(SETTLE_MS);
	server_0 = server_usage(s);
	client_0 = usage_now();
	crowd_run(hold_once, 0, (long)count);
	snprintf(note, sizeof(note), "at_%.0f", count);
	report_memory(f->name, s, server_0, client_0, count, note);
}

static const struct figure figures[] = {
	{"bulk_down", serve_bulk_down, measure_bulk, 1073741824},
	{"bulk_up", serve_bulk_up, measure_bulk, 1073741824},
	{"rr_one_stream", serve_echo, measure_echo, 1},
	{"rr_fresh_stream_64", serve_many, measure_many, 1},
	{"handshake_full_16", serve_handshakes, measure_handshakes, 1.5},
	{"handshake_resumed_16", serve_handshakes, measure_handshakes, 1.5},
	{"mem_idle_connection", serve_hold, measure_hold, 10000},
};

int main(int argc, char **argv)
{
	return bench_main(argc, argv, figures, sizeof(figures) / sizeof(figures[0]));
}
