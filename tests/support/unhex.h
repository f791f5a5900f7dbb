/* Hex strings of the RFCs as bytes: spaces are skipped. */
#ifndef SUPPORT_UNHEX_H
#define SUPPORT_UNHEX_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

static inline int unhex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Returns the bytes written, at most cap. */
static inline size_t unhex(const char *s, uint8_t *out, size_t cap)
{
	size_t digits = 0;

	for (; *s; s++) {
		if (*s == ' ')
			continue;
		int d = unhex_digit(*s);
		assert(d >= 0 && digits / 2 < cap);
		out[digits / 2] = (uint8_t)(digits % 2 ? out[digits / 2] | d : d << 4);
		digits++;
	}
	assert(digits % 2 == 0);
	return digits / 2;
}

#define assert_hex(p, len, hex) do {						\
	uint8_t want_[2048];							\
	assert_int_equal((len), unhex((hex), want_, sizeof(want_)));		\
	assert_memory_equal((p), want_, (len));					\
} while (0)

#endif
