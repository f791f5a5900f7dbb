#include "support/ossl_mem.h"

#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>

static uint64_t countdown, made;
static bool failed;
static int64_t live, bytes;

static void account(void *p, int sign)
{
	if (!p)
		return;
	live += sign;
	bytes += sign * (int64_t)(malloc_usable_size(p) + sizeof(size_t));
}

static bool must_fail(void)
{
	made++;
	if (!countdown || --countdown)
		return false;
	failed = true;
	return true;
}

static void *hook_malloc(size_t n, const char *file, int line)
{
	void *p = must_fail() ? NULL : malloc(n);
	account(p, 1);
	return p;
}

static void *hook_realloc(void *old, size_t n, const char *file, int line)
{
	if (must_fail())
		return NULL;
	account(old, -1);
	void *p = realloc(old, n);
	account(p, 1);
	return p;
}

static void hook_free(void *p, const char *file, int line)
{
	account(p, -1);
	free(p);
}

bool ossl_mem_init(void)
{
	return CRYPTO_set_mem_functions(hook_malloc, hook_realloc, hook_free);
}

void ossl_mem_fail_nth(uint64_t n)
{
	countdown = n;
	failed = false;
}

bool ossl_mem_failed(void) { return failed; }
uint64_t ossl_mem_count(void) { return made; }
int64_t ossl_mem_live(void) { return live; }
int64_t ossl_mem_bytes(void) { return bytes; }
