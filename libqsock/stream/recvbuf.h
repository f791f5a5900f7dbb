/* Reassembly of one ordered byte sequence. Also used for CRYPTO.
 *
 * Bytes land once at their place in blocks on a fixed grid, so overlap costs nothing
 * and an island costs at most one block; the first copy of a byte wins. Memory is bounded by
 * the credit the caller gave plus one block; nothing is held while nothing is unread. RFC 9000 2.2 */
#ifndef STREAM_RECVBUF_H
#define STREAM_RECVBUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/rangeset.h"
#include "stream/block.h"

#define RECVBUF_MAX_RANGES 1024	/* islands above the first gap */
#define RECVBUF_NO_FINAL UINT64_MAX

struct recvbuf {
	struct block *head, *tail;	/* by offset, gaps allowed */
	struct block *at;	/* last one written, NULL: none */
	struct blockpool *pool;	/* borrowed; NULL after init, the owner may set it */
	uint64_t read_off;	/* consumed by the reader */
	uint64_t highest;	/* highest offset received */
	uint64_t final_size;	/* RECVBUF_NO_FINAL until known */
	struct rangeset got;	/* [read_off..) */
	bool discarding;	/* nothing will be read any more */
};

void recvbuf_init(struct recvbuf *rb);
void recvbuf_fini(struct recvbuf *rb);

/* Would these bytes contradict the final size? 0; QE_FINAL_SIZE. RFC 9000 4.5 */
int recvbuf_check(const struct recvbuf *rb, uint64_t off, size_t len, bool fin);
/* Queue received bytes, copied. off + len <= 2^62 - 1. The caller checks credit before, with recvbuf_growth.
 * 0; QE_FINAL_SIZE (RFC 9000 4.5); QE_NOMEM; QE_LIMIT (too many islands). State unchanged on error. */
int recvbuf_insert(struct recvbuf *rb, uint64_t off, const uint8_t *data, size_t len, bool fin);
/* By how much would highest grow? */
static inline uint64_t recvbuf_growth(const struct recvbuf *rb, uint64_t off, size_t len)
{
	return off + len > rb->highest ? off + len - rb->highest : 0;
}
/* The final size became known by RESET_STREAM; all below it counts as received (highest). What lies behind the
 * first gap is dropped, what lies before it stays readable. 0; QE_FINAL_SIZE. */
int recvbuf_reset(struct recvbuf *rb, uint64_t final_size);

/* Contiguous bytes at the read position. */
uint64_t recvbuf_readable(const struct recvbuf *rb);
/* Them as up to cap pieces (borrowed until the next call that changes rb); returns pieces, *bytes their sum. */
int recvbuf_peek(const struct recvbuf *rb, struct iovec *iov, int cap, size_t *bytes);
void recvbuf_consume(struct recvbuf *rb, size_t n);	/* n <= readable; frees blocks */
/* All bytes up to the final size were received (or are not wanted, after discard) / read. */
bool recvbuf_complete(const struct recvbuf *rb);
static inline bool recvbuf_finished(const struct recvbuf *rb) { return rb->read_off == rb->final_size; }
/* Drop unread bytes (stop_sending): frees memory; later inserts only keep count of highest and the final size. */
void recvbuf_discard(struct recvbuf *rb);

#endif
