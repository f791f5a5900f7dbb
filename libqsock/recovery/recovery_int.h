/* Shared by recovery.c, loss.c and timer.c only. */
#ifndef RECOVERY_RECOVERY_INT_H
#define RECOVERY_RECOVERY_INT_H

#include "recovery/recovery.h"

/* Take s out of its space and out of what is in flight; it still belongs to the caller. */
void recovery_unlink(struct recovery *r, enum pn_space space, struct sent_packet *s);

/* Declare lost what the thresholds of a space say, append it to out->lost, tell congestion control. out->acked are
 * the packets of the ACK that led here, not yet reported to congestion control. Sets the space's loss_time_us.
 * RFC 9002 6.1, 7.6, A.10, B.8 */
void recovery_detect_lost(struct recovery *r, enum pn_space space, const struct recovery_env *env, uint64_t now_us,
			  struct ack_result *out);

/* With nothing else to wait for, have the timer end the packet pool of a connection that stays idle. */
void recovery_linger(struct recovery *r, uint64_t now_us);

/* RFC 9002 A.8 */
bool recovery_peer_validated(const struct recovery *r, const struct recovery_env *env);

static inline void ack_result_init(struct ack_result *out)
{
	TAILQ_INIT(&out->acked);
	TAILQ_INIT(&out->lost);
	out->persistent = false;
	out->largest_newly_acked = PN_NONE;
}

#endif
