/* SPDX-License-Identifier: Apache-2.0 */
/*
 * runtime - what all workers of an engine share.
 *
 * Owner:   the engine makes it; any worker reads and writes the atomics.
 * Memory:  a part of the engine.
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
    _Alignas(LB_CACHE_LINE) atomic_uint sessions;    /* places taken */
    _Alignas(LB_CACHE_LINE) atomic_uint newcomers;   /* of them, those of clients that have not said enough */
    _Alignas(LB_CACHE_LINE) _Atomic uint64_t paused; /* bit per worker with a paused listening socket */
    atomic_bool stopping;
    atomic_bool event_armed; /* the control thread wants to be told of the next event */
    struct lb_worker *workers;
    int wake_fds[LB_WORKERS_MAX]; /* of the workers: written to wake one */
    uint32_t n_workers;
};

/* Any thread: make this worker begin an iteration soon. */
static inline void lb_runtime_wake(const struct lb_runtime *runtime, uint32_t worker) {
    uint64_t one = 1;
    (void)!write(runtime->wake_fds[worker], &one, sizeof one);
}

#endif
