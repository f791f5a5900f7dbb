#include "support/verdict.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "support/leak.h"

static unsigned wrong;

static void explain(const struct scene *s, const char *rfc, const char *what)
{
	const struct conn_error *e = conn_error(s->victim);
	wrong++;
	print_error("%s, %s, to %s: closed with %#llx type %#llx (%s), on the wire %u times %#llx type %#llx\n", rfc,
		    what, s->i.to_server ? "server" : "client", (unsigned long long)e->code,
		    (unsigned long long)e->frame_type, e->reason, s->i.closes, (unsigned long long)s->i.close_code,
		    (unsigned long long)s->i.close_frame_type);
}

void expect_closed(struct scene *s, const char *rfc, const char *what, int qe, uint64_t type)
{
	const struct conn_error *e = conn_error(s->victim);
	bool ok = e->kind != CONN_ERR_NONE && !e->by_peer && e->code == qe_wire(qe) && s->i.closes &&
		  s->i.close_kind == FRAME_CONNECTION_CLOSE && s->i.close_code == qe_wire(qe) &&
		  e->frame_type == s->i.close_frame_type && (type == ANY_TYPE || e->frame_type == type);
	if (!ok)
		explain(s, rfc, what);
}

void expect_open(struct scene *s, const char *rfc, const char *what)
{
	if (conn_error(s->victim)->kind != CONN_ERR_NONE || s->i.closes)
		explain(s, rfc, what);
}

void assert_open(const struct scene *s)
{
	const struct conn_error *e = conn_error(s->victim);
	if (e->kind != CONN_ERR_NONE)
		fail_msg("closed: kind %d code %#llx type %#llx: %s", e->kind, (unsigned long long)e->code,
			 (unsigned long long)e->frame_type, e->reason);
}

void assert_closed(const struct scene *s, int qe)
{
	const struct conn_error *e = conn_error(s->victim);
	if (e->kind == CONN_ERR_NONE || e->by_peer || e->code != qe_wire(qe))
		fail_msg("kind %d by peer %d code %#llx: %s", e->kind, e->by_peer, (unsigned long long)e->code,
			 e->reason);
}

unsigned verdicts_wrong(void)
{
	return wrong;
}

int verdict_setup(void **state)
{
	wrong = 0;
	return leak_setup(state);
}

int verdict_teardown(void **state)
{
	assert_int_equal(wrong, 0);
	return leak_teardown(state);
}
