/* Packets and frames that a peer may not send, and the exact code it is told for each: one row per input, sent by a
 * frame-injecting peer to a client and to a server. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "support/unhex.h"
#include "support/verdict.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* One refused input. Frames are hex, blanks skipped; NULL: not sent in this direction. */
struct row {
	const char *rfc, *what;
	enum level level;
	const char *to_server, *to_client;
	int qe;
	uint64_t type;		/* of the frame to blame */
};

static void send_hex(struct scene *s, enum level level, const char *hex, uint8_t reserved)
{
	uint8_t b[1100];
	/* An Initial without PADDING: the datagram is filled up otherwise, so that a row may be an empty packet. */
	struct inject how = { .level = level, .reserved = reserved, .pad = 1 };
	injector_send_how(&s->i, &how, b, unhex(hex, b, sizeof(b)));
}

static void run_row(const struct row *r, bool to_server)
{
	const char *hex = to_server ? r->to_server : r->to_client;
	struct scene s;
	if (!hex)
		return;
	scene_init(&s, r->level, to_server);
	send_hex(&s, r->level, hex, 0);
	expect_closed(&s, r->rfc, r->what, r->qe, r->type);
	scene_fini(&s);
}

static void run_rows(const struct row *rows, size_t n)
{
	for (size_t k = 0; k < n; k++) {
		run_row(&rows[k], true);
		run_row(&rows[k], false);
	}
}

#define BOTH(hex) hex, hex
#define I LEVEL_INITIAL
#define H LEVEL_HANDSHAKE
#define A LEVEL_APP
/* The codes, as short as in the table of the design. RFC 9000 20.1 */
#define PV QE_PROTOCOL_VIOLATION
#define FE QE_FRAME_ENCODING
#define SS QE_STREAM_STATE
#define FC QE_FLOW_CONTROL
#define FS QE_FINAL_SIZE
#define SL QE_STREAM_LIMIT
#define CIL QE_CONNECTION_ID_LIMIT
#define CBE QE_CRYPTO_BUFFER_EXCEEDED
#define KU QE_KEY_UPDATE

#define MAX62 "ffffffffffffffff"
#define TOKEN16 "00112233445566778899aabbccddeeff"
#define CID8 "0102030405060708"

static void violations__protocol_violation(void **state)
{
	static const struct row rows[] = {
		{ "RFC9000 12.4-2", "no frame", I, BOTH(""), PV, 0 },
		{ "RFC9000 12.4-2", "no frame", H, BOTH(""), PV, 0 },
		{ "RFC9000 12.4-2", "no frame", A, BOTH(""), PV, 0 },
		{ "RFC9000 12.4-18", "PING in two bytes", A, BOTH("4001"), PV, 0x01 },
		{ "RFC9000 12.4-18", "STREAM in eight bytes", A,
		  "c00000000000000a 00 01 61", "c00000000000000a 01 01 61", PV, 0x0a },
		{ "RFC9000 13.1-3", "ACK of unsent", I, BOTH("02 7fff 00 00 00"), PV, 0x02 },
		{ "RFC9000 13.1-3", "ACK of unsent", H, BOTH("02 7fff 00 00 00"), PV, 0x02 },
		{ "RFC9000 13.1-3", "ACK of unsent", A, BOTH("02 7fff 00 00 00"), PV, 0x02 },
		{ "RFC9000 13.1-3", "ACK_ECN of unsent", A, BOTH("03 7fff 00 00 00 00 00 00"), PV, 0x03 },
		{ "RFC9000 19.7-6", "NEW_TOKEN", A, "07 01 01", NULL, PV, 0x07 },
		{ "RFC9000 19.20-3", "HANDSHAKE_DONE", A, "1e", NULL, PV, 0x1e },
		{ "RFC9001 4.1.2-2", "premature HANDSHAKE_DONE", H, NULL, "1e", PV, 0x1e },
		{ "RFC9000 19.16-6", "RETIRE of an unissued CID", A, BOTH("19 3f"), PV, 0x19 },
		{ "RFC9000 19.16-7", "RETIRE of the CID in use", A, BOTH("19 00"), PV, 0x19 },
		{ "RFC9000 19.15-7", "sequence number for another CID", A, BOTH("18 01 00 08" CID8 TOKEN16),
		  PV, 0x18 },
	};
	run_rows(rows, COUNT(rows));
}

static void violations__reserved_bits(void **state)
{
	/* RFC9000 17.2-6.1, 17.3.1-3.4 */
	static const struct { enum level level; uint8_t bits; } rows[] = {
		{ I, 0x08 }, { I, 0x04 }, { H, 0x08 }, { H, 0x04 }, { A, 0x10 }, { A, 0x08 },
	};
	for (size_t k = 0; k < 2 * COUNT(rows); k++) {
		struct scene s;
		scene_init(&s, rows[k / 2].level, k % 2);
		send_hex(&s, rows[k / 2].level, "01", rows[k / 2].bits);
		expect_closed(&s, "RFC9000 17.2-6.1", "reserved bits", PV, 0);
		scene_fini(&s);
	}
}

static void violations__frame_matrix(void **state)
{
	/* RFC9000 12.4-12, 12.5-3, 17.2.2-5, 17.2.4-5: where each type may stand. The check comes before the fields. */
	static const enum level levels[] = { I, H };
	static const uint8_t bit[] = { FR_I, FR_H };
	for (size_t l = 0; l < 2; l++) {
		for (unsigned k = 0; k < FRAME_KIND_COUNT; k++) {
			const struct frame_info *f = &frame_table[k];
			char hex[80];
			if (f->where & bit[l])
				continue;
			for (unsigned type = f->lo; type <= f->hi; type += f->hi > f->lo ? f->hi - f->lo : 1) {
				snprintf(hex, sizeof(hex), "%02x" "00000000000000000000000000000000", type);
				struct row r = { "RFC9000 12.4-12", f->name, levels[l], BOTH(hex), PV, type };
				run_rows(&r, 1);
			}
		}
	}
}

static void violations__frame_encoding(void **state)
{
	static const struct row rows[] = {
		{ "RFC9000 12.4-16", "unknown type", I, BOTH("1f"), FE, 0x1f },
		{ "RFC9000 12.4-16", "unknown type", H, BOTH("21"), FE, 0x21 },
		{ "RFC9000 12.4-16", "unknown type", A, BOTH("3f"), FE, 0x3f },
		{ "RFC9000 12.4-16", "unknown long type", A, BOTH("4abc"), FE, 0xabc },
		{ "RFC9000 12.4-16", "truncated type", A, BOTH("01 40"), FE, 0 },
		{ "RFC9000 19.3.1-13", "negative first range", A, BOTH("02 00 00 00 01"), FE, 0x02 },
		{ "RFC9000 19.3.1-13", "negative first range", I, BOTH("02 00 00 00 01"), FE, 0x02 },
		{ "RFC9000 19.3.1-13", "negative gap", A, BOTH("02 02 00 01 00 01 00"), FE, 0x02 },
		{ "RFC9000 19.3.1-13", "negative later range", A, BOTH("02 03 00 01 00 01 01"), FE, 0x02 },
		{ "RFC9000 19.3-7", "ACK without its ranges", A, BOTH("02 03 00 05 00"), FE, 0x02 },
		{ "RFC9000 19.3.2-1", "ACK_ECN without counts", A, BOTH("03 00 00 00 00"), FE, 0x03 },
		{ "RFC9000 19.3.2-1", "ACK_ECN with two counts", H, BOTH("03 00 00 00 00 01 01"), FE, 0x03 },
		{ "RFC9000 19.11-4.1", "MAX_STREAMS 2^60+1", A, BOTH("12 d000000000000001"), FE, 0x12 },
		{ "RFC9000 19.11-4.1", "MAX_STREAMS 2^60+1", A, BOTH("13 d000000000000001"), FE, 0x13 },
		{ "RFC9000 19.14-5.1", "STREAMS_BLOCKED 2^60+1", A, BOTH("16 d000000000000001"), FE, 0x16 },
		{ "RFC9000 19.14-5.1", "STREAMS_BLOCKED 2^60+1", A, BOTH("17 d000000000000001"), FE, 0x17 },
		{ "RFC9000 19.15-4.3", "CID of 0 bytes", A, BOTH("18 09 00 00" TOKEN16), FE, 0x18 },
		{ "RFC9000 19.15-4.3", "CID of 21 bytes", A, BOTH("18 09 00 15" CID8 CID8 "0102030405" TOKEN16),
		  FE, 0x18 },
		{ "RFC9000 19.15-8", "Retire Prior To above the number", A, BOTH("18 09 0a 08" CID8 TOKEN16),
		  FE, 0x18 },
		{ "RFC9000 19.7-4.2", "empty NEW_TOKEN", A, NULL, "07 00", FE, 0x07 },
		{ "RFC9000 19.8-8", "STREAM past 2^62-1", A, "0e 00" MAX62 "01 61", "0e 01" MAX62 "01 61", FE,
		  0x0e },
		{ "RFC9000 19.8-8", "STREAM to the end past 2^62-1", A, "0c 00" MAX62 "61", "0c 01" MAX62 "61",
		  FE, 0x0c },
		{ "RFC9000 19.6-6", "CRYPTO past 2^62-1", I, BOTH("06" MAX62 "01 61"), FE, 0x06 },
		{ "RFC9000 19.6-6", "CRYPTO past 2^62-1", A, BOTH("06" MAX62 "01 61"), FE, 0x06 },
		/* RFC9000 20.1: truncated frames */
		{ "RFC9000 19.4", "short RESET_STREAM", A, BOTH("04 00 00"), FE, 0x04 },
		{ "RFC9000 19.5", "short STOP_SENDING", A, BOTH("05 00"), FE, 0x05 },
		{ "RFC9000 19.6", "short CRYPTO", A, BOTH("06 00 05 61"), FE, 0x06 },
		{ "RFC9000 19.7", "short NEW_TOKEN", A, NULL, "07 05 61", FE, 0x07 },
		{ "RFC9000 19.8", "short STREAM", A, "0a 00 05 61", "0a 01 05 61", FE, 0x0a },
		{ "RFC9000 19.9", "short MAX_DATA", A, BOTH("10"), FE, 0x10 },
		{ "RFC9000 19.10", "short MAX_STREAM_DATA", A, BOTH("11 00"), FE, 0x11 },
		{ "RFC9000 19.11", "short MAX_STREAMS", A, BOTH("12 40"), FE, 0x12 },
		{ "RFC9000 19.12", "short DATA_BLOCKED", A, BOTH("14"), FE, 0x14 },
		{ "RFC9000 19.13", "short STREAM_DATA_BLOCKED", A, BOTH("15 00"), FE, 0x15 },
		{ "RFC9000 19.14", "short STREAMS_BLOCKED", A, BOTH("16"), FE, 0x16 },
		{ "RFC9000 19.15", "short NEW_CONNECTION_ID", A, BOTH("18 09 00 08" CID8), FE, 0x18 },
		{ "RFC9000 19.16", "short RETIRE_CONNECTION_ID", A, BOTH("19"), FE, 0x19 },
		{ "RFC9000 19.17", "short PATH_CHALLENGE", A, BOTH("1a 01020304050607"), FE, 0x1a },
		{ "RFC9000 19.18", "short PATH_RESPONSE", A, BOTH("1b 01"), FE, 0x1b },
		{ "RFC9000 19.19", "short CONNECTION_CLOSE", A, BOTH("1c 00 00 05 61"), FE, 0x1c },
		{ "RFC9000 19.19", "short application close", A, BOTH("1d 00 01"), FE, 0x1d },
	};
	run_rows(rows, COUNT(rows));
}

static void violations__stream_state(void **state)
{
	/* stream 0: client's bidirectional, 1: server's, 2: client's unidirectional, 3: server's */
	static const struct row rows[] = {
		{ "RFC9000 19.8-3", "STREAM on a send-only stream", A, "0a 03 01 61", "0a 02 01 61", SS, 0x0a },
		{ "RFC9000 19.8-3", "STREAM on an uncreated one", A, "0a 01 01 61", "0a 00 01 61", SS, 0x0a },
		{ "RFC9000 19.4-3", "RESET on a send-only stream", A, "04 03 00 00", "04 02 00 00", SS, 0x04 },
		{ "RFC9000 19.4-3", "RESET on an uncreated one", A, "04 01 00 00", "04 00 00 00", SS, 0x04 },
		{ "RFC9000 19.5-2", "STOP on a receive-only stream", A, "05 02 00", "05 03 00", SS, 0x05 },
		{ "RFC9000 19.5-2", "STOP on an uncreated one", A, "05 01 00", "05 00 00", SS, 0x05 },
		{ "RFC9000 19.5-2", "STOP on an uncreated one", A, "05 03 00", "05 02 00", SS, 0x05 },
		{ "RFC9000 19.10-2", "MAX_STREAM_DATA, receive-only", A, "11 02 01", "11 03 01", SS, 0x11 },
		{ "RFC9000 19.10-2", "MAX_STREAM_DATA, uncreated", A, "11 01 01", "11 00 01", SS, 0x11 },
		{ "RFC9000 19.10-2", "MAX_STREAM_DATA, uncreated", A, "11 03 01", "11 02 01", SS, 0x11 },
		{ "RFC9000 19.13-2", "STREAM_DATA_BLOCKED, send-only", A, "15 03 01", "15 02 01", SS, 0x15 },
		{ "RFC9000 19.13-2", "STREAM_DATA_BLOCKED, uncreated", A, "15 01 01", "15 00 01", SS, 0x15 },
	};
	run_rows(rows, COUNT(rows));
}

static void violations__credit_and_final_size(void **state)
{
	/* 65536 bytes per stream, 131072 for all, 100 streams */
	static const struct row rows[] = {
		{ "RFC9000 19.10-7", "over the stream's credit", A, "0e 00 80010000 01 61", "0e 01 80010000 01 61",
		  FC, 0x0e },
		{ "RFC9000 19.10-7", "far over it", A, "0e 00" MAX62 "00", "0e 01" MAX62 "00", FC, 0x0e },
		{ "RFC9000 19.9-5", "over the connection's credit", A,
		  "0e 00 8000ffff 01 61  0e 04 8000ffff 01 61  0e 08 00 01 61",
		  "0e 01 8000ffff 01 61  0e 05 8000ffff 01 61  0e 09 00 01 61", FC, 0x0e },
		{ "RFC9000 4.5-6", "final size over the stream's credit", A, "04 00 00 80010001", "04 01 00 80010001",
		  FC, 0x04 },
		{ "RFC9000 4.5-6", "final sizes over the connection's", A,
		  "04 00 00 80010000  04 04 00 80010000  04 08 00 01",
		  "04 01 00 80010000  04 05 00 80010000  04 09 00 01",
		  FC, 0x04 },
		{ "RFC9000 4.5-5", "data behind the FIN", A, "0f 00 00 02 6161  0e 00 02 01 61",
		  "0f 01 00 02 6161  0e 01 02 01 61", FS, 0x0e },
		{ "RFC9000 4.5-5", "another FIN, later", A, "0f 00 00 02 6161  0f 00 00 03 616161",
		  "0f 01 00 02 6161  0f 01 00 03 616161", FS, 0x0f },
		{ "RFC9000 4.5-5", "another FIN, earlier", A, "0f 00 00 02 6161  0f 00 00 01 61",
		  "0f 01 00 02 6161  0f 01 00 01 61", FS, 0x0f },
		{ "RFC9000 4.5-5", "FIN below what came", A, "0e 00 05 01 61  0f 00 00 02 6161",
		  "0e 01 05 01 61  0f 01 00 02 6161", FS, 0x0f },
		{ "RFC9000 4.5-5", "RESET with another size than FIN", A, "0f 00 00 02 6161  04 00 00 03",
		  "0f 01 00 02 6161  04 01 00 03", FS, 0x04 },
		{ "RFC9000 4.5-5", "RESET below what came", A, "0e 00 00 03 616161  04 00 00 02",
		  "0e 01 00 03 616161  04 01 00 02", FS, 0x04 },
		{ "RFC9000 4.5-5", "RESET twice, two sizes", A, "04 00 00 02  04 00 00 03", "04 01 00 02  04 01 00 03",
		  FS, 0x04 },
		{ "RFC9000 4.5-5", "data behind a RESET", A,
		  "04 00 00 02  0e 00 02 01 61", "04 01 00 02  0e 01 02 01 61", FS, 0x0e },
		{ "RFC9000 4.5-5", "FIN with another size than RESET", A, "04 00 00 02  0f 00 00 01 61",
		  "04 01 00 02  0f 01 00 01 61", FS, 0x0f },
		{ "RFC9000 19.11-6", "STREAM over the limit", A, "0a 4190 01 61", "0a 4191 01 61", SL, 0x0a },
		{ "RFC9000 19.11-6", "STREAM, unidirectional", A, "0a 4192 01 61", "0a 4193 01 61", SL, 0x0a },
		{ "RFC9000 19.11-6", "the last stream there is", A,
		  "0a fffffffffffffffc 01 61", "0a fffffffffffffffd 01 61", SL, 0x0a },
		{ "RFC9000 4.6-3", "RESET_STREAM over the limit", A, "04 4190 00 00", "04 4191 00 00", SL, 0x04 },
		{ "RFC9000 4.6-3", "RESET_STREAM, unidirectional", A, "04 4192 00 00", "04 4193 00 00", SL, 0x04 },
		{ "RFC9000 4.6-3", "STOP_SENDING over the limit", A, "05 4190 00", "05 4191 00", SL, 0x05 },
		{ "RFC9000 4.6-3", "MAX_STREAM_DATA over the limit", A, "11 4190 01", "11 4191 01", SL, 0x11 },
		{ "RFC9000 4.6-3", "STREAM_DATA_BLOCKED over it", A, "15 4190 00", "15 4191 00", SL, 0x15 },
		{ "RFC9000 4.6-3", "STREAM_DATA_BLOCKED, uni", A, "15 4192 00", "15 4193 00", SL, 0x15 },
		/* the peer has all eight of our limit already */
		{ "RFC9000 5.1.1-5", "a CID too many", A, BOTH("18 08 00 08" CID8 TOKEN16), CIL, 0x18 },
		{ "RFC9000 7.5-2", "CRYPTO too far ahead", I, BOTH("06 80020000 01 61"), CBE, 0x06 },
		{ "RFC9000 7.5-2", "CRYPTO too far ahead", H, BOTH("06 80020000 01 61"), CBE, 0x06 },
		{ "RFC9000 7.5-2", "CRYPTO too far ahead", A, BOTH("06 80020000 01 61"), CBE, 0x06 },
	};
	run_rows(rows, COUNT(rows));
}

/* ---- connection IDs whose values must be known -------------------------------------- */

static void violations__cid_reused(void **state)
{
	/* RFC9000 19.15-7 */
	static const char *const what[] = { "another sequence number", "another token" };
	for (int side = 0; side < 2; side++) {
		for (int k = 0; k < 2; k++) {
			struct scene s;
			scene_init(&s, A, side);
			const struct remote_cid *c = &s.victim->rcids.v[1];
			uint8_t token[RESET_TOKEN_LEN];
			memcpy(token, c->token, sizeof(token));
			token[0] ^= k == 1;
			struct cid cid = c->cid;
			scene_send_new_cid(&s, k == 0 ? 8 : c->seq, &cid, token);
			expect_closed(&s, "RFC9000 19.15-7", what[k], PV, 0x18);
			scene_fini(&s);
		}
	}
}

static void violations__cids_of_zero_length(void **state)
{
	for (int side = 0; side < 2; side++) {
		struct scene s;
		uint8_t retire[] = { 0x19, 0x01 }, token[RESET_TOKEN_LEN] = { 1 };
		struct cid cid = { 8, { 1, 2, 3 } }, empty = { 0 };

		/* RFC9000 19.15-5 the peer's is empty */
		scene_init(&s, A, side);
		s.victim->rcids.v[0].cid = empty;
		s.i.short_cid_len = 0;
		scene_send_new_cid(&s, 8, &cid, token);
		expect_closed(&s, "RFC9000 19.15-5", "NEW_CONNECTION_ID", PV, 0x18);
		scene_fini(&s);

		/* RFC9000 19.16-8 ours is */
		scene_init(&s, A, side);
		struct inject how = { .level = A, .dcid = &cid };
		s.victim->lcids.v[0].cid = empty;
		injector_send_how(&s.i, &how, retire, sizeof(retire));
		expect_closed(&s, "RFC9000 19.16-8", "RETIRE_CONNECTION_ID", PV, 0x19);
		scene_fini(&s);
	}
}

/* ---- keys ---------------------------------------------------------------------------------- */

static const uint8_t ping[] = { 0x01 };

static void violations__key_update__old_key_higher_number(void **state)
{
	/* RFC9001 6.4-2 */
	for (int side = 0; side < 2; side++) {
		struct scene s;
		struct inject newer = { .level = A, .generation = 1 }, older = { .level = A };
		scene_init(&s, A, side);
		injector_send_how(&s.i, &newer, ping, 1);
		expect_open(&s, "RFC9001 6.2-2", "first update");
		injector_send_how(&s.i, &older, ping, 1);
		expect_closed(&s, "RFC9001 6.4-2", "old key, higher number", KU, ANY_TYPE);
		scene_fini(&s);
	}
}

static void violations__key_update__acknowledged_with_the_old_key(void **state)
{
	/* RFC9001 6.2-3 */
	for (int side = 0; side < 2; side++) {
		struct scene s;
		uint8_t b[16];
		struct wr w = wr_of(b, sizeof(b));
		scene_init(&s, A, side);
		assert_int_equal(conn_key_update(s.victim, s.p.now_us), 0);
		connpair_run(&s.p, s.p.now_us);
		wr_uint(&w, 0x02, 1);
		wr_varint(&w, s.i.largest_pn[SPACE_APP]);
		wr_uint(&w, 0, 3);
		injector_send(&s.i, A, b, wr_len(&w));
		expect_closed(&s, "RFC9001 6.2-3", "ACK with the old key", KU, 0x02);
		scene_fini(&s);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, verdict_setup, verdict_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(violations__protocol_violation),
		T(violations__reserved_bits),
		T(violations__frame_matrix),
		T(violations__frame_encoding),
		T(violations__stream_state),
		T(violations__credit_and_final_size),
		T(violations__cid_reused),
		T(violations__cids_of_zero_length),
		T(violations__key_update__old_key_higher_number),
		T(violations__key_update__acknowledged_with_the_old_key),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
