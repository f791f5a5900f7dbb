/* Token bucket over the pacing rate. Sized so that a whole GSO train may leave
 * at once as soon as the rate justifies it: burst = max(10 packets, 2 ms of rate), at most PACER_BURST_MAX.
 * RFC 9002 7.7 */
#ifndef RECOVERY_PACER_H
#define RECOVERY_PACER_H

#include <stdint.h>

#define PACER_BURST_MAX 262144	/* bytes */

struct pacer {
	uint64_t tokens;	/* bytes that may leave now */
	uint64_t last_us;
	uint32_t mss;
	uint32_t frac;		/* millionths of a byte on top of tokens */
};

void pacer_init(struct pacer *p, uint32_t mss, uint64_t now_us);
/* Bytes that may be sent now; rate in bytes/s, 0: unlimited (UINT64_MAX). */
uint64_t pacer_budget(struct pacer *p, uint64_t rate, uint64_t now_us);
void pacer_on_sent(struct pacer *p, uint32_t bytes);
/* now_us when a full packet may leave already. Else the moment when a batch may leave, so that a sender wakes for a
 * train, not for a packet: 1 ms of rate, at least one packet, at most half the burst. */
uint64_t pacer_next_us(const struct pacer *p, uint64_t rate, uint64_t now_us);

#endif
