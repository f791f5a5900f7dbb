/* The TLS 1.3 handshake as QUIC sees it: bytes per level in and out, secrets,
 * and the peer's transport parameters. Two backends implement this one contract:
 * tls_quic.c (OpenSSL >= 3.5) and tls_compat.c (OpenSSL 3.0-3.4); what both share
 * is in tls_common.c, the configuration in tls_config.c. No other folder includes
 * OpenSSL's ssl.h and nothing outside tls/ asks which backend it is.
 * RFC 9001 4; RFC 8446 */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/rng.h"
#include "wire/packet.h"

struct tls;		/* one handshake */
struct tls_config;	/* immutable once built; shared, reference counted, thread-safe */

/* ---- configuration ------------------------------------------------------ */

enum tls_verify {
	TLS_VERIFY_DEFAULT = 0,	/* client: required; server: client certificates not asked for */
	TLS_VERIFY_REQUIRE,	/* server: client certificate required */
	TLS_VERIFY_OPTIONAL,	/* server: asked for, verified when given */
	TLS_VERIFY_INSECURE,	/* client: accept anything. Only ever set by an explicit wish */
};

struct tls_cert_file {
	const char *cert_file;	/* PEM, chain, leaf first */
	const char *key_file;	/* PEM */
	const char *server_name;	/* for choice by SNI, "*.example.org" allowed; NULL: the default */
};

struct tls_settings {
	bool is_server;
	const char *const *alpn;	/* protocol names, 1-255 bytes each, preferred first */
	size_t alpn_count;		/* >= 1: QUIC requires ALPN (RFC 9001 8.1) */
	const struct tls_cert_file *certs;
	size_t cert_count;		/* server with 0: self-signed, see self_signed_dir */
	const char *self_signed_dir;	/* where the self-made key and certificate are kept (created 0700, files 0600);
					 * NULL: the user's config directory ($XDG_CONFIG_HOME or ~/.config)/libqsock;
					 * if it cannot be written, a key for this process only */
	enum tls_verify verify;
	const char *ca_file;		/* PEM; NULL: system store */
	const uint8_t (*pins)[32];	/* SHA-256 of SubjectPublicKeyInfo; when given, a matching leaf key is
					 * sufficient and the CA and name checks are not made */
	size_t pin_count;
	const char *keylog_file;	/* NULL: none. Opened for each line: give an absolute path. SSLKEYLOGFILE is the
					 * caller's business */
	const uint16_t *suites;		/* TLS ids; NULL: all three */
	size_t suite_count;
	bool no_tickets;		/* server: issue none */
};

/* Build. On failure NULL and one plain line in err (no newline) such as
 * "cannot read key /x/y.pem: Permission denied". errno: ENOENT, EACCES, EINVAL (bad PEM,
 * key does not match), ENOMEM. */
struct tls_config *tls_config_new(const struct tls_settings *s, char *err, size_t err_size);
struct tls_config *tls_config_ref(struct tls_config *c);
void tls_config_unref(struct tls_config *c);
/* SPKI SHA-256 of the default certificate. false: none (client without). */
bool tls_config_pin(const struct tls_config *c, uint8_t pin[32]);
/* A secret that follows from the default certificate's private key: the same in every process that has the key. label:
 * what it is for, up to 64 characters. false: no key, or one that does not leave its keeper. */
bool tls_config_secret(const struct tls_config *c, const char *label, uint8_t secret[32]);
/* Is the default certificate self-made? */
bool tls_config_self_signed(const struct tls_config *c);

/* ---- one handshake ------------------------------------------------------ */

/* Called from inside tls_start and tls_recv. They may only queue: no tls_ function may
 * be called from them. Secrets may come in any order. */
struct tls_out {
	void (*secret)(void *arg, enum level level, bool tx, uint16_t suite, const uint8_t *secret, size_t len);
	void (*crypto)(void *arg, enum level level, const uint8_t *data, size_t len);
	/* The peer's raw transport parameters, once, before the handshake completes. Returns 0 or a QE_PEER code, which
	 * fails the handshake. */
	int (*peer_params)(void *arg, const uint8_t *data, size_t len);
	/* Client: a session to keep for resumption (opaque, see tls_set_session). After completion, maybe several. */
	void (*new_session)(void *arg, const uint8_t *blob, size_t len);
};

enum tls_state { TLS_RUNNING, TLS_DONE, TLS_FAILED };

struct tls_info {
	char alpn[256];			/* NUL-terminated */
	char sni[256];			/* the name asked for; "" if none */
	uint16_t suite;
	bool resumed;
	bool peer_cert;			/* a peer certificate was seen (not on resumption) */
	uint8_t peer_pin[32];		/* its SPKI SHA-256, if peer_cert */
	char verify_text[128];		/* why verification failed, or "" */
};

/* out, arg: kept for the life of the tls. server_name: client: for SNI and
 * verification, a DNS name or an IP literal (no SNI then); NULL: neither. NULL on no memory. */
struct tls *tls_new(struct tls_config *cfg, const struct tls_out *out, void *arg, const char *server_name);
void tls_free(struct tls *t);

/* Before start: our encoded transport parameters (copied; a must); client: a session
 * blob from new_session (copied; a stale, damaged or foreign one is ignored, never an
 * error; tied to server_name, ALPN and what the configuration trusts). Return 0 or QE_NOMEM. */
int tls_set_params(struct tls *t, const uint8_t *params, size_t len);
int tls_set_session(struct tls *t, const uint8_t *blob, size_t len);

/* Start: a client emits its ClientHello. 0, or an error as tls_recv; QE_INVAL for an impossible server_name. */
int tls_start(struct tls *t);
/* In-order CRYPTO bytes of a level. Works before and after completion (tickets).
 * 0; QE_TLS(alert) (bad handshake, certificate, missing ALPN 0x178 or transport parameters 0x16d, KeyUpdate
 * 0x10a); a code from peer_params; QE_PROTOCOL_VIOLATION for bytes at a level that is not the current read
 * level (RFC 9001 4.1.3), for a ClientHello with a session id (8.4) and for a CertificateRequest after the
 * handshake (4.4); QE_NOMEM; QE_CRYPTO_LIB. The first error is latched. */
int tls_recv(struct tls *t, enum level level, const uint8_t *data, size_t len);

/* Client, between the server's first secret and completion: Handshake packets are about to be sent. Gives the secret
 * for them if it is still owed and can be had, even after an error. */
void tls_want_tx(struct tls *t);

enum tls_state tls_state(const struct tls *t);
/* Text of the latched error for logs and qsock_error: "certificate has expired", ... "" if none. */
const char *tls_error_text(const struct tls *t);
/* Level at which CRYPTO is expected next. */
enum level tls_read_level(const struct tls *t);
/* Valid once TLS_DONE (alpn from then; sni on servers earlier); survives tls_release. */
const struct tls_info *tls_info(const struct tls *t);
/* The session can be used with 0-RTT on this backend. Neither offers it yet: there is no call to ask for it. */
bool tls_has_early_data(void);
/* After completion; before it nothing happens. Server (its tickets are out then): free OpenSSL's part, keep answering
 * tls_recv with an error. Client: the same once a session has come (later tickets are skipped), until then
 * only buffers: call again after new_session. What stays is about 1 KB. */
void tls_release(struct tls *t);

/* What a session blob remembers besides the TLS session, for 0-RTT (later) and
 * address tokens: raw transport parameters of the server. false: malformed blob. */
bool tls_session_params(const uint8_t *blob, size_t len, const uint8_t **params, size_t *params_len);

#endif
