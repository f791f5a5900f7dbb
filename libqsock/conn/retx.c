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
	streams_reap(&c->streams, s);
}

static void acked_stream(struct conn *c, const struct sent_frame *f)
{
	struct stream *s = stream_of(c, f);
	if (!s)
		return;
	stream_on_data_acked(s, f->off, f->len, f->fin);
	settle(c, s);
}

static void lost_stream(struct conn *c, const struct sent_frame *f)
{
	struct stream *s = stream_of(c, f);
	if (!s)
		return;
	stream_on_data_lost(s, f->off, f->len, f->fin);
	streams_update(&c->streams, s);
}

static void acked_crypto(struct conn *c, const struct sent_frame *f)
{
	sendbuf_on_acked(&c->crypto[f->id].tx, f->off, f->len, false);
}

static void lost_crypto(struct conn *c, const struct sent_frame *f)
{
	sendbuf_on_lost(&c->crypto[f->id].tx, f->off, f->len, false);
}

static void acked_reset(struct conn *c, const struct sent_frame *f)
{
	struct stream *s = stream_of(c, f);
	if (!s)
		return;
	stream_on_reset_acked(s);
	settle(c, s);
}

static void stream_control_lost(struct conn *c, const struct sent_frame *f, uint8_t want)
{
	struct stream *s = stream_of(c, f);
	if (s) {
		stream_on_control_lost(s, want);
		streams_update(&c->streams, s);
	}
}

static void lost_reset(struct conn *c, const struct sent_frame *f) { stream_control_lost(c, f, STREAM_WANT_RESET); }
static void lost_stop(struct conn *c, const struct sent_frame *f) { stream_control_lost(c, f, STREAM_WANT_STOP); }
static void lost_msd(struct conn *c, const struct sent_frame *f) { stream_control_lost(c, f, STREAM_WANT_MAX_DATA); }
static void lost_sdb(struct conn *c, const struct sent_frame *f) { stream_control_lost(c, f, STREAM_WANT_BLOCKED); }

static void lost_token(struct conn *c, const struct sent_frame *f) { c->want_new_token = true; }
static void lost_max_data(struct conn *c, const struct sent_frame *f) { c->streams.want_max_data = true; }
static void lost_max_streams(struct conn *c, const struct sent_frame *f) { c->streams.want_max_streams[f->fin] = true; }
static void lost_done(struct conn *c, const struct sent_frame *f) { c->want_handshake_done = true; }

/* BLOCKED frames are only repeated while their limit still holds us. */
static void lost_data_blocked(struct conn *c, const struct sent_frame *f)
{
	c->streams.want_data_blocked |= c->streams.tx_credit.limit == f->off;
}

static void lost_streams_blocked(struct conn *c, const struct sent_frame *f)
{
	c->streams.want_streams_blocked[f->fin] |= c->streams.max_local[f->fin] == f->off;
}

static void lost_new_cid(struct conn *c, const struct sent_frame *f) { local_cids_on_lost(&c->lcids, f->id); }
static void acked_retire(struct conn *c, const struct sent_frame *f) { remote_cids_retire_acked(&c->rcids, f->id); }
static void lost_retire(struct conn *c, const struct sent_frame *f) { remote_cids_retire_lost(&c->rcids, f->id); }

static const struct {
	void (*acked)(struct conn *, const struct sent_frame *);
	void (*lost)(struct conn *, const struct sent_frame *);
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

static void walk(struct conn *c, const struct sent_packet *p, bool acked)
{
	for (unsigned i = 0; i < p->nframes; i++) {
		const struct sent_frame *f = &p->frames[i];
		void (*fn)(struct conn *, const struct sent_frame *) = acked ? fate[f->retx].acked : fate[f->retx].lost;
		if (fn)
			fn(c, f);
	}
}

void retx_acked(struct conn *c, const struct sent_list *l)
{
	const struct sent_packet *p;
	TAILQ_FOREACH(p, l, link)
		walk(c, p, true);
}

void retx_lost(struct conn *c, const struct sent_list *l)
{
	const struct sent_packet *p;
	TAILQ_FOREACH(p, l, link)
		if (!p->repeated)
			walk(c, p, false);
}

/* The packet stays in flight, since a PTO is no proof of loss; but who repeats its content is from now on the packet
 * that takes it. So two probes carry two packets, or one twice, and losses found later send nothing a third time. */
bool retx_probe(struct conn *c, enum pn_space space)
{
	struct sent_packet *p;
	TAILQ_FOREACH(p, &c->rec.space[space].sent, link) {
		if (!p->eliciting || !p->nframes || p->repeated)
			continue;
		walk(c, p, false);
		p->repeated = true;
		return true;
	}
	return false;
}
