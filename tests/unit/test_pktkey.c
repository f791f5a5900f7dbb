/* Packet protection against RFC 9001 appendix A: packets byte for byte, masks, the next generation; nothing damaged
 * opens. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <openssl/evp.h>
#include <string.h>

#include "base/err.h"
#include "crypto/pktkey.h"
#include "support/leak.h"
#include "support/ossl_mem.h"
#include "support/rfc9001_a.h"
#include "support/unhex.h"
#include "wire/packet.h"

static const uint16_t suites[] = { SUITE_AES_128_GCM, SUITE_AES_256_GCM, SUITE_CHACHA20 };
static const uint8_t dcid[8] = { 0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08 };
static const uint8_t secret[SECRET_MAX] = "any secret will do, but it is forty-eight bytes";

/* One direction: the sender's key and the receiver's. */
static void key_pair(uint16_t suite, struct pktkey *tx, struct pktkey *rx)
{
	assert_int_equal(pktkey_init(tx, suite, secret, true), 0);
	assert_int_equal(pktkey_init(rx, suite, secret, false), 0);
}

static void initial_secrets__rfc9001_a1__match(void **state)
{
	uint8_t client[32], server[32];

	assert_int_equal(initial_secrets(QUIC_V1, dcid, sizeof(dcid), client, server), 0);
	assert_hex(client, 32, "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea");
	assert_hex(server, 32, "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b");
	assert_int_equal(initial_secrets(0x6b3343cf, dcid, sizeof(dcid), client, server), QE_INVAL);
	assert_int_equal(initial_secrets(QUIC_V1, dcid, 0, client, server), 0);	/* RFC9001 5.2: zero length is legal */
}

struct sample_packet {
	const char *secret;
	uint16_t suite;
	uint64_t pn;
	size_t pn_off;
	const char *header, *payload;	/* in the clear */
	size_t padded_to;		/* payload length; 0: as is */
	const char *sample, *mask, *packet;
};

/* RFC 9001 A.2, A.3, A.5 */
static const struct sample_packet sample_packets[] = {
	{ "c00cf151ca5be075ed0ebfb5c80323c42d6b7db67881289af4008f1f6c357aea", SUITE_AES_128_GCM, 2, 18,
	  "c300000001088394c8f03e5157080000449e00000002", a2_crypto, 1162,
	  "d1b1c98dd7689fb8ec11d242b123dc9b", "437b9aec36", a2_packet },
	{ "3c199828fd139efd216c155ad844cc81fb82fa8d7446fa7d78be803acdda951b", SUITE_AES_128_GCM, 1, 18,
	  "c1000000010008f067a5502a4262b50040750001", a3_payload, 0,
	  "2cd0991cd25b0aac406a5816b6394100", "2ec0d8356a", a3_packet },
	{ "9ac312a7f877468ebe69422748ad00a15443f18203a07d6060f688f30f21632b", SUITE_CHACHA20, 654360564, 1,
	  "4200bff4", "01", 0,
	  "5e5cd55c41f69080575d7999c25a5bfb", "aefefe7d03", "4cfe4189655e5cd55c41f69080575d7999c25a5bfb" },
};

static void one_mask(struct pktkey *k, const uint8_t *packet, size_t pn_off, const struct sample_packet *s,
		     uint8_t mask[HP_MASK_LEN])
{
	const uint8_t *sample = packet + pn_off + 4;

	assert_hex(sample, HP_SAMPLE_LEN, s->sample);
	assert_int_equal(pktkey_masks(k, &sample, 1, (uint8_t(*)[HP_MASK_LEN])mask), 0);
	assert_hex(mask, HP_MASK_LEN, s->mask);
}

/* RFC9001 5.3, 5.4 */
static void pktkey_seal__rfc9001_packets__byte_for_byte(void **state)
{
	for (size_t i = 0; i < sizeof(sample_packets) / sizeof(sample_packets[0]); i++) {
		const struct sample_packet *s = &sample_packets[i];
		uint8_t sec[32], p[1300] = { 0 }, mask[HP_MASK_LEN];
		struct pktkey k;

		unhex(s->secret, sec, sizeof(sec));
		assert_int_equal(pktkey_init(&k, s->suite, sec, true), 0);
		size_t header_len = unhex(s->header, p, sizeof(p));
		size_t len = unhex(s->payload, p + header_len, sizeof(p) - header_len);
		if (s->padded_to)
			len = s->padded_to;
		assert_int_equal(pktkey_seal(&k, s->pn, p, header_len, p + header_len, len), 0);
		one_mask(&k, p, s->pn_off, s, mask);
		hp_protect(p, s->pn_off, mask);
		assert_hex(p, header_len + len + AEAD_TAG_LEN, s->packet);
		pktkey_fini(&k);
	}
}

static void pktkey_open__rfc9001_packets__byte_for_byte(void **state)
{
	for (size_t i = 0; i < sizeof(sample_packets) / sizeof(sample_packets[0]); i++) {
		const struct sample_packet *s = &sample_packets[i];
		uint8_t sec[32], p[1300], want[1300] = { 0 }, mask[HP_MASK_LEN];
		struct pktkey k;

		unhex(s->secret, sec, sizeof(sec));
		assert_int_equal(pktkey_init(&k, s->suite, sec, false), 0);
		size_t len = unhex(s->packet, p, sizeof(p));
		one_mask(&k, p, s->pn_off, s, mask);
		size_t header_len = s->pn_off + hp_unprotect(p, s->pn_off, mask);
		assert_hex(p, header_len, s->header);
		assert_int_equal(pktkey_open(&k, s->pn, p, header_len, p + header_len, len - header_len), 0);
		unhex(s->payload, want, sizeof(want));
		assert_memory_equal(p + header_len, want, len - header_len - AEAD_TAG_LEN);
		pktkey_fini(&k);
	}
}

/* RFC 9001 A.5: iv and the secret after a key update. RFC9001 6.1-2 */
static void pktkey_next__rfc9001_a5__secret_matches_and_no_hp(void **state)
{
	struct pktkey k, next;
	uint8_t sec[32];

	unhex(sample_packets[2].secret, sec, sizeof(sec));
	assert_int_equal(pktkey_init(&k, SUITE_CHACHA20, sec, true), 0);
	assert_hex(k.iv, 12, "e0459b3474bdd0e44a41c144");
	assert_int_equal(pktkey_next(&k, &next, true), 0);
	assert_hex(next.secret, 32, "1223504755036d556342ee9361d253421a826c9ecdf3c7148684b36b714881f9");
	assert_null(next.hp);
	assert_true(pktkey_ready(&next));
	pktkey_fini(&k);
	pktkey_fini(&next);
}

static void pktkey_next__three_generations__open_only_their_own(void **state)
{
	for (size_t i = 0; i < 3; i++) {
		struct pktkey tx[3], rx[3];

		key_pair(suites[i], &tx[0], &rx[0]);
		for (size_t g = 1; g < 3; g++) {
			assert_int_equal(pktkey_next(&tx[g - 1], &tx[g], true), 0);
			assert_int_equal(pktkey_next(&rx[g - 1], &rx[g], false), 0);
		}
		for (size_t a = 0; a < 3; a++) {
			for (size_t b = 0; b < 3; b++) {
				uint8_t buf[20 + AEAD_TAG_LEN] = "payload";
				assert_int_equal(pktkey_seal(&tx[a], 9, (const uint8_t *)"h", 1, buf, 20), 0);
				assert_int_equal(pktkey_open(&rx[b], 9, (const uint8_t *)"h", 1, buf, sizeof(buf)),
						 a == b ? 0 : QE_DROP);
			}
		}
		for (size_t g = 0; g < 3; g++) {
			pktkey_fini(&tx[g]);
			pktkey_fini(&rx[g]);
		}
	}
}

/* Every bit of header, ciphertext, tag and packet number counts; a failure
 * leaves the key usable and OpenSSL's error queue (which TLS reads) empty. */
static void pktkey_open__any_bit_flipped__dropped(void **state)
{
	for (size_t i = 0; i < 3; i++) {
		uint8_t sealed[5 + 40 + AEAD_TAG_LEN] = "head-and forty bytes of a packet's payload", p[sizeof(sealed)];
		struct pktkey tx, rx;

		key_pair(suites[i], &tx, &rx);
		assert_int_equal(pktkey_seal(&tx, 77, sealed, 5, sealed + 5, 40), 0);
		for (size_t bit = 0; bit < sizeof(p) * 8; bit++) {
			memcpy(p, sealed, sizeof(p));
			p[bit / 8] ^= (uint8_t)(1 << bit % 8);
			assert_int_equal(pktkey_open(&rx, 77, p, 5, p + 5, sizeof(p) - 5), QE_DROP);
		}
		for (int bit = 0; bit < 62; bit++) {
			memcpy(p, sealed, sizeof(p));
			uint64_t pn = 77 ^ UINT64_C(1) << bit;
			assert_int_equal(pktkey_open(&rx, pn, p, 5, p + 5, sizeof(p) - 5), QE_DROP);
		}
		assert_int_equal(ERR_peek_error(), 0);
		memcpy(p, sealed, sizeof(p));
		assert_int_equal(pktkey_open(&rx, 77, p, 5, p + 5, sizeof(p) - 5), 0);
		assert_string_equal((char *)p, "head-and forty bytes of a packet's payload");
		pktkey_fini(&tx);
		pktkey_fini(&rx);
	}
}

static void pktkey_open__every_length__round_trip_or_drop(void **state)
{
	static uint8_t p[1500 + AEAD_TAG_LEN];

	for (size_t i = 0; i < 3; i++) {
		struct pktkey tx, rx;

		key_pair(suites[i], &tx, &rx);
		for (size_t len = 0; len < AEAD_TAG_LEN; len++)
			assert_int_equal(pktkey_open(&rx, 1, (const uint8_t *)"h", 1, p, len), QE_DROP);
		for (size_t len = 0; len <= 1500; len += len < 40 ? 1 : 73) {
			memset(p, 0xc3, sizeof(p));
			uint64_t pn = (UINT64_C(1) << 62) - 1 - len;
			assert_int_equal(pktkey_seal(&tx, pn, (const uint8_t *)"h", 1, p, len), 0);
			assert_int_equal(pktkey_open(&rx, pn, (const uint8_t *)"h", 1, p, len + AEAD_TAG_LEN), 0);
			for (size_t b = 0; b < len; b++)
				assert_int_equal(p[b], 0xc3);
		}
		pktkey_fini(&tx);
		pktkey_fini(&rx);
	}
}

static void pktkey_masks__batch__equals_one_by_one(void **state)
{
	uint8_t samples[HP_BATCH][HP_SAMPLE_LEN], batch[HP_BATCH][HP_MASK_LEN], single[1][HP_MASK_LEN];
	const uint8_t *at[HP_BATCH];

	for (size_t i = 0; i < HP_BATCH; i++) {
		at[i] = samples[HP_BATCH - 1 - i];	/* not in memory order */
		for (size_t b = 0; b < HP_SAMPLE_LEN; b++)
			samples[i][b] = (uint8_t)(i * 31 + b * 7);
	}
	for (size_t i = 0; i < 3; i++) {
		struct pktkey k;
		assert_int_equal(pktkey_init(&k, suites[i], secret, true), 0);
		for (size_t n = 0; n <= HP_BATCH; n += n < 3 ? 1 : 61) {
			memset(batch, 0xee, sizeof(batch));
			assert_int_equal(pktkey_masks(&k, at, n, batch), 0);
			for (size_t j = 0; j < n; j++) {
				assert_int_equal(pktkey_masks(&k, &at[j], 1, single), 0);
				assert_memory_equal(batch[j], single[0], HP_MASK_LEN);
			}
			for (size_t j = n; j < HP_BATCH; j++)
				assert_int_equal(batch[j][0], 0xee);
		}
		pktkey_fini(&k);
	}
}

/* The appendix has no AES-256 sample. RFC9001 5.4.3-1 */
static void pktkey_masks__aes_256__is_ecb_of_the_hp_key(void **state)
{
	uint8_t key[32], sample[16] = { 3, 1, 4, 1, 5 }, want[32], mask[1][HP_MASK_LEN];
	const uint8_t *at = sample;
	struct pktkey k;
	int n;

	assert_int_equal(hkdf_expand_label(HASH_SHA384, secret, "quic hp", NULL, 0, key, 32), 0);
	EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
	assert_int_equal(EVP_EncryptInit_ex(c, EVP_aes_256_ecb(), NULL, key, NULL), 1);
	assert_int_equal(EVP_EncryptUpdate(c, want, &n, sample, 16), 1);
	EVP_CIPHER_CTX_free(c);
	assert_int_equal(pktkey_init(&k, SUITE_AES_256_GCM, secret, false), 0);
	assert_int_equal(pktkey_masks(&k, &at, 1, mask), 0);
	assert_memory_equal(mask[0], want, HP_MASK_LEN);
	pktkey_fini(&k);
}

/* RFC9001 5.4.1: which bits are masked, by header form and packet number length. */
static void hp_protect__each_form_and_length__masks_only_its_bits(void **state)
{
	static const uint8_t mask[HP_MASK_LEN] = { 0xff, 0x11, 0x22, 0x33, 0x44 };

	for (unsigned form = 0; form < 2; form++) {
		for (unsigned low = 0; low < 32; low++) {
			uint8_t p[8], clear[8];
			size_t pn_len = (low & 3) + 1;
			memset(p, 0xa0, sizeof(p));
			p[0] = (uint8_t)((form ? 0xc0 : 0x40) | low);
			memcpy(clear, p, sizeof(p));

			hp_protect(p, 2, mask);
			assert_int_equal(p[0] ^ clear[0], form ? 0x0f : 0x1f);
			assert_int_equal(p[1], 0xa0);
			for (size_t i = 0; i < 6; i++)
				assert_int_equal(p[2 + i], i < pn_len ? 0xa0 ^ mask[1 + i] : 0xa0);
			assert_int_equal(hp_unprotect(p, 2, mask), pn_len);
			assert_memory_equal(p, clear, sizeof(p));
		}
	}
}

/* RFC9001 6.6-4, 6.6-6 */
static void suite__limits_and_hash__as_the_rfc_says(void **state)
{
	static const struct { uint16_t id; enum hash hash; int conf_log2, integ_log2; } t[] = {
		{ SUITE_AES_128_GCM, HASH_SHA256, 23, 52 },
		{ SUITE_AES_256_GCM, HASH_SHA384, 23, 52 },
		{ SUITE_CHACHA20, HASH_SHA256, 62, 36 },
	};
	for (size_t i = 0; i < 3; i++) {
		assert_true(suite_known(t[i].id));
		assert_int_equal(suite_hash(t[i].id), t[i].hash);
		assert_int_equal(suite_confidentiality_limit(t[i].id), UINT64_C(1) << t[i].conf_log2);
		assert_int_equal(suite_integrity_limit(t[i].id), UINT64_C(1) << t[i].integ_log2);
	}
}

/* RFC9001 5.3-2: TLS_AES_128_CCM_8 is not for QUIC. */
static void pktkey_init__unknown_suite__refused_and_empty(void **state)
{
	static const uint16_t unknown[] = { 0, 0x1304, 0x1305, 0xc02f };

	for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
		struct pktkey k;
		memset(&k, 0xff, sizeof(k));
		assert_false(suite_known(unknown[i]));
		assert_int_equal(pktkey_init(&k, unknown[i], secret, true), QE_INVAL);
		assert_false(pktkey_ready(&k));
		pktkey_fini(&k);
	}
}

static void pktkey_fini__any_key__wiped(void **state)
{
	static const struct pktkey empty;
	struct pktkey k;

	assert_int_equal(pktkey_init(&k, SUITE_AES_128_GCM, secret, true), 0);
	assert_true(pktkey_ready(&k));
	pktkey_fini(&k);
	for (size_t i = 0; i < sizeof(k); i++)
		assert_int_equal(((const uint8_t *)&k)[i], 0);
	assert_false(pktkey_ready(&empty));
	pktkey_fini(&k);
}

static void pktkey_init__allocation_fails__empty_and_nothing_leaks(void **state)
{
	static const uint8_t zeros[SECRET_MAX];

	for (size_t i = 0; i < 3; i++) {
		struct pktkey base, k;
		bool failed;
		uint64_t n = 1;

		assert_int_equal(pktkey_init(&base, suites[i], secret, true), 0);
		int64_t live = ossl_mem_live();
		do {
			failed = false;
			for (int next = 0; next < 2; next++) {
				ossl_mem_fail_nth(n);
				int rc = next ? pktkey_next(&base, &k, true) : pktkey_init(&k, suites[i], secret, true);
				bool hit = ossl_mem_failed();
				failed |= hit;
				ossl_mem_fail_nth(0);
				ERR_clear_error();
				assert_int_equal(rc == 0, pktkey_ready(&k));
				assert_true(hit ? rc == QE_NOMEM || rc == QE_CRYPTO_LIB : rc == 0);
				if (rc)
					assert_memory_equal(k.secret, zeros, SECRET_MAX);
				pktkey_fini(&k);
				assert_int_equal(ossl_mem_live(), live);
			}
			n++;
		} while (failed);
		assert_true(n > 10);
		pktkey_fini(&base);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(initial_secrets__rfc9001_a1__match),
		T(pktkey_seal__rfc9001_packets__byte_for_byte),
		T(pktkey_open__rfc9001_packets__byte_for_byte),
		T(pktkey_next__rfc9001_a5__secret_matches_and_no_hp),
		T(pktkey_next__three_generations__open_only_their_own),
		T(pktkey_open__any_bit_flipped__dropped),
		T(pktkey_open__every_length__round_trip_or_drop),
		T(pktkey_masks__batch__equals_one_by_one),
		T(pktkey_masks__aes_256__is_ecb_of_the_hp_key),
		T(hp_protect__each_form_and_length__masks_only_its_bits),
		T(suite__limits_and_hash__as_the_rfc_says),
		T(pktkey_init__unknown_suite__refused_and_empty),
		T(pktkey_fini__any_key__wiped),
		T(pktkey_init__allocation_fails__empty_and_nothing_leaks),
	};
	if (!ossl_mem_init())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
