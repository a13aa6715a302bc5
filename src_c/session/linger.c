/* SPDX-License-Identifier: Apache-2.0 */
#include "session/linger.h"

#include "base/bounds.h"
#include "base/clock.h"
#include "kernel/transport.h"
#include "session/account.h"
#include "session/deadline.h"
#include "session/delivery.h"

/* It looks whether bytes were acknowledged after this long; less and less often while they are not: after another
 * quarter of the time it has waited. */
enum { LOOK_MS = 20, LOOK_SHARE = 4 };

static bool is_closed(const struct lb_session *session) { return session->client.fd < 0 && session->server.fd < 0; }

/* ---- one side ---------------------------------------------------------------------------------------------------- */

/* Read and drop what came, a bounded part of it at once. True at the peer's end, whichever it is. */
static bool discard(struct lb_worker *worker, struct lb_side *side) {
    for (uint32_t left = LB_RELAY_BUDGET_BYTES / LB_COPY_BYTES; side->can_read && left > 0; left--) {
        enum lb_io io = lb_side_recv(side, worker->relay_env.scratch, LB_COPY_BYTES).io;
        if (io == LB_IO_END || io == LB_IO_BROKEN)
            return true;
    }
    return false;
}

static void close_side(struct lb_worker *worker, struct lb_session *session, struct lb_side *side, bool reset) {
    lb_side_close(side, reset);
    if (side == &session->server)
        lb_claim_drop_capacity(&session->claim, &worker->runtime->shared);
}

static void look_at(struct lb_worker *worker, struct lb_session *session, struct lb_side *side) {
    bool broken = side->error || side->reset;

    if (side->fd < 0)
        return;
    if (session->resets) {
        if (broken || lb_side_unacknowledged(side) == 0)
            close_side(worker, session, side, true);
    } else if (broken || discard(worker, side)) {
        /* The kernel delivers what is unacknowledged. The peer sends nothing more, so the kernel has no cause for a
         * reset. */
        close_side(worker, session, side, false);
    }
}

static void finish_side(struct lb_worker *worker, struct lb_session *session, struct lb_side *side, bool cut) {
    if (cut) {
        close_side(worker, session, side, true);
        return;
    }
    if (side == &session->server && lb_side_unacknowledged(side) == 0) {
        close_side(worker, session, side, false);
        return;
    }
    (void)lb_side_finish(side);
    look_at(worker, session, side);
}

/* ---- both -------------------------------------------------------------------------------------------------------- */

/* What a peer has not acknowledged, but for the FIN after it. */
static uint32_t undelivered(const struct lb_session *session) {
    uint32_t fins = session->resets ? 0 : (uint32_t)(session->client.fd >= 0) + (uint32_t)(session->server.fd >= 0);
    uint32_t bytes = lb_delivery_pending(session);

    return bytes - LB_MIN(bytes, fins);
}

static void give_up(struct lb_worker *worker, struct lb_session *session, bool reset) {
    close_side(worker, session, &session->server, reset);
    close_side(worker, session, &session->client, reset);
}

bool lb_linger_look(struct lb_worker *worker, struct lb_session *session) {
    uint64_t patience_ms = LB_LINGER_MS, waited_ms, next_ms;
    uint32_t bytes;

    LB_OWNER(worker);
    look_at(worker, session, &session->server);
    look_at(worker, session, &session->client);
    if (is_closed(session))
        return true;
    bytes = undelivered(session);
    if (bytes != session->pending_bytes)
        session->last_ns = worker->now_ns;
    session->pending_bytes = bytes;
    waited_ms = (worker->now_ns - session->last_ns) / LB_NS_PER_MS;
    if (bytes > 0)
        patience_ms = session->timeouts.half_close_ms;
    if (waited_ms >= patience_ms || worker->now_ms >= lb_deadline_overtime_ms(session)) {
        give_up(worker, session, session->resets || bytes > 0);
        return true;
    }
    next_ms = patience_ms - waited_ms;
    if (bytes > 0 || session->client.can_read || session->server.can_read)
        next_ms = LB_MIN(LB_MAX((uint64_t)LOOK_MS, waited_ms / LOOK_SHARE), next_ms);
    lb_timer_arm(&worker->wheel, &session->timer, LB_MIN(worker->now_ms + next_ms, lb_deadline_overtime_ms(session)));
    return false;
}

static void begin(struct lb_worker *worker, struct lb_session *session, bool resets) {
    session->state = LB_SESSION_LINGER;
    session->resets = resets;
    session->pending_bytes = UINT32_MAX;
    lb_list_remove(&session->ready);
    lb_relay_fini(&session->up, &worker->relay_env);
    lb_relay_fini(&session->down, &worker->relay_env);
}

bool lb_linger_finish(struct lb_worker *worker, struct lb_session *session, bool cut_client, bool cut_server) {
    LB_OWNER(worker);
    begin(worker, session, false);
    finish_side(worker, session, &session->server, cut_server);
    finish_side(worker, session, &session->client, cut_client);
    return is_closed(session) || lb_linger_look(worker, session);
}

bool lb_linger_reset(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    begin(worker, session, true);
    close_side(worker, session, session->client.reset ? &session->client : &session->server, false);
    return lb_linger_look(worker, session);
}

void lb_linger_end(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    look_at(worker, session, &session->server);
    look_at(worker, session, &session->client);
    give_up(worker, session, session->resets);
}
