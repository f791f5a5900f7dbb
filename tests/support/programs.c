#include "support/programs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define MARK "--role"

const char *program_path(void)
{
	static char path[4096];
	ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	return path;
}

void role_enter(int argc, char **argv, const struct role *roles, size_t n)
{
	if (argc != 5 || strcmp(argv[1], MARK))
		return;
	alarm(PROGRAM_LIMIT);
	struct loopback *lb = loopback_attach(argv[3], (in_port_t)atoi(argv[4]));
	for (size_t i = 0; i < n; i++)
		if (!strcmp(argv[2], roles[i].name))
			exit(roles[i].run(lb, 3));
	_exit(126);
}

pid_t role_start(const struct loopback *lb, const char *name, int *fd)
{
	char port[16];
	int pair[2];
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	snprintf(port, sizeof(port), "%u", (unsigned)lb->addr.sin_port);
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		/* nothing of the test's is inherited but that */
		if (pair[1] != 3)
			dup2(pair[1], 3);
		fcntl(3, F_SETFD, 0);
		close_range(4, ~0U, 0);
		execl(program_path(), "program", MARK, name, lb->dir, port, NULL);
		_exit(127);
	}
	close(pair[1]);
	*fd = pair[0];
	return child;
}

bool say(int fd, char word)
{
	return send(fd, &word, 1, MSG_NOSIGNAL) == 1;
}

bool hear(int fd, char word)
{
	char c;
	return read(fd, &c, 1) == 1 && c == word;
}

bool fd_send(int sock, int fd)
{
	union { struct cmsghdr h; char buf[CMSG_SPACE(sizeof(int))]; } control = { .h = { .cmsg_len = 0 } };
	char c = 'f';
	struct iovec iov = { &c, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	control.h = (struct cmsghdr){ CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS };
	memcpy(CMSG_DATA(&control.h), &fd, sizeof(fd));
	return sendmsg(sock, &m, MSG_NOSIGNAL) == 1;
}

int fd_receive(int sock)
{
	union { struct cmsghdr h; char buf[CMSG_SPACE(sizeof(int))]; } control;
	char c;
	int fd = -1;
	struct iovec iov = { &c, 1 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			    .msg_controllen = sizeof(control) };
	if (recvmsg(sock, &m, 0) == 1 && m.msg_controllen && control.h.cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(&control.h), sizeof(fd));
	return fd;
}
