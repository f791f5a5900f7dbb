/* What the files of preload/ share: hooks.c stands in front of the C library and calls
 * these for sockets that are ours; everything else goes on to the kernel. All follow the
 * calls they stand for: -1 and errno. */
#ifndef PRELOAD_SHIM_H
#define PRELOAD_SHIM_H

#include <sys/socket.h>

#include "preload/memo.h"
#include "sock/api.h"

/* ---- sockets.c -------------------------------------------------------------- */

/* Is fd one of ours? *m is what is known of it. errno is not touched. */
bool shim_find(int fd, struct memo *m);
bool shim_wants(int domain, int type, int protocol);
int shim_socket(int domain, int type);
int shim_bind(int fd, struct memo *m, const struct sockaddr *sa, socklen_t len);
int shim_listen(int fd, struct memo *m, int backlog);
int shim_accept(int fd, struct memo *m, struct sockaddr *sa, socklen_t *len, int flags);
int shim_connect(int fd, struct memo *m, const struct sockaddr *sa, socklen_t len);
int shim_getsockname(int fd, struct memo *m, struct sockaddr *sa, socklen_t *len);
int shim_getpeername(int fd, struct memo *m, struct sockaddr *sa, socklen_t *len);
/* The pending error as a TCP socket would have it; used up. */
int shim_take_error(int fd, int *err);
/* A socket of ours, but behind it is nothing (any more) that the engine of this process knows. */
bool shim_is_lost(int fd);
/* Has a connect that was under way ended? Brings m up to date. */
void shim_refresh(int fd, struct memo *m);
int shim_fail(int err);		/* errno; -1 */

/* ---- options.c ------------------------------------------------------------- */

int shim_setsockopt(int fd, struct memo *m, int level, int name, const void *val, socklen_t len);
int shim_getsockopt(int fd, struct memo *m, int level, int name, void *val, socklen_t *len);
/* Repeat what was set on from, known as m, on to: another of ours, known as n, or with n NULL a real TCP socket. */
void options_repeat(int from, const struct memo *m, int to, struct memo *n);

/* ---- replace.c ----------------------------------------------------------------- */

/* Put a real TCP socket in the place of fd, bound as that was. 0 or -1/errno, fd as it was. */
int replace_by_tcp(int fd, const struct memo *m);
/* After a call on fd failed: if that was because fd, fresh for all we know, has no engine here (it was made before
 * fork, or a connect on it failed), there is a new one in its place now, *m is its memo, and the call may be tried
 * again. */
bool replace_stale(int fd, struct memo *m);
/* The same for a listener that has ended: if the process that listened is gone, this one goes on in its place. */
bool replace_listener(int fd, struct memo *m);

/* ---- trust.c ---------------------------------------------------------------------- */

struct sock_config *trust_client_config(void);	/* NULL and errno; the reason is logged. Kept for good */
struct sock_config *trust_server_config(void);
void trust_forget(void);				/* the configurations; for tests */

/* known_hosts lines: "host:port pin". */
enum trust_verdict { TRUST_KNOWN, TRUST_NEW, TRUST_MISMATCH, TRUST_ERROR };
/* Look host up in the file at path and, if nothing is known of it, append it with pin (64 hex digits). The file is
 * locked meanwhile; it is made if it does not exist. TRUST_ERROR: errno. */
enum trust_verdict trust_check(const char *path, const char *host, const char *pin);

#endif
