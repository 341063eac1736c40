/* SPDX-License-Identifier: MIT */
/* The machine's fastest counter, and the clock that deadlines are made of.
 *
 * The time-stamp counter is read with rdtsc, which is not ordered against
 * other instructions. Causality along a message needs no more than that: the
 * lock and the release store of a send lie between two readings. A caller who
 * times single instructions wants the serialized form: lfence waits for all
 * earlier instructions and lets no later one start (Intel SDM volume 2,
 * LFENCE; AMD APM volume 3 with MSR C001_1029[1] set, as Linux does).
 */
#define _GNU_SOURCE
#include "snakefish.h"

#include <errno.h>
#include <stdatomic.h>
#include <time.h>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

int64_t sf_clock_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#if defined(__x86_64__)

uint64_t sf_clock_ticks(void)
{
    return __rdtsc();
}

uint64_t sf_clock_ticks_serialized(void)
{
    uint64_t ticks;

    _mm_lfence();
    ticks = __rdtsc();
    _mm_lfence();
    /* Compiler fence: keeps the caller's loads and stores on their side of
     * the reading; pairs with nothing, the processor is held by lfence. */
    atomic_signal_fence(memory_order_seq_cst);
    return ticks;
}

const char *sf_clock_source(void)
{
    return "tsc";
}

#elif defined(__aarch64__)

uint64_t sf_clock_ticks(void)
{
    uint64_t ticks;

    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
}

uint64_t sf_clock_ticks_serialized(void)
{
    uint64_t ticks;

    /* isb on both sides: cntvct_el0 may be read speculatively and early
     * (Arm ARM, D11.2.2). */
    __asm__ volatile("isb\n\tmrs %0, cntvct_el0\n\tisb" : "=r"(ticks) : : "memory");
    return ticks;
}

const char *sf_clock_source(void)
{
    return "cntvct";
}

#else

uint64_t sf_clock_ticks(void)
{
    return (uint64_t)sf_clock_now_ns();
}

uint64_t sf_clock_ticks_serialized(void)
{
    /* Pairs with nothing: keeps the compiler from moving accesses over the
     * clock's system call or vDSO read. */
    atomic_signal_fence(memory_order_seq_cst);
    return (uint64_t)sf_clock_now_ns();
}

const char *sf_clock_source(void)
{
    return "monotonic";
}

#endif

/* Both clocks at one moment. The tightest of a few attempts wins, because an
 * interrupt between the two readings would enter the calibration whole. */
static int64_t read_both(uint64_t *ticks)
{
    uint64_t narrowest = UINT64_MAX;
    int64_t best_ns = 0;

    *ticks = 0;
    for (int attempt = 0; attempt < 8; attempt++) {
        uint64_t before = sf_clock_ticks_serialized();
        int64_t now_ns = sf_clock_now_ns();
        uint64_t width = sf_clock_ticks_serialized() - before;

        if (width < narrowest) {
            narrowest = width;
            best_ns = now_ns;
            *ticks = before + width / 2;
        }
    }
    return best_ns;
}

int sf_clock_calibrate(int64_t duration_ns, double *ns_per_tick)
{
    struct timespec duration;
    uint64_t first_ticks, last_ticks;
    int64_t first_ns, last_ns;

    if (duration_ns <= 0)
        return -EINVAL;
    duration.tv_sec = duration_ns / 1000000000;
    duration.tv_nsec = duration_ns % 1000000000;
    first_ns = read_both(&first_ticks);
    if (clock_nanosleep(CLOCK_MONOTONIC, 0, &duration, NULL) != 0)
        return -EINTR;
    last_ns = read_both(&last_ticks);
    if (last_ticks <= first_ticks)
        return -EINVAL;
    *ns_per_tick = (double)(last_ns - first_ns) / (double)(last_ticks - first_ticks);
    return 0;
}
