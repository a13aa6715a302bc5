/* SPDX-License-Identifier: Apache-2.0 */
/* Picks in pools with several groups. */
#include "tiers.h"

#include <math.h>

/* ---- picking ----------------------------------------------------------------------------------------------------- */

TEST(the_own_zone_serves_while_it_is_large_enough) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        world_init(&world, 9);
        for (size_t i = 0; i < 9; i++)
            place(&world, i, i >= 6, (uint32_t)i % 3);
        publish(&world, (enum l4lb_balance)balance, 9);
        for (uint64_t client = 0; client < 600; client++) {
            uint32_t zone = (uint32_t)client % 5;
            int at = pick_from(&world, zone, client);
            CHECK(at >= 0 && at < 6);
            CHECK(zone == 0 || zone > 2 || world.backends[at].zone == zone);
            release(&world, at);
        }
        world_fini(&world);
    }
}

TEST(a_zone_number_nobody_has_is_no_zone) {
    static struct world world;
    uint32_t strange[] = {3, LB_ZONES_MAX, LB_ZONES_MAX + 1, 70000, UINT32_MAX};

    world_init(&world, 4);
    place(&world, 0, 0, 1);
    place(&world, 1, 0, 2);
    publish(&world, L4LB_ROUND_ROBIN, 4);
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        for (int cursor = 0; cursor < 4; cursor++)
            CHECK_EQ(pick_from(&world, strange[i], 0), cursor);
    }
    world_fini(&world);
}

/* How many of `picks` fall to each backend, each session ended at once. */
static void count_picks(struct world *world, uint32_t zone, uint32_t picks, uint32_t counts[BACKENDS_MAX]) {
    memset(counts, 0, BACKENDS_MAX * sizeof *counts);
    for (uint32_t client = 0; client < picks; client++) {
        int at = pick_from(world, zone, client);
        CHECK(at >= 0);
        counts[at]++;
        release(world, at);
    }
}

TEST(what_spills_is_what_the_shares_say) {
    enum { PICKS = 20000 };
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        uint32_t counts[BACKENDS_MAX], first = 0;
        two_tiers(&world, 10);
        for (size_t i = 0; i < 5; i++)
            world.backends[i].usable = 0;
        publish(&world, (enum l4lb_balance)balance, 20);
        count_picks(&world, 0, PICKS, counts);
        for (size_t i = 0; i < 10; i++)
            first += counts[i];
        CHECK(first > PICKS * 68 / 100 && first < PICKS * 72 / 100);
        world_fini(&world);
    }
}

/* Zone 1: one of four usable; zone 2: four of four. Of zone 1's clients 35 % stay, as much again as the tier has beyond
 * that (5 of 8, 87.5 %) go to all of it, and the rest to tier 1. */
TEST(what_a_zone_keeps_counts_for_its_tier) {
    enum { PICKS = 40000 };
    static struct world world;
    uint32_t counts[BACKENDS_MAX], of_zone[3] = {0};

    world_init(&world, 9);
    for (size_t i = 0; i < 9; i++)
        place(&world, i, i == 8, i == 8 ? 0 : 1 + (uint32_t)i / 4);
    for (size_t i = 0; i < 3; i++)
        world.backends[i].usable = 0;
    publish(&world, L4LB_RANDOM, 9);
    count_picks(&world, 1, PICKS, counts);
    for (size_t i = 0; i < 9; i++)
        of_zone[world.backends[i].zone] += counts[i];
    CHECK(fabs(of_zone[0] - PICKS * 0.125) < PICKS * 0.01);
    CHECK(fabs(of_zone[1] - PICKS * (0.35 + 0.525 / 5)) < PICKS * 0.01);
    CHECK(fabs(of_zone[2] - PICKS * 0.525 * 4 / 5) < PICKS * 0.01);
    world_fini(&world);
}

TEST(a_group_without_anybody_is_left_at_once) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        two_tiers(&world, 3);
        place(&world, 0, 0, 1);
        for (size_t i = 0; i < 3; i++)
            world.backends[i].usable = 0;
        publish(&world, (enum l4lb_balance)balance, 6);
        for (uint64_t client = 0; client < 100; client++)
            CHECK(pick_from(&world, (uint32_t)client % 2, client) >= 3);
        world.backends[4].usable = world.backends[3].usable = world.backends[5].usable = 0;
        publish(&world, (enum l4lb_balance)balance, 6);
        CHECK_EQ(pick_from(&world, 1, 0), -EAGAIN);
        world_fini(&world);
    }
}

TEST(a_full_group_spills_and_takes_its_clients_back) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        world_init(&world, 6);
        for (size_t i = 0; i < 6; i++) {
            place(&world, i, i >= 4, i < 2);
            world.backends[i].connections_max = 5;
        }
        publish(&world, (enum l4lb_balance)balance, 6);
        for (uint64_t client = 0; client < 30; client++) {
            int at = pick_from(&world, 1, client);
            CHECK_EQ(at / 2, (int)client / 10);
        }
        CHECK_EQ(pick_from(&world, 1, 30), -EAGAIN);
        CHECK(!lb_balance_has_capacity(world.pool, &new_session));
        release(&world, 4);
        CHECK(lb_balance_has_capacity(world.pool, &new_session));
        CHECK_EQ(pick_from(&world, 1, 31), 4);
        release(&world, 3);
        release(&world, 1);
        CHECK_EQ(pick_from(&world, 1, 32), 1);
        CHECK_EQ(pick_from(&world, 1, 33), 3);
        world_fini(&world);
    }
}

TEST(who_may_not_stay_stays_when_there_is_no_place_elsewhere) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        two_tiers(&world, 4);
        for (size_t i = 0; i < 3; i++)
            world.backends[i].usable = 0;
        for (size_t i = 4; i < 8; i++)
            world.backends[i].connections_max = 1;
        publish(&world, (enum l4lb_balance)balance, 8);
        for (uint64_t client = 0; client < 200; client++)
            CHECK(pick_for(&world, client) >= 3);
        CHECK_EQ(connections(&world, 3), 196);
        world_fini(&world);
    }
}

/* The waiting room calls its first while there is a place: a pick that then found none would call for ever. */
TEST(a_place_is_found_exactly_when_there_is_one) {
    enum { N = 12 };
    static struct world world;
    struct check_random random = {3};

    for (int round = 0; round < 600; round++) {
        uint32_t places = 0, n = 0;
        world_init(&world, N);
        randomize(&world, &random, N, 3, 2);
        for (size_t i = 0; i < N; i++) {
            world.backends[i].connections_max = 1 + check_random_below(&random, 4);
            places += is_usable(&world, i) ? world.backends[i].connections_max : 0;
        }
        world.max_load = check_random_below(&random, 2) ? 125 : 0;
        publish(&world, (enum l4lb_balance)check_random_below(&random, (int)L4LB_N_BALANCE), N);
        while (lb_balance_has_capacity(world.pool, &new_session)) {
            int at = pick_from(&world, check_random_below(&random, 4), check_random_next(&random));
            CHECK(at >= 0 && connections(&world, (size_t)at) <= world.backends[at].connections_max);
            n++;
        }
        CHECK_EQ(n, places);
        CHECK_EQ(pick_from(&world, 1, 0), -EAGAIN);
        world_fini(&world);
    }
}

struct racer {
    struct world *world;
    uint64_t seed;
    uint32_t taken;
};

static void *race(void *arg) {
    struct racer *racer = arg;
    struct lb_rng rng;

    lb_rng_init(&rng, racer->seed);
    for (uint64_t client = 0; client < 1500; client++) {
        struct lb_balance_request request = {.hash = lb_hash_mix(client ^ racer->seed), .zone = (uint32_t)client % 3};
        racer->taken += lb_balance_pick(racer->world->pool, &request, &rng) >= 0;
    }
    return NULL;
}

TEST(threads_together_fill_every_limit_of_every_group_exactly) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        struct racer racers[3];
        pthread_t threads[3];
        uint32_t taken = 0;
        world_init(&world, 9);
        for (uint32_t i = 0; i < 9; i++) {
            place(&world, i, i / 4, i % 3);
            world.backends[i].connections_max = 300 + 10 * i;
            world.backends[i].usable = i != 2;
        }
        publish(&world, (enum l4lb_balance)balance, 9);
        for (uint64_t i = 0; i < 3; i++) {
            racers[i] = (struct racer){.world = &world, .seed = i << 40};
            CHECK_EQ(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
        }
        for (int i = 0; i < 3; i++) {
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
            taken += racers[i].taken;
        }
        CHECK_EQ(taken, 9 * 300 + 10 * 36 - 320);
        for (size_t i = 0; i < 9; i++)
            CHECK_EQ(connections(&world, i), i == 2 ? 0 : 300 + 10 * i);
        world_fini(&world);
    }
}

/* ---- retries ----------------------------------------------------------------------------------------------------- */

TEST(a_retry_goes_to_another_of_the_group_and_then_to_the_next_group) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        world_init(&world, 4);
        for (size_t i = 0; i < 4; i++)
            place(&world, i, i == 3, i < 2);
        publish(&world, (enum l4lb_balance)balance, 4);
        for (uint64_t client = 0; client < 50; client++) {
            struct lb_balance_request request = {.hash = lb_hash_mix(client), .zone = 1};
            int first = -1;
            for (int attempt = 0; attempt < 4; attempt++) {
                int at = pick_request(&world, &request);
                CHECK(attempt < 2 ? at < 2 && at != first : at == attempt);
                first = at;
                request.last_tried = request.tried[request.n_tried++] = world.backends[at].slot;
                release(&world, at);
            }
            /* All have failed: again, but not to the last one. */
            CHECK(pick_request(&world, &request) < 3);
        }
        world_fini(&world);
    }
}

TEST(a_backend_is_retaken_in_whatever_tier_it_is) {
    static struct world world;

    two_tiers(&world, 2);
    place(&world, 0, 2, 1);
    publish(&world, L4LB_MAGLEV, 4);
    for (size_t i = 0; i < 4; i++)
        CHECK_EQ(configured(&world, lb_balance_reserve_at(world.pool, &new_session,
                                                          lb_pool_index_of(world.pool, world.backends[i].slot))),
                 i);
    world_fini(&world);
}

/* ---- each kind of algorithm -------------------------------------------------------------------------------------- */

TEST(zones_that_take_turns_each_see_all_of_their_backends) {
    static struct world world;

    world_init(&world, 8);
    for (size_t i = 0; i < 8; i++)
        place(&world, i, 0, 1 + (uint32_t)i / 4);
    publish(&world, L4LB_ROUND_ROBIN, 8);
    for (int cursor = 0; cursor < 100; cursor++) {
        CHECK_EQ(pick_from(&world, 1, 0), cursor % 4);
        CHECK_EQ(pick_from(&world, 2, 0), 4 + cursor % 4);
        publish(&world, L4LB_ROUND_ROBIN, 8);
    }
    world_fini(&world);
}

TEST(ties_are_shared_in_each_group_by_itself) {
    static struct world world;
    uint32_t counts[8] = {0};

    world_init(&world, 8);
    for (size_t i = 0; i < 8; i++)
        place(&world, i, 0, 1 + (uint32_t)i / 4);
    publish(&world, L4LB_LEAST_CONNECTIONS, 8);
    for (uint32_t cursor = 0; cursor < 200; cursor++) {
        int at = pick_from(&world, 1 + cursor % 2, 0);
        counts[at]++;
        release(&world, at);
    }
    for (size_t i = 0; i < 8; i++)
        CHECK_EQ(counts[i], 25);
    world_fini(&world);
}

/* A client stays while the shares stay; as they shrink, those that go are taken from those that were there. */
TEST(maglev_moves_only_the_clients_that_have_to_go) {
    enum { CLIENTS = 8000, N = 10 };
    static struct world world;
    static int before[CLIENTS], during[CLIENTS];
    uint32_t gone = 0, moved = 0, counts[2 * N] = {0};

    two_tiers(&world, N);
    publish(&world, L4LB_MAGLEV, 2 * N);
    for (uint64_t client = 0; client < CLIENTS; client++)
        before[client] = pick_for(&world, client);
    for (size_t i = 0; i < 5; i++)
        world.backends[i].usable = 0;
    publish(&world, L4LB_MAGLEV, 2 * N);
    for (uint64_t client = 0; client < CLIENTS; client++) {
        during[client] = pick_for(&world, client);
        gone += during[client] >= N;
        counts[during[client]]++;
        /* One whose backend is there stays with it, or leaves the tier. */
        if (during[client] < N && before[client] >= 5) {
            CHECK_EQ(during[client], before[client]);
            moved++;
        }
    }
    CHECK(gone > CLIENTS * 28 / 100 && gone < CLIENTS * 32 / 100);
    CHECK(moved > CLIENTS / 2 * 65 / 100);
    /* Who goes does not follow from where it was: all are left by as many, and all are found by as many. */
    for (size_t i = 5; i < N; i++)
        CHECK(counts[i] > CLIENTS * 14 / 100 * 80 / 100 && counts[i] < CLIENTS * 14 / 100 * 120 / 100);
    for (size_t i = N; i < 2 * N; i++)
        CHECK(counts[i] > CLIENTS * 3 / 100 * 75 / 100 && counts[i] < CLIENTS * 3 / 100 * 125 / 100);
    for (uint64_t client = 0; client < CLIENTS; client++)
        CHECK_EQ(pick_for(&world, client), during[client]);
    for (size_t i = 0; i < 2; i++)
        world.backends[i].usable = 1;
    publish(&world, L4LB_MAGLEV, 2 * N);
    for (uint64_t client = 0; client < CLIENTS; client++)
        CHECK(during[client] >= N || pick_for(&world, client) < N);
    for (size_t i = 2; i < 5; i++)
        world.backends[i].usable = 1;
    publish(&world, L4LB_MAGLEV, 2 * N);
    for (uint64_t client = 0; client < CLIENTS; client++)
        CHECK_EQ(pick_for(&world, client), before[client]);
    world_fini(&world);
}

TEST(maglev_tables_that_stay_the_same_are_not_built_again) {
    static struct world world;
    const struct lb_maglev_table *tables[8];
    uint32_t n = 0;

    world_init(&world, 8);
    for (size_t i = 0; i < 8; i++)
        place(&world, i, i >= 6, (uint32_t)i % 3);
    publish(&world, L4LB_MAGLEV, 8);
    n = world.pool->failover->n_groups;
    CHECK_EQ(n, 5);
    for (uint32_t i = 0; i < n; i++)
        tables[i] = world.pool->failover->groups[i].table;
    world.backends[1].usable = 0;
    publish(&world, L4LB_MAGLEV, 8);
    for (uint32_t i = 0; i < n; i++)
        CHECK(world.pool->failover->groups[i].table == tables[i]);
    world.backends[1].weight = 5;
    publish(&world, L4LB_MAGLEV, 8);
    for (uint32_t i = 0; i < n; i++) {
        const struct lb_group *group = &world.pool->failover->groups[i];
        CHECK_EQ(group->table == tables[i], group->tier == 1 || group->zone == 2);
    }
    world_fini(&world);
}

TEST(the_bound_of_a_load_is_that_of_the_group) {
    static struct world world;
    uint32_t most = 0;

    world_init(&world, 8);
    world.max_load = 150;
    for (size_t i = 0; i < 8; i++)
        place(&world, i, i >= 4, 0);
    publish(&world, L4LB_MAGLEV, 8);
    /* One client alone would fill one backend; sessions elsewhere make no room for it. */
    atomic_store(&world.pool->shared->sessions, 100000);
    for (int i = 0; i < 400; i++) {
        int at = pick_for(&world, 7);
        CHECK(at >= 0 && at < 4);
    }
    for (size_t i = 0; i < 4; i++)
        most = LB_MAX(most, connections(&world, i));
    CHECK(most <= 151 && most >= 100);
    world_fini(&world);
}

TEST_MAIN()
