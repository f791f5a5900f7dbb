/* See injector.h. Keys: Initial ones are derived from the client's DCID, Handshake ones
 * borrowed from the mate, 1-RTT ones copied so that they can be updated out of turn. */
#include "support/injector.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "tls/backend.h"

struct conn *injector_victim(const struct injector *i) { return i->to_server ? i->p->server : i->p->client; }
struct conn *injector_mate(const struct injector *i) { return i->to_server ? i->p->client : i->p->server; }

/* ---- keys --------------------------------------------------------------------- */

static void need_initial(struct injector *i)
{
	uint8_t client[32], server[32];
	const struct cid *dcid = &i->p->client->keys_dcid;
	if (i->has_initial)
		return;
	assert_int_equal(initial_secrets(QUIC_V1, dcid->b, dcid->len, client, server), 0);
	const uint8_t *tx = i->to_server ? client : server, *rx = i->to_server ? server : client;
	assert_int_equal(pktkey_init(&i->initial_tx, SUITE_AES_128_GCM, tx, true), 0);
	assert_int_equal(pktkey_init(&i->initial_rx, SUITE_AES_128_GCM, rx, false), 0);
	i->has_initial = true;
}

static void need_app(struct injector *i)
{
	const struct pktkey *k = &injector_mate(i)->keys.tx[LEVEL_APP];
	if (i->has_app)
		return;
	assert_true(pktkey_ready(k));
	assert_int_equal(pktkey_init(&i->app[0], k->suite, k->secret, true), 0);
	for (int g = 1; g < 4; g++)
		assert_int_equal(pktkey_next(&i->app[g - 1], &i->app[g], true), 0);
	i->has_app = true;
}

static struct pktkey *tx_key(struct injector *i, enum level level, unsigned generation)
{
	if (level == LEVEL_INITIAL) {
		need_initial(i);
		return &i->initial_tx;
	}
	if (level == LEVEL_APP) {
		need_app(i);
		return &i->app[generation];
	}
	struct pktkey *k = &injector_mate(i)->keys.tx[level];
	assert_true(pktkey_ready(k));
	return k;
}

/* ---- sending ------------------------------------------------------------------ */

static struct cid dcid_of(const struct injector *i)
{
	const struct conn *v = injector_victim(i);
	return v ? v->lcids.v[0].cid : i->p->client->keys_dcid;
}

static void write_header(struct injector *i, const struct inject *h, struct wr *w, uint64_t pn, size_t *length_off)
{
	struct cid dcid = h->dcid ? *h->dcid : dcid_of(i);
	struct cid scid = h->scid ? *h->scid : injector_mate(i)->lcids.v[0].cid;
	bool ok;
	if (h->level == LEVEL_APP)
		ok = packet_write_short(w, &dcid, false, (h->generation & 1) ^ h->flip_phase, pn, 4);
	else
		ok = packet_write_long(w, h->level == LEVEL_INITIAL ? PACKET_INITIAL : PACKET_HANDSHAKE, QUIC_V1, &dcid,
				       &scid, h->token, h->token_len, pn, 4, length_off);
	assert_true(ok);
	w->start[0] |= h->reserved;
}

size_t injector_seal(struct injector *i, const struct inject *h, const uint8_t *payload, size_t len, uint8_t *out)
{
	struct pktkey *key = tx_key(i, h->level, h->generation);
	struct pktkey *hp = h->level == LEVEL_APP ? &i->app[0] : key;
	uint64_t pn = h->pn_given ? h->pn : injector_mate(i)->rec.space[level_space(h->level)].next_pn++;
	size_t length_off = 0, pad = h->pad == 0 && h->level == LEVEL_INITIAL ? MIN_INITIAL_DATAGRAM : h->pad;
	struct wr w = wr_of(out, INJECT_MAX - AEAD_TAG_LEN);

	write_header(i, h, &w, pn, &length_off);
	size_t hdr = wr_len(&w);
	assert_true(wr_bytes(&w, payload, len));
	if (wr_len(&w) + AEAD_TAG_LEN < pad)
		assert_true(frame_write_padding(&w, pad - AEAD_TAG_LEN - wr_len(&w)));
	size_t body = wr_len(&w) - hdr;
	if (h->level != LEVEL_APP)
		packet_patch_length(out, length_off, 4 + body + AEAD_TAG_LEN);
	assert_int_equal(pktkey_seal(key, pn, out, hdr, out + hdr, body), 0);
	size_t total = hdr + body + AEAD_TAG_LEN;
	if (h->corrupt)
		out[total - 1] ^= 1;
	const uint8_t *sample = out + hdr;
	uint8_t mask[1][HP_MASK_LEN];
	assert_int_equal(pktkey_masks(hp, &sample, 1, mask), 0);
	hp_protect(out, hdr - 4, mask[0]);
	return total;
}

static void hand_over(struct injector *i, const uint8_t *data, size_t len)
{
	/* on the heap, so that a sanitizer sees a read past the end */
	uint8_t *copy = malloc(len ? len : 1);
	assert_non_null(copy);
	if (len)
		memcpy(copy, data, len);
	struct datagram d = { .data = copy, .len = len };
	d.local = i->to_server ? i->p->saddr : i->p->caddr;
	d.remote = i->to_server ? i->p->caddr : i->p->saddr;
	conn_recv(injector_victim(i), &d, 1, i->p->now_us);
	free(copy);
}

void injector_deliver(struct injector *i, const uint8_t *data, size_t len)
{
	hand_over(i, data, len);
	connpair_run(i->p, i->p->now_us);
}

void injector_feed(struct injector *i, const struct inject *how, const uint8_t *payload, size_t len)
{
	uint8_t buf[INJECT_MAX];
	size_t n = injector_seal(i, how, payload, len, buf);
	if (how->level == LEVEL_INITIAL && n < MIN_INITIAL_DATAGRAM && !how->small) {
		memset(buf + n, 0, MIN_INITIAL_DATAGRAM - n);
		n = MIN_INITIAL_DATAGRAM;
	}
	hand_over(i, buf, n);
}

void injector_send_how(struct injector *i, const struct inject *how, const uint8_t *payload, size_t len)
{
	injector_feed(i, how, payload, len);
	connpair_run(i->p, i->p->now_us);
}

void injector_send(struct injector *i, enum level level, const uint8_t *payload, size_t len)
{
	struct inject how = { .level = level };
	injector_send_how(i, &how, payload, len);
}

/* ---- looking at what the victim sends ------------------------------------------ */

static void note_frame(struct injector *i, enum level level, const struct frame *f)
{
	i->frames[f->kind]++;
	if (f->kind == FRAME_ACK) {
		i->last_ack = f->ack;
		i->last_ack.ranges = NULL;
		i->last_ack_level = level;
	}
	if (f->kind == FRAME_PATH_RESPONSE)
		memcpy(i->last_path_response, f->path_data, sizeof(f->path_data));
	if (f->kind != FRAME_CONNECTION_CLOSE && f->kind != FRAME_APPLICATION_CLOSE)
		return;
	i->closes++;
	i->close_kind = f->kind;
	i->close_level = level;
	i->close_code = f->close.code;
	i->close_frame_type = f->close.frame_type;
}

static void read_frames(struct injector *i, enum level level, const uint8_t *p, size_t len)
{
	struct rd r = rd_of(p, len);
	struct frame f;
	i->packets[level]++;
	while (rd_left(&r)) {
		assert_int_equal(frame_decode(&r, level, &f), 0);
		note_frame(i, level, &f);
	}
}

/* hp: of the level. Tries the keys in turn, each on a copy. */
static void open_packet(struct injector *i, enum level level, const struct packet *p, struct pktkey *hp,
			struct pktkey *const keys[], int nkeys)
{
	enum pn_space space = level_space(level);
	for (int k = 0; k < nkeys; k++) {
		uint8_t buf[65536], mask[1][HP_MASK_LEN];
		if (!pktkey_ready(keys[k]) || p->len > sizeof(buf))
			continue;
		memcpy(buf, p->start, p->len);
		const uint8_t *sample = buf + p->pn_off + 4;
		assert_int_equal(pktkey_masks(hp, &sample, 1, mask), 0);
		size_t pn_len = hp_unprotect(buf, p->pn_off, mask[0]), hdr = p->pn_off + pn_len;
		struct rd r = rd_of(buf + p->pn_off, pn_len);
		uint64_t pn = pn_decode(rd_uint(&r, pn_len), pn_len, i->largest_pn[space]);
		if (pktkey_open(keys[k], pn, buf, hdr, buf + hdr, p->len - hdr))
			continue;
		if (i->alone && !ackq_is_duplicate(&i->acks[space], pn))
			assert_int_equal(ackq_on_packet(&i->acks[space], pn, true, ECN_NOT_ECT, i->p->now_us), 0);
		if (i->largest_pn[space] == PN_NONE || pn > i->largest_pn[space])
			i->largest_pn[space] = pn;
		read_frames(i, level, buf + hdr, p->len - hdr - AEAD_TAG_LEN);
		return;
	}
}

static uint64_t eliciting_seen(const struct injector *i)
{
	uint64_t n = 0;
	for (int k = 0; k < FRAME_KIND_COUNT; k++)
		n += frame_table[k].eliciting ? i->frames[k] : 0;
	return n;
}

static void look_at(struct injector *i, const struct packet *p, size_t datagram_len)
{
	uint64_t before = eliciting_seen(i);
	struct conn *m = injector_mate(i);
	struct keyring *kr = m ? &m->keys : NULL;
	if (p->type == PACKET_INITIAL) {
		struct pktkey *keys[] = { &i->initial_rx };
		need_initial(i);
		open_packet(i, LEVEL_INITIAL, p, &i->initial_rx, keys, 1);
		/* RFC9000 14.1-2 */
		if (!i->to_server || eliciting_seen(i) > before)
			assert_true(datagram_len >= MIN_INITIAL_DATAGRAM);
	} else if (p->type == PACKET_HANDSHAKE && kr) {
		struct pktkey *keys[] = { &kr->rx[LEVEL_HANDSHAKE] };
		open_packet(i, LEVEL_HANDSHAKE, p, keys[0], keys, 1);
	} else if (p->type == PACKET_1RTT && kr) {
		struct pktkey *keys[] = { &kr->rx[LEVEL_APP], &kr->rx_next, &kr->rx_prev };
		uint64_t paths = i->frames[FRAME_PATH_RESPONSE] + i->frames[FRAME_PATH_CHALLENGE];
		open_packet(i, LEVEL_APP, p, keys[0], keys, 3);
		/* RFC9000 8.2.1-5, 8.2.2-4 */
		if (i->frames[FRAME_PATH_RESPONSE] + i->frames[FRAME_PATH_CHALLENGE] > paths)
			assert_true(datagram_len >= MIN_INITIAL_DATAGRAM);
	}
}

static bool watch(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	struct injector *i = p->filter_arg;
	struct rd r = rd_of(data, len);
	struct packet pkt;
	if (to_server == i->to_server)
		return false;
	i->datagrams++;
	i->bytes += len;
	while (rd_left(&r))
		if (!packet_parse(&r, i->short_cid_len, &pkt))
			look_at(i, &pkt, len);
	return i->alone;
}

void injector_ack(struct injector *i, enum level level)
{
	struct ackq *q = &i->acks[level_space(level)];
	uint8_t b[512];
	struct wr w = wr_of(b, sizeof(b));
	if (rangeset_empty(&q->got))
		return;
	assert_true(frame_write_ack(&w, &q->got, 0, NULL, ACKQ_MAX_RANGES));
	injector_send(i, level, b, wr_len(&w));
}

void injector_forget(struct injector *i)
{
	i->datagrams = i->bytes = i->closes = 0;
	memset(i->packets, 0, sizeof(i->packets));
	memset(i->frames, 0, sizeof(i->frames));
}

void injector_init(struct injector *i, struct connpair *p, bool to_server)
{
	*i = (struct injector){ .p = p, .to_server = to_server, .short_cid_len = 8 };
	for (int s = 0; s < SPACE_COUNT; s++) {
		i->largest_pn[s] = PN_NONE;
		ackq_init(&i->acks[s], 0);
	}
	p->filter = watch;
	p->filter_arg = i;
}

void injector_fini(struct injector *i)
{
	pktkey_fini(&i->initial_tx);
	pktkey_fini(&i->initial_rx);
	for (int g = 0; g < 4; g++)
		pktkey_fini(&i->app[g]);
	for (int s = 0; s < SPACE_COUNT; s++)
		ackq_fini(&i->acks[s]);
	i->p->filter = NULL;
}

/* ---- hellos with other contents ------------------------------------------------- */

size_t injector_client_hello(const struct conn *client, uint8_t *out, size_t cap)
{
	struct sendbuf *sb = (struct sendbuf *)&client->crypto[LEVEL_INITIAL].tx;
	assert_int_equal(sb->base, 0);
	assert_true(sb->end <= cap);
	sendbuf_copy(sb, 0, (size_t)sb->end, out);
	return (size_t)sb->end;
}

static void put(uint8_t *p, size_t v, size_t n)
{
	while (n--) {
		p[n] = (uint8_t)v;
		v >>= 8;
	}
}

static size_t get(const uint8_t *p, size_t n)
{
	struct rd r = rd_of(p, n);
	return (size_t)rd_uint(&r, n);
}

/* Put `by` in the place of hello[at, at + old): returns the new length, the message's own length adapted. */
static size_t splice(uint8_t *hello, size_t len, size_t cap, size_t at, size_t old, const uint8_t *by, size_t n)
{
	assert_true(len - old + n <= cap);
	memmove(hello + at + n, hello + at + old, len - at - old);
	if (n)
		memcpy(hello + at, by, n);
	len = len - old + n;
	put(hello + 1, len - 4, 3);
	return len;
}

#define HELLO_SESSION_ID (4 + 2 + 32)

/* Where the length of all extensions stands. RFC 8446 4.1.2 */
static size_t extensions_at(const uint8_t *hello)
{
	size_t at = HELLO_SESSION_ID;
	at += 1 + get(hello + at, 1);
	at += 2 + get(hello + at, 2);
	return at + 1 + get(hello + at, 1);
}

size_t hello_set_extension(uint8_t *hello, size_t len, size_t cap, uint16_t type, const uint8_t *body, size_t body_len)
{
	size_t all = extensions_at(hello), at = all + 2;
	uint8_t ext[1024];
	while (at < len && get(hello + at, 2) != type)
		at += 4 + get(hello + at + 2, 2);
	assert_true(at < len);
	size_t old = 4 + get(hello + at + 2, 2), n = 0;
	if (body_len != SIZE_MAX) {
		assert_true(body_len <= sizeof(ext) - 4);
		n = 4 + body_len;
		put(ext, type, 2);
		put(ext + 2, body_len, 2);
		if (body_len)
			memcpy(ext + 4, body, body_len);
	}
	put(hello + all, get(hello + all, 2) - old + n, 2);
	return splice(hello, len, cap, at, old, ext, n);
}

static void new_server(struct injector *i, const uint8_t *datagram, size_t len, const struct cid *odcid,
		       const struct cid *retry_scid)
{
	struct connpair *p = i->p;
	struct rd r = rd_of(datagram, len);
	struct packet pkt;
	assert_int_equal(packet_parse(&r, 8, &pkt), 0);
	assert_int_equal(pkt.type, PACKET_INITIAL);
	p->server = conn_new_server(&p->scfg, &p->rng, &p->saddr, &p->caddr, &pkt, odcid ? odcid : &pkt.dcid,
				    retry_scid, retry_scid != NULL, p->now_us);
	assert_non_null(p->server);
}

#define CRYPTO_PIECE 1000

static size_t crypto_frame(uint8_t *out, size_t cap, uint64_t off, const uint8_t *data, size_t len)
{
	struct wr w = wr_of(out, cap);
	assert_int_equal(frame_write_crypto_header(&w, off, len), len);
	assert_true(wr_bytes(&w, data, len));
	return wr_len(&w);
}

void injector_send_crypto(struct injector *i, enum level level, uint64_t off, const uint8_t *data, size_t len)
{
	uint8_t payload[CRYPTO_PIECE + 16];
	while (len) {
		size_t n = len < CRYPTO_PIECE ? len : CRYPTO_PIECE;
		injector_send(i, level, payload, crypto_frame(payload, sizeof(payload), off, data, n));
		off += n;
		data += n;
		len -= n;
	}
}

void injector_start_server(struct injector *i, const uint8_t *hello, size_t len)
{
	uint8_t buf[INJECT_MAX], payload[CRYPTO_PIECE + 16];
	struct inject how = { .level = LEVEL_INITIAL };
	size_t n = len < CRYPTO_PIECE ? len : CRYPTO_PIECE;
	size_t total = injector_seal(i, &how, payload, crypto_frame(payload, sizeof(payload), 0, hello, n), buf);
	new_server(i, buf, total, NULL, NULL);
	injector_deliver(i, buf, total);
	injector_send_crypto(i, LEVEL_INITIAL, n, hello + n, len - n);
}

size_t injector_make_server(struct injector *i, const struct cid *odcid, const struct cid *retry_scid, uint8_t *first)
{
	struct train t = { .buf = first, .cap = INJECT_MAX, .max_segs = 1 };
	assert_int_equal(conn_poll_transmit(i->p->client, &t, i->p->now_us), 1);
	new_server(i, first, t.len, odcid, retry_scid);
	return t.len;
}

void injector_server_params(struct injector *i, const uint8_t *params, size_t len)
{
	struct conn *c = i->p->server;
	const struct tls_out *out = c->tls->out;
	tls_free(c->tls);
	c->tls = tls_new(c->cfg->tls, out, c, NULL);
	assert_non_null(c->tls);
	assert_int_equal(tls_set_params(c->tls, params, len), 0);
	assert_int_equal(tls_start(c->tls), 0);
}

void injector_feed_server(struct injector *i, uint8_t *first, size_t len)
{
	struct connpair *p = i->p;
	struct train t = { .buf = first, .cap = INJECT_MAX, .max_segs = 1, .len = len };
	do {
		struct datagram d = { .data = first, .len = t.len, .local = p->saddr, .remote = p->caddr };
		conn_recv(p->server, &d, 1, p->now_us);
	} while (conn_poll_transmit(p->client, &t, p->now_us));
}
