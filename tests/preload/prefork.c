/* A small prefork server, as they have been written for TCP since ever: bind, listen, fork, accept in every child on the
 * inherited listener. Usage: prefork PORT CHILDREN. Protocol: lines; each is answered in capitals, "who" with the number
 * of the child, "quit" ends the connection from this side. SIGTERM ends all children, then the parent. */
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHILDREN_MAX = 32 };

static volatile sig_atomic_t stop;

static void on_term(int sig)
{
	stop = 1;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static void serve(FILE *in, FILE *out, int child)
{
	char line[4096];
	size_t i;

	while (fgets(line, sizeof(line), in)) {
		if (!strcmp(line, "quit\n"))
			return;
		if (!strcmp(line, "who\n")) {
			fprintf(out, "child %d\n", child);
		} else {
			for (i = 0; line[i]; i++)
				line[i] = (char)toupper((unsigned char)line[i]);
			fputs(line, out);
		}
		if (fflush(out))
			return;
	}
}

static void child_main(int listener, int child)
{
	FILE *in, *out;
	int fd;

	for (;;) {
		fd = accept(listener, NULL, NULL);
		if (fd < 0 && (errno == EINTR || errno == ECONNABORTED))
			continue;
		if (fd < 0)
			fail("accept");
		in = fdopen(fd, "r");
		out = fdopen(dup(fd), "w");
		if (!in || !out)
			fail("fdopen");
		serve(in, out, child);
		fclose(out);
		fclose(in);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sigaction sa = {.sa_handler = on_term};
	int i, on = 1, listener, children = argc > 2 ? atoi(argv[2]) : 0;
	sigset_t term, old;
	pid_t pid[CHILDREN_MAX];

	if (children < 1 || children > CHILDREN_MAX) {
		fprintf(stderr, "usage: prefork PORT CHILDREN\n");
		return 2;
	}
	sin.sin_port = htons((uint16_t)atoi(argv[1]));
	listener = socket(AF_INET, SOCK_STREAM, 0);
	if (listener < 0 || setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) ||
	    bind(listener, (struct sockaddr *)&sin, sizeof(sin)) || listen(listener, 64))
		fail("listen");
	sigemptyset(&term);
	sigaddset(&term, SIGTERM);
	sigprocmask(SIG_BLOCK, &term, &old);
	for (i = 0; i < children; i++) {
		pid[i] = fork();
		if (pid[i] < 0)
			fail("fork");
		if (pid[i] == 0) {
			sigprocmask(SIG_SETMASK, &old, NULL);
			child_main(listener, i);
		}
	}
	sigaction(SIGTERM, &sa, NULL);
	while (!stop)
		sigsuspend(&old);
	for (i = 0; i < children; i++)
		kill(pid[i], SIGTERM);
	while (wait(NULL) > 0)
		;
	return 0;
}
