/* Scenes for an injector: a connpair brought to the moment at which a level is in use, and
 * the transfer that shows that nothing was broken. */
#ifndef SUPPORT_INJSCENE_H
#define SUPPORT_INJSCENE_H

#include "support/injector.h"

struct scene {
	struct connpair p;
	struct injector i;
	struct conn *victim, *mate;
};

/* level: INITIAL: the server has the ClientHello, the client has heard nothing. HANDSHAKE: the client has the server's
 * flight, the server has not heard the client's. APP: both are confirmed and quiet. */
void scene_init(struct scene *s, enum level level, bool to_server);
/* configure may change the pair's configuration; NULL: not. */
void scene_init_with(struct scene *s, enum level level, bool to_server, void (*configure)(struct connpair *p));
/* Only the client exists; it is victim and mate until the test makes a server. */
void scene_init_client_only(struct scene *s, bool to_server);
void scene_fini(struct scene *s);
/* run in a scene of its own for a client, then for a server. */
void each_side(enum level level, void (*run)(struct scene *s));
/* A NEW_CONNECTION_ID with Retire Prior To 0, in a packet of its own. */
void scene_send_new_cid(struct scene *s, uint64_t seq, const struct cid *cid, const uint8_t *token);
/* Streams both ways, read and checked to the end. */
void scene_transfer(struct scene *s, size_t bytes);
/* Read whatever stream st holds and forget it; returns bytes. */
size_t scene_drain(struct conn *c, struct stream *st);

#endif
