/* SPDX-License-Identifier: MIT */
/* Who is on the other side, and what to do when they die.
 *
 * `ends` holds, for every slot of the family, the generation of the process
 * that may send and of the one that may receive. An entry is as good as its
 * process is alive. From it follow the end of all sending (no other sender is
 * left) and whose life words a sleeper watches.
 *
 * The dead are buried by whoever notices: their streams are ended, their
 * entries and wait bits cleared, everybody is woken. Each step can be done
 * twice, or by two at a time, or be left half done by one who dies of it.
 */
#define _GNU_SOURCE
#include "channel.h"

void channel_open_ends(struct sf_channel *channel, uint64_t member, bool sends, bool receives)
{
    struct end *end = &channel->region->ends[LIVENESS_SLOT_OF(member)];

    /* Release, all: a process that sees the entry sees the channel as it was
     * before; pairs with the acquire in generation_at. */
    atomic_store_explicit(&end->sender, sends ? LIVENESS_GENERATION_OF(member) : 0,
                          memory_order_release);
    atomic_store_explicit(&end->receiver, receives ? LIVENESS_GENERATION_OF(member) : 0,
                          memory_order_release);
}

void channel_set_shared(struct sf_channel *channel)
{
    /* Relaxed: it only ever goes from 0 to 1, before the fork it speaks of. */
    atomic_store_explicit(&channel->region->shared, 1, memory_order_relaxed);
}

void channel_enroll(struct sf_channel *channel, uint64_t member)
{
    if (member == 0 || channel->bound)
        return;
    /* Relaxed, both: of this process, and changed under its own feet only. */
    channel_open_ends(channel, member,
                      !atomic_load_explicit(&channel->sends_not, memory_order_relaxed),
                      !atomic_load_explicit(&channel->receives_not, memory_order_relaxed));
    channel_set_shared(channel);
}

static uint32_t generation_at(_Atomic uint32_t *entry)
{
    /* Acquire: pairs with the release in open_ends. */
    return atomic_load_explicit(entry, memory_order_acquire);
}

static void watch(struct park_watch *watched, uint64_t member)
{
    _Atomic uint32_t *word;

    if (watched == NULL || watched->count == PARK_WATCH_COUNT)
        return;
    word = liveness_watch(member, &watched->values[watched->count]);
    if (word == NULL)
        return;
    watched->unborn |= watched->values[watched->count] == LIVENESS_UNBORN;
    watched->words[watched->count++] = word;
}

struct peers channel_look_at_peers(struct sf_channel *channel, bool senders,
                                   struct park_watch *watched)
{
    struct peers peers = {false, false};
    uint32_t count = liveness_slot_count();

    for (uint32_t slot = 0; slot < count; slot++) {
        struct end *end = &channel->region->ends[slot];
        uint32_t generation = generation_at(senders ? &end->sender : &end->receiver);
        uint64_t member = (uint64_t)generation << 16 | slot;

        if (generation == 0)
            continue;
        if (member == liveness_self()) {
            /* Relaxed: a setting of this process. */
            peers.others_live |=
                atomic_load_explicit(&channel->counts_self, memory_order_relaxed) != 0;
        } else if (liveness_is_dead(member)) {
            peers.died = true;
        } else {
            peers.others_live = true;
            watch(watched, member);
        }
    }
    return peers;
}

void channel_look_at_stream(_Atomic uint64_t *stream, struct peers *peers,
                            struct park_watch *watched)
{
    if (channel_is_owner_dead(stream))
        peers->died = true;
    else if (channel_is_held_by_other(stream))
        watch(watched, channel_stream_owner(stream));
}

void channel_close_end(_Atomic uint32_t *entry)
{
    uint32_t generation = LIVENESS_GENERATION_OF(liveness_self());

    /* Release: what this process sent before is visible to whoever finds the
     * end closed; pairs with the acquire in generation_at. */
    atomic_compare_exchange_strong_explicit(entry, &generation, 0, memory_order_release,
                                            memory_order_relaxed);
}

void channel_abort_outgoing(struct sf_channel *channel)
{
    /* Relaxed: the lock orders senders. */
    uint64_t tail = atomic_load_explicit(&channel->region->sending.ring.tail, memory_order_relaxed);

    if (ring_write_abort(&channel->ring, &tail) == 0)
        ring_publish(&channel->ring, tail);
    channel_set_stream(&channel->region->sending.stream, 0);
}

static void mend_sending(struct sf_channel *channel)
{
    if (!channel_is_owner_dead(&channel->region->sending.stream) ||
        channel_lock_sending(channel) < 0)
        return;
    if (channel_is_owner_dead(&channel->region->sending.stream))
        channel_abort_outgoing(channel);
    channel_unlock_sending(channel);
}

static void mend_receiving(struct sf_channel *channel)
{
    if (!channel_is_owner_dead(&channel->region->receiving.stream) ||
        channel_lock_receiving(channel) < 0)
        return;
    if (channel_is_owner_dead(&channel->region->receiving.stream))
        channel_set_stream(&channel->region->receiving.stream, 0);
    channel_unlock_receiving(channel);
}

static void clear_if_dead(_Atomic uint32_t *entry, uint32_t slot, bool *died)
{
    uint32_t generation = generation_at(entry);

    if (generation == 0 || !liveness_is_dead((uint64_t)generation << 16 | slot))
        return;
    *died = true;
    /* Relaxed: nothing is handed over by it; fails when the slot has a new
     * owner, which is alive. */
    atomic_compare_exchange_strong_explicit(entry, &generation, 0, memory_order_relaxed,
                                            memory_order_relaxed);
}

/* Everyone is woken: whatever was meant for the dead, the living look for
 * themselves. */
bool channel_bury_the_dead(struct sf_channel *channel)
{
    bool died = channel_is_owner_dead(&channel->region->sending.stream) ||
                channel_is_owner_dead(&channel->region->receiving.stream);
    uint32_t count = liveness_slot_count();

    mend_sending(channel);
    mend_receiving(channel);
    for (uint32_t slot = 0; slot < count; slot++) {
        struct end *end = &channel->region->ends[slot];
        bool gone = false;

        clear_if_dead(&end->sender, slot, &gone);
        clear_if_dead(&end->receiver, slot, &gone);
        if (gone) {
            park_forget(&channel->region->data, slot);
            park_forget(&channel->region->space, slot);
            died = true;
        }
    }
    if (died)
        channel_wake_everybody(channel);
    return died;
}
