/* SPDX-License-Identifier: Apache-2.0 */
/*
 * turn - follows the turns of a session: its phase, what ends its responses, whether it is busy, and the times.
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

/* Bytes moved. Client bytes that cannot be a request are marked by lb_relay.may_request. With `more`, the backend's are
 * only a part of what is there to be read. */
void lb_turn_server_bytes(struct lb_worker *worker, struct lb_session *session, uint64_t bytes, bool more);
void lb_turn_client_bytes(struct lb_worker *worker, struct lb_session *session, uint64_t bytes);

/* End the turn if its silence has lasted long enough. */
void lb_turn_expire(struct lb_worker *worker, struct lb_session *session);

/* The backend has sent its FIN: the turn is over. */
void lb_turn_end(struct lb_worker *worker, struct lb_session *session);

#endif
