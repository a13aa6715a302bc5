/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect - gets a session its backend: pick one, queue while none has capacity, connect, retry.
 *
 *               no capacity                          attempt failed: another at once, or the same after a wait
 *      QUEUE ◄───────────────┐                              ┌───────┐
 *        └─ granted ──► pick a backend ──► CONNECT ─────────┴───────┤
 *                            │                 │ connected          │ no retries left
 *                            ▼ no queue        ▼                    ▼
 *                          FAILED            READY                FAILED
 *
 * In a pool with a queue the session waits whenever no backend can take it: all are full, all are down, or the pool is
 * empty. A session whose attempt failed joins at the end. All waits of a session together last at most `queue_ms`.
 *
 * A unix socket whose backlog is full refuses at once. That is not a failure: the attempt is repeated until its
 * timeout.
 *
 * This module never closes a session. It returns how the session stands, and session_run.c acts on that.
 *
 * Owner:   the session's worker.
 * Memory:  none; the session owns the backend's socket and the claim on its capacity.
 * Errors:  LB_CONNECT_FAILED, with the reason in session->close.
 */
#ifndef LB_CONNECT_H
#define LB_CONNECT_H

#include <stdint.h>

#include "base/base.h"
#include "session/session.h"
#include "session/worker.h"

enum lb_connect {
    LB_CONNECT_PENDING, /* connecting, queued, or waiting to retry */
    LB_CONNECT_READY,   /* connected */
    LB_CONNECT_HELD,    /* the backend is one to which the session had a connection already (followed.h) */
    LB_CONNECT_FAILED,  /* close the session with session->close as the reason */
};

/* Pick a backend and begin to connect, or join the queue. A followed session parks the backend connection that it
 * leaves. */
LB_MUST_CHECK enum lb_connect lb_connect_next(struct lb_worker *worker, struct lb_session *session);

/* Abandon the attempt in progress, without counting a failure, and pick again. */
LB_MUST_CHECK enum lb_connect lb_connect_elsewhere(struct lb_worker *worker, struct lb_session *session);

/* epoll reported `events` for the backend's socket of a session in CONNECT. */
LB_MUST_CHECK enum lb_connect lb_connect_event(struct lb_worker *worker, struct lb_session *session, uint32_t events);

/* The timer of a session in CONNECT or QUEUE fired. */
LB_MUST_CHECK enum lb_connect lb_connect_expire(struct lb_worker *worker, struct lb_session *session);

/* epoll reported `events` for the client of a session in CONNECT or QUEUE: has the client gone? A client that ended its
 * request with a FIN may still wait for the response, unless the pool sets `abort_on_close`. */
LB_MUST_CHECK bool lb_connect_is_abandoned(const struct lb_worker *worker, struct lb_session *session, uint32_t events);

/* Remove the session from the queue of its pool, if it is in it. */
void lb_connect_leave_queue(struct lb_worker *worker, struct lb_session *session);

#endif
