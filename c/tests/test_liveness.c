/* SPDX-License-Identifier: MIT */
/* Who is alive: proof of death whatever it was that killed, slots that are
 * used again and never mistaken, and the record that the dying leave. */
#define _GNU_SOURCE
#include "liveness.h"
#include "peer.h"

static uint64_t member_of(struct sf_process *process)
{
    return liveness_member_of(process);
}

static void one_is_a_member_and_alive(void)
{
    CHECK_EQUAL(liveness_join(), 0);
    CHECK(liveness_self() != 0);
    CHECK(!liveness_is_dead(liveness_self()));
    CHECK(liveness_slot_count() > LIVENESS_SLOT_OF(liveness_self()));
}

static void who_is_no_member_yet_leaves_no_record(void)
{
    sf_process_exiting(3);
    CHECK_EQUAL(liveness_self(), 0);
    CHECK_EQUAL(liveness_slot_count(), 0);
}

static void *wait_for_handlers(void *handlers)
{
    CHECK_EQUAL(liveness_handle_forks(handlers), 0);
    return NULL;
}

/* It runs, and does not come to an end. */
static bool has_worked(pthread_t thread)
{
    struct timespec worked = {0, 0};
    clockid_t clock;

    return pthread_getcpuclockid(thread, &clock) == 0 && clock_gettime(clock, &worked) == 0 &&
           worked.tv_nsec > 2000000;
}

static void fork_handlers_that_a_thread_is_installing_are_waited_for(void)
{
    struct fork_handlers handlers = {.installer = getpid()};
    pthread_t thread;

    CHECK_EQUAL(pthread_create(&thread, NULL, wait_for_handlers, &handlers), 0);
    WAIT_UNTIL(has_worked(thread));
    CHECK_EQUAL(pthread_tryjoin_np(thread, NULL), EBUSY);
    atomic_store(&handlers.installer, -1);
    pthread_join(thread, NULL);
}

/* The member that it was to be has come to an end before it began. */
static void a_child_whose_slot_was_given_away_finds_another(void)
{
    uint64_t member = 0;
    pid_t pid;
    int status;

    CHECK_EQUAL(liveness_reserve(&member), 0);
    liveness_adopt(member);
    liveness_release(member);
    pid = fork();
    if (pid == 0)
        _exit(liveness_self() != 0 && liveness_self() != member &&
              !liveness_is_dead(liveness_self()));
    liveness_adopt(0);
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(WEXITSTATUS(status), 1);
    CHECK(liveness_is_dead(member));
}

static void a_child_lives_from_the_moment_it_is_reserved(void)
{
    struct sf_process *process = NULL;
    uint64_t member;

    CHECK_EQUAL(sf_process_create(&process), 0);
    member = member_of(process);
    CHECK(!liveness_is_dead(member));
    sf_process_destroy(process);
    CHECK(liveness_is_dead(member));
}

static void a_child_is_dead_once_it_was_killed(void)
{
    struct sf_process *peer = start_peer(stay_forever, NULL);
    uint64_t member = member_of(peer);

    CHECK(!liveness_is_dead(member));
    sf_process_kill(peer, SIGKILL);
    WAIT_UNTIL(liveness_is_dead(member));
    CHECK_EQUAL(end_peer(peer), -SIGKILL);
    CHECK(liveness_is_dead(member));
}

static void a_zombie_is_dead(void)
{
    struct sf_process *peer = start_peer(leave_at_once, NULL);

    WAIT_UNTIL(state_of(sf_process_pid(peer)) == 'Z');
    CHECK(liveness_is_dead(member_of(peer)));
    end_peer(peer);
}

static void a_stopped_process_is_alive(void)
{
    struct sf_process *peer = start_peer(stay_forever, NULL);

    stop_peer(peer);
    CHECK(!liveness_is_dead(member_of(peer)));
    kill_peer(peer);
}

static void become_another_program(void *unused)
{
    char *arguments[] = {(char *)(uintptr_t) "sleep", (char *)(uintptr_t) "20", NULL};

    (void)unused;
    execvp("sleep", arguments);
}

static void a_process_that_became_another_program_has_left(void)
{
    struct sf_process *peer = start_peer(become_another_program, NULL);

    WAIT_UNTIL(liveness_is_dead(member_of(peer)));
    CHECK_EQUAL(sf_process_is_alive(peer), 1);
    kill_peer(peer);
}

static void a_child_is_the_member_that_was_reserved_for_it(void)
{
    struct sf_process *process = NULL;

    CHECK_EQUAL(sf_process_create(&process), 0);
    if (sf_process_spawn(process, NULL) == 0)
        _exit(liveness_self() != member_of(process));
    CHECK_EQUAL(end_peer(process), 0);
}

static void a_bare_fork_is_a_member_too(void)
{
    uint64_t parent = liveness_self();
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(liveness_self() == 0 || liveness_self() == parent || liveness_is_dead(parent));
    waitpid(pid, &status, 0);
    CHECK_EQUAL(status, 0);
}

static void a_slot_is_used_again_by_another_member(void)
{
    struct sf_process *first = NULL, *second = NULL;
    uint64_t member;

    CHECK_EQUAL(sf_process_create(&first), 0);
    member = member_of(first);
    sf_process_destroy(first);
    CHECK_EQUAL(sf_process_create(&second), 0);
    CHECK_EQUAL(LIVENESS_SLOT_OF(member_of(second)), LIVENESS_SLOT_OF(member));
    CHECK(LIVENESS_GENERATION_OF(member_of(second)) > LIVENESS_GENERATION_OF(member));
    CHECK(liveness_is_dead(member) && !liveness_is_dead(member_of(second)));
    sf_process_destroy(second);
}

static void many_generations_use_few_slots(void)
{
    for (int i = 0; i < 300; i++)
        CHECK_EQUAL(end_peer(start_peer(leave_at_once, NULL)), 0);
    CHECK(liveness_slot_count() < 16);
}

/* ------------------------------------------------------------ words to watch */

static void the_word_of_the_living_can_be_watched(void)
{
    struct sf_process *peer = start_peer(stay_forever, NULL);
    _Atomic uint32_t *word;
    uint32_t value = 0;

    WAIT_UNTIL(state_of(sf_process_pid(peer)) == 'S');
    word = liveness_watch(member_of(peer), &value);
    sf_process_kill(peer, SIGKILL);
    if (CHECK(word != NULL))
        WAIT_UNTIL(atomic_load(word) != value);
    CHECK(liveness_watch(member_of(peer), &value) == NULL);
    CHECK_EQUAL(end_peer(peer), -SIGKILL);
}

static void the_word_of_a_child_to_come_changes_when_it_has_come(void)
{
    struct sf_process *process = NULL;
    _Atomic uint32_t *word;
    uint32_t value = 0;

    CHECK_EQUAL(sf_process_create(&process), 0);
    word = liveness_watch(member_of(process), &value);
    if (sf_process_spawn(process, NULL) == 0)
        stay_forever(NULL);
    if (CHECK(word != NULL))
        WAIT_UNTIL(atomic_load(word) != value);
    kill_peer(process);
}

/* -------------------------------------------------- threads come and go */

static void *join_the_family(void *unused)
{
    (void)unused;
    CHECK_EQUAL(liveness_join(), 0);
    return NULL;
}

/* In a family of its own, founded by a thread that ends at once. */
static void found_a_family_in_a_thread(void)
{
    pthread_t thread;

    pthread_create(&thread, NULL, join_the_family, NULL);
    pthread_join(thread, NULL);
    CHECK(liveness_self() != 0);
    CHECK(!liveness_is_dead(liveness_self()));
}

static void *spawn_from_thread(void *subject)
{
    *(struct sf_process **)subject = start_peer(stay_forever, NULL);
    return NULL;
}

static void a_child_outlives_the_thread_that_forked_it(void)
{
    struct sf_process *peer = NULL;
    pthread_t thread;

    pthread_create(&thread, NULL, spawn_from_thread, &peer);
    pthread_join(thread, NULL);
    CHECK_EQUAL(sf_process_is_alive(peer), 1);
    CHECK(!liveness_is_dead(member_of(peer)));
    kill_peer(peer);
}

/* --------------------------------------------------------------- the limit */

/* Take slots until there are none; gives back how many there were. */
static int take_all_slots(struct sf_process **taken)
{
    int count = 0, rc;

    while ((rc = sf_process_create(&taken[count])) == 0)
        count++;
    CHECK_EQUAL(rc, -EAGAIN);
    return count;
}

static void there_is_a_limit(void)
{
    static struct sf_process *taken[SF_PROCESS_LIMIT + 1];
    int count = take_all_slots(taken);

    CHECK_EQUAL(count, SF_PROCESS_LIMIT - 1);
    sf_process_destroy(taken[--count]);
    CHECK_EQUAL(sf_process_create(&taken[count++]), 0);
    while (count > 0)
        sf_process_destroy(taken[--count]);
}

static void in_a_full_family_a_bare_fork_is_no_member(void)
{
    static struct sf_process *taken[SF_PROCESS_LIMIT + 1];
    struct sf_channel *channel = make_channel(4 * KIB);
    int count = take_all_slots(taken), status;
    pid_t pid = fork();

    if (pid == 0) {
        CHECK_EQUAL(liveness_self(), 0);
        CHECK_EQUAL(sf_channel_send(channel, 0, "a", 1, SF_NOW), -ENOLCK);
        _exit(check_state.failed_checks);
    }
    waitpid(pid, &status, 0);
    CHECK_EQUAL(status, 0);
    while (count > 0)
        sf_process_destroy(taken[--count]);
    sf_channel_destroy(channel);
}

/* A child that dies with a hundred slots in its hands. */
static void hoard(void *unused)
{
    struct sf_process *process;

    (void)unused;
    for (int i = 0; i < 100; i++)
        if (!CHECK_EQUAL(sf_process_create(&process), 0))
            return;
    kill(getpid(), SIGKILL);
}

static void slots_reserved_by_the_dead_are_used_again(void)
{
    for (int i = 0; i < 12; i++)
        if (!CHECK_EQUAL(end_peer(start_peer(hoard, NULL)), -SIGKILL))
            return;
}

static void fork_many(void *unused)
{
    (void)unused;
    for (int i = 0; i < 100; i++)
        if (fork() == 0)
            _exit(0);
    for (int i = 0; i < 100; i++)
        wait(NULL);
}

static void slots_of_dead_bare_forks_are_used_again(void)
{
    for (int i = 0; i < 12; i++)
        CHECK_EQUAL(end_peer(start_peer(fork_many, NULL)), 0);
}

/* ------------------------------------------------------------- exit record */

static void record_and_stay(void *progress)
{
    liveness_record_exit(-42);
    atomic_store((_Atomic int *)progress, 1);
    stay_forever(NULL);
}

static void what_a_child_recorded_can_be_read(void)
{
    _Atomic int *progress = make_progress();
    struct sf_process *peer = start_peer(record_and_stay, (void *)(uintptr_t)progress);
    int status = 7;

    WAIT_UNTIL(atomic_load(progress) == 1);
    CHECK(liveness_exit_record(member_of(peer), &status));
    CHECK_EQUAL(status, -42);
    kill_peer(peer);
    free_progress(progress);
}

static void without_a_record_there_is_nothing_to_read(void)
{
    struct sf_process *peer = start_peer(stay_forever, NULL);
    int status = 7;

    CHECK(!liveness_exit_record(member_of(peer), &status));
    CHECK_EQUAL(status, 7);
    kill_peer(peer);
}

/* Returns what is to be main's result. */
static int in_a_child(void (*test)(void))
{
    int status;
    pid_t pid = fork();

    if (pid == 0) {
        check_state.current = "found_a_family_in_a_thread";
        test();
        _exit(check_state.failed_checks);
    }
    waitpid(pid, &status, 0);
    return status;
}

static int family_of_a_thread;

static void a_member_outlives_the_thread_that_joined(void)
{
    CHECK_EQUAL(family_of_a_thread, 0);
}

int main(void)
{
    check_begin(60);
    family_of_a_thread = in_a_child(found_a_family_in_a_thread);
    RUN(who_is_no_member_yet_leaves_no_record);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(fork_handlers_that_a_thread_is_installing_are_waited_for);
    RUN(a_child_whose_slot_was_given_away_finds_another);
    RUN(one_is_a_member_and_alive);
    RUN(a_member_outlives_the_thread_that_joined);
    RUN(a_child_lives_from_the_moment_it_is_reserved);
    RUN(a_child_is_dead_once_it_was_killed);
    RUN(a_zombie_is_dead);
    RUN(a_stopped_process_is_alive);
    RUN(a_process_that_became_another_program_has_left);
    RUN(a_child_is_the_member_that_was_reserved_for_it);
    RUN(a_bare_fork_is_a_member_too);
    RUN(a_slot_is_used_again_by_another_member);
    RUN(many_generations_use_few_slots);
    RUN(the_word_of_the_living_can_be_watched);
    RUN(the_word_of_a_child_to_come_changes_when_it_has_come);
    RUN(a_child_outlives_the_thread_that_forked_it);
    RUN(what_a_child_recorded_can_be_read);
    RUN(without_a_record_there_is_nothing_to_read);
    RUN(there_is_a_limit);
    RUN(in_a_full_family_a_bare_fork_is_no_member);
    RUN(slots_of_dead_bare_forks_are_used_again);
    RUN(slots_reserved_by_the_dead_are_used_again);
    return check_end();
}
