/* From the pair to QUIC: what the application wrote goes straight into the send
 * buffer, and only as long as that has room. The last byte is copied without being
 * taken, so that the queue is never empty (see pair.c) although everything in it
 * was forwarded.
 *
 * New bytes make a new edge, so one look at how many there are is enough per event:
 * a wake-up costs FIONREAD, one recvmsg per 64 KB and a peek. */
#include "sock/engine_side.h"

#include <errno.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define CHUNK 65536
#define PIECES 16

static size_t pending(const struct sstream *s)
{
	int queued = 0;
	if (ioctl(s->source.fd, FIONREAD, &queued) || queued < s->head_sent)
		return 0;
	return (size_t)queued - s->head_sent;
}

/* By itself, or its bytes may be taken already and epoll still owe us that event. */
static bool is_shut(const struct sstream *s)
{
	struct pollfd p = { .fd = s->source.fd, .events = POLLRDHUP };
	return poll(&p, 1, 0) == 1 && p.revents & (POLLRDHUP | POLLHUP);
}

uint64_t sstream_unsent(const struct sstream *s)
{
	const struct sendbuf *sb = s->stream ? &s->stream->sb : NULL;
	uint64_t n = sb ? sendbuf_unacked(sb) + (sb->fin && !sb->fin_acked) : 0;
	if (s->tx == HALF_OPEN && s->source.fd >= 0 && !s->filler)
		n += pending(s) + is_shut(s);
	return n;
}

static bool copy_last(struct sstream *s, char *at)
{
	s->head_sent = recv(s->source.fd, at, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
	return s->head_sent;
}

/* Take len bytes into first[0..n), whose sum that is, leaving the queue non-empty: of the last byte in it (last) only
 * a copy. first[-1] is free for the byte that was forwarded before. Returns bytes taken, -1: nothing can be had. */
static ssize_t take(struct sstream *s, struct iovec *first, int n, size_t len, bool last)
{
	char old;
	size_t skip = s->head_sent, body = len - last;
	struct msghdr m = { .msg_iov = first - skip, .msg_iovlen = (size_t)n + skip };
	ssize_t got = 0;
	first[-1] = (struct iovec){ &old, 1 };
	first[n - 1].iov_len -= last;
	if (body + skip) {
		got = recvmsg(s->source.fd, &m, MSG_DONTWAIT);
		if (got <= 0)
			return -1;
		got -= (ssize_t)skip;
		s->head_sent = false;
		if ((size_t)got < body)
			return got;
	}
	if (last && copy_last(s, (char *)first[n - 1].iov_base + first[n - 1].iov_len))
		return got + 1;
	return last && !got && !skip ? -1 : got;
}

/* Nothing to claim: the send buffer is full (STREAM_EV_WRITABLE will come), or there is no memory for the moment. */
static void stalled(struct sstream *s)
{
	if (stream_tx_open(s->stream) && !s->stream->tx_waiting)
		sstream_retry_later(s);
}

/* Bytes are there that cannot be had: somebody else has this end too and reads or tampers with it. The peer must not
 * take for whole what is left. */
static void give_up(struct sstream *s)
{
	s->obj.error = (struct qsock_error){ .kind = QSOCK_ERR_LOCAL, .os_errno = EIO };
	conn_stream_reset(s->conn->conn, s->stream, 0);
	shutdown(s->source.fd, SHUT_RD);
	s->tx = HALF_CUT;
}

/* What TCP has sent before its RST usually arrives: wait for that, a reset would overtake it. */
static void abort_tx(struct sstream *s)
{
	if (!s->abort_on_close && sendbuf_unacked(&s->stream->sb) && !s->conn->over) {
		sstream_retry_later(s);
		return;
	}
	conn_stream_reset(s->conn->conn, s->stream, 0);
	s->tx = HALF_CUT;
	sconn_touch(s->conn);
}

void sstream_drain(struct sstream *s)
{
	struct conn *c = s->conn->conn;
	struct iovec iov[PIECES + 1];
	if (s->tx != HALF_OPEN || !s->stream || pool_keeps(s))
		return;
	size_t left = pending(s);
	if (s->parted && (left || s->shut)) {
		shutdown(s->source.fd, SHUT_RD);
		s->tx = HALF_CUT;
		return;
	}
	if (left)
		sconn_touch(s->conn);
	while (left) {
		int n;
		size_t room = conn_stream_claim(c, s->stream, left < CHUNK ? left : CHUNK, iov + 1, PIECES, &n);
		if (!room) {
			stalled(s);
			return;
		}
		ssize_t got = take(s, iov + 1, n, room, room == left && !s->gone);
		conn_stream_commit(c, s->stream, got > 0 ? (size_t)got : 0);
		if (got < 0) {
			give_up(s);
			return;
		}
		left -= (size_t)got;
		s->emptied = s->gone && !left;
	}
	if (!s->shut)
		return;
	if (s->aborted) {
		abort_tx(s);
		return;
	}
	conn_stream_finish(c, s->stream);
	s->tx = HALF_DONE;
	sconn_touch(s->conn);
	if (s->conn->side->phase != PHASE_RUNNING)
		shutdown(s->source.fd, SHUT_RD);	/* the engine stops: what comes now would be lost */
}

void sstream_discard(struct sstream *s)
{
	char sink[16384];
	int queued = 0;
	while (!ioctl(s->source.fd, FIONREAD, &queued) && queued > 1) {
		size_t n = (size_t)queued - 1;
		if (recv(s->source.fd, sink, n < sizeof(sink) ? n : sizeof(sink), MSG_DONTWAIT) <= 0)
			break;
	}
}
