/* A port: what arrives on one UDP socket goes to its endpoint, what the endpoint
 * has to say goes out. A turn of the engine receives first, a bounded number of trains, then
 * tells the owner, and transmits at its end, when everybody has had a say: so one train carries
 * acknowledgements and data together. Decides nothing about QUIC. */
#include <assert.h>
#include <bsd/stdlib.h>
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/port.h"
#include "io/udp.h"

#define RX_BUFFER 65536		/* bytes: a full GRO train */
#define RX_TRAINS 16		/* received in one turn before others have theirs */
#define TX_TRAINS 32		/* sent in one turn */
#define TRAIN_DATAGRAMS 128	/* of one received train */

struct port {
	struct engine *engine;
	struct endpoint *endpoint;
	const struct port_ops *ops;
	void *arg;
	struct udp udp;
	struct source source;
	struct timer timer;
	struct deferred turn;		/* the port's part of a turn's end */
	bool readable;			/* edge-triggered: more may wait in the socket */
	bool in_events;
	struct train train;		/* being sent */
	size_t train_off;		/* of it; == train.len: nothing under way */
	struct port_stats stats;
	size_t random_left;		/* bytes of random not yet given out: the first ones */
	uint8_t random[512];
	uint8_t rx[RX_BUFFER], tx[UDP_TRAIN_MAX];
};

static uint64_t now(const struct port *p) { return engine_now_us(p->engine); }

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

/* ---- in ------------------------------------------------------------------ */

static void feed(struct port *p, const struct udp_rx *rx)
{
	struct datagram d[TRAIN_DATAGRAMS];
	size_t n = 0, off = 0;
	p->stats.trains_in++;
	p->stats.bytes_in += rx->len;
	while (off < rx->len) {
		size_t len = rx->len - off < rx->seg ? rx->len - off : rx->seg;
		d[n++] = (struct datagram){ .data = rx->buf + off, .len = len, .local = rx->local,
					    .remote = rx->remote, .ecn = rx->ecn };
		off += len;
		if (n < TRAIN_DATAGRAMS && off < rx->len)
			continue;
		p->stats.datagrams_in += n;
		endpoint_recv(p->endpoint, d, n, now(p));
		n = 0;
	}
}

static void receive(struct port *p)
{
	struct udp_rx rx;
	int r = 1;
	for (int i = 0; i < RX_TRAINS && r == 1; i++) {
		r = udp_recv(&p->udp, p->rx, sizeof(p->rx), &rx);
		if (r == 1)
			feed(p, &rx);
	}
	p->readable = r == 1;
}

static void errors(struct port *p)
{
	struct addr remote;
	int err;
	while (udp_error(&p->udp, &remote, &err))
		endpoint_unreachable(p->endpoint, &remote, err, now(p));
}

static void events(struct port *p)
{
	struct conn_event ev;
	struct conn *c;
	bool accepted, any = false;
	if (p->in_events)
		return;
	p->in_events = true;
	while (endpoint_poll_event(p->endpoint, &c, &ev, &accepted)) {
		any = true;
		p->ops->event(p, c, &ev, accepted);
	}
	p->in_events = false;
	if (any)
		p->ops->batch_end(p);
}

/* ---- out ----------------------------------------------------------------- */

/* true: the train is gone, or lost to a transient error, which QUIC repairs. Else EPOLLOUT will call: it is
 * only asked for now, because it would report every completed send. */
static bool send_train(struct port *p)
{
	struct train *t = &p->train;
	int r = udp_send(&p->udp, t->buf, t->len, t->seg, &p->train_off, &t->local, &t->remote, t->ecn);
	if (r == 0) {
		source_set(p->engine, &p->source, EPOLLIN | EPOLLOUT);
		return false;
	}
	p->stats.send_errors += r < 0;
	p->stats.trains_out++;
	p->stats.bytes_out += t->len;
	p->stats.datagrams_out += (t->len + t->seg - 1) / t->seg;
	p->train_off = t->len;
	return true;
}

static void transmit(struct port *p)
{
	size_t segs = p->udp.max_segs ? p->udp.max_segs : 1;
	if (p->train_off < p->train.len && !send_train(p))
		return;
	for (int i = 0; i < TX_TRAINS; i++) {
		p->train = (struct train){ .buf = p->tx, .cap = sizeof(p->tx), .max_segs = segs };
		p->train_off = 0;
		if (!endpoint_poll_transmit(p->endpoint, &p->train, now(p))) {
			p->train.len = 0;
			return;
		}
		if (!send_train(p))
			return;
	}
	engine_defer(p->engine, &p->turn);
}

/* ---- turns --------------------------------------------------------------- */

/* What was sent may have raised events too (a close, a failure): hence twice. */
static void turn_end(struct deferred *d)
{
	struct port *p = (struct port *)((char *)d - offsetof(struct port, turn));
	if (p->readable)
		receive(p);
	events(p);
	transmit(p);
	events(p);
	timer_set(p->engine, &p->timer, endpoint_deadline(p->endpoint));
	if (p->readable)
		engine_defer(p->engine, &p->turn);
}

static void port_ready(struct source *s, uint32_t ready)
{
	struct port *p = (struct port *)((char *)s - offsetof(struct port, source));
	if (ready & EPOLLERR)
		errors(p);
	if (ready & EPOLLOUT)
		source_set(p->engine, s, EPOLLIN);
	if (ready & EPOLLIN) {
		receive(p);
		events(p);
	}
	engine_defer(p->engine, &p->turn);
}

static void port_timer(struct timer *t)
{
	struct port *p = (struct port *)((char *)t - offsetof(struct port, timer));
	endpoint_on_timeout(p->endpoint, now(p));
	events(p);
	engine_defer(p->engine, &p->turn);
}

void port_touch(struct port *p, struct conn *c)
{
	endpoint_touch(p->endpoint, c);
	engine_defer(p->engine, &p->turn);
}

/* ---- life ---------------------------------------------------------------- */

struct port *port_new(struct engine *e, const struct addr *bind, bool reuse_port, const struct port_ops *ops, void *arg,
		      const struct endpoint_config *cfg)
{
	struct endpoint_config own = *cfg;
	struct port *p = mem_zalloc(sizeof(*p));
	if (!p) {
		errno = ENOMEM;
		return NULL;
	}
	p->engine = e;
	p->ops = ops;
	p->arg = arg;
	p->turn.run = turn_end;
	p->timer.fired = port_timer;
	own.rng = (struct rng){ random_fill, p };
	p->endpoint = endpoint_new(&own, now(p));
	if (!p->endpoint) {
		errno = ENOMEM;
		goto no_endpoint;
	}
	if (udp_open(&p->udp, bind, reuse_port))
		goto no_socket;
	if (source_add(e, &p->source, p->udp.fd, EPOLLIN, port_ready) == 0)
		return p;
	int saved = errno;
	udp_close(&p->udp);
	errno = saved;
no_socket:
	endpoint_free(p->endpoint);
no_endpoint:
	mem_free(p);
	return NULL;
}

void port_free(struct port *p)
{
	assert(!p->in_events);
	timer_clear(p->engine, &p->timer);
	engine_undefer(p->engine, &p->turn);
	source_close(p->engine, &p->source);
	endpoint_free(p->endpoint);
	mem_free(p);
}

struct endpoint *port_endpoint(const struct port *p) { return p->endpoint; }
void *port_arg(const struct port *p) { return p->arg; }
struct engine *port_engine(const struct port *p) { return p->engine; }
const struct addr *port_local(const struct port *p) { return &p->udp.local; }

void port_stats(const struct port *p, struct port_stats *out) { *out = p->stats; }

int port_route(const struct port *p, const struct addr *remote, struct addr *local)
{
	socklen_t len = sizeof(*local);
	int fd = socket(remote->sa.sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0), saved;
	if (fd < 0)
		return -1;
	int r = connect(fd, &remote->sa, addr_len(remote));
	if (!r)
		r = getsockname(fd, &local->sa, &len);
	saved = errno;
	close(fd);
	errno = saved;
	if (r)
		return -1;
	if (local->sa.sa_family == AF_INET6)
		local->in6.sin6_port = p->udp.local.in6.sin6_port;
	else
		local->in4.sin_port = p->udp.local.in4.sin_port;
	return 0;
}
