/* Two small caches, each slot holding the last that fell on it. A child finds its
 * parent's, as it finds the sockets. */
#include "preload/memo.h"

#include <bsd/string.h>
#include <pthread.h>
#include <string.h>

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

bool memo_get(uint64_t cookie, struct memo *out)
{
	pthread_mutex_lock(&lock);
	const struct memo *m = &memos[cookie % MEMOS];
	bool found = cookie && m->cookie == cookie;
	if (found)
		*out = *m;
	pthread_mutex_unlock(&lock);
	return found;
}

void memo_put(const struct memo *m)
{
	pthread_mutex_lock(&lock);
	memos[m->cookie % MEMOS] = *m;
	pthread_mutex_unlock(&lock);
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
