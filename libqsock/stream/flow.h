/* Flow control credit, one direction of one stream or of the connection.
 * RFC 9000 4 */
#ifndef STREAM_FLOW_H
#define STREAM_FLOW_H

#include <stdbool.h>
#include <stdint.h>

/* What we allow the peer. The window doubles, up to window_max, when a window's
 * worth is consumed faster than in 4 round trips. */
struct rxflow {
	uint64_t limit;		/* advertised absolute limit */
	uint64_t received;	/* highest offset seen (stream) or sum of them (connection) */
	uint64_t consumed;	/* read by the application */
	uint64_t window, window_max;
	uint64_t epoch_at_us, epoch_consumed;	/* auto-tuning measurement */
};

void rxflow_init(struct rxflow *f, uint64_t window, uint64_t window_max);
/* n more bytes were received (final). 0; QE_FLOW_CONTROL over the limit. */
int rxflow_on_received(struct rxflow *f, uint64_t n);
/* n bytes were read. true: a new limit is worth sending (less than 3/4 of the window left). */
bool rxflow_on_consumed(struct rxflow *f, uint64_t n);
bool rxflow_wants_update(const struct rxflow *f);
/* The new limit to advertise; tunes the window. Never less than before. */
uint64_t rxflow_next_limit(struct rxflow *f, uint64_t srtt_us, uint64_t now_us);

/* What the peer allows us. */
struct txflow {
	uint64_t limit, used;
	uint64_t blocked_at;	/* limit for which a BLOCKED frame was sent; UINT64_MAX: none */
};

void txflow_init(struct txflow *f, uint64_t limit);
static inline uint64_t txflow_credit(const struct txflow *f) { return f->limit - f->used; }
void txflow_use(struct txflow *f, uint64_t n);		/* n <= credit */
/* A MAX_* frame: smaller values are ignored. true: credit grew. */
bool txflow_on_max(struct txflow *f, uint64_t max);
/* Once per limit: should a BLOCKED frame be sent now that we are stopped here? Marks it sent. */
bool txflow_blocked(struct txflow *f);

#endif
