/* What both backends share: the life of a handshake, its one latched error, the
 * checks that OpenSSL leaves to QUIC (ALPN, transport parameters, levels, messages
 * after the handshake), resumption. Does not know how bytes get into OpenSSL.
 * RFC 9001 4, 8; RFC 8446 */
#include <arpa/inet.h>
#include <bsd/string.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/err.h"
#include "base/mem.h"
#include "tls/backend.h"
#include "tls/session.h"

enum { MSG_NEW_SESSION_TICKET = 4, MSG_CERTIFICATE_REQUEST = 13 };
#define TLS_NAME_MAX 253	/* bytes of a DNS name */

/* ---- errors ------------------------------------------------------------- */

int tls_fail(struct tls *t, int error, const char *text)
{
	if (!t->error) {
		t->error = error;
		t->state = TLS_FAILED;
		strlcpy(t->text, text, sizeof(t->text));
	}
	return t->error;
}

/* The words for what OpenSSL is about to refuse. */
static const char *openssl_text(struct tls *t)
{
	unsigned long e = ERR_peek_last_error();
	if (ERR_GET_REASON(e) == SSL_R_CERTIFICATE_VERIFY_FAILED && t->info.verify_text[0])
		return t->info.verify_text;
	const char *s = ERR_reason_error_string(e);
	return s ? s : "TLS handshake failed";
}

static void note_verify(struct tls *t)
{
	long r = SSL_get_verify_result(t->ssl);
	if (r == X509_V_OK)
		return;
	bool pinned = t->cfg->pins && r == X509_V_ERR_CERT_UNTRUSTED;
	strlcpy(t->info.verify_text, pinned ? "certificate key matches no pin" : X509_verify_cert_error_string(r),
		sizeof(t->info.verify_text));
}

void tls_on_alert(struct tls *t, uint8_t alert)
{
	if (t->error)
		return;
	note_verify(t);
	/* The reason is often put in the queue only after the alert: the text is completed when the call returns. */
	tls_fail(t, QE_TLS(alert), "");
}

/* OpenSSL returned a failure. */
static int fail_openssl(struct tls *t)
{
	if (!t->error)
		return tls_fail(t, QE_CRYPTO_LIB, openssl_text(t));
	if (!t->text[0])
		strlcpy(t->text, openssl_text(t), sizeof(t->text));
	/* Bytes left over at a key change are no TLS alert in QUIC. RFC 9001 4.1.3 */
	if (ERR_GET_REASON(ERR_peek_last_error()) == SSL_R_NOT_ON_RECORD_BOUNDARY)
		t->error = QE_PROTOCOL_VIOLATION;
	return t->error;
}

/* ---- what the backend hands up ------------------------------------------ */

uint16_t tls_suite(const struct tls *t)
{
	const SSL_CIPHER *c = SSL_get_current_cipher(t->ssl);
	if (!c)
		c = SSL_get_pending_cipher(t->ssl);
	return c ? SSL_CIPHER_get_protocol_id(c) : 0;
}

static bool offers_alpn(const struct tls_config *cfg, const uint8_t *name, size_t len)
{
	for (size_t i = 0; len && i < cfg->alpn_len; i += 1u + cfg->alpn[i])
		if (cfg->alpn[i] == len && !memcmp(cfg->alpn + i + 1, name, len))
			return true;
	return false;
}

/* QUIC needs both, and OpenSSL does not. Known once our own first message after the hellos is written. */
static int check_negotiated(struct tls *t)
{
	const uint8_t *alpn;
	unsigned len;
	if (t->negotiated)
		return 0;
	SSL_get0_alpn_selected(t->ssl, &alpn, &len);
	if (!offers_alpn(t->cfg, alpn, len))	/* RFC 9001 8.1; RFC 7301 3.1: the choice is one of ours */
		return tls_fail(t, QE_TLS(SSL_AD_NO_APPLICATION_PROTOCOL), "no application protocol (ALPN) in common");
	if (!t->peer_params_seen)	/* RFC 9001 8.2 */
		return tls_fail(t, QE_TLS(SSL_AD_MISSING_EXTENSION), "peer sent no QUIC transport parameters");
	t->negotiated = true;
	return 0;
}

int tls_emit(struct tls *t, enum level level, const uint8_t *data, size_t len)
{
	if (t->error)
		return t->error;
	if (level == LEVEL_HANDSHAKE && check_negotiated(t))
		return t->error;
	t->out->crypto(t->arg, level, data, len);
	return 0;
}

void tls_emit_secret(struct tls *t, enum level level, bool tx, const uint8_t *secret, size_t len)
{
	if (!t->error)
		t->out->secret(t->arg, level, tx, tls_suite(t), secret, len);
}

int tls_on_peer_params(struct tls *t, const uint8_t *data, size_t len)
{
	if (t->error || t->peer_params_seen)	/* seen: the second ClientHello after HelloRetryRequest */
		return t->error;
	t->peer_params_seen = true;
	if (len > TLS_PARAMS_MAX)
		return tls_fail(t, QE_TRANSPORT_PARAMETER, "transport parameters are too long");
	if (!t->cfg->is_server) {
		t->peer_params = mem_alloc(len ? len : 1);
		if (!t->peer_params)
			return tls_fail(t, QE_NOMEM, "out of memory");
		if (len)
			memcpy(t->peer_params, data, len);
		t->peer_params_len = len;
	}
	int e = t->out->peer_params(t->arg, data, len);
	return e ? tls_fail(t, e, "transport parameters refused") : 0;
}

/* ---- sessions ----------------------------------------------------------- */

/* Client: OpenSSL has made a session of a ticket. Failing to keep it costs a resumption, no more. */
int tls_on_new_session(SSL *ssl, SSL_SESSION *session)
{
	struct tls *t = SSL_get_app_data(ssl);
	uint8_t *der = NULL;
	int der_len = t && t->state == TLS_DONE && !t->error ? i2d_SSL_SESSION(session, &der) : 0;
	if (der_len <= 0)
		return 0;
	struct session_blob s = {
		.trust = t->cfg->trust,
		.alpn = (const uint8_t *)t->info.alpn,
		.alpn_len = strlen(t->info.alpn),
		.name = (const uint8_t *)t->server_name,
		.name_len = t->server_name ? strlen(t->server_name) : 0,
		.params = t->peer_params,
		.params_len = t->peer_params_len,
		.der = der,
		.der_len = (size_t)der_len,
	};
	size_t len;
	uint8_t *blob = session_encode(&s, &len);
	if (blob) {
		t->out->new_session(t->arg, blob, len);
		OPENSSL_cleanse(blob, len);
		mem_free(blob);
	}
	OPENSSL_clear_free(der, (size_t)der_len);
	return 0;
}

/* A session stands in for a verification, so it counts only for the name and under the trust it was made with. */
static bool session_fits(const struct tls *t, const struct session_blob *s)
{
	const char *name = t->server_name ? t->server_name : "";
	return !memcmp(s->trust, t->cfg->trust, sizeof(t->cfg->trust)) && s->name_len == strlen(name) &&
	       !strncasecmp((const char *)s->name, name, s->name_len) && offers_alpn(t->cfg, s->alpn, s->alpn_len);
}

int tls_set_session(struct tls *t, const uint8_t *blob, size_t len)
{
	struct session_blob s;
	if (t->error || t->cfg->is_server || !session_decode(blob, len, &s) || !session_fits(t, &s))
		return 0;
	const uint8_t *p = s.der;
	SSL_SESSION *session = d2i_SSL_SESSION(NULL, &p, (long)s.der_len);
	if (session && SSL_SESSION_get_protocol_version(session) == TLS1_3_VERSION && SSL_SESSION_is_resumable(session))
		SSL_set_session(t->ssl, session);
	SSL_SESSION_free(session);
	ERR_clear_error();
	return 0;
}

/* ---- completion --------------------------------------------------------- */

static void note_peer_cert(struct tls *t)
{
	X509 *peer = SSL_get0_peer_certificate(t->ssl);
	t->info.peer_cert = peer && !t->info.resumed && pin_of(peer, t->info.peer_pin) == 0;
	/* Without a certificate there was nothing to verify: OpenSSL then says X509_V_OK. */
	note_verify(t);
}

static int complete(struct tls *t)
{
	const uint8_t *alpn;
	unsigned len;
	if (check_negotiated(t))
		return t->error;
	SSL_get0_alpn_selected(t->ssl, &alpn, &len);
	memcpy(t->info.alpn, alpn, len);	/* at most 255 */
	t->info.alpn[len] = '\0';
	t->info.suite = tls_suite(t);
	t->info.resumed = SSL_session_reused(t->ssl);
	note_peer_cert(t);
	t->state = TLS_DONE;
	t->rx_level = LEVEL_APP;
	backend_done(t);
	return 0;
}

/* Let OpenSSL work on what it was fed. */
static int drive(struct tls *t)
{
	uint8_t byte;
	ERR_clear_error();
	bool done = t->state == TLS_DONE;
	/* A handshake message after completion is read by SSL_read alone; there is never application data. */
	int r = done ? SSL_read(t->ssl, &byte, 1) : SSL_do_handshake(t->ssl);
	if (!t->error && r <= 0 && SSL_get_error(t->ssl, r) == SSL_ERROR_WANT_READ)
		r = 1;
	if (t->error || r <= 0) {
		int e = fail_openssl(t);
		ERR_clear_error();
		return e;
	}
	if (!done && SSL_is_init_finished(t->ssl))
		return complete(t);
	return 0;
}

static int feed(struct tls *t, const uint8_t *data, size_t len)
{
	enum level level = t->rx_level;
	int e = backend_feed(t, data, len);
	if (e)
		return tls_fail(t, e, "out of memory");
	e = drive(t);
	/* Bytes behind the last message of a level. RFC 8446 5.1, RFC 9001 4.1.3 */
	if (!e && !backend_drained(t) && (t->rx_level != level || t->state == TLS_DONE))
		e = tls_fail(t, QE_PROTOCOL_VIOLATION, "handshake bytes left over at a key change");
	return e;
}

/* Which messages a client takes after the handshake: only tickets. RFC 9001 4.4, 6 */
static int check_post(struct tls *t)
{
	t->post_left = (uint32_t)t->post_hdr[1] << 16 | (uint32_t)t->post_hdr[2] << 8 | t->post_hdr[3];
	if (t->post_hdr[0] == MSG_CERTIFICATE_REQUEST)
		return tls_fail(t, QE_PROTOCOL_VIOLATION, "CertificateRequest after the handshake");
	if (t->post_hdr[0] != MSG_NEW_SESSION_TICKET || t->cfg->is_server)
		return tls_fail(t, QE_TLS(SSL_AD_UNEXPECTED_MESSAGE), "unexpected TLS message after the handshake");
	if (t->tickets <= TLS_TICKETS_MAX)
		t->tickets++;
	return 0;
}

static int recv_post(struct tls *t, const uint8_t *data, size_t len)
{
	while (len) {
		const uint8_t *p = data;
		size_t n;
		if (t->post_have < sizeof(t->post_hdr)) {
			n = 1;
			t->post_hdr[t->post_have++] = *data;
			if (t->post_have == sizeof(t->post_hdr) && check_post(t))
				return t->error;
			p = t->post_hdr;
		} else {
			n = len < t->post_left ? len : t->post_left;
			t->post_left -= (uint32_t)n;
		}
		data += n;
		len -= n;
		if (t->post_have < sizeof(t->post_hdr))
			continue;
		size_t give = p == t->post_hdr ? sizeof(t->post_hdr) : n;
		if (!t->post_left)
			t->post_have = 0;
		if (t->ssl && t->tickets <= TLS_TICKETS_MAX && feed(t, p, give))
			return t->error;
	}
	return 0;
}

/* ---- the contract of tls.h ---------------------------------------------- */

static int set_name(struct tls *t)
{
	uint8_t ip[16];
	const char *name = t->server_name;
	int ip_len = inet_pton(AF_INET, name, ip) == 1 ? 4 : inet_pton(AF_INET6, name, ip) == 1 ? 16 : 0;
	if (ip_len)	/* RFC 6066 3: no SNI for addresses */
		return X509_VERIFY_PARAM_set1_ip(SSL_get0_param(t->ssl), ip, (size_t)ip_len) == 1 ? 0 : QE_NOMEM;
	size_t len = strlen(name);
	if (!len || len > TLS_NAME_MAX)
		return tls_fail(t, QE_INVAL, "server name is empty or too long");
	strlcpy(t->info.sni, name, sizeof(t->info.sni));
	SSL_set_hostflags(t->ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set_tlsext_host_name(t->ssl, name) == 1 && SSL_set1_host(t->ssl, name) == 1 ? 0 : QE_NOMEM;
}

static int init(struct tls *t, const char *server_name)
{
	t->ssl = SSL_new(t->cfg->ctx);
	if (!t->ssl || SSL_set_app_data(t->ssl, t) != 1)
		return QE_NOMEM;
	if (t->cfg->is_server)
		SSL_set_accept_state(t->ssl);
	else
		SSL_set_connect_state(t->ssl);
	if (backend_new(t))
		return QE_NOMEM;
	if (!server_name || t->cfg->is_server)
		return 0;
	t->server_name = mem_strdup(server_name);
	if (!t->server_name)
		return QE_NOMEM;
	size_t n = strlen(server_name);
	if (n > 1 && server_name[n - 1] == '.')	/* the root's dot is not part of a certificate's names */
		t->server_name[n - 1] = '\0';
	return set_name(t) == QE_NOMEM ? QE_NOMEM : 0;
}

struct tls *tls_new(struct tls_config *cfg, const struct tls_out *out, void *arg, const char *server_name)
{
	struct tls *t = mem_zalloc(sizeof(*t));
	if (!t)
		return NULL;
	t->cfg = tls_config_ref(cfg);
	t->out = out;
	t->arg = arg;
	t->rx_level = LEVEL_INITIAL;
	int e = init(t, server_name);
	ERR_clear_error();
	if (!e)
		return t;
	tls_free(t);
	return NULL;
}

static void free_ssl(struct tls *t)
{
	if (t->ssl) {
		SSL_set_app_data(t->ssl, NULL);
		/* An SSL freed without a close takes its session's right to be resumed with it. */
		SSL_set_shutdown(t->ssl, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
	}
	SSL_free(t->ssl);	/* may still give a buffer back to the backend */
	t->ssl = NULL;
	backend_free(t);
	mem_free(t->params);
	t->params = NULL;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	free_ssl(t);
	mem_free(t->server_name);
	mem_free(t->peer_params);
	tls_config_unref(t->cfg);
	mem_free(t);
}

int tls_set_params(struct tls *t, const uint8_t *params, size_t len)
{
	uint8_t *p = mem_alloc(len ? len : 1);
	if (!p)
		return QE_NOMEM;
	if (len)
		memcpy(p, params, len);
	mem_free(t->params);
	t->params = p;
	t->params_len = len;
	return 0;
}

int tls_start(struct tls *t)
{
	if (t->error)
		return t->error;
	if (backend_start(t))
		return tls_fail(t, QE_NOMEM, "out of memory");
	return t->cfg->is_server ? 0 : drive(t);
}

/* A client that asks for TLS's middlebox compatibility mode. The length of legacy_session_id stands at a fixed place
 * of the ClientHello: header 4, version 2, random 32. RFC 9001 8.4 */
static int check_session_id(struct tls *t, const uint8_t *data, size_t len)
{
	const size_t at = 38;
	if (t->hello_seen > at)
		return 0;
	if (t->hello_seen + len <= at) {
		t->hello_seen += (uint8_t)len;
		return 0;
	}
	uint8_t id_len = data[at - t->hello_seen];
	t->hello_seen = at + 1;
	return id_len ? tls_fail(t, QE_PROTOCOL_VIOLATION, "ClientHello with a legacy session id") : 0;
}

int tls_recv(struct tls *t, enum level level, const uint8_t *data, size_t len)
{
	if (t->error)
		return t->error;
	if (!len)
		return 0;
	if (level != t->rx_level)
		return tls_fail(t, QE_PROTOCOL_VIOLATION, "CRYPTO data at a level that is over or not yet begun");
	if (t->state == TLS_DONE && t->cfg->is_server)	/* no message goes this way any more */
		return tls_fail(t, QE_TLS(SSL_AD_UNEXPECTED_MESSAGE), "unexpected TLS message after the handshake");
	if (t->cfg->is_server && check_session_id(t, data, len))
		return t->error;
	return t->state == TLS_DONE ? recv_post(t, data, len) : feed(t, data, len);
}

void tls_want_tx(struct tls *t)
{
	if (t->ssl)
		backend_want_tx(t);
}

enum tls_state tls_state(const struct tls *t) { return t->state; }
const char *tls_error_text(const struct tls *t) { return t->text; }
enum level tls_read_level(const struct tls *t) { return t->rx_level; }
const struct tls_info *tls_info(const struct tls *t) { return &t->info; }
bool tls_has_early_data(void) { return backend_has_early_data(); }

void tls_release(struct tls *t)
{
	if (t->state != TLS_DONE || !t->ssl)
		return;
	/* A client waits for one session. Later tickets can be told apart and skipped without OpenSSL. */
	if (t->cfg->is_server || (t->tickets && !t->post_have))
		free_ssl(t);
	else
		SSL_free_buffers(t->ssl);
}
