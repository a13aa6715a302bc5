/* SPDX-License-Identifier: Apache-2.0 */
/*
 * both_ends - a balancer that follows HTTP/1, of which the test is every client and every backend.
 *
 * Nothing reads or writes but the test, so it knows after each step what has happened and what has not.
 *
 * Owner:   one test; its sockets are the test's.
 * Errors:  bytes that do not come, or are other ones, fail the test.
 */
#ifndef BOTH_ENDS_H
#define BOTH_ENDS_H

#include "balancer.h"

static const struct l4lb_options one_worker __attribute__((unused)) = {
    .n_workers = 1, .sessions_max = 100, .pipes_max = 4, .pipe_bytes = 65536, .events_cap = 256};

static const char request[] __attribute__((unused)) = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
static const char response[] __attribute__((unused)) = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
static const char post[] __attribute__((unused)) = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";

/* The test may change the settings and publish again. */
static inline void follow(struct balancer *balancer) {
    balancer_init(balancer, &one_worker, BACKENDS);
    balancer->pool.protocol = L4LB_PROTOCOL_HTTP1;
    balancer->pool.balance = L4LB_LEAST_BUSY;
    balancer->pool.resend = L4LB_RESEND_IDEMPOTENT;
    balancer->config.events |= L4LB_EVENT_REQUEST;
    balancer_publish(balancer);
}

static inline int client_of(const struct balancer *balancer) { return connect_to(&balancer->address); }

static inline void say(int fd, const char *text) { CHECK_EQ(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text)); }

/* The next bytes are these. */
static inline void hear(int fd, const char *text) {
    char data[1024];

    CHECK(strlen(text) <= sizeof data);
    CHECK(readable(fd, WAIT_MS));
    CHECK_EQ(recv(fd, data, strlen(text), MSG_WAITALL), strlen(text));
    CHECK(memcmp(data, text, strlen(text)) == 0);
}

/* The other side closed it, in order. */
static inline void hear_end(int fd) {
    CHECK(readable(fd, WAIT_MS));
    CHECK_EQ(end_of(fd), 0);
}

static inline int accept_at(int listener) {
    CHECK(readable(listener, WAIT_MS));
    return CHECK_SYS(accept4(listener, NULL, NULL, SOCK_CLOEXEC));
}

/* A backend gets a connection. Returns its socket; *which is its number. */
static inline int accept_any(const struct balancer *balancer, int *which) {
    struct pollfd fds[BACKENDS] = {{.fd = balancer->backend_fds[0], .events = POLLIN},
                                   {.fd = balancer->backend_fds[1], .events = POLLIN}};

    CHECK(poll(fds, BACKENDS, WAIT_MS) > 0);
    *which = fds[0].revents != 0 ? 0 : 1;
    return accept_at(balancer->backend_fds[*which]);
}

static inline bool has_connection(const struct balancer *balancer, int which) {
    return readable(balancer->backend_fds[which], 0);
}

/* One request and its response over a backend connection. */
static inline void turn(int client, int server) {
    say(client, request);
    hear(server, request);
    say(server, response);
    hear(client, response);
}

/* A request that gets a new backend connection, and its response. Returns the backend's socket. */
static inline int first_turn(const struct balancer *balancer, int client, int *which) {
    int server;

    say(client, request);
    server = accept_any(balancer, which);
    hear(server, request);
    say(server, response);
    hear(client, response);
    return server;
}

/* A request that waits for its response over a new backend connection. Returns the backend's socket. */
static inline int ask(const struct balancer *balancer, int client, int *which) {
    int server;

    say(client, request);
    server = accept_any(balancer, which);
    hear(server, request);
    return server;
}

/* The response to it. */
static inline void respond(int server, int client) {
    say(server, response);
    hear(client, response);
}

/* Only this backend takes requests from now on. */
static inline void only(struct balancer *balancer, int which) {
    for (int i = 0; i < BACKENDS; i++)
        balancer->backends[i].usable = i == which;
    balancer_publish(balancer);
}

static inline struct l4lb_pool_stats pool_of(const struct balancer *balancer) {
    return pool_stats(balancer->engine, balancer->pool.slot);
}

/* The next event of this kind, with others before it dropped. */
static inline struct l4lb_session_record event_of(const struct balancer *balancer, enum l4lb_event_kind kind) {
    struct l4lb_session_record record = {0};

    UNTIL(l4lb_take_events(balancer->engine, &record, 1) == 1 && record.event == (uint32_t)kind);
    return record;
}

/* Every session has ended, and nothing of a backend is held. */
static inline void finish(struct balancer *balancer, int client) {
    (void)close(client);
    UNTIL(sessions_now(balancer->engine) == 0);
    for (size_t i = 0; i < balancer->pool.n_backends; i++) {
        struct l4lb_backend_stats stats = backend_stats(balancer->engine, balancer->pool.backends[i].slot);
        CHECK_EQ(stats.connections, 0);
        CHECK_EQ(stats.busy, 0);
    }
    balancer_fini(balancer);
}

#endif
