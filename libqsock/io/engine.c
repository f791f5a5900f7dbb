/* The life of the engine thread: started by the first call, stopped at exit, absent in
 * a forked child. Decides what the thread shares with the application (memory) and
 * what not (descriptors, signals). What it does is loop.c's and its hooks' matter. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include <linux/close_range.h>
#include <openssl/crypto.h>

#include "base/mem.h"
#include "io/engine_int.h"

#define ENGINE_STACK (256 * 1024)

_Thread_local struct engine *engine_self;

static _Atomic(struct host *) the_host;
static struct engine_hooks hooks;
static struct engine *newest;		/* keeps a forked child's copy of its parent's engine reachable */

/* ---- fork ---------------------------------------------------------------- */

/* A child has nobody to release what the engine's thread held when it was made: locks of OpenSSL, of allocators other
 * than glibc's. So that thread stands still meanwhile, and neither begins nor ends. */

static _Thread_local struct host *forking;	/* its gate is ours */

static void before_fork(void)
{
	struct host *h = atomic_load(&the_host);
	if (!h || engine_self)
		return;
	forking = h;
	pthread_mutex_lock(&h->gate);
	commands_hold(h);
}

static void in_parent(void)
{
	struct host *h = forking;
	if (!h)
		return;
	commands_release(h);
	pthread_mutex_unlock(&h->gate);
	forking = NULL;
}

static void in_child(void)
{
	struct host *h = forking;
	if (!h)
		return;
	pthread_mutex_unlock(&h->gate);		/* ThreadSanitizer knows nothing of what comes next, */
	memset(h, 0, sizeof(*h));		/* which the kernel did already, where it has MADV_WIPEONFORK */
	forking = NULL;
}

__attribute__((constructor(FORK_ENGINE))) static void at_load(void)
{
	pthread_atfork(before_fork, in_parent, in_child);
}

/* ---- the host page ------------------------------------------------------- */

/* Threads may still run and call. A new engine would work on what later handlers take away. */
static void at_exit(void)
{
	struct host *h = atomic_load(&the_host);
	pthread_mutex_lock(&h->life);
	h->exiting = true;
	pthread_mutex_unlock(&h->life);
	engine_stop(ENGINE_LINGER_HOOK);
}

/* The kernel empties the page in a child however that was made: fork, or a bare clone without its own handlers; and
 * leaves it alone for vfork, whose child is still this process to everyone. */
static struct host *host_get(void)
{
	struct host *h = atomic_load(&the_host);
	if (h)
		return h;
	h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (h == MAP_FAILED) {
		errno = ENOMEM;
		return NULL;
	}
	madvise(h, sizeof(*h), MADV_WIPEONFORK);
	struct host *other = NULL;
	if (!atomic_compare_exchange_strong(&the_host, &other, h)) {
		munmap(h, sizeof(*h));
		return other;
	}
	/* Exit handlers run in reverse: OpenSSL's, which frees what our last packets are made with, has to come after ours. */
	OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CRYPTO_STRINGS, NULL);
	atexit(at_exit);
	return h;
}

/* ---- the thread ---------------------------------------------------------- */

/* On our table. Kernels before 5.9 (and some sandboxes) have no close_range, and closefrom would then look at the main
 * thread's table. */
static int close_from(int first)
{
	const struct dirent *entry;
	DIR *fds;
	if (!close_range((unsigned)first, ~0U, 0))
		return 0;
	fds = opendir("/proc/thread-self/fd");
	if (!fds)
		return -1;
	while ((entry = readdir(fds))) {
		int fd = entry->d_name[0] == '.' ? -1 : atoi(entry->d_name);
		if (fd >= first && fd != dirfd(fds))
			close(fd);
	}
	closedir(fds);
	return 0;
}

/* A table of our own, so that no close of the application reaches us and nothing of its is held open by us. Where
 * seccomp forbids unshare, close_range can usually do both. */
static int private_table(void)
{
	if (!close_range(3, ~0U, CLOSE_RANGE_UNSHARE))
		return 0;
	if (unshare(CLONE_FILES) < 0)
		return -1;
	return close_from(3);
}

/* stdin and stdout would keep the application's pipes from ending, stderr too when it is a socket; stderr stays
 * otherwise, for the last words of an assertion. The freed numbers go to the engine's first descriptors, so that none
 * of its sockets ever stands where something might be printed. */
static int engine_setup(struct engine *e)
{
	struct stat st;
	if (private_table() < 0)
		return -1;
	close(0);
	close(1);
	if (!fstat(2, &st) && S_ISSOCK(st.st_mode))
		close(2);
	if (loop_open(e) < 0 || wake_open(e) < 0)
		return -1;
	if (fcntl(2, F_GETFD) < 0 && fcntl(e->signal_fd, F_DUPFD_CLOEXEC, 2) < 0)
		return -1;
	prctl(PR_SET_NAME, "qsock-engine");
	prctl(PR_SET_TIMERSLACK, 1UL);
	return 0;
}

static void *engine_main(void *arg)
{
	struct engine *e = arg;
	struct host *h = e->host;
	e->self_pidfd = -1;
	if (engine_setup(e) < 0) {
		e->setup_errno = errno;
		sem_post(&e->ready);
		return NULL;
	}
	engine_self = e;
	atomic_store(&h->pid, getpid());
	atomic_store(&h->tid, (int)syscall(SYS_gettid));
	atomic_store(&h->queue, QUEUE_EMPTY);
	sem_post(&e->ready);
	if (hooks.started)
		hooks.started(e);
	loop_run(e);
	e->lossy = hooks.ended && !hooks.ended(e);
	engine_self = NULL;
	/* The end of the thread would do it too, but only some time after pthread_join returned. */
	close_from(0);
	OPENSSL_thread_stop();
	pthread_mutex_unlock(&h->gate);
	return NULL;
}

static int thread_create(struct host *h, struct engine *e)
{
	pthread_attr_t attr;
	int err = pthread_attr_init(&attr);
	if (err)
		return err;
	pthread_attr_setstacksize(&attr, ENGINE_STACK);
	err = pthread_create(&h->thread, &attr, engine_main, e);
	pthread_attr_destroy(&attr);
	/* Thread-local variables of the whole program are cut from the stack and may not fit. */
	return err == EINVAL ? pthread_create(&h->thread, NULL, engine_main, e) : err;
}

/* Under life, all signals blocked (the thread inherits that). 0 or errno. */
static int engine_create(struct host *h)
{
	struct engine *e = mem_zalloc(sizeof(*e));
	if (!e)
		return ENOMEM;
	e->host = h;
	sem_init(&e->ready, 0, 0);
	pthread_mutex_lock(&h->gate);
	int err = thread_create(h, e);
	if (!err) {
		while (sem_wait(&e->ready) < 0)
			;
		err = e->setup_errno;
		if (err)
			pthread_join(h->thread, NULL);
	}
	pthread_mutex_unlock(&h->gate);
	if (err) {
		sem_destroy(&e->ready);
		mem_free(e);
		return err;
	}
	e->forgotten = newest;
	newest = h->engine = e;
	return 0;
}

static int engine_start(struct host *h)
{
	sigset_t all, old;
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	pthread_mutex_lock(&h->life);
	int err = h->engine ? 0 : h->exiting ? EAGAIN : engine_create(h);
	pthread_mutex_unlock(&h->life);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return err;
}

/* ---- for the application's threads --------------------------------------- */

static int call(struct host *h, struct command *c)
{
	for (;;) {
		if (command_push(h, c)) {
			if (command_wait(h, c))
				return 0;
			continue;	/* we are a forked child: once more, with our own engine */
		}
		int err = engine_start(h);
		if (err)
			return err;
	}
}

int engine_call(int (*fn)(struct engine *e, void *arg), void *arg)
{
	if (engine_self)
		return fn(engine_self, arg);
	struct command c = { .fn = fn, .arg = arg };
	int saved = errno, cancel;
	struct host *h = host_get();
	if (!h)
		return -1;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	int err = call(h, &c);
	pthread_setcancelstate(cancel, NULL);
	if (err) {
		errno = err;
		return -1;
	}
	errno = c.ret < 0 ? c.err : saved;
	return c.ret;
}

bool engine_running(void)
{
	struct host *h = atomic_load(&the_host);
	return h && atomic_load(&h->queue);
}

bool engine_running_here(void)
{
	struct host *h = atomic_load(&the_host);
	return engine_running() && atomic_load(&h->pid) == getpid();
}

static int begin_stop(struct engine *e, void *arg)
{
	uint64_t linger_us = *(const uint64_t *)arg;
	if (linger_us == ENGINE_LINGER_HOOK)
		linger_us = hooks.linger_us ? hooks.linger_us(e) : ENGINE_LINGER_US;
	e->stopping = true;
	e->stop_at_us = linger_us < UINT64_MAX - e->now_us ? e->now_us + linger_us : UINT64_MAX;
	if (hooks.stop)
		hooks.stop(e);
	return 0;
}

int engine_stop(uint64_t linger_us)
{
	struct host *h = atomic_load(&the_host);
	if (!h || engine_self)
		return 0;
	struct command c = { .fn = begin_stop, .arg = &linger_us };
	bool lossy = false;
	int cancel;
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	pthread_mutex_lock(&h->life);
	struct engine *e = h->engine;
	if (e && command_push(h, &c) && command_wait(h, &c)) {
		pthread_join(h->thread, NULL);
		lossy = e->lossy;
		h->engine = NULL;
		newest = e->forgotten;
		sem_destroy(&e->ready);
		mem_free(e);
	}
	pthread_mutex_unlock(&h->life);
	pthread_setcancelstate(cancel, NULL);
	if (!lossy)
		return 0;
	errno = ETIMEDOUT;
	return -1;
}

/* ---- on the engine thread ------------------------------------------------ */

/* Hardly a source has more than one other descriptor beside it, so the table is looked at only when it may be near its
 * limit. */
bool engine_has_slot(struct engine *e)
{
	struct rlimit limit;
	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur > 2 * (rlim_t)e->sources + 64)
		return true;
	int fd = fcntl(e->epoll_fd, F_DUPFD_CLOEXEC, 0);
	if (fd < 0)
		return false;
	close(fd);
	return true;
}

uint8_t *engine_rx_buf(struct engine *e) { return e->rx_buf; }
uint8_t *engine_tx_buf(struct engine *e) { return e->tx_buf; }

void engine_set_hooks(const struct engine_hooks *h) { hooks = *h; }
const struct engine_hooks *engine_hooks(void) { return &hooks; }
void *engine_data(const struct engine *e) { return e->data; }
void engine_set_data(struct engine *e, void *p) { e->data = p; }
