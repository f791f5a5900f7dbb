/* Socketpairs with a byte held back: the engine's end never runs empty before a
 * clean end, so that closing it, or the death of the process, reads as
 * ECONNRESET on the application's end and never as an end of file. */
#include "sock/sock.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

static int cookie_of(int fd, uint64_t *cookie)
{
	socklen_t len = sizeof(*cookie);
	return getsockopt(fd, SOL_SOCKET, SO_COOKIE, cookie, &len);
}

static bool option_is(int fd, int option, int want)
{
	int v;
	socklen_t len = sizeof(v);
	return !getsockopt(fd, SOL_SOCKET, option, &v, &len) && v == want;
}

bool pair_like(int fd)
{
	return option_is(fd, SO_DOMAIN, AF_UNIX) && option_is(fd, SO_TYPE, SOCK_STREAM);
}

static void close_keeping_errno(int fd)
{
	int saved = errno;
	close(fd);
	errno = saved;
}

static int set_buffer(int fd, int size)
{
	size /= 2;	/* the kernel doubles it */
	return setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
}

int pair_make(int fd[2], int flags, uint64_t *cookie)
{
	static const char filler = 0;
	if (socketpair(AF_UNIX, SOCK_STREAM | flags, 0, fd))
		return -1;
	/* Out-of-band bytes count as the others, or there would be fewer in the queue than FIONREAD says. */
	if (!setsockopt(fd[1], SOL_SOCKET, SO_OOBINLINE, &(int){ 1 }, sizeof(int)) &&
	    !set_buffer(fd[0], PAIR_BUFFER) && send(fd[0], &filler, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 &&
	    !cookie_of(fd[0], cookie))
		return 0;
	close_keeping_errno(fd[0]);
	close_keeping_errno(fd[1]);
	return -1;
}

/* Pages of a hole in a file count as any others but are all the same one: a waiting stream costs next to nothing.
 * sendfile waits for room unless the descriptor is nonblocking. */
static size_t fill_with_holes(int fd)
{
	size_t sum = 0;
	ssize_t n = 1;
	int flags = fcntl(fd, F_GETFL);
	int holes = flags >= 0 && flags & O_NONBLOCK ? memfd_create("qsock filler", MFD_CLOEXEC) : -1;
	if (holes < 0)
		return 0;
	if (!ftruncate(holes, PAIR_BUFFER))
		while ((n = sendfile(fd, holes, &(off_t){ 0 }, PAIR_BUFFER)) > 0)
			sum += (size_t)n;
	close(holes);
	return sum;
}

static size_t fill_with_bytes(int fd, size_t piece)
{
	static const char filler[PAIR_BUFFER / 8];
	size_t sum = 0;
	ssize_t n;
	while ((n = send(fd, filler, piece, MSG_DONTWAIT | MSG_NOSIGNAL)) > 0)
		sum += (size_t)n;
	return sum;
}

/* AF_UNIX polls writable while what is queued stays below a quarter of SO_SNDBUF, and sending fails from the whole of
 * it on. What is left in the end counts as the whole last piece, which is well below the quarter. */
ssize_t pair_block(int app_fd, int buffer)
{
	size_t sum = 0;
	if (buffer == PAIR_BUFFER)
		sum = fill_with_holes(app_fd);
	else if (set_buffer(app_fd, buffer))
		return -1;
	sum += fill_with_bytes(app_fd, (size_t)buffer / 8);
	if (sum)
		return (ssize_t)sum;
	errno = ENOBUFS;
	return -1;
}

int pair_widen(int app_fd)
{
	return set_buffer(app_fd, PAIR_BUFFER);
}

int pair_unblock(int engine_fd, size_t filler)
{
	char sink[16384];
	while (filler) {
		ssize_t n = recv(engine_fd, sink, filler < sizeof(sink) ? filler : sizeof(sink), MSG_DONTWAIT);
		if (n <= 0)
			return -1;
		filler -= (size_t)n;
	}
	return 0;
}

int pair_go(int engine_fd)
{
	static const char go = 0;
	return send(engine_fd, &go, 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1 ? 0 : -1;
}

int pair_await_go(int app_fd)
{
	char go;
	ssize_t n;
	do
		n = recv(app_fd, &go, 1, 0);
	while (n < 0 && errno == EINTR);
	if (n == 1)
		return 0;
	if (!n)
		errno = ECONNABORTED;
	return -1;
}
