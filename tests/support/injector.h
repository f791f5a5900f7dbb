/* A peer that breaks the rules: takes the place of one side of a connpair and sends the
 * other, the victim, whatever a test wants, properly sealed; and reads everything that
 * the victim sends. The side it speaks for (the mate) stays alive: what is injected takes
 * packet numbers from its counters, so that an honest transfer can follow. */
#ifndef SUPPORT_INJECTOR_H
#define SUPPORT_INJECTOR_H

#include "conn/conn_int.h"
#include "support/connpair.h"

#define INJECT_MAX 2048			/* bytes of one datagram */
#define HELLO_MAX 4096			/* bytes of a hello; with post-quantum keys it passes one datagram */

struct injector {
	struct connpair *p;
	bool to_server;			/* the victim is the server */
	size_t short_cid_len;		/* of DCIDs in what the victim sends; 8 after init */
	struct pktkey initial_tx, initial_rx;
	bool has_initial;
	struct pktkey app[4];		/* by key update generation; made from the mate's first key */
	bool has_app;
	bool alone;			/* the mate hears nothing of what the victim sends */
	struct ackq acks[SPACE_COUNT];	/* packets of the victim, while alone */
	/* what the victim was seen to send */
	uint64_t datagrams, bytes, packets[LEVEL_COUNT], frames[FRAME_KIND_COUNT];
	uint64_t largest_pn[SPACE_COUNT];	/* PN_NONE */
	struct frame_ack last_ack;		/* numbers only */
	enum level last_ack_level;
	uint8_t last_path_response[8];
	uint64_t close_code, close_frame_type;
	enum frame_kind close_kind;
	enum level close_level;
	unsigned closes;
};

/* One packet. Zeroed but for level: an ordinary next packet. */
struct inject {
	enum level level;
	bool pn_given;			/* pn is to be used; else the next one */
	uint64_t pn;
	uint8_t reserved;		/* ORed into the first byte before protection */
	unsigned generation;		/* of 1-RTT keys; its low bit is the Key Phase */
	bool flip_phase;		/* show the other Key Phase bit than the keys' */
	const struct cid *dcid, *scid;	/* NULL: the right ones */
	const uint8_t *token;		/* Initial */
	size_t token_len;
	size_t pad;			/* PADDING up to so many bytes of packet; Initials: 0 means 1200, 1 none */
	bool corrupt;			/* the tag is wrong */
	bool small;			/* do not fill an Initial's datagram up to 1200 bytes with zeros either */
};

/* Takes over p->filter. Nothing needs to be there yet; keys are taken when they are wanted. */
void injector_init(struct injector *i, struct connpair *p, bool to_server);
void injector_fini(struct injector *i);
struct conn *injector_victim(const struct injector *i);
struct conn *injector_mate(const struct injector *i);

/* Write one sealed packet; returns its length. out: INJECT_MAX bytes. */
size_t injector_seal(struct injector *i, const struct inject *how, const uint8_t *payload, size_t len, uint8_t *out);
/* Hand a datagram to the victim now and let it answer. */
void injector_deliver(struct injector *i, const uint8_t *data, size_t len);
/* Both, for one packet alone in its datagram. */
void injector_send_how(struct injector *i, const struct inject *how, const uint8_t *payload, size_t len);
void injector_send(struct injector *i, enum level level, const uint8_t *payload, size_t len);
/* The same without asking the victim to transmit: for floods that come in one batch. */
void injector_feed(struct injector *i, const struct inject *how, const uint8_t *payload, size_t len);
/* ACK everything that the victim sent while alone. */
void injector_ack(struct injector *i, enum level level);
/* Forget what was seen. */
void injector_forget(struct injector *i);

/* ---- hellos with other contents ---------------------------------------------- */

/* The client's ClientHello as it stands in its send buffer. Returns its length. */
size_t injector_client_hello(const struct conn *client, uint8_t *out, size_t cap);
/* Replace a TLS extension's body (ext_len SIZE_MAX: take the extension out) in a ClientHello. Returns
 * the new length. */
size_t hello_set_extension(uint8_t *hello, size_t len, size_t cap, uint16_t type, const uint8_t *body, size_t body_len);
/* CRYPTO bytes in as many packets as it takes. */
void injector_send_crypto(struct injector *i, enum level level, uint64_t off, const uint8_t *data, size_t len);
/* Make p's server from Initials, as from the client, that carry this ClientHello. */
void injector_start_server(struct injector *i, const uint8_t *hello, size_t len);
/* Make p's server from the client's own first datagram, which is put into first (INJECT_MAX bytes) and not yet fed, so
 * that the server can be changed. odcid, retry_scid: as conn_new_server; odcid NULL: without Retry. Returns the
 * length. */
size_t injector_make_server(struct injector *i, const struct cid *odcid, const struct cid *retry_scid, uint8_t *first);
/* Other transport parameters than its own, before it is fed. */
void injector_server_params(struct injector *i, const uint8_t *params, size_t len);
/* That first datagram, and what else the client has to say now. */
void injector_feed_server(struct injector *i, uint8_t *first, size_t len);

#endif
