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

int main(void)
{
    check_begin(60);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(a_deadline_is_kept_while_a_stopped_sender_holds_the_lock);
    RUN(a_deadline_is_kept_while_a_stopped_receiver_holds_the_lock);
    RUN(what_a_stopped_sender_sends_arrives_once);
    RUN(a_close_in_the_middle_of_a_send_loses_nothing);
    RUN(a_fork_in_the_middle_of_a_release_finishes_it_in_the_child);
    return check_end();
}
#endif
