/* See simapp.h. Whatever arrives and differs from the pattern, or comes after an end, fails the running test here. */
#include "support/simapp.h"

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>

#include "base/err.h"

#define IOVS 16

/* ---- pattern ------------------------------------------------------------------ */

static uint64_t pattern_word(uint64_t id, uint64_t word)
{
	uint64_t state = (id + 1) * UINT64_C(0xd1342543de82ef95) + word * UINT64_C(0x9e3779b97f4a7c15);

	return splitmix64(&state);
}

static uint8_t pattern_byte(uint64_t id, uint64_t off)
{
	return (uint8_t)(pattern_word(id, off / 8) >> 8 * (off % 8));
}

void simpattern_fill(uint64_t id, uint64_t off, uint8_t *p, size_t len)
{
	size_t i = 0;

	while (i < len) {
		if ((off + i) % 8 || len - i < 8) {
			p[i] = pattern_byte(id, off + i);
			i++;
			continue;
		}
		uint64_t w = pattern_word(id, (off + i) / 8);
		for (int b = 0; b < 8; b++)
			p[i++] = (uint8_t)(w >> 8 * b);
	}
}

size_t simpattern_check(uint64_t id, uint64_t off, const uint8_t *p, size_t len)
{
	uint8_t want[512];
	size_t done = 0, n;

	for (; done < len; done += n) {
		n = len - done < sizeof(want) ? len - done : sizeof(want);
		simpattern_fill(id, off + done, want, n);
		if (memcmp(want, p + done, n))
			break;
	}
	while (done < len && p[done] == pattern_byte(id, off + done))
		done++;
	return done;
}

/* ---- streams ------------------------------------------------------------------ */

static struct simstream *stream_record(struct simconn *sc, struct stream *s, bool ours)
{
	struct simstream *ss = calloc(1, sizeof(*ss));

	assert_non_null(ss);
	*ss = (struct simstream){ .sc = sc, .s = s, .id = s->id, .ours = ours };
	s->app = ss;
	TAILQ_INSERT_TAIL(&sc->streams, ss, link);
	return ss;
}

static bool has_tx(const struct simstream *ss) { return !stream_is_uni(ss->id) || ss->ours; }
static bool has_rx(const struct simstream *ss) { return !stream_is_uni(ss->id) || !ss->ours; }

static void settle(struct simstream *ss)
{
	bool tx_over = !has_tx(ss) || ss->finished || ss->aborted || ss->stopped || ss->sc->closed;
	bool rx_over = !has_rx(ss) || ss->end;

	if (!ss->s || !tx_over || !rx_over)
		return;
	conn_stream_release(ss->sc->c, ss->s);
	ss->s = NULL;
	ss->done = true;
	ss->sc->done++;
}

static void write_some(struct simstream *ss)
{
	struct simconn *sc = ss->sc;
	struct iovec iov[IOVS];
	int n;

	while (ss->written < ss->to_write) {
		size_t room = conn_stream_claim(sc->c, ss->s, (size_t)(ss->to_write - ss->written), iov, IOVS, &n);

		if (!room)
			return;
		assert_true(room <= ss->to_write - ss->written);
		for (int i = 0; i < n; i++) {
			simpattern_fill(ss->id, ss->written, iov[i].iov_base, iov[i].iov_len);
			ss->written += iov[i].iov_len;
		}
		sc->written += room;
		conn_stream_commit(sc->c, ss->s, room);
	}
}

void simstream_pump(struct simstream *ss)
{
	if (!ss->s || !has_tx(ss) || ss->finished || ss->aborted || ss->stopped || ss->sc->closed)
		return;
	write_some(ss);
	if (ss->want_fin && ss->written == ss->to_write) {
		ss->finished = true;
		assert_int_equal(conn_stream_finish(ss->sc->c, ss->s), 0);
	}
	settle(ss);
	simconn_touch(ss->sc);
}

static void read_some(struct simstream *ss)
{
	struct simconn *sc = ss->sc;
	struct iovec iov[IOVS];

	while (ss->s && !ss->end && !ss->paused) {
		size_t bytes = 0;
		int end = 0, n = conn_stream_peek(sc->c, ss->s, iov, IOVS, &bytes, &end);
		size_t sum = 0;

		for (int i = 0; i < n; i++) {
			size_t good = simpattern_check(ss->id, ss->got, iov[i].iov_base, iov[i].iov_len);

			if (good != iov[i].iov_len)
				fail_msg("stream %llu: wrong byte at offset %llu", (unsigned long long)ss->id,
					 (unsigned long long)(ss->got + good));
			ss->got += iov[i].iov_len;
			sum += iov[i].iov_len;
		}
		assert_int_equal(sum, bytes);
		sc->got += bytes;
		if (bytes)
			conn_stream_consume(sc->c, ss->s, bytes);
		if (ss->echo)
			ss->to_write = ss->got;
		/* A piece list may be too short for all: the end counts once nothing is left before it. */
		if (bytes)
			continue;
		if (!end)
			return;
		ss->end = end;
		if (end < 0)
			ss->reset_code = ss->s->peer_reset_code;
		conn_stream_read_end(sc->c, ss->s);
		if (ss->echo)
			ss->want_fin = true;
	}
}

static void stream_activity(struct simstream *ss)
{
	if (!ss->s)
		return;
	if (has_rx(ss))
		read_some(ss);
	simstream_pump(ss);
	settle(ss);
}

static void stream_opened_by_peer(struct simconn *sc, struct stream *s)
{
	struct simapp *a = sc->app;
	struct simstream *ss = stream_record(sc, s, false);

	sc->peer_opened++;
	ss->echo = a->serve == SIM_ECHO && has_tx(ss);
	ss->paused = a->serve == SIM_IGNORE;
	if (a->serve == SIM_REPLY && has_tx(ss)) {
		ss->to_write = a->reply_bytes;
		ss->want_fin = true;
	}
	if (a->serve == SIM_REFUSE) {
		simstream_stop(ss, a->refuse_code);
		if (has_tx(ss))
			simstream_reset(ss, a->refuse_code);
	}
	stream_activity(ss);
}

static void stream_event(struct stream *s, uint8_t events)
{
	struct simstream *ss = s->app;

	if (!ss || !ss->s)
		return;
	if (events & STREAM_EV_STOPPED) {
		ss->stopped = true;
		ss->stop_code = s->peer_stop_code;
	}
	if (events & STREAM_EV_SENT_ALL)
		ss->sent_all = true;
	stream_activity(ss);
}

struct simstream *simconn_open(struct simconn *sc, int dir)
{
	struct stream *s = NULL;
	int err = conn_stream_open(sc->c, dir, &s);

	simconn_touch(sc);
	if (err == QE_AGAIN || err == QE_NOMEM || err == QE_CLOSED)
		return NULL;
	assert_int_equal(err, 0);
	sc->opened++;
	struct simstream *ss = stream_record(sc, s, true);
	if (sc->app->announce)
		conn_stream_announce(sc->c, s);
	return ss;
}

static void open_waiting(struct simconn *sc)
{
	for (int dir = DIR_BIDI; dir <= DIR_UNI; dir++) {
		while (sc->todo[dir].count) {
			struct simstream *ss = simconn_open(sc, dir);

			if (!ss)
				break;
			sc->todo[dir].count--;
			ss->to_write = sc->todo[dir].bytes;
			ss->want_fin = true;
			simstream_pump(ss);
		}
	}
}

void simconn_send(struct simconn *sc, int dir, size_t count, uint64_t bytes)
{
	sc->todo[dir].count += count;
	sc->todo[dir].bytes = bytes;
	if (sc->established && !sc->closed)
		open_waiting(sc);
}

void simstream_resume(struct simstream *ss)
{
	ss->paused = false;
	stream_activity(ss);
	simconn_touch(ss->sc);
}

void simstream_reset(struct simstream *ss, uint64_t code)
{
	ss->aborted = true;
	assert_int_equal(conn_stream_reset(ss->sc->c, ss->s, code), 0);
	settle(ss);
	simconn_touch(ss->sc);
}

void simstream_stop(struct simstream *ss, uint64_t code)
{
	int err = conn_stream_stop_sending(ss->sc->c, ss->s, code);

	assert_true(err == 0 || err == QE_CLOSED);	/* closed: all had arrived already */
	simconn_touch(ss->sc);
}

struct simstream *simconn_stream(struct simconn *sc, uint64_t id)
{
	struct simstream *ss;

	TAILQ_FOREACH(ss, &sc->streams, link)
		if (ss->id == id)
			return ss;
	return NULL;
}

/* ---- connections ---------------------------------------------------------------- */

static struct simconn *conn_record(struct simapp *a, struct conn *c)
{
	struct simconn *sc = calloc(1, sizeof(*sc));

	assert_non_null(sc);
	sc->app = a;
	sc->c = c;
	TAILQ_INIT(&sc->streams);
	TAILQ_INSERT_TAIL(&a->conns, sc, link);
	conn_set_app(c, sc);
	return sc;
}

static void take_info(struct simconn *sc)
{
	conn_info(sc->c, &sc->info);
	if (sc->info.tls)
		sc->tls = *sc->info.tls;
	sc->info.tls = NULL;
}

static void keep(uint8_t **copy, size_t *copy_len, const uint8_t *data, size_t len)
{
	*copy = realloc(*copy, len + 1);
	assert_non_null(*copy);
	memcpy(*copy, data, len);
	*copy_len = len;
}

static void forget_conn(struct simconn *sc)
{
	struct simstream *ss;

	TAILQ_FOREACH(ss, &sc->streams, link)
		ss->s = NULL;
	sc->c = NULL;
}

static void conn_event(struct simconn *sc, const struct conn_event *ev)
{
	uint64_t now_us = simnet_now(sc->app->host->net);

	switch (ev->type) {
	case CONN_EV_ESTABLISHED:
		sc->established = true;
		sc->established_at_us = now_us;
		take_info(sc);
		open_waiting(sc);
		break;
	case CONN_EV_CONFIRMED:
		sc->confirmed = true;
		break;
	case CONN_EV_STREAM_OPENED:
		stream_opened_by_peer(sc, ev->stream);
		break;
	case CONN_EV_STREAM:
		stream_event(ev->stream, ev->stream_events);
		break;
	case CONN_EV_STREAM_CREDIT:
		open_waiting(sc);
		break;
	case CONN_EV_SESSION:
		keep(&sc->session, &sc->session_len, ev->data, ev->len);
		sc->sessions++;
		break;
	case CONN_EV_TOKEN:
		keep(&sc->token, &sc->token_len, ev->data, ev->len);
		sc->tokens++;
		break;
	case CONN_EV_CLOSED:
		assert_false(sc->closed);
		sc->closed = true;
		sc->closed_at_us = now_us;
		sc->error = *conn_error(sc->c);
		take_info(sc);
		break;
	case CONN_EV_DRAINED:
		assert_true(sc->closed);
		sc->drained = true;
		sc->drained_at_us = now_us;
		endpoint_drop(sc->app->host->ep, sc->c);
		forget_conn(sc);
		return;
	case CONN_EV_NONE:
	case CONN_EV_CID_ISSUED:
	case CONN_EV_CID_RETIRED:
		fail_msg("event %d is not the application's", ev->type);
	}
	simconn_touch(sc);
}

static void on_event(void *arg, struct simhost *h, struct conn *c, const struct conn_event *ev)
{
	struct simapp *a = arg;
	struct simconn *sc = conn_app(c);

	if (!sc) {
		sc = conn_record(a, c);
		sc->accepted = true;
		a->accepted++;
	}
	assert_false(sc->drained);
	if (sc->log_len < SIM_LOG)
		sc->log[sc->log_len] = ev->type;
	sc->log_len++;
	conn_event(sc, ev);
}

void simapp_init(struct simapp *a, struct simnet *n, const char *name, bool ipv6, const struct endpoint_config *ep)
{
	struct simhost_ops ops = { .arg = a, .event = on_event };

	*a = (struct simapp){ 0 };
	TAILQ_INIT(&a->conns);
	a->host = simnet_host(n, name, ipv6, ep, &ops);
}

void simapp_crash(struct simapp *a, const struct endpoint_config *ep, const struct conn_config *cfg)
{
	struct simconn *sc;

	TAILQ_FOREACH(sc, &a->conns, link)
		forget_conn(sc);
	simhost_restart(a->host, ep);
	endpoint_listen(a->host->ep, cfg);
}

void simapp_fini(struct simapp *a)
{
	struct simconn *sc, *next_sc;
	struct simstream *ss, *next_ss;

	TAILQ_FOREACH_SAFE(sc, &a->conns, link, next_sc) {
		TAILQ_FOREACH_SAFE(ss, &sc->streams, link, next_ss)
			free(ss);
		free(sc->session);
		free(sc->token);
		free(sc);
	}
	TAILQ_INIT(&a->conns);
}

struct simconn *simapp_connect(struct simapp *a, const struct conn_config *cfg, const struct simapp *server,
			       const char *server_name, const struct simconn *resume)
{
	struct simhost *h = a->host;
	struct conn *c = endpoint_connect(h->ep, cfg, &h->addr, &server->host->addr, server_name,
					  resume ? resume->token : NULL, resume ? resume->token_len : 0,
					  resume ? resume->session : NULL, resume ? resume->session_len : 0,
					  simnet_now(h->net));

	return c ? conn_record(a, c) : NULL;
}

void simconn_touch(struct simconn *sc)
{
	if (sc->c)
		endpoint_touch(sc->app->host->ep, sc->c);
}

void simconn_close(struct simconn *sc, uint64_t code, const char *reason)
{
	conn_close(sc->c, code, reason, strlen(reason), simnet_now(sc->app->host->net));
	simconn_touch(sc);
}

size_t simconn_count(const struct simconn *sc, enum conn_event_type type)
{
	size_t n = 0;

	for (size_t i = 0; i < sc->log_len && i < SIM_LOG; i++)
		n += sc->log[i] == type;
	return n;
}
