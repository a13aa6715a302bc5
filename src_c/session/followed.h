/* SPDX-License-Identifier: Apache-2.0 */
/*
 * followed - what a session has only while its messages are followed (exchange.h): the data.
 *
 * A followed session begins without a backend connection. At each boundary its next request is placed (place.h): it
 * stays with the current backend connection, takes a parked one (parked.h), or gets a new one. When following ends, the
 * session keeps the backend connection that it has, and is a plain one from then on.
 *
 * Owner:   the session's worker.
 * Memory:  one block, from lb_follow_begin() to lb_follow_end() (follow.h); the relays borrow the exchange in it.
 * Holds:   a session in RELAY has a current backend connection, one in KEPT, CONNECT or QUEUE has only parked ones.
 */
#ifndef LB_FOLLOWED_H
#define LB_FOLLOWED_H

#include <stdbool.h>
#include <stdint.h>

#include "base/base.h"
#include "base/bounds.h"
#include "protocol/exchange.h"
#include "protocol/proxy_header.h"
#include "session/session.h"
#include "session/worker.h"

/* A backend connection of the session that has no request. */
struct lb_parked {
    struct lb_side side;
    struct lb_claim claim; /* a connection, no turn */
    uint64_t since_ms;     /* when its last byte moved */
    uint8_t serial;        /* as in its poll tag */
};

struct lb_followed {
    struct lb_exchange exchange;
    struct lb_parked parked[LB_PARKED_MAX]; /* the one parked first comes first */
    uint8_t n_parked;
    uint8_t last_serial;        /* given to a backend connection of this session */
    struct lb_proxy_tlvs *tlvs; /* for the PROXY header of every backend connection; NULL = none. Owned */
    uint32_t backend;           /* slot of the one with the latest request; UINT32_MAX = none yet */
    uint32_t past_queue_us;     /* waits of earlier requests */
    uint64_t connected_ms;      /* when the session began its latest backend connection */
    uint64_t request_up;        /* bytes of both directions when the oldest outstanding request began */
    uint64_t request_down;
    uint64_t head_ns; /* when the head of the latest response came */
};

/* True if the session is at a boundary: the next request may go to any backend. */
static inline bool lb_followed_at_boundary(const struct lb_session *session) {
    return session->followed != NULL && lb_exchange_at_boundary(&session->followed->exchange) &&
           !lb_relay_holds(&session->up) && !lb_relay_holds(&session->down);
}

/* Of a session without a current backend connection: a request is to be sent again. */
static inline bool lb_session_is_sending_again(const struct lb_session *session) {
    return session->followed != NULL && session->followed->exchange.n_outstanding > 0;
}

/* False between two requests, until the next one is placed: which backend gets it is not yet decided. The next request
 * may arrive before the client has taken the last response. */
static inline bool lb_followed_may_read(const struct lb_session *session) {
    return session->followed == NULL || session->claim.turn_reserved ||
           !lb_exchange_at_boundary(&session->followed->exchange);
}

#endif
