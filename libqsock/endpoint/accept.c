/* The gate for new connections: what a first Initial must look like, what its token
 * proves, and which answer the load allows. Keeps no state but which tokens have
 * been used; spends no cryptography but opening a token. */
#include "endpoint/accept.h"

#include "base/err.h"
#include "path/token.h"

#define MIN_FIRST_DCID 8	/* RFC 9000 7.2 */

/* id is random and authenticated, so its own bits serve as hashes. */
static unsigned once_bit(uint64_t id, unsigned part)
{
	return id >> 16 * part & (ONCE_PART_BITS - 1);
}

static bool once_has(const struct once *o, unsigned filter, uint64_t id)
{
	bool all = true;
	for (unsigned i = 0; i < ONCE_PARTS; i++)
		all &= o->bits[filter][i][once_bit(id, i) / 64] >> once_bit(id, i) % 64 & 1;
	return all;
}

bool once_is_fresh(const struct once *o, uint64_t id, uint64_t issued_us)
{
	return issued_us >= o->horizon_us && !once_has(o, 0, id) && !once_has(o, 1, id);
}

void once_use(struct once *o, uint64_t id, uint64_t now_us)
{
	if (o->used == ONCE_FILL) {
		/* The other filter is forgotten. What was used in it was issued before this one began. */
		o->horizon_us = o->since_us;
		o->since_us = now_us;
		o->now ^= 1;
		o->used = 0;
		memset(o->bits[o->now], 0, sizeof(o->bits[0]));
	}
	for (unsigned i = 0; i < ONCE_PARTS; i++)
		o->bits[o->now][i][once_bit(id, i) / 64] |= UINT64_C(1) << once_bit(id, i) % 64;
	o->used++;
}

static bool well_formed(const struct packet *p, size_t datagram_len)
{
	if (p->type != PACKET_INITIAL || p->version != QUIC_V1)
		return false;
	/* RFC 9000 14.1 and 7.2 */
	if (datagram_len < MIN_INITIAL_DATAGRAM || p->dcid.len < MIN_FIRST_DCID)
		return false;
	/* RFC 9287 3.1: only a client that came back with a token may clear the bit so early. */
	return packet_fixed_bit(p->first) || p->token_len;
}

/* What the token says goes into *d. 0, or QE_INVALID_TOKEN. RFC 9000 8.1.3 */
static int read_token(const struct endpoint_config *cfg, const struct once *once, const struct packet *p,
		      const struct addr *remote, uint64_t now_us, struct decision *d)
{
	struct token t;
	if (!p->token_len)
		return 0;
	int rc = token_open(cfg->token_key, p->token, p->token_len, remote, now_us, &t);
	if (rc)
		return rc == QE_INVALID_TOKEN ? rc : 0;
	if (!t.is_retry) {
		d->validated = d->by_new_token = once_is_fresh(once, t.id, t.issued_us);
		d->token_id = t.id;
		return 0;
	}
	/* Our Retry named this DCID (RFC 9000 17.2.5.2), so one token serves one connection only. */
	if (!cid_equal(&t.retry_scid, &p->dcid))
		return QE_INVALID_TOKEN;
	d->validated = d->by_retry = true;
	d->odcid = t.odcid;
	d->retry_scid = t.retry_scid;
	return 0;
}

struct decision accept_decide(const struct endpoint_config *cfg, const struct once *once, struct accept_load load,
			      const struct packet *first, size_t datagram_len, const struct addr *remote,
			      uint64_t now_us)
{
	struct decision d = { .verdict = VERDICT_DROP, .odcid = first->dcid };
	if (!well_formed(first, datagram_len))
		return d;

	d.code = read_token(cfg, once, first, remote, now_us, &d);
	if (d.code || load.refuse) {
		d.verdict = VERDICT_CLOSE;
		if (!d.code)
			d.code = QE_CONNECTION_REFUSED;
		return d;
	}
	/* Under load, first let everyone prove his address, which costs no memory; then refuse even those who did. */
	bool full = load.half_open >= cfg->max_half_open;
	if (!d.validated && (cfg->retry || full || load.half_open >= cfg->retry_above)) {
		d.verdict = VERDICT_RETRY;
	} else if (full) {
		d.verdict = VERDICT_CLOSE;
		d.code = QE_CONNECTION_REFUSED;
	} else {
		d.verdict = VERDICT_ACCEPT;
	}
	return d;
}
