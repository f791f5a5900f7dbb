/* UDP ports as the sockets of this process share them: everything bound to one
 * local address goes through one port, and unbound clients through one per
 * address family. A port lives while somebody uses it. Also the place where events
 * of connections come in. */
#include "sock/engine_side.h"

#include <errno.h>
#include <string.h>

#include "base/mem.h"
#include "crypto/hkdf.h"

/* A connection that nobody has taken: from its first packet to its handshake's end it belongs to the endpoint alone. */
static void stranger_event(struct sport *p, struct conn *c, const struct conn_event *ev)
{
	if (ev->type == CONN_EV_ESTABLISHED) {
		slisten_on_established(p, c);
	} else if (ev->type == CONN_EV_DRAINED) {
		endpoint_drop(port_endpoint(p->port), c);
		sport_put(sport_get(p));
	}
}

static void on_event(struct port *port, struct conn *c, const struct conn_event *ev, bool accepted)
{
	struct sconn *owner = conn_app(c);
	if (owner)
		sconn_event(owner, ev);
	else
		stranger_event(port_arg(port), c, ev);
}

static void on_batch_end(struct port *port)
{
	struct sport *p = port_arg(port);
	side_work(p->side);
}

static const struct port_ops ops = { .event = on_event, .batch_end = on_batch_end };

/* ---- life -------------------------------------------------------------------------- */

static bool in_use(const struct sport *p)
{
	return p->users || endpoint_count(port_endpoint(p->port));
}

void sport_free(struct sport *p)
{
	engine_undefer(p->side->engine, &p->reap);
	TAILQ_REMOVE(&p->side->ports, p, link);
	port_free(p->port);
	while (p->n_configs)
		sock_config_put(p->configs[--p->n_configs].cfg);
	explicit_bzero(p->configs, sizeof(p->configs));
	mem_free(p);
}

/* A port cannot be freed from inside its own events. */
static void reap(struct deferred *d)
{
	struct sport *p = owner_of(d, struct sport, reap);
	if (!in_use(p))
		sport_free(p);
}

struct sport *sport_get(struct sport *p)
{
	p->users++;
	return p;
}

void sport_put(struct sport *p)
{
	p->users--;
	if (!in_use(p))
		engine_defer(p->side->engine, &p->reap);
}

static struct sport *sport_new(struct side *side, const struct addr *bind, unsigned flags)
{
	struct endpoint_config cfg;
	struct sport *p = mem_zalloc(sizeof(*p));
	if (!p) {
		errno = ENOMEM;
		return NULL;
	}
	sock_endpoint_defaults(&cfg);
	p->side = side;
	p->users = 1;
	p->reap.run = reap;
	p->port = port_new(side->engine, bind, flags, &ops, p, &cfg);
	explicit_bzero(&cfg, sizeof(cfg));
	if (!p->port) {
		int saved = errno;
		mem_free(p);
		errno = saved;
		return NULL;
	}
	TAILQ_INSERT_TAIL(&side->ports, p, link);
	return p;
}

static bool any_port(const struct addr *a)
{
	return a->sa.sa_family == AF_INET6 ? !a->in6.sin6_port : !a->in4.sin_port;
}

struct sport *sport_find(struct side *side, const struct addr *a)
{
	struct sport *p;
	if (any_port(a))
		return NULL;
	TAILQ_FOREACH(p, &side->ports, link)
		if (addr_equal(port_local(p->port), a))
			return p;
	return NULL;
}

struct sport *sport_bind(struct side *side, const struct addr *a, unsigned flags)
{
	struct sport *p = flags & SPORT_OWN ? NULL : sport_find(side, a);
	return p ? sport_get(p) : sport_new(side, a, flags & ~SPORT_OWN);
}

struct sport *sport_for_clients(struct side *side, int family)
{
	struct addr any = { 0 };
	struct sport *p;
	TAILQ_FOREACH(p, &side->ports, link)
		if (p->for_clients && port_local(p->port)->sa.sa_family == family)
			return sport_get(p);
	any.sa.sa_family = (sa_family_t)family;
	p = sport_new(side, &any, 0);
	if (p)
		p->for_clients = true;
	return p;
}

const struct conn_config *sport_keep_config(struct sport *p, struct sock_config *cfg)
{
	for (unsigned i = 0; i < p->n_configs; i++)
		if (p->configs[i].cfg == cfg)
			return &p->configs[i].server;
	struct sport_config *c = &p->configs[p->n_configs];
	const struct addr *at = port_local(p->port);
	if (p->n_configs == SPORT_CONFIGS_MAX ||
	    hmac(HASH_SHA256, cfg->reset_secret, sizeof(cfg->reset_secret), (const uint8_t *)at, addr_len(at),
		 c->reset_key)) {
		errno = ENOBUFS;
		return NULL;
	}
	c->cfg = sock_config_ref(cfg);
	c->server = cfg->server;
	c->server.reset_key = c->reset_key;
	c->server.limits.pool = p->side->pool;
	p->n_configs++;
	return &c->server;
}
