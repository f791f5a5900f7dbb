/* Two keyrings, client and server of one connection, exchange packets: each
 * rule of RFC 9001 6 once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/err.h>
#include <string.h>

#include "base/err.h"
#include "crypto/keyring.h"
#include "support/leak.h"
#include "support/ossl_mem.h"

enum { PTO = 100, BODY = 40 };

struct side {
	struct keyring kr;
	uint64_t pn;
};

struct pkt {
	uint64_t pn;
	uint8_t header[2];	/* first byte with the Key Phase bit; something more */
	uint8_t body[BODY + AEAD_TAG_LEN];
};

static struct side a, b;
static uint64_t now;

static bool pkt_phase(const struct pkt *p) { return p->header[0] & 4; }

static void install_app(struct side *s, struct side *peer, uint16_t suite)
{
	uint8_t secret[SECRET_MAX];

	memset(secret, s == &a ? 0x11 : 0x22, sizeof(secret));
	assert_int_equal(keyring_install(&s->kr, LEVEL_APP, true, suite, secret), 0);
	assert_int_equal(keyring_install(&peer->kr, LEVEL_APP, false, suite, secret), 0);
}

static void start(uint16_t suite, uint64_t update_after)
{
	now = 1000;
	a.pn = b.pn = 0;
	keyring_init(&a.kr, update_after);
	keyring_init(&b.kr, update_after);
	install_app(&a, &b, suite);
	install_app(&b, &a, suite);
}

static int setup(void **state)
{
	leak_setup(state);
	start(SUITE_AES_128_GCM, 0);
	return 0;
}

static int teardown(void **state)
{
	keyring_fini(&a.kr);
	keyring_fini(&b.kr);
	return leak_teardown(state);
}

static int seal_at(struct side *s, enum level level, struct pkt *p)
{
	p->pn = s->pn++;
	p->header[0] = s->kr.tx_phase && level == LEVEL_APP ? 0x44 : 0x40;
	p->header[1] = (uint8_t)p->pn;
	memset(p->body, 0x77, BODY);
	return keyring_seal(&s->kr, level, p->pn, p->header, 2, p->body, BODY);
}

static struct pkt send_from(struct side *s)
{
	struct pkt p;
	assert_int_equal(seal_at(s, LEVEL_APP, &p), 0);
	return p;
}

static int recv_at(struct side *s, enum level level, struct pkt p)
{
	int rc = keyring_open(&s->kr, level, pkt_phase(&p), p.pn, p.header, 2, p.body, sizeof(p.body), now, PTO);
	if (rc == 0)
		assert_int_equal(p.body[0], 0x77);
	return rc;
}

static int recv_by(struct side *s, struct pkt p) { return recv_at(s, LEVEL_APP, p); }

/* from sends a packet, to gets it and acknowledges it at once. */
static void exchange(struct side *from, struct side *to)
{
	struct pkt p = send_from(from);
	assert_int_equal(recv_by(to, p), 0);
	struct pkt ack = send_from(to);
	assert_int_equal(recv_by(from, ack), 0);
	assert_int_equal(keyring_on_acked(&from->kr, p.pn, pkt_phase(&ack), now, PTO), 0);
}

static void confirm(void)
{
	a.kr.confirmed = b.kr.confirmed = true;
	exchange(&a, &b);
	exchange(&b, &a);
}

static void update(struct side *s)
{
	assert_int_equal(keyring_update(&s->kr, now), 0);
}

static void settle(void)
{
	now += 3 * PTO;
	keyring_on_time(&a.kr, now);
	keyring_on_time(&b.kr, now);
}

/* A packet that changes the sender's phase has come and been answered. */
static void updated_by_a(void)
{
	confirm();
	update(&a);
	exchange(&a, &b);
}

static struct pkt flip_phase(struct pkt p)
{
	p.header[0] ^= 4;
	return p;
}

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

/* ---- initiating: RFC 9001 6.1 ---- */

/* RFC9001 6.1-4: not before the handshake is confirmed; RFC9001 6.2-1: nor before an ACK in the phase. */
static void keyring_update__unconfirmed_or_unacked__refused(void **state)
{
	assert_int_equal(keyring_update(&a.kr, now), QE_AGAIN);
	exchange(&a, &b);
	assert_int_equal(keyring_update(&a.kr, now), QE_AGAIN);
	a.kr.confirmed = b.kr.confirmed = true;
	assert_true(keyring_may_update(&a.kr, now));
	assert_int_equal(keyring_update(&b.kr, now), QE_AGAIN);
	assert_false(a.kr.tx_phase);
	update(&a);
	assert_true(a.kr.tx_phase);
	assert_int_equal(a.kr.updates, 1);
}

/* RFC9001 figure 9 */
static void keyring_update__answered__both_in_the_next_phase(void **state)
{
	static const uint16_t suites[] = { SUITE_AES_128_GCM, SUITE_AES_256_GCM, SUITE_CHACHA20 };

	for (size_t i = 0; i < 3; i++) {
		teardown(NULL);
		start(suites[i], 0);
		confirm();
		update(&a);
		assert_false(a.kr.rx_phase);	/* until the peer is seen there */
		assert_int_equal(recv_by(&a, send_from(&b)), 0);
		assert_false(a.kr.rx_phase);
		struct pkt p = send_from(&a);
		assert_true(pkt_phase(&p));
		assert_int_equal(recv_by(&b, p), 0);
		assert_true(b.kr.tx_phase && b.kr.rx_phase);
		struct pkt ack = send_from(&b);
		assert_true(pkt_phase(&ack));	/* RFC9001 6.2-3: updated before the ACK is sent */
		assert_int_equal(recv_by(&a, ack), 0);
		assert_true(a.kr.tx_phase && a.kr.rx_phase);
		assert_int_equal(a.kr.updates, 1);
		assert_int_equal(b.kr.updates, 1);
	}
}

/* RFC9001 6.1-4: a subsequent update needs an acknowledgement in the current phase... */
static void keyring_update__second__needs_ack_of_its_phase(void **state)
{
	confirm();
	uint64_t old_pn = a.pn - 1;
	update(&a);
	settle();
	assert_int_equal(keyring_update(&a.kr, now), QE_AGAIN);
	struct pkt p = send_from(&a);
	assert_int_equal(keyring_on_acked(&a.kr, old_pn, false, now, PTO), 0);	/* an older packet */
	assert_int_equal(recv_by(&b, p), 0);
	assert_int_equal(recv_by(&a, send_from(&b)), 0);
	settle();
	assert_false(a.kr.tx_phase_acked);
	assert_int_equal(keyring_update(&a.kr, now), QE_AGAIN);
	assert_int_equal(keyring_on_acked(&a.kr, p.pn, true, now, PTO), 0);
	settle();
	update(&a);
}

/* ...and should wait three PTO from there. RFC9001 6.5-5 */
static void keyring_update__second__waits_three_pto(void **state)
{
	updated_by_a();
	assert_int_equal(keyring_update(&a.kr, now), QE_AGAIN);
	now += 3 * PTO - 1;
	exchange(&a, &b);	/* later acknowledgements do not start the wait again */
	assert_int_equal(keyring_update(&a.kr, now), QE_AGAIN);
	now++;
	update(&a);
	exchange(&a, &b);
	assert_false(b.kr.rx_phase);
	assert_int_equal(b.kr.updates, 2);
}

/* Without this the phases could drift two apart and the bit would lie. */
static void keyring_update__peer_not_seen_in_our_phase__refused(void **state)
{
	confirm();
	update(&a);
	struct pkt p = send_from(&a);
	assert_int_equal(keyring_on_acked(&a.kr, p.pn, true, now, PTO), 0);
	now += 100 * PTO;
	assert_int_equal(keyring_update(&a.kr, now), QE_AGAIN);
}

static void keyring_update__both_at_once__one_phase_on(void **state)
{
	confirm();
	update(&a);
	update(&b);
	struct pkt pa = send_from(&a), pb = send_from(&b);
	assert_int_equal(recv_by(&a, pb), 0);
	assert_int_equal(recv_by(&b, pa), 0);
	exchange(&a, &b);
	exchange(&b, &a);
	assert_int_equal(a.kr.updates, 1);
	assert_int_equal(b.kr.updates, 1);
	assert_true(a.kr.rx_phase && b.kr.rx_phase && a.kr.tx_phase && b.kr.tx_phase);
}

static void keyring_update__fifty_by_turns__never_lost(void **state)
{
	confirm();
	for (int i = 0; i < 50; i++) {
		struct side *s = i % 3 ? &a : &b, *t = i % 3 ? &b : &a;
		update(s);
		exchange(t, s);
		exchange(s, t);
		exchange(t, s);
		settle();
	}
	assert_int_equal(a.kr.updates, 50);
	assert_int_equal(b.kr.updates, 50);
	assert_int_equal(a.kr.forged + b.kr.forged, 0);
}

/* RFC9001 5.4-4, 6.1-2: header protection keys stay. */
static void keyring_update__header_protection__unchanged(void **state)
{
	uint8_t sample[HP_SAMPLE_LEN] = { 1, 2, 3 }, before[4][HP_MASK_LEN], after[4][HP_MASK_LEN];
	const uint8_t *at = sample;

	for (int round = 0; round < 2; round++) {
		uint8_t(*m)[HP_MASK_LEN] = round ? after : before;
		assert_int_equal(pktkey_masks(&a.kr.tx[LEVEL_APP], &at, 1, &m[0]), 0);
		assert_int_equal(pktkey_masks(&a.kr.rx[LEVEL_APP], &at, 1, &m[1]), 0);
		assert_int_equal(pktkey_masks(&b.kr.tx[LEVEL_APP], &at, 1, &m[2]), 0);
		assert_int_equal(pktkey_masks(&b.kr.rx[LEVEL_APP], &at, 1, &m[3]), 0);
		if (round == 0)
			updated_by_a();
	}
	assert_memory_equal(before, after, sizeof(before));
	assert_memory_equal(after[0], after[3], HP_MASK_LEN);
}

/* ---- responding: RFC 9001 6.2, 6.3 ---- */

/* RFC9001 9.5-4: no key is made while a packet is opened; it is there after the next seal. */
static void keyring_open__peer_update__derives_nothing_until_seal(void **state)
{
	confirm();
	update(&a);
	struct pkt p = send_from(&a);
	uint64_t made = ossl_mem_count();
	assert_int_equal(recv_by(&b, p), 0);
	assert_int_equal(ossl_mem_count(), made);
	assert_false(pktkey_ready(&b.kr.rx_next));
	send_from(&b);
	assert_true(pktkey_ready(&b.kr.rx_next));
	assert_false(b.kr.tx_due || b.kr.rx_next_due);
}

/* The peer may know the handshake confirmed before we do. */
static void keyring_open__peer_update_before_we_are_confirmed__followed(void **state)
{
	exchange(&b, &a);
	b.kr.confirmed = true;
	update(&b);
	exchange(&b, &a);
	assert_true(a.kr.tx_phase);
}

/* RFC9001 6.3-4: a forged Key Phase bit changes nothing and costs the next keys nothing. */
static void keyring_open__forged_phase__dropped_and_next_key_kept(void **state)
{
	for (int round = 0; round < 2; round++) {
		confirm();
		const EVP_CIPHER_CTX *next = b.kr.rx_next.aead;
		struct pkt p = send_from(&a);
		uint64_t forged = b.kr.forged;
		assert_int_equal(recv_by(&b, flip_phase(p)), QE_DROP);
		assert_int_equal(b.kr.forged, forged + 1);
		assert_ptr_equal(b.kr.rx_next.aead, next);
		assert_int_equal(b.kr.rx_phase, round);
		assert_int_equal(b.kr.tx_phase, round);
		assert_int_equal(recv_by(&b, p), 0);
		if (round == 0)
			update(&a);
	}
}

/* RFC9001 6.2-4: two updates with no packet of ours between them. The second is not followed until we have sent. */
static void keyring_open__second_update_before_we_answered__not_followed(void **state)
{
	confirm();
	update(&a);
	assert_int_equal(recv_by(&b, send_from(&a)), 0);
	a.kr.tx_phase_acked = a.kr.rx_phase = true;	/* a peer that does not wait */
	update(&a);
	struct pkt early = send_from(&a);
	assert_int_equal(recv_by(&b, early), QE_DROP);
	assert_true(b.kr.rx_phase);
	now += 3 * PTO;
	keyring_on_time(&b.kr, now);
	assert_int_equal(recv_by(&b, early), QE_DROP);	/* nor without a previous key */
	send_from(&b);
	assert_int_equal(recv_by(&b, early), 0);
	assert_int_equal(b.kr.updates, 2);
	assert_false(b.kr.tx_phase);
}

/* RFC9001 6.2-5: an ACK of a new-phase packet in an old-phase packet. */
static void keyring_on_acked__old_phase_acks_new__key_update_error(void **state)
{
	confirm();
	struct pkt before = send_from(&a);
	update(&a);
	assert_int_equal(keyring_on_acked(&a.kr, before.pn + 5, false, now, PTO), 0);	/* nothing sent in it yet */
	struct pkt p = send_from(&a);
	assert_int_equal(keyring_on_acked(&a.kr, before.pn, false, now, PTO), 0);
	assert_int_equal(keyring_on_acked(&a.kr, p.pn, false, now, PTO), QE_KEY_UPDATE);
	assert_false(a.kr.tx_phase_acked);
	assert_int_equal(keyring_on_acked(&a.kr, p.pn, true, now, PTO), 0);
	assert_true(a.kr.tx_phase_acked);
}

/* ---- old keys: RFC 9001 6.4, 6.5 ---- */

/* RFC9001 6.5-1, 6.5-6: delayed packets open for three PTO after the first of the new phase. */
static void keyring_open__delayed_old_packets__open_for_three_pto(void **state)
{
	confirm();
	struct pkt late1 = send_from(&a), late2 = send_from(&a), late3 = send_from(&a);
	update(&a);
	struct pkt first = send_from(&a), second = send_from(&a);
	assert_int_equal(recv_by(&b, late2), 0);
	assert_int_equal(keyring_deadline(&b.kr), UINT64_MAX);
	assert_int_equal(recv_by(&b, second), 0);
	assert_int_equal(keyring_deadline(&b.kr), now + 3 * PTO);
	assert_int_equal(recv_by(&b, late1), 0);	/* before we sent in the new phase */
	send_from(&b);
	assert_int_equal(recv_by(&b, first), 0);
	now += 3 * PTO - 1;
	keyring_on_time(&b.kr, now);
	assert_int_equal(recv_by(&b, late3), 0);	/* and after */
	now++;
	keyring_on_time(&b.kr, now);
	assert_int_equal(keyring_deadline(&b.kr), UINT64_MAX);
	assert_false(pktkey_ready(&b.kr.rx_prev));
	assert_int_equal(recv_by(&b, late3), QE_DROP);
	assert_true(b.kr.rx_phase);
	exchange(&a, &b);
}

/* RFC9001 6.1-7: the initiator keeps the old key until the peer is seen in the new phase, however long it takes. */
static void keyring_open__initiator__old_key_kept_until_answered(void **state)
{
	confirm();
	update(&a);
	now += 1000 * PTO;
	keyring_on_time(&a.kr, now);
	assert_int_equal(recv_by(&a, send_from(&b)), 0);
	exchange(&a, &b);
	assert_true(a.kr.rx_phase);
}

/* A peer that goes back to its old key: packets sealed by hand, with keys of any phase. */
struct by_hand {
	struct pktkey key[3];
};

static struct by_hand by_hand_start(void)
{
	struct by_hand h;
	uint8_t secret[SECRET_MAX];

	memset(secret, 0x11, sizeof(secret));	/* what a sends with */
	assert_int_equal(pktkey_init(&h.key[0], SUITE_AES_128_GCM, secret, true), 0);
	for (int i = 1; i < 3; i++)
		assert_int_equal(pktkey_next(&h.key[i - 1], &h.key[i], true), 0);
	return h;
}

static void by_hand_end(struct by_hand *h)
{
	for (int i = 0; i < 3; i++)
		pktkey_fini(&h->key[i]);
}

static int recv_by_hand(struct by_hand *h, int generation, uint64_t pn)
{
	struct pkt p = { .pn = pn, .header = { generation % 2 ? 0x44 : 0x40, 1 } };

	memset(p.body, 0x77, BODY);
	assert_int_equal(pktkey_seal(&h->key[generation], pn, p.header, 2, p.body, BODY), 0);
	return recv_by(&b, p);
}

/* RFC9001 6.4-2 MUST: old keys after newer ones were used for lower packet numbers. */
static void keyring_open__old_key_higher_pn__key_update_error(void **state)
{
	/* generation and packet number of each packet; what the last gives. we_sent: b seals one before the last */
	static const struct { struct { int generation; uint64_t pn; } p[5]; size_t n; bool we_sent; int last; } t[] = {
		{ { { 0, 5 }, { 1, 10 }, { 0, 9 } }, 3, false, 0 },
		{ { { 0, 5 }, { 1, 10 }, { 0, 9 } }, 3, true, 0 },
		{ { { 0, 5 }, { 1, 10 }, { 0, 11 } }, 3, false, QE_KEY_UPDATE },
		/* b has sent: 11 could be the next phase by now, and is no packet of it */
		{ { { 0, 5 }, { 1, 10 }, { 0, 11 } }, 3, true, QE_DROP },
		/* between packets of the new phase */
		{ { { 0, 5 }, { 1, 10 }, { 1, 12 }, { 0, 11 } }, 4, true, QE_KEY_UPDATE },
		{ { { 0, 5 }, { 1, 12 }, { 1, 10 }, { 0, 11 } }, 4, true, QE_KEY_UPDATE },
		/* the same found the other way round: the newer key comes with a lower number */
		{ { { 0, 5 }, { 0, 11 }, { 1, 10 } }, 3, false, QE_KEY_UPDATE },
		{ { { 0, 5 }, { 1, 12 }, { 0, 10 }, { 1, 9 } }, 4, true, QE_KEY_UPDATE },
		{ { { 0, 5 }, { 1, 12 }, { 0, 10 }, { 1, 11 } }, 4, true, 0 },
		/* a number from before the current phase asks for the previous key */
		{ { { 0, 5 }, { 1, 20 }, { 2, 10 } }, 3, true, QE_DROP },
		{ { { 0, 5 }, { 1, 20 }, { 2, 21 } }, 3, true, 0 },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		teardown(NULL);
		start(SUITE_AES_128_GCM, 0);
		struct by_hand h = by_hand_start();
		for (size_t j = 0; j < t[i].n; j++) {
			bool last = j == t[i].n - 1;
			if (last && t[i].we_sent)
				send_from(&b);
			assert_int_equal(recv_by_hand(&h, t[i].p[j].generation, t[i].p[j].pn), last ? t[i].last : 0);
		}
		by_hand_end(&h);
	}
}

/* The same for the next key, once there is no previous one to ask. */
static void keyring_open__next_key_lower_pn__key_update_error(void **state)
{
	struct by_hand h = by_hand_start();

	assert_int_equal(recv_by_hand(&h, 0, 5), 0);
	assert_int_equal(recv_by_hand(&h, 1, 20), 0);
	send_from(&b);
	settle();
	assert_int_equal(recv_by_hand(&h, 2, 10), QE_KEY_UPDATE);
	by_hand_end(&h);
}

/* With neither previous nor next key at hand the current one is tried for show; it must not count as success. */
static void keyring_open__wrong_bit_under_current_key__dropped(void **state)
{
	struct by_hand h = by_hand_start();
	struct pkt p = { .pn = 20, .header = { 0x40, 1 } };	/* bit 0, key of phase 1 */

	assert_int_equal(recv_by_hand(&h, 1, 10), 0);
	settle();
	assert_false(pktkey_ready(&b.kr.rx_prev) || pktkey_ready(&b.kr.rx_next));
	assert_int_equal(pktkey_seal(&h.key[1], p.pn, p.header, 2, p.body, BODY), 0);
	assert_int_equal(recv_by(&b, p), QE_DROP);
	assert_int_equal(b.kr.forged, 1);
	by_hand_end(&h);
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
		teardown(NULL);
		start(t[i].suite, t[i].wish);
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
	teardown(NULL);
	start(SUITE_CHACHA20, 0);
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
		teardown(NULL);
		start(suites[i], 0);
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
		teardown(NULL);
		start(SUITE_AES_128_GCM, 0);
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
	const struct CMUnitTest tests[] = {
		T(keyring_open__each_level__own_keys),
		T(keyring_discard__level__neither_opens_nor_counts),
		T(keyring_install__again__replaces),
		T(keyring_install__secrets_no_longer_needed__wiped),
		T(keyring__idle_connection__memory_within_bound),
		T(keyring_update__unconfirmed_or_unacked__refused),
		T(keyring_update__answered__both_in_the_next_phase),
		T(keyring_update__second__needs_ack_of_its_phase),
		T(keyring_update__second__waits_three_pto),
		T(keyring_update__peer_not_seen_in_our_phase__refused),
		T(keyring_update__both_at_once__one_phase_on),
		T(keyring_update__fifty_by_turns__never_lost),
		T(keyring_update__header_protection__unchanged),
		T(keyring_open__peer_update__derives_nothing_until_seal),
		T(keyring_open__peer_update_before_we_are_confirmed__followed),
		T(keyring_open__forged_phase__dropped_and_next_key_kept),
		T(keyring_open__second_update_before_we_answered__not_followed),
		T(keyring_on_acked__old_phase_acks_new__key_update_error),
		T(keyring_open__delayed_old_packets__open_for_three_pto),
		T(keyring_open__initiator__old_key_kept_until_answered),
		T(keyring_open__old_key_higher_pn__key_update_error),
		T(keyring_open__next_key_lower_pn__key_update_error),
		T(keyring_open__wrong_bit_under_current_key__dropped),
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
	if (!ossl_mem_init())
		return 1;
	return cmocka_run_group_tests(tests, NULL, NULL);
}
