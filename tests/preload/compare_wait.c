/* compare: calls that wait for something, and calls about the process: limits, signals, children. */
#include "compare.h"

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATIENCE_MS = 5000, QUIET_MS = 150, STEP_MS = 5 };

/* ---- waiting ------------------------------------------------------------------------------------- */

/* The last word says how long: "now"; "quiet" (nothing is expected); or the events that have to come, all of them, within
 * PATIENCE_MS; without it, any event. */
struct patience {
	unsigned int all;
	int ms;
};

static struct patience patience_of(const char *text)
{
	if (!strcmp(text, "now"))
		return (struct patience){~0u, 0};
	if (!strcmp(text, "quiet"))
		return (struct patience){0, QUIET_MS};
	return (struct patience){(unsigned int)flags_value(text), PATIENCE_MS};
}

void op_poll(struct line *l)
{
	struct patience how = patience_of(line_word_or(l, 3, "-"));
	struct pollfd p = {.fd = line_fd(l, 1), .events = (short)flags_value(line_word(l, 2))};
	char name[60];
	int rc, waited = 0;

	rc = poll(&p, 1, how.all && how.ms ? STEP_MS : how.ms);
	while (how.ms && (p.revents & (short)how.all) != (short)how.all && waited < how.ms) {
		sleep_ms(STEP_MS);
		waited += 2 * STEP_MS;
		rc = poll(&p, 1, STEP_MS);
	}
	line_outcome(l, rc);
	poll_name(name, sizeof(name), (unsigned short)p.revents);
	line_say(l, " %s", name);
}

void op_select(struct line *l)
{
	struct patience how = patience_of(line_word_or(l, 2, "-"));
	struct timeval tv = {how.ms / 1000, how.ms % 1000 * 1000};
	fd_set rd, wr, ex;
	int rc, fd = line_fd(l, 1), waited = 0;
	unsigned int got;

	do {
		FD_ZERO(&rd);
		FD_ZERO(&wr);
		FD_ZERO(&ex);
		FD_SET(fd, &rd);
		FD_SET(fd, &wr);
		FD_SET(fd, &ex);
		rc = select(fd + 1, &rd, &wr, &ex, &tv);
		got = (FD_ISSET(fd, &rd) ? POLLIN : 0) | (FD_ISSET(fd, &wr) ? POLLOUT : 0);
		if (how.ms && (got & how.all) != how.all)
			sleep_ms(STEP_MS);
		waited += STEP_MS;
	} while (how.ms && (got & how.all) != how.all && waited < how.ms);
	line_outcome(l, rc);
	line_say(l, "%s%s%s", FD_ISSET(fd, &rd) ? " readable" : "", FD_ISSET(fd, &wr) ? " writable" : "",
	    FD_ISSET(fd, &ex) ? " exceptional" : "");
}

void op_epoll(struct line *l)
{
	int *slot = slot_of(line_word(l, 1));

	*slot = epoll_create1(0);
	line_outcome(l, *slot);
}

void op_epoll_add(struct line *l)
{
	struct epoll_event ev = {.events = (uint32_t)flags_value(line_word(l, 3)), .data.fd = line_fd(l, 2)};

	line_outcome(l, epoll_ctl(line_fd(l, 1), EPOLL_CTL_ADD, line_fd(l, 2), &ev));
}

void op_epoll_mod(struct line *l)
{
	struct epoll_event ev = {.events = (uint32_t)flags_value(line_word(l, 3)), .data.fd = line_fd(l, 2)};

	line_outcome(l, epoll_ctl(line_fd(l, 1), EPOLL_CTL_MOD, line_fd(l, 2), &ev));
}

/* epoll_wait E [WANT]: events until all of WANT have been seen in one; edges that came before in pieces are joined */
void op_epoll_wait(struct line *l)
{
	struct patience how = patience_of(line_word_or(l, 2, "-"));
	struct epoll_event ev;
	unsigned int seen = 0;
	char name[60];
	int rc, waited = 0;

	for (;;) {
		ev.events = 0;
		rc = epoll_wait(line_fd(l, 1), &ev, 1, how.ms ? (how.all ? STEP_MS : how.ms) : 0);
		if (rc > 0)
			seen |= ev.events;
		waited += STEP_MS;
		if (!how.ms || !how.all || (seen & how.all) == how.all || waited >= how.ms)
			break;
		if (rc > 0)
			sleep_ms(STEP_MS);
	}
	poll_name(name, sizeof(name), seen);
	if (rc < 0)
		line_outcome(l, rc);
	else
		line_say(l, "%d %s", seen != 0, name);
}

void op_pause(struct line *l)
{
	sleep_ms(atoi(line_word(l, 1)));
	line_say(l, "0");
}

/* ---- the process ------------------------------------------------------------------------------------ */

void op_sigpipe(struct line *l)
{
	signal(SIGPIPE, strcmp(line_word(l, 1), "default") ? SIG_IGN : SIG_DFL);
	line_say(l, "0");
}

static int open_fds(void)
{
	DIR *d = opendir("/proc/self/fd");
	int n = 0;

	while (d && readdir(d))
		n++;
	if (d)
		closedir(d);
	return n;
}

void op_fds(struct line *l)
{
	line_say(l, "%d", open_fds());
}

/* rlimit N: N more descriptors may be opened; "rlimit -" as before */
void op_rlimit(struct line *l)
{
	static struct rlimit before;
	struct rlimit r;
	int fd;

	if (before.rlim_cur == 0)
		getrlimit(RLIMIT_NOFILE, &before);
	r = before;
	if (strcmp(line_word(l, 1), "-")) {
		fd = dup(0);
		close(fd);
		r.rlim_cur = (rlim_t)(fd + atoi(line_word(l, 1)));
	}
	line_outcome(l, setrlimit(RLIMIT_NOFILE, &r));
}

static void alarm_clock(int sig)
{
}

/* ticks MS: a SIGALRM after that time, without SA_RESTART */
void op_ticks(struct line *l)
{
	struct itimerval it = {.it_value = {atoi(line_word(l, 1)) / 1000, atoi(line_word(l, 1)) % 1000 * 1000}};
	struct sigaction sa = {.sa_handler = alarm_clock};

	sigaction(SIGALRM, &sa, NULL);
	line_outcome(l, setitimer(ITIMER_REAL, &it, NULL));
}

void op_closefrom(struct line *l)
{
	int fd = line_fd(l, 1);

	closefrom(fd);
	line_say(l, "0");
}

/* The rest of a line in a forked child: calls with ; between them. Their outcomes too. */
static void child_line(const struct line *l, int from)
{
	struct line child;
	size_t len = 0;
	int i;

	for (i = from; i < l->count; i++) {
		child = (struct line){0};
		for (; i < l->count && strcmp(l->word[i], ";"); i++)
			child.word[child.count++] = l->word[i];
		line_play(&child);
		len += (size_t)snprintf(shared->child + len, sizeof(shared->child) - len, "%s%s", len ? "; " : "", child.text);
	}
}

static void child_outcome(struct line *l, pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		script_error("child: %s", strerror(errno));
	if (WIFSIGNALED(status))
		line_say(l, "killed by SIG%s", sigabbrev_np(WTERMSIG(status)));
	else
		line_say(l, "%s, exit %d", shared->child, WEXITSTATUS(status));
}

void op_fork(struct line *l)
{
	pid_t pid;

	shared->child[0] = '\0';
	pid = fork();
	if (pid == 0) {
		child_line(l, 1);
		exit(0);
	}
	child_outcome(l, pid);
}

/* scm X CALL...: a child that has closed its copy of X gets it by SCM_RIGHTS and plays the call */
void op_scm(struct line *l)
{
	char byte = 0;
	union { char buf[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {0};
	struct iovec iov = {&byte, 1};
	struct msghdr msg = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.buf, .msg_controllen = sizeof(control.buf)};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);
	int pair[2], *slot = slot_of(line_word(l, 1));
	pid_t pid;

	shared->child[0] = '\0';
	if (socketpair(AF_UNIX, SOCK_DGRAM, 0, pair))
		script_error("socketpair");
	pid = fork();
	if (pid == 0) {
		close(*slot);
		if (recvmsg(pair[1], &msg, 0) != 1)
			_exit(9);
		memcpy(slot, CMSG_DATA(cmsg), sizeof(int));
		child_line(l, 2);
		exit(0);
	}
	*cmsg = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	memcpy(CMSG_DATA(cmsg), slot, sizeof(int));
	if (sendmsg(pair[0], &msg, 0) != 1)
		script_error("SCM_RIGHTS");
	child_outcome(l, pid);
	close(pair[0]);
	close(pair[1]);
}
