/* What the calls of the application ask of the engine, each a short body over the
 * objects; and the fresh socket, which is nothing but an end that waits to become
 * something. An object that is gone but remembered answers as a dead one. */
#include "sock/engine_side.h"

#include <bsd/string.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/err.h"
#include "base/mem.h"

static int fail(int err)
{
	errno = err;
	return -1;
}

/* ---- engine ends ------------------------------------------------------------------ */

void end_close(struct engine *e, struct source *s, bool clean)
{
	char sink[4096];
	int rounds = clean ? 1024 : 0;	/* who still writes must not keep us here */
	if (s->fd < 0)
		return;
	while (rounds && recv(s->fd, sink, sizeof(sink), MSG_DONTWAIT) == sizeof(sink))
		rounds--;
	source_close(e, s);
}

/* ---- fresh sockets ------------------------------------------------------------------- */

void sfresh_free(struct sfresh *f, bool close_end)
{
	struct engine *e = f->obj.engine;
	if (close_end)
		end_close(e, &f->source, false);
	if (f->port)
		sport_put(f->port);
	obj_remove(side_of(e), &f->obj);
	mem_free(f->obj.settings);
	mem_free(f);
}

static void fresh_ready(struct source *s, uint32_t events);

int sfresh_revert(struct side *side, struct source *from, uint64_t cookie, struct sport *port,
		  const struct qsock_error *why)
{
	struct sfresh *f = mem_zalloc(sizeof(*f));
	if (!f || source_move(side->engine, from, &f->source, WATCH_ENGINE_END, fresh_ready)) {
		mem_free(f);
		return -1;
	}
	f->domain = port_local(port->port)->sa.sa_family;
	f->port = port->for_clients ? NULL : sport_get(port);
	f->obj.error = *why;
	obj_add(side, &f->obj, SOCK_FRESH, cookie);
	return 0;
}

static void fresh_ready(struct source *s, uint32_t events)
{
	if (events & EPOLLHUP)
		sfresh_free(owner_of(s, struct sfresh, source), true);
}

int sock_cmd_socket(struct engine *e, int engine_fd, uint64_t cookie, int domain)
{
	struct side *side = side_of(e);
	struct sfresh *f = side ? mem_zalloc(sizeof(*f)) : NULL;
	if (!f)
		return fail(ENOMEM);
	f->domain = domain;
	f->source.fd = -1;
	int fd = engine_take_fd(e, engine_fd);
	if (fd >= 0 && !obj_add(side, &f->obj, SOCK_FRESH, cookie)) {
		if (!source_add(e, &f->source, fd, WATCH_ENGINE_END, fresh_ready))
			return 0;
		obj_remove(side, &f->obj);
	}
	int saved = errno;
	if (fd >= 0)
		close(fd);
	mem_free(f);
	return fail(saved);
}

/* ---- which object ------------------------------------------------------------------------- */

/* NULL and errno: gone if it lived here once, else ENOTSOCK. */
static struct sock_obj *find(struct engine *e, uint64_t cookie, int gone)
{
	struct sock_obj *o = sock_find(e, cookie);
	if (!o)
		errno = sock_grave(e, cookie) ? gone : ENOTSOCK;
	return o;
}

static struct sfresh *find_fresh(struct engine *e, uint64_t cookie)
{
	struct sock_obj *o = find(e, cookie, EINVAL);
	if (!o)
		return NULL;
	if (o->kind == SOCK_FRESH)
		return (struct sfresh *)o;
	errno = EINVAL;
	return NULL;
}

static struct sstream *find_stream(struct engine *e, uint64_t cookie, int gone)
{
	struct sock_obj *o = find(e, cookie, gone);
	if (!o)
		return NULL;
	if (o->kind == SOCK_STREAMOBJ)
		return (struct sstream *)o;
	errno = EINVAL;
	return NULL;
}

/* The connection of cookie, be it that of a connection or of a stream. */
static struct sconn *find_conn(struct engine *e, uint64_t cookie)
{
	struct sock_obj *o = find(e, cookie, ENOTCONN);
	if (!o)
		return NULL;
	if (o->kind == SOCK_CONNECTION)
		return (struct sconn *)o;
	if (o->kind == SOCK_STREAMOBJ)
		return ((struct sstream *)o)->conn;
	errno = ENOTCONN;
	return NULL;
}

static struct sconn *find_live_conn(struct engine *e, uint64_t cookie)
{
	struct sconn *c = find_conn(e, cookie);
	if (c && c->established && !c->over)
		return c;
	if (c)
		errno = ENOTCONN;
	return NULL;
}

/* ---- becoming something ---------------------------------------------------------------------- */

int sock_cmd_bind(struct engine *e, uint64_t cookie, const struct addr *a)
{
	struct sfresh *f = find_fresh(e, cookie);
	if (!f)
		return -1;
	if (f->port)
		return fail(EINVAL);
	if (a->sa.sa_family != f->domain)
		return fail(EAFNOSUPPORT);
	if (f->obj.settings && f->obj.settings->flags & QSOCK_CONFIG_REUSEPORT)
		f->udp_flags |= UDP_REUSE_PORT;
	f->port = sport_bind(side_of(e), a, f->udp_flags);
	if (f->port && !f->port->listener)
		endpoint_refuse(port_endpoint(f->port->port), true);	/* who asks for a server here need not wait */
	return f->port ? 0 : -1;
}

/* TCP shares an address with what is not listening, if asked to. */
int sock_cmd_tcp_bind(struct engine *e, uint64_t cookie, const struct addr *a, bool reuse)
{
	struct sfresh *f = find_fresh(e, cookie);
	if (!f)
		return -1;
	const struct sport *p = f->udp_flags & SPORT_OWN ? NULL : sport_find(side_of(e), a);
	if (p && !f->port && (p->listener || !reuse))
		return fail(EADDRINUSE);
	return sock_cmd_bind(e, cookie, a);
}

static int start_listening(struct engine *e, uint64_t cookie, struct sock_config *cfg, int backlog, bool streams)
{
	struct sfresh *f = find_fresh(e, cookie);
	struct addr any = { 0 };
	if (!f)
		return -1;
	any.sa.sa_family = (sa_family_t)f->domain;
	if (cfg->reuse_port)
		f->udp_flags |= UDP_REUSE_PORT;
	if (!f->port && !(f->port = sport_bind(side_of(e), &any, f->udp_flags)))
		return -1;
	if (f->port->listener)
		return fail(EADDRINUSE);
	return slisten_start(f, cfg, backlog, streams);
}

int sock_cmd_listen(struct engine *e, uint64_t cookie, struct sock_config *cfg, int backlog)
{
	return start_listening(e, cookie, cfg, backlog, false);
}

int sock_cmd_stream_listen(struct engine *e, uint64_t cookie, struct sock_config *cfg, int backlog)
{
	return start_listening(e, cookie, cfg, backlog, true);
}

/* The port of a socket that is about to connect, from which remote can be reached. */
static int route(struct engine *e, struct sfresh *f, const struct addr *remote)
{
	struct addr local;
	if (remote->sa.sa_family != f->domain)
		return fail(EAFNOSUPPORT);
	if (side_of(e)->phase != PHASE_RUNNING)
		return fail(ENETDOWN);
	if (!f->port && !(f->port = sport_for_clients(side_of(e), f->domain)))
		return -1;
	return port_route(f->port->port, remote, &local);
}

int sock_cmd_connect(struct engine *e, uint64_t cookie, size_t filler, const struct addr *remote,
		     const char *server_name, struct sock_config *cfg)
{
	struct sock_obj *o = find(e, cookie, EINVAL);
	if (!o)
		return -1;
	if (o->kind == SOCK_CONNECTION)
		return fail(((struct sconn *)o)->established ? EISCONN : EALREADY);
	struct sfresh *f = find_fresh(e, cookie);
	if (!f)
		return -1;
	if (route(e, f, remote))
		return -1;
	return sconn_connect(f, filler, remote, server_name, cfg);
}

int sock_cmd_stream_connect(struct engine *e, uint64_t cookie, int app_fd, const struct addr *remote,
			    const char *server_name, struct sock_config *cfg, bool revert)
{
	struct sock_obj *o = find(e, cookie, EINVAL);
	if (!o)
		return -1;
	if (o->kind == SOCK_STREAMOBJ)
		return fail(((struct sstream *)o)->stream ? EISCONN : EALREADY);
	struct sfresh *f = find_fresh(e, cookie);
	if (!f || route(e, f, remote))
		return -1;
	int ret = pool_connect(f, app_fd, remote, server_name, cfg, revert);
	int saved = errno;
	side_work(side_of(e));
	errno = saved;
	return ret;
}

int sock_cmd_stream_state(struct engine *e, uint64_t cookie)
{
	struct sock_obj *o = find(e, cookie, EINVAL);
	if (!o)
		return -1;
	if (o->kind == SOCK_STREAMOBJ)
		return !((struct sstream *)o)->stream;
	return fail(ENOTCONN);
}

int sock_cmd_tcp_option(struct engine *e, uint64_t cookie, enum sock_tcp_option option, bool on)
{
	struct sock_obj *o = find(e, cookie, EINVAL);
	if (!o)
		return -1;
	if (option == SOCK_TCP_ABORT) {
		if (o->kind == SOCK_STREAMOBJ)
			((struct sstream *)o)->abort_on_close = on;
		else if (o->kind == SOCK_FRESH)
			((struct sfresh *)o)->abort_on_close = on;
		return 0;
	}
	struct sfresh *f = find_fresh(e, cookie);
	if (!f)
		return -1;
	unsigned flag = option == SOCK_TCP_V6ONLY ? UDP_V6_ONLY : UDP_REUSE_PORT | SPORT_OWN;
	f->udp_flags = on ? f->udp_flags | flag : f->udp_flags & ~flag;
	return 0;
}

/* ---- acts ---------------------------------------------------------------------------------------- */

int sock_cmd_close(struct engine *e, uint64_t cookie, uint64_t code, const char *reason)
{
	struct sock_obj *o = find(e, cookie, ENOTCONN);
	if (!o)
		return -1;
	if (o->kind == SOCK_LISTENER) {
		sock_bury(e, cookie, &o->error, false);
		slisten_free((struct slisten *)o, true);
	} else if (o->kind == SOCK_CONNECTION && !((struct sconn *)o)->over) {
		struct sconn *c = (struct sconn *)o;
		conn_close(c->conn, code, reason, reason ? strlen(reason) : 0, engine_now_us(e));
		sconn_touch(c);
	} else {
		return fail(o->kind == SOCK_STREAMOBJ ? EINVAL : ENOTCONN);
	}
	side_work(side_of(e));
	return 0;
}

int sock_cmd_reset(struct engine *e, uint64_t cookie, uint64_t code)
{
	struct sstream *s = find_stream(e, cookie, EPIPE);
	if (!s)
		return -1;
	int r = sstream_reset(s, code);
	side_work(side_of(e));
	return r;
}

int sock_cmd_stop_sending(struct engine *e, uint64_t cookie, uint64_t code)
{
	struct sstream *s = find_stream(e, cookie, EPIPE);
	if (!s)
		return -1;
	int r = sstream_stop_sending(s, code);
	side_work(side_of(e));
	return r;
}

int sock_cmd_key_update(struct engine *e, uint64_t cookie)
{
	struct sconn *c = find_live_conn(e, cookie);
	if (!c)
		return -1;
	if (conn_key_update(c->conn, engine_now_us(e)))
		return fail(EAGAIN);
	sconn_touch(c);
	return 0;
}

/* ---- questions ------------------------------------------------------------------------------------- */

int sock_cmd_stream_id(struct engine *e, uint64_t cookie, int64_t *id)
{
	struct sstream *s = find_stream(e, cookie, EINVAL);
	if (!s)
		return -1;
	if (!s->stream)
		return fail(EAGAIN);
	*id = (int64_t)s->stream->id;
	return 0;
}

int sock_cmd_error(struct engine *e, uint64_t cookie, struct qsock_error *out)
{
	const struct sock_obj *o = sock_find(e, cookie);
	const struct qsock_error *err = o ? &o->error : sock_grave(e, cookie);
	if (!err)
		return fail(ENOTSOCK);
	*out = *err;
	return 0;
}

static void info_of(const struct conn_info *i, struct qsock_info *out)
{
	const size_t size = out->size;
	*out = (struct qsock_info){
		.size = size, .version = i->version, .mtu = i->mss,
		.rtt_us = (uint32_t)i->rtt_us, .rtt_min_us = (uint32_t)i->rtt_min_us,
		.rtt_var_us = (uint32_t)i->rtt_var_us,
		.cwnd = i->cwnd, .bytes_in_flight = i->in_flight, .pacing_rate = i->pacing_rate,
		.packets_sent = i->packets_sent, .packets_received = i->packets_received,
		.packets_lost = i->packets_lost, .bytes_sent = i->bytes_sent, .bytes_received = i->bytes_received,
		.streams_open = i->streams_open, .key_updates = i->key_updates, .is_server = i->is_server,
		.established = i->established, .confirmed = i->confirmed, .ecn_capable = i->ecn == ECN_CAPABLE,
	};
	if (!i->tls)
		return;
	out->cipher_suite = i->tls->suite;
	out->resumed = i->tls->resumed;
	strlcpy(out->alpn, i->tls->alpn, sizeof(out->alpn));
	strlcpy(out->server_name, i->tls->sni, sizeof(out->server_name));
}

int sock_cmd_info(struct engine *e, uint64_t cookie, struct qsock_info *out)
{
	struct sconn *c = find_conn(e, cookie);
	struct conn_info info;
	if (!c)
		return -1;
	conn_info(c->conn, &info);
	info_of(&info, out);
	return 0;
}

/* A wildcard is made concrete by asking the kernel for the way to the peer. */
static int conn_names(struct sconn *c, struct addr *local, struct addr *remote)
{
	struct conn_info info;
	if (c->pooled && c->local.sa.sa_family != AF_UNSPEC) {
		*local = c->local;
		*remote = c->remote;
		return 0;
	}
	conn_info(c->conn, &info);
	*remote = info.remote;
	if (port_route(c->port->port, remote, local))
		*local = *port_local(c->port->port);
	return 0;
}

int sock_cmd_names(struct engine *e, uint64_t cookie, struct addr *local, struct addr *remote)
{
	struct sock_obj *o = find(e, cookie, ENOTCONN);
	struct sport *p = NULL;
	*local = *remote = (struct addr){ 0 };
	if (!o)
		return -1;
	if (o->kind == SOCK_CONNECTION)
		return conn_names((struct sconn *)o, local, remote);
	if (o->kind == SOCK_STREAMOBJ)
		return conn_names(((struct sstream *)o)->conn, local, remote);
	if (o->kind == SOCK_LISTENER)
		p = ((struct slisten *)o)->port;
	else
		p = ((struct sfresh *)o)->port;
	if (p)
		*local = *port_local(p->port);
	else
		local->sa.sa_family = (sa_family_t)((struct sfresh *)o)->domain;
	return 0;
}

int sock_cmd_credit(struct engine *e, uint64_t cookie, uint64_t credit[2])
{
	engine_catch_up(e);	/* with what was opened before the question */
	struct sconn *c = find_live_conn(e, cookie);
	const struct sstream *s;
	if (!c)
		return -1;
	for (int dir = 0; dir < 2; dir++) {
		credit[dir] = conn_stream_credit(c->conn, dir);
		TAILQ_FOREACH(s, &c->waiting[dir], queue_link)
			credit[dir] -= credit[dir] > 0;
	}
	return 0;
}

int sock_cmd_unsent(struct engine *e, uint64_t cookie, uint64_t *bytes)
{
	const struct sstream *s = find_stream(e, cookie, ENOTCONN);
	if (!s && sock_grave_delivered(e, cookie))
		*bytes = 0;
	else if (!s)
		return -1;
	else if (s->tx == HALF_CUT)
		return fail(ENOTCONN);
	else
		*bytes = sstream_unsent(s);
	return 0;
}

int sock_cmd_pin(struct engine *e, uint64_t cookie, uint8_t pin[32])
{
	struct sock_obj *o = find(e, cookie, ENOTCONN);
	struct conn_info info;
	if (!o)
		return -1;
	if (o->kind == SOCK_LISTENER)
		return tls_config_pin(((struct slisten *)o)->cfg->server.tls, pin) ? 0 : fail(ENOENT);
	struct sconn *c = find_live_conn(e, cookie);
	if (!c)
		return -1;
	conn_info(c->conn, &info);
	if (!info.tls || !info.tls->peer_cert)
		return fail(ENOENT);
	memcpy(pin, info.tls->peer_pin, 32);
	return 0;
}
