/* SPDX-License-Identifier: Apache-2.0 */
/*
 * latency - how long a backend takes to begin a response: a moving average that rises at once and falls slowly.
 *
 * A sample above the average replaces it; lower samples pull it down over time. Without samples it halves every
 * LB_LATENCY_HALF_MS, so that a backend that was slow is tried again.
 *
 * Owner:   any thread, atomically.
 * Memory:  one word: microseconds above, the time of the last sample below; 0 = no sample yet.
 * Source:  the peak EWMA of Twitter's Finagle (2014); its exponential is a power of two with a straight line between.
 */
#ifndef LB_LATENCY_H
#define LB_LATENCY_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/base.h"
#include "base/bounds.h"

typedef _Atomic uint64_t lb_latency_t;

/* Unit of the stored time: 32 bits of it wrap after four years; of milliseconds, after 50 days. */
enum { LB_LATENCY_TICK_MS = 32 };

static inline uint32_t lb_latency_tick(uint64_t now_ms) { return (uint32_t)(now_ms / LB_LATENCY_TICK_MS); }

/* 0 if the sample is from another worker whose clock is slightly ahead of ours. */
static inline uint64_t lb_latency_age_ms(uint64_t word, uint64_t now_ms) {
    uint32_t ticks = lb_latency_tick(now_ms) - (uint32_t)word;
    return ticks > INT32_MAX ? 0 : (uint64_t)ticks * LB_LATENCY_TICK_MS;
}

static inline uint64_t lb_latency_decay(uint64_t value, uint64_t age_ms) {
    uint64_t halves = age_ms / LB_LATENCY_HALF_MS, rest = age_ms % LB_LATENCY_HALF_MS;

    if (halves >= 32)
        return 0;
    value >>= halves;
    /* Rounded up, so that many small steps reach the end, too. */
    return value - (value * rest + 2 * LB_LATENCY_HALF_MS - 1) / (2 * LB_LATENCY_HALF_MS);
}

/* The average in microseconds at `now_ms`, at least 1; 0 if there were no samples. */
static inline uint32_t lb_latency_read(const lb_latency_t *latency, uint64_t now_ms) {
    uint64_t word = atomic_load_explicit(latency, memory_order_relaxed);

    if (word == 0)
        return 0;
    return (uint32_t)LB_MAX(lb_latency_decay(word >> 32, lb_latency_age_ms(word, now_ms)), (uint64_t)1);
}

static inline void lb_latency_learn(lb_latency_t *latency, uint64_t sample_us, uint64_t now_ms) {
    uint64_t word = atomic_load_explicit(latency, memory_order_relaxed), next;
    uint32_t sample = (uint32_t)LB_MAX(LB_MIN(sample_us, (uint64_t)UINT32_MAX), (uint64_t)1);

    do {
        uint64_t average = word >> 32;
        if (sample < average)
            average = sample + lb_latency_decay(average - sample, lb_latency_age_ms(word, now_ms));
        else
            average = sample;
        next = average << 32 | lb_latency_tick(now_ms);
    } while (!atomic_compare_exchange_weak_explicit(latency, &word, next, memory_order_relaxed, memory_order_relaxed));
}

#endif
