/* qget: fetch files over QUIC (HTTP/0.9, ALPN hq-interop), many at once.
 *     qget [--ca FILE | --pin HASH | --insecure] [-o DIR] https://HOST[:PORT]/PATH...
 * A file is written as NAME.part and renamed at the clean end of its stream: what has its name is whole. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "qsock.h"

#define AT_ONCE 64
struct get {
	const char *url, *path, *name;	/* path and name point into url */
	char host[256], port[16], part[264];
	int conn, stream, file, asked;
};

static struct get *all;
static int dir = AT_FDCWD;
static double bytes, started, shown;
static unsigned done, failed, total;

static int parse_url(struct get *g, const char *url)
{
	*g = (struct get){ .url = url, .conn = -1, .stream = -1, .file = -1, .port = "443" };
	if (strncmp(url, "https://", 8))
		return -1;
	const char *host = url + 8, *end = host + strcspn(host, "/");
	const char *colon = memrchr(host, ':', (size_t)(end - host));
	if (colon && memchr(colon, ']', (size_t)(end - colon)))
		colon = NULL;			/* inside [::1] */
	int host_len = (int)((colon ? colon : end) - host), port_len = colon ? (int)(end - colon) - 1 : 3;
	if (!*end || host_len < 1 || host_len > 255 || port_len < 1 || port_len > 15 || strpbrk(end, "\r\n") ||
	    strlen(end) > 4000)
		return -1;
	snprintf(g->host, sizeof(g->host), "%.*s", host_len, host);
	if (colon)
		snprintf(g->port, sizeof(g->port), "%.*s", port_len, colon + 1);
	g->path = end;
	g->name = strrchr(end, '/') + 1;
	snprintf(g->part, sizeof(g->part), "%s.part", g->name);
	return !*g->name || strlen(g->name) > 250 || !strcmp(g->name, ".") || !strcmp(g->name, "..") ? -1 : 0;
}

/* fd: whose cause to tell (-1: that of qsock_dial); -2: errno tells all. */
static int fail(struct get *g, const char *what, int fd)
{
	struct qsock_error err = { .kind = QSOCK_ERR_NONE };
	char buf[400];
	const char *why = strerror(errno);
	if (fd > -2)
		qsock_error(fd, &err);
	if (err.kind == QSOCK_ERR_STREAM_RESET && err.by_peer && err.code == 404)
		why = "not found";
	else if (err.kind != QSOCK_ERR_NONE)
		why = qsock_strerror(&err, buf, sizeof(buf));
	fprintf(stderr, "%sqget: %s: %s%s%s\n", isatty(2) ? "\r\033[K" : "", g->url, what, *what ? ": " : "", why);
	if (g->stream >= 0)
		close(g->stream);
	if (g->file >= 0) {
		close(g->file);
		unlinkat(dir, g->part, 0);
	}
	g->stream = g->file = -1;
	failed++;
	return -1;
}

static int begin(struct get *g)
{
	if ((g->file = openat(dir, g->part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)) < 0)
		return fail(g, g->part, -2);
	g->stream = qsock_open_stream(g->conn, QSOCK_NONBLOCK | QSOCK_CLOEXEC);
	return g->stream < 0 ? fail(g, "cannot open a stream", g->conn) : 0;
}

static void ask(struct get *g)
{
	char line[4096];
	int len = snprintf(line, sizeof(line), "GET %s\r\n", g->path);
	ssize_t n = write(g->stream, line, (size_t)len);
	g->asked = n == len && !shutdown(g->stream, SHUT_WR);
	if (!g->asked && (n >= 0 || errno != EAGAIN))
		fail(g, "", g->stream);
}

static void finish(struct get *g)
{
	int bad = close(g->file);
	g->file = -1;
	if (bad || renameat(dir, g->part, dir, g->name)) {
		fail(g, g->name, -2);
		unlinkat(dir, g->part, 0);
	} else {
		close(g->stream);
		g->stream = -1;
		done++;
	}
}

static void receive(struct get *g)
{
	static char buf[262144];
	ssize_t n = read(g->stream, buf, sizeof(buf));
	if (n < 0 && errno != EAGAIN)
		fail(g, "", g->stream);		/* whatever came before, this is not the whole file */
	else if (n == 0)
		finish(g);
	for (ssize_t off = 0, w; off < n; off += w)
		if ((w = write(g->file, buf + off, (size_t)(n - off))) < 0)
			return (void)fail(g, g->name, -2);
	bytes += n > 0 ? (double)n : 0;
}

static void progress(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	double now = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
	if (!isatty(2) || (now - shown < 0.1 && done + failed < total))
		return;
	started = started ? started : now - 0.001;
	shown = now;
	int bar = (int)(30 * (done + failed) / total);
	fprintf(stderr, "\r\033[K[%.*s%.*s] %u/%u files, %.1f MB, %.1f MB/s%s", bar, "##############################",
		30 - bar, "..............................", done, total, bytes / 1e6, bytes / 1e6 / (now - started),
		done + failed == total ? "\n" : "");
}

static void get_all(void)
{
	struct get *active[AT_ONCE];
	struct pollfd p[AT_ONCE];
	for (unsigned n = 0, next = 0; next < total || n;) {
		for (; n < AT_ONCE && next < total; next++)
			if (!begin(&all[next]))
				active[n++] = &all[next];
		for (unsigned i = 0; i < n; i++)
			p[i] = (struct pollfd){ active[i]->stream, active[i]->asked ? POLLIN : POLLOUT, 0 };
		poll(p, n, n ? -1 : 0);
		for (unsigned i = n; i-- > 0;) {
			if (p[i].revents)
				(active[i]->asked ? receive : ask)(active[i]);
			if (active[i]->stream < 0)
				active[i] = active[--n];
		}
		progress();
	}
}

/* All files of one server come over one connection. */
static int prepare(unsigned i, const char *url, const struct qsock_config *cfg)
{
	struct get *g = &all[i];
	if (parse_url(g, url))
		return fprintf(stderr, "qget: %s: not of the form https://HOST[:PORT]/PATH with a file's name\n", url);
	for (unsigned k = 0; k < i; k++) {
		if (!strcmp(all[k].name, g->name))
			return fprintf(stderr, "qget: %s and %s would become one file\n", all[k].url, url);
		if (!strcmp(all[k].host, g->host) && !strcmp(all[k].port, g->port))
			g->conn = all[k].conn;
	}
	if (g->conn < 0 && (g->conn = qsock_dial(g->host, g->port, cfg)) < 0)
		return fail(g, "", -1);
	return 0;
}

int main(int argc, char **argv)
{
	static const struct option options[] = { { "ca", 1, NULL, 'c' }, { "pin", 1, NULL, 'p' },
						 { "insecure", 0, NULL, 'i' }, { NULL, 0, NULL, 0 } };
	struct qsock_config cfg = { .alpn = "hq-interop" };
	for (int opt; (opt = getopt_long(argc, argv, "o:", options, NULL)) != -1;) {
		if (opt == 'c') cfg.ca_file = optarg;
		else if (opt == 'p') cfg.pins = optarg;
		else if (opt == 'i') cfg.flags |= QSOCK_CONFIG_INSECURE;
		else if (opt != 'o') optind = argc;	/* to the usage */
		else if ((dir = open(optarg, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0)
			return fprintf(stderr, "qget: %s: %m\n", optarg), 1;
	}
	if (optind == argc)
		return fprintf(stderr, "usage: qget [--ca FILE | --pin HASH | --insecure] [-o DIR] URL...\n"), 2;
	total = (unsigned)(argc - optind);
	all = calloc(total, sizeof(*all));
	signal(SIGPIPE, SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);
	for (unsigned i = 0; i < total; i++)
		if (!all || prepare(i, argv[optind + (int)i], &cfg))
			return 1;
	get_all();
	return failed != 0;
}
