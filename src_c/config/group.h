/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group - backends that a session is picked from together, with the tables that picking needs.
 *
 * A pool without tiers and zones is one group. Else each tier is a group, and so is each zone's part of a tier
 * (failover.h says which group a client is given).
 *
 * Owner:   control thread while it is built; frozen after.
 * Memory:  the sequence is its own, the Maglev table is shared by count with groups of other snapshots, the rest is
 *          borrowed from the pool.
 * Holds:   the tables have positions in `backends`, which are not those in the pool.
 * Errors:  -EINVAL, -ENOMEM.
 */
#ifndef LB_GROUP_H
#define LB_GROUP_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/base.h"
#include "config/backend.h"
#include "l4lb.h"
#include "structures/maglev.h"
#include "structures/sequence.h"

struct lb_group {
    uint32_t tier;
    uint32_t zone; /* 0 = all of the tier */
    uint32_t n_backends;
    uint32_t n_members;    /* of them, those that have a weight, usable or not */
    uint32_t n_usable;     /* of them, those that take new sessions */
    uint64_t total_weight; /* of the usable ones */
    const struct lb_backend *backends;
    struct lb_sequence *sequence;  /* over the usable ones */
    struct lb_maglev_table *table; /* over all of them; NULL unless it was wanted and there is a member */
    atomic_uint *cursor;           /* position in the sequence; borrowed from the engine */
};

/* Count and build the tables. tier, zone, n_backends, backends and turn are set; configs[i] is what backends[i] was
 * made of. table_size is 0 where no Maglev table is wanted. `like` may be NULL; a table that would come out the same is
 * shared with it. */
LB_MUST_CHECK int lb_group_build(struct lb_group *group, const struct l4lb_backend_config *const *configs,
                                 uint32_t table_size, const struct lb_group *like);
void lb_group_fini(struct lb_group *group);

#endif
