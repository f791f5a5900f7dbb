/* TLS 1.3 records made by hand: the compat backend feeds OpenSSL's record layer
 * with what QUIC carried bare. RFC 8446 5.1-5.3 */
#ifndef TLS_RECORD_H
#define TLS_RECORD_H

#include <openssl/bio.h>
#include <stddef.h>
#include <stdint.h>

#define RECORD_MAX 16384	/* plaintext bytes of one record */

struct record_key {	/* the sender's side of one traffic secret */
	uint16_t suite;	/* 0: no key, records in the clear */
	uint8_t key[32], iv[12];
	uint64_t seq;
};

/* 0; QE_CRYPTO_LIB. */
int record_key_set(struct record_key *k, uint16_t suite, const uint8_t *secret);
/* Write data as handshake records to bio. 0; QE_NOMEM; QE_CRYPTO_LIB. */
int record_write(struct record_key *k, BIO *bio, const uint8_t *data, size_t len);

#endif
