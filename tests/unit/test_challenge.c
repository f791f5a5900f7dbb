/* PATH_CHALLENGE both ways, and the limit of three times what came from an address not validated. RFC 9000 8 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "path/amplify.h"
#include "path/challenge.h"

static void count_up(void *arg, void *buf, size_t len)
{
	uint8_t *next = arg, *p = buf;
	for (size_t i = 0; i < len; i++)
		p[i] = (*next)++;
}

static uint8_t counter;
static const struct rng rng = { count_up, &counter };

/* RFC9000 8.2.2-4 one response for each challenge */
static void challenge_on_received__three__answered_once_in_order(void **state)
{
	struct challenge c;
	uint8_t out[8];
	challenge_init(&c);
	for (uint8_t i = 1; i <= 3; i++)
		challenge_on_received(&c, (uint8_t[8]){ i });
	for (uint8_t i = 1; i <= 3; i++) {
		assert_true(challenge_next_response(&c, out));
		assert_memory_equal(out, ((uint8_t[8]){ i }), 8);
	}
	assert_false(challenge_next_response(&c, out));
}

static void challenge_on_received__flood__keeps_queue(void **state)
{
	struct challenge c;
	uint8_t out[8];
	challenge_init(&c);
	for (unsigned i = 0; i < 1000; i++)
		challenge_on_received(&c, (uint8_t[8]){ (uint8_t)i, (uint8_t)(i >> 8) });
	for (unsigned i = 0; i < CHALLENGE_QUEUE; i++) {
		assert_true(challenge_next_response(&c, out));
		assert_int_equal(out[0], i);
	}
	assert_false(challenge_next_response(&c, out));
}

/* RFC9000 8.2.3-1 */
static void challenge_on_response__only_own_data_validates(void **state)
{
	struct challenge c;
	uint8_t data[8];
	challenge_init(&c);
	assert_false(challenge_on_response(&c, c.ours));	/* none was sent */

	challenge_start(&c, &rng, 1000, 100, 300);
	assert_true(c.pending && c.want_send);
	memcpy(data, c.ours, 8);
	data[7] ^= 1;
	assert_false(challenge_on_response(&c, data));
	assert_true(c.pending);
	assert_true(challenge_on_response(&c, c.ours));
	assert_false(c.pending || c.want_send);
	assert_false(challenge_on_response(&c, c.ours));	/* only once */
}

/* RFC9000 13.3-3.12 a different payload each time; RFC9000 8.2.3-1 an earlier one still counts */
static void challenge_on_time__no_response__new_data_and_late_ones_count(void **state)
{
	uint8_t sent[CHALLENGE_EARLIER + 2][8];
	for (unsigned answer = 0; answer < CHALLENGE_EARLIER + 2; answer++) {
		struct challenge c;
		uint64_t now_us = 1000;
		challenge_init(&c);
		challenge_start(&c, &rng, now_us, 100, 10000);
		for (unsigned i = 0; i < CHALLENGE_EARLIER + 2; i++) {
			assert_true(c.want_send);
			memcpy(sent[i], c.ours, 8);
			for (unsigned k = 0; k < i; k++)
				assert_memory_not_equal(sent[k], sent[i], 8);
			c.want_send = false;
			if (i == CHALLENGE_EARLIER + 1)
				break;
			/* RFC9000 9.4-5: each time later */
			assert_int_equal(challenge_deadline(&c), now_us + (100u << i));
			now_us = challenge_deadline(&c);
			assert_false(challenge_on_time(&c, &rng, now_us - 1));
			assert_false(c.want_send);
			assert_false(challenge_on_time(&c, &rng, now_us));
		}
		assert_int_equal(challenge_on_response(&c, sent[answer]), answer > 0);	/* [0] is forgotten by now */
	}
}

static void challenge_on_time__not_pending_or_not_sent__nothing(void **state)
{
	struct challenge c;
	uint8_t ours[8];
	challenge_init(&c);
	assert_true(challenge_deadline(&c) == UINT64_MAX);
	assert_false(challenge_on_time(&c, &rng, 5000));
	assert_false(c.want_send);
	challenge_start(&c, &rng, 1000, 100, 300);
	memcpy(ours, c.ours, 8);
	assert_int_equal(challenge_deadline(&c), 1300);
	assert_false(challenge_on_time(&c, &rng, 1200));
	assert_memory_equal(ours, c.ours, 8);
}

/* RFC9000 8.2.4-2 */
static void challenge_on_time__long_enough__gives_up_once(void **state)
{
	struct challenge c;
	challenge_init(&c);
	challenge_start(&c, &rng, 1000, 1000, 300);
	c.want_send = false;
	assert_int_equal(challenge_deadline(&c), 1300);
	assert_false(challenge_on_time(&c, &rng, 1299));
	assert_true(challenge_on_time(&c, &rng, 1300));
	assert_false(challenge_on_time(&c, &rng, 1301));
	assert_false(challenge_on_response(&c, c.ours));
}

/* RFC9000 8.1-3 */
static void amplify_budget__three_times_received(void **state)
{
	struct amplify a;
	amplify_init(&a, false);
	assert_int_equal(amplify_budget(&a), 0);
	a.received = 1200;
	assert_int_equal(amplify_budget(&a), 3600);
	a.sent = 3599;
	assert_int_equal(amplify_budget(&a), 1);
	a.sent = 3700;
	assert_int_equal(amplify_budget(&a), 0);
	a.validated = true;
	assert_true(amplify_budget(&a) == UINT64_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(challenge_on_received__three__answered_once_in_order),
		cmocka_unit_test(challenge_on_received__flood__keeps_queue),
		cmocka_unit_test(challenge_on_response__only_own_data_validates),
		cmocka_unit_test(challenge_on_time__no_response__new_data_and_late_ones_count),
		cmocka_unit_test(challenge_on_time__not_pending_or_not_sent__nothing),
		cmocka_unit_test(challenge_on_time__long_enough__gives_up_once),
		cmocka_unit_test(amplify_budget__three_times_received),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
