/* A port: one UDP socket with the endpoint behind it. Receives in batches (GRO),
 * feeds the endpoint, sends its trains (GSO), keeps its deadline as an engine timer, and
 * passes connection events up. Knows QUIC only through endpoint.h. */
#ifndef IO_PORT_H
#define IO_PORT_H

#include "endpoint/endpoint.h"
#include "io/engine.h"
#include "io/udp.h"

struct port;

struct port_ops {
	/* An event of a connection (see endpoint_poll_event). On the engine thread, never from inside a port_ call. */
	void (*event)(struct port *p, struct conn *c, const struct conn_event *ev, bool accepted);
	/* All events of this batch were delivered: time to move bytes between streams and pairs. */
	void (*batch_end)(struct port *p);
};

/* bind: local address and port (port 0: any). flags: UDP_REUSE_PORT, UDP_V6_ONLY. NULL and errno (EADDRINUSE, EADDRNOTAVAIL, EACCES, ENOMEM...). randomness
 * comes from libbsd's arc4random, whatever cfg says. */
struct port *port_new(struct engine *e, const struct addr *bind, unsigned flags, const struct port_ops *ops, void *arg,
		      const struct endpoint_config *cfg);
/* Frees the endpoint and its connections silently. */
void port_free(struct port *p);
struct endpoint *port_endpoint(const struct port *p);
void *port_arg(const struct port *p);
struct engine *port_engine(const struct port *p);
const struct addr *port_local(const struct port *p);	/* the bound address */
/* The local address the kernel would use toward remote (for an unbound client's getsockname), as of a moment ago.
 * -1/errno: no route. */
int port_route(struct port *p, const struct addr *remote, struct addr *local);
/* Something about c changed (conn_ call made): transmit at the end of this turn. */
void port_touch(struct port *p, struct conn *c);

/* Transmit now, for the last packets of an engine that ends. Delivers events. */
void port_flush(struct port *p);

struct port_stats { uint64_t datagrams_in, datagrams_out, trains_in, trains_out, send_errors, bytes_in, bytes_out; };
void port_stats(const struct port *p, struct port_stats *out);

#endif
