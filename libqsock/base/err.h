/* Error codes inside the library.
 *
 * 0 is success. A small negative value is a local condition. A value at or
 * below QE_PEER(0) is the peer's violation and carries the exact code that
 * goes on the wire in CONNECTION_CLOSE (RFC 9000 20.1, TLS alerts included).
 * Callers of the public API never see these: sock/ turns them into errno. */
#ifndef BASE_ERR_H
#define BASE_ERR_H

#include <stdbool.h>
#include <stdint.h>

#define QE_PEER(code) (-0x10000 - (int)(code))

enum {
	QE_OK = 0,
	QE_NOMEM = -1,	/* an allocation failed; the object is unchanged */
	QE_AGAIN = -2,	/* nothing (more) can be done now */
	QE_INVAL = -3,	/* a caller inside the library broke a contract it could not know it broke */
	QE_LIMIT = -4,	/* a named cap was reached; the object is unchanged */
	QE_DROP = -5,	/* the packet or datagram is to be ignored silently */
	QE_CLOSED = -6,	/* the object no longer takes this operation */
	QE_CRYPTO_LIB = -7, /* OpenSSL refused an operation that cannot fail by input */
	QE_SYS = -8,	/* a system call failed; errno says why (io/ and sock/ only) */

	QE_INTERNAL = QE_PEER(0x01),
	QE_CONNECTION_REFUSED = QE_PEER(0x02),
	QE_FLOW_CONTROL = QE_PEER(0x03),
	QE_STREAM_LIMIT = QE_PEER(0x04),
	QE_STREAM_STATE = QE_PEER(0x05),
	QE_FINAL_SIZE = QE_PEER(0x06),
	QE_FRAME_ENCODING = QE_PEER(0x07),
	QE_TRANSPORT_PARAMETER = QE_PEER(0x08),
	QE_CONNECTION_ID_LIMIT = QE_PEER(0x09),
	QE_PROTOCOL_VIOLATION = QE_PEER(0x0a),
	QE_INVALID_TOKEN = QE_PEER(0x0b),
	QE_APPLICATION_ERROR = QE_PEER(0x0c),
	QE_CRYPTO_BUFFER_EXCEEDED = QE_PEER(0x0d),
	QE_KEY_UPDATE = QE_PEER(0x0e),
	QE_AEAD_LIMIT = QE_PEER(0x0f),
	QE_NO_VIABLE_PATH = QE_PEER(0x10),
};

/* CRYPTO_ERROR for a TLS alert (0-255). RFC 9001 4.8 */
#define QE_TLS(alert) QE_PEER(0x100 + (alert))

static inline bool qe_is_peer(int e) { return e <= QE_PEER(0); }

/* The transport error code for CONNECTION_CLOSE; local failures are
 * INTERNAL_ERROR. RFC 9000 20.1 */
static inline uint64_t qe_wire(int e)
{
	return qe_is_peer(e) ? (uint64_t)(-(e + 0x10000)) : 0x01;
}

/* Name of a transport error code as the RFC writes it, "CRYPTO_ERROR" for
 * 0x100-0x1ff, "UNKNOWN" otherwise. Static string. */
const char *qe_wire_name(uint64_t code);

#endif
