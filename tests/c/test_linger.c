/* SPDX-License-Identifier: Apache-2.0 */
#include "session/linger.h"

#include "base/clock.h"
#include "lone.h"

static struct lone lone;

/* A session that relays, with the test at both ends. */
static struct lb_session *connected(int *client, int *server) {
    *client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == 1);
    *server = CHECK_SYS(accept4(lone.back_fds[0], NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK));
    return lone_session(&lone);
}

/* The test does with a session what session_run.c does when linger says that both sockets are closed. */
static void dispose(struct lb_session *session) {
    CHECK_EQ(session->client.fd, -1);
    CHECK_EQ(session->server.fd, -1);
    lb_session_close(&lone.worker, session, L4LB_CLOSE_NORMAL);
}

static void pass_ms(uint64_t ms) {
    lone.worker.now_ms += ms;
    lone.worker.now_ns += ms * LB_NS_PER_MS;
}

static void end(int client, int server) {
    (void)close(client);
    (void)close(server);
    lone_fini(&lone);
}

/* What a socket says once something came: 0 = FIN, -errno, or how many bytes. */
static ssize_t received(int fd) {
    uint8_t data[64];
    ssize_t n = 0;

    LONE_UNTIL(&lone, (n = recv(fd, data, sizeof data, MSG_DONTWAIT)) != -1 || errno != EAGAIN);
    return n == -1 ? -errno : n;
}

/* Write until the kernel takes no more; how much it took. */
static size_t fill(int fd) {
    static const uint8_t data[65536];
    size_t n = 0;
    ssize_t more;

    while ((more = send(fd, data, sizeof data, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0)
        n += (size_t)more;
    return n;
}

TEST(one_that_finishes_says_so_to_both_and_waits_for_the_client) {
    struct lb_session *session;
    int client, server;

    lone_init(&lone);
    session = connected(&client, &server);
    CHECK(!lb_linger_finish(&lone.worker, session, false, false));
    CHECK_EQ(session->state, LB_SESSION_LINGER);
    CHECK_EQ(received(client), 0);
    CHECK_EQ(received(server), 0);
    /* The backend has everything, and needs no connection any more. */
    CHECK_EQ(session->server.fd, -1);
    CHECK(!session->claim.has_capacity);
    CHECK(session->client.fd >= 0);
    end(client, server);
}

TEST(what_a_client_still_sends_costs_it_nothing_and_its_end_is_the_end) {
    struct lb_session *session;
    int client, server;

    lone_init(&lone);
    session = connected(&client, &server);
    CHECK(!lb_linger_finish(&lone.worker, session, false, false));
    CHECK_EQ(send(client, "late", 4, MSG_NOSIGNAL), 4);
    session->client.can_read = true;
    CHECK(!lb_linger_look(&lone.worker, session));
    CHECK_EQ(received(client), 0);
    (void)CHECK_SYS(shutdown(client, SHUT_WR));
    session->client.can_read = true;
    CHECK(lb_linger_look(&lone.worker, session));
    dispose(session);
    CHECK_EQ(received(client), 0);
    end(client, server);
}

TEST(a_side_that_misses_bytes_is_reset_at_once) {
    struct lb_session *session;
    int client, server;

    lone_init(&lone);
    session = connected(&client, &server);
    CHECK(!lb_linger_finish(&lone.worker, session, false, true));
    CHECK_EQ(received(server), -ECONNRESET);
    CHECK_EQ(received(client), 0);
    end(client, server);
}

TEST(both_sides_that_miss_bytes_are_over_at_once) {
    struct lb_session *session;
    int client, server;

    lone_init(&lone);
    session = connected(&client, &server);
    CHECK(lb_linger_finish(&lone.worker, session, true, true));
    dispose(session);
    CHECK_EQ(received(client), -ECONNRESET);
    CHECK_EQ(received(server), -ECONNRESET);
    end(client, server);
}

TEST(a_client_that_has_everything_is_waited_for_only_so_long) {
    struct lb_session *session;
    int client, server;

    lone_init(&lone);
    session = connected(&client, &server);
    CHECK(!lb_linger_finish(&lone.worker, session, false, false));
    CHECK_EQ(received(client), 0);
    /* Its kernel has acknowledged the FIN by now. */
    CHECK(!lb_linger_look(&lone.worker, session));
    pass_ms(LB_LINGER_MS);
    CHECK(lb_linger_look(&lone.worker, session));
    dispose(session);
    end(client, server);
}

TEST(a_client_that_takes_nothing_is_reset_after_the_half_close_timeout) {
    struct lb_session *session;
    int client, server;

    lone_init(&lone);
    session = connected(&client, &server);
    session->timeouts.half_close_ms = 10 * LB_LINGER_MS;
    (void)fill(session->client.fd);
    CHECK(!lb_linger_finish(&lone.worker, session, false, false));
    /* The kernel fills the client's buffer: until that is over, something is taken. */
    for (uint32_t before = session->pending_bytes + 1; session->pending_bytes != before;) {
        before = session->pending_bytes;
        for (int i = 0; i < 100; i++)
            lone_iterate(&lone);
        CHECK(!lb_linger_look(&lone.worker, session));
    }
    pass_ms(2 * LB_LINGER_MS);
    CHECK(!lb_linger_look(&lone.worker, session));
    pass_ms(session->timeouts.half_close_ms);
    CHECK(lb_linger_look(&lone.worker, session));
    dispose(session);
    end(client, server);
}

TEST(a_reset_is_passed_on_once_everything_before_it_has_arrived) {
    static uint8_t data[65536];
    struct lb_session *session;
    size_t sent, got = 0;
    int client, server;
    ssize_t n = 0;

    lone_init(&lone);
    session = connected(&client, &server);
    sent = fill(session->client.fd);
    session->server.reset = true;
    CHECK(!lb_linger_reset(&lone.worker, session));
    CHECK(session->resets);
    CHECK_EQ(session->server.fd, -1);
    CHECK(session->client.fd >= 0);
    while (got < sent) {
        LONE_UNTIL(&lone, (n = recv(client, data, sizeof data, MSG_DONTWAIT)) != -1 || errno != EAGAIN);
        CHECK(n > 0);
        got += (size_t)n;
    }
    CHECK_EQ(received(client), -ECONNRESET);
    CHECK_EQ(lone.worker.stats.sessions, 0);
    end(client, server);
}

TEST(one_that_may_wait_no_longer_leaves_the_rest_to_the_kernel) {
    struct lb_session *session;
    int client, server;

    lone_init(&lone);
    session = connected(&client, &server);
    CHECK_EQ(send(session->client.fd, "bye", 3, MSG_NOSIGNAL), 3);
    CHECK(!lb_linger_finish(&lone.worker, session, false, false));
    lb_linger_end(&lone.worker, session);
    dispose(session);
    CHECK_EQ(received(client), 3);
    CHECK_EQ(received(client), 0);
    end(client, server);
}

TEST_MAIN()
