/* SPDX-License-Identifier: Apache-2.0 */
#include "config/spill.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* ---- shares ------------------------------------------------------------------------------------------------------ */

static uint64_t share_of(const struct lb_group *group) {
    uint64_t part = group->n_usable * (uint64_t)LB_OVERPROVISION_PERCENT * LB_SPILL_ALL / (group->n_members * 100ull);
    return LB_MIN(part, LB_SPILL_ALL);
}

void lb_spill_share(struct lb_way *way) {
    uint64_t reached = 0, before_tier = 0;

    for (uint32_t i = 0; i < way->n_steps; i++) {
        struct lb_step *step = &way->steps[i];
        if (i == 0 || step->group->tier != way->steps[i - 1].group->tier)
            before_tier = reached;
        reached = LB_MAX(reached, LB_MIN(before_tier + share_of(step->group), LB_SPILL_ALL));
        step->limit = reached;
    }
    for (uint32_t i = 0; i < way->n_steps && reached < LB_SPILL_ALL; i++)
        way->steps[i].limit = way->steps[i].limit * LB_SPILL_ALL / reached;
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

/* A backend and what it was made of. */
struct member {
    const struct l4lb_backend_config *config;
    const struct lb_backend *backend;
};

/* By tier, then by zone, then as they were given. */
static int by_zone(const void *a, const void *b) {
    const struct member *left = a, *right = b;

    if (left->config->tier != right->config->tier)
        return left->config->tier < right->config->tier ? -1 : 1;
    if (left->config->zone != right->config->zone)
        return left->config->zone < right->config->zone ? -1 : 1;
    return left->backend < right->backend ? -1 : 1;
}

static int by_key(const void *a, const void *b) {
    const struct lb_group *left = a, *right = b;

    if (left->tier != right->tier)
        return left->tier < right->tier ? -1 : 1;
    return (left->zone > right->zone) - (left->zone < right->zone);
}

/* What the groups of one pool are built from. */
struct material {
    const struct l4lb_backend_config *const *configs;
    const struct lb_backend *backends;
    const struct l4lb_backend_config **local_configs; /* of spill->local */
    uint32_t table_size;
    struct lb_turn *turns;
    const struct lb_spill *like;
};

/* A group of n backends: of the whole tier, or of a zone in it. */
static int add_group(struct lb_spill *spill, const struct material *material, uint32_t start, uint32_t n, uint32_t tier,
                     uint32_t zone) {
    const struct l4lb_backend_config *const *configs = zone == 0 ? material->configs : material->local_configs;
    struct lb_group *group = &spill->groups[spill->n_groups];
    const struct lb_group *like = NULL;

    *group = (struct lb_group){.tier = tier,
                               .zone = zone,
                               .n_backends = n,
                               .backends = (zone == 0 ? material->backends : spill->local) + start,
                               .turn = &material->turns[spill->n_groups % LB_TURNS].turn};
    if (material->like != NULL)
        like = bsearch(group, material->like->groups, material->like->n_groups, sizeof *group, by_key);
    spill->n_groups++;
    return lb_group_build(group, configs + start, material->table_size, like);
}

/* Those from `start` on whose tier, or tier and zone, is the same. */
static uint32_t run_length(const struct l4lb_backend_config *const *configs, uint32_t start, uint32_t end, bool zones) {
    uint32_t i = start + 1;

    while (i < end && configs[i]->tier == configs[start]->tier && (!zones || configs[i]->zone == configs[start]->zone))
        i++;
    return i - start;
}

static int add_tier(struct lb_spill *spill, const struct material *material, uint32_t start, uint32_t n) {
    uint32_t tier = material->configs[start]->tier;
    int result = add_group(spill, material, start, n, tier, 0);

    for (uint32_t i = start; result == 0 && i < start + n;) {
        uint32_t zone = material->local_configs[i]->zone, length;
        length = run_length(material->local_configs, i, start + n, true);
        if (zone != 0 && length < n)
            result = add_group(spill, material, i, length, tier, zone);
        i += length;
    }
    return result;
}

static int sort_by_zone(struct lb_spill *spill, const struct material *material, uint32_t n) {
    struct member *members = calloc(n, sizeof *members);

    if (members == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        members[i] = (struct member){.config = material->configs[i], .backend = &material->backends[i]};
    qsort(members, n, sizeof *members, by_zone);
    for (uint32_t i = 0; i < n; i++) {
        material->local_configs[i] = members[i].config;
        spill->local[i] = *members[i].backend;
    }
    free(members);
    return 0;
}

static int build_groups(struct lb_spill *spill, const struct material *material, uint32_t n) {
    int result = sort_by_zone(spill, material, n);

    for (uint32_t i = 0; result == 0 && i < n;) {
        uint32_t length = run_length(material->configs, i, n, false);
        result = add_tier(spill, material, i, length);
        i += length;
    }
    return result;
}

/* ---- ways -------------------------------------------------------------------------------------------------------- */

static void add_step(struct lb_way *way, const struct lb_group *group) {
    if (group->n_usable > 0)
        way->steps[way->n_steps++] = (struct lb_step){.group = group};
}

static void build_way(const struct lb_spill *spill, struct lb_way *way, uint32_t zone) {
    for (uint32_t i = 0; i < spill->n_groups;) {
        const struct lb_group *whole = &spill->groups[i];
        for (i++; i < spill->n_groups && spill->groups[i].zone != 0; i++) {
            if (spill->groups[i].zone == zone)
                add_step(way, &spill->groups[i]);
        }
        add_step(way, whole);
    }
    lb_spill_share(way);
}

static int build_ways(struct lb_spill *spill) {
    uint32_t zones[LB_ZONES_MAX + 1] = {0}, n_tiers = 0;

    spill->n_ways = 1;
    for (uint32_t i = 0; i < spill->n_groups; i++) {
        uint32_t zone = spill->groups[i].zone;
        n_tiers += zone == 0;
        if (zone == 0 || spill->way_of_zone[zone] != 0)
            continue;
        zones[spill->n_ways] = zone;
        spill->way_of_zone[zone] = (uint8_t)spill->n_ways++;
    }
    spill->ways = calloc(spill->n_ways, sizeof *spill->ways);
    spill->steps = calloc((size_t)spill->n_ways * n_tiers * 2, sizeof *spill->steps);
    if (spill->ways == NULL || spill->steps == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < spill->n_ways; i++) {
        spill->ways[i].steps = spill->steps + (size_t)i * n_tiers * 2;
        build_way(spill, &spill->ways[i], zones[i]);
    }
    return 0;
}

/* ---- whole ------------------------------------------------------------------------------------------------------- */

bool lb_spill_is_wanted(const struct l4lb_backend_config *const *configs, size_t n) {
    for (size_t i = 1; i < n; i++) {
        if (configs[i]->tier != configs[0]->tier || configs[i]->zone != configs[0]->zone)
            return true;
    }
    return false;
}

int lb_spill_new(const struct l4lb_backend_config *const *configs, const struct lb_backend *backends, size_t n,
                 uint32_t table_size, struct lb_turn *turns, const struct lb_spill *like, struct lb_spill **out) {
    struct lb_spill *spill = calloc(1, sizeof *spill);
    struct material material = {.configs = configs,
                                .backends = backends,
                                .local_configs = calloc(n, sizeof *configs),
                                .table_size = table_size,
                                .turns = turns,
                                .like = like};
    int result = -ENOMEM;

    if (spill == NULL || material.local_configs == NULL)
        goto out;
    spill->local = calloc(n, sizeof *spill->local);
    spill->groups = calloc(LB_TIERS_MAX + n, sizeof *spill->groups);
    if (spill->local == NULL || spill->groups == NULL)
        goto out;
    result = build_groups(spill, &material, (uint32_t)n);
    if (result == 0)
        result = build_ways(spill);
    if (result < 0)
        goto out;
    *out = spill;
    spill = NULL;
out:
    free(material.local_configs);
    lb_spill_free(spill);
    return result;
}

void lb_spill_free(struct lb_spill *spill) {
    if (spill == NULL)
        return;
    for (uint32_t i = 0; i < spill->n_groups; i++)
        lb_group_fini(&spill->groups[i]);
    free(spill->groups);
    free(spill->ways);
    free(spill->steps);
    free(spill->local);
    free(spill);
}
