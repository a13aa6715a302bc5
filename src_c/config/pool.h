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
    const struct lb_algorithm *algorithm;
    uint32_t retries;
    enum l4lb_send_proxy send_proxy;
    uint64_t connect_ms;
    uint64_t idle_ms;
    uint64_t half_close_ms;
    uint64_t lifetime_ms;
    uint64_t first_byte_ms;
    uint64_t response_ms;
    uint64_t stream_gap_ms;
    uint64_t keepalive_ms;
    uint64_t hello_ms;
    struct l4lb_tcp tcp;
    uint32_t queue_size;
    uint64_t queue_ms;
    bool abort_on_close;
    uint32_t n_backends;
    uint32_t n_usable;
    uint32_t max_load;
    enum l4lb_hash_key hash_key;
    struct lb_backend *backends;        /* in order of tiers, and in a tier as they were given */
    struct lb_group whole;              /* all of them; not built where there is `spill` */
    struct lb_failover *failover;       /* NULL where the pool has one tier and no zones to tell apart */
    struct lb_sources *sources;         /* NULL = the kernel chooses where connections come from */
    struct lb_stick_table *stick_table; /* NULL = clients are not remembered */
    uint64_t sticky_ttl_ms;
    struct lb_pool_shared *shared; /* borrowed from the engine */
};

#endif
