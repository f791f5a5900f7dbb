/* Every way a connection ends. A violation, a local failure, an application's
 * close and the peer's close all pass through here, so the code on the wire and
 * what the application learns are decided in one place. RFC 9000 10 */
#include "conn/conn_int.h"

#include <bsd/string.h>

/* The first cause stands. */
static void set_error(struct conn *c, const struct conn_error *err)
{
	if (c->error.kind != CONN_ERR_NONE)
		return;
	c->error = *err;
	c->ev_closed = true;
}

static enum conn_error_kind transport_kind(uint64_t code)
{
	if (code == qe_wire(QE_CONNECTION_REFUSED))
		return CONN_ERR_REFUSED;
	return code >= 0x100 && code <= 0x1ff ? CONN_ERR_TLS : CONN_ERR_TRANSPORT;
}

void close_begin(struct conn *c, const struct conn_error *err, uint64_t now_us)
{
	if (c->state != CONN_ACTIVE)
		return;
	set_error(c, err);
	c->state = CONN_CLOSING;
	c->close_wanted = true;
	c->close_rx = 0;
	c->close_rx_next = 1;
	c->close_deadline_us = now_us + 3 * conn_pto(c);
}

void close_silently(struct conn *c, const struct conn_error *err)
{
	if (c->state == CONN_DRAINED)
		return;
	set_error(c, err);
	c->state = CONN_DRAINED;
	c->ev_drained = true;
}

/* The peer is gone: nothing is sent any more. From the closing state on the end stays where it was. RFC 9000 10.2.2 */
static void drain(struct conn *c, const struct conn_error *err, uint64_t now_us)
{
	if (c->state == CONN_ACTIVE)
		c->close_deadline_us = now_us + 3 * conn_pto(c);
	set_error(c, err);
	c->state = CONN_DRAINING;
	c->close_wanted = false;
}

void conn_violation(struct conn *c, int qe, uint64_t frame_type, const char *reason, uint64_t now_us)
{
	struct conn_error err = { .code = qe_wire(qe), .frame_type = frame_type };
	err.kind = qe_is_peer(qe) ? transport_kind(err.code) : CONN_ERR_LOCAL;
	strlcpy(err.reason, reason, sizeof(err.reason));
	close_begin(c, &err, now_us);
}

void conn_close_transport(struct conn *c, int qe, const char *reason, uint64_t now_us)
{
	conn_violation(c, qe, 0, reason, now_us);
}

void conn_close(struct conn *c, uint64_t code, const char *reason, size_t reason_len, uint64_t now_us)
{
	struct conn_error err = { .kind = CONN_ERR_APPLICATION, .code = code };
	if (reason_len > sizeof(err.reason) - 1)
		reason_len = sizeof(err.reason) - 1;
	if (reason_len)
		memcpy(err.reason, reason, reason_len);
	close_begin(c, &err, now_us);
}

void close_by_peer(struct conn *c, const struct frame *f, uint64_t now_us)
{
	struct conn_error err = { .by_peer = true, .code = f->close.code, .frame_type = f->close.frame_type };
	err.kind = f->kind == FRAME_APPLICATION_CLOSE ? CONN_ERR_APPLICATION : transport_kind(err.code);
	size_t n = f->close.reason_len < sizeof(err.reason) ? f->close.reason_len : sizeof(err.reason) - 1;
	if (n)
		memcpy(err.reason, f->close.reason, n);
	drain(c, &err, now_us);
}

/* Answer packets 1, 2, 4, 8... that arrive while closing, and not by more than three times their bytes: they are
 * not opened any more, so they may be anybody's. RFC 9000 10.2.1 */
void close_on_packet(struct conn *c, size_t len)
{
	c->close_credit += 3 * len;
	if (++c->close_rx < c->close_rx_next || c->close_credit < c->close_len)
		return;
	c->close_credit -= c->close_len;
	c->close_rx_next = 2 * c->close_rx;
	c->close_wanted = true;
}

bool close_write_frame(struct conn *c, struct wr *w, enum level level)
{
	const struct conn_error *e = &c->error;
	bool app = e->kind == CONN_ERR_APPLICATION;
	/* Before 1-RTT an application's code must not be shown. RFC 9000 10.2.3 */
	if (app && level != LEVEL_APP)
		return frame_write_close(w, false, qe_wire(QE_APPLICATION_ERROR), 0, "", 0);
	return frame_write_close(w, app, e->code, e->frame_type, e->reason, strlen(e->reason));
}

/* Before anything was heard ICMP is believed. Later it may be forged, so it only asks a question: the peer has a few
 * PTOs to answer a PING, and any authentic packet settles the matter. So a peer whose program was killed is missed
 * within a second, and not after the idle timeout. */
#define DOUBT_MIN_US 300000

static void doubt(struct conn *c, uint64_t now_us)
{
	if (c->doubt_deadline_us != CONN_NEVER)
		return;
	uint64_t wait_us = 3 * conn_pto(c);
	c->doubt_deadline_us = now_us + (wait_us > DOUBT_MIN_US ? wait_us : DOUBT_MIN_US);
	c->want_ping = true;
}

void conn_unreachable(struct conn *c, int os_errno, uint64_t now_us)
{
	if (c->state != CONN_ACTIVE)
		return;
	if (c->got_packet) {
		doubt(c, now_us);
		return;
	}
	struct conn_error err = { .kind = CONN_ERR_REFUSED, .os_errno = os_errno };
	strlcpy(err.reason, "no QUIC endpoint answers at that address", sizeof(err.reason));
	close_silently(c, &err);
}

bool conn_is_reset(const struct conn *c, const uint8_t *datagram, size_t len)
{
	return len >= 21 && remote_cids_is_reset(&c->rcids, datagram + len - RESET_TOKEN_LEN);
}

void conn_on_reset(struct conn *c, uint64_t now_us)
{
	if (c->state >= CONN_DRAINING)
		return;
	struct conn_error err = { .kind = CONN_ERR_STATELESS_RESET, .by_peer = true };
	strlcpy(err.reason, "the peer has lost the connection's state", sizeof(err.reason));
	drain(c, &err, now_us);
}

const struct conn_error *conn_error(const struct conn *c) { return &c->error; }
