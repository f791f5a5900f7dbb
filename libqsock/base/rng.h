/* Randomness as an argument: the sans-I/O half never asks the system.
 * io/ injects libbsd's arc4random, tests inject a seeded generator. */
#ifndef BASE_RNG_H
#define BASE_RNG_H

#include <stddef.h>
#include <stdint.h>

struct rng {
	void (*fill)(void *arg, void *buf, size_t len);
	void *arg;
};

static inline void rng_fill(const struct rng *r, void *buf, size_t len)
{
	r->fill(r->arg, buf, len);
}

static inline uint64_t rng_u64(const struct rng *r)
{
	uint64_t v;
	r->fill(r->arg, &v, sizeof(v));
	return v;
}

/* Uniform in [0, n), n >= 1 and far below 2^64. */
static inline uint64_t rng_below(const struct rng *r, uint64_t n)
{
	return rng_u64(r) % n;
}

#endif
