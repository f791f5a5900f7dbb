/* OpenSSL's allocations, counted and made to fail: what base/mem.h does for
 * ours. One thread only. */
#ifndef SUPPORT_OSSL_MEM_H
#define SUPPORT_OSSL_MEM_H

#include <stdbool.h>
#include <stdint.h>

/* First thing in main, before any call into OpenSSL. false: too late. */
bool ossl_mem_init(void);
/* The nth allocation from now fails (n >= 1); 0: none. */
void ossl_mem_fail_nth(uint64_t n);
/* Did it? */
bool ossl_mem_failed(void);
uint64_t ossl_mem_count(void);	/* allocations ever made */
int64_t ossl_mem_live(void);	/* blocks */
int64_t ossl_mem_bytes(void);	/* with malloc's rounding */

#endif
