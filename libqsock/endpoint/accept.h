/* May a client's first Initial become a connection? RFC 9000 5.2.2, 8.1 */
#ifndef ENDPOINT_ACCEPT_H
#define ENDPOINT_ACCEPT_H

#include "endpoint/endpoint.h"

/* Which NEW_TOKEN tokens have been used: two Bloom filters taking turns. It may call a fresh token used (0.5 % at
 * worst, and all that are older than the last ONCE_FILL uses), which costs its client a round trip under Retry, but
 * never a used one fresh. RFC 9000 8.1.4 */
#define ONCE_PARTS 4		/* a token sets one bit in each */
#define ONCE_PART_BITS 65536	/* so 16 bits of its id choose it */
#define ONCE_FILL 16384		/* tokens in one filter */

struct once {			/* valid when zeroed */
	uint64_t bits[2][ONCE_PARTS][ONCE_PART_BITS / 64];
	unsigned now;			/* the filter being filled */
	unsigned used;			/* tokens in it */
	uint64_t since_us;		/* when it began */
	uint64_t horizon_us;		/* tokens issued before may have been used and forgotten */
};

bool once_is_fresh(const struct once *o, uint64_t id, uint64_t issued_us);
void once_use(struct once *o, uint64_t id, uint64_t now_us);

enum verdict {
	VERDICT_DROP,
	VERDICT_RETRY,
	VERDICT_CLOSE,		/* refuse with .code */
	VERDICT_ACCEPT,
};

struct decision {
	enum verdict verdict;
	int code;		/* QE_CONNECTION_REFUSED, QE_INVALID_TOKEN */
	bool validated;		/* the address */
	bool by_retry;		/* validated by our Retry: odcid and retry_scid are from its token */
	bool by_new_token;	/* once_use(token_id) if it is really accepted */
	uint64_t token_id;
	struct cid odcid, retry_scid;
};

struct accept_load {
	uint32_t half_open;
	bool refuse;		/* the owner cannot take more */
};

/* first: parsed, for a DCID nobody has. datagram_len: UDP payload it came in. cfg: with defaults filled in. CLOSE and
 * ACCEPT are only said to packets that may be real; whether they are is initial_authentic's to say. */
struct decision accept_decide(const struct endpoint_config *cfg, const struct once *once, struct accept_load load,
			      const struct packet *first, size_t datagram_len, const struct addr *remote,
			      uint64_t now_us);

#endif
