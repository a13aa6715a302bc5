/* SPDX-License-Identifier: Apache-2.0 */
/* Picks for one more request of a session, in pools that follow HTTP/1: when it moves, and what it reserves. */
#include "requests.h"

#include <sys/mman.h>

/* ---- when it moves ----------------------------------------------------------------------------------------------- */

/* How many of a hundred requests leave backend 0, whose numbers are the same before each of them. */
static int moves_of(struct world *world) {
    struct lb_balance_request request = one_more(world, 0);
    int moves = 0;

    for (int i = 0; i < 100; i++) {
        int at = pick_request(world, &request);
        CHECK(at >= 0);
        if (at != 0)
            release(world, at);
        moves += at != 0;
    }
    return moves;
}

TEST(a_request_moves_only_to_a_backend_that_is_better_by_a_turn_per_weight) {
    static const struct {
        uint32_t weight, turns, other_weight, other_turns;
        bool moves;
    } cases[] = {{1, 0, 1, 0, false}, {1, 1, 1, 0, true},  {1, 1, 1, 1, false},    {1, 2, 1, 1, true},
                 {1, 1, 1, 2, false}, {1, 9, 1, 0, true},  {4, 3, 1, 0, false},    {4, 4, 1, 0, true},
                 {1, 1, 4, 3, true},  {1, 1, 4, 4, false}, {2, 1, 1, 0, false},    {1, 1, 4, 0, true},
                 {3, 2, 2, 0, true},  {3, 1, 2, 0, false}, {4, 8, 4, 7, true},     {4, 8, 4, 8, false},
                 {5, 0, 5, 3, false}, {1, 0, 9, 0, false}, {100, 99, 1, 0, false}, {100, 100, 1, 0, true}};

    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        for (size_t i = 0; keeps((enum l4lb_balance)balance) && i < sizeof cases / sizeof cases[0]; i++) {
            static struct world world;
            int moves;
            follow(&world, 2);
            world.backends[0].weight = cases[i].weight;
            world.backends[1].weight = cases[i].other_weight;
            publish(&world, (enum l4lb_balance)balance, 2);
            for (size_t at = 0; at < 2; at++)
                lb_latency_learn(&shared(&world, at)->latency, 1000, 0);
            set_turns(&world, 0, cases[i].turns);
            set_turns(&world, 1, cases[i].other_turns);
            moves = moves_of(&world);
            /* A random or cyclic pick between a large weight and a small one may be the current backend. */
            CHECK(cases[i].moves ? moves > 0 || cases[i].weight == 100 : moves == 0);
            if (balance == L4LB_LEAST_BUSY || balance == L4LB_LEAST_CONNECTIONS || balance == L4LB_LEAST_LATENCY)
                CHECK_EQ(moves, cases[i].moves ? 100 : 0);
            world_fini(&world);
        }
    }
}

TEST(of_backends_that_differ_in_weight_the_least_loaded_after_the_request_gets_it) {
    static struct world world;
    struct lb_balance_request request;

    follow(&world, 3);
    world.backends[0].weight = world.backends[2].weight = 4;
    publish(&world, L4LB_LEAST_BUSY, 3);
    request = one_more(&world, 0);
    set_turns(&world, 0, 3);
    set_turns(&world, 2, 1);
    /* Backend 1 has the least load now, but would have the most. */
    CHECK_EQ(pick_request(&world, &request), 2);
    world_fini(&world);
}

TEST(where_requests_are_placed_connections_are_no_load) {
    static struct world world;
    struct lb_balance_request request;

    follow(&world, 3);
    publish(&world, L4LB_LEAST_CONNECTIONS, 3);
    atomic_store(&shared(&world, 0)->connections, 50);
    atomic_store(&shared(&world, 1)->connections, 40);
    atomic_store(&shared(&world, 2)->connections, 30);
    request = one_more(&world, 0);
    CHECK_EQ(pick_request(&world, &request), 0);
    set_turns(&world, 0, 1);
    set_turns(&world, 2, 1);
    CHECK_EQ(pick_request(&world, &request), 1);
    CHECK_EQ(pick_for(&world, 1), 1);
    world.protocol = L4LB_PROTOCOL_TCP;
    publish(&world, L4LB_LEAST_CONNECTIONS, 3);
    CHECK_EQ(pick_for(&world, 1), 2);
    world_fini(&world);
}

TEST(of_backends_with_as_many_turns_the_one_without_a_request_for_longest_gets_it) {
    static const enum l4lb_balance balances[] = {L4LB_LEAST_CONNECTIONS, L4LB_LEAST_BUSY};

    for (size_t b = 0; b < sizeof balances / sizeof balances[0]; b++) {
        static struct world world;
        struct lb_balance_request request;
        follow(&world, 4);
        publish(&world, balances[b], 4);
        request = one_more(&world, 0);
        set_turns(&world, 0, 9);
        for (size_t i = 1; i < 4; i++) {
            set_turns(&world, i, 2);
            atomic_store(&shared(&world, i)->placed_ms, 100 * i);
        }
        /* Each pick gives its turn back, but is remembered. */
        for (uint64_t now = 1000; now < 1100; now++) {
            request.now_ms = now;
            CHECK_EQ(pick_request(&world, &request), 1 + (int)((now - 1000) % 3));
        }
        world_fini(&world);
    }
}

TEST(backends_without_turns_share_requests_by_weight) {
    static struct world world;
    struct lb_balance_request request = {.n_held = 0};
    int got[2] = {0};

    follow(&world, 2);
    world.backends[0].weight = 3;
    publish(&world, L4LB_LEAST_BUSY, 2);
    for (request.now_ms = 1000; request.now_ms < 41000; request.now_ms += 100)
        got[quiet(&world, lb_balance_pick(world.pool, &request, &world.rng))]++;
    CHECK(got[0] >= 280 && got[0] <= 320);
    CHECK_EQ(got[0] + got[1], 400);
    world_fini(&world);
}

TEST(least_latency_compares_turns_times_latency) {
    static struct world world;
    struct lb_balance_request request;

    follow(&world, 2);
    publish(&world, L4LB_LEAST_LATENCY, 2);
    lb_latency_learn(&shared(&world, 0)->latency, 100000, 0);
    lb_latency_learn(&shared(&world, 1)->latency, 250000, 0);
    request = one_more(&world, 0);
    set_turns(&world, 0, 2);
    CHECK_EQ(pick_request(&world, &request), 0);
    set_turns(&world, 0, 3);
    CHECK_EQ(pick_request(&world, &request), 1);
    /* Backend 1, far slower but idle, is kept all the same. */
    request = one_more(&world, 1);
    set_turns(&world, 0, 0);
    CHECK_EQ(pick_request(&world, &request), 1);
    set_turns(&world, 1, 1);
    CHECK_EQ(pick_request(&world, &request), 0);
    world_fini(&world);
}

TEST(a_backend_without_a_measurement_gets_one_request_of_a_busy_one) {
    static struct world world;
    struct lb_balance_request request;

    follow(&world, 2);
    publish(&world, L4LB_LEAST_LATENCY, 2);
    lb_latency_learn(&shared(&world, 0)->latency, 100000, 0);
    request = one_more(&world, 0);
    CHECK_EQ(pick_request(&world, &request), 0);
    set_turns(&world, 0, 1);
    CHECK_EQ(place_request(&world, &request), 1);
    set_turns(&world, 0, 20);
    CHECK_EQ(pick_request(&world, &request), 0);
    world_fini(&world);
}

TEST(hashed_and_ordered_pools_pick_for_a_request_what_they_pick_for_a_session) {
    static const enum l4lb_balance rigid[] = {L4LB_MAGLEV, L4LB_FIRST};

    for (size_t i = 0; i < 2; i++) {
        static struct world world;
        follow(&world, 5);
        publish(&world, rigid[i], 5);
        set_turns(&world, 0, 7);
        for (uint64_t client = 0; client < 100; client++) {
            struct lb_balance_request request = one_more(&world, client % 5);
            int home = pick_for(&world, client), at;
            request.hash = lb_hash_mix(client + 1);
            at = pick_request(&world, &request);
            CHECK_EQ(at, home);
        }
        world_fini(&world);
    }
}

TEST(the_bound_of_maglev_counts_turns_where_requests_are_placed) {
    static struct world world;
    struct lb_balance_request request;
    int home;

    follow(&world, 4);
    world.max_load = 125;
    publish(&world, L4LB_MAGLEV, 4);
    home = pick_for(&world, 1);
    request = one_more(&world, (size_t)home);
    request.hash = lb_hash_mix(2);
    atomic_store(&shared(&world, (size_t)home)->connections, 1000);
    CHECK_EQ(pick_request(&world, &request), home);
    for (size_t i = 0; i < 4; i++)
        set_turns(&world, i, 4);
    /* 17 with this request: at most 6 each. */
    set_turns(&world, (size_t)home, 5);
    CHECK_EQ(pick_request(&world, &request), home);
    set_turns(&world, (size_t)home, 6);
    CHECK(pick_request(&world, &request) != home);
    world_fini(&world);
}

/* ---- backends that cannot be kept -------------------------------------------------------------------------------- */

TEST(a_request_leaves_a_backend_that_cannot_take_it) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        struct lb_balance_request request;
        follow(&world, 3);
        world.backends[0].busy_max = 1;
        publish(&world, (enum l4lb_balance)balance, 3);
        request = one_more(&world, 0);
        set_turns(&world, 0, 1); /* full, and the others have more */
        set_turns(&world, 1, 5);
        set_turns(&world, 2, 5);
        CHECK(pick_request(&world, &request) > 0);
        set_turns(&world, 0, 0);
        world.backends[0].usable = 0;
        publish(&world, (enum l4lb_balance)balance, 3);
        CHECK(pick_request(&world, &request) > 0);
        world.backends[0].usable = 1;
        publish(&world, (enum l4lb_balance)balance, 3);
        request.n_tried = 1;
        request.last_tried = request.tried[0] = world.backends[0].slot;
        CHECK(pick_request(&world, &request) > 0);
        request.n_tried = 0;
        request.current = request.held[0] = 12345; /* not in the pool */
        CHECK(pick_request(&world, &request) >= 0);
        request.current = request.held[0] = UINT32_MAX;
        CHECK(pick_request(&world, &request) >= 0);
        world_fini(&world);
    }
}

TEST(a_request_of_zeros_has_no_current_backend) {
    static struct world world;
    struct lb_balance_request request = {.n_held = 0};

    follow(&world, 2);
    world.backends[0].slot = 0;
    publish(&world, L4LB_LEAST_BUSY, 2);
    atomic_store(&shared(&world, 0)->placed_ms, 1);
    request.now_ms = 1;
    CHECK_EQ(quiet(&world, lb_balance_pick(world.pool, &request, &world.rng)), 1);
    request.has_current = true;
    CHECK_EQ(quiet(&world, lb_balance_pick(world.pool, &request, &world.rng)), 0);
    world_fini(&world);
}

/* ---- what is reserved -------------------------------------------------------------------------------------------- */

TEST(a_request_needs_no_connection_where_the_session_has_one) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        struct lb_balance_request request;
        follow(&world, 2);
        world.backends[0].connections_max = 3;
        world.backends[1].usable = 0;
        publish(&world, (enum l4lb_balance)balance, 2);
        atomic_store(&shared(&world, 0)->connections, 3);
        request = one_more(&world, 0);
        CHECK(!lb_balance_has_capacity(world.pool, &new_session));
        CHECK_EQ(lb_balance_pick(world.pool, &new_session, &world.rng), -EAGAIN);
        CHECK_EQ(lb_balance_reserve_at(world.pool, &new_session, 0), -EAGAIN);
        CHECK(lb_balance_has_capacity(world.pool, &request));
        CHECK_EQ(lb_balance_pick(world.pool, &request, &world.rng), 0);
        CHECK_EQ(lb_balance_reserve_at(world.pool, &request, 0), 0);
        CHECK_EQ(connections(&world, 0), 3);
        CHECK_EQ(turns_of(&world, 0), 2);
        request.n_held = 0; /* the backend closed its connection */
        CHECK(!lb_balance_has_capacity(world.pool, &request));
        CHECK_EQ(lb_balance_pick(world.pool, &request, &world.rng), -EAGAIN);
        CHECK_EQ(turns_of(&world, 0), 2);
        world_fini(&world);
    }
}

TEST(a_request_that_moves_reserves_a_connection_unless_one_is_parked_there) {
    static struct world world;
    struct lb_balance_request request;

    follow(&world, 3);
    world.backends[1].connections_max = world.backends[2].connections_max = 1;
    publish(&world, L4LB_LEAST_BUSY, 3);
    set_turns(&world, 0, 5);
    request = one_more(&world, 0);
    request.held[request.n_held++] = world.backends[2].slot;
    atomic_store(&shared(&world, 1)->connections, 1); /* full */
    atomic_store(&shared(&world, 2)->connections, 1); /* full too, but the session's own */
    CHECK_EQ(place_request(&world, &request), 2);
    CHECK_EQ(connections(&world, 2), 1);
    CHECK_EQ(turns_of(&world, 2), 1);
    atomic_store(&shared(&world, 1)->connections, 0);
    CHECK_EQ(place_request(&world, &request), 1);
    CHECK_EQ(connections(&world, 1), 1);
    CHECK_EQ(turns_of(&world, 1), 1);
    world_fini(&world);
}

TEST(a_new_connection_has_to_win_a_turn_over_every_open_one) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        struct lb_balance_request request;
        if (!keeps((enum l4lb_balance)balance))
            continue;
        follow(&world, 3);
        publish(&world, (enum l4lb_balance)balance, 3);
        for (size_t i = 0; i < 3; i++)
            lb_latency_learn(&shared(&world, i)->latency, 1000, 0);
        request = one_more(&world, 0);
        request.held[request.n_held++] = world.backends[1].slot;
        set_turns(&world, 0, 5);
        set_turns(&world, 1, 2);
        set_turns(&world, 2, 2);
        for (int i = 0; i < 50; i++)
            CHECK_EQ(pick_request(&world, &request), 1);
        set_turns(&world, 2, 0);
        request.held_only = true;
        for (int i = 0; i < 50; i++)
            CHECK_EQ(pick_request(&world, &request), 1);
        set_turns(&world, 1, 5);
        for (int i = 0; i < 50; i++)
            CHECK_EQ(pick_request(&world, &request), 0);
        world_fini(&world);
    }
}

TEST(a_parked_connection_stands_in_for_a_current_backend_that_is_full) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        struct lb_balance_request request;
        if (!keeps((enum l4lb_balance)balance))
            continue;
        follow(&world, 7);
        world.backends[0].busy_max = 1;
        publish(&world, (enum l4lb_balance)balance, 7);
        for (size_t i = 0; i < 7; i++)
            lb_latency_learn(&shared(&world, i)->latency, 1000, 0);
        set_turns(&world, 0, 1);
        request = one_more(&world, 0);
        request.held[request.n_held++] = world.backends[5].slot;
        for (int i = 0; i < 50; i++)
            CHECK_EQ(pick_request(&world, &request), 5);
        CHECK_EQ(connections(&world, 5), 0);
        world_fini(&world);
    }
}

TEST(an_idle_backend_is_kept_without_a_look_at_the_others) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        const long page = sysconf(_SC_PAGESIZE);
        struct lb_balance_request request;
        char *others;
        if (!keeps((enum l4lb_balance)balance))
            continue;
        follow(&world, 4);
        for (uint32_t i = 1; i < 4; i++)
            world.backends[i].slot = 1024 + i; /* in another page than backend 0 */
        publish(&world, (enum l4lb_balance)balance, 4);
        request = one_more(&world, 0);
        others = (char *)((uintptr_t)shared(&world, 1) / (uintptr_t)page * (uintptr_t)page);
        CHECK((char *)shared(&world, 0) < others && (char *)shared(&world, 3) < others + page);
        CHECK_OK(mprotect(others, (size_t)page, PROT_NONE));
        for (int i = 0; i < 20; i++)
            CHECK_EQ(quiet(&world, lb_balance_pick(world.pool, &request, &world.rng)), 0);
        CHECK_OK(mprotect(others, (size_t)page, PROT_READ | PROT_WRITE));
        CHECK_EQ(atomic_load(&world.pool->shared->cursor.next), 0);
        world_fini(&world);
    }
}

/* ---- many workers ------------------------------------------------------------------------------------------------ */

enum { RACERS = 4, RACED = 2, ROUNDS = 20000 };

struct racer {
    struct world *world;
    atomic_uint *serving; /* by backend, as its server would count */
    uint64_t seed;
    uint64_t served;
};

/* A session that asks without a pause. */
static void *ask_on(void *arg) {
    struct racer *racer = arg;
    struct world *world = racer->world;
    struct lb_balance_request request = {.hash = lb_hash_mix(racer->seed)};
    struct lb_rng rng;

    lb_rng_init(&rng, racer->seed);
    for (uint64_t i = 0; i < ROUNDS; i++) {
        int at = lb_balance_pick(world->pool, &request, &rng);
        const struct lb_backend *backend;
        if (at < 0)
            continue;
        backend = &world->pool->backends[at];
        CHECK(atomic_fetch_add(&racer->serving[at], 1) < backend->busy_max);
        CHECK(atomic_load(&backend->shared->connections) <= backend->connections_max);
        racer->served++;
        (void)atomic_fetch_sub(&racer->serving[at], 1);
        lb_capacity_release(&backend->shared->turns);
        /* The session keeps this connection, and no other one. */
        if (request.n_held > 0 && request.held[0] != backend->slot)
            lb_capacity_release(&world->shared.backends[request.held[0]].connections);
        request.held[0] = request.current = backend->slot;
        request.n_held = 1;
        request.has_current = true;
        request.hash = lb_hash_mix(request.hash);
    }
    if (request.n_held > 0)
        lb_capacity_release(&world->shared.backends[request.held[0]].connections);
    return NULL;
}

TEST(no_limit_is_exceeded_however_many_workers_place_requests) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        static atomic_uint serving[RACED];
        struct racer racers[RACERS];
        pthread_t threads[RACERS];
        follow(&world, RACED);
        for (size_t i = 0; i < RACED; i++) {
            world.backends[i].busy_max = 1;
            world.backends[i].connections_max = 3;
        }
        publish(&world, (enum l4lb_balance)balance, RACED);
        for (uint64_t i = 0; i < RACERS; i++) {
            racers[i] = (struct racer){.world = &world, .serving = serving, .seed = i << 32};
            CHECK_EQ(pthread_create(&threads[i], NULL, ask_on, &racers[i]), 0);
        }
        for (int i = 0; i < RACERS; i++) {
            CHECK_EQ(pthread_join(threads[i], NULL), 0);
            CHECK(racers[i].served > 0);
        }
        for (size_t i = 0; i < RACED; i++) {
            CHECK_EQ(connections(&world, i), 0);
            CHECK_EQ(turns_of(&world, i), 0);
        }
        world_fini(&world);
    }
}

TEST_MAIN()
