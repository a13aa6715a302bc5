/* SPDX-License-Identifier: Apache-2.0 */
#include "session/delivery.h"

#include "base/base.h"
#include "base/clock.h"
#include "kernel/sock.h"
#include "kernel/transport.h"

static uint32_t pending(const struct lb_side *side) {
    return side->fd < 0 || side->error || side->reset ? 0 : lb_side_unacknowledged(side);
}

uint32_t lb_delivery_pending(const struct lb_session *session) {
    return pending(&session->client) + pending(&session->server);
}

static bool has_unread(struct lb_side *side) {
    uint8_t byte;
    return lb_side_peek(side, &byte, 1).io == LB_IO_MOVED;
}

bool lb_delivery_has_unread(struct lb_session *session) {
    return has_unread(&session->client) || has_unread(&session->server);
}

/* When the kernel last sent this peer something new, which it does when the peer has taken what it had. 0 = the kernel
 * cannot say: the socket is not TCP, or it repeats what was lost. */
static uint64_t sent_ns(const struct lb_worker *worker, const struct lb_side *side) {
    uint64_t ago_ns;

    if (side->fd < 0 || side->error || side->reset || !lb_sock_since_sent(side->fd, &ago_ns))
        return 0;
    return worker->now_ns - LB_MIN(ago_ns, worker->now_ns);
}

bool lb_delivery_note(const struct lb_worker *worker, struct lb_session *session) {
    uint64_t client_ns = sent_ns(worker, &session->client), server_ns = sent_ns(worker, &session->server);
    uint64_t last_ns = LB_MAX(client_ns, server_ns);
    uint32_t left = (client_ns == 0 ? pending(&session->client) : 0) + (server_ns == 0 ? pending(&session->server) : 0);

    /* Where the kernel does not report a time, a changed number shows that the peer took bytes since the last look. */
    if (left > 0 && left != session->pending_bytes)
        last_ns = worker->now_ns;
    session->pending_bytes = left;
    /* The backend has the request only once all of it has arrived. */
    if (session->phase.state == LB_PHASE_WAIT)
        session->phase.client_ns = LB_MAX(session->phase.client_ns, server_ns);
    if (last_ns <= session->last_ns)
        return false;
    session->last_ns = last_ns;
    return true;
}
