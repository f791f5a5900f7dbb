/* Who is believed: CA and name checks, pins, client certificates, and which
 * certificate a server shows. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/err.h"
#include "support/certs.h"
#include "support/leak.h"
#include "support/tlspair.h"
#include "tls/backend.h"

static char dir[64];
static const char *const hq[] = { "hq" };

static struct tls_config *config(struct tls_settings s, const char *leaf) { return pair_config(s, dir, leaf); }

static void get_pin(const char *name, uint8_t pin[32])
{
	struct tls_config *c = config((struct tls_settings){ .is_server = true }, name);
	assert_true(tls_config_pin(c, pin));
	tls_config_unref(c);
}

static void tls_verify__by_ca_and_name__table(void **state)
{
	static const struct {
		const char *leaf, *ca, *name;
		uint64_t code;	/* 0: accepted */
		const char *text;
	} rows[] = {
		{ "named", "ca.crt", "a.example", 0, "" },
		{ "named", "ca.crt", "A.EXAMPLE", 0, "" },
		{ "named", "ca.crt", "a.example.", 0, "" },
		{ "named", "ca.crt", "x.wild.example", 0, "" },
		{ "named", "ca.crt", "x.y.wild.example", 0x12a, "ostname mismatch" },
		{ "named", "ca.crt", "b.example", 0x12a, "ostname mismatch" },
		{ "named", "ca.crt", NULL, 0, "" },
		{ "named", "ca.crt", "192.0.2.1", 0, "" },
		{ "named", "ca.crt", "2001:db8::1", 0, "" },
		{ "named", "ca.crt", "192.0.2.2", 0x12a, "IP address mismatch" },
		{ "named", "ca.crt", "2001:db8::2", 0x12a, "IP address mismatch" },
		{ "named", "other-ca.crt", "a.example", 0x130, "local issuer certificate" },
		{ "rsa", "ca.crt", "a.example", 0, "" },
		{ "self", "ca.crt", "a.example", 0x130, "self" },
		{ "self", "self.crt", "a.example", 0, "" },
		{ "expired", "ca.crt", "a.example", 0x12d, "expired" },
		{ "future", "ca.crt", "a.example", 0x12a, "not yet valid" },
		{ "client", "ca.crt", "a.example", 0x12b, "purpose" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tls_config *c = config((struct tls_settings){ .ca_file = in_dir(dir, rows[i].ca) }, NULL);
		struct tls_config *s = config((struct tls_settings){ .is_server = true }, rows[i].leaf);
		struct pair p;
		pair_init(&p, c, s, rows[i].name);
		bool ok = pair_handshake(&p);
		if (ok != !rows[i].code || (!ok && qe_wire(p.client.error) != rows[i].code))
			fail_msg("row %zu: code 0x%x, %s", i, (unsigned)qe_wire(p.client.error),
				 tls_error_text(p.client.t));
		if (!strstr(tls_error_text(p.client.t), rows[i].text) ||
		    !strstr(tls_info(p.client.t)->verify_text, rows[i].text))
			fail_msg("row %zu: \"%s\"", i, tls_error_text(p.client.t));
		if (ok) {
			uint8_t pin[32];
			get_pin(rows[i].leaf, pin);
			assert_true(tls_info(p.client.t)->peer_cert);
			assert_memory_equal(tls_info(p.client.t)->peer_pin, pin, 32);
			assert_string_equal(tls_info(p.client.t)->verify_text, "");
			assert_false(tls_info(p.server.t)->peer_cert);
		}
		pair_fini(&p);
		tls_config_unref(c);
		tls_config_unref(s);
	}
}

/* Without a CA file the system store decides, and it does not know our CA. */
static void tls_verify__default_store__unknown_ca(void **state)
{
	struct tls_config *c = config((struct tls_settings){ 0 }, NULL);
	struct tls_config *s = config((struct tls_settings){ .is_server = true }, "named");
	struct pair p;
	pair_init(&p, c, s, "a.example");
	assert_false(pair_handshake(&p));
	assert_int_equal(qe_wire(p.client.error), 0x130);
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

/* RFC6066 3: an address is not a name. */
static void tls__ip_literal__no_sni(void **state)
{
	static const char *const names[] = { "192.0.2.1", "2001:db8::1" };
	for (size_t i = 0; i < 2; i++) {
		struct tls_config *c = config((struct tls_settings){ .ca_file = in_dir(dir, "ca.crt") }, NULL);
		struct tls_config *s = config((struct tls_settings){ .is_server = true }, "named");
		struct pair p;
		pair_init(&p, c, s, names[i]);
		assert_true(pair_handshake(&p));
		assert_string_equal(tls_info(p.client.t)->sni, "");
		assert_string_equal(tls_info(p.server.t)->sni, "");
		pair_fini(&p);
		tls_config_unref(c);
		tls_config_unref(s);
	}
}

static void tls__impossible_name__start_fails(void **state)
{
	char name[300];
	struct tls_config *c = config((struct tls_settings){ .ca_file = in_dir(dir, "ca.crt") }, NULL);
	memset(name, 'a', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	for (int i = 0; i < 2; i++) {
		struct side side = { 0 };
		struct tls *t = tls_new(c, &pair_out, &side, i ? "" : name);
		assert_non_null(t);
		assert_int_equal(tls_start(t), QE_INVAL);
		assert_int_equal(tls_state(t), TLS_FAILED);
		assert_int_equal(side.tail, 0);
		tls_free(t);
	}
	tls_config_unref(c);
}

static void tls_verify__pins__replace_ca_and_name(void **state)
{
	uint8_t pins[2][32];
	static const char *const leaves[] = { "self", "expired", "named" };
	struct pair p;
	for (size_t i = 0; i < 3; i++) {
		memset(pins[0], 0xaa, 32);
		get_pin(leaves[i], pins[1]);
		for (size_t count = 1; count <= 2; count++) {
			struct tls_config *c = config((struct tls_settings){ .pins = (const uint8_t (*)[32])pins,
									     .pin_count = count }, NULL);
			struct tls_config *s = config((struct tls_settings){ .is_server = true }, leaves[i]);
			pair_init(&p, c, s, "other.example");
			assert_int_equal(pair_handshake(&p), count == 2);
			if (count == 1) {
				assert_int_equal(qe_wire(p.client.error), 0x12a);
				assert_non_null(strstr(tls_error_text(p.client.t), "pin"));
			}
			pair_fini(&p);
			tls_config_unref(c);
			tls_config_unref(s);
		}
	}
}

static void tls_verify__insecure__accepts_and_says_why_not(void **state)
{
	static const char *const leaves[] = { "self", "expired", "named" };
	for (size_t i = 0; i < 3; i++) {
		struct tls_config *c = config((struct tls_settings){ .verify = TLS_VERIFY_INSECURE }, NULL);
		struct tls_config *s = config((struct tls_settings){ .is_server = true }, leaves[i]);
		struct pair p;
		pair_init(&p, c, s, "other.example");
		assert_true(pair_handshake(&p));
		assert_true(tls_info(p.client.t)->verify_text[0]);
		assert_true(tls_info(p.client.t)->peer_cert);
		pair_fini(&p);
		tls_config_unref(c);
		tls_config_unref(s);
	}
}

/* ---- client certificates -------------------------------------------------- */

static void tls_verify__client_certificate__table(void **state)
{
	static const struct {
		enum tls_verify verify;
		const char *cert;	/* of the client */
		bool pinned;		/* the server knows the key of "self" instead of the CA */
		uint64_t code;
		bool seen;
	} rows[] = {
		{ TLS_VERIFY_DEFAULT, "client", false, 0, false },
		{ TLS_VERIFY_REQUIRE, "client", false, 0, true },
		{ TLS_VERIFY_REQUIRE, NULL, false, 0x174, false },
		{ TLS_VERIFY_REQUIRE, "self", false, 0x130, true },
		{ TLS_VERIFY_REQUIRE, "old-client", false, 0x12d, true },
		{ TLS_VERIFY_REQUIRE, "named", false, 0x12b, true },	/* a server's certificate */
		{ TLS_VERIFY_REQUIRE, "self", true, 0, true },
		{ TLS_VERIFY_REQUIRE, "client", true, 0x12a, true },
		{ TLS_VERIFY_OPTIONAL, NULL, false, 0, false },
		{ TLS_VERIFY_OPTIONAL, "client", false, 0, true },
		{ TLS_VERIFY_OPTIONAL, "self", false, 0x130, true },
	};
	uint8_t pin[1][32], client_pin[32];
	get_pin("self", pin[0]);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct tls_settings ss = { .is_server = true, .verify = rows[i].verify,
					   .ca_file = in_dir(dir, "ca.crt") };
		if (rows[i].pinned) {
			ss.pins = (const uint8_t (*)[32])pin;
			ss.pin_count = 1;
		}
		struct tls_config *s = config(ss, "named");
		struct tls_config *c = config((struct tls_settings){ .ca_file = in_dir(dir, "ca.crt") }, rows[i].cert);
		struct pair p;
		pair_init(&p, c, s, "a.example");
		pair_handshake(&p);
		if (p.client.error || (rows[i].code ? qe_wire(p.server.error) != rows[i].code : p.server.error))
			fail_msg("row %zu: 0x%x %s", i, (unsigned)qe_wire(p.server.error), tls_error_text(p.server.t));
		if (!rows[i].code) {
			assert_int_equal(tls_info(p.server.t)->peer_cert, rows[i].seen);
			if (rows[i].seen) {
				assert_true(tls_config_pin(c, client_pin));
				assert_memory_equal(tls_info(p.server.t)->peer_pin, client_pin, 32);
			}
		}
		pair_fini(&p);
		tls_config_unref(c);
		tls_config_unref(s);
	}
}

static void tls__session_with_client_certificate__resumes(void **state)
{
	struct tls_config *s = config((struct tls_settings){ .is_server = true, .verify = TLS_VERIFY_REQUIRE,
							     .ca_file = in_dir(dir, "ca.crt") }, "named");
	struct tls_config *c = config((struct tls_settings){ .ca_file = in_dir(dir, "ca.crt") }, "client");
	struct pair p, q;
	pair_init(&p, c, s, "a.example");
	assert_true(pair_handshake(&p));
	assert_int_equal(p.client.sessions, 1);
	pair_init(&q, c, s, "a.example");
	tls_set_session(q.client.t, p.client.blob, p.client.blob_len);
	assert_true(pair_handshake(&q));
	assert_true(tls_info(q.client.t)->resumed);
	assert_false(tls_info(q.server.t)->peer_cert);
	pair_fini(&p);
	pair_fini(&q);
	tls_config_unref(c);
	tls_config_unref(s);
}

/* ---- which certificate ---------------------------------------------------- */

static struct tls_config *server_of(const struct tls_cert_file *certs, size_t count)
{
	char err[256];
	struct tls_settings s = { .is_server = true, .alpn = hq, .alpn_count = 1, .certs = certs, .cert_count = count };
	struct tls_config *c = tls_config_new(&s, err, sizeof(err));
	if (!c)
		fail_msg("%s", err);
	return c;
}

static void shows(struct tls_config *s, const char *name, const char *leaf)
{
	uint8_t pin[32];
	struct pair p;
	struct tls_config *c = config((struct tls_settings){ .verify = TLS_VERIFY_INSECURE }, NULL);
	get_pin(leaf, pin);
	pair_init(&p, c, s, name);
	assert_true(pair_handshake(&p));
	if (memcmp(tls_info(p.client.t)->peer_pin, pin, 32))
		fail_msg("%s did not bring %s", name ? name : "no name", leaf);
	pair_fini(&p);
	tls_config_unref(c);
}

static void tls__certificate_by_sni__exact_wildcard_default(void **state)
{
	const struct tls_cert_file certs[] = {
		{ in_dir(dir, "self.crt"), in_dir(dir, "self.key"), "*.example.org" },
		{ in_dir(dir, "named.crt"), in_dir(dir, "named.key"), NULL },
		{ in_dir(dir, "expired.crt"), in_dir(dir, "expired.key"), "www.example.org" },
		{ in_dir(dir, "rsa.crt"), in_dir(dir, "rsa.key"), "rsa.example.org" },
	};
	struct tls_config *s = server_of(certs, 4);
	uint8_t pin[32], want[32];
	shows(s, NULL, "named");
	shows(s, "example.org", "named");
	shows(s, "a.b.example.org", "named");
	shows(s, "mail.example.org", "self");
	shows(s, "MAIL.Example.ORG", "self");
	shows(s, "www.example.org", "expired");
	shows(s, "rsa.example.org", "rsa");	/* and not the default of the other key type */
	assert_true(tls_config_pin(s, pin));
	get_pin("named", want);
	assert_memory_equal(pin, want, 32);
	assert_false(tls_config_self_signed(s));
	tls_config_unref(s);
}

static void tls__certificate_by_sni__first_is_default(void **state)
{
	const struct tls_cert_file certs[] = {
		{ in_dir(dir, "self.crt"), in_dir(dir, "self.key"), "a.example" },
		{ in_dir(dir, "named.crt"), in_dir(dir, "named.key"), "b.example" },
	};
	struct tls_config *s = server_of(certs, 2);
	shows(s, "c.example", "self");
	shows(s, "a.example", "self");
	shows(s, "b.example", "named");
	tls_config_unref(s);
}

static int setup_all(void **state)
{
	struct ca *ca = ca_make("test CA"), *other = ca_make("other CA");
	static const char names[] = "DNS:a.example,DNS:*.wild.example,IP:192.0.2.1,IP:2001:db8::1";
	testdir_make(dir);
	*state = dir;
	ca_write(ca, dir, "ca");
	ca_write(other, dir, "other-ca");
	leaf_write(ca, &(struct leaf_spec){ .san = names }, dir, "named");
	leaf_write(ca, &(struct leaf_spec){ .san = names, .rsa = true }, dir, "rsa");
	leaf_write(NULL, &(struct leaf_spec){ .san = names }, dir, "self");
	leaf_write(ca, &(struct leaf_spec){ .san = names, .from_s = -9000, .until_s = -3600 }, dir, "expired");
	leaf_write(ca, &(struct leaf_spec){ .san = names, .from_s = 3600, .until_s = 9000 }, dir, "future");
	leaf_write(ca, &(struct leaf_spec){ .san = names, .client = true }, dir, "client");
	leaf_write(ca, &(struct leaf_spec){ .client = true, .from_s = -9000, .until_s = -3600 }, dir, "old-client");
	ca_free(ca);
	ca_free(other);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(tls_verify__by_ca_and_name__table),
		T(tls_verify__default_store__unknown_ca),
		T(tls__ip_literal__no_sni),
		T(tls__impossible_name__start_fails),
		T(tls_verify__pins__replace_ca_and_name),
		T(tls_verify__insecure__accepts_and_says_why_not),
		T(tls_verify__client_certificate__table),
		T(tls__session_with_client_certificate__resumes),
		T(tls__certificate_by_sni__exact_wildcard_default),
		T(tls__certificate_by_sni__first_is_default),
	};
	return cmocka_run_group_tests(tests, setup_all, testdir_teardown);
}
