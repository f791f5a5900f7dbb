/* Configurations ready for use, shared: who asks for the same gets the same TLS
 * context, so that certificates and CA stores are read once and not for each
 * connection. Called on any thread. The lock is held across a fork, so that a child
 * finds the list whole; what its parent's engine held stays referenced there. */
#include "sock/config.h"

#include <bsd/stdlib.h>
#include <bsd/sys/queue.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "crypto/hkdf.h"

#define CACHE_IDLE 8	/* configurations kept that nobody uses at the moment */
#define CID_LEN 8	/* bytes of the connection IDs we issue */
#define MSS 1200	/* UDP payload that every path carries, RFC 9000 14.1 */

struct entry {
	struct sock_config config;	/* first: the outside sees this */
	TAILQ_ENTRY(entry) link;	/* in all: most recently wanted first */
	unsigned refs;
	uint8_t *key;			/* [key_len] */
	size_t key_len;
};
TAILQ_HEAD(entries, entry);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct entries all = TAILQ_HEAD_INITIALIZER(all);
static size_t idle;		/* entries in all with refs 0 */

/* One set of secrets for the process: tokens and stateless resets hold whichever of its sockets they meet. */
static struct {
	uint8_t reset[32], token[32];
} secrets;
static pthread_once_t secrets_once = PTHREAD_ONCE_INIT;

static void make_secrets(void)
{
	arc4random_buf(&secrets, sizeof(secrets));
}

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

__attribute__((constructor(FORK_LOCK_INNER))) static void at_load(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

/* ---- making one ----------------------------------------------------------- */

static struct entry *entry_of(struct sock_config *c) { return (struct entry *)c; }

static void entry_free(struct entry *e)
{
	tls_config_unref(e->config.client.tls);
	tls_config_unref(e->config.server.tls);
	mem_free(e->config.server_name);
	mem_free(e->config.session_file);
	mem_free(e->key);
	explicit_bzero(e->config.reset_secret, sizeof(e->config.reset_secret));
	mem_free(e);
}

static void fill_random(void *arg, void *buf, size_t len)
{
	arc4random_buf(buf, len);
}

static void set_conn(struct conn_config *to, const struct qsock_config *c, struct tls_config *tls)
{
	*to = (struct conn_config){
		.tls = tls,
		.limits = {
			.window = c->stream_window, .window_max = c->stream_window_max,
			.conn_window = c->conn_window, .conn_window_max = c->conn_window_max,
			.max_streams = { [DIR_BIDI] = c->max_streams_bidi, [DIR_UNI] = c->max_streams_uni },
		},
		.idle_timeout_us = c->idle_timeout_ms == UINT32_MAX ? 0 : c->idle_timeout_ms * UINT64_C(1000),
		.handshake_timeout_us = c->handshake_timeout_ms * UINT64_C(1000),
		.keepalive_us = c->keepalive_ms * UINT64_C(1000),
		.max_send_bytes = c->send_buffer,
		.mss = MSS,
		.key_update_packets = c->key_update_packets,
		.cc = &cc_newreno,
		.ecn = !(c->flags & QSOCK_CONFIG_NO_ECN),
		.cid_len = CID_LEN,
		.reset_key = secrets.reset,
		.token_key = secrets.token,
	};
}

void sock_endpoint_defaults(struct endpoint_config *out)
{
	pthread_once(&secrets_once, make_secrets);
	memset(out, 0, sizeof(*out));
	out->rng.fill = fill_random;
	out->cid_len = CID_LEN;
	memcpy(out->reset_key, secrets.reset, sizeof(out->reset_key));
	memcpy(out->token_key, secrets.token, sizeof(out->token_key));
}

/* A server that is started anew shall be able to tell its clients so, RFC 9000 10.3.2: hence a secret that follows from
 * the private key. It must not hold for anyone who may be running beside it, or packets led astray would end living
 * connections, 21.11: so it is of this system, since it was started, in this network namespace; and not for ports that
 * processes share. The port's address comes in later. */
static void stable_reset_secret(const struct tls_config *tls, uint8_t secret[32])
{
	uint8_t of_key[32];
	char place[128] = "";
	struct stat ns;
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, place, 40);
	if (fd >= 0)
		close(fd);
	if (n <= 0 || stat("/proc/self/ns/net", &ns) || !tls_config_secret(tls, "libqsock stateless reset", of_key))
		return;
	n += snprintf(place + n, sizeof(place) - (size_t)n, "/%ju/%ju", (uintmax_t)ns.st_dev, (uintmax_t)ns.st_ino);
	if (hmac(HASH_SHA256, of_key, sizeof(of_key), (const uint8_t *)place, (size_t)n, secret))
		memcpy(secret, secrets.reset, sizeof(secrets.reset));
	explicit_bzero(of_key, sizeof(of_key));
}

static struct entry *entry_new(const struct config_parsed *p, struct qsock_error *err)
{
	char text[sizeof(err->reason)];
	const struct qsock_config *c = &p->c;
	struct entry *e = mem_zalloc(sizeof(*e));
	struct tls_config *tls = e ? tls_config_new(&p->tls, text, sizeof(text)) : NULL;
	if (!tls) {
		int code = e ? errno : ENOMEM;
		mem_free(e);
		config_complain(err, code, "%s", e ? text : "out of memory");
		return NULL;
	}
	sock_endpoint_defaults(&e->config.endpoint);
	e->config.endpoint.retry = c->flags & QSOCK_CONFIG_RETRY;
	e->refs = 1;
	set_conn(p->is_server ? &e->config.server : &e->config.client, c, tls);
	e->config.reuse_port = c->flags & QSOCK_CONFIG_REUSEPORT;
	e->config.no_resumption = c->flags & QSOCK_CONFIG_NO_RESUMPTION;
	e->config.linger_ms = c->linger_ms;
	memcpy(e->config.reset_secret, secrets.reset, sizeof(secrets.reset));
	if (p->is_server && !e->config.reuse_port)
		stable_reset_secret(tls, e->config.reset_secret);
	e->config.session_id = config_session_id(p);
	e->config.server_name = c->server_name ? mem_strdup(c->server_name) : NULL;
	e->config.session_file = p->session_file ? mem_strdup(p->session_file) : NULL;
	if (!e->config.server_name == !c->server_name && !e->config.session_file == !p->session_file)
		return e;
	entry_free(e);
	config_complain(err, ENOMEM, "out of memory");
	return NULL;
}

/* ---- the list --------------------------------------------------------------- */

/* Under the lock. Found ones are referenced and move to the front. */
static struct entry *find(const uint8_t *key, size_t len)
{
	struct entry *e;
	TAILQ_FOREACH(e, &all, link)
		if (e->key_len == len && !memcmp(e->key, key, len))
			break;
	if (!e)
		return NULL;
	if (!e->refs++)
		idle--;
	TAILQ_REMOVE(&all, e, link);
	TAILQ_INSERT_HEAD(&all, e, link);
	return e;
}

/* Under the lock: take out what is too much, oldest first. */
static void trim(size_t keep, struct entries *out)
{
	struct entry *e, *before;
	TAILQ_FOREACH_REVERSE_SAFE(e, &all, entries, link, before) {
		if (idle <= keep)
			return;
		if (e->refs)
			continue;
		TAILQ_REMOVE(&all, e, link);
		TAILQ_INSERT_HEAD(out, e, link);
		idle--;
	}
}

static void free_all(struct entries *list)
{
	struct entry *e;
	while ((e = TAILQ_FIRST(list))) {
		TAILQ_REMOVE(list, e, link);
		entry_free(e);
	}
}

/* Built outside the lock, as that takes milliseconds; if another thread was first, its own is taken. Takes key. */
static struct entry *build(const struct config_parsed *p, uint8_t *key, size_t len, struct qsock_error *err)
{
	struct entry *fresh = entry_new(p, err);
	if (!fresh) {
		mem_free(key);
		return NULL;
	}
	fresh->key = key;
	fresh->key_len = len;
	pthread_mutex_lock(&lock);
	struct entry *other = find(key, len);
	if (!other)
		TAILQ_INSERT_HEAD(&all, fresh, link);
	pthread_mutex_unlock(&lock);
	if (!other)
		return fresh;
	entry_free(fresh);
	return other;
}

struct sock_config *sock_config_get(const struct qsock_config *cfg, bool is_server, struct qsock_error *err)
{
	struct config_parsed p;
	size_t len;
	memset(err, 0, sizeof(*err));
	if (config_parse(&p, cfg, is_server, err))
		return NULL;
	uint8_t *key = config_key(&p, &len);
	struct entry *e = NULL;
	if (key) {
		pthread_mutex_lock(&lock);
		e = find(key, len);
		pthread_mutex_unlock(&lock);
		if (e)
			mem_free(key);
		else
			e = build(&p, key, len, err);
	} else {
		config_complain(err, ENOMEM, "out of memory");
	}
	config_parsed_fini(&p);
	if (e)
		return &e->config;
	errno = err->os_errno;
	return NULL;
}

struct sock_config *sock_config_ref(struct sock_config *c)
{
	pthread_mutex_lock(&lock);
	entry_of(c)->refs++;
	pthread_mutex_unlock(&lock);
	return c;
}

void sock_config_put(struct sock_config *c)
{
	struct entries old = TAILQ_HEAD_INITIALIZER(old);
	if (!c)
		return;
	pthread_mutex_lock(&lock);
	if (!--entry_of(c)->refs) {
		idle++;
		trim(CACHE_IDLE, &old);
	}
	pthread_mutex_unlock(&lock);
	free_all(&old);
}

void sock_config_flush(void)
{
	struct entries old = TAILQ_HEAD_INITIALIZER(old);
	pthread_mutex_lock(&lock);
	trim(0, &old);
	pthread_mutex_unlock(&lock);
	free_all(&old);
}
