/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "kernel/sock.h"

static const struct l4lb_tcp no_tcp;

static struct sockaddr_in loopback(uint16_t port) {
    return (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
}

/* A socket that listens on loopback; its port. */
static int listen_on(uint16_t *port) {
    struct sockaddr_in address = loopback(0);
    socklen_t len = sizeof address;
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));

    (void)CHECK_SYS(bind(fd, (struct sockaddr *)&address, len));
    (void)CHECK_SYS(listen(fd, 16));
    (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)&address, &len));
    *port = ntohs(address.sin_port);
    return fd;
}

static int connect_to(uint16_t port) {
    struct sockaddr_in address = loopback(port);
    return lb_sock_connect((const struct sockaddr *)&address, sizeof address, NULL, &no_tcp);
}

/* A port that nothing listens on, which the kernel gives to sockets that connect: it prefers those with the parity of
 * the lowest. */
static uint16_t port_that_is_given_out(void) {
    FILE *file = fopen("/proc/sys/net/ipv4/ip_local_port_range", "re");
    unsigned low, high;

    CHECK(file != NULL && fscanf(file, "%u %u", &low, &high) == 2);
    (void)fclose(file);
    for (unsigned port = low + (high - low) / 4 * 2; port <= high; port += 2) {
        struct sockaddr_in address = loopback((uint16_t)port);
        int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        bool is_free = bind(fd, (struct sockaddr *)&address, sizeof address) == 0;
        (void)close(fd);
        if (is_free)
            return (uint16_t)port;
    }
    CHECK(!"no port is free");
    return 0;
}

/* Each try gets another port. Sooner or later it is the one that it connects to. */
TEST(a_socket_is_never_connected_to_itself) {
    uint16_t port = port_that_is_given_out();

    for (int i = 0; i < 70000; i++) {
        int fd = connect_to(port);
        struct pollfd done = {.fd = fd, .events = POLLOUT};
        if (fd == -ECONNREFUSED)
            return;
        CHECK(fd >= 0);
        CHECK_EQ(poll(&done, 1, 10000), 1);
        CHECK_EQ(lb_sock_error(fd), ECONNREFUSED);
        (void)close(fd);
    }
    (void)printf("a_socket_is_never_connected_to_itself: the kernel never gave out port %u\n", port);
}

TEST(a_connection_to_a_listener_of_this_host_is_made) {
    uint16_t port;
    int listener = listen_on(&port), fd = connect_to(port);
    struct pollfd done = {.fd = fd, .events = POLLOUT};

    CHECK(fd >= 0);
    CHECK_EQ(poll(&done, 1, 10000), 1);
    CHECK_EQ(lb_sock_error(fd), 0);
    (void)close(fd);
    (void)close(listener);
}

TEST(a_full_backlog_of_a_unix_socket_is_told_from_a_refusal) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = sizeof address;
    int listener = CHECK_SYS(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)), first;

    /* An address that the kernel picks. */
    (void)CHECK_SYS(bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)));
    (void)CHECK_SYS(getsockname(listener, (struct sockaddr *)&address, &len));
    (void)CHECK_SYS(listen(listener, 0));
    first = lb_sock_connect((const struct sockaddr *)&address, len, NULL, &no_tcp);
    CHECK(first >= 0);
    CHECK_EQ(lb_sock_connect((const struct sockaddr *)&address, len, NULL, &no_tcp), -EAGAIN);
    (void)close(listener);
    CHECK_EQ(lb_sock_connect((const struct sockaddr *)&address, len, NULL, &no_tcp), -ECONNREFUSED);
    (void)close(first);
}

static struct l4lb_endpoint accept_from(int listener) {
    struct l4lb_endpoint peer;
    struct pollfd readable = {.fd = listener, .events = POLLIN};
    int fd;

    CHECK_EQ(poll(&readable, 1, 10000), 1);
    fd = lb_sock_accept(listener, &peer);
    CHECK(fd >= 0);
    (void)close(fd);
    return peer;
}

/* A socket for both families shows IPv4 peers as mapped addresses. */
TEST(a_peer_has_one_address_whichever_socket_accepted_it) {
    struct sockaddr_in6 address = {.sin6_family = AF_INET6};
    socklen_t len = sizeof address;
    int off = 0, client, listener = socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct l4lb_endpoint peer, local;

    if (listener == -1 || bind(listener, (struct sockaddr *)&address, len) == -1) {
        (void)printf("a_peer_has_one_address_whichever_socket_accepted_it: skipped, no IPv6 here\n");
        return;
    }
    (void)close(listener);
    listener = CHECK_SYS(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    (void)CHECK_SYS(setsockopt(listener, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off));
    (void)CHECK_SYS(bind(listener, (struct sockaddr *)&address, len));
    (void)CHECK_SYS(listen(listener, 16));
    (void)CHECK_SYS(getsockname(listener, (struct sockaddr *)&address, &len));
    client = connect_to(ntohs(address.sin6_port));
    CHECK(client >= 0);
    peer = accept_from(listener);
    CHECK_EQ(peer.family, AF_INET);
    lb_sock_local(client, &local);
    CHECK_EQ(local.family, AF_INET);
    CHECK_EQ(memcmp(&peer, &local, sizeof peer), 0);
    (void)close(client);
    (void)close(listener);
}

TEST_MAIN()
