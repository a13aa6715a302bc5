/* SPDX-License-Identifier: Apache-2.0 */
#include "session/parked.h"

#include <string.h>
#include <sys/epoll.h>

#include "base/bounds.h"
#include "base/clock.h"
#include "base/count.h"
#include "kernel/transport.h"

static void forget(struct lb_followed *followed, uint32_t at) {
    followed->n_parked--;
    memmove(&followed->parked[at], &followed->parked[at + 1], (followed->n_parked - at) * sizeof followed->parked[0]);
}

static void close_at(struct lb_worker *worker, struct lb_session *session, uint32_t at) {
    struct lb_parked *parked = &session->followed->parked[at];

    lb_side_close(&parked->side, false);
    lb_claim_drop(&parked->claim, &worker->runtime->shared);
    forget(session->followed, at);
}

bool lb_parked_is_wanted(const struct lb_worker *worker, const struct lb_session *session, uint32_t backend) {
    const struct lb_pool *pool = lb_snapshot_pool(worker->snapshot, session->pool);
    uint32_t at = pool != NULL ? lb_pool_index_of(pool, backend) : UINT32_MAX;

    return at == UINT32_MAX || (pool->backends[at].connections_max > 0 &&
                                atomic_load_explicit(&pool->backends[at].shared->connections, memory_order_relaxed) >=
                                    pool->backends[at].connections_max);
}

static void close_wanted(struct lb_worker *worker, struct lb_session *session) {
    for (uint32_t i = session->followed->n_parked; i-- > 0;) {
        if (lb_parked_is_wanted(worker, session, session->followed->parked[i].claim.backend))
            close_at(worker, session, i);
    }
}

void lb_parked_put(struct lb_worker *worker, struct lb_session *session) {
    struct lb_followed *followed = session->followed;

    LB_OWNER(worker);
    if (session->server.fd < 0)
        return;
    if (followed->n_parked == LB_PARKED_MAX)
        close_at(worker, session, 0);
    lb_relay_restart(&session->up, &worker->relay_env);
    lb_relay_restart(&session->down, &worker->relay_env);
    followed->parked[followed->n_parked++] = (struct lb_parked){.side = session->server,
                                                                .claim = session->claim,
                                                                .since_ms = session->last_ns / LB_NS_PER_MS,
                                                                .serial = session->serial};
    session->server = (struct lb_side){.fd = -1, .can_write = true};
    session->serial = 0;
    session->claim = (struct lb_claim){.backend = session->claim.backend};
    close_wanted(worker, session);
}

static uint32_t find(const struct lb_followed *followed, uint32_t backend) {
    uint32_t at = 0;

    while (at < followed->n_parked && followed->parked[at].claim.backend != backend)
        at++;
    return at;
}

bool lb_parked_take(struct lb_worker *worker, struct lb_session *session, uint32_t backend) {
    struct lb_followed *followed = session->followed;
    uint32_t at = find(followed, backend);
    struct lb_parked taken;

    LB_OWNER(worker);
    if (at == followed->n_parked)
        return false;
    taken = followed->parked[at];
    forget(followed, at);
    lb_parked_put(worker, session);
    session->server = taken.side;
    session->claim = taken.claim;
    session->serial = taken.serial;
    session->responded = true;
    lb_count_add(&worker->counters.pools[session->pool].reused_total, 1);
    return true;
}

/* Bytes that wait although no request is on the connection make it useless, and so does its end. */
static bool is_spent(struct lb_side *side, uint32_t events) {
    uint8_t byte;

    if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0)
        return true;
    return (events & (EPOLLIN | EPOLLPRI)) != 0 && lb_side_peek(side, &byte, 1).io != LB_IO_WAIT;
}

void lb_parked_event(struct lb_worker *worker, struct lb_session *session, uint8_t serial, uint32_t events) {
    struct lb_followed *followed = session->followed;

    LB_OWNER(worker);
    for (uint32_t i = 0; followed != NULL && i < followed->n_parked; i++) {
        if (followed->parked[i].serial != serial)
            continue;
        lb_side_event(&followed->parked[i].side, events & EPOLLOUT);
        if (is_spent(&followed->parked[i].side, events))
            close_at(worker, session, i);
        return;
    }
}

static bool has_serial(const struct lb_followed *followed, uint8_t serial) {
    for (uint32_t i = 0; i < followed->n_parked; i++) {
        if (followed->parked[i].serial == serial)
            return true;
    }
    return false;
}

uint8_t lb_parked_next_serial(struct lb_followed *followed) {
    do
        followed->last_serial++;
    while (followed->last_serial == 0 || has_serial(followed, followed->last_serial));
    return followed->last_serial;
}

static uint64_t due_ms(const struct lb_worker *worker, const struct lb_session *session,
                       const struct lb_parked *parked) {
    if (lb_backend_draining_ms(&worker->runtime->shared.backends[parked->claim.backend]) != 0)
        return 0;
    return session->timeouts.backend_keepalive_ms > 0 ? parked->since_ms + session->timeouts.backend_keepalive_ms
                                                      : UINT64_MAX;
}

uint64_t lb_parked_due_ms(const struct lb_worker *worker, const struct lb_session *session) {
    uint64_t first = UINT64_MAX;

    for (uint32_t i = 0; i < session->followed->n_parked; i++)
        first = LB_MIN(first, due_ms(worker, session, &session->followed->parked[i]));
    return first;
}

void lb_parked_close_due(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    for (uint32_t i = session->followed->n_parked; i-- > 0;) {
        if (due_ms(worker, session, &session->followed->parked[i]) <= worker->now_ms)
            close_at(worker, session, i);
    }
}

void lb_parked_close_of(struct lb_worker *worker, struct lb_session *session, uint32_t backend) {
    LB_OWNER(worker);
    for (uint32_t i = session->followed->n_parked; i-- > 0;) {
        if (session->followed->parked[i].claim.backend == backend)
            close_at(worker, session, i);
    }
}

void lb_parked_close_all(struct lb_worker *worker, struct lb_session *session) {
    LB_OWNER(worker);
    while (session->followed->n_parked > 0)
        close_at(worker, session, session->followed->n_parked - 1u);
}
