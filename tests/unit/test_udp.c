/* io/udp.c over loopback: trains, ECN and addresses both ways, the limits, ICMP. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "io/udp.h"

static uint8_t out[UDP_TRAIN_MAX + 1], in[65536];

static struct addr addr_of(const char *text)
{
	struct addr a = { 0 };
	if (inet_pton(AF_INET, text, &a.in4.sin_addr) == 1)
		a.in4.sin_family = AF_INET;
	else if (inet_pton(AF_INET6, text, &a.in6.sin6_addr) == 1)
		a.in6.sin6_family = AF_INET6;
	else
		fail_msg("bad address %s", text);
	return a;
}

static struct addr with_port_of(struct addr a, const struct udp *u)
{
	if (a.sa.sa_family == AF_INET6)
		a.in6.sin6_port = u->local.in6.sin6_port;
	else
		a.in4.sin_port = u->local.in4.sin_port;
	return a;
}

static void open_on(struct udp *u, const char *text)
{
	struct addr a = addr_of(text);
	assert_int_equal(udp_open(u, &a, false), 0);
}

static void wait_for(const struct udp *u, short events)
{
	struct pollfd p = { .fd = u->fd, .events = events };
	assert_int_equal(poll(&p, 1, 5000), 1);
}

static void fill(size_t len)
{
	for (size_t i = 0; i < len; i++)
		out[i] = (uint8_t)(i * 7 + (i >> 8));
}

static void receive(struct udp *u, struct udp_rx *rx)
{
	wait_for(u, POLLIN);
	assert_int_equal(udp_recv(u, in, sizeof(in), rx), 1);
}

/* Read until len bytes came, checking contents and that each train is made of seg. Returns the trains it took. */
static unsigned expect_bytes(struct udp *u, size_t len, size_t seg)
{
	unsigned trains = 0;
	for (size_t got = 0; got < len; trains++) {
		struct udp_rx rx;
		receive(u, &rx);
		assert_true(rx.len <= len - got);
		assert_memory_equal(rx.buf, out + got, rx.len);
		assert_true(rx.seg == seg || rx.len < seg);
		got += rx.len;
	}
	return trains;
}

static int send_all(struct udp *u, size_t len, size_t seg, const struct addr *to)
{
	size_t off = 0;
	int r = udp_send(u, out, len, seg, &off, NULL, to, ECN_NOT_ECT);
	if (r == 1)
		assert_int_equal(off, len);
	return r;
}

struct train_case {
	const char *address;
	size_t len, seg;
};

static const struct train_case train_cases[] = {
	{ "127.0.0.1", 1, 1200 },	{ "127.0.0.1", 1200, 1200 },	{ "127.0.0.1", 1201, 1200 },
	{ "127.0.0.1", 54 * 1200, 1200 }, { "127.0.0.1", 53 * 1200 + 7, 1200 }, { "127.0.0.1", UDP_TRAIN_MAX, 1452 },
	{ "127.0.0.1", UDP_TRAIN_MAX, UDP_TRAIN_MAX }, { "127.0.0.1", 400 * 100, 100 },
	{ "::1", 54 * 1200, 1200 },	{ "::1", UDP_TRAIN_MAX6, 1452 }, { "::1", UDP_TRAIN_MAX6, UDP_TRAIN_MAX6 },
	{ "::1", UDP_TRAIN_MAX, 1200 },
};

static void udp_send__trains__arrive_whole(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof(train_cases) / sizeof(train_cases[0]); i++) {
		const struct train_case *t = &train_cases[i];
		struct udp a, b;
		open_on(&a, t->address);
		open_on(&b, t->address);
		fill(t->len);
		assert_int_equal(send_all(&a, t->len, t->seg, &b.local), 1);
		expect_bytes(&b, t->len, t->seg);
		struct udp_rx rx;
		assert_int_equal(udp_recv(&b, in, sizeof(in), &rx), 0);
		udp_close(&a);
		udp_close(&b);
	}
}

static void udp_send__gso__is_one_gro_train(void **state)
{
	(void)state;
	struct udp a, b;
	open_on(&a, "127.0.0.1");
	open_on(&b, "127.0.0.1");
	assert_true(a.gso);
	assert_true(b.gro);
	fill(54 * 1200);
	assert_int_equal(send_all(&a, 54 * 1200, 1200, &b.local), 1);
	assert_int_equal(expect_bytes(&b, 54 * 1200, 1200), 1);
	assert_true(a.gso);
	udp_close(&a);
	udp_close(&b);
}

static void udp_send__without_gso__falls_back_to_singles(void **state)
{
	(void)state;
	struct udp a, b;
	open_on(&a, "127.0.0.1");
	open_on(&b, "127.0.0.1");
	a.gso = false;
	fill(UDP_TRAIN_MAX);
	assert_int_equal(send_all(&a, UDP_TRAIN_MAX, 800, &b.local), 1);
	expect_bytes(&b, UDP_TRAIN_MAX, 800);
	udp_close(&a);
	udp_close(&b);
}

/* A socket without checksums is refused GSO with EIO, as a route without checksum offload is. */
static void udp_send__gso_refused__sends_all_and_switches_off(void **state)
{
	(void)state;
	struct udp a, b;
	int one = 1;
	open_on(&a, "127.0.0.1");
	open_on(&b, "127.0.0.1");
	assert_int_equal(setsockopt(a.fd, SOL_SOCKET, SO_NO_CHECK, &one, sizeof(one)), 0);
	fill(UDP_TRAIN_MAX);
	assert_int_equal(send_all(&a, UDP_TRAIN_MAX, 1200, &b.local), 1);
	assert_false(a.gso);
	expect_bytes(&b, UDP_TRAIN_MAX, 1200);
	udp_close(&a);
	udp_close(&b);
}

static void udp_send__too_large__is_dropped_and_gso_stays(void **state)
{
	(void)state;
	struct udp a, b;
	open_on(&a, "127.0.0.1");
	open_on(&b, "127.0.0.1");
	assert_int_equal(send_all(&a, UDP_TRAIN_MAX + 1, UDP_TRAIN_MAX + 1, &b.local), -1);
	assert_int_equal(errno, EMSGSIZE);
	assert_true(a.gso);
	udp_close(&a);
	udp_close(&b);
}

/* Loopback never blocks a sender, so what a blocked send leaves behind is made by hand. */
static void udp_send__given_offset__goes_on_there(void **state)
{
	(void)state;
	for (int gso = 0; gso < 2; gso++) {
		struct udp a, b;
		open_on(&a, "127.0.0.1");
		open_on(&b, "127.0.0.1");
		a.gso = gso;
		fill(60500);
		size_t off = 24000, got = 24000;
		assert_int_equal(udp_send(&a, out, 60500, 1000, &off, NULL, &b.local, ECN_NOT_ECT), 1);
		assert_int_equal(off, 60500);
		while (got < 60500) {
			struct udp_rx rx;
			receive(&b, &rx);
			assert_memory_equal(rx.buf, out + got, rx.len);
			got += rx.len;
		}
		assert_int_equal(got, 60500);
		udp_close(&a);
		udp_close(&b);
	}
}

static const char *const families[][3] = {	/* sender, receiver's wildcard, address sent to */
	{ "0.0.0.0", "0.0.0.0", "127.0.0.1" },
	{ "::", "::", "::1" },
	{ "::", "::", "::ffff:127.0.0.1" },
	{ "0.0.0.0", "::", "127.0.0.1" },
};

/* RFC9000 13.4.1 */
static void udp__ecn__arrives_for_each_family(void **state)
{
	(void)state;
	for (size_t f = 0; f < 4; f++) {
		struct udp a, b;
		open_on(&a, families[f][0]);
		open_on(&b, families[f][1]);
		struct addr to = addr_of(families[f][2]);
		if (to.sa.sa_family == AF_INET)
			to.in4.sin_port = b.family == AF_INET6 ? b.local.in6.sin6_port : b.local.in4.sin_port;
		else
			to = with_port_of(to, &b);
		for (int ecn = 0; ecn < 4; ecn++) {
			size_t off = 0;
			struct udp_rx rx;
			assert_int_equal(udp_send(&a, out, 3000, 1200, &off, NULL, &to, (enum ecn)ecn), 1);
			receive(&b, &rx);
			assert_int_equal(rx.ecn, ecn);
			assert_int_equal(rx.len, 3000);
		}
		udp_close(&a);
		udp_close(&b);
	}
}

struct source_case {
	const char *bind, *from, *to;
};

/* The address a datagram was sent to is told, and an answer can be made to leave from it. */
static void udp__wildcard__local_address_both_ways(void **state)
{
	static const struct source_case cases[] = {
		{ "0.0.0.0", "127.0.0.5", "127.0.0.9" },
		{ "::", "::1", "::1" },
		{ "::", "::ffff:127.0.0.5", "::ffff:127.0.0.9" },
	};
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct udp a, b;
		struct udp_rx rx;
		size_t off = 0;
		open_on(&a, cases[i].bind);
		open_on(&b, cases[i].bind);
		struct addr from = addr_of(cases[i].from), to = with_port_of(addr_of(cases[i].to), &b);
		assert_int_equal(udp_send(&a, out, 100, 100, &off, &from, &to, ECN_ECT0), 1);
		receive(&b, &rx);
		struct addr full = with_port_of(from, &a);
		assert_true(addr_equal(&rx.remote, &full));
		assert_true(addr_equal(&rx.local, &to));
		assert_int_equal(rx.ecn, ECN_ECT0);
		off = 0;
		assert_int_equal(udp_send(&b, out, 50, 50, &off, &rx.local, &rx.remote, ECN_NOT_ECT), 1);
		receive(&a, &rx);
		assert_true(addr_equal(&rx.remote, &to));
		assert_true(addr_equal(&rx.local, &full));
		udp_close(&a);
		udp_close(&b);
	}
}

static void udp_recv__empty_datagram__counts(void **state)
{
	(void)state;
	struct udp a, b;
	struct udp_rx rx;
	open_on(&a, "127.0.0.1");
	open_on(&b, "127.0.0.1");
	assert_int_equal(sendto(a.fd, "", 0, 0, &b.local.sa, addr_len(&b.local)), 0);
	receive(&b, &rx);
	assert_int_equal(rx.len, 0);
	assert_int_equal(rx.seg, 0);
	assert_int_equal(udp_recv(&b, in, sizeof(in), &rx), 0);
	udp_close(&a);
	udp_close(&b);
}

static void udp_error__port_unreachable__names_the_destination(void **state)
{
	static const char *const addresses[][2] = {
		{ "127.0.0.1", "127.0.0.1" }, { "::1", "::1" }, { "::", "::ffff:127.0.0.1" },
	};
	(void)state;
	for (size_t i = 0; i < 3; i++) {
		struct udp a, b, c;
		struct addr told;
		struct udp_rx rx;
		int err = 0;
		open_on(&a, addresses[i][0]);
		open_on(&b, addresses[i][0]);
		open_on(&c, addresses[i][0]);
		struct addr gone = with_port_of(addr_of(addresses[i][1]), &b);
		struct addr there = with_port_of(addr_of(addresses[i][1]), &c);
		udp_close(&b);
		assert_int_equal(udp_error(&a, &told, &err), 0);
		assert_int_equal(send_all(&a, 10, 10, &gone), 1);
		wait_for(&a, POLLERR);
		/* The error of one peer must disturb neither receiving nor sending to another. */
		assert_int_equal(udp_recv(&a, in, sizeof(in), &rx), 0);
		assert_int_equal(send_all(&a, 10, 10, &gone), 1);
		assert_int_equal(send_all(&a, 20, 20, &there), 1);
		receive(&c, &rx);
		assert_int_equal(rx.len, 20);
		assert_int_equal(udp_error(&a, &told, &err), 1);
		assert_int_equal(err, ECONNREFUSED);
		assert_true(addr_equal(&told, &gone));
		while (udp_error(&a, &told, &err))
			assert_true(addr_equal(&told, &gone));
		udp_close(&a);
		udp_close(&c);
	}
}

static void udp_open__taken_port__is_an_error(void **state)
{
	(void)state;
	struct udp a, b, c;
	open_on(&a, "127.0.0.1");
	assert_int_equal(udp_open(&b, &a.local, false), -1);
	assert_int_equal(errno, EADDRINUSE);
	assert_int_equal(b.fd, -1);
	udp_close(&b);
	udp_close(&a);
	struct addr any = addr_of("127.0.0.1"), none = { 0 };
	assert_int_equal(udp_open(&a, &any, true), 0);
	assert_int_equal(udp_open(&c, &a.local, true), 0);
	assert_int_equal(udp_open(&b, &none, false), -1);
	assert_int_equal(errno, EAFNOSUPPORT);
	udp_close(&a);
	udp_close(&c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(udp_send__trains__arrive_whole),
		cmocka_unit_test(udp_send__gso__is_one_gro_train),
		cmocka_unit_test(udp_send__without_gso__falls_back_to_singles),
		cmocka_unit_test(udp_send__gso_refused__sends_all_and_switches_off),
		cmocka_unit_test(udp_send__too_large__is_dropped_and_gso_stays),
		cmocka_unit_test(udp_send__given_offset__goes_on_there),
		cmocka_unit_test(udp__ecn__arrives_for_each_family),
		cmocka_unit_test(udp__wildcard__local_address_both_ways),
		cmocka_unit_test(udp_recv__empty_datagram__counts),
		cmocka_unit_test(udp_error__port_unreachable__names_the_destination),
		cmocka_unit_test(udp_open__taken_port__is_an_error),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
