/* Applications for simulated hosts: open streams, write a pattern that depends on stream and offset only, check what
 * arrives byte for byte, echo, reset, and keep a record of every event. One simapp per host, one simconn per
 * connection, one simstream per stream of it. */
#ifndef TESTS_SIMAPP_H
#define TESTS_SIMAPP_H

#include "support/simnet.h"

#define SIM_LOG 256	/* events remembered per connection */

enum simserve {		/* what is done with streams that the peer opens */
	SIM_ECHO,	/* bidirectional: send back what comes, then FIN; unidirectional: check and count */
	SIM_REPLY,	/* bidirectional: read to the end, meanwhile write reply_bytes of pattern and FIN */
	SIM_IGNORE,	/* neither read nor write: flow control must hold the peer */
	SIM_REFUSE,	/* STOP_SENDING and RESET_STREAM with refuse_code at once */
};

struct simstream {
	struct simconn *sc;
	struct stream *s;		/* NULL once released */
	uint64_t id;
	bool ours, echo, paused;
	uint64_t to_write;		/* bytes of pattern in all, for an echo: as far as they came */
	uint64_t written, got;		/* bytes */
	bool want_fin, finished;	/* FIN after to_write; done so */
	bool aborted;			/* we reset our half */
	int end;			/* 0 open, 1 FIN seen, -1 reset seen */
	uint64_t reset_code;		/* the peer's, end == -1 */
	bool stopped;
	uint64_t stop_code;		/* the peer's STOP_SENDING */
	bool sent_all;			/* STREAM_EV_SENT_ALL came */
	bool done;			/* both halves have come to an end; released */
	TAILQ_ENTRY(simstream) link;
};
TAILQ_HEAD(simstream_list, simstream);

struct simconn {
	struct simapp *app;
	struct conn *c;			/* NULL once dropped */
	bool accepted, established, confirmed, closed, drained;
	struct conn_error error;	/* once closed */
	struct conn_info info;		/* as it was when established, and again when closed */
	struct tls_info tls;
	uint64_t established_at_us, closed_at_us, drained_at_us;
	struct simstream_list streams;
	size_t opened, peer_opened, done;	/* streams: by us, by the peer, finished of both */
	uint64_t got, written;			/* bytes of all streams */
	/* streams still to be opened, when the peer's limits allow */
	struct { size_t count; uint64_t bytes; } todo[2];	/* by DIR_ */
	uint8_t *session, *token;	/* the last ones that came */
	size_t session_len, token_len, sessions, tokens;
	enum conn_event_type log[SIM_LOG];
	size_t log_len;			/* may pass SIM_LOG; only the first are kept */
	TAILQ_ENTRY(simconn) link;
};
TAILQ_HEAD(simconn_list, simconn);

struct simapp {
	struct simhost *host;
	enum simserve serve;
	uint64_t reply_bytes, refuse_code;
	bool announce;			/* make a new stream of ours visible before its data */
	struct simconn_list conns;
	size_t accepted;
};

/* Become the application of a new host. ep NULL is not possible here: raw hosts need no application. */
void simapp_init(struct simapp *a, struct simnet *n, const char *name, bool ipv6, const struct endpoint_config *ep);
void simapp_fini(struct simapp *a);	/* after simnet_free or before: touches no connection */

/* NULL: no memory. */
struct simconn *simapp_connect(struct simapp *a, const struct conn_config *cfg, const struct simapp *server,
			       const char *server_name, const struct simconn *resume);
/* The host crashes and starts anew, listening with cfg (NULL: not): see simhost_restart. */
void simapp_crash(struct simapp *a, const struct endpoint_config *ep, const struct conn_config *cfg);
static inline struct simconn *simapp_first(struct simapp *a) { return TAILQ_FIRST(&a->conns); }
static inline struct simconn *simapp_last(struct simapp *a) { return TAILQ_LAST(&a->conns, simconn_list); }

/* Open count streams, now or when limits allow, and write bytes of pattern and FIN on each. */
void simconn_send(struct simconn *sc, int dir, size_t count, uint64_t bytes);
/* One stream at once; NULL when limits forbid, memory is short or the connection is over. It is written and not
 * finished until to_write and want_fin say so; call simstream_pump after changing them. */
struct simstream *simconn_open(struct simconn *sc, int dir);
void simstream_pump(struct simstream *ss);
void simstream_resume(struct simstream *ss);		/* stop ignoring what comes */
void simstream_reset(struct simstream *ss, uint64_t code);
void simstream_stop(struct simstream *ss, uint64_t code);
void simconn_close(struct simconn *sc, uint64_t code, const char *reason);
/* After any conn_ call of the test's own. */
void simconn_touch(struct simconn *sc);
/* How often an event came (among the first SIM_LOG). */
size_t simconn_count(const struct simconn *sc, enum conn_event_type type);
struct simstream *simconn_stream(struct simconn *sc, uint64_t id);

/* Bytes [off, off + len) of the pattern of a stream. */
void simpattern_fill(uint64_t id, uint64_t off, uint8_t *p, size_t len);
/* Offset of the first wrong byte, or len. */
size_t simpattern_check(uint64_t id, uint64_t off, const uint8_t *p, size_t len);

#endif
