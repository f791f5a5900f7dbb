/* Records with descriptors over a stream pair. A record is written whole or not
 * at all, because it is far smaller than a socket buffer's unit. */
#include "sock/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

union fd_control {
	struct cmsghdr hdr;
	char buf[CMSG_SPACE(2 * sizeof(int))];
};

int mailbox_send(int fd, const struct record *r, const int fds[2], int flags)
{
	union fd_control control;
	struct iovec iov = { (void *)r, sizeof(*r) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	size_t n = fds[0] < 0 ? 0 : fds[1] < 0 ? 1 : 2;
	if (n) {
		memset(&control, 0, sizeof(control));
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(n * sizeof(int));
		struct cmsghdr *h = CMSG_FIRSTHDR(&m);
		h->cmsg_level = SOL_SOCKET;
		h->cmsg_type = SCM_RIGHTS;
		h->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(h), fds, n * sizeof(int));
	}
	ssize_t sent = sendmsg(fd, &m, flags | MSG_NOSIGNAL);
	if (sent == (ssize_t)sizeof(*r))
		return 0;
	if (sent >= 0)
		errno = EPROTO;
	return -1;
}

/* At the descriptor limit recvmsg would destroy what it cannot install: look for a free slot first. That nothing will
 * come any more is told all the same, for to close that end is what makes room. */
static int slot_free(int fd)
{
	int a = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (a < 0)
		return -1;
	close(a);
	return 0;
}

static void take_fds(struct msghdr *m, int fds[2])
{
	fds[0] = fds[1] = -1;
	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		memcpy(fds, CMSG_DATA(h), (n < 2 ? n : 2) * sizeof(int));
	}
}

static void drop_fds(int fds[2])
{
	for (int i = 0; i < 2; i++) {
		if (fds[i] >= 0)
			close(fds[i]);
		fds[i] = -1;
	}
}

/* One recvmsg of iov, which holds want bytes in all. */
static int recv_record(int fd, struct iovec *iov, size_t n_iov, size_t want, int fds[2], int flags)
{
	union fd_control control;
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n_iov, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(fd, &m, flags);
	fds[0] = fds[1] = -1;
	if (n <= 0)
		return (int)n;
	take_fds(&m, fds);
	if ((size_t)n == want && !(m.msg_flags & MSG_CTRUNC))
		return 1;
	drop_fds(fds);
	errno = m.msg_flags & MSG_CTRUNC ? EMFILE : EPROTO;
	return -1;
}

int mailbox_recv(int fd, struct record *r, int fds[2], int flags)
{
	struct iovec iov = { r, sizeof(*r) };
	fds[0] = fds[1] = -1;
	if (slot_free(fd)) {
		int saved = errno == EINVAL ? EMFILE : errno;	/* EINVAL: the limit is 0 */
		char first;
		ssize_t n = recv(fd, &first, 1, MSG_DONTWAIT | MSG_PEEK);
		if (n > 0 || (n < 0 && errno == EAGAIN))
			errno = saved;
		return n ? -1 : 0;
	}
	return recv_record(fd, &iov, 1, sizeof(*r), fds, flags);
}

/* The queue holds the retained byte, then records: take the old byte and all of
 * the record but its last byte, which is padding. What is taken and no whole record is lost, descriptors and all: our
 * own callers never write such. */
int mailbox_recv_retaining(int fd, struct record *r, int fds[2], bool *more)
{
	char old;
	struct iovec iov[2] = { { &old, 1 }, { r, sizeof(*r) - 1 } };
	int queued = 0;
	fds[0] = fds[1] = -1;
	*more = false;
	if (ioctl(fd, FIONREAD, &queued))
		return -1;
	if (queued <= 1) {
		errno = EAGAIN;	/* that the other end closed is seen by EPOLLHUP */
		return -1;
	}
	if (queued <= (int)sizeof(*r)) {
		errno = EPROTO;
		return -1;
	}
	*more = queued > (int)sizeof(*r) + 1;
	((uint8_t *)r)[sizeof(*r) - 1] = 0;
	return recv_record(fd, iov, 2, sizeof(*r), fds, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) > 0;
}
