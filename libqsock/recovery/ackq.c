/* Received packet numbers of one space and the decision when to acknowledge them.
 * Decides by number, kind and ECN mark only; what packets carried is not known
 * here, nor how an ACK is written (wire/frame.h reads the range set). RFC 9000 13.2 */
#include "recovery/ackq.h"

#include "base/err.h"

void ackq_init(struct ackq *q, uint64_t max_delay_us)
{
	*q = (struct ackq){ .largest = PN_NONE, .largest_eliciting = PN_NONE, .new_from = PN_NONE,
			    .deadline_us = UINT64_MAX, .max_delay_us = max_delay_us };
	rangeset_init(&q->got, ACKQ_MAX_RANGES);
}

void ackq_fini(struct ackq *q)
{
	rangeset_fini(&q->got);
}

bool ackq_is_duplicate(const struct ackq *q, uint64_t pn)
{
	return pn < q->forgotten_below || rangeset_contains(&q->got, pn);
}

static void forget_below(struct ackq *q, uint64_t pn)
{
	if (pn <= q->forgotten_below)
		return;
	q->forgotten_below = pn;
	rangeset_drop_below(&q->got, pn);
}

/* With all ranges in use the oldest goes, and with it everything below is never accepted again. RFC 9000 13.2.3 */
static int remember(struct ackq *q, uint64_t pn)
{
	int e = rangeset_add(&q->got, pn, pn + 1);
	if (e != QE_LIMIT)
		return e;
	if (pn < rangeset_first(&q->got).lo) {
		forget_below(q, pn + 1);
		return 0;
	}
	forget_below(q, rangeset_first(&q->got).hi);
	return rangeset_add(&q->got, pn, pn + 1);
}

/* Does this eliciting packet tell the peer's loss detection something? RFC 9000 13.2.1 */
static bool out_of_order(const struct ackq *q, uint64_t pn)
{
	if (q->largest_eliciting == PN_NONE)
		return false;
	if (pn < q->largest_eliciting)
		return true;
	uint64_t from = q->largest_eliciting + 1;
	return !rangeset_covers(&q->got, from > q->forgotten_below ? from : q->forgotten_below, pn);
}

int ackq_on_packet(struct ackq *q, uint64_t pn, bool eliciting, enum ecn ecn, uint64_t now_us)
{
	int e = remember(q, pn);
	if (e)
		return e;
	if (q->largest == PN_NONE || pn > q->largest) {
		q->largest = pn;
		q->largest_at_us = now_us;
	}
	if (pn < q->new_from)
		q->new_from = pn;
	if (ecn != ECN_NOT_ECT)
		q->ecn[ecn == ECN_ECT0 ? 0 : ecn == ECN_ECT1 ? 1 : 2]++;
	/* Others never cause an ACK, or two endpoints would acknowledge each other's ACKs for ever. RFC 9000 13.2.1 */
	if (!eliciting)
		return 0;
	q->eliciting++;
	if (q->eliciting >= 2 || !q->max_delay_us || ecn == ECN_CE || out_of_order(q, pn)) {
		q->immediate = true;
		q->deadline_us = now_us < q->deadline_us ? now_us : q->deadline_us;
	} else if (q->deadline_us == UINT64_MAX) {
		q->deadline_us = now_us + q->max_delay_us;
	}
	if (q->largest_eliciting == PN_NONE || pn > q->largest_eliciting)
		q->largest_eliciting = pn;
	return 0;
}

bool ackq_due(const struct ackq *q, uint64_t now_us)
{
	return q->immediate || now_us >= q->deadline_us;
}

bool ackq_owed(const struct ackq *q)
{
	return q->eliciting > 0;
}

uint64_t ackq_delay_field(const struct ackq *q, uint64_t now_us, unsigned exponent)
{
	return now_us > q->largest_at_us ? (now_us - q->largest_at_us) >> exponent : 0;
}

void ackq_on_ack_sent(struct ackq *q)
{
	q->eliciting = 0;
	q->immediate = false;
	q->deadline_us = UINT64_MAX;
	q->new_from = PN_NONE;
}

void ackq_on_ack_acked(struct ackq *q, uint64_t largest)
{
	/* What came after that ACK, late and below its largest, is still to be reported; and the largest itself stays,
	 * so that every ACK can name it. RFC 9000 13.2.3 */
	forget_below(q, largest < q->new_from ? largest : q->new_from);
}
