/* Retry integrity tag, stateless reset tokens, and the sealed box that address
 * validation tokens travel in. */
#ifndef CRYPTO_RETRY_H
#define CRYPTO_RETRY_H

#include "wire/packet.h"

/* All that return int: 0; QE_NOMEM; QE_CRYPTO_LIB. */

/* Tag of a Retry packet: retry is the whole packet without its tag. Also
 * QE_INVAL for an unknown version. RFC 9001 5.8 */
int retry_tag(uint32_t version, const struct cid *odcid, const uint8_t *retry, size_t retry_len, uint8_t tag[16]);

/* HMAC-SHA256(key, cid) cut to 16 bytes. RFC 9000 10.3.2 */
int reset_token_make(const uint8_t key[32], const struct cid *cid, uint8_t token[RESET_TOKEN_LEN]);
/* Constant time. */
bool reset_token_equal(const uint8_t a[RESET_TOKEN_LEN], const uint8_t b[RESET_TOKEN_LEN]);

/* AES-256-GCM box: out = nonce(12) | ciphertext | tag(16), so in_len + 28 bytes.
 * open: *out_len gets in_len - 28; QE_DROP when it does not authenticate, then
 * out is zeroed. key and nonce must not meet twice. out must not overlap in. */
#define BOX_OVERHEAD 28
int box_seal(const uint8_t key[32], const uint8_t nonce[12], const uint8_t *aad, size_t aad_len, const uint8_t *in,
	     size_t in_len, uint8_t *out);
int box_open(const uint8_t key[32], const uint8_t *aad, size_t aad_len, const uint8_t *in, size_t in_len, uint8_t *out,
	     size_t *out_len);

#endif
