/* Key updates: each rule of RFC 9001 6.1 to 6.5 once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "unit/keyring_fixture.h"

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
		restart(suites[i], 0);
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
		restart(SUITE_AES_128_GCM, 0);
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

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
