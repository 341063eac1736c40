/* SPDX-License-Identifier: MIT */
/* Every allocation and every system call fails, one at a time.
 *
 * The program is linked with --wrap for what the library calls and what can
 * fail. For every scene of the public interface, every such function and every
 * error it is known for, the n-th call fails, for n = 1, 2, ... until the scene
 * passes without; once with that call alone, and once with all that follow. A
 * process is forked for each, so that what a process does only once (founding
 * the family, installing handlers, opening the lifeline) fails as well.
 *
 * Each time: the scene ends well, or with a code that the header has for it;
 * then the same object does what was asked, and so does a fresh one; what was
 * sent arrives, once and whole; and in the end there are as many descriptors,
 * mappings, children and blocks of memory as without the failure.
 *
 * Not made to fail: pthread_mutex_lock, _unlock and _destroy, pthread_sigmask,
 * pthread_mutexattr_set*, clock_gettime, sysconf, getpid, gettid and sched_getcpu,
 * which do not for arguments like ours; munmap, after whose failure nobody could
 * do anything; FUTEX_WAKE, which wakes or finds nobody; nor kill and waitpid, which
 * come after another failure only.
 */
#define _GNU_SOURCE
#include "channel.h"
#include "peer.h"

#include <linux/futex.h>
#include <poll.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/time.h>

#define PAGE ((size_t)4096)

/* ------------------------------------------------------------------- failing */

struct fault {
    const char *function;
    int error;
};

/* What is to fail in this process, and in the children that it forks. */
static struct {
    const struct fault *fault;
    long first, calls;
    bool goes_on;
} armed;

/* Of all processes. */
static struct {
    _Atomic long one, all, of_trial; /* trials with one failure, with many; calls */
} * tally;

static long blocks; /* of memory, that this process has allocated */

/* The error that the call about to be made has to fail with, or 0. */
static int failing(const char *function)
{
    if (armed.fault == NULL || strcmp(armed.fault->function, function) != 0)
        return 0;
    armed.calls++;
    if (armed.goes_on ? armed.calls < armed.first : armed.calls != armed.first)
        return 0;
    atomic_fetch_add(&tally->of_trial, 1);
    errno = armed.fault->error;
    return errno;
}

#define WRAP(type, name, parameters, arguments, failure)                                           \
    type __real_##name parameters;                                                                 \
    type __wrap_##name parameters;                                                                 \
    type __wrap_##name parameters                                                                  \
    {                                                                                              \
        return failing(#name) != 0 ? (failure) : __real_##name arguments;                          \
    }

/* The functions of threads return the error itself. */
#define WRAP_RETURNING(name, parameters, arguments) WRAP(int, name, parameters, arguments, errno)

WRAP(void *, mmap, (void *at, size_t size, int protection, int flags, int file, off_t offset),
     (at, size, protection, flags, file, offset), MAP_FAILED)
WRAP(int, madvise, (void *memory, size_t size, int advice), (memory, size, advice), -1)
WRAP(int, ftruncate, (int file, off_t size), (file, size), -1)
WRAP(int, getrlimit, (int resource, struct rlimit *limit), (resource, limit), -1)
WRAP(int, pipe2, (int *ends, int flags), (ends, flags), -1)
WRAP(ssize_t, read, (int file, void *data, size_t size), (file, data, size), -1)
WRAP(ssize_t, pread, (int file, void *data, size_t size, off_t offset), (file, data, size, offset),
     -1)
WRAP(int, flock, (int file, int operation), (file, operation), -1)
WRAP(int, fstat, (int file, struct stat *status), (file, status), -1)
WRAP(int, poll, (struct pollfd * files, nfds_t count, int timeout), (files, count, timeout), -1)
WRAP(pid_t, fork, (void), (), -1)
WRAP_RETURNING(clock_nanosleep,
               (clockid_t clock, int flags, const struct timespec *time, struct timespec *left),
               (clock, flags, time, left))
WRAP_RETURNING(pthread_atfork, (void (*before)(void), void (*parent)(void), void (*child)(void)),
               (before, parent, child))
WRAP_RETURNING(pthread_mutexattr_init, (pthread_mutexattr_t * attributes), (attributes))
WRAP_RETURNING(pthread_mutex_init, (pthread_mutex_t * lock, const pthread_mutexattr_t *attributes),
               (lock, attributes))
WRAP_RETURNING(pthread_mutex_trylock, (pthread_mutex_t * lock), (lock))

/* Where a lock is not free at once, it is not free in time either. */
int __real_pthread_mutex_clocklock(pthread_mutex_t *, clockid_t, const struct timespec *);
int __wrap_pthread_mutex_clocklock(pthread_mutex_t *, clockid_t, const struct timespec *);

int __wrap_pthread_mutex_clocklock(pthread_mutex_t *lock, clockid_t clock,
                                   const struct timespec *until)
{
    return failing("pthread_mutex_trylock") == EBUSY
               ? ETIMEDOUT
               : __real_pthread_mutex_clocklock(lock, clock, until);
}

/* The memory is counted. */
void *__real_calloc(size_t, size_t);
void *__wrap_calloc(size_t, size_t);
void __real_free(void *);
void __wrap_free(void *);

void *__wrap_calloc(size_t count, size_t size)
{
    void *memory = failing("calloc") != 0 ? NULL : __real_calloc(count, size);

    blocks += memory != NULL;
    return memory;
}

void __wrap_free(void *memory)
{
    blocks -= memory != NULL;
    __real_free(memory);
}

/* A descriptor is closed, whatever close(2) says about it. */
int __real_close(int);
int __wrap_close(int);

int __wrap_close(int file)
{
    int rc = __real_close(file);

    return failing("close") != 0 ? -1 : rc;
}

/* That there is no child is true when somebody has taken it. */
int __real_waitid(idtype_t, id_t, siginfo_t *, int);
int __wrap_waitid(idtype_t, id_t, siginfo_t *, int);

int __wrap_waitid(idtype_t type, id_t id, siginfo_t *info, int options)
{
    if ((options & WNOWAIT) || failing("waitid") == 0)
        return __real_waitid(type, id, info, options);
    __real_waitid(type, id, info, options);
    errno = armed.fault->error;
    return -1;
}

int __real_open(const char *, int, ...);
int __wrap_open(const char *, int, ...);

int __wrap_open(const char *path, int flags, ...)
{
    return failing("open") != 0 ? -1 : __real_open(path, flags);
}

int __real_fcntl(int, int, ...);
int __wrap_fcntl(int, int, ...);

int __wrap_fcntl(int file, int command, ...)
{
    va_list arguments;
    long argument;

    va_start(arguments, command);
    argument = va_arg(arguments, long);
    va_end(arguments);
    return failing("fcntl") != 0 ? -1 : __real_fcntl(file, command, argument);
}

int __real_ioctl(int, unsigned long, ...);
int __wrap_ioctl(int, unsigned long, ...);

int __wrap_ioctl(int file, unsigned long request, ...)
{
    va_list arguments;
    void *argument;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    return failing("ioctl") != 0 ? -1 : __real_ioctl(file, request, argument);
}

static const char *name_of_call(long number, long operation)
{
    switch (number) {
    case SYS_memfd_create:
        return "memfd_create";
    case SYS_pidfd_open:
        return "pidfd_open";
    case SYS_pidfd_send_signal:
        return "pidfd_send_signal";
    case SYS_futex_waitv:
        return "futex_waitv";
    case SYS_futex:
        return (operation & FUTEX_CMD_MASK) == FUTEX_WAIT_BITSET ? "futex" : "";
    default:
        return "";
    }
}

long __real_syscall(long, ...);
long __wrap_syscall(long, ...);

long __wrap_syscall(long number, ...)
{
    va_list arguments;
    long taken[6] = {0};

    va_start(arguments, number);
    for (int i = 0; i < (number == SYS_futex ? 6 : 5); i++)
        taken[i] = va_arg(arguments, long);
    va_end(arguments);
    if (failing(name_of_call(number, taken[1])) != 0)
        return -1;
    return __real_syscall(number, taken[0], taken[1], taken[2], taken[3], taken[4], taken[5]);
}

static const struct fault faults[] = {
    {"calloc", ENOMEM},
    {"mmap", ENOMEM},
    {"mmap", EAGAIN},
    {"madvise", EINVAL},
    {"madvise", ENOMEM},
    {"memfd_create", EMFILE},
    {"memfd_create", ENOSYS},
    {"ftruncate", EFBIG},
    {"ftruncate", EINTR},
    {"getrlimit", EINVAL},
    {"pipe2", EMFILE},
    {"pipe2", ENFILE},
    {"fcntl", ENOMEM},
    {"fcntl", EINVAL},
    {"open", EMFILE},
    {"open", ENFILE},
    {"open", ENOENT},
    {"open", EACCES},
    {"read", EIO},
    {"read", EINTR},
    {"close", EINTR},
    {"close", EIO},
    {"poll", EINTR},
    {"poll", ENOMEM},
    {"ioctl", ENOTTY},
    {"pidfd_open", EMFILE},
    {"pidfd_open", ENFILE},
    {"pidfd_open", ENOMEM},
    {"pidfd_open", ENOSYS},
    {"pidfd_open", EPERM},
    {"pidfd_send_signal", EPERM},
    {"futex", EINTR},
    {"futex", EAGAIN},
    {"futex", ENOMEM},
    {"futex_waitv", EINTR},
    {"futex_waitv", EAGAIN},
    {"futex_waitv", ENOMEM},
    {"futex_waitv", ENOSYS},
    {"futex_waitv", EPERM},
    {"pread", EIO},
    {"flock", ENOLCK},
    {"flock", EWOULDBLOCK},
    {"fstat", EIO},
    {"waitid", ECHILD},
    {"fork", EAGAIN},
    {"fork", ENOMEM},
    {"clock_nanosleep", EINTR},
    {"pthread_atfork", ENOMEM},
    {"pthread_mutexattr_init", ENOMEM},
    {"pthread_mutex_init", ENOMEM},
    {"pthread_mutex_init", EAGAIN},
    {"pthread_mutex_init", ENOTSUP},
    {"pthread_mutex_trylock", EBUSY},
    {"pthread_mutex_trylock", ENOTRECOVERABLE},
};

/* -------------------------------------------------------------------- scenes */

/* What a scene is played with. */
struct world {
    struct sf_channel *channel;
    struct sf_message *message;
    struct sf_process *process;
    struct sf_counter *counter;
    struct sf_pages *pages;
    struct sf_image *image;
    pid_t pid;
    uint64_t parent;
    long sent, received;
};

struct scene {
    const char *name;
    void (*set_up)(struct world *);
    int64_t (*act)(struct world *); /* with failing calls; a code, or not negative */
    void (*tear_down)(struct world *);
    int codes[8]; /* that `act` may return instead, besides -ENOMEM and -EINTR */
};

static const unsigned char content[MIB];

static void need_nothing(struct world *world)
{
    (void)world;
}

static void need_channel(struct world *world)
{
    world->channel = make_channel(MIB);
    world->message = make_message();
}

/* Everything that was sent is there, and nothing else. */
static void check_messages(struct world *world)
{
    while (receive_until(world->channel, world->message, SF_NOW) >= 0)
        world->received++;
    CHECK_EQUAL(world->received, world->sent);
    CHECK_EQUAL(send_marked(world->channel, 1, 1, 200000, SF_NOW), 0);
    CHECK(receive_marked(world->channel, world->message, 1, 1, 200000));
}

static void drop_channel(struct world *world)
{
    check_messages(world);
    sf_channel_destroy(world->channel);
    sf_message_destroy(world->message);
}

/* A process that has ended in the middle of something. */
static void leave_behind(void (*act)(void *), struct world *world)
{
    world->parent = liveness_self();
    CHECK_EQUAL(end_peer(start_peer(act, world)), 0);
}

static void take_both_locks(void *subject)
{
    struct world *world = subject;

    CHECK(liveness_self() != world->parent);
    CHECK_EQUAL(pthread_mutex_lock(&world->channel->region->sending.lock), 0);
    CHECK_EQUAL(pthread_mutex_lock(&world->channel->region->receiving.lock), 0);
}

/* ------------------------------------------------------- scenes of a channel */

static int64_t create_channel(struct world *world)
{
    return sf_channel_create(100 * MIB, 0, &world->channel);
}

static int64_t create_small_channel(struct world *world)
{
    return sf_channel_create(200 * MIB, SF_CHANNEL_SHRINK, &world->channel);
}

/* It knows what a fork is, and survives the death of who has its locks. */
static void drop_new_channel(struct world *world)
{
    leave_behind(take_both_locks, world);
    CHECK_EQUAL(sf_channel_send(world->channel, 1, "a", 1, SF_NOW), 0);
    CHECK(sf_channel_capacity(world->channel) >= SF_CHANNEL_SMALLEST);
    sf_channel_destroy(world->channel);
}

static int64_t create_message(struct world *world)
{
    return sf_message_create(&world->message);
}

static void drop_message(struct world *world)
{
    sf_message_destroy(world->message);
}

static void need_bound_channel(struct world *world)
{
    CHECK_EQUAL(sf_channel_create(MIB, SF_CHANNEL_BOUND, &world->channel), 0);
    CHECK_EQUAL(sf_process_create(&world->process), 0);
    world->message = make_message();
}

static int64_t bind_sender(struct world *world)
{
    return sf_channel_bind_sender(world->channel, world->process);
}

static void drop_bound_channel(struct world *world)
{
    CHECK_EQUAL(sf_channel_receive(world->channel, world->message, SF_NOW), -EAGAIN);
    sf_process_destroy(world->process);
    CHECK_EQUAL(receive_until(world->channel, world->message, in_ms(1000)), -EPIPE);
    sf_channel_destroy(world->channel);
    sf_message_destroy(world->message);
}

static int64_t send_size(struct world *world, size_t size)
{
    int rc = sf_channel_send(world->channel, 1, content, size, SF_NOW);

    world->sent += rc == 0;
    return rc;
}

static int64_t send_small(struct world *world)
{
    return send_size(world, 100);
}

static int64_t send_large(struct world *world)
{
    return send_size(world, SF_MESSAGE_INLINE);
}

/* A stream that was interrupted goes on. */
static int64_t send_stream(struct world *world)
{
    return send_size(world, 500000);
}

static int64_t send_parts(struct world *world)
{
    const void *parts[] = {content, NULL, content + 7};
    const size_t sizes[] = {70000, 0, 70000};
    int rc = sf_channel_send_parts(world->channel, 2, parts, sizes, 3, SF_NOW);

    world->sent += rc == 0;
    return rc;
}

static void need_full_channel(struct world *world)
{
    need_channel(world);
    world->process = start_peer(stay_forever, NULL);
    while (send_size(world, 100000) == 0)
        ;
}

static int64_t wait_for_room(struct world *world)
{
    int rc = send_until(world->channel, 1, content, 100000, in_ms(2));

    return rc == -ENOBUFS ? 0 : rc;
}

static void need_small_message(struct world *world)
{
    need_channel(world);
    send_small(world);
}

static void need_stream(struct world *world)
{
    need_channel(world);
    send_stream(world);
}

static int64_t receive_message(struct world *world)
{
    int64_t result = sf_channel_receive(world->channel, world->message, SF_NOW);

    world->received += result >= 0;
    return result;
}

/* Somebody else may send, and recycled segments are at hand. */
static void need_silence(struct world *world)
{
    need_stream(world);
    world->process = start_peer(stay_forever, NULL);
    receive_message(world);
}

static int64_t wait_for_message(struct world *world)
{
    int64_t result = receive_until(world->channel, world->message, in_ms(2));

    return result == -EAGAIN ? 0 : result;
}

static void drop_channel_and_process(struct world *world)
{
    sf_process_destroy(world->process);
    drop_channel(world);
}

static void note_alarm(int number)
{
    (void)number;
}

/* What a signal every millisecond leaves half done. */
static void half_send(void *subject)
{
    static const struct itimerval often = {{0, 1000}, {0, 1000}}, never = {{0, 0}, {0, 0}};
    struct sigaction alarmed = {.sa_handler = note_alarm};
    struct world *world = subject;

    sigaction(SIGVTALRM, &alarmed, NULL);
    sigaction(SIGALRM, &alarmed, NULL);
    setitimer(ITIMER_REAL, &often, NULL);
    CHECK_EQUAL(sf_channel_send(world->channel, 1, content, sizeof content, SF_FOREVER), -EINTR);
    setitimer(ITIMER_REAL, &never, NULL);
}

static void need_half_sent(struct world *world)
{
    world->channel = make_channel(256 * KIB);
    world->message = make_message();
    half_send(world);
}

static void need_half_of_all(struct world *world)
{
    need_half_sent(world);
    CHECK_EQUAL(receive_until(world->channel, world->message, SF_NOW), -EAGAIN);
}

static int64_t cancel(struct world *world)
{
    sf_channel_cancel(world->channel);
    return 0;
}

static int64_t close_receive(struct world *world)
{
    return sf_channel_close_receive(world->channel);
}

static int64_t close_send(struct world *world)
{
    return sf_channel_close_send(world->channel);
}

static int64_t close_channel(struct world *world)
{
    return sf_channel_close(world->channel);
}

static int64_t release_channel(struct world *world)
{
    sf_channel_release(world->channel);
    return 0;
}

static int64_t measure_channel(struct world *world)
{
    return sf_channel_used(world->channel) > 0 && sf_channel_committed(world->channel) > 0 ? 0 : -1;
}

static void drop_closed_channel(struct world *world)
{
    sf_channel_destroy(world->channel);
    sf_message_destroy(world->message);
}

static void drop_cancelled(struct world *world)
{
    sf_channel_cancel(world->channel);
    drop_channel(world);
}

/* --------------------------------------------------- what the dead leave behind */

static void need_dead_holder(struct world *world)
{
    need_small_message(world);
    leave_behind(take_both_locks, world);
}

static void need_dead_streamer(struct world *world)
{
    world->channel = make_channel(256 * KIB);
    world->message = make_message();
    leave_behind(half_send, world);
}

/* A sleeper that learns of a death comes back between. */
static int64_t learn_of_death(struct world *world)
{
    int64_t result = sf_channel_receive(world->channel, world->message, in_ms(2));

    return result == -EPIPE || result == -EINTR || result == -EAGAIN ? 0 : result;
}

static int64_t send_past_the_dead(struct world *world)
{
    int rc = send_until(world->channel, 1, content, 100, in_ms(50));

    world->sent += rc == 0;
    return rc;
}

/* ------------------------------------------------------- scenes of a process */

static int64_t create_process(struct world *world)
{
    return sf_process_create(&world->process);
}

static void drop_process(struct world *world)
{
    sf_process_destroy(world->process);
}

static int64_t spawn(struct world *world)
{
    int rc = sf_process_spawn(world->process, NULL);

    if (rc == 0) {
        armed.fault = NULL;
        _exit(7);
    }
    return rc;
}

static void drop_new_process(struct world *world)
{
    uint64_t member = liveness_member_of(world->process);

    CHECK(spawn(world) > 0);
    CHECK_EQUAL(wait_for_peer(world->process), 7);
    CHECK(liveness_is_dead(member));
    drop_process(world);
}

static void need_process(struct world *world)
{
    CHECK_EQUAL(sf_process_create(&world->process), 0);
}

static bool may_fail_in_child(void)
{
    static const char *const functions[] = {"open", "fcntl", "poll"};
    bool may = false;

    for (size_t i = 0; i < 3 && armed.fault != NULL; i++)
        may |= strcmp(armed.fault->function, functions[i]) == 0;
    return may;
}

/* A child that nothing would tell of its parent's end has ended at once. */
static void drop_ended_process(struct world *world)
{
    int status = end_peer(world->process);

    CHECK(status == 7 || (status == -SIGKILL && may_fail_in_child()));
}

static void need_ended_child(struct world *world)
{
    struct pollfd ended = {.events = POLLIN};

    need_process(world);
    CHECK(spawn(world) > 0);
    ended.fd = sf_process_fileno(world->process);
    CHECK_EQUAL(__real_poll(&ended, 1, 10000), 1);
}

static int64_t wait_for_ended(struct world *world)
{
    int status = 7;
    int rc = sf_process_wait(world->process, SF_NOW, &status);

    CHECK_EQUAL(status, 7);
    return rc;
}

static void leave_with_record(void *unused)
{
    (void)unused;
    sf_process_exiting(7);
    _exit(7);
}

/* Its status was taken by somebody else. */
static void need_stolen_child(struct world *world)
{
    world->process = start_peer(leave_with_record, NULL);
    CHECK(waitpid(sf_process_pid(world->process), NULL, 0) > 0);
}

static void need_child(struct world *world)
{
    world->process = start_peer(stay_forever, NULL);
    world->pid = sf_process_pid(world->process);
}

static int64_t wait_for_child(struct world *world)
{
    int status = 0;
    int rc = sf_process_wait(world->process, in_ms(2), &status);

    return rc == -EAGAIN ? 0 : rc;
}

static int64_t ask_for_child(struct world *world)
{
    return sf_process_is_alive(world->process);
}

static int64_t signal_child(struct world *world)
{
    return sf_process_kill(world->process, SIGCONT);
}

static int64_t release_child(struct world *world)
{
    sf_process_release(world->process);
    return 0;
}

/* One that could not be killed is still there, and ours to end. */
static void drop_released(struct world *world)
{
    sf_process_destroy(world->process);
    if (kill(world->pid, SIGKILL) == 0) {
        CHECK(armed.fault != NULL && strcmp(armed.fault->function, "pidfd_send_signal") == 0);
        CHECK_EQUAL(waitpid(world->pid, NULL, 0), world->pid);
    }
}

/* A child that the library is not asked for uses what it inherits. */
static int64_t fork_bare(struct world *world)
{
    pid_t pid = __real_fork();

    if (pid == 0) {
        int rc = sf_channel_send(world->channel, 1, content, 100, SF_NOW);

        _exit(rc == 0 ? 0 : 1);
    }
    return pid;
}

static void drop_bare_fork(struct world *world)
{
    int status, sent = 0;

    while (waitpid(-1, &status, 0) > 0)
        sent += status == 0;
    world->sent += sent;
    drop_channel(world);
}

static void *make_channel_in_thread(void *world)
{
    need_channel(world);
    return NULL;
}

/* The family was founded by a thread, so that its death would prove nothing. */
static void need_channel_of_thread(struct world *world)
{
    pthread_t thread;

    CHECK_EQUAL(pthread_create(&thread, NULL, make_channel_in_thread, world), 0);
    pthread_join(thread, NULL);
}

/* A child looks whether its parent lives, which it does. */
static int64_t look_at_parent(struct world *world)
{
    pid_t pid = __real_fork();
    int status = -1;

    if (pid == 0) {
        int64_t end = receive_until(world->channel, world->message, in_ms(1));

        _exit(end == -EAGAIN || end == -EBADMSG || end == -ENOLCK ? 0 : 1);
    }
    CHECK_EQUAL(waitpid(pid, &status, 0), pid);
    CHECK_EQUAL(status, 0);
    return 0;
}

/* ---------------------------------------------------------------- other scenes */

static int64_t create_counter(struct world *world)
{
    return sf_counter_create(10, 3, &world->counter);
}

static void drop_counter(struct world *world)
{
    CHECK_EQUAL(sf_counter_take(world->counter, 0, 1), 0);
    sf_counter_destroy(world->counter);
}

/* --------------------------------------------------------------- scenes of pages */

#define MEMORY_SIZE (40 * PAGE)
#define WRITTEN (7 * PAGE + 3)

static int64_t create_pages(struct world *world)
{
    return sf_pages_create(MEMORY_SIZE, &world->pages);
}

static void need_pages(struct world *world)
{
    CHECK_EQUAL(create_pages(world), 0);
    ((char *)sf_pages_data(world->pages))[WRITTEN] = 1;
}

static void need_image(struct world *world)
{
    need_pages(world);
    CHECK_EQUAL(sf_image_create(world->pages, &world->image), 0);
    ((char *)sf_pages_data(world->pages))[WRITTEN] = 2;
}

/* Who cannot see whether others have the memory has to think so, and for good
 * if children may come that cannot be seen. */
static int64_t settle_pages(struct world *world)
{
    int rc = sf_pages_settle(world->pages);

    return rc == -EBUSY ? 0 : rc;
}

static int64_t make_image(struct world *world)
{
    return sf_image_create(world->pages, &world->image);
}

static int64_t compare_with_image(struct world *world)
{
    size_t bounds[4] = {0};

    CHECK_EQUAL(sf_image_changes(world->image, 0, MEMORY_SIZE, 1, bounds, 2), 1);
    CHECK(bounds[0] == WRITTEN && bounds[1] == WRITTEN + 1);
    return 0;
}

static void drop_new_pages(struct world *world)
{
    memset(sf_pages_data(world->pages), 1, MEMORY_SIZE);
    sf_pages_destroy(world->pages);
}

static void drop_pages(struct world *world)
{
    const char *data = sf_pages_data(world->pages);

    CHECK(data[WRITTEN] == 1 && data[WRITTEN + PAGE] == 0);
    sf_pages_destroy(world->pages);
}

static void drop_image(struct world *world)
{
    const char *data = sf_image_data(world->image);

    CHECK(data[WRITTEN] == 1 && data[WRITTEN + PAGE] == 0);
    sf_image_destroy(world->image);
    sf_pages_destroy(world->pages);
}

static int64_t calibrate(struct world *world)
{
    double ns_per_tick = 0;

    (void)world;
    return sf_clock_calibrate(1000, &ns_per_tick);
}

static const struct scene scenes[] = {
    {"create a channel", need_nothing, create_channel, drop_new_channel, {-ENOTSUP, -EAGAIN}},
    {"shrink a channel", need_nothing, create_small_channel, drop_new_channel, {-ENOTSUP, -EAGAIN}},
    {"create a message", need_nothing, create_message, drop_message, {0}},
    {"bind a sender", need_bound_channel, bind_sender, drop_bound_channel, {0}},
    {"send a small message", need_channel, send_small, drop_channel, {-ENOBUFS, -EBADMSG}},
    {"send a large message", need_channel, send_large, drop_channel, {-ENOBUFS, -EBADMSG}},
    {"send a stream", need_channel, send_stream, drop_channel, {-ENOBUFS, -EBADMSG}},
    {"send parts", need_channel, send_parts, drop_channel, {-ENOBUFS, -EBADMSG}},
    {"wait for room", need_full_channel, wait_for_room, drop_channel_and_process, {-EBADMSG}},
    {"receive a message", need_small_message, receive_message, drop_channel, {-EAGAIN, -EBADMSG}},
    {"receive a stream", need_stream, receive_message, drop_channel, {-EAGAIN, -EBADMSG}},
    {"wait for a message", need_silence, wait_for_message, drop_channel_and_process, {-EBADMSG}},
    {"cancel", need_half_sent, cancel, drop_channel, {0}},
    {"cancel what is half received", need_half_of_all, cancel, drop_channel, {0}},
    {"close receiving", need_half_of_all, close_receive, drop_cancelled, {0}},
    {"close sending", need_half_sent, close_send, drop_closed_channel, {0}},
    {"close", need_small_message, close_channel, drop_closed_channel, {0}},
    {"release", need_half_of_all, release_channel, drop_closed_channel, {0}},
    {"measure", need_stream, measure_channel, drop_channel, {0}},
    {"receive from dead hands",
     need_dead_holder,
     receive_message,
     drop_channel,
     {-EAGAIN, -EBADMSG}},
    {"send from dead hands", need_dead_holder, send_small, drop_channel, {-ENOBUFS, -EBADMSG}},
    {"learn of a death", need_dead_streamer, learn_of_death, drop_channel, {-EBADMSG}},
    {"send past the dead",
     need_dead_streamer,
     send_past_the_dead,
     drop_channel,
     {-ENOBUFS, -EBADMSG}},
    {"create a process", need_nothing, create_process, drop_new_process, {-ENOTSUP, -EAGAIN}},
    {"spawn",
     need_process,
     spawn,
     drop_ended_process,
     {-EMFILE, -ENFILE, -ENOSYS, -EPERM, -EAGAIN}},
    {"wait for an ended child",
     need_ended_child,
     wait_for_ended,
     drop_process,
     {-EAGAIN, -ENODATA}},
    {"wait for a stolen child", need_stolen_child, wait_for_ended, drop_process, {0}},
    {"wait for a running child", need_child, wait_for_child, drop_process, {0}},
    {"ask for a child", need_child, ask_for_child, drop_process, {0}},
    {"signal a child", need_child, signal_child, drop_process, {-EPERM}},
    {"release a child", need_child, release_child, drop_released, {0}},
    {"fork", need_channel, fork_bare, drop_bare_fork, {0}},
    {"look at a parent", need_channel_of_thread, look_at_parent, drop_channel, {0}},
    {"create a counter", need_nothing, create_counter, drop_counter, {0}},
    {"create pages", need_nothing, create_pages, drop_new_pages, {-ENOTSUP, -EMFILE, -ENFILE}},
    {"settle pages",
     need_pages,
     settle_pages,
     drop_pages,
     {-EBADF, -EMFILE, -ENFILE, -ENOENT, -EACCES, -EAGAIN, -ENOLCK}},
    {"make an image", need_pages, make_image, drop_image, {-EBADF}},
    {"compare with an image", need_image, compare_with_image, drop_image, {0}},
    {"calibrate", need_nothing, calibrate, need_nothing, {0}},
};

/* -------------------------------------------------------------------- trials */

/* What a process has in the end that it did not have in the beginning. */
struct leftover {
    int descriptors, mappings, children;
    long blocks;
};

static struct leftover count_leftover(void)
{
    return (struct leftover){check_count_descriptors(), check_count_mappings(),
                             check_has_children(), blocks};
}

static bool is_allowed(const struct scene *scene, int64_t rc)
{
    bool allowed = rc >= 0 || rc == -ENOMEM || rc == -EINTR; /* on a slow machine */

    for (size_t i = 0; i < sizeof scene->codes / sizeof *scene->codes; i++)
        allowed |= rc == scene->codes[i];
    return allowed;
}

static int64_t act_with(const struct scene *scene, struct world *world, const struct fault *fault,
                        long first, bool goes_on)
{
    int64_t rc;

    armed.fault = fault;
    armed.first = first;
    armed.goes_on = goes_on;
    rc = scene->act(world);
    armed.first = -1;
    armed.goes_on = false;
    return rc;
}

static int64_t act_until(const struct scene *scene, struct world *world)
{
    int64_t rc;

    do
        rc = scene->act(world);
    while (rc == -EINTR);
    return rc;
}

/* The same object first, as it was left; then a fresh one. */
static void act_again(const struct scene *scene, struct world *world, int64_t rc)
{
    struct world fresh = {.sent = 0};

    CHECK(rc >= 0 || act_until(scene, world) >= 0 || rc == -ENODATA);
    scene->tear_down(world);
    armed.fault = NULL;
    scene->set_up(&fresh);
    CHECK(act_until(scene, &fresh) >= 0);
    scene->tear_down(&fresh);
}

static void play(const struct scene *scene, const struct fault *fault, long first, bool goes_on,
                 struct leftover *clean)
{
    struct world world = {.sent = 0};
    struct leftover left;
    int64_t rc;

    scene->set_up(&world);
    rc = act_with(scene, &world, fault, first, goes_on);
    if (!CHECK(is_allowed(scene, rc)))
        fprintf(stderr, "returned %lld\n", (long long)rc);
    act_again(scene, &world, rc);
    left = count_leftover();
    if (fault == NULL)
        *clean = left;
    CHECK_EQUAL(left.descriptors, clean->descriptors);
    CHECK_EQUAL(left.mappings, clean->mappings);
    CHECK_EQUAL(left.children, 0);
    CHECK_EQUAL(left.blocks, clean->blocks);
}

/* In a process of its own. Returns whether any call was made to fail. */
static bool try_once(const struct scene *scene, const struct fault *fault, long first, bool goes_on,
                     struct leftover *clean)
{
    int status = -1;
    pid_t trial;

    atomic_store(&tally->of_trial, 0);
    fflush(NULL);
    trial = __real_fork();
    if (trial == 0) {
        alarm(0);
        check_state.failed_checks = 0;
        play(scene, fault, first, goes_on, clean);
        _exit(check_state.failed_checks > 0);
    }
    waitpid(trial, &status, 0);
    if (!CHECK_EQUAL(status, 0))
        fprintf(stderr, "%s: call %ld%s of %s fails with %s\n", scene->name, first,
                goes_on ? " and all after it" : "", fault != NULL ? fault->function : "nothing",
                fault != NULL ? strerror(fault->error) : "nothing");
    if (atomic_load(&tally->of_trial) == 0)
        return false;
    atomic_fetch_add(goes_on ? &tally->all : &tally->one, 1);
    return true;
}

static void try_everything(const struct scene *scene, struct leftover *clean)
{
    const struct fault *end = faults + sizeof faults / sizeof *faults;

    try_once(scene, NULL, 0, false, clean);
    for (const struct fault *fault = faults; fault < end; fault++)
        for (int goes_on = 0; goes_on < 2; goes_on++)
            for (long first = 1; try_once(scene, fault, first, goes_on == 1, clean); first++)
                ;
}

static void *make_shared(void)
{
    return __real_mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
}

static void no_failing_call_leaves_anything_half_done(void)
{
    struct leftover *clean = make_shared();

    for (size_t i = 0; i < sizeof scenes / sizeof *scenes; i++) {
        int failures = check_state.failed_checks;

        try_everything(&scenes[i], clean);
        if (failures != check_state.failed_checks)
            fprintf(stderr, "failed: %s\n", scenes[i].name);
    }
    munmap(clean, PAGE);
}

int main(void)
{
    check_begin(120);
    tally = make_shared();
    RUN(no_failing_call_leaves_anything_half_done);
    printf("failing calls: %ld injected alone, %ld with all that followed, in %zu scenes\n",
           tally->one, tally->all, sizeof scenes / sizeof *scenes);
    return check_end();
}
