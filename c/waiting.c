/* SPDX-License-Identifier: MIT */
/* Waiting for the other side, and waking it.
 *
 * A waiter looks for a while if that has paid off lately, then prepares to
 * sleep, looks at everything that could make sleeping wrong, and sleeps on the
 * channel's word and the life words of those it waits for (park.c, liveness.c).
 */
#define _GNU_SOURCE
#include "channel.h"

#define DISTANCE_PAUSES 32 /* some 10 µs */

/* Both look for waiters first: the other side's words are in its processor's
 * cache, and a message costs twice as much when they are fetched each time. */

void channel_wake_receivers(struct sf_channel *channel, bool several)
{
    if (!park_is_awaited(&channel->region->data))
        return;
    /* While a message is half received only one process can go on, and a
     * single wake-up might go to another. */
    park_wake(&channel->region->data,
              several || channel_stream_owner(&channel->region->receiving.stream) != 0);
}

/* Senders are woken once a quarter is free, all of them, since they wait for
 * room of different sizes; and one that is far ahead when it can go on. Waking
 * at every message would make a full channel a switch of processes per message. */
void channel_wake_senders(struct sf_channel *channel)
{
    if (park_is_awaited(&channel->region->space) &&
        ring_used(&channel->ring) <= channel->ring.limit - channel->ring.limit / 4 &&
        /* Relaxed: an older one is not greater; pairs with the store in wait_for_receivers. */
        ring_is_consumed(&channel->ring,
                         atomic_load_explicit(&channel->region->wake_at, memory_order_relaxed)))
        park_wake(&channel->region->space, true);
}

void channel_wake_everybody(struct sf_channel *channel)
{
    park_wake(&channel->region->data, true);
    park_wake(&channel->region->space, true);
}

bool channel_has_data(void *subject)
{
    struct waiting *waiting = subject;

    return !channel_is_empty(waiting->channel) &&
           !channel_is_held_by_other(&waiting->channel->region->receiving.stream);
}

bool channel_has_space(void *subject)
{
    struct waiting *waiting = subject;
    struct sf_channel *channel = waiting->channel;

    return ring_may_have_room(&channel->ring, waiting->need) &&
           (waiting->thread != 0 || channel_stream_owner(&channel->region->sending.stream) == 0);
}

bool channel_is_consumed(void *subject)
{
    struct waiting *waiting = subject;

    return ring_is_consumed(&waiting->channel->ring, waiting->need);
}

/* Give recycled segments back while nothing happens. */
static void trim_when_idle(struct sf_channel *channel)
{
    if (!channel_is_empty(channel) || !ring_is_warm(&channel->ring) ||
        channel_try_lock_sending(channel) < 0)
        return;
    if (channel_is_empty(channel))
        ring_trim(&channel->ring);
    channel_unlock_sending(channel);
}

/* Is there nothing more to wait for, because the channel was closed? A stream
 * that began before goes on to its end. */
bool channel_is_over(struct waiting *waiting)
{
    struct sf_channel *channel = waiting->channel;

    if (!channel_is_closed(channel))
        return false;
    if (!waiting->for_senders)
        return waiting->thread == 0;
    return channel_stream_owner(&channel->region->sending.stream) == 0 && channel_is_empty(channel);
}

/* What keeps a prepared waiter from sleeping: 1 to look again, -EOWNERDEAD,
 * -EPIPE, or 0. Readiness is looked at after the deaths, because the last
 * thing that a process does before it dies may be to send. */
static int reason_to_stay_up(struct waiting *waiting, struct park_watch *watched)
{
    struct sf_channel *channel = waiting->channel;
    struct peers peers = channel_look_at_peers(channel, waiting->for_senders, watched);

    channel_look_at_stream(&channel->region->sending.stream, &peers, watched);
    channel_look_at_stream(&channel->region->receiving.stream, &peers, watched);
    if (waiting->ready(waiting) || channel_is_over(waiting) || channel_is_released(channel))
        return 1;
    if (peers.died)
        return -EOWNERDEAD;
    /* Relaxed: see set_shared. */
    if (!peers.others_live && (waiting->for_senders || !channel->bound) &&
        atomic_load_explicit(&channel->region->shared, memory_order_relaxed))
        return -EPIPE;
    return 0;
}

/* A receiver at the heels of a sender takes each line of memory out of the
 * sender's cache while it is being written. So behind messages that did not have
 * to be waited for, one pause is made for each of them before the first look. A
 * pause is as long as a few messages of the fastest senders take; behind slower
 * ones fewer come than there were pauses, and soon there are none. */
static void keep_distance(const struct waiting *waiting)
{
    for (uint32_t pause = 1; pause < waiting->streak && pause < DISTANCE_PAUSES; pause++)
        park_pause();
}

static int sleep_unless(struct waiting *waiting, struct park_watch *watched, int64_t deadline_ns)
{
    uint32_t slot = LIVENESS_SLOT_OF(liveness_self());
    int64_t began_ns = sf_clock_now_ns();
    uint32_t sequence;
    int rc;

    if (channel_is_elsewhere(waiting->peer_cpu)) {
        keep_distance(waiting);
        if (park_spin(waiting->place, waiting->ready, waiting))
            return 1;
    }
    sequence = park_prepare(waiting->word, waiting->place, slot);
    rc = reason_to_stay_up(waiting, watched);
    if (rc == 0)
        rc = park_sleep(waiting->word, waiting->place, sequence, began_ns, deadline_ns, watched);
    park_leave(waiting->word, waiting->place, slot);
    return rc;
}

int channel_wait(struct waiting *waiting, int64_t deadline_ns)
{
    struct park_watch watched = {.count = 0};
    int rc = sleep_unless(waiting, &watched, deadline_ns);

    if (rc == 1)
        return 0;
    if (rc == -EPIPE || rc == -EINTR)
        return rc;
    if (rc == -ETIMEDOUT)
        trim_when_idle(waiting->channel);
    /* A life word wakes one sleeper only; the others on it may be on other
     * channels. */
    if (channel_bury_the_dead(waiting->channel)) {
        for (uint32_t i = 0; i < watched.count; i++)
            park_wake_watched(watched.words[i]);
        return -EINTR;
    }
    return rc == 0 ? 0 : -EINTR;
}
