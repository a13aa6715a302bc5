/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request - what another thread asks of this worker: list sessions, close one, close those of a backend.
 *
 * A request that concerns many sessions is done in parts (scan.h), one in each iteration of the loop, so that other
 * sessions are served in between. The asker waits for the last part.
 *
 * Owner:   one worker.
 * Memory:  the request is on the stack of the asker, which waits until it is answered.
 * Errors:  -errno, in the request's result.
 */
#ifndef LB_REQUEST_H
#define LB_REQUEST_H

#include "worker.h"

/* Take up a request if there is one, and do one part of it. */
void lb_request_work(struct lb_worker *worker);

#endif
