/* Which descriptor is what: objects by the cookie of the application's end, and
 * the causes of those that died while their descriptor may live on. Knows
 * nothing of what the objects do. */
#include "sock/engine_side.h"

#include <bsd/string.h>
#include <errno.h>

#include "base/mem.h"

#define GRAVES_MAX 4096
#define CATCH_UP_MAX 16	/* turns: more than it takes to empty a full mailbox */

struct grave {
	RB_ENTRY(grave) link;
	TAILQ_ENTRY(grave) age;
	uint64_t cookie;
	bool delivered;
	bool failed;
	struct qsock_error err[];	/* one if failed, else none */
};

static int obj_cmp(const struct sock_obj *a, const struct sock_obj *b)
{
	return a->cookie < b->cookie ? -1 : a->cookie > b->cookie;
}

static int grave_cmp(const struct grave *a, const struct grave *b)
{
	return a->cookie < b->cookie ? -1 : a->cookie > b->cookie;
}

#define TREE_ATTR static __attribute__((unused))
RB_GENERATE_INTERNAL(sock_tree, sock_obj, link, obj_cmp, TREE_ATTR)
RB_GENERATE_INTERNAL(grave_tree, grave, link, grave_cmp, TREE_ATTR)

/* ---- the living -------------------------------------------------------------- */

int obj_add(struct side *side, struct sock_obj *o, enum sock_kind kind, uint64_t cookie)
{
	o->cookie = cookie;
	o->kind = kind;
	o->engine = side->engine;
	if (!cookie || RB_INSERT(sock_tree, &side->objs, o)) {
		o->cookie = 0;
		errno = EEXIST;
		return -1;
	}
	return 0;
}

void obj_remove(struct side *side, struct sock_obj *o)
{
	if (o->cookie)
		RB_REMOVE(sock_tree, &side->objs, o);
	o->cookie = 0;
}

static struct sock_obj *lookup(struct side *side, uint64_t cookie)
{
	struct sock_obj key = { .cookie = cookie };
	return RB_FIND(sock_tree, &side->objs, &key);
}

/* A stream that was just opened may still be a record in a mailbox that epoll has not reported yet. */
struct sock_obj *sock_find(struct engine *e, uint64_t cookie)
{
	struct side *side = side_of(e);
	struct sock_obj *o = side && cookie ? lookup(side, cookie) : NULL;
	if (!side || !cookie)
		return NULL;
	for (int i = 0; !o && !sock_grave(e, cookie) && i < CATCH_UP_MAX && engine_catch_up(e); i++)
		o = lookup(side, cookie);
	return o;
}

struct sock_obj *obj_any(struct side *side, enum sock_kind kind)
{
	struct sock_obj *o;
	RB_FOREACH(o, sock_tree, &side->objs)
		if (o->kind == kind)
			return o;
	return NULL;
}

/* ---- the dead ---------------------------------------------------------------- */

static void grave_remove(struct side *side, struct grave *g)
{
	RB_REMOVE(grave_tree, &side->graves, g);
	TAILQ_REMOVE(&side->grave_age, g, age);
	side->grave_count--;
	mem_free(g);
}

void sock_bury(struct engine *e, uint64_t cookie, const struct qsock_error *err, bool delivered)
{
	struct side *side = side_of(e);
	bool failed = err->kind != QSOCK_ERR_NONE;
	struct grave *g;
	if (!cookie || !(g = mem_alloc(sizeof(*g) + (failed ? sizeof(*err) : 0))))
		return;
	g->cookie = cookie;
	g->delivered = delivered;
	g->failed = failed;
	if (failed)
		g->err[0] = *err;
	struct grave *old = RB_FIND(grave_tree, &side->graves, g);
	if (!old && side->grave_count >= GRAVES_MAX)
		old = TAILQ_FIRST(&side->grave_age);
	if (old)
		grave_remove(side, old);
	RB_INSERT(grave_tree, &side->graves, g);
	TAILQ_INSERT_TAIL(&side->grave_age, g, age);
	side->grave_count++;
}

static const struct grave *grave_of(struct engine *e, uint64_t cookie)
{
	struct grave key = { .cookie = cookie };
	struct side *side = side_of(e);
	return side ? RB_FIND(grave_tree, &side->graves, &key) : NULL;
}

bool sock_grave_delivered(struct engine *e, uint64_t cookie)
{
	const struct grave *g = grave_of(e, cookie);
	return g && g->delivered;
}

const struct qsock_error *sock_grave(struct engine *e, uint64_t cookie)
{
	static const struct qsock_error none;
	const struct grave *g = grave_of(e, cookie);
	if (!g)
		return NULL;
	return g->failed ? g->err : &none;
}

void graves_clear(struct side *side)
{
	struct grave *g;
	while ((g = TAILQ_FIRST(&side->grave_age)))
		grave_remove(side, g);
}

/* ---- causes ---------------------------------------------------------------------- */

static enum qsock_error_kind kind_of(enum conn_error_kind k)
{
	static const enum qsock_error_kind kinds[] = {
		[CONN_ERR_NONE] = QSOCK_ERR_NONE,
		[CONN_ERR_APPLICATION] = QSOCK_ERR_APPLICATION,
		[CONN_ERR_TRANSPORT] = QSOCK_ERR_TRANSPORT,
		[CONN_ERR_TLS] = QSOCK_ERR_TLS,
		[CONN_ERR_IDLE] = QSOCK_ERR_IDLE_TIMEOUT,
		[CONN_ERR_HANDSHAKE_TIMEOUT] = QSOCK_ERR_HANDSHAKE_TIMEOUT,
		[CONN_ERR_VERSION] = QSOCK_ERR_VERSION,
		[CONN_ERR_STATELESS_RESET] = QSOCK_ERR_STATELESS_RESET,
		[CONN_ERR_REFUSED] = QSOCK_ERR_REFUSED,
		[CONN_ERR_UNREACHABLE] = QSOCK_ERR_UNREACHABLE,
		[CONN_ERR_LOCAL] = QSOCK_ERR_LOCAL,
	};
	return kinds[k];
}

static int errno_of(const struct conn_error *ce, bool established)
{
	switch (ce->kind) {
	case CONN_ERR_REFUSED:
		return ce->os_errno ? ce->os_errno : ECONNREFUSED;
	case CONN_ERR_LOCAL:
		return ce->os_errno ? ce->os_errno : ECONNABORTED;
	case CONN_ERR_HANDSHAKE_TIMEOUT:
	case CONN_ERR_IDLE:
		return ETIMEDOUT;
	case CONN_ERR_VERSION:
		return EPROTONOSUPPORT;
	case CONN_ERR_TLS:
	case CONN_ERR_TRANSPORT:
		return established ? ECONNRESET : EPROTO;
	default:
		return ECONNRESET;
	}
}

void error_of_conn(const struct conn_error *ce, bool established, struct qsock_error *out)
{
	*out = (struct qsock_error){ .kind = kind_of(ce->kind), .by_peer = ce->by_peer, .code = ce->code,
				     .frame_type = ce->frame_type, .os_errno = errno_of(ce, established) };
	strlcpy(out->reason, ce->reason, sizeof(out->reason));
}
