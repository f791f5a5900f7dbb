/* HMAC, and HKDF as TLS 1.3 and QUIC use it. RFC 2104, RFC 5869, RFC 8446 7.1, RFC 9001 5.1 */
#ifndef CRYPTO_HKDF_H
#define CRYPTO_HKDF_H

#include <stddef.h>
#include <stdint.h>

#define SECRET_MAX 48	/* bytes; SHA-384 */

enum hash { HASH_SHA256, HASH_SHA384 };
size_t hash_len(enum hash h);

/* All return 0; QE_NOMEM; QE_CRYPTO_LIB. */

/* key_len up to 64 bytes. out: hash_len bytes; may be key or data. */
int hmac(enum hash h, const uint8_t *key, size_t key_len, const uint8_t *data, size_t len, uint8_t *out);

/* salt_len up to 64 bytes. out: hash_len bytes. */
int hkdf_extract(enum hash h, const uint8_t *salt, size_t salt_len, const uint8_t *ikm, size_t ikm_len, uint8_t *out);
/* secret: hash_len bytes. label without the "tls13 " prefix, which is added
 * here, 1-249 bytes; context may be empty, up to 255 bytes; out_len up to
 * 255 * hash_len; out must not be secret. */
int hkdf_expand_label(enum hash h, const uint8_t *secret, const char *label, const uint8_t *ctx, size_t ctx_len,
		      uint8_t *out, size_t out_len);

#endif
