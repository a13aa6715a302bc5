/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine - implements l4lb.h: start and stop, slots, the publication of snapshots.
 *
 * Publication: (1) the new snapshot is built aside; (2) one atomic store makes it visible; (3) every worker is woken
 * and adopts it at the start of an iteration, after which the worker holds no pointer into an older one, and reports
 * that in `seen`; (4) a retired snapshot is freed when every worker has seen a newer one.
 *
 * Owner:   the control thread; requests and statistics may come from any thread.
 * Memory:  one block with the state that all workers share; slots, workers and snapshots are blocks of their own.
 * Errors:  -errno.
 */
#ifndef LB_ENGINE_H
#define LB_ENGINE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "l4lb.h"
#include "shared/runtime.h"
#include "worker/slots.h"
#include "worker/watchdog.h"

struct l4lb_engine {
    struct lb_runtime runtime;
    struct lb_slots slots[3]; /* by enum l4lb_slot_kind */
    struct lb_snapshot *retired;
    uint64_t n_published;
    struct lb_watchdog watchdog;
    uint32_t n_started;           /* changes under request_lock */
    pthread_mutex_t request_lock; /* one request at a time; never taken by a worker */
    int done_fd; /* eventfd of that request; kept open, so that a request works without free descriptors */
};

/* True if this slot is taken. */
static inline bool lb_engine_has_slot(const struct l4lb_engine *engine, enum l4lb_slot_kind kind, uint32_t slot) {
    return lb_slots_is_taken(&engine->slots[kind], slot);
}

#endif
