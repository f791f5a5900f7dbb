/* The process-wide handles of fetch.h. Decides only who wins when two threads
 * fetch the same algorithm at once: the first to publish; the other frees its
 * copy. No pthread_once, so a fetch that failed for want of memory is not
 * remembered as a failure for ever. */
#include "crypto/fetch.h"

#include <openssl/evp.h>
#include <stdatomic.h>

const EVP_CIPHER *cipher_get0(enum cipher_id id)
{
	static const char *const names[CIPHER_COUNT] = {
		[CIPHER_AES_128_GCM] = "AES-128-GCM",
		[CIPHER_AES_256_GCM] = "AES-256-GCM",
		[CIPHER_CHACHA20_POLY1305] = "ChaCha20-Poly1305",
		[CIPHER_AES_128_ECB] = "AES-128-ECB",
		[CIPHER_AES_256_ECB] = "AES-256-ECB",
		[CIPHER_CHACHA20] = "ChaCha20",
	};
	static _Atomic(EVP_CIPHER *) handles[CIPHER_COUNT];

	EVP_CIPHER *have = atomic_load_explicit(&handles[id], memory_order_acquire);
	if (have)
		return have;
	EVP_CIPHER *mine = EVP_CIPHER_fetch(NULL, names[id], NULL);
	if (!mine || atomic_compare_exchange_strong(&handles[id], &have, mine))
		return mine;
	EVP_CIPHER_free(mine);
	return have;
}

const EVP_MD *digest_get0(enum hash h)
{
	static const char *const names[] = { [HASH_SHA256] = "SHA256", [HASH_SHA384] = "SHA384" };
	static _Atomic(EVP_MD *) handles[2];

	EVP_MD *have = atomic_load_explicit(&handles[h], memory_order_acquire);
	if (have)
		return have;
	EVP_MD *mine = EVP_MD_fetch(NULL, names[h], NULL);
	if (!mine || atomic_compare_exchange_strong(&handles[h], &have, mine))
		return mine;
	EVP_MD_free(mine);
	return have;
}
