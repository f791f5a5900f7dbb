/* The shim's rules: ports and addresses, which match, and what is malformed. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <string.h>

#include "preload/policy.h"

static struct addr addr_of(const char *ip, uint16_t port)
{
	struct addr a = { 0 };
	if (inet_pton(AF_INET, ip, &a.in4.sin_addr) == 1) {
		a.sa.sa_family = AF_INET;
		a.in4.sin_port = htons(port);
		return a;
	}
	assert_int_equal(inet_pton(AF_INET6, ip, &a.in6.sin6_addr), 1);
	a.sa.sa_family = AF_INET6;
	a.in6.sin6_port = htons(port);
	return a;
}

static void policy_parse_ports__lists(void **state)
{
	static const struct { const char *text; int n; } cases[] = {
		{ "", 0 }, { "53", 1 }, { "53,80", 2 }, { " 53 , 8000-8999 ", 2 }, { "0-65535", 1 },
		{ "65536", -1 }, { "80-", -1 }, { "-80", -1 }, { "90-80", -1 }, { "http", -1 }, { "80x", -1 },
		{ "1,2,3,4,5", -1 }, { "0000000000000000000000000000000000000080", -1 },
	};
	struct port_range out[4];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (policy_parse_ports(cases[i].text, out, 4) != cases[i].n)
			fail_msg("%s", cases[i].text);
	assert_int_equal(policy_parse_ports("53,8000-8999", out, 4), 2);
	assert_int_equal(out[0].from, 53);
	assert_int_equal(out[0].to, 53);
	assert_int_equal(out[1].from, 8000);
	assert_int_equal(out[1].to, 8999);
}

static void policy_parse_addrs__lists(void **state)
{
	static const struct { const char *text; int n; } cases[] = {
		{ "", 0 }, { "127.0.0.1", 1 }, { "10.0.0.0/8,::1", 2 }, { "fe80::/10", 1 }, { "0.0.0.0/0", 1 },
		{ "10.0.0.0/33", -1 }, { "::/129", -1 }, { "10.0.0.0/", -1 }, { "10.0.0.0/8x", -1 }, { "localhost", -1 },
		{ "::1,::1,::1", -1 },
	};
	struct prefix out[2];
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		if (policy_parse_addrs(cases[i].text, out, 2) != cases[i].n)
			fail_msg("%s", cases[i].text);
}

static const char *rules(const char *name)
{
	if (!strcmp(name, "QSOCK_TCP_PORTS"))
		return "53,8000-8999";
	return strcmp(name, "QSOCK_TCP_ADDRS") ? NULL : "10.0.0.0/9,192.0.2.7,2001:db8::/33";
}

static void no_complaint(const char *line)
{
	fail_msg("%s", line);
}

static void policy_match__by_port_and_address(void **state)
{
	static const struct { const char *ip; uint16_t port; bool tcp; } cases[] = {
		{ "127.0.0.1", 53, true }, { "127.0.0.1", 54, false }, { "::1", 53, true },
		{ "::1", 7999, false }, { "::1", 8000, true }, { "::1", 8999, true }, { "::1", 9000, false },
		{ "10.127.255.255", 1, true }, { "10.128.0.0", 1, false }, { "::ffff:10.1.2.3", 1, true },
		{ "192.0.2.7", 1, true }, { "192.0.2.8", 1, false },
		{ "2001:db8:7fff::1", 1, true }, { "2001:db8:8000::1", 1, false },
	};
	static struct policy p;
	policy_load(&p, rules, no_complaint);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct addr a = addr_of(cases[i].ip, cases[i].port);
		if (policy_match(&p, &a) != cases[i].tcp)
			fail_msg("%s %u", cases[i].ip, cases[i].port);
	}
}

static unsigned complaints;

static void count(const char *line)
{
	complaints++;
}

static const char *broken(const char *name)
{
	return strstr(name, "TCP") ? "nonsense" : NULL;
}

static void policy_load__malformed_rules__are_complained_about_and_left_out(void **state)
{
	static struct policy p;
	struct addr a = addr_of("127.0.0.1", 80);
	policy_load(&p, broken, count);
	assert_int_equal(complaints, 2);
	assert_false(policy_match(&p, &a));
	assert_null(p.ca_file);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(policy_parse_ports__lists),
		cmocka_unit_test(policy_parse_addrs__lists),
		cmocka_unit_test(policy_match__by_port_and_address),
		cmocka_unit_test(policy_load__malformed_rules__are_complained_about_and_left_out),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
