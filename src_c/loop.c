/* SPDX-License-Identifier: Apache-2.0 */
#include "loop.h"

#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "account.h"
#include "affinity.h"
#include "bounds.h"
#include "count.h"
#include "listener.h"
#include "poll_tag.h"
#include "session.h"
#include "session_validate.h"

/* ---- time -------------------------------------------------------------------------------------------------------- */

/* How long epoll may wait. */
static int timeout_ms(const struct lb_worker *worker) {
    uint64_t next = worker->now_ms + LB_HEARTBEAT_MS;
    const struct lb_relay *quiet = lb_relays_next_quiet(&worker->relays);

    if (!lb_list_empty(&worker->ready))
        return 0;
    next = LB_MIN(next, lb_wheel_next(&worker->wheel));
    if (quiet != NULL)
        next = LB_MIN(next, lb_relay_quiet_ms(quiet));
    if (worker->paused)
        next = LB_MIN(next, LB_MAX(worker->rest_until_ms, worker->now_ms + LB_ACCEPT_REST_MS));
    return next > worker->now_ms ? (int)(next - worker->now_ms) : 0;
}

static void expire_timers(struct lb_worker *worker) {
    struct lb_timer *timer;

    while ((timer = lb_wheel_expire(&worker->wheel, worker->now_ms)) != NULL) {
        struct lb_session *session = container_of(timer, struct lb_session, timer);
        lb_session_timer(worker, session);
        lb_session_validate(worker, session);
    }
}

static void expire_quiet(struct lb_worker *worker) {
    struct lb_relay *relay;

    while ((relay = lb_relays_next_quiet(&worker->relays)) != NULL && lb_relay_quiet_ms(relay) <= worker->now_ms)
        lb_session_quieten(worker, relay);
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
        lb_session_event(worker, session, tag.kind == LB_POLL_CLIENT ? LB_CLIENT : LB_SERVER, event->events);
        lb_session_validate(worker, session);
        return;
    }
}

/* Those on the list now get one turn; whoever is not through goes to the end, for the next. */
static void run_ready(struct lb_worker *worker) {
    struct lb_list batch;

    lb_list_init(&batch);
    while (!lb_list_empty(&worker->ready))
        lb_list_append(&batch, worker->ready.next);
    while (!lb_list_empty(&batch)) {
        struct lb_session *session = container_of(batch.next, struct lb_session, ready);
        lb_list_remove(&session->ready);
        lb_session_resume(worker, session);
        lb_session_validate(worker, session);
    }
}

/* ---- requests ---------------------------------------------------------------------------------------------------- */

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

static int kill_session(struct lb_worker *worker, uint64_t id) {
    uint32_t generation = (uint32_t)(id & ((1u << LB_SESSION_GENERATION_BITS) - 1));
    struct lb_session *session = lb_session_table_find(&worker->sessions, index_of(id), generation);

    if (session == NULL)
        return -ENOENT;
    lb_session_kill(worker, session, L4LB_CLOSE_KILLED);
    return 0;
}

static int kill_backend(struct lb_worker *worker, uint32_t slot, enum l4lb_close reason) {
    struct lb_session *session;
    uint32_t index = 0;
    int n = 0;

    while ((session = lb_session_table_next(&worker->sessions, index)) != NULL) {
        index = session->index + 1;
        if (session->has_backend && session->backend == slot) {
            lb_session_kill(worker, session, reason);
            n++;
        }
    }
    return n;
}

static int leave(struct lb_worker *worker) {
    struct lb_session *session;
    uint32_t index = 0, n = 0;

    while ((session = lb_session_table_next(&worker->sessions, index)) != NULL) {
        index = session->index + 1;
        if (lb_session_leave(worker, session, n / LB_LEAVE_BURST))
            n++;
        lb_session_validate(worker, session);
    }
    return (int)n;
}

static int close_quiet(struct lb_worker *worker, const struct lb_request *request) {
    struct lb_session *session;
    uint32_t index = 0;
    size_t n = 0;

    while (n < request->n && (session = lb_session_table_next(&worker->sessions, index)) != NULL) {
        index = session->index + 1;
        if (session->has_backend && session->backend == request->backend &&
            lb_session_close_quiet(worker, session, request->quiet_ms, L4LB_CLOSE_REBALANCED))
            n++;
    }
    return (int)n;
}

static void answer(struct lb_worker *worker) {
    struct lb_request *request = atomic_load(&worker->cross.request);
    uint64_t one = 1;

    if (request == NULL)
        return;
    request = atomic_exchange(&worker->cross.request, NULL);
    if (request == NULL)
        return;
    switch (request->kind) {
    case LB_REQUEST_LIST:
        request->result = list_sessions(worker, request);
        break;
    case LB_REQUEST_KILL_SESSION:
        request->result = kill_session(worker, request->session);
        break;
    case LB_REQUEST_KILL_BACKEND:
        request->result = kill_backend(worker, request->backend, request->reason);
        break;
    case LB_REQUEST_LEAVE:
        request->result = leave(worker);
        break;
    case LB_REQUEST_CLOSE_QUIET:
        request->result = close_quiet(worker, request);
        break;
    }
    /* The asker may be gone the moment after this. An eventfd takes 8 bytes or says why, and it can't be full. */
    (void)!write(request->answered_fd, &one, sizeof one);
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void answer_calls(struct lb_worker *worker) {
    struct lb_waiting *entry;

    if (worker->called == NULL)
        worker->called = lb_mailbox_take(&worker->cross.mailbox);
    while ((entry = worker->called) != NULL) {
        worker->called = entry->next;
        lb_session_called(worker, entry);
        lb_session_validate(worker, container_of(entry, struct lb_session, waiting));
    }
}

/* Whoever waits may have found a backend in the new snapshot, or lost the pool. */
static void call_waiting(const struct lb_snapshot *before, const struct lb_snapshot *now) {
    for (uint32_t i = 0; i < now->n_pools; i++)
        lb_queue_call(&now->pools[i].live->queue);
    for (uint32_t i = 0; before != NULL && i < before->n_pools; i++) {
        if (lb_snapshot_pool(now, before->pools[i].slot) == NULL)
            lb_queue_call(&before->pools[i].live->queue);
    }
}

static void adopt_snapshot(struct lb_worker *worker) {
    struct lb_snapshot *published = atomic_load_explicit(&worker->shared->snapshot, memory_order_acquire);
    const struct lb_snapshot *before = worker->snapshot;

    if (published == before)
        return;
    lb_listener_adopt(worker, published);
    lb_affinity_adopt(worker, before);
    call_waiting(before, published);
    /* From here on this worker holds no pointer into an older one: the control thread may free it. */
    atomic_store_explicit(&worker->cross.seen, published->sequence, memory_order_release);
}

static void take_turn(struct lb_worker *worker) {
    struct epoll_event events[LB_POLL_BATCH];
    int n = epoll_wait(worker->epoll_fd, events, LB_POLL_BATCH, timeout_ms(worker));

    worker->turn++;
    lb_count_add(&worker->stats.loops_total, 1);
    lb_worker_read_clock(worker);
    adopt_snapshot(worker);
    for (int i = 0; i < n; i++)
        dispatch(worker, &events[i]);
    answer_calls(worker);
    run_ready(worker);
    expire_timers(worker);
    expire_quiet(worker);
    answer(worker);
    if (worker->paused)
        lb_listener_resume(worker);
    if (worker->sessions.n_empty > 1)
        lb_session_table_trim(&worker->sessions);
}

static void close_all(struct lb_worker *worker) {
    struct lb_session *session;

    while ((session = lb_session_table_next(&worker->sessions, 0)) != NULL)
        lb_session_kill(worker, session, L4LB_CLOSE_SHUTDOWN);
}

static void *run(void *arg) {
    struct lb_worker *worker = arg;

    while (!atomic_load_explicit(&worker->shared->stopping, memory_order_acquire))
        take_turn(worker);
    close_all(worker);
    lb_listener_leave(worker);
    answer(worker);
    return NULL;
}

/* ---- life -------------------------------------------------------------------------------------------------------- */

int lb_loop_start(struct lb_worker *worker) {
    char name[16];
    sigset_t all, before;
    int result;

    /* Signals are the control thread's business. Blocking them here also makes SIGPIPE harmless, which splice(2) has
     * no flag against. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = -pthread_create(&worker->cross.thread, NULL, run, worker);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (result < 0)
        return result;
    (void)snprintf(name, sizeof name, "l4lb-worker-%u", worker->index);
    (void)pthread_setname_np(worker->cross.thread, name);
    return 0;
}

void lb_loop_join(struct lb_worker *worker) {
    lb_worker_wake(worker);
    (void)pthread_join(worker->cross.thread, NULL);
}
