/* SPDX-License-Identifier: MIT */
/* The channel as its users see it: what arrives, in which order, and what
 * every call says when something is full, empty, closed, dead, stopped,
 * released, short of memory or damaged. */
#define _GNU_SOURCE
#include "channel.h"
#include "peer.h"

#include <sys/syscall.h>
#include <sys/time.h>

/* One channel and one buffer, which most tests begin with. */
struct pair {
    struct sf_channel *channel;
    struct sf_message *message;
};

static struct pair make_pair(size_t capacity)
{
    return (struct pair){make_channel(capacity), make_message()};
}

static void free_pair(struct pair pair)
{
    sf_message_destroy(pair.message);
    sf_channel_destroy(pair.channel);
}

static int64_t receive_now(struct pair pair)
{
    return receive_until(pair.channel, pair.message, SF_NOW);
}

/* Send until there is no room for one more. */
static void fill_up(struct sf_channel *channel)
{
    while (sf_channel_send(channel, 0, "12345678", 8, SF_NOW) == 0)
        ;
}

/* ------------------------------------------------------------------ messages */

static void every_size_arrives_as_it_was_sent(void)
{
    static const size_t sizes[] = {0,
                                   1,
                                   7,
                                   8,
                                   9,
                                   64 * KIB - 17,
                                   64 * KIB - 16,
                                   64 * KIB - 1,
                                   64 * KIB,
                                   64 * KIB + 1,
                                   128 * KIB - 1,
                                   128 * KIB,
                                   128 * KIB + 1,
                                   1000000,
                                   5 * MIB + 3};
    struct pair pair = make_pair(8 * MIB);

    for (uint32_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        CHECK_EQUAL(send_marked(pair.channel, 1, i, sizes[i], SF_NOW), 0);
        CHECK(receive_marked(pair.channel, pair.message, 1, i, sizes[i]));
    }
    CHECK_EQUAL(receive_now(pair), -EAGAIN);
    free_pair(pair);
}

static void messages_arrive_in_order(void)
{
    struct pair pair = make_pair(8 * MIB);

    for (uint32_t i = 0; i < 200; i++)
        CHECK_EQUAL(send_marked(pair.channel, 1, i, noise(i) % 30000, SF_NOW), 0);
    for (uint32_t i = 0; i < 200; i++)
        receive_marked(pair.channel, pair.message, 1, i, noise(i) % 30000);
    free_pair(pair);
}

static void every_tag_arrives(void)
{
    struct pair pair = make_pair(64 * KIB);

    for (int tag = 0; tag < 256; tag++) {
        CHECK_EQUAL(sf_channel_send(pair.channel, tag, NULL, 0, SF_NOW), 0);
        CHECK_EQUAL(receive_now(pair), tag);
    }
    free_pair(pair);
}

static void parts_arrive_as_one_message(void)
{
    struct pair pair = make_pair(2 * MIB);
    unsigned char *data = make_filled((struct mark){1, 1, MIB});
    const void *parts[] = {NULL, data, data + 5, NULL, data + 300000};
    const size_t sizes[] = {0, 5, 299995, 0, MIB - 300000};

    CHECK_EQUAL(sf_channel_send_parts(pair.channel, 1, parts, sizes, 5, SF_NOW), 0);
    CHECK(receive_marked(pair.channel, pair.message, 1, 1, MIB));
    CHECK_EQUAL(sf_channel_send_parts(pair.channel, 2, parts, sizes, 0, SF_NOW), 0);
    CHECK_EQUAL(receive_now(pair), 2);
    free(data);
    free_pair(pair);
}

/* ------------------------------------------------------------------ capacity */

static void a_channel_needs_a_capacity_that_can_be_had(void)
{
    struct sf_channel *channel = NULL;

    CHECK_EQUAL(sf_channel_create(0, 0, &channel), -EINVAL);
    CHECK_EQUAL(sf_channel_create(SIZE_MAX, 0, &channel), -ENOMEM);
    CHECK_EQUAL(sf_channel_create(SIZE_MAX / 2, SF_CHANNEL_SHRINK, &channel), -ENOMEM);
    CHECK(channel == NULL);
}

static void the_largest_capacity_works(void)
{
    struct sf_channel *channel = NULL;
    struct sf_message *message = make_message();

    /* Where there is less address space, that is the answer. */
    if (sf_channel_create((size_t)1 << 46, 0, &channel) == 0) {
        for (uint32_t i = 0; i < 40; i++)
            CHECK_EQUAL(send_marked(channel, 1, i, 60000, SF_NOW), 0);
        for (uint32_t i = 0; i < 40; i++)
            receive_marked(channel, message, 1, i, 60000);
    }
    sf_channel_destroy(channel);
    sf_message_destroy(message);
}

static void the_smallest_capacities_work(void)
{
    static const size_t capacities[] = {1, 8, 100};

    for (size_t i = 0; i < sizeof capacities / sizeof *capacities; i++) {
        struct pair pair = make_pair(capacities[i]);

        CHECK_EQUAL(sf_channel_capacity(pair.channel), capacities[i]);
        for (uint32_t k = 0; k < 3000; k++) {
            CHECK_EQUAL(send_marked(pair.channel, 1, k, capacities[i], SF_NOW), 0);
            receive_marked(pair.channel, pair.message, 1, k, capacities[i]);
        }
        CHECK_EQUAL(send_marked(pair.channel, 1, 0, capacities[i] + 1, SF_NOW), -EMSGSIZE);
        free_pair(pair);
    }
}

static void fits_at(size_t size, size_t offset)
{
    static const unsigned char filler[65536 + 64];
    struct pair pair = make_pair(size);

    CHECK_EQUAL(sf_channel_send(pair.channel, 0, filler, offset - 8, SF_NOW), 0);
    CHECK(receive_now(pair) >= 0);
    CHECK_EQUAL(send_marked(pair.channel, 1, 1, size, SF_NOW), 0);
    CHECK(receive_marked(pair.channel, pair.message, 1, 1, size));
    free_pair(pair);
}

static void a_message_of_exactly_the_capacity_fits_wherever_the_channel_stands(void)
{
    static const size_t sizes[] = {65528,          128 * KIB, 128 * KIB + 1, 128 * KIB + 8,
                                   128 * KIB + 32, 192 * KIB, 300001,        MIB};

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (size_t offset = 65536 - 64; offset <= 65536 + 16; offset += 8)
            if (offset <= sizes[i])
                fits_at(sizes[i], offset);
}

static void a_full_channel_keeps_its_first_message(void)
{
    struct pair pair = make_pair(8 * KIB);
    uint32_t count = 0;

    while (send_marked(pair.channel, 1, count, 1000, SF_NOW) == 0)
        count++;
    CHECK(count == 7 || count == 8);
    CHECK_EQUAL(send_marked(pair.channel, 1, count, 1000, SF_NOW), -ENOBUFS);
    CHECK_EQUAL(send_marked(pair.channel, 1, count, 1000, in_ms(5)), -ENOBUFS);
    for (uint32_t i = 0; i < count; i++)
        receive_marked(pair.channel, pair.message, 1, i, 1000);
    CHECK_EQUAL(receive_now(pair), -EAGAIN);
    free_pair(pair);
}

static void what_waits_is_counted(void)
{
    struct pair pair = make_pair(8 * MIB);

    CHECK_EQUAL(sf_channel_used(pair.channel), 0);
    send_marked(pair.channel, 1, 0, 1000, SF_NOW);
    CHECK_EQUAL(sf_channel_used(pair.channel), 1008);
    CHECK_EQUAL(sf_channel_committed(pair.channel), 64 * KIB);
    receive_marked(pair.channel, pair.message, 1, 0, 1000);
    CHECK_EQUAL(sf_channel_used(pair.channel), 0);
    free_pair(pair);
}

static void a_message_that_can_never_fit_is_refused_when_there_is_no_time(void)
{
    struct pair pair = make_pair(8 * KIB);

    CHECK_EQUAL(send_marked(pair.channel, 1, 0, 8 * KIB + 1, SF_NOW), -EMSGSIZE);
    CHECK_EQUAL(sf_channel_used(pair.channel), 0);
    free_pair(pair);
}

static void a_stream_without_a_receiver_is_given_up_at_the_deadline(void)
{
    struct pair pair = make_pair(8 * KIB);

    CHECK_EQUAL(send_marked(pair.channel, 1, 0, 100 * KIB, in_ms(5)), -ENOBUFS);
    CHECK_EQUAL(receive_now(pair), -EAGAIN);
    CHECK_EQUAL(send_marked(pair.channel, 1, 1, 8 * KIB, SF_NOW), 0);
    CHECK(receive_marked(pair.channel, pair.message, 1, 1, 8 * KIB));
    free_pair(pair);
}

/* -------------------------------------------------------------------- streams */

struct stream {
    struct pair pair;
    size_t size;
    uint32_t count, sender;
};

static void send_messages(void *subject)
{
    struct stream *stream = subject;

    for (uint32_t i = 0; i < stream->count; i++)
        CHECK_EQUAL(send_marked(stream->pair.channel, stream->sender, i, stream->size, SF_FOREVER),
                    0);
}

static void receive_messages(void *subject)
{
    struct stream *stream = subject;

    for (uint32_t i = 0; i < stream->count; i++)
        receive_marked(stream->pair.channel, stream->pair.message, 1, i, stream->size);
}

static void stream_through(size_t capacity, size_t size, uint32_t count)
{
    struct stream stream = {make_pair(capacity), size, count, 1};
    struct sf_process *sender = start_peer(send_messages, &stream);

    receive_messages(&stream);
    CHECK_EQUAL(end_peer(sender), 0);
    CHECK_EQUAL(receive_now(stream.pair), -EPIPE);
    free_pair(stream.pair);
}

static void messages_larger_than_the_channel_stream_through(void)
{
    stream_through(1, 40, 20);
    stream_through(8, 1000, 5);
    stream_through(100, 5000, 20);
    stream_through(8 * KIB, 100 * KIB, 20);
    stream_through(100 * KIB, MIB + 5, 10);
    stream_through(MIB, 20 * MIB, 3);
}

static void cancel_gives_the_channel_to_others(void)
{
    struct pair pair = make_pair(8 * KIB);
    unsigned char *data = make_filled((struct mark){1, 0, 100 * KIB});

    CHECK_EQUAL(sf_channel_send(pair.channel, 0, data, 100 * KIB, in_ms(5)), -EINTR);
    CHECK(sf_channel_used(pair.channel) > 0);
    sf_channel_cancel(pair.channel);
    CHECK_EQUAL(receive_now(pair), -EAGAIN);
    sf_channel_cancel(pair.channel);
    CHECK_EQUAL(send_marked(pair.channel, 1, 1, 8 * KIB, SF_NOW), 0);
    CHECK(receive_marked(pair.channel, pair.message, 1, 1, 8 * KIB));
    free(data);
    free_pair(pair);
}

static void receive_small_then_large(void *subject)
{
    struct pair *pair = subject;

    receive_marked(pair->channel, pair->message, 1, 7, 100);
    receive_marked(pair->channel, pair->message, 1, 0, 100 * KIB);
}

/* As a signal handler does, between two calls for the message that it interrupted. */
static void another_message_of_the_same_thread_comes_before_one_half_sent(void)
{
    struct pair pair = make_pair(8 * KIB);
    unsigned char *data = make_filled((struct mark){1, 0, 100 * KIB});
    struct sf_process *peer;

    CHECK_EQUAL(sf_channel_send(pair.channel, 0, data, 100 * KIB, in_ms(5)), -EINTR);
    CHECK_EQUAL(send_marked(pair.channel, 1, 7, 100, SF_NOW), -ENOBUFS);
    CHECK(sf_channel_used(pair.channel) > 4 * KIB);
    peer = start_peer(receive_small_then_large, &pair);
    CHECK_EQUAL(send_marked(pair.channel, 1, 7, 100, SF_FOREVER), 0);
    CHECK_EQUAL(send_until(pair.channel, 0, data, 100 * KIB, SF_FOREVER), 0);
    CHECK_EQUAL(end_peer(peer), 0);
    free(data);
    free_pair(pair);
}

static void others_wait_for_the_end_of_a_stream(void)
{
    struct stream stream = {make_pair(8 * KIB), 50 * KIB, 10, 1};
    struct stream second = {stream.pair, 50 * KIB, 10, 2};
    struct sf_process *peers[] = {start_peer(send_messages, &stream),
                                  start_peer(send_messages, &second)};
    uint32_t next[3] = {0, 0, 0};
    struct mark mark = {0, 0, 0};

    for (int i = 0; i < 20; i++) {
        int64_t result = receive_until(stream.pair.channel, stream.pair.message, in_ms(20000));

        if (CHECK(read_mark(stream.pair.message, result, &mark) && mark.sender <= 2))
            CHECK_EQUAL(mark.number, next[mark.sender]++);
    }
    CHECK_EQUAL(end_peer(peers[0]), 0);
    CHECK_EQUAL(end_peer(peers[1]), 0);
    free_pair(stream.pair);
}

/* The call is to come back now and then, or nobody could interrupt it. */
#define LONG_SIZE ((size_t)500 << 20)

static void long_calls_come_back_between(void)
{
    struct pair pair = make_pair((size_t)1 << 30);
    unsigned char *data = calloc(1, LONG_SIZE);
    int64_t began_ns, longest_ns = 0, result;

    do {
        began_ns = sf_clock_now_ns();
        result = sf_channel_send(pair.channel, 1, data, LONG_SIZE, SF_FOREVER);
        if (sf_clock_now_ns() - began_ns > longest_ns)
            longest_ns = sf_clock_now_ns() - began_ns;
    } while (result == -EINTR);
    CHECK_EQUAL(result, 0);
    do {
        began_ns = sf_clock_now_ns();
        result = sf_channel_receive(pair.channel, pair.message, SF_FOREVER);
        if (sf_clock_now_ns() - began_ns > longest_ns)
            longest_ns = sf_clock_now_ns() - began_ns;
    } while (result == -EINTR);
    CHECK_EQUAL(result, result_of(LONG_SIZE, 1));
    CHECK(longest_ns < 400 * MS * (UNDER_SANITIZER ? 5 : 1));
    free(data);
    free_pair(pair);
}

/* --------------------------------------------------------------- many of each */

#define CROWD 3
#define CROWD_COUNT 2000

struct crowd {
    struct sf_channel *channel;
    _Atomic uint8_t *times; /* how often each message arrived */
    _Atomic uint32_t next_sender;
    _Atomic uint32_t received;
};

static size_t crowd_size(uint32_t number)
{
    return 16 + noise(number) % (number % 64 == 0 ? 20000 : 300);
}

static void crowd_send(void *subject)
{
    struct crowd *crowd = subject;
    uint32_t sender = atomic_fetch_add(&crowd->next_sender, 1);

    for (uint32_t i = 0; i < CROWD_COUNT; i++)
        CHECK_EQUAL(send_marked(crowd->channel, sender, i, crowd_size(i), SF_FOREVER), 0);
}

static void crowd_receive(void *subject)
{
    struct crowd *crowd = subject;
    struct sf_message *message = make_message();
    int64_t next[CROWD] = {0};
    struct mark mark = {0, 0, 0};
    int64_t result;

    sf_channel_close_send(crowd->channel);
    while ((result = receive_until(crowd->channel, message, SF_FOREVER)) >= 0) {
        if (!CHECK(read_mark(message, result, &mark) && mark.sender < CROWD))
            break;
        CHECK(mark.number >= next[mark.sender]);
        next[mark.sender] = (int64_t)mark.number + 1;
        atomic_fetch_add(&crowd->times[mark.sender * CROWD_COUNT + mark.number], 1);
        atomic_fetch_add(&crowd->received, 1);
    }
    CHECK_EQUAL(result, -EPIPE);
    sf_message_destroy(message);
}

static void senders_and_receivers_lose_nothing_and_keep_each_order(void)
{
    size_t size = sizeof(struct crowd) + CROWD * CROWD_COUNT;
    struct crowd *crowd =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    struct sf_process *peers[2 * CROWD];

    crowd->channel = make_channel(8 * KIB);
    crowd->times = (_Atomic uint8_t *)(crowd + 1);
    for (int i = 0; i < 2 * CROWD; i++)
        peers[i] = start_peer(i % 2 ? crowd_send : crowd_receive, crowd);
    sf_channel_close_send(crowd->channel);
    for (int i = 0; i < 2 * CROWD; i++)
        CHECK_EQUAL(end_peer(peers[i]), 0);
    CHECK_EQUAL(crowd->received, CROWD * CROWD_COUNT);
    for (int i = 0; i < CROWD * CROWD_COUNT; i++)
        if (crowd->times[i] != 1)
            CHECK_EQUAL(crowd->times[i], 1);
    sf_channel_destroy(crowd->channel);
    munmap(crowd, size);
}

static void echo(void *subject)
{
    struct sf_channel **channels = subject;
    struct sf_message *message = make_message();
    int64_t result;

    while ((result = receive_until(channels[0], message, SF_FOREVER)) >> 8 > 0)
        send_until(channels[1], 0, sf_message_data(message), (size_t)result >> 8, SF_FOREVER);
    sf_message_destroy(message);
}

static void ten_thousand_hops_lose_no_wake_up(void)
{
    struct sf_channel *channels[] = {make_channel(1 * KIB), make_channel(1 * KIB)};
    struct sf_process *peer = start_peer(echo, channels);
    struct sf_message *message = make_message();
    int slow = 0;

    for (uint32_t i = 0; i < 10000; i++) {
        int64_t began_ns = sf_clock_now_ns();

        CHECK_EQUAL(send_until(channels[0], 0, &i, sizeof i, SF_FOREVER), 0);
        CHECK_EQUAL(receive_until(channels[1], message, SF_FOREVER), result_of(sizeof i, 0));
        slow += sf_clock_now_ns() - began_ns > PARK_SLICE_NS * 9 / 10;
    }
    /* A lost wake-up costs a slice; a busy machine may cost one now and then. */
    CHECK(slow < 20);
    send_until(channels[0], 0, NULL, 0, SF_FOREVER);
    CHECK_EQUAL(end_peer(peer), 0);
    sf_message_destroy(message);
    sf_channel_destroy(channels[0]);
    sf_channel_destroy(channels[1]);
}

/* ------------------------------------------------------- deadlines and signals */

static void an_empty_channel_has_no_message_in_time(void)
{
    struct pair pair = make_pair(KIB);
    int64_t began_ns = sf_clock_now_ns();

    CHECK_EQUAL(receive_now(pair), -EAGAIN);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, began_ns + 20 * MS), -EAGAIN);
    CHECK(sf_clock_now_ns() - began_ns >= 20 * MS);
    CHECK_EQUAL(sf_channel_receive(pair.channel, pair.message, SF_FOREVER), -EINTR);
    free_pair(pair);
}

static void a_signal_ends_waiting_on_either_side(void)
{
    struct sigaction handler = {.sa_handler = ignore_signal, .sa_flags = SA_RESTART};
    struct pair pair = make_pair(8);
    pthread_t thread, self = pthread_self();

    sigaction(SIGUSR1, &handler, NULL);
    pthread_create(&thread, NULL, interrupt, &self);
    CHECK_EQUAL(sf_channel_receive(pair.channel, pair.message, SF_FOREVER), -EINTR);
    pthread_join(thread, NULL);
    fill_up(pair.channel);
    pthread_create(&thread, NULL, interrupt, &self);
    CHECK_EQUAL(sf_channel_send(pair.channel, 0, "12345678", 8, SF_FOREVER), -EINTR);
    pthread_join(thread, NULL);
    free_pair(pair);
}

static void a_storm_of_signals_does_no_harm(void)
{
    const struct itimerval every_half_ms = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
    struct sigaction handler = {.sa_handler = ignore_signal}, before;
    struct itimerval rest, unused;
    struct stream stream = {make_pair(8 * KIB), 200 * KIB, 100, 1};
    struct sf_process *sender = start_peer(send_messages, &stream);

    /* The real timer is the watchdog's; it gets its rest back. */
    sigaction(SIGALRM, &handler, &before);
    setitimer(ITIMER_REAL, &every_half_ms, &rest);
    receive_messages(&stream);
    setitimer(ITIMER_REAL, &never, &unused);
    sigaction(SIGALRM, &before, NULL);
    setitimer(ITIMER_REAL, &rest, NULL);
    CHECK_EQUAL(end_peer(sender), 0);
    free_pair(stream.pair);
}

/* --------------------------------------------------------------------- closing */

static void after_a_close_the_rest_can_be_received(void)
{
    struct pair pair = make_pair(64 * KIB);

    send_marked(pair.channel, 1, 1, 1000, SF_NOW);
    CHECK_EQUAL(sf_channel_close(pair.channel), 0);
    CHECK_EQUAL(sf_channel_close(pair.channel), 0);
    CHECK_EQUAL(send_marked(pair.channel, 1, 2, 1000, SF_NOW), -ESHUTDOWN);
    CHECK_EQUAL(send_marked(pair.channel, 1, 2, MIB, SF_FOREVER), -ESHUTDOWN);
    CHECK(receive_marked(pair.channel, pair.message, 1, 1, 1000));
    CHECK_EQUAL(receive_now(pair), -ESHUTDOWN);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -ESHUTDOWN);
    free_pair(pair);
}

static void receive_the_end(void *subject)
{
    struct pair *pair = subject;

    CHECK_EQUAL(receive_until(pair->channel, pair->message, SF_FOREVER), -ESHUTDOWN);
}

/* How long a receiver that waits takes to learn of a close. */
static int64_t time_a_close(void)
{
    struct pair pair = make_pair(KIB);
    struct sf_process *peer = start_peer(receive_the_end, &pair);
    int64_t began_ns;

    WAIT_UNTIL(state_of(sf_process_pid(peer)) == 'S');
    began_ns = sf_clock_now_ns();
    sf_channel_close(pair.channel);
    CHECK_EQUAL(end_peer(peer), 0);
    free_pair(pair);
    return sf_clock_now_ns() - began_ns;
}

static void a_close_wakes_a_waiting_receiver(void)
{
    int slow = 0;

    /* Not woken, it would look by itself after a slice: half of one on average. */
    for (int i = 0; i < 20; i++)
        slow += time_a_close() > PARK_SLICE_NS / 4;
    CHECK(slow < 8);
}

static void send_into_the_closing(void *subject)
{
    struct pair *pair = subject;

    fill_up(pair->channel);
    CHECK_EQUAL(send_until(pair->channel, 0, "12345678", 8, SF_FOREVER), -ESHUTDOWN);
}

static void a_close_wakes_a_waiting_sender(void)
{
    struct pair pair = make_pair(8);
    struct sf_process *peer = start_peer(send_into_the_closing, &pair);

    WAIT_UNTIL(sf_channel_used(pair.channel) > 0 && state_of(sf_process_pid(peer)) == 'S');
    sf_channel_close(pair.channel);
    CHECK_EQUAL(end_peer(peer), 0);
    free_pair(pair);
}

static void a_stream_under_way_survives_a_close(void)
{
    struct stream stream = {make_pair(8 * KIB), 500 * KIB, 1, 1};
    struct sf_process *sender = start_peer(send_messages, &stream);

    WAIT_UNTIL(sf_channel_used(stream.pair.channel) > 0);
    sf_channel_close(stream.pair.channel);
    receive_messages(&stream);
    CHECK_EQUAL(receive_until(stream.pair.channel, stream.pair.message, SF_FOREVER), -ESHUTDOWN);
    CHECK_EQUAL(end_peer(sender), 0);
    free_pair(stream.pair);
}

static void a_closed_sending_end_sends_no_more(void)
{
    struct pair pair = make_pair(KIB);

    CHECK_EQUAL(sf_channel_close_send(pair.channel), 0);
    CHECK_EQUAL(send_marked(pair.channel, 1, 1, 10, SF_NOW), -ESHUTDOWN);
    CHECK_EQUAL(sf_channel_close_send(pair.channel), 0);
    free_pair(pair);
}

static void close_send_and_stay(void *channel)
{
    sf_channel_close_send(channel);
    stay_forever(NULL);
}

static void receivers_learn_that_the_last_sender_closed_its_end(void)
{
    struct pair pair = make_pair(KIB);
    struct sf_process *peer = start_peer(close_send_and_stay, pair.channel);

    CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
    kill_peer(peer);
    free_pair(pair);
}

static void close_receive_and_stay(void *channel)
{
    sf_channel_close_receive(channel);
    stay_forever(NULL);
}

static void senders_learn_that_the_last_receiver_closed_its_end(void)
{
    struct pair pair = make_pair(8);
    struct sf_process *peer = start_peer(close_receive_and_stay, pair.channel);

    fill_up(pair.channel);
    CHECK_EQUAL(send_until(pair.channel, 0, "12345678", 8, SF_FOREVER), -EPIPE);
    CHECK_EQUAL(send_until(pair.channel, 0, "12345678", 8, SF_NOW), -ENOBUFS);
    CHECK_EQUAL(sf_channel_close_receive(pair.channel), 0);
    kill_peer(peer);
    free_pair(pair);
}

static void receive_nothing_at_all(void *subject)
{
    struct pair *pair = subject;

    CHECK_EQUAL(receive_until(pair->channel, pair->message, SF_FOREVER), -EPIPE);
}

static void a_closed_end_is_inherited_as_closed(void)
{
    struct pair pair = make_pair(KIB);

    sf_channel_close_send(pair.channel);
    CHECK_EQUAL(end_peer(start_peer(receive_nothing_at_all, &pair)), 0);
    free_pair(pair);
}

static void one_alone_waits_for_itself_only_when_told_so(void)
{
    struct pair pair = make_pair(KIB);

    CHECK_EQUAL(receive_until(pair.channel, pair.message, in_ms(5)), -EAGAIN);
    end_peer(start_peer(leave_at_once, NULL));
    CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
    CHECK_EQUAL(receive_now(pair), -EPIPE);
    sf_channel_count_self(pair.channel, 1);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, in_ms(5)), -EAGAIN);
    sf_channel_count_self(pair.channel, 0);
    CHECK_EQUAL(receive_now(pair), -EPIPE);
    free_pair(pair);
}

/* ---------------------------------------------------------------------- deaths */

static void stream_for_ever(void *subject)
{
    struct stream *stream = subject;

    CHECK_EQUAL(send_marked(stream->pair.channel, 1, 0, stream->size, SF_FOREVER), 0);
    stay_forever(NULL);
}

/* A sender that stands in the middle of a message nobody receives. */
static struct sf_process *start_half_a_stream(struct stream *stream)
{
    struct sf_process *sender = start_peer(stream_for_ever, stream);

    WAIT_UNTIL(sf_channel_used(stream->pair.channel) > 4 * KIB &&
               state_of(sf_process_pid(sender)) == 'S');
    return sender;
}

static void a_message_whose_sender_died_is_not_delivered(void)
{
    struct stream stream = {make_pair(8 * KIB), MIB, 1, 1};
    struct sf_process *sender = start_half_a_stream(&stream);

    CHECK_EQUAL(receive_now(stream.pair), -EAGAIN);
    kill_peer(sender);
    CHECK_EQUAL(receive_until(stream.pair.channel, stream.pair.message, SF_FOREVER), -EPIPE);
    CHECK_EQUAL(send_marked(stream.pair.channel, 1, 5, 8 * KIB, SF_NOW), 0);
    CHECK(receive_marked(stream.pair.channel, stream.pair.message, 1, 5, 8 * KIB));
    free_pair(stream.pair);
}

static void receive_one_small(void *subject)
{
    struct stream *stream = subject;

    receive_marked(stream->pair.channel, stream->pair.message, 1, 5, 100);
}

/* Holding half of it, this process would keep every other receiver away. */
static void a_receiver_lets_go_of_a_message_whose_sender_died(void)
{
    struct stream stream = {make_pair(8 * KIB), MIB, 1, 1};
    struct sf_process *sender = start_half_a_stream(&stream);

    CHECK_EQUAL(receive_now(stream.pair), -EAGAIN);
    kill_peer(sender);
    WAIT_UNTIL(receive_now(stream.pair) == -EPIPE);
    CHECK_EQUAL(stream.pair.channel->incoming.active, false);
    CHECK_EQUAL(send_marked(stream.pair.channel, 1, 5, 100, SF_NOW), 0);
    CHECK_EQUAL(end_peer(start_peer(receive_one_small, &stream)), 0);
    free_pair(stream.pair);
}

static void take_half_and_stay(void *subject)
{
    struct stream *stream = subject;

    while (receive_now(stream->pair) == -EAGAIN)
        if (stream->pair.channel->incoming.active)
            stay_forever(NULL);
}

static void a_message_whose_receiver_died_is_skipped(void)
{
    struct stream stream = {make_pair(8 * KIB), 100 * KIB, 2, 1};
    struct sf_process *sender = start_peer(send_messages, &stream), *receiver;

    WAIT_UNTIL(sf_channel_used(stream.pair.channel) > 4 * KIB);
    stop_peer(sender); /* so that half of it is all there is to take */
    receiver = start_peer(take_half_and_stay, &stream);
    WAIT_UNTIL(stream.pair.channel->region->receiving.stream != 0);
    sf_process_kill(sender, SIGCONT);
    CHECK_EQUAL(receive_now(stream.pair), -EAGAIN);
    kill_peer(receiver);
    CHECK(receive_marked(stream.pair.channel, stream.pair.message, 1, 1, 100 * KIB));
    CHECK_EQUAL(end_peer(sender), 0);
    free_pair(stream.pair);
}

static void receive_for_ever(void *subject)
{
    struct pair *pair = subject;

    for (;;)
        receive_until(pair->channel, pair->message, SF_FOREVER);
}

static void a_sender_learns_that_the_last_receiver_died(void)
{
    struct pair pair = make_pair(8);
    struct sf_process *peer = start_peer(stay_forever, NULL);

    fill_up(pair.channel);
    sf_process_kill(peer, SIGKILL);
    CHECK_EQUAL(send_until(pair.channel, 0, "12345678", 8, SF_FOREVER), -EPIPE);
    CHECK_EQUAL(end_peer(peer), -SIGKILL);
    free_pair(pair);
}

static void what_was_meant_for_a_dead_receiver_reaches_a_living_one(void)
{
    struct pair pair = make_pair(64 * KIB);
    struct sf_process *peer = start_peer(receive_for_ever, &pair);
    int64_t began_ms;

    WAIT_UNTIL(state_of(sf_process_pid(peer)) == 'S');
    stop_peer(peer);
    CHECK_EQUAL(send_marked(pair.channel, 1, 1, 100, SF_NOW), 0);
    kill_peer(peer);
    began_ms = check_now_ms();
    CHECK(receive_marked(pair.channel, pair.message, 1, 1, 100));
    CHECK(check_now_ms() - began_ms < 1000);
    free_pair(pair);
}

static void the_death_of_one_of_many_is_told_at_once(void)
{
    struct pair pair = make_pair(KIB);
    struct sf_process *first = start_peer(stay_forever, NULL);
    struct sf_process *second = start_peer(stay_forever, NULL);
    int64_t began_ns;

    sf_process_kill(first, SIGKILL);
    CHECK_EQUAL(sf_channel_receive(pair.channel, pair.message, SF_FOREVER), -EINTR);
    CHECK_EQUAL(end_peer(first), -SIGKILL);
    began_ns = sf_clock_now_ns();
    CHECK_EQUAL(receive_until(pair.channel, pair.message, in_ms(10)), -EAGAIN);
    CHECK(sf_clock_now_ns() - began_ns >= 10 * MS);
    kill_peer(second);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
    free_pair(pair);
}

static void a_stopped_sender_is_waited_for(void)
{
    struct stream stream = {make_pair(8 * KIB), MIB, 1, 1};
    struct sf_process *sender = start_half_a_stream(&stream);

    stop_peer(sender);
    CHECK_EQUAL(receive_until(stream.pair.channel, stream.pair.message, in_ms(50)), -EAGAIN);
    sf_process_kill(sender, SIGCONT);
    CHECK(receive_marked(stream.pair.channel, stream.pair.message, 1, 0, MIB));
    kill_peer(sender);
    free_pair(stream.pair);
}

static void send_one_and_leave(void *subject)
{
    struct pair *pair = subject;

    CHECK_EQUAL(send_marked(pair->channel, 1, 1, 100, SF_NOW), 0);
}

static void what_a_process_sent_last_arrives_before_its_end(void)
{
    struct pair pair = make_pair(KIB);

    for (int i = 0; i < 100; i++) {
        struct sf_process *peer = start_peer(send_one_and_leave, &pair);

        CHECK(receive_marked(pair.channel, pair.message, 1, 1, 100));
        CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
        CHECK_EQUAL(end_peer(peer), 0);
    }
    free_pair(pair);
}

/* ---------------------------------------------------------- forks and bounds */

/* Nobody takes one for dead that is just being born. */
static void bare_forks_share_the_channel(void)
{
    struct pair pair = make_pair(KIB);

    for (int i = 0; i < 500; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            send_one_and_leave(&pair);
            _exit(0);
        }
        CHECK(receive_marked(pair.channel, pair.message, 1, 1, 100));
        CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
        waitpid(pid, NULL, 0);
    }
    free_pair(pair);
}

static void send_from_a_grandchild(void *subject)
{
    CHECK_EQUAL(end_peer(start_peer(send_one_and_leave, subject)), 0);
}

static bool dies_at_birth;

/* Registered before the library's own, so this comes first. */
static void die_at_birth(void)
{
    if (dies_at_birth)
        raise(SIGKILL);
}

/* Nobody but the kernel ever knew of such a child, and more die than there are places. */
static void bare_forks_that_die_before_they_are_born_are_seen_to_be_dead(void)
{
    for (int i = 0; i < SF_PROCESS_LIMIT + 100; i++) {
        struct pair pair = make_pair(KIB);
        pid_t pid;

        dies_at_birth = true;
        pid = fork();
        dies_at_birth = false;
        if (!CHECK_EQUAL(receive_until(pair.channel, pair.message, in_ms(5000)), -EPIPE))
            i = SF_PROCESS_LIMIT + 100;
        waitpid(pid, NULL, 0);
        free_pair(pair);
    }
    end_peer(start_peer(leave_at_once, NULL));
}

static void a_grandchild_shares_the_channel(void)
{
    struct pair pair = make_pair(KIB);
    struct sf_process *peer = start_peer(send_from_a_grandchild, &pair);

    CHECK(receive_marked(pair.channel, pair.message, 1, 1, 100));
    CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
    CHECK_EQUAL(end_peer(peer), 0);
    free_pair(pair);
}

static void the_parents_half_stream_is_not_the_childs(void)
{
    struct pair pair = make_pair(8 * KIB);
    unsigned char *data = make_filled((struct mark){1, 0, 100 * KIB});
    struct sf_process *peer = NULL;

    CHECK_EQUAL(sf_channel_send(pair.channel, 0, data, 100 * KIB, in_ms(5)), -EINTR);
    CHECK_EQUAL(sf_process_create(&peer), 0);
    if (sf_process_spawn(peer, NULL) == 0) {
        sf_channel_cancel(pair.channel);
        CHECK_EQUAL(sf_channel_send(pair.channel, 0, "a", 1, SF_NOW), -ENOBUFS);
        receive_marked(pair.channel, pair.message, 1, 0, 100 * KIB);
        _exit(check_state.failed_checks);
    }
    CHECK_EQUAL(send_until(pair.channel, 0, data, 100 * KIB, SF_FOREVER), 0);
    CHECK_EQUAL(end_peer(peer), 0);
    free(data);
    free_pair(pair);
}

static struct pair make_bound_pair(struct sf_process **process)
{
    struct pair pair = {NULL, make_message()};

    CHECK_EQUAL(sf_channel_create(KIB, SF_CHANNEL_BOUND, &pair.channel), 0);
    CHECK_EQUAL(sf_process_create(process), 0);
    CHECK_EQUAL(sf_channel_bind_sender(pair.channel, *process), 0);
    return pair;
}

static void the_death_of_a_bound_sender_is_told_though_others_live(void)
{
    struct sf_process *other = start_peer(stay_forever, NULL), *bound = NULL;
    struct pair pair = make_bound_pair(&bound);

    if (sf_process_spawn(bound, NULL) == 0) {
        send_one_and_leave(&pair);
        _exit(check_state.failed_checks);
    }
    CHECK(receive_marked(pair.channel, pair.message, 1, 1, 100));
    CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
    CHECK_EQUAL(end_peer(bound), 0);
    kill_peer(other);
    free_pair(pair);
}

static void a_bound_sender_that_is_not_spawned_yet_is_waited_for(void)
{
    struct sf_process *bound = NULL;
    struct pair pair = make_bound_pair(&bound);

    CHECK_EQUAL(receive_now(pair), -EAGAIN);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, in_ms(5)), -EAGAIN);
    if (sf_process_spawn(bound, NULL) == 0)
        stay_forever(NULL);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, in_ms(5)), -EAGAIN);
    kill_peer(bound);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
    free_pair(pair);
}

/* A fork without at-fork handlers, in one of which a child joins the family: this
 * one never does, and comes to its end by a timer. */
static pid_t fork_and_die_unborn(void)
{
    struct itimerval soon = {.it_value = {.tv_usec = 20000}};
    sigset_t everything;
    pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);

    if (pid != 0)
        return pid;
    signal(SIGALRM, SIG_DFL);
    sigfillset(&everything);
    sigprocmask(SIG_UNBLOCK, &everything, NULL);
    setitimer(ITIMER_REAL, &soon, NULL);
    for (;;)
        pause();
}

/* How long a receiver waits for a sender that dies before it is born. */
static int64_t unborn_sender_ms(void)
{
    struct sf_process *bound = NULL;
    struct pair pair = make_bound_pair(&bound);
    int64_t began_ms = check_now_ms(), took_ms;

    CHECK(sf_process_spawn(bound, fork_and_die_unborn) > 0);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
    took_ms = check_now_ms() - began_ms;
    CHECK_EQUAL(end_peer(bound), -SIGALRM);
    free_pair(pair);
    return took_ms;
}

/* Nothing wakes anybody then; a machine may be busy once, but not five times. */
static void the_death_of_an_unborn_sender_is_seen_before_the_slice_is_over(void)
{
    int64_t least_ms = unborn_sender_ms();

    for (int i = 0; i < 4; i++) {
        int64_t took_ms = unborn_sender_ms();

        least_ms = took_ms < least_ms ? took_ms : least_ms;
    }
    CHECK(least_ms < PARK_SLICE_NS / 1000000);
}

static void an_unbound_channel_that_nobody_shares_is_waited_for(void)
{
    struct pair pair = {NULL, make_message()};

    CHECK_EQUAL(sf_channel_create(KIB, SF_CHANNEL_BOUND, &pair.channel), 0);
    CHECK_EQUAL(receive_now(pair), -EAGAIN);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, in_ms(5)), -EAGAIN);
    free_pair(pair);
}

/* ---------------------------------------------------------------------- memory */

static void memory_is_given_back_after_a_burst(void)
{
    struct pair pair = make_pair(64 * MIB);
    size_t burst = 40 * MIB;

    for (uint32_t i = 0; i < 40; i++)
        CHECK_EQUAL(send_marked(pair.channel, 1, i, MIB, SF_NOW), 0);
    CHECK(sf_channel_committed(pair.channel) >= burst);
    for (uint32_t i = 0; i < 40; i++)
        receive_marked(pair.channel, pair.message, 1, i, MIB);
    CHECK(sf_channel_committed(pair.channel) <= 9 * MIB);
    WAIT_UNTIL(sf_channel_receive(pair.channel, pair.message, in_ms(1)) != 0 &&
               sf_channel_committed(pair.channel) <= 64 * KIB);
    free_pair(pair);
}

/* Memory of the channel's mapping that is there, in bytes. */
static size_t resident_size(struct sf_channel *channel)
{
    size_t page_count = channel->mapped_size / 4096, count = 0;
    unsigned char *in_memory = calloc(1, page_count);

    CHECK_EQUAL(mincore(channel->region, channel->mapped_size, in_memory), 0);
    for (size_t i = 0; i < page_count; i++)
        count += in_memory[i] & 1;
    free(in_memory);
    return count * 4096;
}

static void an_idle_channel_occupies_little(void)
{
    struct pair pair = make_pair(64 * MIB);

    for (uint32_t i = 0; i < 30; i++) {
        send_marked(pair.channel, 1, i, MIB, SF_NOW);
        receive_marked(pair.channel, pair.message, 1, i, MIB);
    }
    CHECK_EQUAL(receive_until(pair.channel, pair.message, in_ms(1)), -EAGAIN);
    CHECK(resident_size(pair.channel) <= 128 * KIB);
    free_pair(pair);
}

static void traffic_needs_no_more_memory_than_what_waits(void)
{
    struct pair pair = make_pair(64 * MIB);

    for (uint32_t i = 0; i < 2000; i++) {
        send_marked(pair.channel, 1, i, 50000, SF_NOW);
        receive_marked(pair.channel, pair.message, 1, i, 50000);
    }
    CHECK(resident_size(pair.channel) <= 512 * KIB);
    free_pair(pair);
}

/* Runs in a child, which alone feels its limits. */
static void limit(int resource, rlim_t soft)
{
    struct rlimit limits;

    getrlimit((__rlimit_resource_t)resource, &limits);
    limits.rlim_cur = soft;
    CHECK_EQUAL(setrlimit((__rlimit_resource_t)resource, &limits), 0);
}

static void create_in_little_address_space(void *unused)
{
    struct sf_channel *channel = NULL;

    (void)unused;
    limit(RLIMIT_AS, 600 * MIB);
    CHECK_EQUAL(sf_channel_create((size_t)2 << 30, 0, &channel), -ENOMEM);
    CHECK_EQUAL(sf_channel_create((size_t)2 << 30, SF_CHANNEL_SHRINK, &channel), 0);
    CHECK(sf_channel_capacity(channel) >= SF_CHANNEL_SMALLEST);
    CHECK(sf_channel_capacity(channel) <= 600 * MIB);
    CHECK_EQUAL(send_marked(channel, 1, 1, MIB, SF_NOW), 0);
    sf_channel_destroy(channel);
    channel = NULL;
    limit(RLIMIT_AS, 0);
    CHECK_EQUAL(sf_channel_create((size_t)2 << 30, SF_CHANNEL_SHRINK, &channel), -ENOMEM);
    CHECK(channel == NULL);
}

static void a_channel_shrinks_into_the_address_space_there_is(void)
{
    /* A sanitizer's own memory is beyond any such limit. */
    if (!UNDER_SANITIZER)
        CHECK_EQUAL(end_peer(start_peer(create_in_little_address_space, NULL)), 0);
}

static void receive_without_memory(void *subject)
{
    struct pair *pair = subject;

    limit(RLIMIT_AS, 0);
    CHECK_EQUAL(receive_now(*pair), -ENOMEM);
    limit(RLIMIT_AS, RLIM_INFINITY);
    CHECK(receive_marked(pair->channel, pair->message, 1, 1, 20 * MIB));
}

static void a_message_there_is_no_memory_for_stays(void)
{
    struct pair pair = make_pair(32 * MIB);

    CHECK_EQUAL(send_marked(pair.channel, 1, 1, 20 * MIB, SF_NOW), 0);
    if (!UNDER_SANITIZER)
        CHECK_EQUAL(end_peer(start_peer(receive_without_memory, &pair)), 0);
    free_pair(pair);
}

static void use_under_limit(void *limits)
{
    const rlim_t *soft = limits;
    struct pair pair;

    limit(RLIMIT_FSIZE, soft[0]);
    limit(RLIMIT_NOFILE, soft[1]);
    pair = make_pair(64 * MIB);
    CHECK_EQUAL(send_marked(pair.channel, 1, 1, 10 * MIB, SF_NOW), 0);
    CHECK(receive_marked(pair.channel, pair.message, 1, 1, 10 * MIB));
    free_pair(pair);
}

static void neither_file_size_nor_descriptors_are_needed(void)
{
    rlim_t small_files[] = {0, 64}, no_files[] = {RLIM_INFINITY, 0};

    if (!UNDER_COVERAGE) /* which is written to files when a process leaves */
        CHECK_EQUAL(end_peer(start_peer(use_under_limit, small_files)), 0);
    CHECK_EQUAL(end_peer(start_peer(use_under_limit, no_files)), 0);
}

/* --------------------------------------------------------------------- release */

/* Each is known to the handlers of fork until it goes. */
static void channels_go_in_any_order(void)
{
    static const int orders[][3] = {{0, 1, 2}, {2, 1, 0}, {1, 0, 2}, {1, 2, 0}};
    struct sf_channel *channels[3];

    for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
        for (int made = 0; made < 3; made++)
            channels[made] = make_channel(KIB);
        for (int gone = 0; gone < 3; gone++) {
            sf_channel_destroy(channels[orders[i][gone]]);
            CHECK_EQUAL(end_peer(start_peer(leave_at_once, NULL)), 0);
        }
    }
}

static void a_released_channel_does_nothing(void)
{
    struct pair pair = make_pair(KIB);

    send_marked(pair.channel, 1, 1, 100, SF_NOW);
    sf_channel_release(pair.channel);
    sf_channel_release(pair.channel);
    CHECK_EQUAL(sf_channel_send(pair.channel, 0, "a", 1, SF_NOW), -EBADF);
    CHECK_EQUAL(sf_channel_receive(pair.channel, pair.message, SF_NOW), -EBADF);
    CHECK_EQUAL(sf_channel_close(pair.channel), -EBADF);
    CHECK_EQUAL(sf_channel_close_send(pair.channel), -EBADF);
    CHECK_EQUAL(sf_channel_close_receive(pair.channel), -EBADF);
    CHECK_EQUAL(sf_channel_bind_sender(pair.channel, NULL), -EBADF);
    CHECK_EQUAL(sf_channel_used(pair.channel), 0);
    CHECK_EQUAL(sf_channel_committed(pair.channel), 0);
    sf_channel_cancel(pair.channel);
    sf_channel_count_self(pair.channel, 1);
    free_pair(pair);
    sf_channel_destroy(NULL);
}

static void a_released_channel_lives_on_in_others(void)
{
    struct pair pair = make_pair(KIB);
    struct sf_process *peer = NULL;

    CHECK_EQUAL(sf_process_create(&peer), 0);
    if (sf_process_spawn(peer, NULL) == 0) {
        CHECK(receive_marked(pair.channel, pair.message, 1, 1, 100));
        CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
        _exit(check_state.failed_checks);
    }
    send_marked(pair.channel, 1, 1, 100, SF_NOW);
    free_pair(pair);
    CHECK_EQUAL(end_peer(peer), 0);
}

struct leaver {
    struct pair pair;
    _Atomic int *progress;
};

static void release_while_half_sent(void *subject)
{
    struct leaver *leaver = subject;
    unsigned char *data = make_filled((struct mark){1, 0, 100 * KIB});

    CHECK_EQUAL(sf_channel_send(leaver->pair.channel, 0, data, 100 * KIB, in_ms(5)), -EINTR);
    sf_channel_release(leaver->pair.channel);
    atomic_store(leaver->progress, 1);
    stay_forever(NULL);
}

static void who_releases_gives_up_what_it_has_half_sent(void)
{
    struct leaver leaver = {make_pair(8 * KIB), make_progress()};
    struct pair pair = leaver.pair;
    struct sf_process *peer = start_peer(release_while_half_sent, &leaver);

    WAIT_UNTIL(atomic_load(leaver.progress) == 1);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, SF_FOREVER), -EPIPE);
    CHECK_EQUAL(send_marked(pair.channel, 1, 1, 100, SF_NOW), 0);
    CHECK(receive_marked(pair.channel, pair.message, 1, 1, 100));
    kill_peer(peer);
    free_progress(leaver.progress);
    free_pair(pair);
}

static void who_closes_its_receiving_end_drops_what_it_has_half_received(void)
{
    struct stream stream = {make_pair(8 * KIB), MIB, 1, 1};
    struct sf_process *sender = start_half_a_stream(&stream);

    CHECK_EQUAL(receive_now(stream.pair), -EAGAIN);
    CHECK(stream.pair.channel->incoming.active);
    CHECK_EQUAL(sf_channel_close_receive(stream.pair.channel), 0);
    CHECK(!stream.pair.channel->incoming.active);
    CHECK_EQUAL(stream.pair.channel->region->receiving.stream, 0);
    kill_peer(sender);
    free_pair(stream.pair);
}

/* ---------------------------------------------------------------------- damage */

static void damage_and_use(uint64_t random)
{
    struct pair pair = make_pair(256 * KIB);
    uint64_t offset;
    int64_t result;

    for (uint32_t i = 0; i < 8; i++)
        send_marked(pair.channel, 1, i, i == 3 ? 140000 : noise(random + i) % 5000, SF_NOW);
    for (int i = 0; i < 64; i++) {
        random = noise(random);
        offset = random % 2 ? random / 2 % 8192 : random / 2 % (256 * KIB);
        pair.channel->ring.data[offset] = (unsigned char)(random >> 48);
    }
    for (int i = 0; i < 64; i++) {
        result = receive_until(pair.channel, pair.message, SF_NOW);
        if (result < 0)
            break;
    }
    CHECK(result == -EBADMSG || result == -EAGAIN || result == -ENOMEM || result >= 0);
    free_pair(pair);
}

static void damaged_messages_are_an_error_and_no_more(void)
{
    for (uint64_t run = 0; run < 200; run++)
        damage_and_use(noise(run));
}

static void positions_that_cannot_be_are_an_error(void)
{
    struct pair pair = make_pair(256 * KIB);

    send_marked(pair.channel, 1, 1, 100, SF_NOW);
    atomic_store(&pair.channel->region->receiving.ring.head, 1 << 20);
    CHECK_EQUAL(receive_until(pair.channel, pair.message, in_ms(200)), -EBADMSG);
    free_pair(pair);
}

int main(void)
{
    pthread_atfork(NULL, NULL, die_at_birth);
    check_begin(120);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(every_size_arrives_as_it_was_sent);
    RUN(messages_arrive_in_order);
    RUN(every_tag_arrives);
    RUN(parts_arrive_as_one_message);
    RUN(a_channel_needs_a_capacity_that_can_be_had);
    RUN(the_largest_capacity_works);
    RUN(the_smallest_capacities_work);
    RUN(a_message_of_exactly_the_capacity_fits_wherever_the_channel_stands);
    RUN(a_full_channel_keeps_its_first_message);
    RUN(what_waits_is_counted);
    RUN(a_message_that_can_never_fit_is_refused_when_there_is_no_time);
    RUN(a_stream_without_a_receiver_is_given_up_at_the_deadline);
    RUN(messages_larger_than_the_channel_stream_through);
    RUN(cancel_gives_the_channel_to_others);
    RUN(another_message_of_the_same_thread_comes_before_one_half_sent);
    RUN(others_wait_for_the_end_of_a_stream);
    RUN(long_calls_come_back_between);
    RUN(senders_and_receivers_lose_nothing_and_keep_each_order);
    RUN(ten_thousand_hops_lose_no_wake_up);
    RUN(an_empty_channel_has_no_message_in_time);
    RUN(a_signal_ends_waiting_on_either_side);
    RUN(a_storm_of_signals_does_no_harm);
    RUN(after_a_close_the_rest_can_be_received);
    RUN(a_close_wakes_a_waiting_receiver);
    RUN(a_close_wakes_a_waiting_sender);
    RUN(a_stream_under_way_survives_a_close);
    RUN(a_closed_sending_end_sends_no_more);
    RUN(receivers_learn_that_the_last_sender_closed_its_end);
    RUN(senders_learn_that_the_last_receiver_closed_its_end);
    RUN(a_closed_end_is_inherited_as_closed);
    RUN(one_alone_waits_for_itself_only_when_told_so);
    RUN(a_message_whose_sender_died_is_not_delivered);
    RUN(a_receiver_lets_go_of_a_message_whose_sender_died);
    RUN(a_message_whose_receiver_died_is_skipped);
    RUN(a_sender_learns_that_the_last_receiver_died);
    RUN(what_was_meant_for_a_dead_receiver_reaches_a_living_one);
    RUN(the_death_of_one_of_many_is_told_at_once);
    RUN(a_stopped_sender_is_waited_for);
    RUN(what_a_process_sent_last_arrives_before_its_end);
    RUN(bare_forks_share_the_channel);
    RUN(bare_forks_that_die_before_they_are_born_are_seen_to_be_dead);
    RUN(a_grandchild_shares_the_channel);
    RUN(the_parents_half_stream_is_not_the_childs);
    RUN(the_death_of_a_bound_sender_is_told_though_others_live);
    RUN(a_bound_sender_that_is_not_spawned_yet_is_waited_for);
    RUN(the_death_of_an_unborn_sender_is_seen_before_the_slice_is_over);
    RUN(an_unbound_channel_that_nobody_shares_is_waited_for);
    RUN(memory_is_given_back_after_a_burst);
    RUN(an_idle_channel_occupies_little);
    RUN(traffic_needs_no_more_memory_than_what_waits);
    RUN(a_channel_shrinks_into_the_address_space_there_is);
    RUN(a_message_there_is_no_memory_for_stays);
    RUN(neither_file_size_nor_descriptors_are_needed);
    RUN(channels_go_in_any_order);
    RUN(a_released_channel_does_nothing);
    RUN(a_released_channel_lives_on_in_others);
    RUN(who_releases_gives_up_what_it_has_half_sent);
    RUN(who_closes_its_receiving_end_drops_what_it_has_half_received);
    RUN(damaged_messages_are_an_error_and_no_more);
    RUN(positions_that_cannot_be_are_an_error);
    return check_end();
}
