/* SPDX-License-Identifier: MIT */
/* Buffers to receive into.
 *
 * Small messages share one run that stays warm in the cache. A large message
 * is built up over many calls in a run of its own, which then changes hands
 * instead of being copied; it is used again for the next one if it is not
 * excessive. Huge pages, where the system grants them on request, save most of
 * the page faults that the first touch of fresh memory costs. Or it is built up
 * in memory of the caller's, who thereby gets his object without another copy.
 */
#define _GNU_SOURCE
#include "message.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE_SIZE ((size_t)4096)
#define HUGE_FROM ((size_t)4 << 20)
#define HUGE_LENT_FROM ((size_t)32 << 20) /* no allocator keeps so much of others' beside it */
#define KEPT_SIZE ((size_t)8 << 20)

/* The whole pages of some memory; the system takes care of alignment to huge ones. */
static void advise_huge(unsigned char *memory, size_t size)
{
    size_t begin = ((uintptr_t)memory + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
    size_t end = ((uintptr_t)memory + size) & ~(PAGE_SIZE - 1);

    madvise((void *)begin, end - begin, MADV_HUGEPAGE);
}

static int map_run(size_t size, struct message_run *run)
{
    size_t rounded = (size + PAGE_SIZE - 1) & ~(PAGE_SIZE - 1);
    void *memory = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (memory == MAP_FAILED)
        return -ENOMEM;
    if (rounded >= HUGE_FROM)
        advise_huge(memory, rounded);
    run->memory = memory;
    run->size = rounded;
    return 0;
}

void message_free_run(struct message_run *run)
{
    if (run->size != 0)
        munmap(run->memory, run->size);
    run->memory = NULL;
    run->size = 0;
}

int message_take_run(struct sf_message *message, uint64_t size, struct message_run *run)
{
    if (message->lent_size == size) {
        message->lent_size = 0;
        if (message->lent != NULL) {
            *run = (struct message_run){message->lent, 0};
            return 0;
        }
    } else if (message->asks && size > SF_MESSAGE_INLINE) {
        return -EFBIG;
    }
    if (message->large.size >= size) {
        *run = message->large;
        message->large = (struct message_run){NULL, 0};
        return 0;
    }
    message_free_run(&message->large);
    return map_run(size, run);
}

void message_put_run(struct sf_message *message, struct message_run *run)
{
    message_free_run(&message->large);
    message->large = *run;
    *run = (struct message_run){NULL, 0};
    message->is_large = 1;
}

int sf_message_create(struct sf_message **message)
{
    struct sf_message *made = calloc(1, sizeof *made);
    int rc;

    if (made == NULL)
        return -ENOMEM;
    rc = map_run(SF_MESSAGE_INLINE, &made->small);
    if (rc < 0)
        goto undo_calloc;
    *message = made;
    return 0;

undo_calloc:
    free(made);
    return rc;
}

void sf_message_destroy(struct sf_message *message)
{
    if (message == NULL)
        return;
    message_free_run(&message->small);
    message_free_run(&message->large);
    free(message);
}

void *sf_message_data(struct sf_message *message)
{
    return message->is_large ? message->large.memory : message->small.memory;
}

const uint64_t *sf_message_heads(const struct sf_message *message)
{
    return message->heads;
}

uint64_t sf_message_count(const struct sf_message *message)
{
    return message->count;
}

int64_t sf_message_result(const struct sf_message *message)
{
    return message->result;
}

void sf_message_ask(struct sf_message *message, int on)
{
    message->asks = on;
}

void sf_message_lend(struct sf_message *message, void *memory, size_t size)
{
    message->lent = memory;
    message->lent_size = size;
    if (memory != NULL && size >= HUGE_LENT_FROM)
        advise_huge(memory, size);
}

void sf_message_clear(struct sf_message *message)
{
    message->is_large = 0;
    if (message->large.size > KEPT_SIZE)
        message_free_run(&message->large);
}
