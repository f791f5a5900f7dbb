/* The functions of the C library that the shim stands in front of, and nothing else: what
 * reads, writes, polls, duplicates and closes is the kernel's, because the descriptors
 * are real sockets. Each asks whether the descriptor is ours, once. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netdb.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/uio.h>
#include <unistd.h>

#include "preload/log.h"
#include "preload/real.h"
#include "preload/shim.h"

#define HOOK __attribute__((visibility("default")))

/* expr for a socket of ours, with m known; else, and for the library itself, what the C library has. */
#define OURS_OR(fd, real_call, expr)                                                   \
	struct memo m;                                                                 \
	if (shim_bypass())                                                             \
		return real_call;                                                      \
	shim_enter();                                                                  \
	bool ours_ = shim_find(fd, &m);                                                \
	__typeof__(real_call) ret_ = ours_ ? (expr) : 0;                               \
	shim_leave();                                                                  \
	return ours_ ? ret_ : real_call

HOOK int socket(int domain, int type, int protocol)
{
	if (shim_bypass() || !shim_wants(domain, type, protocol))
		return REAL(socket)(domain, type, protocol);
	shim_enter();
	int fd = shim_socket(domain, type);
	shim_leave();
	return fd;
}

HOOK int bind(int fd, const struct sockaddr *addr, socklen_t len)
{
	OURS_OR(fd, REAL(bind)(fd, addr, len), shim_bind(fd, &m, addr, len));
}

HOOK int listen(int fd, int backlog)
{
	OURS_OR(fd, REAL(listen)(fd, backlog), shim_listen(fd, &m, backlog));
}

HOOK int accept4(int fd, struct sockaddr *addr, socklen_t *len, int flags)
{
	OURS_OR(fd, REAL(accept4)(fd, addr, len, flags), shim_accept(fd, &m, addr, len, flags));
}

HOOK int accept(int fd, struct sockaddr *addr, socklen_t *len)
{
	OURS_OR(fd, REAL(accept)(fd, addr, len), shim_accept(fd, &m, addr, len, 0));
}

HOOK int connect(int fd, const struct sockaddr *addr, socklen_t len)
{
	OURS_OR(fd, REAL(connect)(fd, addr, len), shim_connect(fd, &m, addr, len));
}

HOOK int getsockname(int fd, struct sockaddr *addr, socklen_t *len)
{
	OURS_OR(fd, REAL(getsockname)(fd, addr, len), shim_getsockname(fd, &m, addr, len));
}

HOOK int getpeername(int fd, struct sockaddr *addr, socklen_t *len)
{
	OURS_OR(fd, REAL(getpeername)(fd, addr, len), shim_getpeername(fd, &m, addr, len));
}

HOOK int setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	OURS_OR(fd, REAL(setsockopt)(fd, level, name, val, len), shim_setsockopt(fd, &m, level, name, val, len));
}

HOOK int getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	OURS_OR(fd, REAL(getsockopt)(fd, level, name, val, len), shim_getsockopt(fd, &m, level, name, val, len));
}

/* ---- sending with what only TCP knows ------------------------------------------------- */

static bool ours(int fd)
{
	struct memo m;
	if (shim_bypass())
		return false;
	shim_enter();
	bool yes = shim_find(fd, &m);
	shim_leave();
	return yes;
}

/* There is no urgent data in QUIC: it goes with the rest, as it would to a reader with SO_OOBINLINE. Fast open is what
 * connect does anyway. */
#define TCP_FLAGS (MSG_OOB | MSG_FASTOPEN)

HOOK ssize_t send(int fd, const void *buf, size_t len, int flags)
{
	if (flags & TCP_FLAGS && ours(fd))
		flags &= ~TCP_FLAGS;
	return REAL(send)(fd, buf, len, flags);
}

HOOK ssize_t sendto(int fd, const void *buf, size_t len, int flags, const struct sockaddr *addr, socklen_t addrlen)
{
	if ((addr || flags & TCP_FLAGS) && ours(fd)) {
		if (flags & MSG_FASTOPEN && addr && connect(fd, addr, addrlen) && errno != EISCONN)
			return -1;
		return REAL(send)(fd, buf, len, flags & ~TCP_FLAGS);
	}
	return REAL(sendto)(fd, buf, len, flags, addr, addrlen);
}

HOOK ssize_t sendmsg(int fd, const struct msghdr *msg, int flags)
{
	struct msghdr plain;
	if (msg && (msg->msg_name || flags & TCP_FLAGS) && ours(fd)) {
		if (flags & MSG_FASTOPEN && msg->msg_name && connect(fd, msg->msg_name, msg->msg_namelen) &&
		    errno != EISCONN)
			return -1;
		plain = *msg;
		plain.msg_name = NULL;
		plain.msg_namelen = 0;
		msg = &plain;
		flags &= ~TCP_FLAGS;
	}
	return REAL(sendmsg)(fd, msg, flags);
}

static int run_unsent(struct engine *e, struct api_call *c)
{
	return sock_cmd_unsent(e, c->cookie, c->out);
}

static int unsent(int fd, int *out)
{
	uint64_t bytes = 0;
	shim_enter();
	int ret = api_call(fd, &(struct api_call){ .run = run_unsent, .out = &bytes });
	shim_leave();
	*out = ret ? 0 : bytes > INT32_MAX ? INT32_MAX : (int)bytes;
	return 0;
}

HOOK int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	va_start(ap, request);
	void *arg = va_arg(ap, void *);
	va_end(ap);
	if (request == SIOCOUTQ && arg && ours(fd))
		return unsent(fd, arg);
	return REAL(ioctl)(fd, request, arg);
}

/* ---- names ------------------------------------------------------------------------------ */

static bool is_literal(const char *host)
{
	uint8_t sink[16];
	return strchr(host, '%') || inet_pton(AF_INET, host, sink) == 1 || inet_pton(AF_INET6, host, sink) == 1;
}

HOOK int getaddrinfo(const char *host, const char *service, const struct addrinfo *hints, struct addrinfo **res)
{
	int ret = REAL(getaddrinfo)(host, service, hints, res);
	struct addr a;
	if (ret || shim_bypass() || !host || is_literal(host))
		return ret;
	for (const struct addrinfo *ai = *res; ai; ai = ai->ai_next)
		if (!api_addr_in(ai->ai_addr, ai->ai_addrlen, &a))
			name_remember(&a, host);
	return ret;
}

/* ---- ends ---------------------------------------------------------------------------------- */

/* exit() has handlers; these have none. Not in a vfork child, which shares our memory and not our engine. */
static void flush(void)
{
	if (!shim_bypass() && engine_running_here())
		engine_stop(ENGINE_LINGER_HOOK);
}

HOOK void _exit(int status)
{
	flush();
	REAL(_exit)(status);
	__builtin_unreachable();
}

HOOK void _Exit(int status)
{
	flush();
	REAL(_exit)(status);
	__builtin_unreachable();
}

HOOK void quick_exit(int status)
{
	flush();
	REAL(quick_exit)(status);
	__builtin_unreachable();
}

/* Descriptors survive exec, the engine does not. */
static void note_exec(const char *path)
{
	if (!shim_bypass() && engine_running_here())
		log_warn("exec of %s ends the QUIC engine of this process: sockets that it keeps open will be reset", path);
}

HOOK int execve(const char *path, char *const argv[], char *const envp[])
{
	note_exec(path);
	return REAL(execve)(path, argv, envp);
}

HOOK int execv(const char *path, char *const argv[])
{
	note_exec(path);
	return REAL(execv)(path, argv);
}

HOOK int execvp(const char *file, char *const argv[])
{
	note_exec(file);
	return REAL(execvp)(file, argv);
}

HOOK int execvpe(const char *file, char *const argv[], char *const envp[])
{
	note_exec(file);
	return REAL(execvpe)(file, argv, envp);
}
