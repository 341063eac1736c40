/* SPDX-License-Identifier: MIT */
/* Private. UNDER_THREAD_SANITIZER is defined in a build for ThreadSanitizer,
 * which knows neither fences nor pthread_mutex_clocklock. Where it is defined
 * the same is done by means that it does know.
 */
#ifndef SNAKEFISH_SANITIZER_H
#define SNAKEFISH_SANITIZER_H

#if defined(__SANITIZE_THREAD__)
#define UNDER_THREAD_SANITIZER
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define UNDER_THREAD_SANITIZER
#endif
#endif

#endif
