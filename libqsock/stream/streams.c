/* The streams of one connection: which exist, which may be opened, whose turn it is to
 * send, who wants or has to report something, and the connection's own credit.
 *
 * A stream of the peer is counted against its limit until the application has released it, so opening
 * and resetting in a hurry gains the peer nothing; memory for streams is bounded by cfg.max_streams. What
 * frames do to one stream is stream.c's business; packets are not known here. */
#include "stream/streams.h"

#include <assert.h>

#include "base/err.h"
#include "base/mem.h"

#define STREAMS_MAX (UINT64_C(1) << 60)	/* RFC 9000 4.6 */

int stream_cmp(const struct stream *a, const struct stream *b)
{
	return a->id < b->id ? -1 : a->id > b->id;
}

RB_GENERATE(stream_tree, stream, by_id, stream_cmp)

static int id_dir(uint64_t id)
{
	return stream_is_uni(id) ? DIR_UNI : DIR_BIDI;
}

static bool is_local(const struct streams *ss, uint64_t id)
{
	return stream_by_server(id) == ss->is_server;
}

/* RFC 9000 2.1 */
static uint64_t make_id(const struct streams *ss, bool local, int dir, uint64_t ordinal)
{
	return ordinal << 2 | (uint64_t)dir << 1 | (local == ss->is_server);
}

void streams_init(struct streams *ss, bool is_server, const struct streams_limits *cfg)
{
	*ss = (struct streams){ .is_server = is_server, .cfg = *cfg };
	RB_INIT(&ss->tree);
	TAILQ_INIT(&ss->sched);
	TAILQ_INIT(&ss->stalled);
	TAILQ_INIT(&ss->want);
	TAILQ_INIT(&ss->events);
	TAILQ_INIT(&ss->opened);
	txflow_init(&ss->tx_credit, 0);
	rxflow_init(&ss->rx_credit, cfg->conn_window, cfg->conn_window_max);
	for (int dir = DIR_BIDI; dir <= DIR_UNI; dir++) {
		ss->blocked_local[dir] = UINT64_MAX;
		ss->max_remote[dir] = cfg->max_streams[dir] < STREAMS_MAX ? cfg->max_streams[dir] : STREAMS_MAX;
	}
}

void streams_fini(struct streams *ss)
{
	struct stream *s;
	while ((s = RB_ROOT(&ss->tree)) != NULL) {
		RB_REMOVE(stream_tree, &ss->tree, s);
		stream_fini(s);
		mem_free(s);
	}
	ss->last = ss->turn_of = NULL;
	ss->count = 0;
}

struct stream *streams_find(const struct streams *ss, uint64_t id)
{
	struct stream key;
	if (ss->last && ss->last->id == id)
		return ss->last;
	key.id = id;
	return RB_FIND(stream_tree, (struct stream_tree *)&ss->tree, &key);
}

/* ---- opening ------------------------------------------------------------ */

/* The peer's parameter names are from its own point of view. RFC 9000 18.2 */
static uint64_t initial_tx_limit(const struct streams *ss, uint64_t id)
{
	if (stream_is_uni(id))
		return is_local(ss, id) ? ss->peer.max_stream_data_uni : 0;
	return is_local(ss, id) ? ss->peer.max_stream_data_bidi_remote : ss->peer.max_stream_data_bidi_local;
}

static struct stream *create(struct streams *ss, uint64_t id)
{
	bool uni = stream_is_uni(id), local = is_local(ss, id);
	struct stream *s = mem_alloc(sizeof(*s));
	if (!s)
		return NULL;
	stream_init(s, id, !uni || local, !uni || !local, initial_tx_limit(ss, id), ss->cfg.window,
		    ss->cfg.window_max, ss->cfg.pool);
	RB_INSERT(stream_tree, &ss->tree, s);
	ss->count++;
	return s;
}

uint64_t streams_local_credit(const struct streams *ss, int dir)
{
	return ss->max_local[dir] - ss->next_local[dir];
}

int streams_open(struct streams *ss, int dir, struct stream **out)
{
	if (!streams_local_credit(ss, dir)) {
		if (ss->blocked_local[dir] != ss->max_local[dir]) {
			ss->blocked_local[dir] = ss->max_local[dir];
			ss->want_streams_blocked[dir] = true;
		}
		return QE_AGAIN;
	}
	struct stream *s = create(ss, make_id(ss, true, dir, ss->next_local[dir]));
	if (!s)
		return QE_NOMEM;
	ss->next_local[dir]++;
	*out = s;
	return 0;
}

static uint64_t remote_allowance(const struct streams *ss, int dir)
{
	uint64_t max = ss->cfg.max_streams[dir];
	return max < STREAMS_MAX - ss->closed_remote[dir] ? ss->closed_remote[dir] + max : STREAMS_MAX;
}

/* Worth a frame once a quarter of the streams were closed, or when the peer comes near what it was told: it is not to
 * stand still at fewer streams than it may have, whether it says so or not. RFC 9000 4.6 */
static void consider_max_streams(struct streams *ss, int dir)
{
	uint64_t fresh = remote_allowance(ss, dir) - ss->max_remote[dir];
	uint64_t left = ss->max_remote[dir] - ss->next_remote[dir], quarter = ss->cfg.max_streams[dir] / 4;
	if (fresh && (fresh >= quarter || left <= quarter))
		ss->want_max_streams[dir] = true;
}

static void on_closed_remote(struct streams *ss, int dir)
{
	ss->closed_remote[dir]++;
	consider_max_streams(ss, dir);
}

/* RFC 9000 2.1, 3.2: all lower ones of the type are opened too; 4.6: the limit bounds how many that can be. */
static int open_remote(struct streams *ss, int dir, uint64_t ordinal)
{
	while (ss->next_remote[dir] <= ordinal) {
		struct stream *s = create(ss, make_id(ss, false, dir, ss->next_remote[dir]));
		if (!s)
			return QE_NOMEM;
		ss->next_remote[dir]++;
		s->in_opened = true;
		TAILQ_INSERT_TAIL(&ss->opened, s, opened_link);
	}
	consider_max_streams(ss, dir);
	return 0;
}

int streams_for_frame(struct streams *ss, uint64_t id, bool for_tx, struct stream **out)
{
	int dir = id_dir(id);
	bool local = is_local(ss, id);
	uint64_t ordinal = id >> 2;

	*out = NULL;
	if (dir == DIR_UNI && local != for_tx)
		return QE_STREAM_STATE;		/* no such half: RFC 9000 19.4, 19.5, 19.8, 19.10, 19.13 */
	if (local && ordinal >= ss->next_local[dir])
		return QE_STREAM_STATE;		/* not created by us yet: RFC 9000 19.5, 19.8, 19.10 */
	if (!local && ordinal >= ss->max_remote[dir])
		return QE_STREAM_LIMIT;
	if (!local && ordinal >= ss->next_remote[dir]) {
		int e = open_remote(ss, dir, ordinal);
		if (e)
			return e;
	}
	*out = streams_find(ss, id);
	if (*out)
		ss->last = *out;
	return 0;
}

struct stream *streams_next_opened(struct streams *ss)
{
	struct stream *s = TAILQ_FIRST(&ss->opened);
	if (s) {
		TAILQ_REMOVE(&ss->opened, s, opened_link);
		s->in_opened = false;
	}
	return s;
}

/* ---- lists and turns ---------------------------------------------------- */

static void unqueue(struct streams *ss, struct stream *s)
{
	if (s->queue == QUEUE_SCHED)
		TAILQ_REMOVE(&ss->sched, s, sched_link);
	else if (s->queue == QUEUE_STALLED)
		TAILQ_REMOVE(&ss->stalled, s, sched_link);
	s->queue = QUEUE_NONE;
	if (ss->turn_of == s)
		ss->turn_of = NULL;
}

static void update_queue(struct streams *ss, struct stream *s)
{
	if (!stream_has_data(s, UINT64_MAX)) {
		unqueue(ss, s);
		return;
	}
	if (!rangeset_empty(&s->sb.lost) || s->sb.fin_lost) {
		if (TAILQ_FIRST(&ss->sched) == s)
			return;
		unqueue(ss, s);
		TAILQ_INSERT_HEAD(&ss->sched, s, sched_link);
	} else if (s->queue == QUEUE_NONE) {
		TAILQ_INSERT_TAIL(&ss->sched, s, sched_link);
	} else {
		return;		/* the stalled wait for MAX_DATA */
	}
	s->queue = QUEUE_SCHED;
}

void streams_update(struct streams *ss, struct stream *s)
{
	uint64_t dropped = stream_take_dropped(s);
	if (dropped)
		streams_consumed(ss, dropped);
	if (stream_is_blocked(s) && txflow_blocked(&s->tx_credit))
		s->want |= STREAM_WANT_BLOCKED;

	if (s->want && !s->in_want)
		TAILQ_INSERT_TAIL(&ss->want, s, want_link);
	else if (!s->want && s->in_want)
		TAILQ_REMOVE(&ss->want, s, want_link);
	s->in_want = s->want;

	if (s->events && !s->in_events)
		TAILQ_INSERT_TAIL(&ss->events, s, event_link);
	else if (!s->events && s->in_events)
		TAILQ_REMOVE(&ss->events, s, event_link);
	s->in_events = s->events;

	update_queue(ss, s);
}

struct stream *streams_next_event(struct streams *ss, uint8_t *events)
{
	struct stream *s = TAILQ_FIRST(&ss->events);
	if (!s)
		return NULL;
	TAILQ_REMOVE(&ss->events, s, event_link);
	s->in_events = false;
	*events = s->events;
	s->events = 0;
	return s;
}

struct stream *streams_next_sendable(struct streams *ss)
{
	uint64_t credit = txflow_credit(&ss->tx_credit);
	struct stream *s;

	while ((s = TAILQ_FIRST(&ss->sched)) != NULL && !stream_has_data(s, credit)) {
		/* set aside, so that the next calls need not look at it */
		unqueue(ss, s);
		TAILQ_INSERT_TAIL(&ss->stalled, s, sched_link);
		s->queue = QUEUE_STALLED;
		if (txflow_blocked(&ss->tx_credit))
			ss->want_data_blocked = true;
	}
	if (s && ss->turn_of != s) {
		ss->turn_of = s;
		ss->turn_left = STREAMS_TURN_BYTES;
	}
	return s;
}

void streams_sent(struct streams *ss, struct stream *s, uint64_t off, uint64_t len, bool fin)
{
	txflow_use(&ss->tx_credit, stream_on_data_sent(s, off, len, fin));
	if (ss->turn_of == s) {
		ss->turn_left -= len < ss->turn_left ? len : ss->turn_left;
		if (!ss->turn_left)
			unqueue(ss, s);		/* streams_update puts it last, or first if it has lost data */
	}
	streams_update(ss, s);
}

/* ---- credit ------------------------------------------------------------- */

int streams_on_data(struct streams *ss, struct stream *s, uint64_t off, const uint8_t *data, size_t len, bool fin)
{
	uint64_t growth = stream_growth(s, off, len);
	/* the final size first: beyond it no credit was meant */
	int e = recvbuf_check(&s->rb, off, len, fin);
	if (!e && growth > ss->rx_credit.limit - ss->rx_credit.received)
		e = QE_FLOW_CONTROL;
	if (!e)
		e = stream_on_data(s, off, data, len, fin);
	if (e)
		return e;
	(void)rxflow_on_received(&ss->rx_credit, growth);
	streams_update(ss, s);
	return 0;
}

int streams_on_reset(struct streams *ss, struct stream *s, uint64_t code, uint64_t final_size)
{
	uint64_t growth = stream_growth(s, final_size, 0);
	int e = recvbuf_check(&s->rb, final_size, 0, true);
	if (!e && growth > ss->rx_credit.limit - ss->rx_credit.received)
		e = QE_FLOW_CONTROL;
	if (!e)
		e = stream_on_reset(s, code, final_size);
	if (e)
		return e;
	(void)rxflow_on_received(&ss->rx_credit, growth);
	streams_update(ss, s);
	return 0;
}

void streams_consume(struct streams *ss, struct stream *s, size_t n)
{
	stream_consume(s, n);
	streams_consumed(ss, n);
	streams_update(ss, s);
}

void streams_consumed(struct streams *ss, uint64_t n)
{
	if (rxflow_on_consumed(&ss->rx_credit, n))
		ss->want_max_data = true;
}

void streams_on_max_data(struct streams *ss, uint64_t max)
{
	struct stream *s;
	if (!txflow_on_max(&ss->tx_credit, max))
		return;
	ss->want_data_blocked = false;
	TAILQ_FOREACH(s, &ss->stalled, sched_link)
		s->queue = QUEUE_SCHED;
	TAILQ_CONCAT(&ss->sched, &ss->stalled, sched_link);
}

void streams_on_max_streams(struct streams *ss, bool uni, uint64_t max)
{
	int dir = uni ? DIR_UNI : DIR_BIDI;
	if (max > STREAMS_MAX)
		max = STREAMS_MAX;
	if (max <= ss->max_local[dir])
		return;
	ss->max_local[dir] = max;
	ss->want_streams_blocked[dir] = false;
	ss->credit_event = true;
}

void streams_set_peer(struct streams *ss, const struct tparams *peer)
{
	struct stream *s;
	ss->peer = *peer;
	streams_on_max_data(ss, peer->max_data);
	streams_on_max_streams(ss, false, peer->max_streams_bidi);
	streams_on_max_streams(ss, true, peer->max_streams_uni);
	RB_FOREACH(s, stream_tree, &ss->tree) {
		stream_on_max_data(s, initial_tx_limit(ss, s->id));
		streams_update(ss, s);
	}
}

/* ---- closing ------------------------------------------------------------ */

uint64_t streams_next_max(struct streams *ss, int dir)
{
	ss->want_max_streams[dir] = false;
	ss->max_remote[dir] = remote_allowance(ss, dir);
	return ss->max_remote[dir];
}

bool streams_reap(struct streams *ss, struct stream *s)
{
	if (!s->released || s->in_opened || !stream_tx_terminal(s) || !stream_rx_terminal(s) || s->want)
		return false;
	(void)stream_stop_sending(s, 0);	/* drops what the application left unread */
	s->events = 0;
	streams_update(ss, s);
	assert(!s->in_want && !s->in_events && s->queue == QUEUE_NONE);
	if (!is_local(ss, s->id))
		on_closed_remote(ss, id_dir(s->id));
	if (ss->last == s)
		ss->last = NULL;
	RB_REMOVE(stream_tree, &ss->tree, s);
	ss->count--;
	stream_fini(s);
	mem_free(s);
	return true;
}

void streams_repeat_blocked(struct streams *ss)
{
	struct stream *s;
	RB_FOREACH(s, stream_tree, &ss->tree) {
		if (!stream_is_blocked(s))
			continue;
		s->want |= STREAM_WANT_BLOCKED;
		streams_update(ss, s);
	}
	if (!TAILQ_EMPTY(&ss->stalled))
		ss->want_data_blocked = true;
}
