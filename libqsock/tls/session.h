/* The resumption blob: OpenSSL's session and what QUIC must remember beside it.
 *
 *   version(1) | trust(32) | alpn<1> | server name<1> | parameters<2> | i2d_SSL_SESSION<2> | sum(16)
 *
 * <n>: a length of n bytes before. sum: SHA-256 of what is before, cut; a damaged session would not be
 * refused by the server but end the handshake. The server's certificate is left out of the session; one over
 * 64 KB is not kept. RFC 9001 4.6, RFC 9000 7.4.1 */
#ifndef TLS_SESSION_H
#define TLS_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SESSION_VERSION 1

struct session_blob {		/* all borrowed */
	const uint8_t *trust;	/* 32 bytes, struct tls_config's */
	const uint8_t *alpn, *name, *params, *der;
	size_t alpn_len, name_len, params_len, der_len;
};

/* mem_alloc'ed; NULL: no memory, or something is longer than its length field holds. */
uint8_t *session_encode(const struct session_blob *s, size_t *len);
bool session_decode(const uint8_t *p, size_t len, struct session_blob *out);

#endif
