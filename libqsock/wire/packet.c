/* Packet headers. Decides where a packet begins and ends in its datagram and
 * whether its header can be read at all; packets that cannot are dropped, never
 * answered, because nothing here is authenticated yet. Knows version 1 and the
 * invariants of every version (RFC 8999); no keys, no connections. */
#include "wire/packet.h"

#include <assert.h>

#include "base/err.h"
#include "wire/varint.h"

#define LONG_FORM 0x80
#define FIXED_BIT 0x40

/* A connection ID as long headers of any version carry it: up to 255 bytes. */
struct long_cid {
	const uint8_t *p;
	size_t len;
};

static struct long_cid rd_long_cid(struct rd *r)
{
	size_t len = (size_t)rd_uint(r, 1);
	return (struct long_cid){ rd_bytes(r, len), len };
}

static void cid_set(struct cid *cid, struct long_cid from)
{
	cid->len = from.len <= CID_MAX ? (uint8_t)from.len : 0;
	if (cid->len)
		memcpy(cid->b, from.p, cid->len);
}

static int drop_rest(struct rd *r)
{
	r->p = r->end;
	return QE_DROP;
}

/* Initial, 0-RTT, Handshake after the connection IDs: token, Length. RFC 9000 17.2.2 */
static int parse_numbered(struct rd *r, struct packet *out)
{
	if (out->type == PACKET_INITIAL) {
		uint64_t n = rd_varint(r);
		if (r->failed || n > rd_left(r))
			return drop_rest(r);
		out->token_len = (size_t)n;
		out->token = rd_bytes(r, out->token_len);
	}
	uint64_t length = rd_varint(r);
	if (r->failed || length > rd_left(r))
		return drop_rest(r);
	out->pn_off = (size_t)(r->p - out->start);
	out->len = out->pn_off + (size_t)length;
	r->p += length;
	return length < PN_SAMPLE_ROOM ? QE_DROP : 0;
}

/* RFC 9000 17.2.5; an empty token is to be discarded by 17.2.5.2 */
static int parse_retry(struct rd *r, struct packet *out)
{
	if (rd_left(r) <= AEAD_TAG_LEN)
		return drop_rest(r);
	out->token_len = rd_left(r) - AEAD_TAG_LEN;
	out->token = rd_bytes(r, out->token_len);
	out->retry_tag = rd_bytes(r, AEAD_TAG_LEN);
	out->len = (size_t)(r->p - out->start);
	return 0;
}

/* RFC 8999 6: no version at all, or a truncated one, is to be ignored. */
static int parse_vn(struct rd *r, struct packet *out)
{
	size_t n = rd_left(r);
	if (n == 0 || n % 4)
		return drop_rest(r);
	out->versions = rd_bytes(r, n);
	out->versions_len = n;
	out->len = (size_t)(r->p - out->start);
	return 0;
}

static int parse_long(struct rd *r, struct packet *out)
{
	rd_bytes(r, 1);
	out->version = (uint32_t)rd_uint(r, 4);
	struct long_cid dcid = rd_long_cid(r), scid = rd_long_cid(r);
	if (r->failed)
		return drop_rest(r);
	cid_set(&out->dcid, dcid);
	cid_set(&out->scid, scid);
	if (out->version != 0 && out->version != QUIC_V1) {
		out->type = PACKET_UNKNOWN_VERSION;
		out->len = (size_t)(r->end - out->start);
		r->p = r->end;
		return 0;
	}
	if (dcid.len > CID_MAX || scid.len > CID_MAX)
		return drop_rest(r);
	if (out->version == 0) {
		out->type = PACKET_VN;
		return parse_vn(r, out);
	}
	/* the first four of enum packet_type stand in the order of RFC 9000 table 5 */
	out->type = (enum packet_type)(out->first >> 4 & 3);
	return out->type == PACKET_RETRY ? parse_retry(r, out) : parse_numbered(r, out);
}

int packet_parse(struct rd *r, size_t short_cid_len, struct packet *out)
{
	assert(short_cid_len <= CID_MAX);
	if (r->failed || rd_left(r) == 0)
		return drop_rest(r);
	*out = (struct packet){ .start = r->p, .first = *r->p };
	if (packet_is_long(out->first)) {
		int e = parse_long(r, out);
		r->failed = false;	/* the datagram's cursor outlives one bad packet */
		return e;
	}
	out->type = PACKET_1RTT;
	out->len = rd_left(r);
	out->pn_off = 1 + short_cid_len;
	r->p = r->end;
	if (out->len < out->pn_off + PN_SAMPLE_ROOM)
		return QE_DROP;
	out->dcid.len = (uint8_t)short_cid_len;
	memcpy(out->dcid.b, out->start + 1, short_cid_len);
	return 0;
}

bool packet_peek_dcid(const uint8_t *p, size_t len, size_t short_cid_len, struct cid *out)
{
	assert(short_cid_len <= CID_MAX);
	struct rd r = rd_of(p, len);
	uint8_t first = (uint8_t)rd_uint(&r, 1);
	if (packet_is_long(first)) {
		rd_bytes(&r, 4);
		short_cid_len = (size_t)rd_uint(&r, 1);
		if (short_cid_len > CID_MAX)
			return false;
	}
	out->len = (uint8_t)short_cid_len;
	return rd_copy(&r, out->b, short_cid_len);
}

/* A.2 would let a range of exactly half the window pass; 17.1 asks for more than
 * twice the range, so the half itself goes one size up. */
size_t pn_encoded_len(uint64_t pn, uint64_t largest_acked)
{
	assert(largest_acked == PN_NONE || pn > largest_acked);
	uint64_t unacked = largest_acked == PN_NONE ? pn + 1 : pn - largest_acked;
	return unacked < 0x80 ? 1 : unacked < 0x8000 ? 2 : unacked < 0x800000 ? 3 : 4;
}

uint64_t pn_decode(uint64_t truncated, size_t len, uint64_t largest_received)
{
	uint64_t expected = largest_received + 1;	/* PN_NONE wraps to 0 */
	uint64_t win = UINT64_C(1) << 8 * len;
	uint64_t half = win / 2;
	uint64_t pn = (expected & ~(win - 1)) | truncated;
	if (pn + half <= expected && pn + win <= VARINT_MAX)
		return pn + win;
	if (pn >= win && (pn > expected + half || pn > VARINT_MAX))
		return pn - win;
	return pn;
}

static void wr_cid(struct wr *w, const struct cid *cid)
{
	wr_uint(w, cid->len, 1);
	wr_bytes(w, cid->b, cid->len);
}

bool packet_write_long(struct wr *w, enum packet_type type, uint32_t version, const struct cid *dcid,
		       const struct cid *scid, const uint8_t *token, size_t token_len, uint64_t pn, size_t pn_len,
		       size_t *length_off)
{
	assert(type == PACKET_INITIAL || type == PACKET_0RTT || type == PACKET_HANDSHAKE);
	assert(pn_len >= 1 && pn_len <= 4 && (type == PACKET_INITIAL || token_len == 0));
	struct wr t = *w;
	wr_uint(&t, LONG_FORM | FIXED_BIT | (unsigned)type << 4 | (pn_len - 1), 1);
	wr_uint(&t, version, 4);
	wr_cid(&t, dcid);
	wr_cid(&t, scid);
	if (type == PACKET_INITIAL) {
		wr_varint(&t, token_len);
		wr_bytes(&t, token, token_len);
	}
	size_t off = wr_len(&t);
	wr_uint(&t, 0, 2);
	wr_uint(&t, pn, pn_len);
	if (!wr_commit(w, &t))
		return false;
	*length_off = off;
	return true;
}

void packet_patch_length(uint8_t *start, size_t length_off, size_t length)
{
	assert(length < 16384);
	struct wr w = wr_of(start + length_off, 2);
	wr_varint_n(&w, length, 2);
}

bool packet_write_short(struct wr *w, const struct cid *dcid, bool spin, bool key_phase, uint64_t pn, size_t pn_len)
{
	assert(pn_len >= 1 && pn_len <= 4);
	struct wr t = *w;
	wr_uint(&t, FIXED_BIT | (unsigned)spin << 5 | (unsigned)key_phase << 2 | (pn_len - 1), 1);
	wr_bytes(&t, dcid->b, dcid->len);
	wr_uint(&t, pn, pn_len);
	return wr_commit(w, &t);
}

bool packet_write_retry(struct wr *w, uint32_t version, const struct cid *dcid, const struct cid *scid,
			const uint8_t *token, size_t token_len, uint8_t unused4)
{
	struct wr t = *w;
	wr_uint(&t, LONG_FORM | FIXED_BIT | PACKET_RETRY << 4 | (unused4 & 0x0f), 1);
	wr_uint(&t, version, 4);
	wr_cid(&t, dcid);
	wr_cid(&t, scid);
	wr_bytes(&t, token, token_len);
	return wr_commit(w, &t);
}

/* The fixed bit is set so that the packet looks like QUIC to a demultiplexer. RFC 9000 17.2.1 */
bool packet_write_vn(struct wr *w, uint8_t first_random, const struct packet *trigger, const uint32_t *versions,
		     size_t n)
{
	struct rd r = rd_of(trigger->start, trigger->len);
	rd_bytes(&r, 1 + 4);
	struct long_cid dcid = rd_long_cid(&r), scid = rd_long_cid(&r);
	assert(!r.failed);	/* packet_parse read them before */

	struct wr t = *w;
	wr_uint(&t, LONG_FORM | FIXED_BIT | first_random, 1);
	wr_uint(&t, 0, 4);
	wr_uint(&t, scid.len, 1);
	wr_bytes(&t, scid.p, scid.len);
	wr_uint(&t, dcid.len, 1);
	wr_bytes(&t, dcid.p, dcid.len);
	for (size_t i = 0; i < n; i++)
		wr_uint(&t, versions[i], 4);
	return wr_commit(w, &t);
}
