/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turn - keeps the books of a session's turns: its phase, what ends its answers, who is busy, how long
 * things took.
 *
 * Owner:   the session's worker.
 * Memory:  none.
 */
#ifndef LB_TURN_H
#define LB_TURN_H

#include <stdbool.h>
#include <stdint.h>

#include "session/session.h"
#include "session/worker.h"

/* Bytes came through. Those of the client may be known to ask for nothing (lb_relay.asked). Those of the backend may be
 * a part of what is there to be read, and there are `more`. */
void lb_turn_server_bytes(struct lb_worker *worker, struct lb_session *session, uint64_t bytes, bool more);
void lb_turn_client_bytes(struct lb_worker *worker, struct lb_session *session, uint64_t bytes);

/* Time passed: the turn may be over. */
void lb_turn_expire(struct lb_worker *worker, struct lb_session *session);

/* The backend has ended: no turn can go on. */
void lb_turn_end(struct lb_worker *worker, struct lb_session *session);

#endif
