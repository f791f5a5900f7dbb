/* Sockets in sets of a few entries, names in slots that hold the last that fell on them. close is not hooked: whether a
 * socket is gone is looked up when its entry is wanted. A child finds its parent's entries, as it finds the sockets. */
#include "preload/memo.h"

#include <bsd/string.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

struct name {
	struct addr addr;
	char name[NAME_MAX_LEN + 1];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct memo memos[MEMOS];
static struct name names[NAMES];

static void before_fork(void) { pthread_mutex_lock(&lock); }
static void after_fork(void) { pthread_mutex_unlock(&lock); }

__attribute__((constructor)) static void at_load(void)
{
	pthread_atfork(before_fork, after_fork, after_fork);
}

static struct memo *set_of(uint64_t cookie)
{
	return &memos[cookie % (MEMOS / MEMO_WAYS) * MEMO_WAYS];
}

static struct memo *find(uint64_t cookie)
{
	struct memo *set = set_of(cookie);
	for (int i = 0; i < MEMO_WAYS; i++)
		if (set[i].cookie == cookie)
			return &set[i];
	return NULL;
}

static bool is_gone(const struct memo *m)
{
	uint64_t cookie;
	socklen_t len = sizeof(cookie);
	return getsockopt(m->fd, SOL_SOCKET, SO_COOKIE, &cookie, &len) || cookie != m->cookie;
}

/* An entry for a further socket: an empty one, one of no value, one whose socket is gone; else the oldest has to go,
 * but no listener. */
static struct memo *make_room(uint64_t cookie)
{
	struct memo *set = set_of(cookie), *oldest = NULL;
	for (int i = 0; i < MEMO_WAYS; i++)
		if (!set[i].cookie || set[i].state == MEMO_FOREIGN)
			return &set[i];
	for (int i = 0; i < MEMO_WAYS; i++) {
		if (is_gone(&set[i]))
			return &set[i];
		if (set[i].state != MEMO_LISTENING && (!oldest || set[i].cookie < oldest->cookie))
			oldest = &set[i];
	}
	return oldest ? oldest : set;
}

bool memo_get(uint64_t cookie, int fd, struct memo *out)
{
	pthread_mutex_lock(&lock);
	struct memo *m = cookie ? find(cookie) : NULL;
	if (m) {
		m->fd = fd;
		*out = *m;
	}
	pthread_mutex_unlock(&lock);
	return m;
}

void memo_put(const struct memo *m)
{
	int saved = errno;
	pthread_mutex_lock(&lock);
	struct memo *at = find(m->cookie);
	if (!at)
		at = make_room(m->cookie);
	*at = *m;
	pthread_mutex_unlock(&lock);
	errno = saved;
}

static struct addr without_port(const struct addr *a)
{
	struct addr b = { 0 };
	b.sa.sa_family = a->sa.sa_family;
	if (a->sa.sa_family == AF_INET6)
		b.in6.sin6_addr = a->in6.sin6_addr;
	else
		b.in4.sin_addr = a->in4.sin_addr;
	return b;
}

static struct name *slot(const struct addr *bare)
{
	uint32_t h = 2166136261u;
	const uint8_t *p = (const uint8_t *)bare;
	for (size_t i = 0; i < sizeof(*bare); i++)
		h = (h ^ p[i]) * 16777619u;
	return &names[h % NAMES];
}

void name_remember(const struct addr *a, const char *name)
{
	struct addr bare = without_port(a);
	if (strlen(name) > NAME_MAX_LEN)
		return;
	pthread_mutex_lock(&lock);
	struct name *n = slot(&bare);
	n->addr = bare;
	strlcpy(n->name, name, sizeof(n->name));
	pthread_mutex_unlock(&lock);
}

bool name_recall(const struct addr *a, char name[NAME_MAX_LEN + 1])
{
	struct addr bare = without_port(a);
	pthread_mutex_lock(&lock);
	const struct name *n = slot(&bare);
	bool found = n->name[0] && addr_equal(&n->addr, &bare);
	if (found)
		strlcpy(name, n->name, NAME_MAX_LEN + 1);
	pthread_mutex_unlock(&lock);
	return found;
}
