/* Bounds-checked cursors over byte buffers: rd reads, wr writes.
 *
 * Both latch: after the first access past the end every later one fails too,
 * so a decoder may read a whole structure and test once. Integers are big
 * endian, as everywhere in QUIC. */
#ifndef BASE_BYTES_H
#define BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct rd {
	const uint8_t *p, *end;
	bool failed;
};

static inline struct rd rd_of(const void *p, size_t len)
{
	return (struct rd){ p, (const uint8_t *)p + len, false };
}

static inline size_t rd_left(const struct rd *r) { return (size_t)(r->end - r->p); }

/* Borrow the next n bytes; NULL (and failed) when there are fewer. */
static inline const uint8_t *rd_bytes(struct rd *r, size_t n)
{
	if (r->failed || rd_left(r) < n) {
		r->failed = true;
		return NULL;
	}
	const uint8_t *p = r->p;
	r->p += n;
	return p;
}

static inline bool rd_copy(struct rd *r, void *dst, size_t n)
{
	const uint8_t *p = rd_bytes(r, n);
	if (p && n)
		memcpy(dst, p, n);
	return p != NULL;
}

/* Unsigned integer of n (1-8) bytes; 0 when failed. */
static inline uint64_t rd_uint(struct rd *r, size_t n)
{
	const uint8_t *p = rd_bytes(r, n);
	uint64_t v = 0;
	for (size_t i = 0; p && i < n; i++)
		v = v << 8 | p[i];
	return v;
}

struct wr {
	uint8_t *start, *p, *end;
	bool failed;
};

static inline struct wr wr_of(void *p, size_t cap)
{
	return (struct wr){ p, p, (uint8_t *)p + cap, false };
}

static inline size_t wr_left(const struct wr *w) { return (size_t)(w->end - w->p); }
static inline size_t wr_len(const struct wr *w) { return (size_t)(w->p - w->start); }

/* Claim the next n bytes to be filled by the caller; NULL when they do not fit. */
static inline uint8_t *wr_claim(struct wr *w, size_t n)
{
	if (w->failed || wr_left(w) < n) {
		w->failed = true;
		return NULL;
	}
	uint8_t *p = w->p;
	w->p += n;
	return p;
}

static inline bool wr_bytes(struct wr *w, const void *src, size_t n)
{
	uint8_t *p = wr_claim(w, n);
	if (p && n)
		memcpy(p, src, n);
	return p != NULL;
}

static inline bool wr_uint(struct wr *w, uint64_t v, size_t n)
{
	uint8_t *p = wr_claim(w, n);
	for (size_t i = n; p && i-- > 0; v >>= 8)
		p[i] = (uint8_t)v;
	return p != NULL;
}

#endif
