/* The file of known hosts: trust on first use, refusal of another key, many writers at once. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "preload/shim.h"

#define PIN_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define PIN_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static char dir[] = "/tmp/test_trust.XXXXXX", path[64];

static int group_setup(void **state)
{
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof(path), "%s/known", dir);
	return 0;
}

static int group_teardown(void **state)
{
	return rmdir(dir);
}

static int teardown(void **state)
{
	unlink(path);
	return 0;
}

static unsigned lines(void)
{
	char line[512];
	unsigned n = 0;
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	while (fgets(line, sizeof(line), f))
		n++;
	fclose(f);
	return n;
}

static void trust_check__first_use__is_written_down(void **state)
{
	struct stat st;
	assert_int_equal(trust_check(path, "a:1", PIN_A), TRUST_NEW);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(trust_check(path, "a:1", PIN_A), TRUST_KNOWN);
	assert_int_equal(trust_check(path, "b:1", PIN_B), TRUST_NEW);
	assert_int_equal(trust_check(path, "a:1", PIN_A), TRUST_KNOWN);
	assert_int_equal(lines(), 2);
}

static void trust_check__other_key__is_refused_and_not_written(void **state)
{
	assert_int_equal(trust_check(path, "a:1", PIN_A), TRUST_NEW);
	assert_int_equal(trust_check(path, "a:1", PIN_B), TRUST_MISMATCH);
	assert_int_equal(trust_check(path, "a:1", PIN_B), TRUST_MISMATCH);
	assert_int_equal(lines(), 1);
}

static void trust_check__other_port_or_longer_name__is_another_host(void **state)
{
	assert_int_equal(trust_check(path, "a:1", PIN_A), TRUST_NEW);
	assert_int_equal(trust_check(path, "a:11", PIN_B), TRUST_NEW);
	assert_int_equal(trust_check(path, "aa:1", PIN_B), TRUST_NEW);
}

static void trust_check__several_keys_of_one_host__each_will_do(void **state)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fprintf(f, "# two machines\n\nhalf\na:1 %s\na:1 %s", PIN_A, PIN_B);
	fclose(f);
	assert_int_equal(trust_check(path, "a:1", PIN_A), TRUST_KNOWN);
	assert_int_equal(trust_check(path, "b:1", PIN_A), TRUST_NEW);
	assert_int_equal(trust_check(path, "a:1", PIN_B), TRUST_KNOWN);
	assert_int_equal(trust_check(path, "b:1", PIN_B), TRUST_MISMATCH);
}

static void trust_check__unusable_file__is_an_error_and_no_trust(void **state)
{
	assert_int_equal(trust_check("/nonexistent/known", "a:1", PIN_A), TRUST_ERROR);
	assert_int_equal(errno, ENOENT);
}

/* Many processes at once leave one line. */
static void trust_check__many_processes_at_once__write_one_line(void **state)
{
	for (int i = 0; i < 8; i++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (!pid)
			_exit(trust_check(path, "a:1", PIN_A) > TRUST_NEW);
	}
	for (int i = 0; i < 8; i++) {
		int status;
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(lines(), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_teardown(trust_check__first_use__is_written_down, teardown),
		cmocka_unit_test_teardown(trust_check__other_key__is_refused_and_not_written, teardown),
		cmocka_unit_test_teardown(trust_check__other_port_or_longer_name__is_another_host, teardown),
		cmocka_unit_test_teardown(trust_check__several_keys_of_one_host__each_will_do, teardown),
		cmocka_unit_test_teardown(trust_check__unusable_file__is_an_error_and_no_trust, teardown),
		cmocka_unit_test_teardown(trust_check__many_processes_at_once__write_one_line, teardown),
	};
	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
