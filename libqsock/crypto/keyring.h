/* All packet keys of one connection: by level, both directions, and the key
 * update of 1-RTT. Decides which key a packet phase selects, when an update is
 * allowed, and when AEAD limits are met. Does not know packets' contents.
 * RFC 9001 4, 6
 *
 * A phase is entered by sending (tx) and by opening a packet (rx), separately:
 * tx is ahead of rx from our update until the peer answers, never more than
 * that, and rx is never ahead of tx_phase. No key is derived while a packet is
 * opened (RFC 9001 9.5): what an update of the peer calls for is made by the
 * next seal, and the peer may not update again before it got that packet. */
#ifndef CRYPTO_KEYRING_H
#define CRYPTO_KEYRING_H

#include "crypto/pktkey.h"
#include "wire/packet.h"

struct keyring {
	struct pktkey rx[LEVEL_COUNT], tx[LEVEL_COUNT];	/* [LEVEL_APP]: current phase; hp stays here for good */
	struct pktkey rx_next, rx_prev;	/* 1-RTT; next is there before a packet may ask for it */
	uint64_t rx_prev_until_us;	/* prev is discarded then; meaningless without prev */
	bool tx_phase, rx_phase;	/* Key Phase bit to send; of the newest packet opened */
	bool tx_due, rx_next_due;	/* the peer updated: the next seal makes these keys first */
	bool confirmed;			/* handshake confirmed: updates allowed. Set by the owner */
	bool tx_phase_acked;		/* a packet of the current phase was acknowledged */
	uint64_t tx_phase_first_pn;	/* first pn sent in the current phase; PN_NONE: none yet */
	uint64_t may_update_from_us;	/* three PTO after the last update was confirmed */
	uint64_t rx_phase_first_pn;	/* lowest pn opened in the current receive phase; PN_NONE: none yet */
	uint64_t rx_phase_last_pn;	/* highest of it; meaningless while first is PN_NONE */
	uint64_t rx_old_last_pn;	/* highest pn opened in any earlier phase; PN_NONE: none */
	uint64_t sealed[LEVEL_COUNT];	/* packets under the current tx key */
	uint64_t forged;		/* packets that failed to open, all keys of the connection */
	uint64_t update_after;		/* seal this many packets, then update by itself; 0: near the limit only */
	uint64_t updates;		/* phases begun, by either side */
};

/* update_after: 1-RTT packets sealed before each self-started update; 0, or
 * more than that: at 3/4 of the suite's confidentiality limit. */
void keyring_init(struct keyring *kr, uint64_t update_after);
void keyring_fini(struct keyring *kr);

/* Install a secret (suite_hash bytes), in place of the level's former key if it
 * has one. 0; QE_NOMEM; QE_CRYPTO_LIB; QE_INVAL for an unknown suite. Unchanged on failure. */
int keyring_install(struct keyring *kr, enum level level, bool tx, uint16_t suite, const uint8_t *secret);
void keyring_discard(struct keyring *kr, enum level level);

/* Open a packet whose header is unprotected already. For LEVEL_APP, phase is the
 * header's Key Phase bit: the current, previous or next key is chosen, and a
 * packet that opens under the next one makes it current (the peer updated, and
 * we follow: tx_phase is toggled, so write it into every header as it is then).
 * pto_us: current PTO, for how long the previous key is kept.
 * 0; QE_DROP (does not open, counted; or no key); QE_KEY_UPDATE (an old key with a
 * packet number above one of a newer key); QE_AEAD_LIMIT when the integrity
 * limit is passed, and ever after. RFC 9001 6.2-6.6 */
int keyring_open(struct keyring *kr, enum level level, bool phase, uint64_t pn, const uint8_t *aad, size_t aad_len,
		 uint8_t *buf, size_t len, uint64_t now_us, uint64_t pto_us);

/* Seal with the level's tx key, which must be there; counts, and remembers the
 * phase's first pn. After an update of the peer it makes the new keys first.
 * 0; QE_NOMEM; QE_CRYPTO_LIB; QE_AEAD_LIMIT when the confidentiality limit is reached. */
int keyring_seal(struct keyring *kr, enum level level, uint64_t pn, const uint8_t *aad, size_t aad_len, uint8_t *buf,
		 size_t len);

/* 1-RTT packet numbers up to largest_acked were acknowledged by a 1-RTT packet with Key Phase bit phase.
 * 0; QE_KEY_UPDATE when an old key acknowledges a packet of a newer one. RFC 9001 6.1, 6.2 */
int keyring_on_acked(struct keyring *kr, uint64_t largest_acked, bool phase, uint64_t now_us, uint64_t pto_us);

/* May an update start now? Is one due by count? RFC 9001 6.1, 6.5, 6.6 */
bool keyring_may_update(const struct keyring *kr, uint64_t now_us);
bool keyring_update_due(const struct keyring *kr, uint64_t now_us);
/* Start one. 0; QE_AGAIN when not allowed now; QE_NOMEM; QE_CRYPTO_LIB. Unchanged on failure. */
int keyring_update(struct keyring *kr, uint64_t now_us);

/* Drop the previous key when its time has come; UINT64_MAX or when to call. */
void keyring_on_time(struct keyring *kr, uint64_t now_us);
uint64_t keyring_deadline(const struct keyring *kr);

#endif
