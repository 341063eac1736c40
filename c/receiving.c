/* SPDX-License-Identifier: MIT */
/* The receiving side.
 *
 * A message that was published at one stroke is copied and then consumed at
 * one stroke: a receiver that dies before leaves it to the next one. A stream
 * is consumed piece by piece into a run of private memory, which becomes the
 * message. While it is under way the process holds the receiving mark; when it
 * dies, what is left of the stream is skipped by the next receiver.
 */
#define _GNU_SOURCE
#include "channel.h"

#include <string.h>

#define SIZE_LIMIT (UINT64_C(1) << 46) /* of one message; nobody has as much memory */
#define AGAIN (-EINPROGRESS)           /* of try_receive: something was consumed; go on */

static uint64_t head_of(struct sf_channel *channel)
{
    /* Relaxed: the lock orders receivers. */
    return atomic_load_explicit(&channel->region->receiving.ring.head, memory_order_relaxed);
}

static int64_t as_result(uint64_t size, int tag)
{
    return (int64_t)(size << 8 | (unsigned)tag);
}

void channel_forget_incoming(struct sf_channel *channel)
{
    if (channel->incoming.active)
        message_free_run(&channel->incoming.run);
    channel->incoming.active = false;
}

/* Forget a half-received message: its sender gave up, or we do. */
static void drop_incoming(struct sf_channel *channel)
{
    if (!channel->incoming.active)
        return;
    channel_forget_incoming(channel);
    channel_set_stream(&channel->region->receiving.stream, 0);
    park_wake(&channel->region->data, true); /* whom the stream kept away */
}

/* The next frame of a message whose frames are all there. */
static int peek_next(struct sf_channel *channel, struct ring_frame *frame)
{
    int rc;

    do
        rc = ring_peek(&channel->ring, frame->next, frame);
    while (rc == 1 && (frame->flags & RING_PAD));
    return rc == 1 && !(frame->flags & RING_FIRST) ? 0 : -EBADMSG;
}

/* Copy a message whose frames are all there. It is not consumed. */
static int copy_whole(struct sf_channel *channel, unsigned char *to, struct ring_frame *frame)
{
    uint64_t total = frame->total, received = 0, begin = frame->next - frame->size;

    while (received + frame->size <= total) {
        memcpy(to + received, frame->payload, frame->size);
        received += frame->size;
        if (!(frame->flags & RING_MORE))
            break;
        if (peek_next(channel, frame) < 0 || frame->next - begin > ring_cost(SF_MESSAGE_INLINE))
            return -EBADMSG;
    }
    return received == total ? 0 : -EBADMSG;
}

static bool is_whole(const struct ring_frame *frame)
{
    return (frame->flags & RING_FIRST) && !(frame->flags & (RING_STREAM | RING_PAD | RING_ABORT));
}

/* Go to the message behind a whole one, if there is one that `left` bytes have room for. */
static bool peek_another(struct sf_channel *channel, struct ring_frame *frame, uint64_t left)
{
    int rc;

    do
        rc = ring_peek(&channel->ring, frame->next, frame);
    while (rc == 1 && (frame->flags & RING_PAD));
    return rc == 1 && is_whole(frame) && frame->total <= left;
}

/* Take a message whose frames are all there, and those behind it, up to `most`,
 * and consume them at one stroke. Returns how many. */
static int64_t receive_whole(struct sf_channel *channel, struct sf_message *message, size_t most,
                             struct ring_frame *frame)
{
    _Atomic uint32_t *streak = &channel->incoming.streak;
    uint64_t used = 0, total = frame->total, end = frame->next;
    size_t count = 0;

    if (total > SF_MESSAGE_INLINE)
        return -EBADMSG;
    do {
        int tag = frame->tag;

        total = frame->total;
        if (copy_whole(channel, message->small.memory + used, frame) < 0)
            break;
        end = frame->next;
        message->heads[count++] = (uint64_t)as_result(total, tag);
        used += total;
    } while (count < most && peek_another(channel, frame, SF_MESSAGE_INLINE - used));
    if (count == 0)
        return -EBADMSG;
    message->is_large = 0;
    /* Relaxed: a hint; the lock orders receivers. */
    atomic_store_explicit(streak,
                          atomic_load_explicit(streak, memory_order_relaxed) + (uint32_t)count,
                          memory_order_relaxed);
    ring_consume(&channel->ring, end);
    return (int64_t)count;
}

static int begin_incoming(struct sf_channel *channel, struct sf_message *message,
                          const struct ring_frame *frame)
{
    struct incoming *incoming = &channel->incoming;
    uint64_t total = frame->total;
    int rc;

    if (total == 0 || total > SIZE_LIMIT)
        return -EBADMSG;
    rc = message_take_run(message, total, &incoming->run);
    if (rc == -EFBIG)
        message->result = as_result(total, frame->tag);
    if (rc < 0)
        return rc;
    incoming->total = total;
    incoming->received = 0;
    incoming->active = true;
    channel_set_stream(&channel->region->receiving.stream, liveness_self());
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
    channel_set_stream(&channel->region->receiving.stream, 0);
    message->heads[0] = (uint64_t)as_result(incoming->total, frame->tag);
    return 1;
}

/* Act on the next frame. Returns how many messages that completes, or AGAIN. */
static int64_t receive_frame(struct sf_channel *channel, struct sf_message *message, size_t most,
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
        return receive_whole(channel, message, most, frame);
    if (frame->flags & RING_FIRST) {
        rc = begin_incoming(channel, message, frame);
        if (rc < 0)
            return rc;
    }
    return receive_piece(channel, message, frame);
}

/* One attempt, with the lock held. Returns as sf_channel_receive_many, or AGAIN,
 * or -EAGAIN when it has to wait. */
static int64_t try_receive(struct sf_channel *channel, struct sf_message *message, size_t most)
{
    _Atomic uint64_t *stream = &channel->region->receiving.stream;
    struct ring_frame frame;
    int rc;

    channel_note_cpu(&channel->region->receiving.cpu);
    if (channel_is_owner_dead(stream))
        channel_set_stream(stream, 0);
    if (channel_stream_owner(stream) != liveness_self())
        channel_forget_incoming(channel); /* others may have taken the rest */
    if (channel_is_held_by_other(stream))
        return -EAGAIN;
    rc = ring_peek(&channel->ring, head_of(channel), &frame);
    if (rc <= 0)
        return rc == 0 ? -EAGAIN : rc;
    return receive_frame(channel, message, most, &frame);
}

static bool nobody_sends(struct sf_channel *channel, const struct peers *peers)
{
    /* Relaxed: see set_shared. */
    return !peers->others_live && channel_is_empty(channel) &&
           atomic_load_explicit(&channel->region->shared, memory_order_relaxed);
}

/* There is nothing, and no time to wait for it. */
static int look_instead_of_waiting(struct sf_channel *channel)
{
    struct peers peers = channel_look_at_peers(channel, true, NULL);

    channel_look_at_stream(&channel->region->sending.stream, &peers, NULL);
    if (peers.died && channel_bury_the_dead(channel))
        return 0;
    return nobody_sends(channel, &peers) ? -EPIPE : -EAGAIN;
}

/* Closed, and empty. A sender that found the channel open may still be about
 * to publish; whoever has had its lock afterwards knows better. */
static int confirm_end(struct sf_channel *channel, int64_t deadline_ns)
{
    int rc = channel_lock_sending(channel);

    if (rc == -EINTR && deadline_ns <= sf_clock_now_ns())
        return -EAGAIN;
    if (rc < 0)
        return rc;
    channel_unlock_sending(channel);
    return channel_is_empty(channel) ? -ESHUTDOWN : 0;
}

static int wait_for_data(struct sf_channel *channel, int64_t deadline_ns)
{
    struct waiting waiting = {.channel = channel,
                              .word = &channel->region->data,
                              .place = &channel->data_place,
                              .ready = channel_has_data,
                              .peer_cpu = &channel->region->sending.cpu,
                              .for_senders = true};

    if (channel_is_released(channel))
        return -EBADF;
    if (channel_is_over(&waiting))
        return confirm_end(channel, deadline_ns);
    if (deadline_ns <= SF_NOW || deadline_ns <= sf_clock_now_ns())
        return look_instead_of_waiting(channel);
    /* Relaxed: a hint. */
    waiting.streak = atomic_exchange_explicit(&channel->incoming.streak, 0, memory_order_relaxed);
    return channel_wait(&waiting, deadline_ns);
}

static int64_t attempt_receive(struct sf_channel *channel, struct sf_message *message, size_t most,
                               int64_t deadline_ns)
{
    int64_t result = channel_lock_receiving(channel);

    if (result == -EINTR && deadline_ns <= sf_clock_now_ns())
        return -EAGAIN;
    if (result < 0)
        return result;
    SF_KILL_POINT();
    result = try_receive(channel, message, most);
    channel_unlock_receiving(channel);
    return result;
}

static int64_t receive_messages(struct sf_channel *channel, struct sf_message *message, size_t most,
                                int64_t deadline_ns)
{
    int64_t slice_end_ns = 0;
    int64_t result;
    int rc;

    for (;;) {
        result = attempt_receive(channel, message, most, deadline_ns);
        if (result >= 0 || result == AGAIN)
            channel_wake_senders(channel);
        if (result == -EAGAIN) {
            rc = wait_for_data(channel, deadline_ns);
            if (rc < 0)
                return rc;
        } else if (result != AGAIN) {
            return result;
        }
        if (park_slice_is_over(&slice_end_ns))
            return -EINTR;
    }
}

void channel_leave_incoming(struct sf_channel *channel)
{
    if (channel_stream_owner(&channel->region->receiving.stream) != liveness_self())
        return;
    if (channel_lock_receiving(channel) < 0) {
        channel_give_up_stream(&channel->region->receiving.stream);
        return;
    }
    drop_incoming(channel);
    channel_unlock_receiving(channel);
}

int64_t sf_channel_receive_many(struct sf_channel *channel, struct sf_message *message, size_t most,
                                int64_t deadline_ns)
{
    int64_t result = channel_begin_call(channel);

    if (result < 0)
        return result;
    sf_message_clear(message);
    result = receive_messages(channel, message, most < SF_MESSAGE_MANY ? most : SF_MESSAGE_MANY,
                              deadline_ns);
    if (result >= 0) {
        message->result = (int64_t)message->heads[0];
        message->count += (uint64_t)result;
    }
    if (result >= 0 && !channel_goes_whole(channel, message->heads[0] >> 8))
        park_wake(&channel->region->data, true); /* whom the stream kept away */
    channel_end_call(channel);
    return result;
}

int64_t sf_channel_receive(struct sf_channel *channel, struct sf_message *message,
                           int64_t deadline_ns)
{
    int64_t count = sf_channel_receive_many(channel, message, 1, deadline_ns);

    return count < 0 ? count : message->result;
}
