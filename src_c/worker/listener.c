/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/listener.h"

#include <errno.h>
#include <sys/epoll.h>

#include "base/bounds.h"
#include "base/count.h"
#include "config/admission.h"
#include "kernel/poll_tag.h"
#include "kernel/sock.h"
#include "session/session_run.h"

enum outcome {
    ACCEPTED, /* a client was let in or rejected, or left before it was accepted */
    DRY,      /* no more clients */
    FULL,     /* no capacity */
    REFUSED,  /* the kernel has no descriptor or memory left */
};

static void turn_away(struct lb_worker *worker, struct lb_ticket ticket, int fd, enum l4lb_reject reason) {
    lb_count_add(&worker->counters.listeners[ticket.listener].rejected[reason], 1);
    lb_sock_close(&fd, false);
    lb_admission_release(&ticket, worker->runtime);
}

static void admit(struct lb_worker *worker, const struct lb_listener *listener, struct lb_ticket ticket, int fd,
                  const struct l4lb_endpoint *peer) {
    bool speaks_proxy = listener->proxy_mode != L4LB_PROXY_OFF && lb_admission_trusts(listener, peer);

    lb_count_add(&worker->counters.listeners[listener->slot].connections_total, 1);
    if (listener->proxy_mode == L4LB_PROXY_REQUIRE && !speaks_proxy)
        turn_away(worker, ticket, fd, L4LB_REJECT_PROXY_UNTRUSTED);
    else if (!speaks_proxy && !lb_admission_identify(&ticket, listener, peer))
        turn_away(worker, ticket, fd, L4LB_REJECT_DENIED);
    else
        lb_session_open(worker, listener, ticket, fd, peer, speaks_proxy);
}

static enum outcome accept_one(struct lb_worker *worker, const struct lb_listen_socket *sock) {
    const struct lb_listener *listener = &worker->snapshot->listeners[sock->listener];
    struct l4lb_endpoint peer;
    struct lb_ticket ticket;
    int fd;

    if (worker->now_ms < worker->rest_until_ms)
        return REFUSED;
    if (!lb_admission_reserve(&ticket, worker->runtime, listener))
        return FULL;
    fd = lb_sock_accept(sock->fd, &peer);
    if (fd >= 0) {
        admit(worker, listener, ticket, fd, &peer);
        return ACCEPTED;
    }
    lb_admission_release(&ticket, worker->runtime);
    switch (fd) {
    case -EMFILE:
    case -ENFILE:
    case -ENOBUFS:
    case -ENOMEM:
        return REFUSED;
    case -ECONNABORTED: /* errors of this one client, see accept(2) */
    case -EPERM:
    case -EPROTO:
    case -ENOPROTOOPT:
    case -ENETDOWN:
    case -ENETUNREACH:
    case -ENONET:
    case -EHOSTDOWN:
    case -EHOSTUNREACH:
    case -EOPNOTSUPP:
        return ACCEPTED;
    default: /* -EAGAIN, or the socket no longer listens */
        return DRY;
    }
}

static void watch(struct lb_worker *worker, struct lb_listen_socket *sock) {
    struct lb_poll_tag tag = {.kind = LB_POLL_LISTENER, .number = (uint32_t)sock->fd};
    /* Workers share unix sockets: wake only one of them. */
    sock->watched = lb_poll_add(worker->epoll_fd, sock->fd, EPOLLIN | EPOLLEXCLUSIVE, tag) == 0;
}

static void pause_socket(struct lb_worker *worker, struct lb_listen_socket *sock) {
    lb_poll_remove(worker->epoll_fd, sock->fd);
    sock->watched = false;
    worker->paused = true;
    lb_count_add(&worker->stats.accept_pauses_total, 1);
    atomic_fetch_or(&worker->runtime->paused, 1ull << worker->index);
}

static struct lb_listen_socket *find(const struct lb_worker *worker, const struct lb_snapshot *snapshot, int fd) {
    struct lb_listen_socket *sockets;
    uint32_t low = 0, high;

    if (snapshot == NULL)
        return NULL;
    sockets = lb_snapshot_sockets(snapshot, worker->index);
    high = snapshot->n_sockets;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (sockets[middle].fd == fd)
            return &sockets[middle];
        if (sockets[middle].fd < fd)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

void lb_listener_accept(struct lb_worker *worker, int fd) {
    struct lb_listen_socket *sock = find(worker, worker->snapshot, fd);
    uint32_t burst;

    LB_OWNER(worker);
    if (sock == NULL || !sock->watched)
        return;
    burst = sock->last_iteration + 1 == worker->iteration ? LB_MIN(2 * sock->burst, (uint32_t)LB_ACCEPT_BURST_MAX) : 1;
    sock->burst = burst;
    sock->last_iteration = worker->iteration;
    while (burst-- > 0) {
        enum outcome outcome = accept_one(worker, sock);
        if (outcome == FULL) {
            pause_socket(worker, sock);
            /* Capacity that was released before our bit was set has woken no worker: try again. */
            outcome = accept_one(worker, sock);
            if (outcome == FULL)
                return;
            watch(worker, sock);
        }
        if (outcome == REFUSED) {
            worker->rest_until_ms = worker->now_ms + LB_ACCEPT_REST_MS;
            pause_socket(worker, sock);
            return;
        }
        if (outcome == DRY) {
            sock->burst = 1;
            sock->last_iteration = 0;
            return;
        }
    }
}

static bool has_capacity(const struct lb_worker *worker, const struct lb_listen_socket *sock) {
    const struct lb_listener *listener = &worker->snapshot->listeners[sock->listener];

    return atomic_load(&worker->runtime->sessions) < worker->runtime->sessions_max &&
           (listener->connections_max == 0 || atomic_load(&listener->shared->connections) < listener->connections_max);
}

void lb_listener_resume(struct lb_worker *worker) {
    struct lb_listen_socket *sockets;
    bool all = true;

    LB_OWNER(worker);
    if (worker->snapshot == NULL || worker->now_ms < worker->rest_until_ms)
        return;
    sockets = lb_snapshot_sockets(worker->snapshot, worker->index);
    for (uint32_t i = 0; i < worker->snapshot->n_sockets; i++) {
        if (!sockets[i].watched && has_capacity(worker, &sockets[i]))
            watch(worker, &sockets[i]);
        all = all && sockets[i].watched;
    }
    if (all) {
        worker->paused = false;
        atomic_fetch_and(&worker->runtime->paused, ~(1ull << worker->index));
    }
}

/* After LB_LAST_BURST_MAX clients a socket is removed, even if more keep coming. */
bool lb_listener_empty(struct lb_worker *worker, const struct lb_snapshot *next) {
    uint32_t left = LB_LAST_BURST_PART;

    for (uint32_t i = 0; worker->snapshot != NULL && i < worker->snapshot->n_sockets; i++) {
        struct lb_listen_socket *sock = &lb_snapshot_sockets(worker->snapshot, worker->index)[i];
        if (find(worker, next, sock->fd) != NULL)
            continue;
        while (sock->n_last < LB_LAST_BURST_MAX) {
            if (left-- == 0)
                return false;
            sock->n_last = accept_one(worker, sock) == ACCEPTED ? sock->n_last + 1 : LB_LAST_BURST_MAX;
        }
    }
    return true;
}

void lb_listener_adopt(struct lb_worker *worker, struct lb_snapshot *next) {
    struct lb_listen_socket *after = lb_snapshot_sockets(next, worker->index), *after_end = after + next->n_sockets;
    struct lb_listen_socket *before = NULL, *before_end = NULL;

    LB_OWNER(worker);
    if (worker->snapshot != NULL) {
        before = lb_snapshot_sockets(worker->snapshot, worker->index);
        before_end = before + worker->snapshot->n_sockets;
    }
    while (before < before_end || after < after_end) {
        if (after == after_end || (before < before_end && before->fd < after->fd)) {
            if (before->watched)
                lb_poll_remove(worker->epoll_fd, before->fd);
            before++;
        } else if (before == before_end || after->fd < before->fd) {
            watch(worker, after);
            worker->paused = worker->paused || !after->watched;
            after++;
        } else {
            after->last_iteration = before->last_iteration;
            after->burst = before->burst;
            after->watched = before->watched;
            before++;
            after++;
        }
    }
    worker->snapshot = next;
}

void lb_listener_unwatch(struct lb_worker *worker) {
    struct lb_listen_socket *sockets;

    LB_OWNER(worker);
    if (worker->snapshot == NULL)
        return;
    sockets = lb_snapshot_sockets(worker->snapshot, worker->index);
    for (uint32_t i = 0; i < worker->snapshot->n_sockets; i++) {
        if (sockets[i].watched)
            lb_poll_remove(worker->epoll_fd, sockets[i].fd);
        sockets[i].watched = false;
    }
    worker->paused = false;
    atomic_fetch_and(&worker->runtime->paused, ~(1ull << worker->index));
}
