/* Back-pressure in both directions within the stated bounds, bulk data, and many streams. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "sock/sock.h"
#include "support/programs.h"

#ifdef __SANITIZE_THREAD__
#define SLOW 8
#elif defined(__SANITIZE_ADDRESS__)
#define SLOW 4
#else
#define SLOW 1
#endif

#define WINDOW (128 << 10)
#define SEND_BUFFER (256 << 10)
/* What include/qsock.h states for one stream: both descriptors' buffers, the receive window, the send buffer. */
#define STREAM_CAP (2 * PAIR_BUFFER + WINDOW + SEND_BUFFER)

static uint8_t pattern(size_t i) { return (uint8_t)(i * 2654435761u >> 24); }

static void make_pattern(uint8_t *buf, size_t off, size_t n)
{
	for (size_t i = 0; i < n; i++)
		buf[i] = pattern(off + i);
}

/* Write to a nonblocking descriptor until it has had no room for a while; bytes taken in all. */
static size_t stuff(int fd, size_t sent)
{
	uint8_t buf[32768];
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	while (poll(&p, 1, 400)) {
		CHECK(p.revents == POLLOUT);
		make_pattern(buf, sent, sizeof(buf));
		ssize_t n = write(fd, buf, sizeof(buf));
		CHECK(n > 0 || errno == EAGAIN);
		if (n > 0)
			sent += (size_t)n;
		CHECK(sent < 64 << 20);
	}
	return sent;
}

/* Read everything and check it; bytes. The end has to be clean. */
static size_t read_pattern(int fd, size_t off)
{
	static _Thread_local uint8_t buf[65536], want[65536];
	for (;;) {
		ssize_t n = read(fd, buf, sizeof(buf));
		if (n <= 0) {
			CHECK(n == 0);
			return off;
		}
		make_pattern(want, off, (size_t)n);
		CHECK(!memcmp(buf, want, (size_t)n));
		off += (size_t)n;
	}
}

static int c[2], s[2];

static void open_small(struct loopback *lb)
{
	lb->server.stream_window = lb->server.stream_window_max = WINDOW;
	lb->client.stream_window = lb->client.stream_window_max = WINDOW;
	lb->server.send_buffer = lb->client.send_buffer = SEND_BUFFER;
	loopback_listen(lb);
	loopback_pair(lb, c);
	loopback_stream(c, s, 0);
}

static void close_all(void)
{
	close_both(s);
	close_both(c);
}

/* w writes, r does not read: w gets EAGAIN after no more than the cap, and everything when r goes on. */
static void pressure(int w, int r)
{
	fcntl(w, F_SETFL, O_NONBLOCK);
	size_t sent = stuff(w, 0);
	assert_in_range(sent, WINDOW, STREAM_CAP);
	assert_int_equal(stuff(w, sent), sent);
	assert_int_equal(poll_now(w, POLLOUT), 0);
	/* Some is read: there is room again, and no more than that. */
	uint8_t *some = malloc(sent / 2);
	int end;
	assert_int_equal(read_upto(r, some, sent / 2, &end), sent / 2);
	for (size_t i = 0; i < sent / 2; i++)
		assert_int_equal(some[i], pattern(i));
	free(some);
	assert_int_equal(wait_for(w, POLLOUT), POLLOUT);
	size_t more = stuff(w, sent);
	assert_true(more > sent);
	assert_true(more - sent / 2 <= STREAM_CAP);
	fcntl(w, F_SETFL, 0);
	shutdown(w, SHUT_WR);
	assert_int_equal(read_pattern(r, sent / 2), more);
}

static void write__nobody_reads__eagain_within_the_cap(void **state)
{
	open_small(*state);
	pressure(s[0], s[1]);
	pressure(s[1], s[0]);
	close_all();
}

/* One that blocks, in its place. */
static void *blocking_writer(void *arg)
{
	uint8_t buf[100000];
	for (size_t off = 0; off < 4000000; off += sizeof(buf)) {
		make_pattern(buf, off, sizeof(buf));
		write_all(*(int *)arg, buf, sizeof(buf));
	}
	shutdown(*(int *)arg, SHUT_WR);
	return NULL;
}

static void write__blocking_and_nobody_reads__waits_and_goes_on(void **state)
{
	pthread_t t;
	open_small(*state);
	assert_int_equal(pthread_create(&t, NULL, blocking_writer, &s[0]), 0);
	assert_int_equal(read_pattern(s[1], 0), 4000000);
	pthread_join(t, NULL);
	close_all();
}

static void write__so_sndtimeo__eagain(void **state)
{
	struct timeval tv = { .tv_usec = 100000 };
	uint8_t buf[65536] = { 0 };
	ssize_t n;
	open_small(*state);
	assert_int_equal(setsockopt(s[0], SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), 0);
	assert_int_equal(setsockopt(s[0], SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
	assert_int_equal(read(s[0], buf, 1), -1);
	assert_int_equal(errno, EAGAIN);
	size_t sum = 0;
	while ((n = write(s[0], buf, sizeof(buf))) > 0)
		assert_true((sum += (size_t)n) < 64 << 20);
	assert_int_equal(errno, EAGAIN);
	close_all();
}

/* ---- memory of a whole connection -------------------------------------------------------- */

#define STREAMS 40
#define CONN_WINDOW (1 << 20)

/* As much as it can, on many streams; says how much that was in all, and goes on when told. */
static int run_pusher(struct loopback *lb, int fd)
{
	int conn = loopback_connect(lb), st[STREAMS];
	size_t sent[STREAMS], sum = 0;
	for (int i = 0; i < STREAMS; i++) {
		st[i] = qsock_open_stream(conn, QSOCK_NONBLOCK);
		CHECK(st[i] >= 0);
		sent[i] = 0;
	}
	for (int i = 0; i < STREAMS; i++) {
		uint8_t buf[65536];
		struct pollfd p = { .fd = st[i], .events = POLLOUT };
		while (poll(&p, 1, i ? 20 : 400)) {
			make_pattern(buf, sent[i], sizeof(buf));
			ssize_t n = write(st[i], buf, sizeof(buf));
			CHECK(n > 0 || errno == EAGAIN);
			if (n > 0)
				sent[i] += (size_t)n;
			CHECK(sent[i] < 32 << 20);
		}
		sum += sent[i];
	}
	CHECK(write(fd, &sum, sizeof(sum)) == sizeof(sum));
	CHECK(hear(fd, 'g'));
	for (int i = 0; i < STREAMS; i++) {
		fcntl(st[i], F_SETFL, 0);
		shutdown(st[i], SHUT_WR);
	}
	for (int i = 0; i < STREAMS; i++)
		CHECK(read(st[i], &(char){ 0 }, 1) == 0);
	return 0;
}

/* From whichever has something, as all share the connection's window; closes each at its end. */
static size_t read_all(const int *st)
{
	static uint8_t buf[65536];
	struct pollfd p[STREAMS];
	size_t off[STREAMS] = { 0 }, sum = 0;
	for (int i = 0; i < STREAMS; i++)
		p[i] = (struct pollfd){ .fd = st[i], .events = POLLIN };
	for (int open = STREAMS; open;) {
		assert_true(poll(p, STREAMS, -1) > 0);
		for (int i = 0; i < STREAMS; i++) {
			if (!p[i].revents)
				continue;
			ssize_t n = read(p[i].fd, buf, sizeof(buf));
			assert_true(n >= 0);
			for (ssize_t k = 0; k < n; k++)
				CHECK(buf[k] == pattern(off[i] + (size_t)k));
			off[i] += (size_t)n;
			sum += (size_t)n;
			if (n)
				continue;
			close(p[i].fd);
			p[i].fd = -1;
			open--;
		}
	}
	return sum;
}

static size_t heap(void)
{
	struct mallinfo2 m = mallinfo2();
	return m.uordblks + m.hblkhd;
}

static void receive__nobody_reads__heap_within_conn_window(void **state)
{
	struct loopback *lb = *state;
	int fd, st[STREAMS];
	size_t sum, got = 0;
	lb->server.conn_window = lb->server.conn_window_max = CONN_WINDOW;
	lb->server.stream_window = lb->server.stream_window_max = CONN_WINDOW;
	loopback_listen(lb);
	size_t before = heap();
	pid_t child = role_start(lb, "pusher", &fd);
	int conn = qsock_accept(lb->listener, NULL, NULL);
	for (int i = 0; i < STREAMS; i++)
		assert_true((st[i] = qsock_accept_stream(conn, 0)) >= 0);
	assert_int_equal(read(fd, &sum, sizeof(sum)), sizeof(sum));
	size_t after = heap();
	assert_true(sum > 4 * CONN_WINDOW);	/* the pusher holds most of it itself */
#if SLOW == 1
	/* the window, what blocks of it cost at worst, and objects */
	if (after > before + 2 * CONN_WINDOW)
		fail_msg("%zu bytes more than before", after - before);
#else
	(void)before, (void)after;
#endif
	say(fd, 'g');
	got = read_all(st);
	assert_int_equal(got, sum);
	assert_int_equal(wait_child(child), 0);
	close(conn);
	close(fd);
}

/* ---- slow readers ---------------------------------------------------------------------------- */

/* Blocked by flow control for several idle timeouts: the writer keeps the connection alive. RFC 9000 4.1 */
static void reader__slower_than_the_idle_timeout__stays_connected(void **state)
{
	struct loopback *lb = *state;
	lb->server.idle_timeout_ms = lb->client.idle_timeout_ms = 300 * SLOW;
	open_small(lb);
	fcntl(s[0], F_SETFL, O_NONBLOCK);
	size_t sent = stuff(s[0], 0);
	struct pollfd gone = { .fd = c[1], .events = POLLIN }, gone0 = { .fd = c[0], .events = POLLIN };
	assert_int_equal(poll(&gone, 1, 700 * SLOW), 0);
	assert_int_equal(poll(&gone0, 1, 700 * SLOW), 0);
	shutdown(s[0], SHUT_WR);
	assert_int_equal(read_pattern(s[1], 0), sent);
	close_all();
}

/* ---- bulk -------------------------------------------------------------------------------------- */

#define BULK ((size_t)(20 << 20) / SLOW)

static void *write_bulk(void *arg)
{
	static uint8_t buf[65536];
	int fd = *(int *)arg;
	for (size_t off = 0; off < BULK; off += sizeof(buf)) {
		size_t n = BULK - off < sizeof(buf) ? BULK - off : sizeof(buf);
		make_pattern(buf, off, n);
		write_all(fd, buf, n);
	}
	CHECK(!shutdown(fd, SHUT_WR));
	return NULL;
}

static void *echo(void *arg)
{
	static uint8_t buf[50000];
	int fd = *(int *)arg;
	ssize_t n;
	while ((n = read(fd, buf, sizeof(buf))) > 0)
		write_all(fd, buf, (size_t)n);
	CHECK(n == 0);
	CHECK(!shutdown(fd, SHUT_WR));
	return NULL;
}

static void echo__half_closed_bulk__comes_back_whole(void **state)
{
	pthread_t t[2];
	loopback_pair(*state, c);
	loopback_stream(c, s, 0);
	assert_int_equal(pthread_create(&t[0], NULL, write_bulk, &s[0]), 0);
	assert_int_equal(pthread_create(&t[1], NULL, echo, &s[1]), 0);
	assert_int_equal(read_pattern(s[0], 0), BULK);
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	close_all();
}

static int pattern_file(size_t size)
{
	int f = memfd_create("pattern", MFD_CLOEXEC);
	uint8_t *p;
	assert_true(f >= 0);
	assert_int_equal(ftruncate(f, (off_t)size), 0);
	p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, f, 0);
	assert_true(p != MAP_FAILED);
	make_pattern(p, 0, size);
	munmap(p, size);
	return f;
}

static void *send_file(void *arg)
{
	const int *fd = arg;
	for (size_t left = BULK; left;) {
		ssize_t n = sendfile(fd[0], fd[1], NULL, left);
		CHECK(n > 0);
		left -= (size_t)n;
	}
	CHECK(!shutdown(fd[0], SHUT_WR));
	return NULL;
}

static void sendfile__bulk__arrives_whole(void **state)
{
	pthread_t t;
	loopback_pair(*state, c);
	loopback_stream(c, s, QSOCK_UNI);
	int arg[2] = { s[0], pattern_file(BULK) };
	assert_int_equal(pthread_create(&t, NULL, send_file, arg), 0);
	assert_int_equal(read_pattern(s[1], 0), BULK);
	pthread_join(t, NULL);
	close(arg[1]);
	close_all();
}

static void sendfile__nonblocking_and_splice__arrive_whole(void **state)
{
	size_t left = BULK / 4, got = 0;
	int f = pattern_file(left), out = memfd_create("out", MFD_CLOEXEC), p[2];
	loopback_pair(*state, c);
	loopback_stream(c, s, 0);
	assert_int_equal(pipe(p), 0);
	fcntl(s[0], F_SETFL, O_NONBLOCK);
	while (got < BULK / 4) {
		ssize_t n = left ? sendfile(s[0], f, NULL, left) : 0;
		assert_true(n >= 0 || errno == EAGAIN);
		left -= n > 0 ? (size_t)n : 0;
		wait_for(s[1], POLLIN);
		n = splice(s[1], NULL, p[1], NULL, 65536, 0);
		assert_true(n > 0);
		for (ssize_t m; n > 0; n -= m, got += (size_t)m)
			assert_true((m = splice(p[0], NULL, out, NULL, (size_t)n, 0)) > 0);
	}
	assert_int_equal(lseek(out, 0, SEEK_SET), 0);
	assert_int_equal(read_pattern(out, 0), BULK / 4);
	close(f);
	close(out);
	close(p[0]);
	close(p[1]);
	close_all();
}

/* ---- many streams ---------------------------------------------------------------------------------- */

#define MANY 1000

static void *accept_many(void *arg)
{
	for (int i = 0; i < MANY; i++) {
		char buf[16];
		int st = qsock_accept_stream(c[1], 0), end;
		size_t n = read_upto(st, buf, sizeof(buf), &end);
		CHECK(end == 1);
		write_all(st, buf, n);
		close(st);
	}
	return NULL;
}

static void ask(int st, int i)
{
	char buf[16];
	int n = snprintf(buf, sizeof(buf), "%d", i);
	write_all(st, buf, (size_t)n);
	shutdown(st, SHUT_WR);
}

static void answered(int st, int i)
{
	char buf[16], want[16];
	int end, n = snprintf(want, sizeof(want), "%d", i);
	assert_int_equal(read_upto(st, buf, sizeof(buf), &end), n);
	assert_memory_equal(buf, want, (size_t)n);
	assert_int_equal(end, 1);
	close(st);
}

/* Ten times the peer's limit, one after another. */
static void streams__a_thousand_in_a_row__limit_moves_on(void **state)
{
	pthread_t t;
	loopback_pair(*state, c);
	assert_int_equal(pthread_create(&t, NULL, accept_many, NULL), 0);
	for (int i = 0; i < MANY; i++) {
		int st = qsock_open_stream(c[0], 0);
		assert_true(st >= 0);
		ask(st, i);
		answered(st, i);
	}
	pthread_join(t, NULL);
	s[0] = s[1] = -1;
	close_all();
}

static void streams__a_thousand_at_once__each_has_its_own(void **state)
{
	struct loopback *lb = *state;
	static int st[MANY], r[MANY];
	bool seen[MANY] = { false };
	struct rlimit limit, more;
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	more = limit;
	more.rlim_cur = limit.rlim_max < 4096 ? limit.rlim_max : 4096;
	if (more.rlim_cur < 2 * MANY + 200)
		skip();
	setrlimit(RLIMIT_NOFILE, &more);
	lb->server.max_streams_bidi = MANY;
	loopback_listen(lb);
	loopback_pair(lb, c);
	for (int i = 0; i < MANY; i++) {
		assert_true((st[i] = qsock_open_stream(c[0], 0)) >= 0);
		ask(st[i], i);
	}
	for (int i = 0; i < MANY; i++) {
		char buf[16] = "";
		int end;
		assert_true((r[i] = qsock_accept_stream(c[1], 0)) >= 0);
		size_t n = read_upto(r[i], buf, sizeof(buf) - 1, &end);
		assert_int_equal(end, 1);
		assert_false(seen[atoi(buf)]);
		seen[atoi(buf)] = true;
		write_all(r[i], buf, n);
	}
	for (int i = 0; i < MANY; i++)
		close(r[i]);
	for (int i = 0; i < MANY; i++)
		answered(st[i], i);
	s[0] = s[1] = -1;
	close_all();
	setrlimit(RLIMIT_NOFILE, &limit);
}

#define T(f) cmocka_unit_test_setup_teardown(f, loopback_setup, loopback_teardown)

int main(int argc, char **argv)
{
	static const struct role roles[] = { { "pusher", run_pusher } };
	role_enter(argc, argv, roles, 1);
	const struct CMUnitTest tests[] = {
		T(write__nobody_reads__eagain_within_the_cap),
		T(write__blocking_and_nobody_reads__waits_and_goes_on),
		T(write__so_sndtimeo__eagain),
		T(receive__nobody_reads__heap_within_conn_window),
		T(reader__slower_than_the_idle_timeout__stays_connected),
		T(echo__half_closed_bulk__comes_back_whole),
		T(sendfile__bulk__arrives_whole),
		T(sendfile__nonblocking_and_splice__arrive_whole),
		T(streams__a_thousand_in_a_row__limit_moves_on),
		T(streams__a_thousand_at_once__each_has_its_own),
	};
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
