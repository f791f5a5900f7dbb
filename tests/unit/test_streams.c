/* The stream map: who may open what, turns, both levels of credit, closing. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/err.h"
#include "base/mem.h"
#include "stream/streams.h"
#include "support/leak.h"
#include "support/simrng.h"

static struct streams ss;	/* a server's */

static const struct streams_limits limits = {
	.window = 1000, .window_max = 1000, .conn_window = 3000, .conn_window_max = 3000, .max_streams = { 8, 4 },
};

static const struct tparams peer = {
	.max_data = 1000000, .max_stream_data_bidi_local = 100000, .max_stream_data_bidi_remote = 200000,
	.max_stream_data_uni = 300000, .max_streams_bidi = 5, .max_streams_uni = 2,
};

static int setup(void **state)
{
	leak_setup(state);
	streams_init(&ss, true, &limits);
	streams_set_peer(&ss, &peer);
	return 0;
}

static int teardown(void **state)
{
	mem_test_fail_nth(0);
	streams_fini(&ss);
	return leak_teardown(state);
}

static uint64_t seed_state;

static uint64_t rnd(uint64_t below)
{
	return splitmix64(&seed_state) % below;
}

static const uint8_t zeros[65536];

static struct stream *from_peer(uint64_t id)
{
	struct stream *s;
	assert_int_equal(streams_for_frame(&ss, id, false, &s), 0);
	assert_non_null(s);
	return s;
}

static struct stream *opened(int dir)
{
	struct stream *s;
	assert_int_equal(streams_open(&ss, dir, &s), 0);
	return s;
}

static void put(struct stream *s, size_t len)
{
	assert_int_equal(sendbuf_write(&s->sb, zeros, len), 0);
	streams_update(&ss, s);
}

/* Send one frame of at most cap bytes; its stream, NULL: none. */
static struct stream *send_one(size_t cap)
{
	uint64_t off, len;
	bool fin;
	struct stream *s = streams_next_sendable(&ss);
	if (!s)
		return NULL;
	assert_true(sendbuf_next(&s->sb, stream_tx_limit(s, txflow_credit(&ss.tx_credit)), &off, &len, &fin));
	fin = fin && len <= cap;
	len = len < cap ? len : cap;
	streams_sent(&ss, s, off, len, fin);
	return s;
}

/* ---- opening ------------------------------------------------------------ */

static void streams_for_frame__who_may_name_what(void **st)
{
	/* we are the server; 1 and 3 are open here, the peer may have 0-28 and 2-14 */
	static const struct { uint64_t id; bool for_tx; int want; } t[] = {
		{ 0, false, 0 }, { 0, true, 0 }, { 28, false, 0 }, { 28, true, 0 }, { 2, false, 0 }, { 14, false, 0 },
		{ 1, false, 0 }, { 1, true, 0 }, { 3, true, 0 },
		/* RFC9000 4.6-3 */
		{ 32, false, QE_STREAM_LIMIT }, { 32, true, QE_STREAM_LIMIT }, { 18, false, QE_STREAM_LIMIT },
		{ (UINT64_C(1) << 62) - 4, false, QE_STREAM_LIMIT },
		{ 2, true, QE_STREAM_STATE }, { 18, true, QE_STREAM_STATE },	/* RFC9000 19.5-2, 19.10-2 */
		{ 3, false, QE_STREAM_STATE },	/* RFC9000 19.4-3, 19.8-3, 19.13-2 */
		{ 5, false, QE_STREAM_STATE }, { 5, true, QE_STREAM_STATE }, { 7, true, QE_STREAM_STATE },
		{ (UINT64_C(1) << 62) - 1, true, QE_STREAM_STATE },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct stream *s;
		streams_fini(&ss);
		streams_init(&ss, true, &limits);
		streams_set_peer(&ss, &peer);
		opened(DIR_BIDI);
		opened(DIR_UNI);
		int e = streams_for_frame(&ss, t[i].id, t[i].for_tx, &s);
		if (e != t[i].want || (!e) != (s != NULL) || (s && s->id != t[i].id))
			fail_msg("id %llu for_tx %d: %d", (unsigned long long)t[i].id, t[i].for_tx, e);
		assert_int_equal(ss.count > 2, !e && !(t[i].id & 1));
	}
}

static void streams_for_frame__opens_lower_ones_in_order(void **st)
{
	/* RFC9000 3.2-6 */
	from_peer(8);
	from_peer(6);
	from_peer(0);
	static const uint64_t want[] = { 0, 4, 8, 2, 6 };
	for (size_t i = 0; i < 5; i++)
		assert_int_equal(streams_next_opened(&ss)->id, want[i]);
	assert_null(streams_next_opened(&ss));
	assert_int_equal(ss.count, 5);
}

static void streams_open__limit__blocked_once(void **st)
{
	/* RFC9000 4.6-6, 19.14-1 */
	struct stream *s;
	assert_int_equal(streams_local_credit(&ss, DIR_UNI), 2);
	assert_int_equal(opened(DIR_UNI)->id, 3);
	assert_int_equal(opened(DIR_UNI)->id, 7);
	assert_int_equal(streams_open(&ss, DIR_UNI, &s), QE_AGAIN);
	assert_true(ss.want_streams_blocked[DIR_UNI]);
	ss.want_streams_blocked[DIR_UNI] = ss.credit_event = false;
	assert_int_equal(streams_open(&ss, DIR_UNI, &s), QE_AGAIN);
	assert_false(ss.want_streams_blocked[DIR_UNI]);
	streams_on_max_streams(&ss, true, 1);	/* RFC9000 4.6-4 */
	assert_false(ss.credit_event);
	streams_on_max_streams(&ss, true, 3);
	assert_true(ss.credit_event);
	assert_int_equal(opened(DIR_UNI)->id, 11);
	assert_int_equal(opened(DIR_BIDI)->id, 1);
}

static void streams_set_peer__credit_by_kind_and_for_existing(void **st)
{
	/* RFC9000 18.2 */
	struct tparams more = peer;
	assert_int_equal(from_peer(0)->tx_credit.limit, 100000);
	assert_int_equal(opened(DIR_BIDI)->tx_credit.limit, 200000);
	assert_int_equal(opened(DIR_UNI)->tx_credit.limit, 300000);
	assert_int_equal(from_peer(2)->tx, STX_NONE);
	assert_int_equal(streams_find(&ss, 3)->rx, SRX_NONE);
	for (int i = 0; i < 4; i++)
		put(streams_find(&ss, 1), 50000);
	put(streams_find(&ss, 1), 1);
	while (send_one(50000))
		;
	assert_int_equal(streams_find(&ss, 1)->want, STREAM_WANT_BLOCKED);
	more.max_stream_data_bidi_remote = 200001;
	streams_set_peer(&ss, &more);
	assert_int_equal(streams_find(&ss, 1)->want, 0);
	assert_ptr_equal(send_one(50000), streams_find(&ss, 1));
	assert_null(send_one(50000));
}

/* ---- turns -------------------------------------------------------------- */

static void streams_next_sendable__turns_of_16_kb(void **st)
{
	struct stream *s[3];
	uint64_t sent[3] = { 0 };
	for (int i = 0; i < 3; i++)
		s[i] = opened(DIR_BIDI);
	for (int i = 0; i < 3; i++)
		put(s[i], 60000);
	int changes = 0;
	struct stream *was = NULL, *now;
	while ((now = send_one(1200)) != NULL) {
		changes += now != was;
		was = now;
		for (int i = 0; i < 3; i++)
			sent[i] += now == s[i] ? 1200 : 0;
		for (int i = 0; i < 3; i++)
			assert_true(sent[i] + 2 * STREAMS_TURN_BYTES > sent[0] &&
				    sent[i] < sent[2] + 2 * STREAMS_TURN_BYTES);
	}
	assert_in_range(changes, 12, 15);
	for (int i = 0; i < 3; i++)
		assert_int_equal(s[i]->sb.next, 60000);
}

static void streams_next_sendable__lost_goes_first(void **st)
{
	/* RFC9000 13.3-4 */
	struct stream *a = opened(DIR_BIDI), *b = opened(DIR_BIDI);
	put(b, 1000);
	assert_ptr_equal(send_one(1200), b);
	put(a, 50000);
	assert_ptr_equal(send_one(1200), a);
	stream_on_data_lost(b, 0, 1000, false);
	streams_update(&ss, b);
	assert_ptr_equal(send_one(1200), b);
	assert_ptr_equal(send_one(1200), a);
}

static void streams_next_sendable__connection_credit__old_data_and_fin_pass(void **st)
{
	/* RFC9000 4.1-3 */
	struct stream *a, *b, *c;
	struct tparams tight = peer;
	tight.max_data = 1000;
	streams_fini(&ss);
	streams_init(&ss, true, &limits);
	streams_set_peer(&ss, &tight);
	a = opened(DIR_BIDI);
	b = opened(DIR_BIDI);
	c = opened(DIR_BIDI);
	put(a, 700);
	put(b, 700);
	put(c, 700);
	assert_ptr_equal(send_one(1200), a);
	assert_ptr_equal(send_one(1200), b);
	assert_int_equal(b->sb.next, 300);
	assert_null(send_one(1200));
	assert_true(ss.want_data_blocked);
	ss.want_data_blocked = false;
	assert_null(send_one(1200));
	assert_false(ss.want_data_blocked);
	assert_int_equal(stream_finish(a), 0);
	streams_update(&ss, a);
	assert_ptr_equal(send_one(1200), a);
	assert_true(a->sb.fin_sent);
	stream_on_data_lost(b, 0, 300, false);
	streams_update(&ss, b);
	assert_ptr_equal(send_one(1200), b);
	assert_null(send_one(1200));
	streams_on_max_data(&ss, 999);
	assert_null(send_one(1200));
	streams_on_max_data(&ss, 2100);
	assert_non_null(send_one(1200));
	assert_non_null(send_one(1200));
	assert_null(send_one(1200));
	assert_int_equal(b->sb.next + c->sb.next, 1400);
	assert_int_equal(ss.tx_credit.used, 2100);
}

static void streams_update__lists_follow_state(void **st)
{
	uint8_t ev;
	struct stream *s = opened(DIR_BIDI);
	assert_null(streams_next_event(&ss, &ev));
	assert_int_equal(streams_on_data(&ss, s, 0, zeros, 10, false), 0);
	stream_on_stop_sending(s, 1);
	streams_update(&ss, s);
	assert_ptr_equal(TAILQ_FIRST(&ss.want), s);
	assert_ptr_equal(streams_next_event(&ss, &ev), s);
	assert_int_equal(ev, STREAM_EV_READABLE | STREAM_EV_STOPPED);
	assert_null(streams_next_event(&ss, &ev));
	stream_on_control_sent(s, STREAM_WANT_RESET);
	streams_update(&ss, s);
	assert_null(TAILQ_FIRST(&ss.want));
}

/* ---- credit ------------------------------------------------------------- */

static void streams_on_data__connection_credit__checked(void **st)
{
	/* RFC9000 4.1-8, 19.9-6 */
	for (uint64_t i = 0; i < 3; i++)
		assert_int_equal(streams_on_data(&ss, from_peer(4 * i), 1, zeros, 999, false), 0);
	assert_int_equal(ss.rx_credit.received, 3000);
	assert_int_equal(streams_on_data(&ss, from_peer(12), 0, zeros, 1, false), QE_FLOW_CONTROL);
	assert_int_equal(streams_on_reset(&ss, from_peer(12), 0, 1), QE_FLOW_CONTROL);
	assert_int_equal(streams_on_reset(&ss, from_peer(12), 0, 0), 0);
	assert_int_equal(streams_on_data(&ss, from_peer(0), 0, zeros, 1000, true), 0);
	assert_int_equal(ss.rx_credit.consumed, 0);
	streams_consume(&ss, from_peer(0), 1000);
	assert_int_equal(ss.rx_credit.consumed, 1000);
	assert_true(ss.want_max_data);
}

static void finish_ours(struct stream *s)
{
	(void)stream_finish(s);
	streams_update(&ss, s);
	while (send_one(1200))
		;
	stream_on_data_acked(s, 0, s->sb.next, true);
	stream_on_control_sent(s, s->want);
	stream_on_reset_acked(s);
	streams_update(&ss, s);
}

/* Random frames and acts on streams of the peer; in the end all that was received is consumed, once. */
static void streams_credit__random_lives__books_balance(void **st)
{
	uint64_t seed = test_seed((uint64_t)time(NULL));
	print_message("seed %llu\n", (unsigned long long)seed);
	seed_state = seed;
	for (uint64_t ord = 0; ord < 500; ord++) {
		struct stream *s = from_peer(4 * ord);
		uint64_t size = rnd(900), before = ss.rx_credit.received;
		assert_ptr_equal(streams_next_opened(&ss), s);
		for (int i = 0; i < 30; i++) {
			uint64_t off = rnd(size + 1), len = rnd(size - off + 1), what = rnd(40);
			if (what < 25)
				assert_int_equal(streams_on_data(&ss, s, off, zeros, len, off + len == size), 0);
			else if (what < 35)
				streams_consume(&ss, s, rnd(recvbuf_readable(&s->rb) + 1));
			else if (what == 35)
				(void)stream_stop_sending(s, 1);
			else if (what == 36)
				assert_int_equal(streams_on_reset(&ss, s, 2, size), 0);
			else if (what == 37 && recvbuf_readable(&s->rb) == 0)
				stream_read_end(s);
			streams_update(&ss, s);
			assert_int_equal(ss.rx_credit.received - before, s->rx_credit.received);
			assert_int_equal(before + s->rx_credit.consumed, ss.rx_credit.consumed);
		}
		if (rnd(2))
			stream_release(s);
		assert_int_equal(streams_on_reset(&ss, s, 2, size), 0);
		stream_release(s);
		finish_ours(s);
		assert_true(streams_reap(&ss, s));
		assert_int_equal(ss.rx_credit.received, before + size);
		assert_int_equal(ss.rx_credit.consumed, before + size);
		if (ss.want_max_streams[DIR_BIDI])
			streams_next_max(&ss, DIR_BIDI);
		rxflow_next_limit(&ss.rx_credit, 1, ord + 1);
	}
}

/* ---- closing ------------------------------------------------------------ */

static void streams_reap__only_when_all_is_over_and_released(void **st)
{
	struct stream *s = from_peer(0), *out;
	assert_int_equal(streams_on_data(&ss, s, 0, zeros, 10, true), 0);
	stream_on_stop_sending(s, 1);
	streams_update(&ss, s);
	assert_false(streams_reap(&ss, s));
	s->released = true;
	assert_false(streams_reap(&ss, s));	/* not handed up yet */
	streams_next_opened(&ss);
	assert_false(streams_reap(&ss, s));	/* its reset is not acknowledged */
	stream_on_control_sent(s, STREAM_WANT_RESET);
	stream_on_reset_acked(s);
	streams_update(&ss, s);
	assert_int_equal(ss.rx_credit.consumed, 0);
	assert_true(streams_reap(&ss, s));
	assert_int_equal(ss.rx_credit.consumed, 10);	/* left unread */
	assert_int_equal(ss.count, 0);
	/* late frames for it: RFC9000 3.2-9 */
	assert_int_equal(streams_for_frame(&ss, 0, false, &out), 0);
	assert_null(out);
	assert_int_equal(streams_for_frame(&ss, 0, true, &out), 0);
	assert_null(out);
	assert_null(streams_find(&ss, 0));
}

/* The peer opens and ends streams one by one, and then as many as it can: it may always have 8. RFC9000 4.6-6 */
static void streams_max__told_before_the_peer_stands_still(void **st)
{
	uint64_t told = 8, frames = 0;
	for (uint64_t i = 0; i < 43; i++) {
		struct stream *s = from_peer(4 * i);
		if (i < 35) {
			streams_next_opened(&ss);
			assert_int_equal(streams_on_reset(&ss, s, 0, 0), 0);
			stream_on_stop_sending(s, 0);
			finish_ours(s);
			stream_release(s);
			assert_true(streams_reap(&ss, s));
		}
		if (ss.want_max_streams[DIR_BIDI]) {
			told = streams_next_max(&ss, DIR_BIDI);
			frames++;
		}
		assert_true(told > i + 1 || i == 42);
	}
	assert_int_equal(told, 43);
	assert_true(frames < 25);	/* and not for each of them */
}

static void streams_rapid_reset__no_credit_before_release(void **st)
{
	struct stream *s, *all[8];
	for (uint64_t i = 0; i < 8; i++) {
		all[i] = from_peer(4 * i);
		assert_int_equal(streams_on_reset(&ss, all[i], 0, 0), 0);
		stream_on_stop_sending(all[i], 0);
		finish_ours(all[i]);
		assert_ptr_equal(streams_next_opened(&ss), all[i]);
		assert_false(streams_reap(&ss, all[i]));
	}
	assert_false(ss.want_max_streams[DIR_BIDI]);
	assert_int_equal(streams_for_frame(&ss, 32, false, &s), QE_STREAM_LIMIT);
	stream_release(all[3]);
	assert_true(streams_reap(&ss, all[3]));
	stream_release(all[0]);
	assert_true(streams_reap(&ss, all[0]));
	assert_true(ss.want_max_streams[DIR_BIDI]);
	assert_int_equal(streams_for_frame(&ss, 32, false, &s), QE_STREAM_LIMIT);
	assert_int_equal(streams_next_max(&ss, DIR_BIDI), 10);
	assert_false(ss.want_max_streams[DIR_BIDI]);
	assert_int_equal(streams_for_frame(&ss, 36, false, &s), 0);
	assert_int_equal(streams_for_frame(&ss, 40, false, &s), QE_STREAM_LIMIT);
}

static void streams_allocations__each_fails_once(void **st)
{
	for (uint64_t n = 1; n < 12; n++) {
		struct stream *s;
		streams_fini(&ss);
		streams_init(&ss, true, &limits);
		streams_set_peer(&ss, &peer);
		mem_test_fail_nth(n);
		int e = streams_for_frame(&ss, 16, false, &s);
		assert_int_equal(e, n <= 5 ? QE_NOMEM : 0);
		assert_int_equal(ss.count, e ? n - 1 : 5);
		if (e)
			assert_int_equal(streams_for_frame(&ss, 16, false, &s), 0);
		e = streams_open(&ss, DIR_BIDI, &s);
		assert_int_equal(e, n == 6 ? QE_NOMEM : 0);
		assert_int_equal(ss.next_local[DIR_BIDI], !e);
		s = streams_find(&ss, 4);
		e = streams_on_data(&ss, s, 0, zeros, 10, true);
		assert_int_equal(ss.rx_credit.received, e ? 0 : 10);
		if (e)
			assert_int_equal(streams_on_data(&ss, s, 0, zeros, 10, true), 0);
		assert_int_equal(s->rx, SRX_DATA_RECVD);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(streams_for_frame__who_may_name_what),
		T(streams_for_frame__opens_lower_ones_in_order),
		T(streams_open__limit__blocked_once),
		T(streams_set_peer__credit_by_kind_and_for_existing),
		T(streams_next_sendable__turns_of_16_kb),
		T(streams_next_sendable__lost_goes_first),
		T(streams_next_sendable__connection_credit__old_data_and_fin_pass),
		T(streams_update__lists_follow_state),
		T(streams_on_data__connection_credit__checked),
		T(streams_credit__random_lives__books_balance),
		T(streams_reap__only_when_all_is_over_and_released),
		T(streams_max__told_before_the_peer_stands_still),
		T(streams_rapid_reset__no_credit_before_release),
		T(streams_allocations__each_fails_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
