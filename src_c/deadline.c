/* SPDX-License-Identifier: Apache-2.0 */
#include "deadline.h"

#include "base.h"
#include "bounds.h"
#include "clock.h"

#define OFF UINT64_MAX

uint64_t lb_deadline_over_ms(const struct lb_worker *worker, const struct lb_session *session) {
    bool overtime = worker->now_ms >= session->lifetime_at_ms && lb_phase_busy(&session->phase);
    return overtime ? 2 * session->lifetime_at_ms - session->started_ns / LB_NS_PER_MS : session->lifetime_at_ms;
}

void lb_deadline_arm(struct lb_worker *worker, struct lb_session *session, uint64_t at_ms) {
    lb_timer_arm(&worker->wheel, &session->timer, LB_MIN(at_ms, lb_deadline_over_ms(worker, session)));
}

/* How much silence is allowed now. */
static uint32_t silence_ms(const struct lb_session *session) {
    uint32_t of_phase = 0;

    if (lb_session_half_closed(session))
        return session->half_close_ms;
    switch ((enum lb_phase_name)session->phase.name) {
    case LB_PHASE_NEW:
        break;
    case LB_PHASE_WAIT:
        of_phase = session->response_ms;
        break;
    case LB_PHASE_STREAM:
        of_phase = session->stream_gap_ms;
        break;
    case LB_PHASE_QUIET:
        of_phase = session->keepalive_ms;
        break;
    }
    return of_phase > 0 ? of_phase : session->idle_ms;
}

uint64_t lb_deadline_silent_ms(const struct lb_session *session) {
    return session->last_ns / LB_NS_PER_MS + silence_ms(session);
}

uint64_t lb_deadline_first_byte_ms(const struct lb_session *session) {
    if (session->first_byte_ms == 0 || session->first_byte_us != UINT64_MAX || session->down.eof)
        return OFF;
    return (lb_session_has_asked(session) ? session->phase.client_ns : session->last_ns) / LB_NS_PER_MS +
           session->first_byte_ms;
}

uint64_t lb_deadline_turn_ms(const struct lb_session *session) {
    uint64_t at_ns = lb_phase_ends_ns(&session->phase);
    return at_ns == UINT64_MAX || !session->client.can_write ? OFF : at_ns / LB_NS_PER_MS + 1;
}

uint64_t lb_deadline_coming_ms(const struct lb_session *session) {
    return session->coming ? session->last_ns / LB_NS_PER_MS + LB_QUIET_FIRST_MS : OFF;
}

/* HTTP/2 acknowledges a request with a few frames long before it answers. */
static bool may_be_acknowledgement(struct lb_piece piece) {
    return piece.place < LB_PIECE_PLACES && piece.bytes < LB_NOISE_BYTES;
}

bool lb_deadline_in_doubt(const struct lb_worker *worker, const struct lb_session *session) {
    struct lb_piece piece = session->phase.piece;

    return piece.place > 0 && session->phase.expected != LB_ENDING_LAST &&
           (may_be_acknowledgement(piece) || lb_endings_tell(&worker->counters.endings[session->pool]));
}

uint64_t lb_deadline_leave_ms(const struct lb_worker *worker, const struct lb_session *session) {
    if (!session->has_backend || !lb_session_is_quiet(session) ||
        !atomic_load_explicit(&worker->shared->live.backends[session->backend].leaving, memory_order_relaxed))
        return OFF;
    return session->last_ns / LB_NS_PER_MS +
           (lb_deadline_in_doubt(worker, session) ? LB_LEAVE_DOUBT_MS : LB_LEAVE_QUIET_MS);
}

void lb_deadline_arm_relay(struct lb_worker *worker, struct lb_session *session) {
    uint64_t at = LB_MIN(lb_deadline_silent_ms(session), lb_deadline_first_byte_ms(session));

    at = LB_MIN(at, lb_deadline_leave_ms(worker, session));
    at = LB_MIN(at, lb_deadline_turn_ms(session));
    at = LB_MIN(at, lb_deadline_coming_ms(session));
    lb_deadline_arm(worker, session, LB_MIN(at, session->interval_at_ms));
}

void lb_deadline_arm_sooner(struct lb_worker *worker, struct lb_session *session, uint64_t at_ms) {
    if (!lb_timer_armed(&session->timer) || session->timer.expires_ms > at_ms)
        lb_deadline_arm(worker, session, at_ms);
}

/* Whose turn was it? Of one that takes no bytes; else of one that has not finished yet; else of one that owes an
 * answer. */
static bool is_client_silent(const struct lb_session *session) {
    if (!session->client.can_write || !session->server.can_write)
        return !session->client.can_write;
    return lb_session_half_closed(session) ? session->down.finished : !lb_phase_busy(&session->phase);
}

enum l4lb_close lb_deadline_silence_reason(const struct lb_session *session) {
    bool by_client = is_client_silent(session);

    if (lb_session_half_closed(session))
        return by_client ? L4LB_CLOSE_CLIENT_HALF_CLOSE : L4LB_CLOSE_SERVER_HALF_CLOSE;
    if (session->phase.name == LB_PHASE_WAIT && session->response_ms > 0)
        return L4LB_CLOSE_SERVER_RESPONSE;
    if (session->phase.name == LB_PHASE_STREAM && session->stream_gap_ms > 0)
        return by_client ? L4LB_CLOSE_CLIENT_STREAM_GAP : L4LB_CLOSE_SERVER_STREAM_GAP;
    if (session->phase.name == LB_PHASE_QUIET && session->keepalive_ms > 0)
        return L4LB_CLOSE_CLIENT_KEEPALIVE;
    return by_client ? L4LB_CLOSE_CLIENT_IDLE : L4LB_CLOSE_SERVER_IDLE;
}
