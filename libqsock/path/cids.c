/* The connection IDs of one connection: which of ours the peer may use, which of
 * the peer's we use, and what has to be retired. Decides when the peer breaks the
 * rules of NEW_CONNECTION_ID and RETIRE_CONNECTION_ID. Does not make IDs or
 * tokens and does not know how datagrams find their connection. */
#include "path/cids.h"

#include <assert.h>

#include "base/err.h"
#include "crypto/retry.h"

/* ---- ours --------------------------------------------------------------- */

void local_cids_init(struct local_cids *l, const struct cid *first)
{
	*l = (struct local_cids){ .n = 1, .next_seq = 1, .offered = 1 };
	l->v[0].cid = *first;
}

static bool local_is_empty(const struct local_cids *l)
{
	return l->n && l->v[0].cid.len == 0;	/* never joined nor retired by others */
}

unsigned local_cids_missing(const struct local_cids *l)
{
	if (local_is_empty(l))
		return 0;
	uint64_t want = l->peer_limit < CIDS_LOCAL_MAX ? l->peer_limit : CIDS_LOCAL_MAX;
	return want > l->n ? (unsigned)want - l->n : 0;
}

uint64_t local_cids_add(struct local_cids *l, const struct cid *cid, const uint8_t token[RESET_TOKEN_LEN])
{
	assert(l->n < CIDS_LOCAL_MAX && cid->len);
	struct local_cid *c = &l->v[l->n++];
	*c = (struct local_cid){ .seq = l->next_seq++, .cid = *cid, .want_send = true };
	memcpy(c->token, token, RESET_TOKEN_LEN);
	return c->seq;
}

static struct local_cid *local_find(struct local_cids *l, uint64_t seq)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->v[i].seq == seq)
			return &l->v[i];
	return NULL;
}

int local_cids_retire(struct local_cids *l, uint64_t seq, const struct cid *used, struct cid *gone)
{
	if (local_is_empty(l) || seq >= l->offered)
		return QE_PROTOCOL_VIOLATION;
	struct local_cid *c = local_find(l, seq);
	if (!c)
		return QE_AGAIN;
	if (cid_equal(&c->cid, used))
		return QE_PROTOCOL_VIOLATION;
	*gone = c->cid;
	l->n--;
	memmove(c, c + 1, (size_t)(&l->v[l->n] - c) * sizeof(*c));	/* stays sorted */
	return 0;
}

const struct local_cid *local_cids_next_unsent(const struct local_cids *l)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->v[i].want_send)
			return &l->v[i];
	return NULL;
}

void local_cids_on_sent(struct local_cids *l, uint64_t seq)
{
	struct local_cid *c = local_find(l, seq);
	assert(c);
	c->want_send = false;
	if (seq >= l->offered)
		l->offered = seq + 1;
}

void local_cids_on_lost(struct local_cids *l, uint64_t seq)
{
	struct local_cid *c = local_find(l, seq);
	if (c)
		c->want_send = true;
}

/* ---- the peer's --------------------------------------------------------- */

void remote_cids_init(struct remote_cids *r, const struct cid *first)
{
	*r = (struct remote_cids){ .n = 1, .seen = 1 };
	r->v[0].cid = *first;
	r->v[0].used = true;
}

static struct remote_cid *remote_find(struct remote_cids *r, uint64_t seq)
{
	for (unsigned i = 0; i < r->n; i++)
		if (r->v[i].seq == seq)
			return &r->v[i];
	return NULL;
}

void remote_cids_set_first(struct remote_cids *r, const struct cid *cid)
{
	struct remote_cid *c = remote_find(r, 0);
	if (c)
		c->cid = *cid;
}

void remote_cids_set_first_token(struct remote_cids *r, const uint8_t token[RESET_TOKEN_LEN])
{
	struct remote_cid *c = remote_find(r, 0);
	if (!c)
		return;
	c->has_token = true;
	memcpy(c->token, token, RESET_TOKEN_LEN);
}

/* Was this sequence number received before? Remembers it. Far below the highest
 * one nobody knows any more: then "no", and the caller retires it once more,
 * which harms nobody. */
static bool test_and_set_seen(struct remote_cids *r, uint64_t seq)
{
	if (seq > r->highest_seq) {
		uint64_t d = seq - r->highest_seq;
		r->seen = d < CIDS_SEEN_WINDOW ? r->seen << d | 1 : 1;
		r->highest_seq = seq;
		return false;
	}
	uint64_t d = r->highest_seq - seq;
	if (d >= CIDS_SEEN_WINDOW)
		return false;
	bool was = r->seen >> d & 1;
	r->seen |= UINT64_C(1) << d;
	return was;
}

static bool beyond_memory(const struct remote_cids *r, uint64_t seq)
{
	return seq < r->highest_seq && r->highest_seq - seq >= CIDS_SEEN_WINDOW;
}

static int retire_index(const struct remote_cids *r, uint64_t seq)
{
	for (unsigned i = 0; i < r->nretire; i++)
		if (r->retire[i] == seq)
			return (int)i;
	return -1;
}

static int retire_push(struct remote_cids *r, uint64_t seq)
{
	if (retire_index(r, seq) >= 0)
		return 0;
	if (r->nretire == CIDS_RETIRE_MAX)
		return QE_CONNECTION_ID_LIMIT;
	r->retire[r->nretire] = seq;
	r->retire_want[r->nretire++] = true;
	return 0;
}

/* Take entry i out of the set and queue its RETIRE_CONNECTION_ID. current keeps its
 * entry unless that is the one that goes; then it is 0 and the caller chooses. */
static int remote_retire_at(struct remote_cids *r, unsigned i)
{
	int rc = retire_push(r, r->v[i].seq);
	if (rc)
		return rc;
	r->n--;
	memmove(&r->v[i], &r->v[i + 1], (r->n - i) * sizeof(r->v[0]));
	if (r->current == i)
		r->current = 0;
	else if (r->current > i)
		r->current--;
	return 0;
}

/* Lowest-numbered CID that was never used; -1: none. */
static int remote_spare(const struct remote_cids *r)
{
	int best = -1;
	for (unsigned i = 0; i < r->n; i++)
		if (!r->v[i].used && (best < 0 || r->v[i].seq < r->v[best].seq))
			best = (int)i;
	return best;
}

/* The same CID under another number, or the same number for another CID or token. RFC 9000 19.15 */
static bool remote_conflicts(const struct remote_cids *r, uint64_t seq, const struct cid *cid, const uint8_t *token)
{
	for (unsigned i = 0; i < r->n; i++) {
		const struct remote_cid *c = &r->v[i];
		bool same = cid_equal(&c->cid, cid);
		if (same != (c->seq == seq))
			return true;
		if (same && c->has_token && !reset_token_equal(c->token, token))
			return true;
	}
	return false;
}

static int remote_raise_retire_prior_to(struct remote_cids *r, uint64_t prior_to)
{
	if (prior_to <= r->retire_prior_to)
		return 0;
	r->retire_prior_to = prior_to;
	for (unsigned i = r->n; i-- > 0;) {
		int rc = r->v[i].seq < prior_to ? remote_retire_at(r, i) : 0;
		if (rc)
			return rc;
	}
	return 0;
}

/* Something is left to send to, within our limit; and if the one in use is gone, another takes its place. */
static int remote_settle(struct remote_cids *r, uint64_t current_seq)
{
	/* Nothing left: a repeated frame raised Retire Prior To up to a number that we had retired ourselves. */
	if (!r->n || r->n > CIDS_REMOTE_MAX)
		return QE_CONNECTION_ID_LIMIT;
	if (r->v[r->current].seq == current_seq)
		return 0;
	int spare = remote_spare(r);
	r->current = spare < 0 ? 0 : (unsigned)spare;
	r->v[r->current].used = true;
	return 0;
}

int remote_cids_on_new(struct remote_cids *r, uint64_t seq, uint64_t retire_prior_to, const struct cid *cid,
		       const uint8_t token[RESET_TOKEN_LEN])
{
	if (retire_prior_to > seq)
		return QE_FRAME_ENCODING;
	if (remote_cids_current(r)->len == 0 || remote_conflicts(r, seq, cid, token))
		return QE_PROTOCOL_VIOLATION;

	/* RFC 9000 5.1.2: retire first, then add. */
	uint64_t current_seq = r->v[r->current].seq;
	int rc = remote_raise_retire_prior_to(r, retire_prior_to);
	if (rc)
		return rc;
	bool late = beyond_memory(r, seq) || seq < r->retire_prior_to;
	if (test_and_set_seen(r, seq) || remote_find(r, seq))
		return remote_settle(r, current_seq);
	if (late) {	/* RFC 9000 19.15: retired as soon as it comes */
		rc = retire_push(r, seq);
		return rc ? rc : remote_settle(r, current_seq);
	}
	r->v[r->n] = (struct remote_cid){ .seq = seq, .cid = *cid, .has_token = true };
	memcpy(r->v[r->n++].token, token, RESET_TOKEN_LEN);
	return remote_settle(r, current_seq);
}

bool remote_cids_rotate(struct remote_cids *r)
{
	int spare = remote_spare(r);
	if (spare < 0)
		return false;
	uint64_t seq = r->v[spare].seq;
	if (remote_retire_at(r, r->current))
		return false;
	struct remote_cid *c = remote_find(r, seq);
	c->used = true;
	r->current = (unsigned)(c - r->v);
	return true;
}

bool remote_cids_retire_pending(const struct remote_cids *r)
{
	for (unsigned i = 0; i < r->nretire; i++)
		if (r->retire_want[i])
			return true;
	return false;
}

bool remote_cids_next_retire(struct remote_cids *r, uint64_t *seq)
{
	for (unsigned i = 0; i < r->nretire; i++) {
		if (!r->retire_want[i])
			continue;
		r->retire_want[i] = false;
		*seq = r->retire[i];
		return true;
	}
	return false;
}

void remote_cids_retire_acked(struct remote_cids *r, uint64_t seq)
{
	int i = retire_index(r, seq);
	if (i < 0)
		return;
	r->nretire--;
	r->retire[i] = r->retire[r->nretire];
	r->retire_want[i] = r->retire_want[r->nretire];
}

void remote_cids_retire_lost(struct remote_cids *r, uint64_t seq)
{
	int i = retire_index(r, seq);
	if (i >= 0)
		r->retire_want[i] = true;
}

bool remote_cids_is_reset(const struct remote_cids *r, const uint8_t token[RESET_TOKEN_LEN])
{
	bool hit = false;
	for (unsigned i = 0; i < r->n; i++) {
		bool equal = reset_token_equal(r->v[i].token, token);
		hit |= equal & r->v[i].used & r->v[i].has_token;
	}
	return hit;
}
