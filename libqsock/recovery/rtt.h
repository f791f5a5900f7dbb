/* RTT estimate of one path. RFC 9002 5. All times in microseconds. */
#ifndef RECOVERY_RTT_H
#define RECOVERY_RTT_H

#include <stdbool.h>
#include <stdint.h>

#define RTT_GRANULARITY_US 1000		/* kGranularity, RFC 9002 6.1.2 */
#define RTT_INITIAL_US 333000		/* kInitialRtt, RFC 9002 6.2.2 */

struct rtt {
	uint64_t latest_us, min_us, smoothed_us, var_us;
	uint64_t first_sample_at_us;	/* time of the first sample, for persistent congestion */
	bool sampled;
};

void rtt_init(struct rtt *r);
/* ack_delay_us is already decoded and capped by max_ack_delay once the handshake
 * is confirmed, and 0 for Initial packets: the caller does this. RFC 9002 5.3 */
void rtt_sample(struct rtt *r, uint64_t latest_us, uint64_t ack_delay_us, uint64_t now_us);
/* smoothed + max(4*var, granularity) + max_ack_delay_us. RFC 9002 6.2.1 */
uint64_t rtt_pto_us(const struct rtt *r, uint64_t max_ack_delay_us);
/* How long a packet sent before an acknowledged one may still be called reordered. RFC 9002 6.1.2 */
uint64_t rtt_loss_delay_us(const struct rtt *r);
/* After persistent congestion the path may be another one: min starts over. RFC 9002 5.2 */
static inline void rtt_restart_min(struct rtt *r) { r->min_us = r->latest_us; }

#endif
