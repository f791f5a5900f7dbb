/* Tokens of Retry and NEW_TOKEN open for their address and time only. RFC 9000 8.1 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "path/token.h"

#define SEC UINT64_C(1000000)
#define T0 (100 * SEC)

static void count_up(void *arg, void *buf, size_t len)
{
	uint32_t *next = arg;
	uint8_t *p = buf;
	for (size_t i = 0; i < len; i++)
		p[i] = (uint8_t)((*next)++ * 37 >> 3);
}

static uint32_t counter;
static const struct rng rng = { count_up, &counter };
static const uint8_t key[32] = { 1, 2, 3 };

static struct addr v4(uint32_t ip, uint16_t port)
{
	struct addr a = { .in4 = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(ip) } };
	return a;
}

static struct addr v6(uint8_t last, uint16_t port)
{
	struct addr a = { .in6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) } };
	a.in6.sin6_addr.s6_addr[0] = 0xfd;
	a.in6.sin6_addr.s6_addr[15] = last;
	return a;
}

static struct token retry_token(void)
{
	struct token t = { .is_retry = true, .issued_us = T0, .odcid = { .len = 20 }, .retry_scid = { .len = 8 } };
	memset(t.odcid.b, 0xd1, 20);
	memset(t.retry_scid.b, 0x5c, 8);
	return t;
}

/* RFC9000 8.1.1-1 the two kinds are told apart */
static void token_seal__opens_for_same_address(void **state)
{
	struct addr peers[] = { v4(0x7f000001, 4433), v6(1, 4433) };
	for (unsigned i = 0; i < 4; i++) {
		uint8_t buf[TOKEN_MAX];
		struct token t = retry_token(), got;
		t.is_retry = i & 1;
		size_t n = token_seal(key, &rng, &t, &peers[i / 2], buf);
		assert_in_range(n, 1, TOKEN_MAX);
		assert_int_equal(token_open(key, buf, n, &peers[i / 2], T0 + 1, &got), 0);
		assert_int_equal(got.is_retry, t.is_retry);
		assert_true(got.issued_us == T0);
		if (!t.is_retry)
			continue;
		assert_true(cid_equal(&got.odcid, &t.odcid));
		assert_true(cid_equal(&got.retry_scid, &t.retry_scid));
	}
}

/* RFC9000 8.1.4-3 Retry: address and port; 8.1.4-4 NEW_TOKEN: address */
static void token_open__other_address_or_time(void **state)
{
	struct addr home = v4(0x0a000001, 1000), port = v4(0x0a000001, 1001);
	struct addr ip = v4(0x0a000002, 1000), six = v6(1, 1000);
	const struct { bool retry; struct addr *from; uint64_t age; int want; } t[] = {
		{ true, &home, 0, 0 },
		{ true, &home, TOKEN_RETRY_LIFE_US, 0 },
		{ true, &home, TOKEN_RETRY_LIFE_US + 1, QE_INVALID_TOKEN },
		{ true, &port, 0, QE_INVALID_TOKEN },
		{ true, &ip, 0, QE_INVALID_TOKEN },
		{ true, &six, 0, QE_INVALID_TOKEN },
		{ false, &home, 0, 0 },
		{ false, &home, TOKEN_NEW_LIFE_US, 0 },
		{ false, &home, TOKEN_NEW_LIFE_US + 1, QE_DROP },
		{ false, &port, 0, 0 },
		{ false, &ip, 0, QE_DROP },
		{ false, &six, 0, QE_DROP },
		{ true, &home, (uint64_t)-1, QE_INVALID_TOKEN },	/* issued in the future: another clock's */
		{ false, &home, (uint64_t)-1, QE_DROP },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint8_t buf[TOKEN_MAX];
		struct token tok = retry_token(), got;
		tok.is_retry = t[i].retry;
		size_t n = token_seal(key, &rng, &tok, &home, buf);
		assert_int_equal(token_open(key, buf, n, t[i].from, T0 + t[i].age, &got), t[i].want);
	}
}

/* RFC9000 8.1.4-2 */
static void token_open__any_bit_flipped_or_cut__dropped(void **state)
{
	struct addr home = v6(9, 1000);
	for (unsigned kind = 0; kind < 2; kind++) {
		uint8_t buf[TOKEN_MAX];
		struct token t = retry_token(), got;
		t.is_retry = kind;
		size_t n = token_seal(key, &rng, &t, &home, buf);
		for (size_t bit = 0; bit < 8 * n; bit++) {
			buf[bit / 8] ^= 1u << bit % 8;
			assert_int_equal(token_open(key, buf, n, &home, T0, &got), QE_DROP);
			buf[bit / 8] ^= 1u << bit % 8;
		}
		for (size_t cut = 0; cut < n; cut++)
			assert_int_equal(token_open(key, buf, cut, &home, T0, &got), QE_DROP);
		assert_int_equal(token_open(key, buf, n, &home, T0, &got), 0);
	}
}

static void token_open__foreign__dropped(void **state)
{
	struct addr home = v4(1, 1);
	uint8_t buf[4 * TOKEN_MAX] = { 0x52 }, other[32] = { 9 };
	struct token t = retry_token(), got;
	assert_int_equal(token_open(key, buf, sizeof(buf), &home, T0, &got), QE_DROP);
	assert_int_equal(token_open(key, buf, TOKEN_MAX, &home, T0, &got), QE_DROP);
	size_t n = token_seal(key, &rng, &t, &home, buf);
	assert_int_equal(token_open(other, buf, n, &home, T0, &got), QE_DROP);
}

/* RFC9000 8.1.3-5 every token is unique, and nothing of it is readable */
static void token_seal__twice__differs(void **state)
{
	struct addr home = v4(0x0a0b0c0d, 1);
	uint8_t a[TOKEN_MAX], b[TOKEN_MAX], ip[4] = { 10, 11, 12, 13 };
	struct token t = retry_token(), ga, gb;
	t.is_retry = false;
	size_t n = token_seal(key, &rng, &t, &home, a);
	assert_int_equal(token_seal(key, &rng, &t, &home, b), n);
	assert_memory_not_equal(a, b, n);
	assert_int_equal(token_open(key, a, n, &home, T0, &ga), 0);
	assert_int_equal(token_open(key, b, n, &home, T0, &gb), 0);
	assert_true(ga.id != gb.id);
	assert_null(memmem(a, n, ip, 4));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(token_seal__opens_for_same_address),
		cmocka_unit_test(token_open__other_address_or_time),
		cmocka_unit_test(token_open__any_bit_flipped_or_cut__dropped),
		cmocka_unit_test(token_open__foreign__dropped),
		cmocka_unit_test(token_seal__twice__differs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
