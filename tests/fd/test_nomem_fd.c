/* Every allocation fails once while a connection is made, used and closed: calls may fail then, but nothing
 * crashes, hangs or stays allocated, and what does not fail works. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/loopback.h"

#define PATIENCE_MS 10000	/* less than what ends by itself for want of packets: the idle timeout */

/* What was begun goes on or ends: either fd becomes readable, or the descriptor that would hear of the end. false: it is
 * only the latter. */
static bool comes(int fd, int or_end)
{
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = or_end, .events = POLLIN } };
	assert_true(poll(p, 2, PATIENCE_MS) > 0);
	return p[0].revents != 0;
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
	e->server = comes(lb->listener, e->client) ? qsock_accept(lb->listener, NULL, NULL) : -1;
	return e->server >= 0;
}

static bool use_connection(struct ends *e)
{
	char buf[8];
	const struct timeval patience = { .tv_sec = PATIENCE_MS / 1000 };
	assert_int_equal(setsockopt(e->client, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)), 0);
	e->stream = qsock_open_stream(e->client, 0);
	assert_true(e->stream >= 0 || errno != EAGAIN);
	if (e->stream < 0 || send(e->stream, "ask", 3, MSG_NOSIGNAL) != 3)
		return false;
	shutdown(e->stream, SHUT_WR);
	e->accepted = comes(e->server, e->stream) ? qsock_accept_stream(e->server, 0) : -1;
	if (e->accepted < 0 || !comes(e->accepted, e->stream) || read(e->accepted, buf, 3) != 3)
		return false;
	if (send(e->accepted, "tell", 4, MSG_NOSIGNAL) != 4)
		return false;
	close_fd(&e->accepted);
	return comes(e->stream, e->client) && read(e->stream, buf, 4) == 4 && read(e->stream, buf, 1) == 0;
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

/* A write that finds no memory is tried again, also when the connection's own descriptor is closed meanwhile. */
static void stream__write_finds_no_memory_and_the_connection_is_closed__arrives_or_ends(void **state)
{
	struct loopback *lb = *state;
	for (uint64_t n = 1; n <= 12; n++) {
		int conn[2], fd[2];
		char buf[8];
		loopback_pair(lb, conn);
		loopback_stream(conn, fd, 0);
		assert_int_equal(send(fd[0], "a", 1, MSG_NOSIGNAL), 1);
		assert_int_equal(read(fd[1], buf, 1), 1);
		uint64_t before = mem_test_count();
		mem_test_fail_nth(n);
		assert_int_equal(send(fd[0], "b", 1, MSG_NOSIGNAL), 1);
		while (mem_test_count() - before < n && !poll_now(fd[1], POLLIN))
			sched_yield();
		close_fd(&conn[0]);
		assert_true(comes(fd[1], conn[1]));
		mem_test_fail_nth(0);
		close_fd(&fd[0]);
		close_fd(&fd[1]);
		close_fd(&conn[1]);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(connection__any_allocation_fails__the_next_one_works),
		cmocka_unit_test(stream__write_finds_no_memory_and_the_connection_is_closed__arrives_or_ends),
	};
	return cmocka_run_group_tests(tests, loopback_group_setup, loopback_group_teardown);
}
