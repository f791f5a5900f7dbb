/* libqsock through its public calls: blocking descriptors, and epoll where many streams go on at once. The server makes
 * its own certificate, the client knows it by its pin. */
#include "bench.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/epoll.h>

#include "qsock.h"

#define MANY_STREAMS 100000	/* the server's stream limit where many are held */

struct ch {
	int fd;
};

static char service[8];
static struct qsock_config client_config;
static atomic_long resumed;
static int listener, connection;

static void die_qsock(int fd, const char *what)
{
	struct qsock_error err;
	char text[400];
	int saved = errno;

	if (qsock_error(fd, &err) == 0)
		fprintf(stderr, "bench: %s\n", qsock_strerror(&err, text, sizeof(text)));
	errno = saved;
	die("%s", what);
}

/* ---- streams ------------------------------------------------------------------------ */

static ssize_t ch_read(struct ch *c, void *buf, size_t len)
{
	return read(c->fd, buf, len);
}

static ssize_t ch_write(struct ch *c, const void *buf, size_t len)
{
	return write(c->fd, buf, len);
}

static void ch_finish(struct ch *c)
{
	shutdown(c->fd, SHUT_WR);
}

static struct ch stream_open(int conn, int flags)
{
	struct ch c = {qsock_open_stream(conn, flags)};

	if (c.fd < 0)
		die_qsock(conn, "qsock_open_stream");
	return c;
}

/* ---- connections -------------------------------------------------------------------- */

static void listen_and_say(int hello_fd, const struct qsock_config *cfg)
{
	struct hello h = {0};
	struct sockaddr_in addr = {0};
	socklen_t len = sizeof(addr), pin_len = sizeof(h.pin);

	signal(SIGPIPE, SIG_IGN);
	listener = qsock_serve("127.0.0.1", "0", cfg);
	if (listener < 0)
		die_qsock(-1, "qsock_serve");
	if (qsock_getsockname(listener, (struct sockaddr *)&addr, &len) ||
	    qsock_getsockopt(listener, SOL_QUIC, QSOCK_PIN, h.pin, &pin_len))
		die_qsock(listener, "address or pin");
	h.port = ntohs(addr.sin_port);
	hello_send(hello_fd, &h);
}

static int server_accept(void)
{
	int conn = qsock_accept(listener, NULL, NULL);

	if (conn < 0)
		die_qsock(listener, "qsock_accept");
	return conn;
}

static struct ch server_accept_stream(int conn)
{
	struct ch c = {qsock_accept_stream(conn, 0)};

	if (c.fd < 0)
		die_qsock(conn, "qsock_accept_stream");
	return c;
}

static void client_init(const struct server *s)
{
	signal(SIGPIPE, SIG_IGN);
	snprintf(service, sizeof(service), "%u", s->hello.port);
	client_config.pins = s->hello.pin;
}

static int client_dial(const struct qsock_config *cfg)
{
	int conn = qsock_dial("127.0.0.1", service, cfg);

	if (conn < 0)
		die_qsock(-1, "qsock_dial");
	return conn;
}

static const char *note_of(int fd)
{
	static char note[64];
	struct qsock_info info = {.size = sizeof(info)};

	if (qsock_info(fd, &info))
		return "";
	snprintf(note, sizeof(note), "suite_%04x,mtu_%u,lost_%llu", info.cipher_suite, info.mtu,
		 (unsigned long long)info.packets_lost);
	return note;
}

/* ---- bulk and requests on one stream --------------------------------------------------- */

static struct ch serve_stream(int hello_fd)
{
	listen_and_say(hello_fd, NULL);
	connection = server_accept();
	return server_accept_stream(connection);
}

static void serve_bulk_down(int hello_fd, double amount)
{
	struct ch c = serve_stream(hello_fd);

	bulk_down_serve(&c);
}

static void serve_bulk_up(int hello_fd, double amount)
{
	struct ch c = serve_stream(hello_fd);

	bulk_up_serve(&c);
}

static void measure_bulk(const struct figure *f, const struct server *s, double bytes)
{
	struct span sp;
	struct ch c;

	client_init(s);
	connection = client_dial(&client_config);
	c = stream_open(connection, 0);
	sp = span_begin(s);
	if (f->serve == serve_bulk_down)
		bulk_down_fetch(&c, (uint64_t)bytes);
	else
		bulk_up_push(&c, (uint64_t)bytes);
	span_end(&sp);
	report_bulk(f->name, &sp, bytes, note_of(connection));
}

static void serve_echo(int hello_fd, double amount)
{
	struct ch c = serve_stream(hello_fd);

	echo_serve(&c);
}

static void measure_echo(const struct figure *f, const struct server *s, double seconds)
{
	struct span sp;
	struct ch c;
	double until;
	long count = 0;

	client_init(s);
	connection = client_dial(&client_config);
	c = stream_open(connection, 0);
	for (until = now_s() + 0.1; now_s() < until;)
		echo_ask(&c);
	sp = span_begin(s);
	for (until = sp.t_0 + seconds; now_s() < until; count++)
		echo_ask(&c);
	span_end(&sp);
	report_rate(f->name, &sp, (double)count, note_of(connection));
}

/* ---- a fresh stream for each request: request, end; response, end ------------------------- */

static void serve_fresh(int hello_fd, double amount)
{
	uint8_t message[MESSAGE], more;
	struct ch c;

	listen_and_say(hello_fd, NULL);
	connection = server_accept();
	for (;;) {
		c = server_accept_stream(connection);
		if (!ch_read_all(&c, message, sizeof(message)) || ch_read(&c, &more, 1) != 0 ||
		    !ch_write_all(&c, message, sizeof(message)))
			die("request on a fresh stream");
		close(c.fd);
	}
}

static void fresh_ask(void)
{
	struct ch c = stream_open(connection, 0);
	uint8_t more;

	if (!ch_write_all(&c, (uint8_t[MESSAGE]){0}, MESSAGE))
		die("request on a fresh stream");
	ch_finish(&c);
	if (!ch_read_all(&c, (uint8_t[MESSAGE]){0}, MESSAGE) || ch_read(&c, &more, 1) != 0)
		die("response on a fresh stream");
	close(c.fd);
}

static void measure_fresh(const struct figure *f, const struct server *s, double seconds)
{
	struct span sp;
	double until;
	long count = 0;

	client_init(s);
	connection = client_dial(&client_config);
	for (until = now_s() + 0.1; now_s() < until;)
		fresh_ask();
	sp = span_begin(s);
	for (until = sp.t_0 + seconds; now_s() < until; count++)
		fresh_ask();
	span_end(&sp);
	report_rate(f->name, &sp, (double)count, note_of(connection));
}

/* ---- the same, many at once, by epoll --------------------------------------------------- */

struct task {
	int fd;
	bool asked;	/* client: the request is written */
	size_t got;
};

static void task_watch(int ep, struct task *t, int op, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = t};

	if (epoll_ctl(ep, op, t->fd, &ev))
		die("epoll_ctl");
}

/* Read what is there. 1: the end has come, 0: not yet. */
static int task_read(struct task *t)
{
	uint8_t buf[MESSAGE + 1];
	ssize_t n;

	for (;;) {
		n = read(t->fd, buf, sizeof(buf));
		if (n > 0) {
			t->got += (size_t)n;
			continue;
		}
		if (n == 0 && t->got == MESSAGE)
			return 1;
		if (n < 0 && errno == EAGAIN)
			return 0;
		die("stream: %zd, %zu bytes before", n, t->got);
	}
}

/* Taken off the list by hand: the engine may not have let go of its own copy of the descriptor yet, and while there is
 * one, close() does not do it. */
static void task_close(int ep, struct task *t)
{
	epoll_ctl(ep, EPOLL_CTL_DEL, t->fd, NULL);
	close(t->fd);
}

static void server_task_run(int ep, struct task *t)
{
	static const uint8_t message[MESSAGE];

	if (!task_read(t))
		return;
	if (write(t->fd, message, sizeof(message)) != MESSAGE)
		die("response");
	task_close(ep, t);
	free(t);
}

static void server_tasks_accept(int ep)
{
	struct task *t;
	int fd;

	while ((fd = qsock_accept_stream(connection, QSOCK_NONBLOCK)) >= 0) {
		t = calloc(1, sizeof(*t));
		if (!t)
			die("calloc");
		t->fd = fd;
		task_watch(ep, t, EPOLL_CTL_ADD, EPOLLIN);
	}
	if (errno != EAGAIN)
		die_qsock(connection, "qsock_accept_stream");
}

static void serve_many(int hello_fd, double amount)
{
	struct epoll_event ev[AT_ONCE + 1];
	struct task door = {0};
	int i, n, ep = epoll_create1(0);

	listen_and_say(hello_fd, NULL);
	connection = door.fd = server_accept();
	fcntl(connection, F_SETFL, O_NONBLOCK);
	task_watch(ep, &door, EPOLL_CTL_ADD, EPOLLIN);
	for (;;) {
		n = epoll_wait(ep, ev, AT_ONCE + 1, -1);
		for (i = 0; i < n; i++) {
			if (ev[i].data.ptr == &door)
				server_tasks_accept(ep);
			else
				server_task_run(ep, ev[i].data.ptr);
		}
	}
}

/* 1: the response is complete. */
static int client_task_run(int ep, struct task *t)
{
	static const uint8_t message[MESSAGE];

	if (t->asked)
		return task_read(t);
	if (write(t->fd, message, sizeof(message)) != MESSAGE) {
		if (errno == EAGAIN)
			return 0;
		die("request");
	}
	shutdown(t->fd, SHUT_WR);
	t->asked = true;
	task_watch(ep, t, EPOLL_CTL_MOD, EPOLLIN);
	return 0;
}

/* Most streams exist at once, so the request goes out without asking for writability first. */
static void client_task_begin(int ep, struct task *t)
{
	static const uint8_t message[MESSAGE];

	*t = (struct task){.fd = stream_open(connection, QSOCK_NONBLOCK).fd};
	t->asked = write(t->fd, message, sizeof(message)) == MESSAGE;
	if (t->asked)
		shutdown(t->fd, SHUT_WR);
	else if (errno != EAGAIN)
		die("request");
	task_watch(ep, t, EPOLL_CTL_ADD, t->asked ? EPOLLIN : EPOLLOUT);
}

static long many_until(int ep, double until)
{
	struct epoll_event ev[AT_ONCE];
	struct task *t;
	long count = 0;
	int i, n;

	while (now_s() < until) {
		n = epoll_wait(ep, ev, AT_ONCE, 1000);
		for (i = 0; i < n; i++) {
			t = ev[i].data.ptr;
			if (!client_task_run(ep, t))
				continue;
			count++;
			task_close(ep, t);
			client_task_begin(ep, t);
		}
	}
	return count;
}

static void measure_many(const struct figure *f, const struct server *s, double seconds)
{
	static struct task tasks[AT_ONCE];
	struct span sp;
	long count;
	int i, ep = epoll_create1(0);

	client_init(s);
	connection = client_dial(&client_config);
	for (i = 0; i < AT_ONCE; i++)
		client_task_begin(ep, &tasks[i]);
	many_until(ep, now_s() + 0.1);
	sp = span_begin(s);
	count = many_until(ep, sp.t_0 + seconds);
	span_end(&sp);
	report_rate(f->name, &sp, (double)count, note_of(connection));
}

/* ---- handshakes: the server ends each connection, the client waits for that ------------------- */

static void serve_handshakes(int hello_fd, double amount)
{
	listen_and_say(hello_fd, NULL);
	for (;;)
		close(server_accept());
}

static void handshake_once(int number)
{
	struct qsock_info info = {.size = sizeof(info)};
	int conn = client_dial(&client_config);

	if (qsock_info(conn, &info) == 0 && info.resumed)
		atomic_fetch_add(&resumed, 1);
	if (qsock_accept_stream(conn, 0) >= 0 || errno != ENOTCONN)
		die_qsock(conn, "the server's end");
	close(conn);
}

static void measure_handshakes(const struct figure *f, const struct server *s, double seconds)
{
	struct span sp;
	char note[64];
	long count;

	client_init(s);
	if (!strstr(f->name, "resumed"))
		client_config.flags |= QSOCK_CONFIG_NO_RESUMPTION;
	crowd_run(handshake_once, now_s() + 0.1, 0);
	atomic_store(&resumed, 0);
	sp = span_begin(s);
	count = crowd_run(handshake_once, sp.t_0 + seconds, 0);
	span_end(&sp);
	snprintf(note, sizeof(note), "%.0f%%_resumed", 100.0 * (double)atomic_load(&resumed) / (double)count);
	report_rate(f->name, &sp, (double)count, note);
}

/* ---- memory of connections: a stream was there, one byte went to and fro, then nothing ----------- */

static void *hold_worker(void *arg)
{
	struct ch c;
	char byte;

	for (;;) {
		c = server_accept_stream(server_accept());	/* the connection stays open: nobody closes it */
		if (!ch_read_all(&c, &byte, 1) || !ch_write_all(&c, &byte, 1))
			die("greeting");
		close(c.fd);
	}
	return NULL;
}

static void serve_hold(int hello_fd, double amount)
{
	int i;

	listen_and_say(hello_fd, &(struct qsock_config){.idle_timeout_ms = UINT32_MAX});
	for (i = 0; i < HANDSHAKES_AT_ONCE; i++)
		thread_start(hold_worker, NULL);
}

static void greet(struct ch *c)
{
	char byte = 0;

	if (!ch_write_all(c, &byte, 1) || !ch_read_all(c, &byte, 1))
		die("greeting");
}

static void hold_once(int number)
{
	struct ch c = stream_open(client_dial(&client_config), 0);

	greet(&c);
	close(c.fd);
}

static void measure_hold(const struct figure *f, const struct server *s, double wanted)
{
	struct usage server_0, client_0;
	double count = many_within_limits(wanted);
	char note[64];

	client_init(s);
	client_config.idle_timeout_ms = UINT32_MAX;
	crowd_run(hold_once, 0, WARM_UP);
	sleep_ms(SETTLE_MS);
	server_0 = server_usage(s);
	client_0 = usage_now();
	crowd_run(hold_once, 0, (long)count);
	snprintf(note, sizeof(note), "at_%.0f", count);
	report_memory(f->name, s, server_0, client_0, count, note);
}

/* ---- memory of streams of one connection: one byte to and fro, then nothing ---------------------- */

static void serve_hold_streams(int hello_fd, double amount)
{
	struct ch c;
	char byte;

	listen_and_say(hello_fd, &(struct qsock_config){.max_streams_bidi = MANY_STREAMS});
	connection = server_accept();
	for (;;) {
		c = server_accept_stream(connection);
		if (!ch_read_all(&c, &byte, 1) || !ch_write_all(&c, &byte, 1))
			die("greeting");
	}
}

static void hold_streams(long count)
{
	struct ch c;

	for (; count > 0; count--) {
		c = stream_open(connection, 0);
		greet(&c);
	}
}

static void measure_hold_streams(const struct figure *f, const struct server *s, double wanted)
{
	struct usage server_0, client_0;
	double count = many_within_limits(wanted);
	char note[64];

	client_init(s);
	connection = client_dial(&client_config);
	hold_streams(WARM_UP);
	sleep_ms(SETTLE_MS);
	server_0 = server_usage(s);
	client_0 = usage_now();
	hold_streams((long)count);
	snprintf(note, sizeof(note), "at_%.0f", count);
	report_memory(f->name, s, server_0, client_0, count, note);
}

static const struct figure figures[] = {
	{"bulk_down", serve_bulk_down, measure_bulk, 1073741824},
	{"bulk_up", serve_bulk_up, measure_bulk, 1073741824},
	{"rr_one_stream", serve_echo, measure_echo, 1},
	{"rr_fresh_stream", serve_fresh, measure_fresh, 1},
	{"rr_fresh_stream_64", serve_many, measure_many, 1},
	{"handshake_full_16", serve_handshakes, measure_handshakes, 1.5},
	{"handshake_resumed_16", serve_handshakes, measure_handshakes, 1.5},
	{"mem_idle_connection", serve_hold, measure_hold, 10000},
	{"mem_idle_stream", serve_hold_streams, measure_hold_streams, 10000},
};

int main(int argc, char **argv)
{
	return bench_main(argc, argv, figures, sizeof(figures) / sizeof(figures[0]));
}
