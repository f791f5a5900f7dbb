/* echo_server: send back whatever arrives, on any number of connections and streams, in one poll loop.
 *     echo_server [PORT [CERT KEY]]
 * Try it with: echo_client --pin HASH localhost 4433 < FILE */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "qsock.h"

/* One for each descriptor in the poll set: the listener, connections, streams. */
struct client {
	enum { LISTENER, CONNECTION, STREAM } kind;
	char *buf;		/* STREAM: read and not yet written back */
	size_t len, off;
};

#define BUF 65536
static struct pollfd *fds;
static struct client *clients;
static size_t count, room;

static void add(int kind, int fd)
{
	if (count == room) {
		room = room ? 2 * room : 64;
		fds = realloc(fds, room * sizeof(*fds));
		clients = realloc(clients, room * sizeof(*clients));
	}
	char *buf = kind == STREAM ? malloc(BUF) : NULL;
	if (!fds || !clients || (kind == STREAM && !buf)) {
		fprintf(stderr, "echo_server: out of memory\n");
		exit(1);
	}
	fds[count] = (struct pollfd){ .fd = fd, .events = POLLIN };
	clients[count++] = (struct client){ .kind = kind, .buf = buf };
}

static void drop(size_t i)
{
	close(fds[i].fd);
	free(clients[i].buf);
	fds[i] = fds[--count];
	clients[i] = clients[count];
}

/* true: it is over. */
static int accept_all(size_t i)
{
	for (;;) {
		int fd = clients[i].kind == LISTENER ? qsock_accept4(fds[i].fd, NULL, NULL, SOCK_NONBLOCK)
						     : qsock_accept_stream(fds[i].fd, QSOCK_NONBLOCK);
		if (fd < 0)
			break;
		add(clients[i].kind == LISTENER ? CONNECTION : STREAM, fd);
	}
	if (clients[i].kind == CONNECTION && (errno == ENOTCONN || errno == ECONNRESET || fds[i].revents & POLLHUP))
		return 1;		/* with POLLHUP too: what it still has there is not worth a descriptor */
	if (errno == EMFILE || errno == ENFILE)
		usleep(10000);		/* it stays readable: later, when others are closed */
	return 0;
}

static int failed(size_t i)
{
	struct qsock_error err;
	char text[400];
	if (errno == EAGAIN || errno == EINTR)
		return 0;
	if (!qsock_error(fds[i].fd, &err))
		fprintf(stderr, "echo_server: %s\n", qsock_strerror(&err, text, sizeof(text)));
	return 1;
}

/* There is something to write back, or there is room to read: a client that does not read is not read from. */
static int echo(size_t i)
{
	struct client *c = &clients[i];
	if (c->off == c->len) {
		ssize_t n = read(fds[i].fd, c->buf, BUF);
		if (n < 0)
			return failed(i);
		if (n == 0)
			return 1;	/* the clean end; close sends ours after the last byte */
		c->len = (size_t)n;
		c->off = 0;
	}
	ssize_t n = write(fds[i].fd, c->buf + c->off, c->len - c->off);
	if (n < 0 && failed(i))
		return 1;
	c->off += n > 0 ? (size_t)n : 0;
	fds[i].events = c->off < c->len ? POLLOUT : POLLIN;
	return 0;
}

static int start(const char *port, const struct qsock_config *cfg)
{
	struct qsock_error err;
	struct sockaddr_in6 addr;	/* the port is at the same place for IPv4 */
	char text[400], pin[65];
	socklen_t len = sizeof(addr), pin_len = sizeof(pin);
	int fd = qsock_serve(NULL, port, cfg);
	if (fd < 0) {
		qsock_error(-1, &err);
		fprintf(stderr, "echo_server: %s\n", qsock_strerror(&err, text, sizeof(text)));
		return -1;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (!qsock_getsockname(fd, (struct sockaddr *)&addr, &len) &&
	    !qsock_getsockopt(fd, SOL_QUIC, QSOCK_PIN, pin, &pin_len))
		fprintf(stderr, "echo_server: UDP port %u, for clients: --pin %s\n", ntohs(addr.sin6_port), pin);
	return fd;
}

int main(int argc, char **argv)
{
	struct qsock_config cfg = { .alpn = "echo", .cert_file = argc == 4 ? argv[2] : NULL,
				    .key_file = argc == 4 ? argv[3] : NULL };
	if (argc == 3 || argc > 4 || (argc > 1 && argv[1][0] == '-')) {
		fprintf(stderr, "usage: echo_server [PORT [CERT KEY]]\n");
		return 2;
	}
	int listener = start(argc > 1 ? argv[1] : "4433", &cfg);
	if (listener < 0)
		return 1;
	signal(SIGPIPE, SIG_IGN);
	add(LISTENER, listener);
	for (;;) {
		if (poll(fds, count, -1) < 0 && errno != EINTR)
			return 1;
		for (size_t i = count; i-- > 0;)
			if (fds[i].revents && (clients[i].kind == STREAM ? echo(i) : accept_all(i)))
				drop(i);
	}
}
