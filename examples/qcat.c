/* qcat: netcat for QUIC, one stream of one connection.
 *     qcat [--ca FILE | --pin HASH | --insecure] [--alpn NAME] HOST PORT
 *     qcat -l [-p] PORT [--cert FILE --key FILE] [--alpn NAME]
 * Standard input goes out, what comes in goes to standard output. The end of either is passed on (half-close), and
 * qcat is done when both have ended. A connection that breaks is an error, never a quiet end. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "qsock.h"

struct pump {
	int from, to;		/* -1: done */
	size_t len, off;
	char buf[65536];
};

static int conn = -1, stream = -1;

/* fd: whose failure, -1: that of qsock_dial or qsock_serve, -2: what errno says. */
static void die(const char *what, int fd)
{
	struct qsock_error err = { .kind = QSOCK_ERR_NONE };
	char text[400];
	const char *why = strerror(errno);
	if (fd > -2 && !qsock_error(fd, &err) && err.kind != QSOCK_ERR_NONE)
		why = qsock_strerror(&err, text, sizeof(text));
	fprintf(stderr, "qcat: %s%s%s\n", what, *what ? ": " : "", why);
	if (stream >= 0)
		qsock_reset(stream, 1);		/* exit alone would be a clean end for the peer */
	exit(1);
}

static void dial(const char *host, const char *port, const struct qsock_config *cfg)
{
	conn = qsock_dial(host, port, cfg);
	if (conn < 0)
		die("", -1);
	stream = qsock_open_stream(conn, 0);
	if (stream < 0)
		die("cannot open a stream", conn);
}

/* The first stream of the first client. */
static void serve(const char *port, const struct qsock_config *cfg)
{
	struct sockaddr_in6 addr;	/* the port is at the same place for IPv4 */
	char pin[65];
	socklen_t len = sizeof(addr), pin_len = sizeof(pin);
	int listener = qsock_serve(NULL, port, cfg);
	if (listener < 0)
		die("", -1);
	if (!qsock_getsockname(listener, (struct sockaddr *)&addr, &len) &&
	    !qsock_getsockopt(listener, SOL_QUIC, QSOCK_PIN, pin, &pin_len))
		fprintf(stderr, "qcat: UDP port %u, for clients: --pin %s\n", ntohs(addr.sin6_port), pin);
	conn = qsock_accept(listener, NULL, NULL);
	if (conn < 0)
		die("accept", -2);
	close(listener);
	stream = qsock_accept_stream(conn, 0);
	if (stream < 0)
		die("no stream came", conn);
}

static int is_temporary(void) { return errno == EAGAIN || errno == EINTR; }

/* One read or one write, whichever is due. */
static void turn(struct pump *p)
{
	ssize_t n;
	if (p->off < p->len) {
		n = write(p->to, p->buf + p->off, p->len - p->off);
		if (n < 0 && !is_temporary())
			die(p->to == stream ? "sending" : "standard output", p->to == stream ? stream : -2);
		p->off += n > 0 ? (size_t)n : 0;
		return;
	}
	n = read(p->from, p->buf, sizeof(p->buf));
	if (n < 0 && !is_temporary())
		die(p->from == stream ? "receiving" : "standard input", p->from == stream ? stream : -2);
	p->off = 0;
	p->len = n > 0 ? (size_t)n : 0;
	if (n == 0) {
		if (p->to == stream)
			shutdown(stream, SHUT_WR);
		else
			close(p->to);
		p->from = p->to = -1;
	}
}

/* Each direction waits for one thing at a time, so that neither can be blocked by the other. */
static void relay(void)
{
	static struct pump pumps[2];
	pumps[0] = (struct pump){ .from = 0, .to = stream };
	pumps[1] = (struct pump){ .from = stream, .to = 1 };
	fcntl(stream, F_SETFL, O_NONBLOCK);
	while (pumps[0].from >= 0 || pumps[1].from >= 0) {
		struct pollfd p[2];
		for (int i = 0; i < 2; i++) {
			int full = pumps[i].off < pumps[i].len;
			p[i].fd = full ? pumps[i].to : pumps[i].from;
			p[i].events = full ? POLLOUT : POLLIN;
		}
		if (poll(p, 2, -1) < 0)
			continue;
		for (int i = 0; i < 2; i++)
			if (p[i].revents)
				turn(&pumps[i]);
	}
}

/* What was written is ours until the other side has acknowledged it. */
static void deliver(void)
{
	struct qsock_info info = { .size = sizeof(info) };
	struct qsock_error err;
	while (!qsock_info(conn, &info) && info.streams_open > 0)
		poll(NULL, 0, 10);
	if (!qsock_error(conn, &err) && err.kind != QSOCK_ERR_NONE && (err.kind != QSOCK_ERR_APPLICATION || err.code))
		die("not everything was delivered", conn);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "ca", 1, NULL, 'c' }, { "pin", 1, NULL, 'P' }, { "insecure", 0, NULL, 'i' }, { "alpn", 1, NULL, 'a' },
		{ "cert", 1, NULL, 'C' }, { "key", 1, NULL, 'K' }, { NULL, 0, NULL, 0 } };
	struct qsock_config cfg = { .alpn = "qcat" };
	const char *port = NULL;
	int listening = 0, bad = 0;
	for (int opt; (opt = getopt_long(argc, argv, "lp:", options, NULL)) != -1;) {
		if (opt == 'l') listening = 1;
		else if (opt == 'p') port = optarg;
		else if (opt == 'c') cfg.ca_file = optarg;
		else if (opt == 'P') cfg.pins = optarg;
		else if (opt == 'i') cfg.flags |= QSOCK_CONFIG_INSECURE;
		else if (opt == 'a') cfg.alpn = optarg;
		else if (opt == 'C') cfg.cert_file = optarg;
		else if (opt == 'K') cfg.key_file = optarg;
		else bad = 1;
	}
	if (listening && !port && optind < argc)
		port = argv[optind++];
	if (bad || (listening ? !port || optind != argc : port || optind + 2 != argc)) {
		fprintf(stderr, "usage: qcat [--ca FILE | --pin HASH | --insecure] [--alpn NAME] HOST PORT\n"
				"       qcat -l [-p] PORT [--cert FILE --key FILE] [--alpn NAME]\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	for (int fd = 0; fd >= 0 && fd < 3;)	/* what came closed stays unusable: no socket becomes 0, 1 or 2 */
		if ((fd = open("/dev/null", O_RDONLY)) > 2)
			close(fd);
	if (listening)
		serve(port, &cfg);
	else
		dial(argv[optind], argv[optind + 1], &cfg);
	relay();
	deliver();
	return 0;
}
