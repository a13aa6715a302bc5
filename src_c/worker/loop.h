/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop - the thread of a worker: waits for events and handles them until the engine stops.
 *
 * An iteration: read the clock, adopt a new snapshot, handle what epoll found, give relays that were cut short another
 * go, let timers expire, work on what the control thread asked, accept again where there is capacity again.
 *
 * Owner:   the control thread starts and joins; the rest happens on the worker's own thread.
 * Holds:   an iteration is bounded: in events, in relays and the bytes of each, in timers, in sessions that a scan
 *          closes, in clients accepted from each socket. What is left over is done in the next iterations.
 */
#ifndef LB_LOOP_H
#define LB_LOOP_H

#include "session/worker.h"

LB_MUST_CHECK int lb_loop_start(struct lb_worker *worker);
/* After lb_runtime.stopping was set. Every session of the worker is closed then. */
void lb_loop_join(struct lb_worker *worker);

/* One iteration, on the worker's thread. */
void lb_loop_iterate(struct lb_worker *worker);

#endif
