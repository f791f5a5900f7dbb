/* One-shot uses of the ciphers: each call keys its own context, for none of
 * them is on the path of an established connection's packets. */
#include "crypto/retry.h"

#include <assert.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#include "base/err.h"
#include "crypto/fetch.h"
#include "crypto/hkdf.h"

enum { NONCE_LEN = 12 };

static int context_keyed(enum cipher_id id, const uint8_t *key, const uint8_t *nonce, bool encrypt,
			 EVP_CIPHER_CTX **out)
{
	const EVP_CIPHER *cipher = cipher_get0(id);

	if (!cipher)
		return QE_CRYPTO_LIB;
	*out = EVP_CIPHER_CTX_new();
	if (!*out)
		return QE_NOMEM;
	if (EVP_CipherInit_ex2(*out, cipher, key, nonce, encrypt, NULL))
		return 0;
	EVP_CIPHER_CTX_free(*out);
	return QE_CRYPTO_LIB;
}

/* Key and nonce of version 1. RFC 9001 5.8 */
int retry_tag(uint32_t version, const struct cid *odcid, const uint8_t *retry, size_t retry_len, uint8_t tag[16])
{
	static const uint8_t key[16] = { 0xbe, 0x0c, 0x69, 0x0b, 0x9f, 0x66, 0x57, 0x5a,
					 0x1d, 0x76, 0x6b, 0x54, 0xe3, 0x68, 0xc8, 0x4e };
	static const uint8_t nonce[NONCE_LEN] = { 0x46, 0x15, 0x99, 0xd3, 0x5d, 0x63,
						  0x2b, 0xf2, 0x23, 0x98, 0x25, 0xbb };
	EVP_CIPHER_CTX *ctx;
	int n;

	assert(retry_len <= 65535);
	if (version != QUIC_V1)
		return QE_INVAL;
	int rc = context_keyed(CIPHER_AES_128_GCM, key, nonce, true, &ctx);
	if (rc)
		return rc;
	bool ok = EVP_EncryptUpdate(ctx, NULL, &n, &odcid->len, 1) &&
		  (!odcid->len || EVP_EncryptUpdate(ctx, NULL, &n, odcid->b, odcid->len)) &&
		  EVP_EncryptUpdate(ctx, NULL, &n, retry, (int)retry_len) && EVP_EncryptFinal_ex(ctx, tag, &n) &&
		  EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LEN, tag);
	EVP_CIPHER_CTX_free(ctx);
	return ok ? 0 : QE_CRYPTO_LIB;
}

int reset_token_make(const uint8_t key[32], const struct cid *cid, uint8_t token[RESET_TOKEN_LEN])
{
	uint8_t mac[32];

	int rc = hmac(HASH_SHA256, key, 32, cid->b, cid->len, mac);
	if (rc == 0)
		memcpy(token, mac, RESET_TOKEN_LEN);
	OPENSSL_cleanse(mac, sizeof(mac));
	return rc;
}

bool reset_token_equal(const uint8_t a[RESET_TOKEN_LEN], const uint8_t b[RESET_TOKEN_LEN])
{
	return CRYPTO_memcmp(a, b, RESET_TOKEN_LEN) == 0;
}

int box_seal(const uint8_t key[32], const uint8_t nonce[12], const uint8_t *aad, size_t aad_len, const uint8_t *in,
	     size_t in_len, uint8_t *out)
{
	EVP_CIPHER_CTX *ctx;
	int n;

	assert(aad_len <= 65535 && in_len <= 65535);
	int rc = context_keyed(CIPHER_AES_256_GCM, key, nonce, true, &ctx);
	if (rc)
		return rc;
	memcpy(out, nonce, NONCE_LEN);
	uint8_t *body = out + NONCE_LEN, *tag = body + in_len;
	bool ok = (!aad_len || EVP_EncryptUpdate(ctx, NULL, &n, aad, (int)aad_len)) &&
		  (!in_len || EVP_EncryptUpdate(ctx, body, &n, in, (int)in_len)) && EVP_EncryptFinal_ex(ctx, tag, &n) &&
		  EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, AEAD_TAG_LEN, tag);
	EVP_CIPHER_CTX_free(ctx);
	return ok ? 0 : QE_CRYPTO_LIB;
}

int box_open(const uint8_t key[32], const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t in_len, uint8_t *out,
	     size_t *out_len)
{
	EVP_CIPHER_CTX *ctx;
	int n;

	assert(aad_len <= 65535);
	if (in_len < BOX_OVERHEAD || in_len > 65535)
		return QE_DROP;
	int rc = context_keyed(CIPHER_AES_256_GCM, key, in, false, &ctx);
	if (rc)
		return rc;
	size_t body_len = in_len - BOX_OVERHEAD;
	uint8_t tag[AEAD_TAG_LEN];
	memcpy(tag, in + in_len - AEAD_TAG_LEN, AEAD_TAG_LEN);
	bool ok = EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG, AEAD_TAG_LEN, tag) &&
		  (!aad_len || EVP_DecryptUpdate(ctx, NULL, &n, aad, (int)aad_len)) &&
		  (!body_len || EVP_DecryptUpdate(ctx, out, &n, in + NONCE_LEN, (int)body_len)) &&
		  EVP_DecryptFinal_ex(ctx, out + body_len, &n);
	EVP_CIPHER_CTX_free(ctx);
	if (!ok) {
		OPENSSL_cleanse(out, body_len);
		return QE_DROP;
	}
	*out_len = body_len;
	return 0;
}
