/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rng - small fast random numbers for balancing decisions; not for secrets.
 *
 * Owner:   one worker each.
 * Source:  xorshift64*, Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2014.
 */
#ifndef LB_RNG_H
#define LB_RNG_H

#include <stdint.h>

struct lb_rng {
    uint64_t state; /* never 0 */
};

static inline void lb_rng_init(struct lb_rng *rng, uint64_t seed) { rng->state = seed | 1; }

/* Uniform in [0, n); n > 0. Multiply-shift (Lemire 2019) without rejection: the bias is below n / 2^32. */
static inline uint32_t lb_rng_below(struct lb_rng *rng, uint32_t n) {
    uint64_t x = rng->state;
    x ^= x >> 12;
    x ^= x << 25;
    x ^= x >> 27;
    rng->state = x;
    return (uint32_t)((((x * 0x2545F4914F6CDD1Dull) >> 32) * n) >> 32);
}

#endif
