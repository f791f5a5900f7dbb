#include "support/leaks.h"

#include <stdbool.h>

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
