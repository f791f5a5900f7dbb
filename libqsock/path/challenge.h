/* PATH_CHALLENGE and PATH_RESPONSE on one path. RFC 9000 8.2 */
#ifndef PATH_CHALLENGE_H
#define PATH_CHALLENGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/rng.h"

#define CHALLENGE_QUEUE 8	/* responses owed at once; more challenges are dropped */
#define CHALLENGE_EARLIER 3	/* lost challenges of ours whose late response still counts */

struct challenge {
	uint8_t owed[CHALLENGE_QUEUE][8];
	unsigned nowed;
	uint8_t ours[8];	/* to be sent while want_send; the sender clears that */
	uint8_t earlier[CHALLENGE_EARLIER][8];
	unsigned nearlier;
	bool pending;		/* our challenge waits for its response */
	bool want_send;
	uint64_t again_us, interval_us;	/* sent anew then, each time after twice the interval */
	uint64_t deadline_us;	/* our validation is given up then */
};

void challenge_init(struct challenge *c);
void challenge_on_received(struct challenge *c, const uint8_t data[8]);
/* Next response to send; removed from the queue. false: none. */
bool challenge_next_response(struct challenge *c, uint8_t data[8]);
static inline bool challenge_has_frames(const struct challenge *c) { return c->nowed || c->want_send; }
/* Start validating, or start over. interval_us: PTO of the path; give_up_us: after so long. RFC 9000 8.2.4, 9.4 */
void challenge_start(struct challenge *c, const struct rng *rng, uint64_t now_us, uint64_t interval_us,
		     uint64_t give_up_us);
void challenge_stop(struct challenge *c);	/* it does not matter any more */
/* true: it validates the path. RFC 9000 8.2.3 */
bool challenge_on_response(struct challenge *c, const uint8_t data[8]);
/* When to call challenge_on_time; UINT64_MAX: never. */
uint64_t challenge_deadline(const struct challenge *c);
/* Wants to be sent again when it is time, with different data (RFC 9000 13.3). true: gave up now. */
bool challenge_on_time(struct challenge *c, const struct rng *rng, uint64_t now_us);

#endif
