#include "support/enginetest.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "support/child.h"
#include "support/leak.h"

/* Starting threads after a fork is what half of these tests are about. */
const char *__tsan_default_options(void);
__attribute__((used, visibility("default"))) const char *__tsan_default_options(void)
{
	return "die_after_fork=0";
}

int engine_setup(void **state)
{
	static const struct engine_hooks none;
	alarm(PROGRAM_LIMIT);
	engine_set_hooks(&none);
	return leak_setup(state);
}

int engine_teardown(void **state)
{
	alarm(0);
	engine_stop(0);
	return leak_teardown(state);
}

int add_one(struct engine *e, void *arg)
{
	return ++*(int *)arg;
}

int nothing(struct engine *e, void *arg)
{
	return 0;
}

int its_tid(struct engine *e, void *arg)
{
	return (int)syscall(SYS_gettid);
}

void many_calls(int n)
{
	for (int i = 0; i < n; i++)
		CHECK(engine_call(nothing, NULL) == 0);
}

void sparse_calls(int n)
{
	for (int i = 0; i < n; i++) {
		CHECK(engine_call(nothing, NULL) == 0);
		for (int j = 0; j < 200; j++)
			sched_yield();
	}
}

int shared_count;

void *caller(void *arg)
{
	for (int i = 0; i < CALLS; i++) {
		if (engine_call(add_one, &shared_count) < 1)
			return (void *)1;
	}
	return NULL;
}
