/* SPDX-License-Identifier: Apache-2.0 */
/*
 * churn - clients that come, exchange any number of bytes with a balancer whose backends echo, and leave.
 *
 * Owner:   churn() is a thread of its own; read its struct once it is joined.
 */
#ifndef CHURN_H
#define CHURN_H

#include "balancer.h"

enum { CHUNK_MAX = 1 << 20 };

/* Send so many bytes and get them back, both at once, down to EOF. */
static inline void exchange(int fd, const uint8_t *data, size_t total) {
    static const size_t room = 65536;
    size_t sent = 0, received = 0;
    uint8_t *got = malloc(room);
    ssize_t n = -1;

    CHECK(got != NULL);
    while (n != 0) {
        struct pollfd wanted = {.fd = fd, .events = sent < total ? POLLIN | POLLOUT : POLLIN};
        CHECK_EQ(poll(&wanted, 1, WAIT_MS), 1);
        if ((wanted.revents & POLLOUT) != 0 && sent < total) {
            n = send(fd, data + sent, total - sent, MSG_NOSIGNAL | MSG_DONTWAIT);
            CHECK(n > 0 || errno == EAGAIN);
            sent += n > 0 ? (size_t)n : 0;
            if (sent == total)
                (void)CHECK_SYS(shutdown(fd, SHUT_WR));
            n = -1;
        }
        if ((wanted.revents & (POLLIN | POLLHUP | POLLERR)) != 0) {
            n = recv(fd, got, room, MSG_DONTWAIT);
            CHECK(n >= 0 || errno == EAGAIN);
            if (n > 0) {
                CHECK(received + (size_t)n <= total);
                CHECK_EQ(memcmp(got, data + received, (size_t)n), 0);
                received += (size_t)n;
            }
        }
    }
    CHECK_EQ(received, total);
    free(got);
}

struct churn {
    const struct balancer *balancer;
    uint64_t seed;
    const bool *stop; /* atomic; NULL = after `rounds` */
    int rounds;
    uint64_t sessions;
    uint64_t bytes;
};

/* Every other client begins as a ClientHello of 16 KB would, so that it is waited for where names matter. */
static inline void *churn(void *arg) {
    static const uint8_t head[] = {22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3};
    struct churn *churn = arg;
    struct check_random random = {churn->seed};
    uint8_t *data = malloc(CHUNK_MAX);

    CHECK(data != NULL);
    for (size_t i = 0; i < CHUNK_MAX; i++)
        data[i] = (uint8_t)check_random_next(&random);
    while (churn->stop != NULL ? !__atomic_load_n(churn->stop, __ATOMIC_SEQ_CST) : churn->rounds-- > 0) {
        size_t total = 1 + check_random_below(&random, check_random_below(&random, 8) ? 5000 : CHUNK_MAX);
        int fd = balancer_client(churn->balancer);
        data[0] = 0;
        if (check_random_below(&random, 2) == 0)
            memcpy(data, head, sizeof head);
        exchange(fd, data, total);
        (void)close(fd);
        churn->sessions++;
        churn->bytes += total;
    }
    free(data);
    return NULL;
}

#endif
