/* Nothing stays allocated: every object that the library makes during a test is freed by its end. leak_setup and
 * leak_teardown go around a test as they are, or are called by a test's own setup (first) and teardown (last). */
#ifndef SUPPORT_LEAK_H
#define SUPPORT_LEAK_H

#include <stdint.h>

int leak_setup(void **state);
/* Also ends an injected failure that has not happened. */
int leak_teardown(void **state);
/* Objects made since leak_setup and not freed. */
int64_t allocated(void);

#endif
