/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool - a pool as the workers see it: its backends, how one is picked, and the settings of its sessions.
 *
 * Owner:   the control thread while it is built (snapshot.c); frozen after.
 * Memory:  by value in its snapshot. Other snapshots share Maglev and stick tables by count.
 */
#ifndef LB_POOL_H
#define LB_POOL_H

#include <stdbool.h>
#include <stdint.h>

#include "config/failover.h"
#include "config/group.h"
#include "kernel/source.h"
#include "l4lb.h"
#include "shared/shared.h"
#include "shared/stick_table.h"

struct lb_algorithm;

struct lb_pool {
    uint32_t slot;
    struct l4lb_pool_config config; /* without its pointers, which were the caller's */
    const struct lb_algorithm *algorithm;
    uint32_t n_backends;
    uint32_t n_usable;
    struct lb_backend *backends;        /* in order of tiers, within a tier as they were given */
    struct lb_group whole;              /* all backends; not built if there is `failover` */
    struct lb_failover *failover;       /* NULL if the backends do not differ in tier or zone */
    struct lb_sources *sources;         /* NULL = the kernel chooses the source address */
    struct lb_stick_table *stick_table; /* NULL = clients are not remembered */
    struct lb_pool_shared *shared;      /* borrowed from the engine */
    const uint32_t *backend_of_slot;    /* borrowed from the snapshot: indices in their pools, by slot */
    uint32_t n_backend_slots;
};

/* The index of the backend in this slot, or UINT32_MAX if it is not in the pool. */
static inline uint32_t lb_pool_index_of(const struct lb_pool *pool, uint32_t slot) {
    uint32_t at = slot < pool->n_backend_slots ? pool->backend_of_slot[slot] : UINT32_MAX;
    return at < pool->n_backends && pool->backends[at].slot == slot ? at : UINT32_MAX;
}

#endif
