/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_validate - what must be so of a session whenever it is not being worked on.
 *
 * The worker's loop asks after each thing that it dispatched. It costs nothing in builds without LB_VALIDATE.
 *
 * Owner:   the session's worker.
 * Memory:  none.
 * Errors:  ends the process.
 */
#ifndef LB_SESSION_VALIDATE_H
#define LB_SESSION_VALIDATE_H

#include "session/session.h"
#include "session/worker.h"

#ifdef LB_VALIDATE
/* The session may have been freed, as long as its entry was not reused. */
void lb_session_validate(const struct lb_worker *worker, const struct lb_session *session);
#else
static inline void lb_session_validate(const struct lb_worker *worker, const struct lb_session *session) {
    (void)worker;
    (void)session;
}
#endif

#endif
