/* NewReno by itself: slow start, one reduction per round, congestion avoidance, the minimum. RFC 9002 7 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "recovery/cc.h"

#define MSS 1200

static struct cc cc;
static struct rtt rtt;

static int setup(void **state)
{
	rtt_init(&rtt);
	cc.ops = cc_ops_by_name("newreno");
	cc.ops->init(&cc, MSS, 1);
	return 0;
}

static void ack(uint64_t sent_at, uint16_t bytes, bool limited)
{
	struct sent_packet s = { .at_us = sent_at, .bytes = bytes, .in_flight = true, .eliciting = true };
	cc.ops->on_acked(&cc, &s, &rtt, limited, sent_at + 50);
}

static void cc_ops_by_name__only_known(void **state)
{
	assert_ptr_equal(cc_ops_by_name("newreno"), &cc_newreno);
	assert_null(cc_ops_by_name("nevereno"));
	assert_null(cc_ops_by_name(""));
}

/* RFC9002 7.2 */
static void cc_initial_window__follows_datagram_size(void **state)
{
	static const struct { uint32_t mss; uint64_t cwnd; } t[] = {
		{ 1200, 12000 }, { 1452, 14520 }, { 1472, 14720 }, { 1500, 14720 }, { 7360, 14720 }, { 9000, 18000 },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		cc.ops->init(&cc, t[i].mss, 1);
		assert_int_equal(cc.cwnd, t[i].cwnd);
		assert_true(cc.ssthresh == UINT64_MAX);
		assert_ptr_equal(cc.ops, &cc_newreno);
	}
}

/* RFC9002 7.3.1 */
static void newreno__slow_start__grows_by_bytes_acked(void **state)
{
	for (int i = 0; i < 10; i++)
		ack(10, MSS, true);
	assert_int_equal(cc.cwnd, 24000);
}

/* RFC9002 7.8 */
static void newreno__window_not_used__does_not_grow(void **state)
{
	ack(10, MSS, false);
	assert_int_equal(cc.cwnd, 12000);
	cc.ops->on_congestion(&cc, 10, MSS, false, 20);
	for (int i = 0; i < 20; i++)
		ack(30, MSS, false);
	assert_int_equal(cc.cwnd, 6000);
}

/* RFC9002 7.3.2 */
static void newreno__losses_of_one_round__halve_once(void **state)
{
	cc.ops->on_congestion(&cc, 100, MSS, false, 200);
	assert_int_equal(cc.cwnd, 6000);
	assert_int_equal(cc.ssthresh, 6000);
	cc.ops->on_congestion(&cc, 150, MSS, false, 210);
	cc.ops->on_congestion(&cc, 200, 0, true, 220);		/* CE in the same round */
	assert_int_equal(cc.cwnd, 6000);
	ack(200, MSS, true);		/* sent before recovery: no growth */
	assert_int_equal(cc.cwnd, 6000);
	cc.ops->on_congestion(&cc, 201, MSS, false, 300);
	assert_int_equal(cc.cwnd, 3000);
}

/* RFC9002 7.1 */
static void newreno__ce_alone__halves_and_ends_slow_start(void **state)
{
	cc.ops->on_congestion(&cc, 100, 0, true, 200);
	assert_int_equal(cc.cwnd, 6000);
	assert_int_equal(cc.ssthresh, 6000);
}

/* RFC9002 7.3.3 */
static void newreno__congestion_avoidance__one_packet_per_window(void **state)
{
	cc.ops->on_congestion(&cc, 100, MSS, false, 200);
	for (int i = 0; i < 4; i++)
		ack(201, MSS, true);
	assert_int_equal(cc.cwnd, 6000);
	ack(201, MSS, true);
	assert_int_equal(cc.cwnd, 7200);
	for (int i = 0; i < 6; i++)
		ack(202, MSS, true);
	assert_int_equal(cc.cwnd, 8400);
}

/* RFC9002 7.2, 7.6.2 */
static void newreno__minimum__is_two_packets(void **state)
{
	for (uint64_t t = 100; t < 1000; t += 100)
		cc.ops->on_congestion(&cc, t, MSS, false, t + 50);
	assert_int_equal(cc.cwnd, 2 * MSS);
	cc.cwnd = 100000;
	cc.ssthresh = 50000;
	cc.ops->on_persistent(&cc, 2000);
	assert_int_equal(cc.cwnd, 2 * MSS);
	ack(1, MSS, true);		/* back in slow start, and out of recovery */
	assert_int_equal(cc.cwnd, 3 * MSS);
}

/* RFC9002 7.7 */
static void newreno_pacing_rate__window_per_rtt(void **state)
{
	assert_int_equal(cc.ops->pacing_rate(&cc, &rtt), 0);
	rtt_sample(&rtt, 100, 0, 1);
	assert_int_equal(cc.ops->pacing_rate(&cc, &rtt), UINT64_C(2) * 12000 * 10000);
	cc.ssthresh = cc.cwnd;
	assert_int_equal(cc.ops->pacing_rate(&cc, &rtt), UINT64_C(15000) * 10000);
	rtt_init(&rtt);
	rtt_sample(&rtt, 0, 0, 1);	/* virtual time may stand still */
	assert_true(cc.ops->pacing_rate(&cc, &rtt) > 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, setup)
	const struct CMUnitTest tests[] = {
		T(cc_ops_by_name__only_known),
		T(cc_initial_window__follows_datagram_size),
		T(newreno__slow_start__grows_by_bytes_acked),
		T(newreno__window_not_used__does_not_grow),
		T(newreno__losses_of_one_round__halve_once),
		T(newreno__ce_alone__halves_and_ends_slow_start),
		T(newreno__congestion_avoidance__one_packet_per_window),
		T(newreno__minimum__is_two_packets),
		T(newreno_pacing_rate__window_per_rtt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
