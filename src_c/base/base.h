/* SPDX-License-Identifier: Apache-2.0 */
/*
 * base - macros that every module uses.
 *
 * Owner:   any thread.
 * Errors:  LB_BUG_ON aborts the process. It is for states that only a bug in this code can reach, and stays in every
 *          build. LB_ASSERT_HOT is the same for checks that cost too much on the hot path: only builds with LB_VALIDATE
 *          (those of tests/c) evaluate it.
 */
#ifndef LB_BASE_H
#define LB_BASE_H

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define LB_MUST_CHECK __attribute__((warn_unused_result))
#define LB_CACHE_LINE 64

#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr) - offsetof(type, member)))

#define LB_MIN(a, b)                                                                                                   \
    ({                                                                                                                 \
        __typeof__(a) lb_min_a = (a);                                                                                  \
        __typeof__(b) lb_min_b = (b);                                                                                  \
        lb_min_a < lb_min_b ? lb_min_a : lb_min_b;                                                                     \
    })

#define LB_MAX(a, b)                                                                                                   \
    ({                                                                                                                 \
        __typeof__(a) lb_max_a = (a);                                                                                  \
        __typeof__(b) lb_max_b = (b);                                                                                  \
        lb_max_a > lb_max_b ? lb_max_a : lb_max_b;                                                                     \
    })

#define LB_BUG_ON(condition)                                                                                           \
    do {                                                                                                               \
        if (__builtin_expect(!!(condition), 0)) {                                                                      \
            (void)fprintf(stderr, "%s:%d: bug: %s\n", __FILE__, __LINE__, #condition);                                 \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

#ifdef LB_VALIDATE
#define LB_ASSERT_HOT(condition) LB_BUG_ON(!(condition))
#else
#define LB_ASSERT_HOT(condition) ((void)sizeof(condition))
#endif

#endif
