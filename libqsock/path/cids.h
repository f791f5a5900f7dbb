/* Connection IDs in both directions of one connection. RFC 9000 5.1, 19.15, 19.16
 *
 * local: those we issued, that the peer puts in DCID of what it sends us.
 * remote: those the peer issued, that we put in DCID. */
#ifndef PATH_CIDS_H
#define PATH_CIDS_H

#include "wire/packet.h"

#define CIDS_LOCAL_MAX 8	/* issued and not retired, also the most the peer's limit makes us issue */
#define CIDS_REMOTE_MAX 8	/* our active_connection_id_limit */
#define CIDS_RETIRE_MAX (2 * CIDS_REMOTE_MAX)	/* RETIRE_CONNECTION_ID not yet acknowledged */

struct local_cid {
	uint64_t seq;
	struct cid cid;
	uint8_t token[RESET_TOKEN_LEN];
	bool want_send;		/* NEW_CONNECTION_ID has to go out (again) */
};

struct local_cids {
	struct local_cid v[CIDS_LOCAL_MAX];
	unsigned n;
	uint64_t next_seq;
	uint64_t offered;	/* sequence numbers below have been sent */
	uint64_t peer_limit;	/* active_connection_id_limit of the peer; 0 until its parameters are known */
};

/* first: the handshake CID, sequence number 0. */
void local_cids_init(struct local_cids *l, const struct cid *first);
/* How many more should be issued now: up to min(peer_limit, CIDS_LOCAL_MAX); 0 with a zero-length CID. */
unsigned local_cids_missing(const struct local_cids *l);
/* Add one that the caller made, only while some are missing. It wants to be sent. Returns its sequence number. */
uint64_t local_cids_add(struct local_cids *l, const struct cid *cid, const uint8_t token[RESET_TOKEN_LEN]);
/* RETIRE_CONNECTION_ID. used: the DCID of the packet that carried it. 0 and *gone (to unregister); QE_AGAIN already
 * retired; QE_PROTOCOL_VIOLATION: never sent to the peer, the one in use by this packet, or ours is zero-length. So
 * between two transmissions at most CIDS_LOCAL_MAX are retired. RFC 9000 19.16 */
int local_cids_retire(struct local_cids *l, uint64_t seq, const struct cid *used, struct cid *gone);
/* Lowest that wants to be sent, NULL: none. Once its frame is written: local_cids_on_sent. */
const struct local_cid *local_cids_next_unsent(const struct local_cids *l);
void local_cids_on_sent(struct local_cids *l, uint64_t seq);	/* from now on the peer may retire it */
void local_cids_on_lost(struct local_cids *l, uint64_t seq);	/* send again if still issued */

struct remote_cid {
	uint64_t seq;
	struct cid cid;
	bool used;		/* is or was in a DCID of ours: only then its token counts (RFC 9000 10.3.1) */
	bool has_token;
	uint8_t token[RESET_TOKEN_LEN];
};

#define CIDS_SEEN_WINDOW 64	/* sequence numbers, from the highest one down, remembered as received */

struct remote_cids {
	struct remote_cid v[CIDS_REMOTE_MAX + 1];
	unsigned n;
	unsigned current;	/* index of the one in use */
	uint64_t retire_prior_to;
	uint64_t highest_seq, seen;	/* bit i: highest_seq - i came; late copies revive no retired CID */
	uint64_t retire[CIDS_RETIRE_MAX];	/* sequence numbers to be retired: frames to send or unacknowledged */
	bool retire_want[CIDS_RETIRE_MAX];	/* to be sent: not yet, or lost */
	unsigned nretire;
};

void remote_cids_init(struct remote_cids *r, const struct cid *first);
/* The peer's first CID changed (Retry; the server's SCID). Only for sequence 0. */
void remote_cids_set_first(struct remote_cids *r, const struct cid *cid);
void remote_cids_set_first_token(struct remote_cids *r, const uint8_t token[RESET_TOKEN_LEN]);
/* NEW_CONNECTION_ID. 0; QE_PROTOCOL_VIOLATION (zero-length CIDs in use; sequence number or CID reused differently);
 * QE_CONNECTION_ID_LIMIT (more active than our limit, or too many retirements pending). The one in use is replaced when
 * it is retired by it. A repeated frame is 0 and changes nothing. RFC 9000 19.15, 5.1.2 */
int remote_cids_on_new(struct remote_cids *r, uint64_t seq, uint64_t retire_prior_to, const struct cid *cid,
		       const uint8_t token[RESET_TOKEN_LEN]);
static inline const struct cid *remote_cids_current(const struct remote_cids *r)
{
	return &r->v[r->current].cid;
}
/* Move to an unused CID (a new path, or to be unlinkable), retiring the old one. false: no spare, or too many
 * retirements pending. */
bool remote_cids_rotate(struct remote_cids *r);
/* Next sequence number to put in RETIRE_CONNECTION_ID, from then on taken as sent (remote_cids_retire_lost takes that
 * back); false: none. */
bool remote_cids_retire_pending(const struct remote_cids *r);	/* would next_retire find one? */
bool remote_cids_next_retire(struct remote_cids *r, uint64_t *seq);
void remote_cids_retire_acked(struct remote_cids *r, uint64_t seq);
void remote_cids_retire_lost(struct remote_cids *r, uint64_t seq);
/* Is this the stateless reset token of any CID we have used and not retired? Constant time over all. RFC 9000 10.3.1 */
bool remote_cids_is_reset(const struct remote_cids *r, const uint8_t token[RESET_TOKEN_LEN]);

#endif
