/* SPDX-License-Identifier: MIT */
/* Linked into the test programs of a coverage build, and into no other: a
 * process that leaves without a word, by _exit or by a signal that it sends to
 * itself, writes down first what it has reached. Weak, so that a test may have
 * functions of these names, which it takes from the linker for its own ends.
 */
#define _GNU_SOURCE
#include "kill_point.h"

#include <signal.h>
#include <unistd.h>

#define WEAK __attribute__((weak))

void __gcov_dump(void);
void __real__exit(int);
void __wrap__exit(int);
int __real_raise(int);
int __wrap_raise(int);
int __real_kill(pid_t, int);
int __wrap_kill(pid_t, int);

void __wrap__exit(int status)
{
    __gcov_dump();
    __real__exit(status);
}

WEAK int __wrap_raise(int number)
{
    if (number == SIGKILL)
        __gcov_dump();
    return __real_raise(number);
}

WEAK int __wrap_kill(pid_t process, int number)
{
    if (number == SIGKILL && process == getpid())
        __gcov_dump();
    return __real_kill(process, number);
}

/* The one library of the build has kill points, whether a test asks or not. */
#ifdef SF_KILL_POINTS
WEAK void sf_kill_point_reached(void)
{
}
#endif
