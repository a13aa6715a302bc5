/* SPDX-License-Identifier: Apache-2.0 */
/*
 * loop - the thread of a worker: waits for events and takes turns until the engine stops.
 *
 * A turn: read the clock, adopt a new snapshot, handle what epoll found, give relays that were cut short another go,
 * let timers expire, answer the control thread, accept again where there is place again.
 *
 * Owner:   the control thread starts and joins; the rest happens on the worker's own thread.
 * Holds:   a turn is bounded: in events, in bytes of each relay, in clients accepted from each socket.
 */
#ifndef LB_LOOP_H
#define LB_LOOP_H

#include "worker.h"

LB_MUST_CHECK int lb_loop_start(struct lb_worker *worker);
/* After lb_shared.stopping was set. Every session of the worker is closed then. */
void lb_loop_join(struct lb_worker *worker);

#endif
