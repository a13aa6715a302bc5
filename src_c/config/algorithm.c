/* SPDX-License-Identifier: Apache-2.0 */
#include "config/algorithm.h"

#include <errno.h>

#include "base/hash.h"

enum {
    /* Steps along a sequence or a chain of hashes before a search falls back to trying every backend. */
    STEPS_MAX = 32,
    /* Choices that other workers may take away before a pick falls back to trying every backend. */
    CHOICES_MAX = 4,
};

/* ---- one backend ------------------------------------------------------------------------------------------------- */

static bool has_slot(const uint32_t *slots, uint32_t n, const struct lb_backend *backend) {
    for (uint32_t i = 0; i < n; i++) {
        if (slots[i] == backend->slot)
            return true;
    }
    return false;
}

static bool is_held(const struct lb_balance_request *request, const struct lb_backend *backend) {
    return has_slot(request->held, request->n_held, backend);
}

static bool is_candidate(const struct lb_balance_request *request, const struct lb_backend *backend) {
    return backend->weight > 0 && !has_slot(request->tried, request->n_tried, backend);
}

static uint32_t connections(const struct lb_backend *backend) {
    return atomic_load_explicit(&backend->shared->connections, memory_order_relaxed);
}

static uint32_t turns(const struct lb_backend *backend) {
    return atomic_load_explicit(&backend->shared->turns, memory_order_relaxed);
}

/* 0 = no limit. */
static uint32_t turns_max(const struct lb_balance_request *request, const struct lb_backend *backend) {
    uint32_t max = backend->busy_max, cold_max = backend->cold_busy_max;

    if (cold_max == 0 || request->ignores_cold || !lb_backend_is_cold(backend->shared))
        return max;
    return max == 0 ? cold_max : LB_MIN(max, cold_max);
}

bool lb_algorithm_has_capacity(const struct lb_balance_request *request, const struct lb_backend *backend) {
    uint32_t max = turns_max(request, backend);

    return (max == 0 || turns(backend) < max) &&
           (backend->connections_max == 0 || connections(backend) < backend->connections_max ||
            is_held(request, backend));
}

static bool can_take(const struct lb_balance_request *request, const struct lb_backend *backend) {
    return is_candidate(request, backend) && lb_algorithm_has_capacity(request, backend);
}

/* Where each request is placed, a connection is no load in itself. */
static bool is_placed_by_request(const struct lb_pool *pool) { return pool->config.protocol == L4LB_PROTOCOL_HTTP1; }

/* Reserve what the request needs of the backend, exactly, or nothing. */
static bool reserve_capacity(const struct lb_pool *pool, const struct lb_balance_request *request,
                             const struct lb_backend *backend) {
    bool held = is_held(request, backend);

    if (!held && !lb_capacity_reserve(&backend->shared->connections, backend->connections_max))
        return false;
    if (lb_capacity_reserve(&backend->shared->turns, turns_max(request, backend)))
        return true;
    if (held)
        return false;
    /* Another session may have entered the queue while this connection was taken. */
    lb_capacity_release(&backend->shared->connections);
    lb_queue_grant(&pool->shared->queue);
    return false;
}

static bool reserve(const struct lb_pool *pool, const struct lb_balance_request *request,
                    const struct lb_backend *backend) {
    if (!reserve_capacity(pool, request, backend))
        return false;
    if (is_placed_by_request(pool))
        atomic_store_explicit(&backend->shared->placed_ms, request->now_ms, memory_order_relaxed);
    return true;
}

bool lb_algorithm_reserve(const struct lb_pool *pool, const struct lb_balance_request *request,
                          const struct lb_backend *backend) {
    return can_take(request, backend) && reserve(pool, request, backend);
}

/* ---- loads ------------------------------------------------------------------------------------------------------- */

/* What breaks ties. A backend that had no request for long is the further along with those it has, so the next one
 * waits less there. Connections would say the opposite: they are fewest where requests are slow to end, or stuck. */
static uint64_t second_load(const struct lb_pool *pool, const struct lb_backend *backend, uint64_t now_ms) {
    uint64_t placed_ms = atomic_load_explicit(&backend->shared->placed_ms, memory_order_relaxed);

    return is_placed_by_request(pool) ? UINT32_MAX / (now_ms - LB_MIN(now_ms, placed_ms) + 1) : connections(backend);
}

/* Without a measurement the first turn is free; a second one waits for the result of the first. */
static uint64_t latency_cost(const struct lb_backend *backend, uint64_t now_ms, uint32_t more) {
    uint64_t us = lb_latency_read(&backend->shared->latency, now_ms), n = turns(backend);

    if (us == 0)
        return n == 0 ? 0 : UINT32_MAX + n;
    return us * (n + more);
}

static struct lb_load load_latency(const struct lb_pool *pool, const struct lb_backend *backend, uint64_t now_ms,
                                   uint32_t more) {
    return (struct lb_load){.first = latency_cost(backend, now_ms, more), .second = second_load(pool, backend, now_ms)};
}

static struct lb_load load_busy(const struct lb_pool *pool, const struct lb_backend *backend, uint64_t now_ms,
                                uint32_t more) {
    return (struct lb_load){.first = (uint64_t)turns(backend) + more, .second = second_load(pool, backend, now_ms)};
}

static struct lb_load load_connections(const struct lb_pool *pool, const struct lb_backend *backend, uint64_t now_ms,
                                       uint32_t more) {
    return is_placed_by_request(pool) ? load_busy(pool, backend, now_ms, more)
                                      : (struct lb_load){.first = connections(backend)};
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

/* ---- choices ----------------------------------------------------------------------------------------------------- */

/* The first that can take the request, from the position `start` on. */
static const struct lb_backend *choose_from(const struct lb_group *group, const struct lb_balance_request *request,
                                            uint32_t start) {
    for (uint32_t i = 0; i < group->n_backends; i++) {
        const struct lb_backend *backend = &group->backends[(start + i) % group->n_backends];
        if (can_take(request, backend))
            return backend;
    }
    return NULL;
}

static uint32_t next_position(const struct lb_group *group) {
    return atomic_fetch_add_explicit(group->cursor, 1, memory_order_relaxed);
}

static const struct lb_backend *choose_round_robin(const struct lb_pool *pool, const struct lb_group *group,
                                                   const struct lb_balance_request *request, struct lb_rng *rng) {
    uint32_t at = 0;

    (void)pool;
    (void)rng;
    for (int step = 0; step < STEPS_MAX; step++) {
        at = group->sequence->entries[next_position(group) % group->sequence->n_entries];
        if (can_take(request, &group->backends[at]))
            return &group->backends[at];
    }
    return choose_from(group, request, at);
}

/* The shared cursor walks over the backends whose load is tied with the least in proportion to their weights. Other
 * workers may have changed the counts since it was found; then the walk may run out, and that one is still a good
 * choice. */
static const struct lb_backend *choose_tied(const struct lb_pool *pool, const struct lb_group *group,
                                            const struct lb_balance_request *request, uint32_t more,
                                            const struct lb_backend *least, struct lb_load least_load,
                                            uint64_t target) {
    for (uint32_t i = 0; i < group->n_backends; i++) {
        const struct lb_backend *backend = &group->backends[i];
        if (!can_take(request, backend) ||
            compare_load(backend, pool->algorithm->load(pool, backend, request->now_ms, more), least, least_load) > 0)
            continue;
        if (target < backend->weight)
            return backend;
        target -= backend->weight;
    }
    return least;
}

static const struct lb_backend *choose_least(const struct lb_pool *pool, const struct lb_group *group,
                                             const struct lb_balance_request *request, uint32_t more) {
    const struct lb_backend *least = NULL;
    struct lb_load least_load = {0};
    uint64_t tied_weight = 0;

    for (uint32_t i = 0; i < group->n_backends; i++) {
        const struct lb_backend *backend = &group->backends[i];
        struct lb_load load = pool->algorithm->load(pool, backend, request->now_ms, more);
        int order;
        if (!can_take(request, backend))
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
    if (least == NULL || tied_weight == least->weight)
        return least;
    return choose_tied(pool, group, request, more, least, least_load, next_position(group) % tied_weight);
}

/* Backends without load share new sessions by weight. One more request goes to where the load is least with it. */
static const struct lb_backend *choose_least_loaded(const struct lb_pool *pool, const struct lb_group *group,
                                                    const struct lb_balance_request *request, struct lb_rng *rng) {
    (void)rng;
    return choose_least(pool, group, request, request->has_current);
}

static const struct lb_backend *choose_least_latency(const struct lb_pool *pool, const struct lb_group *group,
                                                     const struct lb_balance_request *request, struct lb_rng *rng) {
    (void)rng;
    return choose_least(pool, group, request, 1);
}

static const struct lb_backend *draw(const struct lb_group *group, struct lb_rng *rng) {
    return &group->backends[group->sequence->entries[lb_rng_below(rng, group->sequence->n_entries)]];
}

static const struct lb_backend *choose_random(const struct lb_pool *pool, const struct lb_group *group,
                                              const struct lb_balance_request *request, struct lb_rng *rng) {
    (void)pool;
    for (int step = 0; step < STEPS_MAX; step++) {
        const struct lb_backend *backend = draw(group, rng);
        if (can_take(request, backend))
            return backend;
    }
    return choose_from(group, request, lb_rng_below(rng, group->n_backends));
}

static const struct lb_backend *choose_power_of_two(const struct lb_pool *pool, const struct lb_group *group,
                                                    const struct lb_balance_request *request, struct lb_rng *rng) {
    const uint32_t more = request->has_current;

    for (int step = 0; step < STEPS_MAX; step++) {
        const struct lb_backend *first = draw(group, rng), *second = draw(group, rng);
        /* Draw two different backends, if there are two. */
        for (int again = 0; first == second && group->n_usable > 1 && again < 4; again++)
            second = draw(group, rng);
        if (!can_take(request, first))
            first = second;
        if (!can_take(request, first))
            continue;
        if (first != second && can_take(request, second) &&
            compare_load(second, pool->algorithm->load(pool, second, request->now_ms, more), first,
                         pool->algorithm->load(pool, first, request->now_ms, more)) < 0)
            first = second;
        return first;
    }
    return choose_from(group, request, lb_rng_below(rng, group->n_backends));
}

/* What max_load bounds. */
static uint32_t bounded_load(const struct lb_pool *pool, const struct lb_backend *backend) {
    return is_placed_by_request(pool) ? turns(backend) : connections(backend);
}

/* The bounded load of the group, with the new session or request. Only sessions of a whole pool are counted already. */
static uint64_t bounded_total(const struct lb_pool *pool, const struct lb_group *group) {
    uint64_t total = 1;

    if (pool->failover == NULL && !is_placed_by_request(pool))
        return LB_MAX(atomic_load_explicit(&pool->shared->sessions, memory_order_relaxed), 1u);
    for (uint32_t i = 0; i < group->n_backends; i++)
        total += bounded_load(pool, &group->backends[i]);
    return total;
}

/* True if the backend has less than its share of the total times max_load, rounded up: at least one. */
static bool is_within_bound(const struct lb_pool *pool, const struct lb_group *group, uint64_t total,
                            const struct lb_backend *backend) {
    uint64_t whole = group->total_weight * 100;

    return pool->config.max_load == 0 ||
           bounded_load(pool, backend) < (total * pool->config.max_load * backend->weight + whole - 1) / whole;
}

static const struct lb_backend *choose_maglev(const struct lb_pool *pool, const struct lb_group *group,
                                              const struct lb_balance_request *request, struct lb_rng *rng) {
    uint64_t hash = request->hash, total = pool->config.max_load == 0 ? 0 : bounded_total(pool, group);

    for (int step = 0; step < STEPS_MAX; step++) {
        const struct lb_backend *backend = &group->backends[group->table->entries[hash % group->table->size]];
        if (is_within_bound(pool, group, total, backend) && can_take(request, backend))
            return backend;
        hash = lb_hash_mix(hash + 1);
    }
    return pool->config.max_load == 0 ? choose_from(group, request, (uint32_t)(hash % group->n_backends))
                                      : choose_least_loaded(pool, group, request, rng);
}

static const struct lb_backend *choose_first(const struct lb_pool *pool, const struct lb_group *group,
                                             const struct lb_balance_request *request, struct lb_rng *rng) {
    (void)pool;
    (void)rng;
    return choose_from(group, request, 0);
}

const struct lb_algorithm lb_algorithms[L4LB_N_BALANCE] = {
    [L4LB_ROUND_ROBIN] = {.choose = choose_round_robin, .load = load_busy, .keeps_current = true},
    [L4LB_LEAST_CONNECTIONS] = {.choose = choose_least_loaded, .load = load_connections, .keeps_current = true},
    [L4LB_LEAST_BUSY] = {.choose = choose_least_loaded, .load = load_busy, .keeps_current = true},
    [L4LB_LEAST_LATENCY] = {.choose = choose_least_latency, .load = load_latency, .keeps_current = true},
    [L4LB_RANDOM] = {.choose = choose_random, .load = load_busy, .keeps_current = true},
    [L4LB_POWER_OF_TWO] = {.choose = choose_power_of_two, .load = load_busy, .keeps_current = true},
    /* The load only decides if every backend is over its bound. */
    [L4LB_MAGLEV] = {.choose = choose_maglev, .load = load_connections, .is_hashed = true},
    [L4LB_FIRST] = {.choose = choose_first},
};

/* ---- a pick ------------------------------------------------------------------------------------------------------ */

/* The backend in this slot, if it is in the group and can take the request; else NULL. */
static const struct lb_backend *find(const struct lb_pool *pool, const struct lb_group *group,
                                     const struct lb_balance_request *request, uint32_t slot) {
    const struct lb_backend *backend = lb_group_find(group, lb_pool_index_of(pool, slot));

    return backend != NULL && can_take(request, backend) ? backend : NULL;
}

/* Would the other backend have no more load with the request than the current one has without it? */
static bool is_better(const struct lb_pool *pool, const struct lb_balance_request *request,
                      const struct lb_backend *other, const struct lb_backend *current) {
    struct lb_load with = pool->algorithm->load(pool, other, request->now_ms, 1);
    struct lb_load without = pool->algorithm->load(pool, current, request->now_ms, 0);

    return compare_share(with.first, other, without.first, current) <= 0;
}

/* The best backend to which the session has a connection, or NULL: the current one, unless another is better by a turn.
 */
static const struct lb_backend *nearest_of(const struct lb_pool *pool, const struct lb_group *group,
                                           const struct lb_balance_request *request) {
    const struct lb_backend *nearest = find(pool, group, request, request->current);

    for (uint32_t i = 0; i < request->n_held && (nearest == NULL || turns(nearest) > 0); i++) {
        const struct lb_backend *held = find(pool, group, request, request->held[i]);
        if (held != NULL && (nearest == NULL || is_better(pool, request, held, nearest)))
            nearest = held;
    }
    return nearest;
}

/* Reserve the nearest backend, or the chosen one if that is better. -EAGAIN without a nearest one. */
static int keep_or_move(const struct lb_pool *pool, const struct lb_group *group,
                        const struct lb_balance_request *request, struct lb_rng *rng) {
    const struct lb_backend *nearest = nearest_of(pool, group, request), *chosen;

    if (nearest == NULL)
        return -EAGAIN;
    if (turns(nearest) > 0 && !request->held_only) {
        chosen = pool->algorithm->choose(pool, group, request, rng);
        if (chosen != NULL && is_better(pool, request, chosen, nearest) && reserve(pool, request, chosen))
            return (int)chosen->index;
    }
    return reserve(pool, request, nearest) ? (int)nearest->index : -EAGAIN;
}

static int reserve_any(const struct lb_pool *pool, const struct lb_group *group,
                       const struct lb_balance_request *request) {
    for (uint32_t i = 0; i < group->n_backends; i++) {
        if (lb_algorithm_reserve(pool, request, &group->backends[i]))
            return (int)group->backends[i].index;
    }
    return -EAGAIN;
}

int lb_algorithm_pick(const struct lb_pool *pool, const struct lb_group *group,
                      const struct lb_balance_request *request, struct lb_rng *rng) {
    if (request->has_current && pool->algorithm->keeps_current) {
        int at = keep_or_move(pool, group, request, rng);
        if (at >= 0)
            return at;
    }
    for (int i = 0; i < CHOICES_MAX; i++) {
        const struct lb_backend *chosen = pool->algorithm->choose(pool, group, request, rng);
        if (chosen == NULL)
            return -EAGAIN;
        if (reserve(pool, request, chosen))
            return (int)chosen->index;
    }
    return reserve_any(pool, group, request);
}
