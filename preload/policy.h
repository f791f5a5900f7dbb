/* What the environment says: which sockets stay TCP, whom to trust, where to log. Read
 * once, on first use; immutable then. */
#ifndef PRELOAD_POLICY_H
#define PRELOAD_POLICY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/addr.h"

#define POLICY_RULES_MAX 64	/* entries of each list; more are an error in the log */

struct port_range { uint16_t from, to; };	/* host byte order, inclusive */
struct prefix {
	uint8_t bytes[16];	/* IPv4 in its mapped form */
	unsigned bits;
};
struct policy {
	struct port_range tcp_ports[POLICY_RULES_MAX];
	unsigned n_ports;
	struct prefix tcp_addrs[POLICY_RULES_MAX];
	unsigned n_addrs;
	/* of the environment, borrowed; NULL: not set or empty */
	const char *cert, *key, *ca_file, *pin, *known_hosts, *server_name, *log;
};

/* "80,443,8000-8999". The number of ranges, or -1: malformed or too many. */
int policy_parse_ports(const char *text, struct port_range *out, unsigned max);
/* "127.0.0.1,10.0.0.0/8,fe80::/10". As above. */
int policy_parse_addrs(const char *text, struct prefix *out, unsigned max);
/* Does a socket bound or connected to a stay TCP? */
bool policy_match(const struct policy *p, const struct addr *a);
/* From getenv-like look-up; what is malformed is reported and left out. complain gets one line. */
void policy_load(struct policy *p, const char *(*get)(const char *name), void (*complain)(const char *line));

const struct policy *policy_get(void);

#endif
