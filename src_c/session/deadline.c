/* SPDX-License-Identifier: Apache-2.0 */
#include "session/deadline.h"

#include "base/base.h"
#include "base/bounds.h"
#include "base/clock.h"
#include "base/hash.h"
#include "session/parked.h"

#define OFF UINT64_MAX

/* Bytes moved, a side ended, or a state began. */
static uint64_t last_ms(const struct lb_session *session) { return session->last_ns / LB_NS_PER_MS; }

uint64_t lb_deadline_overtime_ms(const struct lb_session *session) {
    uint64_t at_ms = session->lifetime_at_ms;

    return at_ms == OFF ? OFF : 2 * at_ms - session->started_ns / LB_NS_PER_MS;
}

static uint64_t life_ends_ms(const struct lb_session *session) {
    return lb_phase_busy(&session->phase) ? lb_deadline_overtime_ms(session) : session->lifetime_at_ms;
}

/* The silence that the current phase allows. */
static uint32_t silence_ms(const struct lb_session *session) {
    uint32_t of_phase = 0;

    if (lb_session_half_closed(session))
        return session->timeouts.half_close_ms;
    switch ((enum lb_phase_state)session->phase.state) {
    case LB_PHASE_NEW:
        break;
    case LB_PHASE_WAIT:
        of_phase = session->timeouts.response_ms;
        break;
    case LB_PHASE_STREAM:
        of_phase = session->timeouts.stream_gap_ms;
        break;
    case LB_PHASE_IDLE:
        of_phase = lb_session_is_owed(session) ? session->timeouts.stream_gap_ms : session->timeouts.keepalive_ms;
        break;
    }
    return of_phase > 0 ? of_phase : session->timeouts.idle_ms;
}

/* For the client's first byte, or after its request, for the backend's. */
static uint64_t first_byte_ms(const struct lb_session *session) {
    if (session->timeouts.first_byte_ms == 0 || session->first_byte_us != UINT64_MAX || session->down.eof)
        return OFF;
    return (lb_session_has_requested(session) ? session->phase.client_ns / LB_NS_PER_MS : last_ms(session)) +
           session->timeouts.first_byte_ms;
}

uint64_t lb_deadline_turn_ms(const struct lb_session *session) {
    uint64_t at_ns = lb_phase_ends_ns(&session->phase);
    return at_ns == UINT64_MAX || !session->client.can_write ? OFF : at_ns / LB_NS_PER_MS + 1;
}

/* A followed session reserves a turn only for a request of which it has read a byte, or will at once. */
static uint64_t first_turn_ms(const struct lb_session *session) {
    return session->claim.turn_reserved && session->followed == NULL ? last_ms(session) + LB_SILENCE_FIRST_MS : OFF;
}

/* HTTP/2 acknowledges a request with a few frames, long before the response. */
static bool may_be_acknowledgement(struct lb_piece piece) {
    return piece.ordinal < LB_PIECE_ORDINALS && piece.bytes < LB_NOISE_BYTES;
}

bool lb_deadline_in_doubt(const struct lb_worker *worker, const struct lb_session *session) {
    struct lb_piece piece = session->phase.piece;

    /* The size of a piece of a bulk transfer proves nothing. */
    return piece.ordinal > 0 && piece.bytes <= LB_COPY_BYTES && session->phase.expected != LB_END_LAST &&
           (may_be_acknowledgement(piece) || lb_end_model_is_reliable(&worker->counters.end_models[session->pool]));
}

/* A followed session only gives up its connection to a backend that drains (place.h). It closes when the process stops,
 * and when its pool was removed: no backend would get its next request. */
static __attribute__((noinline)) uint64_t followed_draining_ms(const struct lb_worker *worker,
                                                               const struct lb_session *session) {
    if (worker->snapshot != NULL && lb_snapshot_pool(worker->snapshot, session->pool) == NULL)
        return 1;
    return atomic_load_explicit(&worker->runtime->clients_draining_ms, memory_order_relaxed);
}

/* Since when the session is to close, 0 = it is not. A plain session closes with its backend. */
static inline uint64_t draining_ms(const struct lb_worker *worker, const struct lb_session *session) {
    if (session->followed != NULL)
        return followed_draining_ms(worker, session);
    return session->claim.has_backend
               ? lb_backend_draining_ms(&worker->runtime->shared.backends[session->claim.backend])
               : 0;
}

/* When this session may begin to close: a fixed point of its own within the spread of the drain. */
static uint64_t drain_begins_ms(const struct lb_worker *worker, const struct lb_session *session, uint64_t since_ms) {
    const struct lb_runtime *runtime = worker->runtime;
    uint64_t share = lb_hash_mix((uint64_t)session->generation << 32 | session->index) >> 32;
    uint32_t spread_ms = atomic_load_explicit(session->followed != NULL
                                                  ? &runtime->clients_drain_spread_ms
                                                  : &runtime->shared.backends[session->claim.backend].drain_spread_ms,
                                              memory_order_relaxed);

    return since_ms + (spread_ms * share >> 32);
}

bool lb_deadline_is_certain(const struct lb_worker *worker, const struct lb_session *session) {
    if (session->phase.exact)
        return session->phase.state == LB_PHASE_IDLE;
    return session->phase.state == LB_PHASE_IDLE && session->phase.piece.ordinal > 0 &&
           lb_end_model_is_certain(&worker->counters.end_models[session->pool], session->phase.piece);
}

bool lb_deadline_may_have_paused(const struct lb_session *session) {
    return session->phase.paced && session->phase.expected != LB_END_LAST;
}

/* After many turns, the pool's model has seen enough responses to be trusted about this client's. */
static bool is_busy(const struct lb_phase *phase) { return phase->turns >= LB_DRAIN_BUSY_TURNS; }

/* The silence after which a session closes when its drain is `age_ms` old. A client that sends request after request is
 * never silent for long, so an old drain closes it behind a response that is complete. Where the end of a response is
 * not even likely, the turn ended by silence already, and an old drain adds little to that. A stream gets a second even
 * behind a likely end. */
static uint64_t drain_silence_ms(const struct lb_worker *worker, const struct lb_session *session, uint64_t age_ms) {
    if (age_ms >= LB_DRAIN_SOON_AFTER_MS && lb_deadline_is_certain(worker, session))
        return 0;
    if (lb_deadline_in_doubt(worker, session))
        return LB_DRAIN_DOUBT_MS;
    if (lb_deadline_may_have_paused(session))
        return LB_DRAIN_STREAM_MS;
    if (session->phase.paced)
        return LB_DRAIN_IDLE_MS;
    if (session->phase.expected == LB_END_LAST)
        return age_ms >= LB_DRAIN_SOON_AFTER_MS ? LB_DRAIN_SOON_MS : LB_DRAIN_IDLE_MS;
    return age_ms >= LB_DRAIN_LATE_AFTER_MS && is_busy(&session->phase) ? LB_DRAIN_LATE_MS : LB_DRAIN_IDLE_MS;
}

bool lb_deadline_closes_behind_data(const struct lb_worker *worker, const struct lb_session *session) {
    uint64_t from_ms = drain_begins_ms(worker, session, draining_ms(worker, session));

    return session->client.can_write && session->phase.state == LB_PHASE_IDLE &&
           worker->now_ms >= from_ms + LB_DRAIN_SOON_AFTER_MS;
}

/* When the silence began that lets the session close. */
static uint64_t silent_from_ms(const struct lb_worker *worker, const struct lb_session *session) {
    return lb_deadline_closes_behind_data(worker, session)
               ? LB_MAX(session->phase.server_ns, session->phase.client_ns) / LB_NS_PER_MS
               : last_ms(session);
}

uint64_t lb_deadline_drain_ms(const struct lb_worker *worker, const struct lb_session *session) {
    uint64_t since_ms = draining_ms(worker, session), from_ms, age_ms;

    if (since_ms == 0 || !lb_session_is_idle(session))
        return OFF;
    from_ms = drain_begins_ms(worker, session, since_ms);
    age_ms = worker->now_ms - LB_MIN(worker->now_ms, from_ms);
    from_ms = LB_MAX(from_ms, session->drain_from_ms);
    return LB_MAX(from_ms, silent_from_ms(worker, session) + drain_silence_ms(worker, session, age_ms));
}

uint64_t lb_deadline_current_ms(const struct lb_worker *worker, const struct lb_session *session) {
    if (session->state != LB_SESSION_RELAY || session->claim.turn_reserved || !lb_followed_at_boundary(session))
        return OFF;
    if (lb_backend_draining_ms(&worker->runtime->shared.backends[session->claim.backend]) != 0)
        return 0;
    return session->timeouts.backend_keepalive_ms > 0 ? last_ms(session) + session->timeouts.backend_keepalive_ms : OFF;
}

/* When a backend connection of a followed session is due. Not inlined, for the sake of plain sessions. */
static __attribute__((noinline)) uint64_t detach_ms(const struct lb_worker *worker, const struct lb_session *session) {
    return LB_MIN(lb_deadline_current_ms(worker, session), lb_parked_due_ms(worker, session));
}

static inline struct lb_deadline sooner(struct lb_deadline next, uint64_t at_ms, enum lb_due kind) {
    return at_ms < next.at_ms ? (struct lb_deadline){at_ms, kind} : next;
}

struct lb_deadline lb_deadline_next(const struct lb_worker *worker, const struct lb_session *session) {
    struct lb_deadline next = {last_ms(session) + silence_ms(session), LB_DUE_SILENCE};

    next = sooner(next, life_ends_ms(session), LB_DUE_LIFETIME);
    next = sooner(next, first_byte_ms(session), LB_DUE_FIRST_BYTE);
    next = sooner(next, lb_deadline_drain_ms(worker, session), LB_DUE_DRAIN);
    next = sooner(next, first_turn_ms(session), LB_DUE_FIRST_TURN);
    next = sooner(next, lb_deadline_turn_ms(session), LB_DUE_TURN);
    next = sooner(next, session->interval_at_ms, LB_DUE_INTERVAL);
    return session->followed == NULL ? next : sooner(next, detach_ms(worker, session), LB_DUE_DETACH);
}

void lb_deadline_arm(struct lb_worker *worker, struct lb_session *session, uint64_t at_ms) {
    lb_timer_arm(&worker->wheel, &session->timer, LB_MIN(at_ms, life_ends_ms(session)));
}

void lb_deadline_arm_next(struct lb_worker *worker, struct lb_session *session, struct lb_deadline next) {
    if (!lb_timer_armed(&session->timer) || session->timer.expires_ms > next.at_ms)
        lb_timer_arm(&worker->wheel, &session->timer, next.at_ms);
}

void lb_deadline_arm_relay(struct lb_worker *worker, struct lb_session *session) {
    lb_deadline_arm_next(worker, session, lb_deadline_next(worker, session));
}

/* Which side is to blame for the silence: one that takes no bytes, else the one that has not sent its FIN, else the one
 * that owes a response. */
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
    if (session->phase.state == LB_PHASE_WAIT && session->timeouts.response_ms > 0)
        return L4LB_CLOSE_SERVER_RESPONSE;
    if ((session->phase.state == LB_PHASE_STREAM || lb_session_is_owed(session)) && session->timeouts.stream_gap_ms > 0)
        return by_client ? L4LB_CLOSE_CLIENT_STREAM_GAP : L4LB_CLOSE_SERVER_STREAM_GAP;
    if (session->phase.state == LB_PHASE_IDLE && session->timeouts.keepalive_ms > 0)
        return L4LB_CLOSE_CLIENT_KEEPALIVE;
    return by_client ? L4LB_CLOSE_CLIENT_IDLE : L4LB_CLOSE_SERVER_IDLE;
}
