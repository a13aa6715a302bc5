/* SPDX-License-Identifier: Apache-2.0 */
/*
 * world - a pool for the tests of picking, and what is behind it.
 *
 * Owner:   one test; `static`, for it is large.
 * Memory:  world_init to world_fini.
 */
#ifndef WORLD_H
#define WORLD_H

#include "check.h"

#include <arpa/inet.h>

#include "base/hash.h"
#include "config/balance.h"
#include "config/snapshot.h"
#include "shared/shared.h"

enum { BACKENDS_MAX = 100, FIRST_SLOT = 1000, SLOT_STEP = 7 };

/* A pool as the control plane would publish it, and the live numbers behind it. */
struct world {
    struct l4lb_backend_config backends[BACKENDS_MAX];
    char names[BACKENDS_MAX][40];
    struct sockaddr_in address;
    struct lb_shared shared;
    struct lb_snapshot *snapshot;
    const struct lb_pool *pool;
    struct lb_rng rng;
    uint32_t max_load, queue_size;
    enum l4lb_protocol protocol;
};

/* No connection is held, and no backend was tried. */
static const struct lb_balance_request new_session;

static inline void world_init(struct world *world, size_t n) {
    memset(world, 0, sizeof *world);
    CHECK_OK(lb_shared_init(&world->shared));
    lb_rng_init(&world->rng, 4711);
    world->address = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(9)};
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(world->names[i], sizeof world->names[i], "backend-%zu", i);
        world->backends[i] = (struct l4lb_backend_config){.slot = (uint32_t)(FIRST_SLOT + SLOT_STEP * i),
                                                          .weight = 1,
                                                          .usable = 1,
                                                          .name = world->names[i],
                                                          .address = (const struct sockaddr *)&world->address,
                                                          .address_len = sizeof world->address};
    }
}

/* Publish the first n backends as they are now. Live numbers go on. */
static inline int try_publish(struct world *world, enum l4lb_balance balance, size_t n) {
    struct l4lb_pool_config pool = {.slot = 3,
                                    .balance = balance,
                                    .table_size = 1009,
                                    .max_load = world->max_load,
                                    .queue_size = world->queue_size,
                                    .protocol = world->protocol,
                                    .connect_ms = 1,
                                    .timeouts.idle_ms = 1,
                                    .timeouts.half_close_ms = 1,
                                    .backends = world->backends,
                                    .n_backends = n};
    struct l4lb_config config = {.pools = &pool, .n_pools = 1};
    struct lb_snapshot *next = NULL;
    int result = lb_snapshot_new(&config, 1, &world->shared, world->snapshot, &next);

    if (result < 0)
        return result;
    lb_snapshot_free(world->snapshot);
    world->snapshot = next;
    world->pool = lb_snapshot_pool(next, 3);
    CHECK(world->pool != NULL);
    return 0;
}

static inline void publish(struct world *world, enum l4lb_balance balance, size_t n) {
    CHECK_OK(try_publish(world, balance, n));
}

static inline void world_fini(struct world *world) {
    lb_snapshot_free(world->snapshot);
    lb_shared_fini(&world->shared);
}

static inline uint32_t connections(const struct world *world, size_t i) {
    return atomic_load(&world->shared.backends[world->backends[i].slot].connections);
}

static inline struct lb_backend_shared *shared(struct world *world, size_t i) {
    return &world->shared.backends[world->backends[i].slot];
}

static inline void release(struct world *world, int at) {
    lb_capacity_release(&world->shared.backends[world->backends[at].slot].connections);
}

/* Which of `backends` has this place in the pool: tiers reorder them. */
static inline int configured(const struct world *world, int at) {
    return at < 0 ? at : (int)(world->pool->backends[at].slot - FIRST_SLOT) / SLOT_STEP;
}

/* The session that was picked for has no turn any more. */
static inline int quiet(const struct world *world, int at) {
    if (at >= 0)
        lb_capacity_release(&world->pool->backends[at].shared->turns);
    return at;
}

static inline int pick_request(struct world *world, const struct lb_balance_request *request) {
    return configured(world, quiet(world, lb_balance_pick(world->pool, request, &world->rng)));
}

/* A client of which only the hash and the zone count. */
static inline int pick_from(struct world *world, uint32_t zone, uint64_t client) {
    struct lb_balance_request request = {.hash = lb_hash_mix(client + 1), .zone = zone};
    return pick_request(world, &request);
}

static inline int pick_for(struct world *world, uint64_t client) { return pick_from(world, 0, client); }

/* How picks for so many clients fall, each session ended at once. */
static inline void shares(struct world *world, uint32_t picks, uint32_t counts[BACKENDS_MAX]) {
    memset(counts, 0, BACKENDS_MAX * sizeof *counts);
    for (uint32_t client = 0; client < picks; client++) {
        int at = pick_for(world, client);
        CHECK(at >= 0);
        counts[at]++;
        release(world, at);
    }
}

#endif
