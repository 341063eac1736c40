/* SPDX-License-Identifier: MIT */
/* One sender and one receiver at a time.
 *
 * Each side has a robust mutex. It is held for one bounded piece of work, a
 * copy of 128 KiB at most, and never while waiting or while the caller's
 * interpreter runs. When its holder dies the kernel says so to the next one,
 * who has only to free segments, because the single store that publishes or
 * consumes either happened or did not (ring.c).
 *
 * Rejected: semaphores and condition variables, which have no owner, so that
 * everything built on them waits for the dead for ever; a recovery after some
 * time, which is a guess about a process that may merely be slow.
 */
#define _GNU_SOURCE
#include "channel.h"
#include "sanitizer.h"

#include <time.h>

#if defined(__GLIBC_PREREQ) && !defined(UNDER_THREAD_SANITIZER)
#if __GLIBC_PREREQ(2, 30)
#define HAS_CLOCKLOCK
#endif
#endif

#define LOCK_SLICE_NS INT64_C(50000000)

/* Returns 0, EOWNERDEAD with the lock held, or another error number. A holder
 * is at work for microseconds, unless it was stopped: hence the slice. */
static int lock_in_slice(pthread_mutex_t *lock)
{
    struct timespec until;
    int64_t until_ns;
    int rc = pthread_mutex_trylock(lock);

    if (rc != EBUSY)
        return rc;
#ifdef HAS_CLOCKLOCK
    until_ns = sf_clock_now_ns() + LOCK_SLICE_NS;
    until.tv_sec = until_ns / 1000000000;
    until.tv_nsec = until_ns % 1000000000;
    return pthread_mutex_clocklock(lock, CLOCK_MONOTONIC, &until);
#else
    clock_gettime(CLOCK_REALTIME, &until);
    until_ns = until.tv_nsec + LOCK_SLICE_NS;
    until.tv_sec += until_ns / 1000000000;
    until.tv_nsec = until_ns % 1000000000;
    return pthread_mutex_timedlock(lock, &until);
#endif
}

/* What taking a lock came to: mend what its holder left if it died, and say it
 * in our terms. */
static int settle(struct ring *ring, pthread_mutex_t *lock, void (*recover)(struct ring *), int rc)
{
    if (rc == EOWNERDEAD) {
        SF_KILL_POINT();
        recover(ring);
        SF_KILL_POINT();
        rc = pthread_mutex_consistent(lock);
    }
    if (rc == ETIMEDOUT || rc == EBUSY)
        return -EINTR;
    return rc == 0 ? 0 : -EBADMSG;
}

int channel_lock_sending(struct sf_channel *channel)
{
    pthread_mutex_t *lock = &channel->region->sending.lock;

    return settle(&channel->ring, lock, ring_recover_sender, lock_in_slice(lock));
}

int channel_try_lock_sending(struct sf_channel *channel)
{
    pthread_mutex_t *lock = &channel->region->sending.lock;

    return settle(&channel->ring, lock, ring_recover_sender, pthread_mutex_trylock(lock));
}

int channel_lock_receiving(struct sf_channel *channel)
{
    pthread_mutex_t *lock = &channel->region->receiving.lock;

    return settle(&channel->ring, lock, ring_recover_receiver, lock_in_slice(lock));
}

void channel_unlock_sending(struct sf_channel *channel)
{
    SF_KILL_POINT();
    pthread_mutex_unlock(&channel->region->sending.lock);
    SF_KILL_POINT();
}

void channel_unlock_receiving(struct sf_channel *channel)
{
    SF_KILL_POINT();
    pthread_mutex_unlock(&channel->region->receiving.lock);
    SF_KILL_POINT();
}
