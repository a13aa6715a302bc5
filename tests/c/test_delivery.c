/* SPDX-License-Identifier: Apache-2.0 */
#include "session/delivery.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "check.h"

/* A session whose sockets are the near ends of two connections; the test has the far ends. */
struct ends {
    struct lb_worker worker;
    struct lb_session session;
    int client, server;
};

static struct ends ends;

enum { UNREAD = 4096, WAIT_MS = 30000 };

/* The far end of a TCP connection on the loopback, which takes only a little before it reads. */
static int connection(int *near) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    int listening = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), rcvbuf = UNREAD, far;

    (void)CHECK_SYS(setsockopt(listening, SOL_SOCKET, SO_RCVBUF, &rcvbuf, sizeof rcvbuf));
    (void)CHECK_SYS(bind(listening, (struct sockaddr *)&address, len));
    (void)CHECK_SYS(listen(listening, 1));
    (void)CHECK_SYS(getsockname(listening, (struct sockaddr *)&address, &len));
    *near = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (connect(*near, (struct sockaddr *)&address, len) == -1)
        CHECK_EQ(errno, EINPROGRESS);
    far = CHECK_SYS(accept4(listening, NULL, NULL, SOCK_CLOEXEC));
    (void)close(listening);
    return far;
}

static void now(void) {
    ends.worker.now_ns = lb_clock_ns();
    ends.worker.now_ms = ends.worker.now_ns / LB_NS_PER_MS;
}

static void begin(void) {
    memset(&ends, 0, sizeof ends);
    ends.client = connection(&ends.session.client.fd);
    ends.server = connection(&ends.session.server.fd);
    lb_phase_init(&ends.session.phase);
    now();
}

static void end(void) {
    (void)close(ends.client);
    (void)close(ends.server);
    (void)close(ends.session.client.fd);
    (void)close(ends.session.server.fd);
}

/* Write until the kernel takes no more; how much it took. */
static size_t fill(int fd) {
    static const uint8_t data[65536];
    size_t n = 0;
    ssize_t more;

    while ((more = send(fd, data, sizeof data, MSG_NOSIGNAL)) > 0)
        n += (size_t)more;
    return n;
}

static void take(int fd, size_t n) {
    static uint8_t data[65536];

    while (n > 0) {
        ssize_t got = recv(fd, data, LB_MIN(n, sizeof data), 0);
        CHECK(got > 0);
        n -= (size_t)got;
    }
}

/* Look until it is so: acknowledgements take a moment. */
#define UNTIL(condition)                                                                                               \
    do {                                                                                                               \
        int until_left = WAIT_MS;                                                                                      \
        while (!(condition) && until_left-- > 0)                                                                       \
            (void)poll(NULL, 0, 1);                                                                                    \
        CHECK(until_left >= 0 && #condition);                                                                          \
    } while (0)

TEST(what_both_peers_have_not_taken_is_pending) {
    size_t to_client, to_server;

    begin();
    CHECK_EQ(lb_delivery_pending(&ends.session), 0);
    to_client = fill(ends.session.client.fd);
    CHECK(lb_delivery_pending(&ends.session) > 0);
    to_server = fill(ends.session.server.fd);
    take(ends.client, to_client);
    UNTIL(lb_delivery_pending(&ends.session) > 0 && lb_delivery_pending(&ends.session) <= to_server);
    take(ends.server, to_server);
    UNTIL(lb_delivery_pending(&ends.session) == 0);
    end();
}

TEST(nothing_is_pending_for_a_side_that_is_broken_or_gone) {
    begin();
    (void)fill(ends.session.client.fd);
    CHECK(lb_delivery_pending(&ends.session) > 0);
    ends.session.client.error = true;
    CHECK_EQ(lb_delivery_pending(&ends.session), 0);
    ends.session.client = (struct lb_side){.fd = ends.session.client.fd, .reset = true};
    CHECK_EQ(lb_delivery_pending(&ends.session), 0);
    (void)close(ends.session.client.fd);
    ends.session.client = (struct lb_side){.fd = -1};
    CHECK_EQ(lb_delivery_pending(&ends.session), 0);
    end();
}

TEST(a_peer_that_takes_something_moves_the_session) {
    size_t sent;

    begin();
    sent = fill(ends.session.client.fd);
    /* As it is after the last byte that moved. */
    now();
    ends.session.last_ns = ends.worker.now_ns;
    take(ends.client, sent / 2);
    UNTIL((now(), lb_delivery_note(&ends.worker, &ends.session)));
    CHECK(ends.session.last_ns <= ends.worker.now_ns);
    end();
}

TEST(a_peer_that_takes_nothing_does_not_move_the_session) {
    begin();
    (void)fill(ends.session.client.fd);
    /* The kernel counts in ticks of up to 10 ms, so what it sent just now may seem to have been sent a little later. */
    (void)poll(NULL, 0, 50);
    UNTIL((now(), !lb_delivery_note(&ends.worker, &ends.session)));
    ends.session.last_ns = ends.worker.now_ns;
    for (int i = 0; i < 20; i++) {
        (void)poll(NULL, 0, 1);
        now();
        CHECK(!lb_delivery_note(&ends.worker, &ends.session));
        CHECK(ends.session.last_ns < ends.worker.now_ns);
    }
    end();
}

TEST(where_the_kernel_does_not_say_when_a_changed_number_says_that_something_was_taken) {
    static const uint8_t data[UNREAD];
    int pair[2];

    begin();
    end();
    (void)CHECK_SYS(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
    ends.session.client = (struct lb_side){.fd = pair[0]};
    ends.session.server = (struct lb_side){.fd = -1};
    ends.client = pair[1];
    ends.session.last_ns = ends.worker.now_ns;
    CHECK_EQ(send(pair[0], data, sizeof data, MSG_NOSIGNAL), sizeof data);
    CHECK_EQ(send(pair[0], data, sizeof data, MSG_NOSIGNAL), sizeof data);
    ends.worker.now_ns += LB_NS_PER_MS;
    CHECK(lb_delivery_note(&ends.worker, &ends.session));
    CHECK_EQ(ends.session.last_ns, ends.worker.now_ns);
    ends.worker.now_ns += LB_NS_PER_MS;
    CHECK(!lb_delivery_note(&ends.worker, &ends.session));
    take(ends.client, sizeof data);
    CHECK(lb_delivery_note(&ends.worker, &ends.session));
    CHECK_EQ(ends.session.last_ns, ends.worker.now_ns);
    take(ends.client, sizeof data);
    /* All of it has arrived: that was the last movement. */
    ends.worker.now_ns += LB_NS_PER_MS;
    CHECK(!lb_delivery_note(&ends.worker, &ends.session));
    CHECK_EQ(ends.session.pending_bytes, 0);
    (void)close(pair[0]);
    (void)close(pair[1]);
}

TEST(a_question_counts_from_the_moment_when_the_backend_has_it) {
    static const uint8_t request[1000];

    begin();
    ends.session.phase.state = LB_PHASE_WAIT;
    ends.session.phase.client_ns = ends.worker.now_ns - 1000 * LB_NS_PER_MS;
    ends.session.last_ns = ends.session.phase.client_ns;
    CHECK_EQ(send(ends.session.server.fd, request, sizeof request, MSG_NOSIGNAL), sizeof request);
    take(ends.server, sizeof request);
    UNTIL((now(), lb_delivery_note(&ends.worker, &ends.session)));
    CHECK(ends.session.phase.client_ns > ends.worker.now_ns - 1000 * LB_NS_PER_MS);
    CHECK_EQ(ends.session.phase.client_ns, ends.session.last_ns);
    end();
}

TEST_MAIN()
