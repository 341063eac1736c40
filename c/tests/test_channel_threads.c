/* SPDX-License-Identifier: MIT */
/* Threads of one process that share a channel. ThreadSanitizer sees them all,
 * which it cannot with processes. */
#define _GNU_SOURCE
#include "peer.h"

#define THREAD_COUNT 2
#define MESSAGE_COUNT 1500

struct hall {
    struct sf_channel *channel;
    _Atomic uint8_t times[THREAD_COUNT][MESSAGE_COUNT];
    _Atomic uint32_t next_sender, next_receiver;
};

static struct hall *make_hall(size_t capacity)
{
    struct hall *hall = calloc(1, sizeof *hall);

    hall->channel = make_channel(capacity);
    sf_channel_count_self(hall->channel, 1);
    return hall;
}

static void free_hall(struct hall *hall)
{
    sf_channel_destroy(hall->channel);
    free(hall);
}

static size_t size_of(uint32_t number)
{
    return 16 + noise(number) % (number % 100 == 0 ? 200000 : 500);
}

/* Two messages at one stroke; false if they are too large for that. */
static bool send_two(struct sf_channel *channel, uint32_t sender, uint32_t first)
{
    unsigned char data[2048];
    uint64_t heads[2];
    size_t used = 0;
    int rc;

    for (uint32_t i = 0; i < 2; i++) {
        struct mark mark = {sender, first + i, size_of(first + i)};

        if (used + mark.size + 8 > sizeof data)
            return false;
        fill(data + used, mark);
        heads[i] = (uint64_t)result_of(mark.size, 0);
        used += mark.size;
    }
    do
        rc = sf_channel_send_many(channel, data, heads, 2, SF_FOREVER);
    while (rc == -EINTR);
    return CHECK_EQUAL(rc, 0);
}

static void *send_all(void *subject)
{
    struct hall *hall = subject;
    uint32_t sender = atomic_fetch_add(&hall->next_sender, 1);

    for (uint32_t i = 0; i < MESSAGE_COUNT; i++)
        if (i % 3 == 0 && i + 1 < MESSAGE_COUNT && send_two(hall->channel, sender, i))
            i++;
        else
            CHECK_EQUAL(send_marked(hall->channel, sender, i, size_of(i), SF_FOREVER), 0);
    return NULL;
}

static int64_t receive_three(struct sf_channel *channel, struct sf_message *message)
{
    int64_t count;

    do
        count = sf_channel_receive_many(channel, message, 3, SF_FOREVER);
    while (count == -EINTR);
    return count;
}

static void note(struct hall *hall, int64_t *next, const unsigned char *data, size_t size)
{
    struct mark mark;

    memcpy(&mark, data, sizeof mark);
    if (!CHECK(mark.size == size && is_intact(data, mark) && mark.sender < THREAD_COUNT))
        return;
    CHECK(mark.number >= next[mark.sender]);
    next[mark.sender] = (int64_t)mark.number + 1;
    atomic_fetch_add(&hall->times[mark.sender][mark.number], 1);
}

static void *receive_all(void *subject)
{
    struct hall *hall = subject;
    struct sf_message *message = make_message();
    int64_t next[THREAD_COUNT] = {0}, count;

    while ((count = receive_three(hall->channel, message)) >= 0) {
        const unsigned char *data = sf_message_data(message);

        for (int64_t i = 0; i < count; i++) {
            size_t size = (size_t)(sf_message_heads(message)[i] >> 8);

            note(hall, next, data, size);
            data += size;
        }
    }
    CHECK_EQUAL(count, -ESHUTDOWN);
    sf_message_destroy(message);
    return NULL;
}

static void exchange(size_t capacity)
{
    struct hall *hall = make_hall(capacity);
    pthread_t senders[THREAD_COUNT], receivers[THREAD_COUNT];

    for (int i = 0; i < THREAD_COUNT; i++) {
        pthread_create(&senders[i], NULL, send_all, hall);
        pthread_create(&receivers[i], NULL, receive_all, hall);
    }
    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_join(senders[i], NULL);
    sf_channel_close(hall->channel);
    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_join(receivers[i], NULL);
    for (int i = 0; i < THREAD_COUNT * MESSAGE_COUNT; i++)
        if (hall->times[i / MESSAGE_COUNT][i % MESSAGE_COUNT] != 1)
            CHECK_EQUAL(hall->times[i / MESSAGE_COUNT][i % MESSAGE_COUNT], 1);
    free_hall(hall);
}

static void threads_lose_nothing_through_a_small_channel(void)
{
    exchange(8 * KIB);
}

static void threads_lose_nothing_through_a_large_channel(void)
{
    exchange(16 * MIB);
}

/* ------------------------------------------------------------------- release */

static void *receive_until_released(void *subject)
{
    struct hall *hall = subject;
    struct sf_message *message = make_message();

    CHECK_EQUAL(receive_until(hall->channel, message, SF_FOREVER), -EBADF);
    sf_message_destroy(message);
    return NULL;
}

static void *send_until_released(void *subject)
{
    struct hall *hall = subject;
    int rc;

    while ((rc = send_marked(hall->channel, 0, 0, 3000, SF_FOREVER)) == 0)
        ;
    CHECK_EQUAL(rc, -EBADF);
    return NULL;
}

static void *stream_until_released(void *subject)
{
    struct hall *hall = subject;

    CHECK_EQUAL(send_marked(hall->channel, 0, 0, MIB, SF_FOREVER), -EBADF);
    return NULL;
}

static void release_under(void *(*call)(void *))
{
    struct hall *hall = make_hall(8 * KIB);
    pthread_t threads[THREAD_COUNT];

    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_create(&threads[i], NULL, call, hall);
    if (call != receive_until_released)
        WAIT_UNTIL(sf_channel_used(hall->channel) > 4 * KIB);
    sf_channel_release(hall->channel);
    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
    free_hall(hall);
}

static void a_release_lets_a_waiting_receiver_out(void)
{
    release_under(receive_until_released);
}

static void a_release_lets_a_waiting_sender_out(void)
{
    release_under(send_until_released);
}

static void a_release_lets_a_streaming_sender_out(void)
{
    release_under(stream_until_released);
}

/* ---------------------------------------------------------------------- fork */

static void *send_until_closed(void *subject)
{
    struct hall *hall = subject;
    uint32_t number = 0;
    int rc;

    while ((rc = send_marked(hall->channel, 0, number, size_of(number), SF_FOREVER)) == 0)
        number++;
    CHECK_EQUAL(rc, -ESHUTDOWN);
    return NULL;
}

/* One in which no thread of the parent is, and no message half received. */
static void use_inherited_channel(void *subject)
{
    struct hall *hall = subject;
    struct sf_message *message = make_message();
    struct mark mark = {0, 0, 0};
    int64_t result;

    for (int i = 0; i < 20; i++) {
        result = receive_until(hall->channel, message, in_ms(20000));
        CHECK(read_mark(message, result, &mark));
        CHECK_EQUAL(mark.size, size_of(mark.number));
    }
    sf_message_destroy(message);
    sf_channel_destroy(hall->channel);
}

static void a_fork_while_threads_send_gives_a_working_channel(void)
{
    struct hall *hall = make_hall(8 * KIB);
    struct sf_message *message = make_message();
    pthread_t sender;

    pthread_create(&sender, NULL, send_until_closed, hall);
    for (int i = 0; i < 30; i++)
        CHECK_EQUAL(end_peer(start_peer(use_inherited_channel, hall)), 0);
    sf_channel_close(hall->channel);
    while (receive_until(hall->channel, message, SF_FOREVER) >= 0)
        ;
    pthread_join(sender, NULL);
    sf_message_destroy(message);
    free_hall(hall);
}

static void *make_and_free_channels(void *count)
{
    for (int i = 0; i < *(int *)count; i++) {
        struct sf_channel *channel = make_channel(4 * KIB);

        CHECK_EQUAL(sf_channel_send(channel, 0, "a", 1, SF_NOW), 0);
        sf_channel_destroy(channel);
    }
    return NULL;
}

static void channels_come_and_go_while_others_fork(void)
{
    int count = 500;
    pthread_t threads[THREAD_COUNT];

    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_create(&threads[i], NULL, make_and_free_channels, &count);
    for (int i = 0; i < 30; i++)
        CHECK_EQUAL(end_peer(start_peer(leave_at_once, NULL)), 0);
    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
}

static void *spawn_many(void *count)
{
    for (int i = 0; i < *(int *)count; i++)
        CHECK_EQUAL(end_peer(start_peer(leave_at_once, NULL)), 0);
    return NULL;
}

static void threads_spawn_at_the_same_time(void)
{
    int count = 30;
    pthread_t threads[THREAD_COUNT];

    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_create(&threads[i], NULL, spawn_many, &count);
    for (int i = 0; i < THREAD_COUNT; i++)
        pthread_join(threads[i], NULL);
}

int main(void)
{
    check_begin(100);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(threads_lose_nothing_through_a_small_channel);
    RUN(threads_lose_nothing_through_a_large_channel);
    RUN(a_release_lets_a_waiting_receiver_out);
    RUN(a_release_lets_a_waiting_sender_out);
    RUN(a_release_lets_a_streaming_sender_out);
    RUN(a_fork_while_threads_send_gives_a_working_channel);
    RUN(channels_come_and_go_while_others_fork);
    RUN(threads_spawn_at_the_same_time);
    return check_end();
}
