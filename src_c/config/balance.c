/* SPDX-License-Identifier: Apache-2.0 */
#include "config/balance.h"

#include <errno.h>

#include "base/hash.h"

/* Whether a client stays must not depend on the hash that decides where: otherwise all clients that move would come
 * from the same backends. */
enum { FAILOVER_SEED = 0x5b1e };

/* Index of the choice that a client starts with. Clients of a hashed pool always start with the same one. */
static uint32_t first_choice(const struct lb_pool *pool, const struct lb_preference *preference,
                             const struct lb_balance_request *request, struct lb_rng *rng) {
    if (preference->choices[0].share_end == LB_FAILOVER_ALL)
        return 0;
    return lb_preference_first(preference, lb_balance_is_hashed(pool) ? lb_hash_mix(request->hash ^ FAILOVER_SEED) >> 32
                                                                      : lb_rng_below(rng, UINT32_MAX));
}

/* Try that choice and those after it, then those before it: capacity anywhere is better than a refusal. */
static int pick_by_preference(const struct lb_pool *pool, const struct lb_balance_request *request,
                              struct lb_rng *rng) {
    const struct lb_preference *preference = lb_failover_preference(pool->failover, request->zone);
    uint32_t first = first_choice(pool, preference, request, rng);

    for (uint32_t i = 0; i < preference->n_choices; i++) {
        int at = lb_algorithm_pick(pool, preference->choices[(first + i) % preference->n_choices].group, request, rng);
        if (at >= 0)
            return at;
    }
    return -EAGAIN;
}

static int pick_within_limits(const struct lb_pool *pool, const struct lb_balance_request *request,
                              struct lb_rng *rng) {
    return pool->failover == NULL ? lb_algorithm_pick(pool, &pool->whole, request, rng)
                                  : pick_by_preference(pool, request, rng);
}

/* Where no client can wait, cold backends take more than they should: a slow response is better than a refusal. */
static int pick(const struct lb_pool *pool, const struct lb_balance_request *request, struct lb_rng *rng) {
    struct lb_balance_request anyway;
    int at = pick_within_limits(pool, request, rng);

    if (at >= 0 || pool->config.queue_size > 0)
        return at;
    anyway = *request;
    anyway.ignores_cold = true;
    return pick_within_limits(pool, &anyway, rng);
}

/* Only backends that failed are left. A second chance for one of them is better than a refusal; the one that failed
 * last is tried last. */
static int pick_again(const struct lb_pool *pool, const struct lb_balance_request *request, struct lb_rng *rng) {
    struct lb_balance_request anyone = *request;
    int at;

    anyone.tried[0] = request->last_tried;
    anyone.n_tried = 1;
    at = pick(pool, &anyone, rng);
    if (at >= 0)
        return at;
    anyone.n_tried = 0;
    return pick(pool, &anyone, rng);
}

int lb_balance_pick(const struct lb_pool *pool, const struct lb_balance_request *request, struct lb_rng *rng) {
    int at;

    if (pool->n_usable == 0)
        return -EAGAIN;
    at = pick(pool, request, rng);
    return at >= 0 || request->n_tried == 0 ? at : pick_again(pool, request, rng);
}

int lb_balance_reserve_at(const struct lb_pool *pool, const struct lb_balance_request *request, uint32_t at) {
    return lb_algorithm_reserve(pool, request, &pool->backends[at]) ? (int)at : -EAGAIN;
}

bool lb_balance_has_capacity(const struct lb_pool *pool, const struct lb_balance_request *request) {
    for (uint32_t i = 0; i < pool->n_backends; i++) {
        if (pool->backends[i].weight > 0 && lb_algorithm_has_capacity(request, &pool->backends[i]))
            return true;
    }
    return false;
}
