/* Frames to the wire. Each writer fills a copy of the cursor and hands it back
 * only when the whole frame went in, so a caller may try frame after frame until
 * the packet is full. Decides sizes; what to send is decided elsewhere. */
#include <assert.h>

#include "wire/frame.h"

/* A frame that is a type and n numbers. */
static bool write_numbers(struct wr *w, uint8_t type, const uint64_t *v, size_t n)
{
	struct wr t = *w;
	wr_uint(&t, type, 1);
	for (size_t i = 0; i < n; i++) {
		assert(v[i] <= VARINT_MAX);
		wr_varint(&t, v[i]);
	}
	return wr_commit(w, &t);
}

bool frame_write_padding(struct wr *w, size_t n)
{
	struct wr t = *w;
	uint8_t *p = wr_claim(&t, n);
	if (p && n)
		memset(p, 0, n);
	return wr_commit(w, &t);
}

bool frame_write_ping(struct wr *w)
{
	return write_numbers(w, FRAME_TYPE_PING, NULL, 0);
}

bool frame_write_handshake_done(struct wr *w)
{
	return write_numbers(w, FRAME_TYPE_HANDSHAKE_DONE, NULL, 0);
}

bool frame_write_reset_stream(struct wr *w, uint64_t id, uint64_t code, uint64_t final_size)
{
	return write_numbers(w, FRAME_TYPE_RESET_STREAM, (const uint64_t[]){ id, code, final_size }, 3);
}

bool frame_write_stop_sending(struct wr *w, uint64_t id, uint64_t code)
{
	return write_numbers(w, FRAME_TYPE_STOP_SENDING, (const uint64_t[]){ id, code }, 2);
}

bool frame_write_max_data(struct wr *w, uint64_t max)
{
	return write_numbers(w, FRAME_TYPE_MAX_DATA, &max, 1);
}

bool frame_write_max_stream_data(struct wr *w, uint64_t id, uint64_t max)
{
	return write_numbers(w, FRAME_TYPE_MAX_STREAM_DATA, (const uint64_t[]){ id, max }, 2);
}

bool frame_write_max_streams(struct wr *w, bool uni, uint64_t max)
{
	return write_numbers(w, FRAME_TYPE_MAX_STREAMS | uni, &max, 1);
}

bool frame_write_data_blocked(struct wr *w, uint64_t limit)
{
	return write_numbers(w, FRAME_TYPE_DATA_BLOCKED, &limit, 1);
}

bool frame_write_stream_data_blocked(struct wr *w, uint64_t id, uint64_t limit)
{
	return write_numbers(w, FRAME_TYPE_STREAM_DATA_BLOCKED, (const uint64_t[]){ id, limit }, 2);
}

bool frame_write_streams_blocked(struct wr *w, bool uni, uint64_t limit)
{
	return write_numbers(w, FRAME_TYPE_STREAMS_BLOCKED | uni, &limit, 1);
}

bool frame_write_retire_connection_id(struct wr *w, uint64_t seq)
{
	return write_numbers(w, FRAME_TYPE_RETIRE_CONNECTION_ID, &seq, 1);
}

static bool write_path(struct wr *w, uint8_t type, const uint8_t data[8])
{
	struct wr t = *w;
	wr_uint(&t, type, 1);
	wr_bytes(&t, data, 8);
	return wr_commit(w, &t);
}

bool frame_write_path_challenge(struct wr *w, const uint8_t data[8])
{
	return write_path(w, FRAME_TYPE_PATH_CHALLENGE, data);
}

bool frame_write_path_response(struct wr *w, const uint8_t data[8])
{
	return write_path(w, FRAME_TYPE_PATH_RESPONSE, data);
}

bool frame_write_new_token(struct wr *w, const uint8_t *token, size_t len)
{
	assert(len > 0);
	struct wr t = *w;
	wr_uint(&t, FRAME_TYPE_NEW_TOKEN, 1);
	wr_varint(&t, len);
	wr_bytes(&t, token, len);
	return wr_commit(w, &t);
}

bool frame_write_new_connection_id(struct wr *w, uint64_t seq, uint64_t retire_prior_to, const struct cid *cid,
				   const uint8_t token[RESET_TOKEN_LEN])
{
	assert(seq <= VARINT_MAX && retire_prior_to <= seq && cid->len >= 1);
	struct wr t = *w;
	wr_uint(&t, FRAME_TYPE_NEW_CONNECTION_ID, 1);
	wr_varint(&t, seq);
	wr_varint(&t, retire_prior_to);
	wr_uint(&t, cid->len, 1);
	wr_bytes(&t, cid->b, cid->len);
	wr_bytes(&t, token, RESET_TOKEN_LEN);
	return wr_commit(w, &t);
}

/* The count field stands before the ranges but is known after them: it gets the
 * width of the most it could be, which any reader accepts (RFC 9000 16). */
bool frame_write_ack(struct wr *w, const struct rangeset *received, uint64_t delay, const uint64_t *ecn,
		     uint32_t max_ranges)
{
	assert(!rangeset_empty(received) && delay <= VARINT_MAX && max_ranges >= 1);
	const struct range *v = &received->v[received->n - 1];
	uint32_t most = received->n < max_ranges ? received->n : max_ranges;
	size_t count_width = varint_len(most - 1);
	size_t ecn_len = ecn ? varint_len(ecn[0]) + varint_len(ecn[1]) + varint_len(ecn[2]) : 0;

	struct wr t = *w;
	wr_uint(&t, FRAME_TYPE_ACK | (ecn != NULL), 1);
	wr_varint(&t, v->hi - 1);
	wr_varint(&t, delay);
	uint8_t *count = wr_claim(&t, count_width);
	wr_varint(&t, v->hi - 1 - v->lo);
	if (t.failed || wr_left(&t) < ecn_len)
		return false;

	uint32_t n = 1;
	for (; n < most; n++, v--) {
		uint64_t gap = v->lo - v[-1].hi - 1, len = v[-1].hi - 1 - v[-1].lo;
		if (wr_left(&t) < ecn_len + varint_len(gap) + varint_len(len))
			break;
		wr_varint(&t, gap);
		wr_varint(&t, len);
	}
	struct wr at_count = wr_of(count, count_width);
	wr_varint_n(&at_count, n - 1, count_width);
	for (size_t i = 0; ecn && i < 3; i++)
		wr_varint(&t, ecn[i]);
	return wr_commit(w, &t);
}

/* Most data bytes, up to want, that go into room together with their own Length field. */
static size_t data_that_fits(size_t room, size_t want)
{
	static const struct { size_t width, below; } step[] = {
		{ 1, 64 }, { 2, 16384 }, { 4, (size_t)1 << 30 },
	};
	size_t best = 0;
	for (size_t i = 0; i < 3 && room > step[i].width; i++) {
		size_t n = room - step[i].width;
		if (n >= step[i].below)
			n = step[i].below - 1;
		if (n > best)
			best = n;
	}
	return best < want ? best : want;
}

size_t frame_write_crypto_header(struct wr *w, uint64_t off, size_t len)
{
	assert(len > 0 && off <= VARINT_MAX - len);
	struct wr t = *w;
	wr_uint(&t, FRAME_TYPE_CRYPTO, 1);
	wr_varint(&t, off);
	size_t n = t.failed ? 0 : data_that_fits(wr_left(&t), len);
	if (n == 0)
		return 0;
	wr_varint(&t, n);
	return wr_commit(w, &t) ? n : 0;
}

ptrdiff_t frame_write_stream_header(struct wr *w, uint64_t id, uint64_t off, size_t len, bool fin, bool *fin_written)
{
	assert(id <= VARINT_MAX && len <= VARINT_MAX && off <= VARINT_MAX - len);
	struct wr t = *w;
	uint8_t *type = wr_claim(&t, 1);
	wr_varint(&t, id);
	if (off)
		wr_varint(&t, off);
	if (t.failed || wr_left(&t) == 0)
		return -1;
	size_t n = data_that_fits(wr_left(&t), len);
	if (n == 0 && len > 0)
		return -1;
	wr_varint(&t, n);
	*fin_written = fin && n == len;
	*type = (uint8_t)(FRAME_TYPE_STREAM | STREAM_LEN | (off ? STREAM_OFF : 0) | (*fin_written ? STREAM_FIN : 0));
	return wr_commit(w, &t) ? (ptrdiff_t)n : -1;
}

/* A cut through a UTF-8 character would spoil the whole phrase for its reader. */
static size_t cut_utf8(const char *s, size_t len, size_t most)
{
	if (len <= most)
		return len;
	while (most > 0 && ((uint8_t)s[most] & 0xc0) == 0x80)
		most--;
	return most;
}

bool frame_write_close(struct wr *w, bool application, uint64_t code, uint64_t frame_type, const char *reason,
		       size_t reason_len)
{
	assert(code <= VARINT_MAX && frame_type <= VARINT_MAX);
	struct wr t = *w;
	wr_uint(&t, application ? FRAME_TYPE_APPLICATION_CLOSE : FRAME_TYPE_CONNECTION_CLOSE, 1);
	wr_varint(&t, code);
	if (!application)
		wr_varint(&t, frame_type);
	if (t.failed)
		return false;
	reason_len = cut_utf8(reason, reason_len, data_that_fits(wr_left(&t), reason_len));
	wr_varint(&t, reason_len);
	wr_bytes(&t, reason, reason_len);
	return wr_commit(w, &t);
}
