/* The functions that the hooks stand in front of, found on first use. REAL(name) is a
 * pointer to the next definition of name; it may be called at any time, before constructors
 * and from inside malloc too. */
#ifndef PRELOAD_REAL_H
#define PRELOAD_REAL_H

#include <stdatomic.h>
#include <stdbool.h>

#include "io/engine_int.h"

void *real_find(_Atomic(void *) *slot, const char *name);

#define REAL(name)                                                                     \
	({                                                                             \
		static _Atomic(void *) slot_;                                          \
		void *p_ = atomic_load_explicit(&slot_, memory_order_acquire);         \
		(__typeof__(&name))(p_ ? p_ : real_find(&slot_, #name));               \
	})

/* Depth of the shim in this thread: what the library calls inside is meant for the kernel. */
extern _Thread_local int shim_depth __attribute__((tls_model("initial-exec")));
static inline bool shim_bypass(void) { return shim_depth || engine_self; }
static inline void shim_enter(void) { shim_depth++; }
static inline void shim_leave(void) { shim_depth--; }

#endif
