/* UDP as QUIC needs it: trains out by UDP_SEGMENT, trains in by UDP_GRO, the ECN
 * field and the local address both ways by control messages, ICMP errors by
 * IP_RECVERR. Nothing here knows what a datagram means. Linux; each feature is
 * switched off by itself where the kernel refuses it. */
#ifndef IO_UDP_H
#define IO_UDP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"
#include "recovery/ackq.h"

#define UDP_TRAIN_MAX 65507	/* bytes in one GSO send over IPv4 */
#define UDP_TRAIN_MAX6 65488	/* over IPv6 */
#define UDP_SEGS_MAX 128	/* datagrams in one GSO send */

struct udp {
	int fd;
	bool gso, gro;
	bool wildcard;		/* bound to no particular address */
	uint8_t max_segs;	/* datagrams the kernel takes per GSO send: 64 before Linux 6.9 */
	int family;
	struct addr local;	/* bound */
};

struct udp_rx {			/* one received train */
	uint8_t *buf;
	size_t len, seg;	/* bytes in all, bytes of each datagram but the last */
	struct addr local, remote;
	enum ecn ecn;
};

/* A socket bound to :: serves IPv4 too; such peers are v4-mapped AF_INET6 addresses. 0 or -1/errno. */
#define UDP_REUSE_PORT 0x1
#define UDP_V6_ONLY 0x2	/* IPv6: no mapped IPv4 peers, so that an IPv4 socket may have the same port */
int udp_open(struct udp *u, const struct addr *bind, unsigned flags);
void udp_close(struct udp *u);
/* Receive one train into buf (cap >= 65536 to hold a full one). 1 (an empty datagram, or one beyond cap, has len and seg 0); 0: nothing
 * there; -1/errno for a lasting error. */
int udp_recv(struct udp *u, uint8_t *buf, size_t cap, struct udp_rx *rx);
/* The same for up to n (1..UDP_BATCH) trains, each into its rx[i].buf. How many; fewer than n: that was all, or an
 * error comes next, of which EPOLLERR tells. -1/errno for a lasting error. */
#define UDP_BATCH 2
int udp_recv_trains(struct udp *u, size_t cap, struct udp_rx *rx, unsigned n);
/* Send len bytes as datagrams of seg, from *off on, which is advanced over what was sent. 1 all sent; 0 would block (wait
 * for EPOLLOUT, call again with the same *off); -1: the rest was dropped by a transient error (ENOBUFS, ENETUNREACH,
 * EPERM, EHOSTUNREACH, EMSGSIZE...), errno set: QUIC's loss recovery repeats. Splits by itself where one GSO send
 * cannot take it all or GSO is refused. local AF_UNSPEC or the wildcard address: kernel's choice. */
int udp_send(struct udp *u, const uint8_t *buf, size_t len, size_t seg, size_t *off, const struct addr *local,
	     const struct addr *remote, enum ecn ecn);
/* Next queued ICMP error: 1, *remote the destination of the offending datagram, *err ECONNREFUSED, EHOSTUNREACH...;
 * 0 none. "Too big" is not reported: the path MTU is probed, not believed (RFC 9000 14.2.1). */
int udp_error(struct udp *u, struct addr *remote, int *err);

#endif
