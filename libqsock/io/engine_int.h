/* What the parts of the engine share: engine.c (life and death), wake.c (commands and
 * the wake-up), courier.c (descriptors that come along), loop.c (epoll, timers, deferred
 * work).
 *
 * Two objects. struct host is the process's one meeting point of application threads
 * and engine; it lives in a page that the kernel zeroes in a forked child, and all
 * zero means "no engine", so that a child needs no repair of locks or queues.
 * struct engine belongs to the engine thread alone. */
#ifndef IO_ENGINE_INT_H
#define IO_ENGINE_INT_H

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include "io/engine.h"

#define SPIN_US 80		/* how long the engine polls before it sleeps, while that pays */
#define TURN_EVENTS 64		/* epoll events taken per turn */

enum wake_state {
	WAKE_AWAKE,		/* the engine looks at the queue by itself */
	WAKE_SLEEPING,		/* whoever queues must wake it */
	WAKE_CLAIMED,		/* one thread is about to send the signal */
	WAKE_SIGNALLED,		/* it was sent; the engine has to take it */
};

struct command {
	int (*fn)(struct engine *e, void *arg);
	void *arg;
	struct command *next;
	int ret, err;
	pid_t pid;		/* process that waits */
	atomic_int state;	/* futex: CMD_* in wake.c */
};

struct host {
	pthread_mutex_t life;	/* held while starting and stopping; zero is unlocked */
	pthread_mutex_t gate;	/* held over fork, and while the thread comes into being and ends */
	bool exiting;		/* under life; exit handlers have stopped the engine for good */
	_Atomic(struct command *) queue;	/* newest first; NULL: nobody takes commands */
	atomic_int wake;	/* enum wake_state */
	atomic_int releases;	/* futex: so often was the engine released from standing still */
	atomic_int pid, tid;	/* of the engine thread */
	struct engine *engine;	/* under life */
	pthread_t thread;	/* under life */
};

RB_HEAD(timers, timer);
TAILQ_HEAD(deferred_list, deferred);

struct engine {
	struct host *host;
	unsigned sources;		/* being watched */
	int epoll_fd, signal_fd;
	int timer_fd;		/* only where epoll_pwait2 is missing, else -1 */
	int self_pidfd;		/* opened by the first engine_take_fd, else -1 */
	struct carry *carry;	/* courier.c: of the command that is run, or NULL */
	bool hold;		/* after this command: stand still */
	uint64_t now_us;
	struct timers timers;
	bool firing;
	struct deferred_list deferred;
	struct epoll_event events[TURN_EVENTS];
	int n_events, next_event;
	bool serving;		/* events, just now */
	int spin_credit;	/* spins that may still fail; 0: sleep at once */
	unsigned spin_skipped;	/* short sleeps since, a spin would have paid */
	bool one_cpu;
	bool stopping;
	bool gate_taken;	/* by someone else, or the loop had ended: it looks again at once */
	uint64_t stop_at_us;
	bool lossy;		/* what the hooks said in the end */
	void *data;
	sem_t ready;		/* setup is over, setup_errno says how */
	int setup_errno;
	struct engine *forgotten;	/* the parent's engine in a forked child: never freed, kept reachable */
	uint8_t rx_buf[ENGINE_BUF], tx_buf[ENGINE_BUF];
};

extern _Thread_local struct engine *engine_self;	/* set on the engine thread only */

/* wake.c */
#define QUEUE_EMPTY ((struct command *)1)

/* Queue a command and wake the engine. False: nobody takes commands. */
bool command_push(struct host *h, struct command *c);
/* Wait until it has run. False: this process is a fork made meanwhile, it will never run. */
bool command_wait(struct host *h, struct command *c);
/* Have the engine, if there is one, stand still between two commands, where it holds no lock, until it is released.
 * Under gate. */
void commands_hold(struct host *h);
void commands_release(struct host *h);
/* Engine thread: run what is queued. False: nothing was. */
bool commands_run(struct engine *e);
static inline bool commands_pending(struct engine *e)
{
	return atomic_load(&e->host->queue) != QUEUE_EMPTY;
}
/* Engine thread, last act: take no more commands. False: there are some to run first. */
bool commands_close(struct engine *e);
int wake_open(struct engine *e);		/* 0 or -1/errno */
/* About to sleep. False: do not, there is work or a signal under way. */
bool wake_sleep(struct engine *e);
void wake_awake(struct engine *e);
void wake_settle(struct engine *e);		/* wait until no thread is about to signal us */

/* loop.c */
int loop_open(struct engine *e);		/* 0 or -1/errno */
void loop_run(struct engine *e);		/* until stopped; returns with the host's gate */

const struct engine_hooks *engine_hooks(void);

#endif
