/* One connection looked at closely: two of them joined by a fixed delay. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "support/connpair.h"
#include "support/leak.h"

static struct stream *open_and_write(struct connpair *p, struct conn *c, size_t len, bool fin)
{
	struct stream *s;
	assert_int_equal(conn_stream_open(c, DIR_BIDI, &s), 0);
	size_t done = 0;
	while (done < len) {
		struct iovec iov[8];
		int n;
		size_t got = conn_stream_claim(c, s, len - done, iov, 8, &n);
		if (!got)
			break;
		size_t at = done;
		for (int i = 0; i < n; i++)
			for (size_t k = 0; k < iov[i].iov_len; k++)
				((uint8_t *)iov[i].iov_base)[k] = (uint8_t)(at++ * 7);
		conn_stream_commit(c, s, got);
		done += got;
	}
	assert_int_equal(done, len);
	if (fin)
		assert_int_equal(conn_stream_finish(c, s), 0);
	return s;
}

/* Reads what is there; returns bytes; *end as conn_stream_peek. */
static size_t read_all(struct conn *c, struct stream *s, size_t from, int *end)
{
	size_t sum = 0, bytes;
	struct iovec iov[8];
	int n;
	while ((n = conn_stream_peek(c, s, iov, 8, &bytes, end)) > 0 && bytes) {
		for (int i = 0; i < n; i++)
			for (size_t k = 0; k < iov[i].iov_len; k++)
				assert_int_equal(((uint8_t *)iov[i].iov_base)[k], (uint8_t)((from + sum++) * 7));
		conn_stream_consume(c, s, bytes);
	}
	conn_stream_peek(c, s, iov, 8, &bytes, end);
	return sum;
}

static void conn_handshake__plain__both_confirmed(void **state)
{
	struct connpair p;
	connpair_init(&p, 1);
	connpair_handshake(&p);
	struct conn_info info;
	conn_info(p.client, &info);
	assert_string_equal(info.tls->alpn, "test");
	assert_true(p.session_len > 0);
	connpair_fini(&p);
}

static void conn_stream__one_megabyte__arrives_in_order(void **state)
{
	struct connpair p;
	connpair_init(&p, 2);
	connpair_handshake(&p);
	open_and_write(&p, p.client, 1000000, true);
	size_t got = 0;
	int end = 0;
	for (int round = 0; round < 1000 && end == 0; round++) {
		connpair_run(&p, p.now_us + 5000);
		if (p.nopened[1])
			got += read_all(p.server, p.opened[1][0], got, &end);
	}
	assert_int_equal(got, 1000000);
	assert_int_equal(end, 1);
	connpair_fini(&p);
}

static void conn_close__application__peer_sees_code_and_reason(void **state)
{
	struct connpair p;
	connpair_init(&p, 3);
	connpair_handshake(&p);
	conn_close(p.client, 77, "bye", 3, p.now_us);
	connpair_run(&p, p.now_us + 2000000);
	assert_true(p.closed[0] && p.closed[1] && p.drained[0] && p.drained[1]);
	assert_int_equal(conn_error(p.server)->kind, CONN_ERR_APPLICATION);
	assert_int_equal(conn_error(p.server)->code, 77);
	assert_true(conn_error(p.server)->by_peer);
	assert_string_equal(conn_error(p.server)->reason, "bye");
	connpair_fini(&p);
}

static void conn_resumption__session__is_used(void **state)
{
	struct connpair p;
	connpair_init(&p, 4);
	connpair_handshake(&p);
	conn_free(p.client);
	conn_free(p.server);
	p.client = p.server = NULL;
	memset(p.established, 0, sizeof(p.established));
	memset(p.confirmed, 0, sizeof(p.confirmed));
	connpair_handshake(&p);
	struct conn_info info;
	conn_info(p.client, &info);
	assert_true(info.tls->resumed);
	connpair_fini(&p);
}

static void conn_key_update__both_sides__data_flows_on(void **state)
{
	struct connpair p;
	connpair_init(&p, 5);
	p.ccfg.key_update_packets = 50;
	connpair_handshake(&p);
	for (unsigned i = 0; i < 4; i++) {
		size_t got = 0;
		int end = 0;
		open_and_write(&p, p.client, 1000000, true);
		for (int round = 0; round < 2000 && end == 0; round++) {
			connpair_run(&p, p.now_us + 5000);
			if (p.nopened[1] > i)
				got += read_all(p.server, p.opened[1][i], got, &end);
		}
		assert_int_equal(got, 1000000);
	}
	struct conn_info info;
	conn_info(p.server, &info);
	assert_true(info.key_updates >= 2);
	connpair_fini(&p);
}

static void conn_idle__silence__times_out_on_both(void **state)
{
	struct connpair p;
	connpair_init(&p, 6);
	p.ccfg.idle_timeout_us = 5000000;
	connpair_handshake(&p);
	connpair_run(&p, p.now_us + 4000000);
	assert_false(p.closed[0] || p.closed[1]);
	connpair_run(&p, p.now_us + 2000000);
	assert_int_equal(conn_error(p.client)->kind, CONN_ERR_IDLE);
	assert_int_equal(conn_error(p.server)->kind, CONN_ERR_IDLE);
	connpair_fini(&p);
}

static void conn_keepalive__silence__stays_open(void **state)
{
	struct connpair p;
	connpair_init(&p, 7);
	p.ccfg.idle_timeout_us = 5000000;
	p.ccfg.keepalive_us = 2000000;
	connpair_handshake(&p);
	connpair_run(&p, p.now_us + 60000000);
	assert_false(p.closed[0] || p.closed[1]);
	connpair_fini(&p);
}

static void conn_reset__both_ways__codes_arrive(void **state)
{
	struct connpair p;
	connpair_init(&p, 8);
	connpair_handshake(&p);
	struct stream *s = open_and_write(&p, p.client, 1000, false);
	connpair_run(&p, p.now_us + 100000);
	struct stream *r = p.opened[1][0];
	assert_int_equal(conn_stream_reset(p.client, s, 42), 0);
	assert_int_equal(conn_stream_stop_sending(p.client, s, 43), 0);
	connpair_run(&p, p.now_us + 100000);
	int end;
	assert_int_equal(read_all(p.server, r, 0, &end), 1000);
	assert_int_equal(end, -1);
	assert_int_equal(r->peer_reset_code, 42);
	assert_int_equal(r->peer_stop_code, 43);
	connpair_fini(&p);
}

static bool lose_some(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	uint64_t v;
	rng_fill(&p->rng, &v, sizeof(v));
	return v % 100 < 20;
}

static void conn_loss__twenty_percent__still_exact(void **state)
{
	for (uint64_t seed = 100; seed < 120; seed++) {
		struct connpair p;
		connpair_init(&p, seed);
		p.filter = lose_some;
		p.ccfg.handshake_timeout_us = p.scfg.handshake_timeout_us = 120000000;
		p.ccfg.idle_timeout_us = p.scfg.idle_timeout_us = 0;
		connpair_start(&p);
		for (int i = 0; i < 300 && !(p.established[0] && p.established[1]); i++)
			connpair_run(&p, p.now_us + 1000000);
		if (!p.established[0])
			print_error("seed %lu\n", (unsigned long)seed);
		assert_true(p.established[0]);
		open_and_write(&p, p.client, 200000, true);
		size_t got = 0;
		int end = 0;
		for (int round = 0; round < 100000 && end == 0; round++) {
			connpair_run(&p, p.now_us + 100000);
			if (p.nopened[1])
				got += read_all(p.server, p.opened[1][0], got, &end);
		}
		if (got != 200000)
			print_error("seed %lu\n", (unsigned long)seed);
		assert_int_equal(got, 200000);
		assert_int_equal(end, 1);
		connpair_fini(&p);
	}
}

static void conn_unreachable__peer_alive__doubt_is_settled(void **state)
{
	struct connpair p;
	connpair_init(&p, 9);
	connpair_handshake(&p);
	conn_unreachable(p.client, 111, p.now_us);
	connpair_run(&p, p.now_us + 5000000);
	assert_false(p.closed[0] || p.closed[1]);
	connpair_fini(&p);
}

static bool lose_all(struct connpair *p, bool to_server, uint8_t *data, size_t len)
{
	return true;
}

static void conn_unreachable__peer_silent__ends_soon(void **state)
{
	struct connpair p;
	connpair_init(&p, 10);
	connpair_handshake(&p);
	p.filter = lose_all;
	conn_unreachable(p.client, 111, p.now_us);
	connpair_run(&p, p.now_us + 1000000);
	assert_true(p.closed[0] && p.drained[0]);
	assert_int_equal(conn_error(p.client)->kind, CONN_ERR_UNREACHABLE);
	connpair_fini(&p);
}

#define T(f) cmocka_unit_test_setup_teardown(f, leak_setup, leak_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		T(conn_handshake__plain__both_confirmed),
		T(conn_stream__one_megabyte__arrives_in_order),
		T(conn_close__application__peer_sees_code_and_reason),
		T(conn_resumption__session__is_used),
		T(conn_key_update__both_sides__data_flows_on),
		T(conn_idle__silence__times_out_on_both),
		T(conn_keepalive__silence__stays_open),
		T(conn_reset__both_ways__codes_arrive),
		T(conn_loss__twenty_percent__still_exact),
		T(conn_unreachable__peer_alive__doubt_is_settled),
		T(conn_unreachable__peer_silent__ends_soon),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
