/* One-shot use of Initial keys, without a connection: is this Initial real, and the
 * closing packet for one that is not wanted. Initial keys are known to everybody
 * who sees the DCID, so this keeps out junk, not attackers. RFC 9001 5.2 */
#include "base/err.h"
#include "crypto/pktkey.h"
#include "endpoint/stateless.h"
#include "wire/frame.h"

#define INITIAL_CHECK_MAX 4096	/* bytes of one Initial packet; no path carries larger ones from a client */
#define CLOSE_PN_LEN 2

static int initial_key(const struct packet *p, bool server, bool for_seal, struct pktkey *k)
{
	uint8_t client_secret[32], server_secret[32];
	int rc = initial_secrets(p->version, p->dcid.b, p->dcid.len, client_secret, server_secret);
	if (!rc)
		rc = pktkey_init(k, SUITE_AES_128_GCM, server ? server_secret : client_secret, for_seal);
	return rc;
}

static bool open_copy(struct pktkey *k, const struct packet *p)
{
	uint8_t buf[INITIAL_CHECK_MAX], mask[1][HP_MASK_LEN];
	memcpy(buf, p->start, p->len);
	const uint8_t *sample = buf + p->pn_off + 4;
	if (pktkey_masks(k, &sample, 1, mask))
		return false;
	size_t pn_len = hp_unprotect(buf, p->pn_off, mask[0]), hdr = p->pn_off + pn_len;
	struct rd r = rd_of(buf + p->pn_off, pn_len);
	uint64_t pn = pn_decode(rd_uint(&r, pn_len), pn_len, PN_NONE);
	return pktkey_open(k, pn, buf, hdr, buf + hdr, p->len - hdr) == 0;
}

bool initial_authentic(const struct packet *p)
{
	struct pktkey k;
	if (p->len > INITIAL_CHECK_MAX || p->len < p->pn_off + 4 + HP_SAMPLE_LEN)
		return false;
	if (initial_key(p, false, false, &k))
		return false;
	bool ok = open_copy(&k, p);
	pktkey_fini(&k);
	return ok;
}

/* Room for the tag is there. Returns the packet's length, 0 on a crypto failure. */
static size_t seal_close(struct pktkey *k, uint8_t *out, size_t pn_off, size_t len)
{
	size_t hdr = pn_off + CLOSE_PN_LEN;
	const uint8_t *sample = out + pn_off + 4;
	uint8_t mask[1][HP_MASK_LEN];
	if (pktkey_seal(k, 0, out, hdr, out + hdr, len - hdr) || pktkey_masks(k, &sample, 1, mask))
		return 0;
	hp_protect(out, pn_off, mask[0]);
	return len + AEAD_TAG_LEN;
}

size_t answer_close(const struct packet *p, int qe, uint8_t *out)
{
	struct wr w = wr_of(out, ANSWER_MAX - AEAD_TAG_LEN);
	size_t length_off;
	/* Not ack-eliciting, so RFC 9000 14.1 asks for no padding. */
	if (!packet_write_long(&w, PACKET_INITIAL, p->version, &p->scid, &p->dcid, NULL, 0, 0, CLOSE_PN_LEN,
			       &length_off))
		return 0;
	size_t pn_off = wr_len(&w) - CLOSE_PN_LEN;
	if (!frame_write_close(&w, false, qe_wire(qe), 0, NULL, 0))
		return 0;
	packet_patch_length(out, length_off, wr_len(&w) - pn_off + AEAD_TAG_LEN);

	struct pktkey k;
	if (initial_key(p, true, true, &k))
		return 0;
	size_t len = seal_close(&k, out, pn_off, wr_len(&w));
	pktkey_fini(&k);
	return len;
}
