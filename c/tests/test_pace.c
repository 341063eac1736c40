/* SPDX-License-Identifier: MIT */
/* A sender that asks is never further ahead than it said, and goes on as soon
 * as it may, whoever received and whatever became of them. */
#define _GNU_SOURCE
#include "peer.h"

#define RECEIVER_COUNT 3
#define VALUES_EACH 5000

static struct sf_channel *make_bound(void)
{
    struct sf_channel *channel = NULL;

    CHECK_EQUAL(sf_channel_create(4 * MIB, SF_CHANNEL_BOUND, &channel), 0);
    return channel;
}

static void send_numbers(struct sf_channel *channel, int64_t count)
{
    for (int64_t n = 0; n < count; n++)
        CHECK_EQUAL(sf_channel_send(channel, 0, &n, sizeof n, SF_NOW), 0);
}

static void take(struct sf_channel *channel, int count)
{
    struct sf_message *message = NULL;
    int64_t result;

    CHECK_EQUAL(sf_message_create(&message), 0);
    while (count > 0) {
        result = sf_channel_receive(channel, message, in_ms(20000));
        CHECK(result == 8 << 8 || result == -EINTR);
        count -= result != -EINTR;
    }
    sf_message_destroy(message);
}

/* Send as many as may be sent now. Returns how many those were. */
static int64_t send_what_may_be(struct sf_channel *channel, uint32_t ahead)
{
    int64_t sent = 0;
    int64_t allowed;

    while ((allowed = sf_channel_pace(channel, ahead, SF_NOW)) > 0) {
        send_numbers(channel, allowed);
        sent += allowed;
    }
    CHECK_EQUAL(allowed, -ENOBUFS);
    return sent;
}

static void as_many_wait_as_may(void)
{
    const uint32_t aheads[] = {1, 2, 3, 7, 8, 9, 15, 64, 100, 1001};

    for (size_t i = 0; i < sizeof aheads / sizeof *aheads; i++) {
        struct sf_channel *channel = make_bound();

        CHECK_EQUAL(send_what_may_be(channel, aheads[i]), aheads[i]);
        sf_channel_destroy(channel);
    }
}

static void one_received_is_one_sent(void)
{
    struct sf_channel *channel = make_bound();

    CHECK_EQUAL(send_what_may_be(channel, 5), 5);
    for (int i = 0; i < 20; i++) {
        take(channel, 1);
        CHECK_EQUAL(send_what_may_be(channel, 5), 1);
    }
    sf_channel_destroy(channel);
}

static void however_they_are_received_no_more_wait(void)
{
    struct sf_channel *channel = make_bound();
    int64_t waiting = 0;

    srand(1);
    for (int i = 0; i < 2000; i++) {
        int taken;

        waiting += send_what_may_be(channel, 61);
        CHECK(waiting <= 61);
        CHECK(waiting > 61 - 8); /* a batch counts until all of it was received */
        taken = rand() % (int)(waiting + 1);
        take(channel, taken);
        waiting -= taken;
    }
    sf_channel_destroy(channel);
}

static void after_the_closing_nothing_may_be_sent(void)
{
    struct sf_channel *channel = make_bound();

    CHECK_EQUAL(sf_channel_close(channel), 0);
    CHECK_EQUAL(sf_channel_pace(channel, 3, SF_FOREVER), -ESHUTDOWN);
    sf_channel_release(channel);
    CHECK_EQUAL(sf_channel_pace(channel, 3, SF_FOREVER), -EBADF);
    sf_channel_destroy(channel);
}

static void a_sender_needs_something_to_be_ahead_by(void)
{
    struct sf_channel *channel = make_bound();

    CHECK_EQUAL(sf_channel_pace(channel, 0, SF_NOW), -EINVAL);
    sf_channel_destroy(channel);
}

/* ------------------------------------------------------------- other processes */

static int64_t wait_to_send(struct sf_channel *channel, uint32_t ahead)
{
    int64_t allowed;

    do
        allowed = sf_channel_pace(channel, ahead, in_ms(20000));
    while (allowed == -EINTR);
    return allowed;
}

static void take_some(void *channel)
{
    take(channel, VALUES_EACH);
}

/* A wake-up that is lost costs 100 ms: there is time for a few hundred of them. */
static void no_wake_is_lost(void)
{
    const uint32_t aheads[] = {1, 3, 20};

    for (size_t i = 0; i < sizeof aheads / sizeof *aheads; i++) {
        struct sf_channel *channel = make_bound();
        struct sf_process *receivers[RECEIVER_COUNT];

        for (int r = 0; r < RECEIVER_COUNT; r++)
            receivers[r] = start_peer(take_some, channel);
        for (int64_t left = (int64_t)RECEIVER_COUNT * VALUES_EACH, allowed; left > 0;
             left -= allowed) {
            allowed = wait_to_send(channel, aheads[i]);
            CHECK(allowed > 0);
            allowed = allowed < left ? allowed : left;
            send_numbers(channel, allowed);
            CHECK(sf_channel_used(channel) <= aheads[i] * (size_t)16);
        }
        for (int r = 0; r < RECEIVER_COUNT; r++)
            CHECK_EQUAL(end_peer(receivers[r]), 0);
        sf_channel_destroy(channel);
    }
}

static void take_one_and_die(void *channel)
{
    take(channel, 1);
    kill(getpid(), SIGKILL);
}

static void a_receiver_that_dies_with_its_message_took_it(void)
{
    struct sf_channel *channel = make_bound();

    CHECK_EQUAL(send_what_may_be(channel, 2), 2);
    for (int i = 0; i < 5; i++) {
        CHECK_EQUAL(end_peer(start_peer(take_one_and_die, channel)), -SIGKILL);
        CHECK_EQUAL(wait_to_send(channel, 2), 1);
        send_numbers(channel, 1);
    }
    sf_channel_destroy(channel);
}

static void *close_after_a_while(void *channel)
{
    while (sf_channel_used(channel) == 0)
        ;
    CHECK_EQUAL(sf_channel_close(channel), 0);
    return NULL;
}

static void a_sender_that_waits_learns_of_the_closing(void)
{
    struct sf_channel *channel = make_bound();
    pthread_t closer;

    pthread_create(&closer, NULL, close_after_a_while, channel);
    send_what_may_be(channel, 1);
    CHECK_EQUAL(wait_to_send(channel, 1), -ESHUTDOWN);
    pthread_join(closer, NULL);
    sf_channel_destroy(channel);
}

int main(void)
{
    check_begin(60);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(as_many_wait_as_may);
    RUN(one_received_is_one_sent);
    RUN(however_they_are_received_no_more_wait);
    RUN(after_the_closing_nothing_may_be_sent);
    RUN(a_sender_needs_something_to_be_ahead_by);
    RUN(no_wake_is_lost);
    RUN(a_receiver_that_dies_with_its_message_took_it);
    RUN(a_sender_that_waits_learns_of_the_closing);
    return check_end();
}
