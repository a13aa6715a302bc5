/* SPDX-License-Identifier: Apache-2.0 */
#include "config/failover.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>

/* ---- shares ------------------------------------------------------------------------------------------------------ */

static uint64_t share_of(const struct lb_group *group) {
    uint64_t part =
        group->n_usable * (uint64_t)LB_OVERPROVISION_PERCENT * LB_FAILOVER_ALL / (group->n_members * 100ull);
    return LB_MIN(part, LB_FAILOVER_ALL);
}

void lb_failover_share(struct lb_preference *preference) {
    uint64_t reached = 0, before_tier = 0;

    for (uint32_t i = 0; i < preference->n_choices; i++) {
        struct lb_choice *choice = &preference->choices[i];
        if (i == 0 || choice->group->tier != preference->choices[i - 1].group->tier)
            before_tier = reached;
        reached = LB_MAX(reached, LB_MIN(before_tier + share_of(choice->group), LB_FAILOVER_ALL));
        choice->share_end = reached;
    }
    for (uint32_t i = 0; i < preference->n_choices && reached < LB_FAILOVER_ALL; i++)
        preference->choices[i].share_end = preference->choices[i].share_end * LB_FAILOVER_ALL / reached;
}

/* ---- groups ------------------------------------------------------------------------------------------------------ */

/* A backend and its configuration. */
struct member {
    const struct l4lb_backend_config *config;
    const struct lb_backend *backend;
};

/* By tier, then by zone, then in the order given. */
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
    const struct l4lb_backend_config **local_configs; /* of failover->local */
    uint32_t table_size;
    struct lb_rr_cursor *cursors;
    const struct lb_failover *like;
};

/* Add a group of n backends: a whole tier if `zone` is 0, else a zone in it. */
static int add_group(struct lb_failover *failover, const struct material *material, uint32_t start, uint32_t n,
                     uint32_t tier, uint32_t zone) {
    const struct l4lb_backend_config *const *configs = zone == 0 ? material->configs : material->local_configs;
    struct lb_group *group = &failover->groups[failover->n_groups];
    const struct lb_group *like = NULL;

    *group = (struct lb_group){.tier = tier,
                               .zone = zone,
                               .n_backends = n,
                               .backends = (zone == 0 ? material->backends : failover->local) + start,
                               .cursor = &material->cursors[failover->n_groups % LB_RR_CURSORS].next};
    if (material->like != NULL)
        like = bsearch(group, material->like->groups, material->like->n_groups, sizeof *group, by_key);
    failover->n_groups++;
    return lb_group_build(group, configs + start, material->table_size, like);
}

/* How many backends from `start` on have the same tier, or the same tier and zone. */
static uint32_t run_length(const struct l4lb_backend_config *const *configs, uint32_t start, uint32_t end, bool zones) {
    uint32_t i = start + 1;

    while (i < end && configs[i]->tier == configs[start]->tier && (!zones || configs[i]->zone == configs[start]->zone))
        i++;
    return i - start;
}

static int add_tier(struct lb_failover *failover, const struct material *material, uint32_t start, uint32_t n) {
    uint32_t tier = material->configs[start]->tier;
    int result = add_group(failover, material, start, n, tier, 0);

    for (uint32_t i = start; result == 0 && i < start + n;) {
        uint32_t zone = material->local_configs[i]->zone, length;
        length = run_length(material->local_configs, i, start + n, true);
        if (zone != 0 && length < n)
            result = add_group(failover, material, i, length, tier, zone);
        i += length;
    }
    return result;
}

static int sort_by_zone(struct lb_failover *failover, const struct material *material, uint32_t n) {
    struct member *members = calloc(n, sizeof *members);

    if (members == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < n; i++)
        members[i] = (struct member){.config = material->configs[i], .backend = &material->backends[i]};
    qsort(members, n, sizeof *members, by_zone);
    for (uint32_t i = 0; i < n; i++) {
        material->local_configs[i] = members[i].config;
        failover->local[i] = *members[i].backend;
    }
    free(members);
    return 0;
}

static int build_groups(struct lb_failover *failover, const struct material *material, uint32_t n) {
    int result = sort_by_zone(failover, material, n);

    for (uint32_t i = 0; result == 0 && i < n;) {
        uint32_t length = run_length(material->configs, i, n, false);
        result = add_tier(failover, material, i, length);
        i += length;
    }
    return result;
}

/* ---- preferences ------------------------------------------------------------------------------------------------- */

static void add_choice(struct lb_preference *preference, const struct lb_group *group) {
    if (group->n_usable > 0)
        preference->choices[preference->n_choices++] = (struct lb_choice){.group = group};
}

static void build_preference(const struct lb_failover *failover, struct lb_preference *preference, uint32_t zone) {
    for (uint32_t i = 0; i < failover->n_groups;) {
        const struct lb_group *whole = &failover->groups[i];
        for (i++; i < failover->n_groups && failover->groups[i].zone != 0; i++) {
            if (failover->groups[i].zone == zone)
                add_choice(preference, &failover->groups[i]);
        }
        add_choice(preference, whole);
    }
    lb_failover_share(preference);
}

static int build_preferences(struct lb_failover *failover) {
    uint32_t zones[LB_ZONES_MAX + 1] = {0}, n_tiers = 0;

    failover->n_preferences = 1;
    for (uint32_t i = 0; i < failover->n_groups; i++) {
        uint32_t zone = failover->groups[i].zone;
        n_tiers += zone == 0;
        if (zone == 0 || failover->preference_of_zone[zone] != 0)
            continue;
        zones[failover->n_preferences] = zone;
        failover->preference_of_zone[zone] = (uint8_t)failover->n_preferences++;
    }
    failover->preferences = calloc(failover->n_preferences, sizeof *failover->preferences);
    failover->choices = calloc((size_t)failover->n_preferences * n_tiers * 2, sizeof *failover->choices);
    if (failover->preferences == NULL || failover->choices == NULL)
        return -ENOMEM;
    for (uint32_t i = 0; i < failover->n_preferences; i++) {
        failover->preferences[i].choices = failover->choices + (size_t)i * n_tiers * 2;
        build_preference(failover, &failover->preferences[i], zones[i]);
    }
    return 0;
}

/* ---- the pool ---------------------------------------------------------------------------------------------------- */

bool lb_failover_is_wanted(const struct l4lb_backend_config *const *configs, size_t n) {
    for (size_t i = 1; i < n; i++) {
        if (configs[i]->tier != configs[0]->tier || configs[i]->zone != configs[0]->zone)
            return true;
    }
    return false;
}

int lb_failover_new(const struct l4lb_backend_config *const *configs, const struct lb_backend *backends, size_t n,
                    uint32_t table_size, struct lb_rr_cursor *cursors, const struct lb_failover *like,
                    struct lb_failover **out) {
    struct lb_failover *failover = calloc(1, sizeof *failover);
    struct material material = {.configs = configs,
                                .backends = backends,
                                .local_configs = calloc(n, sizeof *configs),
                                .table_size = table_size,
                                .cursors = cursors,
                                .like = like};
    int result = -ENOMEM;

    if (failover == NULL || material.local_configs == NULL)
        goto out;
    failover->local = calloc(n, sizeof *failover->local);
    failover->groups = calloc(LB_TIERS_MAX + n, sizeof *failover->groups);
    if (failover->local == NULL || failover->groups == NULL)
        goto out;
    result = build_groups(failover, &material, (uint32_t)n);
    if (result == 0)
        result = build_preferences(failover);
    if (result < 0)
        goto out;
    *out = failover;
    failover = NULL;
out:
    free(material.local_configs);
    lb_failover_free(failover);
    return result;
}

void lb_failover_free(struct lb_failover *failover) {
    if (failover == NULL)
        return;
    for (uint32_t i = 0; i < failover->n_groups; i++)
        lb_group_fini(&failover->groups[i]);
    free(failover->groups);
    free(failover->preferences);
    free(failover->choices);
    free(failover->local);
    free(failover);
}
