/* SPDX-License-Identifier: MIT */
/* The sending side.
 *
 * A message of up to 128 KiB is written and published at one stroke. A larger
 * one passes as a stream: it is published segment by segment, so that both
 * processes work in memory that is still in the cache, and so that it may be
 * larger than the channel. Between two pieces the lock is free; the mark with
 * the owner's member number keeps other senders away, who can look at it, wait
 * for it, and end it when the kernel says that its owner is dead.
 */
#define _GNU_SOURCE
#include "channel.h"

#include <sys/syscall.h>
#include <unistd.h>

#define AHEAD_SIZE (UINT64_C(1) << 20) /* stream this far ahead on cold memory */
#define PATIENCE_NS 50000              /* what touching a cold segment costs */
#define PACED_FROM 1024                /* a segment of smaller messages outlasts that patience */
#define MORE 1                         /* of try_send: a piece was sent, and more is to be sent */
#define NO_TAG (-1)                    /* of several messages, which are no stream's */

/* This thread, if it has a stream under way; else 0. */
static pid_t streaming_thread(struct sf_channel *channel)
{
    /* Relaxed: it can only equal this thread's number if this thread put it
     * there. */
    pid_t thread = atomic_load_explicit(&channel->outgoing.thread, memory_order_relaxed);

    return thread != 0 && thread == (pid_t)syscall(SYS_gettid) ? thread : 0;
}

static uint64_t tail_of(struct sf_channel *channel)
{
    /* Relaxed: the lock orders senders. */
    return atomic_load_explicit(&channel->region->sending.ring.tail, memory_order_relaxed);
}

/* That no segment is free is a reason to wait. */
static int as_waiting(int rc)
{
    return rc == -ENOBUFS ? -EAGAIN : rc;
}

/* What a call is to send: one message, or several that lie behind each other. */
struct load {
    struct ring_outgoing message;
    const uint64_t *heads; /* of several; NULL for one */
    size_t count;
};

/* Write all frames of a message. */
static int write_whole(struct sf_channel *channel, struct ring_outgoing unsent, uint64_t *position)
{
    int rc;

    do
        rc = ring_write(&channel->ring, &unsent, position, UINT64_MAX, 0);
    while (rc == 0 && unsent.written < unsent.total);
    return rc;
}

static int write_many(struct sf_channel *channel, const struct load *load, uint64_t *position)
{
    const char *data = load->message.parts[0];
    int rc = 0;

    for (size_t i = 0; i < load->count && rc == 0; i++) {
        const void *part = data;
        size_t size = (size_t)(load->heads[i] >> 8);

        rc = write_whole(
            channel,
            (struct ring_outgoing){
                .parts = &part, .sizes = &size, .total = size, .tag = (int)(load->heads[i] & 0xff)},
            position);
        data += size;
    }
    return rc;
}

/* Publish everything at one stroke. */
static int send_whole(struct sf_channel *channel, const struct load *load)
{
    uint64_t position = tail_of(channel);
    int rc = load->heads != NULL ? write_many(channel, load, &position)
                                 : write_whole(channel, load->message, &position);

    if (rc < 0) {
        ring_recover_sender(&channel->ring);
        return as_waiting(rc);
    }
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
    uint64_t position = tail_of(channel), room;
    int rc = ring_room(&channel->ring, ring_cost(RING_SEGMENT_SIZE), &room);

    if (rc == 0 && room < ring_cost(smallest_piece(channel, left)))
        return -EAGAIN;
    if (rc == 0)
        rc = ring_write(&channel->ring, message, &position, room - ring_cost(0), RING_STREAM);
    if (rc < 0)
        return as_waiting(rc);
    ring_publish(&channel->ring, position);
    if (message->written < message->total)
        return MORE;
    channel_set_streaming_thread(channel, 0);
    channel_set_stream(&channel->region->sending.stream, 0);
    return 0;
}

static void begin_stream(struct sf_channel *channel, const struct ring_outgoing *message)
{
    channel->outgoing.message = *message;
    channel->outgoing.first = message->parts[0];
    channel_set_streaming_thread(channel, (pid_t)syscall(SYS_gettid));
    channel_set_stream(&channel->region->sending.stream, liveness_self());
}

/* May a new message begin, and how? MORE means as a stream. */
static int check_load(struct sf_channel *channel, const struct load *load, bool may_wait)
{
    uint64_t total = load->message.total;
    bool whole = channel_goes_whole(channel, total);
    uint64_t cost = ring_cost_of_many(total, load->count) + (whole ? 0 : ring_cost(0)), room;
    int rc;

    /* Relaxed: of this process. */
    if (channel_is_closed(channel) ||
        atomic_load_explicit(&channel->sends_not, memory_order_relaxed))
        return -ESHUTDOWN;
    if (total > channel->capacity && !may_wait)
        return -EMSGSIZE;
    if (channel_stream_owner(&channel->region->sending.stream) != 0)
        return -EAGAIN;
    rc = ring_room(&channel->ring, cost, &room);
    if (rc == 0 && room < cost && (whole || !may_wait))
        rc = -EAGAIN;
    return rc < 0 || whole ? rc : MORE;
}

/* End this process's stream before its time, with the lock held. */
static void give_up_outgoing(struct sf_channel *channel)
{
    channel_set_streaming_thread(channel, 0);
    if (channel->outgoing.message.written > 0)
        channel_abort_outgoing(channel);
    else
        channel_set_stream(&channel->region->sending.stream, 0);
}

/* Is this not the message that this thread has half sent? Then a signal handler
 * sends it, between two calls for the other, which begins anew afterwards. */
static bool is_interrupted_by(struct sf_channel *channel, const struct ring_outgoing *message)
{
    return streaming_thread(channel) != 0 && (message->total != channel->outgoing.message.total ||
                                              message->tag != channel->outgoing.message.tag ||
                                              message->parts[0] != channel->outgoing.first);
}

/* One attempt, with the lock held. Returns 0 when all is sent, MORE, -EAGAIN
 * when it has to wait, or what sf_channel_send returns. */
static int try_send(struct sf_channel *channel, const struct load *load, bool may_wait)
{
    const struct ring_outgoing *message = &load->message;
    int rc;

    channel_note_cpu(&channel->region->sending.cpu);
    if (is_interrupted_by(channel, message)) {
        if (!may_wait)
            return -EAGAIN;
        give_up_outgoing(channel);
    }
    if (streaming_thread(channel) != 0) {
        /* The lists are the caller's, who may have moved them meanwhile. */
        channel->outgoing.message.parts = message->parts;
        channel->outgoing.message.sizes = message->sizes;
        return send_piece(channel);
    }
    if (channel_is_owner_dead(&channel->region->sending.stream))
        channel_abort_outgoing(channel);
    rc = check_load(channel, load, may_wait);
    if (rc == MORE)
        begin_stream(channel, message);
    return rc == 0 ? send_whole(channel, load) : rc;
}

static int attempt_send(struct sf_channel *channel, const struct load *load, int64_t deadline_ns)
{
    bool may_wait = deadline_ns > SF_NOW;
    int rc = channel_lock_sending(channel);

    if (rc == -EINTR && deadline_ns <= sf_clock_now_ns())
        return -ENOBUFS;
    if (rc < 0)
        return rc;
    SF_KILL_POINT();
    rc = try_send(channel, load, may_wait);
    channel_unlock_sending(channel);
    return rc;
}

static bool is_warm_or_read(struct sf_channel *channel)
{
    return ring_is_warm(&channel->ring) || ring_used(&channel->ring) < AHEAD_SIZE;
}

/* Who is well ahead of the receivers and needs another segment waits a little
 * for one to be recycled rather than touch a new one; not twice in vain. */
static void pace(struct sf_channel *channel)
{
    int64_t until_ns;

    /* Relaxed, all: a hint, of threads that may send at the same time. */
    if (is_warm_or_read(channel)) {
        atomic_store_explicit(&channel->impatient, 0, memory_order_relaxed);
        return;
    }
    if (atomic_load_explicit(&channel->impatient, memory_order_relaxed) ||
        !channel_is_elsewhere(&channel->region->receiving.cpu))
        return;
    until_ns = sf_clock_now_ns() + PATIENCE_NS;
    do {
        park_pause();
        if (is_warm_or_read(channel))
            return;
    } while (sf_clock_now_ns() < until_ns);
    atomic_store_explicit(&channel->impatient, 1, memory_order_relaxed);
}

static int wait_for_space(struct sf_channel *channel, const struct load *load, int64_t deadline_ns)
{
    uint64_t total = load->message.total;
    struct waiting waiting = {.channel = channel,
                              .word = &channel->region->space,
                              .place = &channel->space_place,
                              .ready = channel_has_space,
                              .peer_cpu = &channel->region->receiving.cpu,
                              .thread = streaming_thread(channel)};

    if (channel_is_released(channel))
        return -EBADF;
    if (deadline_ns <= sf_clock_now_ns())
        return -ENOBUFS;
    waiting.need = channel_goes_whole(channel, total) ? ring_cost_of_many(total, load->count)
                                                      : ring_cost(smallest_piece(channel, total));
    return channel_wait(&waiting, deadline_ns);
}

static int send_load(struct sf_channel *channel, const struct load *load, int64_t deadline_ns)
{
    int64_t slice_end_ns = 0;
    int rc;

    if (load->message.total >= PACED_FROM &&
        ring_reaches_segment(&channel->ring, load->message.total))
        pace(channel);
    for (;;) {
        rc = attempt_send(channel, load, deadline_ns);
        if (rc >= 0)
            channel_wake_receivers(channel, load->count > 1);
        if (rc == -EAGAIN) {
            rc = wait_for_space(channel, load, deadline_ns);
            if (rc < 0)
                break;
        } else if (rc == MORE) {
            pace(channel);
        } else {
            break;
        }
        if (park_slice_is_over(&slice_end_ns))
            return -EINTR;
    }
    if (rc == 0 && !channel_goes_whole(channel, load->message.total))
        park_wake(&channel->region->space, true); /* whom the stream kept away */
    return rc;
}

void channel_leave_outgoing(struct sf_channel *channel)
{
    channel_set_streaming_thread(channel, 0);
    if (channel_stream_owner(&channel->region->sending.stream) != liveness_self())
        return;
    if (channel_lock_sending(channel) < 0) {
        channel_give_up_stream(&channel->region->sending.stream);
        return;
    }
    give_up_outgoing(channel);
    channel_unlock_sending(channel);
}

/* Abandon this thread's stream, if it has one. */
static void cancel_stream(struct sf_channel *channel)
{
    if (streaming_thread(channel) == 0)
        return;
    channel_leave_outgoing(channel);
    channel_wake_everybody(channel);
}

/* Send, with the call begun; whatever it answers but -EINTR, nothing of it is under way. */
static int send_or_cancel(struct sf_channel *channel, const struct load *load, int64_t deadline_ns)
{
    int rc = send_load(channel, load, deadline_ns);

    if (rc < 0 && rc != -EINTR && !is_interrupted_by(channel, &load->message))
        cancel_stream(channel);
    return rc;
}

int sf_channel_send_parts(struct sf_channel *channel, int tag, const void *const *parts,
                          const size_t *sizes, size_t count, int64_t deadline_ns)
{
    struct load load = {.message = {.parts = parts, .sizes = sizes, .tag = tag & 0xff}, .count = 1};
    int rc = channel_begin_call(channel);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++)
        load.message.total += sizes[i];
    rc = send_or_cancel(channel, &load, deadline_ns);
    channel_end_call(channel);
    return rc;
}

int sf_channel_send_many(struct sf_channel *channel, const void *data, const uint64_t *heads,
                         size_t count, int64_t deadline_ns)
{
    struct load load = {.message = {.parts = &data, .tag = NO_TAG}, .heads = heads, .count = count};
    int rc = channel_begin_call(channel);

    if (rc < 0)
        return rc;
    for (size_t i = 0; i < count; i++)
        load.message.total += heads[i] >> 8;
    if (count == 0)
        rc = 0;
    else if (!channel_goes_whole(channel, load.message.total) ||
             ring_cost_of_many(load.message.total, count) > channel->ring.limit)
        rc = -EMSGSIZE;
    else
        rc = send_or_cancel(channel, &load, deadline_ns);
    channel_end_call(channel);
    return rc;
}

int sf_channel_send(struct sf_channel *channel, int tag, const void *data, size_t size,
                    int64_t deadline_ns)
{
    return sf_channel_send_parts(channel, tag, &data, &size, 1, deadline_ns);
}

void sf_channel_cancel(struct sf_channel *channel)
{
    if (channel_begin_call(channel) < 0)
        return;
    cancel_stream(channel);
    channel_end_call(channel);
}
