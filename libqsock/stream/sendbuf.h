/* Bytes written by the application, kept until acknowledged; knows which are to
 * be sent, to be sent again, or done. Also used for CRYPTO. RFC 9000 2.2, 3.1
 *
 * Memory: blocks of SENDBUF_BLOCK; nothing is held while all is acknowledged.
 * Space is claimed first and filled by the caller (a readv straight into it). */
#ifndef STREAM_SENDBUF_H
#define STREAM_SENDBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/rangeset.h"

#define SENDBUF_MAX_RANGES 1024	/* acknowledged or lost islands */

struct sendbuf_block;

struct sendbuf {
	struct sendbuf_block *head, *tail;	/* from base upward */
	struct sendbuf_block *spare;
	uint64_t base;		/* all below is acknowledged and freed */
	uint64_t end;		/* bytes written by the application so far */
	uint64_t next;		/* first byte never sent */
	struct rangeset acked;	/* above base */
	struct rangeset lost;	/* to be sent again */
	bool fin;		/* final size is end */
	bool fin_sent, fin_lost, fin_acked;
};

void sendbuf_init(struct sendbuf *sb);
void sendbuf_fini(struct sendbuf *sb);

/* Up to want bytes of room behind end, as at most iov_cap pieces (>= 1); *n pieces. Returns bytes claimed (may be
 * less than want); 0 on no memory. commit(len) says how many were filled, in order; 0 gives the rest back. */
size_t sendbuf_claim(struct sendbuf *sb, size_t want, struct iovec *iov, int iov_cap, int *n);
void sendbuf_commit(struct sendbuf *sb, size_t len);
/* Copying convenience over claim and commit: all or nothing. 0; QE_NOMEM. */
int sendbuf_write(struct sendbuf *sb, const void *data, size_t len);
void sendbuf_finish(struct sendbuf *sb);	/* no more writes */

/* Bytes held (end - base): what counts against the memory cap. */
static inline uint64_t sendbuf_held(const struct sendbuf *sb) { return sb->end - sb->base; }
/* Anything to send: a lost range, or new bytes below limit (absolute offset the peer allows), or a FIN? */
bool sendbuf_pending(const struct sendbuf *sb, uint64_t limit);
/* The next range to send: lost ones first. *fin: FIN belongs to this range's end (len may then be 0). New bytes do not pass limit.
 * false: nothing. Does not change state. */
bool sendbuf_next(const struct sendbuf *sb, uint64_t limit, uint64_t *off, uint64_t *len, bool *fin);
void sendbuf_copy(const struct sendbuf *sb, uint64_t off, size_t len, uint8_t *dst);
/* [off, off+len) left in a packet (a prefix of what next returned). 0; QE_NOMEM or QE_LIMIT (then do not send it now). */
int sendbuf_on_sent(struct sendbuf *sb, uint64_t off, uint64_t len, bool fin);
/* 0; QE_NOMEM or QE_LIMIT: caller closes the connection with INTERNAL_ERROR. */
int sendbuf_on_acked(struct sendbuf *sb, uint64_t off, uint64_t len, bool fin);
int sendbuf_on_lost(struct sendbuf *sb, uint64_t off, uint64_t len, bool fin);
/* Everything sent so far is to be sent again (Retry). */
int sendbuf_rewind(struct sendbuf *sb);
static inline bool sendbuf_all_acked(const struct sendbuf *sb)
{
	return sb->base == sb->end && (!sb->fin || sb->fin_acked);
}
/* Bytes sent and not acknowledged plus bytes not yet sent, for SIOCOUTQ-like figures. */
static inline uint64_t sendbuf_unacked(const struct sendbuf *sb) { return sb->end - sb->base; }

#endif
