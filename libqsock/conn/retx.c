/* The fate of frames: what is done when the packet that carried them was
 * acknowledged or lost. One row per retransmission class. RFC 9000 13.3 */
#include "conn/conn_int.h"

static struct stream *stream_of(struct conn *c, const struct sent_frame *f)
{
	return streams_find(&c->streams, f->id);
}

static void settle(struct conn *c, struct stream *s)
{
	streams_update(&c->streams, s);
	if (c->rx_last == s)
		c->rx_last = NULL;
	streams_reap(&c->streams, s);
}

static int acked_stream(struct conn *c, const struct sent_frame *f)
{
	struct stream *s = stream_of(c, f);
	if (!s)
		return 0;
	int e = stream_on_data_acked(s, f->off, f->len, f->fin);
	settle(c, s);
	return e;
}

static int lost_stream(struct conn *c, const struct sent_frame *f)
{
	struct stream *s = stream_of(c, f);
	if (!s)
		return 0;
	int e = stream_on_data_lost(s, f->off, f->len, f->fin);
	streams_update(&c->streams, s);
	return e;
}

static int acked_crypto(struct conn *c, const struct sent_frame *f)
{
	return sendbuf_on_acked(&c->crypto[f->id].tx, f->off, f->len, false);
}

static int lost_crypto(struct conn *c, const struct sent_frame *f)
{
	return sendbuf_on_lost(&c->crypto[f->id].tx, f->off, f->len, false);
}

static int acked_reset(struct conn *c, const struct sent_frame *f)
{
	struct stream *s = stream_of(c, f);
	if (!s)
		return 0;
	stream_on_reset_acked(s);
	settle(c, s);
	return 0;
}

static int stream_control_lost(struct conn *c, const struct sent_frame *f, uint8_t want)
{
	struct stream *s = stream_of(c, f);
	if (s) {
		stream_on_control_lost(s, want);
		streams_update(&c->streams, s);
	}
	return 0;
}

static int lost_reset(struct conn *c, const struct sent_frame *f) { return stream_control_lost(c, f, STREAM_WANT_RESET); }
static int lost_stop(struct conn *c, const struct sent_frame *f) { return stream_control_lost(c, f, STREAM_WANT_STOP); }
static int lost_msd(struct conn *c, const struct sent_frame *f) { return stream_control_lost(c, f, STREAM_WANT_MAX_DATA); }
static int lost_sdb(struct conn *c, const struct sent_frame *f) { return stream_control_lost(c, f, STREAM_WANT_BLOCKED); }

static int lost_token(struct conn *c, const struct sent_frame *f) { c->want_new_token = true; return 0; }
static int lost_max_data(struct conn *c, const struct sent_frame *f) { c->streams.want_max_data = true; return 0; }
static int lost_max_streams(struct conn *c, const struct sent_frame *f) { c->streams.want_max_streams[f->fin] = true; return 0; }
static int lost_done(struct conn *c, const struct sent_frame *f) { c->want_handshake_done = true; return 0; }

/* BLOCKED frames are only repeated while their limit still holds us. */
static int lost_data_blocked(struct conn *c, const struct sent_frame *f)
{
	c->streams.want_data_blocked = c->streams.tx_credit.limit == f->off;
	return 0;
}

static int lost_streams_blocked(struct conn *c, const struct sent_frame *f)
{
	c->streams.want_streams_blocked[f->fin] = c->streams.max_local[f->fin] == f->off;
	return 0;
}

static int lost_new_cid(struct conn *c, const struct sent_frame *f) { local_cids_on_lost(&c->lcids, f->id); return 0; }
static int acked_retire(struct conn *c, const struct sent_frame *f) { remote_cids_retire_acked(&c->rcids, f->id); return 0; }
static int lost_retire(struct conn *c, const struct sent_frame *f) { remote_cids_retire_lost(&c->rcids, f->id); return 0; }

static const struct {
	int (*acked)(struct conn *, const struct sent_frame *);
	int (*lost)(struct conn *, const struct sent_frame *);
} fate[] = {
	[RETX_CRYPTO] = { acked_crypto, lost_crypto },
	[RETX_STREAM] = { acked_stream, lost_stream },
	[RETX_RESET_STREAM] = { acked_reset, lost_reset },
	[RETX_STOP_SENDING] = { NULL, lost_stop },
	[RETX_NEW_TOKEN] = { NULL, lost_token },
	[RETX_MAX_DATA] = { NULL, lost_max_data },
	[RETX_MAX_STREAM_DATA] = { NULL, lost_msd },
	[RETX_MAX_STREAMS] = { NULL, lost_max_streams },
	[RETX_DATA_BLOCKED] = { NULL, lost_data_blocked },
	[RETX_STREAM_DATA_BLOCKED] = { NULL, lost_sdb },
	[RETX_STREAMS_BLOCKED] = { NULL, lost_streams_blocked },
	[RETX_NEW_CONNECTION_ID] = { NULL, lost_new_cid },
	[RETX_RETIRE_CONNECTION_ID] = { acked_retire, lost_retire },
	[RETX_HANDSHAKE_DONE] = { NULL, lost_done },
};

static int walk(struct conn *c, const struct sent_packet *p, bool acked)
{
	for (unsigned i = 0; i < p->nframes; i++) {
		const struct sent_frame *f = &p->frames[i];
		int (*fn)(struct conn *, const struct sent_frame *) = acked ? fate[f->retx].acked : fate[f->retx].lost;
		int e = fn ? fn(c, f) : 0;
		if (e)
			return e;
	}
	return 0;
}

int retx_acked(struct conn *c, const struct sent_list *l)
{
	const struct sent_packet *p;
	TAILQ_FOREACH(p, l, link) {
		int e = walk(c, p, true);
		if (e)
			return e;
	}
	return 0;
}

int retx_lost(struct conn *c, const struct sent_list *l)
{
	const struct sent_packet *p;
	TAILQ_FOREACH(p, l, link) {
		int e = walk(c, p, false);
		if (e)
			return e;
	}
	return 0;
}

/* New data may not be there and PINGs carry nothing forward: repeat the oldest
 * content. The packets stay in flight, since a PTO is no proof of loss. RFC 9002 6.2.4 */
int retx_probe(struct conn *c, enum pn_space space)
{
	const struct sent_packet *p;
	unsigned left = c->probes[space];
	TAILQ_FOREACH(p, &c->rec.space[space].sent, link) {
		if (!p->eliciting || !p->nframes)
			continue;
		int e = walk(c, p, false);
		if (e)
			return e;
		if (--left == 0)
			break;
	}
	return 0;
}
