/* SPDX-License-Identifier: MIT */
/* The elastic ring: segments of 64 KiB behind a map.
 *
 *     position   0 ......... 64K ........ 128K ....... 192K
 *     logical    |     0      |     1      |     2      |   grows for ever
 *                      |            |            |
 *     map              5            0            3         logical -> physical
 *     state      [0]=2  [3]=3  [5]=1  others 0             physical -> logical+1
 *
 * Head and tail are byte positions that only grow; nothing ever wraps. Memory
 * follows what is waiting: a segment is taken when the tail enters it and
 * freed when the head leaves it. A tag in `state` is never used twice, so a
 * free that comes late or twice, from a process that was stopped for an hour,
 * fails its compare-and-swap and does no harm.
 *
 * At every instruction the shared state is valid for everybody else if this
 * process vanishes. The tail store publishes a message whole; before it there
 * is nothing but a taken segment, which ring_recover_sender finds by its tag.
 * The head store consumes it; after it there is nothing but a segment to
 * free, which ring_recover_receiver finds the same way.
 *
 * A frame is an 8-byte header and its payload, padded to 8. It lies in one
 * segment. The first frame of a message in several frames has 8 bytes more,
 * the total size, so that a receiver allocates once.
 *
 *     header   | magic 24 | tag 8 | flags 8 | size 24 |
 *
 * What is read from shared memory is checked before it is used as a place or
 * as a bound, once, from a copy: a process of the family may have overwritten
 * it. Whatever it wrote, nobody reads or writes outside the ring and nobody
 * walks further than the ring is long.
 *
 * Rejected: one linear buffer, which keeps every page it ever touched; a
 * mirrored mapping, needed only where records must not be split; claiming
 * without a lock, whose holes need a guess about who is dead.
 */
#include "ring.h"

#include "kill_point.h"

#include <errno.h>
#include <string.h>

#define HEADER_SIZE ((uint64_t)8)
#define TOTAL_SIZE ((uint64_t)8)
#define MAGIC UINT64_C(0x5af15f)
/* Logical numbers that no tail reaches: whose hands a segment is in while its
 * memory is given back. Each is recovered with the side it belongs to. */
#define EMPTIED_BY_SENDER (UINT64_MAX - 3)
#define EMPTIED_BY_RECEIVER (UINT64_MAX - 2)
#define OFFSET_OF(position) ((position) & (RING_SEGMENT_SIZE - 1))
#define LOGICAL_OF(position) ((position) >> RING_SEGMENT_SHIFT)

static uint64_t align8(uint64_t size)
{
    return (size + 7) & ~UINT64_C(7);
}

uint64_t ring_cost(uint64_t size)
{
    /* Headers and padding of the worst placement: the total, one header a
     * segment, and up to 16 bytes of a segment too short for a first frame. */
    return align8(size) + 48 + 8 * (size >> 15);
}

uint64_t ring_cost_of_many(uint64_t size, uint64_t count)
{
    /* As if each were placed worst; 8 for its own padding. */
    return count == 1 ? ring_cost(size) : align8(size) + 56 * count + 8 * (size >> 15);
}

void ring_lay_out(struct ring_layout *layout, size_t capacity, size_t offset)
{
    uint64_t segments;

    /* A stream keeps room for the frame that would abort it. */
    layout->limit = ring_cost(capacity) + ring_cost(0);
    segments = LOGICAL_OF(layout->limit) + 3;
    layout->segment_count = (uint32_t)segments;
    layout->map_count = 1;
    while (layout->map_count < layout->segment_count)
        layout->map_count *= 2;
    layout->map_offset = (offset + 63) & ~(size_t)63;
    layout->state_offset =
        layout->map_offset + (((size_t)layout->map_count * 4 + 63) & ~(size_t)63);
    layout->data_offset = layout->state_offset + (size_t)layout->segment_count * 8;
    /* Segments are given back one by one, so they begin where pages of any
     * size may begin. */
    layout->data_offset = (layout->data_offset + RING_SEGMENT_SIZE - 1) & ~(RING_SEGMENT_SIZE - 1);
    layout->size = layout->data_offset + ((size_t)layout->segment_count << RING_SEGMENT_SHIFT);
}

/* -------------------------------------------------------------- segments */

static unsigned char *segment(const struct ring *ring, uint32_t physical)
{
    return ring->data + ((size_t)physical << RING_SEGMENT_SHIFT);
}

static bool claim(struct ring *ring, uint32_t physical, uint64_t logical)
{
    uint64_t free_state = 0;

    /* Acquire: pairs with the release in free_segment; the last reader of this
     * memory is done with it. */
    return atomic_compare_exchange_strong_explicit(&ring->state[physical], &free_state, logical + 1,
                                                   memory_order_acquire, memory_order_relaxed);
}

static bool free_segment(struct ring *ring, uint32_t physical, uint64_t logical)
{
    uint64_t held = logical + 1;

    /* Release: pairs with the acquire in claim. */
    return atomic_compare_exchange_strong_explicit(&ring->state[physical], &held, 0,
                                                   memory_order_release, memory_order_relaxed);
}

uint32_t ring_segments_warm(const struct ring *ring)
{
    /* Relaxed given: a count of hints. Acquire taken: what was taken out of
     * warm[] has been read; pairs with the release in take_warm. */
    uint32_t count = atomic_load_explicit(&ring->receiver->given, memory_order_relaxed) -
                     atomic_load_explicit(&ring->sender->taken, memory_order_acquire);

    return count < RING_WARM_COUNT ? count : RING_WARM_COUNT;
}

bool ring_is_warm(const struct ring *ring)
{
    return ring_segments_warm(ring) > 0;
}

static uint32_t ever_used(const struct ring *ring)
{
    /* Relaxed: it only grows, under the sender's lock, before the segment's
     * state changes; a walk by another side sees it through the tail. */
    uint32_t count = atomic_load_explicit(&ring->warm->ever_used, memory_order_relaxed);

    return count < ring->segment_count ? count : ring->segment_count;
}

/* The oldest recycled segment, or UINT32_MAX. */
static uint32_t take_warm(struct ring *ring)
{
    /* Relaxed taken: only the sending side writes it. Acquire given: the id
     * was stored before; pairs with the release in put_warm. */
    uint32_t taken = atomic_load_explicit(&ring->sender->taken, memory_order_relaxed);
    uint32_t given = atomic_load_explicit(&ring->receiver->given, memory_order_acquire);
    uint32_t physical;

    if (taken == given)
        return UINT32_MAX;
    if (given - taken > RING_WARM_COUNT)
        taken = given - RING_WARM_COUNT; /* damaged; there are never more */
    /* Relaxed: ordered by the acquire above. */
    physical =
        atomic_load_explicit(&ring->warm->ids[taken % RING_WARM_COUNT], memory_order_relaxed);
    /* Release: the place may be written again; pairs with ring_segments_warm. */
    atomic_store_explicit(&ring->sender->taken, taken + 1, memory_order_release);
    return physical < ever_used(ring) ? physical : UINT32_MAX;
}

/* With room in warm[], which only the receiving side fills. */
static void put_warm(struct ring *ring, uint32_t physical)
{
    /* Relaxed: only the receiving side writes it. */
    uint32_t given = atomic_load_explicit(&ring->receiver->given, memory_order_relaxed);

    /* Relaxed id, release given: pairs with the acquire in take_warm. */
    atomic_store_explicit(&ring->warm->ids[given % RING_WARM_COUNT], physical,
                          memory_order_relaxed);
    atomic_store_explicit(&ring->receiver->given, given + 1, memory_order_release);
}

/* A free segment below the highest one ever used, or UINT32_MAX. */
static uint32_t scan_for(struct ring *ring, uint64_t logical)
{
    /* Relaxed: a hint where to begin. A receiver lowers it when it frees a
     * segment; one that is lost that way is found by the wider scan. */
    uint32_t physical = atomic_load_explicit(&ring->sender->lowest, memory_order_relaxed);

    for (; physical < ever_used(ring); physical++)
        if (claim(ring, physical, logical)) {
            atomic_store_explicit(&ring->sender->lowest, physical + 1, memory_order_relaxed);
            return physical;
        }
    return UINT32_MAX;
}

static uint32_t take_untouched(struct ring *ring, uint64_t logical)
{
    uint32_t physical = ever_used(ring);

    if (physical >= ring->segment_count)
        return UINT32_MAX;
    /* Relaxed: see ever_used. */
    atomic_store_explicit(&ring->warm->ever_used, physical + 1, memory_order_relaxed);
    SF_KILL_POINT();
    return claim(ring, physical, logical) ? physical : UINT32_MAX;
}

static void drop_consumed(struct ring *ring);

static uint32_t take_segment(struct ring *ring, uint64_t logical)
{
    uint32_t physical;

    while ((physical = take_warm(ring)) != UINT32_MAX)
        if (claim(ring, physical, logical))
            return physical;
    physical = scan_for(ring, logical);
    if (physical == UINT32_MAX)
        physical = take_untouched(ring, logical);
    if (physical == UINT32_MAX) {
        /* Everything was touched and nothing looks free: what a dead receiver
         * left, or what the hint hides. */
        drop_consumed(ring);
        atomic_store_explicit(&ring->sender->lowest, 0, memory_order_relaxed); /* a hint */
        physical = scan_for(ring, logical);
    }
    return physical;
}

/* Take a segment from one logical number to another, or to a purpose. */
static bool retag(struct ring *ring, uint32_t physical, uint64_t from, uint64_t to)
{
    uint64_t held = from + 1;

    /* Relaxed: only the tag changes hands, and to ourselves. */
    return atomic_compare_exchange_strong_explicit(&ring->state[physical], &held, to + 1,
                                                   memory_order_relaxed, memory_order_relaxed);
}

/* The memory goes while the tag says so: were the segment free, or looked
 * free to anybody, it could be in use again before its memory is gone. */
static void empty_and_free(struct ring *ring, uint32_t physical, uint64_t purpose)
{
    SF_KILL_POINT();
    ring->give_back(segment(ring, physical), RING_SEGMENT_SIZE);
    SF_KILL_POINT();
    free_segment(ring, physical, purpose);
    /* Relaxed, both: a hint, see scan_for. */
    if (physical < atomic_load_explicit(&ring->sender->lowest, memory_order_relaxed))
        atomic_store_explicit(&ring->sender->lowest, physical, memory_order_relaxed);
}

/* Make sure that the segment of a position to be written exists. */
static int enter_segment(struct ring *ring, uint64_t position)
{
    uint64_t logical = LOGICAL_OF(position);
    uint32_t physical;

    if (OFFSET_OF(position) != 0)
        return 0;
    physical = take_segment(ring, logical);
    if (physical == UINT32_MAX)
        return -ENOBUFS;
    SF_KILL_POINT();
    /* Relaxed: published by the tail store of ring_publish. */
    atomic_store_explicit(&ring->map[logical & (ring->map_count - 1)], physical,
                          memory_order_relaxed);
    return 0;
}

/* Free a segment that the head has left. */
static void leave(struct ring *ring, uint64_t logical)
{
    /* Relaxed: stored before the tail that the caller acquired. */
    uint32_t physical =
        atomic_load_explicit(&ring->map[logical & (ring->map_count - 1)], memory_order_relaxed);

    if (physical >= ring->segment_count)
        return;
    if (ring_segments_warm(ring) < RING_WARM_COUNT) {
        SF_KILL_POINT();
        if (free_segment(ring, physical, logical))
            put_warm(ring, physical);
        return;
    }
    if (retag(ring, physical, logical, EMPTIED_BY_RECEIVER))
        empty_and_free(ring, physical, EMPTIED_BY_RECEIVER);
}

/* Free every segment whose logical number is in [from, to). */
static void drop_between(struct ring *ring, uint64_t from, uint64_t to)
{
    for (uint32_t physical = 0; physical < ever_used(ring); physical++) {
        /* Relaxed: a tag in the range belongs to a dead process, and a live
         * one's tag makes free_segment fail. */
        uint64_t held = atomic_load_explicit(&ring->state[physical], memory_order_relaxed);

        if (held != 0 && held - 1 >= from && held - 1 < to)
            free_segment(ring, physical, held - 1);
    }
    atomic_store_explicit(&ring->sender->lowest, 0, memory_order_relaxed); /* a hint */
}

/* What was consumed and not freed. A receiver that is merely slow may be about
 * to free the same segments; its compare-and-swap will fail. */
static void drop_consumed(struct ring *ring)
{
    /* Acquire: pairs with the release in ring_consume; who consumed those
     * bytes has read them. */
    uint64_t head = atomic_load_explicit(&ring->receiver->head, memory_order_acquire);

    drop_between(ring, 0, LOGICAL_OF(head));
}

void ring_recover_sender(struct ring *ring)
{
    /* Relaxed: the caller holds the sending side, which alone stores it. */
    uint64_t tail = atomic_load_explicit(&ring->sender->tail, memory_order_relaxed);

    drop_between(ring, LOGICAL_OF(tail + RING_SEGMENT_SIZE - 1), EMPTIED_BY_SENDER + 1);
}

void ring_recover_receiver(struct ring *ring)
{
    drop_consumed(ring);
    drop_between(ring, EMPTIED_BY_RECEIVER, EMPTIED_BY_RECEIVER + 1);
}

void ring_trim(struct ring *ring)
{
    uint32_t physical;

    while ((physical = take_warm(ring)) != UINT32_MAX)
        if (claim(ring, physical, EMPTIED_BY_SENDER))
            empty_and_free(ring, physical, EMPTIED_BY_SENDER);
}

uint32_t ring_segments_in_use(const struct ring *ring)
{
    uint32_t count = 0;

    for (uint32_t physical = 0; physical < ever_used(ring); physical++)
        /* Relaxed: a count, true for a moment. */
        count += atomic_load_explicit(&ring->state[physical], memory_order_relaxed) != 0;
    return count;
}

/* --------------------------------------------------------------- writing */

static uint64_t header(unsigned flags, int tag, uint64_t size)
{
    return MAGIC << 40 | (uint64_t)(unsigned)tag << 32 | (uint64_t)flags << 24 | size;
}

static unsigned char *address(const struct ring *ring, uint64_t position)
{
    /* Relaxed: written by this side, or before the tail that was acquired. */
    uint32_t physical = atomic_load_explicit(
        &ring->map[LOGICAL_OF(position) & (ring->map_count - 1)], memory_order_relaxed);

    if (physical >= ring->segment_count || position % 8 != 0)
        return NULL;
    return segment(ring, physical) + OFFSET_OF(position);
}

/* No tail is further ahead of the head than there are segments. */
static bool is_out_of_bounds(const struct ring *ring, uint64_t used)
{
    return used > (uint64_t)ring->segment_count << RING_SEGMENT_SHIFT;
}

/* Where a frame at `position` is to be written. */
static int enter(struct ring *ring, uint64_t position, unsigned char **at)
{
    int rc = enter_segment(ring, position);

    if (rc < 0)
        return rc;
    *at = address(ring, position);
    return *at == NULL ? -EBADMSG : 0;
}

static void copy_in(unsigned char *to, struct ring_outgoing *message, uint64_t size)
{
    message->written += size;
    while (size > 0) {
        uint64_t left = message->sizes[message->part] - message->offset;
        uint64_t now = left < size ? left : size;

        if (now > 0)
            memcpy(to, (const unsigned char *)message->parts[message->part] + message->offset, now);
        to += now;
        size -= now;
        message->offset += now;
        if (now == left) {
            message->part++;
            message->offset = 0;
        }
    }
}

int ring_room(struct ring *ring, uint64_t wanted, uint64_t *room)
{
    /* Relaxed tail: ours. Acquire head: what was consumed has been read; pairs
     * with the release in ring_consume. */
    uint64_t tail = atomic_load_explicit(&ring->sender->tail, memory_order_relaxed);
    uint64_t used = tail - ring->sender->head_seen;

    if (used > ring->limit || ring->limit - used < wanted) {
        ring->sender->head_seen = atomic_load_explicit(&ring->receiver->head, memory_order_acquire);
        used = tail - ring->sender->head_seen;
    }
    if (is_out_of_bounds(ring, used))
        return -EBADMSG;
    *room = used < ring->limit ? ring->limit - used : 0;
    return 0;
}

bool ring_may_have_room(const struct ring *ring, uint64_t wanted)
{
    uint64_t used = ring_used(ring);

    return is_out_of_bounds(ring, used) || used + wanted <= ring->limit;
}

bool ring_reaches_segment(const struct ring *ring, uint64_t size)
{
    /* Relaxed: a hint; another sender may be about to move it. */
    uint64_t tail = atomic_load_explicit(&ring->sender->tail, memory_order_relaxed);

    return OFFSET_OF(tail) == 0 || OFFSET_OF(tail) + ring_cost(size) >= RING_SEGMENT_SIZE;
}

static int write_control(struct ring *ring, uint64_t *position, unsigned flags, uint64_t size)
{
    uint64_t word = header(flags, 0, size);
    unsigned char *at;
    int rc = enter(ring, *position, &at);

    if (rc < 0)
        return rc;
    memcpy(at, &word, sizeof word);
    *position += HEADER_SIZE + size;
    return 0;
}

int ring_write_abort(struct ring *ring, uint64_t *position)
{
    return write_control(ring, position, RING_ABORT, 0);
}

int ring_write(struct ring *ring, struct ring_outgoing *message, uint64_t *position, uint64_t most,
               unsigned flags)
{
    uint64_t left = RING_SEGMENT_SIZE - OFFSET_OF(*position);
    uint64_t wanted = message->total - message->written;
    uint64_t head_size = HEADER_SIZE;
    unsigned char *to;
    uint64_t word, size;
    int rc;

    if (message->written == 0)
        flags |= RING_FIRST;
    size = wanted < most ? wanted : most;
    if (size < wanted || head_size + align8(size) > left) {
        flags |= RING_MORE;
        head_size += message->written == 0 ? TOTAL_SIZE : 0;
        if (left < head_size + 8)
            return write_control(ring, position, RING_PAD, left - HEADER_SIZE);
        if (size > left - head_size)
            size = left - head_size;
    }
    rc = enter(ring, *position, &to);
    if (rc < 0)
        return rc;
    word = header(flags, message->tag, size);
    memcpy(to, &word, sizeof word);
    if (head_size > HEADER_SIZE)
        memcpy(to + HEADER_SIZE, &message->total, sizeof message->total);
    SF_KILL_POINT();
    copy_in(to + head_size, message, size);
    *position += head_size + align8(size);
    return 0;
}

void ring_publish(struct ring *ring, uint64_t position)
{
    SF_KILL_POINT();
    /* Release: pairs with the acquire in ring_peek; every byte and the map
     * entries of its segments are visible before the new tail is. */
    atomic_store_explicit(&ring->sender->tail, position, memory_order_release);
    SF_KILL_POINT();
}

/* --------------------------------------------------------------- reading */

static bool is_published(struct ring *ring, uint64_t position)
{
    if (position < ring->receiver->tail_seen)
        return true;
    /* Acquire: pairs with the release in ring_publish. */
    ring->receiver->tail_seen = atomic_load_explicit(&ring->sender->tail, memory_order_acquire);
    return position < ring->receiver->tail_seen;
}

int ring_peek(struct ring *ring, uint64_t position, struct ring_frame *frame)
{
    uint64_t left = RING_SEGMENT_SIZE - OFFSET_OF(position);
    uint64_t head_size = HEADER_SIZE;
    const unsigned char *at;
    uint64_t word;

    if (!is_published(ring, position))
        return position == ring->receiver->tail_seen ? 0 : -EBADMSG;
    if (is_out_of_bounds(ring, ring->receiver->tail_seen - position))
        return -EBADMSG;
    at = address(ring, position);
    if (at == NULL)
        return -EBADMSG;
    memcpy(&word, at, sizeof word);
    frame->size = word & 0xffffff;
    frame->flags = (word >> 24) & 0xff;
    frame->tag = (int)((word >> 32) & 0xff);
    frame->total = frame->size;
    if ((frame->flags & (RING_FIRST | RING_MORE)) == (RING_FIRST | RING_MORE))
        head_size += TOTAL_SIZE;
    if (word >> 40 != MAGIC || frame->size > left || head_size + align8(frame->size) > left)
        return -EBADMSG;
    if (head_size > HEADER_SIZE)
        memcpy(&frame->total, at + HEADER_SIZE, sizeof frame->total);
    frame->payload = at + head_size;
    frame->next = position + head_size + align8(frame->size);
    if (frame->total < frame->size || frame->next > ring->receiver->tail_seen)
        return -EBADMSG;
    return 1;
}

void ring_consume(struct ring *ring, uint64_t position)
{
    /* Relaxed: only this side stores it. */
    uint64_t logical =
        LOGICAL_OF(atomic_load_explicit(&ring->receiver->head, memory_order_relaxed));

    SF_KILL_POINT();
    /* Release: pairs with the acquire in ring_room; the bytes have been read
     * before they may be written again. */
    atomic_store_explicit(&ring->receiver->head, position, memory_order_release);
    SF_KILL_POINT();
    if (LOGICAL_OF(position) - logical > ring->segment_count)
        return; /* damaged: there are no such segments */
    for (; logical < LOGICAL_OF(position); logical++)
        leave(ring, logical);
}

uint64_t ring_used(const struct ring *ring)
{
    /* Acquire, both: the head is read first, so that it is never beyond the
     * tail; pairs with ring_consume and ring_publish. */
    uint64_t head = atomic_load_explicit(&ring->receiver->head, memory_order_acquire);

    return atomic_load_explicit(&ring->sender->tail, memory_order_acquire) - head;
}

bool ring_is_consumed(const struct ring *ring, uint64_t position)
{
    /* Acquire: pairs with the release in ring_consume. */
    return atomic_load_explicit(&ring->receiver->head, memory_order_acquire) >= position;
}
