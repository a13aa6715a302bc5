/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener - one worker's listening sockets.
 *
 * Sockets are watched level-triggered and emptied in small bursts, so that a flood of clients leaves turns to those
 * who are in. A socket is paused (not watched) when there is no place for its clients, or when the system refuses
 * descriptors: they wait in the kernel's queue, at no cost, until there is.
 *
 * Owner:   one worker.
 */
#ifndef LB_LISTENER_H
#define LB_LISTENER_H

#include "session/worker.h"

/* The socket `fd` has clients. */
void lb_listener_accept(struct lb_worker *worker, int fd);

/* Clients in the queue of a socket that goes away would be reset with it: let them in. True when those queues are
 * empty; false when this call did its share and there are more. */
LB_MUST_CHECK bool lb_listener_empty(struct lb_worker *worker, const struct lb_snapshot *next);

/* Move from the worker's snapshot to the next one: watch what is new, forget what is gone. */
void lb_listener_adopt(struct lb_worker *worker, struct lb_snapshot *next);

/* Watch paused sockets again if there is a place now. */
void lb_listener_resume(struct lb_worker *worker);

/* Before the thread ends: watch no socket. Clients that wait stay in the queues. */
void lb_listener_unwatch(struct lb_worker *worker);

#endif
