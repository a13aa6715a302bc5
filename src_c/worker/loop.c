/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/loop.h"

#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/bounds.h"
#include "base/count.h"
#include "kernel/poll_tag.h"
#include "relay/path_splice.h"
#include "session/delivery.h"
#include "session/parked.h"
#include "session/session_end.h"
#include "session/session_run.h"
#include "session/session_sticky.h"
#include "session/session_validate.h"
#include "worker/listener.h"
#include "worker/request.h"
#include "worker/thread.h"

/* ---- time -------------------------------------------------------------------------------------------------------- */

/* How long epoll may wait. */
static int timeout_ms(const struct lb_worker *worker) {
    uint64_t next = worker->now_ms + LB_HEARTBEAT_MS;
    const struct lb_splice *splice = lb_path_splice_first(&worker->relay_env);

    if (!lb_list_empty(&worker->ready) || worker->granted != NULL || worker->request != NULL || worker->adopting ||
        worker->rejoining)
        return 0;
    next = LB_MIN(next, lb_wheel_next(&worker->wheel));
    if (splice != NULL)
        next = LB_MIN(next, lb_path_splice_due_ms(splice));
    if (worker->paused)
        next = LB_MIN(next, LB_MAX(worker->rest_until_ms, worker->now_ms + LB_ACCEPT_REST_MS));
    return next > worker->now_ms ? (int)(next - worker->now_ms) : 0;
}

/* Timers that are left over expire in the next iteration, which begins at once. */
static void expire_timers(struct lb_worker *worker) {
    struct lb_timer *timer;

    for (int n = 0; n < LB_EXPIRE_BURST && (timer = lb_wheel_expire(&worker->wheel, worker->now_ms)) != NULL; n++) {
        struct lb_session *session = container_of(timer, struct lb_session, timer);
        lb_session_timer(worker, session);
        lb_session_validate(worker, session);
    }
}

static void trim_splices(struct lb_worker *worker) {
    struct lb_relay_env *env = &worker->relay_env;
    struct lb_splice *splice;

    while ((splice = lb_path_splice_first(env)) != NULL && lb_path_splice_due_ms(splice) <= worker->now_ms)
        lb_path_splice_trim(splice, env);
}

/* ---- events ------------------------------------------------------------------------------------------------------ */

static void dispatch(struct lb_worker *worker, const struct epoll_event *event) {
    struct lb_poll_tag tag = lb_poll_unpack(event->data.u64);
    struct lb_session *session;

    switch (tag.kind) {
    case LB_POLL_WAKE:
        return;
    case LB_POLL_LISTENER:
        lb_listener_accept(worker, (int)tag.number);
        return;
    case LB_POLL_CLIENT:
    case LB_POLL_SERVER:
        session = lb_session_table_find(&worker->sessions, tag.number, tag.generation);
        if (session == NULL)
            return;
        if (tag.kind == LB_POLL_SERVER && tag.serial != session->serial)
            lb_parked_event(worker, session, tag.serial, event->events);
        else
            lb_session_event(worker, session, tag.kind == LB_POLL_CLIENT ? LB_CLIENT : LB_SERVER, event->events);
        lb_session_validate(worker, session);
        return;
    }
}

/* Resume the first sessions on the list once each. A session with more to do rejoins at the end, for a later
 * iteration. */
static void run_ready(struct lb_worker *worker) {
    struct lb_list batch;

    lb_list_init(&batch);
    for (int n = 0; n < LB_READY_BURST && !lb_list_empty(&worker->ready); n++)
        lb_list_append(&batch, worker->ready.next);
    while (!lb_list_empty(&batch)) {
        struct lb_session *session = container_of(batch.next, struct lb_session, ready);
        lb_list_remove(&session->ready);
        lb_session_resume(worker, session);
        lb_session_validate(worker, session);
    }
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void take_grants(struct lb_worker *worker) {
    struct lb_waiting *entry;

    if (worker->granted == NULL)
        worker->granted = lb_mailbox_take(&worker->cross.mailbox);
    for (int n = 0; n < LB_GRANTS_BURST && (entry = worker->granted) != NULL; n++) {
        worker->granted = entry->next;
        lb_session_granted(worker, entry);
        lb_session_validate(worker, container_of(entry, struct lb_session, waiting));
    }
}

/* The new snapshot may have a backend for queued sessions, or no longer have their pool. */
static void grant_waiting(const struct lb_snapshot *before, const struct lb_snapshot *now) {
    for (uint32_t i = 0; i < now->n_pools; i++)
        lb_queue_grant(&now->pools[i].shared->queue);
    for (uint32_t i = 0; before != NULL && i < before->n_pools; i++) {
        if (lb_snapshot_pool(now, before->pools[i].slot) == NULL)
            lb_queue_grant(&before->pools[i].shared->queue);
    }
}

static void adopt_snapshot(struct lb_worker *worker) {
    struct lb_snapshot *published = atomic_load_explicit(&worker->runtime->snapshot, memory_order_acquire);
    const struct lb_snapshot *before = worker->snapshot;

    if (published == before)
        return;
    worker->adopting = !lb_listener_empty(worker, published);
    if (worker->adopting)
        return;
    lb_listener_adopt(worker, published);
    lb_session_sticky_adopt(worker, before);
    grant_waiting(before, published);
    /* From here on this worker holds no pointer into an older snapshot: the control thread may free it. */
    atomic_store_explicit(&worker->cross.seen, published->sequence, memory_order_release);
}

void lb_loop_iterate(struct lb_worker *worker) {
    struct epoll_event events[LB_POLL_BATCH];
    int n = epoll_wait(worker->epoll_fd, events, LB_POLL_BATCH, timeout_ms(worker));

    worker->iteration++;
    lb_count_add(&worker->stats.loops_total, 1);
    lb_worker_read_clock(worker);
    adopt_snapshot(worker);
    for (int i = 0; i < n; i++)
        dispatch(worker, &events[i]);
    take_grants(worker);
    run_ready(worker);
    expire_timers(worker);
    trim_splices(worker);
    lb_request_work(worker);
    lb_session_sticky_rejoin(worker);
    if (worker->paused)
        lb_listener_resume(worker);
    if (worker->sessions.n_empty > 1)
        lb_session_table_trim(&worker->sessions);
}

static void kill_all(struct lb_worker *worker) {
    struct lb_session *session;
    uint32_t index = 0;

    while ((session = lb_session_table_next(&worker->sessions, index)) != NULL) {
        index = session->index + 1;
        lb_session_kill(worker, session, L4LB_CLOSE_SHUTDOWN);
    }
}

/* True while a peer has not taken all that was sent to it. */
static bool is_delivering(const struct lb_worker *worker) {
    const struct lb_session *session;
    uint32_t index = 0;

    while ((session = lb_session_table_next(&worker->sessions, index)) != NULL) {
        index = session->index + 1;
        if (lb_delivery_pending(session) > 0)
            return true;
    }
    return false;
}

/* Only lingering sessions are left now. */
static void iterate_last(struct lb_worker *worker) {
    struct epoll_event events[LB_POLL_BATCH];
    int n = epoll_wait(worker->epoll_fd, events, LB_POLL_BATCH, LB_DELIVERY_LOOK_MS);

    lb_worker_read_clock(worker);
    for (int i = 0; i < n; i++)
        dispatch(worker, &events[i]);
    expire_timers(worker);
    lb_request_work(worker);
}

static void close_all(struct lb_worker *worker) {
    uint64_t until_ms = worker->now_ms + LB_STOP_MS;

    kill_all(worker);
    while (is_delivering(worker) && worker->now_ms < until_ms)
        iterate_last(worker);
    /* Give up sessions that still linger. */
    kill_all(worker);
}

static void *run(void *arg) {
    struct lb_worker *worker = arg;

    worker->owner = pthread_self();
    worker->owned = true;
    while (!atomic_load_explicit(&worker->runtime->stopping, memory_order_acquire))
        lb_loop_iterate(worker);
    lb_listener_unwatch(worker);
    close_all(worker);
    worker->snapshot = NULL;
    lb_request_work(worker);
    worker->owned = false;
    return NULL;
}

/* ---- start and join ---------------------------------------------------------------------------------------------- */

int lb_loop_start(struct lb_worker *worker) {
    char name[16];

    (void)snprintf(name, sizeof name, "l4lb-worker-%u", worker->index);
    return lb_thread_start(&worker->cross.thread, name, run, worker);
}

void lb_loop_join(struct lb_worker *worker) {
    lb_worker_wake(worker);
    (void)pthread_join(worker->cross.thread, NULL);
}
