/* wire/tparams: each parameter at and over its limits, and there and back. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "unit/wire_hex.h"
#include "wire/tparams.h"
#include "wire/varint.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define BAD QE_TRANSPORT_PARAMETER
#define TOKEN "000102030405060708090a0b0c0d0e0f"
#define CID20 "0102030405060708090a0b0c0d0e0f1011121314"
/* preferred_address up to the connection ID's length */
#define ADDRS "c0000201 01bb 20010db8000000000000000000000001 11d1"

static int decode(const char *hex, bool from_server, struct tparams *tp)
{
	struct blob b = blob_hex(hex);
	int e = tparams_decode(b.p, b.len, from_server, tp);
	free(b.p);
	return e;
}

static struct cid cid_of(uint8_t len, uint8_t first)
{
	struct cid c = { .len = len };
	for (uint8_t i = 0; i < len; i++)
		c.b[i] = (uint8_t)(first + i);
	return c;
}

/* RFC9000 18.2: what is absent */
static void tparams_init__defaults__of_rfc9000_18_2(void **state)
{
	struct tparams tp, empty;
	tparams_init(&tp);
	assert_int_equal(tp.max_idle_timeout_ms, 0);
	assert_int_equal(tp.max_udp_payload, 65527);
	assert_int_equal(tp.max_data, 0);
	assert_int_equal(tp.max_streams_bidi | tp.max_streams_uni, 0);
	assert_int_equal(tp.ack_delay_exponent, 3);
	assert_int_equal(tp.max_ack_delay_ms, 25);
	assert_int_equal(tp.active_cid_limit, 2);
	assert_false(tp.disable_active_migration || tp.has_initial_scid || tp.has_preferred || tp.has_reset_token);
	assert_int_equal(tparams_decode(NULL, 0, false, &empty), 0);
	assert_memory_equal(&tp, &empty, sizeof(tp));
}

static void tparams_decode__values_at_and_over_their_limits__accepted_or_refused(void **state)
{
	static const struct { const char *hex; int server, client; } cases[] = {
		{ "01 08 ffffffffffffffff", 0, 0 },
		{ "01 02 4001", 0, 0 },		/* not the shortest form: allowed for integers */
		{ "01 00", BAD, BAD },		/* no integer */
		{ "01 02 0101", BAD, BAD },	/* an integer and more */
		{ "01 01 40", BAD, BAD },	/* half an integer */
		{ "03 02 44b0", 0, 0 },		/* 1200 */
		{ "03 02 44af", BAD, BAD },	/* RFC9000 18.2-4.8.2 */
		{ "03 04 80010000", 0, 0 },
		{ "04 08 ffffffffffffffff", 0, 0 },
		{ "08 08 d000000000000000", 0, 0 },	/* RFC9000 4.6-2: 2^60 */
		{ "08 08 d000000000000001", BAD, BAD },
		{ "09 08 d000000000000000", 0, 0 },
		{ "09 08 d000000000000001", BAD, BAD },
		{ "0a 01 14", 0, 0 },		/* 20 */
		{ "0a 01 15", BAD, BAD },	/* RFC9000 18.2-4.22.1 */
		{ "0b 02 7fff", 0, 0 },		/* 2^14-1 */
		{ "0b 04 80004000", BAD, BAD },	/* RFC9000 18.2-4.24.1 */
		{ "0e 01 02", 0, 0 },
		{ "0e 01 01", BAD, BAD },	/* RFC9000 18.2-4.30.1 */
		{ "0e 01 00", BAD, BAD },
		{ "0c 00", 0, 0 },
		{ "0c 01 00", BAD, BAD },
		{ "6ab2 00", 0, 0 },
		{ "6ab2 01 00", BAD, BAD },	/* RFC9287 3-1 */
		{ "0f 00", 0, 0 },
		{ "0f 14 " CID20, 0, 0 },
		{ "0f 15 " CID20 "15", BAD, BAD },
		/* RFC9000 18.2-6: from the server only */
		{ "00 08 0102030405060708", 0, BAD },
		{ "10 08 0102030405060708", 0, BAD },
		{ "02 10 " TOKEN, 0, BAD },
		{ "0d 2a " ADDRS "01 aa" TOKEN, 0, BAD },
		{ "00 15 " CID20 "15", BAD, BAD },
		{ "10 15 " CID20 "15", BAD, BAD },
		{ "02 0f 000102030405060708090a0b0c0d0e", BAD, BAD },
		{ "02 11 " TOKEN "10", BAD, BAD },
		{ "0d 3d " ADDRS "14" CID20 TOKEN, 0, BAD },
		{ "0d 3e " ADDRS "15" CID20 "15" TOKEN, BAD, BAD },
		{ "0d 29 " ADDRS "00" TOKEN, BAD, BAD },	/* RFC9000 18.2-4.28.4 */
		{ "0d 29 " ADDRS "01 aa 000102030405060708090a0b0c0d0e", BAD, BAD },
		{ "0d 2b " ADDRS "01 aa" TOKEN "00", BAD, BAD },
		{ "0d 00", BAD, BAD },
		/* a server with no connection ID of its own offers none elsewhere */
		{ "0f 00 0d 2a " ADDRS "01 aa" TOKEN, BAD, BAD },
		{ "0d 2a " ADDRS "01 aa" TOKEN "0f 00", BAD, BAD },
		{ "0d 2a " ADDRS "01 aa" TOKEN "0f 01 11", 0, BAD },
		/* RFC9000 7.4.2-1, 18.1: unknown and reserved */
		{ "1b 00", 0, 0 },
		{ "1b 03 ffffff", 0, 0 },
		{ "ffffffffffffffff 02 0000", 0, 0 },
		{ "11 01 00", 0, 0 },
		/* RFC9000 7.4-5: repeated */
		{ "01 01 05 04 01 05 01 01 05", BAD, BAD },
		{ "0c 00 0c 00", BAD, BAD },
		{ "0f 00 0f 00", BAD, BAD },
		{ "6ab2 00 6ab2 00", BAD, BAD },
		{ "1b 00 1b 00", BAD, BAD },
		{ "401b 00 1b 00", BAD, BAD },
		{ "7000 00 7001 00 7000 00", BAD, BAD },
		/* cut */
		{ "01", BAD, BAD },
		{ "01 02 40", BAD, BAD },
		{ "40", BAD, BAD },
		{ "1b 40", BAD, BAD },
		{ "1b ffffffffffffffff 00", BAD, BAD },
		{ "01 01 05 1b", BAD, BAD },
	};
	for (size_t i = 0; i < COUNT(cases); i++) {
		struct tparams tp;
		int server = decode(cases[i].hex, true, &tp), client = decode(cases[i].hex, false, &tp);
		if (server != cases[i].server || client != cases[i].client)
			fail_msg("%s: %d from a server, %d from a client", cases[i].hex, server, client);
	}
}

/* RFC9001 A.2: the extension of the sample ClientHello. */
static void tparams_decode__rfc9001_client_hello__fields(void **state)
{
	struct tparams tp;
	assert_int_equal(decode("0408ffffffffffffffff05048000ffff07048000ffff080110010480007530090110"
				"0f088394c8f03e51570806048000ffff", false, &tp), 0);
	assert_int_equal(tp.max_data, VARINT_MAX);
	assert_int_equal(tp.max_stream_data_bidi_local, 65535);
	assert_int_equal(tp.max_stream_data_bidi_remote, 65535);
	assert_int_equal(tp.max_stream_data_uni, 65535);
	assert_int_equal(tp.max_streams_bidi, 16);
	assert_int_equal(tp.max_streams_uni, 16);
	assert_int_equal(tp.max_idle_timeout_ms, 30000);
	assert_true(tp.has_initial_scid);
	assert_int_equal(tp.initial_scid.len, 8);
	assert_memory_equal(tp.initial_scid.b, "\x83\x94\xc8\xf0\x3e\x51\x57\x08", 8);
}

static void tparams_decode__payload_size_above_65527__capped(void **state)
{
	struct tparams tp;
	assert_int_equal(decode("03 08 ffffffffffffffff", true, &tp), 0);
	assert_int_equal(tp.max_udp_payload, 65527);
}

/* More unknown parameters than are remembered are still only ignored. */
static void tparams_decode__flood_of_unknown__ignored(void **state)
{
	struct blob b = { malloc(65536), 0 };
	struct wr w = wr_of(b.p, 65536);
	for (uint64_t id = 100; wr_left(&w) >= 8; id++) {
		wr_varint(&w, id);
		wr_varint(&w, 0);
	}
	wr_bytes(&w, "\x01\x01\x09", 3);
	assert_false(w.failed);
	struct tparams tp;
	assert_int_equal(tparams_decode(b.p, wr_len(&w), false, &tp), 0);
	assert_int_equal(tp.max_idle_timeout_ms, 9);
	free(b.p);
}

static struct tparams everything(void)
{
	struct tparams tp;
	tparams_init(&tp);
	tp.max_idle_timeout_ms = 30000;
	tp.max_udp_payload = 1452;
	tp.max_data = UINT64_C(1) << 40;
	tp.max_stream_data_bidi_local = 1;
	tp.max_stream_data_bidi_remote = 64;
	tp.max_stream_data_uni = 16384;
	tp.max_streams_bidi = UINT64_C(1) << 60;
	tp.max_streams_uni = 100;
	tp.ack_delay_exponent = 0;
	tp.max_ack_delay_ms = 0;
	tp.active_cid_limit = 8;
	tp.disable_active_migration = tp.grease_quic_bit = true;
	tp.has_initial_scid = tp.has_original_dcid = tp.has_retry_scid = tp.has_reset_token = tp.has_preferred = true;
	tp.initial_scid = cid_of(8, 1);
	tp.original_dcid = cid_of(20, 50);
	tp.retry_scid = cid_of(5, 90);
	memset(tp.reset_token, 0x77, sizeof(tp.reset_token));
	memcpy(tp.preferred.ip4, "\xc0\x00\x02\x01", 4);
	memset(tp.preferred.ip6, 0x20, 16);
	tp.preferred.port4 = 443;
	tp.preferred.port6 = 4561;
	tp.preferred.cid = cid_of(7, 100);
	memset(tp.preferred.token, 0x88, sizeof(tp.preferred.token));
	return tp;
}

static void tparams_encode__everything_from_a_server__round_trips(void **state)
{
	uint8_t buf[512];
	struct tparams tp = everything(), back;
	struct wr w = wr_of(buf, sizeof(buf));
	assert_true(tparams_encode(&w, &tp, true, 0x123456789abcdef1));
	assert_int_equal(tparams_decode(buf, wr_len(&w), true, &back), 0);
	assert_memory_equal(&tp, &back, sizeof(tp));
	assert_int_equal(tparams_decode(buf, wr_len(&w), false, &back), BAD);
}

/* RFC9000 18.2-6 */
static void tparams_encode__from_a_client__without_what_servers_say(void **state)
{
	uint8_t buf[512];
	struct tparams tp = everything(), back;
	struct wr w = wr_of(buf, sizeof(buf));
	assert_true(tparams_encode(&w, &tp, false, 5));
	assert_int_equal(tparams_decode(buf, wr_len(&w), false, &back), 0);
	assert_false(back.has_original_dcid || back.has_retry_scid || back.has_reset_token || back.has_preferred);
	assert_true(back.has_initial_scid && cid_equal(&back.initial_scid, &tp.initial_scid));
	assert_int_equal(back.max_streams_bidi, tp.max_streams_bidi);
}

static void tparams_encode__defaults__take_no_bytes(void **state)
{
	uint8_t buf[8];
	struct tparams tp;
	tparams_init(&tp);
	struct wr w = wr_of(buf, sizeof(buf));
	assert_true(tparams_encode(&w, &tp, true, 0));
	assert_int_equal(wr_len(&w), 0);
}

/* RFC9000 18.1 */
static void tparams_encode__grease__is_a_reserved_id(void **state)
{
	static const uint64_t grease[] = { 1, 2, 0xffff, UINT64_C(1) << 58, VARINT_MAX, UINT64_MAX };
	struct tparams tp;
	tparams_init(&tp);
	for (size_t i = 0; i < COUNT(grease); i++) {
		uint8_t buf[32];
		struct wr w = wr_of(buf, sizeof(buf));
		assert_true(tparams_encode(&w, &tp, false, grease[i]));
		struct rd r = rd_of(buf, wr_len(&w));
		uint64_t id = rd_varint(&r);
		assert_int_equal(id % 31, 27);
		assert_int_equal(rd_varint(&r), 1);
		assert_int_equal(rd_uint(&r, 1), grease[i] & 0xff);
		assert_int_equal(rd_left(&r), 0);
		assert_false(r.failed);
		assert_int_equal(tparams_decode(buf, wr_len(&w), false, &tp), 0);
	}
}

static void tparams_encode__no_room__leaves_the_writer_alone(void **state)
{
	struct tparams tp = everything();
	uint8_t buf[512];
	struct wr w = wr_of(buf, sizeof(buf));
	assert_true(tparams_encode(&w, &tp, true, 1));
	size_t need = wr_len(&w);
	for (size_t room = 0; room <= need; room++) {
		uint8_t *p = malloc(room + 1);
		w = wr_of(p, room);
		assert_int_equal(tparams_encode(&w, &tp, true, 1), room == need);
		assert_int_equal(wr_len(&w), room == need ? need : 0);
		assert_false(w.failed);
		free(p);
	}
}

static void tparams_decode__random_bytes__never_out_of_range(void **state)
{
	uint64_t seed = test_seed(5), rnd = seed;
	uint32_t accepted = 0;
	for (int i = 0; i < 100000; i++) {
		uint8_t buf[64];
		for (size_t k = 0; k < sizeof(buf); k++)
			buf[k] = (uint8_t)(splitmix64(&rnd) % (splitmix64(&rnd) % 8 ? 20 : 256));
		struct blob b = blob_copy(buf, splitmix64(&rnd) % sizeof(buf));
		struct tparams tp;
		int e = tparams_decode(b.p, b.len, i % 2, &tp);
		accepted += e == 0;
		if (e != 0 && e != BAD)
			fail_msg("seed %llu step %d: %d", (unsigned long long)seed, i, e);
		if (e == 0 && (tp.max_udp_payload < 1200 || tp.max_udp_payload > 65527 || tp.ack_delay_exponent > 20 ||
			       tp.max_ack_delay_ms >= 1 << 14 || tp.active_cid_limit < 2 ||
			       tp.initial_scid.len > CID_MAX || tp.original_dcid.len > CID_MAX))
			fail_msg("seed %llu step %d: out of range", (unsigned long long)seed, i);
		free(b.p);
	}
	assert_true(accepted > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tparams_init__defaults__of_rfc9000_18_2),
		cmocka_unit_test(tparams_decode__values_at_and_over_their_limits__accepted_or_refused),
		cmocka_unit_test(tparams_decode__rfc9001_client_hello__fields),
		cmocka_unit_test(tparams_decode__payload_size_above_65527__capped),
		cmocka_unit_test(tparams_decode__flood_of_unknown__ignored),
		cmocka_unit_test(tparams_encode__everything_from_a_server__round_trips),
		cmocka_unit_test(tparams_encode__from_a_client__without_what_servers_say),
		cmocka_unit_test(tparams_encode__defaults__take_no_bytes),
		cmocka_unit_test(tparams_encode__grease__is_a_reserved_id),
		cmocka_unit_test(tparams_encode__no_room__leaves_the_writer_alone),
		cmocka_unit_test(tparams_decode__random_bytes__never_out_of_range),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
