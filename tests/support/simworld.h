/* The usual scene: one client, one server, one link between them, and everything they need to know. Set up
 * with simworld_init, change any setting, then simworld_start. Also the loop over seeds. */
#ifndef TESTS_SIMWORLD_H
#define TESTS_SIMWORLD_H

#include "support/simapp.h"

struct simworld {
	uint64_t seed;
	struct simlink link;		/* both ways, from simworld_start on; default 10 ms one way, nothing else */
	bool ipv6;
	const char *server_name;	/* "server.test" */
	bool big_certificate;		/* some 8 KB of it: more than a server may send to an unknown address */
	struct tls_settings client_tls, server_tls;
	struct conn_config client_cfg, server_cfg;
	struct endpoint_config client_ep, server_ep;
	struct simnet *net;
	struct simapp client, server;
	int64_t live_before;
	uint8_t pin[32];
};

void simworld_init(struct simworld *w, uint64_t seed);
void simworld_start(struct simworld *w);
/* Frees everything and asserts that no allocation of the library is left. */
void simworld_end(struct simworld *w);

struct simconn *simworld_connect(struct simworld *w, const struct simconn *resume);
/* Connect and run until both sides are confirmed; fails the test after 30 s of virtual time. */
struct simconn *simworld_handshake(struct simworld *w);
/* The server's record of the only (the last) connection; NULL: none. */
struct simconn *simworld_peer(struct simworld *w);

/* Run until done() or for_us; asserts that done() came true. */
void simworld_until(struct simworld *w, bool (*done)(void *w), uint64_t for_us);
void simworld_pass(struct simworld *w, uint64_t for_us);	/* just let time go by */

/* For simworld_until: */
bool sim_both_confirmed(void *w);
bool sim_client_closed(void *w);
bool sim_both_closed(void *w);
bool sim_all_drained(void *w);		/* no connection is left on any side */
bool sim_streams_done(void *w);		/* nothing to open, all streams of the last connections are done at both ends */

/* Run a test for count seeds; SIM_SEED=n in the environment runs that one only, SIM_SEEDS=n another number. Under a
 * sanitizer an eighth. Use simworld_report as the test's teardown: it names the seed that failed. */
void simworld_each_seed(unsigned count, void (*run)(uint64_t seed));
int simworld_report(void **state);

#endif
