/* Connections beyond what sockets have: their end, its cause, their numbers. */
#include "sock/api.h"

#include <errno.h>

static int fail(int err)
{
	errno = err;
	return -1;
}

static int run_close(struct engine *e, struct api_call *c)
{
	return sock_cmd_close(e, c->cookie, c->number, c->text);
}

int qsock_close(int conn, uint64_t code, const char *reason)
{
	char cut[256];
	size_t n = reason ? strnlen(reason, sizeof(cut) - 1) : 0;
	if (code > CODE_MAX)
		return fail(EINVAL);
	if (n)
		memcpy(cut, reason, n);
	cut[n] = '\0';
	return api_call(conn, &(struct api_call){ .run = run_close, .number = code, .text = cut });
}

static int run_error(struct engine *e, struct api_call *c)
{
	return sock_cmd_error(e, c->cookie, c->out);
}

int qsock_error(int fd, struct qsock_error *err)
{
	if (!err)
		return fail(EINVAL);
	memset(err, 0, sizeof(*err));
	if (fd == -1) {
		*err = *api_thread_error();
		return 0;
	}
	return api_call(fd, &(struct api_call){ .run = run_error, .out = err });
}

static int run_info(struct engine *e, struct api_call *c)
{
	return sock_cmd_info(e, c->cookie, c->out);
}

int qsock_info(int fd, struct qsock_info *info)
{
	struct qsock_info got = { .size = sizeof(got) };
	if (!info || info->size < sizeof(got))
		return fail(EINVAL);
	if (api_call(fd, &(struct api_call){ .run = run_info, .out = &got }))
		return -1;
	size_t asked = info->size;	/* of a program built for a newer version: what we do not know is 0 */
	memset(info, 0, asked);
	memcpy(info, &got, sizeof(got));
	info->size = sizeof(got);
	return 0;
}

int qsock_shutdown(uint32_t linger_ms)
{
	return engine_stop(linger_ms * UINT64_C(1000));
}
