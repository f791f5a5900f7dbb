/* Transport parameters between the TLS extension's bytes and a struct. Decides
 * whether each value is one its definition allows (RFC 9000 18.2); comparing the
 * connection IDs with the handshake's, and what the limits do, is done elsewhere. */
#include "wire/tparams.h"

#include "base/err.h"
#include "wire/varint.h"

enum {
	TP_ORIGINAL_DCID = 0x00, TP_MAX_IDLE_TIMEOUT = 0x01, TP_RESET_TOKEN = 0x02, TP_MAX_UDP_PAYLOAD = 0x03,
	TP_MAX_DATA = 0x04, TP_MAX_STREAM_DATA_BIDI_LOCAL = 0x05, TP_MAX_STREAM_DATA_BIDI_REMOTE = 0x06,
	TP_MAX_STREAM_DATA_UNI = 0x07, TP_MAX_STREAMS_BIDI = 0x08, TP_MAX_STREAMS_UNI = 0x09,
	TP_ACK_DELAY_EXPONENT = 0x0a, TP_MAX_ACK_DELAY = 0x0b, TP_DISABLE_ACTIVE_MIGRATION = 0x0c,
	TP_PREFERRED_ADDRESS = 0x0d, TP_ACTIVE_CID_LIMIT = 0x0e, TP_INITIAL_SCID = 0x0f, TP_RETRY_SCID = 0x10,
	TP_GREASE_QUIC_BIT = 0x2ab2,
};

/* The parameters that are one integer. RFC 9000 18.2 */
static const struct number {
	size_t at;			/* offset in struct tparams */
	uint64_t id, dflt, min, max;	/* outside [min, max]: the peer's violation */
} numbers[] = {
#define NUMBER(id, field, dflt, min, max) { offsetof(struct tparams, field), id, dflt, min, max }
	NUMBER(TP_MAX_IDLE_TIMEOUT, max_idle_timeout_ms, 0, 0, VARINT_MAX),
	NUMBER(TP_MAX_UDP_PAYLOAD, max_udp_payload, 65527, 1200, VARINT_MAX),
	NUMBER(TP_MAX_DATA, max_data, 0, 0, VARINT_MAX),
	NUMBER(TP_MAX_STREAM_DATA_BIDI_LOCAL, max_stream_data_bidi_local, 0, 0, VARINT_MAX),
	NUMBER(TP_MAX_STREAM_DATA_BIDI_REMOTE, max_stream_data_bidi_remote, 0, 0, VARINT_MAX),
	NUMBER(TP_MAX_STREAM_DATA_UNI, max_stream_data_uni, 0, 0, VARINT_MAX),
	NUMBER(TP_MAX_STREAMS_BIDI, max_streams_bidi, 0, 0, UINT64_C(1) << 60),
	NUMBER(TP_MAX_STREAMS_UNI, max_streams_uni, 0, 0, UINT64_C(1) << 60),
	NUMBER(TP_ACK_DELAY_EXPONENT, ack_delay_exponent, 3, 0, 20),
	NUMBER(TP_MAX_ACK_DELAY, max_ack_delay_ms, 25, 0, (1 << 14) - 1),
	NUMBER(TP_ACTIVE_CID_LIMIT, active_cid_limit, 2, 2, VARINT_MAX),
#undef NUMBER
};
#define NUMBERS (sizeof(numbers) / sizeof(numbers[0]))

static uint64_t number_get(const struct tparams *tp, const struct number *n)
{
	uint64_t v;
	memcpy(&v, (const char *)tp + n->at, sizeof(v));
	return v;
}

static void number_set(struct tparams *tp, const struct number *n, uint64_t v)
{
	memcpy((char *)tp + n->at, &v, sizeof(v));
}

void tparams_init(struct tparams *tp)
{
	*tp = (struct tparams){ 0 };
	for (size_t i = 0; i < NUMBERS; i++)
		number_set(tp, &numbers[i], numbers[i].dflt);
}

static void write_bytes(struct wr *w, uint64_t id, const void *p, size_t len)
{
	wr_varint(w, id);
	wr_varint(w, len);
	wr_bytes(w, p, len);
}

static void write_preferred(struct wr *w, const struct tparams *tp)
{
	wr_varint(w, TP_PREFERRED_ADDRESS);
	wr_varint(w, 4 + 2 + 16 + 2 + 1 + tp->preferred.cid.len + RESET_TOKEN_LEN);
	wr_bytes(w, tp->preferred.ip4, 4);
	wr_uint(w, tp->preferred.port4, 2);
	wr_bytes(w, tp->preferred.ip6, 16);
	wr_uint(w, tp->preferred.port6, 2);
	wr_uint(w, tp->preferred.cid.len, 1);
	wr_bytes(w, tp->preferred.cid.b, tp->preferred.cid.len);
	wr_bytes(w, tp->preferred.token, RESET_TOKEN_LEN);
}

static void write_server_only(struct wr *w, const struct tparams *tp)
{
	if (tp->has_original_dcid)
		write_bytes(w, TP_ORIGINAL_DCID, tp->original_dcid.b, tp->original_dcid.len);
	if (tp->has_retry_scid)
		write_bytes(w, TP_RETRY_SCID, tp->retry_scid.b, tp->retry_scid.len);
	if (tp->has_reset_token)
		write_bytes(w, TP_RESET_TOKEN, tp->reset_token, RESET_TOKEN_LEN);
	if (tp->has_preferred)
		write_preferred(w, tp);
}

bool tparams_encode(struct wr *w, const struct tparams *tp, bool from_server, uint64_t grease)
{
	struct wr t = *w;
	for (size_t i = 0; i < NUMBERS; i++) {
		uint64_t v = number_get(tp, &numbers[i]);
		if (v == numbers[i].dflt)
			continue;
		wr_varint(&t, numbers[i].id);
		wr_varint(&t, varint_len(v));
		wr_varint(&t, v);
	}
	if (tp->disable_active_migration)
		write_bytes(&t, TP_DISABLE_ACTIVE_MIGRATION, NULL, 0);
	if (tp->grease_quic_bit)
		write_bytes(&t, TP_GREASE_QUIC_BIT, NULL, 0);
	if (tp->has_initial_scid)
		write_bytes(&t, TP_INITIAL_SCID, tp->initial_scid.b, tp->initial_scid.len);
	if (from_server)
		write_server_only(&t, tp);
	if (grease) {
		uint8_t value = (uint8_t)grease;
		write_bytes(&t, 31 * (grease % ((VARINT_MAX - 27) / 31)) + 27, &value, 1);
	}
	return wr_commit(w, &t);
}

static bool read_cid(struct rd *v, struct cid *cid, bool *has)
{
	if (rd_left(v) > CID_MAX)
		return false;
	*has = true;
	cid->len = (uint8_t)rd_left(v);
	return rd_copy(v, cid->b, cid->len);
}

/* RFC 9000 18.2, figure 22; a zero-length connection ID is not allowed there. */
static bool read_preferred(struct rd *v, struct tparams *tp)
{
	rd_copy(v, tp->preferred.ip4, 4);
	tp->preferred.port4 = (uint16_t)rd_uint(v, 2);
	rd_copy(v, tp->preferred.ip6, 16);
	tp->preferred.port6 = (uint16_t)rd_uint(v, 2);
	uint8_t len = (uint8_t)rd_uint(v, 1);
	if (len < 1 || len > CID_MAX)
		return false;
	tp->has_preferred = true;
	tp->preferred.cid.len = len;
	rd_copy(v, tp->preferred.cid.b, len);
	return rd_copy(v, tp->preferred.token, RESET_TOKEN_LEN);
}

static bool read_number(struct rd *v, uint64_t id, struct tparams *tp)
{
	for (size_t i = 0; i < NUMBERS; i++) {
		if (numbers[i].id != id)
			continue;
		uint64_t n = rd_varint(v);
		if (n < numbers[i].min || n > numbers[i].max)
			return false;
		number_set(tp, &numbers[i], n);
		return true;
	}
	v->p = v->end;	/* unknown: ignored whatever it holds. RFC 9000 7.4.2 */
	return true;
}

static bool server_only(uint64_t id)
{
	return id == TP_ORIGINAL_DCID || id == TP_RESET_TOKEN || id == TP_PREFERRED_ADDRESS || id == TP_RETRY_SCID;
}

/* v holds exactly the value. */
static bool read_value(struct rd *v, uint64_t id, struct tparams *tp)
{
	switch (id) {
	case TP_ORIGINAL_DCID:
		return read_cid(v, &tp->original_dcid, &tp->has_original_dcid);
	case TP_INITIAL_SCID:
		return read_cid(v, &tp->initial_scid, &tp->has_initial_scid);
	case TP_RETRY_SCID:
		return read_cid(v, &tp->retry_scid, &tp->has_retry_scid);
	case TP_RESET_TOKEN:
		tp->has_reset_token = true;
		return rd_copy(v, tp->reset_token, RESET_TOKEN_LEN);
	case TP_PREFERRED_ADDRESS:
		return read_preferred(v, tp);
	case TP_DISABLE_ACTIVE_MIGRATION:
		tp->disable_active_migration = true;
		return true;
	case TP_GREASE_QUIC_BIT:
		tp->grease_quic_bit = true;
		return true;
	default:
		return read_number(v, id, tp);
	}
}

/* Which ids were seen: a bit each for those below 64, a short list for the others. */
struct seen {
	uint64_t low;
	uint64_t other[TPARAMS_UNKNOWN_MAX];
	size_t n;
};

/* false when it was there before. RFC 9000 7.4 */
static bool first_time(struct seen *s, uint64_t id)
{
	if (id < 64) {
		bool first = !(s->low >> id & 1);
		s->low |= UINT64_C(1) << id;
		return first;
	}
	for (size_t i = 0; i < s->n; i++) {
		if (s->other[i] == id)
			return false;
	}
	if (s->n < TPARAMS_UNKNOWN_MAX)
		s->other[s->n++] = id;
	return true;
}

int tparams_decode(const uint8_t *p, size_t len, bool from_server, struct tparams *out)
{
	struct rd r = rd_of(p, len);
	struct seen seen = { 0 };
	tparams_init(out);
	while (rd_left(&r) > 0) {
		uint64_t id = rd_varint(&r), n = rd_varint(&r);
		if (r.failed || n > rd_left(&r))
			return QE_TRANSPORT_PARAMETER;
		struct rd v = rd_of(rd_bytes(&r, (size_t)n), (size_t)n);
		if (!first_time(&seen, id) || (!from_server && server_only(id)))
			return QE_TRANSPORT_PARAMETER;
		if (!read_value(&v, id, out) || v.failed || rd_left(&v) > 0)
			return QE_TRANSPORT_PARAMETER;
	}
	/* A server without connection IDs of its own cannot offer another address. RFC 9000 18.2 */
	if (out->has_preferred && out->has_initial_scid && out->initial_scid.len == 0)
		return QE_TRANSPORT_PARAMETER;
	if (out->max_udp_payload > 65527)
		out->max_udp_payload = 65527;
	return 0;
}
