/* wire/frame: which frame may stand where, what each must hold, and that what is
 * written is read back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>

#include "base/err.h"
#include "support/leak.h"
#include "unit/wire_hex.h"
#include "wire/frame.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define FE QE_FRAME_ENCODING
#define PV QE_PROTOCOL_VIOLATION
#define MAX_HEX "ffffffffffffffff"	/* 2^62-1 */


/* A valid frame of every type, each cut at its last byte: dropping any byte breaks it. What follows the type. */
static const struct sample {
	uint8_t type;
	const char *body;
	bool to_the_end;	/* takes whatever there is: cannot be truncated after min bytes */
	size_t min;
} samples[] = {
	{ 0x00, "", true, 0 },
	{ 0x01, "", false, 0 },
	{ 0x02, "0a 05 00 03", false, 0 },
	{ 0x02, "4064 8000ffff 02 05 01 02 00 4003", false, 0 },
	{ 0x03, "0a 05 01 03 01 01 07 4008 09", false, 0 },
	{ 0x04, "04 4101 80012345", false, 0 },
	{ 0x05, "04 4101", false, 0 },
	{ 0x06, "00 03 616263", false, 0 },
	{ 0x07, "02 6162", false, 0 },
	{ 0x08, "04 616263", true, 1 },
	{ 0x09, "04", true, 1 },
	{ 0x0a, "04 03 616263", false, 0 },
	{ 0x0b, "04 00", false, 0 },
	{ 0x0c, "04 4100 6162", true, 3 },
	{ 0x0d, "04 4100", true, 3 },
	{ 0x0e, "04 4100 02 6162", false, 0 },
	{ 0x0f, "04 4100 02 6162", false, 0 },
	{ 0x10, MAX_HEX, false, 0 },
	{ 0x11, "04 4400", false, 0 },
	{ 0x12, "4400", false, 0 },
	{ 0x13, "04", false, 0 },
	{ 0x14, "4400", false, 0 },
	{ 0x15, "04 4400", false, 0 },
	{ 0x16, "05", false, 0 },
	{ 0x17, "05", false, 0 },
	{ 0x18, "02 01 03 aabbcc 000102030405060708090a0b0c0d0e0f", false, 0 },
	{ 0x19, "02", false, 0 },
	{ 0x1a, "0001020304050607", false, 0 },
	{ 0x1b, "0001020304050607", false, 0 },
	{ 0x1c, "0a 08 03 616263", false, 0 },
	{ 0x1d, "4123 03 616263", false, 0 },
	{ 0x1e, "", false, 0 },
};

/* The frame of type followed by body, decoded at level from a block that ends with it. */
static int decode_at(enum level level, const char *hex, struct frame *f)
{
	struct blob b = blob_hex(hex);
	struct rd r = rd_of(b.p, b.len);
	int e = frame_decode(&r, level, f);
	assert_ptr_equal(r.p, e ? b.p : b.p + b.len);	/* all of it, or nothing */
	assert_false(r.failed);
	free(b.p);
	return e;
}

static int decode(const char *hex)
{
	struct frame f;
	return decode_at(LEVEL_APP, hex, &f);
}

static struct blob sample_bytes(const struct sample *s)
{
	char hex[512];
	snprintf(hex, sizeof(hex), "%02x %s", s->type, s->body);
	return blob_hex(hex);
}

/* RFC9000 12.4, table 3, as the RFC prints it */
static const struct { uint8_t lo, hi; const char *name, *pkts; bool non_eliciting; } table3[] = {
	{ 0x00, 0x00, "PADDING", "IH01", true },
	{ 0x01, 0x01, "PING", "IH01", false },
	{ 0x02, 0x03, "ACK", "IH_1", true },
	{ 0x04, 0x04, "RESET_STREAM", "__01", false },
	{ 0x05, 0x05, "STOP_SENDING", "__01", false },
	{ 0x06, 0x06, "CRYPTO", "IH_1", false },
	{ 0x07, 0x07, "NEW_TOKEN", "___1", false },
	{ 0x08, 0x0f, "STREAM", "__01", false },
	{ 0x10, 0x10, "MAX_DATA", "__01", false },
	{ 0x11, 0x11, "MAX_STREAM_DATA", "__01", false },
	{ 0x12, 0x13, "MAX_STREAMS", "__01", false },
	{ 0x14, 0x14, "DATA_BLOCKED", "__01", false },
	{ 0x15, 0x15, "STREAM_DATA_BLOCKED", "__01", false },
	{ 0x16, 0x17, "STREAMS_BLOCKED", "__01", false },
	{ 0x18, 0x18, "NEW_CONNECTION_ID", "__01", false },
	{ 0x19, 0x19, "RETIRE_CONNECTION_ID", "__01", false },
	{ 0x1a, 0x1a, "PATH_CHALLENGE", "__01", false },
	{ 0x1b, 0x1b, "PATH_RESPONSE", "___1", false },
	{ 0x1c, 0x1c, "CONNECTION_CLOSE", "IH01", true },
	{ 0x1d, 0x1d, "APPLICATION_CLOSE", "__01", true },
	{ 0x1e, 0x1e, "HANDSHAKE_DONE", "___1", false },
};

static uint8_t where_bits(const char *pkts)
{
	return (uint8_t)((pkts[0] == 'I' ? FR_I : 0) | (pkts[1] == 'H' ? FR_H : 0) | (pkts[2] == '0' ? FR_0 : 0) |
			 (pkts[3] == '1' ? FR_1 : 0));
}

static void frame_table__against_rfc_table_3__says_the_same(void **state)
{
	assert_int_equal(COUNT(table3), FRAME_KIND_COUNT);
	for (size_t i = 0; i < FRAME_KIND_COUNT; i++) {
		assert_string_equal(frame_table[i].name, table3[i].name);
		assert_int_equal(frame_table[i].lo, table3[i].lo);
		assert_int_equal(frame_table[i].hi, table3[i].hi);
		assert_int_equal(frame_table[i].where, where_bits(table3[i].pkts));
		assert_int_equal(frame_table[i].eliciting, !table3[i].non_eliciting);
	}
}

/* RFC9000 12.4-11, 12.5, 17.2.4-8: every type at every level, and a sample of every type there is. */
static void frame_decode__every_type_at_every_level__only_where_allowed(void **state)
{
	static const uint8_t bit[LEVEL_COUNT] = {
		[LEVEL_INITIAL] = FR_I, [LEVEL_EARLY] = FR_0, [LEVEL_HANDSHAKE] = FR_H, [LEVEL_APP] = FR_1,
	};
	uint64_t types_tried = 0;
	for (size_t i = 0; i < COUNT(samples); i++) {
		size_t kind = 0;
		while (samples[i].type < frame_table[kind].lo || samples[i].type > frame_table[kind].hi)
			kind++;
		for (int level = 0; level < LEVEL_COUNT; level++) {
			bool allowed = frame_table[kind].where & bit[level];
			struct blob b = sample_bytes(&samples[i]);
			struct rd r = rd_of(b.p, b.len);
			struct frame f;
			assert_int_equal(frame_decode(&r, (enum level)level, &f), allowed ? 0 : PV);
			assert_int_equal(f.kind, kind);
			assert_int_equal(f.type, samples[i].type);
			assert_int_equal(rd_left(&r), allowed ? 0 : b.len);
			free(b.p);
		}
		types_tried |= UINT64_C(1) << samples[i].type;
	}
	for (size_t k = 0; k < FRAME_KIND_COUNT; k++) {
		for (unsigned t = frame_table[k].lo; t <= frame_table[k].hi; t++)
			assert_true(types_tried >> t & 1);
	}
}

/* RFC9000 12.4-5: frames do not span packets. */
static void frame_decode__every_truncation__is_an_encoding_error(void **state)
{
	for (size_t i = 0; i < COUNT(samples); i++) {
		struct blob b = sample_bytes(&samples[i]);
		size_t stop = samples[i].to_the_end ? 1 + samples[i].min : b.len;
		for (size_t len = 0; len < stop; len++) {
			struct blob cut = blob_copy(b.p, len);
			struct rd r = rd_of(cut.p, cut.len);
			struct frame f;
			assert_int_equal(frame_decode(&r, LEVEL_APP, &f), FE);
			assert_int_equal(f.type, len ? samples[i].type : 0);
			assert_ptr_equal(r.p, cut.p);
			free(cut.p);
		}
		free(b.p);
	}
}

/* RFC9000 12.4-14 (unknown), 12.4-16 (longer than needed) */
static void frame_decode__types_unknown_or_overlong__exact_codes(void **state)
{
	static const struct { const char *hex; int want; uint64_t type; } cases[] = {
		{ "1f", FE, 0x1f },
		{ "21", FE, 0x21 },
		{ "30 00", FE, 0x30 },
		{ "3f", FE, 0x3f },
		{ "4040", FE, 0x40 },
		{ "7fff", FE, 0x3fff },
		{ "80004000", FE, 0x4000 },
		{ "c000000040000000", FE, 0x40000000 },
		{ MAX_HEX, FE, VARINT_MAX },
		{ "4001", PV, 1 },
		{ "80000001", PV, 1 },
		{ "c000000000000001", PV, 1 },
		{ "400a 04 00", PV, 0x0a },
		{ "403f", PV, 0x3f },
		{ "80003fff", PV, 0x3fff },
		{ "c00000003fffffff", PV, 0x3fffffff },
		{ "40", FE, 0 },
		{ "800000", FE, 0 },
		{ "c0000000000000", FE, 0 },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		for (int level = 0; level < LEVEL_COUNT; level++) {
			struct frame f;
			assert_int_equal(decode_at((enum level)level, cases[i].hex, &f), cases[i].want);
			assert_int_equal(f.type, cases[i].type);
		}
	}
}

static void frame_decode__values_at_and_over_their_limits__exact_codes(void **state)
{
	static const struct { const char *hex; int want; } cases[] = {
		/* RFC9000 19.8-8.1: offset + length <= 2^62-1 */
		{ "0e 00 fffffffffffffffe 01 61", 0 },
		{ "0e 00 " MAX_HEX " 00", 0 },
		{ "0e 00 " MAX_HEX " 01 61", FE },
		{ "0c 00 " MAX_HEX " 61", FE },
		{ "0c 00 " MAX_HEX, 0 },
		{ "0a " MAX_HEX " 00", 0 },
		{ "0a 00 " MAX_HEX " 61", FE },
		{ "0a 00 02 61", FE },
		/* RFC9000 19.6-5 */
		{ "06 fffffffffffffffe 01 61", 0 },
		{ "06 " MAX_HEX " 01 61", FE },
		{ "06 00 " MAX_HEX " 61", FE },
		/* RFC9000 19.11-4.1 */
		{ "12 d000000000000000", 0 },
		{ "12 d000000000000001", FE },
		{ "13 d000000000000000", 0 },
		{ "13 d000000000000001", FE },
		{ "13 " MAX_HEX, FE },
		/* RFC9000 19.14-4.1 */
		{ "16 d000000000000000", 0 },
		{ "16 d000000000000001", FE },
		{ "17 d000000000000000", 0 },
		{ "17 d000000000000001", FE },
		/* RFC9000 19.7-4.2 */
		{ "07 00", FE },
		{ "07 01 61", 0 },
		{ "07 " MAX_HEX " 61", FE },
		/* RFC9000 19.15-4.6: length 1-20 */
		{ "18 01 00 00 000102030405060708090a0b0c0d0e0f", FE },
		{ "18 01 00 01 aa 000102030405060708090a0b0c0d0e0f", 0 },
		{ "18 01 00 14 0102030405060708090a0b0c0d0e0f1011121314 000102030405060708090a0b0c0d0e0f", 0 },
		{ "18 01 00 15 0102030405060708090a0b0c0d0e0f101112131415 000102030405060708090a0b0c0d0e0f", FE },
		{ "18 01 00 ff 0102030405060708090a0b0c0d0e0f101112131415 000102030405060708090a0b0c0d0e0f", FE },
		/* RFC9000 19.15-8: Retire Prior To <= Sequence Number */
		{ "18 05 05 01 aa 000102030405060708090a0b0c0d0e0f", 0 },
		{ "18 05 06 01 aa 000102030405060708090a0b0c0d0e0f", FE },
		{ "18 " MAX_HEX " " MAX_HEX " 01 aa 000102030405060708090a0b0c0d0e0f", 0 },
		/* RFC9000 19.19 */
		{ "1c 0a 08 04 616263", FE },
		{ "1d 0a " MAX_HEX " 616263", FE },
		{ "1c " MAX_HEX " " MAX_HEX " 00", 0 },
		/* RFC9000 19.4 */
		{ "04 " MAX_HEX " " MAX_HEX " " MAX_HEX, 0 },
		/* RFC9000 19.3.1-8: no negative packet number */
		{ "02 00 00 00 00", 0 },
		{ "02 00 00 00 01", FE },
		{ "02 0a 00 00 0a", 0 },
		{ "02 0a 00 00 0b", FE },
		{ "02 0a 00 01 00 08 00", 0 },	/* 10, then 0 */
		{ "02 0a 00 01 00 09 00", FE },	/* the gap itself goes below 0 */
		{ "02 0a 00 01 00 07 01", 0 },
		{ "02 0a 00 01 00 07 02", FE },	/* the range does */
		{ "02 0a 00 01 09 00 00", FE },
		{ "02 0a 00 01 08 00 00", 0 },
		{ "02 0a 00 01 00 " MAX_HEX " 00", FE },
		{ "02 0a 00 01 00 00 " MAX_HEX, FE },
		{ "02 " MAX_HEX " 00 00 " MAX_HEX, 0 },
		{ "02 " MAX_HEX " " MAX_HEX " 00 00", 0 },
		{ "02 " MAX_HEX " 00 " MAX_HEX " 00 00 00", FE },	/* more ranges than there are */
		{ "02 0a 00 02 00 00 00", FE },
		/* RFC9000 19.3.2 */
		{ "03 0a 00 00 00 " MAX_HEX " " MAX_HEX " " MAX_HEX, 0 },
		{ "03 0a 00 00 00 01 02", FE },
		{ "03 0a 00 00 00", FE },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		int got = decode(cases[i].hex);
		if (got != cases[i].want)
			fail_msg("%s: %d", cases[i].hex, got);
	}
}

/* RFC9000 19.8: the eight forms. */
static void frame_decode__stream_forms__fields(void **state)
{
	static const struct { const char *hex; uint64_t off; size_t len; bool fin; } cases[] = {
		{ "08 4444 616263", 0, 3, false },
		{ "08 4444", 0, 0, false },
		{ "09 4444 616263", 0, 3, true },
		{ "0a 4444 02 6162", 0, 2, false },
		{ "0b 4444 02 6162", 0, 2, true },
		{ "0c 4444 4100 616263", 256, 3, false },
		{ "0d 4444 4100 616263", 256, 3, true },
		{ "0e 4444 4100 01 61", 256, 1, false },
		{ "0f 4444 4100 00", 256, 0, true },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct blob b = blob_hex(cases[i].hex);
		struct rd r = rd_of(b.p, b.len);
		struct frame f;
		assert_int_equal(frame_decode(&r, LEVEL_EARLY, &f), 0);
		assert_int_equal(f.kind, FRAME_STREAM);
		assert_int_equal(f.stream.id, 0x444);
		assert_int_equal(f.stream.off, cases[i].off);
		assert_int_equal(f.stream.len, cases[i].len);
		assert_int_equal(f.stream.fin, cases[i].fin);
		assert_ptr_equal(f.stream.data, b.p + b.len - cases[i].len);
		assert_int_equal(rd_left(&r), 0);
		free(b.p);
	}
}

/* A run of PADDING is one frame, of any length and alignment, and ends at the next frame. */
static void frame_decode__padding__takes_the_whole_run(void **state)
{
	for (size_t n = 1; n < 40; n++) {
		for (size_t after = 0; after < 2; after++) {
			uint8_t buf[48] = { 0 };
			buf[n] = 0x01;
			struct blob b = blob_copy(buf, n + after);
			struct rd r = rd_of(b.p, b.len);
			struct frame f;
			assert_int_equal(frame_decode(&r, LEVEL_INITIAL, &f), 0);
			assert_int_equal(f.kind, FRAME_PADDING);
			assert_int_equal(f.padding, n);
			assert_int_equal(rd_left(&r), after);
			free(b.p);
		}
	}
}

/* RFC9001 A.3: the server's payload, frame after frame. */
static void frame_decode__several_frames__one_at_a_time(void **state)
{
	struct frame f;
	struct blob b = blob_hex("0200000000 0600405a 020000560303eefce7f7b37ba1d1632e96677825ddf73988cfc79825df566dc5430b9a"
				 "045a1200130100002e00330024001d00209d3c940d89690b84d08a60993c144eca684d1081287c834d5311bcf32b"
				 "b9da1a002b00020304");
	struct rd r = rd_of(b.p, b.len);
	assert_int_equal(frame_decode(&r, LEVEL_INITIAL, &f), 0);
	assert_int_equal(f.kind, FRAME_ACK);
	assert_int_equal(f.ack.largest, 0);
	assert_int_equal(frame_decode(&r, LEVEL_INITIAL, &f), 0);
	assert_int_equal(f.kind, FRAME_CRYPTO);
	assert_int_equal(f.crypto.off, 0);
	assert_int_equal(f.crypto.len, 90);
	assert_ptr_equal(f.crypto.data, b.p + 9);
	assert_int_equal(rd_left(&r), 0);
	free(b.p);
}

static void frame_decode__other_kinds__fields(void **state)
{
	struct frame f;
	assert_int_equal(decode_at(LEVEL_APP, "04 04 4101 80012345", &f), 0);
	assert_int_equal(f.reset_stream.id, 4);
	assert_int_equal(f.reset_stream.code, 0x101);
	assert_int_equal(f.reset_stream.final_size, 0x12345);
	assert_int_equal(decode_at(LEVEL_APP, "05 07 4101", &f), 0);
	assert_int_equal(f.stop_sending.id, 7);
	assert_int_equal(f.stop_sending.code, 0x101);
	assert_int_equal(decode_at(LEVEL_APP, "12 4400", &f), 0);
	assert_false(f.max_streams.uni);
	assert_int_equal(f.max_streams.max, 0x400);
	assert_int_equal(decode_at(LEVEL_APP, "13 4400", &f), 0);
	assert_true(f.max_streams.uni);
	assert_int_equal(decode_at(LEVEL_APP, "16 05", &f), 0);
	assert_false(f.streams_blocked.uni);
	assert_int_equal(f.streams_blocked.limit, 5);
	assert_int_equal(decode_at(LEVEL_APP, "17 05", &f), 0);
	assert_true(f.streams_blocked.uni);
	assert_int_equal(decode_at(LEVEL_HANDSHAKE, "1c 0a 4408 00", &f), 0);
	assert_int_equal(f.close.code, 0x0a);
	assert_int_equal(f.close.frame_type, 0x408);
	assert_int_equal(f.close.reason_len, 0);
	assert_int_equal(decode_at(LEVEL_APP, "1d 4123 00", &f), 0);
	assert_int_equal(f.close.code, 0x123);
	assert_int_equal(f.close.frame_type, 0);
	assert_int_equal(decode_at(LEVEL_APP, "03 4064 05 00 00 01 4002 03", &f), 0);
	assert_true(f.ack.has_ecn);
	assert_int_equal(f.ack.delay, 5);
	assert_int_equal(f.ack.ect0, 1);
	assert_int_equal(f.ack.ect1, 2);
	assert_int_equal(f.ack.ce, 3);
	assert_int_equal(decode_at(LEVEL_APP, "02 4064 05 00 00", &f), 0);
	assert_false(f.ack.has_ecn);
	assert_int_equal(f.ack.ect0 | f.ack.ect1 | f.ack.ce, 0);
}

/* RFC9000 19.3.1 */
static void ack_iter__gaps_and_lengths__half_open_ranges_downward(void **state)
{
	static const struct range want[] = { { 95, 101 }, { 90, 93 }, { 85, 86 }, { 0, 84 } };
	/* 95-100, gap 93-94, 90-92, gap 86-89, 85, gap 84, 0-83 */
	struct blob b = blob_hex("02 4064 00 03 05 01 02 03 00 00 4053");
	struct rd r = rd_of(b.p, b.len);
	struct frame f;
	struct ack_iter it;
	struct range got;
	assert_int_equal(frame_decode(&r, LEVEL_APP, &f), 0);
	assert_int_equal(f.ack.range_count, 3);
	ack_iter_init(&it, &f.ack);
	for (size_t i = 0; i < COUNT(want); i++) {
		assert_true(ack_iter_next(&it, &got));
		assert_int_equal(got.lo, want[i].lo);
		assert_int_equal(got.hi, want[i].hi);
	}
	assert_false(ack_iter_next(&it, &got));
	assert_false(ack_iter_next(&it, &got));
	free(b.p);
}

/* Write received as an ACK, read it back, compare with its highest ranges. Returns how many there were. */
static uint32_t ack_round_trip(const struct rangeset *rs, size_t room, uint32_t max, const uint64_t *ecn)
{
	struct blob b = { malloc(room + 1), room };
	struct wr w = wr_of(b.p, room);
	if (!frame_write_ack(&w, rs, 77, ecn, max)) {
		assert_int_equal(wr_len(&w), 0);
		assert_false(w.failed);
		free(b.p);
		return 0;
	}
	struct rd r = rd_of(b.p, wr_len(&w));
	struct frame f;
	struct ack_iter it;
	struct range got;
	uint32_t n = 0;
	assert_int_equal(frame_decode(&r, LEVEL_APP, &f), 0);
	assert_int_equal(rd_left(&r), 0);
	assert_int_equal(f.ack.delay, 77);
	assert_int_equal(f.ack.has_ecn, ecn != NULL);
	if (ecn) {
		assert_int_equal(f.ack.ect0, ecn[0]);
		assert_int_equal(f.ack.ect1, ecn[1]);
		assert_int_equal(f.ack.ce, ecn[2]);
	}
	for (ack_iter_init(&it, &f.ack); ack_iter_next(&it, &got); n++) {
		assert_int_equal(got.lo, rs->v[rs->n - 1 - n].lo);
		assert_int_equal(got.hi, rs->v[rs->n - 1 - n].hi);
	}
	free(b.p);
	return n;
}

static void frame_write_ack__any_room__highest_ranges_that_fit(void **state)
{
	static const uint64_t ecn[3] = { 1, 300, 70000 };
	struct rangeset rs;
	rangeset_init(&rs, 200);
	for (uint64_t i = 0; i < 100; i++)	/* gaps and lengths of one and two bytes */
		assert_int_equal(rangeset_add(&rs, 1000 * i, 1000 * i + 1 + 9 * i), 0);
	for (int with_ecn = 0; with_ecn < 2; with_ecn++) {
		uint32_t before = 0;
		for (size_t room = 0; room < 450; room++) {
			uint32_t n = ack_round_trip(&rs, room, 200, with_ecn ? ecn : NULL);
			assert_true(n >= before && n <= before + 1);	/* each byte of room is used */
			before = n;
		}
		assert_int_equal(before, 100);
	}
	for (uint32_t max = 1; max <= 100; max++)
		assert_int_equal(ack_round_trip(&rs, 1200, max, NULL), max);
	rangeset_fini(&rs);
}

static void frame_write_ack__extremes__round_trip(void **state)
{
	static const uint64_t most[3] = { VARINT_MAX, VARINT_MAX, VARINT_MAX };
	struct rangeset rs;
	rangeset_init(&rs, 8);
	assert_int_equal(rangeset_add(&rs, 0, 1), 0);
	assert_int_equal(ack_round_trip(&rs, 6, 64, NULL), 1);
	assert_int_equal(ack_round_trip(&rs, 5, 64, NULL), 0);
	assert_int_equal(rangeset_add(&rs, VARINT_MAX, VARINT_MAX + 1), 0);
	assert_int_equal(ack_round_trip(&rs, 100, 64, most), 2);
	assert_int_equal(rangeset_add(&rs, 0, VARINT_MAX + 1), 0);
	assert_int_equal(ack_round_trip(&rs, 100, 64, most), 1);
	rangeset_fini(&rs);
}

/* One call of each writer, the same values as in samples where they can be. */
static bool write_kind(struct wr *w, enum frame_kind kind, bool alt)
{
	static const uint8_t data[16] = { 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15 };
	struct cid cid = { .len = 3, .b = { 0xaa, 0xbb, 0xcc } };
	switch (kind) {
	case FRAME_PADDING: return frame_write_padding(w, 1);
	case FRAME_PING: return frame_write_ping(w);
	case FRAME_RESET_STREAM: return frame_write_reset_stream(w, 4, 0x101, 0x12345);
	case FRAME_STOP_SENDING: return frame_write_stop_sending(w, 4, 0x101);
	case FRAME_NEW_TOKEN: return frame_write_new_token(w, (const uint8_t *)"ab", 2);
	case FRAME_MAX_DATA: return frame_write_max_data(w, VARINT_MAX);
	case FRAME_MAX_STREAM_DATA: return frame_write_max_stream_data(w, 4, 0x400);
	case FRAME_MAX_STREAMS: return frame_write_max_streams(w, alt, alt ? 4 : 0x400);
	case FRAME_DATA_BLOCKED: return frame_write_data_blocked(w, 0x400);
	case FRAME_STREAM_DATA_BLOCKED: return frame_write_stream_data_blocked(w, 4, 0x400);
	case FRAME_STREAMS_BLOCKED: return frame_write_streams_blocked(w, alt, 5);
	case FRAME_NEW_CONNECTION_ID: return frame_write_new_connection_id(w, 2, 1, &cid, data);
	case FRAME_RETIRE_CONNECTION_ID: return frame_write_retire_connection_id(w, 2);
	case FRAME_PATH_CHALLENGE: return frame_write_path_challenge(w, data);
	case FRAME_PATH_RESPONSE: return frame_write_path_response(w, data);
	case FRAME_HANDSHAKE_DONE: return frame_write_handshake_done(w);
	default: return false;
	}
}

/* The samples are the expected bytes; one byte less of room and nothing is written. */
static void frame_write__simple_kinds__bytes_and_room(void **state)
{
	for (size_t i = 0; i < COUNT(samples); i++) {
		size_t k = 0;
		while (samples[i].type > frame_table[k].hi)
			k++;
		if (k == FRAME_ACK || k == FRAME_CRYPTO || k == FRAME_STREAM || k == FRAME_CONNECTION_CLOSE ||
		    k == FRAME_APPLICATION_CLOSE)
			continue;
		bool alt = samples[i].type != frame_table[k].lo;
		struct blob want = sample_bytes(&samples[i]);
		struct blob b = { malloc(want.len), want.len };
		struct wr w = wr_of(b.p, want.len);
		assert_true(write_kind(&w, (enum frame_kind)k, alt));
		assert_int_equal(wr_left(&w), 0);
		assert_memory_equal(b.p, want.p, want.len);
		w = wr_of(b.p, want.len - 1);
		assert_false(write_kind(&w, (enum frame_kind)k, alt));
		assert_int_equal(wr_len(&w), 0);
		assert_false(w.failed);
		free(b.p);
		free(want.p);
	}
}

/* Every room from 0 up: what is promised fits with its header, and nearly fills the room. */
static void frame_write_stream_header__any_room__fits_exactly(void **state)
{
	static const struct { uint64_t id, off; size_t len; bool fin; } cases[] = {
		{ 0, 0, 100, true }, { 400, 70000, 100, false }, { 4, 1, 0, true }, { 8, 0, 0, false },
		{ 4, 16384, 20000, true }, { 4, 5, 63, true }, { 4, 5, 64, true },
		{ VARINT_MAX, VARINT_MAX - 1, 1, true },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		for (size_t room = 0; room < 20100; room += room < 400 ? 1 : 13) {
			uint8_t *buf = malloc(room + 1);
			struct wr w = wr_of(buf, room);
			bool fin = false;
			ptrdiff_t n = frame_write_stream_header(&w, cases[i].id, cases[i].off, cases[i].len,
								cases[i].fin, &fin);
			size_t least = 1 + varint_len(cases[i].id) + (cases[i].off ? varint_len(cases[i].off) : 0) + 1 +
				       (cases[i].len > 0);
			assert_int_equal(n >= 0, room >= least);
			if (n < 0) {
				assert_int_equal(wr_len(&w), 0);
				assert_false(w.failed);
				free(buf);
				continue;
			}
			assert_true((size_t)n <= cases[i].len && (size_t)n <= wr_left(&w));
			if ((size_t)n < cases[i].len)
				assert_true(wr_left(&w) - (size_t)n <= 1);
			assert_int_equal(fin, cases[i].fin && (size_t)n == cases[i].len);
			uint8_t *data = wr_claim(&w, (size_t)n);
			memset(data, 0x5a, (size_t)n);
			struct rd r = rd_of(buf, wr_len(&w));
			struct frame f;
			assert_int_equal(frame_decode(&r, LEVEL_APP, &f), 0);
			assert_int_equal(f.stream.id, cases[i].id);
			assert_int_equal(f.stream.off, cases[i].off);
			assert_int_equal(f.stream.len, n);
			assert_int_equal(f.stream.fin, fin);
			assert_ptr_equal(f.stream.data, data);
			assert_int_equal(rd_left(&r), 0);
			free(buf);
		}
	}
}

static void frame_write_crypto_header__any_room__fits_exactly(void **state)
{
	static const struct { uint64_t off; size_t len; } cases[] = {
		{ 0, 1 }, { 0, 1000 }, { 70000, 300 }, { 64, 64 },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		for (size_t room = 0; room < 1100; room++) {
			uint8_t *buf = malloc(room + 1);
			struct wr w = wr_of(buf, room);
			size_t n = frame_write_crypto_header(&w, cases[i].off, cases[i].len);
			assert_int_equal(n > 0, room >= 1 + varint_len(cases[i].off) + 2);
			assert_false(w.failed);
			if (n == 0) {
				assert_int_equal(wr_len(&w), 0);
			} else {
				assert_true(n <= cases[i].len && n <= wr_left(&w));
				if (n < cases[i].len)
					assert_true(wr_left(&w) - n <= 1);
				memset(wr_claim(&w, n), 0x5a, n);
				struct rd r = rd_of(buf, wr_len(&w));
				struct frame f;
				assert_int_equal(frame_decode(&r, LEVEL_HANDSHAKE, &f), 0);
				assert_int_equal(f.crypto.off, cases[i].off);
				assert_int_equal(f.crypto.len, n);
			}
			free(buf);
		}
	}
}

/* RFC9000 19.19-6.8: UTF-8 stays UTF-8 wherever it is cut. */
static void frame_write_close__any_room__reason_cut_between_characters(void **state)
{
	static const char reason[] = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";	/* 1, 2, 3, 4 and 1 bytes */
	static const size_t cut[] = { 0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11 };
	for (int app = 0; app < 2; app++) {
		size_t head = app ? 4 : 5;
		for (size_t room = 0; room < head + COUNT(cut); room++) {
			uint8_t *buf = malloc(room + 1);
			struct wr w = wr_of(buf, room);
			bool ok = frame_write_close(&w, app, 0x123, 0x08, reason, sizeof(reason) - 1);
			assert_int_equal(ok, room >= head);
			assert_false(w.failed);
			if (ok) {
				struct rd r = rd_of(buf, wr_len(&w));
				struct frame f;
				assert_int_equal(frame_decode(&r, LEVEL_APP, &f), 0);
				assert_int_equal(f.kind, app ? FRAME_APPLICATION_CLOSE : FRAME_CONNECTION_CLOSE);
				assert_int_equal(f.close.code, 0x123);
				assert_int_equal(f.close.frame_type, app ? 0 : 0x08);
				assert_int_equal(f.close.reason_len, cut[room - head]);
				assert_memory_equal(f.close.reason, reason, f.close.reason_len);
			} else {
				assert_int_equal(wr_len(&w), 0);
			}
			free(buf);
		}
	}
}

static void frame_write__on_a_failed_writer__writes_nothing(void **state)
{
	uint8_t buf[64];
	struct wr w = wr_of(buf, sizeof(buf));
	struct rangeset rs;
	bool fin;
	rangeset_init(&rs, 4);
	assert_int_equal(rangeset_add(&rs, 1, 2), 0);
	w.failed = true;
	for (size_t k = 0; k < FRAME_KIND_COUNT; k++)
		assert_false(write_kind(&w, (enum frame_kind)k, false));
	assert_false(frame_write_ack(&w, &rs, 0, NULL, 1));
	assert_int_equal(frame_write_crypto_header(&w, 0, 5), 0);
	assert_int_equal(frame_write_stream_header(&w, 0, 0, 5, true, &fin), -1);
	assert_false(frame_write_close(&w, false, 0, 0, "x", 1));
	assert_int_equal(wr_len(&w), 0);
	rangeset_fini(&rs);
}

/* Never outside the buffer, never without progress, and ACK ranges always walkable. */
static void frame_decode__random_bytes__safe_and_progressing(void **state)
{
	uint64_t seed = test_seed(3), rnd = seed;
	for (int i = 0; i < 100000; i++) {
		uint8_t buf[64];
		for (size_t k = 0; k < sizeof(buf); k++)
			/* mostly small numbers */
			buf[k] = (uint8_t)(splitmix64(&rnd) >> (splitmix64(&rnd) % 8 ? 60 : 56));
		buf[0] = (uint8_t)(splitmix64(&rnd) % 0x20);
		struct blob b = blob_copy(buf, 1 + splitmix64(&rnd) % sizeof(buf));
		struct rd r = rd_of(b.p, b.len);
		struct frame f;
		for (size_t left = rd_left(&r); left; left = rd_left(&r)) {
			int e = frame_decode(&r, (enum level)(i % LEVEL_COUNT), &f);
			if (e && e != FE && e != PV)
				fail_msg("seed %llu step %d: %d", (unsigned long long)seed, i, e);
			if (e)
				break;
			if (rd_left(&r) >= left)
				fail_msg("seed %llu step %d: no progress", (unsigned long long)seed, i);
			struct ack_iter it;
			struct range g, last = { UINT64_MAX, UINT64_MAX };
			if (f.kind != FRAME_ACK)
				continue;
			for (ack_iter_init(&it, &f.ack); ack_iter_next(&it, &g); last = g) {
				if (g.lo >= g.hi || g.hi >= last.lo)
					fail_msg("seed %llu step %d: ranges", (unsigned long long)seed, i);
			}
		}
		free(b.p);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)
	const struct CMUnitTest tests[] = {
		T(frame_table__against_rfc_table_3__says_the_same),
		T(frame_decode__every_type_at_every_level__only_where_allowed),
		T(frame_decode__every_truncation__is_an_encoding_error),
		T(frame_decode__types_unknown_or_overlong__exact_codes),
		T(frame_decode__values_at_and_over_their_limits__exact_codes),
		T(frame_decode__stream_forms__fields),
		T(frame_decode__padding__takes_the_whole_run),
		T(frame_decode__several_frames__one_at_a_time),
		T(frame_decode__other_kinds__fields),
		T(ack_iter__gaps_and_lengths__half_open_ranges_downward),
		T(frame_write_ack__any_room__highest_ranges_that_fit),
		T(frame_write_ack__extremes__round_trip),
		T(frame_write__simple_kinds__bytes_and_room),
		T(frame_write_stream_header__any_room__fits_exactly),
		T(frame_write_crypto_header__any_room__fits_exactly),
		T(frame_write_close__any_room__reason_cut_between_characters),
		T(frame_write__on_a_failed_writer__writes_nothing),
		T(frame_decode__random_bytes__safe_and_progressing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
