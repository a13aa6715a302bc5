/* SPDX-License-Identifier: Apache-2.0 */
/* The limit of a backend that is cold, and when it ends. */
#include "requests.h"

/* ---- cold backends ----------------------------------------------------------------------------------------------- */

static uint32_t taken(struct world *world) {
    uint32_t n = 0;

    while (n < 100 && lb_balance_pick(world->pool, &new_session, &world->rng) >= 0)
        n++;
    return n;
}

TEST(a_cold_backend_takes_no_more_than_its_limit_until_it_has_responded) {
    static const struct {
        uint32_t busy_max, cold_busy_max, cold, warm;
    } cases[] = {{0, 2, 2, 100}, {8, 2, 2, 8}, {2, 8, 2, 2}, {8, 0, 8, 8}, {0, 0, 100, 100}};

    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
            static struct world world;
            follow(&world, 1);
            world.queue_size = 1;
            world.backends[0].busy_max = cases[i].busy_max;
            world.backends[0].cold_busy_max = cases[i].cold_busy_max;
            publish(&world, (enum l4lb_balance)balance, 1);
            atomic_store(&shared(&world, 0)->cold_left, 2);
            CHECK_EQ(taken(&world), cases[i].cold);
            CHECK_EQ(lb_balance_has_capacity(world.pool, &new_session), cases[i].cold == 100);
            CHECK(!lb_backend_responded(shared(&world, 0)));
            CHECK_EQ(taken(&world), cases[i].cold == 100 ? 100 : 0);
            CHECK(lb_backend_responded(shared(&world, 0)));
            set_turns(&world, 0, 0);
            CHECK_EQ(taken(&world), cases[i].warm);
            CHECK(!lb_backend_responded(shared(&world, 0)));
            CHECK_EQ(atomic_load(&shared(&world, 0)->cold_left), 0);
            world_fini(&world);
        }
    }
}

TEST(without_a_queue_a_cold_backend_is_better_than_none) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        follow(&world, 3);
        for (size_t i = 0; i < 3; i++)
            world.backends[i].busy_max = 5;
        world.backends[0].cold_busy_max = 1;
        publish(&world, (enum l4lb_balance)balance, 3);
        atomic_store(&shared(&world, 0)->cold_left, 3);
        for (int i = 0; i < 11; i++)
            CHECK(lb_balance_pick(world.pool, &new_session, &world.rng) >= 0);
        for (size_t i = 0; i < 3; i++)
            CHECK_EQ(turns_of(&world, i), i == 0 ? 1 : 5); /* the limit counts while there is another backend */
        for (uint32_t i = 2; i <= 5; i++) {
            CHECK_EQ(lb_balance_pick(world.pool, &new_session, &world.rng), 0);
            CHECK_EQ(turns_of(&world, 0), i);
        }
        CHECK_EQ(lb_balance_pick(world.pool, &new_session, &world.rng), -EAGAIN);
        world_fini(&world);
    }
}

TEST(a_request_leaves_a_cold_backend_that_is_full) {
    static struct world world;
    struct lb_balance_request request;

    follow(&world, 2);
    world.backends[0].cold_busy_max = 1;
    publish(&world, L4LB_LEAST_BUSY, 2);
    atomic_store(&shared(&world, 0)->cold_left, 3);
    request = one_more(&world, 0);
    set_turns(&world, 1, 6);
    CHECK_EQ(place_request(&world, &request), 0);
    CHECK_EQ(pick_request(&world, &request), 1);
    atomic_store(&shared(&world, 0)->cold_left, 0);
    CHECK_EQ(pick_request(&world, &request), 0);
    world_fini(&world);
}

struct responder {
    struct lb_backend_shared *backend;
    uint32_t warmed;
};

static void *respond(void *arg) {
    struct responder *responder = arg;

    for (int i = 0; i < 1000; i++)
        responder->warmed += lb_backend_responded(responder->backend);
    return NULL;
}

TEST(exactly_one_response_makes_a_backend_warm) {
    static struct lb_backend_shared backend;
    struct responder responders[3];
    pthread_t threads[3];
    uint32_t warmed = 0;

    atomic_store(&backend.cold_left, 2500);
    for (int i = 0; i < 3; i++) {
        responders[i] = (struct responder){.backend = &backend};
        CHECK_EQ(pthread_create(&threads[i], NULL, respond, &responders[i]), 0);
    }
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(pthread_join(threads[i], NULL), 0);
        warmed += responders[i].warmed;
    }
    CHECK_EQ(warmed, 1);
    CHECK_EQ(atomic_load(&backend.cold_left), 0);
}

TEST_MAIN()
