/* SPDX-License-Identifier: MIT */
/* Private. What the files of a channel share; channel.c says what a channel is.
 *
 *     side.c        the two locks
 *     peers.c       who has an end, and what to do when they die
 *     waiting.c     sleeping until something changes, and waking others
 *     sending.c     one side
 *     pace.c        how far it runs ahead of the other
 *     receiving.c   the other
 *     channel.c     creation, closing, fork, release
 */
#ifndef SNAKEFISH_CHANNEL_H
#define SNAKEFISH_CHANNEL_H

#include "kill_point.h"
#include "liveness.h"
#include "message.h"
#include "park.h"
#include "ring.h"
#include "snakefish.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>

struct end {
    _Atomic uint32_t sender, receiver; /* generation of the process that may, or 0 */
};

struct sending {
    _Alignas(128) pthread_mutex_t lock;
    struct ring_sender ring;
    _Atomic uint64_t stream; /* the member whose message is half sent, or 0 */
    _Atomic uint32_t cpu;    /* where the last sender ran */
};

struct receiving {
    _Alignas(128) pthread_mutex_t lock;
    struct ring_receiver ring;
    _Atomic uint64_t stream; /* the member that has half received one, or 0 */
    _Atomic uint32_t cpu;
};

struct region {
    struct sending sending;
    struct receiving receiving;
    struct park_word data, space;
    _Atomic uint64_t wake_at; /* a head before which who waits for space need not be woken */
    _Alignas(128) _Atomic uint32_t closed;
    _Atomic uint32_t shared; /* another process than the maker ever had an end */
    struct ring_warm warm;
    struct end ends[SF_PROCESS_LIMIT];
};

/* A message that a thread of this process has half sent. Under the sending
 * lock, but for a thread's look whether it is the one. */
struct outgoing {
    struct ring_outgoing message;
    const void *first;    /* its first part, which tells it from another message */
    _Atomic pid_t thread; /* 0 when there is none */
};

/* A message that this process has half received. Under the receiving lock. */
struct incoming {
    struct message_run run;
    uint64_t total, received;
    bool active;
    _Atomic uint32_t streak; /* messages since one had to be waited for; a hint */
};

/* What a sender that is not to run too far ahead has sent. Of its one thread. */
#define PACE_BATCH_COUNT 8

struct pace_batch {
    uint64_t end; /* the tail behind its last message */
    uint32_t size;
};

struct pace {
    struct pace_batch batches[PACE_BATCH_COUNT];
    uint32_t count;   /* of batches that are not known to be taken */
    uint32_t waiting; /* messages in them */
    uint32_t allowed; /* and those that are being sent */
};

struct sf_channel {
    struct sf_channel *next, **link; /* all channels of this process */
    struct region *region;
    size_t mapped_size, capacity;
    bool bound;
    struct ring ring;
    struct park_place data_place, space_place;
    struct outgoing outgoing;
    struct incoming incoming;
    struct pace pace;
    _Atomic uint32_t call_count; /* threads inside the functions below */
    _Atomic uint32_t released, counts_self;
    _Atomic uint32_t sends_not, receives_not; /* closed by this process */
    _Atomic uint32_t impatient;               /* a sender waited for warm memory in vain */
};

/* Is a message of this size published at one stroke, or as a stream? */
static inline bool channel_goes_whole(const struct sf_channel *channel, uint64_t size)
{
    return size <= SF_MESSAGE_INLINE && size <= channel->capacity;
}

/* ------------------------------------------------------- calls in progress */

static inline bool channel_is_released(struct sf_channel *channel)
{
    /* Sequentially consistent: pairs with the exchange in sf_channel_release;
     * a thread that goes to sleep has seen it or is seen by its wake-up. */
    return atomic_load_explicit(&channel->released, memory_order_seq_cst) != 0;
}

static inline bool channel_is_closed(struct sf_channel *channel)
{
    /* Acquire: what was sent before the closing is visible with it; pairs with
     * the release in sf_channel_close. */
    return atomic_load_explicit(&channel->region->closed, memory_order_acquire) != 0;
}

static inline bool channel_is_empty(struct sf_channel *channel)
{
    return ring_used(&channel->ring) == 0;
}

/* glibc, since 2.32, says whether this is the only thread. Then it is so until
 * this thread itself starts another. */
extern const char __libc_single_threaded __attribute__((weak));

static inline bool channel_is_of_one_thread(void)
{
    return &__libc_single_threaded != NULL && __libc_single_threaded != 0;
}

/* A lone thread needs no locked instruction: four of them were a fifth of what
 * it takes to send a small message and to receive it. */
static inline void channel_count_call(struct sf_channel *channel, uint32_t change)
{
    _Atomic uint32_t *count = &channel->call_count;

    if (channel_is_of_one_thread())
        /* Relaxed, both: nobody else is there. */
        atomic_store_explicit(count, atomic_load_explicit(count, memory_order_relaxed) + change,
                              memory_order_relaxed);
    else
        /* Sequentially consistent: either release sees the call counted or the
         * call sees the release; and our use of the mapping ends before it
         * goes. Pairs with sf_channel_release. */
        atomic_fetch_add_explicit(count, change, memory_order_seq_cst);
}

static inline int channel_begin_call(struct sf_channel *channel)
{
    /* A child of a fork in a family that was full. */
    if (liveness_self() == 0 && liveness_join() < 0)
        return -ENOLCK;
    channel_count_call(channel, 1);
    if (!channel_is_released(channel))
        return 0;
    channel_count_call(channel, (uint32_t)-1);
    return -EBADF;
}

static inline void channel_end_call(struct sf_channel *channel)
{
    channel_count_call(channel, (uint32_t)-1);
}

/* ------------------------------------------------------------------ side.c */

/* Take one side of the channel, mending what a holder that died left. Returns
 * 0; -EINTR when a stopped process holds it for longer than a slice; -EBADMSG. */
int channel_lock_sending(struct sf_channel *channel);
int channel_try_lock_sending(struct sf_channel *channel); /* -EINTR when it is held */
int channel_lock_receiving(struct sf_channel *channel);
void channel_unlock_sending(struct sf_channel *channel);
void channel_unlock_receiving(struct sf_channel *channel);

/* ----------------------------------------------------------------- streams */

static inline uint64_t channel_stream_owner(_Atomic uint64_t *stream)
{
    /* Acquire: pairs with set_stream; whoever finds a stream over also finds
     * what was published or consumed under it. */
    return atomic_load_explicit(stream, memory_order_acquire);
}

static inline void channel_set_stream(_Atomic uint64_t *stream, uint64_t owner)
{
    /* Release: pairs with the acquire in stream_owner. */
    atomic_store_explicit(stream, owner, memory_order_release);
    SF_KILL_POINT();
}

/* Leave a stream of this process to whoever has its side's lock next, to be
 * ended as if we had died: for the case that a stopped process has it now. */
static inline void channel_give_up_stream(_Atomic uint64_t *stream)
{
    uint64_t owner = liveness_self();

    /* Release: as set_stream. Fails when the stream has ended meanwhile. */
    atomic_compare_exchange_strong_explicit(stream, &owner, LIVENESS_NOBODY, memory_order_release,
                                            memory_order_relaxed);
}

static inline bool channel_is_held_by_other(_Atomic uint64_t *stream)
{
    uint64_t owner = channel_stream_owner(stream);

    return owner != 0 && owner != liveness_self();
}

static inline bool channel_is_owner_dead(_Atomic uint64_t *stream)
{
    uint64_t owner = channel_stream_owner(stream);

    return owner != 0 && owner != liveness_self() && liveness_is_dead(owner);
}

static inline void channel_set_streaming_thread(struct sf_channel *channel, pid_t thread)
{
    /* Relaxed: see streaming_thread. */
    atomic_store_explicit(&channel->outgoing.thread, thread, memory_order_relaxed);
}

/* ----------------------------------------------------------------- peers.c */

/* What a look at the peers found. */
struct peers {
    bool others_live; /* another process may still send (receive) */
    bool died;        /* an entry belongs to a dead process */
};

/* Enter a process, or take this one's name off an entry. */
void channel_open_ends(struct sf_channel *channel, uint64_t member, bool sends, bool receives);
void channel_close_end(_Atomic uint32_t *entry);

/* A process that was or is about to be forked has what its parent has. */
void channel_enroll(struct sf_channel *channel, uint64_t member);
void channel_set_shared(struct sf_channel *channel);

/* Look at everybody on one side, or at the owner of a stream, and prepare to
 * watch them unless `watched` is NULL. */
struct peers channel_look_at_peers(struct sf_channel *channel, bool senders,
                                   struct park_watch *watched);
void channel_look_at_stream(_Atomic uint64_t *stream, struct peers *peers,
                            struct park_watch *watched);

/* End a half-sent message. With the sending side locked. */
void channel_abort_outgoing(struct sf_channel *channel);

/* Take the dead out of everything they left their name in. Anybody may, any
 * number of times. Returns whether there were any. */
bool channel_bury_the_dead(struct sf_channel *channel);

/* --------------------------------------------------------------- waiting.c */

/* One side's way of waiting, for one call. */
struct waiting {
    struct sf_channel *channel;
    struct park_word *word;
    struct park_place *place;
    bool (*ready)(void *);
    _Atomic uint32_t *peer_cpu;
    bool for_senders; /* whose deaths end the waiting */
    uint64_t need;    /* room to wait for, or a position of the head */
    uint32_t streak;  /* messages received since the last one that was waited for */
    pid_t thread;     /* this one, if it has a stream under way */
};

/* Values of `ready`. */
bool channel_has_data(void *waiting);
bool channel_has_space(void *waiting);
bool channel_is_consumed(void *waiting);

/* Is there nothing more to wait for, because the channel was closed? */
bool channel_is_over(struct waiting *waiting);

/* Sleep until something may have changed. Returns 0 to try again, or what
 * sf_channel_receive and sf_channel_send return. */
int channel_wait(struct waiting *waiting, int64_t deadline_ns);

/* `several` messages were sent at one stroke. */
void channel_wake_receivers(struct sf_channel *channel, bool several);
void channel_wake_senders(struct sf_channel *channel);
void channel_wake_everybody(struct sf_channel *channel);

/* Is the other side on another processor, so that looking can pay? */
static inline bool channel_is_elsewhere(_Atomic uint32_t *cpu)
{
    /* Relaxed: a hint; a wrong one costs one look in vain. */
    return atomic_load_explicit(cpu, memory_order_relaxed) != (uint32_t)sched_getcpu() + 1;
}

static inline void channel_note_cpu(_Atomic uint32_t *cpu)
{
    atomic_store_explicit(cpu, (uint32_t)sched_getcpu() + 1, memory_order_relaxed); /* a hint */
}

/* --------------------------------------------- sending.c and receiving.c */

/* End what any thread of this process has half sent, half received. */
void channel_leave_outgoing(struct sf_channel *channel);
void channel_leave_incoming(struct sf_channel *channel);

/* Free what this process has half received. With the receiving side locked, or
 * with no other thread in a call. */
void channel_forget_incoming(struct sf_channel *channel);

#endif
