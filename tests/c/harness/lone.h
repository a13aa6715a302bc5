/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lone - a worker without a thread: the test runs its loop, one iteration after the other, and looks inside.
 *
 * It has one listener and one pool with up to LONE_BACKENDS backends, each a listening socket that accepts nothing: the
 * kernel connects on its behalf. The test changes `pool`, `listener` and `backends` and publishes.
 *
 * Owner:   one test; `static`, for it is large.
 * Memory:  lone_init to lone_fini; sockets of clients are the test's.
 */
#ifndef LONE_H
#define LONE_H

#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include "config/snapshot.h"
#include "session/session_end.h"
#include "session/session_run.h"
#include "session/session_sticky.h"
#include "session/worker.h"
#include "structures/lpm.h"
#include "worker/listener.h"
#include "worker/loop.h"

enum { LONE_BACKENDS = 3, LONE_SESSIONS = 4096, LONE_LONG_MS = 600000, LONE_ITERATIONS = 3000000 };

struct lone {
    struct lb_worker worker;
    struct lb_runtime runtime;
    struct sockaddr_in front, back[LONE_BACKENDS];
    int front_fd, back_fds[LONE_BACKENDS];
    struct l4lb_backend_config backends[LONE_BACKENDS];
    struct l4lb_pool_config pool;
    struct l4lb_listener_config listener;
    struct l4lb_config config;
};

static inline int lone_listen(struct sockaddr_in *address) {
    socklen_t len = sizeof *address;
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    (void)CHECK_SYS(bind(fd, (struct sockaddr *)address, len));
    (void)CHECK_SYS(listen(fd, 4096));
    (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)address, &len));
    return fd;
}

static inline void lone_iterate(struct lone *lone) {
    lb_worker_wake(&lone->worker); /* epoll must not wait */
    lb_loop_iterate(&lone->worker);
}

/* One more iteration each time, until it is so. */
#define LONE_UNTIL(lone, condition)                                                                                    \
    do {                                                                                                               \
        int lone_left = LONE_ITERATIONS;                                                                               \
        while (!(condition) && lone_left-- > 0)                                                                        \
            lone_iterate(lone);                                                                                        \
        CHECK(lone_left >= 0 && #condition);                                                                           \
    } while (0)

/* The new snapshot is in use when this returns. */
static inline void lone_publish(struct lone *lone) {
    struct lb_snapshot *before = atomic_load(&lone->runtime.snapshot), *next;

    CHECK_OK(lb_snapshot_new(&lone->config, 1, &lone->runtime.shared, before, &next));
    next->sequence = before == NULL ? 1 : before->sequence + 1;
    atomic_store(&lone->runtime.snapshot, next);
    LONE_UNTIL(lone, lone->worker.snapshot == next);
    lb_snapshot_free(before);
}

static inline void lone_init(struct lone *lone) {
    static const struct l4lb_options options = {
        .n_workers = 1, .sessions_max = LONE_SESSIONS, .pipes_max = 2, .pipe_bytes = 65536, .events_cap = 64};
    static const char *const names[LONE_BACKENDS] = {"a", "b", "c"};
    struct rlimit files;

    CHECK_OK(getrlimit(RLIMIT_NOFILE, &files));
    files.rlim_cur = files.rlim_max;
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &files));
    memset(lone, 0, sizeof *lone);
    lone->runtime.sessions_max = LONE_SESSIONS;
    lone->runtime.workers = &lone->worker;
    lone->runtime.n_workers = 1;
    lone->runtime.event_fd = -1;
    CHECK_OK(lb_shared_init(&lone->runtime.shared));
    CHECK_OK(lb_worker_init(&lone->worker, 0, &lone->runtime, &options));
    lone->front_fd = lone_listen(&lone->front);
    for (uint32_t i = 0; i < LONE_BACKENDS; i++) {
        lone->back_fds[i] = lone_listen(&lone->back[i]);
        lone->backends[i] = (struct l4lb_backend_config){.slot = i,
                                                         .weight = 1,
                                                         .usable = 1,
                                                         .name = names[i],
                                                         .address = (const struct sockaddr *)&lone->back[i],
                                                         .address_len = sizeof lone->back[i]};
    }
    lone->pool = (struct l4lb_pool_config){.balance = L4LB_ROUND_ROBIN,
                                           .connect_ms = LONE_LONG_MS,
                                           .timeouts.idle_ms = LONE_LONG_MS,
                                           .timeouts.half_close_ms = LONE_LONG_MS,
                                           .backends = lone->backends,
                                           .n_backends = 1};
    lone->listener = (struct l4lb_listener_config){.fds = &lone->front_fd, .n_binds = 1};
    lone->config =
        (struct l4lb_config){.listeners = &lone->listener, .n_listeners = 1, .pools = &lone->pool, .n_pools = 1};
    lone_publish(lone);
}

static inline void lone_fini(struct lone *lone) {
    struct lb_session *session;

    lb_listener_unwatch(&lone->worker);
    while ((session = lb_session_table_next(&lone->worker.sessions, 0)) != NULL)
        lb_session_kill(&lone->worker, session, L4LB_CLOSE_SHUTDOWN);
    CHECK_EQ(atomic_load(&lone->runtime.sessions), 0);
    lb_worker_fini(&lone->worker);
    lb_snapshot_free(atomic_load(&lone->runtime.snapshot));
    lb_shared_fini(&lone->runtime.shared);
    (void)close(lone->front_fd);
    for (int i = 0; i < LONE_BACKENDS; i++)
        (void)close(lone->back_fds[i]);
}

/* Publish with every peer having to show a PROXY header. */
static inline void lone_expect_headers(struct lone *lone) {
    const struct l4lb_prefix everywhere = {.address = {[10] = 0xff, 0xff}, .length = 96};
    struct lb_lpm *trusted;

    CHECK_OK(lb_lpm_new(&everywhere, NULL, 1, &trusted));
    lone->listener.proxy_mode = L4LB_PROXY_REQUIRE;
    lone->listener.proxy_timeout_ms = LONE_LONG_MS;
    lone->listener.proxy_from = trusted;
    lone_publish(lone);
    lb_lpm_free(trusted);
    lone->listener.proxy_from = NULL;
}

/* A client that has connected; the worker has not seen it yet. */
static inline int lone_client(const struct lone *lone) {
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));

    if (connect(fd, (const struct sockaddr *)&lone->front, sizeof lone->front) == -1)
        CHECK_EQ(errno, EINPROGRESS);
    return fd;
}

static inline uint32_t lone_in_state(const struct lone *lone, enum lb_session_state state) {
    const struct lb_session *session;
    uint32_t n = 0, index = 0;

    while ((session = lb_session_table_next(&lone->worker.sessions, index)) != NULL) {
        n += session->state == state;
        index = session->index + 1;
    }
    return n;
}

/* The only session of the worker. */
static inline struct lb_session *lone_session(struct lone *lone) {
    CHECK_EQ(lone->worker.stats.sessions, 1);
    return lb_session_table_next(&lone->worker.sessions, 0);
}

static inline uint64_t lone_closed(const struct lone *lone, enum l4lb_close reason) {
    return lone->worker.counters.pools[0].closed[reason];
}

static inline uint64_t lone_rejected(const struct lone *lone, enum l4lb_reject reason) {
    return lone->worker.counters.listeners[0].rejected[reason];
}

#endif
