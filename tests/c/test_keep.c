/* SPDX-License-Identifier: Apache-2.0 */
/* Picks for one more request of a session, in pools that follow HTTP/1: when it moves, and what it reserves. */
#include "tiers.h"

#include <sys/mman.h>

static bool keeps(enum l4lb_balance balance) { return balance != L4LB_MAGLEV && balance != L4LB_FIRST; }

static void follow(struct world *world, size_t n) {
    world_init(world, n);
    world->protocol = L4LB_PROTOCOL_HTTP1;
}

static void set_turns(struct world *world, size_t i, uint32_t turns) { atomic_store(&shared(world, i)->turns, turns); }

static uint32_t turns_of(struct world *world, size_t i) { return atomic_load(&shared(world, i)->turns); }

/* A request of a session whose latest one went to backend `current`, where it has a connection. */
static struct lb_balance_request one_more(const struct world *world, size_t current) {
    uint32_t slot = world->backends[current].slot;
    return (struct lb_balance_request){.has_current = true, .current = slot, .n_held = 1, .held = {slot}};
}

/* Where it goes; its turn stays. */
static int place_request(struct world *world, const struct lb_balance_request *request) {
    return configured(world, lb_balance_pick(world->pool, request, &world->rng));
}

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

/* ---- fleets ------------------------------------------------------------------------------------------------------ */

enum { FLEET = 7, SESSIONS = 60 };

struct client {
    struct lb_balance_request request;
    uint64_t next_ms; /* when the next request comes, or the response ends */
    int at;           /* where the request is; -1 = none */
};

struct fleet {
    struct world world;
    struct client clients[SESSIONS];
    struct check_random random;
    uint32_t service_ms, pause_ms; /* on average */
    uint64_t now_ms, requests, moves;
};

static uint64_t around(struct fleet *fleet, uint32_t ms) { return 1 + check_random_below(&fleet->random, 2 * ms); }

/* All sessions have backend `at`, or the next one each. */
static void fleet_init(struct fleet *fleet, enum l4lb_balance balance, uint32_t n, int at) {
    memset(fleet, 0, sizeof *fleet);
    fleet->random = (struct check_random){77};
    follow(&fleet->world, FLEET);
    publish(&fleet->world, balance, n);
    for (uint32_t i = 0; i < n; i++)
        lb_latency_learn(&shared(&fleet->world, i)->latency, 10000, 0);
    for (uint32_t i = 0; i < SESSIONS; i++) {
        fleet->clients[i] =
            (struct client){.request = one_more(&fleet->world, at >= 0 ? (uint32_t)at : i % n), .at = -1};
        fleet->clients[i].next_ms = check_random_below(&fleet->random, 1000);
    }
}

static void ask(struct fleet *fleet, struct client *client) {
    struct lb_balance_request *request = &client->request;

    client->at = place_request(&fleet->world, request);
    CHECK(client->at >= 0);
    fleet->requests++;
    if (fleet->world.backends[client->at].slot != request->current) {
        fleet->moves++;
        request->current = request->held[0] = fleet->world.backends[client->at].slot;
    }
    client->next_ms = fleet->now_ms + around(fleet, fleet->service_ms);
}

static void run_fleet(struct fleet *fleet, uint32_t ms) {
    fleet->requests = fleet->moves = 0;
    for (uint64_t end_ms = fleet->now_ms + ms; fleet->now_ms < end_ms; fleet->now_ms++) {
        for (struct client *client = fleet->clients; client < fleet->clients + SESSIONS; client++) {
            client->request.now_ms = fleet->now_ms;
            if (fleet->now_ms < client->next_ms)
                continue;
            if (client->at < 0) {
                ask(fleet, client);
                continue;
            }
            lb_capacity_release(&shared(&fleet->world, (size_t)client->at)->turns);
            client->at = -1;
            client->next_ms = fleet->now_ms + around(fleet, fleet->pause_ms);
        }
    }
}

TEST(sessions_that_ask_once_in_a_while_hardly_ever_move) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct fleet fleet;
        if (!keeps((enum l4lb_balance)balance))
            continue;
        fleet_init(&fleet, (enum l4lb_balance)balance, FLEET, -1);
        fleet.service_ms = 5;
        fleet.pause_ms = 5000;
        run_fleet(&fleet, 200000);
        CHECK(fleet.requests > 2000);
        CHECK(fleet.moves * 50 < fleet.requests);
        world_fini(&fleet.world);
    }
}

static void turns_range(struct fleet *fleet, uint32_t *least, uint32_t *most) {
    *least = UINT32_MAX;
    *most = 0;
    for (size_t i = 0; i < FLEET; i++) {
        *least = LB_MIN(*least, turns_of(&fleet->world, i));
        *most = LB_MAX(*most, turns_of(&fleet->world, i));
    }
}

/* About 57 of 60 requests are in flight, all of them at one backend at first: 8 each would be even. */
TEST(a_loaded_fleet_evens_out) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct fleet fleet;
        bool is_exact =
            balance == L4LB_LEAST_BUSY || balance == L4LB_LEAST_CONNECTIONS || balance == L4LB_LEAST_LATENCY;
        if (!keeps((enum l4lb_balance)balance))
            continue;
        fleet_init(&fleet, (enum l4lb_balance)balance, FLEET, 0);
        fleet.service_ms = 1000;
        fleet.pause_ms = 50;
        run_fleet(&fleet, 5000);
        for (int i = 0; i < 20; i++) {
            uint32_t least, most;
            run_fleet(&fleet, 100);
            turns_range(&fleet, &least, &most);
            CHECK(is_exact ? least >= 5 && most <= 11 : least >= 3 && most <= 14);
        }
        world_fini(&fleet.world);
    }
}

TEST(a_new_backend_has_its_share_after_one_request_of_each_session) {
    static struct fleet fleet;

    fleet_init(&fleet, L4LB_LEAST_BUSY, FLEET - 1, -1);
    fleet.service_ms = 1000;
    fleet.pause_ms = 50;
    run_fleet(&fleet, 3000);
    CHECK_EQ(turns_of(&fleet.world, FLEET - 1), 0);
    publish(&fleet.world, L4LB_LEAST_BUSY, FLEET);
    run_fleet(&fleet, 2100);
    CHECK(turns_of(&fleet.world, FLEET - 1) >= 5);
    world_fini(&fleet.world);
}

/* ---- tiers and zones --------------------------------------------------------------------------------------------- */

TEST(a_better_tier_wins_and_a_full_one_keeps_nothing) {
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        struct lb_balance_request request;
        int at;
        if (!keeps((enum l4lb_balance)balance))
            continue;
        two_tiers(&world, 3);
        world.protocol = L4LB_PROTOCOL_HTTP1;
        for (size_t i = 0; i < 3; i++)
            world.backends[i].busy_max = 1;
        publish(&world, (enum l4lb_balance)balance, 6);
        request = one_more(&world, 4); /* idle, but of tier 1 */
        at = pick_request(&world, &request);
        CHECK(at >= 0 && at < 3);
        request = one_more(&world, 1);
        CHECK_EQ(pick_request(&world, &request), 1);
        for (size_t i = 0; i < 3; i++)
            set_turns(&world, i, 1);
        request = one_more(&world, 4);
        for (int i = 0; i < 20; i++)
            CHECK_EQ(pick_request(&world, &request), 4);
        world_fini(&world);
    }
}

TEST(a_request_comes_back_to_a_better_tier_on_its_parked_connection) {
    static struct world world;
    struct lb_balance_request request;

    two_tiers(&world, 3);
    world.protocol = L4LB_PROTOCOL_HTTP1;
    publish(&world, L4LB_LEAST_BUSY, 6);
    request = one_more(&world, 4);
    request.held[request.n_held++] = world.backends[2].slot;
    for (int i = 0; i < 20; i++)
        CHECK_EQ(pick_request(&world, &request), 2);
    CHECK_EQ(connections(&world, 2), 0);
    world_fini(&world);
}

/* Half of tier 0 is left, which keeps 70 % of the requests, however long its sessions last. */
TEST(a_tier_that_is_too_small_keeps_its_share_of_requests) {
    enum { PICKS = 20000 };
    for (int balance = 0; balance < (int)L4LB_N_BALANCE; balance++) {
        static struct world world;
        uint32_t first = 0;
        size_t current = 0;
        two_tiers(&world, 4);
        world.protocol = L4LB_PROTOCOL_HTTP1;
        world.backends[2].usable = world.backends[3].usable = 0;
        publish(&world, (enum l4lb_balance)balance, 8);
        for (uint64_t i = 0; i < PICKS; i++) {
            struct lb_balance_request request = one_more(&world, current);
            int at;
            request.hash = lb_hash_mix(i);
            at = pick_request(&world, &request);
            CHECK(at >= 0);
            if ((size_t)at != current)
                release(&world, at);
            current = (size_t)at;
            first += at < 4;
        }
        CHECK(first > PICKS * 68 / 100 && first < PICKS * 72 / 100);
        world_fini(&world);
    }
}

TEST(a_backend_in_a_part_of_its_tier_is_kept) {
    static struct world world;
    struct lb_balance_request request;

    world_init(&world, 9);
    world.protocol = L4LB_PROTOCOL_HTTP1;
    for (size_t i = 0; i < 9; i++)
        place(&world, i, 0, 1 + (uint32_t)i % 3);
    publish(&world, L4LB_ROUND_ROBIN, 9);
    for (size_t i = 0; i < 9; i++) {
        int at;
        request = one_more(&world, i);
        request.zone = 2;
        at = pick_request(&world, &request);
        CHECK(i % 3 == 1 ? at == (int)i : at % 3 == 1);
    }
    world_fini(&world);
}

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
