/* SPDX-License-Identifier: Apache-2.0 */
#include "session/overdue.h"

#include "base/bounds.h"
#include "base/clock.h"
#include "session/account.h"
#include "session/deadline.h"
#include "session/delivery.h"
#include "session/place.h"
#include "session/turn.h"

/* A session with bytes to read is not idle, and neither is one whose client still has to take something, unless that is
 * only the end of the last response, which a FIN can follow. True if the session may not close yet. */
static bool postpone_drain(struct lb_worker *worker, struct lb_session *session) {
    uint64_t waited_ms = worker->now_ms - session->last_ns / LB_NS_PER_MS;

    if (!lb_delivery_has_unread(session) &&
        (lb_deadline_is_certain(worker, session) || lb_deadline_closes_behind_data(worker, session) ||
         lb_delivery_pending(session) == 0))
        return false;
    /* Look again, less and less often while nothing moves. */
    session->drain_from_ms = worker->now_ms + LB_MAX((uint64_t)LB_DELIVERY_LOOK_MS, waited_ms / 4);
    return true;
}

/* Deadlines that pass because nothing happened. */
static bool is_silence(enum lb_due due) {
    return due == LB_DUE_SILENCE || due == LB_DUE_FIRST_BYTE || due == LB_DUE_DRAIN;
}

/* Record an interval event and schedule the next. */
static void record_interval(struct lb_worker *worker, struct lb_session *session) {
    uint64_t interval_ms = worker->snapshot->interval_ms;

    lb_account_record(worker, session, L4LB_EVENT_INTERVAL, L4LB_CLOSE_NORMAL);
    session->interval_at_ms = interval_ms > 0 ? worker->now_ms + interval_ms : UINT64_MAX;
}

/* Act on this deadline. True if the session has to close. */
static bool meet(struct lb_worker *worker, struct lb_session *session, enum lb_due due, enum l4lb_close *reason) {
    switch (due) {
    case LB_DUE_SILENCE:
        *reason = lb_deadline_silence_reason(session);
        return true;
    case LB_DUE_LIFETIME:
        *reason = L4LB_CLOSE_LIFETIME;
        return true;
    case LB_DUE_FIRST_BYTE:
        *reason = lb_session_has_requested(session) ? L4LB_CLOSE_SERVER_FIRST_BYTE : L4LB_CLOSE_CLIENT_FIRST_BYTE;
        return true;
    case LB_DUE_DRAIN:
        *reason = L4LB_CLOSE_DRAINED;
        return !postpone_drain(worker, session);
    case LB_DUE_DETACH:
        lb_place_close_due(worker, session);
        break;
    case LB_DUE_FIRST_TURN:
        lb_claim_end_reservation(&session->claim, &worker->runtime->shared);
        break;
    case LB_DUE_TURN:
        lb_turn_expire(worker, session);
        break;
    case LB_DUE_INTERVAL:
        record_interval(worker, session);
        break;
    }
    return false;
}

bool lb_overdue_meet(struct lb_worker *worker, struct lb_session *session, enum l4lb_close *reason) {
    struct lb_deadline next;

    LB_OWNER(worker);
    while ((next = lb_deadline_next(worker, session)).at_ms <= worker->now_ms) {
        if (is_silence(next.kind) && lb_delivery_note(worker, session))
            continue;
        if (meet(worker, session, next.kind, reason))
            return true;
    }
    lb_deadline_arm_next(worker, session, next);
    return false;
}

static bool is_idle_for(const struct lb_worker *worker, const struct lb_session *session, uint32_t idle_ms) {
    return lb_session_is_idle(session) && worker->now_ms >= session->last_ns / LB_NS_PER_MS + idle_ms;
}

bool lb_overdue_was_idle(struct lb_worker *worker, struct lb_session *session, uint32_t idle_ms) {
    bool certain = lb_deadline_is_certain(worker, session);

    if (certain)
        idle_ms = LB_MIN(idle_ms, (uint32_t)LB_DRAIN_SOON_MS);
    else if (lb_deadline_may_have_paused(session))
        idle_ms = LB_MAX(idle_ms, (uint32_t)LB_DRAIN_STREAM_MS);
    if (!is_idle_for(worker, session, idle_ms) || (!certain && lb_deadline_in_doubt(worker, session)))
        return false;
    (void)lb_delivery_note(worker, session);
    return is_idle_for(worker, session, idle_ms) && lb_delivery_pending(session) == 0 &&
           !lb_delivery_has_unread(session);
}
