/* Other processes for tests over descriptors: programs of their own, which are the test's
 * executable started anew, so that they begin without an engine and end as programs do. Descriptors travel
 * between them over a socket. */
#ifndef SUPPORT_PROGRAMS_H
#define SUPPORT_PROGRAMS_H

#include "support/child.h"
#include "support/loopback.h"

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

/* Words between the processes: one byte that must come, within the limit. False: the other side is gone. */
bool say(int fd, char word);
bool hear(int fd, char word);
/* A descriptor over a socket. fd_receive: -1 on failure. */
bool fd_send(int sock, int fd);
int fd_receive(int sock);

#endif
