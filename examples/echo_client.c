/* echo_client: send standard input on one stream and show what comes back.
 *     echo_client [--ca FILE | --pin HASH | --insecure] HOST PORT
 * Exits 0 only after the clean end of what the server sent. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "qsock.h"

static int stream = -1;

/* fd: whose failure, -1: that of qsock_dial, -2: what errno says. */
static int die(const char *what, int fd)
{
	struct qsock_error err = { .kind = QSOCK_ERR_NONE };
	char text[400];
	const char *why = strerror(errno);
	if (fd > -2 && !qsock_error(fd, &err) && err.kind != QSOCK_ERR_NONE)
		why = qsock_strerror(&err, text, sizeof(text));
	fprintf(stderr, "echo_client: %s: %s\n", what, why);
	if (stream >= 0)
		qsock_reset(stream, 1);		/* exit alone would be a clean end for the server */
	return 1;
}

static int write_all(int fd, const char *p, ssize_t n)
{
	while (n > 0) {
		ssize_t w = write(fd, p, (size_t)n);
		if (w < 0 && errno != EINTR)
			return -1;
		p += w > 0 ? w : 0;
		n -= w > 0 ? w : 0;
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "ca", 1, NULL, 'c' }, { "pin", 1, NULL, 'p' },
						 { "insecure", 0, NULL, 'i' }, { NULL, 0, NULL, 0 } };
	struct qsock_config cfg = { .alpn = "echo" };
	static char in[65536], out[65536];
	for (int opt; (opt = getopt_long(argc, argv, "", options, NULL)) != -1;) {
		if (opt == 'c') cfg.ca_file = optarg;
		else if (opt == 'p') cfg.pins = optarg;
		else if (opt == 'i') cfg.flags |= QSOCK_CONFIG_INSECURE;
		else optind = argc;		/* to the usage */
	}
	if (argc != optind + 2)
		return fputs("usage: echo_client [--ca FILE | --pin HASH | --insecure] HOST PORT\n", stderr), 2;
	signal(SIGPIPE, SIG_IGN);
	for (int fd = 0; fd >= 0 && fd < 3;)	/* what came closed stays unusable: no socket becomes 0, 1 or 2 */
		if ((fd = open("/dev/null", O_RDONLY)) > 2)
			close(fd);
	int conn = qsock_dial(argv[optind], argv[optind + 1], &cfg);
	if (conn < 0)
		return die(argv[optind], -1);
	stream = qsock_open_stream(conn, 0);
	if (stream < 0)
		return die("cannot open a stream", conn);
	fcntl(stream, F_SETFL, O_NONBLOCK);	/* we must read while the server does not */
	struct pollfd p[2] = { { .fd = stream }, { .fd = 0, .events = POLLIN } };
	size_t len = 0, off = 0;		/* of out: read from standard input and to be sent */
	for (int at_end = 0;;) {
		p[0].events = off < len ? POLLIN | POLLOUT : POLLIN;
		p[1].fd = off < len || at_end ? -1 : 0;
		if (poll(p, 2, -1) < 0)
			continue;
		if (p[0].revents & ~POLLOUT) {
			ssize_t n = read(stream, in, sizeof(in));
			if (n == 0)
				return 0;
			if (n < 0 && errno != EAGAIN)
				return die("connection lost", stream);
			if (n > 0 && write_all(1, in, n))
				return die("standard output", -2);
		}
		if (p[0].revents & POLLOUT) {
			ssize_t n = write(stream, out + off, len - off);
			if (n < 0 && errno != EAGAIN)
				return die("sending failed", stream);
			off += n > 0 ? (size_t)n : 0;
		}
		if (p[1].revents) {
			ssize_t n = read(0, out, sizeof(out));
			if (n < 0)
				return die("standard input", -2);
			len = (size_t)n;
			off = 0;
			at_end = n == 0;
			if (at_end)
				shutdown(stream, SHUT_WR);	/* our clean end */
		}
	}
}
