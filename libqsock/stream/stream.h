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
	bool stop_sent_once;	/* we asked the peer to stop */
	bool peer_stopped;	/* the peer asked us to stop */
	bool released;		/* the application let go: may be freed once both halves are terminal */
	uint8_t want;		/* STREAM_WANT_* */
	uint8_t events;		/* STREAM_EV_* not yet reported */
	bool in_sched, in_want, in_events;	/* membership of the lists below, kept by streams.c */
	TAILQ_ENTRY(stream) sched_link, want_link, event_link;
	RB_ENTRY(stream) by_id;
	void *app;		/* the upper half's; not touched here */
};

static inline bool stream_is_uni(uint64_t id) { return id & 2; }
static inline bool stream_by_server(uint64_t id) { return id & 1; }

/* has_tx/has_rx by direction and who opened it; limits: the peer's for us, ours for the peer. */
void stream_init(struct stream *s, uint64_t id, bool has_tx, bool has_rx, uint64_t tx_limit, uint64_t rx_window,
		 uint64_t rx_window_max);
void stream_fini(struct stream *s);

/* Frames from the peer. Each returns 0, a QE_PEER code, or QE_NOMEM/QE_LIMIT. *growth gets by how much the highest received offset grew
 * and *dropped how many of the received bytes will never be read (to be credited to the connection as consumed). The connection's
 * own credit is the caller's to check, before, with stream_growth. RFC 9000 3.2, 4.5 */
uint64_t stream_growth(const struct stream *s, uint64_t off, size_t len);
int stream_on_data(struct stream *s, uint64_t off, const uint8_t *data, size_t len, bool fin, uint64_t *dropped);
int stream_on_reset(struct stream *s, uint64_t code, uint64_t final_size, uint64_t *dropped);
int stream_on_stop_sending(struct stream *s, uint64_t code);	/* answers with a reset carrying the code, RFC 9000 3.5 */
void stream_on_max_data(struct stream *s, uint64_t max);

/* Fates of our frames. 0 or QE_NOMEM/QE_LIMIT. */
int stream_on_data_acked(struct stream *s, uint64_t off, uint64_t len, bool fin);
int stream_on_data_lost(struct stream *s, uint64_t off, uint64_t len, bool fin);
void stream_on_reset_acked(struct stream *s);
void stream_on_control_lost(struct stream *s, uint8_t want);	/* STREAM_WANT_*; only if it still matters (13.3) */

/* The application's acts. */
int stream_finish(struct stream *s);		/* FIN after what was written. 0; QE_CLOSED */
int stream_reset(struct stream *s, uint64_t code);	/* 0; QE_CLOSED when already terminal */
int stream_stop_sending(struct stream *s, uint64_t code);	/* 0; QE_CLOSED when all was received. Unread data is dropped: *see stream_take_dropped */
/* Bytes that were received, will never be read and were not reported yet, to be credited to the connection; resets the count. */
uint64_t stream_take_dropped(struct stream *s);
/* Read n bytes that recvbuf_peek showed. Updates credit and state. */
void stream_consume(struct stream *s, size_t n);
/* Tell the state machine that the application saw the reset or the end. */
void stream_read_end(struct stream *s);

bool stream_tx_open(const struct stream *s);	/* writes are taken: Ready or Send, not finished, not stopped */
bool stream_tx_terminal(const struct stream *s);
bool stream_rx_terminal(const struct stream *s);	/* all received or reset: no further frame matters to us */
/* Data to send within this stream's credit (connection credit is the caller's). conn_credit limits new bytes. */
bool stream_has_data(const struct stream *s, uint64_t conn_credit);

#endif
