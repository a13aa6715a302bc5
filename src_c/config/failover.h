/* SPDX-License-Identifier: Apache-2.0 */
/*
 * failover - the groups of a pool with tiers or zones, and the way of a client from one to the next.
 *
 * A client asks the backends of its own zone in tier 0, then all of tier 0, then those of its zone in tier 1, and so
 * on. Two things make it go on: nobody in the group has a place; or the group is too small for those who want to stay:
 *
 *     share of a group = usable backends / backends with a weight * 1.4, at most all
 *
 * So a group is left by nobody until more than 28 % of it are gone, and the backends that are left get at most 1.4
 * times what they would have. All of a tier together keeps no more than its own share, what its zones keep included.
 * Where all groups of a way are too small, their shares grow alike until they are all that there is. Backends are
 * counted, not weighed: weights that follow load would move clients all the time.
 *
 * Owner:   control thread while it is built; frozen after, then any thread may read.
 * Memory:  its own, but for what the groups borrow.
 * Holds:   every group on a way has a usable backend; every usable backend of the pool is on every way.
 * Errors:  -EINVAL for a tier or a zone beyond its bound, -ENOMEM.
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

/* All of the clients; shares are parts of it. */
#define LB_FAILOVER_ALL ((uint64_t)1 << 32)

/* One group on a way. Of LB_FAILOVER_ALL clients, those below `limit` that did not stay before stay here. */
struct lb_choice {
    const struct lb_group *group;
    uint64_t share_end;
};

struct lb_preference {
    struct lb_choice *choices;
    uint32_t n_choices;
};

struct lb_failover {
    uint32_t n_groups;
    uint32_t n_preferences;
    struct lb_group *groups;           /* by tier; of each first all of it, then its zones */
    struct lb_preference *preferences; /* the first is for clients of no zone, or of one that has no backend here */
    struct lb_choice *choices;         /* of all ways */
    struct lb_backend *local;          /* of the groups of zones: copies, so that each group is one array */
    uint8_t preference_of_zone[LB_ZONES_MAX + 1];
};

/* Does the pool need one: more than one tier, or zones in a tier? */
bool lb_failover_is_wanted(const struct l4lb_backend_config *const *configs, size_t n);

/* configs[i] is what backends[i] was made of; both are in order of tiers. turns: LB_RR_CURSORS positions for the groups
 * to share out. `like` may be NULL; its Maglev tables are shared where they would come out the same. */
LB_MUST_CHECK int lb_failover_new(const struct l4lb_backend_config *const *configs, const struct lb_backend *backends,
                                  size_t n, uint32_t table_size, struct lb_rr_cursor *cursors,
                                  const struct lb_failover *like, struct lb_failover **out);
void lb_failover_free(struct lb_failover *failover);

/* Set the limits of a way from the numbers of its groups. */
void lb_failover_share(struct lb_preference *preference);

static inline const struct lb_preference *lb_failover_preference(const struct lb_failover *failover, uint32_t zone) {
    return &failover->preferences[zone <= LB_ZONES_MAX ? failover->preference_of_zone[zone] : 0];
}

/* Where a client at this point of LB_FAILOVER_ALL begins. */
static inline uint32_t lb_preference_first(const struct lb_preference *preference, uint64_t point) {
    uint32_t at = 0;

    while (at + 1 < preference->n_choices && point >= preference->choices[at].share_end)
        at++;
    return at;
}

#endif
