#include "preload/real.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

_Thread_local int shim_depth;

/* What the C library lacks, nobody can have called. */
void *real_find(_Atomic(void *) *slot, const char *name)
{
	void *p = dlsym(RTLD_NEXT, name);
	if (!p) {
		static const char text[] = "qsock: a function is missing in the C library: ";
		if (write(2, text, sizeof(text) - 1) < 0 || write(2, name, strlen(name)) < 0 || write(2, "\n", 1) < 0)
			abort();
		abort();
	}
	atomic_store_explicit(slot, p, memory_order_release);
	return p;
}
