/* The parts of endpoint/ that need no connection: demultiplexing, the gate for new
 * connections and the stateless answers. Whole endpoints are tested in simulation. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "base/bucket.h"
#include "base/err.h"
#include "crypto/pktkey.h"
#include "crypto/retry.h"
#include "endpoint/accept.h"
#include "endpoint/demux.h"
#include "endpoint/stateless.h"
#include "path/token.h"
#include "wire/frame.h"

#define SEC UINT64_C(1000000)
#define T0 (100 * SEC)

static void xorshift_fill(void *arg, void *buf, size_t len)
{
	uint64_t *x = arg;
	uint8_t *p = buf;
	for (size_t i = 0; i < len; i++) {
		*x ^= *x << 13;
		*x ^= *x >> 7;
		*x ^= *x << 17;
		p[i] = (uint8_t)(*x >> 24);
	}
}

static uint64_t seed = 88172645463325252u;
static const struct rng rng = { xorshift_fill, &seed };
static const uint8_t key[32] = { 7, 7, 7 };

static struct addr v4(uint32_t ip, uint16_t port)
{
	return (struct addr){ .in4 = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip) } };
}

static struct addr v6(uint8_t last, uint16_t port, uint32_t scope)
{
	struct addr a = { .in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port), .sin6_scope_id = scope } };
	a.in6.sin6_addr.s6_addr[15] = last;
	return a;
}

static struct cid mkcid(uint8_t len, unsigned n)
{
	struct cid c = { .len = len };
	memset(c.b, 0xc1, len);
	memcpy(c.b, &n, len < 4 ? len : 4);
	return c;
}

/* ---- bucket ------------------------------------------------------------- */

static unsigned take_all(struct bucket *b, uint64_t now_us)
{
	unsigned n = 0;
	while (n < 100000 && bucket_take(b, now_us))
		n++;
	return n;
}

static void bucket_take__rate_and_burst(void **state)
{
	struct bucket b;
	bucket_init(&b, 10, 20, T0);
	assert_int_equal(take_all(&b, T0), 20);
	assert_int_equal(take_all(&b, T0 + 99999), 0);
	assert_int_equal(take_all(&b, T0 + 100000), 1);
	assert_int_equal(take_all(&b, T0 + 1100000), 10);
	assert_int_equal(take_all(&b, T0), 0);		/* a clock that steps back gives nothing */
	assert_int_equal(take_all(&b, T0 + 1150000), 0);
	assert_int_equal(take_all(&b, UINT64_MAX), 20);	/* and ages of silence no more than the burst */
	bucket_init(&b, UINT32_MAX, 1000, T0);
	assert_int_equal(take_all(&b, T0), 1000);
	assert_int_equal(take_all(&b, UINT64_MAX), 1000);
}

/* ---- demux -------------------------------------------------------------- */

static void demux_find__every_cid_of_every_connection(void **state)
{
	enum { N = 300 };
	struct demux d;
	struct demux_entry *x = calloc(N, sizeof(*x));
	struct addr a = v4(1, 1);
	demux_init(&d);
	for (unsigned i = 0; i < N; i++) {
		demux_add(&d, &x[i], &a);
		for (unsigned k = 0; k < DEMUX_CIDS; k++) {
			struct cid c = mkcid((uint8_t)(4 + k), i);
			assert_int_equal(demux_cid_add(&d, &x[i], &c), 0);
		}
	}
	for (unsigned i = 0; i < N; i += 2)
		demux_remove(&d, &x[i]);
	for (unsigned i = 0; i < N; i++)
		for (unsigned k = 0; k < DEMUX_CIDS; k++) {
			struct cid c = mkcid((uint8_t)(4 + k), i);
			assert_ptr_equal(demux_find(&d, &c), i % 2 ? &x[i] : NULL);
		}
	unsigned left = 0;
	for (struct demux_entry *y; (y = demux_any(&d)); left++)
		demux_remove(&d, y);
	assert_int_equal(left, N / 2);
	free(x);
}

static void demux_find__same_bytes_other_length__unknown(void **state)
{
	struct demux d;
	struct demux_entry x;
	struct addr a = v4(1, 1);
	struct cid c8 = mkcid(8, 5), c9 = mkcid(9, 5);
	demux_init(&d);
	demux_add(&d, &x, &a);
	assert_int_equal(demux_cid_add(&d, &x, &c8), 0);
	assert_null(demux_find(&d, &c9));
	assert_ptr_equal(demux_find(&d, &c8), &x);
}

static void demux_cid_remove__found_last__is_forgotten(void **state)
{
	struct demux d;
	struct demux_entry x, y;
	struct addr a = v4(1, 1);
	struct cid c = mkcid(8, 5);
	demux_init(&d);
	demux_add(&d, &x, &a);
	demux_add(&d, &y, &a);
	assert_int_equal(demux_cid_add(&d, &x, &c), 0);
	assert_ptr_equal(demux_find(&d, &c), &x);
	demux_cid_remove(&d, &y, &c);	/* not y's */
	assert_ptr_equal(demux_find(&d, &c), &x);
	demux_cid_remove(&d, &x, &c);
	assert_null(demux_find(&d, &c));
	assert_int_equal(demux_cid_add(&d, &y, &c), 0);
	assert_ptr_equal(demux_find(&d, &c), &y);
	demux_remove(&d, &y);
	assert_null(demux_find(&d, &c));
}

static void demux_cid_add__taken_or_full__limit(void **state)
{
	struct demux d;
	struct demux_entry x, y;
	struct addr a = v4(1, 1);
	struct cid c = mkcid(8, 0);
	demux_init(&d);
	demux_add(&d, &x, &a);
	demux_add(&d, &y, &a);
	for (unsigned i = 0; i < DEMUX_CIDS; i++) {
		c = mkcid(8, i);
		assert_int_equal(demux_cid_add(&d, &x, &c), 0);
	}
	assert_int_equal(demux_cid_add(&d, &x, &c), 0);		/* its own already */
	assert_int_equal(demux_cid_add(&d, &y, &c), QE_LIMIT);
	c = mkcid(8, 99);
	assert_int_equal(demux_cid_add(&d, &x, &c), QE_LIMIT);
	assert_null(demux_find(&d, &c));
	assert_int_equal(demux_cid_add(&d, &y, &c), 0);
}

static unsigned count_at(struct demux *d, struct addr a)
{
	unsigned n = 0;
	for (struct demux_entry *x = demux_remote_first(d, &a); x; x = demux_remote_next(d, x)) {
		assert_true(addr_equal(&x->remote, &a));
		n++;
	}
	return n;
}

static void demux_remote__walks_exactly_one_address(void **state)
{
	struct demux d;
	struct addr at[] = { v4(1, 10), v4(1, 11), v4(2, 10), v6(1, 10, 0), v6(1, 10, 1), v6(2, 10, 0), v6(1, 11, 0) };
	enum { ADDRS = sizeof(at) / sizeof(at[0]), EACH = 40 };
	struct demux_entry *x = calloc(ADDRS * EACH, sizeof(*x));
	demux_init(&d);
	for (unsigned i = 0; i < ADDRS * EACH; i++)
		demux_add(&d, &x[i], &at[i % ADDRS]);
	for (unsigned i = 0; i < ADDRS; i++)
		assert_int_equal(count_at(&d, at[i]), EACH);
	assert_int_equal(count_at(&d, v4(3, 10)), 0);
	demux_move(&d, &x[0], &at[1]);
	demux_remove(&d, &x[2]);
	assert_int_equal(count_at(&d, at[0]), EACH - 1);
	assert_int_equal(count_at(&d, at[1]), EACH + 1);
	assert_int_equal(count_at(&d, at[2]), EACH - 1);
	free(x);
}

/* ---- packets as clients send them --------------------------------------- */

struct client {
	struct cid dcid, scid;
	const uint8_t *token;
	size_t token_len;
	enum packet_type type;	/* PACKET_INITIAL is 0 */
	size_t len;		/* of the datagram; 0: 1200 */
	bool no_fixed_bit;
};

/* A sealed long-header datagram with a PING and zeros. */
static struct packet client_datagram(const struct client *c, uint8_t *buf)
{
	size_t total = c->len ? c->len : MIN_INITIAL_DATAGRAM, length_off;
	struct wr w = wr_of(buf, total - AEAD_TAG_LEN);
	assert_true(packet_write_long(&w, c->type, QUIC_V1, &c->dcid, &c->scid, c->token, c->token_len, 3, 2,
				      &length_off));
	if (c->no_fixed_bit)
		buf[0] &= (uint8_t)~0x40;
	size_t hdr = wr_len(&w);
	assert_true(frame_write_ping(&w));
	memset(w.p, 0, wr_left(&w));
	packet_patch_length(buf, length_off, total - hdr + 2);

	uint8_t client[32], server[32], mask[1][HP_MASK_LEN];
	struct pktkey k;
	assert_int_equal(initial_secrets(QUIC_V1, c->dcid.b, c->dcid.len, client, server), 0);
	assert_int_equal(pktkey_init(&k, SUITE_AES_128_GCM, client, true), 0);
	assert_int_equal(pktkey_seal(&k, 3, buf, hdr, buf + hdr, total - hdr - AEAD_TAG_LEN), 0);
	const uint8_t *sample = buf + hdr + 2;
	assert_int_equal(pktkey_masks(&k, &sample, 1, mask), 0);
	hp_protect(buf, hdr - 2, mask[0]);
	pktkey_fini(&k);

	struct packet p;
	struct rd r = rd_of(buf, total);
	assert_int_equal(packet_parse(&r, 8, &p), 0);
	return p;
}

static struct client plain_client(void)
{
	return (struct client){ .dcid = mkcid(8, 0xdc), .scid = mkcid(5, 0x5c) };
}

/* ---- stateless answers -------------------------------------------------- */

/* RFC9000 17.2.1-7, 17.2.1-8, whatever the length of the CIDs; RFC9000 6.2-2 never the client's own version */
static void answer_version_negotiation__echoes_cids_lists_versions(void **state)
{
	static const uint32_t asked[] = { 0x6b3343cf, 0xff00001d, 0x0a0a0a0a, 0xfafafafa, 0x1a2a3a4a };
	static const uint8_t lens[][2] = { { 8, 8 }, { 0, 0 }, { 20, 4 }, { 255, 255 } };
	for (unsigned i = 0; i < 5 * 4 * 50; i++) {
		uint8_t buf[1200] = { 0x80 }, out[ANSWER_MAX];
		const uint8_t *len = lens[i % 4];
		struct wr w = wr_of(buf, sizeof(buf));
		struct packet p;
		wr_uint(&w, 0xc0, 1);
		wr_uint(&w, asked[i % 5], 4);
		wr_uint(&w, len[0], 1);
		memset(wr_claim(&w, len[0]), 0xdd, len[0]);
		wr_uint(&w, len[1], 1);
		memset(wr_claim(&w, len[1]), 0x55, len[1]);
		struct rd r = rd_of(buf, sizeof(buf));
		assert_int_equal(packet_parse(&r, 8, &p), 0);
		assert_int_equal(p.type, PACKET_UNKNOWN_VERSION);

		size_t n = answer_version_negotiation(&rng, &p, out);
		assert_int_equal(n, 7u + len[0] + len[1] + 8);
		assert_int_equal(out[0] & 0xc0, 0xc0);
		r = rd_of(out + 1, n - 1);
		assert_int_equal(rd_uint(&r, 4), 0);
		assert_int_equal(rd_uint(&r, 1), len[1]);
		for (unsigned k = 0; k < len[1]; k++)
			assert_int_equal(rd_uint(&r, 1), 0x55);
		assert_int_equal(rd_uint(&r, 1), len[0]);
		for (unsigned k = 0; k < len[0]; k++)
			assert_int_equal(rd_uint(&r, 1), 0xdd);
		uint32_t reserved = (uint32_t)rd_uint(&r, 4);
		assert_int_equal(reserved & 0x0f0f0f0f, 0x0a0a0a0a);
		assert_int_not_equal(reserved, asked[i % 5]);
		assert_int_equal(rd_uint(&r, 4), QUIC_V1);
		assert_int_equal(rd_left(&r), 0);
	}
}

/* RFC9000 17.2.5.1-1, 17.2.5.1-2 */
static void answer_retry__verifies_and_carries_our_token(void **state)
{
	uint8_t buf[1200], out[ANSWER_MAX], tag[16];
	struct client c = plain_client();
	struct addr peer = v4(1, 1);
	for (size_t scid_len = 4; scid_len <= CID_MAX; scid_len++) {
		struct packet p = client_datagram(&c, buf), retry;
		struct token t;
		size_t n = answer_retry(&rng, key, &p, &peer, scid_len, T0, out);
		struct rd r = rd_of(out, n);
		assert_in_range(n, 1, 3 * sizeof(buf));
		assert_int_equal(packet_parse(&r, 8, &retry), 0);
		assert_int_equal(retry.type, PACKET_RETRY);
		assert_true(cid_equal(&retry.dcid, &c.scid));
		assert_int_equal(retry.scid.len, scid_len < RETRY_SCID_MIN ? RETRY_SCID_MIN : scid_len);
		assert_false(cid_equal(&retry.scid, &c.dcid));
		assert_int_equal(retry_tag(QUIC_V1, &c.dcid, out, n - 16, tag), 0);
		assert_memory_equal(tag, retry.retry_tag, 16);
		assert_int_equal(token_open(key, retry.token, retry.token_len, &peer, T0, &t), 0);
		assert_true(t.is_retry && cid_equal(&t.odcid, &c.dcid) && cid_equal(&t.retry_scid, &retry.scid));
	}
}

static void fill_dd(void *arg, void *buf, size_t len)
{
	memset(buf, 0xdd, len);
}

/* RFC9000 17.2.5.1-2 MUST NOT be equal */
static void answer_retry__random_cid_hits_the_clients__differs(void **state)
{
	uint8_t buf[1200], out[ANSWER_MAX];
	struct client c = { .dcid = { .len = 8 } };
	struct rng dd = { fill_dd, NULL };
	struct addr peer = v4(1, 1);
	memset(c.dcid.b, 0xdd, 8);
	struct packet p = client_datagram(&c, buf), retry;
	size_t n = answer_retry(&dd, key, &p, &peer, 8, T0, out);
	struct rd r = rd_of(out, n);
	assert_int_equal(packet_parse(&r, 8, &retry), 0);
	assert_false(cid_equal(&retry.scid, &c.dcid));
}

/* RFC9000 10.3.3-2 smaller than the trigger; 10.3-5 looks like a short header; 10.3.2 token of that CID */
static void answer_reset__smaller_than_trigger_ends_in_token(void **state)
{
	uint8_t out[ANSWER_MAX], token[RESET_TOKEN_LEN];
	struct cid c = mkcid(8, 1);
	assert_int_equal(reset_token_make(key, &c, token), 0);
	size_t least = SIZE_MAX, most = 0;
	for (size_t trigger = 0; trigger < 1500; trigger++) {
		size_t n = answer_reset(&rng, key, &c, trigger, out);
		if (trigger < ENDPOINT_RESET_MIN_TRIGGER) {
			assert_int_equal(n, 0);
			continue;
		}
		assert_true(n < trigger && n >= 21);
		/* RFC9000 10.3-10 */
		assert_true(trigger <= 43 ? n == trigger - 1 : n >= 42);
		assert_int_equal(out[0] & 0xc0, 0x40);
		assert_memory_equal(out + n - RESET_TOKEN_LEN, token, RESET_TOKEN_LEN);
		if (trigger >= 100) {
			least = n < least ? n : least;
			most = n > most ? n : most;
		}
	}
	assert_true(most > least + 10);		/* the size tells nothing */
}

static void answer_close__opens_for_the_client(void **state)
{
	static const int codes[] = { QE_CONNECTION_REFUSED, QE_INVALID_TOKEN };
	for (unsigned i = 0; i < 4; i++) {
		uint8_t buf[1200], out[ANSWER_MAX], client[32], server[32], mask[1][HP_MASK_LEN];
		struct client c = plain_client();
		c.scid.len = i & 2 ? 0 : 20;
		struct packet p = client_datagram(&c, buf), got;
		size_t n = answer_close(&p, codes[i & 1], out);
		struct rd r = rd_of(out, n);
		assert_int_equal(packet_parse(&r, 8, &got), 0);
		assert_int_equal(got.type, PACKET_INITIAL);
		assert_int_equal(got.len, n);
		assert_true(cid_equal(&got.dcid, &c.scid));
		assert_int_equal(got.token_len, 0);

		struct pktkey k;
		assert_int_equal(initial_secrets(QUIC_V1, c.dcid.b, c.dcid.len, client, server), 0);
		assert_int_equal(pktkey_init(&k, SUITE_AES_128_GCM, server, false), 0);
		const uint8_t *sample = out + got.pn_off + 4;
		assert_int_equal(pktkey_masks(&k, &sample, 1, mask), 0);
		size_t hdr = got.pn_off + hp_unprotect(out, got.pn_off, mask[0]);
		assert_false(packet_reserved_bits(out[0]));
		assert_int_equal(pktkey_open(&k, 0, out, hdr, out + hdr, n - hdr), 0);
		pktkey_fini(&k);

		struct frame f;
		r = rd_of(out + hdr, n - hdr - AEAD_TAG_LEN);
		assert_int_equal(frame_decode(&r, LEVEL_INITIAL, &f), 0);
		assert_int_equal(f.kind, FRAME_CONNECTION_CLOSE);
		assert_int_equal(f.close.code, qe_wire(codes[i & 1]));
		assert_int_equal(rd_left(&r), 0);
	}
}

static void initial_authentic__any_change__false(void **state)
{
	uint8_t buf[1500], before[1500];
	struct client c = plain_client();
	c.len = 1300;
	struct packet p = client_datagram(&c, buf);
	memcpy(before, buf, p.len);
	assert_true(initial_authentic(&p));
	assert_memory_equal(before, buf, p.len);	/* only looked at */
	for (size_t i = p.pn_off; i < p.len; i += 7) {
		buf[i] ^= 0x10;
		assert_false(initial_authentic(&p));
		buf[i] ^= 0x10;
	}
	p.dcid.b[0] ^= 1;
	assert_false(initial_authentic(&p));
	p.dcid.b[0] ^= 1;
	assert_true(initial_authentic(&p));
	p.len = p.pn_off + 19;
	assert_false(initial_authentic(&p));
	p.len = 1 << 20;	/* larger than is ever looked at */
	assert_false(initial_authentic(&p));
}

static void answers__more_than_queued__dropped_in_order(void **state)
{
	struct answers *q = calloc(1, sizeof(*q));
	for (unsigned round = 0; round < 3; round++) {
		unsigned n = 0;
		for (struct answer *a; (a = answers_claim(q)); n++) {
			a->len = n + 1;
			answers_commit(q);
		}
		assert_int_equal(n, ANSWERS_QUEUED);
		for (unsigned i = 0; i < n - round; i++)
			assert_int_equal(answers_pop(q)->len, i + 1);
		while (answers_pop(q))
			;
	}
	assert_null(answers_pop(q));
	assert_non_null(answers_claim(q));
	assert_null(answers_pop(q));	/* claimed but not committed */
	free(q);
}

/* ---- the gate ----------------------------------------------------------- */

static const struct endpoint_config gate = {
	.cid_len = 8, .token_key = { 7, 7, 7 }, .retry_above = 10, .max_half_open = 20,
};

static struct decision decide(const struct endpoint_config *cfg, const struct client *c, struct accept_load load,
			      struct addr peer, uint64_t now_us)
{
	static struct once once;
	uint8_t buf[2000];
	struct packet p = client_datagram(c, buf);
	return accept_decide(cfg, &once, load, &p, c->len ? c->len : MIN_INITIAL_DATAGRAM, &peer, now_us);
}

static void accept_decide__malformed__dropped(void **state)
{
	struct client base = plain_client();
	struct { struct client c; enum verdict want; } t[] = {
		{ base, VERDICT_ACCEPT }, { base, VERDICT_ACCEPT }, { base, VERDICT_DROP }, { base, VERDICT_DROP },
		{ base, VERDICT_DROP }, { base, VERDICT_DROP }, { base, VERDICT_DROP }, { base, VERDICT_ACCEPT },
		{ base, VERDICT_ACCEPT },
	};
	t[1].c.len = 1201;
	t[2].c.len = 1199;			/* RFC9000 14.1-4 */
	t[3].c.dcid.len = 7;			/* RFC9000 7.2-3 */
	t[4].c.no_fixed_bit = true;		/* RFC9000 17.2-3 */
	t[5].c.type = PACKET_0RTT;
	t[6].c.type = PACKET_HANDSHAKE;		/* RFC9000 5.2.2-6 */
	t[7].c.no_fixed_bit = true;		/* RFC9287 3.1-3 with a token */
	t[7].c.token = (const uint8_t *)"x";
	t[7].c.token_len = 1;
	t[8].c.dcid.len = CID_MAX;
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct decision d = decide(&gate, &t[i].c, (struct accept_load){ 0 }, v4(1, 1), T0);
		assert_int_equal(d.verdict, t[i].want);
		assert_false(d.validated);
		assert_true(cid_equal(&d.odcid, &t[i].c.dcid));
	}
}

static void accept_decide__by_load(void **state)
{
	enum { NONE, NEW, RETRY };	/* which token it brings */
	const struct { bool always; int token; uint32_t half_open; bool refuse; enum verdict want; } t[] = {
		{ false, NONE, 0, false, VERDICT_ACCEPT },
		{ false, NONE, 9, false, VERDICT_ACCEPT },
		{ false, NONE, 10, false, VERDICT_RETRY },
		{ false, NONE, 20, false, VERDICT_RETRY },
		{ false, NEW, 10, false, VERDICT_ACCEPT },
		{ false, RETRY, 19, false, VERDICT_ACCEPT },
		{ false, RETRY, 20, false, VERDICT_CLOSE },
		{ false, NEW, 20, false, VERDICT_CLOSE },
		{ true, NONE, 0, false, VERDICT_RETRY },
		{ true, NEW, 0, false, VERDICT_ACCEPT },
		{ true, RETRY, 0, false, VERDICT_ACCEPT },	/* RFC9000 8.1.2-2 never a second Retry */
		{ false, NONE, 0, true, VERDICT_CLOSE },
		{ true, NONE, 0, true, VERDICT_CLOSE },
		{ false, RETRY, 0, true, VERDICT_CLOSE },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct endpoint_config cfg = gate;
		struct client c = plain_client();
		struct addr peer = v4(1, 1);
		uint8_t buf[TOKEN_MAX];
		struct token tok = { .is_retry = t[i].token == RETRY, .issued_us = T0, .odcid = mkcid(9, 1),
				     .retry_scid = c.dcid };
		cfg.retry = t[i].always;
		if (t[i].token != NONE) {
			c.token = buf;
			c.token_len = token_seal(key, &rng, &tok, &peer, buf);
		}
		struct accept_load load = { t[i].half_open, t[i].refuse };
		struct decision d = decide(&cfg, &c, load, peer, T0 + 1);
		assert_int_equal(d.verdict, t[i].want);
		if (d.verdict == VERDICT_CLOSE)
			assert_int_equal(d.code, QE_CONNECTION_REFUSED);
		assert_int_equal(d.validated, t[i].token != NONE);
		assert_int_equal(d.by_retry, t[i].token == RETRY);
		assert_int_equal(d.by_new_token, t[i].token == NEW);
		assert_true(cid_equal(&d.odcid, d.by_retry ? &tok.odcid : &c.dcid));
		if (d.by_retry)
			assert_true(cid_equal(&d.retry_scid, &c.dcid));
	}
}

/* RFC9000 8.1.2-6 an invalid Retry token is told so; RFC9000 8.1.3-10 any other is as good as none */
static void accept_decide__bad_tokens(void **state)
{
	struct addr home = v4(1, 1), away = v4(2, 2);
	const struct { bool retry; bool other_dcid, other_addr, garbled; uint64_t age; enum verdict want; } t[] = {
		{ true, true, false, false, 0, VERDICT_CLOSE },
		{ true, false, true, false, 0, VERDICT_CLOSE },
		{ true, false, false, false, TOKEN_RETRY_LIFE_US + 1, VERDICT_CLOSE },
		{ true, false, false, true, 0, VERDICT_ACCEPT },
		{ false, false, true, false, 0, VERDICT_ACCEPT },
		{ false, false, false, false, TOKEN_NEW_LIFE_US + 1, VERDICT_ACCEPT },
		{ false, false, false, true, 0, VERDICT_ACCEPT },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct client c = plain_client();
		uint8_t buf[TOKEN_MAX];
		struct token tok = { .is_retry = t[i].retry, .issued_us = T0, .odcid = mkcid(9, 1),
				     .retry_scid = mkcid(8, t[i].other_dcid ? 1 : 0xdc) };
		c.token = buf;
		c.token_len = token_seal(key, &rng, &tok, &home, buf);
		buf[c.token_len - 1] ^= t[i].garbled;
		struct decision d = decide(&gate, &c, (struct accept_load){ 0 }, t[i].other_addr ? away : home,
					   T0 + t[i].age);
		assert_int_equal(d.verdict, t[i].want);
		assert_int_equal(d.code, t[i].want == VERDICT_CLOSE ? QE_INVALID_TOKEN : 0);
		assert_false(d.validated);
	}
}

/* RFC9000 8.1.4-5 once only, however many come after it */
static void once__used_tokens_never_fresh_again(void **state)
{
	enum { N = 3 * ONCE_FILL + 100 };
	static struct once o;
	uint64_t *ids = malloc(N * sizeof(*ids));
	unsigned refused = 0;
	for (uint64_t i = 0; i < N; i++) {
		ids[i] = rng_u64(&rng);
		refused += !once_is_fresh(&o, ids[i], T0 + 10 * i);	/* issued at 10 i, used 5 later */
		once_use(&o, ids[i], T0 + 10 * i + 5);
	}
	assert_in_range(refused, 0, N / 200);
	for (uint64_t i = 0; i < N; i++)
		assert_false(once_is_fresh(&o, ids[i], T0 + 10 * i));
	free(ids);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(bucket_take__rate_and_burst),
		cmocka_unit_test(demux_find__every_cid_of_every_connection),
		cmocka_unit_test(demux_find__same_bytes_other_length__unknown),
		cmocka_unit_test(demux_cid_remove__found_last__is_forgotten),
		cmocka_unit_test(demux_cid_add__taken_or_full__limit),
		cmocka_unit_test(demux_remote__walks_exactly_one_address),
		cmocka_unit_test(answer_version_negotiation__echoes_cids_lists_versions),
		cmocka_unit_test(answer_retry__verifies_and_carries_our_token),
		cmocka_unit_test(answer_retry__random_cid_hits_the_clients__differs),
		cmocka_unit_test(answer_reset__smaller_than_trigger_ends_in_token),
		cmocka_unit_test(answer_close__opens_for_the_client),
		cmocka_unit_test(initial_authentic__any_change__false),
		cmocka_unit_test(answers__more_than_queued__dropped_in_order),
		cmocka_unit_test(accept_decide__malformed__dropped),
		cmocka_unit_test(accept_decide__by_load),
		cmocka_unit_test(accept_decide__bad_tokens),
		cmocka_unit_test(once__used_tokens_never_fresh_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
