/* Sealing handshake bytes into records, under the key OpenSSL will open them
 * with. Only CRYPTO data goes this way, a few records per handshake, so nothing is kept
 * between two of them but the key. */
#include "tls/record.h"

#include <openssl/evp.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "crypto/fetch.h"
#include "crypto/pktkey.h"

#define HEADER_LEN 5
#define TAG_LEN 16
enum { TYPE_HANDSHAKE = 22, TYPE_APPLICATION_DATA = 23 };

static const EVP_CIPHER *cipher_of(uint16_t suite)
{
	if (suite == SUITE_CHACHA20)
		return cipher_get0(CIPHER_CHACHA20_POLY1305);
	return cipher_get0(suite == SUITE_AES_256_GCM ? CIPHER_AES_256_GCM : CIPHER_AES_128_GCM);
}

int record_key_set(struct record_key *k, uint16_t suite, const uint8_t *secret)
{
	enum hash h = suite_hash(suite);
	size_t key_len = suite == SUITE_AES_128_GCM ? 16 : 32;
	k->suite = suite;
	k->seq = 0;
	/* RFC 8446 7.3 */
	int e = hkdf_expand_label(h, secret, "key", NULL, 0, k->key, key_len);
	return e ? e : hkdf_expand_label(h, secret, "iv", NULL, 0, k->iv, sizeof(k->iv));
}

static void make_nonce(const struct record_key *k, uint8_t nonce[12])
{
	memcpy(nonce, k->iv, 12);
	for (int i = 0; i < 8; i++)
		nonce[11 - i] ^= (uint8_t)(k->seq >> (8 * i));
}

static void put_header(uint8_t *p, uint8_t type, size_t len)
{
	p[0] = type;
	p[1] = 3;
	p[2] = 3;
	p[3] = (uint8_t)(len >> 8);
	p[4] = (uint8_t)len;
}

/* rec: header, data, type byte and tag fit. */
static int seal(struct record_key *k, uint8_t *rec, const uint8_t *data, size_t len)
{
	uint8_t nonce[12], type = TYPE_HANDSHAKE;
	int n = 0, m = 0, fin = 0;
	EVP_CIPHER_CTX *ctx = EVP_CIPHER_CTX_new();
	make_nonce(k, nonce);
	put_header(rec, TYPE_APPLICATION_DATA, len + 1 + TAG_LEN);
	uint8_t *out = rec + HEADER_LEN;
	bool ok = ctx && EVP_EncryptInit_ex(ctx, cipher_of(k->suite), NULL, k->key, nonce) == 1 &&
		  EVP_EncryptUpdate(ctx, NULL, &n, rec, HEADER_LEN) == 1 &&
		  EVP_EncryptUpdate(ctx, out, &n, data, (int)len) == 1 &&
		  EVP_EncryptUpdate(ctx, out + n, &m, &type, 1) == 1 &&
		  EVP_EncryptFinal_ex(ctx, out + n + m, &fin) == 1 &&
		  EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG, TAG_LEN, out + len + 1) == 1;
	EVP_CIPHER_CTX_free(ctx);
	k->seq++;
	return ok ? 0 : QE_CRYPTO_LIB;
}

int record_write(struct record_key *k, BIO *bio, const uint8_t *data, size_t len)
{
	size_t cap = len < RECORD_MAX ? len : RECORD_MAX;
	uint8_t *rec = mem_alloc(HEADER_LEN + cap + 1 + TAG_LEN);
	int e = rec ? 0 : QE_NOMEM;
	while (len && !e) {
		size_t n = len < RECORD_MAX ? len : RECORD_MAX;
		size_t rec_len = HEADER_LEN + n;
		if (k->suite) {
			e = seal(k, rec, data, n);
			rec_len += 1 + TAG_LEN;
		} else {
			put_header(rec, TYPE_HANDSHAKE, n);
			memcpy(rec + HEADER_LEN, data, n);
		}
		if (!e && BIO_write(bio, rec, (int)rec_len) != (int)rec_len)
			e = QE_NOMEM;
		data += n;
		len -= n;
	}
	mem_free(rec);
	return e;
}
