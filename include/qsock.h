/* libqsock: QUIC for everyone who can use a socket.
 *
 * Everything is a plain file descriptor. A connection's descriptor becomes
 * readable when the peer opened a stream, a listener's when a connection can be
 * accepted, a stream's like a TCP socket's: read, write, send, recv, shutdown, close,
 * dup, poll, select, epoll, sendfile, fork and SCM_RIGHTS work on it as ever. The
 * calls below exist only for what sockets never had.
 *
 *     int c = qsock_dial("server.example", "4433", NULL);
 *     int s = qsock_open_stream(c, 0);
 *     write(s, "hello", 5); shutdown(s, SHUT_WR);
 *     while ((n = read(s, buf, sizeof buf)) > 0) ...
 *     close(s); close(c);
 *
 * What a stream's reader sees: a clean end (the peer's FIN) is 0. Every other
 * end (reset, connection lost, timeout, either program killed) is -1/ECONNRESET, after
 * all data that came before it; qsock_error() then tells the cause. The error is
 * reported once by the kernel, as for TCP; read without MSG_WAITALL and leave
 * SO_RCVLOWAT at 1.
 *
 * What a stream's writer sees: the peer's flow control as EAGAIN or a call that
 * blocks; EPIPE (and SIGPIPE, which is worth ignoring) when the peer stopped reading
 * or the connection is gone. What was written before close() is delivered.
 *
 * A background thread, the engine, runs QUIC. It starts with the first socket. exit()
 * counts as close() of everything: what was written is delivered (see qsock_shutdown), and
 * then streams end cleanly, so who gives up half-way says so by qsock_reset first. _exit()
 * and deadly signals are no clean ends; nothing more is delivered then. The memory
 * that one stream may take is bounded by its receive window, send_buffer and about
 * 0.6 MB of socket buffers.
 *
 * Conventions: -1 and errno on failure, as in POSIX. Calls are thread-safe and
 * work on duplicates and inherited copies of a descriptor; where a call needs the engine
 * of the process that made the connection it fails with EOPNOTSUPP in others, which
 * is said there ("process"). Waits are cancellation points and are interrupted by signals
 * as their BSD counterparts. None is for signal handlers, nor is fork() when it may have
 * interrupted one (_Fork is). Every call on a descriptor may fail with EBADF, or with
 * ENOTSOCK if it is none of ours. Sizes are bytes, times are in the unit of the name.
 * "RFC" alone is RFC 9000. */
#ifndef QSOCK_H
#define QSOCK_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define QSOCK_API __attribute__((visibility("default")))
#else
#define QSOCK_API
#endif

#define QSOCK_VERSION "0.1.0"

#ifndef IPPROTO_QUIC
#define IPPROTO_QUIC 261
#endif
#ifndef SOL_QUIC
#define SOL_QUIC 288
#endif

/* ---- configuration ------------------------------------------------------ */

/* Right when zeroed: set what you need, leave the rest 0. Strings are copied by the
 * call that takes the struct. Equal configurations share certificates and CA store in
 * memory; changed files are read anew by the next listen or connect. */
struct qsock_config {
	size_t size;			/* sizeof(struct qsock_config), for ABI growth; 0 is taken as this version's */
	uint32_t flags;			/* QSOCK_CONFIG_* */
	const char *alpn;		/* comma-separated protocol names, preferred first; NULL: "qsock" */

	/* Who we are. */
	const char *cert_file;		/* PEM, the chain, leaf first. Servers with NULL: a self-made key is created
					 * once and kept under $XDG_CONFIG_HOME/libqsock (~/.config/libqsock), for
					 * clients that know its pin; clients: no certificate */
	const char *key_file;		/* PEM; NULL if cert_file is */
	const char *sni_certs;		/* servers: further certificates "name=cert.pem:key.pem,...", chosen by SNI */

	/* Whom we trust (clients; servers with QSOCK_CONFIG_CLIENT_CERT or _OPTIONAL). */
	const char *ca_file;		/* PEM; NULL: the system's store */
	const char *pins;		/* comma-separated SHA-256 of the peer's public key (SPKI), 64 hex digits
					 * each; a match suffices and replaces the checks of CA and name */
	const char *server_name;	/* clients: name to verify and to send as SNI; NULL: the host of qsock_dial, for
					 * qsock_connect the IP address */

	/* Files of ours. */
	const char *session_file;	/* clients: kept between runs for quicker handshakes; made 0600, replaced whole
					 * a moment after a change. NULL: in memory, for this process */
	const char *keylog_file;	/* TLS secrets for debugging; NULL: $SSLKEYLOGFILE if set */

	/* Limits; 0 means the default in brackets. */
	uint32_t idle_timeout_ms;	/* [30000] silence that ends a connection; UINT32_MAX: none. RFC 10.1 */
	uint32_t handshake_timeout_ms;	/* [10000] */
	uint32_t keepalive_ms;		/* [off] send something after so much silence */
	uint32_t linger_ms;		/* [2000] how long the end of the process waits for unacknowledged data */
	uint32_t max_streams_bidi;	/* [100] streams the peer may have open at once. RFC 4.6 */
	uint32_t max_streams_uni;	/* [100] */
	uint32_t stream_window;		/* [512 KiB] receive window of a stream, RFC 4.1, */
	uint32_t stream_window_max;	/* [6 MiB] and to what it may grow */
	uint32_t conn_window;		/* [768 KiB] the same of a connection: */
	uint32_t conn_window_max;	/* [15 MiB] its memory cap for received data */
	uint32_t send_buffer;		/* [4 MiB] most bytes held for one stream until acknowledged. A stream's
					 * memory cap is this, its receive window and two buffers of 416 KiB */
	uint64_t key_update_packets;	/* [near the limit of the cipher] packets between key updates. RFC 9001 6 */
};

#define QSOCK_CONFIG_INSECURE 0x1	/* client: accept any certificate. Nothing else disables verification; EINVAL
					 * together with pins */
#define QSOCK_CONFIG_RETRY 0x2		/* server: validate every address by Retry. RFC 8.1.2 */
#define QSOCK_CONFIG_CLIENT_CERT 0x4	/* server: require a client certificate that ca_file or pins vouch for */
#define QSOCK_CONFIG_NO_ECN 0x8
#define QSOCK_CONFIG_REUSEPORT 0x10	/* SO_REUSEPORT on the UDP socket; to be set before bind */
#define QSOCK_CONFIG_CLIENT_CERT_OPTIONAL 0x20	/* server: ask for a client certificate, verify it if one comes */
#define QSOCK_CONFIG_NO_RESUMPTION 0x40	/* client: every handshake is a full one, nothing is kept of earlier
					 * connections; server: no tickets are given */

/* ---- BSD calls ---------------------------------------------------------- */

/* A socket that can become a listener or a connection. domain AF_INET or AF_INET6, type SOCK_STREAM, optionally with
 * SOCK_NONBLOCK and SOCK_CLOEXEC; protocol 0 or IPPROTO_QUIC. Starts the engine on first use.
 * EAFNOSUPPORT, EPROTOTYPE, EPROTONOSUPPORT, EMFILE, ENFILE, ENOMEM, EAGAIN (no thread). */
QSOCK_API int qsock_socket(int domain, int type, int protocol);

/* As bind(2), on UDP. Sockets of one process bound to the same address share it: a listener and clients.
 * EADDRINUSE, EADDRNOTAVAIL, EACCES, EINVAL (bound, listening or connected already; addrlen), EAFNOSUPPORT, EFAULT,
 * EOPNOTSUPP (process). */
QSOCK_API int qsock_bind(int fd, const struct sockaddr *addr, socklen_t addrlen);

/* Accept connections; unbound sockets get a free port. backlog: connections waiting to be accepted (at least 1, at
 * most 4096 count) beside those that the descriptor itself holds, some 250; more are refused with CONNECTION_REFUSED.
 * Loads certificates. On a listener it does nothing. EINVAL (connected; bad configuration), ENOENT, EACCES (key files),
 * EADDRINUSE, EMFILE, ENOMEM, ENOBUFS (a 17th configuration while the address is still used by connections of earlier
 * ones), EOPNOTSUPP (process).
 * The text of a configuration error is in qsock_error(fd). */
QSOCK_API int qsock_listen(int fd, int backlog);

/* Take the next established connection; blocks unless the listener is O_NONBLOCK (EAGAIN). addr/addrlen as
 * accept(2), may be NULL. The new descriptor is blocking. Works in every process that has the descriptor. EAGAIN,
 * EINTR, EMFILE/ENFILE (nothing is lost), EINVAL (not listening, or no longer), EFAULT, ECONNABORTED (the engine
 * has ended). */
QSOCK_API int qsock_accept(int fd, struct sockaddr *addr, socklen_t *addrlen);
/* flags: SOCK_NONBLOCK, SOCK_CLOEXEC; EINVAL for others. */
QSOCK_API int qsock_accept4(int fd, struct sockaddr *addr, socklen_t *addrlen, int flags);

/* Connect: blocks until the handshake is complete, or fails with EINPROGRESS when O_NONBLOCK: then POLLOUT alone
 * means connected, with POLLERR failed, and qsock_getsockopt(SOL_SOCKET, SO_ERROR) says why. A socket that failed
 * to connect cannot be used again. ECONNREFUSED (ICMP, or refused by the server), ETIMEDOUT, EHOSTUNREACH,
 * ENETUNREACH, EPROTO (TLS or transport error: see qsock_error), EPROTONOSUPPORT (no common version), EISCONN,
 * EALREADY, EINVAL (a listener, one that failed; bad configuration, as qsock_listen), EAFNOSUPPORT, EFAULT, EINTR
 * (goes on in the background), EINPROGRESS (SO_SNDTIMEO is over), EMFILE, ENOMEM, ENOBUFS, ENETDOWN (qsock_shutdown is
 * under way), EOPNOTSUPP (process). */
QSOCK_API int qsock_connect(int fd, const struct sockaddr *addr, socklen_t addrlen);

/* UDP addresses; on a stream those of its connection. EFAULT, EINVAL (addrlen), EOPNOTSUPP (process); ENOTCONN: no
 * peer, or the connection is gone. */
QSOCK_API int qsock_getsockname(int fd, struct sockaddr *addr, socklen_t *addrlen);
QSOCK_API int qsock_getpeername(int fd, struct sockaddr *addr, socklen_t *addrlen);

/* level SOL_QUIC: options below. Level SOL_SOCKET: SO_ERROR is translated (why a connect failed or a connection was
 * lost; told once); SO_SNDBUF and SO_RCVBUF are accepted and change nothing, as the configuration decides (do not lower
 * them by setsockopt(2): poll may report no room any more); everything else goes to the kernel's object. ENOPROTOOPT,
 * EFAULT, EINVAL (val, len; a buffer too small), EISCONN (too late), ENOTCONN, EOPNOTSUPP (process). */
QSOCK_API int qsock_setsockopt(int fd, int level, int name, const void *val, socklen_t len);
QSOCK_API int qsock_getsockopt(int fd, int level, int name, void *val, socklen_t *len);

#define QSOCK_CONFIG 1		/* set: struct qsock_config, before connect or listen; replaces what was set before */
#define QSOCK_ALPN 2		/* set: as config.alpn (string); get: the negotiated protocol (NUL-terminated) */
#define QSOCK_SERVER_NAME 3	/* set: config.server_name; get: the name that the client asked for (SNI), "": none */
#define QSOCK_PIN 4		/* get: listener: own, connection: the peer's, public key's SHA-256 as 64 hex digits and
				 * NUL; ENOENT: the peer showed no certificate, as in a resumed handshake */
#define QSOCK_KEY_UPDATE 5	/* set: len 0: update 1-RTT keys now; EAGAIN when not allowed yet. RFC 9001 6 */
#define QSOCK_STREAM_CREDIT 6	/* get: uint64_t[2]: bidirectional, unidirectional streams that may be opened now */
#define QSOCK_UNSENT 7		/* get: uint64_t: bytes of a stream written and not yet acknowledged (as SIOCOUTQ); its
				 * end (shutdown) counts as one. 0: the peer has it all, even if the stream is over by
				 * now. ENOTCONN: it never will: reset, stopped, or the connection was lost before */

/* ---- streams ------------------------------------------------------------ */

#define QSOCK_UNI 0x1		/* unidirectional: the opener writes, the other side reads. RFC 2.1 */
#define QSOCK_NONBLOCK 0x2	/* the new descriptor is O_NONBLOCK, and opening does not wait */
#define QSOCK_CLOEXEC 0x4

/* Open a stream. At the peer's stream limit the call waits (at most SO_SNDTIMEO of conn: EAGAIN); with
 * QSOCK_NONBLOCK it returns at once and the descriptor polls POLLOUT when the stream exists (writes before give
 * EAGAIN), with POLLERR when it never will: the connection is lost. While a connect is in progress it waits for that;
 * with QSOCK_NONBLOCK EAGAIN, as when the engine has hundreds of requests to look at first. Works in forked children
 * that hold conn. ENOTCONN (not connected, or ended cleanly), ECONNRESET (lost), EMFILE, ENFILE, EINVAL
 * (flags; a stream), EINTR, ENOBUFS, EOPNOTSUPP (a listener). */
QSOCK_API int qsock_open_stream(int conn, int flags);

/* Next stream opened by the peer. flags: QSOCK_NONBLOCK (for the new descriptor), QSOCK_CLOEXEC. Blocks unless conn is
 * O_NONBLOCK. A unidirectional one can only be read (write: EPIPE). Works in forked children that hold conn.
 * ENOTCONN when the connection ended cleanly, ECONNRESET otherwise (told once); EAGAIN, EINTR, EMFILE, ENFILE (nothing
 * is lost; but streams for which the process still has no descriptors a second after the connection ended are given up,
 * and the end is ECONNRESET), EINVAL (flags; a listener, a stream). At the limit close a connection that polls POLLHUP:
 * it has ended. */
QSOCK_API int qsock_accept_stream(int conn, int flags);

/* RESET_STREAM: abandon sending, with an application code (0 to 2^62-1); data not yet acknowledged is dropped. The peer
 * reads ECONNRESET; if it is one of ours its descriptor ends with that, and what it was sending too. Reading goes on,
 * until close or qsock_stop_sending.
 * EINVAL (code; not a stream), EPIPE (nothing to reset any more), EOPNOTSUPP (process). RFC 3.1, 19.4 */
QSOCK_API int qsock_reset(int stream, uint64_t code);
/* STOP_SENDING: ask the peer to stop; its writes fail with EPIPE. What has arrived can still be read; the end, as
 * ECONNRESET, comes with that of our own half. Errors as qsock_reset. RFC 3.5 */
QSOCK_API int qsock_stop_sending(int stream, uint64_t code);
/* The stream's id (RFC 2.1), or -1: EAGAIN while it waits for credit, EINVAL (not a stream, or over: both
 * directions ended and everything acknowledged), EOPNOTSUPP (process). */
QSOCK_API int64_t qsock_stream_id(int stream);

/* ---- connections -------------------------------------------------------- */

/* Close at once with an application code and reason (NULL, or text of which 255 bytes are sent): streams of both sides
 * end with ECONNRESET, data under way is lost. The descriptor stays valid and is to be close()d. A plain close() of all
 * descriptors of a connection and its streams is the gentle way: it delivers first, then closes with code 0.
 * On a listener: stop listening. EINVAL (code; a stream), ENOTCONN, EOPNOTSUPP (process). RFC 10.2 */
QSOCK_API int qsock_close(int conn, uint64_t code, const char *reason);

enum qsock_error_kind {
	QSOCK_ERR_NONE,
	QSOCK_ERR_APPLICATION,		/* closed by qsock_close of either side: code, reason */
	QSOCK_ERR_TRANSPORT,		/* RFC 20.1: code, frame_type, reason */
	QSOCK_ERR_TLS,			/* code 0x100 + alert, reason. RFC 9001 4.8 */
	QSOCK_ERR_STREAM_RESET,		/* RESET_STREAM: code */
	QSOCK_ERR_STOP_SENDING,		/* STOP_SENDING: code */
	QSOCK_ERR_IDLE_TIMEOUT,
	QSOCK_ERR_HANDSHAKE_TIMEOUT,
	QSOCK_ERR_VERSION,		/* no common version. RFC 6 */
	QSOCK_ERR_STATELESS_RESET,	/* the peer lost its state. RFC 10.3 */
	QSOCK_ERR_REFUSED,		/* ICMP or CONNECTION_REFUSED */
	QSOCK_ERR_UNREACHABLE,		/* ICMP said the peer is gone, and it did not prove the contrary */
	QSOCK_ERR_CONFIG,		/* reason: what is wrong with certificate, key, ALPN... */
	QSOCK_ERR_LOCAL			/* memory or a system call: os_errno */
};

struct qsock_error {
	enum qsock_error_kind kind;
	int by_peer;			/* 1: the other side, 0: this one */
	int os_errno;			/* what a BSD call would have said: ECONNRESET, ETIMEDOUT... */
	uint64_t code, frame_type;
	char reason[256];		/* UTF-8 as sent, cut, NUL-terminated */
};

/* Why a stream, connection or listener failed; kind NONE if it did not. Works after the descriptor reported its
 * error, until it is closed (the causes of the last 4096 that died are kept). fd -1: why qsock_dial or qsock_serve
 * last failed in the calling thread. EINVAL (err is NULL), EOPNOTSUPP (process). */
QSOCK_API int qsock_error(int fd, struct qsock_error *err);
/* One line of text for people, cut to size, in buf; returns buf ("" when size is 0). */
QSOCK_API const char *qsock_strerror(const struct qsock_error *err, char *buf, size_t size);

struct qsock_info {
	size_t size;			/* in: sizeof(struct qsock_info); out: what this version knows of it */
	uint32_t version;		/* QUIC version */
	uint32_t mtu;			/* UDP payload bytes */
	uint32_t rtt_us, rtt_min_us, rtt_var_us;
	uint64_t cwnd, bytes_in_flight, pacing_rate;	/* bytes; bytes/s */
	uint64_t packets_sent, packets_received, packets_lost, bytes_sent, bytes_received;
	uint64_t streams_open, key_updates;
	uint16_t cipher_suite;		/* TLS id, e.g. 0x1301 */
	uint8_t is_server, established, confirmed, resumed, ecn_capable;
	char alpn[256], server_name[256];
};
/* Of a connection or the connection of a stream. ENOTCONN, EINVAL (NULL, size), EOPNOTSUPP (process). */
QSOCK_API int qsock_info(int fd, struct qsock_info *info);

/* ---- one-liners --------------------------------------------------------- */

/* Resolve host (a name or an IP literal) and service, try each address in turn until one answers, verify host. cfg
 * may be NULL. Returns a connection. Blocks. Errors as qsock_socket and qsock_connect, with text in
 * qsock_error(-1); a name that does not resolve is EHOSTUNREACH with the resolver's words, a service EINVAL. After
 * EINTR nothing goes on. */
QSOCK_API int qsock_dial(const char *host, const char *service, const struct qsock_config *cfg);
/* A listener on host (NULL: every address, both families where the system allows) and service (port number or name;
 * "0": any). Errors as qsock_bind and qsock_listen, with text in qsock_error(-1). */
QSOCK_API int qsock_serve(const char *host, const char *service, const struct qsock_config *cfg);

/* Deliver everything written so far and wait until it is acknowledged, close all connections gently and end the engine;
 * at most linger_ms. exit() does this by itself, with the longest linger_ms of its connections. Descriptors left read
 * ECONNRESET. 0; -1 and ETIMEDOUT: not everything was acknowledged in time; the peers that lack something
 * were told so and see no clean end. Connections that were lost before do not count. */
QSOCK_API int qsock_shutdown(uint32_t linger_ms);

#ifdef __cplusplus
}
#endif
#endif
