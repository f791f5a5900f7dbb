/* What the shim remembers of a socket, by its cookie: which duplicates, children and SCM_RIGHTS share. Bounded; sockets
 * that are gone make way first. What was forgotten is asked of the engine; a process without one, as a forked
 * worker, does not know the socket again: so what is open is kept as long as there is room. */
#ifndef PRELOAD_MEMO_H
#define PRELOAD_MEMO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/addr.h"

enum memo_state {
	MEMO_FOREIGN,		/* not ours: passes to the kernel */
	MEMO_FRESH,
	MEMO_CONNECTING,
	MEMO_CONNECTED,		/* or accepted; over, perhaps */
	MEMO_LISTENING,
};

#define MEMO_VALUES 40	/* integer options that are remembered, see options.c */
#define MEMO_WAYS 8
#define MEMOS (2048 * MEMO_WAYS)

struct memo {
	uint64_t cookie;	/* 0: empty */
	int fd;			/* the last number it was seen under */
	enum memo_state state;
	int domain;
	int owner;		/* MEMO_LISTENING: the process that listens */
	bool bound, port_asked;	/* bind was called; with a port that is not 0 */
	struct addr local, peer;	/* AF_UNSPEC: not known here */
	uint64_t set;		/* bits: which values[] were set */
	int32_t values[MEMO_VALUES];
};

bool memo_get(uint64_t cookie, int fd, struct memo *out);
void memo_put(const struct memo *m);

/* Which name an address was found under. */
#define NAMES 512
#define NAME_MAX_LEN 255
void name_remember(const struct addr *a, const char *name);
bool name_recall(const struct addr *a, char name[NAME_MAX_LEN + 1]);	/* the port does not matter */

#endif
