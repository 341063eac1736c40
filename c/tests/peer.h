/* SPDX-License-Identifier: MIT */
/* Other processes, other threads, and messages that show whether they are
 * whole: what the tests of a channel have in common. */
#ifndef SNAKEFISH_PEER_H
#define SNAKEFISH_PEER_H

#include "check.h"
#include "snakefish.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#define MS INT64_C(1000000)
#define KIB ((size_t)1 << 10)
#define MIB ((size_t)1 << 20)

static inline int64_t in_ms(int64_t milliseconds)
{
    return sf_clock_now_ns() + milliseconds * MS;
}

/* ----------------------------------------------------------------- processes */

/* Start a child that calls `act`; its failed checks are its exit code. */
static inline struct sf_process *start_peer(void (*act)(void *), void *subject)
{
    struct sf_process *peer = NULL;
    int rc = sf_process_create(&peer);

    CHECK_EQUAL(rc, 0);
    fflush(NULL);
    rc = sf_process_spawn(peer, NULL);
    if (rc == 0) {
        check_state.failed_checks = 0;
        act(subject);
        _exit(check_state.failed_checks);
    }
    CHECK(rc > 0);
    return peer;
}

static inline int wait_for_peer(struct sf_process *peer)
{
    int status = -1000, rc;

    do
        rc = sf_process_wait(peer, SF_FOREVER, &status);
    while (rc == -EINTR);
    CHECK_EQUAL(rc, 0);
    return status;
}

/* Returns its exit status. */
static inline int end_peer(struct sf_process *peer)
{
    int status = wait_for_peer(peer);

    sf_process_destroy(peer);
    return status;
}

static inline void kill_peer(struct sf_process *peer)
{
    CHECK_EQUAL(sf_process_kill(peer, SIGKILL), 0);
    CHECK_EQUAL(end_peer(peer), -SIGKILL);
}

/* The letter that proc(5) gives for a process or thread: R, S, T, Z. */
static inline char state_of(pid_t task)
{
    char path[64], text[512] = "", *name_end;
    FILE *file;

    snprintf(path, sizeof path, "/proc/%d/stat", (int)task);
    file = fopen(path, "r");
    if (file == NULL)
        return 0;
    if (fgets(text, sizeof text, file) == NULL)
        text[0] = '\0';
    fclose(file);
    name_end = strrchr(text, ')');
    return name_end != NULL ? name_end[2] : '\0';
}

static inline void stop_peer(struct sf_process *peer)
{
    CHECK_EQUAL(sf_process_kill(peer, SIGSTOP), 0);
    WAIT_UNTIL(state_of(sf_process_pid(peer)) == 'T');
}

/* For a child that has nothing to do but live. */
static inline void stay_forever(void *unused)
{
    (void)unused;
    for (;;)
        pause();
}

static inline void leave_at_once(void *unused)
{
    (void)unused;
}

/* A word that processes tell each other their progress by. */
static inline _Atomic int *make_progress(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    return memory;
}

static inline void free_progress(_Atomic int *progress)
{
    munmap((void *)(uintptr_t)progress, 4096);
}

/* ------------------------------------------------------------------- signals */

static inline void ignore_signal(int signal_number)
{
    (void)signal_number;
}

/* Run in a thread: send another one SIGUSR1 as soon as the process sleeps. */
static inline void *interrupt(void *thread)
{
    WAIT_UNTIL(state_of(getpid()) == 'S');
    pthread_kill(*(pthread_t *)thread, SIGUSR1);
    return NULL;
}

/* ------------------------------------------------------------------ channels */

static inline struct sf_channel *make_channel(size_t capacity)
{
    struct sf_channel *channel = NULL;

    CHECK_EQUAL(sf_channel_create(capacity, 0, &channel), 0);
    return channel;
}

static inline struct sf_message *make_message(void)
{
    struct sf_message *message = NULL;

    CHECK_EQUAL(sf_message_create(&message), 0);
    return message;
}

/* Call again after every -EINTR, as the callers of the library do. */
static inline int send_until(struct sf_channel *channel, int tag, const void *data, size_t size,
                             int64_t deadline_ns)
{
    int rc;

    do
        rc = sf_channel_send(channel, tag, data, size, deadline_ns);
    while (rc == -EINTR);
    return rc;
}

static inline int64_t receive_until(struct sf_channel *channel, struct sf_message *message,
                                    int64_t deadline_ns)
{
    int64_t result;

    do
        result = sf_channel_receive(channel, message, deadline_ns);
    while (result == -EINTR);
    return result;
}

static inline int64_t result_of(size_t size, int tag)
{
    return (int64_t)(size << 8 | (unsigned)tag);
}

/* -------------------------------------------------- messages that show damage */

/* Every eighth of it depends on who sends it, on its number and on its place.
 * Messages of 16 bytes and more begin with both, see read_mark. */
struct mark {
    uint32_t sender, number;
    uint64_t size;
};

static inline uint64_t noise(uint64_t seed)
{
    /* splitmix64, after Steele, Lea, Flood 2014 */
    seed += UINT64_C(0x9e3779b97f4a7c15);
    seed = (seed ^ (seed >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    seed = (seed ^ (seed >> 27)) * UINT64_C(0x94d049bb133111eb);
    return seed ^ (seed >> 31);
}

static inline uint64_t word_at(struct mark mark, size_t offset)
{
    return noise((uint64_t)mark.sender << 32 | mark.number) + offset * 0x100000001b3u;
}

static inline void fill(unsigned char *data, struct mark mark)
{
    for (size_t offset = 0; offset < mark.size; offset += 8) {
        uint64_t word = word_at(mark, offset);

        memcpy(data + offset, &word, mark.size - offset < 8 ? mark.size - offset : 8);
    }
    if (mark.size >= sizeof mark)
        memcpy(data, &mark, sizeof mark);
}

static inline bool is_intact(const unsigned char *data, struct mark mark)
{
    size_t offset = mark.size >= sizeof mark ? sizeof mark : 0;

    if (offset > 0 && memcmp(data, &mark, sizeof mark) != 0)
        return false;
    for (; offset < mark.size; offset += 8) {
        uint64_t word = word_at(mark, offset);

        if (memcmp(data + offset, &word, mark.size - offset < 8 ? mark.size - offset : 8) != 0)
            return false;
    }
    return true;
}

/* Who sent the message, which one it is; false if it is not what was sent. */
static inline bool read_mark(struct sf_message *message, int64_t result, struct mark *mark)
{
    const unsigned char *data = sf_message_data(message);

    if (result >> 8 < (int64_t)sizeof *mark)
        return false;
    memcpy(mark, data, sizeof *mark);
    return mark->size == (uint64_t)result >> 8 && is_intact(data, *mark);
}

static inline unsigned char *make_filled(struct mark mark)
{
    unsigned char *data = malloc(mark.size + 1);

    fill(data, mark);
    return data;
}

static inline int send_marked(struct sf_channel *channel, uint32_t sender, uint32_t number,
                              size_t size, int64_t deadline_ns)
{
    struct mark mark = {sender, number, size};
    unsigned char *data = make_filled(mark);
    int rc = send_until(channel, (int)(number & 0xff), data, size, deadline_ns);

    free(data);
    return rc;
}

/* Receive a message and see whether it is the one expected. */
static inline bool receive_marked(struct sf_channel *channel, struct sf_message *message,
                                  uint32_t sender, uint32_t number, size_t size)
{
    struct mark mark = {sender, number, size};
    int64_t result = receive_until(channel, message, in_ms(20000));

    return CHECK_EQUAL(result, result_of(size, (int)(number & 0xff))) &&
           CHECK(is_intact(sf_message_data(message), mark));
}

#endif
