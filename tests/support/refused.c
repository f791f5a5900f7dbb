#include "support/refused.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <sys/socket.h>
#include <unistd.h>

struct sockaddr_in somewhere(uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port),
				     .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

int silent(struct sockaddr_in *a)
{
	socklen_t len = sizeof(*a);
	int udp = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	*a = somewhere(0);
	assert_int_equal(bind(udp, (struct sockaddr *)a, len), 0);
	assert_int_equal(getsockname(udp, (struct sockaddr *)a, &len), 0);
	return udp;
}

struct sockaddr_in nobody(void)
{
	struct sockaddr_in a;
	close(silent(&a));
	return a;
}
