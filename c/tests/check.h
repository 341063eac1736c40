/* SPDX-License-Identifier: MIT */
/* What every test program is made of.
 *
 * A test is a function whose name is the sentence that it checks. RUN calls it
 * and then looks whether it left anything behind: a descriptor, a child, a
 * shared mapping. A program that does not come to its end is ended, with all
 * its children, by a timer; nothing here can hang.
 *
 *     int main(void)
 *     {
 *         check_begin(30);
 *         RUN(an_empty_channel_has_no_message);
 *         return check_end();
 *     }
 *
 * Checks count from any thread. In a child they count for the child, whose
 * exit code tells its parent, see peer.h.
 */
#ifndef SNAKEFISH_CHECK_H
#define SNAKEFISH_CHECK_H

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define UNDER_SANITIZER 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define UNDER_SANITIZER 1
#endif
#ifndef UNDER_SANITIZER
#define UNDER_SANITIZER 0
#endif

#ifndef UNDER_COVERAGE
#define UNDER_COVERAGE 0
#endif

#define CHECK(condition) check_condition((condition) ? 1 : 0, #condition, __FILE__, __LINE__)
#define CHECK_EQUAL(actual, expected)                                                              \
    check_equal((long long)(actual), (long long)(expected), #actual, __FILE__, __LINE__)
#define RUN(test) check_run(#test, test)

/* Wait for a condition that somebody else makes true. */
#define WAIT_UNTIL(condition)                                                                      \
    do {                                                                                           \
        int64_t check_deadline_ms = check_now_ms() + 20000;                                        \
        while (!(condition) && check_now_ms() < check_deadline_ms)                                 \
            check_pause();                                                                         \
        CHECK(condition);                                                                          \
    } while (0)

static struct {
    int passed, failed;
    _Atomic int failed_checks;
    const char *current;
} check_state;

static inline int64_t check_now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static inline void check_pause(void)
{
    const struct timespec moment = {.tv_nsec = 200000};

    nanosleep(&moment, NULL);
}

static inline bool check_condition(bool holds, const char *text, const char *file, int line)
{
    if (!holds) {
        atomic_fetch_add(&check_state.failed_checks, 1);
        fprintf(stderr, "%s:%d: in %s: not true: %s\n", file, line, check_state.current, text);
    }
    return holds;
}

static inline bool check_equal(long long actual, long long expected, const char *text,
                               const char *file, int line)
{
    if (actual != expected) {
        atomic_fetch_add(&check_state.failed_checks, 1);
        fprintf(stderr, "%s:%d: in %s: %s is %lld, not %lld\n", file, line, check_state.current,
                text, actual, expected);
    }
    return actual == expected;
}

#if UNDER_SANITIZER
/* A process holds its life mutex as long as it lives, whatever it locks
 * besides; to ThreadSanitizer that looks like an order turned round. And a
 * child leaves without joining the threads of its parent. */
const char *__tsan_default_options(void);

__attribute__((visibility("default"))) const char *__tsan_default_options(void)
{
    return "detect_deadlocks=0 report_thread_leaks=0";
}
#endif

/* ---------------------------------------------------- what may be left over */

static inline int check_count_descriptors(void)
{
    DIR *directory = opendir("/proc/self/fd");
    int count = 0;

    while (directory != NULL && readdir(directory) != NULL)
        count++;
    if (directory != NULL)
        closedir(directory);
    return count;
}

static inline int check_count_mappings(void)
{
    FILE *maps = fopen("/proc/self/maps", "r");
    char line[512], permissions[8];
    int count = 0;

    while (maps != NULL && fgets(line, sizeof line, maps) != NULL)
        count += sscanf(line, "%*s %7s", permissions) == 1 && permissions[3] == 's';
    if (maps != NULL)
        fclose(maps);
    return count;
}

static inline bool check_has_children(void)
{
    siginfo_t info;

    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

/* ------------------------------------------------------------------ programs */

static inline void check_time_is_up(int signal_number)
{
    static const char text[] = "the time is up\n";
    ssize_t ignored = write(STDERR_FILENO, check_state.current, strlen(check_state.current));

    (void)signal_number;
    ignored += write(STDERR_FILENO, ": ", 2);
    ignored += write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    kill(0, SIGKILL);
}

/* The program gets its own process group, so that the timer ends all of it. */
static inline void check_begin(unsigned seconds)
{
    struct sigaction time_is_up = {.sa_handler = check_time_is_up};
    unsigned slowness = UNDER_SANITIZER || UNDER_COVERAGE ? 4 : 1;

    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    check_state.current = "main";
    sigaction(SIGALRM, &time_is_up, NULL);
    alarm(seconds * slowness);
}

static inline void check_run(const char *name, void (*test)(void))
{
    int descriptors = check_count_descriptors(), mappings = check_count_mappings();

    check_state.current = name;
    check_state.failed_checks = 0;
    test();
    CHECK_EQUAL(check_count_descriptors(), descriptors);
    CHECK_EQUAL(check_count_mappings(), mappings);
    CHECK(!check_has_children());
    printf("%s %s\n", check_state.failed_checks == 0 ? "ok" : "FAILED", name);
    if (check_state.failed_checks == 0)
        check_state.passed++;
    else
        check_state.failed++;
}

static inline int check_end(void)
{
    printf("%d passed, %d failed\n", check_state.passed, check_state.failed);
    return check_state.failed > 0;
}

/* This machine cannot show what the program is about. */
static inline int check_skip(const char *reason)
{
    printf("cannot be tested here: %s\n", reason);
    return 77;
}

#endif
