/* SPDX-License-Identifier: MIT */
/* Death at every step of every operation, deterministically.
 *
 * The library is built with SF_KILL_POINTS. A victim performs one operation
 * and is killed by SIGKILL at its n-th step, for n = 1, 2, ... until it
 * survives; that is repeated over sizes, backlogs and places in a segment,
 * alone, against a live peer, and behind another death. Afterwards a survivor
 * must find everything that was sent before, whole, once and in order; at most
 * the message in the victim's hands may be missing, or be there. Then it sends
 * and receives, within a second, and no segment stays behind.
 *
 *     test_kill_points [N]      N times as much, for a soak
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

#define BACKLOG_SENDER 1
#define PATIENCE_MS 1000

long sf_kill_countdown;
void sf_kill_point_reached(void);

void sf_kill_point_reached(void)
{
    if (sf_kill_countdown > 0 && --sf_kill_countdown == 0)
        kill(getpid(), SIGKILL);
}

/* One scene: a channel as it stands before the victim enters. */
struct scene {
    size_t capacity, size;
    uint32_t backlog; /* messages that wait */
    uint64_t offset;  /* where in a segment the channel stands */
    bool is_live;     /* the survivor is at work while the victim is */
    struct sf_channel *channel;
    struct sf_message *message;
};

/* What the victim does. */
struct role {
    const char *name;
    void (*prepare)(struct scene *); /* by the victim, before the countdown */
    void (*act)(struct scene *, uint32_t sender);
    bool sends, receives, closes;
    bool by_three; /* three messages at one stroke */
};

/* What the survivor has found so far. */
struct found {
    uint32_t next; /* of the backlog */
    uint32_t lost; /* of the backlog, at its beginning */
    uint32_t of_victims;
    int64_t end;
};

static long killed, survived;

/* A message says by its tag who sent it and which one it is, for the smallest
 * have no room to say it themselves. */
static int tag_of(uint32_t sender, uint32_t number)
{
    return (int)(sender << 6 | number);
}

static int send_as(struct scene *scene, uint32_t sender, uint32_t number, int64_t deadline_ns)
{
    unsigned char *data = make_filled((struct mark){sender, number, scene->size});
    int rc = send_until(scene->channel, tag_of(sender, number), data, scene->size, deadline_ns);

    free(data);
    return rc;
}

static void look_at(struct scene *scene, struct found *found, int64_t result)
{
    uint32_t sender = (uint32_t)(result & 0xff) >> 6, number = (uint32_t)result & 63;
    struct mark mark = {sender, number, scene->size};

    CHECK_EQUAL(result >> 8, scene->size);
    CHECK(is_intact(sf_message_data(scene->message), mark));
    if (sender != BACKLOG_SENDER) {
        found->of_victims++;
        return;
    }
    if (found->next == 0)
        found->lost = found->next = number;
    CHECK_EQUAL(number, found->next);
    found->next = number + 1;
}

/* Take everything there is, to the end that the victim's death makes. */
static void drain(struct scene *scene, struct found *found)
{
    int64_t result;

    for (;;) {
        result = sf_channel_receive(scene->channel, scene->message, in_ms(PATIENCE_MS));
        if (result >= 0)
            look_at(scene, found, result);
        else if (result != -EINTR)
            break;
    }
    found->end = result;
}

/* ------------------------------------------------------------------- scenes */

static void move_to_offset(struct scene *scene)
{
    static const unsigned char filler[RING_SEGMENT_SIZE];

    if (scene->offset == 0)
        return;
    CHECK_EQUAL(sf_channel_send(scene->channel, 0, filler, scene->offset - 8, SF_NOW), 0);
    CHECK(receive_until(scene->channel, scene->message, SF_NOW) >= 0);
}

static void open_scene(struct scene *scene)
{
    scene->channel = make_channel(scene->capacity);
    scene->message = make_message();
    move_to_offset(scene);
    for (uint32_t i = 0; i < scene->backlog; i++)
        CHECK_EQUAL(send_as(scene, BACKLOG_SENDER, i, SF_NOW), 0);
}

static void close_scene(struct scene *scene)
{
    sf_message_destroy(scene->message);
    sf_channel_destroy(scene->channel);
}

/* Does the channel do its work as if nothing had happened? */
static void check_vitality(struct scene *scene)
{
    static const size_t sizes[] = {70000, 140000, 0};
    struct sf_channel *channel = scene->channel;
    int64_t began_ms = check_now_ms();

    for (uint32_t i = 0; i < 3; i++) {
        if (sizes[i] > scene->capacity)
            continue;
        CHECK_EQUAL(send_marked(channel, 3, i, sizes[i], SF_NOW), 0);
        receive_marked(channel, scene->message, 3, i, sizes[i]);
    }
    CHECK(check_now_ms() - began_ms < PATIENCE_MS);
    CHECK(sf_channel_used(channel) == 0);
    CHECK(ring_segments_in_use(&channel->ring) <= 1);
}

/* ------------------------------------------------------------------ victims */

static struct sf_process *start_victim(struct scene *scene, const struct role *role,
                                       uint32_t sender, long countdown)
{
    struct sf_process *victim = NULL;

    CHECK_EQUAL(sf_process_create(&victim), 0);
    if (sf_process_spawn(victim, NULL) == 0) {
        if (role->prepare != NULL)
            role->prepare(scene);
        sf_kill_countdown = countdown;
        role->act(scene, sender);
        sf_kill_countdown = 0;
        _exit(check_state.failed_checks);
    }
    return victim;
}

/* True when it came to its end alive. */
static bool end_victim(struct sf_process *victim)
{
    int status = end_peer(victim);

    CHECK(status == 0 || status == -SIGKILL);
    killed += status == -SIGKILL;
    survived += status == 0;
    return status == 0;
}

/* While the victim works: the other side of its operation. */
static void work_against(struct scene *scene, const struct role *role, struct found *found)
{
    int rc;

    if (role->sends) {
        drain(scene, found);
        return;
    }
    rc = send_as(scene, BACKLOG_SENDER, scene->backlog, in_ms(2 * PATIENCE_MS));
    CHECK(rc == 0 || rc == -EPIPE);
}

static void check_found(struct scene *scene, const struct role *role, const struct found *found,
                        uint32_t victims, uint32_t survivors)
{
    CHECK(found->end == -EPIPE || (role->closes && found->end == -ESHUTDOWN));
    if (role->by_three) {
        CHECK(found->of_victims % 3 == 0);
        victims *= 3;
        survivors *= 3;
    }
    CHECK(found->of_victims >= (role->sends ? survivors : 0) && found->of_victims <= victims);
    if (scene->is_live && role->receives)
        return;
    CHECK(found->lost <= (role->receives ? victims : 0));
    CHECK(found->next == scene->backlog || (role->receives && found->next == 0));
}

/* Returns whether the victim survived its countdown. */
static bool play(struct scene *scene, const struct role *role, long first_countdown, long countdown)
{
    struct found found = {.end = 0};
    uint32_t victims = 1, survivors = 0;
    struct sf_process *victim;
    bool lives;

    open_scene(scene);
    if (first_countdown > 0) {
        survivors += end_victim(start_victim(scene, role, 0, first_countdown));
        victims++;
    }
    victim = start_victim(scene, role, 2, countdown);
    if (scene->is_live)
        work_against(scene, role, &found);
    lives = end_victim(victim);
    drain(scene, &found);
    check_found(scene, role, &found, victims, survivors + lives);
    if (found.end == -EPIPE && !role->closes)
        check_vitality(scene);
    close_scene(scene);
    return lives;
}

static void die_at_every_step(struct scene scene, const struct role *role, long first_countdown)
{
    int failures = check_state.failed_checks;

    for (long n = 1; n < 2000 && check_state.failed_checks == failures; n++)
        if (play(&scene, role, first_countdown, n))
            return;
        else if (check_state.failed_checks != failures)
            fprintf(stderr, "%s, first %ld, step %ld, size %zu, backlog %u, offset %lu\n",
                    role->name, first_countdown, n, scene.size, scene.backlog,
                    (unsigned long)scene.offset);
    CHECK(check_state.failed_checks == failures);
}

/* -------------------------------------------------------------------- roles */

static void send_one(struct scene *scene, uint32_t sender)
{
    int64_t deadline_ns = scene->is_live ? in_ms(5 * PATIENCE_MS) : SF_NOW;

    CHECK_EQUAL(send_as(scene, sender, 0, deadline_ns), 0);
}

static void receive_one(struct scene *scene, uint32_t sender)
{
    (void)sender;
    CHECK(receive_until(scene->channel, scene->message, in_ms(5 * PATIENCE_MS)) >= 0);
}

static void send_three(struct scene *scene, uint32_t sender)
{
    unsigned char *data = malloc(3 * scene->size + 1);
    uint64_t heads[3];

    for (uint32_t i = 0; i < 3; i++) {
        unsigned char *filled = make_filled((struct mark){sender, i, scene->size});

        memcpy(data + i * scene->size, filled, scene->size);
        free(filled);
        heads[i] = (uint64_t)result_of(scene->size, tag_of(sender, i));
    }
    CHECK_EQUAL(sf_channel_send_many(scene->channel, data, heads, 3, in_ms(5 * PATIENCE_MS)), 0);
    free(data);
}

static void receive_three(struct scene *scene, uint32_t sender)
{
    (void)sender;
    CHECK(sf_channel_receive_many(scene->channel, scene->message, 3, in_ms(5 * PATIENCE_MS)) > 0);
}

static void take_everything(struct scene *scene)
{
    while (receive_until(scene->channel, scene->message, SF_NOW) >= 0)
        ;
}

static void wait_a_little(struct scene *scene, uint32_t sender)
{
    (void)sender;
    CHECK_EQUAL(receive_until(scene->channel, scene->message, in_ms(1)), -EAGAIN);
}

static void on_interruption(int number)
{
    (void)number;
}

/* A signal every millisecond: whatever waits for ever comes back soon. */
static timer_t begin_interruptions(void)
{
    struct sigaction action = {.sa_handler = on_interruption};
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1};
    struct itimerspec every = {{0, 1000000}, {0, 1000000}};
    timer_t timer;

    CHECK_EQUAL(sigaction(SIGUSR1, &action, NULL), 0);
    CHECK_EQUAL(timer_create(CLOCK_MONOTONIC, &event, &timer), 0);
    CHECK_EQUAL(timer_settime(timer, 0, &every, NULL), 0);
    return timer;
}

/* Half a message, larger than the channel: both sides stop in the middle. */
static void half_send(struct scene *scene)
{
    unsigned char *data = make_filled((struct mark){2, 0, scene->capacity * 3});
    timer_t timer = begin_interruptions();

    CHECK_EQUAL(
        sf_channel_send(scene->channel, tag_of(2, 0), data, scene->capacity * 3, SF_FOREVER),
        -EINTR);
    timer_delete(timer);
    free(data);
}

static void give_up(struct scene *scene, uint32_t sender)
{
    (void)sender;
    sf_channel_cancel(scene->channel);
}

static void close_channel(struct scene *scene, uint32_t sender)
{
    (void)sender;
    CHECK_EQUAL(sf_channel_close(scene->channel), 0);
}

static void close_both_ends(struct scene *scene, uint32_t sender)
{
    (void)sender;
    CHECK_EQUAL(sf_channel_close_send(scene->channel), 0);
    CHECK_EQUAL(sf_channel_close_receive(scene->channel), 0);
}

static void leave_channel(struct scene *scene, uint32_t sender)
{
    (void)sender;
    sf_channel_release(scene->channel);
}

static const struct role sending = {"send", .act = send_one, .sends = true};
static const struct role receiving = {"receive", .act = receive_one, .receives = true};
static const struct role sending_three = {"send three", .act = send_three, .sends = true,
                                          .by_three = true};
static const struct role receiving_three = {"receive three", .act = receive_three, .receives = true,
                                            .by_three = true};
static const struct role waiting = {"wait", .prepare = take_everything, .act = wait_a_little,
                                    .receives = true};
static const struct role cancelling = {"cancel", .prepare = half_send, .act = give_up};
static const struct role closing = {"close", .act = close_channel, .closes = true};
static const struct role closing_ends = {"close ends", .act = close_both_ends};
static const struct role leaving = {"release", .act = leave_channel};
static const struct role leaving_half = {"release half", .prepare = half_send,
                                         .act = leave_channel};

/* -------------------------------------------------------------------- tests */

static const size_t whole_sizes[] = {0, 1, 8, 1000, 65520, 65529, 131072};
static const size_t stream_sizes[] = {131073, 200000, 400000};
static const uint64_t offsets[] = {0, 65496, 65512, 65520, 65528};
static const uint32_t backlogs[] = {0, 1, 3};
static int repetitions = 1;

#define FOR_EACH(type, name, array)                                                                \
    for (const type *name = array; name < array + sizeof array / sizeof *array; name++)

static void play_sizes(const struct role *role, const size_t *sizes, size_t count,
                       uint32_t smallest_backlog)
{
    for (const size_t *size = sizes; size < sizes + count; size++)
        FOR_EACH(uint64_t, offset, offsets)
    FOR_EACH(uint32_t, backlog, backlogs)
    if (*backlog >= smallest_backlog)
        die_at_every_step(
            (struct scene){
                .capacity = 2 * MIB, .size = *size, .backlog = *backlog, .offset = *offset},
            role, 0);
}

/* Who mends what a dead process left may die as well, at every step. */
static void play_twice(const struct role *role, size_t size)
{
    uint32_t backlog = role->by_three ? 6 : 3; /* for two victims */
    struct scene scene = {.capacity = MIB, .size = size, .backlog = backlog, .offset = 65512};

    for (long first = 1; first <= 24; first++)
        die_at_every_step(scene, role, first);
}

static void a_sender_may_die_at_every_step(void)
{
    play_sizes(&sending, whole_sizes, sizeof whole_sizes / sizeof *whole_sizes, 0);
}

static void a_sender_of_a_stream_may_die_at_every_step(void)
{
    play_sizes(&sending, stream_sizes, sizeof stream_sizes / sizeof *stream_sizes, 0);
}

static void a_receiver_may_die_at_every_step(void)
{
    play_sizes(&receiving, whole_sizes, sizeof whole_sizes / sizeof *whole_sizes, 1);
}

static const size_t third_sizes[] = {0, 1, 1000, 21840, 43690};

static void a_sender_of_three_sends_all_or_none(void)
{
    play_sizes(&sending_three, third_sizes, sizeof third_sizes / sizeof *third_sizes, 0);
    play_twice(&sending_three, 43690);
}

static void a_receiver_of_three_may_die_at_every_step(void)
{
    play_sizes(&receiving_three, third_sizes, sizeof third_sizes / sizeof *third_sizes, 3);
    play_twice(&receiving_three, 43690);
}

static void a_receiver_of_a_stream_may_die_at_every_step(void)
{
    play_sizes(&receiving, stream_sizes, sizeof stream_sizes / sizeof *stream_sizes, 1);
}

static const size_t live_sizes[] = {100, 70000, 300000};

/* Messages of up to three times the capacity. */
static void play_live(const struct role *role)
{
    FOR_EACH(size_t, size, live_sizes)
    FOR_EACH(uint64_t, offset, offsets)
    die_at_every_step(
        (struct scene){.capacity = 100000, .size = *size, .offset = *offset, .is_live = true}, role,
        0);
}

static void a_sender_may_die_while_its_message_is_received(void)
{
    play_live(&sending);
}

static void a_receiver_may_die_while_its_message_is_sent(void)
{
    play_live(&receiving);
}

static void a_waiting_receiver_may_die_at_every_step(void)
{
    FOR_EACH(uint32_t, backlog, backlogs)
    die_at_every_step((struct scene){.capacity = 2 * MIB, .size = 60000, .backlog = *backlog},
                      &waiting, 0);
}

static void a_sender_may_die_behind_a_dead_sender(void)
{
    play_twice(&sending, 70000);
    play_twice(&sending, 140000);
}

static void a_receiver_may_die_behind_a_dead_receiver(void)
{
    play_twice(&receiving, 70000);
    play_twice(&receiving, 140000);
}

static void play_all_backlogs(const struct role *role)
{
    FOR_EACH(uint64_t, offset, offsets)
    FOR_EACH(uint32_t, backlog, backlogs)
    die_at_every_step(
        (struct scene){.capacity = 256 * KIB, .size = 5000, .backlog = *backlog, .offset = *offset},
        role, 0);
}

static void who_closes_may_die_at_every_step(void)
{
    play_all_backlogs(&closing);
    play_all_backlogs(&closing_ends);
}

static void who_leaves_may_die_at_every_step(void)
{
    play_all_backlogs(&leaving);
    play_all_backlogs(&leaving_half);
}

static void who_gives_up_may_die_at_every_step(void)
{
    play_all_backlogs(&cancelling);
}

int main(int argument_count, char **arguments)
{
    if (argument_count > 1)
        repetitions = atoi(arguments[1]);
    check_begin(120u * (unsigned)repetitions);
    end_peer(start_peer(leave_at_once, NULL));
    for (int i = 0; i < repetitions; i++) {
        RUN(a_sender_may_die_at_every_step);
        RUN(a_sender_of_a_stream_may_die_at_every_step);
        RUN(a_receiver_may_die_at_every_step);
        RUN(a_receiver_of_a_stream_may_die_at_every_step);
        RUN(a_sender_of_three_sends_all_or_none);
        RUN(a_receiver_of_three_may_die_at_every_step);
        RUN(a_sender_may_die_while_its_message_is_received);
        RUN(a_receiver_may_die_while_its_message_is_sent);
        RUN(a_waiting_receiver_may_die_at_every_step);
        RUN(a_sender_may_die_behind_a_dead_sender);
        RUN(a_receiver_may_die_behind_a_dead_receiver);
        RUN(who_closes_may_die_at_every_step);
        RUN(who_leaves_may_die_at_every_step);
        RUN(who_gives_up_may_die_at_every_step);
    }
    printf("%ld killed, %ld came to their end\n", killed, survived);
    return check_end();
}
#endif
