/* SPDX-License-Identifier: Apache-2.0 */
/*
 * overdue - acts on the deadlines of a connected session that have passed.
 *
 * deadline.h says which deadline is next. Here it is met: a turn ends, an interval event is recorded, or the session
 * has to close. Before silence closes a session, the kernel is asked whether its peers are still taking bytes
 * (delivery.h). Then the timer is armed for the next deadline.
 *
 * This module never closes a session. It returns the reason, and session_run.c closes.
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

/* Meet every deadline that has passed. True if the session has to close for *reason; otherwise its timer is armed.
 */
LB_MUST_CHECK bool lb_overdue_meet(struct lb_worker *worker, struct lb_session *session, enum l4lb_close *reason);

/* True if the session has been idle for idle_ms: its last response is surely complete, and both peers have everything.
 * Behind a response that is certainly complete LB_DRAIN_SOON_MS suffices: silence proves nothing there, and only spares
 * a client that sends its next request at once. */
bool lb_overdue_was_idle(struct lb_worker *worker, struct lb_session *session, uint32_t idle_ms);

#endif
