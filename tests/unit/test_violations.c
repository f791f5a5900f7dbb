/* What a peer may not do, and the exact code it is told for it: one row per input, sent
 * by a frame-injecting peer to a client and to a server. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "crypto/retry.h"
#include "support/injscene.h"
#include "support/unhex.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define ANY_TYPE UINT64_MAX

/* One refused input. Frames are hex, blanks skipped; NULL: not sent in this direction. */
struct row {
	const char *rfc, *what;
	enum level level;
	const char *to_server, *to_client;
	int qe;
	uint64_t type;		/* of the frame to blame */
};

static unsigned wrong;	/* rows of the running test: all are tried before it fails */

static void explain(const struct scene *s, const char *rfc, const char *what)
{
	const struct conn_error *e = conn_error(s->victim);
	wrong++;
	print_error("%s, %s, to %s: closed with %#llx type %#llx (%s), on the wire %u times %#llx type %#llx\n", rfc,
		    what, s->i.to_server ? "server" : "client", (unsigned long long)e->code,
		    (unsigned long long)e->frame_type, e->reason, s->i.closes, (unsigned long long)s->i.close_code,
		    (unsigned long long)s->i.close_frame_type);
}

static void expect_closed(struct scene *s, const char *rfc, const char *what, int qe, uint64_t type)
{
	const struct conn_error *e = conn_error(s->victim);
	bool ok = e->kind != CONN_ERR_NONE && !e->by_peer && e->code == qe_wire(qe) && s->i.closes &&
		  s->i.close_kind == FRAME_CONNECTION_CLOSE && s->i.close_code == qe_wire(qe) &&
		  e->frame_type == s->i.close_frame_type && (type == ANY_TYPE || e->frame_type == type);
	if (!ok)
		explain(s, rfc, what);
}

static void expect_open(struct scene *s, const char *rfc, const char *what)
{
	if (conn_error(s->victim)->kind != CONN_ERR_NONE || s->i.closes)
		explain(s, rfc, what);
}

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
#define TP QE_TRANSPORT_PARAMETER
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

static void send_new_cid(struct scene *s, uint64_t seq, uint64_t prior, const struct cid *cid, const uint8_t *token)
{
	uint8_t b[64];
	struct wr w = wr_of(b, sizeof(b));
	assert_true(frame_write_new_connection_id(&w, seq, prior, cid, token));
	injector_send(&s->i, A, b, wr_len(&w));
}

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
			send_new_cid(&s, k == 0 ? 8 : c->seq, 0, &cid, token);
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
		send_new_cid(&s, 8, 0, &cid, token);
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

/* ---- TLS messages where none belong -------------------------------------------------- */

static void violations__tls_messages(void **state)
{
	static const struct {
		const char *rfc, *what;
		enum level level;
		bool to_server;
		const char *hex;
		int qe;
	} rows[] = {
		{ "RFC9001 6-5", "KeyUpdate", A, true, "18000001 00", QE_TLS(10) },
		{ "RFC9001 6-5", "KeyUpdate", A, false, "18000001 00", QE_TLS(10) },
		{ "RFC9001 8.3-1", "EndOfEarlyData", H, true, "05000000", QE_TLS(10) },
		{ "RFC9001 4.4-5", "CertificateRequest after the handshake", A, false, "0d000003 000000", PV },
		{ "RFC8446 4.6", "NewSessionTicket from a client", A, true, "04000003 000000", QE_TLS(10) },
		{ "RFC8446 4", "unknown message", A, false, "63000000", QE_TLS(10) },
		{ "RFC9001 4.1.3-10.2", "Initial CRYPTO after the level", I, true, "01", PV },
	};
	for (size_t k = 0; k < COUNT(rows); k++) {
		struct scene s;
		scene_init(&s, rows[k].level, rows[k].to_server);
		uint8_t msg[64];
		injector_send_crypto(&s.i, rows[k].level, s.victim->crypto[rows[k].level].rx.read_off, msg,
				     unhex(rows[k].hex, msg, sizeof(msg)));
		expect_closed(&s, rows[k].rfc, rows[k].what, rows[k].qe, 0x06);
		scene_fini(&s);
	}
}

static void violations__crypto_left_over__to_client(void **state)
{
	/* RFC9001 4.1.3-10.3: behind the ServerHello, next to it and behind a gap */
	for (int gap = 0; gap < 2; gap++) {
		struct scene s;
		uint8_t hello[HELLO_MAX];
		scene_init(&s, I, false);
		struct sendbuf *sb = &s.mate->crypto[I].tx;
		size_t len = (size_t)sb->end;
		sendbuf_copy(sb, 0, len, hello);
		if (gap)
			injector_send_crypto(&s.i, I, len + 10, (const uint8_t *)"x", 1);
		else
			hello[len++] = 2;
		injector_send_crypto(&s.i, I, 0, hello, len);
		expect_closed(&s, "RFC9001 4.1.3-10.3", gap ? "behind a gap" : "left over", PV, 0x06);
		scene_fini(&s);
	}
}

/* ---- hellos -------------------------------------------------------------------------- */

enum { EXT_ALPN = 16, EXT_PARAMS = 0x39 };

/* A scene in which only the client exists. */
static void scene_client_only(struct scene *s, bool to_server)
{
	memset(s, 0, sizeof(*s));
	connpair_init(&s->p, 1);
	injector_init(&s->i, &s->p, to_server);
	connpair_start(&s->p);
	s->mate = s->victim = s->p.client;
}

static void start_server(struct scene *s, const uint8_t *hello, size_t len)
{
	injector_start_server(&s->i, hello, len);
	s->victim = s->p.server;
}

static void violations__client_hello(void **state)
{
	/* extension NULL: taken out */
	static const struct {
		const char *rfc, *what;
		uint16_t ext;
		const char *body;
		int qe;
	} rows[] = {
		{ "RFC9001 8.2-4", "no transport parameters", EXT_PARAMS, NULL, QE_TLS(0x6d) },
		{ "RFC9001 8.1-2", "no ALPN", EXT_ALPN, NULL, QE_TLS(0x78) },
		{ "RFC9001 8.1-2", "no common ALPN", EXT_ALPN, "0003 02 6861", QE_TLS(0x78) },
	};
	for (size_t k = 0; k < COUNT(rows); k++) {
		struct scene s;
		uint8_t hello[HELLO_MAX], body[64];
		scene_client_only(&s, true);
		size_t len = injector_client_hello(s.p.client, hello, sizeof(hello));
		size_t n = rows[k].body ? unhex(rows[k].body, body, sizeof(body)) : SIZE_MAX;
		len = hello_set_extension(hello, len, sizeof(hello), rows[k].ext, body, n);
		start_server(&s, hello, len);
		expect_closed(&s, rows[k].rfc, rows[k].what, rows[k].qe, 0x06);
		scene_fini(&s);
	}
}

static void violations__crypto_left_over__to_server(void **state)
{
	/* RFC9001 4.1.3-10.3: behind the ClientHello */
	struct scene s;
	uint8_t hello[HELLO_MAX];
	scene_client_only(&s, true);
	size_t len = injector_client_hello(s.p.client, hello, sizeof(hello) - 1);
	hello[len++] = 0x0b;
	start_server(&s, hello, len);
	expect_closed(&s, "RFC9001 4.1.3-10.3", "behind ClientHello", PV, 0x06);
	scene_fini(&s);
}

/* ---- transport parameters -------------------------------------------------------------- */

/* What is done to an honest set. add: bytes appended; drop: an id left out. */
struct params_row {
	const char *rfc, *what;
	bool from_client, from_server;
	int drop;		/* id below 64; -1: none */
	const char *add;
};

#define CID20 "00000000000000000000000000000000000000ff"
#define PREFERRED "7f000001 1151 00000000000000000000000000000001 1151 08" CID8 TOKEN16

static const struct params_row params_rows[] = {
	{ "RFC9000 7.3-5.1", "no initial_source_connection_id", true, true, 0x0f, "" },
	{ "RFC9000 7.3-5.3", "wrong initial_source_connection_id", true, true, 0x0f, "0f 14" CID20 },
	{ "RFC9000 7.3-5.1", "no original_destination_connection_id", false, true, 0x00, "" },
	{ "RFC9000 7.3-5.3", "wrong original_destination_connection_id", false, true, 0x00, "00 14" CID20 },
	{ "RFC9000 7.3-5.2", "retry_source_connection_id without Retry", false, true, -1, "10 08" CID8 },
	{ "RFC9000 18.2-27", "original_destination_connection_id from a client", true, false, -1, "00 08" CID8 },
	{ "RFC9000 18.2-27", "stateless_reset_token from a client", true, false, -1, "02 10" TOKEN16 },
	{ "RFC9000 18.2-27", "preferred_address from a client", true, false, -1, "0d 31" PREFERRED },
	{ "RFC9000 18.2-27", "retry_source_connection_id from a client", true, false, -1, "10 08" CID8 },
	{ "RFC9000 18.2-4.8", "max_udp_payload_size 1199", true, true, 0x03, "03 02 44af" },
	{ "RFC9000 18.2-4.20", "ack_delay_exponent 21", true, true, 0x0a, "0a 01 15" },
	{ "RFC9000 18.2-4.22", "max_ack_delay 2^14", true, true, 0x0b, "0b 04 80004000" },
	{ "RFC9000 18.2-6", "active_connection_id_limit 1", true, true, 0x0e, "0e 01 01" },
	{ "RFC9000 4.6-2", "initial_max_streams_bidi 2^60+1", true, true, 0x08, "08 08 d000000000000001" },
	{ "RFC9000 4.6-2", "initial_max_streams_uni 2^60+1", true, true, 0x09, "09 08 d000000000000001" },
	{ "RFC9000 7.4-6", "twice the same", true, true, 0x01, "01 01 05 01 01 05" },
	{ "RFC9000 7.4-6", "twice the same unknown one", true, true, -1, "7fff 01 05 7fff 01 05" },
	{ "RFC9000 18-1", "value longer than the rest", true, true, -1, "7fff 05 00" },
	{ "RFC9000 18-1", "half a parameter", true, true, -1, "7f" },
	{ "RFC9000 18.2-4.2", "number with bytes behind it", true, true, 0x01, "01 02 0500" },
	{ "RFC9000 18.2-4.6", "stateless_reset_token of 15 bytes", false, true, 0x02,
	  "02 0f 00112233445566778899aabbccddee" },
	{ "RFC9000 18.2-4.26", "disable_active_migration with a value", true, true, 0x0c, "0c 01 00" },
	{ "RFC9000 18.2-5.9", "preferred_address with an empty CID", false, true, -1,
	  "0d 29 7f000001 1151 00000000000000000000000000000001 1151 00" TOKEN16 },
};

/* Copy the parameters of src without id drop. */
static size_t params_without(const uint8_t *src, size_t len, int drop, uint8_t *out)
{
	struct rd r = rd_of(src, len);
	size_t n = 0;
	while (rd_left(&r)) {
		const uint8_t *start = r.p;
		uint64_t id = rd_varint(&r), size = rd_varint(&r);
		assert_non_null(rd_bytes(&r, (size_t)size));
		if (drop >= 0 && id == (uint64_t)drop)
			continue;
		memcpy(out + n, start, (size_t)(r.p - start));
		n += (size_t)(r.p - start);
	}
	return n;
}

static size_t alter_params(const struct params_row *row, const struct tparams *tp, bool from_server, uint8_t out[512])
{
	uint8_t honest[512];
	struct wr w = wr_of(honest, sizeof(honest));
	assert_true(tparams_encode(&w, tp, from_server, 0));
	size_t n = params_without(honest, wr_len(&w), row ? row->drop : -1, out);
	return row ? n + unhex(row->add, out + n, 512 - n) : n;
}

static void violations__transport_parameters__to_server(void **state)
{
	for (size_t k = 0; k < COUNT(params_rows); k++) {
		const struct params_row *r = &params_rows[k];
		struct scene s;
		uint8_t hello[HELLO_MAX], params[512];
		if (!r->from_client)
			continue;
		scene_client_only(&s, true);
		size_t len = injector_client_hello(s.p.client, hello, sizeof(hello));
		size_t n = alter_params(r, &s.p.client->ours, false, params);
		len = hello_set_extension(hello, len, sizeof(hello), EXT_PARAMS, params, n);
		start_server(&s, hello, len);
		expect_closed(&s, r->rfc, r->what, TP, 0x06);
		scene_fini(&s);
	}
}

/* The server's own parameters are only made with it, so: made, altered, put back. */
static void violations__transport_parameters__to_client(void **state)
{
	for (size_t k = 0; k < COUNT(params_rows); k++) {
		const struct params_row *r = &params_rows[k];
		struct scene s;
		if (!r->from_server)
			continue;
		scene_client_only(&s, false);
		uint8_t first[INJECT_MAX], params[512];
		size_t len = injector_make_server(&s.i, NULL, NULL, first);
		size_t n = alter_params(r, &s.p.server->ours, true, params);
		injector_server_params(&s.i, params, n);
		injector_feed_server(&s.i, first, len);
		connpair_run(&s.p, s.p.now_us + s.p.delay_us);
		expect_closed(&s, r->rfc, r->what, TP, 0x06);
		scene_fini(&s);
	}
}

/* A server that names a preferred address, and goes on as if it had not. same_id: the id there is the one in use. */
static void prefer_address(struct scene *s, bool same_id)
{
	uint8_t first[INJECT_MAX], params[512];
	scene_client_only(s, false);
	size_t len = injector_make_server(&s->i, NULL, NULL, first);
	struct tparams tp = s->p.server->ours;
	tp.has_preferred = true;
	tp.preferred.cid = tp.initial_scid;
	tp.preferred.cid.b[0] ^= !same_id;
	size_t n = alter_params(NULL, &tp, true, params);
	injector_server_params(&s->i, params, n);
	injector_feed_server(&s->i, first, len);
	connpair_run(&s->p, s->p.now_us + 10 * s->p.delay_us);
}

static void violations__preferred_address__its_id_counts_as_number_1(void **state)
{
	struct scene s;
	/* RFC9000 5.1.1-2, 19.15-8: our server's first NEW_CONNECTION_ID has that number too, for another id */
	prefer_address(&s, false);
	assert_true(s.p.client->established);
	expect_closed(&s, "RFC9000 5.1.1-2", "number 1 used twice", PV, 0x18);
	scene_fini(&s);
	prefer_address(&s, true);
	expect_closed(&s, "RFC9000 5.1.1-2", "one id under two numbers", TP, 0x06);
	scene_fini(&s);
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

/* ---- ignored ----------------------------------------------------------------------------------- */

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

static void violations__ignored(void **state)
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
			if (!wrong && rows[k].flags != ANSWERED)
				scene_transfer(&s, 30000);
			scene_fini(&s);
		}
	}
}

static void violations__ignored__coalesced_for_another(void **state)
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

static void violations__ignored__new_connection_id_repeated(void **state)
{
	/* RFC9000 19.15-6 */
	for (int side = 0; side < 2; side++) {
		struct scene s;
		scene_init(&s, A, side);
		const struct remote_cid c = s.victim->rcids.v[2];
		unsigned n = s.victim->rcids.n;
		for (int k = 0; k < 3; k++)
			send_new_cid(&s, c.seq, 0, &c.cid, c.token);
		expect_open(&s, "RFC9000 19.15-6", "repeated NEW_CONNECTION_ID");
		assert_int_equal(s.victim->rcids.n, n);
		finish_and_transfer(&s);
		scene_fini(&s);
	}
}

static void violations__ignored__retire_connection_id_repeated(void **state)
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

static void violations__accepted__path_challenge(void **state)
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
static void violations__accepted__hello_in_pieces(void **state)
{
	struct scene s;
	uint8_t hello[HELLO_MAX], first[INJECT_MAX], b[1200];
	struct inject how = { .level = I, .pad = 1 };
	scene_client_only(&s, true);
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

static void violations__ignored__retry(void **state)
{
	/* RFC9000 17.2.5.2-1, -2 */
	static const struct cid one = { 8, { 1, 1 } }, two = { 8, { 2, 2 } };
	struct scene s;
	uint8_t b[INJECT_MAX], first[INJECT_MAX];
	scene_client_only(&s, false);
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

static void violations__ignored__retry_late(void **state)
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

static void violations__ignored__version_negotiation(void **state)
{
	/* RFC9000 6.2-2 */
	struct scene s;
	uint8_t b[INJECT_MAX];
	scene_client_only(&s, false);
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

/* ---- main ---------------------------------------------------------------------------------------- */

static int no_leak(void **state)
{
	unsigned n = wrong;
	wrong = 0;
	assert_int_equal(n, 0);
	assert_int_equal(mem_test_live(), *(int64_t *)*state);
	return 0;
}

static int remember(void **state)
{
	static int64_t live;
	live = mem_test_live();
	*state = &live;
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, remember, no_leak)

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
		T(violations__tls_messages),
		T(violations__crypto_left_over__to_client),
		T(violations__client_hello),
		T(violations__crypto_left_over__to_server),
		T(violations__transport_parameters__to_server),
		T(violations__transport_parameters__to_client),
		T(violations__preferred_address__its_id_counts_as_number_1),
		T(violations__key_update__old_key_higher_number),
		T(violations__key_update__acknowledged_with_the_old_key),
		T(violations__ignored),
		T(violations__ignored__coalesced_for_another),
		T(violations__ignored__new_connection_id_repeated),
		T(violations__ignored__retire_connection_id_repeated),
		T(violations__accepted__path_challenge),
		T(violations__accepted__hello_in_pieces),
		T(violations__ignored__retry),
		T(violations__ignored__retry_late),
		T(violations__ignored__version_negotiation),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
