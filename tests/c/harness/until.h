/* SPDX-License-Identifier: Apache-2.0 */
/*
 * until - waiting for what another thread does.
 *
 * Errors:  a condition that does not come true within WAIT_MS fails the test.
 */
#ifndef UNTIL_H
#define UNTIL_H

#include "check.h"

#include <time.h>

enum { WAIT_MS = 20000 };

static inline uint64_t clock_ms(void) {
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static inline void rest_ms(int ms) {
    (void)nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l}, NULL);
}

/* Evaluates the condition every millisecond. */
#define UNTIL(condition)                                                                                               \
    do {                                                                                                               \
        uint64_t until_end_ms = clock_ms() + WAIT_MS;                                                                  \
        bool until_is_true;                                                                                            \
        while (!(until_is_true = (condition)) && clock_ms() < until_end_ms)                                            \
            rest_ms(1);                                                                                                \
        CHECK(until_is_true &&#condition);                                                                             \
    } while (0)

#endif
