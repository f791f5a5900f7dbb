/* Reading PEM: whole file first, so that a file that cannot be read and a file that
 * holds the wrong thing are told apart; then OpenSSL's decoders on the memory.
 * Does not judge certificates, and never asks a terminal. */
#include "tls/pem.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "crypto/fetch.h"

int complain(struct complaint *c, int err, const char *fmt, ...)
{
	if (!c->size || c->text[0])
		return err;
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(c->text, c->size, fmt, ap);
	va_end(ap);
	return err;
}

static int read_all(int fd, uint8_t **data, size_t *len)
{
	struct stat st;
	if (fstat(fd, &st) < 0)
		return errno;
	if (S_ISDIR(st.st_mode))
		return EISDIR;
	size_t cap = st.st_size > 0 && st.st_size < PEM_FILE_MAX ? (size_t)st.st_size + 1 : 4096, n = 0;
	uint8_t *p = mem_alloc(cap);
	int err = p ? 0 : ENOMEM;
	while (!err) {
		ssize_t got = read(fd, p + n, cap - n);
		if (got == 0)
			break;
		if (got < 0) {
			err = errno == EINTR ? 0 : errno;
			continue;
		}
		n += (size_t)got;
		if (n < cap)
			continue;
		/* A pipe or /proc file does not tell its size. */
		uint8_t *q = cap < PEM_FILE_MAX ? mem_alloc(cap * 2) : NULL;
		if (!q) {
			err = cap < PEM_FILE_MAX ? ENOMEM : EFBIG;
			continue;
		}
		memcpy(q, p, n);
		OPENSSL_cleanse(p, n);
		mem_free(p);
		p = q;
		cap *= 2;
	}
	if (err) {
		if (p)
			OPENSSL_cleanse(p, n);
		mem_free(p);
		return err;
	}
	*data = p;
	*len = n;
	return 0;
}

int pem_read_file(const char *what, const char *path, uint8_t **data, size_t *len, struct complaint *c)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	int err = fd < 0 ? errno : read_all(fd, data, len);
	if (fd >= 0)
		close(fd);
	return err ? complain(c, err, "cannot read %s %s: %s", what, path, strerror(err)) : 0;
}

/* Never ask the terminal for a passphrase: this may run in a daemon. */
static int no_passphrase(char *buf, int size, int rwflag, void *arg)
{
	*(bool *)arg = true;
	return -1;
}

static int next_cert(BIO *bio, STACK_OF(X509) *certs, bool *end)
{
	ERR_clear_error();
	X509 *x = PEM_read_bio_X509(bio, NULL, NULL, NULL);
	if (!x) {
		*end = ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE;
		ERR_clear_error();
		return *end ? 0 : EINVAL;
	}
	if (sk_X509_push(certs, x))
		return 0;
	X509_free(x);
	return ENOMEM;
}

int pem_certs(const char *path, const uint8_t *data, size_t len, STACK_OF(X509) **out, struct complaint *c)
{
	BIO *bio = BIO_new_mem_buf(data, (int)len);
	STACK_OF(X509) *certs = sk_X509_new_null();
	int err = bio && certs ? 0 : ENOMEM;
	for (bool end = false; !err && !end;)
		err = next_cert(bio, certs, &end);
	BIO_free(bio);
	if (!err && sk_X509_num(certs) == 0)
		err = complain(c, EINVAL, "no PEM certificate in %s", path);
	if (!err) {
		*out = certs;
		return 0;
	}
	sk_X509_pop_free(certs, X509_free);
	return complain(c, err, "bad certificate in %s%s", path, err == ENOMEM ? ": out of memory" : "");
}

static int parse_key(const char *path, const uint8_t *data, size_t len, EVP_PKEY **out, struct complaint *c)
{
	BIO *bio = BIO_new_mem_buf(data, (int)len);
	if (!bio)
		return complain(c, ENOMEM, "out of memory");
	bool encrypted = false;
	*out = PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, &encrypted);
	BIO_free(bio);
	ERR_clear_error();
	if (*out)
		return 0;
	return complain(c, EINVAL, encrypted ? "key %s is encrypted with a passphrase" : "no PEM private key in %s",
			path);
}

/* Take the certificates over: the first is the leaf. */
static void take_certs(struct identity *id, STACK_OF(X509) *certs)
{
	id->leaf = sk_X509_shift(certs);
	id->chain = certs;
}

static int check_match(const struct identity *id, const char *cert_file, const char *key_file, struct complaint *c)
{
	int ok = X509_check_private_key(id->leaf, id->key);
	ERR_clear_error();
	return ok == 1 ? 0 : complain(c, EINVAL, "key %s does not match certificate %s", key_file, cert_file);
}

int identity_load(struct identity *id, const char *cert_file, const char *key_file, struct complaint *c)
{
	uint8_t *data = NULL;
	size_t len = 0;
	STACK_OF(X509) *certs = NULL;
	memset(id, 0, sizeof(*id));
	int err = pem_read_file("certificate", cert_file, &data, &len, c);
	if (err)
		return err;
	err = pem_certs(cert_file, data, len, &certs, c);
	OPENSSL_cleanse(data, len);	/* one file may hold both */
	mem_free(data);
	if (err)
		return err;
	take_certs(id, certs);
	err = pem_read_file("key", key_file, &data, &len, c);
	if (!err) {
		err = parse_key(key_file, data, len, &id->key, c);
		OPENSSL_cleanse(data, len);
		mem_free(data);
	}
	if (!err)
		err = check_match(id, cert_file, key_file, c);
	if (err)
		identity_fini(id);
	return err;
}

int identity_parse(struct identity *id, const char *path, const uint8_t *data, size_t len, struct complaint *c)
{
	STACK_OF(X509) *certs = NULL;
	memset(id, 0, sizeof(*id));
	int err = pem_certs(path, data, len, &certs, c);
	if (err)
		return err;
	take_certs(id, certs);
	err = parse_key(path, data, len, &id->key, c);
	if (!err)
		err = check_match(id, path, path, c);
	if (err)
		identity_fini(id);
	return err;
}

void identity_fini(struct identity *id)
{
	X509_free(id->leaf);
	sk_X509_pop_free(id->chain, X509_free);
	EVP_PKEY_free(id->key);
	memset(id, 0, sizeof(*id));
}

int pin_of(X509 *cert, uint8_t pin[PIN_LEN])
{
	uint8_t *der = NULL;
	int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);
	if (len <= 0)
		return EINVAL;
	int ok = EVP_Digest(der, (size_t)len, pin, NULL, digest_get0(HASH_SHA256), NULL);
	OPENSSL_free(der);
	return ok == 1 ? 0 : ENOMEM;
}
