/* SPDX-License-Identifier: MIT */
/* A dispenser of consecutive numbers, shared by forked processes.
 *
 *     limit, stopped | next | takers: {first, count} {first, count} ...
 *
 * `next` is the only word that two takers write. What a taker holds is a
 * note for whoever looks after it died: it is written by the taker alone, the
 * count last, so a note with a count is a whole note. A taker killed between
 * the two leaves a count of zero and numbers that nobody holds; its reader
 * finds those as what was handed out, is not held and was not delivered.
 */
#define _GNU_SOURCE
#include "snakefish.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

struct note {
    _Alignas(64) _Atomic uint64_t first;
    _Atomic uint64_t count;
};

struct sf_counter {
    uint64_t limit;
    size_t mapped_size;
    uint32_t taker_count;
    _Atomic uint32_t stopped;
    _Alignas(64) _Atomic uint64_t next;
    struct note notes[];
};

int sf_counter_create(uint64_t limit, uint32_t takers, struct sf_counter **counter)
{
    size_t size = sizeof(struct sf_counter) + takers * sizeof(struct note);
    struct sf_counter *made;

    /* However many takers overshoot the limit at once, `next` does not wrap. */
    if (takers == 0 || limit > UINT64_C(1) << 48)
        return -EINVAL;
    made = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (made == MAP_FAILED)
        return -ENOMEM;
    made->limit = limit;
    made->mapped_size = size;
    made->taker_count = takers;
    *counter = made;
    return 0;
}

int64_t sf_counter_take(struct sf_counter *counter, uint32_t taker, uint64_t want)
{
    struct note *note;
    uint64_t first, count;

    if (taker >= counter->taker_count || want == 0)
        return -EINVAL;
    if (want > counter->limit)
        want = counter->limit;
    note = &counter->notes[taker];
    /* Release: a reader that sees the old numbers gone must not see the new
     * `first` beside the old `count`; pairs with the acquire in held. */
    atomic_store_explicit(&note->count, 0, memory_order_release);
    /* Relaxed: a stop that is not seen yet lets one more take through, as a
     * moment earlier; pairs with the store in stop. */
    if (atomic_load_explicit(&counter->stopped, memory_order_relaxed))
        return -ENODATA;
    /* Relaxed: the number itself is all that is handed over. The test keeps
     * `next` from wrapping, however often an empty counter is asked. */
    if (atomic_load_explicit(&counter->next, memory_order_relaxed) >= counter->limit)
        return -ENODATA;
    /* Relaxed, as above: uniqueness comes from the addition being atomic. */
    first = atomic_fetch_add_explicit(&counter->next, want, memory_order_relaxed);
    if (first >= counter->limit)
        return -ENODATA;
    count = counter->limit - first < want ? counter->limit - first : want;
    /* Relaxed first, release count: pairs with the acquire in held. */
    atomic_store_explicit(&note->first, first, memory_order_relaxed);
    atomic_store_explicit(&note->count, count, memory_order_release);
    return (int64_t)first;
}

int64_t sf_counter_held(const struct sf_counter *counter, uint32_t taker, uint64_t *first)
{
    uint64_t count;

    if (taker >= counter->taker_count)
        return -EINVAL;
    /* Acquire: pairs with the release of `count` in take, so that `first` is
     * the one that belongs to it. */
    count = atomic_load_explicit(&counter->notes[taker].count, memory_order_acquire);
    if (count > 0)
        /* Relaxed: ordered by the acquire above. */
        *first = atomic_load_explicit(&counter->notes[taker].first, memory_order_relaxed);
    return (int64_t)count;
}

uint64_t sf_counter_taken(const struct sf_counter *counter)
{
    /* Relaxed: a plain number; pairs with the addition in take. */
    uint64_t next = atomic_load_explicit(&counter->next, memory_order_relaxed);

    return next < counter->limit ? next : counter->limit;
}

void sf_counter_stop(struct sf_counter *counter)
{
    /* Relaxed: pairs with the load in take, which explains itself. `next`
     * stays true, for whoever counts what was handed out. */
    atomic_store_explicit(&counter->stopped, 1, memory_order_relaxed);
}

void sf_counter_destroy(struct sf_counter *counter)
{
    if (counter != NULL)
        munmap(counter, counter->mapped_size);
}
