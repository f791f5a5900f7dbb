/* Frame codecs: one frame in, one struct out, and back. Bounds, encodings and
 * value ranges of RFC 9000 19 are checked here; what a frame means for stream or
 * connection state is not known here. */
#ifndef WIRE_FRAME_H
#define WIRE_FRAME_H

#include "base/rangeset.h"
#include "wire/packet.h"
#include "wire/varint.h"

enum { FR_I = 1, FR_H = 2, FR_0 = 4, FR_1 = 8 };

enum retx {
	RETX_NONE,	/* never repeated (ACK and the like are made anew) */
	RETX_CRYPTO, RETX_STREAM,	/* byte ranges, from their send buffer */
	/* the rest repeat the current state, if it still matters (RFC 9000 13.3) */
	RETX_RESET_STREAM, RETX_STOP_SENDING, RETX_NEW_TOKEN, RETX_MAX_DATA, RETX_MAX_STREAM_DATA,
	RETX_MAX_STREAMS, RETX_DATA_BLOCKED, RETX_STREAM_DATA_BLOCKED, RETX_STREAMS_BLOCKED,
	RETX_NEW_CONNECTION_ID, RETX_RETIRE_CONNECTION_ID, RETX_HANDSHAKE_DONE,
};

enum frame_kind {
#define FRAME(name, lo, hi, where, eliciting, cls) FRAME_##name,
#include "wire/frames.def"
#undef FRAME
	FRAME_KIND_COUNT
};

/* First type of each kind, as on the wire; the low bits of some carry flags. */
enum {
#define FRAME(name, lo, hi, where, eliciting, cls) FRAME_TYPE_##name = lo,
#include "wire/frames.def"
#undef FRAME
};
enum { STREAM_FIN = 0x01, STREAM_LEN = 0x02, STREAM_OFF = 0x04 };	/* RFC 9000 19.8 */

struct frame_info {
	const char *name;	/* as the RFC writes it; APPLICATION_CLOSE for type 0x1d */
	uint8_t lo, hi;		/* type range */
	uint8_t where;		/* FR_* bits */
	bool eliciting;
	enum retx retx;
};
extern const struct frame_info frame_table[FRAME_KIND_COUNT];

/* ACK as it arrived: ranges stay encoded and are walked with ack_iter. */
struct frame_ack {
	uint64_t largest;
	uint64_t delay;		/* raw field: microseconds >> ack_delay_exponent */
	uint64_t first_range;
	uint64_t range_count;	/* further ranges */
	const uint8_t *ranges;	/* borrowed */
	size_t ranges_len;
	bool has_ecn;
	uint64_t ect0, ect1, ce;
};

struct frame {
	enum frame_kind kind;
	uint64_t type;		/* as on the wire */
	union {
		size_t padding;			/* PADDING: run length, bytes */
		struct frame_ack ack;
		struct { uint64_t id, code, final_size; } reset_stream;
		struct { uint64_t id, code; } stop_sending;
		struct { uint64_t off; const uint8_t *data; size_t len; } crypto;
		struct { const uint8_t *data; size_t len; } new_token;
		struct { uint64_t id, off; const uint8_t *data; size_t len; bool fin; } stream;
		struct { uint64_t max; } max_data;
		struct { uint64_t id, max; } max_stream_data;
		struct { bool uni; uint64_t max; } max_streams;		/* <= 2^60 */
		struct { uint64_t limit; } data_blocked;
		struct { uint64_t id, limit; } stream_data_blocked;
		struct { bool uni; uint64_t limit; } streams_blocked;	/* <= 2^60 */
		struct { uint64_t seq, retire_prior_to; struct cid cid; uint8_t token[RESET_TOKEN_LEN]; } new_cid;
		struct { uint64_t seq; } retire_cid;
		uint8_t path_data[8];		/* PATH_CHALLENGE, PATH_RESPONSE */
		struct { uint64_t code, frame_type; const uint8_t *reason; size_t reason_len; } close; /* both kinds */
	};
};

/* Decode the frame at r and move r past it. level: the packet's. Data pointers
 * borrow from r's buffer. A run of PADDING is one frame.
 * 0; QE_FRAME_ENCODING (unknown or truncated type, a value out of its range,
 * offset + length over 2^62-1); QE_PROTOCOL_VIOLATION for a type not in its
 * shortest form and for a frame not allowed at this level. r stays on error.
 * f->type is the type if one could be read, else 0; f->kind is set for a known
 * type only; the rest is valid on success. RFC 9000 12.4, 19 */
int frame_decode(struct rd *r, enum level level, struct frame *f);

/* Walk acknowledged ranges from the largest downward, as half-open [lo, hi).
 * frame_decode has validated the ranges, so the walk cannot fail. */
struct ack_iter {
	struct rd r;
	uint64_t next_lo;
	uint64_t left;
	bool first;
	const struct frame_ack *ack;
};
void ack_iter_init(struct ack_iter *it, const struct frame_ack *ack);
bool ack_iter_next(struct ack_iter *it, struct range *out);

/* Encoders. Each writes one whole frame or nothing: false when it does not fit
 * (w is then unchanged and not failed). Numbers are <= VARINT_MAX. */
bool frame_write_padding(struct wr *w, size_t n);
bool frame_write_ping(struct wr *w);
/* The highest ranges of received that fit, at least one, at most max_ranges.
 * received is not empty. delay: raw field. ecn: {ect0, ect1, ce} or NULL. */
bool frame_write_ack(struct wr *w, const struct rangeset *received, uint64_t delay, const uint64_t *ecn,
		     uint32_t max_ranges);
bool frame_write_reset_stream(struct wr *w, uint64_t id, uint64_t code, uint64_t final_size);
bool frame_write_stop_sending(struct wr *w, uint64_t id, uint64_t code);
/* Header only, for data the caller copies in after it: returns the room for
 * data (<= len, len > 0) with the header written to carry exactly that much, or
 * 0 when not even one byte fits (w unchanged). */
size_t frame_write_crypto_header(struct wr *w, uint64_t off, size_t len);
/* As above; len may be 0, for a FIN or to open a stream. Always carries a Length
 * field, so frames may follow. fin is written only if all len bytes fit;
 * *fin_written says whether. Returns data bytes, or -1 when it does not fit
 * (*fin_written is then untouched). RFC 9000 19.8 */
ptrdiff_t frame_write_stream_header(struct wr *w, uint64_t id, uint64_t off, size_t len, bool fin, bool *fin_written);
bool frame_write_new_token(struct wr *w, const uint8_t *token, size_t len);
bool frame_write_max_data(struct wr *w, uint64_t max);
bool frame_write_max_stream_data(struct wr *w, uint64_t id, uint64_t max);
bool frame_write_max_streams(struct wr *w, bool uni, uint64_t max);
bool frame_write_data_blocked(struct wr *w, uint64_t limit);
bool frame_write_stream_data_blocked(struct wr *w, uint64_t id, uint64_t limit);
bool frame_write_streams_blocked(struct wr *w, bool uni, uint64_t limit);
bool frame_write_new_connection_id(struct wr *w, uint64_t seq, uint64_t retire_prior_to, const struct cid *cid,
				   const uint8_t token[RESET_TOKEN_LEN]);
bool frame_write_retire_connection_id(struct wr *w, uint64_t seq);
bool frame_write_path_challenge(struct wr *w, const uint8_t data[8]);
bool frame_write_path_response(struct wr *w, const uint8_t data[8]);
/* reason is cut to what fits, between characters of UTF-8. frame_type is ignored
 * for application closes. RFC 9000 19.19 */
bool frame_write_close(struct wr *w, bool application, uint64_t code, uint64_t frame_type, const char *reason,
		       size_t reason_len);
bool frame_write_handshake_done(struct wr *w);

#endif
