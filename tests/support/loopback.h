/* A QUIC server and client of the public interface on the loopback address, for
 * tests over descriptors. Everything asserts on failure. */
#ifndef SUPPORT_LOOPBACK_H
#define SUPPORT_LOOPBACK_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>

#include "qsock.h"

/* Certificates in a directory of their own, and configurations that use them; what tests may change. */
struct loopback {
	char dir[64];
	struct qsock_config server, client;
	struct sockaddr_in addr;	/* of the listener */
	int listener;
};
/* For cmocka, around all tests: *state is a struct loopback. At the end nothing of the engine or the library is
 * left. */
int loopback_group_setup(void **state);
int loopback_group_teardown(void **state);
/* Around every test: configurations as at the start, no listener, and a limit of time. */
int loopback_setup(void **state);
int loopback_teardown(void **state);
void loopback_defaults(struct loopback *lb);	/* configurations as at the start; forgets the listener */
/* The same certificates in another process: see programs.h. */
struct loopback *loopback_attach(const char *dir, in_port_t port);

/* A listener on a free port with lb->server. */
void loopback_listen(struct loopback *lb);
int loopback_connect(const struct loopback *lb);
/* A connection: the client's end in fd[0], the accepted in fd[1]. */
void loopback_pair(struct loopback *lb, int fd[2]);
/* A stream opened on conn[0] and accepted on conn[1]. flags: QSOCK_UNI */
void loopback_stream(const int conn[2], int fd[2], int flags);
/* Those that are open (not -1); then both are -1. */
void close_both(int fd[2]);

int fds_of_application(void);
/* -1: there is none; one that has ended and is not forgotten by the kernel yet is none. */
int fds_of_engine(void);
int fds_of_task(const char *tid);
/* It comes to hold so many, within 10 s: connections drain for a while after their end (RFC 9000 10.2). */
void expect_engine_fds(int want);
/* Poll for events; revents. Asserts that something comes within 10 s. */
short wait_for(int fd, short events);
short poll_now(int fd, short events);
/* Exactly n bytes, or until the end: bytes read, and *end: 0 more may come, 1 end of file, -1 ECONNRESET. */
size_t read_upto(int fd, void *buf, size_t n, int *end);
void write_all(int fd, const void *buf, size_t n);

#endif
