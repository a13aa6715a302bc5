/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session_end.h"

#include <stdlib.h>

#include "base/count.h"
#include "config/admission.h"
#include "kernel/transport.h"
#include "session/account.h"
#include "session/connect.h"
#include "session/follow.h"
#include "session/linger.h"
#include "session/newcomers.h"
#include "session/session_sticky.h"

void lb_session_drop_tlvs(struct lb_session *session) {
    if (!session->has_tlvs)
        return;
    free(session->tlvs);
    session->has_tlvs = false;
    session->drain_from_ms = 0;
}

/* The only place where a session ends. */
static void dispose(struct lb_worker *worker, struct lb_session *session, bool reset_client, bool reset_server) {
    lb_follow_end(worker, session);
    lb_relay_fini(&session->up, &worker->relay_env);
    lb_relay_fini(&session->down, &worker->relay_env);
    lb_newcomers_remove(worker, session);
    lb_list_remove(&session->ready);
    lb_timer_disarm(&worker->wheel, &session->timer);
    /* Before the client can see the end: no client that saw it is still counted in the queue. */
    lb_connect_leave_queue(worker, session);
    lb_side_close(&session->client, reset_client);
    lb_side_close(&session->server, reset_server);
    lb_session_drop_tlvs(session);
    lb_claim_drop(&session->claim, &worker->runtime->shared);
    lb_session_sticky_release(worker, session);
    if (session->has_pool)
        lb_capacity_release(&worker->runtime->shared.pools[session->pool].sessions);
    lb_admission_release(&session->ticket, worker->runtime);
    lb_count_sub(&worker->stats.sessions, 1);
    lb_session_table_give(&worker->sessions, session);
}

static void record_close(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason) {
    if (!session->has_pool)
        return;
    lb_count_add(&worker->counters.pools[session->pool].closed[reason], 1);
    lb_account_record(worker, session, L4LB_EVENT_CLOSE, reason);
}

void lb_session_drop(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason, bool reset_client,
                     bool reset_server) {
    LB_OWNER(worker);
    record_close(worker, session, reason);
    dispose(worker, session, reset_client, reset_server);
}

void lb_session_reject(struct lb_worker *worker, struct lb_session *session, enum l4lb_reject reason) {
    LB_OWNER(worker);
    lb_count_add(&worker->counters.listeners[session->ticket.listener].rejected[reason], 1);
    dispose(worker, session, false, false);
}

/* A session that finishes was recorded when the lingering began; one that propagates a reset is recorded at the end. */
static void linger(struct lb_worker *worker, struct lb_session *session, bool done) {
    if (!done)
        return;
    if (session->resets)
        record_close(worker, session, (enum l4lb_close)session->close);
    dispose(worker, session, false, false);
}

void lb_session_linger(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    linger(worker, session, lb_linger_look(worker, session));
}

/* A followed session without a current backend connection: its client may still have to take a response. */
static bool has_answered(const struct lb_session *session) {
    return session->followed != NULL && session->first_byte_us != UINT64_MAX;
}

/* Nothing was sent yet on a connection that is still in progress. */
static void abandon_backend(struct lb_worker *worker, struct lb_session *session) {
    lb_follow_end(worker, session);
    if (session->state == LB_SESSION_RELAY)
        return;
    lb_connect_leave_queue(worker, session);
    lb_side_close(&session->server, false);
    lb_claim_drop(&session->claim, &worker->runtime->shared);
}

void lb_session_close(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason) {
    bool cut_client = lb_relay_holds(&session->down);
    /* Bytes in flight to a backend that is down would hold its capacity until it is up again. */
    bool cut_server = lb_relay_holds(&session->up) || reason == L4LB_CLOSE_BACKEND_DOWN;

    LB_OWNER(worker);
    if (session->state == LB_SESSION_LINGER) {
        lb_linger_end(worker, session);
        session->close = (uint8_t)reason;
        linger(worker, session, true);
    } else if (session->state == LB_SESSION_RELAY || has_answered(session)) {
        record_close(worker, session, reason);
        abandon_backend(worker, session);
        linger(worker, session, lb_linger_finish(worker, session, cut_client, cut_server));
    } else {
        lb_session_drop(worker, session, reason, false, false);
    }
}

enum l4lb_close lb_close_while_connecting(enum l4lb_close reason) {
    switch (reason) {
    case L4LB_CLOSE_KILLED:
        return L4LB_CLOSE_KILLED_CONNECT;
    case L4LB_CLOSE_BACKEND_DOWN:
        return L4LB_CLOSE_BACKEND_DOWN_CONNECT;
    case L4LB_CLOSE_BETTER_UP:
        return L4LB_CLOSE_BETTER_UP_CONNECT;
    default:
        return reason;
    }
}

void lb_session_kill(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason) {
    LB_OWNER(worker);
    if (session->state == LB_SESSION_HEADER || session->state == LB_SESSION_HELLO) {
        lb_session_reject(worker, session, L4LB_REJECT_CLOSED);
        return;
    }
    if (session->state == LB_SESSION_CONNECT)
        reason = lb_close_while_connecting(reason);
    if (reason == L4LB_CLOSE_KILLED && session->state == LB_SESSION_QUEUE)
        reason = L4LB_CLOSE_KILLED_QUEUE;
    lb_session_close(worker, session, reason);
}

/* ---- one side broke ---------------------------------------------------------------------------------------------- */

static enum l4lb_close break_reason(const struct lb_session *session) {
    if (session->client.reset)
        return session->client.lost ? L4LB_CLOSE_CLIENT_LOST : L4LB_CLOSE_CLIENT_ABORT;
    return session->server.lost ? L4LB_CLOSE_SERVER_LOST : L4LB_CLOSE_SERVER_ABORT;
}

void lb_session_break(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    if (session->client.reset && session->server.reset) {
        lb_session_drop(worker, session, break_reason(session), false, false);
        return;
    }
    if (session->server.reset && !session->responded)
        lb_count_add(&lb_account_counters(worker, session)->resets_total, 1);
    session->close = (uint8_t)break_reason(session);
    lb_follow_end(worker, session);
    linger(worker, session, lb_linger_reset(worker, session));
}
