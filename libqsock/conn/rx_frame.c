/* What each received frame does to the connection: one handler per row of
 * wire/frames.def. Streams, recovery and paths decide; here they are told.
 * RFC 9000 19 */
#include "conn/conn_int.h"

typedef int handler(struct conn *c, struct rx_packet *p, const struct frame *f);

/* ---- frames for nothing --------------------------------------------------- */

/* A packet may hold a thousand frames that cost work and bring nothing forward. Honest ones hold few, whatever the
 * reason, so the first of each packet are free, and what lies beyond is rationed; new data earns as much again, since
 * spurious retransmissions come in proportion to it. RFC 9000 21.9 */
static int noise(struct conn *c, struct rx_packet *p)
{
	return ++p->noise <= CONN_NOISE_FREE || bucket_take(&c->noise, p->now_us) ? 0 : QE_PROTOCOL_VIOLATION;
}

/* Kinds that are noise by their number alone. Of the others the handlers know. */
static bool is_scarce(enum frame_kind kind)
{
	return kind != FRAME_STREAM && kind != FRAME_PADDING && kind != FRAME_RESET_STREAM &&
	       kind != FRAME_STOP_SENDING && kind != FRAME_MAX_STREAM_DATA;
}

static bool is_repeated(const struct stream *s, const struct frame *f)
{
	const struct recvbuf *rb = &s->rb;
	uint64_t off = f->stream.off, end = off + f->stream.len;
	if (end > rb->highest || (f->stream.fin && rb->final_size == RECVBUF_NO_FINAL))
		return false;
	return rb->discarding || end <= rb->read_off ||
	       rangeset_covers(&rb->got, off > rb->read_off ? off : rb->read_off, end);
}

/* ---- one handler per kind -------------------------------------------------- */

static int nothing(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	return 0;
}

/* Until the peer's exponent is known its default counts. RFC 9000 18.2, 19.3 */
static uint64_t ack_delay_us(const struct conn *c, uint64_t field)
{
	uint64_t exponent = c->have_peer_params ? c->peer.ack_delay_exponent : CONN_ACK_EXPONENT_DEFAULT;
	uint64_t most = CONN_NEVER / 2;
	return field > most >> exponent ? most : field << exponent;
}

static int on_ack(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	enum pn_space space = level_space(p->level);
	struct recovery_env env = conn_env(c);
	struct ack_result res;
	int e = recovery_on_ack(&c->rec, space, &f->ack, ack_delay_us(c, f->ack.delay), &env, p->now_us, &res);
	if (e)
		return e;
	const struct sent_packet *s;
	TAILQ_FOREACH(s, &res.acked, link)
		if (s->acks_up_to != PN_NONE)
			ackq_on_ack_acked(&c->ackq[space], s->acks_up_to);
	retx_acked(c, &res.acked);
	retx_lost(c, &res.lost);
	if (space == SPACE_APP && res.largest_newly_acked != PN_NONE)
		e = keyring_on_acked(&c->keys, res.largest_newly_acked, p->phase, p->now_us, conn_pto(c));
	sent_free_list(&c->rec.pool, &res.acked);
	sent_free_list(&c->rec.pool, &res.lost);
	return e;
}

/* A stream that was released by the application may end with this frame. */
static void settle(struct conn *c, struct stream *s)
{
	streams_update(&c->streams, s);
	streams_reap(&c->streams, s);
}

static int on_reset_stream(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	struct stream *s;
	int e = streams_for_frame(&c->streams, f->reset_stream.id, false, &s);
	if (!e && (!s || stream_rx_terminal(s)))
		e = noise(c, p);
	if (e || !s)
		return e;
	e = streams_on_reset(&c->streams, s, f->reset_stream.code, f->reset_stream.final_size);
	if (!e)
		streams_reap(&c->streams, s);
	return e;
}

static int on_stop_sending(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	struct stream *s;
	int e = streams_for_frame(&c->streams, f->stop_sending.id, true, &s);
	if (!e && (!s || s->peer_stopped))
		e = noise(c, p);
	if (e || !s)
		return e;
	stream_on_stop_sending(s, f->stop_sending.code);
	settle(c, s);
	return 0;
}

static int on_crypto(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	return hs_recv(c, p->level, f->crypto.off, f->crypto.data, f->crypto.len, p->now_us);
}

static int on_new_token(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	if (c->is_server)
		return QE_PROTOCOL_VIOLATION;
	return event_blob(c, CONN_EV_TOKEN, f->new_token.data, f->new_token.len);
}

static int on_stream(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	struct stream *s;
	int e = streams_for_frame(&c->streams, f->stream.id, false, &s);
	if (e)
		return e;
	if (!s || (f->stream.len <= 1 && !f->stream.fin) || is_repeated(s, f))
		e = noise(c, p);
	else
		bucket_give(&c->noise);
	if (e || !s)
		return e;
	e = streams_on_data(&c->streams, s, f->stream.off, f->stream.data, f->stream.len, f->stream.fin);
	if (!e && s->released)
		streams_reap(&c->streams, s);
	return e;
}

static int on_max_data(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	streams_on_max_data(&c->streams, f->max_data.max);
	return 0;
}

static int on_max_stream_data(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	struct stream *s;
	int e = streams_for_frame(&c->streams, f->max_stream_data.id, true, &s);
	if (!e && (!s || f->max_stream_data.max <= s->tx_credit.limit))
		e = noise(c, p);
	if (e || !s)
		return e;
	stream_on_max_data(s, f->max_stream_data.max);
	streams_update(&c->streams, s);
	return 0;
}

static int on_max_streams(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	streams_on_max_streams(&c->streams, f->max_streams.uni, f->max_streams.max);
	return 0;
}

static int on_stream_data_blocked(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	struct stream *s;
	return streams_for_frame(&c->streams, f->stream_data_blocked.id, false, &s);
}

static int on_new_connection_id(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	return remote_cids_on_new(&c->rcids, f->new_cid.seq, f->new_cid.retire_prior_to, &f->new_cid.cid,
				  f->new_cid.token);
}

static int on_retire_connection_id(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	struct cid gone;
	int e = local_cids_retire(&c->lcids, f->retire_cid.seq, &p->dcid, &gone);
	if (e)
		return e == QE_AGAIN ? 0 : e;
	event_cid(c, CONN_EV_CID_RETIRED, &gone);
	/* One that retires without end is left with what it has: at least the one in use. RFC 9000 21.9 */
	return bucket_take(&c->noise, p->now_us) ? hs_issue_cids(c) : 0;
}

static int on_path_challenge(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	challenge_on_received(p->former ? &c->former.challenge : &c->challenge, f->path_data);
	return 0;
}

static int on_path_response(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	path_on_response(c, f->path_data, p->now_us);
	return 0;
}

static int on_close(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	close_by_peer(c, f, p->now_us);
	return 0;
}

static int on_handshake_done(struct conn *c, struct rx_packet *p, const struct frame *f)
{
	if (c->is_server || !c->established)
		return QE_PROTOCOL_VIOLATION;
	return hs_confirm(c, p->now_us);
}

static handler *const handlers[FRAME_KIND_COUNT] = {
	[FRAME_PADDING] = nothing,
	[FRAME_PING] = nothing,
	[FRAME_ACK] = on_ack,
	[FRAME_RESET_STREAM] = on_reset_stream,
	[FRAME_STOP_SENDING] = on_stop_sending,
	[FRAME_CRYPTO] = on_crypto,
	[FRAME_NEW_TOKEN] = on_new_token,
	[FRAME_STREAM] = on_stream,
	[FRAME_MAX_DATA] = on_max_data,
	[FRAME_MAX_STREAM_DATA] = on_max_stream_data,
	[FRAME_MAX_STREAMS] = on_max_streams,
	[FRAME_DATA_BLOCKED] = nothing,
	[FRAME_STREAM_DATA_BLOCKED] = on_stream_data_blocked,
	[FRAME_STREAMS_BLOCKED] = nothing,
	[FRAME_NEW_CONNECTION_ID] = on_new_connection_id,
	[FRAME_RETIRE_CONNECTION_ID] = on_retire_connection_id,
	[FRAME_PATH_CHALLENGE] = on_path_challenge,
	[FRAME_PATH_RESPONSE] = on_path_response,
	[FRAME_CONNECTION_CLOSE] = on_close,
	[FRAME_APPLICATION_CLOSE] = on_close,
	[FRAME_HANDSHAKE_DONE] = on_handshake_done,
};

int rx_frames(struct conn *c, struct rx_packet *p, const uint8_t *payload, size_t len, uint64_t *frame_type)
{
	struct rd r = rd_of(payload, len);
	struct frame f;
	if (!len)
		return QE_PROTOCOL_VIOLATION;	/* RFC 9000 12.4 */
	while (rd_left(&r) && c->state == CONN_ACTIVE) {
		int e = frame_decode(&r, p->level, &f);
		*frame_type = f.type;
		if (e)
			return e;
		p->eliciting |= frame_table[f.kind].eliciting;
		e = is_scarce(f.kind) ? noise(c, p) : 0;
		if (!e)
			e = handlers[f.kind](c, p, &f);
		if (e)
			return e;
	}
	return 0;
}
