/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failover - the groups of a pool with tiers or zones, and the order in which clients try them.
 *
 * A client tries the backends of its own zone in tier 0, then all of tier 0, then those of its zone in tier 1, and so
 * on. It moves on to the next group if no backend in the group has capacity, or if the group is too small to keep all
 * its clients:
 *
 *     share of a group = 1.4 * usable backends / backends with a weight, at most 1
 *
 * So a group keeps all its clients until more than 28 % of its backends are gone, and the remaining ones get at most
 * 1.4 times their normal load. A whole tier keeps no more than its own share, including what its zones keep. If all
 * groups of a preference together are too small, their shares grow in proportion until they cover all clients. Backends
 * are counted, not weighed: weights that follow load would move clients all the time.
 *
 * Owner:   the control thread while it is built; frozen after, then any thread may read.
 * Memory:  its own, except what the groups borrow.
 * Holds:   every group of a preference has a usable backend; every usable backend of the pool is in every preference.
 * Errors:  those of lb_group_build(), -ENOMEM.
 * Source:  the overprovisioning factor of Envoy's priority levels.
 */
#ifndef LB_FAILOVER_H
#define LB_FAILOVER_H

#include <stddef.h>
#include <stdint.h>

#include "base/base.h"
#include "base/bounds.h"
#include "config/group.h"
#include "l4lb.h"

/* All clients; shares are parts of it. */
#define LB_FAILOVER_ALL ((uint64_t)1 << 32)

/* One group of a preference. Of LB_FAILOVER_ALL clients, it keeps those below `share_end` that no earlier one keeps. */
struct lb_choice {
    const struct lb_group *group;
    uint64_t share_end;
};

/* The groups that a client tries, in order. */
struct lb_preference {
    struct lb_choice *choices;
    uint32_t n_choices;
};

struct lb_failover {
    uint32_t n_groups;
    uint32_t n_preferences;
    struct lb_group *groups;           /* by tier; first the whole tier, then its zones */
    struct lb_preference *preferences; /* the first is for clients without a zone, or of a zone without backends here */
    struct lb_choice *choices;         /* of all preferences */
    struct lb_backend *local;          /* backends in order of zones: copies, so that each group is one array */
    uint8_t preference_of_zone[LB_ZONES_MAX + 1];
};

/* True if the backends of a pool differ in tier or zone. */
bool lb_failover_is_wanted(const struct l4lb_backend_config *const *configs, size_t n);

/* configs[i] describes backends[i]; both are in order of tiers. The groups share LB_RR_CURSORS cursors. `like` may be
 * NULL; its Maglev tables are shared where they would be the same. */
LB_MUST_CHECK int lb_failover_new(const struct l4lb_backend_config *const *configs, const struct lb_backend *backends,
                                  size_t n, uint32_t table_size, struct lb_rr_cursor *cursors,
                                  const struct lb_failover *like, struct lb_failover **out);
void lb_failover_free(struct lb_failover *failover);

/* Set `share_end` of every choice from the sizes of the groups. */
void lb_failover_share(struct lb_preference *preference);

static inline const struct lb_preference *lb_failover_preference(const struct lb_failover *failover, uint32_t zone) {
    return &failover->preferences[zone <= LB_ZONES_MAX ? failover->preference_of_zone[zone] : 0];
}

/* Index of the choice that a client at this point of LB_FAILOVER_ALL starts with. */
static inline uint32_t lb_preference_first(const struct lb_preference *preference, uint64_t point) {
    uint32_t at = 0;

    while (at + 1 < preference->n_choices && point >= preference->choices[at].share_end)
        at++;
    return at;
}

#endif
