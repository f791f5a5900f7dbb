/* What the engine-side files of sock/ share: the objects behind the descriptors.
 * All of it belongs to the engine thread.
 *
 *   object.c         registry by cookie, graves
 *   ports.c          UDP ports shared by sockets; takes events in and hands them on
 *   listener.c       delivers established connections into an accept mailbox
 *   connection.c     a connection's descriptor, its streams, and how long it lives
 *   pool.c           connections without a descriptor, whose streams are what sockets connect to
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
	unsigned udp_flags;		/* UDP_* wanted for its port */
	bool abort_on_close;		/* as the stream it may become */
};
void sfresh_free(struct sfresh *f, bool close_end);
/* A fresh socket of an end that was something else, on port. 0, or -1: from is as it was. */
int sfresh_revert(struct side *side, struct source *from, uint64_t cookie, struct sport *port,
		  const struct qsock_error *why);
/* Close the engine's end. clean: nothing is left in its queue, the application reads 0 after what was sent to it;
 * otherwise the retained byte makes that ECONNRESET. */
void end_close(struct engine *e, struct source *s, bool clean);

/* ---- ports.c --------------------------------------------------------------- */

#define SPORT_CONFIGS_MAX 16
#define SPORT_OWN 0x100

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
/* NULL: nobody in this process has it. Not counted. */
struct sport *sport_find(struct side *side, const struct addr *a);
/* The port bound to a, shared within the process but with SPORT_OWN; counted. flags: and UDP_*. NULL and errno. */
struct sport *sport_bind(struct side *side, const struct addr *a, unsigned flags);
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
	bool streams;			/* each stream of its connections is a record, not each connection */
	unsigned backlog, queued;
	struct sconn_list queue;	/* established, no room in the mailbox yet */
	struct timer retry;
};
/* Makes a listener of f, which is gone then. Takes over cfg's reference on success. 0 or -1/errno. */
int slisten_start(struct sfresh *f, struct sock_config *cfg, int backlog, bool streams);
/* The mailbox is full: deliver_arrived is to be tried again when it has room. */
void slisten_wait_room(struct slisten *l);
void slisten_on_established(struct sport *p, struct conn *c);
void slisten_free(struct slisten *l, bool clean);
/* The application shut its end for reading: what waits is refused, l is gone. */
void slisten_shut(struct slisten *l);

/* ---- connection.c ------------------------------------------------------------- */

struct sconn {
	struct sock_obj obj;		/* cookie 0: no descriptor made yet (waits in a listener's queue) */
	struct source source;		/* engine's end of the mailbox; fd < 0: none (any more) */
	struct side *side;
	struct sport *port;		/* counted */
	struct conn *conn;		/* never NULL, of port's endpoint */
	struct sock_config *cfg;	/* clients: counted; accepted: NULL */
	char *server_name;
	struct addr local, remote;	/* pooled: as told to the application */
	struct slisten *listener;	/* in whose queue, or NULL */
	int app_end;			/* accepted, not yet delivered; -1 */
	size_t filler;			/* connecting: bytes that keep the application's end blocked */
	bool owes_go;			/* delivered; see pair_go */
	uint32_t linger_ms;		/* what its configuration says */
	bool pooled;			/* never has a descriptor: its streams are the sockets (pool.c) */
	struct slisten *acceptor;	/* pooled: gets the streams of the peer; NULL: they are refused */
	bool retiring;			/* pooled: takes no further streams */
	struct timer linger;		/* pooled: no streams for so long */
	struct timer probe;		/* pooled: an answer is due */
	uint64_t probe_seen;		/* packets received when the wait for it began */
	bool suspect;			/* pooled: none came, another connection is tried */
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
/* As sconn_connect, for a connection without a descriptor; takes a reference of cfg of its own. NULL: no memory. */
struct sconn *sconn_dial(struct sport *p, const struct addr *remote, const char *server_name, struct sock_config *cfg);
/* Close when the peer has everything. */
void sconn_close_gently(struct sconn *c);
void sconn_event(struct sconn *c, const struct conn_event *ev);
/* Something is to be done for c at the end of the batch; side_work does it for all. */
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

/* ---- pool.c --------------------------------------------------------------------- */

/* Connect f, which is gone on success: 0 at once, 1 when there is room, seen on the descriptor. -1/errno */
int pool_connect(struct sfresh *f, int app_fd, const struct addr *remote, const char *name, struct sock_config *cfg,
		 bool revert);
/* c, accepted from outside, belongs to l's clients. */
void pool_accepted(struct sconn *c, struct slisten *l);
void pool_adopt(struct slisten *l);	/* connections of its port that an earlier listener left */
void pool_forget_acceptor(struct side *side, struct slisten *l);	/* l goes */
bool pool_established(struct sconn *c);		/* false: not to be trusted; it was closed */
void pool_closed(struct sconn *c);		/* before its streams hear of it */
void pool_started(struct sconn *c);		/* established, and trusted */
bool pool_keeps(const struct sstream *s);	/* its connection is over, but it may go over to another */
uint64_t pool_received(const struct sconn *c);	/* packets */
void pool_work(struct sconn *c);		/* there may be credit */
void pool_check(struct sconn *c);		/* how long it stays */

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
	bool revert;			/* a connect that fails leaves a fresh socket */
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
	int app_end;			/* made here, not yet delivered; -1 */
	size_t filler;			/* > 0: the application's end is blocked by so much */
	uint64_t seen;			/* pooled: packets received when it was opened */
	bool parted;			/* pooled: both are through, the connection is over; the next write fails */
	bool deaf;			/* pooled: the application shut its reading half, which TCP does not tell */
	bool abort_on_close;		/* closing is a reset (SO_LINGER of 0 s) */
	bool aborted;			/* it was closed with bytes unread: a reset follows the data, as with TCP */
};
/* Opened by the application; end is taken over whatever happens. filler: pair_block's; 0: credit was taken for it. */
void sstream_open(struct sconn *c, int end, uint64_t cookie, bool uni, size_t filler);
/* f becomes a stream of the pooled c; filler: by which its end is blocked until then; 0: it can start now. revert: a
 * failure makes it a fresh socket again. 0 or -1/errno, f unchanged. */
int sstream_connect(struct sconn *c, struct sfresh *f, size_t filler, bool revert);
/* One that waits goes to another connection. */
void sstream_requeue(struct sstream *s, struct sconn *to);
/* s, of which the server knows nothing, is opened again there with all that was written. false: not possible. */
bool sstream_transfer(struct sstream *s, struct sconn *to);
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
/* Bytes written and not acknowledged yet, wherever they are; the end counts as one. */
uint64_t sstream_unsent(const struct sstream *s);
void sstream_free(struct sstream *s, bool clean);
/* Stop reading from QUIC for good, telling the peer with code. */
void sstream_cut_rx(struct sstream *s, uint64_t code);

void sstream_drain(struct sstream *s);		/* stream_drain.c: pair to QUIC */
void sstream_discard(struct sstream *s);	/* drop what is queued but one byte */
void sstream_fill(struct sstream *s);		/* stream_fill.c: QUIC to pair */

#endif
