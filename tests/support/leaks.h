/* Leak checkers and forked children. */
#ifndef SUPPORT_LEAKS_H
#define SUPPORT_LEAKS_H

/* In a child of fork, which has the memory of the parent's threads but not the threads that would point to it: its
 * leak checker (LeakSanitizer, valgrind) is not to ask. */
void leaks_are_the_parents(void);

#endif
