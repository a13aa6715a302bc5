/* SPDX-License-Identifier: Apache-2.0 */
/*
 * shared - numbers of each slot that outlive snapshots and are exact across workers at any moment.
 *
 * They decide about limits, the least loaded backend and the next round-robin entry: atomics, with a cache line for
 * each slot. Numbers that are only reported are in counters.h.
 *
 * Owner:   the tables belong to the engine; any worker reads and writes.
 * Memory:  address space for every slot is reserved at start; pages are used as slots are.
 * Holds:   the connections of a backend are the sessions, on all workers, that hold capacity of it. They are among its
 *          sessions.
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
    atomic_uint sessions;                            /* sessions that keep the slot, with or without capacity */
    lb_latency_t latency;                            /* to the first byte of a turn */
    atomic_uint turns;                               /* in flight, or reserved for a first request */
    atomic_uint busy;                                /* in flight */
    _Atomic uint64_t draining_ms; /* idle sessions are closed since then (CLOCK_MONOTONIC); 0 = not draining */
    atomic_uint drain_spread_ms;  /* the time over which their closing is spread */
    atomic_uint generation;       /* changes whenever the slot is taken */
    atomic_uint cold_left;        /* complete responses until it is no longer cold */
    _Atomic uint64_t placed_ms;   /* when its latest request was placed (CLOCK_MONOTONIC), where requests are placed */
};

struct lb_listener_shared {
    _Alignas(LB_CACHE_LINE) atomic_uint connections;
};

struct lb_rr_cursor {
    _Alignas(LB_CACHE_LINE) atomic_uint next;
};

struct lb_pool_shared {
    struct lb_rr_cursor cursor; /* of a pool with a single group */
    _Alignas(LB_CACHE_LINE) atomic_uint sessions;
    _Alignas(LB_CACHE_LINE) struct lb_queue queue;
};

struct lb_shared {
    uint64_t seed[2]; /* of this process, for keyed hashes; frozen */
    struct lb_listener_shared *listeners;
    struct lb_pool_shared *pools;
    struct lb_rr_cursor *cursors; /* of pools with several groups: LB_RR_CURSORS each */
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

static inline bool lb_backend_is_cold(const struct lb_backend_shared *backend) {
    return atomic_load_explicit(&backend->cold_left, memory_order_relaxed) > 0;
}

/* A response of this backend is complete. True if it made the backend warm, which may then have capacity. */
static inline bool lb_backend_responded(struct lb_backend_shared *backend) {
    uint32_t left = atomic_load_explicit(&backend->cold_left, memory_order_relaxed);

    while (left > 0) {
        if (atomic_compare_exchange_weak(&backend->cold_left, &left, left - 1))
            return left == 1;
    }
    return false;
}

/* Take one of `max` (0 = no limit), exactly, whatever other workers do. False if none is left. */
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
