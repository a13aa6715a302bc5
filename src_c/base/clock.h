/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clock - the only place that reads the time.
 *
 * Owner:   any thread.
 * Holds:   durations are measured on CLOCK_MONOTONIC in 64 bits of nanoseconds, which neither jump nor wrap.
 */
#ifndef LB_CLOCK_H
#define LB_CLOCK_H

#include <stdint.h>
#include <time.h>

#define LB_NS_PER_MS 1000000ull
#define LB_NS_PER_US 1000ull
#define LB_NS_PER_S 1000000000ull

static inline uint64_t lb_clock_read(clockid_t id) {
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * LB_NS_PER_S + (uint64_t)t.tv_nsec;
}

static inline uint64_t lb_clock_ns(void) { return lb_clock_read(CLOCK_MONOTONIC); }

static inline uint64_t lb_clock_wall_ns(void) { return lb_clock_read(CLOCK_REALTIME); }

#endif
