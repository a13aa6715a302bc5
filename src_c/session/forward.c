/* SPDX-License-Identifier: Apache-2.0 */
#include "session/forward.h"

#include "base/count.h"
#include "kernel/transport.h"
#include "session/followed.h"
#include "session/moved.h"
#include "session/place.h"
#include "session/turn.h"
#include "session/turn_exact.h"

/* The sink has everything that the source sent: send the FIN. */
static void pass_end(struct lb_relay *relay, struct lb_side *sink) {
    if (!relay->finished && !relay->sink_gone)
        relay->finished = lb_side_finish(sink) != LB_IO_WAIT;
}

/* A side is not read after its FIN, or while its bytes have nowhere to go. Its errors show only here. */
static void latch_error(struct lb_side *side, bool done) {
    if (side->reset || !side->error || !done)
        return;
    lb_side_latch_error(side);
}

/* What the end of a followed session's backend connection means, if that is not the end of the session. */
static enum lb_forward backend_ended(struct lb_session *session) {
    if (!session->down.eof || session->client.reset || session->up.eof)
        return LB_FORWARD_OPEN;
    if (lb_followed_at_boundary(session))
        return LB_FORWARD_DETACHED;
    return lb_place_may_resend(session) ? LB_FORWARD_RESEND : LB_FORWARD_OPEN;
}

/* Propagate the ends that the relays found. */
static inline __attribute__((always_inline)) enum lb_forward pass_ends(struct lb_worker *worker,
                                                                       struct lb_session *session, bool followed) {
    bool up_done = lb_relay_is_done(&session->up), down_done = lb_relay_is_done(&session->down);
    bool client_done, server_done;

    latch_error(&session->client, up_done);
    latch_error(&session->server, down_done);
    /* A broken side is finished once what it sent has been delivered. Nothing can be delivered to it. */
    client_done = session->client.reset && up_done;
    server_done = session->server.reset && down_done;
    if (client_done || server_done)
        return LB_FORWARD_BROKEN;
    if (down_done && !session->down.finished) {
        if (followed && session->followed != NULL && !session->server.reset && !session->down.sink_gone)
            lb_turn_exact_end(worker, session);
        lb_turn_end(worker, session);
        /* The backend has sent everything. The client may keep its side open for long. */
        if (!session->down.sink_gone)
            lb_claim_drop_capacity(&session->claim, &worker->runtime->shared);
    }
    if (up_done && down_done)
        return LB_FORWARD_FINISHED;
    if (up_done && !session->up.finished)
        session->owed = lb_phase_busy(&session->phase);
    if (up_done)
        pass_end(&session->up, &session->server);
    if (down_done)
        pass_end(&session->down, &session->client);
    return LB_FORWARD_OPEN;
}

/* Bytes of the client that were read before go out, whether or not more may be read. */
static enum lb_relay_result run_up(struct lb_worker *worker, struct lb_session *session, bool *moved) {
    bool can_read = session->client.can_read;
    enum lb_relay_result result;

    if (lb_followed_may_read(session))
        return lb_relay_run(&session->up, &session->client, &session->server, &worker->relay_env, moved);
    session->client.can_read = false;
    result = lb_relay_run(&session->up, &session->client, &session->server, &worker->relay_env, moved);
    session->client.can_read = can_read;
    return result;
}

/* `followed` is a constant, so that a plain session is spared the checks for followed ones. */
static inline __attribute__((always_inline)) enum lb_forward run(struct lb_worker *worker, struct lb_session *session,
                                                                 bool followed) {
    uint64_t up_before = session->up.bytes, down_before = session->down.bytes;
    enum lb_relay_result up, down;
    enum lb_forward ended = LB_FORWARD_OPEN;
    bool moved = false;

    up = followed ? run_up(worker, session, &moved)
                  : lb_relay_run(&session->up, &session->client, &session->server, &worker->relay_env, &moved);
    down = lb_relay_run(&session->down, &session->server, &session->client, &worker->relay_env, &moved);
    /* A write found the client broken. What the client sent before is still unread; a request that was not placed needs
     * no response. */
    if (session->client.reset && followed && !lb_followed_may_read(session))
        session->up.eof = true;
    if (session->client.reset && !session->up.eof)
        up = lb_relay_run(&session->up, &session->client, &session->server, &worker->relay_env, &moved);

    if (moved)
        lb_session_moved(worker, session, session->up.bytes - up_before, session->down.bytes - down_before,
                         down == LB_RELAY_AGAIN);
    else
        lb_count_add(&worker->stats.idle_wakeups_total, 1);

    if (up == LB_RELAY_NOMEM || down == LB_RELAY_NOMEM)
        return LB_FORWARD_NOMEM;
    if (up == LB_RELAY_AGAIN || down == LB_RELAY_AGAIN)
        lb_list_append(&worker->ready, &session->ready);
    if (followed && session->followed != NULL)
        ended = backend_ended(session);
    return ended != LB_FORWARD_OPEN ? ended : pass_ends(worker, session, followed);
}

enum lb_forward lb_forward_run(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    return run(worker, session, false);
}

enum lb_forward lb_forward_followed(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    return run(worker, session, true);
}
