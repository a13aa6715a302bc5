/* SPDX-License-Identifier: Apache-2.0 */
#include "session/account.h"

#include "base/base.h"
#include "base/clock.h"
#include "base/count.h"
#include "session/followed.h"

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

/* The waits of a followed session's earlier requests. */
static uint32_t past_queue_us(const struct lb_session *session) {
    return session->followed != NULL ? session->followed->past_queue_us : 0;
}

void lb_account_record_request(struct lb_worker *worker, const struct lb_session *session) {
    const struct lb_followed *followed = session->followed;
    const struct lb_phase *phase = &session->phase;
    struct l4lb_session_record record;

    if (worker->snapshot == NULL || (worker->snapshot->events & L4LB_EVENT_REQUEST) == 0)
        return;
    lb_account_describe(worker, session, &record);
    record.event = L4LB_EVENT_REQUEST;
    record.started_ns += record.duration_us * LB_NS_PER_US - phase->duration_ns;
    record.duration_us = phase->duration_ns / LB_NS_PER_US;
    record.queue_us = session->queue_us;
    record.first_byte_us = (LB_MAX(followed->head_ns, phase->client_ns) - phase->client_ns) / LB_NS_PER_US;
    record.bytes_in = session->up.bytes - followed->request_up;
    record.bytes_out = session->down.bytes - followed->request_down;
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
        [LB_SESSION_RELAY] = L4LB_SESSION_RELAY,     [LB_SESSION_LINGER] = L4LB_SESSION_CLOSING,
        [LB_SESSION_KEPT] = L4LB_SESSION_KEPT};
    uint64_t age_ns = worker->now_ns - session->started_ns;

    *out = (struct l4lb_session_record){
        .id = (uint64_t)worker->index << (LB_SESSION_INDEX_BITS + LB_SESSION_GENERATION_BITS) |
              (uint64_t)session->index << LB_SESSION_GENERATION_BITS | session->generation,
        .listener = session->ticket.listener,
        .pool = session->has_pool ? session->pool : UINT32_MAX,
        .backend = session->claim.backend,
        .client = session->peer,
        .state = states[session->state],
        .path = lb_session_path(session),
        .retries = session->retries,
        .phase = session->phase.state,
        .has_capacity = session->claim.has_capacity,
        .turns = session->phase.turns,
        .moves = session->moves,
        .pin = session->pin,
        .status = session->status,
        .started_ns = lb_clock_wall_ns() - age_ns,
        .duration_us = age_ns / LB_NS_PER_US,
        .queue_us = past_queue_us(session) + lb_account_waited_us(worker, session),
        .connect_us = session->connect_us == UINT32_MAX ? UINT64_MAX : session->connect_us,
        .first_byte_us = session->first_byte_us,
        .bytes_in = session->up.bytes,
        .bytes_out = session->down.bytes,
        .idle_us = (worker->now_ns - session->last_ns) / LB_NS_PER_US,
    };
}
