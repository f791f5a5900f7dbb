/* What the engine-side files of sock/ share: the objects behind the descriptors.
 * All of it belongs to the engine thread.
 *
 *   object.c         registry by cookie, graves
 *   ports.c          UDP ports shared by sockets; takes events in and hands them on
 *   listener.c       delivers established connections into an accept mailbox
 *   connection.c     a connection's descriptor, its streams, and how long it lives
 *   stream.c         a stream's life; stream_drain.c and stream_fill.c move its bytes
 *   lifecycle.c      the engine's start and stop
 *   commands.c       what the calls ask for
 *
 * Who owns whom: a port is counted by its users and outlives them; a connection owns
 * its streams and, until it is drained, its conn. */
#ifndef SOCK_ENGINE_SIDE_H
#define SOCK_ENGINE_SIDE_H

#include <stddef.h>
#include <sys/epoll.h>

#include "sock/sock.h"

RB_HEAD(sock_tree, sock_obj);
RB_HEAD(grave_tree, grave);
TAILQ_HEAD(grave_list, grave);
TAILQ_HEAD(sport_list, sport);
TAILQ_HEAD(sconn_list, sconn);
TAILQ_HEAD(sstream_list, sstream);

#define owner_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

#define WATCH_ENGINE_END (EPOLLIN | EPOLLRDHUP)	/* EPOLLOUT is added only while something waits for room */
#define RETRY_US 5000	/* when the system has no descriptors, buffers or memory for the moment */

enum phase {
	PHASE_RUNNING,
	PHASE_DRAINING,		/* stopping: what was written goes out and is acknowledged */
	PHASE_CLOSING,		/* stopping: the connections were closed, their last packets leave */
};

struct side {			/* engine_data: everything there is */
	struct engine *engine;
	enum phase phase;
	struct sock_tree objs;
	struct grave_tree graves;
	struct grave_list grave_age;	/* oldest first */
	size_t grave_count;
	struct sport_list ports;
	struct sconn_list conns;
	struct sconn_list work;		/* connections with something to do once the batch is over */
	struct blockpool *pool;		/* of stream bytes */
	size_t lent_ends;		/* applications' ends held for streams that wait for credit */
};

/* lifecycle.c: whoever links one of these files gets the engine's hooks with it. NULL: no memory at the start. */
struct side *side_of(const struct engine *e);

/* ---- object.c ------------------------------------------------------------- */

/* -1/EEXIST: the cookie is taken (a caller lied about it). */
int obj_add(struct side *side, struct sock_obj *o, enum sock_kind kind, uint64_t cookie);
void obj_remove(struct side *side, struct sock_obj *o);
struct sock_obj *obj_any(struct side *side, enum sock_kind kind);	/* NULL: none left of that kind */
void graves_clear(struct side *side);

/* Cause of an end in the words of the public face. established: the handshake was complete. RFC 9000 20 */
void error_of_conn(const struct conn_error *ce, bool established, struct qsock_error *out);

/* ---- fresh sockets (commands.c) ---------------------------------------------- */

struct sfresh {
	struct sock_obj obj;
	struct source source;
	struct sport *port;		/* counted; NULL: not bound */
	int domain;
};
void sfresh_free(struct sfresh *f, bool close_end);
/* Give the engine's end over to another object; its events are reported anew. */
int source_move(struct engine *e, struct source *from, struct source *to, void (*ready)(struct source *, uint32_t));
/* Close the engine's end. clean: nothing is left in its queue, the application reads 0 after what was sent to it;
 * otherwise the retained byte makes that ECONNRESET. */
void end_close(struct engine *e, struct source *s, bool clean);

/* ---- ports.c --------------------------------------------------------------- */

#define SPORT_CONFIGS_MAX 16

struct sport {
	TAILQ_ENTRY(sport) link;
	struct side *side;
	struct port *port;
	unsigned users;			/* bound fresh sockets, listeners, connections */
	struct slisten *listener;	/* NULL: nobody listens */
	bool for_clients;		/* the shared port of unbound clients */
	struct sport_config {		/* of listeners: half-open connections use them */
		struct sock_config *cfg;
		struct conn_config server;	/* cfg's, with the reset key of this port */
		uint8_t reset_key[32];
	} configs[SPORT_CONFIGS_MAX];
	unsigned n_configs;
	struct deferred reap;
};
/* The port bound to a, shared within the process; counted. NULL and errno. */
struct sport *sport_bind(struct side *side, const struct addr *a, bool reuse_port);
struct sport *sport_for_clients(struct side *side, int family);
struct sport *sport_get(struct sport *p);
void sport_put(struct sport *p);
/* Keep the configuration of a listener as long as the port. What its connections shall use; NULL/ENOBUFS */
const struct conn_config *sport_keep_config(struct sport *p, struct sock_config *cfg);
void sport_free(struct sport *p);

/* ---- listener.c -------------------------------------------------------------- */

struct slisten {
	struct sock_obj obj;
	struct source source;
	struct sport *port;
	struct sock_config *cfg;	/* kept by the port */
	unsigned backlog, queued;
	struct sconn_list queue;	/* established, no room in the mailbox yet */
	struct timer retry;
};
/* Makes a listener of f, which is gone then. Takes over cfg's reference on success. 0 or -1/errno. */
int slisten_start(struct sfresh *f, struct sock_config *cfg, int backlog);
void slisten_on_established(struct sport *p, struct conn *c);
void slisten_free(struct slisten *l, bool clean);

/* ---- connection.c ------------------------------------------------------------- */

struct sconn {
	struct sock_obj obj;		/* cookie 0: no descriptor made yet (waits in a listener's queue) */
	struct source source;		/* engine's end of the mailbox; fd < 0: none (any more) */
	struct side *side;
	struct sport *port;		/* counted */
	struct conn *conn;		/* never NULL, of port's endpoint */
	struct sock_config *cfg;	/* clients: counted; accepted: NULL */
	char *server_name;
	struct slisten *listener;	/* in whose queue, or NULL */
	int app_end;			/* accepted, not yet delivered; -1 */
	size_t filler;			/* connecting: bytes that keep the application's end blocked */
	bool owes_go;			/* delivered; see pair_go */
	uint32_t linger_ms;		/* what its configuration says */
	bool established, over, drained;
	bool hung_up, gone;		/* the application closed its last copy; and all it sent before was taken */
	bool want_out;
	unsigned tries;			/* over, and no descriptor for what is in arrived */
	struct qsock_error cause;	/* over: of what; obj.error stays empty at a clean end */
	struct sstream_list streams;	/* all that exist */
	struct sstream_list waiting[2];	/* of them: opened here, wait for credit */
	struct sstream_list arrived;	/* of them: opened by the peer, not in the mailbox yet */
	struct sstream_list work;	/* of them: have something to move at the end of the batch */
	uint64_t promised[2];		/* credit published to callers and not yet used */
	bool in_work, credit_news;
	TAILQ_ENTRY(sconn) link, work_link, queue_link;
	struct timer retry;
};
/* For conn that was just established from outside. NULL: no memory. */
struct sconn *sconn_accepted(struct sport *p, struct conn *c);
/* Make the descriptor of an accepted connection: app_end is to be sent. 0 or -1/errno. */
int sconn_make_end(struct sconn *c);
/* cfg's reference is taken on success, f is gone then. */
int sconn_connect(struct sfresh *f, size_t filler, const struct addr *remote, const char *server_name,
		  struct sock_config *cfg);
void sconn_go(struct sconn *c);			/* it was delivered, and app_end is closed */
void sconn_event(struct sconn *c, const struct conn_event *ev);
/* Something is to be done for c at the end of the batch; sconn_work does it for all. */
void sconn_defer(struct sconn *c);
void side_work(struct side *side);
/* c was acted on: packets may have to leave. */
void sconn_touch(struct sconn *c);
/* A stream ended, the application left, ...: is the connection to be closed or freed? May free c. */
void sconn_check(struct sconn *c);
/* The application's descriptor is gone or will never be. */
void sconn_abandon(struct sconn *c);
void side_take_records(struct side *side);	/* what lies in all mailboxes */
/* Everything written was handed over and acknowledged (for the engine's stop). */
bool sconn_delivered(struct sconn *c);
void sconn_free(struct sconn *c);		/* with its streams; the conn is dropped */
void sconn_retry_later(struct sconn *c);
void sstream_retry_later(struct sstream *s);

/* ---- streams ---------------------------------------------------------------------- */

enum half {
	HALF_OPEN,
	HALF_DONE,	/* tx: FIN handed to QUIC. rx: FIN was received and delivered. Or there is no such half */
	HALF_CUT,	/* tx: reset or stopped. rx: the application does not want to read */
	HALF_LOST,	/* rx only: the end has to read as ECONNRESET */
};

/* A stream's memory: two socket buffers (PAIR_BUFFER at most), the receive window, the send buffer. */
struct sstream {
	struct sock_obj obj;		/* cookie 0: no descriptor made yet */
	struct source source;		/* fd < 0: none yet */
	struct sconn *conn;
	struct stream *stream;		/* NULL: waits for credit */
	TAILQ_ENTRY(sstream) link, queue_link, work_link;
	enum half tx, rx;		/* tx: application to peer */
	bool uni;
	bool waits, has_arrived;	/* in conn->waiting, conn->arrived */
	bool in_work;
	bool todo_drain, todo_fill;	/* in_work: why */
	bool stopped;			/* the peer's STOP_SENDING is to be acted upon */
	bool head_sent;			/* the first byte in the engine's queue was forwarded already */
	bool emptied;			/* nothing is left there: who has gone needs no retained byte */
	bool shut;			/* the application writes no more: what is queued is the rest */
	bool gone;			/* and reads no more */
	bool want_out;			/* the pair is full: go on at EPOLLOUT */
	bool retry;			/* no memory for the moment: go on with the connection's retry */
	bool owes_go;			/* delivered; see pair_go */
	int app_end;			/* to be sent, or lent to be widened; -1 */
	bool lent;
	size_t filler;			/* > 0: the application's end is blocked by so much */
};
/* Opened by the application; end and app_end (-1: none) are taken over whatever happens. */
void sstream_open(struct sconn *c, int end, int app_end, uint64_t cookie, bool uni, size_t filler);
/* Go on with one that waited for credit. false: there is still none. */
bool sstream_start(struct sstream *s);
void sstream_arrived(struct sconn *c, struct stream *st);	/* opened by the peer */
/* Send it to the application. 0; -1/errno: later. */
int sstream_deliver(struct sstream *s);
void sstream_refuse(struct sstream *s);		/* it was not delivered and will not be */
void sstream_event(struct sstream *s, uint8_t events);
void sstream_work(struct sstream *s);		/* what the events of the batch left to do; may free s */
void sstream_lost(struct sstream *s);		/* the connection is over; may free s */
void sstream_stop(struct sstream *s);		/* the engine stops: forward what was written, then FIN */
int sstream_reset(struct sstream *s, uint64_t code);
int sstream_stop_sending(struct sstream *s, uint64_t code);
uint64_t sstream_queued(const struct sstream *s);	/* written and not yet taken from the pair */
void sstream_free(struct sstream *s, bool clean);
/* Stop reading from QUIC for good, telling the peer with code. */
void sstream_cut_rx(struct sstream *s, uint64_t code);

void sstream_drain(struct sstream *s);		/* stream_drain.c: pair to QUIC */
void sstream_discard(struct sstream *s);	/* drop what is queued but one byte */
void sstream_fill(struct sstream *s);		/* stream_fill.c: QUIC to pair */

#endif
