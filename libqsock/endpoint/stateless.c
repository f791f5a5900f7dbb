/* Version negotiation, Retry and stateless reset: made from the datagram that asks
 * for them and nothing else. Decides their form and size; whether one is due, and
 * how often, is decided by the callers. */
#include "endpoint/stateless.h"

#include "crypto/retry.h"
#include "endpoint/endpoint.h"
#include "path/token.h"

struct answer *answers_claim(struct answers *q)
{
	return q->n < ANSWERS_QUEUED ? &q->v[(q->head + q->n) % ANSWERS_QUEUED] : NULL;
}

void answers_commit(struct answers *q)
{
	q->n++;
}

const struct answer *answers_pop(struct answers *q)
{
	if (!q->n)
		return NULL;
	const struct answer *a = &q->v[q->head];
	q->head = (q->head + 1) % ANSWERS_QUEUED;
	q->n--;
	return a;
}

size_t answer_version_negotiation(const struct rng *rng, const struct packet *trigger, uint8_t *out)
{
	uint64_t random = rng_u64(rng);
	/* One reserved version keeps clients used to unknown ones (RFC 9000 6.3). Never the client's own: it would
	 * take the answer for a forgery (6.2). */
	uint32_t reserved = ((uint32_t)random & 0xf0f0f0f0) | 0x0a0a0a0a;
	if (reserved == trigger->version)
		reserved ^= 0x10;
	const uint32_t versions[] = { reserved, QUIC_V1 };
	struct wr w = wr_of(out, ANSWER_MAX);
	if (!packet_write_vn(&w, random >> 32 & 0x3f, trigger, versions, sizeof(versions) / sizeof(versions[0])))
		return 0;
	return wr_len(&w);
}

size_t answer_retry(const struct rng *rng, const uint8_t token_key[32], const struct packet *initial,
		    const struct addr *peer, size_t scid_len, uint64_t now_us, uint8_t *out)
{
	struct token t = { .is_retry = true, .issued_us = now_us, .odcid = initial->dcid };
	t.retry_scid.len = (uint8_t)(scid_len < RETRY_SCID_MIN ? RETRY_SCID_MIN : scid_len);
	rng_fill(rng, t.retry_scid.b, t.retry_scid.len);
	if (cid_equal(&t.retry_scid, &initial->dcid))
		t.retry_scid.b[0] ^= 1;		/* RFC 9000 17.2.5.1: MUST NOT be equal */

	uint8_t token[TOKEN_MAX];
	size_t token_len = token_seal(token_key, rng, &t, peer, token);
	struct wr w = wr_of(out, ANSWER_MAX);
	if (!token_len || !packet_write_retry(&w, initial->version, &initial->scid, &t.retry_scid, token, token_len,
					      rng_u64(rng) & 0x0f))
		return 0;
	size_t len = wr_len(&w);
	uint8_t *tag = wr_claim(&w, AEAD_TAG_LEN);
	if (!tag || retry_tag(initial->version, &initial->dcid, out, len, tag))
		return 0;
	return wr_len(&w);
}

/* RFC 9000 10.3.3: 41 bytes and more look like any packet; above that the size varies, below the trigger's. */
#define RESET_MIN 42
#define RESET_SPREAD 32

size_t answer_reset(const struct rng *rng, const uint8_t reset_key[32], const struct cid *dcid, size_t trigger_len,
		    uint8_t *out)
{
	if (trigger_len < ENDPOINT_RESET_MIN_TRIGGER)
		return 0;
	size_t len = trigger_len - 1;	/* RFC 9000 10.3, for triggers up to 43 */
	if (len > RESET_MIN) {
		size_t room = trigger_len - RESET_MIN;
		len = RESET_MIN + (size_t)rng_below(rng, room < RESET_SPREAD ? room : RESET_SPREAD);
	}
	rng_fill(rng, out, len - RESET_TOKEN_LEN);
	out[0] = 0x40 | (out[0] & 0x3f);
	return reset_token_make(reset_key, dcid, out + len - RESET_TOKEN_LEN) ? 0 : len;
}
