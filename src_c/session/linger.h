/* SPDX-License-Identifier: Apache-2.0 */
/*
 * linger - the end of a session whose peers may not have everything yet.
 *
 * Closing a socket is not enough. If the peer has sent something that was not read, the kernel answers the close with a
 * reset, and so it does for whatever the peer sends later; a reset makes the kernel forget what it has not delivered,
 * and the peer's kernel may forget what its application has not read. So there are two ways to end:
 *
 *      finish  FIN follows the last byte. What the peer sends from then on is read and dropped, until its own end, or
 *              until everything has been acknowledged for LB_LINGER_MS. Every session that its peers did not end
 *              leaves like this.
 *      reset   a reset is passed on, once everything before it has been acknowledged.
 *
 * Either way a peer that takes nothing for the half-close timeout is reset, and twice the lifetime is the limit. Each
 * socket is closed as soon as it is through; with the backend's goes the session's capacity there.
 *
 * It never frees a session: it says when both sockets are closed, and session_run.c does what follows.
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
