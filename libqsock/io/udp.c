#include "io/udp.h"

#include <errno.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define SOCKET_BUF (4 << 20)
#define SINGLES 64		/* datagrams per sendmmsg where GSO is refused */
#define OLD_SEGS_MAX 64		/* UDP_MAX_SEGMENTS before Linux 6.9 */
#define STALE_ERRORS 16		/* queued socket errors skipped in one call */

union control {
	struct cmsghdr align;
	char buf[128];
};

/* ---- opening ------------------------------------------------------------- */

static bool opt(int fd, int level, int name, int value)
{
	return !setsockopt(fd, level, name, &value, sizeof(value));
}

static void set_buffers(int fd)
{
	if (!opt(fd, SOL_SOCKET, SO_RCVBUFFORCE, SOCKET_BUF))
		opt(fd, SOL_SOCKET, SO_RCVBUF, SOCKET_BUF);
	if (!opt(fd, SOL_SOCKET, SO_SNDBUFFORCE, SOCKET_BUF))
		opt(fd, SOL_SOCKET, SO_SNDBUF, SOCKET_BUF);
}

/* Every option is a help only: QUIC works without, a little worse. An IPv6 socket needs the IPv4 ones for its mapped
 * peers. PROBE sets DF and ignores what routers claim the MTU to be. */
static void set_options(struct udp *u, unsigned flags)
{
	set_buffers(u->fd);
	if (u->family == AF_INET6) {
		opt(u->fd, IPPROTO_IPV6, IPV6_V6ONLY, (flags & UDP_V6_ONLY) != 0);
		opt(u->fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_PROBE);
		opt(u->fd, IPPROTO_IPV6, IPV6_RECVTCLASS, 1);
		opt(u->fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
		opt(u->fd, IPPROTO_IPV6, IPV6_RECVERR, 1);
	} else {
		opt(u->fd, IPPROTO_IP, IP_PKTINFO, 1);
	}
	opt(u->fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE);
	opt(u->fd, IPPROTO_IP, IP_RECVTOS, 1);
	opt(u->fd, IPPROTO_IP, IP_RECVERR, 1);
	u->gro = opt(u->fd, SOL_UDP, UDP_GRO, 1);
	int seg;
	socklen_t len = sizeof(seg);
	u->gso = !getsockopt(u->fd, SOL_UDP, UDP_SEGMENT, &seg, &len);
}

static bool is_wildcard(const struct addr *a)
{
	if (a->sa.sa_family == AF_INET6)
		return IN6_IS_ADDR_UNSPECIFIED(&a->in6.sin6_addr);
	return a->sa.sa_family != AF_INET || a->in4.sin_addr.s_addr == htonl(INADDR_ANY);
}

int udp_open(struct udp *u, const struct addr *bind_to, unsigned flags)
{
	*u = (struct udp){ .family = bind_to->sa.sa_family, .max_segs = UDP_SEGS_MAX };
	if (u->family != AF_INET && u->family != AF_INET6) {
		u->fd = -1;
		errno = EAFNOSUPPORT;
		return -1;
	}
	u->fd = socket(u->family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_UDP);
	if (u->fd < 0)
		return -1;
	set_options(u, flags);
	if (flags & UDP_REUSE_PORT && !opt(u->fd, SOL_SOCKET, SO_REUSEPORT, 1))
		goto fail;
	if (bind(u->fd, &bind_to->sa, addr_len(bind_to)) < 0)
		goto fail;
	socklen_t len = sizeof(u->local);
	if (getsockname(u->fd, &u->local.sa, &len) < 0)
		goto fail;
	u->wildcard = is_wildcard(&u->local);
	return 0;
fail:;
	int err = errno;
	udp_close(u);
	errno = err;
	return -1;
}

void udp_close(struct udp *u)
{
	if (u->fd >= 0)
		close(u->fd);
	u->fd = -1;
}

/* ---- receiving ----------------------------------------------------------- */

static void take_pktinfo6(struct udp_rx *rx, const struct cmsghdr *c)
{
	struct in6_pktinfo pi;
	memcpy(&pi, CMSG_DATA(c), sizeof(pi));
	rx->local.in6.sin6_addr = pi.ipi6_addr;
	rx->local.in6.sin6_scope_id = IN6_IS_ADDR_LINKLOCAL(&pi.ipi6_addr) ? pi.ipi6_ifindex : 0;
}

static void take_control(struct udp_rx *rx, const struct cmsghdr *c)
{
	int value;
	if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_TOS) {
		rx->ecn = *CMSG_DATA(c) & 3;	/* one byte, unlike everything else here */
	} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_TCLASS) {
		memcpy(&value, CMSG_DATA(c), sizeof(value));
		rx->ecn = value & 3;
	} else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
		memcpy(&value, CMSG_DATA(c), sizeof(value));
		if (value > 0)
			rx->seg = (size_t)value;
	} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
		struct in_pktinfo pi;
		memcpy(&pi, CMSG_DATA(c), sizeof(pi));
		if (rx->local.sa.sa_family == AF_INET)
			rx->local.in4.sin_addr = pi.ipi_addr;
	} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
		take_pktinfo6(rx, c);
	}
}

/* What one peer's ICMP left on the socket and any call may be handed; the call itself did nothing. */
static bool is_stale_error(int err)
{
	return err == ECONNREFUSED || err == EHOSTUNREACH || err == ENETUNREACH || err == EHOSTDOWN || err == ENONET ||
	       err == ENOPROTOOPT || err == EPROTO || err == EMSGSIZE || err == EACCES || err == EINTR ||
	       err == EOPNOTSUPP;
}

static void take_train(const struct udp *u, struct udp_rx *rx, struct msghdr *m, size_t len)
{
	rx->len = rx->seg = m->msg_flags & MSG_TRUNC ? 0 : len;	/* larger than any datagram we would have sent for */
	rx->local = u->local;
	rx->ecn = ECN_NOT_ECT;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c))
		take_control(rx, c);
	if (rx->seg > rx->len)
		rx->seg = rx->len;
}

int udp_recv_trains(struct udp *u, size_t cap, struct udp_rx *rx, unsigned n)
{
	union control control[UDP_BATCH];
	struct iovec iov[UDP_BATCH];
	struct mmsghdr m[UDP_BATCH];
	int got = -1;
	for (unsigned i = 0; i < n; i++) {
		iov[i] = (struct iovec){ rx[i].buf, cap };
		m[i].msg_hdr = (struct msghdr){
			.msg_name = &rx[i].remote, .msg_namelen = sizeof(rx[i].remote), .msg_iov = &iov[i],
			.msg_iovlen = 1, .msg_control = control[i].buf, .msg_controllen = sizeof(control[i].buf),
		};
	}
	for (int errors = 0; got < 0; errors++) {
		got = recvmmsg(u->fd, m, n, MSG_DONTWAIT, NULL);
		if (got < 0 && errno == EAGAIN)
			return 0;
		if (got < 0 && (!is_stale_error(errno) || errors == STALE_ERRORS))
			return -1;
	}
	for (int i = 0; i < got; i++)
		take_train(u, &rx[i], &m[i].msg_hdr, m[i].msg_len);
	return got;
}

int udp_recv(struct udp *u, uint8_t *buf, size_t cap, struct udp_rx *rx)
{
	rx->buf = buf;
	return udp_recv_trains(u, cap, rx, 1);
}

/* ---- sending ------------------------------------------------------------- */

static void put_control(struct msghdr *m, int level, int type, const void *data, size_t len)
{
	struct cmsghdr *c = (struct cmsghdr *)((char *)m->msg_control + m->msg_controllen);
	c->cmsg_level = level;
	c->cmsg_type = type;
	c->cmsg_len = CMSG_LEN(len);
	memcpy(CMSG_DATA(c), data, len);
	m->msg_controllen += CMSG_SPACE(len);
}

static void put_source(struct msghdr *m, const struct addr *local)
{
	if (is_wildcard(local))
		return;
	if (local->sa.sa_family == AF_INET6) {
		const struct in6_pktinfo pi = { .ipi6_addr = local->in6.sin6_addr,
						.ipi6_ifindex = local->in6.sin6_scope_id };
		put_control(m, IPPROTO_IPV6, IPV6_PKTINFO, &pi, sizeof(pi));
		return;
	}
	const struct in_pktinfo pi = { .ipi_spec_dst = local->in4.sin_addr };
	put_control(m, IPPROTO_IP, IP_PKTINFO, &pi, sizeof(pi));
}

/* The parts that every datagram of the train shares. control was zeroed by the caller. */
static struct msghdr header(const struct udp *u, union control *control, const struct addr *local,
			    const struct addr *remote, enum ecn ecn)
{
	struct msghdr m = {
		.msg_name = (void *)&remote->sa, .msg_namelen = addr_len(remote), .msg_control = control->buf,
	};
	if (ecn != ECN_NOT_ECT) {
		const int tos = ecn;
		if (remote->sa.sa_family == AF_INET6 && !IN6_IS_ADDR_V4MAPPED(&remote->in6.sin6_addr))
			put_control(&m, IPPROTO_IPV6, IPV6_TCLASS, &tos, sizeof(tos));
		else
			put_control(&m, IPPROTO_IP, IP_TOS, &tos, sizeof(tos));
	}
	if (u->wildcard && local)
		put_source(&m, local);
	return m;
}

/* Bytes the next GSO send may carry: whole datagrams, within the kernel's limits. */
static size_t gso_share(const struct udp *u, const struct addr *remote, size_t left, size_t seg)
{
	size_t max = remote->sa.sa_family == AF_INET6 ? UDP_TRAIN_MAX6 : UDP_TRAIN_MAX;
	size_t segs = max / seg;
	if (segs > u->max_segs)
		segs = u->max_segs;
	if (segs == 0)
		segs = 1;
	return segs * seg < left ? segs * seg : left;
}

/* One sendmsg, again if it only reported somebody else's ICMP error. */
static ssize_t send_one(struct udp *u, const struct msghdr *m)
{
	ssize_t n = sendmsg(u->fd, m, MSG_DONTWAIT);
	for (int i = 0; n < 0 && errno != EMSGSIZE && is_stale_error(errno) && i < 2; i++)
		n = sendmsg(u->fd, m, MSG_DONTWAIT);
	return n;
}

/* 1; 0 would block; -1/errno. */
static int send_singles(struct udp *u, const struct msghdr *common, const uint8_t *buf, size_t len, size_t seg,
			size_t *off)
{
	struct mmsghdr mm[SINGLES];
	struct iovec iov[SINGLES];
	while (*off < len) {
		unsigned n = 0;
		for (size_t at = *off; at < len && n < SINGLES; at += seg, n++) {
			iov[n] = (struct iovec){ (void *)(buf + at), len - at < seg ? len - at : seg };
			mm[n] = (struct mmsghdr){ .msg_hdr = *common };
			mm[n].msg_hdr.msg_iov = &iov[n];
			mm[n].msg_hdr.msg_iovlen = 1;
		}
		int sent = sendmmsg(u->fd, mm, n, MSG_DONTWAIT);
		if (sent < 0 && errno == EAGAIN)
			return 0;
		if (sent < 0) {
			if (send_one(u, &mm[0].msg_hdr) < 0)
				return errno == EAGAIN ? 0 : -1;
			sent = 1;
		}
		for (int i = 0; i < sent; i++)
			*off += iov[i].iov_len;
	}
	return 1;
}

/* The kernel refused a train with EINVAL or EIO: too many datagrams for an old one, a route without checksum offload,
 * or datagrams larger than the MTU (then GSO is not to blame, and single ones fail too). */
static int send_refused(struct udp *u, const struct msghdr *common, const uint8_t *buf, size_t len, size_t seg,
			size_t *off)
{
	if (u->max_segs > OLD_SEGS_MAX && len - *off > OLD_SEGS_MAX * seg) {
		u->max_segs = OLD_SEGS_MAX;
		return 1;
	}
	size_t before = *off;
	int r = send_singles(u, common, buf, len, seg, off);
	if (*off > before)
		u->gso = false;
	return r;
}

int udp_send(struct udp *u, const uint8_t *buf, size_t len, size_t seg, size_t *off, const struct addr *local,
	     const struct addr *remote, enum ecn ecn)
{
	union control control;
	memset(&control, 0, sizeof(control));
	const struct msghdr common = header(u, &control, local, remote, ecn);
	while (*off < len) {
		if (!u->gso)
			return send_singles(u, &common, buf, len, seg, off);
		struct iovec iov = { (void *)(buf + *off), gso_share(u, remote, len - *off, seg) };
		struct msghdr m = common;
		const uint16_t gso_seg = (uint16_t)seg;
		m.msg_iov = &iov;
		m.msg_iovlen = 1;
		if (iov.iov_len > seg)
			put_control(&m, SOL_UDP, UDP_SEGMENT, &gso_seg, sizeof(gso_seg));
		if (send_one(u, &m) >= 0) {
			*off += iov.iov_len;
			continue;
		}
		if (errno == EAGAIN)
			return 0;
		if (errno != EINVAL && errno != EIO)
			return -1;
		int r = send_refused(u, &common, buf, *off + iov.iov_len, seg, off);
		if (r <= 0)
			return r;
	}
	return 1;
}

/* ---- ICMP ---------------------------------------------------------------- */

static bool take_icmp(const struct msghdr *m, int *err)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR((struct msghdr *)m, c)) {
		if (!(c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_RECVERR) &&
		    !(c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_RECVERR))
			continue;
		struct sock_extended_err ee;
		memcpy(&ee, CMSG_DATA(c), sizeof(ee));
		if (ee.ee_origin != SO_EE_ORIGIN_ICMP && ee.ee_origin != SO_EE_ORIGIN_ICMP6)
			return false;
		*err = (int)ee.ee_errno;
		return ee.ee_errno != EMSGSIZE;
	}
	return false;
}

int udp_error(struct udp *u, struct addr *remote, int *err)
{
	for (;;) {
		union {
			struct cmsghdr align;
			char buf[512];
		} control;
		struct msghdr m = {
			.msg_name = remote, .msg_namelen = sizeof(*remote),
			.msg_control = control.buf, .msg_controllen = sizeof(control.buf),
		};
		if (recvmsg(u->fd, &m, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) {
			if (errno == EINTR)
				continue;
			return 0;
		}
		if (m.msg_namelen >= sizeof(remote->in4) && take_icmp(&m, err))
			return 1;
	}
}
