/* Congestion control behind a const vtable. A controller sees packets leave and
 * arrive and answers two questions: how much may be in flight, how fast. It knows
 * nothing of streams, keys or sockets. RFC 9002 7
 *
 * To add one: a file with its ops, an entry in cc_ops_by_name. */
#ifndef RECOVERY_CC_H
#define RECOVERY_CC_H

#include "recovery/rtt.h"
#include "recovery/sent.h"

struct cc;

struct cc_ops {
	const char *name;
	void (*init)(struct cc *cc, uint32_t mss_bytes, uint64_t now_us);
	void (*on_sent)(struct cc *cc, struct sent_packet *s, uint64_t in_flight, uint64_t now_us);
	/* One call for each acknowledged packet. cwnd_limited: sending was limited by cwnd, not by the application. */
	void (*on_acked)(struct cc *cc, const struct sent_packet *s, const struct rtt *rtt, bool cwnd_limited,
			 uint64_t now_us);
	/* Loss or an increase of CE counts; sent_at_us: of the newest lost or marked packet. */
	void (*on_congestion)(struct cc *cc, uint64_t sent_at_us, uint64_t lost_bytes, bool by_ecn, uint64_t now_us);
	void (*on_persistent)(struct cc *cc, uint64_t now_us);
	uint64_t (*pacing_rate)(const struct cc *cc, const struct rtt *rtt);	/* bytes per second, 0: unpaced */
};

struct cc {
	const struct cc_ops *ops;
	uint32_t mss;			/* max datagram size, bytes */
	uint64_t cwnd;			/* bytes */
	uint64_t ssthresh;
	uint64_t recovery_start_us;	/* packets sent before are in recovery; 0: never */
	uint64_t state[16];		/* private to the controller */
};

extern const struct cc_ops cc_newreno;
/* NULL: unknown name. */
const struct cc_ops *cc_ops_by_name(const char *name);

#define CC_INITIAL_WINDOW(mss) ((uint64_t)(10 * (mss) < 14720 ? 10 * (mss) : (2 * (mss) > 14720 ? 2 * (mss) : 14720)))

#endif
