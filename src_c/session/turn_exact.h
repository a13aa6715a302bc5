/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turn_exact - the turns of a followed session, as its messages tell: nothing is learnt or guessed here (turn.h).
 *
 * A turn begins with the first byte of a request and ends with the last byte of its response. Pipelined requests are
 * turns one after another: a later one begins where the response before it ends. The session is busy while any request
 * is outstanding, and holds one turn of its backend.
 *
 * Owner:   the session's worker.
 * Memory:  none.
 */
#ifndef LB_TURN_EXACT_H
#define LB_TURN_EXACT_H

#include <stdint.h>

#include "session/followed.h"

/* Bytes moved; the exchange has seen them. */
void lb_turn_exact_moved(struct lb_worker *worker, struct lb_session *session, uint64_t up, uint64_t down);

/* The request in flight is sent again, to the current backend. */
void lb_turn_exact_resend(struct lb_worker *worker, struct lb_session *session);

/* The backend has sent its FIN, which ends a response without a length. */
void lb_turn_exact_end(struct lb_worker *worker, struct lb_session *session);

#endif
