/* From QUIC to the pair: bytes received in order go out of the reassembly blocks in
 * one sendmsg, and only what the pair took is consumed, so a reader that is slow
 * holds the peer back by flow control. What follows the last byte decides how the
 * descriptor's reading half ends. */
#include "sock/engine_side.h"

#include <errno.h>
#include <sys/socket.h>

#define PIECES 64

static void want_out(struct sstream *s, bool on)
{
	uint32_t interest = WATCH_ENGINE_END | (on ? EPOLLOUT : 0);
	s->want_out = on;
	if (s->source.interest != interest)
		source_set(s->obj.engine, &s->source, interest);
}

/* true: everything received so far is in the pair. */
static bool move(struct sstream *s, int *end)
{
	struct conn *c = s->conn->conn;
	struct iovec iov[PIECES + 1];
	size_t bytes;
	for (;;) {
		int n = conn_stream_peek(c, s->stream, iov + 1, PIECES, &bytes, end);
		size_t go = s->owes_go && !s->deaf;
		struct msghdr m = { .msg_iov = iov + !go, .msg_iovlen = (size_t)n + go };
		iov[0] = (struct iovec){ &(char){ 0 }, 1 };
		if (!(bytes + go))
			return true;
		if (s->deaf) {
			conn_stream_consume(c, s->stream, bytes);
			sconn_touch(s->conn);
			continue;
		}
		ssize_t sent = sendmsg(s->source.fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (sent < 0) {
			if (errno == EAGAIN)
				want_out(s, true);
			else if (errno == ENOMEM || errno == ENOBUFS || errno == EINTR)
				sstream_retry_later(s);
			else if (s->conn->pooled && !s->gone)
				s->deaf = true;
			else
				sstream_cut_rx(s, 0);	/* EPIPE: the application shut its reading half */
			if (s->deaf)
				continue;
			return false;
		}
		s->owes_go = false;
		sent -= (ssize_t)go;
		conn_stream_consume(c, s->stream, (size_t)sent);
		sconn_touch(s->conn);
		if ((size_t)sent < bytes) {
			want_out(s, true);
			return false;
		}
		if (*end)
			return true;
	}
}

/* Reset by the peer: the descriptor ends, and with it our own half. RFC 9000 3.5 lets us choose its code. */
static void on_reset(struct sstream *s)
{
	uint64_t code = s->stream->peer_reset_code;
	/* If it was us who reset first, this is only the echo. */
	if (s->obj.error.kind != QSOCK_ERR_STREAM_RESET)
		s->obj.error = (struct qsock_error){ .kind = QSOCK_ERR_STREAM_RESET, .by_peer = 1,
						     .os_errno = ECONNRESET, .code = code };
	if (s->tx == HALF_OPEN) {
		conn_stream_reset(s->conn->conn, s->stream, code);
		s->tx = HALF_CUT;
	}
	s->rx = HALF_LOST;
}

void sstream_fill(struct sstream *s)
{
	int end = 0;
	if (s->rx != HALF_OPEN || s->want_out || s->has_arrived || s->source.fd < 0 || pool_keeps(s) || !move(s, &end))
		return;
	if (s->source.interest & EPOLLOUT)
		want_out(s, false);
	if (end > 0) {
		if (s->tx == HALF_OPEN)		/* else the end is closed now, which says the same */
			shutdown(s->source.fd, SHUT_WR);
		s->rx = HALF_DONE;
	} else if (end < 0) {
		on_reset(s);
	} else if (s->conn->over) {
		s->obj.error = s->conn->cause;
		s->rx = HALF_LOST;
	} else {
		return;
	}
	conn_stream_read_end(s->conn->conn, s->stream);
	sconn_touch(s->conn);
}
