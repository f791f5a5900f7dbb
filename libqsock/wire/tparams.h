/* Transport parameters: the extension's bytes to a struct and back.
 * RFC 9000 7.4, 18 */
#ifndef WIRE_TPARAMS_H
#define WIRE_TPARAMS_H

#include "wire/packet.h"

#define TPARAMS_UNKNOWN_MAX 32	/* unknown ids remembered while decoding, to notice a repeated one */

struct tparams {
	/* limits the sender of the parameters sets for its peer */
	uint64_t max_idle_timeout_ms;	/* 0: none */
	uint64_t max_udp_payload;	/* 1200-65527; default 65527; decoding caps what is above */
	uint64_t max_data;
	uint64_t max_stream_data_bidi_local, max_stream_data_bidi_remote, max_stream_data_uni;
	uint64_t max_streams_bidi, max_streams_uni;	/* <= 2^60 */
	uint64_t ack_delay_exponent;	/* 0-20; default 3 */
	uint64_t max_ack_delay_ms;	/* < 2^14; default 25 */
	uint64_t active_cid_limit;	/* >= 2; default 2 */
	bool disable_active_migration;
	bool grease_quic_bit;		/* RFC 9287 */

	bool has_initial_scid, has_original_dcid, has_retry_scid;
	struct cid initial_scid;	/* every endpoint */
	struct cid original_dcid, retry_scid;	/* server only */
	bool has_reset_token;		/* server only */
	uint8_t reset_token[RESET_TOKEN_LEN];
	bool has_preferred;		/* server only; of it only the CID and its token are in use */
	struct {
		uint8_t ip4[4], ip6[16];
		uint16_t port4, port6;
		struct cid cid;
		uint8_t token[RESET_TOKEN_LEN];
	} preferred;
};

/* All defaults of RFC 9000 18.2, nothing else set. */
void tparams_init(struct tparams *tp);

/* Encode into w; what has its default value is left out. from_server permits
 * the server-only ones. grease: a reserved parameter (31*N+27) is added, N and
 * its one-byte value drawn from these bits, 0 for none. false: no room, w
 * unchanged. */
bool tparams_encode(struct wr *w, const struct tparams *tp, bool from_server, uint64_t grease);

/* Decode what a peer sent. 0; QE_TRANSPORT_PARAMETER on a malformed, repeated or
 * out-of-range parameter or a server-only one from a client. Unknown ones are
 * ignored (repetition is noticed among the first TPARAMS_UNKNOWN_MAX). Which
 * CIDs must be present is the handshake's business (7.3). */
int tparams_decode(const uint8_t *p, size_t len, bool from_server, struct tparams *out);

#endif
