/* SPDX-License-Identifier: Apache-2.0 */
#include "structures/maglev.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum { OFFSET_SEED = 0, SKIP_SEED = 1, FREE = UINT32_MAX };

/* A member while the table is being filled. */
struct claimant {
    const char *name;
    uint32_t index;
    uint32_t weight;
    uint32_t slot;   /* the current entry of its permutation */
    uint32_t skip;   /* the step to the next one, 1 to table_size - 1 */
    uint64_t credit; /* collected weight; a claim costs the largest weight */
};

bool lb_is_prime(uint32_t n) {
    if (n < 2)
        return false;
    for (uint32_t divisor = 2; (uint64_t)divisor * divisor <= n; divisor++) {
        if (n % divisor == 0)
            return false;
    }
    return true;
}

/* Members of equal name keep their order, so that the result is the same every time. */
static int compare(const void *a, const void *b) {
    const struct claimant *left = a, *right = b;
    int order = strcmp(left->name, right->name);
    return order != 0 ? order : (left->index > right->index) - (left->index < right->index);
}

static size_t gather(struct claimant *claimants, const struct lb_maglev_member *members, size_t n, uint32_t size) {
    size_t count = 0;

    for (size_t i = 0; i < n; i++) {
        size_t len = strlen(members[i].name);
        if (members[i].weight == 0)
            continue;
        claimants[count++] = (struct claimant){
            .name = members[i].name,
            .index = (uint32_t)i,
            .weight = members[i].weight,
            .slot = (uint32_t)(lb_hash_bytes(members[i].name, len, OFFSET_SEED) % size),
            .skip = (uint32_t)(lb_hash_bytes(members[i].name, len, SKIP_SEED) % (size - 1)) + 1,
        };
    }
    qsort(claimants, count, sizeof *claimants, compare);
    return count;
}

static void claim(uint32_t *table, uint32_t size, struct claimant *claimant) {
    for (;;) {
        uint32_t slot = claimant->slot;
        claimant->slot += claimant->skip;
        if (claimant->slot >= size)
            claimant->slot -= size;
        if (table[slot] == FREE) {
            table[slot] = claimant->index;
            return;
        }
    }
}

/* Each round adds its weight to the credit of every member; a claim costs the largest weight. The credit starts where
 * each member can just claim an entry in the first round. */
static void fill(uint32_t *table, uint32_t size, struct claimant *claimants, size_t n) {
    uint32_t heaviest = 0, filled = 0;

    for (size_t i = 0; i < n; i++)
        heaviest = LB_MAX(heaviest, claimants[i].weight);
    for (size_t i = 0; i < n; i++)
        claimants[i].credit = heaviest - claimants[i].weight;
    memset(table, 0xff, size * sizeof *table);
    for (;;) {
        for (size_t i = 0; i < n; i++) {
            claimants[i].credit += claimants[i].weight;
            if (claimants[i].credit < heaviest)
                continue;
            claimants[i].credit -= heaviest;
            claim(table, size, &claimants[i]);
            if (++filled == size)
                return;
        }
    }
}

int lb_maglev_build(uint32_t *table, uint32_t table_size, const struct lb_maglev_member *members, size_t n_members) {
    struct claimant *claimants;
    size_t n;

    if (!lb_is_prime(table_size) || table_size < 3)
        return -EINVAL;
    claimants = calloc(n_members + 1, sizeof *claimants);
    if (claimants == NULL)
        return -ENOMEM;
    n = gather(claimants, members, n_members, table_size);
    if (n > 0)
        fill(table, table_size, claimants, n);
    free(claimants);
    return n > 0 ? 0 : -EINVAL;
}
