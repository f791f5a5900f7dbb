/* Allocation: the one door to the heap, so that tests can make the nth
 * allocation fail and see that nothing stays allocated.
 *
 * All functions are thread-safe. Sizes in bytes. mem_free(NULL) is a no-op. */
#ifndef BASE_MEM_H
#define BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t n);		/* uninitialised; NULL when out of memory */
void *mem_zalloc(size_t n);		/* zeroed */
void *mem_realloc(void *p, size_t n);	/* p unchanged on failure */
char *mem_strdup(const char *s);
void mem_free(void *p);

/* Test hooks. fail_nth(n): the nth allocation from now fails (n >= 1), and
 * every later one succeeds again; 0 switches it off. live(): objects allocated
 * and not freed. count(): allocations ever made. */
void mem_test_fail_nth(uint64_t n);
int64_t mem_test_live(void);
uint64_t mem_test_count(void);

#endif
