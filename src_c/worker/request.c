/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/request.h"

#include <errno.h>
#include <unistd.h>

#include "base/bounds.h"
#include "session/account.h"
#include "session/parked.h"
#include "session/session_end.h"
#include "session/session_run.h"
#include "session/session_validate.h"

/* ---- one session, or a page of them ------------------------------------------------------------------------------ */

static uint32_t index_of(uint64_t id) {
    return (uint32_t)(id >> LB_SESSION_GENERATION_BITS) & (LB_SESSIONS_PER_WORKER_MAX - 1);
}

static int list_sessions(struct lb_worker *worker, const struct lb_request *request) {
    struct lb_session *session;
    uint32_t index = index_of(request->session);
    size_t n = 0;

    while (n < request->n && (session = lb_session_table_next(&worker->sessions, index)) != NULL) {
        lb_account_describe(worker, session, &request->records[n]);
        if (request->records[n].id > request->session)
            n++;
        index = session->index + 1;
    }
    return (int)n;
}

/* A session that has sent its FINs was closed before; it only stops waiting for its peers. */
static int kill_session(struct lb_worker *worker, uint64_t id) {
    uint32_t generation = (uint32_t)(id & ((1u << LB_SESSION_GENERATION_BITS) - 1));
    struct lb_session *session = lb_session_table_find(&worker->sessions, index_of(id), generation);
    bool was_closed;

    if (session == NULL)
        return -ENOENT;
    was_closed = session->state == LB_SESSION_LINGER && !session->resets;
    lb_session_kill(worker, session, L4LB_CLOSE_KILLED);
    return was_closed ? -ENOENT : 0;
}

/* ---- all sessions ------------------------------------------------------------------------------------------------ */

static bool kill_if_of_backend(struct lb_worker *worker, struct lb_session *session, const struct lb_request *request) {
    /* A session that lingers only for its client is closed already. */
    if (session->state == LB_SESSION_LINGER && !session->claim.has_capacity)
        return false;
    if (session->followed != NULL)
        lb_parked_close_of(worker, session, request->backend);
    return session->claim.has_backend && session->claim.backend == request->backend &&
           lb_session_cut(worker, session, request->reason);
}

static bool close_if_idle(struct lb_worker *worker, struct lb_session *session, const struct lb_request *request) {
    return session->claim.has_backend && session->claim.backend == request->backend &&
           (size_t)request->result < request->n &&
           lb_session_close_idle(worker, session, request->idle_ms, L4LB_CLOSE_REBALANCED);
}

/* True if the session was closed, or counts as closed. */
static bool act(struct lb_worker *worker, struct lb_session *session, const struct lb_request *request) {
    switch (request->kind) {
    case LB_REQUEST_KILL_BACKEND:
        return kill_if_of_backend(worker, session, request);
    case LB_REQUEST_DRAIN:
        return lb_session_drain(worker, session, (uint32_t)request->result / LB_DRAIN_BURST);
    case LB_REQUEST_CLOSE_IDLE:
        return close_if_idle(worker, session, request);
    case LB_REQUEST_LIST:
    case LB_REQUEST_KILL_SESSION:
        break;
    }
    return false;
}

/* True once all sessions have been seen. */
static bool do_part(struct lb_worker *worker, struct lb_request *request) {
    struct lb_session *session;

    lb_scan_begin_part(&worker->scan);
    while ((session = lb_scan_next(&worker->scan, &worker->sessions)) != NULL) {
        if (act(worker, session, request)) {
            lb_scan_acted(&worker->scan);
            request->result++;
        }
        lb_session_validate(worker, session);
    }
    return lb_scan_is_done(&worker->scan);
}

/* ---- work -------------------------------------------------------------------------------------------------------- */

static void finish(struct lb_worker *worker) {
    uint64_t one = 1;
    int done_fd = worker->request->done_fd;

    worker->request = NULL;
    /* The requesting thread may be gone right after this. Writing 8 bytes to an eventfd fails only when it is full,
     * which this one never is. */
    (void)!write(done_fd, &one, sizeof one);
}

/* Wait for the snapshot that the requesting thread knows: under an older one, new sessions might appear where a scan
 * has just been. A worker that stops has no new sessions, and adopts no snapshot any more. */
static bool may_begin(const struct lb_worker *worker) {
    const struct lb_runtime *runtime = worker->runtime;

    return worker->request == NULL && atomic_load(&worker->cross.request) != NULL &&
           (worker->snapshot == atomic_load(&runtime->snapshot) || atomic_load(&runtime->stopping));
}

void lb_request_work(struct lb_worker *worker) {
    bool done = true;

    LB_OWNER(worker);
    if (may_begin(worker)) {
        worker->request = atomic_exchange(&worker->cross.request, NULL);
        worker->scan.next = 0;
    }
    if (worker->request == NULL)
        return;
    if (worker->request->kind == LB_REQUEST_LIST)
        worker->request->result = list_sessions(worker, worker->request);
    else if (worker->request->kind == LB_REQUEST_KILL_SESSION)
        worker->request->result = kill_session(worker, worker->request->session);
    else
        done = do_part(worker, worker->request);
    if (done)
        finish(worker);
}
