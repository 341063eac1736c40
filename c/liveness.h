/* SPDX-License-Identifier: MIT */
/* Private. Who belongs to this family of processes, and who of them is alive.
 *
 * A member is one process during its whole life, named by a number that is
 * never given twice: generation << 16 | slot. 0 is nobody.
 */
#ifndef SNAKEFISH_LIVENESS_H
#define SNAKEFISH_LIVENESS_H

#include "snakefish.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

/* What no process ever is, and thus dead. */
#define LIVENESS_NOBODY UINT64_MAX

#define LIVENESS_SLOT_OF(member) ((uint32_t)((member)&0xffff))
#define LIVENESS_GENERATION_OF(member) ((uint32_t)((member) >> 16))

/* What a file runs around every fork of this process, somebody else's included. */
struct fork_handlers {
    void (*before)(void), (*in_parent)(void), (*in_child)(void);
    _Atomic pid_t installer; /* who is at it; 0 before, negative afterwards */
};

/* See to it that they are installed, once. Returns 0 or -ENOMEM. */
int liveness_handle_forks(struct fork_handlers *wanted);

/* Make a lock in shared memory that outlives its holders. Returns 0, -ENOMEM,
 * or -ENOTSUP where the kernel has none. */
int liveness_init_lock(pthread_mutex_t *lock, int kind);

/* Make this process a member, and found the family if there is none yet.
 * Returns 0, -EAGAIN when all slots are taken, or what the two above return. */
int liveness_join(void);

/* This process; 0 before it joined, or when it could not. */
uint64_t liveness_self(void);

/* Reserve a slot for a child that this process is going to fork. Returns as
 * liveness_join. */
int liveness_reserve(uint64_t *member);

/* The next fork of this thread is to become `member`; 0 withdraws that. */
void liveness_adopt(uint64_t member);

/* Whom the fork that this thread is about to make will become, somebody else's
 * fork included, so that the child counts from before it exists; 0 if the
 * family is full. To be asked by handlers that run before a fork. */
uint64_t liveness_expected(void);

/* What the parent knows after the fork, should the child die before it could
 * say so itself. */
void liveness_set_pid(uint64_t member, pid_t pid);

/* The child is dead and reaped, and another shall be forked in its place. */
void liveness_reserve_again(uint64_t member);

/* Give a slot back: its process was reaped, or never came to be. */
void liveness_release(uint64_t member);

/* True on proof of death only: the kernel said so, or there is no such member.
 * Never by elapsed time. */
bool liveness_is_dead(uint64_t member);

/* One more than the highest slot ever used: the bound of a walk over all. */
uint32_t liveness_slot_count(void);

/* A word that changes, and of which a waiter is woken, when `member` dies; with
 * the value it has now. LIVENESS_UNBORN says that it will change when the member
 * comes to life, and there is a better word to watch; if it never does, that is to
 * be found by looking again. NULL when there is no such word to be had. */
#define LIVENESS_UNBORN 0
_Atomic uint32_t *liveness_watch(uint64_t member, uint32_t *value);

/* The member that a process handle stands for. Defined beside the handle. */
uint64_t liveness_member_of(const struct sf_process *process);

/* The exit record: written by a process that is about to leave, read by its
 * parent. Reading returns false when there is none. */
void liveness_record_exit(int status);
bool liveness_exit_record(uint64_t member, int *status);

#endif
