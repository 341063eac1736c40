/* SPDX-License-Identifier: MIT */
/* A hostile peer, without a fuzzer: scripts of damage from a seeded generator,
 * and a process that damages a channel while we are inside of it, so that what
 * was checked a moment ago is not true any more. hostile.h says what is damaged
 * and what must hold.
 *
 *     test_hostile [FILE...]    play these scripts, as a fuzzer has found them
 */
#define _GNU_SOURCE
#include "hostile.h"
#include "peer.h"

#define SCRIPT_COUNT (UNDER_SANITIZER ? 3000 : 12000)
#define SCRIPT_SIZE 400
#define ROUND_COUNT 12
#define ROUND_MS 80

/* Half of the bytes are small, for those that choose. */
static size_t make_script(unsigned char *bytes, uint64_t seed)
{
    size_t size = noise(seed) % SCRIPT_SIZE;

    for (size_t i = 0; i < size; i++) {
        uint64_t random = noise(seed * SCRIPT_SIZE + i);

        bytes[i] = (unsigned char)(random % 2 == 0 ? random >> 8 : (random >> 8) % 24);
    }
    return size;
}

static void any_script_of_damage_comes_to_its_end(void)
{
    unsigned char bytes[SCRIPT_SIZE];

    for (uint64_t seed = 0; seed < SCRIPT_COUNT; seed++)
        play_script(bytes, make_script(bytes, seed));
}

/* Streams of nothing, of less than there is, and of more than anybody has. */
static void a_stream_of_an_impossible_size_is_an_error(void)
{
    static const uint64_t totals[] = {0, 1000, 70000, UINT64_C(1) << 47, UINT64_MAX};
    static const unsigned char data[200000];

    for (size_t i = 0; i < sizeof totals / sizeof *totals; i++) {
        struct sf_channel *channel = make_channel(MIB);
        struct sf_message *message = make_message();

        CHECK_EQUAL(sf_channel_send(channel, 1, data, sizeof data, SF_NOW), 0);
        memcpy(frame_at(&channel->ring, 0) + 8, &totals[i], sizeof totals[i]);
        CHECK_EQUAL(receive_until(channel, message, SF_NOW), -EBADMSG);
        sf_message_destroy(message);
        sf_channel_destroy(channel);
    }
}

/* --------------------------------------------- damage in the middle of a call */

static void damage_without_end(void *subject)
{
    static void (*const acts[])(struct stage *) = {damage_frame,    damage_with_many_frames,
                                                   damage_position, damage_hint,
                                                   damage_segment,  damage_mark,
                                                   damage_end,      damage_waiting,
                                                   damage_setting,  damage_position};
    struct stage *stage = subject;
    unsigned char bytes[SCRIPT_SIZE];

    for (uint64_t seed = stage->dead;; seed++) {
        stage->script = (struct script){bytes, make_script(bytes, seed)};
        while (stage->script.size > 0)
            acts[next_bytes(stage, 1) % (sizeof acts / sizeof *acts)](stage);
    }
}

static void use_for(struct stage *stage, int64_t milliseconds)
{
    static void (*const acts[])(struct stage *) = {call_send, call_receive, call_send, call_receive,
                                                   call_cancel};
    int64_t until_ms = check_now_ms() + milliseconds;
    unsigned char bytes[SCRIPT_SIZE];

    for (uint64_t seed = 0; check_now_ms() < until_ms; seed++) {
        stage->script = (struct script){bytes, make_script(bytes, seed)};
        while (stage->script.size > 0)
            acts[next_bytes(stage, 1) % (sizeof acts / sizeof *acts)](stage);
    }
}

static void a_peer_that_writes_anywhere_at_any_time_does_no_harm(void)
{
    struct stage stage = {.live = liveness_self()};
    struct sf_process *peer;

    for (uint64_t round = 0; round < ROUND_COUNT; round++) {
        stage.channel = make_channel((size_t)1 << (10 + round % 9));
        stage.message = make_message();
        stage.half_sent = false;
        stage.dead = round << 32;
        peer = start_peer(damage_without_end, &stage);
        use_for(&stage, ROUND_MS);
        take_leave(&stage);
        kill_peer(peer);
    }
}

/* ---------------------------------------------------------------------- files */

static void play_file(const char *name)
{
    static unsigned char bytes[1 << 16];
    FILE *file = fopen(name, "rb");

    if (!CHECK(file != NULL))
        return;
    play_script(bytes, fread(bytes, 1, sizeof bytes, file));
    fclose(file);
}

int main(int argument_count, char **arguments)
{
    check_begin(60);
    end_peer(start_peer(leave_at_once, NULL));
    for (int i = 1; i < argument_count; i++)
        play_file(arguments[i]);
    if (argument_count == 1) {
        RUN(any_script_of_damage_comes_to_its_end);
        RUN(a_stream_of_an_impossible_size_is_an_error);
        RUN(a_peer_that_writes_anywhere_at_any_time_does_no_harm);
    }
    return check_end();
}
