/* SPDX-License-Identifier: MIT */
/* A channel whose memory a hostile or broken peer writes into, between any two
 * calls of ours.
 *
 * A script of bytes says who does what: each step is a call into the library,
 * or a piece of damage. Nothing is assumed of the bytes, so they may come from a
 * fuzzer, from a random generator, or from a file. Damage knows what lies where,
 * because blind damage is found by the first check and goes no further:
 *
 *     positions and hints | map and states of the segments | frames |
 *     marks of the streams | who has an end | words to sleep on | any word
 *
 * Whatever the script, every call returns, soon, with a result that the header
 * knows, and no byte outside of the channel is touched: behind the mapping lies
 * a page that nobody may touch.
 *
 * Left alone are the two locks. What is inside of them belongs to the C library
 * and the kernel, who follow the pointers there; nothing of ours could help.
 */
#ifndef SNAKEFISH_HOSTILE_H
#define SNAKEFISH_HOSTILE_H

#include "channel.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define STEP_LIMIT 96
#define LENT_LIMIT ((size_t)1 << 24)
#define SOON_NS 100000
#define GUARD_SIZE ((size_t)1 << 16)

struct script {
    const unsigned char *bytes;
    size_t size;
};

struct stage {
    struct script script;
    struct sf_channel *channel;
    struct sf_message *message;
    void *lent;          /* where a large message may be, until another asks */
    uint64_t live, dead; /* members besides ourselves */
    bool half_sent;      /* goes on with the same arguments, or not at all */
};

static inline void expect(bool holds, const char *what, int64_t found)
{
    if (holds)
        return;
    fprintf(stderr, "%s: %lld\n", what, (long long)found);
    abort();
}

/* ------------------------------------------------------------------- guards */

/* The program is linked with --wrap for these two. A shared mapping gets a
 * stretch behind it that no access survives. */
void *__real_mmap(void *, size_t, int, int, int, off_t);
void *__wrap_mmap(void *, size_t, int, int, int, off_t);
int __real_munmap(void *, size_t);
int __wrap_munmap(void *, size_t);

static void *guarded; /* the one channel of a script */

static inline size_t rounded_to_page(size_t size)
{
    return (size + 4095) & ~(size_t)4095;
}

void *__wrap_mmap(void *wanted, size_t size, int protection, int flags, int file, off_t offset)
{
    size_t rounded = rounded_to_page(size);
    unsigned char *memory;

    if (!(flags & MAP_SHARED) || file < 0)
        return __real_mmap(wanted, size, protection, flags, file, offset);
    memory = __real_mmap(NULL, rounded + GUARD_SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    guarded = __real_mmap(memory, size, protection, flags | MAP_FIXED, file, offset);
    return guarded;
}

int __wrap_munmap(void *memory, size_t size)
{
    if (memory != guarded)
        return __real_munmap(memory, size);
    guarded = NULL;
    return __real_munmap(memory, rounded_to_page(size) + GUARD_SIZE);
}

/* ------------------------------------------------------------------- script */

static inline uint64_t next_bytes(struct stage *stage, size_t count)
{
    struct script *script = &stage->script;
    uint64_t value = 0;

    for (; count > 0; count--) {
        value <<= 8;
        if (script->size == 0)
            continue;
        value |= *script->bytes++;
        script->size--;
    }
    return value;
}

static inline uint64_t next_below(struct stage *stage, uint64_t limit)
{
    return next_bytes(stage, 3) % limit;
}

/* A number, with a liking for those that mean something here. */
static inline uint64_t next_value(struct stage *stage)
{
    struct ring *ring = &stage->channel->ring;
    uint64_t kind = next_bytes(stage, 1) % 12;
    int64_t near = 8 * (int64_t)(int8_t)next_bytes(stage, 1);

    switch (kind) {
    case 0:
        return next_bytes(stage, 8);
    case 1:
        return UINT64_C(1) << (near & 63);
    case 2:
        return ~(uint64_t)near;
    case 3:
    case 4:
        return atomic_load(&ring->sender->tail) + (uint64_t)near;
    case 5:
    case 6:
        return atomic_load(&ring->receiver->head) + (uint64_t)near;
    case 7:
        return liveness_self();
    case 8:
        return stage->live;
    case 9:
        return near > 0 ? stage->dead : LIVENESS_NOBODY;
    case 10:
        return next_below(stage, ring->segment_count + 2u) << RING_SEGMENT_SHIFT;
    default:
        return next_bytes(stage, 2);
    }
}

/* ------------------------------------------------------------------- damage */

static inline void damage_position(struct stage *stage)
{
    struct ring *ring = &stage->channel->ring;
    uint64_t which = next_bytes(stage, 1) % 6, value = next_value(stage);

    switch (which) {
    case 0:
        atomic_store(&ring->sender->tail, value);
        break;
    case 1:
        atomic_store(&ring->receiver->head, value);
        break;
    case 2:
        ring->sender->head_seen = value;
        break;
    case 3:
        ring->receiver->tail_seen = value;
        break;
    default: /* a channel at another place, and nothing wrong with that */
        value &= ~(RING_SEGMENT_SIZE - 1);
        atomic_store(&ring->sender->tail, value);
        atomic_store(&ring->receiver->head, value);
        ring->sender->head_seen = ring->receiver->tail_seen = value;
    }
}

static inline void damage_hint(struct stage *stage)
{
    struct ring *ring = &stage->channel->ring;
    uint64_t which = next_bytes(stage, 1) % 5;
    uint32_t value = (uint32_t)next_value(stage);
    _Atomic uint32_t *hints[] = {&ring->sender->taken, &ring->sender->lowest,
                                 &ring->receiver->given, &ring->warm->ever_used,
                                 &ring->warm->ids[next_bytes(stage, 1) % RING_WARM_COUNT]};

    atomic_store(hints[which], value);
}

static inline void damage_segment(struct stage *stage)
{
    struct ring *ring = &stage->channel->ring;
    uint64_t which = next_bytes(stage, 1), value = next_value(stage);

    if (which % 2 == 0)
        atomic_store(&ring->map[(which / 2) % ring->map_count], (uint32_t)value);
    else
        atomic_store(&ring->state[(which / 2) % ring->segment_count],
                     value >> (which % 4 == 1 ? RING_SEGMENT_SHIFT : 0));
}

/* Where the next frame to be received lies, if that is inside of the ring. */
static inline unsigned char *frame_at(struct ring *ring, uint64_t position)
{
    uint32_t physical =
        atomic_load(&ring->map[(position >> RING_SEGMENT_SHIFT) & (ring->map_count - 1)]);
    uint64_t offset = position & (RING_SEGMENT_SIZE - 1) & ~UINT64_C(7);

    if (physical >= ring->segment_count || offset > RING_SEGMENT_SIZE - 16)
        return NULL;
    return ring->data + ((size_t)physical << RING_SEGMENT_SHIFT) + offset;
}

/* A frame that looks like one: the right magic, and any flags and sizes. */
static inline void damage_frame(struct stage *stage)
{
    struct ring *ring = &stage->channel->ring;
    uint64_t flags = next_bytes(stage, 1), total = next_value(stage);
    uint64_t size = flags & 0x80 ? next_bytes(stage, 3) : next_bytes(stage, 1) * 8;
    uint64_t word = UINT64_C(0x5af15f) << 40 | UINT64_C(7) << 32 | (flags & 0x7f) << 24 | size;
    unsigned char *at = frame_at(ring, atomic_load(&ring->receiver->head));

    if (at == NULL)
        return;
    memcpy(at, &word, sizeof word);
    memcpy(at + sizeof word, &total, sizeof total);
}

/* A whole segment of frames without content, of which there seems no end. */
static inline void damage_with_many_frames(struct stage *stage)
{
    struct ring *ring = &stage->channel->ring;
    uint64_t word = UINT64_C(0x5af15f) << 40 | (next_bytes(stage, 1) & 0x7f) << 24;
    unsigned char *segment =
        ring->data + (next_below(stage, ring->segment_count) << RING_SEGMENT_SHIFT);

    for (size_t offset = 0; offset < RING_SEGMENT_SIZE; offset += sizeof word)
        memcpy(segment + offset, &word, sizeof word);
}

static inline void damage_mark(struct stage *stage)
{
    struct region *region = stage->channel->region;
    uint64_t which = next_bytes(stage, 1);

    atomic_store(which % 2 == 0 ? &region->sending.stream : &region->receiving.stream,
                 next_value(stage));
}

static inline void damage_end(struct stage *stage)
{
    struct region *region = stage->channel->region;
    uint64_t which = next_bytes(stage, 1), value = next_value(stage);
    struct end *end = &region->ends[which % 3 == 0 ? LIVENESS_SLOT_OF(stage->live) : which / 3];

    value = which % 2 == 0 ? LIVENESS_GENERATION_OF(value) : value;
    atomic_store(which % 5 < 3 ? &end->sender : &end->receiver, (uint32_t)value);
}

static inline void damage_waiting(struct stage *stage)
{
    struct region *region = stage->channel->region;
    uint64_t which = next_bytes(stage, 1), value = next_value(stage);
    struct park_word *word = which % 2 == 0 ? &region->data : &region->space;

    atomic_store(&word->waiting[which / 2 % 4], value);
    atomic_store(&word->sequence, (uint32_t)value);
    atomic_store(&word->signalled_ns, (int64_t)next_value(stage));
}

static inline void damage_setting(struct stage *stage)
{
    struct region *region = stage->channel->region;
    _Atomic uint32_t *settings[] = {&region->closed, &region->shared, &region->sending.cpu,
                                    &region->receiving.cpu};

    atomic_store(settings[next_bytes(stage, 1) % 4], (uint32_t)next_value(stage));
}

static inline bool is_in_a_lock(const struct region *region, size_t offset)
{
    size_t sending = offsetof(struct region, sending.lock);
    size_t receiving = offsetof(struct region, receiving.lock);

    return (offset >= sending && offset < sending + sizeof region->sending.lock) ||
           (offset >= receiving && offset < receiving + sizeof region->receiving.lock);
}

static inline void damage_any_word(struct stage *stage)
{
    struct sf_channel *channel = stage->channel;
    size_t offset = next_below(stage, channel->mapped_size / 8) * 8;
    uint64_t value = next_value(stage);

    if (!is_in_a_lock(channel->region, offset))
        memcpy((unsigned char *)channel->region + offset, &value, sizeof value);
}

/* -------------------------------------------------------------------- calls */

static inline int64_t next_deadline(struct stage *stage)
{
    return next_bytes(stage, 1) % 4 == 0 ? sf_clock_now_ns() + SOON_NS : SF_NOW;
}

static inline void send_and_look(struct stage *stage, int tag, size_t size, int64_t deadline_ns)
{
    static const unsigned char data[1 << 20];
    int rc;

    if (stage->half_sent)
        sf_channel_cancel(stage->channel);
    rc = sf_channel_send(stage->channel, tag, data, size, deadline_ns);
    if (rc == -EINTR)
        rc = sf_channel_send(stage->channel, tag, data, size, SF_NOW);
    stage->half_sent = rc == -EINTR;
    expect(rc == 0 || rc == -ENOBUFS || rc == -EMSGSIZE || rc == -ESHUTDOWN || rc == -EPIPE ||
               rc == -EINTR || rc == -EBADMSG,
           "send", rc);
}

static inline void call_send(struct stage *stage)
{
    uint64_t kind = next_bytes(stage, 1);
    size_t size = kind % 3 == 0 ? next_below(stage, 1 << 20) : next_bytes(stage, 2);

    send_and_look(stage, (int)kind, size, next_deadline(stage));
}

static inline void call_send_many(struct stage *stage)
{
    static const unsigned char data[64 * 256];
    uint64_t heads[64];
    size_t count = next_bytes(stage, 1) % 64;
    int rc;

    for (size_t i = 0; i < count; i++)
        heads[i] = next_bytes(stage, 2);
    if (stage->half_sent)
        sf_channel_cancel(stage->channel);
    stage->half_sent = false;
    rc = sf_channel_send_many(stage->channel, data, heads, count, next_deadline(stage));
    expect(rc == 0 || rc == -ENOBUFS || rc == -EMSGSIZE || rc == -ESHUTDOWN || rc == -EPIPE ||
               rc == -EINTR || rc == -EBADMSG,
           "send many", rc);
}

static inline void call_receive_many(struct stage *stage)
{
    size_t most = next_bytes(stage, 1) * 8 + 1, size = 0;
    int64_t count =
        sf_channel_receive_many(stage->channel, stage->message, most, next_deadline(stage));
    const unsigned char *data = sf_message_data(stage->message);
    volatile unsigned char seen;

    expect(count <= (int64_t)most && count <= (int64_t)SF_MESSAGE_MANY, "receive many", count);
    for (int64_t i = 0; i < count; i++)
        size += (size_t)(sf_message_heads(stage->message)[i] >> 8);
    if (size > 0)
        seen = data[size - 1], (void)seen;
}

static inline void lend(struct stage *stage)
{
    size_t size = (size_t)sf_message_result(stage->message) >> 8;

    free(stage->lent);
    stage->lent = size <= LENT_LIMIT ? malloc(size) : NULL;
    sf_message_lend(stage->message, stage->lent, size);
}

/* Receive, and lend memory as often as it is asked for. Once lent, it is asked
 * for again only by another message, after one of which the rest never came. */
static inline int64_t receive_lending(struct stage *stage, int64_t deadline_ns)
{
    _Atomic uint64_t *head = &stage->channel->region->receiving.ring.head;
    int64_t result = sf_channel_receive(stage->channel, stage->message, deadline_ns);
    uint64_t before;

    while (result == -EFBIG) {
        before = atomic_load(head);
        lend(stage);
        result = sf_channel_receive(stage->channel, stage->message, deadline_ns);
        expect(result != -EFBIG || atomic_load(head) != before, "ask", result);
    }
    return result;
}

static inline int64_t receive_and_look(struct stage *stage, int64_t deadline_ns)
{
    int64_t result = receive_lending(stage, deadline_ns);
    const unsigned char *data;
    volatile unsigned char seen;

    data = sf_message_data(stage->message);
    if (result >> 8 > 0)
        seen = data[0], seen = data[(result >> 8) - 1], (void)seen;
    expect(result >= 0 || result == -EAGAIN || result == -ESHUTDOWN || result == -EPIPE ||
               result == -EINTR || result == -ENOMEM || result == -EBADMSG,
           "receive", result);
    return result;
}

static inline void call_receive(struct stage *stage)
{
    receive_and_look(stage, next_deadline(stage));
}

static inline void call_ask(struct stage *stage)
{
    sf_message_ask(stage->message, next_bytes(stage, 1) % 2 != 0);
}

static inline void call_cancel(struct stage *stage)
{
    sf_channel_cancel(stage->channel);
}

static inline void call_close(struct stage *stage)
{
    uint64_t which = next_bytes(stage, 1) % 8;
    int rc = which == 0   ? sf_channel_close_send(stage->channel)
             : which == 1 ? sf_channel_close(stage->channel)
             : which == 2 ? sf_channel_close_receive(stage->channel)
                          : 0;

    sf_channel_count_self(stage->channel, which % 2 != 0);
    expect(rc == 0, "close", rc);
}

static inline void call_measure(struct stage *stage)
{
    size_t committed = sf_channel_committed(stage->channel);

    sf_channel_used(stage->channel);
    expect(committed <= ((size_t)stage->channel->ring.segment_count + RING_WARM_COUNT)
                            << RING_SEGMENT_SHIFT,
           "committed", (int64_t)committed);
}

/* --------------------------------------------------------------------- play */

static inline void take_step(struct stage *stage)
{
    static void (*const acts[])(struct stage *) = {
        call_send,       call_send,       call_receive,
        call_receive,    call_cancel,     call_close,
        call_measure,    damage_frame,    damage_with_many_frames,
        damage_position, damage_hint,     damage_segment,
        damage_mark,     damage_end,      damage_waiting,
        damage_setting,  damage_any_word, call_ask};

    acts[next_bytes(stage, 1) % (sizeof acts / sizeof *acts)](stage);
}

/* Whatever was done to it, a channel can be used and left to the end. */
static inline void take_leave(struct stage *stage)
{
    send_and_look(stage, 1, 4, SF_NOW);
    for (int i = 0; i < 16 && receive_and_look(stage, SF_NOW) >= 0; i++)
        ;
    sf_channel_cancel(stage->channel);
    sf_channel_close(stage->channel);
    sf_channel_destroy(stage->channel);
    sf_message_destroy(stage->message);
    free(stage->lent);
}

static inline void play_script(const unsigned char *bytes, size_t size)
{
    struct stage stage = {.script = {bytes, size}};
    struct sf_process *live = NULL, *dead = NULL;
    size_t capacity = (size_t)1 << (8 + next_bytes(&stage, 1) % 11);

    expect(sf_process_create(&dead) == 0 && sf_process_create(&live) == 0, "create", 0);
    stage.live = liveness_member_of(live);
    stage.dead = liveness_member_of(dead);
    sf_process_destroy(dead);
    expect(sf_channel_create(capacity, capacity % 3 == 0 ? SF_CHANNEL_BOUND : 0, &stage.channel) ==
               0,
           "create", 0);
    expect(sf_message_create(&stage.message) == 0, "create", 0);
    for (int step = 0; step < STEP_LIMIT && stage.script.size > 0; step++)
        take_step(&stage);
    take_leave(&stage);
    sf_process_destroy(live);
}

#endif
