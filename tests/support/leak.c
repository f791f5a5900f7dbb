#include "support/leak.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "base/mem.h"

static int64_t before;

int64_t allocated(void)
{
	return mem_test_live() - before;
}

int leak_setup(void **state)
{
	before = mem_test_live();
	return 0;
}

int leak_teardown(void **state)
{
	mem_test_fail_nth(0);
	assert_int_equal(allocated(), 0);
	return 0;
}
