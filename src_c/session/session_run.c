/* SPDX-License-Identifier: Apache-2.0 */
#include "session/session_run.h"

#include <string.h>
#include <sys/epoll.h>

#include "base/base.h"
#include "base/clock.h"
#include "base/count.h"
#include "base/histogram.h"
#include "config/admission.h"
#include "kernel/poll_tag.h"
#include "kernel/sock.h"
#include "kernel/transport.h"
#include "protocol/proxy_header.h"
#include "session/account.h"
#include "session/connect.h"
#include "session/deadline.h"
#include "session/follow.h"
#include "session/forward.h"
#include "session/greeting.h"
#include "session/newcomers.h"
#include "session/overdue.h"
#include "session/parked.h"
#include "session/place.h"
#include "session/session_end.h"
#include "session/session_sticky.h"

#define OFF UINT64_MAX

/* ---- relay ------------------------------------------------------------------------------------------------------- */

static void meet_deadlines(struct lb_worker *worker, struct lb_session *session) {
    enum l4lb_close reason;

    if (lb_overdue_meet(worker, session, &reason))
        lb_session_close(worker, session, reason);
}

static void continue_connect(struct lb_worker *worker, struct lb_session *session, enum lb_connect result);

static __attribute__((noinline)) bool act_on(struct lb_worker *worker, struct lb_session *session,
                                             enum lb_forward outcome) {
    switch (outcome) {
    case LB_FORWARD_OPEN:
        return true;
    case LB_FORWARD_DETACHED:
        lb_place_detach(worker, session);
        return true;
    case LB_FORWARD_RESEND:
        continue_connect(worker, session, lb_place_again(worker, session));
        break;
    case LB_FORWARD_BROKEN:
        lb_session_break(worker, session);
        break;
    case LB_FORWARD_FINISHED:
        lb_session_drop(worker, session, L4LB_CLOSE_NORMAL, false, false);
        break;
    case LB_FORWARD_NOMEM:
        lb_session_drop(worker, session, L4LB_CLOSE_RESOURCE, true, true);
        break;
    }
    return false;
}

/* Act on how the session stands after bytes moved. True if it goes on with the backend connection that it has, or with
 * none. */
static inline bool goes_on(struct lb_worker *worker, struct lb_session *session, enum lb_forward outcome) {
    return outcome == LB_FORWARD_OPEN || act_on(worker, session, outcome);
}

/* Move the bytes of a followed session, with each request placed before it is read. A session that used up its budget
 * places no further request in this iteration. */
static __attribute__((noinline)) bool forward_followed(struct lb_worker *worker, struct lb_session *session) {
    do {
        if (lb_place_is_due(session)) {
            enum lb_connect result = lb_place_request(worker, session);
            if (result != LB_CONNECT_HELD) {
                continue_connect(worker, session, result);
                return false;
            }
        }
        if (session->state == LB_SESSION_KEPT)
            return true;
        if (!goes_on(worker, session, lb_forward_followed(worker, session)))
            return false;
        /* Pinned: epoll does not report bytes again that arrived before. */
        if (session->followed == NULL)
            return goes_on(worker, session, lb_forward_run(worker, session));
        if (lb_place_rest(worker, session)) {
            lb_session_close(worker, session, L4LB_CLOSE_NORMAL);
            return false;
        }
    } while (lb_place_is_due(session) && lb_list_empty(&session->ready));
    return true;
}

/* Move what can be moved, then meet the deadlines. */
static void run(struct lb_worker *worker, struct lb_session *session) {
    if (session->followed == NULL ? goes_on(worker, session, lb_forward_run(worker, session))
                                  : forward_followed(worker, session))
        meet_deadlines(worker, session);
}

bool lb_session_close_idle(struct lb_worker *worker, struct lb_session *session, uint32_t idle_ms,
                           enum l4lb_close reason) {
    LB_OWNER(worker);
    /* Its next request is balanced anyway. */
    if (session->followed != NULL || !lb_overdue_was_idle(worker, session, idle_ms))
        return false;
    lb_session_sticky_unbind(worker, session);
    lb_session_close(worker, session, reason);
    return true;
}

bool lb_session_drain(struct lb_worker *worker, struct lb_session *session, uint32_t wait_ms) {
    bool due = worker->now_ms >= lb_deadline_drain_ms(worker, session);

    LB_OWNER(worker);
    if (due)
        session->drain_from_ms = worker->now_ms + wait_ms;
    if (session->followed != NULL)
        lb_parked_close_due(worker, session);
    if (session->state == LB_SESSION_RELAY || session->state == LB_SESSION_KEPT)
        lb_deadline_arm_relay(worker, session);
    return due;
}

/* ---- connect ----------------------------------------------------------------------------------------------------- */

/* True when all of the header is on its way. A fresh socket has room for it. */
static bool send_proxy_header(struct lb_session *session) {
    uint8_t header[LB_PROXY_BUILD_MAX];
    size_t len;

    const struct lb_proxy_tlvs *tlvs = session->has_tlvs ? session->tlvs : NULL;

    if (session->followed != NULL)
        tlvs = session->followed->tlvs;
    if (session->destination.family == 0)
        lb_sock_local(session->client.fd, &session->destination);
    len =
        lb_proxy_build((enum l4lb_send_proxy)session->send_proxy, &session->peer, &session->destination, tlvs, header);
    return lb_side_send(&session->server, header, (uint32_t)len).bytes == len;
}

/* The session reached a backend for the first time. */
static void reached_first(struct lb_worker *worker, struct lb_session *session) {
    session->connect_us = (uint32_t)LB_MIN((worker->now_ns - session->started_ns) / LB_NS_PER_US, UINT32_MAX - 1ull);
    if (worker->snapshot->interval_ms > 0 && (worker->snapshot->events & L4LB_EVENT_INTERVAL) != 0)
        session->interval_at_ms = worker->now_ms + worker->snapshot->interval_ms;
    lb_account_record(worker, session, L4LB_EVENT_OPEN, L4LB_CLOSE_NORMAL);
}

/* The session has a backend connection. A request that is sent again goes first. */
static inline __attribute__((always_inline)) void begin_relay(struct lb_worker *worker, struct lb_session *session) {
    session->last_ns = worker->now_ns;
    if (session->followed != NULL && !lb_place_resend(worker, session))
        lb_session_drop(worker, session, L4LB_CLOSE_RESOURCE, true, true);
    else
        run(worker, session);
}

static void connected(struct lb_worker *worker, struct lb_session *session) {
    uint64_t took_us = (worker->now_ns - session->attempt_ns) / LB_NS_PER_US;

    session->state = LB_SESSION_RELAY;
    lb_histogram_add(&lb_account_counters(worker, session)->connect, took_us);
    if (session->followed != NULL)
        lb_session_sticky_release(worker, session);
    lb_session_sticky_join(worker, session);
    if (session->connect_us == UINT32_MAX)
        reached_first(worker, session);
    if (session->send_proxy != L4LB_SEND_PROXY_OFF && !send_proxy_header(session)) {
        lb_session_drop(worker, session, L4LB_CLOSE_SERVER_ABORT, false, false);
        return;
    }
    lb_session_drop_tlvs(session);
    begin_relay(worker, session);
}

/* What follows from how things stand with the backend. */
static void continue_connect(struct lb_worker *worker, struct lb_session *session, enum lb_connect result) {
    switch (result) {
    case LB_CONNECT_PENDING:
        break;
    case LB_CONNECT_READY:
        connected(worker, session);
        break;
    case LB_CONNECT_HELD:
        begin_relay(worker, session);
        break;
    case LB_CONNECT_FAILED:
        lb_session_close(worker, session, (enum l4lb_close)session->close);
        break;
    }
}

/* A followed session does not need the backend at a boundary. True if it gave the backend up. */
static bool detach(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason) {
    if (reason == L4LB_CLOSE_KILLED || session->state != LB_SESSION_RELAY || session->claim.turn_reserved ||
        !lb_followed_at_boundary(session))
        return false;
    lb_place_detach(worker, session);
    run(worker, session);
    return true;
}

bool lb_session_cut(struct lb_worker *worker, struct lb_session *session, enum l4lb_close reason) {
    bool moves_on = reason == L4LB_CLOSE_BACKEND_DOWN || reason == L4LB_CLOSE_BETTER_UP;
    enum lb_connect result;

    LB_OWNER(worker);
    if (detach(worker, session, reason))
        return false;
    if (session->state != LB_SESSION_CONNECT || !moves_on) {
        lb_session_kill(worker, session, reason);
        return true;
    }
    session->close = (uint8_t)lb_close_while_connecting(reason);
    result = lb_connect_elsewhere(worker, session);
    continue_connect(worker, session, result);
    return result == LB_CONNECT_FAILED;
}

void lb_session_granted(struct lb_worker *worker, struct lb_waiting *entry) {
    struct lb_session *session = container_of(entry, struct lb_session, waiting);

    LB_OWNER(worker);
    continue_connect(worker, session, lb_connect_next(worker, session));
}

/* ---- begin ------------------------------------------------------------------------------------------------------- */

/* From here on it is a session of this pool. */
static const struct lb_pool *enter_pool(struct lb_worker *worker, struct lb_session *session, uint32_t index) {
    const struct lb_pool *pool = &worker->snapshot->pools[index];

    lb_newcomers_remove(worker, session);
    session->pool = (uint16_t)pool->slot;
    session->has_pool = true;
    atomic_fetch_add(&pool->shared->sessions, 1);
    session->timeouts = pool->config.timeouts;
    if (pool->config.lifetime_ms > 0)
        session->lifetime_at_ms = session->started_ns / LB_NS_PER_MS + pool->config.lifetime_ms;
    session->state = LB_SESSION_CONNECT;
    session->close = L4LB_CLOSE_NO_BACKEND;
    return pool;
}

/* A followed session waits for its first request. Its client may have sent it already, behind a PROXY header. False
 * without memory: it is a plain one. */
static __attribute__((noinline)) bool await_request(struct lb_worker *worker, struct lb_session *session,
                                                    const struct lb_pool *pool) {
    if (lb_follow_begin(worker, session, pool) < 0)
        return false;
    session->state = LB_SESSION_KEPT;
    session->server.can_write = true;
    session->last_ns = worker->now_ns;
    run(worker, session);
    return true;
}

static void start(struct lb_worker *worker, struct lb_session *session, uint32_t index) {
    const struct lb_pool *pool = enter_pool(worker, session, index);

    if (pool->config.protocol != L4LB_PROTOCOL_HTTP1 || !await_request(worker, session, pool))
        continue_connect(worker, session, lb_connect_next(worker, session));
}

static void greet(struct lb_worker *worker, struct lb_session *session, struct lb_greeted greeted);

static struct lb_greeted read_greeting(struct lb_worker *worker, struct lb_session *session) {
    return session->state == LB_SESSION_HEADER ? lb_greeting_read_header(worker, session)
                                               : lb_greeting_read_hello(worker, session);
}

/* A client may have spoken although the worker has not seen the event yet: only the socket knows. */
static void reject_if_silent(struct lb_worker *worker, struct lb_session *session) {
    struct lb_greeted greeted = read_greeting(worker, session);

    if (greeted.how == LB_GREETING_WAIT)
        lb_session_reject(worker, session, L4LB_REJECT_SILENT);
    else
        greet(worker, session, greeted);
}

/* Wait for the client's PROXY header or server name. An oldest newcomer whose header is complete may still owe its
 * name: the loop meets it again. */
static void welcome(struct lb_worker *worker, struct lb_session *session) {
    struct lb_session *oldest;

    lb_newcomers_add(worker, session);
    while ((oldest = lb_newcomers_excess(worker, session)) != NULL)
        reject_if_silent(worker, oldest);
}

/* What follows from what the client has said. */
static void greet(struct lb_worker *worker, struct lb_session *session, struct lb_greeted greeted) {
    switch (greeted.how) {
    case LB_GREETING_WAIT:
        break;
    case LB_GREETING_HELLO:
        session->state = LB_SESSION_HELLO;
        lb_deadline_arm(worker, session,
                        worker->now_ms + lb_snapshot_listener(worker->snapshot, session->ticket.listener)->hello_ms);
        welcome(worker, session);
        if (session->client.can_read)
            greet(worker, session, lb_greeting_read_hello(worker, session));
        break;
    case LB_GREETING_POOL:
        start(worker, session, greeted.pool);
        break;
    case LB_GREETING_ABANDONED:
        (void)enter_pool(worker, session, greeted.pool);
        lb_session_close(worker, session, L4LB_CLOSE_CLIENT_ABORT_CONNECT);
        break;
    case LB_GREETING_REJECT:
        lb_session_reject(worker, session, greeted.reason);
        break;
    }
}

void lb_session_open(struct lb_worker *worker, const struct lb_listener *listener, struct lb_ticket ticket, int fd,
                     const struct l4lb_endpoint *peer, bool expects_header) {
    struct lb_session *session = lb_session_table_take(&worker->sessions);
    struct lb_poll_tag tag = {.kind = LB_POLL_CLIENT};

    LB_OWNER(worker);
    if (session == NULL) {
        lb_count_add(&worker->counters.listeners[listener->slot].rejected[L4LB_REJECT_RESOURCE], 1);
        lb_sock_close(&fd, false);
        lb_admission_release(&ticket, worker->runtime);
        return;
    }
    session->state = LB_SESSION_HEADER;
    session->client = (struct lb_side){.fd = fd, .can_write = true, .nodelay = true};
    session->server = (struct lb_side){.fd = -1};
    lb_relay_init(&session->up, true);
    lb_relay_init(&session->down, false);
    lb_list_init(&session->ready);
    lb_timer_init(&session->timer);
    lb_phase_init(&session->phase);
    session->ticket = ticket;
    lb_claim_init(&session->claim);
    session->peer = *peer;
    session->started_ns = session->last_ns = worker->now_ns;
    session->lifetime_at_ms = session->interval_at_ms = OFF;
    session->connect_us = UINT32_MAX;
    session->first_byte_us = UINT64_MAX;
    lb_count_add(&worker->stats.sessions, 1);

    tag.number = session->index;
    tag.generation = session->generation;
    if (lb_poll_add(worker->epoll_fd, fd, LB_SIDE_EVENTS, tag) < 0) {
        lb_session_reject(worker, session, L4LB_REJECT_RESOURCE);
        return;
    }
    if (expects_header) {
        lb_deadline_arm(worker, session, worker->now_ms + listener->proxy_timeout_ms);
        welcome(worker, session);
    } else {
        greet(worker, session, lb_greeting_admit(listener));
    }
}

/* ---- what happens ------------------------------------------------------------------------------------------------ */

void lb_session_event(struct lb_worker *worker, struct lb_session *session, enum lb_side_name name, uint32_t events) {
    struct lb_side *side = name == LB_CLIENT ? &session->client : &session->server;

    LB_OWNER(worker);
    lb_side_event(side, events);
    switch (session->state) {
    case LB_SESSION_HEADER:
        greet(worker, session, lb_greeting_read_header(worker, session));
        break;
    case LB_SESSION_HELLO:
        if (side->can_read)
            greet(worker, session, lb_greeting_read_hello(worker, session));
        break;
    case LB_SESSION_CONNECT:
        if (name == LB_SERVER)
            continue_connect(worker, session, lb_connect_event(worker, session, events));
        else if (lb_connect_is_abandoned(worker, session, events))
            lb_session_drop(worker, session, L4LB_CLOSE_CLIENT_ABORT_CONNECT, false, true);
        break;
    case LB_SESSION_QUEUE:
        if (lb_connect_is_abandoned(worker, session, events))
            lb_session_close(worker, session, L4LB_CLOSE_CLIENT_ABORT_QUEUE);
        break;
    case LB_SESSION_RELAY:
    case LB_SESSION_KEPT:
        run(worker, session);
        break;
    case LB_SESSION_LINGER:
        lb_session_linger(worker, session);
        break;
    case LB_SESSION_FREE:
        LB_BUG_ON(true);
    }
}

void lb_session_resume(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    run(worker, session);
}

void lb_session_timer(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    switch (session->state) {
    case LB_SESSION_HEADER:
    case LB_SESSION_HELLO:
        greet(worker, session, lb_greeting_expire(worker, session));
        break;
    case LB_SESSION_CONNECT:
    case LB_SESSION_QUEUE:
        continue_connect(worker, session, lb_connect_expire(worker, session));
        break;
    case LB_SESSION_RELAY:
    case LB_SESSION_KEPT:
        meet_deadlines(worker, session);
        break;
    case LB_SESSION_LINGER:
        lb_session_linger(worker, session);
        break;
    case LB_SESSION_FREE:
        LB_BUG_ON(true);
    }
}
