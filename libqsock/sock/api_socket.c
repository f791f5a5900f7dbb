/* The calls every socket has: socket, bind, listen, accept, connect and the two names. */
#include "sock/api.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include "base/mem.h"
#include "sock/config.h"
#include "sock/engine_side.h"

static int fail(int err)
{
	errno = err;
	return -1;
}

/* ---- socket ------------------------------------------------------------------- */

struct new_socket {
	int engine_end, domain;
	uint64_t cookie;
};

static int run_socket(struct engine *e, void *arg)
{
	const struct new_socket *n = arg;
	return sock_cmd_socket(e, n->engine_end, n->cookie, n->domain);
}

static int make_socket(int domain, int type)
{
	struct new_socket n = { .domain = domain };
	int pair[2];
	if (pair_make(pair, SOCK_CLOEXEC, &n.cookie))
		return -1;
	n.engine_end = pair[1];
	int failed = engine_call_with_fd(run_socket, &n, n.engine_end);
	api_close(pair[1]);
	if (!failed && !(type & SOCK_CLOEXEC))
		failed = fcntl(pair[0], F_SETFD, 0);
	if (!failed && type & SOCK_NONBLOCK)
		failed = api_set_nonblock(pair[0]);
	if (!failed)
		return pair[0];
	api_close(pair[0]);
	return -1;
}

int qsock_socket(int domain, int type, int protocol)
{
	if (domain != AF_INET && domain != AF_INET6)
		return fail(EAFNOSUPPORT);
	if ((type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) != SOCK_STREAM)
		return fail(EPROTOTYPE);
	if (protocol && protocol != IPPROTO_QUIC)
		return fail(EPROTONOSUPPORT);
	int cancel = api_enter();
	api_fork_hold();
	int fd = make_socket(domain, type);
	api_fork_release();
	api_leave(cancel);
	return fd;
}

/* ---- bind, listen --------------------------------------------------------------- */

static int run_bind(struct engine *e, struct api_call *c)
{
	return sock_cmd_bind(e, c->cookie, c->addr);
}

int qsock_bind(int fd, const struct sockaddr *addr, socklen_t addrlen)
{
	struct addr a;
	uint64_t cookie;
	if (api_cookie(fd, &cookie) || api_addr_in(addr, addrlen, &a))
		return -1;
	return api_call(fd, &(struct api_call){ .run = run_bind, .addr = &a });
}

/* Why a connection cannot be made of this. */
static int not_fresh(struct engine *e, uint64_t cookie, const struct sock_obj *o)
{
	struct qsock_info info = { .size = sizeof(info) };
	if (!o || o->kind == SOCK_LISTENER)
		return fail(EINVAL);	/* !o: it was one that failed */
	if (o->kind == SOCK_STREAMOBJ || sock_cmd_info(e, cookie, &info) || info.established)
		return fail(EISCONN);
	return fail(EALREADY);
}

/* What the application has set on a fresh socket; errno tells what it is else, in the words of connect if number is
 * set. */
static int run_settings(struct engine *e, struct api_call *c)
{
	const struct sock_obj *o = sock_find(e, c->cookie);
	struct qsock_config **out = c->out;
	if (!o || o->kind != SOCK_FRESH)
		return c->number ? not_fresh(e, c->cookie, o) : fail(EINVAL);
	if (o->settings && !(*out = settings_copy(o->settings)))
		return fail(ENOMEM);
	return 0;
}

static int run_keep_error(struct engine *e, struct api_call *c)
{
	struct sock_obj *o = sock_find(e, c->cookie);
	if (o)
		o->error = *(struct qsock_error *)c->out;
	return 0;
}

/* The configuration of a fresh socket, made ready. What is wrong with it goes to qsock_error(fd). */
static struct sock_config *ready_config(int fd, bool is_server)
{
	struct qsock_config *settings = NULL;
	struct qsock_error err;
	if (api_call(fd, &(struct api_call){ .run = run_settings, .number = !is_server, .out = &settings }))
		return NULL;
	struct sock_config *cfg = sock_config_get(settings, is_server, &err);
	mem_free(settings);
	if (!cfg) {
		api_call(fd, &(struct api_call){ .run = run_keep_error, .out = &err });
		errno = err.os_errno;
	}
	return cfg;
}

static int run_listen(struct engine *e, struct api_call *c)
{
	return sock_cmd_listen(e, c->cookie, c->cfg, (int)c->number);
}

static int do_listen(int fd, int backlog)
{
	uint64_t cookie;
	if (api_cookie(fd, &cookie))
		return -1;
	if (api_kind(cookie) == SOCK_LISTENER)
		return 0;
	struct sock_config *cfg = ready_config(fd, true);
	if (!cfg)
		return -1;
	uint64_t n = backlog < 1 ? 1 : (uint64_t)backlog;
	if (!api_call(fd, &(struct api_call){ .run = run_listen, .cfg = cfg, .number = n }))
		return 0;
	int saved = errno;
	sock_config_put(cfg);
	return fail(saved);
}

int qsock_listen(int fd, int backlog)
{
	int cancel = api_enter();
	int ret = do_listen(fd, backlog);
	api_leave(cancel);
	return ret;
}

/* ---- accept ----------------------------------------------------------------------- */

static int do_accept(int fd, struct sockaddr *addr, socklen_t *addrlen, int flags, int cancel)
{
	struct record r;
	uint64_t cookie;
	if (api_cookie(fd, &cookie))
		return -1;
	int kind = api_kind(cookie);
	if (kind >= 0 && kind != SOCK_LISTENER)
		return fail(EINVAL);
	if (addr && (!addrlen || (int)*addrlen < 0))
		return fail(addrlen ? EINVAL : EFAULT);
	int conn = api_take(fd, RECORD_ACCEPTED, &r, flags & SOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0, flags & SOCK_NONBLOCK,
			    cancel);
	if (conn == -2)
		return fail(EINVAL);	/* qsock_close */
	if (conn < 0)
		return fail(errno == ECONNRESET ? ECONNABORTED : errno);
	api_remember(r.cookie, SOCK_CONNECTION);
	api_addr_out(&r.peer, addr, addrlen);
	return conn;
}

int qsock_accept4(int fd, struct sockaddr *addr, socklen_t *addrlen, int flags)
{
	if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC))
		return fail(EINVAL);
	int cancel = api_enter();
	int conn = do_accept(fd, addr, addrlen, flags, cancel);
	api_leave(cancel);
	return conn;
}

int qsock_accept(int fd, struct sockaddr *addr, socklen_t *addrlen)
{
	return qsock_accept4(fd, addr, addrlen, 0);
}

/* ---- connect ------------------------------------------------------------------------ */

/* The application's end becomes unwritable here and not in the caller: two threads may call connect at once. */
static int run_connect(struct engine *e, struct api_call *c)
{
	struct sock_obj *o = sock_find(e, c->cookie);
	if (!o || o->kind != SOCK_FRESH)
		return not_fresh(e, c->cookie, o);
	int app_end = engine_take_fd(e, c->fd);
	if (app_end < 0)
		return -1;
	ssize_t filler = pair_block(app_end, BLOCK_MAILBOX);
	int ret = filler < 0 ? -1 : sock_cmd_connect(e, c->cookie, (size_t)filler, c->addr, c->text, c->cfg);
	if (ret && filler > 0) {
		int saved = errno;
		pair_unblock(owner_of(o, struct sfresh, obj)->source.fd, (size_t)filler);
		pair_widen(app_end);
		errno = saved;
	}
	api_close(app_end);
	return ret;
}

/* Not RFC 4007 zones: certificates do not know them. */
const char *api_literal(const struct addr *a, char *buf)
{
	bool six = a->sa.sa_family == AF_INET6;
	if (six && IN6_IS_ADDR_V4MAPPED(&a->in6.sin6_addr))
		return inet_ntop(AF_INET, &a->in6.sin6_addr.s6_addr[12], buf, INET6_ADDRSTRLEN);
	return inet_ntop(a->sa.sa_family, six ? (const void *)&a->in6.sin6_addr : &a->in4.sin_addr, buf,
			 INET6_ADDRSTRLEN);
}

static int start_connect(int fd, const struct addr *remote)
{
	char buf[INET6_ADDRSTRLEN];
	struct sock_config *cfg = ready_config(fd, false);
	if (!cfg)
		return -1;
	const char *name = cfg->server_name ? cfg->server_name : api_literal(remote, buf);
	struct api_call c = { .run = run_connect, .addr = remote, .text = name, .cfg = cfg };
	if (!api_call(fd, &c)) {
		api_remember(c.cookie, SOCK_CONNECTION);
		return 0;
	}
	int saved = errno;
	sock_config_put(cfg);
	return fail(saved);
}

/* The reason of a connection that did not come to be; the kernel's own is used up, as by SO_ERROR. */
static int connect_result(int fd, int revents)
{
	struct qsock_error err;
	int used;
	if (!(revents & POLLERR))
		return pair_widen(fd);	/* with POLLHUP: it was, and has ended well since */
	api_error_of(fd, &err);
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &used, &(socklen_t){ sizeof(used) });
	return fail(err.os_errno ? err.os_errno : ECONNRESET);
}

int api_connect_wait(int fd, int cancel)
{
	int got = api_poll(fd, POLLOUT, fd, cancel);
	if (got < 0)
		return fail(errno == EAGAIN ? EINPROGRESS : errno);
	return connect_result(fd, got);
}

static int do_connect(int fd, const struct addr *remote, int cancel)
{
	int flags = fcntl(fd, F_GETFL);
	if (flags < 0 || start_connect(fd, remote))
		return -1;
	return flags & O_NONBLOCK ? fail(EINPROGRESS) : api_connect_wait(fd, cancel);
}

int qsock_connect(int fd, const struct sockaddr *addr, socklen_t addrlen)
{
	struct addr a;
	uint64_t cookie;
	if (api_cookie(fd, &cookie) || api_addr_in(addr, addrlen, &a))
		return -1;
	int cancel = api_enter();
	int ret = do_connect(fd, &a, cancel);
	api_leave(cancel);
	return ret;
}

/* ---- socket and connect in one step ---------------------------------------------------------- */

struct dial {
	int engine_end;
	size_t filler;
	uint64_t cookie;
	const struct addr *remote;
	const char *name;
	struct sock_config *cfg;
};

static int run_dial(struct engine *e, void *arg)
{
	const struct dial *d = arg;
	if (sock_cmd_socket(e, d->engine_end, d->cookie, d->remote->sa.sa_family))
		return -1;
	if (!sock_cmd_connect(e, d->cookie, d->filler, d->remote, d->name, d->cfg))
		return 0;
	int saved = errno;
	sfresh_free((struct sfresh *)sock_find(e, d->cookie), true);
	return fail(saved);
}

static int dial(struct dial *d)
{
	int pair[2];
	if (pair_make(pair, SOCK_CLOEXEC, &d->cookie))
		return -1;
	ssize_t filler = pair_block(pair[0], BLOCK_MAILBOX);
	d->engine_end = pair[1];
	d->filler = (size_t)filler;
	int failed = filler < 0 || engine_call_with_fd(run_dial, d, d->engine_end);
	api_close(pair[1]);
	if (failed) {
		api_close(pair[0]);
		return -1;
	}
	fcntl(pair[0], F_SETFD, 0);
	return pair[0];
}

int api_dial(const struct addr *remote, const char *name, const struct qsock_config *settings, struct qsock_error *err)
{
	struct qsock_config whole;
	memset(err, 0, sizeof(*err));
	if (settings_import(settings, SIZE_MAX, &whole))
		return -1;
	struct sock_config *cfg = sock_config_get(&whole, false, err);
	if (!cfg)
		return fail(err->os_errno);
	struct dial d = { .remote = remote, .name = cfg->server_name ? cfg->server_name : name, .cfg = cfg };
	api_fork_hold();
	int fd = dial(&d);
	api_fork_release();
	if (fd >= 0) {
		api_remember(d.cookie, SOCK_CONNECTION);
		return fd;
	}
	int saved = errno;
	sock_config_put(cfg);
	return fail(saved);
}

/* ---- names ------------------------------------------------------------------------------ */

static int run_names(struct engine *e, struct api_call *c)
{
	return sock_cmd_names(e, c->cookie, c->out, c->out2);
}

static int names(int fd, struct addr *local, struct addr *remote)
{
	memset(local, 0, sizeof(*local));
	memset(remote, 0, sizeof(*remote));
	return api_call(fd, &(struct api_call){ .run = run_names, .out = local, .out2 = remote });
}

int qsock_getsockname(int fd, struct sockaddr *addr, socklen_t *addrlen)
{
	struct addr local, remote;
	if (names(fd, &local, &remote))
		return -1;
	return addr ? api_addr_out(&local, addr, addrlen) : fail(EFAULT);
}

int qsock_getpeername(int fd, struct sockaddr *addr, socklen_t *addrlen)
{
	struct addr local, remote;
	if (names(fd, &local, &remote))
		return -1;
	if (remote.sa.sa_family == AF_UNSPEC)
		return fail(ENOTCONN);
	return addr ? api_addr_out(&remote, addr, addrlen) : fail(EFAULT);
}
