/* SPDX-License-Identifier: Apache-2.0 */
/*
 * group - backends among which a session's backend is picked, with the tables for that.
 *
 * A pool without tiers and zones is one group. Otherwise each tier is a group, and so is the part of each zone in a
 * tier (failover.h says in which order clients try them).
 *
 * Owner:   the control thread while it is built; frozen after.
 * Memory:  the sequence is its own; groups of other snapshots share the Maglev table by count; the rest is borrowed.
 * Holds:   the tables contain positions in `backends`, not in the pool. `backends` are in the order of the pool.
 * Errors:  -EINVAL for a Maglev table whose size is not prime, -ENOMEM.
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
    uint32_t zone; /* 0 = the whole tier */
    uint32_t n_backends;
    uint32_t n_members;    /* of these, backends with a configured weight, usable or not */
    uint32_t n_usable;     /* of these, backends that take new sessions */
    uint64_t total_weight; /* of usable backends */
    const struct lb_backend *backends;
    struct lb_sequence *sequence;  /* of usable backends */
    struct lb_maglev_table *table; /* of all members; NULL unless it was wanted and there is a member */
    atomic_uint *cursor;           /* into the sequence; borrowed from the engine */
};

/* Count the backends and build the tables. The caller has set tier, zone, n_backends, backends and cursor; configs[i]
 * describes backends[i]. table_size is 0 if no Maglev table is wanted. `like` may be NULL; a table that would be the
 * same is shared with it. */
LB_MUST_CHECK int lb_group_build(struct lb_group *group, const struct l4lb_backend_config *const *configs,
                                 uint32_t table_size, const struct lb_group *like);
void lb_group_fini(struct lb_group *group);

/* The backend with this index in the pool, or NULL if it is not in the group. */
const struct lb_backend *lb_group_find(const struct lb_group *group, uint32_t index);

#endif
