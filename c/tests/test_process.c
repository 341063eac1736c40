/* SPDX-License-Identifier: MIT */
/* Processes: how they start and end, who learns of it, and what happens when
 * somebody else takes the status, the descriptors or the parent away. */
#define _GNU_SOURCE
#include "liveness.h"
#include "peer.h"

#include <poll.h>
#include <sys/ioctl.h>

static struct sf_process *make_process(void)
{
    struct sf_process *process = NULL;

    CHECK_EQUAL(sf_process_create(&process), 0);
    return process;
}

static void exit_with(void *code)
{
    _exit(*(int *)code);
}

static void raise_with(void *signal_number)
{
    const struct rlimit no_core = {0, 0};

    setrlimit(RLIMIT_CORE, &no_core);
    signal(*(int *)signal_number, SIG_DFL);
    kill(getpid(), *(int *)signal_number);
}

/* ------------------------------------------------------------------ statuses */

static void an_exit_code_is_the_status(void)
{
    int codes[] = {0, 1, 77, 128, 139, 255};

    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        CHECK_EQUAL(end_peer(start_peer(exit_with, &codes[i])), codes[i]);
}

static void a_signal_is_a_negative_status(void)
{
    int signals[] = {SIGKILL, SIGTERM, SIGHUP, SIGSEGV, SIGABRT, SIGQUIT, SIGBUS, SIGFPE, SIGUSR2};

    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        CHECK_EQUAL(end_peer(start_peer(raise_with, &signals[i])), -signals[i]);
}

static void a_status_can_be_asked_for_again(void)
{
    int code = 9, status = 0;
    struct sf_process *process = start_peer(exit_with, &code);

    CHECK_EQUAL(wait_for_peer(process), 9);
    CHECK_EQUAL(sf_process_wait(process, SF_NOW, &status), 0);
    CHECK_EQUAL(status, 9);
    sf_process_release(process);
    CHECK_EQUAL(sf_process_wait(process, SF_NOW, &status), 0);
    CHECK_EQUAL(end_peer(process), 9);
}

static void waiting_ends_at_the_deadline(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);
    int status = 1234;

    CHECK_EQUAL(sf_process_wait(process, SF_NOW, &status), -EAGAIN);
    CHECK_EQUAL(sf_process_wait(process, in_ms(5), &status), -EAGAIN);
    CHECK_EQUAL(sf_process_wait(process, SF_FOREVER, &status), -EINTR);
    CHECK_EQUAL(status, 1234);
    kill_peer(process);
}

static void a_signal_ends_a_wait(void)
{
    struct sigaction handler = {.sa_handler = ignore_signal, .sa_flags = SA_RESTART};
    struct sf_process *process = start_peer(stay_forever, NULL);
    pthread_t thread, self = pthread_self();
    int64_t began_ns = sf_clock_now_ns();
    int status;

    sigaction(SIGUSR1, &handler, NULL);
    pthread_create(&thread, NULL, interrupt, &self);
    CHECK_EQUAL(sf_process_wait(process, SF_FOREVER, &status), -EINTR);
    CHECK(sf_clock_now_ns() - began_ns < 20000 * MS);
    pthread_join(thread, NULL);
    kill_peer(process);
}

static void *wait_in_thread(void *process)
{
    CHECK_EQUAL(wait_for_peer(process), 6);
    return NULL;
}

static void all_threads_get_the_same_answer(void)
{
    int code = 6;
    struct sf_process *process = start_peer(exit_with, &code);
    pthread_t threads[4];

    for (int i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, wait_in_thread, process);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    CHECK_EQUAL(end_peer(process), 6);
}

/* ------------------------------------------------------------- brief waits */

static void send_some(struct sf_channel *channel, size_t size)
{
    void *data = calloc(1, size);

    CHECK_EQUAL(sf_channel_send(channel, 0, data, size, SF_NOW), 0);
    free(data);
}

/* How many of `count` children that end at once were seen to end by a brief wait? */
static int count_seen(struct sf_channel *channel, int count)
{
    int code = 3, seen = 0;

    while (count-- > 0) {
        struct sf_process *process = start_peer(exit_with, &code);
        int status = 5, rc = sf_process_wait_briefly(process, channel, SF_FOREVER, &status);

        seen += rc == 0;
        CHECK_EQUAL(status, rc == 0 ? 3 : 5);
        CHECK_EQUAL(end_peer(process), 3);
    }
    return seen;
}

static void a_brief_wait_ends_with_the_child_and_leaves_its_message(void)
{
    struct sf_channel *channel = make_channel(16 << 20);

    send_some(channel, 10);
    WAIT_UNTIL(count_seen(channel, 32) > 16);
    CHECK(sf_channel_used(channel) > 0);
    sf_channel_destroy(channel);
}

/* One of sixteen is waited for, and its wait is in vain. */
static void after_a_child_that_sent_much_others_are_looked_at_only(void)
{
    struct sf_channel *channel = make_channel(16 << 20);

    WAIT_UNTIL(count_seen(channel, 32) > 16);
    send_some(channel, SF_MESSAGE_INLINE);
    send_some(channel, 1);
    count_seen(channel, 16);
    WAIT_UNTIL(count_seen(channel, 32) < 16);
    sf_channel_destroy(channel);
}

static void a_child_that_stays_is_waited_for_briefly_and_seldom(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);
    struct sf_channel *channel = make_channel(16 << 20);
    int64_t began_ns = sf_clock_now_ns();
    int status;

    for (int i = 0; i < 480; i++)
        CHECK_EQUAL(sf_process_wait_briefly(process, channel, SF_FOREVER, &status), -EAGAIN);
    CHECK(sf_clock_now_ns() - began_ns > 25 * 5 * MS);
    CHECK(sf_clock_now_ns() - began_ns < 480 * 3 * MS);
    sf_channel_destroy(channel);
    kill_peer(process);
}

/* -------------------------------------------------------- before the spawn */

static void a_child_that_was_not_spawned_has_nothing(void)
{
    struct sf_process *process = make_process();
    int status = 5;

    CHECK_EQUAL(sf_process_wait(process, SF_NOW, &status), -EINVAL);
    CHECK_EQUAL(sf_process_wait_briefly(process, NULL, SF_FOREVER, &status), -EINVAL);
    CHECK_EQUAL(sf_process_is_alive(process), -EINVAL);
    CHECK_EQUAL(sf_process_kill(process, SIGKILL), -EINVAL);
    CHECK_EQUAL(sf_process_pid(process), -EINVAL);
    CHECK_EQUAL(sf_process_fileno(process), -EINVAL);
    CHECK_EQUAL(status, 5);
    sf_process_destroy(process);
}

static void a_handle_takes_no_descriptor_before_the_spawn(void)
{
    struct sf_process *processes[50];
    int descriptors = check_count_descriptors();

    for (int i = 0; i < 50; i++)
        processes[i] = make_process();
    CHECK_EQUAL(check_count_descriptors(), descriptors);
    for (int i = 0; i < 50; i++)
        sf_process_destroy(processes[i]);
}

static void a_child_costs_one_descriptor(void)
{
    int descriptors = check_count_descriptors();
    struct sf_process *process = start_peer(stay_forever, NULL);

    CHECK_EQUAL(check_count_descriptors(), descriptors + 1);
    kill_peer(process);
}

static void a_handle_is_spawned_once(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);

    CHECK_EQUAL(sf_process_spawn(process, NULL), -EALREADY);
    sf_process_kill(process, SIGKILL);
    wait_for_peer(process);
    CHECK_EQUAL(sf_process_spawn(process, NULL), -EALREADY);
    sf_process_destroy(process);
}

static void a_released_handle_cannot_be_spawned(void)
{
    struct sf_process *process = make_process();
    int rc;

    sf_process_release(process);
    rc = sf_process_spawn(process, NULL);
    if (rc == 0)
        _exit(0);
    CHECK_EQUAL(rc, -EALREADY);
    if (rc > 0)
        waitpid(rc, NULL, 0);
    sf_process_destroy(process);
}

/* ------------------------------------------------------------------- failure */

static pid_t fail_to_fork(void)
{
    return -1;
}

static void a_fork_that_failed_can_be_tried_again(void)
{
    struct sf_process *process = make_process();

    CHECK_EQUAL(sf_process_spawn(process, fail_to_fork), -ECANCELED);
    CHECK_EQUAL(sf_process_is_alive(process), -EINVAL);
    if (sf_process_spawn(process, NULL) == 0)
        _exit(3);
    CHECK_EQUAL(end_peer(process), 3);
}

static int fork_calls;

static pid_t fork_and_count(void)
{
    fork_calls++;
    return fork();
}

static void the_fork_is_done_by_the_function_given(void)
{
    struct sf_process *process = make_process();
    int rc = sf_process_spawn(process, fork_and_count);

    if (rc == 0)
        _exit(0);
    CHECK_EQUAL(fork_calls, 1);
    CHECK_EQUAL(rc, sf_process_pid(process));
    CHECK_EQUAL(end_peer(process), 0);
}

/* Use up all descriptors but `spare`; gives back the limit that was. */
static struct rlimit leave_descriptors(int spare)
{
    struct rlimit before, few;
    int next = dup(0);

    close(next);
    getrlimit(RLIMIT_NOFILE, &before);
    few = before;
    few.rlim_cur = (rlim_t)(next + spare);
    setrlimit(RLIMIT_NOFILE, &few);
    return before;
}

static void without_a_descriptor_there_is_no_child(void)
{
    struct sf_process *process = make_process();
    struct rlimit before = leave_descriptors(0);

    CHECK_EQUAL(sf_process_spawn(process, NULL), -EMFILE);
    setrlimit(RLIMIT_NOFILE, &before);
    CHECK(!check_has_children());
    if (sf_process_spawn(process, NULL) == 0)
        _exit(liveness_self() == liveness_member_of(process) ? 4 : 5);
    CHECK_EQUAL(end_peer(process), 4);
}

static void one_descriptor_is_enough_for_a_child(void)
{
    struct sf_process *process = make_process();
    struct rlimit before = leave_descriptors(1);

    if (sf_process_spawn(process, NULL) == 0)
        _exit(4);
    setrlimit(RLIMIT_NOFILE, &before);
    CHECK_EQUAL(end_peer(process), 4);
}

static void a_bad_signal_is_refused(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);

    CHECK_EQUAL(sf_process_kill(process, 10000), -EINVAL);
    CHECK_EQUAL(sf_process_kill(process, -1), -EINVAL);
    CHECK_EQUAL(sf_process_kill(process, 0), 0);
    kill_peer(process);
}

/* -------------------------------------------------------------- signal masks */

static sigset_t current_mask(void)
{
    sigset_t mask;

    memset(&mask, 0, sizeof mask);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    return mask;
}

static bool is_same_mask(const sigset_t *first, const sigset_t *second)
{
    for (int i = 1; i < 65; i++)
        if (sigismember(first, i) != sigismember(second, i))
            return false;
    return true;
}

static sigset_t mask_before;

static void look_at_own_mask(void *unused)
{
    sigset_t mask = current_mask();

    (void)unused;
    CHECK(is_same_mask(&mask, &mask_before));
}

static void the_signal_mask_is_what_it_was_on_both_sides(void)
{
    struct sf_process *process = make_process();
    sigset_t one, mask;

    sigemptyset(&one);
    sigaddset(&one, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &one, NULL);
    mask_before = current_mask();
    CHECK_EQUAL(end_peer(start_peer(look_at_own_mask, NULL)), 0);
    mask = current_mask();
    CHECK(is_same_mask(&mask, &mask_before));
    CHECK_EQUAL(sf_process_spawn(process, fail_to_fork), -ECANCELED);
    mask = current_mask();
    CHECK(is_same_mask(&mask, &mask_before));
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
    sf_process_destroy(process);
}

static _Atomic int handled_in_fork;
static int handled_during_fork;

static void note_signal(int signal_number)
{
    (void)signal_number;
    handled_in_fork++;
}

static pid_t fork_under_fire(void)
{
    pid_t pid;

    kill(getpid(), SIGUSR1);
    pid = fork();
    handled_during_fork = handled_in_fork;
    return pid;
}

static void no_handler_runs_around_the_fork(void)
{
    struct sigaction handler = {.sa_handler = note_signal};
    struct sf_process *process = make_process();

    sigaction(SIGUSR1, &handler, NULL);
    handled_in_fork = 0;
    if (sf_process_spawn(process, fork_under_fire) == 0)
        _exit(handled_during_fork);
    CHECK_EQUAL(handled_during_fork, 0);
    CHECK_EQUAL(handled_in_fork, 1);
    CHECK_EQUAL(end_peer(process), 0);
}

/* ------------------------------------------------------ running and stopped */

static void a_running_child_is_alive_until_it_ended(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);

    CHECK_EQUAL(sf_process_is_alive(process), 1);
    sf_process_kill(process, SIGKILL);
    WAIT_UNTIL(sf_process_is_alive(process) == 0);
    CHECK_EQUAL(state_of(sf_process_pid(process)), 'Z');
    CHECK_EQUAL(end_peer(process), -SIGKILL);
}

static void a_stopped_child_runs_and_goes_on(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);
    int status;

    stop_peer(process);
    CHECK_EQUAL(sf_process_is_alive(process), 1);
    CHECK_EQUAL(sf_process_wait(process, in_ms(20), &status), -EAGAIN);
    sf_process_kill(process, SIGCONT);
    WAIT_UNTIL(state_of(sf_process_pid(process)) == 'S');
    kill_peer(process);
}

static void a_child_that_has_ended_cannot_be_killed(void)
{
    struct sf_process *process = start_peer(leave_at_once, NULL);

    WAIT_UNTIL(sf_process_is_alive(process) == 0);
    CHECK_EQUAL(sf_process_kill(process, SIGKILL), -ESRCH);
    wait_for_peer(process);
    CHECK_EQUAL(sf_process_kill(process, SIGKILL), -ESRCH);
    CHECK_EQUAL(end_peer(process), 0);
}

static void the_descriptor_tells_the_end(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);
    struct pollfd ended = {.fd = sf_process_fileno(process), .events = POLLIN};

    CHECK_EQUAL(poll(&ended, 1, 0), 0);
    CHECK(fcntl(ended.fd, F_GETFD) & FD_CLOEXEC);
    sf_process_kill(process, SIGKILL);
    CHECK_EQUAL(poll(&ended, 1, 20000), 1);
    wait_for_peer(process);
    CHECK_EQUAL(sf_process_fileno(process), ended.fd);
    sf_process_release(process);
    CHECK_EQUAL(sf_process_fileno(process), -EBADF);
    sf_process_destroy(process);
}

/* ------------------------------------------------------------- stolen status */

static void exit_with_record(void *code)
{
    sf_process_exiting(*(int *)code);
    _exit(*(int *)code);
}

static void a_status_that_others_took_is_recovered(void)
{
    int code = 23;
    struct sf_process *process = start_peer(exit_with_record, &code);

    CHECK(waitpid(-1, NULL, 0) == sf_process_pid(process));
    CHECK_EQUAL(end_peer(process), 23);
}

/* Without a record only the kernel can know; not every kernel does. */
static void a_stolen_signal_is_recovered_or_said_to_be_unknown(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);
    int status = 99, rc;

    sf_process_kill(process, SIGTERM);
    CHECK(waitpid(-1, NULL, 0) == sf_process_pid(process));
    while ((rc = sf_process_wait(process, SF_FOREVER, &status)) == -EINTR)
        ;
    CHECK(rc == 0 ? status == -SIGTERM : rc == -ENODATA && status == 99);
    CHECK_EQUAL(sf_process_is_alive(process), 0);
    CHECK_EQUAL(sf_process_kill(process, SIGKILL), -ESRCH);
    sf_process_destroy(process);
}

static void ignored_child_signals_lose_no_status(void)
{
    int code = 31;
    struct sf_process *process;

    signal(SIGCHLD, SIG_IGN);
    process = start_peer(exit_with_record, &code);
    CHECK_EQUAL(end_peer(process), 31);
    signal(SIGCHLD, SIG_DFL);
}

static pid_t fork_and_outlast(void)
{
    pid_t pid = fork();

    if (pid > 0)
        WAIT_UNTIL(state_of(pid) == 0);
    return pid;
}

/* Nobody but the exit record knows by then that there was a child. */
static void a_child_gone_before_the_fork_returned_is_a_child_that_ended(void)
{
    struct sf_process *process = make_process();
    struct pollfd ended = {.events = POLLIN};
    int rc;

    signal(SIGCHLD, SIG_IGN);
    rc = sf_process_spawn(process, fork_and_outlast);
    if (rc == 0) {
        sf_process_exiting(31);
        _exit(31);
    }
    signal(SIGCHLD, SIG_DFL);
    if (!CHECK(rc > 0)) {
        sf_process_destroy(process);
        return;
    }
    CHECK_EQUAL(sf_process_pid(process), rc);
    CHECK_EQUAL(sf_process_is_alive(process), 0);
    CHECK_EQUAL(sf_process_kill(process, SIGKILL), -ESRCH);
    ended.fd = sf_process_fileno(process);
    CHECK(ended.fd >= 0);
    CHECK_EQUAL(poll(&ended, 1, 0), 1);
    CHECK_EQUAL(end_peer(process), 31);
}

/* Much memory takes the kernel a while to free, and the status comes after. */
static void hold_much_memory(void *ready)
{
    size_t size = (size_t)256 << 20;
    unsigned char *memory = malloc(size);

    memset(memory, 1, size);
    atomic_store((_Atomic int *)ready, 1);
    stay_forever(NULL);
}

static void a_dead_child_has_ended_while_its_memory_goes(void)
{
    void *page = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    _Atomic int *ready = page;
    struct sf_process *process = start_peer(hold_much_memory, page);
    int status = 0;

    while (!atomic_load(ready))
        sched_yield();
    CHECK_EQUAL(sf_process_kill(process, SIGKILL), 0);
    while (!liveness_is_dead(liveness_member_of(process)))
        sched_yield();
    CHECK_EQUAL(sf_process_wait(process, SF_NOW, &status), 0);
    CHECK_EQUAL(status, -SIGKILL);
    sf_process_destroy(process);
    munmap(page, sizeof(int));
}

static void a_child_of_somebody_else_is_left_alone(void)
{
    int status;
    pid_t pid = fork();

    if (pid == 0)
        _exit(8);
    CHECK_EQUAL(end_peer(start_peer(leave_at_once, NULL)), 0);
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(WEXITSTATUS(status), 8);
}

/* -------------------------------------------------------- release and destroy */

static void a_release_kills_and_reaps(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);
    int status = 0;

    sf_process_release(process);
    CHECK(!check_has_children());
    CHECK_EQUAL(sf_process_wait(process, SF_NOW, &status), 0);
    CHECK_EQUAL(status, -SIGKILL);
    CHECK_EQUAL(sf_process_is_alive(process), 0);
    sf_process_release(process);
    sf_process_destroy(process);
}

static void a_stopped_child_is_released_too(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);

    stop_peer(process);
    sf_process_destroy(process);
    CHECK(!check_has_children());
}

static void *wait_for_release(void *process)
{
    int status, rc;

    do
        rc = sf_process_wait(process, SF_FOREVER, &status);
    while (rc == -EINTR);
    CHECK(rc == 0 ? status == -SIGKILL : rc == -EBADF);
    return NULL;
}

static void a_release_waits_for_those_who_wait(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);
    pthread_t thread;

    pthread_create(&thread, NULL, wait_for_release, process);
    sf_process_release(process);
    pthread_join(thread, NULL);
    sf_process_destroy(process);
}

static void destroying_nothing_is_allowed(void)
{
    sf_process_destroy(NULL);
}

static void use_a_handle_of_the_parent(void *process)
{
    int status = 5;

    CHECK_EQUAL(sf_process_wait(process, SF_NOW, &status), -ECHILD);
    CHECK_EQUAL(sf_process_wait_briefly(process, NULL, SF_FOREVER, &status), -ECHILD);
    CHECK_EQUAL(sf_process_is_alive(process), -ECHILD);
    CHECK_EQUAL(sf_process_kill(process, SIGKILL), -ECHILD);
    CHECK_EQUAL(sf_process_pid(process), -ECHILD);
    CHECK_EQUAL(sf_process_fileno(process), -ECHILD);
    CHECK_EQUAL(sf_process_spawn(process, NULL), -ECHILD);
    sf_process_release(process);
    sf_process_destroy(process);
    CHECK_EQUAL(status, 5);
}

static void in_another_process_a_handle_does_nothing(void)
{
    struct sf_process *process = start_peer(stay_forever, NULL);

    CHECK_EQUAL(end_peer(start_peer(use_a_handle_of_the_parent, process)), 0);
    CHECK_EQUAL(sf_process_is_alive(process), 1);
    kill_peer(process);
}

static void a_child_may_destroy_its_own_handle(void)
{
    struct sf_process *process = make_process();

    if (sf_process_spawn(process, NULL) == 0) {
        sf_process_destroy(process);
        _exit(0);
    }
    CHECK_EQUAL(end_peer(process), 0);
}

/* ------------------------------------------------------- the parent's death */

struct family {
    _Atomic int child, grandchild;
};

static void be_a_grandchild(void *subject)
{
    struct family *family = subject;

    family->grandchild = getpid();
    stay_forever(NULL);
}

static void be_a_child(void *subject)
{
    struct family *family = subject;

    start_peer(be_a_grandchild, family);
    family->child = getpid();
    stay_forever(NULL);
}

static void be_a_parent(void *subject)
{
    start_peer(be_a_child, subject);
    stay_forever(NULL);
}

static bool is_gone(pid_t pid)
{
    char state = state_of(pid);

    return state == 0 || state == 'Z' || state == 'X';
}

static void children_and_grandchildren_die_with_the_parent(void)
{
    struct family *family = (void *)(uintptr_t)make_progress();
    struct sf_process *parent = start_peer(be_a_parent, family);
    int64_t killed_ms;

    WAIT_UNTIL(family->child != 0 && family->grandchild != 0);
    CHECK_EQUAL(sf_process_kill(parent, SIGKILL), 0);
    killed_ms = check_now_ms();
    WAIT_UNTIL(is_gone(family->child) && is_gone(family->grandchild));
    CHECK(check_now_ms() - killed_ms < 1000);
    CHECK_EQUAL(end_peer(parent), -SIGKILL);
    munmap(family, 4096);
}

static void spawn_and_exit(void *subject)
{
    struct family *family = subject;

    start_peer(be_a_grandchild, family);
    WAIT_UNTIL(family->grandchild != 0);
}

static void children_die_when_their_parent_exits(void)
{
    struct family *family = (void *)(uintptr_t)make_progress();

    CHECK_EQUAL(end_peer(start_peer(spawn_and_exit, family)), 0);
    WAIT_UNTIL(is_gone(family->grandchild));
    munmap(family, 4096);
}

static void become_nobody_between_two_children(void *unused)
{
    (void)unused;
    CHECK_EQUAL(end_peer(start_peer(leave_at_once, NULL)), 0);
    CHECK_EQUAL(seteuid(65534), 0);
    CHECK_EQUAL(end_peer(start_peer(leave_at_once, NULL)), 0);
}

/* Its descriptors cannot be opened again then; only root can show it. */
static void who_became_another_user_can_have_children(void)
{
    if (geteuid() == 0)
        CHECK_EQUAL(end_peer(start_peer(become_nobody_between_two_children, NULL)), 0);
}

static void siblings_do_not_keep_each_other_alive(void)
{
    struct sf_process *first = start_peer(stay_forever, NULL);
    struct sf_process *second = start_peer(stay_forever, NULL);

    kill_peer(first);
    CHECK_EQUAL(sf_process_is_alive(second), 1);
    kill_peer(second);
}

int main(void)
{
    check_begin(100);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(an_exit_code_is_the_status);
    RUN(a_signal_is_a_negative_status);
    RUN(a_status_can_be_asked_for_again);
    RUN(waiting_ends_at_the_deadline);
    RUN(a_signal_ends_a_wait);
    RUN(all_threads_get_the_same_answer);
    RUN(a_brief_wait_ends_with_the_child_and_leaves_its_message);
    RUN(after_a_child_that_sent_much_others_are_looked_at_only);
    RUN(a_child_that_stays_is_waited_for_briefly_and_seldom);
    RUN(a_child_that_was_not_spawned_has_nothing);
    RUN(a_handle_takes_no_descriptor_before_the_spawn);
    RUN(a_child_costs_one_descriptor);
    RUN(a_handle_is_spawned_once);
    RUN(a_released_handle_cannot_be_spawned);
    RUN(a_fork_that_failed_can_be_tried_again);
    RUN(the_fork_is_done_by_the_function_given);
    RUN(without_a_descriptor_there_is_no_child);
    RUN(one_descriptor_is_enough_for_a_child);
    RUN(a_bad_signal_is_refused);
    RUN(the_signal_mask_is_what_it_was_on_both_sides);
    RUN(no_handler_runs_around_the_fork);
    RUN(a_running_child_is_alive_until_it_ended);
    RUN(a_stopped_child_runs_and_goes_on);
    RUN(a_child_that_has_ended_cannot_be_killed);
    RUN(the_descriptor_tells_the_end);
    RUN(a_status_that_others_took_is_recovered);
    RUN(a_stolen_signal_is_recovered_or_said_to_be_unknown);
    RUN(ignored_child_signals_lose_no_status);
    RUN(a_child_gone_before_the_fork_returned_is_a_child_that_ended);
    RUN(a_dead_child_has_ended_while_its_memory_goes);
    RUN(a_child_of_somebody_else_is_left_alone);
    RUN(a_release_kills_and_reaps);
    RUN(a_stopped_child_is_released_too);
    RUN(a_release_waits_for_those_who_wait);
    RUN(destroying_nothing_is_allowed);
    RUN(in_another_process_a_handle_does_nothing);
    RUN(a_child_may_destroy_its_own_handle);
    RUN(children_and_grandchildren_die_with_the_parent);
    RUN(children_die_when_their_parent_exits);
    RUN(who_became_another_user_can_have_children);
    RUN(siblings_do_not_keep_each_other_alive);
    return check_end();
}
