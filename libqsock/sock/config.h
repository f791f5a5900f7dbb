/* The inside of configuration, for settings.c, config.c, cache.c and the calls that set options. */
#ifndef SOCK_CONFIG_H
#define SOCK_CONFIG_H

#include "sock/sock.h"
#include "tls/tls.h"

/* ---- settings.c: the application's struct --------------------------------- */

/* in, as the application gave it (NULL: nothing wanted), to a whole struct of this version; its strings stay
 * borrowed. max: bytes that may be read at in. 0, or -1/EINVAL: a size that cannot be, or fields that this version
 * does not know. */
int settings_import(const struct qsock_config *in, size_t max, struct qsock_config *out);
/* A copy with all its strings in one block, for mem_free. NULL: no memory. */
struct qsock_config *settings_copy(const struct qsock_config *in);

/* ---- config_parse.c: lists and files --------------------------------------- */

struct config_parsed {		/* everything checked that can be without opening files */
	struct qsock_config c;		/* strings borrowed but for those below; defaults filled in */
	bool is_server;
	struct tls_settings tls;
	char *text;			/* owned: the lists, cut up */
	const char **alpn;		/* owned */
	struct tls_cert_file *certs;	/* owned */
	uint8_t (*pins)[32];		/* owned */
	char *session_file, *keylog_file;	/* owned, absolute; NULL: none */
};
/* 0, or -1/errno with *err filled. The strings of in have to live as long as p. */
int config_parse(struct config_parsed *p, const struct qsock_config *in, bool is_server, struct qsock_error *err);
void config_parsed_fini(struct config_parsed *p);
/* All that makes a difference, as bytes: equal keys, equal configurations. Files count by path, inode, size and time.
 * mem_alloc'ed; NULL: no memory. */
uint8_t *config_key(const struct config_parsed *p, size_t *len);
/* A number for sessions: the same in every run for what is the same to a server. */
uint64_t config_session_id(const struct config_parsed *p);

/* Fill *err as QSOCK_ERR_CONFIG with one line, and errno; returns -1. */
int config_complain(struct qsock_error *err, int os_errno, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
