/* HKDF as TLS 1.3 and QUIC use it. RFC 5869, RFC 8446 7.1, RFC 9001 5.1 */
#ifndef CRYPTO_HKDF_H
#define CRYPTO_HKDF_H

#include <stddef.h>
#include <stdint.h>

#define SECRET_MAX 48	/* bytes; SHA-384 */

enum hash { HASH_SHA256, HASH_SHA384 };
size_t hash_len(enum hash h);

/* All return 0 or QE_CRYPTO_LIB. out of extract: hash_len bytes. */
int hkdf_extract(enum hash h, const uint8_t *salt, size_t salt_len, const uint8_t *ikm, size_t ikm_len, uint8_t *out);
/* label without the "tls13 " prefix, which is added here; context may be empty. */
int hkdf_expand_label(enum hash h, const uint8_t *secret, const char *label, const uint8_t *ctx, size_t ctx_len,
		      uint8_t *out, size_t out_len);

#endif
