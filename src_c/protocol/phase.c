/* SPDX-License-Identifier: Apache-2.0 */
#include "protocol/phase.h"

#include "base/base.h"
#include "base/bounds.h"
#include "base/clock.h"

void lb_phase_begin(struct lb_phase *phase, uint64_t now_ns) {
    phase->state = LB_PHASE_WAIT;
    phase->turns++;
    phase->reported = false;
    phase->small_pieces = phase->paced = false;
    phase->piece = (struct lb_piece){0};
    phase->turn_ns = phase->client_ns = now_ns;
}

static unsigned end(struct lb_phase *phase) {
    if (phase->reported)
        return 0;
    phase->reported = true;
    phase->duration_ns = phase->server_ns - phase->turn_ns;
    return LB_TURN_ENDED;
}

/* The mean takes in an eighth of each gap, as in RFC 6298. A larger deviation is learnt by a quarter and a smaller one
 * by a sixteenth: mistaking a pause for the end costs more than waiting a little longer for it. */
static void learn_gap(struct lb_phase *phase, uint64_t gap_ns) {
    uint32_t gap_us = (uint32_t)LB_MIN(gap_ns / LB_NS_PER_US, (uint64_t)LB_SILENCE_MAX_MS * 1000);
    uint32_t error_us = gap_us > phase->gap_us ? gap_us - phase->gap_us : phase->gap_us - gap_us;

    if (!phase->has_gap) {
        phase->has_gap = true;
        phase->gap_us = gap_us;
        phase->deviation_us = gap_us / 2;
        return;
    }
    phase->gap_us = phase->gap_us - phase->gap_us / 8 + gap_us / 8;
    if (error_us > phase->deviation_us)
        phase->deviation_us += (error_us - phase->deviation_us) / 4;
    else
        phase->deviation_us -= (phase->deviation_us - error_us) / 16;
}

static uint64_t patience_ns(const struct lb_phase *phase) {
    uint64_t us = (uint64_t)phase->gap_us + 4ull * phase->deviation_us;

    if (phase->expected == LB_END_LAST)
        return 0;
    if (phase->expected == LB_END_NOT_LAST)
        return LB_SILENCE_NOT_LAST_MS * LB_NS_PER_MS;
    if (!phase->has_gap)
        return LB_SILENCE_FIRST_MS * LB_NS_PER_MS;
    return LB_MAX(LB_SILENCE_MIN_MS * LB_NS_PER_MS, LB_MIN(us * LB_NS_PER_US, LB_SILENCE_MAX_MS * LB_NS_PER_MS));
}

unsigned lb_phase_client(struct lb_phase *phase, uint64_t bytes, uint64_t now_ns) {
    unsigned proven = phase->piece.ordinal > 0 ? LB_TURN_PROVEN : 0, ended;

    switch ((enum lb_phase_state)phase->state) {
    case LB_PHASE_NEW:
    case LB_PHASE_IDLE:
        lb_phase_begin(phase, now_ns);
        return proven | LB_TURN_BEGAN;
    case LB_PHASE_WAIT:
        phase->client_ns = now_ns;
        return 0;
    case LB_PHASE_STREAM:
        if (bytes < LB_NOISE_BYTES) {
            phase->client_ns = now_ns;
            return 0;
        }
        ended = end(phase);
        lb_phase_begin(phase, now_ns);
        return proven | ended | LB_TURN_BEGAN;
    }
    return 0;
}

static unsigned add_piece(struct lb_phase *phase, uint64_t bytes, uint64_t now_ns) {
    uint8_t before = phase->piece.ordinal;

    phase->state = LB_PHASE_STREAM;
    phase->piece = lb_piece_after(phase->piece, bytes);
    phase->expected = LB_END_UNKNOWN;
    if (before > 1) /* the first piece says nothing about the pace of the rest, nor the reverse */
        learn_gap(phase, now_ns - phase->server_ns);
    phase->server_ns = now_ns;
    return LB_TURN_PIECE | (before > 0 ? LB_TURN_CONTINUED : LB_TURN_RESPONDED);
}

static unsigned extend_piece(struct lb_phase *phase, uint64_t bytes, uint64_t now_ns) {
    phase->piece.bytes = LB_MIN(phase->piece.bytes + bytes, (uint64_t)LB_PIECE_BYTES_MAX) & LB_PIECE_BYTES_MAX;
    phase->server_ns = now_ns;
    return LB_TURN_PIECE;
}

static unsigned server_bytes(struct lb_phase *phase, uint64_t bytes, uint64_t now_ns) {
    switch ((enum lb_phase_state)phase->state) {
    case LB_PHASE_NEW: /* the backend's greeting */
        return 0;
    case LB_PHASE_WAIT:
        return add_piece(phase, bytes, now_ns);
    case LB_PHASE_STREAM:
        return phase->open ? extend_piece(phase, bytes, now_ns) : add_piece(phase, bytes, now_ns);
    case LB_PHASE_IDLE:
        if (bytes >= LB_NOISE_BYTES)
            return LB_TURN_RESUMED | add_piece(phase, bytes, now_ns);
        phase->server_ns = now_ns; /* it may be a late token, which ends the silence without resuming the response */
        return 0;
    }
    return 0;
}

unsigned lb_phase_server(struct lb_phase *phase, uint64_t bytes, bool more, uint64_t now_ns) {
    unsigned events = server_bytes(phase, bytes, now_ns);

    phase->open = more;
    return events;
}

void lb_phase_pace(struct lb_phase *phase, uint64_t bytes, bool waits, uint64_t now_ns) {
    uint16_t tick = (uint16_t)(now_ns / (LB_PACE_TICK_MS * LB_NS_PER_MS));

    if (waits || bytes >= LB_BULK_PIECE_BYTES) {
        phase->small_pieces = false;
        return;
    }
    if (!phase->small_pieces)
        phase->small_pieces_tick = tick;
    else if ((uint16_t)(tick - phase->small_pieces_tick) >= LB_PACED_MS / LB_PACE_TICK_MS)
        phase->paced = true;
    phase->small_pieces = true;
}

void lb_phase_respond(struct lb_phase *phase, uint64_t now_ns) {
    phase->state = LB_PHASE_STREAM;
    phase->expected = LB_END_UNKNOWN;
    phase->server_ns = now_ns;
}

void lb_phase_complete(struct lb_phase *phase, uint64_t now_ns) {
    phase->state = LB_PHASE_IDLE;
    phase->expected = LB_END_LAST;
    phase->server_ns = now_ns;
    (void)end(phase);
}

uint64_t lb_phase_ends_ns(const struct lb_phase *phase) {
    return phase->state == LB_PHASE_STREAM && !phase->exact ? phase->server_ns + patience_ns(phase) : UINT64_MAX;
}

unsigned lb_phase_expire(struct lb_phase *phase, uint64_t now_ns) {
    if (now_ns < lb_phase_ends_ns(phase))
        return 0;
    phase->state = LB_PHASE_IDLE;
    return end(phase);
}

unsigned lb_phase_end(struct lb_phase *phase) {
    bool responded = phase->state == LB_PHASE_STREAM;

    phase->piece = (struct lb_piece){0};
    if (!lb_phase_busy(phase))
        return 0;
    phase->state = LB_PHASE_IDLE;
    return responded ? end(phase) : 0;
}
