/* Causes in one line for people. */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/err.h"
#include "sock/sock.h"

struct line {
	char *buf;
	size_t size, len;
};

__attribute__((format(printf, 2, 3))) static void add(struct line *l, const char *fmt, ...)
{
	va_list ap;
	if (l->len + 1 >= l->size)
		return;
	va_start(ap, fmt);
	int n = vsnprintf(l->buf + l->len, l->size - l->len, fmt, ap);
	va_end(ap);
	if (n > 0)
		l->len += (size_t)n < l->size - l->len ? (size_t)n : l->size - l->len - 1;
}

/* The peer wrote it: control characters would play tricks on a terminal. */
static void add_reason(struct line *l, const char *reason)
{
	if (!*reason)
		return;
	add(l, ": ");
	for (; *reason; reason++)
		add(l, "%c", (unsigned char)*reason < 0x20 || *reason == 0x7f ? '?' : *reason);
}

/* RFC 8446 6, those that a handshake really ends with. */
static const char *alert_name(unsigned alert)
{
	static const struct {
		uint8_t alert;
		const char *name;
	} names[] = {
		{ 10, "unexpected message" }, { 40, "handshake failure" }, { 42, "bad certificate" },
		{ 43, "unsupported certificate" }, { 44, "certificate revoked" }, { 45, "certificate expired" },
		{ 46, "certificate unknown" }, { 47, "illegal parameter" }, { 48, "unknown CA" },
		{ 49, "access denied" }, { 50, "decode error" }, { 51, "decrypt error" }, { 70, "protocol version" },
		{ 71, "insufficient security" }, { 80, "internal error" }, { 109, "missing extension" },
		{ 110, "unsupported extension" }, { 112, "unrecognized name" }, { 116, "certificate required" },
		{ 120, "no application protocol in common" },
	};
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (names[i].alert == alert)
			return names[i].name;
	return NULL;
}

static void add_tls(struct line *l, const struct qsock_error *err)
{
	unsigned alert = (unsigned)(err->code & 0xff);
	const char *name = alert_name(alert);
	add(l, err->by_peer ? "TLS handshake refused by the peer" : "TLS handshake failed");
	add(l, name ? " (alert %u, %s)" : " (alert %u)", alert, name);
}

static void add_system(struct line *l, const struct qsock_error *err)
{
	char buf[128];
	if (!*err->reason)
		add(l, "%s", err->os_errno ? strerror_r(err->os_errno, buf, sizeof(buf)) : "local failure");
	else
		add(l, "%s", err->reason);
}

static void describe(struct line *l, const struct qsock_error *err)
{
	const char *who = err->by_peer ? "the peer" : "this side";
	unsigned long long code = err->code;
	switch (err->kind) {
	case QSOCK_ERR_NONE:
		add(l, "no error");
		return;
	case QSOCK_ERR_APPLICATION:
		add(l, "connection closed by %s with application code %llu", who, code);
		break;
	case QSOCK_ERR_TRANSPORT:
		add(l, "transport error %s (0x%llx) found by %s", qe_wire_name(code), code, who);
		if (err->frame_type)
			add(l, " in a frame of type 0x%llx", (unsigned long long)err->frame_type);
		break;
	case QSOCK_ERR_TLS:
		add_tls(l, err);
		break;
	case QSOCK_ERR_STREAM_RESET:
		add(l, "stream reset by %s with application code %llu", who, code);
		break;
	case QSOCK_ERR_STOP_SENDING:
		add(l, "%s does not read the stream any more, application code %llu", who, code);
		break;
	case QSOCK_ERR_IDLE_TIMEOUT:
		add(l, "connection timed out: nothing was heard from the peer");
		break;
	case QSOCK_ERR_HANDSHAKE_TIMEOUT:
		add(l, "handshake timed out");
		break;
	case QSOCK_ERR_VERSION:
		add(l, "no QUIC version in common");
		break;
	case QSOCK_ERR_STATELESS_RESET:
		add(l, "the peer no longer knows the connection (stateless reset)");
		break;
	case QSOCK_ERR_REFUSED:
		add(l, "connection refused");
		break;
	case QSOCK_ERR_UNREACHABLE:
		add(l, "the peer is gone");
		break;
	case QSOCK_ERR_CONFIG:
	case QSOCK_ERR_LOCAL:
		add_system(l, err);
		return;
	default:
		add(l, "unknown error %d", (int)err->kind);
		break;
	}
	add_reason(l, err->reason);
}

const char *qsock_strerror(const struct qsock_error *err, char *buf, size_t size)
{
	struct line l = { buf, size, 0 };
	if (!size)
		return "";
	buf[0] = '\0';
	if (err)
		describe(&l, err);
	return buf;
}
