/* SPDX-License-Identifier: Apache-2.0 */
/* Accepting: in bursts, within limits, and again once there is capacity. */
#include "lone.h"

#include "base/bounds.h"

enum { CLIENTS = 100 };

static uint64_t accepted(const struct lone *lone) { return lone->worker.counters.listeners[0].connections_total; }

TEST(bursts_double_while_clients_wait_and_are_bounded) {
    static struct lone lone;
    int clients[CLIENTS];
    uint64_t expected = 1;

    lone_init(&lone);
    for (int i = 0; i < CLIENTS; i++)
        clients[i] = lone_client(&lone);
    while (accepted(&lone) < CLIENTS) {
        uint64_t before = accepted(&lone);
        lone_iterate(&lone);
        CHECK_EQ(accepted(&lone) - before, LB_MIN(expected, CLIENTS - before));
        expected = LB_MIN(2 * expected, (uint64_t)LB_ACCEPT_BURST_MAX);
    }
    for (int i = 0; i < CLIENTS; i++)
        (void)close(clients[i]);
    lone_fini(&lone);
}

TEST(a_full_listener_is_paused_and_goes_on_when_a_client_leaves) {
    static struct lone lone;
    int clients[3];

    lone_init(&lone);
    lone.listener.connections_max = 2;
    lone_publish(&lone);
    for (int i = 0; i < 3; i++)
        clients[i] = lone_client(&lone);
    LONE_UNTIL(&lone, lone_in_state(&lone, LB_SESSION_RELAY) == 2 && lone.worker.paused);
    CHECK_EQ(accepted(&lone), 2);
    CHECK_EQ(atomic_load(&lone.runtime.paused), 1);
    (void)close(CHECK_SYS(accept(lone.back_fds[0], NULL, NULL)));
    (void)close(clients[0]);
    LONE_UNTIL(&lone, accepted(&lone) == 3 && !lone.worker.paused);
    CHECK_EQ(atomic_load(&lone.runtime.paused), 0);
    (void)close(clients[1]);
    (void)close(clients[2]);
    lone_fini(&lone);
}

TEST(a_peer_that_must_show_a_header_and_is_not_trusted_is_turned_away) {
    static struct lone lone;
    int client;

    lone_init(&lone);
    lone.listener.proxy_mode = L4LB_PROXY_REQUIRE;
    lone.listener.proxy_timeout_ms = LONE_LONG_MS;
    lone_publish(&lone);
    client = lone_client(&lone);
    LONE_UNTIL(&lone, lone_rejected(&lone, L4LB_REJECT_PROXY_UNTRUSTED) == 1);
    CHECK_EQ(lone.worker.stats.sessions, 0);
    CHECK_EQ(atomic_load(&lone.runtime.sessions), 0);
    (void)close(client);
    lone_fini(&lone);
}

TEST_MAIN()
