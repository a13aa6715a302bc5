/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_run - the life of a session, from accept to close.
 *
 *          PROXY header       server name
 *            expected           wanted
 *                │                 │
 *      accepted ─► HEADER ──────► HELLO ──► CONNECT, QUEUE (see connect.h)
 *          └──────────┴───────────────────►  │                         │
 *                                            │ connected               │ no backend, no retries left
 *                                            ▼                         ▼
 *                                          RELAY ──────────────────► closed
 *                                            │ one side broke, or       ▲
 *                                            ▼ l4lb ends it             │
 *                                          LINGER ──────────────────────┘
 *
 * Close fidelity: a FIN is propagated as a FIN after the last byte, in each direction by itself. A reset is propagated
 * as a reset, once the last byte has been acknowledged. When l4lb ends a session, each peer receives everything that
 * was sent to it and then a FIN (linger.h does both).
 *
 * Owner:   one worker, from accept to close.
 * Memory:  an entry of the session table, a ticket of the process and the listener, and a claim on the backend for as
 *          long as it has a connection there.
 * Errors:  none: every failure is a close reason.
 */
#ifndef LB_SESSION_RUN_H
#define LB_SESSION_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "config/snapshot.h"
#include "l4lb.h"
#include "relay/relay.h"
#include "session/session.h"
#include "session/worker.h"
#include "shared/queue.h"

/* Take over an accepted socket and its ticket. */
void lb_session_open(struct lb_worker *worker, const struct lb_listener *listener, struct lb_ticket ticket, int fd,
                     const struct l4lb_endpoint *peer, bool expects_header);

/* epoll reported `events` for one side. */
void lb_session_event(struct lb_worker *worker, struct lb_session *session, enum lb_side_name side, uint32_t events);

/* Continue a session on the ready list: it used up its budget in the last iteration. */
void lb_session_resume(struct lb_worker *worker, struct lb_session *session);

void lb_session_timer(struct lb_worker *worker, struct lb_session *session);

/* Take the session off its backend. For BACKEND_DOWN and BETTER_UP, a session that is still connecting goes to another
 * backend if there is one; any other session is closed. True if it was closed. */
bool lb_session_cut(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason);

/* The queue granted the session a try for capacity. */
void lb_session_granted(struct lb_worker *worker, struct lb_waiting *entry);

/* Close the session for this reason if it has certainly been idle for idle_ms. True if it was closed. */
bool lb_session_close_idle(struct lb_worker *worker, struct lb_session *session, uint32_t idle_ms,
                           enum l4lb_close reason);

/* If the backend is draining, arm the timer for the close. True if the session is idle already; it closes in wait_ms.
 */
bool lb_session_drain(struct lb_worker *worker, struct lb_session *session, uint32_t wait_ms);

#endif
