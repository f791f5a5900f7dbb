/* Single rules of RFC 9000, 9001 and 9002 that a connection keeps, each looked at where it shows:
 * in a datagram's bytes, in a deadline, in what is dropped. Reaches into the connection to get there. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "conn/conn_int.h"
#include "support/connpair.h"
#include "support/leak.h"
#include "tls/config.h"

/* ---- help ---------------------------------------------------------------- */

static bool drop_to_client(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	return !to_server;
}

/* One poll of one connection, outside the pair's network. Returns the bytes of what it sent. */
static size_t poll_once(struct connpair *p, struct conn *c, uint8_t buf[65536])
{
	struct train t = { .buf = buf, .cap = 65536, .max_segs = 1 };
	return conn_poll_transmit(c, &t, p->now_us) ? t.len : 0;
}

/* The client has sent its first flight, the server's was made and is lost. The hellos take one datagram each, whatever
 * key shares this OpenSSL prefers. */
static void half_way(struct connpair *p, uint64_t seed)
{
	connpair_init(p, seed);
	assert_int_equal(SSL_CTX_set1_groups_list(p->ctls->ctx, "X25519"), 1);
	assert_int_equal(SSL_CTX_set1_groups_list(p->stls->ctx, "X25519"), 1);
	p->filter = drop_to_client;
	connpair_start(p);
	connpair_run(p, p->now_us + 20000);
	assert_non_null(p->server);
}

/* ---- packets ------------------------------------------------------------- */

static void conn_coalesced__smallest_packet_first__next_one_is_whole(void **state)
{
	struct connpair p;
	static uint8_t buf[65536];
	struct packet pkt;
	half_way(&p, 1);
	p.server->amplify.validated = true;
	p.server->probes[SPACE_INITIAL] = p.server->probes[SPACE_HANDSHAKE] = 1;
	size_t len = poll_once(&p, p.server, buf);
	assert_true(len >= MIN_INITIAL_DATAGRAM);
	struct rd r = rd_of(buf, len);
	/* RFC9001 5.4.2-6 */
	assert_int_equal(packet_parse(&r, 8, &pkt), 0);
	assert_int_equal(pkt.type, PACKET_INITIAL);
	assert_int_equal(packet_parse(&r, 8, &pkt), 0);
	assert_int_equal(pkt.type, PACKET_HANDSHAKE);
	assert_true(cid_equal(&pkt.scid, &p.server->lcids.v[0].cid));
	assert_int_equal(rd_left(&r), 0);
	connpair_fini(&p);
}

static bool short_ones_too_small(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	unsigned *count = p->filter_arg;
	/* RFC9000 10.3-12: 22 bytes more than the sender's own connection IDs */
	size_t own = to_server ? p->ccfg.cid_len : p->scfg.cid_len;
	*count += !packet_is_long(data[0]) && len < own + 22;
	return false;
}

static void conn_short_packets__any_cid_lengths__never_smaller_than_a_reset(void **state)
{
	static const uint8_t lens[][2] = { { 8, 8 }, { 4, 8 }, { 8, 20 } };
	for (size_t i = 0; i < sizeof(lens) / sizeof(lens[0]); i++) {
		struct connpair p;
		unsigned small = 0;
		connpair_init(&p, 2);
		p.ccfg.cid_len = lens[i][0];
		p.scfg.cid_len = lens[i][1];
		p.filter = short_ones_too_small;
		p.filter_arg = &small;
		connpair_handshake(&p);
		for (int n = 0; n < 10; n++) {
			conn_ping(p.client);
			connpair_run(&p, p.now_us + 100000);
		}
		assert_int_equal(small, 0);
		/* padding of ACKs is nothing that anybody would acknowledge */
		assert_int_equal(p.server->rec.in_flight, 0);
		connpair_fini(&p);
	}
}

/* ---- datagrams that are to be ignored ------------------------------------ */

/* A packet of one PING as from would send it. */
static size_t craft_ping(struct conn *from, enum level level, const uint8_t *token, size_t token_len, uint8_t *out)
{
	struct wr w = wr_of(out, 256);
	size_t length_off, pn_len = 4;
	uint64_t pn = from->rec.space[level_space(level)].next_pn++;
	assert_true(packet_write_long(&w, level == LEVEL_INITIAL ? PACKET_INITIAL : PACKET_HANDSHAKE, from->version,
				      remote_cids_current(&from->rcids), &from->lcids.v[0].cid, token, token_len, pn,
				      pn_len, &length_off));
	size_t hdr_len = wr_len(&w);
	frame_write_ping(&w);
	packet_patch_length(out, length_off, pn_len + 1 + AEAD_TAG_LEN);
	assert_int_equal(keyring_seal(&from->keys, level, pn, out, hdr_len, out + hdr_len, 1), 0);
	const uint8_t *sample = out + hdr_len - pn_len + 4;
	uint8_t mask[1][HP_MASK_LEN];
	assert_int_equal(pktkey_masks(&from->keys.tx[level], &sample, 1, mask), 0);
	hp_protect(out, hdr_len - pn_len, mask[0]);
	return hdr_len + 1 + AEAD_TAG_LEN;
}

static void feed(struct connpair *p, struct conn *to, uint8_t *data, size_t len)
{
	struct datagram d = { .data = data, .len = len };
	d.local = to == p->server ? p->saddr : p->caddr;
	d.remote = to == p->server ? p->caddr : p->saddr;
	conn_recv(to, &d, 1, p->now_us);
}

static void conn_initial__small_datagram_to_server__ignored(void **state)
{
	struct connpair p;
	uint8_t buf[1200] = { 0 };
	half_way(&p, 3);
	uint64_t before = p.server->packets_rx;
	/* RFC9000 14.1-5 */
	size_t len = craft_ping(p.client, LEVEL_INITIAL, NULL, 0, buf);
	feed(&p, p.server, buf, len);
	assert_int_equal(p.server->packets_rx, before);
	memset(buf, 0, sizeof(buf));
	craft_ping(p.client, LEVEL_INITIAL, NULL, 0, buf);
	feed(&p, p.server, buf, sizeof(buf));	/* zeros behind the packet are no PADDING, but make it large enough */
	assert_int_equal(p.server->packets_rx, before + 1);
	connpair_fini(&p);
}

static void conn_initial__token_from_server__ignored(void **state)
{
	struct connpair p;
	uint8_t buf[256], token[] = { 1, 2, 3 };
	half_way(&p, 4);
	uint64_t before = p.client->packets_rx;
	/* RFC9000 17.2.2-8 */
	size_t len = craft_ping(p.server, LEVEL_INITIAL, token, sizeof(token), buf);
	feed(&p, p.client, buf, len);
	assert_int_equal(p.client->packets_rx, before);
	assert_int_equal(p.client->state, CONN_ACTIVE);
	len = craft_ping(p.server, LEVEL_INITIAL, NULL, 0, buf);
	feed(&p, p.client, buf, len);
	assert_int_equal(p.client->packets_rx, before + 1);
	connpair_fini(&p);
}

static bool largest_short(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	size_t *largest = p->filter_arg;
	if (!packet_is_long(data[0]) && len > largest[to_server])
		largest[to_server] = len;
	return false;
}

static void conn_path_challenge__both_frames__fill_their_datagrams(void **state)
{
	struct connpair p;
	size_t largest[2] = { 0 };
	connpair_init(&p, 5);
	connpair_handshake(&p);
	p.filter = largest_short;
	p.filter_arg = largest;
	challenge_start(&p.client->challenge, &p.rng, p.now_us, 100000, 300000);
	connpair_run(&p, p.now_us + 100000);
	assert_false(p.client->challenge.pending);
	/* RFC9000 8.2.1-6, 8.2.2-5 */
	assert_true(largest[1] >= MIN_INITIAL_DATAGRAM);
	assert_true(largest[0] >= MIN_INITIAL_DATAGRAM);
	connpair_fini(&p);
}

/* ---- time ---------------------------------------------------------------- */

static void conn_idle__peer_allows_for_ever__does_not_end_at_once(void **state)
{
	/* as microseconds these pass 2^64, or nearly so */
	static const uint64_t ms[] = { VARINT_MAX, UINT64_C(18446744073709552), UINT64_C(18446744073709551) };
	for (size_t i = 0; i < sizeof(ms) / sizeof(ms[0]); i++) {
		struct connpair p;
		connpair_init(&p, 6);
		p.ccfg.idle_timeout_us = i ? 30000000 : 0;
		connpair_handshake(&p);
		p.client->peer.max_idle_timeout_ms = ms[i];
		conn_ping(p.client);
		connpair_run(&p, p.now_us + 10000000);
		assert_false(p.closed[0]);
		connpair_fini(&p);
	}
}

static bool count_handshake_packets(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	unsigned *count = p->filter_arg;
	struct rd r = rd_of(data, len);
	struct packet pkt;
	while (!to_server && rd_left(&r))
		*count += !packet_parse(&r, 8, &pkt) && pkt.type == PACKET_HANDSHAKE;
	return true;
}

static void conn_pto__initial_and_handshake_in_flight__both_are_probed(void **state)
{
	struct connpair p;
	unsigned count = 0;
	half_way(&p, 7);
	p.server->amplify.validated = true;
	assert_true(p.server->rec.space[SPACE_HANDSHAKE].eliciting_in_flight > 0);
	p.filter = count_handshake_packets;
	p.filter_arg = &count;
	/* RFC9002 6.2.4-6 */
	connpair_run(&p, recovery_deadline(&p.server->rec));
	assert_int_equal(p.server->rec.pto_count, 1);
	assert_true(count > 0);
	connpair_fini(&p);
}

static void conn_initial__client_repeats_itself__server_does_not_wait(void **state)
{
	struct connpair p;
	static uint8_t buf[65536];
	unsigned sent = 0;
	half_way(&p, 26);
	p.server->amplify.validated = true;
	/* RFC9002 6.2.3-1, -2: a few times */
	for (int k = 0; k < 100; k++) {
		uint8_t b[1200] = { 0 };
		uint64_t before = p.server->rec.space[SPACE_INITIAL].next_pn;
		craft_ping(p.client, LEVEL_INITIAL, NULL, 0, b);
		p.now_us += 100000;
		feed(&p, p.server, b, sizeof(b));
		while (poll_once(&p, p.server, buf))
			;
		sent += p.server->rec.space[SPACE_INITIAL].eliciting_in_flight > 1 + sent;
		assert_true(p.server->rec.space[SPACE_INITIAL].next_pn > before);
	}
	assert_int_equal(sent, CONN_HASTEN_MAX);
	connpair_fini(&p);
}

/* Of all that the server sends only the second probe arrives. */
static bool second_probe_only(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	unsigned *count = p->filter_arg;
	if (to_server || !p->server->rec.pto_count)
		return !to_server;
	return ++*count != 2;
}

static void conn_pto__initial_in_flight__each_datagram_brings_it(void **state)
{
	struct connpair p;
	unsigned count = 0;
	half_way(&p, 24);
	p.server->amplify.validated = true;
	p.filter = second_probe_only;
	p.filter_arg = &count;
	/* RFC9002 6.2.4-2, -9 */
	connpair_run(&p, recovery_deadline(&p.server->rec) + p.delay_us);
	assert_int_equal(count, CONN_PROBES);
	assert_true(pktkey_ready(&p.client->keys.rx[LEVEL_HANDSHAKE]));
	connpair_fini(&p);
}

/* Two packets of data and the first of the two probes that repeat them are lost. */
static bool two_and_a_probe(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	unsigned *count = p->filter_arg;
	return to_server && len > 1000 && ++*count <= 3;
}

static void conn_pto__probe_lost__repeated_once(void **state)
{
	struct connpair p;
	struct stream *s;
	struct iovec iov[8];
	unsigned count = 0;
	int n;
	connpair_init(&p, 25);
	connpair_handshake(&p);
	connpair_run(&p, p.now_us + 1000000);
	p.filter = two_and_a_probe;
	p.filter_arg = &count;
	assert_int_equal(conn_stream_open(p.client, DIR_BIDI, &s), 0);
	size_t len = conn_stream_claim(p.client, s, 2300, iov, 8, &n);
	assert_int_equal(len, 2300);
	for (int i = 0; i < n; i++)
		memset(iov[i].iov_base, 0, iov[i].iov_len);
	conn_stream_commit(p.client, s, len);
	connpair_run(&p, p.now_us + 5000000);
	assert_true(conn_all_acked(p.client));
	assert_int_equal(count, 2 + CONN_PROBES + 1);
	connpair_fini(&p);
}

/* ---- the end ------------------------------------------------------------- */

static void conn_closing__small_packets_arrive__answers_stay_below_three_times(void **state)
{
	struct connpair p;
	static uint8_t buf[65536];
	uint8_t junk[30] = { 0x40 };
	char reason[200];
	size_t in = 0, out = 0;
	connpair_init(&p, 8);
	connpair_handshake(&p);
	memset(reason, 'x', sizeof(reason));
	conn_close(p.server, 1, reason, sizeof(reason), p.now_us);
	assert_true(poll_once(&p, p.server, buf) > sizeof(reason));
	memcpy(junk + 1, p.server->lcids.v[0].cid.b, 8);
	for (int i = 0; i < 100; i++) {
		feed(&p, p.server, junk, sizeof(junk));
		in += sizeof(junk);
		out += poll_once(&p, p.server, buf);
		assert_true(out <= 3 * in);	/* RFC9000 10.2.1-4 */
	}
	assert_true(out > 0);
	connpair_fini(&p);
}

static void conn_stateless_reset__any_header_form__drains_in_silence(void **state)
{
	static const uint8_t first[] = { 0x40, 0xc0, 0xe0, 0x00 };
	for (size_t i = 0; i < sizeof(first); i++) {
		struct connpair p;
		static uint8_t buf[65536];
		uint8_t reset[100] = { first[i], 0, 0, 0, 1, 8 };
		connpair_init(&p, 9);
		connpair_handshake(&p);
		p.filter = drop_to_client;
		/* RFC9000 10.3-21, 10.3.1-4 */
		memcpy(reset + sizeof(reset) - RESET_TOKEN_LEN, p.server->lcids.v[0].token, RESET_TOKEN_LEN);
		conn_ping(p.client);
		feed(&p, p.client, reset, sizeof(reset));
		assert_int_equal(conn_error(p.client)->kind, CONN_ERR_STATELESS_RESET);
		assert_int_equal(poll_once(&p, p.client, buf), 0);
		connpair_run(&p, p.now_us + 2 * conn_pto(p.client));
		assert_true(p.closed[0]);
		assert_false(p.drained[0]);
		connpair_run(&p, p.now_us + 2 * conn_pto(p.client));
		assert_true(p.drained[0]);
		connpair_fini(&p);
	}
}

/* ---- deadlines ----------------------------------------------------------- */

static void conn_deadline__ack_without_keys_for_it__does_not_spin(void **state)
{
	struct connpair p;
	half_way(&p, 10);
	assert_false(pktkey_ready(&p.client->keys.tx[LEVEL_HANDSHAKE]));
	assert_int_equal(ackq_on_packet(&p.client->ackq[SPACE_HANDSHAKE], 0, true, ECN_NOT_ECT, p.now_us), 0);
	assert_true(conn_deadline(p.client, p.now_us) > p.now_us);
	connpair_fini(&p);
}

static void conn_deadline__ack_at_the_amplification_limit__does_not_spin(void **state)
{
	struct connpair p;
	static uint8_t buf[65536];
	half_way(&p, 11);
	p.server->amplify.sent = 3 * p.server->amplify.received - 700;
	assert_int_equal(ackq_on_packet(&p.server->ackq[SPACE_INITIAL], 9, true, ECN_NOT_ECT, p.now_us), 0);
	assert_int_equal(poll_once(&p, p.server, buf), 0);
	assert_true(conn_deadline(p.server, p.now_us) > p.now_us);
	/* nor is there a PTO to count while nothing may leave: RFC9002 6.2.2.1-1 */
	conn_on_timeout(p.server, recovery_deadline(&p.server->rec));
	assert_int_equal(p.server->rec.pto_count, 0);
	connpair_fini(&p);
}

static void conn_close__little_room_below_amplification_limit__is_still_said(void **state)
{
	struct connpair p;
	static uint8_t buf[65536];
	half_way(&p, 12);
	p.server->amplify.sent = 3 * p.server->amplify.received - 700;
	conn_close(p.server, 1, "no", 2, p.now_us);
	/* RFC9000 10.2.3; without anything ack-eliciting there is no padding: 14.1 */
	assert_in_range(poll_once(&p, p.server, buf), 1, 700);
	connpair_fini(&p);
}

/* What the server sends before its deadline is lost. */
static bool drop_early(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	const uint64_t *until_us = p->filter_arg;
	return !to_server && p->now_us < *until_us;
}

static void conn_handshake_timeout__idle_timeout_is_later__peer_is_told(void **state)
{
	struct connpair p;
	connpair_init(&p, 13);
	uint64_t until_us = p.now_us + 2000000;
	p.scfg.handshake_timeout_us = 2000000;
	p.filter = drop_early;
	p.filter_arg = &until_us;
	connpair_start(&p);
	connpair_run(&p, p.now_us + 2100000);
	assert_int_equal(conn_error(p.server)->kind, CONN_ERR_HANDSHAKE_TIMEOUT);
	/* RFC9000 10.1-3 */
	assert_true(p.closed[0]);
	assert_true(conn_error(p.client)->by_peer);
	connpair_fini(&p);
}

/* ---- what is repeated ----------------------------------------------------- */

/* The loss of a frame that was sent for an older limit. */
static void lose_old(struct conn *c, enum retx retx, bool uni, uint64_t off)
{
	struct sent_list l = TAILQ_HEAD_INITIALIZER(l);
	struct sent_packet *s = sent_new(&c->rec.pool);
	assert_non_null(s);
	*sent_add_frame(s) = (struct sent_frame){ .retx = (uint8_t)retx, .fin = uni, .off = off };
	TAILQ_INSERT_TAIL(&l, s, link);
	retx_lost(c, &l);
	sent_free_list(&c->rec.pool, &l);
}

static void conn_blocked_frames__old_one_lost__newer_one_is_still_sent(void **state)
{
	struct connpair p;
	connpair_init(&p, 14);
	connpair_handshake(&p);
	struct streams *ss = &p.client->streams;
	/* RFC9000 13.3-3.16 */
	ss->want_data_blocked = ss->want_streams_blocked[DIR_UNI] = true;
	lose_old(p.client, RETX_DATA_BLOCKED, false, ss->tx_credit.limit - 1);
	lose_old(p.client, RETX_STREAMS_BLOCKED, true, ss->max_local[DIR_UNI] - 1);
	assert_true(ss->want_data_blocked);
	assert_true(ss->want_streams_blocked[DIR_UNI]);
	connpair_fini(&p);
}

static void conn_stream__released_with_a_frame_to_send__gone_once_it_is_sent(void **state)
{
	struct connpair p;
	struct stream *s;
	connpair_init(&p, 15);
	connpair_handshake(&p);
	assert_int_equal(conn_stream_open(p.client, DIR_UNI, &s), 0);
	conn_stream_announce(p.client, s);
	connpair_run(&p, p.now_us + 20000);
	assert_int_equal(p.nopened[1], 1);
	s = p.opened[1][0];
	/* the end arrives before the bytes in front of it */
	assert_int_equal(streams_on_data(&p.server->streams, s, 5, (const uint8_t *)"x", 1, true), 0);
	conn_stream_release(p.server, s);
	assert_int_equal(p.server->streams.count, 1);	/* STOP_SENDING is still to go out */
	connpair_run(&p, p.now_us + 1000);
	assert_int_equal(p.server->streams.count, 0);
	connpair_fini(&p);
}

/* ---- handshake ------------------------------------------------------------ */

static void conn_crypto__repeated_after_confirmation__is_no_violation(void **state)
{
	struct connpair p;
	uint8_t finished[36] = { 20 };
	connpair_init(&p, 16);
	connpair_handshake(&p);
	/* the end of a Handshake packet whose beginning confirmed the handshake */
	assert_int_equal(hs_recv(p.server, LEVEL_HANDSHAKE, 0, finished, 36, p.now_us), 0);
	/* RFC9001 4.1.3-5.2 */
	assert_int_equal(hs_recv(p.server, LEVEL_HANDSHAKE, 1000, finished, 1, p.now_us), QE_PROTOCOL_VIOLATION);
	connpair_fini(&p);
}

static void conn_deadline__handshake_held_back_by_pacer__is_the_pacers(void **state)
{
	struct connpair p;
	static uint8_t buf[65536];
	half_way(&p, 17);
	struct conn *c = p.server;
	c->amplify.validated = true;
	assert_int_equal(sendbuf_write(&c->crypto[LEVEL_HANDSHAKE].tx, buf, 20000), 0);
	rtt_sample(&c->rec.rtt, 100000, 0, p.now_us);
	c->rec.cc.cwnd = 100000;	/* so that it is not the window */
	while (poll_once(&p, c, buf))
		;
	assert_true(recovery_cwnd_room(&c->rec));
	assert_true(sendbuf_pending(&c->crypto[LEVEL_HANDSHAKE].tx, CONN_NEVER));
	/* RFC9002 7.7 */
	assert_in_range(conn_deadline(c, p.now_us), p.now_us + 1, p.now_us + 20000);
	connpair_fini(&p);
}

static bool note_spin(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	unsigned *seen = p->filter_arg;
	if (!packet_is_long(data[0]))
		seen[to_server] |= data[0] & 0x20 ? 2 : 1;
	return false;
}

static void conn_spin_bit__not_in_use__says_nothing(void **state)
{
	struct connpair p;
	unsigned seen[2] = { 0 };
	connpair_init(&p, 18);
	connpair_handshake(&p);
	p.filter = note_spin;
	p.filter_arg = seen;
	for (int i = 0; i < 50; i++) {
		conn_ping(p.client);
		connpair_run(&p, p.now_us + 50000);
	}
	/* RFC9000 17.4-8: a random value for each packet */
	assert_int_equal(seen[0], 3);
	assert_int_equal(seen[1], 3);
	connpair_fini(&p);
}

/* Keeps the client's first datagram with a Handshake packet back. */
struct held {
	uint8_t data[1500];
	size_t len;
};

static bool hold_handshake(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	struct held *h = p->filter_arg;
	struct rd r = rd_of(data, len);
	struct packet pkt;
	while (to_server && rd_left(&r)) {
		if (packet_parse(&r, 8, &pkt) || pkt.type != PACKET_HANDSHAKE)
			continue;
		if (!h->len) {
			memcpy(h->data, data, len);
			h->len = len;
		}
		return true;
	}
	return false;
}

static void conn_ack_delay__packet_waited_for_keys__wait_is_included(void **state)
{
	struct connpair p;
	struct held h = { .len = 0 };
	connpair_init(&p, 19);
	p.filter = hold_handshake;
	p.filter_arg = &h;
	connpair_start(&p);
	for (int i = 0; i < 100 && !p.established[0]; i++)
		connpair_run(&p, p.now_us + 1000);
	assert_true(h.len > 0 && !p.established[1]);
	conn_ping(p.client);
	connpair_run(&p, p.now_us);
	uint64_t sent_us = p.now_us;
	connpair_run(&p, p.now_us + 100000);
	assert_true(p.server->nstash > 0);
	feed(&p, p.server, h.data, h.len);
	assert_true(p.server->established);
	/* RFC9000 13.2.5-4 */
	assert_int_equal(p.server->ackq[SPACE_APP].largest_at_us, sent_us + p.delay_us);
	connpair_fini(&p);
}

static void spoil(const uint8_t *data, size_t len, enum packet_type type, unsigned *count)
{
	struct rd r = rd_of(data, len);
	struct packet pkt;
	while (rd_left(&r)) {
		if (packet_parse(&r, 8, &pkt) || pkt.type != type)
			continue;
		((uint8_t *)pkt.start)[pkt.len - 1] ^= 1;
		*count += 1;
	}
}

/* What the server sends first has no Initial that can be read, what it sends by its first PTO nothing else. */
static bool handshake_before_its_keys(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	unsigned *spoiled = p->filter_arg;
	bool is_late = p->server && p->server->rec.pto_count;
	if (!to_server && !p->established[0])
		spoil(data, len, is_late ? PACKET_HANDSHAKE : PACKET_INITIAL, &spoiled[is_late]);
	return false;
}

/* The client's ACK of the first flight waited for keys: it is no round trip of a second. */
static void conn_ack_delay__peer_waited_for_keys__taken_off(void **state)
{
	struct connpair p;
	unsigned spoiled[2] = { 0 };
	connpair_init(&p, 23);
	p.filter = handshake_before_its_keys;
	p.filter_arg = spoiled;
	connpair_start(&p);
	for (int i = 0; i < 3000 && !p.established[1]; i++)
		connpair_run(&p, p.now_us + 1000);
	assert_true(p.established[1] && spoiled[0] && spoiled[1]);
	/* RFC9002 5.3-9 */
	assert_in_range(p.server->rec.rtt.smoothed_us, 2 * p.delay_us, 3 * p.delay_us);
	connpair_fini(&p);
}

/* ---- memory --------------------------------------------------------------- */

/* Whatever allocation fails, both ends live on or end cleanly. From the first answer on: before there is nobody. */
static void conn_out_of_memory__any_allocation__no_crash_no_leak(void **state)
{
	for (uint64_t nth = 1; nth < 5000; nth++) {
		struct connpair p;
		struct stream *s;
		struct iovec iov[4];
		int n;
		half_way(&p, 20);
		p.filter = NULL;
		uint64_t before = mem_test_count();
		mem_test_fail_nth(nth);
		connpair_run(&p, p.now_us + 3000000);
		for (int i = 0; i < 20; i++) {
			struct conn *c = i & 1 ? p.client : p.server;
			if (conn_stream_open(c, DIR_BIDI, &s))
				continue;
			size_t len = conn_stream_claim(c, s, 5000, iov, 4, &n);
			for (int k = 0; k < n; k++)
				memset(iov[k].iov_base, 'x', iov[k].iov_len);
			conn_stream_commit(c, s, len);
			conn_stream_release(c, s);
			connpair_run(&p, p.now_us + 3000);
		}
		connpair_run(&p, p.now_us + 1000000);
		conn_close(p.client, 0, NULL, 0, p.now_us);
		connpair_run(&p, p.now_us + 20000000);
		bool all = mem_test_count() - before < nth;
		mem_test_fail_nth(0);
		assert_true(p.drained[0] && p.drained[1]);
		connpair_fini(&p);
		if (all) {
			assert_true(nth > 50);
			return;
		}
	}
	fail_msg("never ran without a failure");
}

static void conn_data_blocked__credit_ends_before_a_packet_begins__is_sent(void **state)
{
	struct connpair p;
	struct stream *s;
	struct iovec iov;
	static uint8_t buf[65536];
	int n;
	connpair_init(&p, 21);
	connpair_handshake(&p);
	p.client->streams.tx_credit.limit = p.client->streams.tx_credit.used;
	assert_int_equal(conn_stream_open(p.client, DIR_BIDI, &s), 0);
	assert_int_equal(conn_stream_claim(p.client, s, 1, &iov, 1, &n), 1);
	*(uint8_t *)iov.iov_base = 'x';
	conn_stream_commit(p.client, s, 1);
	/* RFC9000 4.1-14 */
	assert_true(poll_once(&p, p.client, buf) > 0);
	connpair_fini(&p);
}

/* Who is tx_waiting waits for an acknowledgement, so something has to be under way. */
static void conn_stream_claim__no_memory__waits_only_for_what_will_come(void **state)
{
	struct connpair p;
	struct stream *s;
	struct iovec iov;
	int n;
	connpair_init(&p, 22);
	connpair_handshake(&p);
	assert_int_equal(conn_stream_open(p.client, DIR_BIDI, &s), 0);
	mem_test_fail_nth(1);
	assert_int_equal(conn_stream_claim(p.client, s, 1, &iov, 1, &n), 0);
	mem_test_fail_nth(0);
	assert_false(s->tx_waiting);
	for (int i = 0; !s->tx_waiting; i++) {
		assert_true(i < 1000);
		mem_test_fail_nth(i ? 1 : 0);
		size_t got = conn_stream_claim(p.client, s, 1000, &iov, 1, &n);
		mem_test_fail_nth(0);
		conn_stream_commit(p.client, s, got);
	}
	assert_true(sendbuf_held(&s->sb) > 0);
	connpair_fini(&p);
}

/* ---- registration -------------------------------------------------------- */

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(conn_coalesced__smallest_packet_first__next_one_is_whole),
		T(conn_short_packets__any_cid_lengths__never_smaller_than_a_reset),
		T(conn_initial__small_datagram_to_server__ignored),
		T(conn_initial__token_from_server__ignored),
		T(conn_path_challenge__both_frames__fill_their_datagrams),
		T(conn_idle__peer_allows_for_ever__does_not_end_at_once),
		T(conn_pto__initial_and_handshake_in_flight__both_are_probed),
		T(conn_pto__initial_in_flight__each_datagram_brings_it),
		T(conn_pto__probe_lost__repeated_once),
		T(conn_initial__client_repeats_itself__server_does_not_wait),
		T(conn_closing__small_packets_arrive__answers_stay_below_three_times),
		T(conn_stateless_reset__any_header_form__drains_in_silence),
		T(conn_deadline__ack_without_keys_for_it__does_not_spin),
		T(conn_deadline__ack_at_the_amplification_limit__does_not_spin),
		T(conn_close__little_room_below_amplification_limit__is_still_said),
		T(conn_handshake_timeout__idle_timeout_is_later__peer_is_told),
		T(conn_blocked_frames__old_one_lost__newer_one_is_still_sent),
		T(conn_stream__released_with_a_frame_to_send__gone_once_it_is_sent),
		T(conn_crypto__repeated_after_confirmation__is_no_violation),
		T(conn_deadline__handshake_held_back_by_pacer__is_the_pacers),
		T(conn_spin_bit__not_in_use__says_nothing),
		T(conn_ack_delay__packet_waited_for_keys__wait_is_included),
		T(conn_ack_delay__peer_waited_for_keys__taken_off),
		T(conn_out_of_memory__any_allocation__no_crash_no_leak),
		T(conn_data_blocked__credit_ends_before_a_packet_begins__is_sent),
		T(conn_stream_claim__no_memory__waits_only_for_what_will_come),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
