/* SPDX-License-Identifier: Apache-2.0 */
#include "session/account.h"

#include "base/base.h"
#include "base/clock.h"
#include "base/count.h"

/* A turn that is over, or not expected any more, is a place for somebody who waits. */
static void release_turn(struct lb_worker *worker, const struct lb_session *session) {
    lb_capacity_release(&lb_account_shared(worker, session)->turns);
    lb_queue_grant(lb_account_queue(worker, session));
}

void lb_account_busy(struct lb_worker *worker, struct lb_session *session, bool busy) {
    struct lb_backend_shared *shared = lb_account_shared(worker, session);

    LB_OWNER(worker);
    busy = busy && session->has_capacity;
    if (session->busy == busy)
        return;
    session->busy = busy;
    if (busy)
        atomic_fetch_add(&shared->busy, 1);
    else
        lb_capacity_release(&shared->busy);
    if (session->first_turn_reserved) /* the turn that was expected is counted already */
        return;
    if (busy)
        atomic_fetch_add(&shared->turns, 1);
    else
        release_turn(worker, session);
}

void lb_account_first_turn_started(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    if (!session->first_turn_reserved)
        return;
    session->first_turn_reserved = false;
    if (!session->busy)
        release_turn(worker, session);
}

void lb_account_claim_backend(struct lb_worker *worker, struct lb_session *session, uint32_t slot) {
    LB_OWNER(worker);
    session->backend = slot;
    session->has_backend = true;
    session->has_capacity = true;
    session->first_turn_reserved = true;
    atomic_fetch_add(&lb_account_shared(worker, session)->sessions, 1);
    lb_count_add(&lb_account_counters(worker, session)->connections_total, 1);
}

void lb_account_release_capacity(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    if (!session->has_capacity)
        return;
    lb_account_busy(worker, session, false);
    lb_account_first_turn_started(worker, session);
    session->has_capacity = false;
    lb_capacity_release(&lb_account_shared(worker, session)->connections);
    lb_queue_grant(lb_account_queue(worker, session));
}

void lb_account_release_backend(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    lb_account_release_capacity(worker, session);
    if (!session->has_backend)
        return;
    session->has_backend = false;
    lb_capacity_release(&lb_account_shared(worker, session)->sessions);
}

void lb_account_record(struct lb_worker *worker, const struct lb_session *session, enum l4lb_event_kind event,
                       enum l4lb_close close) {
    struct l4lb_session_record record;

    if (worker->snapshot == NULL || (worker->snapshot->events & (uint32_t)event) == 0)
        return;
    lb_account_describe(worker, session, &record);
    record.event = event;
    record.close = (uint8_t)close;
    lb_worker_record(worker, &record);
}

uint32_t lb_account_waited_us(const struct lb_worker *worker, const struct lb_session *session) {
    uint64_t now_us = session->state == LB_SESSION_QUEUE ? (worker->now_ns - session->attempt_ns) / LB_NS_PER_US : 0;
    return (uint32_t)LB_MIN(session->queue_us + now_us, (uint64_t)UINT32_MAX);
}

void lb_account_describe(const struct lb_worker *worker, const struct lb_session *session,
                         struct l4lb_session_record *out) {
    static const uint8_t states[] = {
        [LB_SESSION_HEADER] = L4LB_SESSION_HEADER,   [LB_SESSION_HELLO] = L4LB_SESSION_HELLO,
        [LB_SESSION_CONNECT] = L4LB_SESSION_CONNECT, [LB_SESSION_QUEUE] = L4LB_SESSION_QUEUE,
        [LB_SESSION_RELAY] = L4LB_SESSION_RELAY,     [LB_SESSION_LINGER] = L4LB_SESSION_CLOSING};
    uint64_t age_ns = worker->now_ns - session->started_ns;

    *out = (struct l4lb_session_record){
        .id = (uint64_t)worker->index << (LB_SESSION_INDEX_BITS + LB_SESSION_GENERATION_BITS) |
              (uint64_t)session->index << LB_SESSION_GENERATION_BITS | session->generation,
        .listener = session->listener,
        .pool = session->has_pool ? session->pool : UINT32_MAX,
        .backend = session->backend,
        .client = session->peer,
        .state = states[session->state],
        .path = session->up.spliced || session->down.spliced ? L4LB_PATH_SPLICE : L4LB_PATH_COPY,
        .retries = session->retries,
        .phase = session->phase.state,
        .has_capacity = session->has_capacity,
        .turns = session->phase.turns,
        .started_ns = lb_clock_wall_ns() - age_ns,
        .duration_us = age_ns / LB_NS_PER_US,
        .queue_us = lb_account_waited_us(worker, session),
        .connect_us = session->connect_us == UINT32_MAX ? UINT64_MAX : session->connect_us,
        .first_byte_us = session->first_byte_us,
        .bytes_in = session->up.bytes,
        .bytes_out = session->down.bytes,
        .idle_us = (worker->now_ns - session->last_ns) / LB_NS_PER_US,
    };
}
