/* Configuration: settings become one SSL_CTX that all handshakes share. Decides
 * what is trusted, which certificate answers which name, which protocol is chosen.
 * Does not know QUIC; the backend adds to the context what it needs. */
#include "tls/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/mem.h"
#include "crypto/hkdf.h"
#include "crypto/pktkey.h"
#include "tls/backend.h"
#include "tls/selfsigned.h"

/* ---- callbacks on the shared context ------------------------------------ */

static int select_alpn(SSL *ssl, const uint8_t **out, uint8_t *out_len, const uint8_t *in, unsigned in_len, void *arg)
{
	const struct tls_config *cfg = arg;
	uint8_t *chosen;
	/* RFC 7301 3.2: nothing in common ends the handshake, no_application_protocol. */
	if (SSL_select_next_proto(&chosen, out_len, cfg->alpn, (unsigned)cfg->alpn_len, in, in_len) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* The one label that "*" stands for must be there: RFC 6125 6.4.3. */
static bool name_matches(const char *pattern, const char *name)
{
	if (strncmp(pattern, "*.", 2))
		return !strcasecmp(pattern, name);
	const char *dot = strchr(name, '.');
	return dot && dot != name && !strcasecmp(pattern + 1, dot);
}

static bool use_identity(SSL *ssl, const struct identity *id)
{
	return SSL_use_cert_and_key(ssl, id->leaf, id->key, id->chain, 1) == 1;
}

/* Use every certificate of the name (they may differ in key type); an exact name goes before a wildcard.
 * Chosen on the SSL and not by changing its context: keylog, extensions and ALPN hang on the context. */
static int choose_cert(SSL *ssl, void *arg)
{
	const struct tls_config *cfg = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	bool found = false;
	for (int wild = 0; name && wild < 2 && !found; wild++) {
		for (size_t i = 0; i < cfg->named_count; i++) {
			const struct named_identity *n = &cfg->named[i];
			if ((n->name[0] == '*') != (wild == 1) || !name_matches(n->name, name))
				continue;
			/* Not only replaced: a default of another key type would stay and might be chosen. */
			if (!found)
				SSL_certs_clear(ssl);
			found = true;
			if (!use_identity(ssl, &n->id))
				return 0;
		}
	}
	return 1;
}

static int on_server_name(SSL *ssl, int *alert, void *arg)
{
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	struct tls *t = SSL_get_app_data(ssl);
	if (name && t)
		snprintf(t->info.sni, sizeof(t->info.sni), "%s", name);
	return SSL_TLSEXT_ERR_OK;
}

/* Pins replace the CA and name checks: the key itself is known. */
static int verify_pin(X509_STORE_CTX *store, void *arg)
{
	const struct tls_config *cfg = arg;
	X509 *leaf = X509_STORE_CTX_get0_cert(store);
	uint8_t pin[PIN_LEN];
	bool ok = false;
	if (leaf && pin_of(leaf, pin) == 0)
		for (size_t i = 0; i < cfg->pin_count; i++)
			ok |= !memcmp(pin, cfg->pins[i], PIN_LEN);
	X509_STORE_CTX_set_error(store, ok ? X509_V_OK : X509_V_ERR_CERT_UNTRUSTED);
	return ok;
}

static void on_keylog(const SSL *ssl, const char *line)
{
	struct tls *t = SSL_get_app_data(ssl);
	if (t)
		tls_config_keylog(t->cfg, line);
}

static int open_keylog(const char *path)
{
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600);
}

void tls_config_keylog(const struct tls_config *cfg, const char *line)
{
	char buf[512];
	if (!cfg->keylog_file)
		return;
	int n = snprintf(buf, sizeof(buf), "%s\n", line);
	/* One write per line, so that lines of several processes do not mix. A full disk must not end a handshake. */
	int fd = open_keylog(cfg->keylog_file);
	ssize_t written = fd >= 0 && n > 0 && (size_t)n < sizeof(buf) ? write(fd, buf, (size_t)n) : 0;
	(void)written;
	if (fd >= 0)
		close(fd);
	OPENSSL_cleanse(buf, sizeof(buf));
}

/* ---- building ----------------------------------------------------------- */

static const char *ssl_reason(void)
{
	const char *s = ERR_reason_error_string(ERR_peek_last_error());
	return s ? s : "out of memory";
}

static int no_memory(struct complaint *c)
{
	return complain(c, ENOMEM, "out of memory");
}

static int copy_alpn(struct tls_config *cfg, const struct tls_settings *s, struct complaint *c)
{
	size_t len = 0;
	if (!s->alpn_count)
		return complain(c, EINVAL, "no ALPN protocol given: QUIC requires one");
	for (size_t i = 0; i < s->alpn_count; i++) {
		size_t n = strlen(s->alpn[i]);
		if (n < 1 || n > 255)
			return complain(c, EINVAL, "ALPN protocol names have 1 to 255 bytes");
		len += 1 + n;
	}
	if (len > 65535)
		return complain(c, EINVAL, "too many ALPN protocols");
	cfg->alpn = mem_alloc(len);
	if (!cfg->alpn)
		return no_memory(c);
	for (size_t i = 0; i < s->alpn_count; i++) {
		size_t n = strlen(s->alpn[i]);
		cfg->alpn[cfg->alpn_len++] = (uint8_t)n;
		memcpy(cfg->alpn + cfg->alpn_len, s->alpn[i], n);
		cfg->alpn_len += n;
	}
	return 0;
}

static int set_suites(struct tls_config *cfg, const struct tls_settings *s, struct complaint *c)
{
	static const struct {
		uint16_t id;
		const char *name;
	} known[] = {
		{ SUITE_AES_128_GCM, "TLS_AES_128_GCM_SHA256" },
		{ SUITE_AES_256_GCM, "TLS_AES_256_GCM_SHA384" },
		{ SUITE_CHACHA20, "TLS_CHACHA20_POLY1305_SHA256" },
	};
	static const uint16_t all[] = { SUITE_AES_128_GCM, SUITE_AES_256_GCM, SUITE_CHACHA20 };	/* fastest first */
	const uint16_t *ids = s->suites ? s->suites : all;
	size_t count = s->suites ? s->suite_count : 3;
	char list[128] = "";
	if (!count || count > 3)
		return complain(c, EINVAL, "one to three cipher suites must be given");
	for (size_t i = 0; i < count; i++) {
		if (!suite_known(ids[i]))
			return complain(c, EINVAL, "cipher suite 0x%04x is not known", ids[i]);
		size_t n = strlen(list);
		snprintf(list + n, sizeof(list) - n, "%s%s", n ? ":" : "", known[ids[i] - SUITE_AES_128_GCM].name);
	}
	if (SSL_CTX_set_ciphersuites(cfg->ctx, list) != 1)
		return complain(c, EINVAL, "cannot use cipher suites %s: %s", list, ssl_reason());
	return 0;
}

static int use_default(struct tls_config *cfg, const struct identity *id, const char *what, struct complaint *c)
{
	if (SSL_CTX_use_cert_and_key(cfg->ctx, id->leaf, id->key, id->chain, 1) != 1)
		return complain(c, EINVAL, "cannot use certificate %s: %s", what, ssl_reason());
	if (cfg->has_pin)
		return 0;
	cfg->has_pin = true;
	int err = pin_of(id->leaf, cfg->pin);
	return err ? complain(c, err, "cannot use certificate %s", what) : 0;
}

static int keep_named(struct tls_config *cfg, struct identity *id, const char *name, struct complaint *c)
{
	struct named_identity *n = &cfg->named[cfg->named_count];
	n->name = mem_strdup(name);
	if (!n->name)
		return no_memory(c);
	n->id = *id;
	memset(id, 0, sizeof(*id));
	cfg->named_count++;
	return 0;
}

static int load_certs(struct tls_config *cfg, const struct tls_settings *s, struct complaint *c)
{
	bool any_default = false;
	for (size_t i = 0; i < s->cert_count; i++)
		any_default |= !s->certs[i].server_name;
	cfg->named = mem_zalloc(s->cert_count * sizeof(*cfg->named));
	if (!cfg->named)
		return no_memory(c);
	for (size_t i = 0; i < s->cert_count; i++) {
		const struct tls_cert_file *f = &s->certs[i];
		struct identity id;
		if (!f->cert_file || !f->key_file)
			return complain(c, EINVAL, "a certificate needs a certificate file and a key file");
		int err = identity_load(&id, f->cert_file, f->key_file, c);
		if (err)
			return err;
		/* Without one for any name the first is the default. */
		if (!f->server_name || (!any_default && i == 0))
			err = use_default(cfg, &id, f->cert_file, c);
		if (!err && f->server_name)
			err = keep_named(cfg, &id, f->server_name, c);
		identity_fini(&id);
		if (err)
			return err;
	}
	return 0;
}

static int set_identity(struct tls_config *cfg, const struct tls_settings *s, struct complaint *c)
{
	if (s->cert_count)
		return load_certs(cfg, s, c);
	if (!s->is_server)
		return 0;
	struct identity id;
	int err = selfsigned_get(&id, s->self_signed_dir, c);
	if (err)
		return err;
	cfg->self_signed = true;
	err = use_default(cfg, &id, "made here", c);
	identity_fini(&id);
	return err;
}

static int load_ca_file(struct tls_config *cfg, const char *path, struct complaint *c)
{
	uint8_t *data;
	size_t len;
	STACK_OF(X509) *certs = NULL;
	int err = pem_read_file("CA file", path, &data, &len, c);
	if (err)
		return err;
	err = pem_certs(path, data, len, &certs, c);
	mem_free(data);
	if (err)
		return err;
	X509_STORE *store = SSL_CTX_get_cert_store(cfg->ctx);
	for (int i = 0; !err && i < sk_X509_num(certs); i++) {
		X509 *x = sk_X509_value(certs, i);
		if (!X509_STORE_add_cert(store, x))
			err = no_memory(c);
		/* A server tells its clients which CAs it takes. */
		else if (cfg->is_server && !SSL_CTX_add_client_CA(cfg->ctx, x))
			err = no_memory(c);
	}
	sk_X509_pop_free(certs, X509_free);
	return err;
}

static int verify_mode(const struct tls_settings *s)
{
	if (!s->is_server)
		return s->verify == TLS_VERIFY_INSECURE ? SSL_VERIFY_NONE : SSL_VERIFY_PEER;
	if (s->verify == TLS_VERIFY_REQUIRE)
		return SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT;
	return s->verify == TLS_VERIFY_OPTIONAL ? SSL_VERIFY_PEER : SSL_VERIFY_NONE;
}

static int set_verify(struct tls_config *cfg, const struct tls_settings *s, struct complaint *c)
{
	if (s->is_server && s->verify == TLS_VERIFY_INSECURE)
		return complain(c, EINVAL, "a server cannot be told to accept any client certificate");
	if (!s->is_server && s->verify == TLS_VERIFY_OPTIONAL)
		return complain(c, EINVAL, "verification of a server is not optional");
	cfg->verify = s->verify;
	SSL_CTX_set_verify(cfg->ctx, verify_mode(s), NULL);
	if (s->ca_file) {
		int err = load_ca_file(cfg, s->ca_file, c);
		if (err)
			return err;
	}
	if (s->pin_count) {
		cfg->pins = mem_alloc(s->pin_count * sizeof(*cfg->pins));
		if (!cfg->pins)
			return no_memory(c);
		memcpy(cfg->pins, s->pins, s->pin_count * sizeof(*cfg->pins));
		cfg->pin_count = s->pin_count;
		SSL_CTX_set_cert_verify_callback(cfg->ctx, verify_pin, cfg);
		return 0;
	}
	/* The system store costs milliseconds and megabytes: only for who verifies with it. */
	if (!s->ca_file && verify_mode(s) != SSL_VERIFY_NONE && SSL_CTX_set_default_verify_paths(cfg->ctx) != 1)
		return complain(c, EINVAL, "cannot read the system's CA certificates: %s", ssl_reason());
	return 0;
}

static int set_keylog(struct tls_config *cfg, const struct tls_settings *s, struct complaint *c)
{
	if (!s->keylog_file)
		return 0;
	int fd = open_keylog(s->keylog_file);	/* to complain now, and not to lose keys silently */
	if (fd < 0)
		return complain(c, errno, "cannot write key log %s: %s", s->keylog_file, strerror(errno));
	close(fd);
	cfg->keylog_file = mem_strdup(s->keylog_file);
	if (!cfg->keylog_file)
		return no_memory(c);
	SSL_CTX_set_keylog_callback(cfg->ctx, on_keylog);
	return 0;
}

static int set_trust(struct tls_config *cfg, const struct tls_settings *s, struct complaint *c)
{
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	uint8_t head[2] = { (uint8_t)cfg->verify, cfg->has_pin };
	const char *ca = s->ca_file ? s->ca_file : "";
	bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1 &&
		  EVP_DigestUpdate(md, head, sizeof(head)) == 1 && EVP_DigestUpdate(md, cfg->pin, PIN_LEN) == 1 &&
		  EVP_DigestUpdate(md, ca, strlen(ca) + 1) == 1 &&
		  (!cfg->pin_count || EVP_DigestUpdate(md, cfg->pins, cfg->pin_count * PIN_LEN) == 1) &&
		  EVP_DigestFinal_ex(md, cfg->trust, NULL) == 1;
	EVP_MD_CTX_free(md);
	return ok ? 0 : no_memory(c);
}

static bool set_tickets(SSL_CTX *ctx, const struct tls_settings *s)
{
	if (!s->is_server) {
		/* They are handed to the owner; OpenSSL keeps none. */
		SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
		SSL_CTX_sess_set_new_cb(ctx, tls_on_new_session);
		return true;
	}
	static const uint8_t id[] = "libqsock";
	/* Tickets carry their state: a server holds no memory for clients that may never return. One is enough, every
	 * resumed handshake brings the next. */
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (s->no_tickets)
		SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET);
	return SSL_CTX_set_num_tickets(ctx, s->no_tickets ? 0 : 1) == 1 &&
	       SSL_CTX_set_session_id_context(ctx, id, sizeof(id) - 1) == 1;
}

static int set_context(struct tls_config *cfg, const struct tls_settings *s, struct complaint *c)
{
	cfg->ctx = SSL_CTX_new(s->is_server ? TLS_server_method() : TLS_client_method());
	if (!cfg->ctx)
		return no_memory(c);
	SSL_CTX_set_mode(cfg->ctx, SSL_MODE_RELEASE_BUFFERS);
	/* RFC 9001 4.2, 8.4: TLS 1.3, without the middlebox dance. */
	SSL_CTX_clear_options(cfg->ctx, SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
	if (SSL_CTX_set_min_proto_version(cfg->ctx, TLS1_3_VERSION) != 1 ||
	    SSL_CTX_set_max_proto_version(cfg->ctx, TLS1_3_VERSION) != 1 || !set_tickets(cfg->ctx, s))
		return no_memory(c);
	if (s->is_server) {
		SSL_CTX_set_alpn_select_cb(cfg->ctx, select_alpn, cfg);
		SSL_CTX_set_cert_cb(cfg->ctx, choose_cert, cfg);
		SSL_CTX_set_tlsext_servername_callback(cfg->ctx, on_server_name);
	} else if (SSL_CTX_set_alpn_protos(cfg->ctx, cfg->alpn, (unsigned)cfg->alpn_len) != 0) {
		return no_memory(c);
	}
	return 0;
}

static int build(struct tls_config *cfg, const struct tls_settings *s, struct complaint *c)
{
	int err = copy_alpn(cfg, s, c);
	if (!err)
		err = set_context(cfg, s, c);
	if (!err)
		err = set_suites(cfg, s, c);
	if (!err)
		err = set_identity(cfg, s, c);
	if (!err)
		err = set_verify(cfg, s, c);
	if (!err)
		err = set_trust(cfg, s, c);
	if (!err)
		err = set_keylog(cfg, s, c);
	if (!err && !backend_ctx_setup(cfg->ctx))
		err = no_memory(c);
	return err;
}

struct tls_config *tls_config_new(const struct tls_settings *s, char *err_text, size_t err_size)
{
	struct complaint c = { err_text, err_size };
	if (err_size)
		err_text[0] = '\0';
	struct tls_config *cfg = mem_zalloc(sizeof(*cfg));
	if (!cfg) {
		errno = no_memory(&c);
		return NULL;
	}
	atomic_init(&cfg->refs, 1);
	cfg->is_server = s->is_server;
	ERR_clear_error();
	int err = build(cfg, s, &c);
	ERR_clear_error();
	if (!err)
		return cfg;
	tls_config_unref(cfg);
	errno = err;
	return NULL;
}

struct tls_config *tls_config_ref(struct tls_config *c)
{
	atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
	return c;
}

void tls_config_unref(struct tls_config *c)
{
	if (!c || atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
		return;
	SSL_CTX_free(c->ctx);
	for (size_t i = 0; i < c->named_count; i++) {
		mem_free(c->named[i].name);
		identity_fini(&c->named[i].id);
	}
	mem_free(c->named);
	mem_free(c->alpn);
	mem_free(c->pins);
	mem_free(c->keylog_file);
	mem_free(c);
}

bool tls_config_pin(const struct tls_config *c, uint8_t pin[32])
{
	if (c->has_pin)
		memcpy(pin, c->pin, PIN_LEN);
	return c->has_pin;
}

bool tls_config_secret(const struct tls_config *c, const char *label, uint8_t secret[32])
{
	const EVP_PKEY *key = SSL_CTX_get0_privatekey(c->ctx);
	unsigned char *der = NULL;
	int len = key ? i2d_PrivateKey(key, &der) : 0;
	bool ok = len > 0 &&
		  !hkdf_extract(HASH_SHA256, (const uint8_t *)label, strlen(label), der, (size_t)len, secret);
	if (len > 0)
		OPENSSL_clear_free(der, (size_t)len);
	return ok;
}

bool tls_config_self_signed(const struct tls_config *c) { return c->self_signed; }
