/* SPDX-License-Identifier: MIT */
/* A ring, two locks, two places to wait, and the rules that make them survive
 * the death of anybody at any instruction.
 *
 *     region | sending:   lock, tail, ..., stream owner |
 *            | receiving: lock, head, ..., stream owner |
 *            | data: receivers wait here | space: senders wait here |
 *            | closed | recycled segments | ends[1024] | map | state | segments
 *
 * Each side has a robust mutex. It is held for one bounded piece of work, a
 * copy of 128 KiB at most, and never while waiting or while the caller's
 * interpreter runs. When its holder dies, the next one has only to free
 * segments, because the single store that publishes or consumes either
 * happened or did not (ring.c).
 *
 * A large message passes as a stream: it is published segment by segment, so
 * that both processes work in memory that is still in the cache, and so that
 * it may be larger than the channel. Its sender keeps other senders away, and
 * its receiver other receivers, not by holding the lock but by a mark: the
 * member number of the owner. A mark can be looked at, waited for, and taken
 * away when the kernel says that its owner is dead. A stream whose sender died
 * is ended by an abort frame, a stream whose receiver died is skipped.
 *
 * `ends` says who may still send and receive: the generation of the process in
 * each slot. An entry is as good as its process is alive. From it follow the
 * end of a stream of messages (no other sender is left) and whose life words a
 * sleeper watches.
 *
 * Memory is a memfd without a descriptor or a name: not charged before it is
 * touched, even where overcommit is strict, and gone with its last process.
 */
#define _GNU_SOURCE
#include "kill_point.h"
#include "liveness.h"
#include "message.h"
#include "park.h"
#include "ring.h"
#include "snakefish.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define WHOLE_SIZE SF_MESSAGE_INLINE   /* larger messages are streams */
#define AHEAD_SIZE (UINT64_C(1) << 20) /* stream this far ahead on cold memory */
#define PATIENCE_NS 50000              /* what touching a cold segment costs */
#define LOCK_SLICE_NS INT64_C(50000000)
#define CAPACITY_LIMIT ((size_t)1 << 46)

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
    _Alignas(128) _Atomic uint32_t closed;
    _Atomic uint32_t shared; /* another process than the maker ever had an end */
    struct ring_warm warm;
    struct end ends[SF_PROCESS_LIMIT];
};

/* A message that a thread of this process has half sent. Under the sending
 * lock, but for a thread's look whether it is the one. */
struct outgoing {
    struct ring_outgoing message;
    _Atomic pid_t thread; /* 0 when there is none */
};

/* A message that this process has half received. Under the receiving lock. */
struct incoming {
    struct message_run run;
    uint64_t total, received;
    bool active;
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
    _Atomic uint32_t call_count; /* threads inside the functions below */
    _Atomic uint32_t released, counts_self;
    _Atomic uint32_t sends_not, receives_not; /* closed by this process */
};

/* ------------------------------------------------------- the two locks */

static void init_lock(pthread_mutex_t *lock)
{
    pthread_mutexattr_t attributes;

    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

/* Returns 0, EOWNERDEAD with the lock held, or another error number. A holder
 * is at work for microseconds, unless it was stopped: hence the slice. */
static int lock_in_slice(pthread_mutex_t *lock)
{
    struct timespec until;
    int64_t until_ns;
    int rc = pthread_mutex_trylock(lock);

    if (rc != EBUSY)
        return rc;
#if defined(__GLIBC__) && defined(__GLIBC_PREREQ) && __GLIBC_PREREQ(2, 30)
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

static int lock_sending(struct sf_channel *channel)
{
    pthread_mutex_t *lock = &channel->region->sending.lock;
    int rc = lock_in_slice(lock);

    if (rc == EOWNERDEAD) {
        SF_KILL_POINT();
        ring_recover_sender(&channel->ring);
        SF_KILL_POINT();
        rc = pthread_mutex_consistent(lock);
    }
    return rc == ETIMEDOUT ? -EINTR : rc == 0 ? 0 : -EBADMSG;
}

static int lock_receiving(struct sf_channel *channel)
{
    pthread_mutex_t *lock = &channel->region->receiving.lock;
    int rc = lock_in_slice(lock);

    if (rc == EOWNERDEAD) {
        SF_KILL_POINT();
        ring_recover_receiver(&channel->ring);
        SF_KILL_POINT();
        rc = pthread_mutex_consistent(lock);
    }
    return rc == ETIMEDOUT ? -EINTR : rc == 0 ? 0 : -EBADMSG;
}

static void unlock_sending(struct sf_channel *channel)
{
    SF_KILL_POINT();
    pthread_mutex_unlock(&channel->region->sending.lock);
    SF_KILL_POINT();
}

static void unlock_receiving(struct sf_channel *channel)
{
    SF_KILL_POINT();
    pthread_mutex_unlock(&channel->region->receiving.lock);
    SF_KILL_POINT();
}

/* -------------------------------------------------- who holds a stream */

static uint64_t stream_owner(_Atomic uint64_t *stream)
{
    /* Acquire: pairs with set_stream; whoever finds a stream over also finds
     * what was published or consumed under it. */
    return atomic_load_explicit(stream, memory_order_acquire);
}

static void set_stream(_Atomic uint64_t *stream, uint64_t owner)
{
    /* Release: pairs with the acquire in stream_owner. */
    atomic_store_explicit(stream, owner, memory_order_release);
    SF_KILL_POINT();
}

static bool is_held_by_other(_Atomic uint64_t *stream)
{
    uint64_t owner = stream_owner(stream);

    return owner != 0 && owner != liveness_self();
}

/* -------------------------------------------------------- waking others */

static void wake_receivers(struct sf_channel *channel)
{
    /* While a message is half received only one process can go on, and a
     * single wake-up might go to another. */
    park_wake(&channel->region->data, stream_owner(&channel->region->receiving.stream) != 0);
}

/* Senders are woken once a quarter is free, all of them, since they wait for
 * room of different sizes. Waking at every message would make a full channel
 * a switch of processes per message. */
static void wake_senders(struct sf_channel *channel)
{
    if (ring_used(&channel->ring) <= channel->ring.limit - channel->ring.limit / 4)
        park_wake(&channel->region->space, true);
}

static void wake_everybody(struct sf_channel *channel)
{
    park_wake(&channel->region->data, true);
    park_wake(&channel->region->space, true);
}

/* ------------------------------------------------------ who has an end */

static void open_ends(struct sf_channel *channel, uint64_t member, bool sends, bool receives)
{
    struct end *end = &channel->region->ends[LIVENESS_SLOT_OF(member)];

    /* Release, all: a process that sees the entry sees the channel as it was
     * before; pairs with the acquire in generation_at. */
    atomic_store_explicit(&end->sender, sends ? LIVENESS_GENERATION_OF(member) : 0,
                          memory_order_release);
    atomic_store_explicit(&end->receiver, receives ? LIVENESS_GENERATION_OF(member) : 0,
                          memory_order_release);
}

static void set_shared(struct sf_channel *channel)
{
    /* Relaxed: it only ever goes from 0 to 1, before the fork it speaks of. */
    atomic_store_explicit(&channel->region->shared, 1, memory_order_relaxed);
}

/* A process that was or is about to be forked has what its parent has. */
static void enroll(struct sf_channel *channel, uint64_t member)
{
    if (member == 0 || channel->bound)
        return;
    /* Relaxed, both: of this process, and changed under its own feet only. */
    open_ends(channel, member, !atomic_load_explicit(&channel->sends_not, memory_order_relaxed),
              !atomic_load_explicit(&channel->receives_not, memory_order_relaxed));
    set_shared(channel);
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
    if (word != NULL)
        watched->words[watched->count++] = word;
}

/* What a look at the peers found. */
struct peers {
    bool others_live; /* another process may still send (receive) */
    bool died;        /* an entry belongs to a dead process */
};

/* Look at everybody on one side, and prepare to watch them unless `watched` is
 * NULL. */
static struct peers look_at_peers(struct sf_channel *channel, bool senders,
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

/* ------------------------------------------------- after others' deaths */

/* End the stream of a sender that died, or that gave up. With the lock held. */
static void abort_outgoing(struct sf_channel *channel)
{
    /* Relaxed: the lock orders senders. */
    uint64_t tail = atomic_load_explicit(&channel->region->sending.ring.tail, memory_order_relaxed);

    if (ring_write_abort(&channel->ring, &tail) == 0)
        ring_publish(&channel->ring, tail);
    set_stream(&channel->region->sending.stream, 0);
}

static bool is_owner_dead(_Atomic uint64_t *stream)
{
    uint64_t owner = stream_owner(stream);

    return owner != 0 && owner != liveness_self() && liveness_is_dead(owner);
}

static void mend_sending(struct sf_channel *channel)
{
    if (!is_owner_dead(&channel->region->sending.stream) || lock_sending(channel) < 0)
        return;
    if (is_owner_dead(&channel->region->sending.stream))
        abort_outgoing(channel);
    unlock_sending(channel);
}

static void mend_receiving(struct sf_channel *channel)
{
    if (!is_owner_dead(&channel->region->receiving.stream) || lock_receiving(channel) < 0)
        return;
    if (is_owner_dead(&channel->region->receiving.stream))
        set_stream(&channel->region->receiving.stream, 0);
    unlock_receiving(channel);
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

/* Take the dead out of everything they left their name in. Anybody may, any
 * number of times. Everyone is woken: whatever was meant for the dead, the
 * living look for themselves. Returns whether there were any. */
static bool bury_the_dead(struct sf_channel *channel)
{
    bool died = is_owner_dead(&channel->region->sending.stream) ||
                is_owner_dead(&channel->region->receiving.stream);
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
        wake_everybody(channel);
    return died;
}

/* -------------------------------------------------------------- waiting */

static bool is_released(struct sf_channel *channel)
{
    /* Sequentially consistent: pairs with the exchange in sf_channel_release;
     * a thread that goes to sleep has seen it or is seen by its wake-up. */
    return atomic_load_explicit(&channel->released, memory_order_seq_cst) != 0;
}

static bool is_closed(struct sf_channel *channel)
{
    /* Acquire: what was sent before the closing is visible with it; pairs with
     * the release in sf_channel_close. */
    return atomic_load_explicit(&channel->region->closed, memory_order_acquire) != 0;
}

static bool is_empty(struct sf_channel *channel)
{
    return ring_used(&channel->ring) == 0;
}

/* One side's way of waiting, for one call. */
struct waiting {
    struct sf_channel *channel;
    struct park_word *word;
    struct park_place *place;
    bool (*ready)(void *);
    _Atomic uint32_t *peer_cpu;
    bool for_senders; /* whose deaths end the waiting */
    uint64_t need;    /* room to wait for */
    pid_t thread;     /* this one, if it has a stream under way */
};

static bool has_data(void *subject)
{
    struct waiting *waiting = subject;

    return !is_empty(waiting->channel) &&
           !is_held_by_other(&waiting->channel->region->receiving.stream);
}

static bool has_space(void *subject)
{
    struct waiting *waiting = subject;
    struct sf_channel *channel = waiting->channel;

    return ring_used(&channel->ring) + waiting->need <= channel->ring.limit &&
           (waiting->thread != 0 || stream_owner(&channel->region->sending.stream) == 0);
}

static bool is_warm_or_read(struct sf_channel *channel)
{
    return ring_is_warm(&channel->ring) || ring_used(&channel->ring) < AHEAD_SIZE;
}

/* Is the other side on another processor, so that looking can pay? */
static bool is_elsewhere(_Atomic uint32_t *cpu)
{
    /* Relaxed: a hint; a wrong one costs one look in vain. */
    return atomic_load_explicit(cpu, memory_order_relaxed) != (uint32_t)sched_getcpu() + 1;
}

static void note_cpu(_Atomic uint32_t *cpu)
{
    atomic_store_explicit(cpu, (uint32_t)sched_getcpu() + 1, memory_order_relaxed); /* a hint */
}

/* Give recycled segments back while nothing happens. */
static void trim_when_idle(struct sf_channel *channel)
{
    int rc;

    if (!is_empty(channel) || !ring_is_warm(&channel->ring))
        return;
    rc = pthread_mutex_trylock(&channel->region->sending.lock);
    if (rc == EOWNERDEAD) {
        ring_recover_sender(&channel->ring);
        rc = pthread_mutex_consistent(&channel->region->sending.lock);
    }
    if (rc != 0)
        return;
    if (is_empty(channel))
        ring_trim(&channel->ring);
    unlock_sending(channel);
}

/* Look at the streams in progress as at peers: their owners are waited for. */
static void look_at_stream(_Atomic uint64_t *stream, struct peers *peers,
                           struct park_watch *watched)
{
    if (is_owner_dead(stream))
        peers->died = true;
    else if (is_held_by_other(stream))
        watch(watched, stream_owner(stream));
}

/* Is there nothing more to wait for, because the channel was closed? A stream
 * that began before goes on to its end. */
static bool is_over(struct waiting *waiting)
{
    struct sf_channel *channel = waiting->channel;

    if (!is_closed(channel))
        return false;
    if (!waiting->for_senders)
        return waiting->thread == 0;
    return stream_owner(&channel->region->sending.stream) == 0 && is_empty(channel);
}

/* What keeps a prepared waiter from sleeping: 1 to look again, -EOWNERDEAD,
 * -EPIPE, or 0. Readiness is looked at after the deaths, because the last
 * thing that a process does before it dies may be to send. */
static int reason_to_stay_up(struct waiting *waiting, struct park_watch *watched)
{
    struct sf_channel *channel = waiting->channel;
    struct peers peers = look_at_peers(channel, waiting->for_senders, watched);

    look_at_stream(&channel->region->sending.stream, &peers, watched);
    look_at_stream(&channel->region->receiving.stream, &peers, watched);
    if (waiting->ready(waiting) || is_over(waiting) || is_released(channel))
        return 1;
    if (peers.died)
        return -EOWNERDEAD;
    /* Relaxed: see set_shared. */
    if (!peers.others_live && (waiting->for_senders || !channel->bound) &&
        atomic_load_explicit(&channel->region->shared, memory_order_relaxed))
        return -EPIPE;
    return 0;
}

static int sleep_unless(struct waiting *waiting, struct park_watch *watched, int64_t deadline_ns)
{
    uint32_t slot = LIVENESS_SLOT_OF(liveness_self());
    int64_t began_ns = sf_clock_now_ns();
    uint32_t sequence;
    int rc;

    if (is_elsewhere(waiting->peer_cpu) && park_spin(waiting->place, waiting->ready, waiting))
        return 1;
    sequence = park_prepare(waiting->word, waiting->place, slot);
    rc = reason_to_stay_up(waiting, watched);
    if (rc == 0)
        rc = park_sleep(waiting->word, waiting->place, sequence, began_ns, deadline_ns, watched);
    park_leave(waiting->word, waiting->place, slot);
    return rc;
}

/* Sleep until something may have changed. Returns 0 to try again, or what
 * sf_channel_receive and sf_channel_send return. */
static int wait_for_change(struct waiting *waiting, int64_t deadline_ns)
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
    if (bury_the_dead(waiting->channel)) {
        for (uint32_t i = 0; i < watched.count; i++)
            park_wake_watched(watched.words[i]);
        return -EINTR;
    }
    return rc == 0 ? 0 : -EINTR;
}

/* ---------------------------------------------------- calls in progress */

static int begin_call(struct sf_channel *channel)
{
    /* A child of a fork in a family that was full. */
    if (liveness_self() == 0 && liveness_join() < 0)
        return -ENOLCK;
    /* Sequentially consistent, both: either release sees the call counted or
     * the call sees the release; pairs with sf_channel_release. */
    atomic_fetch_add_explicit(&channel->call_count, 1, memory_order_seq_cst);
    if (!is_released(channel))
        return 0;
    atomic_fetch_sub_explicit(&channel->call_count, 1, memory_order_seq_cst);
    return -EBADF;
}

static void end_call(struct sf_channel *channel)
{
    /* Release: our use of the mapping ends before it goes; pairs with the load
     * in sf_channel_release. */
    atomic_fetch_sub_explicit(&channel->call_count, 1, memory_order_release);
}

/* -------------------------------------------------------------- sending */

#define MORE 1 /* of try_send: a piece was sent, and more is to be sent */

/* This thread, if it has a stream under way; else 0. */
static pid_t streaming_thread(struct sf_channel *channel)
{
    /* Relaxed: it can only equal this thread's number if this thread put it
     * there. */
    pid_t thread = atomic_load_explicit(&channel->outgoing.thread, memory_order_relaxed);

    return thread != 0 && thread == (pid_t)syscall(SYS_gettid) ? thread : 0;
}

static void set_streaming_thread(struct sf_channel *channel, pid_t thread)
{
    /* Relaxed: see streaming_thread. */
    atomic_store_explicit(&channel->outgoing.thread, thread, memory_order_relaxed);
}

static uint64_t tail_of(struct sf_channel *channel)
{
    /* Relaxed: the lock orders senders. */
    return atomic_load_explicit(&channel->region->sending.ring.tail, memory_order_relaxed);
}

/* Publish a message at one stroke. */
static int send_whole(struct sf_channel *channel, const struct ring_outgoing *message)
{
    struct ring_outgoing unsent = *message;
    uint64_t position = tail_of(channel);

    do {
        if (ring_write(&channel->ring, &unsent, &position, UINT64_MAX, 0) < 0) {
            ring_recover_sender(&channel->ring);
            return -EAGAIN;
        }
    } while (unsent.written < unsent.total);
    ring_publish(&channel->ring, position);
    return 0;
}

/* The least that is worth sending of what is left of a stream. */
static uint64_t smallest_piece(const struct sf_channel *channel, uint64_t left)
{
    uint64_t quarter = channel->capacity / 4 + 1;
    uint64_t piece = quarter < RING_SEGMENT_SIZE ? quarter : RING_SEGMENT_SIZE;

    return left < piece ? left : piece;
}

/* Publish the next piece of this thread's stream. */
static int send_piece(struct sf_channel *channel)
{
    struct ring_outgoing *message = &channel->outgoing.message;
    uint64_t left = message->total - message->written;
    uint64_t room = ring_room(&channel->ring, ring_cost(RING_SEGMENT_SIZE));
    uint64_t position = tail_of(channel);

    if (room < ring_cost(smallest_piece(channel, left)) ||
        ring_write(&channel->ring, message, &position, room - ring_cost(0), RING_STREAM) < 0)
        return -EAGAIN;
    ring_publish(&channel->ring, position);
    if (message->written < message->total)
        return MORE;
    set_streaming_thread(channel, 0);
    set_stream(&channel->region->sending.stream, 0);
    return 0;
}

static void begin_stream(struct sf_channel *channel, const struct ring_outgoing *message)
{
    channel->outgoing.message = *message;
    set_streaming_thread(channel, (pid_t)syscall(SYS_gettid));
    set_stream(&channel->region->sending.stream, liveness_self());
}

static bool goes_whole(const struct sf_channel *channel, uint64_t total)
{
    return total <= WHOLE_SIZE && total <= channel->capacity;
}

/* May a new message begin, and how? MORE means as a stream. */
static int check_message(struct sf_channel *channel, uint64_t total, bool may_wait)
{
    bool whole = goes_whole(channel, total);
    uint64_t cost = ring_cost(total);

    /* Relaxed: of this process. */
    if (is_closed(channel) || atomic_load_explicit(&channel->sends_not, memory_order_relaxed))
        return -ESHUTDOWN;
    if (total > channel->capacity && !may_wait)
        return -EMSGSIZE;
    if (stream_owner(&channel->region->sending.stream) != 0)
        return -EAGAIN;
    if ((whole || !may_wait) && ring_room(&channel->ring, cost) < cost)
        return -EAGAIN;
    return whole ? 0 : MORE;
}

/* One attempt, with the lock held. Returns 0 when all is sent, MORE, -EAGAIN
 * when it has to wait, or what sf_channel_send returns. */
static int try_send(struct sf_channel *channel, const struct ring_outgoing *message, bool may_wait)
{
    int rc;

    note_cpu(&channel->region->sending.cpu);
    if (streaming_thread(channel) != 0) {
        /* The lists are the caller's, who may have moved them meanwhile. */
        channel->outgoing.message.parts = message->parts;
        channel->outgoing.message.sizes = message->sizes;
        return send_piece(channel);
    }
    if (is_owner_dead(&channel->region->sending.stream))
        abort_outgoing(channel);
    rc = check_message(channel, message->total, may_wait);
    if (rc == MORE)
        begin_stream(channel, message);
    return rc == 0 ? send_whole(channel, message) : rc;
}

static int attempt_send(struct sf_channel *channel, const struct ring_outgoing *message,
                        bool may_wait)
{
    int rc = lock_sending(channel);

    if (rc < 0)
        return rc == -EINTR && !may_wait ? -ENOBUFS : rc;
    SF_KILL_POINT();
    rc = try_send(channel, message, may_wait);
    unlock_sending(channel);
    return rc;
}

/* A stream well ahead of its receiver waits a little for a segment to be
 * recycled rather than touch a new one; not twice in vain. */
static void pace(struct sf_channel *channel, bool *patient)
{
    int64_t until_ns;

    if (is_warm_or_read(channel)) {
        *patient = true;
        return;
    }
    if (!*patient || !is_elsewhere(&channel->region->receiving.cpu))
        return;
    until_ns = sf_clock_now_ns() + PATIENCE_NS;
    do {
        if (is_warm_or_read(channel))
            return;
    } while (sf_clock_now_ns() < until_ns);
    *patient = false;
}

static int wait_for_space(struct sf_channel *channel, const struct ring_outgoing *message,
                          int64_t deadline_ns)
{
    struct waiting waiting = {.channel = channel,
                              .word = &channel->region->space,
                              .place = &channel->space_place,
                              .ready = has_space,
                              .peer_cpu = &channel->region->receiving.cpu,
                              .thread = streaming_thread(channel)};

    if (deadline_ns <= sf_clock_now_ns())
        return -ENOBUFS;
    waiting.need =
        ring_cost(goes_whole(channel, message->total) ? message->total
                                                      : smallest_piece(channel, message->total));
    return wait_for_change(&waiting, deadline_ns);
}

static int send_message(struct sf_channel *channel, const struct ring_outgoing *message,
                        int64_t deadline_ns)
{
    bool may_wait = deadline_ns > SF_NOW, patient = true;
    int rc;

    for (;;) {
        rc = attempt_send(channel, message, may_wait);
        if (rc >= 0)
            wake_receivers(channel);
        if (rc == MORE) {
            pace(channel, &patient);
            continue;
        }
        if (rc != -EAGAIN)
            break;
        rc = is_released(channel) ? -EBADF : wait_for_space(channel, message, deadline_ns);
        if (rc < 0)
            break;
    }
    if (rc == 0 && !goes_whole(channel, message->total))
        park_wake(&channel->region->space, true); /* whom the stream kept away */
    return rc;
}

/* Abandon this thread's stream, if it has one. */
static void cancel_stream(struct sf_channel *channel)
{
    if (streaming_thread(channel) == 0)
        return;
    while (lock_sending(channel) == -EINTR)
        ;
    set_streaming_thread(channel, 0);
    abort_outgoing(channel);
    unlock_sending(channel);
    wake_everybody(channel);
}

int sf_channel_send_parts(struct sf_channel *channel, int tag, const void *const *parts,
                          const size_t *sizes, size_t count, int64_t deadline_ns)
{
    struct ring_outgoing message = {.parts = parts, .sizes = sizes, .tag = tag & 0xff};
    int rc = begin_call(channel);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++)
        message.total += sizes[i];
    rc = send_message(channel, &message, deadline_ns);
    if (rc < 0 && rc != -EINTR)
        cancel_stream(channel);
    end_call(channel);
    return rc;
}

int sf_channel_send(struct sf_channel *channel, int tag, const void *data, size_t size,
                    int64_t deadline_ns)
{
    return sf_channel_send_parts(channel, tag, &data, &size, 1, deadline_ns);
}

void sf_channel_cancel(struct sf_channel *channel)
{
    if (begin_call(channel) < 0)
        return;
    cancel_stream(channel);
    end_call(channel);
}

/* ------------------------------------------------------------ receiving */

#define AGAIN (-EINPROGRESS) /* of try_receive: something was consumed; go on */

static uint64_t head_of(struct sf_channel *channel)
{
    /* Relaxed: the lock orders receivers. */
    return atomic_load_explicit(&channel->region->receiving.ring.head, memory_order_relaxed);
}

static int64_t as_result(uint64_t size, int tag)
{
    return (int64_t)(size << 8 | (unsigned)tag);
}

/* Forget a half-received message: its sender gave up, or we do. */
static void drop_incoming(struct sf_channel *channel)
{
    if (!channel->incoming.active)
        return;
    message_free_run(&channel->incoming.run);
    channel->incoming.active = false;
    set_stream(&channel->region->receiving.stream, 0);
}

/* Take a message whose frames are all there, and consume it at one stroke. */
static int64_t receive_whole(struct sf_channel *channel, struct sf_message *message,
                             struct ring_frame *frame)
{
    uint64_t total = frame->total, received = 0;
    int tag = frame->tag, rc = 1;

    if (total > SF_MESSAGE_INLINE)
        return -EBADMSG;
    while (received + frame->size <= total) {
        memcpy(message->small.memory + received, frame->payload, frame->size);
        received += frame->size;
        if (!(frame->flags & RING_MORE))
            break;
        do
            rc = ring_peek(&channel->ring, frame->next, frame);
        while (rc == 1 && (frame->flags & RING_PAD));
        if (rc != 1 || (frame->flags & RING_FIRST))
            return -EBADMSG;
    }
    if (received != total)
        return -EBADMSG;
    message->is_large = 0;
    ring_consume(&channel->ring, frame->next);
    return as_result(total, tag);
}

static int begin_incoming(struct sf_channel *channel, struct sf_message *message, uint64_t total)
{
    struct incoming *incoming = &channel->incoming;
    int rc = message_take_run(message, total, &incoming->run);

    if (rc < 0)
        return rc;
    incoming->total = total;
    incoming->received = 0;
    incoming->active = true;
    set_stream(&channel->region->receiving.stream, liveness_self());
    return 0;
}

/* What came in many small pieces may be small all the same. */
static void deliver(struct sf_message *message, struct incoming *incoming)
{
    if (incoming->total > SF_MESSAGE_INLINE) {
        message_put_run(message, &incoming->run);
        return;
    }
    memcpy(message->small.memory, incoming->run.memory, incoming->total);
    message->is_large = 0;
    message_free_run(&incoming->run);
}

/* Take one piece of a stream. */
static int64_t receive_piece(struct sf_channel *channel, struct sf_message *message,
                             const struct ring_frame *frame)
{
    struct incoming *incoming = &channel->incoming;

    if (frame->size > incoming->total - incoming->received)
        return -EBADMSG;
    memcpy(incoming->run.memory + incoming->received, frame->payload, frame->size);
    incoming->received += frame->size;
    ring_consume(&channel->ring, frame->next);
    if (frame->flags & RING_MORE)
        return AGAIN;
    if (incoming->received != incoming->total)
        return -EBADMSG;
    deliver(message, incoming);
    incoming->active = false;
    set_stream(&channel->region->receiving.stream, 0);
    return as_result(incoming->total, frame->tag);
}

/* Act on the next frame. */
static int64_t receive_frame(struct sf_channel *channel, struct sf_message *message,
                             struct ring_frame *frame)
{
    int rc;

    if (frame->flags & (RING_FIRST | RING_ABORT))
        drop_incoming(channel);
    if ((frame->flags & (RING_PAD | RING_ABORT)) ||
        (!(frame->flags & RING_FIRST) && !channel->incoming.active)) {
        /* Nothing, or what is left of a message whose receiver died. */
        ring_consume(&channel->ring, frame->next);
        return AGAIN;
    }
    if ((frame->flags & RING_FIRST) && !(frame->flags & RING_STREAM))
        return receive_whole(channel, message, frame);
    if (frame->flags & RING_FIRST) {
        rc = begin_incoming(channel, message, frame->total);
        if (rc < 0)
            return rc;
    }
    return receive_piece(channel, message, frame);
}

/* One attempt, with the lock held. Returns as sf_channel_receive, or AGAIN, or
 * -EAGAIN when it has to wait. */
static int64_t try_receive(struct sf_channel *channel, struct sf_message *message)
{
    _Atomic uint64_t *stream = &channel->region->receiving.stream;
    struct ring_frame frame;
    int rc;

    note_cpu(&channel->region->receiving.cpu);
    if (is_owner_dead(stream))
        set_stream(stream, 0);
    if (is_held_by_other(stream))
        return -EAGAIN;
    rc = ring_peek(&channel->ring, head_of(channel), &frame);
    if (rc <= 0)
        return rc == 0 ? -EAGAIN : rc;
    return receive_frame(channel, message, &frame);
}

static bool nobody_sends(struct sf_channel *channel, const struct peers *peers)
{
    /* Relaxed: see set_shared. */
    return !peers->others_live && is_empty(channel) &&
           atomic_load_explicit(&channel->region->shared, memory_order_relaxed);
}

/* There is nothing, and no time to wait for it. */
static int look_instead_of_waiting(struct sf_channel *channel)
{
    struct peers peers = look_at_peers(channel, true, NULL);

    look_at_stream(&channel->region->sending.stream, &peers, NULL);
    if (peers.died && bury_the_dead(channel))
        return 0;
    return nobody_sends(channel, &peers) ? -EPIPE : -EAGAIN;
}

static int wait_for_data(struct sf_channel *channel, int64_t deadline_ns)
{
    struct waiting waiting = {.channel = channel,
                              .word = &channel->region->data,
                              .place = &channel->data_place,
                              .ready = has_data,
                              .peer_cpu = &channel->region->sending.cpu,
                              .for_senders = true};

    if (is_released(channel))
        return -EBADF;
    if (is_over(&waiting))
        return -ESHUTDOWN;
    if (deadline_ns <= SF_NOW || deadline_ns <= sf_clock_now_ns())
        return look_instead_of_waiting(channel);
    return wait_for_change(&waiting, deadline_ns);
}

static int64_t attempt_receive(struct sf_channel *channel, struct sf_message *message)
{
    int64_t result = lock_receiving(channel);

    if (result < 0)
        return result;
    SF_KILL_POINT();
    result = try_receive(channel, message);
    unlock_receiving(channel);
    return result;
}

static int64_t receive_message(struct sf_channel *channel, struct sf_message *message,
                               int64_t deadline_ns)
{
    int64_t result;
    int rc;

    for (;;) {
        result = attempt_receive(channel, message);
        if (result == -EINTR && deadline_ns <= SF_NOW)
            return -EAGAIN;
        if (result >= 0 || result == AGAIN)
            wake_senders(channel);
        if (result == AGAIN)
            continue;
        if (result != -EAGAIN)
            return result;
        rc = wait_for_data(channel, deadline_ns);
        if (rc < 0)
            return rc;
    }
}

int64_t sf_channel_receive(struct sf_channel *channel, struct sf_message *message,
                           int64_t deadline_ns)
{
    int64_t result = begin_call(channel);

    if (result < 0)
        return result;
    sf_message_clear(message);
    result = receive_message(channel, message, deadline_ns);
    if (result >> 8 > (int64_t)WHOLE_SIZE)
        park_wake(&channel->region->data, true); /* whom the stream kept away */
    end_call(channel);
    return result;
}

/* -------------------------------------------------------------- closing */

/* Take this process's own name off an entry. */
static void close_end(_Atomic uint32_t *entry)
{
    uint32_t generation = LIVENESS_GENERATION_OF(liveness_self());

    /* Release: what this process sent before is visible to whoever finds the
     * end closed; pairs with the acquire in generation_at. */
    atomic_compare_exchange_strong_explicit(entry, &generation, 0, memory_order_release,
                                            memory_order_relaxed);
}

static struct end *own_end(struct sf_channel *channel)
{
    return &channel->region->ends[LIVENESS_SLOT_OF(liveness_self())];
}

/* Drop what this process has half received, so that others can go on. */
static void leave_incoming(struct sf_channel *channel)
{
    if (stream_owner(&channel->region->receiving.stream) != liveness_self())
        return;
    while (lock_receiving(channel) == -EINTR)
        ;
    drop_incoming(channel);
    unlock_receiving(channel);
}

int sf_channel_close(struct sf_channel *channel)
{
    int rc = begin_call(channel);

    if (rc < 0)
        return rc;
    /* Release: pairs with the acquire in is_closed. */
    atomic_store_explicit(&channel->region->closed, 1, memory_order_release);
    wake_everybody(channel);
    end_call(channel);
    return 0;
}

int sf_channel_close_send(struct sf_channel *channel)
{
    int rc = begin_call(channel);

    if (rc < 0)
        return rc;
    /* Relaxed: of this process; others learn it from the entry. */
    atomic_store_explicit(&channel->sends_not, 1, memory_order_relaxed);
    close_end(&own_end(channel)->sender);
    wake_everybody(channel);
    end_call(channel);
    return 0;
}

int sf_channel_close_receive(struct sf_channel *channel)
{
    int rc = begin_call(channel);

    if (rc < 0)
        return rc;
    /* Relaxed: of this process; others learn it from the entry. */
    atomic_store_explicit(&channel->receives_not, 1, memory_order_relaxed);
    leave_incoming(channel);
    close_end(&own_end(channel)->receiver);
    wake_everybody(channel);
    end_call(channel);
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
static pthread_once_t handlers_once = PTHREAD_ONCE_INIT;

static void before_fork(void)
{
    pthread_mutex_lock(&channels_lock);
    for (struct sf_channel *channel = channels; channel != NULL; channel = channel->next)
        enroll(channel, liveness_adopting());
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
    for (struct sf_channel *channel = channels; channel != NULL; channel = channel->next) {
        /* Relaxed, all: the child has one thread. */
        atomic_store_explicit(&channel->call_count, 0, memory_order_relaxed);
        atomic_store_explicit(&channel->data_place.parked, 0, memory_order_relaxed);
        atomic_store_explicit(&channel->space_place.parked, 0, memory_order_relaxed);
        set_streaming_thread(channel, 0);
        channel->incoming = (struct incoming){.active = false};
        enroll(channel, liveness_self());
    }
}

static void install_handlers(void)
{
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}

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

/* ------------------------------------------------------------- creation */

static void give_back(void *memory, size_t size)
{
    madvise(memory, size, MADV_REMOVE);
}

/* A file in memory is not charged before it is touched; where a limit on the
 * size of files forbids it, an anonymous mapping may be. */
static void *map_shared(size_t size)
{
    struct rlimit file_size;
    void *memory = MAP_FAILED;
    int fd = -1;

    if (getrlimit(RLIMIT_FSIZE, &file_size) == 0 && file_size.rlim_cur >= size)
        fd = (int)syscall(SYS_memfd_create, "snakefish", 1u /* MFD_CLOEXEC */);
    if (fd >= 0) {
        if (ftruncate(fd, (off_t)size) == 0)
            memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
    }
    if (memory == MAP_FAILED)
        memory = mmap(NULL, size, PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED)
        madvise(memory, size, MADV_DONTDUMP);
    return memory;
}

static int map_region(struct sf_channel *channel, size_t capacity, bool shrinks)
{
    struct ring_layout layout;
    unsigned char *memory;

    ring_lay_out(&layout, capacity, sizeof(struct region));
    memory = map_shared(layout.size);
    while (memory == MAP_FAILED && shrinks && capacity / 2 >= SF_CHANNEL_SMALLEST) {
        capacity /= 2;
        ring_lay_out(&layout, capacity, sizeof(struct region));
        memory = map_shared(layout.size);
    }
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
                                  .limit = ring_cost(capacity),
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
    if (rc < 0)
        return rc;
    pthread_once(&handlers_once, install_handlers);
    made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    rc = map_region(made, capacity, (flags & SF_CHANNEL_SHRINK) != 0);
    if (rc < 0)
        goto undo_calloc;
    init_lock(&made->region->sending.lock);
    init_lock(&made->region->receiving.lock);
    made->bound = (flags & SF_CHANNEL_BOUND) != 0;
    if (!made->bound)
        open_ends(made, liveness_self(), true, true);
    link_channel(made);
    *channel = made;
    return 0;

undo_calloc:
    free(made);
    return rc;
}

int sf_channel_bind_sender(struct sf_channel *channel, const struct sf_process *process)
{
    int rc = begin_call(channel);

    if (rc < 0)
        return rc;
    open_ends(channel, liveness_member_of(process), true, false);
    set_shared(channel);
    end_call(channel);
    return 0;
}

size_t sf_channel_capacity(const struct sf_channel *channel)
{
    return channel->capacity;
}

size_t sf_channel_used(struct sf_channel *channel)
{
    size_t used;

    if (begin_call(channel) < 0)
        return 0;
    used = ring_used(&channel->ring);
    end_call(channel);
    return used;
}

size_t sf_channel_committed(struct sf_channel *channel)
{
    size_t count;

    if (begin_call(channel) < 0)
        return 0;
    count = ring_segments_in_use(&channel->ring) + ring_segments_warm(&channel->ring);
    end_call(channel);
    return count << RING_SEGMENT_SHIFT;
}

/* -------------------------------------------------------------- release */

/* Threads inside a call see `released` when they wake, and leave. */
static void let_callers_out(struct sf_channel *channel)
{
    const struct timespec moment = {.tv_nsec = 20000};

    /* Acquire: pairs with the release in end_call. */
    while (atomic_load_explicit(&channel->call_count, memory_order_acquire) > 0) {
        wake_everybody(channel);
        nanosleep(&moment, NULL);
    }
}

/* End a stream of any thread of this process. */
static void leave_outgoing(struct sf_channel *channel)
{
    if (stream_owner(&channel->region->sending.stream) != liveness_self())
        return;
    while (lock_sending(channel) == -EINTR)
        ;
    abort_outgoing(channel);
    unlock_sending(channel);
}

void sf_channel_release(struct sf_channel *channel)
{
    /* Sequentially consistent: pairs with begin_call, which explains it. */
    if (atomic_exchange_explicit(&channel->released, 1, memory_order_seq_cst))
        return;
    let_callers_out(channel);
    if (liveness_self() != 0) {
        leave_outgoing(channel);
        leave_incoming(channel);
        close_end(&own_end(channel)->sender);
        close_end(&own_end(channel)->receiver);
    }
    wake_everybody(channel);
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
