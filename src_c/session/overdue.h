/* SPDX-License-Identifier: Apache-2.0 */
/*
 * overdue - what is done about a connected session when its deadlines have passed.
 *
 * deadline.h says which deadline is next. Here it is met: a turn ends, an interval is told of, or the session is to be
 * closed. Before silence closes one, the kernel is asked whether it is silence (delivery.h). Then the timer is armed
 * for the next deadline.
 *
 * It never closes a session: it says why one has to be, and session_run.c does that.
 *
 * Owner:   the session's worker.
 * Memory:  none.
 * Errors:  none.
 */
#ifndef LB_OVERDUE_H
#define LB_OVERDUE_H

#include <stdbool.h>

#include "base/base.h"
#include "l4lb.h"
#include "session/session.h"
#include "session/worker.h"

/* Meet every deadline that has passed. True if the session is to be closed, for *reason; otherwise its timer is armed.
 */
LB_MUST_CHECK bool lb_overdue_meet(struct lb_worker *worker, struct lb_session *session, enum l4lb_close *reason);

/* True if the session has been idle for idle_ms: its last response is surely complete, and both peers have everything.
 */
bool lb_overdue_was_idle(struct lb_worker *worker, struct lb_session *session, uint32_t idle_ms);

#endif
