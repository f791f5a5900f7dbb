/* Variable-length integers, and the all-or-nothing way all of wire/ writes.
 * RFC 9000 16, A.1 */
#ifndef WIRE_VARINT_H
#define WIRE_VARINT_H

#include "base/bytes.h"

#define VARINT_MAX ((UINT64_C(1) << 62) - 1)

static inline size_t varint_len(uint64_t v)
{
	return v < 64 ? 1 : v < 16384 ? 2 : v < (UINT64_C(1) << 30) ? 4 : 8;
}

/* Big-endian loads and stores of a fixed width: compilers turn each into one
 * move and one swap, where a loop over n bytes stays a loop. */
static inline uint64_t varint_be4(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void varint_put4(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

/* 0 and r->failed when there is no whole varint; r->p then stays. */
static inline uint64_t rd_varint(struct rd *r)
{
	if (r->failed || r->p == r->end) {
		r->failed = true;
		return 0;
	}
	const uint8_t *p = r->p;
	unsigned prefix = *p >> 6;
	size_t n = (size_t)1 << prefix;
	if (rd_left(r) < n) {
		r->failed = true;
		return 0;
	}
	r->p += n;
	switch (prefix) {
	case 0:
		return *p;
	case 1:
		return (uint64_t)(*p & 0x3f) << 8 | p[1];
	case 2:
		return varint_be4(p) & 0x3fffffff;
	default:
		return (varint_be4(p) << 32 | varint_be4(p + 4)) & VARINT_MAX;
	}
}

/* v <= VARINT_MAX, in n bytes, n of 1, 2, 4, 8 and large enough for v. */
static inline bool wr_varint_n(struct wr *w, uint64_t v, size_t n)
{
	uint8_t *p = wr_claim(w, n);
	if (!p)
		return false;
	switch (n) {
	case 1:
		p[0] = (uint8_t)v;
		break;
	case 2:
		p[0] = (uint8_t)(0x40 | v >> 8);
		p[1] = (uint8_t)v;
		break;
	case 4:
		varint_put4(p, (uint32_t)v | UINT32_C(0x80000000));
		break;
	default:
		varint_put4(p, (uint32_t)(v >> 32) | UINT32_C(0xc0000000));
		varint_put4(p + 4, (uint32_t)v);
		break;
	}
	return true;
}

/* v <= VARINT_MAX, shortest form. */
static inline bool wr_varint(struct wr *w, uint64_t v)
{
	return wr_varint_n(w, v, varint_len(v));
}

/* All or nothing: writers fill a copy of w, and this takes it over if all of it
 * went in. false: w is as it was, not failed. */
static inline bool wr_commit(struct wr *w, const struct wr *written)
{
	if (written->failed)
		return false;
	*w = *written;
	return true;
}

#endif
