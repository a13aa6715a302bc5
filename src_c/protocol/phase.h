/* SPDX-License-Identifier: Apache-2.0 */
/*
 * phase - what a session is doing, as the direction, size and time of its bytes tell.
 *
 *   NEW      connected; no request yet
 *   WAIT     the client sent a request, the backend has not begun to respond
 *   STREAM   the backend responds
 *   IDLE     the response is complete, as far as that can be known: the connection is kept alive
 *
 * A turn is one pass from WAIT to IDLE. It ends when the client sends its next request; or with a piece that normally
 * ends responses of this pool (response_end.h); or else after silence that is longer than the usual gaps in the
 * responses of this session, as TCP distinguishes a lost packet from a slow one, and much longer after a piece that
 * never ends a response. If the response goes on after all, so does the turn, and the gap is learnt.
 *
 * Limits: several requests at once on one connection (HTTP/2, pipelining) are one turn. A TLS handshake is a turn of
 * its own, unless the first request comes with its last message. Reads shorter than LB_NOISE_BYTES neither begin a
 * request during a response nor resume a complete response. In silence, any bytes of the client begin a request. Bytes
 * that are known not to (h2.h) never get here.
 *
 * Owner:   pure; a field of a session.
 * Source:  Jacobson, "Congestion avoidance and control", 1988, appendix A (mean and deviation); RFC 6298.
 */
#ifndef LB_PHASE_H
#define LB_PHASE_H

#include <stdbool.h>
#include <stdint.h>

#include "protocol/response_end.h"

enum lb_phase_state { LB_PHASE_NEW, LB_PHASE_WAIT, LB_PHASE_STREAM, LB_PHASE_IDLE };

/* What bytes or silence meant; flags. */
enum lb_phase_event {
    LB_TURN_BEGAN = 1,
    LB_TURN_RESPONDED = 2,  /* the first byte of the response */
    LB_TURN_ENDED = 4,      /* reported once for each turn, see lb_phase.duration_ns */
    LB_TURN_RESUMED = 8,    /* the response goes on after its turn had ended */
    LB_TURN_PIECE = 16,     /* `piece` is new or grew */
    LB_TURN_CONTINUED = 32, /* the piece before this one was not the last of its response */
    LB_TURN_PROVEN = 64,    /* it was the last: another request came */
};

struct lb_phase {
    uint8_t state;         /* enum lb_phase_state */
    bool has_gap : 1;      /* `gap_us` is valid */
    bool reported : 1;     /* the end of this turn was reported, perhaps too early */
    bool exact : 1;        /* the owner knows when requests begin and responses end (exchange.h): nothing is guessed */
    bool open : 1;         /* `piece` is not complete: nothing can be said about it yet */
    bool small_pieces : 1; /* since `small_pieces_tick`, the response comes in small pieces that the client takes at
                              once */
    bool paced : 1;        /* it did so for LB_PACED_MS: it is a stream, whose pauses mean nothing */
    uint8_t expected : 2;  /* enum lb_end of `piece`; the owner sets it after LB_TURN_PIECE */
    uint16_t small_pieces_tick; /* in LB_PACE_TICK_MS */
    uint32_t turns;             /* begun so far */
    struct lb_piece piece;      /* the latest of the response */
    uint32_t gap_us;            /* smoothed gap between two pieces of a response */
    uint32_t deviation_us;
    uint64_t duration_ns; /* of the latest turn that ended */
    uint64_t turn_ns;     /* when the turn began */
    uint64_t client_ns;   /* the client's last bytes in it */
    uint64_t server_ns;   /* the backend's last bytes in it */
};

static inline void lb_phase_init(struct lb_phase *phase) { *phase = (struct lb_phase){.state = LB_PHASE_NEW}; }

/* Bytes came; both return flags of enum lb_phase_event. With `more`, further bytes of the backend are ready to be read
 * and belong to the same piece. */
unsigned lb_phase_client(struct lb_phase *phase, uint64_t bytes, uint64_t now_ns);
unsigned lb_phase_server(struct lb_phase *phase, uint64_t bytes, bool more, uint64_t now_ns);

/* These bytes belong to the response: find out whether it is a stream. With `waits`, more are ready, or the client has
 * not taken these: the backend does not set the pace. */
void lb_phase_pace(struct lb_phase *phase, uint64_t bytes, bool waits, uint64_t now_ns);

/* Time passed: end the turn if its response has been silent for long enough. */
unsigned lb_phase_expire(struct lb_phase *phase, uint64_t now_ns);

/* The backend has closed its side: no response goes on. */
unsigned lb_phase_end(struct lb_phase *phase);

/* Of an exact phase: a request begins; the backend responds to it; its response is complete. */
void lb_phase_begin(struct lb_phase *phase, uint64_t now_ns);
void lb_phase_respond(struct lb_phase *phase, uint64_t now_ns);
void lb_phase_complete(struct lb_phase *phase, uint64_t now_ns);

/* When the turn ends if no bytes come; UINT64_MAX unless the backend responds, and always if the phase is exact. */
uint64_t lb_phase_ends_ns(const struct lb_phase *phase);

/* True while a request is in flight. */
static inline bool lb_phase_busy(const struct lb_phase *phase) {
    return phase->state == LB_PHASE_WAIT || phase->state == LB_PHASE_STREAM;
}

#endif
