/* The tag of Retry, reset tokens and sealed boxes: vectors of RFC 9001 A.4, and nothing altered opens. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <string.h>

#include "base/err.h"
#include "crypto/retry.h"
#include "support/leak.h"
#include "support/ossl_mem.h"
#include "support/unhex.h"

static const struct cid odcid = { 8, { 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08 } };
static const char retry_a4[] = "ff000000010008f067a5502a4262b5746f6b656e";
static const uint8_t box_key[32] = "thirty-two bytes for a box's key", nonce[12] = "twelve bytes";

/* RFC 9001 A.4. RFC9001 5.8 */
static void retry_tag__rfc9001_a4__match(void **state)
{
	uint8_t p[64], tag[16];
	size_t len = unhex(retry_a4, p, sizeof(p));

	assert_int_equal(retry_tag(QUIC_V1, &odcid, p, len, tag), 0);
	assert_hex(tag, 16, "04a265ba2eff4d829058fb3f0f2496ba");
}

/* RFC9001 5.8-4: the original DCID and its length are part of what is authenticated. */
static void retry_tag__any_input_changed__other_tag(void **state)
{
	uint8_t p[64], tag[16], other[16];
	size_t len = unhex(retry_a4, p, sizeof(p));
	struct cid c = odcid;

	assert_int_equal(retry_tag(QUIC_V1, &odcid, p, len, tag), 0);
	c.len = 7;
	assert_int_equal(retry_tag(QUIC_V1, &c, p, len, other), 0);
	assert_memory_not_equal(tag, other, 16);
	c = odcid;
	c.b[7] ^= 1;
	assert_int_equal(retry_tag(QUIC_V1, &c, p, len, other), 0);
	assert_memory_not_equal(tag, other, 16);
	p[len - 1] ^= 1;
	assert_int_equal(retry_tag(QUIC_V1, &odcid, p, len, other), 0);
	assert_memory_not_equal(tag, other, 16);
	c.len = 0;
	assert_int_equal(retry_tag(QUIC_V1, &c, p, len, other), 0);
	assert_int_equal(retry_tag(2, &odcid, p, len, other), QE_INVAL);
}

/* RFC9000 10.3.2: the same for a key and an ID, unrelated for any other. */
static void reset_token__by_key_and_cid__stable_and_distinct(void **state)
{
	uint8_t key[32] = { 1 }, a[RESET_TOKEN_LEN], b[RESET_TOKEN_LEN];
	struct cid c = odcid;

	assert_int_equal(reset_token_make(key, &odcid, a), 0);
	assert_hex(a, RESET_TOKEN_LEN, "23803d12dfa8dc36dbaa68da3c8258e1");
	assert_int_equal(reset_token_make(key, &c, b), 0);
	assert_true(reset_token_equal(a, b));
	c.b[0] ^= 1;
	assert_int_equal(reset_token_make(key, &c, b), 0);
	assert_false(reset_token_equal(a, b));
	key[31] ^= 1;
	assert_int_equal(reset_token_make(key, &odcid, b), 0);
	assert_false(reset_token_equal(a, b));
	for (size_t i = 0; i < RESET_TOKEN_LEN * 8; i++) {
		memcpy(b, a, sizeof(b));
		b[i / 8] ^= (uint8_t)(1 << i % 8);
		assert_false(reset_token_equal(a, b));
	}
}

static void box__every_length__round_trip(void **state)
{
	uint8_t in[300], box[300 + BOX_OVERHEAD], out[300];
	size_t out_len;

	for (size_t len = 0; len <= sizeof(in); len += len < 35 ? 1 : 53) {
		size_t aad_len = len % 3 * 7;
		memset(in, (int)len, sizeof(in));
		assert_int_equal(box_seal(box_key, nonce, in, aad_len, in, len, box), 0);
		assert_memory_equal(box, nonce, 12);
		assert_int_equal(box_open(box_key, in, aad_len, box, len + BOX_OVERHEAD, out, &out_len), 0);
		assert_int_equal(out_len, len);
		assert_memory_equal(out, in, len);
	}
}

static void box_open__any_bit_flipped__dropped_and_out_wiped(void **state)
{
	static const uint8_t in[] = "what a token says";
	const uint8_t *aad = (const uint8_t *)"aad";
	uint8_t box[sizeof(in) + BOX_OVERHEAD], out[sizeof(in)], bad_key[32];
	size_t out_len = 4711;

	assert_int_equal(box_seal(box_key, nonce, aad, 3, in, sizeof(in), box), 0);
	for (size_t i = 0; i < sizeof(box) * 8; i++) {
		box[i / 8] ^= (uint8_t)(1 << i % 8);
		memset(out, 0xff, sizeof(out));
		assert_int_equal(box_open(box_key, aad, 3, box, sizeof(box), out, &out_len), QE_DROP);
		for (size_t b = 0; b < sizeof(out); b++)
			assert_int_equal(out[b], 0);
		box[i / 8] ^= (uint8_t)(1 << i % 8);
	}
	memcpy(bad_key, box_key, 32);
	bad_key[0] ^= 1;
	assert_int_equal(box_open(bad_key, aad, 3, box, sizeof(box), out, &out_len), QE_DROP);
	assert_int_equal(box_open(box_key, (const uint8_t *)"abd", 3, box, sizeof(box), out, &out_len), QE_DROP);
	assert_int_equal(out_len, 4711);
	assert_int_equal(ERR_peek_error(), 0);
	assert_int_equal(box_open(box_key, aad, 3, box, sizeof(box), out, &out_len), 0);
}

static void box_open__too_short_or_absurdly_long__dropped(void **state)
{
	static uint8_t big[65536];
	size_t out_len;

	for (size_t len = 0; len < BOX_OVERHEAD; len++)
		assert_int_equal(box_open(box_key, NULL, 0, big, len, big + 100, &out_len), QE_DROP);
	assert_int_equal(box_open(box_key, NULL, 0, big, sizeof(big), big, &out_len), QE_DROP);
}

static int run_all(void)
{
	uint8_t p[64], box[64 + BOX_OVERHEAD], out[64];
	size_t out_len;

	memset(p, 0, sizeof(p));
	int rc = retry_tag(QUIC_V1, &odcid, p, 20, out);
	if (rc == 0)
		rc = reset_token_make(box_key, &odcid, out);
	if (rc == 0)
		rc = box_seal(box_key, nonce, NULL, 0, p, sizeof(p), box);
	if (rc == 0)
		rc = box_open(box_key, NULL, 0, box, sizeof(box), out, &out_len);
	return rc;
}

static void one_shots__allocation_fails__reported_and_nothing_leaks(void **state)
{
	bool failed;
	uint64_t n = 1;

	assert_int_equal(run_all(), 0);
	int64_t live = ossl_mem_live();
	do {
		ossl_mem_fail_nth(n++);
		int rc = run_all();
		failed = ossl_mem_failed();
		ossl_mem_fail_nth(0);
		ERR_clear_error();
		assert_true(failed ? rc == QE_NOMEM || rc == QE_CRYPTO_LIB : rc == 0);
		assert_int_equal(ossl_mem_live(), live);
	} while (failed);
	assert_true(n > 8);
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(retry_tag__rfc9001_a4__match),
		T(retry_tag__any_input_changed__other_tag),
		T(reset_token__by_key_and_cid__stable_and_distinct),
		T(box__every_length__round_trip),
		T(box_open__any_bit_flipped__dropped_and_out_wiped),
		T(box_open__too_short_or_absurdly_long__dropped),
		T(one_shots__allocation_fails__reported_and_nothing_leaks),
	};
	if (!ossl_mem_init())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
