/* What was received in one packet number space, and when an ACK must go out.
 * RFC 9000 13.2, 13.4.1 */
#ifndef RECOVERY_ACKQ_H
#define RECOVERY_ACKQ_H

#include "base/rangeset.h"
#include "wire/packet.h"

#define ACKQ_MAX_RANGES 64	/* oldest dropped beyond */

/* ECN field of the IP header. */
enum ecn { ECN_NOT_ECT = 0, ECN_ECT1 = 1, ECN_ECT0 = 2, ECN_CE = 3 };

struct ackq {
	struct rangeset got;
	uint64_t forgotten_below;	/* packet numbers below count as duplicates */
	uint64_t largest;		/* PN_NONE: none yet */
	uint64_t largest_at_us;
	uint64_t largest_eliciting;	/* PN_NONE: none yet */
	uint64_t new_from;		/* lowest number received since the last ACK sent; PN_NONE: none */
	uint64_t ecn[3];		/* ECT0, ECT1, CE as the ACK frame orders them */
	uint32_t eliciting;		/* ack-eliciting packets since the last ACK sent */
	bool immediate;
	uint64_t deadline_us;		/* UINT64_MAX: no ACK owed */
	uint64_t max_delay_us;		/* our max_ack_delay; 0: every eliciting packet is acknowledged at once */
};

/* max_delay_us: our max_ack_delay for SPACE_APP, 0 for Initial and Handshake. */
void ackq_init(struct ackq *q, uint64_t max_delay_us);
void ackq_fini(struct ackq *q);

/* To be asked after the packet authenticated, before its frames are processed. RFC 9000 12.3 */
bool ackq_is_duplicate(const struct ackq *q, uint64_t pn);
/* Record a processed packet that ackq_is_duplicate did not know. 0; QE_NOMEM, unchanged (then the packet must be
 * treated as lost). An ACK becomes due at once on an eliciting packet that is the second since the last ACK, that
 * shows a gap or reordering, or that is marked CE; else after max_delay. A whole receive batch may be recorded
 * before ackq_due is asked: one ACK then answers it. RFC 9000 13.2.1, 13.2.2 */
int ackq_on_packet(struct ackq *q, uint64_t pn, bool eliciting, enum ecn ecn, uint64_t now_us);

bool ackq_due(const struct ackq *q, uint64_t now_us);	/* must send now */
bool ackq_owed(const struct ackq *q);	/* something new and eliciting is unacknowledged: worth bundling */
static inline uint64_t ackq_deadline(const struct ackq *q) { return q->deadline_us; }
/* ACK Delay field: (now - time of largest) >> exponent. */
uint64_t ackq_delay_field(const struct ackq *q, uint64_t now_us, unsigned exponent);
static inline bool ackq_has_ecn(const struct ackq *q) { return q->ecn[0] | q->ecn[1] | q->ecn[2]; }
void ackq_on_ack_sent(struct ackq *q);
/* Our ACK whose largest was `largest` was acknowledged: older ranges need not be repeated. RFC 9000 13.2.4 */
void ackq_on_ack_acked(struct ackq *q, uint64_t largest);

#endif
