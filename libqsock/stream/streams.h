/* All streams of a connection: map by id, limits both ways, implicit opening,
 * the fair scheduler, and the lists of streams that want something. RFC 9000 2, 4.6 */
#ifndef STREAM_STREAMS_H
#define STREAM_STREAMS_H

#include "stream/stream.h"
#include "wire/tparams.h"

RB_HEAD(stream_tree, stream);
TAILQ_HEAD(stream_list, stream);

enum { DIR_BIDI = 0, DIR_UNI = 1 };

/* A stream keeps its turn for so many bytes: long enough that packet trains are mostly of one stream,
 * short enough that many streams advance together. */
#define STREAMS_TURN_BYTES 16384

struct streams_limits {		/* ours, for the peer */
	uint64_t window, window_max;		/* per stream, bytes */
	uint64_t conn_window, conn_window_max;
	uint64_t max_streams[2];		/* concurrently open, by DIR_ */
	struct blockpool *pool;			/* of the engine thread, borrowed; NULL: plain allocation */
};

struct streams {
	bool is_server;
	struct stream_tree tree;
	struct stream *last;		/* found last, NULL: none */
	struct stream_list sched;	/* have data; round robin: head is next */
	struct stream_list stalled;	/* have data, but no connection credit for it */
	struct stream *turn_of;		/* whose turn it is, NULL: nobody's yet */
	uint64_t turn_left;		/* bytes */
	struct stream_list want;	/* have control frames */
	struct stream_list events;	/* have something to report */
	struct stream_list opened;	/* by the peer, not yet handed up */
	struct streams_limits cfg;
	struct tparams peer;		/* limits of the peer, for initial credit */
	struct txflow tx_credit;	/* connection level */
	struct rxflow rx_credit;
	/* by DIR_ */
	uint64_t next_local[2];		/* ordinal of the next stream we open */
	uint64_t max_local[2];		/* the peer's limit (a count) */
	uint64_t blocked_local[2];	/* limit for which STREAMS_BLOCKED was sent, UINT64_MAX none */
	uint64_t next_remote[2];	/* ordinal of the lowest not yet opened by the peer */
	uint64_t max_remote[2];		/* advertised count */
	uint64_t closed_remote[2];	/* fully closed and released */
	bool want_max_data, want_data_blocked, want_max_streams[2], want_streams_blocked[2];
	bool credit_event;		/* max_local grew: report once */
	size_t count;
};

void streams_init(struct streams *ss, bool is_server, const struct streams_limits *cfg);
void streams_fini(struct streams *ss);
/* The peer's transport parameters are known: credit for existing and future streams. */
void streams_set_peer(struct streams *ss, const struct tparams *peer);

struct stream *streams_find(const struct streams *ss, uint64_t id);
/* Open locally. 0 and *out; QE_AGAIN at the peer's limit (marks STREAMS_BLOCKED wanted); QE_NOMEM. */
int streams_open(struct streams *ss, int dir, struct stream **out);
uint64_t streams_local_credit(const struct streams *ss, int dir);	/* how many more may be opened now */

/* The stream a received frame names. for_tx: the frame concerns our sending half (STOP_SENDING, MAX_STREAM_DATA),
 * else our receiving half. Opens remote streams, and all lower ones of the type (RFC 9000 3.2): see
 * streams_next_opened. 0; *out NULL for a stream that existed and is gone; QE_STREAM_STATE; QE_STREAM_LIMIT;
 * QE_NOMEM (some of the lower ones may have been opened). */
int streams_for_frame(struct streams *ss, uint64_t id, bool for_tx, struct stream **out);
/* Next stream opened by the peer and not yet handed up, within a type in order of id; NULL: none. To be drained before
 * streams_next_event. */
struct stream *streams_next_opened(struct streams *ss);

/* stream_on_data and stream_on_reset under both levels of credit, with streams_update. QE_FLOW_CONTROL also for the
 * connection's; the rest as there. RFC 9000 4.1 */
int streams_on_data(struct streams *ss, struct stream *s, uint64_t off, const uint8_t *data, size_t len, bool fin);
int streams_on_reset(struct streams *ss, struct stream *s, uint64_t code, uint64_t final_size);
/* stream_consume for both levels, with streams_update. */
void streams_consume(struct streams *ss, struct stream *s, size_t n);

/* Put s on the lists its state calls for, and credit the connection with what s dropped; call after any change of s. */
void streams_update(struct streams *ss, struct stream *s);
/* Take the next stream with unreported events off the list; *events gets and clears them. NULL: none. */
struct stream *streams_next_event(struct streams *ss, uint8_t *events);
/* Next stream with sendable data under the connection's credit, NULL if none (marks DATA_BLOCKED wanted if credit is
 * what lacks). Streams with lost data come first (RFC 9000 13.3), the rest take turns. The caller writes a frame of
 * what sendbuf_next(&s->sb, stream_tx_limit(s, txflow_credit(&ss->tx_credit)), ...) says, then calls streams_sent,
 * which does all bookkeeping of [off, off+len) and fin: send buffer, state, both credits, the turn. */
struct stream *streams_next_sendable(struct streams *ss);
void streams_sent(struct streams *ss, struct stream *s, uint64_t off, uint64_t len, bool fin);

/* Free s if both halves are terminal, no frame is wanted and the application released it; only this gives the peer
 * credit for another stream. true: gone. */
bool streams_reap(struct streams *ss, struct stream *s);

/* Frames about the connection's credit and stream counts. */
void streams_on_max_data(struct streams *ss, uint64_t max);
void streams_on_max_streams(struct streams *ss, bool uni, uint64_t max);
/* BLOCKED frames for all that is stopped by credit now, although their limits were told before. */
void streams_repeat_blocked(struct streams *ss);
/* n received bytes of any stream were read or dropped. */
void streams_consumed(struct streams *ss, uint64_t n);
/* The new count to advertise when want_max_streams is set; clears it. (Set it again when the frame is lost.) */
uint64_t streams_next_max(struct streams *ss, int dir);

int stream_cmp(const struct stream *a, const struct stream *b);
RB_PROTOTYPE(stream_tree, stream, by_id, stream_cmp)

#endif
