/* SPDX-License-Identifier: Apache-2.0 */
#include "session/place.h"

#include "base/count.h"
#include "kernel/transport.h"
#include "session/account.h"
#include "session/deadline.h"
#include "session/parked.h"
#include "session/turn_exact.h"

static bool is_draining(const struct lb_worker *worker, const struct lb_session *session) {
    return lb_backend_draining_ms(&worker->runtime->shared.backends[session->claim.backend]) != 0;
}

/* ---- a request --------------------------------------------------------------------------------------------------- */

/* Has the client closed or reset its connection without sending a request? `session->close` then says how. */
static bool has_gone(struct lb_session *session) {
    uint8_t byte;

    if (!session->client.hup)
        return false;
    if (session->client.error)
        lb_side_latch_error(&session->client);
    session->close = L4LB_CLOSE_NORMAL;
    if (session->client.reset)
        session->close = session->client.lost ? L4LB_CLOSE_CLIENT_LOST : L4LB_CLOSE_CLIENT_ABORT;
    return session->client.reset || lb_side_peek(&session->client, &byte, 1).io != LB_IO_MOVED;
}

enum lb_connect lb_place_request(struct lb_worker *worker, struct lb_session *session) {
    struct lb_followed *followed = session->followed;

    LB_OWNER(worker);
    if (has_gone(session))
        return LB_CONNECT_FAILED;
    followed->past_queue_us += session->queue_us;
    session->queue_us = 0;
    session->retries = session->n_tried = 0;
    session->close = L4LB_CLOSE_NO_BACKEND;
    lb_list_remove(&session->ready);
    return lb_connect_next(worker, session);
}

/* ---- a boundary -------------------------------------------------------------------------------------------------- */

static void close_current(struct lb_worker *worker, struct lb_session *session) {
    lb_relay_restart(&session->up, &worker->relay_env);
    lb_relay_restart(&session->down, &worker->relay_env);
    lb_side_close(&session->server, false);
    session->server = (struct lb_side){.fd = -1, .can_write = true};
    session->serial = 0;
    lb_claim_drop(&session->claim, &worker->runtime->shared);
    session->state = LB_SESSION_KEPT;
}

void lb_place_detach(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    close_current(worker, session);
    lb_count_add(&worker->counters.pools[session->pool].detached_total, 1);
}

bool lb_place_rest(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    if (!lb_followed_at_boundary(session))
        return false;
    /* The client sent nothing that begins a request. */
    if (session->claim.turn_reserved)
        lb_claim_end_reservation(&session->claim, &worker->runtime->shared);
    if (session->up.eof)
        return true;
    if (session->state == LB_SESSION_RELAY && !session->server.can_read &&
        (is_draining(worker, session) || lb_parked_is_wanted(worker, session, session->claim.backend)))
        lb_place_detach(worker, session);
    return false;
}

/* ---- sending again ----------------------------------------------------------------------------------------------- */

bool lb_place_may_resend(const struct lb_session *session) {
    return session->followed != NULL && session->responded && !session->client.reset &&
           lb_exchange_may_resend(&session->followed->exchange);
}

enum lb_connect lb_place_again(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    /* A process that dies may close its listening socket last: until then it accepts, and resets. */
    session->tried[session->n_tried++ % LB_TRIED_MAX] = session->claim.backend;
    close_current(worker, session);
    lb_list_remove(&session->ready);
    session->close = L4LB_CLOSE_SERVER_ABORT;
    lb_count_add(&worker->counters.pools[session->pool].resends_total, 1);
    return lb_connect_next(worker, session);
}

bool lb_place_resend(struct lb_worker *worker, struct lb_session *session) {
    const struct lb_exchange *exchange = &session->followed->exchange;

    LB_OWNER(worker);
    if (exchange->n_outstanding == 0)
        return true;
    lb_turn_exact_resend(worker, session);
    session->up.held = lb_buffer_take(&worker->relay_env.buffers, exchange->copy, exchange->copy_len);
    return session->up.held != NULL;
}

/* ---- what is due ------------------------------------------------------------------------------------------------- */

void lb_place_close_due(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    lb_parked_close_due(worker, session);
    if (lb_deadline_current_ms(worker, session) <= worker->now_ms)
        lb_place_detach(worker, session);
}
