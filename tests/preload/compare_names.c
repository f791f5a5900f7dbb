/* compare: words of the script into numbers and addresses, and back. */
#include "compare.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

static const struct {
	const char *name;
	long value;
} flags[] = {
	{"-", 0}, {"IN", POLLIN}, {"PRI", POLLPRI}, {"OUT", POLLOUT}, {"ERR", POLLERR}, {"HUP", POLLHUP},
	{"NVAL", POLLNVAL}, {"RDHUP", POLLRDHUP}, {"ET", (long)EPOLLET}, {"ONESHOT", EPOLLONESHOT},
	{"PEEK", MSG_PEEK}, {"DONTWAIT", MSG_DONTWAIT}, {"WAITALL", MSG_WAITALL}, {"NOSIGNAL", MSG_NOSIGNAL},
	{"OOB", MSG_OOB}, {"MORE", MSG_MORE}, {"TRUNC", MSG_TRUNC}, {"FASTOPEN", MSG_FASTOPEN},
	{"NONBLOCK", SOCK_NONBLOCK}, {"CLOEXEC", SOCK_CLOEXEC}, {"inet", AF_INET}, {"inet6", AF_INET6},
	{"stream", SOCK_STREAM}, {"tcp", IPPROTO_TCP}, {"RD", SHUT_RD}, {"WR", SHUT_WR}, {"RDWR", SHUT_RDWR},
	{"dgram", SOCK_DGRAM}, {"udp", IPPROTO_UDP},
};

static const struct option options[] = {
	{"SO_DOMAIN", SOL_SOCKET, SO_DOMAIN, OPT_INT},
	{"SO_TYPE", SOL_SOCKET, SO_TYPE, OPT_INT},
	{"SO_PROTOCOL", SOL_SOCKET, SO_PROTOCOL, OPT_INT},
	{"SO_ERROR", SOL_SOCKET, SO_ERROR, OPT_INT},
	{"SO_ACCEPTCONN", SOL_SOCKET, SO_ACCEPTCONN, OPT_INT},
	{"SO_REUSEADDR", SOL_SOCKET, SO_REUSEADDR, OPT_INT},
	{"SO_REUSEPORT", SOL_SOCKET, SO_REUSEPORT, OPT_INT},
	{"SO_KEEPALIVE", SOL_SOCKET, SO_KEEPALIVE, OPT_INT},
	{"SO_OOBINLINE", SOL_SOCKET, SO_OOBINLINE, OPT_INT},
	{"SO_SNDBUF", SOL_SOCKET, SO_SNDBUF, OPT_POSITIVE},
	{"SO_RCVBUF", SOL_SOCKET, SO_RCVBUF, OPT_POSITIVE},
	{"SO_LINGER", SOL_SOCKET, SO_LINGER, OPT_LINGER},
	{"SO_RCVTIMEO", SOL_SOCKET, SO_RCVTIMEO, OPT_TIME},
	{"SO_SNDTIMEO", SOL_SOCKET, SO_SNDTIMEO, OPT_TIME},
	{"SO_RCVLOWAT", SOL_SOCKET, SO_RCVLOWAT, OPT_INT},
	{"SO_PRIORITY", SOL_SOCKET, SO_PRIORITY, OPT_INT},
	{"SO_UNKNOWN", SOL_SOCKET, 9999, OPT_INT},
	{"TCP_NODELAY", IPPROTO_TCP, TCP_NODELAY, OPT_INT},
	{"TCP_CORK", IPPROTO_TCP, TCP_CORK, OPT_INT},
	{"TCP_MAXSEG", IPPROTO_TCP, TCP_MAXSEG, OPT_POSITIVE},
	{"TCP_KEEPIDLE", IPPROTO_TCP, TCP_KEEPIDLE, OPT_INT},
	{"TCP_KEEPINTVL", IPPROTO_TCP, TCP_KEEPINTVL, OPT_INT},
	{"TCP_KEEPCNT", IPPROTO_TCP, TCP_KEEPCNT, OPT_INT},
	{"TCP_SYNCNT", IPPROTO_TCP, TCP_SYNCNT, OPT_INT},
	{"TCP_USER_TIMEOUT", IPPROTO_TCP, TCP_USER_TIMEOUT, OPT_INT},
	{"TCP_DEFER_ACCEPT", IPPROTO_TCP, TCP_DEFER_ACCEPT, OPT_INT},
	{"TCP_QUICKACK", IPPROTO_TCP, TCP_QUICKACK, OPT_INT},
	{"TCP_FASTOPEN", IPPROTO_TCP, TCP_FASTOPEN, OPT_INT},
	{"TCP_CONGESTION", IPPROTO_TCP, TCP_CONGESTION, OPT_STRING},
	{"TCP_INFO", IPPROTO_TCP, TCP_INFO, OPT_INFO},
	{"TCP_UNKNOWN", IPPROTO_TCP, 9999, OPT_INT},
	{"IP_TOS", IPPROTO_IP, IP_TOS, OPT_INT},
	{"IP_TTL", IPPROTO_IP, IP_TTL, OPT_INT},
	{"IP_UNKNOWN", IPPROTO_IP, 9999, OPT_INT},
	{"IPV6_V6ONLY", IPPROTO_IPV6, IPV6_V6ONLY, OPT_INT},
	{"IPV6_TCLASS", IPPROTO_IPV6, IPV6_TCLASS, OPT_INT},
	{"LEVEL_UNKNOWN", 9999, 1, OPT_INT},
};

static const struct {
	const char *name;
	int family;
	const char *text;
} places[] = {
	{"lo", AF_INET, "127.0.0.1"}, {"any", AF_INET, "0.0.0.0"}, {"lo6", AF_INET6, "::1"}, {"any6", AF_INET6, "::"},
	{"mapped", AF_INET6, "::ffff:127.0.0.1"}, {"foreign", AF_INET, "192.0.2.1"},
	/* routes made by compare.sh in a network namespace: silence, "unreachable", none at all */
	{"hole", AF_INET, "198.51.100.2"}, {"unreach", AF_INET, "198.51.100.130"}, {"noroute", AF_INET, "203.0.113.1"},
};

long flags_value(const char *words)
{
	char buf[MAX_LINE], *word, *save = NULL;
	char *end;
	long value = 0;
	size_t i;

	snprintf(buf, sizeof(buf), "%s", words);
	for (word = strtok_r(buf, ",", &save); word; word = strtok_r(NULL, ",", &save)) {
		for (i = 0; i < sizeof(flags) / sizeof(flags[0]) && strcmp(flags[i].name, word); i++)
			;
		if (i < sizeof(flags) / sizeof(flags[0])) {
			value |= flags[i].value;
			continue;
		}
		value |= strtol(word, &end, 0);
		if (*end)
			script_error("no such flag: %s", word);
	}
	return value;
}

void poll_name(char *out, size_t cap, unsigned int events)
{
	static const char *const names[] = {"IN", "PRI", "OUT", "ERR", "HUP", "NVAL", "RDHUP"};
	size_t i, len = 0;

	snprintf(out, cap, "0");
	for (i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (events & (unsigned int)flags_value(names[i]))
			len += (size_t)snprintf(out + len, cap - len, "%s%s", len ? "|" : "", names[i]);
}

const struct option *option_find(const char *name)
{
	size_t i;

	for (i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		if (!strcmp(options[i].name, name))
			return &options[i];
	script_error("no such option: %s", name);
}

static in_port_t *port_of(struct sockaddr_storage *ss)
{
	return ss->ss_family == AF_INET ? &((struct sockaddr_in *)ss)->sin_port : &((struct sockaddr_in6 *)ss)->sin6_port;
}

static struct address_of *known_slot(const char *slot)
{
	size_t i;

	for (i = 0; i < MAX_SLOTS && shared->known[i].slot[0]; i++)
		if (!strcmp(shared->known[i].slot, slot))
			return &shared->known[i];
	if (i == MAX_SLOTS)
		script_error("too many slots");
	return &shared->known[i];
}

void address_remember(const char *slot, const struct sockaddr_storage *ss)
{
	struct address_of *known = known_slot(slot);
	struct sockaddr_storage copy = *ss;

	if ((ss->ss_family != AF_INET && ss->ss_family != AF_INET6) || !*port_of(&copy))
		return;
	snprintf(known->slot, sizeof(known->slot), "%s", slot);
	known->addr = *ss;
}

socklen_t address_value(const char *word, struct sockaddr_storage *ss)
{
	const char *port = strrchr(word, ':');
	char host[16] = "";
	size_t i;

	memset(ss, 0, sizeof(*ss));
	if (!strcmp(word, "unspec")) {
		ss->ss_family = AF_UNSPEC;
		return sizeof(struct sockaddr_in);
	}
	if (!port)
		script_error("no address: %s", word);
	snprintf(host, sizeof(host), "%.*s", (int)(port - word), word);
	for (i = 0; i < sizeof(places) / sizeof(places[0]) && strcmp(places[i].name, host); i++)
		;
	if (i == sizeof(places) / sizeof(places[0]))
		script_error("no place: %s", word);
	ss->ss_family = (sa_family_t)places[i].family;
	inet_pton(places[i].family, places[i].text, ss->ss_family == AF_INET ? (void *)&((struct sockaddr_in *)ss)->sin_addr :
		  (void *)&((struct sockaddr_in6 *)ss)->sin6_addr);
	if (port[1] == '@') {
		if (!known_slot(port + 2)->slot[0])
			script_error("the address of %s is not known yet", port + 2);
		*port_of(ss) = *port_of(&known_slot(port + 2)->addr);
	} else {
		*port_of(ss) = htons((uint16_t)(strcmp(port + 1, "closed") ? atoi(port + 1) : shared->closed_port));
	}
	return ss->ss_family == AF_INET ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
}

void address_name(char *out, size_t cap, const struct sockaddr_storage *ss, socklen_t len)
{
	struct sockaddr_storage copy = *ss;
	char host[INET6_ADDRSTRLEN], port[24];
	size_t i;

	if (len == 0) {
		snprintf(out, cap, "none");
		return;
	}
	if (ss->ss_family != AF_INET && ss->ss_family != AF_INET6) {
		snprintf(out, cap, "family %d, length %d", ss->ss_family, (int)len);
		return;
	}
	inet_ntop(ss->ss_family, ss->ss_family == AF_INET ? (const void *)&((const struct sockaddr_in *)ss)->sin_addr :
		  (const void *)&((const struct sockaddr_in6 *)ss)->sin6_addr, host, sizeof(host));
	snprintf(port, sizeof(port), "%s", *port_of(&copy) ? "?" : "0");
	if (ntohs(*port_of(&copy)) == shared->closed_port)
		snprintf(port, sizeof(port), "closed");
	for (i = 0; i < MAX_SLOTS && shared->known[i].slot[0]; i++)
		if (*port_of(&shared->known[i].addr) == *port_of(&copy)) {
			snprintf(port, sizeof(port), "@%s", shared->known[i].slot);
			break;
		}
	snprintf(out, cap, ss->ss_family == AF_INET ? "%s:%s len %d" : "[%s]:%s len %d", host, port, (int)len);
}
