/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command - what is asked of workers while they run: list and kill sessions, drain, close idle ones, treat a backend as
 * cold.
 *
 * Most commands are requests that a worker answers. The numbers that workers share are simply set.
 *
 * Owner:   any thread except the workers'; one request at a time.
 * Memory:  the request is on the caller's stack until the worker is done with it.
 * Errors:  -ETIMEDOUT if a worker did not begin in time, -ESHUTDOWN if there is no worker, -EINVAL, -ENOENT.
 */
#include <errno.h>
#include <poll.h>
#include <unistd.h>

#include "base/bounds.h"
#include "base/clock.h"
#include "session/worker.h"
#include "worker/engine.h"
#include "worker/request.h"

/* Send a request to one worker and wait. The request is on the stack: before this returns, the worker must be done with
 * it or the request withdrawn. */
static int ask(struct l4lb_engine *engine, uint32_t index, struct lb_request *request, int timeout_ms) {
    struct lb_worker *worker = &engine->runtime.workers[index];
    struct pollfd done = {.fd = engine->done_fd, .events = POLLIN};
    uint64_t ignored;
    int result;

    request->done_fd = engine->done_fd;
    atomic_store(&worker->cross.request, request);
    lb_worker_wake(worker);
    /* A worker that stops looks for a request once more after `stopping` is set: either it sees this one, or we see the
     * flag. */
    if (atomic_load(&engine->runtime.stopping))
        timeout_ms = 0;
    while ((result = poll(&done, 1, timeout_ms)) == -1 && errno == EINTR)
        ;
    if (result != 1 && atomic_exchange(&worker->cross.request, NULL) == NULL) {
        /* Too late to withdraw: the worker has begun. */
        while (poll(&done, 1, -1) != 1)
            ;
        result = 1;
    }
    /* Only a read, not a poll, is ordered after the worker's write to the eventfd, and so after its result. */
    if (result == 1)
        (void)!read(done.fd, &ignored, sizeof ignored);
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

/* Send the same request to every worker. Returns the sum of their results. */
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

static int check_backends(const struct l4lb_engine *engine, const uint32_t *slots, size_t n) {
    for (size_t i = 0; i < n; i++) {
        if (!lb_engine_has_slot(engine, L4LB_SLOT_BACKEND, slots[i]))
            return -EINVAL;
    }
    return 0;
}

int l4lb_set_draining(struct l4lb_engine *engine, const uint32_t *slots, size_t n, bool draining, uint32_t spread_ms,
                      int timeout_ms) {
    const struct lb_request request = {.kind = LB_REQUEST_DRAIN};

    if (check_backends(engine, slots, n) < 0)
        return -EINVAL;
    for (size_t i = 0; i < n; i++) {
        struct lb_backend_shared *backend = &engine->runtime.shared.backends[slots[i]];
        if (draining && lb_backend_draining_ms(backend) != 0)
            continue;
        atomic_store(&backend->drain_spread_ms, spread_ms);
        atomic_store(&backend->draining_ms, draining ? lb_clock_ns() / LB_NS_PER_MS : 0);
    }
    return draining ? ask_all(engine, &request, timeout_ms) : 0;
}

int l4lb_set_cold(struct l4lb_engine *engine, const uint32_t *slots, size_t n, uint32_t responses) {
    if (check_backends(engine, slots, n) < 0)
        return -EINVAL;
    for (size_t i = 0; i < n; i++)
        atomic_store(&engine->runtime.shared.backends[slots[i]].cold_left, responses);
    return 0;
}

int l4lb_drain_clients(struct l4lb_engine *engine, uint32_t spread_ms, int timeout_ms) {
    const struct lb_request request = {.kind = LB_REQUEST_DRAIN};

    atomic_store(&engine->runtime.clients_drain_spread_ms, spread_ms);
    atomic_store(&engine->runtime.clients_draining_ms, lb_clock_ns() / LB_NS_PER_MS);
    return ask_all(engine, &request, timeout_ms);
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
