/* SPDX-License-Identifier: Apache-2.0 */
#include "config/group.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

static void table_put(struct lb_maglev_table *table) {
    if (table != NULL && --table->n_users == 0)
        free(table);
}

/* Two groups with the same digest get the same table. The order counts, since entries are positions. */
static uint64_t table_digest(const struct l4lb_backend_config *const *configs, uint32_t n, uint32_t size) {
    uint64_t digest = size;

    for (uint32_t i = 0; i < n; i++) {
        digest = lb_hash_bytes(configs[i]->name, strlen(configs[i]->name), digest);
        digest = lb_hash_mix(digest ^ configs[i]->weight);
    }
    return digest;
}

static int table_new(const struct l4lb_backend_config *const *configs, uint32_t n, uint32_t size, uint64_t digest,
                     struct lb_maglev_table **out) {
    struct lb_maglev_member *members = calloc(n, sizeof *members);
    struct lb_maglev_table *table = malloc(sizeof *table + size * sizeof table->entries[0]);
    int result = -ENOMEM;

    if (members == NULL || table == NULL)
        goto out;
    for (uint32_t i = 0; i < n; i++)
        members[i] = (struct lb_maglev_member){.name = configs[i]->name, .weight = configs[i]->weight};
    *table = (struct lb_maglev_table){.n_users = 1, .size = size, .digest = digest};
    result = lb_maglev_build(table->entries, table->size, members, n);
    if (result < 0)
        goto out;
    *out = table;
    table = NULL;
out:
    free(table);
    free(members);
    return result;
}

/* Health does not change the table: a backend that is down keeps its entries, and only its keys look further. */
static int build_table(struct lb_group *group, const struct l4lb_backend_config *const *configs, uint32_t size,
                       const struct lb_group *like) {
    uint64_t digest = table_digest(configs, group->n_backends, size);

    if (like != NULL && like->table != NULL && like->table->digest == digest) {
        group->table = like->table;
        group->table->n_users++;
        return 0;
    }
    return table_new(configs, group->n_backends, size, digest, &group->table);
}

static int build_sequence(struct lb_group *group) {
    uint32_t *weights = calloc(group->n_backends + 1u, sizeof *weights);
    int result;

    if (weights == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < group->n_backends; i++)
        weights[i] = group->backends[i].weight;
    result = lb_sequence_new(weights, group->n_backends, &group->sequence);
    free(weights);
    return result;
}

int lb_group_build(struct lb_group *group, const struct l4lb_backend_config *const *configs, uint32_t table_size,
                   const struct lb_group *like) {
    int result;

    for (uint32_t i = 0; i < group->n_backends; i++) {
        group->n_members += configs[i]->weight > 0;
        group->n_usable += group->backends[i].weight > 0;
        group->total_weight += group->backends[i].weight;
    }
    result = build_sequence(group);
    if (result < 0 || table_size == 0 || group->n_members == 0)
        return result;
    return build_table(group, configs, table_size, like);
}

const struct lb_backend *lb_group_find(const struct lb_group *group, uint32_t index) {
    uint32_t low = 0, high = group->n_backends;

    if (index < high && group->backends[index].index == index) /* as in a group of the whole pool */
        return &group->backends[index];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (group->backends[middle].index == index)
            return &group->backends[middle];
        if (group->backends[middle].index < index)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

void lb_group_fini(struct lb_group *group) {
    free(group->sequence);
    table_put(group->table);
}
