/* SPDX-License-Identifier: Apache-2.0 */
/*
 * deadline - when a session has to be looked at next, and what it has missed then.
 *
 * One timer per session, always armed. Activity only notes the time; deadlines that move away are looked at when the
 * timer fires, and only one that comes nearer has to be armed. All times are milliseconds of CLOCK_MONOTONIC,
 * UINT64_MAX = never.
 *
 * Owner:   the session's worker.
 * Memory:  none.
 */
#ifndef LB_DEADLINE_H
#define LB_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

#include "session.h"
#include "worker.h"

/* When the lifetime is over: for one in the middle of a turn only in overtime, as long again. */
uint64_t lb_deadline_over_ms(const struct lb_worker *worker, const struct lb_session *session);

/* When silence has been too long for the phase it is in. */
uint64_t lb_deadline_silent_ms(const struct lb_session *session);

/* When the first byte is due: the client's, and from its last byte on the backend's. One from the backend settles it.
 */
uint64_t lb_deadline_first_byte_ms(const struct lb_session *session);

/* When the turn is over if nothing comes. Not while the client takes nothing: more of the answer may wait behind. */
uint64_t lb_deadline_turn_ms(const struct lb_session *session);

/* When a new session has missed the moment in which its first turn was expected. */
uint64_t lb_deadline_coming_ms(const struct lb_session *session);

/* Is only silence to say that its last answer is over, where bytes tell as a rule? Then it may have been interrupted.
 */
bool lb_deadline_in_doubt(const struct lb_worker *worker, const struct lb_session *session);

/* When a quiet session leaves a backend that is to be left. */
uint64_t lb_deadline_leave_ms(const struct lb_worker *worker, const struct lb_session *session);

/* Why it is closed when silence has been too long. */
enum l4lb_close lb_deadline_silence_reason(const struct lb_session *session);

/* Look again at `at_ms`, or when the lifetime is over. */
void lb_deadline_arm(struct lb_worker *worker, struct lb_session *session, uint64_t at_ms);
void lb_deadline_arm_sooner(struct lb_worker *worker, struct lb_session *session, uint64_t at_ms);

/* Look again at the nearest of all deadlines of a connected session. */
void lb_deadline_arm_relay(struct lb_worker *worker, struct lb_session *session);

#endif
