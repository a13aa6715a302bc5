/* SPDX-License-Identifier: Apache-2.0 */
/*
 * delivery - the bytes of a session that are still in the kernel: not acknowledged by a peer, or not read by a relay.
 *
 * A successful write fills a send buffer of up to several megabytes. The peer may take minutes to read it, and the
 * session sees no event of that. So before silence closes a session, this module asks the kernel. While a peer still
 * takes bytes, the session is neither silent nor idle. The kernel is not asked while bytes move.
 *
 * Owner:   the session's worker.
 * Memory:  none.
 * Errors:  none; a socket that cannot be asked has delivered everything.
 */
#ifndef LB_DELIVERY_H
#define LB_DELIVERY_H

#include <stdbool.h>
#include <stdint.h>

#include "session/session.h"
#include "session/worker.h"

/* Bytes that were written to either side and not acknowledged yet. */
uint32_t lb_delivery_pending(const struct lb_session *session);

/* True if bytes have arrived that no relay has read: the next request, or more of the response where the last run was
 * cut short or the socket waits for a larger piece. */
bool lb_delivery_has_unread(struct lb_session *session);

/* Count what a peer took since the last byte moved as movement. True if it took anything. */
bool lb_delivery_note(const struct lb_worker *worker, struct lb_session *session);

#endif
