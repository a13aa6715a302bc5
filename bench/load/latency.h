/* SPDX-License-Identifier: Apache-2.0 */
/*
 * latency - a histogram of nanoseconds in logarithmic buckets, each at most 1/32 wide: percentiles within about 3 %.
 */
#ifndef LOAD_LATENCY_H
#define LOAD_LATENCY_H

#include <stdint.h>

enum { LATENCY_SUB_BITS = 5, LATENCY_BUCKETS = (64 - LATENCY_SUB_BITS + 1) << LATENCY_SUB_BITS };

struct latency {
    uint64_t count;
    uint64_t max;
    uint64_t buckets[LATENCY_BUCKETS];
};

void latency_add(struct latency *latency, uint64_t ns);

/* The value that `share` (0 to 1) of all are at or below, in ns; 0 when there are none. */
uint64_t latency_at(const struct latency *latency, double share);

#endif
