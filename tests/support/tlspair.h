/* Two ends of a TLS handshake in memory: what one emits is queued and fed to the
 * other, in pieces of a chosen size. */
#ifndef SUPPORT_TLSPAIR_H
#define SUPPORT_TLSPAIR_H

#include "tls/tls.h"

struct piece {
	enum level level;
	uint8_t *data;
	size_t len;
};

struct secret {
	uint8_t b[48];
	size_t len;
	uint16_t suite;
	int times;
};

struct side {
	struct tls *t;
	struct piece q[64];	/* what it emitted and the other has not got */
	int head, tail;
	struct secret secret[LEVEL_COUNT][2];	/* [level][tx] */
	uint8_t params[256];	/* the peer's */
	size_t params_len;
	int params_calls;
	int params_answer;	/* to be returned by the callback */
	uint8_t blob[1u << 16];	/* the last session */
	size_t blob_len;
	int sessions;
	int error;		/* first error of its tls_recv or tls_start */
	size_t bytes[LEVEL_COUNT];	/* emitted */
	bool hs_tx_before_flight;	/* client: handshake write secret came before any Handshake CRYPTO was fed */
	size_t fed[LEVEL_COUNT];
};

struct pair {
	struct side client, server;
};

/* A configuration with ALPN "hq" unless given, and <dir>/<leaf>.crt and .key unless leaf is NULL. Fails the test
 * with the line if it cannot be built. */
struct tls_config *pair_config(struct tls_settings s, const char *dir, const char *leaf);
/* The same; a client believes <dir>/ca.crt, a server shows a.example, unless s says otherwise. */
struct tls_config *pair_config_usual(struct tls_settings s, const char *dir);

#define CLIENT_PARAMS "client parameters"
#define SERVER_PARAMS "server's parameters"

/* Make both ends and give them parameters. session may be NULL. */
void pair_init(struct pair *p, struct tls_config *client, struct tls_config *server, const char *server_name);
void pair_fini(struct pair *p);
void pair_start(struct pair *p);
/* Move pieces of at most chunk bytes until nothing is left or one side failed. */
void pair_pump(struct pair *p, size_t chunk);
/* start and pump whole pieces. true: both done. */
bool pair_handshake(struct pair *p);
/* Take the next piece of what s emitted; the caller frees data. false: none. */
bool side_take(struct side *s, struct piece *out);
/* tls_recv of a whole piece and some zero bytes behind it; frees data. */
int recv_with_tail(struct tls *t, struct piece *p, size_t extra);
extern const struct tls_out pair_out;

#endif
