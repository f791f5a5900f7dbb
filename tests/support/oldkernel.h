/* Kernels older than this one, and sandboxes: system calls that are refused, by seccomp. */
#ifndef SUPPORT_OLDKERNEL_H
#define SUPPORT_OLDKERNEL_H

#include <stddef.h>

/* From here on calls, n of them and 15 at most, fail with err: in this thread, and in the threads and processes that it
 * starts. Aborts where there is no seccomp. */
void calls_refuse(const int *calls, size_t n, int err);
/* The same for all that came after Linux 5.4 and the library has a use for: ENOSYS. */
void kernel_becomes_old(void);

#endif
