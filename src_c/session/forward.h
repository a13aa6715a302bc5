/* SPDX-License-Identifier: Apache-2.0 */
/*
 * forward - moves the bytes of a connected session in both directions, and passes on their ends.
 *
 * A FIN is passed on as a FIN after the last byte of its direction. When the backend has finished, its turn ends and
 * its capacity is free. A reset is only reported, once every byte that came before it is through.
 *
 * It never closes a session: it says how the session stands, and session_run.c does what follows.
 *
 * Owner:   the session's worker.
 * Memory:  none but what the relays take.
 * Errors:  LB_FORWARD_NOMEM.
 */
#ifndef LB_FORWARD_H
#define LB_FORWARD_H

#include "base/base.h"
#include "session/session.h"
#include "session/worker.h"

enum lb_forward {
    LB_FORWARD_OPEN,     /* at least one direction goes on */
    LB_FORWARD_FINISHED, /* both directions have ended */
    LB_FORWARD_DETACHED, /* the backend ended its connection at a boundary (followed.h): the client stays */
    LB_FORWARD_RESEND,   /* it ended the connection instead of responding to a request that can be sent again */
    LB_FORWARD_BROKEN,   /* a side was reset, and what it sent before was delivered */
    LB_FORWARD_NOMEM,    /* no memory for bytes that were read */
};

/* Move what can be moved. A session that has more to move is put on the worker's ready list. */
LB_MUST_CHECK enum lb_forward lb_forward_run(struct lb_worker *worker, struct lb_session *session);

/* The same for a followed session. At a boundary the client is not read until its next request has been placed. */
LB_MUST_CHECK enum lb_forward lb_forward_followed(struct lb_worker *worker, struct lb_session *session);

#endif
