/* SPDX-License-Identifier: MIT */
/* Private. Messages as frames in recycled segments.
 *
 * The ring works in memory that is handed to it and knows no process, no lock
 * and no system call. Its caller sees to it that one thread at a time is on
 * the sending side and one on the receiving side.
 */
#ifndef SNAKEFISH_RING_H
#define SNAKEFISH_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define RING_SEGMENT_SHIFT 16
#define RING_SEGMENT_SIZE (UINT64_C(1) << RING_SEGMENT_SHIFT)
#define RING_WARM_COUNT 128 /* recycled segments kept, 8 MiB */

/* A frame's place in its message. */
enum {
    RING_FIRST = 1,  /* the message begins here */
    RING_MORE = 2,   /* and does not end here */
    RING_PAD = 4,    /* no message: the rest of a segment */
    RING_ABORT = 8,  /* no message: the one under way will never end */
    RING_STREAM = 16 /* on a first frame: published piece by piece */
};

/* What the sending side writes. All of it is meaningful to the next sender at
 * any instant, whatever became of the last one. */
struct ring_sender {
    _Atomic uint64_t tail;   /* the only publication of data */
    uint64_t head_seen;      /* a head that was true once: never too large */
    _Atomic uint32_t taken;  /* recycled segments taken out of warm[] */
    _Atomic uint32_t lowest; /* hint: no free segment below */
};

struct ring_receiver {
    _Atomic uint64_t head;  /* the only publication of space */
    uint64_t tail_seen;     /* a tail that was true once */
    _Atomic uint32_t given; /* recycled segments put into warm[] */
};

struct ring_warm {
    _Atomic uint32_t ever_used;            /* segments that were ever touched */
    _Atomic uint32_t ids[RING_WARM_COUNT]; /* hints; each is checked before use */
};

/* One process's view of a ring. */
struct ring {
    struct ring_sender *sender;
    struct ring_receiver *receiver;
    struct ring_warm *warm;
    _Atomic uint32_t *map;   /* logical segment, modulo map_count -> physical */
    _Atomic uint64_t *state; /* per physical: 0 free, else logical + 1 */
    unsigned char *data;
    uint32_t map_count; /* a power of two */
    uint32_t segment_count;
    uint64_t limit; /* most bytes between head and tail */
    void (*give_back)(void *memory, size_t size);
};

/* Where the three arrays of a ring lie behind its first byte. */
struct ring_layout {
    size_t map_offset, state_offset, data_offset, size;
    uint64_t limit; /* of struct ring */
    uint32_t map_count, segment_count;
};

/* A message on its way in: pieces, and how far they were read. */
struct ring_outgoing {
    const void *const *parts;
    const size_t *sizes;
    size_t part, offset;
    uint64_t total, written;
    int tag;
};

struct ring_frame {
    const unsigned char *payload;
    size_t size;
    unsigned flags;
    int tag;
    uint64_t total; /* of the whole message; on first frames */
    uint64_t next;  /* the position behind the frame */
};

/* The layout for a capacity; `offset` bytes at the start belong to the caller. */
void ring_lay_out(struct ring_layout *layout, size_t capacity, size_t offset);

/* Bytes between head and tail that a message of `size`, or `count` messages of
 * that size together, may come to need. */
uint64_t ring_cost(uint64_t size);
uint64_t ring_cost_of_many(uint64_t size, uint64_t count);

/* Sending side. ------------------------------------------------------- */

/* Bytes that may be written now. Looks at the head only when what it saw last
 * does not suffice for `wanted`. Returns 0, or -EBADMSG when head and tail
 * cannot both be true. */
int ring_room(struct ring *ring, uint64_t wanted, uint64_t *room);

/* Is it worth asking again? For who waits for room, without the lock. */
bool ring_may_have_room(const struct ring *ring, uint64_t wanted);

/* May a message of `size` need another segment than the tail is in? */
bool ring_reaches_segment(const struct ring *ring, uint64_t size);

/* Write the next frame of a message at *position, with at most `most` bytes of
 * it, and move *position behind it. Nothing is visible before ring_publish.
 * Returns 0, -ENOBUFS when no segment is free, or -EBADMSG when there can be no
 * frame at the position. */
int ring_write(struct ring *ring, struct ring_outgoing *message, uint64_t *position, uint64_t most,
               unsigned flags);

/* Write the frame that ends an unfinished message. Returns as ring_write. */
int ring_write_abort(struct ring *ring, uint64_t *position);

void ring_publish(struct ring *ring, uint64_t position);

/* Free what a sender that died had taken and not published. Never while the
 * sender may be alive. */
void ring_recover_sender(struct ring *ring);

/* Give the memory of recycled segments back. */
void ring_trim(struct ring *ring);

/* Is a recycled segment at hand, so that a write touches no new memory? */
bool ring_is_warm(const struct ring *ring);

/* Receiving side. ----------------------------------------------------- */

/* Look at the frame at `position`. Returns 1; 0 when nothing is published
 * there; -EBADMSG when what is there cannot be a frame. */
int ring_peek(struct ring *ring, uint64_t position, struct ring_frame *frame);

/* Let the sending side have everything before `position`. */
void ring_consume(struct ring *ring, uint64_t position);

/* Free what a receiver that died had consumed and not freed. Never while the
 * receiver may be alive. */
void ring_recover_receiver(struct ring *ring);

/* Either side. ---------------------------------------------------------- */

uint64_t ring_used(const struct ring *ring);

/* Has everything before `position` been consumed? */
bool ring_is_consumed(const struct ring *ring, uint64_t position);

/* Segments that hold messages, and recycled ones. */
uint32_t ring_segments_in_use(const struct ring *ring);
uint32_t ring_segments_warm(const struct ring *ring);

#endif
