/* SPDX-License-Identifier: MIT */
/* The clock: it goes forward, in every thread and along a message from one
 * process to another, and it can be told in nanoseconds. */
#define _GNU_SOURCE
#include "peer.h"

#include <sys/time.h>

#define HOP_COUNT 3000

static void ticks_never_go_backwards(void)
{
    uint64_t last = sf_clock_ticks();

    for (int i = 0; i < 100000; i++) {
        uint64_t now = sf_clock_ticks();

        if (now < last)
            CHECK(now >= last);
        last = now;
    }
}

static void serialized_ticks_never_go_backwards(void)
{
    uint64_t last = sf_clock_ticks_serialized();

    for (int i = 0; i < 100000; i++) {
        uint64_t now = sf_clock_ticks_serialized();

        if (now < last)
            CHECK(now >= last);
        last = now;
    }
}

static void both_readings_are_of_one_clock(void)
{
    uint64_t before = sf_clock_ticks_serialized();
    uint64_t between = sf_clock_ticks();
    uint64_t after = sf_clock_ticks_serialized();

    CHECK(before <= between && between <= after);
}

static void the_source_is_named(void)
{
    const char *source = sf_clock_source();

#if defined(__x86_64__)
    CHECK(strcmp(source, "tsc") == 0);
#elif defined(__aarch64__)
    CHECK(strcmp(source, "cntvct") == 0);
#else
    CHECK(strcmp(source, "monotonic") == 0);
#endif
}

static void now_is_the_monotonic_clock(void)
{
    struct timespec now;
    int64_t before_ns = sf_clock_now_ns(), between_ns;

    clock_gettime(CLOCK_MONOTONIC, &now);
    between_ns = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    CHECK(before_ns <= between_ns && between_ns <= sf_clock_now_ns());
}

static void a_calibration_tells_ticks_in_nanoseconds(void)
{
    double ns_per_tick = 0, measured;
    int64_t first_ns, last_ns;
    uint64_t first, last;

    CHECK_EQUAL(sf_clock_calibrate(20 * MS, &ns_per_tick), 0);
    first_ns = sf_clock_now_ns();
    first = sf_clock_ticks_serialized();
    while (sf_clock_now_ns() < first_ns + 20 * MS)
        ;
    last_ns = sf_clock_now_ns();
    last = sf_clock_ticks_serialized();
    measured = (double)(last - first) * ns_per_tick / (double)(last_ns - first_ns);
    CHECK(measured > 0.9 && measured < 1.1);
}

static void a_calibration_needs_a_duration(void)
{
    double ns_per_tick = 7;

    CHECK_EQUAL(sf_clock_calibrate(0, &ns_per_tick), -EINVAL);
    CHECK_EQUAL(sf_clock_calibrate(-1, &ns_per_tick), -EINVAL);
    CHECK_EQUAL(sf_clock_calibrate(INT64_MIN, &ns_per_tick), -EINVAL);
    CHECK(ns_per_tick == 7);
}

static void a_signal_ends_a_calibration(void)
{
    const struct itimerval soon = {.it_value = {.tv_usec = 5000}};
    struct sigaction handler = {.sa_handler = ignore_signal}, before;
    struct itimerval rest;
    double ns_per_tick = 7;

    /* The real timer is the watchdog's; it gets its rest back. */
    sigaction(SIGALRM, &handler, &before);
    setitimer(ITIMER_REAL, &soon, &rest);
    CHECK_EQUAL(sf_clock_calibrate(10000 * MS, &ns_per_tick), -EINTR);
    CHECK(ns_per_tick == 7);
    setitimer(ITIMER_REAL, &rest, NULL);
    sigaction(SIGALRM, &before, NULL);
}

/* ------------------------------------------------------------ along messages */

struct hops {
    struct sf_channel *there, *back;
};

static void answer_with_later_readings(void *subject)
{
    struct hops *hops = subject;
    struct sf_message *message = make_message();
    uint64_t received, now;

    for (int i = 0; i < HOP_COUNT; i++) {
        receive_until(hops->there, message, SF_FOREVER);
        memcpy(&received, sf_message_data(message), sizeof received);
        now = sf_clock_ticks();
        CHECK(now >= received);
        send_until(hops->back, 0, &now, sizeof now, SF_FOREVER);
    }
    sf_message_destroy(message);
}

static void ticks_never_go_backwards_along_a_message(void)
{
    struct hops hops = {make_channel(4 * KIB), make_channel(4 * KIB)};
    struct sf_process *peer = start_peer(answer_with_later_readings, &hops);
    struct sf_message *message = make_message();
    uint64_t received, now;

    for (int i = 0; i < HOP_COUNT; i++) {
        now = sf_clock_ticks();
        send_until(hops.there, 0, &now, sizeof now, SF_FOREVER);
        receive_until(hops.back, message, SF_FOREVER);
        memcpy(&received, sf_message_data(message), sizeof received);
        CHECK(received >= now && sf_clock_ticks() >= received);
    }
    CHECK_EQUAL(end_peer(peer), 0);
    sf_message_destroy(message);
    sf_channel_destroy(hops.there);
    sf_channel_destroy(hops.back);
}

int main(void)
{
    check_begin(60);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(ticks_never_go_backwards);
    RUN(serialized_ticks_never_go_backwards);
    RUN(both_readings_are_of_one_clock);
    RUN(the_source_is_named);
    RUN(now_is_the_monotonic_clock);
    RUN(a_calibration_tells_ticks_in_nanoseconds);
    RUN(a_calibration_needs_a_duration);
    RUN(a_signal_ends_a_calibration);
    RUN(ticks_never_go_backwards_along_a_message);
    return check_end();
}
