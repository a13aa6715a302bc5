/* SPDX-License-Identifier: Apache-2.0 */
/*
 * greeting - what a client says before it has a pool: its PROXY header, and the server name in its ClientHello.
 *
 * The header is looked at until it is whole, and only then taken. The ClientHello is only looked at: the backend gets
 * it as it came.
 *
 * It never closes a session: it says how things stand, and session_run.c does what follows.
 *
 * Owner:   the session's worker.
 * Memory:  of the header, what is for the backend is kept in the session (`tlvs`).
 * Errors:  LB_GREETING_REJECT, with the reason.
 */
#ifndef LB_GREETING_H
#define LB_GREETING_H

#include <stdint.h>

#include "base/base.h"
#include "l4lb.h"
#include "session/session.h"
#include "session/worker.h"

enum lb_greeting {
    LB_GREETING_WAIT,      /* not enough bytes yet */
    LB_GREETING_HELLO,     /* accepted; wait for the server name */
    LB_GREETING_POOL,      /* accepted, with a pool */
    LB_GREETING_ABANDONED, /* accepted, but the client has gone */
    LB_GREETING_REJECT,    /* rejected */
};

struct lb_greeted {
    enum lb_greeting how;
    union {
        uint32_t pool; /* POOL, ABANDONED: its index in the snapshot */
        enum l4lb_reject reason;
    };
};

/* A client without a PROXY header to wait for, or whose header is complete. */
struct lb_greeted lb_greeting_admit(const struct lb_listener *listener);

/* Read what has arrived of the PROXY header, of the ClientHello. */
struct lb_greeted lb_greeting_read_header(struct lb_worker *worker, struct lb_session *session);
struct lb_greeted lb_greeting_read_hello(struct lb_worker *worker, struct lb_session *session);

/* The client said too little for too long. Without a header it is not let in; without a name it is, for it may be
 * waiting for the server to speak first. */
struct lb_greeted lb_greeting_expire(const struct lb_worker *worker, const struct lb_session *session);

#endif
