/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_run - the life of a session: one client connection and its backend connection, from accept to close.
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
 * Close fidelity: a FIN is passed on as a FIN after the last byte, per direction. A reset is passed on as a reset,
 * after the last byte has been acknowledged. A session that l4lb ends gives each peer all that was sent to it and a FIN
 * (see linger.h for both).
 *
 * Owner:   one worker, from accept to close.
 * Memory:  a place in the session table. Holds places counted on the process and the listener, and capacity of the
 *          backend for as long as it has a connection there.
 * Errors:  none: whatever goes wrong is a close reason.
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

/* Its turn on the ready list. */
void lb_session_resume(struct lb_worker *worker, struct lb_session *session);

void lb_session_timer(struct lb_worker *worker, struct lb_session *session);

/* End it. A peer gets a FIN after all that was sent to it, while the session lingers; but a reset, at once, if bytes
 * that were read for it cannot be sent any more. One that lingers is done with at once. */
void lb_session_close(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason);

/* End it by request. While it has no backend yet, another reason may be counted, or that its client was rejected. */
void lb_session_kill(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason);

/* Its backend is to have no sessions any more. BACKEND_DOWN and BETTER_UP send one that is still connecting elsewhere,
 * if there is an elsewhere; any other is closed. True when it was closed. */
bool lb_session_cut(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason);

/* Called from the waiting room: try for a place. */
void lb_session_granted(struct lb_worker *worker, struct lb_waiting *entry);

/* Close it for this reason if it has been quiet for quiet_ms, and no doubt about that; true if so. */
bool lb_session_close_idle(struct lb_worker *worker, struct lb_session *session, uint32_t idle_ms,
                           enum l4lb_close reason);

/* If its backend is leaving, see to it that it is closed once it is quiet; if it is already, in wait_ms. True then. */
bool lb_session_drain(struct lb_worker *worker, struct lb_session *session, uint32_t wait_ms);

#endif
