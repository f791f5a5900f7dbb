/* HMAC and HKDF against published vectors and against OpenSSL, whatever the lengths; no memory is reported. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <string.h>

#include "base/err.h"
#include "crypto/hkdf.h"
#include "support/leak.h"
#include "support/ossl_mem.h"
#include "support/unhex.h"

static void hmac__published_vectors__match(void **state)
{
	static const char data[] = "what do ya want for nothing?";	/* RFC 4231 4.3 */
	uint8_t out[SECRET_MAX];

	assert_int_equal(hmac(HASH_SHA256, (const uint8_t *)"Jefe", 4, (const uint8_t *)data, 28, out), 0);
	assert_hex(out, 32, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	assert_int_equal(hmac(HASH_SHA384, (const uint8_t *)"Jefe", 4, (const uint8_t *)data, 28, out), 0);
	assert_hex(out, 48, "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47"
			    "e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649");
}

static void hmac__every_key_length__as_openssl_does(void **state)
{
	uint8_t key[64], data[100], out[SECRET_MAX], want[EVP_MAX_MD_SIZE];
	unsigned want_len;

	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (uint8_t)(i * 7 + 1);
	memset(data, 0x5a, sizeof(data));
	for (size_t n = 0; n <= sizeof(key); n++) {
		for (int h = HASH_SHA256; h <= HASH_SHA384; h++) {
			const EVP_MD *md = h == HASH_SHA256 ? EVP_sha256() : EVP_sha384();
			assert_int_equal(hmac(h, key, n, data, sizeof(data), out), 0);
			assert_non_null(HMAC(md, key, (int)n, data, sizeof(data), want, &want_len));
			assert_int_equal(want_len, hash_len(h));
			assert_memory_equal(out, want, want_len);
		}
	}
}

static void hmac__out_over_key__same_result(void **state)
{
	uint8_t buf[32] = { 1, 2, 3 }, want[32];

	assert_int_equal(hmac(HASH_SHA256, buf, 32, (const uint8_t *)"x", 1, want), 0);
	assert_int_equal(hmac(HASH_SHA256, buf, 32, (const uint8_t *)"x", 1, buf), 0);
	assert_memory_equal(buf, want, 32);
}

/* RFC 5869 A.1 and A.3; RFC 9001 A.1 */
static void hkdf_extract__published_vectors__match(void **state)
{
	static const struct { const char *salt, *ikm, *prk; } t[] = {
		{ "000102030405060708090a0b0c", "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
		  "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5" },
		{ "", "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b",
		  "19ef24a32c717b167f33a91d6f648bdf96596776afdb6377ac434c1c293ccb04" },
		{ "38762cf7f55934b34d179ae6a4c80cadccbb7f0a", "8394c8f03e515708",
		  "7db5df06e7a69e432496adedb00851923595221596ae2ae9fb8115c1e9ed0a44" },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint8_t salt[64], ikm[64], prk[32];
		size_t salt_len = unhex(t[i].salt, salt, sizeof(salt)), ikm_len = unhex(t[i].ikm, ikm, sizeof(ikm));
		assert_int_equal(hkdf_extract(HASH_SHA256, salt, salt_len, ikm, ikm_len, prk), 0);
		assert_hex(prk, 32, t[i].prk);
	}
}

/* RFC 9001 A.1 and A.5: each label of the appendix, byte for byte. RFC9001 5.1-4 */
static void hkdf_expand_label__rfc9001_appendix__match(void **state)
{
	static const char initial[] = "7db5df06e7a69e432496adedb00851923595221596ae2ae9fb8115c1e9ed0a44",
			  client[] = "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea",
			  server[] = "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b",
			  chacha[] = "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b";
	static const struct { const char *secret, *label, *out; } t[] = {
		{ initial, "client in", client },
		{ initial, "server in", server },
		{ client, "quic key", "1f369613dd76d5467730efcbe3b1a22d" },
		{ client, "quic iv", "fa044b2f42a3fd3b46fb255c" },
		{ client, "quic hp", "9f50449e04a0e810283a1e9933adedd2" },
		{ server, "quic key", "cf3a5331653c364c88f0f379b6067e37" },
		{ server, "quic iv", "0ac1493ca1905853b0bba03e" },
		{ server, "quic hp", "c206b8d9b9f0f37644430b490eeaa314" },
		{ chacha, "quic key", "c6d98ff3441c3fe1b2182094f69caa2ed4b716b65488960a7a984979fb23e1c8" },
		{ chacha, "quic iv", "e0459b3474bdd0e44a41c144" },
		{ chacha, "quic hp", "25a282b9e82f06f21f488917a4fc8f1b73573685608597d0efcb076b0ab7a7a4" },
		{ chacha, "quic ku", "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9" },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint8_t secret[32], out[32];
		size_t n = strlen(t[i].out) / 2;
		unhex(t[i].secret, secret, sizeof(secret));
		assert_int_equal(hkdf_expand_label(HASH_SHA256, secret, t[i].label, NULL, 0, out, n), 0);
		assert_hex(out, n, t[i].out);
	}
}

static void expand_by_openssl(enum hash h, const uint8_t *secret, const char *label, const uint8_t *ctx, size_t ctx_len,
			      uint8_t *out, size_t out_len)
{
	uint8_t info[600];
	size_t n = 0, label_len = strlen(label);
	int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;

	info[n++] = (uint8_t)(out_len >> 8);
	info[n++] = (uint8_t)out_len;
	info[n++] = (uint8_t)(6 + label_len);
	memcpy(info + n, "tls13 ", 6);
	memcpy(info + n + 6, label, label_len);
	n += 6 + label_len;
	info[n++] = (uint8_t)ctx_len;
	if (ctx_len)
		memcpy(info + n, ctx, ctx_len);
	n += ctx_len;
	OSSL_PARAM p[] = {
		OSSL_PARAM_construct_utf8_string("digest", h == HASH_SHA256 ? "SHA256" : "SHA384", 0),
		OSSL_PARAM_construct_int("mode", &mode),
		OSSL_PARAM_construct_octet_string("key", (void *)secret, hash_len(h)),
		OSSL_PARAM_construct_octet_string("info", info, n),
		OSSL_PARAM_construct_end(),
	};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
	EVP_KDF_CTX *c = EVP_KDF_CTX_new(kdf);
	assert_int_equal(EVP_KDF_derive(c, out, out_len, p), 1);
	EVP_KDF_CTX_free(c);
	EVP_KDF_free(kdf);
}

static void hkdf_expand_label__any_length_and_context__as_openssl_does(void **state)
{
	static const size_t ctx_lens[] = { 0, 1, 32, 48, 255 };
	char longest[250];
	uint8_t secret[SECRET_MAX], ctx[255], out[200], want[200];

	memset(longest, 'l', 249);
	longest[249] = 0;
	const char *labels[] = { "c", "derived", longest };
	memset(secret, 0xa5, sizeof(secret));
	memset(ctx, 0x3c, sizeof(ctx));
	for (size_t n = 1; n <= sizeof(out); n += 13) {
		for (size_t i = 0; i < 5 * 3 * 2; i++) {
			enum hash h = i % 2 ? HASH_SHA384 : HASH_SHA256;
			const char *label = labels[i / 2 % 3];
			size_t ctx_len = ctx_lens[i / 6];
			assert_int_equal(hkdf_expand_label(h, secret, label, ctx, ctx_len, out, n), 0);
			expand_by_openssl(h, secret, label, ctx, ctx_len, want, n);
			assert_memory_equal(out, want, n);
		}
	}
}

static void hkdf_expand_label__allocation_fails__reported_and_nothing_leaks(void **state)
{
	uint8_t secret[32] = { 1 }, out[80], want[80];
	bool failed;
	uint64_t n = 1;

	assert_int_equal(hkdf_expand_label(HASH_SHA256, secret, "x", NULL, 0, want, sizeof(want)), 0);
	int64_t live = ossl_mem_live();
	do {
		ossl_mem_fail_nth(n++);
		int rc = hkdf_expand_label(HASH_SHA256, secret, "x", NULL, 0, out, sizeof(out));
		failed = ossl_mem_failed();
		ossl_mem_fail_nth(0);
		assert_true(failed ? rc == QE_NOMEM || rc == QE_CRYPTO_LIB : rc == 0);
		ERR_clear_error();
		if (!failed)
			assert_memory_equal(out, want, sizeof(out));
	} while (failed);
	assert_true(n > 3);
	assert_int_equal(ossl_mem_live(), live);
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(hmac__published_vectors__match),
		T(hmac__every_key_length__as_openssl_does),
		T(hmac__out_over_key__same_result),
		T(hkdf_extract__published_vectors__match),
		T(hkdf_expand_label__rfc9001_appendix__match),
		T(hkdf_expand_label__any_length_and_context__as_openssl_does),
		T(hkdf_expand_label__allocation_fails__reported_and_nothing_leaks),
	};
	if (!ossl_mem_init())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
