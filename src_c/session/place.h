/* SPDX-License-Identifier: Apache-2.0 */
/*
 * place - which backend gets the next request of a followed session.
 *
 *                 a request arrives: its backend has capacity       response complete
 *      KEPT, or ──────────────────────────────────────────► RELAY ───────────────────► boundary
 *      a boundary   │ another backend, or none has capacity   ▲
 *      in RELAY     └──► CONNECT, QUEUE (see connect.h) ──────┘
 *
 * Not a byte of the request is read before it is placed, so an attempt that fails costs nothing: the next one follows,
 * as for a new session. The request reserves a turn of its backend, so limits are exact.
 *
 * At a boundary a backend connection can be detached: it is closed and the client stays, in KEPT. That happens when its
 * backend ends it, drains, or has no connection to spare, and when it was idle for `backend_keepalive_ms`.
 *
 * A request that met a connection which its backend was closing is sent again, if a copy of it is at hand.
 *
 * This module never closes a session. It says how the session stands, and session_run.c does what follows.
 *
 * Owner:   the session's worker.
 * Memory:  none.
 * Errors:  LB_CONNECT_FAILED, with the reason in session->close.
 */
#ifndef LB_PLACE_H
#define LB_PLACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "session/connect.h"
#include "session/followed.h"

/* True if the client may have sent a request that is to be placed. */
static inline bool lb_place_is_due(const struct lb_session *session) {
    return session->followed != NULL && session->client.can_read && !session->up.eof && !session->claim.turn_reserved &&
           !(session->state == LB_SESSION_RELAY && (session->server.can_read || !session->server.can_write)) &&
           lb_followed_at_boundary(session);
}

/* Place the request. LB_CONNECT_HELD: the session has a connection to its backend. */
LB_MUST_CHECK enum lb_connect lb_place_request(struct lb_worker *worker, struct lb_session *session);

/* Once all bytes that could move have moved: at a boundary, give up what is not needed between requests. True if the
 * client sent a FIN there, which ends the session. */
LB_MUST_CHECK bool lb_place_rest(struct lb_worker *worker, struct lb_session *session);

/* Close the current backend connection; the client stays. A session on the worker's ready list stays there. */
void lb_place_detach(struct lb_worker *worker, struct lb_session *session);

/* The backend closed the connection instead of responding. True if the request can be sent again. */
bool lb_place_may_resend(const struct lb_session *session);
/* Place that request again. */
LB_MUST_CHECK enum lb_connect lb_place_again(struct lb_worker *worker, struct lb_session *session);
/* The session has a backend connection: send the copy of a request that is sent again. False without memory. */
LB_MUST_CHECK bool lb_place_resend(struct lb_worker *worker, struct lb_session *session);

/* Close the backend connections, current and parked, that are due (LB_DUE_DETACH in deadline.h). */
void lb_place_close_due(struct lb_worker *worker, struct lb_session *session);

#endif
