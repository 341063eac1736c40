/* SPDX-License-Identifier: MIT */
/* Memory that knows which of its pages were written to.
 *
 *     file  | settled | settled | settled | ...     in memory, without a name
 *               |         |         |
 *     data  | the file's| own    | the file's | ... a private mapping: the user's
 *     image | the file's| copied | the file's | ... another one: what data was
 *
 * In a private mapping a page that nobody wrote to is the file's own. The first
 * write copies it, and the copy is anonymous memory. /proc/self/pagemap tells the
 * two apart, in the parent and in a child, whoever wrote: a store, a system
 * call, a debugger. So what differs from the file lies in anonymous pages, and
 * what differs from an image does too, since pages never become the file's
 * again while there is an image. See proc_pid_pagemap(5) and pagemap.rst in the
 * kernel's documentation. Whatever the kernel will not tell counts as written: a
 * page too many costs a comparison, and no more.
 *
 * The invariant is that the file does not change while an image or another
 * process reads it. Only settle writes to it, and asks first. Images it counts.
 * Other processes are seen by the witness: a mapping of one page that they inherit
 * and know nothing of. The open file behind it is locked, and the kernel drops
 * that lock with the last mapping, in whatever process and however that ends.
 *
 * Rejected: a shared mapping, whose later writes children would see; soft-dirty
 * bits and userfaultfd, which many kernels do not have or not allow; protecting
 * pages and catching SIGSEGV, after which system calls fail that write there.
 */
#define _GNU_SOURCE
#include "memory_file.h"
#include "snakefish.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

struct sf_pages {
    unsigned char *data;
    size_t size; /* in whole pages */
    size_t page_size;
    int file;
    dev_t device; /* the file's, to know it by: descriptors can be closed by anybody */
    ino_t inode;
    void *witness;
    bool is_unwitnessed; /* processes may have it without our seeing them */
    _Atomic unsigned reference_count;
};

struct sf_image {
    struct sf_pages *pages;
    unsigned char *data;
};

/* Offsets of bytes. */
struct range {
    size_t start, end;
};

/* ------------------------------------------------- which pages were written */

/* What linux/fs.h has from 6.7 on, in names of our own. */
struct scan_region {
    uint64_t start, end, categories;
};

struct scan_request {
    uint64_t size, flags, start, end, walk_end, regions, region_count, max_pages;
    uint64_t inverted, all_of, any_of, returned;
};

#define SCAN _IOWR('f', 16, struct scan_request)
#define SCAN_FILE (UINT64_C(1) << 2)
#define SCAN_PRESENT (UINT64_C(1) << 3)
#define SCAN_SWAPPED (UINT64_C(1) << 4)

/* Bits of an entry of pagemap. */
#define ENTRY_FILE (UINT64_C(1) << 61)
#define ENTRY_SWAPPED (UINT64_C(1) << 62)
#define ENTRY_PRESENT (UINT64_C(1) << 63)

#define ENTRY_COUNT 512
#define RANGE_COUNT (ENTRY_COUNT / 2) /* most that so many entries can be made of */

/* A walk along the written pages of this process. */
struct walk {
    const struct sf_pages *pages;
    int pagemap; /* a negative number where there is none */
    struct range ahead;
    struct range found[RANGE_COUNT];
    size_t found_count, given_count;
};

static int scan(struct walk *walk)
{
    struct scan_region regions[RANGE_COUNT];
    uint64_t base = (uintptr_t)walk->pages->data;
    struct scan_request request = {.size = sizeof request,
                                   .start = base + walk->ahead.start,
                                   .end = base + walk->ahead.end,
                                   .regions = (uintptr_t)regions,
                                   .region_count = RANGE_COUNT,
                                   .inverted = SCAN_FILE,
                                   .all_of = SCAN_FILE,
                                   .any_of = SCAN_PRESENT | SCAN_SWAPPED,
                                   .returned = SCAN_FILE};
    int count = ioctl(walk->pagemap, SCAN, &request);

    if (count < 0)
        return -errno;
    for (int i = 0; i < count; i++)
        walk->found[i] = (struct range){regions[i].start - base, regions[i].end - base};
    walk->found_count = (size_t)count;
    walk->ahead.start = request.walk_end - base;
    return 0;
}

static bool is_written(uint64_t entry)
{
    return (entry & (ENTRY_PRESENT | ENTRY_SWAPPED)) != 0 && (entry & ENTRY_FILE) == 0;
}

static void note(struct walk *walk, size_t start, size_t end)
{
    if (walk->found_count > 0 && walk->found[walk->found_count - 1].end == start)
        walk->found[walk->found_count - 1].end = end;
    else
        walk->found[walk->found_count++] = (struct range){start, end};
}

/* The same for kernels that cannot scan. */
static int read_entries(struct walk *walk)
{
    size_t page_size = walk->pages->page_size, start = walk->ahead.start;
    size_t first = ((uintptr_t)walk->pages->data + start) / page_size;
    size_t count = (walk->ahead.end - start) / page_size;
    uint64_t entries[ENTRY_COUNT];
    ssize_t got;

    if (count > ENTRY_COUNT)
        count = ENTRY_COUNT;
    got = pread(walk->pagemap, entries, count * sizeof *entries, (off_t)(first * sizeof *entries));
    if (got < (ssize_t)sizeof *entries)
        return got < 0 ? -errno : -ENODATA;
    count = (size_t)got / sizeof *entries;
    for (size_t i = 0; i < count; i++)
        if (is_written(entries[i]))
            note(walk, start + i * page_size, start + (i + 1) * page_size);
    walk->ahead.start = start + count * page_size;
    return 0;
}

static void walk_begin(struct walk *walk, const struct sf_pages *pages, struct range over)
{
    walk->pages = pages;
    walk->pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    walk->ahead = over;
    walk->found_count = walk->given_count = 0;
}

static void look_further(struct walk *walk)
{
    walk->found_count = walk->given_count = 0;
    if (walk->pagemap >= 0 && (scan(walk) == 0 || read_entries(walk) == 0))
        return;
    note(walk, walk->ahead.start, walk->ahead.end);
    walk->ahead.start = walk->ahead.end;
}

static bool walk_on(struct walk *walk, struct range *written)
{
    while (walk->given_count == walk->found_count) {
        if (walk->ahead.start >= walk->ahead.end)
            return false;
        look_further(walk);
    }
    *written = walk->found[walk->given_count++];
    return true;
}

static void walk_end(struct walk *walk)
{
    if (walk->pagemap >= 0)
        close(walk->pagemap);
}

static struct range everything(const struct sf_pages *pages)
{
    return (struct range){0, pages->size};
}

/* ---------------------------------------------------------------- the file */

static bool is_the_file(const struct sf_pages *pages, int file)
{
    struct stat status;

    return fstat(file, &status) == 0 && status.st_dev == pages->device &&
           status.st_ino == pages->inode;
}

static void *map_file(const struct sf_pages *pages, int sharing)
{
    if (!is_the_file(pages, pages->file)) {
        errno = EBADF;
        return MAP_FAILED;
    }
    return mmap(NULL, pages->size, PROT_READ | PROT_WRITE, sharing | MAP_NORESERVE, pages->file, 0);
}

static int open_again(const struct sf_pages *pages)
{
    char path[32];
    int file;

    snprintf(path, sizeof path, "/proc/self/fd/%d", pages->file);
    file = open(path, O_RDWR | O_CLOEXEC);
    if (file < 0)
        return -errno;
    if (!is_the_file(pages, file)) {
        close(file);
        return -EBADF;
    }
    return file;
}

static void take_witness_down(struct sf_pages *pages)
{
    if (pages->witness != MAP_FAILED)
        munmap(pages->witness, pages->page_size);
    pages->witness = MAP_FAILED;
}

/* Hang a new witness in place of the old one. Returns 0 if nobody else has any,
 * -EBUSY if somebody has. */
static int change_witness(struct sf_pages *pages)
{
    int file = open_again(pages), rc = 0;
    void *witness;

    if (file < 0)
        return file;
    witness = mmap(NULL, pages->page_size, PROT_NONE, MAP_SHARED, file, 0);
    if (witness == MAP_FAILED) {
        rc = -errno;
        goto undo_open;
    }
    take_witness_down(pages);
    pages->witness = witness;
    if (flock(file, LOCK_EX | LOCK_NB) < 0)
        rc = -EBUSY;
    if (flock(file, LOCK_SH | LOCK_NB) < 0) {
        rc = -errno;
        pages->is_unwitnessed = true;
    }
undo_open:
    close(file); /* the lock stays: the mapping keeps the open file */
    return rc;
}

/* -------------------------------------------------------------- the memory */

static void let_go(struct sf_pages *pages)
{
    /* Acquire and release: pairs with itself, so that the last to go frees
     * what all others have done with. */
    if (atomic_fetch_sub_explicit(&pages->reference_count, 1, memory_order_acq_rel) > 1)
        return;
    take_witness_down(pages);
    munmap(pages->data, pages->size);
    if (is_the_file(pages, pages->file))
        close(pages->file);
    free(pages);
}

/* See that a write shows, and that it can be dropped. */
static bool works(const struct sf_pages *pages)
{
    struct range written = {0, 0}, rest;
    struct walk walk;
    bool shows;

    pages->data[0] = 1;
    walk_begin(&walk, pages, everything(pages));
    shows = walk.pagemap >= 0 && walk_on(&walk, &written) && !walk_on(&walk, &rest) &&
            written.start == 0 && written.end == pages->page_size;
    walk_end(&walk);
    return shows && madvise(pages->data, pages->page_size, MADV_DONTNEED) == 0 &&
           pages->data[0] == 0;
}

static int as_unsupported(int error)
{
    return error == ENOMEM || error == EMFILE || error == ENFILE ? -error : -ENOTSUP;
}

static int map_pages(struct sf_pages *pages)
{
    struct stat status;
    int rc;

    if (fstat(pages->file, &status) < 0)
        return as_unsupported(errno);
    pages->device = status.st_dev;
    pages->inode = status.st_ino;
    pages->data = map_file(pages, MAP_PRIVATE);
    if (pages->data == MAP_FAILED)
        return as_unsupported(errno);
    rc = change_witness(pages);
    if (rc < 0)
        rc = as_unsupported(-rc);
    else if (!works(pages))
        rc = -ENOTSUP;
    if (rc < 0) {
        take_witness_down(pages);
        munmap(pages->data, pages->size);
    }
    return rc;
}

int sf_pages_create(size_t size, struct sf_pages **pages)
{
    size_t page_size = (size_t)sysconf(_SC_PAGESIZE);
    struct sf_pages *made;
    int rc;

    if (size == 0)
        return -EINVAL;
    if (size > SIZE_MAX / 2)
        return -ENOMEM;
    made = calloc(1, sizeof *made);
    if (made == NULL)
        return -ENOMEM;
    made->page_size = page_size;
    made->size = (size + page_size - 1) / page_size * page_size;
    made->witness = MAP_FAILED;
    /* Relaxed: nobody else knows of it yet. */
    atomic_init(&made->reference_count, 1);
    made->file = memory_file_create(made->size);
    if (made->file < 0) {
        rc = as_unsupported(-made->file);
        goto undo_calloc;
    }
    rc = map_pages(made);
    if (rc < 0)
        goto undo_file;
    *pages = made;
    return 0;

undo_file:
    close(made->file);
undo_calloc:
    free(made);
    return rc;
}

void *sf_pages_data(const struct sf_pages *pages)
{
    return pages->data;
}

/* From here on the written pages are the file's. Those that cannot be dropped,
 * because they are locked in memory, stay written and equal. */
static void move_into(unsigned char *file, struct walk *walk, struct range written)
{
    unsigned char *data = walk->pages->data;

    do {
        memcpy(file + written.start, data + written.start, written.end - written.start);
        madvise(data + written.start, written.end - written.start, MADV_DONTNEED);
    } while (walk_on(walk, &written));
}

static int settle(struct sf_pages *pages, struct walk *walk, struct range written)
{
    int rc = change_witness(pages);
    void *file;

    if (rc < 0)
        return rc;
    file = map_file(pages, MAP_SHARED);
    if (file == MAP_FAILED)
        return -errno;
    move_into(file, walk, written);
    munmap(file, pages->size);
    return 0;
}

int sf_pages_settle(struct sf_pages *pages)
{
    struct range written;
    struct walk walk;
    int rc = 0;

    /* Acquire: pairs with the release in let_go; an image that is gone has been
     * read for the last time. */
    if (atomic_load_explicit(&pages->reference_count, memory_order_acquire) > 1 ||
        pages->is_unwitnessed)
        return -EBUSY;
    walk_begin(&walk, pages, everything(pages));
    if (walk_on(&walk, &written))
        rc = settle(pages, &walk, written);
    walk_end(&walk);
    return rc;
}

void sf_pages_destroy(struct sf_pages *pages)
{
    if (pages != NULL)
        let_go(pages);
}

/* ------------------------------------------------------------------- images */

static void copy_written(struct sf_image *image)
{
    const struct sf_pages *pages = image->pages;
    struct range written;
    struct walk walk;

    walk_begin(&walk, pages, everything(pages));
    while (walk_on(&walk, &written))
        memcpy(image->data + written.start, pages->data + written.start,
               written.end - written.start);
    walk_end(&walk);
}

int sf_image_create(struct sf_pages *pages, struct sf_image **image)
{
    struct sf_image *made = calloc(1, sizeof *made);
    int rc;

    if (made == NULL)
        return -ENOMEM;
    made->pages = pages;
    made->data = map_file(pages, MAP_PRIVATE);
    if (made->data == MAP_FAILED) {
        rc = errno == EBADF ? -EBADF : -ENOMEM;
        goto undo_calloc;
    }
    copy_written(made);
    /* Relaxed: it counts; whoever takes it down to none is ordered in let_go. */
    atomic_fetch_add_explicit(&pages->reference_count, 1, memory_order_relaxed);
    *image = made;
    return 0;

undo_calloc:
    free(made);
    return rc;
}

const void *sf_image_data(const struct sf_image *image)
{
    return image->data;
}

struct changes {
    const unsigned char *was, *now;
    size_t element_size, *bounds, count, limit;
};

static bool add_change(struct changes *changes, size_t start, size_t end)
{
    if (changes->count > 0 && changes->bounds[2 * changes->count - 1] == start) {
        changes->bounds[2 * changes->count - 1] = end;
        return true;
    }
    if (changes->count == changes->limit)
        return false;
    changes->bounds[2 * changes->count] = start;
    changes->bounds[2 * changes->count + 1] = end;
    changes->count++;
    return true;
}

/* A constant size is one instruction. */
static bool differs(const unsigned char *was, const unsigned char *now, size_t size)
{
    switch (size) {
    case 1:
        return *was != *now;
    case 4:
        return memcmp(was, now, 4) != 0;
    case 8:
        return memcmp(was, now, 8) != 0;
    default:
        return memcmp(was, now, size) != 0;
    }
}

/* Returns false when there is no room for what was found. */
static bool compare_elements(struct changes *changes, size_t start, size_t end)
{
    size_t size = changes->element_size;

    for (size_t at = start; at < end; at += size)
        if (differs(changes->was + at, changes->now + at, size) &&
            !add_change(changes, at, at + size))
            return false;
    return true;
}

#define BLOCK_SIZE ((size_t)4096)

static bool compare(struct changes *changes, size_t start, size_t end)
{
    size_t size = changes->element_size;
    size_t block = size < BLOCK_SIZE ? BLOCK_SIZE / size * size : size;

    for (size_t at = start, next; at < end; at = next) {
        next = end - at < block ? end : at + block;
        if (memcmp(changes->was + at, changes->now + at, next - at) != 0 &&
            !compare_elements(changes, at, next))
            return false;
    }
    return true;
}

static size_t rounded_up(size_t number, size_t unit)
{
    return (number + unit - 1) / unit * unit;
}

size_t sf_image_changes(const struct sf_image *image, size_t start, size_t end, size_t element_size,
                        size_t *bounds, size_t count)
{
    const struct sf_pages *pages = image->pages;
    struct changes changes = {image->data, pages->data, element_size, bounds, 0, count};
    struct range over = {start / pages->page_size * pages->page_size,
                         rounded_up(end, pages->page_size)};
    struct range written;
    struct walk walk;
    size_t at = start, first;
    bool has_room = true;

    walk_begin(&walk, pages, over);
    while (has_room && at < end && walk_on(&walk, &written)) {
        first =
            written.start > at ? start + (written.start - start) / element_size * element_size : at;
        first = first > at ? first : at;
        at = start + rounded_up(written.end - start, element_size);
        at = at < end ? at : end;
        has_room = compare(&changes, first, at);
    }
    walk_end(&walk);
    return changes.count;
}

void sf_image_destroy(struct sf_image *image)
{
    if (image == NULL)
        return;
    munmap(image->data, image->pages->size);
    let_go(image->pages);
    free(image);
}
