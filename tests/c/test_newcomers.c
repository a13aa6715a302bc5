/* SPDX-License-Identifier: Apache-2.0 */
/* Clients that say nothing hold a share of the sessions, and no more. */
#include "lone.h"

#include "base/bounds.h"

enum { SESSIONS = 40, SHARE = SESSIONS / LB_NEWCOMERS_SHARE };

static void expect_names(struct lone *lone) {
    lone->pool.hello_ms = LONE_LONG_MS;
    lone->pool.balance = L4LB_MAGLEV;
    lone->pool.table_size = 251;
    lone->pool.hash_key = L4LB_HASH_SNI;
    lone_publish(lone);
}

/* More silent clients than the process has sessions; the oldest first. */
static void crowd(struct lone *lone, int *clients, int n, enum lb_session_state state) {
    for (int i = 0; i < n; i++) {
        uint64_t accepted = lone->worker.counters.listeners[0].connections_total + 1;
        clients[i] = lone_client(lone);
        LONE_UNTIL(lone, lone->worker.counters.listeners[0].connections_total == accepted);
        CHECK(lone_in_state(lone, state) <= SHARE);
        CHECK_EQ(atomic_load(&lone->runtime.newcomers), lone_in_state(lone, state));
    }
}

static bool is_closed(int fd) {
    char byte;
    return recv(fd, &byte, 1, MSG_DONTWAIT) == 0;
}

static void check_share(enum lb_session_state state, void (*expect)(struct lone *), const char *word) {
    static struct lone lone;
    int clients[2 * SESSIONS];

    lone_init(&lone);
    lone.runtime.sessions_max = SESSIONS;
    expect(&lone);
    crowd(&lone, clients, 2 * SESSIONS, state);
    CHECK_EQ(lone_in_state(&lone, state), SHARE);
    CHECK_EQ(lone_rejected(&lone, L4LB_REJECT_SILENT), 2 * SESSIONS - SHARE);
    /* Those that came last are still there, and are served when they speak. */
    for (int i = 0; i < 2 * SESSIONS; i++)
        CHECK_EQ(is_closed(clients[i]), i < 2 * SESSIONS - SHARE);
    for (int i = 2 * SESSIONS - SHARE; i < 2 * SESSIONS; i++)
        CHECK_EQ(send(clients[i], word, strlen(word), MSG_NOSIGNAL), strlen(word));
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == SHARE);
    CHECK_EQ(atomic_load(&lone.runtime.newcomers), 0);
    for (int i = 0; i < 2 * SESSIONS; i++)
        (void)close(clients[i]);
    lone_fini(&lone);
}

TEST(clients_that_owe_a_header_hold_a_share_and_the_oldest_go_first) {
    check_share(LB_SESSION_HEADER, lone_expect_headers, "PROXY UNKNOWN\r\n");
}

TEST(clients_that_owe_a_name_hold_a_share_and_the_oldest_go_first) {
    check_share(LB_SESSION_HELLO, expect_names, "no TLS");
}

/* The listener's event comes before the oldest client's: the worker accepts one newcomer too many before it has read
 * what the oldest one sent. */
static void check_oldest_speaks(enum lb_session_state state, void (*expect)(struct lone *), const char *words) {
    static struct lone lone;
    int clients[SHARE + 1];

    lone_init(&lone);
    lone.runtime.sessions_max = SESSIONS;
    expect(&lone);
    crowd(&lone, clients, SHARE, state);
    clients[SHARE] = lone_client(&lone);
    CHECK_EQ(send(clients[0], words, strlen(words), MSG_NOSIGNAL), strlen(words));
    LONE_UNTIL(&lone, lone.worker.counters.listeners[0].connections_total == SHARE + 1);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == 1);
    CHECK_EQ(lone_rejected(&lone, L4LB_REJECT_SILENT), 0);
    CHECK_EQ(lone_in_state(&lone, state), SHARE);
    CHECK_EQ(atomic_load(&lone.runtime.newcomers), SHARE);
    for (int i = 0; i < SHARE + 1; i++)
        (void)close(clients[i]);
    lone_fini(&lone);
}

static void expect_headers_and_names(struct lone *lone) {
    expect_names(lone);
    lone_expect_headers(lone);
}

TEST(a_client_whose_header_is_not_read_yet_is_not_silent) {
    check_oldest_speaks(LB_SESSION_HEADER, lone_expect_headers, "PROXY UNKNOWN\r\n");
}

TEST(a_client_whose_name_is_not_read_yet_is_not_silent) {
    check_oldest_speaks(LB_SESSION_HELLO, expect_names, "no TLS");
}

TEST(a_client_whose_header_and_name_are_not_read_yet_is_not_silent) {
    check_oldest_speaks(LB_SESSION_HEADER, expect_headers_and_names, "PROXY UNKNOWN\r\nno TLS");
}

TEST(a_client_that_owes_both_is_counted_once) {
    static struct lone lone;
    int client;

    lone_init(&lone);
    expect_headers_and_names(&lone);
    client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_HEADER) == 1);
    CHECK_EQ(atomic_load(&lone.runtime.newcomers), 1);
    CHECK_EQ(send(client, "PROXY UNKNOWN\r\n", 15, MSG_NOSIGNAL), 15);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_HELLO) == 1);
    CHECK_EQ(atomic_load(&lone.runtime.newcomers), 1);
    (void)close(client);
    LONE_UNTIL(&lone, atomic_load(&lone.runtime.newcomers) == 0);
    lone_fini(&lone);
}

TEST(a_few_may_always_be_silent) {
    static struct lone lone;
    int clients[LB_NEWCOMERS_MIN];

    lone_init(&lone);
    lone.runtime.sessions_max = LB_NEWCOMERS_MIN + 1;
    lone_expect_headers(&lone);
    for (int i = 0; i < LB_NEWCOMERS_MIN; i++)
        clients[i] = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_HEADER) == LB_NEWCOMERS_MIN);
    CHECK_EQ(lone_rejected(&lone, L4LB_REJECT_SILENT), 0);
    for (int i = 0; i < LB_NEWCOMERS_MIN; i++)
        (void)close(clients[i]);
    lone_fini(&lone);
}

TEST_MAIN()
