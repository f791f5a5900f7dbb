/* What the public calls share. They run on threads of the application, so: nothing of the engine is touched but
 * through api_call, and cancellation (pthread_cancel) only ever strikes in waits, where nothing is held that the
 * cleanup handlers do not know. */
#ifndef SOCK_API_H
#define SOCK_API_H

#include <pthread.h>

#include "sock/sock.h"

#define CODE_MAX ((UINT64_C(1) << 62) - 1)	/* application codes are varints, RFC 9000 20.2 */

/* Hold off cancellation; give the result to api_leave. */
static inline int api_enter(void)
{
	int state;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &state);
	return state;
}
static inline void api_leave(int state) { pthread_setcancelstate(state, NULL); }
/* The same around a wait, with the state that api_enter gave. */
static inline void api_wait_begin(int state) { pthread_setcancelstate(state, NULL); }
static inline void api_wait_end(void) { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &(int){ 0 }); }

/* While the calling process's table holds an engine's end: a child forked in this moment would keep it open, and no end
 * of the engine would be seen. fork waits; so nothing may be waited for in between. */
void api_fork_hold(void);
void api_fork_release(void);

void api_close(int fd);			/* close(2), errno kept; -1: nothing */
void api_close_cleanup(void *fd);	/* for pthread_cleanup_push: int * */

/* The cookie of a descriptor that may be one of ours. 0; -1: EBADF, ENOTSOCK. */
int api_cookie(int fd, uint64_t *cookie);

/* What the object is; -1: not known, as in a process other than the one that made it. Fresh sockets are asked about
 * each time, the others are remembered. */
int api_kind(uint64_t cookie);
void api_remember(uint64_t cookie, enum sock_kind kind);

/* A question to the engine about fd. run is called on the engine thread with the cookie filled in, when the object is
 * known there, living or dead; the rest is the asker's own. Returns what run does (errno carried over), or -1: EBADF,
 * ENOTSOCK, EOPNOTSUPP (unknown in this process). run may take fd, see engine_call_with_fd. */
struct api_call {
	int (*run)(struct engine *e, struct api_call *c);
	uint64_t cookie;
	uint64_t number;
	const char *text;
	const struct addr *addr;
	struct sock_config *cfg;
	void *out, *out2;
	int fd;
};
int api_call(int fd, struct api_call *c);
/* The error of fd as sock_cmd_error tells it; kind NONE when nothing is known. errno stays. */
void api_error_of(int fd, struct qsock_error *err);

/* Take the next record of this type off a mailbox, waiting if fd is blocking. flags: MSG_CMSG_CLOEXEC. The one
 * descriptor that came with it, made nonblocking if asked for; -1/errno, ECONNRESET among others; -2: clean end.
 * cancel: what api_enter gave. */
int api_take(int fd, enum record_type type, struct record *r, int flags, bool nonblock, int cancel);
/* poll for events until the SO_SNDTIMEO of timeout_fd is over. revents, or -1/errno (EAGAIN: timeout). */
int api_poll(int fd, short events, int timeout_fd, int cancel);

int api_set_nonblock(int fd);
/* 0; -1: EFAULT, EINVAL, EAFNOSUPPORT */
int api_addr_in(const struct sockaddr *sa, socklen_t len, struct addr *out);
int api_addr_out(const struct addr *a, struct sockaddr *sa, socklen_t *len);

/* The address as text in buf, of INET6_ADDRSTRLEN bytes; mapped ones as IPv4. */
const char *api_literal(const struct addr *a, char *buf);

/* socket and connect in one step: a new descriptor that begins to connect, or -1/errno with *err filled if the
 * configuration is to blame. name: to verify and send as SNI when the configuration has none. */
int api_dial(const struct addr *remote, const char *name, const struct qsock_config *settings, struct qsock_error *err);
/* Wait until fd is connected: 0 or -1/errno, as connect(2). */
int api_connect_wait(int fd, int cancel);
int api_set_config(int fd, const struct qsock_config *cfg, size_t max);
/* The calling thread's failure for qsock_error(-1). */
struct qsock_error *api_thread_error(void);

#endif
