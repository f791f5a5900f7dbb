/* Another socket under the number that the program holds, in the cases that allow no other way: when bind or
 * connect first tell that policy leaves this one to TCP, and when the engine that has the pair's other end is another
 * process's or gone. What was set is repeated; epoll registrations, which the kernel drops with the old socket, are
 * read from /proc before and made again after. Duplicates stay what they were. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/pidfd.h>
#include <unistd.h>

#include "preload/log.h"
#include "preload/shim.h"

#define REGISTRATIONS_MAX 16	/* epoll descriptors that watch one fresh socket */

struct registration {
	int epoll;
	struct epoll_event ev;
};

static bool is_epoll(int fd)
{
	char path[64], target[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n < 0)
		return false;
	target[n] = '\0';
	return !strcmp(target, "anon_inode:[eventpoll]");
}

/* "tfd:        5 events:       19 data:                5  pos:..." */
static bool registered(int epoll, int fd, struct epoll_event *ev)
{
	char path[64], line[256];
	bool found = false;
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", epoll);
	FILE *f = fopen(path, "re");
	while (f && !found && fgets(line, sizeof(line), f)) {
		int tfd;
		unsigned events;
		unsigned long long data;
		if (sscanf(line, "tfd: %d events: %x data: %llx", &tfd, &events, &data) != 3 || tfd != fd)
			continue;
		ev->events = events;
		ev->data.u64 = data;
		found = true;
	}
	if (f)
		fclose(f);
	return found;
}

static unsigned find_registrations(int fd, struct registration *out)
{
	unsigned n = 0;
	DIR *d = opendir("/proc/self/fd");
	struct dirent *entry;
	while (d && n < REGISTRATIONS_MAX && (entry = readdir(d))) {
		int epoll = atoi(entry->d_name);
		if (epoll > 2 && is_epoll(epoll) && registered(epoll, fd, &out[n].ev))
			out[n++].epoll = epoll;
	}
	if (d)
		closedir(d);
	return n;
}

/* by is used up. Where another process has the old socket too, it stays registered until that is undone. */
static int put_in_place(int fd, int by)
{
	struct registration regs[REGISTRATIONS_MAX];
	int flags = fcntl(fd, F_GETFD);
	unsigned n = find_registrations(fd, regs);
	for (unsigned i = 0; i < n; i++)
		epoll_ctl(regs[i].epoll, EPOLL_CTL_DEL, fd, NULL);
	int ret = dup3(by, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0);
	api_close(by);
	for (unsigned i = 0; i < n; i++)
		epoll_ctl(regs[i].epoll, EPOLL_CTL_ADD, fd, &regs[i].ev);
	return ret < 0 ? -1 : 0;
}

static int new_type(int fd)
{
	return SOCK_STREAM | SOCK_CLOEXEC | (fcntl(fd, F_GETFL) & O_NONBLOCK ? SOCK_NONBLOCK : 0);
}

static void bound_address(const struct memo *m, struct addr *a)
{
	*a = m->local;
	if (!m->port_asked && a->sa.sa_family == AF_INET6)
		a->in6.sin6_port = 0;
	else if (!m->port_asked)
		a->in4.sin_port = 0;
}

int replace_by_tcp(int fd, const struct memo *m)
{
	struct addr a;
	int tcp = socket(m->domain, new_type(fd), IPPROTO_TCP);
	if (tcp < 0)
		return -1;
	options_repeat(fd, m, tcp, NULL);
	bound_address(m, &a);
	if (!m->bound || !bind(tcp, &a.sa, addr_len(&a)))
		return put_in_place(fd, tcp);
	api_close(tcp);
	return -1;
}

/* A fresh one of this process's engine; *m is its memo then. */
static int replace_by_fresh(int fd, struct memo *m)
{
	struct memo n;
	int fresh = shim_socket(m->domain, new_type(fd));
	if (fresh < 0)
		return -1;
	if (shim_find(fresh, &n)) {
		options_repeat(fd, m, fresh, &n);
		if (!m->bound || !shim_bind(fresh, &n, &m->local.sa, addr_len(&m->local))) {
			if (put_in_place(fd, fresh))
				return -1;
			n.fd = fd;
			memo_put(&n);
			*m = n;
			return 0;
		}
	}
	api_close(fresh);
	return -1;
}

bool replace_stale(int fd, struct memo *m)
{
	char text[ADDR_TEXT];
	int saved = errno;
	bool lost = m->state == MEMO_FRESH && shim_is_lost(fd);
	errno = saved;
	if (!lost)
		return false;
	if (!replace_by_fresh(fd, m))
		return true;
	log_warn("a socket that was made before fork, or could not connect, cannot be made anew%s%s: %s",
		 m->bound ? ", bound to " : "", m->bound ? addr_text(&m->local, text) : "", strerror(errno));
	return false;
}

/* ---- listeners whose process has ended ------------------------------------------------------ */

#define EXIT_MS 2000	/* who exits stops the engine first, and is gone soon after */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* threads find the same listener dead at once */

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

__attribute__((constructor)) static void at_load(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

static bool has_ended(int pid)
{
	int fd = pidfd_open(pid, 0);
	struct pollfd p = { .fd = fd, .events = POLLIN };
	if (fd < 0)
		return kill(pid, 0) && errno == ESRCH;
	bool ended = poll(&p, 1, EXIT_MS) > 0;
	api_close(fd);
	return ended;
}

/* Processes that inherited the same listener: one has taken the port. The others must not be told without end that
 * there is something to accept. */
static bool idle(int fd, struct memo *m)
{
	m->bound = false;
	if (replace_by_fresh(fd, m))
		return false;
	pair_block(fd, BLOCK_MAILBOX);
	m->state = MEMO_LISTENING;
	memo_put(m);
	return true;
}

static bool inherit(int fd, struct memo *m)
{
	char text[ADDR_TEXT];
	struct memo n = *m;
	int owner = m->owner;
	addr_text(&m->local, text);
	n.state = MEMO_FRESH;
	if (!replace_by_fresh(fd, &n) && !shim_listen(fd, &n, SOMAXCONN)) {
		*m = n;
		log_info("the process %d that listened on %s has ended: this one goes on", owner, text);
		return true;
	}
	bool late = errno == EADDRINUSE;
	log_warn("the process %d that listened on %s has ended, and its listener cannot be taken over: %s%s", owner,
		 text, strerror(errno), late ? " (another process has it: this one gets no connections)" : "");
	return late && idle(fd, m);
}

bool replace_listener(int fd, struct memo *m)
{
	struct memo now;
	bool done = false;
	pthread_mutex_lock(&lock);
	if (!shim_find(fd, &now) || now.state != MEMO_LISTENING)
		done = false;
	else if (now.cookie != m->cookie)
		done = true;
	else
		done = now.owner != getpid() && has_ended(now.owner) && inherit(fd, &now);
	if (done)
		*m = now;
	pthread_mutex_unlock(&lock);
	return done;
}
