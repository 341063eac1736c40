/* SPDX-License-Identifier: MIT */
/* snakefish: processes that feel like threads, and channels between them.
 *
 * Six sections, in the order a reader needs them: Clock, Process, Channel,
 * Counter, Pages.
 *
 * Every function that can fail returns 0 or a useful non-negative number, and
 * a negative errno value on failure; `errno` itself is never part of the
 * contract. Out-parameters are written on success only. A blocking function
 * returns -EINTR when a signal arrived, and also every 100 ms, so that its
 * caller can run signal handlers and look around: call it again with the same
 * arguments and it goes on where it stopped. Nothing is retried in here.
 *
 * Deadlines are absolute nanoseconds of CLOCK_MONOTONIC. One that has passed
 * means "do not wait"; SF_FOREVER means "however long it takes".
 */
#ifndef SNAKEFISH_H
#define SNAKEFISH_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define SF_API __attribute__((visibility("default")))
#else
#define SF_API
#endif

/* Deadlines for "do not wait" and "however long it takes". */
#define SF_NOW INT64_C(0)
#define SF_FOREVER INT64_MAX

/* ------------------------------------------------------------------ Clock */

/* Read the machine's fastest counter: the time-stamp counter (rdtsc) on
 * x86-64, the virtual counter (cntvct_el0) on aarch64, CLOCK_MONOTONIC in
 * nanoseconds elsewhere. It counts at a constant rate on every CPU and never
 * goes backwards along a message from one process to another. */
SF_API uint64_t sf_clock_ticks(void);

/* The same, and no load before the call is performed after the reading
 * (lfence and a compiler fence on x86-64, isb on aarch64). */
SF_API uint64_t sf_clock_ticks_serialized(void);

/* "tsc", "cntvct" or "monotonic": what sf_clock_ticks reads on this machine. */
SF_API const char *sf_clock_source(void);

/* CLOCK_MONOTONIC in nanoseconds: the scale of every deadline. */
SF_API int64_t sf_clock_now_ns(void);

/* Measure how many nanoseconds of CLOCK_MONOTONIC one tick lasts, by watching
 * both clocks for `duration_ns`. The error is about 100 ns / duration_ns.
 *
 * Returns 0, or -EINVAL for a duration that is not positive, or -EINTR when a
 * signal came first; nothing is kept then, the next call starts afresh. */
SF_API int sf_clock_calibrate(int64_t duration_ns, double *ns_per_tick);

/* ---------------------------------------------------------------- Process */

/* A child process: at most one fork, one end, one exit status. A handle
 * belongs to the process that made it. In any other process (a child that
 * inherited it) the functions below return -ECHILD and change nothing, and
 * destroying it frees that process's copy only. */
struct sf_process;
struct sf_channel;

/* Most processes of one family, the first one included, alive at a time. */
#define SF_PROCESS_LIMIT 1024

/* Make a handle for a child that is not started yet, and reserve its place in
 * the family's shared control page.
 *
 * Returns 0, or
 *   -EAGAIN     SF_PROCESS_LIMIT processes of this family are alive
 *   -ENOMEM     no memory for the handle or the page
 *   -ENOTSUP    the kernel has no locks that outlive their holders
 */
SF_API int sf_process_create(struct sf_process **process);

/* Fork. `fork_function` does the fork itself and returns as fork(2) does; NULL
 * is fork(2). An interpreter passes its own, so that its at-fork hooks run.
 *
 * Asynchronous signals are blocked around the fork and restored in both
 * processes. No instruction of the caller runs between the fork and the line
 * that records the pid. The child dies, by SIGKILL, when its parent does; at
 * once, if the system is too short of memory or descriptors to see to that.
 *
 * Concurrency: one thread per handle.
 *
 * Returns 0 in the child and the pid in the parent, or
 *   -EALREADY   this handle was spawned, or released, before
 *   -ECANCELED  `fork_function` returned a negative number and said why in a
 *               way of its own; no child exists and the handle can be spawned
 *   -EAGAIN, -ENOMEM  fork(2) failed; the handle can be spawned again
 *   -EMFILE, -ENFILE  no descriptor for the child; no child exists
 *   -ENOSYS, -EPERM   no pidfd: a kernel before 5.4, or a sandbox that forbids
 *               it; no child exists
 */
SF_API int sf_process_spawn(struct sf_process *process, pid_t (*fork_function)(void));

/* Wait until the child has ended, reap it and decode how it ended: the exit
 * code, or -N after signal N.
 *
 * A child that was killed a moment ago is waited for even at the deadline,
 * while the kernel takes it apart: it has no more to say.
 *
 * A status that another waitpid took away is recovered from the kernel
 * (PIDFD_GET_INFO) or from the record the child left in the control page.
 *
 * Concurrency: any number of threads; each gets the same answer.
 *
 * Returns 0, or
 *   -EAGAIN     the child is still running at the deadline
 *   -ENODATA    it has ended, and how is known to nobody any more
 *   -EINTR      see the top of this file
 *   -EINVAL     not spawned
 *   -EBADF      released by another thread meanwhile
 *   -ENOMEM     the kernel has no memory to wait with; nothing has changed
 */
SF_API int sf_process_wait(struct sf_process *process, int64_t deadline_ns, int *status);

/* Wait for the end of a child that is likely to be near: some milliseconds at
 * most, twice as long as the last one took. Its messages, which it sends to
 * `channel`, do not end the wait: who waits for both is woken once by a child
 * that sends little and ends. After a child that sent much, or was not over in
 * time, the next ones are not waited for but looked at: they should be received
 * from while they run.
 *
 * Returns as sf_process_wait, and -EAGAIN also when that time is over. */
SF_API int sf_process_wait_briefly(struct sf_process *process, struct sf_channel *channel,
                                   int64_t deadline_ns, int *status);

/* 1 while the child runs (a stopped child runs), 0 once it has ended, reaped
 * or not; -EINVAL when it was never spawned; -EBADF and -ENOMEM as above. Reaps
 * nothing. */
SF_API int sf_process_is_alive(struct sf_process *process);

/* Send a signal to the child and to no other process, whatever became of its
 * pid. Returns 0; -ESRCH when it has ended; -EINVAL for a bad signal or a
 * child that was never spawned; -EPERM when it has become another user. */
SF_API int sf_process_kill(struct sf_process *process, int signal_number);

/* The child's pid, or -EINVAL before the spawn. */
SF_API int sf_process_pid(const struct sf_process *process);

/* A descriptor that polls readable once the child has ended; -EINVAL before
 * the spawn, -EBADF after the release. The handle owns it. */
SF_API int sf_process_fileno(const struct sf_process *process);

/* Kill the child if it runs, reap it, close its descriptors. A status that was
 * decoded before stays readable. A child that has become another user, so that
 * we may not kill it, is left to itself. Idempotent. */
SF_API void sf_process_release(struct sf_process *process);

/* Release, then free. Accepts NULL. In a process that does not own the handle
 * it neither kills nor reaps. */
SF_API void sf_process_destroy(struct sf_process *process);

/* Called by a child just before it leaves: writes the exit record from which
 * the parent learns the status when the kernel's copy was taken by others. */
SF_API void sf_process_exiting(int status);

/* ---------------------------------------------------------------- Channel */

/* A queue of messages in shared memory, between any number of senders and
 * receivers in the process that made it and all its descendants. A message is
 * a tag from 0 to 255 and any number of bytes. Every sender's messages arrive
 * in its order, each exactly once, whole or not at all, whoever is killed
 * whenever.
 *
 * All functions may be called by any number of threads of any of these
 * processes at the same time, unless said otherwise. */
struct sf_channel;

/* A buffer to receive into, used again and again. One thread at a time. */
struct sf_message;

/* The capacity behind which a create with SF_CHANNEL_SHRINK gives up. */
#define SF_CHANNEL_SMALLEST ((size_t)4 << 20)

/* Flags of sf_channel_create. */
#define SF_CHANNEL_SHRINK 1 /* accept less than `capacity` if memory is short */
#define SF_CHANNEL_BOUND                                                                           \
    2 /* only processes named by sf_channel_bind_sender                                            \
       * count as senders, see sf_channel_receive */

/* Make a channel of `capacity` bytes. A message of exactly that size fits into
 * an empty channel; of smaller ones each takes up to 15 bytes more, and the
 * last 48 bytes are kept. Address space is reserved, memory is not: it follows
 * what is waiting.
 *
 * Returns 0, or -EINVAL for a capacity of 0, or -ENOMEM when there is no
 * address space (capacities up to 2^46 are tried), or -EAGAIN when this
 * process got no place in its family's control page, or -ENOTSUP as in
 * sf_process_create. */
SF_API int sf_channel_create(size_t capacity, unsigned flags, struct sf_channel **channel);

/* Name a process, not yet spawned, as a sender of an SF_CHANNEL_BOUND channel,
 * so that a receiver learns of its death even if it never sent anything.
 * Returns 0, -EBADF or -ENOLCK, see sf_channel_send. */
SF_API int sf_channel_bind_sender(struct sf_channel *channel, const struct sf_process *process);

/* Append one message of `size` bytes.
 *
 * The message is copied; `data` may be reused on return. Until the deadline
 * the call waits for room. With room to wait for, a message may be larger than
 * the channel: it streams through while it is being received.
 *
 * After -EINTR part of a message may be under way. Call again from the same
 * thread with the same arguments, or call sf_channel_cancel; until one of the
 * two is done, other senders wait. When the same thread sends another message
 * in between, that one comes first, if it may wait, and the interrupted call
 * begins anew; if it may not, the answer is -ENOBUFS.
 *
 * Returns 0, or
 *   -ENOBUFS    there was no room in time; nothing was sent
 *   -EMSGSIZE   larger than the channel, and not allowed to wait
 *   -ESHUTDOWN  the channel, or this process's sending end, was closed
 *   -EPIPE      there is no room and nobody is left to make some
 *   -EINTR      see the top of this file
 *   -EBADF      the channel was released in this process
 *   -EBADMSG    the shared memory was damaged; nothing can be sent any more
 *   -ENOLCK     this process got no place in its family, see SF_PROCESS_LIMIT
 */
SF_API int sf_channel_send(struct sf_channel *channel, int tag, const void *data, size_t size,
                           int64_t deadline_ns);

/* The same for a message that lies in `count` pieces, sent as one. */
SF_API int sf_channel_send_parts(struct sf_channel *channel, int tag, const void *const *parts,
                                 const size_t *sizes, size_t count, int64_t deadline_ns);

/* Append `count` messages in one go: all of them or none, whatever happens. Of
 * the i-th, heads[i] is `size << 8 | tag`; their bytes lie in `data`, one behind
 * the other. They are received one by one, by whoever comes.
 *
 * Returns as sf_channel_send, and -EMSGSIZE if they have more bytes together
 * than SF_MESSAGE_INLINE or need more than the channel: 56 bytes a message, and
 * their own, always suffice. */
SF_API int sf_channel_send_many(struct sf_channel *channel, const void *data, const uint64_t *heads,
                                size_t count, int64_t deadline_ns);

/* Wait until fewer than `ahead` messages are on their way, for a sender that is
 * never to be further ahead of the receivers: before its first message, and
 * again when it has sent as many as the last call allowed. When it had to sleep
 * it goes on as soon as about half of them were received.
 *
 * Concurrency: one thread, of the one process that sends to the channel, with
 * the same `ahead` each time.
 *
 * Returns how many it may send now, 1 or more, or
 *   -ENOBUFS    too many were on their way until the deadline
 *   -EINVAL     `ahead` is 0
 *   -ESHUTDOWN, -EPIPE, -EINTR, -EBADF, -ENOLCK  as sf_channel_send
 */
SF_API int64_t sf_channel_pace(struct sf_channel *channel, uint32_t ahead, int64_t deadline_ns);

/* Take the next message into `message`.
 *
 * Returns its size and tag as `size << 8 | tag`, or
 *   -EAGAIN     there was none in time
 *   -ESHUTDOWN  there is none and the channel is closed: the end
 *   -EPIPE      there is none, other processes could send, and all of those
 *               have died or closed their end
 *   -EINTR      see the top of this file; also returned as soon as a sending
 *               process was found dead
 *   -ENOMEM     no memory to receive it; it stays in the channel
 *   -EFBIG      it is large and asks for memory, see sf_message_ask; it stays
 *   -EBADF      the channel was released in this process
 *   -EBADMSG    the shared memory was damaged
 *   -ENOLCK     this process got no place in its family
 *
 * After -EINTR or -EAGAIN part of a large message may be held by this process;
 * any of its threads goes on with it at the next call, and other processes wait
 * for that. It is dropped when this process closes its receiving end. */
SF_API int64_t sf_channel_receive(struct sf_channel *channel, struct sf_message *message,
                                  int64_t deadline_ns);

/* The same, with those that are there already behind it: `most` messages, of
 * SF_MESSAGE_INLINE bytes together, at most. A larger one comes alone.
 *
 * Returns how many. Of the i-th, sf_message_heads(message)[i] is what
 * sf_channel_receive would have returned; their bytes lie where
 * sf_message_data points, one behind the other. */
SF_API int64_t sf_channel_receive_many(struct sf_channel *channel, struct sf_message *message,
                                       size_t most, int64_t deadline_ns);

/* Give up the message that this thread has half sent, if there is one: what
 * -EINTR left under way. Others go on with the next message. */
SF_API void sf_channel_cancel(struct sf_channel *channel);

/* With `on`, this process counts among the senders and receivers whose end
 * -EPIPE reports, because another of its threads may serve the channel. */
SF_API void sf_channel_count_self(struct sf_channel *channel, int on);

/* Close the channel for everybody: later sends fail, receivers take what is
 * left and then get -ESHUTDOWN. Returns 0, -EBADF or -ENOLCK. */
SF_API int sf_channel_close(struct sf_channel *channel);

/* Declare that this process, and children it forks from now on, will not send
 * (not receive) any more. Returns 0, -EBADF or -ENOLCK. */
SF_API int sf_channel_close_send(struct sf_channel *channel);
SF_API int sf_channel_close_receive(struct sf_channel *channel);

/* Bytes that may wait in the channel; bytes that wait now, headers included;
 * bytes of memory its waiting and recycled segments occupy. 0 once released. */
SF_API size_t sf_channel_capacity(const struct sf_channel *channel);
SF_API size_t sf_channel_used(struct sf_channel *channel);
SF_API size_t sf_channel_committed(struct sf_channel *channel);

/* Leave the channel: close this process's ends, let its other threads out
 * (they get -EBADF), unmap. Other processes keep theirs. Idempotent. */
SF_API void sf_channel_release(struct sf_channel *channel);

/* Release, then free the handle; no other call may be in progress or follow.
 * Accepts NULL. */
SF_API void sf_channel_destroy(struct sf_channel *channel);

/* Make and free a message buffer. Returns 0 or -ENOMEM. Destroy accepts NULL. */
SF_API int sf_message_create(struct sf_message **message);
SF_API void sf_message_destroy(struct sf_message *message);

/* The bytes of the last message received, 64-byte aligned, valid until the next
 * receive into this buffer. Messages of up to SF_MESSAGE_INLINE bytes always
 * lie where this points for a fresh buffer. */
#define SF_MESSAGE_INLINE ((size_t)128 << 10)
SF_API void *sf_message_data(struct sf_message *message);

/* With `on`, every receive into this buffer that finds a message of more than
 * SF_MESSAGE_INLINE bytes answers -EFBIG, unless memory was lent for one of this
 * size since. The message stays, and sf_message_result tells its size and tag. */
SF_API void sf_message_ask(struct sf_message *message, int on);

/* Lend `size` bytes for the next large message of exactly this size, or say with
 * NULL that it may go to the buffer's own memory. What sf_message_data answers
 * after a receive tells where it went: after -EINTR or -EAGAIN part of it may be
 * in memory that was lent, and the call that ends it may use another buffer. The
 * memory has to stay until then, or until a receive answers -EFBIG again. */
SF_API void sf_message_lend(struct sf_message *message, void *memory, size_t size);

/* How many messages were ever received into this buffer, and what the last one
 * that was made sf_channel_receive return: for a caller that was interrupted
 * before it could look at the result. */
SF_API uint64_t sf_message_count(const struct sf_message *message);
SF_API int64_t sf_message_result(const struct sf_message *message);

/* The sizes and tags of the messages received last, as sf_channel_receive_many
 * describes them. Always at the same place. */
#define SF_MESSAGE_MANY ((size_t)1024)
SF_API const uint64_t *sf_message_heads(const struct sf_message *message);

/* Forget the message. Memory beyond 8 MiB goes back to the system. */
SF_API void sf_message_clear(struct sf_message *message);

/* ---------------------------------------------------------------- Counter */

/* A shared dispenser of the numbers 0 to limit - 1, each handed out once, that
 * remembers which numbers each of its takers holds. */
struct sf_counter;

/* Make one for takers 0 to `takers` - 1. Returns 0, -ENOMEM, or -EINVAL for no
 * taker at all or a limit beyond 2^48. */
SF_API int sf_counter_create(uint64_t limit, uint32_t takers, struct sf_counter **counter);

/* Take up to `want` consecutive numbers for `taker`, which thereby hands back
 * those it took before. Returns the first, or -ENODATA when none is left, or
 * -EINVAL for a taker that there is not; the last is at most limit - 1.
 * Wait-free. */
SF_API int64_t sf_counter_take(struct sf_counter *counter, uint32_t taker, uint64_t want);

/* Which numbers `taker` holds: writes the first, returns how many, 0 for none,
 * -EINVAL for a taker that there is not. */
SF_API int64_t sf_counter_held(const struct sf_counter *counter, uint32_t taker, uint64_t *first);

/* How many numbers were handed out. */
SF_API uint64_t sf_counter_taken(const struct sf_counter *counter);

/* Hand out no more. */
SF_API void sf_counter_stop(struct sf_counter *counter);

/* Unmap this process's copy. Accepts NULL. */
SF_API void sf_counter_destroy(struct sf_counter *counter);

/* ------------------------------------------------------------------ Pages */

/* Memory of zeros that knows which of its pages were written to. A fork copies
 * it as it does any other: what a process writes no other one sees. */
struct sf_pages;

/* What the memory was at a moment. Forked children inherit it. */
struct sf_image;

/* Make `size` bytes of it.
 *
 * Returns 0, or
 *   -EINVAL     a size of 0
 *   -ENOMEM     no memory for the handle, or no address space
 *   -EMFILE, -ENFILE  no descriptor; it keeps one
 *   -ENOTSUP    it does not work here, which was tried: no files in memory, or
 *               none of that size, no /proc, or a kernel that does not tell
 */
SF_API int sf_pages_create(size_t size, struct sf_pages **pages);

/* The memory itself. It stays where it is. */
SF_API void *sf_pages_data(const struct sf_pages *pages);

/* Make what was written the state that later writes are told from: images cost
 * less then, and the memory only once what it holds.
 *
 * Concurrency: no other thread of this process writes to the memory meanwhile,
 * or forks; what it wrote could be lost.
 *
 * Returns 0, or a negative number and nothing has changed:
 *   -EBUSY      there is an image, or another process that inherited the memory
 *   -EBADF      the descriptor was closed by somebody
 *   -ENOMEM, -EMFILE, -ENFILE, ... as open(2), flock(2) and mmap(2) have them
 */
SF_API int sf_pages_settle(struct sf_pages *pages);

/* Free the memory of this process when its last image is destroyed. Accepts NULL. */
SF_API void sf_pages_destroy(struct sf_pages *pages);

/* Remember what the memory is now. Pages written since it was last settled are
 * copied, others are not.
 *
 * Concurrency: what other threads write meanwhile is in it or not.
 *
 * Returns 0, -ENOMEM, or -EBADF as above. */
SF_API int sf_image_create(struct sf_pages *pages, struct sf_image **image);

/* The bytes that the memory had; not to be written to. */
SF_API const void *sf_image_data(const struct sf_image *image);

/* Find elements of `element_size` bytes each, the first of them at offset
 * `start` and the last one before `end`, that are not in this process what they
 * are in the image. Writes up to `count` pairs: where a run of such elements
 * starts, and where it ends. Only pages that were written to are looked at.
 *
 * Returns how many runs it found. If that is `count` there may be more: call
 * again, to start where the last one ends. */
SF_API size_t sf_image_changes(const struct sf_image *image, size_t start, size_t end,
                               size_t element_size, size_t *bounds, size_t count);

/* Accepts NULL. */
SF_API void sf_image_destroy(struct sf_image *image);

#ifdef __cplusplus
}
#endif
#endif
