/* The client's handshake write secret, before OpenSSL 3.0-3.4 gives it. */
#ifndef TLS_EARLY_H
#define TLS_EARLY_H

#include <openssl/ssl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "crypto/hkdf.h"

#define TRANSCRIPT_MAX (64u << 10)	/* bytes of both hellos; beyond it there is no early secret */

/* The hello messages as they went over the wire. Zeroed: empty. */
struct transcript {
	uint8_t *data;
	size_t len, cap;
	size_t first_len;	/* ClientHello1 */
	int messages;		/* 2, or 4 after a HelloRetryRequest */
	bool broken;		/* a message is missing */
};

void transcript_add(struct transcript *tr, const uint8_t *msg, size_t len);
void transcript_fini(struct transcript *tr);

/* Derive both handshake secrets and check the server's against the one OpenSSL logged (of suite's hash length).
 * true: client holds the client's. false: wait for OpenSSL's own (a key exchange that cannot be redone, no memory). */
bool early_client_secret(SSL *ssl, uint16_t suite, const struct transcript *tr, const uint8_t *server_secret,
			 uint8_t client[SECRET_MAX]);

#endif
