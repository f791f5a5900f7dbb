/* Reassembly: puts received bytes at their place, knows which are there, hands out the
 * contiguous front.
 *
 * Blocks begin and end on a grid of BLOCK_LARGE, except that the first bytes into an empty
 * buffer get a small block when they are few, which then has at most one neighbour in its cell on
 * either side. So a peer cannot drive the number of blocks above credit / BLOCK_LARGE + 3, whatever
 * order it sends in. Knows nothing of credit or stream states. */
#include "stream/recvbuf.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"

void recvbuf_init(struct recvbuf *rb)
{
	*rb = (struct recvbuf){ .final_size = RECVBUF_NO_FINAL };
	rangeset_init(&rb->got, RECVBUF_MAX_RANGES + 1);
}

/* Free b and all behind it; prev is the block before it, NULL: b is the head. */
static void drop_from(struct recvbuf *rb, struct block *prev, struct block *b)
{
	if (prev)
		prev->next = NULL;
	else
		rb->head = NULL;
	rb->tail = prev;
	rb->at = NULL;
	while (b) {
		struct block *next = b->next;
		block_free(rb->pool, b);
		b = next;
	}
}

void recvbuf_fini(struct recvbuf *rb)
{
	drop_from(rb, NULL, rb->head);
	rangeset_fini(&rb->got);
}

/* ---- insertion ---------------------------------------------------------- */

int recvbuf_check(const struct recvbuf *rb, uint64_t off, size_t len, bool fin)
{
	uint64_t end = off + len;
	if (end > rb->final_size)
		return QE_FINAL_SIZE;
	if (fin && (end < rb->highest || (rb->final_size != RECVBUF_NO_FINAL && end != rb->final_size)))
		return QE_FINAL_SIZE;
	return 0;
}

/* A block for offset at, between its neighbours. */
static struct block *make_block(struct recvbuf *rb, struct block *prev, struct block *next, uint64_t at, size_t need)
{
	uint64_t lo = at & ~(uint64_t)(BLOCK_LARGE - 1);
	uint64_t hi = lo + BLOCK_LARGE;
	if (!prev && !next && need <= BLOCK_MID) {
		uint32_t cap = need <= BLOCK_SMALL ? BLOCK_SMALL : BLOCK_MID;
		lo = at;
		hi = hi - at > cap ? at + cap : hi;
	}
	if (prev && block_end(prev) > lo)
		lo = block_end(prev);
	if (next && next->off < hi)
		hi = next->off;

	struct block *b = block_new(rb->pool, lo, (uint32_t)(hi - lo));
	if (!b)
		return NULL;
	b->next = next;
	if (prev)
		prev->next = b;
	else
		rb->head = b;
	if (!next)
		rb->tail = b;
	return b;
}

/* The last block that begins at or below off; NULL: none. */
static struct block *block_below(const struct recvbuf *rb, uint64_t off)
{
	if (!rb->head || rb->head->off > off)
		return NULL;
	if (rb->tail->off <= off)
		return rb->tail;
	struct block *b = rb->at && rb->at->off <= off ? rb->at : rb->head;
	while (b->next && b->next->off <= off)
		b = b->next;
	return b;
}

/* Make blocks cover [lo, hi); *first is the one of lo. */
static int cover(struct recvbuf *rb, uint64_t lo, uint64_t hi, struct block **first)
{
	struct block *b = block_below(rb, lo);
	*first = NULL;
	while (lo < hi) {
		struct block *next = b ? b->next : rb->head;
		if (!b || block_end(b) <= lo) {
			b = next && next->off <= lo ? next : make_block(rb, b, next, lo, hi - lo);
			if (!b)
				return QE_NOMEM;
		}
		if (!*first)
			*first = b;
		lo = block_end(b);
	}
	return 0;
}

static struct block *write_at(struct block *b, uint64_t off, const uint8_t *data, uint64_t len)
{
	while (off >= block_end(b))
		b = b->next;
	for (;; b = b->next) {
		size_t n = block_end(b) - off < len ? block_end(b) - off : len;
		memcpy(b->data + (off - b->off), data, n);
		len -= n;
		if (!len)
			return b;
		off += n;
		data += n;
	}
}

/* Copy only what is not there yet. */
static struct block *write_gaps(const struct recvbuf *rb, struct block *b, uint64_t lo, uint64_t hi,
				const uint8_t *data)
{
	const struct rangeset *got = &rb->got;
	uint64_t base = lo;
	if (!rangeset_overlaps(got, lo, hi))
		return write_at(b, lo, data, hi - lo);
	for (uint32_t i = 0; i < got->n && got->v[i].lo < hi; i++) {
		if (got->v[i].hi <= lo)
			continue;
		if (got->v[i].lo > lo)
			b = write_at(b, lo, data + (lo - base), got->v[i].lo - lo);
		lo = got->v[i].hi;
	}
	return lo < hi ? write_at(b, lo, data + (lo - base), hi - lo) : b;
}

static int store(struct recvbuf *rb, uint64_t lo, uint64_t hi, const uint8_t *data)
{
	struct block *b;
	if (rangeset_covers(&rb->got, lo, hi))
		return 0;
	int e = cover(rb, lo, hi, &b);
	if (!e) {
		b = write_gaps(rb, b, lo, hi, data);
		e = rangeset_add(&rb->got, lo, hi);
	}
	if (!e) {
		rb->at = b;
		return 0;
	}
	/* what is not in got does not exist: surplus blocks do no harm beside others, but are not left alone */
	if (rangeset_empty(&rb->got))
		drop_from(rb, NULL, rb->head);
	return e;
}

int recvbuf_insert(struct recvbuf *rb, uint64_t off, const uint8_t *data, size_t len, bool fin)
{
	uint64_t end = off + len;
	uint64_t lo = off > rb->read_off ? off : rb->read_off;
	int e = recvbuf_check(rb, off, len, fin);
	if (!e && lo < end && !rb->discarding)
		e = store(rb, lo, end, data + (lo - off));
	if (e)
		return e;
	if (end > rb->highest)
		rb->highest = end;
	if (fin)
		rb->final_size = end;
	return 0;
}

int recvbuf_reset(struct recvbuf *rb, uint64_t final_size)
{
	if (final_size < rb->highest || (rb->final_size != RECVBUF_NO_FINAL && rb->final_size != final_size))
		return QE_FINAL_SIZE;
	uint64_t keep = rb->read_off + recvbuf_readable(rb);
	rb->final_size = rb->highest = final_size;
	if (keep == rb->read_off) {
		rangeset_fini(&rb->got);
		drop_from(rb, NULL, rb->head);
		return 0;
	}
	/* keep is the end of the first range: nothing is split */
	(void)rangeset_remove(&rb->got, keep, UINT64_MAX);
	struct block *b = block_below(rb, keep - 1);
	drop_from(rb, b, b->next);
	return 0;
}

/* ---- reading ------------------------------------------------------------ */

uint64_t recvbuf_readable(const struct recvbuf *rb)
{
	if (rangeset_empty(&rb->got) || rangeset_first(&rb->got).lo != rb->read_off)
		return 0;
	return rangeset_first(&rb->got).hi - rb->read_off;
}

int recvbuf_peek(const struct recvbuf *rb, struct iovec *iov, int cap, size_t *bytes)
{
	uint64_t left = recvbuf_readable(rb);
	uint64_t at = rb->read_off;
	int n = 0;

	for (struct block *b = rb->head; left && n < cap; b = b->next) {
		size_t len = block_end(b) - at < left ? block_end(b) - at : left;
		iov[n].iov_base = b->data + (at - b->off);
		iov[n].iov_len = len;
		n++;
		at += len;
		left -= len;
	}
	*bytes = at - rb->read_off;
	return n;
}

void recvbuf_consume(struct recvbuf *rb, size_t n)
{
	assert(n <= recvbuf_readable(rb));
	rb->read_off += n;
	rangeset_drop_below(&rb->got, rb->read_off);
	if (rangeset_empty(&rb->got)) {
		rangeset_fini(&rb->got);
		drop_from(rb, NULL, rb->head);
		return;
	}
	while (block_end(rb->head) <= rb->read_off) {
		struct block *b = rb->head;
		rb->head = b->next;
		if (rb->at == b)
			rb->at = NULL;
		block_free(rb->pool, b);
	}
}

bool recvbuf_complete(const struct recvbuf *rb)
{
	return rb->final_size != RECVBUF_NO_FINAL &&
	       (rb->discarding || rb->read_off + recvbuf_readable(rb) == rb->final_size);
}

void recvbuf_discard(struct recvbuf *rb)
{
	rb->discarding = true;
	rangeset_fini(&rb->got);
	drop_from(rb, NULL, rb->head);
}
