/* Options of TCP sockets, answered for sockets that are streams of QUIC: what concerns
 * the descriptor goes to the kernel's object, which has the same options; what concerns a
 * TCP connection is remembered and read back; a few are translated. What TCP does not
 * know either is ENOPROTOOPT. */
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "preload/shim.h"

enum what {
	KEEP,		/* an int, remembered and read back */
	GET,		/* an int that cannot be set */
	ENGINE,		/* as KEEP, and the engine wants to know while the socket is fresh */
};

struct option {
	int level, name;
	enum what what;
	int32_t initial;
	enum sock_tcp_option engine;
	int32_t min, max;	/* of what may be set; both 0: anything */
};

#define PLAIN(what, level, name, initial) { level, name, what, initial, 0, 0, 0 }
#define KEEP_IN(level, name, initial, min, max) { level, name, KEEP, initial, 0, min, max }

/* The index is the one in memo.values. */
static const struct option options[] = {
	{ IPPROTO_IPV6, IPV6_V6ONLY, ENGINE, 0, SOCK_TCP_V6ONLY, 0, 0 },
	{ SOL_SOCKET, SO_REUSEPORT, ENGINE, 0, SOCK_TCP_REUSEPORT, 0, 0 },
	PLAIN(KEEP, SOL_SOCKET, SO_SNDBUF, 87040),
	PLAIN(KEEP, SOL_SOCKET, SO_RCVBUF, 131072),
	PLAIN(KEEP, SOL_SOCKET, SO_SNDBUFFORCE, 87040),
	PLAIN(KEEP, SOL_SOCKET, SO_RCVBUFFORCE, 131072),
	PLAIN(KEEP, SOL_SOCKET, SO_RCVLOWAT, 1),	/* the kernel's would hide an abnormal end */
	PLAIN(KEEP, SOL_SOCKET, SO_INCOMING_CPU, 0),
	PLAIN(GET, SOL_SOCKET, SO_PROTOCOL, IPPROTO_TCP),
	PLAIN(KEEP, IPPROTO_TCP, TCP_NODELAY, 0),
	PLAIN(KEEP, SOL_SOCKET, SO_KEEPALIVE, 0),	/* is inherited by what is accepted, as those below */
	PLAIN(KEEP, SOL_SOCKET, SO_OOBINLINE, 0),
	KEEP_IN(IPPROTO_TCP, TCP_MAXSEG, 1200, 88, 32767),
	PLAIN(KEEP, IPPROTO_TCP, TCP_CORK, 0),
	KEEP_IN(IPPROTO_TCP, TCP_KEEPIDLE, 7200, 1, 32767),
	KEEP_IN(IPPROTO_TCP, TCP_KEEPINTVL, 75, 1, 32767),
	KEEP_IN(IPPROTO_TCP, TCP_KEEPCNT, 9, 1, 127),
	KEEP_IN(IPPROTO_TCP, TCP_SYNCNT, 6, 1, 127),
	PLAIN(KEEP, IPPROTO_TCP, TCP_LINGER2, 60),
	PLAIN(KEEP, IPPROTO_TCP, TCP_DEFER_ACCEPT, 0),
	PLAIN(KEEP, IPPROTO_TCP, TCP_WINDOW_CLAMP, 0),
	PLAIN(KEEP, IPPROTO_TCP, TCP_QUICKACK, 1),
	PLAIN(KEEP, IPPROTO_TCP, TCP_USER_TIMEOUT, 0),
	PLAIN(KEEP, IPPROTO_TCP, TCP_FASTOPEN, 0),
	PLAIN(KEEP, IPPROTO_TCP, TCP_NOTSENT_LOWAT, 0),
	PLAIN(KEEP, IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS, 0),
	PLAIN(KEEP, IPPROTO_TCP, TCP_SAVE_SYN, 0),
	PLAIN(KEEP, IPPROTO_IP, IP_TOS, 0),
	PLAIN(KEEP, IPPROTO_IP, IP_TTL, 64),
	PLAIN(KEEP, IPPROTO_IP, IP_MTU_DISCOVER, 1),
	PLAIN(KEEP, IPPROTO_IP, IP_RECVERR, 0),
	PLAIN(KEEP, IPPROTO_IP, IP_FREEBIND, 0),
	PLAIN(KEEP, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 0),
	PLAIN(KEEP, IPPROTO_IPV6, IPV6_TCLASS, 0),
	PLAIN(KEEP, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 64),
	PLAIN(KEEP, IPPROTO_IPV6, IPV6_RECVERR, 0),
};
#define COUNT (sizeof(options) / sizeof(options[0]))
_Static_assert(COUNT <= MEMO_VALUES, "a value for each option");

static int index_of(int level, int name)
{
	for (size_t i = 0; i < COUNT; i++)
		if (options[i].level == level && options[i].name == name)
			return (int)i;
	return -1;
}

/* ---- set ------------------------------------------------------------------------------ */

static int run_option(struct engine *e, struct api_call *c)
{
	return sock_cmd_tcp_option(e, c->cookie, (enum sock_tcp_option)c->number, c->out != NULL);
}

static int tell_engine(int fd, enum sock_tcp_option option, bool on)
{
	return api_call(fd, &(struct api_call){ .run = run_option, .number = option, .out = on ? (void *)"" : NULL });
}

/* Buffers are doubled as TCP does it. */
static int32_t kept_value(const struct option *o, int32_t v)
{
	if (o->level == SOL_SOCKET && (o->name == SO_SNDBUF || o->name == SO_RCVBUF))
		return v < 1152 ? 2304 : v > 212992 ? 425984 : 2 * v;
	return v;
}

static int keep(int fd, struct memo *m, int i, const void *val, socklen_t len)
{
	const struct option *o = &options[i];
	int32_t v;
	if (o->what == GET)
		return shim_fail(ENOPROTOOPT);
	/* IP options may be single bytes. */
	if (len >= sizeof(v))
		memcpy(&v, val, sizeof(v));
	else if (len && o->level == IPPROTO_IP)
		v = *(const uint8_t *)val;
	else
		return shim_fail(EINVAL);
	if (o->max && (v < o->min || v > o->max))
		return shim_fail(EINVAL);
	if (o->what == ENGINE && m->bound && o->name == IPV6_V6ONLY)
		return shim_fail(EINVAL);
	if (o->what == ENGINE && m->state == MEMO_FRESH && tell_engine(fd, o->engine, v))
		return -1;
	m->values[i] = kept_value(o, v);
	m->set |= UINT64_C(1) << i;
	memo_put(m);
	return 0;
}

/* 0 seconds mean that close is a reset; other times would make close wait, which it does not here. */
static int set_linger(int fd, const void *val, socklen_t len)
{
	struct linger l;
	if (setsockopt(fd, SOL_SOCKET, SO_LINGER, val, len))
		return -1;
	memcpy(&l, val, sizeof(l));
	tell_engine(fd, SOCK_TCP_ABORT, l.l_onoff && !l.l_linger);
	return 0;
}

static int set_congestion(const char *val, socklen_t len)
{
	if (strnlen(val, len) == 4 && !memcmp(val, "reno", 4))
		return 0;
	return shim_fail(ENOENT);
}

static int set_socket(int fd, int name, const void *val, socklen_t len)
{
	switch (name) {
	case SO_LINGER:
		return set_linger(fd, val, len);
	case SO_BINDTODEVICE:
	case SO_ZEROCOPY:
	case SO_ATTACH_FILTER:
	case SO_ATTACH_BPF:
	case SO_ATTACH_REUSEPORT_CBPF:
	case SO_ATTACH_REUSEPORT_EBPF:
	case SO_PASSCRED:
	case SO_PASSSEC:
		return shim_fail(ENOPROTOOPT);
	default:
		return setsockopt(fd, SOL_SOCKET, name, val, len);
	}
}

int shim_setsockopt(int fd, struct memo *m, int level, int name, const void *val, socklen_t len)
{
	int i = index_of(level, name);
	if (!val && len)
		return shim_fail(EFAULT);
	if (i >= 0)
		return keep(fd, m, i, val, len);
	if (level == SOL_SOCKET)
		return set_socket(fd, name, val, len);
	if (level == IPPROTO_TCP && name == TCP_CONGESTION)
		return set_congestion(val, len);
	return shim_fail(ENOPROTOOPT);
}

/* ---- get ------------------------------------------------------------------------------- */

static int give(const void *p, size_t n, void *val, socklen_t *len)
{
	if (!val || !len)
		return shim_fail(EFAULT);
	if ((int)*len < 0)
		return shim_fail(EINVAL);
	if (*len > n)
		*len = (socklen_t)n;
	memcpy(val, p, *len);
	return 0;
}

static int give_int(int32_t v, void *val, socklen_t *len)
{
	return give(&v, sizeof(v), val, len);
}

static int run_info(struct engine *e, struct api_call *c)
{
	return sock_cmd_info(e, c->cookie, c->out);
}

static uint8_t connected_state(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };
	if (poll(&p, 1, 0) <= 0)
		return TCP_ESTABLISHED;
	return p.revents & (POLLHUP | POLLERR) ? TCP_CLOSE : TCP_CLOSE_WAIT;
}

/* What QUIC knows of the connection, in TCP's terms. */
static int tcp_info(int fd, const struct memo *m, void *val, socklen_t *len)
{
	struct qsock_info q = { .size = sizeof(q) };
	struct tcp_info t = { .tcpi_state = TCP_CLOSE };
	if (m->state == MEMO_LISTENING)
		t.tcpi_state = TCP_LISTEN;
	else if (m->state == MEMO_CONNECTING)
		t.tcpi_state = TCP_SYN_SENT;
	else if (m->state == MEMO_CONNECTED && !api_call(fd, &(struct api_call){ .run = run_info, .out = &q }))
		t.tcpi_state = connected_state(fd);
	if (q.mtu) {
		t.tcpi_options = TCPI_OPT_SACK | TCPI_OPT_TIMESTAMPS | TCPI_OPT_WSCALE;
		t.tcpi_snd_mss = t.tcpi_rcv_mss = t.tcpi_advmss = q.mtu;
		t.tcpi_pmtu = q.mtu + 28;
		t.tcpi_rtt = q.rtt_us;
		t.tcpi_rttvar = q.rtt_var_us;
		t.tcpi_snd_cwnd = (uint32_t)(q.cwnd / q.mtu);
		t.tcpi_unacked = (uint32_t)(q.bytes_in_flight / q.mtu);
		t.tcpi_total_retrans = (uint32_t)q.packets_lost;
		t.tcpi_snd_ssthresh = INT32_MAX;
	}
	return give(&t, sizeof(t), val, len);
}

static int get_socket(int fd, struct memo *m, int name, void *val, socklen_t *len)
{
	static const struct ucred nobody = { 0, (uid_t)-1, (gid_t)-1 };
	int err;
	switch (name) {
	case SO_DOMAIN:
		return give_int(m->domain, val, len);
	case SO_ACCEPTCONN:
		return give_int(m->state == MEMO_LISTENING, val, len);
	case SO_PEERCRED:
		return give(&nobody, sizeof(nobody), val, len);
	case SO_ERROR:
		return shim_take_error(fd, &err) ? -1 : give_int(err, val, len);
	default:
		return getsockopt(fd, SOL_SOCKET, name, val, len);
	}
}

int shim_getsockopt(int fd, struct memo *m, int level, int name, void *val, socklen_t *len)
{
	static const char congestion[16] = "reno";
	int i = index_of(level, name);
	if (level != SOL_SOCKET && level != IPPROTO_TCP && level != IPPROTO_IP &&
	    (level != IPPROTO_IPV6 || m->domain != AF_INET6))
		return shim_fail(EOPNOTSUPP);
	if (i >= 0)
		return give_int(m->set >> i & 1 ? m->values[i] : options[i].initial, val, len);
	if (level == SOL_SOCKET)
		return get_socket(fd, m, name, val, len);
	shim_refresh(fd, m);
	if (level == IPPROTO_TCP && name == TCP_INFO)
		return tcp_info(fd, m, val, len);
	if (level == IPPROTO_TCP && name == TCP_CONGESTION)
		return give(congestion, sizeof(congestion), val, len);
	return shim_fail(ENOPROTOOPT);
}

/* ---- repeat ------------------------------------------------------------------------------ */

static void repeat(int to, struct memo *n, int level, int name, const void *val, socklen_t len)
{
	if (n)
		shim_setsockopt(to, n, level, name, val, len);
	else
		setsockopt(to, level, name, val, len);
}

void options_repeat(int from, const struct memo *m, int to, struct memo *n)
{
	static const int kernels[] = { SO_REUSEADDR, SO_LINGER, SO_RCVTIMEO, SO_SNDTIMEO };
	char val[sizeof(struct timeval)];
	for (size_t i = 0; i < sizeof(kernels) / sizeof(kernels[0]); i++) {
		socklen_t len = sizeof(val);
		if (!getsockopt(from, SOL_SOCKET, kernels[i], val, &len))
			repeat(to, n, SOL_SOCKET, kernels[i], val, len);
	}
	for (size_t i = 0; i < COUNT; i++) {
		int v = m->values[i];
		if (!(m->set >> i & 1))
			continue;
		if (options[i].level == SOL_SOCKET && (options[i].name == SO_SNDBUF || options[i].name == SO_RCVBUF))
			v /= 2;
		repeat(to, n, options[i].level, options[i].name, &v, sizeof(v));
	}
}
