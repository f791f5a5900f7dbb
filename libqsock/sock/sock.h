/* sock/: what the descriptors are. Two sides meet here:
 *
 *   api_*.c, config.c, resolve.c   run on the caller's thread: check arguments, make
 *                                  socketpairs, load files, talk to the engine
 *                                  by engine_call or by a record on a mailbox;
 *   object.c, listener.c, connection.c, pool.c, stream.c, pair.c, mailbox.c, ports.c
 *                                  run on the engine thread and own its ends.
 *
 * An object is found by the socket cookie (SO_COOKIE) of the application's end,
 * which dup, fork and SCM_RIGHTS do not change. This header holds what the two
 * sides share; nobody outside sock/ and preload/ includes it. */
#ifndef SOCK_SOCK_H
#define SOCK_SOCK_H

#include <bsd/sys/tree.h>

#include "io/engine.h"
#include "io/port.h"
#include "qsock.h"

/* ---- configuration (config.c; caller's thread) --------------------------- */

/* A checked, loaded, immutable qsock_config. Reference counted, thread-safe. Equal configurations give the same
 * object while one is alive or among the last few used, so that certificates and CA stores are read once. */
struct sock_config {
	struct conn_config client, server;	/* .tls is NULL for the role it was not made for */
	struct endpoint_config endpoint;	/* retry and the like; keys are the process's */
	uint8_t reset_secret[32];		/* servers: if possible the same in the next process with this key */
	char *server_name;			/* NULL: none given */
	char *session_file;			/* absolute; NULL: none */
	uint64_t session_id;			/* equal where resumption may be shared, in every run */
	bool reuse_port, no_resumption;
	uint32_t linger_ms;
};
/* cfg may be NULL. NULL and errno on failure, *err filled (QSOCK_ERR_CONFIG and one line). */
struct sock_config *sock_config_get(const struct qsock_config *cfg, bool is_server, struct qsock_error *err);
/* What an endpoint needs before any configuration is known (a socket that is only bound): the process's keys, the
 * same as in every sock_config, and defaults. Thread-safe. */
void sock_endpoint_defaults(struct endpoint_config *out);
struct sock_config *sock_config_ref(struct sock_config *c);
void sock_config_put(struct sock_config *c);
void sock_config_flush(void);			/* forget those that nobody uses; for tests */

/* Resumption (sessions.c; engine thread): the newest session blob and address token for a server, in memory and in
 * session_file if one is configured. Bounded: SESSIONS_MAX servers. key: server name or address, and the
 * configuration. e NULL: files are written at once. */
void sessions_store(struct engine *e, struct sock_config *c, const char *name, const struct addr *remote,
		    const uint8_t *p, size_t len);
void sessions_store_token(struct engine *e, struct sock_config *c, const char *name, const struct addr *remote,
			  const uint8_t *p, size_t len);
/* Borrowed until the next sessions_ call; *len 0 when there is none. A token is used once. */
const uint8_t *sessions_find(struct engine *e, struct sock_config *c, const char *name, const struct addr *remote,
			     size_t *len);
const uint8_t *sessions_take_token(struct engine *e, struct sock_config *c, const char *name, const struct addr *remote,
				   size_t *len);
void sessions_write(void);			/* the engine ends: what is not yet in the files */
void sessions_flush(void);			/* forget what is in memory; for tests, while no engine runs */
#define SESSIONS_MAX 64

/* Tell the engine what to do at its start and stop; before the first engine_call. (lifecycle.c) */
void sock_register(void);

/* ---- objects (engine thread) --------------------------------------------- */

enum sock_kind { SOCK_FRESH, SOCK_LISTENER, SOCK_CONNECTION, SOCK_STREAMOBJ };

struct sock_obj {
	RB_ENTRY(sock_obj) link;
	uint64_t cookie;		/* SO_COOKIE of the application's end */
	enum sock_kind kind;
	struct engine *engine;
	struct qsock_error error;	/* why it failed; kind NONE if it did not */
	struct qsock_config *settings;	/* SOCK_FRESH: what QSOCK_CONFIG and its like set, in one block for mem_free by
					 * whoever frees the object; NULL: nothing */
};
struct sock_obj *sock_find(struct engine *e, uint64_t cookie);
/* An object died while its descriptor may live on: keep the cause for qsock_error and SO_ERROR, and whether the peer
 * had all of a stream. At most 4096, oldest go first. */
void sock_bury(struct engine *e, uint64_t cookie, const struct qsock_error *err, bool delivered);
bool sock_grave_delivered(struct engine *e, uint64_t cookie);
const struct qsock_error *sock_grave(struct engine *e, uint64_t cookie);	/* NULL: unknown */

/* Commands, each the body of an engine_call made by api_*.c: 0 or -1/errno. fds are numbers in the application's
 * table (taken by engine_take_fd); cookies name the application's end. */

/* A new fresh socket: engine_fd is the engine's end of the pair, in which one filler byte waits already. The caller
 * closes its copy after. */
int sock_cmd_socket(struct engine *e, int engine_fd, uint64_t cookie, int domain);
int sock_cmd_bind(struct engine *e, uint64_t cookie, const struct addr *a);
/* Takes over a reference of cfg on success. */
int sock_cmd_listen(struct engine *e, uint64_t cookie, struct sock_config *cfg, int backlog);
/* filler: what pair_block returned for the application's end, which becomes writable when connected. Takes over a
 * reference of cfg on success. The result is seen on the descriptor. */
int sock_cmd_connect(struct engine *e, uint64_t cookie, size_t filler, const struct addr *remote,
		     const char *server_name, struct sock_config *cfg);
/* The same for programs made for TCP, where a socket is one stream of a connection that it shares with others
 * (preload/). listen: accept gives streams. connect: 0 connected, 1 under way as with sock_cmd_connect; a reference of
 * cfg is taken where needed, the caller keeps his own. app_fd: the end's number in the caller's table. revert: on
 * failure the descriptor becomes a writable fresh socket again, with the cause in its error, for a caller who waits and
 * asks; otherwise it ends, as the poller sees. */
int sock_cmd_stream_listen(struct engine *e, uint64_t cookie, struct sock_config *cfg, int backlog);
int sock_cmd_stream_connect(struct engine *e, uint64_t cookie, int app_fd, const struct addr *remote,
			    const char *server_name, struct sock_config *cfg, bool revert);
/* reuse: SO_REUSEADDR */
int sock_cmd_tcp_bind(struct engine *e, uint64_t cookie, const struct addr *a, bool reuse);
enum sock_tcp_option { SOCK_TCP_V6ONLY, SOCK_TCP_REUSEPORT, SOCK_TCP_ABORT };	/* ABORT: close() resets */
int sock_cmd_tcp_option(struct engine *e, uint64_t cookie, enum sock_tcp_option option, bool on);
/* 0 connected, 1 under way, -1/errno: ENOTCONN not begun, EINVAL over, ENOTSOCK unknown. */
int sock_cmd_stream_state(struct engine *e, uint64_t cookie);

/* What preload/ wants to decide and know about these; on the engine thread. Set before the first engine_call. */
struct pool_hooks {
	/* The handshake with a server is complete; may streams start? why: [256] one line if not. */
	bool (*trust)(const struct addr *remote, const char *name, const struct conn_info *info, char *why);
	/* A connect ended: err NULL: well; shared: without a handshake of its own. */
	void (*outcome)(const struct addr *local, const struct addr *remote, const char *name, bool shared,
			const struct qsock_error *err);
};
void pool_set_hooks(const struct pool_hooks *h);
#define POOL_STAY_US UINT64_C(10000000)	/* a connection without streams stays that long for the next one */
#define POOL_CONNS_MAX 16			/* to one server under one configuration */

int sock_cmd_close(struct engine *e, uint64_t cookie, uint64_t code, const char *reason);
int sock_cmd_reset(struct engine *e, uint64_t cookie, uint64_t code);
int sock_cmd_stop_sending(struct engine *e, uint64_t cookie, uint64_t code);
int sock_cmd_stream_id(struct engine *e, uint64_t cookie, int64_t *id);
int sock_cmd_error(struct engine *e, uint64_t cookie, struct qsock_error *out);
int sock_cmd_info(struct engine *e, uint64_t cookie, struct qsock_info *out);
/* remote AF_UNSPEC: none */
int sock_cmd_names(struct engine *e, uint64_t cookie, struct addr *local, struct addr *remote);
int sock_cmd_key_update(struct engine *e, uint64_t cookie);
int sock_cmd_credit(struct engine *e, uint64_t cookie, uint64_t credit[2]);
int sock_cmd_unsent(struct engine *e, uint64_t cookie, uint64_t *bytes);
int sock_cmd_pin(struct engine *e, uint64_t cookie, uint8_t pin[32]);

/* ---- credit seen from the caller's thread (credit.c) --------------------- */

/* May a stream be opened on the connection with this cookie without waiting? Takes one credit if so. Only ever true
 * in the process whose engine has the connection; false means: open it the slow way and let the engine decide.
 * Thread-safe. */
bool credit_take(uint64_t conn_cookie, bool uni);
/* What was taken cannot be used after all: the record could not be sent. Thread-safe. */
void credit_return(uint64_t conn_cookie, bool uni);
/* Engine thread. add: so many more may be opened; false: no memory, none was added. forget: the connection is gone. */
bool credit_add(uint64_t conn_cookie, uint64_t bidi, uint64_t uni);
void credit_forget(uint64_t conn_cookie);

/* ---- mailboxes: the records that travel on listeners and connections ------ */

/* All records have one size; the last byte is padding that the engine leaves in its queue until the next one, so
 * that its unexpected death reads as ECONNRESET (tail-byte retention). A power of two: whole blocks of
 * garbage that somebody writes there leave what follows in step. */
#define RECORD_SIZE 128
enum record_type { RECORD_ACCEPTED = 1, RECORD_STREAM, RECORD_OPEN };
struct record {
	uint8_t type;			/* enum record_type */
	uint8_t flags;			/* RECORD_OPEN: QSOCK_UNI; RECORD_OPEN_SLOW if it is blocked */
	uint8_t reserved[6];
	uint64_t cookie;		/* of the new stream's or connection's application end */
	uint64_t filler;		/* RECORD_OPEN slow: bytes, pair_block's */
	union {
		struct { struct addr peer, local; };	/* RECORD_ACCEPTED */
		int64_t stream_id;	/* RECORD_STREAM */
		uint8_t pad[RECORD_SIZE - 24];
	};
};
_Static_assert(sizeof(struct record) == RECORD_SIZE, "records have one size");
#define RECORD_OPEN_SLOW 0x80

/* One record, with a descriptor or none (-1). send: 0, or -1/errno (EAGAIN full, ETOOMANYREFS). recv: 1; 0 the other
 * end closed; -1/errno: EAGAIN, EINTR, ECONNRESET, EMFILE (tested before, nothing is lost), EPROTO. flags:
 * MSG_DONTWAIT, MSG_CMSG_CLOEXEC. */
int mailbox_send(int fd, const struct record *r, int with, int flags);
int mailbox_recv(int fd, struct record *r, int *with, int flags);
/* The engine's side of recv, keeping the last byte queued. 1; 0: something was taken that is no record, or had more
 * descriptors than fit; -1/errno, nothing taken: EAGAIN none there, EPROTO less than a record there, ENOMEM. The caller
 * has made sure of a free descriptor. more: another was there already; one that comes later makes a new edge. */
int mailbox_recv_retaining(int fd, struct record *r, int *with, bool *more);

/* ---- pairs (pair.c) -------------------------------------------------------- */

/* Socket buffer of the application's end, bytes: part of a stream's memory cap. The retained byte keeps the whole
 * piece it was written in accounted for, 64 KB and overhead after sendfile, and poll reports room below a quarter
 * of this. */
#define PAIR_BUFFER (416 * 1024)

/* A socketpair(AF_UNIX, SOCK_STREAM): [0] application's end, [1] engine's, one filler byte queued in [1]. *cookie
 * of [0]. 0 or -1/errno. */
int pair_make(int fd[2], int flags, uint64_t *cookie);
/* Can fd be the end of a pair? A stream socket of AF_UNIX. */
bool pair_like(int fd);
/* Make the application's end unwritable, for poll and for send, until pair_unblock of the filler on the other end. For
 * that nobody has to hold this one, so its close is seen at once. buffer: PAIR_BUFFER; or BLOCK_MAILBOX for a
 * connection, which is cheaper, and whose caller widens it when he has waited for it. Returns filler bytes queued (> 0)
 * or -1/errno. */
#define BLOCK_MAILBOX 32768
ssize_t pair_block(int app_fd, int buffer);
int pair_widen(int app_fd);
int pair_unblock(int engine_fd, size_t filler);
/* A descriptor sent in a record must not be used before the engine has closed its own copy: while that is open,
 * close does not take it out of epoll sets, and an event for it would come after the application forgot it. So the
 * engine sends one byte afterwards, before everything else, and who received the record takes it. 0 or -1/errno. */
int pair_go(int engine_fd);
int pair_await_go(int app_fd);

#endif
