/* Two keyrings, client and server of one connection, that exchange packets at the times of a clock that the test
 * moves. */
#ifndef TEST_KEYRING_FIXTURE_H
#define TEST_KEYRING_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <string.h>

#include "base/err.h"
#include "crypto/keyring.h"
#include "support/leak.h"
#include "support/ossl_mem.h"

enum { PTO = 100, BODY = 40 };

struct side {
	struct keyring kr;
	uint64_t pn;
};

struct pkt {
	uint64_t pn;
	uint8_t header[2];	/* first byte with the Key Phase bit; something more */
	uint8_t body[BODY + AEAD_TAG_LEN];
};

static struct side a, b;
static uint64_t now;

static inline bool pkt_phase(const struct pkt *p) { return p->header[0] & 4; }

static inline void install_app(struct side *s, struct side *peer, uint16_t suite)
{
	uint8_t secret[SECRET_MAX];

	memset(secret, s == &a ? 0x11 : 0x22, sizeof(secret));
	assert_int_equal(keyring_install(&s->kr, LEVEL_APP, true, suite, secret), 0);
	assert_int_equal(keyring_install(&peer->kr, LEVEL_APP, false, suite, secret), 0);
}

static inline void start(uint16_t suite, uint64_t update_after)
{
	now = 1000;
	a.pn = b.pn = 0;
	keyring_init(&a.kr, update_after);
	keyring_init(&b.kr, update_after);
	install_app(&a, &b, suite);
	install_app(&b, &a, suite);
}

static inline int setup(void **state)
{
	leak_setup(state);
	start(SUITE_AES_128_GCM, 0);
	return 0;
}

static inline int teardown(void **state)
{
	keyring_fini(&a.kr);
	keyring_fini(&b.kr);
	return leak_teardown(state);
}

static inline void restart(uint16_t suite, uint64_t update_after)
{
	teardown(NULL);
	start(suite, update_after);
}

static inline int seal_at(struct side *s, enum level level, struct pkt *p)
{
	p->pn = s->pn++;
	p->header[0] = s->kr.tx_phase && level == LEVEL_APP ? 0x44 : 0x40;
	p->header[1] = (uint8_t)p->pn;
	memset(p->body, 0x77, BODY);
	return keyring_seal(&s->kr, level, p->pn, p->header, 2, p->body, BODY);
}

static inline struct pkt send_from(struct side *s)
{
	struct pkt p;
	assert_int_equal(seal_at(s, LEVEL_APP, &p), 0);
	return p;
}

static inline int recv_at(struct side *s, enum level level, struct pkt p)
{
	int rc = keyring_open(&s->kr, level, pkt_phase(&p), p.pn, p.header, 2, p.body, sizeof(p.body), now, PTO);
	if (rc == 0)
		assert_int_equal(p.body[0], 0x77);
	return rc;
}

static inline int recv_by(struct side *s, struct pkt p) { return recv_at(s, LEVEL_APP, p); }

/* from sends a packet, to gets it and acknowledges it at once. */
static inline void exchange(struct side *from, struct side *to)
{
	struct pkt p = send_from(from);
	assert_int_equal(recv_by(to, p), 0);
	struct pkt ack = send_from(to);
	assert_int_equal(recv_by(from, ack), 0);
	assert_int_equal(keyring_on_acked(&from->kr, p.pn, pkt_phase(&ack), now, PTO), 0);
}

static inline void confirm(void)
{
	a.kr.confirmed = b.kr.confirmed = true;
	exchange(&a, &b);
	exchange(&b, &a);
}

static inline void update(struct side *s)
{
	assert_int_equal(keyring_update(&s->kr, now), 0);
}

static inline void settle(void)
{
	now += 3 * PTO;
	keyring_on_time(&a.kr, now);
	keyring_on_time(&b.kr, now);
}

/* A packet that changes the sender's phase has come and been answered. */
static inline void updated_by_a(void)
{
	confirm();
	update(&a);
	exchange(&a, &b);
}

static inline struct pkt flip_phase(struct pkt p)
{
	p.header[0] ^= 4;
	return p;
}

#endif
