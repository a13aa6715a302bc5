/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared - numbers that outlive snapshots and are exact across workers at any moment, by slot.
 *
 * A limit, the fewest connections and the next round-robin entry are decided by them: one atomic each, on its own cache
 * line. Numbers that are only reported are in counters.h.
 *
 * Owner:   the tables belong to the engine; any worker reads and writes.
 * Memory:  address space for every slot is reserved at start; pages are used as slots are.
 * Holds:   a backend's connections = sessions that hold capacity of it, on all workers. They are among its sessions.
 * Errors:  -EIO without randomness, -ENOMEM.
 */
#ifndef LB_SHARED_H
#define LB_SHARED_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/bounds.h"
#include "base/latency.h"
#include "shared/queue.h"

struct lb_backend_shared {
    _Alignas(LB_CACHE_LINE) atomic_uint connections; /* capacity taken */
    atomic_uint sessions;                            /* whose backend this is: the slot is kept for them */
    lb_latency_t latency;                            /* to the first byte of a turn */
    atomic_uint turns; /* of them, those in a turn, and those so new that their first is expected at any moment */
    atomic_uint busy;  /* of these, those in a turn */
    _Atomic uint64_t draining_ms; /* quiet sessions are closed since then (CLOCK_MONOTONIC); 0 = they stay */
    atomic_uint drain_spread_ms;  /* they begin to leave one after the other within this time */
    atomic_uint generation;       /* changes when the slot is taken */
};

struct lb_listener_shared {
    _Alignas(LB_CACHE_LINE) atomic_uint connections;
};

/* A position in a round-robin sequence. */
struct lb_rr_cursor {
    _Alignas(LB_CACHE_LINE) atomic_uint next;
};

struct lb_pool_shared {
    struct lb_rr_cursor cursor; /* of a pool that is one group */
    _Alignas(LB_CACHE_LINE) atomic_uint sessions;
    _Alignas(LB_CACHE_LINE) struct lb_queue queue;
};

/* Shared by all workers. */
struct lb_shared {
    uint64_t seed[2]; /* of this process, for hashes that nobody may predict; frozen */
    struct lb_listener_shared *listeners;
    struct lb_pool_shared *pools;
    struct lb_rr_cursor *cursors; /* of pools with several groups: LB_RR_CURSORS for each pool */
    struct lb_backend_shared *backends;
};

LB_MUST_CHECK int lb_shared_init(struct lb_shared *shared);
void lb_shared_fini(struct lb_shared *shared);

static inline struct lb_rr_cursor *lb_shared_cursors(const struct lb_shared *shared, uint32_t pool_slot) {
    return shared->cursors + (size_t)pool_slot * LB_RR_CURSORS;
}

static inline uint64_t lb_backend_draining_ms(const struct lb_backend_shared *backend) {
    return atomic_load_explicit(&backend->draining_ms, memory_order_relaxed);
}

/* Take one of `max` places (0 = any number), exactly, whatever other workers do. */
static inline bool lb_capacity_reserve(atomic_uint *held, uint32_t max) {
    uint32_t taken;

    if (max == 0) {
        atomic_fetch_add(held, 1);
        return true;
    }
    taken = atomic_load(held);
    while (taken < max) {
        if (atomic_compare_exchange_weak(held, &taken, taken + 1))
            return true;
    }
    return false;
}

static inline void lb_capacity_release(atomic_uint *held) {
    uint32_t before = atomic_fetch_sub(held, 1);
    LB_BUG_ON(before == 0);
}

#endif
