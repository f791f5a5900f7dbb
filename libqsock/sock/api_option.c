/* setsockopt and getsockopt: level SOL_QUIC is ours, SOL_SOCKET the kernel
 * object's but for SO_ERROR, which is told in the words of QUIC. */
#include "sock/api.h"

#include <errno.h>
#include <stdio.h>

#include "base/mem.h"
#include "sock/config.h"

#define STRING_MAX 4096

static int fail(int err)
{
	errno = err;
	return -1;
}

/* ---- set ------------------------------------------------------------------------ */

struct change {
	const char *alpn, *server_name;		/* NULL: unchanged */
	const struct qsock_config *config;	/* replaces all */
};

/* Settings are one block: a change makes a new one. */
static int run_change(struct engine *e, struct api_call *c)
{
	struct sock_obj *o = sock_find(e, c->cookie);
	const struct change *ch = c->out;
	if (!o || o->kind != SOCK_FRESH)
		return fail(EISCONN);
	struct qsock_config next = { .size = sizeof(next) };
	if (ch->config)
		next = *ch->config;
	else if (o->settings)
		next = *o->settings;
	if (ch->alpn)
		next.alpn = ch->alpn;
	if (ch->server_name)
		next.server_name = ch->server_name;
	struct qsock_config *copy = settings_copy(&next);
	if (!copy)
		return fail(ENOMEM);
	mem_free(o->settings);
	o->settings = copy;
	return 0;
}

static int change(int fd, struct change *ch)
{
	return api_call(fd, &(struct api_call){ .run = run_change, .out = ch });
}

int api_set_config(int fd, const struct qsock_config *cfg, size_t max)
{
	struct qsock_config whole;
	if (settings_import(cfg, max, &whole))
		return -1;
	return change(fd, &(struct change){ .config = &whole });
}

static int set_string(int fd, int name, const char *val, socklen_t len)
{
	char buf[STRING_MAX];
	size_t n = strnlen(val, len);
	if (!n || n >= sizeof(buf))
		return fail(EINVAL);
	memcpy(buf, val, n);
	buf[n] = '\0';
	if (name == QSOCK_ALPN)
		return change(fd, &(struct change){ .alpn = buf });
	return change(fd, &(struct change){ .server_name = buf });
}

static int run_key_update(struct engine *e, struct api_call *c)
{
	return sock_cmd_key_update(e, c->cookie);
}

static int set_quic(int fd, int name, const void *val, socklen_t len)
{
	if (name == QSOCK_KEY_UPDATE)
		return len ? fail(EINVAL) : api_call(fd, &(struct api_call){ .run = run_key_update });
	if (name != QSOCK_CONFIG && name != QSOCK_ALPN && name != QSOCK_SERVER_NAME)
		return fail(ENOPROTOOPT);
	if (!val)
		return fail(EFAULT);
	return name == QSOCK_CONFIG ? api_set_config(fd, val, len) : set_string(fd, name, val, len);
}

/* With a smaller buffer the byte that the engine retains could keep it from ever being polled as writable; how much is
 * held is for QUIC's windows to say. */
static int keep_buffer(const void *val, socklen_t len)
{
	if (!val)
		return fail(EFAULT);
	return len < sizeof(int) ? fail(EINVAL) : 0;
}

static int set_plain(int fd, int name, const void *val, socklen_t len)
{
	switch (name) {
	case SO_SNDBUF:
	case SO_RCVBUF:
	case SO_SNDBUFFORCE:
	case SO_RCVBUFFORCE:
		return keep_buffer(val, len);
	default:
		return setsockopt(fd, SOL_SOCKET, name, val, len);
	}
}

int qsock_setsockopt(int fd, int level, int name, const void *val, socklen_t len)
{
	uint64_t cookie;
	if (api_cookie(fd, &cookie))
		return -1;
	if (level == SOL_SOCKET)
		return set_plain(fd, name, val, len);
	return level == SOL_QUIC ? set_quic(fd, name, val, len) : fail(ENOPROTOOPT);
}

/* ---- get ------------------------------------------------------------------------- */

/* Handed out whole or not at all. */
static int give(const void *p, size_t n, void *val, socklen_t *len)
{
	if (!val || !len)
		return fail(EFAULT);
	if (*len < n)
		return fail(EINVAL);
	memcpy(val, p, n);
	*len = (socklen_t)n;
	return 0;
}

static int get_name(int fd, int name, void *val, socklen_t *len)
{
	struct qsock_info info = { .size = sizeof(info) };
	if (qsock_info(fd, &info))
		return -1;
	if (!info.established)
		return fail(ENOTCONN);
	const char *s = name == QSOCK_ALPN ? info.alpn : info.server_name;
	return give(s, strlen(s) + 1, val, len);
}

static int run_pin(struct engine *e, struct api_call *c) { return sock_cmd_pin(e, c->cookie, c->out); }
static int run_credit(struct engine *e, struct api_call *c) { return sock_cmd_credit(e, c->cookie, c->out); }
static int run_unsent(struct engine *e, struct api_call *c) { return sock_cmd_unsent(e, c->cookie, c->out); }

static int get_pin(int fd, void *val, socklen_t *len)
{
	uint8_t pin[32];
	char hex[65];
	if (api_call(fd, &(struct api_call){ .run = run_pin, .out = pin }))
		return -1;
	for (int i = 0; i < 32; i++)
		snprintf(hex + 2 * i, 3, "%02x", pin[i]);
	return give(hex, sizeof(hex), val, len);
}

static int get_numbers(int fd, int (*run)(struct engine *, struct api_call *), size_t count, void *val, socklen_t *len)
{
	uint64_t n[2];
	if (api_call(fd, &(struct api_call){ .run = run, .out = n }))
		return -1;
	return give(n, count * sizeof(n[0]), val, len);
}

static int get_quic(int fd, int name, void *val, socklen_t *len)
{
	switch (name) {
	case QSOCK_ALPN:
	case QSOCK_SERVER_NAME:
		return get_name(fd, name, val, len);
	case QSOCK_PIN:
		return get_pin(fd, val, len);
	case QSOCK_STREAM_CREDIT:
		return get_numbers(fd, run_credit, 2, val, len);
	case QSOCK_UNSENT:
		return get_numbers(fd, run_unsent, 1, val, len);
	default:
		return fail(ENOPROTOOPT);
	}
}

/* The kernel keeps whether there is an error and that it is told once; it can only say ECONNRESET, we know better. */
static int get_error(int fd, void *val, socklen_t *len)
{
	int *code = val;
	struct qsock_error err;
	if (getsockopt(fd, SOL_SOCKET, SO_ERROR, val, len))
		return -1;
	if (*len < sizeof(*code) || !*code)
		return 0;
	api_error_of(fd, &err);
	if (err.kind != QSOCK_ERR_NONE && err.os_errno)
		*code = err.os_errno;
	return 0;
}

int qsock_getsockopt(int fd, int level, int name, void *val, socklen_t *len)
{
	uint64_t cookie;
	if (api_cookie(fd, &cookie))
		return -1;
	if (level == SOL_SOCKET)
		return name == SO_ERROR ? get_error(fd, val, len) : getsockopt(fd, level, name, val, len);
	return level == SOL_QUIC ? get_quic(fd, name, val, len) : fail(ENOPROTOOPT);
}
