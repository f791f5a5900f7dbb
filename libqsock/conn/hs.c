/* The handshake: TLS bytes to and from CRYPTO streams, secrets to keys, transport
 * parameters checked, Retry and version negotiation obeyed, keys dropped when
 * their time is over. RFC 9001 4, RFC 9000 7, 6.2, 17.2.5 */
#include "conn/conn_int.h"

#include <bsd/string.h>

#include "base/mem.h"
#include "crypto/retry.h"

/* ---- called back by TLS; they only queue --------------------------------- */

static void on_secret(void *arg, enum level level, bool tx, uint16_t suite, const uint8_t *secret, size_t len)
{
	struct conn *c = arg;
	int e = keyring_install(&c->keys, level, tx, suite, secret);
	if (e && !c->cb_error)
		c->cb_error = e;
}

static void on_crypto(void *arg, enum level level, const uint8_t *data, size_t len)
{
	struct conn *c = arg;
	int e = sendbuf_write(&c->crypto[level].tx, data, len);
	if (e && !c->cb_error)
		c->cb_error = e;
}

static void on_session(void *arg, const uint8_t *blob, size_t len)
{
	struct conn *c = arg;
	int e = event_blob(c, CONN_EV_SESSION, blob, len);
	if (e && !c->cb_error)
		c->cb_error = e;
}

static bool same_cid(bool present, const struct cid *a, const struct cid *b)
{
	return present && cid_equal(a, b);
}

/* The peer's parameters must confirm the connection IDs both sides saw. RFC 9000 7.3 */
static bool cids_authentic(const struct conn *c, const struct tparams *p)
{
	if (!same_cid(p->has_initial_scid, &p->initial_scid, &c->peer_scid))
		return false;
	if (c->is_server)
		return true;
	if (!same_cid(p->has_original_dcid, &p->original_dcid, &c->odcid))
		return false;
	return c->has_retry ? same_cid(p->has_retry_scid, &p->retry_scid, &c->retry_scid) : !p->has_retry_scid;
}

static int on_peer_params(void *arg, const uint8_t *data, size_t len)
{
	struct conn *c = arg;
	struct tparams *p = &c->peer;
	int e = tparams_decode(data, len, !c->is_server, p);
	if (e)
		return e;
	if (!cids_authentic(c, p))
		return QE_TRANSPORT_PARAMETER;
	c->have_peer_params = true;
	c->lcids.peer_limit = p->active_cid_limit;
	if (p->has_reset_token)
		remote_cids_set_first_token(&c->rcids, p->reset_token);
	/* We do not move to a preferred address, but its id is number 1 all the same. RFC 9000 5.1.1, 18.2 */
	if (p->has_preferred && remote_cids_on_new(&c->rcids, 1, 0, &p->preferred.cid, p->preferred.token))
		return QE_TRANSPORT_PARAMETER;
	if (p->max_udp_payload < c->mss)
		c->mss = (uint32_t)p->max_udp_payload;
	streams_set_peer(&c->streams, p);
	return 0;
}

static const struct tls_out tls_callbacks = {
	.secret = on_secret,
	.crypto = on_crypto,
	.peer_params = on_peer_params,
	.new_session = on_session,
};

/* ---- start --------------------------------------------------------------- */

int hs_initial_keys(struct conn *c, const struct cid *dcid)
{
	uint8_t client[32], server[32];
	int e = initial_secrets(c->version, dcid->b, dcid->len, client, server);
	if (e)
		return e;
	c->keys_dcid = *dcid;
	keyring_discard(&c->keys, LEVEL_INITIAL);
	e = keyring_install(&c->keys, LEVEL_INITIAL, true, SUITE_AES_128_GCM, c->is_server ? server : client);
	if (!e)
		e = keyring_install(&c->keys, LEVEL_INITIAL, false, SUITE_AES_128_GCM, c->is_server ? client : server);
	return e;
}

static void our_params(struct conn *c)
{
	const struct streams_limits *l = &c->cfg->limits;
	struct tparams *p = &c->ours;
	tparams_init(p);
	p->max_idle_timeout_ms = c->cfg->idle_timeout_us / 1000;
	p->max_data = l->conn_window;
	p->max_stream_data_bidi_local = p->max_stream_data_bidi_remote = p->max_stream_data_uni = l->window;
	p->max_streams_bidi = l->max_streams[DIR_BIDI];
	p->max_streams_uni = l->max_streams[DIR_UNI];
	p->ack_delay_exponent = CONN_ACK_EXPONENT;
	p->max_ack_delay_ms = CONN_OUR_ACK_DELAY_US / 1000;
	p->active_cid_limit = CIDS_REMOTE_MAX;
	p->disable_active_migration = true;
	p->has_initial_scid = true;
	p->initial_scid = c->lcids.v[0].cid;
	if (!c->is_server)
		return;
	p->has_original_dcid = true;
	p->original_dcid = c->odcid;
	p->has_retry_scid = c->has_retry;
	p->retry_scid = c->retry_scid;
	p->has_reset_token = true;
	memcpy(p->reset_token, c->lcids.v[0].token, RESET_TOKEN_LEN);
}

static int start(struct conn *c)
{
	uint8_t buf[512];
	struct wr w = wr_of(buf, sizeof(buf));
	our_params(c);
	if (!tparams_encode(&w, &c->ours, c->is_server, rng_u64(c->rng)))
		return QE_INVAL;
	c->tls = tls_new(c->cfg->tls, &tls_callbacks, c, c->server_name);
	if (!c->tls)
		return QE_NOMEM;
	return tls_set_params(c->tls, buf, wr_len(&w));
}

int hs_start_client(struct conn *c, const uint8_t *session, size_t session_len)
{
	int e = start(c);
	if (!e && session_len)
		e = tls_set_session(c->tls, session, session_len);
	if (!e)
		e = tls_start(c->tls);
	return e ? e : c->cb_error;
}

int hs_start_server(struct conn *c)
{
	int e = start(c);
	if (!e)
		e = tls_start(c->tls);
	return e ? e : c->cb_error;
}

/* A client may have to acknowledge Handshake packets before TLS has read all of them. */
void hs_want_tx(struct conn *c)
{
	if (!c->is_server && !c->established && pktkey_ready(&c->keys.rx[LEVEL_HANDSHAKE]) &&
	    !pktkey_ready(&c->keys.tx[LEVEL_HANDSHAKE]))
		tls_want_tx(c->tls);
}

/* ---- progress ------------------------------------------------------------ */

void hs_discard_keys(struct conn *c, enum level level, uint64_t now_us)
{
	enum pn_space space = level_space(level);
	if (c->rec.space[space].discarded)
		return;
	struct recovery_env env = conn_env(c);
	keyring_discard(&c->keys, level);
	recovery_discard_space(&c->rec, space, &env, now_us);
	sendbuf_fini(&c->crypto[level].tx);
	sendbuf_init(&c->crypto[level].tx);
	recvbuf_discard(&c->crypto[level].rx);	/* highest stays */
	ackq_fini(&c->ackq[space]);
	ackq_init(&c->ackq[space], 0);
	c->probes[space] = 0;
}

int hs_issue_cids(struct conn *c)
{
	for (unsigned n = local_cids_missing(&c->lcids); n; n--) {
		struct cid cid;
		uint8_t token[RESET_TOKEN_LEN];
		int e = conn_new_local_cid(c, &cid, token);
		if (e)
			return e;
		local_cids_add(&c->lcids, &cid, token);
		event_cid(c, CONN_EV_CID_ISSUED, &cid);
	}
	return 0;
}

/* RFC 9001 4.1.2; keys of the handshake are of no use any more (4.9.2). */
int hs_confirm(struct conn *c, uint64_t now_us)
{
	if (c->confirmed)
		return 0;
	c->confirmed = c->keys.confirmed = true;
	c->ev_confirmed = true;
	hs_discard_keys(c, LEVEL_INITIAL, now_us);
	hs_discard_keys(c, LEVEL_HANDSHAKE, now_us);
	if (c->odcid_listed) {
		c->odcid_listed = false;
		event_cid(c, CONN_EV_CID_RETIRED, &c->keys_dcid);
	}
	struct recovery_env env = conn_env(c);
	recovery_set_timer(&c->rec, &env, now_us);
	return 0;
}

static int complete(struct conn *c, uint64_t now_us)
{
	c->established = true;
	c->ev_established = true;
	c->hs_deadline_us = CONN_NEVER;
	tls_release(c->tls);
	timer_on_received(c, now_us);
	int e = hs_issue_cids(c);
	if (!e && c->is_server) {
		c->amplify.validated = true;
		c->want_handshake_done = c->want_new_token = true;
		e = hs_confirm(c, now_us);
	}
	if (!e)
		rx_replay_stash(c);
	return e;
}

static int feed(struct conn *c, enum level level)
{
	struct recvbuf *rb = &c->crypto[level].rx;
	struct iovec iov;
	size_t bytes;
	while (recvbuf_peek(rb, &iov, 1, &bytes) > 0 && bytes) {
		int e = tls_recv(c->tls, level, iov.iov_base, iov.iov_len);
		recvbuf_consume(rb, iov.iov_len);
		if (!e)
			e = c->cb_error;
		if (e)
			return e;
	}
	return 0;
}

size_t hs_crypto_max(const struct conn *c, enum level level)
{
	return c->is_server && level == LEVEL_INITIAL ? CONN_HELLO_MAX : CONN_CRYPTO_MAX;
}

int hs_recv(struct conn *c, enum level level, uint64_t off, const uint8_t *data, size_t len, uint64_t now_us)
{
	struct recvbuf *rb = &c->crypto[level].rx;
	/* The rest of the very packet that brought the end of its level: it may repeat, not go on. RFC 9001 4.1.3 */
	if (c->rec.space[level_space(level)].discarded)
		return off + len > rb->highest ? QE_PROTOCOL_VIOLATION : 0;
	if (off + len > rb->read_off + hs_crypto_max(c, level))
		return QE_CRYPTO_BUFFER_EXCEEDED;
	int e = recvbuf_insert(rb, off, data, len, false);
	if (e == QE_LIMIT)
		return QE_CRYPTO_BUFFER_EXCEEDED;
	if (e)
		return e;
	bool had_handshake = pktkey_ready(&c->keys.rx[LEVEL_HANDSHAKE]);
	e = feed(c, level);
	if (e)
		return e;
	/* TLS went on to the next level: what waits behind a gap of this one was never to be sent. RFC 9001 4.1.3 */
	if (tls_read_level(c->tls) > level && rb->highest > rb->read_off)
		return QE_PROTOCOL_VIOLATION;
	if (tls_state(c->tls) == TLS_DONE && !c->established)
		return complete(c, now_us);
	if (c->established)
		tls_release(c->tls);	/* a client that got its ticket needs no more of TLS */
	if (!had_handshake && pktkey_ready(&c->keys.rx[LEVEL_HANDSHAKE]))
		rx_replay_stash(c);
	return 0;
}

/* The peer shows that our Initial packets are missing there: a client by sending what it need not send any more, a
 * server by Handshake packets without the keys for them. A probe now spares the rest of the timeout, a few times in
 * all, since whoever answers every unreadable packet may do so for ever. RFC 9002 6.2.3 */
void hs_hasten(struct conn *c, uint64_t now_us)
{
	const struct recovery_space *sp = &c->rec.space[SPACE_INITIAL];
	uint64_t since_us = c->is_server ? sp->last_eliciting_at_us : c->hastened_at_us;
	/* A server that knows no round trip yet takes for one what is longer than two probes are apart. */
	uint64_t wait_us = c->is_server && !c->rec.rtt.sampled ? CONN_PROBES_APART_US : rtt_loss_delay_us(&c->rec.rtt);
	if (sp->discarded || c->hastened == CONN_HASTEN_MAX || now_us < since_us + wait_us)
		return;
	if (c->is_server && !sp->eliciting_in_flight)
		return;
	c->hastened++;
	c->hastened_at_us = now_us;
	timer_want_probes(c, SPACE_INITIAL, 1);
}

/* ---- a server that answers otherwise ------------------------------------- */

void hs_on_retry(struct conn *c, const struct packet *p, uint64_t now_us)
{
	uint8_t tag[16];
	size_t len = p->len - sizeof(tag);
	if (c->is_server || c->has_retry || c->got_packet || !p->token_len || p->version != c->version)
		return;
	if (cid_equal(&p->scid, &c->keys_dcid))
		return;
	if (retry_tag(c->version, &c->odcid, p->start, len, tag) || memcmp(tag, p->retry_tag, sizeof(tag)))
		return;
	uint8_t *token = mem_alloc(p->token_len);
	int e = token ? hs_initial_keys(c, &p->scid) : QE_NOMEM;
	if (e) {
		mem_free(token);
		conn_violation(c, e, 0, "out of memory", now_us);
		return;
	}
	memcpy(token, p->token, p->token_len);
	mem_free(c->token);
	c->token = token;
	c->token_len = p->token_len;
	c->has_retry = true;
	c->retry_scid = p->scid;
	remote_cids_set_first(&c->rcids, &p->scid);
	struct ack_result res;
	recovery_restart_initial(&c->rec, &res);
	retx_lost(c, &res.lost);
	sent_free_list(&c->rec.pool, &res.lost);
}

/* Only before anything else was heard, and not if our version is listed: then
 * it is no honest answer. RFC 9000 6.2 */
void hs_on_version_negotiation(struct conn *c, const struct packet *p, uint64_t now_us)
{
	if (c->is_server || c->got_packet || c->has_retry || !cid_equal(&p->scid, &c->keys_dcid))
		return;
	struct rd r = rd_of(p->versions, p->versions_len);
	while (rd_left(&r) >= 4)
		if (rd_uint(&r, 4) == c->version)
			return;
	struct conn_error err = { .kind = CONN_ERR_VERSION, .by_peer = true };
	strlcpy(err.reason, "the peer speaks no version of QUIC that we do", sizeof(err.reason));
	close_silently(c, &err);
}
