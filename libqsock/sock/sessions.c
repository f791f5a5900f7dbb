/* What a client keeps for its next visit: the newest resumption blob and address
 * token of each server, in memory, and in a file when one is configured. A file is
 * read again only when another process changed it, and written a little later than its
 * contents changed here, so that a burst of handshakes costs one write; what others put
 * there meanwhile stays. It is never more than a help, so whatever is wrong with it is no
 * error. Called on the engine thread alone; the lock is for fork. */
#include "sock/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/mem.h"

#define SESSION_BYTES_MAX 16384		/* of one blob or token; larger ones are not kept */
#define FILE_BYTES_MAX (256 * 1024)	/* the oldest servers go when there is more */
#define KEY_MAX 320
#define FILES_MAX 8			/* kept in memory */
#define WRITE_US 200000			/* after the first change */

enum what { SESSION, TOKEN, WHATS };

struct server {
	TAILQ_ENTRY(server) link;	/* the most recently stored first */
	char *key;
	uint8_t *data[WHATS];		/* [len]; NULL: none */
	size_t len[WHATS];
	bool changed[WHATS];		/* the file does not know it yet */
};
TAILQ_HEAD(servers, server);
struct store {
	TAILQ_ENTRY(store) link;	/* in files */
	struct servers list;
	size_t count;
	char *path;			/* NULL: memory only */
	struct stat seen;		/* the file when it was read or written; zero: there was none */
	struct engine *engine;		/* of timer */
	struct timer timer;		/* set: something changed */
};
TAILQ_HEAD(stores, store);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct store memory = { .list = TAILQ_HEAD_INITIALIZER(memory.list) };
static struct stores files = TAILQ_HEAD_INITIALIZER(files);	/* the one that was used last first */
static size_t n_files;
static uint8_t *lent;			/* what the last call returned */
static size_t lent_len;

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void in_parent(void) { pthread_mutex_unlock(&lock); }

/* What is not written yet the parent writes; its timers are its engine's. */
static void in_child(void)
{
	struct store *st;
	struct server *s;
	TAILQ_FOREACH(st, &files, link) {
		memset(&st->timer, 0, sizeof(st->timer));
		TAILQ_FOREACH(s, &st->list, link)
			memset(s->changed, 0, sizeof(s->changed));
	}
	pthread_mutex_unlock(&lock);
}

__attribute__((constructor(FORK_LOCK_INNER))) static void at_load(void)
{
	pthread_atfork(before_fork, in_parent, in_child);
}

/* ---- the store --------------------------------------------------------------- */

/* Blobs hold the secrets that sessions are resumed with. */
static void wipe_free(uint8_t *p, size_t len)
{
	if (p)
		explicit_bzero(p, len);
	mem_free(p);
}

static void server_free(struct store *st, struct server *s)
{
	TAILQ_REMOVE(&st->list, s, link);
	st->count--;
	for (int i = 0; i < WHATS; i++)
		wipe_free(s->data[i], s->len[i]);
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
	wipe_free(s->data[what], s->len[what]);
	s->data[what] = copy;
	s->len[what] = len;
	return true;
}

static void server_clear(struct server *s, enum what what)
{
	wipe_free(s->data[what], s->len[what]);
	s->data[what] = NULL;
	s->len[what] = 0;
}

static void store_put(struct store *st, const char *key, enum what what, const uint8_t *p, size_t len)
{
	struct server *s = store_find(st, key);
	if (!s && !(s = store_add(st, key)))
		return;
	TAILQ_REMOVE(&st->list, s, link);
	TAILQ_INSERT_HEAD(&st->list, s, link);
	if (server_set(s, what, p, len))
		s->changed[what] = true;
	else if (!s->data[SESSION] && !s->data[TOKEN])
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

/* What is damaged ends the list. false: no memory, something sound is missing. */
static bool parse(struct store *st, const uint8_t *p, size_t len)
{
	struct rd r = rd_of(p, len);
	const uint8_t *head = rd_bytes(&r, MAGIC_LEN);
	if (!head || memcmp(head, magic, MAGIC_LEN))
		return true;
	while (rd_left(&r) && st->count < SESSIONS_MAX) {
		char key[KEY_MAX];
		size_t n;
		const uint8_t *k = get(&r, &n);
		if (!k || !n || n >= sizeof(key))
			return true;
		memcpy(key, k, n);
		key[n] = '\0';
		if (store_find(st, key))
			return true;
		struct server *s = store_add(st, key);
		if (!s)
			return false;
		for (int i = 0; i < WHATS; i++) {
			const uint8_t *d = get(&r, &n);
			if (d && n && n <= SESSION_BYTES_MAX && !server_set(s, i, d, n))
				return false;
		}
	}
	return true;
}

/* false: no memory; then nothing may be saved, or others would be lost. */
static bool file_load(struct store *st, const char *path)
{
	struct stat about;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return true;
	uint8_t *p = NULL;
	bool worth = !fstat(fd, &about) && S_ISREG(about.st_mode) && about.st_size > 0 &&
		     about.st_size <= FILE_BYTES_MAX;
	if (worth)
		p = mem_alloc((size_t)about.st_size);
	ssize_t n = p ? read(fd, p, (size_t)about.st_size) : 0;
	bool ok = p || !worth;
	if (n > 0)
		ok = parse(st, p, (size_t)n);
	wipe_free(p, p ? (size_t)about.st_size : 0);
	close(fd);
	return ok;
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
	wipe_free(p, p ? len : 0);
}

/* What changed here over what is in the file by now. */
static void merge(struct store *disk, const struct store *st)
{
	struct server *s, *old;
	TAILQ_FOREACH_REVERSE(s, &st->list, servers, link) {
		for (int i = 0; i < WHATS; i++) {
			if (!s->changed[i])
				continue;
			if (s->data[i])
				store_put(disk, s->key, i, s->data[i], s->len[i]);
			else if ((old = store_find(disk, s->key)))
				server_clear(old, i);
		}
	}
}

static void unchanged(struct store *st)
{
	struct server *s;
	TAILQ_FOREACH(s, &st->list, link)
		memset(s->changed, 0, sizeof(s->changed));
}

static void look_at(const char *path, struct stat *about)
{
	if (stat(path, about))
		memset(about, 0, sizeof(*about));
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* What the file holds now, and over it what changed here, becomes what we know. false: no memory, nothing happened. */
static bool read_again(struct store *st)
{
	struct store disk = { .list = TAILQ_HEAD_INITIALIZER(disk.list) };
	struct stat about;
	look_at(st->path, &about);
	bool all = file_load(&disk, st->path);
	if (all) {
		st->seen = about;
		merge(&disk, st);
		TAILQ_SWAP(&st->list, &disk.list, server, link);
		size_t count = st->count;
		st->count = disk.count;
		disk.count = count;
	}
	store_fini(&disk);
	return all;
}

static void write_out(struct store *st)
{
	if (!read_again(st))
		return;
	file_save(st, st->path);
	look_at(st->path, &st->seen);
	unchanged(st);
}

static void write_due(struct timer *t)
{
	pthread_mutex_lock(&lock);
	write_out((struct store *)((char *)t - offsetof(struct store, timer)));
	pthread_mutex_unlock(&lock);
}

static void write_now(struct store *st)
{
	if (!st->timer.set)
		return;
	timer_clear(st->engine, &st->timer);
	write_out(st);
}

static void write_later(struct engine *e, struct store *st)
{
	if (!st->path || st->timer.set)
		return;
	if (!e) {
		write_out(st);
		return;
	}
	st->engine = e;
	st->timer.fired = write_due;
	timer_set(e, &st->timer, engine_now_us(e) + WRITE_US);
}

/* ---- files in memory ------------------------------------------------------------ */

static void file_forget(struct store *st)
{
	write_now(st);
	TAILQ_REMOVE(&files, st, link);
	n_files--;
	store_fini(st);
	mem_free(st->path);
	mem_free(st);
}

static struct store *file_get(const char *path)
{
	struct store *st;
	TAILQ_FOREACH(st, &files, link)
		if (!strcmp(st->path, path))
			break;
	struct stat about;
	look_at(path, &about);
	if (st) {
		if (!same_file(&about, &st->seen))
			read_again(st);
		return st;
	}
	st = mem_zalloc(sizeof(*st));
	if (!st || !(st->path = mem_strdup(path))) {
		mem_free(st);
		return NULL;
	}
	TAILQ_INIT(&st->list);
	read_again(st);
	TAILQ_INSERT_HEAD(&files, st, link);
	if (++n_files > FILES_MAX)
		file_forget(TAILQ_LAST(&files, stores));
	return st;
}

/* NULL: nothing is to be kept, or no memory. */
static struct store *store_of(const struct sock_config *c)
{
	if (c->no_resumption)
		return NULL;
	struct store *st = c->session_file ? file_get(c->session_file) : &memory;
	if (st && st != &memory && st != TAILQ_FIRST(&files)) {
		TAILQ_REMOVE(&files, st, link);
		TAILQ_INSERT_HEAD(&files, st, link);
	}
	return st;
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

static void keep(struct engine *e, struct sock_config *c, const char *name, const struct addr *remote, enum what what,
		 const uint8_t *p, size_t len)
{
	char key[KEY_MAX];
	if (!len || len > SESSION_BYTES_MAX)
		return;
	make_key(key, c, name, remote);
	pthread_mutex_lock(&lock);
	struct store *st = store_of(c);
	if (st) {
		store_put(st, key, what, p, len);
		write_later(e, st);
	}
	pthread_mutex_unlock(&lock);
}

static void lent_forget(void)
{
	wipe_free(lent, lent_len);
	lent = NULL;
}

/* A copy to lend out; NULL: none, or no memory. */
static const uint8_t *lend(const struct server *s, enum what what, size_t *len)
{
	lent_forget();
	*len = 0;
	if (!s || !s->data[what] || !(lent = mem_alloc(s->len[what])))
		return NULL;
	*len = lent_len = s->len[what];
	return memcpy(lent, s->data[what], *len);
}

static const uint8_t *look_up(struct engine *e, struct sock_config *c, const char *name, const struct addr *remote,
			      enum what what, bool take, size_t *len)
{
	char key[KEY_MAX];
	make_key(key, c, name, remote);
	pthread_mutex_lock(&lock);
	struct store *st = store_of(c);
	struct server *s = st ? store_find(st, key) : NULL;
	const uint8_t *p = lend(s, what, len);
	if (p && take) {
		server_clear(s, what);
		s->changed[what] = true;
		write_later(e, st);
	}
	pthread_mutex_unlock(&lock);
	return p;
}

void sessions_store(struct engine *e, struct sock_config *c, const char *name, const struct addr *remote,
		    const uint8_t *p, size_t len)
{
	keep(e, c, name, remote, SESSION, p, len);
}

void sessions_store_token(struct engine *e, struct sock_config *c, const char *name, const struct addr *remote,
			  const uint8_t *p, size_t len)
{
	keep(e, c, name, remote, TOKEN, p, len);
}

const uint8_t *sessions_find(struct engine *e, struct sock_config *c, const char *name, const struct addr *remote,
			     size_t *len)
{
	return look_up(e, c, name, remote, SESSION, false, len);
}

/* RFC 9000 8.1.3: a token is not used for two connections, or an observer could link them. */
const uint8_t *sessions_take_token(struct engine *e, struct sock_config *c, const char *name, const struct addr *remote,
				   size_t *len)
{
	return look_up(e, c, name, remote, TOKEN, true, len);
}

void sessions_write(void)
{
	struct store *st;
	pthread_mutex_lock(&lock);
	TAILQ_FOREACH(st, &files, link)
		write_now(st);
	pthread_mutex_unlock(&lock);
}

void sessions_flush(void)
{
	pthread_mutex_lock(&lock);
	store_fini(&memory);
	while (!TAILQ_EMPTY(&files))
		file_forget(TAILQ_FIRST(&files));
	lent_forget();
	pthread_mutex_unlock(&lock);
}
