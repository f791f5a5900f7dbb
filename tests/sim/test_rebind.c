/* The client's address changes without its knowledge: by a NAT that forgot it, or by somebody who sends copies of its
 * packets from elsewhere. RFC 9000 9.3 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "conn/conn_int.h"
#include "support/simworld.h"

#define MB UINT64_C(1000000)

/* Watches what the server sends to an address before the client has answered from there. */
struct nat {
	struct simworld w;
	struct addr addr;		/* watched */
	uint64_t from, to;		/* bytes that came from it and, while it was not validated, went there */
	size_t whole;			/* datagrams of 1200 bytes and more to it */
	size_t strays;			/* datagrams to where nobody is */
	bool copy;			/* the client's datagrams arrive from addr too, and first */
	bool cut;			/* the client's datagrams do not arrive */
	size_t copies;
};

static struct conn *server_conn(struct nat *n)
{
	struct simconn *s = simworld_peer(&n->w);
	return s ? s->c : NULL;
}

static void watch(void *arg, enum simfate fate, const struct simdgram *d)
{
	struct nat *n = arg;
	const struct conn *s = server_conn(n);
	bool open = s && addr_equal(&s->remote, &n->addr) && !s->amplify.validated;

	n->strays += fate == SIM_UNREACHABLE;
	if (fate == SIM_ARRIVED && addr_equal(&d->src, &n->addr))
		n->from += d->len;
	if (fate == SIM_SENT && n->copy && !d->injected && d->from == n->w.client.host) {
		n->copies++;
		simnet_inject(n->w.net, &n->addr, &d->dst, d->data, d->len);
	}
	if (fate != SIM_SENT || !addr_equal(&d->dst, &n->addr))
		return;
	n->whole += d->len >= MIN_INITIAL_DATAGRAM;
	n->to += open ? d->len : 0;
	/* RFC9000 9.3.1-2 */
	if (open && n->to > 3 * n->from)
		fail_msg("%llu bytes to an address that sent %llu", (unsigned long long)n->to,
			 (unsigned long long)n->from);
}

static bool cut(void *arg, const struct simdgram *d)
{
	struct nat *n = arg;

	return n->cut && !d->injected && d->from == n->w.client.host;
}

static struct simconn *start_with(struct nat *n, uint64_t seed, uint64_t keepalive_us)
{
	*n = (struct nat){ .cut = false };
	simworld_init(&n->w, seed);
	n->w.link = (struct simlink){ .delay_us = 15 * SIM_MS, .bytes_per_s = 1250000, .queue_bytes = 25 * 1200 };
	n->w.client_cfg.keepalive_us = keepalive_us;
	simworld_start(&n->w);
	simnet_hooks(n->w.net, &(struct simnet_hooks){ .arg = n, .watch = watch, .drop = cut });
	return simworld_handshake(&n->w);
}

static struct simconn *start(struct nat *n, uint64_t seed)
{
	return start_with(n, seed, 0);
}

/* Another mapping: the port, or the address with it. */
static void rebind(struct nat *n, bool far)
{
	struct addr *a = &n->w.client.host->addr;

	a->in4.sin_port = htons((uint16_t)(ntohs(a->in4.sin_port) + 1));
	if (far)
		a->in4.sin_addr.s_addr = htonl(ntohl(a->in4.sin_addr.s_addr) + 0x100);
	n->addr = *a;
	n->from = n->to = n->whole = 0;
}

static void check_moved(struct nat *n)
{
	const struct conn *s = server_conn(n);

	assert_true(addr_equal(&s->remote, &n->w.client.host->addr));
	assert_true(s->amplify.validated);
	assert_false(s->challenge.pending || s->former.known);
	/* RFC9000 8.2.1-5 */
	assert_true(n->whole > 0);
}

/* The interop runner's rebind-port and rebind-addr: 10 MB, a new mapping after a second and then every 5. */
static void transfer(bool far, bool upload)
{
	struct nat n;
	/* Whoever only receives, and of a sudden nothing, has no reason to say anything but this. */
	struct simconn *c = start_with(&n, 1 + far * 2 + upload, SIM_S / 4);

	n.w.server.serve = upload ? SIM_ECHO : SIM_REPLY;
	n.w.server.reply_bytes = 10 * MB;
	uint64_t start_us = simnet_now(n.w.net);
	simconn_send(c, upload ? DIR_UNI : DIR_BIDI, 1, upload ? 10 * MB : 100);
	simworld_pass(&n.w, SIM_S);
	while (!sim_streams_done(&n.w) && simnet_now(n.w.net) - start_us < 60 * SIM_S) {
		rebind(&n, far);
		simworld_pass(&n.w, 5 * SIM_S);
		check_moved(&n);
	}
	simworld_until(&n.w, sim_streams_done, SIM_S);
	assert_int_equal(upload ? simworld_peer(&n.w)->got : c->got, 10 * MB);
	/* one that had to wait for its idle timeout even once would take longer */
	assert_in_range(simnet_now(n.w.net) - start_us, 8 * SIM_S, 25 * SIM_S);
	simworld_end(&n.w);
}

static void rebind__port__download_goes_on(void **state) { transfer(false, false); }
static void rebind__port__upload_goes_on(void **state) { transfer(false, true); }
static void rebind__address__download_goes_on(void **state) { transfer(true, false); }
static void rebind__address__upload_goes_on(void **state) { transfer(true, true); }

/* New mappings at any moment, also while the last one is still being validated, over a link that loses and reorders. */
static void restless(uint64_t seed)
{
	struct nat n;
	struct simrng r;
	struct simconn *c = start_with(&n, seed, SIM_S / 4);

	n.w.link.loss = 20;
	n.w.link.reorder = 20;
	n.w.link.duplicate = 20;
	simnet_link(n.w.net, n.w.client.host, n.w.server.host, &n.w.link);
	simrng_init(&r, seed, 4);
	simconn_send(c, DIR_BIDI, 4, MB / 2);
	for (int i = 0; i < 20 && !sim_streams_done(&n.w); i++) {
		rebind(&n, simrng_chance(&r, 500));
		simworld_pass(&n.w, SIM_MS + simrng_below(&r, SIM_S / 2));
	}
	simworld_until(&n.w, sim_streams_done, 60 * SIM_S);
	assert_int_equal(c->got, 4 * MB / 2);
	assert_false(c->closed);
	simworld_pass(&n.w, 10 * SIM_S);
	check_moved(&n);
	simworld_end(&n.w);
}

static void rebind__at_any_moment__every_byte_arrives(void **state)
{
	simworld_each_seed(50, restless);
}

/* After a pause the client sends a few bytes only: three times that is no whole datagram, so the first challenge is a
 * small one, and a second shows that large ones pass (RFC9000 8.2.3-2). */
static void rebind__few_bytes_after_a_pause__second_challenge_is_whole(void **state)
{
	struct nat n;
	struct simconn *c = start(&n, 11);

	simworld_pass(&n.w, 5 * SIM_S);
	size_t tokens = c->tokens;
	rebind(&n, false);
	conn_ping(c->c);
	simconn_touch(c);
	simworld_pass(&n.w, 10 * SIM_S);
	assert_true(n.to > 0);
	check_moved(&n);
	assert_true(c->tokens > tokens);	/* RFC9000 9.3-8 */
	simconn_send(c, DIR_BIDI, 1, 100000);
	simworld_until(&n.w, sim_streams_done, 10 * SIM_S);
	simworld_end(&n.w);
}

/* Only long headers arrive; what is coalesced with them is cut off. */
static bool cut_1rtt(void *arg, const struct simdgram *d)
{
	struct nat *n = arg;
	struct rd r = rd_of(d->data, d->len);
	size_t whole = 0;
	struct packet p;

	if (!n->cut || d->injected || d->from != n->w.client.host)
		return false;
	while (rd_left(&r) && !packet_parse(&r, n->w.server_cfg.cid_len, &p) && packet_is_long(p.first))
		whole = (size_t)(p.start + p.len - d->data);
	if (whole && whole < d->len)
		simnet_inject(n->w.net, &d->src, &d->dst, d->data, whole);
	return whole < d->len;
}

/* The first that the server sees of 1-RTT comes from another port: with the connection ID of the handshake, since a NAT
 * changes none. RFC9000 9.5 */
static void rebind__before_the_first_1rtt_packet__server_follows(void **state)
{
	struct nat n = { .cut = true };

	simworld_init(&n.w, 16);
	simworld_start(&n.w);
	simnet_hooks(n.w.net, &(struct simnet_hooks){ .arg = &n, .watch = watch, .drop = cut_1rtt });
	struct simconn *c = simworld_handshake(&n.w);
	assert_int_equal(server_conn(&n)->ackq[SPACE_APP].largest, PN_NONE);
	rebind(&n, false);
	n.cut = false;
	simconn_send(c, DIR_BIDI, 1, 100000);
	simworld_until(&n.w, sim_streams_done, 5 * SIM_S);
	simworld_pass(&n.w, 5 * SIM_S);
	check_moved(&n);
	simworld_end(&n.w);
}

/* RFC9000 9.4-2: another address is another path, another port most often is not */
static void rebind__address__congestion_and_round_trip_begin_anew(void **state)
{
	for (int far = 0; far < 2; far++) {
		struct nat n;
		struct simconn *c = start(&n, 12);
		struct conn *s = server_conn(&n);

		simconn_send(c, DIR_BIDI, 1, 300000);
		simworld_until(&n.w, sim_streams_done, 10 * SIM_S);
		simworld_pass(&n.w, SIM_S);
		uint64_t min_us = s->rec.rtt.first_sample_at_us;
		rebind(&n, far);
		conn_ping(c->c);
		simconn_touch(c);
		simworld_pass(&n.w, 5 * SIM_S);
		check_moved(&n);
		assert_int_equal(s->rec.rtt.first_sample_at_us != min_us, far);
		assert_int_equal(s->rec.path_since_us != 0, far);
		simworld_end(&n.w);
	}
}

/* Copies from elsewhere that overtake the client's own packets: the connection is not lost, and the place that they
 * seem to come from is not flooded (watch). RFC9000 9.3.1, 9.3.2, 9.3.3 */
static void spoof__copies_overtake__connection_stays_with_the_client(void **state)
{
	struct nat n;
	struct simconn *c = start(&n, 13);

	n.addr = n.w.client.host->addr;
	n.addr.in4.sin_addr.s_addr ^= htonl(0x100);
	n.w.server.serve = SIM_REPLY;
	n.w.server.reply_bytes = MB;
	n.copy = true;
	simconn_send(c, DIR_BIDI, 1, 1000);
	simworld_pass(&n.w, SIM_S / 2);
	n.copy = false;
	assert_true(n.copies > 1);
	simworld_until(&n.w, sim_streams_done, 30 * SIM_S);
	simworld_pass(&n.w, 5 * SIM_S);
	assert_true(addr_equal(&server_conn(&n)->remote, &n.w.client.host->addr));
	assert_false(c->closed);
	simworld_end(&n.w);
}

/* RFC9000 9.3.2-3: the one copy arrives alone, and nobody answers there */
static void spoof__no_answer__back_to_the_last_address(void **state)
{
	struct nat n;
	struct simconn *c = start(&n, 14);
	struct conn *s = server_conn(&n);

	simworld_pass(&n.w, SIM_S);
	n.addr = n.w.client.host->addr;
	n.addr.in4.sin_addr.s_addr ^= htonl(0x100);
	n.copy = n.cut = true;
	conn_ping(c->c);
	simconn_touch(c);
	simworld_pass(&n.w, SIM_MS);
	n.copy = false;
	assert_true(addr_equal(&s->remote, &n.addr));
	assert_true(s->challenge.pending && s->former.challenge.pending);
	simworld_pass(&n.w, 5 * SIM_S);
	assert_true(addr_equal(&s->remote, &n.w.client.host->addr));
	assert_true(s->amplify.validated);
	assert_true(n.strays > 0);
	n.cut = false;
	simconn_send(c, DIR_BIDI, 1, 100000);
	simworld_until(&n.w, sim_streams_done, 30 * SIM_S);
	simworld_end(&n.w);
}

/* RFC9000 9.3.3-4: the challenge at the former address makes the client speak up there */
static void spoof__one_copy__client_wins_by_answering(void **state)
{
	struct nat n;
	struct simconn *c = start(&n, 15);
	struct conn *s = server_conn(&n);

	simworld_pass(&n.w, SIM_S);
	n.addr = n.w.client.host->addr;
	n.addr.in4.sin_addr.s_addr ^= htonl(0x100);
	n.copy = true;
	conn_ping(c->c);
	simconn_touch(c);
	simworld_pass(&n.w, SIM_MS);
	n.copy = false;
	assert_true(addr_equal(&s->remote, &n.addr));
	simworld_pass(&n.w, 100 * SIM_MS);
	assert_true(addr_equal(&s->remote, &n.w.client.host->addr));
	simworld_end(&n.w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rebind__port__download_goes_on),
		cmocka_unit_test(rebind__port__upload_goes_on),
		cmocka_unit_test(rebind__address__download_goes_on),
		cmocka_unit_test(rebind__address__upload_goes_on),
		cmocka_unit_test_teardown(rebind__at_any_moment__every_byte_arrives, simworld_report),
		cmocka_unit_test(rebind__few_bytes_after_a_pause__second_challenge_is_whole),
		cmocka_unit_test(rebind__before_the_first_1rtt_packet__server_follows),
		cmocka_unit_test(rebind__address__congestion_and_round_trip_begin_anew),
		cmocka_unit_test(spoof__copies_overtake__connection_stays_with_the_client),
		cmocka_unit_test(spoof__no_answer__back_to_the_last_address),
		cmocka_unit_test(spoof__one_copy__client_wins_by_answering),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
