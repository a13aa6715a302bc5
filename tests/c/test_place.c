/* SPDX-License-Identifier: Apache-2.0 */
#include "both_ends.h"

/* ---- where requests go ------------------------------------------------------------------------------------------- */

TEST(no_backend_is_connected_before_the_first_request) {
    static struct balancer balancer;
    int client, server, which;

    follow(&balancer);
    client = client_of(&balancer);
    UNTIL(sessions_now(balancer.engine) == 1);
    rest_ms(50);
    CHECK(!has_connection(&balancer, 0) && !has_connection(&balancer, 1));
    server = first_turn(&balancer, client, &which);
    (void)close(server);
    finish(&balancer, client);
}

TEST(requests_stay_with_an_idle_backend) {
    static struct balancer balancer;
    int client, server, which;

    follow(&balancer);
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    for (int i = 0; i < 20; i++)
        turn(client, server);
    UNTIL(pool_of(&balancer).moves_total == 0);
    UNTIL(balancer_backend(&balancer, which).turns_total == 21);
    UNTIL(balancer_backend(&balancer, which).responses[1] == 21);
    UNTIL(balancer_backend(&balancer, which).busy == 0);
    (void)close(server);
    finish(&balancer, client);
}

/* Two clients meet on one backend; the next request of the second one goes to the idle one. */
TEST(a_request_leaves_a_busy_backend_for_an_idle_one_and_comes_back_over_the_parked_connection) {
    static struct balancer balancer;
    int first, second, at_first, at_second, moved, which, other;

    follow(&balancer);
    only(&balancer, 0);
    first = client_of(&balancer);
    at_first = first_turn(&balancer, first, &which);
    second = client_of(&balancer);
    at_second = first_turn(&balancer, second, &which);
    balancer.backends[1].usable = 1;
    balancer_publish(&balancer);

    say(first, request);
    hear(at_first, request);
    say(second, request);
    moved = accept_any(&balancer, &other);
    CHECK_EQ(other, 1);
    hear(moved, request);
    CHECK(!readable(at_second, 0));
    UNTIL(balancer_backend(&balancer, 0).busy == 1 && balancer_backend(&balancer, 1).busy == 1);
    respond(moved, second);
    UNTIL(pool_of(&balancer).moves_total == 1);
    respond(at_first, first);

    only(&balancer, 0);
    turn(second, at_second);
    UNTIL(pool_of(&balancer).moves_total == 2);
    UNTIL(pool_of(&balancer).reused_total == 1);
    (void)close(first);
    (void)close(at_first);
    (void)close(at_second);
    (void)close(moved);
    finish(&balancer, second);
}

TEST(a_limit_of_turns_is_exact_and_the_next_request_waits_in_the_queue) {
    static struct balancer balancer;
    int first, second, at_first, at_second, which;

    follow(&balancer);
    balancer.pool.queue_size = 10;
    balancer.pool.queue_ms = LONG_MS;
    balancer.backends[0].busy_max = 1;
    only(&balancer, 0);
    first = client_of(&balancer);
    second = client_of(&balancer);
    at_first = ask(&balancer, first, &which);
    say(second, request);
    UNTIL(pool_of(&balancer).queued == 1);
    CHECK(!has_connection(&balancer, 0));
    respond(at_first, first);
    at_second = accept_any(&balancer, &which);
    hear(at_second, request);
    /* The first one keeps its connection, but has to wait as well. */
    say(first, request);
    UNTIL(pool_of(&balancer).queued == 1);
    CHECK(!readable(at_first, 50));
    respond(at_second, second);
    hear(at_first, request);
    respond(at_first, first);
    UNTIL(pool_of(&balancer).queued == 0);
    (void)close(first);
    (void)close(at_first);
    (void)close(at_second);
    finish(&balancer, second);
}

TEST(a_client_that_leaves_the_queue_costs_no_backend_a_request) {
    static struct balancer balancer;
    int first, second, at_first, which;

    follow(&balancer);
    balancer.pool.queue_size = 10;
    balancer.pool.queue_ms = LONG_MS;
    balancer.backends[0].busy_max = 1;
    only(&balancer, 0);
    first = client_of(&balancer);
    second = client_of(&balancer);
    at_first = ask(&balancer, first, &which);
    say(second, request);
    UNTIL(pool_of(&balancer).queued == 1);
    hang_up(second, true);
    UNTIL(pool_of(&balancer).queued == 0);
    respond(at_first, first);
    turn(first, at_first);
    CHECK(!has_connection(&balancer, 0));
    (void)close(at_first);
    finish(&balancer, first);
}

/* ---- what ends between two requests ------------------------------------------------------------------------------ */

TEST(a_backend_that_closes_between_requests_does_not_end_the_client) {
    static struct balancer balancer;
    int client, server, which;

    follow(&balancer);
    only(&balancer, 0);
    client = client_of(&balancer);
    for (int i = 0; i < 5; i++) {
        server = first_turn(&balancer, client, &which);
        hang_up(server, i % 2 == 0);
        UNTIL(balancer_backend(&balancer, 0).connections == 0);
        CHECK(!readable(client, 0));
    }
    UNTIL(pool_of(&balancer).detached_total == 5);
    finish(&balancer, client);
}

TEST(a_drain_takes_the_backend_and_leaves_the_client) {
    static struct balancer balancer;
    int client, server, which, other;

    follow(&balancer);
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    only(&balancer, 1 - which);
    CHECK(l4lb_set_draining(balancer.engine, &balancer.backends[which].slot, 1, true, 0, WAIT_MS) >= 0);
    CHECK_EQ(end_of(server), 0);
    UNTIL(balancer_backend(&balancer, which).connections == 0);
    (void)close(server);
    say(client, request);
    server = accept_any(&balancer, &other);
    CHECK_EQ(other, 1 - which);
    hear(server, request);
    respond(server, client);
    (void)close(server);
    finish(&balancer, client);
}

TEST(a_request_in_flight_outlasts_the_drain_and_the_next_one_goes_elsewhere) {
    static struct balancer balancer;
    int client, server, next, which, other;

    follow(&balancer);
    client = client_of(&balancer);
    server = ask(&balancer, client, &which);
    only(&balancer, 1 - which);
    CHECK(l4lb_set_draining(balancer.engine, &balancer.backends[which].slot, 1, true, 0, WAIT_MS) >= 0);
    respond(server, client);
    CHECK_EQ(end_of(server), 0);
    say(client, request);
    next = accept_any(&balancer, &other);
    CHECK_EQ(other, 1 - which);
    hear(next, request);
    respond(next, client);
    (void)close(server);
    (void)close(next);
    finish(&balancer, client);
}

TEST(an_idle_backend_connection_is_closed_before_its_server_would_close_it) {
    static struct balancer balancer;
    int client, server, which;

    follow(&balancer);
    balancer.pool.timeouts.backend_keepalive_ms = 50;
    balancer_publish(&balancer);
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    CHECK_EQ(end_of(server), 0);
    (void)close(server);
    CHECK(!readable(client, 0));
    server = first_turn(&balancer, client, &which);
    (void)close(server);
    finish(&balancer, client);
}

TEST(a_stop_closes_a_client_between_requests) {
    static struct balancer balancer;
    int client, server, which;

    follow(&balancer);
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    CHECK(l4lb_drain_clients(balancer.engine, 0, WAIT_MS) >= 0);
    CHECK_EQ(end_of(client), 0);
    UNTIL(balancer_closed(&balancer, L4LB_CLOSE_DRAINED) == 1);
    (void)close(server);
    finish(&balancer, client);
}

TEST(a_client_that_finishes_between_requests_ends_both_connections) {
    static struct balancer balancer;
    int client, server, which;

    follow(&balancer);
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    CHECK_SYS(shutdown(client, SHUT_WR));
    CHECK_EQ(end_of(server), 0);
    CHECK_EQ(end_of(client), 0);
    UNTIL(balancer_closed(&balancer, L4LB_CLOSE_NORMAL) == 1);
    (void)close(server);
    finish(&balancer, client);
}

/* ---- sending again ----------------------------------------------------------------------------------------------- */

/* The backend closes the kept connection as the request arrives. */
static int race(struct balancer *balancer, int client, const char *message) {
    int server, which;

    server = first_turn(balancer, client, &which);
    say(client, message);
    hear(server, message);
    return server;
}

TEST(a_request_that_met_a_closing_connection_is_sent_again_if_that_is_safe) {
    static struct balancer balancer;
    int client, server, which, first;

    follow(&balancer);
    client = client_of(&balancer);
    server = race(&balancer, client, request);
    first = balancer_backend(&balancer, 0).connections == 1 ? 0 : 1;
    only(&balancer, 1 - first);
    hang_up(server, true);
    server = accept_any(&balancer, &which);
    CHECK_EQ(which, 1 - first);
    hear(server, request);
    respond(server, client);
    UNTIL(pool_of(&balancer).resends_total == 1);
    CHECK_EQ(pool_of(&balancer).detached_total, 0);
    UNTIL(pool_of(&balancer).moves_total == 1);
    UNTIL(balancer_backend(&balancer, which).turns_total == 1);
    turn(client, server);
    (void)close(server);
    finish(&balancer, client);
}

TEST(a_post_is_not_sent_twice_unless_the_pool_allows_it) {
    for (uint64_t allowed = 0; allowed <= 1; allowed++) {
        static struct balancer balancer;
        int client, server, which;

        follow(&balancer);
        balancer.pool.resend = allowed ? L4LB_RESEND_ALL : L4LB_RESEND_IDEMPOTENT;
        balancer_publish(&balancer);
        client = client_of(&balancer);
        hang_up(race(&balancer, client, post), false);
        if (allowed) {
            server = accept_any(&balancer, &which);
            hear(server, post);
            say(server, response);
            hear(client, response);
            (void)close(server);
        } else {
            CHECK_EQ(end_of(client), 0);
            CHECK(!has_connection(&balancer, 0) && !has_connection(&balancer, 1));
        }
        UNTIL(pool_of(&balancer).resends_total == allowed);
        finish(&balancer, client);
    }
}

TEST(a_fresh_connection_that_fails_is_no_reason_to_send_again) {
    static struct balancer balancer;
    int client, server, which;

    follow(&balancer);
    client = client_of(&balancer);
    server = ask(&balancer, client, &which);
    hang_up(server, false);
    CHECK_EQ(end_of(client), 0);
    UNTIL(pool_of(&balancer).resends_total == 0);
    finish(&balancer, client);
}

/* ---- pinned ------------------------------------------------------------------------------------------------------ */

TEST(bytes_that_are_no_http_make_a_plain_session) {
    static struct balancer balancer;
    int client, server, which;

    follow(&balancer);
    client = client_of(&balancer);
    say(client, "\x16\x03\x01hello");
    server = accept_any(&balancer, &which);
    hear(server, "\x16\x03\x01hello");
    say(server, "anything");
    hear(client, "anything");
    UNTIL(pool_of(&balancer).pinned[L4LB_PIN_NOT_HTTP] == 1);
    say(client, request);
    hear(server, request);
    hang_up(server, false);
    CHECK_EQ(end_of(client), 0);
    finish(&balancer, client);
}

TEST(an_upgrade_and_unrequested_bytes_pin) {
    static const char upgraded[] =
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nframes";
    static struct balancer balancer;
    int client, server, which;

    follow(&balancer);
    client = client_of(&balancer);
    say(client, "GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
    server = accept_any(&balancer, &which);
    hear(server, "GET / HTTP/1.1\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n");
    say(server, upgraded);
    hear(client, upgraded);
    UNTIL(pool_of(&balancer).pinned[L4LB_PIN_UPGRADE] == 1);
    say(client, "x");
    hear(server, "x");
    (void)close(client);
    (void)close(server);
    UNTIL(sessions_now(balancer.engine) == 0);

    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    say(server, "HTTP/1.1 408 Request Timeout\r\n\r\n");
    hear(client, "HTTP/1.1 408 Request Timeout\r\n\r\n");
    UNTIL(pool_of(&balancer).pinned[L4LB_PIN_UNREQUESTED] == 1);
    hang_up(server, false);
    CHECK_EQ(end_of(client), 0);
    finish(&balancer, client);
}

TEST(pipelined_requests_go_to_one_backend_and_are_answered_in_order) {
    static struct balancer balancer;
    char twice[2 * sizeof request], answers[2 * sizeof response];
    int client, server, which;

    follow(&balancer);
    (void)snprintf(twice, sizeof twice, "%s%s", request, request);
    (void)snprintf(answers, sizeof answers, "%s%s", response, response);
    client = client_of(&balancer);
    say(client, twice);
    server = accept_any(&balancer, &which);
    hear(server, twice);
    UNTIL(balancer_backend(&balancer, which).busy == 1);
    UNTIL(balancer_backend(&balancer, which).turns_total == 2);
    say(server, answers);
    hear(client, answers);
    UNTIL(balancer_backend(&balancer, which).busy == 0);
    UNTIL(balancer_backend(&balancer, which).responses[1] == 2);
    turn(client, server);
    (void)close(server);
    finish(&balancer, client);
}

TEST_MAIN()
