/* struct qsock_config becomes settings: defaults, what is refused with which line, and when two are the same object. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "sock/config.h"
#include "support/certs.h"
#include "support/child.h"
#include "support/leak.h"

static char dir[64];
static char cert[128], key[128];

#define PIN "00112233445566778899aabbccddeeff00112233445566778899AABBCCDDEEFF"

static int group_setup(void **state)
{
	testdir_make(dir);
	*state = dir;
	leaf_write(NULL, &(struct leaf_spec){ .san = "DNS:localhost" }, dir, "a");
	leaf_write(NULL, &(struct leaf_spec){ .san = "DNS:other.example" }, dir, "b");
	snprintf(cert, sizeof(cert), "%s", in_dir(dir, "a.crt"));
	snprintf(key, sizeof(key), "%s", in_dir(dir, "a.key"));
	setenv("XDG_CONFIG_HOME", dir, 1);
	unsetenv("SSLKEYLOGFILE");
	return 0;
}

static int setup(void **state)
{
	sock_config_flush();
	return leak_setup(state);
}

static int teardown(void **state)
{
	sock_config_flush();
	return leak_teardown(state);
}

static struct qsock_config with_cert(void)
{
	return (struct qsock_config){ .cert_file = cert, .key_file = key };
}

/* ---- defaults and numbers --------------------------------------------------- */

static void config_get__nothing_given__documented_defaults(void **state)
{
	struct qsock_error err;
	struct sock_config *c = sock_config_get(NULL, false, &err);
	assert_non_null(c);
	const struct conn_config *k = &c->client;
	assert_non_null(k->tls);
	assert_null(c->server.tls);
	assert_true(k->idle_timeout_us == 30000000 && k->handshake_timeout_us == 10000000 && k->keepalive_us == 0);
	assert_true(k->limits.window == 512 << 10 && k->limits.window_max == 6 << 20);
	assert_true(k->limits.conn_window == 768 << 10 && k->limits.conn_window_max == 15 << 20);
	assert_true(k->limits.max_streams[DIR_BIDI] == 100 && k->limits.max_streams[DIR_UNI] == 100);
	assert_true(k->max_send_bytes == 4 << 20 && k->ecn && k->key_update_packets == 0);
	assert_int_equal(c->linger_ms, 2000);
	assert_false(c->reuse_port || c->endpoint.retry);
	assert_null(c->server_name);
	assert_null(c->session_file);
	sock_config_put(c);
}

static void config_get__all_given__taken(void **state)
{
	struct qsock_error err;
	struct qsock_config in = {
		.flags = QSOCK_CONFIG_RETRY | QSOCK_CONFIG_NO_ECN | QSOCK_CONFIG_REUSEPORT, .cert_file = cert,
		.key_file = key, .idle_timeout_ms = UINT32_MAX, .handshake_timeout_ms = 5, .keepalive_ms = 6,
		.linger_ms = 7, .max_streams_bidi = 8, .max_streams_uni = 9, .stream_window = 10,
		.stream_window_max = 11, .conn_window = 12, .conn_window_max = 13, .send_buffer = 14,
		.key_update_packets = 15,
	};
	struct sock_config *c = sock_config_get(&in, true, &err);
	assert_non_null(c);
	const struct conn_config *k = &c->server;
	assert_null(c->client.tls);
	assert_true(k->idle_timeout_us == 0 && k->handshake_timeout_us == 5000 && k->keepalive_us == 6000);
	assert_true(k->limits.window == 10 && k->limits.window_max == 11);
	assert_true(k->limits.conn_window == 12 && k->limits.conn_window_max == 13);
	assert_true(k->limits.max_streams[DIR_BIDI] == 8 && k->limits.max_streams[DIR_UNI] == 9);
	assert_true(k->max_send_bytes == 14 && !k->ecn && k->key_update_packets == 15);
	assert_true(c->linger_ms == 7 && c->reuse_port && c->endpoint.retry);
	sock_config_put(c);
}

static void config_get__one_half_of_a_window__the_other_follows(void **state)
{
	const struct { uint32_t start, max; uint64_t want, want_max; } t[] = {
		{ 0, 1000, 1000, 1000 },
		{ 8 << 20, 0, 8 << 20, 8 << 20 },
		{ 1000, 0, 1000, 6 << 20 },
		{ 0, 7 << 20, 512 << 10, 7 << 20 },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct qsock_error err;
		struct qsock_config in = { .stream_window = t[i].start, .stream_window_max = t[i].max };
		struct sock_config *c = sock_config_get(&in, false, &err);
		assert_non_null(c);
		assert_int_equal(c->client.limits.window, t[i].want);
		assert_int_equal(c->client.limits.window_max, t[i].want_max);
		sock_config_put(c);
	}
}

/* The secrets of tokens and resets are the process's: another configuration must not make another set. */
static void config_get__two_configurations__one_set_of_secrets(void **state)
{
	struct qsock_error err;
	struct qsock_config in = with_cert();
	struct endpoint_config ep;
	struct sock_config *a = sock_config_get(&in, true, &err);
	in.linger_ms = 1;
	struct sock_config *b = sock_config_get(&in, true, &err);
	assert_true(a && b && a != b);
	sock_endpoint_defaults(&ep);
	assert_memory_equal(a->server.reset_key, b->server.reset_key, 32);
	assert_memory_equal(a->server.token_key, ep.token_key, 32);
	assert_memory_equal(a->endpoint.reset_key, a->server.reset_key, 32);
	assert_memory_equal(ep.reset_key, a->server.reset_key, 32);
	assert_memory_not_equal(ep.reset_key, ep.token_key, 32);
	sock_config_put(a);
	sock_config_put(b);
}

/* ---- what is refused ----------------------------------------------------------- */

static void config_get__bad_values__one_line_each(void **state)
{
	char missing[128], list[600], swapped[128];
	snprintf(missing, sizeof(missing), "%s/none", dir);
	snprintf(list, sizeof(list), "x.example=%s:%s,y.example=%s", cert, key, cert);
	snprintf(swapped, sizeof(swapped), "%s", in_dir(dir, "b.key"));
	char *long_name = malloc(300);
	memset(long_name, 'a', 299);
	long_name[299] = '\0';
	const struct { struct qsock_config in; bool server; int err; const char *text; } t[] = {
		{ { .flags = 0x80000000 }, false, EINVAL, "flags: 0x80000000" },
		{ { .alpn = "" }, false, EINVAL, "alpn" },
		{ { .alpn = "h3,,x" }, false, EINVAL, "alpn" },
		{ { .alpn = long_name }, false, EINVAL, "alpn" },
		{ { .pins = "abc" }, false, EINVAL, "\"abc\"" },
		{ { .pins = PIN "," }, false, EINVAL, "pins" },
		{ { .pins = "g" PIN }, false, EINVAL, "pins" },
		{ { .pins = PIN, .flags = QSOCK_CONFIG_INSECURE }, false, EINVAL, "contradicts" },
		{ { .stream_window = 2, .stream_window_max = 1 }, false, EINVAL, "stream_window" },
		{ { .conn_window = 2, .conn_window_max = 1 }, false, EINVAL, "conn_window" },
		{ { .cert_file = cert }, true, EINVAL, "cert_file without key_file" },
		{ { .key_file = key }, true, EINVAL, "key_file without cert_file" },
		{ { .cert_file = missing, .key_file = key }, true, ENOENT, missing },
		{ { .cert_file = cert, .key_file = missing }, true, ENOENT, missing },
		{ { .cert_file = cert, .key_file = swapped }, true, EINVAL, "key" },
		{ { .cert_file = key, .key_file = cert }, true, EINVAL, "certificate" },
		{ { .sni_certs = list }, true, EINVAL, "y.example" },
		{ { .sni_certs = "name" }, true, EINVAL, "\"name\"" },
		{ { .ca_file = missing }, false, ENOENT, missing },
		{ { .keylog_file = "/dev/null/x" }, false, ENOTDIR, "/dev/null/x" },
		{ { .size = 3 }, false, EINVAL, "size" },
	};
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct qsock_error err;
		errno = 0;
		if (sock_config_get(&t[i].in, t[i].server, &err))
			fail_msg("case %zu was taken", i);
		if (errno != t[i].err || err.os_errno != t[i].err || err.kind != QSOCK_ERR_CONFIG)
			fail_msg("case %zu: errno %d, os_errno %d, kind %d", i, errno, err.os_errno, err.kind);
		if (!strstr(err.reason, t[i].text) || strchr(err.reason, '\n'))
			fail_msg("case %zu: \"%s\" lacks \"%s\"", i, err.reason, t[i].text);
	}
	free(long_name);
}

/* Whom a client trusts is no business of a server that asks for no certificate: its file is not even opened. */
static void config_get__server_without_client_certs__ca_not_read(void **state)
{
	struct qsock_error err;
	struct qsock_config in = with_cert();
	in.ca_file = "/nonexistent";
	struct sock_config *c = sock_config_get(&in, true, &err);
	assert_non_null(c);
	sock_config_put(c);
	in.flags = QSOCK_CONFIG_CLIENT_CERT;
	assert_null(sock_config_get(&in, true, &err));
	in.flags = QSOCK_CONFIG_CLIENT_CERT_OPTIONAL;
	assert_null(sock_config_get(&in, true, &err));
	assert_int_equal(err.os_errno, ENOENT);
}

/* ---- the struct's growth ---------------------------------------------------------- */

static void settings_import__sizes(void **state)
{
	struct { struct qsock_config c; char more[16]; } newer = { .c = { .alpn = "x", .linger_ms = 9 } };
	struct qsock_config out;

	assert_int_equal(settings_import(NULL, 0, &out), 0);
	assert_int_equal(out.size, sizeof(out));
	assert_int_equal(settings_import(&newer.c, SIZE_MAX, &out), 0);
	assert_int_equal(out.linger_ms, 9);

	newer.c.size = offsetof(struct qsock_config, linger_ms);	/* an older program */
	assert_int_equal(settings_import(&newer.c, SIZE_MAX, &out), 0);
	assert_int_equal(out.linger_ms, 0);
	assert_string_equal(out.alpn, "x");

	newer.c.size = sizeof(newer);					/* a newer one */
	assert_int_equal(settings_import(&newer.c, sizeof(newer), &out), 0);
	assert_int_equal(out.size, sizeof(out));
	assert_int_equal(settings_import(&newer.c, sizeof(newer) - 1, &out), -1);
	newer.more[15] = 1;						/* that asks for what we do not know */
	errno = 0;
	assert_int_equal(settings_import(&newer.c, sizeof(newer), &out), -1);
	assert_int_equal(errno, EINVAL);

	newer.c.size = 0;	/* the whole struct: it must be there */
	assert_int_equal(settings_import(&newer.c, sizeof(newer.c) - 1, &out), -1);
}

static void settings_copy__needs_nothing_of_the_original(void **state)
{
	char alpn[] = "one,two", ca[] = "/ca", session[] = "/s";
	struct qsock_config in = { .alpn = alpn, .ca_file = ca, .session_file = session, .linger_ms = 5 };
	struct qsock_config *copy = settings_copy(&in);
	memset(alpn, 'x', sizeof(alpn) - 1);
	memset(ca, 'x', sizeof(ca) - 1);
	memset(session, 'x', sizeof(session) - 1);
	assert_string_equal(copy->alpn, "one,two");
	assert_string_equal(copy->ca_file, "/ca");
	assert_string_equal(copy->session_file, "/s");
	assert_null(copy->pins);
	assert_int_equal(copy->linger_ms, 5);
	mem_free(copy);
}

/* ---- sharing -------------------------------------------------------------------------- */

static void config_get__equal__the_same_object(void **state)
{
	struct qsock_error err;
	struct qsock_config in = with_cert();
	struct sock_config *a = sock_config_get(&in, true, &err);
	char copy[256];
	snprintf(copy, sizeof(copy), "%s", cert);
	in.cert_file = copy;		/* equal contents elsewhere */
	struct sock_config *b = sock_config_get(&in, true, &err);
	assert_ptr_equal(a, b);
	sock_config_put(a);
	sock_config_put(b);
	assert_ptr_equal(sock_config_get(&in, true, &err), a);	/* among the last few: still there */
	sock_config_put(a);
}

static void config_get__any_difference__another_object(void **state)
{
	struct qsock_error err;
	struct qsock_config base = { .pins = PIN };
#define D(...) { .pins = PIN, __VA_ARGS__ }
	const struct qsock_config t[] = {
		D(.alpn = "x"), D(.server_name = "x"), D(.session_file = "x"), D(.ca_file = cert),
		D(.idle_timeout_ms = 1), D(.handshake_timeout_ms = 1), D(.keepalive_ms = 1), D(.linger_ms = 1),
		D(.max_streams_bidi = 1),
		D(.max_streams_uni = 1), D(.stream_window = 1), D(.stream_window_max = 1), D(.conn_window = 1),
		D(.conn_window_max = 1), D(.send_buffer = 1), D(.key_update_packets = 1),
		D(.flags = QSOCK_CONFIG_NO_ECN), D(.cert_file = cert, .key_file = key), { .pins = PIN "," PIN },
	};
	struct sock_config *a = sock_config_get(&base, false, &err);
	for (size_t i = 0; i < sizeof(t) / sizeof(t[0]); i++) {
		struct sock_config *b = sock_config_get(&t[i], false, &err);
		assert_non_null(b);
		if (a == b)
			fail_msg("case %zu makes no difference", i);
		sock_config_put(b);
	}
	sock_config_put(a);
}

static void config_get__server_and_client__different(void **state)
{
	struct qsock_error err;
	struct qsock_config in = with_cert();
	struct sock_config *a = sock_config_get(&in, true, &err), *b = sock_config_get(&in, false, &err);
	assert_true(a && b && a != b);
	sock_config_put(a);
	sock_config_put(b);
}

static void config_get__renewed_certificate__read_anew(void **state)
{
	struct qsock_error err;
	uint8_t pin_a[32], pin_b[32];
	char c[256], k[256];
	leaf_write(NULL, &(struct leaf_spec){ .san = "DNS:localhost" }, dir, "renewed");
	snprintf(c, sizeof(c), "%s", in_dir(dir, "renewed.crt"));
	snprintf(k, sizeof(k), "%s", in_dir(dir, "renewed.key"));
	struct qsock_config in = { .cert_file = c, .key_file = k };
	struct sock_config *a = sock_config_get(&in, true, &err);
	leaf_write(NULL, &(struct leaf_spec){ .san = "DNS:localhost" }, dir, "renewed");
	struct sock_config *b = sock_config_get(&in, true, &err);
	assert_true(a && b && a != b);
	assert_true(tls_config_pin(a->server.tls, pin_a) && tls_config_pin(b->server.tls, pin_b));
	assert_memory_not_equal(pin_a, pin_b, 32);
	sock_config_put(a);
	sock_config_put(b);
}

static void config_put__unused__only_a_few_kept(void **state)
{
	struct qsock_error err;
	int64_t after_ten = 0;
	for (uint32_t i = 1; i <= 40; i++) {
		struct qsock_config in = { .pins = PIN, .linger_ms = i };
		struct sock_config *c = sock_config_get(&in, false, &err);
		assert_non_null(c);
		sock_config_put(c);
		if (i == 10)
			after_ten = mem_test_live();
	}
	assert_true(mem_test_live() == after_ten);
}

static void config_ref__keeps_alive(void **state)
{
	struct qsock_error err;
	struct qsock_config in = with_cert();
	struct sock_config *c = sock_config_ref(sock_config_get(&in, true, &err));
	sock_config_put(c);
	sock_config_flush();
	assert_ptr_equal(sock_config_get(&in, true, &err), c);
	sock_config_put(c);
	sock_config_put(c);
}

static void *get_and_put(void *arg)
{
	for (int i = 0; i < 200; i++) {
		struct qsock_error err;
		struct qsock_config in = { .pins = PIN, .linger_ms = 1 + (uint32_t)i % 12 };
		struct sock_config *c = sock_config_get(&in, false, &err);
		if (!c || c->linger_ms != in.linger_ms)
			return "wrong";
		sock_config_put(c);
	}
	return NULL;
}

static void config__three_threads__whole(void **state)
{
	pthread_t t[3];
	void *ret;
	for (int i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, get_and_put, NULL), 0);
	for (int i = 0; i < 3; i++) {
		pthread_join(t[i], &ret);
		assert_null(ret);
	}
}

#ifndef __SANITIZE_ADDRESS__	/* its allocator hangs in children of processes with threads */
/* What the child finds it must be able to use, whatever other threads were at. (Something found and not built: OpenSSL
 * makes no promises there.) */
static void config__fork_beside_threads__child_goes_on(void **state)
{
	struct qsock_error err;
	struct qsock_config in = { .pins = PIN, .linger_ms = 100 };
	struct sock_config *c = sock_config_get(&in, false, &err);
	pthread_t t[2];
	void *ret;
	for (int i = 0; i < 2; i++)
		assert_int_equal(pthread_create(&t[i], NULL, get_and_put, NULL), 0);
	for (int i = 0; i < 30; i++) {
		pid_t child = fork_limited();
		if (!child) {
			struct sock_config *found = sock_config_get(&in, false, &err);
			sock_config_put(found);
			_exit(found != c);
		}
		assert_int_equal(wait_child(child), 0);
	}
	for (int i = 0; i < 2; i++) {
		pthread_join(t[i], &ret);
		assert_null(ret);
	}
	sock_config_put(c);
}
#endif

/* ---- files and environment ----------------------------------------------------------- */

static void config_get__relative_paths__survive_chdir(void **state)
{
	struct qsock_error err;
	char before[4096], want[5000];
	struct qsock_config in = { .pins = PIN, .session_file = "sessions" };
	assert_non_null(getcwd(before, sizeof(before)));
	assert_int_equal(chdir(dir), 0);
	struct sock_config *c = sock_config_get(&in, false, &err);
	assert_int_equal(chdir(before), 0);
	assert_non_null(c);
	snprintf(want, sizeof(want), "/sessions");
	assert_true(c->session_file[0] == '/');
	assert_string_equal(strrchr(c->session_file, '/'), want);
	sock_config_put(c);
}

static void config_get__keylog_of_the_environment__made_or_ignored(void **state)
{
	struct qsock_error err;
	struct stat st;
	struct qsock_config in = { .pins = PIN };
	setenv("SSLKEYLOGFILE", in_dir(dir, "keys"), 1);
	struct sock_config *a = sock_config_get(&in, false, &err);
	assert_non_null(a);
	assert_int_equal(stat(in_dir(dir, "keys"), &st), 0);
	setenv("SSLKEYLOGFILE", "/dev/null/nowhere", 1);
	struct sock_config *b = sock_config_get(&in, false, &err);
	unsetenv("SSLKEYLOGFILE");
	assert_true(b && b != a);
	sock_config_put(a);
	sock_config_put(b);
}

static void config_session_id__what_matters_to_a_server(void **state)
{
	struct qsock_error err;
	struct qsock_config in = { .pins = PIN }, other = in;
	other.linger_ms = other.idle_timeout_ms = 5;
	struct sock_config *a = sock_config_get(&in, false, &err), *b = sock_config_get(&other, false, &err);
	assert_true(a != b && a->session_id == b->session_id);
	sock_config_put(b);
	other.alpn = "x";
	b = sock_config_get(&other, false, &err);
	assert_true(a->session_id != b->session_id);
	sock_config_put(a);
	sock_config_put(b);
}

/* ---- memory ------------------------------------------------------------------------------ */

static void config_get__nth_allocation_fails__nothing_left(void **state)
{
	struct qsock_error err;
	char list[600];
	snprintf(list, sizeof(list), "x.example=%s:%s", cert, key);
	struct qsock_config in = { .cert_file = cert, .key_file = key, .sni_certs = list, .pins = PIN, .ca_file = cert,
				   .server_name = "n", .flags = QSOCK_CONFIG_CLIENT_CERT,
				   .keylog_file = in_dir(dir, "k") };
	uint64_t n = 1;
	for (;; n++) {
		sock_config_flush();
		assert_int_equal(allocated(), 0);
		mem_test_fail_nth(n);
		errno = 0;
		struct sock_config *c = sock_config_get(&in, true, &err);
		mem_test_fail_nth(0);
		if (c) {
			sock_config_put(c);
			break;
		}
		assert_int_equal(errno, ENOMEM);
		assert_int_equal(err.os_errno, ENOMEM);
	}
	assert_true(n > 8);
}

#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(config_get__nothing_given__documented_defaults),
		T(config_get__all_given__taken),
		T(config_get__one_half_of_a_window__the_other_follows),
		T(config_get__two_configurations__one_set_of_secrets),
		T(config_get__bad_values__one_line_each),
		T(config_get__server_without_client_certs__ca_not_read),
		T(settings_import__sizes),
		T(settings_copy__needs_nothing_of_the_original),
		T(config_get__equal__the_same_object),
		T(config_get__any_difference__another_object),
		T(config_get__server_and_client__different),
		T(config_get__renewed_certificate__read_anew),
		T(config_put__unused__only_a_few_kept),
		T(config_ref__keeps_alive),
		T(config__three_threads__whole),
#ifndef __SANITIZE_ADDRESS__
		T(config__fork_beside_threads__child_goes_on),
#endif
		T(config_get__relative_paths__survive_chdir),
		T(config_get__keylog_of_the_environment__made_or_ignored),
		T(config_session_id__what_matters_to_a_server),
		T(config_get__nth_allocation_fails__nothing_left),
	};
	return cmocka_run_group_tests(tests, group_setup, testdir_teardown);
}
