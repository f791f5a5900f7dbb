/* Whether marking packets ECT(0) works on a path: first a few marked packets, then
 * the peer's counts decide, and go on being checked. Knows counts, not packets.
 * RFC 9000 13.4.2, A.4 */
#include "recovery/ecn.h"

enum { ECT0, ECT1, CE };	/* order of counts */

void ecn_init(struct ecn_path *e, bool enable)
{
	*e = (struct ecn_path){ .state = enable ? ECN_TESTING : ECN_FAILED };
}

void ecn_restart(struct ecn_path *e)
{
	if (e->state == ECN_FAILED)
		return;
	e->state = ECN_TESTING;
	e->tested = e->lost = 0;
}

enum ecn ecn_mark(const struct ecn_path *e)
{
	return e->state == ECN_TESTING || e->state == ECN_CAPABLE ? ECN_ECT0 : ECN_NOT_ECT;
}

static bool undecided(const struct ecn_path *e)
{
	return e->state == ECN_TESTING || e->state == ECN_UNKNOWN;
}

void ecn_on_sent(struct ecn_path *e, bool tracked)
{
	e->sent_ect++;
	if (!tracked || !undecided(e))
		return;
	if (++e->tested >= ECN_TEST_PACKETS)
		e->state = ECN_UNKNOWN;
}

void ecn_on_lost(struct ecn_path *e)
{
	/* Every marked packet vanished while others went through. A.4 */
	if (undecided(e) && ++e->lost >= e->tested && e->state == ECN_UNKNOWN)
		e->state = ECN_FAILED;
}

void ecn_on_forgotten(struct ecn_path *e)
{
	if (!undecided(e) || !e->tested)
		return;
	e->tested--;
	e->state = ECN_TESTING;
}

static uint64_t total(const struct ecn_path *e, unsigned which)
{
	uint64_t n = 0;
	for (unsigned i = 0; i < SPACE_COUNT; i++)
		n += e->counts[i][which];
	return n;
}

/* RFC 9000 13.4.2.1. Counts are at most 2^62-1 each, sums of three cannot wrap. */
static bool believable(const struct ecn_path *e, const uint64_t *old, const uint64_t *new, uint64_t newly_acked_ect)
{
	if (new[ECT0] < old[ECT0] || new[CE] < old[CE])
		return false;
	if (new[ECT0] - old[ECT0] + (new[CE] - old[CE]) < newly_acked_ect)
		return false;
	/* More marks than were ever made: something rewrites them. ECT(1) is never ours. */
	return !new[ECT1] && total(e, ECT0) - old[ECT0] + new[ECT0] <= e->sent_ect;
}

bool ecn_on_ack(struct ecn_path *e, enum pn_space space, uint64_t newly_acked_ect, const uint64_t *counts)
{
	if (e->state == ECN_FAILED)
		return false;
	if (!counts) {
		if (newly_acked_ect)
			e->state = ECN_FAILED;
		return false;
	}
	uint64_t *old = e->counts[space];
	if (!believable(e, old, counts, newly_acked_ect)) {
		e->state = ECN_FAILED;
		return false;
	}
	bool marked = counts[CE] > old[CE];
	for (unsigned i = 0; i < 3; i++)
		old[i] = counts[i];
	if (!undecided(e) || !newly_acked_ect)
		return marked;
	/* A path that marks everything CE says nothing. A.4 */
	if (total(e, ECT0))
		e->state = ECN_CAPABLE;
	else if (total(e, CE) >= ECN_TEST_PACKETS)
		e->state = ECN_FAILED;
	return marked && e->state != ECN_FAILED;
}
