/* Other processes for tests over descriptors: forked children, and programs of their own, which are the test's
 * executable started anew, so that they begin without an engine and end as programs do. Descriptors travel
 * between them over a socket. */
#ifndef SUPPORT_PROGRAMS_H
#define SUPPORT_PROGRAMS_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include "support/loopback.h"

/* Seconds after which a test, or a process it started, is killed. */
#define PROGRAM_LIMIT 100

/* In other processes: exits with the line that failed. */
#define CHECK(x) do {									\
	if (!(x)) {									\
		fprintf(stderr, "child: %s:%d: %s: %m\n", __FILE__, __LINE__, #x);	\
		_exit(1);								\
	}										\
} while (0)

/* This executable, to be started anew. Not the link in /proc: under valgrind that is valgrind. */
const char *program_path(void);

/* What a program does; fd is its end of a socket to the test. What it returns goes to exit(). */
struct role {
	const char *name;
	int (*run)(struct loopback *lb, int fd);
};
/* First thing in main: becomes that role and does not return, if it is a program that was started for one. */
void role_enter(int argc, char **argv, const struct role *roles, size_t n);
/* Start a program that uses lb's certificates and address. *fd: the test's end of the socket. */
pid_t role_start(const struct loopback *lb, const char *name, int *fd);

/* fork, with a limit of time for the child. */
pid_t fork_limited(void);
/* The exit status; a signal n counts as 256 + n. Asserts that it was a child. */
int wait_child(pid_t child);
void kill_child(pid_t child);

/* Words between the processes: one byte that must come, within the limit. False: the other side is gone. */
bool say(int fd, char word);
bool hear(int fd, char word);
/* A descriptor over a socket. fd_receive: -1 on failure. */
bool fd_send(int sock, int fd);
int fd_receive(int sock);

/* cmocka's setup and teardown around every test: the limit. */
int limit_setup(void **state);
int limit_teardown(void **state);

#endif
