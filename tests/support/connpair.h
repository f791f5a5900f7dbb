/* A client and a server connection joined without an endpoint or a network: every
 * datagram of one is handed to the other after a fixed delay on a virtual clock,
 * unless a filter drops it. For tests that look at one connection closely. */
#ifndef SUPPORT_CONNPAIR_H
#define SUPPORT_CONNPAIR_H

#include "conn/conn.h"

struct wire_datagram;

struct connpair {
	struct conn_config ccfg, scfg;
	struct conn *client, *server;	/* server: NULL until the first Initial came */
	struct rng rng;
	uint64_t rng_state, now_us, delay_us;
	struct addr caddr, saddr;
	/* true: drop. to_server says which way. May be NULL. May change the bytes. */
	bool (*filter)(struct connpair *p, bool to_server, uint8_t *data, size_t len);
	void *filter_arg;
	bool may_fail;	/* memory may be out: no connection is made then, and the client's next Initial tries again */
	unsigned sent[2], dropped;	/* datagrams by direction: [1] to the server */
	bool established[2], confirmed[2], closed[2], drained[2];	/* [1]: server */
	struct stream *opened[2][64];	/* streams opened by the peer, in order */
	unsigned nopened[2];
	uint8_t session[4096];
	size_t session_len;
	char dir[64];
	struct wire_datagram *queue;	/* in flight, by arrival */
	struct tls_config *ctls, *stls;
	uint8_t reset_key[32], token_key[32];
};

/* Self-signed server, client that pins it. alpn of both: "test". */
void connpair_init(struct connpair *p, uint64_t seed);
void connpair_start(struct connpair *p);	/* makes the client */
/* Deliver, transmit and fire timers until nothing happens before `until_us` (virtual). */
void connpair_run(struct connpair *p, uint64_t until_us);
void connpair_handshake(struct connpair *p);	/* start, run, assert both confirmed */
void connpair_fini(struct connpair *p);

#endif
