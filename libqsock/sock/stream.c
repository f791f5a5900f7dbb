/* The life of a stream behind its descriptor: opened here or arrived, each half
 * until it is done, cut or lost, and how the end looks to the application. The bytes
 * themselves are moved by stream_drain.c and stream_fill.c.
 *
 * Only side_work and the entry points (events, commands) free streams; what drain and
 * fill find out is written to the halves, and settle() draws the conclusion. RFC 9000 2, 3 */
#include "sock/engine_side.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

static void ready(struct source *src, uint32_t events);

static struct sstream *sstream_new(struct sconn *c)
{
	struct sstream *s = mem_zalloc(sizeof(*s));
	if (!s)
		return NULL;
	s->conn = c;
	s->source.fd = s->app_end = -1;
	s->head_sent = true;		/* the filler byte counts as forwarded */
	s->obj.kind = SOCK_STREAMOBJ;
	s->obj.engine = c->side->engine;
	TAILQ_INSERT_TAIL(&c->streams, s, link);
	return s;
}

static void drop_app_end(struct sstream *s)
{
	if (s->app_end >= 0)
		close(s->app_end);
	s->app_end = -1;
}

static void unlink_queues(struct sstream *s)
{
	struct sconn *c = s->conn;
	if (s->waits)
		TAILQ_REMOVE(&c->waiting[s->uni], s, queue_link);
	if (s->has_arrived)
		TAILQ_REMOVE(&c->arrived, s, queue_link);
	if (s->in_work)
		TAILQ_REMOVE(&c->work, s, work_link);
	TAILQ_REMOVE(&c->streams, s, link);
}

static void close_end(struct sstream *s, bool clean)
{
	end_close(s->obj.engine, &s->source, clean && !s->emptied);
}

/* The peer has all that there is to send, the end too. */
static bool sent_all(const struct sstream *s)
{
	return s->stream->tx == STX_NONE || s->stream->tx == STX_DATA_RECVD;
}

void sstream_free(struct sstream *s, bool clean)
{
	struct sconn *c = s->conn;
	struct engine *e = s->obj.engine;
	bool delivered = s->tx == HALF_DONE && s->stream && sent_all(s);
	unlink_queues(s);
	close_end(s, clean);
	drop_app_end(s);
	if (s->stream) {
		conn_stream_release(c->conn, s->stream);
		sconn_touch(c);
	}
	if (!s->gone)
		sock_bury(e, s->obj.cookie, &s->obj.error, delivered);
	obj_remove(c->side, &s->obj);
	mem_free(s);
	sconn_defer(c);
}

/* Both halves are over? Then so is the descriptor; its end is clean unless the reader lacks something. The stream stays
 * until all is acknowledged, if there may be somebody to ask about that. May free s. */
static void settle(struct sstream *s)
{
	if (s->tx == HALF_OPEN || s->rx == HALF_OPEN)
		return;
	if (s->tx == HALF_DONE && !s->gone && !s->conn->over && !stream_tx_terminal(s->stream))
		close_end(s, s->rx != HALF_LOST);
	else
		sstream_free(s, s->rx != HALF_LOST);
}

/* Later writes fail with EPIPE while data still flows the other way. What is queued is dropped, or a writer
 * that polls would wait for room for ever. */
static void cut_tx(struct sstream *s)
{
	if (s->tx == HALF_OPEN) {
		shutdown(s->source.fd, SHUT_RD);
		sstream_discard(s);
	}
	s->tx = HALF_CUT;
}

void sstream_cut_rx(struct sstream *s, uint64_t code)
{
	if (s->rx != HALF_OPEN)
		return;
	s->rx = HALF_CUT;
	conn_stream_stop_sending(s->conn->conn, s->stream, code);
	sconn_touch(s->conn);
}

static void queue_work(struct sstream *s)
{
	struct sconn *c = s->conn;
	sconn_defer(c);
	if (s->in_work)
		return;
	s->in_work = true;
	TAILQ_INSERT_TAIL(&c->work, s, work_link);
}

/* ---- opened by the application ------------------------------------------------------ */

static void refuse(struct sconn *c, int end, uint64_t cookie)
{
	struct qsock_error err = { .kind = QSOCK_ERR_LOCAL, .os_errno = ENOBUFS };
	sock_bury(c->side->engine, cookie, &err, false);
	close(end);		/* the byte in it makes that ECONNRESET */
}

static void wait_for_credit(struct sstream *s)
{
	s->waits = true;
	TAILQ_INSERT_TAIL(&s->conn->waiting[s->uni], s, queue_link);
}

void sstream_open(struct sconn *c, int end, uint64_t cookie, bool uni, size_t filler)
{
	struct sstream *s = sstream_new(c);
	bool slow = filler > 0;
	if (!s || obj_add(c->side, &s->obj, SOCK_STREAMOBJ, cookie) ||
	    source_add(c->side->engine, &s->source, end, WATCH_ENGINE_END, ready)) {
		if (s) {
			s->gone = true;	/* buried by refuse */
			s->source.fd = -1;
			sstream_free(s, false);
		}
		refuse(c, end, cookie);
		return;
	}
	s->filler = filler;
	s->uni = uni;
	s->rx = uni ? HALF_DONE : HALF_OPEN;
	if (uni)
		shutdown(end, SHUT_WR);
	if (slow && !credit_take(c->obj.cookie, uni)) {
		wait_for_credit(s);
		/* so that the peer hears STREAMS_BLOCKED */
		if (!conn_stream_credit(c->conn, uni ? DIR_UNI : DIR_BIDI))
			sstream_start(s);
		return;
	}
	if (slow && c->promised[uni])	/* none left: another took without asking */
		c->promised[uni]--;
	if (!sstream_start(s))
		wait_for_credit(s);
}

int sstream_connect(struct sconn *c, struct sfresh *f, size_t filler, bool revert)
{
	uint64_t cookie = f->obj.cookie;
	struct sstream *s = sstream_new(c);
	if (!s || source_move(c->side->engine, &f->source, &s->source, WATCH_ENGINE_END, ready)) {
		if (s) {
			s->gone = true;
			s->source.fd = -1;
			sstream_free(s, false);
		}
		errno = ENOMEM;
		return -1;
	}
	s->abort_on_close = f->abort_on_close;
	s->filler = filler;
	s->revert = revert;
	sfresh_free(f, false);
	obj_add(c->side, &s->obj, SOCK_STREAMOBJ, cookie);
	if (filler || !sstream_start(s))
		wait_for_credit(s);
	return 0;
}

void sstream_requeue(struct sstream *s, struct sconn *to)
{
	unlink_queues(s);
	s->in_work = s->waits = false;
	s->conn = to;
	TAILQ_INSERT_TAIL(&to->streams, s, link);
	wait_for_credit(s);
}

static bool copy_written(struct sconn *to, struct stream *st, struct sendbuf *from)
{
	struct iovec iov;
	int n;
	while (st->sb.end < from->end) {
		size_t got = conn_stream_claim(to->conn, st, (size_t)(from->end - st->sb.end), &iov, 1, &n);
		if (!got)
			return false;
		sendbuf_copy(from, st->sb.end, got, iov.iov_base);
		conn_stream_commit(to->conn, st, got);
	}
	return true;
}

bool sstream_transfer(struct sstream *s, struct sconn *to)
{
	struct stream *old = s->stream, *st;
	if (old->sb.base || conn_stream_open(to->conn, DIR_BIDI, &st))
		return false;
	if (!copy_written(to, st, &old->sb)) {
		conn_stream_reset(to->conn, st, 0);
		conn_stream_release(to->conn, st);
		return false;
	}
	if (s->tx == HALF_DONE)
		conn_stream_finish(to->conn, st);
	else if (!st->sb.end)
		conn_stream_announce(to->conn, st);
	conn_stream_reset(s->conn->conn, old, 0);
	conn_stream_release(s->conn->conn, old);
	sconn_touch(s->conn);
	sconn_defer(s->conn);
	unlink_queues(s);
	s->in_work = false;
	s->stream = st;
	st->app = s;
	s->conn = to;
	s->seen = pool_received(to);
	TAILQ_INSERT_TAIL(&to->streams, s, link);
	sconn_touch(to);
	s->todo_drain = true;
	queue_work(s);
	return true;
}

bool sstream_start(struct sstream *s)
{
	struct sconn *c = s->conn;
	int e = conn_stream_open(c->conn, s->uni ? DIR_UNI : DIR_BIDI, &s->stream);
	sconn_touch(c);
	if (e) {
		s->stream = NULL;
		if (e == QE_NOMEM)	/* no news of credit will come for this */
			sconn_retry_later(c);
		return false;
	}
	s->stream->app = s;
	if (c->pooled)
		s->seen = pool_received(c);
	if (s->waits)
		TAILQ_REMOVE(&c->waiting[s->uni], s, queue_link);
	s->waits = false;
	pair_unblock(s->source.fd, s->filler);
	s->filler = 0;
	sstream_drain(s);
	if (s->tx == HALF_OPEN && !s->stream->sb.end)
		conn_stream_announce(c->conn, s->stream);
	if (s->gone)
		sstream_cut_rx(s, 0);
	queue_work(s);		/* to be settled, if the application has gone already */
	return true;
}

/* ---- opened by the peer ------------------------------------------------------------- */

/* Nobody will take it: an end without a reset would look like an answer. */
void sstream_refuse(struct sstream *s)
{
	conn_stream_reset(s->conn->conn, s->stream, 0);
	sstream_free(s, false);
}

void sstream_arrived(struct sconn *c, struct stream *st)
{
	bool wanted = c->pooled ? c->acceptor != NULL : !c->gone;
	struct sstream *s = wanted ? sstream_new(c) : NULL;
	if (!s) {
		conn_stream_reset(c->conn, st, 0);
		conn_stream_release(c->conn, st);
		sconn_touch(c);
		return;
	}
	s->stream = st;
	st->app = s;
	s->uni = stream_is_uni(st->id);
	if (s->uni)
		s->tx = HALF_DONE;
	s->has_arrived = true;
	TAILQ_INSERT_TAIL(&c->arrived, s, queue_link);
}

static void on_stopped(struct sstream *s)
{
	if (s->tx != HALF_OPEN)
		return;
	s->obj.error = (struct qsock_error){ .kind = QSOCK_ERR_STOP_SENDING, .by_peer = 1, .os_errno = EPIPE,
					     .code = s->stream->peer_stop_code };
	cut_tx(s);
}

static int make_end(struct sstream *s)
{
	uint64_t cookie;
	int fd[2];
	if (pair_make(fd, SOCK_CLOEXEC, &cookie))
		return -1;
	if (obj_add(s->conn->side, &s->obj, SOCK_STREAMOBJ, cookie) ||
	    source_add(s->obj.engine, &s->source, fd[1], WATCH_ENGINE_END, ready)) {
		obj_remove(s->conn->side, &s->obj);
		s->source.fd = -1;
		close(fd[0]);
		close(fd[1]);
		return -1;
	}
	s->source.sole = true;
	s->app_end = fd[0];
	if (s->uni)
		shutdown(fd[1], SHUT_RD);
	return 0;
}

static int post(const struct sstream *s)
{
	const struct sconn *c = s->conn;
	struct record r = { .type = RECORD_STREAM, .cookie = s->obj.cookie, .stream_id = (int64_t)s->stream->id };
	if (c->acceptor) {
		r.type = RECORD_ACCEPTED;
		r.peer = c->remote;
		r.local = c->local;
	}
	return mailbox_send(c->acceptor ? c->acceptor->source.fd : c->source.fd, &r, s->app_end, MSG_DONTWAIT);
}

/* Who takes it waits for the byte that says that our copy is closed, and that comes with what there is to read. */
int sstream_deliver(struct sstream *s)
{
	if (s->source.fd < 0 && make_end(s))
		return -1;
	if (post(s)) {
		if (errno != EPIPE)
			return -1;
		/* The application shut its end: it wants no streams. */
		if (s->conn->acceptor)
			slisten_shut(s->conn->acceptor);
		else
			sstream_refuse(s);
		return 0;
	}
	drop_app_end(s);
	TAILQ_REMOVE(&s->conn->arrived, s, queue_link);
	s->has_arrived = false;
	s->owes_go = true;
	if (s->stream->peer_stopped)
		on_stopped(s);
	if (s->conn->over) {
		sstream_lost(s);
	} else {
		sstream_fill(s);
		settle(s);
	}
	return 0;
}

/* ---- events ------------------------------------------------------------------------------ */

void sstream_event(struct sstream *s, uint8_t events)
{
	if (!s->stream || (s->has_arrived && s->source.fd < 0))
		return;		/* deliver looks for itself */
	s->todo_fill |= (events & (STREAM_EV_READABLE | STREAM_EV_RESET)) != 0;
	s->todo_drain |= (events & STREAM_EV_WRITABLE) != 0;
	s->stopped |= (events & STREAM_EV_STOPPED) != 0;
	queue_work(s);
}

void sstream_work(struct sstream *s)
{
	if (s->todo_fill)
		sstream_fill(s);
	if (s->stopped)
		on_stopped(s);
	if (s->todo_drain)
		sstream_drain(s);
	s->todo_fill = s->todo_drain = s->stopped = false;
	if (!s->has_arrived)
		settle(s);
}

/* The kernel tells by this error that there were bytes in the queue of the end that was closed. */
static bool left_unread(const struct sstream *s)
{
	int err = 0;
	socklen_t len = sizeof(err);
	return !getsockopt(s->source.fd, SOL_SOCKET, SO_ERROR, &err, &len) && err == ECONNRESET;
}

/* The application closed its last copy. What it wrote is still delivered; unless it never could write. With our own
 * half shut already, the end of the other may be a shutdown as well: then it may ask about the stream later. */
static void on_gone(struct sstream *s)
{
	s->gone = s->rx != HALF_DONE;
	s->shut = true;
	if (s->conn->pooled)
		s->aborted = s->abort_on_close || left_unread(s);
	if (!s->stream) {
		if (s->filler)
			sstream_free(s, true);
		return;
	}
	if (!s->conn->pooled || s->aborted)
		sstream_cut_rx(s, 0);	/* else only when something comes, as TCP resets then */
	sstream_drain(s);
	settle(s);
}

static void ready(struct source *src, uint32_t events)
{
	struct sstream *s = owner_of(src, struct sstream, source);
	struct side *side = s->conn->side;
	if (events & EPOLLRDHUP)
		s->shut = true;
	if (events & EPOLLHUP) {
		on_gone(s);
	} else if (s->stream && !s->has_arrived) {
		if (events & EPOLLOUT) {
			s->want_out = false;
			sstream_fill(s);
		}
		if (events & (EPOLLIN | EPOLLRDHUP))
			sstream_drain(s);
		settle(s);
	}
	side_work(side);
}

/* ---- ends that come from elsewhere ----------------------------------------------------------- */

/* A connect that failed, and somebody waits for its result: the socket may be used once more. */
static bool revert(struct sstream *s)
{
	struct sconn *c = s->conn;
	uint64_t cookie = s->obj.cookie;
	int end = s->source.fd;
	if (!s->revert)
		return false;
	obj_remove(c->side, &s->obj);
	if (sfresh_revert(c->side, &s->source, cookie, c->port, &c->cause)) {
		obj_add(c->side, &s->obj, SOCK_STREAMOBJ, cookie);
		return false;
	}
	pair_unblock(end, s->filler);
	s->gone = true;		/* nothing to bury */
	sstream_free(s, true);
	return true;
}

/* The peer has said all and the connection has ended in good order: with TCP its end would be gone in silence, and only
 * what is written from now on would be answered by an error. */
static bool part(struct sstream *s)
{
	s->parted = s->conn->pooled && s->rx == HALF_DONE && s->tx == HALF_OPEN &&
		    s->conn->obj.error.kind == QSOCK_ERR_NONE;
	return s->parted;
}

void sstream_lost(struct sstream *s)
{
	if (s->waits) {
		s->obj.error = s->conn->cause;
		if (!revert(s))
			sstream_free(s, false);
		return;
	}
	if (s->has_arrived)
		return;		/* after it was delivered */
	sstream_fill(s);
	if (part(s))
		return;
	if (s->tx == HALF_OPEN) {
		s->obj.error = s->conn->cause;
		cut_tx(s);
	}
	settle(s);
}

void sstream_stop(struct sstream *s)
{
	s->shut = true;
	if (s->filler) {
		sstream_free(s, false);
	} else if (s->stream && s->source.fd >= 0 && !s->has_arrived) {
		sstream_drain(s);
		settle(s);
	}
}

int sstream_reset(struct sstream *s, uint64_t code)
{
	if (!s->stream || conn_stream_reset(s->conn->conn, s->stream, code)) {
		errno = EPIPE;
		return -1;
	}
	s->obj.error = (struct qsock_error){ .kind = QSOCK_ERR_STREAM_RESET, .os_errno = EPIPE, .code = code };
	cut_tx(s);
	sconn_touch(s->conn);
	settle(s);
	return 0;
}

/* What was read from QUIC already can still be read; then the application waits for an end that is ECONNRESET. */
int sstream_stop_sending(struct sstream *s, uint64_t code)
{
	if (!s->stream || s->rx != HALF_OPEN) {
		errno = EPIPE;
		return -1;
	}
	s->obj.error = (struct qsock_error){ .kind = QSOCK_ERR_STOP_SENDING, .os_errno = ECONNRESET, .code = code };
	sstream_cut_rx(s, code);
	s->rx = HALF_LOST;
	settle(s);
	return 0;
}
