/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linger - ends a session whose peers may not have received everything yet.
 *
 * Closing a socket is not enough. If bytes of the peer are unread, or arrive later, the kernel sends a reset. A reset
 * discards what the kernel has not delivered, and the peer's kernel may discard what its application has not read. So
 * there are two ways to end:
 *
 *      finish  A FIN follows the last byte. What the peer sends afterwards is read and dropped, until its FIN, or until
 *              everything has been acknowledged for LB_LINGER_MS. Every session that l4lb ends goes this way.
 *      reset   The reset of one peer is propagated, once everything before it has been acknowledged.
 *
 * Either way, a peer that takes nothing for the half-close timeout is reset, and twice the lifetime is the limit. Each
 * socket is closed as soon as it is done. Closing the backend's socket releases the session's capacity there.
 *
 * This module never frees a session. It reports when both sockets are closed, and session_run.c acts on that.
 *
 * Owner:   the session's worker.
 * Memory:  none.
 */
#ifndef LB_LINGER_H
#define LB_LINGER_H

#include <stdbool.h>

#include "base/base.h"
#include "session/session.h"
#include "session/worker.h"

/* End a connected session. A side that is cut still misses bytes that were read for it: it gets a reset at once. True
 * when both sockets are closed. */
LB_MUST_CHECK bool lb_linger_finish(struct lb_worker *worker, struct lb_session *session, bool cut_client,
                                    bool cut_server);

/* Pass on the reset of one side, which is closed, to the other. True when both sockets are closed. */
LB_MUST_CHECK bool lb_linger_reset(struct lb_worker *worker, struct lb_session *session);

/* Something happened to a lingering session, or it is time to look. True when both sockets are closed. */
LB_MUST_CHECK bool lb_linger_look(struct lb_worker *worker, struct lb_session *session);

/* Wait no longer. The kernel still delivers what was finished, for as long as it likes. */
void lb_linger_end(struct lb_worker *worker, struct lb_session *session);

#endif
