/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "base/rng.h"

TEST(a_draw_is_below_its_bound) {
    struct lb_rng rng;
    static const uint32_t bounds[] = {1, 2, 3, 7, 1000, 65537, UINT32_MAX};

    lb_rng_init(&rng, 42);
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        for (int draw = 0; draw < 10000; draw++)
            CHECK(lb_rng_below(&rng, bounds[i]) < bounds[i]);
    }
}

TEST(a_seed_of_zero_is_not_a_dead_generator) {
    struct lb_rng rng;
    uint32_t seen = 0;

    lb_rng_init(&rng, 0);
    for (int i = 0; i < 1000; i++)
        seen |= 1u << lb_rng_below(&rng, 32);
    CHECK_EQ(seen, UINT32_MAX);
}

TEST(the_same_seed_gives_the_same_draws) {
    struct lb_rng a, b;

    lb_rng_init(&a, 12345);
    lb_rng_init(&b, 12345);
    for (int i = 0; i < 1000; i++)
        CHECK_EQ(lb_rng_below(&a, 1000003), lb_rng_below(&b, 1000003));
}

TEST(draws_are_uniform) {
    enum { CELLS = 101, DRAWS = 200000 };
    uint32_t counts[CELLS] = {0};
    double expected = (double)DRAWS / CELLS, squares = 0;
    struct lb_rng rng;

    lb_rng_init(&rng, 7);
    for (int i = 0; i < DRAWS; i++)
        counts[lb_rng_below(&rng, CELLS)]++;
    for (int i = 0; i < CELLS; i++)
        squares += ((double)counts[i] - expected) * ((double)counts[i] - expected) / expected;
    CHECK(squares < CELLS + 5 * 15);
}

TEST_MAIN()
