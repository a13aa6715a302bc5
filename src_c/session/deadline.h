/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deadline - when a session has to be looked at next, and why.
 *
 * A session has one timer, which is always armed. Its deadlines are computed from its fields when they are needed; none
 * is stored. lb_deadline_next() says which one is next: the timer is armed for that one, and when it fires, the same
 * function says what to do. A deadline that moves away costs nothing: the timer fires too early and is armed again.
 * One that comes nearer needs lb_deadline_arm_relay(), after every event.
 *
 *      SILENCE     no byte moved for longer than the phase allows: the session is closed
 *      LIFETIME    it has lived long enough: closed; in the middle of a turn only in overtime, as long again
 *      FIRST_BYTE  the client asked nothing, or the backend answered nothing at all: closed
 *      LEAVE       its backend is drained, and it is quiet: closed
 *      COMING      the first turn of a new session did not come: its reservation is given up
 *      TURN        an answer has been silent for so long that its turn is over
 *      INTERVAL    an interval event is due
 *
 * All times are milliseconds of CLOCK_MONOTONIC, UINT64_MAX = never.
 *
 * Owner:   the session's worker.
 * Memory:  none.
 */
#ifndef LB_DEADLINE_H
#define LB_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "session/session.h"
#include "session/worker.h"

enum lb_due {
    LB_DUE_SILENCE,
    LB_DUE_LIFETIME,
    LB_DUE_FIRST_BYTE,
    LB_DUE_DRAIN,
    LB_DUE_FIRST_TURN,
    LB_DUE_TURN,
    LB_DUE_INTERVAL,
};

struct lb_deadline {
    uint64_t at_ms;
    enum lb_due kind;
};

/* The next deadline of a connected session. It may have passed already. */
struct lb_deadline lb_deadline_next(const struct lb_worker *worker, const struct lb_session *session);

/* When a session has lived twice its lifetime: nothing goes on after that. */
uint64_t lb_deadline_overtime_ms(const struct lb_session *session);

/* When the turn is over if nothing comes. Not while the client takes nothing: more of the answer may wait behind. */
uint64_t lb_deadline_turn_ms(const struct lb_session *session);

/* When a quiet session leaves a backend that is drained. */
uint64_t lb_deadline_drain_ms(const struct lb_worker *worker, const struct lb_session *session);

/* True if the last answer is complete: in this pool, nothing ever followed a piece like its last one. */
bool lb_deadline_is_certain(const struct lb_worker *worker, const struct lb_session *session);

/* True if the session leaves although its client still has to take the end of its last response: the FIN follows behind
 * that. So it is in an old drain once the backend is silent, unless it only waits for room. */
bool lb_deadline_closes_behind_data(const struct lb_worker *worker, const struct lb_session *session);

/* True if only silence suggests that the last answer is complete, in a pool where its last piece normally tells. */
bool lb_deadline_in_doubt(const struct lb_worker *worker, const struct lb_session *session);

/* True if the response has come bit by bit and nothing says that it is complete: it may only have paused. */
bool lb_deadline_may_have_paused(const struct lb_session *session);

/* Why it is closed when silence has been too long. */
enum l4lb_close lb_deadline_silence_reason(const struct lb_session *session);

/* Arm the timer for `at_ms`, or for the end of the lifetime if that is sooner. */
void lb_deadline_arm(struct lb_worker *worker, struct lb_session *session, uint64_t at_ms);

/* Arm the timer of a connected session for its next deadline, unless it fires sooner anyway. */
void lb_deadline_arm_relay(struct lb_worker *worker, struct lb_session *session);

/* The same when the next deadline is known. */
void lb_deadline_arm_next(struct lb_worker *worker, struct lb_session *session, struct lb_deadline next);

#endif
