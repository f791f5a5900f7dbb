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
	char buf[CMSG_SPACE(sizeof(int))];
};

int mailbox_send(int fd, const struct record *r, int with, int flags)
{
	union fd_control control;
	struct iovec iov = { (void *)r, sizeof(*r) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	if (with >= 0) {
		memset(&control, 0, sizeof(control));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control);
		control.hdr = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
						.cmsg_len = CMSG_LEN(sizeof(int)) };
		memcpy(CMSG_DATA(&control.hdr), &with, sizeof(int));
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

static int fd_in(struct msghdr *m)
{
	int fd = -1;
	struct cmsghdr *h = CMSG_FIRSTHDR(m);
	if (h && h->cmsg_level == SOL_SOCKET && h->cmsg_type == SCM_RIGHTS && h->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(h), sizeof(fd));
	return fd;
}

/* One recvmsg of iov, which holds want bytes in all. */
static int recv_record(int fd, struct iovec *iov, size_t n_iov, size_t want, int *with, int flags)
{
	union fd_control control;
	struct msghdr m = { .msg_iov = iov, .msg_iovlen = n_iov, .msg_control = &control,
			    .msg_controllen = CMSG_LEN(sizeof(int)) };	/* no space for a second one */
	ssize_t n = recvmsg(fd, &m, flags);
	if (n <= 0)
		return (int)n;
	*with = fd_in(&m);
	if ((size_t)n == want && !(m.msg_flags & MSG_CTRUNC))
		return 1;
	if (*with >= 0)
		close(*with);
	*with = -1;
	errno = m.msg_flags & MSG_CTRUNC ? EMFILE : EPROTO;
	return -1;
}

int mailbox_recv(int fd, struct record *r, int *with, int flags)
{
	struct iovec iov = { r, sizeof(*r) };
	*with = -1;
	if (slot_free(fd)) {
		int saved = errno == EINVAL ? EMFILE : errno;	/* EINVAL: the limit is 0 */
		char first;
		ssize_t n = recv(fd, &first, 1, MSG_DONTWAIT | MSG_PEEK);
		if (n > 0 || (n < 0 && errno == EAGAIN))
			errno = saved;
		return n ? -1 : 0;
	}
	return recv_record(fd, &iov, 1, sizeof(*r), with, flags);
}

/* The queue holds the retained byte, then records: take the old byte and all of
 * the record but its last byte, which is padding. What is taken and no whole record is lost, descriptors and all: our
 * own callers never write such. */
int mailbox_recv_retaining(int fd, struct record *r, int *with, bool *more)
{
	char old;
	struct iovec iov[2] = { { &old, 1 }, { r, sizeof(*r) - 1 } };
	int queued = 0;
	*with = -1;
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
	return recv_record(fd, iov, 2, sizeof(*r), with, MSG_DONTWAIT | MSG_CMSG_CLOEXEC) > 0;
}
