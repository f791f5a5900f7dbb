/* What a client keeps for its next visit: the newest resumption blob and address
 * token of each server, in memory, or in a file when one is configured. The file is
 * read and replaced whole each time, so that processes may share it; it is never
 * more than a help, so that whatever is wrong with it is no error. Called on the
 * engine thread alone; the lock is for fork. */
#include "sock/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"

#define SESSION_BYTES_MAX 16384		/* of one blob or token; larger ones are not kept */
#define FILE_BYTES_MAX (256 * 1024)	/* the oldest servers go when there is more */
#define KEY_MAX 320

enum what { SESSION, TOKEN, WHATS };

struct server {
	TAILQ_ENTRY(server) link;	/* the most recently stored first */
	char *key;
	uint8_t *data[WHATS];		/* [len]; NULL: none */
	size_t len[WHATS];
};
TAILQ_HEAD(servers, server);
struct store {
	struct servers list;
	size_t count;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct store memory = { TAILQ_HEAD_INITIALIZER(memory.list), 0 };
static uint8_t *lent;			/* what the last call returned */

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

__attribute__((constructor)) static void at_load(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

/* ---- the store --------------------------------------------------------------- */

static void server_free(struct store *st, struct server *s)
{
	TAILQ_REMOVE(&st->list, s, link);
	st->count--;
	for (int i = 0; i < WHATS; i++)
		mem_free(s->data[i]);
	mem_free(s->key);
	mem_free(s);
}

static void store_fini(struct store *st)
{
	struct server *s;
	while ((s = TAILQ_FIRST(&st->list)))
		server_free(st, s);
}

static struct server *store_find(struct store *st, const char *key)
{
	struct server *s;
	TAILQ_FOREACH(s, &st->list, link)
		if (!strcmp(s->key, key))
			return s;
	return NULL;
}

/* A new one at the end of the list; NULL: no memory. */
static struct server *store_add(struct store *st, const char *key)
{
	struct server *s = mem_zalloc(sizeof(*s));
	if (!s || !(s->key = mem_strdup(key))) {
		mem_free(s);
		return NULL;
	}
	TAILQ_INSERT_TAIL(&st->list, s, link);
	st->count++;
	return s;
}

static bool server_set(struct server *s, enum what what, const uint8_t *p, size_t len)
{
	uint8_t *copy = mem_alloc(len);
	if (!copy)
		return false;
	memcpy(copy, p, len);
	mem_free(s->data[what]);
	s->data[what] = copy;
	s->len[what] = len;
	return true;
}

static void store_put(struct store *st, const char *key, enum what what, const uint8_t *p, size_t len)
{
	struct server *s = store_find(st, key);
	if (!s && !(s = store_add(st, key)))
		return;
	TAILQ_REMOVE(&st->list, s, link);
	TAILQ_INSERT_HEAD(&st->list, s, link);
	if (!server_set(s, what, p, len) && !s->data[SESSION] && !s->data[TOKEN])
		server_free(st, s);
	while (st->count > SESSIONS_MAX)
		server_free(st, TAILQ_LAST(&st->list, servers));
}

/* ---- the file: magic, then for each server key<2> session<2> token<2> --------- */

static const char magic[] = "libqsock sessions 1\n";
#define MAGIC_LEN (sizeof(magic) - 1)

static const uint8_t *get(struct rd *r, size_t *len)
{
	*len = (size_t)rd_uint(r, 2);
	return rd_bytes(r, *len);
}

static void parse(struct store *st, const uint8_t *p, size_t len)
{
	struct rd r = rd_of(p, len);
	const uint8_t *head = rd_bytes(&r, MAGIC_LEN);
	if (!head || memcmp(head, magic, MAGIC_LEN))
		return;
	while (rd_left(&r) && st->count < SESSIONS_MAX) {
		char key[KEY_MAX];
		size_t n;
		const uint8_t *k = get(&r, &n);
		if (!k || !n || n >= sizeof(key))
			return;
		memcpy(key, k, n);
		key[n] = '\0';
		struct server *s = store_find(st, key) ? NULL : store_add(st, key);
		if (!s)
			return;
		for (int i = 0; i < WHATS; i++) {
			const uint8_t *d = get(&r, &n);
			if (d && n && n <= SESSION_BYTES_MAX)
				server_set(s, i, d, n);
		}
	}
}

static void file_load(struct store *st, const char *path)
{
	struct stat about;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return;
	uint8_t *p = NULL;
	if (!fstat(fd, &about) && S_ISREG(about.st_mode) && about.st_size > 0 && about.st_size <= FILE_BYTES_MAX)
		p = mem_alloc((size_t)about.st_size);
	ssize_t n = p ? read(fd, p, (size_t)about.st_size) : 0;
	if (n > 0)
		parse(st, p, (size_t)n);
	mem_free(p);
	close(fd);
}

static size_t server_size(const struct server *s)
{
	return 6 + strlen(s->key) + s->len[SESSION] + s->len[TOKEN];
}

static uint8_t *serialize(const struct store *st, size_t *len)
{
	size_t size = MAGIC_LEN;
	struct server *s;
	TAILQ_FOREACH(s, &st->list, link)
		size += server_size(s);
	uint8_t *p = mem_alloc(size);
	if (!p)
		return NULL;
	struct wr w = wr_of(p, size < FILE_BYTES_MAX ? size : FILE_BYTES_MAX);
	wr_bytes(&w, magic, MAGIC_LEN);
	TAILQ_FOREACH(s, &st->list, link) {
		if (server_size(s) > wr_left(&w))
			break;
		wr_uint(&w, strlen(s->key), 2);
		wr_bytes(&w, s->key, strlen(s->key));
		for (int i = 0; i < WHATS; i++) {
			wr_uint(&w, s->len[i], 2);
			wr_bytes(&w, s->data[i], s->len[i]);
		}
	}
	*len = wr_len(&w);
	return p;
}

/* Replaced by rename, so that a reader sees the old or the new. Never what is not a file: /dev/null stays what it
 * is. */
static void file_save(const struct store *st, const char *path)
{
	char temporary[PATH_MAX];
	struct stat about;
	size_t len;
	if (!lstat(path, &about) && !S_ISREG(about.st_mode))
		return;
	if (snprintf(temporary, sizeof(temporary), "%s.XXXXXX", path) >= (int)sizeof(temporary))
		return;
	uint8_t *p = serialize(st, &len);
	int fd = p ? mkostemp(temporary, O_CLOEXEC) : -1;	/* 0600 */
	if (fd >= 0) {
		bool written = write(fd, p, len) == (ssize_t)len;
		if (close(fd) || !written || rename(temporary, path))
			unlink(temporary);
	}
	mem_free(p);
}

/* ---- the calls ------------------------------------------------------------------ */

/* host:port#configuration. Names in small letters, as DNS does not tell them apart. */
static void make_key(char key[KEY_MAX], const struct sock_config *c, const char *name, const struct addr *remote)
{
	char host[256] = "";
	bool six = remote->sa.sa_family == AF_INET6;
	const void *ip = six ? (const void *)&remote->in6.sin6_addr : &remote->in4.sin_addr;
	unsigned port = ntohs(six ? remote->in6.sin6_port : remote->in4.sin_port);
	if (name)
		snprintf(host, sizeof(host), "%s", name);
	else
		inet_ntop(remote->sa.sa_family, ip, host, sizeof(host));
	for (char *p = host; *p; p++)
		*p = *p >= 'A' && *p <= 'Z' ? *p | 0x20 : *p;
	snprintf(key, KEY_MAX, "%s:%u#%016llx", host, port, (unsigned long long)c->session_id);
}

static void keep(struct sock_config *c, const char *name, const struct addr *remote, enum what what, const uint8_t *p,
		 size_t len)
{
	char key[KEY_MAX];
	struct store file = { TAILQ_HEAD_INITIALIZER(file.list), 0 };
	if (!len || len > SESSION_BYTES_MAX)
		return;
	make_key(key, c, name, remote);
	pthread_mutex_lock(&lock);
	if (c->session_file) {
		file_load(&file, c->session_file);
		store_put(&file, key, what, p, len);
		file_save(&file, c->session_file);
		store_fini(&file);
	} else {
		store_put(&memory, key, what, p, len);
	}
	pthread_mutex_unlock(&lock);
}

/* Lend out what is there; take: and forget it. */
static const uint8_t *lend(struct store *st, const char *key, enum what what, bool take, size_t *len)
{
	struct server *s = store_find(st, key);
	mem_free(lent);
	lent = NULL;
	*len = 0;
	if (!s || !s->data[what])
		return NULL;
	lent = mem_alloc(s->len[what]);
	if (!lent)
		return NULL;
	*len = s->len[what];
	memcpy(lent, s->data[what], *len);
	if (take) {
		mem_free(s->data[what]);
		s->data[what] = NULL;
		s->len[what] = 0;
	}
	return lent;
}

static const uint8_t *look_up(struct sock_config *c, const char *name, const struct addr *remote, enum what what,
			      bool take, size_t *len)
{
	char key[KEY_MAX];
	struct store file = { TAILQ_HEAD_INITIALIZER(file.list), 0 };
	const uint8_t *p;
	make_key(key, c, name, remote);
	pthread_mutex_lock(&lock);
	if (c->session_file) {
		file_load(&file, c->session_file);
		p = lend(&file, key, what, take, len);
		if (p && take)
			file_save(&file, c->session_file);
		store_fini(&file);
	} else {
		p = lend(&memory, key, what, take, len);
	}
	pthread_mutex_unlock(&lock);
	return p;
}

void sessions_store(struct sock_config *c, const char *name, const struct addr *remote, const uint8_t *blob, size_t len)
{
	keep(c, name, remote, SESSION, blob, len);
}

void sessions_store_token(struct sock_config *c, const char *name, const struct addr *remote, const uint8_t *p,
			  size_t len)
{
	keep(c, name, remote, TOKEN, p, len);
}

const uint8_t *sessions_find(struct sock_config *c, const char *name, const struct addr *remote, size_t *len)
{
	return look_up(c, name, remote, SESSION, false, len);
}

/* RFC 9000 8.1.3: a token is not used for two connections, or an observer could link them. */
const uint8_t *sessions_take_token(struct sock_config *c, const char *name, const struct addr *remote, size_t *len)
{
	return look_up(c, name, remote, TOKEN, true, len);
}

void sessions_flush(void)
{
	pthread_mutex_lock(&lock);
	store_fini(&memory);
	mem_free(lent);
	lent = NULL;
	pthread_mutex_unlock(&lock);
}
