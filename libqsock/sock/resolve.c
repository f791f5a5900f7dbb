/* The one-liners: names to addresses, and each address in turn until one works. */
#include "sock/api.h"

#include <bsd/string.h>
#include <errno.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BACKLOG 4096

__attribute__((format(printf, 2, 3))) static int fail(int os_errno, const char *fmt, ...)
{
	struct qsock_error *err = api_thread_error();
	va_list ap;
	memset(err, 0, sizeof(*err));
	err->kind = QSOCK_ERR_LOCAL;
	err->os_errno = os_errno;
	va_start(ap, fmt);
	vsnprintf(err->reason, sizeof(err->reason), fmt, ap);
	va_end(ap);
	errno = os_errno;
	return -1;
}

/* The cause that is known already, or to fd (>= 0); else errno and what was being done. */
static void remember_failure(int fd, struct qsock_error *err, const char *doing, const char *host, const char *service)
{
	char text[128];
	int code = errno;
	if (fd >= 0)
		api_error_of(fd, err);
	if (err->kind != QSOCK_ERR_NONE)
		*api_thread_error() = *err;
	else
		fail(code, "%s %s:%s: %s", doing, host ? host : "*", service, strerror_r(code, text, sizeof(text)));
	errno = code;
}

/* ---- names ---------------------------------------------------------------------- */

/* "[::1]" and "fe80::1%eth0" as people write them. bare: for the resolver; name: for certificates. false: too long */
static bool split_host(const char *host, char bare[NI_MAXHOST], char name[NI_MAXHOST])
{
	size_t n = strlen(host);
	bool brackets = n > 2 && host[0] == '[' && host[n - 1] == ']';
	if (strlcpy(bare, host + brackets, NI_MAXHOST) >= NI_MAXHOST)
		return false;
	if (brackets)
		bare[n - 2] = '\0';
	strlcpy(name, bare, NI_MAXHOST);
	if (strchr(name, ':'))
		name[strcspn(name, "%")] = '\0';
	n = strlen(name);
	if (n > 1 && name[n - 1] == '.')	/* RFC 6066 3: without the dot of the root */
		name[n - 1] = '\0';
	return true;
}

/* getaddrinfo takes 65537 for 1. */
static bool port_too_large(const char *service)
{
	return service[strspn(service, "0123456789")] == '\0' && strtoul(service, NULL, 10) > UINT16_MAX;
}

static int resolve(const char *host, const char *service, int family, struct addrinfo **out)
{
	struct addrinfo hints = { .ai_family = family, .ai_socktype = SOCK_DGRAM, .ai_flags = host ? 0 : AI_PASSIVE };
	int code = port_too_large(service) ? EAI_SERVICE : getaddrinfo(host, service, &hints, out);
	if (!code)
		return 0;
	if (code == EAI_SERVICE)
		return fail(EINVAL, "%s: no such port or service", service);
	return fail(code == EAI_MEMORY ? ENOMEM : EHOSTUNREACH, "%s: %s", host ? host : "*", gai_strerror(code));
}

/* ---- dial ------------------------------------------------------------------------ */

static int connect_to(const struct addrinfo *ai, const char *name, const struct qsock_config *cfg, const char *host,
		      const char *service, int cancel)
{
	struct addr remote;
	struct qsock_error err = { .kind = QSOCK_ERR_NONE };
	volatile int ret = -1;	/* the cleanup macros may be a setjmp */
	int fd = api_addr_in(ai->ai_addr, ai->ai_addrlen, &remote) ? -1 : api_dial(&remote, name, cfg, &err);
	if (fd < 0) {
		remember_failure(-1, &err, "connect to", host, service);
		return -1;
	}
	pthread_cleanup_push(api_close_cleanup, &fd);
	ret = api_connect_wait(fd, cancel);
	pthread_cleanup_pop(0);
	if (!ret)
		return fd;
	remember_failure(fd, &err, "connect to", host, service);
	api_close(fd);
	return -1;
}

/* Whoever answered, even with a refusal of our TLS, was the right one to ask. */
static bool try_next(int err)
{
	static const int not_there[] = { ECONNREFUSED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENETDOWN,
					 EADDRNOTAVAIL, EAFNOSUPPORT, EPERM, EACCES };
	for (size_t i = 0; i < sizeof(not_there) / sizeof(not_there[0]); i++)
		if (err == not_there[i])
			return true;
	return false;
}

static int dial(const char *host, const char *service, const struct qsock_config *cfg, int cancel)
{
	char bare[NI_MAXHOST], name[NI_MAXHOST];
	struct addrinfo *list = NULL;
	volatile int fd = -1;	/* as above */
	if (!host || !*host || !service || !split_host(host, bare, name))
		return fail(EINVAL, "a host and a service must be given");
	if (resolve(bare, service, AF_UNSPEC, &list))
		return -1;
	pthread_cleanup_push((void (*)(void *))freeaddrinfo, list);
	for (const struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
		fd = connect_to(ai, name, cfg, host, service, cancel);
		if (fd < 0 && !try_next(errno))
			break;
	}
	pthread_cleanup_pop(0);
	int saved = errno;
	freeaddrinfo(list);
	errno = saved;
	return fd;
}

int qsock_dial(const char *host, const char *service, const struct qsock_config *cfg)
{
	int cancel = api_enter();
	int fd = dial(host, service, cfg, cancel);
	api_leave(cancel);
	return fd;
}

/* ---- serve ----------------------------------------------------------------------- */

static int listen_at(const struct addrinfo *ai, const struct qsock_config *cfg, const char *host, const char *service)
{
	int fd = qsock_socket(ai->ai_family, SOCK_STREAM, 0);
	if (fd >= 0 && (!cfg || !api_set_config(fd, cfg, SIZE_MAX)) && !qsock_bind(fd, ai->ai_addr, ai->ai_addrlen) &&
	    !qsock_listen(fd, BACKLOG))
		return fd;
	remember_failure(fd, &(struct qsock_error){ .kind = QSOCK_ERR_NONE }, "listen on", host, service);
	api_close(fd);
	return -1;
}

static int listen_family(const char *host, const char *service, int family, const struct qsock_config *cfg)
{
	struct addrinfo *list = NULL;
	int fd = -1;
	if (resolve(host, service, family, &list))
		return -1;
	for (const struct addrinfo *ai = list; ai && fd < 0; ai = ai->ai_next) {
		fd = listen_at(ai, cfg, host, service);
		if (fd < 0 && errno != EADDRNOTAVAIL && errno != EAFNOSUPPORT)
			break;
	}
	int saved = errno;
	freeaddrinfo(list);
	errno = saved;
	return fd;
}

/* The wildcard of IPv6 takes IPv4 as well; where there is no IPv6, that of IPv4 alone. */
static int serve(const char *host, const char *service, const struct qsock_config *cfg)
{
	char bare[NI_MAXHOST], name[NI_MAXHOST];
	if (!service || (host && !split_host(host, bare, name)))
		return fail(EINVAL, "a service must be given");
	if (host && *host)
		return listen_family(bare, service, AF_UNSPEC, cfg);
	int fd = listen_family(NULL, service, AF_INET6, cfg);
	if (fd < 0 && (errno == EADDRNOTAVAIL || errno == EAFNOSUPPORT || errno == EHOSTUNREACH))
		fd = listen_family(NULL, service, AF_INET, cfg);
	return fd;
}

int qsock_serve(const char *host, const char *service, const struct qsock_config *cfg)
{
	int cancel = api_enter();
	int fd = serve(host, service, cfg);
	api_leave(cancel);
	return fd;
}
