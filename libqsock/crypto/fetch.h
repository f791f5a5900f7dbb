/* OpenSSL algorithms, fetched once per process and never freed: a fetch costs
 * as much as sealing several packets. For crypto/ and tls/. Thread-safe. */
#ifndef CRYPTO_FETCH_H
#define CRYPTO_FETCH_H

#include <openssl/types.h>

#include "crypto/hkdf.h"

enum cipher_id {
	CIPHER_AES_128_GCM, CIPHER_AES_256_GCM, CIPHER_CHACHA20_POLY1305,
	CIPHER_AES_128_ECB, CIPHER_AES_256_ECB, CIPHER_CHACHA20,
	CIPHER_COUNT
};

/* Borrowed; NULL when OpenSSL does not offer it (or is out of memory: the next call tries again). */
const EVP_CIPHER *cipher_get0(enum cipher_id id);
const EVP_MD *digest_get0(enum hash h);

#endif
