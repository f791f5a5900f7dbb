#include "support/tlspair.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/certs.h"

struct tls_config *pair_config(struct tls_settings s, const char *dir, const char *leaf)
{
	static const char *const hq[] = { "hq" };
	char err[256], crt[256], key[256];
	struct tls_cert_file cert = { crt, key, NULL };
	if (!s.alpn) {
		s.alpn = hq;
		s.alpn_count = 1;
	}
	if (leaf) {
		snprintf(crt, sizeof(crt), "%s/%s.crt", dir, leaf);
		snprintf(key, sizeof(key), "%s/%s.key", dir, leaf);
		s.certs = &cert;
		s.cert_count = 1;
	}
	struct tls_config *c = tls_config_new(&s, err, sizeof(err));
	if (!c) {
		fprintf(stderr, "%s\n", err);
		abort();
	}
	return c;
}

struct tls_config *pair_config_usual(struct tls_settings s, const char *dir)
{
	if (!s.is_server && !s.ca_file)
		s.ca_file = in_dir(dir, "ca.crt");
	return pair_config(s, dir, s.is_server && !s.certs ? "a.example" : NULL);
}

static void on_secret(void *arg, enum level level, bool tx, uint16_t suite, const uint8_t *secret, size_t len)
{
	struct side *s = arg;
	struct secret *k = &s->secret[level][tx];
	if (len > sizeof(k->b))
		abort();
	memcpy(k->b, secret, len);
	k->len = len;
	k->suite = suite;
	k->times++;
	if (level == LEVEL_HANDSHAKE && tx && !s->fed[LEVEL_HANDSHAKE])
		s->hs_tx_before_flight = true;
}

static void on_crypto(void *arg, enum level level, const uint8_t *data, size_t len)
{
	struct side *s = arg;
	struct piece *p = &s->q[s->tail % 64];
	if (s->tail - s->head == 64 || !(p->data = malloc(len ? len : 1)))
		abort();
	memcpy(p->data, data, len);
	p->level = level;
	p->len = len;
	s->bytes[level] += len;
	s->tail++;
}

static int on_params(void *arg, const uint8_t *data, size_t len)
{
	struct side *s = arg;
	s->params_calls++;
	s->params_len = len < sizeof(s->params) ? len : sizeof(s->params);
	memcpy(s->params, data, s->params_len);
	return s->params_answer;
}

static void on_session(void *arg, const uint8_t *blob, size_t len)
{
	struct side *s = arg;
	if (len > sizeof(s->blob))
		abort();
	memcpy(s->blob, blob, len);
	s->blob_len = len;
	s->sessions++;
}

const struct tls_out pair_out = { on_secret, on_crypto, on_params, on_session };

void pair_init(struct pair *p, struct tls_config *client, struct tls_config *server, const char *server_name)
{
	memset(p, 0, sizeof(*p));
	p->client.t = tls_new(client, &pair_out, &p->client, server_name);
	p->server.t = tls_new(server, &pair_out, &p->server, NULL);
	if (p->client.t)
		p->client.error = tls_set_params(p->client.t, (const uint8_t *)CLIENT_PARAMS, strlen(CLIENT_PARAMS));
	if (p->server.t)
		p->server.error = tls_set_params(p->server.t, (const uint8_t *)SERVER_PARAMS, strlen(SERVER_PARAMS));
}

static void drop_queue(struct side *s)
{
	for (; s->head < s->tail; s->head++)
		free(s->q[s->head % 64].data);
}

void pair_fini(struct pair *p)
{
	tls_free(p->client.t);
	tls_free(p->server.t);
	drop_queue(&p->client);
	drop_queue(&p->server);
	memset(p, 0, sizeof(*p));
}

void pair_start(struct pair *p)
{
	if (!p->server.error)
		p->server.error = tls_start(p->server.t);
	if (!p->client.error)
		p->client.error = tls_start(p->client.t);
}

bool side_take(struct side *s, struct piece *out)
{
	if (s->head == s->tail)
		return false;
	*out = s->q[s->head++ % 64];
	return true;
}

static bool move(struct side *from, struct side *to, size_t chunk)
{
	struct piece p;
	if (!side_take(from, &p))
		return false;
	for (size_t off = 0; off < p.len && !to->error;) {
		size_t n = p.len - off < chunk ? p.len - off : chunk;
		/* An exact copy on the heap, so that a read beyond it is seen. */
		uint8_t *copy = malloc(n);
		if (!copy)
			abort();
		memcpy(copy, p.data + off, n);
		to->error = tls_recv(to->t, p.level, copy, n);
		tls_want_tx(to->t);	/* as one who acknowledges at once */
		to->fed[p.level] += n;
		free(copy);
		off += n;
	}
	free(p.data);
	return !to->error;
}

void pair_pump(struct pair *p, size_t chunk)
{
	bool any = true;
	while (any && !p->client.error && !p->server.error) {
		any = move(&p->client, &p->server, chunk);
		any |= !p->server.error && move(&p->server, &p->client, chunk);
	}
}

bool pair_handshake(struct pair *p)
{
	pair_start(p);
	pair_pump(p, SIZE_MAX);
	return !p->client.error && !p->server.error && tls_state(p->client.t) == TLS_DONE &&
	       tls_state(p->server.t) == TLS_DONE;
}

int recv_with_tail(struct tls *t, struct piece *p, size_t extra)
{
	uint8_t *b = calloc(1, p->len + extra);
	memcpy(b, p->data, p->len);
	int e = tls_recv(t, p->level, b, p->len + extra);
	free(b);
	free(p->data);
	return e;
}
