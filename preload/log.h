/* One line per connection, and one for whatever cannot be done. QSOCK_LOG names a file, or "stderr". Without it, or
 * when it cannot be written, only warnings are, to stderr unless that is a socket. No descriptor is kept. Any thread,
 * the engine's too; errno stays. */
#ifndef PRELOAD_LOG_H
#define PRELOAD_LOG_H

#include "base/addr.h"

void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_early(const char *target, const char *line);	/* while the policy is being read */

#define ADDR_TEXT 64
const char *addr_text(const struct addr *a, char buf[ADDR_TEXT]);	/* "192.0.2.1:80", "[::1]:80", "-" for none */

#endif
