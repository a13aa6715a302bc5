/* SPDX-License-Identifier: Apache-2.0 */
/*
 * histogram - counts durations in fixed buckets.
 *
 * Owner:   a single writer; readers add up copies with relaxed loads (count.h).
 */
#ifndef LB_HISTOGRAM_H
#define LB_HISTOGRAM_H

#include <stdint.h>

#include "base/count.h"
#include "l4lb.h"

static inline void lb_histogram_add(struct l4lb_histogram *histogram, uint64_t us) {
    static const uint64_t bounds[L4LB_N_BUCKETS - 1] = L4LB_HISTOGRAM_BOUNDS_US;
    uint32_t bucket = 0;

    while (bucket < L4LB_N_BUCKETS - 1 && us > bounds[bucket])
        bucket++;
    lb_count_add(&histogram->buckets[bucket], 1);
    lb_count_add(&histogram->sum_us, us);
}

#endif
