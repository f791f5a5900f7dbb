/* One stream: both halves with the state machines of RFC 9000 figures 2 and 3, its
 * buffers and its credit. Knows nothing of packets or of other streams; says what it
 * wants to send through flags that conn's transmit reads. */
#ifndef STREAM_STREAM_H
#define STREAM_STREAM_H

#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>

#include "stream/flow.h"
#include "stream/recvbuf.h"
#include "stream/sendbuf.h"

/* RFC 9000 3.1; STX_NONE: this half does not exist (unidirectional) */
enum stream_tx { STX_NONE, STX_READY, STX_SEND, STX_DATA_SENT, STX_DATA_RECVD, STX_RESET_SENT, STX_RESET_RECVD };
/* RFC 9000 3.2 */
enum stream_rx { SRX_NONE, SRX_RECV, SRX_SIZE_KNOWN, SRX_DATA_RECVD, SRX_DATA_READ, SRX_RESET_RECVD, SRX_RESET_READ };

/* Control frames waiting to be sent for this stream. */
enum {
	STREAM_WANT_RESET = 1 << 0,
	STREAM_WANT_STOP = 1 << 1,
	STREAM_WANT_MAX_DATA = 1 << 2,
	STREAM_WANT_BLOCKED = 1 << 3,
	STREAM_WANT_OPEN = 1 << 4,	/* an empty STREAM frame at offset 0 */
};

/* What the application side has not been told yet. */
enum {
	STREAM_EV_READABLE = 1 << 0,	/* bytes, FIN or reset to read */
	STREAM_EV_WRITABLE = 1 << 1,	/* room in the send buffer again */
	STREAM_EV_STOPPED = 1 << 2,	/* STOP_SENDING came */
	STREAM_EV_RESET = 1 << 3,	/* RESET_STREAM came */
	STREAM_EV_SENT_ALL = 1 << 4,	/* everything, FIN too, is acknowledged, or the reset is */
};

struct stream {
	uint64_t id;		/* RFC 9000 2.1 */
	enum stream_tx tx;
	enum stream_rx rx;
	struct sendbuf sb;
	struct recvbuf rb;
	struct txflow tx_credit;
	struct rxflow rx_credit;
	uint64_t reset_code, stop_code;		/* ours, to be sent */
	uint64_t peer_reset_code, peer_stop_code;
	uint64_t dropped;	/* received, never to be read, not yet credited to the connection */
	bool stop_sent_once;	/* we asked the peer to stop */
	bool peer_stopped;	/* the peer asked us to stop */
	bool tx_waiting;	/* set by the owner that found no room: EV_WRITABLE is wanted once there is */
	bool released;		/* the application let go: may be freed once both halves are terminal */
	uint8_t want;		/* STREAM_WANT_* */
	uint8_t events;		/* STREAM_EV_* not yet reported */
	/* membership of the lists below, kept by streams.c; QUEUE_STALLED: only the connection's credit is missing */
	enum { QUEUE_NONE, QUEUE_SCHED, QUEUE_STALLED } queue;
	bool in_want, in_events, in_opened;
	TAILQ_ENTRY(stream) sched_link, want_link, event_link, opened_link;
	RB_ENTRY(stream) by_id;
	void *app;		/* the upper half's; not touched here */
};

static inline bool stream_is_uni(uint64_t id) { return id & 2; }
static inline bool stream_by_server(uint64_t id) { return id & 1; }

/* has_tx/has_rx by direction and who opened it; limits: the peer's for us, ours for the peer. pool may be NULL. */
void stream_init(struct stream *s, uint64_t id, bool has_tx, bool has_rx, uint64_t tx_limit, uint64_t rx_window,
		 uint64_t rx_window_max, struct blockpool *pool);
void stream_fini(struct stream *s);

/* Frames from the peer. on_data and on_reset: 0, QE_FINAL_SIZE, QE_FLOW_CONTROL (the stream's credit), or, state
 * unchanged, QE_NOMEM/QE_LIMIT (too many gaps). The connection's credit is checked by streams_on_data and
 * streams_on_reset, which are what conn calls. RFC 9000 3.2, 4.5 */
uint64_t stream_growth(const struct stream *s, uint64_t off, size_t len);
int stream_on_data(struct stream *s, uint64_t off, const uint8_t *data, size_t len, bool fin);
/* What arrived in order before it stays readable; what lies behind a gap is dropped. */
int stream_on_reset(struct stream *s, uint64_t code, uint64_t final_size);
/* Answers with a reset carrying the code. RFC 9000 3.5 */
void stream_on_stop_sending(struct stream *s, uint64_t code);
void stream_on_max_data(struct stream *s, uint64_t max);

/* What conn put into a packet. on_data_sent: [off, off+len) and fin as sendbuf_on_sent; returns how many of them are
 * new, and charges the stream's credit for these. on_control_sent: STREAM_WANT_* bits that are done. */
uint64_t stream_on_data_sent(struct stream *s, uint64_t off, uint64_t len, bool fin);
void stream_on_control_sent(struct stream *s, uint8_t want);

/* Fates of our frames. */
void stream_on_data_acked(struct stream *s, uint64_t off, uint64_t len, bool fin);
void stream_on_data_lost(struct stream *s, uint64_t off, uint64_t len, bool fin);
void stream_on_reset_acked(struct stream *s);
void stream_on_control_lost(struct stream *s, uint8_t want);	/* STREAM_WANT_*; only if it still matters (13.3) */

/* The application's acts. */
void stream_announce(struct stream *s);		/* let the peer see the stream although there is nothing to send yet */
int stream_finish(struct stream *s);		/* FIN after what was written. 0; QE_CLOSED */
int stream_reset(struct stream *s, uint64_t code);	/* 0; QE_CLOSED when already reset or terminal */
/* Unread data is dropped in any case. 0; QE_CLOSED when all was received or reset, so that there is nothing to stop. */
int stream_stop_sending(struct stream *s, uint64_t code);
/* Bytes that were received, will never be read and were not reported yet, to be credited to the connection; resets
 * the count. streams_update does it. */
uint64_t stream_take_dropped(struct stream *s);
/* Read n bytes that recvbuf_peek showed. Updates credit and state. */
void stream_consume(struct stream *s, size_t n);
/* Tell the state machine that the application saw the reset or the end. Bytes still unread are dropped. */
void stream_read_end(struct stream *s);
/* The application let go: unread data is dropped, a peer that still sends is asked to stop (code 0), an unfinished
 * sending half gets its FIN. */
void stream_release(struct stream *s);

/* What follows the readable bytes: 0 more may come, 1 FIN, -1 reset by the peer, or we dropped bytes. */
int stream_end(const struct stream *s);
/* The final size a RESET_STREAM of ours carries: bytes ever sent. */
static inline uint64_t stream_tx_final_size(const struct stream *s) { return s->sb.next; }
/* Absolute offset that new bytes may reach under this stream's and the connection's credit: sendbuf_next's limit. */
static inline uint64_t stream_tx_limit(const struct stream *s, uint64_t conn_credit)
{
	uint64_t own = txflow_credit(&s->tx_credit);
	return s->sb.next + (own < conn_credit ? own : conn_credit);
}

bool stream_tx_open(const struct stream *s);	/* writes are taken: Ready or Send, not finished, not stopped */
bool stream_tx_terminal(const struct stream *s);
bool stream_rx_terminal(const struct stream *s);	/* all received or reset: no further frame matters to us */
/* Stopped at the stream's own credit with bytes to send. */
bool stream_is_blocked(const struct stream *s);
/* Anything to send in STREAM frames? conn_credit limits new bytes. */
bool stream_has_data(const struct stream *s, uint64_t conn_credit);

#endif
