/* SPDX-License-Identifier: Apache-2.0 */
/*
 * requests - picks for one more request of a session, in a world that follows HTTP/1.
 *
 * Owner:   one test.
 * Memory:  that of the world.
 */
#ifndef REQUESTS_H
#define REQUESTS_H

#include "tiers.h"

static inline bool keeps(enum l4lb_balance balance) { return balance != L4LB_MAGLEV && balance != L4LB_FIRST; }

static inline void follow(struct world *world, size_t n) {
    world_init(world, n);
    world->protocol = L4LB_PROTOCOL_HTTP1;
}

static inline void set_turns(struct world *world, size_t i, uint32_t turns) {
    atomic_store(&shared(world, i)->turns, turns);
}

static inline uint32_t turns_of(struct world *world, size_t i) { return atomic_load(&shared(world, i)->turns); }

/* A request of a session whose latest one went to backend `current`, where it has a connection. */
static inline struct lb_balance_request one_more(const struct world *world, size_t current) {
    uint32_t slot = world->backends[current].slot;
    return (struct lb_balance_request){.has_current = true, .current = slot, .n_held = 1, .held = {slot}};
}

/* Where it goes; its turn stays. */
static inline int place_request(struct world *world, const struct lb_balance_request *request) {
    return configured(world, lb_balance_pick(world->pool, request, &world->rng));
}

#endif
