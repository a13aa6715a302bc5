/* SPDX-License-Identifier: Apache-2.0 */
#include "session/overdue.h"

#include <poll.h>

#include "base/bounds.h"
#include "base/clock.h"
#include "lone.h"
#include "session/deadline.h"
#include "session/turn.h"

static struct lone lone;

enum { SHORT_MS = 50 };

static struct lb_session *connected(int *client) {
    *client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == 1);
    return lone_session(&lone);
}

/* Real time: the kernel is asked what it sent when. */
static void rest(void) {
    (void)poll(NULL, 0, 1);
    lb_worker_read_clock(&lone.worker);
}

/* Why it is closed in the end. */
static enum l4lb_close closes(struct lb_session *session) {
    enum l4lb_close reason = L4LB_CLOSE_NORMAL;

    while (!lb_overdue_meet(&lone.worker, session, &reason))
        rest();
    return reason;
}

static void request(struct lb_session *session) {
    session->up.may_request = true;
    lb_turn_client_bytes(&lone.worker, session, 100);
}

TEST(before_its_deadlines_nothing_happens_to_a_session) {
    enum l4lb_close reason;
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    rest();
    CHECK(!lb_overdue_meet(&lone.worker, session, &reason));
    CHECK(lb_timer_armed(&session->timer));
    (void)close(client);
    lone_fini(&lone);
}

TEST(each_deadline_that_closes_has_its_reason) {
    static const struct {
        uint32_t idle_ms, first_byte_ms, response_ms, lifetime_ms;
        bool asked;
        enum l4lb_close reason;
    } rows[] = {
        {SHORT_MS, 0, 0, 0, false, L4LB_CLOSE_CLIENT_IDLE},
        {LONE_LONG_MS, SHORT_MS, 0, 0, false, L4LB_CLOSE_CLIENT_FIRST_BYTE},
        {LONE_LONG_MS, SHORT_MS, 0, 0, true, L4LB_CLOSE_SERVER_FIRST_BYTE},
        {LONE_LONG_MS, 0, SHORT_MS, 0, true, L4LB_CLOSE_SERVER_RESPONSE},
        {LONE_LONG_MS, 0, 0, SHORT_MS, false, L4LB_CLOSE_LIFETIME},
    };

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct lb_session *session;
        int client;

        lone_init(&lone);
        session = connected(&client);
        session->timeouts.idle_ms = rows[i].idle_ms;
        session->timeouts.first_byte_ms = rows[i].first_byte_ms;
        session->timeouts.response_ms = rows[i].response_ms;
        if (rows[i].lifetime_ms > 0)
            session->lifetime_at_ms = lone.worker.now_ms + rows[i].lifetime_ms;
        if (rows[i].asked)
            request(session);
        CHECK_EQ(closes(session), rows[i].reason);
        (void)close(client);
        lone_fini(&lone);
    }
}

TEST(silence_ends_a_turn_and_then_the_session) {
    struct lb_session *session;
    int client;

    lone_init(&lone);
    session = connected(&client);
    session->timeouts.keepalive_ms = SHORT_MS;
    request(session);
    lb_turn_server_bytes(&lone.worker, session, 200, false);
    CHECK(session->claim.busy);
    CHECK_EQ(closes(session), L4LB_CLOSE_CLIENT_KEEPALIVE);
    CHECK(!session->claim.busy);
    (void)close(client);
    lone_fini(&lone);
}

TEST(a_session_with_bytes_to_read_leaves_no_backend) {
    enum l4lb_close reason;
    struct lb_session *session;
    int client, server;

    lone_init(&lone);
    session = connected(&client);
    server = CHECK_SYS(accept4(lone.back_fds[0], NULL, NULL, SOCK_CLOEXEC));
    atomic_store(&lone.runtime.shared.backends[0].draining_ms, lone.worker.now_ms);
    CHECK_EQ(send(client, "more", 4, MSG_NOSIGNAL), 4);
    while (session->drain_from_ms == 0) {
        rest();
        CHECK(!lb_overdue_meet(&lone.worker, session, &reason));
    }
    CHECK(session->drain_from_ms > lone.worker.now_ms);
    CHECK_EQ(recv(session->client.fd, (char[4]){0}, 4, 0), 4);
    CHECK_EQ(closes(session), L4LB_CLOSE_DRAINED);
    (void)close(client);
    (void)close(server);
    lone_fini(&lone);
}

TEST(intervals_are_told_one_after_the_other) {
    enum l4lb_close reason;
    struct l4lb_session_record record;
    struct lb_session *session;
    int client;

    lone_init(&lone);
    lone.config.interval_ms = SHORT_MS;
    lone.config.events = L4LB_EVENT_INTERVAL;
    lone_publish(&lone);
    session = connected(&client);
    for (int i = 0; i < 3; i++) {
        uint64_t before = session->interval_at_ms;
        while (session->interval_at_ms == before) {
            rest();
            CHECK(!lb_overdue_meet(&lone.worker, session, &reason));
        }
        CHECK(session->interval_at_ms > before);
        CHECK(lb_events_pop(&lone.worker.cross.events, &record));
        CHECK_EQ(record.event, L4LB_EVENT_INTERVAL);
    }
    (void)close(client);
    lone_fini(&lone);
}

/* The next request proves that the response before it was complete. */
static void learn(struct lb_session *session, int turns) {
    while (turns-- > 0) {
        request(session);
        lb_turn_server_bytes(&lone.worker, session, 200, false);
    }
}

TEST(silence_is_needed_only_where_the_end_of_a_response_is_not_certain) {
    static const struct {
        int turns;
        bool closes;
    } rows[] = {{2, false}, {40, true}};

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct lb_session *session;
        int client;

        lone_init(&lone);
        session = connected(&client);
        learn(session, rows[i].turns);
        CHECK_EQ(lb_deadline_is_certain(&lone.worker, session), rows[i].closes);
        session->last_ns = lone.worker.now_ns;
        CHECK(!lb_overdue_was_idle(&lone.worker, session, LONE_LONG_MS)); /* its client may ask again at once */
        while (lone.worker.now_ms < session->last_ns / LB_NS_PER_MS + LB_DRAIN_SOON_MS)
            rest();
        CHECK_EQ(lb_overdue_was_idle(&lone.worker, session, LONE_LONG_MS), rows[i].closes);
        (void)close(client);
        lone_fini(&lone);
    }
}

TEST_MAIN()
