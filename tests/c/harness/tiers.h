/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tiers - pools whose backends are in tiers and zones.
 */
#ifndef TIERS_H
#define TIERS_H

#include "world.h"

#include <errno.h>

#include "config/failover.h"

static inline void place(struct world *world, size_t i, uint32_t tier, uint32_t zone) {
    world->backends[i].tier = tier;
    world->backends[i].zone = zone;
}

/* Two tiers of n each. */
static inline void two_tiers(struct world *world, size_t n) {
    world_init(world, 2 * n);
    for (size_t i = 0; i < n; i++)
        place(world, n + i, 1, 0);
}

/* Any pool of n backends: every place, weight and state is possible. */
static inline void randomize(struct world *world, struct check_random *random, size_t n, uint32_t tiers,
                             uint32_t zones) {
    for (size_t i = 0; i < n; i++) {
        place(world, i, check_random_below(random, tiers), check_random_below(random, zones + 1));
        world->backends[i].weight = check_random_below(random, 5);
        world->backends[i].usable = check_random_below(random, 3) > 0;
    }
}

static inline bool is_usable(const struct world *world, size_t i) {
    return world->backends[i].usable && world->backends[i].weight > 0;
}

#endif
