/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "base/histogram.h"

static const uint64_t bounds[L4LB_N_BUCKETS - 1] = L4LB_HISTOGRAM_BOUNDS_US;

static uint32_t only_bucket(uint64_t us) {
    struct l4lb_histogram histogram = {.sum_us = 0};
    uint32_t found = L4LB_N_BUCKETS;

    lb_histogram_add(&histogram, us);
    CHECK_EQ(histogram.sum_us, us);
    for (uint32_t i = 0; i < L4LB_N_BUCKETS; i++) {
        if (histogram.buckets[i] == 0)
            continue;
        CHECK_EQ(histogram.buckets[i], 1);
        CHECK_EQ(found, L4LB_N_BUCKETS);
        found = i;
    }
    return found;
}

TEST(bounds_ascend) {
    for (int i = 1; i < L4LB_N_BUCKETS - 1; i++)
        CHECK(bounds[i - 1] < bounds[i]);
}

TEST(a_bound_belongs_to_its_bucket_and_the_next_microsecond_does_not) {
    for (uint32_t i = 0; i < L4LB_N_BUCKETS - 1; i++) {
        CHECK_EQ(only_bucket(bounds[i]), i);
        CHECK_EQ(only_bucket(bounds[i] + 1), i + 1);
    }
}

TEST(extremes_have_a_bucket) {
    CHECK_EQ(only_bucket(0), 0);
    CHECK_EQ(only_bucket(UINT64_MAX), L4LB_N_BUCKETS - 1);
}

TEST(random_durations_are_all_counted_and_summed) {
    struct check_random random = {3};
    struct l4lb_histogram histogram = {.sum_us = 0};
    uint64_t below[L4LB_N_BUCKETS - 1] = {0}, sum = 0, total = 0;

    for (int i = 0; i < 20000; i++) {
        uint64_t us = check_random_next(&random) >> check_random_below(&random, 64);
        us &= (1ull << 40) - 1;
        lb_histogram_add(&histogram, us);
        sum += us;
        for (int at = 0; at < L4LB_N_BUCKETS - 1; at++)
            below[at] += us <= bounds[at];
    }
    CHECK_EQ(histogram.sum_us, sum);
    for (int at = 0; at < L4LB_N_BUCKETS - 1; at++) {
        total += histogram.buckets[at];
        CHECK_EQ(total, below[at]);
    }
    CHECK_EQ(total + histogram.buckets[L4LB_N_BUCKETS - 1], 20000);
}

TEST_MAIN()
