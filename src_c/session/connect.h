/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect - from a session that needs a backend to one that has it: pick, wait for a place, try, try again.
 *
 *                 no place                           attempt failed: another at once, or the same after a wait
 *      QUEUE ◄───────────────┐                              ┌───────┐
 *        └── called ──► pick a backend ──► CONNECT ─────────┴───────┤
 *                            │                 │ connected          │ no retries left
 *                            ▼ nobody          ▼                    ▼
 *                          over              made                 over
 *
 * Nobody to try is no place, whether it is for now or all of them are gone: in a pool with a waiting room the session
 * waits, also one whose attempt failed, at the end of the line. It waits for `queue_ms` in all.
 *
 * A unix socket whose backlog is full says so at once. That is no failure: the attempt goes on until it is over time.
 *
 * It never closes a session: it says how things stand, and session_run.c does what follows.
 *
 * Owner:   the session's worker.
 * Memory:  none; the backend's socket and place are the session's.
 * Errors:  LB_CONNECT_FAILED, with the reason in session->close.
 */
#ifndef LB_CONNECT_H
#define LB_CONNECT_H

#include <stdint.h>

#include "base/base.h"
#include "session/session.h"
#include "session/worker.h"

enum lb_connect {
    LB_CONNECT_PENDING, /* connecting, or waiting for something */
    LB_CONNECT_READY,   /* the backend is there */
    LB_CONNECT_FAILED,  /* close the session for session->close */
};

/* Look for a backend. */
LB_MUST_CHECK enum lb_connect lb_connect_next(struct lb_worker *worker, struct lb_session *session);

/* Give up the attempt that is under way, which has not failed, and look for another backend. */
LB_MUST_CHECK enum lb_connect lb_connect_elsewhere(struct lb_worker *worker, struct lb_session *session);

/* epoll reported `events` for the backend's socket of a session in CONNECT. */
LB_MUST_CHECK enum lb_connect lb_connect_event(struct lb_worker *worker, struct lb_session *session, uint32_t events);

/* The timer of a session in CONNECT or QUEUE fired. */
LB_MUST_CHECK enum lb_connect lb_connect_expire(struct lb_worker *worker, struct lb_session *session);

/* epoll reported `events` for the client of a session in CONNECT or QUEUE: has it left? One that finished its question
 * with a FIN may still wait for the answer, unless the pool says that its clients do not (`abort_on_close`). */
LB_MUST_CHECK bool lb_connect_is_abandoned(const struct lb_worker *worker, struct lb_session *session, uint32_t events);

/* Out of the waiting room, if it is there. */
void lb_connect_leave_queue(struct lb_worker *worker, struct lb_session *session);

#endif
