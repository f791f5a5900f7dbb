/* QUIC over OpenSSL >= 3.5, which hands out secrets and bare handshake messages by
 * callbacks. The peer's bytes are lent to OpenSSL, not copied. RFC 9001 4 */
#include <openssl/core_dispatch.h>
#include <openssl/err.h>

#include "base/err.h"
#include "base/mem.h"
#include "tls/backend.h"

struct backend {
	const uint8_t *in;	/* lent by tls_recv for the time of the call */
	size_t in_len;
	size_t lent;		/* bytes of it that OpenSSL holds and has not released */
	enum level tx_level;	/* of the CRYPTO we send */
};

static enum level level_of(uint32_t protection)
{
	switch (protection) {
	case OSSL_RECORD_PROTECTION_LEVEL_NONE:
		return LEVEL_INITIAL;
	case OSSL_RECORD_PROTECTION_LEVEL_EARLY:
		return LEVEL_EARLY;
	case OSSL_RECORD_PROTECTION_LEVEL_HANDSHAKE:
		return LEVEL_HANDSHAKE;
	default:
		return LEVEL_APP;
	}
}

static int crypto_send(SSL *ssl, const unsigned char *buf, size_t len, size_t *consumed, void *arg)
{
	struct tls *t = arg;
	*consumed = len;
	return tls_emit(t, t->be->tx_level, buf, len) == 0;
}

static int crypto_recv(SSL *ssl, const unsigned char **buf, size_t *len, void *arg)
{
	struct backend *be = ((struct tls *)arg)->be;
	*buf = be->in;
	*len = be->lent = be->in_len;
	return 1;
}

static int crypto_release(SSL *ssl, size_t len, void *arg)
{
	struct backend *be = ((struct tls *)arg)->be;
	if (len > be->lent)
		return 0;
	be->in += len;
	be->in_len -= len;
	be->lent -= len;
	return 1;
}

static int yield_secret(SSL *ssl, uint32_t protection, int tx, const unsigned char *secret, size_t len, void *arg)
{
	struct tls *t = arg;
	enum level level = level_of(protection);
	tls_emit_secret(t, level, tx, secret, len);
	if (level == LEVEL_EARLY)	/* carries no CRYPTO, RFC 9001 4.1.3 */
		return 1;
	if (tx)
		t->be->tx_level = level;
	else
		t->rx_level = level;
	return 1;
}

static int got_params(SSL *ssl, const unsigned char *params, size_t len, void *arg)
{
	return tls_on_peer_params(arg, params, len) == 0;
}

static int on_alert(SSL *ssl, unsigned char alert, void *arg)
{
	tls_on_alert(arg, alert);
	return 1;
}

static const OSSL_DISPATCH callbacks[] = {
	{ OSSL_FUNC_SSL_QUIC_TLS_CRYPTO_SEND, (void (*)(void))crypto_send },
	{ OSSL_FUNC_SSL_QUIC_TLS_CRYPTO_RECV_RCD, (void (*)(void))crypto_recv },
	{ OSSL_FUNC_SSL_QUIC_TLS_CRYPTO_RELEASE_RCD, (void (*)(void))crypto_release },
	{ OSSL_FUNC_SSL_QUIC_TLS_YIELD_SECRET, (void (*)(void))yield_secret },
	{ OSSL_FUNC_SSL_QUIC_TLS_GOT_TRANSPORT_PARAMS, (void (*)(void))got_params },
	{ OSSL_FUNC_SSL_QUIC_TLS_ALERT, (void (*)(void))on_alert },
	OSSL_DISPATCH_END,
};

bool backend_ctx_setup(SSL_CTX *ctx) { return true; }

int backend_new(struct tls *t)
{
	t->be = mem_zalloc(sizeof(*t->be));
	if (!t->be)
		return QE_NOMEM;
	t->be->tx_level = LEVEL_INITIAL;
	return SSL_set_quic_tls_cbs(t->ssl, callbacks, t) == 1 ? 0 : QE_NOMEM;
}

int backend_start(struct tls *t)
{
	if (!t->params)
		return 0;
	/* Kept by address: t->params stays until the SSL is gone. */
	return SSL_set_quic_tls_transport_params(t->ssl, t->params, t->params_len) == 1 ? 0 : QE_NOMEM;
}

int backend_feed(struct tls *t, const uint8_t *data, size_t len)
{
	t->be->in = data;
	t->be->in_len = len;
	t->be->lent = 0;
	return 0;
}

bool backend_drained(const struct tls *t) { return t->be->in_len == 0; }

void backend_want_tx(struct tls *t) { }

void backend_done(struct tls *t) { }

void backend_free(struct tls *t)
{
	mem_free(t->be);
	t->be = NULL;
}

bool backend_has_early_data(void) { return false; }
