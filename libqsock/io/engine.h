/* The engine: one background thread per process that runs QUIC. Started on first
 * use, stopped at exit. It has a private file descriptor table, blocks every
 * signal, and is driven by epoll (edge-triggered).
 *
 * What runs on the engine thread: commands (engine_call), event sources, timers,
 * and deferred work once per turn. Objects of the engine are only touched on its
 * thread; commands are the only way in. The wake-up uses no descriptor of the
 * application: it survives closefrom(3).
 *
 * fork: a child has no engine; its first engine_call starts a fresh one and
 * forgets (does not free, does not close) what belonged to the parent's: that
 * memory is the child's copy and stays allocated by intent. The parent's engine
 * stands still for that moment, so that no lock it takes is held in the child. */
#ifndef IO_ENGINE_H
#define IO_ENGINE_H

#include <stdbool.h>
#include <stdint.h>
#include <bsd/sys/queue.h>
#include <bsd/sys/tree.h>

struct engine;

/* Locks that fork has to take come in an order, and handlers of pthread_atfork run in the reverse of the one they are
 * registered in: first those whose holders wait for the engine (constructors without a priority), then the engine is
 * stopped, then those that the engine takes (constructors of FORK_LOCK_INNER). */
#define FORK_LOCK_INNER 200
#define FORK_ENGINE 300

/* ---- from any thread of the application --------------------------------- */

/* Run fn(engine, arg) on the engine thread and wait for it; starts the engine if
 * there is none in this process. Returns fn's value (0 or more), or -1 with errno
 * from fn (fn sets errno on the engine thread; it is carried over) or from starting
 * the thread (EAGAIN, also once exit has stopped it; ENOMEM, EMFILE...). Not interrupted by signals;
 * cancellation is held off while it waits. errno is untouched on success. On the
 * engine thread fn is simply called. */
int engine_call(int (*fn)(struct engine *e, void *arg), void *arg);
/* The same for an fn that takes a descriptor of the caller's: engine_take_fd(e, app_fd) works in it wherever the
 * system lets descriptors be passed at all. fn is run twice when the first attempt to take it failed; so that comes
 * before everything that counts. */
int engine_call_with_fd(int (*fn)(struct engine *e, void *arg), void *arg, int app_fd);
/* Does this process have a running engine? (False in a forked child until it made one.) */
bool engine_running(void);
/* The same, and the caller is really that process: not a child of vfork, which has its memory. */
bool engine_running_here(void);
/* Stop: hooks' stop is called, then the loop goes on until hooks say idle or
 * linger_us passed, then the thread ends and every source is closed. Called by
 * itself at exit (atexit, linger as the hooks say: ENGINE_LINGER_HOOK) and by tests. Commands that come
 * meanwhile are still run; a later engine_call starts a new engine. 0; -1/ETIMEDOUT: the hooks say that something is
 * lost. */
#define ENGINE_LINGER_US 2000000
#define ENGINE_LINGER_HOOK UINT64_MAX
int engine_stop(uint64_t linger_us);

/* ---- on the engine thread ------------------------------------------------ */

uint64_t engine_now_us(const struct engine *e);	/* time of this turn, CLOCK_MONOTONIC */
/* Read the clock again, for long turns; the new time of this turn. */
uint64_t engine_refresh_now(struct engine *e);

/* Two work buffers shared by everything on the engine thread, so that a port costs none. Contents are
 * the caller's until it returns to the loop. */
#define ENGINE_BUF 65536
uint8_t *engine_rx_buf(struct engine *e);
uint8_t *engine_tx_buf(struct engine *e);

/* A descriptor in the engine's table watched by epoll. Embedded by its owner. */
struct source {
	int fd;
	void (*ready)(struct source *s, uint32_t events);	/* EPOLL* bits */
	uint32_t interest;
	bool sole;	/* to be set where nobody else has or ever had a duplicate of fd: its close is cheaper then */
};
/* Watch fd (EPOLLET is added). 0 or -1/errno. */
int source_add(struct engine *e, struct source *s, int fd, uint32_t interest, void (*ready)(struct source *, uint32_t));
/* Change the interest. Re-arms: what is ready now is reported (again). 0 or -1/errno. */
int source_set(struct engine *e, struct source *s, uint32_t interest);
/* Give the descriptor over to another owner, with an interest of its own: to is reported what is ready now, and from
 * nothing any more, not even what is pending in this turn. 0; -1/errno, from is as it was. */
int source_move(struct engine *e, struct source *from, struct source *to, uint32_t interest,
		void (*ready)(struct source *, uint32_t));
/* Stop watching and close the fd. Safe inside any ready callback, also for
 * sources whose event is still pending in this turn. */
void source_close(struct engine *e, struct source *s);

/* In a command that asks for what the application did before: serve sources that are ready, ahead of the next turn.
 * false: none was. */
bool engine_catch_up(struct engine *e);

/* A one-shot timer. Embedded; zero it before first use. */
struct timer {
	RB_ENTRY(timer) link;
	uint64_t at_us;
	void (*fired)(struct timer *t);
	bool set;
};
/* UINT64_MAX clears. A time that has passed fires once per turn, never twice. */
void timer_set(struct engine *e, struct timer *t, uint64_t at_us);
void timer_clear(struct engine *e, struct timer *t);

/* Work to be done at the end of this turn, once however often it is asked for
 * (flush of a port, of a stream), in the order asked. What deferred work defers is
 * for the end of the next turn, which then does not wait. */
struct deferred {
	TAILQ_ENTRY(deferred) link;
	void (*run)(struct deferred *d);
	bool queued;
};
void engine_defer(struct engine *e, struct deferred *d);
void engine_undefer(struct engine *e, struct deferred *d);

/* Duplicate a descriptor of the application's table into the engine's (CLOEXEC). In commands of engine_call_with_fd,
 * once, its app_fd, before they change anything: where it fails they are run again, with what the caller brought.
 * Elsewhere it needs the permission for pidfd_getfd and a main thread that lives. -1/errno. */
int engine_take_fd(struct engine *e, int app_fd);

/* May one more descriptor be received? At the limit recvmsg would destroy what it cannot install. */
bool engine_has_slot(struct engine *e);

/* The layer above: what to do at stop. Registered once before the first engine_call. */
struct engine_hooks {
	void (*started)(struct engine *e);
	void (*stop)(struct engine *e);		/* begin to close everything gracefully */
	bool (*idle)(struct engine *e);		/* nothing left to deliver */
	bool (*ended)(struct engine *e);	/* free everything; the thread is about to end. false: something is lost */
	uint64_t (*linger_us)(struct engine *e);	/* how long exit may wait; NULL: ENGINE_LINGER_US */
};
void engine_set_hooks(const struct engine_hooks *h);
void *engine_data(const struct engine *e);	/* the upper layer's */
void engine_set_data(struct engine *e, void *p);

#endif
