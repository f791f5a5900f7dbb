/* Sockets that programs take for TCP: each becomes one stream of a QUIC connection, or
 * a listener that gives streams. The descriptor is the engine's pair from the
 * beginning and stays the same one, whatever it becomes. */
#include "preload/shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "preload/log.h"
#include "preload/policy.h"

int shim_fail(int err)
{
	errno = err;
	return -1;
}

/* ---- which are ours ---------------------------------------------------------------- */

static int run_names(struct engine *e, struct api_call *c)
{
	return sock_cmd_names(e, c->cookie, c->out, c->out2);
}

/* Forgotten, or made by the engine behind our back: its kind says what it is. */
static bool rebuild(int fd, uint64_t cookie, struct memo *m)
{
	static const enum memo_state states[] = {
		[SOCK_FRESH] = MEMO_FRESH, [SOCK_LISTENER] = MEMO_LISTENING,
		[SOCK_CONNECTION] = MEMO_FOREIGN, [SOCK_STREAMOBJ] = MEMO_CONNECTING,
	};
	int kind = engine_running() ? api_kind(cookie) : -1;
	memset(m, 0, sizeof(*m));
	m->cookie = cookie;
	m->fd = fd;
	m->state = kind < 0 ? MEMO_FOREIGN : states[kind];
	if (m->state != MEMO_FOREIGN) {
		api_call(fd, &(struct api_call){ .run = run_names, .out = &m->local, .out2 = &m->peer });
		m->domain = m->local.sa.sa_family;
		m->bound = m->state != MEMO_FRESH;
	}
	memo_put(m);
	return m->state != MEMO_FOREIGN;
}

bool shim_find(int fd, struct memo *m)
{
	uint64_t cookie;
	int saved = errno;
	socklen_t len = sizeof(cookie);
	bool ours = false;
	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len))
		;
	else if (memo_get(cookie, fd, m))
		ours = m->state != MEMO_FOREIGN;
	else if (!api_cookie(fd, &cookie))
		ours = rebuild(fd, cookie, m);
	errno = saved;
	return ours;
}

bool shim_wants(int domain, int type, int protocol)
{
	return (domain == AF_INET || domain == AF_INET6) &&
	       (type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC)) == SOCK_STREAM &&
	       (protocol == 0 || protocol == IPPROTO_TCP);
}

/* ---- socket, bind, listen ------------------------------------------------------------- */

static void unspecified(int domain, struct addr *a)
{
	memset(a, 0, sizeof(*a));
	a->sa.sa_family = (sa_family_t)domain;
}

int shim_socket(int domain, int type)
{
	struct memo m = { .state = MEMO_FRESH, .domain = domain };
	int fd = qsock_socket(domain, type, 0);
	if (fd < 0)
		return -1;
	m.fd = fd;
	unspecified(domain, &m.local);
	if (!api_cookie(fd, &m.cookie))
		memo_put(&m);
	return fd;
}

static int learn_local(int fd, struct memo *m)
{
	struct addr peer;
	return api_call(fd, &(struct api_call){ .run = run_names, .out = &m->local, .out2 = &peer });
}

static uint16_t port_of(const struct addr *a)
{
	return ntohs(a->sa.sa_family == AF_INET6 ? a->in6.sin6_port : a->in4.sin_port);
}

static int run_bind(struct engine *e, struct api_call *c)
{
	return sock_cmd_tcp_bind(e, c->cookie, c->addr, c->number);
}

int shim_bind(int fd, struct memo *m, const struct sockaddr *sa, socklen_t len)
{
	struct addr a;
	if (api_addr_in(sa, len, &a))
		return -1;
	if (m->state != MEMO_FRESH || m->bound)
		return shim_fail(EINVAL);
	if (a.sa.sa_family != m->domain)
		return shim_fail(m->domain == AF_INET6 ? EINVAL : EAFNOSUPPORT);
	if (policy_match(policy_get(), &a))
		return replace_by_tcp(fd, m) ? -1 : bind(fd, sa, len);
	int reuse = 0;
	getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &reuse, &(socklen_t){ sizeof(reuse) });
	while (api_call(fd, &(struct api_call){ .run = run_bind, .addr = &a, .number = reuse != 0 }))
		if (!replace_stale(fd, m))
			return -1;
	m->bound = true;
	m->port_asked = port_of(&a) != 0;
	learn_local(fd, m);
	memo_put(m);
	return 0;
}

static int run_listen(struct engine *e, struct api_call *c)
{
	return sock_cmd_stream_listen(e, c->cookie, c->cfg, (int)c->number);
}

int shim_listen(int fd, struct memo *m, int backlog)
{
	char text[ADDR_TEXT];
	if (m->state == MEMO_LISTENING)
		return 0;
	if (m->state != MEMO_FRESH)
		return shim_fail(EINVAL);
	struct sock_config *cfg = trust_server_config();
	if (!cfg)
		return -1;
	sock_config_ref(cfg);
	struct api_call c = { .run = run_listen, .cfg = cfg, .number = backlog < 1 ? 1 : (uint64_t)backlog };
	while (api_call(fd, &c)) {
		if (replace_stale(fd, m))
			continue;
		int saved = errno;
		sock_config_put(cfg);
		log_warn("listen on %s: %s", addr_text(&m->local, text), strerror(saved));
		return shim_fail(saved);
	}
	m->state = MEMO_LISTENING;
	m->owner = getpid();
	m->bound = true;
	pair_block(fd, BLOCK_MAILBOX);	/* nothing can be written to a listener: no poll shall say so */
	learn_local(fd, m);
	memo_put(m);
	log_info("listening on %s", addr_text(&m->local, text));
	return 0;
}

/* ---- accept --------------------------------------------------------------------------------- */

static void remember_accepted(const struct memo *listener, int fd, const struct record *r)
{
	char peer[ADDR_TEXT], local[ADDR_TEXT];
	struct memo m = *listener;
	m.cookie = r->cookie;
	m.fd = fd;
	m.state = MEMO_CONNECTED;
	m.peer = r->peer;
	m.local = r->local;
	memo_put(&m);
	log_info("in %s -> %s accepted", addr_text(&r->peer, peer), addr_text(&r->local, local));
}

int shim_accept(int fd, struct memo *m, struct sockaddr *sa, socklen_t *len, int flags)
{
	struct record r;
	if (flags & ~(SOCK_NONBLOCK | SOCK_CLOEXEC) || m->state != MEMO_LISTENING)
		return shim_fail(EINVAL);
	if (sa && (!len || (int)*len < 0))
		return shim_fail(len ? EINVAL : EFAULT);
	int cancel = api_enter();
	int got;
	do {
		got = api_take(fd, RECORD_ACCEPTED, &r, flags & SOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0, flags & SOCK_NONBLOCK,
			       cancel);
	} while ((got == -2 || (got < 0 && errno == ECONNRESET)) && replace_listener(fd, m));
	api_leave(cancel);
	if (got < 0)
		return got == -2 || errno == ECONNRESET ? shim_fail(EINVAL) : -1;
	remember_accepted(m, got, &r);
	api_addr_out(&r.peer, sa, len);
	return got;
}

/* ---- connect ----------------------------------------------------------------------------------- */

static int run_state(struct engine *e, struct api_call *c)
{
	return sock_cmd_stream_state(e, c->cookie);
}

bool shim_is_lost(int fd)
{
	return api_call(fd, &(struct api_call){ .run = run_state }) < 0 && (errno == EOPNOTSUPP || errno == EINVAL);
}

void shim_refresh(int fd, struct memo *m)
{
	int saved = errno;
	if (m->state == MEMO_CONNECTING && !api_call(fd, &(struct api_call){ .run = run_state })) {
		m->state = MEMO_CONNECTED;
		memo_put(m);
	}
	errno = saved;
}

/* What TCP never says is said in its words; the log has the rest. */
static int tcp_errno(int err)
{
	return err == EPROTO || err == EPROTONOSUPPORT ? ECONNREFUSED : err;
}

int shim_take_error(int fd, int *err)
{
	struct qsock_error cause;
	socklen_t len = sizeof(*err);
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, err, &len))
		return -1;
	if (!*err)
		return 0;
	api_error_of(fd, &cause);
	if (cause.kind != QSOCK_ERR_NONE && cause.os_errno)
		*err = tcp_errno(cause.os_errno);
	return 0;
}

static int run_connect(struct engine *e, struct api_call *c)
{
	struct addr peer;
	bool revert = c->number;
	int ret = sock_cmd_stream_connect(e, c->cookie, c->fd, c->addr, c->text, c->cfg, revert);
	if (ret >= 0)
		sock_cmd_names(e, c->cookie, c->out, &peer);
	return ret;
}

/* TCP takes an unspecified address for this host. */
static void concrete(struct addr *a)
{
	if (a->sa.sa_family == AF_INET && a->in4.sin_addr.s_addr == htonl(INADDR_ANY))
		a->in4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	else if (a->sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr))
		a->in6.sin6_addr = in6addr_loopback;
}

/* 0 connected, 1 under way, -1/errno */
static int start(int fd, const struct addr *a, bool wait, struct addr *local)
{
	char name[NAME_MAX_LEN + 1];
	const char *text = policy_get()->server_name;
	struct sock_config *cfg = trust_client_config();
	if (!cfg)
		return -1;
	if (!text)
		text = name_recall(a, name) ? name : api_literal(a, name);
	return api_call(fd, &(struct api_call){ .run = run_connect, .addr = a, .text = text, .cfg = cfg, .number = wait,
						.out = local });
}

static int failed(struct memo *m, int err)
{
	m->state = MEMO_FRESH;
	memo_put(m);
	return shim_fail(err);
}

/* asked: since it began the program may have learned the cause of a failure by SO_ERROR, which tells it once. */
static int finish(int fd, struct memo *m, bool asked, int cancel)
{
	struct qsock_error cause;
	int err;
	int got = api_poll(fd, POLLOUT, fd, cancel);
	if (got < 0)
		return shim_fail(errno == EAGAIN ? EINPROGRESS : errno);
	if (got & (POLLERR | POLLHUP) && !shim_take_error(fd, &err) && err)
		return failed(m, err);
	if (api_call(fd, &(struct api_call){ .run = run_state }) < 0) {
		bool reverted = errno == ENOTCONN;
		api_error_of(fd, &cause);
		if (reverted || (cause.kind != QSOCK_ERR_NONE && !asked))
			return failed(m, tcp_errno(cause.os_errno ? cause.os_errno : ECONNREFUSED));
		if (cause.kind != QSOCK_ERR_NONE)
			return failed(m, ECONNABORTED);
	}
	m->state = MEMO_CONNECTED;
	memo_put(m);
	return 0;
}

/* A further connect on a socket that is connecting: TCP tells once that it is done. */
static int again(int fd, struct memo *m, bool nonblock, int cancel)
{
	if (m->state == MEMO_LISTENING || m->state == MEMO_CONNECTED)
		return shim_fail(EISCONN);
	if (!nonblock)
		return finish(fd, m, true, cancel);
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	if (poll(&p, 1, 0) == 0)
		return shim_fail(EALREADY);
	return finish(fd, m, true, cancel);
}

/* 0 connected, 1 under way, -1/errno; m is brought up to date. */
static int begin(int fd, struct memo *m, const struct addr *a, bool wait)
{
	struct addr local = m->local;
	m->peer = *a;
	m->state = MEMO_CONNECTING;
	memo_put(m);
	int ret = start(fd, a, wait, &m->local);
	if (ret < 0) {
		m->state = MEMO_FRESH;
		m->local = local;
	} else if (ret == 0) {
		m->state = MEMO_CONNECTED;
	}
	memo_put(m);
	return ret;
}

static int do_connect(int fd, struct memo *m, struct addr *a, int cancel)
{
	bool nonblock = fcntl(fd, F_GETFL) & O_NONBLOCK;
	int ret;
	if (m->state != MEMO_FRESH)
		return again(fd, m, nonblock, cancel);
	concrete(a);
	if (!port_of(a))
		return shim_fail(ECONNREFUSED);
	do {
		ret = begin(fd, m, a, !nonblock);
	} while (ret < 0 && replace_stale(fd, m));
	if (ret == 1)
		return nonblock ? shim_fail(EINPROGRESS) : finish(fd, m, false, cancel);
	return ret;
}

int shim_connect(int fd, struct memo *m, const struct sockaddr *sa, socklen_t len)
{
	struct addr a;
	if (sa && len >= sizeof(sa->sa_family) && sa->sa_family == AF_UNSPEC)
		return m->state == MEMO_FRESH ? 0 : shim_fail(EOPNOTSUPP);
	if (api_addr_in(sa, len, &a))
		return -1;
	if (a.sa.sa_family != m->domain)
		return shim_fail(EAFNOSUPPORT);
	if (m->state == MEMO_FRESH && policy_match(policy_get(), &a))
		return replace_by_tcp(fd, m) ? -1 : connect(fd, sa, len);
	int cancel = api_enter();
	int ret = do_connect(fd, m, &a, cancel);
	api_leave(cancel);
	return ret;
}

/* ---- names --------------------------------------------------------------------------------------- */

int shim_getsockname(int fd, struct memo *m, struct sockaddr *sa, socklen_t *len)
{
	if (!sa || !len)
		return shim_fail(EFAULT);
	if (m->state >= MEMO_CONNECTING && !port_of(&m->local)) {
		struct addr was = m->local;
		if (learn_local(fd, m))
			m->local = was;		/* it has ended */
		else
			memo_put(m);
	}
	return api_addr_out(&m->local, sa, len);
}

int shim_getpeername(int fd, struct memo *m, struct sockaddr *sa, socklen_t *len)
{
	struct pollfd p = { .fd = fd };
	shim_refresh(fd, m);
	if (m->state != MEMO_CONNECTED || (poll(&p, 1, 0) == 1 && p.revents & POLLHUP))
		return shim_fail(ENOTCONN);
	if (!sa || !len)
		return shim_fail(EFAULT);
	return api_addr_out(&m->peer, sa, len);
}
