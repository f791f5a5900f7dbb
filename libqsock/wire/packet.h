/* Packet headers: parse and write. Knows nothing of keys; packet numbers here
 * are what stands after header protection is off. RFC 9000 17, RFC 8999 */
#ifndef WIRE_PACKET_H
#define WIRE_PACKET_H

#include "base/bytes.h"

#define QUIC_V1 UINT32_C(0x00000001)
#define CID_MAX 20
#define RESET_TOKEN_LEN 16
#define MIN_INITIAL_DATAGRAM 1200	/* UDP payload bytes, RFC 9000 14.1 */
#define AEAD_TAG_LEN 16
#define PN_NONE UINT64_MAX

struct cid {
	uint8_t len;		/* 0-20 */
	uint8_t b[CID_MAX];
};

static inline bool cid_equal(const struct cid *a, const struct cid *b)
{
	return a->len == b->len && !memcmp(a->b, b->b, a->len);
}

/* Total order, for trees. */
static inline int cid_cmp(const struct cid *a, const struct cid *b)
{
	return a->len != b->len ? (a->len < b->len ? -1 : 1) : memcmp(a->b, b->b, a->len);
}

/* Packet number spaces, also the index of everything kept per space. RFC 9000 12.3 */
enum pn_space { SPACE_INITIAL, SPACE_HANDSHAKE, SPACE_APP, SPACE_COUNT };

/* Encryption levels, also the index of keys. RFC 9001 4 */
enum level { LEVEL_INITIAL, LEVEL_EARLY, LEVEL_HANDSHAKE, LEVEL_APP, LEVEL_COUNT };

static inline enum pn_space level_space(enum level l)
{
	return l == LEVEL_INITIAL ? SPACE_INITIAL : l == LEVEL_HANDSHAKE ? SPACE_HANDSHAKE : SPACE_APP;
}

enum packet_type { PACKET_INITIAL, PACKET_0RTT, PACKET_HANDSHAKE, PACKET_RETRY, PACKET_VN, PACKET_1RTT,
		   PACKET_UNKNOWN_VERSION };

struct packet {
	enum packet_type type;
	uint8_t first;			/* first byte, still protected */
	uint32_t version;		/* long headers */
	struct cid dcid, scid;		/* scid: long headers */
	const uint8_t *token;		/* Initial; Retry: the Retry Token. Borrowed */
	size_t token_len;
	const uint8_t *retry_tag;	/* Retry: 16 bytes. Borrowed */
	const uint8_t *versions;	/* VN: list of 32-bit versions. Borrowed */
	size_t versions_len;		/* bytes, a multiple of 4 */
	const uint8_t *start;		/* first byte of the packet. Borrowed */
	size_t pn_off;			/* where the packet number stands, from start */
	size_t len;			/* whole packet, from start, tag included */
};

/* Room a packet must have from its packet number on, so that the sample for
 * header protection can be taken. RFC 9001 5.4.2 */
#define PN_SAMPLE_ROOM (4 + 16)

/* Parse the next packet of a datagram. r stands at its first byte and is moved
 * past it: by the Length field, or to the end of the datagram for types
 * without one. short_cid_len: length of the connection IDs we issue, 0-20.
 * 0; QE_DROP when it is no QUIC packet anybody could process. r has moved then
 * too: past the packet when its Length is credible, else to the end, so a loop
 * on rd_left ends and reaches what is coalesced behind a bad packet.
 * Success with a packet number promises len - pn_off >= PN_SAMPLE_ROOM. A 1-RTT
 * packet dropped as shorter may still be a stateless reset (RFC 9000 10.3), and
 * so may one that parses: that is for the caller, over the whole datagram.
 * A Retry without a token and a version negotiation without versions, or with
 * half of one, are QE_DROP, as is a CID over 20 bytes in both and in v1.
 * PACKET_UNKNOWN_VERSION is told whatever the length of the CIDs: one over
 * CID_MAX is left empty here (RFC 9000 17.2.1 wants version negotiation for it
 * all the same, see packet_write_vn).
 * The fixed bit is not checked (RFC 9287): see packet_fixed_bit. */
int packet_parse(struct rd *r, size_t short_cid_len, struct packet *out);

/* Only the destination connection ID, for demultiplexing: works on the first
 * bytes of any version's packet (RFC 8999). false when the datagram is too short
 * or the CID is longer than CID_MAX. */
bool packet_peek_dcid(const uint8_t *p, size_t len, size_t short_cid_len, struct cid *out);

static inline bool packet_is_long(uint8_t first) { return first & 0x80; }
static inline bool packet_fixed_bit(uint8_t first) { return first & 0x40; }
/* Are reserved bits set? For a first byte without header protection; a PROTOCOL_VIOLATION, but only once the
 * packet has authenticated. RFC 9000 17.2, 17.3.1 */
static inline bool packet_reserved_bits(uint8_t first) { return first & (packet_is_long(first) ? 0x0c : 0x18); }

/* Packet number coding. RFC 9000 17.1, A.2, A.3
 * largest: largest acknowledged (encode) / received (decode), PN_NONE if none.
 * pn > largest_acked. pn_decode never returns more than 2^62-1. */
size_t pn_encoded_len(uint64_t pn, uint64_t largest_acked);		/* 1-4 */
uint64_t pn_decode(uint64_t truncated, size_t len, uint64_t largest_received);

/* Writers: each writes all of its header or nothing. false: no room, w unchanged.
 *
 * Write a long header up to and including the packet number. type is Initial,
 * 0-RTT or Handshake; token only for Initial. The Length field is written as
 * two bytes of zero; *length_off gets its offset from w->start, for
 * packet_patch_length. */
bool packet_write_long(struct wr *w, enum packet_type type, uint32_t version, const struct cid *dcid,
		       const struct cid *scid, const uint8_t *token, size_t token_len, uint64_t pn, size_t pn_len,
		       size_t *length_off);
/* length: packet number + payload + tag, bytes, < 16384. start: as w->start then. */
void packet_patch_length(uint8_t *start, size_t length_off, size_t length);
bool packet_write_short(struct wr *w, const struct cid *dcid, bool spin, bool key_phase, uint64_t pn, size_t pn_len);

/* Retry without its integrity tag: the caller appends the 16 bytes (crypto/retry.h).
 * RFC 9000 17.2.5 */
bool packet_write_retry(struct wr *w, uint32_t version, const struct cid *dcid, const struct cid *scid,
			const uint8_t *token, size_t token_len, uint8_t unused4);
/* Answer the packet `trigger` (PACKET_UNKNOWN_VERSION, its datagram still there): its CIDs, of any length, go back
 * swapped. RFC 9000 17.2.1, RFC 8999 6 */
bool packet_write_vn(struct wr *w, uint8_t first_random, const struct packet *trigger, const uint32_t *versions,
		     size_t n);

#endif
