/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pair - a running balancer with one worker, and sessions of which the test is both the client and the backend.
 *
 * Owner:   one test; `static`, for it is large.
 * Memory:  pair_init to pair_fini; the sockets of sessions are the test's.
 */
#ifndef PAIR_H
#define PAIR_H

#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>

#include "l4lb.h"

enum { PAIR_WAIT_MS = 30000, PAIR_LONG_MS = 600000 };

struct pair {
    struct l4lb_engine *engine;
    struct sockaddr_in front, back;
    int front_fd, back_fd;
    struct l4lb_backend_config backend;
    struct l4lb_pool_config pool;
    struct l4lb_listener_config listener;
    struct l4lb_config config;
};

/* Look again and again until it is so; what takes longer than this never comes. */
#define PAIR_UNTIL(condition)                                                                                          \
    do {                                                                                                               \
        bool pair_is_so = false;                                                                                       \
        for (int pair_left = PAIR_WAIT_MS; !(pair_is_so = (condition)) && pair_left > 0; pair_left--)                  \
            pair_rest_ms(1);                                                                                           \
        CHECK(pair_is_so &&#condition);                                                                                \
    } while (0)

static inline void pair_rest_ms(int ms) {
    (void)nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000l}, NULL);
}

static inline int pair_listen(struct sockaddr_in *address) {
    socklen_t len = sizeof *address;
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    *address = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    (void)CHECK_SYS(bind(fd, (const struct sockaddr *)address, len));
    (void)CHECK_SYS(listen(fd, 64));
    (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)address, &len));
    return fd;
}

static inline uint32_t pair_slot(const struct pair *pair, enum l4lb_slot_kind kind) {
    int slot = l4lb_slot_take(pair->engine, kind);

    CHECK(slot >= 0);
    return (uint32_t)slot;
}

/* What the test changed in the configuration counts from here on. */
static inline void pair_publish(struct pair *pair) {
    CHECK_OK(l4lb_publish(pair->engine, &pair->config));
    PAIR_UNTIL(l4lb_reclaim(pair->engine) == 0);
}

static inline void pair_init(struct pair *pair) {
    static const struct l4lb_options options = {
        .n_workers = 1, .sessions_max = 100, .pipes_max = 4, .pipe_bytes = 65536, .events_cap = 64};

    memset(pair, 0, sizeof *pair);
    pair->front_fd = pair_listen(&pair->front);
    (void)CHECK_SYS(fcntl(pair->front_fd, F_SETFL, O_NONBLOCK));
    pair->back_fd = pair_listen(&pair->back);
    CHECK_OK(l4lb_engine_new(&options, &pair->engine));
    pair->backend = (struct l4lb_backend_config){.slot = pair_slot(pair, L4LB_SLOT_BACKEND),
                                                 .weight = 1,
                                                 .usable = 1,
                                                 .name = "one",
                                                 .address = (const struct sockaddr *)&pair->back,
                                                 .address_len = sizeof pair->back};
    pair->pool = (struct l4lb_pool_config){.slot = pair_slot(pair, L4LB_SLOT_POOL),
                                           .balance = L4LB_ROUND_ROBIN,
                                           .retries = 3,
                                           .connect_ms = 5000,
                                           .idle_ms = PAIR_LONG_MS,
                                           .half_close_ms = PAIR_LONG_MS,
                                           .backends = &pair->backend,
                                           .n_backends = 1};
    pair->listener = (struct l4lb_listener_config){
        .slot = pair_slot(pair, L4LB_SLOT_LISTENER), .fds = &pair->front_fd, .n_binds = 1};
    pair->config =
        (struct l4lb_config){.listeners = &pair->listener, .n_listeners = 1, .pools = &pair->pool, .n_pools = 1};
    pair_publish(pair);
    CHECK_OK(l4lb_engine_start(pair->engine));
}

static inline void pair_fini(struct pair *pair) {
    l4lb_engine_free(pair->engine);
    (void)close(pair->front_fd);
    (void)close(pair->back_fd);
}

/* A client, and the socket that the backend has of its session. `rcvbuf` is what the client may have unread; 0 = as
 * much as the kernel likes. */
static inline int pair_open_with(const struct pair *pair, int *server, int rcvbuf) {
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    if (rcvbuf > 0)
        (void)CHECK_SYS(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf));
    (void)CHECK_SYS(connect(fd, (const struct sockaddr *)&pair->front, sizeof pair->front));
    *server = CHECK_SYS(accept4(pair->back_fd, NULL, NULL, SOCK_CLOEXEC));
    return fd;
}

static inline int pair_open(const struct pair *pair, int *server) { return pair_open_with(pair, server, 0); }

/* Send n bytes on one socket and take them from the other. */
static inline void pair_push(int from, int to, size_t n) {
    uint8_t data[4096] = {0};

    CHECK(n <= sizeof data);
    CHECK_EQ(send(from, data, n, MSG_NOSIGNAL), n);
    CHECK_EQ(recv(to, data, n, MSG_WAITALL), n);
}

/* A question and its answer, as often as it takes to learn that 200 bytes end one here. */
static inline void pair_teach_end(int client, int server) {
    for (int i = 0; i < 12; i++) {
        pair_push(client, server, 100);
        pair_push(server, client, 200);
    }
}

static inline struct l4lb_backend_stats pair_stats(const struct pair *pair) {
    struct l4lb_backend_stats stats;

    CHECK_OK(l4lb_read_backend(pair->engine, pair->backend.slot, &stats));
    return stats;
}

static inline uint64_t pair_closed(const struct pair *pair, enum l4lb_close reason) {
    struct l4lb_pool_stats stats;

    CHECK_OK(l4lb_read_pool(pair->engine, pair->pool.slot, &stats));
    return stats.closed[reason];
}

static inline uint64_t pair_sessions(const struct pair *pair) {
    struct l4lb_worker_stats stats;

    CHECK_OK(l4lb_read_worker(pair->engine, 0, &stats));
    return stats.sessions;
}

static inline void pair_drain(const struct pair *pair) {
    CHECK(l4lb_set_draining(pair->engine, &pair->backend.slot, 1, true, 0, PAIR_WAIT_MS) >= 0);
}

static inline bool pair_readable(int fd, int timeout_ms) {
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    return CHECK_SYS(poll(&wanted, 1, timeout_ms)) == 1;
}

#endif
