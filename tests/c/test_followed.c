/* SPDX-License-Identifier: Apache-2.0 */
#include "both_ends.h"

/* ---- what a followed session holds while others wait ------------------------------------------------------------- */

/* A session with a request in flight to the only backend. Returns the client. */
static int in_flight(const struct balancer *balancer, int *server) {
    int client = client_of(balancer), which;

    say(client, request);
    *server = accept_any(balancer, &which);
    hear(*server, request);
    return client;
}

static void with_queue(struct balancer *balancer) {
    follow(balancer);
    balancer->pool.queue_size = 10;
    balancer->pool.queue_ms = LONG_MS;
    only(balancer, 0);
}

/* The client takes nothing, so its responses pile up until one of them is held. */
static const char long_response[] = "HTTP/1.1 200 OK\r\nContent-Length: 16384\r\n\r\n";
enum { LONG_BODY = 16384, RESPONSES_MAX = 4096 };

static void say_long(int server) {
    static const char body[LONG_BODY];

    say(server, long_response);
    CHECK_EQ(send(server, body, sizeof body, MSG_NOSIGNAL), sizeof body);
}

/* Returns how many responses the client has not taken. One more request of it is unread. */
static int pile_up(const struct balancer *balancer, int client, int server) {
    int n;

    for (n = 0; n < RESPONSES_MAX; n++) {
        if (n > 0)
            say(client, request);
        if (n > 0 && !readable(server, 200))
            break;
        if (n > 0)
            hear(server, request);
        say_long(server);
        UNTIL(balancer_backend(balancer, 0).responses[1] == (uint64_t)n + 1);
    }
    CHECK(n < RESPONSES_MAX);
    return n;
}

static void take_all(int client, int n) {
    char data[LONG_BODY];

    for (int i = 0; i < n; i++) {
        hear(client, long_response);
        CHECK_EQ(recv(client, data, LONG_BODY, MSG_WAITALL), LONG_BODY);
    }
}

TEST(a_request_behind_a_response_that_the_client_has_not_taken_is_placed_like_any_other) {
    static struct balancer balancer;
    int client, server, n;

    with_queue(&balancer);
    balancer.backends[0].busy_max = 1;
    balancer_publish(&balancer);
    client = in_flight(&balancer, &server);
    n = pile_up(&balancer, client, server);
    CHECK_EQ(balancer_backend(&balancer, 0).busy, 0);
    take_all(client, n);
    hear(server, request);
    respond(server, client);
    (void)close(server);
    finish(&balancer, client);
}

TEST(a_session_that_stops_being_followed_still_passes_on_the_request_that_waited) {
    static struct balancer balancer;
    int client, server, n;

    follow(&balancer);
    only(&balancer, 0);
    client = in_flight(&balancer, &server);
    n = pile_up(&balancer, client, server);
    say(server, response);
    take_all(client, n);
    hear(client, response);
    hear(server, request);
    UNTIL(pool_of(&balancer).pinned[L4LB_PIN_UNREQUESTED] == 1);
    respond(server, client);
    (void)close(server);
    finish(&balancer, client);
}

TEST(a_session_that_waits_keeps_no_connection_for_which_another_one_waits) {
    static struct balancer balancer;
    int idle, busy, first, at_idle, at_busy, at_first, which;

    with_queue(&balancer);
    balancer.backends[0].connections_max = 2;
    balancer_publish(&balancer);
    idle = in_flight(&balancer, &at_idle);
    respond(at_idle, idle);
    busy = in_flight(&balancer, &at_busy);
    first = client_of(&balancer);
    say(first, request);
    UNTIL(pool_of(&balancer).queued == 1);
    say(idle, request);
    at_first = accept_any(&balancer, &which);
    hear(at_first, request);
    respond(at_first, first);
    (void)close(at_idle);
    at_idle = accept_any(&balancer, &which);
    hear(at_idle, request);
    respond(at_idle, idle);
    respond(at_busy, busy);
    (void)close(first);
    (void)close(at_first);
    (void)close(busy);
    (void)close(at_busy);
    (void)close(at_idle);
    finish(&balancer, idle);
}

/* ---- backend connections of one session -------------------------------------------------------------------------- */

/* ---- ends -------------------------------------------------------------------------------------------------------- */

TEST(a_response_that_ends_with_its_connection_is_counted_with_its_status) {
    static const char until_close[] = "HTTP/1.1 503 Busy\r\n\r\nlater";
    static struct balancer balancer;
    int client, server;

    follow(&balancer);
    only(&balancer, 0);
    client = in_flight(&balancer, &server);
    say(server, until_close);
    (void)close(server);
    hear(client, until_close);
    CHECK_EQ(end_of(client), 0);
    UNTIL(balancer_backend(&balancer, 0).responses[4] == 1);
    finish(&balancer, client);
}

TEST(a_client_of_a_pool_that_was_removed_is_closed_between_requests) {
    static struct balancer balancer;
    int client, server;
    struct l4lb_pool_config other;

    follow(&balancer);
    only(&balancer, 0);
    client = in_flight(&balancer, &server);
    respond(server, client);
    (void)close(server);
    UNTIL(pool_of(&balancer).detached_total == 1);
    other = balancer.pool;
    other.slot = take_slot(balancer.engine, L4LB_SLOT_POOL);
    other.n_backends = 0;
    balancer.config.pools = &other;
    balancer_publish(&balancer);
    CHECK(l4lb_set_draining(balancer.engine, &balancer.backends[0].slot, 1, true, 0, WAIT_MS) >= 0);
    CHECK_EQ(end_of(client), 0);
    UNTIL(balancer_closed(&balancer, L4LB_CLOSE_DRAINED) == 1);
    finish(&balancer, client);
}

TEST(a_last_request_is_served_over_the_connection_at_hand_even_where_a_fin_means_that_the_client_left) {
    static const char last[] = "GET /last HTTP/1.1\r\nHost: x\r\n\r\n";
    static struct balancer balancer;
    int client, server;

    follow(&balancer);
    balancer.pool.abort_on_close = true;
    only(&balancer, 0);
    client = in_flight(&balancer, &server);
    respond(server, client);
    /* Both in one segment. */
    CHECK_EQ(send(client, last, strlen(last), MSG_MORE), strlen(last));
    (void)CHECK_SYS(shutdown(client, SHUT_WR));
    hear(server, last);
    respond(server, client);
    (void)close(server);
    finish(&balancer, client);
}

TEST_MAIN()
