/* Certificates and keys out of PEM files, with one plain line for whatever is
 * wrong with them. Knows files and X.509 containers, not TLS. */
#ifndef TLS_PEM_H
#define TLS_PEM_H

#include <openssl/evp.h>
#include <openssl/x509.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PEM_FILE_MAX (4u << 20)	/* bytes of a certificate, key or CA file */
#define PIN_LEN 32		/* SHA-256 of a SubjectPublicKeyInfo */

/* Where a failure is explained: one line, no newline. */
struct complaint {
	char *text;
	size_t size;
};

/* Write the line; returns err, so that a failure is one statement. Keeps the first line. */
int complain(struct complaint *c, int err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

struct identity {
	X509 *leaf;
	STACK_OF(X509) *chain;	/* without the leaf; NULL: none */
	EVP_PKEY *key;
};

/* All return 0 or an errno value, with the line in c.
 * what: how the line calls the file, "certificate", "key"... *data is taken by the caller, mem_free. */
int pem_read_file(const char *what, const char *path, uint8_t **data, size_t *len, struct complaint *c);
int pem_certs(const char *path, const uint8_t *data, size_t len, STACK_OF(X509) **out, struct complaint *c);
/* cert and key from two files, or from one when both paths are the same. */
int identity_load(struct identity *id, const char *cert_file, const char *key_file, struct complaint *c);
/* The same from memory; path stands in the line. */
int identity_parse(struct identity *id, const char *path, const uint8_t *data, size_t len, struct complaint *c);
void identity_fini(struct identity *id);	/* safe on a zeroed one */

/* 0 or EINVAL/ENOMEM without a line. */
int pin_of(X509 *cert, uint8_t pin[PIN_LEN]);

#endif
