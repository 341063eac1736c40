/* SPDX-License-Identifier: MIT */
/* Private. Places where a test may end the process.
 *
 * Built with SF_KILL_POINTS, every SF_KILL_POINT counts down a process-wide
 * number and raises SIGKILL when it reaches zero, so that a test can die at
 * the n-th step of an operation for every n. Built without, it is nothing.
 */
#ifndef SNAKEFISH_KILL_POINT_H
#define SNAKEFISH_KILL_POINT_H

#ifdef SF_KILL_POINTS
extern long sf_kill_countdown; /* defined by the test; 0 is "never" */
void sf_kill_point_reached(void);
#define SF_KILL_POINT() sf_kill_point_reached()
#else
#define SF_KILL_POINT() ((void)0)
#endif

#endif
