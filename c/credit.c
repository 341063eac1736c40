/* SPDX-License-Identifier: MIT */
/* How far a producer may run ahead of its consumers, shared by forked processes.
 *
 *     ahead | taken: round, count | wake_at, stopped
 *
 * The producer counts for itself what it has made; consumers count together
 * what they took. While the first exceeds the second by less than `ahead`
 * there is credit, and no message tells anybody. Only a producer that has run
 * out of it and is about to sleep leaves a note, at which count it wants to be
 * woken: not at the next value, but when half of its credit is there again.
 *
 * A consumer killed between taking a value and counting it takes the credit
 * along. A producer that knows all its values to be taken begins a new round:
 * with all credit, and what is counted for a value of an earlier one is void.
 *
 * A thread may release the credit while others of its process count: whoever
 * is the last to leave unmaps it.
 */
#define _GNU_SOURCE
#include "snakefish.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/mman.h>

#define COUNT_BITS 48
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)

struct account {
    uint64_t ahead;
    _Alignas(64) _Atomic uint64_t taken;
    _Alignas(64) _Atomic uint64_t wake_at;
    _Atomic uint32_t stopped;
};

struct sf_credit {
    struct account *account;
    _Atomic uint32_t users; /* calls in progress, and one until the release */
    _Atomic uint32_t released;
};

int sf_credit_create(uint32_t ahead, struct sf_credit **credit)
{
    struct sf_credit *made;

    if (ahead == 0)
        return -EINVAL;
    made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    made->account = mmap(NULL, sizeof *made->account, PROT_READ | PROT_WRITE,
                         MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (made->account == MAP_FAILED) {
        free(made);
        return -ENOMEM;
    }
    made->account->ahead = ahead;
    atomic_init(&made->users, 1);
    *credit = made;
    return 0;
}

/* Returns NULL after the release. */
static struct account *enter(struct sf_credit *credit)
{
    /* Relaxed: the exchange below finds out if it is an old one. */
    uint32_t users = atomic_load_explicit(&credit->users, memory_order_relaxed);

    do {
        if (users == 0)
            return NULL;
        /* Relaxed: the account was there before the handle was. */
    } while (!atomic_compare_exchange_weak_explicit(&credit->users, &users, users + 1,
                                                    memory_order_relaxed, memory_order_relaxed));
    return credit->account;
}

static void leave(struct sf_credit *credit)
{
    /* Acquire and release: whoever comes to 0 here unmaps after all others have
     * done what they did; pairs with the same in their leave. */
    if (atomic_fetch_sub_explicit(&credit->users, 1, memory_order_acq_rel) == 1)
        munmap(credit->account, sizeof *credit->account);
}

static int64_t left(struct account *account, uint64_t made)
{
    /* Sequentially consistent, like its partner in count: of a producer that
     * notes where to be woken and then looks at the count, and a consumer that
     * counts and then looks at the note, one sees the other. */
    uint64_t taken = atomic_load_explicit(&account->taken, memory_order_seq_cst) & COUNT_MASK;
    uint64_t waiting = taken < made ? made - taken : 0;

    return waiting < account->ahead ? (int64_t)(account->ahead - waiting) : 0;
}

static int64_t left_or_note(struct account *account, uint64_t made)
{
    int64_t now;

    /* Relaxed: a stop that is not seen yet lets one more value be made, as a
     * moment earlier; pairs with the store in sf_credit_stop. */
    if (atomic_load_explicit(&account->stopped, memory_order_relaxed))
        return -ECANCELED;
    now = left(account, made);
    if (now > 0)
        return now;
    /* Sequentially consistent: see left, and the load in count. */
    atomic_store_explicit(&account->wake_at, made - account->ahead / 2, memory_order_seq_cst);
    return left(account, made);
}

int64_t sf_credit_left(struct sf_credit *credit, uint64_t made)
{
    struct account *account = enter(credit);
    int64_t now;

    if (account == NULL)
        return -EBADF;
    now = left_or_note(account, made);
    leave(credit);
    return now;
}

/* Returns whether the caller is to wake the producer. */
static int count(struct account *account, bool is_odd)
{
    /* Relaxed: the exchange below finds out if it is an old one. */
    uint64_t taken = atomic_load_explicit(&account->taken, memory_order_relaxed);
    uint64_t wake_at;

    do {
        if ((taken >> COUNT_BITS & 1) != is_odd)
            return 0;
        /* Sequentially consistent: pairs with the load in left. */
    } while (!atomic_compare_exchange_weak_explicit(&account->taken, &taken, taken + 1,
                                                    memory_order_seq_cst, memory_order_relaxed));
    /* Sequentially consistent: pairs with the store in left_or_note. */
    wake_at = atomic_load_explicit(&account->wake_at, memory_order_seq_cst);
    if (wake_at == 0 || ((taken + 1) & COUNT_MASK) < wake_at)
        return 0;
    /* Relaxed: of those who come this far at once, one is to wake the producer. */
    return atomic_compare_exchange_strong_explicit(&account->wake_at, &wake_at, 0,
                                                   memory_order_relaxed, memory_order_relaxed);
}

int sf_credit_give(struct sf_credit *credit, int round)
{
    struct account *account = enter(credit);
    int wakes;

    if (account == NULL)
        return 0;
    wakes = count(account, round != 0);
    leave(credit);
    return wakes;
}

int sf_credit_renew(struct sf_credit *credit, uint64_t made)
{
    struct account *account = enter(credit);
    uint64_t round;

    if (account == NULL)
        return -EBADF;
    /* Relaxed: only the producer, which is the caller, changes the round. */
    round = (atomic_load_explicit(&account->taken, memory_order_relaxed) >> COUNT_BITS) + 1;
    /* Relaxed: consumers learn of the round by its values, which are sent later. */
    atomic_store_explicit(&account->taken, round << COUNT_BITS | (made & COUNT_MASK),
                          memory_order_relaxed);
    leave(credit);
    return (int)(round & 1);
}

void sf_credit_stop(struct sf_credit *credit)
{
    struct account *account = enter(credit);

    if (account == NULL)
        return;
    /* Relaxed: pairs with the load in left_or_note, which explains itself. */
    atomic_store_explicit(&account->stopped, 1, memory_order_relaxed);
    leave(credit);
}

void sf_credit_release(struct sf_credit *credit)
{
    /* Relaxed: of several releases one is the first; nothing else hangs on it. */
    if (atomic_exchange_explicit(&credit->released, 1, memory_order_relaxed) == 0)
        leave(credit);
}

void sf_credit_destroy(struct sf_credit *credit)
{
    if (credit == NULL)
        return;
    sf_credit_release(credit);
    free(credit);
}
