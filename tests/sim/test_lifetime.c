/* How connections live on and end: idleness, keepalive, closing and its codes, crashed peers, key updates, ECN. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "support/simworld.h"

struct tally {			/* what went over the wire since it was last cleared */
	struct simworld *w;
	size_t sent[2];		/* datagrams by the client [0], the server [1] */
	size_t marked, ect;
	size_t smallest, largest;	/* bytes */
	bool cut;		/* the wire is cut, in both directions */
};

static bool cut_wire(void *arg, const struct simdgram *d)
{
	return ((struct tally *)arg)->cut;
}

static void count(void *arg, enum simfate fate, const struct simdgram *d)
{
	struct tally *t = arg;

	t->marked += fate == SIM_MARKED;
	if (fate != SIM_SENT)
		return;
	t->sent[d->from == t->w->client.host ? 0 : 1]++;
	t->ect += d->ecn == ECN_ECT0;
	if (d->len < t->smallest || !t->smallest)
		t->smallest = d->len;
	if (d->len > t->largest)
		t->largest = d->len;
}

static struct simconn *start(struct simworld *w, struct tally *t)
{
	*t = (struct tally){ .w = w };
	simworld_start(w);
	simnet_hooks(w->net, &(struct simnet_hooks){ .arg = t, .drop = cut_wire, .watch = count });
	return simworld_handshake(w);
}

static void clear(struct tally *t)
{
	struct simworld *w = t->w;

	*t = (struct tally){ .w = w, .cut = t->cut };
}

/* ---- idle ------------------------------------------------------------------------- */

/* RFC9000 10.1: the smaller of both sides' timeouts holds, and the end is silent */
static void idle__smaller_timeout__ends_both_silently(void **state)
{
	static const struct {
		uint64_t client_s, server_s, effective_s;
	} rows[] = { { 5, 30, 5 }, { 30, 7, 7 }, { 0, 6, 6 }, { 4, 0, 4 } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		struct simworld w;
		struct tally t;

		simworld_init(&w, 100 + i);
		w.client_cfg.idle_timeout_us = rows[i].client_s * SIM_S;
		w.server_cfg.idle_timeout_us = rows[i].server_s * SIM_S;
		struct simconn *c = start(&w, &t), *s = simworld_peer(&w);
		simworld_pass(&w, SIM_S);	/* tickets, tokens and their acknowledgements */
		uint64_t quiet_since = c->established_at_us;
		clear(&t);
		simworld_until(&w, sim_both_closed, 60 * SIM_S);
		assert_int_equal(c->error.kind, CONN_ERR_IDLE);
		assert_int_equal(s->error.kind, CONN_ERR_IDLE);
		uint64_t least = rows[i].effective_s * SIM_S;
		assert_in_range(c->closed_at_us - quiet_since, least, least + SIM_S);
		assert_in_range(s->closed_at_us - quiet_since, least, least + SIM_S);
		simworld_until(&w, sim_all_drained, SIM_S);
		assert_int_equal(t.sent[0] + t.sent[1], 0);
		simworld_end(&w);
	}
}

static void idle__no_timeout__lives_for_days(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 110);
	w.client_cfg.idle_timeout_us = w.server_cfg.idle_timeout_us = 0;
	struct simconn *c = start(&w, &t);
	simworld_pass(&w, SIM_S);
	clear(&t);
	simworld_pass(&w, 100 * 3600 * SIM_S);
	assert_int_equal(t.sent[0] + t.sent[1], 0);
	simconn_send(c, DIR_BIDI, 1, 1000);
	simworld_until(&w, sim_streams_done, SIM_S);
	simworld_end(&w);
}

static void idle__keepalive__keeps_alive(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 111);
	w.client_cfg.idle_timeout_us = w.server_cfg.idle_timeout_us = 5 * SIM_S;
	w.client_cfg.keepalive_us = 2 * SIM_S;
	struct simconn *c = start(&w, &t);
	clear(&t);
	simworld_pass(&w, 60 * SIM_S);
	assert_false(c->closed || simworld_peer(&w)->closed);
	assert_in_range(t.sent[0], 25, 70);
	simworld_end(&w);
}

static void idle__peer_vanishes_with_data_unsent__idle_timeout(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 112);
	struct simconn *c = start(&w, &t);
	simconn_send(c, DIR_BIDI, 1, 5000000);
	simworld_pass(&w, 100 * SIM_MS);
	t.cut = true;
	uint64_t cut_at = simnet_now(w.net);
	simworld_pass(&w, SIM_S);
	clear(&t);
	simworld_until(&w, sim_both_closed, 120 * SIM_S);
	assert_int_equal(c->error.kind, CONN_ERR_IDLE);
	assert_in_range(c->closed_at_us - cut_at, 29 * SIM_S, 35 * SIM_S);
	assert_in_range(t.sent[0], 3, 40);	/* probes back off */
	simworld_until(&w, sim_all_drained, 10 * SIM_S);
	simworld_end(&w);
}

static void handshake__client_vanishes__server_forgets(void **state)
{
	struct simworld w;
	struct tally t = { .w = &w };

	simworld_init(&w, 113);
	simworld_start(&w);
	simnet_hooks(w.net, &(struct simnet_hooks){ .arg = &t, .drop = cut_wire, .watch = count });
	simworld_connect(&w, NULL);
	simworld_pass(&w, 15 * SIM_MS);
	assert_int_equal(endpoint_count(w.server.host->ep), 1);
	t.cut = true;
	simworld_pass(&w, 15 * SIM_S);
	assert_int_equal(endpoint_count(w.server.host->ep), 0);
	simworld_end(&w);
}

/* ---- close -------------------------------------------------------------------------- */

/* RFC9000 10.2, 19.19 */
static void close__application__code_and_reason_arrive(void **state)
{
	static char long_reason[600];
	static const struct {
		uint64_t code;
		const char *reason;
	} rows[] = {
		{ 0, "" }, { 42, "that was all" }, { (UINT64_C(1) << 62) - 1, "largest code" }, { 1, long_reason },
	};

	memset(long_reason, 'r', sizeof(long_reason) - 1);
	for (size_t i = 0; i < 2 * sizeof(rows) / sizeof(*rows); i++) {
		struct simworld w;
		struct tally t;
		bool by_server = i % 2;

		simworld_init(&w, 120 + i);
		struct simconn *c = start(&w, &t), *s = simworld_peer(&w);
		struct simconn *closer = by_server ? s : c, *other = by_server ? c : s;
		simconn_close(closer, rows[i / 2].code, rows[i / 2].reason);
		simworld_until(&w, sim_both_closed, SIM_S);
		assert_int_equal(closer->error.kind, CONN_ERR_APPLICATION);
		assert_int_equal(other->error.kind, CONN_ERR_APPLICATION);
		assert_false(closer->error.by_peer);
		assert_true(other->error.by_peer);
		assert_true(other->error.code == rows[i / 2].code && closer->error.code == rows[i / 2].code);
		size_t len = strlen(rows[i / 2].reason);
		assert_int_equal(strlen(other->error.reason), len > 255 ? 255 : len);
		assert_memory_equal(other->error.reason, rows[i / 2].reason, strlen(other->error.reason));
		/* RFC9000 10.2: closing and draining last three PTOs; RTT is 20 ms. */
		simworld_until(&w, sim_all_drained, 2 * SIM_S);
		assert_int_equal(simconn_count(c, CONN_EV_CLOSED) + simconn_count(s, CONN_EV_CLOSED), 2);
		assert_int_equal(simconn_count(c, CONN_EV_DRAINED) + simconn_count(s, CONN_EV_DRAINED), 2);
		assert_in_range(closer->drained_at_us - closer->closed_at_us, 3 * 20 * SIM_MS, SIM_S);
		simworld_end(&w);
	}
}

static void close__transport__code_arrives(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 130);
	struct simconn *c = start(&w, &t), *s = simworld_peer(&w);
	conn_close_transport(s->c, QE_NO_VIABLE_PATH, "no way", simnet_now(w.net));
	simconn_touch(s);
	simworld_until(&w, sim_both_closed, SIM_S);
	assert_int_equal(c->error.kind, CONN_ERR_TRANSPORT);
	assert_int_equal(c->error.code, 0x10);
	assert_string_equal(c->error.reason, "no way");
	simworld_until(&w, sim_all_drained, 2 * SIM_S);
	simworld_end(&w);
}

/* RFC9000 10.2.3: before 1-RTT an application's code and reason must not show */
static void close__before_handshake_done__hides_application_code(void **state)
{
	struct simworld w;

	simworld_init(&w, 131);
	simworld_start(&w);
	struct simconn *c = simworld_connect(&w, NULL);
	simworld_pass(&w, 15 * SIM_MS);		/* the Initial has arrived, the answer has not */
	simconn_close(c, 99, "secret");
	simworld_pass(&w, 100 * SIM_MS);
	struct simconn *s = simworld_peer(&w);
	if (s) {	/* a server may keep a connection for itself until the handshake is done */
		assert_true(s->closed);
		assert_int_equal(s->error.kind, CONN_ERR_TRANSPORT);
		assert_int_equal(s->error.code, 0x0c);
		assert_string_equal(s->error.reason, "");
	}
	simworld_until(&w, sim_all_drained, 20 * SIM_S);
	simworld_end(&w);
}

/* RFC9000 10.2.1: who has closed answers a talkative peer less and less often */
static void close__lost__repeated_but_rarely(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 132);
	w.link.delay_us = 50 * SIM_MS;
	struct simconn *c = start(&w, &t), *s = simworld_peer(&w);
	simconn_send(s, DIR_UNI, 1, 2000000);
	simworld_pass(&w, 400 * SIM_MS);	/* a stream of packets is on its way */
	clear(&t);
	simconn_close(c, 5, "enough");
	t.cut = true;			/* the first CONNECTION_CLOSE is lost */
	simworld_pass(&w, SIM_MS);
	t.cut = false;
	simworld_until(&w, sim_both_closed, 5 * SIM_S);
	assert_int_equal(s->error.code, 5);
	assert_true(s->error.by_peer);
	assert_in_range(t.sent[0], 2, 16);
	simworld_until(&w, sim_all_drained, 5 * SIM_S);
	simworld_end(&w);
}

static void close__data_arrived_before__still_readable(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 133);
	struct simconn *c = start(&w, &t), *s = simworld_peer(&w);
	w.server.serve = SIM_IGNORE;
	simconn_send(c, DIR_UNI, 1, 10000);
	simworld_pass(&w, SIM_S);
	simconn_close(c, 0, "");
	simworld_pass(&w, 15 * SIM_MS);
	assert_true(s->closed && !s->drained);
	simstream_resume(TAILQ_FIRST(&s->streams));
	assert_int_equal(s->got, 10000);
	assert_int_equal(TAILQ_FIRST(&s->streams)->end, 1);
	simworld_until(&w, sim_all_drained, 5 * SIM_S);
	simworld_end(&w);
}

/* ---- a peer that lost its memory ------------------------------------------------------ */

/* RFC9000 10.3 */
static void reset__server_restarts__client_learns_at_next_packet(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 140);
	struct simconn *c = start(&w, &t);
	simworld_pass(&w, SIM_S);
	simapp_crash(&w.server, &w.server_ep, &w.server_cfg);
	clear(&t);
	simconn_send(c, DIR_BIDI, 1, 100);
	uint64_t sent_at = simnet_now(w.net);
	simworld_until(&w, sim_client_closed, 5 * SIM_S);
	assert_int_equal(c->error.kind, CONN_ERR_STATELESS_RESET);
	assert_int_equal(c->closed_at_us - sent_at, 20 * SIM_MS);
	/* RFC9000 10.3.3: shorter than what caused it, or two could play for ever */
	assert_int_equal(t.sent[1], 1);
	assert_true(t.smallest < t.largest);
	assert_in_range(t.smallest, 21, 1199);
	simworld_until(&w, sim_all_drained, 5 * SIM_S);
	simworld_end(&w);
}

/* ---- key update ----------------------------------------------------------------------- */

/* RFC9001 6 */
static void keys__updated_by_count__transfer_goes_on(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 150);
	w.link.loss = 20;
	w.link.reorder = 100;
	w.client_cfg.key_update_packets = 100;
	w.server_cfg.key_update_packets = 170;
	struct simconn *c = start(&w, &t);
	simconn_send(c, DIR_BIDI, 1, 3000000);
	simworld_until(&w, sim_streams_done, 120 * SIM_S);
	assert_int_equal(c->got, 3000000);
	struct conn_info ci, si;
	conn_info(c->c, &ci);
	conn_info(simworld_peer(&w)->c, &si);
	assert_true(ci.key_updates > 5);
	assert_true(si.key_updates > 5);
	simworld_end(&w);
}

static void keys__updated_on_demand__both_sides_follow(void **state)
{
	struct simworld w;
	struct tally t;
	struct conn_info ci, si;

	simworld_init(&w, 151);
	struct simconn *c = start(&w, &t), *s = simworld_peer(&w);
	simworld_pass(&w, SIM_S);	/* HANDSHAKE_DONE is acknowledged: RFC9001 6.2 */
	assert_int_equal(conn_key_update(s->c, simnet_now(w.net)), 0);
	simconn_touch(s);
	/* RFC9001 6.1: not again before a packet under the new keys was acknowledged */
	assert_int_equal(conn_key_update(s->c, simnet_now(w.net)), QE_AGAIN);
	simconn_send(c, DIR_BIDI, 1, 100000);
	simworld_until(&w, sim_streams_done, 10 * SIM_S);
	conn_info(c->c, &ci);
	conn_info(s->c, &si);
	assert_int_equal(ci.key_updates, 1);
	assert_int_equal(si.key_updates, 1);
	simworld_pass(&w, 5 * SIM_S);
	assert_int_equal(conn_key_update(c->c, simnet_now(w.net)), 0);
	simconn_touch(c);
	simconn_send(c, DIR_BIDI, 1, 100000);
	simworld_until(&w, sim_streams_done, 10 * SIM_S);
	conn_info(s->c, &si);
	assert_int_equal(si.key_updates, 2);
	simworld_end(&w);
}

static void keys__update_before_confirmed__refused(void **state)
{
	struct simworld w;

	simworld_init(&w, 152);
	simworld_start(&w);
	struct simconn *c = simworld_connect(&w, NULL);
	assert_int_equal(conn_key_update(c->c, simnet_now(w.net)), QE_AGAIN);	/* RFC9001 6.1 */
	simworld_until(&w, sim_both_confirmed, SIM_S);
	simworld_end(&w);
}

/* ---- ECN ------------------------------------------------------------------------------ */

/* RFC9000 13.4.2 */
static void ecn__clean_path__capable_and_marks_slow_down(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 160);
	w.link = (struct simlink){ .delay_us = 20 * SIM_MS, .bytes_per_s = 1250000, .ecn_mark_bytes = 20000 };
	struct simconn *c = start(&w, &t);
	simconn_send(c, DIR_UNI, 1, 3000000);
	simworld_until(&w, sim_streams_done, 60 * SIM_S);
	struct conn_info info;
	conn_info(c->c, &info);
	assert_int_equal(info.ecn, ECN_CAPABLE);
	assert_true(t.ect > 2000);
	/* The queue has no end: only the marks can have kept it short. A window of marks in each round trip would mean
	 * that nobody listens to them. */
	assert_in_range(t.marked, 1, 700);
	assert_int_equal(info.packets_lost, 0);
	assert_in_range(info.cwnd, 1, 400000);
	simworld_end(&w);
}

static void ecn__bleached_path__given_up(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 161);
	w.link.ecn_bleach = true;
	struct simconn *c = start(&w, &t);
	simconn_send(c, DIR_UNI, 1, 500000);
	simworld_until(&w, sim_streams_done, 60 * SIM_S);
	struct conn_info info;
	conn_info(c->c, &info);
	assert_int_equal(info.ecn, ECN_FAILED);
	clear(&t);
	simconn_send(c, DIR_UNI, 1, 500000);
	simworld_until(&w, sim_streams_done, 60 * SIM_S);
	assert_int_equal(t.ect, 0);
	simworld_end(&w);
}

static void ecn__switched_off__never_marked(void **state)
{
	struct simworld w;
	struct tally t;

	simworld_init(&w, 162);
	w.client_cfg.ecn = w.server_cfg.ecn = false;
	struct simconn *c = start(&w, &t);
	simconn_send(c, DIR_BIDI, 1, 100000);
	simworld_until(&w, sim_streams_done, 60 * SIM_S);
	assert_int_equal(t.ect, 0);
	simworld_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(idle__smaller_timeout__ends_both_silently),
		cmocka_unit_test(idle__no_timeout__lives_for_days),
		cmocka_unit_test(idle__keepalive__keeps_alive),
		cmocka_unit_test(idle__peer_vanishes_with_data_unsent__idle_timeout),
		cmocka_unit_test(handshake__client_vanishes__server_forgets),
		cmocka_unit_test(close__application__code_and_reason_arrive),
		cmocka_unit_test(close__transport__code_arrives),
		cmocka_unit_test(close__before_handshake_done__hides_application_code),
		cmocka_unit_test(close__lost__repeated_but_rarely),
		cmocka_unit_test(close__data_arrived_before__still_readable),
		cmocka_unit_test(reset__server_restarts__client_learns_at_next_packet),
		cmocka_unit_test(keys__updated_by_count__transfer_goes_on),
		cmocka_unit_test(keys__updated_on_demand__both_sides_follow),
		cmocka_unit_test(keys__update_before_confirmed__refused),
		cmocka_unit_test(ecn__clean_path__capable_and_marks_slow_down),
		cmocka_unit_test(ecn__bleached_path__given_up),
		cmocka_unit_test(ecn__switched_off__never_marked),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
