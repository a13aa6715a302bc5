/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pace - what a backend's answers are like after their first piece: over, or a head with the rest to come.
 *
 * Learnt from what proves it: a second piece, or the next question of the client. Where most answers go on, a session
 * is patient after the first piece for a few times as long as the longest recent wait; else it is not.
 *
 * Owner:   any thread, atomically; numbers may be a little behind, which is harmless.
 * Memory:  two words. Zeroed means nothing is known.
 */
#ifndef LB_PACE_H
#define LB_PACE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base.h"
#include "bounds.h"
#include "latency.h"

struct lb_pace {
    lb_latency_t head;     /* first piece to second */
    atomic_uint continued; /* share of answers that went on, moving average, of LB_PACE_ONE; never 0 once known */
};

enum { LB_PACE_ONE = 1 << 16, LB_PACE_SHARE = 8, LB_PACE_TIMES = 4 };

static inline void lb_pace_learn(struct lb_pace *pace, bool continued) {
    uint32_t before = atomic_load_explicit(&pace->continued, memory_order_relaxed);
    uint32_t wanted = continued ? LB_PACE_ONE : 1, after;

    after = before == 0 ? wanted : before - before / LB_PACE_SHARE + wanted / LB_PACE_SHARE;
    atomic_store_explicit(&pace->continued, LB_MAX(after, 1u), memory_order_relaxed);
}

/* After the first piece: how long to wait for the second, in milliseconds; 0 = no longer than for any other. */
static inline uint32_t lb_pace_head_ms(const struct lb_pace *pace, uint32_t now_ms) {
    uint64_t ms = (uint64_t)lb_latency_read(&pace->head, now_ms) * LB_PACE_TIMES / 1000;

    if (atomic_load_explicit(&pace->continued, memory_order_relaxed) < LB_PACE_ONE / 2)
        return 0;
    return (uint32_t)LB_MIN(LB_MAX(ms, (uint64_t)LB_HEAD_MIN_MS), (uint64_t)LB_HEAD_MAX_MS);
}

#endif
