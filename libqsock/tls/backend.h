/* The contract between tls_common.c and the one backend that is linked in
 * (tls_quic.c or tls_compat.c; the Makefile chooses). Common owns the SSL, the state and
 * the checks; a backend moves bytes and secrets between the SSL and QUIC. */
#ifndef TLS_BACKEND_H
#define TLS_BACKEND_H

#include "tls/config.h"

struct backend;

struct tls {
	struct tls_config *cfg;		/* a reference */
	const struct tls_out *out;
	void *arg;
	SSL *ssl;			/* NULL once released */
	struct backend *be;		/* owned by the backend; goes with the SSL */
	char *server_name;		/* client: as asked for, without a trailing dot; NULL: none */
	uint8_t *params;		/* ours; OpenSSL may point into it until the SSL is gone */
	size_t params_len;
	uint8_t *peer_params;		/* client: kept for session blobs */
	size_t peer_params_len;
	enum tls_state state;
	int error;			/* the first one, 0: none */
	enum level rx_level;		/* set by the backend */
	bool peer_params_seen;
	bool negotiated;		/* ALPN and parameters were checked to be there */
	uint8_t hello_seen;		/* server: bytes of the ClientHello, as far as its session id */
	uint8_t tickets;		/* client: taken so far */
	uint8_t post_have;		/* post-handshake message under way: bytes of its header */
	uint8_t post_hdr[4];
	uint32_t post_left;		/* bytes of its body to come */
	struct tls_info info;
	char text[128];			/* of error */
};

#define TLS_PARAMS_MAX 4096	/* bytes of a peer's transport parameters */
#define TLS_TICKETS_MAX 16	/* sessions taken from one server; more are skipped */

/* ---- what a backend offers ---------------------------------------------- */

/* Prepare a context: callbacks and extensions. false: no memory. */
bool backend_ctx_setup(SSL_CTX *ctx);
/* t->ssl is there, its role and app data (t) set. 0 or QE_NOMEM. */
int backend_new(struct tls *t);
/* Our parameters are final. 0 or QE_NOMEM. */
int backend_start(struct tls *t);
/* Give OpenSSL bytes of level t->rx_level to read (borrowed until the next call). 0; QE_NOMEM; QE_CRYPTO_LIB. */
int backend_feed(struct tls *t, const uint8_t *data, size_t len);
/* Were all bytes given so far consumed? */
bool backend_drained(const struct tls *t);
/* tls_want_tx. */
void backend_want_tx(struct tls *t);
/* The handshake is complete: drop what only it needed. */
void backend_done(struct tls *t);
/* After SSL_free. Safe when backend_new failed. */
void backend_free(struct tls *t);
bool backend_has_early_data(void);

/* ---- what common offers to it ------------------------------------------- */

/* Latch the first error; returns the latched one. */
int tls_fail(struct tls *t, int error, const char *text);
void tls_on_alert(struct tls *t, uint8_t alert);	/* OpenSSL sends a fatal alert */
/* Hand a piece of our flight to QUIC. An error: ALPN or parameters are missing, nothing was handed over. */
int tls_emit(struct tls *t, enum level level, const uint8_t *data, size_t len);
void tls_emit_secret(struct tls *t, enum level level, bool tx, const uint8_t *secret, size_t len);
int tls_on_peer_params(struct tls *t, const uint8_t *data, size_t len);
int tls_on_new_session(SSL *ssl, SSL_SESSION *session);	/* OpenSSL's callback, set by tls_config.c */
/* Suite in use or about to be, 0: none yet. */
uint16_t tls_suite(const struct tls *t);

#endif
