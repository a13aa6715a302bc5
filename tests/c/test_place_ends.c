/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ends of followed sessions and of their backend connections: timeouts, operators, reloads, and what is left of a
 * response that is large.
 */
#include "both_ends.h"

static struct balancer balancer;

static uint64_t closed(enum l4lb_close reason) { return balancer_closed(&balancer, reason); }

static void end(int client, int server) {
    (void)close(server);
    finish(&balancer, client);
}

/* ---- timeouts ---------------------------------------------------------------------------------------------------- */

enum { SHORT_MS = 50 };

static int begin_with(struct l4lb_timeouts timeouts) {
    follow(&balancer);
    timeouts.idle_ms = timeouts.idle_ms > 0 ? timeouts.idle_ms : LONG_MS;
    timeouts.half_close_ms = LONG_MS;
    balancer.pool.timeouts = timeouts;
    balancer_publish(&balancer);
    return client_of(&balancer);
}

TEST(a_client_that_sends_no_request_is_closed) {
    int client = begin_with((struct l4lb_timeouts){.first_byte_ms = SHORT_MS});

    hear_end(client);
    UNTIL(closed(L4LB_CLOSE_CLIENT_FIRST_BYTE) == 1);
    finish(&balancer, client);
}

TEST(a_backend_that_never_responds_is_given_up) {
    int client = begin_with((struct l4lb_timeouts){.first_byte_ms = SHORT_MS}), which;
    int server = ask(&balancer, client, &which);

    hear_end(client);
    UNTIL(closed(L4LB_CLOSE_SERVER_FIRST_BYTE) == 1);
    end(client, server);
}

TEST(a_backend_that_does_not_respond_to_a_later_request_is_given_up) {
    int client = begin_with((struct l4lb_timeouts){.response_ms = SHORT_MS}), which;
    int server = first_turn(&balancer, client, &which);

    say(client, request);
    hear(server, request);
    hear_end(client);
    UNTIL(closed(L4LB_CLOSE_SERVER_RESPONSE) == 1);
    end(client, server);
}

TEST(a_response_that_stops_is_given_up) {
    int client = begin_with((struct l4lb_timeouts){.stream_gap_ms = SHORT_MS}), which;
    int server = ask(&balancer, client, &which);

    say(server, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell");
    hear(client, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell");
    hear_end(client);
    UNTIL(closed(L4LB_CLOSE_SERVER_STREAM_GAP) == 1);
    end(client, server);
}

TEST(a_client_that_is_silent_between_requests_is_closed_with_or_without_a_backend_connection) {
    for (int detached = 0; detached <= 1; detached++) {
        int client = begin_with((struct l4lb_timeouts){.keepalive_ms = SHORT_MS}), which;
        int server = first_turn(&balancer, client, &which);

        if (detached) {
            (void)close(server);
            server = -1;
        }
        hear_end(client);
        UNTIL(closed(L4LB_CLOSE_CLIENT_KEEPALIVE) == 1);
        end(client, server);
    }
}

TEST(a_session_without_timeouts_of_its_phases_has_the_one_for_silence) {
    int client = begin_with((struct l4lb_timeouts){.idle_ms = SHORT_MS}), which;
    int server = first_turn(&balancer, client, &which);

    hear_end(client);
    UNTIL(closed(L4LB_CLOSE_CLIENT_IDLE) == 1);
    end(client, server);
}

TEST(a_backend_connection_without_a_time_limit_stays_open_between_requests) {
    int client = begin_with((struct l4lb_timeouts){.backend_keepalive_ms = 0}), which;
    int server = first_turn(&balancer, client, &which);

    CHECK(!readable(server, 2 * SHORT_MS));
    turn(client, server);
    CHECK_EQ(pool_of(&balancer).detached_total, 0);
    end(client, server);
}

TEST(a_lifetime_ends_between_two_requests_and_leaves_time_for_the_one_in_flight) {
    for (int busy = 0; busy <= 1; busy++) {
        int client, server, which;

        follow(&balancer);
        balancer.pool.lifetime_ms = 1000;
        balancer_publish(&balancer);
        client = client_of(&balancer);
        server = busy ? ask(&balancer, client, &which) : first_turn(&balancer, client, &which);
        if (busy) {
            CHECK(!readable(client, 1200));
            respond(server, client);
        }
        hear_end(client);
        UNTIL(closed(L4LB_CLOSE_LIFETIME) == 1);
        end(client, server);
    }
}

TEST(interval_events_go_on_without_a_backend_connection) {
    int client, which;

    follow(&balancer);
    balancer.config.events = L4LB_EVENT_INTERVAL;
    balancer.config.interval_ms = 10;
    balancer_publish(&balancer);
    client = client_of(&balancer);
    (void)close(first_turn(&balancer, client, &which));
    for (int i = 0; i < 3; i++) {
        struct l4lb_session_record record = event_of(&balancer, L4LB_EVENT_INTERVAL);
        CHECK_EQ(record.turns, 1);
    }
    UNTIL(event_of(&balancer, L4LB_EVENT_INTERVAL).state == L4LB_SESSION_KEPT);
    finish(&balancer, client);
}

/* ---- operators and reloads --------------------------------------------------------------------------------------- */

static const enum l4lb_close for_the_backend[] = {L4LB_CLOSE_DRAINED, L4LB_CLOSE_BACKEND_DOWN, L4LB_CLOSE_BETTER_UP};

static int kill_backend(enum l4lb_close reason) {
    return l4lb_kill_backend(balancer.engine, balancer.backends[0].slot, reason, WAIT_MS);
}

TEST(a_backend_that_loses_its_sessions_between_two_requests_leaves_the_clients) {
    for (int i = 0; i < 3; i++) {
        int client, server, which;

        follow(&balancer);
        only(&balancer, 0);
        client = client_of(&balancer);
        server = first_turn(&balancer, client, &which);
        only(&balancer, 1);
        CHECK_EQ(kill_backend(for_the_backend[i]), 0);
        hear_end(server);
        (void)close(server);
        server = first_turn(&balancer, client, &which);
        CHECK_EQ(which, 1);
        CHECK_EQ(pool_of(&balancer).detached_total, 1);
        end(client, server);
    }
}

TEST(a_backend_that_loses_its_sessions_in_a_request_ends_them_for_that_reason) {
    for (int i = 0; i < 3; i++) {
        int client, server, which;

        follow(&balancer);
        only(&balancer, 0);
        client = client_of(&balancer);
        server = ask(&balancer, client, &which);
        CHECK_EQ(kill_backend(for_the_backend[i]), 1);
        hear_end(client);
        CHECK_EQ(closed(for_the_backend[i]), 1);
        end(client, server);
    }
}

TEST(an_operator_who_kills_the_sessions_of_a_backend_means_the_clients) {
    int client, server, which;

    follow(&balancer);
    only(&balancer, 0);
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    CHECK_EQ(kill_backend(L4LB_CLOSE_KILLED), 1);
    hear_end(client);
    CHECK_EQ(closed(L4LB_CLOSE_KILLED), 1);
    end(client, server);
}

TEST(a_request_goes_on_when_its_backend_leaves_the_pool_and_the_next_one_goes_elsewhere) {
    int client, server, next, which;

    follow(&balancer);
    only(&balancer, 0);
    client = client_of(&balancer);
    server = ask(&balancer, client, &which);
    balancer.backends[1].usable = 1;
    balancer.pool.backends = &balancer.backends[1];
    balancer.pool.n_backends = 1;
    balancer_publish(&balancer);
    respond(server, client);
    hear_end(server);
    next = first_turn(&balancer, client, &which);
    CHECK_EQ(which, 1);
    UNTIL(balancer_backend(&balancer, 0).connections == 0);
    CHECK_OK(l4lb_slot_give(balancer.engine, L4LB_SLOT_BACKEND, balancer.backends[0].slot));
    (void)close(server);
    end(client, next);
}

TEST(a_request_goes_on_when_its_pool_leaves_the_file_and_the_client_is_closed_after_it) {
    int client, server, which;

    follow(&balancer);
    client = client_of(&balancer);
    server = ask(&balancer, client, &which);
    balancer.config.n_pools = balancer.config.n_listeners = 0;
    balancer_publish(&balancer);
    CHECK(!readable(client, 0));
    respond(server, client);
    hear_end(client);
    hear_end(server);
    UNTIL(closed(L4LB_CLOSE_DRAINED) == 1);
    end(client, server);
}

/* ---- bytes ------------------------------------------------------------------------------------------------------- */

TEST(a_client_that_finishes_in_a_request_gets_the_response) {
    int client, server, which;

    follow(&balancer);
    client = client_of(&balancer);
    server = ask(&balancer, client, &which);
    CHECK_SYS(shutdown(client, SHUT_WR));
    hear_end(server);
    respond(server, client);
    hear_end(client);
    UNTIL(closed(L4LB_CLOSE_NORMAL) == 1);
    end(client, server);
}

enum { LARGE = 100 << 20 };

/* A large response, and a small one right behind it. */
static void *write_responses(void *arg) {
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n";
    static char bytes[1 << 20];
    int server = *(int *)arg;

    memset(bytes, 'x', sizeof bytes);
    say(server, head);
    for (size_t sent = 0; sent < LARGE;) {
        size_t left = LARGE - sent;
        ssize_t n = send(server, bytes, left < sizeof bytes ? left : sizeof bytes, MSG_NOSIGNAL);
        CHECK(n > 0);
        sent += (size_t)n;
    }
    say(server, response);
    return NULL;
}

static void read_large(int client) {
    static char bytes[1 << 20];

    hear(client, "HTTP/1.1 200 OK\r\nContent-Length: 104857600\r\n\r\n");
    for (size_t got = 0; got < LARGE;) {
        size_t left = LARGE - got;
        ssize_t n = recv(client, bytes, left < sizeof bytes ? left : sizeof bytes, 0);
        CHECK(n > 0);
        CHECK(bytes[0] == 'x' && bytes[n - 1] == 'x');
        got += (size_t)n;
    }
}

TEST(a_large_body_is_spliced_to_its_end_and_no_further_and_the_next_request_may_move) {
    struct l4lb_worker_stats stats;
    pthread_t writer;
    int client, server, moved, which;

    follow(&balancer);
    only(&balancer, 0);
    client = client_of(&balancer);
    server = ask(&balancer, client, &which);
    say(client, request);
    hear(server, request);
    CHECK_EQ(pthread_create(&writer, NULL, write_responses, &server), 0);
    read_large(client);
    hear(client, response);
    CHECK_EQ(pthread_join(writer, NULL), 0);
    CHECK_OK(l4lb_read_worker(balancer.engine, 0, &stats));
    CHECK(stats.spliced_bytes_total > LARGE / 2 && stats.spliced_bytes_total <= LARGE);
    UNTIL(balancer_backend(&balancer, 0).busy == 0);
    CHECK_EQ(balancer_backend(&balancer, 0).responses[1], 2);
    only(&balancer, 1);
    moved = first_turn(&balancer, client, &which);
    CHECK_EQ(which, 1);
    (void)close(moved);
    end(client, server);
}

TEST_MAIN()
