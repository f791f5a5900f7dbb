/* Bytes written by the application, kept until acknowledged; knows which are to
 * be sent, to be sent again, or done. Also used for CRYPTO. RFC 9000 2.2, 3.1
 *
 * Memory: blocks, small for the first bytes of a quiet stream, large once claims are
 * filled; nothing is held while all is acknowledged. Space is claimed first and filled
 * by the caller (a readv straight into it). */
#ifndef STREAM_SENDBUF_H
#define STREAM_SENDBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/rangeset.h"
#include "stream/block.h"

#define SENDBUF_MAX_RANGES 1024	/* acknowledged or lost islands */

struct sendbuf {
	struct block *head, *tail;	/* from base upward, without gaps */
	struct block *at_next;	/* of next, or a lower one; NULL: none */
	struct block *at_old;	/* last one copied from below next; NULL: none */
	struct blockpool *pool;	/* borrowed; NULL after init, the owner may set it */
	uint64_t base;		/* all below is acknowledged and freed */
	uint64_t end;		/* bytes written by the application so far */
	uint64_t next;		/* first byte never sent */
	struct rangeset acked;	/* above base */
	struct rangeset lost;	/* in [base, next), to be sent again */
	uint32_t claimed;	/* bytes handed out by an open claim */
	bool bulk;		/* the last claim was filled: hand out more at once */
	bool fin;		/* final size is end */
	bool fin_sent, fin_lost, fin_acked;
};

void sendbuf_init(struct sendbuf *sb);
void sendbuf_fini(struct sendbuf *sb);

/* Up to want bytes of room behind end, as at most iov_cap pieces (>= 1); *n pieces. Returns bytes claimed (may be
 * less than want: a stream that was idle gets one small block first); 0 on no memory or when want is 0. commit(len)
 * says how many were filled, in order, and gives the rest back. No other call on sb between the two. */
size_t sendbuf_claim(struct sendbuf *sb, size_t want, struct iovec *iov, int iov_cap, int *n);
void sendbuf_commit(struct sendbuf *sb, size_t len);
/* Copying convenience over claim and commit: all or nothing. 0; QE_NOMEM. */
int sendbuf_write(struct sendbuf *sb, const void *data, size_t len);
void sendbuf_finish(struct sendbuf *sb);	/* no more writes */
/* Forget everything not acknowledged (reset): next stays, as the final size, and nothing is pending any more. */
void sendbuf_discard(struct sendbuf *sb);

/* Bytes held (end - base): what counts against the memory cap. */
static inline uint64_t sendbuf_held(const struct sendbuf *sb) { return sb->end - sb->base; }
/* Anything to send: a lost range, or new bytes below limit (absolute offset the peer allows), or a FIN? */
bool sendbuf_pending(const struct sendbuf *sb, uint64_t limit);
/* The next range to send: lost ones first. *fin: FIN belongs to this range's end (len may then be 0). New bytes
 * do not pass limit. false: nothing. Does not change state. */
bool sendbuf_next(const struct sendbuf *sb, uint64_t limit, uint64_t *off, uint64_t *len, bool *fin);
/* [off, off+len) of what is held, i.e. within [base, end). */
void sendbuf_copy(struct sendbuf *sb, uint64_t off, size_t len, uint8_t *dst);
/* [off, off+len) left in a packet: a prefix of what next returned; fin only with all of it. */
void sendbuf_on_sent(struct sendbuf *sb, uint64_t off, uint64_t len, bool fin);
/* Fates of what was sent, off+len <= next. Neither can fail: at SENDBUF_MAX_RANGES or without memory some bytes
 * are sent once more than needed. */
void sendbuf_on_acked(struct sendbuf *sb, uint64_t off, uint64_t len, bool fin);
void sendbuf_on_lost(struct sendbuf *sb, uint64_t off, uint64_t len, bool fin);
/* Everything sent so far is to be sent again (Retry). */
void sendbuf_rewind(struct sendbuf *sb);
static inline bool sendbuf_all_acked(const struct sendbuf *sb)
{
	return sb->base == sb->end && (!sb->fin || sb->fin_acked);
}
/* Bytes sent and not acknowledged plus bytes not yet sent, for SIOCOUTQ-like figures. */
static inline uint64_t sendbuf_unacked(const struct sendbuf *sb) { return sb->end - sb->base; }

#endif
