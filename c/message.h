/* SPDX-License-Identifier: MIT */
/* Private. The memory that messages are received into. */
#ifndef SNAKEFISH_MESSAGE_H
#define SNAKEFISH_MESSAGE_H

#include "snakefish.h"

/* One run of private memory. */
struct message_run {
    unsigned char *memory;
    size_t size; /* mapped; 0 for memory that was lent */
};

struct sf_message {
    struct message_run small; /* SF_MESSAGE_INLINE bytes */
    struct message_run large; /* for larger messages; may be empty */
    int is_large;             /* where the last message lies */
    uint64_t count;           /* messages received into it */
    int64_t result;           /* of the last of them */
    int asks;                 /* before it takes a large one */
    void *lent;               /* for a message of exactly lent_size; NULL to use our own */
    size_t lent_size;         /* 0 when nothing was said */
    uint64_t heads[SF_MESSAGE_MANY];
};

/* Take what was lent, or the large run out of a buffer, or a new one, with room
 * for `size` bytes. Returns 0, -ENOMEM, or -EFBIG if it is to be asked for. */
int message_take_run(struct sf_message *message, uint64_t size, struct message_run *run);

/* Put a run that holds a message into a buffer. */
void message_put_run(struct sf_message *message, struct message_run *run);

void message_free_run(struct message_run *run);

#endif
