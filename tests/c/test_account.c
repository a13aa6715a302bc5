/* SPDX-License-Identifier: Apache-2.0 */
#include "lone.h"

#include "session/account.h"

static struct lone lone;

/* A session that is connected to a backend and has asked nothing yet. */
static struct lb_session *connected(int *client) {
    *client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == 1);
    return lone_session(&lone);
}

static struct lb_backend_shared *shared(void) { return &lone.runtime.shared.backends[0]; }

static void hang_up(int client) {
    (void)close(client);
    lone_fini(&lone);
}

TEST(a_new_session_is_counted_by_its_worker_and_holds_capacity) {
    int client;

    lone_init(&lone);
    (void)connected(&client);
    CHECK_EQ(atomic_load(&shared()->connections), 1);
    CHECK_EQ(atomic_load(&shared()->turns), 1);
    CHECK_EQ(atomic_load(&shared()->busy), 0);
    CHECK_EQ(lone.worker.counters.backends[0].connections_total, 1);
    hang_up(client);
}

TEST(a_record_tells_the_session_as_it_is) {
    struct l4lb_session_record record;
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    lb_account_describe(&lone.worker, session, &record);
    CHECK_EQ(record.state, L4LB_SESSION_RELAY);
    CHECK_EQ(record.path, L4LB_PATH_COPY);
    CHECK_EQ(record.client.family, AF_INET);
    CHECK(record.connect_us != UINT64_MAX);
    CHECK(record.first_byte_us == UINT64_MAX);
    CHECK_EQ(record.bytes_in + record.bytes_out, 0);
    CHECK_EQ(record.id & ((1u << LB_SESSION_GENERATION_BITS) - 1), session->generation);
    hang_up(client);
}

TEST(only_events_that_the_snapshot_asks_for_are_told) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    lb_account_record(&lone.worker, session, L4LB_EVENT_INTERVAL, L4LB_CLOSE_NORMAL);
    CHECK_EQ(lb_events_pop(&lone.worker.cross.events, &(struct l4lb_session_record){0}), false);
    lone.config.events = L4LB_EVENT_INTERVAL;
    lone_publish(&lone);
    lb_account_record(&lone.worker, session, L4LB_EVENT_INTERVAL, L4LB_CLOSE_NORMAL);
    CHECK_EQ(lb_events_pop(&lone.worker.cross.events, &(struct l4lb_session_record){0}), true);
    hang_up(client);
}

TEST_MAIN()
