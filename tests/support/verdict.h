/* How a scene's victim judged what it was sent. A test looks at all of its inputs before it fails: each wrong verdict
 * is printed and counted, and the teardown fails if there was one. */
#ifndef SUPPORT_VERDICT_H
#define SUPPORT_VERDICT_H

#include "support/injscene.h"

#define ANY_TYPE UINT64_MAX

/* Closed by itself with this transport error (a QE_), and said so on the wire once or more with the same code and frame
 * type. type: of the frame to blame; ANY_TYPE: whatever it says. rfc, what: for the message. */
void expect_closed(struct scene *s, const char *rfc, const char *what, int qe, uint64_t type);
void expect_open(struct scene *s, const char *rfc, const char *what);
/* The same of this end only, and the test fails at once. */
void assert_open(const struct scene *s);
void assert_closed(const struct scene *s, int qe);
unsigned verdicts_wrong(void);	/* in this test so far */

/* Around every test; together with leak.h. */
int verdict_setup(void **state);
int verdict_teardown(void **state);

#endif
