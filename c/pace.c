/* SPDX-License-Identifier: MIT */
/* How far the one sender of a channel runs ahead of its receivers.
 *
 *     sent        | batch | batch | batch |            each of a few messages
 *     position           p0      p1      p2            of the tail behind it
 *     head    ------------------^                      p0 is behind it: taken
 *
 * A message was taken when the head has passed it, so receivers count nothing,
 * and one that dies with a message takes no credit along. The sender remembers
 * where the tail was behind each batch that it was allowed; only when as many
 * messages wait as may, it sleeps, and says at which position of the head it
 * wants to be woken: not at the next message, but when half have been taken.
 *
 * What is remembered is the sender's own. The position to be woken at is shared;
 * it is 0 but for the time of a sleep, so that an old one wakes too early and
 * never too late.
 */
#define _GNU_SOURCE
#include "channel.h"

#include <string.h>

static void note_batch(struct sf_channel *channel)
{
    struct pace *pace = &channel->pace;

    if (pace->allowed == 0)
        return;
    /* Relaxed: only this process stores it. */
    pace->batches[pace->count++] = (struct pace_batch){
        .end = atomic_load_explicit(&channel->region->sending.ring.tail, memory_order_relaxed),
        .size = pace->allowed};
    pace->waiting += pace->allowed;
    pace->allowed = 0;
}

static void forget_taken(struct sf_channel *channel)
{
    struct pace *pace = &channel->pace;
    uint32_t taken = 0;

    while (taken < pace->count && ring_is_consumed(&channel->ring, pace->batches[taken].end))
        pace->waiting -= pace->batches[taken++].size;
    pace->count -= taken;
    memmove(pace->batches, pace->batches + taken, pace->count * sizeof pace->batches[0]);
}

/* Allow a batch, if fewer than `ahead` messages wait. Returns its size. All but
 * one are of the same size, so that there is a place for each. */
static uint32_t allow_batch(struct pace *pace, uint32_t ahead)
{
    uint32_t size = (ahead - 1) / PACE_BATCH_COUNT + 1;
    uint32_t room = ahead > pace->waiting ? ahead - pace->waiting : 0;

    if (pace->count < PACE_BATCH_COUNT)
        pace->allowed = room < size ? room : size;
    return pace->allowed;
}

/* Where the head is when no more than half of `ahead` messages wait. */
static uint64_t where_half_is_taken(const struct pace *pace, uint32_t ahead)
{
    uint32_t waiting = pace->waiting;

    for (uint32_t i = 0; i < pace->count; i++) {
        waiting -= pace->batches[i].size;
        if (waiting <= ahead / 2)
            return pace->batches[i].end;
    }
    return 0;
}

static int wait_for_receivers(struct sf_channel *channel, uint64_t position, int64_t deadline_ns)
{
    struct waiting waiting = {.channel = channel,
                              .word = &channel->region->space,
                              .place = &channel->space_place,
                              .ready = channel_is_consumed,
                              .peer_cpu = &channel->region->receiving.cpu,
                              .need = position};
    int rc;

    if (channel_is_released(channel))
        return -EBADF;
    if (deadline_ns <= sf_clock_now_ns())
        return -ENOBUFS;
    /* Relaxed, both: who sees the bit that is set for the sleep may see an older
     * position, and wakes too early; pairs with the load in channel_wake_senders. */
    atomic_store_explicit(&channel->region->wake_at, position, memory_order_relaxed);
    rc = channel_wait(&waiting, deadline_ns);
    atomic_store_explicit(&channel->region->wake_at, 0, memory_order_relaxed);
    return rc;
}

static int64_t pace(struct sf_channel *channel, uint32_t ahead, int64_t deadline_ns)
{
    int rc = 0;

    note_batch(channel);
    while (rc == 0) {
        forget_taken(channel);
        if (channel_is_closed(channel))
            return -ESHUTDOWN;
        if (allow_batch(&channel->pace, ahead) > 0)
            return channel->pace.allowed;
        rc = wait_for_receivers(channel, where_half_is_taken(&channel->pace, ahead), deadline_ns);
    }
    return rc;
}

int64_t sf_channel_pace(struct sf_channel *channel, uint32_t ahead, int64_t deadline_ns)
{
    int64_t result = ahead == 0 ? -EINVAL : channel_begin_call(channel);

    if (result < 0)
        return result;
    result = pace(channel, ahead, deadline_ns);
    channel_end_call(channel);
    return result;
}
