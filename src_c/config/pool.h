/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pool - a pool as the workers see it: its backends, how to pick one, and what a session with one lives by.
 *
 * Owner:   control thread while it is built (snapshot.c); frozen after.
 * Memory:  by value in its snapshot. Maglev and stick tables are shared by count with other snapshots.
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
    struct l4lb_pool_config config; /* without its pointers: these were the caller's */
    const struct lb_algorithm *algorithm;
    uint32_t n_backends;
    uint32_t n_usable;
    struct lb_backend *backends;        /* in order of tiers, and in a tier as they were given */
    struct lb_group whole;              /* all of them; not built where there is `spill` */
    struct lb_failover *failover;       /* NULL where the pool has one tier and no zones to tell apart */
    struct lb_sources *sources;         /* NULL = the kernel chooses where connections come from */
    struct lb_stick_table *stick_table; /* NULL = clients are not remembered */
    struct lb_pool_shared *shared;      /* borrowed from the engine */
};

#endif
