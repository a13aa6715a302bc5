/* SPDX-License-Identifier: Apache-2.0 */
#include "kernel/sock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/endpoint.h"

static void endpoint_from(const struct sockaddr_storage *address, struct l4lb_endpoint *out) {
    memset(out, 0, sizeof *out);
    out->family = address->ss_family;
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        out->port = ntohs(in->sin_port);
        memcpy(out->address, &in->sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)address;
        out->port = ntohs(in6->sin6_port);
        memcpy(out->address, &in6->sin6_addr, 16);
        lb_endpoint_unmap(out);
    }
}

void lb_sock_local(int fd, struct l4lb_endpoint *out) {
    struct sockaddr_storage address;
    socklen_t len = sizeof address;

    memset(out, 0, sizeof *out);
    if (getsockname(fd, (struct sockaddr *)&address, &len) == 0)
        endpoint_from(&address, out);
}

int lb_sock_accept(int listener, struct l4lb_endpoint *peer) {
    struct sockaddr_storage address = {.ss_family = AF_UNIX};
    socklen_t len = sizeof address;
    int fd = accept4(listener, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

    if (fd == -1)
        return -errno;
    endpoint_from(&address, peer);
    return fd;
}

static void set_number(int fd, int level, int option, uint32_t value) {
    int number = (int)value;
    (void)setsockopt(fd, level, option, &number, sizeof number);
}

/* The snapshot was checked, so the values are in range. */
static void set_tcp(int fd, const struct l4lb_tcp *tcp) {
    if (tcp->keepalive_s > 0) {
        set_number(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set_number(fd, IPPROTO_TCP, TCP_KEEPIDLE, tcp->keepalive_s);
        set_number(fd, IPPROTO_TCP, TCP_KEEPINTVL, tcp->interval_s);
        set_number(fd, IPPROTO_TCP, TCP_KEEPCNT, tcp->probes);
    }
    if (tcp->user_timeout_ms > 0)
        set_number(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, tcp->user_timeout_ms);
}

/* The kernel may pick the very port that it connects to. If nothing listens there, the socket is connected to itself
 * (RFC 9293 3.5, simultaneous open): it returns what it is sent, and keeps the port from its server. */
static bool is_connected_to_itself(int fd, const struct sockaddr *address, socklen_t len) {
    static const uint8_t unspecified[16]; /* means this host */
    struct sockaddr_storage storage = {.ss_family = AF_UNSPEC};
    struct l4lb_endpoint own, other;

    lb_sock_local(fd, &own);
    memcpy(&storage, address, LB_MIN(len, (socklen_t)sizeof storage));
    endpoint_from(&storage, &other);
    return own.port == other.port && (memcmp(own.address, other.address, sizeof own.address) == 0 ||
                                      memcmp(other.address, unspecified, sizeof unspecified) == 0);
}

/* The kernel chooses the port when it connects, so each backend has all ports of the source to itself. */
static int bind_to(int fd, const struct lb_source *source) {
    set_number(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1);
    return bind(fd, (const struct sockaddr *)&source->address, source->address_len) == -1 ? -EADDRNOTAVAIL : 0;
}

int lb_sock_connect(const struct sockaddr *address, socklen_t len, const struct lb_source *source,
                    const struct l4lb_tcp *tcp) {
    int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = 0;

    if (fd == -1)
        return -errno;
    if (address->sa_family != AF_UNIX)
        set_tcp(fd, tcp);
    if (source != NULL)
        error = bind_to(fd, source);
    if (error == 0 && connect(fd, address, len) == -1 && errno != EINPROGRESS)
        error = -errno;
    if (error == 0 && address->sa_family != AF_UNIX && is_connected_to_itself(fd, address, len))
        error = -ECONNREFUSED;
    if (error == 0)
        return fd;
    lb_sock_close(&fd, true);
    return error;
}

/* When an ICMP error comes while the kernel still tries, the kernel reports that error in the end. */
bool lb_sock_is_lost(int error) {
    return error == ETIMEDOUT || error == EHOSTUNREACH || error == ENETUNREACH || error == EHOSTDOWN;
}

int lb_sock_error(int fd) {
    int error = 0;
    socklen_t len = sizeof error;
    return getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &len) == -1 ? errno : error;
}

/* A read tells without losing anything: data, a FIN or nothing means that it was connected. SO_ERROR would swallow a
 * reset that came after data. */
int lb_sock_attempt_error(int fd) {
    uint8_t byte;
    return recv(fd, &byte, 1, MSG_PEEK) == -1 && errno != EAGAIN ? -errno : 0;
}

void lb_sock_finish(int fd) { (void)shutdown(fd, SHUT_WR); }

uint32_t lb_sock_unacknowledged(int fd) {
    int bytes = 0;
    return ioctl(fd, SIOCOUTQ, &bytes) == -1 || bytes < 0 ? 0 : (uint32_t)bytes;
}

/* While the window of the peer is closed, the kernel sends probes without data, which do not count. */
bool lb_sock_since_sent(int fd, uint64_t *ago_ns) {
    struct tcp_info info;
    socklen_t len = sizeof info;

    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == -1 || info.tcpi_retransmits > 0)
        return false;
    *ago_ns = info.tcpi_last_data_sent * LB_NS_PER_MS;
    return true;
}

void lb_sock_nodelay(int fd) {
    int on = 1;
    /* Fails on a unix socket, which never delays. */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void lb_sock_lowat(int fd, int bytes) { (void)setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, sizeof bytes); }

void lb_sock_close(int *fd, bool reset) {
    if (*fd < 0)
        return;
    if (reset) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    (void)close(*fd);
    *fd = -1;
}
