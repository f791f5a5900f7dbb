/* What both benchmark programs share: two processes, a control pipe between them, clocks, and the drivers of every
 * figure. quic.c and tls.c say only how a connection and a stream are made, so that the same thing is measured in the
 * same structure.
 *
 * usage: quic|tls FIGURE [AMOUNT]. Prints "FIGURE VALUE SERVER CLIENT NOTE": SERVER and CLIENT are CPU seconds per GB (bulk),
 * CPU microseconds per operation (requests, handshakes), KB per connection or stream (memory). */
#ifndef BENCH_H
#define BENCH_H

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MESSAGE 64		/* bytes of a request, and of its response */
#define CHUNK (256 * 1024)	/* bytes of one read or write in bulk */
#define AT_ONCE 64		/* fresh streams at once */
#define HANDSHAKES_AT_ONCE 16
#define WARM_UP 48		/* connections or streams before memory is measured: what is made once is made by then */
#define SETTLE_MS 500		/* before memory is measured: handshakes leave things behind for a while */

static inline void die(const char *fmt, ...)
{
	va_list ap;
	int err = errno;

	va_start(ap, fmt);
	fprintf(stderr, "bench: ");
	vfprintf(stderr, fmt, ap);
	fprintf(stderr, " (errno %d, %s)\n", err, strerror(err));
	va_end(ap);
	_exit(1);
}

static inline double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static inline void sleep_ms(long ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000};

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

/* ---- what a process has used ---------------------------------------------------- */

struct usage {
	double cpu_s;	/* user and system, all threads */
	double rss_kb;
};

static inline struct usage usage_now(void)
{
	struct usage u = {0};
	struct rusage r;
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (!f || fscanf(f, "%*d %ld", &pages) != 1)
		die("/proc/self/statm");
	fclose(f);
	getrusage(RUSAGE_SELF, &r);
	u.cpu_s = (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6;
	u.rss_kb = (double)pages * (double)sysconf(_SC_PAGESIZE) / 1024;
	return u;
}

/* ---- the server's process --------------------------------------------------------- */

struct hello {
	uint16_t port;
	char pin[65];	/* quic: of the server's key */
};

struct server {
	pid_t pid;
	int to, from;	/* a byte asks for a struct usage; the end of the pipe ends the process */
	struct hello hello;
};

typedef void (*serve_fn)(int hello_fd, double amount);

struct serve_job {
	serve_fn serve;
	int fd;
	double amount;
};

static inline void *serve_thread(void *arg)
{
	struct serve_job *job = arg;

	job->serve(job->fd, job->amount);
	return NULL;
}

static inline void hello_send(int fd, const struct hello *h)
{
	if (write(fd, h, sizeof(*h)) != (ssize_t)sizeof(*h))
		die("hello");
}

static inline void thread_start(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, arg))
		die("thread");
	pthread_detach(t);
}

static inline void server_main(struct serve_job *job, int in)
{
	struct usage u;
	char c;

	prctl(PR_SET_NAME, "bench-server");
	thread_start(serve_thread, job);
	while (read(in, &c, 1) == 1) {
		u = usage_now();
		if (write(job->fd, &u, sizeof(u)) != (ssize_t)sizeof(u))
			die("control pipe");
	}
	_exit(0);
}

/* To be called before anything of the library has run in this process. */
static inline struct server server_start(serve_fn serve, double amount)
{
	struct server s;
	struct serve_job job;
	int to[2], from[2];

	if (pipe(to) || pipe(from))
		die("pipe");
	s.pid = fork();
	if (s.pid < 0)
		die("fork");
	if (s.pid == 0) {
		close(to[1]);
		close(from[0]);
		job = (struct serve_job){serve, from[1], amount};
		server_main(&job, to[0]);
	}
	prctl(PR_SET_NAME, "bench-client");
	close(to[0]);
	close(from[1]);
	s.to = to[1];
	s.from = from[0];
	if (read(s.from, &s.hello, sizeof(s.hello)) != (ssize_t)sizeof(s.hello))
		die("the server did not start");
	return s;
}

static inline struct usage server_usage(const struct server *s)
{
	struct usage u;

	if (write(s->to, "u", 1) != 1 || read(s->from, &u, sizeof(u)) != (ssize_t)sizeof(u))
		die("the server is gone");
	return u;
}

/* Time and CPU between two moments. */
struct span {
	const struct server *server;
	struct usage server_0, client_0;
	double t_0;
	double wall_s, server_s, client_s;
};

static inline struct span span_begin(const struct server *s)
{
	struct span sp = {.server = s, .server_0 = server_usage(s), .client_0 = usage_now()};

	sp.t_0 = now_s();
	return sp;
}

static inline void span_end(struct span *sp)
{
	sp->wall_s = now_s() - sp->t_0;
	sp->client_s = usage_now().cpu_s - sp->client_0.cpu_s;
	sp->server_s = server_usage(sp->server).cpu_s - sp->server_0.cpu_s;
}

/* ---- a byte stream: a descriptor here, an SSL there --------------------------------- */

struct ch;
static ssize_t ch_read(struct ch *c, void *buf, size_t len);	/* 0: end; -1: error. Blocks */
static ssize_t ch_write(struct ch *c, const void *buf, size_t len);
static void ch_finish(struct ch *c);	/* no more from this side */

static inline bool ch_read_all(struct ch *c, void *buf, size_t len)
{
	size_t got = 0;
	ssize_t n;

	for (; got < len; got += (size_t)n) {
		n = ch_read(c, (char *)buf + got, len - got);
		if (n <= 0)
			return false;
	}
	return true;
}

static inline bool ch_write_all(struct ch *c, const void *buf, size_t len)
{
	size_t done = 0;
	ssize_t n;

	for (; done < len; done += (size_t)n) {
		n = ch_write(c, (const char *)buf + done, len - done);
		if (n <= 0)
			return false;
	}
	return true;
}

static inline void bulk_send(struct ch *c, uint64_t total)
{
	static uint8_t buf[CHUNK];
	uint64_t done = 0, n;

	for (; done < total; done += n) {
		n = total - done < sizeof(buf) ? total - done : sizeof(buf);
		memset(buf, (int)(done >> 20), 64);
		if (!ch_write_all(c, buf, (size_t)n))
			die("bulk write after %llu bytes", (unsigned long long)done);
	}
	ch_finish(c);
}

static inline void bulk_receive(struct ch *c, uint64_t total)
{
	static uint8_t buf[CHUNK];
	uint64_t got = 0;
	ssize_t n;

	while ((n = ch_read(c, buf, sizeof(buf))) > 0)
		got += (uint64_t)n;
	if (n < 0 || got != total)
		die("bulk read: %llu bytes of %llu", (unsigned long long)got, (unsigned long long)total);
}

/* The client says how much; it comes, with an end. */
static inline void bulk_down_serve(struct ch *c)
{
	uint64_t total;

	if (!ch_read_all(c, &total, sizeof(total)))
		die("no request");
	bulk_send(c, total);
}

static inline void bulk_down_fetch(struct ch *c, uint64_t total)
{
	if (!ch_write_all(c, &total, sizeof(total)))
		die("request");
	bulk_receive(c, total);
}

/* The client says how much and sends it, with an end; one byte comes back when all has arrived. */
static inline void bulk_up_serve(struct ch *c)
{
	uint64_t total;

	if (!ch_read_all(c, &total, sizeof(total)))
		die("no request");
	bulk_receive(c, total);
	if (!ch_write_all(c, "!", 1))
		die("answer");
	ch_finish(c);
}

static inline void bulk_up_push(struct ch *c, uint64_t total)
{
	char answer;

	if (!ch_write_all(c, &total, sizeof(total)))
		die("request");
	bulk_send(c, total);
	if (!ch_read_all(c, &answer, 1))
		die("no answer");
}

static inline void echo_serve(struct ch *c)
{
	uint8_t message[MESSAGE];

	while (ch_read_all(c, message, sizeof(message)) && ch_write_all(c, message, sizeof(message)))
		;
}

static inline void echo_ask(struct ch *c)
{
	uint8_t message[MESSAGE] = {0};

	if (!ch_write_all(c, message, sizeof(message)) || !ch_read_all(c, message, sizeof(message)))
		die("request");
}

/* ---- reports ---------------------------------------------------------------------- */

static inline void report_bulk(const char *name, const struct span *sp, double bytes, const char *note)
{
	printf("%s %.3f %.3f %.3f %s\n", name, bytes * 8 / 1e9 / sp->wall_s, sp->server_s / (bytes / 1e9),
	       sp->client_s / (bytes / 1e9), note);
}

static inline void report_rate(const char *name, const struct span *sp, double count, const char *note)
{
	printf("%s %.1f %.2f %.2f %s\n", name, count / sp->wall_s, sp->server_s / count * 1e6,
	       sp->client_s / count * 1e6, note);
}

static inline void report_memory(const char *name, const struct server *s, struct usage server_0, struct usage client_0,
				 double count, const char *note)
{
	double server_kb, client_kb;

	sleep_ms(SETTLE_MS);
	server_kb = (server_usage(s).rss_kb - server_0.rss_kb) / count;
	client_kb = (usage_now().rss_kb - client_0.rss_kb) / count;
	printf("%s %.2f %.2f %.2f %s\n", name, server_kb > client_kb ? server_kb : client_kb, server_kb, client_kb, note);
}

/* ---- threads that do a thing again and again ------------------------------------------ */

struct crowd {
	void (*once)(int number);	/* number of the thread */
	atomic_long left;		/* how often still; used when until is 0 */
	atomic_long done;
	double until;
};

struct crowd_member {
	struct crowd *crowd;
	int number;
	pthread_t thread;
};

static inline void *crowd_thread(void *arg)
{
	struct crowd_member *m = arg;
	struct crowd *c = m->crowd;

	while (c->until != 0 ? now_s() < c->until : atomic_fetch_sub(&c->left, 1) > 0) {
		c->once(m->number);
		atomic_fetch_add(&c->done, 1);
	}
	return NULL;
}

/* HANDSHAKES_AT_ONCE threads do it until that moment (until != 0) or count times. Returns how often it was done. */
static inline long crowd_run(void (*once)(int), double until, long count)
{
	struct crowd c = {.once = once, .until = until};
	struct crowd_member m[HANDSHAKES_AT_ONCE];
	int i;

	atomic_init(&c.left, count);
	atomic_init(&c.done, 0);
	for (i = 0; i < HANDSHAKES_AT_ONCE; i++) {
		m[i] = (struct crowd_member){.crowd = &c, .number = i};
		if (pthread_create(&m[i].thread, NULL, crowd_thread, &m[i]))
			die("thread");
	}
	for (i = 0; i < HANDSHAKES_AT_ONCE; i++)
		pthread_join(m[i].thread, NULL);
	return atomic_load(&c.done);
}

/* ---- main --------------------------------------------------------------------------- */

struct figure {
	const char *name;
	serve_fn serve;
	void (*measure)(const struct figure *f, const struct server *s, double amount);
	double amount;	/* default: bytes, seconds, or how many */
};

static inline void raise_fd_limit(void)
{
	struct rlimit r;

	getrlimit(RLIMIT_NOFILE, &r);
	if (r.rlim_max < 40000) {
		r.rlim_cur = r.rlim_max = 40000;	/* the superuser may */
		if (setrlimit(RLIMIT_NOFILE, &r) == 0)
			return;
		getrlimit(RLIMIT_NOFILE, &r);
	}
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
}

/* As many idle connections or streams as wanted and the limits allow; each takes one descriptor in the application's table. */
static inline double many_within_limits(double wanted)
{
	struct rlimit r;
	double most;

	getrlimit(RLIMIT_NOFILE, &r);
	most = (double)r.rlim_cur - 200 - WARM_UP;
	return wanted < most ? wanted : most;
}

static inline int bench_main(int argc, char **argv, const struct figure *figures, size_t count)
{
	struct server s;
	double amount;
	size_t i;

	for (i = 0; argc > 1 && i < count && strcmp(figures[i].name, argv[1]); i++)
		;
	if (argc < 2 || i == count) {
		fprintf(stderr, "usage: %s FIGURE [AMOUNT]\n", argv[0]);
		for (i = 0; i < count; i++)
			fprintf(stderr, "  %s\n", figures[i].name);
		return 2;
	}
	raise_fd_limit();
	amount = argc > 2 ? atof(argv[2]) : figures[i].amount;
	s = server_start(figures[i].serve, amount);
	figures[i].measure(&figures[i], &s, amount);
	fflush(stdout);
	close(s.to);
	waitpid(s.pid, NULL, 0);
	_exit(0);	/* nothing to deliver any more, so no linger */
}

#endif
