/* Sockets that policy leaves to TCP. Only bind or connect tell which these are, when
 * the program holds a descriptor of ours already: so here, and here only, a descriptor is
 * replaced. What was set on it is repeated, and its epoll registrations, which the kernel
 * drops with the old socket, are read from /proc before and made again after. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
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

static int bind_as_before(const struct memo *m, int tcp)
{
	struct addr a = m->local;
	if (!m->bound)
		return 0;
	if (!m->port_asked && a.sa.sa_family == AF_INET6)
		a.in6.sin6_port = 0;
	else if (!m->port_asked)
		a.in4.sin_port = 0;
	return bind(tcp, &a.sa, addr_len(&a));
}

int tcp_replace(int fd, const struct memo *m)
{
	struct registration regs[REGISTRATIONS_MAX];
	int status = fcntl(fd, F_GETFL), flags = fcntl(fd, F_GETFD);
	int tcp = socket(m->domain, SOCK_STREAM | SOCK_CLOEXEC | (status & O_NONBLOCK ? SOCK_NONBLOCK : 0), IPPROTO_TCP);
	if (tcp < 0)
		return -1;
	options_replay(m, tcp);
	unsigned n = find_registrations(fd, regs);
	if (bind_as_before(m, tcp) || dup3(tcp, fd, flags & FD_CLOEXEC ? O_CLOEXEC : 0) < 0) {
		api_close(tcp);
		return -1;
	}
	api_close(tcp);
	while (n--)
		epoll_ctl(regs[n].epoll, EPOLL_CTL_ADD, fd, &regs[n].ev);
	return 0;
}
