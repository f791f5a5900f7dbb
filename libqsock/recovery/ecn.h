/* ECN validation of one path: mark the first packets ECT(0), then trust what the
 * peer's counts confirm. RFC 9000 13.4.2, A.4 */
#ifndef RECOVERY_ECN_H
#define RECOVERY_ECN_H

#include <stdbool.h>
#include <stdint.h>

#include "recovery/ackq.h"

#define ECN_TEST_PACKETS 10

enum ecn_state { ECN_TESTING, ECN_UNKNOWN, ECN_CAPABLE, ECN_FAILED };

struct ecn_path {
	enum ecn_state state;
	uint64_t sent_ect;		/* marked packets sent in all */
	uint64_t tested;		/* of them followed by loss detection, before the path was found capable */
	uint64_t lost;			/* of those declared lost */
	uint64_t counts[3][3];		/* per space: highest ECT0, ECT1, CE reported */
};

void ecn_init(struct ecn_path *e, bool enable);	/* !enable: ECN_FAILED from the start */
void ecn_restart(struct ecn_path *e);	/* another path, the same counts: test it. Once failed it stays so */
enum ecn ecn_mark(const struct ecn_path *e);	/* for the next packet: ECN_ECT0 or ECN_NOT_ECT */
/* A marked packet left. tracked: it is in flight, so its loss will be noticed. */
void ecn_on_sent(struct ecn_path *e, bool tracked);
void ecn_on_lost(struct ecn_path *e);		/* a tracked one was declared lost */
void ecn_on_forgotten(struct ecn_path *e);	/* a tracked one went with its keys: its fate stays unknown */
/* An ACK that raised the largest acknowledged: newly_acked_ect marked packets
 * were newly acknowledged; counts {ect0, ect1, ce} or NULL when the frame had
 * none. true: the CE count grew, that is a congestion signal. */
bool ecn_on_ack(struct ecn_path *e, enum pn_space space, uint64_t newly_acked_ect, const uint64_t *counts);

#endif
