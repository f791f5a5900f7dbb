/* The environment's rules. A rule that cannot be read is complained about and left out:
 * the sockets it meant then speak QUIC, and nothing is less protected than it was meant to be. */
#include "preload/policy.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "preload/log.h"

/* The next entry of a comma-separated list, cut at blanks, in buf. Its length; 0: end; -1: too long. */
static int next_entry(const char **at, char *buf, size_t size)
{
	const char *p = *at + strspn(*at, ", \t");
	size_t n = strcspn(p, ", \t");
	*at = p + n;
	if (n >= size)
		return -1;
	memcpy(buf, p, n);
	buf[n] = '\0';
	return (int)n;
}

static bool parse_number(const char *text, char **end, unsigned long max, unsigned long *out)
{
	if (*text < '0' || *text > '9')
		return false;
	*out = strtoul(text, end, 10);
	return *out <= max;
}

static bool parse_range(const char *text, struct port_range *out)
{
	unsigned long from, to;
	char *end;
	if (!parse_number(text, &end, 65535, &from))
		return false;
	to = from;
	if (*end == '-' && !parse_number(end + 1, &end, 65535, &to))
		return false;
	*out = (struct port_range){ (uint16_t)from, (uint16_t)to };
	return !*end && from <= to;
}

int policy_parse_ports(const char *text, struct port_range *out, unsigned max)
{
	char entry[32];
	int len;
	unsigned n = 0;
	while ((len = next_entry(&text, entry, sizeof(entry))) > 0)
		if (n == max || !parse_range(entry, &out[n++]))
			return -1;
	return len < 0 ? -1 : (int)n;
}

static void map_v4(uint8_t out[16], const void *v4)
{
	static const uint8_t head[12] = { [10] = 0xff, [11] = 0xff };
	memcpy(out, head, 12);
	memcpy(out + 12, v4, 4);
}

static bool parse_prefix(char *text, struct prefix *out)
{
	char *slash = strchr(text, '/'), *end = "";
	unsigned long bits;
	struct in_addr v4;
	if (slash)
		*slash = '\0';
	bool four = inet_pton(AF_INET, text, &v4) == 1;
	if (four)
		map_v4(out->bytes, &v4);
	else if (inet_pton(AF_INET6, text, out->bytes) != 1)
		return false;
	bits = four ? 32 : 128;
	if (slash && !parse_number(slash + 1, &end, bits, &bits))
		return false;
	out->bits = (unsigned)bits + (four ? 96 : 0);
	return !*end;
}

int policy_parse_addrs(const char *text, struct prefix *out, unsigned max)
{
	char entry[64];
	int len;
	unsigned n = 0;
	while ((len = next_entry(&text, entry, sizeof(entry))) > 0)
		if (n == max || !parse_prefix(entry, &out[n++]))
			return -1;
	return len < 0 ? -1 : (int)n;
}

static bool in_prefix(const uint8_t a[16], const struct prefix *p)
{
	unsigned whole = p->bits / 8, rest = p->bits % 8;
	if (memcmp(a, p->bytes, whole))
		return false;
	return !rest || !((a[whole] ^ p->bytes[whole]) >> (8 - rest));
}

bool policy_match(const struct policy *p, const struct addr *a)
{
	uint8_t bytes[16];
	uint16_t port = ntohs(a->sa.sa_family == AF_INET6 ? a->in6.sin6_port : a->in4.sin_port);
	for (unsigned i = 0; i < p->n_ports; i++)
		if (port >= p->tcp_ports[i].from && port <= p->tcp_ports[i].to)
			return true;
	if (a->sa.sa_family == AF_INET6)
		memcpy(bytes, &a->in6.sin6_addr, 16);
	else
		map_v4(bytes, &a->in4.sin_addr);
	for (unsigned i = 0; i < p->n_addrs; i++)
		if (in_prefix(bytes, &p->tcp_addrs[i]))
			return true;
	return false;
}

void policy_load(struct policy *p, const char *(*get)(const char *name), void (*complain)(const char *line))
{
	const char *ports = get("QSOCK_TCP_PORTS"), *addrs = get("QSOCK_TCP_ADDRS");
	memset(p, 0, sizeof(*p));
	int n = ports ? policy_parse_ports(ports, p->tcp_ports, POLICY_RULES_MAX) : 0;
	if (n < 0)
		complain("QSOCK_TCP_PORTS is not a list such as 53,8000-8999 of at most 64 entries: ignored");
	p->n_ports = n < 0 ? 0 : (unsigned)n;
	n = addrs ? policy_parse_addrs(addrs, p->tcp_addrs, POLICY_RULES_MAX) : 0;
	if (n < 0)
		complain("QSOCK_TCP_ADDRS is not a list such as 192.0.2.1,2001:db8::/32 of at most 64 entries: ignored");
	p->n_addrs = n < 0 ? 0 : (unsigned)n;
	p->cert = get("QSOCK_CERT");
	p->key = get("QSOCK_KEY");
	p->ca_file = get("QSOCK_CAFILE");
	p->pin = get("QSOCK_PIN");
	p->known_hosts = get("QSOCK_KNOWN_HOSTS");
	p->server_name = get("QSOCK_SERVER_NAME");
	p->log = get("QSOCK_LOG");
}

static struct policy the_policy;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static const char *from_environment(const char *name)
{
	const char *v = getenv(name);
	return v && *v ? v : NULL;
}

/* A copy: programs change and clear their environment. */
static const char *keep(const char *s)
{
	return s ? strdup(s) : NULL;
}

static void complain(const char *line)
{
	log_early(the_policy.log, line);
}

static void load(void)
{
	the_policy.log = from_environment("QSOCK_LOG");
	struct policy p;
	policy_load(&p, from_environment, complain);
	p.cert = keep(p.cert);
	p.key = keep(p.key);
	p.ca_file = keep(p.ca_file);
	p.pin = keep(p.pin);
	p.known_hosts = keep(p.known_hosts);
	p.server_name = keep(p.server_name);
	p.log = keep(p.log);
	the_policy = p;
}

const struct policy *policy_get(void)
{
	pthread_once(&once, load);
	return &the_policy;
}
