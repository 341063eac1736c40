/* SPDX-License-Identifier: MIT */
/* The counter hands out each number once, whoever asks, and knows which
 * numbers a taker holds, also a dead one. */
#define _GNU_SOURCE
#include "peer.h"

#define LIMIT 20000
#define TAKER_COUNT 4

static struct sf_counter *make_counter(uint64_t limit, uint32_t takers)
{
    struct sf_counter *counter = NULL;

    CHECK_EQUAL(sf_counter_create(limit, takers, &counter), 0);
    return counter;
}

static void numbers_are_handed_out_in_order(void)
{
    struct sf_counter *counter = make_counter(10, 2);

    CHECK_EQUAL(sf_counter_take(counter, 0, 1), 0);
    CHECK_EQUAL(sf_counter_take(counter, 1, 3), 1);
    CHECK_EQUAL(sf_counter_take(counter, 0, 2), 4);
    CHECK_EQUAL(sf_counter_taken(counter), 6);
    sf_counter_destroy(counter);
}

static void the_last_number_is_below_the_limit(void)
{
    struct sf_counter *counter = make_counter(10, 1);
    uint64_t first = 99;

    CHECK_EQUAL(sf_counter_take(counter, 0, 8), 0);
    CHECK_EQUAL(sf_counter_take(counter, 0, 8), 8);
    CHECK_EQUAL(sf_counter_held(counter, 0, &first), 2);
    CHECK_EQUAL(first, 8);
    CHECK_EQUAL(sf_counter_take(counter, 0, 1), -ENODATA);
    CHECK_EQUAL(sf_counter_taken(counter), 10);
    sf_counter_destroy(counter);
}

static void an_empty_counter_stays_empty(void)
{
    struct sf_counter *counter = make_counter(3, 1);

    CHECK_EQUAL(sf_counter_take(counter, 0, UINT64_MAX), 0);
    for (int i = 0; i < 1000; i++)
        CHECK_EQUAL(sf_counter_take(counter, 0, UINT64_MAX), -ENODATA);
    CHECK_EQUAL(sf_counter_taken(counter), 3);
    sf_counter_destroy(counter);
}

static void a_counter_of_nothing_has_no_number(void)
{
    struct sf_counter *counter = make_counter(0, 1);

    CHECK_EQUAL(sf_counter_take(counter, 0, 1), -ENODATA);
    CHECK_EQUAL(sf_counter_taken(counter), 0);
    sf_counter_destroy(counter);
}

static void a_new_take_hands_the_old_numbers_back(void)
{
    struct sf_counter *counter = make_counter(10, 1);
    uint64_t first = 99;

    CHECK_EQUAL(sf_counter_held(counter, 0, &first), 0);
    CHECK_EQUAL(first, 99);
    sf_counter_take(counter, 0, 4);
    CHECK_EQUAL(sf_counter_held(counter, 0, &first), 4);
    CHECK_EQUAL(first, 0);
    sf_counter_take(counter, 0, 4);
    CHECK_EQUAL(sf_counter_held(counter, 0, &first), 4);
    CHECK_EQUAL(first, 4);
    sf_counter_take(counter, 0, 4);
    sf_counter_take(counter, 0, 4);
    CHECK_EQUAL(sf_counter_held(counter, 0, &first), 0);
    sf_counter_destroy(counter);
}

static void a_stopped_counter_hands_out_nothing(void)
{
    struct sf_counter *counter = make_counter(10, 1);

    sf_counter_take(counter, 0, 4);
    sf_counter_stop(counter);
    CHECK_EQUAL(sf_counter_take(counter, 0, 1), -ENODATA);
    CHECK_EQUAL(sf_counter_taken(counter), 4);
    sf_counter_destroy(counter);
}

static void a_counter_needs_takers_and_a_limit_that_fits(void)
{
    struct sf_counter *counter = NULL;

    CHECK_EQUAL(sf_counter_create(10, 0, &counter), -EINVAL);
    CHECK_EQUAL(sf_counter_create(UINT64_MAX, 1, &counter), -EINVAL);
    CHECK(counter == NULL);
    sf_counter_destroy(NULL);
}

static void a_taker_that_does_not_exist_gets_nothing(void)
{
    struct sf_counter *counter = make_counter(10, 2);
    uint64_t first;

    CHECK_EQUAL(sf_counter_take(counter, 2, 1), -EINVAL);
    CHECK_EQUAL(sf_counter_take(counter, 0, 0), -EINVAL);
    CHECK_EQUAL(sf_counter_held(counter, 2, &first), -EINVAL);
    CHECK_EQUAL(sf_counter_taken(counter), 0);
    sf_counter_destroy(counter);
}

static void a_counter_without_memory_is_refused(void)
{
    struct rlimit before, none = {64 * MIB, RLIM_INFINITY};
    struct sf_counter *counter = NULL;

    /* A sanitizer's own memory is beyond any such limit. */
    if (UNDER_SANITIZER)
        return;
    getrlimit(RLIMIT_AS, &before);
    none.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_AS, &none);
    CHECK_EQUAL(sf_counter_create(10, UINT32_C(1) << 24, &counter), -ENOMEM);
    setrlimit(RLIMIT_AS, &before);
}

/* -------------------------------------------------------------- many takers */

struct takers {
    struct sf_counter *counter;
    _Atomic uint8_t *times; /* how often each number was handed out */
    _Atomic uint32_t next_taker;
};

static struct takers *make_takers(void)
{
    struct takers *takers = mmap(NULL, sizeof *takers + LIMIT, PROT_READ | PROT_WRITE,
                                 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    takers->counter = make_counter(LIMIT, TAKER_COUNT);
    takers->times = (_Atomic uint8_t *)(takers + 1);
    return takers;
}

static void check_each_was_taken_once(struct takers *takers)
{
    int wrong = 0;

    for (int i = 0; i < LIMIT; i++)
        wrong += takers->times[i] != 1;
    CHECK_EQUAL(wrong, 0);
    CHECK_EQUAL(sf_counter_taken(takers->counter), LIMIT);
    sf_counter_destroy(takers->counter);
    munmap(takers, sizeof *takers + LIMIT);
}

static void take_all(void *subject)
{
    struct takers *takers = subject;
    uint32_t taker = atomic_fetch_add(&takers->next_taker, 1);
    uint64_t first = 0;
    int64_t taken, count;

    while ((taken = sf_counter_take(takers->counter, taker, 1 + taker)) >= 0) {
        count = sf_counter_held(takers->counter, taker, &first);
        CHECK_EQUAL(first, taken);
        while (count-- > 0)
            atomic_fetch_add(&takers->times[taken++], 1);
    }
    CHECK_EQUAL(taken, -ENODATA);
}

static void *take_all_in_thread(void *subject)
{
    take_all(subject);
    return NULL;
}

static void threads_get_each_number_once(void)
{
    struct takers *takers = make_takers();
    pthread_t threads[TAKER_COUNT];

    for (int i = 0; i < TAKER_COUNT; i++)
        pthread_create(&threads[i], NULL, take_all_in_thread, takers);
    for (int i = 0; i < TAKER_COUNT; i++)
        pthread_join(threads[i], NULL);
    check_each_was_taken_once(takers);
}

static void processes_get_each_number_once(void)
{
    struct takers *takers = make_takers();
    struct sf_process *peers[TAKER_COUNT];

    for (int i = 0; i < TAKER_COUNT; i++)
        peers[i] = start_peer(take_all, takers);
    for (int i = 0; i < TAKER_COUNT; i++)
        CHECK_EQUAL(end_peer(peers[i]), 0);
    check_each_was_taken_once(takers);
}

static void take_and_stay(void *subject)
{
    sf_counter_take(subject, 1, 5);
    stay_forever(NULL);
}

static void what_a_dead_taker_holds_is_known(void)
{
    struct sf_counter *counter = make_counter(100, 2);
    struct sf_process *peer = start_peer(take_and_stay, counter);
    uint64_t first = 99;

    WAIT_UNTIL(sf_counter_held(counter, 1, &first) == 5);
    kill_peer(peer);
    CHECK_EQUAL(sf_counter_held(counter, 1, &first), 5);
    CHECK_EQUAL(first, 0);
    CHECK_EQUAL(sf_counter_take(counter, 0, 1), 5);
    sf_counter_destroy(counter);
}

int main(void)
{
    check_begin(60);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(numbers_are_handed_out_in_order);
    RUN(the_last_number_is_below_the_limit);
    RUN(an_empty_counter_stays_empty);
    RUN(a_counter_of_nothing_has_no_number);
    RUN(a_new_take_hands_the_old_numbers_back);
    RUN(a_stopped_counter_hands_out_nothing);
    RUN(a_counter_needs_takers_and_a_limit_that_fits);
    RUN(a_taker_that_does_not_exist_gets_nothing);
    RUN(a_counter_without_memory_is_refused);
    RUN(threads_get_each_number_once);
    RUN(processes_get_each_number_once);
    RUN(what_a_dead_taker_holds_is_known);
    return check_end();
}
