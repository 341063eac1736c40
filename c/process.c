/* SPDX-License-Identifier: MIT */
/* Spawn a child, wait for it, say how it ended.
 *
 * The fork itself is done by a function that the caller passes, so that an
 * interpreter's own fork, with all its hooks, can be used; everything that has
 * to happen around it happens here, where no signal handler and no bytecode
 * can come between the fork and the line that records the pid.
 *
 * A child is held by its pidfd from the first moment, so nothing below can
 * signal or reap a stranger that got the same pid later. It is never waited
 * for in waitpid: a handler installed with SA_RESTART would make that deaf.
 * poll(2) is not restarted (signal(7)), and it is called in slices.
 *
 * The lifeline ends a child when its parent dies: the read end of a pipe whose
 * only write end the parent holds. The kernel sends SIGKILL to the owner of
 * the read end (F_SETOWN, F_SETSIG, O_ASYNC) when the write end is closed.
 * Rejected: PR_SET_PDEATHSIG, which fires when the forking thread ends.
 */
#define _GNU_SOURCE
#include "kill_point.h"
#include "liveness.h"
#include "snakefish.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424
#endif
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef P_PIDFD
#define P_PIDFD 3
#endif

#define SLICE_MS 100

/* So long the end of a child is waited for before its messages, at least and at
 * most; and so many children are not, after one for which that was in vain. */
#define BRIEF_LEAST_NS INT64_C(2000000)
#define BRIEF_LIMIT_NS INT64_C(5000000)
#define BRIEF_SKIP_COUNT 15

enum state { UNSPAWNED, SPAWNED, ENDED };

struct sf_process {
    uint64_t owner;       /* the member that may use this handle */
    uint64_t member;      /* the child */
    pthread_mutex_t lock; /* guards state, ending and status; never held while waiting */
    enum state state;
    int ending; /* once ENDED: 0, or -ENODATA when the status is lost */
    int status;
    pid_t pid;
    int pidfd;
    int own_lifeline;            /* write end of a lifeline of its own, or -1 */
    _Atomic uint32_t poll_count; /* threads that look at pidfd just now */
    _Atomic uint32_t released;
};

/* What the last children that were joined teach about the next: how long to
 * wait for its end alone, and how many more not to. Of this process, and of no
 * consequence but for time. */
static struct {
    _Atomic int64_t limit_ns;
    _Atomic uint32_t skips;
} brief = {BRIEF_LIMIT_NS, 1};

/* -------------------------------------------------------------- lifeline */

/* One pipe serves all children of a process. Each child opens the read end
 * anew through /proc, because the owner of O_ASYNC belongs to the open file
 * description. Guarded by `lock`; the fork handlers keep a child from holding
 * its own parent's write end, which would keep it alive. */
static struct {
    pthread_mutex_t lock;
    int read_end, write_end;
    int armed_end; /* in a child: the end whose hang-up kills it */
    uid_t user;    /* who found out whether it is shareable */
    bool shareable;
} lifeline = {PTHREAD_MUTEX_INITIALIZER, -1, -1, -1, 0, false};

static void close_end(int *end)
{
    if (*end >= 0)
        close(*end);
    *end = -1;
}

/* Open a pipe end a second time, as an open file description of its own. */
static int open_again(int read_end)
{
    char path[32];

    snprintf(path, sizeof path, "/proc/self/fd/%d", read_end);
    return open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
}

static int open_pipe(int *read_end, int *write_end)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    *read_end = ends[0];
    *write_end = ends[1];
    return 0;
}

/* Can an end be opened again by this user? A shortage says nothing about that. */
static int try_sharing(void)
{
    int probe = open_again(lifeline.read_end);

    if (probe < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM))
        return -errno;
    lifeline.user = geteuid();
    lifeline.shareable = probe >= 0;
    close_end(&probe);
    return 0;
}

static int open_lifeline(void)
{
    int rc = 0;

    pthread_mutex_lock(&lifeline.lock);
    if (lifeline.write_end < 0) {
        rc = open_pipe(&lifeline.read_end, &lifeline.write_end);
        if (rc == 0)
            rc = try_sharing();
        if (rc < 0) {
            close_end(&lifeline.read_end);
            close_end(&lifeline.write_end);
        }
    } else if (lifeline.user != geteuid()) {
        rc = try_sharing();
    }
    pthread_mutex_unlock(&lifeline.lock);
    return rc;
}

/* Ask for a SIGKILL when the other end of `end` is closed. */
static bool ask_for_end(int end)
{
    return fcntl(end, F_SETOWN, getpid()) == 0 && fcntl(end, F_SETSIG, SIGKILL) == 0 &&
           fcntl(end, F_SETFL, O_ASYNC | O_NONBLOCK) == 0;
}

/* In the child: die when the parent does. At once, if it is dead already, or if
 * nothing will tell; but where the kernel knows no such thing, live. */
static void arm(int end)
{
    struct pollfd hangup = {.fd = end, .events = POLLIN};

    if ((!ask_for_end(end) && errno != EINVAL) || poll(&hangup, 1, 0) != 0)
        raise(SIGKILL);
    lifeline.armed_end = end;
}

static void before_fork(void)
{
    pthread_mutex_lock(&lifeline.lock);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&lifeline.lock);
}

static void after_fork_in_child(void)
{
    pthread_mutex_unlock(&lifeline.lock);
    close_end(&lifeline.write_end);
    close_end(&lifeline.armed_end);
}

static struct fork_handlers handlers = {before_fork, after_fork_in_parent, after_fork_in_child, 0};

/* ----------------------------------------------------------------- spawn */

int sf_process_create(struct sf_process **process)
{
    struct sf_process *made;
    int rc = liveness_join();

    if (rc == 0)
        rc = liveness_handle_forks(&handlers);
    if (rc < 0)
        return rc;
    made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    rc = -pthread_mutex_init(&made->lock, NULL);
    if (rc < 0)
        goto undo_calloc;
    rc = liveness_reserve(&made->member);
    if (rc < 0)
        goto undo_lock;
    made->owner = liveness_self();
    made->pidfd = -1;
    made->own_lifeline = -1;
    *process = made;
    return 0;

undo_lock:
    pthread_mutex_destroy(&made->lock);
undo_calloc:
    free(made);
    return rc;
}

/* Everything a handler could run for is held back; what the processor itself
 * raises is not, because a blocked fault is a process that cannot die of it. */
static void block_signals(sigset_t *before)
{
    static const int synchronous[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS};
    sigset_t blocked;

    sigfillset(&blocked);
    for (size_t i = 0; i < sizeof synchronous / sizeof *synchronous; i++)
        sigdelset(&blocked, synchronous[i]);
    pthread_sigmask(SIG_BLOCK, &blocked, before);
}

static void begin_child(int own_read_end)
{
    int end = own_read_end >= 0 ? own_read_end : open_again(lifeline.read_end);

    close_end(&lifeline.read_end);
    arm(end);
}

/* A descriptor that is readable for ever, as the pidfd of the dead is. */
static int open_readable(void)
{
    int ends[2] = {-1, -1};

    if (open_pipe(&ends[0], &ends[1]) == 0)
        close_end(&ends[1]);
    return ends[0];
}

/* The child was reaped by others before we could hold it: it has ended, and
 * what is known of how is what it wrote itself. */
static void note_early_end(struct sf_process *process)
{
    process->pidfd = open_readable();
    process->ending = liveness_exit_record(process->member, &process->status) ? 0 : -ENODATA;
    process->state = ENDED;
    liveness_release(process->member);
}

/* The child exists; from here on it is ours to reap. */
static int begin_parent(struct sf_process *process, pid_t pid)
{
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    int rc = pidfd < 0 ? -errno : 0;

    if (rc < 0 && rc != -ESRCH) {
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        liveness_reserve_again(process->member);
        return rc;
    }
    process->pid = pid;
    process->pidfd = pidfd;
    process->state = SPAWNED;
    if (rc == -ESRCH)
        note_early_end(process);
    else
        liveness_set_pid(process->member, pid);
    return 0;
}

static int fork_child(struct sf_process *process, pid_t (*fork_function)(void), int own_read_end)
{
    sigset_t before;
    pid_t pid;
    int rc;

    block_signals(&before);
    liveness_adopt(process->member);
    pid = fork_function != NULL ? fork_function() : fork();
    if (pid == 0) {
        begin_child(own_read_end);
        rc = 0;
    } else if (pid < 0) {
        rc = fork_function != NULL ? -ECANCELED : -errno;
    } else {
        rc = begin_parent(process, pid);
    }
    liveness_adopt(0);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc < 0 ? rc : pid;
}

int sf_process_spawn(struct sf_process *process, pid_t (*fork_function)(void))
{
    int own_read_end = -1;
    int rc;

    if (process->owner != liveness_self())
        return -ECHILD;
    /* Relaxed: one thread per handle spawns and releases. */
    if (process->state != UNSPAWNED ||
        atomic_load_explicit(&process->released, memory_order_relaxed))
        return -EALREADY;
    rc = open_lifeline();
    if (rc == 0 && !lifeline.shareable)
        rc = open_pipe(&own_read_end, &process->own_lifeline);
    if (rc < 0)
        return rc;
    rc = fork_child(process, fork_function, own_read_end);
    if (rc == 0) {
        close_end(&process->own_lifeline);
        return 0;
    }
    close_end(&own_read_end);
    if (rc < 0)
        close_end(&process->own_lifeline);
    return rc;
}

/* ------------------------------------------------------------------ wait */

/* PIDFD_GET_INFO of Linux 6.15 (include/uapi/linux/pidfd.h): what the kernel
 * remembers of a process whose status somebody else has taken. */
struct kernel_pidfd_info {
    uint64_t mask;
    uint64_t cgroup;
    uint32_t ids[11];
    int32_t exit_code; /* as waitpid gives it */
};
#define KERNEL_PIDFD_GET_INFO _IOWR(0xFF, 11, struct kernel_pidfd_info)
#define KERNEL_PIDFD_INFO_EXIT (UINT64_C(1) << 3)

static int recover_status(const struct sf_process *process, int *status)
{
    struct kernel_pidfd_info info = {.mask = KERNEL_PIDFD_INFO_EXIT};

    if (ioctl(process->pidfd, KERNEL_PIDFD_GET_INFO, &info) == 0 &&
        (info.mask & KERNEL_PIDFD_INFO_EXIT)) {
        *status =
            WIFSIGNALED(info.exit_code) ? -WTERMSIG(info.exit_code) : WEXITSTATUS(info.exit_code);
        return 0;
    }
    return liveness_exit_record(process->member, status) ? 0 : -ENODATA;
}

/* Take the status of a child that has ended. With the lock held. */
static void reap(struct sf_process *process)
{
    siginfo_t info = {0};

    if (process->state != SPAWNED)
        return;
    if (waitid((idtype_t)P_PIDFD, (id_t)process->pidfd, &info, WEXITED | WNOHANG) == 0) {
        if (info.si_pid == 0)
            return;
        process->status = info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
        process->ending = 0;
    } else {
        process->ending = recover_status(process, &process->status);
    }
    process->state = ENDED;
    liveness_release(process->member);
}

/* poll(2) on the pidfd, so that a release by another thread waits for us.
 * Returns 1 when the child has ended, 0 when not within the time, -errno. */
static int poll_ended(struct sf_process *process, int timeout_ms)
{
    struct pollfd ended = {.events = POLLIN};
    int rc;

    /* Sequentially consistent, both: either release sees us counted or we see
     * it released; pairs with the same two words in sf_process_release. */
    atomic_fetch_add_explicit(&process->poll_count, 1, memory_order_seq_cst);
    if (atomic_load_explicit(&process->released, memory_order_seq_cst)) {
        rc = -EBADF;
    } else {
        ended.fd = process->pidfd;
        rc = poll(&ended, 1, timeout_ms);
        if (rc < 0)
            rc = -errno;
    }
    /* Release: our use of the descriptor ends before it is closed; pairs with
     * the load in sf_process_release. */
    atomic_fetch_sub_explicit(&process->poll_count, 1, memory_order_release);
    return rc;
}

static enum state current_state(struct sf_process *process)
{
    enum state state;

    pthread_mutex_lock(&process->lock);
    state = process->state;
    pthread_mutex_unlock(&process->lock);
    return state;
}

static int slice_ms(int64_t deadline_ns)
{
    int64_t left_ns = deadline_ns == SF_FOREVER ? SF_FOREVER : deadline_ns - sf_clock_now_ns();

    if (left_ns <= 0)
        return 0;
    return left_ns >= SLICE_MS * INT64_C(1000000) ? SLICE_MS : (int)(left_ns / 1000000) + 1;
}

int sf_process_wait(struct sf_process *process, int64_t deadline_ns, int *status)
{
    int rc;

    if (process->owner != liveness_self())
        return -ECHILD;
    switch (current_state(process)) {
    case UNSPAWNED:
        return -EINVAL;
    case SPAWNED:
        rc = poll_ended(process, slice_ms(deadline_ns));
        /* Dead, and the kernel is taking it apart: its memory goes before its
         * status comes. It is over, so the answer is worth the moment. */
        if (rc == 0 && liveness_is_dead(process->member))
            rc = poll_ended(process, SLICE_MS);
        if (rc < 0)
            return rc;
        if (rc == 0)
            return slice_ms(deadline_ns) == 0 ? -EAGAIN : -EINTR;
        break;
    case ENDED:
        break;
    }
    pthread_mutex_lock(&process->lock);
    reap(process);
    rc = process->state == ENDED ? process->ending : -EINTR;
    if (rc == 0)
        *status = process->status;
    pthread_mutex_unlock(&process->lock);
    return rc;
}

/* Is it worth trying again, after one that was not over in time? */
static bool is_worth_trying(void)
{
    /* Relaxed, both: a statistic; two threads at once skip one more or less. */
    uint32_t skips = atomic_load_explicit(&brief.skips, memory_order_relaxed);

    if (skips > 0)
        atomic_store_explicit(&brief.skips, skips - 1, memory_order_relaxed);
    return skips == 0;
}

/* Twice what the last one took; if that was not enough the longest, and if
 * neither that was, or the child has much to send, no wait for a while. */
static void learn(int64_t limit_ns, int64_t took_ns, bool ended, bool much)
{
    bool in_vain = much || (!ended && limit_ns == BRIEF_LIMIT_NS);
    int64_t next_ns = ended && 2 * took_ns < BRIEF_LIMIT_NS ? 2 * took_ns : BRIEF_LIMIT_NS;

    /* Relaxed, both: statistics. */
    atomic_store_explicit(&brief.limit_ns, next_ns > BRIEF_LEAST_NS ? next_ns : BRIEF_LEAST_NS,
                          memory_order_relaxed);
    atomic_store_explicit(&brief.skips, in_vain ? BRIEF_SKIP_COUNT : 0, memory_order_relaxed);
}

int sf_process_wait_briefly(struct sf_process *process, struct sf_channel *channel,
                            int64_t deadline_ns, int *status)
{
    int64_t began_ns = sf_clock_now_ns();
    /* Relaxed: a statistic. */
    int64_t limit_ns = atomic_load_explicit(&brief.limit_ns, memory_order_relaxed);
    int rc;

    if (deadline_ns < began_ns + limit_ns || !is_worth_trying())
        return sf_process_wait(process, SF_NOW, status);
    rc = sf_process_wait(process, began_ns + limit_ns, status);
    if (rc == 0 || rc == -EAGAIN)
        learn(limit_ns, sf_clock_now_ns() - began_ns, rc == 0,
              sf_channel_used(channel) > SF_MESSAGE_INLINE);
    return rc;
}

int sf_process_is_alive(struct sf_process *process)
{
    int rc;

    if (process->owner != liveness_self())
        return -ECHILD;
    switch (current_state(process)) {
    case UNSPAWNED:
        return -EINVAL;
    case ENDED:
        return 0;
    case SPAWNED:
        break;
    }
    rc = poll_ended(process, 0);
    return rc < 0 ? rc : rc == 0;
}

int sf_process_kill(struct sf_process *process, int signal_number)
{
    struct pollfd ended = {.fd = process->pidfd, .events = POLLIN};
    int rc = 0;

    if (process->owner != liveness_self())
        return -ECHILD;
    pthread_mutex_lock(&process->lock);
    if (process->state == UNSPAWNED)
        rc = -EINVAL;
    else if (process->state == ENDED || poll(&ended, 1, 0) == 1)
        rc = -ESRCH;
    else if (syscall(SYS_pidfd_send_signal, process->pidfd, signal_number, NULL, 0) != 0)
        rc = -errno;
    pthread_mutex_unlock(&process->lock);
    return rc;
}

int sf_process_pid(const struct sf_process *process)
{
    if (process->owner != liveness_self())
        return -ECHILD;
    return process->pid > 0 ? process->pid : -EINVAL;
}

int sf_process_fileno(const struct sf_process *process)
{
    if (process->owner != liveness_self())
        return -ECHILD;
    if (process->pid <= 0)
        return -EINVAL;
    return process->pidfd >= 0 ? process->pidfd : -EBADF;
}

uint64_t liveness_member_of(const struct sf_process *process)
{
    return process->member;
}

void sf_process_exiting(int status)
{
    liveness_record_exit(status);
}

/* --------------------------------------------------------------- release */

static void kill_child(struct sf_process *process)
{
    struct pollfd ended = {.fd = process->pidfd, .events = POLLIN};

    if (sf_process_kill(process, SIGKILL) == -EPERM)
        return; /* it has become another user, and is left to itself */
    while (current_state(process) == SPAWNED) {
        poll(&ended, 1, SLICE_MS);
        pthread_mutex_lock(&process->lock);
        reap(process);
        pthread_mutex_unlock(&process->lock);
    }
}

void sf_process_release(struct sf_process *process)
{
    const struct timespec moment = {.tv_nsec = 20000};

    if (process->owner != liveness_self())
        return;
    /* Sequentially consistent: pairs with poll_ended, which explains it. */
    if (atomic_exchange_explicit(&process->released, 1, memory_order_seq_cst))
        return;
    if (current_state(process) == UNSPAWNED)
        liveness_release(process->member);
    kill_child(process);
    /* The pidfd is readable now, so whoever polls it is about to leave.
     * Sequentially consistent: pairs with the count in poll_ended. */
    while (atomic_load_explicit(&process->poll_count, memory_order_seq_cst) > 0)
        nanosleep(&moment, NULL);
    close_end(&process->pidfd);
    close_end(&process->own_lifeline);
}

void sf_process_destroy(struct sf_process *process)
{
    if (process == NULL)
        return;
    sf_process_release(process);
    if (process->owner != liveness_self()) {
        close_end(&process->pidfd);
        close_end(&process->own_lifeline);
    }
    pthread_mutex_destroy(&process->lock);
    free(process);
}
