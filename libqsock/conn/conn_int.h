/* What the files of conn/ share: the connection itself and the seams between
 * receive, transmit, handshake, close and timers. Nobody outside conn/ includes it. */
#ifndef CONN_CONN_INT_H
#define CONN_CONN_INT_H

#include "base/bucket.h"
#include "conn/conn.h"
#include "crypto/keyring.h"
#include "path/amplify.h"
#include "path/challenge.h"
#include "path/cids.h"
#include "recovery/recovery.h"
#include "stream/streams.h"
#include "tls/tls.h"
#include "wire/frame.h"

#define CONN_CRYPTO_MAX 65536	/* out-of-order CRYPTO bytes held per level; RFC 9000 7.5 wants >= 4096 */
#define CONN_HELLO_MAX 16384	/* the same of a ClientHello, whose sender nobody knows yet */
#define CONN_STASH_MAX 16	/* packets kept until their keys come */
#define CONN_STASH_BYTES 2048	/* longest of them */
#define CONN_CID_EVENTS 32	/* all ids retired and issued anew, and the handshake's */
#define CONN_OUR_ACK_DELAY_US 25000
#define CONN_ACK_EXPONENT 3	/* the default: peers that do not know our parameters yet take it to be that */
#define CONN_ACK_EXPONENT_DEFAULT 3	/* RFC 9000 18.2 */
#define CONN_PROBES 2		/* datagrams sent on a PTO; RFC 9002 6.2.4 */
#define CONN_HASTEN_MAX 3	/* probes sent before their time; RFC 9002 6.2.3 */
#define CONN_PROBES_APART_US 5000	/* at most, those of one timeout when they arrive */
#define CONN_NOISE_FREE 8	/* frames of one packet that bring nothing forward and are not counted; RFC 9000 21.9 */
#define CONN_NOISE_PER_S 330	/* of the others */
#define CONN_NOISE_BURST 10000
#define CONN_NEVER UINT64_MAX

/* RFC 9000 10: ACTIVE -> CLOSING (we closed) or DRAINING (the peer did) -> DRAINED */
enum conn_state { CONN_ACTIVE, CONN_CLOSING, CONN_DRAINING, CONN_DRAINED };

struct stash {			/* a packet whose keys are not there yet */
	TAILQ_ENTRY(stash) link;
	uint64_t at_us;
	enum ecn ecn;
	size_t len;
	uint8_t data[];
};
TAILQ_HEAD(stash_list, stash);

struct blob {			/* SESSION or TOKEN event waiting for the owner */
	STAILQ_ENTRY(blob) link;
	enum conn_event_type type;
	size_t len;
	uint8_t data[];
};
STAILQ_HEAD(blob_list, blob);

struct crypto_stream {
	struct sendbuf tx;
	struct recvbuf rx;
};

struct conn {
	const struct conn_config *cfg;
	const struct rng *rng;
	bool is_server;
	enum conn_state state;
	uint32_t version;
	struct addr local, remote;
	char *server_name;
	void *app, *endpoint_data;

	/* identity */
	struct cid odcid;		/* DCID of the client's very first Initial */
	struct cid keys_dcid;		/* what the Initial keys are made from; after Retry its SCID */
	struct cid peer_scid;		/* of the peer's Initial; fixed once has_peer_scid */
	struct cid retry_scid;
	bool has_peer_scid, has_retry, odcid_listed;
	struct local_cids lcids;
	struct remote_cids rcids;
	struct conn_event cid_events[CONN_CID_EVENTS];
	unsigned cid_head, cid_count;

	/* handshake */
	struct tls *tls;
	struct keyring keys;
	struct crypto_stream crypto[LEVEL_COUNT];	/* [LEVEL_EARLY] unused */
	struct tparams ours, peer;
	bool have_peer_params, established, confirmed, got_packet;
	bool released_tls;
	uint8_t *token;			/* client: to be put in Initials */
	size_t token_len;
	struct stash_list stash;
	unsigned nstash;
	unsigned hastened;		/* probes sent before their time; RFC 9002 6.2.3 */
	uint64_t hastened_at_us;
	int cb_error;			/* a tls callback failed */

	/* path */
	struct amplify amplify;
	struct challenge challenge;
	struct cid used_cid;		/* that the newest 1-RTT packet was sent to; before there is one, the first of ours */
	struct {			/* the last validated address before this one: to return to, and to be asked */
		bool known;
		struct addr remote;
		struct challenge challenge;
	} former;
	uint64_t moved_at_us;
	bool moved_far;			/* not the port alone has changed, and the new address is not validated */
	bool small_challenge;		/* by the limit of three times: that 1200 bytes pass is still to be shown */
	struct recovery rec;
	struct ackq ackq[SPACE_COUNT];
	unsigned probes[SPACE_COUNT];	/* PTO probes to be sent */
	uint32_t mss;

	/* data */
	struct streams streams;

	/* frames of the connection waiting to be sent */
	bool want_handshake_done, want_new_token, want_ping;

	/* timers, absolute; CONN_NEVER when off */
	uint64_t hs_deadline_us, idle_deadline_us, keepalive_deadline_us, close_deadline_us;
	uint64_t doubt_deadline_us;	/* ICMP says that the peer is gone: until then it may prove the contrary */
	bool rx_processed;		/* a packet of this batch was */
	bool idle_armed_by_tx;		/* an eliciting packet was sent since the last one received: RFC 9000 10.1 */
	bool pacer_blocked;

	/* close */
	struct conn_error error;
	bool close_wanted;		/* a CONNECTION_CLOSE packet has to leave */
	uint64_t close_rx, close_rx_next;	/* packets received while closing; answer again at this one */
	uint64_t close_len, close_credit;	/* bytes of the closing datagram; bytes that answers may still have */

	struct bucket noise;		/* what a peer may still send for nothing */

	/* events for the owner */
	bool ev_acked_wanted;		/* the owner waits for the end of everything unacknowledged */
	bool ev_established, ev_confirmed, ev_closed, ev_drained;
	struct blob_list blobs;
	struct blob *blob_out;		/* lent to the owner by the last poll */

	uint64_t packets_rx, bytes_rx;
};

/* conn.c */
bool conn_amplify_blocked(const struct conn *c);
struct recovery_env conn_env(const struct conn *c);
uint64_t conn_pto(const struct conn *c);
int conn_new_local_cid(struct conn *c, struct cid *cid, uint8_t token[RESET_TOKEN_LEN]);

/* event.c */
void event_cid(struct conn *c, enum conn_event_type type, const struct cid *cid);
int event_blob(struct conn *c, enum conn_event_type type, const uint8_t *data, size_t len);
void event_fini(struct conn *c);

/* hs.c: the handshake */
int hs_start_client(struct conn *c, const uint8_t *session, size_t session_len);
int hs_start_server(struct conn *c);
int hs_initial_keys(struct conn *c, const struct cid *dcid);
/* A transmission is about to begin. */
void hs_want_tx(struct conn *c);
/* How far CRYPTO of a level may run ahead of what TLS has read, bytes. */
size_t hs_crypto_max(const struct conn *c, enum level level);
/* CRYPTO bytes arrived at a level. */
int hs_recv(struct conn *c, enum level level, uint64_t off, const uint8_t *data, size_t len, uint64_t now_us);
int hs_confirm(struct conn *c, uint64_t now_us);
void hs_discard_keys(struct conn *c, enum level level, uint64_t now_us);
/* A packet came that says that ours did not arrive. */
void hs_hasten(struct conn *c, uint64_t now_us);
void hs_on_retry(struct conn *c, const struct packet *p, uint64_t now_us);
void hs_on_version_negotiation(struct conn *c, const struct packet *p, uint64_t now_us);
int hs_issue_cids(struct conn *c);

/* path.c: the peer's address changes by itself */
struct arrival {		/* of a datagram */
	uint64_t now_us;
	enum ecn ecn;
	const struct addr *remote;
	size_t len;
};
/* An authentic packet came from elsewhere than c->remote. false: it is to be dropped. *former: it is from the former
 * address. */
bool path_admit(struct conn *c, const struct arrival *a, const struct packet *p, uint64_t pn, const uint8_t *payload,
		size_t len, bool *former);
void path_on_response(struct conn *c, const uint8_t data[8], uint64_t now_us);
uint64_t path_deadline(const struct conn *c);
void path_on_time(struct conn *c, uint64_t now_us);

/* rx.c */
void rx_replay_stash(struct conn *c);

/* rx_frame.c: one decrypted packet's frames. *eliciting says whether it wants an ACK. */
struct rx_packet {
	enum level level;
	bool phase;	/* 1-RTT: Key Phase bit */
	uint64_t pn;
	struct cid dcid;
	uint64_t now_us;
	bool former;		/* it came from the former address */
	bool eliciting;
	unsigned noise;		/* frames so far that brought nothing forward */
};
int rx_frames(struct conn *c, struct rx_packet *p, const uint8_t *payload, size_t len, uint64_t *frame_type);

/* retx.c: what becomes of frames whose packet was acknowledged or lost */
void retx_acked(struct conn *c, const struct sent_list *l);
void retx_lost(struct conn *c, const struct sent_list *l);
/* Queue again what the oldest unacknowledged packet of a space carries. false: none is left to be repeated. */
bool retx_probe(struct conn *c, enum pn_space space);

/* tx_frame.c: fill one packet */
struct build {
	uint8_t *start;
	struct wr w;			/* ends where the tag has to begin */
	enum level level;
	uint64_t pn;
	size_t pn_off, pn_len, length_off, hdr_len;
	bool expand;	/* the datagram must have MIN_INITIAL_DATAGRAM bytes */
	struct sent_packet *sp;
};
bool tx_wants(struct conn *c, enum level level, bool congested, uint64_t now_us);
/* PATH_RESPONSE and PATH_CHALLENGE of one path. */
void tx_fill_path(struct build *b, struct challenge *ch);
/* Write frames. congested: only what is exempt from congestion control (ACK). 0 or a local error. */
int tx_fill(struct conn *c, struct build *b, bool congested, uint64_t now_us);

/* close.c: the one funnel of every end */
void conn_violation(struct conn *c, int qe, uint64_t frame_type, const char *reason, uint64_t now_us);
void close_begin(struct conn *c, const struct conn_error *err, uint64_t now_us);	/* we close, and say so */
void close_silently(struct conn *c, const struct conn_error *err);	/* nobody to tell: straight to DRAINED */
void close_by_peer(struct conn *c, const struct frame *f, uint64_t now_us);
void close_on_packet(struct conn *c, size_t len);	/* a datagram arrived while closing */
bool close_write_frame(struct conn *c, struct wr *w, enum level level);

/* timer.c */
void timer_on_received(struct conn *c, uint64_t now_us);
void timer_on_sent_eliciting(struct conn *c, uint64_t now_us);
void timer_want_probes(struct conn *c, enum pn_space space, unsigned n);
void timer_start_handshake(struct conn *c, uint64_t now_us);

#endif
