/* SPDX-License-Identifier: Apache-2.0 */
/*
 * engine - the public calls of l4lb.h: slots, publication, numbers, requests.
 *
 * Publication: (1) the new snapshot is built aside; (2) one atomic store makes it visible; (3) every worker is woken
 * and moves over at the start of its next turn, after which it holds no pointer into an older one, and says so in
 * `seen`; (4) a retired snapshot is freed when every worker has seen a newer one.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/base.h"
#include "base/bounds.h"
#include "base/clock.h"
#include "base/count.h"
#include "config/snapshot.h"
#include "l4lb.h"
#include "session/worker.h"
#include "worker/loop.h"
#include "worker/request.h"
#include "worker/watchdog.h"

/* Which slots of one kind are taken. Search goes round, so that a slot rests before it is used again; but only among
 * the first ones, twice as many as are taken: what the others have in memory has never been touched. */
struct slots {
    uint8_t *taken;
    uint32_t n;
    uint32_t n_taken;
    uint32_t reach;
    uint32_t next;
};

struct l4lb_engine {
    struct lb_runtime runtime;
    struct slots slots[3]; /* by enum l4lb_slot_kind */
    struct lb_snapshot *retired;
    uint64_t n_published;
    struct lb_watchdog watchdog;
    uint32_t n_started;           /* changes under the lock, for those who ask */
    pthread_mutex_t request_lock; /* one request at a time; never taken by a worker */
    int done_fd;                  /* eventfd, of that request; kept for when there is no descriptor left */
};

static const uint32_t slot_counts[] = {
    [L4LB_SLOT_LISTENER] = LB_LISTENER_SLOTS, [L4LB_SLOT_POOL] = LB_POOL_SLOTS, [L4LB_SLOT_BACKEND] = LB_BACKEND_SLOTS};

/* ---- life -------------------------------------------------------------------------------------------------------- */

static int slots_init(struct l4lb_engine *engine) {
    for (int kind = 0; kind < 3; kind++) {
        engine->slots[kind] = (struct slots){.taken = calloc(slot_counts[kind], 1), .n = slot_counts[kind]};
        if (engine->slots[kind].taken == NULL)
            return -ENOMEM;
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
        free(engine->slots[kind].taken);
    lb_shared_fini(&engine->runtime.shared);
    if (engine->runtime.event_fd != -1)
        (void)close(engine->runtime.event_fd);
    if (engine->done_fd != -1)
        (void)close(engine->done_fd);
    (void)pthread_mutex_destroy(&engine->request_lock);
    free(engine);
}

/* ---- slots ------------------------------------------------------------------------------------------------------- */

/* The statistics structs are nothing but uint64_t, so they are handled as arrays of them. */
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
    }
}

/* Only the control thread takes and gives, but any thread may ask whether a slot is taken. */
static bool slot_taken(const struct slots *slots, uint32_t slot) {
    return __atomic_load_n(&slots->taken[slot], __ATOMIC_RELAXED) != 0;
}

int l4lb_slot_take(struct l4lb_engine *engine, enum l4lb_slot_kind kind) {
    struct slots *slots = &engine->slots[kind];

    if (slots->n_taken >= slots->reach / 2)
        slots->reach = LB_MIN(LB_MAX(2 * slots->reach, (uint32_t)LB_SLOTS_REACH_MIN), slots->n);
    for (uint32_t i = 0; i < slots->reach; i++) {
        uint32_t slot = (slots->next + i) % slots->reach;
        if (slot_taken(slots, slot))
            continue;
        slots->next = slot + 1;
        slots->n_taken++;
        slot_clear(engine, kind, slot);
        __atomic_store_n(&slots->taken[slot], 1, __ATOMIC_RELAXED);
        return (int)slot;
    }
    return -ENOSPC;
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

static bool slot_valid(const struct l4lb_engine *engine, enum l4lb_slot_kind kind, uint32_t slot) {
    return slot < engine->slots[kind].n && slot_taken(&engine->slots[kind], slot);
}

int l4lb_slot_give(struct l4lb_engine *engine, enum l4lb_slot_kind kind, uint32_t slot) {
    struct lb_snapshot *current = atomic_load(&engine->runtime.snapshot);

    if (!slot_valid(engine, kind, slot))
        return -EINVAL;
    /* Order counts: once no worker can see the slot in a snapshot, its sessions can only become fewer. */
    if ((current != NULL && lb_snapshot_uses(current, kind, slot)) || l4lb_reclaim(engine) > 0 ||
        slot_sessions(engine, kind, slot) > 0)
        return -EBUSY;
    __atomic_store_n(&engine->slots[kind].taken[slot], 0, __ATOMIC_RELAXED);
    engine->slots[kind].n_taken--;
    return 0;
}

/* ---- publication ------------------------------------------------------------------------------------------------- */

static bool slots_taken(const struct l4lb_engine *engine, const struct l4lb_config *config) {
    for (size_t i = 0; i < config->n_listeners; i++) {
        if (!slot_valid(engine, L4LB_SLOT_LISTENER, config->listeners[i].slot))
            return false;
    }
    for (size_t i = 0; i < config->n_pools; i++) {
        const struct l4lb_pool_config *pool = &config->pools[i];
        if (!slot_valid(engine, L4LB_SLOT_POOL, pool->slot))
            return false;
        for (size_t j = 0; j < pool->n_backends; j++) {
            if (!slot_valid(engine, L4LB_SLOT_BACKEND, pool->backends[j].slot))
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

/* ---- numbers ----------------------------------------------------------------------------------------------------- */

static void add_up(void *total, const void *part, size_t bytes) {
    uint64_t *to = total;
    const uint64_t *from = part;

    for (size_t i = 0; i < bytes / sizeof *to; i++)
        to[i] += lb_count_read(&from[i]);
}

int l4lb_read_backend(const struct l4lb_engine *engine, uint32_t slot, struct l4lb_backend_stats *out) {
    if (!slot_valid(engine, L4LB_SLOT_BACKEND, slot))
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

        if (!slot_valid(engine, L4LB_SLOT_BACKEND, slots[i]))
            return -EINVAL;
        shared = &engine->runtime.shared.backends[slots[i]];
        out[i] = (struct l4lb_backend_summary){.busy = atomic_load(&shared->busy),
                                               .latency_us = lb_latency_read(&shared->latency, now_ms)};
        for (uint32_t worker = 0; worker < engine->runtime.n_workers; worker++) {
            const struct l4lb_backend_stats *counted = &engine->runtime.workers[worker].counters.backends[slots[i]];

            out[i].failures_total += lb_count_read(&counted->connect_failures_total) +
                                     lb_count_read(&counted->connect_timeouts_total) +
                                     lb_count_read(&counted->resets_total);
            out[i].answered_total += lb_count_read(&counted->answered_total);
            out[i].turns_total += lb_count_read(&counted->turns_total);
            out[i].received_bytes_total += lb_count_read(&counted->received_bytes_total);
        }
    }
    return 0;
}

int l4lb_read_listener(const struct l4lb_engine *engine, uint32_t slot, struct l4lb_listener_stats *out) {
    if (!slot_valid(engine, L4LB_SLOT_LISTENER, slot))
        return -EINVAL;
    memset(out, 0, sizeof *out);
    for (uint32_t i = 0; i < engine->runtime.n_workers; i++)
        add_up(out, &engine->runtime.workers[i].counters.listeners[slot], sizeof *out);
    out->connections = atomic_load(&engine->runtime.shared.listeners[slot].connections);
    return 0;
}

int l4lb_read_pool(const struct l4lb_engine *engine, uint32_t slot, struct l4lb_pool_stats *out) {
    if (!slot_valid(engine, L4LB_SLOT_POOL, slot))
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

/* ---- remembered clients ------------------------------------------------------------------------------------------ */

static const struct lb_pool *sticky_pool(const struct l4lb_engine *engine, uint32_t slot) {
    const struct lb_snapshot *snapshot = atomic_load(&engine->runtime.snapshot);
    const struct lb_pool *pool = snapshot != NULL ? lb_snapshot_pool(snapshot, slot) : NULL;

    return pool != NULL && pool->stick_table != NULL ? pool : NULL;
}

static int64_t now_ms(void) { return (int64_t)(lb_clock_ns() / LB_NS_PER_MS); }

int l4lb_sticky_count(const struct l4lb_engine *engine, uint32_t slot) {
    const struct lb_pool *pool = sticky_pool(engine, slot);

    return pool == NULL ? -ENOENT
                        : (int)lb_stick_table_count(pool->stick_table, now_ms(), (int64_t)pool->config.sticky_ttl_ms);
}

/* The slot may be a stranger's by now, or nobody's. */
static bool is_there(const struct l4lb_engine *engine, struct lb_stick_target target) {
    return slot_valid(engine, L4LB_SLOT_BACKEND, target.backend) &&
           atomic_load(&engine->runtime.shared.backends[target.backend].generation) == target.generation;
}

int l4lb_sticky_read(const struct l4lb_engine *engine, uint32_t slot, uint32_t *cursor, struct l4lb_sticky_entry *out,
                     size_t n) {
    const struct lb_pool *pool = sticky_pool(engine, slot);
    struct lb_stick_entry batch[LB_STICK_WAYS];
    size_t taken = 0, read;

    if (pool == NULL)
        return -ENOENT;
    do {
        read = lb_stick_table_read(pool->stick_table, cursor, batch, LB_MIN(n - taken, (size_t)LB_STICK_WAYS), now_ms(),
                                   (int64_t)pool->config.sticky_ttl_ms);
        for (size_t i = 0; i < read; i++) {
            if (!is_there(engine, batch[i].target))
                continue;
            out[taken] =
                (struct l4lb_sticky_entry){.backend = batch[i].target.backend, .left_ms = (uint64_t)batch[i].left_ms};
            memcpy(out[taken++].key, batch[i].key.words, sizeof out->key);
        }
    } while (read > 0 && taken < n);
    return (int)taken;
}

int l4lb_sticky_write(const struct l4lb_engine *engine, uint32_t slot, const struct l4lb_sticky_entry *entries,
                      size_t n) {
    const struct lb_pool *pool = sticky_pool(engine, slot);
    int added = 0;

    if (pool == NULL)
        return -ENOENT;
    for (size_t i = 0; i < n; i++) {
        if (!slot_valid(engine, L4LB_SLOT_BACKEND, entries[i].backend))
            return -EINVAL;
    }
    for (size_t i = 0; i < n; i++) {
        struct lb_stick_entry entry = {.left_ms = (int64_t)LB_MIN(entries[i].left_ms, pool->config.sticky_ttl_ms),
                                       .target.backend = entries[i].backend};
        entry.target.generation = atomic_load(&engine->runtime.shared.backends[entries[i].backend].generation);
        memcpy(entry.key.words, entries[i].key, sizeof entries[i].key);
        added += lb_stick_table_write(pool->stick_table, &entry, now_ms(), (int64_t)pool->config.sticky_ttl_ms);
    }
    return added;
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

/* Ask one worker and wait. The request is on our stack: it must be answered or withdrawn before we return. */
static int ask(struct l4lb_engine *engine, uint32_t index, struct lb_request *request, int timeout_ms) {
    struct lb_worker *worker = &engine->runtime.workers[index];
    struct pollfd answered = {.fd = engine->done_fd, .events = POLLIN};
    uint64_t ignored;
    int result;

    request->done_fd = engine->done_fd;
    atomic_store(&worker->cross.request, request);
    lb_worker_wake(worker);
    /* A worker that stops looks for a request once more after it was told to. Either it sees ours or we see that. */
    if (atomic_load(&engine->runtime.stopping))
        timeout_ms = 0;
    while ((result = poll(&answered, 1, timeout_ms)) == -1 && errno == EINTR)
        ;
    if (result != 1 && atomic_exchange(&worker->cross.request, NULL) == NULL) {
        /* Too late to withdraw: the worker is at it, and answers when it is through. */
        while (poll(&answered, 1, -1) != 1)
            ;
        result = 1;
    }
    /* Reading, not polling, is what is known to come after the worker's write, and so after all it wrote before. */
    if (result == 1)
        (void)!read(answered.fd, &ignored, sizeof ignored);
    else
        request->result = atomic_load(&engine->runtime.stopping) ? -ESHUTDOWN : -ETIMEDOUT;
    return request->result;
}

static int ask_locked(struct l4lb_engine *engine, uint32_t index, struct lb_request *request, int timeout_ms) {
    int result = -ESHUTDOWN;

    (void)pthread_mutex_lock(&engine->request_lock);
    if (index < engine->n_started)
        result = ask(engine, index, request, timeout_ms);
    (void)pthread_mutex_unlock(&engine->request_lock);
    return result;
}

int l4lb_list_sessions(struct l4lb_engine *engine, uint32_t worker, uint64_t after, struct l4lb_session_record *out,
                       size_t n, int timeout_ms) {
    struct lb_request request = {.kind = LB_REQUEST_LIST, .session = after, .records = out, .n = n};
    return ask_locked(engine, worker, &request, timeout_ms);
}

int l4lb_kill_session(struct l4lb_engine *engine, uint64_t id, int timeout_ms) {
    struct lb_request request = {.kind = LB_REQUEST_KILL_SESSION, .session = id};
    uint64_t worker = id >> (LB_SESSION_INDEX_BITS + LB_SESSION_GENERATION_BITS);

    if (worker >= engine->runtime.n_workers)
        return -ENOENT;
    return ask_locked(engine, (uint32_t)worker, &request, timeout_ms);
}

/* Ask every worker the same. Returns the sum of their results. */
static int ask_all(struct l4lb_engine *engine, const struct lb_request *request, int timeout_ms) {
    int total = 0;

    for (uint32_t i = 0; i < engine->runtime.n_workers; i++) {
        struct lb_request part = *request;
        int result = ask_locked(engine, i, &part, timeout_ms);
        if (result < 0)
            return result;
        total += result;
    }
    return total;
}

int l4lb_kill_backend(struct l4lb_engine *engine, uint32_t slot, enum l4lb_close reason, int timeout_ms) {
    const struct lb_request request = {.kind = LB_REQUEST_KILL_BACKEND, .backend = slot, .reason = reason};
    return ask_all(engine, &request, timeout_ms);
}

int l4lb_set_draining(struct l4lb_engine *engine, const uint32_t *slots, size_t n, bool draining, uint32_t spread_ms,
                      int timeout_ms) {
    const struct lb_request request = {.kind = LB_REQUEST_DRAIN};

    for (size_t i = 0; i < n; i++) {
        if (!slot_valid(engine, L4LB_SLOT_BACKEND, slots[i]))
            return -EINVAL;
    }
    for (size_t i = 0; i < n; i++) {
        struct lb_backend_shared *backend = &engine->runtime.shared.backends[slots[i]];
        if (draining && lb_backend_draining_ms(backend) != 0)
            continue;
        atomic_store(&backend->drain_spread_ms, spread_ms);
        atomic_store(&backend->draining_ms, draining ? lb_clock_ns() / LB_NS_PER_MS : 0);
    }
    return draining ? ask_all(engine, &request, timeout_ms) : 0;
}

int l4lb_close_idle(struct l4lb_engine *engine, uint32_t slot, uint32_t n, uint32_t idle_ms, int timeout_ms) {
    uint32_t left = n;

    for (uint32_t i = 0; i < engine->runtime.n_workers && left > 0; i++) {
        struct lb_request request = {.kind = LB_REQUEST_CLOSE_IDLE, .backend = slot, .n = left, .idle_ms = idle_ms};
        int result = ask_locked(engine, i, &request, timeout_ms);
        if (result < 0)
            return result;
        left -= (uint32_t)result;
    }
    return (int)(n - left);
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

int l4lb_event_fd(const struct l4lb_engine *engine) { return engine->runtime.event_fd; }

int l4lb_take_events(struct l4lb_engine *engine, struct l4lb_session_record *out, size_t n) {
    uint64_t ignored, one = 1;
    size_t taken = 0;

    /* Armed before looking: an event that comes while we look is either taken now or announced again. */
    (void)!read(engine->runtime.event_fd, &ignored, sizeof ignored);
    atomic_store(&engine->runtime.event_armed, true);
    for (uint32_t i = 0; i < engine->runtime.n_workers; i++) {
        while (taken < n && lb_events_pop(&engine->runtime.workers[i].cross.events, &out[taken]))
            taken++;
    }
    /* There may be more, and the eventfd must not be silent about them. */
    if (taken == n)
        (void)!write(engine->runtime.event_fd, &one, sizeof one);
    return (int)taken;
}
