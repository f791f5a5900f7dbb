/* What a client remembers of servers: in memory, in files that processes share, and not at all. Without an engine files
 * are written at once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "sock/sock.h"
#include "support/certs.h"
#include "support/leak.h"

static char dir[64], file[128];
static struct sock_config in_memory = { .session_id = 1 };
static struct sock_config in_file = { .session_id = 1, .session_file = file };

static int setup(void **state)
{
	testdir_make(dir);
	snprintf(file, sizeof(file), "%s/sessions", dir);
	return leak_setup(state);
}

static int teardown(void **state)
{
	sessions_flush();
	testdir_remove(dir);
	return leak_teardown(state);
}

static struct addr at(uint8_t last, uint16_t port)
{
	struct addr a = { .in4 = { .sin_family = AF_INET, .sin_port = htons(port) } };
	a.in4.sin_addr.s_addr = htonl(0x0a000000u + last);
	return a;
}

static void store(struct sock_config *c, const char *name, struct addr a, const char *text)
{
	sessions_store(NULL, c, name, &a, (const uint8_t *)text, strlen(text));
}

static void store_token(struct sock_config *c, const char *name, struct addr a, const char *text)
{
	sessions_store_token(NULL, c, name, &a, (const uint8_t *)text, strlen(text));
}

/* want NULL: nothing is there */
static void expect(struct sock_config *c, const char *name, struct addr a, const char *want)
{
	size_t len = 77;
	const uint8_t *p = sessions_find(NULL, c, name, &a, &len);
	assert_int_equal(len, want ? strlen(want) : 0);
	if (want)
		assert_memory_equal(p, want, len);
	else
		assert_null(p);
}

static void expect_token(struct sock_config *c, const char *name, struct addr a, const char *want)
{
	size_t len = 77;
	const uint8_t *p = sessions_take_token(NULL, c, name, &a, &len);
	assert_int_equal(len, want ? strlen(want) : 0);
	if (want)
		assert_memory_equal(p, want, len);
	else
		assert_null(p);
}

static int files_in_dir(void)
{
	DIR *d = opendir(dir);
	int n = 0;
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* Each of these holds in memory and in a file. */
static struct sock_config *const both[] = { &in_memory, &in_file };
#define EACH(c) for (struct sock_config *const *p_ = both, *c; p_ < both + 2 && (c = *p_, 1); p_++)

static void sessions__stored__found_again_and_again(void **state)
{
	EACH(c) {
		expect(c, "a.example", at(1, 443), NULL);
		store(c, "a.example", at(1, 443), "first");
		expect(c, "a.example", at(1, 443), "first");
		store(c, "a.example", at(1, 443), "second, longer");
		expect(c, "a.example", at(1, 443), "second, longer");
		expect(c, "a.example", at(1, 443), "second, longer");
	}
}

/* RFC9000 8.1.3-8 a token is not used twice */
static void sessions__token__taken_once(void **state)
{
	EACH(c) {
		store(c, "a.example", at(1, 443), "session");
		store_token(c, "a.example", at(1, 443), "token");
		expect_token(c, "a.example", at(1, 443), "token");
		expect_token(c, "a.example", at(1, 443), NULL);
		expect(c, "a.example", at(1, 443), "session");
		store_token(c, "a.example", at(1, 443), "another");
		expect_token(c, "a.example", at(1, 443), "another");
	}
}

/* A name is one server at whatever address; without a name the address is. Ports and configurations are never mixed. */
static void sessions__keys(void **state)
{
	struct sock_config other_memory = { .session_id = 2 }, other_file = { .session_id = 2, .session_file = file };
	EACH(c) {
		store(c, "a.example", at(1, 443), "named");
		store(c, NULL, at(1, 443), "address");
		expect(c, "a.example", at(2, 443), "named");
		expect(c, "A.Example", at(1, 443), "named");
		expect(c, "b.example", at(1, 443), NULL);
		expect(c, "a.example", at(1, 444), NULL);
		expect(c, NULL, at(1, 443), "address");
		expect(c, NULL, at(2, 443), NULL);
		expect(c == &in_file ? &other_file : &other_memory, "a.example", at(1, 443), NULL);
	}
}

static void sessions__ipv6__apart_from_its_name(void **state)
{
	struct addr six = { .in6 = { .sin6_family = AF_INET6, .sin6_port = htons(443) } };
	six.in6.sin6_addr = in6addr_loopback;
	EACH(c) {
		store(c, NULL, six, "six");
		expect(c, NULL, six, "six");
		expect(c, NULL, at(1, 443), NULL);
	}
}

static void sessions__too_many_servers__oldest_go(void **state)
{
	char name[32];
	EACH(c) {
		for (int i = 0; i < SESSIONS_MAX; i++) {
			snprintf(name, sizeof(name), "s%d", i);
			store(c, name, at(1, 443), name);
		}
		store(c, "s0", at(1, 443), "s0");	/* the oldest is renewed */
		store(c, "new", at(1, 443), "new");
		expect(c, "s0", at(1, 443), "s0");
		expect(c, "s1", at(1, 443), NULL);
		expect(c, "s2", at(1, 443), "s2");
		expect(c, "new", at(1, 443), "new");
	}
}

static void sessions__empty_or_huge__not_kept(void **state)
{
	static uint8_t big[100000];
	struct addr a = at(1, 443);
	EACH(c) {
		sessions_store(NULL, c, "a.example", &a, big, sizeof(big));
		sessions_store(NULL, c, "a.example", &a, big, 0);
		expect(c, "a.example", a, NULL);
	}
}

/* ---- the file ---------------------------------------------------------------- */

static void sessions_file__private_and_whole(void **state)
{
	struct stat st;
	store(&in_file, "a.example", at(1, 443), "x");
	assert_int_equal(stat(file, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	ino_t before = st.st_ino;
	store(&in_file, "a.example", at(1, 443), "y");
	assert_int_equal(stat(file, &st), 0);
	assert_true(st.st_ino != before);	/* replaced, never written in place */
	assert_int_equal(files_in_dir(), 1);	/* nothing temporary is left */
}

static void sessions_file__other_process_wrote__seen(void **state)
{
	char copy[128];
	store(&in_file, "a.example", at(1, 443), "ours");
	snprintf(copy, sizeof(copy), "%s/theirs", dir);
	struct sock_config theirs = { .session_id = 1, .session_file = copy };
	store(&theirs, "a.example", at(1, 443), "theirs");
	store(&theirs, "b.example", at(1, 443), "more");
	assert_int_equal(rename(copy, file), 0);
	expect(&in_file, "a.example", at(1, 443), "theirs");
	store(&in_file, "c.example", at(1, 443), "mine");
	expect(&in_file, "b.example", at(1, 443), "more");
}

static void write_file(const void *p, size_t len)
{
	int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, p, len), len);
	close(fd);
}

/* Cut anywhere, or with any byte changed: never a crash, and what is found is what was stored or nothing. */
static void sessions_file__damaged__harmless(void **state)
{
	uint8_t whole[4096], bad[4096];
	store(&in_file, "a.example", at(1, 443), "session");
	store_token(&in_file, "a.example", at(1, 443), "token");
	int fd = open(file, O_RDONLY);
	ssize_t n = read(fd, whole, sizeof(whole));
	close(fd);
	assert_in_range(n, 20, 200);
	for (ssize_t cut = 0; cut < n; cut++) {
		size_t len;
		write_file(whole, (size_t)cut);
		struct addr a = at(1, 443);
		const uint8_t *p = sessions_find(NULL, &in_file, "a.example", &a, &len);
		assert_true(!p || (len == 7 && !memcmp(p, "session", 7)));
	}
	for (ssize_t i = 0; i < n; i++) {
		size_t len;
		struct addr a = at(1, 443);
		memcpy(bad, whole, (size_t)n);
		bad[i] ^= 0xff;
		write_file(bad, (size_t)n);
		sessions_find(NULL, &in_file, "a.example", &a, &len);
		sessions_take_token(NULL, &in_file, "a.example", &a, &len);
	}
	write_file("something else entirely", 23);
	store(&in_file, "a.example", at(1, 443), "again");
	expect(&in_file, "a.example", at(1, 443), "again");
}

/* A careless path must not replace a device, as root could. */
static void sessions_file__no_regular_file__left_alone(void **state)
{
	struct stat st;
	assert_int_equal(mkfifo(file, 0600), 0);
	store(&in_file, "a.example", at(1, 443), "x");
	expect(&in_file, "a.example", at(1, 443), "x");
	sessions_flush();
	expect(&in_file, "a.example", at(1, 443), NULL);
	assert_int_equal(lstat(file, &st), 0);
	assert_true(S_ISFIFO(st.st_mode));
	assert_int_equal(files_in_dir(), 1);
}

static void sessions_file__no_directory__no_harm(void **state)
{
	struct sock_config c = { .session_id = 1, .session_file = "/nonexistent/x/sessions" };
	store(&c, "a.example", at(1, 443), "x");
	expect(&c, "a.example", at(1, 443), "x");
}

static void sessions_file__large_entries__size_bounded(void **state)
{
	static uint8_t blob[16000];
	char name[32];
	struct stat st;
	struct addr a = at(1, 443);
	size_t len;
	for (int i = 0; i < 40; i++) {
		snprintf(name, sizeof(name), "s%d", i);
		sessions_store(NULL, &in_file, name, &a, blob, sizeof(blob));
	}
	assert_int_equal(stat(file, &st), 0);
	assert_in_range(st.st_size, 100000, 256 * 1024);
	sessions_flush();
	assert_non_null(sessions_find(NULL, &in_file, "s39", &a, &len));
	assert_null(sessions_find(NULL, &in_file, "s0", &a, &len));
}

/* ---- with an engine ------------------------------------------------------------------ */

static int run_store(struct engine *e, void *arg)
{
	struct addr a = at(1, 443);
	sessions_store(e, arg, "a.example", &a, (const uint8_t *)"x", 1);
	sessions_store_token(e, arg, "a.example", &a, (const uint8_t *)"y", 1);
	return access(file, F_OK);
}

static void sessions_file__engine__written_a_little_later(void **state)
{
	char buf[sizeof(struct inotify_event) + NAME_MAX + 1];
	struct pollfd p = { .fd = inotify_init1(IN_CLOEXEC), .events = POLLIN };
	assert_true(inotify_add_watch(p.fd, dir, IN_CREATE | IN_MOVED_TO) >= 0);
	assert_int_equal(engine_call(run_store, &in_file), -1);
	while (access(file, F_OK)) {
		assert_int_equal(poll(&p, 1, 10000), 1);
		assert_true(read(p.fd, buf, sizeof(buf)) > 0);
	}
	close(p.fd);
	engine_stop(0);
}

static void sessions_file__engine_ends__written(void **state)
{
	assert_int_equal(engine_call(run_store, &in_file), -1);
	engine_stop(0);
	sessions_flush();
	expect(&in_file, "a.example", at(1, 443), "x");
	expect_token(&in_file, "a.example", at(1, 443), "y");
}

/* Another process writes between our reading and our writing: here by another name of the file. */
static void sessions_file__two_writers__both_stay(void **state)
{
	char again[sizeof(file) + 2];
	snprintf(again, sizeof(again), "%s/./sessions", dir);
	struct sock_config second = { .session_id = 1, .session_file = again };
	assert_int_equal(engine_call(run_store, &in_file), -1);
	store(&second, "b.example", at(1, 443), "z");
	engine_stop(0);
	sessions_flush();
	expect(&in_file, "a.example", at(1, 443), "x");
	expect(&in_file, "b.example", at(1, 443), "z");
}

static void sessions_file__many__all_are_written(void **state)
{
	char name[20][160];
	for (int i = 0; i < 20; i++) {
		snprintf(name[i], sizeof(name[i]), "%s/n%d", dir, i);
		struct sock_config c = { .session_id = 1, .session_file = name[i] };
		assert_int_equal(engine_call(run_store, &c), -1);
	}
	engine_stop(0);
	sessions_flush();
	for (int i = 0; i < 20; i++) {
		struct sock_config c = { .session_id = 1, .session_file = name[i] };
		expect(&c, "a.example", at(1, 443), "x");
	}
}

static void sessions__no_resumption__nothing_is_kept(void **state)
{
	EACH(c) {
		struct sock_config none = *c;
		none.no_resumption = true;
		store(&none, "a.example", at(1, 443), "x");
		store_token(&none, "a.example", at(1, 443), "y");
		expect(c, "a.example", at(1, 443), NULL);
		store(c, "a.example", at(1, 443), "x");
		store_token(c, "a.example", at(1, 443), "y");
		expect(&none, "a.example", at(1, 443), NULL);
		expect_token(&none, "a.example", at(1, 443), NULL);
	}
}

/* ---- memory ------------------------------------------------------------------------ */

static void sessions__nth_allocation_fails__nothing_lost_or_left(void **state)
{
	EACH(c) {
		for (uint64_t n = 1; n < 20; n++) {
			size_t len;
			struct addr a = at(1, 443);
			store(c, "old.example", a, "old");
			mem_test_fail_nth(n);
			store(c, "a.example", a, "session");
			store_token(c, "a.example", a, "token");
			sessions_find(NULL, c, "a.example", &a, &len);
			mem_test_fail_nth(0);
			store(c, "a.example", a, "later");
			expect(c, "a.example", a, "later");
			expect(c, "old.example", a, "old");
			sessions_flush();
			assert_int_equal(allocated(), 0);
			unlink(file);
		}
	}
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	sock_register();
	const struct CMUnitTest tests[] = {
		T(sessions__stored__found_again_and_again),
		T(sessions__token__taken_once),
		T(sessions__keys),
		T(sessions__ipv6__apart_from_its_name),
		T(sessions__too_many_servers__oldest_go),
		T(sessions__empty_or_huge__not_kept),
		T(sessions_file__private_and_whole),
		T(sessions_file__other_process_wrote__seen),
		T(sessions_file__damaged__harmless),
		T(sessions_file__no_regular_file__left_alone),
		T(sessions_file__no_directory__no_harm),
		T(sessions_file__large_entries__size_bounded),
		T(sessions_file__engine__written_a_little_later),
		T(sessions_file__engine_ends__written),
		T(sessions_file__two_writers__both_stay),
		T(sessions_file__many__all_are_written),
		T(sessions__no_resumption__nothing_is_kept),
		T(sessions__nth_allocation_fails__nothing_lost_or_left),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
