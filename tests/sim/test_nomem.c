/* Two endpoints on a network that loses, with every single allocation failing in turn: connect, echo, close.
 * Nothing crashes or leaks, every connection comes to its end, and the endpoints serve the next one. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>
#include <openssl/err.h>
#include <openssl/opensslv.h>

#include "base/mem.h"
#include "support/ossl_mem.h"
#include "support/simworld.h"

static void setup(struct simworld *w, bool retry)
{
	simworld_init(w, 7);
	w->link.loss = 50;
	w->link.max_losses_in_row = 2;
	w->server_ep.retry = retry;
	w->client_cfg.idle_timeout_us = w->server_cfg.idle_timeout_us = 5 * SIM_S;
	w->client_cfg.handshake_timeout_us = w->server_cfg.handshake_timeout_us = 5 * SIM_S;
	w->server.serve = SIM_ECHO;
	simworld_start(w);
}

static void pump(struct simapp *a)
{
	struct simconn *sc;
	struct simstream *ss;
	TAILQ_FOREACH(sc, &a->conns, link)
		TAILQ_FOREACH(ss, &sc->streams, link)
			simstream_pump(ss);
}

/* OpenSSL 3.5 itself crashes when memory lacks in SSL_set_quic_tls_cbs, so there its allocations only fail once both
 * sides have their SSL. */
#define OPENSSL_FAILS_EARLY (OPENSSL_VERSION_NUMBER < 0x30500000L)

/* fail_openssl: which allocation of OpenSSL's shall fail, 0: none. true: all was echoed. */
static bool converse(struct simworld *w, uint64_t fail_openssl)
{
	if (OPENSSL_FAILS_EARLY)
		ossl_mem_fail_nth(fail_openssl);
	struct simconn *sc = simapp_connect(&w->client, &w->client_cfg, &w->server, w->server_name, NULL);
	if (!sc)
		return false;
	if (!OPENSSL_FAILS_EARLY) {
		while (!endpoint_count(w->server.host->ep) && !sc->closed)
			simworld_pass(w, SIM_MS);
		ossl_mem_fail_nth(fail_openssl);
	}
	bool whole = false;
	for (int k = 0; k < 600 && !whole && !sc->closed; k++) {
		simconn_send(sc, DIR_BIDI, k == 0 ? 2 : 0, 20000);
		pump(&w->client);
		pump(&w->server);
		simworld_pass(w, 50 * SIM_MS);
		whole = sc->done == 2 && sc->got == 40000;
	}
	if (!sc->closed)
		simconn_close(sc, 0, "");
	return whole;
}

static void every_allocation(bool retry, bool openssl, uint64_t step)
{
	for (uint64_t n = 1;; n += step) {
		struct simworld w;
		setup(&w, retry);
		uint64_t before = mem_test_count();
		mem_test_fail_nth(openssl ? 0 : n);
		bool whole = converse(&w, openssl ? n : 0);
		bool failed = openssl ? ossl_mem_failed() : mem_test_count() - before >= n;
		ossl_mem_fail_nth(0);
		mem_test_fail_nth(0);
		ERR_clear_error();
		/* nobody hangs, and the next connection finds everything in order */
		simworld_until(&w, sim_all_drained, 60 * SIM_S);
		assert_true(converse(&w, 0));
		simworld_until(&w, sim_all_drained, 60 * SIM_S);
		simworld_end(&w);
		if (!failed) {
			assert_true(whole);
			return;
		}
	}
}

static void nomem__endpoints__ours(void **state) { every_allocation(false, false, 1); }
static void nomem__endpoints__with_retry(void **state) { every_allocation(true, false, 1); }

static void nomem__endpoints__openssl(void **state)
{
#if defined(__SANITIZE_ADDRESS__)
	every_allocation(false, true, 29);
#else
	every_allocation(false, true, 3);
#endif
}

int main(void)
{
	if (!ossl_mem_init())
		return 1;
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nomem__endpoints__ours),
		cmocka_unit_test(nomem__endpoints__with_retry),
		cmocka_unit_test(nomem__endpoints__openssl),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
