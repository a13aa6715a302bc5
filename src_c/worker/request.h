/* SPDX-License-Identifier: Apache-2.0 */
/*
 * request - what another thread asks of a worker: list sessions, kill one, close or drain those of a backend.
 *
 * A request about many sessions is done in parts (scan.h), one in each iteration of the loop, so that other sessions
 * are served in between. The requesting thread waits for the last part.
 *
 * Owner:   one worker.
 * Memory:  the request is on the stack of the requesting thread, which waits for the result.
 * Errors:  -errno, in the request's result.
 */
#ifndef LB_REQUEST_H
#define LB_REQUEST_H

#include <stddef.h>
#include <stdint.h>

#include "l4lb.h"
#include "session/worker.h"

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
    size_t n; /* room for records, or the most sessions to close */
    uint32_t idle_ms;
    int result;  /* number of sessions, or -errno */
    int done_fd; /* eventfd, written when the result is set */
};

/* Begin a request if one waits, and do one part of it. */
void lb_request_work(struct lb_worker *worker);

#endif
