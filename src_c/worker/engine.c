/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/engine.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/base.h"
#include "base/bounds.h"
#include "base/count.h"
#include "config/snapshot.h"
#include "l4lb.h"
#include "session/worker.h"
#include "worker/loop.h"

static const uint32_t slot_counts[] = {
    [L4LB_SLOT_LISTENER] = LB_LISTENER_SLOTS, [L4LB_SLOT_POOL] = LB_POOL_SLOTS, [L4LB_SLOT_BACKEND] = LB_BACKEND_SLOTS};

/* ---- start and stop ---------------------------------------------------------------------------------------------- */

static int slots_init(struct l4lb_engine *engine) {
    for (int kind = 0; kind < 3; kind++) {
        int result = lb_slots_init(&engine->slots[kind], slot_counts[kind]);
        if (result < 0)
            return result;
    }
    return 0;
}

static int workers_init(struct lb_runtime *runtime, const struct l4lb_options *options) {
    runtime->workers = aligned_alloc(_Alignof(struct lb_worker), options->n_workers * sizeof *runtime->workers);
    if (runtime->workers == NULL)
        return -ENOMEM;
    for (; runtime->n_workers < options->n_workers; runtime->n_workers++) {
        int result = lb_worker_init(&runtime->workers[runtime->n_workers], runtime->n_workers, runtime, options);
        if (result < 0)
            return result;
    }
    return 0;
}

int l4lb_engine_new(const struct l4lb_options *options, struct l4lb_engine **out) {
    struct l4lb_engine *engine;
    int result;

    if (options->n_workers == 0 || options->n_workers > LB_WORKERS_MAX || options->sessions_max == 0 ||
        options->sessions_max > LB_SESSIONS_PER_WORKER_MAX || (options->pipes_max > 0 && options->pipe_bytes < 4096))
        return -EINVAL;
    engine = aligned_alloc(_Alignof(struct l4lb_engine), sizeof *engine);
    if (engine == NULL)
        return -ENOMEM;
    memset(engine, 0, sizeof *engine);
    (void)pthread_mutex_init(&engine->request_lock, NULL);
    engine->runtime.sessions_max = options->sessions_max;
    atomic_init(&engine->runtime.event_armed, true);
    engine->runtime.event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    engine->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    result = engine->runtime.event_fd == -1 || engine->done_fd == -1 ? -errno : lb_shared_init(&engine->runtime.shared);
    if (result == 0)
        result = slots_init(engine);
    if (result == 0)
        result = workers_init(&engine->runtime, options);
    if (result < 0) {
        l4lb_engine_free(engine);
        return result;
    }
    *out = engine;
    return 0;
}

int l4lb_engine_start(struct l4lb_engine *engine) {
    int result = 0;

    atomic_store(&engine->runtime.stopping, false);
    (void)pthread_mutex_lock(&engine->request_lock);
    while (result == 0 && engine->n_started < engine->runtime.n_workers) {
        result = lb_loop_start(&engine->runtime.workers[engine->n_started]);
        engine->n_started += result == 0;
    }
    (void)pthread_mutex_unlock(&engine->request_lock);
    if (result < 0)
        l4lb_engine_stop(engine);
    return result;
}

void l4lb_engine_stop(struct l4lb_engine *engine) {
    atomic_store(&engine->runtime.stopping, true);
    (void)pthread_mutex_lock(&engine->request_lock);
    while (engine->n_started > 0)
        lb_loop_join(&engine->runtime.workers[--engine->n_started]);
    (void)pthread_mutex_unlock(&engine->request_lock);
}

int l4lb_watchdog_start(struct l4lb_engine *engine, const char *name, size_t length, uint64_t interval_ms,
                        uint64_t control_ms) {
    return lb_watchdog_start(&engine->watchdog, &engine->runtime, name, length, interval_ms, control_ms);
}

void l4lb_watchdog_stop(struct l4lb_engine *engine) { lb_watchdog_stop(&engine->watchdog); }

void l4lb_control_works(struct l4lb_engine *engine) { lb_watchdog_control_works(&engine->watchdog); }

void l4lb_engine_free(struct l4lb_engine *engine) {
    if (engine == NULL)
        return;
    lb_watchdog_stop(&engine->watchdog);
    l4lb_engine_stop(engine);
    for (uint32_t i = 0; i < engine->runtime.n_workers; i++)
        lb_worker_fini(&engine->runtime.workers[i]);
    free(engine->runtime.workers);
    (void)l4lb_reclaim(engine);
    lb_snapshot_free(atomic_load(&engine->runtime.snapshot));
    for (int kind = 0; kind < 3; kind++)
        lb_slots_fini(&engine->slots[kind]);
    lb_shared_fini(&engine->runtime.shared);
    if (engine->runtime.event_fd != -1)
        (void)close(engine->runtime.event_fd);
    if (engine->done_fd != -1)
        (void)close(engine->done_fd);
    (void)pthread_mutex_destroy(&engine->request_lock);
    free(engine);
}

/* ---- slots ------------------------------------------------------------------------------------------------------- */

/* The statistics structs consist of uint64_t, so they are handled as arrays of them. */
static void clear(void *statistics, size_t bytes) {
    uint64_t *numbers = statistics;

    for (size_t i = 0; i < bytes / sizeof *numbers; i++)
        lb_count_sub(&numbers[i], numbers[i]);
}

static void slot_clear(struct l4lb_engine *engine, enum l4lb_slot_kind kind, uint32_t slot) {
    for (uint32_t i = 0; i < engine->runtime.n_workers; i++) {
        struct lb_counters *counters = &engine->runtime.workers[i].counters;
        if (kind == L4LB_SLOT_LISTENER)
            clear(&counters->listeners[slot], sizeof counters->listeners[slot]);
        if (kind == L4LB_SLOT_POOL) {
            clear(&counters->pools[slot], sizeof counters->pools[slot]);
            lb_end_model_clear(&counters->end_models[slot]);
        }
        if (kind == L4LB_SLOT_BACKEND)
            clear(&counters->backends[slot], sizeof counters->backends[slot]);
    }
    if (kind == L4LB_SLOT_POOL) {
        atomic_store(&engine->runtime.shared.pools[slot].cursor.next, 0);
        for (uint32_t i = 0; i < LB_RR_CURSORS; i++)
            atomic_store(&lb_shared_cursors(&engine->runtime.shared, slot)[i].next, 0);
    }
    if (kind == L4LB_SLOT_BACKEND) {
        atomic_fetch_add(&engine->runtime.shared.backends[slot].generation, 1);
        atomic_store(&engine->runtime.shared.backends[slot].draining_ms, 0);
        atomic_store(&engine->runtime.shared.backends[slot].latency, 0);
        atomic_store(&engine->runtime.shared.backends[slot].cold_left, 0);
    }
}

int l4lb_slot_take(struct l4lb_engine *engine, enum l4lb_slot_kind kind) {
    int slot = lb_slots_next(&engine->slots[kind]);

    if (slot < 0)
        return slot;
    slot_clear(engine, kind, (uint32_t)slot);
    lb_slots_take(&engine->slots[kind], (uint32_t)slot);
    return slot;
}

static uint32_t slot_sessions(struct l4lb_engine *engine, enum l4lb_slot_kind kind, uint32_t slot) {
    struct lb_shared *shared = &engine->runtime.shared;

    switch (kind) {
    case L4LB_SLOT_LISTENER:
        return atomic_load(&shared->listeners[slot].connections);
    case L4LB_SLOT_POOL:
        return atomic_load(&shared->pools[slot].sessions);
    case L4LB_SLOT_BACKEND:
        return atomic_load(&shared->backends[slot].connections) + atomic_load(&shared->backends[slot].sessions);
    }
    return 0;
}

int l4lb_slot_give(struct l4lb_engine *engine, enum l4lb_slot_kind kind, uint32_t slot) {
    struct lb_snapshot *current = atomic_load(&engine->runtime.snapshot);

    if (!lb_engine_has_slot(engine, kind, slot))
        return -EINVAL;
    /* The order matters: once no worker can see the slot in a snapshot, its sessions can only become fewer. */
    if ((current != NULL && lb_snapshot_uses(current, kind, slot)) || l4lb_reclaim(engine) > 0 ||
        slot_sessions(engine, kind, slot) > 0)
        return -EBUSY;
    lb_slots_give(&engine->slots[kind], slot);
    return 0;
}

/* ---- publication ------------------------------------------------------------------------------------------------- */

static bool slots_taken(const struct l4lb_engine *engine, const struct l4lb_config *config) {
    for (size_t i = 0; i < config->n_listeners; i++) {
        if (!lb_engine_has_slot(engine, L4LB_SLOT_LISTENER, config->listeners[i].slot))
            return false;
    }
    for (size_t i = 0; i < config->n_pools; i++) {
        const struct l4lb_pool_config *pool = &config->pools[i];
        if (!lb_engine_has_slot(engine, L4LB_SLOT_POOL, pool->slot))
            return false;
        for (size_t j = 0; j < pool->n_backends; j++) {
            if (!lb_engine_has_slot(engine, L4LB_SLOT_BACKEND, pool->backends[j].slot))
                return false;
        }
    }
    return true;
}

int l4lb_publish(struct l4lb_engine *engine, const struct l4lb_config *config) {
    struct lb_runtime *runtime = &engine->runtime;
    struct lb_snapshot *previous = atomic_load(&runtime->snapshot), *next;
    int result;

    if (!slots_taken(engine, config))
        return -EINVAL;
    result = lb_snapshot_new(config, runtime->n_workers, &runtime->shared, previous, &next);
    if (result < 0)
        return result;
    next->sequence = ++engine->n_published;
    atomic_store_explicit(&runtime->snapshot, next, memory_order_release);
    if (previous != NULL) {
        previous->next_retired = engine->retired;
        engine->retired = previous;
    }
    for (uint32_t i = 0; i < runtime->n_workers; i++)
        lb_worker_wake(&runtime->workers[i]);
    (void)l4lb_reclaim(engine);
    return 0;
}

int l4lb_check_pool(struct l4lb_engine *engine, const struct l4lb_pool_config *pool) {
    return lb_snapshot_check_pool(pool, &engine->runtime.shared);
}

static uint64_t oldest_seen(const struct l4lb_engine *engine) {
    uint64_t oldest = engine->n_published;

    for (uint32_t i = 0; i < engine->n_started; i++) {
        uint64_t seen = atomic_load_explicit(&engine->runtime.workers[i].cross.seen, memory_order_acquire);
        oldest = LB_MIN(oldest, seen);
    }
    return oldest;
}

int l4lb_reclaim(struct l4lb_engine *engine) {
    uint64_t oldest = oldest_seen(engine);
    struct lb_snapshot **link = &engine->retired;
    int left = 0;

    while (*link != NULL) {
        struct lb_snapshot *snapshot = *link;
        if (snapshot->sequence < oldest) {
            *link = snapshot->next_retired;
            lb_snapshot_free(snapshot);
        } else {
            link = &snapshot->next_retired;
            left++;
        }
    }
    return left;
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

int l4lb_event_fd(const struct l4lb_engine *engine) { return engine->runtime.event_fd; }

int l4lb_take_events(struct l4lb_engine *engine, struct l4lb_session_record *out, size_t n) {
    uint64_t ignored, one = 1;
    size_t taken = 0;

    /* Armed before looking: an event that comes meanwhile is either taken now or announced again. */
    (void)!read(engine->runtime.event_fd, &ignored, sizeof ignored);
    atomic_store(&engine->runtime.event_armed, true);
    for (uint32_t i = 0; i < engine->runtime.n_workers; i++) {
        while (taken < n && lb_events_pop(&engine->runtime.workers[i].cross.events, &out[taken]))
            taken++;
    }
    /* There may be more, so the eventfd stays readable. */
    if (taken == n)
        (void)!write(engine->runtime.event_fd, &one, sizeof one);
    return (int)taken;
}
