/* SPDX-License-Identifier: Apache-2.0 */
#include "exchange_servers.h"

#include "check.h"
#include "exchange_connection.h"
#include "sockets.h"
#include "until.h"

enum { POLL_MS = 2, DIES_MS = 1200 };

static void leave(struct exchange_servers *all, uint32_t i) {
    exchange_connection_leave(all, all->connections[i]);
    all->connections[i] = all->connections[--all->n_connections];
}

static void meet(struct exchange_servers *all, uint32_t at) {
    enum exchange_kind kind = all->servers[at].kind;
    int fd = accept4(all->listeners[at], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    struct connection *connection;

    if (fd == -1)
        return;
    if (kind == EXCHANGE_BREAKS && exchange_chance(&all->random, 25)) {
        hang_up(fd, exchange_chance(&all->random, 50));
        return;
    }
    connection = calloc(1, sizeof *connection);
    CHECK(connection != NULL);
    connection->fd = fd;
    connection->at = at;
    connection->headed = !all->servers[at].takes_proxy;
    connection->closes_ms =
        kind == EXCHANGE_IS_SILENT ? clock_ms() + exchange_up_to(&all->random, DIES_MS) : UINT64_MAX;
    all->connections[all->n_connections++] = connection;
}

/* ---- all of them ------------------------------------------------------------------------------------------------- */

static struct pollfd waits_for(const struct exchange_servers *all, const struct connection *connection,
                               uint64_t now_ms) {
    short events = exchange_connection_events(connection);

    if (exchange_kind_of(all, connection) == EXCHANGE_IS_SILENT)
        events = 0;
    return (struct pollfd){.fd = connection->resumes_ms > now_ms ? -1 : connection->fd, .events = events};
}

static void *run(void *arg) {
    struct exchange_servers *all = arg;
    struct pollfd polled[EXCHANGE_CONNECTIONS_MAX + EXCHANGE_SERVERS_MAX];

    while (!__atomic_load_n(&all->stop, __ATOMIC_ACQUIRE)) {
        uint64_t now_ms = clock_ms();
        uint32_t n = all->n_connections;
        for (uint32_t i = 0; i < n; i++)
            polled[i] = waits_for(all, all->connections[i], now_ms);
        for (uint32_t i = 0; i < all->n; i++)
            polled[n + i] =
                (struct pollfd){.fd = all->servers[i].kind != EXCHANGE_REFUSES && n + all->n < EXCHANGE_CONNECTIONS_MAX
                                          ? all->listeners[i]
                                          : -1,
                                .events = POLLIN};
        (void)CHECK_SYS(poll(polled, n + all->n, POLL_MS));
        now_ms = clock_ms();
        for (uint32_t i = n; i-- > 0;) {
            if (!exchange_connection_goes_on(all, all->connections[i], polled[i].revents, now_ms))
                leave(all, i);
        }
        for (uint32_t i = 0; i < all->n; i++) {
            if (polled[n + i].revents != 0)
                meet(all, i);
        }
    }
    return NULL;
}

struct exchange_servers *exchange_servers_start(const char *storm, uint64_t seed, const struct exchange_server *servers,
                                                uint32_t n) {
    struct exchange_servers *all = calloc(1, sizeof *all);

    CHECK(all != NULL && n <= EXCHANGE_SERVERS_MAX);
    check_running = storm;
    all->random = (struct check_random){seed};
    all->n = n;
    memcpy(all->servers, servers, n * sizeof *servers);
    for (uint32_t i = 0; i < n; i++) {
        socklen_t len = sizeof all->addresses[i];
        all->addresses[i] = loopback();
        all->allowed[i] = UINT32_MAX;
        all->listeners[i] = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        (void)CHECK_SYS(bind(all->listeners[i], (struct sockaddr *)&all->addresses[i], len));
        /* The port stays taken, so that no client gets it and then connects to itself. */
        if (servers[i].kind != EXCHANGE_REFUSES)
            (void)CHECK_SYS(listen(all->listeners[i], 4096));
        (void)CHECK_SYS(getsockname(all->listeners[i], (struct sockaddr *)&all->addresses[i], &len));
    }
    CHECK_EQ(pthread_create(&all->thread, NULL, run, all), 0);
    return all;
}

void exchange_servers_stop(struct exchange_servers *all) {
    __atomic_store_n(&all->stop, true, __ATOMIC_RELEASE);
    CHECK_EQ(pthread_join(all->thread, NULL), 0);
    while (all->n_connections > 0)
        leave(all, 0);
    for (uint32_t i = 0; i < all->n; i++) {
        CHECK_EQ(all->in_hands[i], 0);
        (void)close(all->listeners[i]);
    }
    free(all);
}

const struct sockaddr_in *exchange_servers_address(const struct exchange_servers *all, uint32_t at) {
    return &all->addresses[at];
}

void exchange_servers_allow(struct exchange_servers *all, uint32_t at, uint32_t n) {
    __atomic_store_n(&all->allowed[at], n, __ATOMIC_RELEASE);
}

uint64_t exchange_servers_received(const struct exchange_servers *all, uint32_t at) {
    return __atomic_load_n(&all->received[at], __ATOMIC_RELAXED);
}

uint32_t exchange_servers_most(const struct exchange_servers *all, uint32_t at) {
    return __atomic_load_n(&all->most[at], __ATOMIC_RELAXED);
}
