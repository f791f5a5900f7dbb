/* Many connections behind one UDP socket, sans I/O: which connection a datagram
 * belongs to, who may become a connection, and the answers that need none
 * (version negotiation, Retry, stateless reset, refusal). RFC 9000 5.2, 6, 8.1, 10.3
 *
 * Same verbs as conn.h. One endpoint may be server and client at once. Not thread-safe. */
#ifndef ENDPOINT_ENDPOINT_H
#define ENDPOINT_ENDPOINT_H

#include "conn/conn.h"

/* Smallest datagram answered by a stateless reset, of 21 bytes then: probes and keep-alives alone are no larger than
 * some 30 bytes, and their sender shall learn too that its connection is gone. RFC 9000 10.3, 10.3.3 */
#define ENDPOINT_RESET_MIN_TRIGGER 22

struct endpoint;

struct endpoint_config {
	struct rng rng;
	/* the same as in every conn_config used here: */
	uint8_t cid_len;		/* 4-20, of every CID issued here */
	uint8_t reset_key[32], token_key[32];
	/* servers */
	bool retry;			/* always validate addresses by Retry */
	uint32_t retry_above;		/* half-open handshakes from which Retry is demanded; 0: 1000 */
	uint32_t max_half_open;		/* from so many on CONNECTION_REFUSED, after Retry; 0: 4096 */
	uint32_t max_resets_per_s;	/* 0: 100 */
};

/* NULL: no memory. */
struct endpoint *endpoint_new(const struct endpoint_config *cfg, uint64_t now_us);
/* All connections are freed at once, silently: close and drain them before. */
void endpoint_free(struct endpoint *e);

/* Accept connections with this configuration (NULL: stop accepting; connections stay). cfg lives longer. Its
 * reset_key becomes the endpoint's. */
void endpoint_listen(struct endpoint *e, const struct conn_config *cfg);
/* Always validate addresses by Retry, or not: as endpoint_config.retry, for a listener that comes later. */
void endpoint_retry(struct endpoint *e, bool retry);
/* While true new connections are refused with CONNECTION_REFUSED: the accept queue is full, or nobody listens any more.
 * Without a listener and without this they get no answer. */
void endpoint_refuse(struct endpoint *e, bool refuse);
/* As conn_new_client; the connection belongs to e. */
struct conn *endpoint_connect(struct endpoint *e, const struct conn_config *cfg, const struct addr *local,
			      const struct addr *remote, const char *server_name, const uint8_t *token,
			      size_t token_len, const uint8_t *session, size_t session_len, uint64_t now_us);
/* Forget and free a connection, whatever its state. */
void endpoint_drop(struct endpoint *e, struct conn *c);

/* n datagrams of one GRO train (same addresses) or one. */
void endpoint_recv(struct endpoint *e, struct datagram *d, size_t n, uint64_t now_us);
/* Next train of any connection, or an answer that belongs to none. Returns datagrams, 0: nothing. Goes round the
 * connections that have something to send. */
size_t endpoint_poll_transmit(struct endpoint *e, struct train *t, uint64_t now_us);
/* The owner acted on c (any conn_ call that changes what is to be sent): look at it at the next poll. */
void endpoint_touch(struct endpoint *e, struct conn *c);
uint64_t endpoint_deadline(const struct endpoint *e);
void endpoint_on_timeout(struct endpoint *e, uint64_t now_us);
/* Next event of any connection (CIDs are handled inside). *accepted: the event is the first of a connection that
 * came in from outside. After CONN_EV_DRAINED the owner calls endpoint_drop. false: none. */
bool endpoint_poll_event(struct endpoint *e, struct conn **c, struct conn_event *ev, bool *accepted);
/* ICMP error for what was sent to remote. */
void endpoint_unreachable(struct endpoint *e, const struct addr *remote, int os_errno, uint64_t now_us);
size_t endpoint_count(const struct endpoint *e);	/* connections */

#endif
