/* What a configuration says: lists are cut up, defaults filled in, contradictions
 * refused with one line. Opens no file but asks the system what the named files are,
 * so that a renewed certificate makes another configuration. */
#include "sock/config.h"

#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"

#define FLAGS_KNOWN                                                                                        \
	(QSOCK_CONFIG_INSECURE | QSOCK_CONFIG_RETRY | QSOCK_CONFIG_CLIENT_CERT | QSOCK_CONFIG_NO_ECN |     \
	 QSOCK_CONFIG_REUSEPORT | QSOCK_CONFIG_CLIENT_CERT_OPTIONAL | QSOCK_CONFIG_NO_RESUMPTION)

int config_complain(struct qsock_error *err, int os_errno, const char *fmt, ...)
{
	va_list ap;
	memset(err, 0, sizeof(*err));
	err->kind = QSOCK_ERR_CONFIG;
	err->os_errno = os_errno;
	va_start(ap, fmt);
	vsnprintf(err->reason, sizeof(err->reason), fmt, ap);
	va_end(ap);
	errno = os_errno;
	return -1;
}

static int no_memory(struct qsock_error *err)
{
	return config_complain(err, ENOMEM, "out of memory");
}

/* ---- lists ---------------------------------------------------------------- */

static size_t count_items(const char *list)
{
	size_t n = 1;
	if (!list)
		return 0;
	for (; *list; list++)
		n += *list == ',';
	return n;
}

static int parse_alpn(struct config_parsed *p, char *list, struct qsock_error *err)
{
	size_t n = 0;
	p->alpn = mem_alloc(count_items(list) * sizeof(*p->alpn));
	if (!p->alpn)
		return no_memory(err);
	for (char *name; (name = strsep(&list, ","));) {
		size_t len = strlen(name);
		if (len < 1 || len > 255)	/* RFC 7301 3.1 */
			return config_complain(err, EINVAL, "alpn: protocol names have 1 to 255 bytes");
		p->alpn[n++] = name;
	}
	p->tls.alpn = p->alpn;
	p->tls.alpn_count = n;
	return 0;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool parse_hash(const char *hex, uint8_t out[32])
{
	if (strlen(hex) != 64)
		return false;
	for (int i = 0; i < 32; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static int parse_pins(struct config_parsed *p, char *list, struct qsock_error *err)
{
	size_t n = 0;
	p->pins = mem_alloc(count_items(list) * sizeof(*p->pins));
	if (!p->pins)
		return no_memory(err);
	for (char *hex; (hex = strsep(&list, ",")); n++) {
		if (!parse_hash(hex, p->pins[n]))
			return config_complain(err, EINVAL, "pins: \"%.80s\" is not 64 hex digits", hex);
	}
	p->tls.pins = (const uint8_t (*)[32])p->pins;
	p->tls.pin_count = n;
	return 0;
}

/* name=cert.pem:key.pem */
static bool parse_sni_item(struct tls_cert_file *f, char *item)
{
	char *cert = strchr(item, '=');
	char *key = cert ? strchr(cert, ':') : NULL;
	if (!cert || !key)
		return false;
	*cert++ = '\0';
	*key++ = '\0';
	f->server_name = item;
	f->cert_file = cert;
	f->key_file = key;
	return *item && *cert && *key;
}

static int parse_certs(struct config_parsed *p, char *sni_list, struct qsock_error *err)
{
	const struct qsock_config *c = &p->c;
	size_t n = 0;
	if (!c->cert_file != !c->key_file)
		return config_complain(err, EINVAL, "%s without %s", c->cert_file ? "cert_file" : "key_file",
				       c->cert_file ? "key_file" : "cert_file");
	p->certs = mem_zalloc((1 + count_items(sni_list)) * sizeof(*p->certs));
	if (!p->certs)
		return no_memory(err);
	if (c->cert_file) {
		p->certs[n].cert_file = c->cert_file;
		p->certs[n++].key_file = c->key_file;
	}
	for (char *item; (item = strsep(&sni_list, ","));) {
		if (!parse_sni_item(&p->certs[n++], item))
			return config_complain(err, EINVAL, "sni_certs: \"%.80s\" is not name=cert:key", item);
	}
	p->tls.certs = p->certs;
	p->tls.cert_count = n;
	return 0;
}

/* One block for the lists that are cut up; servers alone have sni_certs. */
static int parse_lists(struct config_parsed *p, struct qsock_error *err)
{
	const char *lists[3] = { p->c.alpn, p->c.pins, p->is_server ? p->c.sni_certs : NULL };
	size_t total = 0;
	char *copy[3] = { NULL };
	for (int i = 0; i < 3; i++)
		total += lists[i] ? strlen(lists[i]) + 1 : 0;
	char *at = p->text = mem_alloc(total);
	if (!at)
		return no_memory(err);
	for (int i = 0; i < 3; i++) {
		if (!lists[i])
			continue;
		copy[i] = at;
		at = stpcpy(at, lists[i]) + 1;
	}
	if (parse_alpn(p, copy[0], err) || (copy[1] && parse_pins(p, copy[1], err)))
		return -1;
	return parse_certs(p, copy[2], err);
}

/* ---- numbers and flags ------------------------------------------------------ */

static void fill_in(uint32_t *v, uint32_t preset)
{
	if (!*v)
		*v = preset;
}

/* Raising the start alone raises the end with it. */
static int parse_window(uint32_t *start, uint32_t *max, uint32_t start_preset, uint32_t max_preset, const char *what,
			struct qsock_error *err)
{
	fill_in(start, *max && *max < start_preset ? *max : start_preset);
	fill_in(max, *start > max_preset ? *start : max_preset);
	if (*start > *max)
		return config_complain(err, EINVAL, "%s_window is larger than %s_window_max", what, what);
	return 0;
}

static int parse_numbers(struct qsock_config *c, struct qsock_error *err)
{
	fill_in(&c->idle_timeout_ms, 30000);
	fill_in(&c->handshake_timeout_ms, 10000);
	fill_in(&c->linger_ms, 2000);
	fill_in(&c->max_streams_bidi, 100);
	fill_in(&c->max_streams_uni, 100);
	fill_in(&c->send_buffer, 4 << 20);
	if (parse_window(&c->stream_window, &c->stream_window_max, 512 << 10, 6 << 20, "stream", err))
		return -1;
	return parse_window(&c->conn_window, &c->conn_window_max, 768 << 10, 15 << 20, "conn", err);
}

static int parse_trust(struct config_parsed *p, struct qsock_error *err)
{
	uint32_t flags = p->c.flags, asked = flags & (QSOCK_CONFIG_CLIENT_CERT | QSOCK_CONFIG_CLIENT_CERT_OPTIONAL);
	if (flags & ~(uint32_t)FLAGS_KNOWN)
		return config_complain(err, EINVAL, "flags: 0x%x is not known", flags & ~(uint32_t)FLAGS_KNOWN);
	p->tls.ca_file = p->c.ca_file;
	p->tls.no_tickets = flags & QSOCK_CONFIG_NO_RESUMPTION;
	if (!p->is_server) {
		p->tls.verify = flags & QSOCK_CONFIG_INSECURE ? TLS_VERIFY_INSECURE : TLS_VERIFY_DEFAULT;
		if (p->tls.verify == TLS_VERIFY_INSECURE && p->tls.pin_count)
			return config_complain(err, EINVAL, "QSOCK_CONFIG_INSECURE contradicts pins");
		return 0;
	}
	if (asked & QSOCK_CONFIG_CLIENT_CERT)
		p->tls.verify = TLS_VERIFY_REQUIRE;
	else if (asked)
		p->tls.verify = TLS_VERIFY_OPTIONAL;
	if (!asked) {
		p->tls.ca_file = NULL;
		p->tls.pin_count = 0;
	}
	return 0;
}

/* ---- files kept open for longer: their paths must survive a chdir ----------- */

static char *absolute(const char *path)
{
	char dir[PATH_MAX];
	if (path[0] == '/' || !getcwd(dir, sizeof(dir)))
		return mem_strdup(path);
	size_t size = strlen(dir) + strlen(path) + 2;
	char *out = mem_alloc(size);
	if (out)
		snprintf(out, size, "%s/%s", dir, path);
	return out;
}

static bool can_append(const char *path)
{
	FILE *f = fopen(path, "ae");
	if (f)
		fclose(f);
	return f;
}

static int parse_paths(struct config_parsed *p, struct qsock_error *err)
{
	const char *keylog = p->c.keylog_file;
	/* What the environment says is for someone debugging from outside: not to be able to is no reason to fail. */
	const char *env = keylog ? NULL : secure_getenv("SSLKEYLOGFILE");
	if (env && *env && can_append(env))
		keylog = env;
	if (keylog && !(p->keylog_file = absolute(keylog)))
		return no_memory(err);
	if (!p->is_server && p->c.session_file && !(p->session_file = absolute(p->c.session_file)))
		return no_memory(err);
	p->tls.keylog_file = p->keylog_file;
	return 0;
}

int config_parse(struct config_parsed *p, const struct qsock_config *in, bool is_server, struct qsock_error *err)
{
	memset(p, 0, sizeof(*p));
	p->is_server = p->tls.is_server = is_server;
	if (settings_import(in, SIZE_MAX, &p->c))
		return config_complain(err, EINVAL, "size: not a struct qsock_config of this version");
	if (!p->c.alpn)
		p->c.alpn = "qsock";
	if (!parse_numbers(&p->c, err) && !parse_lists(p, err) && !parse_trust(p, err) && !parse_paths(p, err))
		return 0;
	config_parsed_fini(p);
	errno = err->os_errno;
	return -1;
}

void config_parsed_fini(struct config_parsed *p)
{
	mem_free(p->text);
	mem_free(p->alpn);
	mem_free(p->certs);
	mem_free(p->pins);
	mem_free(p->session_file);
	mem_free(p->keylog_file);
	memset(p, 0, sizeof(*p));
}

/* ---- keys -------------------------------------------------------------------- */

/* Strings that decide, environment included: the self-made certificate and the system's store are found by it. */
#define KEY_STRINGS 14
static size_t key_strings(const struct config_parsed *p, const char *s[KEY_STRINGS])
{
	const struct qsock_config *c = &p->c;
	size_t n = 0;
	s[n++] = c->alpn;
	s[n++] = c->cert_file;
	s[n++] = c->key_file;
	s[n++] = p->is_server ? c->sni_certs : NULL;
	s[n++] = c->ca_file;
	s[n++] = c->pins;
	s[n++] = c->server_name;
	s[n++] = p->session_file;
	s[n++] = p->keylog_file;
	s[n++] = getenv("XDG_CONFIG_HOME");
	s[n++] = getenv("HOME");
	s[n++] = getenv("SSL_CERT_FILE");
	s[n++] = getenv("SSL_CERT_DIR");
	return n;
}

static void put_string(struct wr *w, const char *s)
{
	wr_uint(w, s != NULL, 1);
	if (s)
		wr_bytes(w, s, strlen(s) + 1);
}

#define KEY_PER_FILE 48
static void put_file(struct wr *w, const char *path)
{
	struct stat st;
	if (!path || stat(path, &st))
		memset(&st, 0, sizeof(st));
	wr_uint(w, st.st_dev, 8);
	wr_uint(w, st.st_ino, 8);
	wr_uint(w, (uint64_t)st.st_size, 8);
	wr_uint(w, (uint64_t)st.st_mtim.tv_sec, 8);
	wr_uint(w, (uint64_t)st.st_mtim.tv_nsec, 8);
}

#define KEY_NUMBERS 256
static void put_numbers(struct wr *w, const struct qsock_config *c, bool is_server)
{
	const uint32_t v[] = { c->flags, is_server, c->idle_timeout_ms, c->handshake_timeout_ms, c->keepalive_ms,
			       c->linger_ms, c->max_streams_bidi, c->max_streams_uni, c->stream_window,
			       c->stream_window_max, c->conn_window, c->conn_window_max, c->send_buffer };
	for (size_t i = 0; i < sizeof(v) / sizeof(v[0]); i++)
		wr_uint(w, v[i], 4);
	wr_uint(w, c->key_update_packets, 8);
}

uint8_t *config_key(const struct config_parsed *p, size_t *len)
{
	const char *s[KEY_STRINGS];
	size_t n = key_strings(p, s);
	size_t cap = KEY_NUMBERS + (2 * p->tls.cert_count + 1) * KEY_PER_FILE;
	for (size_t i = 0; i < n; i++)
		cap += 2 + (s[i] ? strlen(s[i]) : 0);
	uint8_t *key = mem_alloc(cap);
	if (!key)
		return NULL;
	struct wr w = wr_of(key, cap);
	put_numbers(&w, &p->c, p->is_server);
	for (size_t i = 0; i < n; i++)
		put_string(&w, s[i]);
	put_file(&w, p->tls.ca_file);
	for (size_t i = 0; i < p->tls.cert_count; i++) {
		put_file(&w, p->tls.certs[i].cert_file);
		put_file(&w, p->tls.certs[i].key_file);
	}
	*len = wr_len(&w);
	return key;
}

/* FNV-1a, 64 bits: a collision only makes two configurations share a place; TLS itself refuses foreign sessions. */
static uint64_t hash_string(uint64_t h, const char *s)
{
	do {
		h ^= s ? (uint8_t)*s : 0;
		h *= UINT64_C(0x100000001b3);
	} while (s && *s++);
	return h;
}

uint64_t config_session_id(const struct config_parsed *p)
{
	const struct qsock_config *c = &p->c;
	uint64_t h = UINT64_C(0xcbf29ce484222325) ^ (c->flags & QSOCK_CONFIG_INSECURE);
	h = hash_string(h, c->alpn);
	h = hash_string(h, c->cert_file);
	h = hash_string(h, c->ca_file);
	return hash_string(h, c->pins);
}
