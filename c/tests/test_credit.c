/* SPDX-License-Identifier: MIT */
/* However many consumers count, the producer is never further ahead than it
 * may be, and is woken when it can go on. */
#define _GNU_SOURCE
#include "peer.h"

#define GIVER_COUNT 4
#define VALUES_EACH 20000

static struct sf_credit *make_credit(uint32_t ahead)
{
    struct sf_credit *credit = NULL;

    CHECK_EQUAL(sf_credit_create(ahead, &credit), 0);
    return credit;
}

static void there_is_credit_before_anything_is_taken(void)
{
    struct sf_credit *credit = make_credit(3);

    CHECK_EQUAL(sf_credit_left(credit, 0), 3);
    CHECK_EQUAL(sf_credit_left(credit, 1), 2);
    CHECK_EQUAL(sf_credit_left(credit, 3), 0);
    sf_credit_destroy(credit);
}

static void a_value_taken_gives_credit_for_another(void)
{
    struct sf_credit *credit = make_credit(2);

    CHECK_EQUAL(sf_credit_give(credit, 0), 0);
    CHECK_EQUAL(sf_credit_left(credit, 2), 1);
    CHECK_EQUAL(sf_credit_left(credit, 3), 0);
    sf_credit_destroy(credit);
}

static void a_producer_that_waits_is_woken_once_when_half_is_there(void)
{
    struct sf_credit *credit = make_credit(6);

    CHECK_EQUAL(sf_credit_left(credit, 6), 0);
    CHECK_EQUAL(sf_credit_give(credit, 0), 0);
    CHECK_EQUAL(sf_credit_give(credit, 0), 0);
    CHECK_EQUAL(sf_credit_give(credit, 0), 1);
    CHECK_EQUAL(sf_credit_give(credit, 0), 0);
    CHECK_EQUAL(sf_credit_left(credit, 6), 4);
    sf_credit_destroy(credit);
}

static void with_credit_for_one_each_value_wakes(void)
{
    struct sf_credit *credit = make_credit(1);

    for (uint64_t made = 1; made < 4; made++) {
        CHECK_EQUAL(sf_credit_left(credit, made), 0);
        CHECK_EQUAL(sf_credit_give(credit, 0), 1);
        CHECK_EQUAL(sf_credit_left(credit, made), 1);
    }
    sf_credit_destroy(credit);
}

static void a_new_round_has_all_credit_and_no_debts(void)
{
    struct sf_credit *credit = make_credit(2);

    CHECK_EQUAL(sf_credit_left(credit, 2), 0);
    CHECK_EQUAL(sf_credit_renew(credit, 2), 1);
    CHECK_EQUAL(sf_credit_left(credit, 2), 2);
    CHECK_EQUAL(sf_credit_give(credit, 0), 0);
    CHECK_EQUAL(sf_credit_left(credit, 4), 0);
    CHECK_EQUAL(sf_credit_give(credit, 1), 1);
    CHECK_EQUAL(sf_credit_left(credit, 4), 1);
    CHECK_EQUAL(sf_credit_renew(credit, 4), 0);
    sf_credit_destroy(credit);
}

static void more_taken_than_made_is_not_believed(void)
{
    struct sf_credit *credit = make_credit(2);

    for (int i = 0; i < 10; i++)
        sf_credit_give(credit, 0);
    CHECK_EQUAL(sf_credit_left(credit, 3), 2);
    sf_credit_destroy(credit);
}

static void after_a_stop_nothing_more_is_made(void)
{
    struct sf_credit *credit = make_credit(2);

    sf_credit_stop(credit);
    CHECK_EQUAL(sf_credit_left(credit, 0), -ECANCELED);
    sf_credit_destroy(credit);
}

static void after_the_release_there_is_nothing(void)
{
    struct sf_credit *credit = make_credit(2);

    sf_credit_release(credit);
    sf_credit_release(credit);
    CHECK_EQUAL(sf_credit_left(credit, 0), -EBADF);
    CHECK_EQUAL(sf_credit_renew(credit, 0), -EBADF);
    CHECK_EQUAL(sf_credit_give(credit, 0), 0);
    sf_credit_stop(credit);
    sf_credit_destroy(credit);
    sf_credit_destroy(NULL);
}

static void a_producer_needs_something_to_be_ahead_by(void)
{
    struct sf_credit *credit = NULL;

    CHECK_EQUAL(sf_credit_create(0, &credit), -EINVAL);
    CHECK(credit == NULL);
}

/* ------------------------------------------------------------- many consumers */

static void give_all(void *subject)
{
    for (int i = 0; i < VALUES_EACH; i++)
        sf_credit_give(subject, 0);
}

static void *give_all_in_thread(void *subject)
{
    give_all(subject);
    return NULL;
}

static void what_processes_and_threads_count_adds_up(void)
{
    struct sf_credit *credit = make_credit(5);
    uint64_t total = (uint64_t)2 * GIVER_COUNT * VALUES_EACH;
    struct sf_process *peers[GIVER_COUNT];
    pthread_t threads[GIVER_COUNT];

    for (int i = 0; i < GIVER_COUNT; i++)
        peers[i] = start_peer(give_all, credit);
    for (int i = 0; i < GIVER_COUNT; i++)
        pthread_create(&threads[i], NULL, give_all_in_thread, credit);
    for (int i = 0; i < GIVER_COUNT; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < GIVER_COUNT; i++)
        CHECK_EQUAL(end_peer(peers[i]), 0);
    CHECK_EQUAL(sf_credit_left(credit, total), 5);
    CHECK_EQUAL(sf_credit_left(credit, total + 5), 0);
    sf_credit_destroy(credit);
}

/* ---------------------------------------------------------- nobody oversleeps */

struct pair {
    struct sf_credit *credit;
    _Atomic uint64_t sent;
    _Atomic uint64_t wakes;
};

static void take_as_it_comes(void *subject)
{
    struct pair *pair = subject;

    for (uint64_t taken = 0; taken < VALUES_EACH; taken++) {
        while (atomic_load(&pair->sent) <= taken)
            ;
        if (sf_credit_give(pair->credit, 0) == 1)
            atomic_fetch_add(&pair->wakes, 1);
    }
}

static void make_as_far_as_it_may(struct pair *pair)
{
    int64_t deadline_ns = in_ms(50000);
    uint64_t seen = 0;

    for (uint64_t made = 0; made < VALUES_EACH;) {
        if (sf_credit_left(pair->credit, made) > 0) {
            atomic_store(&pair->sent, ++made);
            continue;
        }
        /* Only a wake lets it look again: one that were lost would end the test. */
        while (atomic_load(&pair->wakes) == seen && sf_clock_now_ns() < deadline_ns)
            ;
        CHECK(sf_clock_now_ns() < deadline_ns);
        seen = atomic_load(&pair->wakes);
    }
}

static void no_wake_is_lost(void)
{
    for (uint32_t ahead = 1; ahead < 4; ahead++) {
        struct pair *pair =
            mmap(NULL, sizeof *pair, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct sf_process *consumer;

        pair->credit = make_credit(ahead);
        consumer = start_peer(take_as_it_comes, pair);
        make_as_far_as_it_may(pair);
        CHECK_EQUAL(end_peer(consumer), 0);
        sf_credit_destroy(pair->credit);
        munmap(pair, sizeof *pair);
    }
}

int main(void)
{
    check_begin(60);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(there_is_credit_before_anything_is_taken);
    RUN(a_value_taken_gives_credit_for_another);
    RUN(a_producer_that_waits_is_woken_once_when_half_is_there);
    RUN(with_credit_for_one_each_value_wakes);
    RUN(a_new_round_has_all_credit_and_no_debts);
    RUN(more_taken_than_made_is_not_believed);
    RUN(after_a_stop_nothing_more_is_made);
    RUN(after_the_release_there_is_nothing);
    RUN(a_producer_needs_something_to_be_ahead_by);
    RUN(what_processes_and_threads_count_adds_up);
    RUN(no_wake_is_lost);
    return check_end();
}
