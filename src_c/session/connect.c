/* SPDX-License-Identifier: Apache-2.0 */
#include "session/connect.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>

#include "base/clock.h"
#include "base/count.h"
#include "base/hash.h"
#include "base/histogram.h"
#include "config/balance.h"
#include "kernel/poll_tag.h"
#include "kernel/sock.h"
#include "kernel/source.h"
#include "kernel/transport.h"
#include "session/account.h"
#include "session/deadline.h"
#include "session/followed.h"
#include "session/parked.h"
#include "session/session_sticky.h"

_Static_assert(L4LB_RETRIES_MAX < UINT8_MAX, "attempts are counted in a byte");

static enum lb_connect fail_with(struct lb_session *session, enum l4lb_close reason) {
    session->close = (uint8_t)reason;
    return LB_CONNECT_FAILED;
}

/* ---- a pick ------------------------------------------------------------------------------------------------------ */

/* Does the next attempt go to the same backend? HAProxy's redispatch rules: a client bound to a backend, by hash or by
 * the stick table, moves to another one only on the last retry, or when the backend takes no new sessions. Any other
 * client moves at once if the pool has another usable backend. */
static bool keeps_backend(struct lb_worker *worker, const struct lb_session *session, const struct lb_pool *pool) {
    return session->retries < pool->config.retries &&
           (lb_balance_is_hashed(pool) || lb_session_sticky_binds(worker, session, pool));
}

/* The backend that the client is bound to, reserved; else -EAGAIN. */
static int choose_bound(struct lb_worker *worker, const struct lb_session *session, const struct lb_pool *pool,
                        const struct lb_balance_request *request) {
    uint32_t at;

    if (session->n_tried == 0)
        return lb_session_sticky_pick(worker, session, pool, request);
    at = keeps_backend(worker, session, pool) ? lb_pool_index_of(pool, session->claim.backend) : UINT32_MAX;
    return at == UINT32_MAX ? -EAGAIN : lb_balance_reserve_at(pool, request, at);
}

/* The hash of the pool's key for this client. */
static uint64_t hash_of_client(const struct lb_session *session, const struct lb_pool *pool) {
    size_t address_len = session->peer.family == AF_INET ? 4 : sizeof session->peer.address;
    uint16_t port = pool->config.hash_key == L4LB_HASH_SOURCE_IP_PORT ? session->peer.port : 0;

    if (pool->config.hash_key == L4LB_HASH_SNI && session->server_name != 0)
        return session->server_name;
    return lb_hash_bytes(session->peer.address, address_len, port);
}

/* True if a new backend connection would replace a parked one too soon after the last one. */
static bool is_held_only(const struct lb_worker *worker, const struct lb_followed *followed) {
    return followed != NULL && followed->n_parked == LB_PARKED_MAX &&
           worker->now_ms < followed->connected_ms + LB_REPLACE_MS;
}

/* What a followed session has already: its backend connections, and the backend of its last request. */
static void note_held(const struct lb_session *session, struct lb_balance_request *request) {
    const struct lb_followed *followed = session->followed;

    if (session->claim.has_capacity)
        request->held[request->n_held++] = session->claim.backend;
    for (uint32_t i = 0; i < followed->n_parked; i++)
        request->held[request->n_held++] = followed->parked[i].claim.backend;
    request->current = followed->backend;
    request->has_current = followed->backend != UINT32_MAX;
}

static int choose(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool) {
    struct lb_balance_request request = {.n_tried = LB_MIN(session->n_tried, (uint32_t)LB_TRIED_MAX),
                                         .last_tried = session->claim.backend};
    int at;

    request.now_ms = worker->now_ms;
    if (session->followed != NULL)
        note_held(session, &request);
    at = choose_bound(worker, session, pool, &request);
    if (at >= 0)
        return at;
    request.held_only = is_held_only(worker, session->followed);
    request.hash = hash_of_client(session, pool);
    request.zone = lb_snapshot_zone(worker->snapshot, pool, &session->peer);
    memcpy(request.tried, session->tried, sizeof request.tried);
    return lb_balance_pick(pool, &request, &worker->rng);
}

/* ---- an attempt -------------------------------------------------------------------------------------------------- */

/* Did this host cause the error, and not the backend? */
static bool is_local_error(int error) {
    return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM || error == -EADDRNOTAVAIL;
}

static enum l4lb_close failure_reason(int error) {
    if (error == -ETIMEDOUT)
        return L4LB_CLOSE_CONNECT_TIMEOUT;
    return is_local_error(error) ? L4LB_CLOSE_RESOURCE : L4LB_CLOSE_CONNECT_FAILED;
}

static void count_failure(struct lb_worker *worker, const struct lb_session *session, int error) {
    struct l4lb_backend_stats *counters = lb_account_counters(worker, session);

    if (error == -ETIMEDOUT)
        lb_count_add(&counters->connect_timeouts_total, 1);
    else if (!is_local_error(error))
        lb_count_add(&counters->connect_failures_total, 1);
}

/* The backlog of the backend's unix socket is full. The session keeps its claim and tries again, at growing intervals,
 * until the connect timeout. The intervals are random, so that sessions refused together do not return together. */
static void try_again_soon(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool) {
    uint64_t begun_ms = session->attempt_ns / LB_NS_PER_MS, waited_ms = worker->now_ms - begun_ms;
    uint32_t most_ms = (uint32_t)LB_MIN(LB_FULL_WAIT_MIN_MS + waited_ms / 4, (uint64_t)LB_FULL_WAIT_MAX_MS);
    uint64_t wait_ms = 1 + lb_rng_below(&worker->rng, most_ms);

    lb_deadline_arm(worker, session, LB_MIN(worker->now_ms + wait_ms, begun_ms + pool->config.connect_ms));
}

/* 0 when the attempt is in progress, or will be repeated. */
static int open_server(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool,
                       const struct lb_backend *backend) {
    struct lb_poll_tag tag = {LB_POLL_SERVER, session->index, session->generation, session->serial};
    int result = lb_sources_connect(pool->sources, worker->source_cursor++, (const struct sockaddr *)&backend->address,
                                    backend->address_len, &pool->config.tcp);

    if (result == -EAGAIN) {
        try_again_soon(worker, session, pool);
        return 0;
    }
    if (result < 0)
        return result;
    session->server = (struct lb_side){.fd = result, .can_write = true};
    result = lb_poll_add(worker->epoll_fd, session->server.fd, LB_SIDE_EVENTS, tag);
    if (result < 0) {
        lb_side_close(&session->server, false);
        return -ENOMEM;
    }
    lb_deadline_arm(worker, session, session->attempt_ns / LB_NS_PER_MS + pool->config.connect_ms);
    return 0;
}

/* A turn of this backend is reserved. True if the session has a connection there. Otherwise it gets a new one: if that
 * ends without a response, the backend has failed, and the request is not sent again. */
static bool take_held(struct lb_worker *worker, struct lb_session *session, uint32_t backend) {
    struct lb_followed *followed = session->followed;
    bool held =
        (session->claim.has_capacity && session->claim.backend == backend) || lb_parked_take(worker, session, backend);

    if (followed->exchange.n_outstanding == 0)
        lb_exchange_keep_copy(&followed->exchange, held);
    if (held) {
        lb_claim_reserve_turn(&session->claim);
        session->state = LB_SESSION_RELAY;
        return true;
    }
    lb_parked_put(worker, session);
    followed->connected_ms = worker->now_ms;
    session->serial = lb_parked_next_serial(followed);
    session->responded = false;
    session->state = LB_SESSION_CONNECT;
    return false;
}

static int attempt(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool,
                   const struct lb_backend *backend) {
    lb_claim_take(&session->claim, &worker->runtime->shared, session->pool, backend->slot);
    lb_count_add(&lb_account_counters(worker, session)->connections_total, 1);
    session->attempt_ns = worker->now_ns;
    session->send_proxy = (uint8_t)pool->config.send_proxy;
    return open_server(worker, session, pool, backend);
}

/* An attempt failed. True if the next one may begin at once. Otherwise *result says whether the session waits first or
 * has failed. */
static bool may_retry(struct lb_worker *worker, struct lb_session *session, int error, enum lb_connect *result) {
    const struct lb_pool *pool = lb_snapshot_pool(worker->snapshot, session->pool);
    bool exhausted = error == -EMFILE || error == -ENFILE;
    bool more = pool != NULL && session->retries < pool->config.retries;
    bool at_once = more && !exhausted && pool->n_usable > 1 && !keeps_backend(worker, session, pool);

    count_failure(worker, session, error);
    if (more) {
        session->retries++;
        lb_count_add(&lb_account_counters(worker, session)->retries_total, 1);
    } else if (pool != NULL && !is_local_error(error)) {
        lb_session_sticky_unbind(worker, session);
    }
    lb_claim_drop(&session->claim, &worker->runtime->shared);
    lb_side_close(&session->server, false);
    session->close = (uint8_t)failure_reason(error);
    if (exhausted) /* No descriptors are left: accept no client for a while. */
        worker->rest_until_ms = worker->now_ms + LB_ACCEPT_REST_MS;
    else
        session->tried[session->n_tried++ % LB_TRIED_MAX] = session->claim.backend;
    if (more && !at_once)
        lb_deadline_arm(worker, session, worker->now_ms + LB_MIN((uint64_t)LB_RETRY_WAIT_MS, pool->config.connect_ms));
    *result = more ? LB_CONNECT_PENDING : LB_CONNECT_FAILED;
    return at_once;
}

/* ---- clients that give up ---------------------------------------------------------------------------------------- */

/* The client sent a FIN, which means in this pool that it has gone. */
static bool has_given_up(const struct lb_session *session, const struct lb_pool *pool) {
    return session->client.hup && pool != NULL && pool->config.abort_on_close;
}

/* The client sent a FIN and nothing before it. */
static bool has_nothing_to_ask(struct lb_session *session) {
    uint8_t byte;

    if (lb_session_is_sending_again(session))
        return false;
    return session->client.hup && lb_side_peek(&session->client, &byte, 1).io == LB_IO_END;
}

bool lb_connect_is_abandoned(const struct lb_worker *worker, struct lb_session *session, uint32_t events) {
    return (events & EPOLLERR) != 0 || has_given_up(session, lb_snapshot_pool(worker->snapshot, session->pool)) ||
           (session->state == LB_SESSION_QUEUE && has_nothing_to_ask(session));
}

/* ---- queue ------------------------------------------------------------------------------------------------------- */

static bool may_wait(const struct lb_pool *pool) { return pool != NULL && pool->config.queue_size > 0; }

/* Other sessions are queued. A retry keeps its rank: it held capacity before they came. */
static bool must_wait(const struct lb_session *session, const struct lb_pool *pool) {
    return may_wait(pool) && session->n_tried == 0 && session->state != LB_SESSION_QUEUE &&
           lb_queue_length(&pool->shared->queue) > 0;
}

/* The time in the queue that the session has left, over all its waits. */
static uint64_t patience_ms(const struct lb_session *session, const struct lb_pool *pool) {
    uint64_t waited_ms = session->queue_us * LB_NS_PER_US / LB_NS_PER_MS;

    return pool->config.queue_ms - LB_MIN(pool->config.queue_ms, waited_ms);
}

/* When the wait in the queue ends without a backend. */
static uint64_t patience_ends_ms(const struct lb_session *session, const struct lb_pool *pool) {
    return session->attempt_ns / LB_NS_PER_MS + patience_ms(session, pool);
}

/* The timer fires for the end of the wait, or for a parked connection that is due to be closed meanwhile. */
static void arm_queued(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool) {
    uint64_t parked_ms = session->followed != NULL ? lb_parked_due_ms(worker, session) : UINT64_MAX;

    lb_deadline_arm(worker, session, LB_MIN(patience_ends_ms(session, pool), parked_ms));
}

static enum lb_connect wait_in_line(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool) {
    struct lb_queue *queue = &pool->shared->queue;
    struct lb_balance_request request = {0};

    if (session->state == LB_SESSION_QUEUE) {
        lb_queue_return(queue, &session->waiting);
    } else {
        /* The client's end may have been reported before the session was queued. */
        if (session->client.error || has_given_up(session, pool) || has_nothing_to_ask(session))
            return fail_with(session, L4LB_CLOSE_CLIENT_ABORT_QUEUE);
        if (!lb_queue_enter(queue, &session->waiting, &worker->cross.mailbox, pool->config.queue_size))
            return fail_with(session, L4LB_CLOSE_QUEUE_FULL);
        session->state = LB_SESSION_QUEUE;
        session->attempt_ns = worker->now_ns;
        arm_queued(worker, session, pool);
    }
    /* Capacity that was released before this session was queued has granted nothing. */
    if (session->followed != NULL)
        note_held(session, &request);
    if (lb_balance_has_capacity(pool, &request))
        lb_queue_grant(queue);
    return LB_CONNECT_PENDING;
}

/* The session has a backend. There may be capacity for the next one as well. */
static void end_waiting(struct lb_worker *worker, struct lb_session *session, const struct lb_pool *pool) {
    if (session->state != LB_SESSION_QUEUE)
        return;
    lb_histogram_add(&worker->counters.pools[session->pool].queue,
                     lb_account_waited_us(worker, session) - session->queue_us);
    session->queue_us = lb_account_waited_us(worker, session);
    (void)!lb_queue_leave(&pool->shared->queue, &session->waiting);
    session->state = LB_SESSION_CONNECT;
    lb_queue_grant(&pool->shared->queue);
}

/* A grant that arrives too late goes on to the next session. */
void lb_connect_leave_queue(struct lb_worker *worker, struct lb_session *session) {
    struct lb_queue *queue = lb_account_queue(worker, session);
    struct lb_waiting **at = &worker->granted;

    LB_OWNER(worker);
    if (session->state != LB_SESSION_QUEUE || !lb_queue_leave(queue, &session->waiting))
        return;
    /* The grant is on the worker's list, in the mailbox, or being handled right now. */
    while (*at != NULL && (*at)->next != NULL)
        at = &(*at)->next;
    *(*at != NULL ? &(*at)->next : at) = lb_mailbox_take(&worker->cross.mailbox);
    for (at = &worker->granted; *at != NULL; at = &(*at)->next) {
        if (*at == &session->waiting) {
            *at = session->waiting.next;
            break;
        }
    }
    lb_queue_grant(queue);
}

/* ---- public ------------------------------------------------------------------------------------------------------ */

enum lb_connect lb_connect_next(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    if (session->followed != NULL)
        lb_parked_close_due(worker, session);
    /* One with a backend connection at hand may have sent its last request, and wait for the response. */
    if (has_given_up(session, lb_snapshot_pool(worker->snapshot, session->pool)) && session->state != LB_SESSION_RELAY)
        return fail_with(session, session->state == LB_SESSION_QUEUE ? L4LB_CLOSE_CLIENT_ABORT_QUEUE
                                                                     : L4LB_CLOSE_CLIENT_ABORT_CONNECT);
    for (;;) {
        const struct lb_pool *pool = lb_snapshot_pool(worker->snapshot, session->pool);
        int at = pool != NULL && !must_wait(session, pool) ? choose(worker, session, pool) : -EAGAIN;
        enum lb_connect result;
        int error;

        if (at < 0) {
            if (session->followed != NULL)
                lb_parked_put(worker, session);
            return may_wait(pool) ? wait_in_line(worker, session, pool) : LB_CONNECT_FAILED;
        }
        end_waiting(worker, session, pool);
        if (session->followed != NULL && take_held(worker, session, pool->backends[at].slot))
            return LB_CONNECT_HELD;
        error = attempt(worker, session, pool, &pool->backends[at]);
        if (error == 0)
            return LB_CONNECT_PENDING;
        if (!may_retry(worker, session, error, &result))
            return result;
    }
}

enum lb_connect lb_connect_elsewhere(struct lb_worker *worker, struct lb_session *session) {
    lb_claim_drop(&session->claim, &worker->runtime->shared);
    lb_side_close(&session->server, false);
    return lb_connect_next(worker, session);
}

static enum lb_connect fail(struct lb_worker *worker, struct lb_session *session, int error) {
    enum lb_connect result;
    return may_retry(worker, session, error, &result) ? lb_connect_next(worker, session) : result;
}

enum lb_connect lb_connect_event(struct lb_worker *worker, struct lb_session *session, uint32_t events) {
    int error;

    LB_OWNER(worker);
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
        error = lb_sock_attempt_error(session->server.fd);
        return error < 0 ? fail(worker, session, error) : LB_CONNECT_READY;
    }
    return (events & EPOLLOUT) != 0 ? LB_CONNECT_READY : LB_CONNECT_PENDING;
}

/* Try the full backend again, unless the connect timeout has passed or it takes no new sessions. */
static enum lb_connect resume(struct lb_worker *worker, struct lb_session *session) {
    const struct lb_pool *pool = lb_snapshot_pool(worker->snapshot, session->pool);
    uint32_t at = pool != NULL ? lb_pool_index_of(pool, session->claim.backend) : UINT32_MAX;
    int error;

    if (at == UINT32_MAX || pool->backends[at].weight == 0) {
        lb_claim_drop(&session->claim, &worker->runtime->shared);
        return lb_connect_next(worker, session);
    }
    if (worker->now_ms >= session->attempt_ns / LB_NS_PER_MS + pool->config.connect_ms)
        return fail(worker, session, -ETIMEDOUT);
    error = open_server(worker, session, pool, &pool->backends[at]);
    return error == 0 ? LB_CONNECT_PENDING : fail(worker, session, error);
}

/* The timer of a queued session fired. */
static enum lb_connect wait_on(struct lb_worker *worker, struct lb_session *session) {
    const struct lb_pool *pool = lb_snapshot_pool(worker->snapshot, session->pool);

    if (session->followed == NULL || pool == NULL || worker->now_ms >= patience_ends_ms(session, pool))
        return fail_with(session, L4LB_CLOSE_QUEUE_TIMEOUT);
    lb_parked_close_due(worker, session);
    arm_queued(worker, session, pool);
    return LB_CONNECT_PENDING;
}

enum lb_connect lb_connect_expire(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    if (worker->now_ms >= session->lifetime_at_ms)
        return fail_with(session, L4LB_CLOSE_LIFETIME);
    if (session->state == LB_SESSION_QUEUE)
        return wait_on(worker, session);
    if (session->server.fd >= 0)
        return fail(worker, session, -ETIMEDOUT);
    /* Without a socket, the session waited to retry: the backend that it still claims, or any. */
    return session->claim.has_backend ? resume(worker, session) : lb_connect_next(worker, session);
}
