/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"

#include <errno.h>

#include "config/routes.h"

enum { ROUNDS = 300, ROUTES_MAX = 40 };

static struct lb_server_name name_of(const char *text) {
    struct lb_server_name name;

    CHECK(lb_server_name_read(text, strlen(text), &name));
    return name;
}

static int find(const struct lb_routes *routes, const char *text) {
    struct lb_server_name name = name_of(text);
    return lb_routes_find(routes, &name);
}

static struct lb_routes *build(const struct l4lb_route *routes, size_t n) {
    struct lb_routes *made = NULL;

    CHECK_OK(lb_routes_new(routes, n, &made));
    return made;
}

TEST(a_whole_name_counts_before_the_longest_suffix) {
    static const struct l4lb_route given[] = {{"*.example", 1},   {"*.a.example", 2},     {"x.a.example", 3},
                                              {"a.example", 4},   {"*.x.a.example", 5},   {"example", 6},
                                              {"*.Other.Org", 7}, {"Upper.Other.Org.", 8}};
    struct lb_routes *routes = build(given, sizeof given / sizeof given[0]);

    CHECK_EQ(find(routes, "x.a.example"), 3);
    CHECK_EQ(find(routes, "X.A.Example"), 3);
    CHECK_EQ(find(routes, "y.a.example"), 2);
    CHECK_EQ(find(routes, "z.y.a.example"), 2);
    CHECK_EQ(find(routes, "z.x.a.example"), 5);
    CHECK_EQ(find(routes, "a.example"), 4);
    CHECK_EQ(find(routes, "b.example"), 1);
    CHECK_EQ(find(routes, "xa.example"), 1);
    CHECK_EQ(find(routes, "example"), 6);
    CHECK_EQ(find(routes, "a.other.org"), 7);
    CHECK_EQ(find(routes, "upper.other.org"), 8);
    CHECK_EQ(find(routes, "other.org"), -ENOENT);
    CHECK_EQ(find(routes, "another.org"), -ENOENT);
    CHECK_EQ(find(routes, "org"), -ENOENT);
    lb_routes_free(routes);
}

TEST(without_routes_nothing_is_found) {
    struct lb_routes *routes = build(NULL, 0);

    CHECK_EQ(find(routes, "a.example"), -ENOENT);
    lb_routes_free(routes);
    lb_routes_free(NULL);
}

TEST(a_name_that_is_none_or_is_there_twice_is_refused) {
    static const struct l4lb_route bad[][2] = {
        {{"a.example", 0}, {"A.example", 1}}, {{"*.a.example", 0}, {"*.A.example.", 0}},
        {{"a.example", 0}, {"", 0}},          {{"a.example", 0}, {"*", 0}},
        {{"a.example", 0}, {"*.", 0}},        {{"a.example", 0}, {"*a.example", 0}},
        {{"a.example", 0}, {"a.*.b", 0}},     {{"a.example", 0}, {".a.example", 0}},
        {{"a.example", 0}, {"a b", 0}},       {{"a.example", 0}, {"b.example", UINT32_MAX}},
    };
    struct lb_routes *routes;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        CHECK_EQ(lb_routes_new(bad[i], 2, &routes), -EINVAL);
    CHECK_EQ(lb_routes_new(bad[0], L4LB_ROUTES_MAX + 1, &routes), -EINVAL);
}

/* ---- against a search through all of them ------------------------------------------------------------------------ */

/* Names over two letters and few labels, so that they meet often. */
static void random_name(struct check_random *random, bool below, char out[16]) {
    uint32_t labels = 1 + check_random_below(random, 3);
    char *at = out;

    if (below)
        at += sprintf(at, "*.");
    for (uint32_t i = 0; i < labels; i++)
        at += sprintf(at, "%s%c", i > 0 ? "." : "", 'a' + (int)check_random_below(random, 3));
}

static int search(const struct l4lb_route *routes, size_t n, const char *name) {
    size_t best = 0, len = strlen(name);
    int pool = -ENOENT;

    for (size_t i = 0; i < n; i++) {
        const char *suffix = routes[i].name + 1;
        size_t suffix_len = strlen(suffix);
        if (strcmp(routes[i].name, name) == 0)
            return (int)routes[i].pool;
        if (routes[i].name[0] == '*' && suffix_len > best && len > suffix_len &&
            strcmp(name + len - suffix_len, suffix) == 0) {
            best = suffix_len;
            pool = (int)routes[i].pool;
        }
    }
    return pool;
}

TEST(a_lookup_finds_what_a_search_through_all_finds) {
    struct check_random random = {.state = 7};

    for (int round = 0; round < ROUNDS; round++) {
        static char names[ROUTES_MAX][16];
        struct l4lb_route given[ROUTES_MAX];
        struct lb_routes *routes;
        size_t n = 0;
        for (uint32_t tries = check_random_below(&random, ROUTES_MAX); tries > 0; tries--) {
            bool there = false;
            random_name(&random, check_random_below(&random, 2) == 0, names[n]);
            for (size_t i = 0; i < n; i++)
                there = there || strcmp(names[i], names[n]) == 0;
            given[n] = (struct l4lb_route){.name = names[n], .pool = check_random_below(&random, 1000)};
            n += !there;
        }
        routes = build(given, n);
        for (int i = 0; i < 50; i++) {
            char name[16];
            random_name(&random, false, name);
            CHECK_EQ(find(routes, name), search(given, n, name));
        }
        lb_routes_free(routes);
    }
}

TEST_MAIN()
