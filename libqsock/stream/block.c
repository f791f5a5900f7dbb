/* Allocation of stream blocks and the bounded cache of large ones. Knows nothing of
 * what the bytes are or who holds the blocks. */
#include "stream/block.h"

#include "base/mem.h"

void blockpool_init(struct blockpool *pool, uint32_t max)
{
	*pool = (struct blockpool){ .max = max };
}

void blockpool_fini(struct blockpool *pool)
{
	while (pool->free) {
		struct block *b = pool->free;
		pool->free = b->next;
		mem_free(b);
	}
	pool->n = 0;
}

struct block *block_new(struct blockpool *pool, uint64_t off, uint32_t cap)
{
	struct block *b;
	if (pool && pool->free && cap == BLOCK_LARGE) {
		b = pool->free;
		pool->free = b->next;
		pool->n--;
	} else {
		b = mem_alloc(sizeof(*b) + cap);
	}
	if (!b)
		return NULL;
	b->next = NULL;
	b->off = off;
	b->cap = cap;
	return b;
}

void block_free(struct blockpool *pool, struct block *b)
{
	if (!pool || b->cap != BLOCK_LARGE || pool->n >= pool->max) {
		mem_free(b);
		return;
	}
	b->next = pool->free;
	pool->free = b;
	pool->n++;
}
