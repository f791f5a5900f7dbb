/* Answers to datagrams that belong to no connection: version negotiation, Retry,
 * stateless reset, and the refusal of a connection. Each is smaller than what it answers. */
#ifndef ENDPOINT_STATELESS_H
#define ENDPOINT_STATELESS_H

#include "base/addr.h"
#include "base/bucket.h"
#include "base/rng.h"
#include "wire/packet.h"

#define ANSWER_MAX 544		/* bytes; the largest is version negotiation with two CIDs of 255 */
#define ANSWERS_QUEUED 64	/* waiting for poll_transmit; more are dropped: the peer asks again */
#define RETRY_SCID_MIN 8	/* RFC 9000 7.2: clients' DCIDs are at least so long, and stay so after Retry */

struct answer {
	struct addr local, remote;
	size_t len;
	uint8_t data[ANSWER_MAX];
};

struct answers {
	struct answer v[ANSWERS_QUEUED];
	unsigned head, n;
};

/* The slot behind the queue, NULL when it is full. It counts once answers_commit is called. */
struct answer *answers_claim(struct answers *q);
void answers_commit(struct answers *q);
/* Oldest, removed; valid until the next claim. NULL: none. */
const struct answer *answers_pop(struct answers *q);

/* All fill out (ANSWER_MAX bytes) and return its length; 0: no answer. */

/* trigger: a PACKET_UNKNOWN_VERSION. RFC 9000 6.1 */
size_t answer_version_negotiation(const struct rng *rng, const struct packet *trigger, uint8_t *out);
/* initial: a client's, without a valid token. scid_len: of the CID it shall use from now on, at least RETRY_SCID_MIN
 * is taken. RFC 9000 17.2.5.1 */
size_t answer_retry(const struct rng *rng, const uint8_t token_key[32], const struct packet *initial,
		    const struct addr *peer, size_t scid_len, uint64_t now_us, uint8_t *out);
/* To a short header datagram of trigger_len bytes for a CID nobody has. 0 when that is too small. RFC 9000 10.3 */
size_t answer_reset(const struct rng *rng, const uint8_t reset_key[32], const struct cid *dcid, size_t trigger_len,
		    uint8_t *out);
/* CONNECTION_CLOSE with a transport error in an Initial packet of our own. RFC 9000 5.2.2, 8.1.2, 10.2.3 */
size_t answer_close(const struct packet *initial, int qe, uint8_t *out);

/* Does this Initial packet authenticate under the keys its DCID gives? Works on a copy. Nothing is remembered for
 * datagrams that are not at least this. RFC 9001 5.2 */
bool initial_authentic(const struct packet *initial);

#endif
