/* SPDX-License-Identifier: Apache-2.0 */
#include "worker/request.h"

#include <sys/eventfd.h>

#include "lone.h"
#include "session/account.h"

static struct lone lone;
static int done_fd;

static void begin(void) {
    lone_init(&lone);
    done_fd = CHECK_SYS(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

static void end(void) {
    (void)close(done_fd);
    lone_fini(&lone);
}

/* Sessions that have reached their backend; the test closes their clients. */
static void open_sessions(int *clients, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        clients[i] = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == n);
}

static void close_all(const int *clients, uint32_t n) {
    for (uint32_t i = 0; i < n; i++)
        (void)close(clients[i]);
}

static bool is_answered(void) {
    uint64_t ignored;
    return read(done_fd, &ignored, sizeof ignored) == sizeof ignored;
}

/* Ask, and work until it is answered; in how many parts it was done. */
static int ask(struct lb_request *request) {
    int n = 0;

    request->done_fd = done_fd;
    atomic_store(&lone.worker.cross.request, request);
    do {
        CHECK(n < LONE_ITERATIONS);
        lb_request_work(&lone.worker);
        n++;
    } while (!is_answered());
    CHECK(lone.worker.request == NULL);
    return n;
}

static uint64_t id_of(const struct lb_session *session) {
    struct l4lb_session_record record;

    lb_account_describe(&lone.worker, session, &record);
    return record.id;
}

TEST(without_a_request_there_is_nothing_to_do) {
    begin();
    lb_request_work(&lone.worker);
    CHECK(!is_answered());
    end();
}

TEST(sessions_are_listed_page_by_page_and_each_once) {
    enum { N = 5, PAGE = 2 };
    struct l4lb_session_record records[PAGE];
    struct lb_request request = {.kind = LB_REQUEST_LIST, .records = records, .n = PAGE};
    int clients[N], n = 0;

    begin();
    open_sessions(clients, N);
    do {
        CHECK_EQ(ask(&request), 1);
        for (int i = 0; i < request.result; i++) {
            CHECK(records[i].id > request.session);
            request.session = records[i].id;
            n++;
        }
    } while (request.result > 0);
    CHECK_EQ(n, N);
    close_all(clients, N);
    end();
}

TEST(one_session_is_killed_and_no_other) {
    struct lb_request request = {.kind = LB_REQUEST_KILL_SESSION};
    int clients[2];

    begin();
    open_sessions(clients, 2);
    request.session = id_of(lb_session_table_next(&lone.worker.sessions, 0));
    (void)ask(&request);
    CHECK_EQ(request.result, 0);
    CHECK_EQ(lone_closed(&lone, L4LB_CLOSE_KILLED), 1);
    CHECK_EQ(lone_in_state(&lone, LB_SESSION_RELAY), 1);
    /* It has its FIN: it cannot be killed again. */
    (void)ask(&request);
    CHECK_EQ(request.result, -ENOENT);
    CHECK_EQ(lone_closed(&lone, L4LB_CLOSE_KILLED), 1);
    close_all(clients, 2);
    end();
}

TEST(a_session_that_is_not_there_is_not_killed) {
    struct lb_request request = {.kind = LB_REQUEST_KILL_SESSION, .session = 12345};

    begin();
    (void)ask(&request);
    CHECK_EQ(request.result, -ENOENT);
    end();
}

TEST(the_sessions_of_a_backend_are_killed_in_parts) {
    enum { N = 3 * LB_SCAN_LOOKS / LB_SCAN_ACT_LOOKS };
    struct lb_request request = {.kind = LB_REQUEST_KILL_BACKEND, .backend = 0, .reason = L4LB_CLOSE_DRAINED};
    static int clients[N];

    begin();
    open_sessions(clients, N);
    CHECK(ask(&request) >= 3);
    CHECK_EQ(request.result, N);
    CHECK_EQ(lone_closed(&lone, L4LB_CLOSE_DRAINED), N);
    /* What only waits for its clients now is closed already. */
    (void)ask(&(struct lb_request){.kind = LB_REQUEST_KILL_BACKEND, .backend = 0, .reason = L4LB_CLOSE_DRAINED});
    CHECK_EQ(lone_closed(&lone, L4LB_CLOSE_DRAINED), N);
    close_all(clients, N);
    end();
}

TEST(another_backend_keeps_its_sessions) {
    struct lb_request request = {.kind = LB_REQUEST_KILL_BACKEND, .backend = 1, .reason = L4LB_CLOSE_KILLED};
    int client;

    begin();
    open_sessions(&client, 1);
    (void)ask(&request);
    CHECK_EQ(request.result, 0);
    CHECK_EQ(lone_in_state(&lone, LB_SESSION_RELAY), 1);
    close_all(&client, 1);
    end();
}

TEST(no_more_quiet_sessions_are_closed_than_were_asked_for) {
    struct lb_request request = {.kind = LB_REQUEST_CLOSE_IDLE, .backend = 0, .idle_ms = 0, .n = 2};
    int clients[4];

    begin();
    open_sessions(clients, 4);
    for (int i = 0; i < 4; i++) /* the first turn of a new session is waited for */
        lb_claim_end_reservation(&lb_session_table_next(&lone.worker.sessions, (uint32_t)i)->claim,
                                 &lone.runtime.shared);
    (void)ask(&request);
    CHECK_EQ(request.result, 2);
    CHECK_EQ(lone_closed(&lone, L4LB_CLOSE_REBALANCED), 2);
    CHECK_EQ(lone_in_state(&lone, LB_SESSION_RELAY), 2);
    close_all(clients, 4);
    end();
}

/* New sessions might go where it has looked already. */
TEST(a_worker_with_an_older_snapshot_begins_no_request) {
    struct lb_request request = {.kind = LB_REQUEST_KILL_BACKEND, .done_fd = done_fd};
    struct lb_snapshot *current;

    begin();
    request.done_fd = done_fd;
    current = atomic_exchange(&lone.runtime.snapshot, NULL);
    atomic_store(&lone.worker.cross.request, &request);
    lb_request_work(&lone.worker);
    CHECK(!is_answered());
    CHECK(lone.worker.request == NULL);
    /* One that stops has no new sessions. */
    atomic_store(&lone.runtime.stopping, true);
    lb_request_work(&lone.worker);
    CHECK(is_answered());
    atomic_store(&lone.runtime.stopping, false);
    atomic_store(&lone.runtime.snapshot, current);
    end();
}

TEST_MAIN()
