/* NewReno as RFC 9002 7.3 and appendix B describe it: slow start, one halving per
 * round trip, then a packet more for each window acknowledged. */
#include "recovery/cc.h"

/* cc->state: bytes acknowledged in congestion avoidance that have not yet bought a packet. RFC 9002 B.5 */
enum { ACKED };

static uint64_t min_window(const struct cc *cc)
{
	return 2 * (uint64_t)cc->mss;
}

static bool in_recovery(const struct cc *cc, uint64_t sent_at_us)
{
	return sent_at_us <= cc->recovery_start_us;
}

static void newreno_init(struct cc *cc, uint32_t mss_bytes, uint64_t now_us)
{
	*cc = (struct cc){ .ops = &cc_newreno, .mss = mss_bytes, .cwnd = CC_INITIAL_WINDOW(mss_bytes),
			   .ssthresh = UINT64_MAX };
}

static void newreno_on_sent(struct cc *cc, struct sent_packet *s, uint64_t in_flight, uint64_t now_us)
{
	/* Only what comes back moves the window. */
}

static void newreno_on_acked(struct cc *cc, const struct sent_packet *s, const struct rtt *rtt, bool cwnd_limited,
			     uint64_t now_us)
{
	if (!cwnd_limited || in_recovery(cc, s->at_us))
		return;
	if (cc->cwnd < cc->ssthresh) {
		cc->cwnd += s->bytes;
		return;
	}
	cc->state[ACKED] += s->bytes;
	if (cc->state[ACKED] >= cc->cwnd) {
		cc->state[ACKED] -= cc->cwnd;
		cc->cwnd += cc->mss;
	}
}

static void newreno_on_congestion(struct cc *cc, uint64_t sent_at_us, uint64_t lost_bytes, bool by_ecn,
				  uint64_t now_us)
{
	if (in_recovery(cc, sent_at_us))
		return;
	cc->recovery_start_us = now_us;
	cc->ssthresh = cc->cwnd / 2;
	cc->cwnd = cc->ssthresh > min_window(cc) ? cc->ssthresh : min_window(cc);
	cc->state[ACKED] = 0;
}

static void newreno_on_persistent(struct cc *cc, uint64_t now_us)
{
	cc->cwnd = min_window(cc);
	cc->recovery_start_us = 0;
	cc->state[ACKED] = 0;
}

/* A little faster than a window per round trip, so that pacing never is the bottleneck (RFC 9002 7.7); twice in slow
 * start, where the window doubles in that time. Before the first sample the initial window alone limits bursts. */
static uint64_t newreno_pacing_rate(const struct cc *cc, const struct rtt *rtt)
{
	if (!rtt->sampled)
		return 0;
	uint64_t bytes = cc->cwnd < cc->ssthresh ? 2 * cc->cwnd : cc->cwnd + cc->cwnd / 4;
	return bytes * 1000000 / (rtt->smoothed_us ? rtt->smoothed_us : 1);
}

const struct cc_ops cc_newreno = {
	.name = "newreno",
	.init = newreno_init,
	.on_sent = newreno_on_sent,
	.on_acked = newreno_on_acked,
	.on_congestion = newreno_on_congestion,
	.on_persistent = newreno_on_persistent,
	.pacing_rate = newreno_pacing_rate,
};
