/* Kernels and sandboxes that refuse: system calls that fail from now on, in this process and what it starts. There is
 * no way back, so it is for a child (child.h); exits when it cannot be done. */
#ifndef SUPPORT_SANDBOX_H
#define SUPPORT_SANDBOX_H

#include <stddef.h>

/* calls[n]: numbers, SYS_*, at most 7; err: what errno they set. */
void deny_calls(const int *calls, size_t n, int err);
/* All that came after Linux 5.4 and we have a use for: ENOSYS. */
void kernel_becomes_old(void);

#endif
