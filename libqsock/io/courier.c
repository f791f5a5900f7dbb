/* How a descriptor of the application comes into the engine's table. Usually the engine just
 * takes it by pidfd_getfd; where that is forbidden (the seccomp profiles of containers), unknown
 * (Linux before 5.6, valgrind before 3.22) or finds nothing (it looks at the main thread's table,
 * which is gone when that has ended), the caller sends it: to a socket that the engine opens for
 * this one delivery under an abstract name of the kernel's choice, and at which it hears nobody
 * but this process. */
#include <errno.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "io/engine_int.h"

/* One call and what it brings along; lives on the caller's stack. */
struct carry {
	int (*fn)(struct engine *e, void *arg);
	void *arg;
	bool wanted;			/* the engine could not take the descriptor by itself */
	int fd;				/* engine's table: delivered and not taken yet; -1 */
	int listener;			/* engine's table; -1 */
	struct sockaddr_un name;	/* of listener */
	socklen_t name_len;
};

static int close_and_fail(int fd)
{
	int saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
	return -1;
}

/* ---- engine thread -------------------------------------------------------- */

static int run(struct engine *e, void *arg)
{
	struct carry *k = arg;
	e->carry = k;
	int ret = k->fn(e, k->arg);
	e->carry = NULL;
	return ret;
}

int engine_take_fd(struct engine *e, int app_fd)
{
	struct carry *k = e->carry;
	if (k && k->fd >= 0) {
		int fd = k->fd;
		k->fd = -1;
		return fd;
	}
	if (e->self_pidfd < 0)
		e->self_pidfd = pidfd_open(getpid(), 0);
	int fd = e->self_pidfd < 0 ? -1 : pidfd_getfd(e->self_pidfd, app_fd, 0);
	if (fd < 0 && k && errno != EMFILE && errno != ENFILE && errno != ENOMEM)
		k->wanted = true;
	return fd;
}

static int open_listener(struct engine *e, void *arg)
{
	struct carry *k = arg;
	k->name = (struct sockaddr_un){ .sun_family = AF_UNIX };
	k->name_len = sizeof(k->name);
	k->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (k->listener < 0)
		return -1;
	if (!bind(k->listener, (struct sockaddr *)&k->name, sizeof(sa_family_t)) && !listen(k->listener, 16) &&
	    !getsockname(k->listener, (struct sockaddr *)&k->name, &k->name_len))
		return 0;
	return close_and_fail(k->listener);
}

/* Another engine may have taken over meanwhile: is the number still what it was? */
static bool is_listener(const struct carry *k)
{
	struct sockaddr_un name;
	socklen_t len = sizeof(name);
	return !getsockname(k->listener, (struct sockaddr *)&name, &len) && len == k->name_len &&
	       len > sizeof(sa_family_t) && !memcmp(&name, &k->name, len);
}

static int close_listener(struct engine *e, void *arg)
{
	const struct carry *k = arg;
	if (is_listener(k))
		close(k->listener);
	return 0;
}

static bool is_ours(int fd)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);
	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) && peer.pid == getpid();
}

union fd_control {
	struct cmsghdr hdr;
	char buf[CMSG_SPACE(sizeof(int))];
};

static int receive_fd(int from)
{
	union fd_control control;
	char byte;
	int fd = -1;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	if (recvmsg(from, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) != 1)
		return -1;
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS && h->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(h), sizeof(fd));
	else
		errno = EMFILE;		/* it got lost on the way for want of a number */
	return fd;
}

static int receive_and_run(struct engine *e, void *arg)
{
	struct carry *k = arg;
	int from;
	if (!is_listener(k)) {
		errno = EAGAIN;
		return -1;
	}
	while ((from = accept4(k->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0 && !is_ours(from))
		close(from);
	if (from >= 0) {
		k->fd = receive_fd(from);
		close_and_fail(from);
	}
	close_and_fail(k->listener);
	int ret = k->fd < 0 ? -1 : run(e, k);
	close_and_fail(k->fd);		/* nobody wanted it */
	return ret;
}

/* ---- application threads ------------------------------------------------------ */

static int send_fd(int to, int fd)
{
	union fd_control control;
	char byte = 0;
	struct iovec iov = { &byte, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	memset(&control, 0, sizeof(control));
	struct cmsghdr *h = CMSG_FIRSTHDR(&m);
	*h = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int)) };
	memcpy(CMSG_DATA(h), &fd, sizeof(fd));
	return sendmsg(to, &m, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -1;
}

/* It lies in the listener's queue when this returns; the socket is not needed any more. */
static int deliver(const struct carry *k, int fd)
{
	int to = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (to < 0)
		return -1;
	int ret = -1;
	if (!connect(to, (const struct sockaddr *)&k->name, k->name_len) && !send_fd(to, fd))
		ret = 0;
	close_and_fail(to);
	return ret;
}

int engine_call_with_fd(int (*fn)(struct engine *e, void *arg), void *arg, int app_fd)
{
	struct carry k = { .fn = fn, .arg = arg, .fd = -1, .listener = -1 };
	int ret = engine_call(run, &k);
	if (ret >= 0 || !k.wanted)
		return ret;
	if (engine_call(open_listener, &k))
		return -1;
	if (!deliver(&k, app_fd))
		return engine_call(receive_and_run, &k);
	int saved = errno;
	engine_call(close_listener, &k);
	errno = saved;
	return -1;
}
