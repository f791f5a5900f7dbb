/* See simworld.h. The server's certificate is Ed25519 with a fixed key and fixed dates: its signatures have one length,
 * so not even the size of a handshake differs from run to run. */
#include "support/simworld.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/mem.h"

#define BIG_NAMES 330

/* ---- certificate ---------------------------------------------------------------- */

/* A nameless file that can be opened by path while the process lives. */
static FILE *scratch_file(char path[64])
{
	int fd = memfd_create("sim", MFD_CLOEXEC);

	assert_true(fd >= 0);
	snprintf(path, 64, "/proc/self/fd/%d", fd);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	return f;
}

/* names: how many server names it is good for, which decides its size. */
static X509 *make_cert(EVP_PKEY *key, int names)
{
	char san_text[48 * BIG_NAMES] = "DNS:server.test";
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);

	assert_true(X509_set_version(x, X509_VERSION_3));
	ASN1_INTEGER_set(X509_get_serialNumber(x), 1);
	assert_true(ASN1_TIME_set_string(X509_getm_notBefore(x), "20200101000000Z"));
	assert_true(ASN1_TIME_set_string(X509_getm_notAfter(x), "20900101000000Z"));
	X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"server.test", -1, -1, 0);
	X509_set_issuer_name(x, name);
	X509_set_pubkey(x, key);
	for (int i = 1; i < names; i++)
		snprintf(san_text + strlen(san_text), 48, ",DNS:%03d.big.server.test", i);
	X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, san_text);
	assert_non_null(san);
	X509_add_ext(x, san, -1);
	X509_EXTENSION_free(san);
	assert_true(X509_sign(x, key, NULL) > 0);
	return x;
}

static struct tls_cert_file write_cert(int names, char cert_path[64], char key_path[64])
{
	static const uint8_t secret[32] = "not a secret: only tests use it";
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, secret, sizeof(secret));

	assert_non_null(key);
	X509 *x = make_cert(key, names);
	FILE *f = scratch_file(cert_path);
	assert_true(PEM_write_X509(f, x));
	fclose(f);
	f = scratch_file(key_path);
	assert_true(PEM_write_PrivateKey(f, key, NULL, NULL, 0, NULL, NULL));
	fclose(f);
	X509_free(x);
	EVP_PKEY_free(key);
	return (struct tls_cert_file){ .cert_file = cert_path, .key_file = key_path };
}

/* Made once for the process. */
static const struct tls_cert_file *certificate(bool big)
{
	static char cert_path[2][64], key_path[2][64];
	static struct tls_cert_file files[2];

	if (!files[big].cert_file)
		files[big] = write_cert(big ? BIG_NAMES : 1, cert_path[big], key_path[big]);
	return &files[big];
}

/* ---- scene ---------------------------------------------------------------------- */

static const char *const alpn[] = { "sim" };
static uint8_t key_of[2][32];	/* reset and token keys by role: known, so that tests can forge */

static void init_side(struct conn_config *cfg, struct endpoint_config *ep, int role)
{
	memset(key_of[role], 0x40 + role, sizeof(key_of[role]));
	*cfg = (struct conn_config){
		.limits = { .window = 256 << 10, .window_max = 4 << 20,
			    .conn_window = 512 << 10, .conn_window_max = 8 << 20,
			    .max_streams = { 100, 100 } },
		.idle_timeout_us = 30 * SIM_S,
		.handshake_timeout_us = 10 * SIM_S,
		.max_send_bytes = 256 << 10,
		.mss = 1200,
		.cc = &cc_newreno,
		.ecn = true,
		.cid_len = 8,
		.reset_key = key_of[role],
		.token_key = key_of[role],
	};
	*ep = (struct endpoint_config){ .cid_len = 8 };
	memcpy(ep->reset_key, key_of[role], 32);
	memcpy(ep->token_key, key_of[role], 32);
}

void simworld_init(struct simworld *w, uint64_t seed)
{
	*w = (struct simworld){ .seed = seed, .server_name = "server.test" };
	w->live_before = mem_test_live();
	w->link.delay_us = 10 * SIM_MS;
	init_side(&w->client_cfg, &w->client_ep, 0);
	init_side(&w->server_cfg, &w->server_ep, 1);
	w->server_tls = (struct tls_settings){ .is_server = true, .alpn = alpn, .alpn_count = 1 };
	w->client_tls = (struct tls_settings){ .alpn = alpn, .alpn_count = 1 };
}

static struct tls_config *tls_build(const struct tls_settings *s)
{
	char err[256] = "";
	struct tls_config *c = tls_config_new(s, err, sizeof(err));

	if (!c)
		fail_msg("tls_config_new: %s", err);
	return c;
}

void simworld_start(struct simworld *w)
{
	if (!w->server_tls.cert_count) {
		w->server_tls.certs = certificate(w->big_certificate);
		w->server_tls.cert_count = 1;
	}
	simrng_seed_openssl(w->seed);
	w->server_cfg.tls = tls_build(&w->server_tls);
	if (!w->client_tls.ca_file && !w->client_tls.pin_count && tls_config_pin(w->server_cfg.tls, w->pin)) {
		w->client_tls.pins = (const uint8_t (*)[32])&w->pin;
		w->client_tls.pin_count = 1;
	}
	w->client_cfg.tls = tls_build(&w->client_tls);
	w->net = simnet_new(w->seed);
	simapp_init(&w->client, w->net, "client", w->ipv6, &w->client_ep);
	simapp_init(&w->server, w->net, "server", w->ipv6, &w->server_ep);
	simnet_link(w->net, w->client.host, w->server.host, &w->link);
	endpoint_listen(w->server.host->ep, &w->server_cfg);
}

void simworld_end(struct simworld *w)
{
	simnet_free(w->net);
	simapp_fini(&w->client);
	simapp_fini(&w->server);
	tls_config_unref(w->client_cfg.tls);
	tls_config_unref(w->server_cfg.tls);
	assert_int_equal(mem_test_live(), w->live_before);
}

struct simconn *simworld_connect(struct simworld *w, const struct simconn *resume)
{
	struct simconn *sc = simapp_connect(&w->client, &w->client_cfg, &w->server, w->server_name, resume);

	assert_non_null(sc);
	return sc;
}

struct simconn *simworld_peer(struct simworld *w)
{
	return simapp_last(&w->server);
}

struct simconn *simworld_handshake(struct simworld *w)
{
	struct simconn *sc = simworld_connect(w, NULL);

	simworld_until(w, sim_both_confirmed, 30 * SIM_S);
	return sc;
}

static void print_end(const char *name, const struct simconn *c)
{
	if (!c)
		print_error("%s: no connection\n", name);
	else
		print_error("%s: established %d closed %d (%s) streams %zu done %zu, got %llu wrote %llu\n", name,
			    c->established, c->closed, c->error.reason, c->opened + c->peer_opened, c->done,
			    (unsigned long long)c->got, (unsigned long long)c->written);
}

void simworld_until(struct simworld *w, bool (*done)(void *w), uint64_t for_us)
{
	if (simnet_run(w->net, done, w, for_us))
		return;
	print_end("client", simapp_last(&w->client));
	print_end("server", simapp_last(&w->server));
	fail_msg("still waiting at %.3f s of virtual time", (double)simnet_now(w->net) / 1e6);
}

void simworld_pass(struct simworld *w, uint64_t for_us)
{
	simnet_run(w->net, NULL, NULL, for_us);
}

bool sim_both_confirmed(void *arg)
{
	struct simworld *w = arg;
	struct simconn *c = simapp_last(&w->client), *s = simapp_last(&w->server);

	return c && s && c->confirmed && s->confirmed;
}

bool sim_client_closed(void *arg)
{
	struct simconn *c = simapp_last(&((struct simworld *)arg)->client);

	return c && c->closed;
}

bool sim_both_closed(void *arg)
{
	struct simconn *s = simapp_last(&((struct simworld *)arg)->server);

	return sim_client_closed(arg) && s && s->closed;
}

bool sim_all_drained(void *arg)
{
	struct simworld *w = arg;

	return !endpoint_count(w->client.host->ep) && !endpoint_count(w->server.host->ep);
}

static bool conn_streams_done(const struct simconn *sc)
{
	return sc && !sc->todo[DIR_BIDI].count && !sc->todo[DIR_UNI].count && sc->done == sc->opened + sc->peer_opened;
}

bool sim_streams_done(void *arg)
{
	struct simworld *w = arg;
	struct simconn *c = simapp_last(&w->client), *s = simapp_last(&w->server);

	return conn_streams_done(c) && conn_streams_done(s) &&
	       c->opened == s->peer_opened && s->opened == c->peer_opened;
}

/* ---- seeds ---------------------------------------------------------------------- */

static uint64_t seed_running;
static bool running;

void simworld_each_seed(unsigned count, void (*run)(uint64_t seed))
{
	const char *one = getenv("SIM_SEED"), *many = getenv("SIM_SEEDS");
	uint64_t first = one ? strtoull(one, NULL, 0) : 1;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
	count = (count + 7) / 8;
#endif
	if (many)
		count = (unsigned)strtoul(many, NULL, 0);
	running = true;
	for (uint64_t i = 0; i < (one ? 1 : count); i++) {
		seed_running = first + i;
		run(seed_running);
	}
	running = false;
}

int simworld_report(void **state)
{
	if (running)
		print_error("to see it again: SIM_SEED=%llu, with SIMNET_TRACE=1 for every datagram\n",
			    (unsigned long long)seed_running);
	running = false;
	return 0;
}
