/* Transmitting: datagrams out of packets. Before the handshake is confirmed one
 * datagram at a time, coalesced and padded; afterwards trains of equal-size
 * 1-RTT packets, sealed one by one and masked all together. The budget is
 * the smallest of congestion window, pacer and amplification limit.
 * RFC 9000 12.2, 14.1, RFC 9001 5 */
#include "conn/conn_int.h"

#define PACKET_ROOM_MIN 128	/* no packet is begun in less room */
#define PATH_ROOM_MIN 80	/* nor one for PATH_CHALLENGE and the like */
#define RESET_ROOM 22u		/* bytes of a packet beyond the length of our CIDs. RFC 9000 10.3 */

/* ---- one packet ---------------------------------------------------------- */

static int packet_begin(struct conn *c, struct build *b, enum level level, uint8_t *at, uint8_t *end, uint64_t now_us)
{
	static const enum packet_type types[] = { [LEVEL_INITIAL] = PACKET_INITIAL,
						  [LEVEL_HANDSHAKE] = PACKET_HANDSHAKE };
	enum pn_space space = level_space(level);
	const struct cid *dcid = remote_cids_current(&c->rcids);
	uint64_t random = level == LEVEL_APP ? rng_u64(c->rng) : 0;
	bool ok, spin = random >> 63;	/* a coin each time: the bit is not in use. RFC 9000 17.4 */
	*b = (struct build){ .start = at, .level = level, .sp = sent_new(&c->rec.pool) };
	if (!b->sp)
		return QE_NOMEM;
	b->w = wr_of(at, (size_t)(end - at) - AEAD_TAG_LEN);
	b->pn = recovery_next_pn(&c->rec, space, random);
	b->pn_len = pn_encoded_len(b->pn, recovery_largest_acked(&c->rec, space));
	b->sp->pn = b->pn;
	b->sp->at_us = now_us;
	b->sp->acks_up_to = PN_NONE;
	if (level == LEVEL_APP)
		ok = packet_write_short(&b->w, dcid, spin, c->keys.tx_phase, b->pn, b->pn_len);
	else
		ok = packet_write_long(&b->w, types[level], c->version, dcid, &c->lcids.v[0].cid, c->token,
				       level == LEVEL_INITIAL ? c->token_len : 0, b->pn, b->pn_len, &b->length_off);
	b->hdr_len = wr_len(&b->w);
	b->pn_off = b->hdr_len - b->pn_len;
	return ok ? 0 : QE_LIMIT;
}

static bool packet_empty(const struct build *b)
{
	return wr_len(&b->w) == b->hdr_len;
}

/* Nothing was written: give the number back. */
static void packet_abandon(struct conn *c, struct build *b)
{
	c->rec.space[level_space(b->level)].next_pn = b->pn;
	sent_free(&c->rec.pool, b->sp);
}

/* Up to the size a packet must have: header protection needs its sample (RFC 9001 5.4.2), and a packet should be
 * no smaller than the stateless reset that may answer it (RFC 9000 10.3). least: bytes that are wanted in any case.
 * Once it is known where the next packet begins it is too late. An ACK does not become a packet in flight by these few
 * bytes: nobody would acknowledge it. */
static void packet_pad(const struct conn *c, struct build *b, size_t least)
{
	size_t len = wr_len(&b->w) + AEAD_TAG_LEN;
	if (least < b->pn_off + 4 + AEAD_TAG_LEN)
		least = b->pn_off + 4 + AEAD_TAG_LEN;
	if (least < c->cfg->cid_len + RESET_ROOM)
		least = c->cfg->cid_len + RESET_ROOM;
	if (len < least)
		frame_write_padding(&b->w, least - len);
}

/* Seal, and hand the record to recovery. Header protection is still to come. */
static int packet_finish(struct conn *c, struct build *b, bool in_flight, bool ect, const struct recovery_env *env)
{
	enum pn_space space = level_space(b->level);
	size_t payload = wr_len(&b->w) - b->hdr_len;
	if (b->level != LEVEL_APP)
		packet_patch_length(b->start, b->length_off, b->pn_len + payload + AEAD_TAG_LEN);
	int e = keyring_seal(&c->keys, b->level, b->pn, b->start, b->hdr_len, b->start + b->hdr_len, payload);
	if (e) {
		sent_free(&c->rec.pool, b->sp);
		return e;
	}
	b->w.p += AEAD_TAG_LEN;
	b->sp->bytes = (uint32_t)wr_len(&b->w);
	b->sp->in_flight = in_flight || b->sp->eliciting;
	b->sp->ect = ect;
	if (b->sp->eliciting)
		timer_on_sent_eliciting(c, b->sp->at_us);
	recovery_on_sent(&c->rec, space, b->sp, env);
	return 0;
}

static int mask_one(struct conn *c, struct build *b)
{
	const uint8_t *sample = b->start + b->pn_off + 4;
	uint8_t mask[1][HP_MASK_LEN];
	int e = pktkey_masks(&c->keys.tx[b->level], &sample, 1, mask);
	if (!e)
		hp_protect(b->start, b->pn_off, mask[0]);
	return e;
}

/* ---- one coalesced datagram ---------------------------------------------- */

struct coalesced {
	struct build b[3];
	unsigned n;
	bool pad;	/* to MIN_INITIAL_DATAGRAM */
	uint8_t *p, *end;
};

/* A handshake space with nothing in flight has no PTO to get it going again, and
 * 1-RTT packets sent meanwhile have none either before confirmation: were its lost
 * bytes to wait for the window those fill, they would wait for ever. So a space's first packet is exempt,
 * as a probe is. RFC 9002 6.2.1, 7.5 */
static bool is_congested(const struct conn *c, enum level level, uint64_t budget)
{
	enum pn_space space = level_space(level);
	bool exempt = c->probes[space] || (level != LEVEL_APP && !c->rec.space[space].eliciting_in_flight);
	return budget < c->mss && !exempt;
}

static bool want_level(struct conn *c, enum level level, uint64_t budget, uint64_t now_us, bool *congested)
{
	if (level == LEVEL_EARLY)
		return false;
	if (c->state == CONN_CLOSING)
		return pktkey_ready(&c->keys.tx[level]) && (level != LEVEL_APP || c->established || !c->is_server);
	*congested = is_congested(c, level, budget);
	return tx_wants(c, level, *congested, now_us);
}

static int coalesce_level(struct conn *c, struct coalesced *d, enum level level, bool congested, uint64_t now_us)
{
	struct build *b = &d->b[d->n];
	int e = packet_begin(c, b, level, d->p, d->end, now_us);
	if (!e && c->state == CONN_CLOSING)
		close_write_frame(c, &b->w, level);
	else if (!e)
		e = tx_fill(c, b, congested, now_us);
	if (e || packet_empty(b)) {
		if (b->sp)
			packet_abandon(c, b);
		return e == QE_LIMIT ? 0 : e;
	}
	d->pad |= b->expand || (level == LEVEL_INITIAL && (!c->is_server || b->sp->eliciting));
	packet_pad(c, b, 0);
	d->p = b->w.p + AEAD_TAG_LEN;
	d->n++;
	return 0;
}

static int coalesced_finish(struct conn *c, struct coalesced *d, struct train *t)
{
	struct recovery_env env = conn_env(c);
	size_t len = (size_t)(d->p - t->buf);
	bool ect = t->ecn != ECN_NOT_ECT, sent_handshake = false, padded = d->pad && len < MIN_INITIAL_DATAGRAM;
	if (padded)
		frame_write_padding(&d->b[d->n - 1].w, MIN_INITIAL_DATAGRAM - len);
	for (unsigned i = 0; i < d->n; i++) {
		struct build *b = &d->b[i];
		int e = packet_finish(c, b, padded && i == d->n - 1, ect, &env);
		if (!e)
			e = mask_one(c, b);
		if (e) {
			while (++i < d->n)
				sent_free(&c->rec.pool, d->b[i].sp);
			return e;
		}
		t->len = (size_t)(b->w.p - t->buf);
		sent_handshake |= b->level == LEVEL_HANDSHAKE;
	}
	t->seg = t->len;
	c->amplify.sent += t->len;
	return sent_handshake;
}

static int tx_coalesced(struct conn *c, struct train *t, uint64_t now_us)
{
	struct coalesced d = { .p = t->buf };
	uint64_t allowed = amplify_budget(&c->amplify), budget = recovery_budget(&c->rec, now_us);
	size_t cap = t->cap < c->mss ? t->cap : c->mss;
	if (allowed < cap)
		cap = (size_t)allowed;
	/* An eliciting Initial must be padded, so with less than that nothing may leave but a close. RFC 9000 14.1 */
	bool may_pad = pktkey_ready(&c->keys.tx[LEVEL_INITIAL]) && c->state == CONN_ACTIVE;
	if (cap < (may_pad ? MIN_INITIAL_DATAGRAM : PACKET_ROOM_MIN))
		return 0;
	d.end = t->buf + cap;
	for (enum level l = LEVEL_INITIAL; l < LEVEL_COUNT; l++) {
		bool congested = false;
		if ((size_t)(d.end - d.p) < PACKET_ROOM_MIN || !want_level(c, l, budget, now_us, &congested))
			continue;
		int e = coalesce_level(c, &d, l, congested, now_us);
		if (e) {
			while (d.n)
				sent_free(&c->rec.pool, d.b[--d.n].sp);
			return e;
		}
	}
	if (!d.n) {	/* what is wanted and did not leave is held back; tx_train says it for 1-RTT */
		c->pacer_blocked = recovery_cwnd_room(&c->rec) && (tx_wants(c, LEVEL_INITIAL, false, now_us) ||
								   tx_wants(c, LEVEL_HANDSHAKE, false, now_us));
		return 0;
	}
	int e = coalesced_finish(c, &d, t);
	if (e > 0 && !c->is_server)
		hs_discard_keys(c, LEVEL_INITIAL, now_us);	/* RFC 9001 4.9.1 */
	return e < 0 ? e : 1;
}

/* ---- a train of 1-RTT packets -------------------------------------------- */

static int train_mask(struct conn *c, uint8_t *const *starts, size_t n, size_t pn_off)
{
	const uint8_t *samples[HP_BATCH];
	uint8_t masks[HP_BATCH][HP_MASK_LEN];
	for (size_t i = 0; i < n; i++)
		samples[i] = starts[i] + pn_off + 4;
	int e = pktkey_masks(&c->keys.tx[LEVEL_APP], samples, n, masks);
	for (size_t i = 0; !e && i < n; i++)
		hp_protect(starts[i], pn_off, masks[i]);
	return e;
}

static void maybe_update_keys(struct conn *c, uint64_t now_us)
{
	if (keyring_update_due(&c->keys, now_us))
		keyring_update(&c->keys, now_us);	/* if it fails the old keys go on, to their limit */
}

static int tx_train(struct conn *c, struct train *t, uint64_t now_us)
{
	struct recovery_env env = conn_env(c);
	uint8_t *starts[HP_BATCH];
	uint64_t budget = recovery_budget(&c->rec, now_us), allowed = amplify_budget(&c->amplify);
	size_t n = 0, max = t->max_segs < HP_BATCH ? t->max_segs : HP_BATCH, pn_off = 0;
	size_t seg = t->cap < c->mss ? t->cap : c->mss;
	bool ect = t->ecn != ECN_NOT_ECT, congested = false;
	int e = 0;
	maybe_update_keys(c, now_us);
	while (n < max && t->len + seg <= t->cap && t->len + seg <= allowed) {
		struct build b;
		congested = budget < seg && !c->probes[SPACE_APP];
		if (!tx_wants(c, LEVEL_APP, congested, now_us))
			break;
		e = packet_begin(c, &b, LEVEL_APP, t->buf + t->len, t->buf + t->len + seg, now_us);
		if (!e)
			e = tx_fill(c, &b, congested, now_us);
		if (e || packet_empty(&b)) {
			if (b.sp)
				packet_abandon(c, &b);
			break;
		}
		packet_pad(c, &b, b.expand ? MIN_INITIAL_DATAGRAM : 0);
		e = packet_finish(c, &b, false, ect, &env);
		if (e)
			break;
		size_t len = wr_len(&b.w);
		starts[n++] = b.start;
		pn_off = b.pn_off;
		t->len += len;
		budget -= len < budget ? len : budget;
		if (len < seg)
			break;	/* only the last of a train may be shorter */
	}
	if (n && !e)
		e = train_mask(c, starts, n, pn_off);
	if (e)
		return e;
	bool more = tx_wants(c, LEVEL_APP, false, now_us);
	c->pacer_blocked = more && budget < c->mss && recovery_cwnd_room(&c->rec);
	c->rec.app_limited = !more && recovery_cwnd_room(&c->rec);
	t->seg = n > 1 ? seg : t->len;
	c->amplify.sent += t->len;
	return (int)n;
}

/* ---- a packet for a path alone ------------------------------------------- */

/* Nothing but path frames: to the former address, and to a new one that may not get whole packets yet. */
static int tx_path(struct conn *c, struct train *t, struct challenge *ch, size_t cap, uint64_t now_us)
{
	struct recovery_env env = conn_env(c);
	struct build b;
	int e = packet_begin(c, &b, LEVEL_APP, t->buf, t->buf + cap, now_us);
	if (!e)
		tx_fill_path(&b, ch);
	if (e || packet_empty(&b)) {
		if (b.sp)
			packet_abandon(c, &b);
		return e == QE_LIMIT ? 0 : e;
	}
	packet_pad(c, &b, cap < MIN_INITIAL_DATAGRAM ? cap : MIN_INITIAL_DATAGRAM);
	/* That nobody is at the former address any more is no loss on the path that is in use. RFC 9000 9.4 */
	b.sp->eliciting = ch == &c->challenge;
	e = packet_finish(c, &b, false, false, &env);
	if (!e)
		e = mask_one(c, &b);
	if (e)
		return e;
	t->len = t->seg = wr_len(&b.w);
	t->ecn = ECN_NOT_ECT;
	return 1;
}

static int tx_new_path(struct conn *c, struct train *t, uint64_t now_us)
{
	uint64_t allowed = amplify_budget(&c->amplify);
	size_t cap = allowed < c->mss ? (size_t)allowed : c->mss;
	bool asks = c->challenge.want_send;
	if (c->amplify.validated || !challenge_has_frames(&c->challenge) || cap < PATH_ROOM_MIN)
		return 0;
	int n = tx_path(c, t, &c->challenge, cap, now_us);
	if (n <= 0)
		return n;
	c->amplify.sent += t->len;
	c->small_challenge |= asks && t->len < MIN_INITIAL_DATAGRAM;
	return n;
}

static int tx_former_path(struct conn *c, struct train *t, uint64_t now_us)
{
	if (!c->former.known || !challenge_has_frames(&c->former.challenge))
		return 0;
	int n = tx_path(c, t, &c->former.challenge, c->mss, now_us);
	if (n > 0)
		t->remote = c->former.remote;
	return n;
}

/* ---- the verb ------------------------------------------------------------ */

size_t conn_poll_transmit(struct conn *c, struct train *t, uint64_t now_us)
{
	int n = 0;
	t->len = t->seg = 0;
	t->local = c->local;
	t->remote = c->remote;
	t->ecn = ecn_mark(&c->rec.ecn);
	hs_want_tx(c);
	if (c->state == CONN_CLOSING && c->close_wanted) {
		c->close_wanted = false;
		n = tx_coalesced(c, t, now_us);
		c->close_len = t->len;
		return n > 0 ? 1 : 0;
	}
	if (c->state != CONN_ACTIVE)
		return 0;
	if (!c->confirmed)
		n = tx_coalesced(c, t, now_us);
	if (n == 0 && c->confirmed)
		n = tx_new_path(c, t, now_us);
	if (n == 0 && c->former.known)
		n = tx_former_path(c, t, now_us);
	if (n == 0 && c->established)
		n = tx_train(c, t, now_us);
	if (n >= 0)
		return (size_t)n;
	conn_violation(c, n, 0, n == QE_AEAD_LIMIT ? "key use limit reached" : "out of memory", now_us);
	return conn_poll_transmit(c, t, now_us);
}
