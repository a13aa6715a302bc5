/* SPDX-License-Identifier: Apache-2.0 */
/*
 * statistics - reads the numbers of listeners, pools, backends and workers.
 *
 * Counters that each worker keeps are added up; numbers that workers share are read.
 *
 * Owner:   any thread.
 * Memory:  the caller's.
 * Errors:  -EINVAL for a slot that is not taken.
 */
#include <errno.h>
#include <string.h>

#include "base/clock.h"
#include "base/count.h"
#include "session/worker.h"
#include "worker/engine.h"

/* The class of a status of 5xx. */
enum { SERVER_ERRORS = 4 };

static void add_up(void *total, const void *part, size_t bytes) {
    uint64_t *to = total;
    const uint64_t *from = part;

    for (size_t i = 0; i < bytes / sizeof *to; i++)
        to[i] += lb_count_read(&from[i]);
}

int l4lb_read_backend(const struct l4lb_engine *engine, uint32_t slot, struct l4lb_backend_stats *out) {
    if (!lb_engine_has_slot(engine, L4LB_SLOT_BACKEND, slot))
        return -EINVAL;
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < engine->runtime.n_workers; i++)
        add_up(out, &engine->runtime.workers[i].counters.backends[slot], sizeof *out);
    out->connections = atomic_load(&engine->runtime.shared.backends[slot].connections);
    out->busy = atomic_load(&engine->runtime.shared.backends[slot].busy);
    out->latency_us = lb_latency_read(&engine->runtime.shared.backends[slot].latency, lb_clock_ns() / LB_NS_PER_MS);
    return 0;
}

int l4lb_read_summaries(const struct l4lb_engine *engine, const uint32_t *slots, size_t n,
                        struct l4lb_backend_summary *out) {
    uint64_t now_ms = lb_clock_ns() / LB_NS_PER_MS;

    for (size_t i = 0; i < n; i++) {
        const struct lb_backend_shared *shared;

        if (!lb_engine_has_slot(engine, L4LB_SLOT_BACKEND, slots[i]))
            return -EINVAL;
        shared = &engine->runtime.shared.backends[slots[i]];
        out[i] = (struct l4lb_backend_summary){.connections = atomic_load(&shared->connections),
                                               .busy = atomic_load(&shared->busy),
                                               .latency_us = lb_latency_read(&shared->latency, now_ms),
                                               .cold_left = atomic_load(&shared->cold_left)};
        for (uint32_t worker = 0; worker < engine->runtime.n_workers; worker++) {
            const struct l4lb_backend_stats *counted = &engine->runtime.workers[worker].counters.backends[slots[i]];

            out[i].failures_total += lb_count_read(&counted->connect_failures_total) +
                                     lb_count_read(&counted->connect_timeouts_total) +
                                     lb_count_read(&counted->resets_total);
            out[i].responded_total += lb_count_read(&counted->responded_total);
            out[i].turns_total += lb_count_read(&counted->turns_total);
            out[i].received_bytes_total += lb_count_read(&counted->received_bytes_total);
            for (size_t class = 0; class < L4LB_N_STATUS_CLASS; class ++)
                out[i].responses_total += lb_count_read(&counted->responses[class]);
            out[i].server_errors_total += lb_count_read(&counted->responses[SERVER_ERRORS]);
        }
    }
    return 0;
}

int l4lb_read_listener(const struct l4lb_engine *engine, uint32_t slot, struct l4lb_listener_stats *out) {
    if (!lb_engine_has_slot(engine, L4LB_SLOT_LISTENER, slot))
        return -EINVAL;
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < engine->runtime.n_workers; i++)
        add_up(out, &engine->runtime.workers[i].counters.listeners[slot], sizeof *out);
    out->connections = atomic_load(&engine->runtime.shared.listeners[slot].connections);
    return 0;
}

int l4lb_read_pool(const struct l4lb_engine *engine, uint32_t slot, struct l4lb_pool_stats *out) {
    if (!lb_engine_has_slot(engine, L4LB_SLOT_POOL, slot))
        return -EINVAL;
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < engine->runtime.n_workers; i++)
        add_up(out, &engine->runtime.workers[i].counters.pools[slot], sizeof *out);
    out->queued = lb_queue_length(&engine->runtime.shared.pools[slot].queue);
    return 0;
}

int l4lb_read_worker(const struct l4lb_engine *engine, uint32_t worker, struct l4lb_worker_stats *out) {
    if (worker >= engine->runtime.n_workers)
        return -EINVAL;
    memset(out, 0, sizeof *out);
    add_up(out, &engine->runtime.workers[worker].stats, sizeof *out);
    return 0;
}
