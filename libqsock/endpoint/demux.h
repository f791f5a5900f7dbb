/* Which connection a datagram belongs to: by destination connection ID, and by
 * remote address where there is nothing better. Balanced trees, because peers choose
 * some of the keys: nothing to collide. RFC 9000 5.2 */
#ifndef ENDPOINT_DEMUX_H
#define ENDPOINT_DEMUX_H

#include <bsd/sys/tree.h>

#include "base/addr.h"
#include "wire/packet.h"

/* Those issued by NEW_CONNECTION_ID (8), the client's first DCID, our Retry's SCID; two that are on their way out. */
#define DEMUX_CIDS 12

struct demux_entry;

struct demux_cid {
	RB_ENTRY(demux_cid) link;
	struct demux_entry *owner;	/* NULL: slot is free */
	struct cid cid;
};

struct demux_entry {		/* one connection; embedded in what the endpoint keeps of it */
	RB_ENTRY(demux_entry) link;
	struct addr remote;
	struct demux_cid cids[DEMUX_CIDS];
};

RB_HEAD(demux_cid_tree, demux_cid);
RB_HEAD(demux_remote_tree, demux_entry);

struct demux {
	struct demux_cid_tree cids;
	struct demux_remote_tree remotes;
	struct demux_cid *last;		/* found last; most often the next one too */
};

void demux_init(struct demux *d);
/* Enter a connection, without any CID yet. x stays where it is until demux_remove. */
void demux_add(struct demux *d, struct demux_entry *x, const struct addr *remote);
/* With all its CIDs. */
void demux_remove(struct demux *d, struct demux_entry *x);
/* 0, also when it is registered for x already; QE_LIMIT: it belongs to another, or x has no free slot. */
int demux_cid_add(struct demux *d, struct demux_entry *x, const struct cid *cid);
/* Nothing happens when it is not x's. */
void demux_cid_remove(struct demux *d, struct demux_entry *x, const struct cid *cid);
/* NULL: unknown. */
struct demux_entry *demux_find(struct demux *d, const struct cid *cid);

/* The peer has moved. */
void demux_move(struct demux *d, struct demux_entry *x, const struct addr *remote);
/* All connections with this remote address, in no meaningful order; NULL: no (more). */
struct demux_entry *demux_remote_first(struct demux *d, const struct addr *remote);
struct demux_entry *demux_remote_next(struct demux *d, struct demux_entry *x);
/* Any at all; NULL: empty. */
struct demux_entry *demux_any(struct demux *d);

#endif
