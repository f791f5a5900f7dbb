/* Sent packets as objects: made, given frames, recycled. Knows nothing of what
 * becomes of them. */
#include "recovery/sent.h"

#include <assert.h>
#include <string.h>

#include "base/err.h"
#include "base/mem.h"

static void drop_frames(struct sent_packet *s)
{
	if (s->frames != s->inl)
		mem_free(s->frames);
	s->frames = s->inl;
	s->cap = SENT_INLINE;
}

void sent_pool_init(struct sent_pool *p)
{
	*p = (struct sent_pool){ 0 };
	TAILQ_INIT(&p->free);
}

void sent_pool_fini(struct sent_pool *p)
{
	sent_pool_trim(p);
}

void sent_pool_trim(struct sent_pool *p)
{
	struct sent_packet *s;
	while ((s = TAILQ_FIRST(&p->free))) {
		TAILQ_REMOVE(&p->free, s, link);
		drop_frames(s);
		mem_free(s);
	}
	p->nfree = 0;
}

struct sent_packet *sent_new(struct sent_pool *p)
{
	struct sent_packet *s = TAILQ_FIRST(&p->free);
	if (s) {
		TAILQ_REMOVE(&p->free, s, link);
		p->nfree--;
	} else {
		s = mem_alloc(sizeof(*s));
		if (!s)
			return NULL;
		s->frames = s->inl;
		s->cap = SENT_INLINE;
	}
	p->nused++;
	s->nframes = 0;
	s->eliciting = s->in_flight = s->ect = s->repeated = s->app_limited = false;
	s->acks_up_to = PN_NONE;
	return s;
}

void sent_free(struct sent_pool *p, struct sent_packet *s)
{
	p->nused--;
	if (s->cap > SENT_KEEP_FRAMES || p->nfree == SENT_POOL_MAX)
		drop_frames(s);
	if (p->nfree == SENT_POOL_MAX) {
		mem_free(s);
		return;
	}
	/* Last in, first out: the next one taken is warm. */
	TAILQ_INSERT_HEAD(&p->free, s, link);
	p->nfree++;
}

void sent_free_list(struct sent_pool *p, struct sent_list *l)
{
	struct sent_packet *s;
	while ((s = TAILQ_FIRST(l))) {
		TAILQ_REMOVE(l, s, link);
		sent_free(p, s);
	}
}

int sent_reserve(struct sent_packet *s, unsigned n)
{
	unsigned need = s->nframes + n;
	if (need <= s->cap)
		return 0;
	assert(need <= UINT16_MAX / 2);
	unsigned cap = need > 2u * s->cap ? need : 2u * s->cap;
	bool inl = s->frames == s->inl;
	struct sent_frame *v = mem_realloc(inl ? NULL : s->frames, cap * sizeof(*v));
	if (!v)
		return QE_NOMEM;
	if (inl)
		memcpy(v, s->inl, s->nframes * sizeof(*v));
	s->frames = v;
	s->cap = (uint16_t)cap;
	return 0;
}

struct sent_frame *sent_add_frame(struct sent_packet *s)
{
	if (sent_reserve(s, 1))
		return NULL;
	struct sent_frame *f = &s->frames[s->nframes++];
	*f = (struct sent_frame){ 0 };
	return f;
}
