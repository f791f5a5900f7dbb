/* What a client remembers of servers: in memory, in files that processes share, and not at all. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "sock/sock.h"

static char dir[] = "/tmp/qsock-sessions-XXXXXX";
static char path[64];
static uint64_t live;
static const struct addr somewhere = { .in4 = { .sin_family = AF_INET } };

struct job {
	struct sock_config *cfg;
	const char *name, *store, *token;	/* to be kept; NULL: nothing */
	char session[16], taken[16];		/* what was found */
};

static int run(struct engine *e, void *arg)
{
	struct job *j = arg;
	size_t len;
	const uint8_t *p;
	if (j->store)
		sessions_store(e, j->cfg, j->name, &somewhere, (const uint8_t *)j->store, strlen(j->store) + 1);
	if (j->token)
		sessions_store_token(e, j->cfg, j->name, &somewhere, (const uint8_t *)j->token, strlen(j->token) + 1);
	if (j->store || j->token)
		return 0;
	p = sessions_find(e, j->cfg, j->name, &somewhere, &len);
	snprintf(j->session, sizeof(j->session), "%s", p ? (const char *)p : "");
	p = sessions_take_token(e, j->cfg, j->name, &somewhere, &len);
	snprintf(j->taken, sizeof(j->taken), "%s", p ? (const char *)p : "");
	return 0;
}

static void keep(struct sock_config *c, const char *name, const char *session, const char *token)
{
	struct job j = { .cfg = c, .name = name, .store = session, .token = token };
	assert_int_equal(engine_call(run, &j), 0);
}

static void expect(struct sock_config *c, const char *name, const char *session, const char *token)
{
	struct job j = { .cfg = c, .name = name };
	assert_int_equal(engine_call(run, &j), 0);
	assert_string_equal(j.session, session);
	assert_string_equal(j.taken, token);
}

/* As at the end of a process: the file is all that stays. */
static void restart(void)
{
	engine_stop(0);
	sessions_flush();
}

static int setup(void **state)
{
	sock_register();
	live = mem_test_live();
	return 0;
}

static int teardown(void **state)
{
	restart();
	unlink(path);
	assert_int_equal(mem_test_live(), live);
	return 0;
}

static void sessions__memory__newest_is_found_and_tokens_are_used_once(void **state)
{
	struct sock_config c = { .session_id = 1 }, other = { .session_id = 2 };
	keep(&c, "a.example", "one", "t1");
	keep(&c, "a.example", "two", NULL);
	expect(&c, "A.EXAMPLE", "two", "t1");
	expect(&c, "a.example", "two", "");	/* RFC9000 8.1.3-9 */
	expect(&other, "a.example", "", "");
	expect(&c, "b.example", "", "");
}

static void sessions__no_resumption__nothing_is_kept(void **state)
{
	struct sock_config c = { .session_id = 1, .no_resumption = true };
	keep(&c, "a.example", "one", "t1");
	c.no_resumption = false;
	expect(&c, "a.example", "", "");
	keep(&c, "a.example", "one", "t1");
	c.no_resumption = true;
	expect(&c, "a.example", "", "");
}

static void sessions__file__lasts_and_is_private(void **state)
{
	struct sock_config c = { .session_id = 1, .session_file = path };
	struct stat st;
	keep(&c, "a.example", "one", "t1");
	assert_int_equal(access(path, F_OK), -1);	/* not at once: a burst makes one write */
	restart();
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	expect(&c, "a.example", "one", "t1");
	restart();
	expect(&c, "a.example", "one", "");		/* that it was used is kept as well */
}

static int wait_for_file(struct engine *e, void *arg)
{
	return access(path, F_OK);
}

static void sessions__file__written_while_the_engine_runs(void **state)
{
	struct sock_config c = { .session_id = 1, .session_file = path };
	keep(&c, "a.example", "one", NULL);
	for (int i = 0; i < 5000 && engine_call(wait_for_file, NULL); i++)
		usleep(1000);
	assert_int_equal(access(path, F_OK), 0);
}

/* Another process writes the file between our reading it and our writing it: here a second name of the same file. */
static void sessions__file__others_entries_stay(void **state)
{
	char again[sizeof(path) + 4];
	snprintf(again, sizeof(again), "%s/./s", dir);
	struct sock_config c = { .session_id = 1, .session_file = path };
	struct sock_config d = { .session_id = 1, .session_file = again };
	expect(&c, "a.example", "", "");
	expect(&d, "a.example", "", "");
	keep(&c, "a.example", "one", NULL);
	keep(&d, "b.example", "two", NULL);
	restart();
	expect(&c, "a.example", "one", "");
	expect(&c, "b.example", "two", "");
}

static void sessions__many_files__all_are_written(void **state)
{
	char name[20][64];
	for (int i = 0; i < 20; i++) {
		snprintf(name[i], sizeof(name[i]), "%s/n%d", dir, i);
		struct sock_config c = { .session_id = 1, .session_file = name[i] };
		keep(&c, "a.example", "one", NULL);
	}
	restart();
	for (int i = 0; i < 20; i++) {
		struct sock_config c = { .session_id = 1, .session_file = name[i] };
		expect(&c, "a.example", "one", "");
		unlink(name[i]);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(sessions__memory__newest_is_found_and_tokens_are_used_once),
		T(sessions__no_resumption__nothing_is_kept),
		T(sessions__file__lasts_and_is_private),
		T(sessions__file__written_while_the_engine_runs),
		T(sessions__file__others_entries_stay),
		T(sessions__many_files__all_are_written),
	};
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof(path), "%s/s", dir);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	rmdir(dir);
	return failed;
}
