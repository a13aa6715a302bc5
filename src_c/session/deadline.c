/* SPDX-License-Identifier: Apache-2.0 */
#include "session/deadline.h"

#include "base/base.h"
#include "base/bounds.h"
#include "base/clock.h"
#include "base/hash.h"

#define OFF UINT64_MAX

/* Bytes moved, a side ended, or a state began. */
static uint64_t last_ms(const struct lb_session *session) { return session->last_ns / LB_NS_PER_MS; }

uint64_t lb_deadline_overtime_ms(const struct lb_session *session) {
    uint64_t at_ms = session->lifetime_at_ms;

    return at_ms == OFF ? OFF : 2 * at_ms - session->started_ns / LB_NS_PER_MS;
}

static uint64_t over_ms(const struct lb_session *session) {
    return lb_phase_busy(&session->phase) ? lb_deadline_overtime_ms(session) : session->lifetime_at_ms;
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
        of_phase = lb_session_is_owed(session) ? session->stream_gap_ms : session->keepalive_ms;
        break;
    }
    return of_phase > 0 ? of_phase : session->idle_ms;
}

/* The client's, or after its last byte of the request, the backend's. */
static uint64_t first_byte_ms(const struct lb_session *session) {
    if (session->first_byte_ms == 0 || session->first_byte_us != UINT64_MAX || session->down.eof)
        return OFF;
    return (lb_session_has_asked(session) ? session->phase.client_ns / LB_NS_PER_MS : last_ms(session)) +
           session->first_byte_ms;
}

uint64_t lb_deadline_turn_ms(const struct lb_session *session) {
    uint64_t at_ns = lb_phase_ends_ns(&session->phase);
    return at_ns == UINT64_MAX || !session->client.can_write ? OFF : at_ns / LB_NS_PER_MS + 1;
}

static uint64_t coming_ms(const struct lb_session *session) {
    return session->coming ? last_ms(session) + LB_QUIET_FIRST_MS : OFF;
}

/* HTTP/2 acknowledges a request with a few frames long before it answers. */
static bool may_be_acknowledgement(struct lb_piece piece) {
    return piece.place < LB_PIECE_PLACES && piece.bytes < LB_NOISE_BYTES;
}

bool lb_deadline_in_doubt(const struct lb_worker *worker, const struct lb_session *session) {
    struct lb_piece piece = session->phase.piece;

    /* The size of a piece of a bulk transfer tells nothing, whatever it is as a rule. */
    return piece.place > 0 && piece.bytes <= LB_COPY_BYTES && session->phase.expected != LB_ENDING_LAST &&
           (may_be_acknowledgement(piece) || lb_endings_tell(&worker->counters.endings[session->pool]));
}

/* Each session has its own moment in which it begins to leave, the same whenever it is asked for. */
static uint64_t leaves_from_ms(const struct lb_backend_live *backend, const struct lb_session *session,
                               uint64_t leaving_ms) {
    uint64_t share = lb_hash_mix((uint64_t)session->generation << 32 | session->index) >> 32;
    uint32_t spread_ms = atomic_load_explicit(&backend->leave_spread_ms, memory_order_relaxed);

    return leaving_ms + (spread_ms * share >> 32);
}

bool lb_deadline_is_certain(const struct lb_worker *worker, const struct lb_session *session) {
    return session->phase.name == LB_PHASE_QUIET && session->phase.piece.place > 0 &&
           lb_endings_are_certain(&worker->counters.endings[session->pool], session->phase.piece);
}

bool lb_deadline_may_have_paused(const struct lb_session *session) {
    return session->phase.paced && session->phase.expected != LB_ENDING_LAST;
}

/* A client that has asked often is believed to have whole responses: by then its pool knows what more follows. */
static bool is_busy(const struct lb_phase *phase) { return phase->turns >= LB_LEAVE_BUSY_TURNS; }

/* How much silence it takes to leave, when it has been about to for `age_ms`. A client that asks again and again is
 * never silent for long, but one that has its whole response can be left behind that. Where the end is not even likely,
 * the silence that ended the turn was waited for: in the end, little more is needed. A stream gets its second even
 * behind a likely end. */
static uint64_t leave_silence_ms(const struct lb_worker *worker, const struct lb_session *session, uint64_t age_ms) {
    if (age_ms >= LB_LEAVE_SOON_AFTER_MS && lb_deadline_is_certain(worker, session))
        return 0;
    if (lb_deadline_in_doubt(worker, session))
        return LB_LEAVE_DOUBT_MS;
    if (lb_deadline_may_have_paused(session))
        return LB_LEAVE_STREAM_MS;
    if (session->phase.paced)
        return LB_LEAVE_QUIET_MS;
    if (session->phase.expected == LB_ENDING_LAST)
        return age_ms >= LB_LEAVE_SOON_AFTER_MS ? LB_LEAVE_SOON_MS : LB_LEAVE_QUIET_MS;
    return age_ms >= LB_LEAVE_LATE_AFTER_MS && is_busy(&session->phase) ? LB_LEAVE_LATE_MS : LB_LEAVE_QUIET_MS;
}

bool lb_deadline_leaves_behind(const struct lb_worker *worker, const struct lb_session *session) {
    const struct lb_backend_live *backend = &worker->shared->live.backends[session->backend];
    uint64_t from_ms = leaves_from_ms(backend, session, lb_live_leaving_ms(backend));

    return session->client.can_write && session->phase.name == LB_PHASE_QUIET &&
           worker->now_ms >= from_ms + LB_LEAVE_SOON_AFTER_MS;
}

/* The silence that lets a session leave began here. */
static uint64_t silent_from_ms(const struct lb_worker *worker, const struct lb_session *session) {
    return lb_deadline_leaves_behind(worker, session)
               ? LB_MAX(session->phase.server_ns, session->phase.client_ns) / LB_NS_PER_MS
               : last_ms(session);
}

uint64_t lb_deadline_leave_ms(const struct lb_worker *worker, const struct lb_session *session) {
    const struct lb_backend_live *backend;
    uint64_t leaving_ms, from_ms, age_ms;

    if (!session->has_backend || !lb_session_is_quiet(session))
        return OFF;
    backend = &worker->shared->live.backends[session->backend];
    leaving_ms = lb_live_leaving_ms(backend);
    if (leaving_ms == 0)
        return OFF;
    from_ms = leaves_from_ms(backend, session, leaving_ms);
    age_ms = worker->now_ms - LB_MIN(worker->now_ms, from_ms);
    from_ms = LB_MAX(from_ms, session->leave_from_ms);
    return LB_MAX(from_ms, silent_from_ms(worker, session) + leave_silence_ms(worker, session, age_ms));
}

struct lb_deadline lb_deadline_next(const struct lb_worker *worker, const struct lb_session *session) {
    const struct lb_deadline all[] = {
        {last_ms(session) + silence_ms(session), LB_DUE_SILENCE},
        {over_ms(session), LB_DUE_LIFETIME},
        {first_byte_ms(session), LB_DUE_FIRST_BYTE},
        {lb_deadline_leave_ms(worker, session), LB_DUE_LEAVE},
        {coming_ms(session), LB_DUE_COMING},
        {lb_deadline_turn_ms(session), LB_DUE_TURN},
        {session->interval_at_ms, LB_DUE_INTERVAL},
    };
    struct lb_deadline next = all[0];

    for (size_t i = 1; i < sizeof all / sizeof all[0]; i++) {
        if (all[i].at_ms < next.at_ms)
            next = all[i];
    }
    return next;
}

void lb_deadline_arm(struct lb_worker *worker, struct lb_session *session, uint64_t at_ms) {
    lb_timer_arm(&worker->wheel, &session->timer, LB_MIN(at_ms, over_ms(session)));
}

void lb_deadline_arm_next(struct lb_worker *worker, struct lb_session *session, struct lb_deadline next) {
    if (!lb_timer_armed(&session->timer) || session->timer.expires_ms > next.at_ms)
        lb_timer_arm(&worker->wheel, &session->timer, next.at_ms);
}

void lb_deadline_arm_relay(struct lb_worker *worker, struct lb_session *session) {
    lb_deadline_arm_next(worker, session, lb_deadline_next(worker, session));
}

/* Whose turn was it? Of one that takes no bytes; else of one that has not finished yet; else of one that owes an
 * answer. */
static bool is_client_silent(const struct lb_session *session) {
    if (!session->client.can_write || !session->server.can_write)
        return !session->client.can_write;
    if (lb_session_half_closed(session))
        return session->down.finished;
    return !lb_phase_busy(&session->phase) && !lb_session_is_owed(session);
}

enum l4lb_close lb_deadline_silence_reason(const struct lb_session *session) {
    bool by_client = is_client_silent(session);

    if (lb_session_half_closed(session))
        return by_client ? L4LB_CLOSE_CLIENT_HALF_CLOSE : L4LB_CLOSE_SERVER_HALF_CLOSE;
    if (session->phase.name == LB_PHASE_WAIT && session->response_ms > 0)
        return L4LB_CLOSE_SERVER_RESPONSE;
    if ((session->phase.name == LB_PHASE_STREAM || lb_session_is_owed(session)) && session->stream_gap_ms > 0)
        return by_client ? L4LB_CLOSE_CLIENT_STREAM_GAP : L4LB_CLOSE_SERVER_STREAM_GAP;
    if (session->phase.name == LB_PHASE_QUIET && session->keepalive_ms > 0)
        return L4LB_CLOSE_CLIENT_KEEPALIVE;
    return by_client ? L4LB_CLOSE_CLIENT_IDLE : L4LB_CLOSE_SERVER_IDLE;
}
