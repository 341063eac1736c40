/* SPDX-License-Identifier: MIT */
/* A file in memory, without a name. */
#ifndef SNAKEFISH_MEMORY_FILE_H
#define SNAKEFISH_MEMORY_FILE_H

#include <stddef.h>

/* Make one of `size` zeros. It is not charged before it is touched, even where
 * overcommit is strict, and it is gone with its last descriptor and mapping.
 *
 * Returns a descriptor, closed by exec; or -EFBIG where a limit on the size of
 * files forbids it, -ENOSYS, -EMFILE and what else memfd_create(2) and
 * ftruncate(2) have. */
int memory_file_create(size_t size);

#endif
