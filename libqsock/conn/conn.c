/* A connection's life and the acts of the application upon it. Everything that
 * happens by itself is in the other files of this folder. */
#include "conn/conn_int.h"

#include "base/mem.h"
#include "crypto/retry.h"

/* Until its address is validated a client is sent datagrams with Initial packets, and those are not smaller. */
bool conn_amplify_blocked(const struct conn *c)
{
	return amplify_budget(&c->amplify) < MIN_INITIAL_DATAGRAM;
}

struct recovery_env conn_env(const struct conn *c)
{
	return (struct recovery_env){
		.is_server = c->is_server,
		.handshake_confirmed = c->confirmed,
		.has_handshake_keys = pktkey_ready(&c->keys.tx[LEVEL_HANDSHAKE]),
		/* A client knows it once a Handshake packet is acknowledged or the handshake confirmed. RFC 9002 A.6 */
		.peer_validated = c->is_server || c->confirmed ||
				  recovery_largest_acked(&c->rec, SPACE_HANDSHAKE) != PN_NONE,
		.amplification_blocked = conn_amplify_blocked(c),
		.max_ack_delay_us = c->have_peer_params ? c->peer.max_ack_delay_ms * 1000 : 25000,
	};
}

uint64_t conn_pto(const struct conn *c)
{
	struct recovery_env env = conn_env(c);
	return recovery_pto_us(&c->rec, &env);
}

int conn_new_local_cid(struct conn *c, struct cid *cid, uint8_t token[RESET_TOKEN_LEN])
{
	*cid = (struct cid){ .len = c->cfg->cid_len };
	rng_fill(c->rng, cid->b, cid->len);
	return reset_token_make(c->cfg->reset_key, cid, token);
}

/* ---- life ---------------------------------------------------------------- */

static struct conn *conn_new(const struct conn_config *cfg, const struct rng *rng, bool is_server,
			     const struct addr *local, const struct addr *remote, uint64_t now_us)
{
	struct cid scid;
	uint8_t token[RESET_TOKEN_LEN];
	struct conn *c = mem_zalloc(sizeof(*c));
	if (!c)
		return NULL;
	c->cfg = cfg;
	c->rng = rng;
	c->is_server = is_server;
	c->version = QUIC_V1;
	c->local = *local;
	c->remote = *remote;
	c->mss = cfg->mss;
	TAILQ_INIT(&c->stash);
	STAILQ_INIT(&c->blobs);
	keyring_init(&c->keys, cfg->key_update_packets);
	for (int l = 0; l < LEVEL_COUNT; l++) {
		sendbuf_init(&c->crypto[l].tx);
		recvbuf_init(&c->crypto[l].rx);
	}
	amplify_init(&c->amplify, !is_server);
	challenge_init(&c->challenge);
	challenge_init(&c->former.challenge);
	bucket_init(&c->noise, CONN_NOISE_PER_S, CONN_NOISE_BURST, now_us);
	recovery_init(&c->rec, cfg->cc, cfg->mss, cfg->ecn, now_us);
	for (int s = 0; s < SPACE_COUNT; s++)
		ackq_init(&c->ackq[s], s == SPACE_APP ? CONN_OUR_ACK_DELAY_US : 0);
	streams_init(&c->streams, is_server, &cfg->limits);
	if (conn_new_local_cid(c, &scid, token)) {
		conn_free(c);
		return NULL;
	}
	local_cids_init(&c->lcids, &scid);
	memcpy(c->lcids.v[0].token, token, sizeof(token));
	event_cid(c, CONN_EV_CID_ISSUED, &scid);
	timer_start_handshake(c, now_us);
	return c;
}

struct conn *conn_new_client(const struct conn_config *cfg, const struct rng *rng, const struct addr *local,
			     const struct addr *remote, const char *server_name, const uint8_t *token, size_t token_len,
			     const uint8_t *session, size_t session_len, uint64_t now_us)
{
	struct conn *c = conn_new(cfg, rng, false, local, remote, now_us);
	if (!c)
		return NULL;
	c->odcid.len = 8;	/* at least 8 and unpredictable: RFC 9000 7.2 */
	rng_fill(rng, c->odcid.b, c->odcid.len);
	remote_cids_init(&c->rcids, &c->odcid);
	if (server_name && !(c->server_name = mem_strdup(server_name)))
		goto fail;
	if (token_len) {
		c->token = mem_alloc(token_len);
		if (!c->token)
			goto fail;
		memcpy(c->token, token, token_len);
		c->token_len = token_len;
	}
	if (hs_initial_keys(c, &c->odcid) || hs_start_client(c, session, session_len))
		goto fail;
	return c;
fail:
	conn_free(c);
	return NULL;
}

struct conn *conn_new_server(const struct conn_config *cfg, const struct rng *rng, const struct addr *local,
			     const struct addr *remote, const struct packet *first, const struct cid *odcid,
			     const struct cid *retry_scid, bool validated, uint64_t now_us)
{
	struct conn *c = conn_new(cfg, rng, true, local, remote, now_us);
	if (!c)
		return NULL;
	c->odcid = *odcid;
	c->has_retry = retry_scid != NULL;
	if (retry_scid)
		c->retry_scid = *retry_scid;
	c->amplify.validated = validated;
	remote_cids_init(&c->rcids, &first->scid);
	if (hs_initial_keys(c, &first->dcid) || hs_start_server(c)) {
		conn_free(c);
		return NULL;
	}
	c->used_cid = c->lcids.v[0].cid;
	c->odcid_listed = true;
	event_cid(c, CONN_EV_CID_ISSUED, &first->dcid);
	return c;
}

void conn_free(struct conn *c)
{
	struct stash *s;
	if (!c)
		return;
	while ((s = TAILQ_FIRST(&c->stash))) {
		TAILQ_REMOVE(&c->stash, s, link);
		mem_free(s);
	}
	event_fini(c);
	tls_free(c->tls);
	keyring_fini(&c->keys);
	for (int l = 0; l < LEVEL_COUNT; l++) {
		sendbuf_fini(&c->crypto[l].tx);
		recvbuf_fini(&c->crypto[l].rx);
	}
	recovery_fini(&c->rec);
	for (int i = 0; i < SPACE_COUNT; i++)
		ackq_fini(&c->ackq[i]);
	streams_fini(&c->streams);
	mem_free(c->token);
	mem_free(c->server_name);
	mem_free(c);
}

/* ---- streams ------------------------------------------------------------- */

static bool usable(const struct conn *c)
{
	return c->state == CONN_ACTIVE && c->established;
}

static void settle(struct conn *c, struct stream *s)
{
	streams_update(&c->streams, s);
	streams_reap(&c->streams, s);
}

int conn_stream_open(struct conn *c, int dir, struct stream **out)
{
	if (c->state != CONN_ACTIVE)
		return QE_CLOSED;
	return c->established ? streams_open(&c->streams, dir, out) : QE_AGAIN;
}

uint64_t conn_stream_credit(const struct conn *c, int dir)
{
	return usable(c) ? streams_local_credit(&c->streams, dir) : 0;
}

size_t conn_stream_claim(struct conn *c, struct stream *s, size_t want, struct iovec *iov, int cap, int *n)
{
	uint64_t held = sendbuf_held(&s->sb), max = c->cfg->max_send_bytes;
	*n = 0;
	if (c->state != CONN_ACTIVE || !stream_tx_open(s))
		return 0;
	if (held >= max) {
		s->tx_waiting = true;
		return 0;
	}
	if (want > max - held)
		want = (size_t)(max - held);
	size_t got = sendbuf_claim(&s->sb, want, iov, cap, n);
	if (!got && want)
		s->tx_waiting = held > 0;	/* no memory: what is acknowledged gives some back */
	return got;
}

void conn_stream_commit(struct conn *c, struct stream *s, size_t len)
{
	sendbuf_commit(&s->sb, len);
	streams_update(&c->streams, s);
}

int conn_stream_finish(struct conn *c, struct stream *s)
{
	int e = stream_finish(s);
	streams_update(&c->streams, s);
	return e;
}

int conn_stream_reset(struct conn *c, struct stream *s, uint64_t code)
{
	int e = stream_reset(s, code);
	streams_update(&c->streams, s);
	return e;
}

int conn_stream_stop_sending(struct conn *c, struct stream *s, uint64_t code)
{
	int e = stream_stop_sending(s, code);
	streams_update(&c->streams, s);
	return e;
}

int conn_stream_peek(struct conn *c, struct stream *s, struct iovec *iov, int cap, size_t *bytes, int *end)
{
	int n = recvbuf_peek(&s->rb, iov, cap, bytes);
	*end = *bytes == recvbuf_readable(&s->rb) ? stream_end(s) : 0;
	return n;
}

void conn_stream_consume(struct conn *c, struct stream *s, size_t n)
{
	streams_consume(&c->streams, s, n);
}

void conn_stream_read_end(struct conn *c, struct stream *s)
{
	stream_read_end(s);
	streams_update(&c->streams, s);
}

void conn_stream_release(struct conn *c, struct stream *s)
{
	stream_release(s);
	s->app = NULL;
	settle(c, s);
}

void conn_stream_announce(struct conn *c, struct stream *s)
{
	stream_announce(s);
	streams_update(&c->streams, s);
}

/* ---- the rest ------------------------------------------------------------ */

int conn_key_update(struct conn *c, uint64_t now_us)
{
	int e = c->confirmed && c->state == CONN_ACTIVE ? keyring_update(&c->keys, now_us) : QE_AGAIN;
	if (e)
		return e;
	c->want_ping = true;	/* so that the peer sees the new phase soon */
	return 0;
}

void conn_ping(struct conn *c) { c->want_ping = true; }

bool conn_all_acked(const struct conn *c)
{
	struct stream *s;
	if (c->state != CONN_ACTIVE)
		return true;
	RB_FOREACH(s, stream_tree, (struct stream_tree *)&c->streams.tree)
		if (s->tx != STX_NONE && !stream_tx_terminal(s) && (sendbuf_held(&s->sb) || s->sb.fin || s->want))
			return false;
	return true;
}

void conn_notify_acked(struct conn *c) { c->ev_acked_wanted = true; }

void conn_info(const struct conn *c, struct conn_info *out)
{
	const struct recovery *r = &c->rec;
	*out = (struct conn_info){
		.established = c->established, .confirmed = c->confirmed, .is_server = c->is_server,
		.version = c->version, .local = c->local, .remote = c->remote,
		.odcid = c->odcid, .local_cid = c->lcids.v[0].cid, .remote_cid = *remote_cids_current(&c->rcids),
		.rtt_us = r->rtt.smoothed_us, .rtt_min_us = r->rtt.min_us, .rtt_var_us = r->rtt.var_us,
		.cwnd = r->cc.cwnd, .in_flight = r->in_flight, .pacing_rate = r->cc.ops->pacing_rate(&r->cc, &r->rtt),
		.packets_sent = r->packets_sent, .packets_received = c->packets_rx, .packets_lost = r->packets_lost,
		.bytes_sent = r->bytes_sent, .bytes_received = c->bytes_rx,
		.streams_open = c->streams.count, .mss = c->mss, .ecn = r->ecn.state, .key_updates = c->keys.updates,
		.tls = c->tls ? tls_info(c->tls) : NULL,
	};
}

const struct addr *conn_remote(const struct conn *c) { return &c->remote; }
void *conn_app(const struct conn *c) { return c->app; }
void conn_set_app(struct conn *c, void *app) { c->app = app; }
void *conn_endpoint_data(const struct conn *c) { return c->endpoint_data; }
void conn_set_endpoint_data(struct conn *c, void *p) { c->endpoint_data = p; }
