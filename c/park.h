/* SPDX-License-Identifier: MIT */
/* Private. Sleeping until another process says that something changed.
 *
 * A waiter prepares, looks once more whether it has to wait at all, sleeps,
 * leaves. A waker publishes what it has to say, asks whether anybody waits, and
 * wakes.
 */
#ifndef SNAKEFISH_PARK_H
#define SNAKEFISH_PARK_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PARK_BIT_COUNT 256
#define PARK_WATCH_COUNT 126
#define PARK_SLICE_NS INT64_C(100000000)
#define PARK_BIRTH_SLICE_NS INT64_C(1000000)

/* In shared memory; all zero is "nobody waits". */
struct park_word {
    _Alignas(128) _Atomic uint32_t sequence; /* the futex */
    _Atomic uint64_t waiting[PARK_BIT_COUNT / 64];
    _Atomic int64_t signalled_ns;
};

/* What one process keeps about a word. */
struct park_place {
    _Atomic uint32_t parked; /* its threads between prepare and leave */
    _Atomic int64_t spin_ns; /* learnt: how long looking pays before sleeping */
};

/* Other words to be woken by, with the values they must still have. */
struct park_watch {
    _Atomic uint32_t *words[PARK_WATCH_COUNT];
    uint32_t values[PARK_WATCH_COUNT];
    uint32_t count;
    bool unborn; /* one is of a process not born yet, whose death would wake nobody */
};

/* Some hundred nanoseconds between two looks: each takes the line that the
 * other side is about to write out of its cache. */
void park_pause(void);

/* Look for as long as has paid off lately. True when `ready` came true. */
bool park_spin(struct park_place *place, bool (*ready)(void *), void *subject);

/* Say that this process, by its slot, waits; returns what park_sleep needs. */
uint32_t park_prepare(struct park_word *word, struct park_place *place, uint32_t slot);
void park_leave(struct park_word *word, struct park_place *place, uint32_t slot);

/* Sleep until woken, at most until `until_ns` and at most PARK_SLICE_NS, or
 * PARK_BIRTH_SLICE_NS while somebody watched is not born.
 * `began_ns` is when the caller began to wait: what it learns from.
 *
 * Returns 0 when woken, or when there was reason not to sleep; -EINTR after a
 * signal; -ETIMEDOUT at the end of the time or the slice. */
int park_sleep(struct park_word *word, struct park_place *place, uint32_t sequence,
               int64_t began_ns, int64_t until_ns, const struct park_watch *watch);

/* Does anybody wait? To be asked after publishing: whatever was stored before
 * is visible to whoever prepares after a no. */
bool park_is_awaited(struct park_word *word);

/* Wake one waiter, or everyone, if anybody waits. */
void park_wake(struct park_word *word, bool everyone);

/* Has a caller that does not sleep been at it for a whole slice? The first call
 * begins it, with *slice_end_ns 0. */
bool park_slice_is_over(int64_t *slice_end_ns);

/* A process died: nobody is to be woken on its behalf. Everyone is now, with or
 * without a bit: another process may have the slot by now, and sleep. */
void park_forget(struct park_word *word, uint32_t slot);

/* Let other sleepers on a watched word see for themselves. */
void park_wake_watched(_Atomic uint32_t *word);

#endif
