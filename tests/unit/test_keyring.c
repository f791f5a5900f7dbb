/* Keys of each level, the limits of their use (RFC 9001 6.6), their memory, and what is left when there is none.
 * Updates are in test_key_update.c. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/err.h>

#include "unit/keyring_fixture.h"

/* ---- levels ---- */

static void keyring_open__each_level__own_keys(void **state)
{
	uint8_t secret[32] = { 9 };

	for (int l = LEVEL_INITIAL; l < LEVEL_APP; l++) {
		secret[0] = (uint8_t)l;
		assert_int_equal(keyring_install(&a.kr, l, true, SUITE_AES_128_GCM, secret), 0);
		assert_int_equal(keyring_install(&b.kr, l, false, SUITE_AES_128_GCM, secret), 0);
	}
	for (int l = LEVEL_INITIAL; l < LEVEL_COUNT; l++) {
		for (int m = LEVEL_INITIAL; m < LEVEL_COUNT; m++) {
			struct pkt p;
			assert_int_equal(seal_at(&a, l, &p), 0);
			assert_int_equal(recv_at(&b, m, p), l == m ? 0 : QE_DROP);
		}
		assert_int_equal(a.kr.sealed[l], 4);
	}
	assert_int_equal(b.kr.forged, 12);
}

/* RFC9001 4.9 */
static void keyring_discard__level__neither_opens_nor_counts(void **state)
{
	uint8_t secret[32] = { 9 };
	struct pkt p;
	int64_t live = ossl_mem_live();

	assert_int_equal(keyring_install(&a.kr, LEVEL_HANDSHAKE, true, SUITE_AES_128_GCM, secret), 0);
	assert_int_equal(keyring_install(&b.kr, LEVEL_HANDSHAKE, false, SUITE_AES_128_GCM, secret), 0);
	assert_int_equal(seal_at(&a, LEVEL_HANDSHAKE, &p), 0);
	keyring_discard(&a.kr, LEVEL_HANDSHAKE);
	keyring_discard(&b.kr, LEVEL_HANDSHAKE);
	assert_int_equal(recv_at(&b, LEVEL_HANDSHAKE, p), QE_DROP);
	assert_int_equal(b.kr.forged, 0);
	assert_false(pktkey_ready(&a.kr.tx[LEVEL_HANDSHAKE]));
	assert_int_equal(ossl_mem_live(), live);
	exchange(&a, &b);
}

/* RFC9001 5.2-8: a Retry changes the Initial secrets. */
static void keyring_install__again__replaces(void **state)
{
	uint8_t old[32] = { 1 }, renewed[32] = { 2 };
	struct pkt p;

	assert_int_equal(keyring_install(&a.kr, LEVEL_INITIAL, true, SUITE_AES_128_GCM, old), 0);
	assert_int_equal(keyring_install(&b.kr, LEVEL_INITIAL, false, SUITE_AES_128_GCM, renewed), 0);
	assert_int_equal(seal_at(&a, LEVEL_INITIAL, &p), 0);
	assert_int_equal(recv_at(&b, LEVEL_INITIAL, p), QE_DROP);
	int64_t live = ossl_mem_live();
	assert_int_equal(keyring_install(&a.kr, LEVEL_INITIAL, true, SUITE_AES_128_GCM, renewed), 0);
	assert_int_equal(ossl_mem_live(), live);
	assert_int_equal(a.kr.sealed[LEVEL_INITIAL], 0);
	assert_int_equal(seal_at(&a, LEVEL_INITIAL, &p), 0);
	assert_int_equal(recv_at(&b, LEVEL_INITIAL, p), 0);
	assert_int_equal(keyring_install(&a.kr, LEVEL_INITIAL, true, 0x1304, renewed), QE_INVAL);
	assert_true(pktkey_ready(&a.kr.tx[LEVEL_INITIAL]));
}

static void keyring_install__secrets_no_longer_needed__wiped(void **state)
{
	static const uint8_t zeros[SECRET_MAX];
	uint8_t secret[32] = { 1, 2, 3 };

	assert_int_equal(keyring_install(&a.kr, LEVEL_HANDSHAKE, true, SUITE_AES_128_GCM, secret), 0);
	assert_memory_equal(a.kr.tx[LEVEL_HANDSHAKE].secret, zeros, SECRET_MAX);
	updated_by_a();
	send_from(&a);
	for (int i = 0; i < 2; i++) {
		struct keyring *kr = i ? &a.kr : &b.kr;
		assert_memory_equal(kr->rx[LEVEL_APP].secret, zeros, SECRET_MAX);
		assert_memory_equal(kr->rx_prev.secret, zeros, SECRET_MAX);
		assert_memory_not_equal(kr->rx_next.secret, zeros, SECRET_MAX);
	}
}

/* The architecture gives an idle connection 30 KB in all; keys may have 6 of it. */
static void keyring__idle_connection__memory_within_bound(void **state)
{
	static const uint16_t suites[] = { SUITE_AES_128_GCM, SUITE_AES_256_GCM, SUITE_CHACHA20 };

	for (size_t i = 0; i < 3; i++) {
		teardown(NULL);
		int64_t before = ossl_mem_bytes();
		start(suites[i], 0);
		assert_true((ossl_mem_bytes() - before) / 2 + (int64_t)sizeof(struct keyring) <= 6144);
		updated_by_a();
		settle();	/* and again so after an update */
		exchange(&a, &b);
		assert_true((ossl_mem_bytes() - before) / 2 + (int64_t)sizeof(struct keyring) <= 6144);
	}
}

/* ---- limits: RFC 9001 6.6 ---- */

/* RFC9001 6.6-3 */
static void keyring_seal__confidentiality_limit__refused_until_updated(void **state)
{
	uint64_t limit = suite_confidentiality_limit(SUITE_AES_128_GCM);
	struct pkt p;

	confirm();
	a.kr.sealed[LEVEL_APP] = limit - 1;
	assert_int_equal(seal_at(&a, LEVEL_APP, &p), 0);
	assert_int_equal(seal_at(&a, LEVEL_APP, &p), QE_AEAD_LIMIT);
	update(&a);
	assert_int_equal(a.kr.sealed[LEVEL_APP], 0);
	exchange(&a, &b);
	assert_int_equal(a.kr.sealed[LEVEL_APP], 1);
}

static void keyring_seal__handshake_key_at_its_limit__refused(void **state)
{
	uint8_t secret[32] = { 1 };
	struct pkt p;

	assert_int_equal(keyring_install(&a.kr, LEVEL_HANDSHAKE, true, SUITE_AES_128_GCM, secret), 0);
	a.kr.sealed[LEVEL_HANDSHAKE] = suite_confidentiality_limit(SUITE_AES_128_GCM);
	assert_int_equal(seal_at(&a, LEVEL_HANDSHAKE, &p), QE_AEAD_LIMIT);
	assert_int_equal(seal_at(&a, LEVEL_APP, &p), 0);
}

static void keyring_update_due__by_count__at_the_lower_of_wish_and_three_quarters(void **state)
{
	const uint64_t cap = UINT64_C(3) << 21;	/* 3/4 of 2^23 */
	static const struct { uint16_t suite; uint64_t wish; bool capped; } t[] = {
		{ SUITE_AES_128_GCM, 100, false }, { SUITE_AES_128_GCM, 0, true }, { SUITE_AES_256_GCM, 0, true },
		{ SUITE_AES_128_GCM, UINT64_MAX, true }, { SUITE_CHACHA20, UINT64_C(1) << 40, false },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint64_t at = t[i].capped ? cap : t[i].wish;
		restart(t[i].suite, t[i].wish);
		a.kr.sealed[LEVEL_APP] = at;
		assert_false(keyring_update_due(&a.kr, now));	/* not allowed yet */
		confirm();
		a.kr.sealed[LEVEL_APP] = at - 1;
		assert_false(keyring_update_due(&a.kr, now));
		send_from(&a);
		assert_true(keyring_update_due(&a.kr, now));
		update(&a);
		assert_false(keyring_update_due(&a.kr, now));
	}
}

static void keyring_update_due__chacha20_and_no_wish__never(void **state)
{
	restart(SUITE_CHACHA20, 0);
	confirm();
	a.kr.sealed[LEVEL_APP] = UINT64_C(1) << 61;
	assert_false(keyring_update_due(&a.kr, now));
}

/* The three PTO are a SHOULD (RFC9001 6.5-5), the limit is a MUST (6.6-3). */
static void keyring_update_due__close_to_the_limit__waits_no_longer(void **state)
{
	uint64_t limit = suite_confidentiality_limit(SUITE_AES_128_GCM);

	updated_by_a();
	a.kr.sealed[LEVEL_APP] = limit / 8 * 7 - 1;
	assert_false(keyring_update_due(&a.kr, now));
	a.kr.sealed[LEVEL_APP]++;
	assert_true(keyring_update_due(&a.kr, now));
}

static void keyring_update_due__app_keys_gone__false(void **state)
{
	confirm();
	keyring_discard(&a.kr, LEVEL_APP);
	assert_false(keyring_update_due(&a.kr, now));
	assert_int_equal(keyring_update(&a.kr, now), QE_AGAIN);
}

/* RFC9001 6.6-6: counted over all keys; beyond the limit nothing is processed any more. */
static void keyring_open__integrity_limit_passed__nothing_opens_any_more(void **state)
{
	static const uint16_t suites[] = { SUITE_AES_128_GCM, SUITE_AES_256_GCM, SUITE_CHACHA20 };

	for (size_t i = 0; i < 3; i++) {
		restart(suites[i], 0);
		struct pkt good = send_from(&a), bad = good;
		bad.body[3] ^= 1;
		b.kr.forged = suite_integrity_limit(suites[i]) - 1;
		assert_int_equal(recv_by(&b, bad), QE_DROP);
		assert_int_equal(recv_by(&b, good), 0);
		assert_int_equal(recv_by(&b, bad), QE_AEAD_LIMIT);
		assert_int_equal(recv_by(&b, good), QE_AEAD_LIMIT);
	}
}

/* ---- out of memory ---- */

static void keyring_install__allocation_fails__unchanged(void **state)
{
	uint8_t secret[32] = { 5 };

	for (int tx = 0; tx < 2; tx++) {
		struct keyring fresh;
		bool failed;
		uint64_t n = 1;

		keyring_init(&fresh, 0);
		int64_t live = ossl_mem_live();
		do {
			ossl_mem_fail_nth(n++);
			int rc = keyring_install(&fresh, LEVEL_APP, tx, SUITE_AES_128_GCM, secret);
			failed = ossl_mem_failed();
			ossl_mem_fail_nth(0);
			ERR_clear_error();
			assert_true(failed ? rc == QE_NOMEM || rc == QE_CRYPTO_LIB : rc == 0);
			if (failed) {
				assert_int_equal(ossl_mem_live(), live);
				assert_false(pktkey_ready(&fresh.rx[LEVEL_APP]) || pktkey_ready(&fresh.tx[LEVEL_APP]) ||
					     pktkey_ready(&fresh.rx_next));
			}
		} while (failed);
		assert_true(n > 8);
		keyring_fini(&fresh);
		assert_int_equal(ossl_mem_live(), live);
	}
}

/* Our own update, and the seal that answers the peer's: what failed can be tried again. */
static void keyring_update__allocation_fails__connection_goes_on(void **state)
{
	bool failed;
	uint64_t n = 1, hits = 0;

	do {
		restart(SUITE_AES_128_GCM, 0);
		confirm();
		ossl_mem_fail_nth(n);
		int rc = keyring_update(&a.kr, now);
		failed = ossl_mem_failed();
		ossl_mem_fail_nth(0);
		assert_int_equal(failed, rc != 0);
		if (rc) {
			assert_false(a.kr.tx_phase);
			exchange(&a, &b);
			update(&a);
		}
		assert_int_equal(recv_by(&b, send_from(&a)), 0);
		struct pkt p;
		ossl_mem_fail_nth(n);
		rc = seal_at(&b, LEVEL_APP, &p);
		failed |= ossl_mem_failed();
		hits += ossl_mem_failed();
		ossl_mem_fail_nth(0);
		if (rc)
			p = send_from(&b);
		assert_int_equal(recv_by(&a, p), 0);
		exchange(&a, &b);
		assert_int_equal(a.kr.forged + b.kr.forged, 0);
		ERR_clear_error();
		n++;
	} while (failed);
	assert_true(hits > 6);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	if (!ossl_mem_init())
		return 1;
	const struct CMUnitTest tests[] = {
		T(keyring_open__each_level__own_keys),
		T(keyring_discard__level__neither_opens_nor_counts),
		T(keyring_install__again__replaces),
		T(keyring_install__secrets_no_longer_needed__wiped),
		T(keyring__idle_connection__memory_within_bound),
		T(keyring_seal__confidentiality_limit__refused_until_updated),
		T(keyring_seal__handshake_key_at_its_limit__refused),
		T(keyring_update_due__by_count__at_the_lower_of_wish_and_three_quarters),
		T(keyring_update_due__chacha20_and_no_wish__never),
		T(keyring_update_due__close_to_the_limit__waits_no_longer),
		T(keyring_update_due__app_keys_gone__false),
		T(keyring_open__integrity_limit_passed__nothing_opens_any_more),
		T(keyring_install__allocation_fails__unchanged),
		T(keyring_update__allocation_fails__connection_goes_on),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
