/* SPDX-License-Identifier: Apache-2.0 */
#include "session/turn_exact.h"

#include "both_ends.h"

static struct balancer balancer;

static uint64_t count(const struct l4lb_histogram *histogram) {
    uint64_t n = 0;

    for (int i = 0; i < L4LB_N_BUCKETS; i++)
        n += histogram->buckets[i];
    return n;
}

static struct l4lb_backend_stats stats(void) { return balancer_backend(&balancer, 0); }

static uint64_t heads(void) { return count(&(struct l4lb_backend_stats[]){stats()}[0].first_byte); }
static uint64_t bodies(void) { return count(&(struct l4lb_backend_stats[]){stats()}[0].first_body); }
static uint64_t turns(void) { return count(&(struct l4lb_backend_stats[]){stats()}[0].turn); }

/* A client whose requests all go to the first backend. */
static int begin(void) {
    follow(&balancer);
    only(&balancer, 0);
    return client_of(&balancer);
}

static void end(int client, int server) {
    (void)close(server);
    finish(&balancer, client);
}

/* ---- when a turn begins and ends --------------------------------------------------------------------------------- */

TEST(a_turn_begins_with_the_first_byte_of_its_request) {
    int client = begin(), server;

    say(client, "G");
    server = accept_at(balancer.backend_fds[0]);
    hear(server, "G");
    UNTIL(stats().busy == 1 && stats().turns_total == 1);
    say(client, request + 1);
    hear(server, request + 1);
    CHECK_EQ(stats().turns_total, 1);
    respond(server, client);
    UNTIL(stats().busy == 0);
    end(client, server);
}

TEST(a_turn_ends_with_the_last_byte_of_its_response_and_the_body_has_a_time_of_its_own) {
    int client = begin(), which, server = ask(&balancer, client, &which);
    struct l4lb_backend_stats now;

    say(server, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    hear(client, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    UNTIL(heads() == 1);
    CHECK_EQ(bodies(), 0);
    CHECK_EQ(stats().busy, 1);
    say(server, "hell");
    hear(client, "hell");
    UNTIL(bodies() == 1);
    CHECK_EQ(turns(), 0);
    CHECK_EQ(stats().busy, 1);
    say(server, "o");
    hear(client, "o");
    UNTIL(turns() == 1 && stats().busy == 0);
    now = stats();
    CHECK_EQ(count(&now.first_byte), 1);
    CHECK_EQ(count(&now.first_body), 1);
    CHECK_EQ(count(&now.stream_gap), 2);
    end(client, server);
}

TEST(an_interim_response_ends_nothing) {
    int client = begin(), which, server = ask(&balancer, client, &which);
    struct l4lb_backend_stats now;

    say(server, "HTTP/1.1 103 Early Hints\r\n\r\n");
    hear(client, "HTTP/1.1 103 Early Hints\r\n\r\n");
    UNTIL((now = stats()).responded_total == 1);
    CHECK_EQ(count(&now.first_byte), 0);
    CHECK_EQ(now.busy, 1);
    respond(server, client);
    UNTIL((now = stats()).responses[1] == 1 && now.busy == 0);
    CHECK_EQ(now.responses[0], 0);
    CHECK_EQ(count(&now.first_byte), 1);
    end(client, server);
}

TEST(a_response_without_a_body_ends_with_its_head) {
    static const char *const pairs[][2] = {
        {"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"},
        {request, "HTTP/1.1 204 No Content\r\n\r\n"},
        {request, "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n"},
        {request, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"},
    };
    int client = begin(), which, server = first_turn(&balancer, client, &which);

    for (uint64_t i = 0; i < 4; i++) {
        say(client, pairs[i][0]);
        hear(server, pairs[i][0]);
        say(server, pairs[i][1]);
        hear(client, pairs[i][1]);
        UNTIL(turns() == i + 2 && stats().busy == 0);
    }
    end(client, server);
}

TEST(responses_are_counted_by_the_class_of_their_status) {
    static const char *const statuses[] = {"200 OK", "302 Found", "404 Not Found", "503 Unavailable", "200 OK"};
    int client = begin(), which, server = first_turn(&balancer, client, &which);
    struct l4lb_backend_stats now;
    char text[100];

    for (int i = 0; i < 5; i++) {
        (void)snprintf(text, sizeof text, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", statuses[i]);
        say(client, request);
        hear(server, request);
        say(server, text);
        hear(client, text);
    }
    UNTIL((now = stats()).responses[1] == 3);
    CHECK_EQ(now.responses[0], 0);
    CHECK_EQ(now.responses[2], 1);
    CHECK_EQ(now.responses[3], 1);
    CHECK_EQ(now.responses[4], 1);
    CHECK_EQ(now.responses[5], 0);
    end(client, server);
}

/* ---- more than one request --------------------------------------------------------------------------------------- */

TEST(pipelined_requests_are_turns_one_after_another_and_hold_one_turn_of_the_backend) {
    int client = begin(), which, server = ask(&balancer, client, &which);

    say(client, request);
    hear(server, request);
    UNTIL(stats().turns_total == 2);
    CHECK_EQ(stats().busy, 1);
    respond(server, client);
    CHECK_EQ(event_of(&balancer, L4LB_EVENT_REQUEST).status, 200);
    CHECK_EQ(stats().busy, 1);
    say(server, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    hear(client, "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    CHECK_EQ(event_of(&balancer, L4LB_EVENT_REQUEST).status, 404);
    UNTIL(stats().busy == 0);
    end(client, server);
}

TEST(each_request_has_an_event_that_tells_of_this_request_alone) {
    int client = begin(), which, server = first_turn(&balancer, client, &which);
    struct l4lb_session_record first = event_of(&balancer, L4LB_EVENT_REQUEST), second;

    say(client, post);
    hear(server, post);
    rest_ms(2);
    respond(server, client);
    second = event_of(&balancer, L4LB_EVENT_REQUEST);
    CHECK_EQ(second.id, first.id);
    CHECK_EQ(second.backend, balancer.backends[0].slot);
    CHECK_EQ(second.pool, balancer.pool.slot);
    CHECK_EQ(second.status, 200);
    CHECK_EQ(first.turns, 1);
    CHECK_EQ(second.turns, 2);
    CHECK_EQ(first.bytes_in, strlen(request));
    CHECK_EQ(second.bytes_in, strlen(post));
    CHECK_EQ(first.bytes_out, strlen(response));
    CHECK_EQ(second.bytes_out, strlen(response));
    CHECK_EQ(second.queue_us, 0);
    CHECK_EQ(second.moves, 0);
    CHECK(second.first_byte_us > 0 && second.first_byte_us <= second.duration_us);
    CHECK(second.started_ns >= first.started_ns + first.duration_us * 1000);
    end(client, server);
}

TEST(the_event_of_a_request_tells_how_long_this_one_waited_in_the_queue) {
    int client = begin(), which, server = first_turn(&balancer, client, &which), other, at_other;
    struct l4lb_session_record waited;

    balancer.backends[0].busy_max = 1;
    balancer.pool.queue_size = 10;
    balancer.pool.queue_ms = LONG_MS;
    balancer_publish(&balancer);
    other = client_of(&balancer);
    at_other = ask(&balancer, other, &which);
    say(client, request);
    UNTIL(pool_of(&balancer).queued == 1);
    CHECK_EQ(event_of(&balancer, L4LB_EVENT_REQUEST).queue_us, 0); /* of the first turn */
    rest_ms(2);
    respond(at_other, other);
    CHECK_EQ(event_of(&balancer, L4LB_EVENT_REQUEST).queue_us, 0); /* of the other client */
    hear(server, request);
    respond(server, client);
    waited = event_of(&balancer, L4LB_EVENT_REQUEST);
    CHECK(waited.queue_us > 0);
    turn(client, server);
    CHECK_EQ(event_of(&balancer, L4LB_EVENT_REQUEST).queue_us, 0);
    (void)close(client);
    CHECK(event_of(&balancer, L4LB_EVENT_CLOSE).queue_us >= waited.queue_us); /* of the session: all waits */
    (void)close(at_other);
    (void)close(server);
    finish(&balancer, other);
}

TEST(a_request_that_moved_counts_for_the_backend_that_got_it) {
    int client = begin(), which, server = first_turn(&balancer, client, &which), moved;
    struct l4lb_session_record record;

    CHECK_EQ(event_of(&balancer, L4LB_EVENT_REQUEST).moves, 0);
    only(&balancer, 1);
    moved = first_turn(&balancer, client, &which);
    CHECK_EQ(which, 1);
    record = event_of(&balancer, L4LB_EVENT_REQUEST);
    CHECK_EQ(record.backend, balancer.backends[1].slot);
    CHECK_EQ(record.moves, 1);
    CHECK_EQ(balancer_backend(&balancer, 1).turns_total, 1);
    CHECK_EQ(balancer_backend(&balancer, 1).sent_bytes_total, strlen(request));
    CHECK_EQ(balancer_backend(&balancer, 1).received_bytes_total, strlen(response));
    CHECK_EQ(stats().turns_total, 1);
    (void)close(moved);
    end(client, server);
}

TEST_MAIN()
