/* SPDX-License-Identifier: Apache-2.0 */
#include "common.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "protocol.h"

void die(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    (void)fputs("load: ", stderr);
    (void)vfprintf(stderr, format, arguments);
    (void)fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

uint64_t now_ns(void) {
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

struct targets parse_targets(const char *text) {
    struct targets targets = {.first = {.sin_family = AF_INET}, .count = 1};
    char host[64];
    unsigned port = 0, count = 1;

    int fields = sscanf(text, "%63[^:]:%u+%u", host, &port, &count);
    if (fields < 2 || port > UINT16_MAX || count == 0 || inet_pton(AF_INET, host, &targets.first.sin_addr) != 1)
        die("'%s' is not an address; write it as 127.0.0.1:8000 or 127.0.0.1:8000+16", text);
    targets.first.sin_port = htons((uint16_t)port);
    targets.count = count;
    return targets;
}

struct sockaddr_in target(const struct targets *targets, uint32_t index) {
    struct sockaddr_in address = targets->first;
    address.sin_addr.s_addr = htonl(ntohl(address.sin_addr.s_addr) + index % targets->count);
    return address;
}

void raise_file_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static void set(int fd, int level, int name, int value) {
    if (setsockopt(fd, level, name, &value, sizeof value) != 0)
        die("setsockopt: %s", strerror(errno));
}

int dial(const struct options *options, uint32_t index) {
    struct sockaddr_in to = target(&options->to, index);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        return -1;
    set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    if (options->from.count != 0) {
        struct sockaddr_in from = target(&options->from, index);
        set(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
        if (bind(fd, (const struct sockaddr *)&from, sizeof from) != 0)
            goto fail;
    }
    if (connect(fd, (const struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS)
        return fd;
fail:;
    int error = errno;
    (void)close(fd);
    errno = error;
    return -1;
}

int dial_blocking(const struct options *options, uint32_t index) {
    struct timeval limit = {.tv_sec = 10};
    int fd = dial(options, index);

    if (fd < 0)
        die("connect: %s", strerror(errno));
    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) != 0)
        die("setsockopt: %s", strerror(errno));
    if (fcntl(fd, F_SETFL, 0) != 0)
        die("fcntl: %s", strerror(errno));
    return fd;
}

void set_non_blocking(int fd) {
    if (fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        die("fcntl: %s", strerror(errno));
}

int dial_and_greet(const struct options *options, uint32_t index) {
    struct request request = {.operation = OP_ECHO, .sequence = index}, reply;
    int fd = dial_blocking(options, index);

    if (send(fd, &request, sizeof request, MSG_NOSIGNAL) != (ssize_t)sizeof request)
        die("connection %u: sending failed: %s", index, strerror(errno));
    ssize_t got = recv(fd, &reply, sizeof reply, MSG_WAITALL);
    if (got != (ssize_t)sizeof reply || memcmp(&reply, &request, sizeof reply) != 0)
        die("connection %u: %zd bytes came back instead of the request: %s", index, got, strerror(errno));
    set_non_blocking(fd);
    return fd;
}

void close_with_reset(int fd) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    (void)close(fd);
}

void step(const struct options *options, const char *name) {
    if (!options->steps)
        return;
    (void)printf("%s\n", name);
    (void)fflush(stdout);
    for (int c = getchar(); c != '\n'; c = getchar()) {
        if (c == EOF)
            die("the runner went away");
    }
}

bool told(const struct options *options) {
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
    char line[16];

    /* Read whole, so that the next step waits for its own. */
    return options->until_told && poll(&input, 1, 0) == 1 && read(STDIN_FILENO, line, sizeof line) >= 0;
}
