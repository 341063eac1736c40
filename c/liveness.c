/* SPDX-License-Identifier: MIT */
/* The registry of a family of processes: one shared page run, inherited by
 * fork, with a slot for every process that is alive.
 *
 *     slot: life mutex | tenure | pid | born | keeper | exit record
 *
 * The life mutex is robust and its process holds it from birth to death. The
 * kernel marks its word FUTEX_OWNER_DIED when the holder is gone, however it
 * went, and wakes a waiter (set_robust_list(2)). So the word is both the proof
 * of death and something to sleep on beside a channel's own word.
 *
 * The mark is about a thread. Held by a main thread it is proof for the whole
 * process: interpreters never end theirs alone. Held by another thread it is a
 * hint, and a pidfd decides.
 *
 * `tenure` is generation << 2 | phase. Every change of owner is one compare-
 * and-swap on it, so a slot has one owner at any time and a member number that
 * is out of date is recognized by its generation.
 *
 * Rejected: kill(pid, 0), which calls zombies and strangers alive; a pidfd per
 * pair of processes, which costs descriptors; a heartbeat, which is a guess.
 */
#define _GNU_SOURCE
#include "liveness.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif

/* CLAIMED is between owners: its fields are being written. */
enum phase { FREE, CLAIMED, RESERVED, LIVE };

/* Who holds a life mutex. Waiters sleep on it until somebody does. */
enum holder { NOBODY_YET = LIVENESS_UNBORN, MAIN_THREAD, OTHER_THREAD };

#define TENURE(generation, phase) ((uint32_t)(generation) << 2 | (uint32_t)(phase))
#define PHASE_OF(tenure) ((tenure)&3u)
#define GENERATION_LIMIT (UINT32_C(1) << 30)
#define HANDLERS_INSTALLED (-1)
#define START_TICK_NS INT64_C(10000000) /* of /proc/PID/stat, at most; rounded down */

struct slot {
    _Alignas(128) pthread_mutex_t life;
    _Atomic uint32_t tenure;
    _Atomic int32_t pid;
    _Atomic int64_t born_ns; /* CLOCK_BOOTTIME, the scale of /proc/PID/stat */
    _Atomic uint64_t keeper; /* the parent that will read the exit record */
    _Atomic uint32_t holder;
    _Atomic uint32_t unasked; /* reserved for a fork that is not ours */
    _Atomic uint32_t exit_recorded;
    _Atomic int64_t forked_by_ns; /* when an unasked fork had returned, or 0 */
    _Atomic int32_t exit_status;
};

struct registry {
    _Atomic uint32_t slot_count;
    _Atomic uint32_t words_usable; /* the mutex word is where futexes look */
    struct slot slots[SF_PROCESS_LIMIT];
};

/* Process-wide by nature: there is one family, and one self. Guarded by
 * `founding`; fork carries them over and the handlers below mend them. */
static struct registry *registry;
static _Atomic uint64_t self;
static pthread_mutex_t founding = PTHREAD_MUTEX_INITIALIZER;
static _Thread_local uint64_t adopting;
static _Thread_local bool adopting_unasked; /* by a fork that is not ours */

static int64_t boot_time_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_BOOTTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static struct slot *slot_of(uint64_t member)
{
    return &registry->slots[LIVENESS_SLOT_OF(member)];
}

/* The futex word of glibc's mutexes is their first int, on every architecture;
 * `words_usable` says whether that held for the first one locked. */
static _Atomic uint32_t *life_word(struct slot *slot)
{
    return (_Atomic uint32_t *)(void *)&slot->life;
}

int liveness_init_lock(pthread_mutex_t *lock, int kind)
{
    pthread_mutexattr_t attributes;
    int rc = pthread_mutexattr_init(&attributes);

    if (rc != 0)
        return -rc;
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_settype(&attributes, kind);
    rc = pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return -rc;
}

/* ------------------------------------------------------- proof of death */

/* Start time of a process in nanoseconds since boot, -1 if it cannot be read.
 * Field 22 of /proc/PID/stat, proc(5); the name in field 2 may hold anything,
 * so the fields are counted from its closing parenthesis. */
static int64_t start_time_ns(pid_t pid)
{
    char path[32], text[1024];
    unsigned long long ticks;
    const char *rest;
    ssize_t size;
    int fd;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    size = read(fd, text, sizeof text - 1);
    close(fd);
    if (size <= 0)
        return -1;
    text[size] = '\0';
    rest = strrchr(text, ')');
    if (rest == NULL ||
        sscanf(rest + 1,
               " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
               &ticks) != 1)
        return -1;
    return (int64_t)(ticks * (1000000000ull / (unsigned long long)sysconf(_SC_CLK_TCK)));
}

/* Has the process that had this pid when it was `born_ns` ended? A zombie has.
 * A process that started later is a stranger with a pid used again. */
static bool process_ended(pid_t pid, int64_t born_ns)
{
    struct pollfd ended = {.events = POLLIN};
    bool gone;

    ended.fd = (int)syscall(SYS_pidfd_open, pid, 0);
    if (ended.fd < 0)
        return errno == ESRCH || (kill(pid, 0) != 0 && errno == ESRCH);
    gone = poll(&ended, 1, 0) == 1;
    close(ended.fd);
    return gone || (born_ns != 0 && start_time_ns(pid) > born_ns + 2 * START_TICK_NS);
}

/* Has a process that lives already said that it has this pid? */
static bool is_member(pid_t pid)
{
    uint32_t count = liveness_slot_count();

    for (uint32_t index = 0; index < count; index++) {
        struct slot *slot = &registry->slots[index];

        /* Acquire: pairs with the release in set_tenure. Relaxed: its field. */
        if (PHASE_OF(atomic_load_explicit(&slot->tenure, memory_order_acquire)) == LIVE &&
            atomic_load_explicit(&slot->pid, memory_order_relaxed) == pid)
            return true;
    }
    return false;
}

/* Can this child of a slot's keeper be the process that the slot waits for? It
 * runs, was forked at that time, and is not a member yet. */
static bool may_be_born(struct slot *slot, pid_t pid)
{
    /* Relaxed, both: a time not seen yet only postpones the verdict. */
    int64_t from_ns = atomic_load_explicit(&slot->born_ns, memory_order_relaxed);
    int64_t until_ns = atomic_load_explicit(&slot->forked_by_ns, memory_order_relaxed);
    int64_t start_ns = start_time_ns(pid);

    if (start_ns < 0 || start_ns + START_TICK_NS < from_ns)
        return false;
    if (until_ns != 0 && start_ns > until_ns)
        return false;
    return !process_ended(pid, 0) && !is_member(pid);
}

/* Among the children that one thread of the keeper forked, is there one that can
 * be the slot's? Yes as well where the kernel does not tell, proc(5). */
static bool has_candidate(struct slot *slot, pid_t keeper, const char *thread)
{
    char path[64];
    FILE *children;
    bool found = false;
    int pid;

    snprintf(path, sizeof path, "/proc/%d/task/%.16s/children", (int)keeper, thread);
    children = fopen(path, "re");
    if (children == NULL)
        return true;
    while (!found && fscanf(children, "%d", &pid) == 1)
        found = may_be_born(slot, pid);
    fclose(children);
    return found;
}

/* The slot was reserved for a fork that we do not see the result of. Is there a
 * process that can still come to be its owner? */
static bool can_be_born(struct slot *slot, uint64_t keeper)
{
    /* Relaxed: of the keeper, who has long moved in. */
    pid_t keeper_pid = atomic_load_explicit(&slot_of(keeper)->pid, memory_order_relaxed);
    struct dirent *thread;
    char path[32];
    DIR *threads;
    bool found = false;

    snprintf(path, sizeof path, "/proc/%d/task", (int)keeper_pid);
    threads = opendir(path);
    if (threads == NULL)
        return true;
    while (!found && (thread = readdir(threads)) != NULL)
        if (thread->d_name[0] != '.')
            found = has_candidate(slot, keeper_pid, thread->d_name);
    closedir(threads);
    return found;
}

/* A slot was reserved and its process did not say its pid yet. It never will
 * if the one that reserved it has died; or if that one forked in a way that we
 * do not see the result of, and has no child that it could be. */
static bool will_not_be_born(struct slot *slot)
{
    /* Relaxed, all: written before the tenure that the caller acquired, or by
     * this process; else the verdict is postponed. */
    uint64_t keeper = atomic_load_explicit(&slot->keeper, memory_order_relaxed);

    if (keeper == 0)
        return false;
    if (keeper != liveness_self() && liveness_is_dead(keeper))
        return true;
    if (!atomic_load_explicit(&slot->unasked, memory_order_relaxed) ||
        atomic_load_explicit(&slot->forked_by_ns, memory_order_relaxed) == 0)
        return false;
    /* Twice: the kernel's list may leave somebody out while another is reaped.
     * Acquire: pairs with the release in move_in, which is_member acquired; it
     * may have been born while we looked for it among those who were not. */
    return !can_be_born(slot, keeper) && !can_be_born(slot, keeper) &&
           atomic_load_explicit(&slot->pid, memory_order_acquire) == 0;
}

bool liveness_is_dead(uint64_t member)
{
    struct slot *slot;
    uint32_t tenure;
    int32_t pid;

    if (LIVENESS_SLOT_OF(member) >= SF_PROCESS_LIMIT)
        return true;
    slot = slot_of(member);
    /* Acquire: pairs with the release in set_tenure; what the slot's new owner
     * wrote is visible once its tenure is. */
    tenure = atomic_load_explicit(&slot->tenure, memory_order_acquire);
    if (tenure >> 2 != LIVENESS_GENERATION_OF(member) || PHASE_OF(tenure) == FREE)
        return true;
    if (PHASE_OF(tenure) == CLAIMED)
        return false;
    /* Acquire: pairs with the release in move_in, by which the mutex is held.
     * Relaxed: constant since the family was founded. */
    if (PHASE_OF(tenure) == LIVE &&
        atomic_load_explicit(&slot->holder, memory_order_acquire) == MAIN_THREAD &&
        atomic_load_explicit(&registry->words_usable, memory_order_relaxed))
        /* Acquire: pairs with the kernel's store at the owner's death. */
        return atomic_load_explicit(life_word(slot), memory_order_acquire) & FUTEX_OWNER_DIED;
    /* Relaxed, both: a pid not seen yet only postpones the verdict. */
    pid = atomic_load_explicit(&slot->pid, memory_order_relaxed);
    if (pid == 0)
        return will_not_be_born(slot);
    return process_ended(pid, atomic_load_explicit(&slot->born_ns, memory_order_relaxed));
}

_Atomic uint32_t *liveness_watch(uint64_t member, uint32_t *value)
{
    struct slot *slot;
    _Atomic uint32_t *word;
    uint32_t seen;

    /* Relaxed: constant since the family was founded. */
    if (LIVENESS_SLOT_OF(member) >= SF_PROCESS_LIMIT ||
        !atomic_load_explicit(&registry->words_usable, memory_order_relaxed))
        return NULL;
    slot = slot_of(member);
    word = life_word(slot);
    /* Acquire: pairs with the release in move_in. */
    if (atomic_load_explicit(&slot->holder, memory_order_acquire) == NOBODY_YET) {
        *value = LIVENESS_UNBORN;
        return &slot->holder;
    }
    /* Acquire: pairs with the kernel's store at the owner's death. */
    seen = atomic_load_explicit(word, memory_order_acquire);
    if ((seen & FUTEX_TID_MASK) == 0 || (seen & FUTEX_OWNER_DIED))
        return NULL;
    /* The kernel wakes nobody unless this bit is set when the owner dies.
     * Acquire and release: pairs with the kernel's exchange on the same word. */
    while (!(seen & FUTEX_WAITERS)) {
        if (atomic_compare_exchange_weak_explicit(word, &seen, seen | FUTEX_WAITERS,
                                                  memory_order_acq_rel, memory_order_acquire))
            seen |= FUTEX_WAITERS;
        else if ((seen & FUTEX_TID_MASK) == 0 || (seen & FUTEX_OWNER_DIED))
            return NULL;
    }
    *value = seen;
    return word;
}

/* ----------------------------------------------------------------- slots */

/* Move a slot from one tenure to the next; false when somebody else did. */
static bool set_tenure(struct slot *slot, uint32_t from, uint32_t to)
{
    /* Release: pairs with the acquire in liveness_is_dead, so that a tenure
     * comes with what its owner wrote. Acquire: the new owner sees the slot as
     * the last one left it. */
    return atomic_compare_exchange_strong_explicit(&slot->tenure, &from, to, memory_order_acq_rel,
                                                   memory_order_relaxed);
}

/* A slot that is in use by nobody who could still want it: its process is
 * dead, and so is the parent that would have read its exit record, if any. */
static bool is_abandoned(uint32_t index, uint32_t tenure)
{
    struct slot *slot = &registry->slots[index];
    uint64_t keeper;

    if (PHASE_OF(tenure) == FREE || !liveness_is_dead((uint64_t)(tenure >> 2) << 16 | index))
        return false;
    /* Relaxed, both: written before the tenure that the caller acquired. */
    keeper = atomic_load_explicit(&slot->keeper, memory_order_relaxed);
    return keeper == 0 || atomic_load_explicit(&slot->unasked, memory_order_relaxed) ||
           (keeper != liveness_self() && liveness_is_dead(keeper));
}

/* Walks over all slots now reach this one. */
static void count_slot(uint32_t index)
{
    /* Relaxed: a bound for walks, monotonic; a walk that misses the newest
     * slot is a walk that ran a moment earlier. */
    uint32_t count = atomic_load_explicit(&registry->slot_count, memory_order_relaxed);

    while (count <= index &&
           !atomic_compare_exchange_weak_explicit(&registry->slot_count, &count, index + 1,
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}

/* Returns 0, or -EBUSY when another process was quicker, or why a slot that was
 * never used before cannot be. */
static int reserve_slot(uint32_t index, uint32_t tenure, uint64_t keeper, uint64_t *member)
{
    struct slot *slot = &registry->slots[index];
    uint32_t generation = (tenure >> 2) + 1;
    int rc = 0;

    if (generation >= GENERATION_LIMIT)
        generation = 1;
    if (!set_tenure(slot, tenure, TENURE(generation, CLAIMED)))
        return -EBUSY;
    if (tenure == 0) /* later owners lock what the last one died with */
        rc = liveness_init_lock(&slot->life, PTHREAD_MUTEX_NORMAL);
    if (rc < 0) {
        set_tenure(slot, TENURE(generation, CLAIMED), tenure);
        return rc;
    }
    /* Relaxed, all: the slot is ours alone until it is published by set_tenure. */
    atomic_store_explicit(&slot->pid, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->born_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->keeper, keeper, memory_order_relaxed);
    atomic_store_explicit(&slot->holder, NOBODY_YET, memory_order_relaxed);
    atomic_store_explicit(&slot->unasked, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->exit_recorded, 0, memory_order_relaxed);
    set_tenure(slot, TENURE(generation, CLAIMED), TENURE(generation, RESERVED));
    count_slot(index);
    *member = (uint64_t)generation << 16 | index;
    return 0;
}

/* The lowest free slot; walks stay short that way. When there is none, the
 * lowest abandoned one. */
static int find_slot(uint64_t keeper, uint64_t *member)
{
    int rc;

    for (int sweep = 0; sweep < 2; sweep++) {
        for (uint32_t index = 0; index < SF_PROCESS_LIMIT; index++) {
            /* Acquire: pairs with the release in set_tenure. */
            uint32_t tenure =
                atomic_load_explicit(&registry->slots[index].tenure, memory_order_acquire);

            if (PHASE_OF(tenure) != FREE && (sweep == 0 || !is_abandoned(index, tenure)))
                continue;
            rc = reserve_slot(index, tenure, keeper, member);
            if (rc != -EBUSY)
                return rc;
        }
    }
    return -EAGAIN;
}

/* Take possession of a reserved slot: say so, then hold its life mutex. False
 * when it was taken away, because whoever reserved it died before we could.
 * Until the mutex is held the verdict about us is the pid's. */
static bool move_in(uint64_t member)
{
    struct slot *slot = slot_of(member);
    pid_t thread = (pid_t)syscall(SYS_gettid);
    uint32_t generation = LIVENESS_GENERATION_OF(member);
    uint32_t word;

    /* Relaxed, all: published by set_tenure, or of interest to nobody else. */
    atomic_store_explicit(&slot->pid, getpid(), memory_order_relaxed);
    atomic_store_explicit(&slot->born_ns, boot_time_ns(), memory_order_relaxed);
    if (!set_tenure(slot, TENURE(generation, RESERVED), TENURE(generation, LIVE)))
        return false;
    if (pthread_mutex_lock(&slot->life) == EOWNERDEAD)
        pthread_mutex_consistent(&slot->life);
    word = atomic_load_explicit(life_word(slot), memory_order_relaxed);
    if ((word & FUTEX_TID_MASK) != (uint32_t)thread)
        atomic_store_explicit(&registry->words_usable, 0, memory_order_relaxed);
    /* Release: pairs with the acquire in liveness_is_dead; whoever finds that
     * the main thread holds the mutex finds it held. */
    atomic_store_explicit(&slot->holder, thread == getpid() ? MAIN_THREAD : OTHER_THREAD,
                          memory_order_release);
    syscall(SYS_futex, &slot->holder, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
    atomic_store_explicit(&self, member, memory_order_relaxed);
    return true;
}

/* Be a member: in the slot reserved for us, if there is one, or in another. */
static int settle(uint64_t member)
{
    int rc = 0;

    while (rc == 0 && (member == 0 || !move_in(member)))
        rc = find_slot(0, &member);
    return rc;
}

void liveness_reserve_again(uint64_t member)
{
    struct slot *slot = slot_of(member);
    uint32_t generation = LIVENESS_GENERATION_OF(member);

    /* Relaxed, all: nobody else changes a slot that its keeper still keeps;
     * published by set_tenure, or before the next fork. */
    atomic_store_explicit(&slot->pid, 0, memory_order_relaxed);
    atomic_store_explicit(&slot->holder, NOBODY_YET, memory_order_relaxed);
    atomic_store_explicit(&slot->exit_recorded, 0, memory_order_relaxed);
    set_tenure(slot, TENURE(generation, LIVE), TENURE(generation, RESERVED));
}

void liveness_release(uint64_t member)
{
    struct slot *slot = slot_of(member);
    uint32_t generation = LIVENESS_GENERATION_OF(member);

    /* Relaxed: nobody else changes a slot that its keeper still keeps. */
    atomic_store_explicit(&slot->keeper, 0, memory_order_relaxed);
    if (!set_tenure(slot, TENURE(generation, LIVE), TENURE(generation, FREE)))
        set_tenure(slot, TENURE(generation, RESERVED), TENURE(generation, FREE));
}

/* ------------------------------------------------------------------ fork */

static void before_fork(void)
{
    pthread_mutex_lock(&founding);
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&founding);
    if (adopting_unasked) {
        /* Relaxed: who sees it late postpones its verdict. */
        atomic_store_explicit(&slot_of(adopting)->forked_by_ns, boot_time_ns(),
                              memory_order_relaxed);
        adopting = 0;
        adopting_unasked = false;
    }
}

/* A child is a member from its first instruction: the slot that its parent
 * reserved, or one it finds itself after a fork that we were not asked for. */
static void after_fork_in_child(void)
{
    uint64_t member = adopting;

    pthread_mutex_unlock(&founding);
    adopting = 0;
    adopting_unasked = false;
    /* Relaxed: the child has one thread. */
    atomic_store_explicit(&self, 0, memory_order_relaxed);
    if (registry != NULL)
        settle(member);
}

static struct fork_handlers handlers = {before_fork, after_fork_in_parent, after_fork_in_child, 0};

/* Not by pthread_once, which cannot be told that it failed. A process forked
 * while a thread was at it does not wait for that thread. */
int liveness_handle_forks(struct fork_handlers *wanted)
{
    pid_t self_pid = getpid(), installer = 0;
    int rc;

    /* Acquire, release: pairs with each other; who finds the handlers
     * installed finds them known to the C library. */
    while (!atomic_compare_exchange_strong_explicit(&wanted->installer, &installer, self_pid,
                                                    memory_order_acquire, memory_order_acquire)) {
        if (installer == HANDLERS_INSTALLED)
            return 0;
        if (installer == self_pid) {
            sched_yield();
            installer = 0;
        }
    }
    rc = pthread_atfork(wanted->before, wanted->in_parent, wanted->in_child);
    atomic_store_explicit(&wanted->installer, rc == 0 ? HANDLERS_INSTALLED : 0,
                          memory_order_release);
    return -rc;
}

static int found_family(void)
{
    void *memory = mmap(NULL, sizeof *registry, PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        return -ENOMEM;
    registry = memory;
    /* Relaxed: nobody else has the page yet. */
    atomic_store_explicit(&registry->words_usable, 1, memory_order_relaxed);
    return 0;
}

int liveness_join(void)
{
    int rc;

    if (liveness_self() != 0)
        return 0;
    rc = liveness_handle_forks(&handlers);
    if (rc < 0)
        return rc;
    pthread_mutex_lock(&founding);
    if (registry == NULL)
        rc = found_family();
    if (rc == 0 && liveness_self() == 0)
        rc = settle(0);
    pthread_mutex_unlock(&founding);
    return rc;
}

uint64_t liveness_self(void)
{
    /* Relaxed: pairs with move_in, which explains it. */
    return atomic_load_explicit(&self, memory_order_relaxed);
}

int liveness_reserve(uint64_t *member)
{
    int rc = liveness_join();

    return rc < 0 ? rc : find_slot(liveness_self(), member);
}

void liveness_adopt(uint64_t member)
{
    adopting = member;
}

/* A slot that a failed fork leaves reserved is lost until this process ends;
 * the parent's handler is not told whether there is a child. */
uint64_t liveness_expected(void)
{
    if (adopting == 0 && liveness_self() != 0 && find_slot(liveness_self(), &adopting) == 0) {
        /* Relaxed, all: looked at when the last of them is set, after the fork. */
        atomic_store_explicit(&slot_of(adopting)->born_ns, boot_time_ns(), memory_order_relaxed);
        atomic_store_explicit(&slot_of(adopting)->forked_by_ns, 0, memory_order_relaxed);
        atomic_store_explicit(&slot_of(adopting)->unasked, 1, memory_order_relaxed);
        adopting_unasked = true;
    }
    return adopting;
}

void liveness_set_pid(uint64_t member, pid_t pid)
{
    /* Relaxed: the child stores the same number; whoever reads 0 meanwhile
     * postpones its verdict. */
    atomic_store_explicit(&slot_of(member)->pid, pid, memory_order_relaxed);
}

uint32_t liveness_slot_count(void)
{
    /* Relaxed: pairs with reserve_slot, which explains it. */
    return registry == NULL ? 0 : atomic_load_explicit(&registry->slot_count, memory_order_relaxed);
}

/* ----------------------------------------------------------- exit record */

void liveness_record_exit(int status)
{
    struct slot *slot;

    if (liveness_self() == 0)
        return;
    slot = slot_of(liveness_self());
    /* Relaxed, then release: pairs with the acquire in liveness_exit_record. */
    atomic_store_explicit(&slot->exit_status, status, memory_order_relaxed);
    atomic_store_explicit(&slot->exit_recorded, 1, memory_order_release);
}

bool liveness_exit_record(uint64_t member, int *status)
{
    struct slot *slot = slot_of(member);

    /* Acquire: pairs with the release in liveness_record_exit. */
    if (!atomic_load_explicit(&slot->exit_recorded, memory_order_acquire))
        return false;
    /* Relaxed: ordered by the acquire above. */
    *status = atomic_load_explicit(&slot->exit_status, memory_order_relaxed);
    return true;
}
