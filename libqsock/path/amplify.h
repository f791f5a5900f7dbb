/* The limit of three times the bytes received until a peer's address is
 * validated. RFC 9000 8.1, 14.1 */
#ifndef PATH_AMPLIFY_H
#define PATH_AMPLIFY_H

#include <stdbool.h>
#include <stdint.h>

struct amplify {
	uint64_t received, sent;	/* UDP payload bytes */
	bool validated;
};

static inline void amplify_init(struct amplify *a, bool validated)
{
	*a = (struct amplify){ .validated = validated };
}

/* Bytes that may be sent now; UINT64_MAX when validated. */
static inline uint64_t amplify_budget(const struct amplify *a)
{
	if (a->validated)
		return UINT64_MAX;
	return 3 * a->received > a->sent ? 3 * a->received - a->sent : 0;
}

#endif
