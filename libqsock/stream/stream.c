/* One stream: what each frame, each fate of a frame and each act of the application does
 * to its two halves. The transitions stand in two tables, after RFC 9000 figures 2 and 3.
 *
 * Receive accounting: rx_credit.consumed counts what was read plus what never will be; the latter is
 * also collected in dropped for the connection. At the end both equal the final size, whatever the way
 * there. Knows nothing of packets, other streams or the connection's credit. */
#include "stream/stream.h"

#include <assert.h>

#include "base/err.h"

/* RFC 9000 3.1, figure 2. A reset is "sent" when it is decided: from then on no STREAM frame
 * leaves, and the RESET_STREAM frame is wanted until acknowledged. */
enum tx_event { TXE_SEND, TXE_SEND_FIN, TXE_RESET, TXE_ALL_ACKED, TXE_RESET_ACKED, TXE_COUNT };

static const uint8_t tx_table[][TXE_COUNT] = {
	/*                   STREAM or BLOCKED  FIN            RESET_STREAM    all ACKed       reset ACKed */
	[STX_READY]       = { STX_SEND,         STX_DATA_SENT, STX_RESET_SENT, 0,              0 },
	[STX_SEND]        = { STX_SEND,         STX_DATA_SENT, STX_RESET_SENT, 0,              0 },
	[STX_DATA_SENT]   = { 0,                0,             STX_RESET_SENT, STX_DATA_RECVD, 0 },
	[STX_RESET_SENT]  = { 0,                0,             0,              0,              STX_RESET_RECVD },
	[STX_DATA_RECVD]  = { 0 },
	[STX_RESET_RECVD] = { 0 },
};

/* RFC 9000 3.2, figure 3, without its two optional edges: a reset after all data arrived is
 * not reported, data after a reset is not used. */
enum rx_event { RXE_FIN, RXE_ALL, RXE_RESET, RXE_READ, RXE_COUNT };

static const uint8_t rx_table[][RXE_COUNT] = {
	/*                   FIN             all data        RESET_STREAM     application read the end */
	[SRX_RECV]        = { SRX_SIZE_KNOWN, 0,              SRX_RESET_RECVD, 0 },
	[SRX_SIZE_KNOWN]  = { 0,              SRX_DATA_RECVD, SRX_RESET_RECVD, 0 },
	[SRX_DATA_RECVD]  = { 0,              0,              0,               SRX_DATA_READ },
	[SRX_RESET_RECVD] = { 0,              0,              0,               SRX_RESET_READ },
	[SRX_DATA_READ]   = { 0 },
	[SRX_RESET_READ]  = { 0 },
};

/* true: the event is possible in this state, and was taken. */
static bool tx_move(struct stream *s, enum tx_event ev)
{
	enum stream_tx to = tx_table[s->tx][ev];
	if (to == STX_NONE)
		return false;
	s->tx = to;
	return true;
}

static bool rx_move(struct stream *s, enum rx_event ev)
{
	enum stream_rx to = rx_table[s->rx][ev];
	if (to == SRX_NONE)
		return false;
	s->rx = to;
	return true;
}

void stream_init(struct stream *s, uint64_t id, bool has_tx, bool has_rx, uint64_t tx_limit, uint64_t rx_window,
		 uint64_t rx_window_max, struct blockpool *pool)
{
	*s = (struct stream){ .id = id };
	s->tx = has_tx ? STX_READY : STX_NONE;
	s->rx = has_rx ? SRX_RECV : SRX_NONE;
	sendbuf_init(&s->sb);
	recvbuf_init(&s->rb);
	s->sb.pool = s->rb.pool = pool;
	txflow_init(&s->tx_credit, has_tx ? tx_limit : 0);
	rxflow_init(&s->rx_credit, has_rx ? rx_window : 0, has_rx ? rx_window_max : 0);
}

void stream_fini(struct stream *s)
{
	sendbuf_fini(&s->sb);
	recvbuf_fini(&s->rb);
}

/* ---- what the states mean ----------------------------------------------- */

static bool receiving(const struct stream *s)
{
	return s->rx == SRX_RECV || s->rx == SRX_SIZE_KNOWN;
}

static bool sending(const struct stream *s)
{
	return s->tx == STX_READY || s->tx == STX_SEND || s->tx == STX_DATA_SENT;
}

bool stream_tx_open(const struct stream *s)
{
	return (s->tx == STX_READY || s->tx == STX_SEND) && !s->sb.fin;
}

bool stream_tx_terminal(const struct stream *s)
{
	return s->tx == STX_NONE || s->tx == STX_DATA_RECVD || s->tx == STX_RESET_RECVD;
}

bool stream_rx_terminal(const struct stream *s)
{
	return !receiving(s);
}

int stream_end(const struct stream *s)
{
	if (s->rx == SRX_RESET_RECVD || s->rx == SRX_RESET_READ)
		return -1;
	if (s->rx != SRX_DATA_RECVD && s->rx != SRX_DATA_READ)
		return 0;
	/* what was dropped unread must not look like a clean end */
	return s->rb.discarding && !recvbuf_finished(&s->rb) ? -1 : 1;
}

bool stream_is_blocked(const struct stream *s)
{
	return (s->tx == STX_READY || s->tx == STX_SEND) && s->sb.end > s->sb.next && !txflow_credit(&s->tx_credit);
}

bool stream_has_data(const struct stream *s, uint64_t conn_credit)
{
	return sending(s) && sendbuf_pending(&s->sb, stream_tx_limit(s, conn_credit));
}

/* ---- receiving half ----------------------------------------------------- */

/* n received bytes will not be read. */
static void drop(struct stream *s, uint64_t n)
{
	(void)rxflow_on_consumed(&s->rx_credit, n);
	s->dropped += n;
}

static void drop_unread(struct stream *s)
{
	drop(s, s->rx_credit.received - s->rx_credit.consumed);
	recvbuf_discard(&s->rb);
}

uint64_t stream_take_dropped(struct stream *s)
{
	uint64_t n = s->dropped;
	s->dropped = 0;
	return n;
}

uint64_t stream_growth(const struct stream *s, uint64_t off, size_t len)
{
	return recvbuf_growth(&s->rb, off, len);
}

static void on_all_received(struct stream *s)
{
	if (!rx_move(s, RXE_ALL))
		return;
	if (!s->rb.discarding)
		s->events |= STREAM_EV_READABLE;
}

int stream_on_data(struct stream *s, uint64_t off, const uint8_t *data, size_t len, bool fin)
{
	uint64_t growth = stream_growth(s, off, len);
	uint64_t before = recvbuf_readable(&s->rb);
	int e = recvbuf_check(&s->rb, off, len, fin);
	if (e)
		return e;
	if (growth > s->rx_credit.limit - s->rx_credit.received)
		return QE_FLOW_CONTROL;
	if (!receiving(s))
		return 0;
	e = recvbuf_insert(&s->rb, off, data, len, fin);
	if (e)
		return e;

	(void)rxflow_on_received(&s->rx_credit, growth);
	if (s->rb.discarding)
		drop(s, growth);
	if (recvbuf_readable(&s->rb) > before)
		s->events |= STREAM_EV_READABLE;
	if (fin && rx_move(s, RXE_FIN))
		s->want &= ~STREAM_WANT_MAX_DATA;	/* RFC 9000 13.3 */
	if (recvbuf_complete(&s->rb))
		on_all_received(s);
	if (!receiving(s))
		s->want &= ~STREAM_WANT_STOP;	/* RFC 9000 3.5 */
	return 0;
}

int stream_on_reset(struct stream *s, uint64_t code, uint64_t final_size)
{
	uint64_t growth = stream_growth(s, final_size, 0);
	/* the final size says it before the credit does: a later reset may only repeat it */
	int e = recvbuf_check(&s->rb, final_size, 0, true);
	if (e)
		return e;
	if (growth > s->rx_credit.limit - s->rx_credit.received)
		return QE_FLOW_CONTROL;
	if (!rx_move(s, RXE_RESET))
		return 0;

	(void)recvbuf_reset(&s->rb, final_size);
	(void)rxflow_on_received(&s->rx_credit, growth);
	drop(s, final_size - s->rx_credit.consumed - recvbuf_readable(&s->rb));
	s->peer_reset_code = code;
	s->want &= ~(STREAM_WANT_MAX_DATA | STREAM_WANT_STOP);
	s->events |= STREAM_EV_RESET | STREAM_EV_READABLE;
	return 0;
}

int stream_stop_sending(struct stream *s, uint64_t code)
{
	if (s->rx == SRX_NONE)
		return QE_CLOSED;
	if (s->rb.discarding)
		return receiving(s) ? 0 : QE_CLOSED;
	drop_unread(s);
	if (!receiving(s))
		return QE_CLOSED;
	s->stop_code = code;
	s->stop_sent_once = true;
	s->want = (s->want & ~STREAM_WANT_MAX_DATA) | STREAM_WANT_STOP;
	/* nothing more is awaited once the size is known; the frame is still sent, to spare the peer retransmissions */
	if (recvbuf_complete(&s->rb))
		on_all_received(s);
	return 0;
}

void stream_consume(struct stream *s, size_t n)
{
	recvbuf_consume(&s->rb, n);
	if (rxflow_on_consumed(&s->rx_credit, n) && s->rx == SRX_RECV)
		s->want |= STREAM_WANT_MAX_DATA;
}

void stream_read_end(struct stream *s)
{
	if (rx_move(s, RXE_READ))
		drop_unread(s);
}

/* ---- sending half ------------------------------------------------------- */

void stream_on_max_data(struct stream *s, uint64_t max)
{
	if (txflow_on_max(&s->tx_credit, max))
		s->want &= ~STREAM_WANT_BLOCKED;
}

void stream_on_stop_sending(struct stream *s, uint64_t code)
{
	if (!sending(s))
		return;
	s->peer_stopped = true;
	s->peer_stop_code = code;
	s->events |= STREAM_EV_STOPPED;
	(void)stream_reset(s, code);
}

int stream_reset(struct stream *s, uint64_t code)
{
	if (!tx_move(s, TXE_RESET))
		return QE_CLOSED;
	s->reset_code = code;
	s->want = (s->want & ~(STREAM_WANT_BLOCKED | STREAM_WANT_OPEN)) | STREAM_WANT_RESET;
	s->events &= ~STREAM_EV_WRITABLE;
	sendbuf_discard(&s->sb);
	return 0;
}

int stream_finish(struct stream *s)
{
	if (!stream_tx_open(s))
		return QE_CLOSED;
	sendbuf_finish(&s->sb);
	return 0;
}

void stream_announce(struct stream *s)
{
	if (s->tx == STX_READY)
		s->want |= STREAM_WANT_OPEN;
}

uint64_t stream_on_data_sent(struct stream *s, uint64_t off, uint64_t len, bool fin)
{
	uint64_t was = s->sb.next;
	sendbuf_on_sent(&s->sb, off, len, fin);
	txflow_use(&s->tx_credit, s->sb.next - was);
	s->want &= ~STREAM_WANT_OPEN;
	(void)tx_move(s, fin ? TXE_SEND_FIN : TXE_SEND);
	return s->sb.next - was;
}

void stream_on_control_sent(struct stream *s, uint8_t want)
{
	s->want &= ~want;
	if (want & (STREAM_WANT_BLOCKED | STREAM_WANT_OPEN))
		(void)tx_move(s, TXE_SEND);
}

void stream_on_data_acked(struct stream *s, uint64_t off, uint64_t len, bool fin)
{
	uint64_t was = s->sb.base;
	if (!sending(s))
		return;
	sendbuf_on_acked(&s->sb, off, len, fin);
	if (s->tx_waiting && s->sb.base > was && stream_tx_open(s)) {
		s->tx_waiting = false;
		s->events |= STREAM_EV_WRITABLE;
	}
	if (s->sb.fin && sendbuf_all_acked(&s->sb) && tx_move(s, TXE_ALL_ACKED))
		s->events |= STREAM_EV_SENT_ALL;
}

/* RFC 9000 13.3 */
static uint8_t still_matters(const struct stream *s)
{
	uint8_t want = 0;
	if (s->tx == STX_RESET_SENT)
		want |= STREAM_WANT_RESET;
	if (receiving(s) && s->stop_sent_once)
		want |= STREAM_WANT_STOP;
	if (s->rx == SRX_RECV && !s->rb.discarding)
		want |= STREAM_WANT_MAX_DATA;
	if (stream_is_blocked(s))
		want |= STREAM_WANT_BLOCKED;
	if (s->tx == STX_SEND && s->sb.next == 0)
		want |= STREAM_WANT_OPEN;
	return want;
}

void stream_on_control_lost(struct stream *s, uint8_t want)
{
	s->want |= want & still_matters(s);
}

void stream_on_data_lost(struct stream *s, uint64_t off, uint64_t len, bool fin)
{
	if (!sending(s))
		return;
	sendbuf_on_lost(&s->sb, off, len, fin);
	if (!len && !fin)
		stream_on_control_lost(s, STREAM_WANT_OPEN);
}

void stream_on_reset_acked(struct stream *s)
{
	if (!tx_move(s, TXE_RESET_ACKED))
		return;
	s->want &= ~STREAM_WANT_RESET;
	s->events |= STREAM_EV_SENT_ALL;
}

/* ---- both --------------------------------------------------------------- */

void stream_release(struct stream *s)
{
	s->released = true;
	(void)stream_stop_sending(s, 0);
	(void)stream_finish(s);
}
