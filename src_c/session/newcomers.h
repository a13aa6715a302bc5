/* SPDX-License-Identifier: Apache-2.0 */
/*
 * newcomers - clients whose PROXY header or server name is still awaited.
 *
 * A silent peer must not use up the connections of the process, so newcomers may hold a quarter of them. Beyond that,
 * the worker reads what its oldest newcomer has sent, and rejects it if that is too little: an honest client sends
 * within milliseconds, so the oldest one is most likely to be silent. Accepting more slowly instead would let silent
 * peers keep honest ones out.
 *
 * Owner:   the session's worker; the count is shared by all of them.
 * Memory:  none; a newcomer is on the list by the node that it needs only later, to relay.
 * Holds:   each worker keeps at least one newcomer, so the quarter may be exceeded by the number of workers.
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

/* The client has sent what was awaited, or is gone. */
static inline void lb_newcomers_remove(struct lb_worker *worker, struct lb_session *session) {
    if (!session->is_newcomer)
        return;
    session->is_newcomer = false;
    lb_list_remove(&session->ready);
    lb_capacity_release(&worker->runtime->newcomers);
}

/* The newcomer to reject, if it is still silent, now that `latest` has joined; or NULL. */
static inline struct lb_session *lb_newcomers_excess(struct lb_worker *worker, const struct lb_session *latest) {
    uint32_t share = worker->runtime->sessions_max / LB_NEWCOMERS_SHARE;
    struct lb_session *oldest = container_of(worker->newcomers.next, struct lb_session, ready);

    if (atomic_load(&worker->runtime->newcomers) <= LB_MAX(share, (uint32_t)LB_NEWCOMERS_MIN) || oldest == latest)
        return NULL;
    return oldest;
}

#endif
