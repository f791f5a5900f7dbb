/* Keys of one direction at one level: what each cipher suite means, how its
 * keys come out of a secret, and the per-packet calls on prepared contexts.
 * Knows nothing of levels, key phases or counting: that is keyring.c. RFC 9001 5 */
#include "crypto/pktkey.h"

#include <assert.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <string.h>

#include "base/err.h"
#include "crypto/fetch.h"
#include "wire/packet.h"

enum { KEY_MAX = 32, IV_LEN = 12, IV_PN_OFF = 4 };

/* Limits: RFC 9001 6.6. No limit of its own for ChaCha20: the packet numbers end first. */
static const struct suite {
	uint16_t id;
	enum hash hash;
	size_t key_len;
	enum cipher_id aead, hp;
	uint64_t confidentiality_limit, integrity_limit;
} suites[] = {
	{ SUITE_AES_128_GCM, HASH_SHA256, 16, CIPHER_AES_128_GCM, CIPHER_AES_128_ECB,
	  UINT64_C(1) << 23, UINT64_C(1) << 52 },
	{ SUITE_AES_256_GCM, HASH_SHA384, 32, CIPHER_AES_256_GCM, CIPHER_AES_256_ECB,
	  UINT64_C(1) << 23, UINT64_C(1) << 52 },
	{ SUITE_CHACHA20, HASH_SHA256, 32, CIPHER_CHACHA20_POLY1305, CIPHER_CHACHA20,
	  UINT64_C(1) << 62, UINT64_C(1) << 36 },
};

static const struct suite *suite_find(uint16_t id)
{
	for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++)
		if (suites[i].id == id)
			return &suites[i];
	return NULL;
}

static const struct suite *suite_get(uint16_t id)
{
	const struct suite *s = suite_find(id);
	assert(s);
	return s;
}

bool suite_known(uint16_t suite) { return suite_find(suite) != NULL; }
enum hash suite_hash(uint16_t suite) { return suite_get(suite)->hash; }
uint64_t suite_confidentiality_limit(uint16_t suite) { return suite_get(suite)->confidentiality_limit; }
uint64_t suite_integrity_limit(uint16_t suite) { return suite_get(suite)->integrity_limit; }

/* A context of cipher id with the key "label" of the secret. 0; QE_NOMEM; QE_CRYPTO_LIB. */
static int context_make(const struct suite *s, enum cipher_id id, const uint8_t *secret, const char *label,
			bool encrypt, EVP_CIPHER_CTX **out)
{
	const EVP_CIPHER *cipher = cipher_get0(id);
	uint8_t key[KEY_MAX];

	if (!cipher)
		return QE_CRYPTO_LIB;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	if (!ctx)
		return QE_NOMEM;
	int rc = hkdf_expand_label(s->hash, secret, label, NULL, 0, key, s->key_len);
	if (rc == 0 && !EVP_CipherInit_ex2(ctx, cipher, key, NULL, encrypt, NULL))
		rc = QE_CRYPTO_LIB;
	OPENSSL_cleanse(key, sizeof(key));
	if (rc)
		EVP_CIPHER_CTX_free(ctx);
	else
		*out = ctx;
	return rc;
}

/* Everything but header protection. */
static int aead_init(struct pktkey *k, const struct suite *s, const uint8_t *secret, bool for_seal)
{
	*k = (struct pktkey){ .suite = s->id, .hash = s->hash };
	memcpy(k->secret, secret, hash_len(s->hash));
	int rc = hkdf_expand_label(s->hash, secret, "quic iv", NULL, 0, k->iv, IV_LEN);
	if (rc == 0)
		rc = context_make(s, s->aead, secret, "quic key", for_seal, &k->aead);
	if (rc)
		pktkey_fini(k);
	return rc;
}

int pktkey_init(struct pktkey *k, uint16_t suite, const uint8_t *secret, bool for_seal)
{
	const struct suite *s = suite_find(suite);

	*k = (struct pktkey){ 0 };
	if (!s)
		return QE_INVAL;
	int rc = aead_init(k, s, secret, for_seal);
	if (rc)
		return rc;
	rc = context_make(s, s->hp, secret, "quic hp", true, &k->hp);
	if (rc) {
		pktkey_fini(k);
		return rc;
	}
	EVP_CIPHER_CTX_set_padding(k->hp, 0);
	return 0;
}

int pktkey_next(const struct pktkey *k, struct pktkey *next, bool for_seal)
{
	uint8_t secret[SECRET_MAX];

	*next = (struct pktkey){ 0 };
	int rc = hkdf_expand_label(k->hash, k->secret, "quic ku", NULL, 0, secret, hash_len(k->hash));
	if (rc == 0)
		rc = aead_init(next, suite_get(k->suite), secret, for_seal);
	OPENSSL_cleanse(secret, sizeof(secret));
	return rc;
}

void pktkey_fini(struct pktkey *k)
{
	EVP_CIPHER_CTX_free(k->aead);
	EVP_CIPHER_CTX_free(k->hp);
	OPENSSL_cleanse(k, sizeof(*k));
}

/* Key and direction stay as they are; only the nonce changes. RFC 9001 5.3 */
static bool nonce_set(struct pktkey *k, uint64_t pn, const OSSL_PARAM params[])
{
	uint8_t nonce[IV_LEN];

	memcpy(nonce, k->iv, IV_LEN);
	for (size_t i = IV_LEN; i-- > IV_PN_OFF; pn >>= 8)
		nonce[i] ^= (uint8_t)pn;
	return EVP_CipherInit_ex2(k->aead, NULL, NULL, nonce, -1, params);
}

/* The tag goes by parameter, not by EVP_CIPHER_CTX_ctrl: 10 ns less per packet. */
int pktkey_seal(struct pktkey *k, uint64_t pn, const uint8_t *aad, size_t aad_len, uint8_t *buf, size_t len)
{
	OSSL_PARAM tag[] = {
		OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, buf + len, AEAD_TAG_LEN),
		OSSL_PARAM_construct_end(),
	};
	int n;

	assert(aad_len <= 65535 && len <= 65535);
	if (!nonce_set(k, pn, NULL) || !EVP_EncryptUpdate(k->aead, NULL, &n, aad, (int)aad_len) ||
	    (len && !EVP_EncryptUpdate(k->aead, buf, &n, buf, (int)len)) ||
	    !EVP_EncryptFinal_ex(k->aead, buf + len, &n) || !EVP_CIPHER_CTX_get_params(k->aead, tag))
		return QE_CRYPTO_LIB;
	return 0;
}

int pktkey_open(struct pktkey *k, uint64_t pn, const uint8_t *aad, size_t aad_len, uint8_t *buf, size_t len)
{
	int n;

	assert(aad_len <= 65535 && len <= 65535);
	if (len < AEAD_TAG_LEN)
		return QE_DROP;
	len -= AEAD_TAG_LEN;
	const OSSL_PARAM tag[] = {
		OSSL_PARAM_construct_octet_string(OSSL_CIPHER_PARAM_AEAD_TAG, buf + len, AEAD_TAG_LEN),
		OSSL_PARAM_construct_end(),
	};
	if (!nonce_set(k, pn, tag) || !EVP_DecryptUpdate(k->aead, NULL, &n, aad, (int)aad_len) ||
	    (len && !EVP_DecryptUpdate(k->aead, buf, &n, buf, (int)len)) ||
	    !EVP_DecryptFinal_ex(k->aead, buf + len, &n))
		return QE_DROP;
	return 0;
}

/* n >= 1. All samples in one call: per block that is ten times cheaper than one by one. RFC 9001 5.4.3 */
static int masks_aes(struct pktkey *k, const uint8_t *const samples[], size_t n, uint8_t masks[][HP_MASK_LEN])
{
	uint8_t block[HP_BATCH][HP_SAMPLE_LEN];
	size_t i = 0;
	int out_len;

	do
		memcpy(block[i], samples[i], HP_SAMPLE_LEN);
	while (++i < n);
	if (!EVP_EncryptUpdate(k->hp, block[0], &out_len, block[0], (int)(n * HP_SAMPLE_LEN)))
		return QE_CRYPTO_LIB;
	for (i = 0; i < n; i++)
		memcpy(masks[i], block[i], HP_MASK_LEN);
	return 0;
}

/* The sample is counter and nonce, in the order OpenSSL takes them. RFC 9001 5.4.4 */
static int masks_chacha20(struct pktkey *k, const uint8_t *const samples[], size_t n, uint8_t masks[][HP_MASK_LEN])
{
	static const uint8_t zeros[HP_MASK_LEN];
	int out_len;

	for (size_t i = 0; i < n; i++)
		if (!EVP_CipherInit_ex2(k->hp, NULL, NULL, samples[i], -1, NULL) ||
		    !EVP_EncryptUpdate(k->hp, masks[i], &out_len, zeros, HP_MASK_LEN))
			return QE_CRYPTO_LIB;
	return 0;
}

int pktkey_masks(struct pktkey *k, const uint8_t *const samples[], size_t n, uint8_t masks[][HP_MASK_LEN])
{
	assert(n <= HP_BATCH && k->hp);
	if (n == 0)
		return 0;
	return k->suite == SUITE_CHACHA20 ? masks_chacha20(k, samples, n, masks) : masks_aes(k, samples, n, masks);
}

static uint8_t first_byte_mask(uint8_t first, const uint8_t mask[HP_MASK_LEN])
{
	return mask[0] & (packet_is_long(first) ? 0x0f : 0x1f);
}

/* Touches all four bytes whatever the length, so that time does not tell it. RFC 9001 9.5 */
static void pn_xor(uint8_t *pn, size_t pn_len, const uint8_t mask[HP_MASK_LEN])
{
	for (size_t i = 0; i < 4; i++)
		pn[i] ^= mask[1 + i] & (uint8_t)-(i < pn_len);
}

void hp_protect(uint8_t *packet, size_t pn_off, const uint8_t mask[HP_MASK_LEN])
{
	size_t pn_len = (packet[0] & 3u) + 1;

	packet[0] ^= first_byte_mask(packet[0], mask);
	pn_xor(packet + pn_off, pn_len, mask);
}

size_t hp_unprotect(uint8_t *packet, size_t pn_off, const uint8_t mask[HP_MASK_LEN])
{
	packet[0] ^= first_byte_mask(packet[0], mask);
	size_t pn_len = (packet[0] & 3u) + 1;
	pn_xor(packet + pn_off, pn_len, mask);
	return pn_len;
}

int initial_secrets(uint32_t version, const uint8_t *dcid, size_t dcid_len, uint8_t client[32], uint8_t server[32])
{
	static const uint8_t salt_v1[20] = { 0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17,
					     0x9a, 0xe6, 0xa4, 0xc8, 0x0c, 0xad, 0xcc, 0xbb, 0x7f, 0x0a };
	uint8_t initial[32];

	if (version != QUIC_V1)
		return QE_INVAL;
	int rc = hkdf_extract(HASH_SHA256, salt_v1, sizeof(salt_v1), dcid, dcid_len, initial);
	if (rc == 0)
		rc = hkdf_expand_label(HASH_SHA256, initial, "client in", NULL, 0, client, 32);
	if (rc == 0)
		rc = hkdf_expand_label(HASH_SHA256, initial, "server in", NULL, 0, server, 32);
	OPENSSL_cleanse(initial, sizeof(initial));
	return rc;
}
