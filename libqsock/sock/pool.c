/* Connections without a descriptor, for programs made for TCP: every socket is one
 * stream, and those that go to the same server share connections. Decides which
 * connection a new stream goes to, when another one is made, and how long one stays
 * when its streams are gone. On the server's side: whose streams they are.
 *
 * A server that vanished without a word (and may be back already) is found out late. So
 * a connection on which a stream was opened and nothing came back soon is suspected: another
 * one is tried, and if the server answers that one, streams of which it cannot have seen
 * anything go over, with all that was written to them. */
#include "sock/engine_side.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

#define PROBE_MIN_US 500000	/* an answer is due after this, or */
#define PROBE_RTTS 4

static struct pool_hooks hooks;

void pool_set_hooks(const struct pool_hooks *h)
{
	hooks = *h;
}

static void tell(struct sconn *c, bool shared, const struct qsock_error *err)
{
	if (hooks.outcome)
		hooks.outcome(&c->local, &c->remote, c->server_name, shared, err);
}

/* ---- which connection -------------------------------------------------------------- */

static bool same_name(const char *a, const char *b)
{
	return a == b || (a && b && !strcmp(a, b));
}

static bool same_server(const struct sconn *a, const struct sport *port, const struct addr *remote, const char *name,
			const struct sock_config *cfg)
{
	return a->pooled && a->cfg == cfg && a->port == port && addr_equal(&a->remote, remote) &&
	       same_name(a->server_name, name);
}

static uint64_t waiting(const struct sconn *c)
{
	const struct sstream *s;
	uint64_t n = 0;
	TAILQ_FOREACH(s, &c->waiting[DIR_BIDI], queue_link)
		n++;
	return n;
}

static bool has_room(const struct sconn *c)
{
	return c->established && TAILQ_EMPTY(&c->waiting[DIR_BIDI]) && conn_stream_credit(c->conn, DIR_BIDI);
}

/* One with room; else one whose handshake is under way; else a new one, up to the most there may be; else where the
 * fewest wait. NULL: no memory. */
static struct sconn *choose(struct side *side, struct sport *port, const struct addr *remote, const char *name,
			    struct sock_config *cfg)
{
	struct sconn *c, *young = NULL, *least = NULL;
	unsigned count = 0;
	TAILQ_FOREACH(c, &side->conns, link) {
		if (c->over || c->retiring || !same_server(c, port, remote, name, cfg))
			continue;
		if (has_room(c))
			return c;
		if (!c->established)
			young = c;
		else if (!least || waiting(c) < waiting(least))
			least = c;
		count++;
	}
	if (young)
		return young;
	return count < POOL_CONNS_MAX ? sconn_dial(port, remote, name, cfg) : least;
}

/* ---- servers that vanished ---------------------------------------------------------- */

static struct conn_info info_of(const struct sconn *c)
{
	struct conn_info info;
	conn_info(c->conn, &info);
	return info;
}

uint64_t pool_received(const struct sconn *c)
{
	return info_of(c).packets_received;
}

/* Nothing came since s was opened: nothing of it can be acknowledged or have been answered. */
static bool unheard(const struct sstream *s, uint64_t received)
{
	return s->stream && s->seen == received && (s->tx == HALF_OPEN || s->tx == HALF_DONE) && s->rx == HALF_OPEN;
}

static bool has_unheard(const struct sconn *c, uint64_t received)
{
	const struct sstream *s;
	TAILQ_FOREACH(s, &c->streams, link)
		if (unheard(s, received))
			return true;
	return false;
}

bool pool_keeps(const struct sstream *s)
{
	return s->conn->suspect && unheard(s, s->conn->probe_seen);
}

static void probe_over(struct timer *t);

static void probe(struct sconn *c)
{
	struct engine *e = c->side->engine;
	struct conn_info info = info_of(c);
	uint64_t wait = PROBE_RTTS * info.rtt_us;
	if (c->probe.set)
		return;
	c->probe.fired = probe_over;
	c->probe_seen = info.packets_received;
	timer_set(e, &c->probe, engine_now_us(e) + (wait > PROBE_MIN_US ? wait : PROBE_MIN_US));
}

/* The server answers to: what of old it has not heard, it gets again. */
static void rescue(struct sconn *old, struct sconn *to)
{
	struct sstream *s, *next;
	if (!old->over && pool_received(old) != old->probe_seen) {
		old->suspect = old->retiring = false;
		return;
	}
	TAILQ_FOREACH_SAFE(s, &old->streams, link, next)
		if (pool_keeps(s) && sstream_transfer(s, to))
			probe(to);
}

static void suspect(struct sconn *c)
{
	c->suspect = c->retiring = true;
	c->probe_seen = pool_received(c);
	struct sconn *to = choose(c->side, c->port, &c->remote, c->server_name, c->cfg);
	if (!to)
		c->suspect = false;
	else if (to->established)
		rescue(c, to);
}

static void probe_over(struct timer *t)
{
	struct sconn *c = owner_of(t, struct sconn, probe);
	struct side *side = c->side;
	if (c->over || c->retiring)
		return;
	uint64_t received = pool_received(c);
	if (received == c->probe_seen)
		suspect(c);
	else if (has_unheard(c, received))	/* opened after what came meanwhile */
		probe(c);
	side_work(side);
}

/* There is no server any more. */
static void give_up(struct sconn *old, const struct qsock_error *cause)
{
	struct sstream *s, *next;
	if (!old->over)
		old->cause = *cause;
	TAILQ_FOREACH_SAFE(s, &old->streams, link, next) {
		if (!pool_keeps(s))
			continue;
		s->obj.error = old->cause;
		sstream_free(s, false);
	}
	old->suspect = false;
	sconn_defer(old);
}

/* to is established, or has failed for cause. */
static void settle_suspects(struct sconn *to, const struct qsock_error *cause)
{
	struct sconn *c;
	TAILQ_FOREACH(c, &to->side->conns, link) {
		if (c == to || !c->suspect || !same_server(c, to->port, &to->remote, to->server_name, to->cfg))
			continue;
		if (cause)
			give_up(c, cause);
		else
			rescue(c, to);
	}
}

/* ---- connecting -------------------------------------------------------------------- */

static int wait_on(struct sconn *c, struct sfresh *f, int app_fd, bool revert)
{
	int engine_end = f->source.fd;
	int app_end = engine_take_fd(c->side->engine, app_fd);
	if (app_end < 0)
		return -1;
	ssize_t filler = pair_block(app_end, PAIR_BUFFER);
	int ret = filler > 0 && !sstream_connect(c, f, (size_t)filler, revert) ? 1 : -1;
	int saved = errno;
	close(app_end);
	if (ret < 0 && filler > 0)
		pair_unblock(engine_end, (size_t)filler);
	errno = saved;
	return ret;
}

int pool_connect(struct sfresh *f, int app_fd, const struct addr *remote, const char *name, struct sock_config *cfg,
		 bool revert)
{
	struct side *side = side_of(f->obj.engine);
	struct sconn *c = choose(side, f->port, remote, name, cfg);
	if (!c) {
		errno = ENOMEM;
		return -1;
	}
	if (!has_room(c))
		return wait_on(c, f, app_fd, revert);
	if (sstream_connect(c, f, 0, false))
		return -1;
	probe(c);
	tell(c, true, NULL);
	return 0;
}

/* ---- what becomes of them ------------------------------------------------------------ */

static void learn_names(struct sconn *c)
{
	struct conn_info info;
	conn_info(c->conn, &info);
	c->remote = info.remote;
	if (port_route(c->port->port, &c->remote, &c->local))
		c->local = *port_local(c->port->port);
}

void pool_accepted(struct sconn *c, struct slisten *l)
{
	c->pooled = true;
	c->acceptor = l;
	learn_names(c);
	sconn_defer(c);
}

void pool_adopt(struct slisten *l)
{
	struct sconn *c;
	TAILQ_FOREACH(c, &l->port->side->conns, link)
		if (c->pooled && !c->cfg && !c->over && c->port == l->port)
			c->acceptor = l;
}

void pool_forget_acceptor(struct side *side, struct slisten *l)
{
	struct sconn *c;
	struct sstream *s;
	TAILQ_FOREACH(c, &side->conns, link) {
		if (c->acceptor != l)
			continue;
		c->acceptor = NULL;
		while ((s = TAILQ_FIRST(&c->arrived)))
			sstream_refuse(s);
		sconn_defer(c);
	}
}

bool pool_established(struct sconn *c)
{
	char why[256] = "";
	struct conn_info info;
	struct sstream *s;
	conn_info(c->conn, &info);
	learn_names(c);
	if (hooks.trust && !hooks.trust(&c->remote, c->server_name, &info, why)) {
		c->retiring = true;
		conn_close_transport(c->conn, QE_TLS(42), why, engine_now_us(c->side->engine));	/* bad_certificate */
		sconn_touch(c);
		return false;
	}
	bool shared = false;
	TAILQ_FOREACH(s, &c->waiting[DIR_BIDI], queue_link) {
		tell(c, shared, NULL);
		shared = true;
	}
	return true;
}

void pool_started(struct sconn *c)
{
	settle_suspects(c, NULL);
}

static bool server_vanished(const struct sconn *c)
{
	return c->cause.kind == QSOCK_ERR_STATELESS_RESET || c->cause.kind == QSOCK_ERR_UNREACHABLE;
}

void pool_closed(struct sconn *c)
{
	struct sstream *s;
	if (!c->established)
		settle_suspects(c, &c->cause);
	else if (c->cfg && !c->suspect && server_vanished(c) && c->side->phase == PHASE_RUNNING &&
		 !TAILQ_EMPTY(&c->streams))
		suspect(c);
	if (c->local.sa.sa_family == AF_UNSPEC)
		c->local = *port_local(c->port->port);
	TAILQ_FOREACH(s, &c->waiting[DIR_BIDI], queue_link)
		tell(c, c->established, &c->cause);
}

/* At the server's limit those who wait try their luck elsewhere. */
void pool_work(struct sconn *c)
{
	struct sstream *s, *next;
	struct sconn *to;
	TAILQ_FOREACH_SAFE(s, &c->waiting[DIR_BIDI], queue_link, next)
		if (!sstream_start(s))
			break;
	while ((s = TAILQ_FIRST(&c->waiting[DIR_BIDI]))) {
		to = choose(c->side, c->port, &c->remote, c->server_name, c->cfg);
		if (!to || to == c || to->established)
			return;
		sstream_requeue(s, to);
	}
}

static void linger_over(struct timer *t)
{
	struct sconn *c = owner_of(t, struct sconn, linger);
	struct side *side = c->side;
	c->retiring = true;
	sconn_defer(c);
	side_work(side);
}

/* An accepted connection is the client's to end, while there is a listener. */
void pool_check(struct sconn *c)
{
	struct engine *e = c->side->engine;
	if (!TAILQ_EMPTY(&c->streams) || c->acceptor) {
		timer_clear(e, &c->linger);
		return;
	}
	if (c->retiring || !c->cfg) {
		sconn_close_gently(c);
		return;
	}
	c->linger.fired = linger_over;
	if (!c->linger.set)
		timer_set(e, &c->linger, engine_now_us(e) + POOL_STAY_US);
}
