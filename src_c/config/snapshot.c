/* SPDX-License-Identifier: Apache-2.0 */
#include "config/snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bounds.h"
#include "base/clock.h"
#include "config/algorithm.h"

/* ---- pools ------------------------------------------------------------------------------------------------------- */

static int build_backend(struct lb_backend *backend, const struct l4lb_backend_config *config,
                         struct lb_shared *shared) {
    if (config->slot >= LB_BACKEND_SLOTS || config->weight > L4LB_WEIGHT_MAX || config->name == NULL ||
        config->zone > LB_ZONES_MAX || config->address_len > sizeof backend->address ||
        (config->usable && config->address_len == 0))
        return -EINVAL;
    backend->slot = config->slot;
    backend->weight = config->usable ? config->weight : 0;
    backend->connections_max = config->connections_max;
    backend->busy_max = config->busy_max;
    backend->cold_busy_max = config->cold_busy_max;
    backend->address_len = config->address_len;
    memcpy(&backend->address, config->address, config->address_len);
    backend->shared = &shared->backends[config->slot];
    return 0;
}

/* In order of tiers, within a tier as they were given. */
static int sort_by_tier(const struct l4lb_pool_config *config, const struct l4lb_backend_config **sorted) {
    size_t n = 0;

    for (uint32_t tier = 0; tier < LB_TIERS_MAX && n < config->n_backends; tier++) {
        for (size_t i = 0; i < config->n_backends; i++) {
            if (config->backends[i].tier == tier)
                sorted[n++] = &config->backends[i];
        }
    }
    return n == config->n_backends ? 0 : -EINVAL;
}

static int build_groups(struct lb_pool *pool, const struct l4lb_backend_config *const *configs, uint32_t table_size,
                        struct lb_shared *shared, const struct lb_pool *before) {
    if (lb_failover_is_wanted(configs, pool->n_backends))
        return lb_failover_new(configs, pool->backends, pool->n_backends, table_size,
                               lb_shared_cursors(shared, pool->slot), before != NULL ? before->failover : NULL,
                               &pool->failover);
    pool->whole.backends = pool->backends;
    pool->whole.n_backends = pool->n_backends;
    pool->whole.cursor = &pool->shared->cursor.next;
    return lb_group_build(&pool->whole, configs, table_size, before != NULL ? &before->whole : NULL);
}

static int build_backends(struct lb_pool *pool, const struct l4lb_pool_config *config, struct lb_shared *shared,
                          const struct lb_snapshot *previous) {
    const struct l4lb_backend_config **sorted = calloc(config->n_backends + 1, sizeof *sorted);
    uint32_t table_size = pool->algorithm->is_hashed ? config->table_size : 0;
    int result = -ENOMEM;

    pool->backends = calloc(config->n_backends + 1, sizeof *pool->backends);
    if (sorted != NULL && pool->backends != NULL)
        result = sort_by_tier(config, sorted);
    for (; result == 0 && pool->n_backends < config->n_backends; pool->n_backends++) {
        struct lb_backend *backend = &pool->backends[pool->n_backends];
        result = build_backend(backend, sorted[pool->n_backends], shared);
        backend->index = pool->n_backends;
        pool->n_usable += backend->weight > 0;
    }
    if (result == 0)
        result = build_groups(pool, sorted, table_size, shared,
                              previous != NULL ? lb_snapshot_pool(previous, config->slot) : NULL);
    free(sorted);
    return result;
}

static bool is_tcp_valid(const struct l4lb_tcp *tcp) {
    return tcp->keepalive_s <= L4LB_KEEPALIVE_S_MAX && tcp->user_timeout_ms <= INT32_MAX &&
           (tcp->keepalive_s == 0 || (tcp->interval_s > 0 && tcp->interval_s <= L4LB_KEEPALIVE_S_MAX &&
                                      tcp->probes > 0 && tcp->probes <= L4LB_KEEPALIVE_PROBES_MAX));
}

static int build_sticky(struct lb_pool *pool, const struct l4lb_pool_config *config, const struct lb_shared *shared,
                        const struct lb_snapshot *previous) {
    const struct lb_pool *before = previous != NULL ? lb_snapshot_pool(previous, config->slot) : NULL;

    if (config->sticky_entries == 0)
        return 0;
    if (config->sticky_entries > L4LB_STICKY_ENTRIES_MAX || config->sticky_ttl_ms == 0)
        return -EINVAL;
    /* The publication that made a table tells it from those that the pool had before. */
    return lb_stick_table_make(config->sticky_entries, previous != NULL ? (uint32_t)previous->sequence + 1 : 1,
                               shared->seed, before != NULL ? before->stick_table : NULL,
                               (int64_t)(lb_clock_ns() / LB_NS_PER_MS), (int64_t)config->sticky_ttl_ms,
                               &pool->stick_table);
}

static int build_pool(struct lb_pool *pool, const struct l4lb_pool_config *config, struct lb_shared *shared,
                      const struct lb_snapshot *previous) {
    int result;

    if (config->slot >= LB_POOL_SLOTS || config->n_backends > LB_BACKEND_SLOTS || config->connect_ms == 0 ||
        config->timeouts.idle_ms == 0 || config->timeouts.half_close_ms == 0 || config->balance >= L4LB_N_BALANCE ||
        config->hash_key > L4LB_HASH_SNI || config->send_proxy > L4LB_SEND_PROXY_V2 ||
        config->protocol > L4LB_PROTOCOL_HTTP1 || config->resend > L4LB_RESEND_ALL ||
        config->retries > L4LB_RETRIES_MAX)
        return -EINVAL;
    pool->algorithm = &lb_algorithms[config->balance];
    if (pool->algorithm->is_hashed && (config->table_size == 0 || config->table_size > L4LB_MAGLEV_TABLE_MAX))
        return -EINVAL;
    if ((config->max_load != 0 && config->max_load <= 100) || !is_tcp_valid(&config->tcp))
        return -EINVAL;
    pool->slot = config->slot;
    pool->config = *config;
    pool->config.backends = NULL;
    pool->config.sources = NULL;
    pool->shared = &shared->pools[config->slot];
    result = lb_sources_new(config->sources, config->n_sources, &pool->sources);
    if (result == 0)
        result = build_sticky(pool, config, shared, previous);
    return result < 0 ? result : build_backends(pool, config, shared, previous);
}

static void fini_pool(struct lb_pool *pool) {
    free(pool->backends);
    lb_sources_free(pool->sources);
    lb_group_fini(&pool->whole);
    lb_failover_free(pool->failover);
    lb_stick_table_put(pool->stick_table);
}

int lb_snapshot_check_pool(const struct l4lb_pool_config *config, struct lb_shared *shared) {
    struct lb_pool pool = {0};
    int result = build_pool(&pool, config, shared, NULL);

    fini_pool(&pool);
    return result;
}

/* ---- listeners --------------------------------------------------------------------------------------------------- */

/* True if the server names of clients matter to this pool. */
static bool wants_name(const struct lb_pool *pool) {
    return pool->algorithm->is_hashed && pool->config.hash_key == L4LB_HASH_SNI;
}

static int build_routes(struct lb_listener *listener, const struct l4lb_listener_config *config,
                        const struct lb_snapshot *snapshot) {
    const struct lb_pool *pool = &snapshot->pools[config->pool];

    if (config->n_routes == 0 && !wants_name(pool))
        return 0;
    if (pool->config.hello_ms == 0)
        return -EINVAL;
    listener->hello_ms = pool->config.hello_ms;
    for (size_t i = 0; i < config->n_routes; i++) {
        if (config->routes[i].pool >= snapshot->n_pools)
            return -EINVAL;
    }
    return config->n_routes == 0 ? 0 : lb_routes_new(config->routes, config->n_routes, &listener->routes);
}

static int build_listener(struct lb_listener *listener, const struct l4lb_listener_config *config,
                          const struct lb_snapshot *snapshot, struct lb_shared *shared) {
    if (config->slot >= LB_LISTENER_SLOTS || config->pool >= snapshot->n_pools)
        return -EINVAL;
    if (config->proxy_mode > L4LB_PROXY_OPTIONAL ||
        (config->proxy_mode != L4LB_PROXY_OFF && config->proxy_timeout_ms == 0))
        return -EINVAL;
    listener->slot = config->slot;
    listener->pool = config->pool;
    listener->connections_max = config->connections_max;
    listener->proxy_mode = config->proxy_mode;
    listener->proxy_timeout_ms = config->proxy_timeout_ms;
    listener->shared = &shared->listeners[config->slot];
    listener->allow = lb_lpm_share(config->allow);
    listener->deny = lb_lpm_share(config->deny);
    listener->proxy_from = lb_lpm_share(config->proxy_from);
    return build_routes(listener, config, snapshot);
}

static int by_fd(const void *a, const void *b) {
    const struct lb_listen_socket *left = a, *right = b;
    return (left->fd > right->fd) - (left->fd < right->fd);
}

static int build_sockets(struct lb_snapshot *snapshot, const struct l4lb_config *config) {
    for (size_t i = 0; i < config->n_listeners; i++)
        snapshot->n_sockets += (uint32_t)config->listeners[i].n_binds;
    snapshot->sockets = calloc((size_t)snapshot->n_sockets * snapshot->n_workers + 1, sizeof *snapshot->sockets);
    if (snapshot->sockets == NULL)
        return -ENOMEM;
    for (uint32_t worker = 0; worker < snapshot->n_workers; worker++) {
        struct lb_listen_socket *sockets = lb_snapshot_sockets(snapshot, worker);
        uint32_t n = 0;
        for (uint32_t i = 0; i < snapshot->n_listeners; i++) {
            const struct l4lb_listener_config *listener = &config->listeners[i];
            for (size_t bind = 0; bind < listener->n_binds; bind++) {
                int fd = listener->fds[bind * snapshot->n_workers + worker];
                sockets[n++] = (struct lb_listen_socket){.fd = fd, .listener = i, .burst = 1};
            }
        }
        qsort(sockets, n, sizeof *sockets, by_fd);
        for (uint32_t i = 0; i < n; i++) {
            if (sockets[i].fd < 0 || (i > 0 && sockets[i].fd == sockets[i - 1].fd))
                return -EINVAL;
        }
    }
    return 0;
}

/* ---- indices ----------------------------------------------------------------------------------------------------- */

static uint32_t *index_new(uint32_t n_slots) {
    uint32_t *index = malloc((n_slots + 1u) * sizeof *index);

    if (index != NULL)
        memset(index, 0xff, (n_slots + 1u) * sizeof *index);
    return index;
}

static int build_indices(struct lb_snapshot *snapshot) {
    for (uint32_t i = 0; i < snapshot->n_pools; i++)
        snapshot->n_pool_slots = LB_MAX(snapshot->n_pool_slots, snapshot->pools[i].slot + 1);
    for (uint32_t i = 0; i < snapshot->n_listeners; i++)
        snapshot->n_listener_slots = LB_MAX(snapshot->n_listener_slots, snapshot->listeners[i].slot + 1);
    for (uint32_t i = 0; i < snapshot->n_pools; i++) {
        for (uint32_t j = 0; j < snapshot->pools[i].n_backends; j++)
            snapshot->n_backend_slots = LB_MAX(snapshot->n_backend_slots, snapshot->pools[i].backends[j].slot + 1);
    }
    snapshot->pool_of_slot = index_new(snapshot->n_pool_slots);
    snapshot->listener_of_slot = index_new(snapshot->n_listener_slots);
    snapshot->backend_of_slot = index_new(snapshot->n_backend_slots);
    if (snapshot->pool_of_slot == NULL || snapshot->listener_of_slot == NULL || snapshot->backend_of_slot == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < snapshot->n_pools; i++)
        snapshot->pool_of_slot[snapshot->pools[i].slot] = i;
    for (uint32_t i = 0; i < snapshot->n_listeners; i++)
        snapshot->listener_of_slot[snapshot->listeners[i].slot] = i;
    for (uint32_t i = 0; i < snapshot->n_pools; i++) {
        struct lb_pool *pool = &snapshot->pools[i];
        for (uint32_t j = 0; j < pool->n_backends; j++)
            snapshot->backend_of_slot[pool->backends[j].slot] = j;
        pool->backend_of_slot = snapshot->backend_of_slot;
        pool->n_backend_slots = snapshot->n_backend_slots;
    }
    return 0;
}

/* ---- snapshots --------------------------------------------------------------------------------------------------- */

int lb_snapshot_new(const struct l4lb_config *config, uint32_t n_workers, struct lb_shared *shared,
                    const struct lb_snapshot *previous, struct lb_snapshot **out) {
    struct lb_snapshot *snapshot;
    int result = -ENOMEM;

    if ((config->events & ~(uint32_t)(L4LB_EVENT_OPEN | L4LB_EVENT_INTERVAL | L4LB_EVENT_CLOSE | L4LB_EVENT_REQUEST)) !=
        0)
        return -EINVAL;
    snapshot = calloc(1, sizeof *snapshot);
    if (snapshot == NULL)
        return -ENOMEM;
    snapshot->n_workers = n_workers;
    snapshot->events = config->events;
    snapshot->interval_ms = config->interval_ms;
    snapshot->zones = lb_lpm_share(config->zones);
    snapshot->listeners = calloc(config->n_listeners + 1, sizeof *snapshot->listeners);
    snapshot->pools = calloc(config->n_pools + 1, sizeof *snapshot->pools);
    if (snapshot->listeners == NULL || snapshot->pools == NULL)
        goto fail;
    for (; snapshot->n_pools < config->n_pools; snapshot->n_pools++) {
        uint32_t i = snapshot->n_pools;
        result = build_pool(&snapshot->pools[i], &config->pools[i], shared, previous);
        if (result < 0) {
            snapshot->n_pools++;
            goto fail;
        }
    }
    for (; snapshot->n_listeners < config->n_listeners; snapshot->n_listeners++) {
        uint32_t i = snapshot->n_listeners;
        result = build_listener(&snapshot->listeners[i], &config->listeners[i], snapshot, shared);
        if (result < 0) {
            snapshot->n_listeners++;
            goto fail;
        }
    }
    result = build_indices(snapshot);
    if (result == 0)
        result = build_sockets(snapshot, config);
    if (result < 0)
        goto fail;
    *out = snapshot;
    return 0;
fail:
    lb_snapshot_free(snapshot);
    return result;
}

void lb_snapshot_free(struct lb_snapshot *snapshot) {
    if (snapshot == NULL)
        return;
    for (uint32_t i = 0; i < snapshot->n_pools; i++)
        fini_pool(&snapshot->pools[i]);
    for (uint32_t i = 0; i < snapshot->n_listeners; i++) {
        lb_routes_free(snapshot->listeners[i].routes);
        lb_lpm_free(snapshot->listeners[i].allow);
        lb_lpm_free(snapshot->listeners[i].deny);
        lb_lpm_free(snapshot->listeners[i].proxy_from);
    }
    lb_lpm_free(snapshot->zones);
    free(snapshot->listeners);
    free(snapshot->pools);
    free(snapshot->sockets);
    free(snapshot->pool_of_slot);
    free(snapshot->listener_of_slot);
    free(snapshot->backend_of_slot);
    free(snapshot);
}

bool lb_snapshot_uses(const struct lb_snapshot *snapshot, enum l4lb_slot_kind kind, uint32_t slot) {
    switch (kind) {
    case L4LB_SLOT_LISTENER:
        return lb_snapshot_listener(snapshot, slot) != NULL;
    case L4LB_SLOT_POOL:
        return lb_snapshot_pool(snapshot, slot) != NULL;
    case L4LB_SLOT_BACKEND:
        return slot < snapshot->n_backend_slots && snapshot->backend_of_slot[slot] != UINT32_MAX;
    }
    return false;
}
