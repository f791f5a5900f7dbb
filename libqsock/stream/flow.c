/* Flow control arithmetic: when credit is exceeded, when more is worth advertising,
 * how large the window should be. Knows nothing of streams, frames or packets; the
 * same code serves a stream and the connection. RFC 9000 4.1, 4.2 */
#include "stream/flow.h"

#include <assert.h>

#include "base/err.h"
#include "wire/varint.h"

#define TUNE_ROUND_TRIPS 4

void rxflow_init(struct rxflow *f, uint64_t window, uint64_t window_max)
{
	*f = (struct rxflow){ .limit = window, .window = window };
	f->window_max = window_max > window ? window_max : window;
}

int rxflow_on_received(struct rxflow *f, uint64_t n)
{
	if (n > f->limit - f->received)
		return QE_FLOW_CONTROL;
	f->received += n;
	return 0;
}

bool rxflow_on_consumed(struct rxflow *f, uint64_t n)
{
	assert(n <= f->received - f->consumed);
	f->consumed += n;
	return rxflow_wants_update(f);
}

/* A quarter of the window per update: often enough that a frame may be lost without
 * stalling the peer, rare enough to be cheap. RFC 9000 4.2 */
bool rxflow_wants_update(const struct rxflow *f)
{
	return f->limit - f->consumed < f->window - f->window / 4;
}

static void tune(struct rxflow *f, uint64_t srtt_us, uint64_t now_us)
{
	uint64_t took_us = now_us - f->epoch_at_us;
	bool fast = took_us < TUNE_ROUND_TRIPS * srtt_us;
	bool full = f->consumed - f->epoch_consumed >= f->window;

	if (f->epoch_at_us && fast && !full)
		return;
	if (f->epoch_at_us && fast)
		f->window = f->window > f->window_max / 2 ? f->window_max : f->window * 2;
	f->epoch_at_us = now_us;
	f->epoch_consumed = f->consumed;
}

uint64_t rxflow_next_limit(struct rxflow *f, uint64_t srtt_us, uint64_t now_us)
{
	tune(f, srtt_us, now_us);
	uint64_t limit = f->window < VARINT_MAX - f->consumed ? f->consumed + f->window : VARINT_MAX;
	if (limit > f->limit)
		f->limit = limit;
	return f->limit;
}

void txflow_init(struct txflow *f, uint64_t limit)
{
	*f = (struct txflow){ .limit = limit, .blocked_at = UINT64_MAX };
}

void txflow_use(struct txflow *f, uint64_t n)
{
	assert(n <= txflow_credit(f));
	f->used += n;
}

bool txflow_on_max(struct txflow *f, uint64_t max)
{
	if (max <= f->limit)
		return false;
	f->limit = max;
	return true;
}

bool txflow_blocked(struct txflow *f)
{
	if (txflow_credit(f) || f->blocked_at == f->limit)
		return false;
	f->blocked_at = f->limit;
	return true;
}
