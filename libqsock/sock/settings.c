/* struct qsock_config as applications hand it over: made whole (size, version
 * of the struct) and copied, so that nothing of theirs is needed afterwards.
 * What the values mean is config.c's matter. */
#include "sock/config.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "base/mem.h"

/* Where the struct's strings are: everything that has to be copied. */
static const size_t string_at[] = {
	offsetof(struct qsock_config, alpn),	    offsetof(struct qsock_config, cert_file),
	offsetof(struct qsock_config, key_file),    offsetof(struct qsock_config, sni_certs),
	offsetof(struct qsock_config, ca_file),	    offsetof(struct qsock_config, pins),
	offsetof(struct qsock_config, server_name), offsetof(struct qsock_config, session_file),
	offsetof(struct qsock_config, keylog_file),
};
#define STRINGS (sizeof(string_at) / sizeof(string_at[0]))

static const char **string_of(struct qsock_config *c, size_t i)
{
	return (const char **)((char *)c + string_at[i]);
}

int settings_import(const struct qsock_config *in, size_t max, struct qsock_config *out)
{
	size_t size = in ? in->size : 0;
	memset(out, 0, sizeof(*out));
	out->size = sizeof(*out);
	if (!in)
		return 0;
	if (!size)
		size = sizeof(*out);
	if (size < sizeof(in->size) || size > max) {
		errno = EINVAL;
		return -1;
	}
	/* A program built for a newer version: what we do not know must not have been asked for. */
	for (size_t i = sizeof(*out); i < size; i++) {
		if (((const char *)in)[i]) {
			errno = EINVAL;
			return -1;
		}
	}
	memcpy(out, in, size < sizeof(*out) ? size : sizeof(*out));
	out->size = sizeof(*out);
	return 0;
}

struct qsock_config *settings_copy(const struct qsock_config *in)
{
	struct qsock_config from = *in;
	size_t total = sizeof(from), len[STRINGS];
	for (size_t i = 0; i < STRINGS; i++) {
		const char *s = *string_of(&from, i);
		len[i] = s ? strlen(s) + 1 : 0;
		total += len[i];
	}
	struct qsock_config *copy = mem_alloc(total);
	if (!copy)
		return NULL;
	*copy = from;
	char *at = (char *)(copy + 1);
	for (size_t i = 0; i < STRINGS; i++) {
		if (!len[i])
			continue;
		memcpy(at, *string_of(&from, i), len[i]);
		*string_of(copy, i) = at;
		at += len[i];
	}
	return copy;
}
