/* What the owner has to learn, in a fixed order: connection ids (for the
 * endpoint), establishment, blobs, streams, credit, the end. Most events are
 * flags or list memberships, so a peer cannot make them pile up. */
#include "conn/conn_int.h"

#include "base/mem.h"

#define BLOBS_MAX 8	/* sessions and tokens kept for an owner that does not poll */

void event_cid(struct conn *c, enum conn_event_type type, const struct cid *cid)
{
	if (c->cid_count == CONN_CID_EVENTS)
		return;	/* cannot be: fewer ids exist than slots, and the endpoint drains after every call */
	c->cid_events[(c->cid_head + c->cid_count++) % CONN_CID_EVENTS] =
		(struct conn_event){ .type = type, .cid = *cid };
}

bool conn_poll_cid_event(struct conn *c, struct conn_event *ev)
{
	if (!c->cid_count)
		return false;
	*ev = c->cid_events[c->cid_head];
	c->cid_head = (c->cid_head + 1) % CONN_CID_EVENTS;
	c->cid_count--;
	return true;
}

int event_blob(struct conn *c, enum conn_event_type type, const uint8_t *data, size_t len)
{
	unsigned n = 0;
	struct blob *b;
	STAILQ_FOREACH(b, &c->blobs, link)
		n++;
	if (n >= BLOBS_MAX)
		return 0;
	b = mem_alloc(sizeof(*b) + len);
	if (!b)
		return QE_NOMEM;
	b->type = type;
	b->len = len;
	memcpy(b->data, data, len);
	STAILQ_INSERT_TAIL(&c->blobs, b, link);
	return 0;
}

static bool take_flag(bool *flag, struct conn_event *ev, enum conn_event_type type)
{
	if (!*flag)
		return false;
	*flag = false;
	ev->type = type;
	return true;
}

static bool take_blob(struct conn *c, struct conn_event *ev)
{
	struct blob *b = STAILQ_FIRST(&c->blobs);
	if (!b)
		return false;
	STAILQ_REMOVE_HEAD(&c->blobs, link);
	c->blob_out = b;
	ev->type = b->type;
	ev->data = b->data;
	ev->len = b->len;
	return true;
}

static bool take_stream(struct conn *c, struct conn_event *ev)
{
	ev->stream = streams_next_opened(&c->streams);
	if (ev->stream) {
		ev->type = CONN_EV_STREAM_OPENED;
		return true;
	}
	ev->stream = streams_next_event(&c->streams, &ev->stream_events);
	ev->type = CONN_EV_STREAM;
	return ev->stream != NULL;
}

bool conn_poll_event(struct conn *c, struct conn_event *ev)
{
	mem_free(c->blob_out);
	c->blob_out = NULL;
	*ev = (struct conn_event){ 0 };
	return take_flag(&c->ev_established, ev, CONN_EV_ESTABLISHED) ||
	       take_flag(&c->ev_confirmed, ev, CONN_EV_CONFIRMED) ||
	       take_blob(c, ev) ||
	       take_stream(c, ev) ||
	       (c->established && take_flag(&c->streams.credit_event, ev, CONN_EV_STREAM_CREDIT)) ||
	       (c->ev_acked_wanted && conn_all_acked(c) && take_flag(&c->ev_acked_wanted, ev, CONN_EV_ALL_ACKED)) ||
	       take_flag(&c->ev_closed, ev, CONN_EV_CLOSED) ||
	       take_flag(&c->ev_drained, ev, CONN_EV_DRAINED);
}

void event_fini(struct conn *c)
{
	struct blob *b;
	while ((b = STAILQ_FIRST(&c->blobs))) {
		STAILQ_REMOVE_HEAD(&c->blobs, link);
		mem_free(b);
	}
	mem_free(c->blob_out);
	c->blob_out = NULL;
}
