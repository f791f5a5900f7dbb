/* Hex to bytes for the wire tests. Every buffer is a heap block of exactly its
 * size, so that a sanitizer sees one byte read too far. */
#ifndef TEST_WIRE_HEX_H
#define TEST_WIRE_HEX_H

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "support/simrng.h"
#include "support/unhex.h"

struct blob {
	uint8_t *p;
	size_t len;
};

static inline struct blob blob_copy(const void *p, size_t len)
{
	volatile size_t n = len ? len : 1;	/* else gcc 'knows' the size and warns of branches not taken */
	struct blob b = { malloc(n), len };
	if (len)
		memcpy(b.p, p, len);
	return b;
}

/* Of hex digits: unhex.h. */
static inline struct blob blob_hex(const char *s)
{
	uint8_t buf[2048];
	return blob_copy(buf, unhex(s, buf, sizeof(buf)));
}

#endif
