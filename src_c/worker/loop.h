/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop - the thread of a worker: waits for events and handles them until the engine stops.
 *
 * An iteration reads the clock, adopts a new snapshot, handles epoll events and granted sessions, resumes relays that
 * used up their budget, expires timers, takes back idle pipes, works on requests of other threads, and accepts again if
 * there is capacity again.
 *
 * Owner:   the control thread starts and joins; the rest happens on the worker's own thread.
 * Holds:   an iteration is bounded: in events, in relays and the bytes of each, in timers, in sessions that a scan
 *          closes, in clients accepted from each socket. Work that is left over is done in the next iterations.
 */
#ifndef LB_LOOP_H
#define LB_LOOP_H

#include "session/worker.h"

LB_MUST_CHECK int lb_loop_start(struct lb_worker *worker);
/* Wait for the thread, after lb_runtime.stopping was set. It has closed every session of the worker. */
void lb_loop_join(struct lb_worker *worker);

/* Run one iteration, on the worker's thread. */
void lb_loop_iterate(struct lb_worker *worker);

#endif
