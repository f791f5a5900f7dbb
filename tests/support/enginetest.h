/* For tests of io/engine with its real thread: what goes around each of them, and small commands. */
#ifndef SUPPORT_ENGINETEST_H
#define SUPPORT_ENGINETEST_H

#include "io/engine.h"

#define LIMIT_MS 10000		/* for what must happen */

/* No hooks; the engine stops at the end and nothing of it stays allocated. */
int engine_setup(void **state);
int engine_teardown(void **state);

/* Commands for engine_call. */
int add_one(struct engine *e, void *arg);	/* to the int at arg, and returns it */
int nothing(struct engine *e, void *arg);
int its_tid(struct engine *e, void *arg);

/* In children: n calls, one behind the other; or each finding the engine asleep or nearly so. */
void many_calls(int n);
void sparse_calls(int n);

/* A thread that calls add_one on shared_count CALLS times; returns NULL, or something else when one call failed. */
#define CALLS 5000
extern int shared_count;	/* plain: only the engine thread may touch it */
void *caller(void *arg);

#endif
