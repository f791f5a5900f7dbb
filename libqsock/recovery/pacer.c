/* The token bucket. Decides when bytes may leave, given a rate; where the rate
 * comes from is not known here. Credit is exact to a millionth of a byte, so asking
 * often costs nothing. */
#include "recovery/pacer.h"

#define RATE_MAX UINT64_C(100000000000)	/* bytes/s; keeps elapsed * rate within 64 bits */
#define ELAPSED_MAX_US UINT64_C(60000000)

void pacer_init(struct pacer *p, uint32_t mss, uint64_t now_us)
{
	*p = (struct pacer){ .tokens = 10 * (uint64_t)mss, .last_us = now_us, .mss = mss };
}

static uint64_t burst(const struct pacer *p, uint64_t rate)
{
	uint64_t b = rate / 500, least = 10 * (uint64_t)p->mss;
	if (b < least)
		b = least;
	return b < PACER_BURST_MAX ? b : PACER_BURST_MAX;
}

static uint64_t batch(const struct pacer *p, uint64_t rate)
{
	uint64_t b = rate / 1000, most = burst(p, rate) / 2;
	if (b > most)
		b = most;
	return b > p->mss ? b : p->mss;
}

static void refill(struct pacer *p, uint64_t rate, uint64_t now_us)
{
	uint64_t elapsed = now_us > p->last_us ? now_us - p->last_us : 0, most = burst(p, rate);
	if (elapsed > ELAPSED_MAX_US)
		elapsed = ELAPSED_MAX_US;
	uint64_t credit = elapsed * rate + p->frac;
	p->tokens += credit / 1000000;
	p->frac = (uint32_t)(credit % 1000000);
	if (p->tokens >= most) {
		p->tokens = most;
		p->frac = 0;
	}
	if (now_us > p->last_us)
		p->last_us = now_us;
}

uint64_t pacer_budget(struct pacer *p, uint64_t rate, uint64_t now_us)
{
	if (!rate) {
		p->last_us = now_us > p->last_us ? now_us : p->last_us;
		return UINT64_MAX;
	}
	refill(p, rate < RATE_MAX ? rate : RATE_MAX, now_us);
	return p->tokens;
}

void pacer_on_sent(struct pacer *p, uint32_t bytes)
{
	/* Probes leave without asking: the bucket just gets empty. */
	p->tokens -= bytes < p->tokens ? bytes : p->tokens;
}

uint64_t pacer_next_us(const struct pacer *p, uint64_t rate, uint64_t now_us)
{
	if (!rate)
		return now_us;
	if (rate > RATE_MAX)
		rate = RATE_MAX;
	struct pacer then = *p;
	refill(&then, rate, now_us);
	if (then.tokens >= p->mss)
		return now_us;
	uint64_t missing = (batch(p, rate) - then.tokens) * 1000000 - then.frac;
	return now_us + (missing + rate - 1) / rate;
}
