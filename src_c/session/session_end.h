/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_end - how a session ends: at once, after its peers have everything, or because one of them broke.
 *
 * A session is recorded once, with its close reason; a rejected client is only counted.
 *
 * Owner:   the session's worker.
 * Memory:  everything that a session holds is given back here, and nowhere else.
 * Errors:  none.
 */
#ifndef LB_SESSION_END_H
#define LB_SESSION_END_H

#include <stdbool.h>

#include "l4lb.h"
#include "session/session.h"
#include "session/worker.h"

/* End the session. Each peer gets a FIN after everything that was sent to it, while the session lingers. A peer that is
 * still owed bytes gets a RST, not a FIN. A session that lingers already is closed at once. */
void lb_session_close(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason);

/* End the session on request. Before it has a backend, the reason is counted as one of connecting or of the queue, and
 * a newcomer as a rejected client. */
void lb_session_kill(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason);

/* End the session at once: each socket is closed, with a reset where that is wanted. */
void lb_session_drop(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason, bool reset_client,
                     bool reset_server);

/* Reject a client that has no pool yet. */
void lb_session_reject(struct lb_worker *worker, struct lb_session *session, enum l4lb_reject reason);

/* One side was reset, and what it sent before was delivered: propagate the reset. */
void lb_session_break(struct lb_worker *worker, struct lb_session *session);

/* Something happened to a lingering session, or it is time to look. */
void lb_session_linger(struct lb_worker *worker, struct lb_session *session);

/* The PROXY header is on its way, or will never be. */
void lb_session_drop_tlvs(struct lb_session *session);

/* The reason as it is counted for a session that is still connecting. */
enum l4lb_close lb_close_while_connecting(enum l4lb_close reason);

#endif
