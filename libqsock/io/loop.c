/* The engine's loop: epoll sources, timers, deferred work, and the choice between
 * polling and sleeping. One turn is: wait, ready sources, commands, timers, deferred.
 * Knows nothing of what the sources are. */
#include <assert.h>
#include <sched.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "io/engine_int.h"

#define SPIN_CREDIT_MAX 8	/* failed spins in a row until the engine sleeps at once */
#define SPIN_PROBE 32		/* short sleeps until a spin is tried again */
#define SHORT_SLEEP_US (SPIN_US + 20)	/* with the wake-up's own latency */

/* ---- time ---------------------------------------------------------------- */

uint64_t engine_now_us(const struct engine *e)
{
	return e->now_us;
}

uint64_t engine_refresh_now(struct engine *e)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return e->now_us = (uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000;
}

static int timer_cmp(const struct timer *a, const struct timer *b)
{
	if (a->at_us != b->at_us)
		return a->at_us < b->at_us ? -1 : 1;
	return ((uintptr_t)a > (uintptr_t)b) - ((uintptr_t)a < (uintptr_t)b);
}

RB_GENERATE_INTERNAL(timers, timer, link, timer_cmp, __attribute__((unused)) static)

void timer_set(struct engine *e, struct timer *t, uint64_t at_us)
{
	/* A callback that asks for the past waits for the next turn, or it would starve the sources. */
	if (e->firing && at_us <= e->now_us)
		at_us = e->now_us + 1;
	if (t->set && t->at_us == at_us)
		return;
	timer_clear(e, t);
	if (at_us == UINT64_MAX)
		return;
	t->at_us = at_us;
	t->set = true;
	RB_INSERT(timers, &e->timers, t);
}

void timer_clear(struct engine *e, struct timer *t)
{
	if (!t->set)
		return;
	RB_REMOVE(timers, &e->timers, t);
	t->set = false;
}

static void timers_fire(struct engine *e)
{
	const uint64_t now_us = e->now_us;
	struct timer *t;
	e->firing = true;
	while ((t = RB_MIN(timers, &e->timers)) && t->at_us <= now_us) {
		timer_clear(e, t);
		t->fired(t);
	}
	e->firing = false;
}

/* ---- sources ------------------------------------------------------------- */

static int source_ctl(struct engine *e, struct source *s, int op)
{
	struct epoll_event ev = { .events = s->interest | EPOLLET, .data.ptr = s };
	return epoll_ctl(e->epoll_fd, op, s->fd, &ev);
}

int source_add(struct engine *e, struct source *s, int fd, uint32_t interest, void (*ready)(struct source *, uint32_t))
{
	*s = (struct source){ .fd = fd, .ready = ready, .interest = interest };
	if (source_ctl(e, s, EPOLL_CTL_ADD))
		return -1;
	e->sources++;
	return 0;
}

int source_set(struct engine *e, struct source *s, uint32_t interest)
{
	s->interest = interest;
	return source_ctl(e, s, EPOLL_CTL_MOD);
}

/* Its owner may free it: what is left of this turn's events must not find it. */
static void forget_events(struct engine *e, const struct source *s)
{
	for (int i = e->next_event; i < e->n_events; i++) {
		if (e->events[i].data.ptr == s)
			e->events[i].data.ptr = NULL;
	}
}

int source_move(struct engine *e, struct source *from, struct source *to, uint32_t interest,
		void (*ready)(struct source *, uint32_t))
{
	*to = *from;
	to->ready = ready;
	if (source_set(e, to, interest))
		return -1;
	forget_events(e, from);
	from->fd = -1;
	return 0;
}

void source_close(struct engine *e, struct source *s)
{
	if (s->fd < 0)
		return;
	forget_events(e, s);
	/* close() alone leaves the registration behind while a duplicate of the descriptor lives somewhere. */
	if (!s->sole)
		epoll_ctl(e->epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
	close(s->fd);
	s->fd = -1;
	e->sources--;
}

static void sources_ready(struct engine *e)
{
	e->serving = true;
	for (e->next_event = 0; e->next_event < e->n_events;) {
		struct epoll_event *ev = &e->events[e->next_event++];
		struct source *s = ev->data.ptr;
		if (s)		/* NULL: the wake-up, or closed in this turn */
			s->ready(s, ev->events);
	}
	e->n_events = e->next_event = 0;
	e->serving = false;
}

/* ---- deferred ------------------------------------------------------------ */

void engine_defer(struct engine *e, struct deferred *d)
{
	if (d->queued)
		return;
	d->queued = true;
	TAILQ_INSERT_TAIL(&e->deferred, d, link);
}

void engine_undefer(struct engine *e, struct deferred *d)
{
	if (!d->queued)
		return;
	d->queued = false;
	TAILQ_REMOVE(&e->deferred, d, link);
}

static void deferred_run(struct engine *e)
{
	struct deferred end = { .queued = true };
	struct deferred *d;
	TAILQ_INSERT_TAIL(&e->deferred, &end, link);
	while ((d = TAILQ_FIRST(&e->deferred)) != &end) {
		engine_undefer(e, d);
		d->run(d);
	}
	engine_undefer(e, &end);
}

/* ---- waiting ------------------------------------------------------------- */

static int wait_for(struct engine *e, uint64_t until_us)
{
	if (until_us <= e->now_us)
		return epoll_wait(e->epoll_fd, e->events, TURN_EVENTS, 0);
	const uint64_t us = until_us - e->now_us;
	const struct timespec ts = { .tv_sec = (time_t)(us / 1000000), .tv_nsec = (long)(us % 1000000 * 1000) };
	const struct timespec *timeout = until_us == UINT64_MAX ? NULL : &ts;
	if (e->timer_fd < 0)
		return epoll_pwait2(e->epoll_fd, e->events, TURN_EVENTS, timeout, NULL);
	const struct itimerspec when = { .it_value = timeout ? *timeout : (struct timespec){ 0 } };
	timerfd_settime(e->timer_fd, 0, &when, NULL);
	return epoll_wait(e->epoll_fd, e->events, TURN_EVENTS, -1);
}

static void poll_once(struct engine *e)
{
	int n = wait_for(e, 0);
	e->n_events = n > 0 ? n : 0;
}

bool engine_catch_up(struct engine *e)
{
	if (e->serving)
		return false;
	poll_once(e);
	const bool any = e->n_events;
	sources_ready(e);
	return any;
}

static void sleep_until(struct engine *e, uint64_t until_us)
{
	/* No sleep while a signal is on its way here: its edge may be over already. */
	if (!wake_sleep(e)) {
		sched_yield();
		poll_once(e);
		return;
	}
	const uint64_t start_us = e->now_us;
	int n = wait_for(e, until_us);
	e->n_events = n > 0 ? n : 0;
	wake_awake(e);
	if (e->n_events && engine_refresh_now(e) - start_us < SHORT_SLEEP_US)
		e->spin_skipped++;
}

/* Sleeping costs the waker 13 us and the sleeper as much latency, so it pays to look around for a while first, when
 * that was of use lately. The yield leaves the core to an application thread that has nowhere else to run. */
static bool spin_until(struct engine *e, uint64_t until_us)
{
	const uint64_t end_us = e->now_us + SPIN_US < until_us ? e->now_us + SPIN_US : until_us;
	do {
		poll_once(e);
		if (e->n_events || commands_pending(e)) {
			e->spin_credit += e->spin_credit < SPIN_CREDIT_MAX;
			return true;
		}
		sched_yield();
	} while (engine_refresh_now(e) < end_us);
	if (end_us == until_us)
		return true;
	e->spin_credit -= e->spin_credit > 0;
	return false;
}

static void loop_wait(struct engine *e)
{
	const struct timer *first = RB_MIN(timers, &e->timers);
	uint64_t until_us = first ? first->at_us : UINT64_MAX;
	if (e->stopping && e->stop_at_us < until_us)
		until_us = e->stop_at_us;
	if (!TAILQ_EMPTY(&e->deferred) || commands_pending(e) || e->gate_taken)
		until_us = 0;
	if (until_us <= engine_refresh_now(e)) {
		poll_once(e);
		return;
	}
	const bool probe = e->spin_skipped >= SPIN_PROBE;
	if (probe)
		e->spin_skipped = 0;
	if (!e->one_cpu && (probe || e->spin_credit) && spin_until(e, until_us))
		return;
	sleep_until(e, until_us);
}

/* If so, the gate is ours. */
static bool loop_ended(struct engine *e)
{
	if (!e->stopping)
		return false;
	const struct engine_hooks *h = engine_hooks();
	if (h->idle && !h->idle(e) && e->now_us < e->stop_at_us)
		return false;
	/* A thread that forks has it, and is about to hold us. */
	e->gate_taken = pthread_mutex_trylock(&e->host->gate);
	if (e->gate_taken)
		return false;
	if (commands_close(e))
		return true;
	pthread_mutex_unlock(&e->host->gate);
	return false;
}

void loop_run(struct engine *e)
{
	do {
		loop_wait(e);
		engine_refresh_now(e);
		sources_ready(e);
		commands_run(e);
		timers_fire(e);
		deferred_run(e);
	} while (!loop_ended(e));
	wake_settle(e);
}

/* Kernels before 5.11 (and some sandboxes) have no timeout finer than 1 ms in epoll: a timerfd stands in. */
static int choose_timeout(struct engine *e)
{
	const struct timespec none = { 0 };
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	if (!epoll_pwait2(e->epoll_fd, e->events, TURN_EVENTS, &none, NULL))
		return 0;
	e->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
	return e->timer_fd < 0 ? -1 : epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->timer_fd, &ev);
}

int loop_open(struct engine *e)
{
	e->timer_fd = -1;
	TAILQ_INIT(&e->deferred);
	RB_INIT(&e->timers);
	cpu_set_t cpus;
	e->one_cpu = !sched_getaffinity(0, sizeof(cpus), &cpus) && CPU_COUNT(&cpus) < 2;
	engine_refresh_now(e);
	e->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	return e->epoll_fd < 0 ? -1 : choose_timeout(e);
}
