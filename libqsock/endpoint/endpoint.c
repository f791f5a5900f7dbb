/* The glue of endpoint.h: keeps, for each connection, whether it has something to
 * send, something to tell and when it wants to be called, and finds it for a
 * datagram. What strangers get is decided in accept.c and made in stateless.c.
 *
 * Invariant: after every call into a connection that may change it, settle() has
 * run, so that its CIDs are registered before the next datagram is looked at. */
#include "endpoint/endpoint.h"

#include <assert.h>
#include <bsd/sys/queue.h>
#include <openssl/crypto.h>

#include "base/err.h"
#include "base/mem.h"
#include "endpoint/accept.h"
#include "endpoint/demux.h"
#include "endpoint/stateless.h"

#define RETRY_ABOVE_DEFAULT 1000
#define MAX_HALF_OPEN_DEFAULT 4096
#define RESETS_PER_S_DEFAULT 100
#define CLOSES_PER_S 1000	/* refusals; each costs a few key derivations */
/* Connections compared with a possible stateless reset: junk from one address must not cost a walk over thousands. */
#define RESET_CHECKS_PER_S 200000
#define RESET_CHECKS_BURST 20000
#define RESET_MIN_LEN 21	/* RFC 9000 10.3 */

struct member {			/* what the endpoint keeps of one connection */
	struct demux_entry dx;	/* first: found by it */
	struct conn *conn;
	TAILQ_ENTRY(member) ready, telling;
	RB_ENTRY(member) timed;
	uint64_t deadline_us;
	bool is_ready, is_telling, is_timed;
	bool half_open;		/* from outside, handshake not complete: even when closed before, until it is dropped */
	bool unannounced;	/* from outside, its owner has not heard of it yet */
};

TAILQ_HEAD(member_list, member);
RB_HEAD(member_times, member);

struct endpoint {
	struct endpoint_config cfg;		/* defaults filled in */
	const struct conn_config *listen;	/* borrowed; NULL: not listening */
	bool refuse;
	size_t count;
	uint32_t half_open;
	uint64_t now_us;			/* latest seen */
	struct demux demux;
	struct member_list ready, telling;
	struct member_times times;
	struct bucket resets, closes, reset_checks;
	struct answers answers;
	struct once once;			/* 64 KB that only servers touch */
};

static int by_deadline(const struct member *a, const struct member *b)
{
	if (a->deadline_us != b->deadline_us)
		return a->deadline_us < b->deadline_us ? -1 : 1;
	return (uintptr_t)a < (uintptr_t)b ? -1 : (uintptr_t)a > (uintptr_t)b;
}

#define TREE_ATTR static __attribute__((unused))
RB_GENERATE_INTERNAL(member_times, member, timed, by_deadline, TREE_ATTR)

static struct member *member_of(struct demux_entry *x)
{
	return (struct member *)x;
}

/* ---- one member --------------------------------------------------------- */

static void set_ready(struct endpoint *e, struct member *m)
{
	if (m->is_ready)
		return;
	m->is_ready = true;
	TAILQ_INSERT_TAIL(&e->ready, m, ready);
}

static void unset_ready(struct endpoint *e, struct member *m)
{
	if (!m->is_ready)
		return;
	m->is_ready = false;
	TAILQ_REMOVE(&e->ready, m, ready);
}

static void set_telling(struct endpoint *e, struct member *m)
{
	if (m->is_telling)
		return;
	m->is_telling = true;
	TAILQ_INSERT_TAIL(&e->telling, m, telling);
}

static void unset_telling(struct endpoint *e, struct member *m)
{
	if (!m->is_telling)
		return;
	m->is_telling = false;
	TAILQ_REMOVE(&e->telling, m, telling);
}

static void set_deadline(struct endpoint *e, struct member *m, uint64_t at_us)
{
	if (m->is_timed && m->deadline_us == at_us)
		return;
	if (m->is_timed)
		RB_REMOVE(member_times, &e->times, m);
	m->deadline_us = at_us;
	m->is_timed = at_us != UINT64_MAX;
	if (m->is_timed)
		RB_INSERT(member_times, &e->times, m);
}

static void end_half_open(struct endpoint *e, struct member *m)
{
	e->half_open -= m->half_open;
	m->half_open = false;
}

/* false: a CID could not be registered, so packets would miss the connection. Only when two CIDs of ours are equal. */
static bool take_cid_events(struct endpoint *e, struct member *m)
{
	struct conn_event ev;
	bool ok = true;
	while (conn_poll_cid_event(m->conn, &ev)) {
		if (ev.type == CONN_EV_CID_ISSUED)
			ok &= !demux_cid_add(&e->demux, &m->dx, &ev.cid);
		else if (ev.type == CONN_EV_CID_RETIRED)
			demux_cid_remove(&e->demux, &m->dx, &ev.cid);
	}
	return ok;
}

static void settle(struct endpoint *e, struct member *m)
{
	if (!take_cid_events(e, m)) {
		conn_close_transport(m->conn, QE_INTERNAL, "connection id collision", e->now_us);
		take_cid_events(e, m);
		set_ready(e, m);
	}
	set_telling(e, m);
}

/* The connection was acted on: it may have something to send, to tell, to register. */
static void acted(struct endpoint *e, struct member *m)
{
	settle(e, m);
	set_ready(e, m);
}

/* Takes c over; on failure it is freed and NULL returned. */
static struct member *member_new(struct endpoint *e, struct conn *c, const struct addr *remote)
{
	if (!c)
		return NULL;
	struct member *m = mem_zalloc(sizeof(*m));
	if (!m) {
		conn_free(c);
		return NULL;
	}
	m->conn = c;
	demux_add(&e->demux, &m->dx, remote);
	if (!take_cid_events(e, m)) {
		demux_remove(&e->demux, &m->dx);
		conn_free(c);
		mem_free(m);
		return NULL;
	}
	conn_set_endpoint_data(c, m);
	e->count++;
	acted(e, m);
	return m;
}

static void member_free(struct endpoint *e, struct member *m)
{
	end_half_open(e, m);
	set_deadline(e, m, UINT64_MAX);
	unset_ready(e, m);
	unset_telling(e, m);
	demux_remove(&e->demux, &m->dx);
	e->count--;
	conn_free(m->conn);
	mem_free(m);
}

/* ---- life --------------------------------------------------------------- */

struct endpoint *endpoint_new(const struct endpoint_config *cfg, uint64_t now_us)
{
	assert(cfg->cid_len >= 4 && cfg->cid_len <= CID_MAX);
	struct endpoint *e = mem_zalloc(sizeof(*e));
	if (!e)
		return NULL;
	e->cfg = *cfg;
	if (!e->cfg.retry_above)
		e->cfg.retry_above = RETRY_ABOVE_DEFAULT;
	if (!e->cfg.max_half_open)
		e->cfg.max_half_open = MAX_HALF_OPEN_DEFAULT;
	if (!e->cfg.max_resets_per_s)
		e->cfg.max_resets_per_s = RESETS_PER_S_DEFAULT;
	e->now_us = now_us;
	demux_init(&e->demux);
	TAILQ_INIT(&e->ready);
	TAILQ_INIT(&e->telling);
	RB_INIT(&e->times);
	bucket_init(&e->resets, e->cfg.max_resets_per_s, e->cfg.max_resets_per_s, now_us);
	bucket_init(&e->closes, CLOSES_PER_S, CLOSES_PER_S, now_us);
	bucket_init(&e->reset_checks, RESET_CHECKS_PER_S, RESET_CHECKS_BURST, now_us);
	return e;
}

void endpoint_free(struct endpoint *e)
{
	struct demux_entry *x;
	if (!e)
		return;
	while ((x = demux_any(&e->demux)))
		member_free(e, member_of(x));
	OPENSSL_cleanse(&e->cfg, sizeof(e->cfg));
	mem_free(e);
}

void endpoint_listen(struct endpoint *e, const struct conn_config *cfg)
{
	assert(!cfg || cfg->cid_len == e->cfg.cid_len);
	e->listen = cfg;
	if (cfg)
		memcpy(e->cfg.reset_key, cfg->reset_key, sizeof(e->cfg.reset_key));
}

void endpoint_retry(struct endpoint *e, bool retry)
{
	e->cfg.retry = retry;
}

void endpoint_refuse(struct endpoint *e, bool refuse)
{
	e->refuse = refuse;
}

struct conn *endpoint_connect(struct endpoint *e, const struct conn_config *cfg, const struct addr *local,
			      const struct addr *remote, const char *server_name, const uint8_t *token,
			      size_t token_len, const uint8_t *session, size_t session_len, uint64_t now_us)
{
	assert(cfg->cid_len == e->cfg.cid_len);
	e->now_us = now_us;
	struct conn *c = conn_new_client(cfg, &e->cfg.rng, local, remote, server_name, token, token_len, session,
					 session_len, now_us);
	struct member *m = member_new(e, c, remote);
	return m ? m->conn : NULL;
}

void endpoint_drop(struct endpoint *e, struct conn *c)
{
	member_free(e, conn_endpoint_data(c));
}

void endpoint_touch(struct endpoint *e, struct conn *c)
{
	acted(e, conn_endpoint_data(c));
}

size_t endpoint_count(const struct endpoint *e)
{
	return e->count;
}

/* ---- receiving ---------------------------------------------------------- */

/* Slot for an answer to d; the caller sets len and commits. NULL: the queue is full. */
static struct answer *answer_to(struct endpoint *e, const struct datagram *d)
{
	struct answer *a = answers_claim(&e->answers);
	if (!a)
		return NULL;
	a->local = d->local;
	a->remote = d->remote;
	a->len = 0;
	return a;
}

static void answer_send(struct endpoint *e, struct answer *a, size_t len)
{
	a->len = len;
	if (len)
		answers_commit(&e->answers);
}

/* RFC 9000 10.3.1: a datagram that belongs to nobody may end one of our connections with this peer. */
static bool was_reset(struct endpoint *e, const struct datagram *d, uint64_t now_us)
{
	if (d->len < RESET_MIN_LEN)
		return false;
	struct demux_entry *x = demux_remote_first(&e->demux, &d->remote);
	for (; x; x = demux_remote_next(&e->demux, x)) {
		struct member *m = member_of(x);
		if (!bucket_take(&e->reset_checks, now_us))
			return false;
		if (!conn_is_reset(m->conn, d->data, d->len))
			continue;
		conn_on_reset(m->conn, now_us);
		acted(e, m);
		return true;
	}
	return false;
}

static void send_reset(struct endpoint *e, const struct datagram *d, const struct cid *dcid, uint64_t now_us)
{
	struct answer *a = d->len >= ENDPOINT_RESET_MIN_TRIGGER ? answer_to(e, d) : NULL;
	if (a && bucket_take(&e->resets, now_us))
		answer_send(e, a, answer_reset(&e->cfg.rng, e->cfg.reset_key, dcid, d->len, a->data));
}

static struct member *accept_initial(struct endpoint *e, const struct datagram *d, const struct packet *p,
				     const struct decision *dec, uint64_t now_us)
{
	if (!initial_authentic(p))
		return NULL;
	struct conn *c = conn_new_server(e->listen, &e->cfg.rng, &d->local, &d->remote, p, &dec->odcid,
					 dec->by_retry ? &dec->retry_scid : NULL, dec->validated, now_us);
	struct member *m = member_new(e, c, &d->remote);
	if (!m)
		return NULL;
	m->half_open = m->unannounced = true;
	e->half_open++;
	if (dec->by_new_token)
		once_use(&e->once, dec->token_id, now_us);
	return m;
}

/* A first Initial for a DCID nobody has. The new connection, or NULL. */
static struct member *on_initial(struct endpoint *e, const struct datagram *d, const struct packet *p, uint64_t now_us)
{
	struct accept_load load = { .half_open = e->half_open, .refuse = e->refuse || !e->listen };
	struct decision dec = accept_decide(&e->cfg, &e->once, load, p, d->len, &d->remote, now_us);
	if (dec.verdict == VERDICT_DROP)
		return NULL;
	if (dec.verdict == VERDICT_ACCEPT)
		return accept_initial(e, d, p, &dec, now_us);

	struct answer *a = answer_to(e, d);
	if (!a)
		return NULL;
	if (dec.verdict == VERDICT_RETRY)
		answer_send(e, a, answer_retry(&e->cfg.rng, e->cfg.token_key, p, &d->remote, e->cfg.cid_len, now_us,
					       a->data));
	else if (bucket_take(&e->closes, now_us) && initial_authentic(p))
		answer_send(e, a, answer_close(p, dec.code, a->data));
	return NULL;
}

/* A long header that no connection claims. RFC 9000 5.2.2 */
static struct member *on_unknown_long(struct endpoint *e, const struct datagram *d, uint64_t now_us)
{
	struct packet p;
	struct rd r = rd_of(d->data, d->len);
	if ((!e->listen && !e->refuse) || packet_parse(&r, e->cfg.cid_len, &p))
		return NULL;
	if (p.type == PACKET_INITIAL)
		return on_initial(e, d, &p, now_us);
	if (p.type == PACKET_UNKNOWN_VERSION && d->len >= MIN_INITIAL_DATAGRAM) {
		struct answer *a = answer_to(e, d);
		if (a)
			answer_send(e, a, answer_version_negotiation(&e->cfg.rng, &p, a->data));
	}
	return NULL;
}

/* dcid: NULL when it could not be read. The new connection, or NULL. */
static struct member *on_unknown(struct endpoint *e, const struct datagram *d, const struct cid *dcid, uint64_t now_us)
{
	if (!d->len || was_reset(e, d, now_us))
		return NULL;
	if (packet_is_long(d->data[0]))
		return on_unknown_long(e, d, now_us);
	if (dcid)
		send_reset(e, d, dcid, now_us);
	return NULL;
}

/* How many datagrams from the first on have its DCID. */
static size_t run_length(const struct endpoint *e, const struct datagram *d, size_t n, const struct cid *dcid)
{
	struct cid next;
	size_t i = 1;
	while (i < n && packet_peek_dcid(d[i].data, d[i].len, e->cfg.cid_len, &next) && cid_equal(&next, dcid))
		i++;
	return i;
}

void endpoint_recv(struct endpoint *e, struct datagram *d, size_t n, uint64_t now_us)
{
	e->now_us = now_us;
	while (n) {
		struct cid dcid;
		bool known = packet_peek_dcid(d->data, d->len, e->cfg.cid_len, &dcid);
		struct demux_entry *x = known ? demux_find(&e->demux, &dcid) : NULL;
		struct member *m = x ? member_of(x) : on_unknown(e, d, known ? &dcid : NULL, now_us);
		size_t run = 1;
		if (m) {
			run = run_length(e, d, n, &dcid);
			conn_recv(m->conn, d, run, now_us);
			acted(e, m);
		}
		d += run;
		n -= run;
	}
}

void endpoint_unreachable(struct endpoint *e, const struct addr *remote, int os_errno, uint64_t now_us)
{
	e->now_us = now_us;
	struct demux_entry *x = demux_remote_first(&e->demux, remote);
	for (; x && bucket_take(&e->reset_checks, now_us); x = demux_remote_next(&e->demux, x)) {
		conn_unreachable(member_of(x)->conn, os_errno, now_us);
		acted(e, member_of(x));
	}
}

/* ---- sending, time, events ---------------------------------------------- */

static size_t transmit_answer(struct train *t, const struct answer *a)
{
	assert(t->cap >= a->len);
	memcpy(t->buf, a->data, a->len);
	t->len = t->seg = a->len;
	t->ecn = ECN_NOT_ECT;
	t->local = a->local;
	t->remote = a->remote;
	return 1;
}

size_t endpoint_poll_transmit(struct endpoint *e, struct train *t, uint64_t now_us)
{
	e->now_us = now_us;
	const struct answer *a = answers_pop(&e->answers);
	if (a)
		return transmit_answer(t, a);
	struct member *m;
	while ((m = TAILQ_FIRST(&e->ready))) {
		size_t n = conn_poll_transmit(m->conn, t, now_us);
		unset_ready(e, m);
		settle(e, m);
		if (!n) {
			set_deadline(e, m, conn_deadline(m->conn, now_us));
			continue;
		}
		set_ready(e, m);	/* at the end: the others come first */
		if (!addr_equal(&m->dx.remote, conn_remote(m->conn)))
			demux_move(&e->demux, &m->dx, conn_remote(m->conn));
		return n;
	}
	return 0;
}

uint64_t endpoint_deadline(const struct endpoint *e)
{
	const struct member *m = RB_MIN(member_times, (struct member_times *)&e->times);
	return m ? m->deadline_us : UINT64_MAX;
}

void endpoint_on_timeout(struct endpoint *e, uint64_t now_us)
{
	struct member *m;
	e->now_us = now_us;
	while ((m = RB_MIN(member_times, &e->times)) && m->deadline_us <= now_us) {
		set_deadline(e, m, UINT64_MAX);	/* set anew when it has been asked what it wants to send */
		conn_on_timeout(m->conn, now_us);
		acted(e, m);
	}
}

bool endpoint_poll_event(struct endpoint *e, struct conn **c, struct conn_event *ev, bool *accepted)
{
	struct member *m;
	while ((m = TAILQ_FIRST(&e->telling))) {
		if (!conn_poll_event(m->conn, ev)) {
			unset_telling(e, m);
			continue;
		}
		if (ev->type == CONN_EV_ESTABLISHED)
			end_half_open(e, m);
		*c = m->conn;
		*accepted = m->unannounced;
		m->unannounced = false;
		return true;
	}
	return false;
}
