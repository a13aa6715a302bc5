/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <errno.h>

/* ---- what every algorithm must do -------------------------------------------------------------------------------- */

TEST(a_pick_takes_a_place_and_nothing_else) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        uint32_t expected[BACKENDS_MAX] = {0};
        world_init(&world, 5);
        publish(&world, (enum l4lb_balance)balance, 5);
        for (uint64_t client = 0; client < 500; client++) {
            int at = pick_for(&world, client);
            CHECK(at >= 0 && at < 5);
            expected[at]++;
        }
        for (size_t i = 0; i < 5; i++)
            CHECK_EQ(connections(&world, i), expected[i]);
        world_fini(&world);
    }
}

TEST(backends_without_weight_or_not_usable_get_nothing) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        uint32_t counts[BACKENDS_MAX];
        world_init(&world, 6);
        world.backends[0].usable = world.backends[3].usable = 0;
        world.backends[1].weight = 0;
        publish(&world, (enum l4lb_balance)balance, 6);
        shares(&world, 2000, counts);
        CHECK_EQ(counts[0] + counts[1] + counts[3], 0);
        CHECK_EQ(counts[2] + counts[4] + counts[5], 2000);
        world_fini(&world);
    }
}

TEST(without_a_usable_backend_there_is_no_answer) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        world_init(&world, 2);
        publish(&world, (enum l4lb_balance)balance, 0);
        CHECK_EQ(pick_for(&world, 1), -EAGAIN);
        world.backends[0].usable = 0;
        world.backends[1].weight = 0;
        publish(&world, (enum l4lb_balance)balance, 2);
        CHECK_EQ(pick_for(&world, 1), -EAGAIN);
        world_fini(&world);
    }
}

TEST(a_limit_is_filled_and_never_exceeded) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        world_init(&world, 4);
        for (size_t i = 0; i < 4; i++)
            world.backends[i].connections_max = (uint32_t)(3 * i + 1);
        publish(&world, (enum l4lb_balance)balance, 4);
        for (uint64_t client = 0; client < 1 + 4 + 7 + 10; client++)
            CHECK(pick_for(&world, client) >= 0);
        for (size_t i = 0; i < 4; i++)
            CHECK_EQ(connections(&world, i), 3 * i + 1);
        CHECK_EQ(pick_for(&world, 99), -EAGAIN);
        release(&world, 2);
        CHECK_EQ(pick_for(&world, 100), 2);
        CHECK_EQ(pick_for(&world, 101), -EAGAIN);
        world_fini(&world);
    }
}

TEST(tried_backends_are_passed_over_while_another_will_do) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        world_init(&world, 5);
        world.backends[0].weight = 1000;
        publish(&world, (enum l4lb_balance)balance, 5);
        for (uint64_t client = 0; client < 300; client++) {
            struct lb_balance_request request = {.hash = lb_hash_mix(client)};
            bool seen[5] = {false};
            while (request.n_tried < LB_TRIED_MAX) {
                int at = lb_balance_pick(world.pool, &request, &world.rng);
                CHECK(at >= 0 && !seen[at]);
                seen[at] = true;
                request.last_tried = request.tried[request.n_tried++] = world.backends[at].slot;
                release(&world, at);
            }
        }
        world_fini(&world);
    }
}

TEST(when_all_were_tried_anyone_but_the_last_gets_a_second_chance) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        struct lb_balance_request request = {.n_tried = 3};
        world_init(&world, 3);
        publish(&world, (enum l4lb_balance)balance, 3);
        for (uint32_t i = 0; i < 3; i++)
            request.last_tried = request.tried[i] = world.backends[i].slot;
        for (uint64_t client = 0; client < 200; client++) {
            int at;
            request.hash = lb_hash_mix(client);
            at = lb_balance_pick(world.pool, &request, &world.rng);
            CHECK(at == 0 || at == 1);
            release(&world, at);
        }
        world_fini(&world);
    }
}

TEST(the_only_backend_is_tried_again_and_again) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        struct lb_balance_request request = {.n_tried = 1};
        world_init(&world, 3);
        world.backends[0].usable = world.backends[2].usable = 0;
        publish(&world, (enum l4lb_balance)balance, 3);
        request.last_tried = request.tried[0] = world.backends[1].slot;
        for (uint64_t i = 0; i < 5; i++)
            CHECK_EQ(lb_balance_pick(world.pool, &request, &world.rng), 1);
        world_fini(&world);
    }
}

TEST(a_backend_of_large_weight_that_is_full_does_not_hide_the_others) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        world_init(&world, 3);
        world.backends[0].weight = 65535;
        world.backends[0].connections_max = 1;
        publish(&world, (enum l4lb_balance)balance, 3);
        for (uint64_t client = 0; client < 50; client++)
            CHECK(pick_for(&world, client) >= 0);
        CHECK(connections(&world, 0) <= 1);
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
    for (uint64_t client = 0; client < 3000; client++) {
        struct lb_balance_request request = {.hash = lb_hash_mix(client ^ racer->seed)};
        racer->taken += lb_balance_pick(racer->world->pool, &request, &rng) >= 0;
    }
    return NULL;
}

static void check_race(enum l4lb_balance balance, bool by_connections, bool by_turns) {
    static struct world world;
    struct racer racers[3];
    pthread_t threads[3];
    uint32_t taken = 0;

    world_init(&world, 5);
    for (size_t i = 0; i < 5; i++) {
        world.backends[i].connections_max = by_connections ? (uint32_t)(700 + 100 * i) : 0;
        world.backends[i].busy_max = by_turns ? (uint32_t)(700 + 100 * i) : 0;
    }
    publish(&world, balance, 5);
    for (uint64_t i = 0; i < 3; i++) {
        racers[i] = (struct racer){.world = &world, .seed = i << 40};
        CHECK_EQ(pthread_create(&threads[i], NULL, race, &racers[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        taken += racers[i].taken;
    }
    CHECK_EQ(taken, 700 + 800 + 900 + 1000 + 1100);
    for (size_t i = 0; i < 5; i++) {
        CHECK_EQ(connections(&world, i), 700 + 100 * i);
        CHECK_EQ(atomic_load(&shared(&world, i)->turns), 700 + 100 * i);
    }
    world_fini(&world);
}

TEST(threads_together_fill_every_limit_exactly) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        check_race((enum l4lb_balance)balance, true, false);
        check_race((enum l4lb_balance)balance, false, true);
        check_race((enum l4lb_balance)balance, true, true);
    }
}

TEST_MAIN()
