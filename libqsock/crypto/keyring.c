/* Which key opens and seals a packet, the key update of RFC 9001 6, and the
 * limits of 6.6. Does not know what packets carry or when they are sent: the
 * owner reports acknowledgements and time.
 *
 * Invariants: tx is one phase ahead of rx or in the same one; rx_next is missing
 * only between an update of the receive phase and the next 1-RTT seal. */
#include "crypto/keyring.h"

#include <assert.h>
#include <openssl/crypto.h>

#include "base/err.h"

/* How many PTO the former receive key is kept, and an own update waits. RFC 9001 6.5 */
enum { SETTLE_PTO = 3 };

void keyring_init(struct keyring *kr, uint64_t update_after)
{
	*kr = (struct keyring){
		.update_after = update_after,
		.tx_phase_first_pn = PN_NONE,
		.rx_phase_first_pn = PN_NONE,
		.rx_old_last_pn = PN_NONE,
	};
}

void keyring_fini(struct keyring *kr)
{
	for (int l = 0; l < LEVEL_COUNT; l++)
		keyring_discard(kr, l);
}

static int install_rx_app(struct keyring *kr, uint16_t suite, const uint8_t *secret)
{
	struct pktkey cur, next;

	int rc = pktkey_init(&cur, suite, secret, false);
	if (rc)
		return rc;
	/* The peer may update as soon as it has the handshake confirmed, which we learn later than it does. */
	rc = pktkey_next(&cur, &next, false);
	if (rc) {
		pktkey_fini(&cur);
		return rc;
	}
	OPENSSL_cleanse(cur.secret, sizeof(cur.secret));	/* next.secret is all that later keys need */
	pktkey_fini(&kr->rx[LEVEL_APP]);
	pktkey_fini(&kr->rx_next);
	kr->rx[LEVEL_APP] = cur;
	kr->rx_next = next;
	return 0;
}

int keyring_install(struct keyring *kr, enum level level, bool tx, uint16_t suite, const uint8_t *secret)
{
	struct pktkey *slot = tx ? &kr->tx[level] : &kr->rx[level], k;

	if (level == LEVEL_APP && !tx)
		return install_rx_app(kr, suite, secret);
	int rc = pktkey_init(&k, suite, secret, tx);
	if (rc)
		return rc;
	if (level != LEVEL_APP)
		OPENSSL_cleanse(k.secret, sizeof(k.secret));	/* only 1-RTT keys have successors */
	pktkey_fini(slot);
	*slot = k;
	if (tx)
		kr->sealed[level] = 0;
	return 0;
}

void keyring_discard(struct keyring *kr, enum level level)
{
	pktkey_fini(&kr->rx[level]);
	pktkey_fini(&kr->tx[level]);
	if (level == LEVEL_APP) {
		pktkey_fini(&kr->rx_next);
		pktkey_fini(&kr->rx_prev);
		kr->tx_due = kr->rx_next_due = false;
	}
}

/* Put a key with no header protection of its own in k's place. */
static void replace_keep_hp(struct pktkey *k, struct pktkey *by)
{
	by->hp = k->hp;
	k->hp = NULL;
	pktkey_fini(k);
	*k = *by;
	OPENSSL_cleanse(by, sizeof(*by));
}

/* From here on packets carry the other Key Phase bit; the key itself follows by tx_roll. */
static void tx_phase_begin(struct keyring *kr)
{
	kr->tx_phase = !kr->tx_phase;
	kr->tx_phase_first_pn = PN_NONE;
	kr->tx_phase_acked = false;
	kr->updates++;
}

static int tx_roll(struct keyring *kr)
{
	struct pktkey next;

	int rc = pktkey_next(&kr->tx[LEVEL_APP], &next, true);
	if (rc)
		return rc;
	replace_keep_hp(&kr->tx[LEVEL_APP], &next);
	kr->sealed[LEVEL_APP] = 0;
	return 0;
}

/* The keys that an update of the receive phase calls for. What failed is tried again by the next call. */
static int keys_due_make(struct keyring *kr)
{
	if (kr->tx_due) {
		int rc = tx_roll(kr);
		if (rc)
			return rc;
		kr->tx_due = false;
	}
	if (kr->rx_next_due) {
		struct pktkey *cur = &kr->rx[LEVEL_APP];
		int rc = pktkey_next(cur, &kr->rx_next, false);
		if (rc)
			return rc;
		OPENSSL_cleanse(cur->secret, sizeof(cur->secret));
		kr->rx_next_due = false;
	}
	return 0;
}

/* A packet opened under rx_next: the peer is in the next phase, so are we. RFC 9001 6.2 */
static void rx_promote(struct keyring *kr, uint64_t now_us, uint64_t pto_us)
{
	struct pktkey *cur = &kr->rx[LEVEL_APP];

	pktkey_fini(&kr->rx_prev);
	kr->rx_prev = *cur;
	kr->rx_prev.hp = NULL;
	kr->rx_next.hp = cur->hp;
	*cur = kr->rx_next;
	OPENSSL_cleanse(&kr->rx_next, sizeof(kr->rx_next));
	kr->rx_next_due = true;
	kr->rx_prev_until_us = now_us + SETTLE_PTO * pto_us;

	kr->rx_phase = !kr->rx_phase;
	if (kr->rx_phase_first_pn != PN_NONE &&
	    (kr->rx_old_last_pn == PN_NONE || kr->rx_old_last_pn < kr->rx_phase_last_pn))
		kr->rx_old_last_pn = kr->rx_phase_last_pn;
	kr->rx_phase_first_pn = PN_NONE;
	if (kr->tx_phase != kr->rx_phase) {	/* the peer's update, not its answer to ours */
		tx_phase_begin(kr);
		kr->tx_due = true;
	}
}

/* The key for a 1-RTT packet. The bit alone does not tell the previous phase
 * from the next, so the packet number does (RFC 9001 6.5). There is a key in
 * every case, so that the time taken does not tell which was wanted (6.3). */
static struct pktkey *rx_select(struct keyring *kr, bool phase, uint64_t pn)
{
	struct pktkey *cur = &kr->rx[LEVEL_APP];

	if (phase == kr->rx_phase)
		return cur;
	if (pktkey_ready(&kr->rx_prev) && (pn <= kr->rx_phase_last_pn || kr->rx_next_due))
		return &kr->rx_prev;
	return kr->rx_next_due ? cur : &kr->rx_next;
}

/* A packet opened under the current key. RFC 9001 6.4 */
static int rx_note_current(struct keyring *kr, uint64_t pn)
{
	bool first = kr->rx_phase_first_pn == PN_NONE;

	if (first || pn < kr->rx_phase_first_pn)
		kr->rx_phase_first_pn = pn;
	if (first || pn > kr->rx_phase_last_pn)
		kr->rx_phase_last_pn = pn;
	return kr->rx_old_last_pn != PN_NONE && pn < kr->rx_old_last_pn ? QE_KEY_UPDATE : 0;
}

/* A packet opened under the previous key. RFC 9001 6.4 */
static int rx_note_prev(struct keyring *kr, uint64_t pn)
{
	if (kr->rx_old_last_pn == PN_NONE || pn > kr->rx_old_last_pn)
		kr->rx_old_last_pn = pn;
	return pn > kr->rx_phase_first_pn ? QE_KEY_UPDATE : 0;
}

int keyring_open(struct keyring *kr, enum level level, bool phase, uint64_t pn, const uint8_t *aad, size_t aad_len,
		 uint8_t *buf, size_t len, uint64_t now_us, uint64_t pto_us)
{
	struct pktkey *cur = &kr->rx[level];

	if (!pktkey_ready(cur))
		return QE_DROP;
	uint64_t limit = suite_integrity_limit(cur->suite);
	if (kr->forged > limit)
		return QE_AEAD_LIMIT;

	struct pktkey *key = level == LEVEL_APP ? rx_select(kr, phase, pn) : cur;
	bool decoy = level == LEVEL_APP && key == cur && phase != kr->rx_phase;
	if (pktkey_open(key, pn, aad, aad_len, buf, len) || decoy)
		return ++kr->forged > limit ? QE_AEAD_LIMIT : QE_DROP;

	if (level != LEVEL_APP)
		return 0;
	if (key == &kr->rx_prev)
		return rx_note_prev(kr, pn);
	if (key == &kr->rx_next)
		rx_promote(kr, now_us, pto_us);
	return rx_note_current(kr, pn);
}

int keyring_seal(struct keyring *kr, enum level level, uint64_t pn, const uint8_t *aad, size_t aad_len, uint8_t *buf,
		 size_t len)
{
	struct pktkey *key = &kr->tx[level];

	assert(pktkey_ready(key));
	if (level == LEVEL_APP && (kr->tx_due || kr->rx_next_due)) {
		int rc = keys_due_make(kr);
		if (rc)
			return rc;
	}
	if (kr->sealed[level] >= suite_confidentiality_limit(key->suite))
		return QE_AEAD_LIMIT;
	int rc = pktkey_seal(key, pn, aad, aad_len, buf, len);
	if (rc)
		return rc;
	kr->sealed[level]++;
	if (level == LEVEL_APP && kr->tx_phase_first_pn == PN_NONE)
		kr->tx_phase_first_pn = pn;
	return 0;
}

int keyring_on_acked(struct keyring *kr, uint64_t largest_acked, bool phase, uint64_t now_us, uint64_t pto_us)
{
	if (kr->tx_phase_first_pn == PN_NONE || largest_acked < kr->tx_phase_first_pn)
		return 0;
	if (phase != kr->tx_phase)
		return QE_KEY_UPDATE;
	if (!kr->tx_phase_acked) {
		kr->tx_phase_acked = true;
		if (kr->updates)
			kr->may_update_from_us = now_us + SETTLE_PTO * pto_us;
	}
	return 0;
}

bool keyring_may_update(const struct keyring *kr, uint64_t now_us)
{
	const struct pktkey *tx = &kr->tx[LEVEL_APP];

	/* An acknowledgement is asked for even before the first update, as 6.2 has it; 6.1 alone would not. */
	if (!pktkey_ready(tx) || !kr->confirmed || !kr->tx_phase_acked || kr->tx_phase != kr->rx_phase)
		return false;
	if (now_us >= kr->may_update_from_us)
		return true;
	/* Waiting is a SHOULD, the limit a MUST: close to it there is no more waiting. */
	uint64_t limit = suite_confidentiality_limit(tx->suite);
	return kr->sealed[LEVEL_APP] >= limit - limit / 8;
}

bool keyring_update_due(const struct keyring *kr, uint64_t now_us)
{
	if (!keyring_may_update(kr, now_us))
		return false;
	uint64_t after = suite_confidentiality_limit(kr->tx[LEVEL_APP].suite) / 4 * 3;
	if (kr->update_after && kr->update_after < after)
		after = kr->update_after;
	return kr->sealed[LEVEL_APP] >= after;
}

int keyring_update(struct keyring *kr, uint64_t now_us)
{
	if (!keyring_may_update(kr, now_us))
		return QE_AGAIN;
	int rc = tx_roll(kr);
	if (rc == 0)
		tx_phase_begin(kr);
	return rc;
}

void keyring_on_time(struct keyring *kr, uint64_t now_us)
{
	if (now_us >= keyring_deadline(kr))
		pktkey_fini(&kr->rx_prev);
}

uint64_t keyring_deadline(const struct keyring *kr)
{
	return pktkey_ready(&kr->rx_prev) ? kr->rx_prev_until_us : UINT64_MAX;
}
