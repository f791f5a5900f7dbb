/* Blocks of stream bytes, for both directions, and an optional cache of them.
 *
 * Small blocks keep short streams cheap, large ones make bulk efficient. Only
 * large ones are cached. The cache is meant to be one per engine thread, so that an
 * idle stream or connection holds nothing while bulk transfer does not churn the heap. */
#ifndef STREAM_BLOCK_H
#define STREAM_BLOCK_H

#include <stddef.h>
#include <stdint.h>

struct block {
	struct block *next;
	uint64_t off;		/* stream offset of data[0] */
	uint32_t cap;		/* bytes of data */
	uint8_t data[];
};

#define BLOCK_SMALL (1024 - (uint32_t)sizeof(struct block))	/* within malloc's fast bins */
#define BLOCK_MID (4096 - (uint32_t)sizeof(struct block))
#define BLOCK_LARGE UINT32_C(16384)	/* recvbuf's grid: a power of two */

/* Not thread-safe. Outlives every buffer that uses it. */
struct blockpool {
	struct block *free;
	uint32_t n, max;	/* blocks of BLOCK_LARGE held, most held */
};

void blockpool_init(struct blockpool *pool, uint32_t max);
void blockpool_fini(struct blockpool *pool);

/* pool may be NULL. NULL: no memory. */
struct block *block_new(struct blockpool *pool, uint64_t off, uint32_t cap);
void block_free(struct blockpool *pool, struct block *b);

static inline uint64_t block_end(const struct block *b) { return b->off + b->cap; }

#endif
