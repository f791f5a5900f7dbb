#include "support/child.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <signal.h>
#include <sys/wait.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define VALGRIND_CLO_CHANGE(option) ((void)0)
#endif

static bool forked;
int __lsan_is_turned_off(void);
__attribute__((used, visibility("default"))) int __lsan_is_turned_off(void)
{
	return forked;
}

void leaks_are_the_parents(void)
{
	forked = true;
	VALGRIND_CLO_CHANGE("--leak-check=no");
}

pid_t fork_limited(void)
{
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (!child) {
		leaks_are_the_parents();
		alarm(PROGRAM_LIMIT);
	}
	return child;
}

int wait_child(pid_t child)
{
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? 256 + WTERMSIG(status) : WEXITSTATUS(status);
}

void kill_child(pid_t child)
{
	kill(child, SIGKILL);
	assert_int_equal(wait_child(child), 256 + SIGKILL);
}

void in_child(void (*fn)(void))
{
	pid_t child = fork_limited();
	if (!child) {
		fn();
		_exit(0);
	}
	assert_int_equal(wait_child(child), 0);
}

int limit_setup(void **state)
{
	alarm(PROGRAM_LIMIT);
	return 0;
}

int limit_teardown(void **state)
{
	alarm(0);
	return 0;
}
