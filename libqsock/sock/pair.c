/* Socketpairs with a byte held back: the engine's end never runs empty before a
 * clean end, so that closing it, or the death of the process, reads as
 * ECONNRESET on the application's end and never as an end of file. */
#include "sock/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static int cookie_of(int fd, uint64_t *cookie)
{
	socklen_t len = sizeof(*cookie);
	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, &len);
}

static void close_keeping_errno(int fd)
{
	int saved = errno;
	close(fd);
	errno = saved;
}

static int set_buffer(int fd)
{
	int size = PAIR_BUFFER / 2;	/* the kernel doubles it */
	return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

int pair_make(int fd[2], int flags, uint64_t *cookie)
{
	static const char filler = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | flags, 0, fd))
		return -1;
	if (!set_buffer(fd[0]) && send(fd[0], &filler, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 && !cookie_of(fd[0], cookie))
		return 0;
	close_keeping_errno(fd[0]);
	close_keeping_errno(fd[1]);
	return -1;
}

/* AF_UNIX polls writable while what is queued stays below a quarter of
 * SO_SNDBUF; with the smallest buffer one filled-up send is well above it. */
ssize_t pair_block(int app_fd)
{
	static const char filler[8192];
	int smallest = 1;
	ssize_t sum = 0, n;
	if (setsockopt(app_fd, SOL_SOCKET, SO_SNDBUF, &smallest, sizeof(smallest)))
		return -1;
	while ((n = send(app_fd, filler, sizeof(filler), MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
		sum += n;
	return sum ? sum : -1;
}

/* Raising SO_SNDBUF wakes those who wait for POLLOUT; the filler goes after, but for the retained byte. */
int pair_open(int app_dup, int engine_fd, size_t filler)
{
	char sink[8192];
	if (set_buffer(app_dup))
		return -1;
	while (filler) {
		ssize_t n = recv(engine_fd, sink, filler < sizeof(sink) ? filler : sizeof(sink), MSG_DONTWAIT);
		if (n <= 0)
			return -1;
		filler -= (size_t)n;
	}
	return 0;
}
