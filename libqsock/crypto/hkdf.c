/* HMAC and HKDF over OpenSSL's digests. Knows nothing of keys' meanings.
 *
 * HMAC is spelled out (it is two hashes) because EVP_MAC and EVP_KDF spend
 * two to four times the work in setting themselves up, and a handshake makes
 * some thirty of these. */
#include "crypto/hkdf.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/bytes.h"
#include "base/err.h"
#include "crypto/fetch.h"

enum { BLOCK_MAX = 128 };	/* bytes; SHA-384. SHA-256: 64 */

size_t hash_len(enum hash h)
{
	return h == HASH_SHA384 ? 48 : 32;
}

/* out = H((key ^ pad) | data); key is zero-padded to block_len bytes. */
static bool hash_padded(EVP_MD_CTX *ctx, const EVP_MD *md, const uint8_t key[BLOCK_MAX], size_t block_len, uint8_t pad,
			const uint8_t *data, size_t len, uint8_t *out)
{
	uint8_t block[BLOCK_MAX];

	for (size_t i = 0; i < block_len; i++)
		block[i] = key[i] ^ pad;
	bool ok = EVP_DigestInit_ex2(ctx, md, NULL) && EVP_DigestUpdate(ctx, block, block_len) &&
		  EVP_DigestUpdate(ctx, data, len) && EVP_DigestFinal_ex(ctx, out, NULL);
	OPENSSL_cleanse(block, sizeof(block));
	return ok;
}

int hmac(enum hash h, const uint8_t *key, size_t key_len, const uint8_t *data, size_t len, uint8_t *out)
{
	const EVP_MD *md = digest_get0(h);
	size_t block_len = h == HASH_SHA384 ? 128 : 64;
	uint8_t block[BLOCK_MAX] = { 0 }, inner[SECRET_MAX];

	assert(key_len <= 64);
	if (!md)
		return QE_CRYPTO_LIB;
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	if (!ctx)
		return QE_NOMEM;
	if (key_len)
		memcpy(block, key, key_len);
	bool ok = hash_padded(ctx, md, block, block_len, 0x36, data, len, inner) &&
		  hash_padded(ctx, md, block, block_len, 0x5c, inner, hash_len(h), out);
	EVP_MD_CTX_free(ctx);
	OPENSSL_cleanse(block, sizeof(block));
	OPENSSL_cleanse(inner, sizeof(inner));
	return ok ? 0 : QE_CRYPTO_LIB;
}

int hkdf_extract(enum hash h, const uint8_t *salt, size_t salt_len, const uint8_t *ikm, size_t ikm_len, uint8_t *out)
{
	return hmac(h, salt, salt_len, ikm, ikm_len, out);
}

int hkdf_expand_label(enum hash h, const uint8_t *secret, const char *label, const uint8_t *ctx, size_t ctx_len,
		      uint8_t *out, size_t out_len)
{
	static const char prefix[] = "tls13 ";
	size_t hlen = hash_len(h), label_len = strlen(label);
	/* T(i) = HMAC(secret, T(i-1) | HkdfLabel | i): T(i-1) stands before the label in one buffer. */
	uint8_t buf[SECRET_MAX + 2 + 1 + 255 + 1 + 255 + 1];
	uint8_t *info = buf + SECRET_MAX;
	struct wr w = wr_of(info, sizeof(buf) - SECRET_MAX);

	assert(label_len <= 249 && ctx_len <= 255 && out_len <= 255 * hlen);
	wr_uint(&w, out_len, 2);
	wr_uint(&w, sizeof(prefix) - 1 + label_len, 1);
	wr_bytes(&w, prefix, sizeof(prefix) - 1);
	wr_bytes(&w, label, label_len);
	wr_uint(&w, ctx_len, 1);
	wr_bytes(&w, ctx, ctx_len);
	uint8_t *counter = wr_claim(&w, 1);

	uint8_t t[SECRET_MAX];
	const uint8_t *from = info;
	int rc = 0;
	for (*counter = 1; out_len; ++*counter) {
		rc = hmac(h, secret, hlen, from, (size_t)(counter + 1 - from), t);
		if (rc)
			break;
		size_t n = out_len < hlen ? out_len : hlen;
		memcpy(out, t, n);
		out += n;
		out_len -= n;
		from = info - hlen;
		memcpy(info - hlen, t, hlen);
	}
	OPENSSL_cleanse(t, sizeof(t));
	OPENSSL_cleanse(buf, SECRET_MAX);
	return rc;
}
