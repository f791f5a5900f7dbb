/* Records with descriptors over a socket: order, a full and a closed other end, no descriptor to spare, garbage. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "sock/sock.h"

static int pair[2];	/* [0] application's, [1] engine's */

static int setup(void **state)
{
	uint64_t cookie;
	return pair_make(pair, SOCK_CLOEXEC, &cookie);
}

static int teardown(void **state)
{
	close(pair[0]);
	close(pair[1]);
	return 0;
}

static int fd_count(void)
{
	int n = 0;
	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

static struct record record_of(uint64_t cookie)
{
	struct record r = { .type = RECORD_STREAM, .cookie = cookie };
	return r;
}

static void mailbox__with_a_descriptor__arrives_with_its_record(void **state)
{
	int before = fd_count();
	for (int n = 0; n <= 1; n++) {
		int p[2], got;
		struct record r = record_of(7 + (uint64_t)n), in;
		assert_int_equal(pipe(p), 0);
		assert_int_equal(mailbox_send(pair[1], &r, n ? p[0] : -1, MSG_DONTWAIT), 0);
		assert_int_equal(mailbox_recv(pair[0], &in, &got, MSG_DONTWAIT | MSG_CMSG_CLOEXEC), 1);
		assert_memory_equal(&in, &r, sizeof(r));
		assert_int_equal(got >= 0, n > 0);
		if (n) {
			assert_int_equal(fcntl(got, F_GETFD), FD_CLOEXEC);
			close(got);
		}
		close(p[0]);
		close(p[1]);
	}
	assert_int_equal(fd_count(), before);
}

/* Not one of ours: what does not fit must not stay open. */
static void mailbox_recv__two_descriptors__emfile_and_both_closed(void **state)
{
	int before = fd_count(), got;
	struct record r = record_of(1), in;
	union { struct cmsghdr hdr; char buf[CMSG_SPACE(2 * sizeof(int))]; } control = { 0 };
	struct iovec iov = { &r, sizeof(r) };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof(control) };
	control.hdr = (struct cmsghdr){ .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
					.cmsg_len = CMSG_LEN(sizeof(pair)) };
	memcpy(CMSG_DATA(&control.hdr), pair, sizeof(pair));
	assert_int_equal(sendmsg(pair[1], &m, 0), sizeof(r));
	assert_int_equal(mailbox_recv(pair[0], &in, &got, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EMFILE);
	assert_int_equal(got, -1);
	assert_int_equal(fd_count(), before);
}

static void mailbox_recv__order_is_kept_one_at_a_time(void **state)
{
	struct record in;
	int got;
	for (uint64_t i = 1; i <= 100; i++) {
		struct record r = record_of(i);
		assert_int_equal(mailbox_send(pair[1], &r, i % 3 ? -1 : pair[1], MSG_DONTWAIT), 0);
	}
	for (uint64_t i = 1; i <= 100; i++) {
		assert_int_equal(mailbox_recv(pair[0], &in, &got, MSG_DONTWAIT), 1);
		assert_true(in.cookie == i);
		assert_int_equal(got >= 0, i % 3 == 0);
		if (got >= 0)
			close(got);
	}
	assert_int_equal(mailbox_recv(pair[0], &in, &got, MSG_DONTWAIT), -1);
	assert_int_equal(errno, EAGAIN);
}

static void mailbox_send__full__eagain_and_nothing_is_torn(void **state)
{
	struct record r = record_of(1), in;
	int got, n = 0, m = 0;
	while (!mailbox_send(pair[1], &r, -1, MSG_DONTWAIT))
		n++;
	assert_int_equal(errno, EAGAIN);
	while (mailbox_recv(pair[0], &in, &got, MSG_DONTWAIT) == 1)
		m++;
	assert_int_equal(errno, EAGAIN);
	assert_true(n > 100);
	assert_int_equal(n, m);
}

static void mailbox_send__other_end_closed__epipe_without_signal(void **state)
{
	struct record r = record_of(1);
	close(pair[0]);
	pair[0] = -1;
	assert_int_equal(mailbox_send(pair[1], &r, -1, MSG_DONTWAIT), -1);
	assert_true(errno == EPIPE || errno == ECONNRESET);
}

static void mailbox_recv__clean_end_and_abnormal_end(void **state)
{
	struct record in;
	int got;
	char byte;
	assert_int_equal(read(pair[1], &byte, 1), 1);
	close(pair[1]);
	assert_int_equal(mailbox_recv(pair[0], &in, &got, 0), 0);
	close(pair[0]);
	assert_int_equal(setup(state), 0);
	close(pair[1]);
	pair[1] = -1;
	assert_int_equal(mailbox_recv(pair[0], &in, &got, 0), -1);
	assert_int_equal(errno, ECONNRESET);
}

/* At the limit recvmsg would take the record and destroy the descriptor. */
static void mailbox_recv__no_descriptor_free__emfile_and_nothing_lost(void **state)
{
	struct rlimit old, low;
	struct record r = record_of(42), in;
	int got;
	assert_int_equal(mailbox_send(pair[1], &r, pair[0], 0), 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
	low = old;
	low.rlim_cur = (rlim_t)pair[1] + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
	int ret = mailbox_recv(pair[0], &in, &got, MSG_DONTWAIT), err = errno;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
	assert_int_equal(ret, -1);
	assert_int_equal(err, EMFILE);
	assert_int_equal(mailbox_recv(pair[0], &in, &got, MSG_DONTWAIT), 1);
	assert_true(in.cookie == 42 && got >= 0);
	close(got);
}

/* Else it would never be closed, and no descriptor ever be free again. */
static void mailbox_recv__no_descriptor_free_and_no_record__the_end_is_told(void **state)
{
	for (int abnormal = 0; abnormal < 2; abnormal++) {
		struct rlimit old, low;
		struct record in;
		int fd[2], got;
		assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fd), 0);
		assert_true(!abnormal || write(fd[0], "x", 1) == 1);	/* unread by the end that closes */
		assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
		low = old;
		low.rlim_cur = 0;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
		int before = mailbox_recv(fd[0], &in, &got, MSG_DONTWAIT), err_before = errno;
		close(fd[1]);
		int ret = mailbox_recv(fd[0], &in, &got, MSG_DONTWAIT), err = errno;
		assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
		assert_int_equal(before, -1);
		assert_int_equal(err_before, EMFILE);	/* as accept(2) */
		assert_int_equal(ret, abnormal ? -1 : 0);
		assert_true(!abnormal || err == ECONNRESET);
		close(fd[0]);
	}
}

static int queued(int fd)
{
	int n = -1;
	assert_int_equal(ioctl(fd, FIONREAD, &n), 0);
	return n;
}

static void mailbox_recv_retaining__leaves_one_byte(void **state)
{
	struct record in;
	int got;
	assert_int_equal(mailbox_recv_retaining(pair[1], &in, &got, &(bool){ 0 }), -1);
	assert_int_equal(errno, EAGAIN);
	for (int round = 0; round < 3; round++) {
		for (uint64_t i = 1; i <= 3; i++) {
			struct record r = record_of(i);
			assert_int_equal(mailbox_send(pair[0], &r, i == 2 ? -1 : pair[0], 0), 0);
		}
		for (uint64_t i = 1; i <= 3; i++) {
			assert_int_equal(mailbox_recv_retaining(pair[1], &in, &got, &(bool){ 0 }), 1);
			struct record want = record_of(i);
			assert_memory_equal(&in, &want, sizeof(want));
			assert_int_equal(got >= 0, i != 2);
			if (got >= 0)
				close(got);
			assert_int_equal(queued(pair[1]), 1 + (3 - (int)i) * RECORD_SIZE);
		}
		assert_int_equal(mailbox_recv_retaining(pair[1], &in, &got, &(bool){ 0 }), -1);
		assert_int_equal(errno, EAGAIN);
	}
}

/* Whatever a program writes there, the retained byte stays. */
static void mailbox_recv_retaining__garbage__eproto_and_one_byte_left_at_least(void **state)
{
	static const char junk[RECORD_SIZE];
	for (size_t n = 1; n < RECORD_SIZE; n++) {
		struct record in;
		int got;
		char sink[256];
		assert_int_equal(write(pair[0], junk, n), n);
		assert_int_equal(mailbox_recv_retaining(pair[1], &in, &got, &(bool){ 0 }), -1);
		assert_int_equal(errno, EPROTO);
		assert_true(queued(pair[1]) >= 1);
		assert_int_equal(read(pair[1], sink, n), n);
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(mailbox__with_a_descriptor__arrives_with_its_record),
		T(mailbox_recv__two_descriptors__emfile_and_both_closed),
		T(mailbox_recv__order_is_kept_one_at_a_time),
		T(mailbox_send__full__eagain_and_nothing_is_torn),
		T(mailbox_send__other_end_closed__epipe_without_signal),
		T(mailbox_recv__clean_end_and_abnormal_end),
		T(mailbox_recv__no_descriptor_free__emfile_and_nothing_lost),
		T(mailbox_recv__no_descriptor_free_and_no_record__the_end_is_told),
		T(mailbox_recv_retaining__leaves_one_byte),
		T(mailbox_recv_retaining__garbage__eproto_and_one_byte_left_at_least),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
