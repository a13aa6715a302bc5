/* SPDX-License-Identifier: Apache-2.0 */
/*
 * newcomers - clients that have not said yet what decides about them: a PROXY header, or a server name.
 *
 * They hold connections of the process, and a peer that stays silent holds one for nothing. So all newcomers together
 * may hold a quarter of them. When there are more, the oldest of this worker is turned away: a client that speaks does
 * so within milliseconds, so the oldest one is most likely to be silent. Accepting more slowly instead would let the
 * silent ones keep out those that speak.
 *
 * Owner:   the session's worker; the count is shared by all of them.
 * Memory:  none; a newcomer is on the list by the node that it needs only later, to relay.
 * Holds:   a worker keeps one newcomer in any case, so there may be as many too many as there are workers.
 */
#ifndef LB_NEWCOMERS_H
#define LB_NEWCOMERS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/base.h"
#include "base/bounds.h"
#include "base/list.h"
#include "session/session.h"
#include "session/worker.h"

static inline void lb_newcomers_add(struct lb_worker *worker, struct lb_session *session) {
    if (session->is_newcomer)
        return;
    session->is_newcomer = true;
    lb_list_append(&worker->newcomers, &session->ready);
    atomic_fetch_add(&worker->runtime->newcomers, 1);
}

/* It has spoken, or is gone. */
static inline void lb_newcomers_remove(struct lb_worker *worker, struct lb_session *session) {
    if (!session->is_newcomer)
        return;
    session->is_newcomer = false;
    lb_list_remove(&session->ready);
    lb_capacity_release(&worker->runtime->newcomers);
}

/* The one to turn away now that `latest` has joined, or NULL. */
static inline struct lb_session *lb_newcomers_excess(struct lb_worker *worker, const struct lb_session *latest) {
    uint32_t share = worker->runtime->sessions_max / LB_NEWCOMERS_SHARE;
    struct lb_session *oldest = container_of(worker->newcomers.next, struct lb_session, ready);

    if (atomic_load(&worker->runtime->newcomers) <= LB_MAX(share, (uint32_t)LB_NEWCOMERS_MIN) || oldest == latest)
        return NULL;
    return oldest;
}

#endif
