/* SPDX-License-Identifier: Apache-2.0 */
#include "session/moved.h"

#include "lone.h"

#include "base/clock.h"

enum { REQUEST = 100, RESPONSE = 200 };

static struct lone lone;

/* A session whose bytes something else moves. */
static struct lb_session *connected(int *client) {
    struct lb_session *session;

    lone_init(&lone);
    *client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == 1);
    session = lone_session(&lone);
    lone.worker.now_ms++;
    lone.worker.now_ns += LB_NS_PER_MS;
    return session;
}

static void end(int client) {
    (void)close(client);
    lone_fini(&lone);
}

static void move(struct lb_session *session, uint64_t up, uint64_t down) {
    session->up.may_request = up > 0;
    lb_session_moved(&lone.worker, session, up, down, false);
}

static const struct l4lb_backend_stats *stats(void) { return &lone.worker.counters.backends[0]; }

TEST(bytes_are_counted_and_are_the_last_movement) {
    int client;
    struct lb_session *session = connected(&client);

    move(session, REQUEST, RESPONSE);
    CHECK_EQ(stats()->sent_bytes_total, REQUEST);
    CHECK_EQ(stats()->received_bytes_total, RESPONSE);
    CHECK_EQ(session->last_ns, lone.worker.now_ns);
    end(client);
}

TEST(movement_without_new_bytes_is_movement) {
    int client;
    struct lb_session *session = connected(&client);

    move(session, 0, 0);
    CHECK_EQ(session->last_ns, lone.worker.now_ns);
    CHECK_EQ(session->phase.turns, 0);
    end(client);
}

TEST(bytes_of_the_client_make_the_backend_busy) {
    int client;
    struct lb_session *session = connected(&client);

    move(session, REQUEST, 0);
    CHECK(session->claim.busy);
    CHECK_EQ(stats()->turns_total, 1);
    CHECK_EQ(session->phase.state, LB_PHASE_WAIT);
    end(client);
}

TEST(in_an_idle_session_the_request_was_first_and_the_rest_is_its_response) {
    int client;
    struct lb_session *session = connected(&client);

    move(session, REQUEST, RESPONSE);
    CHECK_EQ(stats()->turns_total, 1);
    CHECK_EQ(session->phase.state, LB_PHASE_STREAM);
    CHECK_EQ(session->phase.piece.bytes, RESPONSE);
    end(client);
}

TEST(in_a_turn_the_response_was_first_and_the_rest_is_the_next_request) {
    int client;
    struct lb_session *session = connected(&client);

    move(session, REQUEST, 0);
    move(session, REQUEST, RESPONSE);
    CHECK_EQ(stats()->turns_total, 2);
    CHECK_EQ(stats()->responded_total, 1);
    CHECK_EQ(session->phase.state, LB_PHASE_WAIT);
    end(client);
}

TEST_MAIN()
