/* SPDX-License-Identifier: MIT */
/* Several messages in one go: what arrives is what single sends and receives
 * would have made of them. */
#define _GNU_SOURCE
#include "channel.h"
#include "peer.h"

#define MOST SF_MESSAGE_MANY

/* Several marked messages, ready to be sent. */
struct batch {
    uint64_t heads[MOST];
    unsigned char data[SF_MESSAGE_INLINE + 8];
    size_t count, size;
};

static size_t size_of(uint32_t number)
{
    return noise(number) % 300;
}

static void add(struct batch *batch, uint32_t sender, uint32_t number, size_t size)
{
    unsigned char *data = make_filled((struct mark){sender, number, size});

    memcpy(batch->data + batch->size, data, size);
    batch->heads[batch->count++] = (uint64_t)result_of(size, (int)(number & 0xff));
    batch->size += size;
    free(data);
}

static int send_batch(struct sf_channel *channel, const struct batch *batch, int64_t deadline_ns)
{
    int rc;

    do
        rc = sf_channel_send_many(channel, batch->data, batch->heads, batch->count, deadline_ns);
    while (rc == -EINTR);
    return rc;
}

static int64_t receive_many(struct sf_channel *channel, struct sf_message *message, size_t most)
{
    int64_t count;

    do
        count = sf_channel_receive_many(channel, message, most, in_ms(20000));
    while (count == -EINTR);
    return count;
}

/* Are these the messages of a sender from `first` on? */
static void check_messages(struct sf_message *message, int64_t count, uint32_t sender,
                           uint32_t first)
{
    const unsigned char *data = sf_message_data(message);

    for (uint32_t i = 0; (int64_t)i < count; i++) {
        struct mark mark = {sender, first + i, size_of(first + i)};

        CHECK_EQUAL(sf_message_heads(message)[i], result_of(mark.size, (int)(mark.number & 0xff)));
        CHECK(is_intact(data, mark));
        data += mark.size;
    }
}

static void what_is_sent_together_is_received_one_by_one(void)
{
    struct sf_channel *channel = make_channel(MIB);
    struct sf_message *message = make_message();
    static struct batch batch;

    for (uint32_t i = 0; i < 300; i++)
        add(&batch, 1, i, size_of(i));
    CHECK_EQUAL(send_batch(channel, &batch, SF_NOW), 0);
    for (uint32_t i = 0; i < 300; i++)
        CHECK(receive_marked(channel, message, 1, i, size_of(i)));
    CHECK_EQUAL(sf_channel_receive(channel, message, SF_NOW), -EAGAIN);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void what_is_sent_one_by_one_is_received_together(void)
{
    struct sf_channel *channel = make_channel(MIB);
    struct sf_message *message = make_message();

    for (uint32_t i = 0; i < 100; i++)
        send_marked(channel, 1, i, size_of(i), SF_NOW);
    CHECK_EQUAL(receive_many(channel, message, 30), 30);
    check_messages(message, 30, 1, 0);
    CHECK_EQUAL(receive_many(channel, message, MOST), 70);
    check_messages(message, 70, 1, 30);
    CHECK_EQUAL(sf_message_count(message), 100);
    CHECK_EQUAL(sf_channel_receive_many(channel, message, MOST, SF_NOW), -EAGAIN);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void as_many_come_as_have_room_together(void)
{
    struct sf_channel *channel = make_channel(4 * MIB);
    struct sf_message *message = make_message();

    for (uint32_t i = 0; i < 5; i++)
        send_marked(channel, 1, i, SF_MESSAGE_INLINE / 4, SF_NOW);
    for (uint32_t i = 0; i < 1500; i++)
        sf_channel_send(channel, 1, NULL, 0, SF_NOW);
    CHECK_EQUAL(receive_many(channel, message, MOST), 4);
    CHECK_EQUAL(receive_many(channel, message, MOST), MOST);
    CHECK_EQUAL(receive_many(channel, message, 2 * MOST), 1501 - MOST);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void a_large_one_comes_alone(void)
{
    struct sf_channel *channel = make_channel(4 * MIB);
    struct sf_message *message = make_message();

    send_marked(channel, 1, 0, 10, SF_NOW);
    send_marked(channel, 1, 1, MIB, SF_NOW);
    send_marked(channel, 1, 2, 10, SF_NOW);
    for (uint32_t i = 0; i < 3; i++) {
        size_t size = i == 1 ? MIB : 10;

        CHECK_EQUAL(receive_many(channel, message, MOST), 1);
        CHECK_EQUAL(sf_message_heads(message)[0], result_of(size, (int)i));
        CHECK(is_intact(sf_message_data(message), (struct mark){1, i, size}));
    }
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void none_is_sent_when_there_is_no_room_for_all(void)
{
    struct sf_channel *channel = make_channel(64 * KIB);
    struct sf_message *message = make_message();
    static struct batch batch;

    for (uint32_t i = 0; i < 10; i++)
        add(&batch, 1, i, 5000);
    CHECK_EQUAL(send_batch(channel, &batch, SF_NOW), 0);
    CHECK_EQUAL(send_batch(channel, &batch, SF_NOW), -ENOBUFS);
    CHECK_EQUAL(send_batch(channel, &batch, in_ms(5)), -ENOBUFS);
    for (uint32_t i = 0; i < 10; i++)
        CHECK(receive_marked(channel, message, 1, i, 5000));
    CHECK_EQUAL(sf_channel_receive(channel, message, SF_NOW), -EAGAIN);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void what_can_never_be_sent_together_is_refused(void)
{
    struct sf_channel *small = make_channel(1000), *large = make_channel(MIB);
    static struct batch batch;

    CHECK_EQUAL(send_batch(small, &batch, SF_NOW), 0);
    for (uint32_t i = 0; i < 30; i++)
        add(&batch, 1, i, 30);
    CHECK_EQUAL(send_batch(small, &batch, SF_FOREVER), -EMSGSIZE);
    CHECK_EQUAL(send_batch(large, &batch, SF_NOW), 0);
    batch.heads[7] = (SF_MESSAGE_INLINE + 1) << 8;
    CHECK_EQUAL(send_batch(large, &batch, SF_FOREVER), -EMSGSIZE);
    sf_channel_destroy(small);
    sf_channel_destroy(large);
}

struct errand {
    struct sf_channel *channel;
    uint32_t sender;
};

#define ERRAND_COUNT 40000

/* Batches of all sizes, with single messages and streams between them. */
static void send_errand(void *subject)
{
    struct errand *errand = subject;
    static struct batch batch;

    for (uint32_t number = 0; number < ERRAND_COUNT;) {
        uint32_t want = (uint32_t)(noise(number) % 50);

        batch.count = batch.size = 0;
        for (; batch.count < want && number < ERRAND_COUNT; number++)
            add(&batch, errand->sender, number, 16 + size_of(number));
        CHECK_EQUAL(send_batch(errand->channel, &batch, SF_FOREVER), 0);
        if (number < ERRAND_COUNT)
            send_marked(errand->channel, errand->sender, number, number % 64 ? 16 : 200000,
                        SF_FOREVER);
        number++;
    }
}

/* Take marks out of what was received together; how many were in order. */
static uint32_t follow(struct sf_message *message, int64_t count, uint32_t *next)
{
    const unsigned char *data = sf_message_data(message);
    uint32_t good = 0;

    for (int64_t i = 0; i < count; i++) {
        size_t size = (size_t)(sf_message_heads(message)[i] >> 8);
        struct mark mark;

        memcpy(&mark, data, sizeof mark);
        good += mark.size == size && is_intact(data, mark) && mark.number == next[mark.sender]++;
        data += size;
    }
    return good;
}

static void two_senders_and_a_receiver_keep_each_order(void)
{
    struct sf_channel *channel = make_channel(64 * KIB);
    struct sf_message *message = make_message();
    struct errand errands[] = {{channel, 0}, {channel, 1}};
    struct sf_process *senders[2];
    uint32_t next[2] = {0, 0}, good = 0, all = 0;
    int64_t count;

    for (int i = 0; i < 2; i++)
        senders[i] = start_peer(send_errand, &errands[i]);
    while ((count = receive_many(channel, message, 1 + all % 100)) > 0) {
        good += follow(message, count, next);
        all += (uint32_t)count;
    }
    CHECK_EQUAL(count, -EPIPE);
    CHECK_EQUAL(good, all);
    CHECK_EQUAL(next[0], ERRAND_COUNT);
    CHECK_EQUAL(next[1], ERRAND_COUNT);
    for (int i = 0; i < 2; i++)
        CHECK_EQUAL(end_peer(senders[i]), 0);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

struct sleeper {
    struct sf_channel *channel;
    _Atomic pid_t thread;
    int64_t received_ns;
};

static void *receive_one(void *subject)
{
    struct sleeper *sleeper = subject;
    struct sf_message *message = make_message();

    atomic_store(&sleeper->thread, (pid_t)syscall(SYS_gettid));
    CHECK(receive_until(sleeper->channel, message, in_ms(20000)) >= 0);
    sleeper->received_ns = sf_clock_now_ns();
    sf_message_destroy(message);
    return NULL;
}

/* How long the last of several that sleep waits for its message. */
static int64_t longest_wait(struct sf_channel *channel)
{
    struct sleeper sleepers[3] = {{.channel = NULL}};
    static struct batch batch;
    int64_t began_ns, longest_ns = 0;
    pthread_t threads[3];

    batch = (struct batch){.count = 0};
    for (uint32_t i = 0; i < 3; i++) {
        add(&batch, 1, i, 100);
        sleepers[i].channel = channel;
        pthread_create(&threads[i], NULL, receive_one, &sleepers[i]);
        WAIT_UNTIL(sleepers[i].thread != 0 && state_of(sleepers[i].thread) == 'S');
    }
    began_ns = sf_clock_now_ns();
    CHECK_EQUAL(send_batch(channel, &batch, SF_NOW), 0);
    for (uint32_t i = 0; i < 3; i++) {
        pthread_join(threads[i], NULL);
        if (sleepers[i].received_ns - began_ns > longest_ns)
            longest_ns = sleepers[i].received_ns - began_ns;
    }
    return longest_ns;
}

/* Nobody sleeps for longer than a slice anyway, and few will be late in it. */
static void several_messages_wake_as_many_receivers(void)
{
    struct sf_channel *channel = make_channel(MIB);
    int64_t shortest_ns = INT64_MAX, wait_ns;

    for (int round = 0; round < 5; round++) {
        wait_ns = longest_wait(channel);
        shortest_ns = wait_ns < shortest_ns ? wait_ns : shortest_ns;
    }
    CHECK(shortest_ns < 40 * MS);
    sf_channel_destroy(channel);
}

int main(void)
{
    check_begin(100);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(what_is_sent_together_is_received_one_by_one);
    RUN(what_is_sent_one_by_one_is_received_together);
    RUN(as_many_come_as_have_room_together);
    RUN(a_large_one_comes_alone);
    RUN(none_is_sent_when_there_is_no_room_for_all);
    RUN(what_can_never_be_sent_together_is_refused);
    RUN(two_senders_and_a_receiver_keep_each_order);
    RUN(several_messages_wake_as_many_receivers);
    return check_end();
}
