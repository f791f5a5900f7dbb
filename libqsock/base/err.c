#include "base/err.h"

static const char *const names[] = {
	[0x00] = "NO_ERROR",
	[0x01] = "INTERNAL_ERROR",
	[0x02] = "CONNECTION_REFUSED",
	[0x03] = "FLOW_CONTROL_ERROR",
	[0x04] = "STREAM_LIMIT_ERROR",
	[0x05] = "STREAM_STATE_ERROR",
	[0x06] = "FINAL_SIZE_ERROR",
	[0x07] = "FRAME_ENCODING_ERROR",
	[0x08] = "TRANSPORT_PARAMETER_ERROR",
	[0x09] = "CONNECTION_ID_LIMIT_ERROR",
	[0x0a] = "PROTOCOL_VIOLATION",
	[0x0b] = "INVALID_TOKEN",
	[0x0c] = "APPLICATION_ERROR",
	[0x0d] = "CRYPTO_BUFFER_EXCEEDED",
	[0x0e] = "KEY_UPDATE_ERROR",
	[0x0f] = "AEAD_LIMIT_REACHED",
	[0x10] = "NO_VIABLE_PATH",
};

const char *qe_wire_name(uint64_t code)
{
	if (code < sizeof(names) / sizeof(names[0]))
		return names[code];
	return code >= 0x100 && code <= 0x1ff ? "CRYPTO_ERROR" : "UNKNOWN";
}
