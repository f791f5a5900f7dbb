/* The simulated network itself, with raw hosts: what the other tests here rely on. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/simapp.h"

struct got {
	size_t count, flipped_bits, ce;
	uint64_t bytes, first_us, last_us;
	uint64_t order[64];
};

static void on_raw(void *arg, struct simhost *h, const struct simdgram *d)
{
	struct got *g = arg;

	if (!g->count)
		g->first_us = d->now_us;
	g->last_us = d->now_us;
	if (g->count < 64)
		g->order[g->count] = d->nth;
	g->count++;
	g->bytes += d->len;
	g->ce += d->ecn == ECN_CE;
	for (size_t i = 0; i < d->len; i++)
		g->flipped_bits += (size_t)__builtin_popcount(d->data[i] ^ 0xa5);
}

struct scene {
	struct simnet *net;
	struct simhost *a, *b;
	struct got got;
};

static void scene_open(struct scene *s, uint64_t seed, const struct simlink *l)
{
	struct simhost_ops ops = { .arg = &s->got, .raw = on_raw };

	*s = (struct scene){ .net = simnet_new(seed) };
	s->a = simnet_host(s->net, "a", false, NULL, NULL);
	s->b = simnet_host(s->net, "b", false, NULL, &ops);
	simnet_link(s->net, s->a, s->b, l);
}

static void send_many(struct scene *s, size_t n, size_t len)
{
	uint8_t data[2000];

	memset(data, 0xa5, sizeof(data));
	for (size_t i = 0; i < n; i++)
		simnet_inject(s->net, &s->a->addr, &s->b->addr, data, len);
	simnet_run(s->net, NULL, NULL, 1000 * SIM_S);
}

static void simnet__delay_and_bandwidth__arrive_when_due(void **state)
{
	struct scene s;
	struct simlink l = { .delay_us = 15 * SIM_MS, .bytes_per_s = 1000000 };

	scene_open(&s, 1, &l);
	uint64_t start = simnet_now(s.net);
	send_many(&s, 10, 1000);
	assert_int_equal(s.got.count, 10);
	assert_int_equal(s.got.first_us - start, 16 * SIM_MS);	/* 1 ms on the wire, then 15 ms */
	assert_int_equal(s.got.last_us - start, 25 * SIM_MS);
	assert_int_equal(s.got.flipped_bits, 0);
	simnet_free(s.net);
}

static void simnet__queue__tail_drop(void **state)
{
	struct scene s;
	struct simlink l = { .bytes_per_s = 1000000, .queue_bytes = 5000 };

	scene_open(&s, 1, &l);
	send_many(&s, 10, 1000);
	assert_int_equal(s.got.count, 5);
	assert_int_equal(s.got.order[4], 4);
	simnet_free(s.net);
}

static void simnet__mtu__larger_vanish(void **state)
{
	struct scene s;
	struct simlink l = { .mtu = 1200 };

	scene_open(&s, 1, &l);
	send_many(&s, 1, 1200);
	send_many(&s, 1, 1201);
	assert_int_equal(s.got.count, 1);
	simnet_free(s.net);
}

static void simnet__chances__near_their_share(void **state)
{
	static const struct {
		struct simlink l;
		size_t min, max;
	} rows[] = {
		{ { .loss = 300 }, 6800, 7200 },
		{ { .loss = 1000 }, 0, 0 },
		{ { .loss = 1000, .max_losses_in_row = 3 }, 2500, 2500 },
		{ { .duplicate = 200 }, 11800, 12200 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct scene s;

		scene_open(&s, 7, &rows[i].l);
		send_many(&s, 10000, 20);
		assert_in_range(s.got.count, rows[i].min, rows[i].max);
		simnet_free(s.net);
	}
}

static void simnet__corrupt__flips_few_bits(void **state)
{
	struct scene s;
	struct simlink l = { .corrupt = 1000 };

	scene_open(&s, 3, &l);
	send_many(&s, 1000, 100);
	assert_int_equal(s.got.count, 1000);
	assert_in_range(s.got.flipped_bits, 1000, 3000);
	simnet_free(s.net);
}

static void simnet__reorder__later_overtakes(void **state)
{
	struct scene s;
	struct simlink l = { .delay_us = SIM_MS, .reorder = 300, .bytes_per_s = 1000000 };
	size_t overtaken = 0;

	scene_open(&s, 5, &l);
	send_many(&s, 64, 100);
	assert_int_equal(s.got.count, 64);
	for (size_t i = 1; i < 64; i++)
		overtaken += s.got.order[i] < s.got.order[i - 1];
	assert_in_range(overtaken, 5, 40);
	simnet_free(s.net);
}

static bool every_third(void *arg, const struct simdgram *d)
{
	return d->nth % 3 == 0;
}

static void simnet__script__drops_what_it_says(void **state)
{
	struct scene s;
	struct simlink l = { .delay_us = SIM_MS };
	struct simnet_hooks hooks = { .drop = every_third };

	scene_open(&s, 1, &l);
	simnet_hooks(s.net, &hooks);
	send_many(&s, 9, 10);
	assert_int_equal(s.got.count, 6);
	assert_int_equal(s.got.order[0], 1);
	simnet_free(s.net);
}

static uint64_t digest_of(uint64_t seed)
{
	struct scene s;
	struct simlink l = { .delay_us = SIM_MS, .loss = 100, .reorder = 100, .corrupt = 100, .duplicate = 100 };

	scene_open(&s, seed, &l);
	send_many(&s, 500, 50);
	uint64_t digest = simnet_digest(s.net);
	simnet_free(s.net);
	return digest;
}

static void simnet__seed__decides_everything(void **state)
{
	assert_true(digest_of(11) == digest_of(11));
	assert_true(digest_of(11) != digest_of(12));
}

static void simpattern__any_cut__same_bytes(void **state)
{
	uint8_t whole[300], part[300];

	simpattern_fill(4, 1000, whole, sizeof(whole));
	for (size_t cut = 0; cut <= sizeof(whole); cut++) {
		simpattern_fill(4, 1000, part, cut);
		simpattern_fill(4, 1000 + cut, part + cut, sizeof(part) - cut);
		assert_memory_equal(whole, part, sizeof(whole));
	}
	assert_int_equal(simpattern_check(4, 1000, whole, sizeof(whole)), sizeof(whole));
	whole[257] ^= 1;
	assert_int_equal(simpattern_check(4, 1000, whole, sizeof(whole)), 257);
	simpattern_fill(8, 1000, part, sizeof(part));
	assert_int_not_equal(simpattern_check(4, 1000, part, sizeof(part)), sizeof(part));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(simnet__delay_and_bandwidth__arrive_when_due),
		cmocka_unit_test(simnet__queue__tail_drop),
		cmocka_unit_test(simnet__mtu__larger_vanish),
		cmocka_unit_test(simnet__chances__near_their_share),
		cmocka_unit_test(simnet__corrupt__flips_few_bits),
		cmocka_unit_test(simnet__reorder__later_overtakes),
		cmocka_unit_test(simnet__script__drops_what_it_says),
		cmocka_unit_test(simnet__seed__decides_everything),
		cmocka_unit_test(simpattern__any_cut__same_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
