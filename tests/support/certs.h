/* Certificates for tests, made at run time: a CA, leaves with chosen names and
 * dates, PEM files in a directory of their own. Failing here fails the test by assert. */
#ifndef SUPPORT_CERTS_H
#define SUPPORT_CERTS_H

#include <stdbool.h>
#include <stdint.h>

struct ca;

struct ca *ca_make(const char *common_name);
void ca_free(struct ca *ca);

struct leaf_spec {
	const char *san;	/* as in openssl.cnf: "DNS:a.example,IP:127.0.0.1"; NULL: none */
	long from_s, until_s;	/* relative to now; both 0: yesterday until tomorrow */
	bool client;		/* for clientAuth; else serverAuth */
	bool rsa;		/* RSA-2048 in place of P-256 */
	int padding;		/* bytes of ballast in the certificate */
};

/* A fresh directory under TMPDIR, and its removal with the files in it (one level of folders too). */
void testdir_make(char path[64]);
void testdir_remove(const char *path);
/* For cmocka, around all tests: removes the directory that their setup left in *state. */
int testdir_teardown(void **state);

/* Write <dir>/<name>.crt and .key. ca NULL: signed by itself. */
void leaf_write(struct ca *ca, const struct leaf_spec *spec, const char *dir, const char *name);
/* Write <dir>/<name>.crt, the CA itself. */
void ca_write(struct ca *ca, const char *dir, const char *name);
void text_write(const char *dir, const char *name, const char *text);
/* "<dir>/<name>" in one of a few turning buffers: good until some calls later. */
const char *in_dir(const char *dir, const char *name);

#endif
