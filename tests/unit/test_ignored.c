/* What looks like a violation and is none: dropped without a word, as if it had never come, or accepted. The transfer
 * afterwards is whole. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "crypto/retry.h"
#include "support/unhex.h"
#include "support/verdict.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BOTH(hex) hex, hex
#define I LEVEL_INITIAL
#define H LEVEL_HANDSHAKE
#define A LEVEL_APP

static const uint8_t ping[] = { 0x01 };

/* Sent before anything else; the transfer afterwards must be whole. */
struct ignored {
	const char *rfc, *what;
	enum level level;
	const char *to_server, *to_client;
	struct inject how;	/* level is taken from above */
	enum { OTHER_SCID = 1, ANSWERED = 2 } flags;	/* ANSWERED: to the mate, who does not know what was asked */
};

static void finish_and_transfer(struct scene *s)
{
	connpair_run(&s->p, s->p.now_us + 1000000);
	scene_transfer(s, 30000);
}

static void ignored__packets_and_frames(void **state)
{
	static const uint8_t token[] = { 1, 2, 3 };
	static const struct ignored rows[] = {
		/* each would be a violation if it were read */
		{ "RFC9000 14.1-4", "Initial in a small datagram", I, "1e", NULL, { .pad = 1199, .small = true }, 0 },
		{ "RFC9000 14.1-4", "Initial in a tiny datagram", I, "1e", NULL, { .pad = 1, .small = true }, 0 },
		{ "RFC9000 17.2.2-3.1", "server's Initial with a token", I, NULL, "1e",
		  { .token = token, .token_len = sizeof(token) }, 0 },
		{ "RFC9001 5.2-6", "bad tag", I, BOTH("1e"), { .corrupt = true }, 0 },
		{ "RFC9001 5.2-6", "bad tag", H, BOTH("1e"), { .corrupt = true }, 0 },
		{ "RFC9001 5.2-6", "bad tag", A, BOTH("40"), { .corrupt = true }, 0 },
		{ "RFC9000 12.4-2", "bad tag and reserved bits", A, BOTH("40"),
		  { .corrupt = true, .reserved = 0x18 }, 0 },
		{ "RFC9000 12.3-5", "number seen before", A, BOTH("40"), { .pn_given = true, .pn = 0 }, 0 },
		{ "RFC9000 7.2-5", "another source CID", I, "1e", NULL, { 0 }, OTHER_SCID },
		{ "RFC9000 7.2-5", "another source CID", H, BOTH("1e"), { 0 }, OTHER_SCID },
		{ "RFC9001 6.3-1", "other phase, same key", A, BOTH("40"), { .flip_phase = true }, 0 },
		/* read, and no reason to complain */
		{ "RFC9000 19.9-1", "MAX_DATA below", A, BOTH("10 00"), { 0 }, 0 },
		{ "RFC9000 19.11-5", "MAX_STREAMS below", A, BOTH("12 00 13 00"), { 0 }, 0 },
		{ "RFC9000 19.18-3", "PATH_RESPONSE nobody asked for", A, BOTH("1b 0102030405060708"), { 0 }, 0 },
		{ "RFC9000 19.12-1", "BLOCKED of any kind", A, BOTH("14 00 16 00 17 00"), { 0 }, 0 },
		{ "RFC9000 19.19-6.8", "MAX_STREAMS of 2^60", A, BOTH("12 d000000000000000"), { 0 }, 0 },
		{ "RFC9000 19.5-1", "STOP and MAX for a stream of theirs", A,
		  "05 00 05 11 00 05", "05 01 05 11 01 05", { 0 }, ANSWERED },
		{ "RFC9000 3.2-3", "a higher stream opens the lower", A, "0b 08 01 61", "0b 09 01 61", { 0 }, 0 },
		{ "RFC9000 4.5-5", "the same final size again", A, "0b 00 01 61 0b 00 01 61 04 00 00 01",
		  "0b 01 01 61 0b 01 01 61 04 01 00 01", { 0 }, 0 },
		{ "RFC9000 19.2-1", "PING, PADDING", I, BOTH("01 00 00 01"), { 0 }, 0 },
		{ "RFC9000 19.2-1", "PING, PADDING", H, BOTH("01 00 00 01"), { 0 }, 0 },
	};
	for (size_t k = 0; k < COUNT(rows); k++) {
		for (int side = 0; side < 2; side++) {
			const char *hex = side ? rows[k].to_server : rows[k].to_client;
			const struct cid other = { 8, { 9, 9, 9 } };
			struct inject how = rows[k].how;
			struct scene s;
			uint8_t b[64];
			if (!hex)
				continue;
			scene_init(&s, rows[k].level, side);
			how.level = rows[k].level;
			how.scid = rows[k].flags == OTHER_SCID ? &other : NULL;
			injector_send_how(&s.i, &how, b, unhex(hex, b, sizeof(b)));
			if (rows[k].flags != ANSWERED)
				connpair_run(&s.p, s.p.now_us + 1000000);
			expect_open(&s, rows[k].rfc, rows[k].what);
			if (!verdicts_wrong() && rows[k].flags != ANSWERED)
				scene_transfer(&s, 30000);
			scene_fini(&s);
		}
	}
}

static void ignored__coalesced_for_another(void **state)
{
	/* RFC9000 12.2-6: the second packet opens, and would be a violation */
	for (int side = 0; side < 2; side++) {
		struct scene s;
		uint8_t b[2 * INJECT_MAX], done[] = { 0x1e };
		const struct cid other = { 8, { 9, 9, 9 } };
		struct inject first = { .level = H }, second = { .level = H, .dcid = &other };
		scene_init(&s, H, side);
		size_t n = injector_seal(&s.i, &first, ping, 1, b);
		n += injector_seal(&s.i, &second, done, 1, b + n);
		injector_deliver(&s.i, b, n);
		expect_open(&s, "RFC9000 12.2-6", "coalesced, other DCID");
		finish_and_transfer(&s);
		scene_fini(&s);
	}
}

static void ignored__new_connection_id_repeated(void **state)
{
	/* RFC9000 19.15-6 */
	for (int side = 0; side < 2; side++) {
		struct scene s;
		scene_init(&s, A, side);
		const struct remote_cid c = s.victim->rcids.v[2];
		unsigned n = s.victim->rcids.n;
		for (int k = 0; k < 3; k++)
			scene_send_new_cid(&s, c.seq, &c.cid, c.token);
		expect_open(&s, "RFC9000 19.15-6", "repeated NEW_CONNECTION_ID");
		assert_int_equal(s.victim->rcids.n, n);
		finish_and_transfer(&s);
		scene_fini(&s);
	}
}

static void ignored__retire_connection_id_repeated(void **state)
{
	/* RFC9000 13.3-3.13 */
	static const uint8_t retire[] = { 0x19, 0x00, 0x19, 0x00 };
	for (int side = 0; side < 2; side++) {
		struct scene s;
		scene_init(&s, A, side);
		assert_true(remote_cids_rotate(&s.mate->rcids));
		connpair_run(&s.p, s.p.now_us + 100000);
		assert_int_equal(s.victim->lcids.v[0].seq, 1);
		injector_send(&s.i, A, retire, sizeof(retire));
		expect_open(&s, "RFC9000 13.3-3.13", "repeated RETIRE_CONNECTION_ID");
		finish_and_transfer(&s);
		scene_fini(&s);
	}
}

static void accepted__path_challenge(void **state)
{
	/* RFC9000 8.2.2-1 the same data on the path in use, once */
	static const uint8_t frame[] = { 0x1a, 1, 2, 3, 4, 5, 6, 7, 8 };
	for (int side = 0; side < 2; side++) {
		struct scene s;
		scene_init(&s, A, side);
		injector_send(&s.i, A, frame, sizeof(frame));
		assert_int_equal(s.i.frames[FRAME_PATH_RESPONSE], 1);
		assert_memory_equal(s.i.last_path_response, frame + 1, 8);
		finish_and_transfer(&s);
		assert_int_equal(s.i.frames[FRAME_PATH_RESPONSE], 1);
		scene_fini(&s);
	}
}

/* RFC9000 7.5-1, 19.6-1: a ClientHello in many pieces, its end first, over several datagrams */
static void accepted__hello_in_pieces(void **state)
{
	struct scene s;
	uint8_t hello[HELLO_MAX], first[INJECT_MAX], b[1200];
	struct inject how = { .level = I, .pad = 1 };
	scene_init_client_only(&s, true);
	size_t hi = injector_client_hello(s.p.client, hello, sizeof(hello));
	(void)injector_make_server(&s.i, NULL, NULL, first);
	while (hi) {
		struct wr w = wr_of(b, sizeof(b));
		for (int k = 0; k < 40 && hi; k++) {
			size_t n = hi < 7 ? hi : 7;
			hi -= n;
			assert_int_equal(frame_write_crypto_header(&w, hi, n), n);
			wr_bytes(&w, hello + hi, n);
			frame_write_padding(&w, 1);
		}
		injector_send_how(&s.i, &how, b, wr_len(&w));
	}
	s.victim = s.p.server;
	expect_open(&s, "RFC9000 7.5-1", "ClientHello in pieces");
	finish_and_transfer(&s);
	scene_fini(&s);
}

static size_t make_retry(struct scene *s, uint8_t *out, const struct cid *scid, const char *token, bool bad_tag)
{
	struct conn *c = s->p.client;
	struct wr w = wr_of(out, INJECT_MAX);
	assert_true(packet_write_retry(&w, QUIC_V1, &c->lcids.v[0].cid, scid, (const uint8_t *)token,
				       strlen(token), 0));
	size_t len = wr_len(&w);
	assert_int_equal(retry_tag(QUIC_V1, &c->odcid, out, len, out + len), 0);
	out[len + 3] ^= bad_tag;
	return len + AEAD_TAG_LEN;
}

static void ignored__retry(void **state)
{
	/* RFC9000 17.2.5.2-1, -2 */
	static const struct cid one = { 8, { 1, 1 } }, two = { 8, { 2, 2 } };
	struct scene s;
	uint8_t b[INJECT_MAX], first[INJECT_MAX];
	scene_init_client_only(&s, false);
	struct cid odcid = s.p.client->odcid;

	injector_deliver(&s.i, b, make_retry(&s, b, &one, "token", true));	/* bad tag */
	injector_deliver(&s.i, b, make_retry(&s, b, &one, "", false));		/* no token */
	injector_deliver(&s.i, b, make_retry(&s, b, &odcid, "token", false));	/* names the DCID it answers */
	assert_false(s.p.client->has_retry);
	size_t n = make_retry(&s, b, &one, "token", false);
	struct datagram d = { .data = b, .len = n, .local = s.p.caddr, .remote = s.p.saddr };
	conn_recv(s.p.client, &d, 1, s.p.now_us);
	assert_true(s.p.client->has_retry);
	n = make_retry(&s, b, &two, "other", false);
	d.len = n;
	conn_recv(s.p.client, &d, 1, s.p.now_us);
	assert_true(cid_equal(&s.p.client->retry_scid, &one));
	assert_int_equal(s.p.client->token_len, 5);

	n = injector_make_server(&s.i, &odcid, &one, first);
	injector_feed_server(&s.i, first, n);
	finish_and_transfer(&s);
	scene_fini(&s);
}

static void ignored__retry_late(void **state)
{
	/* RFC9000 17.2.5.2-1: after a packet was processed; and to a server */
	static const struct cid one = { 8, { 1, 1 } };
	struct scene s;
	uint8_t b[INJECT_MAX];
	scene_init(&s, H, false);
	injector_deliver(&s.i, b, make_retry(&s, b, &one, "token", false));
	assert_false(s.victim->has_retry);
	finish_and_transfer(&s);
	scene_fini(&s);
	scene_init(&s, I, true);
	injector_deliver(&s.i, b, make_retry(&s, b, &one, "token", false));
	finish_and_transfer(&s);
	scene_fini(&s);
}

static size_t make_vn(struct scene *s, uint8_t *out, uint32_t version)
{
	struct conn *c = s->p.client;
	struct wr w = wr_of(out, INJECT_MAX);
	wr_uint(&w, 0xc0, 1);
	wr_uint(&w, 0, 4);
	wr_uint(&w, c->lcids.v[0].cid.len, 1);
	wr_bytes(&w, c->lcids.v[0].cid.b, c->lcids.v[0].cid.len);
	wr_uint(&w, c->keys_dcid.len, 1);
	wr_bytes(&w, c->keys_dcid.b, c->keys_dcid.len);
	wr_uint(&w, version, 4);
	wr_uint(&w, 0x1a2a3a4a, 4);
	return wr_len(&w);
}

static void ignored__version_negotiation(void **state)
{
	/* RFC9000 6.2-2 */
	struct scene s;
	uint8_t b[INJECT_MAX];
	scene_init_client_only(&s, false);
	size_t n = make_vn(&s, b, QUIC_V1);	/* lists ours */
	struct datagram d = { .data = b, .len = n, .local = s.p.caddr, .remote = s.p.saddr };
	conn_recv(s.p.client, &d, 1, s.p.now_us);
	assert_int_equal(conn_error(s.p.client)->kind, CONN_ERR_NONE);
	connpair_run(&s.p, s.p.now_us + 2 * s.p.delay_us);
	injector_deliver(&s.i, b, make_vn(&s, b, 0x5a5a5a5a));	/* late */
	assert_int_equal(conn_error(s.p.client)->kind, CONN_ERR_NONE);
	finish_and_transfer(&s);
	scene_fini(&s);
}

#define T(f) cmocka_unit_test_setup_teardown(f, verdict_setup, verdict_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(ignored__packets_and_frames),
		T(ignored__coalesced_for_another),
		T(ignored__new_connection_id_repeated),
		T(ignored__retire_connection_id_repeated),
		T(accepted__path_challenge),
		T(accepted__hello_in_pieces),
		T(ignored__retry),
		T(ignored__retry_late),
		T(ignored__version_negotiation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
