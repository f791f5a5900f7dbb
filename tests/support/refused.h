/* For tests of calls that must fail: the errno expected, and addresses where nobody answers. */
#ifndef SUPPORT_REFUSED_H
#define SUPPORT_REFUSED_H

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#define expect_errno(call, want) \
	do { \
		errno = 0; \
		long long ret_ = (long long)(call); \
		if (ret_ != -1 || errno != (want)) \
			fail_msg("line %d: %s: %lld, %s; not %s", __LINE__, #call, ret_, \
				 strerrorname_np(errno), strerrorname_np(want)); \
	} while (0)

struct sockaddr_in somewhere(uint16_t port);	/* on the loopback address */
struct sockaddr_in nobody(void);		/* a port that was free a moment ago */
int silent(struct sockaddr_in *a);		/* a UDP socket that never answers, and its address */

#endif
