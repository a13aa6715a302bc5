/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests of followed sessions under the settings of their pool: algorithms that bind a client, tiers, limits, the
 * queue, and backends that cannot be reached.
 */
#include <sys/resource.h>

#include "base/bounds.h"
#include "both_ends.h"

static struct balancer balancer;

static uint64_t closed(enum l4lb_close reason) { return balancer_closed(&balancer, reason); }

/* ---- which backend ----------------------------------------------------------------------------------------------- */

/* The first client's request is in flight. The second client, bound to the same backend, joins it there although the
 * other one is idle; and it moves only while that one is down. Returns to it, or stays, as `returns` says. */
static void check_bound(bool returns) {
    int first, second, at_first, at_second, moved, home, which;

    first = client_of(&balancer);
    at_first = ask(&balancer, first, &home);
    second = client_of(&balancer);
    at_second = first_turn(&balancer, second, &which);
    CHECK_EQ(which, home);
    turn(second, at_second);
    only(&balancer, 1 - home);
    moved = first_turn(&balancer, second, &which);
    CHECK_EQ(which, 1 - home);
    balancer.backends[home].usable = 1;
    balancer_publish(&balancer);
    turn(second, returns ? at_second : moved);
    UNTIL(pool_of(&balancer).moves_total == 1u + returns);
    respond(at_first, first);
    (void)close(first);
    (void)close(at_first);
    (void)close(at_second);
    (void)close(moved);
    finish(&balancer, second);
}

TEST(requests_of_a_remembered_client_move_only_when_their_backend_is_down) {
    follow(&balancer);
    balancer.pool.sticky_entries = 10;
    balancer.pool.sticky_ttl_ms = LONG_MS;
    balancer_publish(&balancer);
    check_bound(false); /* the new backend is the one that is remembered */
}

TEST(requests_of_a_hashed_client_move_only_when_their_backend_is_down) {
    follow(&balancer);
    balancer.pool.balance = L4LB_MAGLEV;
    balancer_publish(&balancer);
    check_bound(true);
}

TEST(the_next_request_goes_to_the_better_tier_as_soon_as_it_is_up) {
    int client, at_lower, at_better, which;

    follow(&balancer);
    balancer.backends[1].tier = 1;
    only(&balancer, 1);
    client = client_of(&balancer);
    at_lower = first_turn(&balancer, client, &which);
    CHECK_EQ(which, 1);
    balancer.backends[0].usable = 1;
    balancer_publish(&balancer);
    at_better = first_turn(&balancer, client, &which);
    CHECK_EQ(which, 0);
    only(&balancer, 1);
    turn(client, at_lower);
    (void)close(at_lower);
    (void)close(at_better);
    finish(&balancer, client);
}

/* ---- limits ------------------------------------------------------------------------------------------------------ */

TEST(an_idle_session_keeps_no_connection_that_another_one_could_use) {
    int first, second, server, which;

    follow(&balancer);
    balancer.backends[0].connections_max = 1;
    only(&balancer, 0);
    first = client_of(&balancer);
    second = client_of(&balancer);
    for (int i = 0; i < 4; i++) {
        server = first_turn(&balancer, i % 2 == 0 ? first : second, &which);
        hear_end(server);
        (void)close(server);
        UNTIL(balancer_backend(&balancer, 0).connections == 0);
    }
    CHECK_EQ(pool_of(&balancer).detached_total, 4);
    (void)close(first);
    finish(&balancer, second);
}

TEST(a_request_that_no_backend_can_take_ends_its_session_after_the_response_before_it) {
    int first, second, at_first, at_second, which;

    follow(&balancer);
    balancer.backends[0].busy_max = 1;
    only(&balancer, 0);
    second = client_of(&balancer);
    at_second = first_turn(&balancer, second, &which);
    first = client_of(&balancer);
    at_first = ask(&balancer, first, &which);
    say(second, request);
    hear_end(second);
    hear_end(at_second);
    UNTIL(closed(L4LB_CLOSE_NO_BACKEND) == 1);
    respond(at_first, first);
    (void)close(at_first);
    (void)close(at_second);
    (void)close(second);
    finish(&balancer, first);
}

/* A bare CR is a part of an empty line, which may precede a request. */
TEST(a_request_that_dawdles_keeps_the_turn_that_it_has_reserved) {
    int first, second, at_first, which;

    follow(&balancer);
    balancer.backends[0].busy_max = 1;
    balancer.pool.queue_size = 10;
    balancer.pool.queue_ms = LONG_MS;
    only(&balancer, 0);
    first = client_of(&balancer);
    at_first = first_turn(&balancer, first, &which);
    say(first, "\r");
    hear(at_first, "\r");
    rest_ms(LB_SILENCE_FIRST_MS + 50);
    second = client_of(&balancer);
    say(second, request);
    UNTIL(pool_of(&balancer).queued == 1);
    CHECK(!has_connection(&balancer, 0));
    say(first, "\n");
    hear(at_first, "\n");
    (void)close(at_first);
    at_first = accept_at(balancer.backend_fds[0]);
    hear(at_first, request);
    respond(at_first, second);
    (void)close(first);
    (void)close(at_first);
    finish(&balancer, second);
}

/* ---- the queue --------------------------------------------------------------------------------------------------- */

/* A client whose request waits for the other one's. It has had a response before, if `kept`. */
static int wait_behind(int *first, int *at_first, bool kept) {
    int client, which;

    balancer.backends[0].busy_max = 1;
    balancer.pool.queue_size = 10;
    only(&balancer, 0);
    client = client_of(&balancer);
    if (kept)
        (void)close(first_turn(&balancer, client, &which));
    UNTIL(balancer_backend(&balancer, 0).connections == 0);
    *first = client_of(&balancer);
    *at_first = ask(&balancer, *first, &which);
    say(client, request);
    return client;
}

static void let_go(int first, int at_first, int client) {
    respond(at_first, first);
    turn(first, at_first);
    CHECK(!has_connection(&balancer, 0));
    (void)close(client);
    (void)close(at_first);
    finish(&balancer, first);
}

TEST(a_request_waits_only_so_long_in_the_queue) {
    for (int kept = 0; kept <= 1; kept++) {
        int first, at_first, client;

        follow(&balancer);
        balancer.pool.queue_ms = 50;
        client = wait_behind(&first, &at_first, kept == 1);
        CHECK(readable(client, WAIT_MS));
        CHECK(end_of(client) == 0 || !kept); /* without a response, a reset loses nothing */
        UNTIL(closed(L4LB_CLOSE_QUEUE_TIMEOUT) == 1);
        let_go(first, at_first, client);
    }
}

TEST(a_client_that_sends_a_fin_has_gone_if_the_pool_says_so) {
    for (int kept = 0; kept <= 1; kept++) {
        int first, at_first, client;

        follow(&balancer);
        balancer.pool.queue_ms = LONG_MS;
        balancer.pool.abort_on_close = 1;
        client = wait_behind(&first, &at_first, kept == 1);
        UNTIL(pool_of(&balancer).queued == 1);
        CHECK_SYS(shutdown(client, SHUT_WR));
        CHECK(readable(client, WAIT_MS));
        CHECK(end_of(client) == 0 || !kept);
        UNTIL(closed(L4LB_CLOSE_CLIENT_ABORT_QUEUE) == 1);
        let_go(first, at_first, client);
    }
}

TEST(a_client_that_ended_its_request_with_a_fin_waits_for_the_response_otherwise) {
    int first, at_first, client, server;

    follow(&balancer);
    balancer.pool.queue_ms = LONG_MS;
    client = wait_behind(&first, &at_first, false);
    UNTIL(pool_of(&balancer).queued == 1);
    CHECK_SYS(shutdown(client, SHUT_WR));
    respond(at_first, first);
    server = accept_at(balancer.backend_fds[0]);
    hear(server, request);
    respond(server, client);
    hear_end(client);
    (void)close(client);
    (void)close(server);
    (void)close(at_first);
    finish(&balancer, first);
}

/* ---- backends that cannot be reached ----------------------------------------------------------------------------- */

TEST(a_request_whose_backend_refuses_goes_to_another_one_every_time) {
    struct sockaddr_in refuses = loopback();
    socklen_t len = sizeof refuses;
    int fd = CHECK_SYS(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)), client, server;

    CHECK_SYS(bind(fd, (struct sockaddr *)&refuses, len));
    CHECK_SYS(getsockname(fd, (struct sockaddr *)&refuses, &len));
    follow(&balancer);
    balancer.pool.balance = L4LB_FIRST;
    balancer.backends[0].address = (const struct sockaddr *)&refuses;
    balancer_publish(&balancer);
    client = client_of(&balancer);
    say(client, post);
    server = accept_at(balancer.backend_fds[1]);
    hear(server, post);
    respond(server, client);
    turn(client, server); /* over the connection that was parked for the attempt */
    UNTIL(balancer_backend(&balancer, 0).connect_failures_total == 2);
    CHECK_EQ(balancer_backend(&balancer, 0).retries_total, 2);
    CHECK_EQ(balancer_backend(&balancer, 0).turns_total, 0);
    CHECK_EQ(pool_of(&balancer).moves_total, 0);
    (void)close(server);
    (void)close(fd);
    finish(&balancer, client);
}

TEST(a_request_that_reaches_no_backend_ends_its_session) {
    int client, server, which;

    follow(&balancer);
    balancer.pool.retries = 0;
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    only(&balancer, 1 - which);
    (void)CHECK_SYS(shutdown(balancer.backend_fds[1 - which], SHUT_RDWR)); /* it listens no more */
    say(client, request);
    hear_end(client);
    hear_end(server);
    UNTIL(closed(L4LB_CLOSE_CONNECT_FAILED) == 1);
    (void)close(server);
    finish(&balancer, client);
}

static void limit_files(rlim_t n) {
    struct rlimit files;

    CHECK_OK(getrlimit(RLIMIT_NOFILE, &files));
    files.rlim_cur = n;
    CHECK_OK(setrlimit(RLIMIT_NOFILE, &files));
}

TEST(a_move_that_finds_no_descriptor_is_tried_again) {
    struct rlimit before;
    int client, server, moved, next, which;

    follow(&balancer);
    only(&balancer, 0);
    client = client_of(&balancer);
    server = first_turn(&balancer, client, &which);
    only(&balancer, 1);
    CHECK_OK(getrlimit(RLIMIT_NOFILE, &before));
    next = CHECK_SYS(dup(client));
    (void)close(next);
    limit_files((rlim_t)next);
    say(client, request);
    UNTIL(balancer_backend(&balancer, 1).retries_total == 1);
    limit_files(before.rlim_cur);
    moved = accept_at(balancer.backend_fds[1]);
    hear(moved, request);
    respond(moved, client);
    CHECK_EQ(balancer_backend(&balancer, 1).connect_failures_total, 0);
    (void)close(server);
    (void)close(moved);
    finish(&balancer, client);
}

TEST_MAIN()
