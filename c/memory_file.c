/* SPDX-License-Identifier: MIT */
/* A file in memory. RLIMIT_FSIZE is looked at first, because to exceed it raises
 * SIGXFSZ, which ends a process that does not expect it. */
#define _GNU_SOURCE
#include "memory_file.h"

#include <errno.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

int memory_file_create(size_t size)
{
    struct rlimit file_size;
    int file, rc;

    if (getrlimit(RLIMIT_FSIZE, &file_size) < 0)
        return -errno;
    if (file_size.rlim_cur < size)
        return -EFBIG;
    file = (int)syscall(SYS_memfd_create, "snakefish", 1u /* MFD_CLOEXEC */);
    if (file < 0)
        return -errno;
    if (ftruncate(file, (off_t)size) < 0) {
        rc = -errno;
        close(file);
        return rc;
    }
    return file;
}
