/* SPDX-License-Identifier: MIT */
/* An eventcount with one bit per process.
 *
 *     waiter: s = sequence; set bit; FENCE; look again; sleep while sequence == s
 *     waker:  publish;              FENCE; any bit?     sequence += 1; wake
 *
 * The two fences order each side's store before its load (Dekker), so either
 * the waiter sees what was published or the waker sees the bit. The sequence
 * closes the gap between looking and sleeping.
 *
 * Bits, because they can be set and cleared twice without harm: a process that
 * died asleep leaves one that anybody may clear. A counter would stay too high
 * for ever; a single flag, cleared by the first to wake, loses the wake-up of
 * the second. Slots beyond the last bit share it; it is never cleared, and
 * costs its wakers a futile system call.
 *
 * Nobody sleeps longer than a slice without looking again. That bounds what is
 * lost when a process dies between being woken and acting on it.
 *
 * Looking before sleeping is worth 200x when the answer comes at once from
 * another CPU and costs twice the time when it does not. So how long to look is
 * learnt: the waker stamps the time, the woken knows how long it would have
 * had to look (h) and what being woken cost (w). h < 2.5 w: look that long next
 * time; else half as long. The kernel's halt polling learns the same way.
 */
#define _GNU_SOURCE
#include "park.h"

#include "kill_point.h"
#include "sanitizer.h"
#include "snakefish.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

#define SPIN_LIMIT_NS 100000

/* As in include/uapi/linux/futex.h since 5.16, which older headers lack. */
struct kernel_futex_waitv {
    uint64_t value;
    uint64_t address;
    uint32_t flags;
    uint32_t reserved;
};
#define KERNEL_FUTEX_32 2

static _Atomic bool waitv_missing; /* ENOSYS, or EPERM of an old seccomp filter */

static uint32_t bit_of(uint32_t slot)
{
    return slot < PARK_BIT_COUNT - 1 ? slot : PARK_BIT_COUNT - 1;
}

/* ------------------------------------------------------------------ spin */

void park_pause(void)
{
    for (int pause = 0; pause < 8; pause++) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb"); /* `yield` does nothing on most cores */
#endif
    }
}

bool park_spin(struct park_place *place, bool (*ready)(void *), void *subject)
{
    /* Relaxed: a statistic. */
    int64_t budget_ns = atomic_load_explicit(&place->spin_ns, memory_order_relaxed);
    int64_t until_ns;

    if (budget_ns <= 0)
        return false;
    until_ns = sf_clock_now_ns() + budget_ns;
    do {
        for (int look = 0; look < 4; look++) {
            if (ready(subject))
                return true;
            park_pause();
        }
    } while (sf_clock_now_ns() < until_ns);
    return false;
}

static void learn(struct park_word *word, struct park_place *place, int64_t began_ns)
{
    /* Relaxed, all: statistics; a torn pair of times teaches one odd lesson. */
    int64_t signalled_ns = atomic_load_explicit(&word->signalled_ns, memory_order_relaxed);
    int64_t spin_ns = atomic_load_explicit(&place->spin_ns, memory_order_relaxed);
    int64_t now_ns = sf_clock_now_ns();
    int64_t would_have_ns, waking_ns;

    if (signalled_ns < began_ns || signalled_ns > now_ns)
        signalled_ns = began_ns; /* of an earlier wake-up */
    would_have_ns = signalled_ns - began_ns;
    waking_ns = now_ns - signalled_ns;
    if (would_have_ns < SPIN_LIMIT_NS && 2 * would_have_ns < 5 * waking_ns)
        spin_ns = 2 * would_have_ns + 1000;
    else
        spin_ns /= 2;
    atomic_store_explicit(&place->spin_ns, spin_ns < SPIN_LIMIT_NS ? spin_ns : SPIN_LIMIT_NS,
                          memory_order_relaxed);
}

/* ----------------------------------------------------------------- sleep */

uint32_t park_prepare(struct park_word *word, struct park_place *place, uint32_t slot)
{
    uint32_t bit = bit_of(slot);
    /* Acquire: what the last waker published is visible to the look that
     * follows; pairs with the release in park_wake. */
    uint32_t sequence = atomic_load_explicit(&word->sequence, memory_order_acquire);

    /* Sequentially consistent: pairs with the second look in park_leave, by
     * which the bit outlives the last but one thread. */
    atomic_fetch_add_explicit(&place->parked, 1, memory_order_seq_cst);
    /* Sequentially consistent: the fence of a waiter; pairs with park_wake. */
    atomic_fetch_or_explicit(&word->waiting[bit / 64], UINT64_C(1) << (bit % 64),
                             memory_order_seq_cst);
    SF_KILL_POINT();
    return sequence;
}

void park_leave(struct park_word *word, struct park_place *place, uint32_t slot)
{
    uint32_t bit = bit_of(slot);
    uint64_t mask = UINT64_C(1) << (bit % 64);

    /* Sequentially consistent, all: the bit stands for all threads of this
     * process. Another may have come between our count and our clearing; then
     * it is set again, and everyone looks again. Pairs with park_prepare. */
    if (atomic_fetch_sub_explicit(&place->parked, 1, memory_order_seq_cst) != 1 ||
        bit == PARK_BIT_COUNT - 1)
        return;
    atomic_fetch_and_explicit(&word->waiting[bit / 64], ~mask, memory_order_seq_cst);
    if (atomic_load_explicit(&place->parked, memory_order_seq_cst) > 0) {
        atomic_fetch_or_explicit(&word->waiting[bit / 64], mask, memory_order_seq_cst);
        park_wake(word, true);
    }
}

static struct timespec to_timespec(int64_t ns)
{
    struct timespec time = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

    return time;
}

/* FUTEX_WAIT_BITSET takes an absolute time of CLOCK_MONOTONIC, futex(2). */
static int wait_one(struct park_word *word, uint32_t sequence, int64_t until_ns)
{
    struct timespec until = to_timespec(until_ns);

    return syscall(SYS_futex, &word->sequence, FUTEX_WAIT_BITSET, sequence, &until, NULL,
                   FUTEX_BITSET_MATCH_ANY) < 0
               ? -errno
               : 0;
}

static int wait_any(struct park_word *word, uint32_t sequence, int64_t until_ns,
                    const struct park_watch *watch)
{
    struct kernel_futex_waitv waits[PARK_WATCH_COUNT + 1];
    struct timespec until = to_timespec(until_ns);

    waits[0] =
        (struct kernel_futex_waitv){sequence, (uintptr_t)&word->sequence, KERNEL_FUTEX_32, 0};
    for (uint32_t i = 0; i < watch->count; i++)
        waits[i + 1] = (struct kernel_futex_waitv){watch->values[i], (uintptr_t)watch->words[i],
                                                   KERNEL_FUTEX_32, 0};
    return syscall(SYS_futex_waitv, waits, watch->count + 1, 0, &until, CLOCK_MONOTONIC) < 0
               ? -errno
               : 0;
}

static int wait_watching(struct park_word *word, uint32_t sequence, int64_t until_ns,
                         const struct park_watch *watch)
{
    int rc;

    /* Relaxed, both: a fact about the kernel, learnt by each thread if need be. */
    if (watch == NULL || watch->count == 0 ||
        atomic_load_explicit(&waitv_missing, memory_order_relaxed))
        return wait_one(word, sequence, until_ns);
    rc = wait_any(word, sequence, until_ns, watch);
    if (rc != -ENOSYS && rc != -EPERM)
        return rc;
    atomic_store_explicit(&waitv_missing, true, memory_order_relaxed);
    return wait_one(word, sequence, until_ns);
}

int park_sleep(struct park_word *word, struct park_place *place, uint32_t sequence,
               int64_t began_ns, int64_t until_ns, const struct park_watch *watch)
{
    int64_t slice_end_ns =
        sf_clock_now_ns() + (watch && watch->unborn ? PARK_BIRTH_SLICE_NS : PARK_SLICE_NS);
    int rc =
        wait_watching(word, sequence, until_ns < slice_end_ns ? until_ns : slice_end_ns, watch);

    SF_KILL_POINT();
    if (rc == -EINTR || rc == -ETIMEDOUT)
        return rc;
    if (rc == 0)
        learn(word, place, began_ns);
    return 0;
}

bool park_slice_is_over(int64_t *slice_end_ns)
{
    int64_t now_ns = sf_clock_now_ns();

    if (*slice_end_ns == 0)
        *slice_end_ns = now_ns + PARK_SLICE_NS;
    return now_ns >= *slice_end_ns;
}

/* ------------------------------------------------------------------ wake */

bool park_is_awaited(struct park_word *word)
{
    uint64_t any = 0;

#ifdef UNDER_THREAD_SANITIZER
    for (int i = 0; i < PARK_BIT_COUNT / 64; i++)
        /* Sequentially consistent: the fence of a waker, see below. */
        any |= atomic_fetch_or_explicit(&word->waiting[i], 0, memory_order_seq_cst);
#else
    /* The fence of a waker: what was published before is visible to whoever
     * sets its bit after we looked; pairs with park_prepare. */
    atomic_thread_fence(memory_order_seq_cst);
    for (int i = 0; i < PARK_BIT_COUNT / 64; i++)
        /* Relaxed: ordered by the fence. */
        any |= atomic_load_explicit(&word->waiting[i], memory_order_relaxed);
#endif
    return any != 0;
}

static void wake(struct park_word *word, bool everyone)
{
    SF_KILL_POINT();
    /* Relaxed: a statistic; visible with the sequence below. */
    atomic_store_explicit(&word->signalled_ns, sf_clock_now_ns(), memory_order_relaxed);
    /* Release: pairs with the acquire in park_prepare. */
    atomic_fetch_add_explicit(&word->sequence, 1, memory_order_release);
    SF_KILL_POINT();
    syscall(SYS_futex, &word->sequence, FUTEX_WAKE, everyone ? INT_MAX : 1, NULL, NULL, 0);
}

void park_wake(struct park_word *word, bool everyone)
{
    if (park_is_awaited(word))
        wake(word, everyone);
}

void park_wake_watched(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE, INT_MAX, NULL, NULL, 0);
}

void park_forget(struct park_word *word, uint32_t slot)
{
    uint32_t bit = bit_of(slot);

    if (bit == PARK_BIT_COUNT - 1)
        return;
    /* Sequentially consistent: whoever has the slot by now either sets its bit
     * again afterwards or finds the sequence moved on. */
    atomic_fetch_and_explicit(&word->waiting[bit / 64], ~(UINT64_C(1) << (bit % 64)),
                              memory_order_seq_cst);
    wake(word, true);
}
