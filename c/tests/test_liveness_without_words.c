/* SPDX-License-Identifier: MIT */
/* A C library whose mutexes keep their owner elsewhere than in their first word,
 * so that the words of the registry prove nothing and cannot be slept on. The
 * program is linked with --wrap=syscall, and tells the library another thread's
 * number than the one its mutexes hold. Deaths are then known from pidfds, by
 * looking again.
 */
#define _GNU_SOURCE
#include "liveness.h"
#include "peer.h"

#include <stdarg.h>

long __real_syscall(long, ...);
long __wrap_syscall(long, ...);

long __wrap_syscall(long number, ...)
{
    va_list arguments;
    long taken[6] = {0};

    if (number == SYS_gettid)
        return __real_syscall(number) ^ 1;
    va_start(arguments, number);
    for (int i = 0; i < (number == SYS_futex ? 6 : 5); i++)
        taken[i] = va_arg(arguments, long);
    va_end(arguments);
    return __real_syscall(number, taken[0], taken[1], taken[2], taken[3], taken[4], taken[5]);
}

static void nothing_can_be_watched(void)
{
    uint32_t value;

    CHECK(liveness_watch(liveness_self(), &value) == NULL);
}

static void a_death_is_known_all_the_same(void)
{
    struct sf_process *peer = start_peer(stay_forever, NULL);
    uint64_t member = liveness_member_of(peer);

    CHECK(!liveness_is_dead(member));
    CHECK_EQUAL(sf_process_kill(peer, SIGKILL), 0);
    WAIT_UNTIL(liveness_is_dead(member));
    CHECK_EQUAL(end_peer(peer), -SIGKILL);
}

struct pair {
    struct sf_channel *channel;
    struct sf_message *message;
};

static void send_and_leave(void *subject)
{
    struct pair *pair = subject;

    CHECK_EQUAL(send_marked(pair->channel, 1, 1, 300000, in_ms(20000)), 0);
}

static void a_channel_carries_messages_and_tells_the_end(void)
{
    struct pair pair = {make_channel(MIB), make_message()};
    struct sf_process *peer = start_peer(send_and_leave, &pair);

    CHECK(receive_marked(pair.channel, pair.message, 1, 1, 300000));
    CHECK_EQUAL(receive_until(pair.channel, pair.message, in_ms(20000)), -EPIPE);
    CHECK_EQUAL(end_peer(peer), 0);
    sf_message_destroy(pair.message);
    sf_channel_destroy(pair.channel);
}

int main(void)
{
    check_begin(60);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(nothing_can_be_watched);
    RUN(a_death_is_known_all_the_same);
    RUN(a_channel_carries_messages_and_tells_the_end);
    return check_end();
}
