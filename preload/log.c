/* Lines are written whole by one write in append mode, so that those of several
 * processes do not mix. The file is opened for each: the table is the application's. */
#include "preload/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "preload/policy.h"

const char *addr_text(const struct addr *a, char buf[ADDR_TEXT])
{
	char ip[INET6_ADDRSTRLEN];
	bool six = a->sa.sa_family == AF_INET6;
	if (a->sa.sa_family == AF_UNSPEC)
		return "-";
	inet_ntop(a->sa.sa_family, six ? (const void *)&a->in6.sin6_addr : &a->in4.sin_addr, ip, sizeof(ip));
	snprintf(buf, ADDR_TEXT, six ? "[%s]:%u" : "%s:%u", ip, ntohs(six ? a->in6.sin6_port : a->in4.sin_port));
	return buf;
}

static bool to_file(const char *name, const char *text, size_t len)
{
	int fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;
	if (fd >= 0)
		close(fd);
	return ok;
}

static bool to_stderr(const char *text, size_t len)
{
	struct stat st;
	return !fstat(2, &st) && !S_ISSOCK(st.st_mode) && write(2, text, len) == (ssize_t)len;
}

/* Warnings are worth another try. */
static void put(const char *target, const char *text, size_t len, bool warning)
{
	bool file = target && strcmp(target, "stderr");
	if (file && (to_file(target, text, len) || !warning))
		return;
	to_stderr(text, len);	/* or nowhere */
}

static void line(const char *target, bool warning, const char *fmt, va_list ap)
{
	char buf[1024];
	struct timespec now;
	struct tm tm;
	int saved = errno;
	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &tm);
	size_t n = strftime(buf, sizeof(buf), "%Y-%m-%dT%H:%M:%S", &tm);
	n += (size_t)snprintf(buf + n, sizeof(buf) - n, ".%03ldZ qsock[%d] %s", now.tv_nsec / 1000000, (int)getpid(),
			      warning ? "warning: " : "");
	int m = vsnprintf(buf + n, sizeof(buf) - n - 1, fmt, ap);
	n += m < 0 ? 0 : (size_t)m < sizeof(buf) - n - 1 ? (size_t)m : sizeof(buf) - n - 2;
	buf[n++] = '\n';
	put(target, buf, n, warning);
	errno = saved;
}

void log_info(const char *fmt, ...)
{
	const struct policy *p = policy_get();
	va_list ap;
	if (!p->log)
		return;
	va_start(ap, fmt);
	line(p->log, false, fmt, ap);
	va_end(ap);
}

void log_warn(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	line(policy_get()->log, true, fmt, ap);
	va_end(ap);
}

static void early(const char *target, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	line(target, true, fmt, ap);
	va_end(ap);
}

void log_early(const char *target, const char *text)
{
	early(target, "%s", text);
}
