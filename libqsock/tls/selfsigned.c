/* The self-made P-256 key and certificate: made on first use, kept on disk.
 * It never expires, because clients know it by its key (pins), and a renewal would
 * only break them. The race between processes is decided by link(2): the first
 * complete file wins and the others take it. */
#include "tls/selfsigned.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

static bool add_ext(X509 *x, int nid, const char *value)
{
	X509V3_CTX ctx;
	X509V3_set_ctx_nodb(&ctx);
	X509V3_set_ctx(&ctx, x, x, NULL, NULL, 0);
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &ctx, nid, value);
	bool ok = e && X509_add_ext(x, e, -1);
	X509_EXTENSION_free(e);
	return ok;
}

static bool fill_cert(X509 *x, EVP_PKEY *key)
{
	uint8_t serial[16];
	if (RAND_bytes(serial, sizeof(serial)) != 1)
		return false;
	serial[0] &= 0x7f;	/* positive, RFC 5280 4.1.2.2 */
	serial[0] |= 0x40;
	BIGNUM *bn = BN_bin2bn(serial, sizeof(serial), NULL);
	bool ok = bn && BN_to_ASN1_INTEGER(bn, X509_get_serialNumber(x));
	BN_free(bn);
	X509_NAME *name = X509_get_subject_name(x);
	/* A day back, for peers whose clock is behind; no end, RFC 5280 4.1.2.5 */
	return ok && X509_set_version(x, X509_VERSION_3) && X509_gmtime_adj(X509_getm_notBefore(x), -86400) &&
	       ASN1_TIME_set_string(X509_getm_notAfter(x), "99991231235959Z") && X509_set_pubkey(x, key) &&
	       X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"libqsock self-signed", -1, -1, 0) &&
	       X509_set_issuer_name(x, name) && add_ext(x, NID_basic_constraints, "critical,CA:FALSE") &&
	       add_ext(x, NID_subject_alt_name, "DNS:localhost,IP:127.0.0.1,IP:::1") &&
	       X509_sign(x, key, EVP_sha256()) > 0;
}

static int make(struct identity *id, struct complaint *c)
{
	memset(id, 0, sizeof(*id));
	id->key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	id->leaf = X509_new();
	if (id->key && id->leaf && fill_cert(id->leaf, id->key))
		return 0;
	identity_fini(id);
	ERR_clear_error();
	return complain(c, ENOMEM, "cannot make a self-signed certificate");
}

/* mkdir -p with 0700 for what is missing. */
static int make_dirs(const char *dir)
{
	char path[PATH_MAX];
	if (snprintf(path, sizeof(path), "%s", dir) >= (int)sizeof(path))
		return ENAMETOOLONG;
	for (char *p = path; *p;) {
		p += strspn(p, "/");
		p += strcspn(p, "/");
		char end = *p;
		*p = '\0';
		if (mkdir(path, 0700) < 0 && errno != EEXIST && errno != EROFS && errno != EACCES)
			return errno;
		*p = end;
	}
	return 0;
}

static int write_all(int fd, const char *p, size_t len)
{
	while (len) {
		ssize_t n = write(fd, p, len);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno;
		p += n;
		len -= (size_t)n;
	}
	return fsync(fd) < 0 ? errno : 0;
}

static int write_identity(int fd, const struct identity *id)
{
	BIO *bio = BIO_new(BIO_s_mem());
	char *data = NULL;
	int err = ENOMEM;
	if (bio && PEM_write_bio_PrivateKey(bio, id->key, NULL, NULL, 0, NULL, NULL) &&
	    PEM_write_bio_X509(bio, id->leaf)) {
		long len = BIO_get_mem_data(bio, &data);
		err = write_all(fd, data, (size_t)len);
		OPENSSL_cleanse(data, (size_t)len);
	}
	BIO_free(bio);
	ERR_clear_error();
	return err;
}

/* Put the identity in place unless another process was first. 0, EEXIST, or why not. */
static int publish(const char *dir, const char *path, const struct identity *id)
{
	char tmp[PATH_MAX];
	if (snprintf(tmp, sizeof(tmp), "%s/.%s.XXXXXX", dir, SELFSIGNED_FILE) >= (int)sizeof(tmp))
		return ENAMETOOLONG;
	int fd = mkostemp(tmp, O_CLOEXEC);	/* 0600 */
	if (fd < 0)
		return errno;
	int err = write_identity(fd, id);
	if (close(fd) < 0 && !err)
		err = errno;
	if (!err && link(tmp, path) < 0)
		err = errno;
	/* A file system without hard links: the last one wins, which the reading after this sees too. */
	if ((err == EPERM || err == EOPNOTSUPP || err == ENOSYS) && rename(tmp, path) == 0)
		return 0;
	unlink(tmp);
	return err;
}

static bool default_dir(char *buf, size_t size)
{
	const char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	int n = -1;
	if (xdg && xdg[0] == '/')
		n = snprintf(buf, size, "%s/libqsock", xdg);
	else if (home && home[0])
		n = snprintf(buf, size, "%s/.config/libqsock", home);
	return n > 0 && (size_t)n < size;
}

/* 0; ENOENT when there is no file; another errno when it cannot be used. */
static int load(struct identity *id, const char *path, struct complaint *c)
{
	struct complaint quiet = { NULL, 0 };
	uint8_t *data = NULL;
	size_t len = 0;
	int err = pem_read_file("self-signed certificate", path, &data, &len, &quiet);
	if (err)
		return err;
	err = identity_parse(id, path, data, len, c);
	OPENSSL_cleanse(data, len);
	mem_free(data);
	return err;
}

int selfsigned_get(struct identity *id, const char *dir, struct complaint *c)
{
	char own[PATH_MAX], path[PATH_MAX];
	if (!dir && default_dir(own, sizeof(own)))
		dir = own;
	if (!dir || snprintf(path, sizeof(path), "%s/%s", dir, SELFSIGNED_FILE) >= (int)sizeof(path))
		return make(id, c);
	int err = load(id, path, c);
	if (!err || err == EINVAL || err == ENOMEM)
		return err ? complain(c, err, "cannot use %s: %s", path, strerror(err)) : 0;
	if (err != ENOENT)	/* unreadable, no directory: a key for this process only */
		return make(id, c);
	err = make(id, c);
	if (err)
		return err;
	err = make_dirs(dir);
	if (!err)
		err = publish(dir, path, id);
	if (err != 0 && err != EEXIST)
		return 0;
	/* Whoever won, what stands in the file is what all use from now on. */
	struct identity kept;
	err = load(&kept, path, c);
	if (err == EINVAL || err == ENOMEM) {
		identity_fini(id);
		return complain(c, err, "cannot use %s: %s", path, strerror(err));
	}
	if (!err) {
		identity_fini(id);
		*id = kept;
	}
	return 0;
}
