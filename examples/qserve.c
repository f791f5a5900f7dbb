/* qserve: serve the files of a directory over QUIC (HTTP/0.9, ALPN hq-interop).
 *     qserve [-b ADDRESS] [-p PORT] [--cert FILE --key FILE] [--retry] DIR
 * A request is "GET /path\r\n" on a stream of its own; the answer is the file and a clean end. What cannot be served is
 * a reset stream with a code as HTTP has them, never an empty file. One thread for any number of clients. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <linux/openat2.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/sendfile.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "qsock.h"

enum { BAD_REQUEST = 400, NOT_FOUND = 404, FAILED = 500, BUSY = 503 };

struct item {
	LIST_ENTRY(item) link;
	enum kind { SIGNALS, LISTENER, CONNECTION, STREAM } kind;
	int fd;
	int file;		/* STREAM: what is being sent, -1: the request is still coming */
	off_t left;		/* bytes to send */
	size_t len;
	char request[1024];
};

static LIST_HEAD(, item) items;
static int epfd, root, starved;		/* starved: out of descriptors or memory */

static int watch(struct item *it, int op, uint32_t events)
{
	struct epoll_event ev = { .events = events, .data.ptr = it };
	return epoll_ctl(epfd, op, it->fd, &ev);
}

static int add(enum kind kind, int fd)
{
	struct item *it = calloc(1, sizeof(*it));
	if (!it)
		return close(fd);
	*it = (struct item){ .kind = kind, .fd = fd, .file = -1 };
	LIST_INSERT_HEAD(&items, it, link);
	return watch(it, EPOLL_CTL_ADD, EPOLLIN);
}

static void drop(struct item *it)
{
	if (it->file >= 0)
		close(it->file);
	close(it->fd);
	LIST_REMOVE(it, link);
	free(it);
}

static void refuse(struct item *it, unsigned code)
{
	qsock_reset(it->fd, code);
	drop(it);
}

/* Connections from the listener, streams from a connection. */
static void accept_some(struct item *it, uint32_t events)
{
	for (int i = 0; i < 64; i++) {
		int fd = it->kind == LISTENER ? qsock_accept4(it->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)
					      : qsock_accept_stream(it->fd, QSOCK_NONBLOCK | QSOCK_CLOEXEC);
		if (fd >= 0)
			add(it->kind == LISTENER ? CONNECTION : STREAM, fd);
		else if (it->kind == CONNECTION && (errno == ENOTCONN || errno == ECONNRESET || events & EPOLLHUP))
			return drop(it);	/* it is over; what it still has there is not worth a descriptor */
		else
			return (void)(starved |= errno != EAGAIN && errno != EINTR);
	}
}

static void send_some(struct item *it)
{
	while (it->left > 0) {
		ssize_t n = sendfile(it->fd, it->file, NULL, it->left < 262144 ? (size_t)it->left : 262144);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			return;			/* a slow reader costs nobody else anything */
		if (n <= 0)
			return refuse(it, FAILED);	/* the client left, or the file became shorter: no clean end */
		it->left -= n;
	}
	drop(it);	/* close delivers what was written, then the clean end */
}

/* Beneath the directory and nowhere else, whatever the path and links say; old kernels: only what lies there itself. */
static void open_file(struct item *it, const char *path)
{
	struct open_how how = { .flags = O_CLOEXEC | O_NONBLOCK, .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS };
	struct stat st;
	it->file = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	if (it->file < 0 && (errno == ENOSYS || errno == EPERM) && !strchr(path, '/'))
		it->file = openat(root, path, (int)how.flags | O_NOFOLLOW);
	if (it->file < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
		return refuse(it, BUSY);
	if (it->file < 0 || fstat(it->file, &st) || !S_ISREG(st.st_mode))
		return refuse(it, NOT_FOUND);
	it->left = st.st_size;
	watch(it, EPOLL_CTL_MOD, EPOLLOUT);
	send_some(it);
}

static void read_request(struct item *it)
{
	ssize_t n = read(it->fd, it->request + it->len, sizeof(it->request) - 1 - it->len);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0)
		return drop(it);
	it->len += (size_t)n;
	it->request[it->len] = '\0';
	size_t line = strcspn(it->request, "\r\n");
	if (line == it->len && n > 0 && it->len < sizeof(it->request) - 1)
		return;		/* more to come */
	it->request[line] = '\0';
	if (strncmp(it->request, "GET /", 5) || line == sizeof(it->request) - 1)
		return refuse(it, BAD_REQUEST);
	open_file(it, it->request + 4 + strspn(it->request + 4, "/"));
}

static int start(const char *dir, const char *host, const char *port, const struct qsock_config *cfg)
{
	struct sockaddr_in6 a;
	struct qsock_error err;
	char why[400], pin[65];
	socklen_t len = sizeof(a), pin_len = sizeof(pin);
	int listener;
	if ((root = open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0 || (epfd = epoll_create1(EPOLL_CLOEXEC)) < 0)
		return fprintf(stderr, "qserve: %s: %s\n", dir, strerror(errno));
	if ((listener = qsock_serve(host, port, cfg)) < 0) {
		qsock_error(-1, &err);
		return fprintf(stderr, "qserve: %s\n", qsock_strerror(&err, why, sizeof(why)));
	}
	fcntl(listener, F_SETFL, O_NONBLOCK);
	qsock_getsockname(listener, (struct sockaddr *)&a, &len);
	fprintf(stderr, "qserve: serving %s on UDP port %u\n", dir, ntohs(a.sin6_port));	/* IPv4 has it there too */
	if (!cfg->cert_file && !qsock_getsockopt(listener, SOL_QUIC, QSOCK_PIN, pin, &pin_len))
		fprintf(stderr, "qserve: no certificate given; to reach this server and no other:\n"
				"qget --pin %s https://HOST:%u/PATH\n", pin, ntohs(a.sin6_port));
	return add(LISTENER, listener);
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "cert", 1, NULL, 'c' }, { "key", 1, NULL, 'k' },
						 { "retry", 0, NULL, 'r' }, { NULL, 0, NULL, 0 } };
	struct qsock_config cfg = { .alpn = "hq-interop" };
	const char *host = NULL, *port = "4433";
	for (int opt; (opt = getopt_long(argc, argv, "b:p:", options, NULL)) != -1;) {
		if (opt == 'b') host = optarg;
		else if (opt == 'p') port = optarg;
		else if (opt == 'c') cfg.cert_file = optarg;
		else if (opt == 'k') cfg.key_file = optarg;
		else if (opt == 'r') cfg.flags |= QSOCK_CONFIG_RETRY;
		else optind = argc;		/* to the usage */
	}
	if (optind + 1 != argc)
		return fputs("usage: qserve [-b ADDRESS] [-p PORT] [--cert F --key F] [--retry] DIR\n", stderr), 2;
	signal(SIGPIPE, SIG_IGN);
	sigset_t quit;
	sigemptyset(&quit);
	sigaddset(&quit, SIGINT);
	sigaddset(&quit, SIGTERM);
	sigprocmask(SIG_BLOCK, &quit, NULL);
	if (start(argv[optind], host, port, &cfg) || add(SIGNALS, signalfd(-1, &quit, SFD_CLOEXEC)))
		return 1;
	for (int stop = 0; !stop;) {
		struct epoll_event ev[64];
		int n = epoll_wait(epfd, ev, 64, -1);
		for (int i = 0; i < n; i++) {
			struct item *it = ev[i].data.ptr;
			if (it->kind == SIGNALS) stop = 1;
			else if (it->kind != STREAM) accept_some(it, ev[i].events);
			else if (it->file < 0) read_request(it);
			else if (ev[i].events & (EPOLLERR | EPOLLHUP)) drop(it);
			else send_some(it);
		}
		if (starved)
			usleep(10000);	/* what cannot be accepted stays readable; the others go on */
		starved = 0;
	}
	struct item *it;
	LIST_FOREACH(it, &items, link)		/* exit would end half-sent files as if they were whole */
		if (it->kind == CONNECTION)
			qsock_close(it->fd, BUSY, "the server stops");
	return 0;
}
