/* wire/packet: headers from RFC examples, every truncation, and what to drop. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "unit/wire_hex.h"
#include "wire/packet.h"
#include "wire/varint.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static struct cid cid_hex(const char *hex)
{
	struct blob b = blob_hex(hex);
	struct cid cid = { .len = (uint8_t)b.len };
	memcpy(cid.b, b.p, b.len);
	free(b.p);
	return cid;
}

static void expect_cid(const struct cid *got, const char *hex)
{
	struct cid want = cid_hex(hex);
	assert_int_equal(got->len, want.len);
	assert_memory_equal(got->b, want.b, want.len);
}

/* The header followed by zeros up to total bytes. */
static struct blob with_payload(const char *header_hex, size_t total)
{
	struct blob h = blob_hex(header_hex);
	uint8_t buf[2048] = { 0 };
	memcpy(buf, h.p, h.len);
	free(h.p);
	return blob_copy(buf, total);
}

static void expect_written(const struct wr *w, const char *hex)
{
	struct blob want = blob_hex(hex);
	assert_int_equal(wr_len(w), want.len);
	assert_memory_equal(w->start, want.p, want.len);
	free(want.p);
}

/* RFC9000 A.2; RFC9000 17.1-4 */
static void pn_encoded_len__vectors_and_edges__cover_twice_the_range(void **state)
{
	static const struct { uint64_t pn, acked; size_t want; } cases[] = {
		{ 0xac5c02, 0xabe8b3, 2 },
		{ 0xace8fe, 0xabe8b3, 3 },
		{ 0, PN_NONE, 1 },
		{ 126, PN_NONE, 1 },
		{ 127, PN_NONE, 2 },
		{ 127, 0, 1 },
		{ 128, 0, 2 },
		{ 0x7fff, 0, 2 },
		{ 0x8000, 0, 3 },
		{ 0x7fffff, 0, 3 },
		{ 0x800000, 0, 4 },
		{ 0x7fffffff, 0, 4 },
		{ VARINT_MAX, VARINT_MAX - 1, 1 },
		{ VARINT_MAX, 0, 4 },
	};
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(pn_encoded_len(cases[i].pn, cases[i].acked), cases[i].want);
}

/* RFC9000 A.3; RFC9000 17.1-6 */
static void pn_decode__vectors_and_edges__closest_to_the_next_expected(void **state)
{
	static const struct { uint64_t truncated; size_t len; uint64_t largest, want; } cases[] = {
		{ 0x9b32, 2, 0xa82f30ea, 0xa82f9b32 },
		{ 0, 1, PN_NONE, 0 },
		{ 0xff, 1, PN_NONE, 0xff },
		{ 0xffffffff, 4, PN_NONE, 0xffffffff },
		{ 0, 1, 0xff, 0x100 },
		{ 0xff, 1, 0x100, 0xff },
		{ 0x80, 1, 0x1ff, 0x280 },	/* expected 0x200: half a window ahead is still ahead */
		{ 0x81, 1, 0x1ff, 0x181 },
		{ 0x00, 1, 0x17f, 0x200 },	/* half a window behind is a window ahead */
		{ 0x01, 1, 0x17f, 0x101 },
		{ 0x01, 1, 0x7f, 0x01 },
		{ 0xffff, 2, VARINT_MAX - 1, VARINT_MAX },
		{ 0x00, 1, VARINT_MAX - 1, VARINT_MAX - 0xff },	/* never above 2^62-1 */
		{ 0x00, 1, VARINT_MAX, VARINT_MAX - 0xff },
		{ 0x05, 4, VARINT_MAX, VARINT_MAX - UINT64_C(0xfffffffa) },
	};
	for (size_t i = 0; i < COUNT(cases); i++)
		assert_int_equal(pn_decode(cases[i].truncated, cases[i].len, cases[i].largest), cases[i].want);
}

/* Whatever the receiver has of the numbers from largest_acked up to the one before, it recovers pn. */
static void pn__random__decodes_what_was_encoded(void **state)
{
	uint64_t seed = test_seed(7), rnd = seed;
	for (int i = 0; i < 200000; i++) {
		uint64_t acked = splitmix64(&rnd) >> (2 + splitmix64(&rnd) % 62);
		uint64_t ahead = 1 + (splitmix64(&rnd) >> (33 + splitmix64(&rnd) % 31));
		uint64_t pn = acked + ahead;
		if (pn > VARINT_MAX)
			continue;
		size_t len = pn_encoded_len(pn, acked);
		uint64_t mask = (UINT64_C(1) << 8 * len) - 1;
		uint64_t largest = acked + splitmix64(&rnd) % ahead;
		if (pn_decode(pn & mask, len, largest) != pn)
			fail_msg("seed %llu step %d", (unsigned long long)seed, i);
	}
}

/* RFC9001 A.2, A.3 */
static void packet_write_long__rfc9001_headers__byte_for_byte(void **state)
{
	uint8_t buf[64];
	size_t off;
	struct wr w = wr_of(buf, sizeof(buf));
	struct cid client = cid_hex("8394c8f03e515708"), server = cid_hex("f067a5502a4262b5"), none = { 0 };
	assert_true(packet_write_long(&w, PACKET_INITIAL, QUIC_V1, &client, &none, NULL, 0, 2, 4, &off));
	packet_patch_length(w.start, off, 4 + 1162 + 16);
	expect_written(&w, "c300000001088394c8f03e5157080000449e00000002");

	w = wr_of(buf, sizeof(buf));
	assert_true(packet_write_long(&w, PACKET_INITIAL, QUIC_V1, &none, &server, NULL, 0, 1, 2, &off));
	packet_patch_length(w.start, off, 0x75);
	expect_written(&w, "c1000000010008f067a5502a4262b50040750001");
}

/* RFC9000 17.2.3, 17.2.4, table 5 */
static void packet_write_long__types__fields_and_type_bits(void **state)
{
	uint8_t buf[64];
	size_t off;
	struct cid d = cid_hex("0102"), s = cid_hex("03");
	struct wr w = wr_of(buf, sizeof(buf));
	assert_true(packet_write_long(&w, PACKET_0RTT, QUIC_V1, &d, &s, NULL, 0, 0x123456, 3, &off));
	expect_written(&w, "d2 00000001 02 0102 01 03 0000 123456");
	assert_int_equal(off, 10);
	w = wr_of(buf, sizeof(buf));
	assert_true(packet_write_long(&w, PACKET_HANDSHAKE, QUIC_V1, &d, &s, NULL, 0, 0x1ff, 1, &off));
	expect_written(&w, "e0 00000001 02 0102 01 03 0000 ff");
	w = wr_of(buf, sizeof(buf));
	assert_true(packet_write_long(&w, PACKET_INITIAL, QUIC_V1, &d, &s, (const uint8_t *)"tok", 3, 1, 1, &off));
	expect_written(&w, "c0 00000001 02 0102 01 03 03 746f6b 0000 01");
}

/* RFC9001 A.5 */
static void packet_write_short__rfc9001_header__and_bits(void **state)
{
	uint8_t buf[64];
	struct cid none = { 0 }, d = cid_hex("aabbcc");
	struct wr w = wr_of(buf, sizeof(buf));
	assert_true(packet_write_short(&w, &none, false, false, 654360564, 3));
	expect_written(&w, "4200bff4");
	w = wr_of(buf, sizeof(buf));
	assert_true(packet_write_short(&w, &d, true, true, 7, 1));
	expect_written(&w, "64 aabbcc 07");
	w = wr_of(buf, sizeof(buf));
	assert_true(packet_write_short(&w, &d, true, false, 7, 4));
	expect_written(&w, "63 aabbcc 00000007");
}

/* RFC9001 A.4 */
static void packet_write_retry__rfc9001_packet__without_its_tag(void **state)
{
	uint8_t buf[64];
	struct cid none = { 0 }, s = cid_hex("f067a5502a4262b5");
	struct wr w = wr_of(buf, sizeof(buf));
	assert_true(packet_write_retry(&w, QUIC_V1, &none, &s, (const uint8_t *)"token", 5, 0xff));
	expect_written(&w, "ff000000010008f067a5502a4262b5746f6b656e");
}

static void packet_writers__no_room__leave_the_writer_alone(void **state)
{
	struct cid d = cid_hex("0102030405060708"), s = cid_hex("0a0b");
	static const uint32_t versions[] = { QUIC_V1 };
	struct packet trigger;
	struct blob b = blob_hex("c0 0a0a0a0a 02 0102 01 03");
	struct rd r = rd_of(b.p, b.len);
	assert_int_equal(packet_parse(&r, 8, &trigger), 0);
	for (int kind = 0; kind < 4; kind++) {
		bool ok = false;
		for (size_t cap = 0; cap < 64 && !ok; cap++) {
			uint8_t *buf = malloc(cap + 1);
			size_t off = 999;
			struct wr w = wr_of(buf, cap);
			ok = kind == 0 ? packet_write_long(&w, PACKET_INITIAL, QUIC_V1, &d, &s, (const uint8_t *)"abc",
							   3, 9, 2, &off)
			   : kind == 1 ? packet_write_short(&w, &d, false, false, 9, 2)
			   : kind == 2 ? packet_write_retry(&w, QUIC_V1, &d, &s, (const uint8_t *)"abc", 3, 0)
				       : packet_write_vn(&w, 0, &trigger, versions, 1);
			if (ok) {
				assert_int_equal(wr_left(&w), 0);
			} else {
				assert_int_equal(wr_len(&w), 0);
				assert_int_equal(off, 999);
			}
			assert_false(w.failed);
			free(buf);
		}
		assert_true(ok);
	}
	free(b.p);
}

/* RFC9001 A.2, A.3: parsed as they arrive, header protection on. */
static void packet_parse__rfc9001_initials__fields(void **state)
{
	struct packet p;
	struct blob b = with_payload("c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11", 1200);
	struct rd r = rd_of(b.p, b.len);
	assert_int_equal(packet_parse(&r, 8, &p), 0);
	assert_int_equal(p.type, PACKET_INITIAL);
	assert_int_equal(p.first, 0xc0);
	assert_int_equal(p.version, QUIC_V1);
	expect_cid(&p.dcid, "8394c8f03e515708");
	expect_cid(&p.scid, "");
	assert_int_equal(p.token_len, 0);
	assert_ptr_equal(p.start, b.p);
	assert_int_equal(p.pn_off, 18);
	assert_int_equal(p.len, 1200);
	assert_int_equal(rd_left(&r), 0);
	free(b.p);

	b = with_payload("cf000000010008f067a5502a4262b5004075c0d95a482cd0991cd25b0aac406a", 18 + 0x75);
	r = rd_of(b.p, b.len);
	assert_int_equal(packet_parse(&r, 8, &p), 0);
	expect_cid(&p.dcid, "");
	expect_cid(&p.scid, "f067a5502a4262b5");
	assert_int_equal(p.pn_off, 18);
	assert_int_equal(p.len, 135);
	free(b.p);
}

/* RFC9001 A.4, A.5 */
static void packet_parse__rfc9001_retry_and_short__fields(void **state)
{
	struct packet p;
	struct blob b = blob_hex("ff000000010008f067a5502a4262b5746f6b656e04a265ba2eff4d829058fb3f0f2496ba");
	struct rd r = rd_of(b.p, b.len);
	assert_int_equal(packet_parse(&r, 0, &p), 0);
	assert_int_equal(p.type, PACKET_RETRY);
	expect_cid(&p.scid, "f067a5502a4262b5");
	assert_int_equal(p.token_len, 5);
	assert_memory_equal(p.token, "token", 5);
	assert_ptr_equal(p.retry_tag, b.p + b.len - 16);
	assert_int_equal(p.len, b.len);
	free(b.p);

	b = blob_hex("4cfe4189655e5cd55c41f69080575d7999c25a5bfb");
	r = rd_of(b.p, b.len);
	assert_int_equal(packet_parse(&r, 0, &p), 0);
	assert_int_equal(p.type, PACKET_1RTT);
	assert_int_equal(p.first, 0x4c);
	assert_int_equal(p.pn_off, 1);
	assert_int_equal(p.len, 21);
	assert_int_equal(p.dcid.len, 0);
	free(b.p);
}

/* RFC9000 12.2-1: one of each, one after the other. */
static void packet_parse__coalesced__each_ends_by_its_length(void **state)
{
	static const enum packet_type want[] = { PACKET_INITIAL, PACKET_0RTT, PACKET_HANDSHAKE, PACKET_1RTT };
	uint8_t buf[512];
	struct cid d = cid_hex("0102030405060708"), s = cid_hex("0a");
	struct wr w = wr_of(buf, sizeof(buf));
	size_t start[4];
	for (size_t i = 0; i < 4; i++) {
		size_t off;
		start[i] = wr_len(&w);
		if (i == 3)
			assert_true(packet_write_short(&w, &d, false, false, 1, 2));
		else
			assert_true(packet_write_long(&w, want[i], QUIC_V1, &d, &s, (const uint8_t *)"tk", i ? 0 : 2, 1,
						      2, &off));
		memset(wr_claim(&w, 40 + i), 0xee, 40 + i);
		if (i < 3)
			packet_patch_length(w.start, off, 2 + 40 + i);
	}
	struct blob b = blob_copy(buf, wr_len(&w));
	struct rd r = rd_of(b.p, b.len);
	for (size_t i = 0; i < 4; i++) {
		struct packet p;
		assert_int_equal(packet_parse(&r, 8, &p), 0);
		assert_int_equal(p.type, want[i]);
		assert_ptr_equal(p.start, b.p + start[i]);
		assert_int_equal(p.len - p.pn_off, 2 + 40 + i);
		assert_true(cid_equal(&p.dcid, &d));
		assert_int_equal(p.token_len, i ? 0 : 2);
		assert_int_equal(rd_left(&r), b.len - start[i] - p.len);
	}
	assert_int_equal(rd_left(&r), 0);
	free(b.p);
}

/* RFC9001 5.4.2-6: one without room for a sample is dropped, what follows it is not. */
static void packet_parse__too_short_for_a_sample__dropped_alone(void **state)
{
	struct packet p;
	struct blob b = with_payload("e0 00000001 01 aa 01 bb 13", 10 + 19 + 1 + 1 + 20);
	b.p[29] = 0x40;
	b.p[30] = 0xaa;
	struct rd r = rd_of(b.p, b.len);
	assert_int_equal(packet_parse(&r, 1, &p), QE_DROP);
	assert_int_equal(rd_left(&r), 22);
	assert_false(r.failed);
	assert_int_equal(packet_parse(&r, 1, &p), 0);
	assert_int_equal(p.type, PACKET_1RTT);
	assert_int_equal(p.len - p.pn_off, PN_SAMPLE_ROOM);
	free(b.p);

	b = with_payload("40 aa", 1 + 1 + 19);
	r = rd_of(b.p, b.len);
	assert_int_equal(packet_parse(&r, 1, &p), QE_DROP);
	assert_int_equal(rd_left(&r), 0);
	free(b.p);
}

/* No prefix of a packet is taken for the whole, none reads past its end, and the cursor always moves. */
static void packet_parse__every_truncation__is_dropped(void **state)
{
	static const char *const headers[] = {
		"c0 00000001 02 0102 01 03 03 746f6b 4020",
		"d0 00000001 02 0102 01 03 4020",
		"e0 00000001 14 0102030405060708090a0b0c0d0e0f1011121314 00 80000020",
		"41 0102",
	};
	for (size_t i = 0; i < COUNT(headers); i++) {
		struct blob h = blob_hex(headers[i]);
		size_t need = i == 3 ? h.len + PN_SAMPLE_ROOM : h.len + 32;
		for (size_t len = 0; len <= need; len++) {
			struct packet p;
			struct blob b = with_payload(headers[i], len);
			struct rd r = rd_of(b.p, b.len);
			assert_int_equal(packet_parse(&r, 2, &p), len == need ? 0 : QE_DROP);
			assert_int_equal(rd_left(&r), 0);
			free(b.p);
		}
		free(h.p);
	}
}

/* RFC9000 17.2-3.10 (CIDs over 20), 17.2.5.2-2 (empty Retry token), RFC8999 6-4 */
static void packet_parse__not_processable__is_dropped(void **state)
{
	static const char *const bad[] = {
		"c0 00000001 15 000000000000000000000000000000000000000000 00 00 4014 0000000000000000000000000000000000000000",
		"c0 00000001 00 15 000000000000000000000000000000000000000000 00 4014 0000000000000000000000000000000000000000",
		"c0 00000001 00 00 ffffffffffffffff 00000000",	/* token far too long */
		"c0 00000001 00 00 00 ffffffffffffffff 0000000000000000000000000000000000000000000000000000",
		"f0 00000001 00 00 000102030405060708090a0b0c0d0e0f",	/* Retry: a tag, no token */
		"f0 00000001 00 00 0001020304",
		"80 00000000 00 00",			/* version negotiation without versions */
		"80 00000000 00 00 00000001 0000",	/* half a version */
		"80 00000000 15 000000000000000000000000000000000000000000 00 00000001",
		"80 0a0a0a0a 05 01020304",	/* unknown version, cut inside the CID */
		"80 0a0a0a0a 00",
		"80 0a0a0a",
	};
	for (size_t i = 0; i < COUNT(bad); i++) {
		struct packet p;
		struct blob b = blob_hex(bad[i]);
		struct rd r = rd_of(b.p, b.len);
		assert_int_equal(packet_parse(&r, 0, &p), QE_DROP);
		assert_int_equal(rd_left(&r), 0);
		free(b.p);
	}
}

/* RFC9000 17.2.1 */
static void packet_parse__version_negotiation__lists_versions(void **state)
{
	struct packet p;
	struct blob b = blob_hex("80 00000000 02 0102 01 03 00000001 6b3343cf");	/* fixed bit unset: allowed here */
	struct rd r = rd_of(b.p, b.len);
	assert_int_equal(packet_parse(&r, 2, &p), 0);
	assert_int_equal(p.type, PACKET_VN);
	expect_cid(&p.dcid, "0102");
	expect_cid(&p.scid, "03");
	assert_int_equal(p.versions_len, 8);
	assert_ptr_equal(p.versions, b.p + 10);
	assert_int_equal(p.len, b.len);
	free(b.p);
}

/* A long header of an unknown version with CIDs of dlen and slen bytes, counting upward. */
static struct blob unknown_version(size_t dlen, size_t slen)
{
	uint8_t buf[600] = { 0x80, 0x0a, 0x1a, 0x2a, 0x3a, (uint8_t)dlen };
	for (size_t i = 0; i < dlen; i++)
		buf[6 + i] = (uint8_t)(i + 1);
	buf[6 + dlen] = (uint8_t)slen;
	for (size_t i = 0; i < slen; i++)
		buf[7 + dlen + i] = (uint8_t)(0x80 + i);
	return blob_copy(buf, 7 + dlen + slen + 30);
}

/* RFC9000 17.2.1-6, -9: the CIDs go back swapped, however long. RFC8999 6 */
static void packet_write_vn__any_cid_length__echoed_swapped(void **state)
{
	static const struct { size_t d, s; } lens[] = { { 8, 3 }, { 0, 0 }, { 20, 20 }, { 21, 0 }, { 255, 255 } };
	static const uint32_t versions[] = { QUIC_V1, 0x6b3343cf };
	for (size_t i = 0; i < COUNT(lens); i++) {
		struct packet p;
		struct blob b = unknown_version(lens[i].d, lens[i].s);
		struct rd r = rd_of(b.p, b.len);
		assert_int_equal(packet_parse(&r, 8, &p), 0);
		assert_int_equal(p.type, PACKET_UNKNOWN_VERSION);
		assert_int_equal(p.version, 0x0a1a2a3a);
		assert_int_equal(p.dcid.len, lens[i].d <= CID_MAX ? lens[i].d : 0);
		assert_int_equal(p.scid.len, lens[i].s <= CID_MAX ? lens[i].s : 0);
		assert_int_equal(p.len, b.len);

		uint8_t buf[600];
		struct wr w = wr_of(buf, sizeof(buf));
		assert_true(packet_write_vn(&w, 0x2b, &p, versions, 2));
		assert_int_equal(wr_len(&w), 7 + lens[i].d + lens[i].s + 8);
		assert_int_equal(buf[0], 0xc0 | 0x2b);
		assert_memory_equal(buf + 1, "\0\0\0\0", 4);
		assert_int_equal(buf[5], lens[i].s);
		assert_memory_equal(buf + 6, b.p + 7 + lens[i].d, lens[i].s);
		assert_int_equal(buf[6 + lens[i].s], lens[i].d);
		assert_memory_equal(buf + 7 + lens[i].s, b.p + 6, lens[i].d);
		assert_memory_equal(w.p - 8, "\x00\x00\x00\x01\x6b\x33\x43\xcf", 8);
		free(b.p);
	}
}

/* RFC8999 5.1, 5.2 */
static void packet_peek_dcid__both_forms__only_when_whole(void **state)
{
	struct cid cid;
	struct blob b = blob_hex("c0 0a0a0a0a 03 010203 00");
	for (size_t len = 0; len <= b.len; len++) {
		struct blob cut = blob_copy(b.p, len);
		assert_int_equal(packet_peek_dcid(cut.p, cut.len, 8, &cid), len >= 9);
		free(cut.p);
	}
	expect_cid(&cid, "010203");
	free(b.p);
	b = blob_hex("40 0102030405060708 99");
	for (size_t len = 0; len <= b.len; len++) {
		struct blob cut = blob_copy(b.p, len);
		assert_int_equal(packet_peek_dcid(cut.p, cut.len, 8, &cid), len >= 9);
		free(cut.p);
	}
	expect_cid(&cid, "0102030405060708");
	assert_true(packet_peek_dcid(b.p, b.len, 0, &cid));
	assert_int_equal(cid.len, 0);
	free(b.p);
	b = unknown_version(21, 0);
	assert_false(packet_peek_dcid(b.p, b.len, 8, &cid));
	free(b.p);
}

/* RFC9000 17.2-8.2, 17.3.1-4.8 */
static void packet_reserved_bits__each_form__its_own_mask(void **state)
{
	for (unsigned b = 0; b < 256; b++)
		assert_int_equal(packet_reserved_bits((uint8_t)b), (b & (b & 0x80 ? 0x0c : 0x18)) != 0);
}

static void packet_parse__random_bytes__never_reads_outside_and_always_moves(void **state)
{
	uint64_t seed = test_seed(11), rnd = seed;
	for (int i = 0; i < 50000; i++) {
		uint8_t buf[96];
		for (size_t k = 0; k < sizeof(buf); k++)
			buf[k] = (uint8_t)splitmix64(&rnd);
		if (i % 2)	/* half of them get further than the version */
			memcpy(buf + 1, i % 4 == 1 ? "\0\0\0\1" : "\0\0\0\0", 4);
		if (i % 3)
			buf[5] %= 24;
		struct blob b = blob_copy(buf, splitmix64(&rnd) % sizeof(buf));
		struct rd r = rd_of(b.p, b.len);
		while (rd_left(&r) > 0) {
			struct packet p;
			size_t left = rd_left(&r);
			int e = packet_parse(&r, 8, &p);
			if (rd_left(&r) >= left || (e != 0 && e != QE_DROP))
				fail_msg("seed %llu step %d", (unsigned long long)seed, i);
			if (e == 0 && (p.len > left || p.pn_off > p.len))
				fail_msg("seed %llu step %d: length", (unsigned long long)seed, i);
		}
		free(b.p);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pn_encoded_len__vectors_and_edges__cover_twice_the_range),
		cmocka_unit_test(pn_decode__vectors_and_edges__closest_to_the_next_expected),
		cmocka_unit_test(pn__random__decodes_what_was_encoded),
		cmocka_unit_test(packet_write_long__rfc9001_headers__byte_for_byte),
		cmocka_unit_test(packet_write_long__types__fields_and_type_bits),
		cmocka_unit_test(packet_write_short__rfc9001_header__and_bits),
		cmocka_unit_test(packet_write_retry__rfc9001_packet__without_its_tag),
		cmocka_unit_test(packet_writers__no_room__leave_the_writer_alone),
		cmocka_unit_test(packet_parse__rfc9001_initials__fields),
		cmocka_unit_test(packet_parse__rfc9001_retry_and_short__fields),
		cmocka_unit_test(packet_parse__coalesced__each_ends_by_its_length),
		cmocka_unit_test(packet_parse__too_short_for_a_sample__dropped_alone),
		cmocka_unit_test(packet_parse__every_truncation__is_dropped),
		cmocka_unit_test(packet_parse__not_processable__is_dropped),
		cmocka_unit_test(packet_parse__version_negotiation__lists_versions),
		cmocka_unit_test(packet_write_vn__any_cid_length__echoed_swapped),
		cmocka_unit_test(packet_peek_dcid__both_forms__only_when_whole),
		cmocka_unit_test(packet_reserved_bits__each_form__its_own_mask),
		cmocka_unit_test(packet_parse__random_bytes__never_reads_outside_and_always_moves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
