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

/* ---- backend connections of one session -------------------------------------------------------------------------- */

/* ---- ends -------------------------------------------------------------------------------------------------------- */

TEST_MAIN()
