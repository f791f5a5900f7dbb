/* The programs of examples/, run by tests as people run them: started with words, judged by what they print, by their
 * exit status and by the files they leave. Everything asserts on failure. */
#ifndef SUPPORT_TOOLS_H
#define SUPPORT_TOOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define TOOL_WORDS 80

struct tool {
	pid_t pid;
	int in, out, err;		/* our ends of its standard descriptors; -1: not ours */
	char said[8192];		/* on standard error, so far */
	size_t len;
	unsigned port;			/* servers: what they announced */
	char pin[65];
};

/* How to start it, beyond the words. Zero is right. */
struct tool_how {
	bool close_in, close_out, close_err;
	const char *in_file, *out_file;	/* in place of pipes */
	int err_fd;			/* > 0: its standard error */
	unsigned max_files, max_file_bytes;	/* limits; 0: none */
	bool no_network;		/* in a network of its own, without addresses */
	bool old_kernel;		/* support/sandbox.h */
};

/* Where configurations of the tools go: XDG_CONFIG_HOME. Once, before anything is started. */
void tools_home(const char *dir);
/* Whether no_network is possible here. */
bool tools_can_hide(void);
/* words: the name and its arguments, separated by spaces; printf-like. */
__attribute__((format(printf, 3, 4)))
void tool_start(struct tool *t, const struct tool_how *how, const char *words, ...);
/* The same, and wait until it has announced its port and its pin. */
__attribute__((format(printf, 3, 4)))
void server_start(struct tool *t, const struct tool_how *how, const char *words, ...);
/* Wait for the end; the exit status, 256 + n for a signal. */
int tool_wait(struct tool *t);
/* kill, then tool_wait. */
int tool_end(struct tool *t, int sig);
/* It ends by itself with status 1 and one line on standard error, which opens with its name and contains says. */
void tool_fails(struct tool *t, const char *says);
/* tool_start, tool_fails. */
__attribute__((format(printf, 3, 4)))
void refuses(const struct tool_how *how, const char *says, const char *words, ...);
/* Standard input is given and ended, standard output read to the end (at most size); ends with 0 and no complaint. */
size_t tool_converses(struct tool *t, const char *input, char *output, size_t size);

#endif
