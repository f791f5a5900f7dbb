/* One QUIC connection, sans I/O: datagrams in, datagrams out, time as argument.
 *
 * Not thread-safe; one owner. Nothing here blocks, sleeps, reads a clock or calls back
 * upward. Everything that the owner must learn comes out of conn_poll_event.
 *
 * After any call that may change what is to be sent (recv, on_timeout, any act of
 * the application) the owner calls conn_poll_transmit until it returns 0, and then asks
 * conn_deadline again. Times: microseconds of a monotonic clock, > 0. */
#ifndef CONN_CONN_H
#define CONN_CONN_H

#include "base/addr.h"
#include "base/err.h"
#include "base/rng.h"
#include "recovery/recovery.h"
#include "stream/streams.h"
#include "tls/tls.h"
#include "wire/packet.h"

struct conn;

struct conn_config {		/* shared by many connections, immutable; lives longer than they */
	struct tls_config *tls;
	struct streams_limits limits;
	uint64_t idle_timeout_us;	/* 0: none */
	uint64_t handshake_timeout_us;	/* whole handshake */
	uint64_t keepalive_us;		/* 0: off */
	uint64_t max_send_bytes;	/* unacknowledged and unsent bytes held for one stream */
	uint32_t mss;			/* UDP payload bytes of our packets, 1200-1452 */
	uint64_t key_update_packets;	/* between key updates of our own; 0: only near the AEAD limit */
	const struct cc_ops *cc;
	bool ecn;
	uint8_t cid_len;		/* of the CIDs we issue, 1-20 (0 not yet) */
	const uint8_t *reset_key;	/* 32 bytes, for stateless reset tokens */
	const uint8_t *token_key;	/* 32 bytes, servers: for NEW_TOKEN */
};

/* ---- life (called by endpoint/) ----------------------------------------- */

/* token: address validation token for this server from an earlier connection (NEW_TOKEN), may be empty.
 * session: resumption blob, may be empty. server_name: SNI and verification; may be NULL. NULL: no memory. */
struct conn *conn_new_client(const struct conn_config *cfg, const struct rng *rng, const struct addr *local,
			     const struct addr *remote, const char *server_name, const uint8_t *token, size_t token_len,
			     const uint8_t *session, size_t session_len, uint64_t now_us);
/* From a client's first Initial, already parsed. odcid: its DCID before any Retry. retry_scid: what our Retry
 * gave it, NULL without Retry. validated: its address is known by a token. The datagram is then fed by conn_recv. */
struct conn *conn_new_server(const struct conn_config *cfg, const struct rng *rng, const struct addr *local,
			     const struct addr *remote, const struct packet *first, const struct cid *odcid,
			     const struct cid *retry_scid, bool validated, uint64_t now_us);
void conn_free(struct conn *c);

/* ---- the four verbs ----------------------------------------------------- */

struct datagram {
	uint8_t *data;		/* decrypted in place */
	size_t len;
	struct addr local, remote;
	enum ecn ecn;
};

/* Feed n datagrams from one GRO train or one; equal peers and order as received. May produce events. */
void conn_recv(struct conn *c, struct datagram *d, size_t n, uint64_t now_us);

struct train {
	uint8_t *buf;		/* in: where to write */
	size_t cap;		/* in: bytes, at least mss */
	size_t max_segs;	/* in: most packets */
	size_t len;		/* out: bytes in all */
	size_t seg;		/* out: bytes of each datagram but the last, which may be shorter */
	enum ecn ecn;		/* out */
	struct addr local, remote;	/* out */
};

/* Fill one train of equal-size datagrams. Returns datagrams written, 0: nothing to send now. */
size_t conn_poll_transmit(struct conn *c, struct train *t, uint64_t now_us);
/* When conn_on_timeout has to be called; UINT64_MAX: never. May be in the past. */
uint64_t conn_deadline(const struct conn *c, uint64_t now_us);
void conn_on_timeout(struct conn *c, uint64_t now_us);

enum conn_event_type {
	CONN_EV_NONE,
	CONN_EV_CID_ISSUED,	/* endpoint: datagrams with .cid are for this connection */
	CONN_EV_CID_RETIRED,	/* endpoint: no longer */
	CONN_EV_ESTABLISHED,	/* handshake complete: streams may be opened; conn_info is full */
	CONN_EV_CONFIRMED,	/* handshake confirmed, RFC 9001 4.1.2 */
	CONN_EV_STREAM_OPENED,	/* by the peer: .stream */
	CONN_EV_STREAM,		/* .stream has .stream_events (STREAM_EV_*) */
	CONN_EV_STREAM_CREDIT,	/* more streams may be opened than before */
	CONN_EV_SESSION,	/* client: .data/.len is a resumption blob (valid until the next call) */
	CONN_EV_TOKEN,		/* client: .data/.len is a NEW_TOKEN token */
	CONN_EV_ALL_ACKED,	/* what conn_notify_acked asked for */
	CONN_EV_CLOSED,		/* over for the application; conn_error says why. Streams may still be read. Comes once. */
	CONN_EV_DRAINED,	/* last event: nothing will be sent or received any more; conn_free may be called */
};

struct conn_event {
	enum conn_event_type type;
	struct stream *stream;
	uint8_t stream_events;
	struct cid cid;
	const uint8_t *data;
	size_t len;
};
/* Only CID_ISSUED and CID_RETIRED; to be drained by the endpoint right after every call that
 * may make them, so that the next datagram finds its connection. false: none left. */
bool conn_poll_cid_event(struct conn *c, struct conn_event *ev);
/* All other events. false: no event left. */
bool conn_poll_event(struct conn *c, struct conn_event *ev);

/* ---- the application's acts --------------------------------------------- */

/* 0; QE_AGAIN at the peer's stream limit or before it is known; QE_NOMEM; QE_CLOSED. dir: DIR_BIDI, DIR_UNI */
int conn_stream_open(struct conn *c, int dir, struct stream **out);
uint64_t conn_stream_credit(const struct conn *c, int dir);
/* Room for application bytes: at most what keeps the stream under max_send_bytes; 0: full, no memory, or no longer
 * writable (stream_tx_open says which). EV_WRITABLE will come if the stream is tx_waiting then; without that there is
 * nothing whose acknowledgement could give room: try again later. Fill the pieces and commit. */
size_t conn_stream_claim(struct conn *c, struct stream *s, size_t want, struct iovec *iov, int cap, int *n);
void conn_stream_commit(struct conn *c, struct stream *s, size_t len);
int conn_stream_finish(struct conn *c, struct stream *s);
int conn_stream_reset(struct conn *c, struct stream *s, uint64_t code);
int conn_stream_stop_sending(struct conn *c, struct stream *s, uint64_t code);
/* What can be read: as recvbuf_peek. *end: 0 more may come; after these bytes 1 FIN, -1 the peer's reset. */
int conn_stream_peek(struct conn *c, struct stream *s, struct iovec *iov, int cap, size_t *bytes, int *end);
void conn_stream_consume(struct conn *c, struct stream *s, size_t n);
/* The end (FIN or reset) has been taken note of. */
void conn_stream_read_end(struct conn *c, struct stream *s);
/* The owner will not touch s again. What is unfinished is finished by QUIC's rules (unsent data is still delivered). */
void conn_stream_release(struct conn *c, struct stream *s);
/* Make a peer see a stream that has no data yet: an empty STREAM frame. */
void conn_stream_announce(struct conn *c, struct stream *s);

/* Application close: CONNECTION_CLOSE 0x1d (0x1c APPLICATION_ERROR before 1-RTT, RFC 9000 10.2.3). reason is copied, at
 * most 255 bytes of it. */
void conn_close(struct conn *c, uint64_t code, const char *reason, size_t reason_len, uint64_t now_us);
/* Transport close by the owner, e.g. QE_CONNECTION_REFUSED. */
void conn_close_transport(struct conn *c, int qe, const char *reason, uint64_t now_us);
/* The network says the peer is not there (ICMP port unreachable). Believed at once only as long as nothing was heard
 * of the peer; later it has some PTOs to answer before the connection ends with CONN_ERR_UNREACHABLE. */
void conn_unreachable(struct conn *c, int os_errno, uint64_t now_us);
/* A datagram that belongs to no known CID ended in a stateless reset token of this connection. */
bool conn_is_reset(const struct conn *c, const uint8_t *datagram, size_t len);
void conn_on_reset(struct conn *c, uint64_t now_us);
int conn_key_update(struct conn *c, uint64_t now_us);	/* 0; QE_AGAIN */
void conn_ping(struct conn *c);
bool conn_all_acked(const struct conn *c);	/* no stream holds unacknowledged bytes: for linger */

/* Tell by CONN_EV_ALL_ACKED, once, when conn_all_acked has become true. */
void conn_notify_acked(struct conn *c);

enum conn_error_kind {
	CONN_ERR_NONE,
	CONN_ERR_APPLICATION,	/* CONNECTION_CLOSE 0x1d */
	CONN_ERR_TRANSPORT,	/* 0x1c, code below 0x100 or above 0x1ff */
	CONN_ERR_TLS,		/* 0x1c, code 0x100-0x1ff */
	CONN_ERR_IDLE, CONN_ERR_HANDSHAKE_TIMEOUT, CONN_ERR_VERSION, CONN_ERR_STATELESS_RESET,
	CONN_ERR_REFUSED,	/* ICMP, or CONNECTION_REFUSED */
	CONN_ERR_UNREACHABLE,	/* ICMP said so, and the peer did not disprove it */
	CONN_ERR_LOCAL,		/* memory or a system call */
};
struct conn_error {
	enum conn_error_kind kind;
	bool by_peer;
	uint64_t code, frame_type;
	int os_errno;		/* CONN_ERR_REFUSED by ICMP, CONN_ERR_LOCAL */
	char reason[256];	/* NUL-terminated */
};
const struct conn_error *conn_error(const struct conn *c);

struct conn_info {
	bool established, confirmed, is_server;
	uint32_t version;
	struct addr local, remote;
	struct cid odcid, local_cid, remote_cid;
	uint64_t rtt_us, rtt_min_us, rtt_var_us, cwnd, in_flight, pacing_rate;
	uint64_t packets_sent, packets_received, packets_lost, bytes_sent, bytes_received;
	uint64_t streams_open;
	uint32_t mss;
	enum ecn_state ecn;
	uint64_t key_updates;
	const struct tls_info *tls;
};
void conn_info(const struct conn *c, struct conn_info *out);

const struct addr *conn_remote(const struct conn *c);	/* where the peer is now; not every datagram goes there */
void *conn_app(const struct conn *c);		/* the owner's pointer */
void conn_set_app(struct conn *c, void *app);
void *conn_endpoint_data(const struct conn *c);	/* endpoint's */
void conn_set_endpoint_data(struct conn *c, void *p);

#endif
