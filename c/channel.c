/* SPDX-License-Identifier: MIT */
/* A channel as a whole: its memory, its beginning and end, and fork.
 *
 *     region | sending:   lock, tail, ..., stream owner |
 *            | receiving: lock, head, ..., stream owner |
 *            | data: receivers wait here | space: senders wait here |
 *            | closed | recycled segments | ends[1024] | map | state | segments
 *
 * The two sides meet in two words only, head and tail. Each side is one
 * process's at a time (side.c); a sleeper is told by the other side, or by the
 * kernel when the other side dies (waiting.c, peers.c). A message is copied in
 * under one lock (sending.c) and out under the other (receiving.c); a large one
 * passes in pieces, and neither lock is held between two of them. A sender may
 * let itself be told how far to run ahead (pace.c).
 *
 * At every instruction the region is valid for everybody else if this process
 * vanishes now. Recovery acts on proof of death, never on elapsed time, and
 * nobody sleeps longer than 100 ms without looking again.
 *
 * Memory is a memfd without a descriptor or a name: not charged before it is
 * touched, even where overcommit is strict, and gone with its last process.
 */
#define _GNU_SOURCE
#include "channel.h"
#include "memory_file.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define CAPACITY_LIMIT ((size_t)1 << 46)
#define SHARE_OF_SCARCE 4

/* -------------------------------------------------------------- closing */

static struct end *own_end(struct sf_channel *channel)
{
    return &channel->region->ends[LIVENESS_SLOT_OF(liveness_self())];
}

int sf_channel_close(struct sf_channel *channel)
{
    int rc = channel_begin_call(channel);

    if (rc < 0)
        return rc;
    /* Release: pairs with the acquire in is_closed. */
    atomic_store_explicit(&channel->region->closed, 1, memory_order_release);
    channel_wake_everybody(channel);
    channel_end_call(channel);
    return 0;
}

int sf_channel_close_send(struct sf_channel *channel)
{
    int rc = channel_begin_call(channel);

    if (rc < 0)
        return rc;
    /* Relaxed: of this process; others learn it from the entry. */
    atomic_store_explicit(&channel->sends_not, 1, memory_order_relaxed);
    channel_close_end(&own_end(channel)->sender);
    channel_wake_everybody(channel);
    channel_end_call(channel);
    return 0;
}

int sf_channel_close_receive(struct sf_channel *channel)
{
    int rc = channel_begin_call(channel);

    if (rc < 0)
        return rc;
    /* Relaxed: of this process; others learn it from the entry. */
    atomic_store_explicit(&channel->receives_not, 1, memory_order_relaxed);
    channel_leave_incoming(channel);
    channel_close_end(&own_end(channel)->receiver);
    channel_wake_everybody(channel);
    channel_end_call(channel);
    return 0;
}

void sf_channel_count_self(struct sf_channel *channel, int on)
{
    /* Relaxed: a setting that the next look at the peers reads. */
    atomic_store_explicit(&channel->counts_self, on != 0, memory_order_relaxed);
}

/* ----------------------------------------------------- all the channels */

/* Fork hands every channel of this process to the child, so they have to be
 * found. Guarded by `channels_lock`, which no other lock is taken under. */
static struct sf_channel *channels;
static pthread_mutex_t channels_lock = PTHREAD_MUTEX_INITIALIZER;

static void link_channel(struct sf_channel *channel)
{
    pthread_mutex_lock(&channels_lock);
    channel->next = channels;
    channel->link = &channels;
    if (channels != NULL)
        channels->link = &channel->next;
    channels = channel;
    pthread_mutex_unlock(&channels_lock);
}

static void unlink_channel(struct sf_channel *channel)
{
    pthread_mutex_lock(&channels_lock);
    *channel->link = channel->next;
    if (channel->next != NULL)
        channel->next->link = channel->link;
    pthread_mutex_unlock(&channels_lock);
}

static void before_fork(void)
{
    pthread_mutex_lock(&channels_lock);
    for (struct sf_channel *channel = channels; channel != NULL; channel = channel->next)
        channel_enroll(channel, liveness_expected());
}

static void after_fork_in_parent(void)
{
    pthread_mutex_unlock(&channels_lock);
}

/* Nothing that a thread of the parent was doing is being done here. A run that
 * was being filled is left alone: that thread may have been handing it over. */
static void after_fork_in_child(void)
{
    pthread_mutex_unlock(&channels_lock);
    for (struct sf_channel *channel = channels, *next; channel != NULL; channel = next) {
        next = channel->next;
        if (channel_is_released(channel)) {
            /* That thread was about to do this, and is not here to do it. */
            unlink_channel(channel);
            munmap(channel->region, channel->mapped_size);
            continue;
        }
        /* Relaxed, all: the child has one thread. */
        atomic_store_explicit(&channel->call_count, 0, memory_order_relaxed);
        atomic_store_explicit(&channel->data_place.parked, 0, memory_order_relaxed);
        atomic_store_explicit(&channel->space_place.parked, 0, memory_order_relaxed);
        channel_set_streaming_thread(channel, 0);
        channel->incoming = (struct incoming){.active = false};
        channel->pace = (struct pace){.count = 0};
        channel_enroll(channel, liveness_self());
    }
}

static struct fork_handlers handlers = {before_fork, after_fork_in_parent, after_fork_in_child, 0};

/* ------------------------------------------------------------- creation */

static void give_back(void *memory, size_t size)
{
    madvise(memory, size, MADV_REMOVE);
}

/* Where there can be no file in memory, anonymous memory may do. */
static void *map_shared(size_t size)
{
    void *memory = MAP_FAILED;
    int file = memory_file_create(size);

    if (file >= 0) {
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
        close(file);
    }
    if (memory == MAP_FAILED)
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED)
        madvise(memory, size, MADV_DONTDUMP);
    return memory;
}

static void *map_laid_out(struct ring_layout *layout, size_t capacity)
{
    ring_lay_out(layout, capacity, sizeof(struct region));
    return map_shared(layout->size);
}

/* Map what can be had, and of that a part: where address space is short, the
 * next channel and its owner need some as well. */
static void *map_less(struct ring_layout *layout, size_t *capacity)
{
    void *memory = MAP_FAILED;

    while (memory == MAP_FAILED && *capacity / 2 >= SF_CHANNEL_SMALLEST)
        memory = map_laid_out(layout, *capacity /= 2);
    if (memory == MAP_FAILED || *capacity / SHARE_OF_SCARCE < SF_CHANNEL_SMALLEST)
        return memory;
    munmap(memory, layout->size);
    return map_laid_out(layout, *capacity /= SHARE_OF_SCARCE);
}

static int map_region(struct sf_channel *channel, size_t capacity, bool shrinks)
{
    struct ring_layout layout;
    unsigned char *memory = map_laid_out(&layout, capacity);

    if (memory == MAP_FAILED && shrinks)
        memory = map_less(&layout, &capacity);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    channel->region = (void *)memory;
    channel->mapped_size = layout.size;
    channel->capacity = capacity;
    channel->ring = (struct ring){.sender = &channel->region->sending.ring,
                                  .receiver = &channel->region->receiving.ring,
                                  .warm = &channel->region->warm,
                                  .map = (void *)(memory + layout.map_offset),
                                  .state = (void *)(memory + layout.state_offset),
                                  .data = memory + layout.data_offset,
                                  .map_count = layout.map_count,
                                  .segment_count = layout.segment_count,
                                  .limit = layout.limit,
                                  .give_back = give_back};
    return 0;
}

int sf_channel_create(size_t capacity, unsigned flags, struct sf_channel **channel)
{
    struct sf_channel *made;
    int rc;

    if (capacity == 0)
        return -EINVAL;
    if (capacity > CAPACITY_LIMIT)
        return -ENOMEM;
    rc = liveness_join();
    if (rc == 0)
        rc = liveness_handle_forks(&handlers);
    if (rc < 0)
        return rc;
    made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    rc = map_region(made, capacity, (flags & SF_CHANNEL_SHRINK) != 0);
    if (rc < 0)
        goto undo_calloc;
    rc = liveness_init_lock(&made->region->sending.lock, PTHREAD_MUTEX_ERRORCHECK);
    if (rc == 0)
        rc = liveness_init_lock(&made->region->receiving.lock, PTHREAD_MUTEX_ERRORCHECK);
    if (rc < 0)
        goto undo_map;
    made->bound = (flags & SF_CHANNEL_BOUND) != 0;
    if (!made->bound)
        channel_open_ends(made, liveness_self(), true, true);
    link_channel(made);
    *channel = made;
    return 0;

undo_map:
    munmap(made->region, made->mapped_size);
undo_calloc:
    free(made);
    return rc;
}

int sf_channel_bind_sender(struct sf_channel *channel, const struct sf_process *process)
{
    int rc = channel_begin_call(channel);

    if (rc < 0)
        return rc;
    channel_open_ends(channel, liveness_member_of(process), true, false);
    channel_set_shared(channel);
    channel_end_call(channel);
    return 0;
}

size_t sf_channel_capacity(const struct sf_channel *channel)
{
    /* Relaxed: a setting of this process. */
    return atomic_load_explicit(&channel->released, memory_order_relaxed) ? 0 : channel->capacity;
}

size_t sf_channel_used(struct sf_channel *channel)
{
    size_t used;

    if (channel_begin_call(channel) < 0)
        return 0;
    used = ring_used(&channel->ring);
    channel_end_call(channel);
    return used;
}

size_t sf_channel_committed(struct sf_channel *channel)
{
    size_t count;

    if (channel_begin_call(channel) < 0)
        return 0;
    count = ring_segments_in_use(&channel->ring) + ring_segments_warm(&channel->ring);
    channel_end_call(channel);
    return count << RING_SEGMENT_SHIFT;
}

/* -------------------------------------------------------------- release */

/* Threads inside a call see `released` when they wake, and leave. */
static void let_callers_out(struct sf_channel *channel)
{
    const struct timespec moment = {.tv_nsec = 20000};

    /* Acquire: pairs with the release in end_call. */
    while (atomic_load_explicit(&channel->call_count, memory_order_acquire) > 0) {
        channel_wake_everybody(channel);
        nanosleep(&moment, NULL);
    }
}

void sf_channel_release(struct sf_channel *channel)
{
    /* Sequentially consistent: pairs with begin_call, which explains it. */
    if (atomic_exchange_explicit(&channel->released, 1, memory_order_seq_cst))
        return;
    let_callers_out(channel);
    if (liveness_self() != 0) {
        channel_leave_outgoing(channel);
        channel_leave_incoming(channel);
        channel_forget_incoming(channel);
        channel_close_end(&own_end(channel)->sender);
        channel_close_end(&own_end(channel)->receiver);
    }
    channel_wake_everybody(channel);
    unlink_channel(channel);
    munmap(channel->region, channel->mapped_size);
}

void sf_channel_destroy(struct sf_channel *channel)
{
    if (channel == NULL)
        return;
    sf_channel_release(channel);
    free(channel);
}
