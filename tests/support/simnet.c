/* See simnet.h. Datagrams in flight sit in one binary heap ordered by arrival and, among equals, by order of
 * sending; the queue of a link is no object but the time at which its wire falls idle. */
#include "support/simnet.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>

#define MAX_HOSTS 8
#define TRAIN_CAP SIM_MAX_DATAGRAM
#define MAX_IDLE_STEPS 200000	/* rounds in which virtual time stands still: a spinning endpoint */

struct flight {
	uint64_t at_us, seq;
	struct simdgram d;
	uint8_t bytes[];
};

struct link {
	struct simlink cfg;
	struct simrng rng;
	uint64_t idle_at_us;	/* when the last queued byte has left */
	uint64_t sent;
	unsigned losses_in_row;
};

struct simnet {
	uint64_t now_us, seq, seed, digest;
	struct simrng rng;
	struct simnet_hooks hooks;
	struct simhost hosts[MAX_HOSTS];
	size_t host_count;
	struct link links[MAX_HOSTS][MAX_HOSTS];
	struct flight **heap;
	size_t heap_len, heap_cap;
	bool trace;
	uint8_t train[TRAIN_CAP];
};

/* ---- heap of datagrams in flight ---------------------------------------------- */

static bool earlier(const struct flight *a, const struct flight *b)
{
	return a->at_us != b->at_us ? a->at_us < b->at_us : a->seq < b->seq;
}

static void heap_push(struct simnet *n, struct flight *f)
{
	if (n->heap_len == n->heap_cap) {
		n->heap_cap = n->heap_cap ? 2 * n->heap_cap : 256;
		n->heap = realloc(n->heap, n->heap_cap * sizeof(*n->heap));
		assert_non_null(n->heap);
	}
	size_t i = n->heap_len++;
	while (i && earlier(f, n->heap[(i - 1) / 2])) {
		n->heap[i] = n->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	n->heap[i] = f;
}

static struct flight *heap_pop(struct simnet *n)
{
	struct flight *top = n->heap[0], *last = n->heap[--n->heap_len];
	size_t i = 0, child;

	while ((child = 2 * i + 1) < n->heap_len) {
		if (child + 1 < n->heap_len && earlier(n->heap[child + 1], n->heap[child]))
			child++;
		if (!earlier(n->heap[child], last))
			break;
		n->heap[i] = n->heap[child];
		i = child;
	}
	n->heap[i] = last;
	return top;
}

/* ---- what an observer sees ------------------------------------------------------ */

unsigned sim_packets(const uint8_t *data, size_t len)
{
	struct rd r = rd_of(data, len);
	struct packet p;
	unsigned seen = 0;

	while (rd_left(&r) && packet_parse(&r, 0, &p) == 0)
		seen |= 1u << p.type;
	return seen;
}

static void trace(const struct simnet *n, enum simfate fate, const struct simdgram *d)
{
	static const char *const fates[] = {
		[SIM_SENT] = "sent", [SIM_ARRIVED] = "arrived",
		[SIM_LOST] = "LOST", [SIM_SCRIPTED] = "DROPPED by script", [SIM_QUEUE_FULL] = "DROPPED, queue full",
		[SIM_TOO_BIG] = "DROPPED, too big", [SIM_UNREACHABLE] = "nobody there",
		[SIM_CORRUPTED] = "corrupted", [SIM_DUPLICATED] = "duplicated",
		[SIM_REORDERED] = "reordered", [SIM_MARKED] = "CE",
	};
	static const char *const packets[] = {
		[PACKET_INITIAL] = "Initial", [PACKET_0RTT] = "0-RTT", [PACKET_HANDSHAKE] = "Handshake",
		[PACKET_RETRY] = "Retry", [PACKET_VN] = "VN", [PACKET_1RTT] = "1-RTT",
		[PACKET_UNKNOWN_VERSION] = "unknown-version",
	};
	unsigned seen = sim_packets(d->data, d->len);

	fprintf(stderr, "%11.6f %s%s>%s #%llu %zu bytes", (double)n->now_us / 1e6, d->injected ? "forged " : "",
		d->from ? d->from->name : "?", d->to ? d->to->name : "?", (unsigned long long)d->nth, d->len);
	for (size_t i = 0; i < sizeof(packets) / sizeof(*packets); i++)
		if (seen >> i & 1)
			fprintf(stderr, " %s", packets[i]);
	fprintf(stderr, ": %s\n", fates[fate]);
}

static void observe(struct simnet *n, enum simfate fate, struct simdgram *d)
{
	uint64_t mix = n->digest ^ (uint64_t)fate << 56 ^ n->now_us << 16 ^ d->len;

	for (size_t i = 0; i < d->len && i < 64; i++)
		mix = (mix ^ d->data[i]) * UINT64_C(0x100000001b3);
	n->digest = splitmix64(&mix);
	d->now_us = n->now_us;
	if (n->trace)
		trace(n, fate, d);
	if (n->hooks.watch)
		n->hooks.watch(n->hooks.arg, fate, d);
}

/* ---- links -------------------------------------------------------------------- */

static struct simhost *host_at(struct simnet *n, const struct addr *a)
{
	for (size_t i = 0; i < n->host_count; i++)
		if (addr_equal(&n->hosts[i].addr, a))
			return &n->hosts[i];
	return NULL;
}

static void launch(struct simnet *n, const struct simdgram *d, uint64_t at_us, bool corrupt, struct simrng *rng)
{
	struct flight *f = malloc(sizeof(*f) + d->len);

	assert_non_null(f);
	f->at_us = at_us;
	f->seq = n->seq++;
	f->d = *d;
	memcpy(f->bytes, d->data, d->len);
	f->d.data = f->bytes;
	for (unsigned flips = corrupt ? 1 + (unsigned)simrng_below(rng, 3) : 0; flips && d->len; flips--)
		f->bytes[simrng_below(rng, d->len)] ^= (uint8_t)(1u << simrng_below(rng, 8));
	heap_push(n, f);
}

static bool lost_by_chance(struct link *l)
{
	const struct simlink *c = &l->cfg;
	bool lost = simrng_chance(&l->rng, c->loss);

	if (lost && c->max_losses_in_row && l->losses_in_row >= c->max_losses_in_row)
		lost = false;
	l->losses_in_row = lost ? l->losses_in_row + 1 : 0;
	return lost;
}

static size_t bytes_waiting(const struct simnet *n, const struct link *l)
{
	if (!l->cfg.bytes_per_s || l->idle_at_us <= n->now_us)
		return 0;
	return (size_t)((l->idle_at_us - n->now_us) * l->cfg.bytes_per_s / SIM_S);
}

/* Put a datagram into a link; its fate is decided here and now. */
static void link_send(struct simnet *n, struct link *l, struct simdgram *d)
{
	const struct simlink *c = &l->cfg;
	size_t waiting = bytes_waiting(n, l);

	d->nth = l->sent++;
	observe(n, SIM_SENT, d);
	if (n->hooks.drop && n->hooks.drop(n->hooks.arg, d)) {
		observe(n, SIM_SCRIPTED, d);
		return;
	}
	if (c->mtu && d->len > c->mtu) {
		observe(n, SIM_TOO_BIG, d);
		return;
	}
	if (c->queue_bytes && waiting + d->len > c->queue_bytes) {
		observe(n, SIM_QUEUE_FULL, d);
		return;
	}
	uint64_t leaves_us = n->now_us;
	if (c->bytes_per_s) {
		uint64_t start = l->idle_at_us > n->now_us ? l->idle_at_us : n->now_us;

		leaves_us = l->idle_at_us = start + (d->len * SIM_S + c->bytes_per_s - 1) / c->bytes_per_s;
	}
	if (c->ecn_bleach)
		d->ecn = ECN_NOT_ECT;
	if (c->ecn_mark_bytes && waiting > c->ecn_mark_bytes && d->ecn != ECN_NOT_ECT) {
		d->ecn = ECN_CE;
		observe(n, SIM_MARKED, d);
	}
	if (lost_by_chance(l)) {
		observe(n, SIM_LOST, d);
		return;
	}
	uint64_t late_us = c->reorder_us ? c->reorder_us : 2 * c->delay_us + SIM_MS;
	for (int copies = simrng_chance(&l->rng, c->duplicate) ? 2 : 1; copies; copies--) {
		uint64_t at_us = leaves_us + c->delay_us;
		bool corrupt = simrng_chance(&l->rng, c->corrupt);

		if (copies == 2)
			observe(n, SIM_DUPLICATED, d);
		if (corrupt)
			observe(n, SIM_CORRUPTED, d);
		if (simrng_chance(&l->rng, c->reorder)) {
			at_us += 1 + simrng_below(&l->rng, late_us);
			observe(n, SIM_REORDERED, d);
		}
		launch(n, d, at_us, corrupt, &l->rng);
	}
}

static void datagram_send(struct simnet *n, struct simhost *from, struct simdgram *d)
{
	d->from = from;
	d->to = host_at(n, &d->dst);
	d->now_us = n->now_us;
	if (!d->to) {
		observe(n, SIM_SENT, d);
		observe(n, SIM_UNREACHABLE, d);
		return;
	}
	link_send(n, &n->links[from ? from->index : d->to->index][d->to->index], d);
}

void simnet_inject(struct simnet *n, const struct addr *src, const struct addr *dst, const void *data, size_t len)
{
	struct simdgram d = { .src = *src, .dst = *dst, .data = data, .len = len, .injected = true };

	datagram_send(n, host_at(n, src), &d);
}

/* ---- hosts -------------------------------------------------------------------- */

static void host_transmit(struct simhost *h)
{
	struct simnet *n = h->net;

	for (;;) {
		struct train t = { .buf = n->train, .cap = sizeof(n->train), .max_segs = 16 };
		size_t count = endpoint_poll_transmit(h->ep, &t, n->now_us);

		if (!count)
			return;
		assert_true(count <= t.max_segs && t.len <= t.cap && t.seg > 0);
		assert_true(t.len > (count - 1) * t.seg && t.len <= count * t.seg);
		for (size_t off = 0; off < t.len; off += t.seg) {
			/* What leaves has the address that the world sees: the conn knows nothing of a rebinding. */
			struct simdgram d = { .src = h->addr, .dst = t.remote, .data = t.buf + off, .ecn = t.ecn };

			d.len = t.len - off < t.seg ? t.len - off : t.seg;
			datagram_send(n, h, &d);
		}
	}
}

/* Events first: what they cause is to be sent in the same round. */
static void host_flush(struct simhost *h)
{
	struct conn_event ev;
	struct conn *c;
	bool any = true, accepted;

	while (h->ep && any) {
		any = false;
		while (endpoint_poll_event(h->ep, &c, &ev, &accepted)) {
			any = true;
			if (h->ops.event)
				h->ops.event(h->ops.arg, h, c, &ev);
		}
		host_transmit(h);
	}
}

static void deliver(struct simnet *n, struct flight *f)
{
	struct simhost *h = host_at(n, &f->d.dst);

	f->d.to = h;
	if (!h) {
		observe(n, SIM_UNREACHABLE, &f->d);
		return;
	}
	observe(n, SIM_ARRIVED, &f->d);
	if (h->ops.raw)
		h->ops.raw(h->ops.arg, h, &f->d);
	if (!h->ep)
		return;
	struct datagram d = { .data = f->bytes, .len = f->d.len, .local = f->d.dst, .remote = f->d.src,
			      .ecn = f->d.ecn };
	endpoint_recv(h->ep, &d, 1, n->now_us);
}

static struct endpoint *host_endpoint(struct simhost *h, const struct endpoint_config *cfg)
{
	struct endpoint_config seeded = *cfg;

	seeded.rng = simrng_hook(&h->rng);
	struct endpoint *ep = endpoint_new(&seeded, h->net->now_us);
	assert_non_null(ep);
	return ep;
}

struct simhost *simnet_host(struct simnet *n, const char *name, bool ipv6, const struct endpoint_config *cfg,
			    const struct simhost_ops *ops)
{
	assert_true(n->host_count < MAX_HOSTS);
	struct simhost *h = &n->hosts[n->host_count];

	*h = (struct simhost){ .net = n, .name = name, .index = n->host_count++ };
	if (ops)
		h->ops = *ops;
	uint8_t last = (uint8_t)(h->index + 1);
	in_port_t port = htons((uint16_t)(1000 + last));
	if (ipv6) {
		h->addr.in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = port };
		h->addr.in6.sin6_addr.s6_addr[0] = 0xfd;
		h->addr.in6.sin6_addr.s6_addr[15] = last;
	} else {
		h->addr.in4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port };
		h->addr.in4.sin_addr.s_addr = htonl(0x0a000000u | last);
	}
	simrng_init(&h->rng, n->seed, 0x100 + h->index);
	if (cfg)
		h->ep = host_endpoint(h, cfg);
	return h;
}

void simhost_restart(struct simhost *h, const struct endpoint_config *cfg)
{
	endpoint_free(h->ep);
	h->ep = host_endpoint(h, cfg);
}

/* ---- the net ------------------------------------------------------------------ */

struct simnet *simnet_new(uint64_t seed)
{
	struct simnet *n = calloc(1, sizeof(*n));

	assert_non_null(n);
	n->seed = seed;
	n->now_us = SIM_S;
	n->trace = getenv("SIMNET_TRACE") != NULL;
	simrng_init(&n->rng, seed, 1);
	for (size_t i = 0; i < MAX_HOSTS; i++)
		for (size_t k = 0; k < MAX_HOSTS; k++)
			simrng_init(&n->links[i][k].rng, seed, 0x1000 + i * MAX_HOSTS + k);
	return n;
}

void simnet_free(struct simnet *n)
{
	for (size_t i = 0; i < n->host_count; i++)
		if (n->hosts[i].ep)
			endpoint_free(n->hosts[i].ep);
	while (n->heap_len)
		free(heap_pop(n));
	free(n->heap);
	free(n);
}

void simnet_hooks(struct simnet *n, const struct simnet_hooks *hooks)
{
	n->hooks = *hooks;
}

uint64_t simnet_now(const struct simnet *n) { return n->now_us; }
uint64_t simnet_digest(const struct simnet *n) { return n->digest; }
struct simrng *simnet_rng(struct simnet *n) { return &n->rng; }

void simnet_link_oneway(struct simnet *n, struct simhost *from, struct simhost *to, const struct simlink *l)
{
	n->links[from->index][to->index].cfg = *l;
}

void simnet_link(struct simnet *n, struct simhost *a, struct simhost *b, const struct simlink *l)
{
	simnet_link_oneway(n, a, b, l);
	simnet_link_oneway(n, b, a, l);
}

static uint64_t next_moment(const struct simnet *n)
{
	uint64_t at = n->heap_len ? n->heap[0]->at_us : UINT64_MAX;

	for (size_t i = 0; i < n->host_count; i++) {
		uint64_t due = n->hosts[i].ep ? endpoint_deadline(n->hosts[i].ep) : UINT64_MAX;

		if (due < at)
			at = due;
	}
	return at;
}

static void act(struct simnet *n)
{
	while (n->heap_len && n->heap[0]->at_us <= n->now_us) {
		struct flight *f = heap_pop(n);

		deliver(n, f);
		free(f);
	}
	for (size_t i = 0; i < n->host_count; i++) {
		struct endpoint *ep = n->hosts[i].ep;

		if (ep && endpoint_deadline(ep) <= n->now_us)
			endpoint_on_timeout(ep, n->now_us);
	}
}

bool simnet_run(struct simnet *n, bool (*done)(void *arg), void *arg, uint64_t for_us)
{
	uint64_t end_us = n->now_us + for_us;
	unsigned idle = 0;

	for (;;) {
		for (size_t i = 0; i < n->host_count; i++)
			host_flush(&n->hosts[i]);
		if (done && done(arg))
			return true;
		uint64_t at = next_moment(n);
		if (at > end_us) {
			n->now_us = end_us;
			return false;
		}
		if (at > n->now_us) {
			n->now_us = at;
			idle = 0;
		} else if (++idle > MAX_IDLE_STEPS) {
			fail_msg("virtual time stands still at %.6f s: an endpoint spins", (double)n->now_us / 1e6);
		}
		act(n);
	}
}
