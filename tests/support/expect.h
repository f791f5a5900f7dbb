/* What comes out of a stream's descriptor, and what qsock_error says of it. Everything asserts on failure. */
#ifndef SUPPORT_EXPECT_H
#define SUPPORT_EXPECT_H

#include "qsock.h"

/* These bytes come next, and more may follow. */
void expect_text(int fd, const char *text);
/* Nothing more; want 1: end of file, -1: ECONNRESET. */
void expect_end(int fd, int want);
/* Write until it fails with EPIPE, without a signal. */
void expect_epipe(int fd);
void expect_error(int fd, enum qsock_error_kind kind, uint64_t code, int by_peer);

#endif
