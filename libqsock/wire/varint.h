/* Variable-length integers. RFC 9000 16, A.1 */
#ifndef WIRE_VARINT_H
#define WIRE_VARINT_H

#include "base/bytes.h"

#define VARINT_MAX ((UINT64_C(1) << 62) - 1)

static inline size_t varint_len(uint64_t v)
{
	return v < 64 ? 1 : v < 16384 ? 2 : v < (UINT64_C(1) << 30) ? 4 : 8;
}

static inline uint64_t rd_varint(struct rd *r)
{
	if (r->failed || r->p == r->end) {
		r->failed = true;
		return 0;
	}
	size_t n = (size_t)1 << (*r->p >> 6);
	uint64_t v = rd_uint(r, n);
	return v & (UINT64_MAX >> (66 - 8 * n));
}

/* v <= VARINT_MAX, in n bytes, n of 1, 2, 4, 8 and large enough for v. */
static inline bool wr_varint_n(struct wr *w, uint64_t v, size_t n)
{
	uint64_t prefix = n == 1 ? 0 : n == 2 ? 1 : n == 4 ? 2 : 3;
	return wr_uint(w, v | prefix << (8 * n - 2), n);
}

/* v <= VARINT_MAX, shortest form. */
static inline bool wr_varint(struct wr *w, uint64_t v)
{
	return wr_varint_n(w, v, varint_len(v));
}

#endif
