/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>

#include "base/base.h"
#include "base/hash.h"
#include "structures/maglev.h"

enum { NAMES = 64, NAME_BYTES = 40 };

/* ---- the model: permutations written out, turns counted ---------------------------------------------------------- */

/* Position k of a member's permutation, from the paper: (offset + k * skip) mod size. */
static uint32_t permuted(const char *name, uint64_t k, uint32_t size) {
    uint64_t offset = lb_hash_bytes(name, strlen(name), 0) % size;
    uint64_t skip = lb_hash_bytes(name, strlen(name), 1) % (size - 1) + 1;
    return (uint32_t)((offset + k * skip) % size);
}

/* Turns a member has had after so many rounds: one in the first, then one whenever its weights add up to another. */
static uint64_t turns_after(uint64_t rounds, uint32_t weight, uint32_t heaviest) {
    return rounds == 0 ? 0 : 1 + (rounds - 1) * weight / heaviest;
}

/* Members in order of name; equal names in the caller's order. */
static size_t in_order(const struct lb_maglev_member *members, size_t n, size_t *order) {
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        size_t at = count;
        if (members[i].weight == 0)
            continue;
        for (; at > 0 && strcmp(members[order[at - 1]].name, members[i].name) > 0; at--)
            order[at] = order[at - 1];
        order[at] = i;
        count++;
    }
    return count;
}

static void model(uint32_t *table, uint32_t size, const struct lb_maglev_member *members, size_t n) {
    size_t order[NAMES], count = in_order(members, n, order);
    uint64_t next[NAMES] = {0};
    uint32_t filled = 0, heaviest = 0;

    for (size_t i = 0; i < n; i++)
        heaviest = LB_MAX(heaviest, members[i].weight);
    for (uint32_t slot = 0; slot < size; slot++)
        table[slot] = UINT32_MAX;
    for (uint64_t round = 1;; round++) {
        for (size_t i = 0; i < count; i++) {
            const struct lb_maglev_member *member = &members[order[i]];
            uint32_t slot;
            if (turns_after(round, member->weight, heaviest) == turns_after(round - 1, member->weight, heaviest))
                continue;
            do
                slot = permuted(member->name, next[i]++, size);
            while (table[slot] != UINT32_MAX);
            table[slot] = (uint32_t)order[i];
            if (++filled == size)
                return;
        }
    }
}

/* ---- members ----------------------------------------------------------------------------------------------------- */

struct pool {
    char names[NAMES][NAME_BYTES];
    struct lb_maglev_member members[NAMES];
    size_t n;
};

static void pool_init(struct pool *pool, size_t n, uint32_t weight) {
    pool->n = n;
    for (size_t i = 0; i < n; i++) {
        (void)snprintf(pool->names[i], NAME_BYTES, "10.0.0.%zu:8080", i);
        pool->members[i] = (struct lb_maglev_member){.name = pool->names[i], .weight = weight};
    }
}

static uint32_t *build(const struct pool *pool, uint32_t size) {
    uint32_t *table = malloc(size * sizeof *table);

    CHECK(table != NULL);
    CHECK_OK(lb_maglev_build(table, size, pool->members, pool->n));
    return table;
}

static void count(const uint32_t *table, uint32_t size, uint32_t counts[NAMES]) {
    memset(counts, 0, NAMES * sizeof *counts);
    for (uint32_t slot = 0; slot < size; slot++) {
        CHECK(table[slot] < NAMES);
        counts[table[slot]]++;
    }
}

static uint32_t random_weight(struct check_random *random) {
    static const uint32_t usual[] = {0, 1, 1, 2, 3, 10, 100, 255, 256, 65535};
    return usual[check_random_below(random, sizeof usual / sizeof usual[0])];
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

TEST(random_pools_give_the_table_of_the_model) {
    static const uint32_t sizes[] = {3, 5, 7, 101, 251, 1009};
    struct check_random random = {21};

    for (int round = 0; round < 400; round++) {
        uint32_t size = sizes[check_random_below(&random, 6)], weights = 0;
        uint32_t expected[1009], *table;
        struct pool pool;
        pool_init(&pool, 1 + check_random_below(&random, NAMES), 0);
        for (size_t i = 0; i < pool.n; i++)
            weights |= pool.members[i].weight = random_weight(&random);
        if (weights == 0)
            pool.members[0].weight = 1;
        table = build(&pool, size);
        model(expected, size, pool.members, pool.n);
        for (uint32_t slot = 0; slot < size; slot++)
            CHECK_EQ(table[slot], expected[slot]);
        free(table);
    }
}

TEST(equal_weights_get_shares_that_differ_by_one_at_most) {
    struct pool pool;
    uint32_t counts[NAMES], *table;

    pool_init(&pool, 7, 3);
    table = build(&pool, 65537);
    count(table, 65537, counts);
    for (size_t i = 0; i < 7; i++)
        CHECK(counts[i] == 65537 / 7 || counts[i] == 65537 / 7 + 1);
    free(table);
}

TEST(shares_are_proportional_to_weights) {
    static const uint32_t weights[] = {1, 2, 5, 0, 256, 100};
    struct pool pool;
    uint32_t counts[NAMES], *table;

    pool_init(&pool, 6, 0);
    for (size_t i = 0; i < 6; i++)
        pool.members[i].weight = weights[i];
    table = build(&pool, 65537);
    count(table, 65537, counts);
    for (size_t i = 0; i < 6; i++) {
        double expected = 65537.0 * weights[i] / 364;
        CHECK(counts[i] >= expected - 3 && counts[i] <= expected + 3);
    }
    CHECK_EQ(counts[3], 0);
    free(table);
}

TEST(the_lightest_member_gets_a_slot_beside_the_heaviest) {
    struct pool pool;
    uint32_t counts[NAMES], *table;

    pool_init(&pool, 10, 65535);
    pool.members[9].weight = 1;
    table = build(&pool, 11);
    count(table, 11, counts);
    for (size_t i = 0; i < 10; i++)
        CHECK(counts[i] >= 1);
    free(table);
}

TEST(the_order_of_members_does_not_matter) {
    struct check_random random = {22};
    struct pool pool;
    uint32_t *table;

    pool_init(&pool, 20, 0);
    for (size_t i = 0; i < 20; i++)
        pool.members[i].weight = 1 + (uint32_t)i % 4;
    table = build(&pool, 1009);
    for (int round = 0; round < 20; round++) {
        struct pool shuffled = pool;
        uint32_t *other;
        for (uint32_t i = 20; i > 1; i--) {
            uint32_t j = check_random_below(&random, i);
            struct lb_maglev_member member = shuffled.members[i - 1];
            shuffled.members[i - 1] = shuffled.members[j];
            shuffled.members[j] = member;
        }
        other = build(&shuffled, 1009);
        for (uint32_t slot = 0; slot < 1009; slot++)
            CHECK(strcmp(pool.members[table[slot]].name, shuffled.members[other[slot]].name) == 0);
        free(other);
    }
    free(table);
}

/* The paper's table 65537 with 10 to 50 members: what moves beyond the departed member's own share is under 2 %. */
TEST(a_departure_moves_its_share_and_little_more) {
    for (size_t n = 2; n <= 50; n += 12) {
        struct pool pool;
        uint32_t *before, *after, moved = 0, own = 0;
        pool_init(&pool, n, 1);
        before = build(&pool, 65537);
        pool.members[n / 2].weight = 0;
        after = build(&pool, 65537);
        for (uint32_t slot = 0; slot < 65537; slot++) {
            own += before[slot] == n / 2;
            moved += before[slot] != n / 2 && before[slot] != after[slot];
            CHECK(after[slot] != n / 2);
        }
        CHECK(own <= 65537 / n + 1);
        CHECK(moved < 65537 * 2 / 100);
        free(before);
        free(after);
    }
}

TEST(a_single_member_has_every_slot) {
    struct pool pool;
    uint32_t *table;

    pool_init(&pool, 3, 0);
    pool.members[2].weight = 1;
    table = build(&pool, 101);
    for (uint32_t slot = 0; slot < 101; slot++)
        CHECK_EQ(table[slot], 2);
    free(table);
}

TEST(members_of_one_name_share_its_slots) {
    struct lb_maglev_member members[] = {{"same", 1}, {"same", 1}};
    uint32_t table[101], expected[101], counts[NAMES];

    CHECK_OK(lb_maglev_build(table, 101, members, 2));
    model(expected, 101, members, 2);
    CHECK_EQ(memcmp(table, expected, sizeof table), 0);
    count(table, 101, counts);
    CHECK_EQ(counts[0], 51);
    CHECK_EQ(counts[1], 50);
}

TEST(impossible_input_is_refused) {
    struct lb_maglev_member members[] = {{"a", 1}, {"b", 0}};
    uint32_t table[101];

    CHECK_EQ(lb_maglev_build(table, 100, members, 2), -EINVAL);
    CHECK_EQ(lb_maglev_build(table, 2, members, 2), -EINVAL);
    CHECK_EQ(lb_maglev_build(table, 1, members, 2), -EINVAL);
    CHECK_EQ(lb_maglev_build(table, 0, members, 2), -EINVAL);
    CHECK_EQ(lb_maglev_build(table, 101, members + 1, 1), -EINVAL);
    CHECK_EQ(lb_maglev_build(table, 101, members, 0), -EINVAL);
}

TEST(primes_are_told_from_the_rest) {
    static bool composite[100000];

    composite[0] = composite[1] = true;
    for (uint32_t i = 2; i < 100000; i++) {
        CHECK_EQ(lb_is_prime(i), !composite[i]);
        for (uint32_t multiple = 2 * i; multiple < 100000; multiple += i)
            composite[multiple] = true;
    }
    CHECK(!lb_is_prime(0) && !lb_is_prime(1));
    CHECK(lb_is_prime(5000011));
    CHECK(lb_is_prime(4294967291u));
    CHECK(!lb_is_prime(4294967295u));
    CHECK(!lb_is_prime(65521u * 65519u));
}

TEST_MAIN()
