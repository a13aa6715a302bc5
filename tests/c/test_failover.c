/* SPDX-License-Identifier: Apache-2.0 */
/* Groups of a pool, the order in which they are tried, and the share of each. */
#include "tiers.h"

#include <math.h>

/* ---- shares against a model in real numbers ---------------------------------------------------------------------- */

enum { STEPS_MODEL_MAX = 12 };

/* What stays at each step, of clients that are 1 in all. */
static void model_shares(const struct lb_group *groups, uint32_t n, double stays[STEPS_MODEL_MAX]) {
    double all = 0, of_tier = 0;

    for (uint32_t i = 0; i < n; i++) {
        double share = fmin(1.0, 1.4 * groups[i].n_usable / groups[i].n_members);
        if (i == 0 || groups[i].tier != groups[i - 1].tier)
            of_tier = 0;
        stays[i] = fmin(fmax(share - of_tier, 0), 1 - all);
        of_tier += stays[i];
        all += stays[i];
    }
    for (uint32_t i = 0; i < n; i++)
        stays[i] /= all;
}

static double stays_at(const struct lb_preference *preference, uint32_t i) {
    uint64_t before = i == 0 ? 0 : preference->choices[i - 1].share_end;
    return (double)(preference->choices[i].share_end - before) / (double)LB_FAILOVER_ALL;
}

TEST(shares_are_those_of_the_model) {
    struct check_random random = {1};

    for (int round = 0; round < 20000; round++) {
        struct lb_group groups[STEPS_MODEL_MAX];
        struct lb_choice choices[STEPS_MODEL_MAX];
        struct lb_preference preference = {.choices = choices,
                                           .n_choices = 1 + check_random_below(&random, STEPS_MODEL_MAX)};
        double stays[STEPS_MODEL_MAX];
        uint32_t tier = 0;
        for (uint32_t i = 0; i < preference.n_choices; i++) {
            uint32_t most = check_random_below(&random, 2) ? 3 : LB_BACKEND_SLOTS;
            tier += check_random_below(&random, 2);
            groups[i] = (struct lb_group){.tier = tier, .n_members = 1 + check_random_below(&random, most)};
            groups[i].n_usable = 1 + check_random_below(&random, groups[i].n_members);
            choices[i] = (struct lb_choice){.group = &groups[i]};
        }
        lb_failover_share(&preference);
        model_shares(groups, preference.n_choices, stays);
        for (uint32_t i = 0; i < preference.n_choices; i++)
            CHECK(fabs(stays_at(&preference, i) - stays[i]) < 1e-6);
        CHECK(LB_FAILOVER_ALL - choices[preference.n_choices - 1].share_end <= 1);
        /* A client below a limit and not below the one before begins there; none falls out at the end. */
        for (int i = 0; i < 20; i++) {
            uint64_t point = check_random_next(&random) >> 32;
            uint32_t first = lb_preference_first(&preference, point);
            CHECK(first < preference.n_choices && (first == 0 || point >= choices[first - 1].share_end));
            CHECK(first + 1 == preference.n_choices || point < choices[first].share_end);
        }
    }
}

/* The table of docs/concepts/failover.md: two tiers of ten. */
TEST(shares_of_two_tiers_are_those_of_the_documentation) {
    static const struct {
        uint32_t usable[2];
        double stays[2];
    } rows[] = {{{10, 10}, {1, 0}},    {{8, 10}, {1, 0}},       {{7, 10}, {0.98, 0.02}},
                {{5, 10}, {0.7, 0.3}}, {{2, 10}, {0.28, 0.72}}, {{5, 1}, {0.7 / 0.84, 0.14 / 0.84}},
                {{1, 1}, {0.5, 0.5}}};

    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        struct lb_group groups[2] = {{.tier = 0, .n_members = 10, .n_usable = rows[row].usable[0]},
                                     {.tier = 1, .n_members = 10, .n_usable = rows[row].usable[1]}};
        struct lb_choice choices[2] = {{.group = &groups[0]}, {.group = &groups[1]}};
        struct lb_preference preference = {.choices = choices, .n_choices = 2};
        lb_failover_share(&preference);
        for (uint32_t i = 0; i < 2; i++)
            CHECK(fabs(stays_at(&preference, i) - rows[row].stays[i]) < 1e-6);
    }
}

/* ---- what a way is ----------------------------------------------------------------------------------------------- */

/* The backends of a tier, or of a zone in it, as sets. */
struct set {
    bool has[BACKENDS_MAX];
    uint32_t n, n_usable, n_members;
};

static struct set select_set(const struct world *world, size_t n, uint32_t tier, uint32_t zone) {
    struct set set = {0};

    for (size_t i = 0; i < n; i++) {
        const struct l4lb_backend_config *backend = &world->backends[i];
        set.has[i] = backend->tier == tier && (zone == 0 || backend->zone == zone);
        set.n += set.has[i];
        set.n_members += set.has[i] && backend->weight > 0;
        set.n_usable += set.has[i] && is_usable(world, i);
    }
    return set;
}

static void check_step(const struct world *world, const struct lb_choice *step, const struct set *set) {
    CHECK_EQ(step->group->n_backends, set->n);
    CHECK_EQ(step->group->n_members, set->n_members);
    CHECK_EQ(step->group->n_usable, set->n_usable);
    for (uint32_t i = 0; i < step->group->n_backends; i++) {
        const struct lb_backend *backend = &step->group->backends[i];
        CHECK(set->has[configured(world, (int)backend->index)]);
        CHECK_EQ(backend->slot, world->pool->backends[backend->index].slot);
        CHECK(i == 0 || backend->index > step->group->backends[i - 1].index);
    }
}

static void check_way(const struct world *world, size_t n, uint32_t tiers, uint32_t zone) {
    const struct lb_preference *preference = lb_failover_preference(world->pool->failover, zone);
    uint32_t at = 0;

    for (uint32_t tier = 0; tier < tiers; tier++) {
        struct set local = select_set(world, n, tier, zone), all = select_set(world, n, tier, 0);
        if (zone != 0 && local.n_usable > 0 && local.n < all.n)
            check_step(world, &preference->choices[at++], &local);
        if (all.n_usable > 0)
            check_step(world, &preference->choices[at++], &all);
    }
    CHECK_EQ(preference->n_choices, at);
}

TEST(a_way_leads_from_the_own_zone_to_all_of_the_tier_and_on_to_the_next) {
    enum { N = 24, TIERS = 4, ZONES = 3 };
    static struct world world;
    struct check_random random = {2};

    world_init(&world, N);
    for (int round = 0; round < 2000; round++) {
        size_t n = 1 + check_random_below(&random, N);
        randomize(&world, &random, n, TIERS, ZONES);
        publish(&world, (enum l4lb_balance)check_random_below(&random, (int)L4LB_N_BALANCE), n);
        for (uint32_t zone = 0; world.pool->failover != NULL && zone <= ZONES; zone++)
            check_way(&world, n, TIERS, zone);
    }
    world_fini(&world);
}

TEST(one_tier_and_one_zone_are_one_group) {
    static struct world world;

    world_init(&world, 4);
    for (uint32_t zone = 0; zone < 2; zone++) {
        for (uint32_t tier = 0; tier < 4; tier += 3) {
            for (size_t i = 0; i < 4; i++)
                place(&world, i, tier, zone);
            publish(&world, L4LB_ROUND_ROBIN, 4);
            CHECK(world.pool->failover == NULL);
            CHECK_EQ(pick_from(&world, 1, 0) >= 0, 1);
        }
    }
    place(&world, 2, 0, 2);
    publish(&world, L4LB_ROUND_ROBIN, 4);
    CHECK(world.pool->failover != NULL);
    world_fini(&world);
}

TEST(backends_of_a_tier_keep_the_order_they_were_given) {
    static const int order[] = {1, 3, 5, 0, 2, 4};
    static struct world world;

    world_init(&world, 6);
    for (size_t i = 0; i < 6; i++) {
        place(&world, i, i % 2 == 0, (uint32_t)i % 3);
        world.backends[i].connections_max = 1;
    }
    publish(&world, L4LB_FIRST, 6);
    for (size_t i = 0; i < 6; i++)
        CHECK_EQ(pick_for(&world, 0), order[i]);
    world_fini(&world);
}

TEST(tiers_and_zones_beyond_their_bounds_are_refused) {
    static struct world world;

    world_init(&world, 3);
    place(&world, 1, LB_TIERS_MAX, 0);
    CHECK_EQ(try_publish(&world, L4LB_RANDOM, 3), -EINVAL);
    place(&world, 1, LB_TIERS_MAX - 1, LB_ZONES_MAX + 1);
    CHECK_EQ(try_publish(&world, L4LB_RANDOM, 3), -EINVAL);
    place(&world, 1, LB_TIERS_MAX - 1, LB_ZONES_MAX);
    CHECK_EQ(try_publish(&world, L4LB_RANDOM, 3), 0);
    world_fini(&world);
}

TEST(every_zone_there_can_be_has_its_way) {
    static struct world world;

    for (uint32_t from = 1; from <= LB_ZONES_MAX; from += BACKENDS_MAX - 1) {
        world_init(&world, BACKENDS_MAX);
        for (uint32_t i = 0; i < BACKENDS_MAX; i++)
            place(&world, i, 0, LB_MIN(from + i, (uint32_t)LB_ZONES_MAX));
        publish(&world, L4LB_MAGLEV, BACKENDS_MAX);
        for (uint32_t i = 0; i < BACKENDS_MAX; i++) {
            uint32_t zone = world.backends[i].zone;
            CHECK_EQ(world.backends[pick_from(&world, zone, i)].zone, zone);
        }
        world_fini(&world);
    }
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

TEST(pools_change_between_one_group_and_many) {
    enum { N = 20 };
    static struct world world;
    struct check_random random = {4};

    world_init(&world, N);
    for (int round = 0; round < 1000; round++) {
        uint32_t tiers = 1 + check_random_below(&random, 3), zones = check_random_below(&random, 3);
        size_t n = check_random_below(&random, N + 1);
        int at;
        randomize(&world, &random, n, tiers, zones);
        publish(&world, (enum l4lb_balance)check_random_below(&random, (int)L4LB_N_BALANCE), n);
        at = pick_from(&world, check_random_below(&random, 4), check_random_next(&random));
        CHECK(world.pool->n_usable == 0 ? at == -EAGAIN : at >= 0);
        if (at >= 0)
            release(&world, at);
    }
    world_fini(&world);
}

TEST_MAIN()
