/* Streams, as the caller sees them: opened by one message on the connection's
 * descriptor, taken from its mailbox. Both need no engine in this process. */
#include "sock/api.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#define FLAGS_KNOWN (QSOCK_UNI | QSOCK_NONBLOCK | QSOCK_CLOEXEC)

/* ---- opening ------------------------------------------------------------------ */

/* The connection takes no more: did it end with an error? Who waits for a stream may hear it before the descriptor
 * tells. */
static int gone(int conn)
{
	struct pollfd p = { .fd = conn };
	struct qsock_error err = { .kind = QSOCK_ERR_NONE };
	poll(&p, 1, 0);
	if (!(p.revents & (POLLERR | POLLHUP)))
		api_error_of(conn, &err);
	errno = p.revents & POLLERR || err.kind != QSOCK_ERR_NONE ? ECONNRESET : ENOTCONN;
	return -1;
}

static int cannot_send(int conn)
{
	if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN)
		return gone(conn);
	if (errno == ETOOMANYREFS || errno == ENOMEM)
		errno = ENOBUFS;
	return -1;
}

/* Wait for the stream to exist. On failure the request is withdrawn: the engine sees the end of both directions. */
static int wait_open(int app, int conn, int cancel)
{
	int got = api_poll(app, POLLOUT, conn, cancel);
	if (got >= 0 && !(got & (POLLERR | POLLHUP)))
		return 0;
	struct qsock_error err;
	if (got >= 0) {
		api_error_of(app, &err);
		if (err.kind == QSOCK_ERR_STREAM_RESET || err.kind == QSOCK_ERR_STOP_SENDING)
			return 0;	/* it was opened, and the peer ended it already: as whoever uses it will see */
		if (err.kind != QSOCK_ERR_LOCAL)
			return gone(conn);
		errno = err.os_errno;
		return -1;
	}
	int saved = errno;
	shutdown(app, SHUT_RDWR);
	errno = saved;
	return -1;
}

static void withdraw(void *app)
{
	shutdown(*(int *)app, SHUT_RDWR);
	close(*(int *)app);
}

/* Make the pair and hand the engine its end. *now: it may be used at once. The new descriptor, or -1/errno (EAGAIN: the
 * mailbox is full of requests, or the connection not there yet). */
static int request(int conn, uint64_t conn_cookie, bool uni, bool nonblock, bool *now)
{
	struct record r = { .type = RECORD_OPEN, .flags = uni ? QSOCK_UNI : 0 };
	int pair[2];
	ssize_t filler = 0;
	if (pair_make(pair, SOCK_CLOEXEC, &r.cookie))
		return -1;
	*now = credit_take(conn_cookie, uni);
	if (!*now) {
		filler = nonblock && api_set_nonblock(pair[0]) ? -1 : pair_block(pair[0], PAIR_BUFFER);
		r.flags |= RECORD_OPEN_SLOW;
		r.filler = (uint64_t)filler;
	}
	int failed = filler < 0 || mailbox_send(conn, &r, pair[1], MSG_DONTWAIT);
	api_close(pair[1]);
	if (!failed)
		return pair[0];
	if (*now)
		credit_return(conn_cookie, uni);
	api_close(pair[0]);
	return -1;
}

static int check_openable(int conn, uint64_t *cookie)
{
	if (api_cookie(conn, cookie))
		return -1;
	switch (api_kind(*cookie)) {
	case SOCK_LISTENER:
		errno = EOPNOTSUPP;
		return -1;
	case SOCK_STREAMOBJ:
		errno = EINVAL;
		return -1;
	case SOCK_FRESH:
		errno = ENOTCONN;
		return -1;
	default:
		return 0;
	}
}

static int set_flags(int fd, int flags)
{
	if (!(flags & QSOCK_CLOEXEC) && fcntl(fd, F_SETFD, 0))
		return -1;
	return flags & QSOCK_NONBLOCK ? api_set_nonblock(fd) : 0;
}

/* The new descriptor is closed when the wait for it fails or is cancelled. */
static int finish_open(int app, int conn, bool wait, int flags, int cancel)
{
	volatile int failed = 0;	/* the cleanup macros may be a setjmp */
	pthread_cleanup_push(withdraw, &app);
	if (wait)
		failed = wait_open(app, conn, cancel);
	pthread_cleanup_pop(0);
	if (!failed && !set_flags(app, flags))
		return app;
	api_close(app);
	return -1;
}

/* A connection that nobody waited for still has the small buffer of its beginnings. true: no longer. */
static bool grown(int conn)
{
	struct qsock_info info = { .size = sizeof(info) };
	int size = 0, saved = errno;
	getsockopt(conn, SOL_SOCKET, SO_SNDBUF, &size, &(socklen_t){ sizeof(size) });
	bool ok = size == BLOCK_MAILBOX && !qsock_info(conn, &info) && info.established && !pair_widen(conn);
	errno = saved;
	return ok;
}

static int open_stream(int conn, int flags, int cancel)
{
	uint64_t cookie;
	bool nonblock = flags & QSOCK_NONBLOCK, now;
	if (check_openable(conn, &cookie))
		return -1;
	for (;;) {
		api_fork_hold();
		int app = request(conn, cookie, flags & QSOCK_UNI, nonblock, &now);
		api_fork_release();
		if (app >= 0)
			return finish_open(app, conn, !now && !nonblock, flags, cancel);
		if (errno != EAGAIN)
			return cannot_send(conn);
		if (grown(conn))
			continue;
		if (nonblock || api_poll(conn, POLLOUT, conn, cancel) < 0)
			return -1;
	}
}

int qsock_open_stream(int conn, int flags)
{
	if (flags & ~FLAGS_KNOWN) {
		errno = EINVAL;
		return -1;
	}
	int cancel = api_enter();
	int fd = open_stream(conn, flags, cancel);
	api_leave(cancel);
	return fd;
}

/* ---- accepting ------------------------------------------------------------------ */

static int accept_stream(int conn, int flags, int cancel)
{
	struct record r;
	uint64_t cookie;
	if (api_cookie(conn, &cookie))
		return -1;
	int kind = api_kind(cookie);
	if (kind >= 0 && kind != SOCK_CONNECTION) {
		errno = kind == SOCK_FRESH ? ENOTCONN : EINVAL;
		return -1;
	}
	int fd = api_take(conn, RECORD_STREAM, &r, flags & QSOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0, flags & QSOCK_NONBLOCK,
			  cancel);
	if (fd == -2) {
		errno = ENOTCONN;
		return -1;
	}
	return fd;
}

int qsock_accept_stream(int conn, int flags)
{
	if (flags & ~(QSOCK_NONBLOCK | QSOCK_CLOEXEC)) {
		errno = EINVAL;
		return -1;
	}
	int cancel = api_enter();
	int fd = accept_stream(conn, flags, cancel);
	api_leave(cancel);
	return fd;
}

/* ---- commands -------------------------------------------------------------------- */

static int run_reset(struct engine *e, struct api_call *c) { return sock_cmd_reset(e, c->cookie, c->number); }
static int run_stop(struct engine *e, struct api_call *c) { return sock_cmd_stop_sending(e, c->cookie, c->number); }
static int run_id(struct engine *e, struct api_call *c) { return sock_cmd_stream_id(e, c->cookie, c->out); }

static int with_code(int stream, uint64_t code, int (*run)(struct engine *, struct api_call *))
{
	if (code > CODE_MAX) {
		errno = EINVAL;
		return -1;
	}
	return api_call(stream, &(struct api_call){ .run = run, .number = code });
}

int qsock_reset(int stream, uint64_t code)
{
	return with_code(stream, code, run_reset);
}

int qsock_stop_sending(int stream, uint64_t code)
{
	return with_code(stream, code, run_stop);
}

int64_t qsock_stream_id(int stream)
{
	int64_t id;
	return api_call(stream, &(struct api_call){ .run = run_id, .out = &id }) ? -1 : id;
}
