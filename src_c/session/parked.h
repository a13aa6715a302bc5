/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parked - backend connections that a followed session keeps for its later requests.
 *
 * When a request goes to another backend, the connection to the one before is parked, at most LB_PARKED_MAX of them. It
 * is closed when its backend sends a FIN, a reset or a byte that no request had asked for, when the backend drains, and
 * when it was idle for `backend_keepalive_ms`, which is shorter than servers keep idle connections: a request should
 * not meet a connection that its server is closing. For a backend that has no connection to spare none is parked.
 *
 * No other session ever gets it, so bytes of two clients never share a connection.
 *
 * Owner:   the session's worker.
 * Memory:  in `struct lb_followed`.
 * Holds:   a parked connection counts as one of the connections of its backend, and holds no turn.
 */
#ifndef LB_PARKED_H
#define LB_PARKED_H

#include <stdbool.h>
#include <stdint.h>

#include "session/followed.h"
#include "session/session.h"
#include "session/worker.h"

/* Other sessions need the connections of this backend more than one that has no request for it: the backend has as
 * many as it may have, or the pool does not have it any more. */
bool lb_parked_is_wanted(const struct lb_worker *worker, const struct lb_session *session, uint32_t backend);

/* Park the current backend connection, or close it if it is wanted. Does nothing without one. */
void lb_parked_put(struct lb_worker *worker, struct lb_session *session);

/* Make the connection parked for this backend the current one, for a request that has reserved a turn there, and park
 * the current one. False if none is parked for it. */
bool lb_parked_take(struct lb_worker *worker, struct lb_session *session, uint32_t backend);

/* A serial for a new backend connection: no parked one has it. */
uint8_t lb_parked_next_serial(struct lb_followed *followed);

/* epoll reported `events` for a backend connection of this serial that is not the current one. */
void lb_parked_event(struct lb_worker *worker, struct lb_session *session, uint8_t serial, uint32_t events);

/* When the first parked connection is due to be closed; UINT64_MAX = never. */
uint64_t lb_parked_due_ms(const struct lb_worker *worker, const struct lb_session *session);

/* Close the connections that are due. */
void lb_parked_close_due(struct lb_worker *worker, struct lb_session *session);

/* Close those to this backend. */
void lb_parked_close_of(struct lb_worker *worker, struct lb_session *session, uint32_t backend);

/* Close all of them. */
void lb_parked_close_all(struct lb_worker *worker, struct lb_session *session);

#endif
