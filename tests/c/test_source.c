/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include "kernel/sock.h"
#include "kernel/source.h"

static const struct l4lb_tcp no_tcp;

static struct sockaddr_in address_of(const char *host, uint16_t port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    CHECK_EQ(inet_pton(AF_INET, host, &address.sin_addr), 1);
    return address;
}

static int listen_here(struct sockaddr_in *address) {
    socklen_t len = sizeof *address;
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));

    *address = address_of("127.0.0.1", 0);
    (void)CHECK_SYS(bind(fd, (struct sockaddr *)address, len));
    (void)CHECK_SYS(listen(fd, 16));
    (void)CHECK_SYS(getsockname(fd, (struct sockaddr *)address, &len));
    return fd;
}

static struct lb_sources *made_of(const char *const *hosts, size_t n) {
    struct sockaddr_in addresses[4];
    struct l4lb_source sources[4];
    struct lb_sources *made;

    for (size_t i = 0; i < n; i++) {
        addresses[i] = address_of(hosts[i], 0);
        sources[i] =
            (struct l4lb_source){.address = (const struct sockaddr *)&addresses[i], .address_len = sizeof addresses[i]};
    }
    CHECK_EQ(lb_sources_new(sources, n, &made), 0);
    return made;
}

/* The last byte of the address that the connection came from. */
static int came_from(const struct lb_sources *sources, uint32_t cursor, const struct sockaddr_in *to, int listener) {
    struct l4lb_endpoint peer;
    int fd = lb_sources_connect(sources, cursor, (const struct sockaddr *)to, sizeof *to, &no_tcp), accepted;

    CHECK(fd >= 0);
    accepted = lb_sock_accept(listener, &peer);
    CHECK(accepted >= 0);
    lb_sock_close(&fd, true);
    lb_sock_close(&accepted, true);
    return peer.address[3];
}

TEST(sources_take_turns_and_those_that_are_not_here_are_passed_over) {
    static const char *const hosts[] = {"127.0.0.2", "203.0.113.1", "127.0.0.4"};
    struct lb_sources *sources = made_of(hosts, 3);
    struct sockaddr_in to;
    int listener = listen_here(&to);

    CHECK_EQ(came_from(sources, 0, &to, listener), 2);
    CHECK_EQ(came_from(sources, 1, &to, listener), 4);
    CHECK_EQ(came_from(sources, 2, &to, listener), 4);
    CHECK_EQ(came_from(sources, 3, &to, listener), 2);
    CHECK_EQ(came_from(sources, UINT32_MAX, &to, listener), 2);
    CHECK_EQ(came_from(NULL, 0, &to, listener), 1);
    lb_sources_free(sources);
    (void)close(listener);
}

TEST(it_is_the_shortage_of_this_host_when_none_is_here) {
    static const char *const hosts[] = {"203.0.113.1", "203.0.113.2"};
    struct lb_sources *sources = made_of(hosts, 2);
    struct sockaddr_in to = address_of("127.0.0.1", 9);

    CHECK_EQ(lb_sources_connect(sources, 0, (const struct sockaddr *)&to, sizeof to, &no_tcp), -EADDRNOTAVAIL);
    lb_sources_free(sources);
}

TEST(sources_of_the_other_family_do_not_count) {
    static const char *const hosts[] = {"203.0.113.1"};
    struct lb_sources *sources = made_of(hosts, 1);
    struct sockaddr_in6 to = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT, .sin6_port = htons(9)};
    int fd = lb_sources_connect(sources, 0, (const struct sockaddr *)&to, sizeof to, &no_tcp);

    CHECK(fd != -EADDRNOTAVAIL || access("/proc/net/if_inet6", F_OK) != 0);
    if (fd >= 0)
        lb_sock_close(&fd, true);
    lb_sources_free(sources);
}

TEST(what_is_no_address_of_a_host_is_refused) {
    static const struct sockaddr local = {.sa_family = AF_UNIX};
    const struct l4lb_source source = {.address = &local, .address_len = sizeof local};
    struct lb_sources *sources;

    CHECK_EQ(lb_sources_new(&source, 1, &sources), -EINVAL);
    CHECK_EQ(lb_sources_new(NULL, L4LB_SOURCES_MAX + 1, &sources), -EINVAL);
    CHECK_EQ(lb_sources_new(NULL, 0, &sources), 0);
    CHECK(sources == NULL);
}

TEST_MAIN()
