/* A certificate made by ourselves, for servers that were given none. Kept in one file, so that key and
 * certificate cannot come apart, and put in place whole, so that processes starting at once agree on one. */
#ifndef TLS_SELFSIGNED_H
#define TLS_SELFSIGNED_H

#include "tls/pem.h"

#define SELFSIGNED_FILE "self-signed.pem"

/* dir: NULL for $XDG_CONFIG_HOME/libqsock or ~/.config/libqsock. Creates dir (0700) and the file (0600) when missing.
 * A directory that cannot be used is no error: the identity then lives only in id. 0, or an errno value with a
 * line in c (EINVAL: the file is there but is not ours to understand). */
int selfsigned_get(struct identity *id, const char *dir, struct complaint *c);

#endif
