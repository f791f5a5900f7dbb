/* What a hostile peer may make us hold or do: each attack of a frame-injecting peer against the named cap, with memory
 * and answers counted. Strangers are in test_strangers.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "base/mem.h"
#include "support/leak.h"
#include "support/verdict.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static bool is_open(const struct scene *s) { return conn_error(s->victim)->kind == CONN_ERR_NONE; }

/* Bytes of blocks that a reassembly buffer holds. */
static size_t held(const struct recvbuf *rb)
{
	size_t sum = 0;
	for (const struct block *b = rb->head; b; b = b->next)
		sum += sizeof(*b) + b->cap;
	return sum;
}

static size_t held_by_streams(const struct conn *c)
{
	struct stream *st;
	size_t sum = 0;
	RB_FOREACH(st, stream_tree, (struct stream_tree *)&c->streams.tree)
		sum += held(&st->rb) + sizeof(*st) + st->rb.got.cap * sizeof(struct range);
	return sum;
}

static struct inject at(enum level level)
{
	return (struct inject){ .level = level, .pad = 1 };
}

/* ---- CRYPTO ------------------------------------------------------------------------ */

static void feed_crypto(struct scene *s, enum level level, uint64_t off, size_t len)
{
	uint8_t b[1200];
	struct inject how = at(level);
	struct wr w = wr_of(b, sizeof(b));
	assert_int_equal(frame_write_crypto_header(&w, off, len), len);
	memset(wr_claim(&w, len), 1, len);
	injector_feed(&s->i, &how, b, wr_len(&w));
}

/* RFC9000 7.5-1: at least 4096 bytes out of order, backwards */
static void crypto_4096(struct scene *s, enum level level)
{
	uint64_t base = s->victim->crypto[level].rx.read_off + 1;
	for (int k = 31; k >= 0; k--)
		feed_crypto(s, level, base + (uint64_t)k * 128, 128);
	assert_open(s);
	assert_int_equal(s->victim->crypto[level].rx.highest, base + 4096);
}

/* Every second byte: the number of fragments ends it, before memory does. */
static void crypto_gaps(struct scene *s, enum level level)
{
	const struct recvbuf *rb = &s->victim->crypto[level].rx;
	uint64_t base = rb->read_off + 1;
	int64_t live = mem_test_live();
	unsigned n = 0;
	size_t most = 0;
	while (is_open(s) && n < 40000) {
		feed_crypto(s, level, base + 2 * n++, 1);
		most = held(rb) > most ? held(rb) : most;
	}
	assert_closed(s, QE_CRYPTO_BUFFER_EXCEEDED);
	assert_in_range(n, 1024, 1026);
	assert_true(most <= hs_crypto_max(s->victim, level));
	assert_true(mem_test_live() - live < 10);
}

static void crypto_flood(struct scene *s, enum level level)
{
	const struct recvbuf *rb = &s->victim->crypto[level].rx;
	uint64_t base = rb->read_off + 1;
	size_t most = 0;
	for (uint64_t k = 0; is_open(s) && k < 200; k++) {
		feed_crypto(s, level, base + k * 1000, 1000);
		most = held(rb) > most ? held(rb) : most;
	}
	assert_closed(s, QE_CRYPTO_BUFFER_EXCEEDED);
	assert_true(most <= hs_crypto_max(s->victim, level) + 2 * (BLOCK_LARGE + sizeof(struct block)));
}

/* A server that waits for the rest of a ClientHello. */
static void scene_half_hello(struct scene *s)
{
	uint8_t hello[HELLO_MAX];
	memset(s, 0, sizeof(*s));
	connpair_init(&s->p, 1);
	injector_init(&s->i, &s->p, true);
	connpair_start(&s->p);
	injector_start_server(&s->i, hello, injector_client_hello(s->p.client, hello, sizeof(hello)) / 2);
	s->victim = s->p.server;
	s->mate = s->p.client;
}

static void bounds__crypto(void **state)
{
	static void (*const runs[])(struct scene *, enum level) = { crypto_4096, crypto_gaps, crypto_flood };
	static const enum level levels[] = { LEVEL_INITIAL, LEVEL_HANDSHAKE, LEVEL_APP };
	for (size_t l = 0; l < COUNT(levels); l++) {
		for (size_t k = 0; k < 2 * COUNT(runs); k++) {
			struct scene s;
			if (levels[l] == LEVEL_HANDSHAKE && !(k % 2))
				continue;	/* it came whole: what follows has no business there */
			if (levels[l] == LEVEL_INITIAL && k % 2)
				scene_half_hello(&s);
			else
				scene_init(&s, levels[l], k % 2);
			runs[k / 2](&s, levels[l]);
			scene_fini(&s);
		}
	}
}

/* ---- streams ------------------------------------------------------------------------- */

static size_t put_stream(struct wr *w, uint64_t id, uint64_t off, size_t len, bool fin)
{
	bool f;
	size_t before = wr_len(w);
	ptrdiff_t n = frame_write_stream_header(w, id, off, len, fin, &f);
	assert_int_equal(n, len);
	if (len)
		memset(wr_claim(w, len), 'x', len);
	return wr_len(w) - before;
}

static void feed_stream(struct scene *s, uint64_t id, uint64_t off, size_t len, bool fin)
{
	uint8_t b[1300];
	struct inject how = at(LEVEL_APP);
	struct wr w = wr_of(b, sizeof(b));
	put_stream(&w, id, off, len, fin);
	injector_feed(&s->i, &how, b, wr_len(&w));
}

/* The peer's first stream. */
static uint64_t bidi(const struct scene *s) { return s->i.to_server ? 0 : 1; }
static uint64_t uni(const struct scene *s) { return s->i.to_server ? 2 : 3; }

static void stream_gaps(struct scene *s)
{
	int64_t live = mem_test_live();
	unsigned n = 0;
	size_t most = 0;
	while (is_open(s) && n < 32000) {
		feed_stream(s, bidi(s), 1 + 2 * n++, 1, false);
		most = held_by_streams(s->victim) > most ? held_by_streams(s->victim) : most;
	}
	assert_false(is_open(s));
	assert_true(n <= RECVBUF_MAX_RANGES + 2);
	assert_true(most <= 65536);
	assert_true(mem_test_live() - live < 10);
}

static void bounds__stream_gaps(void **state) { each_side(LEVEL_APP, stream_gaps); }

/* The application reads nothing: all credit of the connection is used up, on as few streams as it takes, or with a
 * little on every stream. */
static void unread_few(struct scene *s)
{
	for (uint64_t k = 0; k < 2; k++)
		for (uint64_t off = 0; off < 65536; off += 1024)
			feed_stream(s, bidi(s) + 4 * k, off, 1024, false);
	connpair_run(&s->p, s->p.now_us);
	assert_open(s);
	assert_int_equal(s->i.frames[FRAME_MAX_DATA] + s->i.frames[FRAME_MAX_STREAM_DATA], 0);
	assert_true(held_by_streams(s->victim) <= 131072 + 6 * BLOCK_LARGE);
	feed_stream(s, bidi(s) + 8, 0, 1, false);
	assert_closed(s, QE_FLOW_CONTROL);
}

static void unread_many(struct scene *s)
{
	for (uint64_t k = 0; k < 200; k++)
		feed_stream(s, (k & 1 ? uni(s) : bidi(s)) + 4 * (k / 2), 600, 55, false);
	assert_open(s);
	assert_int_equal(s->victim->streams.count, 200);
	assert_true(held_by_streams(s->victim) <= 200 * 2048);
}

static void bounds__unread_data(void **state)
{
	each_side(LEVEL_APP, unread_few);
	each_side(LEVEL_APP, unread_many);
}

/* Open and reset as fast as possible: without the application letting go there is no credit for more; and when it
 * does let go, nothing of them stays. */
static void rapid_reset_held(struct scene *s)
{
	uint8_t b[64];
	struct inject how = at(LEVEL_APP);
	uint64_t k = 0;
	for (; is_open(s) && k < 1000; k++) {
		struct wr w = wr_of(b, sizeof(b));
		put_stream(&w, uni(s) + 4 * k, 0, 2, false);
		frame_write_reset_stream(&w, uni(s) + 4 * k, 7, 2);
		injector_send_how(&s->i, &how, b, wr_len(&w));
	}
	assert_int_equal(k, 101);
	assert_closed(s, QE_STREAM_LIMIT);
	assert_int_equal(s->i.frames[FRAME_MAX_STREAMS], 0);
}

static void rapid_reset_released(struct scene *s)
{
	uint8_t b[64];
	struct inject how = at(LEVEL_APP);
	int64_t live = 0;
	s->i.alone = true;
	for (uint64_t k = 0; k < 5000; k++) {
		struct wr w = wr_of(b, sizeof(b));
		put_stream(&w, uni(s) + 4 * k, 0, 2, false);
		frame_write_reset_stream(&w, uni(s) + 4 * k, 7, 2);
		s->p.nopened[s->i.to_server] = 0;
		injector_send_how(&s->i, &how, b, wr_len(&w));
		assert_int_equal(s->p.nopened[s->i.to_server], 1);
		conn_stream_release(s->victim, s->p.opened[s->i.to_server][0]);
		connpair_run(&s->p, s->p.now_us);
		injector_ack(&s->i, LEVEL_APP);
		assert_open(s);
		if (k == 500)
			live = mem_test_live();
	}
	assert_int_equal(s->victim->streams.count, 0);
	assert_true(mem_test_live() <= live + 2);
}

static void bounds__rapid_reset(void **state)
{
	each_side(LEVEL_APP, rapid_reset_held);
	each_side(LEVEL_APP, rapid_reset_released);
}

/* ---- ACKs ------------------------------------------------------------------------------ */

static const uint8_t ping[] = { 0x01 };

static void ack_ranges(struct scene *s)
{
	struct inject how = at(LEVEL_APP);
	uint64_t pn = s->mate->rec.space[SPACE_APP].next_pn + 1;
	int64_t live = mem_test_live();
	s->i.alone = true;
	how.pn_given = true;
	for (int k = 0; k < 5000; k++) {
		how.pn = pn + 2 * (uint64_t)k;
		injector_send_how(&s->i, &how, ping, 1);
		assert_true(s->victim->ackq[SPACE_APP].got.n <= ACKQ_MAX_RANGES);
	}
	assert_open(s);
	/* ACK-only packets are not retained: none of those that answered is */
	assert_true(s->i.frames[FRAME_ACK] >= 2500);
	assert_int_equal(s->victim->rec.pool.nused, 0);
	assert_true(s->victim->rec.pool.nfree <= SENT_POOL_MAX);
	assert_true(mem_test_live() - live < 20);
}

static void bounds__ack_ranges_and_ack_only(void **state) { each_side(LEVEL_APP, ack_ranges); }

/* RFC9000 21.4: numbers are skipped now and then, and an ACK of one is refused. */
static void optimistic_ack(struct scene *s)
{
	struct recovery_space *sp = &s->victim->rec.space[SPACE_APP];
	uint8_t b[32];
	for (int k = 0; k < 100000 && sp->skipped[0] == PN_NONE; k++) {
		conn_ping(s->victim);
		connpair_run(&s->p, s->p.now_us + 40000);
	}
	assert_true(sp->skipped[0] != PN_NONE);
	struct wr w = wr_of(b, sizeof(b));
	wr_uint(&w, 0x02, 1);
	wr_varint(&w, sp->next_pn - 1);
	wr_uint(&w, 0, 2);
	wr_varint(&w, sp->next_pn - 1);	/* all from 0 on */
	injector_send(&s->i, LEVEL_APP, b, wr_len(&w));
	assert_closed(s, QE_PROTOCOL_VIOLATION);
}

static void bounds__optimistic_ack(void **state) { each_side(LEVEL_APP, optimistic_ack); }

/* ---- paths and connection IDs -------------------------------------------------------------- */

static void path_challenges(struct scene *s)
{
	uint8_t b[1000];
	struct inject how = at(LEVEL_APP);
	int64_t live = mem_test_live();
	uint64_t packets = 0;
	s->i.alone = true;
	for (int k = 0; k < 50; k++) {
		struct wr w = wr_of(b, sizeof(b));
		for (uint64_t n = 0; n < 100; n++)
			frame_write_path_challenge(&w, (const uint8_t *)&n);
		injector_feed(&s->i, &how, b, wr_len(&w));
		packets++;
	}
	assert_true(s->victim->challenge.nowed <= CHALLENGE_QUEUE);
	connpair_run(&s->p, s->p.now_us);
	assert_open(s);
	assert_int_equal(s->i.frames[FRAME_PATH_RESPONSE], CHALLENGE_QUEUE);
	assert_true(s->i.bytes <= 2 * 1200);
	assert_true(mem_test_live() - live < 10);
}

static void bounds__path_challenge_flood(void **state) { each_side(LEVEL_APP, path_challenges); }

/* Each new ID retires all before it, and what is retired is never acknowledged. RFC9000 5.1.2-6 */
static void cid_ratchet(struct scene *s)
{
	uint8_t b[64], token[RESET_TOKEN_LEN] = { 1 };
	struct inject how = at(LEVEL_APP);
	int64_t live = mem_test_live();
	uint64_t k = 8;
	for (; is_open(s) && k < 1000; k++) {
		struct wr w = wr_of(b, sizeof(b));
		struct cid cid = { 8, { 0xee, (uint8_t)(k >> 8), (uint8_t)k } };
		token[1] = (uint8_t)k;
		frame_write_new_connection_id(&w, k, k, &cid, token);
		injector_feed(&s->i, &how, b, wr_len(&w));
	}
	assert_closed(s, QE_CONNECTION_ID_LIMIT);
	assert_true(k <= 8 + CIDS_RETIRE_MAX + 1);
	assert_int_equal(s->victim->rcids.nretire, CIDS_RETIRE_MAX);
	assert_int_equal(mem_test_live(), live);
}

static void bounds__new_connection_id_ratchet(void **state) { each_side(LEVEL_APP, cid_ratchet); }

/* Seven are retired and issued anew per round trip, as fast as the peer can ask: the bucket slows it down. */
static void retire_flood(struct scene *s)
{
	int64_t live = mem_test_live();
	unsigned rounds = 3000;		/* of 1 ms */
	s->i.alone = true;
	for (unsigned r = 0; r < rounds; r++) {
		uint8_t b[128] = { 0x01 };
		struct inject how = at(LEVEL_APP);
		struct wr w = wr_of(b, sizeof(b));
		frame_write_ping(&w);
		for (unsigned k = 1; k < s->victim->lcids.n; k++)
			if (s->victim->lcids.v[k].seq < s->victim->lcids.offered)
				frame_write_retire_connection_id(&w, s->victim->lcids.v[k].seq);
		injector_send_how(&s->i, &how, b, wr_len(&w));
		injector_ack(&s->i, LEVEL_APP);
		connpair_run(&s->p, s->p.now_us + 1000);
	}
	assert_open(s);
	/* a token may bring back all that went without one */
	uint64_t most = CONN_NOISE_BURST + CIDS_LOCAL_MAX * (CONN_NOISE_PER_S * rounds / 1000 + 1);
	assert_in_range(s->victim->lcids.next_seq, CONN_NOISE_BURST, most);
	assert_true(mem_test_live() - live < 20);
}

static void bounds__retire_connection_id_flood(void **state) { each_side(LEVEL_APP, retire_flood); }

/* ---- frames for nothing ------------------------------------------------------------------------ */

static void noise(struct scene *s, const uint8_t *frame, size_t len)
{
	uint8_t b[1100];
	struct inject how = at(LEVEL_APP);
	int64_t live = mem_test_live();
	size_t sent = 0, n = 0;
	while (n + len <= sizeof(b)) {
		memcpy(b + n, frame, len);
		n += len;
	}
	while (is_open(s) && sent < 100000) {
		injector_feed(&s->i, &how, b, n);
		sent += n / len;
	}
	assert_closed(s, QE_PROTOCOL_VIOLATION);
	assert_in_range(sent, CONN_NOISE_BURST, 2 * CONN_NOISE_BURST);
	assert_true(mem_test_live() - live < 20);
}

static void bounds__frames_for_nothing(void **state)
{
	/* RFC9000 21.9-4 */
	static const struct { uint8_t len, to_server[9], to_client[9]; } rows[] = {
		{ 1, { 0x01 }, { 0x01 } },			/* PING */
		{ 3, { 0x0a, 0, 0 }, { 0x0a, 1, 0 } },		/* empty STREAM */
		{ 4, { 0x0a, 0, 1, 'x' }, { 0x0a, 1, 1, 'x' } },	/* the same byte again */
		{ 3, { 0x06, 0, 0 }, { 0x06, 0, 0 } },		/* empty CRYPTO */
		{ 2, { 0x10, 0 }, { 0x10, 0 } },		/* MAX_DATA that raises nothing */
		{ 2, { 0x12, 0 }, { 0x12, 0 } },		/* MAX_STREAMS likewise */
		{ 2, { 0x14, 0 }, { 0x14, 0 } },		/* DATA_BLOCKED */
		{ 3, { 0x15, 0, 0 }, { 0x15, 1, 0 } },		/* STREAM_DATA_BLOCKED */
		{ 2, { 0x16, 0 }, { 0x16, 0 } },		/* STREAMS_BLOCKED */
		{ 9, { 0x1a }, { 0x1a } },			/* PATH_CHALLENGE */
		{ 9, { 0x1b }, { 0x1b } },			/* PATH_RESPONSE */
		{ 5, { 0x0a, 0, 2, 'x', 'x' }, { 0x0a, 1, 2, 'x', 'x' } },	/* the same bytes again */
		{ 5, { 0x0b, 0, 2, 'x', 'x' }, { 0x0b, 1, 2, 'x', 'x' } },	/* with FIN */
		{ 4, { 0x04, 0, 0, 0 }, { 0x04, 1, 0, 0 } },	/* the same RESET_STREAM */
		{ 3, { 0x05, 0, 0 }, { 0x05, 1, 0 } },		/* the same STOP_SENDING */
		{ 3, { 0x11, 0, 0 }, { 0x11, 1, 0 } },		/* MAX_STREAM_DATA that raises nothing */
		{ 5, { 0x02, 0, 0, 0, 0 }, { 0x02, 0, 0, 0, 0 } },	/* the same ACK */
	};
	for (size_t k = 0; k < 2 * COUNT(rows); k++) {
		struct scene s;
		scene_init(&s, LEVEL_APP, k % 2);
		noise(&s, k % 2 ? rows[k / 2].to_server : rows[k / 2].to_client, rows[k / 2].len);
		scene_fini(&s);
	}
}

/* An honest peer may send any number of packets with a few of them: a byte at a time, for a long time. */
static void byte_by_byte(struct scene *s)
{
	for (uint64_t k = 0; k < 60000; k++) {
		feed_stream(s, bidi(s), k, 1, false);
		if (k % 100 == 0 && s->p.nopened[s->i.to_server])
			scene_drain(s->victim, s->p.opened[s->i.to_server][0]);
		if (k % 100 == 0)
			connpair_run(&s->p, s->p.now_us);
	}
	assert_open(s);
}

/* As much data twice as new, in small pieces, for ever: an honest peer that repeats too early. */
static void data_and_repeats(struct scene *s)
{
	uint8_t b[1100];
	struct inject how = at(LEVEL_APP);
	uint64_t off = 0;
	for (unsigned packets = 0; packets < 4000; packets++) {
		struct wr w = wr_of(b, sizeof(b));
		for (unsigned k = 0; k < 40; k++)
			put_stream(&w, bidi(s), off + 16 * k, 16, false);
		injector_feed(&s->i, &how, b, wr_len(&w));
		if (packets % 2)
			off += 40 * 16;
		connpair_run(&s->p, s->p.now_us);
		scene_drain(s->victim, s->p.opened[s->i.to_server][0]);
		assert_open(s);
	}
}

static void bounds__data_and_repeats__allowed(void **state) { each_side(LEVEL_APP, data_and_repeats); }

static void bounds__byte_by_byte__allowed(void **state) { each_side(LEVEL_APP, byte_by_byte); }

/* ---- what waits for the application ------------------------------------------------------------------- */

static void bounds__new_token_flood(void **state)
{
	struct scene s;
	uint8_t b[1000] = { 0x07, 0x43, 0xe0 };	/* 992 bytes */
	struct inject how = at(LEVEL_APP);
	scene_init(&s, LEVEL_APP, false);
	int64_t live = mem_test_live();
	for (unsigned k = 0; k < 1000; k++) {
		b[5] = (uint8_t)k;
		injector_feed(&s.i, &how, b, 3 + 992);
	}
	assert_open(&s);
	assert_true(mem_test_live() - live <= 16);
	scene_transfer(&s, 10000);
	scene_fini(&s);
}

/* ---- keys --------------------------------------------------------------------------------------------- */

/* Updates without an answer, and without waiting for one: followed once, the rest does not open. */
static void key_updates(struct scene *s)
{
	int64_t live = mem_test_live();
	s->i.alone = true;
	for (unsigned g = 1; g < 4; g++) {
		struct inject how = { .level = LEVEL_APP, .generation = g };
		injector_feed(&s->i, &how, ping, 1);
	}
	assert_int_equal(s->victim->keys.updates, 1);
	connpair_run(&s->p, s->p.now_us);
	assert_open(s);
	assert_true(mem_test_live() - live < 10);
}

static void bounds__key_update_flood(void **state) { each_side(LEVEL_APP, key_updates); }

/* RFC9001 6.6-4, 6.6-6 */
static void aead_limits(struct scene *s)
{
	struct inject how = { .level = LEVEL_APP, .corrupt = true };
	s->victim->keys.forged = suite_integrity_limit(s->victim->keys.rx[LEVEL_APP].suite);
	injector_send_how(&s->i, &how, ping, 1);
	assert_closed(s, QE_AEAD_LIMIT);
	assert_true(s->i.closes && s->i.close_code == qe_wire(QE_AEAD_LIMIT));
}

static void aead_limit_of_ours(struct scene *s)
{
	struct keyring *kr = &s->victim->keys;
	uint64_t limit = suite_confidentiality_limit(kr->tx[LEVEL_APP].suite);
	if (limit == UINT64_MAX)
		return;
	kr->confirmed = false;	/* no update may save it */
	kr->sealed[LEVEL_APP] = limit;
	injector_send(&s->i, LEVEL_APP, (const uint8_t[]){ 0x01, 0x01 }, 2);
	connpair_run(&s->p, s->p.now_us + 50000);
	assert_closed(s, QE_AEAD_LIMIT);
	assert_int_equal(s->i.packets[LEVEL_APP], 0);
}

static void bounds__aead_limits(void **state)
{
	each_side(LEVEL_APP, aead_limits);
	each_side(LEVEL_APP, aead_limit_of_ours);
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(bounds__crypto),
		T(bounds__stream_gaps),
		T(bounds__unread_data),
		T(bounds__rapid_reset),
		T(bounds__ack_ranges_and_ack_only),
		T(bounds__optimistic_ack),
		T(bounds__path_challenge_flood),
		T(bounds__new_connection_id_ratchet),
		T(bounds__retire_connection_id_flood),
		T(bounds__frames_for_nothing),
		T(bounds__byte_by_byte__allowed),
		T(bounds__data_and_repeats__allowed),
		T(bounds__new_token_flood),
		T(bounds__key_update_flood),
		T(bounds__aead_limits),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
