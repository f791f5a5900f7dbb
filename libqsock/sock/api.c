/* The common part of the public calls: which object a descriptor is, how the
 * engine is asked, how one waits for a mailbox. */
#include "sock/api.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/time.h>
#include <unistd.h>

void api_close(int fd)
{
	int saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
}

void api_close_cleanup(void *fd)
{
	api_close(*(int *)fd);
}

/* fork goes before those who come later, or many of them could keep it waiting for ever. */
static pthread_rwlock_t fork_lock = PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;

static void before_fork(void) { pthread_rwlock_wrlock(&fork_lock); }
static void in_parent(void) { pthread_rwlock_unlock(&fork_lock); }
static void in_child(void)
{
	pthread_rwlock_unlock(&fork_lock);	/* ThreadSanitizer knows nothing of what comes next: */
	fork_lock = (pthread_rwlock_t)PTHREAD_RWLOCK_WRITER_NONRECURSIVE_INITIALIZER_NP;
}

__attribute__((constructor)) static void at_load(void)
{
	pthread_atfork(before_fork, in_parent, in_child);
	sock_register();
}

void api_fork_hold(void) { pthread_rwlock_rdlock(&fork_lock); }
void api_fork_release(void) { pthread_rwlock_unlock(&fork_lock); }

struct qsock_error *api_thread_error(void)
{
	static _Thread_local struct qsock_error last;
	return &last;
}

/* ---- which object ------------------------------------------------------------ */

/* cookie * 4 + kind. A cookie never comes twice while the system runs, and a listener or connection never becomes
 * something else: what stands here is true for ever, also in a child. */
#define KNOWN 256
static _Atomic uint64_t known[KNOWN];

/* -1: not remembered */
static int known_kind(uint64_t cookie)
{
	uint64_t seen = atomic_load_explicit(&known[cookie % KNOWN], memory_order_relaxed);
	return seen >> 2 == cookie ? (int)(seen & 3) : -1;
}

int api_cookie(int fd, uint64_t *cookie)
{
	socklen_t len = sizeof(*cookie);
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, &len))
		return -1;
	if (known_kind(*cookie) >= 0)
		return 0;
	if (pair_like(fd))
		return 0;
	errno = ENOTSOCK;
	return -1;
}

void api_remember(uint64_t cookie, enum sock_kind kind)
{
	atomic_store_explicit(&known[cookie % KNOWN], cookie << 2 | kind, memory_order_relaxed);
}

static int kind_of(struct engine *e, void *arg)
{
	const struct sock_obj *o = sock_find(e, *(uint64_t *)arg);
	if (o)
		return o->kind;
	errno = ENOENT;
	return -1;
}

int api_kind(uint64_t cookie)
{
	int kind = known_kind(cookie);
	if (kind >= 0)
		return kind;
	kind = engine_running() ? engine_call(kind_of, &cookie) : -1;
	if (kind > SOCK_FRESH)
		api_remember(cookie, kind);
	return kind;
}

/* ---- asking -------------------------------------------------------------------- */

static int run_if_known(struct engine *e, void *arg)
{
	struct api_call *c = arg;
	if (sock_find(e, c->cookie) || sock_grave(e, c->cookie))
		return c->run(e, c);
	errno = EOPNOTSUPP;
	return -1;
}

int api_call(int fd, struct api_call *c)
{
	c->fd = fd;
	if (api_cookie(fd, &c->cookie))
		return -1;
	if (engine_running())	/* it would be a new one, which knows nothing */
		return engine_call_with_fd(run_if_known, c, fd);
	errno = EOPNOTSUPP;
	return -1;
}

static int run_error(struct engine *e, struct api_call *c)
{
	return sock_cmd_error(e, c->cookie, c->out);
}

void api_error_of(int fd, struct qsock_error *err)
{
	int saved = errno;
	memset(err, 0, sizeof(*err));
	if (api_call(fd, &(struct api_call){ .run = run_error, .out = err }))
		memset(err, 0, sizeof(*err));
	errno = saved;
}

/* ---- waiting ------------------------------------------------------------------- */

static bool is_blocking(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags >= 0 && !(flags & O_NONBLOCK);
}

int api_set_nonblock(int fd)
{
	int flags = fcntl(fd, F_GETFL);
	return flags < 0 ? -1 : fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

/* Until there is something to take, without taking it: taking needs a free descriptor, which is looked for right
 * before. recv, because it is restarted after signals and keeps SO_RCVTIMEO as accept(2) would. */
static ssize_t wait_for_record(int fd, int cancel)
{
	char first;
	api_wait_begin(cancel);
	ssize_t n = recv(fd, &first, 1, MSG_PEEK);
	api_wait_end();
	return n;
}

static int accept_record(const struct record *r, int fd, enum record_type type, bool nonblock)
{
	int ok = r->type == type && fd >= 0;
	if (ok && !pair_await_go(fd) && (!nonblock || !api_set_nonblock(fd)))
		return fd;
	api_close(fd);
	if (!ok)
		errno = EPROTO;
	return -1;
}

int api_take(int fd, enum record_type type, struct record *r, int flags, bool nonblock, int cancel)
{
	int got;
	for (;;) {
		int n = mailbox_recv(fd, r, &got, flags | MSG_DONTWAIT);
		if (n > 0)
			return accept_record(r, got, type, nonblock);
		if (n == 0)
			return -2;
		if (errno != EAGAIN || !is_blocking(fd))
			return -1;
		ssize_t there = wait_for_record(fd, cancel);
		if (there <= 0)
			return there ? -1 : -2;
	}
}

static int timeout_ms(int fd)
{
	struct timeval tv = { 0, 0 };
	socklen_t len = sizeof(tv);
	if (getsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &tv, &len) || (!tv.tv_sec && !tv.tv_usec))
		return -1;
	return tv.tv_sec < 2000000 ? (int)(tv.tv_sec * 1000 + (tv.tv_usec + 999) / 1000) : -1;
}

int api_poll(int fd, short events, int timeout_fd, int cancel)
{
	struct pollfd p = { .fd = fd, .events = events };
	int ms = timeout_ms(timeout_fd);
	api_wait_begin(cancel);
	int n = poll(&p, 1, ms);
	api_wait_end();
	if (n > 0)
		return p.revents;
	if (!n)
		errno = EAGAIN;
	return -1;
}

/* ---- addresses ------------------------------------------------------------------- */

int api_addr_in(const struct sockaddr *sa, socklen_t len, struct addr *out)
{
	int err = 0;
	memset(out, 0, sizeof(*out));
	if (!sa)
		err = EFAULT;
	else if (len < sizeof(sa->sa_family))
		err = EINVAL;
	else if (sa->sa_family != AF_INET && sa->sa_family != AF_INET6)
		err = EAFNOSUPPORT;
	else if (len < (sa->sa_family == AF_INET ? sizeof(out->in4) : sizeof(out->in6)))
		err = EINVAL;
	if (err) {
		errno = err;
		return -1;
	}
	if (sa->sa_family == AF_INET)
		memcpy(&out->in4, sa, sizeof(out->in4));
	else
		memcpy(&out->in6, sa, sizeof(out->in6));
	return 0;
}

int api_addr_out(const struct addr *a, struct sockaddr *sa, socklen_t *len)
{
	socklen_t whole = addr_len(a);
	if (!sa)
		return 0;
	if (!len || (int)*len < 0) {
		errno = len ? EINVAL : EFAULT;
		return -1;
	}
	memcpy(sa, a, *len < whole ? *len : whole);
	*len = whole;
	return 0;
}
