/* Send buffer: which bytes are unsent, in flight, lost or done, and where they lie.
 *
 * Invariants: blocks cover [base, end) without gaps (and beyond end only while a claim
 * is open); lost lies in [base, next), acked in (base, next). lost may hold bytes that need not be
 * sent again, never the other way round. Knows nothing of credit but the limit it is given. */
#include "stream/sendbuf.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"

#define CLAIM_IDLE BLOCK_MID
#define CLAIM_BULK (4 * BLOCK_LARGE)

void sendbuf_init(struct sendbuf *sb)
{
	*sb = (struct sendbuf){ 0 };
	rangeset_init(&sb->acked, SENDBUF_MAX_RANGES);
	rangeset_init(&sb->lost, SENDBUF_MAX_RANGES);
}

static void pop_head(struct sendbuf *sb)
{
	struct block *b = sb->head;
	sb->head = b->next;
	if (!sb->head)
		sb->tail = NULL;
	if (sb->at_next == b)
		sb->at_next = sb->head;
	if (sb->at_old == b)
		sb->at_old = NULL;
	block_free(sb->pool, b);
}

static void drop_blocks(struct sendbuf *sb)
{
	while (sb->head)
		pop_head(sb);
}

void sendbuf_fini(struct sendbuf *sb)
{
	drop_blocks(sb);
	rangeset_fini(&sb->acked);
	rangeset_fini(&sb->lost);
}

/* ---- writing ------------------------------------------------------------ */

static uint32_t next_cap(const struct sendbuf *sb, uint64_t need)
{
	if (sb->bulk)
		return BLOCK_LARGE;
	return need <= BLOCK_SMALL ? BLOCK_SMALL : BLOCK_MID;
}

/* Append blocks up to offset upto; how far they reach now. */
static uint64_t extend(struct sendbuf *sb, uint64_t upto)
{
	uint64_t have = sb->tail ? block_end(sb->tail) : sb->end;
	while (have < upto) {
		struct block *b = block_new(sb->pool, have, next_cap(sb, upto - have));
		if (!b)
			break;
		if (sb->tail)
			sb->tail->next = b;
		else
			sb->head = b;
		sb->tail = b;
		have = block_end(b);
	}
	return have;
}

/* Give back the blocks that hold nothing. */
static void trim(struct sendbuf *sb)
{
	struct block *last = sb->at_next ? sb->at_next : sb->head;
	if (!last)
		return;
	if (last->off >= sb->end) {
		assert(last == sb->head);
		drop_blocks(sb);
		return;
	}
	while (last->next && last->next->off < sb->end)
		last = last->next;
	struct block *b = last->next;
	last->next = NULL;
	sb->tail = last;
	while (b) {
		struct block *next = b->next;
		block_free(sb->pool, b);
		b = next;
	}
}

static struct block *block_at(const struct sendbuf *sb, uint64_t off)
{
	struct block *b = sb->head;
	if (sb->at_next && off >= sb->at_next->off)
		b = sb->at_next;
	else if (sb->at_old && off >= sb->at_old->off)
		b = sb->at_old;
	while (off >= block_end(b))
		b = b->next;
	return b;
}

size_t sendbuf_claim(struct sendbuf *sb, size_t want, struct iovec *iov, int iov_cap, int *n)
{
	assert(!sb->fin && iov_cap > 0);
	uint64_t most = sb->bulk ? CLAIM_BULK : CLAIM_IDLE;
	uint64_t have = extend(sb, sb->end + (want < most ? want : most));
	uint64_t room = have - sb->end < want ? have - sb->end : want;
	size_t sum = 0;

	*n = 0;
	struct block *b = room ? block_at(sb, sb->end) : NULL;
	for (; sum < room && *n < iov_cap; b = b->next) {
		uint64_t at = sb->end + sum;
		size_t len = block_end(b) - at < room - sum ? block_end(b) - at : room - sum;
		iov[*n].iov_base = b->data + (at - b->off);
		iov[*n].iov_len = len;
		(*n)++;
		sum += len;
	}
	sb->claimed = (uint32_t)sum;
	return sum;
}

void sendbuf_commit(struct sendbuf *sb, size_t len)
{
	assert(len <= sb->claimed);
	sb->bulk = sb->bulk || (len == sb->claimed && len);
	sb->end += len;
	sb->claimed = 0;
	trim(sb);
}

int sendbuf_write(struct sendbuf *sb, const void *data, size_t len)
{
	assert(!sb->fin && !sb->claimed);
	const uint8_t *p = data;
	if (!len)
		return 0;
	if (len > BLOCK_MID)
		sb->bulk = true;
	if (extend(sb, sb->end + len) < sb->end + len) {
		trim(sb);
		return QE_NOMEM;
	}
	for (struct block *b = block_at(sb, sb->end); len; b = b->next) {
		size_t n = block_end(b) - sb->end < len ? block_end(b) - sb->end : len;
		memcpy(b->data + (sb->end - b->off), p, n);
		sb->end += n;
		p += n;
		len -= n;
	}
	return 0;
}

void sendbuf_finish(struct sendbuf *sb)
{
	sb->fin = true;
}

void sendbuf_discard(struct sendbuf *sb)
{
	assert(!sb->claimed);
	sb->end = sb->base = sb->next;
	sb->fin = sb->fin_sent = sb->fin_lost = sb->fin_acked = false;
	sb->bulk = false;
	drop_blocks(sb);
	rangeset_fini(&sb->acked);
	rangeset_fini(&sb->lost);
}

/* ---- sending ------------------------------------------------------------ */

static uint64_t sendable_end(const struct sendbuf *sb, uint64_t limit)
{
	return sb->end < limit ? sb->end : limit;
}

static bool fin_pending(const struct sendbuf *sb)
{
	return sb->fin && !sb->fin_acked && sb->next == sb->end && (!sb->fin_sent || sb->fin_lost);
}

bool sendbuf_pending(const struct sendbuf *sb, uint64_t limit)
{
	return sendable_end(sb, limit) > sb->next || !rangeset_empty(&sb->lost) || fin_pending(sb);
}

bool sendbuf_next(const struct sendbuf *sb, uint64_t limit, uint64_t *off, uint64_t *len, bool *fin)
{
	if (!rangeset_empty(&sb->lost)) {
		struct range r = rangeset_first(&sb->lost);
		*off = r.lo;
		*len = r.hi - r.lo;
		*fin = sb->fin && !sb->fin_acked && r.hi == sb->end;
		return true;
	}
	uint64_t hi = sendable_end(sb, limit);
	*off = sb->next;
	*len = hi > sb->next ? hi - sb->next : 0;
	*fin = *len ? sb->fin && hi == sb->end : fin_pending(sb);
	return *len || *fin;
}

void sendbuf_copy(struct sendbuf *sb, uint64_t off, size_t len, uint8_t *dst)
{
	assert(off >= sb->base && len <= sb->end - off);
	bool old = off < sb->next;
	if (!len)
		return;
	for (struct block *b = block_at(sb, off);; b = b->next) {
		size_t n = block_end(b) - off < len ? block_end(b) - off : len;
		memcpy(dst, b->data + (off - b->off), n);
		off += n;
		dst += n;
		len -= n;
		if (!len) {
			if (old)
				sb->at_old = b;
			return;
		}
	}
}

void sendbuf_on_sent(struct sendbuf *sb, uint64_t off, uint64_t len, bool fin)
{
	if (fin) {
		sb->fin_sent = true;
		sb->fin_lost = false;
	}
	if (!len)
		return;
	if (off < sb->next) {
		/* the front of the first lost range: shrinks it, cannot need memory */
		(void)rangeset_remove(&sb->lost, off, off + len);
		return;
	}
	assert(off == sb->next && len <= sb->end - sb->next);
	sb->next += len;
	struct block *b = sb->at_next ? sb->at_next : sb->head;
	while (b->next && sb->next >= block_end(b))
		b = b->next;
	sb->at_next = b;
}

/* ---- fates -------------------------------------------------------------- */

/* Widens a neighbour when another island cannot be kept. */
static void mark_lost(struct sendbuf *sb, uint64_t lo, uint64_t hi)
{
	if (!rangeset_add(&sb->lost, lo, hi))
		return;
	uint32_t i = 0;
	while (i < sb->lost.n && sb->lost.v[i].hi < lo)
		i++;
	if (i)
		lo = sb->lost.v[i - 1].hi;
	else
		hi = sb->lost.v[0].lo;
	int e = rangeset_add(&sb->lost, lo, hi);
	assert(!e);
	(void)e;
}

static void advance_base(struct sendbuf *sb, uint64_t to)
{
	sb->base = to;
	if (!rangeset_empty(&sb->acked)) {
		rangeset_drop_below(&sb->acked, sb->base);
		if (!rangeset_empty(&sb->acked) && rangeset_first(&sb->acked).lo == sb->base) {
			sb->base = rangeset_first(&sb->acked).hi;
			rangeset_drop_first(&sb->acked);
		}
	}
	if (!rangeset_empty(&sb->lost))
		rangeset_drop_below(&sb->lost, sb->base);
	while (sb->head && block_end(sb->head) <= sb->base)
		pop_head(sb);
	if (sb->base < sb->end)
		return;
	/* idle: hold nothing */
	drop_blocks(sb);
	rangeset_fini(&sb->acked);
	rangeset_fini(&sb->lost);
	sb->bulk = false;
}

void sendbuf_on_acked(struct sendbuf *sb, uint64_t off, uint64_t len, bool fin)
{
	uint64_t hi = off + len;
	assert(hi <= sb->next && !sb->claimed);
	if (fin && sb->fin_sent) {
		sb->fin_acked = true;
		sb->fin_lost = false;
	}
	if (off < sb->base)
		off = sb->base;
	if (off >= hi)
		return;
	/* acknowledged after it was declared lost; left to be sent again where the set cannot be split */
	if (!rangeset_empty(&sb->lost))
		(void)rangeset_remove(&sb->lost, off, hi);
	if (off == sb->base)
		advance_base(sb, hi);
	else if (rangeset_add(&sb->acked, off, hi))
		mark_lost(sb, off, hi);
}

void sendbuf_on_lost(struct sendbuf *sb, uint64_t off, uint64_t len, bool fin)
{
	uint64_t hi = off + len;
	assert(hi <= sb->next);
	if (fin && sb->fin_sent && !sb->fin_acked)
		sb->fin_lost = true;
	if (off < sb->base)
		off = sb->base;
	if (off >= hi)
		return;
	if (!rangeset_overlaps(&sb->acked, off, hi)) {
		mark_lost(sb, off, hi);
		return;
	}
	for (uint32_t i = 0; i < sb->acked.n && sb->acked.v[i].lo < hi; i++) {
		struct range r = sb->acked.v[i];
		if (r.hi <= off)
			continue;
		if (r.lo > off)
			mark_lost(sb, off, r.lo);
		off = r.hi;
	}
	if (off < hi)
		mark_lost(sb, off, hi);
}

void sendbuf_rewind(struct sendbuf *sb)
{
	sendbuf_on_lost(sb, sb->base, sb->next - sb->base, sb->fin_sent);
}
