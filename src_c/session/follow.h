/* SPDX-License-Identifier: Apache-2.0 */
/*
 * follow - begins and ends the following of a session's messages (followed.h).
 *
 * Owner:   the session's worker.
 * Memory:  the block of a followed session.
 * Errors:  -ENOMEM: the session is a plain one, and counted as pinned (L4LB_PIN_RESOURCE).
 */
#ifndef LB_FOLLOW_H
#define LB_FOLLOW_H

#include "base/base.h"
#include "session/followed.h"

/* Before a byte of the client is relayed. */
LB_MUST_CHECK int lb_follow_begin(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool);

/* Close the parked connections and free what only a followed session has. */
void lb_follow_free(struct lb_worker *worker, struct lb_session *session);

/* The same; does nothing for a plain session. */
static inline void lb_follow_end(struct lb_worker *worker, struct lb_session *session) {
    if (session->followed != NULL)
        lb_follow_free(worker, session);
}

/* The exchange cannot be followed any further: count its reason, and end following. */
void lb_follow_pin(struct lb_worker *worker, struct lb_session *session);

#endif
