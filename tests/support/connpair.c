#include "support/connpair.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdlib.h>

#include "support/certs.h"

struct wire_datagram {
	struct wire_datagram *next;
	uint64_t at_us;
	bool to_server;
	enum ecn ecn;
	size_t len;
	uint8_t data[];
};

/* splitmix64 */
static uint64_t next_random(uint64_t *s)
{
	uint64_t z = (*s += 0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return z ^ z >> 31;
}

static void fill(void *arg, void *buf, size_t len)
{
	uint8_t *b = buf;
	for (size_t i = 0; i < len; i++)
		b[i] = (uint8_t)next_random(arg);
}

static struct addr ip4(const char *ip, uint16_t port)
{
	struct addr a = { .in4 = { .sin_family = AF_INET, .sin_port = htons(port) } };
	inet_pton(AF_INET, ip, &a.in4.sin_addr);
	return a;
}

void connpair_init(struct connpair *p, uint64_t seed)
{
	static const char *const alpn[] = { "test" };
	static uint8_t pin[1][32];
	char err[256];
	*p = (struct connpair){ .rng_state = seed, .now_us = 1000000, .delay_us = 10000 };
	p->rng = (struct rng){ fill, &p->rng_state };
	p->caddr = ip4("10.0.0.1", 1111);
	p->saddr = ip4("10.0.0.2", 4433);
	testdir_make(p->dir);
	struct tls_settings s = { .is_server = true, .alpn = alpn, .alpn_count = 1, .self_signed_dir = p->dir };
	p->stls = tls_config_new(&s, err, sizeof(err));
	assert_non_null(p->stls);
	assert_true(tls_config_pin(p->stls, pin[0]));
	struct tls_settings c = { .alpn = alpn, .alpn_count = 1, .pins = (const uint8_t(*)[32])pin, .pin_count = 1 };
	p->ctls = tls_config_new(&c, err, sizeof(err));
	assert_non_null(p->ctls);
	fill(&p->rng_state, p->reset_key, 32);
	fill(&p->rng_state, p->token_key, 32);
	p->ccfg = (struct conn_config){
		.tls = p->ctls,
		.limits = { .window = 65536, .window_max = 1 << 20, .conn_window = 131072, .conn_window_max = 1 << 21,
			    .max_streams = { 100, 100 } },
		.idle_timeout_us = 30000000, .handshake_timeout_us = 10000000, .max_send_bytes = 1 << 20,
		.mss = 1200, .cc = &cc_newreno, .ecn = true, .cid_len = 8, .reset_key = p->reset_key,
		.token_key = p->token_key,
	};
	p->scfg = p->ccfg;
	p->scfg.tls = p->stls;
}

void connpair_start(struct connpair *p)
{
	p->client = conn_new_client(&p->ccfg, &p->rng, &p->caddr, &p->saddr, "server.test", NULL, 0, p->session,
				    p->session_len, p->now_us);
	if (!p->may_fail)
		assert_non_null(p->client);
}

static void events(struct connpair *p, bool server)
{
	struct conn *c = server ? p->server : p->client;
	struct conn_event ev;
	while (c && conn_poll_cid_event(c, &ev))
		;
	while (c && conn_poll_event(c, &ev)) {
		p->established[server] |= ev.type == CONN_EV_ESTABLISHED;
		p->confirmed[server] |= ev.type == CONN_EV_CONFIRMED;
		p->closed[server] |= ev.type == CONN_EV_CLOSED;
		p->drained[server] |= ev.type == CONN_EV_DRAINED;
		if (ev.type == CONN_EV_STREAM_OPENED && p->nopened[server] < 64)
			p->opened[server][p->nopened[server]++] = ev.stream;
		if (ev.type == CONN_EV_SESSION && ev.len <= sizeof(p->session)) {
			memcpy(p->session, ev.data, ev.len);
			p->session_len = ev.len;
		}
	}
}

static void enqueue(struct connpair *p, bool to_server, const uint8_t *data, size_t len, enum ecn ecn)
{
	struct wire_datagram *d = malloc(sizeof(*d) + len), **at = &p->queue;
	assert_non_null(d);
	*d = (struct wire_datagram){ .at_us = p->now_us + p->delay_us, .to_server = to_server, .ecn = ecn, .len = len };
	memcpy(d->data, data, len);
	while (*at && (*at)->at_us <= d->at_us)
		at = &(*at)->next;
	d->next = *at;
	*at = d;
}

static void transmit(struct connpair *p, bool server)
{
	struct conn *c = server ? p->server : p->client;
	uint8_t buf[65536];
	struct train t = { .buf = buf, .cap = sizeof(buf), .max_segs = 54 };
	size_t n;
	while (c && (n = conn_poll_transmit(c, &t, p->now_us))) {
		size_t off = 0, count = 0;
		while (off < t.len) {
			size_t len = t.len - off < t.seg ? t.len - off : t.seg;
			p->sent[!server]++;
			count++;
			if (p->filter && p->filter(p, !server, buf + off, len))
				p->dropped++;
			else
				enqueue(p, !server, buf + off, len, t.ecn);
			off += len;
		}
		assert_int_equal(count, n);
	}
	events(p, server);
}

static void make_server(struct connpair *p, struct wire_datagram *d)
{
	struct rd r = rd_of(d->data, d->len);
	struct packet pkt;
	if (packet_parse(&r, 8, &pkt) || pkt.type != PACKET_INITIAL)
		return;
	p->server = conn_new_server(&p->scfg, &p->rng, &p->saddr, &p->caddr, &pkt, &pkt.dcid, NULL, false, p->now_us);
	if (!p->may_fail)
		assert_non_null(p->server);
}

static void deliver(struct connpair *p, struct wire_datagram *d)
{
	struct datagram in = { .data = d->data, .len = d->len, .ecn = d->ecn };
	in.local = d->to_server ? p->saddr : p->caddr;
	in.remote = d->to_server ? p->caddr : p->saddr;
	if (d->to_server && !p->server)
		make_server(p, d);
	struct conn *c = d->to_server ? p->server : p->client;
	if (c)
		conn_recv(c, &in, 1, p->now_us);
	events(p, d->to_server);
}

void connpair_run(struct connpair *p, uint64_t until_us)
{
	for (;;) {
		transmit(p, false);
		transmit(p, true);
		uint64_t next = p->queue ? p->queue->at_us : UINT64_MAX;
		for (int i = 0; i < 2; i++) {
			struct conn *c = i ? p->server : p->client;
			uint64_t t = c ? conn_deadline(c, p->now_us) : UINT64_MAX;
			next = t < next ? t : next;
		}
		if (next > until_us)
			break;
		if (next > p->now_us)
			p->now_us = next;
		while (p->queue && p->queue->at_us <= p->now_us) {
			struct wire_datagram *d = p->queue;
			p->queue = d->next;
			deliver(p, d);
			free(d);
		}
		for (int i = 0; i < 2; i++) {
			struct conn *c = i ? p->server : p->client;
			if (c && conn_deadline(c, p->now_us) <= p->now_us)
				conn_on_timeout(c, p->now_us);
			events(p, i);
		}
	}
	p->now_us = until_us > p->now_us ? until_us : p->now_us;
}

void connpair_handshake(struct connpair *p)
{
	connpair_start(p);
	connpair_run(p, p->now_us + 1000000);
	for (int i = 0; i < 2; i++) {
		const struct conn *c = i ? p->server : p->client;
		if (c && p->closed[i])
			print_error("%s closed: %s\n", i ? "server" : "client", conn_error(c)->reason);
		assert_true(p->established[i]);
		assert_true(p->confirmed[i]);
	}
}

void connpair_fini(struct connpair *p)
{
	conn_free(p->client);
	conn_free(p->server);
	while (p->queue) {
		struct wire_datagram *d = p->queue;
		p->queue = d->next;
		free(d);
	}
	tls_config_unref(p->ctls);
	tls_config_unref(p->stls);
	testdir_remove(p->dir);
}
