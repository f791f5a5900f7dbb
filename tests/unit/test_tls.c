/* The handshake itself: both ends of the built backend against each other, in memory. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "support/certs.h"
#include "support/leak.h"
#include "support/tlspair.h"
#include "tls/backend.h"

static char dir[64];

static struct tls_config *config(struct tls_settings s)
{
	return pair_config_usual(s, dir);
}

static struct tls_config *plain(bool is_server)
{
	return config((struct tls_settings){ .is_server = is_server });
}

static void tls__full_handshake__every_suite(void **state)
{
	static const uint16_t suites[] = { 0x1301, 0x1302, 0x1303 };
	for (size_t i = 0; i < 3; i++) {
		struct tls_config *c = config((struct tls_settings){ .suites = &suites[i], .suite_count = 1 });
		struct tls_config *s = config((struct tls_settings){ .is_server = true });
		struct pair p;
		pair_init(&p, c, s, "a.example");
		assert_true(pair_handshake(&p));
		static const enum level levels[] = { LEVEL_HANDSHAKE, LEVEL_APP };
		for (size_t l = 0; l < 2; l++) {
			for (int tx = 0; tx < 2; tx++) {
				const struct secret *a = &p.client.secret[levels[l]][tx];
				const struct secret *b = &p.server.secret[levels[l]][!tx];
				assert_int_equal(a->times, 1);
				assert_int_equal(b->times, 1);
				assert_int_equal(a->suite, suites[i]);
				assert_int_equal(b->suite, suites[i]);
				assert_int_equal(a->len, suites[i] == 0x1302 ? 48 : 32);
				assert_memory_equal(a->b, b->b, a->len);
			}
		}
		assert_string_equal(tls_info(p.client.t)->alpn, "hq");
		assert_string_equal(tls_info(p.server.t)->alpn, "hq");
		assert_int_equal(tls_info(p.client.t)->suite, suites[i]);
		assert_int_equal(tls_info(p.server.t)->suite, suites[i]);
		assert_string_equal(tls_info(p.server.t)->sni, "a.example");
		assert_false(tls_info(p.client.t)->resumed);
		assert_int_equal(p.client.params_calls, 1);
		assert_int_equal(p.server.params_calls, 1);
		assert_string_equal((char *)p.client.params, SERVER_PARAMS);
		assert_string_equal((char *)p.server.params, CLIENT_PARAMS);
		assert_int_equal(p.client.sessions, 1);
		pair_fini(&p);
		tls_config_unref(c);
		tls_config_unref(s);
	}
}

/* ---- bytes in ------------------------------------------------------------ */

/* RFC9001 4.1.3 */
static void tls_recv__any_chunk_size__completes(void **state)
{
	static const size_t sizes[] = { 1, 2, 3, 7, 129, 1000, 16384, 16385 };
	struct tls_cert_file big = { in_dir(dir, "big.example.crt"), in_dir(dir, "big.example.key"), NULL };
	struct tls_config *c = config((struct tls_settings){ 0 });
	struct tls_config *s = config((struct tls_settings){ .is_server = true, .certs = &big, .cert_count = 1 });
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		struct pair p;
		pair_init(&p, c, s, "big.example");
		pair_start(&p);
		pair_pump(&p, sizes[i]);
		assert_int_equal(p.client.error, 0);
		assert_int_equal(p.server.error, 0);
		assert_int_equal(tls_state(p.client.t), TLS_DONE);
		assert_int_equal(tls_state(p.server.t), TLS_DONE);
		assert_int_equal(p.client.sessions, 1);
		assert_true(p.server.bytes[LEVEL_HANDSHAKE] > 40000);
		pair_fini(&p);
	}
	tls_config_unref(c);
	tls_config_unref(s);
}

static void tls_recv__wrong_level__protocol_violation(void **state)
{
	static const enum level wrong[] = { LEVEL_EARLY, LEVEL_HANDSHAKE, LEVEL_APP };
	struct tls_config *c = plain(false), *s = plain(true);
	for (size_t i = 0; i < 3; i++) {
		struct pair p;
		pair_init(&p, c, s, "a.example");
		pair_start(&p);
		assert_int_equal(tls_read_level(p.server.t), LEVEL_INITIAL);
		assert_int_equal(tls_recv(p.server.t, wrong[i], (const uint8_t *)"x", 1), QE_PROTOCOL_VIOLATION);
		assert_int_equal(tls_state(p.server.t), TLS_FAILED);
		/* Latched: what would be right is refused alike. */
		assert_int_equal(tls_recv(p.server.t, LEVEL_INITIAL, (const uint8_t *)"x", 1), QE_PROTOCOL_VIOLATION);
		assert_true(tls_error_text(p.server.t)[0]);
		pair_fini(&p);
	}
	struct pair p;
	pair_init(&p, c, s, "a.example");
	assert_true(pair_handshake(&p));
	assert_int_equal(tls_read_level(p.client.t), LEVEL_APP);
	assert_int_equal(tls_recv(p.client.t, LEVEL_INITIAL, (const uint8_t *)"x", 1), QE_PROTOCOL_VIOLATION);
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

/* RFC8446 5.1 */
static void tls_recv__bytes_behind_last_message__refused(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	for (int where = 0; where < 3; where++) {
		struct pair p;
		struct piece x;
		pair_init(&p, c, s, "a.example");
		pair_start(&p);
		assert_true(side_take(&p.client, &x));
		if (where == 0) {
			assert_int_equal(recv_with_tail(p.server.t, &x, 5), QE_PROTOCOL_VIOLATION);
			pair_fini(&p);
			continue;
		}
		assert_int_equal(recv_with_tail(p.server.t, &x, 0), 0);
		assert_true(side_take(&p.server, &x));	/* ServerHello */
		assert_int_equal(recv_with_tail(p.client.t, &x, where == 1 ? 5 : 0),
				 where == 1 ? QE_PROTOCOL_VIOLATION : 0);
		if (where == 2) {
			while (tls_state(p.client.t) == TLS_RUNNING && side_take(&p.server, &x))
				assert_int_equal(recv_with_tail(p.client.t, &x, 0), 0);
			assert_true(side_take(&p.client, &x));	/* Finished */
			assert_int_equal(x.level, LEVEL_HANDSHAKE);
			assert_int_equal(recv_with_tail(p.server.t, &x, 5), QE_PROTOCOL_VIOLATION);
		}
		pair_fini(&p);
	}
	tls_config_unref(c);
	tls_config_unref(s);
}

/* RFC9001 8.4 */
static void tls_recv__session_id__protocol_violation(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	for (size_t chunk = 1; chunk < 4000; chunk += 3998) {
		struct pair p;
		int e = 0;
		pair_init(&p, c, s, "a.example");
		/* Set on this one client only: it fills the field as over TCP. */
		SSL_set_options(p.client.t->ssl, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
		pair_start(&p);
		struct piece hello;
		assert_true(side_take(&p.client, &hello));
		if (!hello.data[38]) {	/* OpenSSL's own QUIC interface knows better */
			hello.data[38] = 1;
		} else {
			assert_int_equal(hello.data[38], 32);
		}
		for (size_t off = 0; off < hello.len && !e; off += chunk) {
			size_t n = hello.len - off < chunk ? hello.len - off : chunk;
			e = tls_recv(p.server.t, LEVEL_INITIAL, hello.data + off, n);
		}
		assert_int_equal(e, QE_PROTOCOL_VIOLATION);
		free(hello.data);
		pair_fini(&p);
	}
	tls_config_unref(c);
	tls_config_unref(s);
}

static void tls_recv__bad_finished__decrypt_error(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	struct pair p;
	struct piece x;
	pair_init(&p, c, s, "a.example");
	pair_start(&p);
	assert_true(side_take(&p.client, &x));
	assert_int_equal(recv_with_tail(p.server.t, &x, 0), 0);
	while (side_take(&p.server, &x))
		assert_int_equal(recv_with_tail(p.client.t, &x, 0), 0);
	assert_true(side_take(&p.client, &x));
	x.data[x.len - 1] ^= 1;
	assert_int_equal(recv_with_tail(p.server.t, &x, 0), QE_TLS(51));	/* 0x133 */
	assert_int_equal(qe_wire(QE_TLS(51)), 0x133);
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

/* A ClientHello damaged anywhere is refused or answered, never worse. */
static void tls_recv__damaged_hello__no_harm(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	struct pair p;
	struct piece hello, x;
	pair_init(&p, c, s, "a.example");
	pair_start(&p);
	assert_true(side_take(&p.client, &hello));
	size_t step = hello.len > 600 ? hello.len / 300 : 1;	/* post-quantum shares make it long */
	for (size_t i = 0; i < hello.len; i += step) {
		struct pair q;
		pair_init(&q, c, s, NULL);
		pair_start(&q);
		uint8_t *b = malloc(hello.len);
		memcpy(b, hello.data, hello.len);
		b[i] ^= 0xff;
		int e = tls_recv(q.server.t, LEVEL_INITIAL, b, hello.len);
		assert_true(e == 0 || qe_is_peer(e));
		assert_int_equal(tls_state(q.server.t) == TLS_FAILED, e != 0);
		free(b);
		while (side_take(&q.server, &x))
			free(x.data);
		pair_fini(&q);
	}
	free(hello.data);
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

/* ---- negotiation --------------------------------------------------------- */

static void handshake_fails(struct tls_config *c, struct tls_config *s, bool on_server, uint64_t code)
{
	struct pair p;
	pair_init(&p, c, s, "a.example");
	assert_false(pair_handshake(&p));
	struct side *side = on_server ? &p.server : &p.client;
	assert_int_equal(qe_wire(side->error), code);
	assert_int_equal(tls_state(side->t), TLS_FAILED);
	assert_true(tls_error_text(side->t)[0]);
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

static void tls__alpn__server_prefers(void **state)
{
	static const char *const ours[] = { "h3", "hq" }, *const theirs[] = { "other", "hq", "h3" };
	struct tls_config *c = config((struct tls_settings){ .alpn = theirs, .alpn_count = 3 });
	struct tls_config *s = config((struct tls_settings){ .is_server = true, .alpn = ours, .alpn_count = 2 });
	struct pair p;
	pair_init(&p, c, s, "a.example");
	assert_true(pair_handshake(&p));
	assert_string_equal(tls_info(p.client.t)->alpn, "h3");
	assert_string_equal(tls_info(p.server.t)->alpn, "h3");
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

/* RFC9001 8.1 */
static void tls__alpn_mismatch__no_application_protocol(void **state)
{
	static const char *const other[] = { "other" };
	handshake_fails(config((struct tls_settings){ .alpn = other, .alpn_count = 1 }),
			config((struct tls_settings){ .is_server = true }), true, 0x178);
}

static void tls__client_without_alpn__no_application_protocol(void **state)
{
	struct tls_config *c = config((struct tls_settings){ 0 });
	SSL_CTX_set_alpn_protos(c->ctx, NULL, 0);
	handshake_fails(c, config((struct tls_settings){ .is_server = true }), true, 0x178);
}

static int alpn_none(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in, unsigned in_len, void *arg)
{
	return SSL_TLSEXT_ERR_NOACK;
}

static int alpn_unasked(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in, unsigned in_len, void *arg)
{
	*out = (const uint8_t *)"zz";
	*out_len = 2;
	return SSL_TLSEXT_ERR_OK;
}

/* RFC7301 3.1: also a choice that was not offered. */
static void tls__server_with_bad_alpn__client_refuses(void **state)
{
	for (int i = 0; i < 2; i++) {
		struct tls_config *c = config((struct tls_settings){ 0 });
		struct tls_config *s = config((struct tls_settings){ .is_server = true });
		struct pair p;
		SSL_CTX_set_alpn_select_cb(s->ctx, i ? alpn_unasked : alpn_none, NULL);
		pair_init(&p, c, s, "a.example");
		p.server.t->negotiated = true;	/* a server that does not care */
		pair_handshake(&p);
		assert_int_equal(p.server.error, 0);
		/* A newer OpenSSL sees an unasked choice itself, as a decode error. */
		if (!i || qe_wire(p.client.error) != 0x132)
			assert_int_equal(qe_wire(p.client.error), 0x178);
		pair_fini(&p);
		tls_config_unref(c);
		tls_config_unref(s);
	}
}

/* RFC9001 8.2 */
static void tls__client_without_params__missing_extension(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	struct pair p;
	struct piece hello;
	pair_init(&p, c, s, "a.example");
	pair_start(&p);
	assert_true(side_take(&p.client, &hello));
	/* Not by leaving them out: OpenSSL's own QUIC interface sends empty ones then. */
	uint8_t *at = memmem(hello.data, hello.len, CLIENT_PARAMS, strlen(CLIENT_PARAMS));
	assert_non_null(at);
	at[-4] = at[-3] = 0x1a;	/* a grease extension, RFC 8701 */
	assert_int_equal(qe_wire(recv_with_tail(p.server.t, &hello, 0)), 0x16d);
	assert_int_equal(p.server.params_calls, 0);
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

static void tls__server_without_params__missing_extension(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	struct pair p;
	pair_init(&p, c, s, "a.example");
	mem_free(p.server.t->params);
	p.server.t->params = NULL;
	bool ok = pair_handshake(&p);
	if (p.client.params_calls) {	/* empty ones, see above */
		assert_true(ok);
		assert_int_equal(p.client.params_len, 0);
	} else {
		assert_int_equal(qe_wire(p.client.error), 0x16d);
	}
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

static void tls__params_refused__code_is_kept(void **state)
{
	for (int by_server = 0; by_server < 2; by_server++) {
		struct tls_config *c = config((struct tls_settings){ 0 });
		struct tls_config *s = config((struct tls_settings){ .is_server = true });
		struct pair p;
		pair_init(&p, c, s, "a.example");
		struct side *x = by_server ? &p.server : &p.client;
		x->params_answer = QE_TRANSPORT_PARAMETER;
		assert_false(pair_handshake(&p));
		assert_int_equal(x->error, QE_TRANSPORT_PARAMETER);
		assert_int_equal(x->params_calls, 1);
		pair_fini(&p);
		tls_config_unref(c);
		tls_config_unref(s);
	}
}

static void tls__no_common_group__handshake_failure(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	SSL_CTX_set1_groups_list(c->ctx, "X25519");
	SSL_CTX_set1_groups_list(s->ctx, "P-256");
	handshake_fails(c, s, true, 0x128);
}

/* RFC9001 4.2 */
static void tls__tls12_only_client__protocol_version(void **state)
{
	struct tls_config *s = config((struct tls_settings){ .is_server = true });
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	SSL_CTX_set_max_proto_version(ctx, TLS1_2_VERSION);
	SSL *old = SSL_new(ctx);
	BIO *out = BIO_new(BIO_s_mem());
	SSL_set_bio(old, BIO_new(BIO_s_mem()), out);
	SSL_connect(old);
	char *record;
	long len = BIO_get_mem_data(out, &record);
	assert_true(len > 5);
	struct side side = { 0 };
	struct tls *t = tls_new(s, &pair_out, &side, NULL);
	assert_int_equal(tls_set_params(t, (const uint8_t *)"p", 1), 0);
	assert_int_equal(tls_start(t), 0);
	assert_int_equal(qe_wire(tls_recv(t, LEVEL_INITIAL, (const uint8_t *)record + 5, (size_t)len - 5)), 0x146);
	tls_free(t);
	SSL_free(old);
	SSL_CTX_free(ctx);
	tls_config_unref(s);
}

/* A client must be able to acknowledge Handshake packets before it has the whole flight. RFC9001 4.1.4 */
static void tls__client_handshake_secret__with_server_hello(void **state)
{
	static const char *const groups[] = { "X25519", "P-256", "P-384", "P-521", "ffdhe2048" };
	static const uint16_t suites[] = { 0x1301, 0x1302 };
	for (size_t i = 0; i < 5; i++) {
		for (size_t j = 0; j < 2; j++) {
			struct tls_config *c = config((struct tls_settings){ .suites = &suites[j], .suite_count = 1 });
			struct tls_config *s = config((struct tls_settings){ .is_server = true });
			struct pair p;
			assert_int_equal(SSL_CTX_set1_groups_list(c->ctx, groups[i]), 1);
			assert_int_equal(SSL_CTX_set1_groups_list(s->ctx, groups[i]), 1);
			pair_init(&p, c, s, "a.example");
			assert_true(pair_handshake(&p));
			assert_true(p.client.hs_tx_before_flight);
			assert_int_equal(p.client.secret[LEVEL_HANDSHAKE][1].times, 1);
			assert_memory_equal(p.client.secret[LEVEL_HANDSHAKE][1].b,
					    p.server.secret[LEVEL_HANDSHAKE][0].b, 32);
			pair_fini(&p);
			tls_config_unref(c);
			tls_config_unref(s);
		}
	}
}

static void tls__hello_retry__completes(void **state)
{
	static const size_t sizes[] = { 1, SIZE_MAX };
	for (size_t i = 0; i < 2; i++) {
		struct tls_config *c = config((struct tls_settings){ 0 });
		struct tls_config *s = config((struct tls_settings){ .is_server = true });
		struct pair p;
		SSL_CTX_set1_groups_list(c->ctx, "X25519:P-256");
		SSL_CTX_set1_groups_list(s->ctx, "P-256");
		pair_init(&p, c, s, "a.example");
		pair_start(&p);
		size_t first = p.client.bytes[LEVEL_INITIAL];
		pair_pump(&p, sizes[i]);
		assert_int_equal(tls_state(p.client.t), TLS_DONE);
		assert_int_equal(tls_state(p.server.t), TLS_DONE);
		assert_true(p.client.bytes[LEVEL_INITIAL] > first + 100);	/* there was a second one */
		assert_int_equal(p.server.params_calls, 1);
		assert_true(p.client.hs_tx_before_flight);
		pair_fini(&p);
		tls_config_unref(c);
		tls_config_unref(s);
	}
}

static int setup_all(void **state)
{
	struct ca *ca = ca_make("test CA");
	testdir_make(dir);
	*state = dir;
	ca_write(ca, dir, "ca");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:a.example,DNS:b.example" }, dir, "a.example");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:big.example", .padding = 80000 }, dir, "big.example");
	ca_free(ca);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(tls__full_handshake__every_suite),
		T(tls_recv__any_chunk_size__completes),
		T(tls_recv__wrong_level__protocol_violation),
		T(tls_recv__bytes_behind_last_message__refused),
		T(tls_recv__session_id__protocol_violation),
		T(tls_recv__bad_finished__decrypt_error),
		T(tls_recv__damaged_hello__no_harm),
		T(tls__alpn__server_prefers),
		T(tls__alpn_mismatch__no_application_protocol),
		T(tls__client_without_alpn__no_application_protocol),
		T(tls__server_with_bad_alpn__client_refuses),
		T(tls__client_without_params__missing_extension),
		T(tls__server_without_params__missing_extension),
		T(tls__params_refused__code_is_kept),
		T(tls__no_common_group__handshake_failure),
		T(tls__tls12_only_client__protocol_version),
		T(tls__client_handshake_secret__with_server_hello),
		T(tls__hello_retry__completes),
	};
	return cmocka_run_group_tests(tests, setup_all, testdir_teardown);
}
