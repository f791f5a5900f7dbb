#include "support/simrng.h"

#include <openssl/rand.h>
#include <string.h>

void simrng_init(struct simrng *r, uint64_t seed, uint64_t lane)
{
	uint64_t state = seed ^ splitmix64(&lane);

	for (int i = 0; i < 4; i++)
		r->s[i] = splitmix64(&state);
}

static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

uint64_t simrng_u64(struct simrng *r)
{
	uint64_t *s = r->s;
	uint64_t out = rotl(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return out;
}

uint64_t simrng_below(struct simrng *r, uint64_t n)
{
	return simrng_u64(r) % n;
}

uint64_t simrng_between(struct simrng *r, uint64_t lo, uint64_t hi)
{
	return lo + simrng_below(r, hi - lo + 1);
}

bool simrng_chance(struct simrng *r, unsigned permille)
{
	return permille && simrng_below(r, 1000) < permille;
}

static void fill(void *arg, void *buf, size_t len)
{
	uint8_t *p = buf;

	while (len) {
		uint64_t v = simrng_u64(arg);
		size_t n = len < sizeof(v) ? len : sizeof(v);

		memcpy(p, &v, n);
		p += n;
		len -= n;
	}
}

struct rng simrng_hook(struct simrng *r)
{
	return (struct rng){ fill, r };
}

/* OpenSSL marks the way to replace its generator as deprecated in favour of providers; for a test's purpose the
 * old hook is a tenth of the code and works in all of 3.x. */
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

static struct simrng openssl_rng;

static int openssl_bytes(unsigned char *buf, int len)
{
	fill(&openssl_rng, buf, (size_t)len);
	return 1;
}

static int openssl_status(void)
{
	return 1;
}

void simrng_seed_openssl(uint64_t seed)
{
	static const RAND_METHOD method = {
		.bytes = openssl_bytes, .pseudorand = openssl_bytes, .status = openssl_status,
	};

	simrng_init(&openssl_rng, seed, 0x55);
	RAND_set_rand_method(&method);
}
