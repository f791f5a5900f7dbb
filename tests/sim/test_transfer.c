/* Bytes through every kind of bad network, whole connections on both sides, virtual time. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/simworld.h"

#define MB (UINT64_C(1) << 20)

/* What one seed's network looks like: losses of all kinds up to 30 %, anything from a LAN to a slow long link. */
static struct simlink random_link(struct simrng *r)
{
	static const uint64_t rates[] = { 0, 125000, 1250000, 12500000 };
	struct simlink l = {
		.delay_us = simrng_between(r, 100, 150 * SIM_MS),
		.bytes_per_s = rates[simrng_below(r, 4)],
		.loss = (unsigned)simrng_below(r, 301),
		.reorder = (unsigned)simrng_below(r, 301),
		.duplicate = (unsigned)simrng_below(r, 301),
	};

	l.corrupt = (unsigned)simrng_below(r, 301 - l.loss);
	if (l.bytes_per_s)
		l.queue_bytes = simrng_between(r, 15000, 500000);
	if (simrng_chance(r, 300))
		l.ecn_mark_bytes = 5000;
	l.ecn_bleach = simrng_chance(r, 200);
	return l;
}

static uint64_t transfer_on_random_network(uint64_t seed)
{
	struct simworld w;
	struct simlink back;

	simworld_init(&w, seed);
	/* A network that loses every third packet may need longer than a sensible user waits. */
	w.client_cfg.handshake_timeout_us = w.server_cfg.handshake_timeout_us = 600 * SIM_S;
	w.client_cfg.idle_timeout_us = w.server_cfg.idle_timeout_us = 0;
	struct simrng r;
	simrng_init(&r, seed, 2);
	w.link = random_link(&r);
	back = random_link(&r);
	w.server_ep.retry = simrng_chance(&r, 250);
	w.ipv6 = simrng_chance(&r, 300);
	w.client_cfg.key_update_packets = simrng_chance(&r, 300) ? simrng_between(&r, 50, 500) : 0;
	simworld_start(&w);
	simnet_link_oneway(w.net, w.server.host, w.client.host, &back);

	struct simconn *c = simworld_connect(&w, NULL);
	simconn_send(c, DIR_BIDI, 1, MB);	/* and the server echoes: a megabyte each way */
	simworld_until(&w, sim_streams_done, 7200 * SIM_S);
	assert_int_equal(c->got, MB);
	assert_int_equal(simworld_peer(&w)->got, MB);
	simconn_close(c, 7, "done");
	simworld_until(&w, sim_client_closed, SIM_S);
	assert_int_equal(c->error.kind, CONN_ERR_APPLICATION);
	simworld_pass(&w, 60 * SIM_S);
	assert_true(c->drained);
	uint64_t digest = simnet_digest(w.net);
	simworld_end(&w);
	return digest;
}

static void one_transfer(uint64_t seed)
{
	transfer_on_random_network(seed);
}

static void transfer__random_networks__every_byte_intact(void **state)
{
	simworld_each_seed(1000, one_transfer);
}

static void transfer__same_seed__same_run(void **state)
{
	for (uint64_t seed = 1; seed <= 3; seed++)
		assert_true(transfer_on_random_network(seed) == transfer_on_random_network(seed));
	assert_true(transfer_on_random_network(1) != transfer_on_random_network(2));
}

static void transfer__both_open_streams__all_arrive(void **state)
{
	struct simworld w;

	simworld_init(&w, 21);
	simworld_start(&w);
	struct simconn *c = simworld_handshake(&w), *s = simworld_peer(&w);
	simconn_send(c, DIR_BIDI, 3, 200000);
	simconn_send(c, DIR_UNI, 2, 300000);
	simconn_send(s, DIR_BIDI, 2, 150000);
	simconn_send(s, DIR_UNI, 3, 100000);
	simworld_until(&w, sim_streams_done, 60 * SIM_S);
	/* Echoes count too: each side got what the other opened and the echo of its own. */
	assert_int_equal(s->got, 3 * 200000 + 2 * 300000 + 2 * 150000);
	assert_int_equal(c->got, 2 * 150000 + 3 * 100000 + 3 * 200000);
	simworld_end(&w);
}

static void transfer__sizes_around_edges__arrive(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 63, 64, 1199, 1200, 1201, 16383, 16384, 65536, 262144, 262145 };
	struct simworld w;

	simworld_init(&w, 22);
	simworld_start(&w);
	struct simconn *c = simworld_handshake(&w);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		uint64_t before = c->got;

		simconn_send(c, DIR_BIDI, 1, sizes[i]);
		simworld_until(&w, sim_streams_done, 60 * SIM_S);
		assert_int_equal(c->got - before, sizes[i]);
	}
	simworld_end(&w);
}

/* RFC9000 4.6: more streams than the limit allows at once wait for MAX_STREAMS */
static void transfer__two_thousand_streams__limit_respected(void **state)
{
	struct simworld w;

	simworld_init(&w, 23);
	w.server_cfg.limits.max_streams[DIR_BIDI] = 10;
	simworld_start(&w);
	struct simconn *c = simworld_handshake(&w);
	simconn_send(c, DIR_BIDI, 1999, 32);
	assert_int_equal(c->opened, 10);
	simworld_until(&w, sim_streams_done, 120 * SIM_S);
	assert_int_equal(c->got, 1999 * 32);
	assert_true(simconn_count(c, CONN_EV_STREAM_CREDIT) > 0);
	simworld_end(&w);
}

/* A reader that does not read stops the writer: neither side holds more than the windows and the send buffer. */
static void transfer__reader_stops__writer_is_held(void **state)
{
	struct simworld w;

	simworld_init(&w, 24);
	w.server_cfg.limits.window = w.server_cfg.limits.window_max = 64 << 10;
	w.client_cfg.max_send_bytes = 32 << 10;
	simworld_start(&w);
	w.server.serve = SIM_IGNORE;
	struct simconn *c = simworld_handshake(&w);
	struct simstream *ss = simconn_open(c, DIR_UNI);
	ss->to_write = MB;
	ss->want_fin = true;
	simstream_pump(ss);
	simworld_pass(&w, 20 * SIM_S);
	assert_in_range(ss->written, 64 << 10, (64 + 32) << 10);
	struct simconn *s = simworld_peer(&w);
	assert_int_equal(s->got, 0);
	simstream_resume(TAILQ_FIRST(&s->streams));
	simworld_until(&w, sim_streams_done, 60 * SIM_S);
	assert_int_equal(s->got, MB);
	simworld_end(&w);
}

/* Streams together stop at the connection's window. RFC9000 4.1 */
static void transfer__many_readers_stop__connection_window_holds(void **state)
{
	struct simworld w;
	struct simstream *ss;
	uint64_t written = 0;

	simworld_init(&w, 25);
	w.server_cfg.limits.conn_window = w.server_cfg.limits.conn_window_max = 100 << 10;
	w.client_cfg.max_send_bytes = 16 << 10;
	simworld_start(&w);
	w.server.serve = SIM_IGNORE;
	struct simconn *c = simworld_handshake(&w);
	simconn_send(c, DIR_UNI, 20, 64 << 10);
	simworld_pass(&w, 20 * SIM_S);
	TAILQ_FOREACH(ss, &c->streams, link)
		written += ss->written;
	assert_in_range(written, 100 << 10, (100 + 20 * 16) << 10);
	struct simconn *s = simworld_peer(&w);
	TAILQ_FOREACH(ss, &s->streams, link)
		simstream_resume(ss);
	w.server.serve = SIM_ECHO;
	simworld_until(&w, sim_streams_done, 60 * SIM_S);
	assert_int_equal(s->got, 20 * (64 << 10));
	simworld_end(&w);
}

/* For protocols in which the server speaks first: the stream is there before it has data. */
static void transfer__announced_stream__seen_without_data(void **state)
{
	struct simworld w;

	simworld_init(&w, 33);
	simworld_start(&w);
	struct simconn *c = simworld_handshake(&w), *s = simworld_peer(&w);
	struct simstream *silent = simconn_open(c, DIR_BIDI);
	simworld_pass(&w, SIM_S);
	assert_int_equal(s->peer_opened, 0);
	w.client.announce = true;
	struct simstream *ss = simconn_open(c, DIR_BIDI);
	simworld_pass(&w, SIM_S);
	/* RFC9000 3.2: streams of the type with lower numbers exist then, too */
	assert_int_equal(s->peer_opened, 2);
	struct simstream *peer = simconn_stream(s, ss->id);
	assert_non_null(peer);
	assert_int_equal(peer->got, 0);
	assert_int_equal(peer->end, 0);
	ss->want_fin = silent->want_fin = true;
	simstream_pump(ss);
	simstream_pump(silent);
	simworld_until(&w, sim_streams_done, 5 * SIM_S);
	simworld_end(&w);
}

/* What a linger waits for. */
static void transfer__all_acked__only_when_the_peer_has_it(void **state)
{
	struct simworld w;

	simworld_init(&w, 34);
	simworld_start(&w);
	struct simconn *c = simworld_handshake(&w);
	simworld_pass(&w, SIM_S);
	assert_true(conn_all_acked(c->c));
	simconn_send(c, DIR_UNI, 1, 5000);
	assert_false(conn_all_acked(c->c));
	simworld_pass(&w, 15 * SIM_MS);		/* it has arrived, the acknowledgement has not */
	assert_int_equal(simworld_peer(&w)->got, 5000);
	assert_false(conn_all_acked(c->c));
	simworld_pass(&w, 100 * SIM_MS);
	assert_true(conn_all_acked(c->c));
	simworld_end(&w);
}

static void transfer__reset__code_arrives(void **state)
{
	struct simworld w;

	simworld_init(&w, 26);
	simworld_start(&w);
	struct simconn *c = simworld_handshake(&w);
	struct simstream *ss = simconn_open(c, DIR_UNI);
	ss->to_write = 5000;
	simstream_pump(ss);
	simworld_pass(&w, SIM_S);
	simstream_reset(ss, 0x1234567);
	simworld_until(&w, sim_streams_done, 5 * SIM_S);
	struct simstream *peer = TAILQ_FIRST(&simworld_peer(&w)->streams);
	assert_int_equal(peer->got, 5000);
	assert_int_equal(peer->end, -1);
	assert_int_equal(peer->reset_code, 0x1234567);
	simworld_end(&w);
}

/* RFC9000 3.5: STOP_SENDING is answered by a RESET_STREAM with its code */
static void transfer__stop_sending__answered_by_reset(void **state)
{
	struct simworld w;

	simworld_init(&w, 27);
	simworld_start(&w);
	w.server.serve = SIM_REFUSE;
	w.server.refuse_code = (UINT64_C(1) << 62) - 1;
	struct simconn *c = simworld_handshake(&w);
	struct simstream *ss = simconn_open(c, DIR_BIDI);
	ss->to_write = MB;
	ss->want_fin = true;
	simstream_pump(ss);
	simworld_until(&w, sim_streams_done, 10 * SIM_S);
	assert_true(ss->stopped);
	assert_int_equal(ss->stop_code, (UINT64_C(1) << 62) - 1);
	assert_int_equal(ss->end, -1);
	assert_int_equal(ss->reset_code, (UINT64_C(1) << 62) - 1);
	struct simstream *peer = TAILQ_FIRST(&simworld_peer(&w)->streams);
	assert_int_equal(peer->end, -1);
	assert_int_equal(peer->reset_code, (UINT64_C(1) << 62) - 1);
	simworld_end(&w);
}

/* Dropped streams give their credit back: many resets must not starve the connection. RFC9000 4.5 */
static void transfer__many_resets__credit_comes_back(void **state)
{
	struct simworld w;

	simworld_init(&w, 28);
	w.server_cfg.limits.conn_window = w.server_cfg.limits.conn_window_max = 64 << 10;
	simworld_start(&w);
	w.server.serve = SIM_IGNORE;
	struct simconn *c = simworld_handshake(&w);
	for (int i = 0; i < 40; i++) {
		struct simstream *ss = simconn_open(c, DIR_UNI);

		ss->to_write = 20000;
		simstream_pump(ss);
		simworld_pass(&w, SIM_S);
		simstream_reset(ss, 1);
		simworld_pass(&w, SIM_S);
		struct simstream *peer = TAILQ_LAST(&simworld_peer(&w)->streams, simstream_list);
		assert_int_equal(peer->id, ss->id);
		simstream_resume(peer);
		assert_int_equal(peer->end, -1);
	}
	w.server.serve = SIM_ECHO;
	uint64_t before = c->got;
	simconn_send(c, DIR_BIDI, 1, 200000);
	simworld_until(&w, sim_streams_done, 30 * SIM_S);
	assert_int_equal(c->got - before, 200000);
	simworld_end(&w);
}

/* The interop runner's link: 15 ms one way, 10 Mbit/s, a queue of 25 packets. */
static void transfer__typical_link__uses_most_of_it(void **state)
{
	struct simworld w;

	simworld_init(&w, 29);
	w.link = (struct simlink){ .delay_us = 15 * SIM_MS, .bytes_per_s = 1250000, .queue_bytes = 25 * 1200 };
	w.client_cfg.idle_timeout_us = w.server_cfg.idle_timeout_us = 60 * SIM_S;
	simworld_start(&w);
	struct simconn *c = simworld_handshake(&w);
	uint64_t start = simnet_now(w.net);
	simconn_send(c, DIR_UNI, 1, 10 * MB);
	simworld_until(&w, sim_streams_done, 120 * SIM_S);
	uint64_t took_us = simnet_now(w.net) - start;
	uint64_t goodput = 10 * MB * SIM_S / took_us;
	print_message("10 MB over 10 Mbit/s: %llu kB/s of 1250\n", (unsigned long long)goodput / 1000);
	assert_true(goodput > 1250000 * 70 / 100);
	simworld_end(&w);
}

static void transfer__long_round_trip__arrives(void **state)
{
	struct simworld w;

	simworld_init(&w, 30);
	w.link = (struct simlink){ .delay_us = 750 * SIM_MS, .bytes_per_s = 1250000, .queue_bytes = 500000 };
	simworld_start(&w);
	struct simconn *c = simworld_handshake(&w);
	simconn_send(c, DIR_BIDI, 1, MB);
	simworld_until(&w, sim_streams_done, 120 * SIM_S);
	assert_int_equal(c->got, MB);
	simworld_end(&w);
}

static bool two_of_seven_seconds(void *arg, const struct simdgram *d)
{
	return d->now_us / SIM_S % 7 >= 5;
}

static void transfer__blackholes__survived(void **state)
{
	struct simworld w;

	simworld_init(&w, 31);
	w.link = (struct simlink){ .delay_us = 15 * SIM_MS, .bytes_per_s = 1250000, .queue_bytes = 25 * 1200 };
	simworld_start(&w);
	simnet_hooks(w.net, &(struct simnet_hooks){ .drop = two_of_seven_seconds });
	struct simconn *c = simworld_handshake(&w);
	simconn_send(c, DIR_UNI, 1, 10 * MB);
	simworld_until(&w, sim_streams_done, 120 * SIM_S);
	assert_int_equal(simworld_peer(&w)->got, 10 * MB);
	simworld_end(&w);
}

static void transfer__fifty_connections__do_not_mix(void **state)
{
	struct simworld w;
	struct simconn *sc;

	simworld_init(&w, 32);
	simworld_start(&w);
	for (int i = 0; i < 50; i++)
		simconn_send(simworld_connect(&w, NULL), DIR_BIDI, 2, 20000);
	simworld_pass(&w, 20 * SIM_S);
	assert_int_equal(w.server.accepted, 50);
	TAILQ_FOREACH(sc, &w.client.conns, link) {
		assert_int_equal(sc->got, 40000);
		assert_int_equal(sc->done, 2);
		simconn_close(sc, 0, "");
	}
	simworld_until(&w, sim_all_drained, 20 * SIM_S);
	simworld_end(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(transfer__both_open_streams__all_arrive),
		cmocka_unit_test(transfer__sizes_around_edges__arrive),
		cmocka_unit_test(transfer__two_thousand_streams__limit_respected),
		cmocka_unit_test(transfer__reader_stops__writer_is_held),
		cmocka_unit_test(transfer__many_readers_stop__connection_window_holds),
		cmocka_unit_test(transfer__announced_stream__seen_without_data),
		cmocka_unit_test(transfer__all_acked__only_when_the_peer_has_it),
		cmocka_unit_test(transfer__reset__code_arrives),
		cmocka_unit_test(transfer__stop_sending__answered_by_reset),
		cmocka_unit_test(transfer__many_resets__credit_comes_back),
		cmocka_unit_test(transfer__typical_link__uses_most_of_it),
		cmocka_unit_test(transfer__long_round_trip__arrives),
		cmocka_unit_test(transfer__blackholes__survived),
		cmocka_unit_test(transfer__fifty_connections__do_not_mix),
		cmocka_unit_test(transfer__same_seed__same_run),
		cmocka_unit_test_teardown(transfer__random_networks__every_byte_intact, simworld_report),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
