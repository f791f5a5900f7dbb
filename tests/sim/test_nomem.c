/* Every allocation of two whole connections fails once: nothing crashes, nothing leaks, and what goes on goes on right (the
 * applications check each byte). */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/mem.h"
#include "support/simworld.h"

static bool over_or_done(void *arg)
{
	return sim_streams_done(arg) || sim_client_closed(arg);
}

/* The nth allocation from here on fails; 0: none. Returns how many were made, *served: all was well for the application. */
static uint64_t run_once(uint64_t nth, bool *served)
{
	struct simworld w;

	simworld_init(&w, 1);
	w.link.loss = 30;
	w.server_ep.retry = true;
	w.client_cfg.key_update_packets = 50;
	simworld_start(&w);
	uint64_t before = mem_test_count();
	mem_test_fail_nth(nth);
	struct simconn *c = simworld_connect(&w, NULL);
	if (c) {
		simconn_send(c, DIR_BIDI, 3, 40000);
		simconn_send(c, DIR_UNI, 3, 10000);
		simnet_run(w.net, over_or_done, &w, 120 * SIM_S);
	}
	*served = c && sim_streams_done(&w);
	struct simconn *s = simworld_peer(&w);
	if (c && c->c && !c->closed)
		simconn_close(c, 0, "");
	simnet_run(w.net, sim_all_drained, &w, 120 * SIM_S);
	assert_true(sim_all_drained(&w));
	assert_true(!s || s->drained);
	mem_test_fail_nth(0);
	uint64_t made = mem_test_count() - before;
	simworld_end(&w);
	return made;
}

static uint64_t total, unserved;

static void one_failure(uint64_t nth)
{
	bool served = true;

	if (nth <= total)
		run_once(nth, &served);
	unserved += !served;
}

static void nomem__each_allocation_fails__no_crash_no_leak(void **state)
{
	bool served;

	total = run_once(0, &served);
	assert_true(served);
	assert_in_range(total, 50, 100000);
	simworld_each_seed((unsigned)total * 8, one_failure);	/* 8: all of them under a sanitizer, too */
	print_message("%llu of %llu failed allocations ended the connection\n", (unsigned long long)unserved,
		      (unsigned long long)total);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(nomem__each_allocation_fails__no_crash_no_leak, simworld_report),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
