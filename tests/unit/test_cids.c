/* Connection IDs of both sides: numbers, limits, Retire Prior To, reset tokens; memory stays bounded. RFC 9000 5.1,
 * 19.15, 19.16 */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "base/err.h"
#include "path/cids.h"

static struct cid mk(uint8_t n)
{
	return (struct cid){ .len = 8, .b = { 0xc0, n } };
}

static const uint8_t *tok(uint8_t n)
{
	static uint8_t t[256][RESET_TOKEN_LEN];
	t[n][0] = 0xee;
	t[n][15] = n;
	return t[n];
}

/* ---- ours --------------------------------------------------------------- */

static void fill_local(struct local_cids *l, uint64_t limit)
{
	struct cid first = mk(0);
	local_cids_init(l, &first);
	l->peer_limit = limit;
	while (local_cids_missing(l)) {
		struct cid c = mk((uint8_t)l->next_seq);
		local_cids_add(l, &c, tok((uint8_t)l->next_seq));
	}
}

static void send_all(struct local_cids *l)
{
	const struct local_cid *c;
	while ((c = local_cids_next_unsent(l)))
		local_cids_on_sent(l, c->seq);
}

/* RFC9000 5.1.1-5 never more than the peer's limit */
static void local_cids_missing__follows_peer_limit(void **state)
{
	static const struct { uint64_t limit; unsigned want; } t[] = {
		{ 0, 1 }, { 2, 2 }, { 5, 5 }, { CIDS_LOCAL_MAX, CIDS_LOCAL_MAX }, { UINT64_MAX, CIDS_LOCAL_MAX },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct local_cids l;
		fill_local(&l, t[i].limit);
		assert_int_equal(l.n, t[i].want);
	}
}

/* RFC9000 5.1.1-1 the first is 0, each later one is one more */
static void local_cids_add__numbers_go_up_by_one__sent_in_order(void **state)
{
	struct local_cids l;
	fill_local(&l, 4);
	for (uint64_t seq = 1; seq < 4; seq++) {
		const struct local_cid *c = local_cids_next_unsent(&l);
		assert_non_null(c);
		assert_int_equal(c->seq, seq);
		assert_int_equal(c->cid.b[1], seq);
		assert_memory_equal(c->token, tok((uint8_t)seq), RESET_TOKEN_LEN);
		local_cids_on_sent(&l, seq);
	}
	assert_null(local_cids_next_unsent(&l));
	local_cids_on_lost(&l, 2);
	assert_int_equal(local_cids_next_unsent(&l)->seq, 2);
	local_cids_on_sent(&l, 2);
	local_cids_on_lost(&l, 99);
	assert_null(local_cids_next_unsent(&l));
}

static void local_cids_retire__makes_room_and_unregisters(void **state)
{
	struct local_cids l;
	struct cid used = mk(3), gone, want = mk(0);
	fill_local(&l, 4);
	send_all(&l);
	assert_int_equal(local_cids_retire(&l, 0, &used, &gone), 0);
	assert_true(cid_equal(&gone, &want));
	assert_int_equal(local_cids_missing(&l), 1);
	assert_int_equal(local_cids_retire(&l, 0, &used, &gone), QE_AGAIN);
	local_cids_on_lost(&l, 0);	/* no longer issued: not sent again */
	assert_null(local_cids_next_unsent(&l));
	struct cid c = mk(4);
	assert_int_equal(local_cids_add(&l, &c, tok(4)), 4);
	for (unsigned i = 0; i + 1 < l.n; i++)
		assert_true(l.v[i].seq < l.v[i + 1].seq);
}

static void local_cids_retire__violations(void **state)
{
	struct local_cids l;
	struct cid used = mk(1), gone;
	fill_local(&l, 4);
	local_cids_on_sent(&l, 1);			/* 2 and 3 are not sent yet, whoever asks for them */
	assert_int_equal(local_cids_next_unsent(&l)->seq, 2);
	/* RFC9000 19.16-6 more than any sent */
	assert_int_equal(local_cids_retire(&l, 2, &used, &gone), QE_PROTOCOL_VIOLATION);
	assert_int_equal(local_cids_retire(&l, 4, &used, &gone), QE_PROTOCOL_VIOLATION);
	assert_int_equal(local_cids_retire(&l, UINT64_MAX, &used, &gone), QE_PROTOCOL_VIOLATION);
	/* RFC9000 19.16-7 the one the packet came to */
	assert_int_equal(local_cids_retire(&l, 1, &used, &gone), QE_PROTOCOL_VIOLATION);
	assert_int_equal(l.n, 4);

	/* RFC9000 19.16-8 zero-length, RFC9000 5.1.1-9 no others then */
	struct cid empty = { 0 };
	local_cids_init(&l, &empty);
	l.peer_limit = 8;
	assert_int_equal(local_cids_missing(&l), 0);
	assert_int_equal(local_cids_retire(&l, 0, &empty, &gone), QE_PROTOCOL_VIOLATION);
}

/* What conn's event queue relies on: without transmitting in between, a peer can retire each known CID once. */
static void local_cids_retire__ratchet__bounded_between_transmissions(void **state)
{
	struct local_cids l;
	struct cid used = { .len = 8, .b = { 0xaa } }, gone;
	fill_local(&l, CIDS_LOCAL_MAX);
	send_all(&l);
	unsigned n = 0;
	for (uint64_t seq = 0; seq < 1000; seq++) {
		if (local_cids_retire(&l, seq, &used, &gone))
			continue;
		n++;
		struct cid c = mk((uint8_t)l.next_seq);
		local_cids_add(&l, &c, tok(1));
	}
	assert_int_equal(n, CIDS_LOCAL_MAX);
}

/* ---- the peer's --------------------------------------------------------- */

static int give(struct remote_cids *r, uint8_t seq, uint8_t prior_to)
{
	struct cid c = mk(seq);
	return remote_cids_on_new(r, seq, prior_to, &c, tok(seq));
}

static void start_remote(struct remote_cids *r, uint8_t upto)
{
	struct cid first = mk(0);
	remote_cids_init(r, &first);
	for (uint8_t i = 1; i <= upto; i++)
		assert_int_equal(give(r, i, 0), 0);
}

static void assert_retires(struct remote_cids *r, const uint64_t *want, size_t n)
{
	uint64_t seq;
	for (size_t i = 0; i < n; i++) {
		assert_true(remote_cids_next_retire(r, &seq));
		bool found = false;
		for (size_t k = 0; k < n; k++)
			found |= want[k] == seq;
		assert_true(found);
	}
	assert_false(remote_cids_next_retire(r, &seq));
}
#define ASSERT_RETIRES(r, ...) \
	assert_retires(r, (uint64_t[]){ __VA_ARGS__ }, sizeof((uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t))

/* RFC9000 5.1.1-6 */
static void remote_cids_on_new__over_limit__connection_id_limit(void **state)
{
	struct remote_cids r;
	start_remote(&r, CIDS_REMOTE_MAX - 1);
	assert_int_equal(give(&r, CIDS_REMOTE_MAX, 0), QE_CONNECTION_ID_LIMIT);
	start_remote(&r, CIDS_REMOTE_MAX - 1);
	assert_int_equal(give(&r, CIDS_REMOTE_MAX, 1), 0);	/* one goes for one that comes */
}

/* RFC9000 19.15-8 the same frame again is no error */
static void remote_cids_on_new__repeated__nothing_changes(void **state)
{
	struct remote_cids r, before;
	start_remote(&r, 3);
	before = r;
	for (uint8_t i = 1; i <= 3; i++)
		assert_int_equal(give(&r, i, 0), 0);
	assert_memory_equal(&r, &before, sizeof(r));
}

/* RFC9000 19.15-9 */
static void remote_cids_on_new__contradictions__violation(void **state)
{
	struct remote_cids r;
	struct cid c1 = mk(1), c9 = mk(9), empty = { 0 };
	start_remote(&r, 3);
	assert_int_equal(remote_cids_on_new(&r, 1, 0, &c9, tok(1)), QE_PROTOCOL_VIOLATION);
	assert_int_equal(remote_cids_on_new(&r, 1, 0, &c1, tok(9)), QE_PROTOCOL_VIOLATION);
	assert_int_equal(remote_cids_on_new(&r, 9, 0, &c1, tok(1)), QE_PROTOCOL_VIOLATION);
	assert_int_equal(remote_cids_on_new(&r, 9, 10, &c9, tok(9)), QE_FRAME_ENCODING);
	/* RFC9000 19.15-7 */
	remote_cids_init(&r, &empty);
	assert_int_equal(remote_cids_on_new(&r, 1, 0, &c1, tok(1)), QE_PROTOCOL_VIOLATION);
}

/* RFC9000 5.1.2-5 */
static void remote_cids_on_new__retire_prior_to__moves_off_the_current(void **state)
{
	struct remote_cids r;
	start_remote(&r, 3);
	assert_int_equal(give(&r, 4, 3), 0);
	assert_int_equal(r.n, 2);
	assert_int_equal(remote_cids_current(&r)->b[1], 3);
	ASSERT_RETIRES(&r, 0, 1, 2);
	/* everything is replaced at once */
	assert_int_equal(give(&r, 5, 5), 0);
	assert_int_equal(remote_cids_current(&r)->b[1], 5);
	assert_int_equal(r.n, 1);
}

static void remote_cids_on_new__retire_prior_to_below_current__current_stays(void **state)
{
	struct remote_cids r;
	start_remote(&r, 4);
	assert_true(remote_cids_rotate(&r) && remote_cids_rotate(&r) && remote_cids_rotate(&r));
	assert_int_equal(remote_cids_current(&r)->b[1], 3);
	assert_int_equal(give(&r, 5, 3), 0);
	assert_int_equal(remote_cids_current(&r)->b[1], 3);
	/* RFC9000 19.15-10 a smaller value has no effect */
	assert_int_equal(give(&r, 6, 1), 0);
	assert_int_equal(r.retire_prior_to, 3);
}

/* RFC9000 19.15-11 */
static void remote_cids_on_new__already_below_prior_to__retired_at_once(void **state)
{
	struct remote_cids r;
	start_remote(&r, 0);
	assert_int_equal(give(&r, 5, 4), 0);
	ASSERT_RETIRES(&r, 0);
	assert_int_equal(give(&r, 2, 0), 0);
	ASSERT_RETIRES(&r, 2);
	assert_int_equal(r.n, 1);
	remote_cids_retire_acked(&r, 2);
	assert_int_equal(give(&r, 2, 0), 0);	/* already done so */
	uint64_t seq;
	assert_false(remote_cids_next_retire(&r, &seq));
}

static void remote_cids_on_new__late_copy_of_a_retired_one__not_revived(void **state)
{
	struct remote_cids r;
	uint64_t seq;
	start_remote(&r, 3);
	assert_true(remote_cids_rotate(&r) && remote_cids_rotate(&r));
	ASSERT_RETIRES(&r, 0, 1);
	remote_cids_retire_acked(&r, 0);
	remote_cids_retire_acked(&r, 1);
	assert_int_equal(give(&r, 1, 0), 0);
	assert_int_equal(r.n, 2);
	assert_false(remote_cids_next_retire(&r, &seq));
}

static void remote_cids_on_new__jump_beyond_memory__old_number_is_retired(void **state)
{
	struct remote_cids r;
	uint64_t seq;
	start_remote(&r, 2);
	assert_int_equal(give(&r, 2 + CIDS_SEEN_WINDOW + 2, 0), 0);
	assert_int_equal(give(&r, 1, 0), 0);	/* still active: a copy, nothing happens */
	assert_false(remote_cids_next_retire(&r, &seq));
	assert_int_equal(give(&r, 4, 0), 0);	/* new, but as old as what is forgotten */
	ASSERT_RETIRES(&r, 4);
	assert_int_equal(r.n, 4);
}

/* The ratchet: each frame retires what the last one gave, and nothing is acknowledged. RFC9000 5.1.2-6 */
static void remote_cids_on_new__ratchet__connection_id_limit(void **state)
{
	struct remote_cids r;
	start_remote(&r, 0);
	uint8_t i = 1;
	for (; i <= CIDS_RETIRE_MAX; i++)
		assert_int_equal(give(&r, i, i), 0);
	assert_int_equal(give(&r, i, i), QE_CONNECTION_ID_LIMIT);
	/* with acknowledgements it goes on for ever */
	start_remote(&r, 0);
	for (i = 1; i < 200; i++) {
		assert_int_equal(give(&r, i, i), 0);
		remote_cids_retire_acked(&r, i - 1u);
		assert_int_equal(r.nretire, 0);
	}
}

/* A copy raises Retire Prior To up to a number that we gave up ourselves: nothing is left to send to. */
static void remote_cids_on_new__nothing_left__connection_id_limit(void **state)
{
	struct remote_cids r;
	start_remote(&r, 0);
	assert_int_equal(give(&r, 5, 0), 0);
	assert_true(remote_cids_rotate(&r));
	assert_int_equal(give(&r, 4, 0), 0);
	assert_true(remote_cids_rotate(&r));	/* 4 in use, 5 retired */
	assert_int_equal(give(&r, 5, 5), QE_CONNECTION_ID_LIMIT);
	assert_int_equal(r.n, 0);
	assert_int_equal(remote_cids_current(&r)->len, 8);	/* still readable, for the last packet */
}

static void remote_cids_rotate__takes_lowest_spare__retires_old(void **state)
{
	struct remote_cids r;
	start_remote(&r, 0);
	assert_false(remote_cids_rotate(&r));
	assert_int_equal(give(&r, 2, 0), 0);
	assert_int_equal(give(&r, 1, 0), 0);
	assert_true(remote_cids_rotate(&r));
	assert_int_equal(remote_cids_current(&r)->b[1], 1);
	ASSERT_RETIRES(&r, 0);
	assert_true(remote_cids_rotate(&r));
	assert_int_equal(remote_cids_current(&r)->b[1], 2);
	ASSERT_RETIRES(&r, 1);
	assert_false(remote_cids_rotate(&r));
	assert_int_equal(remote_cids_current(&r)->b[1], 2);
}

static void remote_cids_retire__lost__sent_again_until_acked(void **state)
{
	struct remote_cids r;
	uint64_t seq;
	start_remote(&r, 2);
	assert_true(remote_cids_rotate(&r));
	ASSERT_RETIRES(&r, 0);
	remote_cids_retire_lost(&r, 0);
	ASSERT_RETIRES(&r, 0);
	remote_cids_retire_acked(&r, 0);
	remote_cids_retire_lost(&r, 0);
	assert_false(remote_cids_next_retire(&r, &seq));
	assert_int_equal(r.nretire, 0);
}

static void remote_cids_set_first__replaces_only_number_0(void **state)
{
	struct remote_cids r;
	struct cid scid = mk(77);
	start_remote(&r, 0);
	remote_cids_set_first(&r, &scid);
	assert_true(cid_equal(remote_cids_current(&r), &scid));
	assert_int_equal(give(&r, 1, 1), 0);
	scid = mk(78);
	remote_cids_set_first(&r, &scid);	/* number 0 is gone */
	remote_cids_set_first_token(&r, tok(78));
	assert_int_equal(remote_cids_current(&r)->b[1], 1);
	assert_false(remote_cids_is_reset(&r, tok(78)));
}

/* RFC9000 10.3.1-4 tokens of unused and of retired CIDs do not count */
static void remote_cids_is_reset__only_used_and_not_retired(void **state)
{
	struct remote_cids r;
	static const uint8_t zeros[RESET_TOKEN_LEN];
	start_remote(&r, 2);
	assert_false(remote_cids_is_reset(&r, zeros));	/* number 0 has no token */
	remote_cids_set_first_token(&r, tok(0));
	assert_true(remote_cids_is_reset(&r, tok(0)));
	assert_false(remote_cids_is_reset(&r, tok(1)));
	assert_true(remote_cids_rotate(&r));
	assert_false(remote_cids_is_reset(&r, tok(0)));
	assert_true(remote_cids_is_reset(&r, tok(1)));
	assert_int_equal(give(&r, 3, 2), 0);	/* the peer moves us to 2 */
	assert_true(remote_cids_is_reset(&r, tok(2)));
	assert_false(remote_cids_is_reset(&r, tok(1)));
	assert_false(remote_cids_is_reset(&r, tok(3)));
}

/* Any order of frames and rotations keeps the bounds. */
static void remote_cids__random_frames__bounds_hold(void **state)
{
	uint64_t x = 88172645463325252u;
	for (unsigned round = 0; round < 2000; round++) {
		struct remote_cids r;
		start_remote(&r, 0);
		for (unsigned step = 0; step < 60; step++) {
			x ^= x << 13;
			x ^= x >> 7;
			x ^= x << 17;
			uint64_t seq;
			uint8_t n = (uint8_t)(x >> 8) % (round % 2 ? 20 : 200), prior = (uint8_t)(x >> 16) % (n + 1u);
			if (x % 8 == 0)
				remote_cids_rotate(&r);
			else if (x % 8 == 1 && remote_cids_next_retire(&r, &seq))
				remote_cids_retire_acked(&r, seq);
			else if (give(&r, n, x % 3 ? 0 : prior))
				break;
			assert_in_range(r.n, 1, CIDS_REMOTE_MAX);
			assert_true(r.current < r.n && r.v[r.current].used);
			assert_true(r.nretire <= CIDS_RETIRE_MAX);
			for (unsigned i = 0; i < r.n; i++) {
				assert_true(r.v[i].seq >= r.retire_prior_to);
				for (unsigned k = 0; k < r.nretire; k++)
					assert_true(r.retire[k] != r.v[i].seq);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(local_cids_missing__follows_peer_limit),
		cmocka_unit_test(local_cids_add__numbers_go_up_by_one__sent_in_order),
		cmocka_unit_test(local_cids_retire__makes_room_and_unregisters),
		cmocka_unit_test(local_cids_retire__violations),
		cmocka_unit_test(local_cids_retire__ratchet__bounded_between_transmissions),
		cmocka_unit_test(remote_cids_on_new__over_limit__connection_id_limit),
		cmocka_unit_test(remote_cids_on_new__repeated__nothing_changes),
		cmocka_unit_test(remote_cids_on_new__contradictions__violation),
		cmocka_unit_test(remote_cids_on_new__retire_prior_to__moves_off_the_current),
		cmocka_unit_test(remote_cids_on_new__retire_prior_to_below_current__current_stays),
		cmocka_unit_test(remote_cids_on_new__already_below_prior_to__retired_at_once),
		cmocka_unit_test(remote_cids_on_new__late_copy_of_a_retired_one__not_revived),
		cmocka_unit_test(remote_cids_on_new__jump_beyond_memory__old_number_is_retired),
		cmocka_unit_test(remote_cids_on_new__ratchet__connection_id_limit),
		cmocka_unit_test(remote_cids_on_new__nothing_left__connection_id_limit),
		cmocka_unit_test(remote_cids_rotate__takes_lowest_spare__retires_old),
		cmocka_unit_test(remote_cids_retire__lost__sent_again_until_acked),
		cmocka_unit_test(remote_cids_set_first__replaces_only_number_0),
		cmocka_unit_test(remote_cids_is_reset__only_used_and_not_retired),
		cmocka_unit_test(remote_cids__random_frames__bounds_hold),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
