/* One UDP socket and its endpoint in the engine's loop. Decides how much is received and
 * sent per turn, so that neither starves the other nor the rest of the engine, and
 * when the endpoint's clock is looked at. What the packets mean is the endpoint's matter.
 *
 * Receiving happens when the socket is ready, sending once at the end of the turn, so that
 * one transmission carries what all sources of the turn caused. */
#include "io/port.h"

#include <bsd/stdlib.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/udp.h"

#define RX_TRAINS 16		/* per turn, */
#define RX_US 150		/* unless they take longer: the peers of the first are waiting for their answers */
#define TX_TRAINS 32
#define ROUTE_US 100000		/* how long an answer about a route is believed */
#define TRAIN_DATAGRAMS 128	/* of one received train given to the endpoint at once */

/* A train that the socket had no room for. */
struct held {
	uint8_t *buf;		/* NULL: none */
	size_t len, seg, off;
	struct addr local, remote;
	enum ecn ecn;
};

struct port {
	struct engine *engine;
	const struct port_ops *ops;
	void *arg;
	struct endpoint *endpoint;
	struct udp udp;
	struct source source;
	struct timer timer;
	struct deferred tx, rx_more;
	struct held held;
	unsigned busy;		/* depth of calls that still need the port */
	bool freed;		/* by its owner, from inside an event */
	struct port_stats stats;
	struct addr route_to, route_from;	/* the last answer of port_route, */
	uint64_t route_us;			/* good until then */
	size_t random_left;	/* bytes of random not yet given out: the first ones */
	uint8_t random[512];
};

#define OF(field, p) ((struct port *)((char *)(p) - offsetof(struct port, field)))

/* ---- life ---------------------------------------------------------------- */

static void destroy(struct port *p)
{
	endpoint_free(p->endpoint);
	mem_free(p->held.buf);
	mem_free(p);
}

static void enter(struct port *p)
{
	p->busy++;
}

static void leave(struct port *p)
{
	if (--p->busy == 0 && p->freed)
		destroy(p);
}

void port_free(struct port *p)
{
	struct engine *e = p->engine;
	engine_undefer(e, &p->tx);
	engine_undefer(e, &p->rx_more);
	timer_clear(e, &p->timer);
	source_close(e, &p->source);
	p->freed = true;
	if (!p->busy)
		destroy(p);
}

/* ---- events -------------------------------------------------------------- */

/* Deliver what the endpoint has to tell. The owner may free the port from there. */
static void deliver(struct port *p)
{
	struct conn *c;
	struct conn_event ev;
	bool accepted, any = false;
	while (!p->freed && endpoint_poll_event(p->endpoint, &c, &ev, &accepted)) {
		any = true;
		p->ops->event(p, c, &ev, accepted);
	}
	if (any && !p->freed && p->ops->batch_end)
		p->ops->batch_end(p);
}

static void set_deadline(struct port *p)
{
	timer_set(p->engine, &p->timer, endpoint_deadline(p->endpoint));
}

static void timed_out(struct timer *t)
{
	struct port *p = OF(timer, t);
	enter(p);
	endpoint_on_timeout(p->endpoint, engine_now_us(p->engine));
	deliver(p);
	if (!p->freed)
		engine_defer(p->engine, &p->tx);
	leave(p);
}

/* ---- receiving ----------------------------------------------------------- */

/* arc4random asks for the process's id each time, a system call, and every packet wants a number: hence in portions. */
static void random_fill(void *arg, void *buf, size_t len)
{
	struct port *p = arg;
	if (len > sizeof(p->random)) {
		arc4random_buf(buf, len);
		return;
	}
	if (len > p->random_left) {
		arc4random_buf(p->random, sizeof(p->random));
		p->random_left = sizeof(p->random);
	}
	p->random_left -= len;
	memcpy(buf, p->random + p->random_left, len);
	explicit_bzero(p->random + p->random_left, len);
}

static void feed(struct port *p, const struct udp_rx *rx)
{
	const uint64_t now_us = engine_refresh_now(p->engine);
	struct datagram d[TRAIN_DATAGRAMS];
	p->stats.trains_in++;
	p->stats.bytes_in += rx->len;
	for (size_t off = 0; off < rx->len;) {
		size_t n = 0;
		for (; off < rx->len && n < TRAIN_DATAGRAMS; n++, off += rx->seg) {
			const size_t left = rx->len - off;
			d[n] = (struct datagram){ .data = rx->buf + off, .len = left < rx->seg ? left : rx->seg,
						  .local = rx->local, .remote = rx->remote, .ecn = rx->ecn };
		}
		p->stats.datagrams_in += n;
		endpoint_recv(p->endpoint, d, n, now_us);
	}
}

static void receive(struct port *p)
{
	/* Nothing is sent here, so that buffer is free. */
	struct udp_rx rx[UDP_BATCH] = { { .buf = engine_rx_buf(p->engine) }, { .buf = engine_tx_buf(p->engine) } };
	const uint64_t end_us = engine_refresh_now(p->engine) + RX_US;
	int n = 0, got;
	/* Whatever the kernel refuses for good is no more final than a lost packet: the next edge tries again. */
	do {
		got = udp_recv_trains(&p->udp, ENGINE_BUF, rx, UDP_BATCH);
		for (int i = 0; i < got; i++)
			feed(p, &rx[i]);
		n += got;
	} while (got == UDP_BATCH && n < RX_TRAINS && engine_refresh_now(p->engine) < end_us);
	deliver(p);
	if (p->freed)
		return;
	/* Sending comes before receiving more. The edge is used up: we have to remember ourselves. */
	engine_defer(p->engine, &p->tx);
	if (got == UDP_BATCH)
		engine_defer(p->engine, &p->rx_more);
}

static void receive_more(struct deferred *d)
{
	struct port *p = OF(rx_more, d);
	enter(p);
	receive(p);
	leave(p);
}

static void take_errors(struct port *p)
{
	struct addr remote;
	int err;
	while (udp_error(&p->udp, &remote, &err))
		endpoint_unreachable(p->endpoint, &remote, err, engine_now_us(p->engine));
}

static void ready(struct source *s, uint32_t events)
{
	struct port *p = OF(source, s);
	enter(p);
	if (events & EPOLLERR)
		take_errors(p);
	if (!p->rx_more.queued)
		receive(p);
	if (!p->freed)
		engine_defer(p->engine, &p->tx);
	leave(p);
}

/* ---- sending ------------------------------------------------------------- */

static void count_sent(struct port *p, size_t len, size_t seg)
{
	p->stats.trains_out++;
	p->stats.bytes_out += len;
	p->stats.datagrams_out += (len + seg - 1) / seg;
}

/* Keep the rest of a train until the socket has room. Without memory it is lost, as packets are. */
static void hold(struct port *p, const struct train *t, size_t off)
{
	p->held = (struct held){ .buf = mem_alloc(t->len - off), .len = t->len - off, .seg = t->seg,
				 .local = t->local, .remote = t->remote, .ecn = t->ecn };
	if (p->held.buf)
		memcpy(p->held.buf, t->buf + off, t->len - off);
	else
		p->stats.send_errors++;
	source_set(p->engine, &p->source, EPOLLIN | EPOLLOUT);
}

/* False: still no room. */
static bool send_held(struct port *p)
{
	struct held *h = &p->held;
	if (!h->buf)
		return true;
	int r = udp_send(&p->udp, h->buf, h->len, h->seg, &h->off, &h->local, &h->remote, h->ecn);
	if (r == 0)
		return false;
	if (r < 0)
		p->stats.send_errors++;
	mem_free(h->buf);
	h->buf = NULL;
	source_set(p->engine, &p->source, EPOLLIN);
	return true;
}

/* Send trains until there are none (0), the socket is full (0, it will tell) or this turn's share is used up (1). */
static int send_trains(struct port *p)
{
	const size_t cap = p->udp.family == AF_INET6 ? UDP_TRAIN_MAX6 : UDP_TRAIN_MAX;
	for (int i = 0; i < TX_TRAINS; i++) {
		struct train t = { .buf = engine_tx_buf(p->engine), .cap = cap, .max_segs = p->udp.max_segs };
		size_t off = 0;
		if (!endpoint_poll_transmit(p->endpoint, &t, engine_refresh_now(p->engine)))
			return 0;
		count_sent(p, t.len, t.seg);
		int r = udp_send(&p->udp, t.buf, t.len, t.seg, &off, &t.local, &t.remote, t.ecn);
		if (r == 0) {
			hold(p, &t, off);
			return 0;
		}
		if (r < 0)
			p->stats.send_errors++;
	}
	return 1;
}

static void transmit(struct deferred *d)
{
	struct port *p = OF(tx, d);
	enter(p);
	if (send_held(p) && send_trains(p))
		engine_defer(p->engine, &p->tx);
	deliver(p);
	if (!p->freed)
		set_deadline(p);
	leave(p);
}

void port_flush(struct port *p)
{
	engine_undefer(p->engine, &p->tx);
	transmit(&p->tx);
}

/* ---- for the owner ------------------------------------------------------- */

static struct endpoint *make_endpoint(struct port *p, const struct endpoint_config *cfg)
{
	struct endpoint_config own = *cfg;
	own.rng = (struct rng){ random_fill, p };
	struct endpoint *ep = endpoint_new(&own, engine_now_us(p->engine));
	explicit_bzero(&own, sizeof(own));
	return ep;
}

struct port *port_new(struct engine *e, const struct addr *bind, unsigned flags, const struct port_ops *ops, void *arg,
		      const struct endpoint_config *cfg)
{
	int err = ENOMEM;
	struct port *p = mem_zalloc(sizeof(*p));
	if (!p)
		goto fail;
	p->engine = e;
	p->ops = ops;
	p->arg = arg;
	p->timer.fired = timed_out;
	p->tx.run = transmit;
	p->rx_more.run = receive_more;
	p->endpoint = make_endpoint(p, cfg);
	if (!p->endpoint)
		goto fail_port;
	if (udp_open(&p->udp, bind, flags) < 0) {
		err = errno;
		goto fail_endpoint;
	}
	if (!source_add(e, &p->source, p->udp.fd, EPOLLIN, ready))
		return p;
	err = errno;
	udp_close(&p->udp);
fail_endpoint:
	endpoint_free(p->endpoint);
fail_port:
	mem_free(p);
fail:
	errno = err;
	return NULL;
}

/* Only the kernel knows: a socket of its own asks. */
static int ask_route(const struct port *p, const struct addr *remote, struct addr *local)
{
	int fd = socket(p->udp.family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	socklen_t len = sizeof(*local);
	int r = connect(fd, &remote->sa, addr_len(remote));
	if (!r)
		r = getsockname(fd, &local->sa, &len);
	int err = errno;
	close(fd);
	errno = err;
	return r;
}

int port_route(struct port *p, const struct addr *remote, struct addr *local)
{
	const uint64_t now_us = engine_now_us(p->engine);
	*local = p->udp.local;
	if (!p->udp.wildcard)
		return 0;
	if (now_us >= p->route_us || !addr_equal(&p->route_to, remote)) {
		if (ask_route(p, remote, local))
			return -1;
		p->route_to = *remote;
		p->route_from = *local;
		p->route_us = now_us + ROUTE_US;
	}
	*local = p->route_from;
	if (p->udp.family == AF_INET6)
		local->in6.sin6_port = p->udp.local.in6.sin6_port;
	else
		local->in4.sin_port = p->udp.local.in4.sin_port;
	return 0;
}

void port_touch(struct port *p, struct conn *c)
{
	endpoint_touch(p->endpoint, c);
	engine_defer(p->engine, &p->tx);
}

struct endpoint *port_endpoint(const struct port *p) { return p->endpoint; }
void *port_arg(const struct port *p) { return p->arg; }
struct engine *port_engine(const struct port *p) { return p->engine; }
const struct addr *port_local(const struct port *p) { return &p->udp.local; }
void port_stats(const struct port *p, struct port_stats *out) { *out = p->stats; }
