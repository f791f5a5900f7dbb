#include "base/mem.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static atomic_uint_fast64_t made;
static atomic_int_fast64_t live;
static atomic_uint_fast64_t fail_at;

static void *counted(void *p)
{
	if (p)
		atomic_fetch_add_explicit(&live, 1, memory_order_relaxed);
	return p;
}

static int must_fail(void)
{
	uint64_t n = atomic_fetch_add_explicit(&made, 1, memory_order_relaxed) + 1;
	return n == atomic_load_explicit(&fail_at, memory_order_relaxed);
}

void *mem_alloc(size_t n)
{
	return must_fail() ? NULL : counted(malloc(n));
}

void *mem_zalloc(size_t n)
{
	return must_fail() ? NULL : counted(calloc(1, n));
}

void *mem_realloc(void *p, size_t n)
{
	if (!p)
		return mem_alloc(n);
	return must_fail() ? NULL : realloc(p, n);
}

char *mem_strdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *d = mem_alloc(n);
	return d ? memcpy(d, s, n) : NULL;
}

void mem_free(void *p)
{
	if (p)
		atomic_fetch_sub_explicit(&live, 1, memory_order_relaxed);
	free(p);
}

void mem_test_fail_nth(uint64_t n)
{
	uint64_t now = atomic_load_explicit(&made, memory_order_relaxed);
	atomic_store_explicit(&fail_at, n ? now + n : 0, memory_order_relaxed);
}

int64_t mem_test_live(void) { return atomic_load_explicit(&live, memory_order_relaxed); }
uint64_t mem_test_count(void) { return atomic_load_explicit(&made, memory_order_relaxed); }
