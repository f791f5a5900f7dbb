/* Flow control by itself: what may be sent, when a window is renewed and how it grows. RFC 9000 4.1 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/err.h"
#include "stream/flow.h"

static void rxflow_on_received__up_to_limit__then_refused(void **st)
{
	/* RFC9000 4.1-8 */
	struct rxflow f;
	rxflow_init(&f, 1000, 1000);
	assert_int_equal(rxflow_on_received(&f, 400), 0);
	assert_int_equal(rxflow_on_received(&f, 600), 0);
	assert_int_equal(rxflow_on_received(&f, 1), QE_FLOW_CONTROL);
	assert_int_equal(rxflow_on_received(&f, UINT64_MAX), QE_FLOW_CONTROL);
	assert_int_equal(f.received, 1000);
}

static void rxflow_on_consumed__quarter_of_window__wants_update(void **st)
{
	struct rxflow f;
	rxflow_init(&f, 1000, 1000);
	assert_int_equal(rxflow_on_received(&f, 1000), 0);
	assert_false(rxflow_on_consumed(&f, 250));
	assert_true(rxflow_on_consumed(&f, 1));
	assert_int_equal(rxflow_next_limit(&f, 1000, 1), 1251);
	assert_false(rxflow_wants_update(&f));
	assert_int_equal(rxflow_on_received(&f, 251), 0);
	assert_int_equal(rxflow_on_received(&f, 1), QE_FLOW_CONTROL);
}

/* Consume rounds windows of f, each taking us; the window at the end. */
static uint64_t consume_windows(struct rxflow *f, int rounds, uint64_t us, uint64_t srtt_us, uint64_t *now_us)
{
	for (int i = 0; i < rounds; i++) {
		for (int k = 0; k < 3; k++) {
			uint64_t n = f->limit - f->received;
			assert_int_equal(rxflow_on_received(f, n), 0);
			rxflow_on_consumed(f, n);
			*now_us += us / 3;
			uint64_t was = f->limit;
			assert_true(rxflow_next_limit(f, srtt_us, *now_us) >= was);
		}
	}
	return f->window;
}

static void rxflow_next_limit__fast_reader__window_doubles_to_max(void **st)
{
	struct rxflow f;
	uint64_t now_us = 1;
	rxflow_init(&f, 1000, 7000);
	assert_int_equal(consume_windows(&f, 1, 3000, 1000, &now_us), 4000);
	assert_int_equal(consume_windows(&f, 5, 3000, 1000, &now_us), 7000);
}

static void rxflow_next_limit__slow_reader__window_stays(void **st)
{
	struct rxflow f;
	uint64_t now_us = 1;
	rxflow_init(&f, 1000, 8000);
	assert_int_equal(consume_windows(&f, 5, 13000, 1000, &now_us), 1000);
}

static void rxflow_next_limit__burst_after_trickle__measured_afresh(void **st)
{
	struct rxflow f;
	uint64_t now_us = 1;
	rxflow_init(&f, 1000, 8000);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(rxflow_on_received(&f, 100), 0);
		rxflow_on_consumed(&f, 100);
		now_us += 100000;
		rxflow_next_limit(&f, 1000, now_us);
	}
	assert_int_equal(consume_windows(&f, 1, 3000, 1000, &now_us), 8000);
}

static void rxflow_next_limit__near_2_62__stays_encodable(void **st)
{
	struct rxflow f;
	uint64_t top = (UINT64_C(1) << 62) - 1;
	rxflow_init(&f, top, top);
	assert_int_equal(rxflow_on_received(&f, top), 0);
	rxflow_on_consumed(&f, top);
	assert_int_equal(rxflow_next_limit(&f, 1, 1), top);
}

static void txflow_on_max__smaller__ignored(void **st)
{
	/* RFC9000 4.1-9 */
	struct txflow f;
	txflow_init(&f, 100);
	txflow_use(&f, 30);
	assert_false(txflow_on_max(&f, 100));
	assert_false(txflow_on_max(&f, 50));
	assert_int_equal(txflow_credit(&f), 70);
	assert_true(txflow_on_max(&f, 130));
	assert_int_equal(txflow_credit(&f), 100);
}

static void txflow_blocked__once_per_limit(void **st)
{
	struct txflow f;
	txflow_init(&f, 10);
	assert_false(txflow_blocked(&f));
	txflow_use(&f, 10);
	assert_true(txflow_blocked(&f));
	assert_false(txflow_blocked(&f));
	txflow_on_max(&f, 20);
	assert_false(txflow_blocked(&f));
	txflow_use(&f, 10);
	assert_true(txflow_blocked(&f));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(rxflow_on_received__up_to_limit__then_refused),
		cmocka_unit_test(rxflow_on_consumed__quarter_of_window__wants_update),
		cmocka_unit_test(rxflow_next_limit__fast_reader__window_doubles_to_max),
		cmocka_unit_test(rxflow_next_limit__slow_reader__window_stays),
		cmocka_unit_test(rxflow_next_limit__burst_after_trickle__measured_afresh),
		cmocka_unit_test(rxflow_next_limit__near_2_62__stays_encodable),
		cmocka_unit_test(txflow_on_max__smaller__ignored),
		cmocka_unit_test(txflow_blocked__once_per_limit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
