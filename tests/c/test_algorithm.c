/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <errno.h>

TEST(round_robin_is_exact_over_every_round) {
    static struct world world;
    static const uint32_t weights[] = {5, 0, 2, 1, 8};
    uint32_t counts[BACKENDS_MAX];

    world_init(&world, 5);
    for (size_t i = 0; i < 5; i++)
        world.backends[i].weight = weights[i];
    publish(&world, L4LB_ROUND_ROBIN, 5);
    for (int round = 0; round < 50; round++) {
        shares(&world, 16, counts);
        for (size_t i = 0; i < 5; i++)
            CHECK_EQ(counts[i], weights[i]);
    }
    world_fini(&world);
}

TEST(round_robin_goes_on_where_it_was_after_a_publication) {
    static struct world world;

    world_init(&world, 3);
    publish(&world, L4LB_ROUND_ROBIN, 3);
    for (int i = 0; i < 30; i++) {
        CHECK_EQ(pick_for(&world, 0), i % 3);
        publish(&world, L4LB_ROUND_ROBIN, 3);
    }
    world_fini(&world);
}

TEST(least_connections_keeps_load_per_weight_level) {
    static struct world world;
    struct check_random random = {61};

    world_init(&world, 4);
    for (size_t i = 0; i < 4; i++)
        world.backends[i].weight = (uint32_t)i + 1;
    publish(&world, L4LB_LEAST_CONNECTIONS, 4);
    for (int step = 0; step < 3000; step++) {
        uint32_t least = UINT32_MAX, before[4];
        int at;
        for (size_t i = 0; i < 4; i++) {
            before[i] = connections(&world, i);
            least = LB_MIN(least, before[i] * 12 / (uint32_t)(i + 1));
        }
        at = pick_for(&world, 0);
        CHECK_EQ(before[at] * 12 / (uint32_t)(at + 1), least);
        /* Some session somewhere ends. */
        at = (int)check_random_below(&random, 4);
        if (check_random_below(&random, 3) && connections(&world, (size_t)at) > 0)
            release(&world, at);
    }
    world_fini(&world);
}

TEST(least_connections_shares_ties_by_weight) {
    static struct world world;
    static const uint32_t weights[] = {1, 2, 3, 4};
    uint32_t counts[BACKENDS_MAX];

    world_init(&world, 4);
    for (size_t i = 0; i < 4; i++)
        world.backends[i].weight = weights[i];
    publish(&world, L4LB_LEAST_CONNECTIONS, 4);
    shares(&world, 1000, counts);
    for (size_t i = 0; i < 4; i++)
        CHECK_EQ(counts[i], 100 * weights[i]);
    world_fini(&world);
}

TEST(least_busy_goes_by_turns_and_then_by_connections) {
    static struct world world;

    world_init(&world, 3);
    publish(&world, L4LB_LEAST_BUSY, 3);
    atomic_store(&shared(&world, 0)->connections, 200);
    atomic_store(&shared(&world, 1)->connections, 2);
    atomic_store(&shared(&world, 2)->connections, 1);
    atomic_store(&shared(&world, 1)->turns, 1);
    atomic_store(&shared(&world, 2)->turns, 1);
    CHECK_EQ(pick_for(&world, 1), 0);
    atomic_store(&shared(&world, 0)->turns, 1);
    CHECK_EQ(pick_for(&world, 2), 2);
    world_fini(&world);
}

TEST(least_busy_weighs_turns) {
    static struct world world;

    world_init(&world, 2);
    world.backends[1].weight = 4;
    publish(&world, L4LB_LEAST_BUSY, 2);
    atomic_store(&shared(&world, 0)->turns, 1);
    atomic_store(&shared(&world, 1)->turns, 3);
    CHECK_EQ(pick_for(&world, 1), 1);
    atomic_store(&shared(&world, 1)->turns, 5);
    CHECK_EQ(pick_for(&world, 2), 0);
    world_fini(&world);
}

static int pick_at(const struct world *world, uint32_t now_ms) {
    struct lb_balance_request request = {.now_ms = now_ms};
    struct lb_rng rng = world->rng;
    return quiet(world, lb_balance_pick(world->pool, &request, &rng));
}

TEST(least_latency_multiplies_latency_with_turns) {
    static struct world world;

    world_init(&world, 2);
    publish(&world, L4LB_LEAST_LATENCY, 2);
    lb_latency_learn(&shared(&world, 0)->latency, 100000, 1000);
    lb_latency_learn(&shared(&world, 1)->latency, 250000, 1000);
    CHECK_EQ(pick_at(&world, 1000), 0);
    atomic_store(&shared(&world, 0)->turns, 1);
    CHECK_EQ(pick_at(&world, 1000), 0);
    atomic_store(&shared(&world, 0)->turns, 2);
    CHECK_EQ(pick_at(&world, 1000), 1);
    world_fini(&world);
}

TEST(an_unknown_backend_gets_one_turn_and_not_a_flood) {
    static struct world world;

    world_init(&world, 2);
    publish(&world, L4LB_LEAST_LATENCY, 2);
    lb_latency_learn(&shared(&world, 0)->latency, 500000, 1000);
    atomic_store(&shared(&world, 0)->turns, 5);
    CHECK_EQ(pick_at(&world, 1000), 1);
    atomic_store(&shared(&world, 1)->turns, 1);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(pick_at(&world, 1000), 0);
    world_fini(&world);
}

TEST(a_slow_backend_is_tried_again_after_a_while) {
    static struct world world;

    world_init(&world, 2);
    publish(&world, L4LB_LEAST_LATENCY, 2);
    lb_latency_learn(&shared(&world, 0)->latency, 100000, 60000);
    lb_latency_learn(&shared(&world, 1)->latency, 5000000, 60000);
    CHECK_EQ(pick_at(&world, 60000), 0);
    for (uint32_t now = 60000; now <= 120000; now += 100)
        lb_latency_learn(&shared(&world, 0)->latency, 100000, now);
    CHECK_EQ(pick_at(&world, 120000), 1);
    world_fini(&world);
}

TEST(latency_follows_peaks_at_once_and_forgets_them_slowly) {
    lb_latency_t latency = 0;

    CHECK_EQ(lb_latency_read(&latency, 5), 0);
    lb_latency_learn(&latency, 1000, 10);
    CHECK_EQ(lb_latency_read(&latency, 10), 1000);
    lb_latency_learn(&latency, 900000, 20);
    CHECK_EQ(lb_latency_read(&latency, 20), 900000);
    lb_latency_learn(&latency, 1000, 21);
    CHECK(lb_latency_read(&latency, 21) > 890000);
    for (uint32_t now = 22; now < 22 + 20 * LB_LATENCY_HALF_MS; now += 10)
        lb_latency_learn(&latency, 1000, now);
    CHECK(lb_latency_read(&latency, 22 + 20 * LB_LATENCY_HALF_MS) <= 1100);
    CHECK_EQ(lb_latency_read(&latency, 1 << 30), 1);
}

TEST(latency_is_forgotten_however_long_nothing_is_asked) {
    static const uint64_t hour_ms = 3600000, days[] = {1, 24, 25, 49, 50, 51, 99, 100, 365};
    lb_latency_t latency = 0;

    lb_latency_learn(&latency, 30000000, hour_ms);
    CHECK_EQ(lb_latency_read(&latency, hour_ms), 30000000);
    /* A worker whose clock is a little behind. */
    CHECK_EQ(lb_latency_read(&latency, hour_ms - 5), 30000000);
    for (size_t i = 0; i < sizeof days / sizeof *days; i++) {
        for (uint64_t hour = 0; hour < 24; hour++)
            CHECK_EQ(lb_latency_read(&latency, (days[i] * 24 + 1 + hour) * hour_ms), 1);
    }
}

TEST(bounded_maglev_never_gives_more_than_the_bound_and_keeps_most_clients) {
    static struct world world, free_world;
    uint32_t at_home = 0;

    world_init(&world, 10);
    world_init(&free_world, 10);
    world.max_load = 125;
    publish(&world, L4LB_MAGLEV, 10);
    publish(&free_world, L4LB_MAGLEV, 10);
    for (uint64_t client = 0; client < 2000; client++) {
        /* A few clients ask far more often than the others. */
        uint64_t key = client % 3 == 0 ? client % 7 : client;
        int at, home = pick_for(&free_world, key);
        uint64_t sessions = atomic_fetch_add(&world.pool->shared->sessions, 1) + 1;
        at = pick_for(&world, key);
        CHECK(at >= 0);
        at_home += at == home;
        CHECK((uint64_t)connections(&world, (size_t)at) * 10 <= sessions * 125 / 100 + 10);
    }
    CHECK(at_home > 1000);
    CHECK(at_home < 2000);
    world_fini(&world);
    world_fini(&free_world);
}

TEST(random_draws_follow_the_weights) {
    static struct world world;
    static const uint32_t weights[] = {1, 2, 3, 4};
    uint32_t counts[BACKENDS_MAX];

    world_init(&world, 4);
    for (size_t i = 0; i < 4; i++)
        world.backends[i].weight = weights[i];
    publish(&world, L4LB_RANDOM, 4);
    shares(&world, 20000, counts);
    for (size_t i = 0; i < 4; i++)
        CHECK(counts[i] > 2000 * weights[i] - 300 && counts[i] < 2000 * weights[i] + 300);
    world_fini(&world);
}

static uint32_t fullest_after(enum l4lb_balance balance, uint32_t sessions) {
    static struct world world;
    uint32_t fullest = 0;

    world_init(&world, BACKENDS_MAX);
    publish(&world, balance, BACKENDS_MAX);
    for (uint64_t client = 0; client < sessions; client++)
        CHECK(pick_for(&world, client) >= 0);
    for (size_t i = 0; i < BACKENDS_MAX; i++)
        fullest = LB_MAX(fullest, connections(&world, i));
    world_fini(&world);
    return fullest;
}

/* With 100 sessions on each of 100 backends on average, one draw leaves some backend tens above, two draws a few. */
TEST(two_draws_are_far_more_even_than_one) {
    CHECK(fullest_after(L4LB_RANDOM, 10000) > 115);
    CHECK(fullest_after(L4LB_POWER_OF_TWO, 10000) <= 106);
}

TEST(power_of_two_between_two_is_the_better_of_them) {
    static struct world world;

    world_init(&world, 2);
    publish(&world, L4LB_POWER_OF_TWO, 2);
    for (int i = 0; i < 1000; i++)
        CHECK(pick_for(&world, 0) >= 0);
    CHECK(connections(&world, 0) > 440 && connections(&world, 0) < 560);
    world_fini(&world);
}

TEST(maglev_gives_a_client_the_same_backend_and_moves_only_those_of_a_missing_one) {
    enum { CLIENTS = 5000, N = 10, GONE = 4 };
    static struct world world;
    static int before[CLIENTS];
    uint32_t moved[N] = {0}, n_moved = 0;

    world_init(&world, N);
    publish(&world, L4LB_MAGLEV, N);
    for (uint64_t client = 0; client < CLIENTS; client++) {
        before[client] = pick_for(&world, client);
        CHECK_EQ(pick_for(&world, client), before[client]);
    }
    world.backends[GONE].usable = 0;
    publish(&world, L4LB_MAGLEV, N);
    for (uint64_t client = 0; client < CLIENTS; client++) {
        int at = pick_for(&world, client);
        CHECK(at >= 0 && at != GONE);
        if (before[client] != GONE) {
            CHECK_EQ(at, before[client]);
        } else {
            moved[at]++;
            n_moved++;
        }
    }
    CHECK(n_moved > CLIENTS / N / 2 && n_moved < CLIENTS / N * 2);
    for (int i = 0; i < N; i++)
        CHECK(i == GONE || (moved[i] > n_moved / 9 / 2 && moved[i] < n_moved / 9 * 2));
    world.backends[GONE].usable = 1;
    publish(&world, L4LB_MAGLEV, N);
    for (uint64_t client = 0; client < CLIENTS; client++)
        CHECK_EQ(pick_for(&world, client), before[client]);
    world_fini(&world);
}

TEST(maglev_follows_the_weights) {
    static struct world world;
    uint32_t counts[BACKENDS_MAX];

    world_init(&world, 2);
    world.backends[1].weight = 3;
    publish(&world, L4LB_MAGLEV, 2);
    shares(&world, 20000, counts);
    CHECK(counts[0] > 4600 && counts[0] < 5400);
    world_fini(&world);
}

TEST(only_maglev_binds_a_client_to_a_backend) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        world_init(&world, 1);
        publish(&world, (enum l4lb_balance)balance, 1);
        CHECK_EQ(lb_balance_is_hashed(world.pool), balance == L4LB_MAGLEV);
        world_fini(&world);
    }
}

TEST(first_fills_one_backend_after_the_other) {
    static struct world world;

    world_init(&world, 3);
    world.backends[0].connections_max = 2;
    world.backends[1].connections_max = 3;
    publish(&world, L4LB_FIRST, 3);
    for (int i = 0; i < 20; i++)
        CHECK_EQ(pick_for(&world, 0), i < 2 ? 0 : i < 5 ? 1 : 2);
    release(&world, 1);
    CHECK_EQ(pick_for(&world, 0), 1);
    world_fini(&world);
}

/* Backend i, found by its slot. */
static int retake(const struct world *world, size_t i) {
    return lb_balance_reserve_at(world->pool, &new_session, lb_pool_index_of(world->pool, world->backends[i].slot));
}

TEST(a_backend_is_retaken_only_if_it_still_takes_sessions) {
    static struct world world;

    world_init(&world, 4);
    world.backends[1].connections_max = 1;
    world.backends[2].weight = 0;
    world.backends[3].usable = 0;
    publish(&world, L4LB_MAGLEV, 4);
    CHECK_EQ(retake(&world, 0), 0);
    CHECK_EQ(retake(&world, 1), 1);
    CHECK_EQ(retake(&world, 1), -EAGAIN);
    CHECK_EQ(retake(&world, 2), -EAGAIN);
    CHECK_EQ(retake(&world, 3), -EAGAIN);
    CHECK_EQ(lb_pool_index_of(world.pool, 12345), UINT32_MAX);
    CHECK_EQ(lb_pool_index_of(world.pool, UINT32_MAX), UINT32_MAX);
    CHECK_EQ(connections(&world, 0), 1);
    CHECK_EQ(connections(&world, 1), 1);
    CHECK_EQ(connections(&world, 2) + connections(&world, 3), 0);
    world_fini(&world);
}

TEST_MAIN()
