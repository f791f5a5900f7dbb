#include "base/rangeset.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

void rangeset_init(struct rangeset *rs, uint32_t max)
{
	assert(max >= RANGESET_INLINE);
	*rs = (struct rangeset){ .cap = RANGESET_INLINE, .max = max };
	rs->v = rs->inl;
}

void rangeset_fini(struct rangeset *rs)
{
	if (rs->v != rs->inl)
		mem_free(rs->v);
	rs->v = rs->inl;
	rs->n = 0;
	rs->cap = RANGESET_INLINE;
}

void rangeset_clear(struct rangeset *rs)
{
	rs->n = 0;
}

/* Index of the first range with hi >= v (touching counts), n if none. Looks
 * from the end, where nearly all calls land. */
static uint32_t first_reaching(const struct rangeset *rs, uint64_t v)
{
	if (rs->n == 0 || rs->v[rs->n - 1].hi < v)
		return rs->n;
	uint32_t lo = 0, hi = rs->n - 1;
	if (hi == 0 || rs->v[hi - 1].hi < v)
		return hi;
	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		if (rs->v[mid].hi < v)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static int make_room(struct rangeset *rs)
{
	if (rs->n < rs->cap)
		return 0;
	if (rs->n >= rs->max)
		return QE_LIMIT;
	uint32_t cap = rs->cap * 4 < rs->max ? rs->cap * 4 : rs->max;
	bool inl = rs->v == rs->inl;
	struct range *v = mem_realloc(inl ? NULL : rs->v, cap * sizeof(*v));
	if (!v)
		return QE_NOMEM;
	if (inl)
		memcpy(v, rs->inl, sizeof(rs->inl));
	rs->v = v;
	rs->cap = cap;
	return 0;
}

static int insert_at(struct rangeset *rs, uint32_t i, uint64_t lo, uint64_t hi)
{
	int e = make_room(rs);
	if (e)
		return e;
	memmove(&rs->v[i + 1], &rs->v[i], (rs->n - i) * sizeof(rs->v[0]));
	rs->v[i] = (struct range){ lo, hi };
	rs->n++;
	return 0;
}

static void erase(struct rangeset *rs, uint32_t i, uint32_t count)
{
	memmove(&rs->v[i], &rs->v[i + count], (rs->n - i - count) * sizeof(rs->v[0]));
	rs->n -= count;
}

int rangeset_add(struct rangeset *rs, uint64_t lo, uint64_t hi)
{
	assert(lo < hi);
	uint32_t i = first_reaching(rs, lo);
	if (i == rs->n || hi < rs->v[i].lo)
		return insert_at(rs, i, lo, hi);
	uint32_t j = i;
	while (j + 1 < rs->n && rs->v[j + 1].lo <= hi)
		j++;
	if (lo < rs->v[i].lo)
		rs->v[i].lo = lo;
	rs->v[i].hi = hi > rs->v[j].hi ? hi : rs->v[j].hi;
	erase(rs, i + 1, j - i);
	return 0;
}

int rangeset_remove(struct rangeset *rs, uint64_t lo, uint64_t hi)
{
	assert(lo < hi);
	uint32_t i = first_reaching(rs, lo);
	if (i < rs->n && rs->v[i].hi == lo)
		i++;
	if (i == rs->n || rs->v[i].lo >= hi)
		return 0;
	if (rs->v[i].lo < lo && rs->v[i].hi > hi) {
		int e = insert_at(rs, i, rs->v[i].lo, lo);
		if (e)
			return e;
		rs->v[i + 1].lo = hi;
		return 0;
	}
	if (rs->v[i].lo < lo)
		rs->v[i++].hi = lo;
	uint32_t j = i;
	while (j < rs->n && rs->v[j].hi <= hi)
		j++;
	if (j < rs->n && rs->v[j].lo < hi)
		rs->v[j].lo = hi;
	erase(rs, i, j - i);
	return 0;
}

bool rangeset_covers(const struct rangeset *rs, uint64_t lo, uint64_t hi)
{
	if (lo >= hi)
		return true;
	uint32_t i = first_reaching(rs, lo + 1);
	return i < rs->n && rs->v[i].lo <= lo && rs->v[i].hi >= hi;
}

bool rangeset_contains(const struct rangeset *rs, uint64_t v)
{
	return v < UINT64_MAX && rangeset_covers(rs, v, v + 1);	/* no half-open range holds the largest value */
}

bool rangeset_overlaps(const struct rangeset *rs, uint64_t lo, uint64_t hi)
{
	uint32_t i = first_reaching(rs, lo + 1);
	return lo < hi && i < rs->n && rs->v[i].lo < hi;
}

void rangeset_drop_first(struct rangeset *rs)
{
	if (rs->n)
		erase(rs, 0, 1);
}

void rangeset_drop_below(struct rangeset *rs, uint64_t v)
{
	uint32_t k = 0;
	while (k < rs->n && rs->v[k].hi <= v)
		k++;
	erase(rs, 0, k);
	if (rs->n && rs->v[0].lo < v)
		rs->v[0].lo = v;
}
