#include "support/tools.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "support/certs.h"
#include "support/loopback.h"
#include "support/sandbox.h"
#include "support/programs.h"

const char *__tsan_default_suppressions(void);

void tools_home(const char *dir)
{
	char options[128];
	assert_int_equal(setenv("XDG_CONFIG_HOME", dir, 1), 0);
	/* what is said there of tests is true of the tools */
	text_write(dir, "tsan", __tsan_default_suppressions());
	snprintf(options, sizeof(options), "history_size=7:io_sync=0:suppressions=%s/tsan", dir);
	assert_int_equal(setenv("TSAN_OPTIONS", options, 1), 0);
}

/* build/VARIANT/tests/fd/test_x has its tools in build/VARIANT/bin, those of release stand in build/bin. */
static void bin_path(char *path, size_t size, const char *tool)
{
	char self[512];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	assert_true(n > 0);
	self[n] = '\0';
	char *end = strstr(self, "/tests/");
	assert_non_null(end);
	*end = '\0';
	if ((end = strrchr(self, '/')) && !strcmp(end, "/release"))
		*end = '\0';
	assert_true((size_t)snprintf(path, size, "%s/bin/%s", self, tool) < size);
}

static bool hide(void)
{
	return !unshare(CLONE_NEWNET) || !unshare(CLONE_NEWUSER | CLONE_NEWNET);
}

bool tools_can_hide(void)
{
	pid_t child = fork_limited();
	if (!child)
		_exit(!hide());
	return wait_child(child) == 0;
}

static void put(int fd, int at, bool closed)
{
	if (closed)
		close(at);
	else
		CHECK(dup2(fd, at) == at);
}

_Noreturn static void become(const struct tool_how *how, const char *path, char **argv, const int mine[3])
{
	put(how->in_file ? open(how->in_file, O_RDONLY) : mine[0], 0, how->close_in);
	put(how->out_file ? open(how->out_file, O_WRONLY) : mine[1], 1, how->close_out);
	put(how->err_fd > 0 ? how->err_fd : mine[2], 2, how->close_err);
	close_range(3, ~0U, 0);
	if (how->max_files)
		CHECK(!setrlimit(RLIMIT_NOFILE, &(struct rlimit){ how->max_files, how->max_files }));
	if (how->max_file_bytes)
		CHECK(!setrlimit(RLIMIT_FSIZE, &(struct rlimit){ how->max_file_bytes, how->max_file_bytes }));
	CHECK(!how->no_network || hide());
	if (how->old_kernel) {
		/* the engine's numbers are others then, and TSan takes its table and the application's for one */
		setenv("TSAN_OPTIONS", "report_bugs=0", 1);
		kernel_becomes_old();
	}
	signal(SIGPIPE, SIG_DFL);
	if (!strcmp(argv[0], "qserve"))		/* when it ends, its items are known to epoll alone */
		setenv("ASAN_OPTIONS", "detect_leaks=0", 1);
	execv(path, argv);
	_exit(127);
}

static void start(struct tool *t, const struct tool_how *how, const char *words, va_list ap)
{
	static const struct tool_how plain;
	char line[6000], path[600], *argv[TOOL_WORDS + 1], *save;
	int pipes[3][2], n = 0;
	assert_true((size_t)vsnprintf(line, sizeof(line), words, ap) < sizeof(line));
	for (char *w = strtok_r(line, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
		assert_true(n < TOOL_WORDS);
		argv[n++] = w;
	}
	argv[n] = NULL;
	bin_path(path, sizeof(path), argv[0]);
	for (int i = 0; i < 3; i++)
		assert_int_equal(pipe2(pipes[i], O_CLOEXEC), 0);
	*t = (struct tool){ .in = pipes[0][1], .out = pipes[1][0], .err = pipes[2][0] };
	t->pid = fork_limited();
	if (!t->pid)
		become(how ? how : &plain, path, argv, (int[]){ pipes[0][0], pipes[1][1], pipes[2][1] });
	close(pipes[0][0]);
	close(pipes[1][1]);
	close(pipes[2][1]);
}

void tool_start(struct tool *t, const struct tool_how *how, const char *words, ...)
{
	va_list ap;
	va_start(ap, words);
	start(t, how, words, ap);
	va_end(ap);
}

/* More of what it says. false: it has closed standard error. */
static bool listen_to(struct tool *t)
{
	assert_true(t->len < sizeof(t->said) - 1);
	ssize_t n = read(t->err, t->said + t->len, sizeof(t->said) - 1 - t->len);
	assert_true(n >= 0);
	t->len += (size_t)n;
	t->said[t->len] = '\0';
	return n > 0;
}

void server_start(struct tool *t, const struct tool_how *how, const char *words, ...)
{
	va_list ap;
	va_start(ap, words);
	start(t, how, words, ap);
	va_end(ap);
	bool pinned = !strstr(words, "qserve") || !strstr(words, "--cert");	/* qserve is silent on a given one */
	for (;;) {
		const char *port = strstr(t->said, "port "), *pin = strstr(t->said, "--pin ");
		bool whole = t->len && t->said[t->len - 1] == '\n';
		if (whole && port && (pin || !pinned)) {
			t->port = (unsigned)atoi(port + 5);
			if (pin)
				memcpy(t->pin, pin + 6, 64);
			t->said[t->len = 0] = '\0';
			return;
		}
		if (!listen_to(t))
			fail_msg("%s does not start: %s", words, t->said);
	}
}

static void hang_up(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

int tool_wait(struct tool *t)
{
	while (listen_to(t))
		;
	hang_up(&t->in);
	hang_up(&t->out);
	hang_up(&t->err);
	return wait_child(t->pid);
}

int tool_end(struct tool *t, int sig)
{
	assert_int_equal(kill(t->pid, sig), 0);
	return tool_wait(t);
}

void tool_fails(struct tool *t, const char *says)
{
	static const char *const names[] = { "qserve: ", "qget: ", "qcat: ", "echo_server: ", "echo_client: " };
	bool named = false;
	int status = tool_wait(t);
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		named |= !strncmp(t->said, names[i], strlen(names[i]));
	const char *end = strchr(t->said, '\n');
	if (status != 1 || !named || !end || end[1] || !strstr(t->said, says))
		fail_msg("exit status %d, wanted one line with \"%s\", got \"%s\"", status, says, t->said);
}

void refuses(const struct tool_how *how, const char *says, const char *words, ...)
{
	struct tool t;
	va_list ap;
	va_start(ap, words);
	start(&t, how, words, ap);
	va_end(ap);
	hang_up(&t.in);
	tool_fails(&t, says);
}

size_t tool_converses(struct tool *t, const char *input, char *output, size_t size)
{
	int end;
	write_all(t->in, input, strlen(input));
	hang_up(&t->in);
	size_t n = read_upto(t->out, output, size, &end);
	int status = tool_wait(t);
	if (status || t->len)
		fail_msg("exit status %d, and it said \"%s\"", status, t->said);
	return n;
}
