/* See injscene.h. */
#include "support/injscene.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

void scene_init_with(struct scene *s, enum level level, bool to_server, void (*configure)(struct connpair *p))
{
	memset(s, 0, sizeof(*s));
	connpair_init(&s->p, 1);
	if (configure)
		configure(&s->p);
	injector_init(&s->i, &s->p, to_server);
	if (level == LEVEL_APP) {
		connpair_handshake(&s->p);
	} else {
		connpair_start(&s->p);
		connpair_run(&s->p, s->p.now_us + (level == LEVEL_INITIAL ? 1 : 2) * s->p.delay_us);
		assert_non_null(s->p.server);
	}
	s->victim = injector_victim(&s->i);
	s->mate = injector_mate(&s->i);
	injector_forget(&s->i);
}

void scene_init(struct scene *s, enum level level, bool to_server)
{
	scene_init_with(s, level, to_server, NULL);
}

void scene_init_client_only(struct scene *s, bool to_server)
{
	memset(s, 0, sizeof(*s));
	connpair_init(&s->p, 1);
	injector_init(&s->i, &s->p, to_server);
	connpair_start(&s->p);
	s->mate = s->victim = s->p.client;
}

void scene_fini(struct scene *s)
{
	injector_fini(&s->i);
	connpair_fini(&s->p);
}

void each_side(enum level level, void (*run)(struct scene *s))
{
	for (int side = 0; side < 2; side++) {
		struct scene s;
		scene_init(&s, level, side);
		run(&s);
		scene_fini(&s);
	}
}

void scene_send_new_cid(struct scene *s, uint64_t seq, const struct cid *cid, const uint8_t *token)
{
	uint8_t b[64];
	struct wr w = wr_of(b, sizeof(b));
	assert_true(frame_write_new_connection_id(&w, seq, 0, cid, token));
	injector_send(&s->i, LEVEL_APP, b, wr_len(&w));
}

/* ---- transfer ------------------------------------------------------------------ */

static struct stream *write_all(struct conn *c, size_t len)
{
	struct stream *st;
	size_t done = 0;
	assert_int_equal(conn_stream_open(c, DIR_UNI, &st), 0);
	while (done < len) {
		struct iovec iov[4];
		int n;
		size_t got = conn_stream_claim(c, st, len - done, iov, 4, &n), at = done;
		assert_true(got > 0);
		for (int i = 0; i < n; i++)
			for (size_t k = 0; k < iov[i].iov_len; k++)
				((uint8_t *)iov[i].iov_base)[k] = (uint8_t)(at++ * 7);
		conn_stream_commit(c, st, got);
		done += got;
	}
	assert_int_equal(conn_stream_finish(c, st), 0);
	return st;
}

static size_t read_some(struct conn *c, struct stream *st, size_t from, bool check, int *end)
{
	struct iovec iov[8];
	size_t sum = 0, bytes;
	int n;
	while ((n = conn_stream_peek(c, st, iov, 8, &bytes, end)) > 0 && bytes) {
		size_t at = from + sum;
		for (int i = 0; check && i < n; i++)
			for (size_t k = 0; k < iov[i].iov_len; k++)
				assert_int_equal(((uint8_t *)iov[i].iov_base)[k], (uint8_t)(at++ * 7));
		sum += bytes;
		conn_stream_consume(c, st, bytes);
	}
	conn_stream_peek(c, st, iov, 8, &bytes, end);
	return sum;
}

size_t scene_drain(struct conn *c, struct stream *st)
{
	int end;
	return read_some(c, st, 0, false, &end);
}

/* The stream the other side opened last, or NULL. */
static struct stream *find(struct connpair *p, bool at_server, uint64_t id)
{
	for (unsigned k = 0; k < p->nopened[at_server]; k++)
		if (p->opened[at_server][k]->id == id)
			return p->opened[at_server][k];
	return NULL;
}

static void transfer(struct scene *s, bool from_server, size_t bytes)
{
	struct connpair *p = &s->p;
	struct conn *from = from_server ? p->server : p->client, *to = from_server ? p->client : p->server;
	uint64_t id = write_all(from, bytes)->id;
	size_t got = 0;
	int end = 0;
	for (int round = 0; round < 2000 && !end; round++) {
		struct stream *st = find(p, !from_server, id);
		if (st)
			got += read_some(to, st, got, true, &end);
		connpair_run(p, p->now_us + 5000);
	}
	if (p->closed[0] || p->closed[1])
		print_error("client: %s; server: %s\n", conn_error(p->client)->reason, conn_error(p->server)->reason);
	assert_int_equal(got, bytes);
	assert_int_equal(end, 1);
}

void scene_transfer(struct scene *s, size_t bytes)
{
	transfer(s, true, bytes);
	transfer(s, false, bytes);
}
