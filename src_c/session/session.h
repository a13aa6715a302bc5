/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session - one client connection and its backend connection: the data.
 *
 * session_run.h has the operations and a picture of the states.
 *
 * Owner:   one worker, from accept to close.
 * Memory:  an entry of the session table, at most 512 bytes.
 */
#ifndef LB_SESSION_H
#define LB_SESSION_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "base/bounds.h"
#include "base/list.h"
#include "config/admission.h"
#include "l4lb.h"
#include "protocol/phase.h"
#include "relay/relay.h"
#include "shared/claim.h"
#include "shared/queue.h"
#include "structures/timer.h"

enum lb_session_state {
    LB_SESSION_FREE,
    LB_SESSION_HEADER,  /* waiting for the PROXY header */
    LB_SESSION_HELLO,   /* waiting for the server name in the ClientHello */
    LB_SESSION_CONNECT, /* connecting, or waiting to */
    LB_SESSION_QUEUE,   /* in the queue of its pool */
    LB_SESSION_RELAY,
    LB_SESSION_KEPT,   /* followed, at a boundary, without a current backend connection */
    LB_SESSION_LINGER, /* closed, but its peers may not have received everything yet */
};

enum lb_side_name { LB_CLIENT, LB_SERVER };

/* What both sockets are watched for. Both directions, once, edge-triggered: no epoll_ctl while the session lives. */
enum { LB_SIDE_EVENTS = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET };

struct lb_followed;

struct lb_session {
    uint32_t index;
    uint32_t generation;
    enum lb_session_state state : 8;
    bool has_pool : 1;    /* counted in `pool` */
    bool is_newcomer : 1; /* counted, see newcomers.h */
    bool resets : 1;      /* lingers to propagate a reset */
    bool owed : 1;        /* the client ended its request with a FIN: the backend's FIN ends the response */
    bool has_tlvs : 1;    /* `tlvs` is valid and owned */
    bool responded : 1;   /* the current backend connection has brought a byte */
    uint8_t retries;
    uint8_t n_tried;         /* attempts, at most retries + 1; the last LB_TRIED_MAX are in `tried` */
    uint8_t close;           /* enum l4lb_close: the reason if the session ends now, while connecting or lingering */
    uint8_t send_proxy;      /* enum l4lb_send_proxy of this attempt */
    uint8_t serial;          /* of the current backend connection, in its poll tag */
    uint8_t pin;             /* enum l4lb_pin: why it is not followed any more */
    uint16_t status;         /* of the latest response that was followed; 0 = none */
    uint16_t pool;           /* slot */
    uint32_t stick_entry;    /* held in the stick table `stick_table_id` of its pool; 0 = none */
    uint32_t stick_table_id; /* the stick table joined last; 0 = none */
    struct lb_list ready;    /* on the worker's list of newcomers, or of sessions with work left */
    struct lb_timer timer;
    struct lb_waiting waiting;
    struct lb_side client;
    struct lb_side server;
    struct lb_relay up;   /* client to server */
    struct lb_relay down; /* server to client */
    struct lb_phase phase;
    struct lb_followed *followed; /* NULL = a plain session */
    uint32_t moves;               /* requests that went to another backend than the one before */

    struct lb_ticket ticket;
    struct lb_claim claim;
    uint32_t tried[LB_TRIED_MAX];

    struct l4lb_timeouts timeouts;
    uint32_t pending_bytes;  /* unacknowledged at the last look, see delivery.h */
    uint64_t lifetime_at_ms; /* UINT64_MAX = off */
    uint64_t interval_at_ms; /* when the next interval event is due; UINT64_MAX = off */
    union {
        struct lb_proxy_tlvs *tlvs; /* with has_tlvs: for the PROXY header to the backend, until it is connected */
        uint64_t drain_from_ms;     /* in RELAY: no drain closes it sooner */
    };

    uint64_t server_name; /* hash of the name in the ClientHello; 0 = none */

    uint64_t started_ns;
    uint64_t attempt_ns;    /* when the connection attempt or the wait in the queue began */
    uint64_t last_ns;       /* a byte moved, a side ended, or a state began */
    uint32_t queue_us;      /* time of past waits in the queue */
    uint32_t connect_us;    /* UINT32_MAX = not yet connected */
    uint64_t first_byte_us; /* UINT64_MAX = no byte yet */

    struct l4lb_endpoint peer;        /* the client; from the PROXY header where that is trusted */
    struct l4lb_endpoint destination; /* the address it connected to, from the header; family 0 = ask the socket */
};

/* The client has sent its FIN, and the rest of a response is probably still to come. */
static inline bool lb_session_is_owed(const struct lb_session *session) {
    return session->owed && !session->down.finished &&
           (session->phase.state != LB_PHASE_IDLE || session->phase.expected != LB_END_LAST);
}

/* One side has finished, and the other owes it nothing. */
static inline bool lb_session_half_closed(const struct lb_session *session) {
    return (session->up.finished || session->down.finished) && !lb_session_is_owed(session);
}

/* The best path that bytes of either direction took. */
static inline uint8_t lb_session_path(const struct lb_session *session) {
    return session->up.best_path > session->down.best_path ? session->up.best_path : session->down.best_path;
}

static inline bool lb_session_has_requested(const struct lb_session *session) { return session->phase.turns > 0; }

/* Connected or kept, not in a turn, and no bytes held. */
static inline bool lb_session_is_idle(const struct lb_session *session) {
    return (session->state == LB_SESSION_RELAY || session->state == LB_SESSION_KEPT) && !session->claim.turn_reserved &&
           !lb_phase_busy(&session->phase) && !lb_session_is_owed(session) && !lb_relay_holds(&session->up) &&
           !lb_relay_holds(&session->down);
}

#endif
