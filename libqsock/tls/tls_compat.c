/* QUIC over OpenSSL 3.0-3.4, which knows nothing of it: secrets come from the key log
 * callback, our messages from the message callback, the peer's go in as TLS records
 * (record.c) through a memory BIO; what OpenSSL writes itself is thrown away. No 0-RTT:
 * EndOfEarlyData would enter both transcripts. RFC 9001 4 */
#include <openssl/err.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "crypto/pktkey.h"
#include "tls/backend.h"
#include "tls/record.h"
#include "tls/tls_early.h"

#define EXT_TRANSPORT_PARAMS 0x39	/* RFC 9001 8.2 */

struct backend {
	BIO *in;			/* owned by the SSL */
	struct record_key rx;		/* the peer's write key, as OpenSSL has it for reading */
	struct transcript hellos;	/* client */
	uint8_t server_secret[SECRET_MAX];	/* client: of the handshake, while hellos are kept */
	bool hs_tx_given;		/* the client's handshake secret is out */
};

/* ---- our messages ------------------------------------------------------- */

static enum level level_of(uint8_t msg_type)
{
	switch (msg_type) {
	case SSL3_MT_CLIENT_HELLO:
	case SSL3_MT_SERVER_HELLO:	/* HelloRetryRequest too */
		return LEVEL_INITIAL;
	case SSL3_MT_NEWSESSION_TICKET:
		return LEVEL_APP;
	default:
		return LEVEL_HANDSHAKE;
	}
}

static void on_message(int write_p, int version, int type, const void *buf, size_t len, SSL *ssl, void *arg)
{
	struct tls *t = arg;
	const uint8_t *msg = buf;
	if (t->error)
		return;
	if (type == SSL3_RT_ALERT && write_p && len == 2) {
		if (msg[0] == SSL3_AL_FATAL)
			tls_on_alert(t, msg[1]);
		return;
	}
	if (type != SSL3_RT_HANDSHAKE || !len)
		return;
	if (!t->cfg->is_server && level_of(msg[0]) == LEVEL_INITIAL)
		transcript_add(&t->be->hellos, msg, len);
	if (write_p)
		tls_emit(t, level_of(msg[0]), msg, len);
}

/* ---- secrets ------------------------------------------------------------ */

static size_t unhex(const char *hex, uint8_t *out, size_t cap)
{
	size_t len = 0;
	return OPENSSL_hexstr2buf_ex(out, cap, &len, hex, '\0') == 1 ? len : 0;
}

/* The key that OpenSSL will now read with. */
static void set_rx(struct tls *t, enum level level, const uint8_t *secret)
{
	if (record_key_set(&t->be->rx, tls_suite(t), secret))
		tls_fail(t, QE_CRYPTO_LIB, "key derivation failed");
	t->rx_level = level;
}

static void on_handshake_secret(struct tls *t, bool of_server, const uint8_t *secret, size_t len)
{
	struct backend *be = t->be;
	bool rx = of_server != t->cfg->is_server;
	if (!rx && be->hs_tx_given)
		return;
	tls_emit_secret(t, LEVEL_HANDSHAKE, !rx, secret, len);
	be->hs_tx_given |= !rx;
	if (!rx)
		return;
	set_rx(t, LEVEL_HANDSHAKE, secret);
	if (t->cfg->is_server || be->hs_tx_given)
		transcript_fini(&be->hellos);
	else
		memcpy(be->server_secret, secret, len);
}

/* Only now: mostly the whole flight of the server came at once, and OpenSSL gave the key in its own time. An error does
 * not matter: what is to be sent is the CONNECTION_CLOSE that tells it. */
void backend_want_tx(struct tls *t)
{
	struct backend *be = t->be;
	uint8_t client[SECRET_MAX];
	if (!be || be->hs_tx_given || t->cfg->is_server || t->rx_level != LEVEL_HANDSHAKE)
		return;
	if (early_client_secret(t->ssl, tls_suite(t), &be->hellos, be->server_secret, client)) {
		be->hs_tx_given = true;
		const uint16_t suite = tls_suite(t);
		t->out->secret(t->arg, LEVEL_HANDSHAKE, true, suite, client, hash_len(suite_hash(suite)));
		OPENSSL_cleanse(client, sizeof(client));
	}
	backend_done(t);
}

static void on_app_secret(struct tls *t, bool of_server, const uint8_t *secret, size_t len)
{
	bool rx = of_server != t->cfg->is_server;
	tls_emit_secret(t, LEVEL_APP, !rx, secret, len);
	if (rx)
		set_rx(t, LEVEL_APP, secret);
}

/* A line is "LABEL client_random secret", numbers in hex. */
static void on_secret_line(struct tls *t, const char *line)
{
	static const struct {
		const char *label;
		bool of_server, app;
	} labels[] = {
		{ "CLIENT_HANDSHAKE_TRAFFIC_SECRET ", false, false },
		{ "SERVER_HANDSHAKE_TRAFFIC_SECRET ", true, false },
		{ "CLIENT_TRAFFIC_SECRET_0 ", false, true },
		{ "SERVER_TRAFFIC_SECRET_0 ", true, true },
	};
	for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
		if (strncmp(line, labels[i].label, strlen(labels[i].label)))
			continue;
		uint8_t secret[SECRET_MAX];
		const char *hex = strrchr(line, ' ') + 1;
		size_t len = unhex(hex, secret, sizeof(secret));
		if (!len)
			tls_fail(t, QE_CRYPTO_LIB, "OpenSSL logged an unknown secret");
		else if (labels[i].app)
			on_app_secret(t, labels[i].of_server, secret, len);
		else
			on_handshake_secret(t, labels[i].of_server, secret, len);
		OPENSSL_cleanse(secret, sizeof(secret));
	}
}

static void on_keylog(const SSL *ssl, const char *line)
{
	struct tls *t = SSL_get_app_data(ssl);
	if (!t)
		return;
	tls_config_keylog(t->cfg, line);
	if (!t->error)
		on_secret_line(t, line);
}

/* ---- transport parameters ----------------------------------------------- */

static int add_params(SSL *ssl, unsigned type, unsigned context, const uint8_t **out, size_t *out_len, X509 *x,
		      size_t chain_idx, int *alert, void *arg)
{
	const struct tls *t = SSL_get_app_data(ssl);
	if (!t->params)
		return 0;
	*out = t->params;
	*out_len = t->params_len;
	return 1;
}

static int parse_params(SSL *ssl, unsigned type, unsigned context, const uint8_t *in, size_t in_len, X509 *x,
			size_t chain_idx, int *alert, void *arg)
{
	struct tls *t = SSL_get_app_data(ssl);
	*alert = SSL_AD_ILLEGAL_PARAMETER;
	return tls_on_peer_params(t, in, in_len) == 0;
}

/* ---- the contract of backend.h ------------------------------------------ */

bool backend_ctx_setup(SSL_CTX *ctx)
{
	SSL_CTX_set_keylog_callback(ctx, on_keylog);
	return SSL_CTX_add_custom_ext(ctx, EXT_TRANSPORT_PARAMS,
				      SSL_EXT_CLIENT_HELLO | SSL_EXT_TLS1_3_ENCRYPTED_EXTENSIONS, add_params, NULL, NULL,
				      parse_params, NULL) == 1;
}

int backend_new(struct tls *t)
{
	t->be = mem_zalloc(sizeof(*t->be));
	BIO *in = BIO_new(BIO_s_mem()), *out = BIO_new(BIO_s_null());
	if (!t->be || !in || !out) {
		BIO_free(in);
		BIO_free(out);
		return QE_NOMEM;
	}
	BIO_set_mem_eof_return(in, -1);	/* empty is "later", not the end */
	SSL_set_bio(t->ssl, in, out);
	t->be->in = in;
	SSL_set_msg_callback(t->ssl, on_message);
	SSL_set_msg_callback_arg(t->ssl, t);
	return 0;
}

int backend_start(struct tls *t) { return 0; }

int backend_feed(struct tls *t, const uint8_t *data, size_t len)
{
	return record_write(&t->be->rx, t->be->in, data, len);
}

/* OpenSSL reads whole records; what it leaves of one it refuses itself at a key change. */
bool backend_drained(const struct tls *t) { return BIO_ctrl_pending(t->be->in) == 0; }

void backend_done(struct tls *t)
{
	transcript_fini(&t->be->hellos);
	OPENSSL_cleanse(t->be->server_secret, sizeof(t->be->server_secret));
}

void backend_free(struct tls *t)
{
	if (!t->be)
		return;
	transcript_fini(&t->be->hellos);
	OPENSSL_cleanse(t->be, sizeof(*t->be));
	mem_free(t->be);
	t->be = NULL;
}

bool backend_has_early_data(void) { return false; }
