/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include "config/group.h"

enum { N = 4, TABLE = 251 };

static const char *const names[N] = {"a", "b", "c", "d"};

/* Backends of a group and what they were made of. */
struct members {
    struct l4lb_backend_config configs[N];
    const struct l4lb_backend_config *order[N];
    struct lb_backend backends[N];
};

static void members_init(struct members *members, const uint32_t weights[N], const bool usable[N]) {
    memset(members, 0, sizeof *members);
    for (uint32_t i = 0; i < N; i++) {
        members->configs[i] = (struct l4lb_backend_config){.name = names[i], .weight = weights[i], .usable = usable[i]};
        members->order[i] = &members->configs[i];
        members->backends[i] = (struct lb_backend){.slot = i, .index = i, .weight = usable[i] ? weights[i] : 0};
    }
}

static struct lb_group group_of(const struct members *members) {
    return (struct lb_group){.backends = members->backends, .n_backends = N};
}

TEST(it_counts_members_and_those_that_are_usable) {
    struct members members;
    struct lb_group group;

    members_init(&members, (uint32_t[]){3, 0, 2, 1}, (bool[]){true, true, false, true});
    group = group_of(&members);
    CHECK_OK(lb_group_build(&group, members.order, 0, NULL));
    CHECK_EQ(group.n_members, 3);
    CHECK_EQ(group.n_usable, 2);
    CHECK_EQ(group.total_weight, 4);
    CHECK_EQ(group.sequence->n_entries, 4);
    CHECK(group.table == NULL);
    lb_group_fini(&group);
}

TEST(a_table_has_members_that_are_down_and_none_without_weight) {
    uint32_t counts[N] = {0};
    struct members members;
    struct lb_group group;

    members_init(&members, (uint32_t[]){1, 0, 1, 1}, (bool[]){true, true, false, true});
    group = group_of(&members);
    CHECK_OK(lb_group_build(&group, members.order, TABLE, NULL));
    for (uint32_t i = 0; i < TABLE; i++)
        counts[group.table->entries[i]]++;
    CHECK(counts[0] > 0 && counts[2] > 0 && counts[3] > 0);
    CHECK_EQ(counts[1], 0);
    lb_group_fini(&group);
}

TEST(the_same_members_share_one_table_whatever_their_health) {
    struct members up, down, heavier;
    struct lb_group first, second, third;

    members_init(&up, (uint32_t[]){1, 1, 1, 1}, (bool[]){true, true, true, true});
    members_init(&down, (uint32_t[]){1, 1, 1, 1}, (bool[]){true, false, false, true});
    members_init(&heavier, (uint32_t[]){1, 1, 1, 2}, (bool[]){true, true, true, true});
    first = group_of(&up);
    second = group_of(&down);
    third = group_of(&heavier);
    CHECK_OK(lb_group_build(&first, up.order, TABLE, NULL));
    CHECK_OK(lb_group_build(&second, down.order, TABLE, &first));
    CHECK_OK(lb_group_build(&third, heavier.order, TABLE, &second));
    CHECK(second.table == first.table);
    CHECK_EQ(first.table->n_users, 2);
    CHECK(third.table != first.table);
    lb_group_fini(&first);
    CHECK_EQ(second.table->n_users, 1);
    CHECK(second.table->entries[TABLE - 1] < N);
    lb_group_fini(&second);
    lb_group_fini(&third);
}

TEST(a_group_without_a_usable_member_has_an_empty_sequence) {
    struct members members;
    struct lb_group group;

    members_init(&members, (uint32_t[]){1, 1, 1, 1}, (bool[]){false, false, false, false});
    group = group_of(&members);
    CHECK_OK(lb_group_build(&group, members.order, TABLE, NULL));
    CHECK_EQ(group.sequence->n_entries, 0);
    CHECK_EQ(group.n_usable, 0);
    CHECK(group.table != NULL);
    lb_group_fini(&group);
}

TEST(a_backend_is_found_by_its_index_wherever_the_group_begins) {
    struct members members;
    struct lb_group group;

    members_init(&members, (uint32_t[]){1, 1, 1, 1}, (bool[]){true, true, true, true});
    group = group_of(&members);
    for (uint32_t i = 0; i < N; i++)
        CHECK(lb_group_find(&group, i) == &members.backends[i]);
    CHECK(lb_group_find(&group, N) == NULL);
    CHECK(lb_group_find(&group, UINT32_MAX) == NULL);
    for (uint32_t i = 0; i < N; i++)
        members.backends[i].index = 5 + 3 * i;
    for (uint32_t index = 0; index < 20; index++) {
        const struct lb_backend *expected =
            index >= 5 && index < 5 + 3 * N && (index - 5) % 3 == 0 ? &members.backends[(index - 5) / 3] : NULL;
        CHECK(lb_group_find(&group, index) == expected);
    }
}

TEST(a_group_of_none_is_built_too) {
    struct lb_group group = {0};

    CHECK_OK(lb_group_build(&group, NULL, TABLE, NULL));
    CHECK_EQ(group.n_usable, 0);
    CHECK(group.table == NULL);
    lb_group_fini(&group);
}

TEST_MAIN()
