/* Receiving: datagrams to packets to plaintext. Takes header protection off for
 * a whole train at once, picks keys, keeps packets whose keys are still to come,
 * and leaves frames to rx_frame.c. RFC 9000 12.2, 12.3, RFC 9001 5.5, 5.7 */
#include "conn/conn_int.h"

#include "base/mem.h"

static enum level packet_level(const struct packet *p)
{
	switch (p->type) {
	case PACKET_INITIAL: return LEVEL_INITIAL;
	case PACKET_HANDSHAKE: return LEVEL_HANDSHAKE;
	case PACKET_0RTT: return LEVEL_EARLY;
	default: return LEVEL_APP;
	}
}

/* 1-RTT is not read before the handshake is complete, keys or not. RFC 9001 5.7 */
static bool readable(const struct conn *c, enum level level)
{
	return pktkey_ready(&c->keys.rx[level]) && (level != LEVEL_APP || c->established);
}

/* An honest client has nothing to send in Handshake or 1-RTT packets before it got the answer to its whole ClientHello,
 * so a server keeps nothing for whoever did not send that. */
static bool keys_may_come(const struct conn *c, enum level level)
{
	if (c->is_server)
		return level == LEVEL_APP && !c->established && pktkey_ready(&c->keys.rx[LEVEL_HANDSHAKE]);
	return level == LEVEL_HANDSHAKE ? !c->confirmed : level == LEVEL_APP && !c->established;
}

static void stash_packet(struct conn *c, const struct packet *p, const struct arrival *a)
{
	if (!keys_may_come(c, packet_level(p)) || c->nstash == CONN_STASH_MAX || p->len > CONN_STASH_BYTES)
		return;
	struct stash *s = mem_alloc(sizeof(*s) + p->len);
	if (!s)
		return;
	s->at_us = a->now_us;
	s->ecn = a->ecn;
	s->len = p->len;
	memcpy(s->data, p->start, p->len);
	TAILQ_INSERT_TAIL(&c->stash, s, link);
	c->nstash++;
}

/* Does the packet belong to this handshake? Once the peer's source CID is known
 * every long header must show it. RFC 9000 7.2 */
static bool right_peer(struct conn *c, const struct packet *p)
{
	return !packet_is_long(p->first) || !c->has_peer_scid || cid_equal(&p->scid, &c->peer_scid);
}

/* What a first authentic packet of a level proves. RFC 9000 7.2, 8.1, RFC 9001 4.9.1 */
static void learn(struct conn *c, const struct packet *p, enum level level, uint64_t now_us)
{
	c->got_packet = true;
	if (!c->has_peer_scid && packet_is_long(p->first)) {
		c->has_peer_scid = true;
		c->peer_scid = p->scid;
		remote_cids_set_first(&c->rcids, &p->scid);
	}
	if (c->is_server && level == LEVEL_HANDSHAKE && !c->rec.space[SPACE_INITIAL].discarded) {
		c->amplify.validated = true;
		hs_discard_keys(c, LEVEL_INITIAL, now_us);
	}
}

static void rx_opened(struct conn *c, const struct packet *p, enum level level, uint64_t pn, size_t hdr_len,
		      const struct arrival *a)
{
	enum pn_space space = level_space(level);
	struct ackq *q = &c->ackq[space];
	const uint8_t *payload = p->start + hdr_len;
	size_t len = p->len - hdr_len - AEAD_TAG_LEN;
	uint64_t now_us = a->now_us;
	struct rx_packet rx = { .level = level, .phase = p->start[0] & 0x04, .pn = pn, .dcid = p->dcid,
				.now_us = now_us };
	if (packet_reserved_bits(p->start[0])) {
		conn_violation(c, QE_PROTOCOL_VIOLATION, 0, "reserved header bits are set", now_us);
		return;
	}
	if (ackq_is_duplicate(q, pn))
		return;
	if (!addr_equal(a->remote, &c->remote) && !path_admit(c, a, p, pn, payload, len, &rx.former))
		return;
	learn(c, p, level, now_us);
	if (level == LEVEL_APP && (q->largest == PN_NONE || pn > q->largest))
		c->used_cid = p->dcid;
	c->rx_processed = true;
	c->packets_rx++;
	uint64_t type = 0, had = c->crypto[level].rx.highest;
	int e = rx_frames(c, &rx, payload, len, &type);
	if (!e && level == LEVEL_INITIAL && c->is_server && rx.eliciting && c->crypto[level].rx.highest == had)
		hs_hasten(c, now_us);
	if (!e && !c->rec.space[space].discarded)
		e = ackq_on_packet(q, pn, rx.eliciting, a->ecn, now_us);
	if (e) {
		const char *tls = c->tls ? tls_error_text(c->tls) : "";
		conn_violation(c, e, type, *tls ? tls : qe_wire_name(qe_wire(e)), now_us);
	}
}

/* The header is still protected; mask is its mask. */
static void rx_unmask(struct conn *c, const struct packet *p, const uint8_t mask[HP_MASK_LEN],
		      const struct arrival *a)
{
	enum level level = packet_level(p);
	size_t pn_len = hp_unprotect((uint8_t *)p->start, p->pn_off, mask);
	struct rd r = rd_of(p->start + p->pn_off, pn_len);
	uint64_t pn = pn_decode(rd_uint(&r, pn_len), pn_len, c->ackq[level_space(level)].largest);
	size_t hdr_len = p->pn_off + pn_len;
	bool phase = p->start[0] & 0x04;
	int e = keyring_open(&c->keys, level, phase, pn, p->start, hdr_len, (uint8_t *)p->start + hdr_len,
			     p->len - hdr_len, a->now_us, conn_pto(c));
	if (e == QE_DROP) {
		if (level == LEVEL_APP && conn_is_reset(c, p->start, p->len))
			conn_on_reset(c, a->now_us);
		return;
	}
	if (e)
		conn_violation(c, e, 0, qe_wire_name(qe_wire(e)), a->now_us);
	else
		rx_opened(c, p, level, pn, hdr_len, a);
}

static void rx_packet(struct conn *c, const struct packet *p, const struct arrival *a)
{
	enum level level = packet_level(p);
	if (p->type == PACKET_RETRY) {
		hs_on_retry(c, p, a->now_us);
		return;
	}
	if (p->type == PACKET_VN) {
		hs_on_version_negotiation(c, p, a->now_us);
		return;
	}
	if (p->type == PACKET_UNKNOWN_VERSION || level == LEVEL_EARLY || !right_peer(c, p) ||
	    !packet_fixed_bit(p->first) || (packet_is_long(p->first) && p->version != c->version))
		return;
	if (!readable(c, level)) {
		stash_packet(c, p, a);
		if (level == LEVEL_HANDSHAKE && !c->is_server)
			hs_hasten(c, a->now_us);
		return;
	}
	const uint8_t *sample = p->start + p->pn_off + 4;
	uint8_t mask[1][HP_MASK_LEN];
	if (!pktkey_masks(&c->keys.rx[level], &sample, 1, mask))
		rx_unmask(c, p, mask[0], a);
}

/* A server takes them in large datagrams only (RFC 9000 14.1), a client only without a token (17.2.2). */
static bool initial_acceptable(const struct conn *c, const struct packet *p, size_t datagram_len)
{
	return c->is_server ? datagram_len >= MIN_INITIAL_DATAGRAM : !p->token_len;
}

static struct arrival arrival_of(const struct datagram *d, uint64_t now_us)
{
	return (struct arrival){ .now_us = now_us, .ecn = d->ecn, .remote = &d->remote, .len = d->len };
}

static void rx_datagram(struct conn *c, struct datagram *d, uint64_t now_us)
{
	struct arrival a = arrival_of(d, now_us);
	struct rd r = rd_of(d->data, d->len);
	struct cid first = { 0 };
	struct packet p;
	bool have_first = false;
	uint64_t opened = c->packets_rx;
	while (rd_left(&r) && c->state == CONN_ACTIVE) {
		if (packet_parse(&r, c->cfg->cid_len, &p))
			continue;
		/* Coalesced packets for another connection are not ours. RFC 9000 12.2 */
		if (have_first && !cid_equal(&first, &p.dcid))
			continue;
		first = p.dcid;
		have_first = true;
		if (p.type == PACKET_INITIAL && !initial_acceptable(c, &p, d->len))
			continue;
		rx_packet(c, &p, &a);
	}
	/* Where no packet was opened it may be a reset, of whatever form. RFC 9000 10.3, 10.3.1 */
	if (c->packets_rx == opened && conn_is_reset(c, d->data, d->len))
		conn_on_reset(c, now_us);
}

static bool fast(const struct conn *c, const struct datagram *d)
{
	return d->len >= 1u + c->cfg->cid_len + PN_SAMPLE_ROOM && !packet_is_long(d->data[0]) &&
	       packet_fixed_bit(d->data[0]) && readable(c, LEVEL_APP);
}

/* A run of short-header datagrams: one call makes all header masks. */
static void rx_short_run(struct conn *c, struct datagram *d, size_t n, uint64_t now_us)
{
	const uint8_t *samples[HP_BATCH] = { NULL };
	uint8_t masks[HP_BATCH][HP_MASK_LEN];
	size_t pn_off = 1u + c->cfg->cid_len;
	for (size_t i = 0; i < n; i++)
		samples[i] = d[i].data + pn_off + 4;
	if (pktkey_masks(&c->keys.rx[LEVEL_APP], samples, n, masks))
		return;
	struct packet p = { .type = PACKET_1RTT, .pn_off = pn_off };
	p.dcid.len = c->cfg->cid_len;
	for (size_t i = 0; i < n && c->state == CONN_ACTIVE; i++) {
		p.first = d[i].data[0];
		p.start = d[i].data;
		p.len = d[i].len;
		memcpy(p.dcid.b, d[i].data + 1, p.dcid.len);
		struct arrival a = arrival_of(&d[i], now_us);
		rx_unmask(c, &p, masks[i], &a);
	}
}

static bool wanted(struct conn *c, const struct datagram *d)
{
	bool here = addr_equal(&d->remote, &c->remote);
	/* A client's address may be changed by a NAT once the handshake is confirmed, a server's never. RFC 9000 9 */
	if (!d->len || (!here && (!c->is_server || !c->confirmed || c->state != CONN_ACTIVE)))
		return false;
	c->bytes_rx += d->len;
	c->amplify.received += here ? d->len : 0;
	if (c->state == CONN_CLOSING)
		close_on_packet(c, d->len);
	return c->state == CONN_ACTIVE;
}

/* While closing nothing is decrypted: a peer that closes too gets our close again, and both end by time.
 * RFC 9000 10.2.1 */
void conn_recv(struct conn *c, struct datagram *d, size_t n, uint64_t now_us)
{
	size_t i = 0;
	bool was_blocked = conn_amplify_blocked(c);
	c->rx_processed = false;
	while (i < n) {
		size_t run = 0;
		if (!wanted(c, &d[i])) {
			i++;
			continue;
		}
		if (!fast(c, &d[i])) {
			rx_datagram(c, &d[i++], now_us);
			continue;
		}
		do
			run++;
		while (i + run < n && run < HP_BATCH && fast(c, &d[i + run]) && wanted(c, &d[i + run]));
		rx_short_run(c, d + i, run, now_us);
		i += run;
	}
	if (c->rx_processed && c->state == CONN_ACTIVE)
		timer_on_received(c, now_us);
	if (was_blocked && c->state == CONN_ACTIVE) {
		struct recovery_env env = conn_env(c);
		recovery_set_timer(&c->rec, &env, now_us);
	}
}

/* Try again what waited for keys, as of when it came: the wait belongs into our ACK delay, and not into RTT samples
 * (RFC 9000 13.2.5, RFC 9002 5.3). What still has no keys is kept. */
void rx_replay_stash(struct conn *c)
{
	struct stash_list l = TAILQ_HEAD_INITIALIZER(l);
	struct stash *s;
	TAILQ_CONCAT(&l, &c->stash, link);
	c->nstash = 0;
	while ((s = TAILQ_FIRST(&l))) {
		TAILQ_REMOVE(&l, s, link);
		struct rd r = rd_of(s->data, s->len);
		struct packet p;
		struct arrival a = { .now_us = s->at_us, .ecn = s->ecn, .remote = &c->remote, .len = s->len };
		if (c->state == CONN_ACTIVE && !packet_parse(&r, c->cfg->cid_len, &p))
			rx_packet(c, &p, &a);
		mem_free(s);
	}
}
