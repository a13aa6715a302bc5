/* SPDX-License-Identifier: Apache-2.0 */
#include "lone.h"

#include "base/clock.h"
#include "session/turn.h"

enum { REQUEST = 100, RESPONSE = 200 };

static struct lone lone;

/* A session whose bytes the test makes up. */
static struct lb_session *connected(int *client) {
    *client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == 1);
    return lone_session(&lone);
}

static struct l4lb_backend_stats *stats(void) { return &lone.worker.counters.backends[0]; }

static void pass_ms(uint64_t ms) {
    lone.worker.now_ms += ms;
    lone.worker.now_ns += ms * LB_NS_PER_MS;
}

static void request(struct lb_session *session) {
    session->up.may_request = true;
    lb_turn_client_bytes(&lone.worker, session, REQUEST);
}

static uint64_t count(const struct l4lb_histogram *histogram) {
    uint64_t n = 0;

    for (int i = 0; i < L4LB_N_BUCKETS; i++)
        n += histogram->buckets[i];
    return n;
}

TEST(a_request_begins_a_turn_and_silence_after_the_response_ends_it) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    request(session);
    CHECK_EQ(stats()->turns_total, 1);
    CHECK_EQ(stats()->sent_bytes_total, REQUEST);
    CHECK(session->claim.busy);
    pass_ms(30);
    lb_turn_server_bytes(&lone.worker, session, RESPONSE, false);
    CHECK_EQ(stats()->responded_total, 1);
    CHECK_EQ(stats()->received_bytes_total, RESPONSE);
    CHECK_EQ(count(&stats()->first_byte), 1);
    CHECK(session->first_byte_us != UINT64_MAX);
    CHECK(session->claim.busy);
    pass_ms(LB_SILENCE_MAX_MS + 1);
    lb_turn_expire(&lone.worker, session);
    CHECK(!session->claim.busy);
    CHECK_EQ(count(&stats()->turn), 1);
    (void)close(client);
    lone_fini(&lone);
}

TEST(a_turn_does_not_end_before_its_time) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    request(session);
    pass_ms(1);
    lb_turn_server_bytes(&lone.worker, session, RESPONSE, false);
    lb_turn_expire(&lone.worker, session);
    CHECK(session->claim.busy);
    CHECK_EQ(count(&stats()->turn), 0);
    (void)close(client);
    lone_fini(&lone);
}

TEST(the_end_of_a_response_is_known_at_once_when_it_was_learnt) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    for (int i = 0; i < 12; i++) {
        request(session);
        pass_ms(5);
        lb_turn_server_bytes(&lone.worker, session, RESPONSE, false);
        pass_ms(5);
    }
    CHECK(!session->claim.busy);
    CHECK_EQ(session->phase.expected, LB_END_LAST);
    CHECK_EQ(count(&stats()->turn), 12);
    (void)close(client);
    lone_fini(&lone);
}

TEST(a_response_that_is_read_in_parts_goes_on_whatever_the_parts_look_like) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    for (int i = 0; i < 12; i++) {
        request(session);
        pass_ms(5);
        lb_turn_server_bytes(&lone.worker, session, RESPONSE, false);
        pass_ms(5);
    }
    request(session);
    lb_turn_server_bytes(&lone.worker, session, RESPONSE, true);
    CHECK(session->claim.busy);
    (void)close(client);
    lone_fini(&lone);
}

TEST(a_client_that_takes_nothing_keeps_the_turn_open) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    request(session);
    pass_ms(5);
    lb_turn_server_bytes(&lone.worker, session, RESPONSE, false);
    session->client.can_write = false;
    pass_ms(LB_SILENCE_MAX_MS + 1);
    lb_turn_expire(&lone.worker, session);
    CHECK(session->claim.busy);
    session->client.can_write = true;
    lb_turn_expire(&lone.worker, session);
    CHECK(!session->claim.busy);
    (void)close(client);
    lone_fini(&lone);
}

TEST(bytes_that_ask_for_nothing_begin_no_turn) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    session->up.may_request = false;
    lb_turn_client_bytes(&lone.worker, session, REQUEST);
    CHECK(!session->claim.busy);
    CHECK_EQ(stats()->turns_total, 0);
    CHECK_EQ(stats()->sent_bytes_total, REQUEST);
    (void)close(client);
    lone_fini(&lone);
}

TEST(a_short_message_in_the_middle_of_a_response_is_a_request_where_every_message_is_one) {
    for (int known = 0; known < 2; known++) {
        struct lb_session *session;
        int client;

        lone_init(&lone);
        session = connected(&client);
        session->up.h2.state = known ? LB_H2_REQUESTS : LB_H2_NONE;
        request(session);
        pass_ms(5);
        lb_turn_server_bytes(&lone.worker, session, RESPONSE, false);
        session->up.may_request = true;
        lb_turn_client_bytes(&lone.worker, session, LB_NOISE_BYTES - 1);
        CHECK_EQ(stats()->turns_total, 1 + known);
        (void)close(client);
        lone_fini(&lone);
    }
}

TEST(no_turn_outlives_its_backend) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    request(session);
    CHECK(session->claim.busy);
    lb_turn_end(&lone.worker, session);
    CHECK(!session->claim.busy);
    CHECK_EQ(atomic_load(&lone.runtime.shared.backends[0].busy), 0);
    (void)close(client);
    lone_fini(&lone);
}

/* A turn whose response is complete. */
static void turn(struct lb_session *session) {
    request(session);
    pass_ms(1);
    lb_turn_server_bytes(&lone.worker, session, RESPONSE, false);
    pass_ms(LB_SILENCE_MAX_MS + 1);
    lb_turn_expire(&lone.worker, session);
}

static uint32_t cold_left(void) { return atomic_load(&lone.runtime.shared.backends[0].cold_left); }

TEST(each_complete_response_makes_a_cold_backend_warmer) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    atomic_store(&lone.runtime.shared.backends[0].cold_left, 2);
    turn(session);
    CHECK_EQ(cold_left(), 1);
    request(session);
    lb_turn_end(&lone.worker, session); /* without a response */
    CHECK_EQ(cold_left(), 1);
    turn(session);
    CHECK_EQ(cold_left(), 0);
    turn(session);
    CHECK_EQ(cold_left(), 0);
    (void)close(client);
    lone_fini(&lone);
}

TEST(when_a_backend_is_no_longer_cold_all_that_waited_for_it_are_granted) {
    enum { CLIENTS = 5 };
    int clients[CLIENTS];

    lone_init(&lone);
    lone.pool.queue_size = CLIENTS;
    lone.pool.queue_ms = LONE_LONG_MS;
    lone.backends[0].cold_busy_max = 1;
    lone_publish(&lone);
    atomic_store(&lone.runtime.shared.backends[0].cold_left, 1);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = lone_client(&lone);
    LONE_UNTIL(&lone,
               lone_in_state(&lone, LB_SESSION_RELAY) == 1 && lone_in_state(&lone, LB_SESSION_QUEUE) == CLIENTS - 1);
    for (uint32_t index = 0;; index++) {
        struct lb_session *session = lb_session_table_next(&lone.worker.sessions, index);
        if (session->state != LB_SESSION_RELAY)
            continue;
        /* Its turn is given back first, to the next client. What makes the backend warm then is the response alone. */
        request(session);
        lb_claim_drop_capacity(&session->claim, &lone.runtime.shared);
        LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == 2);
        CHECK_EQ(lone_in_state(&lone, LB_SESSION_QUEUE), CLIENTS - 2);
        lb_turn_server_bytes(&lone.worker, session, RESPONSE, false);
        pass_ms(LB_SILENCE_MAX_MS + 1);
        CHECK(atomic_load(&lone.worker.cross.mailbox.last) == NULL);
        lb_turn_expire(&lone.worker, session);
        CHECK(atomic_load(&lone.worker.cross.mailbox.last) != NULL);
        break;
    }
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        (void)close(clients[i]);
    lone_fini(&lone);
}

TEST_MAIN()
