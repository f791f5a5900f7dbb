/* What somebody who has proved nothing, neither an address nor a key, can make us send or hold: little, and never more
 * than three times what came. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "endpoint/endpoint.h"
#include "support/leak.h"
#include "support/verdict.h"

/* ---- amplification ------------------------------------------------------------------------------ */

struct tally {
	uint64_t received, sent;	/* by the server, bytes */
	unsigned answers;
};

/* The client's first datagram passes, nothing else does. */
static bool first_only(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	struct tally *t = p->filter_arg;
	if (to_server) {
		bool first = !t->received;
		t->received += first ? len : 0;
		return !first;
	}
	t->sent += len;
	t->answers++;
	assert_true(t->sent <= 3 * t->received);
	return true;
}

/* RFC9000 8.1-3: through all repetitions, until the server gives up */
static void strangers__amplification__silent_client(void **state)
{
	struct connpair p;
	struct tally t = { 0 };
	connpair_init(&p, 1);
	p.filter = first_only;
	p.filter_arg = &t;
	connpair_start(&p);
	connpair_run(&p, p.now_us + 30000000);
	assert_true(p.closed[1]);
	assert_int_equal(conn_error(p.server)->kind, CONN_ERR_HANDSHAKE_TIMEOUT);
	assert_true(t.answers > 1);
	connpair_fini(&p);
}

/* A violation before the address is known: its close, too, counts, however often it is asked for. */
static void strangers__amplification__while_closing(void **state)
{
	struct scene s;
	uint8_t junk[30] = { 0x40 }, bad[] = { 0x1e };
	scene_init(&s, LEVEL_INITIAL, true);
	struct inject how = { .level = LEVEL_INITIAL, .pad = 1 };
	injector_send_how(&s.i, &how, bad, 1);
	assert_closed(&s, QE_PROTOCOL_VIOLATION);
	for (int k = 0; k < 3000; k++) {
		injector_deliver(&s.i, junk, sizeof(junk));
		assert_true(s.victim->amplify.sent <= 3 * s.victim->amplify.received);
	}
	assert_true(s.i.closes >= 1 && s.i.closes <= 14);	/* 1, 2, 4, 8...; RFC9000 10.2.1-3 */
	scene_fini(&s);
}

/* Datagrams from elsewhere: a client neither answers nor counts them (RFC9000 9-9), a server follows, and sends to no
 * address more than three times what came from it (RFC9000 9.3.1-2). */
static void other_address(struct scene *s)
{
	uint8_t b[INJECT_MAX];
	/* so long that the answer has room for whole datagrams */
	struct inject how = { .level = LEVEL_APP, .pad = MIN_INITIAL_DATAGRAM / 3 };
	const struct amplify *a = &s->victim->amplify;
	struct addr home = s->victim->remote;
	uint64_t received = a->received;
	for (unsigned k = 0; k < 100; k++) {
		size_t n = injector_seal(&s->i, &how, (const uint8_t[]){ 0x01, 0x1a, 1, 2, 3, 4, 5, 6, 7, 8 }, 10, b);
		struct datagram d = { .data = b, .len = n, .local = s->victim->local, .remote = home };
		d.remote.in4.sin_port ^= (uint16_t)(k + 1);
		conn_recv(s->victim, &d, 1, s->p.now_us);
		assert_int_equal(a->validated, !s->i.to_server);
		connpair_run(&s->p, s->p.now_us);
		if (s->i.to_server)
			assert_in_range(a->sent, 1, 3 * a->received);
	}
	assert_open(s);
	if (!s->i.to_server) {
		assert_int_equal(s->i.datagrams, 0);
		assert_int_equal(a->received, received);
	}
	scene_transfer(s, 10000);
	assert_true(a->validated && addr_equal(&s->victim->remote, &home));
}

static void strangers__other_address(void **state) { each_side(LEVEL_APP, other_address); }

/* ---- before there are keys ------------------------------------------------------------------------ */

/* 1-RTT packets that nobody can open yet. */
static void undecryptable(struct scene *s)
{
	uint8_t junk[1200] = { 0x40 };
	int64_t live = mem_test_live();
	memcpy(junk + 1, s->victim->lcids.v[0].cid.b, 8);
	for (int k = 0; k < 1000; k++) {
		junk[100] = (uint8_t)k;
		injector_deliver(&s->i, junk, sizeof(junk));
	}
	assert_true(s->victim->nstash <= CONN_STASH_MAX);
	assert_true(mem_test_live() - live <= CONN_STASH_MAX + 8);
	connpair_run(&s->p, s->p.now_us + 1000000);
	assert_int_equal(s->victim->nstash, 0);
	scene_transfer(s, 10000);
}

static void strangers__undecryptable(void **state) { each_side(LEVEL_INITIAL, undecryptable); }

/* Half a ClientHello gives no right to memory for what follows it. */
static void strangers__undecryptable__nothing_kept_before_a_whole_hello(void **state)
{
	struct scene s;
	uint8_t hello[HELLO_MAX], junk[1200] = { 0x40 };
	scene_init_client_only(&s, true);
	size_t len = injector_client_hello(s.p.client, hello, sizeof(hello));
	injector_start_server(&s.i, hello, len / 2);
	struct conn *server = s.p.server;
	assert_non_null(server);
	int64_t live = mem_test_live();
	memcpy(junk + 1, server->lcids.v[0].cid.b, 8);
	injector_deliver(&s.i, junk, sizeof(junk));
	struct wr w = wr_of(junk, sizeof(junk));
	size_t length_off;
	assert_true(packet_write_long(&w, PACKET_HANDSHAKE, QUIC_V1, &server->lcids.v[0].cid,
				      &s.p.client->lcids.v[0].cid, NULL, 0, 0, 4, &length_off));
	packet_patch_length(junk, length_off, sizeof(junk) - wr_len(&w) + 4);
	injector_deliver(&s.i, junk, sizeof(junk));
	assert_int_equal(server->nstash, 0);
	assert_int_equal(mem_test_live(), live);
	scene_fini(&s);
}

/* Long headers of every kind and broken short ones, to an endpoint that listens. */
static void strangers__junk__allocates_nothing(void **state)
{
	struct connpair p;
	struct addr local;
	connpair_init(&p, 1);
	struct endpoint_config cfg = { .rng = p.rng, .cid_len = 8 };
	struct endpoint *e = endpoint_new(&cfg, p.now_us);
	assert_non_null(e);
	endpoint_listen(e, &p.scfg);
	local = p.saddr;
	uint64_t made = mem_test_count();
	for (int k = 0; k < 20000; k++) {
		uint8_t b[1250], out[1500];
		rng_fill(&p.rng, b, sizeof(b));
		if (k % 2) {	/* a credible Initial that does not authenticate */
			struct wr w = wr_of(b, sizeof(b));
			struct cid dcid = { .len = 8 }, scid = { .len = 8 };
			size_t length_off;
			rng_fill(&p.rng, dcid.b, 8);
			packet_write_long(&w, PACKET_INITIAL, QUIC_V1, &dcid, &scid, NULL, 0, 0, 4, &length_off);
			packet_patch_length(b, length_off, sizeof(b) - wr_len(&w) + 4);
		}
		struct datagram d = { .data = b, .len = k % 2 ? sizeof(b) : 20 + (size_t)k % 1200 };
		d.local = local;
		d.remote = p.caddr;
		endpoint_recv(e, &d, 1, p.now_us);
		struct train t = { .buf = out, .cap = sizeof(out), .max_segs = 1 };
		while (endpoint_poll_transmit(e, &t, p.now_us))
			assert_true(t.len <= d.len);
	}
	assert_int_equal(endpoint_count(e), 0);
	assert_int_equal(mem_test_count(), made);
	endpoint_free(e);
	connpair_fini(&p);
}

/* Handshakes that are begun and left: first everyone has to come back with a token, then nobody gets in. */
static void strangers__initial_flood(void **state)
{
	struct connpair p;
	unsigned retries = 0;
	connpair_init(&p, 1);
	struct endpoint_config cfg = { .rng = p.rng, .cid_len = 8, .retry_above = 20, .max_half_open = 40 };
	struct endpoint *e = endpoint_new(&cfg, p.now_us);
	endpoint_listen(e, &p.scfg);
	int64_t live = 0;
	for (int k = 0; k < 300; k++) {
		uint8_t b[1500], out[1500];
		struct train t = { .buf = b, .cap = sizeof(b), .max_segs = 1 };
		connpair_start(&p);
		assert_int_equal(conn_poll_transmit(p.client, &t, p.now_us), 1);
		conn_free(p.client);
		p.client = NULL;
		if (k == 50)
			live = mem_test_live();
		struct datagram d = { .data = b, .len = t.len, .local = p.saddr, .remote = p.caddr };
		endpoint_recv(e, &d, 1, p.now_us);
		t = (struct train){ .buf = out, .cap = sizeof(out), .max_segs = 1 };
		while (endpoint_poll_transmit(e, &t, p.now_us)) {
			struct rd r = rd_of(out, t.len);
			struct packet pkt;
			retries += !packet_parse(&r, 8, &pkt) && pkt.type == PACKET_RETRY;
		}
		assert_true(endpoint_count(e) <= 20);
	}
	assert_int_equal(endpoint_count(e), 20);
	assert_int_equal(retries, 280);
	assert_int_equal(mem_test_live(), live);
	endpoint_free(e);
	connpair_fini(&p);
}

/* Two endpoints that take each other's answers for packets of lost connections. RFC9000 10.3.3-2 */
static void strangers__stateless_reset__loop_ends(void **state)
{
	struct connpair p;
	uint8_t b[1500];
	unsigned answers = 0;
	size_t len = 1200;
	connpair_init(&p, 1);
	struct endpoint_config cfg = { .rng = p.rng, .cid_len = 8, .max_resets_per_s = 1000 };
	struct endpoint *e[2] = { endpoint_new(&cfg, p.now_us), endpoint_new(&cfg, p.now_us) };
	rng_fill(&p.rng, b, sizeof(b));
	b[0] = 0x40 | (b[0] & 0x3f);
	for (; len; answers++) {
		struct datagram d = { .data = b, .len = len, .local = p.saddr, .remote = p.caddr };
		struct train t = { .buf = b, .cap = sizeof(b), .max_segs = 1 };
		endpoint_recv(e[answers % 2], &d, 1, p.now_us);
		if (!endpoint_poll_transmit(e[answers % 2], &t, p.now_us))
			break;
		assert_true(t.len < len);
		len = t.len;
	}
	assert_in_range(answers, 1, 40);
	for (int k = 0; k < 2; k++)
		endpoint_free(e[k]);
	connpair_fini(&p);
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(strangers__amplification__silent_client),
		T(strangers__amplification__while_closing),
		T(strangers__other_address),
		T(strangers__undecryptable),
		T(strangers__undecryptable__nothing_kept_before_a_whole_hello),
		T(strangers__junk__allocates_nothing),
		T(strangers__initial_flood),
		T(strangers__stateless_reset__loop_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
