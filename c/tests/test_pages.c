/* SPDX-License-Identifier: MIT */
/* Written pages are found, and of them exactly the elements that changed, in
 * the process that wrote them and whatever it inherited; and nothing that one
 * process writes is seen by another.
 *
 * Everything is checked twice: as the kernel tells it at one stroke, and, with
 * ioctl refused by --wrap, entry by entry.
 */
#define _GNU_SOURCE
#include "peer.h"

#include <stdarg.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#define PAGE ((size_t)4096)
#define PAGE_COUNT ((size_t)2000)
#define SIZE (PAGE_COUNT * PAGE)
#define MOST 5000

/* -------------------------------------------------------- two kinds of kernel */

static bool no_scans, no_pagemap;
static bool no_locks;
static long scans, huge_pages;

int __real_ioctl(int, unsigned long, ...);
int __wrap_ioctl(int, unsigned long, ...);

int __wrap_ioctl(int file, unsigned long request, ...)
{
    va_list arguments;
    void *argument;
    int rc;

    va_start(arguments, request);
    argument = va_arg(arguments, void *);
    va_end(arguments);
    if (no_scans) {
        errno = ENOTTY;
        return -1;
    }
    rc = __real_ioctl(file, request, argument);
    scans += rc >= 0;
    return rc;
}

int __real_open(const char *, int, ...);
int __wrap_open(const char *, int, ...);

int __wrap_open(const char *path, int flags, ...)
{
    if (no_pagemap && strcmp(path, "/proc/self/pagemap") == 0) {
        errno = EACCES;
        return -1;
    }
    return __real_open(path, flags);
}

int __real_flock(int, int);
int __wrap_flock(int, int);

int __wrap_flock(int file, int operation)
{
    if (no_locks && (operation & LOCK_SH) != 0) {
        errno = ENOLCK;
        return -1;
    }
    return __real_flock(file, operation);
}

/* ------------------------------------------------------------------- subjects */

struct memory {
    struct sf_pages *pages;
    unsigned char *data;
};

static struct memory make_memory(size_t size)
{
    struct memory memory = {NULL, NULL};

    CHECK_EQUAL(sf_pages_create(size, &memory.pages), 0);
    memory.data = sf_pages_data(memory.pages);
    return memory;
}

static struct sf_image *make_image(struct memory memory)
{
    struct sf_image *image = NULL;

    CHECK_EQUAL(sf_image_create(memory.pages, &image), 0);
    return image;
}

static size_t changes_of(const struct sf_image *image, size_t size, size_t element, size_t *bounds)
{
    return sf_image_changes(image, 0, size, element, bounds, MOST);
}

static void check_change(const struct sf_image *image, size_t size, size_t element, size_t start,
                         size_t end)
{
    size_t bounds[2 * MOST];

    CHECK_EQUAL(changes_of(image, size, element, bounds), 1);
    CHECK_EQUAL(bounds[0], start);
    CHECK_EQUAL(bounds[1], end);
}

static void check_unchanged(const struct sf_image *image, size_t size)
{
    size_t bounds[2 * MOST];

    CHECK_EQUAL(changes_of(image, size, 1, bounds), 0);
}

/* How much of it the process has for itself, in pages. */
static size_t own_pages(struct memory memory, size_t size)
{
    size_t own = 0;
    uint64_t entry;
    int file = __real_open("/proc/self/pagemap", O_RDONLY);

    for (size_t page = 0; page < size / PAGE; page++) {
        off_t place = (off_t)(((uintptr_t)memory.data / PAGE + page) * sizeof entry);

        CHECK_EQUAL(pread(file, &entry, sizeof entry, place), sizeof entry);
        own += entry >> 62 != 0 && (entry >> 61 & 1) == 0;
    }
    close(file);
    return own;
}

/* The descriptor of the memory's file, which is the one of that size. */
static int file_of(size_t size)
{
    struct stat status;

    for (int file = 3; file < 1000; file++)
        if (fstat(file, &status) == 0 && status.st_size == (off_t)size)
            return file;
    CHECK(!"there is one");
    return -1;
}

/* ------------------------------------------------------------ in one process */

static void fresh_memory_is_zeros_and_unchanged(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image = make_image(memory);
    static const unsigned char zeros[SIZE];

    CHECK(memcmp(memory.data, zeros, SIZE) == 0);
    check_unchanged(image, SIZE);
    sf_image_destroy(image);
    sf_pages_destroy(memory.pages);
}

static void an_element_that_was_written_is_found_and_no_other(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image = make_image(memory);

    memory.data[5 * PAGE + 17] = 1;
    check_change(image, SIZE, 1, 5 * PAGE + 17, 5 * PAGE + 18);
    check_change(image, SIZE, 8, 5 * PAGE + 16, 5 * PAGE + 24);
    check_change(image, SIZE, PAGE, 5 * PAGE, 6 * PAGE);
    sf_image_destroy(image);
    sf_pages_destroy(memory.pages);
}

static void storing_what_is_there_changes_nothing(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image = make_image(memory);

    memset(memory.data, 0, SIZE / 2);
    check_unchanged(image, SIZE);
    CHECK_EQUAL(own_pages(memory, SIZE), PAGE_COUNT / 2);
    sf_image_destroy(image);
    sf_pages_destroy(memory.pages);
}

static void an_image_keeps_what_was(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *first, *second;
    const unsigned char *then;

    memory.data[10] = 1;
    memory.data[20 * PAGE] = 2;
    first = make_image(memory);
    then = sf_image_data(first);
    memory.data[10] = 3;
    memory.data[30 * PAGE] = 4;
    second = make_image(memory);
    memory.data[10] = 1;
    memory.data[30 * PAGE] = 0;
    CHECK(then[10] == 1 && then[20 * PAGE] == 2 && then[30 * PAGE] == 0);
    check_unchanged(first, SIZE);
    memory.data[10] = 3;
    check_change(second, SIZE, 1, 30 * PAGE, 30 * PAGE + 1);
    sf_image_destroy(first);
    check_change(second, SIZE, 1, 30 * PAGE, 30 * PAGE + 1);
    sf_image_destroy(second);
    sf_pages_destroy(memory.pages);
}

/* Elements of 24 bytes lie across the ends of pages, and begin where they are
 * said to begin. */
static void elements_may_lie_across_pages(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image = make_image(memory);
    size_t bounds[2 * MOST], start = 7, end = start + 24 * (SIZE / 24 - 1);
    size_t across = start + (5 * PAGE - start) / 24 * 24;

    memory.data[5 * PAGE] = 1;
    CHECK(across < 5 * PAGE && across + 24 > 5 * PAGE);
    CHECK_EQUAL(sf_image_changes(image, start, end, 24, bounds, MOST), 1);
    CHECK_EQUAL(bounds[0], across);
    CHECK_EQUAL(bounds[1], across + 24);
    memory.data[5 * PAGE - 1] = 1;
    CHECK_EQUAL(sf_image_changes(image, start, end, 24, bounds, MOST), 1);
    CHECK_EQUAL(bounds[1], across + 24);
    sf_image_destroy(image);
    sf_pages_destroy(memory.pages);
}

static void only_what_was_asked_for_is_looked_at(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image = make_image(memory);
    size_t bounds[2 * MOST];

    memset(memory.data, 1, SIZE);
    CHECK_EQUAL(sf_image_changes(image, 100, 100, 4, bounds, MOST), 0);
    CHECK_EQUAL(sf_image_changes(image, 100, 5 * PAGE + 104, 4, bounds, MOST), 1);
    CHECK_EQUAL(bounds[0], 100);
    CHECK_EQUAL(bounds[1], 5 * PAGE + 104);
    sf_image_destroy(image);
    sf_pages_destroy(memory.pages);
}

/* Runs at random places, against a comparison of everything. */
static size_t compare_everything(const unsigned char *was, const unsigned char *now, size_t element,
                                 size_t *bounds)
{
    size_t count = 0;

    for (size_t at = 0; at < SIZE; at += element) {
        if (memcmp(was + at, now + at, element) == 0)
            continue;
        if (count > 0 && bounds[2 * count - 1] == at) {
            bounds[2 * count - 1] = at + element;
            continue;
        }
        bounds[2 * count] = at;
        bounds[2 * count++ + 1] = at + element;
    }
    return count;
}

static void scatter(unsigned char *data, uint64_t seed, size_t count)
{
    for (size_t i = 0; i < count; i++)
        data[noise(seed + i) % SIZE] = (unsigned char)(noise(seed ^ i) % 3);
}

static void check_against_everything(struct memory memory, const struct sf_image *image,
                                     size_t element)
{
    static size_t expected[2 * MOST], found[2 * MOST];
    size_t count = compare_everything(sf_image_data(image), memory.data, element, expected);
    size_t total = 0, got, at = 0;

    /* A few at a time, so that it stops and goes on in the middle of pages. */
    do {
        got = sf_image_changes(image, at, SIZE, element, found + 2 * total, 7);
        total += got;
        at = got > 0 ? found[2 * total - 1] : SIZE;
    } while (got == 7 && total < MOST - 7);
    CHECK_EQUAL(total, count);
    CHECK(memcmp(expected, found, 2 * count * sizeof *found) == 0);
}

static void what_is_found_is_what_comparing_everything_finds(void)
{
    static const size_t elements[] = {1, 2, 4, 8, 16, PAGE / 2, 2 * PAGE};
    struct memory memory = make_memory(SIZE);

    for (uint64_t round = 0; round < 20; round++) {
        unsigned char *before = malloc(SIZE);
        struct sf_image *image;

        scatter(memory.data, round * 1000, 500);
        if (round % 3 == 0)
            CHECK_EQUAL(sf_pages_settle(memory.pages), 0);
        memcpy(before, memory.data, SIZE);
        image = make_image(memory);
        scatter(memory.data, round * 1000 + 700, 500);
        CHECK(memcmp(before, sf_image_data(image), SIZE) == 0);
        check_against_everything(memory, image, elements[round % 7]);
        sf_image_destroy(image);
        free(before);
    }
    sf_pages_destroy(memory.pages);
}

static void what_a_system_call_writes_is_found(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image = make_image(memory);
    int ends[2];

    CHECK_EQUAL(pipe(ends), 0);
    CHECK_EQUAL(write(ends[1], "abc", 3), 3);
    CHECK_EQUAL(read(ends[0], memory.data + 9 * PAGE + 5, 3), 3);
    check_change(image, SIZE, 1, 9 * PAGE + 5, 9 * PAGE + 8);
    close(ends[0]);
    close(ends[1]);
    sf_image_destroy(image);
    sf_pages_destroy(memory.pages);
}

/* To lock private memory is to have the kernel write to all of it; sanitizers
 * do not lock. */
static void locked_memory_is_compared_page_by_page(void)
{
    struct memory memory = make_memory(4 * PAGE);
    struct sf_image *image = make_image(memory);

    if (mlock(memory.data, 4 * PAGE) == 0) {
        CHECK(UNDER_SANITIZER || own_pages(memory, 4 * PAGE) == 4);
        check_unchanged(image, 4 * PAGE);
        memory.data[PAGE] = 1;
        check_change(image, 4 * PAGE, 1, PAGE, PAGE + 1);
        sf_image_destroy(image);
        CHECK_EQUAL(sf_pages_settle(memory.pages), 0);
        CHECK_EQUAL(memory.data[PAGE], 1);
        image = make_image(memory);
        check_unchanged(image, 4 * PAGE);
        memory.data[PAGE] = 2;
        check_change(image, 4 * PAGE, 1, PAGE, PAGE + 1);
    }
    sf_image_destroy(image);
    sf_pages_destroy(memory.pages);
}

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

/* Make huge pages of the file's pages, which need a mapping at a round address. */
static bool make_huge(size_t size)
{
    int file = file_of(size);
    size_t huge = 2 * MIB;
    unsigned char *room = mmap(NULL, size + huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    unsigned char *round = room + (huge - (uintptr_t)room % huge);
    bool made = false;

    mmap(round, size, PROT_READ, MAP_SHARED | MAP_FIXED, file, 0);
    for (int attempt = 0; attempt < 20 && !made; attempt++)
        made = madvise(round, size, MADV_COLLAPSE) == 0;
    munmap(room, size + huge);
    return made;
}

/* A write copies a part of one. */
static void huge_pages_are_found_as_well(void)
{
    struct memory memory = make_memory(16 * MIB);
    struct sf_image *image;

    memset(memory.data, 1, 16 * MIB);
    CHECK_EQUAL(sf_pages_settle(memory.pages), 0);
    huge_pages += make_huge(16 * MIB);
    image = make_image(memory);
    CHECK(memcmp(sf_image_data(image), memory.data, 16 * MIB) == 0);
    memory.data[9 * MIB] = 2;
    memory.data[5 * MIB] = 1;
    check_change(image, 16 * MIB, 1, 9 * MIB, 9 * MIB + 1);
    CHECK(own_pages(memory, 16 * MIB) < 4 * MIB / PAGE);
    make_huge(16 * MIB);
    check_change(image, 16 * MIB, 1, 9 * MIB, 9 * MIB + 1);
    sf_image_destroy(image);
    CHECK_EQUAL(sf_pages_settle(memory.pages), 0);
    CHECK_EQUAL(memory.data[9 * MIB], 2);
    sf_pages_destroy(memory.pages);
}

static void where_the_kernel_does_not_tell_everything_is_compared(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image;

    memory.data[3] = 1;
    no_pagemap = true;
    image = make_image(memory);
    memory.data[5 * PAGE] = 1;
    check_change(image, SIZE, 1, 5 * PAGE, 5 * PAGE + 1);
    no_pagemap = false;
    check_change(image, SIZE, 1, 5 * PAGE, 5 * PAGE + 1);
    sf_image_destroy(image);
    no_pagemap = true;
    CHECK_EQUAL(sf_pages_settle(memory.pages), 0);
    no_pagemap = false;
    CHECK_EQUAL(memory.data[3], 1);
    sf_pages_destroy(memory.pages);
}

static void where_the_kernel_never_tells_it_is_not_made(void)
{
    struct sf_pages *pages = NULL;

    no_pagemap = true;
    CHECK_EQUAL(sf_pages_create(SIZE, &pages), -ENOTSUP);
    no_pagemap = false;
    CHECK(pages == NULL);
}

static void impossible_sizes_are_refused(void)
{
    struct rlimit before, small = {PAGE, RLIM_INFINITY};
    struct sf_pages *pages = NULL;

    CHECK_EQUAL(sf_pages_create(0, &pages), -EINVAL);
    CHECK_EQUAL(sf_pages_create(SIZE_MAX, &pages), -ENOMEM);
    CHECK_EQUAL(sf_pages_create(SIZE_MAX / 2 - PAGE, &pages), -ENOMEM);
    getrlimit(RLIMIT_FSIZE, &before);
    small.rlim_max = before.rlim_max;
    setrlimit(RLIMIT_FSIZE, &small);
    CHECK_EQUAL(sf_pages_create(SIZE, &pages), -ENOTSUP);
    setrlimit(RLIMIT_FSIZE, &before);
    CHECK(pages == NULL);
    sf_pages_destroy(NULL);
    sf_image_destroy(NULL);
}

static void address_space_may_be_short(void)
{
    struct rlimit before, little;
    struct memory memory;
    struct sf_image *image = NULL;
    struct sf_pages *pages = NULL;

    /* A sanitizer's own memory is beyond any such limit. */
    if (UNDER_SANITIZER)
        return;
    memory = make_memory(64 * MIB);
    memory.data[0] = 1;
    getrlimit(RLIMIT_AS, &before);
    little = (struct rlimit){80 * MIB, before.rlim_max};
    setrlimit(RLIMIT_AS, &little);
    CHECK_EQUAL(sf_image_create(memory.pages, &image), -ENOMEM);
    CHECK_EQUAL(sf_pages_settle(memory.pages), -ENOMEM);
    CHECK_EQUAL(sf_pages_create(64 * MIB, &pages), -ENOMEM);
    setrlimit(RLIMIT_AS, &before);
    CHECK_EQUAL(memory.data[0], 1);
    CHECK_EQUAL(sf_pages_settle(memory.pages), 0);
    sf_pages_destroy(memory.pages);
}

/* ------------------------------------------------------------------ settling */

static void settled_memory_is_the_same_and_held_once(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image;

    memset(memory.data, 7, SIZE / 2);
    memory.data[SIZE - 1] = 9;
    CHECK_EQUAL(own_pages(memory, SIZE), PAGE_COUNT / 2 + 1);
    CHECK_EQUAL(sf_pages_settle(memory.pages), 0);
    CHECK_EQUAL(own_pages(memory, SIZE), 0);
    CHECK(memory.data[0] == 7 && memory.data[SIZE / 2 - 1] == 7 && memory.data[SIZE / 2] == 0);
    CHECK_EQUAL(memory.data[SIZE - 1], 9);
    image = make_image(memory);
    check_unchanged(image, SIZE);
    sf_image_destroy(image);
    sf_pages_destroy(memory.pages);
}

static void nothing_is_settled_while_there_is_an_image(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image = make_image(memory);

    memory.data[0] = 1;
    CHECK_EQUAL(sf_pages_settle(memory.pages), -EBUSY);
    check_change(image, SIZE, 1, 0, 1);
    sf_image_destroy(image);
    CHECK_EQUAL(sf_pages_settle(memory.pages), 0);
    sf_pages_destroy(memory.pages);
}

static void an_image_outlives_the_handle(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image = make_image(memory);

    memory.data[0] = 1;
    sf_pages_destroy(memory.pages);
    check_change(image, SIZE, 1, 0, 1);
    sf_image_destroy(image);
}

/* Somebody closes every descriptor there is, and opens another file. */
static void a_stolen_descriptor_is_not_taken_for_ours(void)
{
    struct memory memory = make_memory(SIZE);
    struct sf_image *image = make_image(memory);
    int file = file_of(SIZE), stranger;
    struct stat theirs;

    stranger = (int)syscall(SYS_memfd_create, "stranger", 1u);
    CHECK_EQUAL(ftruncate(stranger, (off_t)SIZE), 0);
    CHECK_EQUAL(dup2(stranger, file), file);
    memory.data[0] = 1;
    check_change(image, SIZE, 1, 0, 1);
    sf_image_destroy(image);
    CHECK_EQUAL(sf_image_create(memory.pages, &image), -EBADF);
    CHECK_EQUAL(sf_pages_settle(memory.pages), -EBADF);
    CHECK_EQUAL(memory.data[0], 1);
    sf_pages_destroy(memory.pages);
    CHECK(fstat(file, &theirs) == 0 && theirs.st_size == (off_t)SIZE);
    close(file);
    close(stranger);
}

/* -------------------------------------------------------------- other processes */

struct family {
    struct memory memory;
    struct sf_image *image;
    _Atomic int *progress;
};

static struct family make_family(void)
{
    struct family family = {make_memory(SIZE), NULL, make_progress()};

    return family;
}

static void end_family(struct family *family)
{
    sf_image_destroy(family->image);
    sf_pages_destroy(family->memory.pages);
    free_progress(family->progress);
}

static void write_in_child(void *subject)
{
    struct family *family = subject;

    family->memory.data[40 * PAGE + 3] = 4;
    check_change(family->image, SIZE, 1, 40 * PAGE + 3, 40 * PAGE + 4);
}

static void a_child_finds_what_it_wrote_and_nobody_else_sees_it(void)
{
    struct family family = make_family();

    memset(family.memory.data, 1, SIZE / 4);
    family.image = make_image(family.memory);
    CHECK_EQUAL(end_peer(start_peer(write_in_child, &family)), 0);
    check_unchanged(family.image, SIZE);
    CHECK_EQUAL(family.memory.data[40 * PAGE + 3], 1);
    end_family(&family);
}

static void wait_and_compare(void *subject)
{
    struct family *family = subject;

    WAIT_UNTIL(atomic_load(family->progress) == 1);
    check_unchanged(family->image, SIZE);
    CHECK_EQUAL(family->memory.data[PAGE], 0);
    family->memory.data[2 * PAGE] = 5;
    check_change(family->image, SIZE, 1, 2 * PAGE, 2 * PAGE + 1);
}

static void a_child_does_not_see_what_its_parent_writes_later(void)
{
    struct family family = make_family();
    struct sf_process *child;

    family.image = make_image(family.memory);
    child = start_peer(wait_and_compare, &family);
    family.memory.data[PAGE] = 1;
    check_change(family.image, SIZE, 1, PAGE, PAGE + 1);
    CHECK_EQUAL(sf_pages_settle(family.memory.pages), -EBUSY);
    atomic_store(family.progress, 1);
    CHECK_EQUAL(end_peer(child), 0);
    end_family(&family);
}

static void see_old_state(void *subject)
{
    struct family *family = subject;

    WAIT_UNTIL(atomic_load(family->progress) == 1);
    CHECK_EQUAL(family->memory.data[PAGE], 0);
    CHECK_EQUAL(family->memory.data[2 * PAGE], 6);
}

/* Also one that has no image, and that nobody told of the memory. */
static void nothing_is_settled_while_a_child_has_the_memory(void)
{
    struct family family = make_family();
    struct sf_process *child;

    family.memory.data[2 * PAGE] = 6;
    child = start_peer(see_old_state, &family);
    family.memory.data[PAGE] = 1;
    for (int i = 0; i < 3; i++)
        CHECK_EQUAL(sf_pages_settle(family.memory.pages), -EBUSY);
    atomic_store(family.progress, 1);
    CHECK_EQUAL(end_peer(child), 0);
    CHECK_EQUAL(sf_pages_settle(family.memory.pages), 0);
    CHECK_EQUAL(own_pages(family.memory, SIZE), 0);
    end_family(&family);
}

/* A child that cannot be seen may have been forked meanwhile, and one was. */
static void where_the_kernel_keeps_no_lock_nothing_is_settled_any_more(void)
{
    struct family family = make_family();
    struct sf_process *child;

    family.memory.data[2 * PAGE] = 6;
    no_locks = true;
    CHECK_EQUAL(sf_pages_settle(family.memory.pages), -ENOLCK);
    no_locks = false;
    child = start_peer(see_old_state, &family);
    family.memory.data[PAGE] = 1;
    CHECK_EQUAL(sf_pages_settle(family.memory.pages), -EBUSY);
    atomic_store(family.progress, 1);
    CHECK_EQUAL(end_peer(child), 0);
    CHECK_EQUAL(sf_pages_settle(family.memory.pages), -EBUSY);
    end_family(&family);
}

static void nothing_is_lost_from_one_child_to_the_next(void)
{
    struct family family = make_family();

    for (int i = 0; i < 50; i++) {
        family.memory.data[40 * PAGE + 7] = (unsigned char)(i + 1);
        CHECK_EQUAL(sf_pages_settle(family.memory.pages), 0);
        family.image = make_image(family.memory);
        CHECK_EQUAL(end_peer(start_peer(write_in_child, &family)), 0);
        sf_image_destroy(family.image);
        CHECK_EQUAL(family.memory.data[40 * PAGE + 7], i + 1);
    }
    family.image = NULL;
    end_family(&family);
}

static void leave_a_grandchild(void *subject)
{
    struct family *family = subject;
    pid_t pid = fork();

    if (pid == 0) {
        see_old_state(subject);
        atomic_store(family->progress, 2);
        _exit(0);
    }
}

/* It was told by nobody that there is such a process, and cannot wait for it. */
static void a_grandchild_whose_parent_is_gone_is_seen(void)
{
    struct family family = make_family();
    struct memory other = make_memory(SIZE);

    family.memory.data[2 * PAGE] = 6;
    CHECK_EQUAL(end_peer(start_peer(leave_a_grandchild, &family)), 0);
    family.memory.data[PAGE] = 1;
    CHECK_EQUAL(sf_pages_settle(family.memory.pages), -EBUSY);
    atomic_store(family.progress, 1);
    WAIT_UNTIL(sf_pages_settle(family.memory.pages) == 0);
    CHECK_EQUAL(atomic_load(family.progress), 2);
    sf_pages_destroy(other.pages);
    end_family(&family);
}

static void close_everything(void *subject)
{
    struct family *family = subject;

    for (int fd = 3; fd < 1000; fd++)
        close(fd);
    atomic_store(family->progress, 2);
    see_old_state(subject);
    write_in_child(subject);
}

static void a_child_that_closes_its_descriptors_is_seen_all_the_same(void)
{
    struct family family = make_family();
    struct sf_process *child;

    family.memory.data[2 * PAGE] = 6;
    CHECK_EQUAL(sf_pages_settle(family.memory.pages), 0);
    family.image = make_image(family.memory);
    child = start_peer(close_everything, &family);
    sf_image_destroy(family.image);
    family.image = NULL;
    WAIT_UNTIL(atomic_load(family.progress) == 2);
    family.memory.data[PAGE] = 1;
    CHECK_EQUAL(sf_pages_settle(family.memory.pages), -EBUSY);
    atomic_store(family.progress, 1);
    CHECK_EQUAL(end_peer(child), 0);
    end_family(&family);
}

static void begin_a_task_of_its_own(void *subject)
{
    struct family *family = subject;
    struct family inner = *family;

    family->memory.data[8 * PAGE] = 1;
    CHECK_EQUAL(sf_pages_settle(family->memory.pages), -EBUSY);
    inner.image = make_image(family->memory);
    CHECK_EQUAL(end_peer(start_peer(write_in_child, &inner)), 0);
    check_unchanged(inner.image, SIZE);
    check_change(family->image, SIZE, 1, 8 * PAGE, 8 * PAGE + 1);
    family->memory.data[8 * PAGE] = 2;
    check_change(inner.image, SIZE, 1, 8 * PAGE, 8 * PAGE + 1);
    sf_image_destroy(inner.image);
}

static void a_child_has_images_and_children_of_its_own(void)
{
    struct family family = make_family();

    family.memory.data[8 * PAGE] = 7;
    family.memory.data[9 * PAGE] = 7;
    family.image = make_image(family.memory);
    CHECK_EQUAL(end_peer(start_peer(begin_a_task_of_its_own, &family)), 0);
    check_unchanged(family.image, SIZE);
    end_family(&family);
}

/* Children forked at different times, while the parent goes on writing. */
static void each_child_is_compared_with_its_own_beginning(void)
{
    struct family first = make_family(), second;
    struct sf_process *early, *late;

    first.image = make_image(first.memory);
    early = start_peer(wait_and_compare, &first);
    first.memory.data[3 * PAGE] = 1;
    second = first;
    second.image = make_image(second.memory);
    late = start_peer(wait_and_compare, &second);
    first.memory.data[3 * PAGE] = 2;
    first.memory.data[PAGE] = 2;
    atomic_store(first.progress, 1);
    CHECK_EQUAL(end_peer(late), 0);
    sf_image_destroy(second.image);
    CHECK_EQUAL(end_peer(early), 0);
    end_family(&first);
}

static void play_all(void)
{
    RUN(fresh_memory_is_zeros_and_unchanged);
    RUN(an_element_that_was_written_is_found_and_no_other);
    RUN(storing_what_is_there_changes_nothing);
    RUN(an_image_keeps_what_was);
    RUN(elements_may_lie_across_pages);
    RUN(only_what_was_asked_for_is_looked_at);
    RUN(what_is_found_is_what_comparing_everything_finds);
    RUN(what_a_system_call_writes_is_found);
    RUN(locked_memory_is_compared_page_by_page);
    RUN(huge_pages_are_found_as_well);
    RUN(where_the_kernel_does_not_tell_everything_is_compared);
    RUN(where_the_kernel_never_tells_it_is_not_made);
    RUN(impossible_sizes_are_refused);
    RUN(address_space_may_be_short);
    RUN(settled_memory_is_the_same_and_held_once);
    RUN(nothing_is_settled_while_there_is_an_image);
    RUN(an_image_outlives_the_handle);
    RUN(a_stolen_descriptor_is_not_taken_for_ours);
    RUN(a_child_finds_what_it_wrote_and_nobody_else_sees_it);
    RUN(a_child_does_not_see_what_its_parent_writes_later);
    RUN(nothing_is_settled_while_a_child_has_the_memory);
    RUN(where_the_kernel_keeps_no_lock_nothing_is_settled_any_more);
    RUN(nothing_is_lost_from_one_child_to_the_next);
    RUN(a_grandchild_whose_parent_is_gone_is_seen);
    RUN(a_child_that_closes_its_descriptors_is_seen_all_the_same);
    RUN(a_child_has_images_and_children_of_its_own);
    RUN(each_child_is_compared_with_its_own_beginning);
}

int main(void)
{
    struct sf_pages *pages = NULL;

    check_begin(60);
    end_peer(start_peer(leave_at_once, NULL));
    if (sf_pages_create(SIZE, &pages) == -ENOTSUP)
        return check_skip("the kernel does not tell which pages were written");
    sf_pages_destroy(pages);
    play_all();
    printf("scans: %ld%s\n", scans, scans == 0 ? ", this kernel has none" : "");
    printf("huge pages: %s\n", huge_pages > 0 ? "tried" : "there are none here");
    no_scans = true;
    play_all();
    return check_end();
}
