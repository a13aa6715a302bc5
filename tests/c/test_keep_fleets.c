/* SPDX-License-Identifier: Apache-2.0 */
/* The requests of many sessions, in pools that follow HTTP/1: fleets, tiers and zones. */
#include "requests.h"

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

TEST_MAIN()
