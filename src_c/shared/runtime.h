/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime - the state that all workers of an engine share.
 *
 * Owner:   the engine creates it; any worker reads and writes the atomics.
 * Memory:  part of the engine.
 */
#ifndef LB_RUNTIME_H
#define LB_RUNTIME_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <unistd.h>

#include "base/base.h"
#include "base/bounds.h"
#include "shared/shared.h"

struct lb_snapshot;
struct lb_worker;

struct lb_runtime {
    struct lb_shared shared;
    uint32_t sessions_max;
    int event_fd;
    _Atomic(struct lb_snapshot *) snapshot;
    _Alignas(LB_CACHE_LINE) atomic_uint sessions; /* sessions now, at most sessions_max */
    _Alignas(LB_CACHE_LINE)
        atomic_uint newcomers; /* of these, clients that have not sent their PROXY header or server name yet */
    _Alignas(LB_CACHE_LINE) _Atomic uint64_t paused; /* one bit for each worker with a paused listening socket */
    _Atomic uint64_t clients_draining_ms; /* followed sessions close since then (CLOCK_MONOTONIC); 0 = they stay */
    atomic_uint clients_drain_spread_ms;  /* the time over which their closing is spread */
    atomic_bool stopping;
    atomic_bool event_armed; /* the control thread wants to be woken at the next event */
    struct lb_worker *workers;
    int wake_fds[LB_WORKERS_MAX]; /* of each worker: written to wake it */
    uint32_t n_workers;
};

/* Make this worker begin an iteration soon. Any thread. */
static inline void lb_runtime_wake(const struct lb_runtime *runtime, uint32_t worker) {
    uint64_t one = 1;
    (void)!write(runtime->wake_fds[worker], &one, sizeof one);
}

#endif
