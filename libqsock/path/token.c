/* Address validation tokens: an AEAD box, so no server state is needed to know one
 * again. Decides whether a token is ours, for this address and young enough; that
 * it is used once only is the endpoint's memory.
 *
 * On the wire: kind (1, authenticated) | box(issued 8 | family 1 | IP 4 or 16 | Retry: port 2, ODCID, Retry SCID),
 * a CID as its length and bytes. */
#include "path/token.h"

#include "base/err.h"
#include "crypto/retry.h"

enum { KIND_NEW_TOKEN = 0x4e, KIND_RETRY = 0x52 };

#define NONCE_LEN 12
#define PLAIN_MAX (8 + 1 + 16 + 2 + 2 * (1 + CID_MAX))

_Static_assert(1 + BOX_OVERHEAD + PLAIN_MAX <= TOKEN_MAX, "every token fits");

static void put_addr(struct wr *w, const struct addr *a, bool with_port)
{
	bool v6 = a->sa.sa_family == AF_INET6;
	wr_uint(w, v6 ? 6 : 4, 1);
	if (v6)
		wr_bytes(w, &a->in6.sin6_addr, 16);
	else
		wr_bytes(w, &a->in4.sin_addr, 4);
	if (with_port)
		wr_bytes(w, v6 ? &a->in6.sin6_port : &a->in4.sin_port, 2);
}

static void put_cid(struct wr *w, const struct cid *c)
{
	wr_uint(w, c->len, 1);
	wr_bytes(w, c->b, c->len);
}

static bool get_cid(struct rd *r, struct cid *c)
{
	uint64_t len = rd_uint(r, 1);
	if (len > CID_MAX)
		return false;
	c->len = (uint8_t)len;
	return rd_copy(r, c->b, len);
}

size_t token_seal(const uint8_t key[32], const struct rng *rng, const struct token *t, const struct addr *peer,
		  uint8_t out[TOKEN_MAX])
{
	uint8_t plain[PLAIN_MAX], nonce[NONCE_LEN];
	struct wr w = wr_of(plain, sizeof(plain));
	wr_uint(&w, t->issued_us, 8);
	put_addr(&w, peer, t->is_retry);
	if (t->is_retry) {
		put_cid(&w, &t->odcid);
		put_cid(&w, &t->retry_scid);
	}
	rng_fill(rng, nonce, sizeof(nonce));
	out[0] = t->is_retry ? KIND_RETRY : KIND_NEW_TOKEN;
	if (w.failed || box_seal(key, nonce, out, 1, plain, wr_len(&w), out + 1))
		return 0;
	return 1 + BOX_OVERHEAD + wr_len(&w);
}

/* Reads what put_addr wrote and compares. */
static bool same_addr(struct rd *r, const struct addr *peer, bool with_port)
{
	uint8_t want[19];
	struct wr w = wr_of(want, sizeof(want));
	put_addr(&w, peer, with_port);
	const uint8_t *got = rd_bytes(r, wr_len(&w));
	return got && !memcmp(got, want, wr_len(&w));
}

int token_open(const uint8_t key[32], const uint8_t *p, size_t len, const struct addr *peer, uint64_t now_us,
	       struct token *t)
{
	uint8_t plain[TOKEN_MAX];
	size_t plain_len;
	if (len < 1 + BOX_OVERHEAD || len > TOKEN_MAX || (p[0] != KIND_RETRY && p[0] != KIND_NEW_TOKEN))
		return QE_DROP;
	if (box_open(key, p, 1, p + 1, len - 1, plain, &plain_len))
		return QE_DROP;

	*t = (struct token){ .is_retry = p[0] == KIND_RETRY };
	memcpy(&t->id, p + 1, sizeof(t->id));	/* of the nonce: random, chosen by us, authenticated */
	/* From here on it is ours. RFC 9000 8.1.2, 8.1.3: only a bad Retry token ends the attempt. */
	int bad = t->is_retry ? QE_INVALID_TOKEN : QE_DROP;
	uint64_t life_us = t->is_retry ? TOKEN_RETRY_LIFE_US : TOKEN_NEW_LIFE_US;
	struct rd r = rd_of(plain, plain_len);
	t->issued_us = rd_uint(&r, 8);
	if (r.failed || t->issued_us > now_us || now_us - t->issued_us > life_us)
		return bad;
	if (!same_addr(&r, peer, t->is_retry))
		return bad;
	if (t->is_retry && (!get_cid(&r, &t->odcid) || !get_cid(&r, &t->retry_scid)))
		return bad;
	return rd_left(&r) ? bad : 0;
}
