/* How application threads reach the engine: a lock-free list of commands that live on
 * their callers' stacks, and a signal to wake the engine when it sleeps.
 *
 * The wake-up is SIGURG directed at the engine's thread, which blocks all signals and
 * reads it by a signalfd in its epoll: a blocked signal stays pending whatever the
 * application made of its disposition, and needs no descriptor of the application's.
 * Two traps shape the state machine below:
 * - A signalfd also hands out signals directed at the process, which belong to the
 *   application. Those of the thread come first, so the engine reads one signal for
 *   each that is known to be sent, and never otherwise.
 * - Setting SIGURG's disposition to "ignore" throws pending ones away. So waiting
 *   threads look again after a while and repeat the signal. */
#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "io/engine_int.h"

#define WAKE_SIGNAL SIGURG
#define REPEAT_MIN_NS 2000000	/* a waiting thread sees to a lost wake-up after this, ... */
#define REPEAT_MAX_NS 64000000	/* ... then less and less often */
#define CALL_SPINS 64		/* looks at the result before the caller sleeps; about 1 us */

enum { CMD_QUEUED, CMD_ASLEEP, CMD_DONE };

static long futex(atomic_int *word, int op, int val, const struct timespec *timeout)
{
	return syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, val, timeout, NULL, 0);
}

static inline void cpu_relax(void)
{
#if defined(__x86_64__) || defined(__i386__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ volatile("yield");
#endif
}

/* ---- application threads ------------------------------------------------- */

static void wake_from(struct host *h, int state)
{
	if (!atomic_compare_exchange_strong(&h->wake, &state, WAKE_CLAIMED))
		return;
	syscall(SYS_tgkill, atomic_load(&h->pid), atomic_load(&h->tid), WAKE_SIGNAL);
	atomic_store(&h->wake, WAKE_SIGNALLED);
}

bool command_push(struct host *h, struct command *c)
{
	c->pid = getpid();
	atomic_store(&c->state, CMD_QUEUED);
	struct command *head = atomic_load(&h->queue);
	do {
		if (!head)
			return false;
		c->next = head == QUEUE_EMPTY ? NULL : head;
	} while (!atomic_compare_exchange_weak(&h->queue, &head, c));
	wake_from(h, WAKE_SLEEPING);
	return true;
}

bool command_wait(struct host *h, struct command *c)
{
	for (int i = 0; i < CALL_SPINS; i++) {
		if (atomic_load(&c->state) == CMD_DONE)
			return true;
		cpu_relax();
	}
	int state = CMD_QUEUED;
	atomic_compare_exchange_strong(&c->state, &state, CMD_ASLEEP);
	struct timespec repeat = { .tv_nsec = REPEAT_MIN_NS };
	while (atomic_load(&c->state) != CMD_DONE) {
		if (!futex(&c->state, FUTEX_WAIT, CMD_ASLEEP, &repeat) || errno == EAGAIN)
			continue;
		/* A signal handler may have forked right here. */
		if (getpid() != c->pid)
			return false;
		if (errno == ETIMEDOUT) {
			wake_from(h, WAKE_SLEEPING);
			wake_from(h, WAKE_SIGNALLED);
			if (repeat.tv_nsec < REPEAT_MAX_NS)
				repeat.tv_nsec *= 2;
		}
	}
	return true;
}

static int hold(struct engine *e, void *arg)
{
	e->hold = true;
	return 0;
}

void commands_hold(struct host *h)
{
	struct command c = { .fn = hold };
	if (command_push(h, &c))
		command_wait(h, &c);
}

void commands_release(struct host *h)
{
	atomic_fetch_add(&h->releases, 1);
	futex(&h->releases, FUTEX_WAKE, 1, NULL);
}

/* ---- engine thread ------------------------------------------------------- */

static void command_run(struct engine *e, struct command *c)
{
	const int releases = atomic_load(&e->host->releases);
	errno = 0;
	c->ret = c->fn(e, c->arg);
	c->err = errno;
	/* After this exchange c is gone; waking an address that went out of use hurts nobody. */
	if (atomic_exchange(&c->state, CMD_DONE) == CMD_ASLEEP)
		futex(&c->state, FUTEX_WAKE, 1, NULL);
	while (e->hold && atomic_load(&e->host->releases) == releases)
		futex(&e->host->releases, FUTEX_WAIT, releases, NULL);
	e->hold = false;
}

bool commands_run(struct engine *e)
{
	if (!commands_pending(e))
		return false;
	struct command *c = atomic_exchange(&e->host->queue, QUEUE_EMPTY);
	struct command *oldest = NULL;
	while (c) {
		struct command *next = c->next;
		c->next = oldest;
		oldest = c;
		c = next;
	}
	while (oldest) {
		c = oldest;
		oldest = c->next;
		command_run(e, c);
	}
	return true;
}

bool commands_close(struct engine *e)
{
	struct command *head = QUEUE_EMPTY;
	return atomic_compare_exchange_strong(&e->host->queue, &head, NULL);
}

int wake_open(struct engine *e)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, WAKE_SIGNAL);
	e->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (e->signal_fd < 0)
		return -1;
	struct epoll_event ev = { .events = EPOLLIN | EPOLLET };
	return epoll_ctl(e->epoll_fd, EPOLL_CTL_ADD, e->signal_fd, &ev);
}

static void take_signal(struct engine *e)
{
	int state = WAKE_SIGNALLED;
	if (!atomic_compare_exchange_strong(&e->host->wake, &state, WAKE_AWAKE))
		return;
	struct signalfd_siginfo si;
	ssize_t n = read(e->signal_fd, &si, sizeof(si));
	(void)n;	/* none: it was thrown away, see the top */
}

bool wake_sleep(struct engine *e)
{
	take_signal(e);
	if (atomic_load(&e->host->wake) != WAKE_AWAKE)
		return false;
	atomic_store(&e->host->wake, WAKE_SLEEPING);
	if (!commands_pending(e))
		return true;
	wake_awake(e);
	return false;
}

void wake_awake(struct engine *e)
{
	int state = WAKE_SLEEPING;
	if (!atomic_compare_exchange_strong(&e->host->wake, &state, WAKE_AWAKE))
		take_signal(e);
}

void wake_settle(struct engine *e)
{
	while (atomic_load(&e->host->wake) != WAKE_AWAKE) {
		take_signal(e);
		sched_yield();
	}
}
