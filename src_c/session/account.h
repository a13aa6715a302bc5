/* SPDX-License-Identifier: Apache-2.0 */
/*
 * account - what a session counts for, and what is told of it.
 *
 * Every place a session holds (a connection of its backend, a turn, one of the busy) is a flag in the session and one
 * in a shared count, changed together here and nowhere else. Whoever frees a place calls the next from the waiting
 * room.
 *
 * Owner:   the session's worker; the counts are shared atomics, see shared.h.
 * Memory:  none.
 */
#ifndef LB_ACCOUNT_H
#define LB_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "l4lb.h"
#include "session/session.h"
#include "session/worker.h"

/* The numbers that this worker counts for the session's backend. */
static inline struct l4lb_backend_stats *lb_account_counters(struct lb_worker *worker,
                                                             const struct lb_session *session) {
    return &worker->counters.backends[session->backend];
}

/* The numbers that all workers share about the session's backend, and the waiting room of its pool. */
static inline struct lb_backend_shared *lb_account_shared(struct lb_worker *worker, const struct lb_session *session) {
    return &worker->runtime->shared.backends[session->backend];
}

static inline struct lb_queue *lb_account_queue(struct lb_worker *worker, const struct lb_session *session) {
    return &worker->runtime->shared.pools[session->pool].queue;
}

/* What this worker knows of how answers end in the session's pool. */
static inline struct lb_end_model *lb_account_end_model(struct lb_worker *worker, const struct lb_session *session) {
    return &worker->counters.end_models[session->pool];
}

/* Take up the connection and the turn that were reserved on backend `slot`: the first turn is expected at any moment.
 */
void lb_account_claim_backend(struct lb_worker *worker, struct lb_session *session, uint32_t slot);
/* The backend is done with it: give the connection, the turn and busy to others. It still is the session's backend. */
void lb_account_release_capacity(struct lb_worker *worker, struct lb_session *session);
/* It is no longer the session's backend. */
void lb_account_release_backend(struct lb_worker *worker, struct lb_session *session);

void lb_account_busy(struct lb_worker *worker, struct lb_session *session, bool busy);
/* Its first turn came, or is expected no longer. */
void lb_account_first_turn_started(struct lb_worker *worker, struct lb_session *session);

/* Microseconds in the waiting room until now, all its stays there together. */
uint32_t lb_account_waited_us(const struct lb_worker *worker, const struct lb_session *session);

void lb_account_describe(const struct lb_worker *worker, const struct lb_session *session,
                         struct l4lb_session_record *out);

/* Tell the control thread, if the snapshot asks for such events. */
void lb_account_record(struct lb_worker *worker, const struct lb_session *session, enum l4lb_event_kind event,
                       enum l4lb_close close);

#endif
