/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deadline - when the timer of a session fires next, and why.
 *
 * A session has one timer, which is always armed. Its deadlines are computed from its fields when they are needed; none
 * is stored. lb_deadline_next() returns the next one: the timer is armed for it, and when the timer fires, the same
 * function says what is due. A deadline that moves away costs nothing: the timer fires too early and is armed again.
 * A deadline that comes nearer needs lb_deadline_arm_relay(), after every event.
 *
 *      SILENCE     no byte moved for longer than the phase allows: close
 *      LIFETIME    the lifetime is over: close; a session in a turn gets as long again (overtime)
 *      FIRST_BYTE  the client sent no request, or the backend has not sent a byte: close
 *      DRAIN       the backend is draining, or l4lb stops, and the session is idle: close
 *      DETACH      a backend connection that a followed session does not need now drains, or was idle for too long
 *      FIRST_TURN  the first turn of a new session did not come: give up its reservation
 *      TURN        a response has been silent for so long that its turn is over
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
    LB_DUE_DETACH,
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

/* Twice the lifetime: the end even in the middle of a turn. */
uint64_t lb_deadline_overtime_ms(const struct lb_session *session);

/* When the turn ends if no byte comes. UINT64_MAX while the client takes nothing: more of the response may be held
 * back. */
uint64_t lb_deadline_turn_ms(const struct lb_session *session);

/* When an idle session of a draining backend closes. */
uint64_t lb_deadline_drain_ms(const struct lb_worker *worker, const struct lb_session *session);

/* When the current backend connection of a followed session is due to be detached. */
uint64_t lb_deadline_current_ms(const struct lb_worker *worker, const struct lb_session *session);

/* True if the last response is complete: in this pool, nothing ever followed a piece like its last one. */
bool lb_deadline_is_certain(const struct lb_worker *worker, const struct lb_session *session);

/* True if the session may close although its client still has to take the end of the last response: the FIN follows
 * that. This applies in an old drain once the backend is silent, unless the backend only waits for the client. */
bool lb_deadline_closes_behind_data(const struct lb_worker *worker, const struct lb_session *session);

/* True if only silence suggests that the last response is complete, in a pool where the last piece normally proves it.
 */
bool lb_deadline_in_doubt(const struct lb_worker *worker, const struct lb_session *session);

/* True if the response came in a stream and nothing proves that it is complete: it may only have paused. */
bool lb_deadline_may_have_paused(const struct lb_session *session);

/* The close reason when SILENCE is due. */
enum l4lb_close lb_deadline_silence_reason(const struct lb_session *session);

/* Arm the timer for `at_ms`, or for the end of the lifetime if that is sooner. */
void lb_deadline_arm(struct lb_worker *worker, struct lb_session *session, uint64_t at_ms);

/* Arm the timer of a connected session for its next deadline, unless it fires sooner anyway. */
void lb_deadline_arm_relay(struct lb_worker *worker, struct lb_session *session);

/* The same, for a next deadline that the caller knows. */
void lb_deadline_arm_next(struct lb_worker *worker, struct lb_session *session, struct lb_deadline next);

#endif
