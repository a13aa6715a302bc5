/* SPDX-License-Identifier: Apache-2.0 */
/*
 * echo - backends that send back what they get, and clients that check it.
 *
 * Owner:   echo_start and echo_stop are the test's; each connection has a thread of its own.
 * Memory:  the listening socket stays the test's.
 */
#ifndef ECHO_H
#define ECHO_H

#include "check.h"
#include "sockets.h"
#include "until.h"

enum { ECHO_BYTES = 65536 };

struct echo {
    int listener;
    pthread_t thread;
    uint32_t active; /* atomic: connections that have a thread */
};

struct echo_connection {
    struct echo *echo;
    int fd;
};

static inline void *echo_run(void *arg) {
    struct echo_connection connection = *(struct echo_connection *)arg;
    uint8_t *data = malloc(ECHO_BYTES);
    ssize_t n;

    free(arg);
    CHECK(data != NULL);
    while ((n = recv(connection.fd, data, ECHO_BYTES, 0)) > 0) {
        for (ssize_t sent = 0, more; sent < n; sent += more) {
            more = send(connection.fd, data + sent, (size_t)(n - sent), MSG_NOSIGNAL);
            if (more <= 0)
                goto out;
        }
    }
out:
    free(data);
    (void)close(connection.fd);
    (void)__atomic_sub_fetch(&connection.echo->active, 1, __ATOMIC_SEQ_CST);
    return NULL;
}

static inline void *echo_accept(void *arg) {
    struct echo *echo = arg;
    int fd;

    while ((fd = accept4(echo->listener, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
        struct echo_connection *connection = malloc(sizeof *connection);
        pthread_t thread;
        CHECK(connection != NULL);
        *connection = (struct echo_connection){.echo = echo, .fd = fd};
        (void)__atomic_add_fetch(&echo->active, 1, __ATOMIC_SEQ_CST);
        CHECK_EQ(pthread_create(&thread, NULL, echo_run, connection), 0);
        (void)pthread_detach(thread);
    }
    return NULL;
}

static inline void echo_start(struct echo *echo, int listener) {
    *echo = (struct echo){.listener = listener};
    CHECK_EQ(pthread_create(&echo->thread, NULL, echo_accept, echo), 0);
}

/* Returns when every connection is closed. */
static inline void echo_stop(struct echo *echo) {
    (void)shutdown(echo->listener, SHUT_RD);
    CHECK_EQ(pthread_join(echo->thread, NULL), 0);
    UNTIL(__atomic_load_n(&echo->active, __ATOMIC_SEQ_CST) == 0);
}

/* One byte comes back, so the session is established. */
static inline void check_echo(int fd) {
    uint8_t byte = 'x';

    CHECK_EQ(send(fd, &byte, 1, MSG_NOSIGNAL), 1);
    byte = 0;
    CHECK_EQ(recv(fd, &byte, 1, 0), 1);
    CHECK_EQ(byte, 'x');
}

#endif
