/* SPDX-License-Identifier: MIT */
/* Random deaths, a fixed number of them, from a seed.
 *
 * Senders and receivers share one channel; every so often one of them is
 * killed, sometimes after it was stopped for a while, and replaced. What must
 * hold: no message is torn or arrives twice, each sender's order is kept, what
 * a sender was told is sent arrives unless a receiver died with it in its
 * hands, and after each death the others go on within a second.
 *
 *     test_storm [KILLS [SEED]]
 */
#define _GNU_SOURCE
#include "channel.h"
#include "peer.h"

#define SENDER_COUNT 3
#define RECEIVER_COUNT 2
#define ROW_LENGTH 1000
#define SPARE_ROWS 10000 /* more than can be filled before the time is up */

/* What the processes tell each other; a row for so many messages of a sender. */
struct row {
    _Atomic uint32_t sent; /* send returned so often */
    _Atomic uint8_t times[ROW_LENGTH];
};

struct storm {
    struct sf_channel *channel;
    _Atomic uint64_t received, damaged;
    _Atomic uint32_t row_count;
    uint32_t row_limit;
    struct row rows[];
};

struct actor {
    struct storm *storm;
    struct sf_process *process;
    bool sends;
};

static int kill_count = 300;
static uint64_t seed = 1;
static uint32_t receivers_killed;
static int64_t worst_stall_ms;

static size_t size_of(uint32_t row, uint32_t number)
{
    uint64_t random = noise((uint64_t)row << 32 | number);

    return 16 + random / 16 % (random % 16 == 0 ? 300000 : random % 16 < 4 ? 20000 : 200);
}

static bool send_row(struct storm *storm, uint32_t row)
{
    for (uint32_t number = 0; number < ROW_LENGTH; number++) {
        if (send_marked(storm->channel, row, number, size_of(row, number), SF_FOREVER) != 0)
            return false;
        atomic_store(&storm->rows[row].sent, number + 1);
    }
    return true;
}

/* However long nobody is killed, it does not fall silent. */
static void send_for_ever(void *subject)
{
    struct storm *storm = ((struct actor *)subject)->storm;
    uint32_t row;

    do
        row = atomic_fetch_add(&storm->row_count, 1);
    while (row < storm->row_limit && send_row(storm, row));
    stay_forever(NULL);
}

static void receive_for_ever(void *subject)
{
    struct storm *storm = ((struct actor *)subject)->storm;
    struct sf_message *message = make_message();
    uint32_t *next = calloc(storm->row_limit, sizeof *next);
    struct mark mark = {0, 0, 0};
    int64_t result;

    for (;;) {
        result = receive_until(storm->channel, message, SF_FOREVER);
        if (result == -EPIPE)
            continue;
        if (result < 0 || !read_mark(message, result, &mark) || mark.sender >= storm->row_limit ||
            mark.number >= ROW_LENGTH || mark.number < next[mark.sender]) {
            atomic_fetch_add(&storm->damaged, 1);
            continue;
        }
        next[mark.sender] = mark.number + 1;
        atomic_fetch_add(&storm->rows[mark.sender].times[mark.number], 1);
        atomic_fetch_add(&storm->received, 1);
    }
}

static void enter(struct actor *actor)
{
    actor->process = start_peer(actor->sends ? send_for_ever : receive_for_ever, actor);
}

/* Remembers when it was last looked for in vain. */
static bool have_come(struct storm *storm, uint64_t enough, int64_t *missed_ms)
{
    if (atomic_load(&storm->received) >= enough)
        return true;
    *missed_ms = check_now_ms();
    return false;
}

/* Let messages pass; what takes longest is remembered. What passes unseen, because
 * the looking itself is kept from the processor, is no stall. */
static void wait_for_messages(struct storm *storm, uint64_t count)
{
    uint64_t enough = atomic_load(&storm->received) + count;
    int64_t began_ms = check_now_ms(), missed_ms = began_ms;

    WAIT_UNTIL(have_come(storm, enough, &missed_ms));
    if (missed_ms - began_ms > worst_stall_ms)
        worst_stall_ms = missed_ms - began_ms;
}

static void leave_in_peace(struct storm *storm)
{
    WAIT_UNTIL(atomic_load(&storm->received) > 2 * SENDER_COUNT * ROW_LENGTH);
}

static void strike(struct actor *actor, uint64_t random)
{
    if (random % 5 == 0) {
        sf_process_kill(actor->process, SIGSTOP);
        check_pause();
    }
    receivers_killed += !actor->sends;
    kill_peer(actor->process);
}

static struct storm *make_storm(size_t capacity, size_t *size)
{
    uint32_t row_limit = (uint32_t)kill_count + SPARE_ROWS;
    struct storm *storm;

    *size = sizeof *storm + row_limit * sizeof(struct row);
    storm = mmap(NULL, *size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                 -1, 0);
    storm->row_limit = row_limit;
    storm->channel = make_channel(capacity);
    return storm;
}

/* What is left when everybody is dead. */
static void drain(struct storm *storm)
{
    struct sf_message *message = make_message();
    struct mark mark = {0, 0, 0};
    int64_t result;

    while ((result = receive_until(storm->channel, message, in_ms(1000))) >= 0)
        if (CHECK(read_mark(message, result, &mark) && mark.sender < storm->row_limit))
            atomic_fetch_add(&storm->rows[mark.sender].times[mark.number], 1);
    CHECK_EQUAL(result, -EPIPE);
    CHECK_EQUAL(send_marked(storm->channel, 1, 1, 8 * KIB, SF_NOW), 0);
    CHECK(receive_marked(storm->channel, message, 1, 1, 8 * KIB));
    CHECK(ring_segments_in_use(&storm->channel->ring) <= 1);
    sf_message_destroy(message);
}

static void check_rows(struct storm *storm)
{
    uint32_t lost = 0, doubled = 0, unsent = 0;

    for (uint32_t row = 0; row < storm->row_count && row < storm->row_limit; row++)
        for (uint32_t number = 0; number < ROW_LENGTH; number++) {
            uint8_t times = storm->rows[row].times[number];

            lost += times == 0 && number < storm->rows[row].sent;
            doubled += times > 1;
            unsent += times > 0 && number > storm->rows[row].sent;
        }
    CHECK_EQUAL(doubled, 0);
    CHECK_EQUAL(unsent, 0);
    CHECK_EQUAL(storm->damaged, 0);
    CHECK(lost <= receivers_killed);
    printf("%u rows, %llu messages, %u receivers killed, %u messages died with them, worst stall "
           "%lld ms\n",
           storm->row_count, (unsigned long long)storm->received, receivers_killed, lost,
           (long long)worst_stall_ms);
}

static void rage(size_t capacity)
{
    struct actor actors[SENDER_COUNT + RECEIVER_COUNT];
    uint64_t random = seed;
    struct storm *storm;
    size_t size;

    storm = make_storm(capacity, &size);
    receivers_killed = 0;
    worst_stall_ms = 0;
    for (int i = 0; i < SENDER_COUNT + RECEIVER_COUNT; i++) {
        actors[i] = (struct actor){.storm = storm, .sends = i < SENDER_COUNT};
        enter(&actors[i]);
    }
    leave_in_peace(storm);
    for (int i = 0; i < kill_count; i++) {
        random = noise(random);
        wait_for_messages(storm, random % 40);
        strike(&actors[random / 64 % (SENDER_COUNT + RECEIVER_COUNT)], random / 1024);
        enter(&actors[random / 64 % (SENDER_COUNT + RECEIVER_COUNT)]);
    }
    for (int i = 0; i < SENDER_COUNT + RECEIVER_COUNT; i++)
        strike(&actors[i], 1);
    drain(storm);
    check_rows(storm);
    CHECK(worst_stall_ms < 1000 * (UNDER_SANITIZER ? 5 : 1));
    sf_channel_destroy(storm->channel);
    munmap(storm, size);
}

static void a_small_channel_weathers_any_death(void)
{
    rage(8 * KIB);
}

static void a_large_channel_weathers_any_death(void)
{
    rage(4 * MIB);
}

int main(int argument_count, char **arguments)
{
    if (argument_count > 1)
        kill_count = atoi(arguments[1]);
    if (argument_count > 2)
        seed = strtoull(arguments[2], NULL, 10);
    check_begin(60u + (unsigned)kill_count / 5);
    end_peer(start_peer(leave_at_once, NULL));
    RUN(a_small_channel_weathers_any_death);
    RUN(a_large_channel_weathers_any_death);
    printf("%d killed, seed %llu\n", 2 * kill_count, (unsigned long long)seed);
    return check_end();
}
