/* OpenSSL before 3.2 installs the client's handshake write key only when it has the
 * whole server flight, so that a client could acknowledge no Handshake packet until
 * then. What the key is made of is there from the ServerHello on: this runs the same
 * key schedule beside OpenSSL. RFC 8446 7.1, 4.4.1 */
#include "tls/tls_early.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <string.h>

#include "base/mem.h"
#include "crypto/fetch.h"
#include "crypto/pktkey.h"

#define SHARED_MAX 1024	/* bytes; ffdhe8192 */
enum { MSG_MESSAGE_HASH = 254 };

void transcript_add(struct transcript *tr, const uint8_t *msg, size_t len)
{
	if (tr->broken)
		return;
	if (tr->len + len > tr->cap) {
		size_t cap = tr->len + len + 512;	/* room for the ServerHello */
		uint8_t *p = cap > TRANSCRIPT_MAX ? NULL : mem_realloc(tr->data, cap);
		if (!p) {
			tr->broken = true;
			return;
		}
		tr->data = p;
		tr->cap = cap;
	}
	memcpy(tr->data + tr->len, msg, len);
	tr->len += len;
	if (tr->messages++ == 0)
		tr->first_len = len;
}

void transcript_fini(struct transcript *tr)
{
	mem_free(tr->data);
	memset(tr, 0, sizeof(*tr));
	tr->broken = true;
}

static bool transcript_hash(const struct transcript *tr, const EVP_MD *md, size_t hash_bytes, uint8_t *out)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestInit_ex(ctx, md, NULL) == 1;
	size_t skip = 0;
	if (ok && tr->messages == 4) {	/* the first ClientHello is replaced by its hash */
		uint8_t head[4 + SECRET_MAX] = { MSG_MESSAGE_HASH, 0, 0, (uint8_t)hash_bytes };
		skip = tr->first_len;
		ok = EVP_Digest(tr->data, skip, head + 4, NULL, md, NULL) == 1 &&
		     EVP_DigestUpdate(ctx, head, 4 + hash_bytes) == 1;
	}
	ok = ok && EVP_DigestUpdate(ctx, tr->data + skip, tr->len - skip) == 1 &&
	     EVP_DigestFinal_ex(ctx, out, NULL) == 1;
	EVP_MD_CTX_free(ctx);
	return ok;
}

static bool derive_shared(SSL *ssl, uint8_t *out, size_t *len)
{
	EVP_PKEY *own = NULL, *peer = NULL;
	bool ok = SSL_get_tmp_key(ssl, &own) == 1 && SSL_get_peer_tmp_key(ssl, &peer) == 1;
	EVP_PKEY_CTX *ctx = ok ? EVP_PKEY_CTX_new_from_pkey(NULL, own, NULL) : NULL;
	ok = ctx && EVP_PKEY_derive_init(ctx) == 1 && EVP_PKEY_derive_set_peer(ctx, peer) == 1;
	if (ok && EVP_PKEY_is_a(own, "DH"))	/* RFC 8446 7.4.1: with leading zeros */
		ok = EVP_PKEY_CTX_set_dh_pad(ctx, 1) == 1;
	ok = ok && EVP_PKEY_derive(ctx, out, len) == 1;
	EVP_PKEY_CTX_free(ctx);
	EVP_PKEY_free(own);
	EVP_PKEY_free(peer);
	return ok;
}

struct schedule {	/* wiped as a whole */
	uint8_t psk[SECRET_MAX], early[SECRET_MAX], derived[SECRET_MAX], handshake[SECRET_MAX], server[SECRET_MAX];
	uint8_t shared[SHARED_MAX];
};

static bool run_schedule(SSL *ssl, enum hash h, const EVP_MD *md, const struct transcript *tr, struct schedule *s,
			 uint8_t *client)
{
	size_t n = hash_len(h), psk_len = n, shared_len = sizeof(s->shared);
	uint8_t empty[SECRET_MAX], hellos[SECRET_MAX];
	if (SSL_session_reused(ssl))
		psk_len = SSL_SESSION_get_master_key(SSL_get0_session(ssl), s->psk, sizeof(s->psk));
	return derive_shared(ssl, s->shared, &shared_len) && transcript_hash(tr, md, n, hellos) &&
	       EVP_Digest("", 0, empty, NULL, md, NULL) == 1 && !hkdf_extract(h, NULL, 0, s->psk, psk_len, s->early) &&
	       !hkdf_expand_label(h, s->early, "derived", empty, n, s->derived, n) &&
	       !hkdf_extract(h, s->derived, n, s->shared, shared_len, s->handshake) &&
	       !hkdf_expand_label(h, s->handshake, "s hs traffic", hellos, n, s->server, n) &&
	       !hkdf_expand_label(h, s->handshake, "c hs traffic", hellos, n, client, n);
}

bool early_client_secret(SSL *ssl, uint16_t suite, const struct transcript *tr, const uint8_t *server_secret,
			 uint8_t client[SECRET_MAX])
{
	if (tr->broken || (tr->messages != 2 && tr->messages != 4))
		return false;
	enum hash h = suite_hash(suite);
	struct schedule s;
	memset(&s, 0, sizeof(s));
	/* Called inside OpenSSL: what fails here must leave no mark in its error queue. */
	ERR_set_mark();
	bool ok = run_schedule(ssl, h, digest_get0(h), tr, &s, client) &&
		  !CRYPTO_memcmp(s.server, server_secret, hash_len(h));
	ERR_pop_to_mark();
	OPENSSL_cleanse(&s, sizeof(s));
	if (!ok)
		OPENSSL_cleanse(client, SECRET_MAX);
	return ok;
}
