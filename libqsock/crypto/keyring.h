/* All packet keys of one connection: by level, both directions, and the key
 * update of 1-RTT. Decides which key a packet phase selects, when an update is
 * allowed, and when AEAD limits are met. Does not know packets' contents.
 * RFC 9001 4, 6 */
#ifndef CRYPTO_KEYRING_H
#define CRYPTO_KEYRING_H

#include "crypto/pktkey.h"
#include "wire/packet.h"

struct keyring {
	struct pktkey rx[LEVEL_COUNT], tx[LEVEL_COUNT];	/* [LEVEL_APP]: current phase; hp stays here for good */
	struct pktkey rx_next, rx_prev;	/* 1-RTT; next is ready before a packet asks for it (RFC 9001 9.5) */
	uint64_t rx_prev_until_us;	/* prev is discarded then; 0: no prev */
	bool tx_phase, rx_phase;
	bool confirmed;			/* handshake confirmed: updates allowed */
	uint64_t tx_phase_first_pn;	/* first pn sent in the current phase; PN_NONE: none yet */
	bool tx_phase_acked;		/* a packet of the current phase was acknowledged */
	uint64_t rx_phase_first_pn;	/* lowest pn seen in the current receive phase */
	uint64_t sealed;		/* packets under the current 1-RTT key */
	uint64_t forged;		/* packets that failed to open, all keys of the connection */
	uint64_t update_after;		/* seal this many packets, then update by itself */
};

/* first_update, then_every: 1-RTT packets before the first and each later
 * self-started update (capped by the suite's limit). */
void keyring_init(struct keyring *kr, uint64_t first_update);
void keyring_fini(struct keyring *kr);

/* Install a secret (suite_hash bytes). 0; QE_NOMEM; QE_CRYPTO_LIB. */
int keyring_install(struct keyring *kr, enum level level, bool tx, uint16_t suite, const uint8_t *secret);
void keyring_discard(struct keyring *kr, enum level level);

/* Open a packet whose header is unprotected already. For LEVEL_APP, phase is the
 * header's Key Phase bit: the current, previous or next key is chosen, and a
 * packet that opens under the next one makes it current (the peer updated; we
 * follow: the next tx key is used from the following packet on).
 * pto_us: current PTO, for how long the previous key is kept.
 * 0; QE_DROP (does not open; counted); QE_KEY_UPDATE (old key, higher packet
 * number; or a second update before ours was acknowledged); QE_AEAD_LIMIT when the integrity
 * limit is passed; QE_NOMEM. RFC 9001 6.2-6.6 */
int keyring_open(struct keyring *kr, enum level level, bool phase, uint64_t pn, const uint8_t *aad, size_t aad_len,
		 uint8_t *buf, size_t len, uint64_t now_us, uint64_t pto_us);

/* Seal with the level's tx key; counts, and remembers the phase's first pn. 0; QE_CRYPTO_LIB; QE_AEAD_LIMIT
 * when the confidentiality limit is reached and no update is possible. */
int keyring_seal(struct keyring *kr, enum level level, uint64_t pn, const uint8_t *aad, size_t aad_len, uint8_t *buf,
		 size_t len);

/* A 1-RTT packet number was acknowledged. */
void keyring_on_acked(struct keyring *kr, uint64_t largest_acked);
/* May an update start now? Is one due by count? RFC 9001 6.1, 6.5, 6.6 */
bool keyring_may_update(const struct keyring *kr, uint64_t now_us);
bool keyring_update_due(const struct keyring *kr, uint64_t now_us);
/* Start one. 0; QE_AGAIN when not allowed now; QE_NOMEM; QE_CRYPTO_LIB. */
int keyring_update(struct keyring *kr, uint64_t now_us, uint64_t pto_us);
/* Drop the previous key when its time has come; UINT64_MAX or when to call. */
void keyring_on_time(struct keyring *kr, uint64_t now_us);
uint64_t keyring_deadline(const struct keyring *kr);

#endif
