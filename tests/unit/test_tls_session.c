/* Sessions and what comes after the handshake: resumption, tickets, refused messages, release; and no memory. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/ssl.h>
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

/* ---- resumption ---------------------------------------------------------- */

static void take_session(struct tls_config *c, struct tls_config *s, uint8_t *blob, size_t *len)
{
	struct pair p;
	pair_init(&p, c, s, "a.example");
	assert_true(pair_handshake(&p));
	assert_int_equal(p.client.sessions, 1);
	memcpy(blob, p.client.blob, p.client.blob_len);
	*len = p.client.blob_len;
	pair_fini(&p);
}

/* Handshake with a session; did it resume? */
static bool resumes(struct tls_config *c, struct tls_config *s, const char *name, const uint8_t *blob, size_t len)
{
	struct pair p;
	pair_init(&p, c, s, name);
	assert_int_equal(tls_set_session(p.client.t, blob, len), 0);
	if (!pair_handshake(&p))
		fail_msg("client: %s, server: %s", tls_error_text(p.client.t), tls_error_text(p.server.t));
	bool resumed = tls_info(p.client.t)->resumed;
	assert_int_equal(tls_info(p.server.t)->resumed, resumed);
	assert_int_equal(tls_info(p.client.t)->peer_cert, !resumed);
	assert_string_equal(tls_info(p.client.t)->alpn, "hq");
	assert_true(p.client.hs_tx_before_flight);
	if (resumed)	/* a 3.0 server gives none when it was shown one it cannot use */
		assert_int_equal(p.client.sessions, 1);
	pair_fini(&p);
	return resumed;
}

static void assert_no_certificate(struct tls_config *s, const uint8_t *blob, size_t len)
{
	uint8_t *der = NULL;
	int n = i2d_X509(SSL_CTX_get0_certificate(s->ctx), &der);
	assert_true(n > 0);
	assert_null(memmem(blob, len, der, (size_t)n));
	OPENSSL_free(der);
}

static void tls__session__resumes(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	uint8_t blob[8192];
	size_t len, params_len;
	const uint8_t *params;
	/* Groups that compat on a new OpenSSL can redo, for the early secret's sake. */
	SSL_CTX_set1_groups_list(c->ctx, "X25519:P-256");
	take_session(c, s, blob, &len);
	assert_true(tls_session_params(blob, len, &params, &params_len));
	assert_int_equal(params_len, strlen(SERVER_PARAMS));
	assert_no_certificate(s, blob, len);
	assert_memory_equal(params, SERVER_PARAMS, params_len);
	assert_true(resumes(c, s, "a.example", blob, len));
	assert_true(resumes(c, s, "A.Example.", blob, len));
	/* With a HelloRetryRequest between. */
	SSL_CTX_set1_groups_list(s->ctx, "P-256");
	assert_true(resumes(c, s, "a.example", blob, len));
	tls_config_unref(c);
	tls_config_unref(s);
}

/* RFC8446 4.6.1: any suite of the same hash. */
static void tls__session__resumes_under_other_suite(void **state)
{
	static const uint16_t chacha[] = { 0x1303 }, aes256[] = { 0x1302 };
	struct tls_config *c = plain(false), *s = plain(true);
	struct tls_config *c3 = config((struct tls_settings){ .suites = chacha, .suite_count = 1 });
	struct tls_config *c2 = config((struct tls_settings){ .suites = aes256, .suite_count = 1 });
	uint8_t blob[8192];
	size_t len;
	SSL_CTX_set1_groups_list(c->ctx, "X25519:P-256");
	SSL_CTX_set1_groups_list(c2->ctx, "X25519:P-256");
	SSL_CTX_set1_groups_list(c3->ctx, "X25519:P-256");
	take_session(c, s, blob, &len);
	assert_true(resumes(c3, s, "a.example", blob, len));
	assert_false(resumes(c2, s, "a.example", blob, len));
	tls_config_unref(c);
	tls_config_unref(c2);
	tls_config_unref(c3);
	tls_config_unref(s);
}

static void tls__session__foreign_or_broken_is_ignored(void **state)
{
	static const char *const other_alpn[] = { "other", "hq" }, *const both[] = { "hq", "other" };
	struct tls_config *c = plain(false), *s = plain(true);
	struct tls_config *s2 = config((struct tls_settings){ .is_server = true });
	struct tls_config *insecure = config((struct tls_settings){ .verify = TLS_VERIFY_INSECURE });
	uint8_t blob[8192], copy[8192];
	size_t len;
	struct tls_config *all[] = { c, s, s2, insecure };
	for (size_t i = 0; i < 4; i++)
		SSL_CTX_set1_groups_list(all[i]->ctx, "X25519:P-256");
	take_session(c, s, blob, &len);
	assert_true(resumes(c, s, "a.example", blob, len));
	assert_false(resumes(c, s2, "a.example", blob, len));	/* another server's keys */
	assert_false(resumes(c, s, "b.example", blob, len));	/* another name */
	assert_false(resumes(insecure, s, "a.example", blob, len));
	const uint8_t *params;
	size_t params_len;
	for (size_t i = 0; i < len; i += 13) {
		assert_false(tls_session_params(blob, i, &params, &params_len));
		memcpy(copy, blob, len);
		copy[i] ^= 0x55;
		assert_false(resumes(c, s, "a.example", copy, len));
	}
	assert_false(resumes(c, s, "a.example", blob, 0));
	tls_config_unref(c);
	tls_config_unref(s2);
	tls_config_unref(insecure);
	tls_config_unref(s);
	/* Made under one protocol, and that one is not offered now. */
	s = config((struct tls_settings){ .is_server = true, .alpn = other_alpn, .alpn_count = 2 });
	c = config((struct tls_settings){ .alpn = both, .alpn_count = 2 });
	s2 = config((struct tls_settings){ 0 });
	SSL_CTX_set1_groups_list(s2->ctx, "X25519:P-256");
	take_session(c, s, blob, &len);
	assert_false(resumes(s2, s, "a.example", blob, len));
	tls_config_unref(c);
	tls_config_unref(s);
	tls_config_unref(s2);
}

/* A session made without verification must not open a connection that has to verify. */
static void tls__session__trust_is_not_lent(void **state)
{
	struct tls_config *s = config((struct tls_settings){ .is_server = true });
	struct tls_config *insecure = config((struct tls_settings){ .verify = TLS_VERIFY_INSECURE });
	struct tls_config *strict = config((struct tls_settings){ .ca_file = in_dir(dir, "other-ca.crt") });
	uint8_t blob[8192];
	size_t len;
	take_session(insecure, s, blob, &len);
	struct pair p;
	pair_init(&p, strict, s, "a.example");
	assert_int_equal(tls_set_session(p.client.t, blob, len), 0);
	assert_false(pair_handshake(&p));
	assert_int_equal(qe_wire(p.client.error), 0x130);
	pair_fini(&p);
	tls_config_unref(s);
	tls_config_unref(insecure);
	tls_config_unref(strict);
}

static void tls__no_tickets__none_come(void **state)
{
	struct tls_config *c = config((struct tls_settings){ 0 });
	struct tls_config *s = config((struct tls_settings){ .is_server = true, .no_tickets = true });
	struct pair p;
	pair_init(&p, c, s, "a.example");
	assert_true(pair_handshake(&p));
	assert_int_equal(p.client.sessions, 0);
	assert_int_equal(p.server.bytes[LEVEL_APP], 0);
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

static void tls__flood_of_tickets__capped(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	struct pair p;
	SSL_CTX_set_num_tickets(s->ctx, 40);
	pair_init(&p, c, s, "a.example");
	assert_true(pair_handshake(&p));
	assert_int_equal(p.client.sessions, TLS_TICKETS_MAX);
	assert_int_equal(p.client.error, 0);
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

/* ---- after the handshake ------------------------------------------------- */

/* RFC9001 6, RFC9001 4.4 */
static void tls_recv__post_handshake_message__refused(void **state)
{
	static const struct {
		bool to_server;
		uint8_t msg[5];
		int error;
	} rows[] = {
		{ false, { 24, 0, 0, 1, 0 }, QE_TLS(10) },	/* KeyUpdate */
		{ true, { 24, 0, 0, 1, 0 }, QE_TLS(10) },
		{ true, { 4, 0, 0, 1, 0 }, QE_TLS(10) },	/* a ticket to a server */
		{ true, { 5, 0, 0, 0, 0 }, QE_TLS(10) },	/* EndOfEarlyData */
		{ false, { 20, 0, 0, 1, 0 }, QE_TLS(10) },	/* Finished again */
		{ false, { 13, 0, 0, 1, 0 }, QE_PROTOCOL_VIOLATION },	/* CertificateRequest */
	};
	struct tls_config *c = plain(false), *s = plain(true);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		for (size_t chunk = 1; chunk <= 5; chunk += 4) {
			struct pair p;
			int e = 0;
			pair_init(&p, c, s, "a.example");
			assert_true(pair_handshake(&p));
			struct tls *t = rows[i].to_server ? p.server.t : p.client.t;
			for (size_t off = 0; off < 5 && !e; off += chunk)
				e = tls_recv(t, LEVEL_APP, rows[i].msg + off, chunk);
			assert_int_equal(e, rows[i].error);
			assert_int_equal(tls_state(t), TLS_FAILED);
			pair_fini(&p);
		}
	}
	tls_config_unref(c);
	tls_config_unref(s);
}

static void tls_release__info_stays_and_tickets_still_come(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	struct pair p;
	struct piece ticket = { 0 };
	pair_init(&p, c, s, "a.example");
	pair_start(&p);
	tls_release(p.server.t);	/* too early: nothing happens */
	while (tls_state(p.server.t) == TLS_RUNNING) {
		struct piece x;
		while (side_take(&p.client, &x))
			assert_int_equal(recv_with_tail(p.server.t, &x, 0), 0);
		while (tls_state(p.client.t) == TLS_RUNNING && side_take(&p.server, &x))
			assert_int_equal(recv_with_tail(p.client.t, &x, 0), 0);
	}
	tls_release(p.server.t);
	tls_release(p.client.t);
	tls_release(p.server.t);
	assert_int_equal(tls_state(p.server.t), TLS_DONE);
	assert_string_equal(tls_info(p.server.t)->alpn, "hq");
	assert_string_equal(tls_info(p.server.t)->sni, "a.example");
	assert_int_equal(tls_recv(p.server.t, LEVEL_APP, (const uint8_t *)"x", 1), QE_TLS(10));
	assert_true(side_take(&p.server, &ticket));
	assert_int_equal(recv_with_tail(p.client.t, &ticket, 0), 0);
	assert_int_equal(p.client.sessions, 1);
	/* What came over a released client and server is as good as any. */
	assert_true(p.client.blob_len > 100);
	/* With its session a client needs OpenSSL no more, and still tells a ticket from what may not come. */
	static const uint8_t late[] = { 4, 0, 0, 3, 1, 2, 3 }, key_update[] = { 24, 0, 0, 1, 0 };
	assert_non_null(p.client.t->ssl);
	tls_release(p.client.t);
	assert_null(p.client.t->ssl);
	assert_string_equal(tls_info(p.client.t)->alpn, "hq");
	assert_int_equal(tls_recv(p.client.t, LEVEL_APP, late, sizeof(late)), 0);
	assert_int_equal(p.client.sessions, 1);
	assert_int_equal(tls_recv(p.client.t, LEVEL_APP, key_update, sizeof(key_update)), QE_TLS(10));
	struct pair q;
	pair_init(&q, c, s, "a.example");
	tls_set_session(q.client.t, p.client.blob, p.client.blob_len);
	assert_true(pair_handshake(&q));
	assert_true(tls_info(q.client.t)->resumed);
	pair_fini(&q);
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

/* ---- memory -------------------------------------------------------------- */

static void tls__every_allocation_fails_once__clean(void **state)
{
	struct tls_config *c = plain(false), *s = plain(true);
	uint8_t blob[8192];
	size_t len;
	take_session(c, s, blob, &len);
	int64_t live = mem_test_live();
	bool through = false;
	for (uint64_t n = 1; !through; n++) {
		struct pair p;
		assert_true(n < 1000);
		uint64_t before = mem_test_count();
		mem_test_fail_nth(n);
		pair_init(&p, c, s, "a.example");
		if (p.client.t && p.server.t && !p.client.error && !p.server.error) {
			tls_set_session(p.client.t, blob, len);
			bool ok = pair_handshake(&p);
			assert_true(ok || p.client.error == QE_NOMEM || p.server.error == QE_NOMEM);
		}
		through = mem_test_count() - before < n;
		mem_test_fail_nth(0);
		pair_fini(&p);
		assert_int_equal(mem_test_live(), live);
	}
	tls_config_unref(c);
	tls_config_unref(s);
}

static int setup_all(void **state)
{
	struct ca *ca = ca_make("test CA");
	testdir_make(dir);
	*state = dir;
	ca_write(ca, dir, "ca");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:a.example,DNS:b.example" }, dir, "a.example");
	ca_free(ca);
	ca = ca_make("other CA");
	ca_write(ca, dir, "other-ca");
	ca_free(ca);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(tls__session__resumes),
		T(tls__session__resumes_under_other_suite),
		T(tls__session__foreign_or_broken_is_ignored),
		T(tls__session__trust_is_not_lent),
		T(tls__no_tickets__none_come),
		T(tls__flood_of_tickets__capped),
		T(tls_recv__post_handshake_message__refused),
		T(tls_release__info_stays_and_tickets_still_come),
		T(tls__every_allocation_fails_once__clean),
	};
	return cmocka_run_group_tests(tests, setup_all, testdir_teardown);
}
