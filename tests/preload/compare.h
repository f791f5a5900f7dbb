/* compare: what the files of this program share. A scenario is played by two processes, S and C, that take turns line by
 * line; a line is one call on a named socket ("slot"), and its outcome is text. */
#ifndef COMPARE_H
#define COMPARE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

enum { MAX_SLOTS = 32, MAX_WORDS = 40, MAX_LINE = 200, MAX_TEXT = 400 };

struct address_of {
	char slot[16];
	struct sockaddr_storage addr;
};

/* Memory of all processes of a scenario. */
struct shared {
	struct address_of known[MAX_SLOTS];	/* whose getsockname has been asked */
	size_t flooded;				/* bytes that "flood" got rid of */
	int closed_port;			/* nobody listens there */
	char child[MAX_TEXT];			/* outcome of a line played by a forked child */
};

extern struct shared *shared;

/* One line of the script, cut into words; its outcome. */
struct line {
	int count;
	char *word[MAX_WORDS];
	char text[MAX_TEXT];
};

void line_parse(struct line *l, char *buf);
void line_play(struct line *l);	/* never fails: what is wrong with a script ends the program */
const char *line_word(const struct line *l, int i);
const char *line_word_or(const struct line *l, int i, const char *otherwise);
int line_fd(const struct line *l, int i);			/* of the slot that word i names */
int *slot_of(const char *name);
__attribute__((format(printf, 2, 3))) void line_say(struct line *l, const char *fmt, ...);	/* appends to the outcome */
void line_outcome(struct line *l, long rc);			/* as a system call: rc, and errno's name when -1 */
void sleep_ms(long ms);

__attribute__((format(printf, 1, 2), noreturn)) void script_error(const char *fmt, ...);

/* ---- calls of compare_wait.c ------------------------------------------------------ */

void op_poll(struct line *l);
void op_select(struct line *l);
void op_epoll(struct line *l);
void op_epoll_add(struct line *l);
void op_epoll_mod(struct line *l);
void op_epoll_wait(struct line *l);
void op_pause(struct line *l);
void op_sigpipe(struct line *l);
void op_fds(struct line *l);
void op_rlimit(struct line *l);
void op_ticks(struct line *l);
void op_closefrom(struct line *l);
void op_fork(struct line *l);
void op_scm(struct line *l);

/* ---- names (compare_names.c) ---------------------------------------------------- */

long flags_value(const char *words);				/* "IN,OUT,ET"; "-" is 0 */
void poll_name(char *out, size_t cap, unsigned int events);	/* "IN|HUP"; "0" */

struct option {
	const char *name;
	int level, name_number;
	enum { OPT_INT, OPT_POSITIVE, OPT_LINGER, OPT_TIME, OPT_INFO, OPT_STRING } kind;
};

const struct option *option_find(const char *name);

/* WHERE:PORT: lo any lo6 any6 mapped foreign hole unreach noroute; a number, @slot or "closed". Returns the length. */
socklen_t address_value(const char *word, struct sockaddr_storage *ss);
/* The same backwards; ports as @slot when a slot is known to have that very address. */
void address_name(char *out, size_t cap, const struct sockaddr_storage *ss, socklen_t len);
void address_remember(const char *slot, const struct sockaddr_storage *ss);

#endif
