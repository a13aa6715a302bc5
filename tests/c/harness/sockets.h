/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sockets - TCP sockets of clients and backends on loopback.
 *
 * Owner:   the test closes what it gets here.
 * Errors:  a system call that fails ends the test.
 */
#ifndef SOCKETS_H
#define SOCKETS_H

#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

static inline struct sockaddr_in loopback(void) {
    return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
}

/* `flags` are those of socket(2). A free port is written into an address that has none. Each worker of a balancer
 * listens at the same address. */
static inline int listen_at(struct sockaddr_in *address, int flags) {
    socklen_t len = sizeof *address;
    int on = 1, fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | flags, 0));

    (void)CHECK_SYS(setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on));
    (void)CHECK_SYS(bind(fd, (struct sockaddr *)address, len));
    (void)CHECK_SYS(listen(fd, 4096));
    (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)address, &len));
    return fd;
}

static inline int connect_to(const struct sockaddr_in *address) {
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    (void)CHECK_SYS(connect(fd, (const struct sockaddr *)address, sizeof *address));
    return fd;
}

/* End of input and errors are readable too. */
static inline bool readable(int fd, int timeout_ms) {
    struct pollfd wanted = {.fd = fd, .events = POLLIN};
    return CHECK_SYS(poll(&wanted, 1, timeout_ms)) == 1;
}

/* Read to the end of input. Returns 0, or the errno if the end is an error. */
static inline int end_of(int fd) {
    uint8_t data[1000];
    ssize_t n;

    while ((n = recv(fd, data, sizeof data, 0)) > 0)
        ;
    return n == 0 ? 0 : errno;
}

static inline void hang_up(int fd, bool reset) {
    if (reset)
        (void)CHECK_SYS(setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1}, sizeof(struct linger)));
    (void)close(fd);
}

#endif
