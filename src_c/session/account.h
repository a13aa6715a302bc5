/* SPDX-License-Identifier: Apache-2.0 */
/*
 * account - the numbers that a session counts in, and the records of it for the control thread.
 *
 * Owner:   the session's worker.
 * Memory:  none.
 */
#ifndef LB_ACCOUNT_H
#define LB_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "l4lb.h"
#include "session/session.h"
#include "session/worker.h"

/* This worker's counters of the session's backend. */
static inline struct l4lb_backend_stats *lb_account_counters(struct lb_worker *worker,
                                                             const struct lb_session *session) {
    return &worker->counters.backends[session->claim.backend];
}

/* The numbers of the session's backend that all workers share, and the queue of its pool. */
static inline struct lb_backend_shared *lb_account_shared(struct lb_worker *worker, const struct lb_session *session) {
    return &worker->runtime->shared.backends[session->claim.backend];
}

static inline struct lb_queue *lb_account_queue(struct lb_worker *worker, const struct lb_session *session) {
    return &worker->runtime->shared.pools[session->pool].queue;
}

/* This worker's model of how responses end in the session's pool. */
static inline struct lb_end_model *lb_account_end_model(struct lb_worker *worker, const struct lb_session *session) {
    return &worker->counters.end_models[session->pool];
}

/* Microseconds in the queue so far, over all waits. */
uint32_t lb_account_waited_us(const struct lb_worker *worker, const struct lb_session *session);

void lb_account_describe(const struct lb_worker *worker, const struct lb_session *session,
                         struct l4lb_session_record *out);

/* The response of a followed session's oldest request is complete: record it, if the snapshot asks for that. */
void lb_account_record_request(struct lb_worker *worker, const struct lb_session *session);

/* Put an event into the ring, if the snapshot asks for events of this kind. */
void lb_account_record(struct lb_worker *worker, const struct lb_session *session, enum l4lb_event_kind event,
                       enum l4lb_close close);

#endif
