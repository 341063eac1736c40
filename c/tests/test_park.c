/* SPDX-License-Identifier: MIT */
/* Sleeping and waking: nobody sleeps through a wake-up, whoever shares whose
 * bit, in every interleaving that matters.
 *
 * The interleavings are not left to luck. On x86-64 a thread that leaves is
 * executed one instruction at a time; between any two of them another thread
 * of its process goes to sleep, and between any two later ones a waker comes.
 */
#define _GNU_SOURCE
#include "park.h"
#include "peer.h"

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#define SLOT 3

struct bed {
    struct park_word word;
    struct park_place place;
    _Atomic uint32_t posts, taken; /* what waiters wait for */
};

static struct bed *make_bed(void)
{
    void *memory =
        mmap(NULL, sizeof(struct bed), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return memory;
}

static void free_bed(struct bed *bed)
{
    munmap(bed, sizeof *bed);
}

static bool anybody_waits(struct bed *bed)
{
    uint64_t any = 0;

    for (int i = 0; i < PARK_BIT_COUNT / 64; i++)
        any |= atomic_load(&bed->word.waiting[i]);
    return any != 0;
}

static int sleep_in(struct bed *bed, uint32_t sequence, int64_t until_ns)
{
    return park_sleep(&bed->word, &bed->place, sequence, sf_clock_now_ns(), until_ns, NULL);
}

/* ---------------------------------------------------------------- one waiter */

static void a_wake_after_prepare_is_not_slept_through(void)
{
    struct bed *bed = make_bed();
    uint32_t sequence = park_prepare(&bed->word, &bed->place, SLOT);

    CHECK(anybody_waits(bed));
    park_wake(&bed->word, false);
    CHECK_EQUAL(sleep_in(bed, sequence, SF_FOREVER), 0);
    park_leave(&bed->word, &bed->place, SLOT);
    CHECK(!anybody_waits(bed));
    free_bed(bed);
}

static void nobody_is_woken_when_nobody_waits(void)
{
    struct bed *bed = make_bed();

    park_wake(&bed->word, true);
    CHECK_EQUAL(bed->word.sequence, 0);
    free_bed(bed);
}

static void a_sleep_ends_at_its_deadline(void)
{
    struct bed *bed = make_bed();
    uint32_t sequence = park_prepare(&bed->word, &bed->place, SLOT);
    int64_t began_ns = sf_clock_now_ns();

    CHECK_EQUAL(sleep_in(bed, sequence, began_ns + 5 * MS), -ETIMEDOUT);
    CHECK(sf_clock_now_ns() >= began_ns + 5 * MS);
    park_leave(&bed->word, &bed->place, SLOT);
    free_bed(bed);
}

static void no_sleep_is_longer_than_a_slice(void)
{
    struct bed *bed = make_bed();
    uint32_t sequence = park_prepare(&bed->word, &bed->place, SLOT);
    int64_t began_ns = sf_clock_now_ns();

    CHECK_EQUAL(sleep_in(bed, sequence, SF_FOREVER), -ETIMEDOUT);
    CHECK(sf_clock_now_ns() < began_ns + 50 * PARK_SLICE_NS);
    park_leave(&bed->word, &bed->place, SLOT);
    free_bed(bed);
}

static void a_signal_ends_a_sleep(void)
{
    struct sigaction handler = {.sa_handler = ignore_signal, .sa_flags = SA_RESTART};
    struct bed *bed = make_bed();
    pthread_t thread, self = pthread_self();
    int rc;

    sigaction(SIGUSR1, &handler, NULL);
    pthread_create(&thread, NULL, interrupt, &self);
    do
        rc = sleep_in(bed, park_prepare(&bed->word, &bed->place, SLOT), SF_FOREVER);
    while (rc == -ETIMEDOUT);
    CHECK_EQUAL(rc, -EINTR);
    pthread_join(thread, NULL);
    free_bed(bed);
}

static void a_watched_word_wakes_as_well(void)
{
    struct bed *bed = make_bed();
    _Atomic uint32_t other = 5;
    struct park_watch watch = {.words = {&other}, .values = {5}, .count = 1};
    uint32_t sequence = park_prepare(&bed->word, &bed->place, SLOT);

    CHECK_EQUAL(park_sleep(&bed->word, &bed->place, sequence, 0, in_ms(5), &watch), -ETIMEDOUT);
    other = 6;
    CHECK_EQUAL(park_sleep(&bed->word, &bed->place, sequence, 0, SF_FOREVER, &watch), 0);
    park_leave(&bed->word, &bed->place, SLOT);
    free_bed(bed);
}

static void the_bit_of_the_dead_is_forgotten(void)
{
    struct bed *bed = make_bed();

    park_prepare(&bed->word, &bed->place, SLOT);
    park_forget(&bed->word, SLOT + 1);
    CHECK(anybody_waits(bed));
    park_forget(&bed->word, SLOT);
    CHECK(!anybody_waits(bed));
    free_bed(bed);
}

static void *sleep_in_the_slot_of_the_dead(void *subject)
{
    struct bed *bed = subject;
    uint32_t sequence = park_prepare(&bed->word, &bed->place, SLOT);

    CHECK_EQUAL(sleep_in(bed, sequence, in_ms(20000)), 0);
    park_leave(&bed->word, &bed->place, SLOT);
    return NULL;
}

/* It would not be woken without its bit. */
static void whoever_has_the_slot_of_the_dead_looks_again(void)
{
    struct bed *bed = make_bed();
    pthread_t thread;

    pthread_create(&thread, NULL, sleep_in_the_slot_of_the_dead, bed);
    WAIT_UNTIL(anybody_waits(bed));
    park_forget(&bed->word, SLOT);
    pthread_join(thread, NULL);
    free_bed(bed);
}

static void slots_beyond_the_last_bit_share_it_for_ever(void)
{
    struct bed *bed = make_bed();

    park_prepare(&bed->word, &bed->place, 1000);
    park_leave(&bed->word, &bed->place, 1000);
    CHECK(anybody_waits(bed));
    park_forget(&bed->word, 1000);
    CHECK(anybody_waits(bed));
    free_bed(bed);
}

/* --------------------------------------------------------------------- spin */

static bool never(void *subject)
{
    (*(int *)subject)++;
    return false;
}

static bool at_the_tenth_look(void *subject)
{
    return ++*(int *)subject == 10;
}

static void nobody_spins_who_has_not_learnt_to(void)
{
    struct park_place place = {.parked = 0};
    int looks = 0;

    CHECK(!park_spin(&place, never, &looks));
    CHECK_EQUAL(looks, 0);
}

static void a_spin_ends_with_what_it_looks_for_or_with_its_budget(void)
{
    struct park_place place = {.spin_ns = 50000};
    int looks = 0;

    CHECK(park_spin(&place, at_the_tenth_look, &looks));
    CHECK_EQUAL(looks, 10);
    looks = 0;
    CHECK(!park_spin(&place, never, &looks));
    CHECK(looks > 0);
}

/* What a sleeper learns when it is woken at `signalled_ns`. */
static int64_t lesson(int64_t spin_ns, int64_t began_ago_ns, int64_t signalled_ago_ns)
{
    struct bed *bed = make_bed();
    int64_t now_ns = sf_clock_now_ns(), learnt_ns;
    uint32_t sequence = park_prepare(&bed->word, &bed->place, SLOT);

    bed->place.spin_ns = spin_ns;
    bed->word.signalled_ns = now_ns - signalled_ago_ns;
    /* Only who really slept learns: somebody else has to wake it. */
    if (fork() == 0) {
        while (syscall(SYS_futex, &bed->word.sequence, 1 /* FUTEX_WAKE */, 1, NULL, NULL, 0) != 1)
            check_pause();
        _exit(0);
    }
    park_sleep(&bed->word, &bed->place, sequence, now_ns - began_ago_ns, SF_FOREVER, NULL);
    wait(NULL);
    learnt_ns = bed->place.spin_ns;
    free_bed(bed);
    return learnt_ns;
}

static void spinning_is_learnt_when_it_would_have_paid(void)
{
    CHECK(lesson(0, 3000, 1000) > 0);
}

static void spinning_is_unlearnt_when_it_would_not(void)
{
    int64_t learnt_ns = lesson(8000, 500 * MS, 1000);

    CHECK_EQUAL(learnt_ns, 4000);
}

/* ----------------------------------------------------------- many sleepers */

#define POST_COUNT 20000

static bool take_post(struct bed *bed)
{
    uint32_t taken = atomic_load(&bed->taken);

    while (taken < atomic_load(&bed->posts))
        if (atomic_compare_exchange_weak(&bed->taken, &taken, taken + 1))
            return true;
    return false;
}

/* Takes until all are taken. A sleep to the end of its slice with something to
 * take is a wake-up that was lost. */
static void *take_posts(void *subject)
{
    struct bed *bed = subject;
    uint32_t sequence;
    int rc;

    while (atomic_load(&bed->taken) < POST_COUNT) {
        if (take_post(bed))
            continue;
        sequence = park_prepare(&bed->word, &bed->place, SLOT);
        rc = 0;
        if (atomic_load(&bed->taken) == atomic_load(&bed->posts) && bed->taken < POST_COUNT)
            rc = sleep_in(bed, sequence, SF_FOREVER);
        CHECK(rc != -ETIMEDOUT || bed->taken == bed->posts);
        park_leave(&bed->word, &bed->place, SLOT);
    }
    park_wake(&bed->word, true);
    return NULL;
}

static void threads_that_share_a_bit_lose_no_wake_up(void)
{
    struct bed *bed = make_bed();
    pthread_t threads[2];

    for (int i = 0; i < 2; i++)
        pthread_create(&threads[i], NULL, take_posts, bed);
    for (int i = 0; i < POST_COUNT; i++) {
        atomic_fetch_add(&bed->posts, 1);
        park_wake(&bed->word, false);
        if (noise((uint64_t)i) % 4 == 0)
            while (atomic_load(&bed->taken) < atomic_load(&bed->posts))
                sched_yield();
    }
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    CHECK(!anybody_waits(bed));
    free_bed(bed);
}

/* ---------------------------------------------------- one step at a time */

#if defined(__x86_64__) && !UNDER_SANITIZER
#define TRAP_FLAG 0x100u

/* One interleaving: after which step of the leaving thread the other one
 * prepares, and after which one the waker comes. */
static struct {
    struct bed *bed;
    int step, prepare_step, wake_step;
    uint32_t sequence;
    bool prepared, woke;
} schedule;

static void take_a_step(int signal_number)
{
    (void)signal_number;
    schedule.step++;
    if (schedule.step == schedule.prepare_step) {
        schedule.sequence = park_prepare(&schedule.bed->word, &schedule.bed->place, SLOT);
        schedule.prepared = true;
    }
    if (schedule.step == schedule.wake_step) {
        park_wake(&schedule.bed->word, false);
        schedule.woke = true;
    }
}

/* Returns how many steps there were. */
static int leave_in_steps(int prepare_step, int wake_step)
{
    struct bed *bed = schedule.bed;

    memset(bed, 0, sizeof *bed);
    schedule.step = 0;
    schedule.prepare_step = prepare_step;
    schedule.wake_step = wake_step;
    schedule.prepared = schedule.woke = false;
    park_prepare(&bed->word, &bed->place, SLOT);
    __writeeflags(__readeflags() | TRAP_FLAG);
    park_leave(&bed->word, &bed->place, SLOT);
    __writeeflags(__readeflags() & ~(unsigned long long)TRAP_FLAG);
    return schedule.step;
}

static void no_wake_up_is_lost_between_any_two_instructions_of_a_leave(void)
{
    struct sigaction step = {.sa_handler = take_a_step}, before;
    int step_count, lost = 0, tried = 0;

    schedule.bed = make_bed();
    sigaction(SIGTRAP, &step, &before);
    step_count = leave_in_steps(0, 0);
    CHECK(step_count > 5);
    for (int first = 1; first <= step_count; first++)
        for (int second = first; second <= step_count + 10; second++) {
            leave_in_steps(first, second);
            if (!schedule.woke)
                break;
            tried++;
            /* Asleep: the sequence is as it was when it prepared. */
            lost += schedule.sequence == atomic_load(&schedule.bed->word.sequence);
        }
    CHECK_EQUAL(lost, 0);
    CHECK(tried > 100);
    sigaction(SIGTRAP, &before, NULL);
    free_bed(schedule.bed);
}
#else
static void no_wake_up_is_lost_between_any_two_instructions_of_a_leave(void)
{
}
#endif

int main(void)
{
    check_begin(60);
    RUN(a_wake_after_prepare_is_not_slept_through);
    RUN(nobody_is_woken_when_nobody_waits);
    RUN(a_sleep_ends_at_its_deadline);
    RUN(no_sleep_is_longer_than_a_slice);
    RUN(a_signal_ends_a_sleep);
    RUN(a_watched_word_wakes_as_well);
    RUN(the_bit_of_the_dead_is_forgotten);
    RUN(whoever_has_the_slot_of_the_dead_looks_again);
    RUN(slots_beyond_the_last_bit_share_it_for_ever);
    RUN(nobody_spins_who_has_not_learnt_to);
    RUN(a_spin_ends_with_what_it_looks_for_or_with_its_budget);
    RUN(spinning_is_learnt_when_it_would_have_paid);
    RUN(spinning_is_unlearnt_when_it_would_not);
    RUN(threads_that_share_a_bit_lose_no_wake_up);
    RUN(no_wake_up_is_lost_between_any_two_instructions_of_a_leave);
    return check_end();
}
