/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listener - one worker's listening sockets.
 *
 * Sockets are watched level-triggered, and clients are accepted in small bursts, so that an accept flood cannot starve
 * established sessions. A socket is paused (not watched) while there is no capacity for its clients, or while the
 * kernel is out of descriptors or memory: clients then wait in the backlog, at no cost.
 *
 * Owner:   one worker.
 */
#ifndef LB_LISTENER_H
#define LB_LISTENER_H

#include "session/worker.h"

/* Accept clients from the socket `fd`. */
void lb_listener_accept(struct lb_worker *worker, int fd);

/* Accept the clients in the backlogs of sockets that `next` no longer has: they would be reset when the socket is
 * closed. True if those backlogs are empty; false if this call did its share and there are more. */
LB_MUST_CHECK bool lb_listener_empty(struct lb_worker *worker, const struct lb_snapshot *next);

/* Move from the worker's snapshot to the next one: watch new sockets, unwatch removed ones. */
void lb_listener_adopt(struct lb_worker *worker, struct lb_snapshot *next);

/* Watch paused sockets again, if there is capacity now. */
void lb_listener_resume(struct lb_worker *worker);

/* Before the thread ends: unwatch all sockets. Waiting clients stay in the backlogs. */
void lb_listener_unwatch(struct lb_worker *worker);

#endif
