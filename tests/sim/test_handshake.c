/* From the first Initial to a confirmed handshake: what goes over the wire, what may be lost, who is let in. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "support/simworld.h"

#define SEEN(type) (1u << (type))

/* Watches the wire and holds both sides to what must be true of every handshake. */
struct wire {
	struct simworld *w;
	uint64_t drop[2];		/* bit n: the nth datagram of the client [0], of the server [1] is lost */
	uint64_t drop_after[2];		/* lost from the nth on */
	size_t sent[2], retries, version_negotiations;
	uint64_t to_server, from_server;	/* UDP payload bytes, until the client's address is proven */
	bool proven;
	struct packet first;		/* the client's first Initial */
	uint8_t first_datagram[2048];
	size_t first_len;
	size_t hello;			/* datagrams the ClientHello takes: two with the key shares of OpenSSL 3.5 */
};

static bool from_client(const struct wire *x, const struct simdgram *d)
{
	return d->from == x->w->client.host;
}

static bool scripted(void *arg, const struct simdgram *d)
{
	struct wire *x = arg;
	int side = from_client(x, d) ? 0 : 1;

	return d->nth >= x->drop_after[side] || (d->nth < 64 && x->drop[side] >> d->nth & 1);
}

static void remember_first(struct wire *x, const struct simdgram *d)
{
	assert_in_range(d->len, 1, sizeof(x->first_datagram));
	memcpy(x->first_datagram, d->data, d->len);
	x->first_len = d->len;
	struct rd r = rd_of(x->first_datagram, d->len);
	assert_int_equal(packet_parse(&r, 8, &x->first), 0);
}

/* A client changes its token only for that of a Retry: RFC9000 17.2.5.3 */
static bool answers_retry(const struct wire *x, const struct simdgram *d)
{
	struct rd r = rd_of(d->data, d->len);
	struct packet p;

	return x->retries && !packet_parse(&r, 8, &p) && p.type == PACKET_INITIAL && p.token_len &&
	       (p.token_len != x->first.token_len || memcmp(p.token, x->first.token, p.token_len));
}

static void watch_client(struct wire *x, enum simfate fate, const struct simdgram *d, unsigned seen)
{
	if (fate == SIM_SENT) {
		if (!x->first_len)
			remember_first(x, d);
		/* RFC9000 14.1: a client pads every datagram with an Initial to 1200 bytes */
		if (seen & SEEN(PACKET_INITIAL))
			assert_in_range(d->len, MIN_INITIAL_DATAGRAM, 65535);
	}
	if (fate == SIM_ARRIVED && !x->proven) {
		x->to_server += d->len;
		/* RFC9000 8.1: a Handshake packet proves the address, so does the token of a Retry */
		x->proven = seen & SEEN(PACKET_HANDSHAKE) || answers_retry(x, d);
	}
}

static void watch_server(struct wire *x, enum simfate fate, const struct simdgram *d, unsigned seen)
{
	if (fate != SIM_SENT)
		return;
	x->retries += !!(seen & SEEN(PACKET_RETRY));
	x->version_negotiations += !!(seen & SEEN(PACKET_VN));
	if (x->proven)
		return;
	x->from_server += d->len;
	if (x->from_server > 3 * x->to_server)	/* RFC9000 8.1 */
		fail_msg("amplification: %llu bytes sent for %llu received", (unsigned long long)x->from_server,
			 (unsigned long long)x->to_server);
}

static void watch(void *arg, enum simfate fate, const struct simdgram *d)
{
	struct wire *x = arg;
	unsigned seen = sim_packets(d->data, d->len);

	if (d->injected)
		return;
	if (fate == SIM_SENT)
		x->sent[from_client(x, d) ? 0 : 1]++;
	if (from_client(x, d))
		watch_client(x, fate, d, seen);
	else
		watch_server(x, fate, d, seen);
}

/* simworld_start with the watcher between the two. */
static void start_watched(struct simworld *w, struct wire *x)
{
	x->w = w;
	x->drop_after[0] = x->drop_after[1] = UINT64_MAX;
	simworld_start(w);
	simnet_hooks(w->net, &(struct simnet_hooks){ .arg = x, .drop = scripted, .watch = watch });
}

/* Connect, and see how many datagrams the ClientHello takes; only then may anything be lost. */
static struct simconn *connect_watched(struct simworld *w, struct wire *x, const struct simconn *resume)
{
	size_t before = x->sent[0];
	struct simconn *c = simworld_connect(w, resume);

	simworld_pass(w, 0);
	x->hello = x->sent[0] - before;
	assert_in_range(x->hello, 1, 2);
	return c;
}

static void finish(struct simworld *w, struct simconn *c)
{
	if (!c->closed)
		simconn_close(c, 0, "");
	simworld_until(w, sim_all_drained, 60 * SIM_S);
	simworld_end(w);
}

static void handshake__clean_link__one_round_trip(void **state)
{
	struct simworld w;
	struct wire x = { 0 };

	simworld_init(&w, 1);
	start_watched(&w, &x);
	uint64_t start = simnet_now(w.net);
	struct simconn *c = simworld_handshake(&w), *s = simworld_peer(&w);
	assert_int_equal(c->established_at_us - start, 20 * SIM_MS);
	assert_int_equal(s->established_at_us - start, 30 * SIM_MS);
	assert_int_equal(x.retries + x.version_negotiations, 0);
	assert_int_equal(simconn_count(c, CONN_EV_ESTABLISHED), 1);
	assert_int_equal(simconn_count(c, CONN_EV_CONFIRMED), 1);
	assert_int_equal(simconn_count(s, CONN_EV_ESTABLISHED), 1);
	assert_int_equal(simconn_count(s, CONN_EV_CONFIRMED), 1);
	assert_int_equal(c->log[0], CONN_EV_ESTABLISHED);
	assert_string_equal(c->tls.alpn, "sim");
	assert_string_equal(s->tls.alpn, "sim");
	assert_string_equal(s->tls.sni, "server.test");
	assert_false(c->tls.resumed);
	assert_int_equal(c->info.version, QUIC_V1);
	assert_false(c->info.is_server);
	assert_true(s->info.is_server);
	assert_true(cid_equal(&c->info.odcid, &s->info.odcid));
	assert_true(cid_equal(&c->info.local_cid, &s->info.remote_cid));
	assert_true(cid_equal(&c->info.remote_cid, &s->info.local_cid));
	assert_true(addr_equal(&c->info.remote, &w.server.host->addr));
	finish(&w, c);
}

/* Whatever is missing of the first flights, in any combination, is made good. */
static void handshake__any_lost_datagrams__recovers(void **state)
{
	for (unsigned mask = 0; mask < 1u << 8; mask++) {
		struct simworld w;
		struct wire x = { .drop = { mask & 15, mask >> 4 } };

		simworld_init(&w, mask);
		w.client_cfg.handshake_timeout_us = w.server_cfg.handshake_timeout_us = 60 * SIM_S;
		w.client_cfg.idle_timeout_us = w.server_cfg.idle_timeout_us = 60 * SIM_S;
		start_watched(&w, &x);
		struct simconn *c = simworld_connect(&w, NULL);
		simconn_send(c, DIR_BIDI, 1, 100);
		if (!simnet_run(w.net, sim_streams_done, &w, 60 * SIM_S))
			fail_msg("client's datagrams %#x and server's %#x lost: not recovered", mask & 15, mask >> 4);
		simworld_until(&w, sim_both_confirmed, 60 * SIM_S);
		finish(&w, c);
	}
}

/* RFC9002 6.2.3: Handshake packets without the keys for them tell the client what is missing */
static void handshake__server_hello_lost__no_timeout_is_waited_for(void **state)
{
	struct simworld w;
	struct wire x = { .drop = { 0, 1 } };

	simworld_init(&w, 2);
	w.big_certificate = true;
	start_watched(&w, &x);
	uint64_t start = simnet_now(w.net);
	struct simconn *c = simworld_handshake(&w);
	assert_in_range(c->established_at_us - start, 40 * SIM_MS, 200 * SIM_MS);
	finish(&w, c);
}

static void lossy_handshake(uint64_t seed)
{
	struct simworld w;
	struct wire x = { 0 };

	simworld_init(&w, seed);
	w.link = (struct simlink){ .delay_us = 15 * SIM_MS, .bytes_per_s = 1250000, .loss = 300,
					    .max_losses_in_row = 3 };
	w.big_certificate = seed % 2;
	w.server_ep.retry = seed % 5 == 0;
	w.client_cfg.handshake_timeout_us = w.server_cfg.handshake_timeout_us = 300 * SIM_S;
	/* Silence of half a minute is no end here: a fourth probe leaves that late. */
	w.client_cfg.idle_timeout_us = w.server_cfg.idle_timeout_us = 0;
	start_watched(&w, &x);
	struct simconn *c = simworld_connect(&w, NULL);
	simconn_send(c, DIR_BIDI, 1, 1024);
	/* The interop runner waits 300 s. Of 31,000 seeds the worst took 33 s. */
	simworld_until(&w, sim_streams_done, 100 * SIM_S);
	assert_int_equal(c->got, 1024);
	simworld_end(&w);
}

static void handshake__a_third_lost__always_succeeds(void **state)
{
	simworld_each_seed(400, lossy_handshake);
}

/* RFC9000 8.1: the client that falls silent after its ClientHello gets three times what it sent, and not a byte more
 * (asserted on the wire). */
static void handshake__silent_client__three_times_at_most(void **state)
{
	struct simworld w;
	struct wire x = { 0 };

	simworld_init(&w, 3);
	w.big_certificate = true;
	start_watched(&w, &x);
	connect_watched(&w, &x, NULL);
	x.drop_after[0] = x.hello;
	simworld_pass(&w, 30 * SIM_S);
	assert_int_equal(x.to_server, x.hello * x.first_len);
	assert_in_range(x.from_server, 2 * x.to_server, 3 * x.to_server);
	assert_int_equal(endpoint_count(w.server.host->ep), 0);
	simworld_end(&w);
}

/* The interop runner's amplificationlimit: a large chain, and the client's datagrams 2 to 7 lost. */
static void handshake__big_certificate_and_losses__no_deadlock(void **state)
{
	struct simworld w;
	struct wire x = { .drop = { 0x7e, 0 } };

	simworld_init(&w, 4);
	w.big_certificate = true;
	w.client_cfg.handshake_timeout_us = w.server_cfg.handshake_timeout_us = 120 * SIM_S;
	w.client_cfg.idle_timeout_us = w.server_cfg.idle_timeout_us = 120 * SIM_S;
	start_watched(&w, &x);
	struct simconn *c = simworld_connect(&w, NULL);
	simworld_until(&w, sim_both_confirmed, 120 * SIM_S);
	assert_true(x.from_server > 2 * x.first_len);
	finish(&w, c);
}

static void retry__demanded__one_more_round_trip(void **state)
{
	struct simworld w;
	struct wire x = { 0 };

	simworld_init(&w, 5);
	w.server_ep.retry = true;
	w.big_certificate = true;
	start_watched(&w, &x);
	uint64_t start = simnet_now(w.net);
	struct simconn *c = connect_watched(&w, &x, NULL);
	simworld_until(&w, sim_both_confirmed, 10 * SIM_S);
	/* Who keeps no state answers each datagram; the client follows one answer only (RFC9000 17.2.5.2). */
	assert_int_equal(x.retries, x.hello);
	/* The address is proven by the token, so even a large certificate comes in one flight. */
	assert_int_equal(c->established_at_us - start, 40 * SIM_MS);
	assert_true(cid_equal(&c->info.odcid, &simworld_peer(&w)->info.odcid));
	finish(&w, c);
}

static void retry__retry_or_answer_lost__recovers(void **state)
{
	for (unsigned mask = 0; mask < 1u << 6; mask++) {
		struct simworld w;
		struct wire x = { .drop = { mask & 7, mask >> 3 } };

		simworld_init(&w, 6);
		w.server_ep.retry = true;
		w.client_cfg.handshake_timeout_us = w.server_cfg.handshake_timeout_us = 60 * SIM_S;
		w.client_cfg.idle_timeout_us = w.server_cfg.idle_timeout_us = 60 * SIM_S;
		start_watched(&w, &x);
		struct simconn *c = simworld_connect(&w, NULL);
		simworld_until(&w, sim_both_confirmed, 60 * SIM_S);
		finish(&w, c);
	}
}

/* RFC9000 8.1.3: a NEW_TOKEN token of an earlier connection replaces the Retry; RFC8446 2.2: its ticket the
 * certificate */
static void resumption__session_and_token__no_retry_no_certificate(void **state)
{
	struct simworld w;
	struct wire x = { 0 };

	simworld_init(&w, 7);
	w.server_ep.retry = true;
	start_watched(&w, &x);
	struct simconn *first = connect_watched(&w, &x, NULL);
	simworld_until(&w, sim_both_confirmed, 10 * SIM_S);
	simworld_pass(&w, SIM_S);
	assert_true(first->sessions > 0 && first->tokens > 0);
	size_t retries = x.retries;
	assert_int_equal(retries, x.hello);
	simconn_close(first, 0, "");
	simworld_until(&w, sim_all_drained, 10 * SIM_S);

	struct simconn *again = simworld_connect(&w, first);
	simworld_until(&w, sim_both_confirmed, 10 * SIM_S);
	assert_int_equal(x.retries, retries);
	assert_true(again->tls.resumed);
	assert_true(simworld_peer(&w)->tls.resumed);
	finish(&w, again);
}

static void resumption__token_of_another_server__retry_again(void **state)
{
	struct simworld w;
	struct wire x = { 0 };
	struct simconn stranger = { 0 };
	uint8_t junk[100];

	simworld_init(&w, 8);
	w.server_ep.retry = true;
	start_watched(&w, &x);
	memset(junk, 7, sizeof(junk));
	stranger.token = stranger.session = junk;
	stranger.token_len = stranger.session_len = sizeof(junk);
	struct simconn *c = connect_watched(&w, &x, &stranger);
	simworld_until(&w, sim_both_confirmed, 10 * SIM_S);
	assert_int_equal(x.retries, x.hello);
	assert_false(c->tls.resumed);
	finish(&w, c);
}

/* ---- version negotiation ---------------------------------------------------------- */

static void inject_vn(struct simworld *w, const struct wire *x, const uint32_t *versions, size_t n)
{
	uint8_t buf[256];
	struct wr out = wr_of(buf, sizeof(buf));

	wr_uint(&out, 0xff, 1);
	wr_uint(&out, 0, 4);
	wr_uint(&out, x->first.scid.len, 1);
	wr_bytes(&out, x->first.scid.b, x->first.scid.len);
	wr_uint(&out, x->first.dcid.len, 1);
	wr_bytes(&out, x->first.dcid.b, x->first.dcid.len);
	for (size_t i = 0; i < n; i++)
		wr_uint(&out, versions[i], 4);
	simnet_inject(w->net, &w->server.host->addr, &w->client.host->addr, buf, wr_len(&out));
}

static bool client_has_sent(void *arg)
{
	return ((struct wire *)arg)->first_len > 0;
}

static void version__client_gets_strange_list__gives_up(void **state)
{
	static const uint32_t versions[] = { 0x1a2a3a4a, 0xff00001d };
	struct simworld w;
	struct wire x = { 0 };

	simworld_init(&w, 9);
	start_watched(&w, &x);
	x.drop_after[0] = 0;	/* the real server does not hear of it */
	struct simconn *c = simworld_connect(&w, NULL);
	simnet_run(w.net, client_has_sent, &x, SIM_S);
	inject_vn(&w, &x, versions, 2);
	simworld_until(&w, sim_client_closed, SIM_S);
	assert_int_equal(c->error.kind, CONN_ERR_VERSION);
	simworld_until(&w, sim_all_drained, 10 * SIM_S);
	simworld_end(&w);
}

/* RFC9000 6.2: a list with our version in it is no answer to us, nor is one that comes after another packet */
static void version__false_or_late_list__ignored(void **state)
{
	static const uint32_t with_v1[] = { 0x1a2a3a4a, QUIC_V1 }, without[] = { 0x1a2a3a4a };
	struct simworld w;
	struct wire x = { 0 };

	simworld_init(&w, 10);
	start_watched(&w, &x);
	struct simconn *c = simworld_connect(&w, NULL);
	simnet_run(w.net, client_has_sent, &x, SIM_S);
	inject_vn(&w, &x, with_v1, 2);
	simworld_until(&w, sim_both_confirmed, 10 * SIM_S);
	inject_vn(&w, &x, without, 1);
	simworld_pass(&w, SIM_S);
	assert_false(c->closed);
	finish(&w, c);
}

static struct packet vn_answer;
static uint8_t vn_bytes[256];
static size_t vn_answers;

static void keep_vn(void *arg, struct simhost *h, const struct simdgram *d)
{
	vn_answers++;
	assert_in_range(d->len, 7, sizeof(vn_bytes));
	memcpy(vn_bytes, d->data, d->len);
	struct rd r = rd_of(vn_bytes, d->len);
	assert_int_equal(packet_parse(&r, 0, &vn_answer), 0);
}

static void version__server_gets_unknown_version__lists_its_own(void **state)
{
	struct simworld w;
	struct simhost_ops ops = { .raw = keep_vn };
	uint8_t initial[1200] = { 0xc3, 0x5a, 0x6a, 0x7a, 0x8a, 8, 1, 2, 3, 4, 5, 6, 7, 8, 5, 11, 12, 13, 14, 15 };

	simworld_init(&w, 11);
	simworld_start(&w);
	struct simhost *stranger = simnet_host(w.net, "stranger", false, NULL, &ops);
	vn_answers = 0;
	simnet_inject(w.net, &stranger->addr, &w.server.host->addr, initial, sizeof(initial) - 1);
	simworld_pass(&w, SIM_S);
	assert_int_equal(vn_answers, 0);	/* RFC9000 6.1, 5.2.2: too small to be answered */
	simnet_inject(w.net, &stranger->addr, &w.server.host->addr, initial, sizeof(initial));
	simworld_pass(&w, SIM_S);
	assert_int_equal(vn_answers, 1);
	assert_int_equal(vn_answer.type, PACKET_VN);
	assert_int_equal(vn_answer.dcid.len, 5);
	assert_memory_equal(vn_answer.dcid.b, initial + 15, 5);
	assert_int_equal(vn_answer.scid.len, 8);
	assert_memory_equal(vn_answer.scid.b, initial + 6, 8);
	static const uint8_t v1[4] = { 0, 0, 0, 1 };
	bool found = false;
	for (size_t i = 0; i + 4 <= vn_answer.versions_len; i += 4)
		found |= !memcmp(vn_answer.versions + i, v1, 4);
	assert_true(found);
	assert_int_equal(endpoint_count(w.server.host->ep), 0);
	simworld_end(&w);
}

/* ---- who is let in ------------------------------------------------------------------ */

static void handshake__server_refuses__client_learns(void **state)
{
	struct simworld w;

	simworld_init(&w, 12);
	simworld_start(&w);
	endpoint_refuse(w.server.host->ep, true);
	struct simconn *c = simworld_connect(&w, NULL);
	simworld_until(&w, sim_client_closed, 5 * SIM_S);
	assert_int_equal(c->error.kind, CONN_ERR_REFUSED);
	assert_int_equal(c->error.code, 0x02);
	assert_true(c->error.by_peer);
	simworld_until(&w, sim_all_drained, 30 * SIM_S);
	endpoint_refuse(w.server.host->ep, false);
	c = simworld_handshake(&w);
	finish(&w, c);
}

static void handshake__no_common_protocol__both_learn_0x178(void **state)
{
	static const char *const other[] = { "other" };
	struct simworld w;

	simworld_init(&w, 13);
	w.client_tls.alpn = other;
	simworld_start(&w);
	struct simconn *c = simworld_connect(&w, NULL);
	simworld_until(&w, sim_client_closed, 5 * SIM_S);
	assert_int_equal(c->error.kind, CONN_ERR_TLS);
	assert_int_equal(c->error.code, 0x178);		/* RFC9001 8.1 */
	assert_true(c->error.by_peer);
	simworld_until(&w, sim_all_drained, 30 * SIM_S);
	simworld_end(&w);
}

static void handshake__unknown_key__client_refuses(void **state)
{
	static const uint8_t wrong[1][32] = { { 1, 2, 3 } };
	struct simworld w;

	simworld_init(&w, 14);
	w.client_tls.pins = wrong;
	w.client_tls.pin_count = 1;
	simworld_start(&w);
	struct simconn *c = simworld_connect(&w, NULL);
	simworld_until(&w, sim_both_closed, 15 * SIM_S);
	assert_false(c->established);
	assert_int_equal(c->error.kind, CONN_ERR_TLS);
	assert_false(c->error.by_peer);
	struct simconn *s = simworld_peer(&w);
	assert_int_equal(s->error.kind, CONN_ERR_TLS);
	assert_true(s->error.by_peer);
	assert_true(s->error.code == c->error.code);
	simworld_until(&w, sim_all_drained, 30 * SIM_S);
	simworld_end(&w);
}

static void handshake__nobody_answers__timeout(void **state)
{
	struct simworld w;
	struct wire x = { 0 };

	simworld_init(&w, 15);
	start_watched(&w, &x);
	x.drop_after[0] = 0;
	uint64_t start = simnet_now(w.net);
	struct simconn *c = simworld_connect(&w, NULL);
	simworld_until(&w, sim_client_closed, 60 * SIM_S);
	assert_int_equal(c->error.kind, CONN_ERR_HANDSHAKE_TIMEOUT);
	assert_in_range(c->closed_at_us - start, 10 * SIM_S, 10 * SIM_S + 10 * SIM_MS);
	assert_in_range(x.sent[0], 3, 20);	/* it did try again, with patience */
	simworld_until(&w, sim_all_drained, 60 * SIM_S);
	simworld_end(&w);
}

static void handshake__port_unreachable__refused_at_once(void **state)
{
	struct simworld w;
	struct wire x = { 0 };

	simworld_init(&w, 16);
	start_watched(&w, &x);
	x.drop_after[0] = 0;
	struct simconn *c = simworld_connect(&w, NULL);
	simworld_pass(&w, 5 * SIM_MS);
	endpoint_unreachable(w.client.host->ep, &w.server.host->addr, 111, simnet_now(w.net));
	simworld_until(&w, sim_client_closed, SIM_S);
	assert_int_equal(c->error.kind, CONN_ERR_REFUSED);
	assert_int_equal(c->error.os_errno, 111);
	simworld_until(&w, sim_all_drained, 10 * SIM_S);
	simworld_end(&w);
}

/* A port that belongs to a server and a client gets all sorts of mail. */
static void junk(uint64_t seed)
{
	struct simworld w;
	struct simrng r;
	uint8_t buf[1500];

	simworld_init(&w, seed);
	simworld_start(&w);
	struct simconn *c = simworld_connect(&w, NULL);
	simconn_send(c, DIR_BIDI, 1, 100000);
	simrng_init(&r, seed, 3);
	struct rng fill = simrng_hook(&r);
	for (int i = 0; i < 200; i++) {
		size_t len = simrng_below(&r, sizeof(buf) + 1);

		rng_fill(&fill, buf, len);
		if (len > 6 && simrng_chance(&r, 500)) {
			buf[0] |= 0xc0;
			memcpy(buf + 1, "\0\0\0\1\10", 5);	/* a version 1 long header with a CID of 8 bytes */
		}
		struct simhost *to = i % 2 ? w.client.host : w.server.host;
		struct simhost *from = i % 2 ? w.server.host : w.client.host;
		simnet_inject(w.net, &from->addr, &to->addr, buf, len);
		simworld_pass(&w, SIM_MS);
	}
	simworld_until(&w, sim_streams_done, 20 * SIM_S);
	assert_int_equal(c->got, 100000);
	assert_int_equal(w.server.accepted, 1);
	assert_int_equal(endpoint_count(w.server.host->ep), 1);
	simworld_end(&w);
}

static void handshake__junk_arrives__ignored(void **state)
{
	simworld_each_seed(50, junk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(handshake__clean_link__one_round_trip),
		cmocka_unit_test(handshake__any_lost_datagrams__recovers),
		cmocka_unit_test(handshake__server_hello_lost__no_timeout_is_waited_for),
		cmocka_unit_test_teardown(handshake__a_third_lost__always_succeeds, simworld_report),
		cmocka_unit_test(handshake__silent_client__three_times_at_most),
		cmocka_unit_test(handshake__big_certificate_and_losses__no_deadlock),
		cmocka_unit_test(retry__demanded__one_more_round_trip),
		cmocka_unit_test(retry__retry_or_answer_lost__recovers),
		cmocka_unit_test(resumption__session_and_token__no_retry_no_certificate),
		cmocka_unit_test(resumption__token_of_another_server__retry_again),
		cmocka_unit_test(version__client_gets_strange_list__gives_up),
		cmocka_unit_test(version__false_or_late_list__ignored),
		cmocka_unit_test(version__server_gets_unknown_version__lists_its_own),
		cmocka_unit_test(handshake__server_refuses__client_learns),
		cmocka_unit_test(handshake__no_common_protocol__both_learn_0x178),
		cmocka_unit_test(handshake__unknown_key__client_refuses),
		cmocka_unit_test(handshake__nobody_answers__timeout),
		cmocka_unit_test(handshake__port_unreachable__refused_at_once),
		cmocka_unit_test_teardown(handshake__junk_arrives__ignored, simworld_report),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
