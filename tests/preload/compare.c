/* Play scripts of socket calls and say what each call returned. Usage: compare SCRIPT [SCENARIO...]
 * The same script played on the kernel's TCP and under the shim must give the same words (compare.sh). Two processes,
 * S and C, walk through a scenario together: each line is played by the one it names while the other waits, so
 * the order of calls and of lines printed is always the same. Nothing here knows of QUIC.
 *
 * A script:   scenario NAME        begins one
 *             S connect c lo:@l    who, call, slot, arguments: see compare_ops.c
 *             S bg accept a l      on a thread of its own; "S join" waits for it and gives the outcome
 *             S fork write a x ; close a     in a forked child
 *             # comment */
#include "compare.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_SCRIPT = 2000, SCENARIO_S = 40 };

static char script[MAX_SCRIPT][MAX_LINE];
static int script_lines;
struct shared *shared;

void script_error(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	fprintf(stderr, "compare: ");
	vfprintf(stderr, fmt, ap);
	fputc('\n', stderr);
	va_end(ap);
	_exit(2);
}

static void script_read(const char *path)
{
	FILE *f = fopen(path, "r");
	char *end;

	if (!f)
		script_error("%s: %s", path, strerror(errno));
	while (fgets(script[script_lines], MAX_LINE, f)) {
		end = script[script_lines] + strcspn(script[script_lines], "#\n");
		while (end > script[script_lines] && (end[-1] == ' ' || end[-1] == '\t'))
			end--;
		*end = '\0';
		if (script[script_lines][0] && ++script_lines == MAX_SCRIPT)
			script_error("%s: too long", path);
	}
	fclose(f);
}

/* A port nobody has, found with UDP so that the shim is not asked. */
static int closed_port(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(sin);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&sin, sizeof(sin)) || getsockname(fd, (struct sockaddr *)&sin, &len))
		script_error("no port: %s", strerror(errno));
	close(fd);
	return ntohs(sin.sin_port);
}

/* ---- lines on a thread of their own ------------------------------------------------ */

static struct {
	pthread_t thread;
	struct line line;
	char buf[MAX_LINE];
	bool busy;
} background;

static void *background_main(void *arg)
{
	line_play(&background.line);
	return NULL;
}

static void background_start(struct line *l)
{
	int i;

	if (background.busy)
		script_error("one line in the background at a time");
	background.line = (struct line){.count = l->count - 1};
	for (i = 1; i < l->count; i++)
		background.line.word[i - 1] = l->word[i];
	background.busy = true;
	if (pthread_create(&background.thread, NULL, background_main, NULL))
		script_error("no thread");
	snprintf(l->text, sizeof(l->text), "started");
}

static void background_join(struct line *l)
{
	if (!background.busy)
		script_error("nothing in the background");
	pthread_join(background.thread, NULL);
	background.busy = false;
	snprintf(l->text, sizeof(l->text), "%s", background.line.text);
}

/* ---- the two processes ------------------------------------------------------------- */

static void turn(struct line *l, const char *name, int number, const char *shown)
{
	if (l->count < 1)
		script_error("%s: %s: what?", name, shown);
	if (!strcmp(l->word[0], "bg"))
		background_start(l);
	else if (!strcmp(l->word[0], "join"))
		background_join(l);
	else
		line_play(l);
	printf("%s|%02d|%s|%s\n", name, number, shown, l->text);
	fflush(stdout);
}

static void player(char who, int first, const char *name, int mine, int others)
{
	static char bufs[MAX_SCRIPT][MAX_LINE];	/* of lines that a thread may still be reading */
	struct line l;
	char byte = 0;
	int i;

	alarm(SCENARIO_S);
	for (i = first; i < script_lines && strncmp(script[i], "scenario ", 9); i++) {
		if (script[i][0] != 'S' && script[i][0] != 'C')
			script_error("%s: who? %s", name, script[i]);
		if (script[i][0] != who) {
			if (read(others, &byte, 1) != 1)
				exit(3);	/* the other one has died; main says how */
			continue;
		}
		snprintf(bufs[i], MAX_LINE, "%s", script[i] + 1);
		line_parse(&l, bufs[i]);
		turn(&l, name, i - first + 1, script[i]);
		if (write(mine, &byte, 1) != 1)
			exit(3);
	}
	exit(0);
}

/* The turns' pipes become 3 and 4: what the script opens comes after them, so that closefrom spares them. */
static pid_t player_start(char who, int first, const char *name, const int ours[2], const int theirs[2])
{
	pid_t pid = fork();
	int mine, others;

	if (pid < 0)
		script_error("fork: %s", strerror(errno));
	if (pid)
		return pid;
	mine = fcntl(ours[1], F_DUPFD, 20);
	others = fcntl(theirs[0], F_DUPFD, 20);
	dup2(mine, 3);
	dup2(others, 4);
	closefrom(5);
	player(who, first, name, 3, 4);
	_exit(4);
}

static void ending(const char *who, pid_t pid, char *out, size_t cap)
{
	int status;

	if (waitpid(pid, &status, 0) != pid)
		script_error("waitpid: %s", strerror(errno));
	if (WIFSIGNALED(status))
		snprintf(out, cap, "%s killed by SIG%s", who, sigabbrev_np(WTERMSIG(status)));
	else
		snprintf(out, cap, "%s exit %d", who, WEXITSTATUS(status));
}

static void scenario_play(int first, const char *name)
{
	char server[60], client[60];
	int sc[2], cs[2];
	pid_t s, c;

	memset(shared, 0, sizeof(*shared));
	shared->closed_port = closed_port();
	if (pipe(sc) || pipe(cs))
		script_error("pipe: %s", strerror(errno));
	s = player_start('S', first, name, sc, cs);
	c = player_start('C', first, name, cs, sc);
	close(sc[0]);
	close(sc[1]);
	close(cs[0]);
	close(cs[1]);
	ending("S", s, server, sizeof(server));
	ending("C", c, client, sizeof(client));
	printf("%s|99|end|%s, %s\n", name, server, client);
	fflush(stdout);
}

static bool wanted(const char *name, int argc, char **argv)
{
	int i;

	for (i = 2; i < argc; i++)
		if (!strcmp(argv[i], name))
			return true;
	return argc <= 2;
}

int main(int argc, char **argv)
{
	int i;

	if (argc < 2)
		script_error("usage: compare SCRIPT [SCENARIO...]");
	closefrom(3);
	signal(SIGPIPE, SIG_IGN);
	script_read(argv[1]);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		script_error("mmap: %s", strerror(errno));
	for (i = 0; i < script_lines; i++)
		if (!strncmp(script[i], "scenario ", 9) && wanted(script[i] + 9, argc, argv))
			scenario_play(i + 1, script[i] + 9);
	return 0;
}
