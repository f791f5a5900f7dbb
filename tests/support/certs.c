#include "support/certs.h"

#include <ftw.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* The library's asserts may be compiled out; a test's preparation must not. */
#define must(x) do { if (!(x)) { fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); abort(); } } while (0)

struct ca {
	X509 *cert;
	EVP_PKEY *key;
};

static void add_ext(X509 *x, int nid, const char *value)
{
	X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, NULL, nid, value);
	must(e && X509_add_ext(x, e, -1));
	X509_EXTENSION_free(e);
}

static X509 *start_cert(const char *cn, long from_s, long until_s, EVP_PKEY *key)
{
	uint32_t serial;
	X509 *x = X509_new();
	must(x && RAND_bytes((uint8_t *)&serial, sizeof(serial)) == 1);
	X509_NAME *name = X509_get_subject_name(x);
	must(X509_set_version(x, X509_VERSION_3) && ASN1_INTEGER_set(X509_get_serialNumber(x), serial >> 1));
	must(X509_gmtime_adj(X509_getm_notBefore(x), from_s) && X509_gmtime_adj(X509_getm_notAfter(x), until_s));
	must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)cn, -1, -1, 0));
	must(X509_set_pubkey(x, key));
	return x;
}

struct ca *ca_make(const char *common_name)
{
	struct ca *ca = calloc(1, sizeof(*ca));
	must(ca && (ca->key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256")));
	ca->cert = start_cert(common_name, -86400, 86400, ca->key);
	must(X509_set_issuer_name(ca->cert, X509_get_subject_name(ca->cert)));
	add_ext(ca->cert, NID_basic_constraints, "critical,CA:TRUE");
	add_ext(ca->cert, NID_key_usage, "critical,keyCertSign,cRLSign");
	must(X509_sign(ca->cert, ca->key, EVP_sha256()) > 0);
	return ca;
}

void ca_free(struct ca *ca)
{
	if (!ca)
		return;
	X509_free(ca->cert);
	EVP_PKEY_free(ca->key);
	free(ca);
}

static FILE *create(const char *dir, const char *name, const char *suffix)
{
	char path[256];
	snprintf(path, sizeof(path), "%s/%s%s", dir, name, suffix);
	FILE *f = fopen(path, "w");
	must(f);
	return f;
}

static void add_ballast(X509 *x, int n)
{
	char *text = malloc((size_t)n + 5);
	must(text);
	memcpy(text, "DER:", 4);
	memset(text + 4, 'A', (size_t)n & ~1ul);
	text[4 + ((size_t)n & ~1ul)] = '\0';
	X509_EXTENSION *e = X509V3_EXT_conf(NULL, NULL, "1.3.6.1.4.1.55555.1", text);
	must(e && X509_add_ext(x, e, -1));
	X509_EXTENSION_free(e);
	free(text);
}

void leaf_write(struct ca *ca, const struct leaf_spec *spec, const char *dir, const char *name)
{
	long from = spec->from_s, until = spec->until_s;
	if (!from && !until) {
		from = -86400;
		until = 86400;
	}
	EVP_PKEY *key = spec->rsa ? EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048) :
				    EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	must(key);
	X509 *x = start_cert(name, from, until, key);
	must(X509_set_issuer_name(x, X509_get_subject_name(ca ? ca->cert : x)));
	if (spec->san)
		add_ext(x, NID_subject_alt_name, spec->san);
	add_ext(x, NID_ext_key_usage, spec->client ? "clientAuth" : "serverAuth");
	if (spec->padding)
		add_ballast(x, spec->padding);
	must(X509_sign(x, ca ? ca->key : key, EVP_sha256()) > 0);
	FILE *f = create(dir, name, ".crt");
	must(PEM_write_X509(f, x));
	must(fclose(f) == 0);
	f = create(dir, name, ".key");
	must(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL));
	must(fclose(f) == 0);
	X509_free(x);
	EVP_PKEY_free(key);
}

void ca_write(struct ca *ca, const char *dir, const char *name)
{
	FILE *f = create(dir, name, ".crt");
	must(PEM_write_X509(f, ca->cert));
	must(fclose(f) == 0);
}

void text_write(const char *dir, const char *name, const char *text)
{
	FILE *f = create(dir, name, "");
	must(fputs(text, f) >= 0);
	must(fclose(f) == 0);
}

void testdir_make(char path[64])
{
	const char *tmp = getenv("TMPDIR");
	snprintf(path, 64, "%.40s/qsock-test-XXXXXX", tmp ? tmp : "/tmp");
	must(mkdtemp(path));
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

void testdir_remove(const char *path)
{
	must(strstr(path, "qsock-test-"));
	nftw(path, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int testdir_teardown(void **state)
{
	testdir_remove(*state);
	return 0;
}

const char *in_dir(const char *dir, const char *name)
{
	static char bufs[16][256];
	static unsigned next;
	char *b = bufs[next++ % 16];
	snprintf(b, sizeof(bufs[0]), "%s/%s", dir, name);
	return b;
}
