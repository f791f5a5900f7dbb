/* Stream credit of connections, readable without asking the engine: lets
 * qsock_open_stream go ahead with one sendmsg and no reply. Only true in the
 * process that runs the engine; a forked child finds nothing here. */
#include "sock/sock.h"

#include <pthread.h>
#include <unistd.h>

#include "base/mem.h"

struct credit {
	RB_ENTRY(credit) link;
	uint64_t cookie;
	uint64_t left[2];
};
RB_HEAD(credit_tree, credit);

static int credit_cmp(const struct credit *a, const struct credit *b)
{
	return a->cookie < b->cookie ? -1 : a->cookie > b->cookie;
}
RB_PROTOTYPE(credit_tree, credit, link, credit_cmp)
RB_GENERATE(credit_tree, credit, link, credit_cmp)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct credit_tree tree = RB_INITIALIZER(&tree);

static struct credit *find(uint64_t cookie)
{
	struct credit key = { .cookie = cookie };
	return RB_FIND(credit_tree, &tree, &key);
}

static struct credit_tree of_parent;	/* neither used nor freed, only kept reachable for leak checkers */

/* What a parent knew is of no use in a child, and its lock may be held for ever. */
static void in_child(void)
{
	pthread_mutex_init(&lock, NULL);
	of_parent = tree;
	RB_INIT(&tree);
}

__attribute__((constructor)) static void at_load(void)
{
	pthread_atfork(NULL, NULL, in_child);
}

bool credit_take(uint64_t conn_cookie, bool uni)
{
	bool got = false;
	pthread_mutex_lock(&lock);
	struct credit *c = find(conn_cookie);
	if (c && c->left[uni]) {
		c->left[uni]--;
		got = true;
	}
	pthread_mutex_unlock(&lock);
	return got;
}

bool credit_add(uint64_t conn_cookie, uint64_t bidi, uint64_t uni)
{
	pthread_mutex_lock(&lock);
	struct credit *c = find(conn_cookie);
	if (!c && (c = mem_zalloc(sizeof(*c)))) {
		c->cookie = conn_cookie;
		RB_INSERT(credit_tree, &tree, c);
	}
	if (c) {
		c->left[0] += bidi;
		c->left[1] += uni;
	}
	pthread_mutex_unlock(&lock);
	return c;
}

void credit_return(uint64_t conn_cookie, bool uni)
{
	pthread_mutex_lock(&lock);
	struct credit *c = find(conn_cookie);
	if (c)
		c->left[uni]++;
	pthread_mutex_unlock(&lock);
}

void credit_forget(uint64_t conn_cookie)
{
	pthread_mutex_lock(&lock);
	struct credit *c = find(conn_cookie);
	if (c)
		RB_REMOVE(credit_tree, &tree, c);
	pthread_mutex_unlock(&lock);
	mem_free(c);
}
