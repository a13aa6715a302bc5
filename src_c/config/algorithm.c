/* SPDX-License-Identifier: Apache-2.0 */
#include "config/algorithm.h"

#include <errno.h>

#include "base/hash.h"

/* Steps along a sequence or a chain of hashes before a search falls back to trying every backend. */
enum { STEPS_MAX = 32 };

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

static bool is_held(const struct lb_balance_request *request, const struct lb_backend *backend) {
    for (uint32_t i = 0; i < request->n_held; i++) {
        if (request->held[i] == backend->slot)
            return true;
    }
    return false;
}

bool lb_algorithm_has_capacity(const struct lb_balance_request *request, const struct lb_backend *backend) {
    return (backend->connections_max == 0 || connections(backend) < backend->connections_max ||
            is_held(request, backend)) &&
           (backend->busy_max == 0 || turns(backend) < backend->busy_max);
}

bool lb_algorithm_reserve(const struct lb_pool *pool, const struct lb_balance_request *request,
                          const struct lb_backend *backend) {
    bool held = is_held(request, backend);

    if (!is_candidate(request, backend) || !lb_algorithm_has_capacity(request, backend) ||
        (!held && !lb_capacity_reserve(&backend->shared->connections, backend->connections_max)))
        return false;
    if (lb_capacity_reserve(&backend->shared->turns, backend->busy_max))
        return true;
    if (held)
        return false;
    /* Another session may have entered the queue while this connection was taken. */
    lb_capacity_release(&backend->shared->connections);
    lb_queue_grant(&pool->shared->queue);
    return false;
}

/* Try every backend once, from the position `start` on. */
static int reserve_any(const struct lb_pool *pool, const struct lb_group *group,
                       const struct lb_balance_request *request, uint32_t start) {
    for (uint32_t i = 0; i < group->n_backends; i++) {
        const struct lb_backend *backend = &group->backends[(start + i) % group->n_backends];
        if (lb_algorithm_reserve(pool, request, backend))
            return (int)backend->index;
    }
    return -EAGAIN;
}

static uint32_t next_position(const struct lb_group *group) {
    return atomic_fetch_add_explicit(group->cursor, 1, memory_order_relaxed);
}

static int pick_round_robin(const struct lb_pool *pool, const struct lb_group *group,
                            const struct lb_balance_request *request, struct lb_rng *rng) {
    uint32_t at = 0;

    (void)rng;
    for (int step = 0; step < STEPS_MAX; step++) {
        at = group->sequence->entries[next_position(group) % group->sequence->n_entries];
        if (lb_algorithm_reserve(pool, request, &group->backends[at]))
            return (int)group->backends[at].index;
    }
    return reserve_any(pool, group, request, at);
}

/* Without a measurement the first turn is free; a second one waits for the result of the first. */
static uint64_t latency_cost(const struct lb_backend *backend, uint64_t now_ms) {
    uint64_t us = lb_latency_read(&backend->shared->latency, now_ms), n = turns(backend);

    if (us == 0)
        return n == 0 ? 0 : UINT32_MAX + n;
    return us * (n + 1);
}

static struct lb_load load_latency(const struct lb_backend *backend, uint64_t now_ms) {
    return (struct lb_load){.first = latency_cost(backend, now_ms), .second = connections(backend)};
}

static struct lb_load load_busy(const struct lb_backend *backend, uint64_t now_ms) {
    (void)now_ms;
    return (struct lb_load){.first = turns(backend), .second = connections(backend)};
}

static struct lb_load load_connections(const struct lb_backend *backend, uint64_t now_ms) {
    (void)now_ms;
    return (struct lb_load){.first = connections(backend)};
}

/* Compares loads per weight, without division. */
static int compare_share(uint64_t a, const struct lb_backend *a_backend, uint64_t b,
                         const struct lb_backend *b_backend) {
    uint64_t left = a * b_backend->weight, right = b * a_backend->weight;
    return (left > right) - (left < right);
}

static int compare_load(const struct lb_backend *a, struct lb_load a_load, const struct lb_backend *b,
                        struct lb_load b_load) {
    int order = compare_share(a_load.first, a, b_load.first, b);
    return order != 0 ? order : compare_share(a_load.second, a, b_load.second, b);
}

static int pick_least(const struct lb_pool *pool, const struct lb_group *group,
                      const struct lb_balance_request *request, struct lb_rng *rng) {
    const uint32_t cursor = next_position(group);
    const struct lb_backend *least = NULL;
    struct lb_load least_load = {0};
    uint64_t tied_weight = 0, target;

    (void)rng;
    for (uint32_t i = 0; i < group->n_backends; i++) {
        const struct lb_backend *backend = &group->backends[i];
        struct lb_load load = pool->algorithm->load(backend, request->now_ms);
        int order;
        if (!is_candidate(request, backend) || !lb_algorithm_has_capacity(request, backend))
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
    /* The shared cursor walks over the tied backends in proportion to their weights. Other workers may have changed the
     * counts since; then the walk may run out, and the least loaded one seen is still a good choice. */
    target = cursor % tied_weight;
    for (uint32_t i = 0; i < group->n_backends; i++) {
        const struct lb_backend *backend = &group->backends[i];
        if (!is_candidate(request, backend) ||
            compare_load(backend, pool->algorithm->load(backend, request->now_ms), least, least_load) > 0)
            continue;
        if (target < backend->weight && lb_algorithm_reserve(pool, request, backend))
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
        if (lb_algorithm_reserve(pool, request, backend))
            return (int)backend->index;
    }
    return reserve_any(pool, group, request, lb_rng_below(rng, group->n_backends));
}

static int pick_power_of_two(const struct lb_pool *pool, const struct lb_group *group,
                             const struct lb_balance_request *request, struct lb_rng *rng) {
    for (int step = 0; step < STEPS_MAX; step++) {
        const struct lb_backend *first = &group->backends[draw(group, rng)];
        const struct lb_backend *second = &group->backends[draw(group, rng)];
        /* Draw two different backends, if there are two. */
        for (int again = 0; first == second && group->n_usable > 1 && again < 4; again++)
            second = &group->backends[draw(group, rng)];
        if (!is_candidate(request, first) || !lb_algorithm_has_capacity(request, first) ||
            (is_candidate(request, second) && lb_algorithm_has_capacity(request, second) &&
             compare_load(second, pool->algorithm->load(second, request->now_ms), first,
                          pool->algorithm->load(first, request->now_ms)) < 0))
            first = second;
        if (lb_algorithm_reserve(pool, request, first))
            return (int)first->index;
    }
    return reserve_any(pool, group, request, lb_rng_below(rng, group->n_backends));
}

/* Sessions of the group, including the new one. If the group is not the whole pool, they are added up. */
static uint64_t sessions_of(const struct lb_pool *pool, const struct lb_group *group) {
    uint64_t sessions = 1;

    if (pool->failover == NULL)
        return LB_MAX(atomic_load_explicit(&pool->shared->sessions, memory_order_relaxed), 1u);
    for (uint32_t i = 0; i < group->n_backends; i++)
        sessions += connections(&group->backends[i]);
    return sessions;
}

/* True if the backend has less than its share of the sessions times max_load, rounded up: at least one. */
static bool is_within_bound(const struct lb_pool *pool, const struct lb_group *group, uint64_t sessions,
                            const struct lb_backend *backend) {
    uint64_t whole = group->total_weight * 100;

    return pool->config.max_load == 0 ||
           connections(backend) < (sessions * pool->config.max_load * backend->weight + whole - 1) / whole;
}

static int pick_maglev(const struct lb_pool *pool, const struct lb_group *group,
                       const struct lb_balance_request *request, struct lb_rng *rng) {
    uint64_t hash = request->hash, sessions = pool->config.max_load == 0 ? 0 : sessions_of(pool, group);

    for (int step = 0; step < STEPS_MAX; step++) {
        const struct lb_backend *backend = &group->backends[group->table->entries[hash % group->table->size]];
        if (is_within_bound(pool, group, sessions, backend) && lb_algorithm_reserve(pool, request, backend))
            return (int)backend->index;
        hash = lb_hash_mix(hash + 1);
    }
    return pool->config.max_load == 0 ? reserve_any(pool, group, request, (uint32_t)(hash % group->n_backends))
                                      : pick_least(pool, group, request, rng);
}

static int pick_first(const struct lb_pool *pool, const struct lb_group *group,
                      const struct lb_balance_request *request, struct lb_rng *rng) {
    (void)rng;
    return reserve_any(pool, group, request, 0);
}

const struct lb_algorithm lb_algorithms[L4LB_N_BALANCE] = {
    [L4LB_ROUND_ROBIN] = {.pick = pick_round_robin},
    [L4LB_LEAST_CONNECTIONS] = {.pick = pick_least, .load = load_connections},
    [L4LB_LEAST_BUSY] = {.pick = pick_least, .load = load_busy},
    [L4LB_LEAST_LATENCY] = {.pick = pick_least, .load = load_latency},
    [L4LB_RANDOM] = {.pick = pick_random},
    [L4LB_POWER_OF_TWO] = {.pick = pick_power_of_two, .load = load_busy},
    /* The load only decides if every backend is over its bound. */
    [L4LB_MAGLEV] = {.pick = pick_maglev, .load = load_connections, .is_hashed = true},
    [L4LB_FIRST] = {.pick = pick_first},
};
