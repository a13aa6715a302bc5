/* SPDX-License-Identifier: Apache-2.0 */
/*
 * balancer - a running engine with one listener and one pool.
 *
 * Its backends are listening sockets. The kernel connects on their behalf until the test accepts, or until
 * balancer_echo() starts threads that accept and send back what they get. The test changes `pool`, `listener`,
 * `backends` and `config`, and publishes.
 *
 * Owner:   one test; `static`, for it is large.
 * Memory:  balancer_init to balancer_fini; sockets of clients are the test's.
 */
#ifndef BALANCER_H
#define BALANCER_H

#include "check.h"
#include "echo.h"
#include "numbers.h"
#include "sockets.h"
#include "until.h"

#include <fcntl.h>

enum { WORKERS = 2, BACKENDS = 2, LONG_MS = 600000 };

struct balancer {
    struct l4lb_engine *engine;
    struct sockaddr_in address; /* where clients go */
    int fds[WORKERS];
    struct sockaddr_in backend_addresses[BACKENDS];
    int backend_fds[BACKENDS];
    struct echo echoes[BACKENDS];
    bool echoing;
    struct l4lb_backend_config backends[BACKENDS];
    struct l4lb_pool_config pool;
    struct l4lb_listener_config listener;
    struct l4lb_config config;
};

static const struct l4lb_options usual __attribute__((unused)) = {
    .n_workers = WORKERS, .sessions_max = 1000, .pipes_max = 16, .pipe_bytes = 65536, .events_cap = 1024};

/* All workers use what the test changed when this returns. */
static inline void balancer_publish(struct balancer *balancer) {
    CHECK_OK(l4lb_publish(balancer->engine, &balancer->config));
    UNTIL(l4lb_reclaim(balancer->engine) == 0);
}

static inline void balancer_open(struct balancer *balancer, const struct l4lb_options *options) {
    static const char *const names[BACKENDS] = {"one", "two"};

    CHECK(options->n_workers <= WORKERS);
    CHECK_OK(l4lb_engine_new(options, &balancer->engine));
    balancer->address = loopback();
    for (uint32_t i = 0; i < WORKERS; i++)
        balancer->fds[i] = i < options->n_workers ? listen_at(&balancer->address, SOCK_NONBLOCK) : -1;
    for (int i = 0; i < BACKENDS; i++) {
        balancer->backend_addresses[i] = loopback();
        balancer->backend_fds[i] = listen_at(&balancer->backend_addresses[i], 0);
        balancer->backends[i] =
            (struct l4lb_backend_config){.slot = take_slot(balancer->engine, L4LB_SLOT_BACKEND),
                                         .weight = 1,
                                         .usable = 1,
                                         .name = names[i],
                                         .address = (const struct sockaddr *)&balancer->backend_addresses[i],
                                         .address_len = sizeof balancer->backend_addresses[i]};
    }
}

/* The first n_backends are in the pool. */
static inline void balancer_init(struct balancer *balancer, const struct l4lb_options *options, size_t n_backends) {
    memset(balancer, 0, sizeof *balancer);
    balancer_open(balancer, options);
    balancer->pool = (struct l4lb_pool_config){.slot = take_slot(balancer->engine, L4LB_SLOT_POOL),
                                               .balance = L4LB_ROUND_ROBIN,
                                               .table_size = 251,
                                               .retries = 3,
                                               .connect_ms = 5000,
                                               .timeouts.idle_ms = LONG_MS,
                                               .timeouts.half_close_ms = LONG_MS,
                                               .backends = balancer->backends,
                                               .n_backends = n_backends};
    balancer->listener = (struct l4lb_listener_config){
        .slot = take_slot(balancer->engine, L4LB_SLOT_LISTENER), .fds = balancer->fds, .n_binds = 1};
    balancer->config = (struct l4lb_config){.listeners = &balancer->listener,
                                            .n_listeners = 1,
                                            .pools = &balancer->pool,
                                            .n_pools = 1,
                                            .events = L4LB_EVENT_OPEN | L4LB_EVENT_CLOSE};
    balancer_publish(balancer);
    CHECK_OK(l4lb_engine_start(balancer->engine));
}

static inline void balancer_echo(struct balancer *balancer, const struct l4lb_options *options) {
    balancer_init(balancer, options, BACKENDS);
    for (int i = 0; i < BACKENDS; i++)
        echo_start(&balancer->echoes[i], balancer->backend_fds[i]);
    balancer->echoing = true;
}

static inline void balancer_fini(struct balancer *balancer) {
    l4lb_engine_free(balancer->engine);
    for (int i = 0; i < WORKERS; i++) {
        if (balancer->fds[i] != -1)
            (void)close(balancer->fds[i]);
    }
    for (int i = 0; i < BACKENDS; i++) {
        if (balancer->echoing)
            echo_stop(&balancer->echoes[i]);
        (void)close(balancer->backend_fds[i]);
    }
}

static inline uint64_t balancer_closed(const struct balancer *balancer, enum l4lb_close reason) {
    return pool_stats(balancer->engine, balancer->pool.slot).closed[reason];
}

static inline struct l4lb_backend_stats balancer_backend(const struct balancer *balancer, int i) {
    return backend_stats(balancer->engine, balancer->backends[i].slot);
}

static inline uint64_t balancer_clients_total(const struct balancer *balancer) {
    return listener_stats(balancer->engine, balancer->listener.slot).connections_total;
}

static inline int balancer_client(const struct balancer *balancer) { return connect_to(&balancer->address); }

/* With echoing backends: a client whose session is established. */
static inline int balancer_established(const struct balancer *balancer) {
    int fd = balancer_client(balancer);

    check_echo(fd);
    return fd;
}

#endif
