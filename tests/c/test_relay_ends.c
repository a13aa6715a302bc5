/* SPDX-License-Identifier: Apache-2.0 */
/* Ends of input and resets, from one side of a relay to the other. */
#include "relay_pair.h"

TEST(one_direction_ends_while_the_other_goes_on) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        static struct world world;
        world_init(&world, (enum kind)kind, 2, 11);
        world.to_server.total = 70000;
        world.to_client.total = UINT64_MAX;
        while (!world.to_server.saw_end)
            step(&world);
        CHECK(world.up.finished && !world.down.eof);
        world.to_client.total = world.to_client.sent + 3000000;
        run_to_the_end(&world);
        world_fini(&world);
    }
}

static void reset_by(int *peer) {
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    (void)CHECK_SYS(setsockopt(*peer, SOL_SOCKET, SO_LINGER, &linger, sizeof linger));
    (void)close(*peer);
    *peer = -1;
}

TEST(a_reset_is_seen_as_a_reset_after_the_last_byte) {
    static const uint64_t totals[] = {0, 1, 1000, 32768, 100000, 1000000};

    for (uint32_t pipes_max = 0; pipes_max <= 2; pipes_max += 2) {
        for (size_t i = 0; i < sizeof totals / sizeof totals[0]; i++) {
            static struct world world;
            int turns = 0;
            world_init(&world, TCP_SOCKETS, pipes_max, 12);
            world.to_server.total = totals[i];
            while (world.to_server.sent < totals[i] || world.up.bytes < totals[i]) {
                if (world.to_server.sent < totals[i])
                    (void)peer_sends(&world, &world.to_server, world.client_peer);
                (void)balancer_turn(&world, 1);
                (void)peer_receives(&world, &world.to_server, world.server_peer);
            }
            reset_by(&world.client_peer);
            while (!world.up.eof || lb_relay_holds(&world.up)) {
                (void)balancer_turn(&world, 5);
                (void)peer_receives(&world, &world.to_server, world.server_peer);
                CHECK(++turns < 1000);
            }
            CHECK(world.client.reset && !world.server.reset);
            CHECK(lb_relay_is_done(&world.up));
            CHECK_EQ(world.up.bytes, totals[i]);
            world_fini(&world);
        }
    }
}

TEST(bytes_that_came_before_a_reset_are_delivered) {
    static struct world world;

    world_init(&world, TCP_SOCKETS, 2, 13);
    world.to_server.total = 100000;
    while (world.to_server.sent < world.to_server.total)
        (void)peer_sends(&world, &world.to_server, world.client_peer);
    reset_by(&world.client_peer);
    while (!world.to_server.saw_end) {
        (void)balancer_turn(&world, 5);
        (void)peer_receives(&world, &world.to_server, world.server_peer);
    }
    CHECK_EQ(world.to_server.received, 100000);
    CHECK(world.client.reset);
    world_fini(&world);
}

TEST(a_broken_sink_takes_no_more_and_its_own_last_bytes_are_still_read) {
    for (uint32_t pipes_max = 0; pipes_max <= 2; pipes_max += 2) {
        static struct world world;
        int turns = 0;
        world_init(&world, TCP_SOCKETS, pipes_max, 14);
        world.to_server.total = 1ull << 40;
        world.to_client.total = 5000;
        while (world.to_client.sent < 5000)
            (void)peer_sends(&world, &world.to_client, world.server_peer);
        for (int i = 0; i < 30; i++) {
            (void)peer_sends(&world, &world.to_server, world.client_peer);
            (void)balancer_turn(&world, 1);
        }
        reset_by(&world.server_peer);
        while (!world.up.sink_gone || !world.down.eof) {
            (void)peer_sends(&world, &world.to_server, world.client_peer);
            (void)balancer_turn(&world, 5);
            CHECK(++turns < 1000);
        }
        CHECK(world.server.reset);
        CHECK(!lb_relay_holds(&world.up));
        CHECK(lb_relay_is_done(&world.up));
        while (world.to_client.received < 5000) {
            (void)peer_receives(&world, &world.to_client, world.client_peer);
            CHECK(++turns < 100000);
        }
        world_fini(&world);
    }
}

TEST_MAIN()
