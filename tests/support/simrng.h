/* Seeded randomness for tests: splitmix64 to spread a seed, xoshiro256** to draw from it (both written from the
 * published algorithms of Vigna, and Blackman and Vigna). One seed gives one sequence, on every machine. */
#ifndef TESTS_SIMRNG_H
#define TESTS_SIMRNG_H

#include <stdbool.h>
#include <stdlib.h>

#include "base/rng.h"

struct simrng {
	uint64_t s[4];
};

static inline uint64_t splitmix64(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

/* What a test begins with: TEST_SEED in the environment, or its own. A test prints it when it fails. */
static inline uint64_t test_seed(uint64_t otherwise)
{
	const char *s = getenv("TEST_SEED");

	return s ? strtoull(s, NULL, 0) : otherwise;
}

/* lane: independent sequences from one seed. */
void simrng_init(struct simrng *r, uint64_t seed, uint64_t lane);
uint64_t simrng_u64(struct simrng *r);
uint64_t simrng_below(struct simrng *r, uint64_t n);		/* [0, n), n >= 1 */
uint64_t simrng_between(struct simrng *r, uint64_t lo, uint64_t hi);	/* [lo, hi] */
bool simrng_chance(struct simrng *r, unsigned permille);
/* As base/rng.h wants it; r is borrowed. */
struct rng simrng_hook(struct simrng *r);

/* From now on OpenSSL draws from this seed too, so that a handshake has the same bytes, and sizes, on every run.
 * Process-wide, not thread-safe. */
void simrng_seed_openssl(uint64_t seed);

#endif
