/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_sticky - a session's use of the stick table of its pool.
 *
 * A client goes to its remembered backend while that takes new sessions and has capacity. The entry is made once the
 * first session of the client has reached a backend. It is moved to another backend only after a session reached that
 * one because the remembered backend takes no new sessions (down, drained, removed, or its slot reused), or could not
 * be reached. A backend that is only full is passed over, and stays remembered.
 *
 * Owner:   the session's worker; the table is shared by all of them.
 * Memory:  none. A session that reached its backend holds at most one entry, and knows of which table.
 */
#ifndef LB_SESSION_STICKY_H
#define LB_SESSION_STICKY_H

#include <stdbool.h>

#include "base/base.h"
#include "config/balance.h"
#include "config/snapshot.h"
#include "session/session.h"
#include "session/worker.h"

/* The index in the pool of the client's remembered backend, reserved; else -EAGAIN. */
LB_MUST_CHECK int lb_session_sticky_pick(struct lb_worker *worker, const struct lb_session *session,
                                         const struct lb_pool *pool, const struct lb_balance_request *request);

/* Is the session's backend the remembered one of its client? */
LB_MUST_CHECK bool lb_session_sticky_binds(struct lb_worker *worker, const struct lb_session *session,
                                           const struct lb_pool *pool);

/* The session's backend failed it. If it is the remembered one, the client's next session may go elsewhere. */
void lb_session_sticky_unbind(struct lb_worker *worker, const struct lb_session *session);

/* The session reached its backend: hold the client's entry, and count a hit, a miss, a move or a pass. */
void lb_session_sticky_join(struct lb_worker *worker, struct lb_session *session);
void lb_session_sticky_release(struct lb_worker *worker, struct lb_session *session);

/* The worker has adopted a snapshot after `before` (NULL = none): its sessions join the tables of the new one. */
void lb_session_sticky_adopt(struct lb_worker *worker, const struct lb_snapshot *before);
/* Once in each iteration: let some more sessions join. */
void lb_session_sticky_rejoin(struct lb_worker *worker);

#endif
