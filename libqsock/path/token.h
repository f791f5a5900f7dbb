/* Address validation tokens: made by Retry and NEW_TOKEN, opaque to clients.
 * RFC 9000 8.1.1-8.1.4 */
#ifndef PATH_TOKEN_H
#define PATH_TOKEN_H

#include "base/addr.h"
#include "base/rng.h"
#include "wire/packet.h"

#define TOKEN_MAX 128
#define TOKEN_RETRY_LIFE_US (10 * UINT64_C(1000000))
#define TOKEN_NEW_LIFE_US (24 * 3600 * UINT64_C(1000000))

struct token {
	bool is_retry;
	uint64_t id;			/* token_open: tells tokens apart, for single use; ignored by token_seal */
	uint64_t issued_us;
	struct cid odcid, retry_scid;	/* Retry only */
};

/* Seal for one address (IP and port for Retry, IP alone for NEW_TOKEN). out: TOKEN_MAX bytes. Returns the length, 0 on
 * a crypto failure. */
size_t token_seal(const uint8_t key[32], const struct rng *rng, const struct token *t, const struct addr *peer,
		  uint8_t out[TOKEN_MAX]);
/* 0 and *t; QE_DROP: not one of ours, or for another address, or too old: ignore it;
 * QE_INVALID_TOKEN: clearly our Retry token but expired or of another address (RFC 9000 8.1.3). */
int token_open(const uint8_t key[32], const uint8_t *p, size_t len, const struct addr *peer, uint64_t now_us,
	       struct token *t);

#endif
