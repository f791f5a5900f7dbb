/* Listeners: established connections become records in a mailbox that any process
 * holding the descriptor may take from. What does not fit there waits here, at
 * most backlog of them; then newcomers are refused. */
#include "sock/engine_side.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"

#define BACKLOG_MAX 4096
#define RECORD_COST 832		/* bytes of socket buffer one record with a descriptor takes */
#define MAILBOX_MIN (208 * 1024)

static void set_refusing(struct slisten *l)
{
	endpoint_refuse(port_endpoint(l->port->port), l->queued >= l->backlog);
}

static void unqueue(struct slisten *l, struct sconn *c)
{
	TAILQ_REMOVE(&l->queue, c, queue_link);
	l->queued--;
	c->listener = NULL;
	set_refusing(l);
}

/* The descriptor's own end stays with the engine, the other travels. 0 or -1/errno. */
static int send_one(struct slisten *l, struct sconn *c)
{
	struct record r = { .type = RECORD_ACCEPTED };
	struct conn_info info;
	if (c->source.fd < 0 && sconn_make_end(c))
		return -1;
	conn_info(c->conn, &info);
	r.cookie = c->obj.cookie;
	r.peer = info.remote;
	if (mailbox_send(l->source.fd, &r, c->app_end, MSG_DONTWAIT))
		return -1;
	close(c->app_end);
	c->app_end = -1;
	sconn_go(c);
	return 0;
}

void slisten_shut(struct slisten *l)
{
	sock_bury(l->obj.engine, l->obj.cookie, &l->obj.error, false);
	slisten_free(l, true);
}

/* A connection that ends while it waits is delivered all the same: its streams may hold data. May free l: when the
 * application shut its end for reading, it accepts no more. */
static void deliver(struct slisten *l)
{
	struct engine *e = l->obj.engine;
	struct sconn *c;
	while ((c = TAILQ_FIRST(&l->queue))) {
		if (send_one(l, c)) {
			if (errno == EAGAIN) {
				source_set(e, &l->source, WATCH_ENGINE_END | EPOLLOUT);
			} else if (errno == EPIPE) {
				slisten_shut(l);
			} else {
				timer_set(e, &l->retry, engine_now_us(e) + RETRY_US);
			}
			return;
		}
		unqueue(l, c);
		sconn_defer(c);		/* streams that came meanwhile */
	}
	if (l->source.interest & EPOLLOUT)
		source_set(e, &l->source, WATCH_ENGINE_END);
}

void slisten_wait_room(struct slisten *l)
{
	source_set(l->obj.engine, &l->source, WATCH_ENGINE_END | EPOLLOUT);
}

/* Streams wait with their connections. */
static void has_room(struct slisten *l)
{
	struct sconn *c;
	source_set(l->obj.engine, &l->source, WATCH_ENGINE_END);
	TAILQ_FOREACH(c, &l->port->side->conns, link)
		if (c->acceptor == l && !TAILQ_EMPTY(&c->arrived))
			sconn_defer(c);
}

static void retry(struct timer *t)
{
	struct slisten *l = owner_of(t, struct slisten, retry);
	struct side *side = l->port->side;
	deliver(l);
	side_work(side);
}

static void ready(struct source *s, uint32_t events)
{
	struct slisten *l = owner_of(s, struct slisten, source);
	struct side *side = l->port->side;
	if (events & EPOLLHUP)
		slisten_free(l, true);
	else if (events & EPOLLOUT && l->streams)
		has_room(l);
	else if (events & EPOLLOUT)
		deliver(l);
	side_work(side);
}

int slisten_start(struct sfresh *f, struct sock_config *cfg, int backlog, bool streams)
{
	struct engine *e = f->obj.engine;
	struct side *side = side_of(e);
	struct slisten *l = mem_zalloc(sizeof(*l));
	uint64_t cookie = f->obj.cookie;
	if (!l) {
		errno = ENOMEM;
		return -1;
	}
	const struct conn_config *conn_cfg = sport_keep_config(f->port, cfg);
	if (!conn_cfg || source_move(e, &f->source, &l->source, WATCH_ENGINE_END, ready)) {
		mem_free(l);
		return -1;
	}
	l->port = sport_get(f->port);
	l->cfg = cfg;
	l->streams = streams;
	l->backlog = backlog < 1 ? 1 : backlog > BACKLOG_MAX ? BACKLOG_MAX : (unsigned)backlog;
	TAILQ_INIT(&l->queue);
	l->retry.fired = retry;
	sfresh_free(f, false);
	obj_add(side, &l->obj, SOCK_LISTENER, cookie);
	int size = (int)l->backlog * RECORD_COST / 2;	/* the kernel doubles it */
	if (size > MAILBOX_MIN)
		setsockopt(l->source.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	l->port->listener = l;
	endpoint_retry(port_endpoint(l->port->port), cfg->endpoint.retry);
	endpoint_listen(port_endpoint(l->port->port), conn_cfg);
	set_refusing(l);
	if (streams)
		pool_adopt(l);
	return 0;
}

void slisten_on_established(struct sport *p, struct conn *conn)
{
	struct slisten *l = p->listener;
	struct sconn *c = l && p->side->phase == PHASE_RUNNING ? sconn_accepted(p, conn) : NULL;
	if (!c) {
		conn_close_transport(conn, QE_CONNECTION_REFUSED, "nobody accepts", engine_now_us(p->side->engine));
		port_touch(p->port, conn);
		return;
	}
	if (l->streams) {
		pool_accepted(c, l);
		return;
	}
	c->listener = l;
	TAILQ_INSERT_TAIL(&l->queue, c, queue_link);
	l->queued++;
	set_refusing(l);
	if (TAILQ_FIRST(&l->queue) == c)
		deliver(l);
}

/* Connections in the mailbox end with it, as if they were accepted and closed; so do those that wait. */
void slisten_free(struct slisten *l, bool clean)
{
	struct engine *e = l->obj.engine;
	struct sport *p = l->port;
	struct sconn *c;
	endpoint_listen(port_endpoint(p->port), NULL);
	p->listener = NULL;
	timer_clear(e, &l->retry);
	while ((c = TAILQ_FIRST(&l->queue))) {
		unqueue(l, c);
		sconn_abandon(c);
	}
	endpoint_refuse(port_endpoint(p->port), true);	/* as long as connections keep the port */
	pool_forget_acceptor(p->side, l);
	end_close(e, &l->source, clean);
	obj_remove(p->side, &l->obj);
	sock_config_put(l->cfg);
	mem_free(l);
	sport_put(p);
}
