/* A set of 64-bit integers kept as sorted, disjoint, non-adjacent half-open
 * ranges [lo, hi). Used for received packet numbers, received and acknowledged
 * stream bytes. The number of ranges is capped, because a peer can drive it.
 *
 * Cheap where it matters: extending the last range is O(1), no allocation is
 * made while there are at most RANGESET_INLINE ranges. */
#ifndef BASE_RANGESET_H
#define BASE_RANGESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RANGESET_INLINE 2

struct range {
	uint64_t lo, hi;
};

struct rangeset {
	struct range *v;	/* inl or a heap array */
	uint32_t n, cap, max;	/* ranges held, room, most allowed */
	struct range inl[RANGESET_INLINE];
};

/* max: most ranges ever held, >= RANGESET_INLINE. The struct must not be
 * moved by memcpy after init (v may point into it). */
void rangeset_init(struct rangeset *rs, uint32_t max);
void rangeset_fini(struct rangeset *rs);
void rangeset_clear(struct rangeset *rs);

/* Add [lo, hi), lo < hi. 0; QE_NOMEM; QE_LIMIT when it would need more than
 * max ranges. Unchanged on error. */
int rangeset_add(struct rangeset *rs, uint64_t lo, uint64_t hi);
/* Remove [lo, hi), lo < hi; parts not in the set are ignored. Same errors
 * (removing the middle of a range splits it). */
int rangeset_remove(struct rangeset *rs, uint64_t lo, uint64_t hi);

bool rangeset_contains(const struct rangeset *rs, uint64_t v);
/* Is all of [lo, hi) in the set? True for lo == hi. */
bool rangeset_covers(const struct rangeset *rs, uint64_t lo, uint64_t hi);
/* Is any of [lo, hi) in the set? */
bool rangeset_overlaps(const struct rangeset *rs, uint64_t lo, uint64_t hi);
/* Drop the lowest range. */
void rangeset_drop_first(struct rangeset *rs);
/* Drop everything below v. Never fails. */
void rangeset_drop_below(struct rangeset *rs, uint64_t v);

static inline bool rangeset_empty(const struct rangeset *rs) { return rs->n == 0; }
static inline struct range rangeset_first(const struct rangeset *rs) { return rs->v[0]; }
static inline struct range rangeset_last(const struct rangeset *rs) { return rs->v[rs->n - 1]; }

#endif
