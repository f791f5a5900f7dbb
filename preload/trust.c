/* Whom to believe, and with what keys: the configurations of both roles from the
 * environment, the file of known hosts, and what is logged of each connection. A server
 * is never accepted unverified: without CA file, pin or known hosts the system's store decides. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "preload/log.h"
#include "preload/policy.h"
#include "preload/shim.h"

#define ALPN "qsock-tcp/1"
#define KEEPALIVE_MS 10000	/* TCP connections may be silent for days */
#define IDLE_MS 45000
#define STREAMS_MAX 1000	/* sockets of one client connection; it makes further connections then */
/* A socket that is not read must never hold up another one, as it would if the connection's own window filled up: the
 * receiver may wait for just that other one. So that window has room for all streams' windows. RFC 9000 4.1 */
#define STREAM_WINDOW_MAX (4 << 20)
#define CONN_WINDOW UINT32_MAX
_Static_assert((uint64_t)STREAMS_MAX * STREAM_WINDOW_MAX <= CONN_WINDOW, "no stream blocks another one");
#define LINE_MAX_LEN 512

/* ---- known hosts ------------------------------------------------------------------ */

/* A line "host pin"; comments and what is malformed are skipped. */
static enum trust_verdict look_up(FILE *f, const char *host, const char *pin)
{
	char line[LINE_MAX_LEN], name[LINE_MAX_LEN], known[LINE_MAX_LEN];
	bool seen = false;
	while (fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%511s %511s", name, known) != 2 || name[0] == '#' || strcmp(name, host))
			continue;
		if (!strcasecmp(known, pin))
			return TRUST_KNOWN;
		seen = true;
	}
	return seen ? TRUST_MISMATCH : TRUST_NEW;
}

/* On a line of its own, whatever an editor left at the end of the file. */
static bool append(FILE *f, const char *host, const char *pin)
{
	bool open_line = !fseek(f, -1, SEEK_END) && getc(f) != '\n';
	return !fseek(f, 0, SEEK_END) && fprintf(f, "%s%s %s\n", open_line ? "\n" : "", host, pin) > 0 && !fflush(f);
}

enum trust_verdict trust_check(const char *path, const char *host, const char *pin)
{
	int fd = open(path, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	FILE *f = fd >= 0 ? fdopen(fd, "r+") : NULL;
	enum trust_verdict v = TRUST_ERROR;
	if (f && !flock(fd, LOCK_EX))
		v = look_up(f, host, pin);
	if (v == TRUST_NEW && !append(f, host, pin))
		v = TRUST_ERROR;
	int saved = errno;
	if (f)
		fclose(f);
	else if (fd >= 0)
		close(fd);
	errno = saved;
	return v;
}

/* ---- configurations ----------------------------------------------------------------- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct sock_config *configs[2];		/* client, server */

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

static bool trusts_on_first_use(const struct policy *p)
{
	return p->known_hosts && !p->ca_file && !p->pin;
}

static struct sock_config *make(bool is_server)
{
	const struct policy *p = policy_get();
	struct qsock_error err;
	struct qsock_config c = {
		.size = sizeof(c), .alpn = ALPN, .keepalive_ms = KEEPALIVE_MS, .idle_timeout_ms = IDLE_MS,
		.max_streams_bidi = STREAMS_MAX, .max_streams_uni = 1,
		.stream_window_max = STREAM_WINDOW_MAX, .conn_window = CONN_WINDOW, .conn_window_max = CONN_WINDOW,
	};
	if (is_server) {
		c.cert_file = p->cert;
		c.key_file = p->key;
	} else {
		c.ca_file = p->ca_file;
		c.pins = p->pin;
		if (trusts_on_first_use(p))
			c.flags = QSOCK_CONFIG_INSECURE;	/* until verified() below */
	}
	struct sock_config *cfg = sock_config_get(&c, is_server, &err);
	if (cfg)
		return cfg;
	log_warn("%s: %s", is_server ? "cannot listen" : "cannot connect", err.reason);
	errno = err.os_errno ? err.os_errno : EINVAL;
	return NULL;
}

/* Made outside the lock: who forks takes this one and those of sock/ in an order of his own. */
static struct sock_config *get(bool is_server)
{
	pthread_mutex_lock(&lock);
	struct sock_config *c = configs[is_server], *fresh = NULL;
	pthread_mutex_unlock(&lock);
	if (c || !(fresh = make(is_server)))
		return c;
	pthread_mutex_lock(&lock);
	c = configs[is_server];
	if (!c)
		configs[is_server] = fresh;
	pthread_mutex_unlock(&lock);
	if (!c)
		return fresh;
	sock_config_put(fresh);
	return c;
}

void trust_forget(void)
{
	for (int i = 0; i < 2; i++) {
		pthread_mutex_lock(&lock);
		struct sock_config *c = configs[i];
		configs[i] = NULL;
		pthread_mutex_unlock(&lock);
		sock_config_put(c);
	}
}

struct sock_config *trust_client_config(void) { return get(false); }
struct sock_config *trust_server_config(void) { return get(true); }

/* ---- on the engine thread -------------------------------------------------------------- */

static bool verified(const struct addr *remote, const char *name, const struct conn_info *info, char *why)
{
	const struct policy *p = policy_get();
	char pin[65], host[LINE_MAX_LEN];
	uint16_t port = ntohs(remote->sa.sa_family == AF_INET6 ? remote->in6.sin6_port : remote->in4.sin_port);
	if (!trusts_on_first_use(p) || info->tls->resumed)
		return true;	/* TLS has done it; what is resumed was here before */
	if (!info->tls->peer_cert) {
		snprintf(why, 256, "the server showed no certificate");
		return false;
	}
	for (int i = 0; i < 32; i++)
		snprintf(pin + 2 * i, 3, "%02x", info->tls->peer_pin[i]);
	snprintf(host, sizeof(host), strchr(name, ':') ? "[%s]:%u" : "%s:%u", name, port);
	switch (trust_check(p->known_hosts, host, pin)) {
	case TRUST_KNOWN:
		return true;
	case TRUST_NEW:
		log_info("%s is new: its key %s is now in %s", host, pin, p->known_hosts);
		return true;
	case TRUST_MISMATCH:
		snprintf(why, 256, "the key of %.100s is not the one in %.100s", host, p->known_hosts);
		log_warn("THE KEY OF %s HAS CHANGED: it is %s, which is not in %s: refused", host, pin, p->known_hosts);
		return false;
	default:
		snprintf(why, 256, "%.150s: %s", p->known_hosts, strerror(errno));
		return false;
	}
}

static void outcome(const struct addr *local, const struct addr *remote, const char *name, bool shared,
		    const struct qsock_error *err)
{
	char l[ADDR_TEXT], r[ADDR_TEXT], text[512];
	addr_text(local, l);
	addr_text(remote, r);
	if (!err)
		log_info("out %s -> %s (%s) connected%s", l, r, name, shared ? ", shared" : "");
	else if (err->kind == QSOCK_ERR_REFUSED || err->kind == QSOCK_ERR_HANDSHAKE_TIMEOUT)
		log_info("out %s -> %s (%s) failed: %s", l, r, name, qsock_strerror(err, text, sizeof(text)));
	else
		log_warn("out %s -> %s (%s) failed: %s", l, r, name, qsock_strerror(err, text, sizeof(text)));
}

/* Before there can be an engine. */
__attribute__((constructor)) static void at_load(void)
{
	static const struct pool_hooks hooks = { verified, outcome };
	pool_set_hooks(&hooks);
	pthread_atfork(before_fork, after_fork, after_fork);
}
