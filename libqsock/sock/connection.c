/* A connection behind its descriptor: the mailbox in which streams travel both
 * ways, the queues of streams that wait for credit or for room in it, and how long
 * the connection lives. It ends when QUIC says so, or gently once the descriptor and
 * all streams are closed and everything is acknowledged. Bytes are stream.c's matter. */
#include "sock/engine_side.h"

#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define RECORDS_PER_TURN 64
#define RECORDS_QUEUED 4096	/* more than a mailbox holds */
#define PATIENCE 200		/* tries to deliver what came before the connection ended, RETRY_US apart */

static void ready(struct source *s, uint32_t events);
static void retry(struct timer *t);
static bool take_records(struct sconn *c, int most);

void sconn_touch(struct sconn *c)
{
	port_touch(c->port->port, c->conn);
}

void sconn_defer(struct sconn *c)
{
	if (c->in_work)
		return;
	c->in_work = true;
	TAILQ_INSERT_TAIL(&c->side->work, c, work_link);
}

void sconn_retry_later(struct sconn *c)
{
	if (!c->retry.set)
		timer_set(c->side->engine, &c->retry, engine_now_us(c->side->engine) + RETRY_US);
}

void sstream_retry_later(struct sstream *s)
{
	s->retry = true;
	sconn_retry_later(s->conn);
}

/* ---- birth and death ------------------------------------------------------------ */

static struct sconn *sconn_new(struct sport *p)
{
	struct sconn *c = mem_zalloc(sizeof(*c));
	if (!c)
		return NULL;
	c->side = p->side;
	c->port = p;
	c->obj.engine = p->side->engine;
	c->obj.kind = SOCK_CONNECTION;
	c->source.fd = c->app_end = -1;
	c->retry.fired = retry;
	TAILQ_INIT(&c->streams);
	TAILQ_INIT(&c->waiting[DIR_BIDI]);
	TAILQ_INIT(&c->waiting[DIR_UNI]);
	TAILQ_INIT(&c->arrived);
	TAILQ_INIT(&c->work);
	return c;
}

static void attach(struct sconn *c, struct conn *conn)
{
	c->conn = conn;
	conn_set_app(conn, c);
	sport_get(c->port);
	TAILQ_INSERT_TAIL(&c->side->conns, c, link);
}

struct sconn *sconn_accepted(struct sport *p, struct conn *conn)
{
	struct sconn *c = sconn_new(p);
	if (!c)
		return NULL;
	attach(c, conn);
	c->linger_ms = p->listener->cfg->linger_ms;
	c->established = true;
	return c;
}

int sconn_make_end(struct sconn *c)
{
	uint64_t cookie;
	int fd[2];
	if (pair_make(fd, SOCK_CLOEXEC, &cookie))
		return -1;
	if (obj_add(c->side, &c->obj, SOCK_CONNECTION, cookie) ||
	    source_add(c->side->engine, &c->source, fd[1], WATCH_ENGINE_END, ready)) {
		obj_remove(c->side, &c->obj);
		c->source.fd = -1;
		close(fd[0]);
		close(fd[1]);
		return -1;
	}
	c->source.sole = true;
	c->app_end = fd[0];
	if (!c->over) {
		c->credit_news = true;
		sconn_defer(c);
	}
	return 0;
}

static struct conn *start_client(struct sconn *c, const struct addr *remote)
{
	uint8_t token[1024];
	size_t token_len, session_len;
	struct sock_config *cfg = c->cfg;
	struct engine *e = c->side->engine;
	const uint8_t *p = sessions_take_token(e, cfg, c->server_name, remote, &token_len);
	if (token_len > sizeof(token))
		token_len = 0;
	if (token_len)
		memcpy(token, p, token_len);
	p = sessions_find(e, cfg, c->server_name, remote, &session_len);
	cfg->client.limits.pool = c->side->pool;
	return endpoint_connect(port_endpoint(c->port->port), &cfg->client, port_local(c->port->port), remote,
				c->server_name, token, token_len, p, session_len, engine_now_us(e));
}

/* Without a reference of cfg yet. */
static struct sconn *sconn_client(struct sport *p, const struct addr *remote, const char *server_name,
				  struct sock_config *cfg)
{
	struct conn *conn = NULL;
	struct sconn *c = sconn_new(p);
	if (!c)
		return NULL;
	c->cfg = cfg;
	c->linger_ms = cfg->linger_ms;
	c->remote = *remote;
	c->server_name = server_name ? mem_strdup(server_name) : NULL;
	if (c->server_name || !server_name)
		conn = start_client(c, remote);
	if (conn) {
		attach(c, conn);
		return c;
	}
	mem_free(c->server_name);
	mem_free(c);
	return NULL;
}

struct sconn *sconn_dial(struct sport *p, const struct addr *remote, const char *server_name, struct sock_config *cfg)
{
	struct sconn *c = sconn_client(p, remote, server_name, cfg);
	if (!c)
		return NULL;
	sock_config_ref(cfg);
	c->pooled = true;
	sconn_defer(c);
	sconn_touch(c);
	return c;
}

int sconn_connect(struct sfresh *f, size_t filler, const struct addr *remote, const char *server_name,
		  struct sock_config *cfg)
{
	struct engine *e = f->obj.engine;
	uint64_t cookie = f->obj.cookie;
	struct sconn *c = sconn_client(f->port, remote, server_name, cfg);
	if (!c || source_move(e, &f->source, &c->source, WATCH_ENGINE_END, ready)) {
		if (c) {
			c->cfg = NULL;		/* the reference and the end stay where they are */
			c->gone = true;
			c->source.fd = -1;
			sconn_free(c);
		}
		errno = ENOMEM;
		return -1;
	}
	c->filler = filler;
	sfresh_free(f, false);
	obj_add(c->side, &c->obj, SOCK_CONNECTION, cookie);
	sconn_touch(c);
	return 0;
}

void sconn_free(struct sconn *c)
{
	struct side *side = c->side;
	struct sstream *s;
	while ((s = TAILQ_FIRST(&c->streams)))
		sstream_free(s, false);
	if (c->in_work)
		TAILQ_REMOVE(&side->work, c, work_link);
	TAILQ_REMOVE(&side->conns, c, link);
	timer_clear(side->engine, &c->retry);
	timer_clear(side->engine, &c->linger);
	timer_clear(side->engine, &c->probe);
	credit_forget(c->obj.cookie);
	end_close(side->engine, &c->source, false);
	if (c->app_end >= 0)
		close(c->app_end);
	if (!c->gone)
		sock_bury(side->engine, c->obj.cookie, &c->obj.error, false);
	obj_remove(side, &c->obj);
	endpoint_drop(port_endpoint(c->port->port), c->conn);
	sport_put(c->port);
	sock_config_put(c->cfg);
	mem_free(c->server_name);
	mem_free(c);
}

bool sconn_delivered(struct sconn *c)
{
	struct sstream *s;
	if (c->over)
		return true;
	TAILQ_FOREACH(s, &c->streams, link)
		if (s->tx == HALF_OPEN && s->source.fd >= 0 && !s->filler && !s->has_arrived)
			return false;
	return conn_all_acked(c->conn);
}

/* Nothing to deliver to or from the application any more: say goodbye, or wait until the peer has it all. */
void sconn_close_gently(struct sconn *c)
{
	if (!conn_all_acked(c->conn)) {
		conn_notify_acked(c->conn);
		return;
	}
	conn_close(c->conn, 0, "", 0, engine_now_us(c->side->engine));
	sconn_touch(c);
}

/* The application has the other end, and nothing may come into it before the byte that it owes (pair_go). */
static bool has_mailbox(const struct sconn *c)
{
	return c->source.fd >= 0 && !c->listener && !c->owes_go;
}

/* Streams not yet fetched lie in the mailbox or wait for room there: the end of the connection comes after them. Who
 * opened one meanwhile is told the cause; and a record left over would make a clean end look like another. */
static void close_mailbox(struct sconn *c)
{
	if (!has_mailbox(c) || !TAILQ_EMPTY(&c->arrived))
		return;
	take_records(c, RECORDS_QUEUED);
	end_close(c->side->engine, &c->source, c->obj.error.kind == QSOCK_ERR_NONE);
}

void sconn_check(struct sconn *c)
{
	if (c->over) {
		close_mailbox(c);
		if (c->drained && c->source.fd < 0 && !c->listener && TAILQ_EMPTY(&c->streams))
			sconn_free(c);
	} else if (c->pooled) {
		pool_check(c);
	} else if (c->gone && TAILQ_EMPTY(&c->streams)) {
		sconn_close_gently(c);
	}
}

void sconn_abandon(struct sconn *c)
{
	struct sstream *s;
	c->gone = true;
	end_close(c->side->engine, &c->source, true);
	if (c->app_end >= 0)
		close(c->app_end);
	c->app_end = -1;
	credit_forget(c->obj.cookie);
	while ((s = TAILQ_FIRST(&c->arrived)))
		sstream_refuse(s);
	sconn_check(c);
}

/* ---- streams into the mailbox and out of it ------------------------------------------ */

void sconn_go(struct sconn *c)
{
	c->owes_go = c->source.fd >= 0 && pair_go(c->source.fd) && errno != EPIPE;
	if (c->owes_go)
		sconn_retry_later(c);
}

/* The connection has ended, and for the streams that came last there is no descriptor. There may never be one while
 * connections that are over keep theirs to wait for it: better to tell the end, and that it is not a clean one. */
static void give_up_arrived(struct sconn *c)
{
	struct sstream *s;
	while ((s = TAILQ_FIRST(&c->arrived)))
		sstream_refuse(s);
	if (c->obj.error.kind == QSOCK_ERR_NONE)
		c->obj.error = (struct qsock_error){ .kind = QSOCK_ERR_LOCAL, .os_errno = EMFILE,
						     .reason = "no descriptors for the streams that came last" };
}

static void deliver_arrived(struct sconn *c)
{
	struct engine *e = c->side->engine;
	struct sstream *s;
	if (c->acceptor ? c->acceptor->source.interest & EPOLLOUT : !has_mailbox(c) || c->want_out)
		return;
	while ((s = TAILQ_FIRST(&c->arrived))) {
		if (!sstream_deliver(s))
			continue;
		if (errno == EAGAIN && c->acceptor) {
			slisten_wait_room(c->acceptor);
		} else if (errno == EAGAIN) {
			c->want_out = true;
			source_set(e, &c->source, WATCH_ENGINE_END | EPOLLOUT);
		} else if (c->over && ++c->tries > PATIENCE) {
			give_up_arrived(c);
		} else {
			sconn_retry_later(c);
		}
		return;
	}
	if (c->source.interest & EPOLLOUT)
		source_set(e, &c->source, WATCH_ENGINE_END);
}

/* Whoever has the descriptor may write there: what came with the record need not be what we would have sent. */
static void on_record(struct sconn *c, const struct record *r, int end)
{
	bool slow = r->flags & RECORD_OPEN_SLOW, uni = r->flags & QSOCK_UNI;
	if (r->type != RECORD_OPEN || end < 0 || !pair_like(end) || c->over || c->side->phase != PHASE_RUNNING) {
		if (c->over)
			sock_bury(c->side->engine, r->cookie, &c->cause, false);
		if (end >= 0)
			close(end);
		return;
	}
	if (!slow && c->promised[uni])
		c->promised[uni]--;
	sstream_open(c, end, r->cookie, uni, slow ? r->filler : 0);
}

static bool holds_more(int fd)
{
	int queued = 0;
	return !ioctl(fd, FIONREAD, &queued) && queued > 1;
}

/* Less than a record was written there by a program that does not know what it holds: drop it. */
static void drop_garbage(int fd)
{
	char sink[RECORD_SIZE];
	int queued = 0;
	if (!ioctl(fd, FIONREAD, &queued) && queued > 1)
		recv(fd, sink, (size_t)queued - 1 < sizeof(sink) ? (size_t)queued - 1 : sizeof(sink), MSG_DONTWAIT);
}

/* At most so many, because who writes without end must not hold up the others. false: some are left, and the source
 * will be ready anew for them, or the retry looks. */
static bool take_records(struct sconn *c, int most)
{
	struct record r;
	int end;
	bool more = true;
	if (!c->established || c->source.fd < 0)
		return true;	/* connecting: there is filler in it */
	while (more && most--) {
		/* Without any, what has come to its end must end all the same: that is what makes room. */
		if (!engine_has_slot(c->side->engine) && holds_more(c->source.fd)) {
			sconn_retry_later(c);
			return false;
		}
		int got = mailbox_recv_retaining(c->source.fd, &r, &end, &more);
		if (got > 0)
			on_record(c, &r, end);
		if (got >= 0)
			continue;
		if (errno == EAGAIN)
			return true;
		if (errno != EPROTO) {
			sconn_retry_later(c);
			return false;
		}
		drop_garbage(c->source.fd);
		return true;
	}
	if (more)
		source_set(c->side->engine, &c->source, c->source.interest);
	return !more;
}

void side_take_records(struct side *side)
{
	struct sconn *c;
	TAILQ_FOREACH(c, &side->conns, link)
		take_records(c, RECORDS_QUEUED);
	side_work(side);
}

static void ready(struct source *src, uint32_t events)
{
	struct sconn *c = owner_of(src, struct sconn, source);
	struct side *side = c->side;
	c->want_out = false;	/* if that was not it, the next attempt sets it again */
	c->hung_up |= (events & EPOLLHUP) != 0;
	if (take_records(c, RECORDS_PER_TURN) && c->hung_up)
		sconn_abandon(c);
	else
		sconn_defer(c);
	side_work(side);
}

static void retry(struct timer *t)
{
	struct sconn *c = owner_of(t, struct sconn, retry);
	struct side *side = c->side;
	struct sstream *s;
	TAILQ_FOREACH(s, &c->streams, link) {
		if (s->retry)
			sstream_event(s, STREAM_EV_WRITABLE | STREAM_EV_READABLE);
		s->retry = false;
	}
	if (take_records(c, RECORDS_PER_TURN) && c->hung_up && !c->gone) {
		sconn_abandon(c);
		side_work(side);
		return;
	}
	c->credit_news = true;
	sconn_defer(c);
	side_work(side);
}

/* ---- credit --------------------------------------------------------------------------- */

/* Those who wait come first; what is left is promised to callers, or kept for those who ask the slow way. */
static void spread_credit(struct sconn *c, int dir)
{
	struct sstream *s;
	uint64_t credit;
	while ((credit = conn_stream_credit(c->conn, dir)) > c->promised[dir] &&
	       (s = TAILQ_FIRST(&c->waiting[dir])) && sstream_start(s))
		;
	if (credit <= c->promised[dir] || !TAILQ_EMPTY(&c->waiting[dir]))
		return;
	uint64_t fresh = credit - c->promised[dir];
	if (credit_add(c->obj.cookie, dir == DIR_BIDI ? fresh : 0, dir == DIR_UNI ? fresh : 0))
		c->promised[dir] += fresh;
	else
		sconn_retry_later(c);
}

/* ---- what QUIC says --------------------------------------------------------------------- */

static void on_established(struct sconn *c)
{
	if (c->pooled && !pool_established(c))
		return;
	c->established = true;
	c->credit_news = true;
	if (c->pooled)
		pool_started(c);
	if (c->source.fd >= 0)
		pair_unblock(c->source.fd, c->filler);
}

static void on_closed(struct sconn *c)
{
	struct sstream *s, *next;
	c->over = true;
	credit_forget(c->obj.cookie);
	error_of_conn(conn_error(c->conn), c->established, &c->cause);
	/* A goodbye with code 0 is no failure of the connection, only of streams it cuts short. */
	if (c->cause.kind != QSOCK_ERR_APPLICATION || c->cause.code || !c->established)
		c->obj.error = c->cause;
	if (c->pooled)
		pool_closed(c);
	TAILQ_FOREACH_SAFE(s, &c->streams, link, next)
		if (!pool_keeps(s))
			sstream_lost(s);
}

void sconn_event(struct sconn *c, const struct conn_event *ev)
{
	struct conn_info info;
	switch (ev->type) {
	case CONN_EV_ESTABLISHED:
		on_established(c);
		break;
	case CONN_EV_STREAM_OPENED:
		sstream_arrived(c, ev->stream);
		break;
	case CONN_EV_STREAM:
		if (ev->stream->app)
			sstream_event(ev->stream->app, ev->stream_events);
		break;
	case CONN_EV_STREAM_CREDIT:
		c->credit_news = true;
		break;
	case CONN_EV_SESSION:
	case CONN_EV_TOKEN:
		if (c->retiring)
			return;		/* perhaps of a server that is not to be trusted */
		conn_info(c->conn, &info);
		(ev->type == CONN_EV_TOKEN ? sessions_store_token : sessions_store)
			(c->side->engine, c->cfg, c->server_name, &info.remote, ev->data, ev->len);
		return;
	case CONN_EV_CLOSED:
		on_closed(c);
		break;
	case CONN_EV_DRAINED:
		c->drained = true;
		break;
	default:	/* CONFIRMED, ALL_ACKED, and ids, which are the endpoint's */
		break;
	}
	sconn_defer(c);
}

static void work(struct sconn *c)
{
	struct sstream *s;
	while ((s = TAILQ_FIRST(&c->work))) {
		TAILQ_REMOVE(&c->work, s, work_link);
		s->in_work = false;
		sstream_work(s);
	}
	if (c->pooled && c->established && !c->over && !TAILQ_EMPTY(&c->waiting[DIR_BIDI]))
		pool_work(c);
	if (c->credit_news && !c->over && c->obj.cookie) {
		c->credit_news = false;
		spread_credit(c, DIR_BIDI);
		spread_credit(c, DIR_UNI);
	}
	if (c->owes_go)
		sconn_go(c);
	deliver_arrived(c);
	sconn_check(c);
}

void side_work(struct side *side)
{
	struct sconn *c;
	while ((c = TAILQ_FIRST(&side->work))) {
		TAILQ_REMOVE(&side->work, c, work_link);
		c->in_work = false;
		work(c);
	}
}
