/* SPDX-License-Identifier: MIT */
/* Stopping, rather than dying, at every step: a process that was stopped by
 * SIGSTOP with a lock in its hands, and threads held up in the middle of a
 * call, so that what others do at that very moment can be seen.
 *
 * The library is built with SF_KILL_POINTS, as for test_kill_points.
 */
#define _GNU_SOURCE
#include "channel.h"
#include "peer.h"

#include <sys/time.h>

#ifndef SF_KILL_POINTS
int main(void)
{
    return check_skip("the library was built without SF_KILL_POINTS");
}
#else

long sf_kill_countdown;                   /* stops the process */
static _Thread_local long hold_countdown; /* holds up the thread */
static _Atomic int held, let_go;
void sf_kill_point_reached(void);

void sf_kill_point_reached(void)
{
    if (sf_kill_countdown > 0 && --sf_kill_countdown == 0)
        raise(SIGSTOP);
    if (hold_countdown > 0 && --hold_countdown == 0) {
        atomic_store(&held, 1);
        while (!atomic_load(&let_go))
            check_pause();
    }
}

struct scene {
    struct sf_channel *channel;
    struct sf_message *message;
    long countdown;
    size_t size;
};

static struct scene make_scene(size_t capacity, size_t size)
{
    return (struct scene){make_channel(capacity), make_message(), 0, size};
}

static void free_scene(struct scene *scene)
{
    sf_message_destroy(scene->message);
    sf_channel_destroy(scene->channel);
}

/* The exit code says whether it was sent. */
static void send_and_stop(void *subject)
{
    struct scene *scene = subject;
    int rc;

    sf_kill_countdown = scene->countdown;
    rc = send_marked(scene->channel, 1, 1, scene->size, SF_NOW);
    CHECK(rc == 0 || rc == -ESHUTDOWN);
    _exit(rc == 0 ? check_state.failed_checks : 99);
}

static void receive_and_stop(void *subject)
{
    struct scene *scene = subject;

    sf_kill_countdown = scene->countdown;
    CHECK_EQUAL(receive_until(scene->channel, scene->message, SF_NOW), result_of(scene->size, 1));
}

/* True when it stopped, false when it came to its end before. */
static bool wait_for_stop(struct sf_process *peer)
{
    pid_t pid = sf_process_pid(peer);

    WAIT_UNTIL(state_of(pid) == 'T' || state_of(pid) == 'Z');
    return state_of(pid) == 'T';
}

static int go_on(struct sf_process *peer)
{
    sf_process_kill(peer, SIGCONT);
    return end_peer(peer);
}

/* ---------------------------------------------------- a lock that is not free */

static void a_deadline_is_kept_while_a_stopped_sender_holds_the_lock(void)
{
    struct scene scene = make_scene(64 * KIB, 100);
    struct sf_process *peer;
    int64_t began_ms;

    scene.countdown = 1;
    peer = start_peer(send_and_stop, &scene);
    CHECK(wait_for_stop(peer));
    began_ms = check_now_ms();
    CHECK_EQUAL(send_marked(scene.channel, 2, 1, 100, SF_NOW), -ENOBUFS);
    CHECK_EQUAL(send_marked(scene.channel, 2, 1, 100, in_ms(120)), -ENOBUFS);
    CHECK(check_now_ms() - began_ms < 1000);
    CHECK_EQUAL(sf_channel_send(scene.channel, 0, "a", 1, SF_FOREVER), -EINTR);
    CHECK_EQUAL(go_on(peer), 0);
    CHECK(receive_marked(scene.channel, scene.message, 1, 1, 100));
    free_scene(&scene);
}

static void a_deadline_is_kept_while_a_stopped_receiver_holds_the_lock(void)
{
    struct scene scene = make_scene(64 * KIB, 100);
    struct sf_process *peer;
    int64_t began_ms;

    CHECK_EQUAL(send_marked(scene.channel, 1, 1, 100, SF_NOW), 0);
    scene.countdown = 1;
    peer = start_peer(receive_and_stop, &scene);
    CHECK(wait_for_stop(peer));
    began_ms = check_now_ms();
    CHECK_EQUAL(receive_until(scene.channel, scene.message, SF_NOW), -EAGAIN);
    CHECK_EQUAL(receive_until(scene.channel, scene.message, in_ms(120)), -EAGAIN);
    CHECK(check_now_ms() - began_ms < 1000);
    CHECK_EQUAL(sf_channel_receive(scene.channel, scene.message, SF_FOREVER), -EINTR);
    CHECK_EQUAL(go_on(peer), 0);
    free_scene(&scene);
}

/* ---------------------------------------------- stopped at every step of a send */

static void what_a_stopped_sender_sends_arrives_once(void)
{
    bool stopped = true;

    for (long n = 1; n < 200 && stopped; n++) {
        struct scene scene = make_scene(MIB, 200000);
        struct sf_process *peer;
        int64_t result;
        int count = 0;

        scene.countdown = n;
        peer = start_peer(send_and_stop, &scene);
        stopped = wait_for_stop(peer);
        result = receive_until(scene.channel, scene.message, in_ms(5));
        count += result == result_of(scene.size, 1);
        CHECK_EQUAL(go_on(peer), 0);
        while ((result = receive_until(scene.channel, scene.message, SF_FOREVER)) >= 0)
            count++;
        CHECK_EQUAL(result, -EPIPE);
        CHECK_EQUAL(count, 1);
        free_scene(&scene);
    }
    CHECK(!stopped);
}

/* ----------------------------------------------------------------- closing */

static int receive_all(struct scene *scene, int64_t *end)
{
    int count = 0;

    while ((*end = receive_until(scene->channel, scene->message, in_ms(1))) >= 0)
        count++;
    return count;
}

/* Who was told the end must not be sent anything after it. */
static void a_close_in_the_middle_of_a_send_loses_nothing(void)
{
    bool stopped = true;

    for (long n = 1; n < 200 && stopped; n++) {
        struct scene scene = make_scene(64 * KIB, 100);
        struct sf_process *peer;
        int64_t end;
        int count, status;

        scene.countdown = n;
        peer = start_peer(send_and_stop, &scene);
        stopped = wait_for_stop(peer);
        sf_channel_close(scene.channel);
        count = receive_all(&scene, &end);
        status = go_on(peer);
        if (end != -ESHUTDOWN)
            count += receive_all(&scene, &end);
        CHECK(status == 0 || status == 99);
        if (!CHECK_EQUAL(count, status == 0))
            fprintf(stderr, "stopped at step %ld\n", n);
        free_scene(&scene);
    }
    CHECK(!stopped);
}

/* -------------------------------------------------- a fork during a release */

static void *receive_held_up(void *subject)
{
    struct scene *scene = subject;

    hold_countdown = 1;
    CHECK_EQUAL(receive_until(scene->channel, scene->message, SF_FOREVER), -EBADF);
    return NULL;
}

static void *release(void *subject)
{
    sf_channel_release(((struct scene *)subject)->channel);
    return NULL;
}

static void destroy_and_fork(void *subject)
{
    struct scene *scene = subject;

    sf_channel_destroy(scene->channel);
    CHECK_EQUAL(end_peer(start_peer(leave_at_once, NULL)), 0);
}

static void a_fork_in_the_middle_of_a_release_finishes_it_in_the_child(void)
{
    struct scene scene = make_scene(64 * KIB, 100);
    pthread_t receiver, releaser;

    pthread_create(&receiver, NULL, receive_held_up, &scene);
    WAIT_UNTIL(atomic_load(&held));
    pthread_create(&releaser, NULL, release, &scene);
    WAIT_UNTIL(channel_is_released(scene.channel));
    CHECK_EQUAL(end_peer(start_peer(destroy_and_fork, &scene)), 0);
    atomic_store(&let_go, 1);
    pthread_join(receiver, NULL);
    pthread_join(releaser, NULL);
    free_scene(&scene);
}

/* -------------------------------------- leaving while a stopped process has a lock */

#define PATIENCE_MS 1000

static void on_alarm(int number)
{
    (void)number;
}

/* Part of a message of four times the capacity is under way, from this thread. */
static void half_send(struct scene *scene)
{
    static const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    struct sigaction action = {.sa_handler = on_alarm}, before;
    static unsigned char data[MIB];

    CHECK_EQUAL(sigaction(SIGVTALRM, &action, NULL), 0);
    CHECK_EQUAL(sigaction(SIGALRM, &action, &before), 0);
    setitimer(ITIMER_REAL, &often, NULL);
    CHECK_EQUAL(sf_channel_send(scene->channel, 9, data, sizeof data, SF_FOREVER), -EINTR);
    setitimer(ITIMER_REAL, &never, NULL);
    sigaction(SIGALRM, &before, NULL);
    alarm(60);
}

/* Does the channel do its work, for this process alone? */
static void check_vitality(struct scene *scene)
{
    CHECK_EQUAL(receive_until(scene->channel, scene->message, in_ms(PATIENCE_MS)) < 0, 1);
    CHECK_EQUAL(send_marked(scene->channel, 1, 1, 100, in_ms(PATIENCE_MS)), 0);
    CHECK(receive_marked(scene->channel, scene->message, 1, 1, 100));
}

static void stop_with(struct scene *scene, pthread_mutex_t *lock)
{
    CHECK_EQUAL(pthread_mutex_lock(lock), 0);
    raise(SIGSTOP);
    pthread_mutex_unlock(lock);
    check_vitality(scene);
}

static void stop_as_sender(void *subject)
{
    struct scene *scene = subject;

    stop_with(scene, &scene->channel->region->sending.lock);
}

static void stop_as_receiver(void *subject)
{
    struct scene *scene = subject;

    stop_with(scene, &scene->channel->region->receiving.lock);
}

/* A process that is stopped with a lock, while this one has half sent and half
 * received a message. */
static struct sf_process *start_stopped(struct scene *scene, void (*act)(void *))
{
    struct sf_process *peer;

    *scene = make_scene(256 * KIB, 0);
    half_send(scene);
    CHECK_EQUAL(receive_until(scene->channel, scene->message, SF_NOW), -EAGAIN);
    peer = start_peer(act, scene);
    CHECK(wait_for_stop(peer));
    return peer;
}

static void who_gives_up_does_not_wait_for_a_stopped_process(void)
{
    struct scene scene;
    struct sf_process *peer = start_stopped(&scene, stop_as_sender);
    int64_t began_ms = check_now_ms();

    sf_channel_cancel(scene.channel);
    CHECK(check_now_ms() - began_ms < PATIENCE_MS);
    CHECK_EQUAL(sf_channel_send(scene.channel, 1, "a", 1, SF_NOW), -ENOBUFS);
    sf_channel_close_receive(scene.channel);
    CHECK_EQUAL(go_on(peer), 0);
    check_vitality(&scene);
    free_scene(&scene);
}

static void who_closes_its_end_does_not_wait_for_a_stopped_process(void)
{
    struct scene scene;
    struct sf_process *peer = start_stopped(&scene, stop_as_receiver);
    int64_t began_ms = check_now_ms();

    CHECK_EQUAL(sf_channel_close_receive(scene.channel), 0);
    CHECK(check_now_ms() - began_ms < PATIENCE_MS);
    sf_channel_cancel(scene.channel);
    CHECK_EQUAL(go_on(peer), 0);
    check_vitality(&scene);
    free_scene(&scene);
}

static void leaves_in_time(void (*act)(void *))
{
    struct scene scene;
    struct sf_process *peer = start_stopped(&scene, act);
    int64_t began_ms = check_now_ms();

    sf_channel_release(scene.channel);
    CHECK(check_now_ms() - began_ms < PATIENCE_MS);
    CHECK_EQUAL(go_on(peer), 0);
    free_scene(&scene);
}

static void who_leaves_does_not_wait_for_a_stopped_process(void)
{
    leaves_in_time(stop_as_sender);
    leaves_in_time(stop_as_receiver);
}

/* --------------------------------------- a sender on its way out of a bare fork */

static _Atomic int *fork_gate; /* 1 holds children up before they are members */

static void wait_at_the_gate(void)
{
    while (fork_gate != NULL && atomic_load(fork_gate) == 1)
        check_pause();
}

static void a_bare_fork_counts_before_it_is_one_of_the_family(void)
{
    struct scene scene = make_scene(64 * KIB, 100);
    pid_t pid;

    end_peer(start_peer(leave_at_once, NULL)); /* the channel is shared from now on */
    fork_gate = make_progress();
    atomic_store(fork_gate, 1);
    pid = fork();
    if (pid == 0)
        _exit(send_marked(scene.channel, 1, 1, 100, SF_NOW) != 0);
    CHECK_EQUAL(receive_until(scene.channel, scene.message, in_ms(5)), -EAGAIN);
    atomic_store(fork_gate, 0);
    CHECK(receive_marked(scene.channel, scene.message, 1, 1, 100));
    CHECK_EQUAL(waitpid(pid, NULL, 0), pid);
    free_progress(fork_gate);
    fork_gate = NULL;
    free_scene(&scene);
}

/* ------------------------------------ a receiver that a half message keeps away */

static void receive_small(void *subject)
{
    struct scene *scene = subject;

    CHECK(receive_marked(scene->channel, scene->message, 1, 2, 50));
}

static void send_both(void *subject)
{
    struct scene *scene = subject;

    CHECK_EQUAL(send_marked(scene->channel, 1, 1, scene->size, SF_FOREVER), 0);
    CHECK_EQUAL(send_marked(scene->channel, 1, 2, 50, SF_FOREVER), 0);
}

static bool somebody_waits(struct scene *scene)
{
    return park_is_awaited(&scene->channel->region->data);
}

/* Stopped between two slices of its sleep it would not ask to be woken. */
static void stop_while_it_waits(struct sf_process *peer, struct scene *scene)
{
    WAIT_UNTIL(somebody_waits(scene));
    stop_peer(peer);
    while (!somebody_waits(scene)) {
        CHECK_EQUAL(sf_process_kill(peer, SIGCONT), 0);
        WAIT_UNTIL(somebody_waits(scene));
        stop_peer(peer);
    }
}

/* Even a message that is a stream only because the channel is so small. The
 * sender is stopped while its first half is received, and so is the receiver
 * that waits for the end. */
static void the_end_of_a_stream_wakes_whom_it_kept_away(void)
{
    struct scene scene = make_scene(1000, 1500);
    struct sf_process *sender = start_peer(send_both, &scene), *receiver;
    uint32_t sequence;

    WAIT_UNTIL(sf_channel_used(scene.channel) > 0);
    stop_peer(sender);
    CHECK_EQUAL(receive_until(scene.channel, scene.message, SF_NOW), -EAGAIN);
    receiver = start_peer(receive_small, &scene);
    CHECK_EQUAL(go_on(sender), 0);
    stop_while_it_waits(receiver, &scene);
    sequence = atomic_load(&scene.channel->region->data.sequence);
    CHECK(receive_marked(scene.channel, scene.message, 1, 1, scene.size));
    CHECK(atomic_load(&scene.channel->region->data.sequence) != sequence);
    CHECK_EQUAL(go_on(receiver), 0);
    free_scene(&scene);
}

int main(void)
{
    check_begin(60);
    pthread_atfork(NULL, NULL, wait_at_the_gate); /* the first, so that it runs before ours */
    end_peer(start_peer(leave_at_once, NULL));
    RUN(a_deadline_is_kept_while_a_stopped_sender_holds_the_lock);
    RUN(a_deadline_is_kept_while_a_stopped_receiver_holds_the_lock);
    RUN(what_a_stopped_sender_sends_arrives_once);
    RUN(a_close_in_the_middle_of_a_send_loses_nothing);
    RUN(a_fork_in_the_middle_of_a_release_finishes_it_in_the_child);
    RUN(who_gives_up_does_not_wait_for_a_stopped_process);
    RUN(who_closes_its_end_does_not_wait_for_a_stopped_process);
    RUN(who_leaves_does_not_wait_for_a_stopped_process);
    RUN(a_bare_fork_counts_before_it_is_one_of_the_family);
    RUN(the_end_of_a_stream_wakes_whom_it_kept_away);
    return check_end();
}
#endif
