/* SPDX-License-Identifier: MIT */
/* A coverage-guided search, by libFuzzer, for a script of damage that makes the
 * library crash, read what is not its own, or not return; hostile.h says what a
 * script is.
 *
 *     make fuzz SECONDS=60
 */
#define _GNU_SOURCE
#include "hostile.h"

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *bytes, size_t size)
{
    play_script(bytes, size);
    return 0;
}
