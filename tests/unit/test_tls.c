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
#include "support/tlspair.h"
#include "tls/config.h"

static char dir[64];
static int64_t live_before;
static const char *const hq[] = { "hq" };

static struct tls_config *config(struct tls_settings s)
{
	char err[256];
	struct tls_cert_file cert = { in_dir(dir, "a.example.crt"), in_dir(dir, "a.example.key"), NULL };
	if (!s.alpn) {
		s.alpn = hq;
		s.alpn_count = 1;
	}
	if (s.is_server && !s.certs) {
		s.certs = &cert;
		s.cert_count = 1;
	} else if (!s.is_server && !s.ca_file) {
		s.ca_file = in_dir(dir, "ca.crt");
	}
	struct tls_config *c = tls_config_new(&s, err, sizeof(err));
	if (!c)
		fail_msg("%s", err);
	return c;
}

static struct tls_config *server_config(void) { return config((struct tls_settings){ .is_server = true }); }

static void tls__full_handshake__every_suite(void **state)
{
	static const uint16_t suites[] = { 0x1301, 0x1302, 0x1303 };
	for (size_t i = 0; i < 3; i++) {
		struct tls_config *c = config((struct tls_settings){ .suites = &suites[i], .suite_count = 1 });
		struct tls_config *s = server_config();
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

static int setup_all(void **state)
{
	struct ca *ca = ca_make("test CA");
	testdir_make(dir);
	ca_write(ca, dir, "ca");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:a.example" }, dir, "a.example");
	ca_free(ca);
	return 0;
}

static int teardown_all(void **state)
{
	testdir_remove(dir);
	return 0;
}

static int setup(void **state)
{
	live_before = mem_test_live();
	return 0;
}

static int teardown(void **state)
{
	mem_test_fail_nth(0);
	assert_int_equal(mem_test_live(), live_before);
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(tls__full_handshake__every_suite),
	};
	return cmocka_run_group_tests(tests, setup_all, teardown_all);
}
