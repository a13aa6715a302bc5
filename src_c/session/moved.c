/* SPDX-License-Identifier: Apache-2.0 */
#include "session/moved.h"

#include "session/follow.h"
#include "session/turn.h"
#include "session/turn_exact.h"

/* The client is read first: if no response is in flight, its bytes are a request, and the backend's bytes are the
 * response to it. Otherwise the backend's bytes are the rest of the response before. */
static void both_moved(struct lb_worker *worker, struct lb_session *session, uint64_t up, uint64_t down, bool more) {
    bool request_first = session->up.may_request && !lb_phase_busy(&session->phase);

    if (request_first)
        lb_turn_client_bytes(worker, session, up);
    lb_turn_server_bytes(worker, session, down, more);
    if (!request_first)
        lb_turn_client_bytes(worker, session, up);
}

static void plain_moved(struct lb_worker *worker, struct lb_session *session, uint64_t up, uint64_t down, bool more) {
    if (up > 0 && down > 0)
        both_moved(worker, session, up, down, more);
    else if (up > 0)
        lb_turn_client_bytes(worker, session, up);
    else if (down > 0)
        lb_turn_server_bytes(worker, session, down, more);
}

/* False if the first bytes already pin the session: they are judged as those of a plain one. Later ones belong to the
 * turn that the exchange saw begin. */
static __attribute__((noinline)) bool followed_moved(struct lb_worker *worker, struct lb_session *session, uint64_t up,
                                                     uint64_t down) {
    bool pinned = session->followed->exchange.pin != L4LB_PIN_NONE;
    bool is_plain = pinned && !lb_session_has_requested(session);

    if (!is_plain)
        lb_turn_exact_moved(worker, session, up, down);
    if (!pinned)
        return true;
    lb_follow_pin(worker, session);
    /* As far as a plain session can tell, the backend responds, and silence will end the turn. */
    if (!is_plain && down > 0 && session->phase.state == LB_PHASE_WAIT)
        lb_phase_respond(&session->phase, worker->now_ns);
    return !is_plain;
}

void lb_session_moved(struct lb_worker *worker, struct lb_session *session, uint64_t up, uint64_t down, bool more) {
    LB_OWNER(worker);
    session->last_ns = worker->now_ns;
    if (session->followed == NULL || !followed_moved(worker, session, up, down))
        plain_moved(worker, session, up, down, more);
}
