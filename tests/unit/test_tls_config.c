/* Building a configuration: files and what is wrong with them, the self-made
 * certificate, the key log. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/mem.h"
#include "support/certs.h"
#include "support/leak.h"
#include "support/tlspair.h"
#include "tls/config.h"
#include "tls/selfsigned.h"

static char dir[64];
static const char *const hq[] = { "hq" };

static struct tls_config *build(struct tls_settings s, char err[256])
{
	if (!s.alpn) {
		s.alpn = hq;
		s.alpn_count = 1;
	}
	return tls_config_new(&s, err, 256);
}

/* ---- mistakes ------------------------------------------------------------- */

static void tls_config_new__bad_files__one_plain_line(void **state)
{
	static const struct {
		const char *cert, *key, *ca;
		int err;
		const char *line;	/* %s: the directory */
	} rows[] = {
		{ "none.crt", "a.key", NULL, ENOENT, "cannot read certificate %s/none.crt: No such file or directory" },
		{ "a.crt", "none.key", NULL, ENOENT, "cannot read key %s/none.key: No such file or directory" },
		{ "a.crt/x", "a.key", NULL, ENOTDIR, "cannot read certificate %s/a.crt/x: Not a directory" },
		{ ".", "a.key", NULL, EISDIR, "cannot read certificate %s/.: Is a directory" },
		{ "junk", "a.key", NULL, EINVAL, "no PEM certificate in %s/junk" },
		{ "empty", "a.key", NULL, EINVAL, "no PEM certificate in %s/empty" },
		{ "broken.crt", "a.key", NULL, EINVAL, "bad certificate in %s/broken.crt" },
		{ "a.crt", "junk", NULL, EINVAL, "no PEM private key in %s/junk" },
		{ "a.crt", "b.key", NULL, EINVAL, "key %s/b.key does not match certificate" },
		{ "a.crt", "locked.key", NULL, EINVAL, "key %s/locked.key is encrypted with a passphrase" },
		{ "a.crt", "a.key", "none.crt", ENOENT, "cannot read CA file %s/none.crt: No such file or directory" },
		{ "a.crt", "a.key", "junk", EINVAL, "no PEM certificate in %s/junk" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char err[256], want[256];
		struct tls_cert_file f = { in_dir(dir, rows[i].cert), in_dir(dir, rows[i].key), NULL };
		struct tls_settings s = { .is_server = true, .certs = &f, .cert_count = 1 };
		if (rows[i].ca)
			s.ca_file = in_dir(dir, rows[i].ca);
		errno = 0;
		assert_null(build(s, err));
		assert_int_equal(errno, rows[i].err);
		snprintf(want, sizeof(want), rows[i].line, dir);
		if (strncmp(err, want, strlen(want)) || strchr(err, '\n'))
			fail_msg("row %zu: \"%s\"", i, err);
	}
}

static void tls_config_new__bad_settings__einval(void **state)
{
	static const char *const empty[] = { "" };
	static const uint16_t ccm[] = { 0x1304 };
	static char long_name[300];
	memset(long_name, 'x', sizeof(long_name) - 1);
	const char *const longs[] = { long_name };
	const struct tls_settings rows[] = {
		{ .alpn = hq, .alpn_count = 0 },
		{ .alpn = empty, .alpn_count = 1 },
		{ .alpn = longs, .alpn_count = 1 },
		{ .suites = ccm, .suite_count = 1 },
		{ .suites = ccm, .suite_count = 0 },
		{ .verify = TLS_VERIFY_OPTIONAL },
		{ .is_server = true, .verify = TLS_VERIFY_INSECURE, .self_signed_dir = "/dev/null/x" },
	};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char err[256];
		errno = 0;
		if (build(rows[i], err))
			fail_msg("row %zu was taken", i);
		assert_int_equal(errno, EINVAL);
		assert_true(err[0]);
	}
	/* The line is cut to the buffer, or not wanted. */
	char tiny[8];
	assert_null(tls_config_new(&rows[0], tiny, sizeof(tiny)));
	assert_int_equal(strlen(tiny), 7);
	assert_null(tls_config_new(&rows[0], NULL, 0));
}

static void tls_config_new__client__has_no_pin(void **state)
{
	char err[256];
	uint8_t pin[32];
	struct tls_config *c = build((struct tls_settings){ .verify = TLS_VERIFY_INSECURE }, err);
	assert_non_null(c);
	assert_false(tls_config_pin(c, pin));
	assert_false(tls_config_self_signed(c));
	assert_ptr_equal(tls_config_ref(c), c);
	tls_config_unref(c);
	assert_false(tls_config_self_signed(c));	/* still there */
	tls_config_unref(c);
}

/* Chain and key may stand in one file. */
static void tls_config_new__key_and_chain_in_one_file__taken(void **state)
{
	char err[256];
	struct tls_cert_file f = { in_dir(dir, "all.pem"), in_dir(dir, "all.pem"), NULL };
	struct tls_config *c = build((struct tls_settings){ .is_server = true, .certs = &f, .cert_count = 1 }, err);
	assert_non_null(c);
	STACK_OF(X509) *chain = NULL;
	assert_int_equal(SSL_CTX_get0_chain_certs(c->ctx, &chain), 1);
	assert_int_equal(sk_X509_num(chain), 1);
	tls_config_unref(c);
}

/* ---- self-made ------------------------------------------------------------ */

static struct tls_config *self_signed(const char *where)
{
	char err[256];
	struct tls_config *c = build((struct tls_settings){ .is_server = true, .self_signed_dir = where }, err);
	if (!c)
		fail_msg("%s", err);
	assert_true(tls_config_self_signed(c));
	return c;
}

static void get_pin(const char *where, uint8_t pin[32])
{
	struct tls_config *c = self_signed(where);
	assert_true(tls_config_pin(c, pin));
	tls_config_unref(c);
}

static int mode_of(const char *path)
{
	struct stat st;
	return stat(path, &st) < 0 ? -1 : (int)(st.st_mode & 07777);
}

static void selfsigned__first_use__made_and_kept(void **state)
{
	uint8_t a[32], b[32];
	const char *where = in_dir(dir, "deep/er/keys/");
	mode_t old = umask(0);
	get_pin(where, a);
	umask(old);
	assert_int_equal(mode_of(in_dir(dir, "deep")), 0700);
	assert_int_equal(mode_of(in_dir(dir, "deep/er/keys")), 0700);
	assert_int_equal(mode_of(in_dir(dir, "deep/er/keys/" SELFSIGNED_FILE)), 0600);
	get_pin(where, b);
	assert_memory_equal(a, b, 32);
	get_pin(in_dir(dir, "elsewhere"), b);
	assert_memory_not_equal(a, b, 32);
}

/* RFC9000 10.3.2-2: known again after a restart, and to nobody without the key */
static void tls_config_secret__follows_from_the_key_and_the_label(void **state)
{
	uint8_t first[32], again[32], other[32];
	struct tls_config *c = self_signed(in_dir(dir, "secret"));
	assert_true(tls_config_secret(c, "one", first));
	assert_true(tls_config_secret(c, "another", other));
	assert_memory_not_equal(first, other, 32);
	tls_config_unref(c);
	c = self_signed(in_dir(dir, "secret"));
	assert_true(tls_config_secret(c, "one", again));
	assert_memory_equal(first, again, 32);
	tls_config_unref(c);
	c = self_signed(in_dir(dir, "secret of another"));
	assert_true(tls_config_secret(c, "one", other));
	assert_memory_not_equal(first, other, 32);
	tls_config_unref(c);
	char err[256];
	c = build((struct tls_settings){ .verify = TLS_VERIFY_INSECURE }, err);
	assert_false(tls_config_secret(c, "one", other));
	tls_config_unref(c);
}

static void selfsigned__certificate__serves_a_pinned_client(void **state)
{
	uint8_t pin[1][32];
	char err[256];
	struct tls_config *s = self_signed(in_dir(dir, "served"));
	assert_true(tls_config_pin(s, pin[0]));
	struct tls_config *c = build((struct tls_settings){ .pins = (const uint8_t (*)[32])pin, .pin_count = 1 }, err);
	struct pair p;
	pair_init(&p, c, s, "any.example");
	assert_true(pair_handshake(&p));
	assert_memory_equal(tls_info(p.client.t)->peer_pin, pin[0], 32);
	X509 *x = SSL_CTX_get0_certificate(s->ctx);
	assert_int_equal(X509_cmp_current_time(X509_get0_notBefore(x)), -1);
	assert_int_equal(X509_check_ip_asc(x, "127.0.0.1", 0), 1);
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
}

static void selfsigned__default_dir__xdg_then_home(void **state)
{
	uint8_t a[32], b[32];
	char *xdg = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");
	xdg = xdg ? strdup(xdg) : NULL;
	home = home ? strdup(home) : NULL;
	setenv("XDG_CONFIG_HOME", in_dir(dir, "xdg"), 1);
	get_pin(NULL, a);
	assert_int_equal(mode_of(in_dir(dir, "xdg/libqsock/" SELFSIGNED_FILE)), 0600);
	unsetenv("XDG_CONFIG_HOME");
	setenv("HOME", in_dir(dir, "home"), 1);
	get_pin(NULL, b);
	assert_int_equal(mode_of(in_dir(dir, "home/.config/libqsock/" SELFSIGNED_FILE)), 0600);
	assert_memory_not_equal(a, b, 32);
	unsetenv("HOME");
	get_pin(NULL, b);	/* nowhere to keep it */
	if (xdg)
		setenv("XDG_CONFIG_HOME", xdg, 1);
	if (home)
		setenv("HOME", home, 1);
	free(xdg);
	free(home);
}

static void selfsigned__unwritable__key_for_this_process(void **state)
{
	static const char *const where[] = { "/dev/null/x", "/proc/nowhere/x", "/dev/full" };
	uint8_t a[32], b[32];
	for (size_t i = 0; i < 3; i++) {
		get_pin(where[i], a);
		get_pin(where[i], b);
		assert_memory_not_equal(a, b, 32);
	}
}

static void selfsigned__damaged_file__said_and_kept(void **state)
{
	char err[256];
	assert_int_equal(mkdir(in_dir(dir, "damaged"), 0700), 0);
	text_write(in_dir(dir, "damaged"), SELFSIGNED_FILE, "not mine\n");
	errno = 0;
	assert_null(build((struct tls_settings){ .is_server = true, .self_signed_dir = in_dir(dir, "damaged") }, err));
	assert_int_equal(errno, EINVAL);
	assert_non_null(strstr(err, "damaged/" SELFSIGNED_FILE));
	struct stat st;
	assert_int_equal(stat(in_dir(dir, "damaged/" SELFSIGNED_FILE), &st), 0);
	assert_int_equal(st.st_size, 9);
}

/* Processes that start at once end with one key and leave no other file. */
static void selfsigned__race__one_wins(void **state)
{
	enum { N = 8 };
	const char *where = in_dir(dir, "race");
	int go[2], out[2];
	uint8_t pins[N][32];
	assert_int_equal(pipe(go), 0);
	assert_int_equal(pipe(out), 0);
	for (int i = 0; i < N; i++) {
		pid_t pid = fork();
		assert_true(pid >= 0);
		if (pid)
			continue;
		char c, err[256];
		close(go[1]);
		if (read(go[0], &c, 1) != 0)	/* until all are there */
			_exit(1);
		struct tls_settings set = { .is_server = true, .self_signed_dir = where };
		struct tls_config *cfg = build(set, err);
		_exit(cfg && write(out[1], cfg->pin, 32) == 32 ? 0 : 1);
	}
	close(go[0]);
	close(go[1]);
	for (int i = 0; i < N; i++) {
		int status;
		assert_true(wait(&status) > 0);
		assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
		assert_int_equal(read(out[0], pins[i], 32), 32);
		assert_memory_equal(pins[i], pins[0], 32);
	}
	close(out[0]);
	close(out[1]);
	uint8_t kept[32];
	get_pin(where, kept);
	assert_memory_equal(kept, pins[0], 32);
	assert_int_equal(unlink(in_dir(dir, "race/" SELFSIGNED_FILE)), 0);
	assert_int_equal(rmdir(where), 0);
}

/* ---- key log, memory ------------------------------------------------------ */

static void tls_config__keylog__lines_of_both_levels(void **state)
{
	char err[256], text[8192] = "", hex[97];
	const char *path = in_dir(dir, "keys.log");
	uint8_t pin[1][32];
	struct tls_config *s = self_signed(in_dir(dir, "served"));
	assert_true(tls_config_pin(s, pin[0]));
	struct tls_settings cs = { .pins = (const uint8_t (*)[32])pin, .pin_count = 1, .keylog_file = path };
	text_write(dir, "keys.log", "# kept\n");
	struct tls_config *c = build(cs, err);
	struct pair p;
	pair_init(&p, c, s, NULL);
	assert_true(pair_handshake(&p));
	FILE *f = fopen(path, "r");
	assert_non_null(f);
	assert_true(fread(text, 1, sizeof(text) - 1, f) > 0);
	fclose(f);
	assert_memory_equal(text, "# kept\n", 7);
	assert_non_null(strstr(text, "\nSERVER_HANDSHAKE_TRAFFIC_SECRET "));
	assert_non_null(strstr(text, "\nCLIENT_TRAFFIC_SECRET_0 "));
	const struct secret *k = &p.client.secret[LEVEL_APP][1];
	for (size_t i = 0; i < k->len; i++)
		snprintf(hex + 2 * i, 3, "%02x", k->b[i]);
	if (!strcasestr(text, hex))
		fail_msg("secret is not in the log");
	pair_fini(&p);
	tls_config_unref(c);
	tls_config_unref(s);
	cs.keylog_file = "/dev/null/x";
	assert_null(build(cs, err));
	assert_string_equal(err, "cannot write key log /dev/null/x: Not a directory");
}

static void tls_config_new__every_allocation_fails_once__clean(void **state)
{
	struct tls_cert_file f[2] = {
		{ in_dir(dir, "all.pem"), in_dir(dir, "all.pem"), NULL },
		{ in_dir(dir, "a.crt"), in_dir(dir, "a.key"), "a.example" },
	};
	uint8_t pins[1][32] = { { 1 } };
	struct tls_settings rows[] = {
		{ .is_server = true, .certs = f, .cert_count = 2, .verify = TLS_VERIFY_REQUIRE,
		  .ca_file = in_dir(dir, "a.crt") },
		{ .is_server = true, .self_signed_dir = in_dir(dir, "served") },
		{ .pins = (const uint8_t (*)[32])pins, .pin_count = 1 },
	};
	int64_t live = mem_test_live();
	for (size_t i = 0; i < 3; i++) {
		struct tls_config *c = NULL;
		for (uint64_t n = 1; !c; n++) {
			char err[256];
			assert_true(n < 100);
			mem_test_fail_nth(n);
			c = build(rows[i], err);
			bool failed = !c;
			mem_test_fail_nth(0);
			if (failed)
				assert_int_equal(errno, ENOMEM);
			if (failed)
				assert_int_equal(mem_test_live(), live);
		}
		tls_config_unref(c);
		assert_int_equal(mem_test_live(), live);
	}
}

/* ---- frame ---------------------------------------------------------------- */

static void join(const char *to, const char *const *from, size_t n)
{
	char buf[4096];
	FILE *out = fopen(in_dir(dir, to), "w");
	for (size_t i = 0; i < n; i++) {
		FILE *in = fopen(in_dir(dir, from[i]), "r");
		size_t len = fread(buf, 1, sizeof(buf), in);
		fwrite(buf, 1, len, out);
		fclose(in);
	}
	fclose(out);
}

static void write_locked_key(void)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
	FILE *f = fopen(in_dir(dir, "locked.key"), "w");
	PEM_write_PKCS8PrivateKey(f, key, EVP_aes_128_cbc(), "secret", 6, NULL, NULL);
	fclose(f);
	EVP_PKEY_free(key);
}

static int setup_all(void **state)
{
	struct ca *ca = ca_make("test CA");
	testdir_make(dir);
	*state = dir;
	ca_write(ca, dir, "ca");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:a.example" }, dir, "a");
	leaf_write(ca, &(struct leaf_spec){ .san = "DNS:b.example" }, dir, "b");
	ca_free(ca);
	text_write(dir, "empty", "");
	text_write(dir, "junk", "hello\n");
	text_write(dir, "broken.crt", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
	join("all.pem", (const char *const[]){ "a.key", "a.crt", "ca.crt" }, 3);
	write_locked_key();
	return 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(tls_config_new__bad_files__one_plain_line),
		T(tls_config_new__bad_settings__einval),
		T(tls_config_new__client__has_no_pin),
		T(tls_config_new__key_and_chain_in_one_file__taken),
		T(selfsigned__first_use__made_and_kept),
		T(selfsigned__certificate__serves_a_pinned_client),
		T(selfsigned__default_dir__xdg_then_home),
		T(selfsigned__unwritable__key_for_this_process),
		T(selfsigned__damaged_file__said_and_kept),
		T(selfsigned__race__one_wins),
		T(tls_config_secret__follows_from_the_key_and_the_label),
		T(tls_config__keylog__lines_of_both_levels),
		T(tls_config_new__every_allocation_fails_once__clean),
	};
	return cmocka_run_group_tests(tests, setup_all, testdir_teardown);
}
