/* compare: the calls. Each takes the words of its line and writes an outcome: what the call returned, the name of errno
 * when that was -1, and what else can be seen from outside. Slots are this process's names for descriptors. */
#include "compare.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PATIENCE_MS = 5000, QUIET_MS = 150, STEP_MS = 5, BIG = 65536 };

/* ---- sockets and addresses ------------------------------------------------------------- */

static void op_socket(struct line *l)
{
	int *slot = slot_of(line_word(l, 1));

	*slot = socket((int)flags_value(line_word(l, 2)), (int)flags_value(line_word(l, 3)), (int)flags_value(line_word_or(l, 4, "-")));
	line_outcome(l, *slot);
}

static void op_bind(struct line *l)
{
	struct sockaddr_storage ss;
	socklen_t len = address_value(line_word(l, 2), &ss);

	line_outcome(l, bind(line_fd(l, 1), (struct sockaddr *)&ss, (socklen_t)atoi(line_word_or(l, 3, "0")) ? (socklen_t)atoi(line_word(l, 3)) : len));
}

static void op_connect(struct line *l)
{
	struct sockaddr_storage ss;
	socklen_t len = address_value(line_word(l, 2), &ss);

	line_outcome(l, connect(line_fd(l, 1), (struct sockaddr *)&ss, l->count > 3 ? (socklen_t)atoi(line_word(l, 3)) : len));
}

static void op_listen(struct line *l)
{
	line_outcome(l, listen(line_fd(l, 1), atoi(line_word(l, 2))));
}

static void said_address(struct line *l, int rc, const struct sockaddr_storage *ss, socklen_t len)
{
	char name[100];

	line_outcome(l, rc);
	if (rc < 0)
		return;
	address_name(name, sizeof(name), ss, len);
	line_say(l, " %s", name);
}

static void op_getsockname(struct line *l)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	int rc = getsockname(line_fd(l, 1), (struct sockaddr *)&ss, &len);

	if (rc == 0 && l->count == 2)
		address_remember(line_word(l, 1), &ss);
	said_address(l, rc, &ss, len);
}

static void op_getpeername(struct line *l)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	int rc = getpeername(line_fd(l, 1), (struct sockaddr *)&ss, &len);

	said_address(l, rc, &ss, len);
}

/* accept NEW LISTENER: with the address; accept4 NEW LISTENER FLAGS; accept0: no address asked for */
static void op_accept(struct line *l)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	int rc, fd = line_fd(l, 2);

	if (!strcmp(l->word[0], "accept4"))
		rc = accept4(fd, (struct sockaddr *)&ss, &len, (int)flags_value(line_word(l, 3)));
	else if (!strcmp(l->word[0], "accept0"))
		rc = accept(fd, NULL, NULL);
	else
		rc = accept(fd, (struct sockaddr *)&ss, &len);
	*slot_of(line_word(l, 1)) = rc;
	if (!strcmp(l->word[0], "accept0"))
		line_outcome(l, rc);
	else
		said_address(l, rc, &ss, len);
}

static void op_shutdown(struct line *l)
{
	line_outcome(l, shutdown(line_fd(l, 1), (int)flags_value(line_word(l, 2))));
}

static void op_close(struct line *l)
{
	line_outcome(l, close(line_fd(l, 1)));
}

static void op_dup(struct line *l)
{
	int fd = dup(line_fd(l, 2));

	*slot_of(line_word(l, 1)) = fd;
	line_outcome(l, fd);
}

static void op_dup2(struct line *l)
{
	line_outcome(l, dup2(line_fd(l, 2), line_fd(l, 1)));
}

/* ---- data ---------------------------------------------------------------------------------- */

static uint8_t pattern_at(size_t i)
{
	return (uint8_t)(i * 7 + (i >> 8) * 3);
}

static void op_write(struct line *l)
{
	const char *text = line_word(l, 2);

	line_outcome(l, write(line_fd(l, 1), text, strlen(text)));
}

static void op_send(struct line *l)
{
	const char *text = line_word(l, 2);

	line_outcome(l, send(line_fd(l, 1), text, strlen(text), (int)flags_value(line_word(l, 3))));
}

static void op_sendto(struct line *l)
{
	struct sockaddr_storage ss;
	const char *text = line_word(l, 2);
	socklen_t len = address_value(line_word(l, 3), &ss);

	line_outcome(l, sendto(line_fd(l, 1), text, strlen(text), (int)flags_value(line_word_or(l, 4, "-")), (struct sockaddr *)&ss, len));
}

static void received(struct line *l, ssize_t n, const char *buf)
{
	line_outcome(l, n);
	if (n > 0)
		line_say(l, " \"%.*s\"", (int)(n < 40 ? n : 40), buf);
}

static void op_read(struct line *l)
{
	char buf[BIG];
	size_t len = (size_t)atoi(line_word(l, 2));

	received(l, read(line_fd(l, 1), buf, len < sizeof(buf) ? len : sizeof(buf)), buf);
}

static void op_recv(struct line *l)
{
	char buf[BIG];
	size_t len = (size_t)atoi(line_word(l, 2));

	received(l, recv(line_fd(l, 1), buf, len < sizeof(buf) ? len : sizeof(buf), (int)flags_value(line_word(l, 3))), buf);
}

static void op_recvfrom(struct line *l)
{
	struct sockaddr_storage ss = {0};
	socklen_t len = sizeof(ss);
	char buf[BIG];
	ssize_t n = recvfrom(line_fd(l, 1), buf, (size_t)atoi(line_word(l, 2)), 0, (struct sockaddr *)&ss, &len);

	received(l, n, buf);
	line_say(l, " address length %d", (int)len);
}

static void op_recvmsg(struct line *l)
{
	struct sockaddr_storage ss = {0};
	char buf[BIG], control[100];
	struct iovec iov = {buf, (size_t)atoi(line_word(l, 2))};
	struct msghdr msg = {.msg_name = &ss, .msg_namelen = sizeof(ss), .msg_iov = &iov, .msg_iovlen = 1,
			     .msg_control = control, .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(line_fd(l, 1), &msg, 0);

	received(l, n, buf);
	if (n >= 0)
		line_say(l, " address length %d, control length %d, flags %d", (int)msg.msg_namelen, (int)msg.msg_controllen, msg.msg_flags);
}

/* fill X N: that many bytes of the pattern, however many calls it takes */
static void op_fill(struct line *l)
{
	uint8_t buf[BIG];
	size_t i, len, done = 0, total = (size_t)atol(line_word(l, 2));
	ssize_t n;

	for (; done < total; done += (size_t)n) {
		len = total - done < sizeof(buf) ? total - done : sizeof(buf);
		for (i = 0; i < len; i++)
			buf[i] = pattern_at(done + i);
		n = write(line_fd(l, 1), buf, len);
		if (n < 0) {
			line_outcome(l, n);
			return;
		}
	}
	line_say(l, "%zu", done);
}

/* readn X N: read until N bytes have come, or the end */
static void op_readn(struct line *l)
{
	uint8_t buf[BIG];
	size_t got = 0, wrong = 0, total = (size_t)atol(line_word(l, 2));
	ssize_t i, n;

	if (!strcmp(line_word(l, 2), "flooded"))
		total = shared->flooded;
	while (got < total) {
		n = read(line_fd(l, 1), buf, total - got < sizeof(buf) ? total - got : sizeof(buf));
		if (n <= 0) {
			line_say(l, "short, then ");
			line_outcome(l, n);
			return;
		}
		for (i = 0; i < n; i++)
			wrong += buf[i] != pattern_at(got + (size_t)i);
		got += (size_t)n;
	}
	line_say(l, "all, %zu wrong bytes", wrong);
}

/* flood X: as much as goes without waiting. How much that is differs; readn X flooded fetches it. */
static void op_flood(struct line *l)
{
	uint8_t buf[4096];
	size_t i, done = 0;
	ssize_t n;

	for (;;) {
		for (i = 0; i < sizeof(buf); i++)
			buf[i] = pattern_at(done + i);
		n = send(line_fd(l, 1), buf, sizeof(buf), MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN && done < (size_t)256 << 20) {
			struct pollfd p = {line_fd(l, 1), POLLOUT, 0};

			if (poll(&p, 1, 2 * QUIET_MS) == 0)
				break;	/* nobody takes it any more */
			continue;
		}
		if (n < 0)
			break;
		done += (size_t)n;
	}
	shared->flooded = done;
	line_outcome(l, n);
	line_say(l, done > 32768 ? " after more than 32768" : " after little");
}

static int pattern_file(size_t len)
{
	uint8_t byte;
	size_t i;
	int fd = memfd_create("pattern", 0);
	FILE *f = fdopen(dup(fd), "w");

	if (fd < 0 || !f)
		script_error("memfd");
	for (i = 0; i < len; i++) {
		byte = pattern_at(i);
		fputc(byte, f);
	}
	fclose(f);
	return fd;
}

static void op_sendfile(struct line *l)
{
	size_t len = (size_t)atol(line_word(l, 2)), done = 0;
	int file = pattern_file(len);
	off_t off = 0;
	ssize_t n = 0;

	while (done < len && (n = sendfile(line_fd(l, 1), file, &off, len - done)) > 0)
		done += (size_t)n;
	close(file);
	if (n < 0)
		line_outcome(l, n);
	else
		line_say(l, "%zu", done);
}

/* ---- options and flags ------------------------------------------------------------------------ */

static void op_getsockopt(struct line *l)
{
	const struct option *o = option_find(line_word(l, 2));
	union { int i; struct linger lg; struct timeval tv; struct tcp_info info; char s[64]; } v = {0};
	socklen_t len = o->kind == OPT_INT || o->kind == OPT_POSITIVE ? sizeof(int) : sizeof(v);
	int rc = getsockopt(line_fd(l, 1), o->level, o->name_number, &v, &len);

	line_outcome(l, rc);
	if (rc < 0)
		return;
	switch (o->kind) {
	case OPT_INT:
		if (o->name_number == SO_ERROR && o->level == SOL_SOCKET && v.i)
			line_say(l, " %s", strerrorname_np(v.i));
		else
			line_say(l, " %d len %d", v.i, (int)len);
		break;
	case OPT_POSITIVE:
		line_say(l, " %s len %d", v.i > 0 ? "positive" : "not positive", (int)len);
		break;
	case OPT_LINGER:
		line_say(l, " %d %d len %d", v.lg.l_onoff, v.lg.l_linger, (int)len);
		break;
	case OPT_TIME:
		line_say(l, " %ld.%06ld len %d", (long)v.tv.tv_sec, (long)v.tv.tv_usec, (int)len);
		break;
	case OPT_INFO:
		line_say(l, " state %d%s", v.info.tcpi_state, len >= 104 ? "" : ", short");
		break;
	case OPT_STRING:
		line_say(l, " %s", v.s[0] ? "a name" : "no name");
		break;
	}
}

/* setsockopt X NAME VALUE [LENGTH]; of linger: onoff,seconds; of times: milliseconds */
static void op_setsockopt(struct line *l)
{
	const struct option *o = option_find(line_word(l, 2));
	const char *text = line_word(l, 3);
	union { int i; struct linger lg; struct timeval tv; char s[64]; } v = {0};
	socklen_t len = sizeof(int);

	if (o->kind == OPT_LINGER) {
		sscanf(text, "%d,%d", &v.lg.l_onoff, &v.lg.l_linger);
		len = sizeof(v.lg);
	} else if (o->kind == OPT_TIME) {
		v.tv = (struct timeval){atoi(text) / 1000, atoi(text) % 1000 * 1000};
		len = sizeof(v.tv);
	} else if (o->kind == OPT_STRING) {
		snprintf(v.s, sizeof(v.s), "%s", text);
		len = (socklen_t)strlen(text);
	} else {
		v.i = atoi(text);
	}
	if (l->count > 4)
		len = (socklen_t)atoi(line_word(l, 4));
	line_outcome(l, setsockopt(line_fd(l, 1), o->level, o->name_number, &v, len));
}

static void op_nonblock(struct line *l)
{
	int fl = fcntl(line_fd(l, 1), F_GETFL);

	line_outcome(l, fcntl(line_fd(l, 1), F_SETFL, atoi(line_word(l, 2)) ? fl | O_NONBLOCK : fl & ~O_NONBLOCK));
}

static void op_flags(struct line *l)
{
	int fl = fcntl(line_fd(l, 1), F_GETFL), fd = fcntl(line_fd(l, 1), F_GETFD);
	struct stat st = {0};

	if (fl < 0 || fstat(line_fd(l, 1), &st)) {
		line_outcome(l, -1);
		return;
	}
	line_say(l, "%s%s%s%s", (fl & O_ACCMODE) == O_RDWR ? "RDWR" : "?", fl & O_NONBLOCK ? " NONBLOCK" : "",
	    fd & FD_CLOEXEC ? " CLOEXEC" : "", S_ISSOCK(st.st_mode) ? " socket" : " no socket");
}

static void op_fionread(struct line *l)
{
	int n = -1, rc = ioctl(line_fd(l, 1), FIONREAD, &n);

	line_outcome(l, rc);
	if (rc == 0)
		line_say(l, " %d", n);
}

static void op_siocoutq(struct line *l)
{
	int i, n = -1, rc = -1;

	for (i = 0; i < PATIENCE_MS / STEP_MS && n != 0; i++, sleep_ms(STEP_MS))
		rc = ioctl(line_fd(l, 1), TIOCOUTQ, &n);
	line_outcome(l, rc);
	if (rc == 0)
		line_say(l, n ? " still unsent" : " all sent");
}

static void op_lseek(struct line *l)
{
	line_outcome(l, (long)lseek(line_fd(l, 1), 0, SEEK_CUR));
}

static const struct {
	const char *name;
	void (*play)(struct line *l);
} ops[] = {
	{"socket", op_socket}, {"bind", op_bind}, {"connect", op_connect}, {"listen", op_listen},
	{"getsockname", op_getsockname}, {"getpeername", op_getpeername}, {"accept", op_accept}, {"accept0", op_accept},
	{"accept4", op_accept}, {"shutdown", op_shutdown}, {"close", op_close}, {"dup", op_dup}, {"dup2", op_dup2},
	{"write", op_write}, {"send", op_send}, {"sendto", op_sendto}, {"read", op_read}, {"recv", op_recv},
	{"recvfrom", op_recvfrom}, {"recvmsg", op_recvmsg}, {"fill", op_fill}, {"readn", op_readn}, {"flood", op_flood},
	{"sendfile", op_sendfile}, {"getsockopt", op_getsockopt}, {"setsockopt", op_setsockopt}, {"nonblock", op_nonblock},
	{"flags", op_flags}, {"fionread", op_fionread}, {"siocoutq", op_siocoutq}, {"lseek", op_lseek}, {"poll", op_poll},
	{"select", op_select}, {"epoll", op_epoll}, {"epoll_add", op_epoll_add}, {"epoll_mod", op_epoll_mod},
	{"epoll_wait", op_epoll_wait}, {"pause", op_pause}, {"sigpipe", op_sigpipe}, {"fds", op_fds}, {"rlimit", op_rlimit},
	{"ticks", op_ticks}, {"closefrom", op_closefrom}, {"fork", op_fork}, {"scm", op_scm},
};

void line_play(struct line *l)
{
	size_t i;

	for (i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
		if (!strcmp(ops[i].name, line_word(l, 0))) {
			ops[i].play(l);
			return;
		}
	script_error("no such call: %s", l->word[0]);
}
