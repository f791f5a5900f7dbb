/* The inside of struct tls_config, for tls/ alone (and its tests).
 * Immutable after tls_config_new, so threads share it without locks. */
#ifndef TLS_CONFIG_H
#define TLS_CONFIG_H

#include <openssl/ssl.h>
#include <stdatomic.h>

#include "tls/pem.h"
#include "tls/tls.h"

struct named_identity {
	char *name;		/* owned; DNS name, perhaps "*.example.org" */
	struct identity id;
};

struct tls_config {
	atomic_uint refs;
	bool is_server, self_signed, has_pin;
	enum tls_verify verify;
	SSL_CTX *ctx;			/* holds the default certificate */
	struct named_identity *named;	/* servers: chosen by SNI */
	size_t named_count;
	uint8_t *alpn;			/* wire form: length byte and name, preferred first */
	size_t alpn_len;
	uint8_t (*pins)[PIN_LEN];	/* trusted peer keys; NULL: none given */
	size_t pin_count;
	uint8_t pin[PIN_LEN];		/* of the default certificate, if has_pin */
	uint8_t trust[32];		/* digest of whom this configuration trusts and what it shows: sessions made
					 * under another one must not be resumed, they would skip verification */
	char *keylog_file;		/* owned; NULL: none. A path and not a descriptor: threads that shake hands may
					 * have another descriptor table than the one that configured */
};

/* Append one line to the keylog file, if there is one. */
void tls_config_keylog(const struct tls_config *cfg, const char *line);

#endif
