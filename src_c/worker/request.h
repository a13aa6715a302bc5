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

#include <stddef.h>
#include <stdint.h>

#include "l4lb.h"
#include "session/worker.h"

/* What a thread asks of a worker. Lives on the asker's stack until it is answered. */
struct lb_request {
    enum {
        LB_REQUEST_LIST,
        LB_REQUEST_KILL_SESSION,
        LB_REQUEST_KILL_BACKEND,
        LB_REQUEST_DRAIN,
        LB_REQUEST_CLOSE_IDLE
    } kind;
    uint64_t session; /* list: ids above it; kill: that one */
    uint32_t backend; /* slot */
    enum l4lb_close reason;
    struct l4lb_session_record *records;
    size_t n; /* room for records; most sessions to close */
    uint32_t idle_ms;
    int result;  /* how many, or -errno */
    int done_fd; /* eventfd, written when the result is there */
};

/* Take up a request if there is one, and do one part of it. */
void lb_request_work(struct lb_worker *worker);

#endif
