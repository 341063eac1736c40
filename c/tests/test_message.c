/* SPDX-License-Identifier: MIT */
/* Buffers to receive into: where they lie, what they keep, what they give back. */
#define _GNU_SOURCE
#include "message.h"
#include "peer.h"

/* Pages of a run that are in memory. */
static size_t resident_size(const void *memory, size_t size)
{
    size_t page_count = (size + 4095) / 4096, count = 0;
    unsigned char *in_memory = calloc(1, page_count);

    if (mincore((void *)(uintptr_t)memory, size, in_memory) != 0)
        page_count = 0;
    for (size_t i = 0; i < page_count; i++)
        count += in_memory[i] & 1;
    free(in_memory);
    return count * 4096;
}

static void a_fresh_buffer_has_room_for_a_small_message(void)
{
    struct sf_message *message = make_message();
    unsigned char *data = sf_message_data(message);

    CHECK(((uintptr_t)data & 63) == 0);
    memset(data, 1, SF_MESSAGE_INLINE);
    sf_message_destroy(message);
}

static void a_fresh_buffer_occupies_no_memory_yet(void)
{
    struct sf_message *message = make_message();

    CHECK_EQUAL(resident_size(sf_message_data(message), SF_MESSAGE_INLINE), 0);
    sf_message_destroy(message);
}

static void small_messages_lie_where_they_always_lie(void)
{
    struct sf_channel *channel = make_channel(2 * MIB);
    struct sf_message *message = make_message();
    void *place = sf_message_data(message);

    send_marked(channel, 1, 1, 100, SF_NOW);
    send_marked(channel, 1, 2, MIB, SF_NOW);
    send_marked(channel, 1, 3, SF_MESSAGE_INLINE, SF_NOW);
    CHECK(receive_marked(channel, message, 1, 1, 100));
    CHECK(sf_message_data(message) == place);
    CHECK(receive_marked(channel, message, 1, 2, MIB));
    CHECK(sf_message_data(message) != place);
    CHECK(((uintptr_t)sf_message_data(message) & 63) == 0);
    CHECK(receive_marked(channel, message, 1, 3, SF_MESSAGE_INLINE));
    CHECK(sf_message_data(message) == place);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void a_cleared_buffer_is_a_fresh_one(void)
{
    struct sf_channel *channel = make_channel(2 * MIB);
    struct sf_message *message = make_message();
    void *place = sf_message_data(message);

    send_marked(channel, 1, 1, MIB, SF_NOW);
    receive_marked(channel, message, 1, 1, MIB);
    sf_message_clear(message);
    CHECK(sf_message_data(message) == place);
    sf_message_clear(message);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void receive_large(struct sf_message *message, size_t size)
{
    struct sf_channel *channel = make_channel(size);

    send_marked(channel, 1, 1, size, SF_NOW);
    receive_marked(channel, message, 1, 1, size);
    sf_channel_destroy(channel);
}

static void moderate_memory_is_used_again(void)
{
    struct sf_message *message = make_message();
    void *place;

    receive_large(message, 4 * MIB);
    place = sf_message_data(message);
    sf_message_clear(message);
    CHECK_EQUAL(message->large.size, 4 * MIB);
    receive_large(message, 3 * MIB);
    CHECK(sf_message_data(message) == place);
    sf_message_destroy(message);
}

static void excessive_memory_goes_back(void)
{
    struct sf_message *message = make_message();

    receive_large(message, 9 * MIB);
    CHECK(message->large.size >= 9 * MIB);
    sf_message_clear(message);
    CHECK_EQUAL(message->large.size, 0);
    sf_message_destroy(message);
}

static void a_buffer_without_memory_is_refused(void)
{
    struct rlimit before, none = {0, 0};
    struct sf_message *message = NULL;

    /* A sanitizer's own memory is beyond any such limit. */
    if (UNDER_SANITIZER)
        return;
    getrlimit(RLIMIT_AS, &before);
    none.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_AS, &none);
    CHECK_EQUAL(sf_message_create(&message), -ENOMEM);
    CHECK(message == NULL);
    setrlimit(RLIMIT_AS, &before);
}

static void a_large_message_asks_for_memory(void)
{
    struct sf_channel *channel = make_channel(2 * MIB);
    struct sf_message *message = make_message();

    sf_message_ask(message, 1);
    send_marked(channel, 1, 1, SF_MESSAGE_INLINE, SF_NOW);
    send_marked(channel, 1, 2, MIB, SF_NOW);
    CHECK(receive_marked(channel, message, 1, 1, SF_MESSAGE_INLINE));
    for (int turn = 0; turn < 2; turn++) {
        CHECK_EQUAL(sf_channel_receive(channel, message, SF_NOW), -EFBIG);
        CHECK_EQUAL(sf_message_result(message), result_of(MIB, 2));
        CHECK_EQUAL(sf_message_count(message), 1);
    }
    sf_message_lend(message, NULL, MIB);
    CHECK(receive_marked(channel, message, 1, 2, MIB));
    CHECK_EQUAL(message->large.size, MIB);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void memory_that_was_lent_is_used_once(void)
{
    struct sf_channel *channel = make_channel(4 * MIB);
    struct sf_message *message = make_message();
    void *lent = malloc(MIB);

    sf_message_ask(message, 1);
    for (uint32_t number = 1; number <= 2; number++) {
        send_marked(channel, 1, number, MIB, SF_NOW);
        CHECK_EQUAL(sf_channel_receive(channel, message, SF_NOW), -EFBIG);
        sf_message_lend(message, lent, MIB);
        CHECK(receive_marked(channel, message, 1, number, MIB));
        CHECK(sf_message_data(message) == lent);
    }
    free(lent); /* it is nobody else's, whatever becomes of the buffer */
    sf_message_clear(message);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void memory_for_another_size_is_not_touched(void)
{
    struct sf_channel *channel = make_channel(2 * MIB);
    struct sf_message *message = make_message();
    char lent[1] = {7};

    sf_message_ask(message, 1);
    send_marked(channel, 1, 1, MIB, SF_NOW);
    sf_message_lend(message, lent, MIB - 1);
    CHECK_EQUAL(sf_channel_receive(channel, message, SF_NOW), -EFBIG);
    CHECK_EQUAL(lent[0], 7);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void send_a_mebibyte(void *channel)
{
    send_marked(channel, 1, 1, MIB, SF_FOREVER);
}

static void what_was_begun_in_lent_memory_ends_there(void)
{
    struct sf_channel *channel = make_channel(64 * KIB);
    struct sf_message *message = make_message(), *other = make_message();
    unsigned char *lent = malloc(MIB);
    struct sf_process *sender = start_peer(send_a_mebibyte, channel);

    sf_message_ask(message, 1);
    CHECK_EQUAL(receive_until(channel, message, SF_FOREVER), -EFBIG);
    sf_message_lend(message, lent, MIB);
    CHECK_EQUAL(sf_channel_receive(channel, message, SF_NOW), -EAGAIN);
    CHECK_EQUAL(receive_until(channel, other, SF_FOREVER), result_of(MIB, 1));
    CHECK(sf_message_data(other) == lent);
    end_peer(sender);
    sf_message_destroy(message);
    sf_message_destroy(other);
    sf_channel_destroy(channel);
    free(lent);
}

static void lent_memory_is_left_when_the_sender_dies(void)
{
    struct sf_channel *channel = make_channel(64 * KIB);
    struct sf_message *message = make_message();
    unsigned char *lent = malloc(MIB);
    struct sf_process *sender = start_peer(send_a_mebibyte, channel);

    sf_message_ask(message, 1);
    CHECK_EQUAL(receive_until(channel, message, SF_FOREVER), -EFBIG);
    sf_message_lend(message, lent, MIB);
    stop_peer(sender); /* else it may get to its end */
    CHECK_EQUAL(sf_channel_receive(channel, message, SF_NOW), -EAGAIN);
    kill_peer(sender);
    CHECK_EQUAL(receive_until(channel, message, in_ms(5000)), -EPIPE);
    free(lent);
    send_marked(channel, 1, 2, 100, SF_NOW);
    CHECK(receive_marked(channel, message, 1, 2, 100));
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void the_message_after_a_dead_sender_s_asks_again(void)
{
    struct sf_channel *channel = make_channel(64 * KIB);
    struct sf_message *message = make_message();
    unsigned char *first = malloc(MIB), *second = malloc(MIB);
    struct sf_process *sender = start_peer(send_a_mebibyte, channel);

    sf_message_ask(message, 1);
    CHECK_EQUAL(receive_until(channel, message, SF_FOREVER), -EFBIG);
    sf_message_lend(message, first, MIB);
    stop_peer(sender);
    CHECK_EQUAL(sf_channel_receive(channel, message, SF_NOW), -EAGAIN);
    kill_peer(sender);
    sender = start_peer(send_a_mebibyte, channel);
    CHECK_EQUAL(receive_until(channel, message, SF_FOREVER), -EFBIG);
    free(first);
    sf_message_lend(message, second, MIB);
    CHECK_EQUAL(receive_until(channel, message, SF_FOREVER), result_of(MIB, 1));
    CHECK(sf_message_data(message) == second);
    end_peer(sender);
    sf_message_destroy(message);
    sf_channel_destroy(channel);
    free(second);
}

static void what_was_received_last_can_be_asked_for_again(void)
{
    struct sf_channel *channel = make_channel(64 * KIB);
    struct sf_message *message = make_message();

    CHECK_EQUAL(sf_message_count(message), 0);
    CHECK_EQUAL(send_marked(channel, 1, 7, 100, SF_NOW), 0);
    CHECK_EQUAL(sf_channel_receive(channel, message, SF_NOW), result_of(100, 7));
    CHECK_EQUAL(sf_channel_receive(channel, message, SF_NOW), -EAGAIN);
    CHECK_EQUAL(sf_message_count(message), 1);
    CHECK_EQUAL(sf_message_result(message), result_of(100, 7));
    sf_message_destroy(message);
    sf_channel_destroy(channel);
}

static void destroying_nothing_is_allowed(void)
{
    sf_message_destroy(NULL);
}

int main(void)
{
    check_begin(60);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(a_fresh_buffer_has_room_for_a_small_message);
    RUN(a_fresh_buffer_occupies_no_memory_yet);
    RUN(small_messages_lie_where_they_always_lie);
    RUN(a_cleared_buffer_is_a_fresh_one);
    RUN(moderate_memory_is_used_again);
    RUN(excessive_memory_goes_back);
    RUN(what_was_received_last_can_be_asked_for_again);
    RUN(a_large_message_asks_for_memory);
    RUN(memory_that_was_lent_is_used_once);
    RUN(memory_for_another_size_is_not_touched);
    RUN(what_was_begun_in_lent_memory_ends_there);
    RUN(lent_memory_is_left_when_the_sender_dies);
    RUN(the_message_after_a_dead_sender_s_asks_again);
    RUN(a_buffer_without_memory_is_refused);
    RUN(destroying_nothing_is_allowed);
    return check_end();
}
