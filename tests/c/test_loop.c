/* SPDX-License-Identifier: Apache-2.0 */
/* One iteration of the loop does a bounded amount of work, however many sessions there are, and other sessions are
 * served before the next part. */
#include "lone.h"

#include <sys/eventfd.h>

#include "base/bounds.h"
#include "shared/stick_table.h"
#include "worker/listener.h"
#include "worker/request.h"

enum { MANY = 300, CLOSED_AT_ONCE = LB_SCAN_LOOKS / LB_SCAN_ACT_LOOKS };

static int clients[MANY];

static void open_many(struct lone *lone, enum lb_session_state state) {
    for (int i = 0; i < MANY; i++)
        clients[i] = lone_client(lone);
    LONE_UNTIL(lone, lone_in_state(lone, state) == MANY);
}

static void close_many(void) {
    for (int i = 0; i < MANY; i++)
        (void)close(clients[i]);
}

static uint64_t sessions(const struct lone *lone) { return lone->worker.stats.sessions; }

static uint64_t relaying(const struct lone *lone) { return lone_in_state(lone, LB_SESSION_RELAY); }

/* Hand a request to the worker and iterate until it is answered. Returns the most sessions that were closed in one
 * iteration. */
static uint64_t ask(struct lone *lone, struct lb_request *request) {
    uint64_t most = 0, answered;

    request->done_fd = CHECK_SYS(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    atomic_store(&lone->worker.cross.request, request);
    do {
        uint64_t before = relaying(lone);
        lone_iterate(lone);
        most = LB_MAX(most, before - relaying(lone));
    } while (read(request->done_fd, &answered, sizeof answered) != sizeof answered);
    (void)close(request->done_fd);
    return most;
}

TEST(sessions_of_a_backend_are_killed_in_parts) {
    static struct lone lone;
    struct lb_request request = {.kind = LB_REQUEST_KILL_BACKEND, .backend = 0, .reason = L4LB_CLOSE_KILLED};

    lone_init(&lone);
    open_many(&lone, LB_SESSION_RELAY);
    CHECK_EQ(ask(&lone, &request), CLOSED_AT_ONCE);
    CHECK_EQ(request.result, MANY);
    CHECK_EQ(relaying(&lone), 0);
    close_many();
    lone_fini(&lone);
}

TEST(a_session_of_another_backend_is_served_between_two_parts) {
    static struct lone lone;
    struct lb_request request = {.kind = LB_REQUEST_KILL_BACKEND, .backend = 0, .reason = L4LB_CLOSE_KILLED};
    int bystander, server;
    char byte = 'x';

    lone_init(&lone);
    open_many(&lone, LB_SESSION_RELAY);
    lone.backends[1].slot = 1;
    lone.pool.n_backends = 2;
    lone.backends[0].usable = 0;
    lone_publish(&lone);
    bystander = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == MANY + 1);
    server = CHECK_SYS(accept4(lone.back_fds[1], NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC));
    request.done_fd = CHECK_SYS(eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    atomic_store(&lone.worker.cross.request, &request);
    lone_iterate(&lone);
    CHECK_EQ(send(bystander, &byte, 1, MSG_NOSIGNAL), 1);
    lone_iterate(&lone);
    CHECK_EQ(recv(server, &byte, 1, 0), 1);
    CHECK(lone.worker.request != NULL);
    LONE_UNTIL(&lone, lone.worker.request == NULL);
    CHECK_EQ(request.result, MANY);
    CHECK_EQ(relaying(&lone), 1);
    (void)close(request.done_fd);
    (void)close(bystander);
    (void)close(server);
    close_many();
    lone_fini(&lone);
}

TEST(quiet_sessions_are_closed_in_parts_and_no_more_than_asked_for) {
    static struct lone lone;
    struct lb_request request = {.kind = LB_REQUEST_CLOSE_IDLE, .backend = 0, .n = MANY - 50};

    lone_init(&lone);
    open_many(&lone, LB_SESSION_RELAY);
    for (uint32_t index = 0; index < MANY; index++)
        lb_session_table_next(&lone.worker.sessions, index)->claim.turn_reserved = false;
    atomic_store(&lone.runtime.shared.backends[0].turns, 0);
    CHECK_EQ(ask(&lone, &request), CLOSED_AT_ONCE);
    CHECK_EQ(request.result, MANY - 50);
    CHECK_EQ(relaying(&lone), 50);
    close_many();
    lone_fini(&lone);
}

TEST(timers_of_one_tick_expire_in_parts) {
    static struct lone lone;

    lone_init(&lone);
    lone_expect_headers(&lone);
    open_many(&lone, LB_SESSION_HEADER);
    for (uint32_t index = 0; index < MANY; index++)
        lb_timer_arm(&lone.worker.wheel, &lb_session_table_next(&lone.worker.sessions, index)->timer, 0);
    while (sessions(&lone) > 0) {
        uint64_t before = sessions(&lone);
        lb_loop_iterate(&lone.worker);
        CHECK(before - sessions(&lone) <= LB_EXPIRE_BURST);
    }
    CHECK_EQ(lone_rejected(&lone, L4LB_REJECT_PROXY_TIMEOUT), MANY);
    close_many();
    lone_fini(&lone);
}

TEST(clients_of_a_socket_that_goes_away_are_let_in_in_parts_and_all_of_them) {
    static struct lone lone;
    struct lb_snapshot *before, *next;
    struct l4lb_config nothing = {0};

    lone_init(&lone);
    nothing.pools = lone.config.pools;
    nothing.n_pools = 1;
    for (int i = 0; i < MANY; i++)
        clients[i] = lone_client(&lone);
    before = lone.worker.snapshot;
    CHECK_OK(lb_snapshot_new(&nothing, 1, &lone.runtime.shared, before, &next));
    next->sequence = before->sequence + 1;
    atomic_store(&lone.runtime.snapshot, next);
    while (lone.worker.snapshot == before) {
        uint64_t sessions_before = sessions(&lone);
        lone_iterate(&lone);
        /* The socket is still watched, so it may be readable as well. */
        CHECK(sessions(&lone) - sessions_before <= LB_LAST_BURST_PART + LB_ACCEPT_BURST_MAX);
    }
    CHECK_EQ(sessions(&lone), MANY);
    lb_snapshot_free(before);
    close_many();
    lone_fini(&lone);
}

/* ---- sticky tables ----------------------------------------------------------------------------------------------- */

static uint32_t joined(const struct lone *lone) {
    const struct lb_stick_table *table = lone->worker.snapshot->pools[0].stick_table;
    const struct lb_session *session;
    uint32_t n = 0, index = 0;

    while ((session = lb_session_table_next(&lone->worker.sessions, index)) != NULL) {
        n += session->stick_entry != LB_STICK_NONE && session->stick_table_id == lb_stick_table_id(table);
        index = session->index + 1;
    }
    return n;
}

/* More sessions than a part looks at, made by hand: they have no sockets. */
static void fake_sessions(struct lone *lone, uint32_t n) {
    for (uint32_t i = 0; i < n; i++) {
        struct lb_session *session = lb_session_table_take(&lone->worker.sessions);
        CHECK(session != NULL);
        session->state = LB_SESSION_RELAY;
        session->has_pool = true;
        session->peer = (struct l4lb_endpoint){.family = AF_INET, .address = {10, 0, (uint8_t)(i >> 8), (uint8_t)i}};
    }
}

TEST(sessions_join_a_new_sticky_table_in_parts_and_leave_the_one_they_are_in) {
    static struct lone lone;
    struct lb_session *session;
    uint32_t n = LB_SCAN_LOOKS + 500;

    lone_init(&lone);
    lone.pool.sticky_ttl_ms = LONE_LONG_MS;
    fake_sessions(&lone, n);
    for (uint32_t entries = 10000; entries <= 20000; entries += 10000) {
        lone.pool.sticky_entries = entries;
        lone_publish(&lone);
        CHECK_EQ(joined(&lone), LB_SCAN_LOOKS);
        /* One that has not joined yet leaves no other table's place. */
        session = lb_session_table_next(&lone.worker.sessions, n - 1);
        lb_session_sticky_release(&lone.worker, session);
        lb_session_table_give(&lone.worker.sessions, session);
        n--;
        LONE_UNTIL(&lone, !lone.worker.rejoining);
        CHECK_EQ(joined(&lone), n);
    }
    while ((session = lb_session_table_next(&lone.worker.sessions, 0)) != NULL) {
        lb_session_sticky_release(&lone.worker, session);
        lb_session_table_give(&lone.worker.sessions, session);
    }
    lone_fini(&lone);
}

TEST_MAIN()
