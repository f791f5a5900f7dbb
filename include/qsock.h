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
 * reported once by the kernel, as for TCP; read without MSG_WAITALL and leave SO_RCVLOWAT at 1.
 *
 * Conventions: -1 and errno on failure, as in POSIX. Calls are thread-safe and
 * work on duplicates and inherited copies of a descriptor; where a call needs the engine
 * of the process that made the connection it fails with EOPNOTSUPP in others, which
 * is said there. Sizes are bytes, times are in the unit of the name. "RFC" alone is RFC 9000. */
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

/* Right when zeroed: set what you need, leave the rest 0. Strings and arrays are
 * copied by the call that takes the struct. size: sizeof(struct qsock_config), for ABI growth;
 * 0 is taken as this version's. */
struct qsock_config {
	size_t size;
	uint32_t flags;			/* QSOCK_CONFIG_* */
	const char *alpn;		/* comma-separated protocol names, preferred first; NULL: "qsock" */

	/* who we are */
	const char *cert_file, *key_file;	/* PEM; servers without: a self-made key is created once and kept under
						 * $XDG_CONFIG_HOME/libqsock (~/.config/libqsock); clients: optional client certificate */
	const char *sni_certs;		/* servers: further certificates "name=cert.pem:key.pem,...", chosen by SNI */

	/* whom we trust (clients; servers with QSOCK_CONFIG_CLIENT_CERT) */
	const char *ca_file;		/* PEM; NULL: the system's store */
	const char *pins;		/* comma-separated SHA-256 of the peer's public key (SPKI), 64 hex digits each; a match is
					 * sufficient and replaces the checks of CA and name */
	const char *server_name;	/* name to verify and to send as SNI; NULL: the host of qsock_dial, none for qsock_connect
					 * (which then verifies the IP address) */

	/* resumption */
	const char *session_file;	/* clients: kept between runs for quicker handshakes; created 0600 */
	const char *keylog_file;	/* TLS secrets for debugging; NULL: $SSLKEYLOGFILE if set */

	/* limits; 0 means the default in brackets */
	uint32_t idle_timeout_ms;	/* [30000] silence that ends a connection; UINT32_MAX: none. RFC 10.1 */
	uint32_t handshake_timeout_ms;	/* [10000] */
	uint32_t keepalive_ms;		/* [off] send something after so much silence */
	uint32_t linger_ms;		/* [2000] how long exit() and the end of the process wait for unacknowledged data */
	uint32_t max_streams_bidi;	/* [100] streams the peer may have open at once. RFC 4.6 */
	uint32_t max_streams_uni;	/* [100] */
	uint32_t stream_window, stream_window_max;	/* [512 KiB, 6 MiB] receive window of a stream, and to what it may grow. RFC 4.1 */
	uint32_t conn_window, conn_window_max;		/* [768 KiB, 15 MiB] of a connection: its memory cap for received data */
	uint32_t send_buffer;		/* [4 MiB] most bytes held for one stream until acknowledged. A stream's memory cap is this,
					 * its receive window and two socket buffers of 416 KiB */
	uint64_t key_update_packets;	/* [near the limit of the cipher] packets between key updates. RFC 9001 6 */
};

#define QSOCK_CONFIG_INSECURE 0x1	/* client: accept any certificate of any server. Nothing else disables verification */
#define QSOCK_CONFIG_RETRY 0x2		/* server: validate every address by Retry. RFC 8.1.2 */
#define QSOCK_CONFIG_CLIENT_CERT 0x4	/* server: require a client certificate that ca_file vouches for */
#define QSOCK_CONFIG_NO_ECN 0x8
#define QSOCK_CONFIG_REUSEPORT 0x10	/* SO_REUSEPORT on the UDP socket */
#define QSOCK_CONFIG_CLIENT_CERT_OPTIONAL 0x20

/* ---- BSD calls ---------------------------------------------------------- */

/* A socket that can become a listener or a connection. domain AF_INET or AF_INET6, type SOCK_STREAM, optionally
 * with SOCK_NONBLOCK and SOCK_CLOEXEC; protocol 0 or IPPROTO_QUIC. Starts the engine on first use.
 * EAFNOSUPPORT, EPROTOTYPE, EPROTONOSUPPORT, EMFILE, ENFILE, ENOMEM, EAGAIN (no thread). */
QSOCK_API int qsock_socket(int domain, int type, int protocol);

/* As bind(2), on UDP. EADDRINUSE, EADDRNOTAVAIL, EACCES, EINVAL (bound or connected already; addrlen), EAFNOSUPPORT,
 * ENOTSOCK (no descriptor of ours), EBADF. */
QSOCK_API int qsock_bind(int fd, const struct sockaddr *addr, socklen_t addrlen);

/* Accept connections; unbound sockets get a free port. backlog: connections waiting to be accepted (capped at 4096, at
 * least 1); more are refused with CONNECTION_REFUSED. Loads certificates. EINVAL (connected; bad configuration), ENOENT, EACCES (key files), EADDRINUSE.
 * The text of a configuration error is in qsock_error(fd). */
QSOCK_API int qsock_listen(int fd, int backlog);

/* Take the next established connection; blocks unless the listener is O_NONBLOCK (EAGAIN). addr/addrlen as accept(2), may be
 * NULL. The new descriptor is blocking. Works in every process that has the descriptor. EAGAIN, EINTR, EMFILE/ENFILE (nothing is
 * lost), EINVAL (not listening), ENOTSOCK, EBADF; ECONNABORTED when the engine has ended. */
QSOCK_API int qsock_accept(int fd, struct sockaddr *addr, socklen_t *addrlen);
/* flags: SOCK_NONBLOCK, SOCK_CLOEXEC */
QSOCK_API int qsock_accept4(int fd, struct sockaddr *addr, socklen_t *addrlen, int flags);

/* Connect: blocks until the handshake is complete, or fails with EINPROGRESS when O_NONBLOCK: then POLLOUT means
 * connected, POLLERR/POLLHUP failed, and qsock_getsockopt(SOL_SOCKET, SO_ERROR) says why. ECONNREFUSED (ICMP, or refused by the server), ETIMEDOUT, EHOSTUNREACH,
 * ENETUNREACH, EPROTO (TLS or transport error: see qsock_error), EISCONN, EALREADY, EINVAL, EAFNOSUPPORT, EINTR (goes on in the background). */
QSOCK_API int qsock_connect(int fd, const struct sockaddr *addr, socklen_t addrlen);

/* UDP addresses. On a stream those of its connection. getpeername: ENOTCONN before. Calls work on listeners, connections and streams.
 * EOPNOTSUPP in a process that did not make or accept it. */
QSOCK_API int qsock_getsockname(int fd, struct sockaddr *addr, socklen_t *addrlen);
QSOCK_API int qsock_getpeername(int fd, struct sockaddr *addr, socklen_t *addrlen);

/* level SOL_QUIC: options below. level SOL_SOCKET: SO_ERROR is translated (pending error of a connect, a lost
 * connection); everything else goes to the kernel object. ENOPROTOOPT, EINVAL, EISCONN (too late), EBADF. */
QSOCK_API int qsock_setsockopt(int fd, int level, int name, const void *val, socklen_t len);
QSOCK_API int qsock_getsockopt(int fd, int level, int name, void *val, socklen_t *len);

#define QSOCK_CONFIG 1		/* set: struct qsock_config, before connect or listen */
#define QSOCK_ALPN 2		/* set: as config.alpn (string); get: the negotiated protocol (string, NUL-terminated) */
#define QSOCK_SERVER_NAME 3	/* set: config.server_name; get: the SNI */
#define QSOCK_PIN 4		/* get: listener: own, connection: the peer's, public key SHA-256 as 64 hex digits and NUL */
#define QSOCK_KEY_UPDATE 5	/* set: len 0: update 1-RTT keys now; EAGAIN when not allowed yet. RFC 9001 6 */
#define QSOCK_STREAM_CREDIT 6	/* get: uint64_t[2]: bidirectional, unidirectional streams that may be opened now */
#define QSOCK_UNSENT 7		/* get: uint64_t: bytes of a stream written and not yet acknowledged (as SIOCOUTQ) */

/* ---- streams ------------------------------------------------------------ */

#define QSOCK_UNI 0x1		/* unidirectional: the opener writes, the other side reads. RFC 2.1 */
#define QSOCK_NONBLOCK 0x2	/* the new descriptor is O_NONBLOCK, and opening does not wait for credit */
#define QSOCK_CLOEXEC 0x4

/* Open a stream. At the peer's stream limit the call waits; with QSOCK_NONBLOCK it returns at once and the descriptor
 * polls POLLOUT when the stream exists (writes before give EAGAIN). Works in forked children that hold conn. ENOTCONN (not
 * connected, or gone), ECONNRESET, EMFILE, ENFILE, EINVAL (flags), EINTR, ENOBUFS, EOPNOTSUPP (a listener), ENOTSOCK, EBADF. */
QSOCK_API int qsock_open_stream(int conn, int flags);

/* Next stream opened by the peer. flags: QSOCK_NONBLOCK (for the new descriptor), QSOCK_CLOEXEC. Blocks unless conn is O_NONBLOCK. A unidirectional
 * one can only be read (write: EPIPE). ENOTCONN when the connection ended cleanly, ECONNRESET otherwise; EAGAIN, EINTR, EMFILE, ENFILE (nothing is lost),
 * EINVAL, ENOTSOCK, EBADF. */
QSOCK_API int qsock_accept_stream(int conn, int flags);

/* RESET_STREAM: abandon sending, with an application code (0 to 2^62-1); data not yet acknowledged is dropped. The peer reads ECONNRESET.
 * EINVAL (code; a connection's descriptor), EPIPE (nothing to reset any more), EOPNOTSUPP (process), EBADF. RFC 3.1, 19.4 */
QSOCK_API int qsock_reset(int stream, uint64_t code);
/* STOP_SENDING: ask the peer to stop; its writes fail with EPIPE. Errors as qsock_reset. RFC 3.5 */
QSOCK_API int qsock_stop_sending(int stream, uint64_t code);
/* The stream's id (RFC 2.1), or -1: EAGAIN while it waits for credit, EINVAL, EOPNOTSUPP, EBADF. */
QSOCK_API int64_t qsock_stream_id(int stream);

/* ---- connections -------------------------------------------------------- */

/* Close at once with an application code and reason (NULL or up to 255 bytes): streams of both sides end with ECONNRESET, data under way is lost.
 * The descriptor stays valid and is to be close()d. A plain close() of all descriptors of a connection and its streams is the gentle way: it delivers
 * first, then closes with code 0. On a listener: stop listening. EINVAL (code >= 2^62), ENOTCONN, EOPNOTSUPP, EBADF. RFC 10.2 */
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
	QSOCK_ERR_CONFIG,		/* reason: what is wrong with certificate, key, ALPN... */
	QSOCK_ERR_LOCAL,		/* memory or a system call: os_errno */
};

struct qsock_error {
	enum qsock_error_kind kind;
	int by_peer;			/* 1: the other side, 0: this one */
	int os_errno;			/* what a BSD call would have said: ECONNRESET, ETIMEDOUT... */
	uint64_t code, frame_type;
	char reason[256];		/* UTF-8 as sent, cut, NUL-terminated */
};

/* Why a stream, connection or listener failed; kind NONE if it did not. Works after the descriptor reported its error, until it is closed (the causes of
 * the last 4096 dead streams are kept). fd -1: the calling thread's last failed qsock_ call that returned no descriptor (dial, serve). err may not
 * be NULL. EINVAL, EOPNOTSUPP (process), EBADF. */
QSOCK_API int qsock_error(int fd, struct qsock_error *err);
/* One line of text for people, in buf; returns buf. */
QSOCK_API const char *qsock_strerror(const struct qsock_error *err, char *buf, size_t size);

struct qsock_info {
	size_t size;			/* in: sizeof(struct qsock_info) */
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
/* Of a connection or the connection of a stream. ENOTCONN, EINVAL (size), EOPNOTSUPP, EBADF. */
QSOCK_API int qsock_info(int fd, struct qsock_info *info);

/* ---- one-liners --------------------------------------------------------- */

/* Resolve host (a name or an IP literal) and service, connect to the first address that answers, verify host. cfg may be NULL. Returns a connection. Errors as qsock_connect;
 * a name that does not resolve is EHOSTUNREACH with the resolver's words in qsock_error(-1). Blocks. */
QSOCK_API int qsock_dial(const char *host, const char *service, const struct qsock_config *cfg);
/* A listener on host (NULL: every address, both families where the system allows) and service (port number or name; "0": any). */
QSOCK_API int qsock_serve(const char *host, const char *service, const struct qsock_config *cfg);

/* Deliver and acknowledge everything written so far, close all connections gently and end the engine; at most
 * linger_ms. exit() does this by itself. Descriptors left over read ECONNRESET. */
QSOCK_API void qsock_shutdown(uint32_t linger_ms);

#ifdef __cplusplus
}
#endif
#endif
