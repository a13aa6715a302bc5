/* SPDX-License-Identifier: Apache-2.0 */
#include "config/balance.h"

#include <errno.h>

#include "base/hash.h"

/* Steps along a sequence or a chain of hashes before a search falls back to looking at every backend. */
enum { STEPS_MAX = 32 };

/* Whether a client stays must not follow from what decides where: the clients that go would all be of the same
 * backends. */
enum { FAILOVER_SEED = 0x5b1e };

static bool was_tried(const struct lb_balance_request *request, const struct lb_backend *backend) {
    for (uint32_t i = 0; i < request->n_tried; i++) {
        if (request->tried[i] == backend->slot)
            return true;
    }
    return false;
}

static bool is_candidate(const struct lb_balance_request *request, const struct lb_backend *backend) {
    return backend->weight > 0 && !was_tried(request, backend);
}

static uint32_t connections(const struct lb_backend *backend) {
    return atomic_load_explicit(&backend->shared->connections, memory_order_relaxed);
}

static uint32_t turns(const struct lb_backend *backend) {
    return atomic_load_explicit(&backend->shared->turns, memory_order_relaxed);
}

static bool has_capacity(const struct lb_backend *backend) {
    return (backend->connections_max == 0 || connections(backend) < backend->connections_max) &&
           (backend->busy_max == 0 || turns(backend) < backend->busy_max);
}

/* A connection and a turn, or neither. */
static bool reserve(const struct lb_pool *pool, const struct lb_balance_request *request,
                    const struct lb_backend *backend) {
    if (!is_candidate(request, backend) || !has_capacity(backend) ||
        !lb_capacity_reserve(&backend->shared->connections, backend->connections_max))
        return false;
    if (lb_capacity_reserve(&backend->shared->turns, backend->busy_max))
        return true;
    /* Whoever looked meanwhile may have gone to wait for the connection. */
    lb_capacity_release(&backend->shared->connections);
    lb_queue_grant(&pool->shared->queue);
    return false;
}

/* Every backend once, from the position `start` on. */
static int reserve_any(const struct lb_pool *pool, const struct lb_group *group,
                       const struct lb_balance_request *request, uint32_t start) {
    for (uint32_t i = 0; i < group->n_backends; i++) {
        const struct lb_backend *backend = &group->backends[(start + i) % group->n_backends];
        if (reserve(pool, request, backend))
            return (int)backend->index;
    }
    return -EAGAIN;
}

static uint32_t next_position(const struct lb_group *group) {
    return atomic_fetch_add_explicit(group->cursor, 1, memory_order_relaxed);
}

static int pick_round_robin(const struct lb_pool *pool, const struct lb_group *group,
                            const struct lb_balance_request *request) {
    uint32_t at = 0;

    for (int step = 0; step < STEPS_MAX; step++) {
        at = group->sequence->entries[next_position(group) % group->sequence->n_entries];
        if (reserve(pool, request, &group->backends[at]))
            return (int)group->backends[at].index;
    }
    return reserve_any(pool, group, request, at);
}

/* What a backend has to do: what counts, and what decides where that is even. */
struct load {
    uint64_t first;
    uint64_t second;
};

/* Nothing known: the first turn is free, a second one waits for what the first one tells. */
static uint64_t latency_cost(const struct lb_backend *backend, uint64_t now_ms) {
    uint64_t us = lb_latency_read(&backend->shared->latency, now_ms), n = turns(backend);

    if (us == 0)
        return n == 0 ? 0 : UINT32_MAX + n;
    return us * (n + 1);
}

static struct load load_of(const struct lb_pool *pool, const struct lb_balance_request *request,
                           const struct lb_backend *backend) {
    switch (pool->balance) {
    case L4LB_LEAST_LATENCY:
        return (struct load){.first = latency_cost(backend, request->now_ms), .second = connections(backend)};
    case L4LB_LEAST_BUSY:
    case L4LB_POWER_OF_TWO:
        return (struct load){.first = turns(backend), .second = connections(backend)};
    default:
        return (struct load){.first = connections(backend)};
    }
}

/* Per weight, compared without division. */
static int compare_share(uint64_t a, const struct lb_backend *a_backend, uint64_t b,
                         const struct lb_backend *b_backend) {
    uint64_t left = a * b_backend->weight, right = b * a_backend->weight;
    return (left > right) - (left < right);
}

static int compare_load(const struct lb_backend *a, struct load a_load, const struct lb_backend *b,
                        struct load b_load) {
    int order = compare_share(a_load.first, a, b_load.first, b);
    return order != 0 ? order : compare_share(a_load.second, a, b_load.second, b);
}

static int pick_least(const struct lb_pool *pool, const struct lb_group *group,
                      const struct lb_balance_request *request) {
    const uint32_t cursor = next_position(group);
    const struct lb_backend *least = NULL;
    struct load least_load = {0};
    uint64_t tied_weight = 0, target;

    for (uint32_t i = 0; i < group->n_backends; i++) {
        const struct lb_backend *backend = &group->backends[i];
        struct load load = load_of(pool, request, backend);
        int order;
        if (!is_candidate(request, backend) || !has_capacity(backend))
            continue;
        order = least == NULL ? -1 : compare_load(backend, load, least, least_load);
        if (order < 0) {
            least = backend;
            least_load = load;
            tied_weight = 0;
        }
        if (order <= 0)
            tied_weight += backend->weight;
    }
    if (least == NULL)
        return -EAGAIN;
    /* The shared turn walks over the tied backends in proportion to their weights. Other workers may have moved the
     * counts since; then the walk may run out, and the least one seen is still a good answer. */
    target = cursor % tied_weight;
    for (uint32_t i = 0; i < group->n_backends; i++) {
        const struct lb_backend *backend = &group->backends[i];
        if (!is_candidate(request, backend) ||
            compare_load(backend, load_of(pool, request, backend), least, least_load) > 0)
            continue;
        if (target < backend->weight && reserve(pool, request, backend))
            return (int)backend->index;
        target -= LB_MIN(target, (uint64_t)backend->weight);
    }
    return reserve_any(pool, group, request, (uint32_t)(least - group->backends));
}

static uint32_t draw(const struct lb_group *group, struct lb_rng *rng) {
    return group->sequence->entries[lb_rng_below(rng, group->sequence->n_entries)];
}

static int pick_random(const struct lb_pool *pool, const struct lb_group *group,
                       const struct lb_balance_request *request, struct lb_rng *rng) {
    for (int step = 0; step < STEPS_MAX; step++) {
        const struct lb_backend *backend = &group->backends[draw(group, rng)];
        if (reserve(pool, request, backend))
            return (int)backend->index;
    }
    return reserve_any(pool, group, request, lb_rng_below(rng, group->n_backends));
}

static int pick_power_of_two(const struct lb_pool *pool, const struct lb_group *group,
                             const struct lb_balance_request *request, struct lb_rng *rng) {
    for (int step = 0; step < STEPS_MAX; step++) {
        const struct lb_backend *first = &group->backends[draw(group, rng)];
        const struct lb_backend *second = &group->backends[draw(group, rng)];
        /* Two different ones, if there are: the same twice is no choice. */
        for (int again = 0; first == second && group->n_usable > 1 && again < 4; again++)
            second = &group->backends[draw(group, rng)];
        if (!is_candidate(request, first) || !has_capacity(first) ||
            (is_candidate(request, second) && has_capacity(second) &&
             compare_load(second, load_of(pool, request, second), first, load_of(pool, request, first)) < 0))
            first = second;
        if (reserve(pool, request, first))
            return (int)first->index;
    }
    return reserve_any(pool, group, request, lb_rng_below(rng, group->n_backends));
}

/* Those that the backends of the group share, this one included: where it is not the whole pool they are counted. */
static uint64_t sessions_of(const struct lb_pool *pool, const struct lb_group *group) {
    uint64_t sessions = 1;

    if (pool->failover == NULL)
        return LB_MAX(atomic_load_explicit(&pool->shared->sessions, memory_order_relaxed), 1u);
    for (uint32_t i = 0; i < group->n_backends; i++)
        sessions += connections(&group->backends[i]);
    return sessions;
}

/* Its share of all sessions of the group, times max_load, rounded up: at least one. */
static bool is_within_bound(const struct lb_pool *pool, const struct lb_group *group, uint64_t sessions,
                            const struct lb_backend *backend) {
    uint64_t whole = group->total_weight * 100;

    return pool->max_load == 0 ||
           connections(backend) < (sessions * pool->max_load * backend->weight + whole - 1) / whole;
}

static int pick_maglev(const struct lb_pool *pool, const struct lb_group *group,
                       const struct lb_balance_request *request) {
    uint64_t hash = request->hash, sessions = pool->max_load == 0 ? 0 : sessions_of(pool, group);

    for (int step = 0; step < STEPS_MAX; step++) {
        const struct lb_backend *backend = &group->backends[group->table->entries[hash % group->table->size]];
        if (is_within_bound(pool, group, sessions, backend) && reserve(pool, request, backend))
            return (int)backend->index;
        hash = lb_hash_mix(hash + 1);
    }
    return pool->max_load == 0 ? reserve_any(pool, group, request, (uint32_t)(hash % group->n_backends))
                               : pick_least(pool, group, request);
}

static int pick_in(const struct lb_pool *pool, const struct lb_group *group, const struct lb_balance_request *request,
                   struct lb_rng *rng) {
    switch (pool->balance) {
    case L4LB_ROUND_ROBIN:
        return pick_round_robin(pool, group, request);
    case L4LB_LEAST_CONNECTIONS:
    case L4LB_LEAST_BUSY:
    case L4LB_LEAST_LATENCY:
        return pick_least(pool, group, request);
    case L4LB_RANDOM:
        return pick_random(pool, group, request, rng);
    case L4LB_POWER_OF_TWO:
        return pick_power_of_two(pool, group, request, rng);
    case L4LB_MAGLEV:
        return pick_maglev(pool, group, request);
    case L4LB_FIRST:
        return reserve_any(pool, group, request, 0);
    }
    return -EAGAIN;
}

/* Where a client begins on its way: one that is bound by its hash always at the same group. */
static uint32_t first_choice(const struct lb_pool *pool, const struct lb_preference *preference,
                             const struct lb_balance_request *request, struct lb_rng *rng) {
    if (preference->choices[0].share_end == LB_FAILOVER_ALL)
        return 0;
    return lb_preference_first(preference, lb_balance_is_hashed(pool) ? lb_hash_mix(request->hash ^ FAILOVER_SEED) >> 32
                                                                      : lb_rng_below(rng, UINT32_MAX));
}

/* From there on, and then what was passed by: a place anywhere is better than none. */
static int pick_by_preference(const struct lb_pool *pool, const struct lb_balance_request *request,
                              struct lb_rng *rng) {
    const struct lb_preference *preference = lb_failover_preference(pool->failover, request->zone);
    uint32_t first = first_choice(pool, preference, request, rng);

    for (uint32_t i = 0; i < preference->n_choices; i++) {
        int at = pick_in(pool, preference->choices[(first + i) % preference->n_choices].group, request, rng);
        if (at >= 0)
            return at;
    }
    return -EAGAIN;
}

static int pick(const struct lb_pool *pool, const struct lb_balance_request *request, struct lb_rng *rng) {
    return pool->failover == NULL ? pick_in(pool, &pool->whole, request, rng) : pick_by_preference(pool, request, rng);
}

/* Only backends that failed are left. A second chance there is better than none, but not for the last one. */
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

int lb_balance_reserve_at(const struct lb_pool *pool, uint32_t at) {
    static const struct lb_balance_request anyone;

    return reserve(pool, &anyone, &pool->backends[at]) ? (int)at : -EAGAIN;
}

bool lb_balance_has_capacity(const struct lb_pool *pool) {
    for (uint32_t i = 0; i < pool->n_backends; i++) {
        if (pool->backends[i].weight > 0 && has_capacity(&pool->backends[i]))
            return true;
    }
    return false;
}
