/* The two trees behind demux.h. Knows no packets and no connections: an entry is
 * only something that has connection IDs and a remote address. */
#include "endpoint/demux.h"

#include <assert.h>

#include "base/err.h"

static int by_cid(const struct demux_cid *a, const struct demux_cid *b)
{
	return cid_cmp(&a->cid, &b->cid);
}

static int addr_cmp(const struct addr *a, const struct addr *b)
{
	if (a->sa.sa_family != b->sa.sa_family)
		return a->sa.sa_family < b->sa.sa_family ? -1 : 1;
	if (a->sa.sa_family != AF_INET6) {
		if (a->in4.sin_port != b->in4.sin_port)
			return a->in4.sin_port < b->in4.sin_port ? -1 : 1;
		return memcmp(&a->in4.sin_addr, &b->in4.sin_addr, sizeof(a->in4.sin_addr));
	}
	if (a->in6.sin6_port != b->in6.sin6_port)
		return a->in6.sin6_port < b->in6.sin6_port ? -1 : 1;
	if (a->in6.sin6_scope_id != b->in6.sin6_scope_id)
		return a->in6.sin6_scope_id < b->in6.sin6_scope_id ? -1 : 1;
	return memcmp(&a->in6.sin6_addr, &b->in6.sin6_addr, sizeof(a->in6.sin6_addr));
}

/* Many may share an address, so the entry itself is the last part of the key. */
static int by_remote(const struct demux_entry *a, const struct demux_entry *b)
{
	int c = addr_cmp(&a->remote, &b->remote);
	if (c)
		return c;
	return (uintptr_t)a < (uintptr_t)b ? -1 : (uintptr_t)a > (uintptr_t)b;
}

/* RB_GENERATE_STATIC wants __unused, which libbsd leaves undefined on Linux. */
#define TREE_ATTR static __attribute__((unused))
RB_GENERATE_INTERNAL(demux_cid_tree, demux_cid, link, by_cid, TREE_ATTR)
RB_GENERATE_INTERNAL(demux_remote_tree, demux_entry, link, by_remote, TREE_ATTR)

void demux_init(struct demux *d)
{
	RB_INIT(&d->cids);
	RB_INIT(&d->remotes);
	d->last = NULL;
}

void demux_add(struct demux *d, struct demux_entry *x, const struct addr *remote)
{
	for (unsigned i = 0; i < DEMUX_CIDS; i++)
		x->cids[i].owner = NULL;
	x->remote = *remote;
	RB_INSERT(demux_remote_tree, &d->remotes, x);
}

static void slot_free(struct demux *d, struct demux_cid *slot)
{
	RB_REMOVE(demux_cid_tree, &d->cids, slot);
	slot->owner = NULL;
	if (d->last == slot)
		d->last = NULL;
}

void demux_remove(struct demux *d, struct demux_entry *x)
{
	for (unsigned i = 0; i < DEMUX_CIDS; i++)
		if (x->cids[i].owner)
			slot_free(d, &x->cids[i]);
	RB_REMOVE(demux_remote_tree, &d->remotes, x);
}

static struct demux_cid *tree_find(struct demux *d, const struct cid *cid)
{
	struct demux_cid key = { .cid = *cid };
	return RB_FIND(demux_cid_tree, &d->cids, &key);
}

int demux_cid_add(struct demux *d, struct demux_entry *x, const struct cid *cid)
{
	assert(cid->len);
	struct demux_cid *have = tree_find(d, cid);
	if (have)
		return have->owner == x ? 0 : QE_LIMIT;
	for (unsigned i = 0; i < DEMUX_CIDS; i++) {
		struct demux_cid *slot = &x->cids[i];
		if (slot->owner)
			continue;
		slot->owner = x;
		slot->cid = *cid;
		RB_INSERT(demux_cid_tree, &d->cids, slot);
		return 0;
	}
	return QE_LIMIT;
}

void demux_cid_remove(struct demux *d, struct demux_entry *x, const struct cid *cid)
{
	struct demux_cid *slot = tree_find(d, cid);
	if (slot && slot->owner == x)
		slot_free(d, slot);
}

struct demux_entry *demux_find(struct demux *d, const struct cid *cid)
{
	if (!d->last || !cid_equal(&d->last->cid, cid)) {
		struct demux_cid *hit = tree_find(d, cid);
		if (!hit)
			return NULL;
		d->last = hit;
	}
	return d->last->owner;
}

void demux_move(struct demux *d, struct demux_entry *x, const struct addr *remote)
{
	RB_REMOVE(demux_remote_tree, &d->remotes, x);
	x->remote = *remote;
	RB_INSERT(demux_remote_tree, &d->remotes, x);
}

struct demux_entry *demux_remote_first(struct demux *d, const struct addr *remote)
{
	struct demux_entry *x = RB_ROOT(&d->remotes), *best = NULL;
	while (x) {		/* leftmost of the equal ones */
		int c = addr_cmp(remote, &x->remote);
		if (c == 0)
			best = x;
		x = c <= 0 ? RB_LEFT(x, link) : RB_RIGHT(x, link);
	}
	return best;
}

struct demux_entry *demux_remote_next(struct demux *d, struct demux_entry *x)
{
	struct demux_entry *next = RB_NEXT(demux_remote_tree, &d->remotes, x);
	return next && !addr_cmp(&next->remote, &x->remote) ? next : NULL;
}

struct demux_entry *demux_any(struct demux *d)
{
	return RB_ROOT(&d->remotes);
}
