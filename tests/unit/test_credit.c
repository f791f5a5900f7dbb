/* The process-wide table of stream credit: nothing is taken twice, and children of fork start with none. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "sock/sock.h"
#include "support/leak.h"

static int teardown(void **state)
{
	credit_forget(1);
	credit_forget(2);
	return leak_teardown(state);
}

static void credit_take__as_many_as_were_added_per_direction(void **state)
{
	assert_false(credit_take(1, false));
	credit_add(1, 2, 1);
	credit_add(2, 0, 1);
	assert_true(credit_take(1, false));
	assert_true(credit_take(1, false));
	assert_false(credit_take(1, false));
	assert_true(credit_take(1, true));
	assert_false(credit_take(1, true));
	assert_false(credit_take(2, false));
	assert_true(credit_take(2, true));
	credit_add(1, 1, 0);
	assert_true(credit_take(1, false));
}

static void credit_return__is_there_again_but_not_for_the_dead(void **state)
{
	credit_add(1, 1, 0);
	assert_true(credit_take(1, false));
	credit_return(1, false);
	assert_true(credit_take(1, false));
	credit_forget(1);
	credit_return(1, false);
	assert_false(credit_take(1, false));
	assert_int_equal(allocated(), 0);
}

static void credit__in_a_forked_child__nothing(void **state)
{
	credit_add(1, 5, 5);
	pid_t child = fork();
	if (!child)
		_exit(credit_take(1, false) || credit_take(1, true));
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_true(credit_take(1, false));
}

static void credit_add__no_memory__none_to_take(void **state)
{
	mem_test_fail_nth(1);
	assert_false(credit_add(1, 5, 5));
	mem_test_fail_nth(0);
	assert_false(credit_take(1, false));
}

#define EACH 20000
static atomic_int taken;

static void *taker(void *arg)
{
	for (int i = 0; i < EACH; i++)
		if (credit_take(1, false))
			atomic_fetch_add(&taken, 1);
	return NULL;
}

static void credit_take__many_threads__none_twice(void **state)
{
	pthread_t t[4];
	atomic_store(&taken, 0);
	credit_add(1, 1, 0);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, taker, NULL), 0);
	for (int i = 1; i < EACH; i++)
		credit_add(1, 1, 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	while (credit_take(1, false))
		atomic_fetch_add(&taken, 1);
	assert_int_equal(atomic_load(&taken), EACH);
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(credit_take__as_many_as_were_added_per_direction),
		T(credit_return__is_there_again_but_not_for_the_dead),
		T(credit__in_a_forked_child__nothing),
		T(credit_add__no_memory__none_to_take),
		T(credit_take__many_threads__none_twice),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
