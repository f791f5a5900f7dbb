/* Token bucket: so many per second on average, so many at once. */
#ifndef BASE_BUCKET_H
#define BASE_BUCKET_H

#include <stdbool.h>
#include <stdint.h>

#define BUCKET_UNIT UINT64_C(1000000)	/* one token; so a rate per second is units per microsecond */

struct bucket {
	uint64_t rate, burst;	/* tokens per second; tokens, < 2^32 both */
	uint64_t level;		/* units */
	uint64_t last_us;
};

/* Starts full. */
static inline void bucket_init(struct bucket *b, uint32_t rate, uint32_t burst, uint64_t now_us)
{
	*b = (struct bucket){ .rate = rate, .burst = burst, .level = burst * BUCKET_UNIT, .last_us = now_us };
}

static inline bool bucket_take(struct bucket *b, uint64_t now_us)
{
	uint64_t full = b->burst * BUCKET_UNIT;
	uint64_t elapsed = now_us > b->last_us ? now_us - b->last_us : 0;
	if (elapsed > full)
		elapsed = full;		/* long enough to be full again at any rate; keeps the product below 2^64 */
	uint64_t gained = elapsed && b->rate > full / elapsed ? full : elapsed * b->rate;
	b->level = b->level + gained < full ? b->level + gained : full;
	b->last_us = now_us > b->last_us ? now_us : b->last_us;
	if (b->level < BUCKET_UNIT)
		return false;
	b->level -= BUCKET_UNIT;
	return true;
}

/* One token back, as far as there is room. */
static inline void bucket_give(struct bucket *b)
{
	uint64_t full = b->burst * BUCKET_UNIT;
	b->level = b->level + BUCKET_UNIT < full ? b->level + BUCKET_UNIT : full;
}

#endif
