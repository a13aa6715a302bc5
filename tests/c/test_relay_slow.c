/* SPDX-License-Identifier: Apache-2.0 */
/* A relay whose source or sink is slow: what it holds, and what it gives back. */
#include "relay_pair.h"

TEST(a_stuck_reader_stops_the_sender_and_holds_one_read_at_most) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        for (uint32_t pipes_max = 0; pipes_max <= 2; pipes_max += 2) {
            static struct world world;
            uint64_t sent = 0;
            int quiet = 0;
            world_init(&world, (enum kind)kind, pipes_max, 7);
            world.to_server.total = 1ull << 30;
            world.to_server.appetite = 0;
            /* Until no side can move a byte for a while: TCP grows its buffers as it goes. */
            for (; quiet < 50; sent = world.to_server.sent) {
                (void)peer_sends(&world, &world.to_server, world.client_peer);
                (void)balancer_turn(&world, 1);
                quiet = sent == world.to_server.sent ? quiet + 1 : 0;
            }
            CHECK(world.to_server.sent < 1ull << 29);
            CHECK(lb_relay_holds(&world.up));
            CHECK(world.up.held == NULL || world.up.held->end <= LB_COPY_BYTES);
            CHECK(world.up.splice == NULL || world.up.splice->pipe->held <= 65536);
            /* It goes on where it was. */
            world.to_server.appetite = CHUNK_MAX;
            world.to_server.total = world.to_server.sent + 100000;
            run_to_the_end(&world);
            world_fini(&world);
        }
    }
}

TEST(a_relay_that_is_given_up_gives_back_what_it_holds) {
    for (uint32_t pipes_max = 0; pipes_max <= 2; pipes_max += 2) {
        static struct world world;
        world_init(&world, UNIX_SOCKETS, pipes_max, 8);
        world.to_server.total = 1ull << 30;
        for (int i = 0; i < 100 || !lb_relay_holds(&world.up); i++) {
            (void)peer_sends(&world, &world.to_server, world.client_peer);
            (void)balancer_turn(&world, 0);
        }
        world_fini(&world);
    }
}

TEST(a_quiet_transfer_gives_its_pipe_back_and_may_go_on) {
    static struct world world;

    world_init(&world, TCP_SOCKETS, 2, 9);
    world.to_server.total = 6000000;
    while (world.to_server.received < 3000000)
        step(&world);
    CHECK_EQ(world.stats.pipes_in_use, 1);
    while (world.to_server.received < world.to_server.sent) {
        (void)balancer_turn(&world, 1);
        (void)peer_receives(&world, &world.to_server, world.server_peer);
    }
    for (int i = 0; i < 3; i++) {
        world.env.now_ms += 1000;
        (void)balancer_turn(&world, 0);
    }
    CHECK_EQ(world.stats.pipes_in_use, 0);
    CHECK_EQ(world.up.path, L4LB_PATH_COPY);
    run_to_the_end(&world);
    world_fini(&world);
}

/* However its pipe became empty, a direction that stays quiet gives it back. */
static void let_it_rest(struct world *world) {
    for (int i = 0; i < 3; i++) {
        world->env.now_ms += 1000;
        (void)balancer_turn(world, 0);
    }
    CHECK_EQ(world->stats.pipes_in_use, 0);
}

TEST(a_sink_that_was_stuck_with_the_last_bytes_leaves_no_pipe_behind) {
    for (uint64_t seed = 200; seed < 210; seed++) {
        static struct world world;
        world_init(&world, (enum kind)(seed % N_KINDS), 2, seed);
        world.to_server.total = 1ull << 30;
        while (world.up.best_path == L4LB_PATH_COPY)
            step(&world);
        while (world.up.splice == NULL || world.up.splice->pipe->held == 0) {
            (void)peer_sends(&world, &world.to_server, world.client_peer);
            (void)balancer_turn(&world, 0);
        }
        /* Stuck for as long as it takes to be off every list. */
        while (lb_path_splice_first(&world.env) != NULL) {
            world.env.now_ms += 1000;
            trim(&world);
        }
        CHECK(world.up.splice != NULL);
        world.to_server.appetite = CHUNK_MAX;
        while (world.to_server.received < world.to_server.sent) {
            (void)balancer_turn(&world, 1);
            (void)peer_receives(&world, &world.to_server, world.server_peer);
        }
        let_it_rest(&world);
        world.to_server.total = world.to_server.sent + 100000;
        run_to_the_end(&world);
        world_fini(&world);
    }
}

TEST(a_source_that_is_dry_when_its_pipe_comes_leaves_no_pipe_behind) {
    static struct world world;
    size_t left = LB_BULK_READS * LB_COPY_BYTES;

    world_init(&world, UNIX_SOCKETS, 2, 10);
    for (int size = 1 << 20; left > 0;) {
        (void)CHECK_SYS(setsockopt(world.client_peer, SOL_SOCKET, SO_SNDBUF, &size, sizeof size));
        left -= (size_t)CHECK_SYS(send(world.client_peer, pattern, left, 0));
    }
    while (world.up.bytes < LB_BULK_READS * LB_COPY_BYTES || lb_relay_holds(&world.up)) {
        static uint8_t data[CHUNK_MAX];
        (void)balancer_turn(&world, 1);
        (void)recv(world.server_peer, data, sizeof data, 0);
    }
    CHECK_EQ(world.stats.pipes_in_use, 1);
    let_it_rest(&world);
    world_fini(&world);
}

static void *pour(void *arg) {
    const int *fd = arg;

    while (send(*fd, pattern, sizeof pattern, MSG_NOSIGNAL) > 0)
        ;
    return NULL;
}

static void *drain(void *arg) {
    static uint8_t data[CHUNK_MAX];
    const int *fd = arg;

    while (recv(*fd, data, sizeof data, 0) > 0)
        ;
    return NULL;
}

/* Between a source that is never dry and a sink that is never full, for a while, a relay would go on for ever. */
TEST(one_turn_moves_a_bounded_number_of_bytes) {
    for (uint32_t pipes_max = 0; pipes_max <= 1; pipes_max++) {
        static struct world world;
        pthread_t threads[2];
        int blocking = 0, turns_cut = 0;
        world_init(&world, TCP_SOCKETS, pipes_max, 10);
        (void)CHECK_SYS(ioctl(world.client_peer, FIONBIO, &blocking));
        (void)CHECK_SYS(ioctl(world.server_peer, FIONBIO, &blocking));
        CHECK_EQ(pthread_create(&threads[0], NULL, pour, &world.client_peer), 0);
        CHECK_EQ(pthread_create(&threads[1], NULL, drain, &world.server_peer), 0);
        while (turns_cut < 3) {
            uint64_t before = world.up.bytes;
            (void)balancer_turn(&world, 10);
            CHECK(world.up.bytes - before < LB_RELAY_BUDGET_BYTES + 65536);
            turns_cut += world.again;
        }
        /* Only a reset wakes a peer that waits for room. */
        lb_sock_close(&world.client.fd, true);
        lb_sock_close(&world.server.fd, true);
        for (int i = 0; i < 2; i++)
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
        world_fini(&world);
    }
}

TEST_MAIN()
