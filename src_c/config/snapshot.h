/* SPDX-License-Identifier: Apache-2.0 */
/*
 * snapshot - one complete configuration as the workers see it.
 *
 * The control thread builds it aside, publishes it by one pointer, and frees it once every worker has moved on. Nothing
 * in it changes after publication, except lb_listen_socket, where each worker keeps the state of its own sockets, and
 * stick tables, which have locks of their own.
 *
 * Owner:   the control thread until published; frozen after; freed by the control thread.
 * Memory:  the snapshot owns all of it, except Maglev, prefix and stick tables, which snapshots share by count.
 * Holds:   indices and slots are in range: checked when it is built, never again.
 * Errors:  -EINVAL for an invalid configuration, -ENOMEM.
 */
#ifndef LB_SNAPSHOT_H
#define LB_SNAPSHOT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "config/pool.h"
#include "config/routes.h"
#include "l4lb.h"
#include "shared/shared.h"
#include "structures/lpm.h"

struct lb_listener {
    uint32_t slot;
    uint32_t pool;
    struct lb_routes *routes; /* NULL = no routes */
    uint64_t hello_ms;        /* how long to wait for a server name; 0 = it is not needed */
    uint32_t connections_max;
    struct lb_lpm *allow; /* NULL = every client */
    struct lb_lpm *deny;
    struct lb_lpm *proxy_from;
    enum l4lb_proxy_mode proxy_mode;
    uint64_t proxy_timeout_ms;
    struct lb_listener_shared *shared; /* borrowed from the engine */
};

/* One worker's socket for one bind address. */
struct lb_listen_socket {
    int fd;
    uint32_t listener;
    /* worker-only from here on */
    uint64_t last_iteration; /* the last iteration in which it had a client */
    uint32_t burst;          /* clients to accept in one iteration */
    uint32_t n_last;         /* clients accepted since the socket is to be removed */
    bool watched;            /* registered with epoll; false while paused */
};

struct lb_snapshot {
    uint64_t sequence;
    uint32_t n_listeners;
    uint32_t n_pools;
    uint32_t n_workers;
    uint32_t n_sockets; /* of each worker */
    uint32_t n_pool_slots;
    uint32_t n_listener_slots;
    uint32_t n_backend_slots;
    uint32_t events;
    uint64_t interval_ms;
    struct lb_lpm *zones; /* NULL = no zones */
    struct lb_listener *listeners;
    struct lb_pool *pools;
    struct lb_listen_socket *sockets; /* worker w: from w * n_sockets, in order of fd */
    uint32_t *pool_of_slot;           /* n_pool_slots entries; UINT32_MAX = not in this snapshot */
    uint32_t *listener_of_slot;       /* likewise */
    uint32_t *backend_of_slot;        /* likewise; the index in its pool */
    struct lb_snapshot *next_retired;
};

/* `previous` may be NULL; Maglev tables that would be the same are shared with it, and so are stick tables, or their
 * entries. */
LB_MUST_CHECK int lb_snapshot_new(const struct l4lb_config *config, uint32_t n_workers, struct lb_shared *shared,
                                  const struct lb_snapshot *previous, struct lb_snapshot **out);
void lb_snapshot_free(struct lb_snapshot *snapshot);

/* Check whether this pool could be part of a snapshot. Returns 0, or the error of lb_snapshot_new(). */
LB_MUST_CHECK int lb_snapshot_check_pool(const struct l4lb_pool_config *config, struct lb_shared *shared);

/* True if the snapshot uses this slot. */
bool lb_snapshot_uses(const struct lb_snapshot *snapshot, enum l4lb_slot_kind kind, uint32_t slot);

static inline struct lb_listen_socket *lb_snapshot_sockets(const struct lb_snapshot *snapshot, uint32_t worker) {
    return snapshot->sockets + (size_t)worker * snapshot->n_sockets;
}

/* The pool in this slot, or NULL if this snapshot has none there. */
static inline const struct lb_pool *lb_snapshot_pool(const struct lb_snapshot *snapshot, uint32_t slot) {
    if (slot >= snapshot->n_pool_slots || snapshot->pool_of_slot[slot] == UINT32_MAX)
        return NULL;
    return &snapshot->pools[snapshot->pool_of_slot[slot]];
}

/* The zone of a client as this snapshot numbers them; 0 if the client is in none, or if zones do not matter to the
 * pool. */
static inline uint32_t lb_snapshot_zone(const struct lb_snapshot *snapshot, const struct lb_pool *pool,
                                        const struct l4lb_endpoint *client) {
    if (pool->failover == NULL || pool->failover->n_preferences == 1 || snapshot->zones == NULL)
        return 0;
    return lb_lpm_find_peer(snapshot->zones, client);
}

/* The listener in this slot, or NULL if this snapshot has none there. */
static inline const struct lb_listener *lb_snapshot_listener(const struct lb_snapshot *snapshot, uint32_t slot) {
    if (slot >= snapshot->n_listener_slots || snapshot->listener_of_slot[slot] == UINT32_MAX)
        return NULL;
    return &snapshot->listeners[snapshot->listener_of_slot[slot]];
}

#endif
