/* The estimator of RFC 9002 5: smoothed RTT, its variation, the minimum, and the
 * two periods derived from them. Knows nothing of packets. */
#include "recovery/rtt.h"

void rtt_init(struct rtt *r)
{
	*r = (struct rtt){ .smoothed_us = RTT_INITIAL_US, .var_us = RTT_INITIAL_US / 2 };
}

void rtt_sample(struct rtt *r, uint64_t latest_us, uint64_t ack_delay_us, uint64_t now_us)
{
	r->latest_us = latest_us;
	if (!r->sampled) {
		r->sampled = true;
		r->first_sample_at_us = now_us;
		r->min_us = r->smoothed_us = latest_us;
		r->var_us = latest_us / 2;
		return;
	}
	if (latest_us < r->min_us)
		r->min_us = latest_us;
	/* A delay that would lead below the minimum is not believed. RFC 9002 5.3 */
	uint64_t adjusted = latest_us - r->min_us >= ack_delay_us ? latest_us - ack_delay_us : latest_us;
	uint64_t off = adjusted > r->smoothed_us ? adjusted - r->smoothed_us : r->smoothed_us - adjusted;
	/* The variation is taken against the old mean, as in A.7 and RFC 6298. */
	r->var_us = (3 * r->var_us + off) / 4;
	r->smoothed_us = (7 * r->smoothed_us + adjusted) / 8;
}

uint64_t rtt_pto_us(const struct rtt *r, uint64_t max_ack_delay_us)
{
	uint64_t var = 4 * r->var_us;
	return r->smoothed_us + (var > RTT_GRANULARITY_US ? var : RTT_GRANULARITY_US) + max_ack_delay_us;
}

uint64_t rtt_loss_delay_us(const struct rtt *r)
{
	uint64_t rtt = r->latest_us > r->smoothed_us ? r->latest_us : r->smoothed_us;
	uint64_t delay = rtt + rtt / 8;
	return delay > RTT_GRANULARITY_US ? delay : RTT_GRANULARITY_US;
}
