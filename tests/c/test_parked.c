/* SPDX-License-Identifier: Apache-2.0 */
#include "session/parked.h"

#include "base/clock.h"
#include "both_ends.h"

/* ---- more backends than a session parks connections -------------------------------------------------------------- */

enum { MANY = LB_PARKED_MAX + 2 };

static struct balancer balancer;
static struct l4lb_backend_config backends[MANY];
static struct sockaddr_in addresses[MANY];
static int listeners[MANY];
static int servers[MANY]; /* the connection of the only client, or -1 */

static void publish_only(int which) {
    for (int i = 0; i < MANY; i++)
        backends[i].usable = i == which;
    balancer_publish(&balancer);
}

static int begin(void) {
    static const char *const names[MANY] = {"a", "b", "c", "d", "e"};

    follow(&balancer);
    for (int i = 0; i < MANY; i++) {
        addresses[i] = loopback();
        listeners[i] = listen_at(&addresses[i], 0);
        servers[i] = -1;
        backends[i] = (struct l4lb_backend_config){.slot = take_slot(balancer.engine, L4LB_SLOT_BACKEND),
                                                   .weight = 1,
                                                   .name = names[i],
                                                   .address = (const struct sockaddr *)&addresses[i],
                                                   .address_len = sizeof addresses[i]};
    }
    balancer.pool.backends = backends;
    balancer.pool.n_backends = MANY;
    publish_only(0);
    return client_of(&balancer);
}

static void end(int client) {
    for (int i = 0; i < MANY; i++) {
        if (servers[i] != -1)
            (void)close(servers[i]);
        (void)close(listeners[i]);
    }
    finish(&balancer, client);
}

/* The next request goes there, over the connection that the session has or over a new one. */
static void turn_at(int which, int client) {
    publish_only(which);
    say(client, request);
    if (servers[which] == -1)
        servers[which] = accept_at(listeners[which]);
    hear(servers[which], request);
    respond(servers[which], client);
}

static void forget(int which) {
    (void)close(servers[which]);
    servers[which] = -1;
}

static uint64_t connections_of(int which) { return backend_stats(balancer.engine, backends[which].slot).connections; }

/* ---- how many ---------------------------------------------------------------------------------------------------- */

TEST(a_session_parks_only_so_many_connections_and_closes_the_one_parked_first) {
    int client = begin();

    for (int i = 0; i < MANY; i++)
        turn_at(i, client);
    hear_end(servers[0]);
    UNTIL(connections_of(0) == 0);
    for (int i = 1; i < MANY; i++)
        CHECK_EQ(connections_of(i), 1);
    forget(0);
    for (int i = 1; i < MANY; i++)
        turn_at(i, client);
    UNTIL(pool_of(&balancer).reused_total == MANY - 1);
    turn_at(0, client);
    hear_end(servers[1]); /* the one that was used least recently */
    end(client);
}

/* All backends but the last one, which the session has no connection to, are busy with requests of other clients. */
TEST(a_session_replaces_a_parked_connection_for_a_better_backend_only_once_in_a_while) {
    int client = begin(), others[MANY - 1], at_others[MANY - 1];
    uint64_t since_ms = 0;

    for (int i = 0; i < MANY - 1; i++) {
        since_ms = lb_clock_ns() / LB_NS_PER_MS;
        turn_at(i, client);
    }
    for (int i = 0; i < MANY - 1; i++) {
        publish_only(i);
        others[i] = client_of(&balancer);
        say(others[i], request);
        at_others[i] = accept_at(listeners[i]);
        hear(at_others[i], request);
    }
    for (int i = 0; i < MANY; i++)
        backends[i].usable = 1;
    balancer_publish(&balancer);
    say(client, request);
    UNTIL(readable(servers[MANY - 2], 0) || readable(listeners[MANY - 1], 0));
    if (readable(servers[MANY - 2], 0)) {
        hear(servers[MANY - 2], request);
        respond(servers[MANY - 2], client);
        rest_ms(LB_REPLACE_MS);
        say(client, request);
    } else {
        CHECK(lb_clock_ns() / LB_NS_PER_MS - since_ms >= LB_REPLACE_MS);
    }
    servers[MANY - 1] = accept_at(listeners[MANY - 1]);
    hear(servers[MANY - 1], request);
    respond(servers[MANY - 1], client);
    for (int i = 0; i < MANY - 1; i++) {
        (void)close(others[i]);
        (void)close(at_others[i]);
    }
    end(client);
}

TEST(a_backend_without_connections_to_spare_gets_none_parked) {
    int client = begin();

    turn_at(0, client);
    backends[0].connections_max = 1;
    turn_at(1, client);
    hear_end(servers[0]);
    UNTIL(connections_of(0) == 0);
    end(client);
}

TEST(a_backend_that_left_the_pool_gets_none_parked) {
    int client = begin();

    turn_at(0, client);
    balancer.pool.backends = backends + 1;
    balancer.pool.n_backends = MANY - 1;
    turn_at(1, client);
    hear_end(servers[0]);
    UNTIL(connections_of(0) == 0);
    end(client);
}

/* ---- how they end ------------------------------------------------------------------------------------------------ */

TEST(a_parked_connection_that_its_backend_ends_is_closed_and_the_client_sees_nothing) {
    for (int reset = 0; reset <= 1; reset++) {
        int client = begin();

        turn_at(0, client);
        turn_at(1, client);
        hang_up(servers[0], reset == 1);
        servers[0] = -1;
        UNTIL(connections_of(0) == 0);
        turn_at(0, client);
        CHECK_EQ(pool_of(&balancer).resends_total, 0);
        end(client);
    }
}

TEST(a_parked_connection_with_a_byte_that_no_request_asked_for_is_closed) {
    int client = begin();

    turn_at(0, client);
    turn_at(1, client);
    say(servers[0], "x");
    UNTIL(connections_of(0) == 0);
    forget(0);
    turn_at(0, client); /* and the byte reaches no client */
    end(client);
}

TEST(a_parked_connection_is_closed_before_its_server_would_close_it) {
    int client;

    client = begin();
    balancer.pool.timeouts.backend_keepalive_ms = 50;
    balancer_publish(&balancer);
    (void)close(client);
    client = client_of(&balancer); /* one that has the new setting */
    turn_at(0, client);
    turn_at(1, client);
    hear_end(servers[0]);
    UNTIL(connections_of(0) == 0);
    CHECK(!readable(client, 0));
    end(client);
}

TEST(a_drain_closes_parked_connections) {
    int client = begin();

    turn_at(0, client);
    turn_at(1, client);
    CHECK(l4lb_set_draining(balancer.engine, &backends[0].slot, 1, true, 0, WAIT_MS) >= 0);
    hear_end(servers[0]);
    UNTIL(connections_of(0) == 0);
    turn_at(1, client);
    end(client);
}

TEST(killing_the_sessions_of_a_backend_takes_only_the_connection_of_one_that_parked_it) {
    int client = begin();

    turn_at(0, client);
    turn_at(1, client);
    CHECK_EQ(l4lb_kill_backend(balancer.engine, backends[0].slot, L4LB_CLOSE_KILLED, WAIT_MS), 0);
    hear_end(servers[0]);
    CHECK_EQ(connections_of(0), 0);
    turn_at(1, client);
    end(client);
}

TEST(a_session_that_is_pinned_gives_up_its_parked_connections) {
    int client = begin();

    turn_at(0, client);
    turn_at(1, client);
    say(client, "GET / HTTP/1.1\n");
    hear(servers[1], "GET / HTTP/1.1\n");
    hear_end(servers[0]);
    UNTIL(connections_of(0) == 0);
    end(client);
}

/* Without that they would keep requests from the backend that are ahead in the queue. */
TEST(a_parked_connection_is_closed_in_time_while_its_session_waits_in_the_queue) {
    int first = begin(), client, at_first;

    backends[1].busy_max = 1;
    balancer.pool.queue_size = 10;
    balancer.pool.queue_ms = LONG_MS;
    balancer.pool.timeouts.backend_keepalive_ms = 50;
    publish_only(1);
    (void)close(first);
    first = client_of(&balancer);
    client = client_of(&balancer);
    say(first, request);
    at_first = accept_at(listeners[1]);
    hear(at_first, request);
    turn_at(0, client);
    publish_only(1);
    say(client, request);
    UNTIL(pool_of(&balancer).queued == 1);
    hear_end(servers[0]);
    UNTIL(connections_of(0) == 0);
    CHECK_EQ(pool_of(&balancer).queued, 1);
    respond(at_first, first);
    servers[1] = accept_at(listeners[1]);
    hear(servers[1], request);
    respond(servers[1], client);
    (void)close(first);
    (void)close(at_first);
    end(client);
}

/* ---- which one an event is for ----------------------------------------------------------------------------------- */

/* Serials are one byte and return after 255 connections. */
TEST(the_end_of_a_parked_connection_is_noticed_however_many_connections_came_after_it) {
    int client = begin();

    turn_at(0, client);
    turn_at(1, client);
    for (int i = 0; i < UINT8_MAX - 1; i++) {
        forget(1);
        UNTIL(connections_of(1) == 0);
        turn_at(1, client);
    }
    hang_up(servers[0], false);
    servers[0] = -1;
    UNTIL(connections_of(0) == 0);
    turn_at(1, client);
    end(client);
}

TEST(a_new_serial_is_neither_zero_nor_that_of_a_parked_connection) {
    struct lb_followed followed = {.n_parked = 2, .last_serial = UINT8_MAX - 1};

    followed.parked[0].serial = UINT8_MAX;
    followed.parked[1].serial = 1;
    CHECK_EQ(lb_parked_next_serial(&followed), 2);
    CHECK_EQ(lb_parked_next_serial(&followed), 3);
}

TEST_MAIN()
