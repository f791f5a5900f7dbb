/* One stream: state tables, frames and their fates, receive accounting. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"
#include "stream/stream.h"
#include "support/leak.h"

#define WINDOW 1000

static struct stream s;

static int setup(void **state)
{
	leak_setup(state);
	stream_init(&s, 0, true, true, WINDOW, WINDOW, WINDOW, NULL);
	return 0;
}

static int teardown(void **state)
{
	stream_fini(&s);
	return leak_teardown(state);
}

static void restart(void)
{
	stream_fini(&s);
	stream_init(&s, 0, true, true, WINDOW, WINDOW, WINDOW, NULL);
}

static const uint8_t zeros[4096];

static int data(uint64_t off, size_t len, bool fin)
{
	return stream_on_data(&s, off, zeros, len, fin);
}

static void put(size_t len)
{
	assert_int_equal(sendbuf_write(&s.sb, zeros, len), 0);
}

static uint8_t take_events(void)
{
	uint8_t e = s.events;
	s.events = 0;
	return e;
}

/* ---- RFC 9000 figures 2 and 3, edge by edge ------------------------------ */

/* One letter an act; see step(). */
static void step(char act)
{
	switch (act) {
	case 'd': put(10); stream_on_data_sent(&s, s.sb.next, 10, false); break;
	case 'f': stream_finish(&s); stream_on_data_sent(&s, s.sb.next, 0, true); break;
	case 'b': stream_on_control_sent(&s, STREAM_WANT_BLOCKED); break;
	case 'r': (void)stream_reset(&s, 7); break;
	case 's': stream_on_stop_sending(&s, 8); break;
	case 'a': stream_on_data_acked(&s, 0, s.sb.next, s.sb.fin_sent); break;
	case 'A': stream_on_reset_acked(&s); break;
	case 'l': stream_on_data_lost(&s, 0, s.sb.next, s.sb.fin_sent); break;
	case 'D': assert_int_equal(data(0, 10, false), 0); break;
	case 'G': assert_int_equal(data(20, 10, false), 0); break;	/* leaves a gap at 10 */
	case 'H': assert_int_equal(data(10, 10, false), 0); break;	/* fills it */
	case 'F': assert_int_equal(data(30, 0, true), 0); break;
	case 'R': assert_int_equal(stream_on_reset(&s, 9, 30), 0); break;
	case 'e': stream_consume(&s, recvbuf_readable(&s.rb)); stream_read_end(&s); break;
	case 'S': (void)stream_stop_sending(&s, 5); break;
	default: fail();
	}
}

static void stream_tx__every_path_of_figure_2(void **st)
{
	/* RFC9000 3.1 */
	static const struct { const char *acts; enum stream_tx want; } t[] = {
		{ "", STX_READY }, { "d", STX_SEND }, { "b", STX_SEND }, { "a", STX_READY },
		{ "f", STX_DATA_SENT }, { "df", STX_DATA_SENT }, { "dfl", STX_DATA_SENT },
		{ "da", STX_SEND }, { "dfa", STX_DATA_RECVD }, { "dlfa", STX_DATA_RECVD }, { "fa", STX_DATA_RECVD },
		{ "r", STX_RESET_SENT }, { "dr", STX_RESET_SENT }, { "dfr", STX_RESET_SENT },
		{ "rA", STX_RESET_RECVD }, { "dfrA", STX_RESET_RECVD },
		{ "dfra", STX_RESET_SENT }, { "dfar", STX_DATA_RECVD }, { "dfaA", STX_DATA_RECVD },
		{ "A", STX_READY }, { "dA", STX_SEND }, { "rAr", STX_RESET_RECVD },
		/* RFC9000 3.5-4 */
		{ "s", STX_RESET_SENT }, { "ds", STX_RESET_SENT }, { "dfs", STX_RESET_SENT },
		{ "dfas", STX_DATA_RECVD },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		restart();
		for (const char *p = t[i].acts; *p; p++)
			step(*p);
		if (s.tx != t[i].want)
			fail_msg("\"%s\" ends in %d, not %d", t[i].acts, s.tx, t[i].want);
	}
}

static void stream_rx__every_path_of_figure_3(void **st)
{
	/* RFC9000 3.2 */
	static const struct { const char *acts; enum stream_rx want; int end; } t[] = {
		{ "", SRX_RECV, 0 }, { "D", SRX_RECV, 0 }, { "F", SRX_SIZE_KNOWN, 0 }, { "DGF", SRX_SIZE_KNOWN, 0 },
		{ "DGFH", SRX_DATA_RECVD, 1 }, { "FGHD", SRX_DATA_RECVD, 1 }, { "DGHFe", SRX_DATA_READ, 1 },
		{ "DGFe", SRX_SIZE_KNOWN, 0 }, { "e", SRX_RECV, 0 },
		{ "R", SRX_RESET_RECVD, -1 }, { "DR", SRX_RESET_RECVD, -1 }, { "DGFR", SRX_RESET_RECVD, -1 },
		{ "Re", SRX_RESET_READ, -1 }, { "ReR", SRX_RESET_READ, -1 },
		{ "DGHFR", SRX_DATA_RECVD, 1 }, { "DGHFeR", SRX_DATA_READ, 1 }, { "RDGHF", SRX_RESET_RECVD, -1 },
		{ "S", SRX_RECV, 0 }, { "SF", SRX_DATA_RECVD, -1 }, { "FS", SRX_DATA_RECVD, -1 },
		{ "SR", SRX_RESET_RECVD, -1 },
		{ "DGHFS", SRX_DATA_RECVD, -1 },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		restart();
		for (const char *p = t[i].acts; *p; p++)
			step(*p);
		if (s.rx != t[i].want || stream_end(&s) != t[i].end)
			fail_msg("\"%s\" ends in %d, %d", t[i].acts, s.rx, stream_end(&s));
	}
}

static void stream_rx__any_end__consumed_is_final_size_once(void **st)
{
	/* RFC9000 4.5-3: whatever the order, read + dropped = final size */
	static const char *const t[] = {
		"DGHFe", "DGFHe", "R", "DR", "DGR", "DGFR", "SR", "DSR", "DGSR", "DGSF", "DSGF", "DSGHF", "SDGHFR",
		"DGHFS", "DRS", "DGRe", "DRDGHF", "FS", "DGSHF", "DSRDRG",
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		uint64_t read = 0, dropped = 0;
		restart();
		for (const char *p = t[i]; *p; p++) {
			if (*p == 'e') {
				read += recvbuf_readable(&s.rb);
			}
			step(*p);
			dropped += stream_take_dropped(&s);
		}
		uint64_t left = recvbuf_readable(&s.rb);
		read += left;
		stream_consume(&s, left);
		stream_read_end(&s);
		dropped += stream_take_dropped(&s);
		if (read + dropped != 30 || s.rx_credit.consumed != 30 || s.rx_credit.received != 30)
			fail_msg("\"%s\": read %d dropped %d", t[i], (int)read, (int)dropped);
		assert_true(stream_rx_terminal(&s));
	}
}

/* ---- receiving ---------------------------------------------------------- */

static void stream_on_data__over_credit__refused(void **st)
{
	/* RFC9000 4.1-8 */
	assert_int_equal(data(WINDOW - 10, 10, false), 0);
	assert_int_equal(data(WINDOW - 10, 11, false), QE_FLOW_CONTROL);
	assert_int_equal(stream_on_reset(&s, 1, WINDOW + 1), QE_FLOW_CONTROL);
	assert_int_equal(s.rx_credit.received, WINDOW);
	assert_int_equal(s.rx, SRX_RECV);
}

static void stream_final_size__changed__refused_in_every_state(void **st)
{
	/* RFC9000 4.5-5 */
	static const char *const before[] = { "F", "DGHF", "DGHFe", "R", "Re", "SR", "SF" };
	for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
		restart();
		for (const char *p = before[i]; *p; p++)
			step(*p);
		assert_int_equal(data(30, 1, false), QE_FINAL_SIZE);
		assert_int_equal(data(29, 0, true), QE_FINAL_SIZE);
		assert_int_equal(stream_on_reset(&s, 1, 29), QE_FINAL_SIZE);
		assert_int_equal(stream_on_reset(&s, 1, 31), QE_FINAL_SIZE);
		assert_int_equal(stream_on_reset(&s, 1, 30), 0);
	}
}

static void stream_on_reset__data_before_it_stays_readable(void **st)
{
	assert_int_equal(data(0, 100, false), 0);
	assert_int_equal(data(200, 50, false), 0);
	take_events();
	assert_int_equal(stream_on_reset(&s, 42, 500), 0);
	assert_int_equal(take_events(), STREAM_EV_RESET | STREAM_EV_READABLE);
	assert_int_equal(s.peer_reset_code, 42);
	assert_int_equal(stream_take_dropped(&s), 400);
	assert_int_equal(recvbuf_readable(&s.rb), 100);
	assert_int_equal(data(100, 100, false), 0);	/* too late */
	assert_int_equal(recvbuf_readable(&s.rb), 100);
	stream_consume(&s, 100);
	assert_int_equal(s.want, 0);
	assert_int_equal(stream_end(&s), -1);
}

static void stream_events__readable_only_when_something_is(void **st)
{
	assert_int_equal(data(10, 10, false), 0);
	assert_int_equal(take_events(), 0);
	assert_int_equal(data(0, 10, false), 0);
	assert_int_equal(take_events(), STREAM_EV_READABLE);
	assert_int_equal(data(0, 20, false), 0);
	assert_int_equal(take_events(), 0);
	assert_int_equal(data(20, 0, true), 0);
	assert_int_equal(take_events(), STREAM_EV_READABLE);
}

static void stream_stop_sending__drops_and_keeps_counting(void **st)
{
	/* RFC9000 3.5-3 */
	assert_int_equal(data(0, 100, false), 0);
	assert_int_equal(stream_stop_sending(&s, 5), 0);
	assert_int_equal(s.want, STREAM_WANT_STOP);
	assert_int_equal(stream_take_dropped(&s), 100);
	assert_int_equal(allocated(), 0);
	take_events();
	assert_int_equal(data(150, 50, false), 0);
	assert_int_equal(stream_take_dropped(&s), 100);
	assert_int_equal(data(100, 50, false), 0);
	assert_int_equal(stream_take_dropped(&s), 0);
	assert_int_equal(data(WINDOW, 1, false), QE_FLOW_CONTROL);
	assert_int_equal(take_events(), 0);
	assert_int_equal(stream_stop_sending(&s, 6), 0);
	assert_int_equal(s.stop_code, 5);
	assert_int_equal(s.want & STREAM_WANT_MAX_DATA, 0);
	/* RFC9000 13.3-3.5 */
	stream_on_control_sent(&s, STREAM_WANT_STOP);
	stream_on_control_lost(&s, STREAM_WANT_STOP);
	assert_int_equal(s.want, STREAM_WANT_STOP);
	assert_int_equal(data(200, 0, true), 0);
	assert_int_equal(s.want, 0);
	stream_on_control_lost(&s, STREAM_WANT_STOP);
	assert_int_equal(s.want, 0);
	assert_int_equal(stream_stop_sending(&s, 6), QE_CLOSED);
}

static void stream_consume__max_data_only_while_size_unknown(void **st)
{
	/* RFC9000 13.3-3.8 */
	assert_int_equal(data(0, 400, false), 0);
	stream_consume(&s, 400);
	assert_int_equal(s.want, STREAM_WANT_MAX_DATA);
	assert_int_equal(data(600, 0, true), 0);
	assert_int_equal(s.want, 0);
	stream_on_control_lost(&s, STREAM_WANT_MAX_DATA);
	assert_int_equal(s.want, 0);
	assert_int_equal(data(400, 200, true), 0);
	stream_consume(&s, 200);
	assert_int_equal(s.want, 0);
}

static void stream_on_data__no_memory__unchanged(void **st)
{
	mem_test_fail_nth(1);
	assert_int_equal(data(0, 100, true), QE_NOMEM);
	assert_int_equal(s.rx_credit.received, 0);
	assert_int_equal(s.rx, SRX_RECV);
	assert_int_equal(s.events, 0);
	assert_int_equal(data(0, 100, true), 0);
	assert_int_equal(s.rx, SRX_DATA_RECVD);
}

/* ---- sending ------------------------------------------------------------ */

static void stream_reset__unsent_goes__final_size_is_what_was_sent(void **st)
{
	/* RFC9000 4.5-2, 13.3-3.4 */
	put(500);
	stream_on_data_sent(&s, 0, 200, false);
	assert_int_equal(stream_reset(&s, 7), 0);
	assert_int_equal(allocated(), 0);
	assert_int_equal(stream_tx_final_size(&s), 200);
	assert_int_equal(s.want, STREAM_WANT_RESET);
	stream_on_control_sent(&s, STREAM_WANT_RESET);
	stream_on_data_lost(&s, 0, 200, false);
	assert_false(stream_has_data(&s, UINT64_MAX));
	assert_int_equal(stream_reset(&s, 8), QE_CLOSED);
	assert_int_equal(s.reset_code, 7);
	stream_on_control_lost(&s, STREAM_WANT_RESET);
	assert_int_equal(s.want, STREAM_WANT_RESET);
	stream_on_reset_acked(&s);
	assert_int_equal(s.want, 0);
	assert_int_equal(take_events(), STREAM_EV_SENT_ALL);
	stream_on_control_lost(&s, STREAM_WANT_RESET);
	assert_int_equal(s.want, 0);
	assert_true(stream_tx_terminal(&s));
}

static void stream_on_stop_sending__answers_with_its_code(void **st)
{
	/* RFC9000 3.5-5 */
	put(10);
	stream_on_stop_sending(&s, 77);
	assert_int_equal(s.want, STREAM_WANT_RESET);
	assert_int_equal(s.reset_code, 77);
	assert_int_equal(s.peer_stop_code, 77);
	assert_int_equal(take_events(), STREAM_EV_STOPPED);
	assert_false(stream_tx_open(&s));
	assert_int_equal(stream_finish(&s), QE_CLOSED);
	stream_on_stop_sending(&s, 78);
	assert_int_equal(s.reset_code, 77);
	assert_int_equal(take_events(), 0);
}

static void stream_credit__bounds_new_bytes_not_old_ones(void **st)
{
	/* RFC9000 4.1-3 */
	put(1500);
	assert_int_equal(stream_tx_limit(&s, UINT64_MAX), WINDOW);
	assert_int_equal(stream_tx_limit(&s, 300), 300);
	assert_int_equal(stream_on_data_sent(&s, 0, 1000, false), 1000);
	assert_true(stream_is_blocked(&s));
	assert_false(stream_has_data(&s, UINT64_MAX));
	stream_on_data_lost(&s, 0, 100, false);
	assert_true(stream_has_data(&s, 0));
	assert_int_equal(stream_on_data_sent(&s, 0, 100, false), 0);
	stream_on_max_data(&s, 900);
	assert_true(stream_is_blocked(&s));
	stream_on_max_data(&s, 1200);
	assert_false(stream_is_blocked(&s));
	assert_int_equal(stream_tx_limit(&s, UINT64_MAX), 1200);
	assert_int_equal(stream_tx_limit(&s, 50), 1050);
	assert_false(stream_has_data(&s, 0));
}

static void stream_fin__needs_no_credit(void **st)
{
	put(WINDOW);
	stream_on_data_sent(&s, 0, WINDOW, false);
	assert_int_equal(stream_finish(&s), 0);
	assert_int_equal(stream_finish(&s), QE_CLOSED);
	assert_true(stream_has_data(&s, 0));
	assert_int_equal(stream_on_data_sent(&s, WINDOW, 0, true), 0);
	stream_on_data_acked(&s, 0, WINDOW, false);
	assert_int_equal(s.tx, STX_DATA_SENT);
	stream_on_data_acked(&s, WINDOW, 0, true);
	assert_int_equal(s.tx, STX_DATA_RECVD);
	assert_int_equal(take_events(), STREAM_EV_SENT_ALL);
}

static void stream_control_lost__only_if_it_still_matters(void **st)
{
	/* RFC9000 13.3-3.10 */
	put(1500);
	stream_on_data_sent(&s, 0, 1000, false);
	stream_on_control_lost(&s, STREAM_WANT_BLOCKED | STREAM_WANT_RESET | STREAM_WANT_STOP | STREAM_WANT_OPEN);
	assert_int_equal(s.want, STREAM_WANT_BLOCKED);
	stream_on_max_data(&s, 2000);
	assert_int_equal(s.want, 0);
	stream_on_control_lost(&s, STREAM_WANT_BLOCKED);
	assert_int_equal(s.want, 0);
}

static void stream_announce__until_anything_was_sent(void **st)
{
	stream_announce(&s);
	assert_int_equal(s.want, STREAM_WANT_OPEN);
	stream_on_control_sent(&s, STREAM_WANT_OPEN);
	assert_int_equal(s.tx, STX_SEND);
	stream_on_data_lost(&s, 0, 0, false);
	assert_int_equal(s.want, STREAM_WANT_OPEN);
	put(1);
	stream_on_data_sent(&s, 0, 1, false);
	assert_int_equal(s.want, 0);
	stream_on_data_lost(&s, 0, 0, false);
	assert_int_equal(s.want, 0);
}

static void stream_on_data_acked__room__writable(void **st)
{
	put(100);
	stream_on_data_sent(&s, 0, 100, false);
	stream_on_data_acked(&s, 0, 10, false);
	assert_int_equal(take_events(), 0);
	s.tx_waiting = true;
	stream_on_data_acked(&s, 50, 50, false);
	assert_int_equal(take_events(), 0);
	stream_on_data_acked(&s, 10, 40, false);
	assert_int_equal(take_events(), STREAM_EV_WRITABLE);
}

static void stream_release__finishes_and_stops(void **st)
{
	put(10);
	assert_int_equal(data(0, 30, false), 0);
	stream_release(&s);
	assert_true(s.released);
	assert_int_equal(s.want, STREAM_WANT_STOP);
	assert_int_equal(stream_take_dropped(&s), 30);
	assert_true(s.sb.fin);
	assert_true(stream_has_data(&s, UINT64_MAX));
}

static void stream_idle__costs_little(void **st)
{
	assert_in_range(sizeof(struct stream), 1, 700);
	assert_int_equal(allocated(), 0);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(stream_tx__every_path_of_figure_2),
		T(stream_rx__every_path_of_figure_3),
		T(stream_rx__any_end__consumed_is_final_size_once),
		T(stream_on_data__over_credit__refused),
		T(stream_final_size__changed__refused_in_every_state),
		T(stream_on_reset__data_before_it_stays_readable),
		T(stream_events__readable_only_when_something_is),
		T(stream_stop_sending__drops_and_keeps_counting),
		T(stream_consume__max_data_only_while_size_unknown),
		T(stream_on_data__no_memory__unchanged),
		T(stream_reset__unsent_goes__final_size_is_what_was_sent),
		T(stream_on_stop_sending__answers_with_its_code),
		T(stream_credit__bounds_new_bytes_not_old_ones),
		T(stream_fin__needs_no_credit),
		T(stream_control_lost__only_if_it_still_matters),
		T(stream_announce__until_anything_was_sent),
		T(stream_on_data_acked__room__writable),
		T(stream_release__finishes_and_stops),
		T(stream_idle__costs_little),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
