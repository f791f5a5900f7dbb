/* A handshake, a transfer both ways and a close, with every single allocation failing
 * in turn, ours and OpenSSL's: whatever fails, nothing crashes, nothing leaks and
 * nothing waits for ever. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/opensslv.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/mem.h"
#include "support/connpair.h"
#include "support/leak.h"
#include "support/ossl_mem.h"

#define BYTES 40000
#define PATIENCE_US 30000000

struct side {
	struct conn *c;
	struct stream *out;
	size_t written, got;
	int end;
};

static void write_some(struct side *s)
{
	struct iovec iov[4];
	int n;
	if (!s->out && conn_stream_open(s->c, DIR_UNI, &s->out))
		s->out = NULL;
	while (s->out && s->written < BYTES) {
		size_t got = conn_stream_claim(s->c, s->out, BYTES - s->written, iov, 4, &n);
		for (int i = 0; i < n; i++)
			memset(iov[i].iov_base, 'n', iov[i].iov_len);
		if (!got)
			return;
		conn_stream_commit(s->c, s->out, got);
		s->written += got;
		if (s->written == BYTES)
			conn_stream_finish(s->c, s->out);
	}
}

static void read_some(struct side *s, struct stream *in)
{
	struct iovec iov[4];
	size_t bytes;
	int n;
	while ((n = conn_stream_peek(s->c, in, iov, 4, &bytes, &s->end)) > 0 && bytes) {
		for (int i = 0; i < n; i++)
			for (size_t k = 0; k < iov[i].iov_len; k++)
				assert_int_equal(((char *)iov[i].iov_base)[k], 'n');
		conn_stream_consume(s->c, in, bytes);
		s->got += bytes;
	}
	conn_stream_peek(s->c, in, iov, 4, &bytes, &s->end);
}

static bool done(const struct side *s) { return s->got == BYTES && s->end == 1; }

/* OpenSSL 3.5 itself crashes when memory lacks in SSL_set_quic_tls_cbs, so there its allocations only fail once both
 * sides have their SSL. */
#define OPENSSL_FAILS_EARLY (OPENSSL_VERSION_NUMBER < 0x30500000L)

/* fail_openssl: which allocation of OpenSSL's shall fail, 0: none. true: all arrived and both ends are drained without
 * an error of their own. */
static bool converse(struct connpair *p, uint64_t fail_openssl)
{
	struct side s[2] = { { 0 } };
	uint64_t until = p->now_us + PATIENCE_US;
	bool closing = false;
	if (OPENSSL_FAILS_EARLY)
		ossl_mem_fail_nth(fail_openssl);
	connpair_start(p);
	if (!OPENSSL_FAILS_EARLY) {
		connpair_run(p, p->now_us + p->delay_us);
		ossl_mem_fail_nth(fail_openssl);
	}
	while (p->now_us < until && p->client && !(p->drained[0] && (!p->server || p->drained[1]))) {
		connpair_run(p, p->now_us + 10000);
		s[0].c = p->client;
		s[1].c = p->server;
		for (int i = 0; i < 2; i++) {
			if (!s[i].c || p->closed[i])
				continue;
			write_some(&s[i]);
			if (p->nopened[i])
				read_some(&s[i], p->opened[i][0]);
		}
		if (done(&s[0]) && done(&s[1]) && !closing) {
			closing = true;
			conn_close(p->client, 5, "done", 4, p->now_us);
		}
	}
	if (!p->client)
		return false;
	/* nobody may be left waiting */
	assert_true(p->drained[0]);
	assert_true(!p->server || p->drained[1]);
	return closing && p->server && conn_error(p->server)->kind == CONN_ERR_APPLICATION;
}

static void setup(struct connpair *p, uint64_t seed)
{
	connpair_init(p, seed);
	p->may_fail = true;
	/* short, so that a side that the other gave up is soon done */
	p->ccfg.idle_timeout_us = p->scfg.idle_timeout_us = 5000000;
	p->ccfg.handshake_timeout_us = p->scfg.handshake_timeout_us = 5000000;
	p->ccfg.key_update_packets = 20;
}

/* Sessions and tokens of a first connection, so that their use fails too. */
static void again(struct connpair *p)
{
	conn_free(p->client);
	conn_free(p->server);
	p->client = p->server = NULL;
	memset(p->established, 0, sizeof(p->established));
	memset(p->confirmed, 0, sizeof(p->confirmed));
	memset(p->closed, 0, sizeof(p->closed));
	memset(p->drained, 0, sizeof(p->drained));
	memset(p->nopened, 0, sizeof(p->nopened));
}

/* step: how many allocations to go on each time. */
static void every_allocation(bool resumed, bool openssl, uint64_t step)
{
	struct connpair p;
	setup(&p, 1);
	if (resumed) {
		assert_true(converse(&p, 0));
		assert_true(p.session_len > 0);
		again(&p);
	}
	struct connpair start = p;
	for (uint64_t n = 1;; n += step) {
		p = start;
		p.rng.arg = &p.rng_state;
		int64_t live = mem_test_live(), ossl_live = ossl_mem_live();
		uint64_t before = mem_test_count();
		mem_test_fail_nth(openssl ? 0 : n);
		bool whole = converse(&p, openssl ? n : 0);
		bool failed = openssl ? ossl_mem_failed() : mem_test_count() - before >= n;
		ossl_mem_fail_nth(0);
		mem_test_fail_nth(0);
		struct wire_datagram *left = p.queue;
		assert_null(left);
		again(&p);
		if (mem_test_live() != live)
			fail_msg("allocation %llu: %lld objects left", (unsigned long long)n,
				 (long long)(mem_test_live() - live));
		ERR_clear_error();
		if (openssl && getenv("NOMEM_VERBOSE") && ossl_mem_live() > ossl_live)
			print_message("OpenSSL allocation %llu: %lld of its blocks left\n", (unsigned long long)n,
				      (long long)(ossl_mem_live() - ossl_live));
		if (!failed && getenv("NOMEM_VERBOSE"))
			print_message("%llu allocations\n", (unsigned long long)n - 1);
		if (!failed) {
			assert_true(whole);
			break;
		}
	}
	p = start;
	connpair_fini(&p);
}

static void nomem__full_handshake(void **state) { every_allocation(false, false, 1); }
static void nomem__resumed(void **state) { every_allocation(true, false, 1); }
static void nomem__openssl(void **state) { every_allocation(false, true, 1); }

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	if (!ossl_mem_init())
		return 1;
	const struct CMUnitTest tests[] = {
		T(nomem__full_handshake),
		T(nomem__resumed),
		T(nomem__openssl),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
