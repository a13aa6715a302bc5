/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_sticky - what sessions do with the sticky table of their pool.
 *
 * A client goes to the backend that it was given before, as long as that one takes new sessions and has a place. Its
 * entry is made when its first session has reached a backend, not before. It names another one only after a session
 * reached that because the former takes no new sessions (down, drained, gone, or its slot is a stranger's by now), or
 * could not be reached. A backend that is only full is passed over, and remembered.
 *
 * Owner:   the session's worker; the table is shared by all of them.
 * Memory:  none. A session that reached its backend holds a place in a table of its pool, or none; it says in which.
 */
#ifndef LB_SESSION_STICKY_H
#define LB_SESSION_STICKY_H

#include <stdbool.h>

#include "base/base.h"
#include "config/snapshot.h"
#include "session/session.h"
#include "session/worker.h"

/* The index in the pool of the backend that the session's client was given, with a place reserved; else -EAGAIN. */
LB_MUST_CHECK int lb_session_sticky_pick(struct lb_worker *worker, const struct lb_session *session,
                                         const struct lb_pool *pool);

/* Is the session's backend the one that its client was given? */
LB_MUST_CHECK bool lb_session_sticky_binds(struct lb_worker *worker, const struct lb_session *session,
                                           const struct lb_pool *pool);

/* The session's backend was not the right one: if it is the one that the client was given, the next session of the
 * client is free to go elsewhere. */
void lb_session_sticky_unbind(struct lb_worker *worker, const struct lb_session *session);

/* The session reached its backend: hold the client's entry, and count what became of it. */
void lb_session_sticky_join(struct lb_worker *worker, struct lb_session *session);
void lb_session_sticky_release(struct lb_worker *worker, struct lb_session *session);

/* The worker has moved on from `before` (NULL = none): its sessions join the tables of the new snapshot. */
void lb_session_sticky_adopt(struct lb_worker *worker, const struct lb_snapshot *before);
/* Once in each iteration of the loop: let some more of them join. */
void lb_session_sticky_rejoin(struct lb_worker *worker);

#endif
