/* What a peer may not say in a handshake, and the exact code it is told for it: messages where none belong, hellos
 * without what QUIC needs, transport parameters out of range. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/unhex.h"
#include "support/verdict.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define I LEVEL_INITIAL
#define H LEVEL_HANDSHAKE
#define A LEVEL_APP
#define PV QE_PROTOCOL_VIOLATION
#define TOKEN16 "00112233445566778899aabbccddeeff"
#define CID8 "0102030405060708"

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
		scene_init_client_only(&s, true);
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
	scene_init_client_only(&s, true);
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
		scene_init_client_only(&s, true);
		size_t len = injector_client_hello(s.p.client, hello, sizeof(hello));
		size_t n = alter_params(r, &s.p.client->ours, false, params);
		len = hello_set_extension(hello, len, sizeof(hello), EXT_PARAMS, params, n);
		start_server(&s, hello, len);
		expect_closed(&s, r->rfc, r->what, QE_TRANSPORT_PARAMETER, 0x06);
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
		scene_init_client_only(&s, false);
		uint8_t first[INJECT_MAX], params[512];
		size_t len = injector_make_server(&s.i, NULL, NULL, first);
		size_t n = alter_params(r, &s.p.server->ours, true, params);
		injector_server_params(&s.i, params, n);
		injector_feed_server(&s.i, first, len);
		connpair_run(&s.p, s.p.now_us + s.p.delay_us);
		expect_closed(&s, r->rfc, r->what, QE_TRANSPORT_PARAMETER, 0x06);
		scene_fini(&s);
	}
}

/* A server that names a preferred address, and goes on as if it had not. same_id: the id there is the one in use. */
static void prefer_address(struct scene *s, bool same_id)
{
	uint8_t first[INJECT_MAX], params[512];
	scene_init_client_only(s, false);
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
	expect_closed(&s, "RFC9000 5.1.1-2", "one id under two numbers", QE_TRANSPORT_PARAMETER, 0x06);
	scene_fini(&s);
}

#define T(f) cmocka_unit_test_setup_teardown(f, verdict_setup, verdict_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(violations__tls_messages),
		T(violations__crypto_left_over__to_client),
		T(violations__client_hello),
		T(violations__crypto_left_over__to_server),
		T(violations__transport_parameters__to_server),
		T(violations__transport_parameters__to_client),
		T(violations__preferred_address__its_id_counts_as_number_1),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
