/* SPDX-License-Identifier: Apache-2.0 */
/*
 * phase - what a session is doing, told from the direction, size and time of its bytes alone.
 *
 *   NEW      connected; nothing was asked yet
 *   WAIT     the client asked, the backend has not begun to answer
 *   STREAM   the backend answers
 *   QUIET    the answer is over, as far as silence can tell: a connection of a keep-alive pool
 *
 * A turn is one way from WAIT to QUIET. The client's next question ends the turn before it. Else a piece that answers
 * of this pool end with does (see response_end.h); else silence does: longer than the gaps of this session's answers
 * have been, as TCP tells a lost packet from a slow one, and much longer after a piece that is never the last. When the
 * answer goes on after that, the same turn goes on, and the gap it made is learnt.
 *
 * What it cannot know: several requests at once on one connection (HTTP/2, pipelining) are one turn; a handshake of TLS
 * is a turn of its own, unless the first request comes with its last message; frames of less than LB_NOISE_BYTES are
 * taken for no question in the middle of an answer, and for no answer in the middle of silence. What a client says in
 * silence is a question, whatever its size: bytes that are known to be none (see h2.h) are kept from here.
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

/* What bytes or silence brought about; may be combined. */
enum lb_phase_event {
    LB_TURN_BEGAN = 1,
    LB_TURN_RESPONDED = 2,  /* the first byte of the answer */
    LB_TURN_ENDED = 4,      /* reported once for each turn, see lb_phase.duration_ns */
    LB_TURN_RESUMED = 8,    /* it had not ended after all */
    LB_TURN_PIECE = 16,     /* `piece` is a new one */
    LB_TURN_CONTINUED = 32, /* the piece before this one was not the last of its answer */
    LB_TURN_PROVEN = 64,    /* it was: another question came */
};

struct lb_phase {
    uint8_t state;         /* enum lb_phase_state */
    bool has_gap : 1;      /* `gap_us` means something */
    bool reported : 1;     /* the end of this turn was reported, too early as it turned out */
    bool open : 1;         /* the rest of `piece` is still to be read: nothing can be said about it yet */
    bool small_pieces : 1; /* since `small_pieces_tick`, the answer has come in small pieces that the client took at
                              once */
    bool paced : 1;        /* and did so for LB_PACED_MS: it is a stream, whose pauses say nothing */
    uint8_t expected : 2;  /* enum lb_end of `piece`; the owner sets it when lb_phase_server() says LB_TURN_PIECE */
    uint16_t small_pieces_tick; /* in LB_PACE_TICK_MS */
    uint32_t turns;             /* begun */
    struct lb_piece piece;      /* the latest of the answer */
    uint32_t gap_us;            /* smoothed gap between two pieces of an answer */
    uint32_t deviation_us;
    uint64_t duration_ns; /* of the turn that ended last */
    uint64_t turn_ns;     /* the turn began */
    uint64_t client_ns;   /* last bytes of the client in it */
    uint64_t server_ns;   /* last bytes of the backend in it */
};

static inline void lb_phase_init(struct lb_phase *phase) { *phase = (struct lb_phase){.state = LB_PHASE_NEW}; }

/* Bytes came. Both return what that meant (enum lb_phase_event). With `more`, the backend's bytes are a part of what is
 * there: their piece goes on with the next ones. */
unsigned lb_phase_client(struct lb_phase *phase, uint64_t bytes, uint64_t now_ns);
unsigned lb_phase_server(struct lb_phase *phase, uint64_t bytes, bool more, uint64_t now_ns);

/* These bytes belong to the answer: find out whether it is a stream. With `waits`, more are there, or wait for the
 * client to take these: the backend does not set the pace. */
void lb_phase_pace(struct lb_phase *phase, uint64_t bytes, bool waits, uint64_t now_ns);

/* Time passed: ends the turn if its answer has been silent for long enough. */
unsigned lb_phase_expire(struct lb_phase *phase, uint64_t now_ns);

/* The backend has ended: nothing goes on any more. */
unsigned lb_phase_end(struct lb_phase *phase);

/* When the turn ends if nothing comes; UINT64_MAX when it would not. */
uint64_t lb_phase_ends_ns(const struct lb_phase *phase);

/* Is a request in flight? */
static inline bool lb_phase_busy(const struct lb_phase *phase) {
    return phase->state == LB_PHASE_WAIT || phase->state == LB_PHASE_STREAM;
}

#endif
