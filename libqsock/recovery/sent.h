/* Sent packets awaiting acknowledgement, and what each carried. Plain data: loss
 * detection and congestion control read it, conn dispatches on the frames. */
#ifndef RECOVERY_SENT_H
#define RECOVERY_SENT_H

#include <bsd/sys/queue.h>
#include <stdbool.h>
#include <stdint.h>

#include "wire/frame.h"

#define SENT_INLINE 2
#define SENT_POOL_MAX 256	/* free packets kept for reuse */
#define SENT_KEEP_FRAMES 16	/* a larger frame array does not stay with a free packet */

/* What has to be known of a frame when its packet is acknowledged or lost. */
struct sent_frame {
	uint8_t retx;		/* enum retx */
	bool fin;		/* STREAM: carried FIN. MAX_STREAMS, STREAMS_BLOCKED: unidirectional */
	uint32_t len;		/* CRYPTO, STREAM: bytes */
	uint64_t id;		/* stream id, or sequence number of a CID, or level of CRYPTO */
	uint64_t off;		/* CRYPTO, STREAM: offset; else the value sent */
};

struct sent_packet {
	TAILQ_ENTRY(sent_packet) link;
	uint64_t pn;
	uint64_t at_us;
	uint16_t bytes;		/* UDP payload share, tag included */
	uint16_t nframes, cap;	/* of frames */
	bool eliciting : 1;
	bool in_flight : 1;	/* counts toward congestion control */
	bool ect : 1;		/* sent ECT(0) */
	bool repeated : 1;	/* a probe took its content over, and with it the duty to repeat it when lost */
	bool app_limited : 1;	/* for rate samples; set by recovery_on_sent, as the three below */
	uint64_t acks_up_to;	/* largest of the ACK it carried; PN_NONE: none */
	uint64_t delivered_bytes, delivered_at_us, first_sent_at_us;
	struct sent_frame *frames;	/* inl or heap */
	struct sent_frame inl[SENT_INLINE];
};
TAILQ_HEAD(sent_list, sent_packet);

_Static_assert(sizeof(struct sent_packet) <= 128, "one per packet in flight: two cache lines");

/* A free list so that steady state allocates nothing. */
struct sent_pool {
	struct sent_list free;
	uint32_t nfree, nused;	/* nused: packets outside */
};
void sent_pool_init(struct sent_pool *p);
void sent_pool_fini(struct sent_pool *p);
/* Give the free packets back to the heap, for a connection that went idle. */
void sent_pool_trim(struct sent_pool *p);
/* A packet without frames, flags off, acks_up_to PN_NONE, the rest undefined; NULL on no memory. */
struct sent_packet *sent_new(struct sent_pool *p);
void sent_free(struct sent_pool *p, struct sent_packet *s);
void sent_free_list(struct sent_pool *p, struct sent_list *l);
/* Room for one more frame, zeroed; NULL on no memory. Merges nothing. */
struct sent_frame *sent_add_frame(struct sent_packet *s);
/* Make sure the next n sent_add_frame calls cannot fail. 0; QE_NOMEM. */
int sent_reserve(struct sent_packet *s, unsigned n);

#endif
