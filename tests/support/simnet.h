/* A network in one process on virtual time: hosts, each with an endpoint, and one-way links that delay, lose, reorder,
 * duplicate, corrupt, mark and queue datagrams. Everything is drawn from one seed, so a run replays exactly.
 *
 * Knows endpoints by their four verbs only; what applications do is simapp.h's. With SIMNET_TRACE in the environment
 * every datagram is printed to stderr. */
#ifndef TESTS_SIMNET_H
#define TESTS_SIMNET_H

#include <bsd/sys/queue.h>

#include "endpoint/endpoint.h"
#include "support/simrng.h"

#define SIM_MS UINT64_C(1000)
#define SIM_S UINT64_C(1000000)
#define SIM_MAX_DATAGRAM 65536

/* Chances are in 1/1000. All zero: a perfect, infinitely fast wire. */
struct simlink {
	uint64_t delay_us;		/* one way */
	uint64_t bytes_per_s;		/* 0: unlimited */
	size_t queue_bytes;		/* waiting for the wire; beyond it tail drop. 0: unlimited */
	size_t mtu;			/* largest UDP payload, bytes; larger ones vanish. 0: any */
	size_t ecn_mark_bytes;		/* ECT becomes CE when more than this is waiting. 0: never */
	bool ecn_bleach;		/* the ECN field is cleared on the way */
	unsigned loss, duplicate, corrupt, reorder;
	unsigned max_losses_in_row;	/* by chance; 0: no bound */
	uint64_t reorder_us;		/* a reordered one comes up to this much later; 0: up to 2 * delay_us + 1 ms */
};

struct simnet;
struct simhost;

/* One datagram on its way, as the hooks see it. */
struct simdgram {
	uint64_t now_us;
	uint64_t nth;			/* from 0, counted per direction when sent */
	struct simhost *from, *to;	/* by address; NULL: nobody has it */
	bool injected;			/* by the test, in the sender's name */
	struct addr src, dst;
	const uint8_t *data;
	size_t len;
	enum ecn ecn;
};

enum simfate {
	SIM_SENT,		/* left the host; seen before any other fate */
	SIM_ARRIVED,
	SIM_LOST, SIM_SCRIPTED, SIM_QUEUE_FULL, SIM_TOO_BIG, SIM_UNREACHABLE,
	SIM_CORRUPTED, SIM_DUPLICATED, SIM_REORDERED, SIM_MARKED,	/* and it goes on */
};

struct simnet_hooks {
	void *arg;
	/* true: this one is lost. Asked before the link's own chances are. */
	bool (*drop)(void *arg, const struct simdgram *d);
	void (*watch)(void *arg, enum simfate fate, const struct simdgram *d);
};

struct simhost_ops {
	void *arg;
	/* Every event of the host's endpoint. */
	void (*event)(void *arg, struct simhost *h, struct conn *c, const struct conn_event *ev);
	/* Instead of an endpoint: a host that looks at raw datagrams. */
	void (*raw)(void *arg, struct simhost *h, const struct simdgram *d);
};

struct simhost {
	struct simnet *net;
	const char *name;	/* for traces; borrowed */
	struct addr addr;	/* 10.0.0.n port 1000 + n, or fd00::n; may be changed between runs (rebinding) */
	struct endpoint *ep;	/* NULL: raw, or crashed */
	struct simrng rng;	/* the endpoint's */
	struct simhost_ops ops;
	size_t index;
};

struct simnet *simnet_new(uint64_t seed);
void simnet_free(struct simnet *n);
void simnet_hooks(struct simnet *n, const struct simnet_hooks *hooks);
uint64_t simnet_now(const struct simnet *n);
struct simrng *simnet_rng(struct simnet *n);	/* for the test's own draws */
/* A digest of all that happened so far: equal for equal runs. */
uint64_t simnet_digest(const struct simnet *n);

/* cfg's rng is replaced by a seeded one. cfg NULL: a raw host. ops are copied. */
struct simhost *simnet_host(struct simnet *n, const char *name, bool ipv6, const struct endpoint_config *cfg,
			    const struct simhost_ops *ops);
/* The host dies without a word and comes back with the same address and keys, remembering nothing. */
void simhost_restart(struct simhost *h, const struct endpoint_config *cfg);
/* Both directions between a and b; may be called again at any time. */
void simnet_link(struct simnet *n, struct simhost *a, struct simhost *b, const struct simlink *l);
void simnet_link_oneway(struct simnet *n, struct simhost *from, struct simhost *to, const struct simlink *l);
/* A datagram out of nowhere, into the link between the two hosts with these addresses (or at once). */
void simnet_inject(struct simnet *n, const struct addr *src, const struct addr *dst, const void *data, size_t len);

/* Run until done() or for_us of virtual time have passed. Returns done()'s last word (false without one).
 * Fails the test when the endpoints spin without time going by. */
bool simnet_run(struct simnet *n, bool (*done)(void *arg), void *arg, uint64_t for_us);

/* ---- reading datagrams ------------------------------------------------------ */

/* 1 << PACKET_x for each QUIC packet in it; 0: none parsable. */
unsigned sim_packets(const uint8_t *data, size_t len);

#endif
