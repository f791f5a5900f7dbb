/* Hex to bytes for the wire tests. Every buffer is a heap block of exactly its
 * size, so that a sanitizer sees one byte read too far. */
#ifndef TEST_WIRE_HEX_H
#define TEST_WIRE_HEX_H

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

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

static inline int hex_digit(char c)
{
	return isdigit((unsigned char)c) ? c - '0' : tolower((unsigned char)c) - 'a' + 10;
}

/* Blanks between digits are skipped. */
static inline struct blob blob_hex(const char *s)
{
	uint8_t buf[2048];
	size_t n = 0;
	for (; *s; s++) {
		if (*s == ' ')
			continue;
		buf[n++] = (uint8_t)(hex_digit(s[0]) << 4 | hex_digit(s[1]));
		s++;
	}
	return blob_copy(buf, n);
}

/* The same seed gives the same run; a test prints it when it fails. */
static inline uint64_t test_rand(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* TEST_SEED in the environment, or the fixed one. */
static inline uint64_t test_seed(uint64_t dflt)
{
	const char *s = getenv("TEST_SEED");
	return s ? strtoull(s, NULL, 0) : dflt;
}

#endif
