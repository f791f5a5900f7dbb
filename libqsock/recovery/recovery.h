/* Loss detection and the budget for sending, on one path: ties RTT, sent packets,
 * PTO, persistent congestion, congestion control, pacer and ECN together. RFC 9002 6, A
 *
 * Decides which packets are acknowledged or lost and when to look again; does
 * not know what frames mean. Results come back as lists for the caller to walk
 * and free into the pool. */
#ifndef RECOVERY_RECOVERY_H
#define RECOVERY_RECOVERY_H

#include "recovery/ackq.h"
#include "recovery/cc.h"
#include "recovery/ecn.h"
#include "recovery/pacer.h"
#include "recovery/rtt.h"
#include "recovery/sent.h"

#define PACKET_THRESHOLD 3		/* kPacketThreshold, RFC 9002 6.1.1 */
#define SKIP_ONE_IN 768			/* packet numbers, in SPACE_APP */
#define POOL_LINGER_US 1000000		/* free packets are kept so long after the last one in flight */
#define PERSISTENT_THRESHOLD 3		/* kPersistentCongestionThreshold, 7.6.1 */

struct recovery_space {
	struct sent_list sent;		/* unacknowledged and not declared lost, by rising pn */
	uint64_t largest_acked;		/* PN_NONE */
	uint64_t next_pn;
	uint64_t skipped[4];		/* recent packet numbers never sent, against optimistic ACKs; PN_NONE */
	uint64_t loss_time_us;		/* UINT64_MAX: none */
	uint64_t last_eliciting_at_us;
	uint32_t eliciting_in_flight;
	bool discarded;
};

struct recovery {
	struct recovery_space space[SPACE_COUNT];
	struct sent_pool pool;
	struct rtt rtt;
	struct cc cc;
	struct pacer pacer;
	struct ecn_path ecn;
	uint64_t in_flight;		/* bytes */
	uint32_t pto_count;
	uint64_t timer_us;		/* UINT64_MAX: unset */
	bool app_limited;		/* set by the owner: the last poll stopped for lack of data or of flow control
					 * credit, not by recovery_budget */
	uint64_t full_at_us;		/* when the window was last seen full. RFC 9002 7.8 */
	uint64_t path_since_us;		/* what was sent before belongs to another path. RFC 9000 9.4 */
	uint64_t newest_acked_at_us;	/* latest send time acknowledged in any space. RFC 9002 7.6.2 */
	uint64_t delivered_bytes, delivered_at_us, first_sent_at_us;
	/* totals for qsock_info */
	uint64_t packets_sent, packets_lost, bytes_sent, bytes_lost, bytes_acked;
};

/* What conn knows and the timer depends on. RFC 9002 6.2.1, 6.2.2.1 */
struct recovery_env {
	bool is_server;
	bool handshake_confirmed;
	bool has_handshake_keys;
	bool peer_validated;		/* the peer has completed address validation of us (client's anti-deadlock) */
	bool amplification_blocked;	/* server at the 3x limit: no timer is armed */
	uint64_t max_ack_delay_us;	/* the peer's */
};

struct ack_result {
	struct sent_list acked, lost;	/* to be walked, then given to sent_free_list */
	bool persistent;		/* persistent congestion was declared */
	uint64_t largest_newly_acked;	/* PN_NONE: nothing new */
};

/* mss: largest UDP payload we send, bytes. The struct must not be moved afterwards (it holds list heads). Packets in
 * an ack_result are to be freed before recovery_fini. */
void recovery_init(struct recovery *r, const struct cc_ops *ops, uint32_t mss, bool ecn, uint64_t now_us);
void recovery_fini(struct recovery *r);

/* The packet number for the next packet of a space. Now and then (1 in SKIP_ONE_IN) one is skipped in SPACE_APP.
 * random: any 64-bit value that the caller draws. RFC 9000 21.4 */
uint64_t recovery_next_pn(struct recovery *r, enum pn_space space, uint64_t random);
/* s (from sent_new(&r->pool)) left: the caller has set pn, at_us, bytes, the flags, acks_up_to and frames. Takes
 * ownership. Sets the timer. A packet that is not in flight (ACK only) is not retained. */
void recovery_on_sent(struct recovery *r, enum pn_space space, struct sent_packet *s, const struct recovery_env *env);
/* An ACK frame. ack_delay_us decoded with the peer's exponent. Fills *out (lists are initialised here, by rising
 * pn). Costs as much as there is newly acknowledged or lost, not as much as is in flight.
 * 0; QE_PROTOCOL_VIOLATION when it acknowledges a number never sent or skipped, nothing changed (RFC 9000 13.1). */
int recovery_on_ack(struct recovery *r, enum pn_space space, const struct frame_ack *ack, uint64_t ack_delay_us,
		    const struct recovery_env *env, uint64_t now_us, struct ack_result *out);

/* NONE: nothing for the caller to do (it was early, or only memory was returned). */
enum recovery_timer { RECOVERY_NONE, RECOVERY_LOSS, RECOVERY_PTO };
/* The timer passed. LOSS: out->lost has packets of *space. PTO: one or two ack-eliciting
 * probes must be sent in *space (pto_count was raised); for a client without anything in flight the space to
 * probe is Handshake if it has keys, else Initial. RFC 9002 6.2.4 */
enum recovery_timer recovery_on_timeout(struct recovery *r, const struct recovery_env *env, uint64_t now_us,
					enum pn_space *space, struct ack_result *out);
/* Recompute the timer after a change of env. */
void recovery_set_timer(struct recovery *r, const struct recovery_env *env, uint64_t now_us);
static inline uint64_t recovery_deadline(const struct recovery *r) { return r->timer_us; }

/* Keys of a space were discarded: forget its packets, reset pto_count. RFC 9002 6.4 */
void recovery_discard_space(struct recovery *r, enum pn_space space, const struct recovery_env *env, uint64_t now_us);
/* The peer has another address, to which everything goes that was sent from since_us on: congestion control, round-trip
 * time and ECN begin anew, and what went to the former address counts for none of them. RFC 9000 9.4 */
void recovery_new_path(struct recovery *r, const struct recovery_env *env, uint64_t since_us, uint64_t now_us);
/* Retry was received, or version negotiation: forget everything sent in Initial but keep the
 * packet number; RFC 9000 17.2.5.3, RFC 9002 6.3. Frames of the removed packets go to out->lost. */
void recovery_restart_initial(struct recovery *r, struct ack_result *out);

/* Bytes that may be sent now: min(cwnd - in_flight, pacer); 0 when that is less than one full packet. Probes
 * (RFC 9002 7.5) and packets that are not in flight need not ask. */
uint64_t recovery_budget(struct recovery *r, uint64_t now_us);
/* Congestion window alone has room for a packet. */
static inline bool recovery_cwnd_room(const struct recovery *r) { return r->in_flight + r->cc.mss <= r->cc.cwnd; }
/* When the pacer will let the next batch go; UINT64_MAX if it does not hold anything back. */
uint64_t recovery_pacer_deadline(const struct recovery *r, uint64_t now_us);
/* PTO of the application space without backoff, for draining and idle periods. RFC 9000 10.1, 10.2 */
uint64_t recovery_pto_us(const struct recovery *r, const struct recovery_env *env);
/* Largest pn in flight or acked is needed to encode packet numbers. */
static inline uint64_t recovery_largest_acked(const struct recovery *r, enum pn_space s)
{
	return r->space[s].largest_acked;
}

#endif
