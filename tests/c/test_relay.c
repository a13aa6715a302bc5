/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes that a relay passes on, on each of its paths. */
#include "relay_pair.h"

/* ---- whole transfers --------------------------------------------------------------------------------------------- */

TEST(nothing_is_passed_on_as_nothing) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        static struct world world;
        world_init(&world, (enum kind)kind, 4, 1);
        run_to_the_end(&world);
        world_fini(&world);
    }
}

TEST(small_messages_are_copied_byte_for_byte) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        static struct world world;
        world_init(&world, (enum kind)kind, 4, 2);
        world.to_server.total = 200000;
        world.to_client.total = 100000;
        world.to_server.chunk = world.to_client.chunk = 2000;
        run_to_the_end(&world);
        CHECK_EQ(world.stats.spliced_bytes_total, 0);
        CHECK_EQ(world.up.best_path, L4LB_PATH_COPY);
        world_fini(&world);
    }
}

TEST(a_bulk_transfer_is_spliced_and_arrives_byte_for_byte) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        static struct world world;
        world_init(&world, (enum kind)kind, 4, 3);
        world.to_server.total = 6000011;
        world.to_client.total = 5;
        run_to_the_end(&world);
        CHECK(world.stats.spliced_bytes_total > 3000000);
        CHECK(world.up.best_path == L4LB_PATH_SPLICE && world.down.best_path == L4LB_PATH_COPY);
        world_fini(&world);
    }
}

TEST(without_pipes_everything_is_copied) {
    for (int kind = 0; kind < N_KINDS; kind++) {
        static struct world world;
        world_init(&world, (enum kind)kind, 0, 4);
        world.to_server.total = 2000003;
        world.to_client.total = 3000017;
        run_to_the_end(&world);
        CHECK_EQ(world.stats.spliced_bytes_total, 0);
        CHECK_EQ(world.stats.pipe_fallbacks_total, 0);
        world_fini(&world);
    }
}

TEST(when_pipes_run_out_the_rest_is_copied) {
    static struct world world;

    world_init(&world, TCP_SOCKETS, 1, 5);
    world.to_server.total = world.to_client.total = 5000000;
    run_to_the_end(&world);
    CHECK(world.stats.spliced_bytes_total > 0);
    CHECK(world.stats.pipe_fallbacks_total > 0);
    world_fini(&world);
}

TEST(any_mix_of_sizes_and_speeds_arrives_byte_for_byte) {
    static const uint32_t sizes[] = {1, 100, 5000, 32768, 65536, 200000, CHUNK_MAX};

    static const int buffers[] = {4608, 20000, 100000};

    for (uint64_t seed = 100; seed < 160; seed++) {
        static struct world world;
        struct stream *streams[] = {&world.to_server, &world.to_client};
        struct check_random *random = &world.random;
        uint32_t small;
        world_init(&world, (enum kind)(seed % N_KINDS), seed % 3 == 0 ? 0 : (uint32_t)(seed % 3), seed);
        /* Small ones make short sends, and what is held leaves in pieces. */
        limit_buffer(world.server.fd, buffers[check_random_below(random, 3)]);
        limit_buffer(world.client.fd, buffers[check_random_below(random, 3)]);
        for (int i = 0; i < 2; i++) {
            streams[i]->chunk = sizes[check_random_below(random, 7)];
            streams[i]->appetite = sizes[check_random_below(random, 7)];
            /* Not more than a few thousand steps. */
            small = LB_MIN(streams[i]->chunk, streams[i]->appetite);
            streams[i]->total = LB_MIN(check_random_below(random, 2000000), 2000 * small);
        }
        run_to_the_end(&world);
        world_fini(&world);
    }
}

TEST(a_transfer_that_changes_its_ways_goes_back_to_copying) {
    static struct world world;

    world_init(&world, TCP_SOCKETS, 2, 6);
    world.to_server.total = 8000000;
    while (world.to_server.sent < 4000000)
        step(&world);
    world.to_server.chunk = 300;
    world.to_server.total = world.to_server.sent + 200000;
    for (int i = 0; i < 200; i++)
        step(&world);
    CHECK(world.up.splice == NULL);
    CHECK_EQ(world.stats.pipes_in_use, 0);
    run_to_the_end(&world);
    world_fini(&world);
}

/* ---- HTTP/2 ------------------------------------------------------------------------------------------------------ */

/* As much as is spliced as a rule, in one frame of DATA; and when all of it is through, the acknowledgement of a PING.
 */
static void upload_and_acknowledge(struct world *world, const char *preface) {
    enum { UPLOAD = 1 << 20 };
    static const uint8_t header[] = {UPLOAD >> 16, 0, 0, 0, 0, 0, 0, 0, 1}, ping[17] = {0, 0, 8, 6, 1};
    static uint8_t data[64 + UPLOAD], received[UPLOAD];
    const size_t before = strlen(preface), len = before + sizeof header + UPLOAD;
    size_t sent = 0;

    memcpy(data, preface, before);
    memcpy(data + before, header, sizeof header);
    world_init(world, UNIX_SOCKETS, 4, 20);
    while (world->up.bytes < len) {
        ssize_t n = send(world->client_peer, data + sent, len - sent, 0);
        sent += n > 0 ? (size_t)n : 0;
        (void)balancer_turn(world, 0);
        (void)recv(world->server_peer, received, sizeof received, 0);
    }
    CHECK(world->up.may_request);
    world->up.may_request = false;
    CHECK_EQ(send(world->client_peer, ping, sizeof ping, 0), sizeof ping);
    while (world->up.bytes < len + sizeof ping) {
        (void)balancer_turn(world, 0);
        (void)recv(world->server_peer, received, sizeof received, 0);
    }
}

TEST(frames_of_http2_are_followed_through_any_upload) {
    static struct world world;

    upload_and_acknowledge(&world, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    CHECK_EQ(world.up.best_path, L4LB_PATH_COPY);
    CHECK(!world.up.may_request);
    world_fini(&world);
}

TEST(the_same_bytes_without_the_preface_are_spliced_and_may_ask) {
    static struct world world;

    upload_and_acknowledge(&world, "");
    CHECK_EQ(world.up.best_path, L4LB_PATH_SPLICE);
    CHECK(world.up.may_request);
    world_fini(&world);
}

TEST_MAIN()
