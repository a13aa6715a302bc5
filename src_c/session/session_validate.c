/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session_validate.h"

#include "base/base.h"
#include "base/bounds.h"
#include "base/clock.h"
#include "relay/path_splice.h"
#include "session/deadline.h"
#include "session/followed.h"
#include "session/place.h"

#ifdef LB_VALIDATE

static bool is_ready(const struct lb_session *session) { return session->ready.next != &session->ready; }

/* Another thread may have begun to drain the backend since the session was looked at. It makes the worker look at every
 * session, in one of its next iterations. */
static bool was_just_drained(const struct lb_worker *worker, const struct lb_session *session) {
    if (session->followed != NULL)
        return atomic_load(&worker->runtime->clients_draining_ms) >= worker->now_ms ||
               lb_snapshot_pool(worker->snapshot, session->pool) == NULL;
    return lb_backend_draining_ms(&worker->runtime->shared.backends[session->claim.backend]) >= worker->now_ms;
}

static void validate_timer(const struct lb_worker *worker, const struct lb_session *session) {
    struct lb_deadline next;

    LB_ASSERT_HOT(lb_timer_armed(&session->timer));
    if (session->state != LB_SESSION_RELAY && session->state != LB_SESSION_KEPT)
        return;
    next = lb_deadline_next(worker, session);
    if (next.kind == LB_DUE_DRAIN && was_just_drained(worker, session))
        return;
    if (next.kind == LB_DUE_DETACH && next.at_ms == 0) /* likewise, of any of its backends */
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
    LB_ASSERT_HOT(session->claim.has_capacity || (!session->claim.busy && !session->claim.turn_reserved));
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
    case LB_SESSION_KEPT:
        LB_ASSERT_HOT(session->followed != NULL && !session->claim.has_backend && session->server.fd < 0);
        LB_ASSERT_HOT(owns_nothing(&session->up) && owns_nothing(&session->down));
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

/* A parked connection is one of its backend and has no request. A session has at most one connection to each backend,
 * and events of each are told apart. */
static void validate_parked(const struct lb_session *session) {
    const struct lb_followed *followed = session->followed;

    LB_ASSERT_HOT(followed->n_parked <= LB_PARKED_MAX);
    for (uint32_t i = 0; i < followed->n_parked; i++) {
        const struct lb_parked *parked = &followed->parked[i];
        LB_ASSERT_HOT(parked->side.fd >= 0 && parked->claim.has_backend && parked->claim.has_capacity);
        LB_ASSERT_HOT(!parked->claim.busy && !parked->claim.turn_reserved);
        LB_ASSERT_HOT(parked->serial != 0 && parked->serial != session->serial);
        LB_ASSERT_HOT(!session->claim.has_backend || session->claim.backend != parked->claim.backend);
        for (uint32_t j = 0; j < i; j++)
            LB_ASSERT_HOT(followed->parked[j].serial != parked->serial &&
                          followed->parked[j].claim.backend != parked->claim.backend);
    }
}

/* Between two requests a followed session holds no turn. A request that has come waits only if the session waits. */
static void validate_followed(const struct lb_session *session) {
    const struct lb_followed *followed = session->followed;
    bool relays = session->state == LB_SESSION_RELAY;

    if (followed == NULL)
        return;
    LB_ASSERT_HOT(session->state != LB_SESSION_LINGER && followed->exchange.pin == L4LB_PIN_NONE);
    LB_ASSERT_HOT(session->up.exchange == &followed->exchange && session->down.exchange == &followed->exchange);
    LB_ASSERT_HOT(relays || (owns_nothing(&session->up) && owns_nothing(&session->down) && !session->claim.busy));
    LB_ASSERT_HOT(session->state != LB_SESSION_KEPT || lb_followed_at_boundary(session));
    LB_ASSERT_HOT(!relays || !lb_followed_at_boundary(session) ||
                  (!session->claim.busy && !session->claim.turn_reserved));
    LB_ASSERT_HOT(!relays || session->claim.busy == (session->claim.has_capacity && lb_phase_busy(&session->phase)));
    LB_ASSERT_HOT(!relays || session->down.finished ||
                  lb_phase_busy(&session->phase) == (followed->exchange.n_outstanding > 0));
    LB_ASSERT_HOT((!relays && session->state != LB_SESSION_KEPT) || !lb_place_is_due(session) || is_ready(session));
    LB_ASSERT_HOT(followed->exchange.copy == NULL || followed->exchange.n_outstanding <= 1);
    validate_parked(session);
}

void lb_session_validate(const struct lb_worker *worker, const struct lb_session *session) {
    LB_OWNER(worker);
    if (session->state == LB_SESSION_FREE)
        return;
    validate_timer(worker, session);
    validate_path(&session->up);
    validate_path(&session->down);
    validate_backend(session);
    validate_followed(session);
    LB_ASSERT_HOT(!is_ready(session) || session->state == LB_SESSION_RELAY || session->state == LB_SESSION_KEPT ||
                  session->is_newcomer);
    LB_ASSERT_HOT(session->is_newcomer == (session->state == LB_SESSION_HEADER || session->state == LB_SESSION_HELLO));
}

#endif
