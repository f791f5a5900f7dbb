/* The engine's start and stop as sock/ sees them. Stopping goes in two steps: what
 * applications have written is taken, sent and acknowledged; then connections are
 * closed and their last packets leave. What is still open after that ends abnormally. */
#include "sock/engine_side.h"

#include "base/err.h"
#include "base/mem.h"

#define POOL_BLOCKS 1024	/* of BLOCK_LARGE, 16 MB: what a few fast streams have in flight */

struct side *side_of(const struct engine *e)
{
	return engine_data(e);
}

static void started(struct engine *e)
{
	struct side *side = mem_zalloc(sizeof(*side));
	if (!side)
		return;		/* every command fails with ENOMEM */
	side->pool = mem_alloc(sizeof(*side->pool));
	if (side->pool)
		blockpool_init(side->pool, POOL_BLOCKS);
	side->engine = e;
	TAILQ_INIT(&side->grave_age);
	TAILQ_INIT(&side->ports);
	TAILQ_INIT(&side->conns);
	TAILQ_INIT(&side->work);
	engine_set_data(e, side);
}

static void stop(struct engine *e)
{
	struct side *side = side_of(e);
	struct sport *p;
	struct sconn *c;
	struct sstream *s, *next;
	if (!side)
		return;
	side_take_records(side);
	side->phase = PHASE_DRAINING;
	TAILQ_FOREACH(p, &side->ports, link)
		endpoint_listen(port_endpoint(p->port), NULL);
	TAILQ_FOREACH(c, &side->conns, link) {
		TAILQ_FOREACH_SAFE(s, &c->streams, link, next)
			sstream_stop(s);
		if (!c->over)
			conn_notify_acked(c->conn);
	}
	side_work(side);
}

static void close_all(struct side *side)
{
	struct sconn *c;
	TAILQ_FOREACH(c, &side->conns, link) {
		if (c->over)
			continue;
		conn_close(c->conn, 0, "", 0, engine_now_us(side->engine));
		sconn_touch(c);
	}
}

static bool idle(struct engine *e)
{
	struct side *side = side_of(e);
	struct sconn *c;
	if (!side || side->phase == PHASE_CLOSING)
		return true;	/* the turn after close_all has sent the last packets */
	TAILQ_FOREACH(c, &side->conns, link)
		if (!sconn_delivered(c))
			return false;
	close_all(side);
	side->phase = PHASE_CLOSING;
	return TAILQ_EMPTY(&side->conns);
}

/* The most patient connection decides. */
static uint64_t linger_us(struct engine *e)
{
	struct side *side = side_of(e);
	const struct sconn *c;
	uint64_t ms = 0;
	if (!side)
		return 0;
	TAILQ_FOREACH(c, &side->conns, link)
		ms = c->linger_ms > ms ? c->linger_ms : ms;
	return ms * 1000;
}

/* The time for lingering is over: let the peers know at once that not all of it came, those to whom that applies. */
static void cut_off(struct side *side)
{
	struct sconn *c;
	TAILQ_FOREACH(c, &side->conns, link) {
		if (c->over || sconn_delivered(c))
			continue;
		conn_close_transport(c->conn, QE_PEER(0), "the program ended before everything was delivered",
				     engine_now_us(side->engine));
		sconn_touch(c);
	}
	close_all(side);
}

static void obj_free(struct sock_obj *o)
{
	if (o->kind == SOCK_FRESH)
		sfresh_free((struct sfresh *)o, true);
	else if (o->kind == SOCK_LISTENER)
		slisten_free((struct slisten *)o, false);
}

static bool ended(struct engine *e)
{
	struct side *side = side_of(e);
	struct sconn *c;
	struct sport *p;
	struct sock_obj *o;
	if (!side)
		return true;
	bool delivered = side->phase == PHASE_CLOSING;
	if (!delivered)
		cut_off(side);
	TAILQ_FOREACH(p, &side->ports, link)
		port_flush(p->port);
	while ((o = obj_any(side, SOCK_LISTENER)) || (o = obj_any(side, SOCK_FRESH)))
		obj_free(o);
	while ((c = TAILQ_FIRST(&side->conns)))
		sconn_free(c);
	while ((p = TAILQ_FIRST(&side->ports)))
		sport_free(p);
	sessions_write();
	graves_clear(side);
	if (side->pool)
		blockpool_fini(side->pool);
	mem_free(side->pool);
	mem_free(side);
	engine_set_data(e, NULL);
	return delivered;
}

/* Called and not a constructor: of an archive only what is called gets linked. */
void sock_register(void)
{
	static const struct engine_hooks hooks = { .started = started, .stop = stop, .idle = idle, .ended = ended,
						   .linger_us = linger_us };
	engine_set_hooks(&hooks);
}
