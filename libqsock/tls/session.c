/* Framing of the resumption blob. Whether a session may be used is not decided
 * here. */
#include "tls/session.h"

#include <openssl/evp.h>

#include "base/bytes.h"
#include "base/mem.h"
#include "crypto/fetch.h"
#include "tls/tls.h"

#define TRUST_LEN 32
#define SUM_LEN 16
#define PEER_TAG 0xa3

static bool sum_of(const uint8_t *p, size_t len, uint8_t sum[SUM_LEN])
{
	uint8_t full[32];
	if (EVP_Digest(p, len, full, NULL, digest_get0(HASH_SHA256), NULL) != 1)
		return false;
	memcpy(sum, full, SUM_LEN);
	return true;
}

static void put(struct wr *w, size_t len_size, const uint8_t *p, size_t len)
{
	if (len >> (8 * len_size))
		w->failed = true;
	wr_uint(w, len, len_size);
	wr_bytes(w, p, len);
}

static const uint8_t *get(struct rd *r, size_t len_size, size_t *len)
{
	*len = (size_t)rd_uint(r, len_size);
	return rd_bytes(r, *len);
}

/* Bytes of the DER element at p, its header among them; 0: there is no whole one. */
static size_t element(const uint8_t *p, size_t len, size_t *header)
{
	struct rd r = rd_of(p, len);
	rd_uint(&r, 1);
	size_t n = (size_t)rd_uint(&r, 1);
	if (n > 0x80 && n <= 0x84)
		n = (size_t)rd_uint(&r, n & 0x7f);
	else if (n >= 0x80)
		return 0;
	*header = len - rd_left(&r);
	return r.failed || n > rd_left(&r) ? 0 : *header + n;
}

/* OpenSSL's session without the server's certificate, element [3]: nothing asks for it at a resumption, and to decode
 * it costs more than all the rest. What looks otherwise than expected stays as it is. */
static void put_lean(struct wr *w, const uint8_t *der, size_t len)
{
	size_t head, inner, at, n;
	if (element(der, len, &head) != len || der[0] != 0x30) {
		put(w, 2, der, len);
		return;
	}
	for (at = head; (n = element(der + at, len - at, &inner)) && der[at] != PEER_TAG; at += n)
		;
	size_t left = len - head - n;
	if (!n || left < 0x100) {
		put(w, 2, der, len);
		return;
	}
	wr_uint(w, 4 + left, 2);
	wr_uint(w, 0x3082, 2);
	wr_uint(w, left, 2);
	wr_bytes(w, der + head, at - head);
	wr_bytes(w, der + at + n, len - at - n);
	if (left > 0xffff - 4)
		w->failed = true;
}

uint8_t *session_encode(const struct session_blob *s, size_t *len)
{
	size_t cap = 1 + TRUST_LEN + 1 + s->alpn_len + 1 + s->name_len + 2 + s->params_len + 2 + s->der_len +
		     SUM_LEN;
	uint8_t *p = mem_alloc(cap);
	if (!p)
		return NULL;
	struct wr w = wr_of(p, cap);
	wr_uint(&w, SESSION_VERSION, 1);
	wr_bytes(&w, s->trust, TRUST_LEN);
	put(&w, 1, s->alpn, s->alpn_len);
	put(&w, 1, s->name, s->name_len);
	put(&w, 2, s->params, s->params_len);
	put_lean(&w, s->der, s->der_len);
	uint8_t *sum = wr_claim(&w, SUM_LEN);
	if (!sum || !sum_of(p, wr_len(&w) - SUM_LEN, sum)) {
		mem_free(p);
		return NULL;
	}
	*len = wr_len(&w);
	return p;
}

bool session_decode(const uint8_t *p, size_t len, struct session_blob *out)
{
	uint8_t sum[SUM_LEN];
	if (len < SUM_LEN || !sum_of(p, len - SUM_LEN, sum) || memcmp(sum, p + len - SUM_LEN, SUM_LEN))
		return false;
	struct rd r = rd_of(p, len - SUM_LEN);
	if (rd_uint(&r, 1) != SESSION_VERSION)
		return false;
	out->trust = rd_bytes(&r, TRUST_LEN);
	out->alpn = get(&r, 1, &out->alpn_len);
	out->name = get(&r, 1, &out->name_len);
	out->params = get(&r, 2, &out->params_len);
	out->der = get(&r, 2, &out->der_len);
	return !r.failed && rd_left(&r) == 0;
}

bool tls_session_params(const uint8_t *blob, size_t len, const uint8_t **params, size_t *params_len)
{
	struct session_blob s;
	if (!session_decode(blob, len, &s))
		return false;
	*params = s.params;
	*params_len = s.params_len;
	return true;
}
