/* SPDX-License-Identifier: Apache-2.0 */
/*
 * numbers - slots and statistics of a running engine, for tests that expect no error.
 */
#ifndef NUMBERS_H
#define NUMBERS_H

#include "check.h"

#include "l4lb.h"

static inline uint32_t take_slot(struct l4lb_engine *engine, enum l4lb_slot_kind kind) {
    int slot = l4lb_slot_take(engine, kind);

    CHECK(slot >= 0);
    return (uint32_t)slot;
}

static inline struct l4lb_backend_stats backend_stats(const struct l4lb_engine *engine, uint32_t slot) {
    struct l4lb_backend_stats stats;

    CHECK_OK(l4lb_read_backend(engine, slot, &stats));
    return stats;
}

static inline struct l4lb_listener_stats listener_stats(const struct l4lb_engine *engine, uint32_t slot) {
    struct l4lb_listener_stats stats;

    CHECK_OK(l4lb_read_listener(engine, slot, &stats));
    return stats;
}

static inline struct l4lb_pool_stats pool_stats(const struct l4lb_engine *engine, uint32_t slot) {
    struct l4lb_pool_stats stats;

    CHECK_OK(l4lb_read_pool(engine, slot, &stats));
    return stats;
}

/* The sum over all workers. */
static inline struct l4lb_worker_stats worker_stats(const struct l4lb_engine *engine) {
    struct l4lb_worker_stats sum = {0}, stats;

    for (uint32_t worker = 0; l4lb_read_worker(engine, worker, &stats) == 0; worker++) {
        sum.sessions += stats.sessions;
        sum.accept_pauses_total += stats.accept_pauses_total;
        sum.events_dropped_total += stats.events_dropped_total;
    }
    return sum;
}

static inline uint64_t sessions_now(const struct l4lb_engine *engine) { return worker_stats(engine).sessions; }

#endif
