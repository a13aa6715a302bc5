/* SPDX-License-Identifier: Apache-2.0 */
/*
 * moved - the one entry for bytes of a connected session, whatever moved them: a relay in this process, or the kernel.
 *
 * Everything that follows from bytes begins here: the time of the last movement, the phase, the turn, `busy`, and the
 * counters of the backend. Deadlines are computed from these fields (deadline.h).
 *
 * Owner:   the session's worker.
 * Memory:  none.
 * Errors:  none.
 */
#ifndef LB_MOVED_H
#define LB_MOVED_H

#include <stdbool.h>
#include <stdint.h>

#include "session/session.h"
#include "session/worker.h"

/* `up` bytes were taken from the client and `down` from the backend since the last call. With `more`, the backend's are
 * a part of what is there to be read. Both are 0 when only bytes that were held went out, or a side ended. */
void lb_session_moved(struct lb_worker *worker, struct lb_session *session, uint64_t up, uint64_t down, bool more);

#endif
