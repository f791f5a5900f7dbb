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

#define UDP_TRAIN_MAX 65507	/* bytes in one GSO send over IPv4; 65,488 over IPv6 */

struct udp {
	int fd;
	bool gso, gro;
	int family;
	struct addr local;
};

struct udp_rx {			/* one received train */
	uint8_t *buf;
	size_t len, seg;	/* bytes in all, bytes of each datagram but the last */
	struct addr local, remote;
	enum ecn ecn;
};

int udp_open(struct udp *u, const struct addr *bind, bool reuse_port);	/* 0 or -1/errno */
void udp_close(struct udp *u);
/* Receive one train into buf (cap >= 65536 to hold a full one). 1; 0: nothing there; -1/errno for a lasting error. */
int udp_recv(struct udp *u, uint8_t *buf, size_t cap, struct udp_rx *rx);
/* Send len bytes as datagrams of seg. 1 sent; 0 would block (wait for EPOLLOUT); -1: dropped by a transient error
 * (ENOBUFS, ENETUNREACH, EPERM, EHOSTUNREACH...), errno set: QUIC's loss recovery repeats. Splits by itself where GSO is
 * refused. local with port 0 or AF_UNSPEC: kernel's choice. */
int udp_send(struct udp *u, const uint8_t *buf, size_t len, size_t seg, const struct addr *local,
	     const struct addr *remote, enum ecn ecn);
/* Next queued ICMP error: 1, *remote the destination of the offending datagram, *err ECONNREFUSED, EHOSTUNREACH...; 0 none. */
int udp_error(struct udp *u, struct addr *remote, int *err);

#endif
