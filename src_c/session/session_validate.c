/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session_validate.h"

#include "base/base.h"
#include "base/bounds.h"
#include "base/clock.h"
#include "relay/path_splice.h"
#include "session/deadline.h"

#ifdef LB_VALIDATE

static bool is_ready(const struct lb_session *session) { return session->ready.next != &session->ready; }

/* Another thread may have begun to drain the backend since the session was looked at. It makes the worker look at every
 * session, in one of its next iterations. */
static bool was_just_drained(const struct lb_worker *worker, const struct lb_session *session) {
    return lb_backend_draining_ms(&worker->runtime->shared.backends[session->claim.backend]) >= worker->now_ms;
}

static void validate_timer(const struct lb_worker *worker, const struct lb_session *session) {
    struct lb_deadline next;

    LB_ASSERT_HOT(lb_timer_armed(&session->timer));
    if (session->state != LB_SESSION_RELAY)
        return;
    next = lb_deadline_next(worker, session);
    if (next.kind == LB_DUE_DRAIN && was_just_drained(worker, session))
        return;
    /* What the model learnt from other sessions may make this one due at once. It closes within this time. */
    if (next.kind == LB_DUE_DRAIN)
        next.at_ms = LB_MAX(next.at_ms, session->last_ns / LB_NS_PER_MS + LB_DRAIN_DOUBT_MS);
    LB_ASSERT_HOT(session->timer.expires_ms <= next.at_ms);
}

/* An empty pipe that is on no list would be kept until the session ends. */
static void validate_path(const struct lb_relay *relay) {
    const struct lb_splice *splice = relay->splice;

    LB_ASSERT_HOT((relay->path == L4LB_PATH_SPLICE) == (splice != NULL));
    LB_ASSERT_HOT(splice == NULL || relay->held == NULL);
    LB_ASSERT_HOT(splice == NULL || splice->pipe->held > 0 || !lb_list_empty(&splice->link));
}

static bool owns_nothing(const struct lb_relay *relay) { return relay->splice == NULL && relay->held == NULL; }

/* The claim on the backend fits the state. */
static void validate_backend(const struct lb_session *session) {
    LB_ASSERT_HOT(!session->claim.has_capacity || session->claim.has_backend);
    LB_ASSERT_HOT(session->claim.has_capacity || (!session->claim.busy && !session->claim.first_turn_reserved));
    switch (session->state) {
    case LB_SESSION_HEADER:
    case LB_SESSION_HELLO:
        LB_ASSERT_HOT(!session->has_pool && !session->claim.has_backend && session->server.fd < 0);
        break;
    case LB_SESSION_QUEUE:
        LB_ASSERT_HOT(!session->claim.has_backend && session->server.fd < 0);
        break;
    case LB_SESSION_RELAY:
        LB_ASSERT_HOT(session->claim.has_backend && session->client.fd >= 0 && session->server.fd >= 0);
        break;
    case LB_SESSION_LINGER:
        LB_ASSERT_HOT(session->claim.has_capacity == (session->server.fd >= 0 && !session->down.finished));
        LB_ASSERT_HOT(owns_nothing(&session->up) && owns_nothing(&session->down));
        break;
    case LB_SESSION_CONNECT:
    case LB_SESSION_FREE:
        break;
    }
}

void lb_session_validate(const struct lb_worker *worker, const struct lb_session *session) {
    LB_OWNER(worker);
    if (session->state == LB_SESSION_FREE)
        return;
    validate_timer(worker, session);
    validate_path(&session->up);
    validate_path(&session->down);
    validate_backend(session);
    LB_ASSERT_HOT(!is_ready(session) || session->state == LB_SESSION_RELAY || session->is_newcomer);
    LB_ASSERT_HOT(session->is_newcomer == (session->state == LB_SESSION_HEADER || session->state == LB_SESSION_HELLO));
}

#endif
