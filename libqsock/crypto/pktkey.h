/* Packet protection and header protection for one direction of one level.
 *
 * Ciphers are fetched once per process; one cipher context per key; a call sets
 * only the nonce. Sealing and opening are in place. No early exit between header
 * unmasking and AEAD failure. RFC 9001 5 */
#ifndef CRYPTO_PKTKEY_H
#define CRYPTO_PKTKEY_H

#include <openssl/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/hkdf.h"

/* TLS cipher suite ids. TLS_AES_128_CCM_8 is not offered (RFC 9001 5.3). */
enum { SUITE_AES_128_GCM = 0x1301, SUITE_AES_256_GCM = 0x1302, SUITE_CHACHA20 = 0x1303 };

#define HP_SAMPLE_LEN 16
#define HP_MASK_LEN 5
#define HP_BATCH 64	/* most masks made by one call */

struct pktkey {
	uint16_t suite;		/* 0: no key */
	enum hash hash;
	uint8_t secret[SECRET_MAX];	/* for key update */
	uint8_t iv[12];
	EVP_CIPHER_CTX *aead;	/* both owned */
	EVP_CIPHER_CTX *hp;	/* NULL in a key made by pktkey_next (see there) */
};

bool suite_known(uint16_t suite);
/* The rest: of a known suite. */
enum hash suite_hash(uint16_t suite);
/* RFC 9001 6.6, B: packets one key may encrypt / forged packets it may see. */
uint64_t suite_confidentiality_limit(uint16_t suite);
uint64_t suite_integrity_limit(uint16_t suite);

/* for_seal: the direction the AEAD context is prepared for. 0; else *k is empty:
 * QE_NOMEM; QE_CRYPTO_LIB; QE_INVAL for an unknown suite. k is overwritten, not freed. */
int pktkey_init(struct pktkey *k, uint16_t suite, const uint8_t *secret, bool for_seal);
/* The key after k by "quic ku"; header protection is not renewed, so next has
 * no hp of its own and must not be used for masks. RFC 9001 6.1 */
int pktkey_next(const struct pktkey *k, struct pktkey *next, bool for_seal);
void pktkey_fini(struct pktkey *k);	/* wipes; safe on an empty key */
static inline bool pktkey_ready(const struct pktkey *k) { return k->suite != 0; }

/* Encrypt buf[0..len) in place and write the 16-byte tag to buf+len. aad is the
 * packet header. 0; QE_CRYPTO_LIB. */
int pktkey_seal(struct pktkey *k, uint64_t pn, const uint8_t *aad, size_t aad_len, uint8_t *buf, size_t len);
/* Decrypt buf[0..len) in place, len with the tag. 0 and len-16 bytes of
 * plaintext; QE_DROP when it does not authenticate (or is shorter than a tag),
 * then buf holds rubbish. */
int pktkey_open(struct pktkey *k, uint64_t pn, const uint8_t *aad, size_t aad_len, uint8_t *buf, size_t len);

/* Header protection masks for n samples (n <= HP_BATCH) in as few cipher calls as
 * the suite allows: one ECB call for AES. 0; QE_CRYPTO_LIB. RFC 9001 5.4 */
int pktkey_masks(struct pktkey *k, const uint8_t *const samples[], size_t n, uint8_t masks[][HP_MASK_LEN]);

/* Apply a mask to a header. protect: the first byte tells pn_len in the clear
 * before; unprotect: returns the packet number length, 1-4, with the header now
 * in the clear. Both touch, without changing what is no packet number, four bytes
 * from pn_off: a packet long enough to be sampled has them. RFC 9001 5.4.1 */
void hp_protect(uint8_t *packet, size_t pn_off, const uint8_t mask[HP_MASK_LEN]);
size_t hp_unprotect(uint8_t *packet, size_t pn_off, const uint8_t mask[HP_MASK_LEN]);

/* Initial secrets of a version from the client's first DCID. out: 32 bytes each.
 * 0; QE_CRYPTO_LIB; QE_INVAL for an unknown version. RFC 9001 5.2 */
int initial_secrets(uint32_t version, const uint8_t *dcid, size_t dcid_len, uint8_t client[32], uint8_t server[32]);

#endif
