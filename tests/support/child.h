/* Forked children for tests, each with a limit of time, judged by how they end. */
#ifndef SUPPORT_CHILD_H
#define SUPPORT_CHILD_H

#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

/* Seconds after which a test, or a process it started, is killed. */
#define PROGRAM_LIMIT 100

/* In other processes: exits with the line that failed. */
#define CHECK(x) do {									\
	if (!(x)) {									\
		fprintf(stderr, "child: %s:%d: %s: %m\n", __FILE__, __LINE__, #x);	\
		_exit(1);								\
	}										\
} while (0)

/* In a child: what its leak checker would find are blocks of the parent's threads, which alone point to them. */
void leaks_are_the_parents(void);
/* fork, with that and a limit of time for the child. */
pid_t fork_limited(void);
/* The exit status; a signal n counts as 256 + n. Asserts that it was a child. */
int wait_child(pid_t child);
void kill_child(pid_t child);
/* fn, full of CHECKs, in a child that must come to its end. */
void in_child(void (*fn)(void));

/* cmocka's setup and teardown around every test: the limit. */
int limit_setup(void **state);
int limit_teardown(void **state);

#endif
