/* SPDX-License-Identifier: Apache-2.0 */
#include "latency.h"

enum { SUB = 1 << LATENCY_SUB_BITS };

/* Values below 2 * SUB have a bucket each; above, each power of two has SUB of them. */
static unsigned bucket_of(uint64_t ns) {
    if (ns < 2 * SUB)
        return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - LATENCY_SUB_BITS;
    return (shift << LATENCY_SUB_BITS) + (unsigned)(ns >> shift);
}

static uint64_t middle_of(unsigned bucket) {
    if (bucket < 2 * SUB)
        return bucket;
    unsigned shift = (bucket >> LATENCY_SUB_BITS) - 1;
    uint64_t low = (uint64_t)(bucket - (shift << LATENCY_SUB_BITS)) << shift;
    return low + ((UINT64_C(1) << shift) >> 1);
}

void latency_add(struct latency *latency, uint64_t ns) {
    latency->count++;
    latency->buckets[bucket_of(ns)]++;
    if (ns > latency->max)
        latency->max = ns;
}

uint64_t latency_at(const struct latency *latency, double share) {
    uint64_t rank = (uint64_t)(share * (double)latency->count);
    uint64_t seen = 0;

    if (latency->count == 0)
        return 0;
    if (rank >= latency->count)
        rank = latency->count - 1;
    for (unsigned bucket = 0; bucket < LATENCY_BUCKETS; bucket++) {
        seen += latency->buckets[bucket];
        if (seen > rank)
            return middle_of(bucket) < latency->max ? middle_of(bucket) : latency->max;
    }
    return latency->max;
}
