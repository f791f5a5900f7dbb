/* Every allocation fails once while a connection is made, used and closed: calls may fail then, but nothing
 * crashes, hangs or stays allocated, and what does not fail works. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/loopback.h"

static bool readable_soon(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	return poll(&p, 1, 300) == 1;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

struct ends {
	int client, server, stream, accepted;
};

static bool make_connection(struct loopback *lb, struct ends *e)
{
	e->client = qsock_socket(AF_INET, SOCK_STREAM, 0);
	if (e->client < 0 || qsock_setsockopt(e->client, SOL_QUIC, QSOCK_CONFIG, &lb->client, sizeof(lb->client)))
		return false;
	if (qsock_connect(e->client, (struct sockaddr *)&lb->addr, sizeof(lb->addr)))
		return false;
	e->server = readable_soon(lb->listener) ? qsock_accept(lb->listener, NULL, NULL) : -1;
	return e->server >= 0;
}

static bool use_connection(struct ends *e)
{
	char buf[8];
	e->stream = qsock_open_stream(e->client, 0);
	if (e->stream < 0 || send(e->stream, "ask", 3, MSG_NOSIGNAL) != 3)
		return false;
	shutdown(e->stream, SHUT_WR);
	e->accepted = readable_soon(e->server) ? qsock_accept_stream(e->server, 0) : -1;
	if (e->accepted < 0 || !readable_soon(e->accepted) || read(e->accepted, buf, 3) != 3)
		return false;
	if (send(e->accepted, "tell", 4, MSG_NOSIGNAL) != 4)
		return false;
	close_fd(&e->accepted);
	return readable_soon(e->stream) && read(e->stream, buf, 4) == 4 && read(e->stream, buf, 1) == 0;
}

static bool once(struct loopback *lb)
{
	struct ends e = { -1, -1, -1, -1 };
	bool ok = make_connection(lb, &e) && use_connection(&e);
	close_fd(&e.accepted);
	close_fd(&e.stream);
	close_fd(&e.server);
	close_fd(&e.client);
	return ok;
}

static void connection__any_allocation_fails__the_next_one_works(void **state)
{
	struct loopback *lb = *state;
	lb->client.handshake_timeout_ms = 300;
	lb->client.flags |= QSOCK_CONFIG_NO_RESUMPTION;
	loopback_listen(lb);
	assert_true(once(lb));
	uint64_t before = mem_test_count();
	assert_true(once(lb));
	uint64_t per_run = mem_test_count() - before;
	int failed = 0;
	for (uint64_t n = 1; n <= per_run + 20; n++) {
		mem_test_fail_nth(n);
		failed += !once(lb);
		mem_test_fail_nth(0);
		/* connections left in the mailbox by clients that gave up */
		while (poll_now(lb->listener, POLLIN)) {
			int c = qsock_accept(lb->listener, NULL, NULL);
			assert_true(c >= 0);
			close(c);
		}
	}
	assert_true(failed > 0);
	assert_true(once(lb));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connection__any_allocation_fails__the_next_one_works),
	};
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
