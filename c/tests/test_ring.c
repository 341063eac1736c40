/* SPDX-License-Identifier: MIT */
/* The ring alone, in ordinary memory: frames, segments, recovery, and what it
 * says of memory that somebody has damaged. */
#define _GNU_SOURCE
#include "peer.h"
#include "ring.h"

struct box {
    struct ring ring;
    struct ring_sender sender;
    struct ring_receiver receiver;
    struct ring_warm warm;
    unsigned char *memory;
    size_t size;
};

static size_t returned_count; /* segments given back to nobody in particular */

static void count_returned(void *memory, size_t size)
{
    memset(memory, 0, size);
    returned_count++;
}

static struct box *make_box(size_t capacity)
{
    struct box *box = calloc(1, sizeof *box);
    struct ring_layout layout;

    ring_lay_out(&layout, capacity, 0);
    box->size = layout.size;
    box->memory = calloc(1, layout.size);
    box->ring = (struct ring){.sender = &box->sender,
                              .receiver = &box->receiver,
                              .warm = &box->warm,
                              .map = (void *)(box->memory + layout.map_offset),
                              .state = (void *)(box->memory + layout.state_offset),
                              .data = box->memory + layout.data_offset,
                              .map_count = layout.map_count,
                              .segment_count = layout.segment_count,
                              .limit = ring_cost(capacity),
                              .give_back = count_returned};
    returned_count = 0;
    return box;
}

static void free_box(struct box *box)
{
    free(box->memory);
    free(box);
}

static uint64_t tail_of(struct box *box)
{
    return atomic_load(&box->sender.tail);
}

static uint64_t head_of(struct box *box)
{
    return atomic_load(&box->receiver.head);
}

/* Write all frames of a message at *position. */
static int write_message(struct box *box, struct mark mark, uint64_t *position)
{
    unsigned char *data = make_filled(mark);
    const void *part = data;
    size_t size = mark.size;
    struct ring_outgoing message = {.parts = &part, .sizes = &size, .total = size, .tag = 7};
    int rc;

    do
        rc = ring_write(&box->ring, &message, position, UINT64_MAX, 0);
    while (rc == 0 && message.written < message.total);
    free(data);
    return rc;
}

static int put(struct box *box, struct mark mark)
{
    uint64_t position = tail_of(box);
    int rc = write_message(box, mark, &position);

    if (rc == 0)
        ring_publish(&box->ring, position);
    return rc;
}

/* Consume one message; true if it is the one expected. */
static bool take(struct box *box, struct mark mark)
{
    unsigned char *data = calloc(1, mark.size + 1);
    uint64_t position = head_of(box), received = 0;
    struct ring_frame frame = {.flags = RING_PAD};
    bool good = true;

    while (good && (received < mark.size || (frame.flags & RING_PAD))) {
        good = ring_peek(&box->ring, position, &frame) == 1 && received + frame.size <= mark.size;
        if (good && !(frame.flags & RING_PAD)) {
            good = (received > 0 || frame.total == mark.size) && frame.tag == 7;
            memcpy(data + received, frame.payload, frame.size);
            received += frame.size;
        }
        position = frame.next;
    }
    good = good && received == mark.size && is_intact(data, mark);
    ring_consume(&box->ring, position);
    free(data);
    return good;
}

/* ---------------------------------------------------------------- messages */

static void every_size_comes_out_as_it_went_in(void)
{
    static const size_t sizes[] = {0,      1,      7,      8,      9,      4095,   65503, 65504,
                                   65519,  65520,  65521,  65528,  65529,  65536,  65537, 131047,
                                   131048, 131049, 131072, 131073, 200000, 1048576};
    struct box *box = make_box(2 * MIB);

    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CHECK_EQUAL(put(box, (struct mark){1, i, sizes[i]}), 0);
        CHECK(take(box, (struct mark){1, i, sizes[i]}));
    }
    CHECK_EQUAL(ring_used(&box->ring), 0);
    free_box(box);
}

static void every_place_in_a_segment_will_do(void)
{
    struct box *box = make_box(256 * KIB);
    uint32_t number = 0;

    /* 8 bytes a frame, so that each message begins 8 bytes further. */
    while (tail_of(box) < RING_SEGMENT_SIZE * 2) {
        CHECK_EQUAL(put(box, (struct mark){1, number, 40}), 0);
        CHECK(take(box, (struct mark){1, number++, 40}));
    }
    for (uint64_t left = 8; left <= 160; left += 8) {
        uint64_t offset = tail_of(box) % RING_SEGMENT_SIZE;
        size_t filler = RING_SEGMENT_SIZE - offset - left - 8;

        if (offset + left + 8 <= RING_SEGMENT_SIZE) {
            CHECK_EQUAL(put(box, (struct mark){2, number, filler}), 0);
            CHECK(take(box, (struct mark){2, number, filler}));
        }
        CHECK_EQUAL(put(box, (struct mark){3, number, 70000}), 0);
        CHECK(take(box, (struct mark){3, number++, 70000}));
    }
    free_box(box);
}

static void a_frame_lies_in_one_segment(void)
{
    struct box *box = make_box(1 * MIB);
    struct ring_frame frame;
    uint64_t position = 0;

    put(box, (struct mark){1, 1, 500000});
    put(box, (struct mark){1, 2, 500});
    while (ring_peek(&box->ring, position, &frame) == 1) {
        CHECK(position / RING_SEGMENT_SIZE == (frame.next - 1) / RING_SEGMENT_SIZE);
        position = frame.next;
    }
    CHECK_EQUAL(position, tail_of(box));
    free_box(box);
}

static void pieces_are_gathered_in_order(void)
{
    struct box *box = make_box(64 * KIB);
    const void *parts[] = {NULL, "ab", NULL, "cdef", "g", NULL};
    const size_t sizes[] = {0, 2, 0, 4, 1, 0};
    struct ring_outgoing message = {.parts = parts, .sizes = sizes, .total = 7};
    struct ring_frame frame;
    uint64_t position = 0;

    CHECK_EQUAL(ring_write(&box->ring, &message, &position, UINT64_MAX, 0), 0);
    ring_publish(&box->ring, position);
    CHECK_EQUAL(ring_peek(&box->ring, 0, &frame), 1);
    CHECK(frame.size == 7 && memcmp(frame.payload, "abcdefg", 7) == 0);
    free_box(box);
}

static void what_is_not_published_cannot_be_seen(void)
{
    struct box *box = make_box(256 * KIB);
    struct ring_frame frame;
    uint64_t position = 0;

    CHECK_EQUAL(ring_peek(&box->ring, 0, &frame), 0);
    write_message(box, (struct mark){1, 1, 100000}, &position);
    CHECK_EQUAL(ring_peek(&box->ring, 0, &frame), 0);
    CHECK_EQUAL(ring_used(&box->ring), 0);
    ring_publish(&box->ring, position);
    CHECK_EQUAL(ring_peek(&box->ring, 0, &frame), 1);
    free_box(box);
}

static void an_abort_frame_says_so(void)
{
    struct box *box = make_box(64 * KIB);
    struct ring_frame frame;
    uint64_t position = 0;

    CHECK_EQUAL(ring_write_abort(&box->ring, &position), 0);
    ring_publish(&box->ring, position);
    CHECK_EQUAL(ring_peek(&box->ring, 0, &frame), 1);
    CHECK_EQUAL(frame.flags, RING_ABORT);
    CHECK_EQUAL(frame.next, tail_of(box));
    free_box(box);
}

/* ---------------------------------------------------------------- segments */

static uint64_t room_for(struct box *box, uint64_t wanted)
{
    uint64_t room = 0;

    CHECK_EQUAL(ring_room(&box->ring, wanted, &room), 0);
    return room;
}

static void room_shrinks_with_what_waits_and_grows_with_what_is_consumed(void)
{
    struct box *box = make_box(256 * KIB);
    uint64_t all = room_for(box, 0);

    CHECK_EQUAL(all, ring_cost(256 * KIB));
    put(box, (struct mark){1, 1, 1000});
    CHECK_EQUAL(room_for(box, all), all - tail_of(box));
    take(box, (struct mark){1, 1, 1000});
    CHECK_EQUAL(room_for(box, all), all);
    free_box(box);
}

static void memory_follows_what_waits(void)
{
    struct box *box = make_box(64 * MIB);

    CHECK_EQUAL(ring_segments_in_use(&box->ring), 0);
    for (uint32_t i = 0; i < 300; i++)
        put(box, (struct mark){1, i, 65528});
    CHECK_EQUAL(ring_segments_in_use(&box->ring), 300);
    for (uint32_t i = 0; i < 300; i++)
        CHECK(take(box, (struct mark){1, i, 65528}));
    CHECK_EQUAL(ring_segments_in_use(&box->ring), 0);
    CHECK_EQUAL(ring_segments_warm(&box->ring), RING_WARM_COUNT);
    CHECK_EQUAL(returned_count, 300 - RING_WARM_COUNT);
    ring_trim(&box->ring);
    CHECK_EQUAL(ring_segments_warm(&box->ring), 0);
    CHECK_EQUAL(returned_count, 300);
    free_box(box);
}

static void traffic_uses_the_same_few_segments(void)
{
    struct box *box = make_box(64 * MIB);

    for (uint32_t i = 0; i < 2000; i++) {
        put(box, (struct mark){1, i, 60000});
        CHECK(take(box, (struct mark){1, i, 60000}));
    }
    CHECK(box->warm.ever_used <= 4);
    CHECK(ring_segments_in_use(&box->ring) <= 1);
    free_box(box);
}

static void without_a_free_segment_there_is_no_write(void)
{
    struct box *box = make_box(64 * KIB);
    uint32_t count = 0;

    while (put(box, (struct mark){1, count, 65528}) == 0)
        count++;
    CHECK_EQUAL(count, box->ring.segment_count);
    CHECK_EQUAL(put(box, (struct mark){1, count, 65528}), -ENOBUFS);
    take(box, (struct mark){1, 0, 65528});
    CHECK_EQUAL(put(box, (struct mark){1, count, 65528}), 0);
    free_box(box);
}

static void the_segments_of_a_dead_sender_are_free_again(void)
{
    struct box *box = make_box(1 * MIB);
    uint64_t position;

    put(box, (struct mark){1, 1, 100000});
    position = tail_of(box);
    write_message(box, (struct mark){1, 2, 400000}, &position);
    CHECK_EQUAL(ring_segments_in_use(&box->ring), 8);
    ring_recover_sender(&box->ring);
    CHECK_EQUAL(ring_segments_in_use(&box->ring), 2);
    CHECK(take(box, (struct mark){1, 1, 100000}));
    CHECK_EQUAL(put(box, (struct mark){1, 3, 100000}), 0);
    CHECK(take(box, (struct mark){1, 3, 100000}));
    free_box(box);
}

static void the_segments_of_a_dead_receiver_are_free_again(void)
{
    struct box *box = make_box(1 * MIB);

    put(box, (struct mark){1, 1, 400000});
    put(box, (struct mark){1, 2, 1000});
    /* Consumed and not freed: it died right behind the head store. */
    atomic_store(&box->receiver.head, 6 * RING_SEGMENT_SIZE);
    ring_recover_receiver(&box->ring);
    CHECK_EQUAL(ring_segments_in_use(&box->ring), 1);
    free_box(box);
}

static void a_sender_frees_what_a_dead_receiver_left_when_it_needs_it(void)
{
    struct box *box = make_box(256 * KIB);
    uint32_t count = box->ring.segment_count;

    for (uint32_t i = 0; i < count; i++)
        put(box, (struct mark){1, i, 65528});
    atomic_store(&box->receiver.head, count * RING_SEGMENT_SIZE);
    CHECK_EQUAL(put(box, (struct mark){1, count, 65528}), 0);
    CHECK(take(box, (struct mark){1, count, 65528}));
    CHECK_EQUAL(ring_segments_in_use(&box->ring), 0);
    free_box(box);
}

/* A receiver that was stopped between its head store and its free finds the
 * segment in use again, under another number. */
static void a_segment_that_is_freed_late_stays_in_use(void)
{
    struct box *box = make_box(256 * KIB);
    uint32_t count = box->ring.segment_count;

    for (uint32_t i = 0; i < count; i++)
        put(box, (struct mark){1, i, 65528});
    atomic_store(&box->receiver.head, RING_SEGMENT_SIZE);
    CHECK_EQUAL(put(box, (struct mark){1, count, 65528}), 0);
    CHECK_EQUAL(ring_segments_in_use(&box->ring), count);
    atomic_store(&box->receiver.head, 0);
    ring_consume(&box->ring, RING_SEGMENT_SIZE);
    CHECK_EQUAL(ring_segments_in_use(&box->ring), count);
    for (uint32_t i = 1; i <= count; i++)
        CHECK(take(box, (struct mark){1, i, 65528}));
    free_box(box);
}

/* Any sequence of operations does what a plain list of messages would. */
static void a_ring_is_a_queue(void)
{
    struct box *box = make_box(512 * KIB);
    uint32_t first = 0, last = 0;
    size_t sizes[256], size;
    uint64_t random = 42, total = 0;

    while (last < 20000) {
        random = noise(random);
        size = random % 8 == 0 ? random / 8 % 100000 : random / 8 % 300;
        if (last - first < 256 && random % 3 != 0 &&
            room_for(box, ring_cost(size)) >= ring_cost(size)) {
            CHECK_EQUAL(put(box, (struct mark){1, last, size}), 0);
            sizes[last++ % 256] = size;
            total += size;
        } else if (first < last) {
            if (!CHECK(take(box, (struct mark){1, first, sizes[first % 256]})))
                break;
            first++;
        }
        if (random % 97 == 0)
            ring_trim(&box->ring);
        if (random % 89 == 0)
            ring_recover_sender(&box->ring);
    }
    CHECK(total > 10 * MIB);
    free_box(box);
}

/* ----------------------------------------------------------------- threads */

#define STREAM_COUNT 3000

static void *put_many(void *subject)
{
    struct box *box = subject;

    for (uint32_t i = 0; i < STREAM_COUNT; i++) {
        size_t size = noise(i) % 20000;

        while (room_for(box, ring_cost(size)) < ring_cost(size))
            sched_yield();
        CHECK_EQUAL(put(box, (struct mark){1, i, size}), 0);
    }
    return NULL;
}

static void a_sender_and_a_receiver_need_no_lock_between_them(void)
{
    struct box *box = make_box(128 * KIB);
    pthread_t sender;

    pthread_create(&sender, NULL, put_many, box);
    for (uint32_t i = 0; i < STREAM_COUNT; i++) {
        while (ring_used(&box->ring) == 0)
            sched_yield();
        if (!CHECK(take(box, (struct mark){1, i, noise(i) % 20000})))
            exit(1);
    }
    pthread_join(sender, NULL);
    CHECK(ring_segments_in_use(&box->ring) <= 1);
    free_box(box);
}

/* ------------------------------------------------------------ damaged memory */

/* Read every byte that the ring says may be read; a sanitizer looks on. */
static int walk(struct box *box)
{
    uint64_t position = head_of(box);
    volatile unsigned char sum = 0;
    struct ring_frame frame;
    int rc;

    while ((rc = ring_peek(&box->ring, position, &frame)) == 1) {
        CHECK(frame.next > position && frame.next <= tail_of(box));
        CHECK(frame.total >= frame.size);
        CHECK(frame.payload >= box->memory);
        CHECK(frame.payload + frame.size <= box->memory + box->size);
        for (size_t i = 0; i < frame.size; i++)
            sum = (unsigned char)(sum + frame.payload[i]);
        position = frame.next;
    }
    return rc;
}

static void fill_some(struct box *box, uint64_t random)
{
    for (uint32_t i = 0; i < 20; i++)
        put(box, (struct mark){1, i, noise(random + i) % 30000});
}

/* Flip bits of one byte; of a header rather than of what it stands before. */
static void damage(struct box *box, uint64_t random)
{
    uint64_t position = 0;
    struct ring_frame frame;

    for (uint64_t i = random % 20; i > 0 && ring_peek(&box->ring, position, &frame) == 1; i--)
        position = frame.next;
    if (position < tail_of(box))
        box->ring.data[position + (random >> 8) % 16] ^= (unsigned char)(1 + (random >> 16) % 255);
}

static void damaged_frames_are_an_error_and_no_more(void)
{
    int errors = 0;

    for (uint64_t run = 0; run < 300; run++) {
        struct box *box = make_box(512 * KIB);
        uint64_t random = noise(run);

        fill_some(box, random);
        for (int i = 0; i < 4; i++)
            damage(box, random = noise(random));
        errors += walk(box) == -EBADMSG;
        free_box(box);
    }
    CHECK(errors > 100);
}

static void random_headers_are_an_error_or_a_frame_in_bounds(void)
{
    struct box *box = make_box(64 * KIB);
    uint64_t word, total;

    put(box, (struct mark){1, 1, 30000});
    for (uint64_t i = 0; i < 200000; i++) {
        /* The right magic, or nothing else would ever be looked at. */
        word = UINT64_C(0x5af15f) << 40 | noise(i) >> 24;
        if (i % 2 == 0)
            word &= ~UINT64_C(0xff0000);
        total = noise(~i) >> i % 64;
        memcpy(box->ring.data, &word, sizeof word);
        memcpy(box->ring.data + 8, &total, sizeof total);
        walk(box);
    }
    free_box(box);
}

static void a_damaged_map_is_an_error_and_no_more(void)
{
    for (uint64_t run = 0; run < 200; run++) {
        struct box *box = make_box(512 * KIB);
        struct ring_frame frame;

        fill_some(box, run);
        for (uint32_t i = 0; i < box->ring.map_count; i++)
            if (noise(run + i) % 3 == 0)
                atomic_store(&box->ring.map[i], (uint32_t)noise(run * 31 + i));
        CHECK(walk(box) != 1);
        if (ring_peek(&box->ring, head_of(box), &frame) == 1)
            ring_consume(&box->ring, tail_of(box));
        free_box(box);
    }
}

static void damaged_hints_cost_nothing_but_time(void)
{
    struct box *box = make_box(4 * MIB);
    uint64_t random = 7;

    for (uint32_t i = 0; i < 500; i++) {
        random = noise(random);
        atomic_store(&box->warm.ids[random % RING_WARM_COUNT], (uint32_t)(random >> 32));
        atomic_store(&box->receiver.given,
                     atomic_load(&box->sender.taken) + (uint32_t)(random % RING_WARM_COUNT));
        atomic_store(&box->sender.lowest, (uint32_t)(random >> 40));
        CHECK_EQUAL(put(box, (struct mark){1, i, 50000}), 0);
        CHECK(take(box, (struct mark){1, i, 50000}));
    }
    free_box(box);
}

int main(void)
{
    check_begin(60);
    RUN(every_size_comes_out_as_it_went_in);
    RUN(every_place_in_a_segment_will_do);
    RUN(a_frame_lies_in_one_segment);
    RUN(pieces_are_gathered_in_order);
    RUN(what_is_not_published_cannot_be_seen);
    RUN(an_abort_frame_says_so);
    RUN(room_shrinks_with_what_waits_and_grows_with_what_is_consumed);
    RUN(memory_follows_what_waits);
    RUN(traffic_uses_the_same_few_segments);
    RUN(without_a_free_segment_there_is_no_write);
    RUN(the_segments_of_a_dead_sender_are_free_again);
    RUN(the_segments_of_a_dead_receiver_are_free_again);
    RUN(a_sender_frees_what_a_dead_receiver_left_when_it_needs_it);
    RUN(a_segment_that_is_freed_late_stays_in_use);
    RUN(a_ring_is_a_queue);
    RUN(a_sender_and_a_receiver_need_no_lock_between_them);
    RUN(damaged_frames_are_an_error_and_no_more);
    RUN(random_headers_are_an_error_or_a_frame_in_bounds);
    RUN(a_damaged_map_is_an_error_and_no_more);
    RUN(damaged_hints_cost_nothing_but_time);
    return check_end();
}
