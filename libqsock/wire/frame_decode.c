/* Frames from the wire: one type byte selects a reader, and every reader checks
 * what RFC 9000 19 says of its own fields, no more. Whether a stream exists, a
 * packet was sent or the sender may use a frame by its role is decided elsewhere.
 * Hot path: works on a copy of the cursor, allocates and clears nothing. */
#include "base/err.h"
#include "wire/frame.h"

#define STREAMS_MAX (UINT64_C(1) << 60)	/* stream IDs must fit 62 bits. RFC 9000 4.6 */

const struct frame_info frame_table[FRAME_KIND_COUNT] = {
#define FRAME(name, lo, hi, where, eliciting, cls) [FRAME_##name] = { #name, lo, hi, where, eliciting, cls },
#include "wire/frames.def"
#undef FRAME
};

/* Kind + 1 of each type that one byte can encode; 0: unknown. */
static const uint8_t kind_of_type[64] = {
#define FRAME(name, lo, hi, where, eliciting, cls) [lo ... hi] = FRAME_##name + 1,
#include "wire/frames.def"
#undef FRAME
};

static const uint8_t where_of_level[LEVEL_COUNT] = {
	[LEVEL_INITIAL] = FR_I, [LEVEL_EARLY] = FR_0, [LEVEL_HANDSHAKE] = FR_H, [LEVEL_APP] = FR_1,
};

/* Zero bytes from p on; p has passed the first. */
static const uint8_t *skip_zeros(const uint8_t *p, const uint8_t *end)
{
	uint64_t word;
	while (end - p >= 8 && (memcpy(&word, p, 8), word == 0))
		p += 8;
	while (p < end && *p == 0)
		p++;
	return p;
}

/* A Length field and that many bytes. */
static const uint8_t *rd_counted(struct rd *r, size_t *len)
{
	uint64_t n = rd_varint(r);
	if (n > rd_left(r)) {
		r->failed = true;
		n = 0;
	}
	*len = (size_t)n;
	return rd_bytes(r, (size_t)n);
}

/* RFC 9000 19.6, 19.8: the end may not pass 2^62-1. */
static bool end_in_range(uint64_t off, size_t len)
{
	return len <= VARINT_MAX - off;
}

/* Walk all ranges once, so that nobody after has to doubt them: no computed
 * packet number may be negative. The walk is bounded by the packet, each range
 * taking two bytes at least. RFC 9000 19.3.1 */
static bool read_ack_ranges(struct rd *r, const struct frame_ack *a)
{
	if (a->first_range > a->largest)
		return false;
	uint64_t smallest = a->largest - a->first_range;
	for (uint64_t i = 0; i < a->range_count; i++) {
		uint64_t gap = rd_varint(r), len = rd_varint(r);
		if (r->failed || smallest < gap + 2 || smallest - gap - 2 < len)
			return false;
		smallest -= gap + 2 + len;
	}
	return true;
}

static bool read_ack(struct rd *r, struct frame *f)
{
	struct frame_ack *a = &f->ack;
	a->largest = rd_varint(r);
	a->delay = rd_varint(r);
	a->range_count = rd_varint(r);
	a->first_range = rd_varint(r);
	if (r->failed)
		return false;
	a->ranges = r->p;
	if (!read_ack_ranges(r, a))
		return false;
	a->ranges_len = (size_t)(r->p - a->ranges);
	a->has_ecn = f->type & 1;
	a->ect0 = a->ect1 = a->ce = 0;
	if (a->has_ecn) {
		a->ect0 = rd_varint(r);
		a->ect1 = rd_varint(r);
		a->ce = rd_varint(r);
	}
	return true;
}

static bool read_stream(struct rd *r, struct frame *f)
{
	f->stream.id = rd_varint(r);
	f->stream.off = f->type & STREAM_OFF ? rd_varint(r) : 0;
	f->stream.fin = f->type & STREAM_FIN;
	if (f->type & STREAM_LEN) {
		f->stream.data = rd_counted(r, &f->stream.len);
	} else {
		f->stream.len = rd_left(r);
		f->stream.data = rd_bytes(r, f->stream.len);
	}
	return end_in_range(f->stream.off, f->stream.len);
}

static bool read_crypto(struct rd *r, struct frame *f)
{
	f->crypto.off = rd_varint(r);
	f->crypto.data = rd_counted(r, &f->crypto.len);
	return end_in_range(f->crypto.off, f->crypto.len);
}

/* RFC 9000 19.15 */
static bool read_new_cid(struct rd *r, struct frame *f)
{
	f->new_cid.seq = rd_varint(r);
	f->new_cid.retire_prior_to = rd_varint(r);
	uint8_t len = (uint8_t)rd_uint(r, 1);
	if (len < 1 || len > CID_MAX || f->new_cid.retire_prior_to > f->new_cid.seq)
		return false;
	f->new_cid.cid.len = len;
	rd_copy(r, f->new_cid.cid.b, len);
	return rd_copy(r, f->new_cid.token, RESET_TOKEN_LEN);
}

/* RFC 9000 19.19: only the transport's kind names a frame type. */
static bool read_close(struct rd *r, struct frame *f)
{
	f->close.code = rd_varint(r);
	f->close.frame_type = f->kind == FRAME_CONNECTION_CLOSE ? rd_varint(r) : 0;
	f->close.reason = rd_counted(r, &f->close.reason_len);
	return true;
}

/* The frames that are numbers only, and the small rest. */
static bool read_small(struct rd *r, struct frame *f)
{
	switch (f->kind) {
	case FRAME_RESET_STREAM:
		f->reset_stream.id = rd_varint(r);
		f->reset_stream.code = rd_varint(r);
		f->reset_stream.final_size = rd_varint(r);
		return true;
	case FRAME_STOP_SENDING:
		f->stop_sending.id = rd_varint(r);
		f->stop_sending.code = rd_varint(r);
		return true;
	case FRAME_MAX_DATA:
		f->max_data.max = rd_varint(r);
		return true;
	case FRAME_MAX_STREAM_DATA:
		f->max_stream_data.id = rd_varint(r);
		f->max_stream_data.max = rd_varint(r);
		return true;
	case FRAME_MAX_STREAMS:
		f->max_streams.uni = f->type & 1;
		f->max_streams.max = rd_varint(r);
		return f->max_streams.max <= STREAMS_MAX;
	case FRAME_DATA_BLOCKED:
		f->data_blocked.limit = rd_varint(r);
		return true;
	case FRAME_STREAM_DATA_BLOCKED:
		f->stream_data_blocked.id = rd_varint(r);
		f->stream_data_blocked.limit = rd_varint(r);
		return true;
	case FRAME_STREAMS_BLOCKED:
		f->streams_blocked.uni = f->type & 1;
		f->streams_blocked.limit = rd_varint(r);
		return f->streams_blocked.limit <= STREAMS_MAX;
	case FRAME_RETIRE_CONNECTION_ID:
		f->retire_cid.seq = rd_varint(r);
		return true;
	case FRAME_PATH_CHALLENGE:
	case FRAME_PATH_RESPONSE:
		return rd_copy(r, f->path_data, sizeof(f->path_data));
	default:	/* PING, HANDSHAKE_DONE: a type and nothing else */
		return true;
	}
}

static bool read_fields(struct rd *r, struct frame *f)
{
	switch (f->kind) {
	case FRAME_STREAM:
		return read_stream(r, f);
	case FRAME_ACK:
		return read_ack(r, f);
	case FRAME_PADDING: {
		const uint8_t *end = skip_zeros(r->p, r->end);
		f->padding = (size_t)(end - r->p) + 1;
		r->p = end;
		return true;
	}
	case FRAME_CRYPTO:
		return read_crypto(r, f);
	case FRAME_NEW_TOKEN:
		f->new_token.data = rd_counted(r, &f->new_token.len);
		return f->new_token.len > 0;	/* RFC 9000 19.7 */
	case FRAME_NEW_CONNECTION_ID:
		return read_new_cid(r, f);
	case FRAME_CONNECTION_CLOSE:
	case FRAME_APPLICATION_CLOSE:
		return read_close(r, f);
	default:
		return read_small(r, f);
	}
}

/* No known type takes more than one byte: either the encoding is too long, or
 * the type is unknown. RFC 9000 12.4 */
static int refuse_long_type(struct rd c, struct frame *f)
{
	const uint8_t *start = c.p;
	uint64_t type = rd_varint(&c);
	if (c.failed)
		return QE_FRAME_ENCODING;
	f->type = type;
	return varint_len(type) < (size_t)(c.p - start) ? QE_PROTOCOL_VIOLATION : QE_FRAME_ENCODING;
}

int frame_decode(struct rd *r, enum level level, struct frame *f)
{
	struct rd c = *r;
	f->type = 0;
	if (c.failed || c.p == c.end)
		return QE_FRAME_ENCODING;
	uint8_t type = *c.p;
	if (type >= sizeof(kind_of_type))
		return refuse_long_type(c, f);
	c.p++;
	f->type = type;
	if (!kind_of_type[type])
		return QE_FRAME_ENCODING;
	f->kind = (enum frame_kind)(kind_of_type[type] - 1);
	if (!(frame_table[f->kind].where & where_of_level[level]))
		return QE_PROTOCOL_VIOLATION;
	if (!read_fields(&c, f) || c.failed)
		return QE_FRAME_ENCODING;
	*r = c;
	return 0;
}

void ack_iter_init(struct ack_iter *it, const struct frame_ack *ack)
{
	*it = (struct ack_iter){
		.r = rd_of(ack->ranges, ack->ranges_len),
		.left = ack->range_count,
		.first = true,
		.ack = ack,
	};
}

bool ack_iter_next(struct ack_iter *it, struct range *out)
{
	if (it->first) {
		it->first = false;
		*out = (struct range){ it->ack->largest - it->ack->first_range, it->ack->largest + 1 };
		it->next_lo = out->lo;
		return true;
	}
	if (it->left == 0)
		return false;
	it->left--;
	uint64_t gap = rd_varint(&it->r), len = rd_varint(&it->r);
	out->hi = it->next_lo - gap - 1;
	out->lo = out->hi - 1 - len;
	it->next_lo = out->lo;
	return true;
}
