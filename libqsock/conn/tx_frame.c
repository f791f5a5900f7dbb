/* Filling one packet: which frames go in, in which order, and the note kept of
 * each until its fate is known. Order: acknowledgements, what unblocks the peer,
 * then streams' data by the scheduler. RFC 9000 12.4, 13 */
#include "conn/conn_int.h"

#include "path/token.h"

#define ACK_RANGES_SENT 32
#define STREAM_FRAME_MIN 24	/* no STREAM frame is begun in less room than this */

/* ---- is there anything to send? ------------------------------------------ */

static bool app_control_pending(struct conn *c)
{
	const struct streams *ss = &c->streams;
	return c->want_handshake_done || c->want_new_token || c->want_ping || challenge_has_frames(&c->challenge) ||
	       ss->want_max_data || ss->want_data_blocked || ss->want_max_streams[0] || ss->want_max_streams[1] ||
	       ss->want_streams_blocked[0] || ss->want_streams_blocked[1] || !TAILQ_EMPTY(&ss->want) ||
	       local_cids_next_unsent(&c->lcids) || remote_cids_retire_pending(&c->rcids);
}

static bool content_pending(struct conn *c, enum level level)
{
	if (sendbuf_pending(&c->crypto[level].tx, CONN_NEVER))
		return true;
	/* In this order: looking for data may show that DATA_BLOCKED is due. */
	return level == LEVEL_APP && (streams_next_sendable(&c->streams) || app_control_pending(c));
}

bool tx_wants(struct conn *c, enum level level, bool congested, uint64_t now_us)
{
	enum pn_space space = level_space(level);
	if (!pktkey_ready(&c->keys.tx[level]) || (level == LEVEL_APP && !c->established))
		return false;
	if (ackq_due(&c->ackq[space], now_us))
		return true;
	return !congested && (c->probes[space] || content_pending(c, level));
}

/* ---- notes --------------------------------------------------------------- */

/* Remember a frame that was just written. */
static int note(struct build *b, struct sent_frame f)
{
	struct sent_frame *slot = sent_add_frame(b->sp);
	if (!slot)
		return QE_NOMEM;
	*slot = f;
	b->sp->eliciting = true;
	return 0;
}

#define NOTE(b, ...) note(b, (struct sent_frame){ __VA_ARGS__ })

/* ---- frames of any level ------------------------------------------------- */

static void fill_ack(struct conn *c, struct build *b, uint64_t now_us)
{
	enum pn_space space = level_space(b->level);
	struct ackq *q = &c->ackq[space];
	if (!ackq_owed(q) && !ackq_due(q, now_us))
		return;
	uint64_t delay = ackq_delay_field(q, now_us, CONN_ACK_EXPONENT);
	if (!frame_write_ack(&b->w, &q->got, delay, ackq_has_ecn(q) ? q->ecn : NULL, ACK_RANGES_SENT))
		return;
	b->sp->acks_up_to = q->largest;
	ackq_on_ack_sent(q);
}

static int fill_crypto(struct conn *c, struct build *b)
{
	struct sendbuf *sb = &c->crypto[b->level].tx;
	uint64_t off, len;
	bool fin;
	while (sendbuf_next(sb, CONN_NEVER, &off, &len, &fin)) {
		size_t n = frame_write_crypto_header(&b->w, off, len);
		if (!n)
			return 0;
		sendbuf_copy(sb, off, n, wr_claim(&b->w, n));
		sendbuf_on_sent(sb, off, n, false);
		int e = NOTE(b, .retx = RETX_CRYPTO, .id = b->level, .off = off, .len = (uint32_t)n);
		if (e)
			return e;
	}
	return 0;
}

/* ---- control frames of 1-RTT --------------------------------------------- */

/* Their datagram is expanded, to show that the path carries as much. RFC 9000 8.2.1, 8.2.2 */
void tx_fill_path(struct build *b, struct challenge *ch)
{
	uint8_t data[8];
	while (wr_left(&b->w) >= 9 && challenge_next_response(ch, data)) {
		frame_write_path_response(&b->w, data);
		b->sp->eliciting = b->expand = true;
	}
	if (ch->want_send && frame_write_path_challenge(&b->w, ch->ours)) {
		ch->want_send = false;
		b->sp->eliciting = b->expand = true;
	}
}

static int fill_new_token(struct conn *c, struct build *b)
{
	uint8_t token[TOKEN_MAX];
	struct token t = { .issued_us = b->sp->at_us };
	size_t n = c->cfg->token_key ? token_seal(c->cfg->token_key, c->rng, &t, &c->remote, token) : 0;
	if (n && !frame_write_new_token(&b->w, token, n))
		return 0;
	c->want_new_token = false;
	return n ? NOTE(b, .retx = RETX_NEW_TOKEN) : 0;
}

static int fill_cids(struct conn *c, struct build *b)
{
	const struct local_cid *l;
	uint64_t seq;
	int e = 0;
	while (!e && (l = local_cids_next_unsent(&c->lcids)) &&
	       frame_write_new_connection_id(&b->w, l->seq, 0, &l->cid, l->token)) {
		local_cids_on_sent(&c->lcids, l->seq);
		e = NOTE(b, .retx = RETX_NEW_CONNECTION_ID, .id = l->seq);
	}
	while (!e && wr_left(&b->w) >= 9 && remote_cids_next_retire(&c->rcids, &seq)) {
		frame_write_retire_connection_id(&b->w, seq);
		e = NOTE(b, .retx = RETX_RETIRE_CONNECTION_ID, .id = seq);
	}
	return e;
}

static int fill_credit(struct conn *c, struct build *b)
{
	struct streams *ss = &c->streams;
	int e = 0;
	if (ss->want_max_data && wr_left(&b->w) >= 9) {
		uint64_t max = rxflow_next_limit(&ss->rx_credit, c->rec.rtt.smoothed_us, b->sp->at_us);
		ss->want_max_data = false;
		frame_write_max_data(&b->w, max);
		e = NOTE(b, .retx = RETX_MAX_DATA, .off = max);
	}
	if (!e && ss->want_data_blocked && frame_write_data_blocked(&b->w, ss->tx_credit.limit)) {
		ss->want_data_blocked = false;
		e = NOTE(b, .retx = RETX_DATA_BLOCKED, .off = ss->tx_credit.limit);
	}
	for (int dir = 0; !e && dir < 2; dir++) {
		if (ss->want_max_streams[dir] && wr_left(&b->w) >= 9) {
			uint64_t max = streams_next_max(ss, dir);
			ss->want_max_streams[dir] = false;
			frame_write_max_streams(&b->w, dir, max);
			e = NOTE(b, .retx = RETX_MAX_STREAMS, .fin = dir, .off = max);
		}
		if (!e && ss->want_streams_blocked[dir] && wr_left(&b->w) >= 9) {
			ss->want_streams_blocked[dir] = false;
			frame_write_streams_blocked(&b->w, dir, ss->max_local[dir]);
			e = NOTE(b, .retx = RETX_STREAMS_BLOCKED, .fin = dir, .off = ss->max_local[dir]);
		}
	}
	return e;
}

/* One stream's control frames. false in *fits when the packet is full. */
static int fill_stream_control(struct conn *c, struct build *b, struct stream *s, bool *fits)
{
	int e = 0;
	*fits = wr_left(&b->w) >= 3 * 25 + 17;	/* all four at their longest: no partial bookkeeping */
	if (!*fits)
		return 0;
	if (s->want & STREAM_WANT_RESET) {
		frame_write_reset_stream(&b->w, s->id, s->reset_code, stream_tx_final_size(s));
		e = NOTE(b, .retx = RETX_RESET_STREAM, .id = s->id);
	}
	if (!e && s->want & STREAM_WANT_STOP) {
		frame_write_stop_sending(&b->w, s->id, s->stop_code);
		e = NOTE(b, .retx = RETX_STOP_SENDING, .id = s->id);
	}
	if (!e && s->want & STREAM_WANT_MAX_DATA) {
		uint64_t max = rxflow_next_limit(&s->rx_credit, c->rec.rtt.smoothed_us, b->sp->at_us);
		frame_write_max_stream_data(&b->w, s->id, max);
		e = NOTE(b, .retx = RETX_MAX_STREAM_DATA, .id = s->id, .off = max);
	}
	if (!e && s->want & STREAM_WANT_BLOCKED) {
		frame_write_stream_data_blocked(&b->w, s->id, s->tx_credit.limit);
		e = NOTE(b, .retx = RETX_STREAM_DATA_BLOCKED, .id = s->id, .off = s->tx_credit.limit);
	}
	if (!e && s->want & STREAM_WANT_OPEN) {
		bool fin;
		frame_write_stream_header(&b->w, s->id, s->sb.next, 0, false, &fin);
		e = NOTE(b, .retx = RETX_STREAM, .id = s->id, .off = s->sb.next);
	}
	stream_on_control_sent(s, s->want);
	return e;
}

static int fill_control(struct conn *c, struct build *b)
{
	struct stream *s;
	bool fits = true;
	int e = 0;
	tx_fill_path(b, &c->challenge);
	if (c->want_handshake_done && frame_write_handshake_done(&b->w)) {
		c->want_handshake_done = false;
		e = NOTE(b, .retx = RETX_HANDSHAKE_DONE);
	}
	if (!e)
		e = fill_credit(c, b);
	if (!e)
		e = fill_cids(c, b);
	if (!e && c->want_new_token)
		e = fill_new_token(c, b);
	while (!e && (s = TAILQ_FIRST(&c->streams.want))) {
		e = fill_stream_control(c, b, s, &fits);
		if (!fits)
			break;
		streams_update(&c->streams, s);
		streams_reap(&c->streams, s);	/* it may have been all that a released stream waited for */
	}
	return e;
}

/* ---- data ---------------------------------------------------------------- */

static int fill_streams(struct conn *c, struct build *b)
{
	struct streams *ss = &c->streams;
	struct stream *s;
	while (wr_left(&b->w) >= STREAM_FRAME_MIN && (s = streams_next_sendable(ss))) {
		uint64_t off, len;
		bool fin;
		if (!sendbuf_next(&s->sb, stream_tx_limit(s, txflow_credit(&ss->tx_credit)), &off, &len, &fin))
			return QE_INVAL;	/* the scheduler and the buffer disagree */
		size_t want = len < UINT32_MAX ? len : UINT32_MAX;
		ptrdiff_t n = frame_write_stream_header(&b->w, s->id, off, want, fin, &fin);
		if (n < 0)
			return 0;
		sendbuf_copy(&s->sb, off, (size_t)n, wr_claim(&b->w, (size_t)n));
		streams_sent(ss, s, off, (uint64_t)n, fin);
		int e = NOTE(b, .retx = RETX_STREAM, .fin = fin, .id = s->id, .off = off, .len = (uint32_t)n);
		if (e)
			return e;
	}
	return 0;
}

/* Probes of higher spaces go into the same datagrams, as far as they fit: they may not make more of them. */
static void probe_written(struct conn *c, enum pn_space space)
{
	c->probes[space]--;
	for (int s = space + 1; s < SPACE_COUNT; s++)
		if (c->probes[s] > c->probes[space] + 1)
			c->probes[s] = c->probes[space] + 1;
}

int tx_fill(struct conn *c, struct build *b, bool congested, uint64_t now_us)
{
	enum pn_space space = level_space(b->level);
	int e = 0;
	fill_ack(c, b, now_us);
	if (congested)
		return 0;
	/* A probe carries what is new, else what is oldest; a PING would bring nothing forward. RFC 9002 6.2.4 */
	while (c->probes[space] && !content_pending(c, b->level) && retx_probe(c, space))
		;
	if (b->level == LEVEL_APP)
		e = fill_control(c, b);
	if (!e)
		e = fill_crypto(c, b);
	if (!e && b->level == LEVEL_APP)
		e = fill_streams(c, b);
	if (e)
		return e;
	bool must = c->probes[space] || (c->want_ping && b->level == LEVEL_APP);
	if (must && (b->sp->eliciting || frame_write_ping(&b->w))) {
		b->sp->eliciting = true;
		if (b->level == LEVEL_APP)
			c->want_ping = false;
		if (c->probes[space])
			probe_written(c, space);
	}
	return 0;
}
